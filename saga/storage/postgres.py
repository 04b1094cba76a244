"""A store in PostgreSQL, for the processes of many hosts.

Every method is one statement, or one transaction of a few; leases run by the server's clock. A connection that breaks is
replaced and its statement done again, and where the broken one had committed after all, the store finds that out. No
statement is written out here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import psycopg

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.begun import Begun
from saga.storage.columns import definitions_text, row_of, tags_text
from saga.storage.postgres_alerts import Alerting
from saga.storage.postgres_claims import claimed, claimed_in_turn, is_simple
from saga.storage.postgres_loop import Ended
from saga.storage.postgres_pool import Connection
from saga.storage.postgres_sql import Statements
from saga.storage.postgres_submitting import Submitting
from saga.storage.postgres_tables import migrate
from saga.storage.postgres_writes import Change, change_of, together
from saga.storage.records import (
    NO_PLACES,
    Append,
    Beat,
    Entry,
    Hold,
    Lease,
    NewExecution,
    NewWorker,
    Place,
    StoredExecution,
    Told,
    Wanted,
)
from saga.storage.retrying import is_as_appended, is_as_created, renewed

__all__ = ["PostgresStore"]


class PostgresStore(Alerting, Submitting):
    """A store in a PostgreSQL database (12 or later), which makes its tables where they do not exist.

    :param conninfo: a URL ``postgresql://...`` or another connection string of libpq's.
    :param schema: where the tables are, instead of the first in the search path; made where it does not exist.
    :param prefix: the tables are called ``saga``, ``saga_journal``, ``saga_inbox``, ``saga_tags``, ``saga_hold``,
        ``saga_worker`` and ``saga_schema`` with "saga".
    :param max_connections: how many to open at most; each is opened when all the others are in use. Half of them append at the
        same time; where more than a few threads wait to do so, what they append goes to the server in one statement. Event
        loops that append have up to half of them, for as long as they do. Each :meth:`watch` has one of its own besides.
        Transactional steps may have as many again: plain functions, and coroutine functions in each event loop.
    :param patience: seconds to go on trying when the connection breaks.
    :raises StorageError: the server cannot be reached, or the tables were written by a later release.
    :raises ValueError: ``schema`` or ``prefix`` is not a plain name, or a number none that can be.
    """

    longest_text = 2**30 - 65_536  # of a value, and of what is sent at once

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str | None = None,
        prefix: str = "saga",
        max_connections: int = 16,
        patience: float | timedelta = 10.0,
    ) -> None:
        super().__init__(conninfo, Statements(schema, prefix), max_connections, patience)
        try:
            # Nothing is gained by being patient with what may be a misspelt name.
            self._run(lambda connection, again: migrate(connection, self._sql), patience=0.0)
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                raise StorageError(f"{error}; {rules.MADE_BY_ANOTHER}") from error.__cause__
            raise

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        statement, values = self._creating(new, entries, owner, lease_seconds)

        def work(connection: Connection, again: bool) -> StoredExecution | None:
            while True:
                try:
                    if connection.execute(statement, values, prepare=True).rowcount:
                        return None
                except psycopg.errors.UniqueViolation as error:
                    raise rules.already_stored(new.saga_id, entries) from error
                row = connection.execute(self._sql.get, (new.saga_id,), prepare=True).fetchone()
                if row is None:  # it is held; or it was purged in between
                    rules.check_not_held(new, [Hold(*hold) for hold in connection.execute(self._sql.holds)])
                else:
                    existing = row_of(row)
                    ours = again and is_as_created(existing, new, owner) and self._has_entries(connection, new.saga_id, entries)
                    return None if ours else existing

        return self._run(work)

    def _creating(
        self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float
    ) -> tuple[bytes, tuple[Any, ...]]:
        status = rules.check_new(new, owner, lease_seconds)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        keys = (new.saga_id, new.name, new.version, new.fingerprint, new.digest, status, owner, lease_seconds, lease_seconds)
        tags = (list(new.tags), list(new.tags.values())) if new.tags else ()
        statement, rest = self._sql.writes.adding(Change(creates=True, tagged=bool(tags)), entries)
        told = (new.step, tags_text(new.tags), new.priority, new.exclusive)
        return statement, (*keys, *told, new.name, new.version, *tags, *rest)

    def begin_create(
        self,
        new: NewExecution,
        entries: Sequence[Entry],
        owner: str,
        lease_seconds: float,
        ended: Callable[[bool], None],
    ) -> Begun | None:
        return self._begin(
            lambda: self._creating(new, entries, owner, lease_seconds),
            lambda rows, ids: ended(rows > 0),
        )

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
        status = None if status is None else rules.check_status(status)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        change, changed = change_of(lease, status, release, told, taken)
        statement, rest = self._sql.writes.adding(change, entries, taken)
        values = (*changed, *rest)

        def work(connection: Connection, again: bool) -> None:
            while True:
                try:
                    if connection.execute(statement, values, prepare=True).rowcount:
                        return
                except psycopg.errors.UniqueViolation as error:
                    if again and self._was_appended(connection, lease, entries, status, release):
                        return
                    raise rules.already_stored(lease.saga_id, entries) from error
                if again and self._was_appended(connection, lease, entries, status, release):
                    return
                if not (change.rests and connection.execute(self._sql.held, lease).fetchone()):
                    raise rules.lease_lost(lease)
                if {row[0] for row in connection.execute(self._sql.inbox, (lease.saga_id,))} - set(taken):
                    raise rules.unread(lease.saga_id)
                # Else the row was written to while this waited for it.

        if taken:
            self._run(work)
        else:
            self._take_turn(work, Append(lease, entries, status, release, told=told))

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        checked = self._together(appends)
        try:
            written = self._append_together(checked) if checked else set()
        except StorageError:
            written = set()
        return [one.lease.saga_id in written for one in appends]

    def begin_append_each(
        self, appends: Callable[[], Sequence[Append]], ended: Callable[[Sequence[bool]], None]
    ) -> Begun | None:
        given: list[Append] = []
        checked: list[Append] = []

        def sent() -> tuple[bytes, tuple[Any, ...]]:
            given.extend(appends())
            checked.extend(self._together(given))
            return self._sql.writes.each(checked)

        def heard(rows: int, ids: Sequence[str]) -> None:
            written = set(ids) if ids or not rows else {one.lease.saga_id for one in checked}
            ended([one.lease.saga_id in written for one in given])

        return self._begin(sent, heard)

    def _begin(self, statement: Callable[[], tuple[bytes, tuple[Any, ...]]], ended: Ended) -> Begun | None:
        pool = self._pool_of_process()
        line = pool.in_loops.lend(pool) if pool.in_loops is not None else None
        if line is not None:
            try:
                line.send(*statement(), ended)
            except BaseException:
                line.end()
                raise
        return line

    def _together(self, appends: Sequence[Append]) -> list[Append]:
        """Return those that may be written together, whose statuses are such."""
        return [
            one._replace(status=None if one.status is None else rules.check_status(one.status))
            for one in appends
            if not one.taken and all(rules.fits(entry.payload, self.longest_text) for entry in one.entries)
        ]

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
        if (wanted is not None and not wanted) or (saga_id is not None and not rules.is_id(saga_id)):
            return []
        left_out = but()
        if saga_id in left_out:
            return []
        take = (owner, lease_seconds, lease_seconds, int(saga_id is None))
        each = None if wanted is None else list(dict.fromkeys(wanted))
        sql = self._sql.claims
        if each is None and saga_id is not None:
            return [row_of(row) for row in self._read(sql.act, (*take, saga_id, submitted))]
        if each is None or (saga_id is None and is_simple(each)):
            statement, values = sql.claiming(each, submitted, limit, left_out)
            rows = self._run(lambda connection, _: claimed(connection, statement, (*values, *take)))
        else:
            rows = self._run(
                lambda connection, _: claimed_in_turn(
                    connection, sql, each, take, submitted=submitted, limit=limit, saga_id=saga_id, but=left_out
                )
            )
        return [row_of(row) for row in rows]

    def renew(
        self, owner: str, leases: Sequence[Lease], lease_seconds: float, places: Mapping[str, Place] = NO_PLACES
    ) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)

        def renew(some: Sequence[Lease]) -> Sequence[tuple[Any, ...]]:
            saga_ids, epochs = [lease.saga_id for lease in some], [lease.epoch for lease in some]
            known = [places.get(saga_id) for saga_id in saga_ids]
            steps, idle = [one and one.step for one in known], [None if one is None else one.idle for one in known]
            values = (saga_ids, epochs, steps, idle, owner, lease_seconds, lease_seconds, saga_ids, epochs, owner)
            return self._read(self._sql.renew, values)

        return renewed(renew, leases)

    def renew_call(self, saga_id: str, seconds: float) -> None:
        rules.check_number("seconds", seconds)
        if rules.is_id(saga_id):
            self._do(self._sql.renew_call, (seconds, saga_id))

    def release(
        self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False, step: str | None = None
    ) -> None:
        rules.check_number("delay", delay)
        statement, counted = (self._sql.release_waiting, ()) if got_on else (self._sql.release, (int(untried),))
        rows = self._read(statement, (step, delay, delay, *counted, *lease))
        if not rows or rows[0][0]:  # else nobody is to take it yet
            self.tell()

    def post(self, saga_id: str, body: str, *, status: Collection[str] | None = None) -> None:
        takes = rules.reading(status)
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        rules.check_texts([body], self.longest_text)
        token = uuid.uuid4().hex

        def work(connection: Connection, again: bool) -> None:
            if connection.execute(self._sql.post, (saga_id, takes, body, token), prepare=True).rowcount:
                return
            if not (again and connection.execute(self._sql.posted, (token,)).fetchone()):
                row = connection.execute(self._sql.get, (saga_id,)).fetchone()
                raise rules.unknown_execution(saga_id) if row is None else rules.not_taken(saga_id, row_of(row).status)

        self._run(work)
        self.tell()

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_purge(updated_before, status, limit)

        def work(connection: Connection, again: bool) -> int:
            with connection.transaction():
                old: list[str] = []
                for one in statuses:
                    # Nothing is written before it is created, so what is old is found by when it was created.
                    values = (one, updated_before, updated_before, limit - len(old))
                    old += [row[0] for row in connection.execute(self._sql.purgeable, values)]
                # The rows are locked by now, so these statements see whatever their owners had written.
                for statement in self._sql.purge:
                    connection.execute(statement, (old,))
            return len(old)

        return self._run(work)

    def hold(self, name: str, version: str, who: str, why: str) -> None:
        rules.check_hold(name, version, who, why)
        self._do(self._sql.hold, (name, version, who, why))

    def let_go(self, name: str, version: str) -> bool:
        found = self._do(self._sql.let_go, (name, version)) > 0
        self.tell()
        return found

    def announce(self, worker: NewWorker, seconds: float) -> None:
        rules.check_worker(worker, seconds)
        told = (worker.host, worker.pid, definitions_text(worker), worker.in_hand, worker.stopping)
        self._do(self._sql.announce, (worker.id, worker.id, *told, seconds))

    def withdraw(self, worker: str) -> None:
        self._do(self._sql.withdraw, (worker,))

    def _do(self, statement: bytes, values: Sequence[Any]) -> int:
        return self._run(lambda connection, again: connection.execute(statement, values, prepare=True).rowcount)

    def _take_turn(self, work: Callable[[Connection, bool], None], append: Append) -> None:
        """Do ``work`` by itself, or have ``append`` written with those of others, which comes to the same."""
        written, perhaps = self._pool_of_process().turns.take(lambda: self._run(work), append)
        if not written:
            self._run(work, again=perhaps)

    def _append_together(self, appends: Sequence[Append]) -> set[str]:
        values = together(appends)
        # It is not tried again here: what follows from a fault is for each writer to find out by itself.
        return {row[0] for row in self._read(self._sql.writes.append_together, values, patience=0.0)}

    def _was_appended(
        self, connection: Connection, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool
    ) -> bool:
        """Whether an append was committed though its connection broke, and nobody has taken the lease since."""
        row = connection.execute(self._sql.get, (lease.saga_id,)).fetchone()
        stored = None if row is None else row_of(row)
        return is_as_appended(stored, lease, status, release) and self._has_entries(connection, lease.saga_id, entries)
