"""Who pauses, resumes or hands back an execution, or waits in line with it, is killed at every point: it goes on."""

from __future__ import annotations

import pytest
from crashkit.pool import check

HELD = {
    "3-steps-rerun": "b",
    "fork-rerun": "b",
    "async-rerun": "b",
    "3-steps": "a",
    "nested": "d",
}
"""Scenarios, and the step that runs when each is held up."""


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("way", ["pause", "hand back"])
def test_a_kill_at_any_point_of_being_held_up_and_going_on_is_recovered_from(pool, way, name):
    case = {"scenario": name, "kills": [], "held": [way, HELD[name]]}
    [outcome] = check(pool, [case])
    first, second = outcome["points"][:2]
    assert second, "it was not held up"
    kills = [*([point] for point in first), *([None, point] for point in second)]
    assert len(kills) > 15
    outcomes = check(pool, [case | {"kills": points} for points in kills])
    assert sum(outcome["kills"] for outcome in outcomes) >= len(outcomes) * 3 // 4
    assert "completed" in {outcome["status"] for outcome in outcomes}


IN_LINE = ["submit#1 before", "submit#1 after", "claim#1 before", "claim#1 after", "claim#3 before", "renew_call#1 after"]


def test_a_kill_of_who_waits_in_line_is_recovered_from(pool):
    cases = [{"scenario": "3-steps", "kills": [point], "in_line": True} for point in IN_LINE]
    outcomes = check(pool, cases)
    assert [outcome["status"] for outcome in outcomes] == [None, *["completed"] * (len(IN_LINE) - 1)]
