"""What each kind of event does to the state. Nothing else changes it, live or replayed.

The decisions, and :func:`saga.machine.resume.recover`, only read the state and record events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from saga.errors import NotReadyError, is_a
from saga.events import (
    RUNNING,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    CompensationTimedOut,
    Event,
    FallbackChosen,
    GroupMerged,
    MessageRefused,
    OperatorActed,
    PersonAsked,
    RetryScheduled,
    SagaCompensated,
    SagaCompensating,
    SagaCompleted,
    SagaHeld,
    SagaPaused,
    SagaRecovered,
    SagaRewound,
    SagaStarted,
    SagaStuck,
    SagaSubmitted,
    SignalReceived,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    VerificationFailed,
    VerificationStarted,
    WayChosen,
)
from saga.machine.commands import COMPENSATE, VERIFY
from saga.machine.decided import change_status, operator_acted, saga_rewound, withdraw
from saga.machine.growing import grow
from saga.machine.plan import Each, Group, PlannedStep, Then
from saga.machine.state import State, first_of
from saga.policy import InDoubt

__all__ = ["FOLDS", "fold"]


def fold(state: State, event: Event) -> None:
    """Do to the state what an event does."""
    FOLDS[type(event)](state, event)


def _nothing(state: State, event: Event) -> None:
    """An event that changes nothing."""


def _saga_submitted(state: State, event: SagaSubmitted) -> None:
    change_status(state, event)
    state.unbegun = True


def _saga_started(state: State, event: SagaStarted) -> None:
    if state.unbegun:
        change_status(state, event)
        state.unbegun = state.held = False


def _step_started(state: State, event: StepStarted) -> None:
    step = state.plan.by_name[event.step]
    index = step.index
    state.executing.add(index)
    if step.instead_of is not None:
        state.falling_back.discard(step.instead_of.index)
    if step.branches:
        begun = state.branches_begun
        begun.update((group.index, max(branch + 1, begun.get(group.index, 0))) for group, branch in step.branches)
    if event.attempt > 1:
        state.attempts[index] = event.attempt
        state.stragglers.discard(index)
        state.retries.pop(index, None)
        state.again.discard(index)
        withdraw(state, index)  # this attempt decides; where it does not end well, what is in doubt stays so


def _step_succeeded(state: State, event: StepSucceeded) -> None:
    step = state.plan.by_name[event.step]
    state.executing.discard(step.index)
    state.stragglers.discard(step.index)
    if step.pause is not None and step.pause.signals:
        del state.signals[first_of(state.signals, step.pause.signals)]
    _done(state, step, event.result)


def _done(state: State, step: PlannedStep, result: Any) -> None:
    """The step's work is known to be done."""
    index = step.index
    state.in_doubt.discard(index)
    if step.compensates:
        state.to_compensate.append(index)
    if step.pivot and state.status is RUNNING:
        state.past_pivot = True
    if type(step.then) is not tuple and index not in state.skipped and step.ways is None:
        _pass(state, step.then, result)


def _pass(state: State, then: Then, result: Any = None) -> None:
    """Something ended well that ``then`` follows. ``result``: a step's."""
    if type(then) is tuple or state.status is not RUNNING:
        return
    if then is None:
        state.past_end = True
    elif isinstance(then, Each):
        if result is None:  # it is skipped
            _pass(state, then.then)
            return
        group = grow(state.plan, then, result)
        state.branches_begun[group.index] = state.branches_ended[group.index] = 0
    else:
        assert isinstance(then, Group)
        state.branches_ended[then.index] = state.branches_ended.get(then.index, 0) + 1


def _step_failed(state: State, event: StepFailed) -> None:
    step = state.plan.by_name[event.step]
    index = step.index
    state.executing.discard(index)
    state.stragglers.discard(index)
    if event.executed:
        state.in_doubt.discard(index)
        state.verifying.discard(index)  # which may have told what cannot be kept
        withdraw(state, index)
        if is_a(event.error, NotReadyError):
            state.unready.add(index)
            _not_done(state, step)
        elif state.past_pivot and index not in state.skipped:  # from here there is only forward
            state.asking.add(index)  # done, and its outcome cannot be kept: another attempt would do it twice
        elif step.compensates:
            state.to_compensate.append(index)
    elif event.in_doubt or index in state.in_doubt:  # an attempt that did nothing settles nothing of those before it
        _doubt(state, step)
    else:
        _not_done(state, step)
        if state.past_pivot and index not in state.skipped and not is_a(event.error, Exception):
            state.to_rerun.add(index)  # it was to be called when an interrupt struck


def _not_done(state: State, step: PlannedStep) -> None:
    """The step's work is known not to be done, or not to be all that is waited for."""
    if state.past_pivot and step.index not in state.skipped and not step.gives_way:
        state.to_rerun.add(step.index)
    elif (step.compensate_on_failure or step.index in state.unready) and step.compensates:
        state.to_compensate.append(step.index)


def _step_timed_out(state: State, event: StepTimedOut) -> None:
    step = state.plan.by_name[event.step]
    state.executing.discard(step.index)
    if event.running:
        state.stragglers.add(step.index)
    elif step.pause is not None:  # nobody called it
        _not_done(state, step)
    else:
        _doubt(state, step)


def _doubt(state: State, step: PlannedStep) -> None:
    """Nobody knows whether the step's work is done."""
    state.in_doubt.add(step.index)
    if step.verifies:
        state.to_verify.add(step.index)
    else:
        _decide_doubt(state, step)


def _decide_doubt(state: State, step: PlannedStep) -> None:
    """Nothing tells what came of the step: what its policy says is to be done, unless that is decided."""
    index = step.index
    if index in state.to_rerun or index in state.to_compensate or index in state.left_in_doubt:
        return
    if step.in_doubt is InDoubt.ASK:
        state.asking.add(index)
    elif state.past_pivot and index not in state.skipped and not step.gives_way:
        state.to_rerun.add(index)
    elif step.compensates:
        state.to_compensate.append(index)


def _verification_started(state: State, event: VerificationStarted) -> None:
    index = state.plan.by_name[event.step].index
    state.to_verify.discard(index)
    state.verifying.add(index)
    state.verification_attempts[index] = event.attempt
    state.verification_retries.pop(index, None)


def _step_verified(state: State, event: StepVerified) -> None:
    step = state.plan.by_name[event.step]
    index = step.index
    state.verifying.discard(index)
    state.in_doubt.discard(index)
    asked_for = index in state.to_rerun  # by a person
    withdraw(state, index)
    if event.done:
        _done(state, step, event.result)
        return
    _not_done(state, step)
    if asked_for:
        state.to_rerun.add(index)


def _verification_failed(state: State, event: VerificationFailed) -> None:
    step = state.plan.by_name[event.step]
    state.verifying.discard(step.index)
    _decide_doubt(state, step)


def _step_skipped(state: State, event: StepSkipped) -> None:
    step = state.plan.by_name[event.step]
    state.to_skip.discard(step.index)
    state.skipped.add(step.index)
    _pass(state, step.then)


def _person_asked(state: State, event: PersonAsked) -> None:
    index = state.plan.by_name[event.step].index
    state.asking.add(index)
    state.exhausted.add(index)


def _fallback_chosen(state: State, event: FallbackChosen) -> None:
    index = state.plan.by_name[event.step].index
    state.skipped.add(index)
    state.falling_back.add(index)


def _way_chosen(state: State, event: WayChosen) -> None:
    step = state.plan.by_name[event.step]
    state.ways[step.index] = event.way
    if step.ways is not None and not step.ways.entries[event.way]:
        _pass(state, step.then)


def _signal_received(state: State, event: SignalReceived) -> None:
    state.signals.append((event.name, event.value))


def _group_merged(state: State, event: GroupMerged) -> None:
    state.merged.add(event.group)
    _pass(state, state.plan.groups[event.group].then)


def _retry_scheduled(state: State, event: RetryScheduled) -> None:
    index = state.plan.by_name[event.step].index
    if event.phase == COMPENSATE:
        state.compensating.add(index)
        state.compensation_retries[index] = event
        state.compensations_failed.pop(index, None)
    elif event.phase == VERIFY:
        state.verifying.add(index)
        state.verification_retries[index] = event  # what is decided holds if that tells nothing either
    else:
        state.retries[index] = event
        state.to_rerun.discard(index)


def _saga_compensating(state: State, event: SagaCompensating) -> None:
    change_status(state, event)
    state.cause = event.error
    state.failed = state.plan.by_name[event.step] if event.step is not None else None
    state.retries.clear()
    if state.exhausted:  # there is nothing to decide about them any more
        state.asking -= state.exhausted
        state.exhausted.clear()
    again = sorted(state.to_rerun & state.in_doubt)
    state.to_rerun.clear()
    for index in again:
        if index not in state.to_verify | state.verifying:
            _decide_doubt(state, state.plan.steps[index])


def _compensation_started(state: State, event: CompensationStarted) -> None:
    index = state.plan.by_name[event.step].index
    left = state.to_compensate
    if left and left[-1] == index:
        del left[-1]
    elif index in left:  # not there where this is another attempt
        left.remove(index)
    state.compensating.add(index)
    if state.status is RUNNING and index not in state.skipped:
        state.to_skip.add(index)
    if event.attempt > 1:
        state.compensation_attempts[index] = event.attempt
        state.compensation_retries.pop(index, None)
        state.compensation_stragglers.discard(index)  # whose process died


def _compensation_timed_out(state: State, event: CompensationTimedOut) -> None:
    index = state.plan.by_name[event.step].index
    state.compensating.discard(index)
    state.compensation_stragglers.add(index)


def _compensation_succeeded(state: State, event: CompensationSucceeded) -> None:
    index = state.plan.by_name[event.step].index
    state.compensating.discard(index)
    state.compensation_stragglers.discard(index)
    state.in_doubt.discard(index)


def _compensation_failed(state: State, event: CompensationFailed) -> None:
    index = state.plan.by_name[event.step].index
    state.compensating.discard(index)
    state.compensation_stragglers.discard(index)
    state.compensation_attempts[index] = event.attempt
    state.compensations_failed[index] = event.error


def _held_or_not(state: State, event: SagaHeld | SagaRecovered) -> None:
    state.held = isinstance(event, SagaHeld)


def _saga_paused(state: State, event: SagaPaused) -> None:
    change_status(state, event)
    state.pausing = None


FOLDS: Final[dict[type, Callable[[State, Any], None]]] = {
    SagaSubmitted: _saga_submitted,
    SagaStarted: _saga_started,
    StepStarted: _step_started,
    StepSucceeded: _step_succeeded,
    StepFailed: _step_failed,
    StepTimedOut: _step_timed_out,
    StepSkipped: _step_skipped,
    PersonAsked: _person_asked,
    RetryScheduled: _retry_scheduled,
    FallbackChosen: _fallback_chosen,
    WayChosen: _way_chosen,
    SignalReceived: _signal_received,
    GroupMerged: _group_merged,
    SagaCompensating: _saga_compensating,
    CompensationStarted: _compensation_started,
    CompensationSucceeded: _compensation_succeeded,
    CompensationFailed: _compensation_failed,
    CompensationTimedOut: _compensation_timed_out,
    SagaCompleted: change_status,
    SagaCompensated: change_status,
    SagaRewound: saga_rewound,
    SagaStuck: change_status,
    SagaHeld: _held_or_not,
    SagaPaused: _saga_paused,
    SagaRecovered: _held_or_not,
    MessageRefused: _nothing,
    OperatorActed: operator_acted,
    VerificationStarted: _verification_started,
    StepVerified: _step_verified,
    VerificationFailed: _verification_failed,
}
