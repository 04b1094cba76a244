"""Whose turn it is: what all stores decide alike about what is claimed. No store and no statement lives here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from saga.storage.records import ANY, NewExecution, StoredExecution, Wanted

__all__ = [
    "WORTH",
    "Defined",
    "Share",
    "called_until",
    "due_again",
    "fits_one",
    "holds_back",
    "is_had",
    "is_left",
    "moments",
    "one_of_each_key",
    "opening",
    "rate_window",
    "shares",
]

T = TypeVar("T")

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


def called_until(new: NewExecution, now: float) -> float | None:
    """Return until when others leave a submitted execution to whoever called for it; ``None``: nobody did."""
    return None if new.called is None else now + new.called


def due_again(row: StoredExecution, now: float, delay: float) -> float:
    """Return when an execution is due that is given back. For others to go on with at once, it keeps its place in the line."""
    return now + delay if delay else min(now, row.opens - WORTH * row.priority)


def is_left(row: StoredExecution, submitted: bool, now: float) -> bool:
    """Whether an execution is there for whoever claims: it was begun; whoever called for it is gone; or nobody did.

    :param submitted: also what nobody called for.
    """
    if row.status != "submitted":
        return True
    return submitted if row.called_until is None else row.called_until <= now


def fits_one(row: Defined, wanted: Iterable[Wanted]) -> Wanted | None:
    """Return the one that an execution fits, or ``None``: the definition that it began with first."""
    fitting = [
        one
        for one in wanted
        if one.name == row.name and (one.fingerprint in (None, row.fingerprint) or row.version in one.compatible)
    ]
    own = (one for one in fitting if one.version == row.version and one.fingerprint == row.fingerprint)
    return next(own, fitting[0] if fitting else None)


class Share(NamedTuple):
    """Where executions are that one definition is to run: of its name those with a fingerprint, a version, or both; or all.

    :ivar but: without those that have one of these: versions where the fingerprint is given, else fingerprints.
    """

    wanted: Wanted
    fingerprint: str | None = None
    version: str | None = None
    but: tuple[str, ...] = ()


def shares(wanted: Sequence[Wanted]) -> list[Share]:
    """Return where each one's executions are, as :func:`fits_one` tells whose each is: several may fit the same."""
    found: list[Share] = []
    for number, one in enumerate(wanted):
        others = [other for other in wanted if other is not one and other.name == one.name]
        before = [other for other in wanted[:number] if other.name == one.name]
        if one.fingerprint is None:
            found.append(Share(one))
            continue
        first = frozenset[str]().union(*(other.compatible for other in before))
        if not any(other.fingerprint in (None, one.fingerprint) for other in before):
            own = {other.version for other in others if other.fingerprint == one.fingerprint and other.version is not None}
            found.append(Share(one, one.fingerprint, None, tuple(sorted((own | first) - {one.version}))))
        elif one.version is not None:
            found.append(Share(one, one.fingerprint, one.version))
        for version in sorted(one.compatible - first):
            theirs = [other.fingerprint for other in others if other.version == version or other in before]
            but = {fingerprint for fingerprint in (one.fingerprint, *theirs) if fingerprint is not None}
            if None not in theirs:
                found.append(Share(one, None, version, tuple(sorted(but))))
    return found


def is_had(definitions: Iterable[tuple[str, str, str]], row: Defined) -> bool:
    """Whether a worker that told these definitions can run an execution: one has its fingerprint, or names its version."""
    return any(
        name == row.name and (fingerprint == row.fingerprint or (fingerprint == "" and version == row.version))
        for name, version, fingerprint in definitions
    )


def one_of_each_key(found: Iterable[T], key: Callable[[T], str | None]) -> list[T]:
    """Return what may be taken together: of those with the same key the first.

    What is held keeps others back only where that is held with it, and may be begun by another version: so it may be the turn
    of more than one.
    """
    keys: set[str | None] = set()
    first = []
    for one in found:
        own = key(one)
        if own is None or own not in keys:
            first.append(one)
            keys.add(own)
    return first


def rate_window(rate: float) -> tuple[int, float]:
    """Return how many may be begun within how many seconds."""
    return (int(rate), int(rate) / rate) if rate >= 1 else (1, 1 / rate)


def holds_back(held: Collection[tuple[str, str]], name: str, version: str | None) -> bool:
    """Whether nothing of a saga is to be begun with a version of it, by the names and versions of what is held."""
    return (name, ANY) in held or (version is not None and (name, version) in held)
