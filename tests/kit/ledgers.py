"""A table of the user's own in a store's database, which transactional steps write to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import pytest

from saga import Context
from saga.storage import SqliteStore, Store

__all__ = ["DATABASES", "Ledger"]


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
        self._within(lambda connection: [self.run(connection, statement) for statement in with_it])

    @classmethod
    def of(cls, store: Store) -> Ledger:
        """Return the one that is there."""
        ledger = cls.__new__(cls)
        ledger.store = store
        return ledger

    @staticmethod
    def run(connection: Any, statement: str) -> Any:
        """Execute a statement as each kind of connection takes it."""
        if type(connection).__module__.startswith("sqlalchemy"):
            return connection.exec_driver_sql(statement)
        return connection.execute(statement)

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
        self._within(lambda connection: [self.run(connection, statement) for statement in statements])

    def rows(self) -> list[str]:
        """Return the names that are written."""
        found: list[Any] = self._within(lambda connection: self.run(connection, "SELECT name FROM ledger").fetchall())
        return sorted(row[0] for row in found)

    def _within(self, work: Callable[[Any], Any]) -> Any:
        transaction = self.store.transaction()
        transaction.begin()
        try:
            done = work(transaction.connection)
            transaction.commit()
            return done
        finally:
            transaction.end()
