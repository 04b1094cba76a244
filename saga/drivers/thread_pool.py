"""The threads in which one driver's calls are made beside its loop: one that is free takes the next call.

They are no daemons: what a call did may still have to be undone. So none is left waiting when nothing goes on in the driver.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from saga.drivers import forks

__all__ = ["ThreadPool", "Work"]

Work = Callable[[Callable[[], None]], None]
"""What a thread does. It is given what to call when the thread is free, which is before anybody hears that it has ended."""

_Queue = queue.SimpleQueue[tuple[str, Work] | None]


class ThreadPool:
    """There are as many threads as there were calls at a time. Only one thread uses it."""

    def __init__(self) -> None:
        self._all: dict[_Queue, threading.Thread] = {}
        self._free: list[_Queue] = []

    def begin(self, name: str, work: Work) -> threading.Thread:
        """Do ``work`` in a thread that is free, or in a new one, which has this name meanwhile. Return the thread.

        :raises RuntimeError: no thread is to be had.
        """
        if self._free:
            work_of = self._free.pop()
            work_of.put((name, work))
            return self._all[work_of]
        work_of = queue.SimpleQueue()
        thread = threading.Thread(target=_serve, args=(work_of, self._free, [work]), name=name)
        self._all[work_of] = thread  # before it starts, so that none is forgotten where an interrupt strikes here
        thread.start()
        return thread

    def end(self) -> None:
        """Let each thread end, once its call has."""
        for work_of in self._all:
            work_of.put(None)
        self._all, self._free = {}, []


def _serve(work_of: _Queue, free: list[_Queue], first: list[Work]) -> None:
    process = forks.process
    first.pop()(lambda: free.append(work_of))  # at once: it knows the call, and its view, as long as it is there
    while process is forks.process:  # a child that a call has forked has no other call to make
        given = work_of.get()
        if given is None:
            return
        name, work = given
        threading.current_thread().name = name
        work(lambda: free.append(work_of))
        del given, work
