"""Semantic 5: a saga's deadline starts the undo, and never interrupts or repeats one."""

from __future__ import annotations

import time
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Status, parallel, sequence
from saga.errors import SagaExecutionException, SagaTimeoutError
from saga.events import CompensationStarted, CompensationSucceeded, RetryScheduled, SagaCompensating, StepStarted, StepTimedOut
from saga.recovery import Recovery
from saga.testing import Clock
from tests.kit import KITS, LONG, PATIENCE, SHORT, Gate, Kit, left_at


@pytest.fixture
def go(gate: Gate) -> Gate:
    return gate


def held_by(gate: Gate, log: list[str], name: str) -> Any:
    def hold(context: Context) -> None:
        gate.hold()
        log.append(f"{name} ended")

    return hold


def test_what_was_done_is_undone_and_the_running_step_is_a_straggler(make: Any, log: list[str], watch: Any, go: Gate) -> None:
    saga = Saga("s", timeout=LONG, logger=watch).add_task(make("a")).add_task(make("slow", held_by(go, log, "slow")))
    with pytest.raises(SagaExecutionException) as caught:
        saga.add_task(make("never")).execute()
    result = caught.value.result
    assert result is not None
    assert isinstance(caught.value.cause, SagaTimeoutError)
    assert isinstance(caught.value.cause, TimeoutError)
    assert caught.value.failed_task is None
    assert log == ["a", "slow", "-a"]
    assert (result.status, result.in_doubt) == (Status.COMPENSATING, ("slow",))
    assert watch.at(StepTimedOut, "slow") < watch.at(SagaCompensating) < watch.at(CompensationStarted)
    go.open()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log == ["a", "slow", "-a", "slow ended", "-slow"]


def test_a_saga_that_is_in_time_notices_nothing(make: Any) -> None:
    result = Saga("s", timeout=60).add_task(make("a")).add_task(parallel(make("b"), make("c"))).execute()
    assert result.ok


def test_a_running_compensation_is_neither_interrupted_nor_repeated(make: Any, log: list[str], watch: Any) -> None:
    cancelled = []

    def long(context: Context) -> None:
        time.sleep(2 * LONG)  # the deadline passes meanwhile
        cancelled.append(context.step.cancelled)
        log.append("undo ended")

    saga = Saga("s", timeout=LONG, logger=watch).add_task(make("a")).add_task(make("b", None, long))
    result = saga.add_task(make("bad", ValueError("first"))).try_execute()
    assert log == ["a", "b", "bad", "-b", "undo ended", "-a"]
    assert cancelled == [False]
    assert result.status is Status.COMPENSATED
    assert str(result.error) == "first"
    assert [e.step for e in watch.of(CompensationStarted)] == ["b", "a"]
    assert not watch.of(StepTimedOut)


def test_a_compensation_that_waits_for_its_retry_is_retried_after_the_deadline(make: Any, log: list[str]) -> None:
    left = [OSError("once")]

    def flaky(context: Context) -> None:
        if left:
            raise left.pop()

    saga = Saga("s", timeout=60.0).add_task(make("a", None, flaky, compensation_retry=Retry(2, backoff=3600.0)))
    with Clock():
        result = saga.add_task(make("bad", ValueError())).try_execute()
    assert log == ["a", "bad", "-a", "-a"]
    assert result.status is Status.COMPENSATED


def test_a_compensation_begun_by_the_deadline_runs_on_for_as_long_as_it_takes(
    make: Any, log: list[str], watch: Any, go: Gate
) -> None:
    def long(context: Context) -> None:
        time.sleep(2 * LONG)

    saga = Saga("s", timeout=LONG, logger=watch).add_task(make("a")).add_task(make("b", None, long))
    result = saga.add_task(make("slow", held_by(go, log, "slow"))).try_execute()
    assert log == ["a", "b", "slow", "-b", "-a"]
    go.open()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert [e.step for e in watch.of(CompensationSucceeded)] == ["b", "a", "slow"]
    assert len(watch.of(SagaCompensating)) == 1


def test_all_running_branches_are_cut_at_once(make: Any, log: list[str], go: Gate) -> None:
    saga = Saga("s", timeout=LONG).add_task(make("a"))
    x, y = make("x", held_by(go, log, "x")), make("y", held_by(go, log, "y"))
    result = saga.add_task(parallel(sequence(x, make("never")), y)).try_execute()
    assert log[3:] == ["-a"]
    assert sorted(result.in_doubt) == ["x", "y"]
    go.open()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert sorted(log[4:]) == ["-x", "-y", "x ended", "y ended"]


def test_a_step_that_waits_for_its_next_attempt_makes_none(make: Any, log: list[str], watch: Any) -> None:
    saga = Saga("s", timeout=60.0, logger=watch).add_task(make("a"))
    with Clock():
        result = saga.add_task(make("b", ValueError(), retry=Retry(2, backoff=3600))).try_execute()
    assert isinstance(result.error, SagaTimeoutError)
    assert log == ["a", "b", "-a"]
    assert watch.of(RetryScheduled)
    assert [e.step for e in watch.of(StepStarted)] == ["a", "b"]
    assert result.status is Status.COMPENSATED


def test_a_retry_that_waits_for_a_straggler_is_not_made_after_the_deadline(make: Any, log: list[str], go: Gate) -> None:
    slow = make("slow", held_by(go, log, "slow"), timeout=SHORT, retry=Retry(5))
    result = Saga("s", timeout=LONG).add_task(make("a")).add_task(slow).try_execute()
    assert isinstance(result.error, SagaTimeoutError)
    assert log == ["a", "slow", "-a"]
    go.open()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log == ["a", "slow", "-a", "slow ended", "-slow"]


def test_a_skip_does_not_help_a_step_the_deadline_cut(make: Any, log: list[str], go: Gate) -> None:
    saga = Saga("s", timeout=LONG).add_task(make("slow", held_by(go, log, "slow"), on_error=Skip)).add_task(make("never"))
    result = saga.try_execute()
    assert isinstance(result.error, SagaTimeoutError)
    go.open()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log == ["slow", "slow ended", "-slow"]


def test_a_task_sees_the_sagas_deadline_as_its_own_where_that_is_sooner(make: Any) -> None:
    seen: dict[str, float] = {}

    def note(context: Context) -> None:
        assert context.step.deadline is not None
        seen[context.step.name] = context.step.deadline

    at = time.time()
    tasks = make("own", note, timeout=5), make("sagas", note, timeout=500), make("none", note)
    saga = Saga("s", timeout=100)
    for task in tasks:
        saga.add_task(task)
    saga.execute()
    assert at + 5 <= seen["own"] < at + 50
    assert seen["sagas"] == pytest.approx(seen["none"])
    assert at + 99 < seen["none"] < at + 110


def test_a_cut_task_is_told(make: Any, go: Gate) -> None:
    seen = []

    def note(context: Context) -> None:
        go.hold()
        seen.append(context.step.cancelled)

    result = Saga("s", timeout=LONG).add_task(make("a", note)).try_execute()
    go.open()
    result.join(PATIENCE)
    assert seen == [True]


@pytest.mark.parametrize("kit", KITS.values(), ids=KITS)
@pytest.mark.parametrize(
    ("pivot", "status", "log"),
    [(False, Status.COMPENSATED, ["a", "-b", "-a"]), (True, Status.COMPLETED, ["a", "b", "c"])],
    ids=["", "past its pivot"],
)
def test_where_it_is_over_when_the_saga_is_taken_up_no_step_begins(
    kit: tuple[bool, bool], pivot: bool, status: Status, log: list[str]
) -> None:
    made = Kit(*kit)
    saga = Saga("s", timeout=3600.0).add_task(made.task("a", pivot=pivot))
    saga.add_task(made.task("b", in_doubt=InDoubt.RERUN)).add_task(made.task("c"))
    (result,) = Recovery(left_at(saga, "b", age=7200.0), [saga]).run_once()
    assert (result.status, made.log, isinstance(result.error, SagaTimeoutError)) == (status, log, not pivot)
