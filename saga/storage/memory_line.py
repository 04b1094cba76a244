"""The line that executions in memory stand in: which of them may be taken now. Nothing is taken here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import cached_property

from saga.storage import rules
from saga.storage.claims import fits_one, holds_back, is_left, rate_window
from saga.storage.records import Hold, StoredExecution, Wanted

__all__ = ["Line", "Turn"]


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


class Turn:
    """Whose turn it is in one claim: what there is of each name and key is counted once, when it is asked for.

    :param line: which nobody changes meanwhile, but for what is taken here.
    """

    def __init__(self, line: Line, wanted: Collection[Wanted] | None, now: float) -> None:
        self._line = line
        self._wanted = wanted
        self._now = now
        self._begun: dict[float, Counter[str]] = {}

    def may_run(self, row: StoredExecution) -> bool:
        """Whether it is this execution's turn, and one of those wanted fits it, and may have another."""
        one = None if self._wanted is None else fits_one(row, self._wanted)
        if self._wanted is not None and one is None:
            return False
        begins = row.status == "submitted"
        if begins and holds_back(self._line.holds, row.name, None if one is None else one.version):
            return False
        if one is not None and one.limit is not None and self._in_hand[row.name] >= one.limit:
            return False
        if one is not None and one.rate is not None and begins:
            most, seconds = rate_window(one.rate)
            if self._begun_within(seconds)[row.name] >= most:
                return False
        return row.exclusive is None or row.saga_id in self._line.keys or self._is_first(row, row.exclusive)

    def take(self, row: StoredExecution) -> None:
        """Count an execution that is taken now, as it was before."""
        if row.exclusive is not None:
            self._had.add(row.exclusive)
        if "_in_hand" in vars(self):  # else it will be counted with the others
            self._in_hand[row.name] += 1
        if row.started is None:
            for begun in self._begun.values():
                begun[row.name] += 1

    @cached_property
    def _in_hand(self) -> Counter[str]:
        rows = self._line.executions.values()
        return Counter(row.name for row in rows if row.owner is not None and row.lease_until > self._now)

    def _begun_within(self, seconds: float) -> Counter[str]:
        if seconds not in self._begun:
            since, rows = self._now - seconds, self._line.executions.values()
            self._begun[seconds] = Counter(row.name for row in rows if row.started is not None and row.started > since)
        return self._begun[seconds]

    @cached_property
    def _had(self) -> set[str | None]:
        """The keys that somebody has."""
        return {self._line.executions[saga_id].exclusive for saga_id in self._line.keys}

    def _is_first(self, row: StoredExecution, key: str) -> bool:
        """Whether nobody has its key, and none before it keeps it back: what is held does so only with what is held with it."""
        held = self._held_with(row)
        first = [self._first[group] for group in {(key, None), (key, held)} if group in self._first]
        return key not in self._had and all(_place(row) <= _place(one) for one in first)

    @cached_property
    def _first(self) -> dict[tuple[str, tuple[str, str] | None], StoredExecution]:
        """Of each key, the first that may be begun now, or goes on; and the first of each version that is held."""
        first: dict[tuple[str, tuple[str, str] | None], StoredExecution] = {}
        for row in self._line.executions.values():
            if row.exclusive is not None and row.status in rules.CLAIMABLE and self._line.is_open(row, self._now):
                group = (row.exclusive, self._held_with(row))
                first[group] = min(first.get(group, row), row, key=_place)
        return first

    def _held_with(self, row: StoredExecution) -> tuple[str, str] | None:
        """Return the saga and the version with which an execution is held that is not begun; ``None``: it is not."""
        held = row.status == "submitted" and holds_back(self._line.holds, row.name, row.version)
        return (row.name, row.version) if held else None


def _place(row: StoredExecution) -> tuple[float, str]:
    return row.opens, row.saga_id
