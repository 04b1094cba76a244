"""The statements of the SQLite store find what they look for by an index; its tables are led from version to version."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from saga.errors import StorageError
from saga.storage import SqliteStore, sqlite_sql
from tests.storage.sqlite_writer import writer


@pytest.fixture
def store(path):
    with SqliteStore(path, busy_timeout=0.2) as store:
        yield store


# --- indexes


def plans(store: SqliteStore, statement: str) -> list[str]:
    values = (1,) * statement.count("?")
    return [row[3] for row in writer(store).execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (sqlite_sql.DUE, "saga_due (due<?)"),
        (sqlite_sql.DUE_BY_NAME, "saga_due_by_name (name=? AND due<?)"),
        (sqlite_sql.PURGEABLE, "saga_listed (status=? AND created<?)"),
        (sqlite_sql.INBOX, "saga_inbox_of (saga_id=?)"),
    ],
)
def test_what_is_looked_for_is_found_by_an_index(store, statement, index):
    [plan] = plans(store, statement)
    assert "SEARCH" in plan
    assert plan.endswith(index)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("statuses", [1, 5])
def test_a_page_is_read_from_ranges_of_an_index(store, statuses, by_name):
    index = "saga_listed_by_name (status=? AND name=? AND created" if by_name else "saga_listed (status=? AND created"
    steps = plans(store, sqlite_sql.listing(statuses, by_name))
    assert len([step for step in steps if "SEARCH saga USING" in step and index in step]) == statuses
    # What is sorted is the few rows that the ranges gave, never what is in the table.
    assert not any("SCAN saga" in step for step in steps)
    assert not any("TEMP B-TREE" in after for step, after in itertools.pairwise(steps) if "SEARCH" in step)


@pytest.mark.parametrize("statement", [sqlite_sql.GET, sqlite_sql.FREE, sqlite_sql.journals(1), sqlite_sql.CHECK_LEASE])
def test_one_execution_is_found_by_its_key(store, statement):
    steps = plans(store, statement)
    assert all("saga_journal_1 (saga=?)" in step or "saga_1 (id=?)" in step for step in steps if "SEARCH" in step)
    assert not any("SCAN" in step for step in steps if step != "SCALAR SUBQUERY 1")


# --- versions of the tables


def test_a_later_version_is_refused_and_left_alone(path, stored):
    with SqliteStore(path) as store:
        stored.create(store, "x")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE saga_schema SET version = 8")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=f"version 8 .* up to {len(sqlite_sql.MIGRATIONS)}"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_an_earlier_version_is_led_forward_with_what_it_holds(path, stored, monkeypatch):
    with SqliteStore(path) as store:
        stored.create(store, "x", entries=2)
    later = [*sqlite_sql.MIGRATIONS, ("ALTER TABLE saga_inbox ADD COLUMN urgent INTEGER",), ("CREATE TABLE saga_extra (id)",)]
    monkeypatch.setattr(sqlite_sql, "MIGRATIONS", later)
    with SqliteStore(path) as store:
        assert store.journal("x") == stored.entries(1, 2)
        assert writer(store).execute("SELECT version FROM saga_schema").fetchall() == [(len(later),)]
        assert writer(store).execute("SELECT urgent FROM saga_inbox, saga_extra").fetchall() == []


def test_a_step_that_fails_leaves_the_version_it_began_with(path, stored, monkeypatch):
    with SqliteStore(path) as store:
        stored.create(store, "x")
    good = list(sqlite_sql.MIGRATIONS)
    monkeypatch.setattr(sqlite_sql, "MIGRATIONS", [*good, ("CREATE TABLE saga_extra (id)", "CREATE TABLE saga (id)")])
    with pytest.raises(StorageError, match="already exists"):
        SqliteStore(path)
    monkeypatch.setattr(sqlite_sql, "MIGRATIONS", good)
    with SqliteStore(path) as store:
        assert writer(store).execute("SELECT 1 FROM sqlite_master WHERE name = 'saga_extra'").fetchall() == []
        assert store.get("x")


def test_many_that_open_a_new_file_at_once_do_not_clash(path, stored):
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        with SqliteStore(path) as store:
            stored.create(store, f"x{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with SqliteStore(path) as store:
        assert len(store.list().executions) == 8
        assert writer(store).execute("SELECT version FROM saga_schema").fetchall() == [(len(sqlite_sql.MIGRATIONS),)]
