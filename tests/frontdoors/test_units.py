"""``unit``: a flow with policies of its own. What was done of it is undone before it is tried again, skipped or replaced."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from saga import (
    Ask,
    Context,
    Effect,
    InDoubt,
    Retry,
    Saga,
    Skip,
    Status,
    StepStatus,
    choose,
    each,
    fallback,
    parallel,
    saga_step,
    sequence,
    step,
    transaction,
    unit,
)
from saga.errors import ActionRefusedError, SagaDefinitionError, StepTimeoutError
from saga.events import StepFailed, UnitCompensating
from saga.machine import Machine
from saga.operations import Operations
from saga.recovery import Recovery
from saga.result import fold_history
from saga.storage import MemoryStore, Store
from saga.worker import Worker
from tests.kit import PATIENCE, SHORT, Gate, Watch, saga_of
from tests.kit.stores import Watched


def failing(times: int, error: Exception | None = None) -> Any:
    """Return what raises so many times, and then does nothing."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error or ValueError("it fails")

    return fail


# -- what follows -------------------------------------------------------------------------------------------------------


def test_a_unit_that_ends_well_is_as_its_steps_are(calls: Any) -> None:
    result = calls.run(saga_of(unit(calls.step("a"), calls.step("b"), retry=Retry(3)), calls.step("c")))
    assert calls.log == ["a", "b", "c"]
    assert result.results == {"a..b": None, "a": "result of a", "b": "result of b", "c": "result of c"}
    assert [(one.name, one.status, one.effect) for one in result.history] == [
        ("a..b", StepStatus.SUCCEEDED, Effect.NONE),
        *((name, StepStatus.SUCCEEDED, Effect.STANDS) for name in "abc"),
    ]


@pytest.mark.parametrize("fails", [1, 2])
def test_it_is_undone_and_tried_again(calls: Any, fails: int) -> None:
    flow = unit(calls.step("a"), calls.step("b", failing(fails)), retry=Retry(3))
    result = calls.run(saga_of(calls.step("before"), flow, calls.step("after")))
    assert result.ok
    assert calls.log == ["before", *["a", "b", "-a"] * fails, "a", "b", "after"]


def test_where_no_attempt_is_left_the_saga_gives_up(calls: Any) -> None:
    flow = unit(calls.step("a"), calls.step("b", failing(9, OSError())), retry=Retry(2))
    result = calls.run(saga_of(calls.step("before"), flow))
    assert (result.status, result.failed_step) == (Status.COMPENSATED, "a..b")
    assert isinstance(result.error, OSError)
    assert calls.log == ["before", "a", "b", "-a", "a", "b", "-a", "-before"]


def test_a_retry_of_a_unit_looks_at_the_error_as_that_of_a_step_does(calls: Any) -> None:
    flow = unit(calls.step("a"), calls.step("b", failing(9)), retry=Retry(5, retry_on=OSError))
    assert calls.run(saga_of(flow)).status is Status.COMPENSATED
    assert calls.log == ["a", "b", "-a"]


def test_the_saga_goes_on_without_it(calls: Any) -> None:
    result = calls.run(saga_of(unit(calls.step("a"), calls.step("b", failing(1)), on_error=Skip), calls.step("c")))
    assert result.ok
    assert calls.log == ["a", "b", "-a", "c"]
    assert [one.status for one in result.history] == [
        StepStatus.SKIPPED,
        StepStatus.COMPENSATED,
        StepStatus.FAILED,
        StepStatus.SUCCEEDED,
    ]


def test_something_is_done_instead(calls: Any) -> None:
    flow = fallback(sequence(calls.step("a"), calls.step("b", failing(1, OSError()))), calls.step("c"), on=OSError)
    result = calls.run(saga_of(flow, calls.step("d", ValueError())))
    assert result.status is Status.COMPENSATED
    assert calls.log == ["a", "b", "-a", "c", "d", "-c"]


def test_another_error_than_the_fallbacks_is_the_sagas(calls: Any) -> None:
    flow = fallback(sequence(calls.step("a"), calls.step("b", failing(1))), calls.step("c"), on=OSError)
    assert calls.run(saga_of(flow)).status is Status.COMPENSATED
    assert calls.log == ["a", "b", "-a"]


def test_a_group_is_tried_again_when_what_runs_of_it_has_ended(calls: Any) -> None:
    group = parallel(calls.step("a"), calls.step("b", failing(1))) | Retry(2)
    result = calls.run(saga_of(group, calls.step("c")))
    assert result.ok
    assert sorted(calls.log[:3]) == ["-a", "a", "b"]
    assert sorted(calls.log[3:5]) == ["a", "b"]
    assert calls.log[5:] == ["c"]


def test_a_branch_beside_it_goes_on(calls: Any) -> None:
    beside = sequence(calls.step("x"), calls.step("y"))
    flow = unit(calls.step("a"), calls.step("b", failing(1)), retry=Retry(2))
    result = calls.run(saga_of(parallel(flow, beside), calls.step("c", ValueError())))
    assert result.status is Status.COMPENSATED
    assert [name for name in calls.log if name.strip("-") in ("a", "b")] == ["a", "b", "-a", "a", "b", "-b", "-a"]
    assert [name for name in calls.log if name.strip("-") in ("x", "y")] == ["x", "y", "-y", "-x"]


def test_units_in_units_count_their_own_attempts(calls: Any) -> None:
    inner = unit(calls.step("a"), calls.step("b", failing(3)), retry=Retry(2), name="inner")
    assert calls.run(saga_of(unit(calls.step("x"), inner, retry=Retry(2)))).ok
    assert calls.log == ["x", "a", "b", "-a", "a", "b", "-a", "-x", "x", "a", "b", "-a", "a", "b"]


def test_a_steps_own_retry_comes_first_and_is_counted_anew(calls: Any) -> None:
    assert calls.run(saga_of(unit(calls.step("a"), calls.step("b", failing(3), retry=Retry(2)), retry=Retry(2)))).ok
    assert calls.log == ["a", "b", "b", "-a", "a", "b", "b"]


def test_a_compensation_that_fails_within_is_the_sagas_failure(calls: Any) -> None:
    flow = unit(calls.step("a", None, KeyError("undo")), calls.step("b", failing(1)), retry=Retry(5), on_error=Skip)
    result = calls.run(saga_of(calls.step("before"), flow))
    assert result.status is Status.STUCK
    assert [error.step for error in result.compensation_errors] == ["a"]
    assert calls.log == ["before", "a", "b", "-a", "-before"]


def test_what_is_in_doubt_is_undone_with_it(calls: Any) -> None:
    flow = unit(calls.step("a"), calls.step("b", failing(1, TimeoutError())), retry=Retry(2))
    assert calls.run(saga_of(flow)).ok
    assert calls.log == ["a", "b", "-b", "-a", "a", "b"]


def test_branches_in_conflict_are_undone_and_tried_again() -> None:
    tried: list[str] = []

    def put(name: str) -> Any:
        def act(context: Context) -> None:
            tried.append(name)
            context.who = name if tried.count(name) == 1 else "both"

        return step(act, name=name)

    result = saga_of(parallel(put("a"), put("b")) | Retry(2)).try_execute()
    assert (result.ok, result.context.who) == (True, "both")


# -- what is seen -------------------------------------------------------------------------------------------------------


def test_what_it_changed_is_forgotten_and_what_it_changes_at_last_is_seen(calls: Any) -> None:
    seen: list[Any] = []
    fail = failing(1)

    def a(context: Context) -> None:
        seen.append({**context, "basket": [*context.basket]})
        context.update(key="new", more=len(seen))
        context.basket.append(len(seen))

    def undo(context: Context) -> None:
        seen.append(("undo", context.key, list(context.basket)))

    saga = saga_of(unit(step(a, undo), step(lambda: fail(), name="b"), retry=Retry(2)))
    result = calls.run(saga, Context(key="old", basket=[]))
    assert seen == [{"key": "old", "basket": []}, ("undo", "new", [1]), {"key": "old", "basket": []}]
    assert (result.context.key, result.context.more, result.context.basket) == ("new", 3, [3])


def test_the_undo_knows_what_it_is_for() -> None:
    told: list[Any] = []

    def undo(context: Context) -> None:
        told.append((repr(context.step.cause), context.step.failed_step))

    flow = unit(step(lambda: None, undo, name="a"), step(failing(1), name="b"), on_error=Skip)
    assert saga_of(flow).try_execute().ok
    assert told == [("ValueError('it fails')", "b")]


def test_what_is_executed_again_has_another_idempotency_key_and_its_undo_the_first() -> None:
    keys: list[str] = []
    fail = failing(1)

    def note(context: Context) -> None:
        keys.append(context.step.idempotency_key)

    def act(context: Context) -> None:
        note(context)
        fail()

    saga_of(parallel(unit(step(note, note, name="a"), step(act, name="b"), retry=Retry(2)), step(lambda: 1, name="x")),
            step(failing(1), name="last")).try_execute(saga_id="1")  # fmt: skip
    assert keys == ["s/1/a", "s/1/b", "s/1/a", "s/1/a#2", "s/1/b#2", "s/1/a#2"]


def test_the_step_after_it_gets_its_last_result(plain: Any) -> None:
    for flow in (unit(plain.step("a"), plain.step("b")), unit(parallel(plain.step("a"), plain.step("b")))):
        result = plain.run(saga_of(flow, step(lambda before: before, name="c")))
        assert result.results["c"] in ("result of b", ("result of a", "result of b"))


def test_a_step_that_was_skipped_counts_anew(calls: Any) -> None:
    inside = (calls.step("a", failing(1), on_error=Skip), calls.step("b", failing(1)))
    result = calls.run(saga_of(unit(*inside, retry=Retry(2)), calls.step("c", ValueError())))
    assert result.status is Status.COMPENSATED
    assert calls.log == ["a", "b", "a", "b", "c", "-b", "-a"]


def test_a_list_within_it_is_made_again(store: Store) -> None:
    lists, done = iter([["x", "bad", "y"], ["x", "z"]]), []

    def ship(item: str) -> str:
        if item == "bad":
            raise ValueError(item)
        done.append(item)
        return item.upper()

    shipping = each(lambda context: next(lists), step(ship, lambda own: done.append(f"-{own}")), limit=1, key=str)
    saga = saga_of(shipping | Retry(2), step(lambda all: all, name="last"), store=store)
    saga.execute(saga_id="o-1")
    result = saga.load("o-1")
    assert done == ["x", "-X", "x", "z"]
    assert result.results["last"] == ["X", "Z"]
    assert {name: record.status for name, record in ((one.name, one) for one in result.history)} == {
        "ship..": StepStatus.SUCCEEDED,
        "ship": StepStatus.SUCCEEDED,
        "ship[x]": StepStatus.SUCCEEDED,
        "ship[bad]": StepStatus.FAILED,
        "ship[y]": StepStatus.PENDING,
        "ship[z]": StepStatus.SUCCEEDED,
        "last": StepStatus.SUCCEEDED,
    }


def test_a_way_is_chosen_again() -> None:
    chosen, fail = iter(["slow", "fast"]), failing(1)
    done: list[str] = []
    ways = {"slow": step(lambda: fail(), name="slow"), "fast": step(lambda: done.append("fast"), name="fast")}
    assert saga_of(unit(choose(lambda context: next(chosen), ways), retry=Retry(2))).try_execute().ok
    assert done == ["fast"]


# -- timeouts -----------------------------------------------------------------------------------------------------------


def test_an_attempt_of_it_that_takes_too_long_is_undone_and_tried_again(calls: Any) -> None:
    gate = Gate()
    slow = [(lambda: asyncio.sleep(PATIENCE)) if calls.in_loop else gate.hold]

    def during() -> Any:
        return slow.pop()() if slow else None

    watch = Watch()
    flow = unit(calls.step("a"), calls.step("b", during), retry=Retry(2), timeout=SHORT)
    saga = saga_of(flow, observers=[watch])
    threading.Timer(SHORT * 3, gate.open).start()
    result = calls.run_to_end(saga)
    assert result.ok
    assert calls.log == ["a", "b", *(["-a", "-b"] if not calls.in_loop else ["-b", "-a"]), "a", "b"]
    assert isinstance(watch.of(UnitCompensating)[0].error, StepTimeoutError)


def test_a_saga_within_a_saga_keeps_its_timeout() -> None:
    gate = Gate()
    inner = saga_of(step(lambda: gate.hold(), name="slow"), timeout=SHORT)
    outer = Saga("outer").add_task(step(lambda: 1, name="first")).add_task(inner)
    assert outer.plan.names == ("first", "s", "s/slow")
    result = outer.try_execute()
    assert isinstance(result.error, StepTimeoutError)
    assert "unit 's' took longer than its timeout of" in str(result.error)
    gate.open()
    assert result.join(PATIENCE).status is Status.COMPENSATED


def test_its_time_goes_on_where_its_process_died(left: Any) -> None:
    saga = saga_of(unit(step(lambda: 1, name="a"), step(lambda: 2, name="b", in_doubt=InDoubt.RERUN), timeout=50.0))
    store = left(saga, "b", age=60.0)
    Recovery(store, [saga]).run_once()
    found = saga.load("o-1", store=store)
    assert found.status is Status.COMPENSATED
    assert isinstance(found.error, Exception)
    assert "took longer than its timeout" in str(found.error)


# -- persons ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "log"), [("resume", ["a", "b"]), ("skip", []), ("compensate", ["-before"])])
def test_a_person_decides_about_it(action: str, log: list[str], store: Store) -> None:
    done: list[str] = []

    def act(name: str, during: Any = None) -> Any:
        def execute() -> None:
            done.append(name)
            if during is not None:
                during()

        return step(execute, lambda own: done.append(f"-{name}"), name=name)

    saga = saga_of(act("before"), unit(act("a"), act("b", failing(1)), name="u", on_error=Ask), store=store)
    assert saga.try_execute(saga_id="o-1").status is Status.STUCK
    assert done == ["before", "a", "b", "-a"]
    operations = Operations(store, "ann")
    if action == "skip":
        operations.skip("o-1", "u", why="it is done by hand")
    else:
        getattr(operations, action)("o-1", why="look")
    Recovery(store, [saga]).run_once()
    assert done[4:] == log
    assert saga.load("o-1").status is (Status.COMPENSATED if action == "compensate" else Status.COMPLETED)


def test_who_looks_at_it_is_told_what_stands_in_it(store: Store) -> None:
    saga = saga_of(step(lambda: 1, name="a"), unit(step(lambda: 1, name="b"), name="u", retry=Retry(2)), store=store)
    saga.execute(saga_id="o-1")
    steps = Operations(store, "ann", sagas=[saga]).show("o-1").steps
    assert {one.name: one.path for one in steps} == {"a": (), "u": (), "b": ("unit u",)}


def test_nobody_undoes_back_to_a_step_within_it(store: Store) -> None:
    saga = saga_of(unit(step(lambda: 1, name="a"), step(lambda: 1, name="b"), name="u"), step(lambda: 1, name="c"), store=store)
    saga.execute(saga_id="o-1")
    with pytest.raises(ActionRefusedError, match="step 'a' stands in unit 'u'; give that, or a step before or after it"):
        saga.undo("o-1", to="a", why="look")


def test_what_followed_it_is_undone_and_goes_forward_again(store: Store) -> None:
    done: list[str] = []

    def act(name: str) -> Any:
        return step(lambda: done.append(name), lambda own: done.append(f"-{name}"), name=name)

    saga = saga_of(act("a"), unit(act("b"), act("c"), name="u", retry=Retry(2)), act("d"), store=store)
    saga.execute(saga_id="o-1")
    saga.undo("o-1", to="a", why="look")
    Operations(store, "ann").resume("o-1", why="go on")
    Recovery(store, [saga]).run_once()
    assert saga.load("o-1").status is Status.COMPLETED
    assert done == ["a", "b", "c", "d", "-d", "-c", "-b", "b", "c", "d"]


# -- journals -----------------------------------------------------------------------------------------------------------


def test_it_costs_no_commit() -> None:
    plain, within = Watched(MemoryStore()), Watched(MemoryStore())
    flows = [step(lambda: 1, name=name) for name in "abc"]
    saga_of(*flows, store=plain).execute()
    saga_of(flows[0], unit(*flows[1:], retry=Retry(2)), store=within).execute()
    assert len(within.writes) == len(plain.writes)


def build(effects: Any, policies: dict[str, Any], last: Any) -> Saga:
    inside = (effects.step("b"), parallel(effects.step("c"), effects.step("d", failing(1))))
    return saga_of(effects.step("a"), unit(*inside, name="u", **policies), effects.step("e", last))


@pytest.mark.parametrize("policies", [{"retry": Retry(2)}, {"on_error": Skip}, {"timeout": 60.0}], ids=str)
@pytest.mark.parametrize("last", [None, ValueError()], ids=["goes well", "fails"])
def test_wherever_the_process_dies_nothing_is_done_by_half(crashes: Any, policies: dict[str, Any], last: Any) -> None:
    for crash in crashes(lambda effects: build(effects, policies, last)):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status in ("completed", "compensated"), (crash, crash.kinds)
        unit_done = {"b", "c", "d"}
        if crash.status == "compensated":
            assert not crash.effects, (crash, crash.kinds)
        else:
            assert crash.effects - unit_done == {"a", "e"}, (crash, crash.kinds)
            assert crash.effects & unit_done in (unit_done, set()), (crash, crash.kinds)


def test_a_worker_runs_it_and_another_takes_its_retry_up(store: Store) -> None:
    fail = failing(1)
    saga = saga_of(unit(step(lambda: 1, lambda own: None, name="a"), step(lambda: fail(), name="b"), retry=Retry(2, 0.01)))
    with_store = Saga("stored", store=store).add_task(saga)
    handle = with_store.submit(saga_id="o-1")
    worker = Worker(store, [with_store])
    while handle.status() is not Status.COMPLETED:
        worker.run_once()
    events = handle.result(PATIENCE).events
    assert [event.step for event in events if isinstance(event, StepFailed)] == ["s/b", "s/a..b"]


def test_a_machine_made_anew_from_its_journal_is_the_same(store: Store) -> None:
    result = saga_of(
        unit(step(lambda: 1, lambda own: None, name="a"), step(failing(2), name="b"), retry=Retry(3)), store=store
    ).execute(saga_id="o-1")
    machine = Machine(result._plan, "s", "o-1").replayed(result.events)
    assert (machine.status, machine.state.undoing, machine.state.units) == (Status.COMPLETED, {}, set())


# -- as it is written ---------------------------------------------------------------------------------------------------


class Order(Saga):
    @saga_step
    def reserve(self) -> str:
        return "r-1"

    @saga_step
    def charge(self, reservation: str) -> str:
        return f"paid {reservation}"

    flow = (unit(reserve, charge, retry=Retry(2), name="buy"),)


def test_it_is_written_as_other_flows_are() -> None:
    assert Order().execute().results == {"buy": None, "reserve": "r-1", "charge": "paid r-1"}
    inner = Saga("inner").add_task(step(lambda: 1, name="a"))
    assert Saga("outer").add_task(inner | Retry(2)).plan.names == ("inner", "inner/a")
    assert saga_of(sequence(step(lambda: 1, name="a"), step(lambda: 1, name="b")) | Retry(2) | Skip).plan.names == (
        "a..b",
        "a",
        "b",
    )
    assert saga_of(step(lambda: 1, name="a"), each("k", step(lambda one: one, name="b")) | Skip).plan.names == ("a", "b..", "b")


A, B, P = (step(lambda: None, name=name, pivot=name == "p") for name in "abp")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: unit(), "unit(): it has no steps"),
        (lambda: unit(A, B, name=" "), "unit(): name is ' '"),
        (lambda: unit(A, B, retry=3), "unit(): retry is 3; give Retry"),  # type: ignore[arg-type]
        (lambda: unit(A, B, on_error=ValueError), "unit(): on_error is <class 'ValueError'>"),  # type: ignore[arg-type]
        (lambda: unit(A, B, timeout=-1), "unit(): timeout is -1"),
        (lambda: unit(A, B, retry=Retry(2, retry_if=lambda one: True)), "retry_if, which is asked about what one step returns"),
        (lambda: unit(A, 5), "unit(): 5 (int) is not a task"),  # type: ignore[arg-type]
        (lambda: saga_of(A, unit(B, P, name="u")).plan, "a pivot stands in unit 'u', which could not be undone then"),
        (lambda: saga_of(A, unit(B, name="a")).plan, "step 'a': the name is used twice"),
        (
            lambda: saga_of(unit(step(lambda: 1, name="t", transactional=True), name="u", timeout=1.0)).plan,
            "it stands in unit 'u', which has a timeout, and nobody cuts off a transaction here",
        ),
    ],
)
def test_what_is_wrong_is_refused_where_it_is_written(wrong: Any, text: str) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        wrong()
    assert text in str(caught.value)


def test_a_block_says_itself_what_follows() -> None:
    told = "unit 'u' has policies of its own, which a block says itself; write try"
    with pytest.raises(SagaDefinitionError, match=told), transaction("block") as tx:
        tx.parallel(unit(A, B, name="u"), step(lambda: 1, name="c"))


def test_who_looks_at_its_lists_again_and_again_finds_the_same() -> None:
    lists = iter([["x", "bad"], ["x", "z"]])

    def ship(item: str) -> None:
        if item == "bad":
            raise ValueError(item)

    saga = saga_of(each(lambda context: next(lists), step(ship), limit=1) | Retry(2))
    result = saga.execute()
    first, steps = [one.name for one in result.history], len(result._plan.steps)
    for _ in range(3):
        assert [record.name for record in fold_history(result._plan, result.events).values()] == first
    assert len(result._plan.steps) == steps


def test_one_whose_saga_ends_by_its_timeout_has_failed_with_that(store: Store) -> None:
    gate = Gate()
    inner = saga_of(step(lambda: gate.hold(), name="slow"), timeout=SHORT)
    outer = Saga("outer", store=store).add_task(inner)
    result = outer.try_execute(saga_id="o-1")
    gate.open()
    told = {one.name: (one.status, type(one.error)) for one in result.join(PATIENCE).history}
    assert told["s"] == (StepStatus.FAILED, StepTimeoutError)
    shown = Operations(store, "ann").show("o-1").steps  # without its definition
    assert {one.name: str(one.status) for one in shown}["s"] == "failed"


def test_an_undo_of_what_is_undone_already_says_so(store: Store) -> None:
    flow = unit(step(lambda: 1, lambda own: None, name="b"), step(failing(9), name="c"), name="u", on_error=Skip)
    saga = saga_of(step(lambda: 1, name="a"), flow, store=store)
    saga.execute(saga_id="o-1")
    offers = Operations(store, "ann", sagas=[saga]).show("o-1").offers
    assert {one.step: one.does for one in offers if one.action == "undo" and one.step == "a"} == {
        "a": "undoes nothing: nothing of it is left; then it rests, until a person resumes it from 'u' on"
    }
