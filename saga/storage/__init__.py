"""Where executions are kept: a store in memory, in an SQLite file, in PostgreSQL, or wherever SQLAlchemy reaches."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from saga.errors import StorageError
from saga.storage.memory import MemoryStore
from saga.storage.protocol import Append, Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution
from saga.storage.sqlite import SqliteStore

if TYPE_CHECKING:
    from saga.storage.postgres import PostgresStore
    from saga.storage.sqlalchemy import SQLAlchemyStore

__all__ = [
    "Append",
    "Beat",
    "Entry",
    "Lease",
    "MemoryStore",
    "Message",
    "NewExecution",
    "Page",
    "SqliteStore",
    "Store",
    "StoredExecution",
    "open_store",
]


def open_store(value: Store | str | os.PathLike[str]) -> Store:
    """Return a store.

    :param value: a store, which is returned as it is; a path or ``sqlite:///path`` for an SQLite file;
        ``postgresql://...`` for PostgreSQL; another URL of SQLAlchemy's, such as ``mysql+pymysql://...``.
    :raises StorageError: the library for it is not installed, or the database cannot be opened.
    """
    if not isinstance(value, str | os.PathLike):
        return value
    text = os.fspath(value)
    scheme = re.match(r"([A-Za-z][\w+.-]*)://", text)
    if isinstance(value, os.PathLike) or scheme is None:
        return SqliteStore(text)
    if scheme[1] == "sqlite":
        if not text.startswith("sqlite:///") or "?" in text:
            raise StorageError(f"{text!r} is not sqlite:///relative/path or sqlite:////absolute/path")
        return SqliteStore(text.removeprefix("sqlite:///") or ":memory:")
    if scheme[1] in ("postgresql", "postgres"):
        return _postgres()(text)
    return _sqlalchemy()(text)


def _postgres() -> type[PostgresStore]:
    try:
        from saga.storage.postgres import PostgresStore
    except ModuleNotFoundError as error:
        raise _not_installed("PostgreSQL", "postgres", error) from error
    return PostgresStore


def _sqlalchemy() -> type[SQLAlchemyStore]:
    try:
        from saga.storage.sqlalchemy import SQLAlchemyStore
    except ModuleNotFoundError as error:
        raise _not_installed("this database", "sqlalchemy", error) from error
    return SQLAlchemyStore


def _not_installed(what: str, extra: str, error: ModuleNotFoundError) -> StorageError:
    return StorageError(f"a store in {what} needs {error.name}: pip install 'saga-tasks[{extra}]'")
