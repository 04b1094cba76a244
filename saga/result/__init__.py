"""How an execution ended, and how it is told: pure data folded from events.

``history`` has what became of each step, ``snapshot`` the result, ``report`` the words for it, and ``carried`` what of it is
pickled.
"""

from saga.result.carried import NotPickled
from saga.result.history import CompensationError, History, StepRecord, fold_history
from saga.result.report import NOTHING_STORED, actions, error_line, stuck_on, told_besides, tracebacks
from saga.result.snapshot import SagaResult, failure_of, ok, undone

__all__ = [
    "NOTHING_STORED",
    "CompensationError",
    "History",
    "NotPickled",
    "SagaResult",
    "StepRecord",
    "actions",
    "error_line",
    "failure_of",
    "fold_history",
    "ok",
    "stuck_on",
    "told_besides",
    "tracebacks",
    "undone",
]
