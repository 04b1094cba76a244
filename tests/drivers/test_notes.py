"""What a driver notes while nobody looks: it is in the state when something follows, and is told as if it had been heard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saga import InDoubt, Saga, Status, step
from saga.errors import SagaExecutionException
from saga.events import CompensationFailed, StepFailed
from saga.machine import Machine, State
from tests.kit import Calls

NAMES = ("a", "b", "c", "d", "e")
LEFT = ("b", "e")  # these have nothing to undo


def plan_of() -> Any:
    saga = Saga("s")
    for name in NAMES:
        saga.add_task(step(lambda: None, None if name in LEFT else lambda: None, name=name))
    return saga.plan


def noted(forward: int, back: int, how: str) -> Machine:
    """Return a machine in which so many executes are noted, and, where one failed then, so many compensations.

    :param how: the state is ``asked for`` before, or the events are ``looked at`` after each series; or it is ``heard``:
        the events of each note are made at once.
    """
    machine = Machine(plan_of(), "s", "id")
    steps = machine.plan.steps
    machine.start(0.0)
    if how != "looked at":
        machine.state  # noqa: B018
    series(machine, how, [(one, 1.0, 2.0, f"result of {one.name}") for one in steps[:forward]], steps[forward : forward + 1])
    if back:
        machine.send(StepFailed(steps[forward].name, 1, 3.0, 1.0, ValueError("no")))
        undone = [one for one in reversed(steps[:forward]) if one.compensates]
        series(machine, how, [(one, 4.0, 5.0) for one in undone[:back]], undone[back : back + 1])
    machine.commands.clear()
    return machine


def series(machine: Machine, how: str, ended: list[Any], then: list[Any]) -> None:
    """Note how calls ended one after the other; ``then``: the step that is called next, where there is one."""
    log = machine.log
    log.begin_series(0.0, noted=how != "heard")
    for (one, *rest), following in zip(ended, [*(one for one, *_ in ended[1:]), *(then or [None])], strict=False):
        executes = len(rest) == 3
        call = following and (following.first if executes else following.first_compensation)
        note = (one, call, *rest)
        if how == "heard":
            log.entries += log.events_of(note)
        else:
            log.note(note)
    if how == "looked at":
        machine.events  # noqa: B018


def known(machine: Machine) -> Any:
    """Return all that a machine knows."""
    state = machine.log.state()
    fields = {name: repr(getattr(state, name)) for name in State.__slots__ if name != "plan"}
    return fields, [type(command).__name__ for command in machine.commands]


ERROR = OSError("no")
WHAT_FOLLOWS: dict[str, tuple[int, int, Callable[[Machine], None], Status]] = {
    "the first execute fails": (0, 0, lambda m: m.send(StepFailed("a", 1, 3.0, 1.0, ERROR)), Status.COMPENSATED),
    "the second execute fails": (1, 0, lambda m: m.send(StepFailed("b", 1, 3.0, 1.0, ERROR)), Status.COMPENSATING),
    "the last execute fails": (4, 0, lambda m: m.send(StepFailed("e", 1, 3.0, 1.0, ERROR)), Status.COMPENSATING),
    "the last execute is interrupted": (
        4,
        0,
        lambda m: m.send(StepFailed("e", 1, 3.0, 1.0, ERROR, in_doubt=True)),
        Status.COMPENSATING,
    ),
    "it is given up after the first": (1, 0, lambda m: m.give_up(ERROR, 3.0), Status.COMPENSATING),
    "it is given up before the last": (4, 0, lambda m: m.give_up(ERROR, 3.0), Status.COMPENSATING),
    "the second compensation fails": (4, 1, lambda m: m.send(CompensationFailed("c", 1, 6.0, 1.0, ERROR)), Status.COMPENSATING),
    "the last compensation fails": (4, 2, lambda m: m.send(CompensationFailed("a", 1, 6.0, 1.0, ERROR)), Status.STUCK),
    "the second execute runs": (1, 0, lambda m: None, Status.RUNNING),
    "the last execute has returned": (5, 0, lambda m: None, Status.COMPLETED),
    "the second compensation runs": (4, 1, lambda m: None, Status.COMPENSATING),
    "the last compensation has returned": (4, 3, lambda m: None, Status.COMPENSATED),
}


@pytest.mark.parametrize("case", WHAT_FOLLOWS)
def test_what_is_noted_is_in_the_state_when_something_follows(case: str) -> None:
    forward, back, follow, status = WHAT_FOLLOWS[case]
    machines = [noted(forward, back, how) for how in ("asked for", "looked at", "heard")]
    told = []
    for machine in machines:
        follow(machine)
        assert (machine.status, machine.ended) == (status, status.terminal)
        told.append([repr(event) for event in machine.events])
        assert (machine.status, machine.ended) == (status, status.terminal)
        assert known(machine) == known(replayed(machine)) == known(machines[0])
    assert told[0] == told[1] == told[2]


def replayed(machine: Machine) -> Machine:
    """Return the machine that the events lead to, with the same commands."""
    twin = machine.replayed()
    twin.commands = machine.commands
    return twin


def test_an_undo_that_nobody_looks_at_is_not_called_whole_where_a_person_must_decide(calls: Calls) -> None:
    class StopError(BaseException): ...

    saga = calls.saga(calls.step("a"), calls.step("b"), calls.step("c", StopError(), in_doubt=InDoubt.ASK))
    with pytest.raises(StopError) as caught:
        calls.execute(saga)
    assert calls.log == ["a", "b", "c", "-b", "-a"]
    assert "is stuck" in caught.value.__notes__[0]
    assert "in doubt: c" in caught.value.__notes__[0]


def test_an_undo_that_nobody_looks_at_is_not_called_whole_where_a_part_of_it_failed(calls: Calls) -> None:
    saga = calls.saga(calls.step("a"), calls.step("b", None, OSError("b stays")), calls.step("c"), calls.step("d", ERROR))
    with pytest.raises(SagaExecutionException) as caught:
        calls.execute(saga)
    assert calls.log == ["a", "b", "c", "d", "-c", "-b", "-a"]
    assert caught.value.result.status is Status.STUCK
