"""Storing many executions in PostgreSQL that nobody owns yet, and telling which were there already. No statement lives here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from saga.storage import rules
from saga.storage.columns import row_of
from saga.storage.postgres_pool import Connection
from saga.storage.postgres_sql import Statements
from saga.storage.postgres_writes import submitted
from saga.storage.records import Entry, NewExecution, StoredExecution

__all__ = ["submit"]


def submit(
    connection: Connection,
    sql: Statements,
    new: Sequence[tuple[NewExecution, Sequence[Entry]]],
    *,
    longest: int,
    ours: Callable[[StoredExecution, NewExecution, Sequence[Entry]], bool],
) -> list[StoredExecution | None]:
    """Store executions. Return ``None`` for each, or the one that has its id.

    :param longest: how many bytes may be sent at once.
    :param ours: whether an execution that is there has been stored by us all the same.
    """
    first = {one.saga_id: number for number, (one, _) in reversed(list(enumerate(new)))}
    known: dict[str, StoredExecution] = {}
    left = sorted(first.values())
    while left:
        values = submitted([new[number] for number in left])
        rules.check_texts(values, longest)
        stored = {row[0] for row in connection.execute(sql.writes.submit, values, prepare=True)}
        left = [number for number in left if new[number][0].saga_id not in stored]
        for row in _rows(connection, sql, [new[number][0].saga_id for number in left]):
            known[row.saga_id] = row
        left = [number for number in left if new[number][0].saga_id not in known]  # purged in between
    for saga_id, row in list(known.items()):
        if ours(row, *new[first[saga_id]]):
            del known[saga_id]
    twice = {one.saga_id for number, (one, _) in enumerate(new) if first[one.saga_id] != number}
    rows = known | {row.saga_id: row for row in _rows(connection, sql, sorted(twice - known.keys()))}
    return [(known if first[one.saga_id] == number else rows).get(one.saga_id) for number, (one, _) in enumerate(new)]


def _rows(connection: Connection, sql: Statements, saga_ids: Sequence[str]) -> list[StoredExecution]:
    return [row_of(row) for row in connection.execute(sql.get_each, (saga_ids,))] if saga_ids else []
