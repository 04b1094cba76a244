"""Cancellation in an event loop, at any moment, and timeouts around a saga."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, Retry, Saga, Status, fallback, parallel, step
from saga.storage import MemoryStore
from tests.kit import SHORT, Gate, HeldStore, auntil, saga_of, ticks, undone_last_first


@pytest.mark.parametrize("watched", [False, True], ids=["quiet", "watched"])
def test_a_cancellation_at_any_moment_undoes_everything_and_is_raised(async_kit: Any, watched: bool) -> None:
    kit = async_kit
    for moment in range(100):
        kit.log.clear()
        saga = kit.saga(*map(kit.task, "abc"), logger=(lambda event, info: None) if watched else None)

        async def work(moment: int = moment, saga: Saga = saga) -> bool:
            running = asyncio.create_task(saga.aexecute())
            await ticks(moment)
            if not running.cancel():
                assert running.result().ok
                return True
            with pytest.raises(asyncio.CancelledError) as caught:
                await running
            assert undone_last_first(kit.log), (moment, kit.log)
            assert not kit.log or "failed and was undone" in caught.value.__notes__[0]
            return False

        if asyncio.run(work()):
            assert moment > 2
            return
    raise AssertionError("the saga never completed")


def test_a_cancellation_while_a_plain_task_runs_waits_for_it(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    plain = step(lambda: (kit.log.append("b"), gate.hold()), lambda: kit.log.append("-b"), name="b")

    async def work() -> None:
        running = asyncio.create_task(kit.saga(kit.task("a"), plain, kit.task("c")).aexecute())
        await auntil(lambda: "b" in kit.log)
        running.cancel()
        await asyncio.sleep(SHORT)
        assert kit.log == ["a", "b"]
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert kit.log == ["a", "b", "-b", "-a"]


@pytest.mark.parametrize("compensation", [False, True])
def test_a_cancellation_in_the_wait_for_a_retry(async_kit: Any, compensation: bool) -> None:
    kit = async_kit
    kit.attempts = 0

    def fail_once(context: Context) -> None:
        kit.attempts += 1
        if kit.attempts == 1:
            raise OSError

    if compensation:
        tasks = kit.task("a", None, fail_once, compensation_retry=Retry(2, 0.1)), kit.task("b", ValueError())
    else:
        tasks = kit.task("a"), kit.task("b", fail_once, retry=Retry(2, 60.0))

    async def work() -> None:
        running = asyncio.create_task(kit.saga(*tasks).aexecute())
        await auntil(lambda: kit.attempts == 1)
        await asyncio.sleep(SHORT)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    # The undo waits for its own retry: a cancellation never hurries it.
    assert kit.log == (["a", "b", "-a", "-a"] if compensation else ["a", "b", "-a"])


def test_a_cancellation_in_a_group_cancels_every_branch(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    group = parallel(kit.task("b", gate), kit.task("c", gate), kit.task("d"))

    async def work() -> None:
        running = asyncio.create_task(kit.saga(kit.task("a"), group).aexecute())
        await auntil(lambda: len(kit.log) == 4)
        await ticks(5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert sorted(kit.log[4:7]) == ["-b", "-c", "-d"]
    assert kit.log[7:] == ["-a"]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_cancellations_during_the_undo_do_not_stop_it(async_kit: Any, gate: Any, times: int) -> None:
    kit = async_kit
    saga = kit.saga(kit.task("a"), kit.task("b", None, gate), kit.task("c", ValueError("no")))

    async def work() -> None:
        running = asyncio.create_task(saga.aexecute())
        await auntil(lambda: "-b" in kit.log)
        for _ in range(times):
            running.cancel()
            await asyncio.sleep(0.002)
        assert not running.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
        assert len(caught.value.__notes__) == 1
        assert "failed and was undone at step 'c': ValueError: no" in caught.value.__notes__[0]

    asyncio.run(work())
    assert kit.log == ["a", "b", "c", "-b", "-a"]


def test_a_second_cancellation_during_the_undo_of_the_first(async_kit: Any, gate: Any) -> None:
    kit = async_kit

    async def sleep(context: Context) -> None:
        await asyncio.sleep(60)

    saga = kit.saga(kit.task("a", None, gate), kit.task("b", sleep))

    async def work() -> None:
        running = asyncio.create_task(saga.aexecute())
        await auntil(lambda: "b" in kit.log)
        running.cancel()
        await auntil(lambda: "-a" in kit.log)
        running.cancel()
        await asyncio.sleep(0.002)
        gate.open()
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
        assert len(caught.value.__notes__) == 1

    asyncio.run(work())
    assert kit.log == ["a", "b", "-b", "-a"]


@pytest.mark.parametrize("at", [1, 2])
def test_a_cancellation_during_a_commit_strikes_when_it_is_stored(async_kit: Any, at: int) -> None:
    kit, store = async_kit, HeldStore(at)

    async def work() -> None:
        saga = kit.saga(kit.task("a"), kit.task("b"), kit.task("c"), store=store)
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        await auntil(store.gate.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        assert not running.done()
        store.gate.open()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert undone_last_first(kit.log)
    assert kit.log[0] == "a"
    stored = store.get("o-1")
    assert stored is not None
    assert (stored.status, stored.owner) == ("compensated", None)
    entries = store.journal("o-1")
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


def test_a_cancellation_during_the_last_commit_comes_too_late_and_is_raised(async_kit: Any) -> None:
    kit, store = async_kit, HeldStore(2)

    async def work() -> None:
        saga = kit.saga(kit.task("a"), kit.task("b"), store=store)
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        await auntil(store.gate.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        store.gate.open()
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
        assert "completed" in caught.value.__notes__[0].splitlines()[0]

    asyncio.run(work())
    assert kit.log == ["a", "b"]
    stored = store.get("o-1")
    assert stored is not None
    assert stored.status == "completed"


@pytest.mark.parametrize("at", [3, 4])
def test_a_cancellation_during_a_commit_of_the_undo(async_kit: Any, at: int) -> None:
    kit, store = async_kit, HeldStore(at)

    async def work() -> None:
        saga = kit.saga(kit.task("a"), kit.task("b"), kit.task("c", ValueError()), store=store)
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        await auntil(store.gate.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        store.gate.open()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert kit.log == ["a", "b", "c", "-b", "-a"]
    stored = store.get("o-1")
    assert stored is not None
    assert stored.status == "compensated"


def test_a_coroutine_that_suppresses_its_cancellation_is_waited_for_and_undone(async_kit: Any) -> None:
    kit = async_kit

    async def stubborn(context: Context) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(SHORT)
        kit.log.append("b ended")

    async def work() -> None:
        saga = kit.saga(kit.task("a"), parallel(kit.task("b", stubborn), kit.task("c")), kit.task("d"))
        running = asyncio.create_task(saga.aexecute())
        await auntil(lambda: len(kit.log) == 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert kit.log.index("b ended") < kit.log.index("-b")
    assert kit.log[-1] == "-a"
    assert "d" not in kit.log


@pytest.mark.parametrize("error", [None, ValueError("while it cleaned up")])
def test_a_coroutine_that_suppresses_its_timeout_ends_as_it_likes(async_kit: Any, error: Exception | None) -> None:
    kit = async_kit

    async def stubborn(context: Context) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        if error is not None:
            raise error

    result = kit.run(kit.saga(kit.task("a"), kit.task("b", stubborn, timeout=SHORT)))
    if error is None:  # a late success is a success
        assert result.ok
    else:
        assert kit.log == ["a", "b", "-b", "-a"]
        assert result.status is Status.COMPENSATED


async def _within_a_timeout(work: Coroutine[Any, Any, Any], gate: Gate) -> None:
    async def limit_it(limit: asyncio.Timeout) -> None:
        await auntil(gate.reached.is_set)
        limit.reschedule(0)  # now

    async with asyncio.timeout(None) as limit:
        limiting = asyncio.create_task(limit_it(limit))
        await work
    await limiting


async def _waited_for(work: Coroutine[Any, Any, Any], gate: Gate) -> None:
    running = asyncio.create_task(work)
    await auntil(gate.reached.is_set)
    await asyncio.wait_for(running, SHORT)


async def _beside_a_task_that_fails(work: Coroutine[Any, Any, Any], gate: Gate) -> None:
    async def fail() -> None:
        await auntil(gate.reached.is_set)
        raise TimeoutError

    async with asyncio.TaskGroup() as group:
        group.create_task(work)
        group.create_task(fail())


@pytest.mark.parametrize("limited", [_within_a_timeout, _waited_for, _beside_a_task_that_fails])
def test_a_limit_around_a_saga_undoes_it(async_kit: Any, gate: Any, limited: Any) -> None:
    kit = async_kit
    saga = kit.saga(kit.task("a"), kit.task("b", gate))
    with pytest.raises((TimeoutError, ExceptionGroup)):
        asyncio.run(limited(saga.aexecute(), gate))
    assert kit.log == ["a", "b", "-b", "-a"]


def test_a_cancellation_while_a_failed_primary_is_undone_before_its_fallback(async_kit: Any, gate: Any) -> None:
    kit = async_kit

    async def forever(context: Context) -> None:
        await asyncio.sleep(60)

    primary = kit.task("b", forever, gate, timeout=SHORT)
    saga = kit.saga(kit.task("a"), fallback(primary, kit.task("c")))

    async def work() -> None:
        running = asyncio.create_task(saga.aexecute())
        await auntil(lambda: "-b" in kit.log)
        running.cancel()
        await asyncio.sleep(0.002)
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert kit.log == ["a", "b", "-b", "-a"]


def test_a_cancellation_while_an_execution_is_created_leaves_no_orphan(coroutines: Any, log: list[str]) -> None:
    store = HeldStore(0)
    saga = saga_of(coroutines.step("a"), store=store)

    async def work() -> None:
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        await auntil(store.gate.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        store.gate.open()
        with suppress(asyncio.CancelledError):
            await running
        await auntil(lambda: store.get("o-1").owner is None)  # type: ignore[union-attr]

    asyncio.run(work())
    row = store.get("o-1")
    assert row is not None
    assert (row.status, log) == ("compensated", [])


@pytest.mark.parametrize("flow", ["fails", "limited", "deadline", "stored"])
def test_no_cancellation_is_lost(
    flow: str, monkeypatch: pytest.MonkeyPatch, coroutines: Any, log: list[str], plain: Any
) -> None:
    async def to_thread(function: Any, /, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        result = function(*args, **options)
        await asyncio.sleep(0)
        return result

    def run_in_executor(self: Any, executor: Any, function: Any, *args: Any) -> Any:
        future = self.create_future()

        def done() -> None:
            try:
                value = function(*args)
            except BaseException as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(value)

        self.call_soon(done)
        return future

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "run_in_executor", run_in_executor)
    lost = []
    for moment in range(100):
        log.clear()
        if flow == "fails":
            saga = saga_of(coroutines.step("a"), coroutines.step("b"), plain.step("c", ValueError()))
        elif flow == "limited":
            saga = saga_of(coroutines.step("a", timeout=9), coroutines.step("b", timeout=9))
        elif flow == "deadline":
            saga = saga_of(coroutines.step("a"), coroutines.step("b"), timeout=9)
        else:
            saga = saga_of(coroutines.step("a"), coroutines.step("b"), store=MemoryStore())

        async def work(moment: int = moment, saga: Saga = saga) -> bool:
            running = asyncio.create_task(saga.aexecute())
            for _ in range(moment):
                await asyncio.sleep(0)
            if not running.cancel():
                running.exception()
                return True
            try:
                await running
            except asyncio.CancelledError:
                pass
            except Exception as error:
                lost.append((moment, type(error).__name__))
            else:
                lost.append((moment, "completed"))
            return False

        if asyncio.run(work()):
            break
    assert lost == []
