"""What is asked of a store in PostgreSQL: rows, journals, messages, counts, pages, workers. Nothing is written here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from saga.storage import rules
from saga.storage.columns import counts_of, row_of, worker_of
from saga.storage.postgres_server import Served
from saga.storage.records import NONE, Count, Entry, Hold, Message, Page, StoredExecution, StoredWorker

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

    def holds(self) -> list[Hold]:
        return [Hold(*row) for row in self._read(self._sql.holds, ())]

    def workers(self) -> list[StoredWorker]:
        return [worker_of(row) for row in self._read(self._sql.workers, ())]

    def list(
        self,
        *,
        status: Collection[str] | None = None,
        name: str | None = None,
        version: str | None = None,
        step: str | None = None,
        cause: str | None = None,
        tags: Mapping[str, str] = NONE,
        created_before: float | None = None,
        created_after: float | None = None,
        progressed_before: float | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        rules.check_page(limit, created_before=created_before, created_after=created_after, progressed_before=progressed_before)
        statuses = rules.statuses_of(status)
        created, saga_id = rules.bound_of(after, created_before)
        if not statuses:
            return Page((), None)
        equal = {"name": name, "version": version, "step": step, "cause": cause}
        found = {column: value for column, value in equal.items() if value is not None}
        more = (*found.values(), *(() if progressed_before is None else (progressed_before,)))
        within = (-rules.END_OF_TIME if created_after is None else created_after, created, created, saga_id)
        if tags:
            values = (*(text for tag in tags.items() for text in tag), *within, statuses, *more, limit + 1)
            statement = self._sql.tagged(len(tags), list(found), progressed_before is not None)
        else:
            ranges = ((one, rules.latest_created(one, created, progressed_before)) for one in statuses)
            each = ((one, *more, within[0], latest, created, saga_id, limit + 1) for one, latest in ranges)
            values = (*(value for one in each for value in one), limit + 1)
            statement = self._sql.listing(len(statuses), list(found), progressed_before is not None)
        return rules.page_of([row_of(row) for row in self._read(statement, values, prepare=False)], limit)
