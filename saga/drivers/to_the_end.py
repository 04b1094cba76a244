"""Waiting in an event loop for what is not to be cut off, however often the one who waits is cancelled."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from saga.drivers import forks
from saga.drivers.interrupts import AbandonedError

if TYPE_CHECKING:
    from saga.drivers.base import Driver

__all__ = ["in_thread", "stored", "thread_for", "to_the_end"]

T = TypeVar("T")


async def to_the_end(
    begin: Callable[[], Awaitable[T]],
    struck: Callable[[BaseException], None],
    *,
    again: bool = True,
    taken_up: bool = False,
) -> T:
    """Await what ``begin`` returns, beside the caller, to its end. Each cancellation meanwhile is given to ``struck``.

    The event loop's end cancels every task, one that has not begun too: then it is begun again.

    :param again: whether that may be; else the cancellation is raised.
    :param taken_up: where it is begun again, what goes on is waited for: nothing needs to keep it from being cancelled.
    """
    work = asyncio.ensure_future(begin())
    shield: Any = None
    try:
        while True:
            try:
                return await (work if taken_up else asyncio.shield(work))
            except asyncio.CancelledError as error:
                struck(error)
                if work.cancelled():
                    if not again:
                        raise
                    work = asyncio.ensure_future(begin())
                elif work.done():
                    return work.result()
                shield = shield or _shield_of_anyio()
    finally:
        if shield is not None:
            shield.__exit__(None, None, None)


def _shield_of_anyio() -> Any:
    """Enter and return what keeps a cancel scope of anyio, where there may be one, from cancelling at each turn of the loop."""
    anyio = sys.modules.get("anyio")
    try:
        shield = anyio.CancelScope(shield=True) if anyio is not None else None
        if shield is not None:
            shield.__enter__()
    except Exception:  # it does not know this event loop
        return None
    return shield


async def in_thread(work: Callable[[], T], struck: Callable[[BaseException], None]) -> T:
    """Do ``work`` in a thread, to its end. Each cancellation that strikes meanwhile is given to ``struck``."""
    return await to_the_end(partial(thread_for, work), struck)


def thread_for(work: Callable[[], T]) -> asyncio.Future[T]:
    # Unlike a task, a future of an executor is not cancelled by the event loop's end.
    return asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, work)


async def stored(
    driver: Driver,
    begin: Callable[[], Awaitable[T]],
    then: Callable[[T], object] = lambda result: None,
    struck: Callable[[], None] = lambda: None,
    taken_up: bool = False,
) -> None:
    """Await something that is done with a driver's store, and do ``then`` with its result.

    :param struck: called where an interrupt strikes meanwhile. A cancellation takes effect when the store has done it.
    """
    interrupts: list[BaseException] = []

    def strike(error: BaseException) -> None:
        forks.refuse(driver, error)
        interrupts.append(error)
        struck()

    try:
        result = await to_the_end(begin, strike, taken_up=taken_up)
    except Exception as error:
        raise AbandonedError(error) from error
    then(result)
    if interrupts and driver.ended is None:  # else the event loop is closing, as in _see_to_stragglers
        raise interrupts[0]
