"""Who looks whether a call goes on and on though the time for exploring is over: a thread, where there is such a time."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

from saga.testing.loops import NeverEndsError

if TYPE_CHECKING:
    from saga.testing.histories import History
    from saga.testing.records import Line

__all__ = ["watched"]

PATIENCE: Final = 5.0
"""Seconds that a call may go on when the time is over."""


@contextmanager
def watched(seconds: float | None, running: Callable[[], History | None]) -> Iterator[None]:
    """End a plain call that never returns, when the time is over: in the main thread as if it never ended; elsewhere say so.

    :param seconds: how much time there is; ``None``: as much as it takes.
    :param running: returns the history that runs.
    """
    if seconds is None:
        yield
        return
    watchdog = _Watchdog(seconds, running)
    watchdog.begin()
    try:
        yield
    finally:
        watchdog.end()


class _Watchdog:
    def __init__(self, seconds: float, running: Callable[[], History | None]) -> None:
        self._seconds = seconds
        self._running = running
        self._over = threading.Event()
        self._watched = threading.get_ident()
        self._hanging: Line | None = None
        self._before = signal.getsignal(signal.SIGINT)
        self._strikes = threading.current_thread() is threading.main_thread() and callable(self._before)

    def begin(self) -> None:
        if self._strikes:
            signal.signal(signal.SIGINT, self._struck)
        threading.Thread(target=self._watch, name="saga explores in time", daemon=True).start()

    def end(self) -> None:
        self._over.set()
        if self._strikes:
            signal.signal(signal.SIGINT, self._before)

    def _call(self) -> Line | None:
        """Return the call that is under way."""
        history = self._running()
        last = history.lines[-1] if history is not None and history.lines else None
        return None if last is None or last.came else last

    def _watch(self) -> None:
        seen: Line | None = None
        wait = self._seconds
        while not self._over.wait(wait):
            call, wait = self._call(), PATIENCE
            if call is not None and call is seen:
                self._hanging = call
                self._end_it(call)
            seen = call

    def _end_it(self, call: Line) -> None:
        if not self._strikes:
            self._say(call)
        elif hasattr(signal, "pthread_kill"):
            signal.pthread_kill(self._watched, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def _struck(self, number: int, frame: FrameType | None) -> None:
        hanging, self._hanging = self._hanging, None
        if hanging is None:
            assert callable(self._before)
            self._before(number, frame)
        elif hanging is self._call():
            raise NeverEndsError

    def _say(self, call: Line) -> None:
        """Say which call is waited for, and where it is."""
        stack = "".join(traceback.format_stack(sys._current_frames().get(self._watched)))
        text = (
            f"saga: the time for exploring is over, and {call.what} of {call.step} has not returned; it is waited for:\n{stack}"
        )
        sys.stderr.write(text)
