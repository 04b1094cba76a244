"""saga: work that spans several systems and has no shared transaction, undone truthfully when it fails.

Each name is imported when it is first asked for, so that a tool that needs none of them starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "LOST_ANSWERS",
    "Ask",
    "Backoff",
    "ClosedContext",
    "Compensate",
    "Context",
    "Done",
    "Effect",
    "ExecutionInfo",
    "ExponentialBackoff",
    "Finding",
    "Flow",
    "InDoubt",
    "NotDone",
    "Observer",
    "OnError",
    "OutcomeUnknownError",
    "Received",
    "Retry",
    "Saga",
    "SagaResult",
    "Skip",
    "Status",
    "StepInfo",
    "StepRecord",
    "StepStatus",
    "Submission",
    "Task",
    "Transaction",
    "choose",
    "each",
    "fallback",
    "masked",
    "parallel",
    "receive",
    "receive_first",
    "saga_step",
    "sequence",
    "step",
    "timer",
    "transaction",
    "unit",
]

if TYPE_CHECKING:
    from saga.block import Transaction
    from saga.blocks import transaction
    from saga.context import ClosedContext, Context
    from saga.definition import ExecutionInfo, Observer
    from saga.errors import OutcomeUnknownError
    from saga.events import Effect, Status, StepStatus
    from saga.flow import Flow, choose, each, fallback, parallel, receive, receive_first, saga_step, sequence, step, timer, unit
    from saga.lost_answers import LOST_ANSWERS
    from saga.machine import Finding
    from saga.policy import Ask, Backoff, Compensate, ExponentialBackoff, InDoubt, OnError, Retry, Skip
    from saga.received import Received
    from saga.result import SagaResult, StepRecord
    from saga.saga import Saga
    from saga.stored import Submission
    from saga.task import Done, NotDone, StepInfo, Task
    from saga.turns import masked
else:  # a type checker is to find every other name missing

    def __getattr__(name: str) -> object:
        """Import a name, or a room that is looked for as an attribute."""
        if name in _ROOM_OF:
            found = globals()[name] = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
            return found
        if name in ("errors", "events"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


_ROOMS = {
    "block": ("Transaction",),
    "blocks": ("transaction",),
    "context": ("ClosedContext", "Context"),
    "definition": ("ExecutionInfo", "Observer"),
    "errors": ("OutcomeUnknownError",),
    "events": ("Effect", "Status", "StepStatus"),
    "flow": (
        "Flow",
        "choose",
        "each",
        "fallback",
        "parallel",
        "receive",
        "receive_first",
        "saga_step",
        "sequence",
        "step",
        "timer",
        "unit",
    ),
    "lost_answers": ("LOST_ANSWERS",),
    "machine": ("Finding",),
    "policy": ("Ask", "Backoff", "Compensate", "ExponentialBackoff", "InDoubt", "OnError", "Retry", "Skip"),
    "received": ("Received",),
    "result": ("SagaResult", "StepRecord"),
    "saga": ("Saga",),
    "stored": ("Submission",),
    "task": ("Done", "NotDone", "StepInfo", "Task"),
    "turns": ("masked",),
}
"""Which names each room has."""
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
