"""What is claimed in an SQLite file: whose turn it is, as one transaction finds it. No file is opened here.

Executions of one status and one definition are a kind: whoever claims can run all of them, or none. What is due of a kind is
one range of an index, so that nobody walks over what is not for him.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from saga.storage.claims import fits_one, holds_back, one_of_each_key, rate_window
from saga.storage.columns import row_of
from saga.storage.records import StoredExecution, Wanted
from saga.storage.sqlite_sql import COLUMNS, MOST_ROWS, batches
from saga.storage.sqlite_tables import CALLED, CLAIMABLE, NOT_ENDED

__all__ = ["BEGUN", "FREE", "FREE_TO_RUN", "HELD", "IN_HAND", "KINDS", "Claim", "claiming", "due"]

# One that has an exclusive key goes on where it has it already, or where nobody has and none before it is to have it. What is
# not to be begun is not before it: it is not open yet, or held; but that keeps back what is held with it.
_TURN: Final = (
    "(exclusive IS NULL OR holds IS NOT NULL"
    " OR NOT EXISTS (SELECT 1 FROM saga AS other WHERE other.holds = saga.exclusive)"
    " AND NOT EXISTS (SELECT 1 FROM saga AS other INDEXED BY saga_exclusive"
    f" WHERE other.exclusive = saga.exclusive AND other.{CLAIMABLE} AND other.opens <= min(saga.opens, {{now}})"
    " AND (other.opens < saga.opens OR other.id < saga.id)"
    " AND (other.status <> 'submitted' OR (saga.status, saga.name, saga.version) = (other.status, other.name, other.version)"
    " OR NOT EXISTS (SELECT 1 FROM saga_hold AS hold WHERE hold.name = other.name AND hold.version IN ('', other.version)))))"
)

_FOUND: Final = f"number, {COLUMNS}"

FREE: Final = f"SELECT {_FOUND} FROM saga WHERE id = ?1 AND lease_until <= ?2 AND (?3 OR status <> 'submitted')"
"""Find one execution, if its lease has run out and, where nothing else will do, somebody has begun it."""

FREE_TO_RUN: Final = f"{FREE} AND (opens <= ?2 OR status <> 'submitted') AND {_TURN.format(now='?2')}"
"""Find one execution, if it is its turn, too."""

KINDS: Final = f"SELECT DISTINCT status, name, version, fingerprint FROM saga_count WHERE {CLAIMABLE}"
"""Read what kinds there are of what can be claimed."""

# Without statistics, SQLite would choose others than these indexes.
IN_HAND: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM saga INDEXED BY saga_in_hand"
    " WHERE owner IS NOT NULL AND name = ? AND lease_until > ? LIMIT ?)"
)
"""Count executions of one saga that somebody has in hand, up to so many."""

BEGUN: Final = "SELECT count(*) FROM (SELECT 1 FROM saga INDEXED BY saga_started WHERE name = ? AND started > ? LIMIT ?)"
"""Count executions of one saga that were begun since then, up to so many."""

HELD: Final = "SELECT name, version FROM saga_hold"
"""Read of what nothing is to be begun."""

MOST_KINDS: Final = 32
"""In one statement."""


@lru_cache(2 * MOST_KINDS)
def due(kinds: int, called: bool = False) -> str:
    """Return the statement that finds what is due of so many kinds, oldest due first: some of each.

    :param called: of what was called for, and nobody has begun.
    """
    there = f"saga_called WHERE {CALLED}" if called else f"saga_due WHERE {CLAIMABLE}"
    one = (
        f"SELECT * FROM (SELECT {_FOUND} FROM saga INDEXED BY {there}"
        " AND status = ? AND name = ? AND version = ? AND fingerprint = ? AND due <= ? AND lease_until <= ? AND opens <= ?"
        f" AND coalesce(called_until, 0) <= ? AND {_TURN.format(now='?')} ORDER BY due LIMIT ?)"
    )
    return " UNION ALL ".join([one] * kinds)


@lru_cache(2 * MOST_ROWS)
def claiming(executions: int, begins: bool) -> str:
    """Return the statement that gives so many executions, by their numbers, an owner and the next epoch.

    :param begins: whether any of them begins: what has begun is in no index of this, which then is not written to.
    """
    begun = f", started = coalesce(started, ?), holds = CASE WHEN {NOT_ENDED} THEN exclusive END" if begins else ""
    return (
        "UPDATE saga SET owner = ?, epoch = epoch + 1, lease_until = ?, due = ?, recoveries = recoveries + ?, updated = ?"
        f"{begun} WHERE number IN ({', '.join('?' * executions)})"
    )


class _Kind(NamedTuple):
    status: str
    name: str
    version: str
    fingerprint: str


class _Found(NamedTuple):
    """One that is free, and its number."""

    number: int
    row: StoredExecution

    @property
    def kind(self) -> _Kind:
        return _Kind(self.row.status, self.row.name, self.row.version, self.row.fingerprint)


class Claim:
    """One claim, in a transaction that writes: nobody else claims meanwhile.

    :param now: the store's time.
    :param but: ids of what is left out.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        now: float,
        owner: str,
        lease_seconds: float,
        wanted: Collection[Wanted] | None,
        but: Collection[str],
    ) -> None:
        self._connection = connection
        self._now = now
        self._owner = owner
        self._until = now + lease_seconds
        self._wanted = wanted
        self._but = but
        self._held: set[tuple[str, str]] | None = None
        self._in_hand: dict[tuple[str, int], int] = {}
        self._begun: dict[tuple[str, float], int] = {}

    def one(self, saga_id: str, submitted: bool) -> list[StoredExecution]:
        """Take one execution: where something is wanted, only if it fits and it is its turn."""
        to_run = self._wanted is not None
        found = self._find(FREE_TO_RUN if to_run else FREE, (saga_id, self._now, submitted))
        return self._take([one for one in found if not to_run or self._may_run(one.kind)], counts=False, to_run=to_run)

    def some(self, submitted: bool, limit: int) -> list[StoredExecution]:
        """Take up to so many that are due, the oldest due first."""
        names = None if self._wanted is None else {one.name for one in self._wanted}
        kinds = [
            kind
            for kind in map(_Kind._make, self._connection.execute(KINDS))
            if (names is None or kind.name in names) and self._may_run(kind)
        ]
        found: list[_Found] = []
        for called in (False, True):
            those = [kind for kind in kinds if (not submitted and kind.status == "submitted") is called]
            for first in range(0, len(those), MOST_KINDS):
                some = those[first : first + MOST_KINDS]
                values = [
                    value for kind in some for value in (*kind, self._now, self._now, *self._times(kind), self._now, limit)
                ]
                found += self._find(due(len(some), called), values)
        found.sort(key=lambda one: (one.row.due, one.number))
        if self._held:
            found = one_of_each_key(found, lambda one: one.row.exclusive)
        return self._take(self._within_limits(found, limit), counts=True, to_run=True)

    def _times(self, kind: _Kind) -> tuple[float, float]:
        """Return what ``opens`` and ``called_until`` are at most: what is not to be begun does not wait for these."""
        return (self._now, self._now) if kind.status == "submitted" else (math.inf, math.inf)

    def _within_limits(self, found: list[_Found], limit: int) -> list[_Found]:
        if not any(one.limit is not None or one.rate is not None for one in self._wanted or ()):
            return found[:limit]
        taken: list[_Found] = []
        for one in found:
            if len(taken) < limit and self._may_run(one.kind):
                taken.append(one)
                self._count(one.row)
        return taken

    def _find(self, statement: str, values: Sequence[Any]) -> list[_Found]:
        found = [_Found(number, row_of(row)) for number, *row in self._connection.execute(statement, values)]
        return [one for one in found if one.row.saga_id not in self._but] if self._but else found

    def _may_run(self, kind: _Kind) -> bool:
        """Whether something that is wanted fits executions of a kind, and may have another."""
        one = None if self._wanted is None else fits_one(kind, self._wanted)
        if self._wanted is not None and one is None:
            return False
        begins = kind.status == "submitted"
        if begins:
            if self._held is None:
                self._held = set(self._connection.execute(HELD))
            if self._held and holds_back(self._held, kind.name, None if one is None else one.version):
                return False
        if one is None:
            return True
        if one.limit is not None and self._now_in_hand(kind.name, one.limit) >= one.limit:
            return False
        return not begins or one.rate is None or self._now_begun(kind.name, one.rate) < rate_window(one.rate)[0]

    def _now_in_hand(self, name: str, limit: int) -> int:
        if (name, limit) not in self._in_hand:
            self._in_hand[name, limit] = self._connection.execute(IN_HAND, (name, self._now, limit)).fetchone()[0]
        return self._in_hand[name, limit]

    def _now_begun(self, name: str, rate: float) -> int:
        if (name, rate) not in self._begun:
            most, seconds = rate_window(rate)
            self._begun[name, rate] = self._connection.execute(BEGUN, (name, self._now - seconds, most)).fetchone()[0]
        return self._begun[name, rate]

    def _count(self, taken: StoredExecution) -> None:
        for name, limit in self._in_hand:
            self._in_hand[name, limit] += name == taken.name
        if taken.started is None:
            for name, rate in self._begun:
                self._begun[name, rate] += name == taken.name

    def _take(self, found: Sequence[_Found], *, counts: bool, to_run: bool) -> list[StoredExecution]:
        """Give them to the new owner. Return their rows as they are then."""
        begins = to_run and any(row.started is None or row.exclusive is not None for _, row in found)
        values = (self._owner, self._until, self._until, counts, self._now, *((self._now,) if begins else ()))
        for some in batches([number for number, _ in found]):
            self._connection.execute(claiming(len(some), begins), (*values, *some))
        return [
            row._replace(
                owner=self._owner,
                epoch=row.epoch + 1,
                lease_until=self._until,
                due=self._until,
                recoveries=row.recoveries + counts,
                updated=self._now,
                started=self._now if to_run and row.started is None else row.started,
            )
            for _, row in found
        ]
