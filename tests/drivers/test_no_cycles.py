"""A failed execution leaves no reference cycles: what it held is freed at once, and the garbage collector finds nothing."""

from __future__ import annotations

import asyncio
import collections
import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from saga import Saga, step
from saga.errors import SagaExecutionException
from saga.storage import MemoryStore

OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "quiet": dict,
    "stored": lambda: {"store": MemoryStore()},
    "limited": lambda: {"timeout": 9.0},
    "limited-and-stored": lambda: {"timeout": 9.0, "store": MemoryStore()},
}


@pytest.fixture(params=list(OPTIONS))
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return OPTIONS[request.param]()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def do() -> int:
    return 1


def undo(own: int) -> None: ...


def fail() -> None:
    raise ValueError


async def ado() -> int:
    return 1


async def aundo(own: int) -> None: ...


async def afail() -> None:
    raise ValueError


def garbage_of(work: Callable[[], object]) -> dict[str, int]:
    """Return what the garbage collector finds each time after ``work``, by type. Another test's threads may leave some once."""
    kinds: collections.Counter[str] = collections.Counter()
    for _ in range(3):
        with suppress(SagaExecutionException):
            work()  # what is made but once is not counted
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                with suppress(SagaExecutionException):
                    work()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kinds = collections.Counter(type(one).__name__ for one in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        if not kinds:
            break
    return dict(kinds)


def plain(options: dict[str, Any]) -> Saga:
    return Saga("s", **options).add_task(step(do, undo)).add_task(step(fail))


def test_after_execute(options: dict[str, Any]) -> None:
    assert garbage_of(plain(options).execute) == {}


def test_after_try_execute(options: dict[str, Any]) -> None:
    assert garbage_of(plain(options).try_execute) == {}


def test_after_a_stream(options: dict[str, Any]) -> None:
    saga = plain(options)

    def stream() -> None:
        for _ in saga.stream():
            pass

    assert garbage_of(stream) == {}


@pytest.mark.parametrize("kind", ["async", "mixed"])
def test_after_aexecute(options: dict[str, Any], kind: str, loop: asyncio.AbstractEventLoop) -> None:
    saga = Saga("s", **options).add_task(step(ado, aundo)).add_task(step(afail)) if kind == "async" else plain(options)

    async def work() -> None:  # what leaves run_until_complete() is in a cycle of asyncio's
        with suppress(SagaExecutionException):
            await saga.aexecute()

    assert garbage_of(lambda: loop.run_until_complete(work())) == {}
