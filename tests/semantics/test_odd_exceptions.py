"""What a call raises may be odd: whatever an exception does when it is touched, all goes as it would with a plain one."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from saga import Retry, Saga, SagaResult, Skip, fallback, parallel, step, transaction
from saga.errors import SagaExecutionException
from saga.logging import SagaLogger
from saga.result import failure_of
from saga.storage import MemoryStore
from tests.kit import KITS, PATIENCE, Kit, within
from tests.kit.odd_exceptions import ODDITIES, Plain

Raises = Callable[..., Any]


def of(kit: Kit, raises: Raises) -> tuple[Any, ...]:
    """Return steps in which something raises, with what is around them."""
    if kit.is_async:

        async def fails(*_: Any) -> Any:
            raises()

        async def works(*_: Any) -> Any:
            await asyncio.sleep(0)
    else:

        def fails(*_: Any) -> Any:
            raises()

        def works(*_: Any) -> Any:
            pass

    return fails, works


def lost(*_: Any) -> None:
    raise ConnectionResetError


def stop(*_: Any) -> None:
    raise ValueError("stop")


SHAPES: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda fails, works: [step(works, works, name="a"), step(fails, works, name="b")],
    "limited": lambda fails, works: [step(works, works, name="a"), step(fails, works, name="b", timeout=9)],
    "retried": lambda fails, works: [step(fails, works, name="b", retry=Retry(3, retry_on=Plain))],
    "not-retried": lambda fails, works: [step(fails, works, name="b", retry=Retry(3, retry_on=ArithmeticError))],
    "skipped": lambda fails, works: [step(fails, works, name="b", on_error=Skip)],
    "in-doubt": lambda fails, works: [step(fails, works, name="b", unknown_on=Plain)],
    "branches": lambda fails, works: [parallel(step(works, works, name="a"), step(fails, name="b"))],
    "branches-both": lambda fails, works: [parallel(step(fails, works, name="a"), step(fails, works, name="b"))],
    "fallback": lambda fails, works: [fallback(step(fails, name="a"), step(works, works, name="b"), on=Plain)],
    "no-fallback": lambda fails, works: [fallback(step(fails, name="a"), step(works, works, name="b"), on=ArithmeticError)],
    "nested": lambda fails, works: [Saga("inner").add_task(step(works, works, name="a")).add_task(step(fails, name="b"))],
    "undone-on-failure": lambda fails, works: [step(fails, works, name="b", compensate_on_failure=True)],
    "pivot": lambda fails, works: [step(works, name="a", pivot=True), step(fails, works, name="b", on_error=Skip)],
    "compensation": lambda fails, works: [step(works, fails, name="a"), step(works, works, name="b"), step(stop, name="c")],
    "compensation-retried": lambda fails, works: [
        step(works, fails, name="a", compensation_retry=Retry(2, retry_on=Plain)),
        step(stop, name="c"),
    ],
    "compensations-together": lambda fails, works: [
        parallel(step(works, fails, name="a"), step(works, fails, name="b"), compensate_together=True),
        step(stop, name="c"),
    ],
    "verification": lambda fails, works: [step(lost, works, verify=fails, name="a")],
    "verification-retried": lambda fails, works: [
        step(lost, works, verify=fails, name="a", verification_retry=Retry(2, retry_on=Plain))
    ],
}
OPTIONS: dict[str, Callable[[list[Any]], dict[str, Any]]] = {
    "quiet": lambda seen: {},
    "watched": lambda seen: {"logger": [SagaLogger(), lambda event, info: seen.append(type(event))]},
    "stored": lambda seen: {"store": MemoryStore(), "logger": lambda event, info: seen.append(type(event))},
    "handled": lambda seen: {"on_compensation_failure": lambda context, name, error: seen.append(name)},
}


AT_ONCE = ("branches", "branches-both", "compensations-together")
"""Shapes in which two calls run at once: which of them ends first, nobody knows."""


def settled(shape: str, found: Any) -> Any:
    """Return what came of it without what nobody knows: the order in which two that run at once have ended."""
    if shape not in AT_ONCE:
        return found
    if isinstance(found, dict):
        return sorted(str(value) for value in found.values())
    if isinstance(found, list | tuple):
        return sorted((settled(shape, one) for one in found), key=repr)
    return re.sub(r"\b[ab]\b", "x", found) if isinstance(found, str) else found


def told(kit: Kit, shape: str, options: str, make: Callable[[], Plain]) -> tuple[Any, ...]:
    """Return what came of it, and whose error it is."""
    raised: list[BaseException] = []

    def raises() -> None:
        raised.append(make())
        raise raised[-1]

    seen: list[Any] = []
    saga = Saga("s", **OPTIONS[options](seen))
    for flow in SHAPES[shape](*of(kit, raises)):
        saga.add_task(flow)
    result: SagaResult = within(PATIENCE, lambda: kit.run(saga, saga_id="S"))
    kinds = [
        "odd" if any(error is one for one in raised) else type(error).__name__
        for error in (
            result.error,
            *(record.error for record in result.history),
            *(e.error for e in result.compensation_errors),
        )
    ]
    for text in (result.report(), str(failure_of(result)), repr(failure_of(result)), repr(result)):
        assert type(text) is str
    return result.status, result.failed_step, dict(result.effects), result.in_doubt, len(raised), kinds, seen, result.reason


@pytest.mark.parametrize("kit", KITS)
@pytest.mark.parametrize("oddity", ODDITIES)
def test_an_odd_exception_is_an_exception_like_any_other(oddity: str, kit: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="saga")
    for shape in SHAPES:
        for options in OPTIONS:
            found = []
            for make in (Plain, ODDITIES[oddity]):
                caplog.clear()
                outcome = told(Kit(*KITS[kit]), shape, options, make)
                logged = [(record.levelname, record.getMessage().split(" saga=")[0]) for record in caplog.records]
                found.append((settled(shape, outcome), settled(shape, logged)))
            assert found[1] == found[0], f"{shape}, {options}"


@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
@pytest.mark.parametrize("oddity", ODDITIES)
def test_an_odd_exception_leaves_a_block_as_any_other_does(oddity: str, stored: bool) -> None:
    for where in ("in a step", "between steps"):
        found = []
        for make in (Plain, ODDITIES[oddity]):
            error = make()
            undone.clear()

            def block(error: BaseException = error, where: str = where) -> Any:
                with transaction("t", store=MemoryStore() if stored else None) as tx:
                    tx.step(one, undo, name="one")
                    if where == "in a step":
                        tx.step(throw, name="two", args=(error,)) if not stored else tx.step(throw_known, name="two")
                    raise error

            KNOWN[:] = [error]
            try:
                within(PATIENCE, block)
            except SagaExecutionException as failure:
                found.append((type(failure), failure.cause is error, list(undone)))
            except Exception as other:
                found.append((other is error, list(undone)))
        assert found[1] == found[0], where


undone: list[str] = []
KNOWN: list[BaseException] = []


def one() -> None:
    pass


def undo(own: None) -> None:
    undone.append("one")


def throw(error: BaseException) -> None:
    raise error


def throw_known() -> None:
    raise KNOWN[0]
