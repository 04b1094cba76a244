"""The connections of the PostgreSQL store: no more than allowed, and none of a parent process."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from saga.errors import StorageError
from saga.storage.postgres import PostgresStore


@pytest.fixture
def store(postgres_url, prefix):
    with PostgresStore(postgres_url, prefix=prefix, max_connections=8) as store:
        yield store


def test_no_more_connections_are_opened_than_allowed(store, stored, admin):
    leases = [stored.create(store, f"x{n}", entries=0) for n in range(32)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda lease: [store.append(lease, stored.entries(seq)) for seq in range(1, 6)], leases))
    [count] = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'saga'").fetchone()
    assert 1 <= count <= 8


def test_a_connection_that_is_lent_is_closed_when_it_comes_back_to_a_closed_store(store):
    connection = store._pool.lend()
    store.close()
    assert not connection.closed
    store._pool.take_back(connection)
    assert connection.closed


def test_a_child_opens_connections_of_its_own(store, stored, monkeypatch):
    lease = stored.create(store, "x")
    before = store._pool
    monkeypatch.setattr(os, "getpid", lambda: before.pid + 1)
    store.append(lease, stored.entries(2))
    assert store._pool is not before
    assert before._idle
    assert not before._idle[0].closed
    before.close()


@pytest.mark.parametrize("where", ["postgresql://127.0.0.1:1/none", "host=/nowhere dbname=none"])
def test_a_server_that_is_not_there_is_an_error_at_once(where):
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        PostgresStore(where)
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert time.monotonic() - began < 5


def test_what_is_no_connection_string_is_refused():
    with pytest.raises(StorageError, match="connection string"):
        PostgresStore("postgresql://[")
