"""The line that executions in memory stand in: which of them may be taken now. Nothing is taken here."""

from __future__ import annotations

from collections.abc import Collection

from saga.storage import rules
from saga.storage.claims import fits_one, holds_back, is_left, rate_window
from saga.storage.records import Hold, StoredExecution, Wanted

__all__ = ["Line"]


class Line:
    """All executions by id, those that have their ``exclusive`` keys, and what is held."""

    def __init__(self, executions: dict[str, StoredExecution], holds: dict[tuple[str, str], Hold]) -> None:
        self.executions = executions
        self.keys: set[str] = set()
        self.holds = holds

    def due(self, now: float, submitted: bool) -> list[StoredExecution]:
        """Return what nobody owns and is due, oldest due first."""
        found = [
            row
            for row in self.executions.values()
            if row.status in rules.CLAIMABLE
            and is_left(row, submitted, now)
            and max(row.due, row.lease_until) <= now
            and self.is_open(row, now)
        ]
        return sorted(found, key=lambda row: row.due)

    @staticmethod
    def is_open(row: StoredExecution, now: float) -> bool:
        """Whether it may be begun by now, or is not to be begun: it was, or a person gave it up before."""
        return row.status != "submitted" or row.opens <= now

    def may_run(self, row: StoredExecution, wanted: Collection[Wanted] | None, now: float) -> bool:
        """Whether it is this execution's turn, and one of these fits it, and may have another."""
        one = None if wanted is None else fits_one(row, wanted)
        if wanted is not None and one is None:
            return False
        others = [other for other in self.executions.values() if other.name == row.name]
        if row.status == "submitted" and holds_back(self.holds, row.name, None if one is None else one.version):
            return False
        in_hand = sum(other.owner is not None and other.lease_until > now for other in others)
        if one is not None and one.limit is not None and in_hand >= one.limit:
            return False
        if one is not None and one.rate is not None and row.status == "submitted":
            most, seconds = rate_window(one.rate)
            if sum(other.started is not None and other.started > now - seconds for other in others) >= most:
                return False
        return row.exclusive is None or row.saga_id in self.keys or self._is_first(row)

    def _is_first(self, row: StoredExecution) -> bool:
        """Whether nobody has an execution's key, and none that is still to have it was stored before."""
        return not any(
            other.saga_id in self.keys or (other.opens, other.saga_id) < (row.opens, row.saga_id)
            for other in self.executions.values()
            if other.exclusive == row.exclusive and other.status not in rules.ENDED and other.saga_id != row.saga_id
        )
