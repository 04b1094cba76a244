"""Waiting for something to claim: what a worker does between two looks into its store. No store and no statement lives here.

What this process stores itself rings every watch of the store. What others store, a kind of store may notice in a way of its
own; where it has none, a worker looks now and then.
"""

from __future__ import annotations

import selectors
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from saga.clocks import clock

if TYPE_CHECKING:
    from saga.storage.protocol import Store

__all__ = ["Watch", "ring"]

_watches: weakref.WeakKeyDictionary[Store, weakref.WeakSet[Watch]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def ring(store: Store) -> None:
    """Say that something was stored which can be claimed."""
    with _lock:
        watches = list(_watches.get(store, ()))
    for watch in watches:
        watch.wake()


class Watch:
    """Waits until there may be something to claim in a store. One thread waits; any may wake it, and so may a signal handler.

    A kind of store that can notice what other processes store has a subclass.
    """

    hears_others = False
    """Whether it is woken by what other processes store, too."""

    pause: float | None = None
    """Seconds between two calls of :meth:`look`; ``None``: it is not called."""

    def __init__(self, store: Store) -> None:
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._woken, selectors.EVENT_READ)
        with _lock:
            _watches.setdefault(store, weakref.WeakSet()).add(self)

    def wait(self, seconds: float) -> bool:
        """Return when there may be something to claim, or after so many seconds: whether it is that there may be something."""
        deadline = clock() + seconds
        while True:
            left = deadline - clock()
            timeout = max(0.0, left if self.pause is None else min(left, self.pause))
            ready = [key.fileobj for key, _ in self._ready.select(timeout)]
            if self._woken in ready:
                with suppress(BlockingIOError):
                    while self._woken.recv(4096):
                        pass
                return True
            if self.look(bool(ready)):
                return True
            if left <= 0:
                return False

    def wake(self) -> None:
        """Let :meth:`wait` return now, or at once when it is called next."""
        with suppress(OSError):  # it is full, and wakes all the same; or closed
            self._waker.send(b".")

    def listen(self, descriptor: int) -> None:
        """Let :meth:`look` be called whenever this is readable."""
        self._ready.register(descriptor, selectors.EVENT_READ)

    def look(self, ready: bool) -> bool:
        """Return whether others may have stored something. :param ready: whether what it listens to is readable."""
        return False

    def close(self) -> None:
        """Wait no more."""
        self._ready.close()
        self._waker.close()
        self._woken.close()
