"""What is shown of an execution: from any journal at all, on one line each, and without what is masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from typing import Any, NamedTuple

import pytest

from saga import Ask, Context, Effect, Retry, Saga, StepStatus, fallback, parallel, sequence, step, transaction
from saga.errors import SagaExecutionException
from saga.logging import SagaLogger
from saga.operations import ExecutionView, Operations
from saga.storage import Entry, MemoryStore, Store
from saga.worker import Worker
from tests.kit import Gate, Watched, background, until_renewed
from tests.unit.test_hostile_texts import FORGED, HOSTILE
from tests.unit.test_hostile_texts import fail as fail_with_hostile_text


def fail(*_: Any) -> None:
    raise ValueError("no stock")


def undone_badly(*_: Any) -> None:
    raise OSError("the bank is closed")


def order(**options: Any) -> Saga:
    saga = Saga("order", **options)
    saga.add_task(step(lambda: {"id": 7, "card": "card 4111", "lines": [{"card": "card 4112"}]}, undone_badly, name="charge"))
    return saga.add_task(step(lambda: "secret", name="token")).add_task(step(fail, name="pack"))


def test_a_stuck_execution_is_understood_without_its_definition(store: Store) -> None:
    order(store=store).try_execute(saga_id="x")
    view = Operations(store, "ann").show("x")
    charge, token, pack = view.steps
    assert (charge.name, charge.status, charge.effect) == ("charge", StepStatus.COMPENSATION_FAILED, Effect.UNKNOWN)
    assert (charge.asks, charge.compensation_attempts, charge.compensation_error) == (True, 1, "OSError: the bank is closed")
    assert (token.status, token.effect, token.result) == (StepStatus.SUCCEEDED, Effect.STANDS, "secret")
    assert (pack.status, pack.error, pack.result, pack.asks) == (StepStatus.FAILED, "ValueError: no stock", None, False)
    assert [(one.type, one.text, one.step, one.phase, one.attempt) for one in view.errors] == [
        ("ValueError", "no stock", "pack", "execute", 1),
        ("OSError", "the bank is closed", "charge", "compensate", 1),
    ]
    assert "raise ValueError" in str(view.errors[0].traceback)
    assert [(offer.action, offer.step) for offer in view.offers] == [("retry", None), ("skip", "charge"), ("compensate", None)]
    assert view.offers[0].does == (
        "calls the compensation of 'charge' again; where that goes well, it is compensated; leaves 'token' as it is, "
        "for want of a compensation"
    )
    known = Operations(store, "ann", sagas=[order()]).show("x")
    assert (known.steps, known.offers, known.refused) == (view.steps, view.offers, view.refused)


def again(*_: Any) -> None:
    raise LookupError("ask a person")


#: By what a person is asked about: a saga's steps, and what becomes of the execution by the decision.
ASKED: dict[str, tuple[Any, str]] = {
    "its undo failed": ((step(int, undone_badly, name="a"), step(fail, name="b")), "compensated"),
    "it failed": ((step(again, undone_badly, name="a", on_error=Ask), step(int, name="b")), "completed"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_a_person_has_seen_to_is_settled_and_no_call_is_said_to_have_undone_it(store: Store, asked: str) -> None:
    steps, ended = ASKED[asked]
    saga = Saga("order", store=store).add_task(steps[0]).add_task(steps[1])
    saga.try_execute(saga_id="x")
    operations = Operations(store, "ann", sagas=[saga])
    assert operations.show("x").decisions == ()
    operations.skip("x", "a", "refunded by\nhand")
    Worker(store, [saga]).run_once()
    view = operations.show("x")
    assert view.execution.status == ended
    assert (view.steps[0].effect, view.steps[0].left) == (Effect.SETTLED, "settled by a person")
    assert (view.steps[0].settled, view.steps[1].settled) == ("by ann: refunded by\\nhand", None)
    (decision,) = view.decisions
    assert str(decision) == "skip 'a' by ann: refunded by\\nhand"
    assert decision.at == next(line.at for line in view.journal if line.kind == "OperatorActed")
    assert "settled by a person" in saga.load("x").summary()


def test_what_a_step_stands_in_is_its_path(store: Store) -> None:
    saga = Saga("order", store=store).add_task(
        parallel(
            step(lambda: 1, name="a"), sequence(fallback(step(fail, name="b"), step(lambda: 1, name="c")), step(int, name="d"))
        )
    )
    saga.add_task(step(lambda: 1, name="e")).execute(saga_id="x")
    paths = {one.name: one.path for one in Operations(store, "ann", sagas=[saga]).show("x").steps}
    assert paths == {
        "a": ("parallel 1, branch 1",),
        "b": ("parallel 1, branch 2",),
        "c": ("parallel 1, branch 2", "instead of b"),
        "d": ("parallel 1, branch 2",),
        "e": (),
    }


def test_a_step_that_waits_for_another_attempt_has_not_ended(store: Store) -> None:
    saga = Saga("order", store=store).add_task(step(fail, name="a", retry=Retry(3, 3600.0)))
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    (shown,) = Operations(store, "ann").show("x").steps
    assert (shown.status, shown.attempts, shown.ended) == (StepStatus.WAITING, 1, None)
    assert shown.began is not None
    assert shown.next_at is not None
    assert shown.next_at >= shown.began + 3600.0


def nothing(*_: Any) -> None: ...


def test_a_blocks_journal_tells_what_has_a_compensation(store: Store) -> None:
    with suppress(SagaExecutionException), transaction("ship", store=store, saga_id="x") as tx:
        tx.step(nothing, undone_badly, name="a")
        tx.step(nothing, name="b")
        tx.step(nothing, nothing, name="c")
        fail()
    view = Operations(store, "ann").show("x")
    assert [(one.name, one.effect) for one in view.steps] == [
        ("a", Effect.UNKNOWN),
        ("b", Effect.STANDS),
        ("c", Effect.UNDONE),
    ]
    (retry,) = (offer for offer in view.offers if offer.action == "retry")
    assert retry.does == (
        "calls the compensation of 'a' again; where that goes well, it is compensated; leaves 'b' as it is, for want of a "
        "compensation"
    )


# -- what runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "does"),
    [
        ("cancel", "lets 'b' end; undoes 'b', then 'a'; where that goes well, it is compensated"),
        ("pause", "lets 'b' end, and then lets it rest until a person resumes it, or has it undone"),
    ],
)
def test_an_action_on_what_runs_does_what_was_told_of_it(store: Store, action: str, does: str) -> None:
    gate, undone = Gate(), list[str]()
    saga = Saga("order", store=store, lease=0.3).add_task(step(lambda: 1, lambda: undone.append("a"), name="a"))
    saga.add_task(step(gate.hold, lambda: undone.append("b"), name="b"))
    saga.add_task(step(lambda: undone.append("never"), name="c"))
    ended = background(lambda: saga.try_execute(saga_id="x"))
    gate.reached.wait()
    operations = Operations(store, "ann", sagas=[saga])
    (offer,) = (offer for offer in operations.show("x").offers if offer.action == action)
    assert offer.does == does
    getattr(operations, action)("x", why="so")
    until_renewed(store, "x", 2)
    gate.open()
    result = ended()
    assert undone == (["b", "a"] if action == "cancel" else [])
    assert result.status == ("compensated" if action == "cancel" else "paused")


# -- damaged ------------------------------------------------------------------------------------------------------------


def journal() -> list[Entry]:
    watched = Watched(MemoryStore())
    order().try_execute(saga_id="x", store=watched)
    return [entry for write in watched.writes for entry in write.entries]


DAMAGES: dict[str, Callable[[Entry], Entry | None]] = {
    "gone": lambda entry: None,
    "no JSON": lambda entry: entry._replace(payload="{"),
    "a list": lambda entry: entry._replace(payload="[]"),
    "empty": lambda entry: entry._replace(payload="{}"),
    "deep": lambda entry: entry._replace(payload='{"result":' + "[" * 5000 + "]" * 5000 + "}"),
    "NaN": lambda entry: entry._replace(payload='{"attempt":NaN,"elapsed":NaN,"result":NaN}'),
    "of a kind there is not": lambda entry: entry._replace(kind="Whistled"),
    "of another step": lambda entry: entry._replace(step="another" if entry.step else None),
    "of no step": lambda entry: entry._replace(step=None),
    "of an error that is none": lambda entry: entry._replace(payload='{"attempt":1,"elapsed":0,"error":7}'),
    "of an error that is not there": lambda entry: entry._replace(payload='{"attempt":1,"elapsed":0,"error_at":99}'),
    "of no time": lambda entry: entry._replace(at=1e300),
}


class Damaged(NamedTuple):
    store: MemoryStore
    entries: list[Entry]


def damaged(damage: Callable[[Entry], Entry | None]) -> Iterator[Damaged]:
    """Yield stores with each entry of a journal damaged in turn."""
    entries = journal()
    for place in range(len(entries)):
        after = [damage(entry) if number == place else entry for number, entry in enumerate(entries)]
        store = MemoryStore()
        order(store=store).try_execute(saga_id="x")
        store._journals["x"] = {entry.seq: entry for entry in after if entry is not None}
        yield Damaged(store, [entry for entry in after if entry is not None])


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_journal_what_can_be_read_is_shown(damage: str) -> None:
    for one in damaged(DAMAGES[damage]):
        for sagas in ([], [order()]):
            view = Operations(one.store, "ann", sagas=sagas).show("x")
            assert [line.seq for line in view.journal] == [entry.seq for entry in one.entries]
            assert {"charge", "token", "pack"} >= {step.name for step in view.steps} - {"another"}
            done = {step.name for step in view.steps if step.status is not StepStatus.PENDING}
            assert len(done) >= 2
            assert {offer.action for offer in view.offers} | view.refused.keys() >= {"retry", "compensate", "cancel"}
            assert view.waits == "a person must act: compensation failed: charge (OSError: the bank is closed)"
            assert str(view)


def test_an_action_on_a_damaged_journal_is_offered_where_it_would_be_carried_out() -> None:
    for one in damaged(DAMAGES["no JSON"]):
        view = Operations(one.store, "ann", sagas=[order()]).show("x")
        assert view.offers == ()
        assert all("of saga 'order': entry" in why for why in view.refused.values())


def test_an_execution_whose_journal_is_gone_is_shown() -> None:
    (one, *_) = damaged(lambda entry: entry)
    one.store._journals["x"].clear()
    view = Operations(one.store, "ann").show("x")
    assert (view.journal, view.steps, view.errors) == ((), (), ())
    assert all(offer.does for offer in view.offers)
    assert view.waits == "a person must act: compensation failed: charge (OSError: the bank is closed)"
    one.store._executions["x"] = one.store._executions["x"]._replace(status="running")
    assert [offer.action for offer in Operations(one.store, "ann").show("x").offers] == ["pause", "cancel", "compensate"]


def test_a_status_that_there_is_not_is_shown() -> None:
    (one, *_) = damaged(lambda entry: entry)
    one.store._executions["x"] = one.store._executions["x"]._replace(status="lost")
    view = Operations(one.store, "ann").show("x")
    assert view.offers == ()
    assert "'lost'" in view.refused["retry"]
    assert len(view.steps) == 3


# -- hostile and hidden ---------------------------------------------------------------------------------------------------


def texts_of(view: ExecutionView) -> Iterator[str]:
    for one in (*view.steps, *view.offers, *view.errors):
        for field in fields(one):
            value = getattr(one, field.name)
            if isinstance(value, str) and field.name != "traceback":
                yield value
            elif isinstance(value, tuple):
                yield from value
    yield from view.refused.values()
    yield str(view.waits)


def test_hostile_texts_are_shown_on_one_line(store: Store) -> None:
    saga = Saga("s", store=store).add_task(step(lambda: HOSTILE, fail_with_hostile_text, name="undo"))
    saga.add_task(step(fail_with_hostile_text, name="fails")).try_execute({"key": HOSTILE}, saga_id="x")
    for sagas in ([], [saga]):
        view = Operations(store, HOSTILE, sagas=sagas).show("x")
        texts = list(texts_of(view))
        assert all(text.isprintable() for text in texts)
        assert sum(FORGED in text for text in texts) > 2
        traces = [line for error in view.errors for line in str(error.traceback).split("\n")]
        assert all(line.isprintable() for line in traces)
    Operations(store, HOSTILE).hold("s", HOSTILE)
    saga.submit(saga_id="y")
    assert str(Operations(store, "ann").show("y").waits).isprintable()


def test_what_a_definition_masks_is_not_shown(store: Store) -> None:
    saga = order(store=store, logger=SagaLogger(show=["order", "token"], mask=["order.card", "token"]))
    saga.try_execute(Context(order={"card": "card 4113", "note": "4114"}), saga_id="x")
    view = Operations(store, "ann", sagas=[saga]).show("x")
    charge, token, _ = view.steps
    assert json.loads(str(charge.result)) == {"id": 7, "card": "***", "lines": [{"card": "***"}]}
    assert token.result is None
    shown = repr(view.journal) + str(view)
    assert "4114" in shown
    assert not any(hidden in shown for hidden in ("card 4111", "card 4112", "card 4113", "secret"))
    assert "card 4111" in str(Operations(store, "ann").show("x"))


@pytest.mark.parametrize(
    ("mask", "hidden"), [("result", {"a", "b.c"}), ("result.a", {"a"}), ("result.b.c", {"b.c"}), ("result.a.x", set())]
)
def test_the_results_that_a_logger_masks_are_not_shown(store: Store, mask: str, hidden: set[str]) -> None:
    saga = Saga("s", store=store, logger=SagaLogger(show=["result"], mask=[mask]))
    saga.add_task(step(lambda: "r-1", name="a")).add_task(step(lambda: "r-2", name="b.c")).execute(saga_id="x")
    view = Operations(store, "ann", sagas=[saga]).show("x")
    assert {one.name for one in view.steps if one.result is None} == hidden
