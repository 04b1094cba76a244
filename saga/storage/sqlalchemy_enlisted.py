"""SQLAlchemy's connections and sessions, in whose transaction stores of all kinds take part: how their statements go there.

No statement lives here, and nothing of a transaction is ended here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from saga.storage.enlisted import refused

__all__ = ["AsDriven", "asking", "commits_at_once", "connection_of"]


def connection_of(given: Any) -> sa.Connection:
    """Return the connection of what is given: a connection, a session, or one that each thread has of its own.

    :raises ValueError: it has none, or it is closed.
    """
    if isinstance(given, orm.scoped_session):
        given = given()
    if isinstance(given, orm.Session):
        try:
            given = given.connection()
        except exc.UnboundExecutionError:
            found = None
        else:
            found = given
        if found is None:
            raise refused(
                "is a session that has a database for each class", "give session.connection(bind_arguments={'mapper': ...})"
            )
    connection: sa.Connection = given
    if connection.closed or connection.invalidated:
        raise refused("is closed", "give one that is open")
    return connection


def commits_at_once(connection: sa.Connection) -> bool:
    """Whether each statement is committed by itself."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    # Not all of 2.0 know how to ask a driver.
    detect = getattr(connection.dialect, "detect_autocommit_setting", None)
    try:
        return detect is not None and bool(detect(connection.connection.dbapi_connection))
    except NotImplementedError:
        return False


def asking(connection: sa.Connection) -> Callable[[bytes, Sequence[Any]], Sequence[Any]]:
    """Return what executes a statement for psycopg with whatever driver the connection has, and returns its rows."""

    def ask(statement: bytes, values: Sequence[Any]) -> Sequence[Any]:
        return connection.execute(_text(statement), {f"v{number}": value for number, value in enumerate(values)}).all()

    return ask


@lru_cache
def _text(statement: bytes) -> sa.TextClause:
    first, *others = statement.decode().replace("::", r"\:\:").split("%s")
    return sa.text(first + "".join(f":v{number}{text}" for number, text in enumerate(others)))


class AsDriven:
    """A connection to SQLite as its driver would have it: statements with question marks, and their values in order."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Iterable[Any] = ()) -> Any:
        """Execute a statement, and return its rows."""
        return self._connection.exec_driver_sql(statement, tuple(values))

    def executemany(self, statement: str, values: Iterable[Iterable[Any]]) -> None:
        """Execute a statement for each of these values."""
        if rows := [tuple(one) for one in values]:
            self._connection.exec_driver_sql(statement, rows)
