"""A store in whatever database SQLAlchemy reaches: MySQL and MariaDB above all. SQLAlchemy Core only, nothing of its ORM.

For SQLite and PostgreSQL, the stores made for them are faster; this one passes the same tests with them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from saga.errors import LeaseLostError, StorageError
from saga.storage import rules
from saga.storage.protocol import Append, Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution
from saga.storage.retrying import Patience, has_entries, is_as_appended, is_as_created, renewed
from saga.storage.sqlalchemy_dialects import engine_of, longest_text, may_pass, place_of, what_to_do, without_values
from saga.storage.sqlalchemy_sql import ENTRY, Statements, batches
from saga.storage.sqlalchemy_tables import Tables, migrate

__all__ = ["SQLAlchemyStore"]

T = TypeVar("T")


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
        rules.check_patience("patience", patience)
        self._patience = patience
        self._closed = False
        self._pid = os.getpid()
        rules.check_table_name("prefix", prefix)
        self._engine = engine_of(url, options)
        self._place = place_of(self._engine)
        fault: Exception | None = None
        try:
            if self._place is not None:
                self._place.make()
            # The kind of server is known from the first connection on.
            with self._engine.connect() as connection:
                self.longest_text = longest_text(connection)
            self._tables = Tables(prefix, self._engine.dialect)
            migrate(self._engine, self._tables)
            if self._place is not None:
                self._place.remember()
        except exc.SQLAlchemyError as error:
            fault = without_values(error)
        except TypeError as error:  # of the driver, which is called with what stands behind the question mark
            self._engine.dispose()
            raise StorageError(f"{self._engine.url}: its driver does not know an option of the URL: {error}") from error
        except BaseException:
            self._engine.dispose()
            raise
        if fault is not None:
            self._engine.dispose()
            raise StorageError(f"{self._engine.url}: {fault}{what_to_do(fault)}") from fault
        self._sql = Statements(self._tables, self._engine.dialect)

    def now(self) -> float:
        now: float = self._run(lambda connection, again: connection.execute(sa.select(self._sql.now())).scalar_one())
        return now

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner, lease_seconds)
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        if len({entry.seq for entry in entries}) < len(entries):
            raise rules.already_stored(new.saga_id, entries)
        tried_again = False

        def work(connection: sa.Connection, again: bool) -> None:
            nonlocal tried_again
            tried_again = again
            connection.execute(self._sql.create(new, status, owner, lease_seconds))
            self._add(connection, [(new.saga_id, entries)])

        for _ in range(3):
            try:
                return self._run(work)
            except _Conflict as conflict:
                existing = self.get(new.saga_id)
                if existing is not None:
                    ours = tried_again and is_as_created(existing, new, owner)
                    return None if ours and has_entries(self.journal(new.saga_id), entries) else existing
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
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        tried_again = False

        def work(connection: sa.Connection, again: bool) -> None:
            nonlocal tried_again
            tried_again = again
            if status is not None or release:
                holds = self._change(connection, lease, status, release)
            else:
                holds = lease in self._holding(connection, [lease])
            if not holds:
                raise rules.lease_lost(lease)
            if status in rules.RESTING and self._messages(connection, lease.saga_id) - set(taken):
                raise rules.unread(lease.saga_id)
            self._add(connection, [(lease.saga_id, entries)])
            self._delete_messages(connection, lease.saga_id, taken)

        try:
            self._run(work)
        except (_Conflict, LeaseLostError) as error:
            if tried_again and self._was_appended(lease, entries, status, release):
                return
            if isinstance(error, LeaseLostError):
                raise
            raise rules.already_stored(lease.saga_id, entries) from error.__cause__

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        fitting = [
            one._replace(status=None if one.status is None else rules.check_status(one.status))
            for one in appends
            if all(rules.fits(entry.payload, self.longest_text) for entry in one.entries)
        ]

        def work(connection: sa.Connection, again: bool) -> set[Lease]:
            # One whose row somebody has locked waits for it by itself.
            holding = self._holding(connection, [one.lease for one in fitting], skip_locked=True)
            held = [
                one
                for one in fitting
                if one.lease in holding
                and not (one.status in rules.RESTING and self._messages(connection, one.lease.saga_id) - set(one.taken))
            ]
            self._add(connection, [(one.lease.saga_id, one.entries) for one in held])
            for one in held:
                if one.status is not None or one.release:
                    self._change(connection, one.lease, one.status, one.release)
                self._delete_messages(connection, one.lease.saga_id, one.taken)
            return {one.lease for one in held}

        try:
            # What follows from a fault is for each to find out by itself: it is not tried again here.
            written = self._run(work, patience=0.0)
        except StorageError:
            written = set()
        return [one.lease in written for one in appends]

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
        for some in batches([saga_id for saga_id in found if rules.is_id(saga_id)]):
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
        rules.check_claim(owner, lease_seconds, limit)
        if saga_id is not None and not rules.is_id(saga_id):
            return []
        saga = self._tables.saga

        def work(connection: sa.Connection, again: bool) -> list[StoredExecution]:
            found = [row for part in self._sql.claimable(names, limit, saga_id) for row in connection.execute(part)]
            claimed = []
            for one, epoch, _ in sorted(found, key=lambda row: row.due)[:limit]:
                claim = self._sql.claim(one, epoch, owner, lease_seconds, recovery=saga_id is None)
                if connection.execute(claim).rowcount == 1:
                    claimed.append(StoredExecution(*connection.execute(sa.select(saga).where(saga.c.id == one)).one()))
            return claimed

        return self._run(work)

    def renew(self, owner: str, leases: Sequence[Lease], lease_seconds: float) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)
        saga, inbox = self._tables.saga, self._tables.inbox
        mail = sa.exists().where(inbox.c.saga_id == saga.c.id).label("mail")

        def renew(some: Sequence[Lease], connection: sa.Connection) -> list[tuple[str, bool, bool]]:
            rows: list[tuple[str, bool, bool]] = []
            until = self._sql.now() + lease_seconds
            free = {lease.saga_id for lease in self._holding(connection, some, skip_locked=True)}
            for ids in batches(sorted(free)):
                change = saga.update().where(saga.c.id.in_(ids)).values(lease_until=until, due=until, updated=self._sql.now())
                connection.execute(change)
            for batch in batches([(lease.saga_id, lease.epoch) for lease in some]):
                held = sa.select(saga.c.id, mail).where(saga.c.owner == owner, sa.tuple_(saga.c.id, saga.c.epoch).in_(batch))
                rows += [(row.id, bool(row.mail), row.id in free) for row in connection.execute(held)]
            return rows

        leases = [Lease(lease.saga_id, owner, lease.epoch) for lease in leases]
        return renewed(lambda some: self._run(lambda connection, again: renew(some, connection)), leases)

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        rules.check_number("delay", delay)

        def work(connection: sa.Connection, again: bool) -> None:
            # Whether a message came is asked when the row is locked.
            waits = got_on and lease in self._holding(connection, [lease])
            due_now = waits and self._messages(connection, lease.saga_id)
            connection.execute(self._sql.release(lease, 0.0 if due_now else delay, got_on, untried)).close()

        self._run(work)

    def post(self, saga_id: str, body: str) -> None:
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        rules.check_texts([body], self.longest_text)
        inbox = self._tables.inbox
        token = uuid.uuid4().hex

        def work(connection: sa.Connection, again: bool) -> None:
            if again and connection.execute(sa.select(inbox.c.id).where(inbox.c.token == token)).first():
                return
            # The row is locked before the message gets its number: messages are numbered as they are committed.
            if connection.execute(self._sql.make_due(saga_id)).rowcount != 1:
                column = self._tables.saga.c
                status = connection.execute(sa.select(column.status).where(column.id == saga_id)).scalar_one_or_none()
                raise rules.unknown_execution(saga_id) if status is None else rules.ended(saga_id, status)
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
        for some in batches([saga_id for saga_id in saga_ids if rules.is_id(saga_id)]):
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
        rules.check_page(created_before, created_after, limit)
        statuses = rules.statuses_of(status)
        bound = rules.bound_of(after, created_before)
        if not statuses:
            return Page((), None)
        page = self._sql.listing(statuses, name, bound, created_after, limit)
        return rules.page_of([StoredExecution(*row) for row in self._read(page)], limit)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_purge(updated_before, status, limit)
        saga, journal, inbox = self._tables.saga, self._tables.journal, self._tables.inbox

        def work(connection: sa.Connection, again: bool) -> int:
            old: list[str] = []
            for one in statuses:
                old += connection.execute(self._sql.purgeable(one, updated_before, limit - len(old))).scalars()
            for ids in batches(old):
                for column in (journal.c.saga_id, inbox.c.saga_id, saga.c.id):
                    connection.execute(column.table.delete().where(column.in_(ids)))
            return len(old)

        return self._run(work)

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()

    def _holding(self, connection: sa.Connection, leases: Sequence[Lease], *, skip_locked: bool = False) -> set[Lease]:
        """Return which of the leases hold, with their rows locked.

        :param skip_locked: pass over those whose rows others have locked, where the database can.
        """
        found: set[Lease] = set()
        # In the order of their ids, so that two who lock the same do not wait for each other.
        for saga_ids in batches(sorted(lease.saga_id for lease in leases)):
            rows = connection.execute(self._sql.leases(saga_ids, skip_locked=skip_locked))
            found.update(Lease(*row) for row in rows)
        return found.intersection(leases)

    def _change(self, connection: sa.Connection, lease: Lease, status: str | None, release: bool) -> bool:
        """Change an execution's status, and give its lease back where it is to be. Return whether the lease held."""
        return connection.execute(self._sql.change(lease, status, release)).rowcount == 1

    def _add(self, connection: sa.Connection, parts: Sequence[tuple[str, Sequence[Entry]]]) -> None:
        rows = [
            {"saga_id": saga_id} | {name: getattr(entry, name) for name in ENTRY}
            for saga_id, entries in parts
            for entry in entries
        ]
        if rows:
            connection.execute(self._tables.journal.insert(), rows)

    def _messages(self, connection: sa.Connection, saga_id: str) -> set[int]:
        """Return the ids of what is in an inbox."""
        inbox = self._tables.inbox
        return set(connection.execute(sa.select(inbox.c.id).where(inbox.c.saga_id == saga_id)).scalars())

    def _delete_messages(self, connection: sa.Connection, saga_id: str, messages: Sequence[int]) -> None:
        inbox = self._tables.inbox
        for ids in batches(messages):
            connection.execute(inbox.delete().where(inbox.c.saga_id == saga_id, inbox.c.id.in_(ids)))

    def _read(self, statement: Any) -> Sequence[Any]:
        return self._run(lambda connection, again: connection.execute(statement).all())

    def _was_appended(self, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool) -> bool:
        """Whether an append was committed though its connection broke, and nobody has taken the lease since."""
        stored = self.get(lease.saga_id)
        return is_as_appended(stored, lease, status, release) and has_entries(self.journal(lease.saga_id), entries)

    def _run(self, work: Callable[[sa.Connection, bool], T], *, patience: float | None = None) -> T:
        """Do ``work(connection, again)`` in a transaction; where it may go better the next time, do it again.

        :param patience: seconds to go on trying, instead of the store's.
        :raises _Conflict: a row with this key is there already.
        :raises StorageError: it failed, or it kept breaking.
        """
        trying = Patience(self._patience if patience is None else patience)
        again = False
        while True:
            self._check_usable()
            connection: sa.Connection | None = None
            conflict = passes = False
            try:
                with self._engine.connect() as connection, connection.begin():
                    result = work(connection, again)
                if self._place is not None:
                    self._place.check()
                return result
            except exc.SQLAlchemyError as error:
                fault, conflict = without_values(error), isinstance(error, exc.IntegrityError)
                passes = isinstance(error, exc.DBAPIError) and may_pass(error, connection)
            except (UnicodeEncodeError, OverflowError) as error:
                fault = ValueError(str(error))
            # Here, as what is raised where an error is handled knows that error, and the values in it.
            if conflict:
                raise _Conflict(str(fault)) from fault
            if not passes:
                raise StorageError(f"{self._engine.url}: {fault}; nothing was stored") from fault
            if trying.ends():
                raise StorageError(f"{self._engine.url} failed{trying.lasted}: {fault}") from fault
            again = True
            trying.wait()

    def _check_usable(self) -> None:
        if self._closed:
            raise rules.closed(type(self).__name__)
        if self._place is not None:
            self._place.check()  # else SQLite would make another
        if self._pid != os.getpid():
            # After a fork: the parent goes on using the old connections.
            self._engine.dispose(close=False)
            self._pid = os.getpid()


class _Conflict(StorageError):
    """A row with this key is there already, or a column that must have a value has none."""
