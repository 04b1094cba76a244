"""What is stored in PostgreSQL: the statements that create, submit and append, and their values. Nothing here is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from saga.names import LONGEST
from saga.storage import rules
from saga.storage.claims import WORTH
from saga.storage.columns import EXECUTION, tags_text
from saga.storage.postgres_tables import NOW, OPEN
from saga.storage.records import Append, Entry, Lease, NewExecution, Told

__all__ = ["PLAIN", "Change", "Writing", "change_of", "submitted", "together"]

ENTRIES: Final = "unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::float8[]) AS entry"
ENTRY: Final = "(%s::bigint, %s::text, %s::text, %s::text, %s::float8)"

MOST_ROWS: Final = 16
"""Entries of an append, up to which there is a statement for each number of them."""

HOLDS: Final = "id = %s AND owner = %s AND epoch = %s"


class Change(NamedTuple):
    """What an append changes of the row, or that it makes it.

    :ivar status: the status.
    :ivar ended: to one after which nobody goes on with it.
    :ivar rests: or reads its messages, for now.
    :ivar release: the lease is given back.
    :ivar told: what else the row tells.
    :ivar defined: by which definition, too.
    :ivar creates: it makes the row.
    :ivar tagged: with tags.
    """

    status: bool = False
    ended: bool = False
    rests: bool = False
    release: bool = False
    told: bool = False
    defined: bool = False
    creates: bool = False
    tagged: bool = False


PLAIN: Final = Change()
_TOLD: Final = ("step", "reason", "cause", "keep", "version", "fingerprint")


def change_of(
    lease: Lease, status: str | None, release: bool, told: Told | None, taken: Sequence[int]
) -> tuple[Change, tuple[Any, ...]]:
    """Return what an append changes of the row, and the values that its statement takes before those of the entries."""
    if status is None and not release and told is None:
        return PLAIN, lease
    ends, rests, defined = status in rules.ENDED, status in rules.RESTING, told is not None and told.definition is not None
    change = Change(status is not None, ends, rests, release, told is not None, defined)
    news = () if told is None else (*_told(told), *(told.definition or ()))
    return change, (*((status,) if change.status else ()), *news, *lease, *([list(taken)] if change.rests else ()))


def _told(told: Told) -> tuple[str | None, str | None, str | None, float | None]:
    """Return the values of what a row tells. A class's name may be long, and stands in an index."""
    return told.step, told.reason, None if told.cause is None else told.cause[:LONGEST], told.keep or None


class Writing:
    """The statements that write journals.

    :param names: the tables', quoted.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._into = f"INSERT INTO {names['journal']} (saga_id, seq, kind, step, payload, at)"
        self._known: dict[tuple[Change, int], bytes] = {}
        # The inbox holds nothing but these. Who waited for the row looks into the inbox as it was before, and does not see what
        # came meanwhile; but the row has become another then, as posting writes to it.
        saga = names["saga"]
        self._unchanged = f"s.ctid = (SELECT o.ctid FROM {saga} o WHERE o.id = s.id)"
        self._read = (
            f" AND NOT EXISTS (SELECT 1 FROM {names['inbox']} i WHERE i.saga_id = s.id AND i.id <> ALL(%s::bigint[]))"
            f" AND {self._unchanged}"
        )
        self._of_many()
        self._submissions()

    def adding(self, change: Change, entries: Sequence[Entry], taken: Sequence[int] = ()) -> tuple[bytes, tuple[Any, ...]]:
        """Return the statement that adds entries, and their values, which are the last it takes.

        Before them it takes what :func:`change_of` says; or for ``creates`` an execution's columns, see :meth:`_fence`, and for
        ``tagged`` its tags' keys and values. It gives a row where it has written.
        """
        if 0 < len(entries) <= MOST_ROWS and not taken:
            values = [value for one in entries for value in (one.seq, one.kind, one.step, one.payload, one.at)]
            return self._adding(change, len(entries)), tuple(values)
        messages = () if change.creates else (list(taken),)
        return self._adding(change, 0), (*messages, *_columns(entries))

    def each(self, appends: Sequence[Append]) -> tuple[bytes, tuple[Any, ...]]:
        """Return the statement that appends to different executions, and its values.

        Locked rows are passed over where there are several. It gives the ids of those written to; of one alone it may write
        rows and give none.
        """
        if len(appends) != 1 or len(appends[0].entries) > MOST_ROWS:
            return self.append_together, together(appends)
        lease, entries, status, release, taken, told = appends[0]
        change, changed = change_of(lease, status, release, told, taken)
        statement, rest = self.adding(change, entries)
        return statement, (*changed, *rest)

    def _adding(self, change: Change, entries: int) -> bytes:
        """Return the statement for so many entries, given one after the other, or by column (0), which is slower."""
        statement = self._known.get((change, entries))
        if statement is None:
            parts = [f"fence AS ({self._fence(change)})"]
            if change.tagged:
                tags = "unnest(%s::text[], %s::text[]) AS tag"
                parts.append(
                    f"tagged AS (INSERT INTO {self._names['tags']} (saga_id, created, key, value)"
                    f" SELECT fence.id, {NOW}, tag.* FROM fence, {tags})"
                )
            if entries:
                rows = ", ".join([ENTRY] * entries)
                last = f"{self._into} SELECT fence.id, entry.* FROM fence, (VALUES {rows}) AS entry"
            else:
                if not change.creates:
                    parts.append(
                        f"read AS (DELETE FROM {self._names['inbox']} i USING fence"
                        " WHERE i.saga_id = fence.id AND i.id = ANY(%s::bigint[]))"
                    )
                parts.append(f"written AS ({self._into} SELECT fence.id, entry.* FROM fence, {ENTRIES})")
                last = "SELECT id FROM fence"
            statement = self._known[change, entries] = f"WITH {', '.join(parts)} {last}".encode()
        return statement

    def _fence(self, change: Change) -> str:
        """Return what gives the id of the execution to write to, or nothing where there is none."""
        saga = self._names["saga"]
        if change.creates:
            # Keys, the status, the owner, the lease's seconds twice; step, tags, priority and the exclusive key; then the name
            # and the version of which nothing may be held.
            return (
                f"INSERT INTO {saga} (id, name, version, fingerprint, digest, status, owner, epoch, lease_until, due,"
                " recoveries, created, updated, step, tags, priority, exclusive, opens, started, progressed)"
                f" SELECT %s, %s, %s, %s, %s, %s, %s, 1, {NOW} + %s::float8, {NOW} + %s::float8,"
                f" 0, {NOW}, {NOW}, %s, %s, %s::bigint, %s, {NOW}, {NOW}, {NOW} WHERE NOT EXISTS (SELECT 1"
                f" FROM {self._names['hold']} h WHERE h.name = %s AND h.version IN ('', %s))"
                " ON CONFLICT (id) DO NOTHING RETURNING id"
            )
        if change == PLAIN:
            return f"SELECT id FROM {saga} WHERE {HOLDS} FOR NO KEY UPDATE"
        columns = [f"updated = {NOW}, progressed = {NOW}"]
        if change.status:
            columns.append("status = %s")
        if change.ended:
            columns.append("holds = NULL")
        if change.told:
            columns.append(f"step = %s, reason = %s, cause = %s, keep_until = coalesce({NOW} + %s::float8, keep_until)")
        if change.defined:
            columns.append("version = %s, fingerprint = %s")
        if change.release:
            columns.append(f"owner = NULL, lease_until = 0, due = {NOW}")
        return f"UPDATE {saga} s SET {', '.join(columns)} WHERE {HOLDS}{self._read if change.rests else ''} RETURNING s.id"

    def _of_many(self) -> None:
        saga, inbox = self._names["saga"], self._names["inbox"]
        #: Of many executions, with values from :func:`together`. Locked rows are passed over: their writers wait each by
        #: itself. Gives the ids of those written to.
        self.append_together = (
            "WITH held AS MATERIALIZED (SELECT s.id, lease.status, lease.ends, lease.told, lease.step, lease.reason,"
            " lease.cause, lease.keep, lease.version, lease.fingerprint FROM json_to_recordset(%s::json)"
            " AS lease (id text, owner text, epoch bigint, status text, ends boolean, told boolean, step text, reason text,"
            f" cause text, keep float8, version text, fingerprint text) JOIN {saga} s"
            " ON s.id = lease.id AND s.owner = lease.owner AND s.epoch = lease.epoch"
            " WHERE coalesce(lease.status, '') NOT IN ('completed', 'compensated', 'paused')"
            f" OR (NOT EXISTS (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id) AND {self._unchanged})"
            " FOR NO KEY UPDATE OF s SKIP LOCKED),"
            f" changed AS (UPDATE {saga} s SET status = coalesce(held.status, s.status), updated = {NOW}, progressed = {NOW},"
            f" holds = CASE WHEN coalesce(held.{OPEN}, true) THEN s.holds END,"
            " step = CASE WHEN held.told THEN held.step ELSE s.step END,"
            " reason = CASE WHEN held.told THEN held.reason ELSE s.reason END,"
            " cause = CASE WHEN held.told THEN held.cause ELSE s.cause END,"
            f" keep_until = coalesce({NOW} + held.keep, keep_until),"
            " version = coalesce(held.version, s.version), fingerprint = coalesce(held.fingerprint, s.fingerprint),"
            " owner = CASE WHEN ends THEN NULL ELSE owner END, lease_until = CASE WHEN ends THEN 0 ELSE lease_until END,"
            f" due = CASE WHEN ends THEN {NOW} ELSE due END FROM held"
            " WHERE s.id = held.id AND (held.ends OR held.told OR held.status IS NOT NULL)),"
            f" written AS ({self._into} SELECT entry.* FROM json_to_recordset(%s::json)"
            " AS entry (id text, seq bigint, kind text, step text, payload text, at float8) JOIN held ON held.id = entry.id)"
            " SELECT id FROM held"
        ).encode()

    def _submissions(self) -> None:
        #: Of many executions, with values from :func:`submitted`: those, their entries, and their tags. Gives the ids of those
        #: that were stored. What comes first was created before the others, by a microsecond for each, which storing takes at
        #: least; and all who submit the same ids meet at them in the same order.
        created = f"{NOW} + new.number * 1e-6"
        opens = f"CASE WHEN new.at IS NULL THEN {created} ELSE greatest(new.at, 0) END"
        stored = [column for column in EXECUTION if column not in ("owner", "reason", "cause", "started")]
        values = {column: f"new.{column}" for column in stored} | {
            "epoch": "0",
            "lease_until": "0",
            "due": f"{opens} - {WORTH} * new.priority",
            "recoveries": "0",
            "created": created,
            "updated": created,
            "opens": opens,
            "progressed": created,
            "keep_until": "0",
            "called_until": f"{created} + new.called",
        }
        self.submit = (
            f"WITH added AS (INSERT INTO {self._names['saga']} ({', '.join(stored)})"
            f" SELECT {', '.join(values[column] for column in stored)} FROM json_to_recordset(%s::json)"
            " AS new (id text, number bigint, name text, version text, fingerprint text, digest text, status text, step text,"
            " tags text, priority bigint, exclusive text, at float8, called float8) ORDER BY new.id"
            " ON CONFLICT (id) DO NOTHING RETURNING id, created),"
            f" written AS ({self._into} SELECT entry.* FROM json_to_recordset(%s::json) AS entry"
            " (id text, seq bigint, kind text, step text, payload text, at float8) JOIN added ON added.id = entry.id),"
            f" tagged AS (INSERT INTO {self._names['tags']} (saga_id, key, value, created) SELECT tag.*, added.created"
            " FROM json_to_recordset(%s::json) AS tag (id text, key text, value text) JOIN added ON added.id = tag.id)"
            " SELECT id FROM added"
        ).encode()


def submitted(new: Sequence[tuple[NewExecution, Sequence[Entry]]]) -> tuple[str, str, str]:
    """Return the values of :attr:`Writing.submit`."""
    executions = [
        {**one._asdict(), "id": one.saga_id, "number": number, "status": str(one.status), "tags": tags_text(one.tags)}
        for number, (one, _) in enumerate(new)
    ]
    entries = [{"id": one.saga_id, **entry._asdict()} for one, those in new for entry in those]
    tags = [{"id": one.saga_id, "key": key, "value": value} for one, _ in new for key, value in one.tags.items()]
    return _sent(executions), _sent(entries), _sent(tags)


def together(appends: Sequence[Append]) -> tuple[str, str]:
    """Return the values of :attr:`Writing.append_together`: leases and entries.

    They are JSON, which psycopg and the server read in a fraction of the time that arrays take.
    """
    leases = []
    for one in appends:
        lease = {**one.lease._asdict(), "id": one.lease.saga_id, "status": one.status, "ends": one.release}
        if one.told is not None:
            lease |= {"told": True} | dict(zip(_TOLD, (*_told(one.told), *(one.told.definition or ())), strict=False))
        leases.append(lease)
    entries = [{"id": one.lease.saga_id, **entry._asdict()} for one in appends for entry in one.entries]
    return _sent(leases), _sent(entries)


def _sent(records: Sequence[Mapping[str, Any]]) -> str:
    # As they are: what cannot be sent alone, such as lone surrogates, cannot be sent so either.
    return json.dumps(records, ensure_ascii=False)


def _columns(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    """Return the entries' columns, one list for each."""
    return (
        [entry.seq for entry in entries],
        [entry.kind for entry in entries],
        [entry.step for entry in entries],
        [entry.payload for entry in entries],
        [entry.at for entry in entries],
    )
