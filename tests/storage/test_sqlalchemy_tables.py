"""The tables of the SQLAlchemy store in each database, led from version to version."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from saga.errors import StorageError
from saga.storage import sqlalchemy_tables
from saga.storage.sqlalchemy import SQLAlchemyStore


@pytest.fixture
def store(mariadb_url, prefix):
    with SQLAlchemyStore(mariadb_url, prefix=prefix) as store:
        yield store


def test_the_tables_are_safe_for_transactions_and_all_text(store, prefix):
    with store._engine.connect() as connection:
        tables = connection.execute(
            sa.text("SELECT table_name, engine, table_collation FROM information_schema.tables WHERE table_name LIKE :like"),
            {"like": f"{prefix}%"},
        ).all()
        assert len(tables) == 4
        assert {tuple(row)[1:] for row in tables} == {("InnoDB", "utf8mb4_nopad_bin")}
        assert connection.execute(sa.text("SELECT @@tx_isolation, @@time_zone")).one() == ("READ-COMMITTED", "+00:00")
        assert "STRICT_ALL_TABLES" in connection.execute(sa.text("SELECT @@sql_mode")).scalar()
    assert store._sql.skips_locked


# --- versions of the tables


def execute(store: SQLAlchemyStore, statement: str) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_a_later_version_is_refused_and_left_alone(store, mariadb_url, prefix):
    execute(store, f"UPDATE {prefix}_schema SET version = 8")
    with pytest.raises(StorageError, match=rf"{prefix}_schema.* has version 8 .* up to 1"):
        SQLAlchemyStore(mariadb_url, prefix=prefix)
    with store._engine.connect() as connection:
        assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [8]


def test_an_earlier_version_is_led_forward_with_what_it_holds(store, stored, mariadb_url, prefix, monkeypatch):
    stored.create(store, "x")

    def second(connection, tables):
        connection.execute(sa.text(f"ALTER TABLE {tables.saga.name} ADD COLUMN extra INT"))

    monkeypatch.setattr(sqlalchemy_tables, "MIGRATIONS", [second])
    with SQLAlchemyStore(mariadb_url, prefix=prefix) as later:
        assert later.journal("x") == stored.entries(1)
    with store._engine.connect() as connection:
        assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [2]
        assert connection.execute(sa.text(f"SELECT extra FROM {prefix}")).scalars().all() == [None]


def test_a_lock_that_another_keeps_is_an_error(store, prefix, monkeypatch):
    with store._engine.connect() as one, store._engine.connect() as two:
        with sqlalchemy_tables._locked(one, prefix):
            text = sa.text
            monkeypatch.setattr(sa, "text", lambda statement: text(statement.replace("60", "0")))
            with pytest.raises(StorageError, match="changing"), sqlalchemy_tables._locked(two, prefix):
                pass
        with sqlalchemy_tables._locked(two, prefix):
            pass


@pytest.mark.parametrize("kind", ["mariadb", "postgres", "sqlite"])
def test_many_that_open_new_tables_at_once_do_not_clash(kind, request, tmp_path, prefix, stored):
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'new.db'}"
    else:
        url = request.getfixturevalue(f"{kind}_url").replace("postgresql://", "postgresql+psycopg://")
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        with SQLAlchemyStore(url, prefix=prefix) as store:
            stored.create(store, f"x{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with SQLAlchemyStore(url, prefix=prefix) as store:
        assert len(store.list().executions) == 6
        with store._engine.connect() as connection:
            assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [1]
