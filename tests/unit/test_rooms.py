"""Imports point inward: which room of the house may import which, and what none of them may."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import saga

HOUSE: Final = Path(saga.__file__).parent
CONTRIBUTING: Final = Path(__file__).parents[2] / "docs" / "contributing.rst"


_INSIDE: Final = {
    "awaitables",
    "composing",
    "in_use",
    "content",
    "errors",
    "plain",
    "recorded",
    "events",
    "policy",
    "task",
    "context",
    "typed_context",
    "flow",
    "machine",
    "result",
    "definition",
    "lost_answers",
    "names",
    "received",
}

#: For each room of ``saga/`` (a module, or a package with all that is in it) the other rooms that it may import, whether at the
#: top or within a function. What is imported for types alone is free.
ROOMS: Final[dict[str, set[str]]] = {
    # the words
    "errors": set(),
    "clocks": set(),
    "composing": set(),
    "names": {"errors"},
    "received": set(),
    "facts": set(),
    "step_status": set(),
    "status": set(),
    "flow_events": {"facts"},
    "events": {"facts", "flow_events", "status", "step_status"},
    "awaitables": {"errors"},
    "policy": {"awaitables", "composing", "errors"},
    "lost_answers": set(),
    "task": {"composing", "policy"},
    "content": set(),
    "blobs": {"clocks", "errors"},
    "context": {"content", "errors", "task"},
    "typed_context": {"context", "errors"},
    "in_use": {"context", "errors"},
    # what decides: no driver, journal, store or clock
    "flow": {"awaitables", "composing", "context", "errors", "names", "plain", "policy", "received", "task"},
    "machine": {"awaitables", "errors", "events", "flow", "lost_answers", "names", "plain", "policy", "task"},
    # what is told
    "plain": set(),
    "own_log": {"errors", "plain"},
    "recorded": {"errors", "plain"},
    "result": {"content", "context", "errors", "events", "machine", "plain", "policy", "recorded", "task"},
    "definition": {
        "awaitables",
        "context",
        "errors",
        "events",
        "in_use",
        "machine",
        "names",
        "policy",
        "turns",
        "typed_context",
    },
    # what acts: a driver knows its journal as a Protocol
    "drivers": _INSIDE | {"clocks", "own_log"},
    "storage": {"clocks", "errors", "names"},
    "turns": {"awaitables", "errors", "names"},
    "durable": _INSIDE | {"blobs", "clocks", "own_log", "drivers", "storage", "turns"},
    "diagram": _INSIDE,
    "shown_keys": {"errors", "names", "plain"},
    "loggers": {"awaitables", "errors", "names", "plain"},
    "hindsight": {"events", "machine", "result"},
    "logging": {"awaitables", "errors", "events", "hindsight", "loggers", "plain", "shown_keys"},
    "observers": {"awaitables", "definition", "errors", "loggers", "logging", "plain"},
    # the doors
    "awaited": {"drivers", "errors"},
    "declared": _INSIDE | {"observers", "storage"},
    "beginning": _INSIDE | {"drivers", "durable"},
    "streaming": _INSIDE | {"drivers"},
    "stored": _INSIDE | {"awaited", "declared", "drivers", "durable", "handle", "storage"},
    "handle": _INSIDE | {"awaited", "clocks", "durable", "operations"},
    "described": _INSIDE | {"declared", "diagram", "stored"},
    "saga": _INSIDE | {"awaited", "beginning", "streaming", "declared", "described", "drivers", "durable", "storage"},
    "turn": {"errors"},
    "block": _INSIDE | {"clocks", "drivers", "durable", "storage", "turn"},
    "blocks": _INSIDE | {"block", "durable", "observers", "storage"},
    "working": _INSIDE | {"beginning", "clocks", "own_log", "drivers", "durable", "logging", "storage", "blocks"},
    "callouts": {"awaitables", "errors", "own_log", "plain", "policy"},
    "alerts": _INSIDE | {"clocks", "drivers", "looking", "operations", "own_log", "storage", "working"},
    "worker": _INSIDE | {"alerts", "storage", "working"},
    "recovery": _INSIDE | {"worker", "working"},
    "fleet": _INSIDE | {"awaited", "own_log", "storage"},
    "looking": _INSIDE | {"awaited", "durable", "fleet", "logging", "shown_keys", "step_status", "storage", "blocks", "turns"},
    "operations": _INSIDE | {"awaited", "blobs", "clocks", "durable", "fleet", "looking", "storage"},
    # outer rooms: nothing inside imports them
    "cli": {
        "__version__",
        "alerts",
        "callouts",
        "definition",
        "diagram",
        "durable",
        "errors",
        "integrations",
        "looking",
        "names",
        "operations",
        "plain",
        "saga",
        "storage",
        "stored",
        "testing",
        "web",
        "worker",
        "working",
    },
    "web": {
        "diagram",
        "errors",
        "events",
        "integrations",
        "looking",
        "names",
        "operations",
        "own_log",
        "plain",
        "saga",
        "storage",
    },
    "testing": _INSIDE
    | {
        "__version__",
        "blobs",
        "block",
        "blocks",
        "clocks",
        "declared",
        "diagram",
        "drivers",
        "durable",
        "looking",
        "operations",
        "own_log",
        "saga",
        "storage",
    },
    "__main__": {"cli"},
    "__init__": _INSIDE | {"saga", "stored", "block", "blocks", "turns"},
    "integrations": {"definition", "errors", "events", "own_log", "plain", "storage"},
}
#: Rooms where nothing runs: no thread, no loop, no log, no operating system.
PURE: Final = {"flow", "machine"}
_ACTING: Final = {"asyncio", "concurrent", "logging", "os", "threading", "time"}
#: Rooms that read a clock: everywhere else times come in.
CLOCKS: Final = {
    "blobs",
    "cli",
    "clocks",
    "durable",
    "handle",
    "storage",
    "testing",
    "turn",
    "web",
} | {"integrations"}
#: The standard library's own, in later versions too.
STANDARD: Final = sys.stdlib_module_names | {"annotationlib"}
#: What needs more than the standard library, and is imported by one room alone.
LIBRARIES: Final = {
    "cli": {"click", "debugpy", "prometheus_client"},
    "integrations": {"boto3", "opentelemetry", "prometheus_client", "sentry_sdk"},
    "testing": {"pytest"},
    "storage": {"psycopg", "psycopg2", "psycopg_pool", "sqlalchemy"},
    "web": {"jinja2", "markupsafe", "prometheus_client", "starlette", "uvicorn"},
}


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each module that a file imports, and the line: ``from saga import x`` may be the module ``saga.x``."""

    def walk(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child
            elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
                yield from walk(child)
            else:
                yield from (found for one in child.orelse for found in walk(ast.Module([one], [])))

    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif node.module == "saga":
            yield from ((f"saga.{alias.name}", node.lineno) for alias in node.names)
        else:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (
                    name if HOUSE.parent.joinpath(*name.split(".")).with_suffix(".py").exists() else str(node.module),
                    node.lineno,
                )


FILES: Final = sorted(HOUSE.rglob("*.py"))


def test_every_room_has_its_rule() -> None:
    unruled = {room_of(path) for path in FILES} - ROOMS.keys()
    assert not unruled, f"tests/unit/test_rooms.py: ROOMS does not say what {unruled} may import"
    gone = ROOMS.keys() - {room_of(path) for path in FILES}
    assert not gone, f"tests/unit/test_rooms.py: ROOMS speaks of {gone}, which is not there"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_point_inward(path: Path) -> None:
    room = room_of(path)
    for module, line in imported(path):
        place = f"{path.relative_to(HOUSE.parent)}:{line} imports {module}"
        top, _, rest = module.partition(".")
        if top == "saga":
            other = rest.partition(".")[0]
            assert other in {room, *ROOMS[room]}, f"{place}: {room} may import {', '.join(sorted(ROOMS[room])) or 'nothing'}"
        else:
            allowed = LIBRARIES.get(room, set())
            assert top in STANDARD or top in allowed, f"{place}, which is not of the standard library"
            assert top != "time" or room in CLOCKS, f"{place}: times come into {room}, it reads no clock"
            assert room not in PURE or top not in _ACTING, f"{place}: nothing runs in {room}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if room_of(path) not in ("loggers", "logging", "own_log")], ids=lambda path: path.name
)
def test_lines_of_the_packages_own_are_written_in_one_way(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    loggers = [node.lineno for node in calls if node.attr in ("getLogger", "warn", "print_exc")]
    assert not loggers, f"{path.relative_to(HOUSE.parent)}:{loggers} writes what may be several lines; use saga.own_log.LOG"


def test_no_room_imports_one_that_imports_it() -> None:
    both = {tuple(sorted((one, other))) for one, others in ROOMS.items() for other in others if one in ROOMS.get(other, ())}
    assert not both


def test_the_documentation_tells_of_every_room() -> None:
    page = CONTRIBUTING.read_text(encoding="utf-8")
    untold = {room for room in ROOMS if room != "__init__" and not re.search(rf"``{room}/?``", page)}
    assert not untold, f"docs/contributing.rst: the rooms lack {untold}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    names = {".".join(path.relative_to(HOUSE.parent).with_suffix("").parts): path for path in FILES}

    def files(module: str) -> set[str]:
        return {module, f"{module}.__init__"} & names.keys()

    left = {name: {file for module, _ in imported(path) for file in files(module)} for name, path in names.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle of imports is among {sorted(left)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_file_can_be_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, "it is asking to become two rooms"
