"""What histories are run within: an event loop whose time passes at once, no log, and a Ctrl-C that ends them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from selectors import BaseSelector
from types import FrameType
from typing import Any, Final, TypeVar, TypeVarTuple

from saga.own_log import silence

__all__ = ["NeverEndsError", "VirtualLoop", "quietly", "was_interrupted"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_STRUCK: Final[ContextVar[Sequence[int]]] = ContextVar("saga_struck", default=())
_SOON = 600.0

_PATIENCE: Final = 5.0
"""Real seconds that an event loop waits for what threads or sockets may bring about."""


class NeverEndsError(BaseException):
    """A coroutine waits for what nobody brings about."""


class _Selector:
    """Selects at once, and lets the loop's time pass instead of waiting."""

    def __init__(self, loop: VirtualLoop, selector: BaseSelector) -> None:
        self._loop = loop
        self._selector = selector

    def select(self, timeout: float | None = None) -> Any:
        if self._loop.has_threads:
            return self._selector.select(timeout)
        if timeout is None:
            others = threading.active_count() > 1 or len(self._selector.get_map()) > 1  # one is the loop's own
            events = self._selector.select(_PATIENCE if others else 0)
            if not events:
                raise NeverEndsError
            return events
        events = self._selector.select(0)
        if not events:
            self._loop.passed += timeout
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


async def _raised_by(work: Coroutine[Any, Any, Any]) -> BaseException | None:
    """Await something, and return what it raised: an event loop would be left by some of that."""
    try:
        await work
    except BaseException as error:
        return error
    return None


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits for a time: it passes at once. Only what runs in its threads is waited for."""

    def __init__(self) -> None:
        super().__init__()
        own: Any = self
        own._selector = _Selector(self, own._selector)
        self.passed = 0.0
        self._standing: set[asyncio.Task[Any]] = set()  # what waits for what is done elsewhere
        self._running: asyncio.Task[Any] | None = None  # what :meth:`run` runs
        self._drives = False  # what runs is a driver, and not what it calls
        self._asked: tuple[Callable[[], Any], asyncio.Future[Any]] | None = None

    @property
    def has_threads(self) -> bool:
        return getattr(self, "_default_executor", None) is not None

    def time(self) -> float:
        return self.passed

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end.

        :raises NeverEndsError: it waits for what nobody brings about. It is cancelled.
        """
        task = self.create_task(work)
        before, self._running = self._running, task
        try:
            return self.run_until_complete(task)
        except NeverEndsError:
            task.cancel()
            self.run_until_complete(asyncio.wait([task], timeout=_SOON))
            raise
        finally:
            self._running = before

    def drive(self, work: Coroutine[Any, Any, Any], waits: Callable[[], object] | None = None) -> None:
        """Run a coroutine to its end that has things done :meth:`elsewhere`.

        :param waits: called where it waits for what nobody brings about; then it is cancelled.
        :raises NeverEndsError: it still waits then, or ``waits`` was not given.
        """
        task = self.create_task(_raised_by(work))
        task.add_done_callback(lambda _: self.stop())
        while not task.done():
            self._drives = True
            try:
                self.run_forever()
            except NeverEndsError:
                if waits is None:
                    with suppress(Exception):
                        work.close()
                    raise
                waits()
                waits = None
                task.cancel()
            finally:
                self._drives = False
            if self._asked is not None:
                self._serve(*self._asked)
        raised = task.result()
        if raised is not None:
            raise raised

    def _serve(self, asked: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        """Do what is to be done elsewhere, and tell who asked for it."""
        self._asked = None
        before, self._standing = self._standing, asyncio.all_tasks(self)
        try:
            done.set_result(asked())
        except BaseException as error:
            done.set_exception(error)
        finally:
            self._standing = before

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """Have something done while this loop stands still, so that it may run coroutines; return what it comes to.

        A cancellation strikes what runs there, if anything does yet.
        """
        done: asyncio.Future[T] = self.create_future()
        self._asked = work, done
        self.stop()
        while True:
            try:
                return await asyncio.shield(done)
            except asyncio.CancelledError:
                if done.done():
                    return done.result()
                if self._asked is not None and self._asked[1] is done:
                    self._asked = None
                    raise
                if self._running is not None:
                    self._running.cancel()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Do at once what a driver gives to threads: there it asks its store."""
        if not self._drives:
            return super().run_in_executor(executor, func, *args)
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def let_end(self) -> None:
        """Let what was begun and is awaited by nobody come to its end, if it does soon."""
        if asyncio.all_tasks(self):
            self._wait(_SOON)
            self.cut_off()

    def cut_off(self) -> None:
        """End what was begun and is awaited by nobody: its process is gone."""
        left = asyncio.all_tasks(self) - self._standing
        for task in left:
            task.cancel()
        if left:
            self._wait(None)

    def _wait(self, seconds: float | None) -> None:
        done, _ = self.run_until_complete(asyncio.wait(asyncio.all_tasks(self) - self._standing, timeout=seconds))
        for task in done:
            task.cancelled() or task.exception()  # which nobody asks for


@contextmanager
def quietly() -> Iterator[Callable[[], VirtualLoop]]:
    """Log nothing meanwhile. What is yielded returns the event loop, which is made when it is first asked for."""
    made: list[VirtualLoop] = []

    def loop() -> VirtualLoop:
        if not made:
            made.append(VirtualLoop())
        return made[0]

    with silence(), _ctrl_c():
        try:
            yield loop
        finally:
            for one in made:
                asyncio.set_event_loop(None)
                one.close()


@contextmanager
def _ctrl_c() -> Iterator[None]:
    """Take note of a Ctrl-C, which is not the ``KeyboardInterrupt`` that a task raises by itself."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    struck: list[int] = []

    def strike(number: int, frame: FrameType | None) -> None:
        struck.append(number)
        signal.default_int_handler(number, frame)

    before = _STRUCK.set(struck)
    signal.signal(signal.SIGINT, strike)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _STRUCK.reset(before)


def was_interrupted() -> bool:
    """Whether a Ctrl-C has struck since histories are run here."""
    return bool(_STRUCK.get())
