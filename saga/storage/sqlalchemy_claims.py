"""Claims of the SQLAlchemy store: what may be taken, in whose turn, and how many. No transaction begins or ends here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from saga.storage import rules
from saga.storage.claims import fits_one, rate_window, shares
from saga.storage.columns import row_of
from saga.storage.records import ANY, StoredExecution, Wanted
from saga.storage.sqlalchemy_sql import Statements, batches
from saga.storage.sqlalchemy_tables import Tables

__all__ = ["Claims"]

MOST_RANGES = 100
"""In one statement."""

MOST_KINDS = 16
"""Kinds of claims whose statements are kept: each takes longer to make than to execute."""


class Claims:
    """What claims from some tables.

    :param sql: the statements for them.
    """

    def __init__(self, tables: Tables, sql: Statements) -> None:
        self._tables = tables
        self._sql = sql
        saga = tables.saga
        names = ("id", "epoch", "due", "name", "version", "fingerprint", "status", "exclusive", "holds", "started")
        self._columns = [saga.c[name] for name in names]
        self._made: dict[Any, _Ranges] = {}

    def one(
        self,
        connection: sa.Connection,
        owner: str,
        lease_seconds: float,
        saga_id: str,
        wanted: Collection[Wanted] | None,
        submitted: bool,
    ) -> list[StoredExecution]:
        """Take this one: to act on it, or to run it where one of those wanted fits it and it is its turn."""
        saga = self._tables.saga
        room = None
        if wanted is not None:
            name = connection.execute(sa.select(saga.c.name).where(saga.c.id == saga_id)).scalar_one_or_none()
            wanted = [one for one in wanted if one.name == name]
            room = _Room(connection, self._tables, self._sql, wanted)
        free = sa.select(*self._columns).where(saga.c.id == saga_id, saga.c.lease_until <= self._sql.now())
        row: Any = connection.execute(free.with_for_update()).one_or_none()
        if row is None or (row.status == "submitted" and not submitted):
            return []
        if room is not None:
            found = fits_one(row, wanted or ())
            if found is None or room.left(found, row.status) < 1:
                return []
            turn = (*self._is_open(row.status), *self._may_run(row.status, found.name, found.version, turns=True))
            if connection.execute(sa.select(saga.c.id).where(saga.c.id == saga_id, *turn)).one_or_none() is None:
                return []
        return self._taken(connection, row, owner, lease_seconds, counts=False, runs=room is not None)

    def oldest(
        self,
        connection: sa.Connection,
        owner: str,
        lease_seconds: float,
        wanted: Collection[Wanted] | None,
        submitted: bool,
        limit: int,
        but: Collection[str],
    ) -> list[StoredExecution]:
        """Take those, but for some, that have been due for the longest of what those wanted fit, or of whatever is there."""
        room = _Room(connection, self._tables, self._sql, wanted or ())
        found = self._found(connection, wanted, submitted, limit, room, turns=False)
        if any(row.exclusive is not None and row.holds is None for row in found):
            # The others are found by what costs more, and is not asked for those that have no keys: most, or all.
            found = self._found(connection, wanted, submitted, limit, room, turns=True)
        claimed: list[StoredExecution] = []
        for row in sorted(found, key=lambda row: row.due):
            if len(claimed) == limit:
                break
            one = None if wanted is None else fits_one(row, wanted)
            if row.id not in but and room.left(one, row.status) > 0:
                taken = self._taken(connection, row, owner, lease_seconds, counts=True, runs=True)
                claimed += taken
                if taken:
                    room.take(row)
        return claimed

    def _found(
        self,
        connection: sa.Connection,
        wanted: Collection[Wanted] | None,
        submitted: bool,
        limit: int,
        room: _Room,
        *,
        turns: bool,
    ) -> Collection[Any]:
        """Return what may be taken, each once. :param turns: only that whose turn it is."""
        kind = (None if wanted is None else tuple(dict.fromkeys(wanted)), submitted, turns)
        ranges = self._made.get(kind)
        if ranges is None:
            if len(self._made) == MOST_KINDS:
                self._made.clear()
            ranges = self._made[kind] = _Ranges(self._ranges(*kind))
        found: dict[str, Any] = {}
        for statement, whose in ranges.parts:
            most = {key: max(0, min(limit, room.left(one, status))) for key, status, one in whose}
            found |= {row.id: row for row in connection.execute(statement, most)}
        return found.values()

    def _ranges(self, wanted: tuple[Wanted, ...] | None, submitted: bool, turns: bool) -> Iterator[_Range]:
        """Yield what reads what may be taken, oldest due first: each is one range of an index."""
        saga = self._tables.saga
        for status in rules.CLAIMABLE:
            # Nobody else begins what somebody called for, who lives. Without what was submitted, few are left to be looked for.
            called = status == "submitted" and not submitted
            left = self._is_left(status, submitted)
            if wanted is None:
                where = (*left, *self._may_run(status, saga.c.name, None, turns=turns))
                yield self._range("called" if called else "due", None, status, *where)
            for one, fingerprint, version, but in shares(wanted or ()):
                where = (saga.c.name == one.name, *left, *self._may_run(status, one.name, one.version, turns=turns))
                index, others = "due_by_name", saga.c.fingerprint
                if fingerprint is not None:
                    index, others = "due_by_fingerprint", saga.c.version
                    where = (saga.c.fingerprint == fingerprint, *where)
                if version is not None:
                    index = "due_by_version" if fingerprint is None else index
                    where = (saga.c.version == version, *where)
                if but:
                    where = (*where, others.not_in(but))
                yield self._range("called" if called else index, one, status, *where)

    def _range(self, index: str, wanted: Wanted | None, status: str, *where: sa.ColumnElement[bool]) -> _Range:
        """Read what is free and due of a status. :param index: what it is a range of, for servers that choose another."""
        saga, now = self._tables.saga, self._sql.now()
        most: sa.BindParameter[int] = sa.bindparam("most", type_=sa.Integer(), unique=True)
        due = (saga.c.status == status, saga.c.due <= now, saga.c.lease_until <= now, *self._is_open(status))
        found = sa.select(*self._columns).where(*due, *where).order_by(saga.c.due).limit(most)
        for server in ("mysql", "mariadb"):
            found = found.with_hint(saga, f"FORCE INDEX ({saga.name}_{index})", server)
        # Locked where the database can pass over what others lock.
        return _Range(found.with_for_update(skip_locked=True) if self._sql.skips_locked else found, most.key, status, wanted)

    def _is_left(self, status: str, submitted: bool) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the conditions that an execution of this status is there for whoever claims."""
        if status != "submitted":
            return ()
        called = self._tables.saga.c.called_until
        gone = called <= self._sql.now()
        return (sa.or_(called.is_(None), gone) if submitted else gone,)

    def _is_open(self, status: str) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the condition that an execution of this status may be begun by now, where it is to be begun."""
        if status == "submitted":
            yield self._tables.saga.c.opens <= self._sql.now()

    def _may_run(self, status: str, name: Any, version: str | None, *, turns: bool) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions that an execution of this status is held by nobody's hold.

        :param turns: and that it has its key or may have it.
        """
        saga, hold = self._tables.saga, self._tables.hold
        if status == "submitted":
            versions = [ANY] if version is None else [ANY, version]
            yield ~sa.exists().where(hold.c.name == name, hold.c.version.in_(versions))
        if turns and status not in rules.ENDED:
            yield sa.or_(saga.c.exclusive.is_(None), saga.c.holds.is_not(None), sa.and_(*self._is_first(status)))

    def _is_first(self, status: str) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions that nobody has the key of one with this status, and that none before it is to have it.

        Nearly all that wait have the same status. The first of those is at the end of a range of an index: the others, however
        many, are not looked at.
        """
        saga, other = self._tables.saga, self._tables.saga.alias()
        yield ~sa.exists().where(other.c.holds == saga.c.exclusive)
        before = sa.or_(other.c.opens < saga.c.opens, sa.and_(other.c.opens == saga.c.opens, other.c.id < saga.c.id))
        for another in rules.CLAIMABLE:
            line = (other.c.exclusive == saga.c.exclusive, other.c.status == another, *self._keeps_back(other, another, status))
            if another == status:
                first = sa.select(other.c.id).where(*line).order_by(other.c.opens, other.c.id).limit(1)
                yield saga.c.id == first.correlate(saga).scalar_subquery()
            else:
                yield ~sa.exists().where(*line, other.c.opens <= saga.c.opens, before)

    def _keeps_back(self, other: sa.FromClause, status: str, others: str) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions that another with this status keeps back those that come after it, with that of theirs.

        What is not to be begun does not: it is not open yet, or held. But that keeps back what is held with it.
        """
        if status == "submitted":
            saga, hold = self._tables.saga, self._tables.hold
            yield other.c.opens <= self._sql.now()
            held = sa.exists().where(hold.c.name == other.c.name, hold.c.version.in_([ANY, other.c.version]))
            together = sa.and_(other.c.name == saga.c.name, other.c.version == saga.c.version)
            yield sa.or_(~held.correlate(other), *([together] if others == status else []))

    def _taken(
        self, connection: sa.Connection, row: Any, owner: str, lease_seconds: float, *, counts: bool, runs: bool
    ) -> list[StoredExecution]:
        """Take an execution that was found so, unless somebody else has, or has its key. Return its row as it is then."""
        saga, now = self._tables.saga, self._sql.now()
        until = now + lease_seconds
        changes: dict[str, Any] = {
            "owner": owner,
            "epoch": saga.c.epoch + 1,
            "lease_until": until,
            "due": until,
            "updated": now,
        }
        if counts:
            changes["recoveries"] = saga.c.recoveries + 1
        if runs and row.started is None:
            changes["started"] = now
        # The epoch is compared for those databases that have locked nothing by now.
        found = (saga.c.id == row.id, saga.c.epoch == row.epoch, saga.c.lease_until <= now)
        take = saga.update().where(*found)
        if runs and row.exclusive is not None and row.status not in rules.ENDED:
            try:
                with connection.begin_nested():
                    done = connection.execute(take.values(changes | {"holds": row.exclusive})).rowcount
            except exc.IntegrityError:  # another was given the key at the same time
                return []
        else:
            done = connection.execute(take.values(changes)).rowcount
        return [row_of(connection.execute(self._sql.get([row.id])).one())] if done == 1 else []


class _Range(NamedTuple):
    """What reads a range of an index: as many rows as its parameter ``most`` says, of a status, for one that is wanted."""

    found: sa.Select[Any]
    most: str
    status: str
    wanted: Wanted | None


class _Ranges:
    """Statements that read ranges together.

    :ivar parts: each with the parameter, the status and what is wanted of each range.
    """

    def __init__(self, ranges: Iterable[_Range]) -> None:
        self.parts = [
            (
                sa.union_all(*(sa.select(one.found.subquery()) for one in some)),
                [(one.most, one.status, one.wanted) for one in some],
            )
            for some in batches(list(ranges), MOST_RANGES)
        ]


class _Room:
    """How many more may be in hand, and be begun, of what is wanted.

    Whoever counts has locked a row of the saga's name before, so that others who count come before or after.
    """

    def __init__(self, connection: sa.Connection, tables: Tables, sql: Statements, wanted: Collection[Wanted]) -> None:
        saga = tables.saga
        self._in_hand: Counter[str] = Counter()
        self._begun: Counter[tuple[str, float]] = Counter()
        limited = [one for one in wanted if one.limit is not None or one.rate is not None]
        for name in sorted({one.name for one in limited}):
            _lock(connection, tables.limited, name)
        for name in {one.name for one in limited if one.limit is not None}:
            # Only what somebody owns has a lease that lasts.
            held = sa.select(sa.func.count()).where(saga.c.name == name, saga.c.lease_until > sql.now())
            self._in_hand[name] = connection.execute(held).scalar_one()
        for name, seconds in {(one.name, rate_window(one.rate)[1]) for one in limited if one.rate is not None}:
            begun = sa.select(sa.func.count()).where(saga.c.name == name, saga.c.started > sql.now() - seconds)
            self._begun[name, seconds] = connection.execute(begun).scalar_one()

    def left(self, one: Wanted | None, status: str) -> int:
        """Return how many more of this status there may be of what is wanted."""
        left = rules.MOST
        if one is None:
            return left
        if one.limit is not None:
            left = one.limit - self._in_hand[one.name]
        if one.rate is not None and status == "submitted":
            most, seconds = rate_window(one.rate)
            left = min(left, most - self._begun[one.name, seconds])
        return left

    def take(self, row: Any) -> None:
        """Count one that was taken."""
        self._in_hand[row.name] += 1
        if row.started is None:
            for name, seconds in self._begun:
                self._begun[name, seconds] += name == row.name


def _lock(connection: sa.Connection, limited: sa.Table, name: str) -> None:
    """Lock the row of a name until the transaction ends; make it where there is none."""
    lock = sa.select(limited.c.name).where(limited.c.name == name).with_for_update()
    while connection.execute(lock).one_or_none() is None:
        try:
            with connection.begin_nested():
                connection.execute(limited.insert().values(name=name))
        except exc.IntegrityError:  # another has made it meanwhile
            continue
        return
