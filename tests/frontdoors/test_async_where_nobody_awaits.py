"""Functions that are called beside tasks have to answer at once: what nobody would await is refused, or taken as raised."""

from __future__ import annotations

import asyncio
import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saga import Retry, Saga, Status, Task, fallback, step, transaction
from saga.errors import SagaDefinitionError
from saga.logging import SagaLogger
from tests.kit import KITS, Kit, saga_of

# -- the kinds of functions that do not run when they are called -------------------------------------------------------


async def coroutine_function(*args: Any) -> None: ...


def generator_function(*args: Any) -> Iterator[None]:
    yield


async def async_generator_function(*args: Any) -> Any:
    yield


class Callee:
    """An object whose call, and one of whose methods, is a coroutine function."""

    async def __call__(self, *args: Any) -> None: ...

    async def method(self, *args: Any) -> None: ...


pytestmark = pytest.mark.usefixtures("nothing_unawaited")

KINDS: dict[str, Callable[..., Any]] = {
    "coroutine function": coroutine_function,
    "partial": functools.partial(coroutine_function),
    "partial of a partial": functools.partial(functools.partial(Callee())),
    "object": Callee(),
    "method": Callee().method,
    "generator function": generator_function,
    "async generator function": async_generator_function,
}


class With:
    """An object with one method of this name, and called with anything."""

    def __init__(self, name: str, method: Any) -> None:
        setattr(self, name, method)

    def __call__(self, *args: Any) -> None: ...

    def __repr__(self) -> str:
        return "<with>"


class Work(Task[None]):
    def execute(self, context: Any) -> None: ...


def fail() -> None:
    raise ValueError


def undo(own: Any) -> None:
    raise OSError


#: By what a function is given as: what gives it. A name that begins with what a method is of takes an object with that method.
GIVEN: dict[str, Callable[[Any], Any]] = {
    "logger": lambda function: Saga("s", logger=function),
    "observers": lambda function: Saga("s", observers=[lambda event, info: None, function]),
    "logger of a block": lambda function: transaction("t", logger=function),
    "declared logger": lambda function: (
        type("Declared", (Saga,), {"logger": function})()
        if isinstance(function, Callee | functools.partial)
        else Saga("s", logger=function)
    ),
    "around": lambda function: Saga("s", logger=With("around", function)),
    "listening": lambda function: Saga("s", logger=With("listening", function)),
    "on_compensation_failure": lambda function: Saga("s", on_compensation_failure=function),
    "resolver": lambda function: Saga("s", resolver=function),
    "delay": lambda function: Retry(3, backoff=With("delay", function)),
    "unknown_on": lambda function: Saga("s", unknown_on=function),
    "unknown_on of a step": lambda function: saga_of(step(Work, unknown_on=(ValueError, function))).plan,
    "unknown_on of a block": lambda function: transaction("t", unknown_on=function),
    "breaker": lambda function: fallback(Work, Work, breaker=With("calling", function)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", GIVEN)
def test_a_function_that_nobody_awaits_is_refused_where_it_is_given(given: str, kind: str) -> None:
    with pytest.raises(SagaDefinitionError, match=r"async function|generator function|plain functions of the error"):
        GIVEN[given](KINDS[kind])


@pytest.mark.parametrize("method", ["__call__", "write", "step_failed", "saga_stuck"])
def test_a_logger_with_an_async_method_is_refused(method: str) -> None:
    kind = type("Logger", (SagaLogger,), {method: coroutine_function})
    with pytest.raises(SagaDefinitionError, match="is an async function, which nobody awaits"):
        Saga("s", logger=kind())


# -- what can be seen only when it is called ---------------------------------------------------------------------------


def returning(*_: Any) -> Any:
    return coroutine_function()


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.exc_info[1]) for record in caplog.records if record.exc_info and record.levelno == logging.ERROR]


@pytest.mark.parametrize("kit", KITS)
def test_an_observer_that_returns_a_coroutine_has_raised(kit: str, caplog: pytest.LogCaptureFixture) -> None:
    for observer in (returning, With("around", returning)):
        caplog.clear()
        result = Kit(*KITS[kit]).run(saga_of(step(lambda: 1), step(lambda: 2, name="b"), logger=observer))
        assert result.ok
        (report,) = reports(caplog)
        assert "returned a coroutine, which nobody awaits" in report
    assert Kit(*KITS[kit]).run(saga_of(step(lambda: 1), logger=With("listening", returning))).ok


@pytest.mark.parametrize("kit", KITS)
def test_a_handler_that_returns_a_coroutine_has_raised(kit: str, caplog: pytest.LogCaptureFixture) -> None:
    saga = saga_of(step(lambda: 1, undo), step(fail), on_compensation_failure=returning)
    assert Kit(*KITS[kit]).run(saga).status is Status.STUCK
    (report,) = reports(caplog)
    assert "returned a coroutine, which nobody awaits" in report


@pytest.mark.parametrize("kit", KITS)
def test_a_policy_that_returns_a_coroutine_has_raised(kit: str, caplog: pytest.LogCaptureFixture) -> None:
    backoff = With("delay", returning)
    result = Kit(*KITS[kit]).run(saga_of(step(fail, retry=Retry(2, backoff=backoff))))
    assert (result.status, "delay() returned a coroutine" in str(result.error)) == (Status.COMPENSATED, True)
    result = Kit(*KITS[kit]).run(saga_of(step(fail, unknown_on=returning)))
    assert (result.in_doubt, "unknown_on, returned a coroutine" in reports(caplog)[-1]) == (("fail",), True)


@pytest.mark.parametrize("kit", KITS)
def test_a_resolver_that_returns_a_coroutine_resolves_nothing(kit: str) -> None:
    result = Kit(*KITS[kit]).run(saga_of(Work, resolver=returning))
    assert (result.status, "the resolver, asked for Work, returned a coroutine" in str(result.error)) == (
        Status.COMPENSATED,
        True,
    )


@pytest.mark.parametrize("kit", KITS)
def test_a_breaker_guards_nothing_that_is_awaited_later(kit: str) -> None:
    class Closed:
        def calling(self) -> Any:
            return warnings.catch_warnings()

    runner = Kit(*KITS[kit])
    primary, alternative = step(lambda: coroutine_function(), name="a"), step(lambda: 2, name="b")
    flow = fallback(primary, alternative, on=LookupError, breaker=Closed())
    result = runner.run(saga_of(flow))
    assert (result.status, "behind a circuit breaker, returned a coroutine" in str(result.error)) == (Status.COMPENSATED, True)
    result = runner.run(saga_of(fallback(primary, alternative, on=LookupError, breaker=With("calling", returning))))
    assert (result.status, "calling() returned a coroutine" in str(result.error)) == (Status.COMPENSATED, True)


def test_a_scope_is_around_nothing_that_is_awaited_later() -> None:
    class Later(Task[None]):
        def execute(self, context: Any) -> Any:
            return coroutine_function()

    def scope(kind: Any) -> Any:
        made = Later()
        return type("Scope", (), {"__enter__": lambda self: made, "__exit__": lambda self, *error: None})()

    result = asyncio.run(saga_of(Later, resolver=scope).atry_execute())
    assert "which the resolver makes in a scope, returned a coroutine" in str(result.error)
