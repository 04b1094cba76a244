"""What observers can ask of an execution, and what comes of what they raise: it is logged, ``SystemExit`` too.

What they are asked is not known here.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from saga.errors import is_exception, traceback_of
from saga.events import Event

if TYPE_CHECKING:
    from saga.drivers.observed import Observed

__all__ = ["events_of", "has_struck", "is_not_its_own"]


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether it is what a person's Ctrl-C raises, and nothing that a task or an observer says of itself."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def has_struck(error: BaseException) -> bool:
    """Whether it came from outside while an observer ran: a Ctrl-C, or what a signal's handler raises to end the program."""
    return _is_ctrl_c(error) or (not is_exception(error) and _is_of_a_handler(error))


def _is_of_a_handler(error: BaseException) -> bool:
    import signal  # which is not needed by who imports this package

    handlers = [signal.getsignal(one) for one in signal.valid_signals()]
    codes = {code for handler in handlers if (code := getattr(handler, "__code__", None)) is not None}
    trace = traceback_of(error)
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def is_not_its_own(error: BaseException, process: int) -> bool:
    """Whether what came out of an observer is to be raised: it has struck there, or a child that it has forked ends.

    :param process: the id of the one that has asked it.
    """
    return has_struck(error) or os.getpid() != process


def events_of(driver: weakref.ref[Observed]) -> Sequence[Event]:
    """Return what has happened so far; nothing once the execution has ended here."""
    machine = getattr(driver(), "machine", None)
    return () if machine is None else tuple(machine.events)
