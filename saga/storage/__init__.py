"""Where executions are kept: a store in memory, in an SQLite file, in PostgreSQL, or wherever SQLAlchemy reaches."""

from __future__ import annotations

import os
import re

from saga.errors import StorageError
from saga.storage.memory import MemoryStore
from saga.storage.protocol import Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution
from saga.storage.sqlite import SqliteStore

__all__ = [
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
    raise StorageError(f"there is no store for {scheme[1]}:// yet")
