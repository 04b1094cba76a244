"""What a saga does whichever driver runs it, and whether its tasks are ``async def`` or plain."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from saga import Context, ExponentialBackoff, InDoubt, Retry, Skip, Status, StepStatus, parallel, sequence, step
from saga.errors import MergeConflictError, SagaCompensationError, SagaExecutionException, SagaTimeoutError, StepTimeoutError
from saga.events import RetryScheduled, StepFailed, StepSucceeded, StepTimedOut
from tests.kit import LONG, PATIENCE, SHORT, Odd, failures, on

INTERRUPTS = [KeyboardInterrupt, SystemExit, Odd]

# -- the order of the undo --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failing", "bad"), failures(4))
@pytest.mark.parametrize("watched", [False, True], ids=["quiet", "watched"])
def test_every_undo_is_tried_last_first_whatever_fails(
    kit: Any, watch: Any, failing: int, bad: tuple[int, ...], watched: bool
) -> None:
    saga = kit.saga(logger=watch if watched else None)
    for i in range(4):
        saga.add_task(kit.task(str(i), ValueError(i) if i == failing else None, OSError(i) if i in bad else None))
    result = kit.run(saga)
    assert kit.log == [str(i) for i in range(failing + 1)] + [f"-{i}" for i in reversed(range(failing))]
    assert result.status is (Status.STUCK if bad else Status.COMPENSATED)
    assert result.failed_step == str(failing)
    assert isinstance(result.error, ValueError)
    assert [error.step for error in result.compensation_errors] == [str(i) for i in reversed(bad)]


def test_execute_raises_what_happened_with_its_cause(kit: Any) -> None:
    saga = kit.saga(kit.task("a"), kit.task("b", ValueError("no stock")))
    with pytest.raises(SagaExecutionException, match="no stock") as caught:
        kit.execute(saga)
    assert type(caught.value) is SagaExecutionException
    assert isinstance(caught.value.__cause__, ValueError)
    saga = kit.saga(kit.task("a", None, OSError("gone")), kit.task("b", ValueError("no stock")))
    with pytest.raises(SagaCompensationError, match="gone"):
        kit.execute(saga)


def test_a_task_that_never_failed_tells_its_results_and_changes(kit: Any) -> None:
    result = kit.execute(kit.saga(kit.task("a", lambda context: context.update(x=1)), kit.task("b")), {"y": 2})
    assert result.results == {"a": "result of a", "b": "result of b"}
    assert result.context == {"x": 1, "y": 2}
    assert kit.log == ["a", "b"]


def test_the_same_events_are_told_in_the_same_order(kit: Any, watch: Any) -> None:
    saga = kit.saga(kit.task("a"), kit.task("b", None, OSError()), kit.task("c", ValueError()), logger=watch)
    result = kit.run(saga)
    assert watch.told() == [
        "SagaStarted",
        "StepStarted a",
        "StepSucceeded a",
        "StepStarted b",
        "StepSucceeded b",
        "StepStarted c",
        "StepFailed c",
        "SagaCompensating c",
        "CompensationStarted b",
        "CompensationFailed b",
        "CompensationStarted a",
        "CompensationSucceeded a",
        "SagaStuck",
    ]
    assert list(result.events) == watch.events


def test_what_nobody_watched_is_told_alike_afterwards(kit: Any, watch: Any) -> None:
    def saga(**options: Any) -> Any:
        return kit.saga(kit.task("a"), kit.task("b"), kit.task("c", ValueError()), **options)

    kit.run(saga(logger=watch))
    quiet = kit.run(saga())
    assert [(type(e), getattr(e, "step", None), getattr(e, "attempt", None)) for e in quiet.events] == [
        (type(e), getattr(e, "step", None), getattr(e, "attempt", None)) for e in watch.events
    ]


def test_stop_on_compensation_failure_leaves_the_steps_before(kit: Any) -> None:
    tasks = kit.task("a"), kit.task("b", None, OSError()), kit.task("c"), kit.task("d", ValueError())
    result = kit.run(kit.saga(*tasks, stop_on_compensation_failure=True))
    assert kit.log == ["a", "b", "c", "d", "-c", "-b"]
    assert result.status is Status.STUCK
    assert "not compensated: a" in str(result.reason)


def test_the_handler_of_failed_compensations_is_told_each_and_may_raise(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[int, str, str]] = []

    def handler(context: Context, name: str, error: BaseException) -> None:
        told.append((context.x, name, str(error)))
        raise RuntimeError("the handler is broken")

    tasks = kit.task("a", None, OSError("1")), kit.task("b"), kit.task("c", None, OSError("3")), kit.task("d", ValueError())
    result = kit.run(kit.saga(*tasks, on_compensation_failure=handler), {"x": 5})
    assert told == [(5, "c", "3"), (5, "a", "1")]
    assert kit.log == ["a", "b", "c", "d", "-c", "-b", "-a"]
    assert result.status is Status.STUCK
    assert "the handler is broken" in caplog.text


@pytest.mark.parametrize("wanted", [False, True])
def test_the_failing_step_is_undone_first_where_it_wants_to_be(kit: Any, wanted: bool) -> None:
    kit.run(kit.saga(kit.task("a"), kit.task("b", ValueError(), compensate_on_failure=wanted)))
    assert kit.log == ["a", "b", "-b", "-a"] if wanted else ["a", "b", "-a"]


def test_steps_without_compensation_are_passed_over(kit: Any) -> None:
    kit.run(kit.saga(kit.task("a"), kit.task("b", undo=False), kit.task("c"), kit.task("d", ValueError())))
    assert kit.log == ["a", "b", "c", "d", "-c", "-a"]


def test_sagas_in_sagas_are_undone_as_one(kit: Any) -> None:
    inner = kit.saga(kit.task("b"), kit.task("c"))
    result = kit.run(kit.saga(kit.task("a"), inner, kit.task("d", ValueError())))
    assert kit.log == ["a", "b", "c", "d", "-c", "-b", "-a"]
    assert [record.name for record in result.history] == ["a", "s/b", "s/c", "d"]


# -- retries ----------------------------------------------------------------------------------------------------------


def failing_until(attempt: int, error: type[BaseException] = OSError) -> Any:
    def act(context: Context) -> None:
        if context.step.attempt < attempt:
            raise error(context.step.attempt)

    return act


@pytest.mark.parametrize("succeeds_at", [1, 2, 3, 4])
def test_a_step_is_attempted_as_often_as_its_policy_says(kit: Any, succeeds_at: int) -> None:
    result = kit.run(kit.saga(kit.task("a"), kit.task("b", failing_until(succeeds_at), retry=Retry(3)), kit.task("c")))
    assert result.ok is (succeeds_at <= 3)
    assert kit.log.count("b") == min(succeeds_at, 3)
    assert kit.log[-1] == ("c" if result.ok else "-a")
    assert result.history[1].attempts == min(succeeds_at, 3)


def test_only_the_exceptions_named_are_retried(kit: Any) -> None:
    result = kit.run(kit.saga(kit.task("b", failing_until(3, KeyError), retry=Retry(3, retry_on=OSError))))
    assert kit.log == ["b"]
    assert isinstance(result.error, KeyError)


def test_the_waits_are_the_backoffs_and_are_waited_for(kit: Any, watch: Any) -> None:
    retry = Retry(4, backoff=ExponentialBackoff(0.01, factor=2.0))
    kit.execute(kit.saga(kit.task("b", failing_until(4), retry=retry), logger=watch))
    scheduled = watch.of(RetryScheduled)
    assert [event.delay for event in scheduled] == [0.01, 0.02, 0.04]
    assert watch.events[-1].at - watch.events[0].at >= 0.07


def test_jitter_is_the_same_for_the_same_execution(kit: Any) -> None:
    retry = Retry(3, backoff=ExponentialBackoff(0.001, jitter=True))
    delays = [
        [
            e.delay
            for e in kit.run(kit.saga(kit.task("b", OSError(), retry=retry)), saga_id=key).events
            if type(e) is RetryScheduled
        ]
        for key in ("one", "one", "two")
    ]
    assert delays[0] == delays[1] != delays[2]


@pytest.mark.parametrize("succeeds_at", [1, 2, 3])
def test_a_compensation_is_retried_too(kit: Any, succeeds_at: int) -> None:
    undone = failing_until(succeeds_at)
    tasks = (
        kit.task("a"),
        kit.task("b", None, undone, compensation_retry=Retry(2, 0.001)),
        kit.task("c", ValueError()),
    )
    result = kit.run(kit.saga(*tasks))
    assert kit.log == ["a", "b", "c", *["-b"] * min(succeeds_at, 2), "-a"]
    assert result.status is (Status.COMPENSATED if succeeds_at <= 2 else Status.STUCK)


def test_a_backoff_that_raises_fails_the_step(kit: Any) -> None:
    class Broken:
        def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
            raise ZeroDivisionError("the backoff is broken")

    result = kit.run(kit.saga(kit.task("a"), kit.task("b", OSError("first"), retry=Retry(3, Broken()))))
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, ZeroDivisionError)
    assert "first" in result.error.__notes__[0]


@pytest.mark.parametrize("policy", [Skip, Retry(2, then=Skip)], ids=["at once", "after a retry"])
def test_a_skipped_step_leaves_no_result_and_the_saga_goes_on(kit: Any, policy: Any) -> None:
    result = kit.run(kit.saga(kit.task("a"), kit.task("b", OSError(), on_error=policy), kit.task("c")))
    assert result.ok
    assert kit.log == ["a", *["b"] * (2 if policy is not Skip else 1), "c"]
    assert set(result.results) == {"a", "c"}
    assert [record.status for record in result.history] == [StepStatus.SUCCEEDED, StepStatus.SKIPPED, StepStatus.SUCCEEDED]


@pytest.mark.parametrize("timeout", [None, PATIENCE], ids=["here", "beside"])
def test_every_attempt_and_every_undo_has_the_same_keys(kit: Any, timeout: float | None) -> None:
    keys = []

    def act(context: Context) -> None:
        keys.append((context.step.idempotency_key, context.step.compensation_key))
        failing_until(2)(context)

    b = kit.task("b", act, act, retry=Retry(2), compensation_retry=Retry(2), timeout=timeout)
    result = kit.run(kit.saga(parallel(b, kit.task("c")), kit.task("d", ValueError())), saga_id="o/1")
    assert result.status is Status.COMPENSATED
    assert keys == [("s/o%2F1/b", "s/o%2F1/b#compensate")] * 4


# -- timeouts ---------------------------------------------------------------------------------------------------------


def test_a_plain_step_beyond_its_timeout_is_undone_only_when_it_has_ended(plain_kit: Any, gate: Any) -> None:
    kit = plain_kit

    def then(first: Any) -> None:
        assert first.status is Status.COMPENSATING
        assert first.in_doubt == ("b",)
        assert isinstance(first.error, StepTimeoutError)
        assert kit.log == ["a", "b", "-a"]
        gate.open()

    result = kit.run_to_end(kit.saga(kit.task("a"), kit.task("b", gate, timeout=SHORT), kit.task("c")), then)
    assert kit.log == ["a", "b", "-a", "-b"]
    assert result.status is Status.COMPENSATED
    assert result.in_doubt == ()


def test_an_async_step_is_cancelled_at_its_timeout_and_undone(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    result = kit.run(kit.saga(kit.task("a"), kit.task("b", gate, timeout=SHORT), kit.task("c")))
    assert kit.log == ["a", "b", "-b", "-a"]
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, StepTimeoutError)
    assert result.failed_step == "b"


def test_a_step_to_ask_about_that_timed_out_leaves_the_saga_stuck(async_kit: Any, gate: Any) -> None:
    kit = async_kit
    result = kit.run(kit.saga(kit.task("a"), kit.task("b", gate, timeout=SHORT, in_doubt=InDoubt.ASK)))
    assert kit.log == ["a", "b", "-a"]
    assert result.status is Status.STUCK
    assert result.in_doubt == ("b",)


def test_a_timeout_is_retried_and_the_attempts_before_leave_nothing_to_undo(async_kit: Any, gate: Any) -> None:
    kit = async_kit

    async def slow_once(context: Context) -> None:
        context.update({f"attempt {context.step.attempt}": True})
        if context.step.attempt == 1:
            await gate.ahold()

    task = kit.task("b", slow_once, timeout=LONG, retry=Retry(2))
    result = kit.run(kit.saga(kit.task("a"), task, kit.task("c", ValueError())))
    assert kit.log == ["a", "b", "b", "c", "-b", "-a"]
    assert result.context == {"attempt 2": True}


def test_a_late_success_of_a_plain_step_with_attempts_left_is_a_success(plain_kit: Any, gate: Any) -> None:
    kit = plain_kit
    slow = kit.task("b", gate, timeout=SHORT, retry=Retry(2))
    result = kit.run(kit.saga(kit.task("a"), slow, kit.task("c"), logger=on(StepTimedOut, gate.open)))
    assert result.ok
    assert kit.log == ["a", "b", "c"]


def test_a_skipped_straggler_is_undone_and_the_saga_goes_on(kit: Any, gate: Any) -> None:
    result = kit.run_to_end(
        kit.saga(kit.task("a"), kit.task("b", gate, timeout=SHORT, on_error=Skip), kit.task("c")), lambda first: gate.open()
    )
    assert result.status is Status.COMPLETED
    assert kit.log.index("-b") > kit.log.index("b")
    assert sorted(kit.log) == ["-b", "a", "b", "c"]
    assert kit.log.count("-b") == 1


def test_the_undo_has_no_timeout(kit: Any) -> None:
    def slow(context: Context) -> None:
        threading.Event().wait(2 * LONG)

    result = kit.run(kit.saga(kit.task("a", None, slow, timeout=LONG), kit.task("b", ValueError())))
    assert result.status is Status.COMPENSATED


def test_a_task_sees_its_deadline(kit: Any) -> None:
    seen: list[Any] = []
    kit.run(kit.saga(kit.task("a", lambda context: seen.append(context.step.deadline), timeout=100.0), logger=None))
    kit.run(kit.saga(kit.task("a", lambda context: seen.append(context.step.deadline))))
    assert seen[0] is not None
    assert seen[1] is None


# -- the saga's deadline ----------------------------------------------------------------------------------------------


def test_the_deadline_starts_the_undo_and_a_running_plain_step_is_a_straggler(plain_kit: Any, gate: Any) -> None:
    kit = plain_kit

    def then(first: Any) -> None:
        assert isinstance(first.error, SagaTimeoutError)
        assert first.in_doubt == ("b",)
        gate.open()

    result = kit.run_to_end(kit.saga(kit.task("a"), kit.task("b", gate), kit.task("c"), timeout=LONG), then)
    assert kit.log == ["a", "b", "-a", "-b"]
    assert result.status is Status.COMPENSATED


def test_the_deadline_ends_the_wait_for_a_retry(kit: Any) -> None:
    saga = kit.saga(kit.task("a"), kit.task("b", OSError(), retry=Retry(9, 3600.0)), timeout=LONG)
    result = kit.run(saga)
    assert kit.log == ["a", "b", "-a"]
    assert isinstance(result.error, SagaTimeoutError)


def test_the_deadline_interrupts_no_undo(kit: Any) -> None:
    def slow(context: Context) -> None:
        threading.Event().wait(2 * LONG)

    result = kit.run(kit.saga(kit.task("a", None, slow), kit.task("b", ValueError()), timeout=LONG))
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, ValueError)
    assert kit.log == ["a", "b", "-a"]


def test_a_saga_in_time_notices_nothing_of_its_deadline(kit: Any) -> None:
    assert kit.run(kit.saga(kit.task("a"), kit.task("b"), timeout=60.0)).ok


# -- groups -----------------------------------------------------------------------------------------------------------


def test_branches_run_at_the_same_time_and_their_changes_are_merged(kit: Any, gates: Any) -> None:
    here, there = gates(), gates()
    one = kit.task("b", (here.open, there, lambda context: context.update(x=list(context))))
    two = kit.task("c", (there.open, here, lambda context: context.update(y=list(context))))
    result = kit.run(kit.saga(kit.task("a", lambda context: context.update(z=1)), parallel(one, two), kit.task("d")))
    assert result.ok
    assert result.context == {"z": 1, "x": ["z"], "y": ["z"]}


def test_a_slow_sibling_of_a_failing_branch_is_let_end_and_undone(kit: Any, gates: Any) -> None:
    begun, go = gates(), gates()
    slow = sequence(kit.task("slow", (begun.open, go)), kit.task("never"))
    bad = kit.task("bad", (begun, ValueError()))
    result = kit.run(kit.saga(kit.task("a"), parallel(slow, bad), kit.task("z"), logger=on(StepFailed, go.open)))
    assert sorted(kit.log[1:3]) == ["bad", "slow"]
    assert kit.log[3:] == ["-slow", "-a"]
    assert result.failed_step == "bad"
    assert result.status is Status.COMPENSATED


def test_a_merge_conflict_undoes_all_branches(kit: Any) -> None:
    group = parallel(kit.task("b", lambda c: c.update(x=1)), kit.task("c", lambda c: c.update(x=2)))
    result = kit.run(kit.saga(kit.task("a"), group, kit.task("z")))
    assert isinstance(result.error, MergeConflictError)
    assert result.status is Status.COMPENSATED
    assert sorted(kit.log[-3:-1]) == ["-b", "-c"]
    assert kit.log[-1] == "-a"
    assert "z" not in kit.log


def test_nested_groups_are_joined_inside_out(kit: Any) -> None:
    inner = parallel(kit.task("c", lambda c: c.update(c=1)), kit.task("d", lambda c: c.update(d=1)))
    outer = parallel(sequence(kit.task("b"), inner, kit.task("e", lambda c: c.update(e=sorted(c)))), kit.task("f"))
    result = kit.run(kit.saga(outer, kit.task("g", ValueError())))
    assert result.context == {"c": 1, "d": 1, "e": ["c", "d"]}
    assert kit.log[0] in "bf"
    assert sorted(kit.log) == ["-b", "-c", "-d", "-e", "-f", "b", "c", "d", "e", "f", "g"]
    done = [event.step for event in result.events if isinstance(event, StepSucceeded)]
    assert [name[1:] for name in kit.log if name.startswith("-")] == done[::-1]


def test_a_step_after_a_group_gets_the_branches_results(kit: Any) -> None:
    group = parallel(sequence(kit.task("b"), kit.task("c")), kit.task("d"))
    assert kit.run(kit.saga(group, step(lambda both: both, name="e"))).results["e"] == ("result of c", "result of d")


# -- interrupts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INTERRUPTS)
@pytest.mark.parametrize("failing", range(3))
def test_an_interrupt_in_execute_undoes_that_step_too_and_is_raised_again(
    kit: Any, kind: type[BaseException], failing: int
) -> None:
    error = kind("stop")
    saga = kit.saga(*(kit.task(str(i), error if i == failing else None) for i in range(3)))
    with pytest.raises(kind) as caught:
        kit.run(saga)
    assert caught.value is error
    assert kit.log == [str(i) for i in range(failing + 1)] + [f"-{i}" for i in reversed(range(failing + 1))]
    assert "failed and was undone" in error.__notes__[0]


@pytest.mark.parametrize("kind", INTERRUPTS)
@pytest.mark.parametrize("failing", range(2))
def test_an_interrupt_in_a_compensation_does_not_stop_the_rest(kit: Any, kind: type[BaseException], failing: int) -> None:
    error = kind("stop")
    tasks = [kit.task(str(i), None, error if i == failing else None) for i in range(2)]
    with pytest.raises(kind) as caught:
        kit.run(kit.saga(*tasks, kit.task("z", ValueError())))
    assert caught.value is error
    assert kit.log == ["0", "1", "z", "-1", "-0"]


@pytest.mark.parametrize("kind", INTERRUPTS)
def test_an_interrupt_is_neither_retried_nor_skipped(kit: Any, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        kit.run(kit.saga(kit.task("a", kind(), retry=Retry(3), on_error=Skip)))
    assert kit.log == ["a", "-a"]


@pytest.mark.parametrize("kind", INTERRUPTS)
def test_an_interrupt_in_a_branch_lets_the_sibling_end(kit: Any, kind: type[BaseException], gate: Any) -> None:
    group = parallel(kit.task("b", gate), kit.task("c", kind("stop")))
    with pytest.raises(kind):
        kit.run(kit.saga(kit.task("a"), group, logger=on(StepFailed, gate.open)))
    assert sorted(kit.log) == ["-a", "-b", "-c", "a", "b", "c"]
    assert kit.log[-1] == "-a"


# -- observers --------------------------------------------------------------------------------------------------------


def test_an_observer_that_raises_is_reported_once_and_changes_nothing(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Any, info: Any) -> None:
        raise RuntimeError("the observer is broken")

    seen: list[tuple[str, str]] = []
    saga = kit.saga(
        kit.task("a"), kit.task("b"), logger=[broken, lambda event, info: seen.append((type(event).__name__, info.saga_id))]
    )
    result = kit.run(saga, saga_id="o-1")
    assert result.ok
    assert [kind for kind, _ in seen] == [type(event).__name__ for event in result.events]
    assert {key for _, key in seen} == {"o-1"}
    assert [str(record.exc_info[1]) for record in caplog.records] == ["the observer is broken"]


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_tells_each_step_as_it_ends(kit: Any) -> None:
    records = kit.stream(kit.saga(kit.task("a"), kit.task("b")))
    assert [(record.name, record.status) for record in records] == [("a", StepStatus.SUCCEEDED), ("b", StepStatus.SUCCEEDED)]


def test_a_stream_tells_the_undo_too_and_then_raises(kit: Any) -> None:
    told: list[str] = []
    saga = kit.saga(
        kit.task("a"), kit.task("b"), kit.task("c", ValueError()), logger=lambda e, i: told.append(type(e).__name__)
    )
    with pytest.raises(SagaExecutionException):
        kit.stream(saga)
    assert kit.log == ["a", "b", "c", "-b", "-a"]
    assert told[-1] == "SagaCompensated"


@pytest.mark.parametrize("take", [1, 2, 3])
def test_leaving_a_stream_early_undoes_what_was_done_and_executes_nothing_more(kit: Any, take: int) -> None:
    kit.stream(kit.saga(*(kit.task(str(i)) for i in range(4))), take)
    done = [name for name in kit.log if not name.startswith("-")]
    assert done == [str(i) for i in range(take)]
    assert kit.log[take:] == [f"-{i}" for i in reversed(range(take))]


def test_a_stream_of_a_group_tells_every_branch(kit: Any) -> None:
    records = kit.stream(kit.saga(parallel(kit.task("a"), kit.task("b")), kit.task("c")))
    assert sorted(record.name for record in records[:2]) == ["a", "b"]
    assert records[2].name == "c"


def test_leaving_a_stream_within_a_group_undoes_what_the_branches_did(kit: Any) -> None:
    kit.stream(kit.saga(kit.task("a"), parallel(kit.task("b"), kit.task("c")), kit.task("d")), 2)
    assert "d" not in kit.log
    done = [name for name in kit.log if not name.startswith("-")]
    assert sorted(kit.log[len(done) :]) == sorted(f"-{name}" for name in done)


# -- a store ----------------------------------------------------------------------------------------------------------


def test_a_stored_execution_has_its_journal_and_its_end(kit: Any, store: Any) -> None:
    saga = kit.saga(kit.task("a", lambda context: context.update(x=(1, 2))), kit.task("b"), store=store)
    result = kit.run(saga, saga_id="o-1")
    assert result.context == {"x": (1, 2)}
    assert store.get("o-1").status == "completed"
    kinds = [entry.kind for entry in store.journal("o-1")]
    assert kinds == ["SagaStarted", "StepStarted", "StepSucceeded", "StepStarted", "StepSucceeded", "SagaCompleted"]


def test_a_stored_execution_that_failed_is_undone(kit: Any, store: Any) -> None:
    saga = kit.saga(kit.task("a"), parallel(kit.task("b"), kit.task("c")), kit.task("d", ValueError("no")), store=store)
    result = kit.run(saga, saga_id="o-1")
    assert result.status is Status.COMPENSATED
    assert store.get("o-1").status == "compensated"
    assert store.get("o-1").owner is None
    assert kit.log[-1] == "-a"


def test_a_second_start_with_the_same_id_is_told_the_first_ones_outcome(kit: Any, store: Any) -> None:
    saga = kit.saga(kit.task("a"), kit.task("b", ValueError("no")), store=store)
    first = kit.run(saga, {"x": 1}, saga_id="o-1")
    again = kit.run(saga, {"x": 1}, saga_id="o-1")
    assert kit.log == ["a", "b", "-a"]
    assert (again.status, again.failed_step, str(again.error)) == (first.status, first.failed_step, "no")


def test_starts_at_once_with_the_same_id_run_once(kit: Any, store: Any) -> None:
    saga = kit.saga(kit.task("a", lambda context: threading.Event().wait(SHORT)), kit.task("b"), store=store)
    results = kit.run_all(saga, [{"saga_id": "o-1"}] * 3)
    assert kit.log == ["a", "b"]
    assert [result.results for result in results] == [{"a": "result of a", "b": "result of b"}] * 3


def test_what_cannot_be_stored_makes_its_step_fail_as_executed(kit: Any, store: Any) -> None:
    saga = kit.saga(kit.task("a"), kit.task("b", lambda context: context.update(x=threading.Lock())), store=store)
    result = kit.run(saga)
    assert kit.log == ["a", "b", "-b", "-a"]
    assert "context.x" in str(result.error)
    assert result.context == {}


# -- many at once -----------------------------------------------------------------------------------------------------


def test_two_hundred_executions_at_once_share_nothing(kit: Any) -> None:
    def act(context: Context) -> None:
        context.twice = context.number * 2
        if context.number % 3 == 0:
            raise ValueError(context.number)

    group = parallel(kit.task("b", lambda c: c.update(b=c.number)), kit.task("c", act))
    saga = kit.saga(kit.task("a"), group, kit.task("d"))
    results = kit.run_all(saga, [{"context": {"number": number}} for number in range(200)])
    for number, result in enumerate(results):
        if number % 3 == 0:
            assert result.status is Status.COMPENSATED
            assert result.error.args == (number,)
        else:
            assert result.context == {"number": number, "b": number, "twice": number * 2}
    assert len({result.saga_id for result in results}) == 200
    assert kit.log.count("-a") == 67


def test_fifty_stored_executions_at_once(kit: Any, store: Any) -> None:
    def act(context: Context) -> None:
        if context.number % 2:
            raise ValueError

    saga = kit.saga(kit.task("a"), kit.task("b", act), store=store)
    results = kit.run_all(saga, [{"context": {"number": n}, "saga_id": f"o-{n}"} for n in range(50)])
    assert [result.ok for result in results] == [n % 2 == 0 for n in range(50)]
    assert {store.get(f"o-{n}").status for n in range(1, 50, 2)} == {"compensated"}
