"""The connection that an SQLite store writes with: its commits are counted, it is kept busy, it fails."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from saga.storage import SqliteStore
from saga.storage.group_commit import Write
from tests.kit import until


def writer(store: SqliteStore) -> sqlite3.Connection:
    """Return the connection that writes now."""
    return store._file._commits._connection


class Commits:
    """Counts a connection's commits: transactions that wrote, and statements that were one by themselves."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.count = 0
        self.statements: list[str] = []
        self._inside = False
        connection.set_trace_callback(self._trace)

    def _trace(self, statement: str) -> None:
        self.statements.append(statement)
        if statement.startswith("BEGIN"):
            self._inside = True
        elif statement == "COMMIT":
            self._inside = False
            self.count += 1
        elif not self._inside:
            self.count += 1


@contextmanager
def queueing(store: SqliteStore, gate: threading.Event | None = None):
    """Keep the writer busy, so that whatever is submitted meanwhile becomes one group, in the order of submission."""
    begun, gate = threading.Event(), gate or threading.Event()

    def occupy(connection: sqlite3.Connection) -> None:
        begun.set()
        assert gate.wait(10)

    with ThreadPoolExecutor(70) as pool:
        first = pool.submit(store._file._commits.write, Write(occupy))
        assert begun.wait(10)
        waiting = len(store._file._commits._queue)

        def submit(work, *args, **kwargs) -> Future:
            nonlocal waiting
            future = pool.submit(work, *args, **kwargs)
            waiting += 1
            until(lambda: len(store._file._commits._queue) >= waiting)
            return future

        try:
            yield submit
        finally:
            gate.set()
            first.result()


class Failing:
    """A connection of which one statement fails so many times."""

    def __init__(self, connection: sqlite3.Connection, statement: str, times: int, error: BaseException) -> None:
        self._connection = connection
        self._statement = statement
        self._times = times
        self._error = error

    def execute(self, statement, *args):
        if statement == self._statement and self._times:
            self._times -= 1
            raise self._error
        return self._connection.execute(statement, *args)

    def __getattr__(self, name):
        return getattr(self._connection, name)
