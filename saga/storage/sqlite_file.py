"""One SQLite file, as the threads of a process share it: a connection that writes, one that reads, none while it forks.

More connections make SQLite slower. Nothing of executions is known here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from operator import methodcaller
from pathlib import Path
from typing import Any, Final, Literal

from saga.clocks import boot, clock, host_time, since_boot
from saga.errors import StorageError
from saga.storage import rules, sqlite_tables
from saga.storage import sqlite_sql as sql
from saga.storage.group_commit import GroupCommit, Write
from saga.storage.opened import check_path
from saga.storage.sqlite_place import Place
from saga.storage.sqlite_step import SqliteTransaction, WritingConnection

__all__ = ["SqliteFile", "Synchronous"]

Synchronous = Literal["EXTRA", "FULL", "NORMAL", "OFF"]

#: Text that is none, in a damaged row, is read too: whoever knows what it should say tells which entry is damaged.
_DAMAGED_TOO: Final = methodcaller("decode", "utf-8", "surrogateescape")


class SqliteFile:
    """A file with the present version of the tables, which is made where it does not exist.

    :param path: on a local disk; its folder must exist.
    :param synchronous: what SQLite's setting of this name is to be.
    :param busy_timeout: seconds to wait for another process that writes.
    :raises StorageError: it cannot be opened, is not a database, or was written by a later release; or SQLite is too old.
    :raises ValueError: SQLite has no such setting, or ``busy_timeout`` is no finite number of at least 0.
    :ivar path: where it is, absolute.
    :ivar longest_text: how many bytes SQLite takes as one value.
    """

    longest_text = 0
    _ahead: float | None = None

    def __init__(self, path: str | os.PathLike[str], synchronous: Synchronous, busy_timeout: float | timedelta) -> None:
        if synchronous not in ("EXTRA", "FULL", "NORMAL", "OFF"):
            raise ValueError(f"synchronous must be EXTRA, FULL, NORMAL or OFF, not {synchronous!r}")
        patience = rules.patience_of("busy_timeout", busy_timeout)
        if sqlite3.sqlite_version_info < (3, 35):
            raise StorageError(f"SqliteStore needs SQLite 3.35 or later; this Python has {sqlite3.sqlite_version}")
        self.path = _checked(path)
        self._place = Place(self.path)
        self._place.make()
        self._synchronous = synchronous
        self._busy_timeout = patience
        self._closed = False
        self._reading = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._commits = GroupCommit(self._connect_to_write, sql.insert_entries, self._place)
        with self._storage_errors():
            # Nothing is written where the tables are there: whoever opens it may have it locked himself.
            self._commits.write(Write(lambda connection: None, single=True))
        _files.add(self)

    def now(self) -> float:
        """Return seconds since the epoch, by a clock that all processes of the host agree on.

        It was set by the first that opened the file after the host was started, and goes on whoever sets the time since. Where
        the host cannot say when it was started, it is the time of day.
        """
        return host_time() if self._ahead is None else since_boot() + self._ahead

    def write(self, write: Write) -> Any:
        """Return what the write's ``apply`` returns, once what it wrote is committed, with what other threads write meanwhile.

        :raises sqlite3.Error: as ``apply`` and ``COMMIT`` raise it, as does whatever else ``apply`` raises; nothing is written.
        :raises StorageError: the file is closed.
        """
        if self._closed:
            raise rules.closed("SqliteStore")
        return self._commits.write(write)

    def check_usable(self) -> None:
        """See that it is open, and where it was.

        :raises StorageError: it is not.
        """
        if self._closed:
            raise rules.closed("SqliteStore")
        self._place.check()

    def transaction(self, appending: Callable[..., Write]) -> SqliteTransaction:
        """Return what lends the connection that writes. ``appending``: makes the write of an append."""
        if self._closed:
            raise rules.closed("SqliteStore")
        return SqliteTransaction(self._commits, appending, self.path)

    def read(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement that only reads.

        :raises StorageError: it failed, or the file is closed.
        """
        with self._reading, self._storage_errors():
            self._commits.check_process()
            if self._closed:
                raise rules.closed("SqliteStore")
            if self._reader is None:
                self._reader = self._connect()
                self._reader.execute("PRAGMA query_only = ON")
                self._reader.text_factory = _DAMAGED_TOO
            rows = self._reader.execute(statement, values).fetchall()
            self._place.check()
            return rows

    def close(self) -> None:
        """Close both connections, once the write that runs has ended. Whoever waits in the queue finds the file closed."""
        if self._closed:
            return
        self._closed = True
        if not self._commits.is_of_this_process():
            return
        try:
            self._commits.halt(threading.TIMEOUT_MAX)
            with self._reading, self._storage_errors():
                self._disconnect()
        finally:
            self._commits.resume()

    def _disconnect(self) -> None:
        """Close both connections. Only for who has halted the writes and keeps others from reading."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        self._commits.disconnect()

    def _connect(self) -> WritingConnection:
        if self._closed:
            raise rules.closed("SqliteStore")
        self._place.check()  # else SQLite would make another
        return sqlite3.connect(
            self.path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=2 * sql.MOST_ROWS,
            factory=WritingConnection,
        )

    def _connect_to_write(self) -> WritingConnection:
        """Return the connection that writes, to a file with the present version of the tables."""
        connection = self._connect()
        try:
            sqlite_tables.check_version(connection, self.path)
            self._use_log(connection)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            sqlite_tables.migrate(connection, self.path)
            started = boot()
            self._ahead = (
                None if started is None else sqlite_tables.time_at_boot(connection, started, host_time() - since_boot())
            )
            self._place.remember(beside=True)
            self.longest_text = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - 65_536
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_log(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait when two processes do this at once, whatever the timeout is.
        deadline = clock() + self._busy_timeout
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError:
                if clock() > deadline:
                    raise
                time.sleep(0.01)
            else:
                if mode != "wal":
                    raise StorageError(f"{self.path}: SQLite cannot keep a write-ahead log here (its mode is {mode!r})")
                return

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: {error}") from error

    # -- forks --------------------------------------------------------------------------------------------------------

    def _halt(self) -> bool:
        """Let nobody write or read before a fork. Return whether those that did so have ended in time."""
        return self._commits.halt(self._busy_timeout) and self._reading.acquire(timeout=self._busy_timeout)

    def _resume(self, quiet: bool) -> None:
        """Go on in the process that has forked.

        :param quiet: what :meth:`_halt` returned.
        """
        if quiet:
            self._reading.release()
        self._commits.resume()

    def _restart_in_child(self, quiet: bool) -> None:
        """Begin anew in the child, unless a write or a read was under way when it was forked."""
        self._reading = threading.Lock()
        if quiet:
            self._commits.restart_in_child()


def _checked(path: str | os.PathLike[str]) -> str:
    text = path if not isinstance(path, os.PathLike) else os.fspath(path)
    if isinstance(text, str) and (not text or ":memory:" in text or "\0" in text):
        raise StorageError(f"{text!r} is not a file's path: saga.storage.MemoryStore keeps executions in memory")
    check_path(path, "SqliteStore: path")
    full = Path(text).absolute()
    if not full.parent.is_dir():
        raise StorageError(f"{full}: there is no folder {full.parent}; make it first")
    return str(full)


# SQLite keeps track of its file locks in memory that a child would share the contents of but not the locks. So no file
# may be open while the process forks. (sqlite.org/howtocorrupt.html, "Carrying an open database connection across a fork")
_files: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
_halted: list[tuple[SqliteFile, bool]] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()
    for file in list(_files):
        _halted.append((file, False))  # first, so that an interrupt leaves none halted
        if file._halt():
            _halted[-1] = (file, True)
            file._disconnect()


def _after_fork_in_parent() -> None:
    while _halted:
        file, quiet = _halted.pop()
        file._resume(quiet)
    _forking.release()


def _after_fork_in_child() -> None:
    while _halted:
        file, quiet = _halted.pop()
        file._restart_in_child(quiet)
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
