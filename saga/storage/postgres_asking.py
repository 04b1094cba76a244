"""What is asked of a store in PostgreSQL: rows, journals, messages, counts, pages, workers. Nothing is written here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from saga.storage import rules
from saga.storage.columns import counts_of, row_of, worker_of
from saga.storage.pages import after_all_with
from saga.storage.postgres_server import Served
from saga.storage.records import Cause, Count, Entry, Hold, Listed, Message, StoredExecution, StoredWorker

__all__ = ["Asked"]


class Asked(Served):
    """A store on a PostgreSQL server, as far as it is read."""

    def now(self) -> float:
        now: float = self._read(self._sql.now, ())[0][0]
        return now

    def get(self, saga_id: str) -> StoredExecution | None:
        rows = self._read(self._sql.get, (saga_id,)) if rules.is_id(saga_id) else ()
        return row_of(rows[0]) if rows else None

    def journal(self, saga_id: str) -> list[Entry]:
        return self.journals([saga_id])[saga_id]

    def journals(self, saga_ids: Collection[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {saga_id: [] for saga_id in saga_ids}
        for saga_id, *row in self._read(self._sql.journals, ([one for one in found if rules.is_id(one)],)):
            found[saga_id].append(Entry(*row))
        return found

    def inbox(self, saga_id: str) -> list[Message]:
        return [Message(*row) for row in self._read(self._sql.inbox, (saga_id,))] if rules.is_id(saga_id) else []

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        return {row[0] for row in self._read(self._sql.with_mail, ([one for one in saga_ids if rules.is_id(one)],))}

    def count(
        self, by: Sequence[str] = ("name", "status"), *, status: Collection[str] | None = None, name: str | None = None
    ) -> list[Count]:
        columns = rules.check_count(by)
        values = (*(() if status is None else (rules.statuses_of(status),)), *(() if name is None else (name,)))
        statement = self._sql.count(columns, all_statuses=status is None, by_name=name is not None)
        return counts_of(self._read(statement, values))

    def causes(self, name: str | None = None) -> list[Cause]:
        found = self._read(self._sql.causes(name is not None), () if name is None else (name,))
        return [Cause(*row) for row in found]

    def beginning_with(self, text: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        end = after_all_with(text)
        rows = self._read(self._sql.beginning_with, (text, end, limit)) if end is not None and rules.is_id(text) else ()
        return [row_of(row) for row in rows]

    def next_tag(self, key: str) -> str | None:
        found: str | None = self._read(self._sql.next_tag, (key,))[0][0]
        return found

    def in_line(self, key: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        return [row_of(row) for row in self._read(self._sql.in_line, (key, key, limit, limit))] if rules.is_id(key) else []

    def holds(self) -> list[Hold]:
        return [Hold(*row) for row in self._read(self._sql.holds, ())]

    def workers(self) -> list[StoredWorker]:
        return [worker_of(row) for row in self._read(self._sql.workers, ())]

    def _listed(self, which: Listed) -> list[StoredExecution]:
        statuses, equal, tags, start, (created, saga_id), progressed_before, limit = which
        more = (*equal.values(), *(() if progressed_before is None else (progressed_before,)))
        within = (start, created, created, saga_id)
        if tags:
            values = (*(text for tag in tags.items() for text in tag), *within, statuses, *more, limit + 1)
            statement = self._sql.tagged(len(tags), list(equal), progressed_before is not None)
        else:
            ranges = ((one, rules.latest_created(one, created, progressed_before)) for one in statuses)
            each = ((one, *more, start, latest, created, saga_id, limit + 1) for one, latest in ranges)
            values = (*(value for one in each for value in one), limit + 1)
            statement = self._sql.listing(len(statuses), list(equal), progressed_before is not None)
        return [row_of(row) for row in self._read(statement, values, prepare=False)]
