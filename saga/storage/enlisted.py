"""Connections and sessions in whose transaction a store is to take part: which kind one is, and the words it is refused in.

No statement lives here, and no library is imported that whoever gives the connection has not imported himself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["fault_of", "in_its_loop", "inner", "is_a", "kind_of", "refused"]

T = TypeVar("T")

_CLASSES: Final = {
    "sqlite3": (("sqlite3", "Connection"),),
    "psycopg": (("psycopg", "Connection"),),
    "psycopg2": (("psycopg2.extensions", "connection"),),
    "sqlalchemy": (
        ("sqlalchemy", "Connection"),
        ("sqlalchemy.orm", "Session"),
        ("sqlalchemy.orm", "scoped_session"),
    ),
    "async psycopg": (("psycopg", "AsyncConnection"),),
    "async sqlalchemy": (
        ("sqlalchemy.ext.asyncio", "AsyncConnection"),
        ("sqlalchemy.ext.asyncio", "AsyncSession"),
        ("sqlalchemy.ext.asyncio", "async_scoped_session"),
    ),
}
"""The kinds of connections, with the modules and the names of their classes."""


def is_a(value: object, module: str, name: str) -> bool:
    """Whether it is an object of a class of a library, which may not be there."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def kind_of(connection: object) -> str | None:
    """Return the kind of a connection, or ``None``."""
    for kind, classes in _CLASSES.items():
        if any(is_a(connection, *one) for one in classes):
            return kind
    return None


def inner(connection: Any) -> Any:
    """Return the driver's connection of one of Django's, and whatever else is given as it is.

    :raises ValueError: no transaction is open there.
    """
    if "django" not in sys.modules or not (hasattr(connection, "ensure_connection") and hasattr(connection, "in_atomic_block")):
        return connection
    if not connection.in_atomic_block:
        raise refused("commits each statement at once", "submit within `with transaction.atomic():`")
    return connection.connection


def refused(why: str, instead: str) -> ValueError:
    """Return the error that a store does not take part in the transaction of a connection."""
    return ValueError(f"connection {why}; {instead}")


def unknown(connection: object, takes: str) -> ValueError:
    """Return the error that a connection is of no kind that a store takes.

    :param takes: what it takes.
    """
    kind = type(connection)
    if (kind_of(connection) or "").startswith("async "):
        return refused(f"is asynchronous ({kind.__qualname__})", "await asubmit(...) with it, in its event loop")
    return refused(f"is an object of class {kind.__module__}.{kind.__qualname__}", f"give {takes}")


async def in_its_loop(connection: Any, submit: Callable[[Any], T]) -> T:
    """Return what ``submit`` returns for the plain connection or session within one of SQLAlchemy's for asyncio.

    :raises ValueError: it is none.
    """
    kind = kind_of(connection)
    if kind is not None and not kind.startswith("async "):
        raise refused(f"is not asynchronous ({type(connection).__qualname__})", "call submit(...) with it")
    if kind != "async sqlalchemy":
        return submit(connection)  # which says what it takes
    if is_a(connection, "sqlalchemy.ext.asyncio", "async_scoped_session"):
        connection = connection()
    found: T = await connection.run_sync(submit)
    return found


def fault_of(error: Exception) -> Exception | None:
    """Return a driver's error without the values that were sent, or ``None`` where it is none of a driver's."""
    if is_a(error, "sqlalchemy.exc", "SQLAlchemyError"):
        from saga.storage.sqlalchemy_dialects import without_values

        return without_values(error)  # type: ignore[arg-type]
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return ValueError(str(error))
    if not any(is_a(error, module, "Error") for module in ("sqlite3", "psycopg", "psycopg2")):
        return None
    told = getattr(getattr(error, "diag", None), "message_primary", None)  # PostgreSQL's details quote what was sent
    return error if told is None else type(error)(told)
