"""Who waits for something to claim in an SQLite file notices what other processes commit, and asks SQLite nothing for it."""

from __future__ import annotations

import os

import pytest

from saga.storage import SqliteStore, sqlite_watch
from tests.storage.sqlite_writer import writer


@pytest.fixture
def time(monkeypatch):
    """The clock, which goes on as the test says."""
    now = [1000.0]
    monkeypatch.setattr(sqlite_watch, "clock", lambda: now[0])
    return now


@pytest.fixture
def stores(path):
    """One that watches, and another's."""
    with SqliteStore(path) as mine, SqliteStore(path) as others:
        yield mine, others


@pytest.fixture
def watch(stores, time):
    watch = stores[0].watch()
    time[0] += 1.0
    assert watch.look(False)  # as something may have been stored while it began
    yield watch
    watch.close()


def test_each_commit_of_another_is_noticed_and_nothing_else(stores, watch, time, stored):
    statements: list[str] = []
    stores[0].get("x")
    for connection in (writer(stores[0]), stores[0]._file._reader):
        connection.set_trace_callback(statements.append)
    for number in range(3):
        assert not watch.look(False)
        stored.submit(stores[1], f"x{number}")
        assert watch.look(False)
        time[0] += 1.0
        assert watch.look(False)
    assert not watch.look(False)
    assert statements == []


def test_a_log_that_is_begun_again_is_noticed(stores, watch, time, stored):
    log = f"{stores[0]._file.path}-wal"
    stored.submit(stores[1], *(f"x{number}" for number in range(300)))
    size = os.stat(log).st_size
    writer(stores[1]).execute("PRAGMA wal_checkpoint(RESTART)")
    watch.look(False)
    stored.submit(stores[1], "first")
    assert watch.look(False)
    at = os.stat(log).st_mtime_ns
    stored.submit(stores[1], "second")
    os.utime(log, ns=(at, at))  # as though it was written within one tick of the file system's clock
    assert (os.stat(log).st_size, os.stat(log).st_mtime_ns) == (size, at)
    assert not watch.look(False)
    time[0] += sqlite_watch.TICK
    assert watch.look(False)
    assert not watch.look(False)


def test_a_log_that_is_gone_is_no_error(stores, watch, stored):
    stores[0]._file._disconnect()
    stores[1]._file._disconnect()
    assert watch.look(False)
    stored.submit(stores[1], "x")
    assert watch.look(False)
