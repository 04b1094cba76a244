"""The heart, seen from outside: what a user writes and what becomes of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from saga import Context, Retry, Saga, Skip, Status, Task, parallel, sequence, step
from saga.errors import (
    MergeConflictError,
    SagaCompensationError,
    SagaDefinitionError,
    SagaExecutionException,
    SagaTimeoutError,
    StepTimeoutError,
)
from tests.kit import LONG, failures


class Recorder(Task[int]):
    """Logs what is called on it, and raises where it is told to."""

    def __init__(self, name: str, log: list[str], error: Any = None, undo_error: Any = None) -> None:
        self.name, self.log, self.error, self.undo_error = name, log, error, undo_error

    def execute(self, context: Context) -> int:
        self.log.append(self.name or "")
        if self.error is not None:
            raise self.error
        return len(self.log)

    def compensate(self, context: Context) -> None:
        self.log.append(f"-{self.name}")
        if self.undo_error is not None:
            raise self.undo_error


def test_what_a_task_puts_into_the_context_the_next_and_their_undoing_find() -> None:
    seen: list[int] = []

    def put(context: Context) -> None:
        context.total = 1

    def add(context: Context) -> None:
        context.total += 1

    def fail(context: Context) -> None:
        seen.append(context.total)
        raise ValueError

    saga = Saga("s").add_task(step(put, lambda context: seen.append(context.total), name="put"))
    context = Context()
    saga.add_task(step(add)).add_task(step(fail)).try_execute(context)
    assert seen == [2, 2]
    assert context.total == 2


@pytest.mark.parametrize(("count", "failing", "bad"), [(n, *case) for n in range(1, 6) for case in failures(n)])
def test_every_undo_is_tried_last_first_whatever_fails(count: int, failing: int, bad: tuple[int, ...]) -> None:
    log: list[str] = []
    saga = Saga("s")
    for i in range(count):
        saga.add_task(Recorder(str(i), log, ValueError(i) if i == failing else None, OSError(i) if i in bad else None))
    result = saga.try_execute()
    assert log == [str(i) for i in range(failing + 1)] + [f"-{i}" for i in reversed(range(failing))]
    assert result.status is (Status.STUCK if bad else Status.COMPENSATED)
    assert result.failed_step == str(failing)
    assert [e.step for e in result.compensation_errors] == [str(i) for i in reversed(bad)]
    assert isinstance(result.error, ValueError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, type("Odd", (BaseException,), {})])
@pytest.mark.parametrize("failing", range(4))
def test_an_interrupt_undoes_everything_and_is_raised_again(kind: type[BaseException], failing: int) -> None:
    log: list[str] = []
    saga = Saga("s")
    error = kind("stop")
    for i in range(4):
        saga.add_task(Recorder(str(i), log, error if i == failing else None, kind("again") if i == 1 else None))
    with pytest.raises(kind) as caught:
        saga.execute()
    assert caught.value is error
    assert log == [str(i) for i in range(failing + 1)] + [f"-{i}" for i in reversed(range(failing + 1))]


def test_a_failure_carries_task_cause_and_every_compensation_error() -> None:
    log: list[str] = []
    failing = Recorder("c", log, ValueError("no stock"))
    saga = Saga("s").add_task(Recorder("a", log, undo_error=OSError("gone"))).add_task(Recorder("b", log)).add_task(failing)
    with pytest.raises(SagaCompensationError) as caught:
        saga.execute()
    error = caught.value
    assert error.failed_task is failing
    assert isinstance(error.cause, ValueError)
    assert error.__cause__ is error.cause
    assert [str(e.error) for e in error.compensation_errors] == ["gone"]
    text = error.report()
    for part in ("no stock", "gone", "Traceback", "compensation of step 'a' failed", "a person must act"):
        assert part in text


def test_parallel_lets_running_siblings_end_and_undoes_them() -> None:
    log: list[str] = []
    started, go = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        assert go.wait(10)
        log.append("slow")

    def fail() -> None:
        assert started.wait(10)
        go.set()
        raise ValueError("no")

    saga = Saga("s").add_task(Recorder("first", log))
    saga.add_task(parallel(step(slow, lambda: log.append("-slow")), step(fail)))
    assert saga.try_execute().status is Status.COMPENSATED
    assert log == ["first", "slow", "-slow", "-first"]


def test_branches_that_disagree_on_a_key_are_undone() -> None:
    undone: list[int] = []

    def put(context: Context, value: int) -> None:
        context.total = value

    branches = [
        step(put, lambda value: undone.append(value), name=f"b{i}", kwargs={"value": i}, compensate_args=(i,)) for i in range(2)
    ]
    with pytest.raises(SagaExecutionException) as caught:
        Saga("s").add_task(parallel(*branches)).execute()
    assert isinstance(caught.value.cause, MergeConflictError)
    assert "'total'" in str(caught.value.cause)
    assert sorted(undone) == [0, 1]


def test_a_straggler_is_undone_only_when_it_has_ended() -> None:
    log: list[str] = []
    go = threading.Event()

    class Slow(Task[None]):
        timeout = 0.02

        def execute(self, context: Context) -> None:
            assert go.wait(10)
            assert context.step.cancelled
            log.append("slow ended")

        def compensate(self, context: Context) -> None:
            log.append("-slow")

    result = Saga("s").add_task(Recorder("a", log)).add_task(Slow()).try_execute()
    assert log == ["a", "-a"]
    assert result.status is Status.COMPENSATING
    assert result.in_doubt == ("Slow",)
    assert isinstance(result.error, StepTimeoutError)
    go.set()
    assert result.join(10).status is Status.COMPENSATED
    assert log == ["a", "-a", "slow ended", "-slow"]


def test_a_retry_waits_for_the_straggler_and_its_late_success_counts() -> None:
    calls: list[int] = []
    go = threading.Event()

    def slow(context: Context) -> str:
        calls.append(context.step.attempt)
        assert go.wait(10)
        return "late"

    threading.Timer(0.1, go.set).start()
    saga = Saga("s").add_task(step(slow, timeout=0.02, retry=Retry(3)))
    result = saga.execute()
    assert calls == [1]
    assert result.results == {"slow": "late"}


def test_the_deadline_starts_the_undo() -> None:
    log: list[str] = []
    go = threading.Event()
    saga = Saga("s", timeout=LONG).add_task(Recorder("a", log))
    saga.add_task(step(lambda: go.wait(10), lambda: log.append("-slow"), name="slow"))
    saga.add_task(Recorder("never", log))
    result = saga.try_execute()
    assert isinstance(result.error, SagaTimeoutError)
    assert log == ["a", "-a"]
    go.set()
    assert result.join(10).status is Status.COMPENSATED
    assert log == ["a", "-a", "-slow"]


def test_retries_count_attempts_and_skip_goes_on() -> None:
    attempts: list[tuple[int, str]] = []

    def flaky(context: Context) -> None:
        attempts.append((context.step.attempt, context.step.idempotency_key))
        raise ConnectionError("down")

    saga = Saga("s").add_task(step(flaky, on_error=Retry(3, then=Skip))).add_task(step(lambda: 1, name="after"))
    result = saga.execute(saga_id="x1")
    assert attempts == [(1, "s/x1/flaky"), (2, "s/x1/flaky"), (3, "s/x1/flaky")]
    assert [record.status for record in result.history] == ["skipped", "succeeded"]


def test_one_saga_serves_two_hundred_threads() -> None:
    def put(context: Context) -> int:
        context.twice = context.n * 2
        return context.n

    saga = Saga("s").add_task(step(put)).add_task(parallel(step(put, name="p"), step(lambda: 0, name="q")))
    seen: list[tuple[int, int]] = []

    def run(n: int) -> None:
        result = saga.execute(Context(n=n))
        seen.append((result.context.twice, result.results["p"]))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(2 * n, n) for n in range(200)]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Saga("s").plan, "no steps"),
        (lambda: Saga("s").add_task(step(len, args=([],))).add_task(step(len, args=([],))).plan, "used twice"),
        (lambda: Saga("s").add_task(parallel(step(lambda: 1))).plan, "at least two"),
        (lambda: Saga("s").add_task(step(lambda: 1, timeout=-1)).plan, "timeout"),
        (lambda: Saga("s").add_task(3), "not a task"),
        (lambda: Saga("s").add_task(lambda: 1), "wrap a function"),
        (lambda: sequence(), None),
    ],
)
def test_a_wrong_definition_is_refused_before_anything_runs(build: Any, text: str | None) -> None:
    if text is None:
        build = Saga("s").add_task(build()).execute
        text = "no steps"
    with pytest.raises(SagaDefinitionError, match=text):
        build()


def test_a_saga_with_async_tasks_runs_from_a_script_and_refuses_to_block_an_event_loop() -> None:
    async def later() -> int:
        return 5

    saga = Saga("s").add_task(step(later))
    assert saga.execute().results == {"later": 5}

    async def within(method: str, *args: str) -> None:
        getattr(saga, method)(*args)

    for call in (("execute",), ("undo", "x", "why")):
        with pytest.raises(SagaDefinitionError, match=rf"an event loop runs: use `await saga\.a{call[0]}\(\.\.\.\)`"):
            asyncio.run(within(*call))
    with pytest.raises(SagaDefinitionError, match="async for record in saga"):
        saga.stream()


def test_a_generator_function_is_refused() -> None:
    def later() -> Any:
        yield 1

    with pytest.raises(SagaDefinitionError, match="yields; a task returns its result"):
        _ = Saga("s").add_task(step(later)).plan


@pytest.mark.parametrize("seconds", [1e10, 1e300])
def test_a_wait_longer_than_a_thread_can_wait_is_waited_for_in_parts(seconds: float) -> None:
    assert Saga("s", timeout=seconds).add_task(step(lambda: 1, name="a", timeout=seconds)).execute().ok


def test_a_backoff_that_raises_or_returns_nonsense_fails_the_step() -> None:
    class Wrong:
        def __init__(self, delay: Any) -> None:
            self.given = delay

        def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
            if isinstance(self.given, Exception):
                raise self.given
            return self.given  # type: ignore[no-any-return]

    def fail() -> None:
        raise ValueError("first")

    for given, kind in (
        (RuntimeError("no backoff"), RuntimeError),
        ("1", TypeError),
        (-1.0, TypeError),
        (float("nan"), TypeError),
    ):
        result = Saga("s").add_task(step(fail, retry=Retry(3, Wrong(given)))).try_execute()
        assert result.status is Status.COMPENSATED
        assert isinstance(result.error, kind)
        assert "after: ValueError('first')" in result.error.__notes__[0]


def test_a_stream_yields_a_record_after_each_step() -> None:
    log: list[str] = []
    saga = Saga("s").add_task(Recorder("a", log)).add_task(Recorder("b", log, ValueError("no")))
    seen = []
    stream = saga.stream()
    for _ in range(3):
        record = next(stream)
        seen.append((record.name, str(record.status)))
    with pytest.raises(SagaExecutionException):
        next(stream)
    assert seen == [("a", "succeeded"), ("b", "failed"), ("a", "compensated")]
