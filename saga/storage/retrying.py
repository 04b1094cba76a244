"""Trying again what a broken connection cut off, and finding out whether it had been committed. For stores on servers.

No database and no driver is known here: a store says which faults may pass, and reads what the questions need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from saga.clocks import clock
from saga.storage.records import Beat, Entry, Lease, NewExecution, StoredExecution

__all__ = ["Patience", "has_entries", "is_as_appended", "is_as_created", "renewed"]

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two attempts."""

LOCKED_FOR = (0.01, 0.05, 0.1)
"""Seconds after each of which a locked row is looked at again: where it is written to, it is locked for a commit's time."""


class Patience:
    """How long something is tried again after faults that may pass: soon at first, then at longer intervals.

    :param seconds: from the first fault on.
    """

    __slots__ = ("_deadline", "_pause", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline: float | None = None
        self._pause = FIRST_PAUSE

    @property
    def lasted(self) -> str:
        """How long it was tried, for an error: ``for 10 seconds``, or nothing where it was tried once."""
        return f" for {self.seconds:g} seconds" if self.seconds else ""

    def ends(self) -> bool:
        """Whether the next attempt would come too late. Ask it after each fault."""
        now = clock()
        if self._deadline is None:
            self._deadline = now + self.seconds
        return now + self._pause > self._deadline

    def wait(self, sleep: Callable[[float], None] | None = None) -> None:
        """Wait until the next attempt."""
        (sleep or time.sleep)(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


def renewed(renew: Callable[[Sequence[Lease]], Sequence[tuple[Any, ...]]], leases: Sequence[Lease]) -> list[Beat]:
    """Return a beat for each lease that holds, renewed or not: somebody may have locked an execution's row for long.

    :param renew: renews what nobody has locked, of some leases. Returns for each that holds the execution's id, whether that
        has messages, and whether the lease was renewed.
    """
    beats: dict[str, Beat] = {}
    for pause in (0.0, *LOCKED_FOR):
        if not leases:
            break
        time.sleep(pause)
        for lease in leases:
            beats.pop(lease.saga_id, None)
        rows = renew(leases)
        beats |= {saga_id: Beat(saga_id, mail) for saga_id, mail, _ in rows}
        locked = {saga_id for saga_id, _, done in rows if not done}
        leases = [lease for lease in leases if lease.saga_id in locked]
    return list(beats.values())


def is_as_created(stored: StoredExecution, new: NewExecution, owner: str) -> bool:
    """Whether the execution that has the id may be the one that was to be created, as far as its row tells."""
    return stored.owner == owner and stored.epoch == 1 and stored.digest == new.digest


def is_as_appended(stored: StoredExecution | None, lease: Lease, status: str | None, release: bool) -> bool:
    """Whether an execution's row is as an append would have left it, and nobody has taken the lease since."""
    if stored is None or stored.epoch != lease.epoch or stored.owner != (None if release else lease.owner):
        return False
    return status in (None, stored.status)


def has_entries(journal: Iterable[Entry], entries: Sequence[Entry]) -> bool:
    """Whether a journal, read in order, has these very entries."""
    seqs = {entry.seq for entry in entries}
    return [entry for entry in journal if entry.seq in seqs] == sorted(entries, key=lambda entry: entry.seq)
