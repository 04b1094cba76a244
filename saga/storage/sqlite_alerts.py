"""What a store in an SQLite file tells whoever looks after it: figures, and what is stuck that nobody was told of."""

from __future__ import annotations

import sqlite3
from typing import Final

from saga.storage import rules
from saga.storage.columns import row_of
from saga.storage.figures import TOLD, asking, figures_of, free
from saga.storage.records import Figures, StoredExecution
from saga.storage.sqlite_sql import COLUMNS
from saga.storage.sqlite_workers import Workers

__all__ = ["Alerting"]

_COUNTED: Final = (
    "SELECT 'executions', name, status, nullif(cause, ''), sum(executions) FROM saga_count GROUP BY name, status, cause"
)
_LEFT: Final = (
    "SELECT 'free', name, version, fingerprint, 1 FROM saga_count AS kind WHERE EXISTS (SELECT 1 FROM saga"
    " WHERE status = kind.status AND name = kind.name AND version = kind.version AND fingerprint = kind.fingerprint"
    f" AND {free('?1')})"
)
"""Look at few of each kind, rather than at all that is open."""


def _begun(status: str, due: str) -> tuple[str, str]:
    of_kind = "name = kind.name AND version = kind.version AND fingerprint = kind.fingerprint"
    waiting = f"SELECT max(due, opens, updated) AS since FROM saga WHERE {of_kind} AND {due}"
    return f"min((SELECT min(since) FROM ({waiting})))", f"saga_count AS kind WHERE kind.status = '{status}'"


FIGURES: Final = asking("saga", "saga_worker", _COUNTED, _LEFT, "?1", "max", _begun)

STUCK: Final = (
    f"SELECT id FROM saga INDEXED BY saga_untold WHERE {rules.UNTOLD} AND due <= ? AND lease_until <= ?"
    " ORDER BY due, id LIMIT 1"
)
"""Find what is stuck that nobody was told of, first what was stuck first."""

TAKE: Final = (
    f"UPDATE saga SET due = ?2 WHERE id = ?1 AND status = 'stuck' AND due <= ?3 AND lease_until <= ?3 RETURNING {COLUMNS}"
)
"""Keep others from telling of it until then, where nobody else has."""

TELL: Final = "UPDATE saga SET due = ? WHERE id = ? AND epoch = ? AND status = 'stuck'"
"""Have nobody tell of it before then."""


class Alerting(Workers):
    """A store in an SQLite file, as far as those go who look after it."""

    def figures(self) -> Figures:
        return figures_of(self._file.read(FIGURES, (self._clock(),)))

    def next_alert(self, seconds: float) -> StoredExecution | None:
        rules.check_number("seconds", seconds)
        now = self._clock()
        found = self._file.read(STUCK, (now, now))
        if not found:  # as nearly always, so that nothing is written
            return None

        def apply(connection: sqlite3.Connection) -> StoredExecution | None:
            row = connection.execute(TAKE, (found[0][0], now + seconds, now)).fetchone()
            return None if row is None else row_of(row)

        return self._write(apply)

    def alerted(self, saga_id: str, epoch: int, again: float | None = None) -> None:
        rules.check_number("again", again or 0.0)
        due = TOLD if again is None else self._clock() + again
        self._write(lambda connection: connection.execute(TELL, (due, saga_id, epoch)), single=True)
