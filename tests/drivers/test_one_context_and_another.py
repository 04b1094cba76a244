"""One context in two hands: another saga is executed with it meanwhile, or two calls work on it at the same time."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from saga import Context, Saga, Skip, Status, parallel, step, transaction
from saga.errors import SagaExecutionException
from saga.storage import MemoryStore
from tests.kit import KITS, PATIENCE, Kit, within


def of(kit: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, or a coroutine function that does the same."""
    if not kit.is_async:
        return function

    @functools.wraps(function)
    async def afunction(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **options)

    return afunction


INNER = Saga("inner").add_task(step(lambda: "in", name="in")).add_task(step(lambda: "side", name="side"))


def nesting(kit: Any, then: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that executes another saga with the context it got, and then does something."""
    if not kit.is_async:

        def function(own: Any, context: Context) -> Any:
            INNER.execute(context)
            return then(own)

        return function

    async def afunction(own: Any, context: Context) -> Any:
        await INNER.aexecute(context)
        return then(own)

    return afunction


undone: list[Any] = []


def one() -> str:
    return "one"


def undo_one(own: Any) -> None:
    undone.append(own)


def fail() -> None:
    raise ValueError


async def aone() -> str:
    return "one"


async def aundo_one(own: Any) -> None:
    undone.append(own)


async def afail() -> None:
    raise ValueError


def failing(own: Any) -> None:
    raise ValueError


OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "quiet": dict,
    "watched": lambda: {"logger": lambda event, info: None},
    "stored": lambda: {"store": MemoryStore()},
    "limited": lambda: {"timeout": 9.0},
}


@pytest.fixture(params=list(OPTIONS))
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return OPTIONS[request.param]()


# -- another saga, executed with the same context ---------------------------------------------------------------------


def test_a_task_executes_another_saga_with_its_context(kit: Any, options: dict[str, Any]) -> None:
    log: list[Any] = []

    def three(previous: Any, context: Context) -> int:
        log.append((previous, context.step.name, context.step.saga_id, context.result_of("one")))
        return 3

    def undo(name: str) -> Any:
        return of(kit, lambda own: log.append((f"-{name}", own)))

    saga = Saga("outer", **options)
    saga.add_task(step(of(kit, one), undo("one"), name="one"))
    saga.add_task(step(nesting(kit, lambda own: "two"), undo("two"), name="two"))
    saga.add_task(step(of(kit, three), undo("three"), name="three"))
    saga.add_task(step(of(kit, fail)))
    result = within(PATIENCE, lambda: kit.run(saga, saga_id="OUTER"))
    assert log == [("two", "three", "OUTER", "one"), ("-three", 3), ("-two", "two"), ("-one", "one")]
    assert (result.status, result.saga_id, type(result.error)) == (Status.COMPENSATED, "OUTER", ValueError)


def test_a_task_fails_after_it_has_executed_another_saga(kit: Any, options: dict[str, Any]) -> None:
    log: list[Any] = []
    saga = Saga("outer", **options)
    saga.add_task(step(of(kit, one), of(kit, lambda own: log.append(("-one", own))), name="one"))
    saga.add_task(step(nesting(kit, failing), name="two"))
    result = within(PATIENCE, lambda: kit.run(saga))
    assert (result.status, result.failed_step, log) == (Status.COMPENSATED, "two", [("-one", "one")])


@pytest.mark.parametrize("fails", [False, True], ids=["and-ends-well", "and-fails"])
def test_a_compensation_executes_another_saga_with_its_context(kit: Any, options: dict[str, Any], fails: bool) -> None:
    log: list[Any] = []

    def undo_two(own: Any) -> None:
        log.append(("-two", own))
        if fails:
            raise OSError

    saga = Saga("outer", **options)
    saga.add_task(step(of(kit, one), of(kit, lambda own: log.append(("-one", own))), name="one"))
    saga.add_task(step(of(kit, lambda: "two"), nesting(kit, undo_two), name="two"))
    saga.add_task(step(of(kit, fail)))
    result = within(PATIENCE, lambda: kit.run(saga))
    assert log == [("-two", "two"), ("-one", "one")]
    assert result.status is (Status.STUCK if fails else Status.COMPENSATED)


@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
def test_between_two_steps_of_a_block_its_context_is_given_to_another_saga(kit: Any, stored: bool) -> None:
    undone.clear()
    context, store = Context(), MemoryStore() if stored else None

    def block() -> None:
        with transaction("t", context, store=store) as tx:
            tx.step(one, undo_one)
            INNER.execute(context)
            tx.step(fail)

    async def ablock() -> None:
        async with transaction("t", context, store=store) as tx:
            await (tx.astep(aone, aundo_one) if kit.is_async else tx.astep(one, undo_one))
            await INNER.aexecute(context)
            await tx.astep(afail if kit.is_async else fail)

    with pytest.raises(SagaExecutionException):
        within(PATIENCE, lambda: asyncio.run(ablock()) if kit.in_loop else block())
    assert undone == ["one"]


@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
def test_between_two_records_of_a_stream_its_context_is_given_to_another_saga(kit: Any, stored: bool) -> None:
    log: list[Any] = []
    context = Context()
    saga = Saga("outer", store=MemoryStore() if stored else None)
    saga.add_task(step(of(kit, one), of(kit, lambda own: log.append(("-one", own))), name="one"))
    saga.add_task(step(of(kit, fail)))

    def stream() -> None:
        for _ in saga.stream(context):
            INNER.execute(context)

    async def astream() -> None:
        async with aclosing(saga.astream(context)) as records:
            async for _ in records:
                await INNER.aexecute(context)

    with pytest.raises(SagaExecutionException):
        within(PATIENCE, lambda: asyncio.run(astream()) if kit.in_loop else stream())
    assert log == [("-one", "one")]


# -- two calls at the same time ---------------------------------------------------------------------------------------


class Pair:
    """Two calls that each look only when both have begun."""

    def __init__(self, kit: Any) -> None:
        self.log: list[Any] = []
        self._kit, self._begun, self._barrier = kit, 0, threading.Barrier(2, timeout=1)

    def call(self, name: str) -> Callable[..., Any]:
        """Return a function that notes what it got."""

        def tell(own: Any, context: Context) -> None:
            self.log.append((name, own, context.step.name))

        def function(own: Any, context: Context) -> None:
            self._barrier.wait()
            tell(own, context)

        async def afunction(own: Any, context: Context) -> None:
            self._begun += 1
            async with asyncio.timeout(1):
                while self._begun < 2:
                    await asyncio.sleep(0.001)
            tell(own, context)

        return afunction if self._kit.is_async else function


def test_compensations_at_the_same_time_have_each_its_own_result_and_step(kit: Any) -> None:
    pair = Pair(kit)
    group = [step(of(kit, functools.partial(str, name)), pair.call(f"-{name}"), name=name) for name in "ab"]
    saga = Saga("s").add_task(parallel(*group, compensate_together=True)).add_task(step(of(kit, fail), name="c"))
    result = within(PATIENCE, lambda: kit.run(saga))
    assert sorted(pair.log) == [("-a", "a", "a"), ("-b", "b", "b")]
    assert result.status is Status.COMPENSATED


@pytest.mark.parametrize("name", ["aio-async", "aio-plain"])
def test_the_undo_of_a_skipped_step_and_the_step_beside_it_have_each_its_own_step(name: str) -> None:
    kit = Kit(*KITS[name])
    pair = Pair(kit)
    skipped = step(of(kit, fail), pair.call("-a"), name="a", on_error=Skip, compensate_on_failure=True)
    group = parallel(skipped, step(pair.call("b"), name="b", args=(None,)))
    result = within(PATIENCE, lambda: kit.run(Saga("s").add_task(group)))
    assert sorted((name, at) for name, _, at in pair.log) == [("-a", "a"), ("b", "b")]
    assert result.status is Status.COMPLETED
