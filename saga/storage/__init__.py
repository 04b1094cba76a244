"""Where executions are kept: a store in memory, in an SQLite file, in PostgreSQL, or wherever SQLAlchemy reaches.

Each name is imported when it is first asked for, so that a store costs nothing, and needs no library, where it is not used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "ANY",
    "Append",
    "Beat",
    "Cause",
    "Count",
    "Entry",
    "Figures",
    "Hold",
    "Lease",
    "MemoryStore",
    "Message",
    "NewExecution",
    "NewWorker",
    "Page",
    "Place",
    "PostgresStore",
    "SQLAlchemyStore",
    "SqliteStore",
    "Store",
    "StoredExecution",
    "StoredWorker",
    "Told",
    "Wanted",
    "open_store",
    "schema_sql",
]

if TYPE_CHECKING:
    from saga.storage.memory import MemoryStore
    from saga.storage.opened import open_store
    from saga.storage.postgres import PostgresStore
    from saga.storage.protocol import Store
    from saga.storage.records import (
        ANY,
        Append,
        Beat,
        Cause,
        Count,
        Entry,
        Figures,
        Hold,
        Lease,
        Message,
        NewExecution,
        NewWorker,
        Page,
        Place,
        StoredExecution,
        StoredWorker,
        Told,
        Wanted,
    )
    from saga.storage.schema import schema_sql
    from saga.storage.sqlalchemy import SQLAlchemyStore
    from saga.storage.sqlite import SqliteStore
else:  # a type checker is to find every other name missing

    def __getattr__(name: str) -> object:
        """Import a name.

        :raises StorageError: it is a store whose library is not installed.
        """
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'records')}"), name)
        except ModuleNotFoundError as error:
            if name not in _EXTRAS:
                raise
            from saga.errors import StorageError

            what, extra = _EXTRAS[name]
            raise StorageError(f"a store in {what} needs {error.name}: pip install 'saga-tasks[{extra}]'") from error

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


_ROOMS = {
    "MemoryStore": "memory",
    "PostgresStore": "postgres",
    "SQLAlchemyStore": "sqlalchemy",
    "SqliteStore": "sqlite",
    "Store": "protocol",
    "open_store": "opened",
    "schema_sql": "schema",
}
"""Which module each name is in, where that is not the records."""

_EXTRAS = {"PostgresStore": ("PostgreSQL", "postgres"), "SQLAlchemyStore": ("this database", "sqlalchemy")}
"""What the stores that need more than Python are in, and the extra that brings it."""
