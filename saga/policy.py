"""How a step behaves when it fails, takes long, or is left in doubt: pure data, no engine, no clock.

Every policy can be a class attribute of a task or be given with the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, runtime_checkable

from saga.composing import operators
from saga.errors import SagaDefinitionError

__all__ = [
    "Backoff",
    "Compensate",
    "ExponentialBackoff",
    "InDoubt",
    "OnError",
    "Retry",
    "Skip",
]


class OnError(Enum):
    """What follows when a step has failed for good."""

    COMPENSATE = "compensate"
    """The saga gives up and everything that succeeded is undone (the default)."""
    SKIP = "skip"
    """The saga goes on without the step, which has no result."""


Compensate: Final = OnError.COMPENSATE
Skip: Final = OnError.SKIP


class InDoubt(Enum):
    """What is done with a step whose effect may or may not have happened."""

    COMPENSATE = "compensate"
    """Undo it (the default): the compensation must tolerate that ``execute`` never happened."""
    RERUN = "rerun"
    """Run it again after a crash: ``execute`` must be idempotent. Once undo has begun it is compensated instead."""
    ASK = "ask"
    """Leave it alone: the execution ends ``stuck`` and a person decides."""


@runtime_checkable
class Backoff(Protocol):
    """How long to wait before the next attempt."""

    def delay(self, attempt: int, fraction: float) -> float:
        """Return seconds to wait after ``attempt`` (1 for the first) has failed.

        ``fraction`` is in [0, 1), evenly spread and the same whenever the same execution is replayed: use it for jitter.
        """


def is_seconds(value: object) -> bool:
    """Return whether ``value`` is a finite number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value) and value >= 0
    except OverflowError:  # an int that no float can hold
        return False


def _check_seconds(owner: str, name: str, value: float) -> None:
    if not is_seconds(value):
        raise SagaDefinitionError(f"{owner}: {name} is {value!r}; give seconds as a finite number of 0 or more")


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Wait ``initial * factor ** (attempt - 1)`` seconds, at most ``cap``.

    :param initial: seconds after the first failure.
    :param factor: growth from one attempt to the next, 1 or more.
    :param cap: the longest wait, in seconds.
    :param jitter: spread each wait evenly over [0, wait) ("full jitter": Brooker, "Exponential Backoff And Jitter",
        AWS Architecture Blog, 2015), so that many executions that failed together do not come back together.
    """

    initial: float = 0.1
    factor: float = 2.0
    cap: float = 60.0
    jitter: bool = False

    def __post_init__(self) -> None:
        _check_seconds("ExponentialBackoff", "initial", self.initial)
        _check_seconds("ExponentialBackoff", "factor", self.factor)
        _check_seconds("ExponentialBackoff", "cap", self.cap)
        if self.factor < 1:
            raise SagaDefinitionError(f"ExponentialBackoff: factor is {self.factor!r}; give 1 or more")

    def delay(self, attempt: int, fraction: float) -> float:
        try:
            wait = min(self.cap, self.initial * self.factor ** (attempt - 1))
        except OverflowError:
            wait = self.cap
        return wait * fraction if self.jitter else wait


@dataclass(frozen=True, slots=True)
class Retry:
    """Attempt a call again when it raises.

    :param max_attempts: calls in all, the first one included; 1 or more.
    :param backoff: seconds between attempts, or a :class:`Backoff`.
    :param retry_on: the exceptions worth another attempt; anything else fails at once.
    :param then: what follows when the attempts are used up, where this stands as ``on_error``.
    """

    max_attempts: int = 3
    backoff: float | Backoff = 0.0
    retry_on: tuple[type[Exception], ...] | type[Exception] = (Exception,)
    then: OnError = OnError.COMPENSATE

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise SagaDefinitionError(f"Retry: max_attempts is {self.max_attempts!r}; give a whole number of 1 or more")
        if isinstance(self.backoff, (int, float)):
            _check_seconds("Retry", "backoff", self.backoff)
        elif not isinstance(self.backoff, Backoff):
            raise SagaDefinitionError(
                f"Retry: backoff is {self.backoff!r}; give seconds, ExponentialBackoff or an object with "
                "delay(attempt, fraction)"
            )
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise SagaDefinitionError(
                    f"Retry: retry_on has {kind!r}; give Exception classes (an interrupt such as KeyboardInterrupt is "
                    "never retried)"
                )
        object.__setattr__(self, "retry_on", kinds)
        if not isinstance(self.then, OnError):
            raise SagaDefinitionError(f"Retry: then is {self.then!r}; give Compensate or Skip")

    def __ror__(self, flow: Any) -> Any:
        # ``TheTask | Retry(3)``: a class has an operator | of its own, which knows nothing of this.
        return operators.with_policy(flow, self)

    def allows(self, attempt: int, error: BaseException) -> bool:
        """Return whether another attempt follows ``attempt``, which ended with ``error``."""
        return attempt < self.max_attempts and isinstance(error, self.retry_on)

    def delay(self, attempt: int, fraction: float) -> float:
        """Return the seconds to wait after ``attempt`` failed (see :meth:`Backoff.delay`)."""
        if isinstance(self.backoff, (int, float)):
            return float(self.backoff)
        delay = self.backoff.delay(attempt, fraction)
        if not is_seconds(delay):
            raise TypeError(f"{self.backoff!r}: delay() returned {delay!r}; return seconds as a finite number of 0 or more")
        return delay
