"""saga: work that spans several systems and has no shared transaction, undone truthfully when it fails."""

from saga.context import Context
from saga.events import Status, StepStatus
from saga.flow import Flow, fallback, parallel, receive, saga_step, sequence, step, timer
from saga.policy import (
    ASK,
    COMPENSATE,
    RERUN,
    Backoff,
    Compensate,
    ExponentialBackoff,
    FixedBackoff,
    InDoubt,
    OnError,
    Retry,
    Skip,
)
from saga.result import SagaResult, StepRecord
from saga.saga import ExecutionInfo, Observer, Saga
from saga.task import StepInfo, Task
from saga.transaction import Transaction, transaction

__all__ = [
    "ASK",
    "COMPENSATE",
    "RERUN",
    "Backoff",
    "Compensate",
    "Context",
    "ExecutionInfo",
    "ExponentialBackoff",
    "FixedBackoff",
    "Flow",
    "InDoubt",
    "Observer",
    "OnError",
    "Retry",
    "Saga",
    "SagaResult",
    "Skip",
    "Status",
    "StepInfo",
    "StepRecord",
    "StepStatus",
    "Task",
    "Transaction",
    "fallback",
    "parallel",
    "receive",
    "saga_step",
    "sequence",
    "step",
    "timer",
    "transaction",
]
