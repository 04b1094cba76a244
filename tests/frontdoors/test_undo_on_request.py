"""A completed execution is undone because somebody says so: wholly, or back to a step from which it goes forward again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest

from saga import Context, Effect, Retry, Saga, Skip, Status, fallback, parallel, receive, sequence, step, transaction
from saga.durable.codec import Codec
from saga.errors import (
    ActionRefusedError,
    DefinitionChangedError,
    MergeConflictError,
    SagaCompensationError,
    SagaDefinitionError,
    StorageError,
    UnknownExecutionError,
)
from saga.events import OperatorActed
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, Store
from tests.kit import PATIENCE, Calls, failing_times, journal_of, saga_of, within

WHY: Final = "the customer has changed her mind"

Undo = Callable[[Saga, Store, "str | None"], Any]


def here(saga: Saga, store: Store, to: str | None = None) -> Any:
    """Undo an execution here and now."""
    return saga.undo("o-1", WHY, to, who="ann", store=store)


def in_the_loop(saga: Saga, store: Store, to: str | None = None) -> Any:
    """Undo it in an event loop."""
    return asyncio.run(saga.aundo("o-1", WHY, to, who="ann", store=store))


def by_operations(saga: Saga, store: Store, to: str | None = None) -> Any:
    """Let a recovery undo it."""
    Operations(store, "ann", sagas=[saga]).undo("o-1", WHY, to)
    assert store.get("o-1").status == "compensating"  # type: ignore[union-attr]
    (result,) = recovered(store, saga)
    return result


def recovered(store: Store, saga: Saga) -> list[Any]:
    return within(PATIENCE, lambda: Recovery(store, [saga]).run_once())


def resumed(store: Store, saga: Saga) -> Any:
    Operations(store, "ann", sagas=[saga]).resume("o-1", "she wants it after all")
    (result,) = recovered(store, saga)
    return result


every = pytest.mark.parametrize("undo", [here, in_the_loop, by_operations])

#: Flows that complete, by what they are made of: what is called, and what in an undo, back to ``a`` and wholly.
FLOWS: Final[dict[str, tuple[Callable[[Calls], Sequence[Any]], str, str]]] = {
    "one after the other": (lambda c: [c.step("a"), c.step("b"), c.step("c")], "a b c", "-c -b|-a"),
    "side by side": (
        lambda c: [c.step("a"), parallel(c.step("b"), c.step("c", undo=False)), c.step("d")],
        "a b c d",
        "-d -b|-a",
    ),
    "a fallback": (
        lambda c: [c.step("a"), fallback(c.step("b", OSError()), c.step("c")), c.step("d")],
        "a b c d",
        "-d -c|-a",
    ),
    "a skipped step": (
        lambda c: [c.step("a"), c.step("b", OSError(), on_error=Skip), c.step("c")],
        "a b c",
        "-c|-a",
    ),
    "a saga within": (lambda c: [c.step("a"), Saga("in").add_task(c.step("b")), c.step("c")], "a b c", "-c -b|-a"),
    "what cannot be undone": (lambda c: [c.step("a"), c.step("b", undo=False)], "a b", "|-a"),
    "a retried step": (lambda c: [c.step("a"), c.step("b", failing_times(1), retry=Retry(2))], "a b b", "-b|-a"),
}
flows = pytest.mark.parametrize("flow", FLOWS)


@flows
@every
def test_it_is_wholly_undone_last_first(calls: Calls, store: Store, undo: Undo, flow: str) -> None:
    build, _, undone = FLOWS[flow]
    saga = saga_of(*build(calls))
    completed = calls.run(saga, {"order": 7}, store=store, saga_id="o-1")
    calls.log.clear()
    result = undo(saga, store, None)
    assert calls.log == undone.replace("|", " ").split()
    assert (result.status, result.context, result.results) == (Status.COMPENSATED, completed.context, completed.results)
    assert result.headline() == f"saga 's' (o-1) was undone: SagaCancelledError: undo by ann: {WHY}"
    assert saga.load("o-1", store=store).status is Status.COMPENSATED
    assert Effect.STANDS not in {effect for name, effect in result.effects.items() if f"-{name}" in calls.log}


@flows
@every
def test_it_is_undone_back_to_a_step_and_goes_forward_again(calls: Calls, store: Store, undo: Undo, flow: str) -> None:
    build, done, undone = FLOWS[flow]
    saga = saga_of(*build(calls))
    completed = calls.run(saga, {"order": 7}, store=store, saga_id="o-1")
    calls.log.clear()
    result = undo(saga, store, "a")
    assert (result.status, result.error) == (Status.PAUSED, None)
    assert result.reason == f"undone back to step 'a' by ann: {WHY}; resume goes forward again from there"
    assert result.effects["a"] is Effect.STANDS
    assert calls.log == undone.partition("|")[0].split()
    assert Operations(store, "bob").show("o-1").reason == result.reason
    calls.log.clear()
    again = resumed(store, saga)
    assert (again.status, again.results, again.context) == (Status.COMPLETED, completed.results, completed.context)
    assert set(calls.log) == set(done.split()) - {"a"}
    calls.log.clear()
    assert undo(saga, store, None).status is Status.COMPENSATED
    assert calls.log == undone.replace("|", " ").split()


def test_what_is_undone_back_to_a_step_is_undone_wholly_too(calls: Calls, store: Store) -> None:
    saga = saga_of(calls.step("a"), calls.step("b"))
    calls.run(saga, store=store, saga_id="o-1")
    here(saga, store, "a")
    Operations(store, "ann", sagas=[saga]).compensate("o-1", "all of it")
    (result,) = recovered(store, saga)
    assert (result.status, calls.log) == (Status.COMPENSATED, ["a", "b", "-b", "-a"])


def test_what_is_executed_again_has_a_key_of_its_own_and_counts_on(store: Store) -> None:
    keys: list[tuple[str, str, int]] = []

    def tell(name: str) -> Callable[[Context], None]:
        def call(context: Context) -> None:
            keys.append((name, context.step.idempotency_key, context.step.attempt))

        return call

    saga = saga_of(*(step(tell(name), tell(f"-{name}"), name=name) for name in "ab"))
    saga.execute(saga_id="o-1", store=store)
    here(saga, store, "a")
    resumed(store, saga)
    here(saga, store)
    assert keys == [
        ("a", "s/o-1/a", 1),
        ("b", "s/o-1/b", 1),
        ("-b", "s/o-1/b", 1),
        ("b", "s/o-1/b#2", 2),
        ("-b", "s/o-1/b#2", 1),
        ("-a", "s/o-1/a", 1),
    ]


def test_what_follows_is_given_what_the_step_had_returned(calls: Calls, store: Store) -> None:
    got: list[Any] = []

    def take(before: Any, context: Context) -> str:
        with pytest.raises(KeyError):
            context.result_of("b")  # which is to be done
        got.append(before)
        return "taken"

    saga = saga_of(calls.step("a"), step(take, name="b"), step(lambda before: got.append(before), name="c"))
    calls.run(saga, store=store, saga_id="o-1")
    here(saga, store, "a")
    resumed(store, saga)
    assert got == ["result of a", "taken"] * 2


def test_what_branches_did_is_merged_again(store: Store) -> None:
    def put(key: str) -> Callable[[Context], None]:
        return lambda context: context.update({key: [*context.get(key, ()), key]})

    def drop(key: str) -> Callable[[Context], None]:
        return lambda context: context[key].append("undone")

    saga = saga_of(step(put("a"), name="a"), parallel(*(step(put(key), drop(key), name=key) for key in "bc")))
    saga.execute(saga_id="o-1", store=store)
    assert here(saga, store, "a").context == {"a": ["a"], "b": ["b", "undone"], "c": ["c", "undone"]}
    assert resumed(store, saga).context == {"a": ["a"], "b": ["b", "undone", "b"], "c": ["c", "undone", "c"]}


def test_branches_that_are_begun_again_have_views_of_their_own_again(store: Store) -> None:
    def put(value: str) -> Callable[[Context], None]:
        return lambda context: context.update({"both": value} if context.step.attempt > 1 else {})

    saga = saga_of(step(lambda: 1, name="a"), parallel(*(step(put(name), name=name) for name in "bc")))
    saga.execute(saga_id="o-1", store=store)
    here(saga, store, "a")
    result = resumed(store, saga)
    assert (result.status, type(result.error)) == (Status.COMPENSATED, MergeConflictError)
    assert "(o-1) failed and was undone: MergeConflictError" in result.headline()


def test_a_receiver_waits_for_another_signal(calls: Calls, store: Store) -> None:
    numbers = iter([1, 2])
    flow = calls.step("a"), calls.step("b", lambda: saga.signal("o-1", "paid", next(numbers))), receive("paid")
    saga: Saga = saga_of(*flow, store=store)
    assert calls.run(saga, saga_id="o-1").results["paid"] == 1
    assert here(saga, store, "a").status is Status.PAUSED
    assert resumed(store, saga).results["paid"] == 2


def reserve() -> str:
    return "a room"


def give_back(result: str, context: Context) -> None:
    GIVEN_BACK.append((result, context.step.cause))


GIVEN_BACK: Final[list[tuple[str, Any]]] = []


def test_a_block_is_undone_by_its_name(store: Store) -> None:
    with transaction("rent", store=store, saga_id="o-1") as tx:
        tx.step(reserve, give_back)
    operations = Operations(store, "ann")
    refused = partial(operations.undo, "o-1", WHY, "reserve")
    left_alone(store, refused, ActionRefusedError, "a block cannot go forward again; undo all of it")
    operations.undo("o-1", WHY)
    (result,) = within(PATIENCE, lambda: Recovery(store, transactions=["rent"], codec=Codec(modules=[__name__])).run_once())
    assert result.status is Status.COMPENSATED
    ((what, cause),) = GIVEN_BACK
    assert (what, cause.action, cause.who) == ("a room", "undo", "ann")
    GIVEN_BACK.clear()


# -- what cannot be undone ----------------------------------------------------------------------------------------------


@every
def test_an_undo_that_fails_is_stuck_and_can_be_tried_again(calls: Calls, store: Store, undo: Undo) -> None:
    saga = saga_of(calls.step("a"), calls.step("b", None, failing_times(1)), calls.step("c"))
    calls.run(saga, store=store, saga_id="o-1")
    if undo is by_operations:
        assert undo(saga, store, "a").status is Status.STUCK
    else:
        with pytest.raises(SagaCompensationError, match="the compensation of step 'b' failed"):
            undo(saga, store, "a")
    Operations(store, "ann", sagas=[saga]).retry("o-1", "the bank is open")
    (result,) = recovered(store, saga)
    assert (result.status, result.effects["a"]) == (Status.PAUSED, Effect.STANDS)


def left_alone(store: Store, act: Callable[[], object], kind: type[Exception], match: str) -> None:
    """See that an action is refused, and touches nothing."""
    before = store.get("o-1"), store.journal("o-1")
    with pytest.raises(kind, match=match):
        act()
    row = store.get("o-1")
    assert row is not None
    assert (row._replace(epoch=0, due=0.0), store.journal("o-1")) == (before[0]._replace(epoch=0, due=0.0), before[1])


@every
@pytest.mark.parametrize(
    ("to", "pivot", "why"),
    [
        (None, True, "the saga is past its pivot"),
        ("x", False, "there is no step 'x'; steps: a, b, c, d"),
        ("b", False, "step 'b' stands in a parallel group; give a step before or after the group"),
        ("d", False, "nothing came after step 'd'; give an earlier one, or none to undo all"),
    ],
)
def test_what_does_not_fit_is_refused(calls: Calls, store: Store, undo: Undo, to: str | None, pivot: bool, why: str) -> None:
    saga = saga_of(calls.step("a", pivot=pivot), parallel(calls.step("b"), calls.step("c")), calls.step("d"))
    calls.run(saga, store=store, saga_id="o-1")
    left_alone(store, lambda: undo(saga, store, to), ActionRefusedError, why)


@every
def test_what_is_not_completed_is_refused(calls: Calls, store: Store, undo: Undo) -> None:
    saga = saga_of(calls.step("a"), calls.step("b", failing_times(1)))
    calls.run(saga, store=store, saga_id="o-1")
    left_alone(store, lambda: undo(saga, store, None), ActionRefusedError, "the execution is undone already")


@every
def test_a_definition_that_no_longer_fits_is_refused(calls: Calls, store: Store, undo: Undo) -> None:
    calls.run(saga_of(calls.step("a"), calls.step("b")), store=store, saga_id="o-1")
    changed = saga_of(calls.step("a"), calls.step("c"))
    left_alone(store, lambda: undo(changed, store, None), DefinitionChangedError, "was begun by version '1'")


def test_operations_need_the_definition(calls: Calls, store: Store) -> None:
    saga, other = saga_of(calls.step("a")), Saga("other").add_task(calls.step("a"))
    calls.run(saga, store=store, saga_id="o-1")
    for operations in Operations(store, "ann"), Operations(store, "ann", sagas=[other]):
        undo = partial(operations.undo, "o-1", WHY)
        left_alone(store, undo, ActionRefusedError, r"give Operations\(..., sagas=\[...\]\) that of saga 's'")
    left_alone(store, lambda: other.undo("o-1", WHY, store=store), UnknownExecutionError, "no execution 'o-1' of saga 'other'")


def test_a_definition_among_several_versions_is_found(calls: Calls, store: Store) -> None:
    saga = saga_of(calls.step("a"))
    calls.run(saga, store=store, saga_id="o-1")
    Operations(store, "ann", sagas=[saga_of(calls.step("b"), version="2"), saga]).undo("o-1", WHY)
    (result,) = recovered(store, saga)
    assert result.status is Status.COMPENSATED


@every
@pytest.mark.parametrize("limit", [timedelta(hours=1), 3600])
def test_after_its_time_it_is_refused(calls: Calls, undo: Undo, limit: Any) -> None:
    passed = [0.0]
    store = MemoryStore(clock=lambda: time.time() + passed[0])
    saga = saga_of(calls.step("a"), calls.step("b"), undoable_for=limit)
    calls.run(saga, store=store, saga_id="o-1")
    passed[0] = 3700.0
    left_alone(store, lambda: undo(saga, store, None), ActionRefusedError, r"was undoable until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
    passed[0] = 3500.0
    assert undo(saga, store, None).status is Status.COMPENSATED


@pytest.mark.parametrize("limit", [0, -1.0, timedelta(0), "1 day", True, float("nan")])
def test_a_limit_is_a_time(limit: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"saga 's': undoable_for is .*; give seconds as a number above 0, or None"):
        Saga("s", undoable_for=limit)


def test_what_somebody_else_acts_on_is_left_to_them(calls: Calls, store: Store) -> None:
    saga = saga_of(calls.step("a"))
    calls.run(saga, store=store, saga_id="o-1")
    assert store.claim("another operator", 60.0, saga_id="o-1")
    for undo in here, in_the_loop, by_operations:
        with pytest.raises(StorageError, match="somebody else acts on execution 'o-1'"):
            undo(saga, store)
    assert calls.log == ["a"]


@pytest.mark.parametrize(("who", "why"), [("", WHY), ("ann", " "), ("ann", None), (3, WHY)])
def test_it_is_said_who_and_why(calls: Calls, store: Store, who: Any, why: Any) -> None:
    saga = saga_of(calls.step("a"))
    calls.run(saga, store=store, saga_id="o-1")
    for method in saga.undo, lambda *args, **named: asyncio.run(saga.aundo(*args, **named)):
        with pytest.raises(ValueError, match=r"^wh[oy] is .*; give the"):
            method("o-1", why, who=who, store=store)


def test_it_needs_a_store(calls: Calls) -> None:
    with pytest.raises(SagaDefinitionError, match="saga 's' has no store"):
        saga_of(calls.step("a")).undo("o-1", WHY)


# -- where it is cut off ------------------------------------------------------------------------------------------------


def test_an_interrupt_of_it_leaves_the_rest_to_a_recovery(calls: Calls, store: Store) -> None:
    stop = [KeyboardInterrupt()]
    during_undo = lambda: (_ for _ in ()).throw(stop.pop()) if stop else None  # noqa: E731
    saga = saga_of(calls.step("a"), calls.step("b", None, during_undo), calls.step("c"))
    calls.run(saga, store=store, saga_id="o-1")
    with pytest.raises(KeyboardInterrupt):
        here(saga, store)
    (result,) = recovered(store, saga)
    assert (result.status, calls.log) == (Status.COMPENSATED, ["a", "b", "c", "-c", "-b", "-b", "-a"])


def test_a_cancellation_before_it_has_begun_undoes_nothing(calls: Calls, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saga = saga_of(calls.step("a"))
    calls.run(saga, store=store, saga_id="o-1")
    cancelled, get = threading.Event(), store.get
    monkeypatch.setattr(store, "get", lambda saga_id: get(saga_id) if cancelled.wait(PATIENCE) else None)

    async def work() -> None:
        task = asyncio.ensure_future(saga.aundo("o-1", WHY, store=store))
        await asyncio.sleep(0)
        task.cancel()
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert (saga.load("o-1", store=store).status, calls.log) == (Status.COMPLETED, ["a"])
    assert here(saga, store).status is Status.COMPENSATED


def crashing(effects: Any) -> Saga:
    group = parallel(effects.step("b"), sequence(effects.step("c"), effects.step("d")))
    return saga_of(effects.step("a"), group, effects.step("e"))


@pytest.mark.parametrize("undo", [here, by_operations])
@pytest.mark.parametrize("to", [None, "a"])
def test_a_crash_anywhere_in_it_is_recovered_from(crashes: Any, undo: Undo, to: str | None) -> None:
    def during(saga: Saga, store: Any) -> None:
        saga.execute(saga_id="o-1", store=store)
        undo(saga, store, to)
        if to is not None:
            resumed(store, saga)

    statuses = set()
    for crash in crashes(crashing, during):
        acted = "OperatorActed" in crash.kinds
        Recovery(crash.store, [crash.saga]).run_once()
        statuses.add(crash.status)
        if crash.status == "paused":
            assert crash.effects == {"a"}
            resumed(crash.store, crash.saga)
        if not acted or "SagaRewound" in crash.kinds:
            assert (crash.status, crash.effects) in [("completed", set("abcde")), ("compensated", set())], crash.kinds
        else:
            assert (crash.status, crash.effects) == ("compensated", set()), crash.kinds
    assert statuses == ({"completed", "compensated", "paused"} if to else {"completed", "compensated"})


def test_what_is_said_is_in_the_journal_before_anything_is_undone(calls: Calls, store: Store) -> None:
    saga = saga_of(calls.step("a"), calls.step("b"))
    calls.run(saga, store=store, saga_id="o-1")
    result = here(saga, store)
    told = ["SagaCompleted", "OperatorActed", "SagaCompensating", "CompensationStarted b", "CompensationSucceeded b"]
    assert journal_of(store, "o-1")[5:10] == told
    (acted,) = [event for event in result.events if isinstance(event, OperatorActed)]
    assert (acted.action, acted.step, acted.who, acted.why) == ("undo", None, "ann", WHY)
