"""A store in PostgreSQL, for the processes of many hosts.

Every method is one statement, or one transaction of a few; leases run by the server's clock. A connection that breaks is
replaced and its statement done again, and where the broken one had committed after all, the store finds that out. No
statement is written out here.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import psycopg

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.postgres_crowd import AppendTurns
from saga.storage.postgres_pool import Connection, Pool, may_pass, parameters_of, without_values
from saga.storage.postgres_sql import Statements, migrate, together
from saga.storage.protocol import Append, Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution
from saga.storage.retrying import Patience, has_entries, is_as_appended, is_as_created, renewed

__all__ = ["PostgresStore"]

T = TypeVar("T")


class PostgresStore(Store):
    """A store in a PostgreSQL database (12 or later), which makes its tables where they do not exist.

    :param conninfo: a URL ``postgresql://...`` or another connection string of libpq's.
    :param schema: where the tables are, instead of the first in the search path; made where it does not exist.
    :param prefix: the tables are called ``saga``, ``saga_journal``, ``saga_inbox`` and ``saga_schema`` with "saga".
    :param max_connections: how many to open at most; each is opened when all the others are in use. Half of them append at the
        same time; where more than a few threads wait to do so, what they append goes to the server in one statement.
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
        patience: float = 10.0,
    ) -> None:
        rules.check_patience("patience", patience)
        self._sql = Statements(schema, prefix)
        self._patience = patience
        self._parameters = parameters_of(conninfo)
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise ValueError(f"max_connections must be a whole number of at least 1, not {max_connections!r}")
        self._max_connections = max_connections
        self._pool = self._new_pool()
        try:
            # Nothing is gained by being patient with what may be a misspelt name.
            self._run(lambda connection, again: migrate(connection, self._sql), patience=0.0)
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                raise StorageError(f"{error}; {rules.MADE_BY_ANOTHER}") from error.__cause__
            raise

    def now(self) -> float:
        now: float = self._read(self._sql.now, ())[0][0]
        return now

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner, lease_seconds)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        keys = (new.saga_id, new.name, new.version, new.fingerprint, new.digest, status, owner)
        statement, rest = self._sql.adding("create", entries)
        values = (*keys, lease_seconds, lease_seconds, *rest)

        def work(connection: Connection, again: bool) -> StoredExecution | None:
            while True:
                try:
                    if connection.execute(statement, values, prepare=True).rowcount:
                        return None
                except psycopg.errors.UniqueViolation as error:
                    raise rules.already_stored(new.saga_id, entries) from error
                row = connection.execute(self._sql.get, (new.saga_id,), prepare=True).fetchone()
                # Else it was purged in between.
                if row is not None:
                    existing = StoredExecution(*row)
                    ours = again and is_as_created(existing, new, owner) and self._has_entries(connection, new.saga_id, entries)
                    return None if ours else existing

        return self._run(work)

    def append(
        self,
        lease: Lease,
        entries: Sequence[Entry],
        *,
        status: str | None = None,
        release: bool = False,
        taken: Sequence[int] = (),
    ) -> None:
        status = None if status is None else rules.check_status(status)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        ends = release and status in rules.RESTING
        kind = "end" if ends else "finish" if release else "change" if status is not None else "append"
        statement, rest = self._sql.adding(kind, entries, taken)
        values = (*(() if kind == "append" else (status,)), *_of(lease), *([list(taken)] if ends else ()), *rest)

        def work(connection: Connection, again: bool) -> None:
            try:
                if connection.execute(statement, values, prepare=True).rowcount:
                    return
            except psycopg.errors.UniqueViolation as error:
                if again and self._was_appended(connection, lease, entries, status, release):
                    return
                raise rules.already_stored(lease.saga_id, entries) from error
            if not (again and self._was_appended(connection, lease, entries, status, release)):
                held = ends and connection.execute(self._sql.holds, _of(lease)).fetchone() is not None
                raise rules.unread(lease.saga_id) if held else rules.lease_lost(lease)

        if taken:
            self._run(work)
        else:
            self._take_turn(work, Append(lease, entries, status, release))

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        checked = [
            one._replace(status=None if one.status is None else rules.check_status(one.status))
            for one in appends
            if not one.taken and all(rules.fits(entry.payload, self.longest_text) for entry in one.entries)
        ]
        try:
            written = self._append_together(checked) if checked else set()
        except StorageError:
            written = set()
        return [one.lease.saga_id in written for one in appends]

    def get(self, saga_id: str) -> StoredExecution | None:
        rows = self._read(self._sql.get, (saga_id,)) if rules.is_id(saga_id) else ()
        return StoredExecution(*rows[0]) if rows else None

    def journal(self, saga_id: str) -> list[Entry]:
        return self.journals([saga_id])[saga_id]

    def journals(self, saga_ids: Collection[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {saga_id: [] for saga_id in saga_ids}
        for saga_id, *row in self._read(self._sql.journals, ([one for one in found if rules.is_id(one)],)):
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
        take = (owner, lease_seconds, lease_seconds, int(saga_id is None))
        wanted = None if names is None else sorted(set(names))
        if saga_id is not None:
            if not rules.is_id(saga_id):
                return []
            rows = self._read(self._sql.claim_one, (saga_id, wanted, wanted, *take))
        elif wanted is None:
            rows = self._read(self._sql.claim, (limit, *take))
        else:
            rows = self._read(self._sql.claim_by_name, (wanted, limit, limit, *take))
        # Each row begins with when it had been due.
        return [StoredExecution(*row[1:]) for row in sorted(rows)]

    def renew(self, owner: str, leases: Sequence[Lease], lease_seconds: float) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)

        def renew(some: Sequence[Lease]) -> Sequence[tuple[Any, ...]]:
            saga_ids, epochs = [lease.saga_id for lease in some], [lease.epoch for lease in some]
            values = (saga_ids, epochs, owner, lease_seconds, lease_seconds, saga_ids, epochs, owner)
            return self._read(self._sql.renew, values)

        return renewed(renew, leases)

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        rules.check_number("delay", delay)
        statement, counted = (self._sql.release_waiting, ()) if got_on else (self._sql.release, (int(untried),))
        values = (delay, *counted, *_of(lease))
        self._run(lambda connection, again: connection.execute(statement, values, prepare=True))

    def post(self, saga_id: str, body: str) -> None:
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        rules.check_texts([body], self.longest_text)
        token = uuid.uuid4().hex

        def work(connection: Connection, again: bool) -> None:
            if connection.execute(self._sql.post, (saga_id, body, token), prepare=True).rowcount:
                return
            if not (again and connection.execute(self._sql.posted, (token,)).fetchone()):
                row = connection.execute(self._sql.get, (saga_id,)).fetchone()
                raise rules.unknown_execution(saga_id) if row is None else rules.ended(saga_id, StoredExecution(*row).status)

        self._run(work)

    def inbox(self, saga_id: str) -> list[Message]:
        return [Message(*row) for row in self._read(self._sql.inbox, (saga_id,))] if rules.is_id(saga_id) else []

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        return {row[0] for row in self._read(self._sql.with_mail, ([one for one in saga_ids if rules.is_id(one)],))}

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
        values: tuple[Any, ...] = ()
        for one in statuses:
            values += (one, *(() if name is None else (name,)), start, created, created, saga_id, limit + 1)
        rows = self._read(self._sql.listing(len(statuses), name is not None), (*values, limit + 1))
        return rules.page_of([StoredExecution(*row) for row in rows], limit)

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

    def close(self) -> None:
        self._pool.close()

    def _read(self, statement: bytes, values: Sequence[Any], *, patience: float | None = None) -> Sequence[tuple[Any, ...]]:
        return self._run(
            lambda connection, again: connection.execute(statement, values, prepare=True).fetchall(), patience=patience
        )

    def _take_turn(self, work: Callable[[Connection, bool], None], append: Append) -> None:
        """Do ``work`` by itself, or have ``append`` written with those of others, which comes to the same."""
        written, perhaps = self._pool_of_process().turns.take(lambda: self._run(work), append)
        if not written:
            self._run(work, again=perhaps)

    def _append_together(self, appends: Sequence[Append]) -> set[str]:
        """Write what can be written of them, in one transaction. Return the ids of those executions.

        :raises StorageError: nothing was written, or nobody knows, where its cause is that the connection broke.
        """
        values = together(appends)
        # It is not tried again here: what follows from a fault is for each writer to find out by itself.
        return {row[0] for row in self._read(self._sql.append_together, values, patience=0.0)}

    def _run(self, work: Callable[[Connection, bool], T], *, patience: float | None = None, again: bool = False) -> T:
        """Do ``work(connection, again)``; where the connection breaks, do it again with another, until patience ends.

        :param patience: seconds, instead of the store's.
        :param again: it may have been done already.
        :raises StorageError: it failed, or it kept breaking.
        """
        trying = Patience(self._patience if patience is None else patience)
        while True:
            pool = self._pool_of_process()
            connection: Connection | None = None
            try:
                connection = pool.lend()
                return work(connection, again)
            except psycopg.Error as error:
                fault, passes = without_values(error), may_pass(error, connection)
            except UnicodeEncodeError as error:
                fault, passes = psycopg.DataError(f"{error}; nothing was stored"), False
            except Exception:
                raise
            except BaseException:
                # Nobody knows what an interrupted connection has yet to answer.
                if connection is not None:
                    connection.close()
                raise
            finally:
                if connection is not None:
                    pool.take_back(connection)
            # Here, as what is raised where an error is handled knows that error, and the values in it.
            if not passes:
                raise StorageError(f"PostgreSQL: {fault}") from fault
            if trying.ends():
                raise StorageError(f"PostgreSQL did not answer{trying.lasted}: {fault}") from fault
            again = True
            pool.close_idle()
            trying.wait()

    def _new_pool(self) -> Pool:
        # With a connection for each that has its turn, all would wait for connections that others read and create with, and
        # nobody in the queue, where one writes for all.
        turns = AppendTurns(self._append_together, max(1, self._max_connections // 2))
        return Pool(self._parameters, self._max_connections, turns)

    def _pool_of_process(self) -> Pool:
        pool = self._pool
        if pool.pid != os.getpid():
            # After a fork: the parent goes on using the old one.
            _pools_of_parents.append(pool)
            pool = self._pool = self._new_pool()
        if pool.closed:
            raise rules.closed(type(self).__name__)
        return pool

    def _has_entries(self, connection: Connection, saga_id: str, entries: Sequence[Entry]) -> bool:
        seqs = [entry.seq for entry in entries]
        return has_entries([Entry(*row) for row in connection.execute(self._sql.entries, (saga_id, seqs))], entries)

    def _was_appended(
        self, connection: Connection, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool
    ) -> bool:
        """Whether an append was committed though its connection broke, and nobody has taken the lease since."""
        row = connection.execute(self._sql.get, (lease.saga_id,)).fetchone()
        stored = None if row is None else StoredExecution(*row)
        return is_as_appended(stored, lease, status, release) and self._has_entries(connection, lease.saga_id, entries)


# Pools of a parent process, whose connections psycopg must not close in a child.
_pools_of_parents: list[Pool] = []


def _of(lease: Lease) -> tuple[str, str, int]:
    """Return the values of the conditions that a lease holds."""
    return lease.saga_id, lease.owner, lease.epoch
