"""What only the PostgreSQL store does: connections that break, the server's clock, schemas."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from saga.errors import LeaseLostError, StorageError
from saga.storage import Beat, Lease, open_store
from saga.storage import postgres as module
from saga.storage.postgres import PostgresStore
from tests.kit import until

numbers = itertools.count(1)


@pytest.fixture
def prefix():
    return f"pg{next(numbers)}"


@pytest.fixture
def store(postgres_url, prefix):
    with PostgresStore(postgres_url, prefix=prefix, max_connections=8) as store:
        yield store


@pytest.fixture
def admin(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def cut(admin: psycopg.Connection) -> int:
    """End every connection of the stores; return how many there were."""
    ended = admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'saga'")
    return len(ended.fetchall())


class Breaking:
    """Breaks a connection right after what was sent with it has been committed, and before the answer arrives."""

    def __init__(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object] = lambda: None
    ) -> None:
        self.times = 1
        connections = store._connections
        take = connections.take

        def broken() -> psycopg.Connection:
            connection = take()
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

        monkeypatch.setattr(connections, "take", broken)


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
    connections = store._connections
    take, breaks = connections.take, iter([True])

    def broken() -> psycopg.Connection:
        if next(breaks, False):
            raise psycopg.OperationalError("connection refused")
        return take()

    monkeypatch.setattr(connections, "take", broken)
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


def test_a_message_whose_answer_was_lost_arrives_once(store, stored, monkeypatch):
    lease = stored.create(store, "x")
    Breaking(store, monkeypatch)
    store.post("x", '"hello"')
    assert [message.body for message in store.inbox("x")] == ['"hello"']
    Breaking(store, monkeypatch)
    store.release(lease, got_on=True)
    assert store.get("x").owner is None
    Breaking(store, monkeypatch)
    with pytest.raises(StorageError, match="no execution"):
        store.post("nobody", "{}")


def test_patience_ends(store, monkeypatch):
    def refuse() -> psycopg.Connection:
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(store._connections, "take", refuse)
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


# --- connections


def test_no_more_connections_are_opened_than_allowed(store, stored, admin):
    leases = [stored.create(store, f"x{n}", entries=0) for n in range(32)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda lease: [store.append(lease, stored.entries(seq)) for seq in range(1, 6)], leases))
    [count] = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'saga'").fetchone()
    assert 1 <= count <= 8


def test_a_connection_that_is_lent_is_closed_when_it_comes_back_to_a_closed_store(store):
    connection = store._connections.take()
    store.close()
    assert not connection.closed
    store._connections.give(connection)
    assert connection.closed


def test_a_child_opens_connections_of_its_own(store, stored, monkeypatch):
    lease = stored.create(store, "x")
    before = store._connections
    monkeypatch.setattr(os, "getpid", lambda: before.pid + 1)
    store.append(lease, stored.entries(2))
    assert store._connections is not before
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


# --- a crowd of threads


@contextmanager
def crowd(store: PostgresStore):
    """Let nobody write, so that whatever is submitted meanwhile waits, in the order of submission."""
    turns = store._connections.turns
    assert turns.hold(10)
    with ThreadPoolExecutor(40) as pool:

        def submit(work, *args, **kwargs) -> Future:
            waiting = len(turns._queue)
            future = pool.submit(work, *args, **kwargs)
            until(lambda: len(turns._queue) > waiting)
            return future

        try:
            yield submit
        finally:
            turns.resume()


@pytest.fixture
def together(store, monkeypatch):
    """How many writes each statement for many was given; ``then`` is called with each when it is executed."""
    sizes: list[int] = []
    turns = store._connections.turns
    write = turns._write_parts

    def counted(parts):
        written = write(parts)
        sizes.append(len(parts))
        if counted.then:
            counted.then(parts)
        return written

    counted.then, counted.sizes = None, sizes
    monkeypatch.setattr(turns, "_write_parts", counted)
    return counted


def test_a_crowd_s_writes_are_one_statement(store, stored, together, monkeypatch):
    leases = [stored.create(store, f"x{n}") for n in range(20)]
    with crowd(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2, 3)) for lease in leases[:17]]
        futures.append(submit(store.append, leases[17], stored.entries(2), status="compensating"))
        futures.append(submit(store.append, leases[18], stored.entries(2), status="completed", release=True))
        futures.append(submit(store.append, leases[19], [stored.entry(2, step=None, payload='{"é": "\\u0000"}')], release=True))
        run, runs = store._run, []
        monkeypatch.setattr(store, "_run", lambda *args, **kwargs: (runs.append(args), run(*args, **kwargs))[1])
    assert [future.result() for future in futures] == [None] * 20
    assert len(runs) == 1  # nobody wrote by itself
    monkeypatch.undo()
    assert together.sizes == [20]
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2, 3) for lease in leases[:17])
    assert store.journal("x19") == [stored.entry(1), stored.entry(2, step=None, payload='{"é": "\\u0000"}')]
    rows = [store.get(f"x{n}") for n in (0, 17, 18, 19)]
    assert [(row.status, row.owner) for row in rows] == [
        ("running", "a"),
        ("compensating", "a"),
        ("completed", None),
        ("running", None),
    ]
    assert rows[0].lease_until == rows[0].due > store.now()
    assert rows[3].lease_until == 0 < rows[3].due <= store.now()


def test_in_a_crowd_each_finds_out_by_itself_what_is_wrong(store, stored, together):
    leases = [stored.create(store, f"x{n}") for n in range(18)]
    lost = stored.create(store, "lost", lease=0.0)
    store.claim("a", 60.0, saga_id="lost")
    with crowd(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
        refused = submit(store.append, lost, stored.entries(2))
    assert isinstance(refused.exception(), LeaseLostError)
    assert together.sizes == [19]
    with crowd(store) as submit:
        futures += [submit(store.append, lease, stored.entries(3)) for lease in leases]
        double = submit(store.append, leases[0], stored.entries(2))
        unfit = submit(store.append, leases[1], [stored.entry(4, payload="\0")])
        lone = submit(store.append, leases[2], [stored.entry(4, payload='"\ud83d\ude00"')])  # JSON would take it for another
    assert "already" in str(double.exception())
    assert isinstance(unfit.exception(), StorageError)
    assert isinstance(lone.exception(), StorageError)
    assert [future.result() for future in futures] == [None] * 36
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2, 3) for lease in leases)
    assert store.journal("lost") == stored.entries(1)


@pytest.mark.parametrize("crowded", [False, True])
def test_a_locked_row_holds_up_its_own_writer_only(store, stored, postgres_url, prefix, together, crowded):
    leases = [stored.create(store, f"x{n}") for n in range(20)]
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute(f"SELECT 1 FROM {prefix} WHERE id = 'x0' FOR UPDATE")
        if crowded:
            with crowd(store) as submit:
                held_up, *futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
                store._connections.turns.resume()
                try:
                    assert [future.result(10) for future in futures] == [None] * 19
                    assert not held_up.done()
                finally:
                    other.rollback()
        else:  # the crowd was there until now
            store._connections.turns._crowded = True
            held_up = pool.submit(store.append, leases[0], stored.entries(2))
            try:
                until(lambda: together.sizes == [1])
                for lease in leases[1:]:
                    store.append(lease, stored.entries(2))
                assert not held_up.done()
            finally:
                other.rollback()
        assert held_up.result(10) is None
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2) for lease in leases)


@pytest.mark.parametrize("error", [psycopg.OperationalError("the connection is lost"), KeyboardInterrupt()])
def test_a_crowd_whose_answer_was_lost_repeats_nothing(store, stored, together, error):
    leases = [stored.create(store, f"x{n}") for n in range(20)]

    def lose(parts):
        if isinstance(error, KeyboardInterrupt):
            raise error
        raise StorageError("PostgreSQL did not answer") from error

    together.then = lose
    with crowd(store) as submit:
        leader, *futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
    assert leader.exception() is (error if isinstance(error, KeyboardInterrupt) else None)
    assert [future.result() for future in futures] == [None] * 19
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2) for lease in leases)


def test_two_writes_of_one_execution_do_not_pass_for_each_other(store, stored, together):
    leases = [stored.create(store, f"x{n}") for n in range(18)]
    stale = stored.create(store, "y", lease=0.0)
    [row] = store.claim("b", 60.0, saga_id="y")
    with crowd(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
        futures.append(submit(store.append, Lease("y", "b", row.epoch), [], status="stuck", release=True))
        zombie = submit(store.append, stale, stored.entries(2))
    assert [future.result() for future in futures] == [None] * 19
    assert isinstance(zombie.exception(), LeaseLostError)
    assert store.journal("y") == stored.entries(1)
    assert (store.get("y").status, store.get("y").owner) == ("stuck", None)


def test_who_waits_for_a_row_holds_up_no_crowd_that_comes_later(store, stored, postgres_url, prefix):
    leases = [stored.create(store, f"x{n}") for n in range(40)]
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(40) as pool:
        other.execute(f"SELECT 1 FROM {prefix} WHERE id = 'x0' FOR UPDATE")
        held_up = pool.submit(store.append, leases[0], stored.entries(2))
        until(lambda: store._connections.turns._writing)
        try:
            more = [
                pool.submit(lambda one=lease: [store.append(one, stored.entries(n)) for n in (2, 3)]) for lease in leases[1:]
            ]
            for future in more:
                future.result(10)
            assert not held_up.done()
        finally:
            other.rollback()
    assert store.journal("x0") == stored.entries(1, 2)


def test_an_interrupt_of_who_writes_for_a_crowd_ends_the_connection_it_met(store, stored, monkeypatch):
    connections = store._connections
    take, taken = connections.take, []

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    def interrupting() -> psycopg.Connection:
        taken.append(take())
        monkeypatch.setattr(taken[0], "execute", interrupted, raising=False)
        return taken[0]

    monkeypatch.setattr(connections, "take", interrupting)
    with pytest.raises(KeyboardInterrupt):
        store._write_together([])
    assert taken[0].closed


def test_the_few_that_wait_write_each_by_itself(store, stored, together):
    leases = [stored.create(store, f"x{n}") for n in range(4)]
    with crowd(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
    assert [future.result() for future in futures] == [None] * 4
    assert together.sizes == []
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2) for lease in leases)


def test_a_crowd_comes_and_goes(store, stored, together):
    leases = [stored.create(store, f"x{n}") for n in range(64)]
    turns = store._connections.turns
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda lease: [store.append(lease, stored.entries(seq)) for seq in range(2, 22)], leases))
    assert sum(together.sizes) > 320
    assert all(store.journal(lease.saga_id) == stored.entries(*range(1, 22)) for lease in leases)
    with crowd(store) as submit:
        submit(store.append, leases[0], stored.entries(22))
    assert not turns._crowded
    assert not turns._writing


# --- tables


def test_a_url_opens_a_store(postgres_url):
    with open_store(postgres_url) as store:
        assert isinstance(store, PostgresStore)
        assert store.list().executions == ()


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
    first = module.migrations
    monkeypatch.setattr(module, "migrations", lambda *names: [*first(*names), [f"ALTER TABLE {prefix} ADD COLUMN extra text"]])
    with PostgresStore(postgres_url, prefix=prefix) as later:
        assert later.journal("x") == stored.entries(1)
    assert admin.execute(f"SELECT version FROM {prefix}_schema").fetchall() == [(2,)]
    assert admin.execute(f"SELECT extra FROM {prefix}").fetchall() == [(None,)]


def test_a_step_that_fails_leaves_the_version_it_began_with(store, postgres_url, prefix, admin, monkeypatch):
    first = module.migrations
    steps = [f"CREATE TABLE {prefix}_extra (id int)", f"CREATE TABLE {prefix} (id int)"]
    monkeypatch.setattr(module, "migrations", lambda *names: [*first(*names), steps])
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
    old = plan(admin, sql.old, ("stuck", 1.0, 1.0, 5))
    assert f"Index Scan using {prefix}_listed on" in old
    assert "Sort" not in old
    page = plan(admin, sql.listing(2, False), ("stuck", 0.0, 1.0, 1.0, "x", 5, "running", 0.0, 1.0, 1.0, "x", 5, 5))
    assert page.count(f"Index Scan Backward using {prefix}_listed on") == 2
    page = plan(admin, sql.listing(1, True), ("stuck", "order", 0.0, 1.0, 1.0, "x", 5, 5))
    assert page.count(f"Index Scan Backward using {prefix}_listed_by_name on") == 1
