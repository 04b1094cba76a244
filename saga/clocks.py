"""Clocks that only go on, whatever is done to the time of day: by a person, by NTP, or by a test that freezes or moves it.

And the time of day as the host has it. Nothing else is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Final

__all__ = ["boot", "clock", "host_time", "perf_counter", "since_boot", "time_of_day"]

clock: Final[Callable[[], float]] = perf_counter.__call__  # type: ignore[operator]
"""Seconds, for how long something takes or is waited for: ``perf_counter``, not to be found by tools that stop the time.

They look for the function itself as a module has it. As the default of a parameter it is not found either, and faster.
"""

_steady: Callable[[], float] = clock  # of the time of day below, which a test may move on: :mod:`saga.testing.clock`

_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)  # which goes on while the host sleeps


def since_boot() -> float:
    """Return the seconds since the host was started, the same for all its processes. Only where :func:`boot` says one."""
    assert _BOOTTIME is not None
    return time.clock_gettime(_BOOTTIME)


def host_time() -> float:
    """Return seconds since the epoch, as the host has them now: somebody may set them."""
    return time.time()


def time_of_day() -> float:
    """Return seconds since the epoch, as it was when this process began and has gone on since."""
    return _steady() + _BEGAN


@cache  # and not when this is imported: only a store asks
def boot() -> str | None:
    """Return what stands for the host's last start, as Linux says it; ``None`` where nothing does."""
    if _BOOTTIME is None:
        return None
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None


_BEGAN = time.time() - clock()
