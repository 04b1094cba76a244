"""An execution's own timeout: what it ends, and what follows. Nothing here looks at a clock."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from saga.errors import SagaTimeoutError
from saga.events import StepFailed, StepTimedOut
from saga.machine.commands import EXECUTE, Call

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = ["time_out"]


def time_out(machine: Machine, seconds: float, at: float, cancelled: Collection[int] = ()) -> SagaTimeoutError | None:
    """The execution took longer than it may: running steps count as timed out, what is commanded never begins, it is undone.

    :param cancelled: steps that will be cancelled now: they time out when they have ended.
    :return: what running calls time out with, or ``None`` where it does not matter.
    """
    state, steps, commands = machine.state, machine.plan.steps, machine.commands
    if state.status.terminal or state.past_pivot or state.past_end or machine.closed:
        return None
    error = SagaTimeoutError(f"saga {machine.saga!r} took longer than its timeout of {seconds:g} s")
    unbegun = [command for command in commands if isinstance(command, Call) and command.phase is EXECUTE]
    commands[:] = [command for command in commands if command not in unbegun]
    never = {call.step.index for call in unbegun}
    for index in sorted(state.executing):
        step = steps[index]
        if step.pause is None and index not in cancelled and index not in never:
            elapsed = at - machine.log.started_at(step.name)
            machine.record(StepTimedOut(step.name, state.attempt(index), at, elapsed, error))
    machine.give_up(error, at)
    for call in unbegun:
        machine.send(StepFailed(call.step.name, call.attempt, at, 0.0, error))
    return error
