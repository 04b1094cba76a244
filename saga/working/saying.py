"""What a worker says of itself in the log: as it begins, as it is told to stop, and as it ends."""

from __future__ import annotations

from typing import Final

from saga.own_log import LOG
from saga.storage.protocol import Store
from saga.working.definitions import Definitions

__all__ = ["say_begins", "say_ended", "say_stops"]

_MOST: Final = 20
"""Sagas that are named."""


def say_begins(store: Store, definitions: Definitions, begins: bool, threads: int, tasks: int) -> None:
    """Say what is run, from where, and how many at once.

    :param begins: what was submitted, too.
    """
    sagas = [_told(name, [one.version for one in known]) for name, known in definitions.by_name.items()]
    named = ", ".join([*sagas[:_MOST], *([f"and {len(sagas) - _MOST} more"] if len(sagas) > _MOST else [])])
    at_once = [
        f"{count} at once in {where}"
        for asynchronous, count, where in ((False, threads, "threads"), (True, tasks, "an event loop"))
        if definitions.wanted(asynchronous)
    ]
    what = "runs" if begins else "finishes what dead processes left of"
    LOG.info("worker: it %s %s from %r, %s", what, named, store, " and ".join(at_once))


def _told(name: str, versions: list[str]) -> str:
    if versions == ["block"]:
        return f"blocks {name!r}"
    return f"{name!r} (version{'s' if len(versions) > 1 else ''} {', '.join(versions)})"


def say_stops(in_hand: int, calls: bool, grace: float) -> None:
    """Say what is finished before a worker ends. :param calls: the calls alone; others go on from there."""
    what = f"{in_hand} execution{'' if in_hand == 1 else 's'} in hand"
    if not in_hand:
        LOG.info("worker: it stops, with nothing in hand")
    elif calls:
        LOG.info("worker: it stops: the calls of %s have %g s to end, and others go on from there", what, grace)
    else:
        LOG.info("worker: it stops: %s may take %g s to end", what, grace)


def say_ended(done: int) -> None:
    """Say that a worker is gone. :param done: how many executions it has been done with."""
    LOG.info("worker: it has ended, and has seen to %d execution%s", done, "" if done == 1 else "s")
