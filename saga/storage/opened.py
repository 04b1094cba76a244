"""Opening a store by its path or URL: anew, or once for the whole process. No kind of store is known here but by its name."""

from __future__ import annotations

import atexit
import os
import re
import threading
import weakref
from pathlib import Path
from typing import Any, Final

from saga.errors import SagaDefinitionError, StorageError
from saga.storage.protocol import Store

__all__ = ["check_path", "check_store", "kinds", "open_store", "pinned", "place_of", "store_of"]

_opened: dict[str, Store] = {}
_lock = threading.Lock()

_METHODS: Final = [name for name, value in vars(Store).items() if callable(value) and not name.startswith("_")]
_stores: weakref.WeakSet[type] = weakref.WeakSet()  # classes whose objects are stores

_GIVE: Final = "give the path of an SQLite file, a database's URL, or a store of saga.storage"
_INSTEAD: Final = {
    "bytes": "give a str: os.fsdecode(...) of it",
    "psycopg": "give the database's URL, postgresql://...: a store has connections of its own",
    "psycopg_pool": "give the database's URL, postgresql://...: a store has connections of its own",
    "sqlalchemy": "give SQLAlchemyStore(url) the URL: a store has connections of its own",
    "sqlite3": "give the path of its file: a store has connections of its own",
}
"""What to write instead of an object, by its class or the library it is of."""


def check_store(value: object, what: str = "the store") -> None:
    """Refuse what is no store, no path and no URL. Nothing is opened.

    Neither an object nor a text is in the error: it may hold a password.

    :param what: what it is given as, for the error: ``saga 'order': store``.
    :raises SagaDefinitionError: it is none of these; the text says what to write instead.
    """
    if type(value) in _stores:
        return
    if isinstance(value, str | os.PathLike):
        wrong = _wrong_text(value)
        if wrong is not None:
            raise SagaDefinitionError(f"{what} {wrong}")
    elif isinstance(value, type):
        raise SagaDefinitionError(f"{what} is the class {value.__name__}; give an object of it, {value.__name__}(...)")
    elif not all(callable(getattr(value, method, None)) for method in _METHODS):
        kind = type(value)
        instead = _INSTEAD.get(kind.__name__) or _INSTEAD.get(kind.__module__.partition(".")[0], _GIVE)
        raise SagaDefinitionError(f"{what} is an object of class {kind.__qualname__}, which is no store; {instead}")
    else:
        _stores.add(type(value))


def kinds() -> list[type]:
    """Return the classes of the stores that this process has met."""
    return list(_stores)


def check_path(value: object, what: str) -> None:
    """Refuse what is no path of a file.

    :raises SagaDefinitionError: with ``what`` in the text, and no text of the path.
    """
    if not isinstance(value, str | os.PathLike):
        raise SagaDefinitionError(f"{what} is an object of class {type(value).__qualname__}; give the path of an SQLite file")
    wrong = "is a URL; open_store(...) takes it" if isinstance(value, str) and "://" in value else _wrong_text(value)
    if wrong is not None:
        raise SagaDefinitionError(f"{what} {wrong}")


def _wrong_text(value: str | os.PathLike[Any]) -> str | None:
    """Return what is wrong with a path or URL, or ``None``."""
    text = os.fspath(value)
    if not isinstance(text, str):
        return "is a path of bytes; give one of str: os.fsdecode(...) of it"
    if not text or re.search("[\0\ud800-\udfff]", text):
        return f"is {text!r}, which no file is called; {_GIVE}"
    if isinstance(value, os.PathLike):
        return None
    if re.match(r"\s*\w+\s*=", text):
        return (
            "is a list of key=value, which would become a file with the password in its name; write the URL "
            "postgresql://user:password@host/database, PostgresStore(...), or Path(...) for a file that is called so"
        )
    if ("://" in text or re.match(r"[A-Za-z][\w+.-]+:", text)) and not _SCHEME.match(text):  # C:\\ is a drive
        return "is no URL, which begins with its scheme; write postgresql://..., or Path(...) for a file that is called so"
    return None


_SCHEME: Final = re.compile(r"([A-Za-z][\w+.-]*)://")


_IN_FILE: Final = re.compile(r"(sqlite(?:\+\w+)?:///)(?!:memory:|file:)([^?]+)(.*)", re.DOTALL)


def pinned(value: Store | str | os.PathLike[str]) -> Store | str | os.PathLike[str]:
    """Return a path, or a URL that has one, as it is from the root on: it means the same file wherever this process goes."""
    if not isinstance(value, str | os.PathLike):
        return value
    if isinstance(value, os.PathLike):
        return Path(value).absolute()
    if _SCHEME.match(value) is None:
        return str(Path(value).absolute())
    found = _IN_FILE.fullmatch(value)
    return value if found is None else f"{found[1]}{Path(found[2]).absolute()}{found[3]}"


def place_of(value: Store | str | os.PathLike[str]) -> tuple[str, object] | None:
    """Return what stands for where a store keeps what it is given, the same for the same place; nothing is opened.

    ``None``: only the store could tell. All databases on servers are taken for the same: each has many names.
    """
    from saga.storage import MemoryStore, SqliteStore

    if isinstance(value, MemoryStore):
        return "memory", value
    if isinstance(value, SqliteStore):
        return "file", os.path.realpath(value.path)
    if not isinstance(value, str | os.PathLike):
        return None
    text = os.fspath(value)
    scheme = None if isinstance(value, os.PathLike) else _SCHEME.match(text)
    if scheme is None or scheme[1] == "sqlite":
        return "file", os.path.realpath(text.removeprefix("sqlite:///") if scheme else text)
    return None if scheme[1].startswith("sqlite") else ("server", "")


def open_store(value: Store | str | os.PathLike[str]) -> Store:
    """Return a store, which is its caller's to close.

    :param value: a store, which is returned as it is; a path or ``sqlite:///path`` for an SQLite file;
        ``postgresql://...`` for PostgreSQL; another URL of SQLAlchemy's, such as ``mysql+pymysql://...``.
    :raises SagaDefinitionError: it is none of these.
    :raises StorageError: the library for it is not installed, or the database cannot be opened.
    """
    check_store(value)
    if not isinstance(value, str | os.PathLike):
        return value
    text = os.fspath(value)
    scheme = _SCHEME.match(text)
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

    return SqliteStore(Path(path))


def store_of(value: Store | str | os.PathLike[str]) -> Store:
    """Return the store, opened once in this process where it is given as a path or URL, and closed when the process ends.

    :raises SagaDefinitionError, StorageError: as :func:`open_store`.
    """
    check_store(value)
    if not isinstance(value, str | os.PathLike):
        return value
    value = pinned(value)
    key = os.fspath(value)  # type: ignore[arg-type]
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
