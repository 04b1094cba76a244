"""A person has an execution paused: what runs of it ends, nothing new begins, and it rests until it is let go on or undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saga import InDoubt, Retry, Saga, SagaResult, Status, parallel, receive, sequence
from saga.errors import ActionRefusedError, SagaCancelledError, SagaExecutionException, SagaTimeoutError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from saga.worker import Worker
from tests.kit import KITS, Calls, Kit, Watched, check_journal, expired, journal_of, saga_of
from tests.kit.recoveries import left_behind
from tests.kit.submitted import submit

WHY = "the bank is down"


def pausing(store: Any, *then: str) -> Callable[..., None]:
    """Return what a task does that a person has paused meanwhile, and with which they then do these things."""

    def act(*_: Any) -> None:
        for action in ("pause", *then):
            getattr(Operations(store, "ann"), action)("x", WHY)

    return act


def order(kit: Kit, store: Any, *then: str, **options: Any) -> Saga:
    saga = Saga("order", **options).add_task(kit.task("a", pausing(store, *then), in_doubt=InDoubt.RERUN))
    return saga.add_task(sequence(*(kit.task(name, in_doubt=InDoubt.RERUN) for name in "bc")))


def row_of(store: Any) -> Any:
    row = store.get("x")
    assert row is not None
    return row


def resumed(store: Any, saga: Saga, action: str = "resume") -> SagaResult:
    getattr(Operations(store, "bob"), action)("x", "it is up again")
    (result,) = Recovery(store, [saga]).run_once()
    return result


@pytest.mark.parametrize("kit", KITS.values(), ids=KITS)
def test_one_that_runs_ends_its_call_and_rests_until_it_is_resumed(kit: tuple[bool, bool]) -> None:
    made, store = Kit(*kit), MemoryStore()
    saga = order(made, store)
    with pytest.raises(SagaExecutionException, match=r"saga 'order' \(x\) is paused: by ann: the bank is down") as caught:
        made.execute(saga, saga_id="x", store=store)
    for result in (caught.value.result, saga.load("x", store=store), made.run(saga, saga_id="x", store=store)):
        assert (result.status, result.reason, result.in_doubt) == (Status.PAUSED, f"by ann: {WHY}", ())
    assert "resume('x', why), compensate('x', why), cancel('x', why)" in caught.value.result.summary()
    row, view = row_of(store), Operations(store, "bob").show("x")
    assert (row.status, row.owner, made.log, view.reason) == ("paused", None, ["a"], f"by ann: {WHY}")
    assert Recovery(store, [saga]).run_once() == []
    assert resumed(store, saga).status is Status.COMPLETED
    assert made.log == ["a", "b", "c"]
    check_journal(store.journal("x"))


@pytest.mark.parametrize("action", ["cancel", "compensate"])
@pytest.mark.parametrize("at_once", [False, True])
def test_one_that_is_paused_may_be_undone(action: str, at_once: bool) -> None:
    made, store = Kit(False, False), MemoryStore()
    saga = order(made, store, *([action] if at_once else []))
    made.run(saga, saga_id="x", store=store)
    if at_once:  # what runs has ended, and the undo is left to others
        assert (row_of(store).status, row_of(store).owner) == ("compensating", None)
        (result,) = Recovery(store, [saga]).run_once()
    else:
        result = resumed(store, saga, action)
    assert (result.status, made.log) == (Status.COMPENSATED, ["a", "-a"])
    assert isinstance(result.error, SagaCancelledError)
    check_journal(store.journal("x"))


def test_what_fails_meanwhile_is_undone_when_it_is_resumed() -> None:
    made, store = Kit(False, False), MemoryStore()
    saga = Saga("order").add_task(made.task("a")).add_task(made.task("b", (pausing(store), ValueError("b"))))
    assert made.run(saga, saga_id="x", store=store).status is Status.PAUSED
    assert made.log == ["a", "b"]
    result = resumed(store, saga)
    assert (result.status, result.failed_step, made.log) == (Status.COMPENSATED, "b", ["a", "b", "-a"])


def test_a_retry_that_waits_is_made_when_it_is_resumed() -> None:
    made, store = Kit(False, False), MemoryStore()
    tries = [ValueError("a")]

    def fail_once(*_: Any) -> None:
        if tries:
            raise tries.pop()

    saga = Saga("order").add_task(made.task("a", (pausing_once(store), fail_once), retry=Retry(2, 0.001)))
    assert made.run(saga, saga_id="x", store=store).status is Status.PAUSED
    result = resumed(store, saga)
    assert (result.status, result.history[0].attempts, made.log) == (Status.COMPLETED, 2, ["a", "a"])


def pausing_once(store: Any) -> Callable[..., None]:
    done: list[bool] = []

    def act(*_: Any) -> None:
        if not done:
            done.append(True)
            pausing(store)()

    return act


def test_branches_end_before_it_rests() -> None:
    made, store = Calls(False), MemoryStore()
    saga = saga_of(parallel(made.step("a", pausing(store)), made.step("b")), made.step("c"))
    assert made.run(saga, saga_id="x", store=store).status is Status.PAUSED
    assert sorted(made.log) == ["a", "b"]
    assert resumed(store, saga).status is Status.COMPLETED
    assert made.log[2:] == ["c"]


def test_signals_are_kept_and_timers_go_on_counting() -> None:
    made, store = Calls(False), MemoryStore()
    saga = saga_of(made.step("a", pausing(store)), receive("go"), made.step("b"), timeout=3600.0, store=store)
    assert made.run(saga, saga_id="x", store=store).status is Status.PAUSED
    saga.signal("x", "go", 7)
    twin = MemoryStore()
    expired(twin, []) if False else None
    result = resumed(store, saga)
    assert (result.status, result.results["go"], made.log) == (Status.COMPLETED, 7, ["a", "b"])


@pytest.mark.parametrize("in_loop", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_its_timeout_may_be_over_when_it_is_resumed(in_loop: bool, waits: bool) -> None:
    made, store = Calls(in_loop), MemoryStore()
    saga = saga_of(made.step("a", pausing(store)), receive("go") if waits else made.step("b"), timeout=3600.0)
    assert made.run(saga, saga_id="x", store=store).status is Status.PAUSED
    store._journals["x"] = {seq: entry._replace(at=entry.at - 7200.0) for seq, entry in store._journals["x"].items()}
    result = resumed(store, saga)
    assert (result.status, made.log) == (Status.COMPENSATED, ["a", "-a"])
    assert isinstance(result.error, SagaTimeoutError)


# -- where nobody runs it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_sagas", [False, True])
@pytest.mark.parametrize(("action", "ends", "log"), [("resume", "completed", ["a", "b"]), ("cancel", "compensated", [])])
def test_one_that_is_submitted_is_not_begun_while_it_is_paused(
    action: str, ends: str, log: list[str], with_sagas: bool
) -> None:
    made, store = Kit(False, False), MemoryStore()
    saga = saga_of(made.task("a"), made.task("b"))
    submit(saga, store)
    operations = Operations(store, "ann", sagas=[saga] if with_sagas else ())
    operations.pause("x", WHY)
    assert (row_of(store).status, saga.load("x", store=store).reason) == ("paused", f"by ann: {WHY}")
    assert Worker(store, [saga]).run_once() == []
    getattr(operations, action)("x", "enough")
    assert row_of(store).status == {"resume": "submitted", "cancel": "compensated"}[action]
    assert len(Worker(store, [saga]).run_once()) == (action == "resume")
    assert (saga.load("x", store=store).status, made.log) == (ends, log)


@pytest.mark.parametrize("with_sagas", [False, True])
def test_what_a_dead_process_had_under_way_is_in_doubt_when_it_is_resumed(with_sagas: bool) -> None:
    made, store = Kit(False, False), MemoryStore()

    def build() -> Saga:
        return saga_of(made.task("a", in_doubt=InDoubt.RERUN), made.task("b"))

    left_behind(store, build)
    made.log.clear()
    Operations(store, "ann", sagas=[build()] if with_sagas else ()).pause("x", WHY)
    assert (row_of(store).status, row_of(store).owner) == ("paused", None)
    assert Recovery(store, [build()]).run_once() == []
    result = resumed(store, build())
    assert (result.status, result.history[0].attempts, made.log) == (Status.COMPLETED, 2, ["a", "b"])


def test_wherever_a_process_died_meanwhile_it_goes_on_and_a_pause_holds() -> None:
    watched = Watched(MemoryStore())
    made = Kit(False, False)
    saga = order(made, watched)
    made.run(saga, saga_id="x", store=watched)
    assert resumed(watched, saga).status is Status.COMPLETED
    told = [[entry.kind for entry in write.entries] for write in watched.writes]
    assert len(told) > 5
    paused = next(number for number, kinds in enumerate(told) if "OperatorActed" in kinds)
    lifted = next(number for number, kinds in enumerate(told) if number > paused and "OperatorActed" in kinds)
    for count in range(1, len(told)):
        store = MemoryStore()
        expired(store, watched.writes[:count])
        after = Kit(False, False)
        saga = Saga("order").add_task(after.task("a", in_doubt=InDoubt.RERUN))
        saga.add_task(sequence(*(after.task(name, in_doubt=InDoubt.RERUN) for name in "bc")))
        found = Recovery(store, [saga]).run_once()
        if paused < count <= lifted:
            assert row_of(store).status == "paused"
            assert after.log == []
            found = [resumed(store, saga)]
        assert [result.status for result in found] == [Status.COMPLETED]
        check_journal(store.journal("x"))


def test_a_message_that_came_last_is_read_before_it_rests() -> None:
    class Late(MemoryStore):
        """A store in which an operator cancels what is just about to rest."""

        def append(self, lease: Any, entries: Any, **options: Any) -> None:
            if options.get("status") == "paused" and not self.cancelled:
                self.cancelled = True
                Operations(self, "bob").cancel("x", "never mind")
            super().append(lease, entries, **options)

        cancelled = False

    made, store = Kit(False, False), Late()
    saga = order(made, store)
    made.run(saga, saga_id="x", store=store)
    assert (row_of(store).status, store.inbox("x")) == ("compensating", [])
    (result,) = Recovery(store, [saga]).run_once()
    assert (result.status, str(result.error)) == (Status.COMPENSATED, "cancel by bob: never mind")


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_sagas", [False, True])
@pytest.mark.parametrize(("action", "why"), [("pause", "does not go forward"), ("retry", "is not stuck")])
def test_what_does_not_fit_what_is_paused_is_refused(action: str, why: str, with_sagas: bool) -> None:
    made, store = Kit(False, False), MemoryStore()
    saga = order(made, store)
    made.run(saga, saga_id="x", store=store)
    before = journal_of(store, "x")
    with pytest.raises(ActionRefusedError, match=rf"{why} \(paused\)"):
        getattr(Operations(store, "ann", sagas=[saga] if with_sagas else ()), action)("x", "why not")
    assert journal_of(store, "x") == before
