"""Stints: the time for which one process has an execution in its hands, as observers are told of it. Nothing is run here.

Whatever such an observer does, the execution goes on: what it raises is logged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saga.awaitables import answer
from saga.definition import ExecutionInfo, Observer
from saga.drivers.observing import is_not_its_own
from saga.events import Status
from saga.own_log import LOG
from saga.plain import repr_of

__all__ = ["carried_from", "end_stints", "stints_of"]


def stints_of(observers: Iterable[Observer], info: ExecutionInfo) -> list[Observer]:
    """Return who observes an execution that begins here, or is taken up: each observer, or what it has made in its place."""
    made = [(one, _asked(one, "stint", _observer, info)) for one in observers]
    return [one if other is None else other for one, other in made]


def carried_from(observers: Iterable[Observer]) -> Mapping[str, str] | None:
    """Return what observers have carried along from here; ``None``: nothing."""
    found: dict[str, str] = {}
    for one in observers:
        found |= _asked(one, "carry", _texts) or {}
    return found or None


def end_stints(observers: Iterable[Observer], status: Status, error: BaseException | None) -> None:
    """Tell observers that nothing more of the execution runs here: see :meth:`saga.definition.Stints.ended`.

    :raises KeyboardInterrupt: a Ctrl-C has struck one of them; the others are told.
    """
    struck: BaseException | None = None
    for one in observers:
        try:
            _asked(one, "ended", lambda found: None, status, error)
        except BaseException as interrupt:
            struck = interrupt
    if struck is not None:
        raise struck


def _asked(observer: Observer, method: str, checked: Callable[[Any], Any], *args: Any) -> Any:
    """Return what an observer's method says, if it has such a one."""
    process = 0  # nothing is asked yet
    try:
        found = getattr(observer, method, None) if _has(observer, method) else None
        if not callable(found):
            return None
        process = os.getpid()
        said = answer(found(*args), f"{method}()", "make it a plain function")
        return None if said is None else checked(said)
    except BaseException as error:
        if is_not_its_own(error, process or os.getpid()):
            raise
        LOG.exception("%s() of observer %s raised; the saga goes on without", method, repr_of(observer))
        return None


def _has(observer: Observer, method: str) -> bool:
    """Whether it has such a method of its own: a mock answers to any name, and what it made would hear of all in its place."""
    return hasattr(type(observer), method) or method in getattr(observer, "__dict__", ())


def _observer(said: Any) -> Observer:
    if not callable(said):
        raise TypeError(f"stint() returned {type(said).__name__}; return a callable of (event, info), or None")
    return said  # type: ignore[no-any-return]


def _texts(said: Any) -> dict[str, str]:
    found = dict(said)
    if not all(type(text) is str for pair in found.items() for text in pair):
        raise TypeError("carry() returned what is no mapping of texts to texts")
    return found
