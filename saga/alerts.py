"""Alerts: somebody is told of each execution that is stuck, once, and at least once whoever dies meanwhile.

The store knows of which nobody was told yet, in whichever process it became stuck. Who tells of one keeps it from others for a
moment, calls out, and says so to the store; where he dies in between, another calls out later.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any, Final

from saga.awaitables import answer, check_callable, discard, is_awaitable, refuse_generator
from saga.clocks import clock
from saga.drivers.observing import has_struck
from saga.errors import StorageError, UnknownExecutionError
from saga.events import Status
from saga.looking import ExecutionView
from saga.operations import Operations
from saga.own_log import LOG
from saga.policy import Backoff, Retry, Seconds, needed_seconds, seconds_of
from saga.storage.opened import check_store
from saga.storage.protocol import Store
from saga.storage.records import StoredExecution
from saga.working.jobs import BACKOFF, seconds_to_wait
from saga.working.service import stopped_by_signals
from saga.working.shift import LOOK, Stop

if TYPE_CHECKING:
    from saga.saga import Saga

__all__ = ["Alerts", "OnGroup", "OnStuck"]

OnStuck = Callable[[StoredExecution, ExecutionView], object]
"""Called with a stuck execution's row, and what there is to see of it: a plain function or a coroutine function."""
OnGroup = Callable[[StoredExecution, ExecutionView, Sequence[StoredExecution]], object]
"""Called with the rows of all that are stuck for the same cause, too; the row and the view are of the first."""

HELD: Final = 60.0
"""Seconds for which who calls out keeps an execution from others, and after which another does where that process died."""
_MOST_GROUPED: Final = 10_000
"""Executions that one look groups, at most. The others are told of by the next call for their cause."""
_MOST_FAILED: Final = 10_000
"""Executions of which it is known how often calling out has failed, at most."""


class Alerts:
    """Calls ``on_stuck`` for each execution that becomes stuck, in whatever process, and again where it becomes stuck again.

    It is called once for each, and once more where the process dies, or the store cannot be reached, before the store knows
    that it has returned. What it raises is logged, and it is called again later. Many may look after one store: one of them
    calls. A call that takes longer than a minute may be made by another, too, so give what it waits for a timeout.

    :param store: a :class:`~saga.storage.Store`, a path or a database's URL.
    :param on_stuck: called with the execution's row and its :class:`~saga.operations.ExecutionView`. It may act on it.
    :param sagas: definitions, by which more is seen of executions.
    :param backoff: seconds to wait after a call that failed, or a :class:`~saga.Backoff`.
    :param group: one call for all that are stuck for the same cause (saga, step and class of error), and at most one for a
        cause in so many seconds. Each execution is among those of one call at least. ``on_stuck`` is called with the row and
        the view of one of them, and the rows of all. What was told when is known to this object alone.
    :raises SagaDefinitionError: one of these is wrong.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        on_stuck: OnStuck | OnGroup,
        *,
        sagas: Iterable[Saga[Any]] = (),
        backoff: Seconds | Backoff = BACKOFF,
        group: Seconds | None = None,
    ) -> None:
        check_store(store, "Alerts: store")
        check_on_stuck(on_stuck, "Alerts", group is not None)
        group = seconds_of(group, "Alerts: group")
        self.on_stuck: Callable[..., object] = on_stuck
        self.group = group
        self._told_at: dict[_Kind, float] = {}
        self._retry = Retry(1, backoff)
        self._operations = Operations(store, "alerts", sagas=sagas)
        self._failed: dict[str, int] = {}

    def look(self) -> int:
        """Call out what nobody was told of yet, one after the other. Return how many calls went well.

        A coroutine function is run in an event loop of this call's.

        :raises StorageError: the store cannot be asked.
        """
        with _own_loop() as runner:
            return self._look(lambda said: _value_of(runner.run(_outcome_of(said))), lambda: False)

    def run(self, stop: Stop | None = None, *, interval: Seconds = 5.0, signals: bool = True) -> None:
        """Go on calling out until it is time to stop.

        :param stop: says when.
        :param interval: seconds between looks into the store.
        :param signals: SIGTERM and SIGINT stop it, where this is the main thread; a second SIGINT interrupts it.
        """
        interval = needed_seconds(interval, "Alerts.run(): interval")
        stopping = threading.Event()

        def pause(seconds: float) -> None:
            until = clock() + seconds
            while not stopped() and (left := until - clock()) > 0:
                stopping.wait(left if stop is None else min(left, LOOK))

        def stopped() -> bool:
            return stopping.is_set() or (stop is not None and stop.is_set())

        with stopped_by_signals(stopping.set) if signals else nullcontext(), _own_loop() as runner:
            self._go_on(lambda said: _value_of(runner.run(_outcome_of(said))), stopped, lambda: pause(interval))

    def _go_on(
        self, wait_for: Callable[[Awaitable[Any]], Any], stopped: Callable[[], bool], pause: Callable[[], object]
    ) -> None:
        """Look again and again. :param wait_for: runs what a coroutine function returned."""
        while not stopped():
            try:
                self._look(wait_for, stopped)
            except Exception as error:
                known = isinstance(error, StorageError)
                LOG.error("alerts: %s; trying again soon", error, exc_info=None if known else error)
            pause()

    def _look(self, wait_for: Callable[[Awaitable[Any]], Any], stopped: Callable[[], bool]) -> int:
        """As :meth:`look`."""
        if self.group is not None:
            return self._look_for_groups(wait_for, stopped, self.group)
        called, failed = 0, set[str]()
        while not stopped():
            row = self._operations.store.next_alert(HELD)
            if row is None:
                break
            if row.saga_id in failed:  # it is due again already
                self._operations.store.alerted(row.saga_id, row.epoch, again=0.0)
                break
            if self._call_out(row, wait_for):
                called += 1
            else:
                failed.add(row.saga_id)
        return called

    def _look_for_groups(self, wait_for: Callable[[Awaitable[Any]], Any], stopped: Callable[[], bool], every: float) -> int:
        """As :meth:`look`; what is stuck for a cause that was told a moment ago is put off."""
        store, began, groups = self._operations.store, clock(), dict[_Kind, dict[str, StoredExecution]]()
        self._told_at = {kind: at for kind, at in self._told_at.items() if at + every > began}
        for _ in range(_MOST_GROUPED):
            # What was found first is kept from others while the rest is looked for, and then told of.
            row = store.next_alert(HELD) if not stopped() and clock() < began + HELD / 2 else None
            if row is None:
                break
            kind = row.name, row.step, row.cause
            if row.saga_id in groups.get(kind, ()):  # it is due again already
                break
            wait = self._told_at.get(kind, began - every) + every - clock()
            if wait > 0:
                store.alerted(row.saga_id, row.epoch, again=wait)
            else:
                groups.setdefault(kind, {})[row.saga_id] = row
        return sum(self._call_out_for(kind, [*rows.values()], wait_for) for kind, rows in groups.items())

    def _call_out_for(self, kind: _Kind, rows: Sequence[StoredExecution], wait_for: Callable[[Awaitable[Any]], Any]) -> bool:
        now = [self._operations.store.get(row.saga_id) for row in rows]
        stuck = [row for row, at in zip(rows, now, strict=True) if at is not None and _is_still(row, at)]
        if not stuck or not self._call_out(stuck[0], wait_for, stuck):
            return False
        self._told_at[kind] = clock()
        return True

    def _call_out(
        self, row: StoredExecution, wait_for: Callable[[Awaitable[Any]], Any], group: Sequence[StoredExecution] = ()
    ) -> bool:
        """Call out for an execution, or for a group that it is the first of."""
        try:
            view = self._operations.show(row.saga_id)
        except UnknownExecutionError:  # it was purged
            return False
        if not _is_still(row, view.execution):  # somebody has acted on it
            return False
        try:
            said: Any = self.on_stuck(row, view, tuple(group)) if group else self.on_stuck(row, view)
            answer(wait_for(said) if is_awaitable(said) else said, "on_stuck", "make it a function that does the work")
        except BaseException as error:
            stops = has_struck(error)
            failures = self._failed[row.saga_id] = self._failed.pop(row.saga_id, 0) + 1
            if len(self._failed) > _MOST_FAILED:
                del self._failed[next(iter(self._failed))]
            delay = 0.0 if stops else seconds_to_wait(self._retry, failures, error)
            for one in group or (row,):
                self._operations.store.alerted(one.saga_id, one.epoch, again=delay)
            if stops:
                raise
            told = "alerts: saga %s (%s) is stuck, and nobody was told: %r raised; trying again in %g s"
            LOG.error(told, row.name, row.saga_id, self.on_stuck, delay, exc_info=error)
            return False
        self._failed.pop(row.saga_id, None)
        for one in group or (row,):
            self._operations.store.alerted(one.saga_id, one.epoch)
        return True


_Kind = tuple[str, str | None, str | None]


def _is_still(row: StoredExecution, at: StoredExecution) -> bool:
    """Whether nobody has acted on an execution since."""
    return at.status == Status.STUCK and at.epoch == row.epoch


class Beside:
    """Calls out in a thread of its own, beside a worker.

    :param loop: the event loop that coroutine functions run in; one of the thread's own where not given.
    :param interval: seconds between looks; ``None``: one look only.
    """

    def __init__(self, alerts: Alerts, loop: asyncio.AbstractEventLoop | None, interval: float | None) -> None:
        self._alerts = alerts
        self._loop = loop
        self._interval = interval
        self._ending = threading.Event()
        self._ends_at = 0.0
        # Whatever takes long there, the process may end.
        self._thread = threading.Thread(target=self._serve, name="saga alerts", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until one look has ended."""
        self._thread.join()

    def stop(self, grace: float) -> None:
        """Let no more calls begin. What becomes stuck from now on is told by another."""
        self._ends_at = clock() + grace
        self._ending.set()

    def end(self) -> None:
        """Wait for a call that is made, for as long as the time of grace lasts. Another makes it again then."""
        self._ending.set()
        self._thread.join(max(0.0, self._ends_at - clock()))

    def _serve(self) -> None:
        with _own_loop() as runner:
            loop = self._loop

            def wait_for(said: Awaitable[Any]) -> Any:
                return _value_of(runner.run(_outcome_of(said)) if loop is None else _in_loop(loop, said))

            if self._interval is None:
                self._alerts._go_on(wait_for, self._ending.is_set, self._ending.set)
            else:
                self._alerts._go_on(wait_for, self._ending.is_set, lambda: self._ending.wait(self._interval))


def _own_loop() -> closing[asyncio.Runner]:
    """Return what runs coroutines, in an event loop that is made when there is one, and is not the thread's."""
    return closing(asyncio.Runner(loop_factory=asyncio.new_event_loop))


_Outcome = tuple[Any, BaseException | None]


async def _outcome_of(said: Awaitable[Any]) -> _Outcome:
    """Wait for what a coroutine function returned. What that raises is not: a ``SystemExit`` would end the event loop, too."""
    try:
        return await said, None
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():  # by Ctrl-C, say
            raise
        return None, error


def _value_of(outcome: _Outcome) -> Any:
    value, error = outcome
    if error is not None:
        raise error
    return value


def _in_loop(loop: asyncio.AbstractEventLoop, said: Awaitable[Any]) -> _Outcome:
    """Wait for what an event loop in another thread runs.

    :raises RuntimeError: it was closed.
    """
    outcome = _outcome_of(said)
    try:
        future = asyncio.run_coroutine_threadsafe(outcome, loop)
    except RuntimeError:
        discard(outcome)
        discard(said)
        raise
    while True:
        try:
            return future.result(timeout=LOOK)
        except TimeoutError:
            if loop.is_closed():
                raise RuntimeError("the event loop was closed, in which on_stuck ran") from None


def check_on_stuck(on_stuck: object, what: str, grouped: bool = False) -> None:
    """Refuse what cannot be called with a stuck execution, or would not run.

    :raises SagaDefinitionError: the text says why.
    """
    given = "(execution, view, group)" if grouped else "(execution, view)"
    check_callable(on_stuck, f"{what}: on_stuck", given, 3 if grouped else 2)
    refuse_generator(on_stuck, f"{what}: on_stuck", "make it a plain function or a coroutine function")
