"""Transactions that are not a store's own, on connections of every kind that a store takes part in."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, Final

import pytest

from saga.storage import Entry, NewExecution, Store, StoredExecution
from tests.kit.databases import KINDS, empty

New = Sequence[tuple[NewExecution, Sequence[Entry]]]


class Theirs:
    """A connection or session of a kind, and what is done with it.

    :param connection: what is given to a store.
    :param execute: executes a statement there.
    """

    def __init__(self, store: Store, connection: Any, execute: Callable[[str], Any], ends: Any = None) -> None:
        self.store = store
        self.connection = connection
        self.execute = execute
        self._ends = connection if ends is None else ends

    def submit(self, new: New) -> list[StoredExecution | None]:
        """Submit with it."""
        return self.store.submit(new, connection=self.connection)

    def commit(self) -> None:
        """Commit what is open."""
        self._ends.commit()

    def rollback(self) -> None:
        """Take back what is open."""
        self._ends.rollback()


class TheirsInLoop(Theirs):
    """As :class:`Theirs`, awaited in a loop of its own."""

    run: Callable[[Any], Any]

    def submit(self, new: New) -> list[StoredExecution | None]:
        return self.run(self.store.asubmit(new, connection=self.connection))

    def commit(self) -> None:
        self.run(self._ends.commit())

    def rollback(self) -> None:
        self.run(self._ends.rollback())


Way = Callable[[Store, str, ExitStack], Theirs]


def _sqlite3(**options: Any) -> Way:
    def way(store: Store, url: str, closing: ExitStack) -> Theirs:
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), **options)
        closing.callback(connection.close)
        connection.row_factory, connection.text_factory = sqlite3.Row, bytes
        return Theirs(store, connection, lambda text: [tuple(row) for row in connection.execute(text).fetchall()])

    return way


def _begun(store: Store, url: str, closing: ExitStack) -> Theirs:
    """One whose owner says himself where transactions begin and end."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    closing.callback(connection.close)

    def execute(text: str) -> Any:
        if not connection.in_transaction:
            connection.execute("BEGIN")
        return connection.execute(text).fetchall()

    return Theirs(store, connection, execute)


def _psycopg(store: Store, url: str, closing: ExitStack) -> Theirs:
    psycopg = pytest.importorskip("psycopg")
    from psycopg.rows import dict_row

    connection = closing.enter_context(
        psycopg.connect(url, row_factory=dict_row, cursor_factory=psycopg.RawCursor, prepare_threshold=None)
    )
    return Theirs(store, connection, connection.execute)


def _psycopg_in_a_block(store: Store, url: str, closing: ExitStack) -> Theirs:
    """One that commits each statement, but for a block."""
    psycopg = pytest.importorskip("psycopg")
    connection = closing.enter_context(psycopg.connect(url, autocommit=True))

    def execute(text: str) -> Any:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            connection.execute("BEGIN")
        return connection.execute(text)

    return Theirs(store, connection, execute)


def _psycopg2(store: Store, url: str, closing: ExitStack) -> Theirs:
    psycopg2 = pytest.importorskip("psycopg2")
    from psycopg2.extras import RealDictCursor

    connection = psycopg2.connect(url, cursor_factory=RealDictCursor)
    closing.callback(connection.close)
    return Theirs(store, connection, lambda text: connection.cursor().execute(text))


def _through(driver: str = "", *, session: str = "") -> Way:
    """SQLAlchemy's connection, with a driver, or a session of a kind."""

    def way(store: Store, url: str, closing: ExitStack) -> Theirs:
        sa = pytest.importorskip("sqlalchemy")
        from sqlalchemy import orm

        if driver:
            pytest.importorskip(driver)
            url = url.replace("postgresql://", f"postgresql+{driver}://")
        engine = sa.create_engine(url)
        closing.callback(engine.dispose)
        made = {
            "": engine.connect,
            "session": lambda: orm.Session(engine),
            "scoped": lambda: orm.scoped_session(orm.sessionmaker(engine)),
        }[session]()
        closing.callback(made.close)
        return Theirs(store, made, lambda text: made.execute(sa.text(text)))

    return way


def _in_loop(make: Callable[[str], Any], wrap: Callable[[str], Any] = lambda text: text) -> Way:
    """One that is awaited: ``make`` returns what is opened, what is disposed of at the end, and what is given."""

    def way(store: Store, url: str, closing: ExitStack) -> Theirs:
        runner = closing.enter_context(asyncio.Runner())

        async def opened() -> tuple[Any, Callable[[], Any]]:
            return await make(url)

        connection, close = runner.run(opened())
        closing.callback(lambda: runner.run(close()))

        async def execute(text: str) -> Any:
            return await connection.execute(wrap(text))

        theirs = TheirsInLoop(store, connection, lambda text: runner.run(execute(text)))
        theirs.run = runner.run
        return theirs

    return way


async def _async_psycopg(url: str) -> tuple[Any, Callable[[], Any]]:
    from psycopg import AsyncConnection

    connection = await AsyncConnection.connect(url)
    return connection, connection.close


def _async_through(driver: str, session: str = "") -> Way:
    async def make(url: str) -> tuple[Any, Callable[[], Any]]:
        pytest.importorskip(driver)
        pytest.importorskip("greenlet")
        asyncio_ = pytest.importorskip("sqlalchemy.ext.asyncio")
        engine = asyncio_.create_async_engine(
            url.replace("postgresql://", f"postgresql+{driver}://").replace("sqlite://", f"sqlite+{driver}://")
        )
        sessions = asyncio_.async_sessionmaker(engine)
        if session == "scoped":
            made = asyncio_.async_scoped_session(sessions, asyncio.get_running_loop)
        else:
            made = sessions() if session else await engine.connect()

        async def close() -> None:
            await made.close()
            await engine.dispose()

        return made, close

    def text(words: str) -> Any:
        return pytest.importorskip("sqlalchemy").text(words)

    return _in_loop(make, text)


BY_HAND: Final = ("sqlite sqlite3, begun by hand", "postgres psycopg, in a block")
"""Of :data:`WAYS`, those where nothing is open before :meth:`Theirs.execute`."""

WAYS: Final[dict[str, Way]] = {
    "sqlite sqlite3": _sqlite3(),
    "sqlite sqlite3, always in a transaction": _sqlite3(**({"autocommit": False} if sys.version_info >= (3, 12) else {})),
    "sqlite sqlite3, begun by hand": _begun,
    "sqlite SQLAlchemy": _through(),
    "sqlite SQLAlchemy's session": _through(session="session"),
    "sqlite aiosqlite": _async_through("aiosqlite"),
    "postgres psycopg": _psycopg,
    "postgres psycopg, in a block": _psycopg_in_a_block,
    "postgres psycopg2": _psycopg2,
    "postgres SQLAlchemy": _through("psycopg"),
    "postgres SQLAlchemy's session": _through("psycopg2", session="session"),
    "postgres SQLAlchemy's session of each thread": _through("psycopg", session="scoped"),
    "postgres async psycopg": _in_loop(_async_psycopg),
    "postgres async SQLAlchemy": _async_through("psycopg"),
    "postgres async SQLAlchemy's session": _async_through("asyncpg", "session"),
    "postgres async SQLAlchemy's session of each task": _async_through("psycopg", "scoped"),
    "mariadb SQLAlchemy": _through(),
    "mariadb SQLAlchemy's session": _through(session="session"),
    "sqlalchemy-sqlite SQLAlchemy": _through(),
    "sqlalchemy-sqlite aiosqlite": _async_through("aiosqlite", "session"),
    "sqlalchemy-postgres SQLAlchemy": _through("psycopg2"),
    "sqlalchemy-postgres SQLAlchemy's session": _through("psycopg", session="session"),
    "sqlalchemy-postgres async SQLAlchemy": _async_through("asyncpg"),
}
"""By the kind of the store and that of the connection."""


def url_of(kind: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of the database of a kind of store."""
    if kind.endswith("sqlite"):
        return f"sqlite:///{request.getfixturevalue('tmp_path') / 'saga.db'}"
    url: str = request.getfixturevalue("mariadb_url" if kind == "mariadb" else "postgres_url")
    return url


def opened(way: str, request: pytest.FixtureRequest, closing: ExitStack) -> Theirs:
    """Open a store with a table beside it that is not its own, ``stock``, empty, and a connection to both."""
    kind = way.partition(" ")[0]
    store = closing.enter_context(KINDS[kind](request))
    empty(store)
    url = url_of(kind, request)
    for text in ("DROP TABLE IF EXISTS stock", "CREATE TABLE stock (name varchar(20))"):
        execute(url, text)
    return WAYS[way](store, url, closing)


@lru_cache
def _engine(url: str) -> Any:
    sa = pytest.importorskip("sqlalchemy")
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)


def execute(url: str, text: str) -> list[Any]:
    """Execute a statement by itself."""
    with _engine(url).begin() as connection:
        found = connection.exec_driver_sql(text)
        return [tuple(row) for row in found] if found.returns_rows else []
