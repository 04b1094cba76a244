"""The statements of the SQLAlchemy store that are more than a line. Nothing is executed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from saga.clocks import time_of_day
from saga.storage import rules
from saga.storage.claims import WORTH, called_until, opening
from saga.storage.columns import EXECUTION, tags_text
from saga.storage.records import ANY, Hold, Lease, Listed, NewExecution, Place, Told
from saga.storage.sqlalchemy_dialects import clock, skips_locked
from saga.storage.sqlalchemy_tables import Tables

__all__ = ["ENTRY", "Statements", "batches"]

T = TypeVar("T")

ENTRY = ("seq", "kind", "step", "payload", "at")
"""The columns of an entry, as :class:`~saga.storage.protocol.Entry` has them."""

CREATED = ("created", "updated", "progressed")
"""The columns that say when, of an execution that was just created."""

MOST_IDS = 500
"""In one statement."""


def batches(items: Sequence[T], most: int = MOST_IDS) -> Iterator[Sequence[T]]:
    """Yield the items in lists that are short enough for one statement each."""
    return (items[first : first + most] for first in range(0, len(items), most))


class Statements:
    """The statements for some tables, in the dialect of their database.

    :ivar row: the columns of :class:`~saga.storage.StoredExecution`'s fields.
    :ivar clock: the server's time; ``None`` where it cannot be asked for.
    :ivar skips_locked: whether the server can pass over rows that others have locked.
    """

    def __init__(self, tables: Tables, dialect: sa.Dialect) -> None:
        self._tables = tables
        self.row = tuple(tables.saga.c[name] for name in EXECUTION)
        self.clock = clock(dialect)
        self.skips_locked = skips_locked(dialect)

    def now(self) -> sa.ColumnElement[float]:
        """Return the server's time; ours, where the server's cannot be asked for."""
        if self.clock is None:
            return sa.bindparam(None, callable_=time_of_day, type_=sa.Double())  # asked when the statement is executed
        return self.clock

    def holds(self, lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the conditions that a lease holds."""
        saga = self._tables.saga
        return saga.c.id == lease.saga_id, saga.c.owner == lease.owner, saga.c.epoch == lease.epoch

    def get(self, saga_ids: Sequence[str]) -> sa.Select[Any]:
        """Read the rows of some executions."""
        return sa.select(*self.row).where(self._tables.saga.c.id.in_(saga_ids))

    def create(self, new: NewExecution, status: str, owner: str, lease_seconds: float) -> sa.Insert:
        """Add an execution, owned with epoch 1."""
        now = self.now()
        until = now + lease_seconds
        begun = {"owner": owner, "epoch": 1, "lease_until": until, "due": until, "opens": now, "started": now}
        return self._tables.saga.insert().values(_as_new(new, status) | begun | dict.fromkeys(CREATED, now))

    def submit(
        self, new: Iterable[tuple[NewExecution, str]], created: Mapping[str, float]
    ) -> tuple[sa.Insert, list[dict[str, Any]]]:
        """Add executions with these statuses, which nobody owns. The values are plain: a driver sends many in one statement."""
        rows = []
        for one, status in new:
            now = created[one.saga_id]
            due, opens = opening(one, now)
            line = {"owner": None, "epoch": 0, "lease_until": 0.0, "due": due, "opens": opens, "started": None}
            line["called_until"] = called_until(one, now)
            rows.append(_as_new(one, status) | line | dict.fromkeys(CREATED, now))
        return self._tables.saga.insert(), rows

    def change(self, lease: Lease, status: str | None, release: bool, told: Told | None) -> sa.Update:
        """Set what an append changes of an execution's row, if the lease holds."""
        now = self.now()
        changes: dict[str, Any] = {"updated": now}
        if told is not None:
            changes |= {"step": _clipped(told.step), "reason": told.reason, "cause": _clipped(told.cause), "progressed": now}
            if told.keep:
                changes["keep_until"] = now + told.keep
            if told.definition is not None:
                changes |= dict(zip(("version", "fingerprint"), told.definition, strict=True))
        if status is not None:
            changes |= {"status": status, "progressed": now}
        if status in rules.ENDED:
            changes["holds"] = None
        if release:
            changes |= {"owner": None, "lease_until": 0.0, "due": now}
        return self._tables.saga.update().where(*self.holds(lease)).values(changes)

    def leases(self, saga_ids: Sequence[str], *, skip_locked: bool) -> sa.Select[Any]:
        """Read who holds some executions, and with which epoch, and lock their rows."""
        saga = self._tables.saga
        found = sa.select(saga.c.id, saga.c.owner, saga.c.epoch).where(saga.c.id.in_(saga_ids)).order_by(saga.c.id)
        return found.with_for_update(key_share=True, skip_locked=skip_locked and self.skips_locked)

    def renew(self, saga_ids: Sequence[str], lease_seconds: float, places: Sequence[Place]) -> sa.Update:
        """Make leases last from now on, and tell where these executions are, if there are as many places."""
        saga, now = self._tables.saga, self.now()
        changes: dict[str, Any] = {"lease_until": now + lease_seconds, "due": now + lease_seconds, "updated": now}
        if places:
            steps = {one: sa.literal(_clipped(place.step), sa.String()) for one, place in zip(saga_ids, places, strict=True)}
            idle: dict[str, sa.ColumnElement[float]] = {
                one: sa.literal(place.idle, sa.Double()) for one, place in zip(saga_ids, places, strict=True)
            }
            changes["step"] = sa.case(steps, value=saga.c.id)
            changes["progressed"] = now - sa.case(idle, value=saga.c.id)
        return saga.update().where(saga.c.id.in_(saga_ids)).values(changes)

    def release(self, lease: Lease, delay: float, *, got_on: bool, untried: bool, step: str | None) -> sa.Update:
        """Give a lease back, if it holds."""
        saga, now = self._tables.saga, self.now()
        place = saga.c.opens - WORTH * saga.c.priority  # in the line, where others are to go on with it at once
        due = now + delay if delay else sa.case((place < now, place), else_=now)
        changes: dict[str, Any] = {"owner": None, "lease_until": 0.0, "due": due, "updated": now}
        if got_on:
            changes |= {"recoveries": 0, "progressed": now}
        elif untried:
            changes["recoveries"] = saga.c.recoveries - 1
        if step is not None:
            changes["step"] = _clipped(step)
        return saga.update().where(*self.holds(lease)).values(changes)

    def renew_call(self, saga_id: str, seconds: float) -> sa.Update:
        """Let who called for an execution have it to themselves for so long."""
        saga = self._tables.saga
        called = (saga.c.id == saga_id, saga.c.status == "submitted", saga.c.called_until.is_not(None))
        return saga.update().where(*called).values(called_until=self.now() + seconds)

    def held(self, new: NewExecution) -> sa.Select[Any]:
        """Read what holds are of an execution's saga and version."""
        hold = self._tables.hold
        columns = [hold.c[name] for name in Hold._fields]
        return sa.select(*columns).where(hold.c.name == new.name, hold.c.version.in_((ANY, new.version)))

    def make_due(self, saga_id: str, status: Sequence[str]) -> sa.Update:
        """Let recovery look at an execution now, where it has one of these statuses. What is stuck it leaves alone."""
        saga, now = self._tables.saga, self.now()
        due = sa.case((sa.and_(saga.c.due > now, saga.c.status != "stuck"), now), else_=saga.c.due)
        return saga.update().where(saga.c.id == saga_id, saga.c.status.in_(status)).values(due=due)

    def listing(self, which: Listed) -> sa.Select[Any]:
        """Read a page and one row more.

        It is one range of an index for each status, each in order, and the newest of all; by tags, the range of one.

        :param which: of at least one status.
        """
        saga = self._tables.saga
        where = [saga.c[column] == value for column, value in which.equal.items()]
        if which.progressed_before is not None:
            where.append(saga.c.progressed < which.progressed_before)
        if which.tags:
            return self._tagged(which, where)
        where += _page(saga.c.created, saga.c.id, which)
        before = which.bound[0]
        latest = {one: rules.latest_created(one, before, which.progressed_before) for one in which.statuses}
        ranges = [
            sa.select(*self.row)
            .where(saga.c.status == one, *where, *([saga.c.created <= latest[one]] if latest[one] < before else []))
            .order_by(saga.c.created.desc(), saga.c.id.desc())
            .limit(which.limit + 1)
            .subquery()
            for one in which.statuses
        ]
        found = sa.union_all(*(sa.select(part) for part in ranges)).subquery()
        return sa.select(found).order_by(found.c.created.desc(), found.c.id.desc()).limit(which.limit + 1)

    def _tagged(self, which: Listed, where: list[sa.ColumnElement[bool]]) -> sa.Select[Any]:
        saga = self._tables.saga
        first, *others = [self._tables.tags.alias() for _ in which.tags]
        joined = saga.join(first, first.c.saga_id == saga.c.id)
        for other in others:  # any of them may be the one that is found by, with the others looked up
            joined = joined.join(other, sa.and_(other.c.saga_id == first.c.saga_id, other.c.created == first.c.created))
        for tag, (key, value) in zip((first, *others), which.tags.items(), strict=True):
            where += [tag.c.key == key, tag.c.value == value]
        if len(which.statuses) < len(rules.STATUSES):
            where.append(saga.c.status.in_(which.statuses))
        where += _page(first.c.created, first.c.saga_id, which)
        found = sa.select(*self.row).select_from(joined).where(*where)
        return found.order_by(first.c.created.desc(), first.c.saga_id.desc()).limit(which.limit + 1)

    def counting(self, by: Sequence[str], statuses: Sequence[str], name: str | None) -> sa.Select[Any]:
        """Read how many executions of these statuses there are of each kind."""
        saga = self._tables.saga
        columns = [saga.c[one] for one in by]
        found = sa.select(*columns, sa.func.count()).where(saga.c.status.in_(statuses)).group_by(*columns)
        return found if name is None else found.where(saga.c.name == name)

    def causes(self, name: str | None) -> sa.Select[Any]:
        """Read why executions are stuck."""
        saga = self._tables.saga
        kind = (saga.c.name, saga.c.step, saga.c.cause)
        told = (sa.func.max(saga.c.reason), sa.func.count(), sa.func.min(saga.c.progressed), sa.func.max(saga.c.id))
        found = sa.select(*kind, *told).where(saga.c.status == "stuck").group_by(*kind)
        return found if name is None else found.where(saga.c.name == name)

    def beginning_with(self, text: str, end: str, limit: int) -> sa.Select[Any]:
        """Read executions whose ids come from a text on and before another."""
        saga = self._tables.saga
        return sa.select(*self.row).where(saga.c.id >= text, saga.c.id < end).order_by(saga.c.id).limit(limit)

    def next_tag(self, key: str) -> sa.Select[Any]:
        """Read the key of tags after this one."""
        tags = self._tables.tags
        return sa.select(sa.func.min(tags.c.key)).where(tags.c.key > key)

    def having(self, key: str) -> sa.Select[Any]:
        """Read the execution that has a key."""
        return sa.select(*self.row).where(self._tables.saga.c.holds == key)

    def waiting(self, key: str, limit: int) -> sa.Select[Any]:
        """Read executions that are to have a key, or have it and go on, in their order."""
        saga = self._tables.saga
        wait = (saga.c.exclusive == key, saga.c.status.in_(rules.CLAIMABLE))
        return sa.select(*self.row).where(*wait).order_by(saga.c.opens, saga.c.id).limit(limit)

    def purgeable(self, status: str, updated_before: float, limit: int) -> sa.Select[Any]:
        """Read and lock the ids of executions of one status that nobody holds, last written before then."""
        saga = self._tables.saga
        # Nothing is written before it is created, so what is old is found by when it was created.
        old = (saga.c.status == status, saga.c.created < updated_before, saga.c.updated < updated_before)
        free = [saga.c.lease_until <= self.now()]
        if status == "completed":  # else there is nothing that could be undone
            free.append(saga.c.keep_until <= self.now())
        found = sa.select(saga.c.id).where(*old, *free).order_by(saga.c.created).limit(limit)
        return found.with_for_update(skip_locked=self.skips_locked)


def _as_new(new: NewExecution, status: str) -> dict[str, Any]:
    """Return what a row says of an execution from its beginning."""
    return {
        "id": new.saga_id,
        "name": new.name,
        "version": new.version,
        "fingerprint": new.fingerprint,
        "digest": new.digest,
        "status": status,
        "recoveries": 0,
        "step": _clipped(new.step),
        "tags": tags_text(new.tags),
        "priority": new.priority,
        "exclusive": new.exclusive,
    }


def _clipped(text: str | None) -> str | None:
    """Return as much of a text as a key's column takes."""
    return None if text is None else text[: rules.LONGEST]


def _page(created: sa.ColumnElement[float], saga_id: sa.ColumnElement[str], which: Listed) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that executions are on a page or after it."""
    before, from_id = which.bound
    return [created >= which.start, created <= before, sa.or_(created < before, saga_id < from_id)]
