"""Series of calls, which nobody hears of one by one: they say no more than the machine would."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import saga as package
from saga import Context, InDoubt, Retry, Saga, Skip, Status, fallback, step, transaction
from saga.durable.codec import Codec
from saga.durable.entries import write_entries
from saga.events import CompensationStarted, CompensationSucceeded, SagaCompleted, StepFailed, StepSkipped, StepStarted
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import Watched, Write, expired, saga_of
from tests.kit.recoveries import left_behind


def fail(*_: Any) -> None:
    raise ValueError("no")


async def afail(*_: Any) -> None:
    raise ValueError("no")


@pytest.mark.parametrize("logger", [None, lambda event, info: None], ids=["noted", "heard"])
@pytest.mark.parametrize("calls_fail", [fail, afail])
def test_a_step_that_was_skipped_and_whose_compensation_failed_leaves_the_saga_stuck(calls_fail: Any, logger: Any) -> None:
    async def b() -> None: ...

    saga = Saga("s", logger=logger).add_task(step(calls_fail, calls_fail, name="a", on_error=Skip, compensate_on_failure=True))
    result = saga.add_task(step(b if calls_fail is afail else str, name="b")).try_execute()
    assert result.status is Status.STUCK
    assert [failure.step for failure in result.compensation_errors] == ["a"]


def test_a_compensation_that_is_to_be_attempted_again_is_before_the_saga_completes() -> None:
    attempts: list[int] = []

    def undo(context: Context) -> None:
        attempts.append(context.step.attempt)
        if context.step.attempt == 1:
            raise ValueError

    first = step(fail, undo, name="a", on_error=Skip, compensate_on_failure=True, compensation_retry=Retry(2, 0.001))
    result = saga_of(step(str, name="b"), first).try_execute()
    assert attempts == [1, 2]
    assert [type(event) for event in result.events[-3:]] == [CompensationSucceeded, StepSkipped, SagaCompleted]


def test_a_recovery_makes_one_call_at_a_time_where_the_plan_has_no_branches() -> None:
    undone, beside = threading.Event(), []

    def undo() -> None:
        beside.append("-a")
        undone.wait(0.3)  # nobody sets it: whoever goes on beside this does so now
        beside.append("-a is over")

    def build() -> Saga:
        skipped = step(fail, undo, name="a", on_error=Skip, compensate_on_failure=True)
        first = step(str, name="first", in_doubt=InDoubt.RERUN)
        return saga_of(first, skipped, step(lambda: beside.append("b"), name="b"))

    store = MemoryStore()
    left_behind(store, build)
    beside.clear()
    (result,) = Recovery(store, [build()]).run_once()
    assert result.ok
    assert beside == ["-a", "-a is over", "b"]


def test_what_an_earlier_version_began_beside_an_undo_does_not_complete_before_that() -> None:
    """It skipped a step, and then undid it while the saga went on."""
    log: list[str] = []

    def build() -> Saga:
        skipped = step(fail, lambda: log.append("-a"), name="a", on_error=Skip, compensate_on_failure=True)
        return saga_of(skipped, step(lambda: log.append("b"), name="b", in_doubt=InDoubt.RERUN))

    watched, store = Watched(MemoryStore()), MemoryStore()
    build().execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    first, log[:] = watched.writes[0], []
    later = [
        StepFailed("a", 1, 1.0, 0.1, ValueError()),
        StepSkipped("a", 1.0),
        CompensationStarted("a", 1, 1.0),
        StepStarted("b", 1, 1.0),
    ]
    expired(store, [first, Write(None, tuple(write_entries(later, len(first.entries), {}, Codec())))])
    (result,) = Recovery(store, [build()]).run_once()
    assert sorted(log) == ["-a", "b"]
    assert result.ok
    assert type(result.events[-1]) is SagaCompleted
    assert CompensationSucceeded in [type(event) for event in result.events]


def test_an_interrupt_before_a_call_begins_leaves_nothing_in_doubt() -> None:
    """Between the intent and the call there are some lines: struck there, a step was never called and is not compensated."""
    drivers = str(Path(package.__file__).parent / "drivers" / "base.py")
    log: list[str] = []

    def strike(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename == drivers and frame.f_code.co_name == "_series":
            sys.settrace(None)
            raise KeyboardInterrupt
        return None

    saga = saga_of(step(lambda: log.append("a"), lambda: log.append("-a"), name="a"), step(str, name="b"))
    before = sys.gettrace()
    sys.settrace(strike)
    try:
        with pytest.raises(KeyboardInterrupt):
            saga.execute()
    finally:
        sys.settrace(before)
    assert log == []


@pytest.mark.parametrize("where", ["_end", "record"])
def test_an_interrupt_as_a_block_ends_or_grows_undoes_its_steps(where: str) -> None:
    home, log = str(Path(package.__file__).parent), []

    def strike(frame: Any, event: str, arg: Any) -> Any:
        here = frame.f_code.co_filename.startswith(home) and frame.f_code.co_name == where
        if here and event == ("call" if where == "_end" else "return"):  # the intent is recorded, and not commanded yet
            sys.settrace(None)
            raise KeyboardInterrupt
        return strike

    block, before = transaction("t"), sys.gettrace()

    def run() -> None:
        with block as tx:
            tx.step(lambda: log.append("a"), lambda: log.append("-a"), name="a")
            sys.settrace(strike)
            if where != "_end":
                tx.step(lambda: log.append("b"), name="b")

    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
        sys.settrace(before)
    assert log == ["a", "-a"]
    assert block.result is not None
    assert block.result.status is Status.COMPENSATED


def test_the_compensation_of_what_could_not_be_stored_sees_the_same_context_live_and_loaded() -> None:
    def undo(context: Context) -> None:
        context.undone = True

    store, context = MemoryStore(), Context()
    saga = saga_of(fallback(step(object, undo, name="a"), step(str, name="b"), on=OSError), store=store)
    saga.try_execute(context, saga_id="x")
    assert dict(context) == dict(saga.load("x").context) == {"undone": True}
