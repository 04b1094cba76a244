"""A store in whatever database SQLAlchemy reaches: MySQL and MariaDB above all. SQLAlchemy Core only, nothing of its ORM.

For SQLite and PostgreSQL, the stores made for them are faster; this one passes the same tests with them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from saga.errors import LeaseLostError, StorageError
from saga.storage import rules
from saga.storage.records import (
    NO_PLACES,
    Append,
    Beat,
    Entry,
    Hold,
    Lease,
    NewExecution,
    Place,
    StoredExecution,
    Told,
    Wanted,
)
from saga.storage.retrying import has_entries, is_as_appended, is_as_created, renewed
from saga.storage.sqlalchemy_alerts import Alerting
from saga.storage.sqlalchemy_claims import Claims
from saga.storage.sqlalchemy_connected import Conflict
from saga.storage.sqlalchemy_reads import Reads
from saga.storage.sqlalchemy_sql import batches
from saga.storage.sqlalchemy_step import SQLAlchemyTransaction
from saga.storage.sqlalchemy_submitting import Submitting
from saga.storage.sqlalchemy_tables import latest
from saga.storage.sqlalchemy_workers import Workers
from saga.storage.transactions import LentInLoop
from saga.storage.watching import ring

__all__ = ["SQLAlchemyStore"]


class SQLAlchemyStore(Reads, Workers, Alerting, Submitting):
    """A store in the database of a URL, which makes its tables where they do not exist.

    :param url: as SQLAlchemy takes it, such as ``mysql+pymysql://user:password@host/database``.
    :param prefix: what the tables' names begin with: they are called ``saga``, ``saga_journal``, ``saga_inbox`` and so on.
    :param patience: seconds to go on trying when the connection breaks.
    :param options: more of :func:`sqlalchemy.create_engine`'s parameters.
    :raises StorageError: the server cannot be reached, its driver is not installed, or the tables were written by a later
        release.
    """

    schema_version = latest()
    transacts = True

    def __init__(self, url: str | sa.URL, *, prefix: str = "saga", patience: float | timedelta = 10.0, **options: Any) -> None:
        super().__init__(url, prefix=prefix, patience=patience, **options)
        self._claims = Claims(self._tables, self._sql)

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner, lease_seconds)
        self._check_entries(new.saga_id, entries)
        tried_again = False

        def work(connection: sa.Connection, again: bool) -> None:
            nonlocal tried_again
            tried_again = again
            if (held := connection.execute(self._sql.held(new)).first()) and not self._known(connection, [new.saga_id]):
                rules.check_not_held(new, [Hold(*held)])
            connection.execute(self._sql.create(new, status, owner, lease_seconds))
            self._add(connection, [(new.saga_id, entries)])
            if new.tags:
                column = self._tables.saga.c
                created = connection.execute(sa.select(column.created).where(column.id == new.saga_id)).scalar_one()
                self._add_tags(connection, [(new, created)])

        for _ in range(3):
            try:
                return self._run(work)
            except Conflict as conflict:
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
        told: Told | None = None,
    ) -> None:
        one = self._checked(Append(lease, entries, status, release, taken, told))
        tried_again = False

        def work(connection: sa.Connection, again: bool) -> None:
            nonlocal tried_again
            tried_again = again
            self._append(connection, one)

        try:
            self._run(work)
        except (Conflict, LeaseLostError) as error:
            if tried_again and self._was_appended(lease, entries, one.status, release):
                return
            if isinstance(error, LeaseLostError):
                raise
            raise rules.already_stored(lease.saga_id, entries) from error.__cause__

    def _checked(self, one: Append) -> Append:
        """Return an append with the status as it is stored."""
        rules.check_texts([entry.payload for entry in one.entries], self.longest_text)
        return one if one.status is None else one._replace(status=rules.check_status(one.status))

    def _append(self, connection: sa.Connection, one: Append) -> None:
        """Add to a journal, within a transaction."""
        lease, status = one.lease, one.status
        if status is not None or one.release or one.told is not None:
            holds = self._change(connection, lease, status, one.release, one.told)
        else:
            holds = lease in self._holding(connection, [lease])
        if not holds:
            raise rules.lease_lost(lease)
        if status in rules.RESTING and self._messages(connection, lease.saga_id) - set(one.taken):
            raise rules.unread(lease.saga_id)
        self._add(connection, [(lease.saga_id, one.entries)])
        self._delete_messages(connection, lease.saga_id, one.taken)

    def transaction_in_loop(self) -> LentInLoop:
        if not self.transacts_async:
            return super().transaction_in_loop()
        from saga.storage.sqlalchemy_step_in_loop import SQLAlchemyInLoop  # it needs a library that others do not

        return SQLAlchemyInLoop(self._engines, self._check_usable, self._adding, self._patience)

    def transaction(self) -> SQLAlchemyTransaction:
        return SQLAlchemyTransaction(self._usable_engine, self._adding, self._patience)

    def _adding(self, connection: sa.Connection, one: Append) -> None:
        self._append(connection, self._checked(one))

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
                if one.status is not None or one.release or one.told is not None:
                    self._change(connection, one.lease, one.status, one.release, one.told)
                self._delete_messages(connection, one.lease.saga_id, one.taken)
            return {one.lease for one in held}

        try:
            # What follows from a fault is for each to find out by itself: it is not tried again here.
            written = self._run(work, patience=0.0)
        except StorageError:
            written = set()
        return [one.lease in written for one in appends]

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
        if saga_id is None:
            claims = self._claims.oldest
            return self._run(
                lambda connection, again: claims(connection, owner, lease_seconds, wanted, submitted, limit, but())
            )
        if not rules.is_id(saga_id) or saga_id in but():
            return []
        claim = self._claims.one
        return self._run(lambda connection, again: claim(connection, owner, lease_seconds, saga_id, wanted, submitted))

    def renew(
        self, owner: str, leases: Sequence[Lease], lease_seconds: float, places: Mapping[str, Place] = NO_PLACES
    ) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)
        saga, inbox = self._tables.saga, self._tables.inbox
        mail = sa.exists().where(inbox.c.saga_id == saga.c.id).label("mail")

        def renew(some: Sequence[Lease], connection: sa.Connection) -> list[tuple[str, bool, bool]]:
            rows: list[tuple[str, bool, bool]] = []
            free = {lease.saga_id for lease in self._holding(connection, some, skip_locked=True)}
            for ids in batches(sorted(free & places.keys())):
                connection.execute(self._sql.renew(ids, lease_seconds, [places[one] for one in ids]))
            for ids in batches(sorted(free - places.keys())):
                connection.execute(self._sql.renew(ids, lease_seconds, []))
            for batch in batches([(lease.saga_id, lease.epoch) for lease in some]):
                held = sa.select(saga.c.id, mail).where(saga.c.owner == owner, sa.tuple_(saga.c.id, saga.c.epoch).in_(batch))
                rows += [(row.id, bool(row.mail), row.id in free) for row in connection.execute(held)]
            return rows

        leases = [Lease(lease.saga_id, owner, lease.epoch) for lease in leases]
        return renewed(lambda some: self._run(lambda connection, again: renew(some, connection)), leases)

    def renew_call(self, saga_id: str, seconds: float) -> None:
        rules.check_number("seconds", seconds)
        if rules.is_id(saga_id):
            self._run(lambda connection, again: connection.execute(self._sql.renew_call(saga_id, seconds)).close())

    def release(
        self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False, step: str | None = None
    ) -> None:
        rules.check_number("delay", delay)

        def work(connection: sa.Connection, again: bool) -> None:
            # Whether a message came is asked when the row is locked.
            waits = got_on and lease in self._holding(connection, [lease])
            pause = 0.0 if waits and self._messages(connection, lease.saga_id) else delay
            connection.execute(self._sql.release(lease, pause, got_on=got_on, untried=untried, step=step)).close()

        self._run(work)
        ring(self)

    def post(self, saga_id: str, body: str, *, status: Collection[str] | None = None) -> None:
        takes = rules.reading(status)
        if not rules.is_id(saga_id):
            raise rules.unknown_execution(saga_id)
        rules.check_texts([body], self.longest_text)
        inbox = self._tables.inbox
        token = uuid.uuid4().hex

        def work(connection: sa.Connection, again: bool) -> None:
            if again and connection.execute(sa.select(inbox.c.id).where(inbox.c.token == token)).first():
                return
            # The row is locked before the message gets its number: messages are numbered as they are committed.
            if connection.execute(self._sql.make_due(saga_id, takes)).rowcount != 1:
                column = self._tables.saga.c
                found = connection.execute(sa.select(column.status).where(column.id == saga_id)).scalar_one_or_none()
                raise rules.unknown_execution(saga_id) if found is None else rules.not_taken(saga_id, found)
            connection.execute(inbox.insert().values(saga_id=saga_id, body=body, token=token))

        self._run(work)
        ring(self)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_purge(updated_before, status, limit)
        saga, others = self._tables.saga, (self._tables.journal, self._tables.inbox, self._tables.tags)

        def work(connection: sa.Connection, again: bool) -> int:
            old: list[str] = []
            for one in statuses:
                old += connection.execute(self._sql.purgeable(one, updated_before, limit - len(old))).scalars()
            for ids in batches(old):
                for column in (*(table.c.saga_id for table in others), saga.c.id):
                    connection.execute(column.table.delete().where(column.in_(ids)))
            return len(old)

        return self._run(work)

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

    def _change(self, connection: sa.Connection, lease: Lease, status: str | None, release: bool, told: Told | None) -> bool:
        """Change what an append changes of an execution's row. Return whether the lease held."""
        return connection.execute(self._sql.change(lease, status, release, told)).rowcount == 1

    def _messages(self, connection: sa.Connection, saga_id: str) -> set[int]:
        """Return the ids of what is in an inbox."""
        inbox = self._tables.inbox
        return set(connection.execute(sa.select(inbox.c.id).where(inbox.c.saga_id == saga_id)).scalars())

    def _delete_messages(self, connection: sa.Connection, saga_id: str, messages: Sequence[int]) -> None:
        inbox = self._tables.inbox
        for ids in batches(messages):
            connection.execute(inbox.delete().where(inbox.c.saga_id == saga_id, inbox.c.id.in_(ids)))

    def _was_appended(self, lease: Lease, entries: Sequence[Entry], status: str | None, release: bool) -> bool:
        """Whether an append was committed though its connection broke, and nobody has taken the lease since."""
        stored = self.get(lease.saga_id)
        return is_as_appended(stored, lease, status, release) and has_entries(self.journal(lease.saga_id), entries)
