"""SQLite's file: what was acknowledged is in it at that moment; full disks and others' locks stop an execution, and no more."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from saga import Context, Saga, Task
from saga.errors import StorageError
from saga.recovery import Recovery
from saga.storage import SqliteStore

LEASE = 0.2


class Step(Task):
    """Logs its effect; calls ``during`` in the middle of its execute."""

    def __init__(self, name, log, during=None, result=None):
        self.name, self.log, self.during, self.result = name, log, during, result

    def execute(self, context):
        self.log.append(f"did {self.name}")
        if self.during is not None:
            self.during()
        return self.result

    def compensate(self, context):
        self.log.append(f"undid {self.name}")


def order(log, during=None, result=None, lease=LEASE):
    saga = Saga("order", lease=lease)
    return saga.add_task(Step("a", log)).add_task(Step("b", log, during, result)).add_task(Step("c", log))


def recover(path, log):
    """Recover what is left once its lease has run out, as another process would."""
    with SqliteStore(path, clock=lambda: time.time() + 60.0) as store:
        results = Recovery(store, [order(log)]).run_once()
        return [str(result.status) for result in results], [entry.kind for entry in store.journal("x")]


def expect_in_doubt(path, log, kinds):
    """Step b happened and could not be stored: it is in doubt, nothing ran since, and a recovery undoes it."""
    assert log == ["did a", "did b"]
    assert kinds == ["SagaStarted", "StepStarted", "StepSucceeded", "StepStarted"]
    statuses, after = recover(path, log)
    assert statuses == ["compensated"]
    assert log == ["did a", "did b", "undid b", "undid a"]
    assert after[-1] == "SagaCompensated"


def stored_kinds(path):
    with SqliteStore(path) as store:
        return [entry.kind for entry in store.journal("x")]


# --- power


class Copying(SqliteStore):
    """Has another process copy the files at the moment an append or a create returned."""

    copies = 0

    def _copied(self, saga_id, entries):
        assert self._file._commits._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert self._file._commits._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        Copying.copies += 1
        copy = f"{self._file.path}.copy{Copying.copies}"
        for suffix in ("", "-wal"):
            subprocess.run(["cp", self._file.path + suffix, copy + suffix], check=True)
        with SqliteStore(copy) as other:
            assert [entry.seq for entry in other.journal(saga_id)][-len(entries) :] == [entry.seq for entry in entries]
            assert other.journal(saga_id)[-1] == entries[-1]

    def create(self, new, entries, owner, lease_seconds):
        existing = super().create(new, entries, owner, lease_seconds)
        self._copied(new.saga_id, entries)
        return existing

    def append(self, lease, entries, **more):
        super().append(lease, entries, **more)
        self._copied(lease.saga_id, entries)


def test_what_was_acknowledged_is_in_the_files_at_that_moment(tmp_path):
    """The disk's caches are the kernel's affair; what is told to it, in which order, and that it is told to sync is ours."""
    log = []

    def fail():
        raise ValueError("no")

    with Copying(tmp_path / "saga.db") as store:
        saga = order(log, fail, lease=60.0)  # no heartbeat between the copies of the two files
        assert str(saga.try_execute(saga_id="x", store=store).status) == "compensated"
    assert Copying.copies == 4


# --- full disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few MB. Where none can be mounted, the other test fills a file that may not grow."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system could be mounted: {mounted.stderr!r}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    with (place / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"x" * 4096)


def test_a_disk_that_is_full_leaves_the_step_in_doubt(small_disk):
    log, path = [], small_disk / "saga.db"
    with SqliteStore(path) as store:
        with pytest.raises(StorageError, match=r"full|disk I/O"):
            order(log, lambda: fill(small_disk), result="x" * 20000).execute(saga_id="x", store=store)
        (small_disk / "ballast").unlink()
    expect_in_doubt(path, log, stored_kinds(path))


class Narrow(SqliteStore):
    """May grow no further once it is told so."""

    def stop_growing(self):
        connection = self._file._commits._connection
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")


def test_a_file_that_may_not_grow_leaves_the_step_in_doubt(tmp_path):
    log, path = [], tmp_path / "saga.db"
    with Narrow(path) as store, pytest.raises(StorageError, match="full"):
        order(log, store.stop_growing, result="x" * 100000).execute(saga_id="x", store=store)
    expect_in_doubt(path, log, stored_kinds(path))


def test_a_disk_that_is_full_from_the_start_runs_nothing(tmp_path):
    log = []
    with Narrow(tmp_path / "saga.db") as store:
        store.stop_growing()
        with pytest.raises(StorageError, match="full"):
            order(log).execute(Context(big="x" * 100000), saga_id="x", store=store)
        assert store.get("x") is None
    assert log == []


# --- locks

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


class Holder:
    """Another process that has the file locked until it is let go."""

    def __init__(self, path):
        self.path = path

    def hold(self):
        command = [sys.executable, "-c", HOLD, str(self.path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def let_go(self):
        self.process.communicate("go on\n", timeout=20)


def test_a_file_that_others_lock_for_longer_than_the_timeout_leaves_the_step_in_doubt(tmp_path):
    log, path = [], tmp_path / "saga.db"
    holder = Holder(path)
    with SqliteStore(path, busy_timeout=0.1) as store:
        with pytest.raises(StorageError, match="locked"):
            order(log, holder.hold).execute(saga_id="x", store=store)
        holder.let_go()
    expect_in_doubt(path, log, stored_kinds(path))


def test_a_file_that_others_lock_for_less_than_the_timeout_delays_the_execution(tmp_path):
    log, path = [], tmp_path / "saga.db"
    holder = Holder(path)

    def hold_a_while():
        holder.hold()
        threading.Timer(0.3, holder.let_go).start()

    with SqliteStore(path) as store:
        saga = order(log, hold_a_while, lease=30.0)
        assert saga.execute(saga_id="x", store=store).ok
    assert log == ["did a", "did b", "did c"]


def test_a_store_that_is_closed_in_mid_run_leaves_the_step_in_doubt(tmp_path):
    log, path = [], tmp_path / "saga.db"
    store = SqliteStore(path)
    with pytest.raises(StorageError, match="closed"):
        order(log, store.close).execute(saga_id="x", store=store)
    expect_in_doubt(path, log, stored_kinds(path))
