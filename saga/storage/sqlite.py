"""A store in one SQLite file, for the processes of one host.

Every append is on the disk when it returns (write-ahead log, ``synchronous=FULL``); appends of many threads share commits
(:mod:`saga.storage.group_commit`). One connection writes and one reads: more of them make SQLite slower.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.group_commit import GroupCommit, Write, of_each
from saga.storage.protocol import Append, Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution

__all__ = ["SqliteStore"]

T = TypeVar("T")

MIGRATIONS: list[tuple[str, ...]] = [
    (
        """CREATE TABLE saga (
            number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
            fingerprint TEXT NOT NULL, digest TEXT NOT NULL, status TEXT NOT NULL, owner TEXT, epoch INTEGER NOT NULL,
            lease_until REAL NOT NULL, due REAL NOT NULL, recoveries INTEGER NOT NULL, created REAL NOT NULL,
            updated REAL NOT NULL
        )""",
        # Whatever is asked for is one range of one of these for each status (and name); listings merge the ranges.
        "CREATE INDEX saga_listed ON saga (status, created, id)",
        "CREATE INDEX saga_listed_by_name ON saga (status, name, created, id)",
        "CREATE INDEX saga_due ON saga (due) WHERE status IN ('running', 'compensating')",
        "CREATE INDEX saga_due_by_name ON saga (name, due) WHERE status IN ('running', 'compensating')",
        # By number, what is written at the same time lies side by side: a commit of many writers changes few pages.
        """CREATE TABLE saga_journal (
            saga INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, step TEXT, payload TEXT NOT NULL, at REAL NOT NULL,
            UNIQUE (saga, seq)
        )""",
        "CREATE TABLE saga_inbox (id INTEGER PRIMARY KEY AUTOINCREMENT, saga_id TEXT NOT NULL, body TEXT NOT NULL)",
        "CREATE INDEX saga_inbox_of ON saga_inbox (saga_id, id)",
    ),
]
"""The statements that lead from each version of the tables to the next; the first begins with an empty file."""

_WIDTH = 8  # values of a row to append: the execution's id, the entry's columns, the lease's epoch and owner
_MOST_ROWS = 128  # in one statement; SQLite keeps as many statements ready as there are numbers of rows, and a few more

COLUMNS = "id, name, version, fingerprint, digest, status, owner, epoch, lease_until, due, recoveries, created, updated"
CREATE = f"INSERT INTO saga ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, 0, ?, ?) ON CONFLICT (id) DO NOTHING"
HOLDS = "id = ? AND epoch = ? AND owner = ?"
CHECK = f"SELECT 1 FROM saga WHERE {HOLDS}"
CHANGE = f"UPDATE saga SET status = coalesce(?, status), updated = ? WHERE {HOLDS}"
FINISH = f"UPDATE saga SET status = coalesce(?, status), updated = ?, owner = NULL, lease_until = 0, due = ? WHERE {HOLDS}"
TAKE_MESSAGE = "DELETE FROM saga_inbox WHERE id = ? AND saga_id = ?"
GET = f"SELECT {COLUMNS} FROM saga WHERE id = ?"
FREE = "SELECT id, due, name FROM saga WHERE id = ? AND lease_until <= ?"
# Without statistics, SQLite would choose others than these indexes.
DUE = (
    "SELECT id, due, name FROM saga INDEXED BY saga_due"
    " WHERE status IN ('running', 'compensating') AND due <= ? AND lease_until <= ? ORDER BY due LIMIT ?"
)
DUE_BY_NAME = (
    "SELECT id, due, name FROM saga INDEXED BY saga_due_by_name"
    " WHERE status IN ('running', 'compensating') AND name = ? AND due <= ? AND lease_until <= ? ORDER BY due LIMIT ?"
)
RENEW = (
    "UPDATE saga SET lease_until = ?, due = ?, updated = ? WHERE id = ? AND epoch = ? AND owner = ?"
    " RETURNING EXISTS (SELECT 1 FROM saga_inbox WHERE saga_id = saga.id)"
)
RELEASE = (
    "UPDATE saga SET owner = NULL, lease_until = 0, due = ?, updated = ?,"
    f" recoveries = CASE WHEN ? THEN 0 ELSE recoveries - ? END WHERE {HOLDS}"
)
WAKE = "UPDATE saga SET due = min(due, ?) WHERE id = ?"
POST = "INSERT INTO saga_inbox (saga_id, body) VALUES (?, ?)"
INBOX = "SELECT id, saga_id, body FROM saga_inbox WHERE saga_id = ? ORDER BY id"
OLD = (
    "SELECT id FROM saga INDEXED BY saga_listed WHERE status = ? AND created < ? AND updated < ? AND lease_until <= ?"
    " ORDER BY status, created, id LIMIT ?"
)
ERASE = (
    "DELETE FROM saga_journal WHERE saga = (SELECT number FROM saga WHERE id = ?)",
    "DELETE FROM saga_inbox WHERE saga_id = ?",
    "DELETE FROM saga WHERE id = ?",
)


@lru_cache(_MOST_ROWS)
def appending(rows: int) -> str:
    """Return the statement that adds so many rows, each where its lease still holds."""
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return (
        "INSERT INTO saga_journal SELECT number, column2, column3, column4, column5, column6"
        f" FROM (VALUES {values}) AS entry CROSS JOIN saga"  # CROSS: for each entry its saga, not the other way round
        " WHERE saga.id = entry.column1 AND saga.epoch = entry.column7 AND saga.owner = entry.column8"
    )


@lru_cache(_MOST_ROWS)
def journals(executions: int) -> str:
    """Return the statement that reads so many journals."""
    return (
        "SELECT id, seq, kind, step, payload, at FROM saga CROSS JOIN saga_journal ON saga = number"
        f" WHERE id IN ({', '.join('?' * executions)}) ORDER BY number, seq"
    )


@lru_cache(_MOST_ROWS)
def with_mail(executions: int) -> str:
    """Return the statement that finds out which of so many executions have messages."""
    return f"SELECT DISTINCT saga_id FROM saga_inbox WHERE saga_id IN ({', '.join('?' * executions)})"


@lru_cache(_MOST_ROWS)
def taking(executions: int) -> str:
    """Return the statement that takes so many leases."""
    return (
        "UPDATE saga SET owner = ?, epoch = epoch + 1, lease_until = ?, due = ?, recoveries = recoveries + ?, updated = ?"
        f" WHERE id IN ({', '.join('?' * executions)}) RETURNING {COLUMNS}"
    )


def append(connection: sqlite3.Connection, values: Sequence[Any]) -> int:
    """Add rows, given by their values one after the other. Return how many of them were added: those whose lease held."""
    rows = len(values) // _WIDTH
    if rows <= _MOST_ROWS:
        return connection.execute(appending(rows), values).rowcount if rows else 0
    most = _MOST_ROWS * _WIDTH
    return sum(append(connection, values[first : first + most]) for first in range(0, len(values), most))


def _batches(ids: list[str]) -> Iterator[list[str]]:
    return (ids[first : first + _MOST_ROWS] for first in range(0, len(ids), _MOST_ROWS))


def _values(lease: Lease, entries: Sequence[Entry]) -> list[Any]:
    """Return the entries' rows for :func:`append`."""
    saga_id, owner, epoch = lease
    return [value for entry in entries for value in (saga_id, *entry, epoch, owner)]


def listing(statuses: int, by_name: bool) -> str:
    """Return the statement of a page: so many ranges of an index, each in order, and the newest of all."""
    name, index = ("AND name = ? ", "saga_listed_by_name") if by_name else ("", "saga_listed")
    ranges = (
        f"SELECT * FROM (SELECT {COLUMNS} FROM saga INDEXED BY {index} WHERE status = ? {name}AND created >= ? AND created <= ?"
        " AND (created < ? OR id < ?) ORDER BY created DESC, id DESC LIMIT ?)"
    )
    return " UNION ALL ".join([ranges] * statuses) + " ORDER BY created DESC, id DESC LIMIT ?"


class SqliteStore(Store):
    """A store in an SQLite file, which is made where it does not exist.

    After a fork, parent and child each open the file again.

    :param path: the file, on a local disk; its folder must exist.
    :param synchronous: ``FULL``: what was appended survives a power failure. ``NORMAL``: it survives the end of the process.
    :param busy_timeout: seconds to wait for another process that writes.
    :param clock: returns seconds since the epoch.
    :raises StorageError: the file cannot be opened, is not a database, or was written by a later release.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["EXTRA", "FULL", "NORMAL", "OFF"] = "FULL",
        busy_timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if synchronous not in ("EXTRA", "FULL", "NORMAL", "OFF"):
            raise ValueError(f"synchronous must be EXTRA, FULL, NORMAL or OFF, not {synchronous!r}")
        if sqlite3.sqlite_version_info < (3, 35):
            raise StorageError(f"SqliteStore needs SQLite 3.35 or later; this Python has {sqlite3.sqlite_version}")
        self._path = _checked(path)
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._closed = False
        self._reading = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._commits = GroupCommit(self._connect, append)
        with _storage_errors(self._path):
            self._commits.write(Write(lambda connection: None))
        _open_stores.add(self)

    def now(self) -> float:
        return self._clock()

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner)
        values = _values(Lease(new.saga_id, owner, 1), entries)
        keys = (new.saga_id, new.name, new.version, new.fingerprint, new.digest, status, owner)

        def apply(connection: sqlite3.Connection) -> StoredExecution | None:
            now = self._clock()
            until = now + lease_seconds
            if connection.execute(CREATE, (*keys, until, until, now, now)).rowcount:
                append(connection, values)
                return None
            return StoredExecution(*connection.execute(GET, (new.saga_id,)).fetchone())

        return self._commit(Write(apply), new.saga_id, entries)  # type: ignore[no-any-return]

    def append(
        self,
        lease: Lease,
        entries: Sequence[Entry],
        *,
        status: str | None = None,
        release: bool = False,
        taken: Sequence[int] = (),
    ) -> None:
        self._commit(self._appending(lease, entries, status, release, taken), lease.saga_id, entries)

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        writes = [self._appending(*one) for one in appends]
        try:
            self._commit(of_each(writes))
        except StorageError:
            return [False] * len(writes)
        return [write.error is None for write in writes]

    def _appending(
        self, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool, taken: Sequence[int]
    ) -> Write:
        status = None if status is None else rules.check_status(status)
        saga_id = lease.saga_id
        holds = (saga_id, lease.epoch, lease.owner)
        rows = len(entries)
        values = _values(lease, entries)
        changes = status is not None or release
        alone = 0 < rows <= _MOST_ROWS and not changes and not taken

        def apply(connection: sqlite3.Connection) -> None:
            if append(connection, values) != rows:
                raise rules.lease_lost(lease)
            if not alone:
                rest(connection)

        def rest(connection: sqlite3.Connection) -> None:
            held = True
            if changes:
                now = self._clock()
                change = (FINISH, (status, now, now, *holds)) if release else (CHANGE, (status, now, *holds))
                held = connection.execute(*change).rowcount == 1
            elif not rows:
                held = connection.execute(CHECK, holds).fetchone() is not None
            if not held:
                raise rules.lease_lost(lease)
            if taken:
                connection.executemany(TAKE_MESSAGE, [(message, saga_id) for message in taken])

        return Write(apply, alone, rows, values, None if alone else rest)

    def get(self, saga_id: str) -> StoredExecution | None:
        if not rules.is_id(saga_id):
            return None
        rows = self._read(GET, (saga_id,))
        return StoredExecution(*rows[0]) if rows else None

    def journal(self, saga_id: str) -> list[Entry]:
        return self.journals([saga_id])[saga_id]

    def journals(self, saga_ids: Collection[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {saga_id: [] for saga_id in saga_ids}
        for saga_id, *row in self._read_many(journals, found):
            found[saga_id].append(Entry(*row))
        return found

    def claim(
        self,
        owner: str,
        lease_seconds: float,
        *,
        names: Collection[str] | None = None,
        limit: int = 1,
        saga_id: str | None = None,
    ) -> list[StoredExecution]:
        rules.check_claim(owner, limit)
        if saga_id is not None and not rules.is_id(saga_id):
            return []

        def found(connection: sqlite3.Connection, now: float) -> list[tuple[str, float, str]]:
            if saga_id is not None:
                one = connection.execute(FREE, (saga_id, now)).fetchall()
                return [row for row in one if names is None or row[2] in names]
            if names is None:
                return connection.execute(DUE, (now, now, limit)).fetchall()
            ranges = [connection.execute(DUE_BY_NAME, (name, now, now, limit)).fetchall() for name in set(names)]
            return sorted((row for rows in ranges for row in rows), key=lambda row: row[1])[:limit]

        def apply(connection: sqlite3.Connection) -> list[StoredExecution]:
            now = self._clock()
            until = now + lease_seconds
            ids = [row[0] for row in found(connection, now)]
            taken = {}
            for some in _batches(ids):
                values = (owner, until, until, saga_id is None, now, *some)
                taken.update({row[0]: StoredExecution(*row) for row in connection.execute(taking(len(some)), values)})
            return [taken[found_id] for found_id in ids]

        return self._write(apply)

    def renew(self, owner: str, leases: Sequence[Lease], lease_seconds: float) -> list[Beat]:
        def apply(connection: sqlite3.Connection) -> list[Beat]:
            now = self._clock()
            until = now + lease_seconds
            return [
                Beat(lease.saga_id, bool(row[0]))
                for lease in leases
                for row in connection.execute(RENEW, (until, until, now, lease.saga_id, lease.epoch, owner)).fetchall()
            ]

        return self._write(apply) if leases else []

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        def apply(connection: sqlite3.Connection) -> None:
            now = self._clock()
            connection.execute(RELEASE, (now + delay, now, got_on, untried, lease.saga_id, lease.epoch, lease.owner))

        self._write(apply, single=True)

    def post(self, saga_id: str, body: str) -> None:
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)

        def apply(connection: sqlite3.Connection) -> None:
            if connection.execute(WAKE, (self._clock(), saga_id)).rowcount != 1:
                raise rules.unknown_execution(saga_id)
            connection.execute(POST, (saga_id, body))

        self._write(apply)

    def inbox(self, saga_id: str) -> list[Message]:
        return [Message(*row) for row in self._read(INBOX, (saga_id,))] if rules.is_id(saga_id) else []

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        return {row[0] for row in self._read_many(with_mail, saga_ids)}

    def list(
        self,
        *,
        status: Collection[str] | None = None,
        name: str | None = None,
        created_before: float | None = None,
        created_after: float | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        statuses = rules.statuses_of(status)
        created, saga_id = rules.bound_of(after, created_before, limit)
        if not statuses:
            return Page((), None)
        start = -rules.END_OF_TIME if created_after is None else created_after
        values: list[Any] = []
        for one in statuses:
            values += [one, *(() if name is None else (name,)), start, created, created, saga_id, limit + 1]
        rows = self._read(listing(len(statuses), name is not None), (*values, limit + 1))
        return rules.page_of([StoredExecution(*row) for row in rows], limit)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_terminal(status)

        def apply(connection: sqlite3.Connection) -> int:
            now = self._clock()
            old: list[tuple[str]] = []
            for one in statuses:
                # Nothing is written before it is created, so what is old is found by when it was created.
                values = (one, updated_before, updated_before, now, limit - len(old))
                old += connection.execute(OLD, values).fetchall()
            for statement in ERASE:
                connection.executemany(statement, old)
            return len(old)

        return self._write(apply)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._commits.is_of_this_process():
            return
        # Whoever waits in the queue is told that the store is closed.
        try:
            self._commits.hold(threading.TIMEOUT_MAX)
            with self._reading, _storage_errors(self._path):
                self._disconnect()
        finally:
            self._commits.resume()

    def _disconnect(self) -> None:
        """Close both connections. Only for who holds up both writes and reads."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        self._commits.disconnect()

    def _write(self, apply: Callable[[sqlite3.Connection], T], *, single: bool = False) -> T:
        return self._commit(Write(apply, single))  # type: ignore[no-any-return]

    def _commit(self, write: Write, saga_id: str = "", entries: Sequence[Entry] = ()) -> Any:
        """Have it written, and return what its ``apply`` returned."""
        if self._closed:
            raise rules.closed(self)
        try:
            return self._commits.write(write)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE":
                raise rules.already_stored(saga_id, entries) from error
            raise StorageError(f"{self._path}: {error}; nothing was stored") from error
        except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            raise StorageError(f"{self._path}: {error}; nothing was stored") from error

    def _read(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        with self._reading, _storage_errors(self._path):
            self._commits.check_process()
            if self._closed:
                raise rules.closed(self)
            if self._reader is None:
                self._reader = self._open()
                self._reader.execute("PRAGMA query_only = ON")
            return self._reader.execute(statement, values).fetchall()

    def _read_many(self, statement: Callable[[int], str], saga_ids: Collection[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of statements for up to so many ids."""
        for some in _batches([saga_id for saga_id in saga_ids if rules.is_id(saga_id)]):
            yield from self._read(statement(len(some)), some)

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise rules.closed(self)
        return sqlite3.connect(
            self._path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=2 * _MOST_ROWS,
        )

    def _connect(self) -> sqlite3.Connection:
        """Return the connection that writes, to a file with the present version of the tables."""
        connection = self._open()
        try:
            _check_version(connection, self._path)
            self._use_log(connection)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            _migrate(connection, self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_log(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait when two processes do this at once, whatever the timeout is.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                if mode != "wal":
                    raise StorageError(f"{self._path}: SQLite cannot keep a write-ahead log here (its mode is {mode!r})")
                return


def _checked(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not text or ":memory:" in text or "\0" in text:
        raise StorageError(f"{text!r} is not a file's path: saga.storage.MemoryStore keeps executions in memory")
    full = Path(text).absolute()
    if not full.parent.is_dir():
        raise StorageError(f"{full}: there is no folder {full.parent}; make it first")
    return str(full)


@contextmanager
def _storage_errors(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}") from error


def _check_version(connection: sqlite3.Connection, path: str) -> int:
    """Return the version of the tables, 0 where there are none.

    :raises StorageError: it is a later one than this code knows.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'saga_schema'").fetchone():
        return 0
    version: int = connection.execute("SELECT max(version) FROM saga_schema").fetchone()[0]
    if version > len(MIGRATIONS):
        raise rules.too_new(version, len(MIGRATIONS), path)
    return version


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the tables to the present version, while no other process does."""
    if _check_version(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _check_version(connection, path)
        connection.execute("CREATE TABLE IF NOT EXISTS saga_schema (version INTEGER NOT NULL)")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("DELETE FROM saga_schema")
        connection.execute("INSERT INTO saga_schema VALUES (?)", (len(MIGRATIONS),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


# SQLite keeps track of its file locks in memory that a child would share the contents of but not the locks. So no file
# may be open while the process forks. (sqlite.org/howtocorrupt.html, "Carrying an open database connection across a fork")
_open_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_held_up: list[tuple[SqliteStore, bool]] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()
    for store in list(_open_stores):
        _held_up.append((store, False))  # first, so that an interrupt leaves none held up
        if store._commits.hold(store._busy_timeout) and store._reading.acquire(timeout=store._busy_timeout):
            _held_up[-1] = (store, True)
            store._disconnect()


def _after_fork_in_parent() -> None:
    while _held_up:
        store, quiet = _held_up.pop()
        if quiet:
            store._reading.release()
        store._commits.resume()
    _forking.release()


def _after_fork_in_child() -> None:
    while _held_up:
        store, quiet = _held_up.pop()
        store._reading = threading.Lock()
        if quiet:
            store._commits.begin_again_in_child()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
