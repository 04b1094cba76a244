"""What is asked of a store in memory about many executions: counts, causes, pages. Nothing is changed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from saga.storage import rules
from saga.storage.columns import counts_of
from saga.storage.figures import figures_of_rows
from saga.storage.memory_line import Line
from saga.storage.memory_workers import WorkersInMemory
from saga.storage.records import Cause, Count, Figures, Listed, StoredExecution

__all__ = ["AskedInMemory"]


class AskedInMemory(WorkersInMemory):
    """A part of :class:`~saga.storage.memory.MemoryStore`, whose executions these are."""

    _executions: dict[str, StoredExecution]
    _line: Line

    def count(
        self, by: Sequence[str] = ("name", "status"), *, status: Collection[str] | None = None, name: str | None = None
    ) -> list[Count]:
        columns, statuses = rules.check_count(by), rules.statuses_of(status)
        with self._lock:
            self._refuse_if_closed()
            found = Counter(
                tuple(getattr(row, column) for column in columns)
                for row in self._executions.values()
                if row.status in statuses and name in (None, row.name)
            )
        return counts_of((*values, executions) for values, executions in found.items())

    def figures(self) -> Figures:
        with self._lock:
            self._refuse_if_closed()
            return figures_of_rows(self._executions.values(), self._workers.values(), self._clock())

    def causes(self, name: str | None = None) -> list[Cause]:
        with self._lock:
            self._refuse_if_closed()
            stuck = [row for row in self._executions.values() if row.status == "stuck" and name in (None, row.name)]
        found: dict[tuple[str, str | None, str | None], list[StoredExecution]] = {}
        for row in stuck:
            found.setdefault((row.name, row.step, row.cause), []).append(row)
        return [
            Cause(
                *kind,
                max((row.reason for row in rows if row.reason), default=None),
                len(rows),
                min(row.progressed for row in rows),
                max(row.saga_id for row in rows),
            )
            for kind, rows in found.items()
        ]

    def beginning_with(self, text: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        with self._lock:
            self._refuse_if_closed()
            found = [row for saga_id, row in self._executions.items() if saga_id.startswith(text)]
        return sorted(found, key=lambda row: row.saga_id)[:limit]

    def next_tag(self, key: str) -> str | None:
        with self._lock:
            self._refuse_if_closed()
            return min((tag for row in self._executions.values() for tag in row.tags if tag > key), default=None)

    def in_line(self, key: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        with self._lock:
            self._refuse_if_closed()
            having = self._line.keys
            found = [
                row
                for row in self._executions.values()
                if row.exclusive == key and (row.saga_id in having or row.status in rules.CLAIMABLE)
            ]
            return sorted(found, key=lambda row: (row.saga_id not in having, row.opens, row.saga_id))[:limit]

    def _listed(self, which: Listed) -> list[StoredExecution]:
        with self._lock:
            self._refuse_if_closed()
            found = [
                row
                for row in self._executions.values()
                if row.status in which.statuses
                and all(getattr(row, column) == value for column, value in which.equal.items())
                and which.tags.items() <= row.tags.items()
                and row.created >= which.start
                and (which.progressed_before is None or row.progressed < which.progressed_before)
                and (row.created, row.saga_id) < which.bound
            ]
        found.sort(key=lambda row: (row.created, row.saga_id), reverse=True)
        return found
