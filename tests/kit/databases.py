"""Stores of every kind, opened again and again as other processes would, and what is stored in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from saga.storage import Entry, Lease, MemoryStore, NewExecution, SqliteStore, Store


class Opener:
    """Opens one store again and again.

    :ivar kind: its kind; :ivar again: whether what was stored outlives the object.
    """

    def __init__(self, kind: str, make: Callable[[], Store], *, again: bool = True) -> None:
        self.kind = kind
        self.again = again
        self._make = make
        self._opened: list[Store] = []

    def __call__(self) -> Store:
        """Open it once more."""
        store = self._make()
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Close all that was opened."""
        for store in self._opened:
            store.close()


def _sqlite(request: pytest.FixtureRequest) -> Store:
    return SqliteStore(request.getfixturevalue("tmp_path") / "saga.db")


def _postgres(request: pytest.FixtureRequest) -> Store:
    from saga.storage.postgres import PostgresStore

    return PostgresStore(request.getfixturevalue("granted_postgres_url"), prefix="contract")


def _mariadb(request: pytest.FixtureRequest) -> Store:
    from saga.storage.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(request.getfixturevalue("granted_mariadb_url"), prefix="contract")


def _sqlalchemy_sqlite(request: pytest.FixtureRequest) -> Store:
    from saga.storage.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(f"sqlite:///{request.getfixturevalue('tmp_path') / 'saga.db'}")


def _sqlalchemy_postgres(request: pytest.FixtureRequest) -> Store:
    from saga.storage.sqlalchemy import SQLAlchemyStore

    url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://")
    return SQLAlchemyStore(url, prefix="through")


KINDS: Final[dict[str, Callable[[pytest.FixtureRequest], Store]]] = {
    "memory": lambda request: MemoryStore(),
    "sqlite": _sqlite,
    "postgres": _postgres,
    "mariadb": _mariadb,
    "sqlalchemy-sqlite": _sqlalchemy_sqlite,
    "sqlalchemy-postgres": _sqlalchemy_postgres,
}
"""Opens a store of each kind, as a test asks for it."""


def empty(store: Store) -> None:
    """Delete what an earlier test left on a server: faster than new tables for each test."""
    if engine := getattr(store, "_engine", None):
        with engine.begin() as connection:
            for table in store._tables.metadata.sorted_tables:
                if table is not store._tables.schema:
                    connection.execute(table.delete())
    elif pool := getattr(store, "_pool", None):
        connection = pool.lend()
        for table in ("contract", *(f"contract_{one}" for one in ("journal", "inbox", "tags", "hold", "worker"))):
            connection.execute(f"DELETE FROM {table}")
        pool.take_back(connection)


class Stored:
    """What tests store: short to write, complete to read."""

    @staticmethod
    def entry(seq: int = 1, **changes: object) -> Entry:
        """Return an entry of a step."""
        values = {"seq": seq, "kind": "StepStarted", "step": "pay", "payload": f'{{"n": {seq}}}', "at": 1700000000.125 + seq}
        return Entry(**(values | changes))  # type: ignore[arg-type]

    @classmethod
    def entries(cls, *seqs: int) -> list[Entry]:
        """Return entries with these numbers."""
        return [cls.entry(seq) for seq in seqs]

    @staticmethod
    def new(saga_id: str, **changes: Any) -> NewExecution:
        """Return what creates an execution that runs."""
        values = {"name": "order", "version": "1", "fingerprint": "f", "digest": "d", "status": "running"}
        return NewExecution(saga_id=saga_id, **(values | changes))

    @classmethod
    def submit(cls, store: Store, *saga_ids: str, **changes: Any) -> None:
        """Store executions that nobody has begun."""
        new = [(cls.new(saga_id, **({"status": "submitted"} | changes)), cls.entries(1)) for saga_id in saga_ids]
        assert store.submit(new) == [None] * len(new)

    @classmethod
    def create(
        cls, store: Store, saga_id: str, *, owner: str = "a", lease: float = 60.0, entries: int = 1, **changes: str
    ) -> Lease:
        """Store an execution; one that runs no longer has given its lease back."""
        status = changes.pop("status", "running")
        first = cls.entries(*range(1, entries + 1))
        assert store.create(cls.new(saga_id, **changes), first, owner, lease) is None
        held = Lease(saga_id, owner, 1)
        if status != "running":
            store.append(held, [], status=status, release=True)
        return held
