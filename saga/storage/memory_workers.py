"""What a store in memory knows of workers, and of what is held. No execution lives here."""

from __future__ import annotations

import threading
from collections.abc import Callable

from saga.storage import rules
from saga.storage.columns import REMEMBERED
from saga.storage.records import Hold, NewWorker, StoredWorker
from saga.storage.watching import ring

__all__ = ["WorkersInMemory"]


class WorkersInMemory:
    """A part of :class:`~saga.storage.memory.MemoryStore`, whose lock and clock these are."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._closed = False
        self._holds: dict[tuple[str, str], Hold] = {}
        self._workers: dict[str, StoredWorker] = {}

    def hold(self, name: str, version: str, who: str, why: str) -> None:
        rules.check_hold(name, version, who, why)
        with self._lock:
            self._refuse_if_closed()
            self._holds[name, version] = Hold(name, version, who, why, self._clock())

    def let_go(self, name: str, version: str) -> bool:
        with self._lock:
            self._refuse_if_closed()
            found = self._holds.pop((name, version), None) is not None
        ring(self)  # type: ignore[arg-type]
        return found

    def holds(self) -> list[Hold]:
        with self._lock:
            self._refuse_if_closed()
            return [self._holds[key] for key in sorted(self._holds)]

    def announce(self, worker: NewWorker, seconds: float) -> None:
        rules.check_worker(worker, seconds)
        with self._lock:
            self._refuse_if_closed()
            now = self._clock()
            known = self._workers.get(worker.id)
            started = now if known is None else known.started
            definitions = tuple((name, version, fingerprint) for name, version, fingerprint in worker.definitions)
            told = (*worker[:3], definitions, worker.in_hand, worker.stopping)
            self._workers[worker.id] = StoredWorker(*told, started, now, now + seconds)

    def withdraw(self, worker: str) -> None:
        with self._lock:
            self._refuse_if_closed()
            known = self._workers.get(worker)
            if known is not None:
                self._workers[worker] = known._replace(until=min(known.until, self._clock()))

    def workers(self) -> list[StoredWorker]:
        with self._lock:
            self._refuse_if_closed()
            now = self._clock()
            return [self._workers[one] for one in sorted(self._workers) if self._workers[one].until > now - REMEMBERED]

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise rules.closed(type(self).__name__)
