"""How an execution ended, and how it is told: pure data folded from events."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from saga.context import Context
from saga.errors import RecordedError, SagaCompensationError, SagaExecutionException
from saga.events import (
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    Effect,
    Event,
    OperatorActed,
    RetryScheduled,
    SagaCompensating,
    SagaStuck,
    Status,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepStatus,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    VerificationFailed,
    VerificationStarted,
)
from saga.machine import Plan, PlannedStep, State
from saga.machine.folds import fold
from saga.machine.log import Log
from saga.task import Task

__all__ = ["CompensationError", "SagaResult", "StepRecord"]


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
    :ivar status: see :class:`~saga.events.StepStatus`; :ivar effect: see :class:`~saga.events.Effect`.
    :ivar in_doubt: whether nobody knows what came of one of its executes, and nothing has settled that.
    :ivar verified: what ``verify`` said last: that it was done, or that it was not; ``None`` where it was not asked, or did not
        know. :ivar verification_error: why it told nothing.
    :ivar attempts: calls of ``execute``.
    :ivar elapsed: seconds in all attempts of ``execute``.
    :ivar result: what ``execute`` returned.
    :ivar error: what the last failed attempt raised.
    :ivar compensation_attempts: calls of ``compensate``; :ivar compensation_error: what the last failed one raised.
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


class SagaResult:
    """A snapshot of an execution.

    :param plan: what was executed; :param events: what happened; :param context: the execution's context.
    :param later: where it goes on, waits so many seconds for its end and returns its result then, or ``None``.
    :ivar saga: the saga's name; :ivar saga_id: the execution's id.
    :ivar status: see :class:`~saga.events.Status`. Not terminal while a step that timed out still runs: see
        :attr:`in_doubt` and :meth:`join`.
    :ivar error: what made the execution fail, or ``None``.
    :ivar failed_step: the name of the step that failed, or ``None``.
    """

    error: BaseException | None = None
    failed_step: str | None = None

    def __init__(
        self,
        plan: Plan,
        events: Log | Sequence[Event],
        context: Context,
        later: Callable[[float | None], SagaResult | None] | None = None,
    ) -> None:
        self._plan = plan
        self._log = log = events if isinstance(events, Log) else Log.of(plan, events)
        self._later = later
        self.context = context
        started: Any = log.entries[0]
        self.saga: str = started.saga
        self.saga_id: str = started.saga_id
        end = log.end
        if end is Status.COMPLETED:
            self.status: Status = end
            return
        self.error, failed = log.cause()
        if failed is not None:
            self.failed_step = failed.name
        self.status = end or log.state().status
        if end is None:  # the log goes on
            self.events = tuple(log.events)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """What happened, in order: see :mod:`saga.events`."""
        return tuple(self._log.events)

    @property
    def ok(self) -> bool:
        """Whether the execution completed."""
        return self.status is Status.COMPLETED

    @property
    def failed_task(self) -> Task[Any] | None:
        """The task that failed."""
        return self._plan.by_name[self.failed_step].task if self.failed_step is not None else None

    @cached_property
    def history(self) -> tuple[StepRecord, ...]:
        """A record of every step, in the order declared."""
        return tuple(fold_history(self._plan, self.events).values())

    @property
    def effects(self) -> Mapping[str, Effect]:
        """What is left of each step's work, by step name."""
        return {record.name: record.effect for record in self.history}

    @property
    def results(self) -> Mapping[str, Any]:
        """What each step that succeeded returned, or was found to have done, by step name."""
        done = (StepSucceeded, StepVerified)
        return {event.step: event.result for event in self.events if isinstance(event, done) and getattr(event, "done", True)}

    @property
    def elapsed(self) -> float:
        """Seconds from the first event to the last."""
        return self.events[-1].at - self.events[0].at

    @property
    def compensation_errors(self) -> tuple[CompensationError, ...]:
        """Each compensation that failed for good, in the order tried."""
        last: dict[str, BaseException] = {}
        for event in self.events:
            if isinstance(event, CompensationFailed):
                last[event.step] = event.error
            elif isinstance(event, CompensationSucceeded) or (isinstance(event, OperatorActed) and event.action == "skip"):
                last.pop(event.step or "", None)
        return tuple(CompensationError(name, self._plan.by_name[name].task, error) for name, error in last.items())

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """The steps whose effect may or may not have happened, and nothing has settled that: no later attempt, no
        verification, no compensation, no person. Among them those that still run after their timeout, and those that have
        no compensation: nothing will settle these.
        """
        return tuple(record.name for record in self.history if record.in_doubt)

    @property
    def reason(self) -> str | None:
        """Why the execution is stuck, or ``None``."""
        last = self.events[-1]
        return last.reason if isinstance(last, SagaStuck) else None

    def join(self, timeout: float | None = None) -> SagaResult:
        """Wait until the execution is terminal, and return its result then.

        :param timeout: seconds.
        :raises TimeoutError: it is not terminal by then.
        :raises BaseException: an interrupt that a step raised meanwhile.
        """
        return self._ended(self._later(timeout), timeout) if self._later is not None else self

    async def ajoin(self, timeout: float | None = None) -> SagaResult:
        """Wait as :meth:`join` does, without blocking the event loop."""
        import asyncio

        if self._later is None:
            return self
        clock = asyncio.get_running_loop().time
        end = None if timeout is None else clock() + timeout
        pause = 0.001
        # Not in a thread: that could be one which the execution needs for its store.
        while (found := self._later(0)) is None and (end is None or clock() < end):
            await asyncio.sleep(pause)
            pause = min(0.1, pause * 1.5)
        return self._ended(found, timeout)

    def _ended(self, found: SagaResult | None, timeout: float | None) -> SagaResult:
        if found is None:
            raise TimeoutError(f"saga {self.saga!r} ({self.saga_id}) is not terminal after {timeout} s")
        return found

    def report(self) -> str:
        """Return every step with what became of it, and each error with its traceback."""
        failed = f" at step {self.failed_step!r}" if self.failed_step else ""
        cause = f": {_one_line(self.error)}" if self.error else ""
        lines = [f"saga {self.saga!r} ({self.saga_id}) {_WORDS[self.status]}{failed}{cause}"]
        if self.reason:
            lines.append(f"a person must act: {self.reason}")
        if self.in_doubt:
            lines.append(f"in doubt: {', '.join(self.in_doubt)}")
        width = max((len(record.name) for record in self.history), default=0)
        lines.append("steps:")
        lines.extend(f"  {record.name:<{width}}  {_line(record)}" for record in self.history)
        if self.error is not None:
            lines += ["", f"failure{failed}:", _indented(self.error)]
        for failure in self.compensation_errors:
            lines += ["", f"compensation of step {failure.step!r} failed:", _indented(failure.error)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<SagaResult {self.saga!r} {self.saga_id} {self.status}>"


_WORDS = {
    Status.RUNNING: "still runs",
    Status.COMPENSATING: "failed and is not wholly undone yet",
    Status.COMPLETED: "completed",
    Status.COMPENSATED: "failed and was undone",
    Status.STUCK: "is stuck",
}


def fold_history(plan: Plan, events: Sequence[Event]) -> dict[str, StepRecord]:
    """Return a record of each step of ``plan``, by name."""
    records = {name: StepRecord(name) for name in plan.names}
    state = State(plan)
    for event in events:
        fold(state, event)
        if not hasattr(event, "step") or event.step is None:
            continue
        record = records[event.step]
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
                    _failed(record, plan.by_name[event.step])
            case VerificationFailed():
                record.verified, record.verification_error = None, event.error
            case StepFailed():
                record.elapsed += event.elapsed
                record.error = event.error
                if event.executed:
                    record.effect = Effect.STANDS
                _failed(record, plan.by_name[event.step])
                if plan.by_name[event.step].index in state.in_doubt:
                    record.status = StepStatus.IN_DOUBT
            case StepTimedOut():
                record.error, record.status = event.error, StepStatus.TIMED_OUT
                if not event.running:
                    record.elapsed += event.elapsed
            case StepSkipped():
                record.status = StepStatus.SKIPPED
            case RetryScheduled():
                record.status = _WAITING[event.phase]
            case CompensationStarted():
                record.status, record.compensation_attempts = StepStatus.COMPENSATING, event.attempt
                record.effect = Effect.UNKNOWN  # until one ends well: one that failed may have undone a part
            case CompensationSucceeded():
                record.status, record.compensation_error, record.effect = StepStatus.COMPENSATED, None, Effect.UNDONE
            case OperatorActed(action="skip"):  # a person has seen to it
                record.status, record.compensation_error = StepStatus.SKIPPED, None
                record.effect = Effect.UNKNOWN if state.cause is None else Effect.UNDONE
            case CompensationFailed():
                record.status, record.compensation_error = StepStatus.COMPENSATION_FAILED, event.error
    if any(isinstance(event, SagaCompensating) for event in events):
        for record in records.values():
            if record.status is StepStatus.WAITING:  # no other attempt was made: the saga gave up
                record.status = StepStatus.FAILED
    for step in plan.steps:
        record = records[step.name]
        if step.pause is not None:  # a wait leaves nothing
            record.effect = Effect.NONE
            continue
        record.in_doubt = step.index in state.in_doubt or step.index in state.stragglers
        if record.in_doubt or step.index in state.executing:
            record.effect = Effect.UNKNOWN
    return records


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


def _line(record: StepRecord) -> str:
    text = ", ".join([str(record.status).replace("_", " "), *told_besides(record)])
    if record.attempts:
        text += f" ({record.attempts} attempt{'s' if record.attempts > 1 else ''}, {record.elapsed * 1000:.1f} ms)"
    if record.error is not None:
        text += f"  {_one_line(record.error)}"
    if record.verification_error is not None:
        text += f"  verification: {_one_line(record.verification_error)}"
    if record.compensation_error is not None:
        text += f"  compensation: {_one_line(record.compensation_error)}"
    return text


def told_besides(record: StepRecord) -> list[str]:
    """Return what a step's status does not tell: that it is in doubt, was verified, or was undone before it was skipped."""
    told = []
    if record.in_doubt and record.status not in (StepStatus.IN_DOUBT, StepStatus.TIMED_OUT):
        told.append("in doubt")
    if record.status is StepStatus.SKIPPED and record.effect is Effect.UNDONE:
        told.append("undone")
    if record.verified is not None:
        told.append("verified: done" if record.verified else "verified: not done")
    return told


def _one_line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip().partition("\n")[0]


def _indented(error: BaseException) -> str:
    if isinstance(error, RecordedError) and error.traceback_text:  # another process's, or this one's of long ago
        text = error.traceback_text.rstrip()
    else:
        text = "".join(traceback.format_exception(error)).rstrip()
    return "\n".join(f"  {line}" for line in text.splitlines())


def ok(result: SagaResult) -> SagaResult:
    """Return the result of an execution that ended well, or goes on beside a straggler nobody waits for.

    :raises SagaExecutionException: it failed.
    """
    if result.status is Status.COMPLETED or (result.status is Status.RUNNING and result.error is None):
        return result
    raise failure_of(result)  # no local has it: see saga.drivers.results


def failure_of(result: SagaResult) -> SagaExecutionException:
    """Return the exception that tells of an execution that failed."""
    kind = SagaCompensationError if result.compensation_errors else SagaExecutionException
    failure = kind(result=result)
    failure.__cause__ = result.error
    return failure
