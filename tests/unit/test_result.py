"""Results: the history of the steps, the report, and waiting for what still runs."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, SagaResult, Skip, Status, StepStatus, Task, parallel, step
from saga.errors import SagaExecutionException, StepTimeoutError


def noop() -> None:
    """Stands for any work."""


def fail() -> None:
    raise ValueError("no stock")


def gone() -> None:
    raise OSError("gone")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What slow steps wait for: opened by the test, or else when it ends."""
    opened = threading.Event()
    yield opened
    opened.set()


def statuses(result: SagaResult) -> dict[str, str]:
    return {record.name: str(record.status) for record in result.history}


def normal(report: str) -> str:
    """Return a report without what differs from run to run: times, and the frames of tracebacks."""
    report = re.sub(r"\d+\.\d ms", "N ms", report)
    return re.sub(r"(?m)(^ +Traceback \(most recent call last\):\n)(?:^ +File .*\n(?:^    +.*\n)*)+", r"\1    ...\n", report)


def test_a_completed_execution() -> None:
    context = Context(n=1)
    saga = Saga("s").add_task(step(lambda: 7, name="a")).add_task(step(noop, name="b"))
    result = saga.execute(context, saga_id="x1")
    assert (result.saga, result.saga_id, result.status, result.ok) == ("s", "x1", Status.COMPLETED, True)
    assert result.context is context
    assert (result.error, result.failed_step, result.failed_task, result.reason) == (None, None, None, None)
    assert (result.compensation_errors, result.in_doubt) == ((), ())
    assert result.results == {"a": 7, "b": None}
    assert [type(event).__name__ for event in result.events] == [
        "SagaStarted",
        *["StepStarted", "StepSucceeded"] * 2,
        "SagaCompleted",
    ]
    assert repr(result) == "<SagaResult 's' x1 completed>"
    assert result.join().status is Status.COMPLETED
    assert normal(result.report()) == (
        "saga 's' (x1) completed\nsteps:\n  a  succeeded (1 attempt, N ms)\n  b  succeeded (1 attempt, N ms)"
    )


def test_a_failed_execution_and_the_step_to_blame() -> None:
    saga = Saga("s").add_task(step(noop, noop, name="a")).add_task(step(fail, name="b")).add_task(step(noop, name="c"))
    result = saga.try_execute()
    assert (result.status, result.ok, result.failed_step) == (Status.COMPENSATED, False, "b")
    assert isinstance(result.error, ValueError)
    assert result.failed_task is saga.plan.by_name["b"].task
    assert statuses(result) == {"a": "compensated", "b": "failed", "c": "pending"}
    assert result.results == {"a": None}


def test_a_step_without_a_compensation_stays_succeeded() -> None:
    result = Saga("s").add_task(step(noop)).add_task(step(fail)).try_execute()
    assert statuses(result) == {"noop": "succeeded", "fail": "failed"}


def test_a_record_tells_attempts_errors_and_results() -> None:
    def third_time(context: Context) -> str:
        if context.step.attempt < 3:
            raise ConnectionError(f"attempt {context.step.attempt}")
        return "done"

    undone: list[int] = []

    def second_time(context: Context) -> None:
        undone.append(context.step.attempt)
        if context.step.attempt < 2:
            raise OSError("busy")

    saga = Saga("s").add_task(step(third_time, second_time, retry=Retry(3), compensation_retry=Retry(2)))
    result = saga.add_task(step(fail, name="skipped", on_error=Skip)).add_task(step(fail, retry=Retry(2))).try_execute()
    first, skipped, failed = result.history
    assert (first.name, first.status, first.attempts, first.result) == ("third_time", "compensated", 3, "done")
    assert str(first.error) == "attempt 2"
    assert (first.compensation_attempts, first.compensation_error, undone) == (2, None, [1, 2])
    assert (skipped.status, skipped.attempts, skipped.result) == ("skipped", 1, None)
    assert (failed.status, failed.attempts) == ("failed", 2)
    assert failed.error is result.error
    assert result.history is result.history


def test_elapsed_times_are_seconds() -> None:
    def slow() -> None:
        time.sleep(0.03)
        raise OSError

    result = Saga("s").add_task(step(slow, retry=Retry(2))).try_execute()
    assert 0.06 <= result.history[0].elapsed <= result.elapsed < 5
    assert abs(result.events[0].at - time.time()) < 60


def test_a_stuck_execution_says_why() -> None:
    saga = Saga("s").add_task(step(noop, gone, name="a")).add_task(step(noop, noop, name="b"))
    result = saga.add_task(step(noop, gone, name="c")).add_task(step(fail)).try_execute()
    assert result.status is Status.STUCK
    assert result.reason == "compensation failed: a, c"
    assert [(error.step, str(error.error)) for error in result.compensation_errors] == [("c", "gone"), ("a", "gone")]
    assert result.compensation_errors[0].task is saga.plan.by_name["c"].task
    assert statuses(result) == {"a": "compensation_failed", "b": "compensated", "c": "compensation_failed", "fail": "failed"}


def test_what_is_left_after_stopping_on_a_compensation_failure_is_named() -> None:
    saga = (
        Saga("s", stop_on_compensation_failure=True).add_task(step(noop, noop, name="a")).add_task(step(noop, noop, name="b"))
    )
    result = saga.add_task(step(noop, gone, name="c")).add_task(step(fail)).try_execute()
    assert result.reason == "compensation failed: c; not compensated: b, a"
    assert statuses(result) == {"a": "succeeded", "b": "succeeded", "c": "compensation_failed", "fail": "failed"}


def test_the_report_in_full() -> None:
    def fail_with_a_cause() -> None:
        try:
            raise KeyError("sku")
        except KeyError as error:
            raise ValueError("no stock\nof apples") from error

    saga = Saga("place-order").add_task(step(noop, gone, name="reserve")).add_task(step(noop, noop, name="pay"))
    saga.add_task(step(fail, name="gift", on_error=Retry(2, then=Skip))).add_task(step(fail_with_a_cause, name="ship"))
    result = saga.add_task(step(noop, name="tell-the-customer")).try_execute(saga_id="a1")
    assert normal(result.report()) == (
        "saga 'place-order' (a1) is stuck: the compensation of step 'reserve' failed (1 attempt): OSError: gone\n"
        "it gave up at step 'ship': ValueError: no stock\n"
        "a person must act: nothing is stored, so no program goes on from here\n"
        "steps:\n"
        "  reserve            compensation failed after 1 attempt (execute: 1 attempt, N ms)  compensation: OSError: gone\n"
        "  pay                compensated (1 attempt, N ms)\n"
        "  gift               skipped (2 attempts, N ms)  ValueError: no stock\n"
        "  ship               failed (1 attempt, N ms)  ValueError: no stock\n"
        "  tell-the-customer  pending\n"
        "\n"
        "failure at step 'ship':\n"
        "  Traceback (most recent call last):\n"
        "    ...\n"
        "  KeyError: 'sku'\n"
        "  \n"
        "  The above exception was the direct cause of the following exception:\n"
        "  \n"
        "  Traceback (most recent call last):\n"
        "    ...\n"
        "  ValueError: no stock\n"
        "  of apples\n"
        "\n"
        "step 'gift' failed:\n"
        "  Traceback (most recent call last):\n"
        "    ...\n"
        "  ValueError: no stock\n"
        "\n"
        "compensation of step 'reserve' failed:\n"
        "  Traceback (most recent call last):\n"
        "    ...\n"
        "  OSError: gone"
    )
    assert 'raise ValueError("no stock\\nof apples") from error' in result.report()


def test_an_interrupt_carries_the_summary_as_a_note() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        Saga("s").add_task(step(noop, noop, name="a")).add_task(step(interrupt, noop)).execute(saga_id="x1")
    (note,) = caught.value.__notes__
    assert normal(note) == (
        "saga 's' (x1) failed and was undone at step 'interrupt': KeyboardInterrupt\n"
        "steps:\n"
        "  a          compensated (1 attempt, N ms)\n"
        "  interrupt  compensated (1 attempt, N ms)  KeyboardInterrupt"
    )


def test_a_step_to_ask_about_is_in_doubt_and_the_execution_stuck() -> None:
    class Interrupted(Task[None]):
        in_doubt = InDoubt.ASK

        def execute(self, context: Context) -> None:
            raise SystemExit(3)

        def compensate(self, context: Context) -> None:
            raise AssertionError("nobody asked")

    ended: list[str] = []
    saga = Saga("s", logger=lambda event, info: ended.append(type(event).__name__))
    with pytest.raises(SystemExit) as caught:
        saga.add_task(Interrupted).execute()
    assert ended[-1] == "SagaStuck"
    assert "in doubt: Interrupted" in caught.value.__notes__[0]
    assert "is stuck: step 'Interrupted' is in doubt (1 attempt): SystemExit: 3\n" in caught.value.__notes__[0]


def slow_saga(gate: threading.Event, end: Callable[[], Any] = noop, **policies: Any) -> Saga:
    def slow() -> Any:
        assert gate.wait(10)
        return end()

    return Saga("s").add_task(step(noop, noop, name="a")).add_task(step(slow, noop, timeout=0.02, **policies))


def test_a_result_with_a_straggler_is_a_snapshot(gate: threading.Event) -> None:
    result = slow_saga(gate).try_execute(saga_id="x1")
    assert (result.status, result.in_doubt, result.reason) == (Status.COMPENSATING, ("slow",), None)
    assert isinstance(result.error, StepTimeoutError)
    assert statuses(result) == {"a": "compensated", "slow": "timed_out"}
    assert normal(result.report()).startswith(
        "saga 's' (x1) failed and is not wholly undone yet at step 'slow': "
        "StepTimeoutError: step 'slow' took longer than its timeout of 0.02 s\n"
        "in doubt: slow\n"
    )
    gate.set()
    final = result.join(10)
    assert (final.status, final.in_doubt) == (Status.COMPENSATED, ())
    assert statuses(final) == {"a": "compensated", "slow": "compensated"}
    assert result.status is Status.COMPENSATING
    assert result.history[1].status is StepStatus.TIMED_OUT
    assert len(final.events) > len(result.events)


def test_a_straggler_that_raises_left_nothing_to_undo(gate: threading.Event) -> None:
    result = slow_saga(gate, fail).try_execute()
    gate.set()
    final = result.join(10)
    assert statuses(final) == {"a": "compensated", "slow": "failed"}
    assert final.status is Status.COMPENSATED


def test_a_straggler_whose_saga_went_on_keeps_it_from_being_terminal(gate: threading.Event) -> None:
    result = slow_saga(gate, on_error=Skip).add_task(step(noop, name="after")).execute()
    assert (result.status, result.ok, result.error) == (Status.RUNNING, False, None)
    assert result.in_doubt == ("slow",)
    assert statuses(result) == {"a": "succeeded", "slow": "skipped", "after": "succeeded"}
    gate.set()
    final = result.join(10)
    assert final.ok
    assert statuses(final)["slow"] == "compensated"


def test_waiting_ends_with_its_timeout(gate: threading.Event) -> None:
    result = slow_saga(gate).try_execute(saga_id="x1")
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^saga 's' \(x1\) is not terminal after 0\.05 s$"):
        result.join(0.05)
    with pytest.raises(TimeoutError, match=r"^saga 's' \(x1\) is not terminal after 0\.05 s$"):
        asyncio.run(result.ajoin(0.05))
    assert time.monotonic() - started >= 0.1
    with pytest.raises(TimeoutError):
        result.join(0)
    gate.set()
    assert result.join().join(0).status is Status.COMPENSATED


def test_waiting_from_many_threads(gate: threading.Event) -> None:
    result = slow_saga(gate).try_execute()
    got: list[Status] = []
    threads = [threading.Thread(target=lambda: got.append(result.join(10).status)) for _ in range(10)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert got == [Status.COMPENSATED] * 10


def test_the_report_of_an_exception_is_that_of_its_result(gate: threading.Event) -> None:
    with pytest.raises(SagaExecutionException) as caught:
        slow_saga(gate).execute()
    assert caught.value.in_doubt == ("slow",)
    assert str(caught.value) == caught.value.result.summary()  # type: ignore[union-attr]
    assert caught.value.report() == caught.value.result.report()  # type: ignore[union-attr]


def test_the_branches_of_a_group_are_told_in_the_order_declared() -> None:
    group = parallel(step(noop, name="b"), parallel(step(fail, name="c"), step(noop, noop, name="d")))
    result = Saga("s").add_task(group).add_task(step(noop, name="e")).try_execute()
    assert list(statuses(result)) == ["b", "c", "d", "e"]
    assert statuses(result) == {"b": "succeeded", "c": "failed", "d": "compensated", "e": "pending"}
