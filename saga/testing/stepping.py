"""A call made under pdb, which stops at the first line of the user's own code. No execution is known here."""

from __future__ import annotations

import pdb
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from types import FrameType
from typing import Any, Final

__all__ = ["stepping"]

_NOT_THE_USERS: Final = (
    "saga",
    "saga.*",
    "asyncio",
    "asyncio.*",
    "bdb",
    "click",
    "click.*",
    "concurrent.*",
    "contextlib",
    "contextvars",
    "functools",
    "importlib",
    "importlib.*",
    "pdb",
    "runpy",
    "selectors",
    "threading",
)
"""Modules in which nobody wants to stop."""


_STANDARD: Final = sysconfig.get_path("stdlib")
_INSTALLED: Final = ("site-packages", "dist-packages")


def _is_the_users(frame: FrameType) -> bool:
    name, path = str(frame.f_globals.get("__name__")), frame.f_code.co_filename
    standard = path.startswith(("<frozen", _STANDARD)) and not any(one in path for one in _INSTALLED)
    return not standard and not any(fnmatch(name, pattern) for pattern in _NOT_THE_USERS)


class _Stepping(pdb.Pdb):
    """A debugger that does not stop for exceptions elsewhere: pdb skips lines of modules, but not these."""

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        if _is_the_users(frame):
            super().user_exception(frame, exc_info)


@contextmanager
def stepping(name: str | None = None) -> Iterator[pdb.Pdb]:
    """Stop at the first line of the user's own that this thread comes to, and go on as whoever is at the terminal says.

    The debugger's ``quitting`` says afterwards whether it was left before the call had ended.

    :param name: at the first line of a function of this name, not before.
    """
    debugger = _Stepping(skip=_NOT_THE_USERS)

    def begin(frame: FrameType, event: str, arg: Any) -> Any:
        if name not in (None, frame.f_code.co_name) or not _is_the_users(frame):
            return None
        # As debugger.set_trace(), which traces all callers, too: nobody wants to stop there, or read about them.
        debugger.reset()
        debugger.botframe = frame
        debugger.set_step()
        sys.settrace(debugger.trace_dispatch)
        return debugger.trace_dispatch

    before = sys.gettrace()
    # Its "continue" takes Ctrl-C for itself, and would keep it: a program that goes on could not be stopped any more.
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    sys.settrace(begin)
    try:
        yield debugger
    finally:
        sys.settrace(before)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
