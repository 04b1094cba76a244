"""What an event loop adds: cancellation at any moment, timeouts around a saga, and a loop that is never blocked."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, Saga, Status, parallel, step
from saga.drivers.aio import AsyncExecution
from saga.errors import SagaDefinitionError, SagaExecutionException, StorageError
from saga.events import CompensationSucceeded
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, SHORT, FullStore, Gate, Watched, auntil, found_after, left_at, on, saga_of, ticks, until, within

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


@pytest.mark.parametrize("seconds", [0.002, 0.012, 0.022, 0.032, 0.042, 0.052])
def test_the_end_of_the_loop_during_a_commit_leaves_nothing_undone(seconds: float, coroutines: Any) -> None:
    class Slow(MemoryStore):
        def append(self, *args: Any, **options: Any) -> None:
            time.sleep(0.02)
            super().append(*args, **options)

    store = Slow()
    saga = saga_of(coroutines.step("a"), coroutines.step("b"), coroutines.step("c"), store=store)
    left: list[Any] = []

    async def work() -> None:
        left.append(asyncio.create_task(saga.aexecute(saga_id="o-1")))
        await asyncio.sleep(seconds)

    asyncio.run(work())
    with suppress(BaseException):
        left[0].exception()
    row = store.get("o-1")
    assert row is not None
    if row.status == "running":
        assert row.owner is None  # a recovery may take it
    else:
        assert row.status in ("compensated", "completed")
    entries = store.journal("o-1")
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))


def test_the_end_of_the_loop_right_as_the_undo_begins(log: list[str]) -> None:
    bad = []
    for moment in range(30):
        log.clear()

        async def fail() -> None:
            raise ValueError

        async def undo(name: str) -> None:
            log.append(f"-{name}")

        async def do(name: str) -> None:
            log.append(name)
            await asyncio.sleep(0)

        saga = saga_of(*(step(functools.partial(do, n), functools.partial(undo, n), name=n) for n in "ab"), step(fail))

        async def work(moment: int = moment, saga: Saga = saga) -> bool:
            running = asyncio.create_task(saga.atry_execute())
            for _ in range(moment):
                await asyncio.sleep(0)
            return running.done()

        done = asyncio.run(work())
        names = [name for name in log if not name.startswith("-")]
        if log != names + [f"-{name}" for name in reversed(names)]:
            bad.append((moment, list(log)))
        if done:
            break
    assert bad == []


def test_a_store_that_fails_under_asyncio_run_gives_the_lease_back(coroutines: Any) -> None:
    store = FullStore(0)
    saga = saga_of(coroutines.step("a"), coroutines.step("b"), store=store)
    with pytest.raises(StorageError):
        asyncio.run(saga.aexecute(saga_id="o-1"))
    until(lambda: store.get("o-1").owner is None)  # type: ignore[union-attr]


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


@pytest.mark.parametrize("count", [1, 12])
def test_joins_do_not_starve_the_execution_they_wait_for(count: int, coroutines: Any) -> None:
    saga = saga_of(coroutines.step("a", lambda: asyncio.sleep(0.1)), coroutines.step("b"), store=MemoryStore())

    async def work() -> list[Any]:
        return await asyncio.gather(*(saga.atry_execute(saga_id="o-1") for _ in range(count)))

    results = within(PATIENCE, lambda: asyncio.run(work()))
    assert all(result.ok for result in results)


def test_waiters_do_not_starve_the_straggler_they_wait_for(log: list[str], gate: Any) -> None:
    saga = saga_of(step(gate.hold, lambda: log.append("-a"), name="a", timeout=SHORT), store=MemoryStore())

    async def work() -> list[Any]:
        result = await saga.atry_execute(saga_id="o-1")
        waiting = [asyncio.create_task(result.ajoin()) for _ in range(40)]
        await asyncio.sleep(0.05)
        gate.open()
        return await asyncio.gather(*waiting)

    results = within(PATIENCE, lambda: asyncio.run(work()))
    assert {result.status for result in results} == {Status.COMPENSATED}


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


def test_a_recovery_inside_an_event_loop_works(coroutines: Any) -> None:
    saga = saga_of(coroutines.step("a"), coroutines.step("b"))
    store = left_at(saga, "b")

    async def work() -> None:
        Recovery(store, [saga]).run_once()

    asyncio.run(work())
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner) == ("compensated", None)


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
            await asyncio.sleep(1)
            say("-a ended")

    class Slow(Task):
        async def execute(self, context):
            say("slow")
            await asyncio.sleep(3600)
        async def compensate(self, context):
            say("-slow")

    class SlowInAThread(Task):
        def execute(self, context):
            say("slow")
            time.sleep(1)
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
            assert process.wait(PATIENCE) == 0, said
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


def test_a_thread_that_wakes_a_loop_which_has_taken_what_it_came_with_and_closed_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    woken: list[AsyncExecution] = []
    wake = AsyncExecution._wake

    def noting(self: AsyncExecution) -> None:
        woken.append(self)
        wake(self)

    monkeypatch.setattr(AsyncExecution, "_wake", noting)
    assert asyncio.run(Saga("s").add_task(step(lambda: 1, name="a")).aexecute()).ok
    assert woken
    for execution in woken:
        wake(execution)
    assert caplog.records == []
