"""What histories are run within: an event loop whose time passes at once, no log, and a Ctrl-C that ends them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from selectors import BaseSelector
from types import FrameType
from typing import Any, Final, TypeVar

from saga.own_log import silence

__all__ = ["NeverEndsError", "VirtualLoop", "quietly", "was_interrupted"]

T = TypeVar("T")

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


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits for a time: it passes at once. Only what runs in its threads is waited for."""

    def __init__(self) -> None:
        super().__init__()
        own: Any = self
        own._selector = _Selector(self, own._selector)
        self.passed = 0.0

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
        try:
            return self.run_until_complete(task)
        except NeverEndsError:
            task.cancel()
            self.run_until_complete(asyncio.wait([task], timeout=_SOON))
            raise

    def let_end(self) -> None:
        """Let what was begun and is awaited by nobody come to its end, if it does soon."""
        if asyncio.all_tasks(self):
            self._wait(_SOON)
            self.cut_off()

    def cut_off(self) -> None:
        """End what was begun and is awaited by nobody: its process is gone."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        if left:
            self._wait(None)

    def _wait(self, seconds: float | None) -> None:
        done, _ = self.run_until_complete(asyncio.wait(asyncio.all_tasks(self), timeout=seconds))
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
