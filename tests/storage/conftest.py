"""One fixture for each kind of store; the contract runs with all of them.

A fixture gives a function that opens the same store again, as another process would, and closes what the test opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from saga.storage import Store
from tests.kit.databases import KINDS, Opener, Stored, empty

if TYPE_CHECKING:
    import psycopg

numbers = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    """What the tables of one test on a server are called."""
    return f"t{next(numbers)}"


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection of our own to the PostgreSQL server."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an SQLite store's file is to be."""
    return tmp_path / "saga.db"


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


@pytest.fixture
def stored() -> type[Stored]:
    return Stored
