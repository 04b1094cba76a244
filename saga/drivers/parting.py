"""When an execution goes on elsewhere: it waits for long, is handed back, or was stopped past its pivot. Nothing here waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saga.events import SagaRecovered, SagaStarted

if TYPE_CHECKING:
    from saga.drivers.base import Driver

__all__ = ["is_over", "may_park", "untouched"]

_PARK_AFTER: Final = 1.0


def may_park(driver: Driver) -> float | None:
    """Return the seconds for which there is nothing to do here, where that is long enough for others to use.

    Where there is a journal: others find the execution there.
    """
    machine = driver.machine
    if machine.halted:  # nothing is undone any more, so a recovery goes on; with a block nobody can
        return 0.0 if not machine.plan.open else None
    if not driver.recovers or driver.beside or machine.ended or driver.mail or machine.stranded:
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
