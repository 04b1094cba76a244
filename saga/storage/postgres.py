"""A store in PostgreSQL, for the processes of many hosts.

Every method is one statement, or one transaction of a few; leases run by the server's clock. A connection that breaks is
replaced and its statement done again, and where the broken one had committed after all, the store finds that out.
"""

from __future__ import annotations

import json
import os
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.postgres_sql import Statements, migrations
from saga.storage.protocol import Append, Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution
from saga.storage.turns import Turns, Waiting

__all__ = ["PostgresStore"]

T = TypeVar("T")
_FEW = 16  # entries of a commit, for which a statement is kept ready

# A dead server is noticed within a minute; what the connection string says comes before these.
CONNECTION_DEFAULTS = {
    "application_name": "saga",
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}

PASSING = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "57P01",  # the server shuts down, or an administrator ended the connection
    "57P02",  # the server crashed
    "57P03",  # the server starts up
}


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements share one cursor, as making one takes a tenth of a commit's time.

    A result is to be read before the next statement.
    """

    _cursor: psycopg.Cursor[tuple[Any, ...]] | None = None

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        if self._cursor is None:
            self._cursor = self.cursor()
        return self._cursor.execute(query, params, prepare=prepare, binary=binary)


_CROWD = 4  # where more threads than these wait for their turn to write, one writes for all of them


class PostgresStore(Store):
    """A store in a PostgreSQL database (12 or later), which makes its tables where they do not exist.

    :param conninfo: a URL ``postgresql://...`` or another connection string of libpq's.
    :param schema: where the tables are, instead of the first in the search path; made where it does not exist.
    :param prefix: the tables are called ``saga``, ``saga_journal``, ``saga_inbox`` and ``saga_schema`` with "saga".
    :param max_connections: how many to open at most; each is opened when all the others are in use. Half of them append at the
        same time; where more than a few threads wait to do so, what they append goes to the server in one statement.
    :param patience: seconds to go on trying when the connection breaks.
    :raises StorageError: the server cannot be reached, or the tables were written by a later release.
    :raises ValueError: ``schema`` or ``prefix`` is not a plain name.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str | None = None,
        prefix: str = "saga",
        max_connections: int = 16,
        patience: float = 10.0,
    ) -> None:
        self._sql = Statements(schema, prefix)
        self._migrations = migrations(schema, prefix)
        self._schema = schema
        self._prefix = prefix
        self._patience = patience
        try:
            self._parameters: dict[str, Any] = CONNECTION_DEFAULTS | conninfo_to_dict(conninfo)
        except psycopg.Error as error:
            raise StorageError(f"not a connection string of PostgreSQL's: {error}") from error
        self._max_connections = max_connections
        self._connections = _Connections(self._parameters, max_connections, self._write_together)
        try:
            # Nothing is gained by being patient with what may be a misspelt name.
            self._run(lambda connection, again: self._migrate(connection), patience=0.0)
        except BaseException:
            self.close()
            raise

    def now(self) -> float:
        now: float = self._read(self._sql.now, ())[0][0]
        return now

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner)
        keys = (new.saga_id, new.name, new.version, new.fingerprint, new.digest, status, owner)
        statement, rest = self._adding("create", entries)
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
                    mine = existing.owner == owner and existing.epoch == 1 and existing.digest == new.digest
                    if again and mine and self._has(connection, new.saga_id, entries):
                        return None
                    return existing

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
        kind = "finish" if release else "change" if status is not None else "append"
        statement, rest = self._adding(kind, entries, taken)
        values = (*(() if kind == "append" else (status,)), lease.saga_id, lease.owner, lease.epoch, *rest)

        def work(connection: Connection, again: bool) -> None:
            try:
                if connection.execute(statement, values, prepare=True).rowcount:
                    return
            except psycopg.errors.UniqueViolation as error:
                if again and self._was_appended(connection, lease, entries, status, release):
                    return
                raise rules.already_stored(lease.saga_id, entries) from error
            if not (again and self._was_appended(connection, lease, entries, status, release)):
                raise rules.lease_lost(lease)

        if taken:
            self._run(work)
        else:
            self._take_turn(work, _Part(lease, status, release, entries))

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        parts = [
            _Part(one.lease, None if one.status is None else rules.check_status(one.status), one.release, one.entries)
            for one in appends
            if not one.taken
        ]
        try:
            written = self._write_together(parts) if parts else set()
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
        rules.check_claim(owner, limit)
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
        if not leases:
            return []
        held = [lease.saga_id for lease in leases], [lease.epoch for lease in leases]
        return [Beat(*row) for row in self._read(self._sql.renew, (lease_seconds, lease_seconds, *held, owner))]

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        values = (delay, got_on, int(untried), lease.saga_id, lease.owner, lease.epoch)
        self._run(lambda connection, again: connection.execute(self._sql.release, values, prepare=True))

    def post(self, saga_id: str, body: str) -> None:
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        token = uuid.uuid4().hex

        def work(connection: Connection, again: bool) -> None:
            if connection.execute(self._sql.post, (saga_id, body, token), prepare=True).rowcount:
                return
            if not (again and connection.execute(self._sql.posted, (token,)).fetchone()):
                raise rules.unknown_execution(saga_id)

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
        statuses = rules.statuses_of(status)
        created, saga_id = rules.bound_of(after, created_before, limit)
        if not statuses:
            return Page((), None)
        start = -rules.END_OF_TIME if created_after is None else created_after
        values: tuple[Any, ...] = ()
        for one in statuses:
            values += (one, *(() if name is None else (name,)), start, created, created, saga_id, limit + 1)
        rows = self._read(self._sql.listing(len(statuses), name is not None), (*values, limit + 1))
        return rules.page_of([StoredExecution(*row) for row in rows], limit)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_terminal(status)

        def work(connection: Connection, again: bool) -> int:
            with connection.transaction():
                old: list[str] = []
                for one in statuses:
                    # Nothing is written before it is created, so what is old is found by when it was created.
                    values = (one, updated_before, updated_before, limit - len(old))
                    old += [row[0] for row in connection.execute(self._sql.old, values)]
                # The rows are locked by now, so these statements see whatever their owners had written.
                for statement in self._sql.erase:
                    connection.execute(statement, (old,))
            return len(old)

        return self._run(work)

    def close(self) -> None:
        self._connections.close()

    def _adding(self, kind: str, entries: Sequence[Entry], taken: Sequence[int] = ()) -> tuple[bytes, tuple[Any, ...]]:
        """Return the statement that adds entries, and their values, which are the last it takes."""
        if 0 < len(entries) <= _FEW and not taken:
            values = [value for one in entries for value in (one.seq, one.kind, one.step, one.payload, one.at)]
            return self._sql.by_row(kind, len(entries)), tuple(values)
        messages = () if kind == "create" else (list(taken),)
        return self._sql.by_column[kind], (*messages, *_columns(entries))

    def _read(self, statement: bytes, values: Sequence[Any], *, patience: float | None = None) -> Sequence[tuple[Any, ...]]:
        return self._run(
            lambda connection, again: connection.execute(statement, values, prepare=True).fetchall(), patience=patience
        )

    def _take_turn(self, work: Callable[[Connection, bool], T], part: _Part) -> T:
        """Do ``work`` by itself, or have ``part`` written with those of others, which comes to the same and returns nothing."""
        written, value = self._of_this_process().turns.take(lambda: self._run(work), part)
        return value if written else self._run(work, again=value)

    def _write_together(self, parts: Sequence[_Part]) -> set[str]:
        """Write what can be written of them, in one transaction. Return the ids of those executions.

        :raises StorageError: nothing was written, or nobody knows, where its cause is that the connection broke.
        """
        values = _together(parts)
        # It is not tried again here: what follows from a fault is for each writer to find out by itself.
        return {row[0] for row in self._read(self._sql.together, values, patience=0.0)}

    def _run(self, work: Callable[[Connection, bool], T], *, patience: float | None = None, again: bool = False) -> T:
        """Do ``work(connection, again)``; where the connection breaks, do it again with another, until patience ends.

        :param again: it may have been done already.
        :raises StorageError: it failed, or it kept breaking.
        """
        patience = self._patience if patience is None else patience
        deadline: float | None = None
        pause = 0.02
        while True:
            connections = self._of_this_process()
            connection: Connection | None = None
            try:
                connection = connections.take()
                return work(connection, again)
            except psycopg.Error as error:
                if not _passes(error, connection):
                    raise StorageError(f"PostgreSQL: {error}") from error
                deadline = deadline or time.monotonic() + patience
                if time.monotonic() + pause > deadline:
                    raise StorageError(f"PostgreSQL did not answer for {patience:g} seconds: {error}") from error
                again = True
                connections.forget_idle()
            except UnicodeEncodeError as error:
                raise StorageError(f"PostgreSQL: {error}; nothing was stored") from error
            except Exception:
                raise
            except BaseException:
                # Nobody knows what an interrupted connection has yet to answer.
                if connection is not None:
                    connection.close()
                raise
            finally:
                if connection is not None:
                    connections.give(connection)
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _of_this_process(self) -> _Connections:
        connections = self._connections
        if connections.pid != os.getpid():
            # After a fork: the parent goes on using the old ones.
            _parents.append(connections)
            connections = self._connections = _Connections(self._parameters, self._max_connections, self._write_together)
        if connections.closed:
            raise rules.closed(type(self).__name__)
        return connections

    def _has(self, connection: Connection, saga_id: str, entries: Sequence[Entry]) -> bool:
        """Whether the journal has these very entries."""
        seqs = [entry.seq for entry in entries]
        found = [Entry(*row) for row in connection.execute(self._sql.entries, (saga_id, seqs))]
        return found == sorted(entries, key=lambda entry: entry.seq)

    def _was_appended(
        self, connection: Connection, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool
    ) -> bool:
        """Whether an append was committed though its connection broke, and nobody has taken the lease since."""
        row = connection.execute(self._sql.get, (lease.saga_id,)).fetchone()
        if row is None:
            return False
        stored = StoredExecution(*row)
        same = stored.epoch == lease.epoch and stored.owner == (None if release else lease.owner)
        return same and status in (None, stored.status) and self._has(connection, lease.saga_id, entries)

    def _migrate(self, connection: Connection) -> None:
        """Bring the tables to the present version, while no other process does."""
        if self._version(connection) == len(self._migrations):
            return
        # Locked before the transaction begins: what another has made meanwhile is seen by a transaction that begins later.
        lock = (f"saga-tasks {self._schema} {self._prefix}",)
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", lock)
        try:
            with connection.transaction():
                self._migrate_from(connection, self._version(connection))
        finally:
            if not connection.closed:
                connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", lock)

    def _migrate_from(self, connection: Connection, version: int) -> None:
        if self._schema and connection.execute("SELECT to_regnamespace(%s)", (f'"{self._schema}"',)).fetchone() == (None,):
            connection.execute(f'CREATE SCHEMA "{self._schema}"'.encode())
        connection.execute(self._sql.make_version)
        for statements in self._migrations[version:]:
            for statement in statements:
                connection.execute(statement.encode())
        connection.execute(self._sql.forget_version)
        connection.execute(self._sql.set_version, (len(self._migrations),))

    def _version(self, connection: Connection) -> int:
        """Return the version of the tables, 0 where there are none.

        :raises StorageError: it is a later one than this code knows.
        """
        table = self._sql.version_table
        if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
            return 0
        row = connection.execute(self._sql.version).fetchone()
        version: int = row[0] if row else 0
        if version > len(self._migrations):
            raise rules.too_new(version, len(self._migrations), f"the PostgreSQL database ({table})")
        return version


class _Part(NamedTuple):
    """An append, as it can be written together with others."""

    lease: Lease
    status: str | None
    release: bool
    entries: Sequence[Entry]


class _Write(Waiting):
    __slots__ = ("alone", "part")

    def __init__(self, alone: Callable[[], Any], part: _Part) -> None:
        super().__init__()
        self.alone = alone
        self.part = part


class _Turns(Turns[_Write]):
    """Many threads' writes in one statement, where they come together: it costs little more than that of one."""

    def __init__(self, write_together: Callable[[Sequence[_Part]], set[str]], places: int) -> None:
        super().__init__(places, _CROWD)
        self._write_parts = write_together

    _waiting = staticmethod(_Write)

    def take(self, alone: Callable[[], T], part: _Part) -> tuple[bool, Any]:
        """Return whether it was written, and what ``alone`` returned; or whether it may have been written nevertheless."""
        return self._take_turn(alone, part)  # type: ignore[no-any-return]

    def _write_alone(self, alone: Callable[[], Any], part: _Part) -> tuple[bool, Any]:
        if not self._crowded:
            return True, alone()
        write = _Write(alone, part)  # alone it might wait for a locked row, and all others with it
        self._write_for_crowd([write])
        return write.result  # type: ignore[no-any-return]

    def _write_together(self, group: list[_Write]) -> None:
        if self._crowded:
            self._write_for_crowd(group)
            return
        for write in group:
            try:
                write.result = True, write.alone()
            except Exception as error:
                write.error = error
            write.done = True

    def _write_for_crowd(self, group: list[_Write]) -> None:
        first: dict[str, _Write] = {}  # of each execution: what more there is of one could pass for each other
        for write in group:
            first.setdefault(write.part.lease.saga_id, write)
        written: set[str] = set()
        perhaps = False
        try:
            written = self._write_parts([write.part for write in first.values()])
        except Exception as error:  # each finds out by itself what it means
            perhaps = isinstance(error.__cause__, psycopg.OperationalError)
        for write in group:
            sent = first[write.part.lease.saga_id] is write
            done = sent and write.part.lease.saga_id in written
            write.result = done, None if done else sent and perhaps
            write.done = True

    def _interrupted(self, write: _Write) -> None:
        write.result = False, True


class _Connections:
    """Some connections, each lent to one thread at a time; the one given back last is lent first.

    :ivar pid: the process they belong to; :ivar turns: its threads take turns at them.
    """

    def __init__(self, parameters: dict[str, Any], most: int, write_together: Callable[[Sequence[_Part]], set[str]]) -> None:
        self.pid = os.getpid()
        # With a connection for each that has its turn, all would wait for connections that others read and create with, and
        # nobody in the queue, where one writes for all.
        self.turns = _Turns(write_together, max(1, most // 2))
        self.closed = False
        self._parameters = parameters
        # A threading.Semaphore is written in Python, and many threads spend their time on its lock.
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(most):
            self._places.put(None)
        self._idle: deque[Connection] = deque()

    def take(self) -> Connection:
        """Return a connection, when there is one to spare.

        :raises psycopg.Error: none could be opened.
        """
        self._places.get()
        try:
            while connection := self._pop():
                if not connection.closed:
                    return connection
            return Connection.connect(**self._parameters, autocommit=True)
        except BaseException:
            self._places.put(None)
            raise

    def give(self, connection: Connection) -> None:
        """Take a connection back."""
        self._idle.append(connection)
        self._places.put(None)
        if self.closed:
            self.forget_idle()

    def forget_idle(self) -> None:
        """Close whatever is not lent: where one is broken, so are likely the others."""
        while connection := self._pop():
            connection.close()

    def _pop(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def close(self) -> None:
        self.closed = True
        self.forget_idle()


# Connections of a parent process, which psycopg must not close in a child.
_parents: list[_Connections] = []


def _together(parts: Sequence[_Part]) -> tuple[str, str]:
    """Return the values of the statement that writes them together: leases and entries, as JSON."""
    leases = [{**part.lease._asdict(), "id": part.lease.saga_id, "status": part.status, "ends": part.release} for part in parts]
    entries = [{"id": part.lease.saga_id, **entry._asdict()} for part in parts for entry in part.entries]
    # As they are: what cannot be sent alone, such as lone surrogates, cannot be sent so either.
    return json.dumps(leases, ensure_ascii=False), json.dumps(entries, ensure_ascii=False)


def _columns(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    """Return the entries' columns, one list for each."""
    return (
        [entry.seq for entry in entries],
        [entry.kind for entry in entries],
        [entry.step for entry in entries],
        [entry.payload for entry in entries],
        [entry.at for entry in entries],
    )


def _passes(error: psycopg.Error, connection: Connection | None) -> bool:
    """Whether a fault may be over when the same is tried again: the connection broke, or could not be opened."""
    return connection is None or connection.closed or error.sqlstate in PASSING
