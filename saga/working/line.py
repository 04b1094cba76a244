"""Where executions that take turns at being undone wait: what came of one's call is stored with what came of others'.

A thread that makes calls makes one of another execution meanwhile. So there are few commits, each of many; a call that takes
long keeps nothing that came before it from being stored; and what an execution does next it does when its own is stored.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import NamedTuple

from saga.drivers.threads import Execution
from saga.durable.journal import Journal
from saga.durable.shared_commits import are_shared, commit_each
from saga.machine import Machine
from saga.own_log import LOG
from saga.storage.protocol import Store

__all__ = ["Line"]


class _Place(NamedTuple):
    execution: Execution
    turn: Callable[[], object]


class Line:
    """Stores what executions bring, in a thread of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: queue.SimpleQueue[_Place | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # an interrupt may leave it locked: where it strikes, all goes on in the same thread

    def takes(self, execution: Execution) -> bool:
        """Whether an execution is one to take turns, and something is gained by it."""
        return are_shared(self._store) and execution.takes_turns()

    def add(self, execution: Execution, turn: Callable[[], object]) -> None:
        """Have stored what an execution brings. ``turn`` is called then; what could not be stored it has to store itself."""
        with self._lock:
            started = self._thread is not None or self._start()
        if started:
            self._places.put(_Place(execution, turn))
        else:
            turn()

    def close(self) -> None:
        """End the thread, when it has stored what was brought."""
        if self._thread is not None and self._thread.ident is not None:
            self._places.put(None)
            self._thread.join()

    def _start(self) -> bool:
        # It is known before it begins: an interrupt may strike between.
        self._thread = threading.Thread(target=self._labour, name="saga worker commits", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread is to be had
            self._thread = None
        return self._thread is not None

    def _labour(self) -> None:
        while self._store_some():  # which keeps nothing of them while it waits for others
            pass

    def _store_some(self) -> bool:
        """Store what there is, when there is any. Return whether there may be more."""
        taken = [self._places.get()]
        while not self._places.empty():
            taken.append(self._places.get())
        places = [place for place in taken if place is not None]
        try:
            commit_each(self._store, [_brought_by(place.execution) for place in places])
        except BaseException:  # of a store with a fault
            LOG.exception("what several executions brought could not be stored together")
        for place in places:
            place.turn()
        return len(places) == len(taken)


def _brought_by(execution: Execution) -> tuple[Journal, Machine]:
    assert isinstance(execution.journal, Journal)
    return execution.journal, execution.machine
