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
)
from saga.machine import Plan
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
    :ivar status: see :class:`~saga.events.StepStatus`.
    :ivar attempts: calls of ``execute``.
    :ivar elapsed: seconds in all attempts of ``execute``.
    :ivar result: what ``execute`` returned.
    :ivar error: what the last failed attempt raised.
    :ivar compensation_attempts: calls of ``compensate``; :ivar compensation_error: what the last failed one raised.
    """

    name: str
    status: StepStatus = StepStatus.PENDING
    attempts: int = 0
    elapsed: float = 0.0
    result: Any = None
    error: BaseException | None = None
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
    def results(self) -> Mapping[str, Any]:
        """What each step that succeeded returned, by step name."""
        return {event.step: event.result for event in self.events if isinstance(event, StepSucceeded)}

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
        """The steps whose effect may or may not have happened and that are not undone: still running, or to ask about."""
        doubtful = (StepStatus.TIMED_OUT, StepStatus.IN_DOUBT)
        still = _still_running(self.events)
        return tuple(record.name for record in self.history if record.status in doubtful or record.name in still)

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
    for event in events:
        if not hasattr(event, "step") or event.step is None:
            continue
        record = records[event.step]
        match event:
            case StepStarted():
                record.status, record.attempts = StepStatus.RUNNING, event.attempt
            case StepSucceeded():
                record.elapsed += event.elapsed
                record.result = event.result
                if record.status is not StepStatus.SKIPPED:
                    record.status = StepStatus.SUCCEEDED
            case StepFailed():
                record.elapsed += event.elapsed
                record.error = event.error
                if event.in_doubt:
                    record.status = StepStatus.IN_DOUBT
                elif record.status is not StepStatus.SKIPPED:
                    record.status = StepStatus.FAILED
            case StepTimedOut():
                record.error, record.status = event.error, StepStatus.TIMED_OUT
                if not event.running:
                    record.elapsed += event.elapsed
            case StepSkipped():
                record.status = StepStatus.SKIPPED
            case RetryScheduled():
                record.status = StepStatus.COMPENSATING if event.compensation else StepStatus.WAITING
            case CompensationStarted():
                record.status, record.compensation_attempts = StepStatus.COMPENSATING, event.attempt
            case CompensationSucceeded():
                record.status, record.compensation_error = StepStatus.COMPENSATED, None
            case OperatorActed(action="skip"):  # a person has seen to it
                record.status, record.compensation_error = StepStatus.SKIPPED, None
            case CompensationFailed():
                record.status, record.compensation_error = StepStatus.COMPENSATION_FAILED, event.error
    if any(isinstance(event, SagaCompensating) for event in events):
        for record in records.values():
            if record.status is StepStatus.WAITING:  # no other attempt was made: the saga gave up
                record.status = StepStatus.FAILED
    return records


def _still_running(events: Sequence[Event]) -> set[str]:
    late: set[str] = set()
    for event in events:
        if isinstance(event, StepTimedOut) and event.running:
            late.add(event.step)
        elif isinstance(event, (StepSucceeded, StepFailed)):
            late.discard(event.step)
    return late


def _line(record: StepRecord) -> str:
    text = str(record.status).replace("_", " ")
    if record.attempts:
        text += f" ({record.attempts} attempt{'s' if record.attempts > 1 else ''}, {record.elapsed * 1000:.1f} ms)"
    if record.error is not None:
        text += f"  {_one_line(record.error)}"
    if record.compensation_error is not None:
        text += f"  compensation: {_one_line(record.compensation_error)}"
    return text


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
