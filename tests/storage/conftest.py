"""One fixture for each kind of store; the contract runs with all of them.

A fixture gives a function that opens the same store again, as another process would, and closes what the test opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
        store = self._make()
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


def sqlite(request: pytest.FixtureRequest) -> Store:
    return SqliteStore(request.getfixturevalue("tmp_path") / "saga.db")


def postgres(request: pytest.FixtureRequest) -> Store:
    from saga.storage.postgres import PostgresStore

    return PostgresStore(request.getfixturevalue("postgres_url"), prefix="contract")


def mariadb(request: pytest.FixtureRequest) -> Store:
    from saga.storage.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(request.getfixturevalue("mariadb_url"), prefix="contract")


def sqlalchemy_sqlite(request: pytest.FixtureRequest) -> Store:
    from saga.storage.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(f"sqlite:///{request.getfixturevalue('tmp_path') / 'saga.db'}")


def sqlalchemy_postgres(request: pytest.FixtureRequest) -> Store:
    from saga.storage.sqlalchemy import SQLAlchemyStore

    url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://")
    return SQLAlchemyStore(url, prefix="through")


KINDS = {
    "memory": lambda request: MemoryStore(),
    "sqlite": sqlite,
    "postgres": postgres,
    "mariadb": mariadb,
    "sqlalchemy-sqlite": sqlalchemy_sqlite,
    "sqlalchemy-postgres": sqlalchemy_postgres,
}


def empty(store: Store) -> None:
    """Delete what an earlier test left on a server: faster than new tables for each test."""
    if engine := getattr(store, "_engine", None):
        with engine.begin() as connection:
            for table in (store._tables.saga, store._tables.journal, store._tables.inbox):
                connection.execute(table.delete())
    elif connections := getattr(store, "_connections", None):
        connection = connections.take()
        connection.execute("DELETE FROM contract; DELETE FROM contract_journal; DELETE FROM contract_inbox")
        connections.give(connection)


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    kind = request.param
    opener = Opener(kind, lambda: KINDS[kind](request), again=kind != "memory")
    empty(opener())
    yield opener
    opener.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()


class Stored:
    """What tests store: short to write, complete to read."""

    @staticmethod
    def entry(seq: int = 1, **changes: object) -> Entry:
        values = {"seq": seq, "kind": "StepStarted", "step": "pay", "payload": f'{{"n": {seq}}}', "at": 1700000000.125 + seq}
        return Entry(**(values | changes))  # type: ignore[arg-type]

    @classmethod
    def entries(cls, *seqs: int) -> list[Entry]:
        return [cls.entry(seq) for seq in seqs]

    @staticmethod
    def new(saga_id: str, **changes: str) -> NewExecution:
        values = {"name": "order", "version": "1", "fingerprint": "f", "digest": "d", "status": "running"}
        return NewExecution(saga_id=saga_id, **(values | changes))

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


@pytest.fixture
def stored() -> type[Stored]:
    return Stored
