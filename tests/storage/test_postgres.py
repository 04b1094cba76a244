"""What only the PostgreSQL store does: connections that break, and answers that are lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from saga.errors import LeaseLostError, StorageError, UnknownExecutionError, UnreadMessagesError
from saga.storage import Append, Lease, open_store
from saga.storage.postgres import PostgresStore
from tests.kit import until


@pytest.fixture
def store(postgres_url, prefix):
    with PostgresStore(postgres_url, prefix=prefix, max_connections=8) as store:
        yield store


def cut(admin: psycopg.Connection) -> int:
    """End every connection of the stores; return how many there were."""
    ended = admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'saga'")
    return len(ended.fetchall())


def waiting(admin: psycopg.Connection) -> int:
    """Return how many statements of the stores wait for what somebody has locked."""
    activity = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'saga' AND wait_event_type = 'Lock'"
    return admin.execute(activity).rowcount


class Breaking:
    """Breaks a connection right after what was sent with it has been committed, and before the answer arrives."""

    def __init__(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object] = lambda: None
    ) -> None:
        self.times = 1
        pool = store._pool
        lend = pool.lend

        def broken() -> psycopg.Connection:
            connection = lend()
            if not self.times:
                return connection
            self.times -= 1
            execute = connection.execute

            def execute_and_break(*args, **kwargs):
                execute(*args, **kwargs)
                connection.close()
                then()
                raise psycopg.OperationalError("server closed the connection unexpectedly")

            monkeypatch.setattr(connection, "execute", execute_and_break, raising=False)
            return connection

        monkeypatch.setattr(pool, "lend", broken)


def test_a_url_opens_a_store(postgres_url):
    with open_store(postgres_url) as store:
        assert isinstance(store, PostgresStore)
        assert store.get("nobody's") is None


# --- connections that break


def test_a_connection_that_was_cut_is_replaced(store, stored, admin):
    lease = stored.create(store, "x")
    for seq in range(2, 6):
        assert cut(admin) >= 1
        store.append(lease, stored.entries(seq))
    assert cut(admin) >= 1
    assert store.journal("x") == stored.entries(1, 2, 3, 4, 5)


def test_connections_cut_while_threads_append_cost_and_double_nothing(store, stored, admin):
    leases = [stored.create(store, f"x{n}", entries=0) for n in range(8)]
    over = threading.Event()
    counts = {}

    def work(lease: Lease) -> None:
        for seq in itertools.count(1, 3):
            store.append(lease, stored.entries(seq))
            store.append(lease, stored.entries(seq + 1, seq + 2))
            counts[lease.saga_id] = seq + 2
            if over.is_set():
                return

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work, lease) for lease in leases]
        cuts = 0
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            time.sleep(0.05)
            cuts += cut(admin)
        over.set()
        for future in futures:
            future.result()
    assert cuts > 10
    for lease in leases:
        assert store.journal(lease.saga_id) == stored.entries(*range(1, counts[lease.saga_id] + 1))


@pytest.mark.parametrize("seqs", [(2,), (2, 3), ()])
@pytest.mark.parametrize("more", [{}, {"status": "compensating"}, {"status": "completed", "release": True}, {"release": True}])
def test_an_append_whose_answer_was_lost_is_not_repeated(store, stored, monkeypatch, seqs, more):
    lease = stored.create(store, "x")
    breaking = Breaking(store, monkeypatch)
    store.append(lease, stored.entries(*seqs), **more)
    assert breaking.times == 0
    assert store.journal("x") == stored.entries(1, *seqs)
    row = store.get("x")
    assert (row.status, row.owner, row.epoch) == (more.get("status", "running"), None if "release" in more else "a", 1)


def test_an_append_whose_answer_was_lost_and_whose_lease_is_gone_says_so(store, stored, monkeypatch):
    lease = stored.create(store, "x", lease=0.0)
    Breaking(store, monkeypatch, then=lambda: store.claim("b", 60.0, saga_id="x"))
    with pytest.raises(LeaseLostError):
        store.append(lease, stored.entries(2))
    stored.create(store, "y")
    Breaking(
        store,
        monkeypatch,
        then=lambda: (
            store.append(Lease("y", "a", 1), [], status="stuck", release=True),
            store.purge(updated_before=store.now() + 1, status=["stuck"]),
        ),
    )
    with pytest.raises(LeaseLostError):
        store.append(Lease("y", "a", 1), stored.entries(2))


def test_an_append_that_never_arrived_meets_a_foreign_entry(store, stored, monkeypatch, admin, prefix):
    lease = stored.create(store, "x")
    pool = store._pool
    lend, breaks = pool.lend, iter([True])

    def broken() -> psycopg.Connection:
        if next(breaks, False):
            raise psycopg.OperationalError("connection refused")
        return lend()

    monkeypatch.setattr(pool, "lend", broken)
    admin.execute(f"INSERT INTO {prefix}_journal VALUES ('x', 2, 'Other', NULL, '{{}}', 0)")
    with pytest.raises(StorageError, match="already") as caught:
        store.append(lease, stored.entries(2))
    assert not isinstance(caught.value, LeaseLostError)


def test_a_create_whose_answer_was_lost_is_ours(store, stored, monkeypatch):
    Breaking(store, monkeypatch)
    assert store.create(stored.new("x"), stored.entries(1, 2), "a", 60.0) is None
    assert store.journal("x") == stored.entries(1, 2)
    Breaking(store, monkeypatch)
    assert store.create(stored.new("x"), stored.entries(1, 3), "a", 60.0) == store.get("x")
    assert store.journal("x") == stored.entries(1, 2)


def test_what_was_submitted_is_ours_though_the_answer_was_lost(store, stored, monkeypatch):
    new = [(stored.new(one, status="submitted", tags={"order": one}), stored.entries(1)) for one in ("a", "b")]
    Breaking(store, monkeypatch)
    assert store.submit([*new, new[0]])[:2] == [None, None]
    assert [store.journal(one) for one in ("a", "b")] == [stored.entries(1)] * 2
    assert len(store.list(tags={"order": "a"}).executions) == 1
    Breaking(store, monkeypatch)
    other = (stored.new("b", status="submitted"), [stored.entry(1, payload='"other"')])
    assert store.submit([other]) == [store.get("b")]


def test_what_comes_first_of_many_was_stored_before_the_others(store, stored):
    ids = [f"x{n}" for n in (5, 3, 9, 1)]
    stored.submit(store, *ids)
    assert [row.saga_id for row in reversed(store.list().executions)] == ids


def test_a_message_that_comes_while_an_end_waits_for_the_row_is_not_lost(store, stored, postgres_url, prefix, admin):
    lease = stored.create(store, "x")
    end = Append(lease, stored.entries(2), "completed", True)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_url) as other:
        other.execute(f"UPDATE {prefix} SET due = 0 WHERE id = 'x'")
        other.execute(f"INSERT INTO {prefix}_inbox (saga_id, body, token) VALUES ('x', '{{}}', 't')")
        ends = pool.submit(store.append, lease, end.entries, status="completed", release=True)
        until(lambda: waiting(admin))
        assert store.append_each([end]) == [False]
        other.commit()
        with pytest.raises(UnreadMessagesError):
            ends.result(60)
    [message] = store.inbox("x")
    store.append(lease, end.entries, status="completed", release=True, taken=[message.id])
    assert store.get("x").status == "completed"


def test_an_end_that_waited_for_the_row_while_nothing_came_is_stored(store, stored, postgres_url, prefix, admin):
    lease = stored.create(store, "x")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_url) as other:
        other.execute(f"UPDATE {prefix} SET due = due + 1 WHERE id = 'x'")
        ends = pool.submit(store.append, lease, stored.entries(2), status="completed", release=True)
        until(lambda: waiting(admin))
        other.commit()
        ends.result(60)
    assert store.get("x").status == "completed"


def test_a_message_whose_answer_was_lost_arrives_once(store, stored, monkeypatch):
    lease = stored.create(store, "x")
    Breaking(store, monkeypatch)
    store.post("x", '"hello"')
    assert [message.body for message in store.inbox("x")] == ['"hello"']
    Breaking(store, monkeypatch)
    store.release(lease, got_on=True)
    assert store.get("x").owner is None
    Breaking(store, monkeypatch)
    with pytest.raises(UnknownExecutionError, match="no execution"):
        store.post("nobody", "{}")


def test_patience_ends(store, monkeypatch):
    def refuse() -> psycopg.Connection:
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(store._pool, "lend", refuse)
    monkeypatch.setattr(store, "_patience", 0.2)
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"did not answer for 0\.2 seconds: connection refused"):
        store.get("x")
    assert time.monotonic() - began < 2


def test_an_interrupt_ends_the_connection_it_met(store, stored):
    stored.create(store, "x")
    seen = []

    def interrupted(connection, again):
        seen.append(connection)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._run(interrupted)
    assert seen[0].closed
    assert store.get("x")


def test_a_fault_of_a_value_is_no_reason_to_try_again(store, stored):
    lease = stored.create(store, "x")
    for changes in ({"payload": "\0"}, {"payload": "\ud800"}, {"seq": 2**70}, {"kind": None}):
        began = time.monotonic()
        with pytest.raises(StorageError, match="PostgreSQL"):
            store.append(lease, [stored.entry(**{"seq": 2} | changes)])
        assert time.monotonic() - began < 2
    assert store.journal("x") == stored.entries(1)
