"""What differs between the databases that SQLAlchemy reaches: clocks, locks, collations, connections, faults that pass.

No table and no store lives here.
"""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import sqlalchemy as sa
from sqlalchemy import exc

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.sqlite_place import Place

__all__ = [
    "clock",
    "collation",
    "connects_in_loops",
    "engine_of",
    "is_mysql",
    "longest_text",
    "may_pass",
    "place_of",
    "shown",
    "skips_locked",
    "url_of",
    "what_to_do",
    "without_values",
]

# MySQL: lock wait timeout, deadlock. PostgreSQL: serialization failure, deadlock. SQLite: another one writes.
PASSING = {1205, 1213, "40001", "40P01", "SQLITE_BUSY"}

# MySQL: no right to the database, to a table. PostgreSQL: insufficient privilege.
NOT_ALLOWED = {1044, 1142, "42501"}

SILENCE = 70
"""Seconds without an answer, after which a server of MySQL's is taken to be gone: more than it waits itself for a lock."""

_NOTICING = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 20_000}

CONNECTION_DEFAULTS: dict[str, dict[str, Any]] = {
    "pymysql": {"connect_timeout": 10, "read_timeout": SILENCE, "write_timeout": SILENCE},
    "mysqldb": {"connect_timeout": 10, "read_timeout": SILENCE, "write_timeout": SILENCE},
    "aiomysql": {"connect_timeout": 10},
    "psycopg": {"connect_timeout": 10, **_NOTICING},
    "psycopg2": {"connect_timeout": 10, **_NOTICING},
}
"""By the driver's name. What the URL says comes before these."""


def is_mysql(dialect: sa.Dialect) -> bool:
    """Whether this is MySQL or MariaDB."""
    return dialect.name in ("mysql", "mariadb")


def skips_locked(dialect: sa.Dialect) -> bool:
    """Whether the server knows ``FOR UPDATE SKIP LOCKED``."""
    if not is_mysql(dialect):
        return dialect.name in ("postgresql", "oracle")
    version = dialect.server_version_info or ()
    return version >= ((10, 6) if getattr(dialect, "is_mariadb", False) else (8, 0, 1))


def clock(dialect: sa.Dialect) -> sa.ColumnElement[float] | None:
    """Return the server's time in seconds, the same all through a statement; ``None`` where we do not know how to ask."""
    if is_mysql(dialect):
        text = "(UNIX_TIMESTAMP(NOW(6)) + 0e0)"
    elif dialect.name == "postgresql":
        text = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"
    elif dialect.name == "sqlite":
        text = "((julianday('now') - 2440587.5) * 86400.0)"
    else:
        return None
    return sa.literal_column(text, sa.Double())


def longest_text(connection: sa.Connection) -> int:
    """Return how many bytes a text may have: see :class:`saga.storage.Store`."""
    longest = sys.maxsize
    if is_mysql(connection.dialect):
        longest = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
    elif connection.dialect.name == "postgresql":
        longest = 2**30
    elif connection.dialect.name == "sqlite":
        longest = getattr(connection.connection.driver_connection, "getlimit", lambda limit: 10**9)(sqlite3.SQLITE_LIMIT_LENGTH)
    return longest - 65_536  # the rest of a statement


def collation(dialect: sa.Dialect) -> str | None:
    """Return the collation by which ids differ when any character does: case, accents and trailing spaces too."""
    if is_mysql(dialect):
        return "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
    return "C" if dialect.name == "postgresql" else None


def engine_of(url: str | sa.URL, options: dict[str, Any], *, in_loop: bool = False) -> sa.Engine:
    """Return what connects to a database, as this package wants its connections.

    :param options: more of :func:`sqlalchemy.create_engine`'s parameters.
    :param in_loop: its connections are asynchronous: see :func:`connects_in_loops`.
    :raises StorageError: its driver is not installed, or the URL is none.
    """
    parsed = url_of(url)
    try:
        return _engine(parsed, options, in_loop)
    except ModuleNotFoundError as error:
        module = str(error.name).partition(".")[0]
        raise StorageError(f"{shown(parsed)} needs {module}: {_how_to_install(module)}") from error
    except exc.SQLAlchemyError as error:
        raise StorageError(f"{shown(parsed)}: no database can be reached this way: {error}") from error


def shown(url: sa.URL) -> str:
    """Return a URL as it is shown: a password is hidden, and the query left out, in which there may be another."""
    return url.set(query={}).render_as_string(hide_password=True)


def url_of(url: str | sa.URL) -> sa.URL:
    """Return a URL, of a driver that is called from threads. No text of it is in an error: it may be the password's."""
    if not isinstance(url, str | sa.URL):
        raise StorageError(
            f"SQLAlchemyStore: url is an object of class {type(url).__qualname__}; give a URL, as a str or sa.URL"
        )
    parsed = None
    with suppress(exc.ArgumentError, ValueError):  # which would be the context of what is raised within an except
        parsed = sa.make_url(url)
    if parsed is None:
        raise StorageError(
            "SQLAlchemyStore: no database can be reached by this url; write dialect+driver://user:password@host:port/database, "
            "with urllib.parse.quote(..., safe='') of user and password"
        )
    try:
        asynchronous = parsed.get_dialect().is_async
    except ImportError as error:  # SQLAlchemy's own part for asyncio may lack a library
        asynchronous = "async" in str(error)
    except exc.SQLAlchemyError as error:
        raise StorageError(f"{shown(parsed)}: no database can be reached this way: {error}") from error
    if asynchronous:
        name = parsed.get_backend_name()
        raise StorageError(
            f"{shown(parsed)} is of a driver for asyncio; a store is called from threads, by async tasks too: write "
            f"{_FROM_THREADS.get(name, name)}://..."
        )
    return parsed


_FROM_THREADS = {"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
"""What to write for a driver that is called from threads, where a dialect's own is seldom installed."""

_PACKAGES = {"mysql": "mysql-connector-python", "MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary"}
"""The packages of drivers that are not called as their modules are."""


def _how_to_install(module: str) -> str:
    install = f"pip install {_PACKAGES.get(module, module)}"
    if module in ("mysql", "MySQLdb"):
        install += ", or pip install 'saga-tasks[mysql]' and write mysql+pymysql://..."
    return install


_IN_LOOPS = {"pysqlite": "aiosqlite", "psycopg": "psycopg", "psycopg2": "psycopg", "pymysql": "aiomysql", "mysqldb": "aiomysql"}
"""The drivers for asyncio that take the same options as others do."""

_OF_THREADS = {"creator", "module", "pool"}
"""Options that no engine for asyncio can have."""


def connects_in_loops(url: str | sa.URL, options: dict[str, Any]) -> bool:
    """Whether the database of a URL is reached by asynchronous connections, too: its driver for asyncio is installed."""
    parsed = sa.make_url(url)
    driver = _IN_LOOPS.get(parsed.get_dialect().driver)
    if driver is None or _OF_THREADS & options.keys() or (driver == "aiosqlite" and not _is_path(parsed.database)):
        return False
    return all(importlib.util.find_spec(module) for module in (driver, "greenlet"))


def _engine(parsed: sa.URL, options: dict[str, Any], in_loop: bool) -> sa.Engine:
    name = parsed.get_backend_name()
    if in_loop:
        parsed = parsed.set(drivername=f"{name}+{_IN_LOOPS[parsed.get_dialect().driver]}")
        options = {key: value for key, value in options.items() if key != "poolclass"}
    if name == "sqlite" and _is_path(parsed.database):  # each connection looks for it anew
        parsed = parsed.set(database=str(Path(parsed.database).absolute()))
    # What a statement was to store is nobody's business who reads of its failure.
    defaults: dict[str, Any] = {"pool_size": 16, "max_overflow": 16, "hide_parameters": True}
    connecting = CONNECTION_DEFAULTS.get(parsed.get_dialect().driver, {})
    defaults["connect_args"] = {key: value for key, value in connecting.items() if key not in parsed.query}
    if name != "sqlite":
        # In MySQL, the default locks gaps between rows, over which those who work on different rows would deadlock.
        defaults["isolation_level"] = "READ COMMITTED"
    if in_loop:
        from sqlalchemy.ext.asyncio import create_async_engine  # it needs a library that others do not

        engine = create_async_engine(parsed, **(defaults | options)).sync_engine
    else:
        engine = sa.create_engine(parsed, **(defaults | options))
    if is_mysql(engine.dialect):
        sa.event.listen(engine, "connect", _prepare_mysql)
    elif name == "postgresql":
        sa.event.listen(engine, "connect", _prepare_postgresql)
        if engine.dialect.driver in ("psycopg", "psycopg2") and not in_loop:
            sa.event.listen(engine, "do_connect", _connect_watched)
    elif name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _connect_watched(dialect: sa.Dialect, record: object, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
    # Each needs a library that others do not.
    if dialect.driver == "psycopg":
        from saga.storage import postgres_silence

        return postgres_silence.WatchedConnection.watched(parameters)
    from saga.storage import psycopg2_silence

    return psycopg2_silence.WatchedConnection.watched(parameters)


def _is_path(database: str | None) -> TypeGuard[str]:
    """Whether what a URL of SQLite's names is a path: not what is in memory, or has options of SQLite's own."""
    return database is not None and database not in ("", ":memory:") and not database.startswith("file:")


def place_of(engine: sa.Engine) -> Place | None:
    """Return where the file of an SQLite database is; ``None`` for all else."""
    database = engine.url.database
    return Place(database) if engine.dialect.name == "sqlite" and _is_path(database) else None


def _prepare_mysql(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        # Times are seconds; with a time zone in between, an hour in autumn would come twice.
        cursor.execute("SET time_zone = '+00:00', sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")


def _prepare_postgresql(connection: Any, record: object) -> None:
    driver = getattr(connection, "driver_connection", connection)  # one for asyncio is wrapped
    if hasattr(driver, "prepare_threshold"):  # psycopg's, which prepares what is executed often
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        connection.rollback()
        if pid != driver.info.backend_pid:  # a pooler: see saga.storage.postgres_pool
            driver.prepare_threshold = None


def _prepare_sqlite(connection: Any, record: object) -> None:
    # Transactions begin where SQLAlchemy says so, and as writers: one that becomes a writer later may have to be given up.
    connection.isolation_level = None
    # SQLite does not wait when two do this at once; then the other one does it for both.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")


def may_pass(error: exc.DBAPIError, connection: sa.Connection | None) -> bool:
    """Whether a fault may be over when the same is tried again: the connection broke, could not be opened, or a deadlock."""
    told = (
        getattr(error.orig, "sqlstate", None),
        getattr(error.orig, "sqlite_errorname", None),
        *getattr(error.orig, "args", ()),
    )
    code = next(filter(None, told), None)
    return connection is None or error.connection_invalidated or code in PASSING


def what_to_do(fault: Exception) -> str:
    """Return what is to be added to a driver's error with which a store could not be opened."""
    code = getattr(fault, "sqlstate", None) or next(iter(fault.args), None)
    return f"; {rules.MADE_BY_ANOTHER}" if code in NOT_ALLOWED else ""


def without_values(error: exc.SQLAlchemyError) -> Exception:
    """Return the driver's error without the values that were sent, where it quotes some.

    Nobody expects inputs and results in a log.
    """
    cause = getattr(error, "orig", None)
    if not isinstance(cause, Exception):
        return error
    told = getattr(getattr(cause, "diag", None), "message_primary", None)  # PostgreSQL's details are left out
    sent = sorted((one for one in _flat(getattr(error, "params", None)) if isinstance(one, str)), key=len, reverse=True)

    def bare(part: Any) -> Any:
        if not isinstance(part, str):
            return part
        for value in sent:
            if len(value) > 3:  # else it may be part of any word
                part = part.replace(value, "...")
        return _QUOTED.sub(lambda found: _unless_sent(found[0], sent), part)

    with suppress(Exception):  # of a driver that makes its errors in another way
        return type(cause)(*((bare(told),) if told is not None else map(bare, cause.args)))
    return RuntimeError(type(cause).__name__)


_QUOTED = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|\((?:[^()]|\([^()]*\))*\)""", re.DOTALL)


def _unless_sent(quoted: str, sent: list[str]) -> str:
    inner = quoted[1:-1]
    return f"{quoted[0]}...{quoted[-1]}" if "\\" in inner or any(inner in value for value in sent) else quoted


def _flat(values: Any) -> Iterator[Any]:
    """Yield the values of a statement's parameters, however a driver takes them."""
    if isinstance(values, dict):
        yield from values.values()
    elif isinstance(values, list | tuple):
        for one in values:
            yield from _flat(one)
    else:
        yield values
