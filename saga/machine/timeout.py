"""The timeout of an execution, or of a unit: what it ends, and what follows. Nothing here looks at a clock."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from saga.errors import SagaTimeoutError, StepTimeoutError
from saga.events import StepFailed, StepTimedOut
from saga.machine import back
from saga.machine.commands import EXECUTE, Call, Wait

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = ["time_out", "time_out_unit"]


def time_out(machine: Machine, seconds: float, at: float, cancelled: Collection[int] = ()) -> SagaTimeoutError | None:
    """The execution took longer than it may: running steps count as timed out, what is commanded never begins, it is undone.

    :param cancelled: steps that will be cancelled now: they time out when they have ended.
    :return: what running calls time out with, or ``None`` where it does not matter.
    """
    state = machine.state
    if state.status.terminal or state.past_pivot or state.past_end or machine.closed:
        return None
    error = SagaTimeoutError(f"saga {machine.saga!r} took longer than its timeout of {seconds:g} s")
    everything = range(len(machine.plan.steps))
    unbegun = _cut_off(machine, everything, error, at, cancelled)
    machine.give_up(error, at)
    _never_begin(machine, unbegun, error, at)
    return error


def time_out_unit(machine: Machine, wait: Wait, at: float, cancelled: Collection[int] = ()) -> StepTimeoutError | None:
    """An attempt of a unit took longer than it may: as :func:`time_out`, of what is in it.

    :param wait: for the end of its time.
    """
    state, unit = machine.state, wait.step
    index = unit.index
    over = index in state.units - state.units_ended - state.undoing.keys() and wait.attempt == state.attempt(index)
    if not over or not state.goes_forward(unit) or machine.halt is not None:
        return None
    error = StepTimeoutError(f"unit {unit.name!r} took longer than its timeout of {unit.timeout:g} s")
    unbegun = _cut_off(machine, [step.index for step in machine.plan.within(unit)], error, at, cancelled)
    back.give_up_within(machine, (*unit.units, unit), error, at)
    _never_begin(machine, unbegun, error, at)
    return error


def _cut_off(machine: Machine, among: Collection[int], error: Exception, at: float, cancelled: Collection[int]) -> list[Call]:
    """Have the executes of these steps timed out that run, and return those that are commanded, and never begin."""
    state, steps, commands = machine.state, machine.plan.steps, machine.commands
    executes = [command for command in commands if isinstance(command, Call) and command.phase is EXECUTE]
    unbegun = [call for call in executes if call.step.index in among]
    commands[:] = [command for command in commands if command not in unbegun]
    never = {call.step.index for call in unbegun}
    for index in sorted(state.executing.intersection(among)):
        step = steps[index]
        if step.pause is None and index not in cancelled and index not in never:
            elapsed = at - machine.log.started_at(step.name)
            machine.record(StepTimedOut(step.name, state.attempt(index), at, elapsed, error))
    return unbegun


def _never_begin(machine: Machine, unbegun: Collection[Call], error: Exception, at: float) -> None:
    for call in unbegun:
        machine.send(StepFailed(call.step.name, call.attempt, at, 0.0, error))
