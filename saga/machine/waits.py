"""Steps that wait: for a time, or for a signal and a time at the most. Nobody calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saga.errors import StepTimeoutError
from saga.events import SignalReceived, StepTimedOut
from saga.machine.commands import Finish, Wait
from saga.machine.plan import PlannedStep

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = ["begin", "end", "go_on", "left_of", "receive"]


def begin(machine: Machine, step: PlannedStep, seconds: float | None) -> None:
    """Let a step wait for its signal, which may have come already, and ``seconds`` at the most."""
    assert step.pause is not None
    signal = step.pause.signal
    if signal is not None:
        values = machine.state.signals.get(signal, [])[len(_given(machine, signal)) :]
        if values:
            machine.commands.append(Finish(step, values[0]))
            return
    if seconds is not None:
        machine.commands.append(Wait(step, 1, seconds))


def go_on(machine: Machine, step: PlannedStep, at: float) -> None:
    """Let a step that waits wait for as long as is left."""
    if step.pause is not None:
        seconds = step.pause.seconds
        begin(machine, step, None if seconds is None else left_of(seconds, machine.log.started_at(step.name), at))


def left_of(seconds: float, since: float, now: float) -> float:
    """Return what is left of a time that began then: never more than all of it, though the clocks of two hosts may differ."""
    return min(seconds, max(0.0, since + seconds - now))


def end(machine: Machine, step: PlannedStep, at: float) -> None:
    """The time is over for a step that waits, unless it does not wait any more."""
    pause = step.pause
    if step.index not in machine.state.executing or pause is None:
        return
    if pause.signal is not None and step.index in _given(machine, pause.signal):  # its signal has just come
        return
    if pause.signal is None:
        machine.commands.append(Finish(step, None))
    else:
        error = StepTimeoutError(f"step {step.name!r}: signal {pause.signal!r} did not come within {pause.seconds:g} s")
        attempt, elapsed = machine.state.attempt(step.index), at - machine.log.started_at(step.name)
        machine.send(StepTimedOut(step.name, attempt, at, elapsed, error, running=False))


def receive(machine: Machine, signal: SignalReceived) -> None:
    """Take a signal from outside: a step that waits for it goes on, or the next that asks for it has it at once."""
    machine.record(signal)
    given = _given(machine, signal.name)
    for index in sorted(machine.state.executing):
        step = machine.plan.steps[index]
        if step.pause is not None and step.pause.signal == signal.name and index not in given:
            machine.commands.append(Finish(step, machine.state.signals[signal.name][len(given)]))
            return


def _given(machine: Machine, signal: str) -> set[int]:
    """Return the steps that a signal of this name was given to and that have not ended yet."""
    finished = [command.step for command in machine.commands if isinstance(command, Finish)]
    return {step.index for step in finished if step.pause is not None and step.pause.signal == signal}
