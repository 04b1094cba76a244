"""What README.rst and the guide claim is true: their code runs and prints what they say, their commands are CI's."""

from __future__ import annotations

import configparser
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_origin

import pytest

import saga

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.rst"
PAGES = sorted(path for path in (PROJECT / "docs").rglob("*.rst") if "_build" not in path.parts)

# Runs the blocks it is given one after the other as one program. What a block prints ends with a separator.
RUNNER = """
import json, sys, types
program = sys.modules["__main__"] = types.ModuleType("__main__")
for path, line, code in json.load(sys.stdin):
    exec(compile("\\n" * line + code, path, "exec"), program.__dict__)
    print(end="\\x1e", flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A literal block: ``kind`` is its language, or ``shell`` for one introduced by ``::`` alone."""

    path: Path
    line: int
    kind: str
    text: str


def blocks(path: Path) -> list[Block]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines):
        directive = re.fullmatch(r"\.\. code-block:: (\w+)", line)
        if directive is None and (line.startswith("..") or not line.endswith("::")):
            continue
        last = number + 1
        while last < len(lines) and (not lines[last] or lines[last].startswith("    ")):
            last += 1
        text = textwrap.dedent("\n".join(lines[number + 1 : last])).strip("\n")
        begins = number + 2  # a blank line follows the marker
        found.append(Block(path, begins, directive[1] if directive else "shell", text + "\n"))
    return found


def shell_blocks() -> list[str]:
    return [block.text.strip() for block in blocks(README) if block.kind == "shell"]


@pytest.mark.parametrize(
    "path",
    [page for page in (README, *PAGES) if any(block.kind != "console" for block in blocks(page))],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(path: Path, tmp_path: Path) -> None:
    # What a program of another library prints is tests/docs/test_coming_from.py's to check.
    # And what commands do is tests/cli/test_guide.py's.
    checked_elsewhere = {"console", "shell" if path == README else "none" if "coming-from" in path.parts else ""}
    page = [block for block in blocks(path) if block.kind not in checked_elsewhere]
    assert {block.kind for block in page} <= {"python", "text"}
    code = [(str(block.path), block.line, block.text) for block in page if block.kind == "python"]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER],
        input=json.dumps(code),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=600,  # which only ends a page that hangs, however busy the machine is
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    printed = iter(ran.stdout.split("\x1e"))
    assert page[0].kind == "python", "a text block says what the python block before it prints"
    for block, following in itertools.pairwise([*page, None]):
        if block is not None and block.kind == "python":
            said = following.text if following is not None and following.kind == "text" else ""
            same_but_for_dots = ".*?".join(map(re.escape, said.split("...")))
            told = next(printed)
            assert re.fullmatch(same_but_for_dots, told, re.DOTALL), f"{path}:{block.line} printed:\n{told}"


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: str(path.relative_to(PROJECT)))
def test_the_code_of_a_page_is_no_wider_than_the_page(path: Path) -> None:
    wide = [line for block in blocks(path) if block.kind == "python" for line in block.text.splitlines() if len(line) > 103]
    assert not wide, "a page that is 1280 pixels wide has room for 103 characters of code"


def test_the_first_saga_has_fifteen_lines() -> None:
    first = next(block for block in blocks(README) if block.kind == "python")
    assert len(first.text.splitlines()) <= 15


def test_the_test_command_is_what_ci_runs() -> None:
    (command,) = [text for text in shell_blocks() if "pytest" in text]
    assert command in (line.strip() for line in (PROJECT / ".ci" / "run").read_text().splitlines())


def test_the_demo_command_runs(tmp_path: Path) -> None:
    (command,) = [text for text in shell_blocks() if "examples/" in text]
    *_, install, demo = command.split(" && ")
    assert install == ".venv/bin/pip install -q ."
    python, script, *arguments = shlex.split(demo)
    assert python == ".venv/bin/python"
    shutil.copytree(PROJECT / "examples", tmp_path / "examples")  # where no earlier run has left its databases
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("PYTHONSAFEPATH", None)  # the example imports its neighbours
    ran = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "audit    passed" in ran.stdout


def test_the_first_command_installs_the_package_and_no_other_is_left_out() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    assert shell_blocks()[0] == f"pip install {setup['metadata']['name']}"
    assert len(shell_blocks()) == 3


def test_the_extras_for_users_are_told() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    told = re.findall(r"^``(\w+)``  ", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert {*told, "test", "lint", "types", "docs", "dev", "benchmarks"} == set(setup["options.extras_require"])


def test_the_guide_is_linked_by_addresses_that_work_wherever_the_readme_is_shown() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    home = re.escape(f"{setup['metadata']['url']}/en/latest/")
    readme = README.read_text(encoding="utf-8")
    assert not re.search(r"<(?!https://)[^<>\s]+>`_", readme)
    links = [f"docs/{page}.rst" for page in re.findall(rf"^\.\. _.+: {home}(.+)\.html$", readme, re.MULTILINE)]
    pages = {
        *(PROJECT / "docs" / "guide").glob("*.rst"),
        *(PROJECT / "docs").glob("*/index.rst"),
        *(PROJECT / "docs" / f"{name}.rst" for name in ("contributing", "features", "machine")),
    }
    assert {PROJECT / link for link in links} == pages


def test_the_reference_begins_with_every_name_that_the_package_gives() -> None:
    page = (PROJECT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    names = re.findall(r"^   \* - :(?:class|func|data):`~saga\.(\w+)`$", page, re.MULTILINE)
    assert sorted(names) == sorted(saga.__all__)
    for name, kind in re.findall(r"^   \* - :\w+:`~saga\.(\w+)`\n     - (.+)$", page, re.MULTILINE):
        assert kind == kind_of(getattr(saga, name)), name


def kind_of(thing: object) -> str:
    if isinstance(thing, type):
        return "enum" if issubclass(thing, Enum) else "protocol" if getattr(thing, "_is_protocol", False) else "class"
    if get_origin(thing) is not None:
        return "type alias"
    return "function" if callable(thing) else type(thing).__name__


def test_every_page_is_on_the_first_page() -> None:
    listed = set()
    for index in (PROJECT / "docs").rglob("index.rst"):
        entries = re.findall(r"^   ([\w/-]+)$", index.read_text(encoding="utf-8"), re.MULTILINE)
        listed |= {index.parent / f"{entry}.rst" for entry in entries}
    assert {*PAGES} - {PROJECT / "docs" / "index.rst"} == listed


ROOMS = ("saga", "saga.errors", "saga.events", "saga.storage", "saga.durable.codec", "saga.diagram", "saga.logging")
OUTER_ROOMS = (
    "saga.web",
    "saga.testing",
    *(f"saga.integrations.{room}" for room in ("opentelemetry", "prometheus", "s3", "sentry")),
)
ROOMS_OF_DOORS = (
    "saga.blobs",
    "saga.worker",
    "saga.handle",
    "saga.recovery",
    "saga.operations",
    "saga.alerts",
    "saga.callouts",
)


@pytest.mark.parametrize("room", [*ROOMS, *ROOMS_OF_DOORS, *OUTER_ROOMS])
def test_the_reference_has_every_public_name(room: str) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (PROJECT / "docs" / "api").glob("*.rst"))
    if f"automodule:: {room}\n" in pages:
        return
    documented = set(re.findall(rf"^\.\. (?:py:)?(?:auto)?(?:class|function|data):: {room}\.(\w+)", pages, re.MULTILINE))
    missing = set(importlib.import_module(room).__all__) - documented - {"decode_error", "encode_error"}
    assert not missing, f"docs/api: no page has {missing} of {room}"


def test_the_reference_has_what_a_class_has_from_one_that_is_inside() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (PROJECT / "docs" / "api").glob("*.rst"))
    told = dict(re.findall(r"^\.\. autoclass:: (saga[\w.]*\.\w+)(?:\(\))?\n((?:   :.+\n)*)", pages, re.MULTILINE))
    classes = {getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]): name for name in told}
    for one, name in classes.items():
        inside = [base for base in one.__mro__[1:] if base.__module__.startswith("saga.") and base not in classes]
        if any(not key.startswith("_") and callable(value) for base in inside for key, value in vars(base).items()):
            assert ":inherited-members:" in told[name] or ":no-members:" in told[name], f"docs/api: {name}"


def test_the_reference_has_nothing_from_the_inside() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (PROJECT / "docs" / "api").glob("*.rst"))
    for name in re.findall(r"^\.\. (?:py:)?(?:auto)\w+:: (saga\.\S+?)(?:\(\))?$", pages, re.MULTILINE):
        room = name if name in ROOMS else name.rpartition(".")[0]
        assert room in (*ROOMS, *ROOMS_OF_DOORS, *OUTER_ROOMS, "saga.result"), f"docs/api: {name} is not what users import"


def test_each_field_of_a_docstring_has_a_line_of_its_own() -> None:
    sources = (PROJECT / "saga").rglob("*.py")
    lines = [line.strip() for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    shared = [line for line in lines if line.startswith(":") and re.search(r"[.;] :(?:param|ivar|raises)\b", line)]
    assert not shared, "only the first of them is one in the reference"
