"""Opening a store by its path or URL: anew, or once for the whole process. No kind of store is known here but by its name."""

from __future__ import annotations

import atexit
import os
import re
import threading

from saga.errors import StorageError
from saga.storage.protocol import Store

__all__ = ["open_store", "store_of"]

_opened: dict[str, Store] = {}
_lock = threading.Lock()


def open_store(value: Store | str | os.PathLike[str]) -> Store:
    """Return a store, which is its caller's to close.

    :param value: a store, which is returned as it is; a path or ``sqlite:///path`` for an SQLite file;
        ``postgresql://...`` for PostgreSQL; another URL of SQLAlchemy's, such as ``mysql+pymysql://...``.
    :raises StorageError: the library for it is not installed, or the database cannot be opened.
    """
    if not isinstance(value, str | os.PathLike):
        return value
    text = os.fspath(value)
    scheme = re.match(r"([A-Za-z][\w+.-]*)://", text)
    if isinstance(value, os.PathLike) or scheme is None:
        return _sqlite(text)
    if scheme[1] == "sqlite":
        if not text.startswith("sqlite:///") or "?" in text:
            raise StorageError(f"{text!r} is not sqlite:///relative/path or sqlite:////absolute/path")
        return _sqlite(text.removeprefix("sqlite:///") or ":memory:")
    if scheme[1] in ("postgresql", "postgres"):
        from saga.storage import PostgresStore

        return PostgresStore(text)
    from saga.storage import SQLAlchemyStore

    return SQLAlchemyStore(text)


def _sqlite(path: str) -> Store:
    from saga.storage import SqliteStore

    return SqliteStore(path)


def store_of(value: Store | str | os.PathLike[str]) -> Store:
    """Return the store, opened once in this process where it is given as a path or URL, and closed when the process ends.

    :raises StorageError: as :func:`open_store`.
    """
    if not isinstance(value, str | os.PathLike):
        return value
    text = os.fspath(value)
    key = text if "://" in text else os.path.abspath(text)
    with _lock:
        if key not in _opened:
            if not _opened:
                atexit.register(_close_all)
            _opened[key] = open_store(value)
        return _opened[key]


def _close_all() -> None:
    for store in _opened.values():
        store.close()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # the parent's may be held by a thread that does not live here


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
