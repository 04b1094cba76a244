"""Transactional calls of coroutine functions: made in the driver's own coroutine, so that a cancellation strikes them there.

What is done around a call with its transaction is done beside it, to the end: see :mod:`saga.drivers.to_the_end`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from saga.context import Context
from saga.drivers import forks
from saga.drivers.calls import Made, make_async
from saga.drivers.interrupts import AbandonedError
from saga.drivers.to_the_end import stored, thread_for, to_the_end
from saga.drivers.transacted import settle, transact, transact_here
from saga.machine import Call

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution

__all__ = ["settle_in_loop", "transact_in_loop"]

T = TypeVar("T")


class _InLoop:
    """See :class:`saga.drivers.transacted.Way`."""

    in_loop = True

    def __init__(self, driver: AsyncExecution) -> None:
        self._driver = driver

    async def make(self, call: Call, view: Context) -> Made:
        driver = self._driver
        made = await make_async(call, view, driver.surroundings)
        cancellation = await driver.swallowed(made)
        # One that swallows it is rolled back all the same.
        return made if cancellation is None else (call, False, cancellation, made[3])

    async def whole(self, work: Callable[[], Awaitable[T]]) -> T:
        driver = self._driver
        strikes: list[BaseException] = []

        def strike(error: BaseException) -> None:
            forks.refuse(driver, error)
            strikes.append(error)

        try:
            return await to_the_end(work, strike, again=False)
        finally:
            if strikes and driver.ended is None:  # as in stored()
                raise strikes[0]


async def transact_in_loop(driver: AsyncExecution, call: Call) -> None:
    """Make a transactional call: a plain function's in a thread, and nothing cuts it off.

    :raises AbandonedError: it cannot be stored.
    """
    if not call.step.is_async(call.phase):
        await stored(driver, partial(thread_for, partial(transact_here, driver, call)))
        return
    try:
        await transact(driver, call, _InLoop(driver))
    except Exception as error:
        raise AbandonedError(error) from error


async def settle_in_loop(driver: AsyncExecution) -> None:
    """Find out what came of a transactional call that something struck, however often the one who waits is cancelled.

    :raises AbandonedError: that could not be found out.
    """
    try:
        await to_the_end(partial(settle, driver), driver.interrupted)
    except Exception as fault:
        raise AbandonedError(fault) from fault
