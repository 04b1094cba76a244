"""Storing executions in PostgreSQL that nobody owns yet, in a transaction of the store's own or of somebody else's.

No statement lives here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.columns import row_of
from saga.storage.enlisted import fault_of, in_its_loop, is_a
from saga.storage.postgres_enlisted import (
    Asking,
    answered,
    answered_in_loop,
    asking,
    asking_in_loop,
)
from saga.storage.postgres_listening import Heard
from saga.storage.postgres_pool import Connection
from saga.storage.postgres_sql import Statements
from saga.storage.postgres_writes import submitted
from saga.storage.records import Entry, NewExecution, StoredExecution
from saga.storage.retrying import has_entries
from saga.storage.whereabouts import IN_POSTGRES, Whereabouts, check_same

__all__ = ["Submitting"]

New = Sequence[tuple[NewExecution, Sequence[Entry]]]
Found = list[StoredExecution | None]


class Submitting(Heard):
    """A store on a PostgreSQL server, as far as executions are submitted to it."""

    _ours: Whereabouts | None = None

    def submit(self, new: New, *, connection: Any = None) -> Found:
        self._check(new)
        if connection is not None:
            return self._enlisted(new, connection)

        def work(connection: Connection, again: bool) -> Found:
            def ours(row: StoredExecution, one: NewExecution, entries: Sequence[Entry]) -> bool:
                return again and row.digest == one.digest and self._has_entries(connection, row.saga_id, entries)

            submitting = _submitting(self._sql, new, self.longest_text, ours)
            return answered(
                submitting, lambda statement, values: connection.execute(statement, values, prepare=True).fetchall()
            )

        found = self._run(work)
        self.tell()
        return found

    async def asubmit(self, new: New, *, connection: Any) -> Found:
        # Nobody's event loop is to wait for a server.
        await asyncio.to_thread(self._whereabouts)
        if not is_a(connection, "psycopg", "AsyncConnection"):
            return await in_its_loop(connection, lambda given: self.submit(new, connection=given))
        self._check(new)
        ask = asking_in_loop(connection)
        try:
            return await answered_in_loop(self._joining(new), ask)
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
        raise _in_their_transaction(fault)

    def _check(self, new: New) -> None:
        for one, entries in new:
            rules.check_new(one)
            rules.check_texts([entry.payload for entry in entries], self.longest_text)

    def _enlisted(self, new: New, connection: Any) -> Found:
        try:
            return answered(self._joining(new), asking(connection))
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
        # Here, as what is raised where an error is handled knows that error, and the values in it.
        raise _in_their_transaction(fault)

    def _joining(self, new: New) -> Asking[Found]:
        """Store them in a transaction of somebody else's, whose commit tells those who listen."""
        self._pool_of_process()
        ours = self._whereabouts()
        theirs = Whereabouts(*(yield IN_POSTGRES, (self._sql.table, self._sql.table))[0])
        if theirs[:3] != ours[:3]:  # the store's server may be another by now
            ours = self._whereabouts(anew=True)
        check_same(theirs, ours, self._sql.table)
        found = yield from _submitting(self._sql, new, self.longest_text, lambda row, one, entries: False)
        if None in found:
            # Unlike the store's own: those who wait in this process are to be told then, too.
            yield self._sql.notify, (self._channel_of_tables(), "")
        return found

    def _whereabouts(self, *, anew: bool = False) -> Whereabouts:
        if self._ours is None or anew:
            self._ours = Whereabouts(*self._read(IN_POSTGRES, (self._sql.table, self._sql.table))[0])
            self._channel_of_tables()
        return self._ours

    def _has_entries(self, connection: Connection, saga_id: str, entries: Sequence[Entry]) -> bool:
        seqs = [entry.seq for entry in entries]
        return has_entries([Entry(*row) for row in connection.execute(self._sql.entries, (saga_id, seqs))], entries)


def _in_their_transaction(fault: Exception) -> StorageError:
    error = StorageError(f"PostgreSQL: {fault}; roll the transaction back in which it was submitted")
    error.__cause__ = fault
    return error


def _submitting(
    sql: Statements,
    new: New,
    longest: int,
    ours: Callable[[StoredExecution, NewExecution, Sequence[Entry]], bool],
) -> Asking[Found]:
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
        stored = {row[0] for row in (yield sql.writes.submit, values)}
        left = [number for number in left if new[number][0].saga_id not in stored]
        for row in (yield from _rows(sql, [new[number][0].saga_id for number in left])):
            known[row.saga_id] = row
        left = [number for number in left if new[number][0].saga_id not in known]  # purged in between
    for saga_id, row in list(known.items()):
        if ours(row, *new[first[saga_id]]):
            del known[saga_id]
    twice = {one.saga_id for number, (one, _) in enumerate(new) if first[one.saga_id] != number}
    again = yield from _rows(sql, sorted(twice - known.keys()))
    rows = known | {row.saga_id: row for row in again}
    return [(known if first[one.saga_id] == number else rows).get(one.saga_id) for number, (one, _) in enumerate(new)]


def _rows(sql: Statements, saga_ids: Sequence[str]) -> Asking[list[StoredExecution]]:
    if not saga_ids:
        return []
    return [row_of(row) for row in (yield sql.get_each, (saga_ids,))]
