"""What only the SQLite store does: a clock of one's own, locked files, full disks."""

from __future__ import annotations

import ctypes
import sqlite3
import threading
import time
from contextlib import suppress

import pytest

from saga.errors import StorageError
from saga.storage import SqliteStore
from tests.storage.contract import ids
from tests.storage.sqlite_writer import queueing, writer


@pytest.fixture
def store(path):
    with SqliteStore(path, busy_timeout=0.2) as store:
        yield store


def test_the_clock_may_be_given(path, stored):
    now = 1000.0
    with SqliteStore(path, clock=lambda: now) as store:
        stored.create(store, "x", lease=10.0)
        assert store.now() == 1000.0
        assert store.claim("b", 5.0) == []
        now = 1010.0
        assert store.claim("b", 5.0)[0].lease_until == 1015.0


def test_who_has_a_key_has_it_though_another_was_stored_before(path, stored):
    """By a clock that was set back."""
    now = 1000.0
    with SqliteStore(path, clock=lambda: now) as store:
        stored.submit(store, "a", exclusive="k")
        assert ids(store.claim("w", 60.0)) == ["a"]
        now = 900.0
        stored.submit(store, "b", exclusive="k")
        assert store.claim("w", 60.0) == []


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
