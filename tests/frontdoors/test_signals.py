"""Signals: which values are accepted, the first of several, who is refused, and one that starts what it is sent to."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from saga import Ask, InDoubt, Received, Saga, Skip, Status, parallel, receive, receive_first, sequence, step, timer
from saga.durable.codec import Codec
from saga.durable.messages import signal_message
from saga.errors import ActionRefusedError, SagaDefinitionError, SagaIdTakenError, StepTimeoutError, UnknownExecutionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, Store
from saga.testing import Clock
from saga.worker import Worker
from tests.kit import PATIENCE, Background, saga_of
from tests.storage.contract import at_once


@dataclass
class Payment:
    cents: int


def positive(payment: Payment) -> bool:
    return payment.cents > 0


def whole(payment: Payment) -> bool:
    if payment.cents % 100:
        raise ValueError("pay whole euros")
    return True


def odd(value: Any) -> Any:
    raise KeyError


async def later() -> None:
    """Is awaited by nobody."""


# What accept is, what is sent, and why it is refused; None: it is received.
ACCEPTED: dict[str, tuple[Any, Any, str | None]] = {
    "anything": (None, object, None),
    "its class": (Payment, Payment(5), None),
    "another class": (Payment, "5 euros", "signal 'paid' comes with Payment, not with str"),
    "one of two classes": (int | str, "5", None),
    "none of two classes": (int | str, None, "signal 'paid' comes with int | str, not with NoneType"),
    "what is true": (positive, Payment(5), None),
    "what is not": (positive, Payment(-5), "signal 'paid' does not come with this Payment: positive says no"),
    "what raises": (whole, Payment(5), "this Payment: whole raised ValueError: pay whole euros"),
    "what raises no text": (odd, 5, "this int: odd raised KeyError"),
    "what returns a coroutine": (lambda value: later(), 5, "<lambda> raised SagaDefinitionError"),
}


def worked(store: Store, saga: Saga) -> Any:
    """Run what is due once, and return how the execution ``o-1`` stands then."""
    Worker(store, [saga]).run_once()
    return saga.load("o-1")


@pytest.mark.parametrize("how", ACCEPTED)
def test_a_value_that_does_not_fit_is_refused_to_its_sender(how: str, calls: Any) -> None:
    accept, value, refused = ACCEPTED[how]
    value = None if value is object else value
    store = MemoryStore()
    saga = saga_of(receive("paid", accept=accept), calls.step("b"), store=store)
    saga.submit(saga_id="o-1")
    if refused is None:
        saga.signal("o-1", "paid", value)
        assert worked(store, saga).results["paid"] == value
        return
    senders: list[Callable[[], Any]] = [
        lambda: saga.signal("o-1", "paid", value),
        lambda: Operations(store, "ann", sagas=[saga]).signal("o-1", "paid", "she paid", value),
        lambda: saga.signal_or_start("o-1", "paid", value),
        lambda: saga.signal_or_start("o-2", "paid", value),
    ]
    for send in senders:
        with pytest.raises(ActionRefusedError, match=re.escape(refused)):
            send()
    assert (store.inbox("o-1"), store.get("o-2")) == ([], None)


@pytest.mark.parametrize("how", [how for how, (_, _, refused) in ACCEPTED.items() if refused])
def test_one_that_was_sent_all_the_same_is_set_aside_with_a_warning(
    how: str, calls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    accept, value, refused = ACCEPTED[how]
    store = MemoryStore()
    saga = saga_of(receive("paid", accept=accept, timeout=100.0, on_error=Skip), calls.step("b"), store=store)
    saga.submit(saga_id="o-1")
    store.post("o-1", signal_message("paid", value, Codec(), store, "o-1", who="bob", why="by hand"))
    assert worked(store, saga).status is Status.RUNNING, "it waits on"
    (line,) = [line for line in Operations(store, "ann").show("o-1").journal if line.kind == "MessageRefused"]
    assert line.details["message"] == "signal 'paid' by bob: by hand"
    assert str(refused) in line.details["reason"]
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert str(refused) in record.getMessage()
    assert "5 euros" not in line.details["reason"]


def test_what_interrupts_in_accept_while_a_signal_is_received_refuses_it(plain: Any) -> None:
    def leaves(value: Any) -> bool:
        raise SystemExit(7)

    store = MemoryStore()
    saga = saga_of(receive("paid", accept=leaves), plain.step("b"), store=store)
    saga.submit(saga_id="o-1")
    store.post("o-1", signal_message("paid", 5, Codec(), store, "o-1"))
    assert worked(store, saga).status is Status.RUNNING


def test_accept_sees_the_value_as_it_is_read(plain: Any) -> None:
    seen: list[Any] = []
    saga = saga_of(receive("paid", accept=lambda value: seen.append(value) or True), store=MemoryStore())
    saga.submit(saga_id="o-1")
    given = [Payment(5)]
    saga.signal("o-1", "paid", given)
    assert seen == [given]
    assert seen[0] is not given


def test_accept_holds_for_a_signal_wherever_it_is_received() -> None:
    one = saga_of(receive("paid", accept=Payment), receive_first("paid", "gone", name="second"), receive("paid", name="third"))
    assert one.plan.accepts == {"paid": Payment}
    again = saga_of(receive("paid", accept=Payment), receive_first("paid", "gone", accept={"paid": Payment, "gone": None}))
    assert again.plan.accepts == {"paid": Payment}
    two = saga_of(receive("paid", accept=Payment), receive("paid", accept=int, name="second"))
    with pytest.raises(SagaDefinitionError, match="saga 's': step 'second': signal 'paid' is received by several steps"):
        _ = two.plan


# -- the first of several ---------------------------------------------------------------------------------------------


def first_of(calls: Any, store: Store | None = None, **more: Any) -> Saga:
    first = receive_first("paid", "cancelled", name="first", **more)
    return saga_of(first, calls.step("b"), receive("paid"), store=store)


# What is sent, in order; what the first gets, and what is left for the second.
CAME: dict[str, tuple[list[tuple[str, Any]], Received, Any]] = {
    "the first declared": ([("paid", 1), ("paid", 2)], Received("paid", 1), 2),
    "another": ([("cancelled", 1), ("paid", 2)], Received("cancelled", 1), 2),
    "the first that came": ([("cancelled", 3), ("paid", 1), ("cancelled", 4)], Received("cancelled", 3), 1),
    "no value": ([("paid", None), ("paid", 5)], Received("paid", None), 5),
}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("how", CAME)
def test_the_first_of_several_signals_is_received_and_the_others_stay(how: str, early: bool, calls: Any, store: Any) -> None:
    sent, received, left = CAME[how]
    saga = first_of(calls, store)
    saga.submit(saga_id="o-1")
    if not early:
        assert worked(store, saga).status is Status.RUNNING
    for name, value in sent:
        saga.signal("o-1", name, value)
    result = worked(store, saga)
    assert (result.ok, result.results["first"], result.results["paid"]) == (True, received, left)
    name, value = result.results["first"]
    assert (type(result.results["first"]), name, value) == (Received, *received)


def test_branches_that_wait_for_some_of_the_same_get_one_each(calls: Any, store: Any) -> None:
    either = sequence(receive_first("x", "y", name="either"), calls.step("e"))
    saga = saga_of(parallel(either, sequence(receive("x", name="just x"), calls.step("j"))), store=store)
    running = Background(calls, saga, store)
    running.until_begun("just x")
    for name, value in (("x", 1), ("x", 2), ("y", 3)):
        saga.signal("o-1", name, value)
    results = running.result.results
    assert (results["either"], results["just x"]) == (Received("x", 1), 2)


def test_a_person_sees_which_signals_are_waited_for(plain: Any) -> None:
    store = MemoryStore()
    saga = first_of(plain, store)
    saga.submit(saga_id="o-1")
    worked(store, saga)
    shown = Operations(store, "ann", sagas=[saga]).show("o-1")
    assert shown.waits == "step first waits for signal 'paid' or 'cancelled'"
    assert shown.steps[0].waits_for == "signal 'paid' or 'cancelled'"
    offered = {offer.signal: (offer.step, offer.does) for offer in shown.offers if offer.action == "signal"}
    does = "lets 'first' go on with it; executes 'b'"
    assert offered == {"paid": ("first", does), "cancelled": ("first", does)}


@pytest.mark.parametrize("policy", [None, Skip])
def test_none_of_several_in_time(policy: Any, calls: Any) -> None:
    saga = saga_of(calls.step("a"), receive_first("x", "y", timeout=60.0, on_error=policy), store=MemoryStore())
    with Clock():
        result = calls.run(saga)
    if policy is Skip:
        assert result.ok
    else:
        assert isinstance(result.error, StepTimeoutError)
        assert str(result.error) == "step 'x or y': signal 'x' or 'y' did not come within 60 s"


def test_the_step_after_takes_name_and_value(calls: Any) -> None:
    store = MemoryStore()
    seen: list[Any] = []

    def decide(received: Received) -> None:
        name, value = received
        seen.append((name, value))

    saga = saga_of(receive_first("paid", "cancelled"), step(decide), store=store)
    saga.signal_or_start("o-1", "cancelled", "too late")
    assert worked(store, saga).ok
    assert seen == [("cancelled", "too late")]


@pytest.mark.parametrize(
    ("signals", "more", "told"),
    [
        ((), {}, "signals are none; give at least two names"),
        (("x",), {}, "signals are 'x'; give at least two names"),
        (("x", "y", "x"), {}, "signals has a name twice"),
        (("x", "y"), {"accept": {"z": int}}, "accept has 'z', which is none of the signals x, y"),
        (("x", "y"), {"accept": {"x": 5}}, "accept of 'x' is 5; give a class"),
        (("x", "y"), {"accept": {"x": later}}, "accept of 'x'"),
    ],
)
def test_signals_that_make_no_sense_are_refused(signals: Any, more: Any, told: str) -> None:
    with pytest.raises(SagaDefinitionError, match=re.escape(f"receive_first(): {told}")):
        receive_first(*signals, **more)


def test_wherever_the_process_dies_the_first_of_several_is_received_once(crashes: Any) -> None:
    sent = (("y", 1), ("x", 2))
    there: list[Any] = []

    def send() -> None:
        for store in there:
            for name, value in sent:
                store.post("o-1", signal_message(name, value, Codec(), store, "o-1"))

    def build(effects: Any) -> Saga:
        both = parallel(receive_first("x", "y", name="p"), receive_first("y", "x", name="q"))
        first = effects.step("a", send, in_doubt=InDoubt.RERUN)
        return saga_of(first, both, effects.step("b", in_doubt=InDoubt.RERUN))

    def during(saga: Saga, store: Any) -> None:
        there.append(store)
        saga.execute(saga_id="o-1", store=store)
        there.clear()

    came = set[int]()
    for crash in crashes(build, during):
        before = crash.kinds.count("SignalReceived")
        came.add(before)
        for name, value in sent[before:]:
            crash.saga.signal("o-1", name, value, store=crash.store)
        Recovery(crash.store, [crash.saga]).run_once()
        assert (crash.status, crash.effects) == ("completed", {"a", "b"}), (crash, crash.kinds)
        results = crash.saga.load("o-1", store=crash.store).results
        assert (results["p"], results["q"]) == (Received("y", 1), Received("x", 2))
    assert came == {0, 2}


# -- nobody would receive it ------------------------------------------------------------------------------------------


def undone(store: Store, saga: Saga) -> None:
    Operations(store, "ann").cancel("o-1", "a test")
    Worker(store, [saga]).run_once()


def being_undone(store: Store, saga: Saga) -> None:
    (row,) = store.claim("w", 0.0, saga_id="o-1")
    store.append(Lease("o-1", "w", row.epoch), [], status="compensating")


def completed(store: Store, saga: Saga) -> None:
    saga.signal("o-1", "paid")
    Worker(store, [saga]).run_once()


NOBODY: dict[str, tuple[Callable[[Store, Saga], object], str]] = {
    "completed": (completed, r"'o-1' has ended \(completed\)"),
    "undone": (undone, r"'o-1' has ended \(compensated\)"),
    "being undone": (being_undone, r"does not go forward \(compensating\): no step receives a signal any more"),
}


@pytest.mark.parametrize("sender", ["a program", "a person", "who would start it"])
@pytest.mark.parametrize("where", NOBODY)
def test_a_signal_that_no_step_would_receive_is_refused(where: str, sender: str, plain: Any, store: Any) -> None:
    ends, told = NOBODY[where]
    saga = saga_of(plain.step("a"), receive("paid"), store=store)
    saga.submit(saga_id="o-1")
    Worker(store, [saga]).run_once()
    ends(store, saga)
    operations = Operations(store, "ann", sagas=[saga])
    send: Any = {
        "a program": lambda: saga.signal("o-1", "paid"),
        "a person": lambda: operations.signal("o-1", "paid", "so"),
        "who would start it": lambda: saga.signal_or_start("o-1", "paid"),
    }[sender]
    with pytest.raises(ActionRefusedError, match="no step receives a signal any more" if sender == "a person" else told):
        send()
    assert store.inbox("o-1") == []


def test_one_that_has_ended_just_when_it_was_sent_is_refused(plain: Any) -> None:
    store = MemoryStore()
    saga = saga_of(plain.step("a"), receive("paid"), store=store)
    saga.submit(saga_id="o-1")
    looked = store.get

    def get(saga_id: str) -> Any:
        row = looked(saga_id)
        store.get = looked  # type: ignore[method-assign]
        being_undone(store, saga)
        return row

    store.get = get  # type: ignore[method-assign]
    with pytest.raises(ActionRefusedError, match="compensating"):
        saga.signal("o-1", "paid")
    assert store.inbox("o-1") == []


def test_one_that_a_person_is_asked_about_receives_signals(plain: Any, store: Any) -> None:
    saga = saga_of(plain.step("a", ValueError(), on_error=Ask), receive("paid"), store=store)
    assert plain.run(saga, saga_id="o-1").status is Status.STUCK
    saga.signal("o-1", "paid", 7)
    Operations(store, "ann").skip("o-1", "a", "it is done by hand")
    assert worked(store, saga).results["paid"] == 7


def test_an_execution_of_another_saga_is_none_of_this_one(plain: Any, store: Any) -> None:
    Saga("other", store=store).add_task(plain.step("a")).submit(saga_id="o-1")
    saga = saga_of(receive("paid"), store=store)
    with pytest.raises(UnknownExecutionError, match="no execution 'o-1' of saga 's'"):
        saga.signal("o-1", "paid")
    with pytest.raises(SagaIdTakenError, match="belongs to an execution of saga 'other'"):
        saga.signal_or_start("o-1", "paid")
    assert store.inbox("o-1") == []


# -- one that starts --------------------------------------------------------------------------------------------------


def cart(calls: Any, store: Store) -> Saga:
    """A cart that takes items until it is checked out, as Temporal's example of signal-with-start does."""
    return saga_of(receive("item", name="first"), receive("item", name="second"), calls.step("ship"), store=store)


def test_a_signal_starts_what_is_not_there_and_reaches_what_is(calls: Any, store: Any) -> None:
    saga = cart(calls, store)
    first = saga.signal_or_start("o-1", "item", "book", {"customer": "ann"}, tags={"of": "ann"}, priority=3)
    assert (first.new, first.saga_id, first.status()) == (True, "o-1", Status.SUBMITTED)
    row = store.get("o-1")
    assert (dict(row.tags), row.priority) == ({"of": "ann"}, 3)
    second = asyncio.run(saga.asignal_or_start("o-1", "item", "pen", {"customer": "bob"}))
    assert second.new is False
    result = worked(store, saga)
    assert (result.results["first"], result.results["second"], result.context.customer) == ("book", "pen", "ann")
    assert calls.log == ["ship"]


def test_of_many_at_once_one_starts_it_and_all_signals_reach_it(plain: Any, store: Any) -> None:
    saga = saga_of(*(receive("item", name=f"item {n}") for n in range(8)), store=store)
    handles = at_once(8, lambda n: saga.signal_or_start("o-1", "item", n, {"by": n}))
    assert sorted(handle.new for handle in handles) == [False] * 7 + [True]
    assert sorted(worked(store, saga).results.values()) == list(range(8))


def test_one_that_is_purged_in_between_is_started(plain: Any) -> None:
    store = MemoryStore()
    saga = saga_of(receive("paid"), store=store)
    saga.submit(saga_id="o-1")
    submit = store.submit

    def purged_then(*args: Any, **more: Any) -> Any:
        found = submit(*args, **more)
        store.submit = submit  # type: ignore[method-assign]
        del store._executions["o-1"], store._journals["o-1"], store._inboxes["o-1"]
        return found

    store.submit = purged_then  # type: ignore[method-assign]
    assert saga.signal_or_start("o-1", "paid", 7).new
    assert worked(store, saga).results["paid"] == 7


def test_wherever_it_dies_what_a_signal_has_started_has_it(plain: Any) -> None:
    """Its first commit has the signal too: who takes it up after a death has received it."""
    store = MemoryStore()
    saga = saga_of(plain.step("a", in_doubt=InDoubt.RERUN), receive("paid"), timer(0.001), store=store)
    saga.signal_or_start("o-1", "paid", 7)
    assert [entry.kind for entry in store.journal("o-1")] == ["SagaSubmitted", "SignalReceived"]
    assert saga.load("o-1").status is Status.SUBMITTED
    Operations(store, "ann").pause("o-1", "wait")
    Operations(store, "ann").resume("o-1", "go on")
    assert worked(store, saga).results["paid"] == 7


def test_an_execution_that_a_signal_starts_is_watched(plain: Any, store: Any) -> None:
    seen: list[str] = []
    saga = Saga("s", store=store, observers=[lambda event, info: seen.append(type(event).__name__)]).add_task(receive("paid"))
    handle = saga.signal_or_start("o-1", "paid", 7)
    Worker(store, [saga]).run_once()
    assert handle.result(PATIENCE).results["paid"] == 7
    assert seen == ["SagaStarted", "StepStarted", "StepSucceeded", "SagaCompleted"]
