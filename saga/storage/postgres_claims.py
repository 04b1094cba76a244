"""Whose turn it is, in PostgreSQL: the statements of claims, and the transaction of one that counts.

What may be claimed stands in ranges of an index, each in order of due: by a definition's fingerprint or a version that it
fits, and apart by whether it is begun already. So nothing is walked over that nobody asks for.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import psycopg

from saga.storage.claims import fits_one, one_of_each_key, rate_window, shares
from saga.storage.columns import EXECUTION, row_of
from saga.storage.postgres_tables import CLAIMABLE, NEW, NOW, OPEN, STAGE
from saga.storage.records import StoredExecution, Wanted

__all__ = ["Claiming", "claimed", "claimed_in_turn", "is_simple", "ranges_of"]


class _Range(NamedTuple):
    """Where there is something to claim of a stage (:data:`~saga.storage.postgres_tables.STAGE`): what a :class:`Share` says.

    :ivar carried: the version of the definition that asks for it; where that is held, nothing is begun in the range.
    """

    name: str
    stage: int
    carried: str | None
    fingerprint: str | None = None
    version: str | None = None
    but: Sequence[str] = ()


class _Kinds(NamedTuple):
    """Which kinds of ranges there are, as a statement has only what they need."""

    fingerprints: bool
    versions: bool
    every: bool
    narrow: bool

    @classmethod
    def of(cls, ranges: Sequence[_Range]) -> _Kinds:
        each = [(one.fingerprint is not None, one.version is not None) for one in ranges]
        return cls(
            any(one[0] for one in each),
            (False, True) in each,
            (False, False) in each,
            (True, True) in each or any(one.but for one in ranges),
        )


_ALL: Final = _Kinds(fingerprints=False, versions=False, every=True, narrow=False)


class Claiming:
    """The statements of claims.

    :param names: the tables', quoted.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._saga, self._hold = names["saga"], names["hold"]
        self._known: dict[tuple[_Kinds, bool, int, bool], bytes] = {}
        self._row = ", ".join(f"s.{column}" for column in EXECUTION)
        saga, hold, row = self._saga, self._hold, self._row
        take = (
            f"UPDATE {saga} s SET owner = %s, epoch = s.epoch + 1, lease_until = {NOW} + %s::float8, due = {NOW} + %s::float8,"
            f" recoveries = s.recoveries + %s::int, updated = {NOW}"
        )
        self._begin = f"{take}, started = coalesce(s.started, {NOW}), holds = CASE WHEN s.{OPEN} THEN s.exclusive END"
        # Nobody has its key, and nobody that is still to have it was stored before. What is not to be begun is not before it:
        # it is not open yet, or held; but that keeps back what is held with it.
        self._turn = (
            f"s.lease_until <= {NOW} AND (s.opens <= {NOW} OR NOT s.{NEW}) AND (s.exclusive IS NULL OR s.holds IS NOT NULL OR"
            f" ((SELECT o.id FROM {saga} o WHERE o.holds = s.exclusive LIMIT 1) IS NULL AND (SELECT o.id FROM {saga} o"
            f" WHERE o.exclusive = s.exclusive AND o.{CLAIMABLE} AND (o.opens, o.id) < (s.opens, s.id) AND o.opens <= {NOW}"
            f" AND (NOT o.{NEW} OR (o.status, o.name, o.version) = (s.status, s.name, s.version) OR NOT EXISTS"
            f" (SELECT 1 FROM {hold} h WHERE h.name = o.name AND h.version IN ('', o.version))) LIMIT 1) IS NULL))"
        )
        #: One that may be taken, and taking some. Each gives the rows.
        self.candidate = (
            f"SELECT {row} FROM {saga} s WHERE s.id = %s AND (%s OR NOT s.{NEW}) AND {self._turn} FOR NO KEY UPDATE".encode()
        )
        self.take = f"{self._begin} WHERE s.id = ANY(%s::text[]) RETURNING {row}".encode()
        #: To act on it, whoever's turn it is.
        self.act = f"{take} WHERE s.id = %s AND (%s OR NOT s.{NEW}) AND s.lease_until <= {NOW} RETURNING {row}".encode()
        # By the table itself, as some may find it by the search path, and others by its schema.
        self.lock = (
            f"SELECT pg_advisory_xact_lock(hashtextextended(name, '{saga}'::regclass::oid::bigint))"
            " FROM unnest(%s::text[]) AS name"
        ).encode()
        #: Of each definition how many of its name are in hand, how many were begun, and whether it is held.
        self.standing = (
            f"SELECT (SELECT count(*) FROM {saga} s WHERE asked.limited AND s.name = asked.name AND s.owner IS NOT NULL"
            f" AND s.lease_until > {NOW}),"
            f" (SELECT count(*) FROM {saga} s WHERE s.name = asked.name AND s.started > {NOW} - asked.seconds),"
            f" EXISTS (SELECT 1 FROM {hold} h WHERE h.name = asked.name AND h.version IN ('', asked.carried))"
            " FROM json_to_recordset(%s::json) AS asked (number int, name text, carried text, limited boolean, seconds float8)"
            " ORDER BY number"
        ).encode()

    def claiming(
        self, wanted: Collection[Wanted] | None, submitted: bool, limit: int, but: Collection[str]
    ) -> tuple[bytes, tuple[Any, ...]]:
        """Return the statement that claims what these fit, but for these ids, and its first values.

        It takes last the owner, the lease's seconds twice, and by how much to count; and gives rows that begin with when they
        had been due.
        """
        if wanted is None:
            return self._statement(_ALL, limit, named=False, claims=True), (_stages(submitted), list(but), limit)
        kinds, sent = _asked(tuple(wanted), submitted)
        return self._statement(kinds, limit, named=True, claims=True), (sent, list(but), limit)

    def candidates(self, ranges: Sequence[_Range], limit: int) -> tuple[bytes, tuple[Any, ...]]:
        """Return the statement that locks and gives what may be taken, at least so many of each range, and its values."""
        return self._statement(_Kinds.of(ranges), limit, named=True, claims=False), (_sent(ranges),)

    def _statement(self, kinds: _Kinds, limit: int, *, named: bool, claims: bool) -> bytes:
        # Written out, it lets the server keep its plan, as no other is better for a limit that it is told. So there are few.
        most = 1 << (limit - 1).bit_length()
        statement = self._known.get((kinds, named, most, claims))
        if statement is None:
            found = " UNION ALL ".join(self._found(kinds, "s.id, s.due, s.exclusive" if claims else self._row, most))
            parts = [*self._asked(kinds, named), f"found AS ({found})"]
            last = "SELECT * FROM found"
            if claims:
                # As one_of_each_key does.
                before = "SELECT o.id FROM found o WHERE o.exclusive = found.exclusive ORDER BY o.due, o.id LIMIT 1"
                parts.append(
                    f"picked AS MATERIALIZED ({last} WHERE id <> ALL(%s::text[])"
                    f" AND (exclusive IS NULL OR id = ({before})) ORDER BY due LIMIT %s)"
                )
                last = (
                    f"{self._begin} WHERE s.id = ANY(ARRAY(SELECT id FROM picked))"
                    f" RETURNING (SELECT due FROM picked WHERE picked.id = s.id), {self._row}"
                )
            statement = self._known[kinds, named, most, claims] = f"WITH RECURSIVE {', '.join(parts)} {last}".encode()
        return statement

    def _asked(self, kinds: _Kinds, named: bool) -> list[str]:
        """Return what gives the ranges: ``allowed``, and of every fingerprint of a name ``every``."""

        def first_of(column: str, condition: str = "") -> str:
            where = f"{condition}s.{CLAIMABLE}"
            return f"(SELECT s.{column} FROM {self._saga} s WHERE {where} ORDER BY s.{column} LIMIT 1) AS first"

        # Every name, or every fingerprint of a name: the first, and after each the next. Few steps, however many rows.
        parts = [
            "asked AS MATERIALIZED (SELECT * FROM json_to_recordset(%s::json) AS asked (name text, stage int, carried text,"
            " fingerprint text, version text, but text[]))"
        ]
        if not named:
            parts = [
                f"names AS (SELECT first.name FROM {first_of('name')} UNION ALL SELECT first.name FROM names"
                f" CROSS JOIN LATERAL {first_of('name', 's.name > names.name AND ')})",
                "asked AS MATERIALIZED (SELECT name, stage, NULL::text AS carried, NULL::text AS fingerprint,"
                " NULL::text AS version FROM names CROSS JOIN unnest(%s::int[]) AS stage)",
            ]
        parts.append(
            "allowed AS MATERIALIZED (SELECT * FROM asked WHERE stage = 0 OR NOT EXISTS"
            f" (SELECT 1 FROM {self._hold} h WHERE h.name = asked.name AND h.version IN ('', asked.carried)))"
        )
        if kinds.every:
            columns = "known.name, known.stage, first.fingerprint"
            of_name = "s.name = known.name AND "
            parts.append(
                f"every AS (SELECT {columns} FROM (SELECT * FROM allowed WHERE fingerprint IS NULL AND version IS NULL)"
                f" AS known CROSS JOIN LATERAL {first_of('fingerprint', of_name)}"
                f" UNION ALL SELECT {columns} FROM every AS known"
                f" CROSS JOIN LATERAL {first_of('fingerprint', f'{of_name}s.fingerprint > known.fingerprint AND ')})"
            )
        return parts

    def _found(self, kinds: _Kinds, columns: str, most: int) -> Iterator[str]:
        """Yield what finds the oldest in each kind of ranges."""
        exact = " AND (range.version IS NULL OR s.version = range.version) AND s.version <> ALL(range.but)"
        for is_there, ranges, key, narrowed in (
            (kinds.fingerprints, "(SELECT * FROM allowed WHERE fingerprint IS NOT NULL)", "fingerprint", exact),
            (kinds.every, "every", "fingerprint", ""),
            (
                kinds.versions,
                "(SELECT * FROM allowed WHERE fingerprint IS NULL AND version IS NOT NULL)",
                "version",
                " AND s.fingerprint <> ALL(range.but)",
            ),
        ):
            if is_there:
                more = narrowed if kinds.narrow else ""
                yield (
                    f"SELECT one.* FROM {ranges} AS range CROSS JOIN LATERAL (SELECT {columns} FROM {self._saga} s"
                    f" WHERE s.name = range.name AND s.{key} = range.{key} AND ({STAGE}) = range.stage AND s.{CLAIMABLE}"
                    f" AND s.due <= {NOW} AND (range.stage <> 1 OR s.called_until <= {NOW}) AND {self._turn}{more}"
                    f" ORDER BY s.due LIMIT {most}"
                    " FOR NO KEY UPDATE SKIP LOCKED) AS one"
                )


def is_simple(wanted: Collection[Wanted]) -> bool:
    """Whether one statement can claim for these: nothing is to be counted, and no two fit the same executions."""
    if any(one.limit is not None or one.rate is not None for one in wanted):
        return False
    return len({one.name for one in wanted}) == len(wanted)


def _stages(submitted: bool) -> list[int]:
    """Return the stages that are asked for."""
    return [0, 1, 2] if submitted else [0, 1]


@lru_cache(64)  # as a worker asks for the same again and again
def _asked(wanted: tuple[Wanted, ...], submitted: bool) -> tuple[_Kinds, str]:
    ranges = ranges_of(wanted, submitted)
    return _Kinds.of(ranges), _sent(ranges)


def ranges_of(
    wanted: Sequence[Wanted], submitted: bool, standing: Mapping[Wanted, _Standing] = MappingProxyType({})
) -> list[_Range]:
    """Return where there is what definitions are to run. :param standing: those that are closed have no ranges."""
    return [
        _Range(one.name, stage, one.version, fingerprint, version, but)
        for one, fingerprint, version, but in shares(wanted)
        for stage in _stages(submitted)
        if one not in standing or not standing[one].closed(stage > 0)
    ]


def _sent(ranges: Sequence[_Range]) -> str:
    return json.dumps([one._asdict() for one in ranges])


def claimed(connection: psycopg.Connection[tuple[Any, ...]], statement: bytes, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Claim by one statement. Return the rows, oldest due first."""
    while True:
        with suppress(psycopg.errors.UniqueViolation):  # another has just got a key, as can be seen now
            return [row[1:] for row in sorted(connection.execute(statement, values, prepare=True), key=lambda row: row[0])]


class _Standing(NamedTuple):
    """How far a definition's name is from what it may have: so many more, and so many more to begin."""

    in_hand: float
    begun: float
    held: bool

    def closed(self, new: bool) -> bool:
        return self.in_hand <= 0 or (new and (self.held or self.begun <= 0))


def claimed_in_turn(
    connection: psycopg.Connection[tuple[Any, ...]],
    sql: Claiming,
    wanted: Sequence[Wanted],
    take: tuple[Any, ...],
    *,
    submitted: bool,
    limit: int,
    saga_id: str | None,
    but: Collection[str],
) -> list[tuple[Any, ...]]:
    """Claim what these fit and may have, but for these ids, in a transaction. Return the rows, oldest due first."""
    while True:
        with suppress(psycopg.errors.UniqueViolation), connection.transaction():
            return _claimed_in_turn(connection, sql, wanted, take, submitted=submitted, limit=limit, saga_id=saga_id, but=but)


def _claimed_in_turn(
    connection: psycopg.Connection[tuple[Any, ...]],
    sql: Claiming,
    wanted: Sequence[Wanted],
    take: tuple[Any, ...],
    *,
    submitted: bool,
    limit: int,
    saga_id: str | None,
    but: Collection[str],
) -> list[tuple[Any, ...]]:
    counted = sorted({one.name for one in wanted if one.limit is not None or one.rate is not None})
    if counted:  # whoever counts them sees what was claimed before
        connection.execute(sql.lock, (counted,), prepare=True)
    standing = _standing(connection, sql, wanted)
    if saga_id is not None:
        found = connection.execute(sql.candidate, (saga_id, submitted), prepare=True).fetchall()
    elif asked := ranges_of(wanted, submitted, dict(zip(wanted, standing, strict=True))):
        most = min(limit, max(int(min(one.in_hand, limit)) for one in standing))
        found = connection.execute(*sql.candidates(asked, most), prepare=True).fetchall()
    else:
        found = []
    rows_found = sorted({row[0]: row_of(row) for row in found if row[0] not in but}.values(), key=lambda row: row.due)
    chosen = _chosen(one_of_each_key(rows_found, lambda row: row.exclusive), wanted, standing, limit)
    if not chosen:
        return []
    rows = {row[0]: row for row in connection.execute(sql.take, (*take, chosen), prepare=True)}
    return [rows[one] for one in chosen]


def _standing(connection: psycopg.Connection[tuple[Any, ...]], sql: Claiming, wanted: Sequence[Wanted]) -> list[_Standing]:
    windows = [(math.inf, None) if one.rate is None else rate_window(one.rate) for one in wanted]
    asked = [
        {"number": number, "name": one.name, "carried": one.version, "limited": one.limit is not None, "seconds": seconds}
        for number, (one, (_, seconds)) in enumerate(zip(wanted, windows, strict=True))
    ]
    rows = connection.execute(sql.standing, (json.dumps(asked),), prepare=True).fetchall()
    return [
        _Standing(math.inf if one.limit is None else one.limit - in_hand, most - begun, held)
        for one, (most, _), (in_hand, begun, held) in zip(wanted, windows, rows, strict=True)
    ]


def _chosen(found: Iterable[StoredExecution], wanted: Sequence[Wanted], standing: Sequence[_Standing], limit: int) -> list[str]:
    """Return the ids of those that may be taken, in their order."""
    chosen: list[str] = []
    taken: Counter[str] = Counter()
    begun: Counter[str] = Counter()
    for row in found:
        one = fits_one(row, wanted)
        if one is None or len(chosen) == limit:
            continue
        state, new = standing[wanted.index(one)], row.status == "submitted"
        left = state._replace(in_hand=state.in_hand - taken[row.name], begun=state.begun - begun[row.name])
        if not left.closed(new):
            chosen.append(row.saga_id)
            taken[row.name] += 1
            begun[row.name] += new
    return chosen
