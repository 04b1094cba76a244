"""The commands of the guide run one after the other in a shell, and print what the guide says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import PAGES, PROJECT, blocks

#: Those that make a shop to try their commands on.
CONSOLES = [page for page in PAGES if any("$ saga demo" in block.text for block in blocks(page) if block.kind == "console")]


def commands(page: Path) -> list[tuple[str, str]]:
    """Return each command, and what the page says it prints."""
    text = "".join(block.text for block in blocks(page) if block.kind == "console")
    return [(command, said) for command, said in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)]


@pytest.mark.parametrize("page", CONSOLES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_the_commands_of_a_page_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "saga").write_text(f'#!/bin/sh\nexec {sys.executable} -m saga "$@"\n', encoding="utf-8")
    (programs / "saga").chmod(0o755)
    script = "".join(f"{command}\nprintf '\\036'\n" for command, _ in commands(page))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")}
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONIOENCODING": "utf-8"}
    work = tmp_path / "work"
    work.mkdir()
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    printed = ran.stdout.split("\x1e")
    assert len(printed) == len(commands(page)) + 1, ran.stdout
    for (command, said), told in zip(commands(page), printed, strict=False):
        pattern = ".*?".join(map(re.escape, said.rstrip("\n").split("...")))
        assert re.fullmatch(pattern, told.rstrip("\n"), re.DOTALL), f"{page.name}: $ {command}\n{told}"
