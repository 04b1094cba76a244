"""The statements of the SQLite store, and the versions of its tables. Nothing here opens a file or decides when to write.

A statement takes its values in the order of its question marks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from saga.clocks import since_boot
from saga.storage import rules
from saga.storage.protocol import Entry, Lease

__all__ = [
    "CHANGE_STATUS",
    "CHANGE_STATUS_AND_RELEASE",
    "CHECK_LEASE",
    "COLUMNS",
    "CREATE",
    "DELETE_MESSAGE",
    "DUE",
    "DUE_BY_NAME",
    "FREE",
    "GET",
    "INBOX",
    "MAKE_DUE",
    "MIGRATIONS",
    "MOST_ROWS",
    "POST",
    "PURGE",
    "PURGEABLE",
    "RELEASE",
    "RENEW",
    "batches",
    "check_version",
    "claiming",
    "insert_entries",
    "inserting",
    "journals",
    "listing",
    "migrate",
    "rows_of",
    "time_at_boot",
    "with_mail",
]

# -- the tables ---------------------------------------------------------------------------------------------------------

MIGRATIONS: list[tuple[str, ...]] = [
    (
        """CREATE TABLE saga (
            number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
            fingerprint TEXT NOT NULL, digest TEXT NOT NULL, status TEXT NOT NULL, owner TEXT, epoch INTEGER NOT NULL,
            lease_until REAL NOT NULL, due REAL NOT NULL, recoveries INTEGER NOT NULL, created REAL NOT NULL,
            updated REAL NOT NULL
        )""",
        # Whatever is asked for is one range of one of these for each status (and name); listings merge the ranges.
        "CREATE INDEX saga_listed ON saga (status, created, id)",
        "CREATE INDEX saga_listed_by_name ON saga (status, name, created, id)",
        "CREATE INDEX saga_due ON saga (due) WHERE status IN ('running', 'compensating')",
        "CREATE INDEX saga_due_by_name ON saga (name, due) WHERE status IN ('running', 'compensating')",
        # By number, what is written at the same time lies side by side: a commit of many writers changes few pages.
        """CREATE TABLE saga_journal (
            saga INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, step TEXT, payload TEXT NOT NULL, at REAL NOT NULL,
            UNIQUE (saga, seq)
        )""",
        "CREATE TABLE saga_inbox (id INTEGER PRIMARY KEY AUTOINCREMENT, saga_id TEXT NOT NULL, body TEXT NOT NULL)",
        "CREATE INDEX saga_inbox_of ON saga_inbox (saga_id, id)",
    ),
    ("CREATE TABLE saga_clock (boot TEXT PRIMARY KEY, epoch REAL NOT NULL)",),
]
"""The statements that lead from each version of the tables to the next; the first begins with an empty file."""


def check_version(connection: sqlite3.Connection, path: str) -> int:
    """Return the version of the tables, 0 where there are none.

    :param path: the file, for the error's text.
    :raises StorageError: it is a later one than this code knows.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'saga_schema'").fetchone():
        return 0
    version: int = connection.execute("SELECT max(version) FROM saga_schema").fetchone()[0]
    if version > len(MIGRATIONS):
        raise rules.too_new(version, len(MIGRATIONS), path)
    return version


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the tables to the present version, while no other process does.

    :raises StorageError: they have a later version than this code knows.
    """
    if check_version(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = check_version(connection, path)
        connection.execute("CREATE TABLE IF NOT EXISTS saga_schema (version INTEGER NOT NULL)")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("DELETE FROM saga_schema")
        connection.execute("INSERT INTO saga_schema VALUES (?)", (len(MIGRATIONS),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


_SET_BACK = (
    "UPDATE saga SET lease_until = ?1 + lease_until - updated, due = ?1 + due - updated, updated = ?1"
    " WHERE status IN ('running', 'compensating') AND updated > ?1"
)


def time_at_boot(connection: sqlite3.Connection, boot: str, epoch: float) -> float:
    """Return the time at which the host was started: as the first process said that opened the file since then.

    :param boot: what stands for the host's start.
    :param epoch: the time it was, as far as this process knows.
    """
    known = "SELECT epoch FROM saga_clock WHERE boot = ?"
    found = connection.execute(known, (boot,)).fetchone()
    if found is None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("INSERT INTO saga_clock VALUES (?, ?) ON CONFLICT DO NOTHING", (boot, epoch)).rowcount:
                # Where the clock was ahead before, what is left of a lease or a wait is what was left when it was written.
                connection.execute(_SET_BACK, (since_boot() + epoch,))
            found = connection.execute(known, (boot,)).fetchone()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
    return float(found[0])


# -- one execution ------------------------------------------------------------------------------------------------------

COLUMNS = "id, name, version, fingerprint, digest, status, owner, epoch, lease_until, due, recoveries, created, updated"
"""Of an execution's row, as :class:`~saga.storage.protocol.StoredExecution` has them."""

CREATE = f"INSERT INTO saga ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, 0, ?, ?) ON CONFLICT (id) DO NOTHING"
"""Add an execution, owned with epoch 1, unless its id is taken."""

GET = f"SELECT {COLUMNS} FROM saga WHERE id = ?"
"""Read an execution's row."""

HOLDS = "id = ? AND epoch = ? AND owner = ?"

CHECK_LEASE = f"SELECT 1 FROM saga WHERE {HOLDS}"
"""Find out whether a lease holds."""

CHANGE_STATUS = f"UPDATE saga SET status = coalesce(?, status), updated = ? WHERE {HOLDS}"
"""Set an execution's status, where its lease holds."""

CHANGE_STATUS_AND_RELEASE = (
    f"UPDATE saga SET status = coalesce(?, status), updated = ?, owner = NULL, lease_until = 0, due = ? WHERE {HOLDS}"
)
"""Set an execution's status where that is not NULL, and give the lease back with which it ended."""

RELEASE = (
    "UPDATE saga SET owner = NULL, lease_until = 0, updated = ?2,"
    " due = CASE WHEN ?3 AND EXISTS (SELECT 1 FROM saga_inbox WHERE saga_id = saga.id) THEN ?2 ELSE ?1 END,"
    " recoveries = CASE WHEN ?3 THEN 0 ELSE recoveries - ?4 END WHERE id = ?5 AND epoch = ?6 AND owner = ?7"
)
"""Give a lease back, where it holds: until when, now, whether it got on, and how many recoveries do not count."""

RENEW = (
    "UPDATE saga SET lease_until = ?, due = ?, updated = ? WHERE id = ? AND epoch = ? AND owner = ?"
    " RETURNING EXISTS (SELECT 1 FROM saga_inbox WHERE saga_id = saga.id)"
)
"""Make a lease last longer, where it holds. The row says whether the execution has messages."""

MAKE_DUE = "UPDATE saga SET due = min(due, ?) WHERE id = ? AND status NOT IN ('completed', 'compensated')"
"""Let recovery look at an execution no later than then, unless it has ended."""

POST = "INSERT INTO saga_inbox (saga_id, body) VALUES (?, ?)"
"""Put a message into an execution's inbox."""

INBOX = "SELECT id, saga_id, body FROM saga_inbox WHERE saga_id = ? ORDER BY id"
"""Read an execution's messages in the order they came."""

DELETE_MESSAGE = "DELETE FROM saga_inbox WHERE id = ? AND saga_id = ?"
"""Take a message out of an execution's inbox."""

# -- some executions ----------------------------------------------------------------------------------------------------

FREE = "SELECT id, due, name FROM saga WHERE id = ? AND lease_until <= ?"
"""Find one execution, if its lease has run out."""

# Without statistics, SQLite would choose others than these indexes.
DUE = (
    "SELECT id, due, name FROM saga INDEXED BY saga_due"
    " WHERE status IN ('running', 'compensating') AND due <= ? AND lease_until <= ? ORDER BY due LIMIT ?"
)
"""Find executions that recovery may take, the oldest due first."""

DUE_BY_NAME = (
    "SELECT id, due, name FROM saga INDEXED BY saga_due_by_name"
    " WHERE status IN ('running', 'compensating') AND name = ? AND due <= ? AND lease_until <= ? ORDER BY due LIMIT ?"
)
"""Find executions of one saga that recovery may take, the oldest due first."""

PURGEABLE = (
    "SELECT id FROM saga INDEXED BY saga_listed WHERE status = ? AND created < ? AND updated < ? AND lease_until <= ?"
    " ORDER BY status, created, id LIMIT ?"
)
"""Find executions of one status that nobody holds, last written before then."""

PURGE = (
    "DELETE FROM saga_journal WHERE saga = (SELECT number FROM saga WHERE id = ?)",
    "DELETE FROM saga_inbox WHERE saga_id = ?",
    "DELETE FROM saga WHERE id = ?",
)
"""Delete an execution with all it has."""

MOST_ROWS = 128
"""In one statement. SQLite keeps as many statements ready as there are numbers of rows, and a few more."""


@lru_cache(MOST_ROWS)
def claiming(executions: int) -> str:
    """Return the statement that gives so many executions an owner and the next epoch, and reads their rows."""
    return (
        "UPDATE saga SET owner = ?, epoch = epoch + 1, lease_until = ?, due = ?, recoveries = recoveries + ?, updated = ?"
        f" WHERE id IN ({', '.join('?' * executions)}) RETURNING {COLUMNS}"
    )


@lru_cache(MOST_ROWS)
def journals(executions: int) -> str:
    """Return the statement that reads so many journals."""
    return (
        "SELECT id, seq, kind, step, payload, at FROM saga CROSS JOIN saga_journal ON saga = number"
        f" WHERE id IN ({', '.join('?' * executions)}) ORDER BY number, seq"
    )


@lru_cache(MOST_ROWS)
def with_mail(executions: int) -> str:
    """Return the statement that finds out which of so many executions have messages."""
    return f"SELECT DISTINCT saga_id FROM saga_inbox WHERE saga_id IN ({', '.join('?' * executions)})"


def listing(statuses: int, by_name: bool) -> str:
    """Return the statement of a page: so many ranges of an index, each in order, and the newest of all."""
    name, index = ("AND name = ? ", "saga_listed_by_name") if by_name else ("", "saga_listed")
    ranges = (
        f"SELECT * FROM (SELECT {COLUMNS} FROM saga INDEXED BY {index} WHERE status = ? {name}AND created >= ? AND created <= ?"
        " AND (created < ? OR id < ?) ORDER BY created DESC, id DESC LIMIT ?)"
    )
    return " UNION ALL ".join([ranges] * statuses) + " ORDER BY created DESC, id DESC LIMIT ?"


def batches(ids: list[str]) -> Iterator[list[str]]:
    """Yield the ids in lists that are short enough for one statement each."""
    return (ids[first : first + MOST_ROWS] for first in range(0, len(ids), MOST_ROWS))


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
