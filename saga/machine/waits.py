"""Steps that wait: for a time, or for signals and a time at the most. Nobody calls them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from saga.errors import SagaDefinitionError, StepTimeoutError
from saga.events import SignalReceived, StepTimedOut
from saga.flow import Accept
from saga.machine.commands import Finish, Wait
from saga.machine.plan import Plan, PlannedStep
from saga.machine.state import first_of

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = ["accepts_of", "begin", "end", "ends_at", "go_on", "left_of", "receive"]


def accepts_of(plan: Plan, saga: str) -> dict[str, Accept]:
    """Return what is said of signals' values, by their names.

    :raises SagaDefinitionError: two steps say otherwise of one.
    """
    accepts: dict[str, Accept] = {}
    for step in plan.declared() if plan.receives else ():
        for signal, accept in step.pause.accepts.items() if step.pause is not None else ():
            if accepts.setdefault(signal, accept) != accept:
                raise SagaDefinitionError(
                    f"saga {saga!r}: step {step.name!r}: signal {signal!r} is received by several steps, with another accept "
                    f"each: {accepts[signal]!r} and {accept!r}; give them one, as it is one signal"
                )
    return accepts


def begin(machine: Machine, step: PlannedStep, since: float, now: float) -> None:
    """Let a step wait, since then, for its signals, of which one may have come already, or for its time at the most."""
    pause = step.pause
    assert pause is not None
    if _give(machine, step):
        return
    told = None if step.told_by is None else machine.log.result_of(step.told_by.name) or 0.0  # skipped: nothing was told
    seconds = pause.seconds if told is None or isinstance(told, str) else told
    if seconds is not None:
        machine.commands.append(Wait(step, 1, left_of(seconds, since, now)))
    elif (moment := ends_at(step, since, told)) is not None:
        machine.commands.append(Wait(step, 1, max(0.0, moment - now)))


def ends_at(step: PlannedStep, since: float, told: Any) -> float | None:
    """Return when the time of a step is over that waits since then; ``None``: it has none.

    :param told: what the step returned that tells how long, or until when; ``None`` where that is not known.
    """
    pause = step.pause
    assert pause is not None
    if pause.until is not None:
        return pause.until.timestamp()
    if isinstance(told, str):
        return datetime.fromisoformat(told).timestamp()
    seconds = pause.seconds if told is None else told
    return None if seconds is None else since + seconds


def go_on(machine: Machine, step: PlannedStep, at: float) -> None:
    """Let a step that waits wait for as long as is left."""
    if step.pause is not None:
        begin(machine, step, machine.log.started_at(step.name), at)


def left_of(seconds: float, since: float, now: float) -> float:
    """Return what is left of a time that began then: never more than all of it, though the clocks of two hosts may differ."""
    return min(seconds, max(0.0, since + seconds - now))


def end(machine: Machine, step: PlannedStep, at: float) -> None:
    """The time is over for a step that waits, unless it does not wait any more."""
    pause = step.pause
    if step.index not in machine.state.executing or pause is None:
        return
    if not pause.signals:
        machine.commands.append(Finish(step, None))
    elif not _is_given(machine, step):  # else its signal has just come
        error = StepTimeoutError(f"step {step.name!r}: {pause.awaited} did not come within {pause.seconds:g} s")
        attempt, elapsed = machine.state.attempt(step.index), at - machine.log.started_at(step.name)
        machine.send(StepTimedOut(step.name, attempt, at, elapsed, error, running=False))


def receive(machine: Machine, signal: SignalReceived) -> None:
    """Take a signal from outside: a step that waits for it goes on, or the next that asks for it has it at once."""
    machine.record(signal)
    for index in sorted(machine.state.executing):
        step = machine.plan.steps[index]
        if step.pause is not None and not _is_given(machine, step) and _give(machine, step):
            return


def _give(machine: Machine, step: PlannedStep) -> bool:
    """Give a step the first signal that it receives of those that no step was given, where there is one."""
    pause = step.pause
    assert pause is not None
    for name, value in _left(machine) if pause.signals else ():
        if name in pause.signals:
            machine.commands.append(Finish(step, pause.result_of(name, value)))
            return True
    return False


def _is_given(machine: Machine, step: PlannedStep) -> bool:
    """Whether a step was given a signal, and has not ended yet."""
    return any(isinstance(command, Finish) and command.step is step for command in machine.commands)


def _left(machine: Machine) -> Iterator[tuple[str, Any]]:
    """Yield the signals that came and no step was given, in the order in which they came.

    A step is given the first of its signals, and ends in its turn: what each has taken when it has ended is told by that.
    """
    left = list(machine.state.signals)
    for command in machine.commands:
        if isinstance(command, Finish) and command.step.pause is not None and command.step.pause.signals:
            del left[first_of(left, command.step.pause.signals)]
    yield from left
