"""A store in one SQLite file, for the processes of one host.

Every append is on the disk when it returns (write-ahead log, ``synchronous=FULL``); appends of many threads share commits
(:mod:`saga.storage.group_commit`). No connection is opened here, and no statement written out.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from saga.errors import StorageError
from saga.storage import rules, sqlite_list
from saga.storage import sqlite_sql as sql
from saga.storage.columns import counts_of, row_of, tags_text
from saga.storage.enlisted import fault_of
from saga.storage.group_commit import Write, all_of
from saga.storage.pages import after_all_with
from saga.storage.records import (
    NO_PLACES,
    Append,
    Beat,
    Cause,
    Count,
    Entry,
    Hold,
    Lease,
    Listed,
    Message,
    NewExecution,
    Place,
    StoredExecution,
    Told,
    Wanted,
)
from saga.storage.sqlite_alerts import Alerting
from saga.storage.sqlite_claims import Claim
from saga.storage.sqlite_enlisted import Executes, enlisted
from saga.storage.sqlite_file import SqliteFile, Synchronous
from saga.storage.sqlite_step import SqliteTransaction
from saga.storage.sqlite_submit import store_many
from saga.storage.sqlite_tables import MIGRATIONS
from saga.storage.sqlite_watch import LogWatch
from saga.storage.watching import ring

__all__ = ["SqliteStore"]

T = TypeVar("T")


class SqliteStore(Alerting):
    """A store in an SQLite file, which is made where it does not exist.

    After a fork, parent and child each open the file again.

    :param path: the file, on a local disk; its folder must exist.
    :param synchronous: ``FULL``: what was appended survives a power failure. ``NORMAL``: it survives the end of the process.
    :param busy_timeout: seconds to wait for another process that writes.
    :param clock: returns seconds since the epoch; where not given, they go on steadily from the host's start on (on Linux), so
        that nobody's lease runs out when the time is set.
    :raises StorageError: the file cannot be opened, is not a database, or was written by a later release.
    """

    schema_version = len(MIGRATIONS)
    transacts = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float | timedelta = 5.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if clock is not None:
            rules.check_clock(clock)
        self._file = SqliteFile(path, synchronous, busy_timeout)
        self.longest_text = self._file.longest_text
        self._clock = self._file.now if clock is None else clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    def now(self) -> float:
        return self._clock()

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner, lease_seconds)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        first, then = new[:5], (new.step, tags_text(new.tags), new.priority, new.exclusive)

        def apply(connection: sqlite3.Connection) -> StoredExecution | None:
            now = self._clock()
            created = connection.execute(sql.CREATE, (*first, status, owner, now + lease_seconds, now, *then))
            if created.rowcount:
                connection.executemany(sql.ADD_ENTRY, [(created.lastrowid, *entry) for entry in entries])
                if new.tags:
                    connection.executemany(sql.TAG, [(*tag, now, new.saga_id) for tag in new.tags.items()])
                return None
            existing = connection.execute(sql.GET, (new.saga_id,)).fetchone()
            if existing is None:
                rules.check_not_held(new, [Hold(*hold) for hold in connection.execute(sql.HELD)])
            return row_of(existing)

        return self._commit(Write(apply), new.saga_id, entries)  # type: ignore[no-any-return]

    def submit(
        self, new: Sequence[tuple[NewExecution, Sequence[Entry]]], *, connection: Any = None
    ) -> list[StoredExecution | None]:
        statuses = [rules.check_new(one) for one, _ in new]
        for one, entries in new:
            rules.check_texts([entry.payload for entry in entries], self.longest_text)
            if len({entry.seq for entry in entries}) < len(entries):
                raise rules.already_stored(one.saga_id, entries)
        if connection is not None:
            return self._enlisted(connection, lambda executes: store_many(executes, new, statuses, self._clock()))
        found = self._write(lambda connection: store_many(connection, new, statuses, self._clock())) if new else []
        ring(self)
        return found

    def append(
        self,
        lease: Lease,
        entries: Sequence[Entry],
        *,
        status: str | None = None,
        release: bool = False,
        taken: Sequence[int] = (),
        told: Told | None = None,
    ) -> None:
        self._commit(self._appending(lease, entries, status, release, taken, told), lease.saga_id, entries)

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        writes: dict[int, Write] = {}
        for number, one in enumerate(appends):
            with suppress(StorageError):  # it is refused for good
                writes[number] = self._appending(*one)
        try:
            self._commit(all_of(list(writes.values()), sql.insert_entries))
        except StorageError:
            return [False] * len(appends)
        return [number in writes and writes[number].error is None for number in range(len(appends))]

    def transaction(self) -> SqliteTransaction:
        return self._file.transaction(self._appending)

    def _appending(
        self,
        lease: Lease,
        entries: Sequence[Entry],
        status: str | None,
        release: bool,
        taken: Sequence[int],
        told: Told | None,
    ) -> Write:
        status = None if status is None else rules.check_status(status)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        saga_id = lease.saga_id
        holds = (saga_id, lease.epoch, lease.owner)
        rows = len(entries)
        values = sql.rows_of(lease, entries)
        single = 0 < rows <= sql.MOST_ROWS and not (status or release or taken or told)

        def apply(connection: sqlite3.Connection) -> None:
            if sql.insert_entries(connection, values) != rows:
                raise rules.lease_lost(lease)
            if not single:
                rest(connection)

        def rest(connection: sqlite3.Connection) -> None:
            held = True
            if status or release or told:
                now = self._clock()
                says = (*told[:3], now + told.keep if told.keep else None, *(told.definition or ())) if told else ()
                times = (now,) * (1 + bool(status or told) + release)
                change = sql.changing(status, told is not None, len(says) > 4, release)
                held = connection.execute(change, (*says, *times, *holds)).rowcount == 1
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
        return row_of(rows[0]) if rows else None

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
        wanted: Collection[Wanted] | None = None,
        submitted: bool = True,
        limit: int = 1,
        saga_id: str | None = None,
        but: Callable[[], Collection[str]] = frozenset,
    ) -> list[StoredExecution]:
        rules.check_claim(owner, lease_seconds, limit)
        if saga_id is not None and not rules.is_id(saga_id):
            return []

        def apply(connection: sqlite3.Connection) -> list[StoredExecution]:
            claim = Claim(connection, self._clock(), owner, lease_seconds, wanted, but())
            return claim.some(submitted, limit) if saga_id is None else claim.one(saga_id, submitted)

        return self._write(apply)

    def renew(
        self, owner: str, leases: Sequence[Lease], lease_seconds: float, places: Mapping[str, Place] = NO_PLACES
    ) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)

        def apply(connection: sqlite3.Connection) -> list[Beat]:
            now = self._clock()
            times = (now + lease_seconds, now + lease_seconds, now)
            beats = []
            for saga_id, _, epoch in leases:
                values = (*times, saga_id, epoch, owner)
                if place := places.get(saga_id):
                    found = connection.execute(sql.RENEW_AND_TELL, (*values, place.step, now - place.idle)).fetchall()
                else:
                    found = connection.execute(sql.RENEW, values).fetchall()
                beats += [Beat(saga_id, bool(row[0])) for row in found]
            return beats

        return self._write(apply) if leases else []

    def renew_call(self, saga_id: str, seconds: float) -> None:
        rules.check_number("seconds", seconds)
        self._write(lambda connection: connection.execute(sql.RENEW_CALL, (self._clock() + seconds, saga_id)), single=True)

    def release(
        self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False, step: str | None = None
    ) -> None:
        rules.check_number("delay", delay)

        def apply(connection: sqlite3.Connection) -> None:
            now = self._clock()
            held = (lease.saga_id, lease.epoch, lease.owner)
            connection.execute(sql.RELEASE, (delay, now, got_on, untried, step, *held))

        self._write(apply, single=True)
        ring(self)

    def post(self, saga_id: str, body: str, *, status: Collection[str] | None = None) -> None:
        takes = rules.reading(status)
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        rules.check_texts([body], self.longest_text)

        def apply(connection: sqlite3.Connection) -> None:
            if connection.execute(sql.make_due(len(takes)), (self._clock(), saga_id, *takes)).rowcount != 1:
                row = connection.execute(sql.GET, (saga_id,)).fetchone()
                raise rules.unknown_execution(saga_id) if row is None else rules.not_taken(saga_id, row_of(row).status)
            connection.execute(sql.POST, (saga_id, body))

        self._write(apply)
        ring(self)

    def inbox(self, saga_id: str) -> list[Message]:
        return [Message(*row) for row in self._file.read(sql.INBOX, (saga_id,))] if rules.is_id(saga_id) else []

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        return {row[0] for row in self._read_many(sql.with_mail, saga_ids)}

    def count(
        self, by: Sequence[str] = ("name", "status"), *, status: Collection[str] | None = None, name: str | None = None
    ) -> list[Count]:
        columns, statuses = rules.check_count(by), rules.statuses_of(status)
        values = statuses if name is None else [*statuses, name]
        return counts_of(self._file.read(sqlite_list.counting(columns, len(statuses), name is not None), values))

    def causes(self, name: str | None = None) -> list[Cause]:
        found = self._file.read(sqlite_list.causes(name is not None), () if name is None else (name,))
        return [Cause(*row) for row in found]

    def beginning_with(self, text: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        end = after_all_with(text)
        rows = self._file.read(sqlite_list.BEGINNING_WITH, (text, end, limit)) if end is not None and rules.is_id(text) else ()
        return [row_of(row) for row in rows]

    def next_tag(self, key: str) -> str | None:
        found: str | None = self._file.read(sqlite_list.NEXT_TAG, (key,))[0][0]
        return found

    def in_line(self, key: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        return [row_of(row) for row in self._file.read(sqlite_list.IN_LINE, (key, limit))] if rules.is_id(key) else []

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_purge(updated_before, status, limit)

        def apply(connection: sqlite3.Connection) -> int:
            now = self._clock()
            old: list[tuple[str, str | None, float]] = []
            for one in statuses:
                # Nothing is written before it is created, so what is old is found by when it was created.
                old += connection.execute(sql.PURGEABLE, (one, updated_before, now, limit - len(old))).fetchall()
            for saga_id, tags, created in old:
                if tags is not None:
                    connection.executemany(sql.UNTAG, [(*tag, created, saga_id) for tag in json.loads(tags).items()])
            for statement in sql.PURGE:
                connection.executemany(statement, [one[:1] for one in old])
            return len(old)

        return self._write(apply)

    def watch(self) -> LogWatch:
        return LogWatch(self, self._file.path + "-wal")

    def _listed(self, which: Listed) -> list[StoredExecution]:
        return [row_of(row) for row in sqlite_list.page(self._file.read, which)]

    def close(self) -> None:
        self._file.close()

    def _enlisted(self, connection: Any, apply: Callable[[Executes], T]) -> T:
        """Do ``apply`` in a transaction of somebody else's."""
        self._file.check_usable()
        try:
            with enlisted(connection, self._file.path) as executes:
                return apply(executes)
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
        # Here, as what is raised where an error is handled knows that error, and the values in it.
        raise StorageError(f"{self._file.path}: {fault}; roll the transaction back in which it was submitted") from fault

    def _write(self, apply: Callable[[sqlite3.Connection], T], *, single: bool = False) -> T:
        return self._commit(Write(apply, single))  # type: ignore[no-any-return]

    def _commit(self, write: Write, saga_id: str = "", entries: Sequence[Entry] = ()) -> Any:
        """Have it written, and return what its ``apply`` returned."""
        try:
            return self._file.write(write)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname in ("SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"):
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
