"""The scenarios of ``docs/conformance`` are what they are said to be, and this library conforms to each of them."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "docs" / "conformance"
PROGRAM = runpy.run_path(str(PROJECT / "benchmarks" / "conformance.py"))
SCENARIOS: list[dict[str, Any]] = PROGRAM["scenarios"]()
NAMES = [scenario["name"] for scenario in SCENARIOS]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_this_library_conforms(scenario: dict[str, Any]) -> None:
    assert PROGRAM["ran"]("saga-tasks", scenario) == "conforms"


@pytest.mark.filterwarnings("ignore:'typing.ByteString':DeprecationWarning")  # python-cqrs asks for it; Python 3.15 says so
@pytest.mark.parametrize("library", ["simple-saga", "python-cqrs", "spakky-saga"])
def test_the_page_says_of_others_what_they_do(library: str) -> None:
    if not PROGRAM["installed"](library):
        pytest.skip(f"{library} is not installed: pip install 'saga-tasks[test]'")
    page = (FOLDER / "index.rst").read_text(encoding="utf-8")
    libraries, *rows = re.findall(r"^   \* - (.+)\n((?:     - .+\n)+)", page, re.MULTILINE)
    column = [cell.split()[0] for cell in re.findall(r"- (.+)", libraries[1])].index(library)
    said = {name: re.findall(r"- (.+)", cells)[column] for name, cells in rows}
    quick = [scenario for scenario in SCENARIOS if "dies" not in PROGRAM["needed"](scenario)]
    assert {one["name"]: PROGRAM["ran"](library, one) for one in quick} == {one["name"]: said[one["name"]] for one in quick}


def steps(parts: list[dict[str, Any]]) -> Iterator[str]:
    for part in parts:
        if "name" in part:
            yield part["name"]
        yield from steps([*part.get("parallel", ()), *part.get("fallback", ())])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_a_scenario_names_what_is_there(scenario: dict[str, Any]) -> None:
    names = list(steps(scenario["steps"]))
    assert len(set(names)) == len(names)
    possible = {f"{phase} {name}" for phase in ("execute", "undo") for name in names}
    assert scenario["calls"].keys() <= possible
    does = {one for some in scenario["calls"].values() for one in some}
    assert does <= {"returns", "fails", "answer lost", "is late", "dies"}
    for way in scenario["expected"]:
        called = re.findall(r'"((?:execute|undo) \w+)"', json.dumps(way["calls"]))
        assert called
        assert set(called) <= possible
        assert way["status"] in ("completed", "compensated", "stuck")


def test_names_are_not_used_twice_and_the_page_says_how_many_there_are() -> None:
    page = (FOLDER / "index.rst").read_text(encoding="utf-8")
    assert len(set(NAMES)) == len(NAMES) == 19
    assert "nineteen scenarios" in page
    assert re.findall(r"^   \* - (?!scenario$|\*\*)(.+)$", page, re.MULTILINE) == NAMES


SCENARIO = {"expected": [{"calls": ["execute a", ["undo b", "undo a"]], "status": "compensated"}]}
ENDED: dict[str, tuple[list[str], str, str]] = {
    "as expected": (["execute a", "undo b", "undo a"], "compensated", "conforms"),
    "in any order": (["execute a", "undo a", "undo b"], "compensated", "conforms"),
    "as failed": (["execute a", "undo a", "undo b"], "failed", "conforms"),
    "otherwise": (["execute a", "undo a", "undo b"], "completed", "ends as completed"),
    "with too little": (["execute a", "undo a"], "compensated", "calls execute a, undo a"),
    "with too much": (["execute a", "undo a", "undo b", "undo b"], "compensated", "calls execute a, undo a, undo b, undo b"),
}


@pytest.mark.parametrize("how", ENDED)
def test_what_is_otherwise_is_told(how: str) -> None:
    calls, status, said = ENDED[how]
    assert PROGRAM["verdict"](SCENARIO, calls, status) == said


def test_what_a_scenario_needs_a_word_for() -> None:
    needed = {one["name"]: PROGRAM["needed"](one) for one in SCENARIOS}
    assert needed["all steps succeed"] == frozenset()
    assert needed["a failing undo is made again, and no other is"] == {"undo attempts"}
    assert needed["a signal that does not come in time"] == {"signal", "timeout"}
    assert PROGRAM["ran"]("simple-saga", SCENARIOS[-1]) == "no restart"
