"""One SQLite file: how it is opened and closed, and that none is open while a process forks."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from saga.errors import StorageError
from saga.storage import SqliteStore, sqlite_file
from saga.storage.group_commit import Write
from tests.kit import background, until, within
from tests.storage.sqlite_writer import queueing, writer


@pytest.fixture
def store(path):
    with SqliteStore(path, busy_timeout=0.2) as store:
        yield store


# --- opening


def test_what_is_appended_is_on_the_disk(store):
    assert writer(store).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer(store).execute("PRAGMA synchronous").fetchone() == (2,)
    assert writer(store).execute("PRAGMA busy_timeout").fetchone() == (200,)


def test_durability_may_be_relaxed(path):
    with SqliteStore(path, synchronous="NORMAL") as store:
        assert writer(store).execute("PRAGMA synchronous").fetchone() == (1,)
    with pytest.raises(ValueError, match="synchronous"):
        SqliteStore(path, synchronous="1; DROP TABLE saga")


def test_the_reading_connection_cannot_write(store):
    store.get("x")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._file._reader.execute("DELETE FROM saga")


@pytest.mark.parametrize("bad", [":memory:", "", "file::memory:?cache=shared", "a\0b"])
def test_a_path_that_is_no_file_is_refused(bad):
    with pytest.raises(StorageError, match="MemoryStore"):
        SqliteStore(bad)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match=re.escape(f"no folder {tmp_path / 'none'}")):
        SqliteStore(tmp_path / "none" / "saga.db")


def test_a_file_that_is_no_database_is_refused(path):
    path.write_text("hello, this is text " * 100)
    with pytest.raises(StorageError, match="not a database") as caught:
        SqliteStore(path)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert path.read_text().startswith("hello")


def test_an_old_sqlite_is_refused(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(StorageError, match=r"3\.35"):
        SqliteStore(path)


def test_a_place_without_a_log_is_refused(path, monkeypatch):
    class Mode:
        def execute(self, statement):
            return self

        def fetchone(self):
            return ("delete",)

    with SqliteStore(path) as store, pytest.raises(StorageError, match="write-ahead log"):
        store._file._use_log(Mode())


def test_a_busy_change_to_the_log_is_tried_until_the_timeout(store):
    tries = []

    class Busy:
        def execute(self, statement):
            tries.append(statement)
            raise sqlite3.OperationalError("database is locked")

    with pytest.raises(sqlite3.OperationalError):
        store._file._use_log(Busy())
    assert len(tries) > 5


# --- closing


def test_who_waits_while_the_store_is_closed_is_told(store, stored):
    lease = stored.create(store, "x")
    with queueing(store) as submit:
        waiting = submit(store.append, lease, stored.entries(2))
        closing = threading.Thread(target=store.close)
        closing.start()
        until(lambda: store._file._commits._halted)
    closing.join(10)
    assert not closing.is_alive()
    assert "closed" in str(waiting.exception())


def test_a_close_that_is_interrupted_holds_up_nobody(store, stored, monkeypatch):
    lease = stored.create(store, "x")

    def interrupted(timeout):
        halt(timeout)
        raise KeyboardInterrupt

    halt = store._file._commits.halt
    monkeypatch.setattr(store._file._commits, "halt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.close()
    with pytest.raises(StorageError, match="closed"):
        within(5, lambda: store.append(lease, stored.entries(2)))
    assert not store._file._commits._halted
    store._file._disconnect()


# --- forking


def test_a_child_that_was_forked_amid_a_write_closes_without_waiting_for_it(store, monkeypatch):
    begun, gate = threading.Event(), threading.Event()

    def occupy(connection):
        begun.set()
        assert gate.wait(10)

    writing = background(lambda: store._file._commits.write(Write(occupy)))
    assert begun.wait(10)
    with monkeypatch.context() as child:
        here = os.getpid()
        child.setattr(os, "getpid", lambda: here + 1)
        within(5, store.close)
    gate.set()
    assert writing(10) is None
    store._file._disconnect()  # the child has left its parent's connection alone


def run(path, script: str) -> list[str]:
    """Run a script that has ``path`` and the names it needs, in a process of its own; return what it printed."""
    preamble = f"""
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        from saga.errors import StorageError
        from saga.storage import Entry, Lease, NewExecution, SqliteStore
        from saga.storage.group_commit import Write
        path = {str(path)!r}
        def new(saga_id):
            return NewExecution(saga_id, "order", "1", "f", "d", "running")
        def entry(seq):
            return Entry(seq, "Kind", None, "{{}}", 1.0)
        def forked(work):
            child = os.fork()
            if child == 0:
                try:
                    work()
                    os._exit(0)
                except BaseException as error:
                    print(type(error).__name__, error, flush=True)
                    os._exit(1)
            return os.waitpid(child, 0)[1]
    """
    source = textwrap.dedent(preamble) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_no_file_is_open_while_a_process_forks(store, stored):
    lease = stored.create(store, "x")
    store.get("x")
    sqlite_file._before_fork()
    assert writer(store) is None
    assert store._file._reader is None
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(store.append, lease, stored.entries(2)), pool.submit(store.get, "x")]
        until(lambda: store._file._commits._queue)
        assert not any(future.done() for future in waiting)
        sqlite_file._after_fork_in_parent()
    assert waiting[0].result() is None
    assert store.journal("x") == stored.entries(1, 2)


def test_a_child_begins_again(store, stored):
    lease = stored.create(store, "x")
    store.get("x")
    sqlite_file._before_fork()
    sqlite_file._after_fork_in_child()
    store.append(lease, stored.entries(2))
    assert store.journal("x") == stored.entries(1, 2)


def test_a_process_forks_though_a_write_does_not_end(store, stored, monkeypatch):
    lease = stored.create(store, "x")
    with queueing(store):
        sqlite_file._before_fork()
        assert writer(store) is not None
        with monkeypatch.context() as patch:
            # In the child, which got there without the hooks.
            patch.setattr(os, "getpid", lambda: -1)
            for use in (lambda: store.append(lease, stored.entries(2)), lambda: store.get("x")):
                with pytest.raises(StorageError, match="outlive a fork"):
                    use()
        sqlite_file._after_fork_in_parent()
        sqlite_file._before_fork()
        sqlite_file._after_fork_in_child()
        store._file._commits.resume()
    store.append(lease, stored.entries(2))


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@forks
def test_parent_and_child_each_go_on_after_a_fork(path, stored):
    script = """
        store = SqliteStore(path)
        store.create(new("x"), [entry(1)], "a", 60.0)
        store.get("x")
        lease = Lease("x", "a", 1)
        connection = store._file._commits._connection
        def child():
            assert store._file._commits._connection is None and store._file._reader is None
            store.append(lease, [entry(2)])
            print(len(store.journal("x")), flush=True)
            store.close()
        print(forked(child), flush=True)
        store.append(lease, [entry(3)])
        print(len(store.journal("x")), store._file._commits._connection is not connection)
        store.close()
    """
    assert run(path, script) == ["2", "0", "3 True"]
    with SqliteStore(path) as store:
        assert writer(store).execute("PRAGMA integrity_check").fetchone() == ("ok",)


@forks
def test_a_process_may_fork_while_threads_append(path):
    script = """
        store = SqliteStore(path)
        ends = threading.Event()
        counts = []
        def work(number):
            store.create(new(f"x{number}"), [], "a", 60.0)
            seq = 0
            while not ends.is_set():
                seq += 1
                store.append(Lease(f"x{number}", "a", 1), [entry(seq)])
                store.get("x")
            counts.append(len(store.journal(f"x{number}")) - seq)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads: thread.start()
        outcomes = [forked(lambda: store.create(new(f"child{n}"), [entry(1)], "a", 60.0)) for n in range(10)]
        ends.set()
        for thread in threads: thread.join()
        print(outcomes, counts, len(store.list(name="order").executions))
    """
    assert run(path, script) == [f"{[0] * 10} {[0] * 4} 14"]


@forks
def test_a_child_forked_in_the_middle_of_a_write_is_told(path):
    script = """
        store = SqliteStore(path, busy_timeout=0.1)
        begun, gate = threading.Event(), threading.Event()
        occupy = Write(lambda connection: (begun.set(), gate.wait(10)))
        thread = threading.Thread(target=store._file._commits.write, args=(occupy,))
        thread.start()
        begun.wait(10)
        print(forked(lambda: store.create(new("x"), [], "a", 60.0)), flush=True)
        print(forked(lambda: store.get("x")), flush=True)
        gate.set()
        thread.join()
        print(store.create(new("x"), [], "a", 60.0))
        store.close()
    """
    first, code, second, same_code, last = run(path, script)
    assert first.startswith("StorageError this store's SQLite file was open in process")
    assert second == first
    assert (code, same_code, last) == ("256", "256", "None")
