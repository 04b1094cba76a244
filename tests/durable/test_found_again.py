"""What the script that was started defines is found by no other program: who stores it is told so, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple
from saga import Context, Saga, step
from saga.storage import MemoryStore

@dataclass
class Order(Context):
    sku: Any = ""

@dataclass
class Receipt:
    number: int

class Place(NamedTuple):
    row: int

class Kind(Enum):
    BOOK = 1

def run(result, context=None, store=MemoryStore):
    saga = Saga("s", store=None if store is None else store()).add_task(step(lambda: result, name="a"))
    for _ in range(2):
        saga.execute(context)

"""


def told(folder: Path, line: str) -> str:
    """Return what a script says that ends with this line."""
    (folder / "app.py").write_text(APP + line, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(folder / "app.py")], capture_output=True, text=True, check=True, timeout=60
    ).stderr


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("run(1, Order('x'))", ["Order"]),
        ("run(Receipt(1))", ["Receipt"]),
        ("run([Place(1)])", ["Place"]),
        ("run(1, {'k': {1: Kind.BOOK}})", ["Kind"]),
        ("run(Receipt(1), Order(Kind.BOOK))", ["Kind", "Order", "Receipt"]),
    ],
)
def test_classes_of_the_script_are_named_once(tmp_path: Path, line: str, named: list[str]) -> None:
    lines = told(tmp_path, line).splitlines()
    assert sorted(line.partition(" ")[0] for line in lines) == named
    for one in lines:
        name = one.partition(" ")[0]
        assert one == (
            f"{name} is stored by name, and is defined in the script that was started: a recovery in another program does not "
            f"find '__main__:{name}'; define it in a module that both import"
        )


@pytest.mark.parametrize("line", ["run(Receipt(1), Order('x'), store=None)", "run(1)", "run({'a': {1}}, {'n': 1})"])
def test_nothing_is_said_where_nothing_of_it_is_stored(tmp_path: Path, line: str) -> None:
    assert told(tmp_path, line) == ""
