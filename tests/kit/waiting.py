"""Waiting for others: threads, coroutines and child processes. What may hang is waited for within a limit, and then fails.

No test depends on how long anything takes: the limits here only end a test that hangs.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds after which a test that hangs has failed."""

SHORT: Final = 0.02
"""Seconds after which something times out that is held until then: where it takes longer, nothing else comes of it."""
LONG: Final = 0.5
"""Seconds before whose end all that is to happen before a deadline has happened, however busy the machine is."""


def background(call: Callable[[], T]) -> Callable[..., T]:
    """Begin ``call`` in a thread that nothing waits for. Return what waits for its result, for so many seconds at most."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result(seconds: float = PATIENCE) -> T:
        thread.join(seconds)
        assert outcome, f"no end after {seconds} s"
        ended_well, value = outcome[0]
        if ended_well:
            returned: T = value
            return returned
        raise value

    return result


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what ``call`` returns; fail where it takes longer."""
    return background(call)(seconds)


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait, in a thread, until the condition holds; fail where it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.002)


async def auntil(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait, in the event loop, until the condition holds; fail where it takes longer."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def ticks(count: int) -> None:
    """Let the event loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Gate:
    """Holds the calls that come to it until it is opened, from any thread.

    :ivar reached: set when a call has come; :ivar in_time: whether the last one to go on was let go before patience ended.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.in_time: bool | None = None
        self._open = threading.Event()

    def open(self, context: object = None) -> None:
        """Let go all that is held, and hold nothing more."""
        self._open.set()

    def hold(self, context: object = None) -> None:
        """Hold a thread."""
        self.reached.set()
        self.in_time = self._open.wait(PATIENCE)
        assert self.in_time, "nobody opened the gate"

    async def ahold(self, context: object = None) -> None:
        """Hold a coroutine, which may be cancelled here."""
        self.reached.set()
        await auntil(self._open.is_set)


def in_a_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process and return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads live here, which the child does not need
        child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
