"""What follows where an attempt did not end well: its verification, another attempt, a skip, a fallback, or the undo."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from saga.errors import CrashError, add_note, is_a, is_exception
from saga.events import (
    RUNNING,
    CompensationFailed,
    CompensationSucceeded,
    CompensationTimedOut,
    FallbackChosen,
    PersonAsked,
    RetryScheduled,
    StepFailed,
    StepSkipped,
    StepTimedOut,
    StepVerified,
    VerificationFailed,
    VerificationStarted,
)
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY, Call, Wait
from saga.machine.plan import ONCE, PlannedStep
from saga.machine.waits import left_of
from saga.plain import repr_of
from saga.policy import Ask, ExponentialBackoff, InDoubt, Retry, Skip

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = [
    "compensation_failed",
    "compensation_succeeded",
    "compensation_timed_out",
    "decide",
    "ended_late",
    "ends_the_way_forward",
    "fall_back",
    "step_failed",
    "step_timed_out",
    "step_verified",
    "verification_failed",
    "verify",
    "wait_again",
]

# Python 3.11 takes long to find a member of an Enum, and each failure asks for these.
_ASK, _RERUN = InDoubt.ASK, InDoubt.RERUN
_PAST_PIVOT: Final = Retry(2, ExponentialBackoff(0.1, cap=60.0))  # how retries go on where the step's own are used up


# -- how an attempt ended ---------------------------------------------------------------------------------------------


def step_failed(machine: Machine, event: StepFailed) -> None:
    step, state = machine.plan.by_name[event.step], machine.state
    if (event.in_doubt or step.transactional) and not is_exception(event.error) and state.status is RUNNING:
        machine.give_up(event.error, event.at, step.name)
    else:
        decide(machine, step, event, event.at)


def step_timed_out(machine: Machine, event: StepTimedOut) -> None:
    step, state = machine.plan.by_name[event.step], machine.state
    if not event.running:
        decide(machine, step, event, event.at)
    elif state.status is not RUNNING:
        machine.progress(event.at)
    elif not (_may_retry(machine, step, event) or _asks(step, event.error)):
        _fail(machine, step, event.error, event.at)
    # Otherwise the straggler has attempts left, or a person is to be asked: that waits until this one has ended, and if it
    # ends well, that is the step's success.


def decide(machine: Machine, step: PlannedStep, failure: StepFailed | StepTimedOut, at: float) -> None:
    """Decide what follows an attempt that has ended, and not well; where the step is in doubt, its verification comes first."""
    state, index = machine.state, step.index
    if index in state.to_verify:
        if machine.halt is None:  # else whoever takes the execution up asks
            verify(machine, step, at)
        return
    executed = isinstance(failure, StepFailed) and failure.executed and index not in state.in_doubt  # else a person resumed it
    if index in state.skipped:
        ended_late(machine, step, at)
    elif state.status is not RUNNING:
        machine.progress(at)
    elif index in state.to_rerun and machine.halt is not None:
        return  # whoever takes the execution up executes it again
    elif index in state.to_rerun and (step.gives_way or not state.past_pivot):  # a person said so
        machine.execute_again(step, failure.attempt + 1, at)
    elif index in state.asking and (state.past_pivot or step.gives_way or _cut_off(failure)) and not machine.plan.open:
        machine.progress(at)  # what a person knows of it decides how the saga goes on
    elif index in state.asking or executed or (index in state.in_doubt and _is_over(machine, step, failure)):
        machine.give_up(failure.error, at, step.name)
    elif not _may_retry(machine, step, failure):
        _fail(machine, step, failure.error, at)
    elif _cut_off(failure):
        machine.execute_again(step, failure.attempt + 1, at)
    else:
        retry(machine, step, failure.attempt, failure.error, at)


def _cut_off(failure: StepFailed | StepTimedOut) -> bool:
    """Whether the attempt's process died in it, or it was interrupted."""
    return is_a(failure.error, CrashError) or not is_a(failure.error, Exception)


def _of_a_dead_block(machine: Machine, failure: StepFailed | StepTimedOut) -> bool:
    """Whether the attempt was cut off with its block: nobody knows what that would have called again."""
    return machine.plan.open and _cut_off(failure)


def _is_over(machine: Machine, step: PlannedStep, failure: StepFailed | StepTimedOut) -> bool:
    """Whether a step whose process died is not executed again, so that the saga gives up as long as it is in doubt."""
    if not _cut_off(failure) or machine.state.past_pivot:
        return False
    return not _may_rerun(machine, step, failure)


def ends_the_way_forward(machine: Machine, step: PlannedStep, failure: StepFailed) -> bool:
    """Whether the saga gives up because the step's process died, whatever else there is to know."""
    asks = step.verifies or step.in_doubt is _ASK
    return not asks and step.index not in machine.state.skipped and _is_over(machine, step, failure)


def _may_rerun(machine: Machine, step: PlannedStep, failure: StepFailed | StepTimedOut) -> bool:
    """Whether the step says to run it again where nobody knows what came of an attempt, as often as its policy allows."""
    if step.in_doubt is not _RERUN or _of_a_dead_block(machine, failure):
        return False
    if not (isinstance(failure, StepTimedOut) or failure.in_doubt or step.index in machine.state.in_doubt):
        return False
    return _cut_off(failure) if step.retry is ONCE else failure.attempt < step.retry.max_attempts


def _may_retry(machine: Machine, step: PlannedStep, failure: StepFailed | StepTimedOut) -> bool:
    if step.pause is not None or _of_a_dead_block(machine, failure):
        return False
    if machine.state.past_pivot and (not step.gives_way or _cut_off(failure)):
        return True
    return step.retry.allows(failure.attempt, failure.error) or _may_rerun(machine, step, failure)


# -- verification -----------------------------------------------------------------------------------------------------


def verify(machine: Machine, step: PlannedStep, at: float, attempt: int = 1) -> None:
    """Ask what came of a step."""
    machine.record(VerificationStarted(step.name, attempt, at))
    machine.commands.append(Call(step, attempt, VERIFY))


def step_verified(machine: Machine, event: StepVerified) -> None:
    step, state = machine.plan.by_name[event.step], machine.state
    if not event.done:
        decide(machine, step, machine.log.last_failure(step.name), event.at)
    elif step.index in state.skipped:
        ended_late(machine, step, event.at)
    elif state.status is RUNNING:
        machine.advance(step.then, event.at)
    else:
        machine.progress(event.at)


def verification_failed(machine: Machine, event: VerificationFailed) -> None:
    step = machine.plan.by_name[event.step]
    if not is_exception(event.error):
        machine.give_up(event.error, event.at, step.name)
    elif step.verification_retry.allows(event.attempt, event.error):
        retry(machine, step, event.attempt, event.error, event.at, VERIFY)
    else:
        decide(machine, step, machine.log.last_failure(step.name), event.at)


# -- what follows -----------------------------------------------------------------------------------------------------


def retry(machine: Machine, step: PlannedStep, attempt: int, error: BaseException, at: float, phase: str = EXECUTE) -> None:
    """Schedule another attempt of a call."""
    policy = _policy_of(step, phase)
    # Spread without randomness: a replay of the same execution waits the same time.
    fraction = zlib.crc32(f"{machine.saga_id}/{step.name}/{attempt}/{phase}".encode()) / 2**32
    if machine.state.past_pivot and phase == EXECUTE and not policy.allows(attempt, error):
        policy = _PAST_PIVOT
    try:
        delay = policy.delay(attempt, fraction)
    except Exception as wrong:  # the user's own backoff
        add_note(wrong, f"raised by the backoff of step {step.name!r}, after: {repr_of(error)}")
        if phase == COMPENSATE:
            machine.progress(at)
        elif phase == VERIFY:
            decide(machine, step, machine.log.last_failure(step.name), at)
        else:
            _fail(machine, step, wrong, at)
        return
    machine.record(RetryScheduled(step.name, attempt + 1, at, delay, phase))
    machine.commands.append(Wait(step, attempt + 1, delay, phase))


def wait_again(machine: Machine, scheduled: RetryScheduled, at: float) -> None:
    """Wait for what is left of the time until an attempt that was scheduled."""
    left = left_of(scheduled.delay, scheduled.at, at)
    machine.commands.append(Wait(machine.plan.by_name[scheduled.step], scheduled.attempt, left, scheduled.phase))


def _policy_of(step: PlannedStep, phase: str) -> Retry:
    if phase == EXECUTE:
        return step.retry
    return step.compensation_retry if phase == COMPENSATE else step.verification_retry


def _asks(step: PlannedStep, error: BaseException) -> bool:
    """Whether a person is asked when the step has failed for good with this error."""
    return step.on_error is Ask and not (step.fallback and is_a(error, step.fallback_on))


def _fail(machine: Machine, step: PlannedStep, error: BaseException, at: float) -> None:
    """The step has failed for good."""
    state = machine.state
    if step.fallback and is_a(error, step.fallback_on):
        machine.record(FallbackChosen(step.name, at))
        fall_back(machine, step, at)
    elif step.on_error is Skip:
        if step.index in state.to_compensate:
            machine.compensate(step, at)
        else:
            _skip(machine, step, at)
    elif step.on_error is Ask:
        machine.record(PersonAsked(step.name, at))
        machine.progress(at)
    else:
        machine.give_up(error, at, step.name)


def _skip(machine: Machine, step: PlannedStep, at: float) -> None:
    machine.record(StepSkipped(step.name, at))
    machine.advance(step.then, at)


def fall_back(machine: Machine, step: PlannedStep, at: float) -> None:
    """Start the step's fallback, once it has ended and nothing of it is left."""
    state, index = machine.state, step.index
    if index in state.stragglers or index in state.compensating or index in state.verifying:
        return
    # What may be left of it is not to be mixed with its fallback's doing.
    failed = state.compensations_failed.get(index)
    if failed is not None and (machine.plan.open or not state.past_pivot):
        machine.give_up(failed, at, step.name)
    elif index in state.asking and machine.plan.open:
        machine.give_up(machine.log.last_failure(step.name).error, at, step.name)
    elif failed is not None or index in state.asking:
        machine.progress(at)  # a person decides
    elif index in state.to_compensate:
        machine.compensate(step, at)
    else:
        machine.follow(step.fallback, at)


def ended_late(machine: Machine, step: PlannedStep, at: float) -> None:
    """A step that the saga goes on without, or falls back from, has ended."""
    state = machine.state
    if state.status is RUNNING and step.index in state.falling_back:
        fall_back(machine, step, at)
    elif state.status is RUNNING and step.index in state.to_compensate:
        machine.compensate(step, at)
    else:
        machine.progress(at)


def compensation_succeeded(machine: Machine, event: CompensationSucceeded) -> None:
    state = machine.state
    if state.status is RUNNING:
        step = machine.plan.by_name[event.step]
        if step.index in state.falling_back:
            fall_back(machine, step, event.at)
            return
        if step.index in state.to_skip:
            _skip(machine, step, event.at)
            return
    machine.progress(event.at)


def compensation_timed_out(machine: Machine, event: CompensationTimedOut) -> None:
    machine.progress(event.at)  # what can be undone without it is; it is attempted again when it has ended, if that is not well


def compensation_failed(machine: Machine, event: CompensationFailed) -> None:
    step, state = machine.plan.by_name[event.step], machine.state
    if step.compensation_retry.allows(event.attempt, event.error):
        retry(machine, step, event.attempt, event.error, event.at, COMPENSATE)
    elif not is_exception(event.error):  # which ends the way forward
        machine.give_up(event.error, event.at, step.name)
    elif step.index in state.falling_back:
        fall_back(machine, step, event.at)
    elif state.status is RUNNING and step.index in state.to_skip:
        _skip(machine, step, event.at)
    else:
        machine.progress(event.at)
