"""One context, or one block, is in one execution at a time: the second is refused before anything of it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing, closing
from typing import Any

import pytest

from saga import Context, Saga, Status, parallel, step, transaction
from saga.errors import SagaDefinitionError, SagaExecutionException
from saga.storage import MemoryStore
from tests.kit import KITS, PATIENCE, Gate, Kit, background, within

IN_USE = "the context is in use by execution 'FIRST' of saga 's', which has not ended"

#: The ways to use a context: each executes a saga, or what does the same, with it and a store.
USES: dict[str, Callable[[Saga, Context, Any], Any]] = {
    "execute": lambda saga, context, store: saga.execute(context, store=store),
    "aexecute": lambda saga, context, store: asyncio.run(saga.aexecute(context, store=store)),
    "stream": lambda saga, context, store: list(saga.stream(context, store=store)),
    "astream": lambda saga, context, store: asyncio.run(_records(saga, context, store)),
    "block": lambda saga, context, store: _block(context, store),
    "async block": lambda saga, context, store: asyncio.run(_ablock(context, store)),
}


async def _records(saga: Saga, context: Context, store: Any) -> list[Any]:
    async with aclosing(saga.astream(context, store=store)) as records:  # type: ignore[type-var]
        return [record async for record in records]


def ran() -> None:
    log.append("ran")


def _block(context: Context, store: Any) -> None:
    with transaction("second", context, store=store) as tx:
        tx.step(ran)


async def _ablock(context: Context, store: Any) -> None:
    async with transaction("second", context, store=store) as tx:
        await tx.astep(ran)


log: list[Any] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kit", KITS)
def test_a_second_execution_with_a_context_in_use_is_refused(kit: str, use: str, stored: bool) -> None:
    gate, kit_ = Gate(), Kit(*KITS[kit])
    context, store = Context(a=1), MemoryStore()
    second = Saga("second").add_task(step(ran))
    seen: list[Any] = []

    def look(context: Context) -> None:
        seen.append((context.step.saga_id, context.step.name))

    first = kit_.saga(kit_.task("one", (gate, look)), kit_.task("two", look))
    ended = background(lambda: kit_.run(first, context, saga_id="FIRST"))
    assert gate.reached.wait(PATIENCE)
    with pytest.raises(SagaDefinitionError, match=IN_USE):
        within(PATIENCE, lambda: USES[use](second, context, store if stored else None))
    assert (log, store.list()[0]) == ([], ())
    gate.open()
    assert (ended().status, seen) == (Status.COMPLETED, [("FIRST", "one"), ("FIRST", "two")])
    within(PATIENCE, lambda: USES[use](second, context, store if stored else None))  # it has ended
    assert log == ["ran"]


@pytest.mark.parametrize("use", USES)
def test_a_block_has_its_context_from_its_beginning_to_its_end(use: str) -> None:
    context = Context()
    second = Saga("second").add_task(step(ran))
    with transaction("s", context, saga_id="FIRST") as tx:
        tx.step(ran)
        log.clear()
        with pytest.raises(SagaDefinitionError, match=IN_USE):
            within(PATIENCE, lambda: USES[use](second, context, None))
    assert log == []
    within(PATIENCE, lambda: USES[use](second, context, None))


def slow(gate: Gate) -> Any:
    return step(gate.hold, lambda: log.append("-slow"), name="slow", timeout=0.01)


@pytest.mark.parametrize("use", ["saga", "block"])
def test_an_execution_has_its_context_until_its_straggler_is_undone(use: str) -> None:
    gate, context, other = Gate(), Context(), Saga("other").add_task(step(ran))
    if use == "saga":
        result: Any = Saga("s").add_task(slow(gate)).try_execute(context)
    else:
        tx = transaction("s", context)
        with pytest.raises(SagaExecutionException), tx:
            tx.parallel(slow(gate), step(ran, name="beside"))
        result = tx.result
    log.clear()
    with pytest.raises(SagaDefinitionError, match="the context is in use by execution"):
        other.execute(context)
    gate.open()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert other.execute(context).ok
    assert log == ["-slow", "ran"]


def test_so_has_one_in_an_event_loop() -> None:
    gate, context, other = Gate(), Context(), Saga("other").add_task(step(ran))

    async def main() -> None:
        result = await Saga("s").add_task(slow(gate)).atry_execute(context)
        with pytest.raises(SagaDefinitionError, match="the context is in use by execution"):
            await other.aexecute(context)
        gate.open()
        assert (await result.ajoin(PATIENCE)).status is Status.COMPENSATED
        assert (await other.aexecute(context)).ok

    asyncio.run(main())
    assert log == ["-slow", "ran"]


def test_a_stream_has_its_context_from_the_call_to_its_end() -> None:
    context, saga = Context(), Saga("s").add_task(step(ran, name="a")).add_task(step(ran, name="b"))
    second = Saga("second").add_task(step(ran))
    saga.stream(context)  # nobody can run it any more
    within(PATIENCE, lambda: second.execute(context))
    stream = saga.stream(context, saga_id="FIRST")
    with pytest.raises(SagaDefinitionError, match=IN_USE):
        within(PATIENCE, lambda: second.execute(context))
    with closing(stream) as records:  # type: ignore[type-var]
        next(iter(records))
        with pytest.raises(SagaDefinitionError, match=IN_USE):
            within(PATIENCE, lambda: second.execute(context))
    within(PATIENCE, lambda: second.execute(context))


def test_executions_at_the_same_time_in_one_event_loop() -> None:
    async def wait() -> None:
        await asyncio.sleep(0)

    saga = Saga("s").add_task(step(wait))

    async def main() -> list[Any]:
        context = Context()
        return await asyncio.gather(*(saga.aexecute(context) for _ in range(3)), return_exceptions=True)

    first, *others = within(PATIENCE, lambda: asyncio.run(main()))
    assert first.status is Status.COMPLETED
    assert [type(other) for other in others] == [SagaDefinitionError] * 2


INNER = Saga("inner").add_task(step(ran))
AINNER = Saga("inner").add_task(step(asyncio.sleep, name="in", args=(0,)))


@pytest.mark.parametrize("limited", [False, True], ids=["alone", "limited"])
def test_tasks_begun_within_a_call_may_execute_another_saga_with_its_context(limited: bool) -> None:
    async def nest(context: Context) -> None:
        await asyncio.wait_for(AINNER.aexecute(context), PATIENCE)
        await asyncio.create_task(AINNER.aexecute(context))
        await asyncio.to_thread(INNER.execute, context)
        log.append(context.step.name)

    saga = Saga("outer").add_task(step(nest, timeout=PATIENCE if limited else None))
    for context in (Context(), None):
        within(PATIENCE, lambda context=context: asyncio.run(saga.aexecute(context)))
    assert log == ["ran", "nest"] * 2


def test_two_sagas_executed_with_one_context_within_a_call_are_not_at_the_same_time() -> None:
    async def nest(context: Context) -> Any:
        return await asyncio.gather(AINNER.aexecute(context), AINNER.aexecute(context), return_exceptions=True)

    saga = Saga("outer").add_task(step(nest, name="a"))
    for context in (Context(), None):
        found = within(PATIENCE, lambda context=context: asyncio.run(saga.aexecute(context))).results["a"]
        assert [type(one).__name__ for one in found] == ["SagaResult", "SagaDefinitionError"]


def test_a_context_is_free_where_its_execution_could_not_begin() -> None:
    store, context = MemoryStore(), Context()
    saga = Saga("s", store=store).add_task(step(ran))
    saga.execute(Context(other=1), saga_id="A")
    for use in (lambda: saga.execute(context, saga_id="A"), lambda: asyncio.run(saga.aexecute(context, saga_id="A"))):
        with pytest.raises(Exception, match="another input"):
            within(PATIENCE, use)
    within(PATIENCE, lambda: saga.execute(context, saga_id="B"))
    assert within(PATIENCE, lambda: saga.execute(context, saga_id="B")).ok  # the first one's outcome
    assert within(PATIENCE, lambda: saga.execute(context, saga_id="C")).ok


# -- one block ---------------------------------------------------------------------------------------------------------


def test_a_block_is_entered_once_whoever_enters_it() -> None:
    tx = transaction("t")
    with tx:
        with pytest.raises(SagaDefinitionError, match="entered once"):
            within(PATIENCE, tx.__enter__)
        tx.step(ran)
    with pytest.raises(SagaDefinitionError, match="entered once"):
        tx.__enter__()


@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
def test_a_step_beside_another_is_refused_and_what_was_done_is_undone(stored: bool) -> None:
    async def main() -> None:
        async with transaction("t", store=MemoryStore() if stored else None) as tx:
            await tx.astep(book, cancel, name="first", args=("first",))
            await asyncio.gather(*(tx.astep(book, cancel, name=name, args=(name,)) for name in "abc"))

    with pytest.raises(SagaDefinitionError, match="one after the other; await each"):
        within(PATIENCE, lambda: asyncio.run(main()))
    assert log == ["first", "a", "-a", "-first"]


async def book(name: str) -> str:
    await asyncio.sleep(0.01)
    log.append(name)
    return name


async def cancel(name: str) -> None:
    log.append(f"-{name}")


def test_a_step_beside_another_in_a_thread_is_refused() -> None:
    gate = Gate()

    def block() -> None:
        with transaction("t") as tx:
            other = background(lambda: tx.step(gate.hold, lambda own: log.append("-held"), name="held"))
            assert gate.reached.wait(PATIENCE)
            try:
                with pytest.raises(SagaDefinitionError, match="one after the other"):
                    tx.step(ran)
            finally:
                threading.Timer(0.01, gate.open).start()
            del other
            raise KeyError  # while the other step is executed

    with pytest.raises(KeyError):
        within(PATIENCE, block)
    assert log == ["-held"]


def test_a_step_within_a_step_is_refused() -> None:
    def block() -> None:
        with transaction("t") as tx:
            tx.step(lambda: tx.step(ran), name="outer")

    with pytest.raises(SagaExecutionException, match="one after the other"):
        within(PATIENCE, block)
    assert log == []


# -- steps that nobody awaits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["astep", "aparallel", "task"])
def test_a_step_that_nobody_awaits_is_said_at_the_end_of_the_block(how: str, recwarn: pytest.WarningsRecorder) -> None:
    async def main() -> None:
        async with transaction("trip") as tx:
            await tx.astep(book, cancel, name="first", args=("first",))
            if how == "astep":
                tx.astep(book, cancel, name="lost", args=("lost",))
            elif how == "aparallel":
                tx.aparallel(step(book, name="a", args=("a",)), step(book, name="b", args=("b",)))
            else:
                kept.append(asyncio.ensure_future(tx.astep(book, cancel, name="lost", args=("lost",))))
                await asyncio.sleep(0)

    kept: list[Any] = []
    with pytest.raises(SagaDefinitionError, match=r"transaction 'trip' has ended, and nobody has awaited .*`await`"):
        within(PATIENCE, lambda: asyncio.run(main()))
    assert log == (["first", "lost", "-lost", "-first"] if how == "task" else ["first", "-first"])
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_a_block_that_fails_closes_the_steps_that_nobody_has_awaited(recwarn: pytest.WarningsRecorder) -> None:
    async def main() -> None:
        async with transaction("trip") as tx:
            tx.astep(book, cancel, args=("lost",))
            raise KeyError

    with pytest.raises(KeyError):
        within(PATIENCE, lambda: asyncio.run(main()))
    assert (log, [warning for warning in recwarn if "never awaited" in str(warning.message)]) == ([], [])


def test_a_cancelled_block_waits_for_the_step_that_another_task_executes() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def held() -> None:
            begun.set()
            await asyncio.sleep(0.05)
            log.append("held")

        async def block() -> None:
            async with transaction("trip") as tx:
                kept.append(asyncio.ensure_future(tx.astep(held, lambda own: log.append("-held"))))
                await begun.wait()

        task = asyncio.create_task(block())
        await begun.wait()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    kept: list[Any] = []
    within(PATIENCE, lambda: asyncio.run(main()))
    assert log == ["held", "-held"]


def test_a_plain_block_says_at_once_that_it_has_no_step_to_await() -> None:
    with transaction("t") as tx, pytest.raises(SagaDefinitionError, match=r"use `tx.step\(...\)`"):
        tx.astep(book, args=("a",))


# -- streams that nobody iterates --------------------------------------------------------------------------------------


def test_a_stream_that_is_left_early_is_undone_and_holds_nothing() -> None:
    store = MemoryStore()
    saga = Saga("s", store=store).add_task(step(ran, lambda: log.append("-a"), name="a")).add_task(step(ran, name="b"))
    for _ in saga.stream(saga_id="A"):
        break
    assert (store.get("A").status, log) == ("compensated", ["ran", "-a"])  # type: ignore[union-attr]


def test_branches_use_their_own_views_of_the_context_for_other_sagas() -> None:
    def nest(context: Context) -> None:
        INNER.execute(context)

    saga = Saga("s").add_task(parallel(step(nest, name="a"), step(nest, name="b")))
    for run in (saga.execute, lambda context: asyncio.run(saga.aexecute(context))):
        within(PATIENCE, lambda run=run: run(Context()))
    assert log == ["ran"] * 4
