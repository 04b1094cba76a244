"""What a store in an SQLite file knows of workers, and of what is held. No execution lives here."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from saga.storage import rules
from saga.storage import sqlite_sql as sql
from saga.storage.columns import REMEMBERED, definitions_text, worker_of
from saga.storage.protocol import Store
from saga.storage.records import Hold, NewWorker, StoredWorker
from saga.storage.sqlite_file import SqliteFile
from saga.storage.watching import ring

__all__ = ["Workers"]

T = TypeVar("T")


class Workers(Store):
    """A store in an SQLite file, as far as workers and holds go."""

    _file: SqliteFile
    _clock: Callable[[], float]

    def _write(self, apply: Callable[[sqlite3.Connection], T], *, single: bool = False) -> T:
        """Have it written, and return what it returned. :param single: it is one statement."""
        raise NotImplementedError

    def hold(self, name: str, version: str, who: str, why: str) -> None:
        rules.check_hold(name, version, who, why)
        self._write(lambda connection: connection.execute(sql.HOLD, (name, version, who, why, self._clock())), single=True)

    def let_go(self, name: str, version: str) -> bool:
        found = self._write(lambda connection: connection.execute(sql.LET_GO, (name, version)).rowcount == 1, single=True)
        ring(self)
        return found

    def holds(self) -> list[Hold]:
        return [Hold(*row) for row in self._file.read(sql.HELD, ())]

    def announce(self, worker: NewWorker, seconds: float) -> None:
        rules.check_worker(worker, seconds)
        told = (*worker[:3], definitions_text(worker), worker.in_hand, worker.stopping)

        def apply(connection: sqlite3.Connection) -> None:
            now = self._clock()
            connection.execute(sql.FORGET_WORKERS, (now - REMEMBERED,))
            connection.execute(sql.ANNOUNCE, (*told, now, now, now + seconds))

        self._write(apply)

    def withdraw(self, worker: str) -> None:
        self._write(lambda connection: connection.execute(sql.WITHDRAW, (self._clock(), worker)), single=True)

    def workers(self) -> list[StoredWorker]:
        return [worker_of(row) for row in self._file.read(sql.WORKERS, (self._clock() - REMEMBERED,))]
