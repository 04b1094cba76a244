"""A completed execution is undone on request, and whoever does that is killed at every point: it is undone all the same."""

from __future__ import annotations

import pytest
from crashkit.pool import check

BY = ["saga", "operations"]


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("to", [None, "a"])
@pytest.mark.parametrize("name", ["3-steps", "fork", "nested", "async", "fallback-not-needed"])
def test_a_kill_at_any_point_of_an_undo_on_request_is_recovered_from(pool, name, to, by):
    case = {"scenario": name, "kills": [], "undo": [by, to]}
    [outcome] = check(pool, [case])
    first, second = outcome["points"][1:3]  # of who undoes it, and of the recovery
    kills = [*([point] for point in first), *([None, point] for point in second)]
    assert len(kills) > 10
    outcomes = check(pool, [case | {"kills": points} for points in kills])
    assert sum(outcome["kills"] for outcome in outcomes) >= len(outcomes) * 3 // 4
    assert {outcome["status"] for outcome in outcomes} == {"compensated" if to is None else "paused"}


@pytest.mark.parametrize("name", ["each-few-rerun", "choose", "async-each", "async-choose"])
def test_what_was_learnt_at_run_time_is_undone_on_request_too(pool, name, chance, full):
    case = {"scenario": name, "kills": [], "undo": ["saga", None]}
    [outcome] = check(pool, [case])
    first, second = outcome["points"][1:3]
    kills = [*([point] for point in first), *([None, point] for point in second)]
    outcomes = check(pool, [case | {"kills": points} for points in (kills if full else chance.sample(kills, 6))])
    assert {outcome["status"] for outcome in outcomes} == {"compensated"}


@pytest.mark.parametrize("by", BY)
def test_a_kill_of_the_recovering_process_is_recovered_from_too(pool, by, chance, full):
    case = {"scenario": "3-steps", "kills": [], "undo": [by, "a"]}
    [outcome] = check(pool, [case])
    points = list(dict.fromkeys(point for process in outcome["points"][1:3] for point in process))
    cases = [case | {"kills": [first, second]} for first in points for second in points]
    check(pool, cases if full else chance.sample(cases, min(40, len(cases))))
