"""A result: a snapshot of an execution, and what it is raised as. How it is told lives in :mod:`saga.result.report`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic

from saga.context import Ctx, Ctx_co
from saga.errors import SagaCompensationError, SagaDefinitionError, SagaExecutionException
from saga.events import (
    CompensationFailed,
    CompensationSucceeded,
    Effect,
    Event,
    OperatorActed,
    SagaPaused,
    SagaRewound,
    SagaStuck,
    Status,
    StepSucceeded,
    StepVerified,
)
from saga.machine import Plan, Standing, State, standing_of
from saga.machine.folds import fold
from saga.machine.log import Log
from saga.plain import one_line
from saga.policy import Seconds, in_seconds, is_seconds
from saga.result import report
from saga.result.carried import Carrier
from saga.result.history import CompensationError, StepRecord, fold_history
from saga.task import Task

__all__ = ["SagaResult", "failure_of", "ok", "undone"]


class SagaResult(Generic[Ctx_co]):
    """A snapshot of an execution.

    :param plan: what was executed.
    :param events: what happened.
    :param context: the execution's context.
    :param later: where it goes on, waits so many seconds for its end and returns its result then, or ``None``.
    :ivar saga: the saga's name.
    :ivar saga_id: the execution's id.
    :ivar status: see :class:`~saga.events.Status`. Not terminal while a step that timed out still runs: see
        :attr:`in_doubt` and :meth:`join`.
    :ivar error: what made the execution fail, or what a person is asked about; or ``None``.
    :ivar failed_step: the name of the step that failed, or ``None``.
    """

    error: BaseException | None = None
    failed_step: str | None = None
    _stored = False  # whether there is a store, where operators can act on it

    def __init__(
        self,
        plan: Plan,
        events: Log | Sequence[Event],
        context: Ctx_co,
        later: Callable[[float | None], SagaResult[Ctx_co] | None] | None = None,
    ) -> None:
        self._plan = plan
        self._log = log = events if isinstance(events, Log) else Log.of(plan, events)
        self._later = later
        self.context: Ctx_co = context
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
        if self.error is None and self.status is Status.STUCK and log.state().exhausted:
            self.failed_step = plan.steps[min(log.state().exhausted)].name
            self.error = log.last_failure(self.failed_step).error
        self._stored = context.__binding__.recorded is not None
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

    @cached_property
    def failed_task(self) -> Task[Any] | None:
        """The task that failed, as it was added; where a resolver makes tasks, the one that it made last."""
        return self._task_of(self.failed_step) if self.failed_step is not None else None

    def _task_of(self, name: str) -> Task[Any]:
        made = self.context.__binding__.made
        return (made or {}).get(name) or self._plan.by_name[name].inner_task

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
        found = {event.step: event.result for event in self.events if isinstance(event, done) and getattr(event, "done", True)}
        return {**found, **self._merged}

    @cached_property
    def _merged(self) -> dict[str, Any]:
        """The lists of branches' results, by the steps that have listed what they were for, where these have ended."""
        if not self._plan.grows:
            return {}
        known = self.context.__binding__.results
        listed = [group.each for group in self._plan.groups if group.each is not None]
        return {name: known[name] for name in listed if name in known}

    @property
    def elapsed(self) -> float:
        """Seconds from the first event to the last."""
        return self.events[-1].at - self.events[0].at

    @cached_property
    def compensation_errors(self) -> tuple[CompensationError, ...]:
        """Each compensation that failed for good, in the order tried."""
        last: dict[str, BaseException] = {}
        for event in self.events:
            if isinstance(event, CompensationFailed):
                last[event.step] = event.error
            elif isinstance(event, CompensationSucceeded) or (isinstance(event, OperatorActed) and event.action == "skip"):
                last.pop(event.step or "", None)
        return tuple(CompensationError(name, self._task_of(name), error) for name, error in last.items())

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """The steps whose effect may or may not have happened, and nothing has settled that: no later attempt, no
        verification, no compensation, no person. Among them those of which a call still runs after its timeout, and those
        that have no compensation: nothing will settle these.
        """
        return tuple(record.name for record in self.history if record.in_doubt)

    @property
    def reason(self) -> str | None:
        """Why the execution is stuck or paused, or ``None``."""
        last = self.events[-1]
        return last.reason if isinstance(last, SagaStuck | SagaPaused | SagaRewound) else None

    @cached_property
    def _standing(self) -> Standing:
        state = State(self._plan)
        for event in self.events:
            fold(state, event)
        return standing_of(state)

    @cached_property
    def _fingerprint(self) -> str:
        return self._plan.fingerprint

    def join(self, timeout: Seconds | None = None) -> SagaResult[Ctx_co]:
        """Wait until the execution is terminal, and return its result then.

        :param timeout: seconds, or a ``timedelta``.
        :raises TimeoutError: it is not terminal by then.
        :raises BaseException: an interrupt that a step raised meanwhile.
        """
        patience = _patience(timeout)
        return self._ended(self._later(patience), patience) if self._later is not None else self

    async def ajoin(self, timeout: Seconds | None = None) -> SagaResult[Ctx_co]:
        """Wait as :meth:`join` does, without blocking the event loop."""
        import asyncio

        patience = _patience(timeout)
        if self._later is None:
            return self
        clock = asyncio.get_running_loop().time
        end = None if patience is None else clock() + patience
        pause = 0.001
        # Not in a thread: that could be one which the execution needs for its store.
        while (found := self._later(0)) is None and (end is None or clock() < end):
            await asyncio.sleep(pause)
            pause = min(0.1, pause * 1.5)
        return self._ended(found, patience)

    def _ended(self, found: SagaResult[Any] | None, timeout: float | None) -> SagaResult[Any]:
        if found is None:
            raise TimeoutError(f"saga {self.saga!r} ({one_line(self.saga_id)}) is not terminal after {timeout} s")
        return found

    def headline(self) -> str:
        """Return in one line how the execution stands, and why. ``args`` of the exception has this."""
        return report.headline(self)

    def summary(self) -> str:
        """Return in a few lines how the execution stands: the headline, each step, each error in a line.

        Of more than 50 steps, those that are alike are counted. ``str()`` of the exception says this.
        """
        return report.summary(self)

    def report(self) -> str:
        """Return every step with what became of it, and each error with its traceback: once, with those of its causes.

        So it has the errors of attempts that were made again, of steps skipped or replaced, and of sagas within steps.
        """
        return report.report(self)

    def __repr__(self) -> str:
        return f"<SagaResult {self.saga!r} {one_line(self.saga_id)} {self.status}>"

    # -- copies -------------------------------------------------------------------------------------------------------

    def __copy__(self) -> SagaResult[Ctx_co]:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> SagaResult[Ctx_co]:
        """Return a copy with a context of its own. What happened is what happened: events and errors are shared."""
        twin = memo[id(self)] = self.__copy__()
        twin.__dict__["_merged"] = self._merged  # which this context tells, and a copy of it does not
        twin.context = self.context.__copy__()
        for key, value in self.context.__dict__.items():
            try:
                twin.context.__dict__[key] = copy.deepcopy(value, memo)
            except Exception:  # a lock, a connection: it is shared
                continue
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        carrier = Carrier()
        facts: dict[str, Any] = {name: carrier.value(getattr(self, name)) for name in _FACTS}
        facts["context"] = carrier.context(self.context)
        facts["_merged"] = {name: carrier.value(found) for name, found in self._merged.items()}
        for name in ("events", "history", "compensation_errors"):
            facts[name] = tuple(map(carrier.record, getattr(self, name)))
        return _unpickled, (facts,)


_FACTS = (
    *("saga", "saga_id", "status", "error", "failed_step", "failed_task"),
    *("_stored", "_standing", "_fingerprint"),
)


def _unpickled(facts: dict[str, Any]) -> SagaResult:
    result = object.__new__(SagaResult)
    result.__dict__.update(facts, _later=None)
    return result


def ok(result: SagaResult[Ctx]) -> SagaResult[Ctx]:
    """Return the result of an execution that ended well, or goes on beside a straggler nobody waits for.

    :raises SagaExecutionException: it failed.
    """
    if result.status is Status.COMPLETED or (result.status is Status.RUNNING and result.error is None):
        return result
    raise failure_of(result)  # no local has it: see saga.drivers.results


def undone(result: SagaResult[Ctx]) -> SagaResult[Ctx]:
    """Return the result of an execution that was undone on request.

    :raises SagaCompensationError: it is stuck.
    """
    if result.status is not Status.STUCK:
        return result
    raise failure_of(result)


def failure_of(result: SagaResult) -> SagaExecutionException:
    """Return the exception that tells of an execution that failed."""
    kind = SagaCompensationError if result.compensation_errors else SagaExecutionException
    failure = kind(result=result)
    failure.__cause__ = result.error
    return failure


def _patience(given: Seconds | None) -> float | None:
    seconds = in_seconds(given)
    if seconds is not None and not is_seconds(seconds):
        raise SagaDefinitionError(f"join(): timeout is {given!r}; give seconds, 0 or more, or None for no limit")
    return seconds  # type: ignore[no-any-return]
