"""A worker and the event loop that its asynchronous executions run in: what tasks do to it, and what fills its threads."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from saga import Saga, Status, step
from saga.operations import Operations
from saga.storage import Store
from saga.worker import Worker
from tests.kit import Gate, auntil, background, until


async def leave() -> None:
    sys.exit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


async def gather_one_that_exits() -> None:
    await asyncio.gather(leave())


async def group_one_that_exits() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leave())


async def await_one_that_interrupts() -> None:
    await asyncio.create_task(interrupt())


async def exit_from_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.001)


async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.001)


Blow = Callable[[], Coroutine[Any, Any, None]]

BLOWS: dict[Blow, Status] = {
    gather_one_that_exits: Status.COMPENSATED,
    group_one_that_exits: Status.COMPENSATED,
    await_one_that_interrupts: Status.COMPENSATED,
    exit_from_a_callback: Status.COMPLETED,
    stop_the_loop: Status.COMPLETED,
}


@pytest.mark.parametrize("blow", BLOWS, ids=[blow.__name__ for blow in BLOWS])
def test_nothing_that_a_task_does_to_a_workers_loop_ends_it(
    store: Store, blow: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    gate = Gate()

    async def loop() -> int:
        return id(asyncio.get_running_loop())

    held = Saga("held", store=store).add_task(step(gate.ahold, name="hold")).add_task(step(loop, name="loop"))
    hit = Saga("hit", store=store).add_task(step(blow, name="blow"))
    after = Saga("after", store=store).add_task(step(loop, name="loop"))
    worker = Worker(store, [held, hit, after])
    running = background(lambda: worker.run(signals=False, interval=0.02))
    beside = held.submit()
    assert gate.reached.wait(30)
    assert hit.submit().try_result(30).status is BLOWS[blow]
    loop_after = after.submit().result(30).results["loop"]
    gate.open()
    assert beside.result(30).results["loop"] == loop_after
    worker.stop()
    running()
    until(lambda: not [one for one in threading.enumerate() if one.name == "saga worker loop"])


def test_a_worker_whose_given_loop_is_closed_ends_and_leaves_to_others_what_ran_there(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    saga = Saga("aio", store=store, lease=0.3).add_task(step(gate.ahold, name="hold"))
    saga.submit(saga_id="x")
    loop = asyncio.new_event_loop()
    serving = loop.create_task(Worker(store, [saga], grace=3600.0).arun(interval=0.02))
    loop.run_until_complete(auntil(gate.reached.is_set))
    (thread,) = [one for one in threading.enumerate() if one.name == "saga worker"]
    assert thread.daemon  # it keeps no process, either, where the loop is left as it is
    loop.close()
    until(lambda: not thread.is_alive())
    assert not serving.done()
    assert "the event loop that it was given is closed" in caplog.text
    assert Operations(store, "ann").workers() == []
    gate.open()
    until(lambda: store.get("x").owner is None)  # type: ignore[union-attr]
    (result,) = Worker(store, [saga]).run_once()
    assert result.in_doubt == ("hold",)
    del serving
    gc.collect()  # what was left there, and not in the midst of another test


def test_what_fills_the_threads_of_the_loop_keeps_no_execution_back(store: Store, gate: Gate) -> None:
    async def quick() -> None:
        await asyncio.sleep(0)

    saga = Saga("aio", store=store).add_task(step(quick, name="a")).add_task(step(quick, name="b"))
    saga.submit_many([{}] * 3)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        waits = loop.run_in_executor(None, gate.hold)
        assert len(await Worker(store, [saga]).arun_once()) == 3
        assert not waits.done()
        gate.open()
        await waits

    asyncio.run(main())
