"""A connection to an SQLite file that somebody else has opened, in whose transaction executions are stored.

Nothing of that transaction is ended here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from saga.storage.enlisted import inner, kind_of, refused, unknown
from saga.storage.whereabouts import SAME_DATABASE

__all__ = ["LOCK", "Executes", "check_begun", "check_file", "enlisted"]

TAKES = "a sqlite3.Connection, or SQLAlchemy's Connection or Session, to the store's file"

LOCK = "DELETE FROM saga_hold WHERE 0"
"""Begin to write, though nothing is written: sqlite3 begins a transaction before it, and nobody else writes until that ends."""


class Executes(Protocol):
    """What executes statements: a connection or a cursor of sqlite3's, or what comes to the same."""

    def execute(self, statement: str, values: Any = (), /) -> Any: ...
    def executemany(self, statement: str, values: Any, /) -> Any: ...


@contextmanager
def enlisted(connection: Any, path: str) -> Iterator[Executes]:
    """Give what executes statements in the connection's transaction, which is the one that writes from then on.

    :param path: the store's file.
    :raises ValueError: there is no transaction, or it is of another file, or the connection is none that a store takes.
    """
    connection = inner(connection)
    kind = kind_of(connection)
    if kind == "sqlalchemy":
        from saga.storage import sqlalchemy_enlisted as through

        found = through.connection_of(connection)
        if found.dialect.name != "sqlite":
            raise refused(f"is of a database of {found.dialect.name}", f"give {TAKES}")
        driven = through.AsDriven(found)
        check_file(driven, path)
        driven.execute(LOCK)
        check_begun(found.connection.driver_connection)
        yield driven
        return
    if kind != "sqlite3":
        raise unknown(connection, TAKES)
    cursor = _cursor(connection)
    texts = connection.text_factory
    connection.text_factory = str
    try:
        check_file(cursor, path)
        cursor.execute(LOCK)
        check_begun(connection)
        yield cursor
    finally:
        connection.text_factory = texts


def _cursor(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Return one that gives plain rows."""
    try:
        cursor = connection.cursor(sqlite3.Cursor)
    except sqlite3.ProgrammingError as error:
        fault = str(error)
    else:
        cursor.row_factory = None
        return cursor
    raise refused(f"cannot be used here: {fault}", "give one that is open, in its own thread")


def check_file(executes: Executes, path: str) -> None:
    """See that a connection's own database, not one that is attached to it, is a file.

    :raises ValueError: it is not.
    """
    theirs = next(row[2] for row in executes.execute("PRAGMA database_list").fetchall() if row[1] == "main")
    if not (theirs and path and os.path.exists(theirs) and os.path.samefile(theirs, path)):
        raise refused(
            f"is of another database ({theirs or 'in memory'}) than the store ({path or 'in memory'})",
            SAME_DATABASE,
        )


def check_begun(connection: Any) -> None:
    """See that a driver's connection has begun a transaction before it wrote.

    :raises ValueError: it has not.
    """
    if not connection.in_transaction:
        raise refused("commits each statement at once, and no transaction is open in it", "BEGIN one before you submit")
