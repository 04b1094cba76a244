"""A table of the user's own in a store's database, which transactional steps write to."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, NamedTuple

import pytest

from saga import Context, Saga, SagaResult
from saga.storage import SqliteStore, Store

__all__ = ["DATABASES", "THREADS", "WAYS", "Ledger", "Way", "as_coroutine", "awaited"]


numbers = itertools.count(1)


def _sqlite(request: pytest.FixtureRequest) -> Store:
    return SqliteStore(request.getfixturevalue("tmp_path") / "ledger.db", synchronous="OFF")


def _postgres(request: pytest.FixtureRequest) -> Store:
    from saga.storage.postgres import PostgresStore

    return PostgresStore(request.getfixturevalue("postgres_url"), prefix=f"ledgers{next(numbers)}")


def _through_sqlalchemy(url: str) -> Store:
    pytest.importorskip("sqlalchemy")
    from saga.storage.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(url, prefix=f"ledgers{next(numbers)}")


def _sqlalchemy_postgres(request: pytest.FixtureRequest) -> Store:
    return _through_sqlalchemy(request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://"))


DATABASES: Final[dict[str, Callable[[pytest.FixtureRequest], Store]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "mariadb": lambda request: _through_sqlalchemy(request.getfixturevalue("mariadb_url")),
    "sqlalchemy-sqlite": lambda request: _through_sqlalchemy(f"sqlite:///{request.getfixturevalue('tmp_path') / 'ledger.db'}"),
    "sqlalchemy-postgres": _sqlalchemy_postgres,
}
"""Opens a store with a database, of each kind."""


class Ledger:
    """The table: a row for each name that was written.

    :param store: in whose database it is.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        with_it = ("DROP TABLE IF EXISTS ledger", "CREATE TABLE ledger (name varchar(80))")
        self.within(lambda connection: [self.run(connection, statement) for statement in with_it])

    @classmethod
    def of(cls, store: Store) -> Ledger:
        """Return the one that is there."""
        ledger = cls.__new__(cls)
        ledger.store = store
        return ledger

    @staticmethod
    def run(connection: Any, statement: str) -> Any:
        """Execute a statement as each kind of connection takes it."""
        through_sqlalchemy = type(connection).__module__.startswith("sqlalchemy")
        return awaited((connection.exec_driver_sql if through_sqlalchemy else connection.execute)(statement))

    @classmethod
    def write(cls, context: Context) -> str:
        """What a step does: write a row with its name, and the context."""
        context[context.step.name] = context.step.attempt
        cls.run(context.step.connection, f"INSERT INTO ledger VALUES ('{context.step.name}')")
        return context.step.name.upper()

    @classmethod
    def take_back(cls, context: Context) -> None:
        """What its compensation does."""
        cls.run(context.step.connection, f"DELETE FROM ledger WHERE name = '{context.step.name}'")

    def empty(self, *but: str) -> None:
        """Delete all rows, and write these."""
        statements = ["DELETE FROM ledger", *(f"INSERT INTO ledger VALUES ('{name}')" for name in but)]
        self.within(lambda connection: [self.run(connection, statement) for statement in statements])

    def rows(self) -> list[str]:
        """Return the names that are written."""
        found: list[Any] = self.within(lambda connection: self.run(connection, "SELECT name FROM ledger").fetchall())
        return sorted(row[0] for row in found)

    def within(self, work: Callable[[Any], Any]) -> Any:
        transaction = self.store.transaction()
        transaction.begin()
        try:
            done = work(transaction.connection)
            transaction.commit()
            return done
        finally:
            transaction.end()


def awaited(value: Any) -> Any:
    """Return what a value comes to, in what :func:`as_coroutine` has made."""
    if not inspect.isawaitable(value):
        return value
    from sqlalchemy.util import await_only

    return await_only(value)


def as_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that does what a plain one does: what its ledger executes is awaited."""
    from sqlalchemy.util import greenlet_spawn

    @wraps(function)
    async def coroutine(*args: Any) -> Any:
        return await greenlet_spawn(function, *args)

    return coroutine


class Way(NamedTuple):
    """A way in which a saga with transactional steps is executed.

    :ivar name: its name.
    :ivar in_loop: in an event loop.
    :ivar coroutines: the steps are coroutine functions.
    """

    name: str
    in_loop: bool
    coroutines: bool

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step's function of this way's kind, which does the same."""
        return as_coroutine(function) if self.coroutines else function

    def executed(self, saga: Saga, saga_id: str = "x") -> SagaResult:
        """Execute it, and return its result."""
        if self.in_loop:
            return asyncio.run(saga.atry_execute(saga_id=saga_id))
        return saga.try_execute(saga_id=saga_id)


THREADS: Final = Way("threads", in_loop=False, coroutines=False)
WAYS: Final = (THREADS, Way("loop", in_loop=True, coroutines=False), Way("coroutines", in_loop=True, coroutines=True))
