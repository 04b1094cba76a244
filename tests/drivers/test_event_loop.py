"""What an event loop adds: cancellation at any moment, timeouts around a saga, and a loop that is never blocked."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, Retry, Saga, Status, fallback, parallel, step
from saga.errors import SagaDefinitionError, SagaExecutionException, StorageError
from saga.events import CompensationSucceeded
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, FullStore, Gate, HeldStore, Watched, auntil, found_after, on, ticks, undone_last_first, within

SHORT = 0.02


# -- cancellation -----------------------------------------------------------------------------------------------------


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


async def _within_a_timeout(work: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.timeout(SHORT):
        await work


async def _waited_for(work: Coroutine[Any, Any, Any]) -> None:
    await asyncio.wait_for(work, SHORT)


async def _beside_a_task_that_fails(work: Coroutine[Any, Any, Any]) -> None:
    async def fail() -> None:
        await asyncio.sleep(SHORT)
        raise TimeoutError

    async with asyncio.TaskGroup() as group:
        group.create_task(work)
        group.create_task(fail())


@pytest.mark.parametrize("limited", [_within_a_timeout, _waited_for, _beside_a_task_that_fails])
def test_a_limit_around_a_saga_undoes_it(async_kit: Any, gate: Any, limited: Any) -> None:
    kit = async_kit
    saga = kit.saga(kit.task("a"), kit.task("b", gate))
    with pytest.raises((TimeoutError, ExceptionGroup)):
        asyncio.run(limited(saga.aexecute()))
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


# -- the loop's own end -----------------------------------------------------------------------------------------------


def test_the_loop_does_not_close_before_a_straggler_is_undone(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    slow = step(gate.hold, lambda: kit.log.append("-b"), name="b", timeout=SHORT)

    async def open_as_the_loop_closes() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            gate.open()

    async def work() -> Any:
        opener = asyncio.create_task(open_as_the_loop_closes())
        await ticks(1)
        result = await kit.saga(kit.task("a"), slow).atry_execute()
        assert not opener.done()
        return result

    first = asyncio.run(work())
    assert first.in_doubt == ("b",)
    assert first.join(0).status is Status.COMPENSATED
    assert kit.log == ["a", "-a", "-b"]


def test_the_loop_does_not_close_before_a_saga_it_cancels_is_undone(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    left = []

    async def work() -> None:
        left.append(asyncio.create_task(kit.saga(kit.task("a"), kit.task("b", gate)).aexecute()))
        await auntil(lambda: "b" in kit.log)

    asyncio.run(work())
    assert kit.log == ["a", "b", "-b", "-a"]
    assert left[0].cancelled()


def test_a_plain_execute_of_async_tasks_ends_after_its_stragglers(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    slow = step(gate.hold, lambda: kit.log.append("-b"), name="b", timeout=SHORT)
    result = kit.saga(kit.task("a"), slow, logger=on(CompensationSucceeded, gate.open, "a")).try_execute()
    assert kit.log == ["a", "-a", "-b"]
    assert result.join(0).status is Status.COMPENSATED


# -- the loop goes on -------------------------------------------------------------------------------------------------


class Turnstile:
    """Holds every call that comes to it until the event loop has come round to let it go."""

    def __init__(self) -> None:
        self.gates: list[Gate] = []

    def hold(self) -> None:
        self.gates.append(Gate())
        self.gates[-1].hold()

    async def letting_through(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what ``work`` returns, where the loop goes on meanwhile."""
        running = asyncio.create_task(work)
        while not running.done():
            await asyncio.sleep(0.001)
            for gate in list(self.gates):
                gate.open()
        assert self.gates
        assert all(gate.in_time for gate in self.gates)
        return running.result()


def test_plain_tasks_do_not_block_the_loop(async_kit: Any) -> None:
    turnstile = Turnstile()
    slow = step(turnstile.hold, turnstile.hold, name="slow")
    saga = async_kit.saga(slow, async_kit.task("a", ValueError()))
    result = asyncio.run(turnstile.letting_through(saga.atry_execute()))
    assert result.status is Status.COMPENSATED
    assert len(turnstile.gates) == 2


def test_a_slow_store_does_not_block_the_loop(async_kit: Any) -> None:
    turnstile = Turnstile()

    class SlowStore(MemoryStore):
        def create(self, *args: Any) -> Any:
            turnstile.hold()
            return super().create(*args)

        def append(self, *args: Any, **options: Any) -> None:
            turnstile.hold()
            super().append(*args, **options)

    saga = async_kit.saga(async_kit.task("a"), store=SlowStore())
    assert asyncio.run(turnstile.letting_through(saga.atry_execute())).ok
    assert len(turnstile.gates) == 2


def test_a_start_that_joins_another_does_not_block_the_loop(async_kit: Any, gate: Any) -> None:
    kit, watched = async_kit, Watched(MemoryStore())
    saga = kit.saga(kit.task("a", gate), store=watched)

    async def open_when_both_wait() -> None:
        await auntil(lambda: watched.calls.count("create") == 2 and "a" in kit.log)
        await asyncio.sleep(SHORT)  # the second start has seen by now that the first one runs
        gate.open()

    async def both() -> list[Any]:
        *results, _ = await asyncio.gather(
            saga.atry_execute(saga_id="o-1"), saga.atry_execute(saga_id="o-1"), open_when_both_wait()
        )
        return results

    results = within(PATIENCE, lambda: asyncio.run(both()))
    assert [result.ok for result in results] == [True, True]
    assert kit.log == ["a"]


def test_waiting_for_a_straggler_does_not_block_the_loop(async_kit: Any, gate: Any) -> None:
    slow = step(gate.hold, name="slow", timeout=SHORT)

    async def work() -> Any:
        result = await async_kit.saga(slow).atry_execute()
        waiting = asyncio.create_task(result.ajoin(PATIENCE))
        await asyncio.sleep(SHORT)
        gate.open()
        return await waiting

    assert asyncio.run(work()).status is Status.COMPENSATED
    assert gate.in_time


# -- context variables ------------------------------------------------------------------------------------------------

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def test_context_variables_are_seen_in_every_call(kit: Any) -> None:
    seen: list[str] = []

    def look(context: Context) -> None:
        seen.append(user.get())

    group = parallel(kit.task("b", look, look), kit.task("c", look, look, timeout=9.0))
    saga = kit.saga(
        kit.task("a", look, look), group, kit.task("d", look, look, timeout=9.0), kit.task("e", (look, ValueError()))
    )
    token = user.set("ann")
    try:
        kit.run(saga)
    finally:
        user.reset(token)
    assert seen == ["ann"] * 9


# -- without await ----------------------------------------------------------------------------------------------------


def test_a_script_executes_async_tasks_without_await(async_kit: Any) -> None:
    kit = async_kit
    assert kit.saga(kit.task("a"), kit.task("b")).execute().ok
    with pytest.raises(SagaExecutionException):
        kit.saga(kit.task("a"), kit.task("b", ValueError())).execute()


def test_inside_a_loop_that_is_refused_and_nothing_runs(async_kit: Any) -> None:
    kit = async_kit
    saga = kit.saga(kit.task("a"))

    async def work() -> None:
        for method in (saga.execute, saga.try_execute):
            with pytest.raises(SagaDefinitionError, match=r"await saga\.aexecute"):
                method()

    asyncio.run(work())
    assert kit.log == []


def test_a_plain_stream_of_async_tasks_is_refused(async_kit: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="astream"):
        async_kit.saga(async_kit.task("a")).stream()


def test_a_step_may_execute_another_saga_with_await(async_kit: Any) -> None:
    kit = async_kit
    inner = kit.saga(kit.task("x"), kit.task("y", ValueError("inner")))

    async def act(context: Context) -> None:
        await inner.aexecute()

    result = kit.run(kit.saga(kit.task("a"), kit.task("b", act)))
    assert kit.log == ["a", "b", "x", "y", "-x", "-a"]
    assert isinstance(result.error, SagaExecutionException)


# -- recovery ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("lives", range(8))
def test_recovery_finishes_sagas_with_async_tasks(async_kit: Any, lives: int, fails: bool) -> None:
    kit, store = async_kit, FullStore(lives)
    group = parallel(kit.task("b"), step(lambda: kit.log.append("c"), lambda: kit.log.append("-c"), name="c"))
    saga = kit.saga(kit.task("a"), group, kit.task("d", ValueError() if fails else None), store=store)
    with suppress(StorageError, SagaExecutionException):
        kit.execute(saga, saga_id="o-1")
    before = store.get("o-1")
    found = found_after(store, "o-1")
    results = Recovery(found, [saga]).run_once()
    after = found.get("o-1")
    assert before is not None
    assert after is not None
    assert after.status in ("completed", "compensated")
    assert len(results) == (before.status in ("running", "compensating"))
    done = {name for name in kit.log if not name.startswith("-")} - {"d" if fails else ""}
    if after.status == "compensated":
        assert {f"-{name}" for name in done} <= set(kit.log)
        last_undo = {name: kit.log.index(f"-{name}") for name in done}
        assert all(last_undo["a"] >= place for place in last_undo.values())


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------

SCRIPT = textwrap.dedent(
    """
    import asyncio, sys, time
    from saga import Saga, Task

    def say(text):
        print(text, flush=True)

    class First(Task):
        def execute(self, context):
            say("first")
        def compensate(self, context):
            say("-first")

    class A(Task):
        async def execute(self, context):
            say("a")
        async def compensate(self, context):
            say("-a")
            await asyncio.sleep(0.1)
            say("-a ended")

    class Slow(Task):
        async def execute(self, context):
            say("slow")
            await asyncio.sleep(30)
        async def compensate(self, context):
            say("-slow")

    class SlowInAThread(Task):
        def execute(self, context):
            say("slow")
            time.sleep(0.3)
            say("slow ended")
        def compensate(self, context):
            say("-slow")

    saga = Saga("s").add_task(First).add_task(A).add_task(globals()[sys.argv[1]])
    try:
        asyncio.run(saga.aexecute())
    except KeyboardInterrupt as interrupt:
        told = interrupt
        while told is not None and not hasattr(told, "__notes__"):
            told = told.__context__
        say(told.__notes__[0].splitlines()[0] if told is not None else "no report")
    """
)


def interrupted(kind: str, *moments: str) -> list[str]:
    """Run the script, send it SIGINT each time it has said one of ``moments``, and return all it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, kind], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    with process:
        try:
            said, left = [], list(moments)
            for line in process.stdout:
                said.append(line.rstrip())
                if left and said[-1] == left[0]:
                    left.pop(0)
                    time.sleep(0.02)
                    process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0, said
        finally:
            process.kill()
    return said


def test_ctrl_c_cancels_the_step_and_undoes_the_saga() -> None:
    said = interrupted("Slow", "slow")
    assert said[:-1] == ["first", "a", "slow", "-slow", "-a", "-a ended", "-first"]
    assert "failed and was undone at step 'Slow'" in said[-1]


def test_ctrl_c_waits_for_a_plain_task_and_undoes_the_saga() -> None:
    said = interrupted("SlowInAThread", "slow")
    assert said[:-1] == ["first", "a", "slow", "slow ended", "-slow", "-a", "-a ended", "-first"]
    assert "failed and was undone" in said[-1]


def test_a_second_ctrl_c_cuts_one_undo_off_and_not_the_rest() -> None:
    said = interrupted("Slow", "slow", "-a")
    assert said[:-1] == ["first", "a", "slow", "-slow", "-a", "-first"]
