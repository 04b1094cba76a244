"""The statements of the SQLite store that write and read executions one by one, or by their ids. Nothing here opens a file.

Nothing here decides when to write. A statement takes its values in the order of its question marks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from saga.storage import rules
from saga.storage.claims import WORTH
from saga.storage.columns import EXECUTION, WORKER
from saga.storage.records import Entry, Lease
from saga.storage.sqlite_tables import CALLED

__all__ = [
    "ADD_ENTRY",
    "ANNOUNCE",
    "CHECK_LEASE",
    "COLUMNS",
    "CREATE",
    "DELETE_MESSAGE",
    "FORGET_WORKERS",
    "GET",
    "HELD",
    "HOLD",
    "INBOX",
    "LAST_NUMBER",
    "LET_GO",
    "MOST_ROWS",
    "POST",
    "PURGE",
    "PURGEABLE",
    "RELEASE",
    "RENEW",
    "RENEW_AND_TELL",
    "RENEW_CALL",
    "SUBMIT",
    "TAG",
    "UNTAG",
    "WITHDRAW",
    "WORKERS",
    "batches",
    "changing",
    "insert_entries",
    "inserting",
    "journals",
    "make_due",
    "rows",
    "rows_of",
    "with_mail",
]

T = TypeVar("T", int, str)

# -- one execution ------------------------------------------------------------------------------------------------------

COLUMNS = ", ".join(EXECUTION)
"""Of an execution's row, as :class:`~saga.storage.records.StoredExecution` has them."""

CREATE = (
    f"INSERT INTO saga ({COLUMNS})"
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?8, 0, ?9, ?9, ?10, NULL, NULL, ?11, ?12, ?13, ?9, ?9, ?9, 0, NULL"
    " WHERE NOT EXISTS (SELECT 1 FROM saga_hold WHERE name = ?2 AND version IN ('', ?3))"
    " ON CONFLICT (id) DO NOTHING"
)
"""Add an execution, owned with epoch 1, unless its id is taken, or somebody holds its saga."""

LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM saga"
"""Read the greatest number that an execution has."""

SUBMIT = (
    f"INSERT INTO saga (number, {COLUMNS})"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, 0, 0, ?8, 0, ?9, ?9, ?10, NULL, NULL, ?11, ?12, ?13, ?14, NULL, ?9, 0, ?15)"
)
"""Add an execution that nobody owns, with its number."""

ADD_ENTRY = "INSERT INTO saga_journal VALUES (?, ?, ?, ?, ?, ?)"
"""Add an entry to the journal of the execution with this number, which was added in the same transaction."""

TAG = "INSERT INTO saga_tag VALUES (?, ?, ?, ?)"
"""Let an execution be found by a tag: its key and value, when the execution was created, and its id."""

GET = f"SELECT {COLUMNS} FROM saga WHERE id = ?"
"""Read an execution's row."""

HOLDS = "id = ? AND epoch = ? AND owner = ?"

CHECK_LEASE = f"SELECT 1 FROM saga WHERE {HOLDS}"
"""Find out whether a lease holds."""

RELEASE = (
    "UPDATE saga SET owner = NULL, lease_until = 0, updated = ?2,"
    " due = CASE WHEN ?1 = 0 OR ?3 AND EXISTS (SELECT 1 FROM saga_inbox WHERE saga_id = saga.id)"
    f" THEN min(?2, opens - {WORTH} * priority) ELSE ?2 + ?1 END,"
    " recoveries = CASE WHEN ?3 THEN 0 ELSE recoveries - ?4 END, step = coalesce(?5, step),"
    " progressed = CASE WHEN ?3 THEN ?2 ELSE progressed END WHERE id = ?6 AND epoch = ?7 AND owner = ?8"
)
"""Give a lease back, where it holds: for how long, now, whether it got on, how many recoveries do not count, and the step."""

RENEW_CALL = f"UPDATE saga SET called_until = ? WHERE id = ? AND {CALLED}"
"""Let who called for an execution have it to themselves until then."""

# The id is given, as SQLite would read the whole inbox for the one of the row that is returned.
_BEATS = " WHERE id = ?4 AND epoch = ?5 AND owner = ?6 RETURNING EXISTS (SELECT 1 FROM saga_inbox WHERE saga_id = ?4)"

RENEW = "UPDATE saga SET lease_until = ?1, due = ?2, updated = ?3" + _BEATS
"""Make a lease last longer, where it holds. The row says whether the execution has messages."""

RENEW_AND_TELL = "UPDATE saga SET lease_until = ?1, due = ?2, updated = ?3, step = ?7, progressed = ?8" + _BEATS
"""Make a lease last longer, and let the row tell where the execution is."""

POST = "INSERT INTO saga_inbox (saga_id, body) VALUES (?, ?)"
"""Put a message into an execution's inbox."""

INBOX = "SELECT id, saga_id, body FROM saga_inbox WHERE saga_id = ? ORDER BY id"
"""Read an execution's messages in the order they came."""

DELETE_MESSAGE = "DELETE FROM saga_inbox WHERE id = ? AND saga_id = ?"
"""Take a message out of an execution's inbox."""


@lru_cache
def changing(status: str | None, told: bool, defined: bool, release: bool) -> str:
    """Return the statement that changes what an execution's row says, where its lease holds.

    It takes step, reason, cause and how long it is kept, where these are told; version and fingerprint, where it has others;
    now, once or more often; and the lease.
    """
    sets = ["step = ?, reason = ?, cause = ?, keep_until = coalesce(?, keep_until)"] if told else []
    if defined:
        sets.append("version = ?, fingerprint = ?")
    sets.append("updated = ?")
    if told or status is not None:
        sets.append("progressed = ?")
    if release:
        sets.append("due = ?, owner = NULL, lease_until = 0")
    if status is not None:
        sets.append(f"status = '{status}'")
    if status in rules.ENDED:
        sets.append("holds = NULL")
    return f"UPDATE saga SET {', '.join(sets)} WHERE {HOLDS}"


# -- some executions ----------------------------------------------------------------------------------------------------

PURGEABLE = (
    "SELECT id, tags, created FROM saga INDEXED BY saga_listed WHERE status = ?1 AND created < ?2 AND updated < ?2"
    " AND lease_until <= ?3 AND (?1 <> 'completed' OR keep_until <= ?3) ORDER BY status, created, id LIMIT ?4"
)
"""Find executions of one status that nobody holds, last written before then; completed ones, if not to be kept any longer."""

PURGE = (
    "DELETE FROM saga_journal WHERE saga = (SELECT number FROM saga WHERE id = ?)",
    "DELETE FROM saga_inbox WHERE saga_id = ?",
    "DELETE FROM saga WHERE id = ?",
)
"""Delete an execution with all it has but its tags."""

UNTAG = "DELETE FROM saga_tag WHERE key = ? AND value = ? AND created = ? AND saga_id = ?"
"""Let an execution be found by a tag no longer."""

MOST_ROWS = 128
"""In one statement. SQLite keeps as many statements ready as there are numbers of rows, and a few more."""


@lru_cache(MOST_ROWS)
def rows(executions: int) -> str:
    """Return the statement that reads so many executions' rows."""
    return f"SELECT {COLUMNS} FROM saga WHERE id IN ({', '.join('?' * executions)})"


@lru_cache(MOST_ROWS)
def journals(executions: int) -> str:
    """Return the statement that reads so many journals."""
    return (
        "SELECT id, seq, kind, entry.step, payload, at FROM saga CROSS JOIN saga_journal AS entry ON saga = number"
        f" WHERE id IN ({', '.join('?' * executions)}) ORDER BY number, seq"
    )


@lru_cache(MOST_ROWS)
def make_due(statuses: int) -> str:
    """Return what lets workers look at an execution no later than then, where it has one of so many statuses.

    What is stuck they leave alone.
    """
    due = "CASE status WHEN 'stuck' THEN due ELSE min(due, ?) END"
    return f"UPDATE saga SET due = {due} WHERE id = ? AND status IN ({', '.join('?' * statuses)})"


def with_mail(executions: int) -> str:
    """Return the statement that finds out which of so many executions have messages."""
    return f"SELECT DISTINCT saga_id FROM saga_inbox WHERE saga_id IN ({', '.join('?' * executions)})"


def batches(keys: list[T]) -> Iterator[list[T]]:
    """Yield the keys in lists that are short enough for one statement each."""
    return (keys[first : first + MOST_ROWS] for first in range(0, len(keys), MOST_ROWS))


# -- holds and workers --------------------------------------------------------------------------------------------------

HOLD = "INSERT OR REPLACE INTO saga_hold VALUES (?, ?, ?, ?, ?)"
"""Let nothing of a saga be begun."""

LET_GO = "DELETE FROM saga_hold WHERE name = ? AND version = ?"
"""End a hold."""

HELD = "SELECT name, version, who, why, at FROM saga_hold ORDER BY name, version"
"""Read all holds."""

ANNOUNCE = (
    f"INSERT INTO saga_worker ({', '.join(WORKER)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
    + ", ".join(f" {column} = excluded.{column}" for column in WORKER if column not in ("id", "started"))
)
"""Add a worker, or let it live on."""

FORGET_WORKERS = "DELETE FROM saga_worker WHERE until <= ?"
"""Delete the workers that died before then."""

WITHDRAW = "UPDATE saga_worker SET until = min(until, ?) WHERE id = ?"
"""Say until when a worker lived."""

WORKERS = f"SELECT {', '.join(WORKER)} FROM saga_worker WHERE until > ? ORDER BY id"
"""Read the workers that did not die before then."""


# -- entries of many journals -------------------------------------------------------------------------------------------

_WIDTH = 8  # values of a row to insert: the execution's id, the entry's columns, the lease's epoch and owner


@lru_cache(MOST_ROWS)
def inserting(rows: int) -> str:
    """Return the statement that adds so many entries, each where its lease still holds."""
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return (
        "INSERT INTO saga_journal SELECT number, column2, column3, column4, column5, column6"
        f" FROM (VALUES {values}) AS entry CROSS JOIN saga"  # CROSS: for each entry its saga, not the other way round
        " WHERE saga.id = entry.column1 AND saga.epoch = entry.column7 AND saga.owner = entry.column8"
    )


def rows_of(lease: Lease, entries: Sequence[Entry]) -> list[Any]:
    """Return the entries' rows for :func:`insert_entries`."""
    saga_id, owner, epoch = lease
    return [value for entry in entries for value in (saga_id, *entry, epoch, owner)]


def insert_entries(connection: sqlite3.Connection, values: Sequence[Any]) -> int:
    """Add rows, given by their values one after the other. Return how many of them were added: those whose lease held."""
    rows = len(values) // _WIDTH
    if rows <= MOST_ROWS:
        return connection.execute(inserting(rows), values).rowcount if rows else 0
    most = MOST_ROWS * _WIDTH
    return sum(insert_entries(connection, values[first : first + most]) for first in range(0, len(values), most))
