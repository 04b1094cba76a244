"""Semantic 2: an ``Exception`` in execute is retried by policy, then compensated or skipped; the failing step is not undone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from saga import Compensate, Context, Retry, Saga, Skip, Status, parallel, step
from saga.events import Effect, RetryScheduled, SagaCompensating, StepFailed, StepSkipped, StepStarted
from saga.machine import Machine, Wait
from tests.kit import PATIENCE, failing_times


class Refused(Exception):
    """What a task raises that knows that it did nothing."""


@pytest.mark.parametrize("on_error", [Compensate, Skip], ids=["compensate", "skip"])
@pytest.mark.parametrize("attempts", [1, 2, 3])
@pytest.mark.parametrize("failures", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("undo_own", [False, True], ids=["plain", "compensate_on_failure"])
@pytest.mark.parametrize("form", ["retry", "on_error"])
def test_attempts_then_the_policy(
    make: Any, log: list[str], watch: Any, on_error: Any, attempts: int, failures: int, undo_own: bool, form: str
) -> None:
    policies = {"retry": Retry(attempts), "on_error": on_error}
    if form == "on_error":
        policies = {"on_error": Retry(attempts, then=on_error)}
    flaky = make("flaky", failing_times(failures, Refused), compensate_on_failure=undo_own, **policies)
    saga = Saga("s", logger=watch).add_task(make("a")).add_task(flaky).add_task(make("b"))
    result = saga.add_task(make("bad", ValueError("later"))).try_execute()
    tries = min(failures + 1, attempts)
    succeeded = failures < attempts
    goes_on = succeeded or on_error is Skip
    skipped = goes_on and not succeeded
    forward = ["a", *["flaky"] * tries] + (["-flaky"] if skipped and undo_own else []) + (["b", "bad"] if goes_on else [])
    undo = (["-b"] if goes_on else []) + (["-flaky"] if succeeded or (undo_own and not skipped) else []) + ["-a"]
    assert log == forward + undo
    assert result.status is Status.COMPENSATED
    assert str(result.error) == ("later" if goes_on else str(tries - 1))
    assert [e.attempt for e in watch.of(StepStarted) if e.step == "flaky"] == list(range(1, tries + 1))
    assert [e.attempt for e in watch.of(RetryScheduled)] == list(range(2, tries + 1))
    assert len(watch.of(StepSkipped)) == (goes_on and not succeeded)
    assert not any(e.in_doubt for e in watch.of(StepFailed))
    assert result.history[1].attempts == tries


@pytest.mark.parametrize(
    ("error", "lost"),
    [(ConnectionError(), True), (TimeoutError(), True), (ConnectionRefusedError(), False), (OSError(), False)],
)
@pytest.mark.parametrize("policies", [{}, {"retry": Retry(2)}, {"on_error": Skip}], ids=["plain", "retried", "skipped"])
def test_a_lost_answer_leaves_the_step_in_doubt_so_it_is_undone_where_it_did_not_succeed_later(
    make: Any, log: list[str], watch: Any, error: Exception, lost: bool, policies: dict[str, Any]
) -> None:
    saga = Saga("s", logger=watch).add_task(make("a")).add_task(make("b", error, **policies)).add_task(make("c"))
    result = saga.try_execute()
    skipped, tries = "on_error" in policies, 2 if "retry" in policies else 1
    undone = ["-b"] if lost else []
    assert log == ["a", *["b"] * tries, *undone, *(["c"] if skipped else ["-a"])]
    assert result.status is (Status.COMPLETED if skipped else Status.COMPENSATED)
    assert [e.in_doubt for e in watch.of(StepFailed)] == [lost] * tries
    assert result.in_doubt == ()
    assert result.effects == {
        "a": Effect.STANDS if skipped else Effect.UNDONE,
        "b": Effect.UNDONE if lost else Effect.NONE,
        "c": Effect.STANDS if skipped else Effect.NONE,
    }


def test_only_the_exceptions_named_are_retried(make: Any, log: list[str]) -> None:
    errors = [Refused("again"), KeyError("for good")]

    def raises(context: Context) -> None:
        raise errors[log.count("a") - 1]

    result = Saga("s").add_task(make("a", raises, retry=Retry(9, retry_on=Refused))).try_execute()
    assert log == ["a", "a"]
    assert result.error is errors[1]


def test_the_failing_step_is_not_undone_and_nothing_after_it_starts(make: Any, log: list[str]) -> None:
    saga = Saga("s").add_task(make("a")).add_task(make("bad", ValueError())).add_task(make("never"))
    saga.try_execute()
    assert log == ["a", "bad", "-a"]


def test_compensate_on_failure_undoes_the_failing_step_first(make: Any, log: list[str]) -> None:
    Saga("s").add_task(make("a")).add_task(make("bad", ValueError(), compensate_on_failure=True)).try_execute()
    assert log == ["a", "bad", "-bad", "-a"]


def test_a_step_that_succeeds_at_last_is_undone_once_even_with_compensate_on_failure(make: Any, log: list[str]) -> None:
    flaky = make("a", failing_times(2, Refused), retry=Retry(3), compensate_on_failure=True)
    Saga("s").add_task(flaky).add_task(make("bad", ValueError())).try_execute()
    assert log == ["a", "a", "a", "bad", "-a"]


def test_a_skipped_step_leaves_no_result_and_the_saga_completes(make: Any, log: list[str]) -> None:
    saga = Saga("s").add_task(make("a")).add_task(make("bad", ValueError(), on_error=Skip)).add_task(make("b"))
    result = saga.execute()
    assert log == ["a", "bad", "b"]
    assert result.ok
    assert result.error is None
    assert set(result.results) == {"a", "b"}
    assert [(r.status, r.result) for r in result.history] == [
        ("succeeded", "result of a"),
        ("skipped", None),
        ("succeeded", "result of b"),
    ]


def test_every_attempt_has_the_same_idempotency_key_and_its_own_number(make: Any) -> None:
    seen = []

    def note(context: Context) -> None:
        seen.append((context.step.attempt, context.step.name, context.step.saga_id, context.step.idempotency_key))
        raise ValueError

    Saga("s").add_task(make("a", note, retry=Retry(3))).try_execute(saga_id="id7")
    assert seen == [(n, "a", "id7", "s/id7/a") for n in (1, 2, 3)]


def test_the_wait_between_attempts_is_the_backoffs(make: Any, watch: Any) -> None:
    class Counting:
        def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
            assert 0 <= fraction < 1
            return attempt / 1000

    Saga("s", logger=watch).add_task(make("a", failing_times(3, Refused), retry=Retry(4, backoff=Counting()))).execute()
    assert [e.delay for e in watch.of(RetryScheduled)] == [0.001, 0.002, 0.003]
    started = {e.attempt: e.at for e in watch.of(StepStarted)}
    for e in watch.of(RetryScheduled):
        assert started[e.attempt] >= e.at + e.delay - 0.0005


@pytest.mark.parametrize("undo_own", [False, True])
def test_no_attempt_is_made_once_another_branch_has_failed(make: Any, log: list[str], watch: Any, undo_own: bool) -> None:
    scheduled = threading.Event()
    saga = Saga("s", logger=[watch, lambda e, i: scheduled.set() if isinstance(e, RetryScheduled) else None])
    waiting = make("w", ValueError(), retry=Retry(2, backoff=3600), compensate_on_failure=undo_own)
    saga.add_task(parallel(waiting, make("bad", lambda context: (scheduled.wait(PATIENCE), 1 / 0))))
    result = saga.try_execute()
    assert sorted(log[:2]) == ["bad", "w"]
    assert log[2:] == (["-w"] if undo_own else [])
    assert isinstance(result.error, ZeroDivisionError)
    assert result.status is Status.COMPENSATED
    assert watch.at(RetryScheduled) < watch.at(SagaCompensating)


def test_no_attempt_is_made_that_is_due_when_another_branch_has_failed(make: Any) -> None:
    saga = Saga("s").add_task(parallel(make("w", retry=Retry(2, backoff=1.0)), make("bad")))
    machine = Machine(saga.plan, "s", "id")
    machine.start(0.0)
    machine.send(StepFailed("w", 1, 1.0, 1.0, ValueError()))
    wait = machine.commands.pop()
    assert isinstance(wait, Wait)
    machine.send(StepFailed("bad", 1, 1.5, 1.5, ValueError()))
    machine.commands.clear()
    machine.wake(wait, 2.0)
    assert machine.commands == []
    assert machine.status is Status.COMPENSATED


def test_a_step_may_bring_other_policies_than_its_task(make: Any, log: list[str]) -> None:
    task = make("a", failing_times(1, Refused), retry=Retry(5))
    assert not Saga("s").add_task(step(task, retry=None)).try_execute().ok
    assert log == ["a"]
