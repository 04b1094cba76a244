"""The machine's theory of operation says what the machine does: its tables are made from the running ones and compared."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any, Final

import pytest

import saga.machine
from saga.machine import Command, State
from saga.machine.state import TRANSITIONS

THEORY: Final = saga.machine.__doc__ or ""
FILES: Final = sorted(Path(saga.machine.__path__[0]).glob("*.py"))


def table(rows: list[tuple[str, ...]]) -> str:
    """Return a table of reStructuredText; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    line = "  ".join("=" * width for width in widths)
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([line, shown[0], line, *shown[1:], line])


def transitions() -> str:
    """Return the table of transitions."""
    rows = [(str(one.before), one.event.__name__, str(one.after), one.only) for one in TRANSITIONS]
    return table([("status", "event", "status then", ""), *rows])


def fields() -> str:
    """Return each field of the state with the invariant that its comment says."""
    source = inspect.getsource(State)
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    init = next(one for one in body.body if isinstance(one, ast.FunctionDef) and one.name == "__init__")
    lines, told = source.splitlines(), {}
    for node in init.body:
        name = re.match(r"\s+self\.(\w+)", lines[node.lineno - 1])
        assert name is not None
        beside = lines[node.lineno - 1].partition("#: ")[2]
        above = re.match(r"\s+#: (.*)", lines[node.lineno - 2])
        told[name[1]] = beside or (above[1] if above else "")
    del told["plan"]
    unsaid = [name for name, text in told.items() if not text]
    assert not unsaid, f"saga/machine/state.py: {unsaid} have no comment that says what holds for them"
    made = [f"* ``{name}``: {text[0].lower()}{text[1:].removesuffix('.')}." for name, text in told.items()]
    return "\n".join(textwrap.fill(one, 127, subsequent_indent="  ", break_on_hyphens=False) for one in made)


@pytest.mark.parametrize("make", [transitions, fields], ids=lambda make: make.__name__)
def test_a_table_says_what_is_so(make: Any) -> None:
    made = make()
    assert made in THEORY, f"saga/machine/__init__.py: the {make.__name__} are these now:\n{made}"


@pytest.mark.parametrize("kind", Command.__args__, ids=lambda kind: kind.__name__)
def test_every_command_is_told(kind: type) -> None:
    assert f"* ``{kind.__name__}``: " in THEORY, f"saga/machine/__init__.py: the commands lack {kind.__name__}"


@pytest.mark.parametrize("file", [path.stem for path in FILES if path.stem != "__init__"])
def test_every_file_is_told(file: str) -> None:
    assert re.search(rf"^``{file}``  ", THEORY, re.MULTILINE), f"saga/machine/__init__.py: the files lack {file}"


def test_no_file_is_told_that_is_gone() -> None:
    told = re.findall(r"^``(\w+)``  ", THEORY, re.MULTILINE)
    assert set(told) <= {path.stem for path in FILES}


def test_nothing_but_the_folds_changes_the_state() -> None:
    """State's fields are assigned, and its sets, dicts and lists are changed, in the module of the folds alone."""
    changers = {"add", "append", "clear", "discard", "extend", "pop", "remove", "setdefault", "update"}
    for path in FILES:
        if path.stem in ("folds", "decided", "doubt", "log"):  # a note folds what its two events would
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"saga/machine/{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
                targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
                for target in targets:
                    written = re.match(r"(?:\w+\.)*state\.(\w+)", ast.unparse(target))
                    assert written is None, f"{place} changes state.{written and written[1]}: only a fold may"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in changers:
                written = re.match(r"(?:\w+\.)*state\.(\w+)", ast.unparse(node.func.value))
                assert written is None, f"{place} changes state.{written and written[1]}: only a fold may"
