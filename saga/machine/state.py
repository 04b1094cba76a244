"""The state of an execution, and what each kind of event does to it. Nothing else changes it, live or replayed.

``FOLDS`` has a function for each kind of event; :func:`saga.machine.resume.recover` and the decisions only read the state and
record events. ``TRANSITIONS`` says how an execution's status changes, and the folds ask it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from saga.events import (
    COMPENSATED,
    COMPENSATING,
    COMPLETED,
    RUNNING,
    STUCK,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    Event,
    FallbackChosen,
    GroupMerged,
    OperatorActed,
    RetryScheduled,
    SagaCompensated,
    SagaCompensating,
    SagaCompleted,
    SagaRecovered,
    SagaStarted,
    SagaStuck,
    SignalReceived,
    Status,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
)
from saga.machine.plan import Group, Plan, PlannedStep
from saga.policy import InDoubt

__all__ = ["FOLDS", "TRANSITIONS", "State", "Transition", "status_after"]


class State:
    """What is known of an execution. Steps stand for themselves by index; "running" is what its last event says of it.

    Where a set or dict says that a step is *in* it, the invariant beside it holds after every event.
    """

    __slots__ = (
        "asking",
        "attempts",
        "branches_ended",
        "cancelled",
        "cause",
        "compensating",
        "compensation_attempts",
        "compensation_retries",
        "compensations_failed",
        "executing",
        "failed",
        "falling_back",
        "merged",
        "past_end",
        "past_pivot",
        "plan",
        "retries",
        "signals",
        "skipped",
        "status",
        "stragglers",
        "to_compensate",
        "to_rerun",
        "to_skip",
    )

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.status: Status = RUNNING  #: changes as TRANSITIONS says, and in no other way
        self.cause: BaseException | None = None  #: why the execution gave up; None as long as it has not
        self.failed: PlannedStep | None = None  #: the step that raised the cause; None where no step did
        self.cancelled: OperatorActed | None = None  #: a person said to give up; obeyed at the next decision
        self.past_end = False  #: the flow's end was reached, so that it completes when nothing is under way
        self.past_pivot = False  #: the pivot has succeeded: nothing is compensated any more

        # What is under way. A step is in one of these at the most, but for a compensation that waits.
        self.executing: set[int] = set()  #: an execute, or a wait, that the saga waits for
        self.stragglers: set[int] = set()  #: an execute that outlived its timeout and still runs
        self.retries: dict[int, RetryScheduled] = {}  #: an execute that failed and is to be attempted again
        self.compensating: set[int] = set()  #: a compensation that runs, or is in compensation_retries too
        self.compensation_retries: dict[int, RetryScheduled] = {}  #: one that failed and is to be attempted again

        #: What there is to undo, in order of completion: succeeded or in doubt, has a compensation, and that has not begun.
        self.to_compensate: list[int] = []
        self.compensations_failed: dict[int, BaseException] = {}  #: compensations that failed for good, in the order tried

        # What is decided of a step that failed or is in doubt, and not done yet.
        self.asking: set[int] = set()  #: a person must decide; the execution is stuck when nothing else is under way
        self.to_rerun: set[int] = set()  #: to be executed again: a person said so, or it was cut off past the pivot
        self.to_skip: set[int] = set()  #: a person said to go on without it
        self.falling_back: set[int] = set()  #: its fallback is to start when it has ended and is undone; skipped too
        self.skipped: set[int] = set()  #: the saga goes on without it, for good

        self.attempts: dict[int, int] = {}  #: of executes; where there is none, it is the first
        self.compensation_attempts: dict[int, int] = {}  #: of compensations that failed or were attempted again
        self.branches_ended: dict[int, int] = {}  #: by group: how many of its branches ended well
        self.merged: set[int] = set()  #: groups whose branches' views are merged
        self.signals: dict[str, list[Any]] = {}  #: by name: the values that came and that no step has taken

    def apply(self, event: Event) -> None:
        """Fold an event."""
        FOLDS[type(event)](self, event)

    def attempt(self, index: int) -> int:
        """Return the number of the step's last attempt."""
        return self.attempts.get(index, 1)

    def calls_under_way(self) -> int:
        """Return how many calls run or are to be attempted again."""
        return len(self.executing) + len(self.compensating) + len(self.retries) + len(self.stragglers)

    def gave_up_on(self, step: PlannedStep) -> bool:
        """Whether the step outlived its timeout and nobody waits for it any more."""
        return step.index in self.stragglers and (step.index in self.skipped or self.status is not RUNNING)


class Transition(NamedTuple):
    """An execution's status ``before`` an event and ``after`` it; ``gave_up``: only where it had given up, or not."""

    before: Status
    event: type
    after: Status
    gave_up: bool | None = None


TRANSITIONS: Final = (
    Transition(RUNNING, SagaCompensating, COMPENSATING),
    Transition(RUNNING, SagaCompleted, COMPLETED),
    Transition(RUNNING, SagaStuck, STUCK),
    Transition(COMPENSATING, SagaCompensated, COMPENSATED),
    Transition(COMPENSATING, SagaStuck, STUCK),
    Transition(STUCK, OperatorActed, RUNNING, gave_up=False),
    Transition(STUCK, OperatorActed, COMPENSATING, gave_up=True),
)
_BY_EVENT: Final = {one.event: [two for two in TRANSITIONS if two.event is one.event] for one in TRANSITIONS}


def status_after(before: Status, event: type, gave_up: bool) -> Status:
    """Return the status after an event of that kind; ``gave_up``: whether a ``SagaCompensating`` came before."""
    for origin, _, after, only in _BY_EVENT.get(event, ()):
        if origin is before and (only is None or only is gave_up):
            return after
    return before


# -- the folds --------------------------------------------------------------------------------------------------------


def _nothing(state: State, event: Event) -> None:
    """An event that changes nothing."""


def _change_status(state: State, event: Event) -> None:
    state.status = status_after(state.status, type(event), state.cause is not None)


def _step_started(state: State, event: StepStarted) -> None:
    step = state.plan.by_name[event.step]
    index = step.index
    state.executing.add(index)
    if step.instead_of is not None:
        state.falling_back.discard(step.instead_of.index)
    if event.attempt > 1:
        state.attempts[index] = event.attempt
        state.stragglers.discard(index)
        state.retries.pop(index, None)
        state.asking.discard(index)
        state.to_rerun.discard(index)
        if index in state.to_compensate:  # what the attempt before left is this attempt's to answer for
            state.to_compensate.remove(index)


def _step_succeeded(state: State, event: StepSucceeded) -> None:
    step = state.plan.by_name[event.step]
    index = step.index
    state.executing.discard(index)
    state.stragglers.discard(index)
    if step.compensates:
        state.to_compensate.append(index)
    if step.pivot:
        state.past_pivot = True
    if step.pause is not None and step.pause.signal is not None:
        del state.signals[step.pause.signal][0]
    if type(step.then) is not tuple and index not in state.skipped:
        _pass(state, step.then)


def _pass(state: State, then: tuple[PlannedStep, ...] | Group | None) -> None:
    """Something ended well that ``then`` follows."""
    if type(then) is tuple or state.status is not RUNNING:
        return
    if then is None:
        state.past_end = True
    else:
        assert isinstance(then, Group)
        state.branches_ended[then.index] = state.branches_ended.get(then.index, 0) + 1


def _step_failed(state: State, event: StepFailed) -> None:
    step = state.plan.by_name[event.step]
    index = step.index
    state.executing.discard(index)
    state.stragglers.discard(index)
    if state.past_pivot and index not in state.skipped:  # from here there is only forward
        if event.executed:
            state.asking.add(index)  # done, and its outcome cannot be kept: another attempt would do it twice
        else:
            state.to_rerun.add(index)  # unless what follows says otherwise
    elif event.in_doubt:
        _doubt(state, step)
    elif (step.compensate_on_failure or event.executed) and step.compensates:
        state.to_compensate.append(index)


def _step_timed_out(state: State, event: StepTimedOut) -> None:
    step = state.plan.by_name[event.step]
    state.executing.discard(step.index)
    if event.running:
        state.stragglers.add(step.index)
    elif state.past_pivot:
        state.to_rerun.add(step.index)
    else:
        _doubt(state, step)


def _doubt(state: State, step: PlannedStep) -> None:
    if step.in_doubt is InDoubt.ASK:
        state.asking.add(step.index)
    elif step.compensates:
        state.to_compensate.append(step.index)


def _step_skipped(state: State, event: StepSkipped) -> None:
    step = state.plan.by_name[event.step]
    state.to_rerun.discard(step.index)
    state.to_skip.discard(step.index)
    state.skipped.add(step.index)
    _pass(state, step.then)


def _fallback_chosen(state: State, event: FallbackChosen) -> None:
    index = state.plan.by_name[event.step].index
    state.to_rerun.discard(index)
    state.skipped.add(index)
    state.falling_back.add(index)


def _signal_received(state: State, event: SignalReceived) -> None:
    state.signals.setdefault(event.name, []).append(event.value)


def _group_merged(state: State, event: GroupMerged) -> None:
    state.merged.add(event.group)
    _pass(state, state.plan.groups[event.group].then)


def _retry_scheduled(state: State, event: RetryScheduled) -> None:
    index = state.plan.by_name[event.step].index
    if event.compensation:
        state.compensating.add(index)
        state.compensation_retries[index] = event
        state.compensations_failed.pop(index, None)
    else:
        state.retries[index] = event
        state.to_rerun.discard(index)


def _saga_compensating(state: State, event: SagaCompensating) -> None:
    _change_status(state, event)
    state.cause = event.error
    state.failed = state.plan.by_name[event.step] if event.step is not None else None
    state.retries.clear()


def _compensation_started(state: State, event: CompensationStarted) -> None:
    index = state.plan.by_name[event.step].index
    left = state.to_compensate
    if left and left[-1] == index:
        del left[-1]
    elif index in left:  # not there where this is another attempt
        left.remove(index)
    state.compensating.add(index)
    if event.attempt > 1:
        state.compensation_attempts[index] = event.attempt
        state.compensation_retries.pop(index, None)


def _compensation_succeeded(state: State, event: CompensationSucceeded) -> None:
    state.compensating.discard(state.plan.by_name[event.step].index)


def _compensation_failed(state: State, event: CompensationFailed) -> None:
    index = state.plan.by_name[event.step].index
    state.compensating.discard(index)
    state.compensation_attempts[index] = event.attempt
    state.compensations_failed[index] = event.error


def _operator_acted(state: State, event: OperatorActed) -> None:
    _change_status(state, event)
    if event.action in ("cancel", "compensate"):
        if state.past_pivot:  # who recorded it did not know; nothing is undone any more
            return
        state.cancelled = event
        state.to_compensate.extend(index for index in sorted(state.asking) if state.plan.steps[index].compensates)
        state.asking.clear()
        _try_again(state)
    elif event.action == "resume":
        if state.status is RUNNING:
            state.to_rerun |= state.asking - state.skipped
            without = sorted(state.asking & state.skipped)  # the saga has gone on without these
            state.to_compensate.extend(index for index in without if state.plan.steps[index].compensates)
            state.asking.clear()
    elif event.action == "retry":
        _try_again(state)
    elif event.action == "skip" and event.step is not None:
        index = state.plan.by_name[event.step].index
        if state.status is RUNNING and index in state.asking - state.skipped:
            state.to_skip.add(index)
        state.asking.discard(index)
        state.compensations_failed.pop(index, None)


def _try_again(state: State) -> None:
    state.to_compensate.extend(reversed(state.compensations_failed))  # they were tried last first
    state.compensations_failed.clear()


FOLDS: Final[dict[type, Callable[[State, Any], None]]] = {
    SagaStarted: _nothing,
    StepStarted: _step_started,
    StepSucceeded: _step_succeeded,
    StepFailed: _step_failed,
    StepTimedOut: _step_timed_out,
    StepSkipped: _step_skipped,
    RetryScheduled: _retry_scheduled,
    FallbackChosen: _fallback_chosen,
    SignalReceived: _signal_received,
    GroupMerged: _group_merged,
    SagaCompensating: _saga_compensating,
    CompensationStarted: _compensation_started,
    CompensationSucceeded: _compensation_succeeded,
    CompensationFailed: _compensation_failed,
    SagaCompleted: _change_status,
    SagaCompensated: _change_status,
    SagaStuck: _change_status,
    SagaRecovered: _nothing,
    OperatorActed: _operator_acted,
}
