"""``fallback(primary, alternative)``: what is done instead when a step has failed for good."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pybreaker
import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Status, StepStatus, Task, fallback, parallel, sequence, step
from saga.errors import SagaDefinitionError, StepTimeoutError
from saga.events import StepTimedOut
from saga.recovery import Recovery
from tests.kit import LONG, PATIENCE, SHORT, Gate, on, saga_of

# -- success and failure ----------------------------------------------------------------------------------------------


def test_a_primary_that_succeeds_needs_no_fallback(calls: Any) -> None:
    result = calls.run(saga_of(fallback(calls.step("b"), calls.step("c")), calls.step("d")))
    assert result.ok
    assert calls.log == ["b", "d"]
    assert [record.status for record in result.history] == [StepStatus.SUCCEEDED, StepStatus.PENDING, StepStatus.SUCCEEDED]


def test_a_primary_that_fails_is_replaced_and_not_undone(calls: Any) -> None:
    result = calls.run(saga_of(calls.step("a"), fallback(calls.step("b", OSError()), calls.step("c")), calls.step("d")))
    assert result.ok
    assert calls.log == ["a", "b", "c", "d"]
    assert set(result.results) == {"a", "c", "d"}


@pytest.mark.parametrize("primary_fails", [False, True])
def test_what_was_done_of_the_two_is_undone_with_the_rest(calls: Any, primary_fails: bool) -> None:
    pair = fallback(calls.step("b", OSError() if primary_fails else None), calls.step("c"))
    result = calls.run(saga_of(calls.step("a"), pair, calls.step("d", ValueError())))
    assert result.status is Status.COMPENSATED
    assert calls.log == (["a", "b", "c", "d", "-c", "-a"] if primary_fails else ["a", "b", "d", "-b", "-a"])


def test_the_step_after_gets_the_result_of_whichever_ended_well(plain: Any) -> None:
    for fails in (False, True):
        pair = fallback(plain.step("b", OSError() if fails else None), plain.step("c"))
        result = plain.run(saga_of(pair, step(lambda before: before, name="d")))
        assert result.results["d"] == f"result of {'c' if fails else 'b'}"


def test_a_fallback_that_fails_too_fails_the_saga_with_its_own_error(calls: Any) -> None:
    pair = fallback(calls.step("b", OSError("first")), calls.step("c", KeyError("second")))
    result = calls.run(saga_of(calls.step("a"), pair, calls.step("d")))
    assert result.status is Status.COMPENSATED
    assert result.failed_step == "c"
    assert isinstance(result.error, KeyError)
    assert calls.log == ["a", "b", "c", "-a"]


def test_the_primary_is_retried_before_it_is_replaced(calls: Any) -> None:
    result = calls.run(saga_of(fallback(calls.step("b", OSError(), retry=Retry(3)), calls.step("c"))))
    assert result.ok
    assert calls.log == ["b", "b", "b", "c"]


def test_a_fallback_may_be_skipped_or_have_a_fallback_itself(calls: Any) -> None:
    inner = fallback(calls.step("c", OSError()), calls.step("d", OSError(), on_error=Skip))
    result = calls.run(saga_of(fallback(calls.step("b", OSError()), inner), calls.step("e")))
    assert result.ok
    assert calls.log == ["b", "c", "d", "e"]


def test_a_primary_that_wants_to_be_undone_on_failure_is_undone_before_its_fallback(calls: Any) -> None:
    pair = fallback(calls.step("b", OSError(), compensate_on_failure=True), calls.step("c"))
    assert calls.run(saga_of(calls.step("a"), pair)).ok
    assert calls.log == ["a", "b", "-b", "c"]


@pytest.mark.parametrize(
    ("error", "replaced"), [(LookupError(), True), (OSError(), True), (IndexError(), True), (TypeError(), False)]
)
def test_only_the_exceptions_named_lead_to_the_fallback(calls: Any, error: Exception, replaced: bool) -> None:
    pair = fallback(calls.step("b", error), calls.step("c"), on=(LookupError, OSError))
    result = calls.run(saga_of(calls.step("a"), pair))
    assert result.ok is replaced
    assert calls.log == ["a", "b", "c" if replaced else "-a"]


@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError()], ids=repr)
@pytest.mark.parametrize("named", [True, False])
def test_a_primary_whose_answer_was_lost_is_undone_before_it_is_replaced(calls: Any, error: Exception, named: bool) -> None:
    pair = fallback(calls.step("b", error), calls.step("c"), on=(OSError if named else KeyError,))
    result = calls.run(saga_of(calls.step("a"), pair))
    assert result.ok is named
    assert calls.log == ["a", "b", "-b", "c" if named else "-a"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_does_not_lead_to_the_fallback(calls: Any, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        calls.run(saga_of(calls.step("a"), fallback(calls.step("b", kind()), calls.step("c"))))
    assert calls.log == ["a", "b", "-b", "-a"]


def test_what_the_primary_changed_in_the_context_is_discarded(plain: Any) -> None:
    def fail(context: Context) -> None:
        context.junk = 1
        context.things.append("junk")
        raise OSError

    def see(context: Context) -> None:
        context.seen = dict(context)

    result = plain.run(saga_of(fallback(step(fail), step(see))), {"things": ["first"]})
    assert result.context == {"things": ["first"], "seen": {"things": ["first"]}}


def test_what_the_primary_changed_stays_where_it_succeeds(plain: Any) -> None:
    pair = fallback(step(lambda context: context.update(x=1), name="b"), plain.step("c"))
    assert plain.run(saga_of(pair)).context == {"x": 1}


@pytest.mark.parametrize("shape", ["sequence", "group", "saga"])
def test_the_alternative_may_be_any_flow(calls: Any, shape: str) -> None:
    flows = {
        "sequence": lambda: sequence(calls.step("c"), calls.step("d")),
        "group": lambda: parallel(calls.step("c"), calls.step("d")),
        "saga": lambda: saga_of(calls.step("c"), calls.step("d")),
    }
    pair = fallback(calls.step("b", OSError()), flows[shape]())
    result = calls.run(saga_of(calls.step("a"), pair, calls.step("e", ValueError())))
    assert result.status is Status.COMPENSATED
    done, undone = calls.log[:5], calls.log[5:]
    assert (sorted(done[2:4]), done[4]) == (["c", "d"], "e")
    assert (sorted(undone[:2]), undone[2]) == (["-c", "-d"], "-a")


def test_a_fallback_in_a_branch_leaves_the_other_branch_alone(calls: Any) -> None:
    pair = sequence(fallback(calls.step("b", OSError()), calls.step("c")), calls.step("d"))
    result = calls.run(saga_of(calls.step("a"), parallel(pair, calls.step("x")), calls.step("e")))
    assert result.ok
    assert [name for name in calls.log if name in "bcd"] == ["b", "c", "d"]
    assert set(result.results) == {"a", "c", "d", "x", "e"}


def test_fallbacks_in_both_branches(calls: Any) -> None:
    pairs = [fallback(calls.step(one, OSError()), calls.step(two)) for one, two in ("bc", "xy")]
    result = calls.run(saga_of(parallel(*pairs), calls.step("e", ValueError())))
    assert result.status is Status.COMPENSATED
    assert sorted(calls.log) == ["-c", "-y", "b", "c", "e", "x", "y"]


def test_no_fallback_begins_where_another_branch_has_failed(plain: Any) -> None:
    failed = threading.Event()

    def late() -> None:
        assert failed.wait(PATIENCE)
        time.sleep(SHORT)
        raise OSError

    def watch(event: Any, info: Any) -> None:
        if type(event).__name__ == "SagaCompensating":
            failed.set()

    pair = fallback(plain.step("b", late), plain.step("c"))
    result = plain.run(saga_of(parallel(pair, plain.step("x", ValueError())), logger=watch))
    assert result.status is Status.COMPENSATED
    assert "c" not in plain.log


# -- a primary in doubt -----------------------------------------------------------------------------------------------


def test_a_cancelled_primary_is_undone_before_its_fallback(calls: Any) -> None:
    if not calls.in_loop:
        pytest.skip("only coroutines are cancelled")
    pair = fallback(calls.step("b", lambda: asyncio.sleep(60), timeout=SHORT), calls.step("c"))
    result = calls.run(saga_of(calls.step("a"), pair, calls.step("d")))
    assert result.ok
    assert calls.log == ["a", "b", "-b", "c", "d"]


@pytest.mark.parametrize("late_error", [None, ValueError("too late")])
@pytest.mark.parametrize("in_loop", [False, True])
def test_a_straggling_primary_is_waited_for_and_undone_before_its_fallback(
    plain: Any, gate: Any, late_error: Exception | None, in_loop: bool
) -> None:
    def slow() -> None:
        gate.hold()
        plain.log.append("b ended")
        if late_error is not None:
            raise late_error

    pair = fallback(plain.step("b", slow, timeout=SHORT), plain.step("c"))
    saga = saga_of(plain.step("a"), pair, plain.step("d"), logger=on(StepTimedOut, gate.open))
    result = asyncio.run(saga.atry_execute()) if in_loop else saga.try_execute()
    assert result.ok
    assert plain.log == ["a", "b", "b ended", *([] if late_error else ["-b"]), "c", "d"]
    assert isinstance(result.history[1].error, StepTimeoutError if late_error is None else ValueError)


def test_the_undo_of_a_primary_sees_what_that_changed_and_its_fallback_does_not(plain: Any, gate: Any) -> None:
    seen = {}

    def slow(context: Context) -> None:
        context.junk = 1
        gate.hold()

    pair = fallback(
        step(slow, lambda context: seen.update(undo=dict(context)), timeout=SHORT),
        step(lambda context: seen.update(fallback=dict(context)), name="c"),
    )
    assert plain.run(saga_of(pair, logger=on(StepTimedOut, gate.open))).ok
    assert seen == {"undo": {"junk": 1}, "fallback": {}}


@pytest.mark.parametrize("works_in_the_end", [False, True])
def test_a_primary_that_cannot_be_undone_is_not_replaced(plain: Any, gate: Any, works_in_the_end: bool) -> None:
    tries = []

    def undo() -> None:
        tries.append(1)
        if len(tries) < 2 or not works_in_the_end:
            raise OSError("no")

    primary = plain.step("b", gate, undo, timeout=SHORT, compensation_retry=Retry(2))
    pair = fallback(primary, plain.step("c"))
    result = plain.run_to_end(saga_of(plain.step("a"), pair, plain.step("d"), logger=on(StepTimedOut, gate.open)))
    if works_in_the_end:
        assert result.ok
        assert plain.log == ["a", "b", "-b", "-b", "c", "d"]
    else:
        assert result.status is Status.STUCK
        assert plain.log == ["a", "b", "-b", "-b", "-a"]
        assert [error.step for error in result.compensation_errors] == ["b"]


def test_a_deadline_while_a_straggling_primary_is_waited_for(plain: Any) -> None:
    go = threading.Event()
    pair = fallback(plain.step("b", lambda: go.wait(PATIENCE), timeout=SHORT), plain.step("c"))
    result = plain.run_to_end(saga_of(plain.step("a"), pair, timeout=LONG), lambda first: go.set())
    assert result.status is Status.COMPENSATED
    assert plain.log == ["a", "b", "-a", "-b"]


# -- breakers ---------------------------------------------------------------------------------------------------------


def test_a_breaker_opens_half_opens_and_closes(calls: Any) -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=2, reset_timeout=60, throw_new_error_on_trip=False)
    broken = True

    def timeout_passes() -> None:
        breaker._state_storage.opened_at -= timedelta(seconds=60)

    def work() -> None:
        if broken:
            raise OSError

    saga = saga_of(fallback(calls.step("b", work), calls.step("c"), breaker=breaker))

    def called() -> list[str]:
        calls.log.clear()
        assert calls.run(saga).ok
        return list(calls.log)

    assert [called() for _ in range(3)] == [["b", "c"], ["b", "c"], ["c"]]
    assert breaker.current_state == "open"
    timeout_passes()
    assert called() == ["b", "c"]  # tried once, half open
    assert called() == ["c"]
    timeout_passes()
    broken = False
    assert called() == ["b"]
    assert called() == ["b"]
    assert breaker.current_state == "closed"


def test_an_open_breaker_leads_to_the_alternative_whatever_else_would(calls: Any) -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=60)
    saga = saga_of(fallback(calls.step("b", KeyError("b")), calls.step("c"), on=(OSError,), breaker=breaker))
    with suppress(pybreaker.CircuitBreakerError):
        breaker.call(lambda: 1 / 0)
    assert breaker.current_state == "open"
    assert calls.run(saga).ok
    assert calls.log == ["c"]
    breaker.close()
    assert isinstance(calls.run(saga).error, KeyError)
    assert calls.log == ["c", "b"]


def test_every_attempt_goes_through_the_breaker_and_no_compensation_does(calls: Any) -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=10)
    pair = fallback(calls.step("b", OSError(), retry=Retry(3)), calls.step("c"), breaker=breaker)
    assert calls.run(saga_of(pair)).ok
    assert breaker.fail_counter == 3
    good = fallback(calls.step("x", None, OSError("undo")), calls.step("y"), breaker=breaker)
    calls.run(saga_of(good, calls.step("z", ValueError())))
    assert breaker.fail_counter == 0


def test_any_object_with_calling_is_a_breaker(calls: Any) -> None:
    class Counting:
        entered = 0

        @contextmanager
        def calling(self) -> Any:
            self.entered += 1
            yield

    breaker = Counting()
    calls.run(saga_of(fallback(calls.step("b"), calls.step("c"), breaker=breaker)))
    assert breaker.entered == 1


def test_a_guarded_step_is_found_by_its_class_and_keeps_its_policies(plain: Any) -> None:
    class Pay(Task[str]):
        retry = Retry(2)

        def execute(self, context: Context) -> str:
            plain.log.append("pay")
            if context.step.attempt < 2:
                raise OSError
            return "paid"

    saga = saga_of(fallback(Pay, plain.step("c"), breaker=pybreaker.CircuitBreaker()))
    assert plain.run(saga).context.result_of(Pay) == "paid"
    assert plain.log == ["pay", "pay"]


# -- definitions ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_a_fallback_is_refused(plain: Any) -> None:
    one = plain.step("one")
    with pytest.raises(SagaDefinitionError, match="a breaker is a step's"):
        fallback(sequence(one, one), one, breaker=pybreaker.CircuitBreaker())
    with pytest.raises(SagaDefinitionError, match="alternative"):
        fallback(one, 5)  # type: ignore[arg-type]
    with pytest.raises(SagaDefinitionError, match="give Exception classes"):
        fallback(one, plain.step("two"), on=(KeyboardInterrupt,))  # type: ignore[arg-type]
    with pytest.raises(SagaDefinitionError, match="has no calling"):
        fallback(one, plain.step("two"), breaker=object())  # type: ignore[arg-type]
    with pytest.raises(SagaDefinitionError, match="used twice"):
        _ = saga_of(fallback(one, plain.step("one"))).plan


# -- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_doubt", [InDoubt.COMPENSATE, InDoubt.RERUN])
@pytest.mark.parametrize("fails", [False, True], ids=["completes", "fails later"])
@pytest.mark.parametrize("shape", ["step", "sequence", "group"])
def test_wherever_the_process_dies_recovery_ends_it_whole(crashes: Any, in_doubt: InDoubt, fails: bool, shape: str) -> None:
    def build(effects: Any) -> Saga:
        def make(name: str, error: Exception | None = None) -> Any:
            return effects.step(name, error, in_doubt=in_doubt)

        alternative = {
            "step": lambda: make("c"),
            "sequence": lambda: sequence(make("c"), make("d")),
            "group": lambda: parallel(make("c"), make("d")),
        }[shape]()
        return saga_of(make("a"), fallback(make("b", OSError()), alternative), make("e", ValueError() if fails else None))

    whole = {"a", "c", "e"} | ({"d"} if shape != "step" else set())
    seen = set()
    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        seen.add(crash.status)
        assert crash.status in ("completed", "compensated"), (crash, crash.kinds)
        assert crash.effects == (whole if crash.status == "completed" else set()), (crash, crash.kinds)
    assert ("completed" in seen) is not fails
    assert ("compensated" in seen) is (fails or in_doubt is InDoubt.COMPENSATE)


def test_wherever_the_process_dies_a_primary_in_doubt_is_undone_before_its_fallback(crashes: Any) -> None:
    def build(effects: Any) -> Saga:
        gate = Gate()
        slow = effects.step("b", gate, timeout=SHORT, in_doubt=InDoubt.RERUN)
        pair = fallback(slow, effects.step("c", in_doubt=InDoubt.RERUN))
        return saga_of(effects.step("a"), pair, logger=on(StepTimedOut, gate.open))

    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status in ("completed", "compensated"), (crash, crash.kinds)
        assert crash.effects in ({"a", "c"}, {"a", "b"}, set()), (crash, crash.kinds)
        if crash.status == "completed":
            assert crash.effects, (crash, crash.kinds)


def test_a_fallback_does_not_begin_while_a_person_is_to_be_asked_about_the_primary(
    coroutines: Any, gate: Any, log: list[str], plain: Any
) -> None:
    saga = saga_of(fallback(coroutines.step("a", gate, timeout=SHORT, in_doubt=InDoubt.ASK), plain.step("b")))
    result = asyncio.run(saga.atry_execute())
    assert result.status is Status.STUCK
    assert log == ["a"]
