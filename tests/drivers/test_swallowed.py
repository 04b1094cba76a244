"""A call that swallows its ``CancelledError``, as many libraries do: the caller is cancelled all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, Retry, Skip, Status, Task, fallback, parallel, step, transaction
from saga.events import SagaCompensating, StepFailed, StepStarted, StepSucceeded
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, SHORT, Calls, Gate, Watch, auntil, saga_of, ticks

Swallows = Callable[..., Any]


class Boom(Exception):
    """What a call makes of its cancellation."""


@pytest.fixture
def swallows(log: list[str], gate: Gate) -> Swallows:
    """Make a step that waits to be cancelled, swallows that, and ends as it likes."""

    def make(name: str = "b", ends: Any = None, **policies: Any) -> Any:
        async def act() -> Any:
            log.append(name)
            with suppress(asyncio.CancelledError):
                await gate.ahold()
            await asyncio.sleep(0)  # and cleans up
            if isinstance(ends, Exception):
                raise ends
            return ends

        async def undo() -> None:
            log.append(f"-{name}")
            await asyncio.sleep(0)

        return step(act, undo, name=name, **policies)

    return make


async def cancelled(work: Awaitable[Any], gate: Gate) -> asyncio.CancelledError:
    """Cancel what works once it waits to be, and return what it raises."""
    running = asyncio.ensure_future(work)
    await auntil(gate.reached.is_set)
    running.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
    return caught.value


@pytest.fixture(params=["quiet", "watched", "stored", "stored-watched"])
def options(request: pytest.FixtureRequest, watch: Watch) -> dict[str, Any]:
    options: dict[str, Any] = {"store": MemoryStore()} if "stored" in request.param else {}
    return {**options, "logger": watch} if "watched" in request.param else options


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("ends", [None, "a result", Context(other=1), Boom()], ids=["None", "result", "context", "raises"])
def test_it_ends_as_it_likes_and_nothing_follows_it_but_the_undo(
    coroutines: Calls, swallows: Swallows, gate: Gate, options: dict[str, Any], watch: Watch, at: int, ends: Any
) -> None:
    flows = [coroutines.step(name) for name in "ac"]
    flows.insert(at, swallows(ends=ends))
    error = asyncio.run(cancelled(saga_of(*flows, **options).aexecute(saga_id="o-1"), gate))
    begun = [["b"], ["a", "b"], ["a", "c", "b"]][at]
    done = [name for name in begun if name != "b" or not isinstance(ends, Boom)]
    assert coroutines.log == begun + [f"-{name}" for name in reversed(done)]
    assert len(error.__notes__) == 1
    assert "failed and was undone" in error.__notes__[0]
    if "logger" in options:
        assert [event.step for event in watch.of(StepStarted)] == begun
        assert [event.step for event in watch.of(StepSucceeded)] == done
        assert [(event.step, event.error) for event in watch.of(StepFailed)] == [("b", ends) for _ in begun[len(done) :]]
        assert [event.error for event in watch.of(SagaCompensating)] == [error]
    if "store" in options:
        row = options["store"].get("o-1")
        assert (row.status, row.owner) == ("compensated", None)


class Swallowing(Task[str]):
    """A task class that swallows its cancellation."""

    def __init__(self, log: list[str], gate: Gate) -> None:
        self.log = log
        self.gate = gate

    async def execute(self, context: Context) -> str:
        with suppress(asyncio.CancelledError):
            await self.gate.ahold()
        return "done"

    async def compensate(self, context: Context) -> None:
        self.log.append(f"-{context.result_of(Swallowing)}")


def test_its_compensation_has_its_result(coroutines: Calls, gate: Gate) -> None:
    asyncio.run(cancelled(saga_of(Swallowing(coroutines.log, gate), coroutines.step("c")).aexecute(), gate))
    assert coroutines.log == ["-done"]


@pytest.mark.parametrize(
    "policies",
    [{"retry": Retry(3)}, {"on_error": Skip}, {"on_error": Retry(2, then=Skip)}],
    ids=["retry", "skip", "both"],
)
def test_what_it_fails_with_is_neither_retried_nor_skipped(
    coroutines: Calls, swallows: Swallows, gate: Gate, options: dict[str, Any], policies: dict[str, Any]
) -> None:
    saga = saga_of(coroutines.step("a"), swallows(ends=Boom(), **policies), coroutines.step("c"), **options)
    asyncio.run(cancelled(saga.aexecute(), gate))
    assert coroutines.log == ["a", "b", "-a"]


def test_no_fallback_of_it_begins(coroutines: Calls, swallows: Swallows, gate: Gate, options: dict[str, Any]) -> None:
    saga = saga_of(coroutines.step("a"), fallback(swallows(ends=Boom()), coroutines.step("c")), **options)
    asyncio.run(cancelled(saga.aexecute(), gate))
    assert coroutines.log == ["a", "b", "-a"]


def test_in_a_branch(coroutines: Calls, swallows: Swallows, gate: Gate, options: dict[str, Any]) -> None:
    branch = (coroutines.step("a"), swallows(), coroutines.step("c"))  # "b" runs when the other branch has ended
    saga = saga_of(parallel(branch, coroutines.step("d")), coroutines.step("e"), **options)
    asyncio.run(cancelled(saga.aexecute(), gate))
    assert sorted(coroutines.log) == ["-a", "-b", "-d", "a", "b", "d"]


def test_the_pivot_that_swallows_it_stands(coroutines: Calls, swallows: Swallows, gate: Gate) -> None:
    store = MemoryStore()
    saga = saga_of(coroutines.step("a"), swallows(pivot=True), coroutines.step("c"), store=store)
    asyncio.run(cancelled(saga.aexecute(saga_id="o-1"), gate))
    assert coroutines.log == ["a", "b"]
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPLETED
    assert coroutines.log == ["a", "b", "c"]


@pytest.mark.parametrize("ends", [None, Boom()], ids=["returns", "raises"])
def test_past_the_pivot_it_stops_where_it_is(coroutines: Calls, swallows: Swallows, gate: Gate, ends: Any) -> None:
    store = MemoryStore()
    saga = saga_of(coroutines.step("a", pivot=True), swallows(ends=ends, on_error=Skip), coroutines.step("c"), store=store)
    asyncio.run(cancelled(saga.aexecute(saga_id="o-1"), gate))
    assert coroutines.log == ["a", "b"]
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPLETED
    assert coroutines.log == ["a", "b", "c"]


# -- who cancels ------------------------------------------------------------------------------------------------------


async def _limit(work: Awaitable[Any], gate: Gate) -> None:
    async def now(limit: asyncio.Timeout) -> None:
        await auntil(gate.reached.is_set)
        limit.reschedule(0)

    async with asyncio.timeout(None) as limit:
        limiting = asyncio.create_task(now(limit))
        await work
    await limiting


async def _beside_a_task_that_fails(work: Awaitable[Any], gate: Gate) -> None:
    async def fail() -> None:
        await auntil(gate.reached.is_set)
        raise TimeoutError

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        await work


async def _waited_for(work: Awaitable[Any], gate: Gate) -> None:
    running = asyncio.ensure_future(work)
    await auntil(gate.reached.is_set)
    await asyncio.wait_for(running, 0)


@pytest.mark.parametrize("limited", [_limit, _beside_a_task_that_fails, _waited_for])
def test_a_limit_around_the_saga(
    coroutines: Calls, swallows: Swallows, gate: Gate, options: dict[str, Any], limited: Any
) -> None:
    saga = saga_of(coroutines.step("a"), swallows(), coroutines.step("c"), **options)
    with pytest.raises((TimeoutError, ExceptionGroup)):
        asyncio.run(limited(saga.aexecute(), gate))
    assert coroutines.log == ["a", "b", "-b", "-a"]


def test_a_limit_that_is_over_says_so_itself(coroutines: Calls, swallows: Swallows) -> None:
    """The whole within a real limit, which the call swallows."""

    async def main() -> None:
        async with asyncio.timeout(SHORT):
            await saga_of(swallows(), coroutines.step("c")).aexecute()

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert coroutines.log == ["b", "-b"]


def test_the_step_cancels_the_caller_itself(coroutines: Calls, options: dict[str, Any]) -> None:
    async def stop() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # strikes at the next await, which is the engine's or none

    async def main() -> None:
        await saga_of(coroutines.step("a"), step(stop, coroutines.function("-b")), coroutines.step("c"), **options).aexecute()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert coroutines.log == ["a", "-b", "-a"]


def test_who_cancels_until_it_is_heard_finds_its_own_words(coroutines: Calls, gate: Gate, options: dict[str, Any]) -> None:
    """As the cancel scopes of anyio do."""

    async def swallow() -> None:
        with suppress(asyncio.CancelledError):
            await gate.ahold()

    async def main() -> None:
        saga = saga_of(step(swallow, coroutines.function("-b")), coroutines.step("c"), **options)
        running = asyncio.create_task(saga.aexecute())
        await auntil(gate.reached.is_set)
        while not running.done():
            running.cancel("by the scope that holds it")
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError, match="by the scope that holds it"):
            await running

    asyncio.run(main())
    assert coroutines.log == ["-b"]


def test_another_cancellation_during_the_undo_changes_nothing(coroutines: Calls, swallows: Swallows, gate: Gate) -> None:
    async def main() -> None:
        a = step(coroutines.function("a"), coroutines.function("-a", gate.ahold), name="a")
        running = asyncio.create_task(saga_of(a, swallows(), coroutines.step("c")).aexecute())
        await auntil(gate.reached.is_set)
        running.cancel()
        await auntil(lambda: "-a" in coroutines.log)
        running.cancel()
        await ticks(5)
        assert not running.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert coroutines.log == ["a", "b", "-b", "-a"]


# -- bit by bit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True], ids=["quiet", "stored"])
def test_in_a_stream(coroutines: Calls, swallows: Swallows, gate: Gate, stored: bool) -> None:
    told: list[tuple[str, str]] = []

    async def main() -> None:
        store = MemoryStore() if stored else None
        async for record in saga_of(coroutines.step("a"), swallows(), coroutines.step("c")).astream(store=store):
            told.append((record.name, str(record.status)))

    asyncio.run(cancelled(main(), gate))
    assert told == [("a", "succeeded"), ("b", "compensating"), ("b", "compensated"), ("a", "compensated")]
    assert coroutines.log == ["a", "b", "-b", "-a"]


LOG: list[str] = []
GATE = Gate()


async def _swallow() -> None:
    with suppress(asyncio.CancelledError):
        await GATE.ahold()


async def _note(name: str) -> None:
    LOG.append(name)


async def _unswallow() -> None:
    LOG.append("-b")


@pytest.fixture
def _fresh() -> Iterator[None]:
    LOG.clear()
    GATE.reached.clear()
    yield
    GATE.reached.clear()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("stored", [False, True], ids=["quiet", "stored"])
def test_in_a_block(stored: bool) -> None:
    async def main() -> None:
        async with transaction("s", store=MemoryStore() if stored else None) as tx:
            await tx.astep(_note, name="a", args=("a",))
            await tx.astep(_swallow, _unswallow)
            LOG.append("went on")

    asyncio.run(cancelled(main(), GATE))
    assert LOG == ["a", "-b"]


@pytest.mark.usefixtures("_fresh")
def test_a_limit_around_a_block() -> None:
    async def main() -> None:
        async with transaction("s") as tx:
            await tx.astep(_swallow, _unswallow)
            LOG.append("went on")

    with pytest.raises(TimeoutError):
        asyncio.run(_limit(main(), GATE))
    assert LOG == ["-b"]


# -- what is no cancellation of the caller ----------------------------------------------------------------------------


def test_a_limit_of_its_own_and_a_cancellation_that_is_taken_back_are_none(coroutines: Calls, options: dict[str, Any]) -> None:
    async def limited() -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(PATIENCE)
        return "in time"

    async def takes_back() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)
        task.uncancel()
        return "not cancelled"

    saga = saga_of(step(limited), step(takes_back), coroutines.step("c"), **options)
    result = asyncio.run(saga.aexecute())
    assert list(result.results.values()) == ["in time", "not cancelled", "result of c"]


def test_a_saga_that_cleans_up_after_a_cancellation_is_executed(
    coroutines: Calls, swallows: Swallows, gate: Gate, options: dict[str, Any]
) -> None:
    clean_up = saga_of(coroutines.step("x"), coroutines.step("y"), **options)

    async def main() -> None:
        try:
            await saga_of(swallows(), coroutines.step("c")).aexecute()
        except asyncio.CancelledError:
            assert (await clean_up.aexecute()).ok
            async with transaction() as tx:
                await tx.astep(coroutines.function("z"), name="z")
            raise

    asyncio.run(cancelled(main(), gate))
    assert coroutines.log == ["b", "-b", "x", "y", "z"]


def test_a_saga_that_cleans_up_may_be_cancelled_too(coroutines: Calls, swallows: Swallows, gate: Gate) -> None:
    async def main() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            await saga_of(swallows(), coroutines.step("c")).aexecute()

    async def cancelled_twice() -> None:
        running = asyncio.create_task(main())
        await ticks(2)
        running.cancel()
        await cancelled(running, gate)

    asyncio.run(cancelled_twice())
    assert coroutines.log == ["b", "-b"]


def test_a_step_that_takes_a_cancellation_back_hides_no_later_one(
    coroutines: Calls, swallows: Swallows, gate: Gate, options: dict[str, Any]
) -> None:
    async def take_back() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()

    async def main() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            saga = saga_of(step(take_back), coroutines.step("a"), swallows(), coroutines.step("c"), **options)
            await saga.aexecute()

    async def cancelled_twice() -> None:
        running = asyncio.create_task(main())
        await ticks(2)
        running.cancel()
        await cancelled(running, gate)

    asyncio.run(cancelled_twice())
    assert coroutines.log == ["a", "b", "-b", "-a"]
