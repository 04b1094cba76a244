"""What a store in PostgreSQL tells whoever looks after it: figures, and what is stuck that nobody was told of."""

from __future__ import annotations

from saga.storage import rules
from saga.storage.columns import row_of
from saga.storage.figures import TOLD, figures_of
from saga.storage.postgres_asking import Asked
from saga.storage.records import Figures, StoredExecution

__all__ = ["Alerting"]


class Alerting(Asked):
    """A store on a PostgreSQL server, as far as those go who look after it."""

    def figures(self) -> Figures:
        return figures_of(self._read(self._sql.figures, ()))

    def next_alert(self, seconds: float) -> StoredExecution | None:
        rules.check_number("seconds", seconds)
        rows = self._read(self._sql.next_alert, (seconds,))
        return row_of(rows[0]) if rows else None

    def alerted(self, saga_id: str, epoch: int, again: float | None = None) -> None:
        rules.check_number("again", again or 0.0)
        if rules.is_id(saga_id):
            told = (TOLD if again is None else 0.0, 0.0 if again is None else again)
            self._run(lambda connection, _: connection.execute(self._sql.alerted, (*told, saga_id, epoch), prepare=True))
