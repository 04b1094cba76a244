"""Time that a test moves: what waits until a time goes on at once, and nobody sleeps.

Sagas read their clocks where this file looks for them, and nowhere else is anything replaced: a saga that runs without it reads
them as fast as it would if it did not exist.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, Protocol, Self
from unittest.mock import patch

from saga import clocks
from saga.drivers import aio, aio_calls, base, calls, threads, within
from saga.drivers.beside import CallBeside
from saga.durable import start as starting
from saga.durable.leases import keepers
from saga.machine import Call, Wait
from saga.policy import is_seconds

__all__ = ["Clock"]

_entering: Final = threading.Lock()
_MICRO: Final = timedelta(microseconds=1)


class Frozen(Protocol):
    """What ``freezegun.freeze_time(...)`` gives."""

    def __call__(self) -> datetime: ...

    def tick(self, delta: timedelta, /) -> Any: ...


class Travelling(Protocol):
    """What ``time_machine.travel(...)`` gives."""

    def shift(self, delta: timedelta, /) -> Any: ...


class Clock:
    """The time of all sagas of this process, within a ``with`` block: it stands still until something moves it.

    A test moves it, or a task that is to be slow. And an execution that waits for a timer, another attempt or its own timeout,
    and runs nothing meanwhile, moves it there at once. Timers, pauses, timeouts, deadlines, the times of events, and what is
    due and leased in a :class:`~saga.storage.MemoryStore` or an SQLite file go by it. Leases of executions that run here are
    renewed as time moves, as they would be meanwhile. Who waits for what other threads and processes do really waits.

    Tasks' own ``time.time()`` and ``datetime.now()`` are not touched. To have these, too, give what freezegun or time-machine
    moves them with: ``with freeze_time("2026-01-14") as frozen, Clock(frozen) as clock``. The two go together then.

    :param start: when it is: a datetime with a time zone, or seconds since the epoch; now, where not given. Or what moves the
        time of all: of freezegun or time-machine.
    """

    def __init__(self, start: datetime | float | Frozen | Travelling | None = None) -> None:
        self._other: _Other | None = None
        if hasattr(start, "tick") or hasattr(start, "shift"):
            self._other = _Other(start)
            self._start = self._other.now()
        elif isinstance(start, datetime):
            if start.tzinfo is None:
                raise ValueError(f"Clock(): start is {start!r}, which has no time zone; give one, such as tzinfo=datetime.UTC")
            self._start = start.timestamp()
        elif start is None:
            self._start = float(math.ceil(clocks.host_time()))  # a whole number, and never back
        elif isinstance(start, int | float) and not isinstance(start, bool):
            self._start = float(start)
        else:
            raise ValueError(f"Clock(): start is {start!r}; give a datetime, or seconds since the epoch")
        self._began = self._at = 0.0
        self._moving = threading.RLock()
        self._calls: dict[CallBeside, _UnderWay] = {}
        self._active = ExitStack()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._read() - self._began + self._start

    def move(self, seconds: float | timedelta) -> None:
        """Let time pass: what is due by then happens.

        In a task, it is what makes the call slow: one that moves past its timeout is timed out.

        :raises ValueError: it is less than nothing.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not is_seconds(seconds):
            raise ValueError(f"Clock.move(): seconds is {seconds!r}; give a number of 0 or more")
        self._move(lambda now: now + seconds)

    def __enter__(self) -> Self:
        global _active
        with _entering:
            if _active is not None:
                raise RuntimeError("a Clock is in use already, and there is one time; end its block first")
            _active = self
        self._began = self._at = float(math.ceil(clocks.clock()))
        try:
            for one in self._replacements():
                self._active.enter_context(one)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        global _active
        self._active.close()
        self._calls.clear()
        _active = None

    def __repr__(self) -> str:
        return f"<Clock at {datetime.fromtimestamp(self.now(), UTC):%Y-%m-%d %H:%M:%S} UTC>"

    # -- time -----------------------------------------------------------------------------------------------------------

    def _read(self) -> float:
        """Return seconds on the scale of the drivers' clock."""
        if self._other is None:
            return self._at
        return max(self._at, self._began + self._other.now() - self._start)

    def _move(self, to: Callable[[float], float]) -> None:
        """Move on to what is given for the present moment, on the same scale."""
        # In a call in a transaction, others are waited for that wait for its store: it moves the time without them.
        transacts = any(driver.transacted for driver in within.outer_executions())
        with nullcontext() if transacts else self._moving:
            now = self._read()
            moment = to(now)
            if moment <= now:
                return
            for keeper in () if transacts else keepers():
                keeper.renew(moment - now)
            self._at = moment
            if self._other is not None:
                self._other.move(moment - now)
            under_way = [one for one in list(self._calls.values()) if one.ended is None]
        for one in under_way:
            one.overtake(moment)

    # -- what reads it ----------------------------------------------------------------------------------------------------

    def _replacements(self) -> Iterator[Any]:
        read = self._read
        for name, module in list(sys.modules.items()):
            if name.startswith("saga.drivers"):
                for attribute, value in list(vars(module).items()):
                    if value is clocks.clock:
                        yield patch.object(module, attribute, read)
        yield patch.object(base.Driver, "clock", staticmethod(read))
        for make in (calls.make, calls.make_async):
            yield patch.dict(make.__kwdefaults__, clock=read)
        yield patch.object(clocks, "_steady", read)
        yield patch.object(clocks, "_BEGAN", self._start - self._began)
        booted = clocks.since_boot() - self._began if clocks.boot() is not None else 0.0
        yield patch.object(clocks, "time", SimpleNamespace(time=self.now, clock_gettime=lambda _: read() + booted))
        yield patch.object(starting, "pauses", self._pauses_of(starting.pauses))
        yield patch.object(threads.Execution, "_wait", self._wait())
        yield patch.object(aio.AsyncExecution, "_wait", self._await(aio.AsyncExecution._wait))
        yield patch.object(base.Driver, "_begin_beside", self._begin_beside(base.Driver._begin_beside))
        yield patch.object(base.Driver, "_arrive", self._arrive(base.Driver._arrive))
        yield patch.object(threads.Execution, "_take_arrived", self._take_arrived(base.Driver._take_arrived))
        yield patch.object(aio.AsyncExecution, "_take_arrived", self._take_arrived(aio_calls.AsyncCalls._take_arrived))

    def _pauses_of(self, pauses: Callable[[], Iterator[float]]) -> Callable[[], Iterator[float]]:
        """Who waits for others lets time go on, or their leases and rates would never be over.

        As long as nothing runs here that could be what is waited for, or be timed out by that, nobody sleeps meanwhile.
        """

        def moving() -> Iterator[float]:
            for pause in pauses():
                yield pause if self._anything_runs() else 0.0
                self.move(pause)

        return moving

    def _anything_runs(self) -> bool:
        return any(one.ended is None for one in list(self._calls.values())) or any(one.runs_any() for one in keepers())

    # -- waiting ----------------------------------------------------------------------------------------------------------

    def _wait(self) -> Callable[[threads.Execution, float | None], None]:
        def wait(execution: threads.Execution, due: float | None) -> None:
            if due is None or (execution._calls_run() and due > self._read()):
                threads.take(execution._wakes, None)
                return
            self._move(lambda now: due)
            raise queue.Empty

        return wait

    def _await(self, really: Callable[[Any, float | None], Any]) -> Callable[[Any, float | None], Any]:
        async def wait(execution: aio.AsyncExecution, due: float | None) -> None:
            if due is None:
                await really(execution, None)
                return
            execution._came.clear()
            if execution._arrived or execution.mail:
                return
            if not execution._calls_run():
                await asyncio.sleep(0)  # others are to get on
                self._move(lambda now: due)
            elif due > self._read():
                await execution._came.wait()
            if due <= self._read():
                raise TimeoutError

        return wait

    # -- calls that run past their limit ----------------------------------------------------------------------------------

    def _begin_beside(self, really: Callable[[Any, Call], CallBeside]) -> Callable[[Any, Call], CallBeside]:
        def begin_beside(driver: base.Driver, call: Call) -> CallBeside:
            beside = really(driver, call)
            self._calls[beside] = _UnderWay(driver, beside)
            return beside

        return begin_beside

    def _arrive(self, really: Callable[..., None]) -> Callable[..., None]:
        def arrive(driver: base.Driver, beside: CallBeside, outcome: calls.Made) -> None:
            if beside in self._calls:  # else it was begun before
                self._calls[beside].ended = self._read()
            really(driver, beside, outcome)

        return arrive

    def _take_arrived(self, really: Callable[[Any], None]) -> Callable[[Any], None]:
        def take_arrived(driver: base.Driver) -> None:
            one = self._calls.get(driver._arrived[0])
            if one is None or not one.times_out():  # else the machine is to hear of that first
                self._calls.pop(driver._arrived[0], None)
                really(driver)

        return take_arrived


class _UnderWay:
    """A call beside a driver's loop.

    :ivar ended: when it ended, on the scale of the drivers' clock.
    """

    def __init__(self, driver: base.Driver, beside: CallBeside) -> None:
        self.driver = driver
        self.beside = beside
        self.ended: float | None = None

    def _limits(self, moment: float) -> list[tuple[float, int, Wait | CallBeside | None]]:
        """Return the timers that limit the call and are due by a moment."""
        return [one for one in list(self.driver._timers) if one[0] <= moment and (one[2] is self.beside or one[2] is None)]

    def overtake(self, moment: float) -> None:
        """Let the call know that its time is up, if it is, and who waits for it that time has moved."""
        driver, beside = self.driver, self.beside
        limits = self._limits(moment)
        if limits and beside.call.phase == "execute":
            beside.cancelled.set()
            if beside.task is not None and _is_running(driver) and any(one[2] is beside for one in limits):
                driver._timer(beside)  # which cancels it; nobody else can, as long as it does not await anything
        driver._wake()

    def times_out(self) -> bool:
        """Have the first limit that it had passed when it ended be known. Return whether there is one."""
        limits = self._limits(math.inf if self.ended is None else self.ended)
        if not limits or self.beside.call.phase != "execute":
            return False
        due = min(limits)
        self.driver._timer(due[2])
        self.driver._timers.remove(due)
        heapq.heapify(self.driver._timers)
        return True


def _is_running(driver: base.Driver) -> bool:
    """Whether the driver's event loop runs in this thread."""
    loop = asyncio._get_running_loop()
    return loop is not None and getattr(driver, "_loop", None) is loop


class _Other:
    """A library's time, which goes together with a clock's."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def now(self) -> float:
        if hasattr(self._given, "tick"):  # freezegun's; what it puts in the place of time.time is not itself in every thread
            return float(self._given().replace(tzinfo=UTC).timestamp())
        return time.time()

    def move(self, seconds: float) -> None:
        passed = timedelta(seconds=seconds)
        passed += _MICRO if passed.total_seconds() < seconds else timedelta()
        (self._given.tick if hasattr(self._given, "tick") else self._given.shift)(passed)


_active: Clock | None = None
