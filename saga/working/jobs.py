"""Executions that a worker has claimed: each is taken up, run and ended, or parked, or left to others. No thread lives here."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from saga.drivers.aio import AsyncExecution
from saga.drivers.observing import has_struck
from saga.drivers.results import raised_or, result_of
from saga.drivers.threads import Execution
from saga.durable.entries import made_progress, write_entries
from saga.durable.journal import Journal
from saga.durable.leases import keeper_of, owner
from saga.durable.rebuild import codec_of, entries_of, take_up
from saga.durable.told import told_by
from saga.errors import (
    DefinitionChangedError,
    LeaseLostError,
    StorageError,
    UnknownExecutionError,
    UnreadableJournalError,
)
from saga.events import STUCK, SagaStuck
from saga.machine import Plan
from saga.own_log import LOG
from saga.policy import Backoff, ExponentialBackoff, Retry, Seconds
from saga.storage.protocol import Store
from saga.storage.records import Entry, Lease, StoredExecution
from saga.working.definitions import Definitions
from saga.working.telling import say_that_it_is_stuck, tell_of_stuck

__all__ = ["BACKOFF", "Job", "Jobs", "Parked", "seconds_to_wait"]

BACKOFF: Final = ExponentialBackoff(1.0, cap=300.0)
_MOST_FAULTS: Final = 10_000
"""Executions of which it is known how often the store failed them, at most."""


class Parked(NamedTuple):
    """An execution that a worker left to a person, as stuck, and why."""

    saga_id: str
    saga: str
    reason: str


class Job:
    """An execution that was claimed.

    :ivar asynchronous: whether an event loop is to run it, as far as is known.
    :ivar entries: its journal, where that was read with others'.
    :ivar mail: whether there are messages to read.
    :ivar execution: what runs it, from when it is taken up until it has ended.
    :ivar context: in which its calls are made in a thread: what they set there is gone with it.
    """

    __slots__ = ("__weakref__", "asynchronous", "context", "entries", "execution", "lease", "mail", "row")

    def __init__(self, row: StoredExecution, asynchronous: bool) -> None:
        self.row = row
        self.asynchronous = asynchronous
        self.lease = Lease(row.saga_id, owner(), row.epoch)
        self.entries: list[Entry] | None = None
        self.mail = False
        self.execution: Execution | AsyncExecution | None = None
        self.context = contextvars.copy_context()

    def notify(self) -> None:
        self.mail = True

    def vouches(self) -> bool:
        return False  # it waits until it is taken up

    def place(self) -> None:
        return None  # nobody has begun to run it here


class Jobs:
    """Takes up, runs and ends what was claimed. Called from several threads at once.

    :param max_attempts: claims of an execution, without a step's outcome between them, before a person must act.
    :param backoff: what to wait after one that failed.
    :param faults: by execution, how often in a row the store has failed it.
    :ivar live: what was claimed, and is not done with yet.
    :param take: is given each result, and a :class:`Parked` for each that is left to a person.
    """

    def __init__(
        self,
        store: Store,
        definitions: Definitions,
        max_attempts: int,
        backoff: Seconds | Backoff,
        faults: dict[str, int],
        take: Callable[[Any], object],
    ) -> None:
        self.store = store
        self.definitions = definitions
        self.max_attempts = max_attempts
        self.take = take
        self._retry = Retry(max_attempts, backoff)
        self.live: set[Job] = set()
        self._faults = faults
        self._keeper = keeper_of(store)
        self._lock = threading.Lock()

    def claimed(self, rows: list[StoredExecution]) -> list[Job]:
        """Keep the leases of what was claimed, and read what is stored of it, all at once."""
        jobs = [Job(row, self.definitions.of(row).plan.asynchronous) for row in rows]
        self.live.update(jobs)
        for one in jobs:
            self._keeper.hold(one.lease, self.definitions.lease, one, waits=True)
        if len(jobs) > 1:  # else it is read where it is run
            self._read(jobs)
        return jobs

    def _read(self, jobs: list[Job]) -> None:
        """Read what is stored of them."""
        ids = [one.row.saga_id for one in jobs]
        try:
            journals, mail = self.store.journals(ids), self.store.with_mail(ids)
        except Exception:
            return  # each is asked for by itself, and only what is wrong with it fails
        for one in jobs:
            one.entries = journals.get(one.row.saga_id)
            one.mail = one.mail or one.row.saga_id in mail

    def leave(self, jobs: Iterable[Job]) -> None:
        """Leave to others what was not taken up, or what an interrupt cut off."""
        # A thread sees to stragglers, and to the lease then.
        left = [job for job in jobs if job.execution is None or job.execution.ended is None]
        for job in left:  # all of them first: giving back takes time, and may be interrupted
            self._keeper.drop(job.lease)
        for job in left:
            self._keeper.give_back(job.lease, untried=job.execution is None)
            self.live.discard(job)

    def take_up(self, job: Job) -> Execution | AsyncExecution | None:
        """Return what goes on with an execution, or be done with it: it is parked, or left to another or for later."""
        row, lease = job.row, job.lease
        if not self._keeper.take(lease):
            # The heartbeat is about to give it back. It is given back here too, before more is claimed.
            LOG.info("saga %s is left to another worker: those before it took long", row.saga_id)
            self.leave([job])
            return None
        try:
            definition = self.definitions.of(row)
            if job.entries is None:
                self._read([job])
            mail = job.mail or job.entries is None
            entries = job.entries or entries_of(self.store, row.saga_id)
            if row.recoveries > self.max_attempts and not made_progress(entries, self.max_attempts):
                often = "once" if self.max_attempts == 1 else f"{self.max_attempts} times"
                self.park(row, lease, f"it was tried {often} and got no further")
                self.live.discard(job)
                return None
            execution: Execution | AsyncExecution = take_up(definition, _driver_of, row, self.store, entries, mail)
            if mail:
                execution.notify()
            execution.recovers = True
            assert isinstance(execution.journal, Journal)
            ahead = StorageError("the store could not do what it was asked to")  # nobody knows yet what it will say
            execution.journal.backoff = self._delay(self._faults.get(row.saga_id, 0) + 1, ahead)
            job.execution = execution
            return execution
        except UnreadableJournalError as error:
            if error.may_pass:
                self._fail(job, error)
            else:
                self.park(row, lease, str(error))
        except DefinitionChangedError as error:
            self.park(row, lease, str(error))
        except (LeaseLostError, UnknownExecutionError) as error:
            self._keeper.drop(lease)
            LOG.info("saga %s is left to another worker: %s", row.saga_id, error)
        except StorageError as error:
            delay = self._after_fault(row, error)
            LOG.error("saga %s cannot be read: %s; trying again in %g s", row.saga_id, error, delay)
            self._keeper.give_back(lease, delay=delay, untried=True)
        except BaseException as error:
            self._fail(job, error)
        finally:
            job.entries = None
        self.live.discard(job)
        return None

    def let_wait(self, job: Job) -> None:
        """Take that an execution waits for others: where :meth:`take_turn` is not called soon, its lease is given back."""
        self._keeper.wait(job.lease)

    def take_turn(self, job: Job, execution: Execution) -> bool:
        """Run an execution in this thread for one call. Return whether it takes another turn; else it is done with."""
        if execution.machine.ended or self._keeper.take(job.lease):
            return self.run(job, execution, turn=True)
        LOG.info("saga %s is left to another worker: those before it took long", job.row.saga_id)
        self.live.discard(job)
        job.execution = None
        return False

    def run(self, job: Job, execution: Execution, *, turn: bool = False) -> bool:
        """Run an execution in this thread as far as it goes, or for a ``turn``. Return whether it takes another."""
        try:
            if not turn:
                execution.run()
            elif execution.take_turn():
                return True
            self._faults.pop(job.row.saga_id, None)
        except BaseException as error:
            self._struck(job, execution, error)
        else:
            self._end(job, execution)
        self.live.discard(job)
        job.execution = None
        return False

    async def arun(self, job: Job, execution: AsyncExecution) -> None:
        """Run an execution in the running event loop, as far as it goes."""
        try:
            await execution.run()
            self._faults.pop(job.row.saga_id, None)
        except BaseException as error:
            self._struck(job, execution, error)
        else:
            self._end(job, execution)
        self.live.discard(job)
        job.execution = None

    def park(self, row: StoredExecution, lease: Lease, reason: str) -> None:
        """End the execution as stuck, for a person to act."""
        definition = self.definitions.of(row)
        try:
            journal = self.store.journal(row.saga_id)
            written = max((entry.seq for entry in journal), default=0)  # some may be missing
            stuck = SagaStuck(reason, self.store.now())
            entries = write_entries([stuck], written, {}, codec_of(definition))
            self.store.append(lease, entries, status="stuck", release=True, told=told_by(row, [stuck]))
            self._keeper.drop(lease)
            self.take(Parked(row.saga_id, row.name, reason))
            tell_of_stuck(definition, row, journal, stuck)
        except StorageError as error:
            delay = self._after_fault(row, error)
            LOG.error("saga %s could not be stored as stuck: %s; trying again in %g s", row.saga_id, error, delay)
            self._keeper.give_back(lease, delay=delay, untried=True)

    def _end(self, job: Job, execution: Execution | AsyncExecution) -> None:
        """Take the result of an execution that has run."""
        raised = execution.interrupt
        if raised is not None and has_struck(raised):
            raised_or(execution)
        if raised is not None:
            LOG.error("in saga %s %r was raised; others are not kept back", job.row.saga_id, raised)
        if not execution.abandoned:
            result = result_of(execution)
            self.take(result)
            if result.status is STUCK:
                say_that_it_is_stuck(self.definitions.of(job.row), result)

    def _struck(self, job: Job, execution: Execution | AsyncExecution, error: BaseException) -> None:
        """Be done with an execution that could not be run to its end here."""
        saga_id = job.row.saga_id
        if not isinstance(error, StorageError):
            self._fail(job, error)
            return
        if isinstance(error, LeaseLostError):  # the execution has given its lease back
            LOG.error("saga %s stopped here: %s", saga_id, error)
        else:
            delay = self._after_fault(job.row, error)
            LOG.error("saga %s stopped here: %s; trying again in %g s", saga_id, error, delay)
        if execution.interrupt is not None and has_struck(execution.interrupt):
            raise execution.interrupt from error

    def _fail(self, job: Job, error: BaseException) -> None:
        """Leave an execution for later, or to a person where it was tried often."""
        if has_struck(error):
            raise error
        row = job.row
        if row.recoveries >= self.max_attempts:
            often = "once" if row.recoveries == 1 else f"{row.recoveries} times, at last"
            self.park(row, job.lease, f"it failed {often} with: {error}")
        else:
            delay = self._delay(row.recoveries, error)
            LOG.error("saga %s failed here; trying again in %g s", row.saga_id, delay, exc_info=error)
            self._keeper.give_back(job.lease, delay=delay)

    def _after_fault(self, row: StoredExecution, error: StorageError) -> float:
        """Return the seconds to wait after the store has failed an execution once more: it is not the execution's fault."""
        with self._lock:
            faults = self._faults[row.saga_id] = self._faults.pop(row.saga_id, 0) + 1
            if len(self._faults) > _MOST_FAULTS:
                del self._faults[next(iter(self._faults))]
        return self._delay(faults, error)

    def _delay(self, attempt: int, error: BaseException) -> float:
        return seconds_to_wait(self._retry, attempt, error)


def seconds_to_wait(retry: Retry, attempt: int, error: BaseException) -> float:
    """Return the seconds to wait after an attempt that ended with ``error``; what a user's own backoff raises is logged."""
    try:
        return retry.delay(attempt, 0.5, error)
    except BaseException as wrong:
        if has_struck(wrong):
            raise
        LOG.error("worker: the backoff %r raised", retry.backoff, exc_info=wrong)
        return BACKOFF.delay(attempt, 0.5, error)


def _driver_of(plan: Plan) -> type[Execution | AsyncExecution]:
    return AsyncExecution if plan.asynchronous else Execution
