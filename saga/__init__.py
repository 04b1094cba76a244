"""saga: work that spans several systems and has no shared transaction, undone truthfully when it fails."""

from saga.context import ClosedContext, Context
from saga.definition import ExecutionInfo, Observer
from saga.errors import OutcomeUnknownError
from saga.events import Effect, Status, StepStatus
from saga.flow import Flow, fallback, parallel, receive, saga_step, sequence, step, timer
from saga.lost_answers import LOST_ANSWERS
from saga.policy import (
    Ask,
    Backoff,
    Compensate,
    ExponentialBackoff,
    InDoubt,
    OnError,
    Retry,
    Skip,
)
from saga.result import SagaResult, StepRecord
from saga.saga import Saga
from saga.stored import Submission
from saga.task import Done, NotDone, StepInfo, Task
from saga.transaction import Transaction, transaction
from saga.turns import masked

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
    "Flow",
    "InDoubt",
    "NotDone",
    "Observer",
    "OnError",
    "OutcomeUnknownError",
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
    "fallback",
    "masked",
    "parallel",
    "receive",
    "saga_step",
    "sequence",
    "step",
    "timer",
    "transaction",
]
