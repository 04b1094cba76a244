"""How a step behaves when it fails, takes long, or is left in doubt: pure data, no engine, no clock.

Every policy can be a class attribute of a task or be given with the step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Protocol, runtime_checkable

from saga.awaitables import answer, is_coroutine_function, is_generator_function, refuse_unrun
from saga.composing import operators
from saga.errors import OutcomeUnknownError, SagaDefinitionError, is_a

__all__ = [
    "Ask",
    "Backoff",
    "Compensate",
    "ExponentialBackoff",
    "InDoubt",
    "OnError",
    "Retry",
    "Skip",
    "UnknownOn",
    "check_timeout",
    "checked_on_error",
    "checked_unknown_on",
    "seconds_of",
    "unknown_on",
]


class OnError(Enum):
    """What follows when a step has failed for good."""

    COMPENSATE = "compensate"
    """The saga gives up and everything that succeeded is undone (the default)."""
    SKIP = "skip"
    """The saga goes on without the step, which has no result."""
    ASK = "ask"
    """A person decides, who has mended the world: the execution ends ``stuck``, and nothing is undone. It needs a store."""


Ask: Final = OnError.ASK
Compensate: Final = OnError.COMPENSATE
Skip: Final = OnError.SKIP


class InDoubt(Enum):
    """What is done with a step whose effect may or may not have happened."""

    COMPENSATE = "compensate"
    """Undo it (the default): the compensation must tolerate that ``execute`` never happened. A ``Retry`` comes first."""
    RERUN = "rerun"
    """Run it again, as often as its ``Retry`` allows (without one: once after each crash): ``execute`` must be idempotent.
    When that ends without success, or once undo has begun, it is compensated."""
    ASK = "ask"
    """Leave it alone: the execution ends ``stuck`` and a person decides."""


UnknownOn = type[Exception] | Callable[[Exception], bool] | tuple[type[Exception] | Callable[[Exception], bool], ...]
"""Errors after which nobody knows whether a call took effect: a class, a function of the error, or a tuple of these."""


def unknown_on(given: Any) -> Callable[[Exception], bool]:
    """Return the function that ``unknown_on=given`` stands for. An :class:`~saga.errors.OutcomeUnknownError` is always one.

    :raises SagaDefinitionError: it is neither an exception class nor a function, nor a tuple of these.
    """
    parts = given if isinstance(given, tuple) else (given,)
    for part in parts:
        fits = issubclass(part, Exception) if isinstance(part, type) else _says_something(part)
        if not fits:
            raise SagaDefinitionError(
                f"unknown_on is {given!r}; give exception classes, plain functions of the error, or LOST_ANSWERS"
            )
    kinds = (OutcomeUnknownError, *(part for part in parts if isinstance(part, type)))
    functions = [part for part in parts if not isinstance(part, type)]

    def says(function: Callable[[Exception], bool], error: Exception) -> bool:
        return bool(answer(function(error), f"{function!r}, given as unknown_on,", "let it return a bool"))

    return lambda error: issubclass(type(error), kinds) or any(says(function, error) for function in functions)


def _says_something(function: Any) -> bool:
    """Whether it can be called with an error, and what it returns is an answer."""
    if not callable(function) or is_coroutine_function(function) or is_generator_function(function):
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:
        pass  # some built-ins tell no signature
    return True


def checked_unknown_on(given: UnknownOn | None, where: str) -> UnknownOn | None:
    """Return what was given as ``unknown_on``.

    :raises SagaDefinitionError: it is wrong; ``where`` is in the text.
    """
    if given is not None:
        try:
            unknown_on(given)
        except SagaDefinitionError as error:
            raise SagaDefinitionError(f"{where}: {error}") from None
    return given


def checked_on_error(given: OnError | None, where: str) -> OnError | None:
    """Return what was given as a saga's ``on_error``.

    :raises SagaDefinitionError: it is wrong; ``where`` is in the text.
    """
    if not isinstance(given, OnError | None):
        hint = "; a Retry is each task's" if isinstance(given, Retry) else ""
        raise SagaDefinitionError(f"{where}: on_error is {given!r}; give Compensate, Skip or Ask{hint}")
    return given


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


def check_timeout(seconds: Any, where: str, *, needed: bool = False) -> None:
    """Refuse anything but a positive, finite number of seconds, or, where it is not needed, ``None``.

    :raises SagaDefinitionError: with ``where`` in the text.
    """
    if seconds is None and not needed:
        return
    if not is_seconds(seconds) or seconds == 0:
        hint = f"give seconds as a number above 0{_of(seconds)}{'' if needed else ', or None for no limit'}"
        raise SagaDefinitionError(f"{where} is {seconds!r}; {hint}")


def seconds_of(given: float | timedelta | None, where: str) -> float | None:
    """Return a limit in seconds that may be given as a ``timedelta``; ``None`` is none.

    :raises SagaDefinitionError: it is no number above 0; ``where`` is in the text.
    """
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if seconds is not None and (not is_seconds(seconds) or seconds == 0):
        raise SagaDefinitionError(f"{where} is {given!r}; give seconds above 0, a timedelta, or None for no limit")
    return seconds


def _of(given: Any) -> str:
    return ": .total_seconds() of it" if isinstance(given, timedelta) else ""


def _check_seconds(owner: str, name: str, value: float) -> None:
    if not is_seconds(value):
        raise SagaDefinitionError(f"{owner}: {name} is {value!r}; give seconds as a finite number of 0 or more{_of(value)}")


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
        if not isinstance(self.jitter, bool):
            raise SagaDefinitionError(f"ExponentialBackoff: jitter is {self.jitter!r}; give a bool")
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
    :param then: what follows when the attempts are used up, where this stands as ``on_error``; what the saga says where
        ``None``.
    """

    max_attempts: int = 3
    backoff: float | Backoff = 0.0
    retry_on: tuple[type[Exception], ...] | type[Exception] = (Exception,)
    then: OnError | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise SagaDefinitionError(f"Retry: max_attempts is {self.max_attempts!r}; give a whole number of 1 or more")
        if isinstance(self.backoff, (int, float)):
            _check_seconds("Retry", "backoff", self.backoff)
        elif isinstance(self.backoff, type | Retry) or not callable(getattr(self.backoff, "delay", None)):
            raise SagaDefinitionError(
                f"Retry: backoff is {self.backoff!r}; give seconds{_of(self.backoff)}, ExponentialBackoff or an object with "
                "delay(attempt, fraction)"
            )
        if isinstance(self.backoff, Backoff):
            refuse_unrun(self.backoff.delay, f"Retry: delay() of backoff {self.backoff!r}", "let it return seconds")
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise SagaDefinitionError(
                    f"Retry: retry_on has {kind!r}; give Exception classes (an interrupt such as "
                    "KeyboardInterrupt is never retried)"
                )
        object.__setattr__(self, "retry_on", kinds)
        if not isinstance(self.then, OnError | None):
            raise SagaDefinitionError(f"Retry: then is {self.then!r}; give Compensate, Skip or Ask")

    def __ror__(self, flow: Any) -> Any:
        # ``TheTask | Retry(3)``: a class has an operator | of its own, which knows nothing of this.
        return operators.with_policy(flow, self)

    def allows(self, attempt: int, error: BaseException) -> bool:
        """Return whether another attempt follows ``attempt``, which ended with ``error``."""
        return attempt < self.max_attempts and is_a(error, self.retry_on)

    def delay(self, attempt: int, fraction: float) -> float:
        """Return the seconds to wait after ``attempt`` failed (see :meth:`Backoff.delay`)."""
        if isinstance(self.backoff, (int, float)):
            return float(self.backoff)
        delay: float = answer(self.backoff.delay(attempt, fraction), f"{self.backoff!r}: delay()", "return seconds")
        if not is_seconds(delay):
            raise TypeError(f"{self.backoff!r}: delay() returned {delay!r}; return seconds as a finite number of 0 or more")
        return delay
