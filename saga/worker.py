"""The worker: runs what was submitted and what dead processes left. Several work side by side, in one process or on many hosts.

What it is made of lives in :mod:`saga.working`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import nullcontext
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from saga.alerts import Alerts, Beside, OnStuck, check_on_stuck
from saga.errors import SagaDefinitionError
from saga.names import several
from saga.policy import Backoff, Retry, Seconds, needed_seconds
from saga.result import SagaResult
from saga.storage.columns import REMEMBERED
from saga.storage.opened import check_store, store_of
from saga.storage.protocol import Store
from saga.working.crew import Crew
from saga.working.definitions import Definitions, warn_of_another_store
from saga.working.jobs import BACKOFF, Jobs, Parked
from saga.working.service import notify, stopped_by_signals
from saga.working.shift import Shift, Stop

if TYPE_CHECKING:
    from saga.durable.codec import Codec
    from saga.saga import Saga
    from saga.storage.watching import Watch

__all__ = ["Parked", "Ran", "Stop", "Worker"]


class Ran(list[SagaResult[Any]]):
    """The results of what a worker has run.

    :ivar parked: what it left to a person, as stuck, and why.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parked: list[Parked] = []

    def take(self, one: SagaResult[Any] | Parked) -> None:
        """Add what an execution came to."""
        if isinstance(one, Parked):
            self.parked.append(one)
        else:
            self.append(one)


class Worker:
    """Runs executions that were submitted, and finishes those whose process is gone.

    What was under way in a process that is gone is in doubt, and each task says what is done about it (``in_doubt``). An
    execution that cannot be finished is tried again later, and ends ``stuck`` after ``max_attempts`` times without getting on.
    Whatever a task or an observer raises is logged, and others are gone on with.

    Executions of a definition that the worker does not have are left to others that do, in a deploy of several versions side
    by side.

    :param store: a :class:`~saga.storage.Store`, a path or a database's URL.
    :param sagas: the definitions to run executions by; several versions of one saga may be among them. Where one has a store of
        its own that is plainly another, a warning is logged.
    :param transactions: the names of blocks to undo: see :func:`saga.transaction`.
    :param codec: theirs; its ``modules`` name those whose functions undo them.
    :param workers: synchronous executions that are run at the same time, each in a thread.
    :param concurrency: asynchronous executions that are run at the same time, in one event loop.
    :param max_attempts: claims of one execution, without a step's outcome between them, before a person must act. Those that
        the store's faults ended do not count.
    :param backoff: seconds to wait after one that failed, or a :class:`~saga.Backoff`.
    :param finish: what is finished when the worker is to stop: ``"executions"`` in hand, or the ``"calls"`` in hand: the rest
        of those executions is given back, and another worker goes on exactly there.
    :param grace: seconds that this may take; what still runs then is left, and its step is in doubt when the process ends.
    :param unfit_after: seconds for which an execution that no definition here fits is left to other workers; where none that
        has one has lived for so long, it is parked as stuck.
    :param on_stuck: called with the row and the :class:`~saga.operations.ExecutionView` of each execution that becomes stuck,
        here or elsewhere: a plain function or a coroutine function. :class:`saga.alerts.Alerts` says how.
    :raises SagaDefinitionError: a saga is wrong, or two are the same.
    """

    _begins = True  # what was submitted, too

    def __init__(
        self,
        store: Store | str | PathLike[str],
        sagas: Iterable[Saga[Any]] = (),
        *,
        transactions: Iterable[str] = (),
        codec: Codec | None = None,
        workers: int = 4,
        concurrency: int = 100,
        max_attempts: int = 10,
        backoff: Seconds | Backoff = BACKOFF,
        finish: Literal["executions", "calls"] = "executions",
        grace: Seconds = 30.0,
        unfit_after: Seconds = 600.0,
        on_stuck: OnStuck | None = None,
    ) -> None:
        kind = type(self).__name__
        check_store(store, f"{kind}: store")
        sagas = several(sagas, f"{kind}: sagas")
        self._definitions = Definitions(sagas, transactions, codec, kind)
        for name, value in (("max_attempts", max_attempts), ("workers", workers), ("concurrency", concurrency)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SagaDefinitionError(f"{kind}: {name} is {value!r}; give a whole number of 1 or more")
        grace, unfit_after = (
            0.0 if seconds == 0 else needed_seconds(seconds, f"{kind}: {name}")
            for name, seconds in (("grace", grace), ("unfit_after", unfit_after))
        )
        if unfit_after > REMEMBERED:
            raise SagaDefinitionError(f"{kind}: unfit_after is {unfit_after!r}; give a day ({REMEMBERED:g} s) at most")
        if finish not in ("executions", "calls"):
            raise SagaDefinitionError(f"{kind}: finish is {finish!r}; give 'executions' or 'calls'")
        self.workers = workers
        self.concurrency = concurrency
        self.max_attempts = max_attempts
        self.finish = finish
        self.grace = grace
        self._unfit_after = unfit_after
        self._backoff = Retry(max_attempts, backoff).backoff
        self.store = store_of(store)
        warn_of_another_store(self.store, sagas, kind)
        self._alerts: Alerts | None = None
        if on_stuck is not None:
            check_on_stuck(on_stuck, kind)
            self._alerts = Alerts(self.store, on_stuck, sagas=sagas, backoff=backoff)
        self._faults: dict[str, int] = {}
        self._stopping = threading.Event()
        self._watch: Watch | None = None

    def run_once(self) -> Ran:
        """Run everything that is there to be run now, and return what it came to.

        With ``workers=1`` synchronous executions are run in the calling thread. A Ctrl-C is raised again; all that is not
        finished then is left to another worker.

        :raises StorageError: the store cannot be asked.
        """
        ran = self._begin_once()
        self._serve(ran.take, once=True, threads=self.workers if self.workers > 1 else 0)
        return ran

    async def arun_once(self) -> Ran:
        """As :meth:`run_once`; asynchronous executions run in the running event loop."""
        ran = self._begin_once()
        await self._aserve(ran.take, once=True)
        return ran

    def run(self, stop: Stop | None = None, *, interval: Seconds = 1.0, signals: bool = True) -> None:
        """Go on running executions until it is time to stop.

        :param stop: says when, as :meth:`stop` does.
        :param interval: seconds between looks into the store, for what nobody tells of: times that have come, leases that
            have run out, and, where the store cannot tell what other processes submit, that.
        :param signals: SIGTERM and SIGINT stop the worker, where this is the main thread; a second SIGINT interrupts it.
        """
        interval = self._checked_run(stop, interval, signals)
        with stopped_by_signals(self.stop) if signals else nullcontext():
            notify("READY=1")
            self._serve(_forget, stop=stop, interval=interval, threads=self.workers)

    async def arun(self, stop: Stop | None = None, *, interval: Seconds = 1.0, signals: bool = False) -> None:
        """As :meth:`run`, beside the running event loop, in which asynchronous executions run.

        Cancelling this stops the worker; then ``CancelledError`` is raised.
        """
        interval = self._checked_run(stop, interval, signals)
        with stopped_by_signals(self.stop) if signals else nullcontext():
            notify("READY=1")
            await self._aserve(_forget, stop=stop, interval=interval)

    def stop(self) -> None:
        """Begin nothing new, finish what is in hand, and let :meth:`run` return. From any thread, or a signal handler.

        Where nothing runs, the next :meth:`run` or :meth:`arun` returns at once, as it may have been about to begin, and a
        warning is logged. :meth:`run_once` and :meth:`arun_once` begin all the same.
        """
        self._stopping.set()
        watch = self._watch
        if watch is not None:
            watch.wake()

    def _begin_once(self) -> Ran:
        if self._watch is None:
            self._stopping.clear()  # whoever said so meant what ran before
        return Ran()

    def _checked_run(self, stop: object, interval: Seconds, signals: object) -> float:
        """Return the interval in seconds.

        :raises SagaDefinitionError: one is wrong.
        """
        kind = type(self).__name__
        if not (stop is None or callable(getattr(stop, "is_set", None))) or isinstance(stop, type):
            raise SagaDefinitionError(f"{kind}.run(): stop is {stop!r}; give a threading.Event()")
        if not isinstance(signals, bool):
            raise SagaDefinitionError(f"{kind}.run(): signals is {signals!r}; give a bool")
        return needed_seconds(interval, f"{kind}.run(): interval")

    async def _aserve(self, take: Callable[[Any], object], **options: Any) -> None:
        """Serve in a thread, with the running event loop. A cancellation stops it, and is raised when it has ended."""
        loop = asyncio.get_running_loop()
        outcome: Future[None] = Future()
        outcome.set_running_or_notify_cancel()

        def serve() -> None:
            try:
                self._serve(take, threads=self.workers, loop=loop, **options)
            except BaseException as error:
                outcome.set_exception(error)
            else:
                outcome.set_result(None)

        # Of its own: it would keep a thread of the loop's, which others need; or the process, where nobody ends the loop.
        threading.Thread(target=serve, name="saga worker", daemon=True).start()
        work = asyncio.wrap_future(outcome)
        struck: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError as error:
                if work.cancelled():
                    raise
                struck = struck or error
                self.stop()
        work.result()
        if struck is not None:
            raise struck

    def _serve(
        self,
        take: Callable[[Any], object],
        *,
        threads: int,
        once: bool = False,
        stop: Stop | None = None,
        interval: float = 1.0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Claim what there is room for, have it run, and wait for more, until it is time to stop.

        :raises SagaDefinitionError: it runs already.
        """
        if self._watch is not None:
            raise SagaDefinitionError(f"this {type(self).__name__} runs already; make another, which may run beside it")
        watch = self._watch = self.store.watch()
        jobs = Jobs(self.store, self._definitions, self.max_attempts, self._backoff, self._faults, take)
        crew = Crew(jobs, threads, self.concurrency, loop)
        shift = Shift(
            self.store,
            self._definitions,
            crew,
            jobs,
            watch,
            once=once,
            begins=self._begins,
            stops=(self._stopping,) if stop is None else (self._stopping, stop),
            polls=stop is not None,
            interval=interval,
            unfit_after=self._unfit_after,
        )
        beside: Beside | None = None
        try:
            if self._alerts is not None and not once:
                beside = Beside(self._alerts, loop, interval)
            try:
                shift.serve()
            except BaseException:  # an interrupt, or the store cannot be asked
                crew.cancel()
                shift.finish(False, self.grace)
                raise
            if beside is not None:
                beside.stop(self.grace)
            shift.finish(self.finish == "calls", self.grace)
            if once and self._alerts is not None:
                Beside(self._alerts, loop, None).join()
        finally:
            try:
                if beside is not None:
                    beside.end()
                shift.close()
            finally:
                self._watch = None
                self._stopping.clear()
                watch.close()


def _forget(result: object) -> None:
    """Keep no result: there is no end of them where a worker goes on for ever."""
