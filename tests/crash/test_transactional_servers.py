"""What a server does to transactional steps: deadlocks, serialization failures, connections that end, in the commit too."""

from __future__ import annotations

import gc
import threading
from urllib.parse import urlsplit

import pytest

from saga import Saga, Status, step
from tests.kit import PATIENCE
from tests.kit.ledgers import THREADS, WAYS, Ledger, awaited
from tests.kit.relays import Cutting, connector

ways = pytest.mark.parametrize("way", [THREADS, WAYS[-1]], ids=lambda way: way.name)
# PyMySQL leaves the socket open of a connection that broke; SQLAlchemy's pool, what is lent when it is disposed of.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def postgres(url):
    from saga.storage.postgres import PostgresStore

    return PostgresStore(url, prefix="cut")


def through_sqlalchemy(url):
    from saga.storage.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(url.replace("postgresql:", "postgresql+psycopg:"), prefix="cut_too")


SERVERS = {
    "postgres": ("postgres_url", postgres),
    "sqlalchemy-postgres": ("postgres_url", through_sqlalchemy),
    "mariadb": ("mariadb_url", through_sqlalchemy),
}


@pytest.fixture(params=SERVERS)
def server(request):
    """The URL of a server, and what opens a store there."""
    fixture, opened = SERVERS[request.param]
    yield request.getfixturevalue(fixture), opened
    gc.collect()  # what is left open is told here, not in another test


@ways
def test_two_that_wait_for_each_other_are_both_done_in_the_end(server, way):
    url, opened = server
    met, attempts, results = threading.Barrier(2), [], {}

    def changing(first, second):
        def change(context):
            attempts.append((first, context.step.attempt))
            for number, row in enumerate((first, second)):
                update = f"UPDATE ledger SET name = concat(name, '{first}') WHERE left(name, 1) = '{row}'"
                Ledger.run(context.step.connection, update)
                if number == 0 and len(attempts) <= 2:
                    met.wait(PATIENCE)

        return step(way.of(change), name="change", transactional=True)

    with opened(url) as store:
        ledger = Ledger(store)
        ledger.empty("a", "b")

        def execute(first, second):
            saga = Saga("order", store=store).add_task(changing(first, second))
            results[first] = way.executed(saga, f"{first} of {way.name}")

        threads = [threading.Thread(target=execute, args=pair) for pair in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {result.status for result in results.values()} == {Status.COMPLETED}
        assert [sorted(name[1:]) for name in ledger.rows()] == [["a", "b"], ["a", "b"]]
        assert len(attempts) > 2  # one of them was made again
        assert {attempt for _, attempt in attempts} == {1}  # which is the same attempt


@ways
@pytest.mark.parametrize("kind", ["postgres", "sqlalchemy-postgres"])
def test_what_could_not_have_been_done_one_after_the_other_is_done_again(kind, way, request):
    fixture, opened = SERVERS[kind]
    attempts = []

    def count(context):
        attempts.append(context.step.attempt)
        run = Ledger.run
        run(context.step.connection, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        run(context.step.connection, "SELECT name FROM ledger")
        if len(attempts) == 1:  # somebody else counts too, and neither sees what the other writes
            with opened(request.getfixturevalue(fixture)) as another:

                def theirs(connection):
                    run(connection, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                    run(connection, "SELECT name FROM ledger")
                    run(connection, "INSERT INTO ledger VALUES ('theirs')")

                Ledger.of(another).within(theirs)
        run(context.step.connection, "INSERT INTO ledger VALUES ('ours')")

    with opened(request.getfixturevalue(fixture)) as store:
        ledger = Ledger(store)
        saga = Saga("order", store=store).add_task(step(way.of(count), transactional=True))
        assert way.executed(saga, f"counted {way.name}").status is Status.COMPLETED
        assert (attempts, ledger.rows()) == ([1, 1], ["ours", "theirs"])


@ways
@pytest.mark.parametrize("kind", ["postgres", "sqlalchemy-postgres"])
def test_one_whose_connection_an_administrator_ends_is_made_again(kind, way, request):
    import psycopg

    fixture, opened = SERVERS[kind]
    url, attempts = request.getfixturevalue(fixture), []

    def write(context):
        attempts.append(context.step.attempt)
        Ledger.write(context)
        if len(attempts) == 1:
            [[mine]] = awaited(Ledger.run(context.step.connection, "SELECT pg_backend_pid()").fetchall())
            with psycopg.connect(url) as administrator:
                administrator.execute(f"SELECT pg_terminate_backend({mine})")
            Ledger.run(context.step.connection, "SELECT 1")

    with opened(url) as store:
        ledger = Ledger(store)
        saga = Saga("order", store=store).add_task(step(way.of(write), transactional=True))
        result = way.executed(saga, f"ended {way.name}")
        assert (result.status, result.in_doubt) == (Status.COMPLETED, ())
        assert (attempts, ledger.rows()) == ([1, 1], ["write"])


@pytest.fixture
def cut(server):
    """A relay before a server, and the URL through it."""
    url, _ = server
    relay = Cutting(connector(url))
    parsed = urlsplit(url)
    if parsed.hostname:
        through = url.replace(f":{parsed.port}/", f":{relay.port}/")
    else:
        through = f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"
    yield relay, through
    relay.close()


@ways
@pytest.mark.parametrize("armed", ["before", "after"])
@pytest.mark.parametrize("follows", [False, True], ids=["last", "followed"])
def test_a_connection_that_is_cut_in_the_commit_is_no_doubt(server, cut, way, armed, follows):
    relay, through = cut
    attempts = []

    def write(context):
        attempts.append(context.step.attempt)
        Ledger.write(context)
        if len(attempts) == 1:
            relay.armed = armed

    with server[1](through) as store:
        ledger = Ledger(store)
        saga = Saga("order", store=store).add_task(step(way.of(write), transactional=True))
        if follows:
            saga.add_task(step(lambda: None, name="then"))
        result = way.executed(saga, f"cut {way.name} {armed} {follows}")
        assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPLETED, (), ["write"])
        assert (attempts, relay.cuts) == ([1, 1] if armed == "before" else [1], 1)
