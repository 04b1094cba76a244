"""The tables of the SQLite store, and how they are led from version to version. What is asked of them is elsewhere."""

from __future__ import annotations

import sqlite3
from typing import Final

from saga.clocks import since_boot
from saga.storage import rules

__all__ = [
    "CALLED",
    "CLAIMABLE",
    "MAKE_VERSION",
    "MIGRATIONS",
    "NOT_ENDED",
    "SET_VERSION",
    "check_version",
    "migrate",
    "time_at_boot",
]

CLAIMABLE: Final = "status IN ('submitted', 'running', 'compensating')"
"""Of what is in the index of what is due: a statement that is to use it says so."""

CALLED: Final = "status = 'submitted' AND called_until IS NOT NULL"
"""Of what was called for, and nobody has begun."""

NOT_ENDED: Final = "status NOT IN ('completed', 'compensated')"
"""Of what is in some more indexes."""

_KIND = "status = {row}.status AND name = {row}.name AND version = {row}.version AND fingerprint = {row}.fingerprint"
_CHANGED = (
    "new.status <> old.status OR new.cause IS NOT old.cause OR new.version <> old.version OR new.fingerprint <> old.fingerprint"
)
_COUNT_IN = (
    "INSERT INTO saga_count VALUES (new.status, new.name, new.version, new.fingerprint, coalesce(new.cause, ''), 1)"
    " ON CONFLICT DO UPDATE SET executions = executions + 1;"
)
_COUNTED = _KIND.format(row="old") + " AND cause = coalesce(old.cause, '')"
_COUNT_OUT = (
    f"UPDATE saga_count SET executions = executions - 1 WHERE {_COUNTED};"
    f" DELETE FROM saga_count WHERE executions = 0 AND {_COUNTED};"
)

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
    (
        "ALTER TABLE saga ADD COLUMN step TEXT",
        "ALTER TABLE saga ADD COLUMN reason TEXT",
        "ALTER TABLE saga ADD COLUMN cause TEXT",
        "ALTER TABLE saga ADD COLUMN tags TEXT",
        "ALTER TABLE saga ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE saga ADD COLUMN exclusive TEXT",
        "ALTER TABLE saga ADD COLUMN opens REAL NOT NULL DEFAULT 0",
        "ALTER TABLE saga ADD COLUMN started REAL",
        "ALTER TABLE saga ADD COLUMN progressed REAL NOT NULL DEFAULT 0",
        "ALTER TABLE saga ADD COLUMN keep_until REAL NOT NULL DEFAULT 0",
        "ALTER TABLE saga ADD COLUMN holds TEXT",
        "ALTER TABLE saga ADD COLUMN called_until REAL",
        "UPDATE saga SET started = created, progressed = updated",
        "DROP INDEX saga_due",
        "DROP INDEX saga_due_by_name",
        # A kind (of one status, of one definition) is fitted by one that claims, or not: it is one range.
        f"CREATE INDEX saga_due ON saga (status, name, version, fingerprint, due) WHERE {CLAIMABLE}",
        # What dead callers left in line is looked for where nothing is begun that was submitted, however much of that there is.
        f"CREATE INDEX saga_called ON saga (status, name, version, fingerprint, due) WHERE {CALLED}",
        f"CREATE INDEX saga_progressed ON saga (status, progressed) WHERE {NOT_ENDED}",
        f"CREATE INDEX saga_untold ON saga (due, id) WHERE {rules.UNTOLD}",
        # Without the lease's end, as no heartbeat is to write to it: what has an owner is in hand, or left by the dead.
        "CREATE INDEX saga_in_hand ON saga (name) WHERE owner IS NOT NULL",
        "CREATE INDEX saga_started ON saga (name, started) WHERE started IS NOT NULL",
        "CREATE INDEX saga_exclusive ON saga (exclusive, opens, id, status, name, version)"
        f" WHERE exclusive IS NOT NULL AND {CLAIMABLE}",
        "CREATE UNIQUE INDEX saga_holds ON saga (holds) WHERE holds IS NOT NULL",
        # Which kinds there are, and how many of each, is not read from a million rows. No cause is empty: '' stands for none.
        """CREATE TABLE saga_count (
            status TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, fingerprint TEXT NOT NULL, cause TEXT NOT NULL,
            executions INTEGER NOT NULL, PRIMARY KEY (status, name, version, fingerprint, cause)
        ) WITHOUT ROWID""",
        f"CREATE TRIGGER saga_counts_in AFTER INSERT ON saga BEGIN {_COUNT_IN} END",
        f"CREATE TRIGGER saga_counts_out AFTER DELETE ON saga BEGIN {_COUNT_OUT} END",
        "CREATE TRIGGER saga_counts_on AFTER UPDATE OF status, cause, version, fingerprint ON saga"
        f" WHEN {_CHANGED} BEGIN {_COUNT_OUT} {_COUNT_IN} END",
        "INSERT INTO saga_count SELECT status, name, version, fingerprint, '', count(*) FROM saga GROUP BY 1, 2, 3, 4",
        """CREATE TABLE saga_entry (
            saga INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, step TEXT, payload TEXT NOT NULL, at REAL NOT NULL,
            PRIMARY KEY (saga, seq)
        ) WITHOUT ROWID""",
        "INSERT INTO saga_entry SELECT saga, seq, kind, step, payload, at FROM saga_journal ORDER BY saga, seq",
        "DROP TABLE saga_journal",
        "ALTER TABLE saga_entry RENAME TO saga_journal",
        """CREATE TABLE saga_tag (
            key TEXT NOT NULL, value TEXT NOT NULL, created REAL NOT NULL, saga_id TEXT NOT NULL,
            PRIMARY KEY (key, value, created, saga_id)
        ) WITHOUT ROWID""",
        """CREATE TABLE saga_hold (
            name TEXT NOT NULL, version TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL, at REAL NOT NULL,
            PRIMARY KEY (name, version)
        ) WITHOUT ROWID""",
        """CREATE TABLE saga_worker (
            id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, definitions TEXT NOT NULL, in_hand INTEGER NOT NULL,
            stopping INTEGER NOT NULL, started REAL NOT NULL, seen REAL NOT NULL, until REAL NOT NULL
        ) WITHOUT ROWID""",
    ),
]
"""The statements that lead from each version of the tables to the next; the first begins with an empty file."""

MAKE_VERSION = "CREATE TABLE IF NOT EXISTS saga_schema (version INTEGER NOT NULL)"
SET_VERSION = "INSERT INTO saga_schema VALUES (?)"


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
        connection.execute(MAKE_VERSION)
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("DELETE FROM saga_schema")
        connection.execute(SET_VERSION, (len(MIGRATIONS),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


_SET_BACK = (
    "UPDATE saga SET lease_until = ?1 + lease_until - updated, progressed = min(progressed, ?1), updated = ?1,"
    " due = CASE WHEN opens > updated THEN due ELSE ?1 + due - updated END,"  # a time that was asked for stays
    " called_until = ?1 + called_until - updated,"
    " opens = CASE WHEN opens > updated THEN opens ELSE min(opens, ?1) END"
    f" WHERE {CLAIMABLE} AND updated > ?1"
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
