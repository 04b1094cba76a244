"""The stores that durable executions are tried with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saga.storage import MemoryStore, SqliteStore, Store
from tests.kit import Watched
from tests.kit.ledgers import Ledger

numbers = itertools.count(1)


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def new_store(kind: str, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Return what makes another, empty store."""
    opened: list[Store] = []

    def make() -> Store:
        opened.append(MemoryStore() if kind == "memory" else SqliteStore(tmp_path / f"{next(numbers)}.db", synchronous="OFF"))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()


@pytest.fixture
def watched(store: Store) -> Watched:
    return Watched(store)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """Return what transactional steps write to, in the store's own database."""
    return Ledger(store)
