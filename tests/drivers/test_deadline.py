"""A saga's deadline in either driver: what it cuts, and what it must not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from saga import Context, Status, parallel, step
from saga.errors import SagaTimeoutError
from tests.kit import LONG, PATIENCE, saga_of, within


def test_the_deadline_of_async_steps_is_told_as_such(coroutines: Any, log: list[str]) -> None:
    saga = saga_of(coroutines.step("a"), coroutines.step("b", lambda: asyncio.sleep(3600)), timeout=LONG)
    result = asyncio.run(saga.atry_execute())  # raises CancelledError
    assert isinstance(result.error, SagaTimeoutError)
    assert log == ["a", "b", "-b", "-a"]
    assert result.status is Status.COMPENSATED


@pytest.mark.parametrize("error", [None, ValueError("while it cleaned up")])
def test_an_async_step_cut_by_the_deadline_is_in_doubt_however_it_ends(error: Any, log: list[str]) -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
            raise

    saga = saga_of(step(slow, lambda: log.append("-slow"), name="slow"), timeout=LONG)
    result = asyncio.run(saga.atry_execute())
    assert result.status is Status.COMPENSATED
    assert log == ["-slow"]


def test_a_deadline_after_the_pivot_cuts_no_async_step(coroutines: Any, plain: Any) -> None:
    saga = saga_of(plain.step("p", pivot=True), coroutines.step("b", lambda: asyncio.sleep(2 * LONG)), timeout=LONG)
    assert within(PATIENCE, lambda: asyncio.run(saga.atry_execute())).ok  # TypeError in the driver; it spins for ever


def test_a_deadline_during_the_undo_cuts_no_sibling_that_is_let_end(coroutines: Any, plain: Any) -> None:
    saga = saga_of(
        parallel(coroutines.step("b", lambda: asyncio.sleep(2 * LONG)), plain.step("c", ValueError("no"))), timeout=LONG
    )
    result = within(PATIENCE, lambda: asyncio.run(saga.atry_execute()))
    assert isinstance(result.error, ValueError)
    assert result.status is Status.COMPENSATED


def test_a_deadline_after_the_pivot_tells_no_plain_step_to_stop(plain: Any) -> None:
    seen = []

    def slow(context: Context) -> None:
        time.sleep(2 * LONG)
        seen.append(context.step.cancelled)

    assert saga_of(plain.step("p", pivot=True), step(slow), timeout=LONG).try_execute().ok
    assert seen == [False]
