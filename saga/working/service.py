"""How a worker's process is told to stop, and tells its supervisor how it is: signals, and systemd's notifications."""

from __future__ import annotations

import os
import signal
import socket
import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

__all__ = ["notify", "stopped_by_signals"]

_SIGNALS: Final = ("SIGTERM", "SIGINT")
_AT_ONCE: Final = 0.1
"""Seconds that a handler waits for what it has called. That takes longer only where it needs what the main thread holds."""


@contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Have ``stop`` called at the first SIGTERM or SIGINT. A second SIGINT is a ``KeyboardInterrupt``.

    It is called in a thread of its own: the signal may strike while the main thread has the lock that it needs, as in the
    middle of an event's ``wait``, and a handler that waits for that one waits for ever.

    Only the main thread gets signals: elsewhere nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if number == signal.SIGINT and interrupted:
            raise KeyboardInterrupt
        interrupted = interrupted or number == signal.SIGINT
        ended = allocate_lock()
        ended.acquire()

        def work() -> None:
            try:
                stop()
            finally:
                ended.release()

        try:
            start_new_thread(work, ())  # threading's own thread has locks, too
        except RuntimeError:  # none is to be had
            stop()
        else:
            ended.acquire(timeout=_AT_ONCE)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # else it was set from outside Python
                signal.signal(number, handler)


def notify(state: str) -> None:
    """Tell systemd how the service is, where it asks: ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1``. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
