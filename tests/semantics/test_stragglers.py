"""Semantic 4: a step that outlives its timeout is in doubt, and is undone only when its execute has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from saga import Context, Retry, Saga, Skip, Status, parallel, sequence
from saga.errors import SagaCompensationError, SagaExecutionException, StepTimeoutError
from saga.events import CompensationStarted, RetryScheduled, StepFailed, StepSkipped, StepStarted, StepSucceeded, StepTimedOut
from tests.kit import LONG, PATIENCE, SHORT, on, until


class Slow:
    """What a slow step does: wait until it is let go, then end as it was told."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.go = threading.Event()
        self.error: BaseException | None = None
        self.seen: list[tuple[bool, float | None]] = []

    def __call__(self, context: Context) -> None:
        assert self.go.wait(PATIENCE)
        self.seen.append((context.step.cancelled, context.step.deadline))
        context.late = "from the late step"
        self.log.append("ended")
        if self.error is not None:
            raise self.error


@pytest.fixture
def slow(log: list[str]) -> Iterator[Slow]:
    slow = Slow(log)
    yield slow
    slow.go.set()


def test_the_rest_is_undone_at_once_and_the_straggler_when_it_has_ended(make: Any, log: list[str], slow: Slow) -> None:
    saga = Saga("s").add_task(make("a")).add_task(make("b")).add_task(make("slow", slow, timeout=SHORT)).add_task(make("never"))
    with pytest.raises(SagaExecutionException) as caught:
        saga.execute()
    result = caught.value.result
    assert result is not None
    assert log == ["a", "b", "slow", "-b", "-a"]
    assert result.status is Status.COMPENSATING
    assert not result.status.terminal
    assert result.in_doubt == caught.value.in_doubt == ("slow",)
    assert "in doubt: slow" in str(caught.value)
    assert isinstance(result.error, StepTimeoutError)
    assert result.history[2].status == "timed_out"
    slow.go.set()
    after = result.join(PATIENCE)
    assert log == ["a", "b", "slow", "-b", "-a", "ended", "-slow"]
    assert after.status is Status.COMPENSATED
    assert after.in_doubt == ()
    assert after.history[2].status == "compensated"
    assert result.status is Status.COMPENSATING  # a result is a snapshot


def test_waiting_for_the_end_gives_up_in_time_and_can_be_repeated(make: Any, slow: Slow) -> None:
    result = Saga("s").add_task(make("slow", slow, timeout=SHORT)).try_execute()
    with pytest.raises(TimeoutError, match="not terminal"):
        result.join(0.01)
    slow.go.set()
    assert result.join().status is result.join(1).status is Status.COMPENSATED


def test_a_terminal_result_needs_no_waiting(make: Any) -> None:
    assert Saga("s").add_task(make("a")).try_execute().join(0).ok


@pytest.mark.parametrize("undo_own", [False, True], ids=["plain", "compensate_on_failure"])
def test_a_straggler_that_raises_left_nothing_to_undo_unless_it_says_so(
    make: Any, log: list[str], slow: Slow, undo_own: bool
) -> None:
    slow.error = ValueError("late")
    saga = Saga("s").add_task(make("a")).add_task(make("slow", slow, timeout=SHORT, compensate_on_failure=undo_own))
    result = saga.try_execute()
    slow.go.set()
    after = result.join(PATIENCE)
    assert log == ["a", "slow", "-a", "ended"] + (["-slow"] if undo_own else [])
    assert after.status is Status.COMPENSATED
    assert isinstance(after.error, StepTimeoutError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_straggler_that_is_interrupted_is_undone(make: Any, log: list[str], slow: Slow, kind: type[BaseException]) -> None:
    slow.error = kind("late")
    result = Saga("s").add_task(make("a")).add_task(make("slow", slow, timeout=SHORT)).try_execute()
    slow.go.set()
    with pytest.raises(kind, match="late") as caught:  # raised again where somebody waits for the end
        result.join(PATIENCE)
    assert "failed and was undone" in caught.value.__notes__[0]
    assert log == ["a", "slow", "-a", "ended", "-slow"]


def test_a_straggler_whose_undo_fails_leaves_the_saga_stuck(make: Any, slow: Slow) -> None:
    result = Saga("s").add_task(make("slow", slow, OSError("no undo"), timeout=SHORT)).try_execute()
    slow.go.set()
    after = result.join(PATIENCE)
    assert after.status is Status.STUCK
    assert [e.step for e in after.compensation_errors] == ["slow"]


def test_undo_is_never_begun_while_execute_runs(make: Any, watch: Any, slow: Slow) -> None:
    running = threading.Event()
    overlapped = []

    def work(context: Context) -> None:
        running.set()
        try:
            slow(context)
        finally:
            running.clear()

    saga = Saga("s", logger=watch).add_task(make("a"))
    saga.add_task(make("slow", work, lambda context: overlapped.append(running.is_set()), timeout=SHORT))
    result = saga.try_execute()
    assert running.is_set()
    slow.go.set()
    result.join(PATIENCE)
    assert overlapped == [False]
    assert watch.at(StepSucceeded, "slow") < watch.at(CompensationStarted, "slow")


def test_a_straggler_that_ends_during_the_undo_of_the_rest_is_undone_too(make: Any, log: list[str], slow: Slow) -> None:
    def let_it_end(context: Context) -> None:
        slow.go.set()
        log.append("-a waits")
        until(lambda: "ended" in log)

    saga = Saga("s").add_task(make("b")).add_task(make("a", None, let_it_end)).add_task(make("slow", slow, timeout=SHORT))
    result = saga.try_execute().join(PATIENCE)
    assert log[:6] == ["b", "a", "slow", "-a", "-a waits", "ended"]
    assert sorted(log[6:]) == ["-b", "-slow"]
    assert result.status is Status.COMPENSATED


def test_two_stragglers_are_each_undone_when_they_end(make: Any, log: list[str]) -> None:
    one, two = Slow(log), Slow(log)
    saga = Saga("s").add_task(make("a")).add_task(parallel(make("x", one, timeout=SHORT), make("y", two, timeout=SHORT)))
    result = saga.try_execute()
    assert sorted(result.in_doubt) == ["x", "y"]
    assert log[3:] == ["-a"]
    two.go.set()
    until(lambda: "-y" in log)
    assert log[4:] == ["ended", "-y"]
    with pytest.raises(TimeoutError):
        result.join(0)
    one.go.set()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log[6:] == ["ended", "-x"]


def test_a_sibling_is_let_end_before_anything_is_undone(make: Any, log: list[str], slow: Slow) -> None:
    go = threading.Event()

    def sibling(context: Context) -> None:
        assert go.wait(PATIENCE)
        log.append("sibling ended")

    saga = Saga("s", logger=on(StepTimedOut, go.set)).add_task(make("a"))
    saga.add_task(parallel(make("slow", slow, timeout=SHORT), sequence(make("b", sibling), make("never"))))
    result = saga.try_execute()
    assert log[3:] == ["sibling ended", "-b", "-a"]
    slow.go.set()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log[6:] == ["ended", "-slow"]


def test_a_late_success_counts_where_attempts_are_left(make: Any, log: list[str], watch: Any, slow: Slow) -> None:
    saga = Saga("s", logger=[watch, on(StepTimedOut, slow.go.set)])
    saga.add_task(make("slow", slow, timeout=SHORT, retry=Retry(3))).add_task(make("b"))
    result = saga.execute()
    assert log == ["slow", "ended", "b"]
    assert [e.attempt for e in watch.of(StepStarted)] == [1, 1]
    assert not watch.of(RetryScheduled)
    assert result.context.late == "from the late step"
    assert result.results["slow"] == "result of slow"
    assert result.history[0].status == "succeeded"


def test_a_retry_waits_until_the_straggler_has_raised(make: Any, log: list[str], watch: Any) -> None:
    go = threading.Event()
    running: list[int] = []
    most: list[int] = []

    def first_is_late(context: Context) -> None:
        running.append(context.step.attempt)
        most.append(len(running))
        if context.step.attempt == 1:
            assert go.wait(PATIENCE)
            running.remove(1)
            raise ConnectionError("late")
        running.remove(context.step.attempt)

    saga = Saga("s", logger=[watch, on(StepTimedOut, go.set)])
    saga.add_task(make("slow", first_is_late, timeout=LONG, retry=Retry(2)))
    assert saga.execute().ok
    assert log == ["slow", "slow"]
    assert most == [1, 1]  # never two at once
    order = [type(e).__name__ for e in watch.events]
    assert order == [
        *("SagaStarted", "StepStarted", "StepTimedOut", "StepFailed", "RetryScheduled", "StepStarted", "StepSucceeded"),
        "SagaCompleted",
    ]


def test_a_late_error_that_is_not_retried_fails_the_step(make: Any, log: list[str], slow: Slow) -> None:
    slow.error = ValueError("late")
    retry = Retry(3, retry_on=(StepTimeoutError,))
    saga = Saga("s", logger=on(StepTimedOut, slow.go.set)).add_task(make("a"))
    result = saga.add_task(make("slow", slow, timeout=SHORT, retry=retry)).try_execute()
    assert result.error is slow.error
    assert log == ["a", "slow", "ended", "-a"]


def test_a_timeout_that_is_not_retried_fails_at_once(make: Any, log: list[str], slow: Slow) -> None:
    retry = Retry(3, retry_on=(ConnectionError,))
    result = Saga("s").add_task(make("slow", slow, timeout=SHORT, retry=retry)).try_execute()
    assert isinstance(result.error, StepTimeoutError)
    assert result.in_doubt == ("slow",)


def test_a_straggler_with_attempts_left_is_not_retried_once_the_saga_gave_up(make: Any, log: list[str], slow: Slow) -> None:
    slow.error = ConnectionError("late")
    timed_out = threading.Event()
    saga = Saga("s", logger=on(StepTimedOut, timed_out.set))
    bad = make("bad", lambda context: (timed_out.wait(PATIENCE), 1 / 0))
    result = saga.add_task(parallel(make("slow", slow, timeout=SHORT, retry=Retry(3)), bad)).try_execute()
    assert result.in_doubt == ("slow",)
    slow.go.set()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log.count("slow") == 1


@pytest.mark.parametrize("late", ["success", "raises", "raises, undone"])
def test_a_skipped_straggler_is_undone_when_it_ends_and_its_changes_stay_unseen(
    make: Any, log: list[str], watch: Any, slow: Slow, late: str
) -> None:
    slow.error = None if late == "success" else ValueError("late")
    policies = {"timeout": SHORT, "on_error": Skip, "compensate_on_failure": late == "raises, undone"}
    seen = []
    task = make("slow", slow, lambda context: seen.append(context.late), **policies)
    saga = Saga("s", logger=watch).add_task(make("a")).add_task(task).add_task(make("b"))
    result = saga.execute()
    assert log == ["a", "slow", "b"]
    assert watch.of(StepSkipped)
    assert result.status is Status.RUNNING  # a saga with an open straggler is not yet terminal
    assert result.in_doubt == ("slow",)
    slow.go.set()
    after = result.join(PATIENCE)
    assert log == ["a", "slow", "b", "ended"] + ([] if late == "raises" else ["-slow"])
    assert seen == ([] if late == "raises" else ["from the late step"])
    assert after.status is Status.COMPLETED
    assert after.error is None
    assert "late" not in after.context
    assert after.in_doubt == ()


def test_a_skipped_straggler_may_end_and_be_undone_while_the_saga_goes_on(make: Any, log: list[str], slow: Slow) -> None:
    undone = threading.Event()

    def until_undone(context: Context) -> None:
        slow.go.set()
        assert undone.wait(PATIENCE)
        log.append("b ended")

    saga = Saga("s").add_task(make("slow", slow, lambda context: undone.set(), timeout=SHORT, on_error=Skip))
    result = saga.add_task(make("b", until_undone)).add_task(make("c")).execute()
    assert log == ["slow", "b", "ended", "-slow", "b ended", "c"]
    assert result.status is Status.COMPLETED
    assert "late" not in result.context


def test_a_skipped_straggler_of_a_failing_saga_is_undone_when_it_ends(make: Any, log: list[str], slow: Slow) -> None:
    saga = Saga("s").add_task(make("a")).add_task(make("slow", slow, timeout=SHORT, on_error=Skip))
    result = saga.add_task(make("bad", ValueError())).try_execute()
    assert log == ["a", "slow", "bad", "-a"]
    assert result.in_doubt == ("slow",)
    slow.go.set()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log[4:] == ["ended", "-slow"]


def test_a_failed_undo_of_a_skipped_straggler_leaves_the_saga_stuck(make: Any, slow: Slow) -> None:
    saga = Saga("s", logger=on(StepSkipped, slow.go.set))
    task = make("slow", slow, OSError("no undo"), timeout=SHORT, on_error=Skip)
    result = saga.add_task(task).add_task(make("b")).try_execute().join(PATIENCE)
    assert result.status is Status.STUCK
    assert "slow" in str(result.reason)


def test_what_a_given_up_straggler_changes_is_seen_by_its_own_undo_alone(make: Any, log: list[str], slow: Slow) -> None:
    seen: dict[str, Any] = {}

    def note(context: Context) -> None:
        seen[context.step.name] = context.get("late")

    saga = Saga("s").add_task(make("a", None, note)).add_task(make("slow", slow, note, timeout=SHORT))
    result = saga.try_execute()
    slow.go.set()
    after = result.join(PATIENCE)
    assert seen == {"a": None, "slow": "from the late step"}
    assert "late" not in after.context


def test_a_task_can_see_its_deadline_and_that_nobody_waits_any_more(make: Any, slow: Slow) -> None:
    before: list[tuple[bool, float | None]] = []

    def work(context: Context) -> None:
        before.append((context.step.cancelled, context.step.deadline))
        slow(context)

    began = time.time()
    result = Saga("s").add_task(make("slow", work, timeout=LONG)).try_execute()
    ended = time.time()
    slow.go.set()
    result.join(PATIENCE)
    assert before[0][0] is False
    assert before[0][1] is not None
    assert began + LONG <= before[0][1] <= ended + 0.001  # it was over, as its caller saw it
    assert slow.seen == [(True, before[0][1])]


def test_a_step_without_a_timeout_has_no_deadline_and_is_not_cancelled(make: Any) -> None:
    seen = []
    task = make("a", lambda context: seen.append((context.step.cancelled, context.step.deadline)))
    Saga("s").add_task(task).execute()
    assert seen == [(False, None)]


def test_a_step_within_its_timeout_is_a_plain_success(make: Any, watch: Any) -> None:
    def put(context: Context) -> None:
        context.key = 1

    result = Saga("s", logger=watch).add_task(make("a", put, timeout=60)).execute()
    assert result.context.key == 1
    assert not watch.of(StepTimedOut, StepFailed)


def test_a_failed_attempt_under_a_timeout_leaves_none_of_its_changes(make: Any) -> None:
    def half(context: Context) -> None:
        context.things.append(context.step.attempt)
        if context.step.attempt == 1:
            raise ValueError("half way")

    saga = Saga("s").add_task(make("a", half, timeout=60, retry=Retry(2)))
    assert saga.execute(Context(things=[])).context.things == [2]


def test_the_undo_has_no_timeout(make: Any, log: list[str]) -> None:
    """A compensation takes as long as it takes: the step's timeout is for execute."""

    def long(context: Context) -> None:
        time.sleep(2 * LONG)
        log.append("undo ended")

    saga = Saga("s").add_task(make("a", None, long, timeout=LONG)).add_task(make("bad", ValueError()))
    assert saga.try_execute().status is Status.COMPENSATED
    assert log == ["a", "bad", "-a", "undo ended"]


def test_a_failed_undo_beside_a_straggler_is_reported_when_all_has_ended(make: Any, slow: Slow) -> None:
    saga = Saga("s").add_task(make("a", None, OSError("no undo"))).add_task(make("slow", slow, timeout=SHORT))
    with pytest.raises(SagaCompensationError) as caught:
        saga.execute()
    result = caught.value.result
    assert result is not None
    assert result.status is Status.COMPENSATING
    slow.go.set()
    assert result.join(PATIENCE).status is Status.STUCK
