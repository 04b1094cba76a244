"""Transactional steps, struck at every line of what makes them: by kill -9, by Ctrl-C, by cancellations.

Each is done once, or undone, and none is in doubt: of plain functions and coroutine functions, in files and on servers.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import saga as package
from saga import Saga, Status, step
from saga.recovery import Recovery
from saga.storage import SqliteStore
from tests.kit import PATIENCE, ledgers, until_nothing_is_held
from tests.kit.ledgers import THREADS, WAYS, Ledger
from tests.kit.strikes import Strikes, in_files

HOME = Path(package.__file__).parent
COROUTINES = WAYS[-1]
NAMES = {"transacted", "transacted_in_loop", "to_the_end", "transaction", "transactions", "sqlite_step", "postgres_step"}
NAMES |= {"postgres_step_in_loop", "sqlalchemy_step", "sqlalchemy_step_in_loop"}
FILES = {path for path in HOME.glob("*/*.py") if path.stem in NAMES}
KILLED = FILES | {HOME / "durable" / "journal.py", HOME / "storage" / "group_commit.py", HOME / "machine" / "decide.py"}
KILLED |= {Path(ledgers.__file__)}
STRUCK = FILES | {HOME / "drivers" / f"{room}.py" for room in ("threads", "outcomes", "interrupts")}
STRUCK_IN_LOOP = FILES | {HOME / "drivers" / f"{room}.py" for room in ("aio", "outcomes", "interrupts")}
FULL = os.environ.get("SAGA_CRASH") == "full"
STEP = 1 if FULL else 7
STEP_OF_STRIKES = 1 if FULL else 23  # each runs the whole under a tracer


def fail(context):
    raise ValueError("no")


def of_two(store, fails, way=THREADS):
    saga = Saga("order", store=store, lease=5.0)
    for name in ("enter", "book"):
        saga.add_task(step(way.of(Ledger.write), way.of(Ledger.take_back), name=name, transactional=True))
    return saga.add_task(step(way.of(fail), transactional=True)) if fails else saga


def in_a_child(work):
    """Do it in a child. Return what ``waitpid`` says of it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def killed_at(opened, position, fails, way, saga_id="x"):
    """Execute it in a child, which is killed at this line. Return whether it came that far."""

    def work():
        saga = of_two(opened(), fails, way)
        trace = Strikes(in_files(KILLED), {position}, lambda: os.kill(os.getpid(), signal.SIGKILL))
        threading.settrace(trace)
        sys.settrace(trace)
        way.executed(saga, saga_id)

    return os.WIFSIGNALED(in_a_child(work))


def is_right(saga, saga_id, fails):
    """Whether an execution that was finished by a recovery has ended as it should have, with all that it did."""
    result = saga.load(saga_id)
    rows = Ledger.of(saga.store).rows()
    ended = (Status.COMPENSATED, []) if fails else (Status.COMPLETED, ["book", "enter"])
    return (result.in_doubt, (result.status, rows)) == ((), ended)


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
fails = pytest.mark.parametrize("fails", [False, True], ids=["good", "undone"])
# A pool of SQLAlchemy's does not close what is lent when it is disposed of, such as to a heartbeat.
left_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@forks
@fails
def test_wherever_it_is_killed_each_step_is_done_once_and_none_is_in_doubt(tmp_path, fails):
    for position in itertools.count(1, STEP):
        path = tmp_path / f"{position}.db"
        with SqliteStore(path, synchronous="OFF") as store:
            Ledger(store)
        if not killed_at(lambda: SqliteStore(path, synchronous="OFF"), position, fails, THREADS):  # noqa: B023
            break
        later = [0.0]
        with SqliteStore(path, synchronous="OFF", clock=lambda: later[0]) as store:  # noqa: B023
            row = store.get("x")
            later[0] = row.lease_until + 60.0 if row is not None else 0.0
            if row is None:
                assert Ledger.of(store).rows() == []
                continue
            saga = of_two(store, fails)
            Recovery(store, [saga]).run_once()
            assert is_right(saga, "x", fails), position
    assert position > 100


def on_postgres(request):
    from saga.storage.postgres import PostgresStore

    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresStore(url, prefix="struck")


def through_sqlalchemy(fixture, scheme):
    def opening(request):
        pytest.importorskip("sqlalchemy")
        from saga.storage.sqlalchemy import SQLAlchemyStore

        url = request.getfixturevalue(fixture).replace("postgresql:", scheme)
        return lambda: SQLAlchemyStore(url, prefix="struck_too")

    return opening


SERVERS = {
    "postgres": on_postgres,
    "sqlalchemy-postgres": through_sqlalchemy("postgres_url", "postgresql+psycopg:"),
    "mariadb": through_sqlalchemy("mariadb_url", ""),
}


def let_its_lease_run_out(store, table, saga_id):
    """Make an execution's lease one that has run out."""
    ledger = Ledger.of(store)
    update = f"UPDATE {table} SET lease_until = lease_until - 60, due = due - 60 WHERE id = '{saga_id}'"
    ledger.within(lambda connection: ledger.run(connection, update))


@forks
@fails
@pytest.mark.parametrize("way", [THREADS, COROUTINES], ids=lambda way: way.name)
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@left_open
def test_wherever_it_is_killed_on_a_server_each_step_is_done_once(server, way, fails, request, chance):
    opened = SERVERS[server](request)
    positions = itertools.count(1) if FULL else chance.sample(range(1, 400), 8)
    killed = ended = 0
    for position in positions:
        saga_id = f"{way.name}{position}{fails}"
        with opened() as store:
            ledger = Ledger(store)
        if not killed_at(opened, position, fails, way, saga_id):
            ended += 1
            if FULL:
                break
            continue
        killed += 1
        with opened() as store:
            if store.get(saga_id) is None:
                assert ledger.of(store).rows() == []
                continue
            table = "struck" if server == "postgres" else "struck_too"
            let_its_lease_run_out(store, table, saga_id)
            saga = of_two(store, fails, way)
            Recovery(store, [saga]).run_once()
            assert is_right(saga, saga_id, fails), (position, saga.load(saga_id))
    assert killed > ended, (killed, ended)


@pytest.mark.parametrize("apart", [0, 2])
@fails
def test_wherever_interrupts_strike_each_step_is_done_once_or_undone(tmp_path, fails, apart):
    for position in itertools.count(1, STEP_OF_STRIKES):
        struck = []

        def strike(struck=struck):
            struck.append(True)
            raise KeyboardInterrupt

        now = [1000.0]
        with SqliteStore(tmp_path / f"{position}.db", synchronous="OFF", clock=lambda: now[0]) as store:  # noqa: B023
            ledger, saga = Ledger(store), of_two(store, fails)
            sys.settrace(Strikes(in_files(STRUCK), {position, position + apart}, strike))
            try:
                saga.try_execute(saga_id="x")
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            if not struck:
                break
            gc.collect()
            until_nothing_is_held(store)
            now[0] += 60.0
            Recovery(store, [saga]).run_once()
            if store.get("x") is None:  # it had not begun
                assert ledger.rows() == []
                continue
            result = saga.load("x")
            assert result.status in (Status.COMPLETED, Status.COMPENSATED), (position, result)
            assert ledger.rows() == (["book", "enter"] if result.status is Status.COMPLETED else []), (position, result)
    assert position > 100


def interrupted_at(opened, position, fails, saga_id):
    """Execute it in a child, where Ctrl-C strikes twice from this line on. Return whether it came that far."""

    def work():
        struck = []

        def strike():
            struck.append(True)
            raise KeyboardInterrupt

        signal.alarm(int(PATIENCE))  # it ends
        saga = of_two(opened(), fails, COROUTINES)
        sys.settrace(Strikes(in_files(STRUCK_IN_LOOP), {position, position + 2}, strike))
        with suppress(BaseException):
            COROUTINES.executed(saga, saga_id)
        sys.settrace(None)
        os._exit(1 if struck else 0)

    status = in_a_child(work)
    assert not os.WIFSIGNALED(status), position
    return status != 0


@forks
@fails
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wherever_ctrl_c_strikes_in_an_event_loop_each_step_is_done_once_or_undone(fails, request, chance):
    opened = SERVERS["postgres"](request)
    positions = itertools.count(1) if FULL else chance.sample(range(1, 480), 12)
    for position in positions:
        saga_id = f"interrupted{position}{fails}"
        with opened() as store:
            ledger = Ledger(store)
        if not interrupted_at(opened, position, fails, saga_id):
            break
        with opened() as store:
            ledger, saga = Ledger.of(store), of_two(store, fails, COROUTINES)
            if store.get(saga_id) is None:
                assert ledger.rows() == []
                continue
            let_its_lease_run_out(store, "struck", saga_id)
            Recovery(store, [saga]).run_once()
            result = saga.load(saga_id)
            assert result.in_doubt == (), (position, result)
            assert result.status in (Status.COMPLETED, Status.COMPENSATED), (position, result)
            assert ledger.rows() == (["book", "enter"] if result.status is Status.COMPLETED else []), (position, result)
    assert position > 12


def cancelled_at(saga, saga_id, positions):
    """Execute it as a task that is cancelled at these lines. Return whether it came that far, and the task."""
    struck = []

    async def executed():
        def strike():
            struck.append(True)
            task.cancel()

        task = asyncio.create_task(saga.atry_execute(saga_id=saga_id))
        sys.settrace(Strikes(in_files(STRUCK_IN_LOOP), positions, strike))
        try:
            await asyncio.wait([task])
        finally:
            sys.settrace(None)
        return task

    return asyncio.run(executed()), bool(struck)


@fails
@pytest.mark.parametrize("apart", [0, 2])
@pytest.mark.parametrize("server", ["postgres", "sqlalchemy-postgres"])
@left_open
def test_wherever_a_cancellation_strikes_each_step_is_done_once_or_undone(server, fails, apart, request, chance):
    opened = SERVERS[server](request)
    positions = itertools.count(1) if FULL else sorted(chance.sample(range(1, 1400), 40))
    with opened() as store:
        for position in positions:
            ledger, saga = Ledger(store), of_two(store, fails, COROUTINES)
            saga_id = f"{position}{fails}{apart}"
            task, struck = cancelled_at(saga, saga_id, {position, position + apart})
            if not struck:
                break
            until_nothing_is_held(store)
            if store.get(saga_id) is None:
                assert task.cancelled()
                assert ledger.rows() == []
                continue
            Recovery(store, [saga]).run_once()
            result = saga.load(saga_id)
            assert result.in_doubt == (), (position, result)
            assert result.status in (Status.COMPLETED, Status.COMPENSATED), (position, result)
            assert task.cancelled() or result.status is task.result().status or fails, position
            assert ledger.rows() == (["book", "enter"] if result.status is Status.COMPLETED else []), (position, result)
    assert position > 100
