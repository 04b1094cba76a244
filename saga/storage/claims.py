"""Whose turn it is: what all stores decide alike about what is claimed. No store and no statement lives here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from saga.storage.records import ANY, NewExecution, Wanted

__all__ = ["WORTH", "Defined", "fits_one", "holds_back", "is_had", "moments", "opening", "rate_window"]

WORTH = 60.0
"""Seconds of waiting that a point of priority is worth: what waits longer goes first in the end, so that nobody starves."""


class Defined(Protocol):
    """An execution, or what is known of many: by which definition it was stored."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


def moments(now: float, count: int) -> list[float]:
    """Return when executions are created that are stored at once: each after the one before it, as they were submitted."""
    return [now + number * 1e-6 for number in range(count)]


def opening(new: NewExecution, now: float) -> tuple[float, float]:
    """Return when a submitted execution is due, with its priority, and when it may be begun."""
    opens = now if new.at is None else max(new.at, 0.0)
    return opens - WORTH * new.priority, opens


def fits_one(row: Defined, wanted: Iterable[Wanted]) -> Wanted | None:
    """Return the one that an execution fits, or ``None``: the definition that it began with first."""
    fitting = [
        one
        for one in wanted
        if one.name == row.name and (one.fingerprint in (None, row.fingerprint) or row.version in one.compatible)
    ]
    own = (one for one in fitting if one.version == row.version and one.fingerprint == row.fingerprint)
    return next(own, fitting[0] if fitting else None)


def is_had(definitions: Iterable[tuple[str, str, str]], row: Defined) -> bool:
    """Whether a worker that told these definitions can run an execution: one has its fingerprint, or names its version."""
    return any(
        name == row.name and (fingerprint == row.fingerprint or (fingerprint == "" and version == row.version))
        for name, version, fingerprint in definitions
    )


def rate_window(rate: float) -> tuple[int, float]:
    """Return how many may be begun within how many seconds."""
    return (int(rate), int(rate) / rate) if rate >= 1 else (1, 1 / rate)


def holds_back(held: Collection[tuple[str, str]], name: str, version: str | None) -> bool:
    """Whether nothing of a saga is to be begun with a version of it, by the names and versions of what is held."""
    return (name, ANY) in held or (version is not None and (name, version) in held)
