"""A connection to PostgreSQL that somebody else has opened, in whose transaction a store takes part: how statements go there.

Whatever there is of psycopg, psycopg2 and SQLAlchemy. No statement lives here, and nothing of a transaction is ended here.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from saga.storage.enlisted import inner, kind_of, refused, unknown

__all__ = ["Ask", "AskInLoop", "Asking", "answered", "answered_in_loop", "asking", "asking_in_loop"]

T = TypeVar("T")

Rows = Sequence[tuple[Any, ...]]
Asking = Generator[tuple[bytes, Sequence[Any]], Rows, T]
"""Yields statements with their values, is sent their rows, and returns what follows from them."""

Ask = Callable[[bytes, Sequence[Any]], Rows]
AskInLoop = Callable[[bytes, Sequence[Any]], Awaitable[Rows]]

TAKES = "a connection of psycopg or psycopg2, or SQLAlchemy's Connection or Session, to the store's database"


def answered(asks: Asking[T], ask: Ask) -> T:
    """Return what a generator returns whose statements ``ask`` executes."""
    try:
        wanted = next(asks)
        while True:
            wanted = asks.send(ask(*wanted))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def answered_in_loop(asks: Asking[T], ask: AskInLoop) -> T:
    """As :func:`answered`, where executing them is awaited."""
    try:
        wanted = next(asks)
        while True:
            wanted = asks.send(await ask(*wanted))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def asking(connection: Any) -> Ask:
    """Return what executes a statement in the connection's transaction.

    :raises ValueError: it has none, or is none that a store takes.
    """
    connection = inner(connection)
    kind = kind_of(connection)
    if kind == "psycopg":
        _check_open(connection)
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        return lambda statement, values: cursor.execute(statement, values).fetchall()
    if kind == "psycopg2":
        return _asking_psycopg2(connection)
    if kind == "sqlalchemy":
        from saga.storage import sqlalchemy_enlisted as through

        found = through.connection_of(connection)
        if found.dialect.name != "postgresql":
            raise refused(f"is of a database of {found.dialect.name}", f"give {TAKES}")
        if through.commits_at_once(found):
            raise _commits_at_once("submit with a connection of another isolation level")
        return through.asking(found)
    raise unknown(connection, TAKES)


def asking_in_loop(connection: psycopg.AsyncConnection[Any]) -> AskInLoop:
    """As :func:`asking`, with one that is awaited."""
    _check_open(connection)
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)

    async def ask(statement: bytes, values: Sequence[Any]) -> Rows:
        return await (await cursor.execute(statement, values)).fetchall()

    return ask


def _check_open(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if connection.closed:
        raise refused("is closed", "give one that is open")
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise _commits_at_once("submit within `with connection.transaction():`")


def _asking_psycopg2(connection: Any) -> Ask:
    if connection.closed:
        raise refused("is closed", "give one that is open")
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise _commits_at_once("set its autocommit to False")

    plain = sys.modules["psycopg2.extensions"].cursor  # whatever else the connection makes

    def ask(statement: bytes, values: Sequence[Any]) -> Rows:
        with connection.cursor(cursor_factory=plain) as executes:
            executes.execute(statement, tuple(values))
            return executes.fetchall()  # type: ignore[no-any-return]

    return ask


def _commits_at_once(instead: str) -> ValueError:
    return refused("commits each statement at once (autocommit), and no transaction is open in it", instead)
