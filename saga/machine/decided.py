"""What a person's decisions do to the state, and what undoes decisions. With :mod:`saga.machine.folds`, all that changes it."""

from __future__ import annotations

from collections.abc import Iterable

from saga.events import PAUSED, RUNNING, Event, OperatorActed, SagaRewound
from saga.machine.following import following
from saga.machine.plan import PlannedStep
from saga.machine.state import State, status_after
from saga.policy import InDoubt

__all__ = ["begin_anew", "change_status", "operator_acted", "saga_rewound", "withdraw"]


def change_status(state: State, event: Event) -> None:
    """Let the status be what it is after an event."""
    state.status = status_after(state.status, type(event), state.cause is not None, state.unbegun)


def withdraw(state: State, index: int) -> None:
    """Nothing is decided of the step any more."""
    state.asking.discard(index)
    state.exhausted.discard(index)
    state.to_rerun.discard(index)
    state.to_verify.discard(index)
    if index in state.to_compensate:
        state.to_compensate.remove(index)


def operator_acted(state: State, event: OperatorActed) -> None:
    """A person decided."""
    paused = state.status is PAUSED
    if event.action == "pause":
        state.held, state.pausing = True, event
        return
    change_status(state, event)
    if event.action in ("cancel", "compensate"):
        if state.past_pivot:  # who recorded it did not know; nothing is undone any more
            return
        state.pausing = None
        if state.cause is None:
            state.cancelled = event
        state.to_compensate[:0] = state.kept
        state.kept, state.undone_to = [], None
        asked_about = {i for i in state.to_verify | state.verifying if state.plan.steps[i].in_doubt is InDoubt.ASK}
        _undo_asked(state, (state.asking - state.exhausted) | (state.exhausted & state.in_doubt) | state.to_rerun | asked_about)
        state.asking.clear()
        state.exhausted.clear()
        state.to_rerun.clear()
        _try_again(state)
    elif event.action == "resume":
        if state.undone_to is not None and state.status is RUNNING:
            state.to_rerun.update(step.index for step in _entry_after(state, state.undone_to))
            state.undone_to = None
        elif state.status is RUNNING and not paused:
            left = {index for index in state.asking if state.goes_on_without(state.plan.steps[index])}
            again = state.asking - left
            state.in_doubt |= again - state.exhausted  # done or not: what came of it could not be kept
            state.to_rerun |= again
            state.to_verify.update(index for index in again & state.in_doubt if state.plan.steps[index].verifies)
            _undo_asked(state, left)  # the saga has gone on without these
            state.asking.clear()
            state.exhausted.clear()
    elif event.action == "retry":
        _try_again(state)
    elif event.action == "undo":
        state.cancelled = event
        if event.step is not None:
            step = state.plan.by_name[event.step]
            after = {later.index for later in following(*step.onward)}
            state.undone_to, everything = step.index, state.to_compensate
            state.kept = [index for index in everything if index not in after]
            state.to_compensate = [index for index in everything if index in after]
    elif event.action == "skip" and event.step is not None:
        index = state.plan.by_name[event.step].index
        if index in state.asking and not state.goes_on_without(state.plan.steps[index]):
            state.to_skip.add(index)
        if index in state.asking:
            withdraw(state, index)
        state.compensations_failed.pop(index, None)
        state.in_doubt.discard(index)


def _undo_asked(state: State, asked: set[int]) -> None:
    """A person says that these are to be undone; what a verification says, it may be able to say by now."""
    for index in sorted(asked):
        step = state.plan.steps[index]
        if step.verifies and index in state.in_doubt - state.verifying:
            state.to_verify.add(index)
        if not step.compensates:
            state.left_in_doubt.add(index)
        elif index not in state.to_compensate:
            state.to_compensate.append(index)


def _try_again(state: State) -> None:
    state.to_compensate.extend(reversed(state.compensations_failed))  # they were tried last first
    state.compensations_failed.clear()


def _entry_after(state: State, index: int) -> tuple[PlannedStep, ...]:
    """Return the steps to be started when this one, which stands in no group, has ended."""
    step = state.plan.steps[index]
    then = (step.ways and step.ways.entries.get(state.ways.get(index, ""))) or step.then
    assert isinstance(then, tuple)
    return then


def saga_rewound(state: State, event: SagaRewound) -> None:
    """All is as it was when the step had ended, but for what is known of those after it."""
    change_status(state, event)
    state.cause = state.failed = state.cancelled = None
    state.past_end = False
    state.to_compensate, state.kept = state.kept, []
    begin_anew(state, following(*state.plan.by_name[event.step].onward), event.again)


def begin_anew(state: State, undone: Iterable[PlannedStep], again: Iterable[str], around: int = 0) -> None:
    """Forget what is known of steps that are undone, as the saga comes to them once more.

    :param again: those of them that were begun, and are executed again.
    :param around: how many groups stand around all of them, which go on.
    """
    for step in undone:
        for decided in (state.skipped, state.to_skip, state.falling_back, state.left_in_doubt, state.unready):
            decided.discard(step.index)
        state.compensation_attempts.pop(step.index, None)
        state.ways.pop(step.index, None)
        for group, _ in step.branches[around:]:
            state.branches_begun.pop(group.index, None)
            state.branches_ended.pop(group.index, None)
            state.merged.discard(group.index)
    for name in again:
        index = state.plan.by_name[name].index
        state.attempts[index] = state.tries_before[index] = state.attempt(index)
        state.again.add(index)
