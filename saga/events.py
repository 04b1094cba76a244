"""The facts of an execution: small records, one class each, in the order they happened.

``at`` is always seconds since the epoch; ``elapsed`` is seconds; ``attempt`` counts from 1. ``encoded`` is what belongs to an
event in a journal beside its fields (what its call returned and changed in the context), as text that is stored with it; it is
empty without a store, and takes no part in comparisons. ``carried`` is what observers had carried along from where an execution
was submitted, began or was taken up, or a signal was sent, such as the ids of a trace; ``None`` without such observers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga.facts import fact
from saga.flow_events import FallbackChosen, GroupMerged, PersonAsked, RetryScheduled, StepSkipped, UnitCompensating, WayChosen
from saga.status import Status
from saga.step_status import Effect, StepStatus

__all__ = [
    "CompensationFailed",
    "CompensationStarted",
    "CompensationSucceeded",
    "CompensationTimedOut",
    "Effect",
    "Event",
    "FallbackChosen",
    "GroupMerged",
    "MessageRefused",
    "OperatorActed",
    "PersonAsked",
    "RetryScheduled",
    "SagaCompensated",
    "SagaCompensating",
    "SagaCompleted",
    "SagaHeld",
    "SagaPaused",
    "SagaRecovered",
    "SagaRewound",
    "SagaStarted",
    "SagaStuck",
    "SagaSubmitted",
    "SignalReceived",
    "Status",
    "StepFailed",
    "StepSkipped",
    "StepStarted",
    "StepStatus",
    "StepSucceeded",
    "StepTimedOut",
    "StepVerified",
    "UnitCompensating",
    "VerificationFailed",
    "VerificationStarted",
    "WayChosen",
]

# The engine asks for these many times in every execution, and Python 3.11 takes long to find a member of an Enum.
SUBMITTED, RUNNING, PAUSED = Status.SUBMITTED, Status.RUNNING, Status.PAUSED
COMPENSATING, COMPLETED, COMPENSATED, STUCK = Status.COMPENSATING, Status.COMPLETED, Status.COMPENSATED, Status.STUCK


@fact
class SagaSubmitted:
    """An execution was stored, for whoever takes it up to begin it."""

    saga: str
    saga_id: str
    at: float
    encoded: str = ""
    carried: Mapping[str, str] | None = None


@fact
class SagaStarted:
    """An execution began."""

    saga: str
    saga_id: str
    at: float
    encoded: str = ""
    carried: Mapping[str, str] | None = None


@fact
class StepStarted:
    """The intent to call ``execute``: recorded before the call."""

    step: str
    attempt: int
    at: float
    encoded: str = ""


@fact
class StepSucceeded:
    """``execute`` returned ``result``."""

    step: str
    attempt: int
    at: float
    elapsed: float
    result: Any
    encoded: str = ""


@fact
class StepFailed:
    """``execute`` raised ``error``.

    ``in_doubt``: it was interrupted, or its answer was lost, so its effect may have happened. ``executed``: it ran to its end,
    so its effect has happened, but what it returned or changed cannot be stored, or is not what its retry waits for
    (:class:`~saga.errors.NotReadyError`).
    """

    step: str
    attempt: int
    at: float
    elapsed: float
    error: BaseException
    in_doubt: bool = False
    executed: bool = False
    encoded: str = ""


@fact
class StepTimedOut:
    """``execute`` took longer than it may. ``running``: it cannot be killed and still runs."""

    step: str
    attempt: int
    at: float
    elapsed: float
    error: BaseException
    running: bool = True
    encoded: str = ""


@fact
class VerificationStarted:
    """The intent to call ``verify`` of a step that is in doubt: recorded before the call."""

    step: str
    attempt: int
    at: float


@fact
class StepVerified:
    """``verify`` said what came of the step's ``execute``: that it is ``done``, with ``result``, or that it is not."""

    step: str
    attempt: int
    at: float
    elapsed: float
    done: bool
    result: Any = None
    encoded: str = ""


@fact
class VerificationFailed:
    """``verify`` raised ``error``, or did not know: the step stays in doubt."""

    step: str
    attempt: int
    at: float
    elapsed: float
    error: BaseException
    encoded: str = ""


@fact
class SignalReceived:
    """A signal came from outside, with a value. A person who sent it is named, with the reason."""

    name: str
    value: Any
    at: float
    carried: Mapping[str, str] | None = None
    who: str | None = None
    why: str | None = None


@fact
class SagaCompensating:
    """The execution gave up: from here nothing goes forward, and what happened is undone.

    ``step`` is the step that failed, or ``None`` where no step did (a deadline, an interrupt between steps).
    """

    step: str | None
    error: BaseException
    at: float


@fact
class CompensationStarted:
    """The intent to call ``compensate``: recorded before the call."""

    step: str
    attempt: int
    at: float


@fact
class CompensationSucceeded:
    """``compensate`` ran to its end."""

    step: str
    attempt: int
    at: float
    elapsed: float
    encoded: str = ""


@fact
class CompensationFailed:
    """``compensate`` raised ``error``."""

    step: str
    attempt: int
    at: float
    elapsed: float
    error: BaseException
    encoded: str = ""


@fact
class CompensationTimedOut:
    """``compensate`` took longer than it may, cannot be killed and still runs. Another event tells how it has ended."""

    step: str
    attempt: int
    at: float
    elapsed: float
    error: BaseException


@fact
class SagaCompleted:
    """Every step ended well."""

    at: float


@fact
class SagaCompensated:
    """The execution failed and every undo ran to its end."""

    at: float


@fact
class SagaRewound:
    """A person had what came after ``step`` undone, and that is done: the execution is paused, and can go forward again.

    ``again``: the steps that are executed again then. ``reason`` says who and why.
    """

    step: str
    again: list[str]
    reason: str
    at: float


@fact
class SagaStuck:
    """The execution ended and a person must act: ``reason`` says on what."""

    reason: str
    at: float


@fact
class SagaHeld:
    """Whoever runs the execution is to give it back: what runs ends, nothing new begins, and another goes on."""

    at: float


@fact
class SagaPaused:
    """The execution rests until a person lets it go on: ``reason`` says who had it paused, and why."""

    reason: str
    at: float


@fact
class SagaRecovered:
    """Another process, ``owner``, took the execution over: whoever had it is gone, with every call it had under way."""

    owner: str
    epoch: int
    at: float
    carried: Mapping[str, str] | None = None


@fact
class OperatorActed:
    """A person decided: ``action`` is ``cancel``, ``compensate``, ``pause``, ``resume``, ``retry``, ``skip`` (of ``step``) or
    ``undo`` (of all, or back to ``step``).
    """

    action: str
    step: str | None
    who: str
    why: str
    at: float


@fact
class MessageRefused:
    """Something came from outside that is not obeyed, because of ``reason``: an operator's action that does not fit, or what
    cannot be read. ``message`` says what it was.
    """

    message: str
    reason: str
    at: float


Event = (
    SagaSubmitted
    | SagaStarted
    | StepStarted
    | StepSucceeded
    | StepFailed
    | StepTimedOut
    | StepSkipped
    | PersonAsked
    | RetryScheduled
    | GroupMerged
    | UnitCompensating
    | SagaCompensating
    | CompensationStarted
    | CompensationSucceeded
    | CompensationFailed
    | CompensationTimedOut
    | SagaCompleted
    | SagaCompensated
    | SagaRewound
    | SagaStuck
    | SagaHeld
    | SagaPaused
    | SagaRecovered
    | OperatorActed
    | FallbackChosen
    | WayChosen
    | SignalReceived
    | MessageRefused
    | VerificationStarted
    | StepVerified
    | VerificationFailed
)
