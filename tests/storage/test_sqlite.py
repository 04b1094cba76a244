"""What only the SQLite store does: durability settings, shared commits, full disks, locks, forks."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from saga.errors import LeaseLostError, StorageError
from saga.storage import Lease, SqliteStore
from saga.storage import sqlite as module
from saga.storage.group_commit import Write
from tests.kit import background, until, within


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saga.db"


@pytest.fixture
def store(path):
    with SqliteStore(path, busy_timeout=0.2) as store:
        yield store


def writer(store: SqliteStore) -> sqlite3.Connection:
    """Return the connection that writes now."""
    return store._commits._connection


class Commits:
    """Counts a connection's commits: transactions that wrote, and statements that were one by themselves."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.count = 0
        self.statements: list[str] = []
        self._inside = False
        connection.set_trace_callback(self._trace)

    def _trace(self, statement: str) -> None:
        self.statements.append(statement)
        if statement.startswith("BEGIN"):
            self._inside = True
        elif statement == "COMMIT":
            self._inside = False
            self.count += 1
        elif not self._inside:
            self.count += 1


@contextmanager
def queueing(store: SqliteStore, gate: threading.Event | None = None):
    """Keep the writer busy, so that whatever is submitted meanwhile becomes one group, in the order of submission."""
    begun, gate = threading.Event(), gate or threading.Event()

    def occupy(connection: sqlite3.Connection) -> None:
        begun.set()
        assert gate.wait(10)

    with ThreadPoolExecutor(70) as pool:
        first = pool.submit(store._commits.write, Write(occupy))
        assert begun.wait(10)
        waiting = len(store._commits._queue)

        def submit(work, *args, **kwargs) -> Future:
            nonlocal waiting
            future = pool.submit(work, *args, **kwargs)
            waiting += 1
            until(lambda: len(store._commits._queue) >= waiting)
            return future

        try:
            yield submit
        finally:
            gate.set()
            first.result()


# --- settings


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
        store._reader.execute("DELETE FROM saga")


def test_the_clock_may_be_given(path, stored):
    now = 1000.0
    with SqliteStore(path, clock=lambda: now) as store:
        stored.create(store, "x", lease=10.0)
        assert store.now() == 1000.0
        assert store.claim("b", 5.0) == []
        now = 1010.0
        assert store.claim("b", 5.0)[0].lease_until == 1015.0


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
        store._use_log(Mode())


def test_a_busy_change_to_the_log_is_tried_until_the_timeout(store):
    tries = []

    class Busy:
        def execute(self, statement):
            tries.append(statement)
            raise sqlite3.OperationalError("database is locked")

    with pytest.raises(sqlite3.OperationalError):
        store._use_log(Busy())
    assert len(tries) > 5


# --- indexes


def plans(store: SqliteStore, statement: str) -> list[str]:
    values = (1,) * statement.count("?")
    return [row[3] for row in writer(store).execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (module.DUE, "saga_due (due<?)"),
        (module.DUE_BY_NAME, "saga_due_by_name (name=? AND due<?)"),
        (module.OLD, "saga_listed (status=? AND created<?)"),
        (module.INBOX, "saga_inbox_of (saga_id=?)"),
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
    steps = plans(store, module.listing(statuses, by_name))
    assert len([step for step in steps if "SEARCH saga USING" in step and index in step]) == statuses
    # What is sorted is the few rows that the ranges gave, never what is in the table.
    assert not any("SCAN saga" in step for step in steps)
    assert not any("TEMP B-TREE" in after for step, after in itertools.pairwise(steps) if "SEARCH" in step)


@pytest.mark.parametrize("statement", [module.GET, module.FREE, module.journals(1), module.CHECK])
def test_one_execution_is_found_by_its_key(store, statement):
    steps = plans(store, statement)
    assert all("saga_journal_1 (saga=?)" in step or "saga_1 (id=?)" in step for step in steps if "SEARCH" in step)
    assert not any("SCAN" in step for step in steps if step != "SCALAR SUBQUERY 1")


# --- shared commits


def test_alone_each_append_is_one_statement_and_one_commit(store, stored):
    lease = stored.create(store, "x", entries=0)
    commits = Commits(writer(store))
    for seq in range(1, 6):
        store.append(lease, stored.entries(seq))
    store.append(lease, stored.entries(6, 7))
    assert commits.count == 6
    assert len(commits.statements) == 6
    store.append(lease, stored.entries(8, 9), status="completed", release=True)
    assert commits.count == 7


def test_many_threads_share_commits(store, stored):
    leases = [stored.create(store, f"x{n}", entries=0) for n in range(64)]
    commits = Commits(writer(store))
    with queueing(store) as submit:
        futures = [submit(store.append, lease, stored.entries(1)) for lease in leases]
    assert [future.result() for future in futures] == [None] * 64
    # One is the one they waited for.
    assert commits.count == 2
    assert [statement.split()[0] for statement in commits.statements] == ["BEGIN", "COMMIT", "BEGIN", "INSERT", "COMMIT"]


def test_commits_are_shared_without_arranging_for_it(store, stored):
    leases = [stored.create(store, f"x{n}", entries=0) for n in range(64)]
    commits = Commits(writer(store))
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda lease: [store.append(lease, stored.entries(seq)) for seq in range(1, 11)], leases))
    assert commits.count < 640
    assert all(len(store.journal(lease.saga_id)) == 10 for lease in leases)


def test_who_lost_the_lease_stores_nothing_with_others(store, stored):
    good = [stored.create(store, f"good{n}") for n in range(3)]
    lost = stored.create(store, "lost", lease=0.0)
    store.claim("b", 60.0, saga_id="lost")
    with queueing(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2, 3)) for lease in good]
        refused = submit(store.append, lost, stored.entries(2, 3))
    assert isinstance(refused.exception(), LeaseLostError)
    assert [future.result() for future in futures] == [None] * 3
    assert store.journal("lost") == stored.entries(1)
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2, 3) for lease in good)


def test_what_is_wrong_with_one_write_hurts_no_other_of_its_group(store, stored):
    good = [stored.create(store, f"good{n}") for n in range(3)]
    lost = stored.create(store, "lost", lease=0.0)
    store.claim("b", 60.0, saga_id="lost")
    store.post("good0", "{}")
    [message] = store.inbox("good0")
    commits = Commits(writer(store))
    with queueing(store) as submit:
        bad = [
            submit(store.append, lost, stored.entries(2)),
            submit(store.append, lost, stored.entries(2, 3), status="stuck"),
            submit(store.append, good[0], stored.entries(1)),
            submit(store.append, good[0], [*stored.entries(7, 8), *stored.entries(1)], taken=[message.id], status="stuck"),
            submit(store.append, good[0], [stored.entry(9, payload="\ud800")]),
            submit(store.append, good[0], [stored.entry(2**70)]),
            submit(store.append, good[0], [*stored.entries(9), stored.entry(10, payload=None)]),
            submit(store.create, stored.new("new"), stored.entries(1, 1), "a", 60.0),
            submit(store.post, "nobody", "{}"),
        ]
        fine = [submit(store.append, lease, stored.entries(2)) for lease in good]
        fine.append(submit(store.append, good[1], stored.entries(3, 4), status="compensating"))
        claim = submit(store.claim, "c", 60.0, saga_id="lost")
        existing = submit(store.create, stored.new("good2"), [], "z", 60.0)
    assert commits.count == 2
    errors = [future.exception() for future in bad]
    assert [type(error) for error in errors] == [LeaseLostError] * 2 + [StorageError] * 7
    assert [future.result() for future in fine] == [None] * 4
    assert claim.result() == []
    assert existing.result().owner == "a"
    assert store.journal("good0") == stored.entries(1, 2)
    assert store.journal("good1") == stored.entries(1, 2, 3, 4)
    assert store.journal("lost") == stored.entries(1)
    assert store.inbox("good0") == [message]
    assert [store.get(f"good{n}").status for n in range(3)] == ["running", "compensating", "running"]
    assert store.get("new") is None


class Failing:
    """A connection of which one statement fails so many times."""

    def __init__(self, connection: sqlite3.Connection, statement: str, times: int, error: BaseException) -> None:
        self._connection = connection
        self._statement = statement
        self._times = times
        self._error = error

    def execute(self, statement, *args):
        if statement == self._statement and self._times:
            self._times -= 1
            raise self._error
        return self._connection.execute(statement, *args)

    def __getattr__(self, name):
        return getattr(self._connection, name)


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
def test_a_failing_commit_fails_its_whole_group_and_stores_nothing(store, stored, statement):
    leases = [stored.create(store, f"x{n}") for n in range(8)]
    with queueing(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
        stale = submit(store.append, Lease("x0", "z", 1), stored.entries(3))
        # The one that they wait for goes on with the connection it began with.
        error = sqlite3.OperationalError("disk I/O error")
        store._commits._connection = Failing(writer(store), statement, 1, error)
    for future in futures:
        assert type(future.exception()) is StorageError
        assert "disk I/O error" in str(future.exception())
        assert future.exception().__cause__ is error
    assert isinstance(stale.exception(), StorageError)
    assert all(store.journal(lease.saga_id) == stored.entries(1) for lease in leases)
    for lease in leases:
        store.append(lease, stored.entries(2))


def test_a_failing_commit_of_one_alone_stores_nothing(store, stored):
    lease = stored.create(store, "x")
    store._commits._connection = Failing(writer(store), "COMMIT", 1, sqlite3.OperationalError("disk I/O error"))
    with pytest.raises(StorageError, match="disk I/O error; nothing was stored"):
        store.append(lease, stored.entries(2, 3), status="running")
    assert store.journal("x") == stored.entries(1)
    store.append(lease, stored.entries(2, 3))


def test_a_connection_that_cannot_roll_back_is_opened_again(store, stored):
    lease = stored.create(store, "x")

    class Broken(Failing):
        def rollback(self):
            raise sqlite3.OperationalError("disk I/O error")

    store._commits._connection = Broken(writer(store), "COMMIT", 1, sqlite3.OperationalError("disk I/O error"))
    with pytest.raises(StorageError):
        store.append(lease, stored.entries(2, 3), status="running")
    assert writer(store) is None
    store.append(lease, stored.entries(2, 3))
    assert store.journal("x") == stored.entries(1, 2, 3)


# --- interrupts


def test_an_interrupt_of_the_leader_fails_the_group_and_is_raised_in_the_leader_only(store, stored):
    leases = [stored.create(store, f"x{n}") for n in range(3)]

    def interrupted(connection):
        assert module.append(connection, ["x0", 9, "Kind", None, "{}", 0.0, leases[0].epoch, leases[0].owner]) == 1
        raise KeyboardInterrupt

    with queueing(store) as submit:
        leader = submit(store._commits.write, Write(interrupted))
        others = [submit(store.append, lease, stored.entries(2)) for lease in leases]
    assert isinstance(leader.exception(), KeyboardInterrupt)
    assert [type(future.exception()) for future in others] == [StorageError] * 3
    assert all(store.journal(lease.saga_id) == stored.entries(1) for lease in leases)
    store.append(leases[0], stored.entries(2))


def test_an_interrupt_right_after_the_commit_leaves_stored_what_is(store, stored):
    leases = [stored.create(store, f"x{n}") for n in range(3)]
    real = writer(store)

    class Interrupted(Failing):
        def execute(self, statement, *args):
            result = self._connection.execute(statement, *args)
            if statement == "COMMIT":
                raise KeyboardInterrupt
            return result

    with queueing(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
        store._commits._connection = Interrupted(real, "", 0, KeyboardInterrupt())
    assert isinstance(futures[0].exception(), KeyboardInterrupt)
    assert [future.exception() for future in futures[1:]] == [None, None]
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2) for lease in leases)


def interrupt_when(condition) -> None:
    """Send this process a SIGINT once the condition holds."""
    threading.Thread(target=lambda: (until(condition), os.kill(os.getpid(), signal.SIGINT))).start()


@pytest.mark.usefixtures("ctrl_c")
def test_one_that_is_interrupted_in_the_queue_leaves_it(store, stored):
    one, two = stored.create(store, "one"), stored.create(store, "two")
    with queueing(store) as submit:
        other = submit(store.append, two, stored.entries(2))
        interrupt_when(lambda: len(store._commits._queue) == 2)
        with pytest.raises(KeyboardInterrupt):
            store.append(one, stored.entries(2))
    assert other.result() is None
    assert store.journal("one") == stored.entries(1)
    store.append(one, stored.entries(2))


@pytest.mark.usefixtures("ctrl_c")
def test_one_that_is_interrupted_while_another_writes_for_it_waits_for_the_end(store, stored):
    one = stored.create(store, "one")
    leading, gate = threading.Event(), threading.Event()

    def lead(connection):
        leading.set()
        assert gate.wait(10)

    first = threading.Event()
    with queueing(store, first) as submit:
        leader = submit(store._commits.write, Write(lead))
        until_queued = threading.Thread(target=lambda: (until(lambda: len(store._commits._queue) == 2), first.set()))
        until_queued.start()

        def later():
            assert leading.wait(10)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            gate.set()

        threading.Thread(target=later).start()
        with pytest.raises(KeyboardInterrupt):
            store.append(one, stored.entries(2))
        until_queued.join()
    assert leader.result() is None
    assert store.journal("one") == stored.entries(1, 2)


def test_one_that_is_interrupted_when_it_is_to_lead_leads(store, stored):
    one, two = stored.create(store, "one"), stored.create(store, "two")
    commits = store._commits
    lead, calls = commits._lead, []

    def interrupted_once(leader):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        lead(leader)

    commits._lead = interrupted_once
    with queueing(store) as submit:
        first = submit(store.append, one, stored.entries(2))
        second = submit(store.append, two, stored.entries(2))
    assert isinstance(first.exception(), KeyboardInterrupt)
    assert second.result() is None
    assert store.journal("one") == store.journal("two") == stored.entries(1, 2)
    store.append(one, stored.entries(3))


def test_a_child_that_was_forked_amid_a_write_closes_without_waiting_for_it(store, monkeypatch):
    begun, gate = threading.Event(), threading.Event()

    def occupy(connection):
        begun.set()
        assert gate.wait(10)

    writing = background(lambda: store._commits.write(Write(occupy)))
    assert begun.wait(10)
    with monkeypatch.context() as child:
        here = os.getpid()
        child.setattr(os, "getpid", lambda: here + 1)
        within(5, store.close)
    gate.set()
    assert writing(10) is None
    store._disconnect()  # the child has left its parent's connection alone


def test_a_close_that_is_interrupted_holds_up_nobody(store, stored, monkeypatch):
    lease = stored.create(store, "x")

    def interrupted(timeout):
        hold(timeout)
        raise KeyboardInterrupt

    hold = store._commits.hold
    monkeypatch.setattr(store._commits, "hold", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.close()
    with pytest.raises(StorageError, match="closed"):
        within(5, lambda: store.append(lease, stored.entries(2)))
    assert not store._commits._held
    store._disconnect()


# --- locks and full disks


def test_a_locked_file_is_waited_for_and_then_an_error(path, store, stored):
    lease = stored.create(store, "x")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for entries in (stored.entries(2), stored.entries(2, 3)):
        began = time.monotonic()
        with pytest.raises(StorageError, match="locked") as caught:
            store.append(lease, entries)
        assert 0.15 < time.monotonic() - began < 3
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert store.journal("x") == stored.entries(1)
    other.execute("ROLLBACK")
    other.close()
    store.append(lease, stored.entries(2))


def test_a_lock_that_is_given_back_in_time_is_no_error(path, stored):
    with SqliteStore(path, busy_timeout=10.0) as store:
        lease = stored.create(store, "x")
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.1, other.execute, ("ROLLBACK",))
        timer.start()
        store.append(lease, stored.entries(2))
        timer.join()
        other.close()


def test_a_full_file_stores_nothing_and_goes_on_when_there_is_room(store, stored):
    leases = [stored.create(store, f"x{n}") for n in range(4)]
    pages = writer(store).execute("PRAGMA page_count").fetchone()[0]
    writer(store).execute(f"PRAGMA max_page_count = {pages}")
    large = [stored.entry(2, payload='"' + "x" * 100_000 + '"'), stored.entry(3)]
    with pytest.raises(StorageError, match="full"):
        store.append(leases[0], large, status="stuck")
    with queueing(store) as submit:
        futures = [submit(store.append, lease, large[:1]) for lease in leases]
    assert all("full" in str(future.exception()) for future in futures)
    assert all(store.journal(lease.saga_id) == stored.entries(1) for lease in leases)
    assert store.get("x0").status == "running"
    writer(store).execute("PRAGMA max_page_count = 100000")
    store.append(leases[0], large)
    assert store.journal("x0")[1:] == large


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mount") or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=1m"):
        pytest.skip("only root may mount a small file system")
    yield folder
    assert libc.umount2(bytes(folder), 2) == 0


def test_a_full_disk_stores_nothing_and_goes_on_when_there_is_room(tiny_disk, stored):
    with SqliteStore(tiny_disk / "saga.db") as store:
        leases = [stored.create(store, f"x{n}", entries=0) for n in range(4)]
        ballast = tiny_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        kept = {lease.saga_id: 0 for lease in leases}
        payload = '"' + "x" * 20_000 + '"'
        failures = []
        for seq in range(1, 60):
            for lease in leases:
                if kept[lease.saga_id] != seq - 1:
                    continue
                try:
                    store.append(lease, [stored.entry(seq, payload=payload)])
                except StorageError as error:
                    failures.append(type(error))
                else:
                    kept[lease.saga_id] = seq
        assert failures == [StorageError] * 4
        assert {lease.saga_id: len(store.journal(lease.saga_id)) for lease in leases} == kept
        ballast.unlink()
        for lease in leases:
            store.append(lease, stored.entries(kept[lease.saga_id] + 1))
        assert writer(store).execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- versions of the tables


def test_a_later_version_is_refused_and_left_alone(path, stored):
    with SqliteStore(path) as store:
        stored.create(store, "x")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE saga_schema SET version = 8")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=f"version 8 .* up to {len(module.MIGRATIONS)}"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_an_earlier_version_is_led_forward_with_what_it_holds(path, stored, monkeypatch):
    with SqliteStore(path) as store:
        stored.create(store, "x", entries=2)
    later = [*module.MIGRATIONS, ("ALTER TABLE saga_inbox ADD COLUMN urgent INTEGER",), ("CREATE TABLE saga_extra (id)",)]
    monkeypatch.setattr(module, "MIGRATIONS", later)
    with SqliteStore(path) as store:
        assert store.journal("x") == stored.entries(1, 2)
        assert writer(store).execute("SELECT version FROM saga_schema").fetchall() == [(len(later),)]
        assert writer(store).execute("SELECT urgent FROM saga_inbox, saga_extra").fetchall() == []


def test_a_step_that_fails_leaves_the_version_it_began_with(path, stored, monkeypatch):
    with SqliteStore(path) as store:
        stored.create(store, "x")
    good = list(module.MIGRATIONS)
    monkeypatch.setattr(module, "MIGRATIONS", [*good, ("CREATE TABLE saga_extra (id)", "CREATE TABLE saga (id)")])
    with pytest.raises(StorageError, match="already exists"):
        SqliteStore(path)
    monkeypatch.setattr(module, "MIGRATIONS", good)
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
        assert writer(store).execute("SELECT version FROM saga_schema").fetchall() == [(len(module.MIGRATIONS),)]


# --- closing, forking


def test_who_waits_while_the_store_is_closed_is_told(store, stored):
    lease = stored.create(store, "x")
    with queueing(store) as submit:
        waiting = submit(store.append, lease, stored.entries(2))
        closing = threading.Thread(target=store.close)
        closing.start()
        until(lambda: store._commits._held)
    closing.join(10)
    assert not closing.is_alive()
    assert "closed" in str(waiting.exception())


def run(path, script: str) -> list[str]:
    """Run a script that has ``path`` and the names it needs, in a process of its own; return what it printed."""
    preamble = f"""
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        from saga.errors import StorageError
        from saga.storage import *
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
    module._before_fork()
    assert writer(store) is None
    assert store._reader is None
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(store.append, lease, stored.entries(2)), pool.submit(store.get, "x")]
        until(lambda: store._commits._queue)
        assert not any(future.done() for future in waiting)
        module._after_fork_in_parent()
    assert waiting[0].result() is None
    assert store.journal("x") == stored.entries(1, 2)


def test_a_child_begins_again(store, stored):
    lease = stored.create(store, "x")
    store.get("x")
    module._before_fork()
    module._after_fork_in_child()
    store.append(lease, stored.entries(2))
    assert store.journal("x") == stored.entries(1, 2)


def test_a_process_forks_though_a_write_does_not_end(store, stored, monkeypatch):
    lease = stored.create(store, "x")
    with queueing(store):
        module._before_fork()
        assert writer(store) is not None
        with monkeypatch.context() as patch:
            # In the child, which got there without the hooks.
            patch.setattr(os, "getpid", lambda: -1)
            for use in (lambda: store.append(lease, stored.entries(2)), lambda: store.get("x")):
                with pytest.raises(StorageError, match="outlive a fork"):
                    use()
        module._after_fork_in_parent()
        module._before_fork()
        module._after_fork_in_child()
        store._commits.resume()
    store.append(lease, stored.entries(2))


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@forks
def test_parent_and_child_each_go_on_after_a_fork(path, stored):
    script = """
        store = SqliteStore(path)
        store.create(new("x"), [entry(1)], "a", 60.0)
        store.get("x")
        lease = Lease("x", "a", 1)
        connection = store._commits._connection
        def child():
            assert store._commits._connection is None and store._reader is None
            store.append(lease, [entry(2)])
            print(len(store.journal("x")), flush=True)
            store.close()
        print(forked(child), flush=True)
        store.append(lease, [entry(3)])
        print(len(store.journal("x")), store._commits._connection is not connection)
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
        thread = threading.Thread(target=store._commits.write, args=(Write(lambda connection: (begun.set(), gate.wait(10))),))
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
