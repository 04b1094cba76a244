"""The tables of the SQLAlchemy store in each database, led from version to version."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from saga.errors import StorageError
from saga.storage import Wanted, sqlalchemy_tables
from saga.storage.sqlalchemy import SQLAlchemyStore
from tests.kit.databases import Stored


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
        names = ("", "_hold", "_inbox", "_journal", "_limited", "_schema", "_tags", "_worker")
        assert sorted(row[0] for row in tables) == [f"{prefix}{name}" for name in names]
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
    with pytest.raises(StorageError, match=rf"{prefix}_schema.* has version 8 .* up to 2"):
        SQLAlchemyStore(mariadb_url, prefix=prefix)
    with store._engine.connect() as connection:
        assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [8]


def test_an_earlier_version_is_led_forward_with_what_it_holds(store, stored, mariadb_url, prefix, monkeypatch):
    stored.create(store, "x")

    def another(connection, tables):
        connection.execute(sa.text(f"ALTER TABLE {tables.saga.name} ADD COLUMN extra INT"))

    monkeypatch.setattr(sqlalchemy_tables, "MIGRATIONS", [*sqlalchemy_tables.MIGRATIONS, another])
    with SQLAlchemyStore(mariadb_url, prefix=prefix) as later:
        assert later.journal("x") == stored.entries(1)
    with store._engine.connect() as connection:
        assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [3]
        assert connection.execute(sa.text(f"SELECT extra FROM {prefix}")).scalars().all() == [None]


KINDS = ["mariadb", "postgres", "sqlite"]


def url_of(kind, request) -> str:
    if kind == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path') / 'new.db'}"
    return request.getfixturevalue(f"{kind}_url").replace("postgresql://", "postgresql+psycopg://")


def first_version(store: SQLAlchemyStore) -> None:
    """Write the tables as the first version of them was, with an execution that runs, one that is stuck and one that ended."""
    tables = store._tables
    saga = tables.saga
    tables.metadata.drop_all(store._engine)
    metadata = sa.MetaData()
    names = ("id", "name", "version", "fingerprint", "digest", "status", "owner", "epoch", "lease_until", "due", "recoveries")
    old = sa.Table(saga.name, metadata, *(saga.c[name]._copy() for name in (*names, "created", "updated")), **saga.kwargs)
    indexes = {"listed": ("status", "created", "id"), "listed_by_name": ("status", "name", "created", "id")}
    for name, columns in (indexes | {"due": ("status", "due"), "due_by_name": ("status", "name", "due")}).items():
        sa.Index(f"{saga.name}_{name}", *(old.c[column] for column in columns))
    for table in (tables.journal, tables.inbox, tables.schema):
        table.to_metadata(metadata)
    metadata.create_all(store._engine)
    row = {"name": "order", "version": "1", "fingerprint": "f", "digest": "d", "epoch": 1, "recoveries": 0, "created": 5.0}
    with store._engine.begin() as connection:
        connection.execute(tables.schema.insert().values(version=1))
        for saga_id, status, owner, updated in [
            ("runs", "running", "a", 6.0),
            ("stuck", "stuck", None, 7.0),
            ("ended", "completed", None, 8.0),
        ]:
            more = {"id": saga_id, "status": status, "owner": owner, "lease_until": 6.5, "due": 6.5, "updated": updated}
            connection.execute(old.insert().values(row | more))
            connection.execute(tables.journal.insert().values(saga_id=saga_id, **Stored.entry(1)._asdict()))


def shapes(store: SQLAlchemyStore, prefix: str) -> list[str]:
    """Return what the tables are made of, as the database tells it, whatever they are called."""
    found = []
    looked = sa.inspect(store._engine)
    for table in store._tables.metadata.sorted_tables:
        found += looked.get_indexes(table.name)
        if store._engine.dialect.name != "mysql":
            found += [(table.name, column) for column in looked.get_columns(table.name)]
    if store._engine.dialect.name == "mysql":
        columns = "table_name, column_name, column_type, column_default, is_nullable, collation_name"
        statement = f"SELECT {columns} FROM information_schema.columns WHERE table_name IN :names"
        names = [table.name for table in store._tables.metadata.sorted_tables]
        with store._engine.connect() as connection:
            found += connection.execute(sa.text(statement).bindparams(sa.bindparam("names", names, expanding=True)))
    return sorted(str(one).replace(prefix, "saga") for one in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut_short", [False, True])
def test_the_first_version_is_led_forward(kind, cut_short, request, prefix, stored, monkeypatch):
    url = url_of(kind, request)
    with SQLAlchemyStore(url, prefix=prefix) as store:
        first_version(store)
    if cut_short:  # where a server commits each change of a table by itself, the next attempt goes on with what is there
        with monkeypatch.context() as patch:
            patch.setattr(sa.Index, "create", lambda *args, **more: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                SQLAlchemyStore(url, prefix=prefix)
    with SQLAlchemyStore(url, prefix=prefix) as store, SQLAlchemyStore(url, prefix=f"{prefix}_new") as new:
        runs, stuck, ended = (store.get(saga_id) for saga_id in ("runs", "stuck", "ended"))
        assert (runs.owner, runs.progressed, runs.started, runs.opens, runs.priority, runs.keep_until) == (
            "a",
            6.0,
            5.0,
            0.0,
            0,
            0.0,
        )
        assert (stuck.status, stuck.progressed, stuck.reason, stuck.step, dict(stuck.tags)) == ("stuck", 7.0, None, None, {})
        assert ended.progressed == 8.0
        assert store.journal("ended") == stored.entries(1)
        assert [row.saga_id for row in store.claim("b", 60.0, limit=5, wanted=[Wanted("order", "1", "f")])] == ["runs"]
        assert store.purge(updated_before=9.0, status=["completed"]) == 1
        stored.submit(store, "later", exclusive="k", tags={"order": "7"})
        assert [row.saga_id for row in store.list(tags={"order": "7"}).executions] == ["later"]
        assert shapes(store, prefix) == shapes(new, f"{prefix}_new")


def test_an_earlier_release_still_stores_in_the_new_tables(store, stored):
    saga = store._tables.saga
    with store._engine.begin() as connection:
        row = {"id": "x", "name": "order", "version": "1", "fingerprint": "f", "digest": "d", "status": "running", "owner": "a"}
        times = {"epoch": 1, "lease_until": 6.5, "due": 6.5, "recoveries": 0, "created": 5.0, "updated": 6.0}
        connection.execute(saga.insert().values(row | times))
    assert [row.saga_id for row in store.claim("b", 60.0)] == ["x"]


def test_a_lock_that_another_keeps_is_an_error(store, prefix, monkeypatch):
    with store._engine.connect() as one, store._engine.connect() as two:
        with sqlalchemy_tables._locked(one, prefix):
            text = sa.text
            monkeypatch.setattr(sa, "text", lambda statement: text(statement.replace("60", "0")))
            with pytest.raises(StorageError, match="changing"), sqlalchemy_tables._locked(two, prefix):
                pass
        with sqlalchemy_tables._locked(two, prefix):
            pass


@pytest.mark.parametrize("kind", KINDS)
def test_many_that_open_new_tables_at_once_do_not_clash(kind, request, prefix, stored):
    url = url_of(kind, request)
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
            assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [2]
