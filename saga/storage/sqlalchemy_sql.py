"""The statements of the SQLAlchemy store that are more than a line. Nothing is executed here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from saga.clocks import time_of_day
from saga.storage import rules
from saga.storage.protocol import Lease, NewExecution
from saga.storage.sqlalchemy_dialects import clock, skips_locked
from saga.storage.sqlalchemy_tables import Tables

__all__ = ["ENTRY", "Statements", "batches"]

T = TypeVar("T")

ENTRY = ("seq", "kind", "step", "payload", "at")
"""The columns of an entry, as :class:`~saga.storage.protocol.Entry` has them."""

MOST_IDS = 500
"""In one statement."""


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the items in lists that are short enough for one statement each."""
    return (items[first : first + MOST_IDS] for first in range(0, len(items), MOST_IDS))


class Statements:
    """The statements for some tables, in the dialect of their database.

    :ivar clock: the server's time; ``None`` where it cannot be asked for.
    :ivar skips_locked: whether the server can pass over rows that others have locked.
    """

    def __init__(self, tables: Tables, dialect: sa.Dialect) -> None:
        self._tables = tables
        self.clock = clock(dialect)
        self.skips_locked = skips_locked(dialect)

    def now(self) -> sa.ColumnElement[float]:
        """Return the server's time; ours, where the server's cannot be asked for."""
        return sa.literal(time_of_day(), sa.Double()) if self.clock is None else self.clock

    def holds(self, lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the conditions that a lease holds."""
        saga = self._tables.saga
        return saga.c.id == lease.saga_id, saga.c.owner == lease.owner, saga.c.epoch == lease.epoch

    def create(self, new: NewExecution, status: str, owner: str, lease_seconds: float) -> sa.Insert:
        """Add an execution, owned with epoch 1."""
        now = self.now()
        return self._tables.saga.insert().values(
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

    def change(self, lease: Lease, status: str | None, release: bool) -> sa.Update:
        """Set an execution's status where there is one to set, and give its lease back where it is to be, if it holds."""
        now = self.now()
        changes: dict[str, Any] = {"updated": now} | ({} if status is None else {"status": status})
        if release:
            changes |= {"owner": None, "lease_until": 0.0, "due": now}
        return self._tables.saga.update().where(*self.holds(lease)).values(changes)

    def leases(self, saga_ids: Sequence[str], *, skip_locked: bool) -> sa.Select[Any]:
        """Read who holds some executions, and with which epoch, and lock their rows."""
        saga = self._tables.saga
        found = sa.select(saga.c.id, saga.c.owner, saga.c.epoch).where(saga.c.id.in_(saga_ids)).order_by(saga.c.id)
        return found.with_for_update(key_share=True, skip_locked=skip_locked and self.skips_locked)

    def claimable(self, names: Collection[str] | None, limit: int, saga_id: str | None) -> list[sa.Select[Any]]:
        """Read the ids, epochs and times of what may be claimed, oldest due first, in as many statements as there are ranges.

        The rows are locked where the database can pass over what others lock.
        """
        saga = self._tables.saga
        columns = sa.select(saga.c.id, saga.c.epoch, saga.c.due).where(saga.c.lease_until <= self.now())
        if saga_id is not None:
            one = columns.where(saga.c.id == saga_id)
            return [(one if names is None else one.where(saga.c.name.in_(names))).with_for_update()]
        ranges = [columns.where(saga.c.status == status, saga.c.due <= self.now()) for status in rules.CLAIMABLE]
        if names is not None:
            ranges = [part.where(saga.c.name == name) for part in ranges for name in set(names)]
        oldest = [part.order_by(saga.c.due).limit(limit) for part in ranges]
        return [part.with_for_update(skip_locked=True) for part in oldest] if self.skips_locked else oldest

    def claim(self, saga_id: str, epoch: int, owner: str, lease_seconds: float, *, recovery: bool) -> sa.Update:
        """Take an execution that was found with this epoch, if its lease has run out and nobody has taken it since."""
        saga, now = self._tables.saga, self.now()
        changes = {
            "owner": owner,
            "epoch": saga.c.epoch + 1,
            "lease_until": now + lease_seconds,
            "due": now + lease_seconds,
            "recoveries": saga.c.recoveries + int(recovery),
            "updated": now,
        }
        # The epoch is compared for those databases that have locked nothing by now.
        return saga.update().where(saga.c.id == saga_id, saga.c.epoch == epoch, saga.c.lease_until <= now).values(changes)

    def release(self, lease: Lease, delay: float, got_on: bool, untried: bool) -> sa.Update:
        """Give a lease back, if it holds."""
        saga, now = self._tables.saga, self.now()
        changes: dict[str, Any] = {"owner": None, "lease_until": 0.0, "due": now + delay, "updated": now}
        if got_on or untried:
            changes["recoveries"] = 0 if got_on else saga.c.recoveries - 1
        return saga.update().where(*self.holds(lease)).values(changes)

    def make_due(self, saga_id: str) -> sa.Update:
        """Let recovery look at an execution now, unless it has ended."""
        saga, now = self._tables.saga, self.now()
        due = sa.case((saga.c.due > now, now), else_=saga.c.due)
        return saga.update().where(saga.c.id == saga_id, saga.c.status.not_in(rules.ENDED)).values(due=due)

    def listing(
        self,
        statuses: Sequence[str],
        name: str | None,
        bound: tuple[float, str],
        created_after: float | None,
        limit: int,
    ) -> sa.Select[Any]:
        """Read a page and one row more: one range of an index for each status, each in order, and the newest of all.

        :param statuses: at least one.
        :param bound: what :func:`saga.storage.rules.bound_of` returns.
        """
        saga = self._tables.saga
        created, saga_id = bound
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
            for one in statuses
        ]
        found = sa.union_all(*(sa.select(part) for part in ranges)).subquery()
        return sa.select(found).order_by(found.c.created.desc(), found.c.id.desc()).limit(limit + 1)

    def purgeable(self, status: str, updated_before: float, limit: int) -> sa.Select[Any]:
        """Read and lock the ids of executions of one status that nobody holds, last written before then."""
        saga = self._tables.saga
        # Nothing is written before it is created, so what is old is found by when it was created.
        old = (saga.c.status == status, saga.c.created < updated_before, saga.c.updated < updated_before)
        found = sa.select(saga.c.id).where(*old, saga.c.lease_until <= self.now()).order_by(saga.c.created).limit(limit)
        return found.with_for_update(skip_locked=self.skips_locked)
