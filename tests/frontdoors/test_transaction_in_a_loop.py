"""``async with transaction(...)``: cancellation, limits around a block, and a loop that goes on."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

from saga import step, transaction
from tests.kit import PATIENCE, SHORT, auntil, within


def test_a_cancellation_at_any_moment_undoes_the_block(plain: Any) -> None:
    async def act(name: str) -> None:
        plain.log.append(name)
        await asyncio.sleep(0)

    async def block() -> None:
        async with transaction() as tx:
            for name in "abc":
                await tx.astep(act, plain.function(f"-{name}"), name=name, args=(name,))
                await asyncio.sleep(0)

    async def cancelled_at(moment: int) -> bool:
        plain.log.clear()
        running = asyncio.create_task(block())
        for _ in range(moment):
            await asyncio.sleep(0)
        if plain.log[-1:] == ["c"] or not running.cancel():
            await running
            return True
        with pytest.raises(asyncio.CancelledError):
            await running
        done = [name for name in plain.log if not name.startswith("-")]
        assert plain.log == done + [f"-{name}" for name in reversed(done)], moment
        return False

    for moment in range(100):
        if asyncio.run(cancelled_at(moment)):
            assert moment > 4
            return
    raise AssertionError("the block never ended")


def test_a_limit_around_a_block_undoes_it(plain: Any) -> None:
    async def work() -> None:
        async with asyncio.timeout(None) as limit, transaction() as tx:
            await tx.astep(plain.function("a"), plain.function("-a"), name="a")
            limit.reschedule(0)  # now
            await asyncio.sleep(3600)

    with pytest.raises(TimeoutError):
        asyncio.run(work())
    assert plain.log == ["a", "-a"]


def test_the_loop_goes_on_while_a_block_runs_plain_functions(gate: Any) -> None:
    async def work() -> None:
        async def block() -> None:
            async with transaction() as tx:
                await tx.astep(gate.hold)

        running = asyncio.create_task(block())
        await auntil(gate.reached.is_set)
        gate.open()
        await running

    asyncio.run(work())
    assert gate.in_time


def test_groups_run_at_the_same_time(plain: Any) -> None:
    barrier = threading.Barrier(3)
    with transaction() as tx:
        results = tx.parallel(*(step(barrier.wait, name=name, args=(10,)) for name in "abc"))
    assert sorted(results) == [0, 1, 2]


def test_a_cancellation_during_the_undo_of_a_block_is_not_lost() -> None:
    async def work() -> None:
        async def undo() -> None:
            limit.reschedule(0)  # now
            await asyncio.sleep(SHORT)

        async with asyncio.timeout(None) as limit:
            with suppress(ValueError):
                async with transaction() as tx:
                    await tx.astep(lambda: 1, undo, name="a")
                    raise ValueError
            await asyncio.sleep(3600)
            raise AssertionError("it went on")

    with pytest.raises(TimeoutError):
        within(PATIENCE, lambda: asyncio.run(work()))
