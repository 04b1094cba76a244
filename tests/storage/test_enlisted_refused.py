"""Connections in whose transaction a store takes no part: each is told why, before anything is written."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from saga.storage import MemoryStore, SqliteStore, Store
from tests.kit.databases import KINDS, Stored
from tests.storage import servers
from tests.storage.contract import at_once

NEW = [(Stored.new("refused", status="submitted"), Stored.entries(1))]


def refuses(store: Store, connection: Any, why: str) -> None:
    with pytest.raises(ValueError, match=f"^connection .*{why}"):
        store.submit(NEW, connection=connection)


def in_a_file(path: Path, ended: ExitStack) -> Iterator[tuple[Any, str]]:
    def connected(where: Any, **options: Any) -> sqlite3.Connection:
        return ended.enter_context(closing(sqlite3.connect(where, **options)))

    yield connected(path, isolation_level=None), "commits each statement at once, .* BEGIN one"
    yield connected(":memory:"), "of another database .in memory. than the store .*saga.db"
    yield connected(path.parent / "beside.db"), "of another database .*beside.db. than the store .*saga.db"
    attached = connected(":memory:")
    attached.execute(f"ATTACH '{path}' AS theirs")
    yield attached, "of another database .in memory."
    closed = connected(path)
    closed.close()
    yield closed, "cannot be used here: Cannot operate on a closed database"
    yield object(), "object of class builtins.object; give a sqlite3.Connection"
    sa = pytest.importorskip("sqlalchemy")
    engine = sa.create_engine(f"sqlite:///{path}")
    ended.callback(engine.dispose)
    yield engine, r"object of class sqlalchemy\S+Engine; give a sqlite3.Connection"
    yield (
        ended.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT")),
        "commits each statement at once",
    )
    yield connected_in_memory(ended), "of another database .in memory."


def connected_in_memory(ended: ExitStack) -> Any:
    engine = pytest.importorskip("sqlalchemy").create_engine("sqlite://")
    ended.callback(engine.dispose)
    return ended.enter_context(engine.connect())


def on_postgres(url: str, ended: ExitStack) -> Iterator[tuple[Any, str]]:
    psycopg = pytest.importorskip("psycopg")

    def connected(**options: Any) -> Any:
        return ended.enter_context(psycopg.connect(url, **options))

    yield connected(autocommit=True), r"\(autocommit\), and no transaction is open .* `with connection.transaction\(\):`"
    closed = connected()
    closed.close()
    yield closed, "is closed; give one that is open"
    yield connected(dbname="template1"), "of another database .'template1'. than the store .'postgres'."
    yield connected(options="-c search_path=nowhere"), 'finds no table "contract" by its search_path, unlike the store'
    admin = connected(autocommit=True)
    admin.execute("CREATE SCHEMA beside; CREATE TABLE beside.contract (id text); CREATE ROLE stranger LOGIN")
    ended.callback(admin.execute, "DROP SCHEMA beside CASCADE; DROP ROLE stranger")
    yield connected(options="-c search_path=beside"), 'finds another table "contract" by its search_path'
    yield connected(user="stranger"), 'may store nothing in "contract"; grant its role'
    with servers.postgres() as other, psycopg.connect(other) as elsewhere:
        yield elsewhere, "of another server .'postgres'. than the store .'postgres'."
    yield ended.enter_context(closing(sqlite3.connect(":memory:"))), "object of class sqlite3.Connection; give a connection of"


def by_psycopg2(url: str, ended: ExitStack) -> Iterator[tuple[Any, str]]:
    connection = pytest.importorskip("psycopg2").connect(url)
    connection.autocommit = True
    yield connection, "commits each statement at once .* set its autocommit to False"
    connection.close()
    yield connection, "is closed"


def by_sqlalchemy(url: str, ended: ExitStack) -> Iterator[tuple[Any, str]]:
    sa = pytest.importorskip("sqlalchemy")
    from sqlalchemy import orm

    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    ended.callback(engine.dispose)
    closed = engine.connect()
    closed.close()
    yield closed, "is closed"
    yield engine, r"object of class sqlalchemy\S+Engine"
    yield (
        ended.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT")),
        "commits each statement at once",
    )
    always = engine.execution_options(isolation_level="AUTOCOMMIT")
    yield ended.enter_context(always.connect()), "commits each statement at once"
    yield ended.enter_context(orm.Session(always)), "commits each statement at once"
    yield orm.Session(), "session that has a database for each class; give session.connection"
    yield connected_in_memory(ended), "of a database of sqlite"


def on_mariadb(url: str, ended: ExitStack) -> Iterator[tuple[Any, str]]:
    sa = pytest.importorskip("sqlalchemy")
    engines = [sa.create_engine(one) for one in (url, f"{url}?charset=latin1", sa.make_url(url).set(database="mysql"))]
    for engine in engines:
        ended.callback(engine.dispose)
    yield ended.enter_context(engines[1].connect()), "sends its texts as latin1; open it with .charset=utf8mb4"
    yield ended.enter_context(engines[2].connect()), "of another database .'mysql'. than the store"
    raw = ended.enter_context(closing(engines[0].raw_connection()))
    yield raw.driver_connection, r"object of class pymysql\S+; give SQLAlchemy's"


@pytest.mark.parametrize(
    ("kind", "ones"),
    [
        ("postgres", on_postgres),
        ("postgres", by_psycopg2),
        ("postgres", by_sqlalchemy),
        ("sqlalchemy-postgres", by_sqlalchemy),
        ("mariadb", by_sqlalchemy),
        ("mariadb", on_mariadb),
        ("sqlite", in_a_file),
    ],
)
def test_it_is_told_why(request, kind, ones):
    if kind == "sqlite":
        where = request.getfixturevalue("tmp_path") / "saga.db"
    else:
        where = request.getfixturevalue("mariadb_url" if kind == "mariadb" else "postgres_url")
    with ExitStack() as ended:
        store = ended.enter_context(KINDS[kind](request))
        for connection, why in ones(where, ended):
            refuses(store, connection, why)
            assert store.get("refused") is None


def test_a_connection_of_another_thread_is_refused(path):
    with SqliteStore(path) as store, closing(sqlite3.connect(path)) as connection:
        at_once(1, lambda number: refuses(store, connection, "in its own thread"))
        assert not connection.in_transaction


def test_what_is_in_memory_takes_part_in_nothing():
    with pytest.raises(ValueError, match="connection must be None"):
        MemoryStore().submit(NEW, connection=object())
    with pytest.raises(ValueError, match="connection must be None"):
        asyncio.run(MemoryStore().asubmit(NEW, connection=object()))
    sa = pytest.importorskip("sqlalchemy")
    from saga.storage.sqlalchemy import SQLAlchemyStore

    url = "sqlite:///file:x?mode=memory&cache=shared&uri=true"
    with SQLAlchemyStore(url, poolclass=sa.QueuePool) as store, store._engine.connect() as connection:
        refuses(store, connection, "of another database .in memory. than the store .in memory.")


def test_a_plain_connection_is_not_awaited_and_another_is_not_used_without(granted_postgres_url):
    psycopg = pytest.importorskip("psycopg")
    from saga.storage.postgres import PostgresStore

    async def tried(store: Store) -> None:
        for autocommit in (False, True):
            connection = await psycopg.AsyncConnection.connect(granted_postgres_url, autocommit=autocommit)
            async with connection:
                refuses(store, connection, r"is asynchronous .AsyncConnection.; await asubmit\(...\)")
                if autocommit:
                    with pytest.raises(ValueError, match="commits each statement at once"):
                        await store.asubmit(NEW, connection=connection)
            with pytest.raises(ValueError, match="is closed"):
                await store.asubmit(NEW, connection=connection)
        with (
            psycopg.connect(granted_postgres_url) as plain,
            pytest.raises(ValueError, match=r"is not asynchronous .Connection.; call submit\(...\)"),
        ):
            await store.asubmit(NEW, connection=plain)
        with pytest.raises(ValueError, match="object of class builtins"):
            await store.asubmit(NEW, connection=object())

    with PostgresStore(granted_postgres_url, prefix="contract") as store:
        asyncio.run(tried(store))
        assert store.get("refused") is None
