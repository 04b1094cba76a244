"""A store in whatever database SQLAlchemy reaches: MySQL and MariaDB above all. SQLAlchemy Core only, nothing of its ORM.

For SQLite and PostgreSQL, the stores made for them are faster; this one passes the same tests with them.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from saga.errors import LeaseLostError, StorageError
from saga.storage import rules
from saga.storage.protocol import Append, Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution
from saga.storage.sqlalchemy_tables import Tables, clock, is_mysql, migrate, skips_locked

__all__ = ["SQLAlchemyStore"]

T = TypeVar("T")

ENTRY = ("seq", "kind", "step", "payload", "at")

# MySQL: lock wait timeout, deadlock. PostgreSQL: serialization failure, deadlock.
PASSING = {1205, 1213, "40001", "40P01"}

AT_ONCE = 500
"""How many ids go into one statement."""


class SQLAlchemyStore(Store):
    """A store in the database of a URL, which makes its tables where they do not exist.

    :param url: as SQLAlchemy takes it, such as ``mysql+pymysql://user:password@host/database``.
    :param prefix: the tables are called ``saga``, ``saga_journal``, ``saga_inbox`` and ``saga_schema`` with "saga".
    :param patience: seconds to go on trying when the connection breaks.
    :param options: more of :func:`sqlalchemy.create_engine`'s parameters.
    :raises StorageError: the server cannot be reached, its driver is not installed, or the tables were written by a later
        release.
    """

    def __init__(self, url: str | sa.URL, *, prefix: str = "saga", patience: float = 10.0, **options: Any) -> None:
        self._patience = patience
        self._closed = False
        self._pid = os.getpid()
        try:
            self._engine = _engine(url, options)
        except ModuleNotFoundError as error:
            raise StorageError(f"this database needs {error.name}: pip install {error.name}") from error
        except exc.SQLAlchemyError as error:
            raise StorageError(f"no database can be reached this way: {error}") from error
        try:
            # The kind of server is known from the first connection on.
            self._engine.connect().close()
            self._tables = Tables(prefix, self._engine.dialect)
            migrate(self._engine, self._tables)
        except exc.SQLAlchemyError as error:
            self._engine.dispose()
            raise StorageError(f"{self._engine.url}: {error}") from error
        except BaseException:
            self._engine.dispose()
            raise
        self._clock = clock(self._engine.dialect)
        self._skips_locked = skips_locked(self._engine.dialect)

    def now(self) -> float:
        now: float = self._run(lambda connection, again: connection.execute(sa.select(self._now())).scalar_one())
        return now

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner)
        if len({entry.seq for entry in entries}) < len(entries):
            raise rules.already_stored(new.saga_id, entries)
        tried_again = False

        def work(connection: sa.Connection, again: bool) -> None:
            nonlocal tried_again
            tried_again = again
            now = self._now()
            connection.execute(
                self._tables.saga.insert().values(
                    id=new.saga_id,
                    name=new.name,
                    version=new.version,
                    fingerprint=new.fingerprint,
                    digest=new.digest,
                    status=status,
                    owner=owner,
                    epoch=1,
                    lease_until=now + lease_seconds,
                    due=now + lease_seconds,
                    recoveries=0,
                    created=now,
                    updated=now,
                )
            )
            self._add(connection, [(new.saga_id, entries)])

        for _ in range(3):
            try:
                return self._run(work)
            except _Conflict as conflict:
                existing = self.get(new.saga_id)
                if existing is not None:
                    mine = existing.owner == owner and existing.epoch == 1 and existing.digest == new.digest
                    return None if tried_again and mine and self._has(new.saga_id, entries) else existing
                # Else it was purged in between, or the conflict is another.
                cause = conflict
        raise StorageError(f"{cause}; nothing was stored") from cause.__cause__

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
        tried_again = False

        def work(connection: sa.Connection, again: bool) -> None:
            nonlocal tried_again
            tried_again = again
            changed = status is not None or release
            held = self._change(connection, lease, status, release) if changed else self._held(connection, [lease])
            if not held:
                raise rules.lease_lost(lease)
            self._add(connection, [(lease.saga_id, entries)])
            self._take(connection, lease.saga_id, taken)

        try:
            self._run(work)
        except (_Conflict, LeaseLostError) as error:
            if tried_again and self._was_appended(lease, entries, status, release):
                return
            if isinstance(error, LeaseLostError):
                raise
            raise rules.already_stored(lease.saga_id, entries) from error.__cause__

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        appends = [one._replace(status=None if one.status is None else rules.check_status(one.status)) for one in appends]

        def work(connection: sa.Connection, again: bool) -> set[Lease]:
            # One whose row somebody has locked waits for it by itself.
            held = self._held(connection, [one.lease for one in appends], skip_locked=self._skips_locked)
            mine = [one for one in appends if one.lease in held]
            self._add(connection, [(one.lease.saga_id, one.entries) for one in mine])
            for one in mine:
                if one.status is not None or one.release:
                    self._change(connection, one.lease, one.status, one.release)
                self._take(connection, one.lease.saga_id, one.taken)
            return held

        try:
            # What follows from a fault is for each to find out by itself: it is not tried again here.
            held = self._run(work, patience=0.0)
        except StorageError:
            held = set()
        return [one.lease in held for one in appends]

    def get(self, saga_id: str) -> StoredExecution | None:
        if not rules.is_id(saga_id):
            return None
        rows = self._read(sa.select(self._tables.saga).where(self._tables.saga.c.id == saga_id))
        return StoredExecution(*rows[0]) if rows else None

    def journal(self, saga_id: str) -> list[Entry]:
        return self.journals([saga_id])[saga_id]

    def journals(self, saga_ids: Collection[str]) -> dict[str, list[Entry]]:
        journal = self._tables.journal
        columns = sa.select(journal.c.saga_id, *(journal.c[name] for name in ENTRY)).order_by(journal.c.saga_id, journal.c.seq)
        found: dict[str, list[Entry]] = {saga_id: [] for saga_id in saga_ids}
        for some in _batches([saga_id for saga_id in found if rules.is_id(saga_id)]):
            for saga_id, *row in self._read(columns.where(journal.c.saga_id.in_(some))):
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
        saga = self._tables.saga

        def work(connection: sa.Connection, again: bool) -> list[StoredExecution]:
            now = self._now()
            changes = {
                "owner": owner,
                "epoch": saga.c.epoch + 1,
                "lease_until": now + lease_seconds,
                "due": now + lease_seconds,
                "recoveries": saga.c.recoveries + int(saga_id is None),
                "updated": now,
            }
            claimed = []
            for one, epoch, _ in self._claimable(connection, names, limit, saga_id):
                # The epoch is compared for those databases that have locked nothing by now.
                free = (saga.c.id == one, saga.c.epoch == epoch, saga.c.lease_until <= now)
                if connection.execute(saga.update().where(*free).values(changes)).rowcount == 1:
                    claimed.append(StoredExecution(*connection.execute(sa.select(saga).where(saga.c.id == one)).one()))
            return claimed

        return self._run(work)

    def renew(self, owner: str, leases: Sequence[Lease], lease_seconds: float) -> list[Beat]:
        saga, inbox = self._tables.saga, self._tables.inbox
        mail = sa.exists().where(inbox.c.saga_id == saga.c.id).label("mail")

        def work(connection: sa.Connection, again: bool) -> list[Beat]:
            beats = []
            until = self._now() + lease_seconds
            # In the order of their ids, so that two who renew the same do not wait for each other.
            for batch in _batches(sorted((lease.saga_id, lease.epoch) for lease in leases)):
                held = (saga.c.owner == owner, sa.tuple_(saga.c.id, saga.c.epoch).in_(batch))
                connection.execute(saga.update().where(*held).values(lease_until=until, due=until, updated=self._now()))
                beats += [Beat(row.id, bool(row.mail)) for row in connection.execute(sa.select(saga.c.id, mail).where(*held))]
            return beats

        return self._run(work) if leases else []

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        now = self._now()
        changes: dict[str, Any] = {"owner": None, "lease_until": 0.0, "due": now + delay, "updated": now}
        if got_on or untried:
            changes["recoveries"] = 0 if got_on else self._tables.saga.c.recoveries - 1
        change = self._tables.saga.update().where(*self._holds(lease)).values(changes)
        self._run(lambda connection, again: connection.execute(change).close())

    def post(self, saga_id: str, body: str) -> None:
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        saga, inbox = self._tables.saga, self._tables.inbox
        token = uuid.uuid4().hex

        def work(connection: sa.Connection, again: bool) -> None:
            if again and connection.execute(sa.select(inbox.c.id).where(inbox.c.token == token)).first():
                return
            now = self._now()
            due = sa.case((saga.c.due > now, now), else_=saga.c.due)
            # The row is locked before the message gets its number: messages are numbered as they are committed.
            if connection.execute(saga.update().where(saga.c.id == saga_id).values(due=due)).rowcount != 1:
                raise rules.unknown_execution(saga_id)
            connection.execute(inbox.insert().values(saga_id=saga_id, body=body, token=token))

        self._run(work)

    def inbox(self, saga_id: str) -> list[Message]:
        if not rules.is_id(saga_id):
            return []
        inbox = self._tables.inbox
        columns = sa.select(inbox.c.id, inbox.c.saga_id, inbox.c.body)
        return [Message(*row) for row in self._read(columns.where(inbox.c.saga_id == saga_id).order_by(inbox.c.id))]

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        column = self._tables.inbox.c.saga_id
        found: set[str] = set()
        for some in _batches([saga_id for saga_id in saga_ids if rules.is_id(saga_id)]):
            found.update(row[0] for row in self._read(sa.select(column).where(column.in_(some)).distinct()))
        return found

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
        saga = self._tables.saga
        created, saga_id = rules.bound_of(after, created_before, limit)
        where = [saga.c.created <= created, sa.or_(saga.c.created < created, saga.c.id < saga_id)]
        if name is not None:
            where.append(saga.c.name == name)
        if created_after is not None:
            where.append(saga.c.created >= created_after)
        ranges = [
            sa.select(saga)
            .where(saga.c.status == one, *where)
            .order_by(saga.c.created.desc(), saga.c.id.desc())
            .limit(limit + 1)
            .subquery()
            for one in rules.statuses_of(status)
        ]
        if not ranges:
            return Page((), None)
        found = sa.union_all(*(sa.select(part) for part in ranges)).subquery()
        page = sa.select(found).order_by(found.c.created.desc(), found.c.id.desc()).limit(limit + 1)
        return rules.page_of([StoredExecution(*row) for row in self._read(page)], limit)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_terminal(status)
        saga, journal, inbox = self._tables.saga, self._tables.journal, self._tables.inbox

        def work(connection: sa.Connection, again: bool) -> int:
            old: list[str] = []
            for one in statuses:
                # Nothing is written before it is created, so what is old is found by when it was created.
                was = (saga.c.status == one, saga.c.created < updated_before, saga.c.updated < updated_before)
                found = sa.select(saga.c.id).where(*was, saga.c.lease_until <= self._now()).order_by(saga.c.created)
                locked = found.limit(limit - len(old)).with_for_update(skip_locked=self._skips_locked)
                old += connection.execute(locked).scalars()
            for ids in _batches(old):
                for column in (journal.c.saga_id, inbox.c.saga_id, saga.c.id):
                    connection.execute(column.table.delete().where(column.in_(ids)))
            return len(old)

        return self._run(work)

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()

    def _now(self) -> sa.ColumnElement[float]:
        return sa.literal(time.time(), sa.Double()) if self._clock is None else self._clock

    def _holds(self, lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
        saga = self._tables.saga
        return saga.c.id == lease.saga_id, saga.c.owner == lease.owner, saga.c.epoch == lease.epoch

    def _held(self, connection: sa.Connection, leases: Sequence[Lease], *, skip_locked: bool = False) -> set[Lease]:
        """Return which of the leases hold, with their rows locked."""
        saga = self._tables.saga
        columns = sa.select(saga.c.id, saga.c.owner, saga.c.epoch)
        found: set[Lease] = set()
        # In the order of their ids, so that two who lock the same do not wait for each other.
        for ids in _batches(sorted(lease.saga_id for lease in leases)):
            locked = columns.where(saga.c.id.in_(ids)).order_by(saga.c.id)
            rows = connection.execute(locked.with_for_update(key_share=True, skip_locked=skip_locked))
            found.update(Lease(*row) for row in rows)
        return found.intersection(leases)

    def _change(self, connection: sa.Connection, lease: Lease, status: str | None, release: bool) -> bool:
        """Change an execution's status, and give its lease back where it is to be. Return whether the lease held."""
        saga, now = self._tables.saga, self._now()
        changes: dict[str, Any] = {"updated": now} | ({} if status is None else {"status": status})
        if release:
            changes |= {"owner": None, "lease_until": 0.0, "due": now}
        return connection.execute(saga.update().where(*self._holds(lease)).values(changes)).rowcount == 1

    def _add(self, connection: sa.Connection, parts: Sequence[tuple[str, Sequence[Entry]]]) -> None:
        rows = [
            {"saga_id": saga_id} | {name: getattr(entry, name) for name in ENTRY}
            for saga_id, entries in parts
            for entry in entries
        ]
        if rows:
            connection.execute(self._tables.journal.insert(), rows)

    def _take(self, connection: sa.Connection, saga_id: str, messages: Sequence[int]) -> None:
        inbox = self._tables.inbox
        for ids in _batches(messages):
            connection.execute(inbox.delete().where(inbox.c.saga_id == saga_id, inbox.c.id.in_(ids)))

    def _claimable(
        self, connection: sa.Connection, names: Collection[str] | None, limit: int, saga_id: str | None
    ) -> Sequence[Any]:
        """Return the ids and epochs of what may be claimed, locked where the database can pass over what others lock."""
        saga = self._tables.saga
        columns = sa.select(saga.c.id, saga.c.epoch, saga.c.due).where(saga.c.lease_until <= self._now())
        if saga_id is not None:
            one = columns.where(saga.c.id == saga_id)
            return connection.execute((one if names is None else one.where(saga.c.name.in_(names))).with_for_update()).all()
        ranges = [columns.where(saga.c.status == status, saga.c.due <= self._now()) for status in rules.CLAIMABLE]
        if names is not None:
            ranges = [part.where(saga.c.name == name) for part in ranges for name in set(names)]
        found: Any = []
        for part in ranges:
            oldest = part.order_by(saga.c.due).limit(limit)
            found += connection.execute(oldest.with_for_update(skip_locked=True) if self._skips_locked else oldest)
        return sorted(found, key=lambda row: row.due)[:limit]

    def _read(self, statement: Any) -> Sequence[Any]:
        return self._run(lambda connection, again: connection.execute(statement).all())

    def _has(self, saga_id: str, entries: Sequence[Entry]) -> bool:
        """Whether the journal has these very entries."""
        wanted = {entry.seq for entry in entries}
        found = [entry for entry in self.journal(saga_id) if entry.seq in wanted]
        return found == sorted(entries, key=lambda entry: entry.seq)

    def _was_appended(self, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool) -> bool:
        """Whether an append was committed though its connection broke, and nobody has taken the lease since."""
        stored = self.get(lease.saga_id)
        if stored is None or stored.epoch != lease.epoch or stored.owner != (None if release else lease.owner):
            return False
        return status in (None, stored.status) and self._has(lease.saga_id, entries)

    def _run(self, work: Callable[[sa.Connection, bool], T], *, patience: float | None = None) -> T:
        """Do ``work(connection, again)`` in a transaction; where it may go better the next time, do it again.

        :param patience: seconds to go on trying, instead of the store's.
        :raises _Conflict: a row with this key is there already.
        :raises StorageError: it failed, or it kept breaking.
        """
        patience = self._patience if patience is None else patience
        deadline: float | None = None
        pause, again = 0.02, False
        while True:
            self._check_usable()
            connection: sa.Connection | None = None
            try:
                with self._engine.connect() as connection, connection.begin():
                    return work(connection, again)
            except exc.IntegrityError as error:
                raise _Conflict(str(error)) from error
            except exc.DBAPIError as error:
                if not _passes(error, connection):
                    raise StorageError(f"{self._engine.url}: {error}") from error
                deadline = deadline or time.monotonic() + patience
                if time.monotonic() + pause > deadline:
                    raise StorageError(f"{self._engine.url} failed for {patience:g} seconds: {error}") from error
                again = True
            except (exc.SQLAlchemyError, UnicodeEncodeError, OverflowError) as error:
                raise StorageError(f"{self._engine.url}: {error}; nothing was stored") from error
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _check_usable(self) -> None:
        if self._closed:
            raise rules.closed(type(self).__name__)
        if self._pid != os.getpid():
            # After a fork: the parent goes on using the old connections.
            self._engine.dispose(close=False)
            self._pid = os.getpid()


class _Conflict(StorageError):
    """A row with this key is there already, or a column that must have a value has none."""


def _engine(url: str | sa.URL, options: dict[str, Any]) -> sa.Engine:
    parsed = sa.make_url(url)
    name = parsed.get_backend_name()
    defaults: dict[str, Any] = {"pool_size": 16, "max_overflow": 16}
    if name != "sqlite":
        # In MySQL, the default locks gaps between rows, over which those who work on different rows would deadlock.
        defaults["isolation_level"] = "READ COMMITTED"
    engine = sa.create_engine(parsed, **(defaults | options))
    if is_mysql(engine.dialect):
        sa.event.listen(engine, "connect", _prepare_mysql)
    elif name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _prepare_mysql(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        # Times are seconds; with a time zone in between, an hour in autumn would come twice.
        cursor.execute("SET time_zone = '+00:00', sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")


def _prepare_sqlite(connection: Any, record: object) -> None:
    # Transactions begin where SQLAlchemy says so, and as writers: one that becomes a writer later may have to be given up.
    connection.isolation_level = None
    # SQLite does not wait when two do this at once; then the other one does it for both.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")


def _passes(error: exc.DBAPIError, connection: sa.Connection | None) -> bool:
    """Whether a fault may be over when the same is tried again: the connection broke, could not be opened, or a deadlock."""
    code = getattr(error.orig, "sqlstate", None) or next(iter(getattr(error.orig, "args", ())), None)
    return connection is None or error.connection_invalidated or code in PASSING


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
