"""Holds and workers of the SQLAlchemy store: what is not to be begun, and who lives. No execution is known here."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.columns import REMEMBERED, WORKER, definitions_text, worker_of
from saga.storage.records import Hold, NewWorker, StoredWorker
from saga.storage.sqlalchemy_connected import Conflict, Connected
from saga.storage.watching import ring

__all__ = ["Workers"]


class Workers(Connected):
    """A store's part that deals with holds and workers."""

    def hold(self, name: str, version: str, who: str, why: str) -> None:
        rules.check_hold(name, version, who, why)
        hold = self._tables.hold

        def work(connection: sa.Connection, again: bool) -> None:
            connection.execute(hold.delete().where(hold.c.name == name, hold.c.version == version))
            connection.execute(hold.insert().values(name=name, version=version, who=who, why=why, at=self._sql.now()))

        self._put(work)

    def let_go(self, name: str, version: str) -> bool:
        hold = self._tables.hold
        found = False

        def work(connection: sa.Connection, again: bool) -> None:
            nonlocal found  # by an attempt whose answer was lost, too
            gone = connection.execute(hold.delete().where(hold.c.name == name, hold.c.version == version))
            found = found or gone.rowcount > 0

        self._run(work)
        ring(self)
        return found

    def holds(self) -> list[Hold]:
        hold = self._tables.hold
        columns = [hold.c[name] for name in Hold._fields]
        return [Hold(*row) for row in self._read(sa.select(*columns).order_by(hold.c.name, hold.c.version))]

    def announce(self, worker: NewWorker, seconds: float) -> None:
        rules.check_worker(worker, seconds)
        table, now = self._tables.worker, self._sql.now()
        told = worker._asdict() | {"definitions": definitions_text(worker), "seen": now, "until": now + seconds}

        def work(connection: sa.Connection, again: bool) -> None:
            if connection.execute(table.update().where(table.c.id == worker.id).values(told)).rowcount == 0:
                connection.execute(table.delete().where(table.c.until <= now - REMEMBERED))
                connection.execute(table.insert().values(told | {"started": now}))

        self._put(work)

    def withdraw(self, worker: str) -> None:
        table, now = self._tables.worker, self._sql.now()
        gone = table.update().where(table.c.id == worker, table.c.until > now).values(until=now)
        self._run(lambda connection, again: connection.execute(gone).close())

    def workers(self) -> list[StoredWorker]:
        worker = self._tables.worker
        found = sa.select(*(worker.c[name] for name in WORKER)).where(worker.c.until > self._sql.now() - REMEMBERED)
        return [worker_of(row) for row in self._read(found.order_by(worker.c.id))]

    def _put(self, work: Callable[[sa.Connection, bool], None]) -> None:
        """Put a row where there may be one, which others may put there at the same time.

        :raises StorageError: it could not be stored.
        """
        for _ in range(3):
            try:
                return self._run(work)
            except Conflict as conflict:
                cause = conflict
        raise StorageError(f"{cause}; nothing was stored") from cause.__cause__
