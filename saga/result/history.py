"""What became of each step: records, folded from events. How they are told lives in :mod:`saga.result.report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saga.events import (
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    CompensationTimedOut,
    Effect,
    Event,
    OperatorActed,
    RetryScheduled,
    Status,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepStatus,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    UnitCompensating,
    VerificationFailed,
    VerificationStarted,
)
from saga.machine import Each, Plan, PlannedStep, State
from saga.machine.folds import fold
from saga.task import Task

__all__ = ["CompensationError", "History", "StepRecord", "fold_history"]


@dataclass(frozen=True, slots=True)
class CompensationError:
    """A compensation that failed for good: the step's name, its task and what it raised (with its traceback)."""

    step: str
    task: Task[Any]
    error: BaseException


@dataclass(slots=True)
class StepRecord:
    """What became of a step.

    :ivar name: the step's name.
    :ivar status: see :class:`~saga.events.StepStatus`.
    :ivar effect: see :class:`~saga.events.Effect`.
    :ivar in_doubt: whether nobody knows what came of one of its executes, and nothing has settled that; or its compensation has
        outlived its timeout and still runs.
    :ivar verified: what ``verify`` said last: that it was done, or that it was not; ``None`` where it was not asked, or did not
        know. :ivar verification_error: why it told nothing.
    :ivar attempts: calls of ``execute``.
    :ivar elapsed: seconds in all attempts of ``execute``.
    :ivar result: what ``execute`` returned.
    :ivar error: what the last failed attempt raised.
    :ivar compensation_attempts: calls of ``compensate``.
    :ivar compensation_error: what the last failed one raised.
    """

    name: str
    status: StepStatus = StepStatus.PENDING
    effect: Effect = Effect.NONE
    in_doubt: bool = False
    attempts: int = 0
    elapsed: float = 0.0
    result: Any = None
    error: BaseException | None = None
    verified: bool | None = None
    verification_error: BaseException | None = None
    compensation_attempts: int = 0
    compensation_error: BaseException | None = None


def fold_history(plan: Plan, events: Sequence[Event]) -> dict[str, StepRecord]:
    """Return a record of each step of ``plan``, by name."""
    history = History(plan)
    for event in events:
        history.take(event)
    return history.records()


class History:
    """Folds events into records, one after the other.

    :ivar state: what they make of the execution.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = State(plan)
        self._records = {name: StepRecord(name) for name in plan.names}  # and more, where the plan grows

    def take(self, event: Event) -> None:
        """Take the next event."""
        state = self.state
        fold(state, event)
        if not hasattr(event, "step") or event.step is None:
            return
        step = self.plan.by_name[event.step]
        record = self._records.get(event.step) or self._records.setdefault(event.step, StepRecord(event.step))
        match event:
            case StepStarted():
                record.status, record.attempts = StepStatus.RUNNING, event.attempt
            case StepSucceeded():
                record.elapsed += event.elapsed
                _done(record, event.result)
            case VerificationStarted():
                if record.status is not StepStatus.SKIPPED:
                    record.status = StepStatus.IN_DOUBT
            case StepVerified():
                record.verified, record.verification_error = event.done, None
                if event.done:
                    _done(record, event.result)
                else:
                    _failed(record, step)
            case VerificationFailed():
                record.verified, record.verification_error = None, event.error
            case StepFailed():
                record.elapsed += event.elapsed
                record.error = event.error
                if event.executed:
                    record.effect = Effect.STANDS
                _failed(record, step)
                if step.index in state.in_doubt and step.ways is None:  # a decision does nothing that could be doubted
                    record.status = StepStatus.IN_DOUBT
            case StepTimedOut():
                record.error, record.status = event.error, StepStatus.TIMED_OUT
                if not event.running:
                    record.elapsed += event.elapsed
            case StepSkipped():
                record.status = StepStatus.SKIPPED
            case UnitCompensating():
                record.error, record.status = event.error, StepStatus.COMPENSATING
                for inner in self.plan.within(step):
                    self._end(inner)
            case RetryScheduled():
                record.status = _WAITING[event.phase]
            case CompensationStarted():
                record.status, record.compensation_attempts = StepStatus.COMPENSATING, event.attempt
                record.effect = Effect.UNKNOWN  # until one ends well: one that failed may have undone a part
            case CompensationSucceeded():
                record.status, record.compensation_error, record.effect = StepStatus.COMPENSATED, None, Effect.UNDONE
            case OperatorActed(action="skip"):  # a person has seen to it
                record.status, record.compensation_error = StepStatus.SKIPPED, None
                record.effect = Effect.SETTLED
            case CompensationFailed():
                record.status, record.compensation_error = StepStatus.COMPENSATION_FAILED, event.error
            case CompensationTimedOut():
                record.compensation_error = event.error

    def _end(self, step: PlannedStep) -> None:
        """Nothing follows the step any more, as the saga, or a unit around it, gave up."""
        record = self._records.get(step.name)
        if record is None:
            return
        # Without its definition nobody knows that a step stands for a unit, but that nothing runs where all is undone.
        of_unit = step.content is not None or self.state.status is Status.COMPENSATED
        under_way = of_unit and record.status in (StepStatus.RUNNING, StepStatus.COMPENSATING)
        if record.status is StepStatus.WAITING or under_way:  # no other attempt was made
            record.status = StepStatus.FAILED
            record.error = self.state.cause if record.error is None else record.error

    def records(self) -> dict[str, StepRecord]:
        """Return what became of each step, by name. No event is taken after this."""
        state, records = self.state, self._records
        if state.cause is not None:
            for step in self.plan.steps:
                self._end(step)
        for step in self.plan.in_order():
            record = records.setdefault(step.name, StepRecord(step.name))
            looks = step.ways is not None or isinstance(step.then, Each)
            if step.pause is not None or step.content is not None or looks:  # neither it, nor a wait, does anything itself
                record.effect = Effect.NONE
                continue
            record.in_doubt = step.index in state.in_doubt | state.stragglers | state.compensation_stragglers
            if record.in_doubt or step.index in state.executing:
                record.effect = Effect.UNKNOWN
        return {step.name: records[step.name] for step in self.plan.in_order()} if self.plan.items else records


_WAITING = {"execute": StepStatus.WAITING, "verify": StepStatus.IN_DOUBT, "compensate": StepStatus.COMPENSATING}


def _done(record: StepRecord, result: Any) -> None:
    record.result, record.effect = result, Effect.STANDS
    if record.status is not StepStatus.SKIPPED:
        record.status = StepStatus.SUCCEEDED


def _failed(record: StepRecord, step: PlannedStep) -> None:
    if record.status is not StepStatus.SKIPPED:
        record.status = StepStatus.FAILED
    if record.effect is Effect.NONE and step.compensates and step.compensate_on_failure:
        record.effect = Effect.UNKNOWN  # until it is undone: it says that it may have done a part
