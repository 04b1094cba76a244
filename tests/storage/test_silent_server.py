"""A PostgreSQL server that says nothing any more, though its connections stand: stopped, or behind a broken network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import nullcontext

import psycopg
import pytest

from saga import Saga, Status, step
from saga.errors import StorageError
from saga.storage import Store, postgres_pool, postgres_silence, psycopg2_silence
from saga.storage.postgres import PostgresStore
from saga.storage.postgres_silence import WatchedConnection
from saga.storage.sqlalchemy import SQLAlchemyStore
from saga.worker import Worker
from tests.kit import background, until, within
from tests.kit.relays import Silencing, connector


@pytest.fixture
def relays(postgres_url) -> Iterator[list[Silencing]]:
    relays = [Silencing(connector(postgres_url)) for _ in range(2)]
    yield relays
    for relay in relays:
        relay.close()


@pytest.fixture
def relay(relays) -> Silencing:
    return relays[0]


@pytest.fixture
def hosts(relays, request) -> str:
    """The first of the addresses, or several."""
    return ",".join(f"127.0.0.1:{relay.port}" for relay in relays[: getattr(request, "param", 1)])


@pytest.fixture
def url(hosts, monkeypatch) -> str:
    for module in (postgres_silence, psycopg2_silence):
        monkeypatch.setattr(module, "SILENCE", 0.2)
    return f"postgresql://postgres@{hosts}/postgres?connect_timeout=2"


@pytest.fixture
def store(url, prefix) -> Iterator[PostgresStore]:
    with PostgresStore(url, prefix=prefix, patience=0.1) as store:
        yield store


@pytest.fixture(params=["postgres", "psycopg", "psycopg2"])
def either(request, url, prefix) -> Iterator[Store]:
    """A store of either kind, of SQLAlchemy's with either driver."""
    if request.param == "postgres":
        yield request.getfixturevalue("store")
        return
    with SQLAlchemyStore(url.replace("postgresql", f"postgresql+{request.param}"), prefix=prefix, patience=0.1) as store:
        yield store


def test_a_server_that_falls_silent_is_an_error(either, stored, relay):
    lease = stored.create(either, "x")
    relay.silent.set()
    for use in (
        lambda: either.append(lease, stored.entries(2)),
        lambda: either.renew("a", [lease], 60.0),
    ):
        with pytest.raises(StorageError, match=r"for 0\.1 seconds"):
            within(30, use)


def test_an_event_loop_waits_for_it_no_longer_either(store, relay):
    async def nothing() -> None:
        pass

    async def fall_silent() -> None:
        assert store._pool.in_loops._lines
        relay.silent.set()

    saga = Saga("x", store=store)
    for name, work in (("before", nothing), ("silent", fall_silent), ("after", pytest.fail)):
        saga.add_task(step(work, name=name))
    with pytest.raises(StorageError, match="did not answer"):
        within(30, lambda: asyncio.run(saga.aexecute()))


def test_one_that_accepts_and_never_answers_is_an_error(relay, prefix):
    relay.silent.set()
    with pytest.raises(StorageError, match=r"did not answer.+timeout"):
        within(30, lambda: PostgresStore(f"postgresql://postgres@127.0.0.1:{relay.port}/postgres?connect_timeout=2"))


def test_a_worker_waits_for_it_no_longer_and_goes_on_when_it_is_back(store, relay, caplog):
    saga = Saga("x", store=store).add_task(step(lambda: None, name="go"))
    handle = saga.submit()
    relay.silent.set()
    with pytest.raises(StorageError, match="did not answer"):
        within(30, Worker(store, [saga]).run_once)
    worker = Worker(store, [saga])
    running = background(lambda: worker.run(interval=0.05))
    until(lambda: "trying again in 0.05 s" in caplog.text)
    relay.silent.clear()
    assert handle.result(30).status == Status.COMPLETED
    worker.stop()
    running()


@pytest.mark.parametrize("hosts", [2], indirect=True)
def test_another_server_that_answers_does_not_speak_for_it(store, stored, relay):
    lease = stored.create(store, "x")
    relay.silent.set()
    within(30, lambda: store.append(lease, stored.entries(2)))
    assert store.journal("x") == stored.entries(1, 2)


def test_a_statement_that_was_sent_before_is_an_error_too(store, stored, relay, admin, prefix):
    lease = stored.create(store, "x")
    with admin.transaction():
        admin.execute(f"SELECT 1 FROM {prefix} FOR UPDATE")
        ended = background(lambda: store.append(lease, stored.entries(2)))
        until(lambda: admin.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
        relay.silent.set()
        with pytest.raises(StorageError, match="did not answer"):
            ended()


def wait_for_a_lock(store, lease, stored, admin, prefix, asked):
    """Append to a journal while somebody has its row, until it was asked three times whether the server is there."""
    with admin.transaction():
        admin.execute(f"SELECT 1 FROM {prefix} FOR UPDATE")
        ended = background(lambda: store.append(lease, stored.entries(2)))
        until(lambda: len(asked) >= 3)
    ended()


def test_what_psycopg2_waits_for_is_waited_for_as_long_as_the_server_is_there(url, stored, admin, prefix, monkeypatch):
    asked = []
    answers = psycopg2_silence.WatchedConnection.answers
    monkeypatch.setattr(psycopg2_silence.WatchedConnection, "answers", lambda self: asked.append(answers(self)) or asked[-1])
    with SQLAlchemyStore(url.replace("postgresql", "postgresql+psycopg2"), prefix=prefix, patience=0.1) as store:
        lease = stored.create(store, "x")
        wait_for_a_lock(store, lease, stored, admin, prefix, asked)
        assert set(asked) == {True}
        assert store.journal("x") == stored.entries(1, 2)
    until(lambda: not any(thread.name == "saga watches psycopg2" for thread in threading.enumerate()))


@pytest.mark.parametrize(("error", "there"), [("timeout expired", False), ("FATAL:  sorry, too many clients already", True)])
def test_who_refuses_a_connection_of_psycopg2_s_is_there(url, monkeypatch, error, there):
    def connect(**parameters):
        raise psycopg2_silence.psycopg2.OperationalError(error)

    connection = psycopg2_silence.WatchedConnection.watched({"dsn": url})
    monkeypatch.setattr(psycopg2_silence.psycopg2, "connect", connect)
    assert connection.answers() is there
    connection.close()


def test_a_statement_that_waits_for_a_lock_is_waited_for(store, stored, admin, prefix, monkeypatch):
    asked = []
    see = WatchedConnection._see_that_it_answers
    monkeypatch.setattr(WatchedConnection, "_see_that_it_answers", lambda self: asked.append(see(self)))
    lease = stored.create(store, "x")
    wait_for_a_lock(store, lease, stored, admin, prefix, asked)
    assert store.journal("x") == stored.entries(1, 2)


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        ("connection failed: Connection refused", True),
        ("connection timeout expired", True),
        ("connection failed: FATAL:  sorry, too many clients already", False),
    ],
)
def test_a_server_that_refuses_a_connection_is_there(store, monkeypatch, error, gone):
    def connect(**parameters):
        raise psycopg.OperationalError(error)

    connection = store._pool.lend()
    monkeypatch.setattr(psycopg, "connect", connect)
    with pytest.raises(psycopg.OperationalError, match="nobody is there") if gone else nullcontext():
        connection._see_that_it_answers()
    assert connection.closed is gone
    store._pool.take_back(connection)


def test_what_is_sent_and_not_acknowledged_ends_the_connection(store):
    assert store._parameters["tcp_user_timeout"] == 20_000
    assert postgres_pool.parameters_of("postgresql://x/y?tcp_user_timeout=5")["tcp_user_timeout"] == "5"
