"""The rooms of the house: who may import whom at run time, and how large they may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import saga

HOUSE = Path(saga.__file__).parent
FILES = {".".join(("saga", *path.relative_to(HOUSE).with_suffix("").parts)): path for path in sorted(HOUSE.rglob("*.py"))}
INNER = {"task", "context", "policy", "errors", "events", "composing", "definition", "flow", "machine"}
OUTER = ("integrations", "testing", "cli", "web", "engines")
CORE = {*INNER, "result", "saga", "drivers"}
CLOCKS = {"time", "asyncio", "threading", "datetime", "concurrent", "sched"}


def found(node: ast.AST) -> Iterator[str]:
    """Yield what is imported when the code runs, that of its functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            inside = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in FILES or f"{name}.__init__" in FILES else str(child.module) for name in inside)
        yield from found(child)


def file_of(module: str) -> str:
    return module if module in FILES else f"{module}.__init__"


def room_of(file: str) -> str:
    return file.split(".")[1]


IMPORTS = {file: set(found(ast.parse(path.read_text(encoding="utf-8")))) for file, path in FILES.items()}
OWN = {file: {file_of(name) for name in names if name.split(".")[0] == "saga"} for file, names in IMPORTS.items()}
ROOMS = {
    room: {room_of(to) for file, known in OWN.items() if room_of(file) == room for to in known} - {room}
    for room in map(room_of, OWN)
}
LINES = {file: len(path.read_text(encoding="utf-8").splitlines()) for file, path in FILES.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return what imports itself by way of others, or nothing."""
    left = dict(graph)
    while free := [one for one, others in left.items() if not others & left.keys()]:
        for one in free:
            del left[one]
    if not left:
        return []
    way = [min(left)]
    while way[-1] not in way[:-1]:
        way.append(min(left[way[-1]] & left.keys()))
    return way[way.index(way[-1]) :]


def test_every_file_of_the_package_is_looked_at() -> None:
    assert {"saga.machine.decide", "saga.drivers.aio", "saga.durable.codec.codec", "saga.storage.memory"} <= FILES.keys()
    assert "saga.machine.state" in OWN["saga.machine.decide"]


def test_the_pure_rooms_know_no_driver_journal_store_or_clock() -> None:
    for room in ("machine", "flow"):
        assert ROOMS[room] <= INNER - {"definition"}
        imported = {name.split(".")[0] for file, names in IMPORTS.items() if room_of(file) == room for name in names}
        assert not imported & CLOCKS, room


def test_stores_know_only_the_errors() -> None:
    assert ROOMS["storage"] == {"errors"}


def test_drivers_know_no_journal_and_no_front_door() -> None:
    assert ROOMS["drivers"] <= INNER | {"result"}


@pytest.mark.parametrize("room", ["durable", "diagram"])
def test_a_room_behind_the_facade_does_not_know_it(room: str) -> None:
    assert not ROOMS[room] & {"saga", "transaction", "recovery", "operations", "__init__"}


def test_nothing_inside_knows_an_outer_room() -> None:
    inside = {room for room in ROOMS if room not in OUTER}
    assert {room: knows for room in inside if (knows := ROOMS[room] & set(OUTER))} == {}


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert circle(OWN) == []


def test_no_room_imports_itself_by_way_of_others() -> None:
    assert circle(ROOMS) == []


def test_a_file_can_be_read_at_one_sitting() -> None:
    assert {file: lines for file, lines in LINES.items() if lines > 400} == {}


def test_the_core_stays_small() -> None:
    lines = sum(lines for file, lines in LINES.items() if room_of(file) in CORE)
    assert lines < 5305
