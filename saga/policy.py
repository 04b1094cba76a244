"""How a step behaves when it fails, takes long, or is left in doubt: pure data, no engine, no clock.

Every policy can be a class attribute of a task or be given with the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Protocol, runtime_checkable

from saga.awaitables import answer, check_callable, is_coroutine_function, is_generator_function, refuse_unrun
from saga.composing import operators
from saga.errors import OutcomeUnknownError, SagaDefinitionError, is_a, is_exception

__all__ = [
    "Ask",
    "Backoff",
    "Compensate",
    "ErrorKinds",
    "ExponentialBackoff",
    "InDoubt",
    "OnError",
    "Retry",
    "Seconds",
    "Skip",
    "checked_on_error",
    "in_seconds",
    "needed_seconds",
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


ErrorKinds = type[Exception] | Callable[[Exception], bool] | tuple[type[Exception] | Callable[[Exception], bool], ...]
"""Errors of some kind: an exception class, a plain function of the error that says whether it is one, or a tuple of these."""


def unknown_on(given: Any) -> Callable[[Exception], bool]:
    """Return the function that ``unknown_on=given`` stands for. An :class:`~saga.errors.OutcomeUnknownError` is always one.

    :raises SagaDefinitionError: it is neither an exception class nor a function, nor a tuple of these.
    """
    parts = given if isinstance(given, tuple) else (given,)
    for part in parts:
        if not _is_error_kind(part):
            raise SagaDefinitionError(
                f"unknown_on is {given!r}; give exception classes, plain functions of the error, or LOST_ANSWERS"
            )
    return lambda error: _is_one_of(error, (OutcomeUnknownError, *parts), "unknown_on")


def _is_error_kind(part: Any) -> bool:
    """Whether it is an exception class, or a function that can be called with an error, and what it returns is an answer."""
    if isinstance(part, type):
        return issubclass(part, Exception)
    if is_coroutine_function(part) or is_generator_function(part):
        return False
    try:
        check_callable(part, "it", "the error", 1)
    except SagaDefinitionError:
        return False
    return True


def _is_one_of(error: BaseException, kinds: tuple[Any, ...], given_as: str) -> bool:
    """Whether an error is of one of these classes, or one of these functions says so, which may raise."""
    for kind in kinds:
        if isinstance(kind, type):
            if is_a(error, kind):
                return True
        elif is_exception(error):  # an interrupt is nobody's to judge
            said = answer(kind(error), f"{kind!r}, given as {given_as},", "let it return a bool")
            if said:
                return True
    return False


def checked_on_error(given: OnError | None, where: str) -> OnError | None:
    """Return what was given as a saga's ``on_error``.

    :raises SagaDefinitionError: it is wrong; ``where`` is in the text.
    """
    if not isinstance(given, OnError | None):
        hint = "; give a Retry as retry=" if isinstance(given, Retry) else ""
        raise SagaDefinitionError(f"{where}: on_error is {given!r}; give Compensate, Skip or Ask{hint}")
    return given


@runtime_checkable
class Backoff(Protocol):
    """How long to wait before the next attempt."""

    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        """Return seconds to wait after ``attempt`` (1 for the first) has failed with ``error``.

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


Seconds = float | timedelta
"""A number of seconds, or a ``timedelta``."""


def seconds_of(given: Seconds | None, where: str) -> float | None:
    """Return a limit in seconds, above 0; ``None`` is none.

    :raises SagaDefinitionError: it is wrong; ``where`` is in the text.
    """
    return None if given is None else _above_0(given, where, ", or None for no limit")


def needed_seconds(given: Seconds, where: str) -> float:
    """Return a limit in seconds, above 0, where there has to be one.

    :raises SagaDefinitionError: it is wrong; ``where`` is in the text.
    """
    return _above_0(given, where, "")


def _above_0(given: Seconds, where: str, otherwise: str) -> float:
    seconds = in_seconds(given)
    if not is_seconds(seconds) or seconds == 0:
        raise SagaDefinitionError(f"{where} is {given!r}; give seconds as a number above 0{otherwise}")
    return seconds  # type: ignore[no-any-return]


def in_seconds(given: Any) -> Any:
    """Return a ``timedelta`` as seconds, and anything else as it is."""
    return given.total_seconds() if isinstance(given, timedelta) else given


def _wait(owner: str, name: str, given: Seconds) -> float:
    seconds = in_seconds(given)
    if not is_seconds(seconds):
        raise SagaDefinitionError(f"{owner}: {name} is {given!r}; give seconds as a finite number of 0 or more")
    return seconds  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Wait ``initial * factor ** (attempt - 1)`` seconds, at most ``cap``.

    :param initial: seconds, or a ``timedelta``, after the first failure.
    :param factor: growth from one attempt to the next, 1 or more.
    :param cap: the longest wait, in seconds.
    :param jitter: spread each wait evenly over [0, wait) ("full jitter": Brooker, "Exponential Backoff And Jitter",
        AWS Architecture Blog, 2015), so that many executions that failed together do not come back together.
    """

    initial: Seconds = 0.1
    factor: float = 2.0
    cap: Seconds = 60.0
    jitter: bool = False

    def __post_init__(self) -> None:
        for name in ("initial", "cap"):
            object.__setattr__(self, name, _wait("ExponentialBackoff", name, getattr(self, name)))
        if not is_seconds(self.factor):
            raise SagaDefinitionError(f"ExponentialBackoff: factor is {self.factor!r}; give a finite number of 1 or more")
        if not isinstance(self.jitter, bool):
            raise SagaDefinitionError(f"ExponentialBackoff: jitter is {self.jitter!r}; give a bool")
        if self.factor < 1:
            raise SagaDefinitionError(f"ExponentialBackoff: factor is {self.factor!r}; give 1 or more")

    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        initial, cap = in_seconds(self.initial), in_seconds(self.cap)
        try:
            wait: float = min(cap, initial * self.factor ** (attempt - 1))
        except OverflowError:
            wait = cap
        return wait * fraction if self.jitter else wait


def _never_rests(backoff: Seconds | Backoff) -> bool:
    if isinstance(backoff, ExponentialBackoff):
        return 0 in (backoff.initial, backoff.cap)
    return isinstance(backoff, int | float) and backoff == 0


@dataclass(frozen=True, slots=True)
class Retry:
    """Attempt a call again when it raises, or when what it returns is not it yet.

    :param max_attempts: calls in all, the first one included; 1 or more, or ``None`` where ``max_elapsed`` is the limit.
    :param backoff: seconds or a ``timedelta`` between attempts, or a :class:`Backoff`, which may look at the error.
    :param retry_on: the errors worth another attempt; anything else fails at once. An exception class, a plain function of the
        error, or a tuple of these. A function that raises allows no other attempt: the error has a note that says so.
    :param max_elapsed: seconds, or a ``timedelta``, since the first attempt began: one whose wait would end later is not made.
        A crash does not begin them anew, and what was due while no process ran is still made.
    :param retry_if: says of what ``execute`` returned whether that is *not* it yet, as where a job is asked whether it is done:
        then another attempt follows, as often and as long as after an error. When there is none left, the step has failed with
        :class:`~saga.errors.NotReadyError`. What has returned took effect, so the step is undone then, too.
    :param then: what follows when the attempts are used up, where this stands as ``on_error``; what the saga says where
        ``None``.
    :raises SagaDefinitionError: one is wrong.
    """

    max_attempts: int | None = 3
    backoff: Seconds | Backoff = 0.0
    retry_on: ErrorKinds = (Exception,)
    max_elapsed: Seconds | None = None
    retry_if: Callable[[Any], object] | None = None
    then: OnError | None = None

    def __post_init__(self) -> None:
        attempts = self.max_attempts
        if attempts is None and self.max_elapsed is None:
            raise SagaDefinitionError("Retry: max_attempts is None; give max_elapsed, or a whole number of 1 or more")
        if attempts is not None and (isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1):
            raise SagaDefinitionError(f"Retry: max_attempts is {attempts!r}; give a whole number of 1 or more")
        self._check_backoff()
        if attempts is None and _never_rests(self.backoff):
            raise SagaDefinitionError(
                f"Retry: max_attempts is None, and backoff {self.backoff!r} never rests between attempts; give seconds above 0"
            )
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        for kind in kinds:
            if not _is_error_kind(kind):
                raise SagaDefinitionError(
                    f"Retry: retry_on has {kind!r}; give Exception classes or plain functions of the error (an interrupt such "
                    "as KeyboardInterrupt is never retried)"
                )
        object.__setattr__(self, "retry_on", kinds)
        object.__setattr__(self, "max_elapsed", seconds_of(self.max_elapsed, "Retry: max_elapsed"))
        if self.retry_if is not None:
            if isinstance(self.retry_if, type):
                raise SagaDefinitionError(f"Retry: retry_if is {self.retry_if!r}; give a function of what execute returned")
            check_callable(self.retry_if, "Retry: retry_if", "what execute returned", 1)
            refuse_unrun(self.retry_if, f"Retry: retry_if {self.retry_if!r}", "let it return a bool")
        if not isinstance(self.then, OnError | None):
            raise SagaDefinitionError(f"Retry: then is {self.then!r}; give Compensate, Skip or Ask")

    def _check_backoff(self) -> None:
        backoff = self.backoff
        if isinstance(backoff, int | float | timedelta):
            object.__setattr__(self, "backoff", _wait("Retry", "backoff", backoff))
            return
        delay = getattr(backoff, "delay", None)
        if isinstance(backoff, type | Retry) or not callable(delay):
            raise SagaDefinitionError(
                f"Retry: backoff is {backoff!r}; give seconds, ExponentialBackoff or an object with "
                "delay(attempt, fraction, error)"
            )
        check_callable(delay, f"Retry: delay() of backoff {backoff!r}", "(attempt, fraction, error)", 3)
        refuse_unrun(delay, f"Retry: delay() of backoff {backoff!r}", "let it return seconds")

    def __ror__(self, flow: Any) -> Any:
        # ``TheTask | Retry(3)``: a class has an operator | of its own, which knows nothing of this.
        return operators.with_policy(flow, self)

    def lasts(self, attempt: int, elapsed: float = 0.0) -> bool:
        """Return whether another attempt may follow ``attempt``, to begin ``elapsed`` seconds after the first one began."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return False
        limit = self.max_elapsed
        return limit is None or elapsed <= limit  # type: ignore[operator]  # seconds, since it was made

    def allows(self, attempt: int, error: BaseException) -> bool:
        """Return whether another attempt may follow ``attempt``, which ended with ``error``; time is not looked at.

        Raises what a function in ``retry_on`` raises.
        """
        assert isinstance(self.retry_on, tuple)
        return self.lasts(attempt) and _is_one_of(error, self.retry_on, "retry_on")

    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        """Return the seconds to wait after ``attempt`` failed (see :meth:`Backoff.delay`)."""
        backoff: Any = self.backoff
        if isinstance(backoff, (int, float)):
            return float(backoff)
        delay: float = in_seconds(answer(backoff.delay(attempt, fraction, error), f"{backoff!r}: delay()", "return seconds"))
        if not is_seconds(delay):
            raise TypeError(f"{backoff!r}: delay() returned {delay!r}; return seconds as a finite number of 0 or more")
        return delay
