"""What a call may know of what came before it: what it undoes for, how the attempt before has ended. Read from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from saga.errors import CrashError
from saga.events import (
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    OperatorActed,
    StepFailed,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    UnitCompensating,
    VerificationFailed,
    VerificationStarted,
)
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY, Call
from saga.machine.plan import PlannedStep

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = ["cause_of", "error_before", "failed_step"]

#: How an attempt of each call begins, how it ends well, and how it does not.
_TELLS: Final[dict[str, tuple[Any, Any, Any]]] = {
    EXECUTE: (StepStarted, StepSucceeded | CompensationSucceeded, StepFailed | StepTimedOut),
    VERIFY: (VerificationStarted, StepVerified, VerificationFailed),
    COMPENSATE: (CompensationStarted, CompensationSucceeded, CompensationFailed),
}


def cause_of(machine: Machine, step: PlannedStep) -> BaseException | OperatorActed:
    """Return what a step's compensation undoes for: what a person did, or else what the saga gave up for.

    Where the saga goes on without the step, it is what the step itself failed with; in a unit that gave up, what that did for.
    """
    state = machine.state
    if state.cause is None:
        gave_up = _gave_up(machine, step)
        return machine.log.last_failure(step.name).error if gave_up is None else gave_up.error
    return state.cancelled or state.cause


def failed_step(machine: Machine, step: PlannedStep) -> str | None:
    """Return the step that raised what a step's compensation undoes for; ``None`` where no step did."""
    state = machine.state
    if state.cause is None:
        gave_up = _gave_up(machine, step)
        return step.name if gave_up is None else gave_up.failed_step
    return state.failed.name if state.failed is not None and state.cancelled is None else None


def _gave_up(machine: Machine, step: PlannedStep) -> UnitCompensating | None:
    """Return how the unit gave up that a step is undone with."""
    undoing = machine.state.undoing
    return next((undoing[unit.index] for unit in step.units if unit.index in undoing), None)


def error_before(machine: Machine, call: Call) -> BaseException | None:
    """Return what the attempt before a call has ended with; ``None`` where there was none, or it ended well."""
    if call.attempt == 1:
        return None
    name, (begins, well, badly) = call.step.name, _TELLS[call.phase]
    begun = False  # what follows in the log is of a later attempt, or of this
    for event in reversed(machine.events):
        if getattr(event, "step", None) != name:
            continue
        if begun and isinstance(event, badly):
            error: BaseException = event.error
            return error
        if begun and isinstance(event, well):
            return None
        if isinstance(event, begins):
            if begun:
                return CrashError(f"nobody stored what came of {call.phase} of step {name!r} (attempt {call.attempt - 1})")
            begun = event.attempt == call.attempt
    return None
