"""An execution that is submitted is begun by whoever takes it up, and by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Status, step
from saga import events as e
from saga.durable.codec import Codec
from saga.durable.entries import write_entries
from saga.errors import ActionRefusedError, SagaCancelledError, SagaIdTakenError, UnreadableJournalError
from saga.operations import Operations
from saga.storage import Entry, Lease, MemoryStore
from saga.worker import Worker
from tests.kit import KITS, Kit, Watched, expired, journal_of
from tests.kit.submitted import submit

BEGUN = [
    "SagaSubmitted",
    "SagaStarted",
    "StepStarted a",
    "StepSucceeded a",
    "StepStarted b",
    "StepSucceeded b",
    "SagaCompleted",
]


def needs_item(context: Context) -> None:
    assert context.item == "tea"
    context.done = True


def order(kit: Kit | None = None, **options: Any) -> Saga:
    """Return a saga of two steps whose input is looked at."""
    kit = kit or Kit(False, False)
    saga = Saga("order", **options).add_task(kit.task("a", needs_item, in_doubt=InDoubt.RERUN))
    return saga.add_task(kit.task("b", needs_item, in_doubt=InDoubt.RERUN))


@pytest.fixture
def store() -> MemoryStore:
    """Return a store with an execution that is submitted."""
    store = MemoryStore()
    submit(order(), store, {"item": "tea"})
    return store


def status_of(store: MemoryStore) -> str:
    row = store.get("x")
    assert row is not None
    return row.status


@pytest.mark.parametrize("kit", KITS.values(), ids=KITS)
def test_who_takes_it_up_begins_it_with_its_input(kit: tuple[bool, bool], store: MemoryStore) -> None:
    made = Kit(*kit)
    before = order(made).load("x", store=store)
    assert (before.status, before.ok, before.context.item, before.reason) == (Status.SUBMITTED, False, "tea", None)
    assert before.headline() == "saga 'order' (x) is submitted, and nobody runs it yet"
    assert made.log == []
    (result,) = Worker(store, [order(made)]).run_once()
    assert (result.status, result.saga_id, dict(result.context)) == (Status.COMPLETED, "x", {"item": "tea", "done": True})
    assert (made.log, journal_of(store, "x"), status_of(store)) == (["a", "b"], BEGUN, "completed")
    assert order(made).load("x", store=store).effects == result.effects


def test_who_executes_it_under_its_id_runs_it_and_nobody_twice(store: MemoryStore) -> None:
    kit = Kit(False, False)
    with pytest.raises(SagaIdTakenError, match="another input"):
        order(kit).execute({"item": "coffee"}, saga_id="x", store=store)
    for _ in range(2):
        assert order(kit).execute({"item": "tea"}, saga_id="x", store=store).ok
    assert (kit.log, journal_of(store, "x")) == (["a", "b"], BEGUN)


def test_wherever_its_process_dies_another_ends_it() -> None:
    kit, watched = Kit(False, False), Watched(MemoryStore())
    submit(order(kit), watched, {"item": "tea"})  # type: ignore[arg-type]
    Worker(watched, [order(kit)]).run_once()  # type: ignore[arg-type]
    assert len(watched.writes) == 4
    for count in range(1, 4):
        again = MemoryStore()
        expired(again, watched.writes[:count])
        (result,) = Worker(again, [order(kit)]).run_once()
        assert (result.status, result.context.item) == (Status.COMPLETED, "tea")
        begun = [line for line in journal_of(again, "x") if line in ("SagaSubmitted", "SagaStarted", "SagaRecovered")]
        assert begun == ["SagaSubmitted", "SagaStarted", *["SagaRecovered"] * (count > 1)]


def test_its_timeout_counts_from_when_it_began() -> None:
    class Late(MemoryStore):
        """A store whose entries are an hour old when they are read."""

        def journal(self, saga_id: str) -> list[Entry]:
            return [one._replace(at=one.at - 3600.0) for one in super().journal(saga_id)]

    store = Late()
    saga = order(timeout=60.0).add_task(step(lambda context: context.step.deadline, name="c"))
    submit(saga, store, {"item": "tea"})
    (result,) = Worker(store, [saga]).run_once()
    assert result.results["c"] > store.now()
    assert result.elapsed > 3600.0  # which says how long it waited, too


# -- what a person can do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["cancel", "compensate"])
def test_what_a_person_ends_is_nobodys_from_then_on_wherever_the_persons_process_dies(action: str, store: MemoryStore) -> None:
    watched = Watched(store)
    found: list[Any] = []
    watched.after = lambda number: found.append(store.get("x"))
    getattr(Operations(watched, "ann"), action)("x", "it was a mistake")  # type: ignore[arg-type]
    assert [(row.status, row.owner) for row in found] == [("compensated", None)]


@pytest.mark.parametrize("with_sagas", [False, True])
@pytest.mark.parametrize("action", ["cancel", "compensate"])
def test_a_person_may_have_it_never_begun(action: str, with_sagas: bool, store: MemoryStore) -> None:
    kit = Kit(False, False)
    operations = Operations(store, "ann", sagas=[order()] if with_sagas else ())
    getattr(operations, action)("x", "it was a mistake")
    never = ["OperatorActed", "SagaCompensating", "SagaCompensated"]
    assert (status_of(store), journal_of(store, "x")[1:]) == ("compensated", never)
    with pytest.raises(ActionRefusedError, match=r"does not go forward|has ended"):
        operations.cancel("x", "once more")
    assert Worker(store, [order(kit, timeout=60.0)]).run_once() == []
    result = order(kit).load("x", store=store)
    assert (result.status, kit.log, result.failed_step) == (Status.COMPENSATED, [], None)
    assert isinstance(result.error, SagaCancelledError)
    assert str(result.error) == f"{action} by ann: it was a mistake"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_that_was_given_up_while_somebody_had_claimed_it_never_begins(asynchronous: bool, store: MemoryStore) -> None:
    kit = Kit(asynchronous, False)
    (row,) = store.claim("ahead of its turn", 60.0)
    operations = Operations(store, "ann")
    operations.cancel("x", "it was a mistake")
    assert [message.saga_id for message in store.inbox("x")] == ["x"]
    store.release(Lease("x", "ahead of its turn", row.epoch), untried=True)
    (result,) = Worker(store, [order(kit)]).run_once()
    assert (result.status, kit.log) == (Status.COMPENSATED, [])
    assert journal_of(store, "x") == ["SagaSubmitted", "OperatorActed", "SagaCompensating", "SagaCompensated"]


@pytest.mark.parametrize(
    "act", [lambda it: it.resume("x", "go"), lambda it: it.retry("x", "go"), lambda it: it.skip("x", "a", "go")]
)
def test_what_does_not_fit_is_refused(act: Callable[[Operations], None], store: MemoryStore) -> None:
    for sagas in ([], [order()]):
        with pytest.raises(ActionRefusedError, match=r"stuck( nor paused)? \(submitted\)"):
            act(Operations(store, "ann", sagas=sagas))
    assert journal_of(store, "x") == ["SagaSubmitted"]


ENDS = {"resume": Status.COMPLETED, "compensate": Status.COMPENSATED}


@pytest.mark.parametrize("action", ENDS)
def test_one_that_could_not_be_begun_is_when_a_person_has_mended_that(action: str, store: MemoryStore) -> None:
    other = Saga("order").add_task(Kit(False, False).task("other"))
    assert Worker(store, [other], unfit_after=0).run_once() == []
    assert (status_of(store), order().load("x", store=store).status) == ("stuck", Status.STUCK)
    getattr(Operations(store, "ann"), action)("x", "the old version runs again")
    assert status_of(store) == {"resume": "submitted", "compensate": "compensated"}[action]
    assert len(Worker(store, [order()]).run_once()) == (action == "resume")
    assert order().load("x", store=store).status is ENDS[action]


# -- its journal ------------------------------------------------------------------------------------------------------

SUBMITTED, BEGINS = e.SagaSubmitted("order", "x", 1.0, ',"context":"saga.context:Context"'), e.SagaStarted("order", "x", 2.0)
STARTS = e.StepStarted("a", 1, 2.0)
DAMAGED: dict[str, tuple[list[Any], str]] = {
    "submitted twice": ([SUBMITTED, SUBMITTED], "had begun"),
    "submitted when it had begun": ([SUBMITTED, BEGINS, SUBMITTED], "had begun"),
    "begun twice": ([SUBMITTED, BEGINS, BEGINS], "had begun"),
    "never begun": ([SUBMITTED, STARTS], "did not go forward"),
    "completed and never begun": ([SUBMITTED, e.SagaCompleted(2.0)], "was not at its end"),
    "not submitted at first": ([STARTS, SUBMITTED], "begins with SagaStarted or SagaSubmitted"),
}


@pytest.mark.parametrize(("events", "why"), DAMAGED.values(), ids=DAMAGED)
def test_a_journal_that_begins_otherwise_is_damaged(events: list[Any], why: str, store: MemoryStore) -> None:
    store._journals["x"] = {entry.seq: entry for entry in write_entries(events, 0, {}, Codec())}
    with pytest.raises(UnreadableJournalError, match=why):
        order().load("x", store=store)
