"""What observers can ask of an execution, and what comes of what they raise: it is logged, ``SystemExit`` too.

What they are asked is not known here.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from saga.events import Event

if TYPE_CHECKING:
    from saga.drivers.observed import Observed

__all__ = ["events_of", "is_ctrl_c", "is_not_its_own"]


def is_ctrl_c(error: BaseException) -> bool:
    """Whether it is what a person's Ctrl-C raises, and nothing that a task or an observer says of itself."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def is_not_its_own(error: BaseException, process: int) -> bool:
    """Whether what came out of an observer is to be raised: a Ctrl-C struck there, or a child that it has forked ends.

    :param process: the id of the one that has asked it.
    """
    return is_ctrl_c(error) or os.getpid() != process


def events_of(driver: weakref.ref[Observed]) -> Sequence[Event]:
    """Return what has happened so far; nothing once the execution has ended here."""
    machine = getattr(driver(), "machine", None)
    return () if machine is None else tuple(machine.events)
