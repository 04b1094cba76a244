"""Which stored executions the running code is part of: those whose steps' calls it was begun from. Nobody is refused here."""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from saga.drivers.base import Driver

__all__ = ["enter", "leave", "outer_executions"]

_Drivers = tuple["weakref.ref[Driver]", ...]

# A context that outlives an execution, such as that of a task which a step has begun, does not keep it.
_WITHIN: Final[ContextVar[_Drivers]] = ContextVar("saga_within", default=())


def enter(driver: Driver) -> _Drivers | None:
    """Say that this thread or task makes an execution's calls, where it is stored. Return what :func:`leave` takes."""
    if driver.journal is None:
        return None
    outside = _WITHIN.get()
    _WITHIN.set((*outside, weakref.ref(driver)))
    return outside


def leave(outside: _Drivers | None) -> None:
    """Say that it makes them no more."""
    if outside is not None:
        _WITHIN.set(outside)


def outer_executions() -> list[Driver]:
    """Return what runs the executions that the running code is part of and that have not ended, the outermost first."""
    found = dict.fromkeys(driver for one in _WITHIN.get() if (driver := one()) is not None)
    return [driver for driver in found if _goes_on(driver)]


def _goes_on(driver: Driver) -> bool:
    machine = getattr(driver, "machine", None)  # none where its result has it
    return machine is not None and not (machine.ended or driver.parked or driver.abandoned)
