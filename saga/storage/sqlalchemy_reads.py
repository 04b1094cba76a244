"""What the SQLAlchemy store reads: rows, journals, inboxes, pages and counts. Nothing is stored here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from saga.storage import rules
from saga.storage.columns import counts_of, row_of
from saga.storage.pages import after_all_with
from saga.storage.records import Cause, Count, Entry, Listed, Message, StoredExecution
from saga.storage.sqlalchemy_connected import Connected
from saga.storage.sqlalchemy_sql import ENTRY, batches

__all__ = ["Reads"]


class Reads(Connected):
    """A store's part that reads."""

    def get(self, saga_id: str) -> StoredExecution | None:
        if not rules.is_id(saga_id):
            return None
        rows = self._read(self._sql.get([saga_id]))
        return row_of(rows[0]) if rows else None

    def journal(self, saga_id: str) -> list[Entry]:
        return self.journals([saga_id])[saga_id]

    def journals(self, saga_ids: Collection[str]) -> dict[str, list[Entry]]:
        journal = self._tables.journal
        columns = sa.select(journal.c.saga_id, *(journal.c[name] for name in ENTRY)).order_by(journal.c.saga_id, journal.c.seq)
        found: dict[str, list[Entry]] = {saga_id: [] for saga_id in saga_ids}
        for some in batches([saga_id for saga_id in found if rules.is_id(saga_id)]):
            for saga_id, *row in self._read(columns.where(journal.c.saga_id.in_(some))):
                found[saga_id].append(Entry(*row))
        return found

    def inbox(self, saga_id: str) -> list[Message]:
        if not rules.is_id(saga_id):
            return []
        inbox = self._tables.inbox
        columns = sa.select(inbox.c.id, inbox.c.saga_id, inbox.c.body)
        return [Message(*row) for row in self._read(columns.where(inbox.c.saga_id == saga_id).order_by(inbox.c.id))]

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        column = self._tables.inbox.c.saga_id
        found: set[str] = set()
        for some in batches([saga_id for saga_id in saga_ids if rules.is_id(saga_id)]):
            found.update(row[0] for row in self._read(sa.select(column).where(column.in_(some)).distinct()))
        return found

    def count(
        self, by: Sequence[str] = ("name", "status"), *, status: Collection[str] | None = None, name: str | None = None
    ) -> list[Count]:
        columns, statuses = rules.check_count(by), rules.statuses_of(status)
        return counts_of(row for row in self._read(self._sql.counting(columns, statuses, name)) if row[-1])

    def causes(self, name: str | None = None) -> list[Cause]:
        return [Cause(*row) for row in self._read(self._sql.causes(name))]

    def beginning_with(self, text: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        end = after_all_with(text)
        rows = self._read(self._sql.beginning_with(text, end, limit)) if end is not None and rules.is_id(text) else ()
        return [row_of(row) for row in rows]

    def next_tag(self, key: str) -> str | None:
        found: str | None = self._read(self._sql.next_tag(key))[0][0]
        return found

    def in_line(self, key: str, limit: int) -> list[StoredExecution]:
        rules.check_limit(limit)
        if not rules.is_id(key):
            return []
        rows = (*self._read(self._sql.having(key)), *self._read(self._sql.waiting(key, limit)))
        return list({row[0]: row_of(row) for row in rows}.values())[:limit]

    def _listed(self, which: Listed) -> list[StoredExecution]:
        return [row_of(row) for row in self._read(self._sql.listing(which))]
