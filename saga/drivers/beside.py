"""A call that runs beside a driver's loop, in a thread or a task of its own. Who makes it, and when, is not said here."""

from __future__ import annotations

import threading
from typing import Any

from saga.context import Context
from saga.drivers.calls import Made
from saga.machine import Call

__all__ = ["CallBeside"]


class CallBeside:
    """A call that is under way beside the loop."""

    __slots__ = ("call", "cancelled", "outcome", "overdue", "task", "thread", "turn", "view")

    def __init__(self, call: Call, view: Context) -> None:
        self.call = call
        self.view = view
        self.cancelled = threading.Event()
        self.turn = threading.Lock()  # taken by the thread before it makes the call, or by who prevents it
        self.outcome: Made | None = None
        self.overdue: Exception | None = None  # why it was cancelled: its step's timeout or the saga's has come
        self.thread: threading.Thread | None = None  # what makes it, or has been told to
        self.task: Any = None  # the asyncio task, where it is one
