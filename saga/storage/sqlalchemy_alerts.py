"""What a store through SQLAlchemy tells whoever looks after it: figures, and what is stuck that nobody was told of."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from saga.storage import rules
from saga.storage.columns import row_of
from saga.storage.figures import LOOKED_AT, OPEN, TOLD, figures_of
from saga.storage.records import Figures, StoredExecution
from saga.storage.sqlalchemy_connected import Connected

__all__ = ["Alerting"]


class Alerting(Connected):
    """A store's part that deals with those who look after it."""

    def figures(self) -> Figures:
        return figures_of(self._read(self._asking()))

    def next_alert(self, seconds: float) -> StoredExecution | None:
        rules.check_number("seconds", seconds)
        saga, now = self._tables.saga, self._sql.now()
        untold = (saga.c.status == "stuck", saga.c.due <= now, saga.c.lease_until <= now)
        first = sa.select(saga.c.id).where(*untold).order_by(saga.c.due, saga.c.id).limit(1)
        first = first.with_for_update(skip_locked=self._sql.skips_locked)

        def work(connection: sa.Connection, again: bool) -> StoredExecution | None:
            saga_id = connection.execute(first).scalar()
            if saga_id is None:
                return None
            taken = connection.execute(saga.update().where(saga.c.id == saga_id, *untold).values(due=now + seconds)).rowcount
            return row_of(connection.execute(self._sql.get([saga_id])).one()) if taken else None

        return self._run(work)

    def alerted(self, saga_id: str, epoch: int, again: float | None = None) -> None:
        rules.check_number("again", again or 0.0)
        saga = self._tables.saga
        due = sa.literal(TOLD, sa.Double()) if again is None else self._sql.now() + again
        stuck = (saga.c.id == saga_id, saga.c.epoch == epoch, saga.c.status == "stuck")
        if rules.is_id(saga_id):
            self._run(lambda connection, _: connection.execute(saga.update().where(*stuck).values(due=due)).close())

    def _asking(self) -> sa.CompoundSelect[Any]:
        """Return the statement that :func:`saga.storage.figures.asking` writes out for other stores."""
        saga, worker, now = self._tables.saga, self._tables.worker, self._sql.now()
        called = sa.and_(saga.c.status == "submitted", sa.func.coalesce(saga.c.called_until, 0) > now)
        free = (saga.c.status.in_(rules.CLAIMABLE), saga.c.lease_until <= now, ~called)

        def telling(kind: str, number: sa.ColumnElement[Any], *texts: Any) -> sa.Select[Any]:
            # As they are compared in different ways, they would not be united as they are.
            a, b, c = [sa.cast(one, sa.String()) for one in (*texts, *[sa.null()] * (3 - len(texts)))]
            of: sa.ColumnElement[Any] = sa.literal(kind, sa.String())
            return sa.select(of.label("kind"), a.label("a"), b.label("b"), c.label("c"), sa.cast(number, sa.Double()))

        count = sa.func.count()
        kinds = (saga.c.name, saga.c.status, saga.c.cause)
        definitions = (saga.c.name, saga.c.version, saga.c.fingerprint)
        parts = [
            telling("now", now),
            telling("executions", count, *kinds).select_from(saga).group_by(*kinds),
            telling("worker", worker.c.until, worker.c.definitions).where(worker.c.until > now),
            telling("free", sa.literal(1), *definitions).where(*free).distinct(),
        ]
        for status in OPEN:
            for column in (saga.c.created, saga.c.progressed):
                first = sa.select(sa.func.min(column)).where(saga.c.status == status).scalar_subquery()
                parts.append(telling(column.name, first, sa.literal(status, sa.String())))
        for status in rules.CLAIMABLE:
            due = (saga.c.status == status, saga.c.due <= now, saga.c.opens <= now, *free)
            latest = sa.case(
                (sa.and_(saga.c.due >= saga.c.opens, saga.c.due >= saga.c.updated), saga.c.due),
                (saga.c.opens >= saga.c.updated, saga.c.opens),
                else_=saga.c.updated,
            )
            order = saga.c.progressed if status == "submitted" else saga.c.due
            waiting = sa.select(latest.label("since")).where(*due).order_by(order).limit(LOOKED_AT).subquery()
            parts.append(telling("due", sa.func.min(waiting.c.since), sa.literal(status, sa.String())).select_from(waiting))
        return sa.union_all(*parts)
