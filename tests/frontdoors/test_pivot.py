"""A pivot: the step after which a saga is never undone, only finished."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from saga import InDoubt, Retry, Saga, Skip, Status, Task, fallback, parallel, sequence, step
from saga.durable.leases import keeper_of
from saga.errors import SagaDefinitionError
from saga.events import StepTimedOut
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import LONG, PATIENCE, SHORT, failing_times, on, saga_of, within


def test_before_the_pivot_everything_is_undone(calls: Any) -> None:
    saga = saga_of(calls.step("a"), calls.step("b", ValueError()), calls.step("p", pivot=True))
    assert calls.run(saga).status is Status.COMPENSATED
    assert calls.log == ["a", "b", "-a"]


def test_a_pivot_that_fails_is_undone_like_any_step(calls: Any) -> None:
    saga = saga_of(calls.step("a"), calls.step("p", ValueError(), pivot=True), calls.step("b"))
    result = calls.run(saga)
    assert result.status is Status.COMPENSATED
    assert calls.log == ["a", "p", "-a"]


@pytest.mark.parametrize("policy", [None, Retry(2, 0.001), Retry(3, 0.001, retry_on=KeyError)])
def test_after_the_pivot_a_step_is_retried_until_it_is_done(calls: Any, policy: Retry | None) -> None:
    saga = saga_of(
        calls.step("a"), calls.step("p", pivot=True), calls.step("b", failing_times(2), retry=policy), calls.step("c")
    )
    result = calls.run(saga)
    assert result.ok
    assert calls.log == ["a", "p", "b", "b", "b", "c"]


def test_the_steps_own_waits_come_first_and_then_growing_ones(calls: Any) -> None:
    saga = saga_of(calls.step("p", pivot=True), calls.step("b", failing_times(4), retry=Retry(3, 0.001)))
    result = calls.run(saga)
    delays = [event.delay for event in result.events if type(event).__name__ == "RetryScheduled"]
    assert delays[:2] == [0.001, 0.001]
    assert 0.001 < delays[2] < delays[3]


def test_a_step_after_the_pivot_may_be_skipped_or_replaced(calls: Any) -> None:
    optional = calls.step("b", OSError(), on_error=Skip)
    pair = fallback(calls.step("c", OSError()), calls.step("d", failing_times(1)))
    result = calls.run(saga_of(calls.step("p", pivot=True), optional, pair))
    assert result.ok
    assert calls.log == ["p", "b", "c", "d", "d"]


def test_a_group_after_the_pivot_is_finished(calls: Any) -> None:
    group = parallel(calls.step("b", failing_times(1)), sequence(calls.step("c"), calls.step("d", failing_times(2))))
    result = calls.run(saga_of(calls.step("a"), calls.step("p", pivot=True), group))
    assert result.ok
    assert sorted(calls.log) == ["a", "b", "b", "c", "d", "d", "d", "p"]


def test_a_timeout_after_the_pivot_is_retried_too(calls: Any, gate: Any) -> None:
    tries: list[int] = []

    def slow() -> Any:
        tries.append(1)
        if len(tries) == 1:
            return gate.ahold() if calls.in_loop else gate.hold()
        return None

    # Another attempt that times out, on a busy machine, is made again.
    saga = saga_of(calls.step("p", pivot=True), calls.step("b", slow, timeout=SHORT), logger=on(StepTimedOut, gate.open))
    result = calls.run(saga)
    assert result.ok
    assert calls.log[0] == "p"
    assert "-p" not in calls.log


def test_a_deadline_that_comes_after_the_pivot_is_ignored(calls: Any) -> None:
    slow = calls.step("b", (lambda: asyncio.sleep(2 * LONG)) if calls.in_loop else (lambda: time.sleep(2 * LONG)))
    result = calls.run(saga_of(calls.step("p", pivot=True), slow, calls.step("c"), timeout=LONG))
    assert result.ok
    assert calls.log == ["p", "b", "c"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_after_the_pivot_undoes_nothing_and_is_raised(calls: Any, kind: type[BaseException]) -> None:
    with pytest.raises(kind) as caught:
        calls.run(saga_of(calls.step("a"), calls.step("p", pivot=True), calls.step("b", kind("stop")), calls.step("c")))
    assert calls.log == ["a", "p", "b"]
    assert "is stuck" in caught.value.__notes__[0]


def test_an_interrupt_after_the_pivot_is_gone_on_from_where_there_is_a_store(plain: Any) -> None:
    store = MemoryStore()
    saga = saga_of(
        plain.step("a"), plain.step("p", pivot=True), plain.step("b", failing_times(1, KeyboardInterrupt)), plain.step("c")
    )
    with pytest.raises(KeyboardInterrupt):
        saga.execute(saga_id="o-1", store=store)
    assert plain.log == ["a", "p", "b"]
    assert [result.status for result in Recovery(store, [saga]).run_once()] == [Status.COMPLETED]
    assert plain.log == ["a", "p", "b", "b", "c"]


def test_a_cancellation_after_the_pivot_is_raised_and_undoes_nothing(calls: Any) -> None:
    if not calls.in_loop:
        pytest.skip("only in an event loop")

    async def work() -> None:
        saga = saga_of(calls.step("p", pivot=True), calls.step("b", lambda: asyncio.sleep(60)), calls.step("c"))
        running = asyncio.create_task(saga.aexecute())
        while "b" not in calls.log:
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert calls.log == ["p", "b"]


@pytest.mark.parametrize("action", ["cancel", "compensate"])
def test_operators_cannot_undo_it_any_more(plain: Any, action: str) -> None:
    store = MemoryStore()
    begun, go = threading.Event(), threading.Event()
    saga = saga_of(
        plain.step("a"), plain.step("p", pivot=True), plain.step("b", lambda: (begun.set(), go.wait(PATIENCE))), plain.step("c")
    )
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(saga.try_execute(saga_id="o-1", store=store)))
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        with pytest.raises(ValueError, match="past its pivot"):
            getattr(Operations(store, "ann", sagas=[saga]), action)("o-1", "a test")
        getattr(Operations(store, "ann"), action)("o-1", "a test")  # it does not know better, but the execution does
        keeper_of(store).look("o-1")
    finally:
        go.set()
        thread.join(PATIENCE)
    assert results[0].ok
    assert plain.log == ["a", "p", "b", "c"]


def test_a_pivot_may_be_a_tasks_own_and_given_with_a_step(plain: Any) -> None:
    class Ship(Task[None]):
        pivot = True

        def execute(self, context: Any) -> None:
            plain.log.append("ship")

    assert plain.run(saga_of(plain.step("a"), Ship, plain.step("b", failing_times(1)))).ok
    assert plain.log == ["a", "ship", "b", "b"]
    plain.log.clear()
    result = plain.run(saga_of(plain.step("a"), step(Ship, pivot=False), plain.step("b", failing_times(1))))
    assert result.status is Status.COMPENSATED


def test_definitions_that_make_no_sense_are_refused(plain: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="parallel group"):
        _ = saga_of(parallel(plain.step("a", pivot=True), plain.step("b"))).plan
    with pytest.raises(SagaDefinitionError, match="one pivot"):
        _ = saga_of(plain.step("a", pivot=True), plain.step("b", pivot=True)).plan
    with pytest.raises(SagaDefinitionError, match="give a bool"):
        _ = saga_of(plain.step("a", pivot="yes")).plan


@pytest.mark.parametrize("in_doubt", list(InDoubt))
def test_wherever_the_process_dies_recovery_goes_forward_after_the_pivot_and_back_before(
    crashes: Any, in_doubt: InDoubt
) -> None:
    def build(effects: Any) -> Saga:
        return saga_of(
            effects.step("a"),
            effects.step("p", pivot=True),
            effects.step("b", failing_times(1), in_doubt=in_doubt, retry=Retry(2, 0.001)),
            parallel(effects.step("c"), effects.step("d")),
        )

    ends, asked = [], []
    for crash in crashes(build):
        entries = [(entry.kind, entry.step) for entry in crash.store.journal("o-1")]
        past = ("StepSucceeded", "p") in entries
        cut_off = entries[-1] == ("StepStarted", "b")
        (result,) = Recovery(crash.store, [crash.saga]).run_once() or (None,)
        asked.append(past and cut_off and in_doubt is InDoubt.ASK)
        if asked[-1]:  # what a person knows of it decides
            assert (result.status, result.in_doubt) == (Status.STUCK, ("b",))
            assert crash.effects - {"b"} == {"a", "p"}
            for _ in range(2):  # its first attempt fails, so that they are asked again
                assert crash.status == "stuck"
                Operations(crash.store, "ann").resume("o-1", "it may be done twice")
                Recovery(crash.store, [crash.saga]).run_once()
        ends.append(crash.status)
        assert crash.status == ("completed" if past else "compensated"), (crash, crash.kinds)
        assert crash.effects == ({"a", "p", "b", "c", "d"} if past else set()), (crash, crash.kinds)
    assert set(ends) == {"completed", "compensated"}
    assert any(asked) is (in_doubt is InDoubt.ASK)


def test_a_recovery_runs_what_was_in_doubt_after_the_pivot_again(crashes: Any) -> None:
    attempts: list[int] = []

    def build(effects: Any) -> Saga:
        attempts.clear()
        b = step(lambda context: attempts.append(context.step.attempt), name="b")
        return saga_of(effects.step("p", pivot=True), b, effects.step("c"))

    seen = []
    for crash in crashes(build):
        if crash.kinds == ["SagaStarted", "StepStarted", "StepSucceeded", "StepStarted"]:
            (result,) = Recovery(crash.store, [crash.saga]).run_once()
            assert result.ok
            seen.append(list(attempts))
    assert seen == [[2], [2]]


def test_a_recovery_goes_on_with_what_an_interrupt_stopped_after_the_pivot(log: list[str], plain: Any) -> None:
    tries: list[int] = []

    def b() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise KeyboardInterrupt

    store = MemoryStore()
    saga = saga_of(plain.step("p", pivot=True), step(b), plain.step("c"))
    with pytest.raises(KeyboardInterrupt):
        saga.execute(saga_id="o-1", store=store)
    (result,) = Recovery(store, [saga]).run_once()
    assert result.ok
    assert log == ["p", "c"]


def test_what_cannot_be_stored_after_the_pivot_is_not_executed_for_ever(log: list[str], plain: Any) -> None:
    def b() -> Any:
        log.append("b")
        return threading.Lock()

    store = MemoryStore()
    saga = saga_of(plain.step("p", pivot=True), step(b, retry=Retry(2)), plain.step("c"), store=store)
    result = within(PATIENCE, lambda: saga.try_execute(saga_id="o-1"))
    assert (result.status, log) == (Status.STUCK, ["p", "b"])
    assert result.reason == "done past the pivot, and what came of it could not be stored: b"
    assert Recovery(store, [saga]).run_once() == []
    Operations(store, "ann").compensate("o-1", "a test")  # refused there: nothing is undone past the pivot
    assert [again.status for again in Recovery(store, [saga]).run_once()] == [Status.STUCK]
    assert log == ["p", "b"]
    Operations(store, "ann").skip("o-1", "b", "it was done")
    assert Recovery(store, [saga]).run_once()[0].ok
    assert log == ["p", "b", "c"]
