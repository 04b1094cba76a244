"""A crowd of threads that append to PostgreSQL: one statement for all, and each its own outcome."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from saga.errors import LeaseLostError, StorageError
from saga.storage import Lease
from saga.storage.postgres import PostgresStore
from tests.kit import until


@pytest.fixture
def store(postgres_url, prefix):
    with PostgresStore(postgres_url, prefix=prefix, max_connections=8) as store:
        yield store


@contextmanager
def crowd(store: PostgresStore):
    """Let nobody write, so that whatever is submitted meanwhile waits, in the order of submission."""
    turns = store._pool.turns
    assert turns.halt(10)
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
    turns = store._pool.turns
    write = turns._append_together

    def counted(appends):
        written = write(appends)
        sizes.append(len(appends))
        if counted.then:
            counted.then(appends)
        return written

    counted.then, counted.sizes = None, sizes
    monkeypatch.setattr(turns, "_append_together", counted)
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
                store._pool.turns.resume()
                try:
                    assert [future.result(10) for future in futures] == [None] * 19
                    assert not held_up.done()
                finally:
                    other.rollback()
        else:  # the crowd was there until now
            store._pool.turns._crowded = True
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

    def lose(appends):
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
        until(lambda: store._pool.turns._writing)
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
    pool = store._pool
    lend, lent = pool.lend, []

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    def interrupting() -> psycopg.Connection:
        lent.append(lend())
        monkeypatch.setattr(lent[0], "execute", interrupted, raising=False)
        return lent[0]

    monkeypatch.setattr(pool, "lend", interrupting)
    with pytest.raises(KeyboardInterrupt):
        store._append_together([])
    assert lent[0].closed


def test_the_few_that_wait_write_each_by_itself(store, stored, together):
    leases = [stored.create(store, f"x{n}") for n in range(4)]
    with crowd(store) as submit:
        futures = [submit(store.append, lease, stored.entries(2)) for lease in leases]
    assert [future.result() for future in futures] == [None] * 4
    assert together.sizes == []
    assert all(store.journal(lease.saga_id) == stored.entries(1, 2) for lease in leases)


def test_a_crowd_comes_and_goes(store, stored, together):
    leases = [stored.create(store, f"x{n}") for n in range(64)]
    turns = store._pool.turns
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda lease: [store.append(lease, stored.entries(seq)) for seq in range(2, 22)], leases))
    assert sum(together.sizes) > 320
    assert all(store.journal(lease.saga_id) == stored.entries(*range(1, 22)) for lease in leases)
    with crowd(store) as submit:
        submit(store.append, leases[0], stored.entries(22))
    assert not turns._crowded
    assert not turns._writing
