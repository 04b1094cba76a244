"""Where a connection's statements go: how PostgreSQL is asked for it, and what two answers must have in common."""

from __future__ import annotations

from typing import Final, NamedTuple

from saga.storage.enlisted import refused

__all__ = ["IN_POSTGRES", "SAME_DATABASE", "Whereabouts", "check_same"]

SAME_DATABASE: Final = "what is submitted with it is in its transaction only where both are the same database"

IN_POSTGRES: Final = (
    b"SELECT c.system_identifier, d.oid::bigint, coalesce(to_regclass(%s)::oid::bigint, 0), d.datname::text,"
    b" coalesce(has_table_privilege(to_regclass(%s)::oid, 'INSERT'), false)"
    b" FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d WHERE d.datname = current_database()"
)
"""Asks a connection to PostgreSQL for its :class:`Whereabouts`; takes the table's name, quoted, twice."""


class Whereabouts(NamedTuple):
    """Where statements go in PostgreSQL.

    :ivar system: to which server's files.
    :ivar database: to which database there.
    :ivar table: which one a table's name means.
    :ivar name: the database's.
    :ivar may_store: whether executions may be stored there.
    """

    system: int
    database: int
    table: int
    name: str
    may_store: bool


def check_same(theirs: Whereabouts, ours: Whereabouts, table: str) -> None:
    """See that a connection is of the store's database, and finds its tables.

    :raises ValueError: it is not, or does not.
    """
    if theirs[:2] != ours[:2]:
        what = "database" if theirs.system == ours.system else "server"
        raise refused(f"is of another {what} ({theirs.name!r}) than the store ({ours.name!r})", SAME_DATABASE)
    if theirs.table != ours.table:
        raise refused(
            f"finds {'another' if theirs.table else 'no'} table {table} by its search_path, unlike the store",
            "set it as the store's is, or open the store with schema=...",
        )
    if not theirs.may_store:
        raise refused(f"may store nothing in {table}", "grant its role what saga.storage.schema_sql(..., role=...) says")
