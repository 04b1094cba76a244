"""One fixture for each kind of store; the contract runs with all of them.

A fixture gives a function that opens the same store again, as another process would, and closes what the test opened.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from saga.storage import Store, schema_sql
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


def as_stores(url: str, owner: str) -> str:
    found = re.fullmatch(rf"(\w+(?:\+\w+)?://){owner}([:@].*)", url)
    assert found, url
    return f"{found[1]}stores{found[2]}"


@pytest.fixture(scope="session")
def granted_postgres_url(postgres_url: str) -> str:
    """The URL of a role that may not make tables, and finds those of the contract."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE stores LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.execute(schema_sql(postgres_url, prefix="contract", role="stores"))
    return as_stores(postgres_url, "postgres")


@pytest.fixture(scope="session")
def granted_mariadb_url(mariadb_url: str) -> str:
    """As ``granted_postgres_url``."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(mariadb_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE USER stores@'%%'")
        for statement in schema_sql("mariadb", prefix="contract", role="stores").split(";\n"):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    engine.dispose()
    return as_stores(mariadb_url, "root")


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
