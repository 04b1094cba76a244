"""What became of each step, as a result tells it: folded from events that are told in the words of the machine's table."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Context, Retry, SagaResult, Skip, StepRecord, fallback
from tests.unit.machine.notation import ASK, STUCK_UNDO, A, B, P, R, X, clauses, event_of, plan_of

BACK = "a starts, a returns, b starts, b raises, gives up on b"


def result_of(flow: Any, so_far: str) -> SagaResult:
    events = [event_of(clause, 0.0) for clause in clauses(f"begins, {so_far}")]
    return SagaResult(plan_of(flow), events, Context())


@pytest.mark.parametrize(
    ("flow", "so_far", "statuses"),
    [
        ((A, B), "a starts", "running pending"),
        ((A, B), "a starts, a returns, b starts", "succeeded running"),
        ((A | Retry(2), B), "a starts, a raises, a waits 2", "waiting pending"),
        ((A | Retry(2), B), "a starts, a raises, a waits 2, a starts 2", "running pending"),
        ((A | Retry(2)) & B, "a starts, b starts, a raises, a waits 2, b raises, gives up on b, compensated", "failed failed"),
        ((A | Skip, B), "a starts, a raises, a skipped, b starts", "skipped running"),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, a returns", "skipped running"),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, a raises", "skipped running"),
        (fallback(A, B), "a starts, a raises, a replaced, b starts, b returns, completed", "failed succeeded"),
        ((A, B), BACK, "succeeded failed"),
        ((A, B), f"{BACK}, -a starts", "compensating failed"),
        ((A, B), f"{BACK}, -a starts, -a raises, -a waits 2", "compensating failed"),
        ((A, B), f"{BACK}, -a starts, -a returns, compensated", "compensated failed"),
        ((A, B), STUCK_UNDO, "compensation_failed failed"),
        ((A, B), f"{STUCK_UNDO}, skip a", "skipped failed"),
        ((A, B), f"{STUCK_UNDO}, retry, -a starts 2, -a returns 2, compensated", "compensated failed"),
        ((A, B), "a starts, a stops, gives up on a", "in_doubt pending"),
        ((A, B), "a starts, a late, gives up on a", "timed_out pending"),
        ((A, B), "a starts, a cut, gives up on a", "timed_out pending"),
        ((A, B), "a starts, a unkept, gives up on a", "failed pending"),
        ((A | ASK, B), "a starts, a stops, stuck, resume, a starts 2", "running pending"),
        ((P, R), "p starts, p returns, r starts", "succeeded running"),
    ],
)
def test_where_each_step_stands(flow: Any, so_far: str, statuses: str) -> None:
    assert " ".join(record.status for record in result_of(flow, so_far).history) == statuses


@pytest.mark.parametrize(
    ("flow", "so_far", "in_doubt"),
    [
        (A, "a starts, a stops, gives up on a, -a starts", ("a",)),
        (A, "a starts, a stops, gives up on a, -a starts, -a returns", ()),
        (A, "a starts, a stops, gives up on a, -a starts, -a raises", ("a",)),
        (A, "a starts, a unanswered, a starts 2, a raises 2", ("a",)),
        (A, "a starts, a unanswered, a starts 2, a returns 2", ()),
        (A, "a starts, a unanswered, ?a starts", ("a",)),
        (A, "a starts, a unanswered, ?a starts, ?a done", ()),
        (A, "a starts, a unanswered, ?a starts, ?a undone", ()),
        (A, "a starts, a unanswered, ?a starts, ?a silent", ("a",)),
        (X, "x starts, x unanswered, gives up on x, compensated", ("x",)),
        (A | ASK, "a starts, a lost, stuck, skip a", ()),
        (A | ASK, "a starts, a stops, gives up on a, stuck", ("a",)),
        (A | ASK, "a starts, a cut, gives up on a, stuck", ("a",)),
        (A, "a starts, a late, gives up on a", ("a",)),
        (A, "a starts, a cut, gives up on a, -a starts, -a returns, compensated", ()),
        (A, "a starts, a late, gives up on a, a returns, -a starts, -a returns, compensated", ()),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, b returns", ("a",)),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, b returns, a raises, completed", ()),
    ],
)
def test_what_is_in_doubt_still_runs_or_nothing_has_settled_it(flow: Any, so_far: str, in_doubt: tuple[str, ...]) -> None:
    assert result_of(flow, so_far).in_doubt == in_doubt


def test_what_a_person_has_seen_to_is_no_failed_compensation_any_more() -> None:
    (before, *_), (after, *_) = (result_of((A, B), so_far).history for so_far in (STUCK_UNDO, f"{STUCK_UNDO}, skip a"))
    assert isinstance(before, StepRecord)
    assert str(before.compensation_error) == "-a"
    assert after.compensation_error is None
    assert [one.step for one in result_of((A, B), STUCK_UNDO).compensation_errors] == ["a"]
    assert result_of((A, B), f"{STUCK_UNDO}, skip a").compensation_errors == ()
