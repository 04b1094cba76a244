"""Semantic 1: undo runs in reverse order of completion, all of it, and every error is told."""

from __future__ import annotations

import itertools
import threading
import traceback
from typing import Any

import pytest

from saga import Context, Retry, Saga, Status, parallel, sequence
from saga.errors import SagaCompensationError, SagaExecutionException
from saga.events import CompensationStarted, SagaCompensated, SagaCompensating, SagaStuck, StepSucceeded
from tests.kit import PATIENCE, failures

CASES = [(n, failing, bad) for n in range(1, 6) for failing, bad in failures(n)]


@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
@pytest.mark.parametrize(("count", "failing", "bad"), CASES)
def test_every_failure_and_every_failed_undo_is_told_with_its_cause(
    make: Any, log: list[str], watch: Any, count: int, failing: int, bad: tuple[int, ...], watched: bool
) -> None:
    cause = ValueError("the cause")
    wrong = {i: OSError(f"undo of s{i}") for i in bad}
    saga = Saga("s", logger=watch if watched else None)
    tasks = [make(f"s{i}", cause if i == failing else None, wrong.get(i)) for i in range(count)]
    for task in tasks:
        saga.add_task(task)
    with pytest.raises(SagaExecutionException) as caught:
        saga.execute()
    error, result = caught.value, caught.value.result
    assert result is not None
    assert log == [f"s{i}" for i in range(failing + 1)] + [f"-s{i}" for i in reversed(range(failing))]

    assert type(error) is (SagaCompensationError if bad else SagaExecutionException)
    assert error.cause is error.__cause__ is result.error is cause
    assert error.failed_task is tasks[failing]
    assert "execute" in [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    found = [(e.step, e.task, e.error) for e in error.compensation_errors]
    assert found == [(f"s{i}", tasks[i], wrong[i]) for i in reversed(bad)]
    for each in error.compensation_errors:
        assert "compensate" in [frame.name for frame in traceback.extract_tb(each.error.__traceback__)]

    assert result.status is (Status.STUCK if bad else Status.COMPENSATED)
    assert isinstance(result.events[-1], SagaStuck if bad else SagaCompensated)
    assert watch.events == (list(result.events) if watched else [])
    for i, record in enumerate(result.history):
        expected = (
            "pending" if i > failing else "failed" if i == failing else "compensation_failed" if i in bad else "compensated"
        )
        assert (record.name, record.status, record.compensation_error) == (f"s{i}", expected, wrong.get(i))
        assert record.attempts == (i <= failing)
        assert record.compensation_attempts == (i < failing)

    text = error.report()
    assert f"failed at step 's{failing}'" in text or f"at step 's{failing}'" in text
    assert "ValueError: the cause" in text
    for i in range(count):
        assert (f"OSError: undo of s{i}" in text) == (f"compensation of step 's{i}' failed" in text) == (i in bad)
        assert bool(result.reason and f"s{i}" in result.reason) == (i in bad)


@pytest.mark.parametrize("without", [some for last, some in failures(5) if last == 4])
def test_steps_without_compensation_do_not_disturb_the_order(make: Any, log: list[str], without: tuple[int, ...]) -> None:
    saga = Saga("s")
    for i in range(4):
        saga.add_task(make(f"s{i}", undo=i not in without))
    result = saga.add_task(make("bad", ValueError())).try_execute()
    assert log[5:] == [f"-s{i}" for i in reversed(range(4)) if i not in without]
    assert result.status is Status.COMPENSATED


INTERLEAVINGS = [order for order in itertools.permutations("abcd") if order.index("a") < order.index("b")]
INTERLEAVINGS = [order for order in INTERLEAVINGS if order.index("c") < order.index("d")]


@pytest.mark.parametrize("order", INTERLEAVINGS, ids="".join)
@pytest.mark.parametrize("bad", [(), ("b",), ("a", "d"), ("a", "b", "c", "d")], ids="".join)
def test_branches_are_undone_in_reverse_order_of_completion_not_of_declaration(
    make: Any, log: list[str], order: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    gates = {name: threading.Event() for name in order}
    gates[order[0]].set()
    following = dict(itertools.pairwise(order))

    def open_next(event: Any, info: Any) -> None:
        if isinstance(event, StepSucceeded) and event.step in following:
            gates[following[event.step]].set()

    def gated(name: str) -> Any:
        def wait(context: Context) -> None:
            assert gates[name].wait(PATIENCE)

        return make(name, wait, OSError(name) if name in bad else None)

    saga = Saga("s", logger=open_next).add_task(make("first"))
    saga.add_task(parallel(sequence(gated("a"), gated("b")), sequence(gated("c"), gated("d"))))
    result = saga.add_task(make("bad", ValueError())).try_execute()
    assert [name for name in log if name[0] == "-"] == [f"-{name}" for name in reversed(("first", *order))]
    assert [e.step for e in result.compensation_errors] == [name for name in reversed(order) if name in bad]
    assert result.status is (Status.STUCK if bad else Status.COMPENSATED)


def test_nested_groups_and_sagas_are_undone_as_one_flow(make: Any, log: list[str]) -> None:
    inner = Saga("inner").add_task(make("x")).add_task(parallel(make("y"), sequence(make("z1"), make("z2"))))
    saga = Saga("s").add_task(make("a")).add_task(parallel(inner, sequence(make("b"), make("c"))))
    result = saga.add_task(make("d")).add_task(make("bad", ValueError())).try_execute()
    completed = [e.step.rpartition("/")[2] for e in result.events if isinstance(e, StepSucceeded)]
    assert sorted(completed) == ["a", "b", "c", "d", "x", "y", "z1", "z2"]
    assert [name for name in log if name[0] == "-"] == [f"-{name}" for name in reversed(completed)]
    assert result.status is Status.COMPENSATED


def test_policy_may_stop_at_the_first_failed_undo_and_what_is_left_is_named(make: Any, log: list[str]) -> None:
    saga = Saga("s", stop_on_compensation_failure=True)
    for name in "abc":
        saga.add_task(make(name, None, OSError("gone") if name == "b" else None))
    with pytest.raises(SagaCompensationError) as caught:
        saga.add_task(make("bad", ValueError())).execute()
    assert log == ["a", "b", "c", "bad", "-c", "-b"]
    result = caught.value.result
    assert result is not None
    assert result.status is Status.STUCK
    assert [record.status for record in result.history] == ["succeeded", "compensation_failed", "compensated", "failed"]
    assert "not compensated: a" in str(result.reason)


@pytest.mark.parametrize("failures", range(4))
def test_a_compensation_is_retried_and_only_what_failed_for_good_is_reported(make: Any, log: list[str], failures: int) -> None:
    errors = [OSError(i) for i in range(failures)]
    left = list(errors)

    def flaky(context: Context) -> None:
        if left:
            raise left.pop(0)

    saga = Saga("s").add_task(make("a")).add_task(make("b", None, flaky, compensation_retry=Retry(3)))
    result = saga.add_task(make("bad", ValueError())).try_execute()
    tries = min(failures + 1, 3)
    assert log == ["a", "b", "bad", *["-b"] * tries, "-a"]
    record = result.history[1]
    assert record.compensation_attempts == tries
    if failures < 3:
        assert (result.status, result.compensation_errors, record.status) == (Status.COMPENSATED, (), "compensated")
    else:
        assert result.status is Status.STUCK
        assert [e.error for e in result.compensation_errors] == [errors[2]]


def test_the_handler_of_failed_compensations_is_told_each_one_and_cannot_stop_the_undo(
    make: Any, log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    told = []

    def handler(context: Context, name: str, error: BaseException) -> None:
        told.append((context["order"], name, str(error)))
        raise RuntimeError("the handler is broken too")

    saga = Saga("s", on_compensation_failure=handler)
    saga.add_task(make("a", None, OSError("1"))).add_task(make("b", None, OSError("2"), compensation_retry=Retry(2)))
    result = saga.add_task(make("bad", ValueError())).try_execute(Context(order=7))
    assert told == [(7, "b", "2"), (7, "a", "1")]
    assert log == ["a", "b", "bad", "-b", "-b", "-a"]
    assert result.status is Status.STUCK
    assert "handler of failed compensations" in caplog.text


def test_compensating_is_recorded_before_the_first_undo(make: Any, watch: Any) -> None:
    Saga("s", logger=watch).add_task(make("a")).add_task(make("bad", ValueError())).try_execute()
    assert watch.at(SagaCompensating) < watch.at(CompensationStarted)


def test_a_compensation_sees_the_context_and_the_result_of_its_step(make: Any) -> None:
    seen: list[Any] = []

    def put(context: Context) -> None:
        context.key = "later"

    saga = Saga("s").add_task(make("a", None, lambda context: seen.append((context.result_of("a"), context.key))))
    saga.add_task(make("b", put)).add_task(make("bad", ValueError())).try_execute()
    assert seen == [("result of a", "later")]
