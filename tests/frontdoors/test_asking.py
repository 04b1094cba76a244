"""``on_error=Ask``: a step that failed for good waits for a person, who says how the saga goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from saga import (
    Ask,
    Compensate,
    Context,
    Effect,
    Retry,
    Saga,
    Skip,
    Status,
    Task,
    fallback,
    parallel,
    receive,
    step,
    timer,
    transaction,
)
from saga.errors import SagaDefinitionError, SagaExecutionException
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, Calls, Watched, expired, failing_times, saga_of, within

Decide = Callable[[Operations], object]
RESUME: Decide = lambda operations: operations.resume("o-1", "the printer has paper")  # noqa: E731
SKIP: Decide = lambda operations: operations.skip("o-1", "b", "written by hand")  # noqa: E731
COMPENSATE: Decide = lambda operations: operations.compensate("o-1", "nobody can mend it")  # noqa: E731


def decided(store: Any, saga: Saga, decide: Decide) -> Any:
    """Return what comes of a person's decision."""
    decide(Operations(store, "ann", sagas=[saga]))
    (result,) = within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    return result


@pytest.mark.parametrize("retry", [{"on_error": Ask}, {"on_error": Retry(2, then=Ask)}, {"retry": Retry(2), "on_error": Ask}])
@pytest.mark.parametrize(
    ("decide", "status", "then", "stands"),
    [
        (RESUME, Status.COMPLETED, ["b", "c"], "abc"),
        (SKIP, Status.COMPLETED, ["c"], "ac"),
        (COMPENSATE, Status.COMPENSATED, ["-a"], ""),
    ],
)
def test_a_person_decides(
    calls: Calls, store: Any, retry: Any, decide: Decide, status: Status, then: list[str], stands: str
) -> None:
    attempts = 1 if retry == {"on_error": Ask} else 2
    failing = calls.step("b", failing_times(attempts), **retry)
    saga = saga_of(calls.step("a"), failing, calls.step("c"))
    result = calls.run(saga, store=store, saga_id="o-1")
    assert (result.status, result.reason) == (Status.STUCK, "failed for good, and on_error says Ask: b")
    assert (result.failed_step, type(result.error), result.in_doubt) == ("b", OSError, ())
    assert f"step 'b' failed ({attempts} attempt" in result.headline()
    assert "resume('o-1', why), compensate('o-1', why), skip('o-1', 'b', why)" in result.summary()
    assert calls.log == ["a", *["b"] * attempts]
    calls.log.clear()
    after = decided(store, saga, decide)
    assert (after.status, calls.log) == (status, then)
    assert {name for name, effect in after.effects.items() if effect is Effect.STANDS} == set(stands)


def test_it_is_raised_with_what_failed(calls: Calls, store: Any) -> None:
    with pytest.raises(SagaExecutionException, match="is stuck: step 'b' failed") as caught:
        calls.execute(saga_of(calls.step("b", OSError("no paper"), on_error=Ask)), store=store)
    assert isinstance(caught.value.cause, OSError)
    assert caught.value.failed_task is not None


def test_a_person_who_mended_nothing_is_asked_again(calls: Calls, store: Any) -> None:
    saga = saga_of(calls.step("b", failing_times(3), on_error=Ask))
    assert calls.run(saga, store=store, saga_id="o-1").status is Status.STUCK
    for _ in range(2):
        assert decided(store, saga, RESUME).status is Status.STUCK
    assert decided(store, saga, RESUME).ok
    assert [record.attempts for record in saga.load("o-1", store=store).history] == [4]


def test_what_runs_beside_it_ends_before_a_person_is_asked(calls: Calls, store: Any) -> None:
    saga = saga_of(parallel(calls.step("a"), calls.step("b", failing_times(1), on_error=Ask)), calls.step("c"))
    result = calls.run(saga, store=store, saga_id="o-1")
    assert (result.status, result.effects["a"]) == (Status.STUCK, Effect.STANDS)
    assert decided(store, saga, RESUME).ok


def test_the_time_until_a_person_has_decided_is_not_the_sagas(calls: Calls) -> None:
    watched, store = Watched(MemoryStore()), MemoryStore()
    saga = saga_of(calls.step("b", failing_times(1), on_error=Ask), calls.step("c"), timeout=60.0)
    assert calls.run(saga, store=watched, saga_id="o-1").status is Status.STUCK
    an_hour_ago = [[entry._replace(at=entry.at - 3600.0) for entry in write.entries] for write in watched.writes]
    expired(store, [replace(write, entries=tuple(aged)) for write, aged in zip(watched.writes, an_hour_ago, strict=True)])
    assert decided(store, saga, RESUME).ok


# -- whose word counts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_task", "of_step", "of_inner", "of_saga", "asks"),
    [
        (None, None, None, Ask, True),
        (None, None, Ask, None, True),
        (None, None, Compensate, Ask, False),
        (None, Compensate, None, Ask, False),
        (None, Skip, None, Ask, False),
        (None, Retry(2), None, Ask, True),
        (None, Retry(2, then=Compensate), None, Ask, False),
        (Compensate, None, None, Ask, False),
        (Skip, Ask, None, None, True),
        (Ask, None, None, None, True),
        (Ask, None, Skip, Skip, True),
        (None, None, None, None, False),
    ],
)
def test_whose_word_counts(of_task: Any, of_step: Any, of_inner: Any, of_saga: Any, asks: bool) -> None:
    class Failing(Task[None]):
        on_error = of_task

        def execute(self, context: Context) -> None:
            raise OSError

    one = Failing if of_step is None else step(Failing, on_error=of_step)
    saga = Saga("s", on_error=of_saga).add_task(Saga("inner", on_error=of_inner).add_task(one))
    assert (saga.try_execute(store=MemoryStore()).status is Status.STUCK) is asks


def test_a_class_declares_it(store: Any) -> None:
    class Print(Saga):
        on_error = Ask
        flow = step(lambda: [].pop(), name="b") | Retry(2)

    assert Print().try_execute(store=store).reason == "failed for good, and on_error says Ask: b"


def test_a_timer_asks_nobody() -> None:
    plan = saga_of(timer(1.0, name="t"), receive("go", name="r"), receive("on", name="s", on_error=Skip), on_error=Ask).plan
    assert [step.on_error for step in plan.steps] == [Compensate, Ask, Skip]


def test_an_operator_says_it() -> None:
    assert (saga_of(step(lambda: 1, name="b") | Ask).plan.step("b")).on_error is Ask


# -- what cannot be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"on_error": Ask}])
def test_it_needs_a_store(calls: Calls, options: Any) -> None:
    flow = calls.step("b") if options else fallback(calls.step("a"), calls.step("b", on_error=Ask))
    with pytest.raises(SagaDefinitionError, match=r"asks a person when step 'b' fails, which needs a store: give one here"):
        calls.run(saga_of(flow, **options))
    assert calls.log == []


def test_a_block_asks_nobody(calls: Calls) -> None:
    with transaction("t", store=MemoryStore()) as tx:
        with pytest.raises(SagaDefinitionError, match="step 'b' has on_error=Ask, and nobody can go on with a block later"):
            tx.step(print, name="b", on_error=Ask)
        assert tx.step(abs, name="b", args=(-1,)) == 1


def test_a_sagas_own_is_no_retry() -> None:
    with pytest.raises(
        SagaDefinitionError, match=r"saga 's': on_error is Retry\(.*; give Compensate, Skip or Ask; give a Retry as retry="
    ):
        Saga("s", on_error=Retry(2, then=Ask))  # type: ignore[arg-type]


def test_a_crash_anywhere_leaves_it_to_a_person_or_undoes_it(crashes: Any) -> None:
    def build(effects: Any) -> Saga:
        one = effects.step("b", failing_times(1), on_error=Ask)
        return saga_of(effects.step("a"), one, effects.step("c"))

    def during(saga: Saga, store: Any) -> None:
        saga.try_execute(saga_id="o-1", store=store)
        Operations(store, "ann").resume("o-1", "mended")
        Recovery(store, [saga]).run_once()

    ends = set()
    for crash in crashes(build, during):
        Recovery(crash.store, [crash.saga]).run_once()
        for _ in range(2):  # the first attempt of each process fails
            if crash.status == "stuck":
                assert crash.effects == {"a"}
                Operations(crash.store, "ann").resume("o-1", "mended")
                Recovery(crash.store, [crash.saga]).run_once()
        ends.add(crash.status)
        assert crash.effects == ({"a", "b", "c"} if crash.status == "completed" else set()), (crash, crash.kinds)
    assert ends == {"completed", "compensated"}
