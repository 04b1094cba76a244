"""Writers that share commits: each gets its own outcome, whatever fails or is interrupted."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from saga.errors import LeaseLostError, StorageError, UnknownExecutionError
from saga.storage import Lease, SqliteStore, sqlite_sql
from saga.storage.group_commit import Write
from tests.kit import until
from tests.storage.sqlite_writer import Commits, Failing, queueing, writer


@pytest.fixture
def store(path):
    with SqliteStore(path, busy_timeout=0.2) as store:
        yield store


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
    assert [type(error) for error in errors] == [LeaseLostError] * 2 + [StorageError] * 6 + [UnknownExecutionError]
    assert [future.result() for future in fine] == [None] * 4
    assert claim.result() == []
    assert existing.result().owner == "a"
    assert store.journal("good0") == stored.entries(1, 2)
    assert store.journal("good1") == stored.entries(1, 2, 3, 4)
    assert store.journal("lost") == stored.entries(1)
    assert store.inbox("good0") == [message]
    assert [store.get(f"good{n}").status for n in range(3)] == ["running", "compensating", "running"]
    assert store.get("new") is None


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
def test_a_failing_commit_fails_its_whole_group_and_stores_nothing(store, stored, statement):
    leases = [stored.create(store, f"x{n}") for n in range(8)]
    with queueing(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
        stale = submit(store.append, Lease("x0", "z", 1), stored.entries(3))
        # The one that they wait for goes on with the connection it began with.
        error = sqlite3.OperationalError("disk I/O error")
        store._file._commits._connection = Failing(writer(store), statement, 1, error)
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
    store._file._commits._connection = Failing(writer(store), "COMMIT", 1, sqlite3.OperationalError("disk I/O error"))
    with pytest.raises(StorageError, match="disk I/O error; nothing was stored"):
        store.append(lease, stored.entries(2, 3), status="running")
    assert store.journal("x") == stored.entries(1)
    store.append(lease, stored.entries(2, 3))


def test_a_connection_that_cannot_roll_back_is_opened_again(store, stored):
    lease = stored.create(store, "x")

    class Broken(Failing):
        def rollback(self):
            raise sqlite3.OperationalError("disk I/O error")

    store._file._commits._connection = Broken(writer(store), "COMMIT", 1, sqlite3.OperationalError("disk I/O error"))
    with pytest.raises(StorageError):
        store.append(lease, stored.entries(2, 3), status="running")
    assert writer(store) is None
    store.append(lease, stored.entries(2, 3))
    assert store.journal("x") == stored.entries(1, 2, 3)


# --- interrupts


def test_an_interrupt_of_the_leader_fails_the_group_and_is_raised_in_the_leader_only(store, stored):
    leases = [stored.create(store, f"x{n}") for n in range(3)]

    def interrupted(connection):
        assert sqlite_sql.insert_entries(connection, ["x0", 9, "Kind", None, "{}", 0.0, leases[0].epoch, leases[0].owner]) == 1
        raise KeyboardInterrupt

    with queueing(store) as submit:
        leader = submit(store._file._commits.write, Write(interrupted))
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
        store._file._commits._connection = Interrupted(real, "", 0, KeyboardInterrupt())
    assert isinstance(futures[0].exception(), KeyboardInterrupt)
    assert [future.exception() for future in futures[1:]] == [None, None]
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2) for lease in leases)


def interrupt_when(condition) -> None:
    """Send this process a SIGINT once the condition holds."""
    threading.Thread(target=lambda: (until(condition), os.kill(os.getpid(), signal.SIGINT))).start()


def test_one_that_is_interrupted_in_the_queue_leaves_it(store, stored):
    one, two = stored.create(store, "one"), stored.create(store, "two")
    with queueing(store) as submit:
        other = submit(store.append, two, stored.entries(2))
        interrupt_when(lambda: len(store._file._commits._queue) == 2)
        with pytest.raises(KeyboardInterrupt):
            store.append(one, stored.entries(2))
    assert other.result() is None
    assert store.journal("one") == stored.entries(1)
    store.append(one, stored.entries(2))


def test_one_that_is_interrupted_while_another_writes_for_it_waits_for_the_end(store, stored):
    one = stored.create(store, "one")
    leading, gate = threading.Event(), threading.Event()

    def lead(connection):
        leading.set()
        assert gate.wait(10)

    first = threading.Event()
    with queueing(store, first) as submit:
        leader = submit(store._file._commits.write, Write(lead))
        until_queued = threading.Thread(target=lambda: (until(lambda: len(store._file._commits._queue) == 2), first.set()))
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
    commits = store._file._commits
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
