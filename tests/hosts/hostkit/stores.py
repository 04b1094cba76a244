"""The store that a day is about, as its URL says."""

from __future__ import annotations

from saga.storage import Store


def open_store(url: str) -> Store:
    """Open a store; one through SQLAlchemy where the URL names its driver."""
    if url.startswith("postgresql+"):
        from saga.storage.sqlalchemy import SQLAlchemyStore

        return SQLAlchemyStore(url)
    from saga.storage.postgres import PostgresStore

    return PostgresStore(url)
