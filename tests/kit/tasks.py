"""Tasks and functions that note each call by name (``a``; ``-a`` for its compensation), then do what they were given to do.

What they are given: ``None`` for nothing, an exception to raise, a :class:`~tests.kit.waiting.Gate` to wait at, something to
call, or a tuple of these, done in turn.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Sequence
from typing import Any

from saga import Context, Task
from tests.kit.waiting import Gate


class Odd(BaseException):
    """An interrupt that nobody knows: neither an ``Exception`` nor one of Python's own."""


def perform(what: Any, *args: Any) -> Any:
    """Do what a plain call was given to do, with these arguments."""
    if isinstance(what, BaseException):
        raise what
    if isinstance(what, tuple):
        return [perform(one, *args) for one in what]
    if isinstance(what, Gate):
        return what.hold()
    return None if what is None else what(*args)


async def aperform(what: Any, *args: Any) -> Any:
    """Do what a coroutine was given to do, with these arguments."""
    if isinstance(what, tuple):
        return [await aperform(one, *args) for one in what]
    if isinstance(what, Gate):
        return await what.ahold()
    answer = perform(what, *args)
    return await answer if inspect.isawaitable(answer) else answer


class PlainTask(Task[str]):
    """A task of plain methods, without a compensation."""

    def __init__(self, log: list[str], name: str, during: Any, during_undo: Any, policies: dict[str, Any]) -> None:
        self.log, self.name, self.during, self.during_undo = log, name, during, during_undo
        vars(self).update(policies)

    def execute(self, context: Context) -> str:
        self.log.append(str(self.name))
        perform(self.during, context)
        return f"result of {self.name}"


class UndoablePlainTask(PlainTask):
    """A task of plain methods, with a compensation."""

    def compensate(self, context: Context) -> None:
        self.log.append(f"-{self.name}")
        perform(self.during_undo, context)


class AsyncTask(PlainTask):
    """A task of coroutines, without a compensation."""

    async def execute(self, context: Context) -> str:  # type: ignore[override]
        self.log.append(str(self.name))
        await asyncio.sleep(0)
        await aperform(self.during, context)
        return f"result of {self.name}"


class UndoableAsyncTask(AsyncTask):
    """A task of coroutines, with a compensation."""

    async def compensate(self, context: Context) -> None:  # type: ignore[override]
        self.log.append(f"-{self.name}")
        await asyncio.sleep(0)
        await aperform(self.during_undo, context)


def failing_times(times: int, error: type[BaseException] = OSError) -> Any:
    """Return what raises the first so many times it is called, with or without a context."""
    tries = itertools.count()

    def act(context: Context | None = None) -> None:
        number = next(tries)
        if number < times:
            raise error(number)

    return act


def failures(count: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return each way in which ``count`` steps in sequence may fail: the one that does, and those whose undo does too."""
    return [
        (failing, bad)
        for failing in range(count)
        for size in range(failing + 1)
        for bad in itertools.combinations(range(failing), size)
    ]


def undone_last_first(log: Sequence[str]) -> bool:
    """Whether everything executed was compensated afterwards, last first."""
    done = [name for name in log if not name.startswith("-")]
    return list(log) == done + [f"-{name}" for name in reversed(done)]
