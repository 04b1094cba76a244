"""Giving up: a saga from where all is undone, a unit while the rest of the saga goes on, or a person had a part undone.

When what was done of a unit is undone, it has failed, and its own policies say what follows, as a step's do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from saga.errors import is_exception
from saga.events import RUNNING, SagaCompensating, SagaRewound, StepFailed, StepStarted, UnitCompensating
from saga.machine.following import following
from saga.machine.plan import ONCE, PlannedStep
from saga.machine.undo import next_to_compensate
from saga.policy import Compensate

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = ["give_up", "give_up_within", "rewind", "turn_back", "undo"]


def give_up(machine: Machine, step: PlannedStep, error: BaseException, at: float) -> None:
    """A step has failed for good, and nothing says how to go on without it: the unit around it gives up, or else the saga."""
    if step.units:
        give_up_within(machine, step.units, error, at, step.name)
    else:
        machine.give_up(error, at, step.name)


def give_up_within(
    machine: Machine, around: tuple[PlannedStep, ...], error: BaseException, at: float, step: str | None = None
) -> None:
    """Give up the innermost of these units that says what follows then, unless one has given up; where none does, the saga.

    :param step: the one that failed, where one did.
    """
    state = machine.state
    if state.status is RUNNING and any(unit.index in state.undoing for unit in around):
        machine.progress(at)
        return
    # Of one that says nothing the saga would give up in the end, and not before what outlived its timeout has ended.
    says = [
        unit
        for unit in around
        if state.past_pivot or unit.retry is not ONCE or unit.on_error is not Compensate or unit.fallback
    ]
    if state.status is RUNNING and says and is_exception(error):
        _turn_unit_back(machine, says[-1], error, at, step)
        machine.progress(at)
    else:
        machine.give_up(error, at, step)


def turn_back(machine: Machine, step: str | None, error: BaseException, at: float) -> None:
    """Give the saga up: from here what has happened is undone. Nothing waits any more."""
    machine.record(SagaCompensating(step, error, at))
    _end_waits(machine, machine.plan.steps, error, at)


def _turn_unit_back(machine: Machine, unit: PlannedStep, error: BaseException, at: float, step: str | None) -> None:
    """Give a unit up: from here what was done of it is undone. Nothing of it waits any more."""
    inside = machine.plan.within(unit)
    begun = _begun(machine)
    again = [one.name for one in inside if one.name in begun and machine.plan.by_name[one.name] is one]
    machine.record(UnitCompensating(unit.name, step, error, again, at))
    _end_waits(machine, inside, error, at)


def _end_waits(machine: Machine, steps: Iterable[PlannedStep], error: BaseException, at: float) -> None:
    executing = machine.state.executing
    for waiting in steps if executing else ():
        if waiting.pause is not None and waiting.index in executing:
            attempt, since = machine.state.attempt(waiting.index), machine.log.started_at(waiting.name)
            machine.record(StepFailed(waiting.name, attempt, at, at - since, error))


def rewind(machine: Machine, to: int, at: float) -> None:
    """End an undo back to a step: from there the execution can go forward again."""
    step, action = machine.plan.steps[to], machine.state.cancelled
    assert action is not None
    begun = _begun(machine)
    again = [later.name for later in following(*step.onward) if later.name in begun]
    reason = f"undone back to step {step.name!r} by {action.who}: {action.why}; resume goes forward again from there"
    machine.record(SagaRewound(step.name, again, reason, at))


def _begun(machine: Machine) -> set[str]:
    """Return the names of the steps that have been started."""
    return {event.step for event in machine.events if isinstance(event, StepStarted)}


def undo(machine: Machine, at: float) -> None:
    """Undo what is next of each unit that gave up; one that is undone has failed."""
    for index in sorted(machine.state.undoing):
        if index in machine.state.undoing and machine.state.status is RUNNING:
            _undo_next(machine, machine.plan.steps[index], at)


def _undo_next(machine: Machine, unit: PlannedStep, at: float) -> None:
    state, steps = machine.state, machine.plan.steps
    inside = {step.index for step in machine.plan.within(unit)}
    if state.executing & inside:
        return
    for index in sorted(state.to_verify & inside):
        machine.verify(steps[index], at)
    if state.verifying & inside:  # what that tells decides what is undone
        return
    failed = state.compensations_failed.keys() & inside
    if not (failed and machine.stop_on_compensation_failure):
        for step in next_to_compensate(state, inside):
            machine.compensate(step, at)
    if (state.compensating | state.stragglers | state.compensation_stragglers) & inside:
        return
    gave_up = state.undoing[unit.index]
    if failed and not state.past_pivot:  # what is left of it is not to be mixed with what would follow
        machine.give_up(gave_up.error, at, gave_up.failed_step)
    elif not failed and not state.asking & inside:
        machine.end_unit(unit, gave_up.error)
