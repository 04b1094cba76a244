"""``timer`` and ``receive``: steps that wait, for a time or for a signal, across restarts where there is a store."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from saga import InDoubt, Saga, Skip, Status, StepStatus, parallel, receive, sequence, step, timer, transaction
from saga.durable.codec import Codec
from saga.durable.leases import keeper_of
from saga.durable.messages import signal_message
from saga.errors import (
    ActionRefusedError,
    EncodingError,
    SagaDefinitionError,
    SagaTimeoutError,
    StepTimeoutError,
    StorageError,
)
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, NewExecution
from saga.testing import Clock
from tests.kit import LONG, PATIENCE, SHORT, Background, Gate, saga_of, until_renewed, within

# -- timers -----------------------------------------------------------------------------------------------------------


def test_a_timer_lets_time_pass(calls: Any) -> None:
    with Clock():
        result = calls.run(saga_of(calls.step("a"), timer(3600.0), calls.step("b")))
    assert result.ok
    assert result.elapsed == 3600.0
    assert calls.log == ["a", "b"]


def test_a_timer_has_a_name_no_result_and_nothing_to_undo(calls: Any) -> None:
    saga = saga_of(calls.step("a"), timer(0.001), timer(0.001, name="rest"), calls.step("b", ValueError()))
    assert saga.plan.names == ("a", "timer 0.001 s", "rest", "b")
    result = calls.run(saga)
    assert calls.log == ["a", "b", "-a"]
    assert result.results["rest"] is None


def test_timers_in_branches_run_at_the_same_time(calls: Any) -> None:
    branches = [sequence(timer(3600.0, name=f"t{n}"), calls.step(f"s{n}")) for n in range(4)]
    with Clock():
        result = calls.run(saga_of(parallel(*branches), calls.step("z")))
    assert result.ok
    assert result.elapsed == 3600.0
    assert calls.log[-1] == "z"


def test_a_failing_branch_ends_the_timer_beside_it(calls: Any) -> None:
    group = parallel(
        sequence(timer(3600.0, name="long"), calls.step("never")), sequence(timer(SHORT), calls.step("b", ValueError()))
    )
    result = within(PATIENCE, lambda: calls.run(saga_of(calls.step("a"), group)))
    assert result.status is Status.COMPENSATED
    assert calls.log == ["a", "b", "-a"]


def test_the_deadline_ends_a_timer(calls: Any) -> None:
    with Clock():
        result = calls.run(saga_of(calls.step("a"), timer(3600.0), calls.step("b"), timeout=1800.0))
    assert isinstance(result.error, SagaTimeoutError)
    assert calls.log == ["a", "-a"]


def test_a_cancellation_ends_a_timer(calls: Any) -> None:
    if not calls.in_loop:
        pytest.skip("only in an event loop")

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(LONG):
                await saga_of(calls.step("a"), timer(60.0), calls.step("b")).aexecute()

    asyncio.run(work())
    assert calls.log == ["a", "-a"]


def test_recovery_parks_a_timer_and_finishes_when_it_is_due(plain: Any, left: Any) -> None:
    saga = saga_of(plain.step("a"), timer(100.0, name="t"), plain.step("b"))
    store = left(saga, "t", age=40.0)
    recovery = Recovery(store, [saga])
    within(PATIENCE, recovery.run_once)
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner) == ("running", None)
    assert 55 < row.due - store.now() <= 60  # what is left of it, not all of it again
    assert recovery.run_once() == []
    assert plain.log == ["a"]


def test_recovery_goes_on_after_a_timer_that_ran_out_meanwhile(plain: Any, left: Any) -> None:
    saga = saga_of(plain.step("a"), timer(100.0, name="t"), plain.step("b"))
    store = left(saga, "t", age=200.0)
    (result,) = Recovery(store, [saga]).run_once()
    assert result.ok
    assert plain.log == ["a", "b"]


def test_recovery_waits_for_a_timer_that_is_nearly_due(plain: Any, left: Any) -> None:
    saga = saga_of(timer(100.0, name="t"), plain.step("b"))
    store = left(saga, "t", age=99.9)
    (result,) = Recovery(store, [saga]).run_once()
    assert result.ok
    assert plain.log == ["b"]


def test_recovery_of_many_that_wait_is_quick(plain: Any, left: Any) -> None:
    saga = saga_of(timer(100.0, name="t"), plain.step("b"))
    store = left(saga, "t")
    row = store.get("o-1")
    assert row is not None
    for n in range(2, 40):
        new = NewExecution(f"o-{n}", "s", "1", row.fingerprint, "digest", "running")
        store.create(new, store.journal("o-1"), "who died", 0.0)
    assert len(within(PATIENCE, Recovery(store, [saga]).run_once)) == 39


def test_a_running_timer_is_kept_from_recovery_by_its_lease(calls: Any, store: Any) -> None:
    saga = saga_of(timer(2 * LONG, name="t"), calls.step("b"), lease=LONG)
    running = Background(calls, saga, store)
    running.until_begun("t")
    until_renewed(store, "o-1")
    assert Recovery(store, [saga]).run_once() == []
    assert running.result.ok
    assert calls.log == ["b"]


# -- signals ----------------------------------------------------------------------------------------------------------


def test_a_signal_is_the_result_of_the_step_that_waits(calls: Any, store: Any) -> None:
    saga = saga_of(calls.step("a"), receive("paid"), calls.step("b"), store=store)
    running = Background(calls, saga, store)
    running.until_begun("paid")
    saga.signal("o-1", "paid", {"amount": 5})
    assert running.result.results["paid"] == {"amount": 5}
    assert calls.log == ["a", "b"]
    assert store.inbox("o-1") == []


def test_a_signal_may_come_before_the_step_that_asks_for_it(plain: Any, store: Any) -> None:
    go = threading.Event()
    saga = saga_of(plain.step("a", lambda: go.wait(PATIENCE)), receive("paid"), plain.step("b"), store=store)
    running = Background(plain, saga, store)
    running.until_begun("a")
    saga.signal("o-1", "paid", 7)
    go.set()
    assert running.result.results["paid"] == 7


def test_an_early_signal_reaches_a_step_that_another_process_executes(plain: Any, left: Any) -> None:
    saga = saga_of(
        plain.step("a", lambda: saga.signal("o-1", "paid", 7)), receive("paid"), plain.step("b", in_doubt=InDoubt.RERUN)
    )
    store = left(saga, "paid")
    (result,) = Recovery(store, [saga]).run_once()
    assert result.results["paid"] == 7
    assert plain.log == ["a", "b"]


def test_signals_of_one_name_are_taken_in_the_order_they_came(plain: Any, store: Any) -> None:
    saga = saga_of(receive("x", name="first"), receive("y"), receive("x", name="second"), store=store)
    running = Background(plain, saga, store)
    running.until_begun("first")
    saga.signal("o-1", "x", 1)
    saga.signal("o-1", "x", 2)
    saga.signal("o-1", "y", 3)
    assert running.result.results == {"first": 1, "y": 3, "second": 2}


def test_a_signal_that_comes_twice_is_taken_once(plain: Any, store: Any) -> None:
    go = threading.Event()
    saga = saga_of(receive("x"), plain.step("b", lambda: go.wait(PATIENCE)), store=store)
    running = Background(plain, saga, store)
    running.until_begun("x")
    saga.signal("o-1", "x", 1)
    saga.signal("o-1", "x", 2)
    running.until_begun("b")
    go.set()
    assert running.result.results["x"] == 1


def test_signals_reach_branches_by_name(calls: Any, store: Any) -> None:
    branches = [sequence(receive(name), calls.step(f"after {name}")) for name in "xyz"]
    saga = saga_of(parallel(*branches), calls.step("end"), store=store)
    running = Background(calls, saga, store)
    running.until_begun("z")
    for value, name in enumerate("zxy"):
        saga.signal("o-1", name, value)
    result = running.result
    assert {name: result.results[name] for name in "xyz"} == {"z": 0, "x": 1, "y": 2}
    assert calls.log[-1] == "end"


def test_the_step_after_and_the_context_see_the_value(plain: Any, store: Any) -> None:
    seen: list[Any] = []
    saga = saga_of(
        receive("paid"),
        step(lambda paid: seen.append(paid), name="b"),
        step(lambda context: seen.append(context.result_of("paid")), name="c"),
        store=store,
    )
    running = Background(plain, saga, store)
    running.until_begun("paid")
    saga.signal("o-1", "paid", [1, 2])
    assert running.result.ok
    assert seen == [[1, 2], [1, 2]]


class Colour(Enum):
    RED = 1


@dataclass
class Payment:
    amount: Decimal
    when: datetime


VALUES = [
    None,
    0,
    "text",
    b"bytes",
    1.5,
    (1, (2,)),
    {1, 2},
    {"a": [1]},
    Decimal("1.10"),
    date(2020, 1, 2),
    datetime(2020, 1, 2, 3, 4, tzinfo=UTC),
    UUID(int=5),
    Path("a/b"),
    Colour.RED,
    Payment(Decimal(5), datetime(2020, 1, 2)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_signals_value_keeps_its_type(plain: Any, value: Any) -> None:
    store = MemoryStore()
    saga = saga_of(receive("x"), store=store)
    running = Background(plain, saga, store)
    running.until_begun("x")
    saga.signal("o-1", "x", value)
    found = running.result.results["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("policy", [None, Skip])
def test_a_signal_that_does_not_come_in_time(calls: Any, policy: Any) -> None:
    options = {} if policy is None else {"on_error": policy}
    saga = saga_of(calls.step("a"), receive("paid", timeout=SHORT, **options), calls.step("b"), store=MemoryStore())
    result = calls.run(saga)
    if policy is Skip:
        assert result.ok
        assert calls.log == ["a", "b"]
        assert result.history[1].status is StepStatus.SKIPPED
    else:
        assert result.status is Status.COMPENSATED
        assert calls.log == ["a", "-a"]
        assert isinstance(result.error, StepTimeoutError)
        assert "'paid' did not come within 0.02 s" in str(result.error)


def test_a_signal_that_comes_in_time_is_not_timed_out_later(calls: Any, store: Any) -> None:
    saga = saga_of(receive("paid", timeout=2 * LONG), timer(2.2 * LONG), calls.step("b"), store=store)
    running = Background(calls, saga, store)
    running.until_begun("paid")
    saga.signal("o-1", "paid", 1)
    result = running.result
    assert result.ok
    assert result.results["paid"] == 1


def test_a_signal_that_comes_too_late_changes_nothing(calls: Any, store: Any) -> None:
    saga = saga_of(receive("paid", timeout=SHORT, on_error=Skip), timer(0.1, name="t"), calls.step("b"), store=store)
    running = Background(calls, saga, store)
    running.until_begun("t")
    saga.signal("o-1", "paid", 1)
    result = running.result
    assert result.ok
    assert "paid" not in result.results


def test_recovery_parks_what_waits_for_a_signal(plain: Any, left: Any) -> None:
    saga = saga_of(plain.step("a"), receive("paid", timeout=100.0), plain.step("b"))
    store = left(saga, "paid", age=40.0)
    Recovery(store, [saga]).run_once()
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner) == ("running", None)
    assert 55 < row.due - store.now() <= 60


def test_a_wait_that_ran_out_while_nobody_ran_it_fails(plain: Any, left: Any) -> None:
    saga = saga_of(plain.step("a"), receive("paid", timeout=100.0), plain.step("b"))
    store = left(saga, "paid", age=200.0)
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert plain.log == ["a", "-a"]


def test_recovery_parks_coroutines_that_wait_too(left: Any) -> None:
    log: list[str] = []

    async def act() -> None:
        log.append("b")

    saga = saga_of(receive("paid", timeout=100.0), step(act))
    store = left(saga, "paid", age=40.0)
    Recovery(store, [saga]).run_once()
    row = store.get("o-1")
    assert row is not None
    assert 55 < row.due - store.now() <= 60
    assert log == []


def test_recovery_reads_signals_before_it_parks(left: Any, plain: Any) -> None:
    saga = saga_of(plain.step("a"), receive("x"), plain.step("b"))
    store = left(saga, "x")
    saga.signal("o-1", "x", 5, store=store)
    (result,) = within(PATIENCE, Recovery(store, [saga]).run_once)  # it claims and parks for ever
    assert result.ok
    assert result.results["x"] == 5


def test_recovery_of_coroutines_does_too(left: Any, coroutines: Any) -> None:
    saga = saga_of(coroutines.step("a"), receive("x"), coroutines.step("b"))
    store = left(saga, "x")
    saga.signal("o-1", "x", 5, store=store)
    (result,) = within(PATIENCE, Recovery(store, [saga]).run_once)
    assert result.ok


def test_a_result_of_a_parked_execution_can_be_waited_for(left: Any) -> None:
    saga = saga_of(receive("x"))
    (result,) = Recovery(left(saga, "x"), [saga]).run_once()
    with suppress(TimeoutError):
        assert result.join(0.1).status is Status.RUNNING


@pytest.mark.parametrize("action", ["cancel", "compensate"])
@pytest.mark.parametrize("wait", [receive("x"), timer(60.0, name="x")])
def test_operators_cancel_an_execution_that_waits(action: str, wait: Any, log: list[str], plain: Any) -> None:
    store = MemoryStore()
    running = Background(plain, saga_of(plain.step("a"), wait), store)
    running.until_begun("x")
    getattr(Operations(store, "ann"), action)("o-1", "a test")
    keeper_of(store).look("o-1")
    assert running.result.status is Status.COMPENSATED
    assert log == ["a", "-a"]


def test_and_one_that_nobody_runs(left: Any, plain: Any) -> None:
    saga = saga_of(plain.step("a"), receive("x"))
    store = left(saga, "x")
    Recovery(store, [saga]).run_once()
    Operations(store, "ann").cancel("o-1", "a test")
    within(PATIENCE, Recovery(store, [saga]).run_once)
    row = store.get("o-1")
    assert row is not None
    assert row.status == "compensated"


def test_a_signal_that_only_the_store_knows_of_is_in_time(calls: Any) -> None:
    # Nobody woke the execution: it looks into its inbox before the time is over for it.
    store = MemoryStore()
    running = Background(calls, saga_of(receive("x", timeout=1.0)), store)
    running.until_begun("x")
    store.post("o-1", signal_message("x", 5, Codec(), store, "o-1"))
    assert running.result.results == {"x": 5}


def two_receivers(gate: Gate) -> Saga:
    return saga_of(step(gate.hold, name="w"), parallel(receive("x", name="p"), receive("x", name="q")))


def test_two_early_signals_reach_two_receivers_once_each(plain: Any, gate: Any) -> None:
    store, saga = MemoryStore(), two_receivers(gate)
    running = Background(plain, saga, store)
    running.until_begun("w")
    saga.signal("o-1", "x", 1, store=store)
    saga.signal("o-1", "x", 2, store=store)
    gate.open()
    assert sorted(running.result.results[name] for name in "pq") == [1, 2]


def test_one_early_signal_ends_one_wait(plain: Any, gate: Any) -> None:
    store, saga = MemoryStore(), two_receivers(gate)
    running = Background(plain, saga, store)
    running.until_begun("w")
    saga.signal("o-1", "x", 1, store=store)
    gate.open()
    time.sleep(0.2)
    assert store.get("o-1").status == "running"  # type: ignore[union-attr]
    saga.signal("o-1", "x", 2, store=store)
    assert sorted(running.result.results[name] for name in "pq") == [1, 2]


def test_two_signals_read_at_once_reach_both_receivers(plain: Any) -> None:
    store = MemoryStore()
    saga = saga_of(parallel(receive("x", name="p"), receive("x", name="q")))
    running = Background(plain, saga, store)
    running.until_begun("q")
    store.post("o-1", signal_message("x", 1, Codec(), store, "o-1"))
    saga.signal("o-1", "x", 2, store=store)
    assert sorted(running.result.results[name] for name in "pq") == [1, 2]


def test_a_failing_sibling_ends_the_wait(calls: Any, store: Any) -> None:
    group = parallel(sequence(receive("never"), calls.step("x")), calls.step("b", ValueError()))
    result = calls.run(saga_of(calls.step("a"), group, store=store), saga_id="o-1")
    assert result.status is Status.COMPENSATED
    assert calls.log == ["a", "b", "-a"]
    assert store.get("o-1").status == "compensated"


def test_the_deadline_ends_the_wait(calls: Any, store: Any) -> None:
    with Clock():
        result = calls.run(saga_of(calls.step("a"), receive("never"), timeout=1800.0, store=store))
    assert isinstance(result.error, SagaTimeoutError)
    assert calls.log == ["a", "-a"]


def test_a_cancellation_ends_the_wait(calls: Any, store: Any) -> None:
    if not calls.in_loop:
        pytest.skip("only in an event loop")

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(LONG):
                await saga_of(calls.step("a"), receive("never"), store=store).aexecute(saga_id="o-1")

    asyncio.run(work())
    assert calls.log == ["a", "-a"]
    assert store.get("o-1").status == "compensated"


def test_signals_that_make_no_sense_are_refused(plain: Any) -> None:
    store = MemoryStore()
    saga = saga_of(plain.step("a"), receive("paid"))
    with pytest.raises(SagaDefinitionError, match="has no store"):
        saga.signal("o-1", "paid")
    with pytest.raises(SagaDefinitionError, match="no signal 'payed'; signals: paid"):
        saga.signal("o-1", "payed", store=store)
    with pytest.raises(SagaDefinitionError, match="signals: none"):
        saga_of(plain.step("a")).signal("o-1", "paid", store=store)
    with pytest.raises(StorageError, match="o-1"):
        saga.signal("o-1", "paid", store=store)
    with pytest.raises(EncodingError, match="signal 'paid'"):
        saga.signal("o-1", "paid", threading.Lock(), store=store)


def test_a_saga_that_receives_and_has_no_store_is_refused(plain: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="receives signals, which need a store"):
        within(PATIENCE, saga_of(receive("x")).try_execute)
    with transaction() as tx, pytest.raises(SagaDefinitionError, match="step 'x' receives a signal"):
        tx.parallel(receive("x"), plain.step("a"))


def test_an_ended_execution_takes_no_signal_and_stays_as_it_is(plain: Any) -> None:
    store = MemoryStore()
    saga = saga_of(plain.step("a"), receive("paid", timeout=SHORT, on_error=Skip), store=store)
    assert plain.run(saga, saga_id="o-1").ok
    with pytest.raises(ActionRefusedError, match="has ended"):
        saga.signal("o-1", "paid", 1)
    assert Recovery(store, [saga]).run_once() == []
    stored = store.get("o-1")
    assert stored is not None
    assert stored.status == "completed"


@pytest.mark.parametrize("seconds", [0, -1, "5", None, float("nan"), float("inf"), True])
def test_times_that_make_no_sense_are_refused(seconds: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="above 0"):
        timer(seconds)
    if seconds is not None:
        with pytest.raises(SagaDefinitionError, match="above 0"):
            receive("x", timeout=seconds)


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(SagaDefinitionError, match="used twice"):
        _ = saga_of(receive("x"), receive("x")).plan


def test_a_wait_takes_no_policy_with_the_operator() -> None:
    with pytest.raises(SagaDefinitionError, match="nobody calls x, which waits; give it on_error="):
        _ = receive("x") | Skip


# -- dying while waiting ----------------------------------------------------------------------------------------------


def test_wherever_the_process_dies_a_saga_with_timers_ends_whole(crashes: Any) -> None:
    def build(effects: Any) -> Saga:
        group = parallel(sequence(timer(0.001, name="t1"), effects.step("b", in_doubt=InDoubt.RERUN)), timer(0.002, name="t2"))
        return saga_of(effects.step("a", in_doubt=InDoubt.RERUN), group, timer(0.001, name="t3"), effects.step("c"))

    ends = set()
    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        ends.add(crash.status)
        assert crash.effects == ({"a", "b", "c"} if crash.status == "completed" else set()), (crash, crash.kinds)
    assert ends == {"completed", "compensated"}
