"""Recovery: claims what dead processes left and finishes it. Several may run side by side, on one host or many."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

from saga.definition import Definition, check_codec, definitions_of
from saga.drivers.aio import AsyncExecution
from saga.drivers.interrupts import is_ctrl_c
from saga.drivers.results import raised_or, result_of
from saga.drivers.threads import Execution
from saga.durable.entries import made_progress, write_entries
from saga.durable.journal import Journal
from saga.durable.leases import keeper_of, owner
from saga.durable.rebuild import codec_of, entries_of, take_up
from saga.durable.shared_commits import commit_each
from saga.errors import (
    DefinitionChangedError,
    LeaseLostError,
    SagaDefinitionError,
    StorageError,
    UnknownExecutionError,
    UnreadableJournalError,
)
from saga.events import SagaStuck
from saga.machine import Machine, Plan
from saga.names import checked_name, several
from saga.own_log import LOG
from saga.policy import Backoff, ExponentialBackoff, Retry, check_timeout
from saga.result import SagaResult
from saga.storage.opened import check_store, store_of
from saga.storage.protocol import Entry, Lease, Store, StoredExecution
from saga.transaction import block_definition

if TYPE_CHECKING:
    from saga.durable.codec import Codec
    from saga.saga import Saga

__all__ = ["Recovery"]

_BATCH: Final = 16
_BACKOFF: Final = ExponentialBackoff(1.0, cap=300.0)
_MOST_FAULTS: Final = 10_000
"""Executions of which it is known how often the store failed them, at most."""


_Takes = Callable[[SagaResult], object]


class _Claimed:
    """An execution that was claimed with others.

    :ivar done: nothing is left to do for it here.
    """

    __slots__ = ("__weakref__", "done", "entries", "execution", "lease", "mail", "row")

    def __init__(self, row: StoredExecution) -> None:
        self.row = row
        self.lease = Lease(row.saga_id, owner(), row.epoch)
        self.entries: list[Entry] | None = None  # its journal, where that could be read with the others'
        self.mail = False
        self.execution: Execution | AsyncExecution | None = None
        self.done = False

    def notify(self) -> None:
        self.mail = True

    def vouches(self) -> bool:
        return False  # it waits until it is taken

    def unstored(self) -> tuple[Journal, Machine]:
        assert self.execution is not None
        assert isinstance(self.execution.journal, Journal)
        return self.execution.journal, self.execution.machine


class Recovery:
    """Finishes executions whose process is gone.

    What was under way there is in doubt, and each task says what is done about it (``in_doubt``). An execution that cannot be
    finished is tried again later, and ends ``stuck`` after ``max_attempts`` times without getting on. Whatever a task or an
    observer raises is logged, and others are gone on with; a Ctrl-C in the main thread ends the recovery.

    :param store: a :class:`~saga.storage.Store`, a path or a database's URL.
    :param sagas: the definitions to finish executions by; several versions of one saga may be among them.
    :param transactions: the names of blocks to undo: see :func:`saga.transaction`.
    :param codec: theirs.
    :param max_attempts: recoveries of one execution, without a step's outcome between them, before a person must act. Those
        that the store's faults ended do not count.
    :param backoff: seconds to wait after a recovery that failed, or a :class:`~saga.Backoff`.
    :param workers: executions recovered at the same time, each in a thread.
    :raises SagaDefinitionError: a saga is wrong, or two are the same.
    """

    def __init__(
        self,
        store: Store | str | PathLike[str],
        sagas: Iterable[Saga[Any]] = (),
        *,
        transactions: Iterable[str] = (),
        codec: Codec | None = None,
        max_attempts: int = 10,
        backoff: float | Backoff = _BACKOFF,
        workers: int = 1,
    ) -> None:
        check_store(store, "Recovery: store")
        self._definitions: dict[str, list[Definition]] = {}
        names = [
            checked_name(name, "Recovery: one of transactions") for name in several(transactions, "Recovery: transactions")
        ]
        check_codec(codec, "Recovery: codec")
        blocks = [block_definition(name, codec=codec) for name in names]
        for definition in (*definitions_of(sagas, "Recovery: sagas"), *blocks):
            known = self._definitions.setdefault(definition.name, [])
            if any(other.version == definition.version for other in known):
                raise SagaDefinitionError(
                    f"Recovery: version {definition.version!r} of saga {definition.name!r} is given twice"
                )
            known.append(definition)
        if not self._definitions:
            raise SagaDefinitionError("Recovery: give the sagas, or the names of the transactions, that are to be finished")
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise SagaDefinitionError(f"Recovery: max_attempts is {max_attempts!r}; give a whole number of 1 or more")
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise SagaDefinitionError(f"Recovery: workers is {workers!r}; give a whole number of 1 or more")
        self.max_attempts = max_attempts
        self._retry = Retry(max_attempts, backoff)
        self.workers = workers
        self._faults: dict[str, int] = {}  # by execution: how often in a row the store has failed it
        self.store = store_of(store)

    def run_once(self) -> list[SagaResult]:
        """Finish everything that is there to be finished now. Return how it ended, but for what was parked as stuck.

        A Ctrl-C is raised again; all that is not finished then is left to another recovery.

        :raises StorageError: the store cannot be asked.
        """
        results: list[SagaResult] = []
        self._recover(results.append)
        return results

    def run(self, stop: threading.Event | None = None, *, interval: float = 5.0) -> None:
        """Go on recovering until ``stop`` is set.

        :param interval: seconds between looks into the store.
        """
        check_timeout(interval, "Recovery.run(): interval", needed=True)
        if not (stop is None or callable(getattr(stop, "is_set", None))) or isinstance(stop, type):
            raise SagaDefinitionError(f"Recovery.run(): stop is {stop!r}; give a threading.Event()")
        stop = threading.Event() if stop is None else stop
        while not stop.is_set():
            try:
                self._recover(_forget)
            except BaseException as error:
                if is_ctrl_c(error):
                    raise
                known = isinstance(error, StorageError)
                LOG.error("recovery: %s; trying again in %g s", error, interval, exc_info=not known)
            stop.wait(interval)

    def _recover(self, take: _Takes) -> None:
        with ThreadPoolExecutor(max(1, self.workers - 1), thread_name_prefix="saga recovery") as pool:
            others = []
            with suppress(RuntimeError):  # no thread is to be had: those there are do it all
                for _ in range(self.workers - 1):
                    others.append(pool.submit(self._work, take))
            self._work(take)
            for other in others:
                other.result()

    def _work(self, take: _Takes) -> None:
        lease = min(one.lease for known in self._definitions.values() for one in known)
        while rows := self.store.claim(owner(), lease, names=list(self._definitions), limit=_BATCH):
            batch = [_Claimed(row) for row in rows]
            # One that was tried in vain may have killed its process, with all that waited for it: they change places.
            batch.sort(key=lambda one: random.random() if one.row.recoveries > 1 else 0.0)
            self._finish(batch, lease, take)

    def _finish(self, batch: list[_Claimed], lease: float, take: _Takes) -> None:
        """Finish executions one after the other. What one stores last goes into one commit with what the next stores first."""
        keeper = keeper_of(self.store)
        ended: _Claimed | None = None  # its end is not stored yet: no task runs before it is
        try:
            for one in batch:
                keeper.hold(one.lease, lease, one, waits=True)
            self._read(batch)
            for one, following in zip(batch, [*batch[1:], None], strict=True):
                self._take_up(one)
                if ended is not None:
                    if one.execution is not None:
                        commit_each(self.store, [ended.unstored(), one.unstored()])
                    self._end(ended, take)
                    ended = None
                if one.execution is None:
                    continue
                # Nothing is held back while something is read that may have killed a process.
                self._run(one, defers_end=following is not None and following.row.recoveries == 1)
                if not one.done and one.execution.end_deferred and one.execution.interrupt is None:
                    ended = one
                else:
                    self._end(one, take)
        finally:
            self._give_back([one for one in batch if not one.done])

    def _give_back(self, left: list[_Claimed]) -> None:
        """Leave to others what an interrupt or a fault has left here, but not an end that is to be stored."""
        for one in left:
            if one.execution is not None and one.execution.end_deferred:
                self._run(one, defers_end=False)
        # A thread sees to stragglers, and to the lease then.
        left = [one for one in left if one.execution is None or one.execution.ended is None]
        keeper = keeper_of(self.store)
        for one in left:  # all of them first: giving back takes time, and may be interrupted
            keeper.drop(one.lease)
        for one in left:
            keeper.give_back(one.lease, untried=one.execution is None)

    def _read(self, batch: list[_Claimed]) -> None:
        """Read what is stored of them, all at once."""
        ids = [one.row.saga_id for one in batch]
        try:
            journals, mail = self.store.journals(ids), self.store.with_mail(ids)
        except Exception:
            return  # each is asked for by itself, and only what is wrong with it fails
        for one in batch:
            one.entries = journals.get(one.row.saga_id)
            one.mail = one.mail or one.row.saga_id in mail

    def _take_up(self, one: _Claimed) -> None:
        """Make what goes on with an execution, or be done with it: it is parked, or left to another or to a later recovery."""
        row, lease = one.row, one.lease
        if not keeper_of(self.store).take(lease):
            # The heartbeat is about to give it back. It is not done: it is given back here too, before more is claimed.
            LOG.info("recovery of saga %s is left to another: those before it took long", row.saga_id)
            return
        try:
            definition = self._definition(row)
            entries = one.entries or entries_of(self.store, row.saga_id)
            if row.recoveries > self.max_attempts and not made_progress(entries, self.max_attempts):
                self._park(row, lease, f"recovery was tried {self.max_attempts} times and got no further")
            else:
                execution: Execution | AsyncExecution = take_up(definition, _driver_of, row, self.store, entries)
                if one.mail or one.entries is None:
                    execution.notify()
                execution.recovers = True
                one.execution = execution
        except UnreadableJournalError as error:
            if error.may_pass:
                self._fail(one, error)
            else:
                self._park(row, lease, str(error))
        except DefinitionChangedError as error:
            self._park(row, lease, str(error))
        except (LeaseLostError, UnknownExecutionError) as error:
            keeper_of(self.store).drop(lease)
            LOG.info("recovery of saga %s is left to another: %s", row.saga_id, error)
        except StorageError as error:
            delay = self._after_fault(row)
            LOG.error("saga %s cannot be read: %s; trying again in %g s", row.saga_id, error, delay)
            keeper_of(self.store).give_back(lease, delay=delay, untried=True)
        except BaseException as error:
            self._fail(one, error)
        one.entries = None
        one.done = one.execution is None

    def _run(self, one: _Claimed, defers_end: bool) -> None:
        """Run an execution. It is done where it could not be stored."""
        execution, saga_id = one.execution, one.row.saga_id
        assert execution is not None
        assert isinstance(execution.journal, Journal)
        execution.journal.backoff = self._delay(self._faults.get(saga_id, 0) + 1)
        try:
            if isinstance(execution, AsyncExecution):
                _run_async(execution)
            else:
                execution.defers_end = defers_end
                execution.run()
            self._faults.pop(saga_id, None)
        except StorageError as error:  # the execution has given its lease back
            one.done = True
            if isinstance(error, LeaseLostError):
                LOG.error("recovery of saga %s stopped: %s", saga_id, error)
            else:
                delay = self._after_fault(one.row)
                LOG.error("recovery of saga %s stopped: %s; trying again in %g s", saga_id, error, delay)
            if execution.interrupt is not None and is_ctrl_c(execution.interrupt):
                raise execution.interrupt from error
        except BaseException as error:
            one.done = not is_ctrl_c(error)
            self._fail(one, error)

    def _end(self, one: _Claimed, take: _Takes) -> None:
        """Store an execution's end, where that was held back, and take its result."""
        execution = one.execution
        assert execution is not None
        if not one.done and execution.end_deferred:
            self._run(one, defers_end=False)
        if not one.done:
            one.done = True
            raised = execution.interrupt
            if raised is not None and is_ctrl_c(raised):
                raised_or(execution)
            if raised is not None:
                LOG.error("recovery of saga %s: %r was raised in it; others are not kept back", one.row.saga_id, raised)
            if not execution.abandoned:
                take(result_of(execution))
        one.execution = None

    def _fail(self, one: _Claimed, error: BaseException) -> None:
        """Leave an execution to a later recovery, or to a person where that was tried often."""
        if is_ctrl_c(error):
            raise error
        row = one.row
        if row.recoveries >= self.max_attempts:
            self._park(row, one.lease, f"recovery failed {row.recoveries} times, at last with: {error}")
        else:
            delay = self._delay(row.recoveries)
            LOG.error("recovery of saga %s failed; trying again in %g s", row.saga_id, delay, exc_info=error)
            keeper_of(self.store).give_back(one.lease, delay=delay)

    def _after_fault(self, row: StoredExecution) -> float:
        """Return the seconds to wait after the store has failed an execution once more: it is not the execution's fault."""
        faults = self._faults[row.saga_id] = self._faults.pop(row.saga_id, 0) + 1
        if len(self._faults) > _MOST_FAULTS:
            del self._faults[next(iter(self._faults))]
        return self._delay(faults)

    def _delay(self, attempt: int) -> float:
        try:
            return self._retry.delay(attempt, 0.5)
        except BaseException as error:  # the user's own backoff
            if is_ctrl_c(error):
                raise
            LOG.error("recovery: the backoff %r raised", self._retry.backoff, exc_info=error)
            return _BACKOFF.delay(attempt, 0.5)

    def _definition(self, row: StoredExecution) -> Definition:
        """Return the definition to finish an execution by: the one it began with, or one that says it is compatible."""
        known = self._definitions[row.name]
        for one in known:
            if one.plan.fingerprint == row.fingerprint and one.version == row.version:
                return one
        for one in known:
            if one.plan.fingerprint == row.fingerprint or row.version in one.compatible_with:
                return one
        return known[-1]  # which says what does not fit

    def _park(self, row: StoredExecution, lease: Lease, reason: str) -> None:
        """End the execution as stuck, for a person to act."""
        LOG.critical("saga %s (%s) is stuck: %s", row.name, row.saga_id, reason)
        try:
            written = max((entry.seq for entry in self.store.journal(row.saga_id)), default=0)  # some may be missing
            stuck = SagaStuck(reason, self.store.now())
            entries = write_entries([stuck], written, {}, codec_of(self._definitions[row.name][-1]))
            self.store.append(lease, entries, status="stuck", release=True)
            keeper_of(self.store).drop(lease)
        except StorageError as error:
            delay = self._after_fault(row)
            LOG.error("saga %s could not be stored as stuck: %s; trying again in %g s", row.saga_id, error, delay)
            keeper_of(self.store).give_back(lease, delay=delay, untried=True)


def _driver_of(plan: Plan) -> type[Execution | AsyncExecution]:
    return AsyncExecution if plan.asynchronous else Execution


def _run_async(execution: AsyncExecution) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with suppress(asyncio.CancelledError):  # whatever cancelled it is the execution's interrupt
            asyncio.run(_told_of_ctrl_c(execution))
    else:  # an event loop runs in this thread: use another
        with ThreadPoolExecutor(1, thread_name_prefix="saga recovery") as pool:
            pool.submit(asyncio.run, execution.run()).result()


async def _told_of_ctrl_c(execution: AsyncExecution) -> None:
    """Run an execution. A Ctrl-C, of which asyncio makes a cancellation of this task, is one again in the end."""
    await execution.run()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _forget(result: SagaResult) -> None:
    """Keep no result: there is no end of them where a recovery goes on for ever."""
