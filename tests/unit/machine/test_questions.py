"""What a driver asks the machine: whether there is anything to wait for, how much is under way, and what is undone next."""

from __future__ import annotations

from typing import Any

import pytest

from saga import NotDone, Retry, Skip, fallback
from saga.errors import SagaTimeoutError
from saga.machine import Machine, time_out
from saga.machine.undo import compensations_after
from tests.unit.machine.notation import ASK, PAST, A, B, Block, C, P, R, T, X, clauses, do, folded, happen, own, plan_of

V = do("a", verify=NotDone)


def after(flow: Any, so_far: str, facts: str = "", taken: bool = True) -> Machine:
    """Return the machine after these facts; ``taken``: a driver has taken what it commands."""
    machine = folded(plan_of(flow), f"begins, {so_far}")
    for fact in clauses(facts):
        happen(machine, fact)
    if taken:
        machine.commands.clear()
    return machine


LATE = "p starts, p returns, a starts, a late, a skipped, b starts, a returns, -a starts"


@pytest.mark.parametrize(
    ("flow", "so_far", "facts", "halted"),
    [
        ((A, P, B), PAST, "", False),
        ((A, P, B), "a starts, a returns, p starts", "give up", False),  # which is undone
        ((A, P, B), PAST, "give up", False),  # a call runs
        ((A, P, B), PAST, "give up, b returns", True),
        ((A, P, B), PAST, "b stops", True),
        ((A, P, B), f"{PAST}, b raises, b waits 2", "give up", True),
        ((A, P, B), f"{PAST}, b late", "give up", False),
        ((A, P, B), f"{PAST}, b late", "give up, b raises", True),
        ((P, R, A), "p starts, p returns, r starts", "give up", True),  # who takes it up goes on waiting
        ((P, R & A), "p starts, p returns, r starts, a starts", "give up", False),
        ((P, R & A), "p starts, p returns, r starts, a starts", "give up, a returns", True),
        ((P, A | Skip, B), LATE, "b stops", False),
        ((P, A | Skip, B), f"{LATE}, -a returns", "b stops", True),
        ((P, A | Skip, B), f"{LATE}, -a late", "b stops", False),
        ((P, A | Skip, B), f"{LATE}, -a late, -a returns", "b stops", True),
        ((P, A), "p starts, p returns, a starts", "give up, a returns, stop", False),
        ((P, V), "p starts, p returns, a starts, a unanswered, ?a starts", "give up", False),
        ((P, V), "p starts, p returns, a starts, a unanswered, ?a starts", "give up, ?a silent", True),
        ((P, V), "p starts, p returns, a starts", "give up, a unanswered", True),  # who takes it up asks
    ],
)
def test_an_execution_is_halted_past_its_pivot_when_no_call_runs(flow: Any, so_far: str, facts: str, halted: bool) -> None:
    assert after(flow, so_far, facts).halted is halted


@pytest.mark.parametrize(
    ("flow", "so_far", "at_rest"),
    [
        (A, "a starts", False),
        ((A, B), "a starts, a late, gives up on a", True),
        ((A, B), "a starts, a returns, b starts, b late, gives up on b, -a starts", False),
        ((A, B), "a starts, a returns, b starts, b late, gives up on b, -a starts, -a returns", True),
        (A | Retry(2), "a starts, a late", False),  # it is waited for
        ((A | Skip, B), "a starts, a late, a skipped, b starts", False),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, b returns", True),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, b returns, a returns, -a starts", False),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, b returns, a returns, -a starts, -a late", True),
        ((A, B), "a starts, a returns, b starts, b raises, gives up on b, -a starts", False),
        ((A, B), "a starts, a returns, b starts, b raises, gives up on b, -a starts, -a late", True),
        ((own(on_error=Skip), B), "a starts, a raises, -a starts, -a late", False),  # which waits until it is undone
        (A, "a starts, a returns, completed", False),
        ((V | Skip, B), "a starts, a late, a skipped, b starts, b returns, a unanswered, ?a starts", False),
        (Block(A), "a starts", False),
        (Block(V), "a starts, a unanswered, ?a starts", False),
        (Block(A | Skip), "a starts, a unanswered, -a starts", False),
        (Block(A), "a starts, a returns", True),
        (Block(A), "", True),
        (Block(A | Retry(2)), "a starts, a raises, a waits 2", False),
        (Block(A | Retry(2)), "a starts, a late", False),
        (Block(A | Skip), "a starts, a late, a skipped", True),
        (Block(A | Skip), "a starts, a late, a skipped, a returns, -a starts", False),
        (Block(fallback(A, B)), "a starts, a late, a replaced", False),
        (Block(own(on_error=Skip)), "a starts, a raises, -a starts, -a late", False),
        (Block(A | Skip), "a starts, a late, a skipped, a returns, -a starts, -a late", True),
    ],
)
def test_an_execution_is_at_rest_where_only_stragglers_are_left_that_nobody_waits_for(
    flow: Any, so_far: str, at_rest: bool
) -> None:
    assert after(flow, so_far).at_rest is at_rest


def test_an_execution_is_not_at_rest_with_something_to_do() -> None:
    machine = after((A, B), "a starts, a returns, b starts, b late, gives up on b", "b returns", taken=False)
    assert machine.commands
    assert not machine.at_rest
    assert not after(Block(A), "", "add a", taken=False).at_rest


@pytest.mark.parametrize(
    ("flow", "so_far", "count"),
    [
        (A, "a starts", 1),
        (A, "a starts, a returns, completed", 0),
        (A & B, "a starts, b starts", 2),
        (A & B, "a starts, b starts, a late", 2),
        (A & (B | Retry(2)), "a starts, b starts, b raises, b waits 2", 2),
        ((A, B), "a starts, a returns, b starts, b late, gives up on b, -a starts", 2),
        ((A, B), "a starts, a returns, b starts, b raises, gives up on b, -a starts", 1),
        ((A, B), "a starts, a returns, b starts, b raises, gives up on b, -a starts, -a late", 1),
        ((A | Skip, B), "a starts, a late, a skipped, a returns, -a starts, b starts", 2),
        (V & B, "a starts, b starts, a unanswered, ?a starts", 2),
        (V & B, "a starts, b starts, a unanswered, ?a starts, ?a silent, ?a waits 2", 2),
    ],
)
def test_what_runs_and_what_is_to_be_attempted_again_is_under_way(flow: Any, so_far: str, count: int) -> None:
    assert after(flow, so_far).state.calls_under_way() == count


def ahead(flow: Any, so_far: str) -> list[str | None] | None:
    calls = compensations_after(after(flow, so_far).state)
    return None if calls is None else [call and call.step.name for call in calls]


def test_what_is_compensated_next_is_known_while_each_ends_well() -> None:
    so_far = "a starts, a returns, b starts, b returns, c starts, c raises, gives up on c"
    assert ahead((A, B, C), so_far) == ["b", "a", None]
    assert ahead((A, B, C), f"{so_far}, -b starts") == ["a", None]
    assert ahead((A, B, C), f"{so_far}, -b starts, -b raises, -a starts") is None
    assert ahead(X, "x starts, x returns, completed") is None


def test_a_step_has_started_when_its_last_attempt_did() -> None:
    machine = after(A | Retry(2), "a starts, a raises, a waits 2")
    assert machine.log.started_at("a") == 0.0
    happen(machine, "a due 2", 7.0)
    assert machine.log.started_at("a") == 7.0
    with pytest.raises(LookupError):
        machine.log.started_at("b")


def test_what_a_machine_has_not_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^sate$"):
        after(A, "a starts").sate  # noqa: B018


@pytest.mark.parametrize(
    ("flow", "so_far", "matters"),
    [
        (A, "a starts", True),
        (A, "a starts, a returns, completed", False),
        ((P, A), "p starts, p returns, a starts", False),
        ((A, B), "a starts, a returns, b starts, b raises, gives up on b, -a starts", True),
        ((A, T), "a starts, a returns, t starts", True),
        ((A | Skip, B), "a starts, a late, a skipped, b starts, b returns", False),
    ],
)
def test_running_calls_time_out_with_the_sagas_timeout_where_it_matters(flow: Any, so_far: str, matters: bool) -> None:
    error = time_out(after(flow, so_far), 60.0, 61.0)
    assert (error is not None) is matters
    if matters:
        assert isinstance(error, SagaTimeoutError)
        assert str(error) == "saga 's' took longer than its timeout of 60 s"


@pytest.mark.parametrize(
    ("so_far", "standing"),
    [
        ("", {"started": False, "ended": False, "status": "running"}),
        ("begins, a starts", {"started": True, "ended": False, "status": "running"}),
        ("begins, a starts, a returns, completed", {"started": True, "ended": True, "status": "completed"}),
        ("begins, a starts, a stops, stuck", {"started": True, "ended": True, "status": "stuck"}),
    ],
)
def test_where_an_execution_stands(so_far: str, standing: dict[str, Any]) -> None:
    machine = folded(plan_of(A | ASK), so_far)
    assert {name: getattr(machine, name) for name in standing} == standing
