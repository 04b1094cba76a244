"""A process is killed at every point of an execution: around each write, and in the middle of each call. Another finishes it.

What must be true then is in :mod:`crashkit.judge`.
"""

from __future__ import annotations

import pytest
from crashkit.pool import check
from crashkit.scenarios import ALL, LATE, MORE, PARALLEL, POLICIED, RETRIES, STRAIGHT

STEADY = STRAIGHT.keys() | {
    "retried",
    "retried-in-vain",
    "skipped",
    "compensated-itself",
    "unstorable",
    "undo-retried",
    "pivot",
}
DOUBLE = ["3-steps", "3-steps-c-fails", "3-steps-rerun", "fork-right-fails", "undo-retried", "straggler-after-the-undo"]


def points_of(pool, name, **more):
    """Return the points of an execution that nobody kills."""
    [outcome] = check(pool, [{"scenario": name, "kills": []} | more])
    assert outcome["status"] == ALL[name].ends
    return outcome["points"][0]


@pytest.mark.parametrize("name", [*STRAIGHT, *PARALLEL, *RETRIES, *LATE, *MORE])
def test_a_kill_at_any_point_is_recovered_from(pool, name):
    points = points_of(pool, name)
    # Where calls run side by side, not every point is reached every time.
    needed = len(points) if name in STEADY else len(points) * 3 // 4
    check(pool, [{"scenario": name, "kills": [point]} for point in points], needed)


@pytest.mark.parametrize("name", POLICIED)
def test_a_step_in_doubt_is_dealt_with_as_its_task_says(pool, name):
    points = points_of(pool, name)
    cases = [{"scenario": name, "kills": [point]} for point in points]
    outcomes = check(pool, cases, len(points) * 3 // 4)
    stuck = [case for case, outcome in zip(cases, outcomes, strict=True) if outcome["status"] == "stuck"]
    assert bool(stuck) == name.endswith("ask")
    decided = [case | {"operator": [action, "?"]} for case in stuck for action in ("resume", "skip", "compensate")]
    check(pool, decided)


@pytest.mark.parametrize("name", DOUBLE)
def test_a_kill_of_the_recovering_process_is_recovered_from(pool, name, chance, full):
    firsts = [{"scenario": name, "kills": [point]} for point in points_of(pool, name)]
    outcomes = check(pool, firsts)
    cases = [
        {"scenario": name, "kills": [*first["kills"], point]}
        for first, outcome in zip(firsts, outcomes, strict=True)
        for point in outcome["points"][1]
    ]
    chosen = cases if full else chance.sample(cases, min(60, len(cases)))
    check(pool, chosen, len(chosen) * 3 // 2)


@pytest.mark.parametrize("action", ["resume", "skip", "compensate"])
def test_a_kill_of_the_operators_process_is_recovered_from(pool, action):
    case = {"scenario": "3-steps-ask", "kills": ["b execute 1 after"], "operator": [action, "?"]}
    [outcome] = check(pool, [case])
    check(pool, [case | {"operator_kills": [point]} for point in outcome["points"][2]])


@pytest.mark.parametrize("kills", [[], ["c execute 1 before"]])
def test_a_person_has_a_failed_compensation_made_again(pool, kills):
    operators = [["retry", None], ["compensate", None], ["skip", "b"]]
    outcomes = check(pool, [{"scenario": "undo-fails", "kills": kills, "operator": operator} for operator in operators])
    assert [outcome["status"] for outcome in outcomes] == ["compensated"] * 3


@pytest.mark.parametrize("name", ["2-steps-b-fails", "fork-then-fails"])
def test_a_kill_in_a_transaction_leaves_all_of_it_or_nothing(pool, name):
    """Each statement that SQLite is about to run is a point, so writes are cut between their first and their commit."""
    points = points_of(pool, name, in_transactions=True)
    assert len([point for point in points if point.startswith("statement")]) > 10
    cases = [{"scenario": name, "kills": [point], "in_transactions": True} for point in points if "statement" in point]
    check(pool, cases, len(cases) * 3 // 4)


@pytest.mark.parametrize("name", ["3-steps", "3-steps-c-fails", "3-steps-ask", "fork"])
def test_a_recovery_writes_nothing_after_the_end(pool, name):
    [outcome] = check(pool, [{"scenario": name, "kills": ["b execute 1 before"]}])
    assert [point.split("#")[0] for point in outcome["points"][1]][-4:-2] == ["append", "append"]
    assert outcome["points"][1][-2:] == ["claim#2 before", "claim#2 after"]  # whether there is more to do
