"""When an execution goes on elsewhere: it waits for long, is handed back, or was stopped past its pivot. Nothing here waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saga.errors import ActionRefusedError
from saga.events import OperatorActed, SagaRecovered, SagaStarted
from saga.machine import act

if TYPE_CHECKING:
    from saga.drivers.base import Driver

__all__ = ["gives_up", "is_over", "may_park", "untouched"]

_PARK_AFTER: Final = 1.0


def may_park(driver: Driver) -> float | None:
    """Return the seconds for which there is nothing to do here, where that is long enough for others to use.

    Where there is a journal: others find the execution there.
    """
    machine = driver.machine
    if machine.halted:  # nothing is undone any more, so a recovery goes on; with a block nobody can
        return 0.0 if not machine.plan.open else None
    return _waits_for(driver) if driver.recovers or driver.leaving else None


def gives_up(driver: Driver) -> bool:
    """Give up what waits for long and has no journal to be left in. Return whether there is something to do, then.

    What has one may have been told to leave just now: it is parked when it looks next.
    """
    if driver.journal is not None or _waits_for(driver) is None:
        return False
    try:
        act(driver.machine, OperatorActed("cancel", None, "the program", "it was told to stop", driver.now()))
    except ActionRefusedError:  # it is being undone, or past its pivot
        return False
    return True


def _waits_for(driver: Driver) -> float | None:
    """Return the seconds for which nothing is to be done, where they are many."""
    machine = driver.machine
    if driver.beside or machine.ended or driver.mail or machine.stranded:
        return None
    delay = driver.until_due()
    return delay if delay > _PARK_AFTER else None


def is_over(driver: Driver) -> bool:
    """Whether nothing runs any more of what is held, so that another process may go on."""
    return driver.machine.state.held and not driver.beside and not driver.machine.ended


def untouched(driver: Driver) -> bool:
    """Whether an execution was taken up here, and nothing of it has been done or stored since."""
    if driver.journal is None:
        return False
    return any(isinstance(event, SagaRecovered | SagaStarted) for event in driver.machine.events[driver.journal.written :])
