"""What an event loop adds: cancellation at any moment, timeouts around a saga, and a loop that is never blocked."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, Retry, Saga, Status, fallback, parallel, step
from saga.errors import SagaDefinitionError, SagaExecutionException, StorageError
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, NewExecution
from tests.drivers.conftest import until

SHORT = 0.02


class HoldingStore(MemoryStore):
    """Holds one commit until it is let go: the ``at``-th, counted from 1; the one that creates an execution is not counted."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.commits = at, 0
        self.reached, self.go = threading.Event(), threading.Event()

    def append(self, *args: Any, **options: Any) -> None:
        self.commits += 1
        if self.commits == self.at:
            self.reached.set()
            assert self.go.wait(20)
        super().append(*args, **options)


class DyingStore(MemoryStore):
    """Stores ``lives`` commits and then nothing."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self.lives = lives

    def append(self, *args: Any, **options: Any) -> None:
        if self.lives < 1:
            raise StorageError("the disk is full")
        self.lives -= 1
        super().append(*args, **options)

    def found(self, saga_id: str) -> MemoryStore:
        """Return what another process finds when this one is gone."""
        row = self.get(saga_id)
        assert row is not None
        found = MemoryStore()
        new = NewExecution(saga_id, row.name, row.version, row.fingerprint, row.digest, "running")
        found.create(new, self.journal(saga_id), "who died", 0.0)
        terminal = row.status not in ("running", "compensating")
        found.append(Lease(saga_id, "who died", 1), [], status=row.status, release=terminal)
        return found


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def undone(log: list[str]) -> bool:
    """Whether everything executed was compensated afterwards, last first."""
    done = [name for name in log if not name.startswith("-")]
    return log == done + [f"-{name}" for name in reversed(done)]


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
            assert undone(kit.log), (moment, kit.log)
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
        await until(lambda: "b" in kit.log)
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
        await until(lambda: kit.attempts == 1)
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
        await until(lambda: len(kit.log) == 4)
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
        await until(lambda: "-b" in kit.log)
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
        await until(lambda: "b" in kit.log)
        running.cancel()
        await until(lambda: "-a" in kit.log)
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
    kit, store = async_kit, HoldingStore(at)

    async def work() -> None:
        saga = kit.saga(kit.task("a"), kit.task("b"), kit.task("c"), store=store)
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        await until(store.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        assert not running.done()
        store.go.set()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert undone(kit.log)
    assert kit.log[0] == "a"
    stored = store.get("o-1")
    assert stored is not None
    assert (stored.status, stored.owner) == ("compensated", None)
    entries = store.journal("o-1")
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


def test_a_cancellation_during_the_last_commit_comes_too_late_and_is_raised(async_kit: Any) -> None:
    kit, store = async_kit, HoldingStore(2)

    async def work() -> None:
        saga = kit.saga(kit.task("a"), kit.task("b"), store=store)
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        await until(store.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        store.go.set()
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
    kit, store = async_kit, HoldingStore(at)

    async def work() -> None:
        saga = kit.saga(kit.task("a"), kit.task("b"), kit.task("c", ValueError()), store=store)
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        await until(store.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        store.go.set()
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
        await until(lambda: len(kit.log) == 3)
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
        await until(lambda: "-b" in kit.log)
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
    slow = step(lambda: (gate.open_soon(), gate.hold()), lambda: kit.log.append("-b"), name="b", timeout=SHORT / 4)
    first = asyncio.run(kit.saga(kit.task("a"), slow).atry_execute())
    assert first.in_doubt == ("b",)
    assert first.join(0).status is Status.COMPENSATED
    assert kit.log == ["a", "-a", "-b"]


def test_the_loop_does_not_close_before_a_saga_it_cancels_is_undone(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    left = []

    async def work() -> None:
        left.append(asyncio.create_task(kit.saga(kit.task("a"), kit.task("b", gate)).aexecute()))
        await until(lambda: "b" in kit.log)

    asyncio.run(work())
    assert kit.log == ["a", "b", "-b", "-a"]
    assert left[0].cancelled()


def test_a_plain_execute_of_async_tasks_ends_after_its_stragglers(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    slow = step(lambda: (gate.open_soon(), gate.hold()), lambda: kit.log.append("-b"), name="b", timeout=SHORT / 4)
    result = kit.saga(kit.task("a"), slow).try_execute()
    assert kit.log == ["a", "-a", "-b"]
    assert result.join(0).status is Status.COMPENSATED


# -- the loop goes on -------------------------------------------------------------------------------------------------


async def counting(work: Coroutine[Any, Any, Any]) -> tuple[Any, float]:
    """Return what ``work`` returns, and the longest time in which nothing else could run meanwhile."""
    running = asyncio.create_task(work)
    longest, before = 0.0, time.perf_counter()
    while not running.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return running.result(), longest


def test_plain_tasks_do_not_block_the_loop(async_kit: Any) -> None:
    wait = threading.Event().wait
    slow = step(lambda: wait(0.6), lambda: wait(0.6), name="slow")
    result, longest = asyncio.run(counting(async_kit.saga(slow, async_kit.task("a", ValueError())).atry_execute()))
    assert result.status is Status.COMPENSATED
    assert longest < 0.5


def test_a_slow_store_does_not_block_the_loop(async_kit: Any) -> None:
    class SlowStore(MemoryStore):
        def create(self, *args: Any) -> Any:
            time.sleep(0.6)
            return super().create(*args)

        def append(self, *args: Any, **options: Any) -> None:
            time.sleep(0.6)
            super().append(*args, **options)

    result, longest = asyncio.run(counting(async_kit.saga(async_kit.task("a"), store=SlowStore()).atry_execute()))
    assert result.ok
    assert longest < 0.5


def test_a_start_that_joins_another_does_not_block_the_loop(async_kit: Any) -> None:
    kit = async_kit

    async def slow(context: Context) -> None:
        await asyncio.sleep(0.6)

    saga = kit.saga(kit.task("a", slow), store=MemoryStore())

    async def both() -> list[Any]:
        return await asyncio.gather(saga.atry_execute(saga_id="o-1"), saga.atry_execute(saga_id="o-1"))

    results, longest = asyncio.run(counting(both()))
    assert [result.ok for result in results] == [True, True]
    assert longest < 0.5
    assert kit.log == ["a"]


def test_waiting_for_a_straggler_does_not_block_the_loop(async_kit: Any, gate: Any) -> None:
    slow = step(lambda: (threading.Timer(0.6, gate.open).start(), gate.hold()), name="slow", timeout=SHORT)

    async def work() -> Any:
        return await (await async_kit.saga(slow).atry_execute()).ajoin(20)

    result, longest = asyncio.run(counting(work()))
    assert result.status is Status.COMPENSATED
    assert longest < 0.5


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
    kit, store = async_kit, DyingStore(lives)
    group = parallel(kit.task("b"), step(lambda: kit.log.append("c"), lambda: kit.log.append("-c"), name="c"))
    saga = kit.saga(kit.task("a"), group, kit.task("d", ValueError() if fails else None), store=store)
    with suppress(StorageError, SagaExecutionException):
        kit.execute(saga, saga_id="o-1")
    before = store.get("o-1")
    found = store.found("o-1")
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
