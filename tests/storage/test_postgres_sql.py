"""The tables of the PostgreSQL store, and the indexes by which its statements find what they look for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from saga.errors import StorageError
from saga.storage import Beat, postgres_sql
from saga.storage.postgres import PostgresStore


@pytest.fixture
def store(postgres_url, prefix):
    with PostgresStore(postgres_url, prefix=prefix, max_connections=8) as store:
        yield store


# --- tables


def test_the_tables_may_be_in_a_schema_which_is_made(postgres_url, stored, admin):
    with PostgresStore(postgres_url, schema="Sagas", prefix="s") as store:
        lease = stored.create(store, "x")
        store.post("x", "{}")
        assert store.renew("a", [lease], 60.0) == [Beat("x", True)]
        assert store.claim("b", 1.0) == []
        assert len(store.list(name="order").executions) == 1
    with PostgresStore(postgres_url, schema="Sagas", prefix="s") as store:
        assert store.journal("x") == stored.entries(1)
    tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'Sagas' ORDER BY 1").fetchall()
    assert tables == [("s",), ("s_inbox",), ("s_journal",), ("s_schema",)]


@pytest.mark.parametrize("names", [{"schema": 'a"; DROP TABLE saga; --'}, {"prefix": ""}, {"prefix": "x" * 48}])
def test_a_name_that_is_no_plain_name_is_refused(names):
    with pytest.raises(ValueError, match="letters"):
        PostgresStore("postgresql://127.0.0.1:1/none", **names)


def test_a_later_version_is_refused_and_left_alone(store, postgres_url, prefix, admin):
    admin.execute(f"UPDATE {prefix}_schema SET version = 8")
    with pytest.raises(StorageError, match=rf"{prefix}_schema.* has version 8 .* up to 1"):
        PostgresStore(postgres_url, prefix=prefix)
    assert admin.execute(f"SELECT version FROM {prefix}_schema").fetchall() == [(8,)]


def test_an_earlier_version_is_led_forward_with_what_it_holds(store, stored, postgres_url, prefix, admin, monkeypatch):
    stored.create(store, "x")
    first = postgres_sql.migrations
    monkeypatch.setattr(
        postgres_sql, "migrations", lambda *names: [*first(*names), [f"ALTER TABLE {prefix} ADD COLUMN extra text"]]
    )
    with PostgresStore(postgres_url, prefix=prefix) as later:
        assert later.journal("x") == stored.entries(1)
    assert admin.execute(f"SELECT version FROM {prefix}_schema").fetchall() == [(2,)]
    assert admin.execute(f"SELECT extra FROM {prefix}").fetchall() == [(None,)]


def test_a_step_that_fails_leaves_the_version_it_began_with(store, postgres_url, prefix, admin, monkeypatch):
    first = postgres_sql.migrations
    steps = [f"CREATE TABLE {prefix}_extra (id int)", f"CREATE TABLE {prefix} (id int)"]
    monkeypatch.setattr(postgres_sql, "migrations", lambda *names: [*first(*names), steps])
    with pytest.raises(StorageError, match="already exists"):
        PostgresStore(postgres_url, prefix=prefix)
    assert admin.execute(f"SELECT version FROM {prefix}_schema").fetchall() == [(1,)]
    assert admin.execute("SELECT to_regclass(%s)", (f"{prefix}_extra",)).fetchone() == (None,)


def test_many_that_open_new_tables_at_once_do_not_clash(postgres_url, prefix, stored, admin):
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        with PostgresStore(postgres_url, prefix=prefix, schema=f"new_{prefix}") as store:
            stored.create(store, f"x{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert admin.execute(f"SELECT version FROM new_{prefix}.{prefix}_schema").fetchall() == [(1,)]
    assert admin.execute(f"SELECT count(*) FROM new_{prefix}.{prefix}").fetchone() == (8,)


# --- indexes


def plan(admin: psycopg.Connection, statement: bytes, values: tuple) -> str:
    with admin.transaction():
        # The table is too small to be worth an index; ask what would be done with a large one.
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            admin.execute(f"SET LOCAL {setting} = off")
        return "\n".join(row[0] for row in admin.execute(b"EXPLAIN " + statement, values))


def test_what_is_looked_for_is_found_by_an_index(store, admin, prefix):
    sql = store._sql
    take = ("b", 60.0, 60.0, 1)
    due = plan(admin, sql.claim, (5, *take))
    assert f"Index Scan using {prefix}_due on" in due
    assert "Index Cond: ((due + '0'::double precision) <=" in due
    assert "Sort" not in due
    due = plan(admin, sql.claim_by_name, (["order", "refund"], 5, 5, *take))
    assert f"Index Scan using {prefix}_due_by_name on" in due
    assert "Index Cond: ((name = wanted.name) AND (due <=" in due
    old = plan(admin, sql.purgeable, ("stuck", 1.0, 1.0, 5))
    assert f"Index Scan using {prefix}_listed on" in old
    assert "Sort" not in old
    page = plan(admin, sql.listing(2, False), ("stuck", 0.0, 1.0, 1.0, "x", 5, "running", 0.0, 1.0, 1.0, "x", 5, 5))
    assert page.count(f"Index Scan Backward using {prefix}_listed on") == 2
    page = plan(admin, sql.listing(1, True), ("stuck", "order", 0.0, 1.0, 1.0, "x", 5, 5))
    assert page.count(f"Index Scan Backward using {prefix}_listed_by_name on") == 1
