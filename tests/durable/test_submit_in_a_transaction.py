"""Submitting in a transaction of whoever submits: what he wrote and the execution are there together, or neither is."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from saga import Saga, Status, Submission, step
from saga.errors import EncodingError, SagaIdTakenError, StorageError, UnknownExecutionError
from saga.storage import SqliteStore, open_store
from saga.worker import Worker
from tests.kit.transactions import execute


def order(store: Any, name: str = "order") -> Saga:
    return Saga(name, store=store).add_task(step(lambda context: context.number, name="ship"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "saga.db"


@pytest.fixture
def saga(path: Path) -> Iterator[Saga]:
    with SqliteStore(path) as store:
        yield order(store)


@pytest.fixture
def connection(path: Path, saga: Saga) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE stock (number)")
        yield connection


def test_a_worker_runs_it_once_it_is_committed(saga, connection):
    with connection:
        connection.execute("INSERT INTO stock VALUES (1)")
        handle = saga.submit({"number": 1}, saga_id="x", connection=connection)
        with pytest.raises(UnknownExecutionError, match="transaction that is not committed"):
            handle.status()
    assert (handle.new, handle.status()) == (True, Status.SUBMITTED)
    Worker(saga.store, [saga]).run_once()
    assert handle.result(0).results["ship"] == 1


def test_what_is_refused_leaves_the_transaction_open(saga, connection):
    connection.execute("INSERT INTO stock VALUES (1)")
    saga.submit({"number": 1}, saga_id="x", connection=connection)
    assert not saga.submit({"number": 1}, saga_id="x", connection=connection).new
    with pytest.raises(SagaIdTakenError, match="another input"):
        saga.submit({"number": 2}, saga_id="x", connection=connection)
    with pytest.raises(EncodingError):
        saga.submit({"number": object()}, connection=connection)
    connection.commit()
    assert saga.load("x").context.number == 1
    assert connection.execute("SELECT number FROM stock").fetchall() == [(1,)]


def test_of_many_all_are_in_it_but_those_whose_ids_are_taken(saga, connection):
    connection.execute("INSERT INTO stock VALUES (1)")
    saga.submit({"number": 7}, saga_id="x1", connection=connection)
    with pytest.raises(SagaIdTakenError) as caught:
        saga.submit_many([Submission({"number": n}, f"x{n}") for n in range(1100)], connection=connection)
    assert (caught.value.saga_ids, len(caught.value.handles)) == (("x1",), 1099)
    connection.commit()
    assert [saga.load(f"x{n}").context.number for n in (0, 1, 1099)] == [0, 7, 1099]


def test_many_are_in_one_transaction(saga, connection):
    many = [Submission({"number": n}, f"x{n}") for n in range(2500)]
    assert len(saga.submit_many(many, connection=connection)) == 2500
    connection.rollback()
    assert saga.store.get("x2499") is None
    assert all(handle.new for handle in saga.submit_many(many, connection=connection))
    connection.commit()
    assert saga.store.get("x2499") is not None


def test_in_an_event_loop_it_is_a_connection_of_that_loop(saga, path, connection):
    pytest.importorskip("aiosqlite")
    aio = pytest.importorskip("sqlalchemy.ext.asyncio")

    async def fails(engine: Any) -> None:
        async with engine.begin() as theirs:
            await saga.asubmit({"number": 1}, saga_id="x", connection=theirs)
            raise ZeroDivisionError

    async def main() -> None:
        engine = aio.create_async_engine(f"sqlite+aiosqlite:///{path}")
        with pytest.raises(ZeroDivisionError):
            await fails(engine)
        async with aio.AsyncSession(engine) as session, session.begin():
            handle = await saga.asubmit({"number": 1}, saga_id="y", connection=session)
            assert [one.new for one in await saga.asubmit_many([{"number": 2}, {"number": 3}], connection=session)] == [
                True
            ] * 2
            with pytest.raises(SagaIdTakenError) as caught:
                await saga.asubmit_many([Submission({"number": 5}, "y"), {"number": 6}], connection=session)
            assert (caught.value.saga_ids, len(caught.value.handles)) == (("y",), 1)
        assert await handle.astatus() is Status.SUBMITTED
        with pytest.raises(ValueError, match="call submit"):
            await saga.asubmit({"number": 4}, connection=connection)
        await engine.dispose()

    asyncio.run(main())
    assert saga.store.get("x") is None
    assert len(saga.store.list().executions) == 4


def test_a_store_is_opened_before_the_transaction_begins_that_keeps_its_tables_from_being_made(path, monkeypatch):
    monkeypatch.setitem(SqliteStore.__init__.__kwdefaults__, "busy_timeout", 0.1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE stock (number)")
        connection.execute("INSERT INTO stock VALUES (1)")
        with pytest.raises(StorageError, match="locked") as told:
            order(path).submit({"number": 1}, connection=connection)
        assert "open it before" in told.value.__notes__[0]
        connection.rollback()
        open_store(path).close()
        connection.execute("INSERT INTO stock VALUES (1)")
        order(path).submit({"number": 1}, connection=connection)
        connection.commit()


#: A script finds this file, however it is started.
FINDS = f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
SELLS = """
import sqlalchemy as sa
from tests.durable.test_submit_in_a_transaction import order

store, url, start = sys.argv[1:]
saga = order(store, "sells")
engine = sa.create_engine(url)
for number in range(int(start) * 1_000_000, 1_000_000_000):
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO stock VALUES ({number})"))
        print(flush=True)
        saga.submit({"number": number}, saga_id=str(number), connection=connection)
        print(flush=True)
    print(flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
def test_who_is_killed_has_done_both_or_neither(kind, request, path):
    if kind == "sqlite":
        store = url = f"sqlite:///{path}"
    else:
        store = request.getfixturevalue(f"{kind}_url")
        url = store.replace("postgresql://", "postgresql+psycopg://")
    pytest.importorskip("sqlalchemy")
    open_store(store).close()
    execute(url, "DROP TABLE IF EXISTS stock")
    execute(url, "CREATE TABLE stock (number int)")
    for start, lines in enumerate((3, 4, 5, 8, 13)):
        command = [sys.executable, "-c", FINDS + SELLS, store, url, str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
        sold = [str(number) for (number,) in execute(url, "SELECT number FROM stock")]
        stored = [saga_id for (saga_id,) in execute(url, "SELECT id FROM saga WHERE name = 'sells'")]
        assert sorted(sold) == sorted(stored)
    assert sold


IN_DJANGO = """
import django
from django.conf import settings
from django.db import connection, transaction
from tests.durable.test_submit_in_a_transaction import order

store, engine, *place = sys.argv[1:]
database = dict(zip(("NAME", "USER", "HOST", "PORT"), place))
settings.configure(DATABASES={"default": {"ENGINE": engine, **database}})
django.setup()
saga = order(store)
try:
    saga.submit({"number": 1}, saga_id="django-1", connection=connection)
except ValueError as error:
    print(error)
for number in (2, 3):
    try:
        with transaction.atomic():
            with transaction.atomic():
                print(saga.submit({"number": number}, saga_id=f"django-{number}", connection=connection).new)
            if number == 2:
                raise LookupError
    except LookupError:
        pass
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_in_django_it_is_the_atomic_block(kind, request, path):
    pytest.importorskip("django")
    if kind == "sqlite":
        store, place = str(path), ["django.db.backends.sqlite3", str(path)]
    else:
        psycopg = pytest.importorskip("psycopg")
        store = request.getfixturevalue("postgres_url")
        with psycopg.connect(store) as asked:
            info = asked.info
            place = ["django.db.backends.postgresql", info.dbname, info.user, info.host, str(info.port)]
    with open_store(store) as opened:
        done = subprocess.run(
            [sys.executable, "-c", FINDS + IN_DJANGO, store, *place], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "connection commits each statement at once; submit within `with transaction.atomic():`",
            "True",
            "True",
        ]
        assert [opened.get(f"django-{number}") is not None for number in (1, 2, 3)] == [False, False, True]
