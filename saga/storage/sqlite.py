"""A store in one SQLite file, for the processes of one host.

Every append is on the disk when it returns (write-ahead log, ``synchronous=FULL``); appends of many threads share commits
(:mod:`saga.storage.group_commit`). No connection is opened here, and no statement written out.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from saga.errors import StorageError
from saga.storage import rules
from saga.storage import sqlite_sql as sql
from saga.storage.group_commit import Write, all_of
from saga.storage.protocol import Append, Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution
from saga.storage.sqlite_file import SqliteFile, Synchronous

__all__ = ["SqliteStore"]

T = TypeVar("T")


class SqliteStore(Store):
    """A store in an SQLite file, which is made where it does not exist.

    After a fork, parent and child each open the file again.

    :param path: the file, on a local disk; its folder must exist.
    :param synchronous: ``FULL``: what was appended survives a power failure. ``NORMAL``: it survives the end of the process.
    :param busy_timeout: seconds to wait for another process that writes.
    :param clock: returns seconds since the epoch; where not given, they go on steadily from the host's start on (on Linux), so
        that nobody's lease runs out when the time is set.
    :raises StorageError: the file cannot be opened, is not a database, or was written by a later release.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 5.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if clock is not None:
            rules.check_clock(clock)
        self._file = SqliteFile(path, synchronous, busy_timeout)
        self.longest_text = self._file.longest_text
        self._clock = self._file.now if clock is None else clock

    def now(self) -> float:
        return self._clock()

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner, lease_seconds)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        values = sql.rows_of(Lease(new.saga_id, owner, 1), entries)
        keys = (new.saga_id, new.name, new.version, new.fingerprint, new.digest, status, owner)

        def apply(connection: sqlite3.Connection) -> StoredExecution | None:
            now = self._clock()
            until = now + lease_seconds
            if connection.execute(sql.CREATE, (*keys, until, until, now, now)).rowcount:
                sql.insert_entries(connection, values)
                return None
            return StoredExecution(*connection.execute(sql.GET, (new.saga_id,)).fetchone())

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
        writes: dict[int, Write] = {}
        for number, one in enumerate(appends):
            with suppress(StorageError):  # it is refused for good
                writes[number] = self._appending(*one)
        try:
            self._commit(all_of(list(writes.values())))
        except StorageError:
            return [False] * len(appends)
        return [number in writes and writes[number].error is None for number in range(len(appends))]

    def _appending(
        self, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool, taken: Sequence[int]
    ) -> Write:
        status = None if status is None else rules.check_status(status)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        saga_id = lease.saga_id
        holds = (saga_id, lease.epoch, lease.owner)
        rows = len(entries)
        values = sql.rows_of(lease, entries)
        single = 0 < rows <= sql.MOST_ROWS and status is None and not release and not taken

        def apply(connection: sqlite3.Connection) -> None:
            if sql.insert_entries(connection, values) != rows:
                raise rules.lease_lost(lease)
            if not single:
                rest(connection)

        def rest(connection: sqlite3.Connection) -> None:
            held = True
            if release:
                now = self._clock()
                held = connection.execute(sql.CHANGE_STATUS_AND_RELEASE, (status, now, now, *holds)).rowcount == 1
            elif status is not None:
                held = connection.execute(sql.CHANGE_STATUS, (status, self._clock(), *holds)).rowcount == 1
            elif not rows:
                held = connection.execute(sql.CHECK_LEASE, holds).fetchone() is not None
            if not held:
                raise rules.lease_lost(lease)
            if status in rules.RESTING and {row[0] for row in connection.execute(sql.INBOX, (saga_id,))} - set(taken):
                raise rules.unread(saga_id)
            if taken:
                connection.executemany(sql.DELETE_MESSAGE, [(message, saga_id) for message in taken])

        return Write(apply, single, rows, values, None if single else rest)

    def get(self, saga_id: str) -> StoredExecution | None:
        if not rules.is_id(saga_id):
            return None
        rows = self._file.read(sql.GET, (saga_id,))
        return StoredExecution(*rows[0]) if rows else None

    def journal(self, saga_id: str) -> list[Entry]:
        return self.journals([saga_id])[saga_id]

    def journals(self, saga_ids: Collection[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {saga_id: [] for saga_id in saga_ids}
        for saga_id, *row in self._read_many(sql.journals, found):
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
        rules.check_claim(owner, lease_seconds, limit)
        if saga_id is not None and not rules.is_id(saga_id):
            return []

        def found(connection: sqlite3.Connection, now: float) -> list[tuple[str, float, str]]:
            if saga_id is not None:
                one = connection.execute(sql.FREE, (saga_id, now)).fetchall()
                return [row for row in one if names is None or row[2] in names]
            if names is None:
                return connection.execute(sql.DUE, (now, now, limit)).fetchall()
            ranges = [connection.execute(sql.DUE_BY_NAME, (name, now, now, limit)).fetchall() for name in set(names)]
            return sorted((row for rows in ranges for row in rows), key=lambda row: row[1])[:limit]

        def apply(connection: sqlite3.Connection) -> list[StoredExecution]:
            now = self._clock()
            until = now + lease_seconds
            ids = [row[0] for row in found(connection, now)]
            claimed = {}
            for some in sql.batches(ids):
                values = (owner, until, until, saga_id is None, now, *some)
                claimed.update({row[0]: StoredExecution(*row) for row in connection.execute(sql.claiming(len(some)), values)})
            return [claimed[one] for one in ids]

        return self._write(apply)

    def renew(self, owner: str, leases: Sequence[Lease], lease_seconds: float) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)

        def apply(connection: sqlite3.Connection) -> list[Beat]:
            now = self._clock()
            until = now + lease_seconds
            return [
                Beat(lease.saga_id, bool(row[0]))
                for lease in leases
                for row in connection.execute(sql.RENEW, (until, until, now, lease.saga_id, lease.epoch, owner)).fetchall()
            ]

        return self._write(apply) if leases else []

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        rules.check_number("delay", delay)

        def apply(connection: sqlite3.Connection) -> None:
            now = self._clock()
            connection.execute(sql.RELEASE, (now + delay, now, got_on, untried, lease.saga_id, lease.epoch, lease.owner))

        self._write(apply, single=True)

    def post(self, saga_id: str, body: str) -> None:
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        rules.check_texts([body], self.longest_text)

        def apply(connection: sqlite3.Connection) -> None:
            if connection.execute(sql.MAKE_DUE, (self._clock(), saga_id)).rowcount != 1:
                row = connection.execute(sql.GET, (saga_id,)).fetchone()
                raise rules.unknown_execution(saga_id) if row is None else rules.ended(saga_id, StoredExecution(*row).status)
            connection.execute(sql.POST, (saga_id, body))

        self._write(apply)

    def inbox(self, saga_id: str) -> list[Message]:
        return [Message(*row) for row in self._file.read(sql.INBOX, (saga_id,))] if rules.is_id(saga_id) else []

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        return {row[0] for row in self._read_many(sql.with_mail, saga_ids)}

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
        rules.check_page(created_before, created_after, limit)
        statuses = rules.statuses_of(status)
        created, saga_id = rules.bound_of(after, created_before)
        if not statuses:
            return Page((), None)
        start = -rules.END_OF_TIME if created_after is None else created_after
        values: list[Any] = []
        for one in statuses:
            values += [one, *(() if name is None else (name,)), start, created, created, saga_id, limit + 1]
        rows = self._file.read(sql.listing(len(statuses), name is not None), (*values, limit + 1))
        return rules.page_of([StoredExecution(*row) for row in rows], limit)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_purge(updated_before, status, limit)

        def apply(connection: sqlite3.Connection) -> int:
            now = self._clock()
            old: list[tuple[str]] = []
            for one in statuses:
                # Nothing is written before it is created, so what is old is found by when it was created.
                values = (one, updated_before, updated_before, now, limit - len(old))
                old += connection.execute(sql.PURGEABLE, values).fetchall()
            for statement in sql.PURGE:
                connection.executemany(statement, old)
            return len(old)

        return self._write(apply)

    def close(self) -> None:
        self._file.close()

    def _write(self, apply: Callable[[sqlite3.Connection], T], *, single: bool = False) -> T:
        return self._commit(Write(apply, single))  # type: ignore[no-any-return]

    def _commit(self, write: Write, saga_id: str = "", entries: Sequence[Entry] = ()) -> Any:
        """Have it written, and return what its ``apply`` returned."""
        try:
            return self._file.write(write)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE":
                raise rules.already_stored(saga_id, entries) from error
            raise StorageError(f"{self._file.path}: {error}; nothing was stored") from error
        except (sqlite3.Error, OverflowError) as error:
            raise StorageError(f"{self._file.path}: {error}; nothing was stored") from error
        except UnicodeEncodeError as error:
            fault = str(error)
        # Here, as what is raised where an error is handled knows that error, and this one the value.
        raise StorageError(f"{self._file.path}: {fault}; nothing was stored")

    def _read_many(self, statement: Callable[[int], str], saga_ids: Collection[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of statements for up to so many ids."""
        for some in sql.batches([saga_id for saga_id in saga_ids if rules.is_id(saga_id)]):
            yield from self._file.read(statement(len(some)), some)
