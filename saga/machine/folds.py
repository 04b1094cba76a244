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
    UnitCompensating,
    VerificationFailed,
    VerificationStarted,
    WayChosen,
)
from saga.machine.commands import COMPENSATE, VERIFY
from saga.machine.decided import begin_anew, change_status, operator_acted, saga_rewound, withdraw
from saga.machine.doubt import decide_doubt, doubt, go_no_further, not_done
from saga.machine.growing import grow
from saga.machine.plan import Content, Each, Group, PlannedStep, Then
from saga.machine.state import State, first_of

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
    (state.executing if step.content is None else state.units).add(index)
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
    if step.content is not None:
        state.units.discard(step.index)
        state.units_ended.discard(step.index)
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
        if then.index in state.tries_before:
            _know_again(state, group)
    elif isinstance(then, Content):
        if then.step.index in state.units - state.undoing.keys():
            state.units_ended.add(then.step.index)
    else:
        assert isinstance(then, Group)
        state.branches_ended[then.index] = state.branches_ended.get(then.index, 0) + 1


def _know_again(state: State, group: Group) -> None:
    """Other items are listed than before: a step with the name of one that was begun is that one's next attempt."""
    for step in state.plan.steps:
        if step.formerly in state.again and any(one is group for one, _ in step.branches):
            state.attempts[step.index] = state.tries_before[step.index] = state.attempt(step.formerly)
            state.again.add(step.index)


def _step_failed(state: State, event: StepFailed) -> None:
    step = state.plan.by_name[event.step]
    index = step.index
    if step.content is not None:
        _unit_failed(state, step)
    state.executing.discard(index)
    state.stragglers.discard(index)
    if event.executed:
        state.in_doubt.discard(index)
        state.verifying.discard(index)  # which may have told what cannot be kept
        withdraw(state, index)
        if is_a(event.error, NotReadyError):
            state.unready.add(index)
            not_done(state, step)
        elif state.past_pivot and index not in state.skipped and not step.units:  # from here there is only forward
            state.asking.add(index)  # done, and its outcome cannot be kept: another attempt would do it twice
        elif step.compensates:
            state.to_compensate.append(index)
    elif event.in_doubt or index in state.in_doubt:  # an attempt that did nothing settles nothing of those before it
        doubt(state, step)
    else:
        not_done(state, step)
        if state.past_pivot and index not in state.skipped and not is_a(event.error, Exception):
            state.to_rerun.add(index)  # it was to be called when an interrupt struck


def _unit_failed(state: State, unit: PlannedStep) -> None:
    """All of a unit is undone; what is known of its steps is not true of those that may be begun anew."""
    index = unit.index
    state.units.discard(index)
    gave_up = state.undoing.pop(index, None)
    if gave_up is not None:
        begin_anew(state, state.plan.within(unit), gave_up.again, len(unit.branches))


def _unit_compensating(state: State, event: UnitCompensating) -> None:
    unit = state.plan.by_name[event.step]
    inside = {step.index for step in state.plan.within(unit)}
    for inner in (*state.undoing.keys() & inside, *state.units & inside):
        state.undoing.pop(inner, None)
    state.units -= inside
    state.units_ended -= inside | {unit.index}
    state.undoing[unit.index] = event
    go_no_further(state, inside)
    state.to_skip -= inside
    state.falling_back -= inside


def _step_timed_out(state: State, event: StepTimedOut) -> None:
    step = state.plan.by_name[event.step]
    state.executing.discard(step.index)
    if event.running:
        state.stragglers.add(step.index)
    elif step.pause is not None:  # nobody called it
        not_done(state, step)
    else:
        doubt(state, step)


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
    not_done(state, step)
    if asked_for:
        state.to_rerun.add(index)


def _verification_failed(state: State, event: VerificationFailed) -> None:
    step = state.plan.by_name[event.step]
    state.verifying.discard(step.index)
    decide_doubt(state, step)


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
    if state.retries or state.exhausted or state.to_rerun:
        go_no_further(state, {*state.retries, *state.exhausted, *state.to_rerun})
    if state.units:
        state.units.clear()
        state.units_ended.clear()
        state.undoing.clear()


def _compensation_started(state: State, event: CompensationStarted) -> None:
    index = state.plan.by_name[event.step].index
    left = state.to_compensate
    if left and left[-1] == index:
        del left[-1]
    elif index in left:  # not there where this is another attempt
        left.remove(index)
    state.compensating.add(index)
    if index not in state.skipped and state.goes_forward(state.plan.steps[index]):
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
    UnitCompensating: _unit_compensating,
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
