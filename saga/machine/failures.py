"""What follows where an attempt did not end well: its verification, another attempt, a skip, a fallback, or the undo."""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Final

from saga.errors import CrashError, MissingKeyError, NotReadyError, add_note, is_a, is_exception
from saga.events import (
    RUNNING,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    CompensationTimedOut,
    FallbackChosen,
    PersonAsked,
    RetryScheduled,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    StepVerified,
    VerificationFailed,
    VerificationStarted,
)
from saga.machine import back
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY, Wait
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
    "wait_again",
]

# Python 3.11 takes long to find a member of an Enum, and each failure asks for these.
_ASK, _RERUN = InDoubt.ASK, InDoubt.RERUN
_PAST_PIVOT: Final = Retry(sys.maxsize, ExponentialBackoff(0.1, cap=60.0))  # where the step's own are used up
_BEGINNINGS: Final = {EXECUTE: StepStarted, VERIFY: VerificationStarted, COMPENSATE: CompensationStarted}


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
    elif not state.goes_forward(step):
        machine.progress(event.at)
    elif _retry_after(machine, step, event) is None and not _asks(step, event.error):
        _fail(machine, step, event.error, event.at)
    # Otherwise the straggler has attempts left, or a person is to be asked: that waits until this one has ended, and if it
    # ends well, that is the step's success.


def decide(machine: Machine, step: PlannedStep, failure: StepFailed | StepTimedOut, at: float) -> None:
    """Decide what follows an attempt that has ended, and not well; where the step is in doubt, its verification comes first."""
    state, index = machine.state, step.index
    if index in state.to_verify:
        if machine.halt is None:  # else whoever takes the execution up asks
            machine.verify(step, at)
        return
    executed = isinstance(failure, StepFailed) and failure.executed and not _is_unready(failure)
    executed = executed and index not in state.in_doubt  # else a person resumed it
    if index in state.skipped:
        ended_late(machine, step, at)
    elif not state.goes_forward(step):
        machine.progress(at)
    elif index in state.to_rerun and machine.halt is not None:
        return  # whoever takes the execution up executes it again
    elif index in state.to_rerun and (step.gives_way or not state.past_pivot):  # a person said so
        machine.execute_again(step, failure.attempt + 1, at)
    elif index in state.asking and (state.past_pivot or step.gives_way or _cut_off(failure)) and not machine.plan.open:
        machine.progress(at)  # what a person knows of it decides how the saga goes on
    elif index in state.asking or executed or (index in state.in_doubt and _is_over(machine, step, failure)):
        back.give_up(machine, step, failure.error, at)
    elif (policy := _retry_after(machine, step, failure)) is None:
        _fail(machine, step, failure.error, at)
    elif _cut_off(failure):
        machine.execute_again(step, failure.attempt + 1, at)
    else:
        _retry(machine, step, policy, failure.attempt, failure.error, at)


def _cut_off(failure: StepFailed | StepTimedOut) -> bool:
    """Whether the attempt's process died in it, or it was interrupted."""
    return is_a(failure.error, CrashError) or not is_a(failure.error, Exception)


def _is_unready(failure: StepFailed | StepTimedOut) -> bool:
    """Whether the attempt returned, and not what its retry waits for."""
    return isinstance(failure, StepFailed) and failure.executed and is_a(failure.error, NotReadyError)


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
    return _cut_off(failure) if step.retry is ONCE else _lasts(machine, step, step.retry, failure.attempt, failure.at)


def _retry_after(machine: Machine, step: PlannedStep, failure: StepFailed | StepTimedOut) -> Retry | None:
    """Return the policy by which another attempt of an execute is made, or ``None``: none is."""
    if step.pause is not None or _of_a_dead_block(machine, failure):
        return None
    wanted = _is_unready(failure) or _allows(step, step.retry, _tried(machine, step, failure.attempt), failure.error)
    if wanted and _lasts(machine, step, step.retry, failure.attempt, failure.at):
        return step.retry
    if _must_go_on(machine, step) or (machine.state.past_pivot and _cut_off(failure)):
        return _PAST_PIVOT
    return step.retry if _may_rerun(machine, step, failure) else None


def _must_go_on(machine: Machine, step: PlannedStep) -> bool:
    """Whether a step is executed until that ends well, however often."""
    return machine.state.past_pivot and not step.gives_way


# -- verification -----------------------------------------------------------------------------------------------------


def step_verified(machine: Machine, event: StepVerified) -> None:
    step, state = machine.plan.by_name[event.step], machine.state
    if not event.done:
        decide(machine, step, machine.log.last_failure(step.name), event.at)
    elif step.index in state.skipped:
        ended_late(machine, step, event.at)
    elif state.goes_forward(step):
        machine.advance(step.then, event.at)
    else:
        machine.progress(event.at)


def verification_failed(machine: Machine, event: VerificationFailed) -> None:
    step = machine.plan.by_name[event.step]
    if not is_exception(event.error):
        machine.give_up(event.error, event.at, step.name)
    elif _allows(step, step.verification_retry, event.attempt, event.error):
        _retry(machine, step, step.verification_retry, event.attempt, event.error, event.at, VERIFY)
    else:
        _give_up_on(machine, step, event.error, event.at, VERIFY)


# -- what follows -----------------------------------------------------------------------------------------------------


def _retry(
    machine: Machine, step: PlannedStep, policy: Retry, attempt: int, error: BaseException, at: float, phase: str = EXECUTE
) -> None:
    """Schedule another attempt of a call, where there is time for it."""
    # Spread without randomness: a replay of the same execution waits the same time.
    fraction = zlib.crc32(f"{machine.saga_id}/{step.name}/{attempt}/{phase}".encode()) / 2**32
    try:
        delay = policy.delay(_tried(machine, step, attempt, phase), fraction, error)
    except Exception as wrong:  # the user's own backoff
        if phase == EXECUTE:
            add_note(wrong, f"raised by the backoff of step {step.name!r}, after: {repr_of(error)}")
        else:
            add_note(error, f"the backoff of step {step.name!r} raised {repr_of(wrong)}, so no other attempt is made")
        _give_up_on(machine, step, wrong if phase == EXECUTE else error, at, phase)
        return
    if _lasts(machine, step, policy, attempt, at + delay, phase):
        machine.record(RetryScheduled(step.name, attempt + 1, at, delay, phase))
        machine.commands.append(Wait(step, attempt + 1, delay, phase))
    elif phase == EXECUTE and _must_go_on(machine, step):
        _retry(machine, step, _PAST_PIVOT, attempt, error, at)
    else:
        _give_up_on(machine, step, error, at, phase)


def _allows(step: PlannedStep, policy: Retry, attempt: int, error: BaseException) -> bool:
    """Whether a policy wants another attempt after this error, if there is time."""
    if is_a(error, MissingKeyError):  # and the next would find no more
        return False
    try:
        return policy.allows(attempt, error)
    except Exception as wrong:  # the user's own function
        add_note(error, f"retry_on of step {step.name!r} raised {repr_of(wrong)}, so no other attempt is made")
        return False


def _lasts(machine: Machine, step: PlannedStep, policy: Retry, attempt: int, at: float, phase: str = EXECUTE) -> bool:
    """Whether an attempt that begins then is within what the policy allows."""
    tried = _tried(machine, step, attempt, phase)
    if policy.max_elapsed is None:
        return policy.lasts(tried)
    return policy.lasts(tried, at - machine.log.attempted_since(step, _BEGINNINGS[phase]))


def _tried(machine: Machine, step: PlannedStep, attempt: int, phase: str = EXECUTE) -> int:
    """Return how many attempts of a call there were, since the saga began the step anew."""
    return machine.state.tried(step.index, attempt) if phase == EXECUTE else attempt


def _give_up_on(machine: Machine, step: PlannedStep, error: BaseException, at: float, phase: str) -> None:
    """No other attempt of a call is made."""
    if phase == EXECUTE:
        _fail(machine, step, error, at)
    elif phase == VERIFY:
        decide(machine, step, machine.log.last_failure(step.name), at)
    elif not is_exception(error):  # which ends the way forward
        machine.give_up(error, at, step.name)
    elif step.index in machine.state.falling_back:
        fall_back(machine, step, at)
    elif machine.state.status is RUNNING and step.index in machine.state.to_skip:
        _skip(machine, step, at)
    else:
        machine.progress(at)


def wait_again(machine: Machine, scheduled: RetryScheduled, at: float) -> None:
    """Wait for what is left of the time until an attempt that was scheduled."""
    left = left_of(scheduled.delay, scheduled.at, at)
    machine.commands.append(Wait(machine.plan.by_name[scheduled.step], scheduled.attempt, left, scheduled.phase))


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
        back.give_up(machine, step, error, at)


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
    elif state.goes_forward(step) and step.index in state.to_compensate:
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
    step = machine.plan.by_name[event.step]
    if _allows(step, step.compensation_retry, event.attempt, event.error):
        _retry(machine, step, step.compensation_retry, event.attempt, event.error, event.at, COMPENSATE)
    else:
        _give_up_on(machine, step, event.error, event.at, COMPENSATE)
