"""Messages: what is accepted is read before the end, or answered in the journal; nobody waits for what has come."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from saga import InDoubt, Saga, Status, receive, step, transaction
from saga.durable.codec import Codec
from saga.durable.leases import keeper_of
from saga.durable.messages import action_message
from saga.errors import ActionRefusedError, SagaExecutionException, UnknownExecutionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Store
from tests.kit import PATIENCE, check_journal, until, within
from tests.kit.recoveries import left_behind


def run(saga: Saga, store: Store, in_loop: bool) -> Any:
    if in_loop:
        return asyncio.run(saga.atry_execute(saga_id="x", store=store))
    return saga.try_execute(saga_id="x", store=store)


def kinds(store: Store) -> list[str]:
    return [entry.kind for entry in store.journal("x")]


def details(store: Store, kind: str) -> list[dict[str, Any]]:
    return [line.details for line in Operations(store, "ann").show("x").journal if line.kind == kind]


# -- before the end ---------------------------------------------------------------------------------------------------


class Late:
    """Sends something while the last step runs, so that no heartbeat tells of it."""

    def __init__(self, store: Store, send: Callable[[Store], None]) -> None:
        self.log: list[str] = []
        self.store = store
        self.send = send

    def saga(self, in_loop: bool, fails: bool = False) -> Saga:
        def last() -> None:
            self.log.append("b")
            self.send(self.store)
            if fails:
                raise ValueError("no stock")

        async def alast() -> None:
            last()

        saga = Saga("s").add_task(step(lambda: None, lambda: self.log.append("-a"), name="a"))
        saga.add_task(step(receive_nothing, name="c", in_doubt=InDoubt.RERUN))
        return saga.add_task(step(alast if in_loop else last, lambda: self.log.append("-b"), name="b"))


def receive_nothing() -> None:
    pass


def cancels(store: Store) -> None:
    store.post("x", action_message("cancel", None, "ann", "the customer called"))


def signals(store: Store) -> None:
    store.post("x", json.dumps({"signal": "ok", "value": "7"}))


def retries(store: Store) -> None:
    store.post("x", action_message("retry", None, "ann", "again"))


def writes_nonsense(store: Store) -> None:
    store.post("x", '{"signal":"ok","value":"{')


@pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("send", "status", "log", "kind"),
    [
        (cancels, Status.COMPENSATED, ["b", "-b", "-a"], "OperatorActed"),
        (signals, Status.COMPLETED, ["b"], "SignalReceived"),
        (retries, Status.COMPLETED, ["b"], "MessageRefused"),
        (writes_nonsense, Status.COMPLETED, ["b"], "MessageRefused"),
    ],
)
def test_what_comes_before_the_end_is_read_before_it(
    send: Callable[[Store], None], status: Status, log: list[str], kind: str, in_loop: bool, store: Store
) -> None:
    late = Late(store, send)
    result = run(late.saga(in_loop), store, in_loop)
    assert (result.status, late.log) == (status, log)
    assert kinds(store).count(kind) == 1
    assert store.inbox("x") == []
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner) == (str(status), None)
    assert not keeper_of(store)._held
    check_journal(store.journal("x"))


@pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
def test_what_comes_before_the_end_of_an_undo_is_answered(in_loop: bool, store: Store) -> None:
    late = Late(store, cancels)
    assert run(late.saga(in_loop, fails=True), store, in_loop).status is Status.COMPENSATED
    assert store.inbox("x") == []
    (refused,) = details(store, "MessageRefused")
    assert refused["message"] == "cancel by ann: the customer called"
    assert refused["reason"] == "the execution does not go forward (compensating): there is nothing to cancel"
    check_journal(store.journal("x"))


def test_what_comes_before_the_end_of_a_recovery_is_read(store: Store) -> None:
    late = Late(store, lambda store: cancels(store) if recorded else None)

    def build() -> Saga:
        return late.saga(False)

    recorded = False
    left_behind(store, build, count=2)
    recorded = True
    late.log.clear()
    (result,) = Recovery(store, [build()]).run_once()
    assert (result.status, late.log) == (Status.COMPENSATED, ["b", "-b", "-a"])
    assert store.inbox("x") == []


LOG: list[str] = []
HERE: list[Store] = []


def cancels_itself() -> None:
    cancels(HERE[-1])


def undoes() -> None:
    LOG.append("-a")


def test_what_comes_before_the_end_of_a_block_is_read(store: Store) -> None:
    LOG.clear()
    HERE.append(store)
    with (
        pytest.raises(SagaExecutionException, match="the customer called"),
        transaction("s", store=store, saga_id="x") as tx,
    ):
        tx.step(cancels_itself, undoes, name="a")
    assert LOG == ["-a"]
    assert store.get("x").status == "compensated"  # type: ignore[union-attr]


@pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
def test_observers_see_one_end(in_loop: bool, store: Store) -> None:
    late = Late(store, cancels)
    seen: list[str] = []
    saga = late.saga(in_loop)
    watched = Saga("s", observers=[lambda event, info: seen.append(type(event).__name__)]).add_task(saga)
    run(watched, store, in_loop)
    assert "SagaCompleted" not in seen
    assert seen == kinds(store)


def test_a_stream_reads_what_comes_before_its_end(store: Store) -> None:
    late = Late(store, cancels)
    with pytest.raises(SagaExecutionException, match="the customer called"):
        list(late.saga(False).stream(saga_id="x", store=store))
    assert late.log == ["b", "-b", "-a"]


# -- after the end ----------------------------------------------------------------------------------------------------


def approval(store: Store) -> Saga:
    return Saga("approve", store=store).add_task(receive("ok", timeout=0.01))


def test_a_signal_to_what_has_ended_or_never_was_is_refused(store: Store) -> None:
    saga = approval(store)
    assert saga.try_execute(saga_id="x").status is Status.COMPENSATED
    with pytest.raises(ActionRefusedError, match=r"execution 'x' has ended \(compensated\): nobody reads"):
        saga.signal("x", "ok", 1)
    with pytest.raises(UnknownExecutionError):
        saga.signal("nobody", "ok", 1)
    assert store.inbox("x") == []


def test_a_signal_to_what_is_stuck_in_its_undo_is_refused_and_one_that_came_before_is_answered(store: Store) -> None:
    closed = [True]

    def refund() -> None:
        if closed:
            raise OSError("the bank is closed")

    def build() -> Saga:
        return Saga("s", store=store).add_task(step(lambda: None, refund, name="a")).add_task(receive("ok", timeout=0.01))

    assert build().try_execute(saga_id="x").status is Status.STUCK
    for send in (build().signal, lambda *said: Operations(store, "ann", sagas=[build()]).signal(*said, "she said so")):
        with pytest.raises(ActionRefusedError, match=r"does not go forward \(stuck\): no step receives a signal any more"):
            send("x", "ok")
    signals(store)
    assert Operations(store, "ann").show("x").inbox == ({"signal": "ok", "value": "7"},)
    closed.clear()
    Operations(store, "ann").retry("x", why="the bank is open")
    (result,) = Recovery(store, [build()]).run_once()
    assert result.status is Status.COMPENSATED
    assert (kinds(store).count("SignalReceived"), store.inbox("x")) == (1, [])


# -- what cannot be read ----------------------------------------------------------------------------------------------


class Price:
    def __init__(self, cents: int) -> None:
        self.cents = cents


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError, MemoryError])
def test_a_signal_whose_decode_function_raises_anything_is_set_aside(error: type[BaseException], store: Store) -> None:
    def decode(cents: int) -> Price:
        if cents == 13:
            raise error
        return Price(cents)

    codec = Codec().register(Price, lambda price: price.cents, decode)
    saga = Saga("s", store=store, codec=codec).add_task(receive("ok"))
    results: list[Any] = []
    waits = threading.Thread(target=lambda: results.append(saga.try_execute(saga_id="x")))
    waits.start()
    until(lambda: store.get("x") is not None)
    saga.signal("x", "ok", Price(13))
    until(lambda: "MessageRefused" in kinds(store))
    saga.signal("x", "ok", Price(7))
    waits.join(PATIENCE)
    assert results[0].ok


POISON = {
    "no JSON": "{",
    "no object": "7",
    "nothing known": "{}",
    "a value that is none": '{"signal":"ok","value":"{"}',
    "a class that is gone": '{"signal":"ok","value":"{\\"$dataclass\\":[\\"nowhere:Gone\\",{}]}"}',
    "a name that is none": '{"signal":["ok"],"value":"1"}',
    "a text that is none": '{"action":"cancel","step":null,"who":7,"why":{}}',
    "no action": '{"action":"explode","step":null,"who":"ann","why":"why not"}',
}


@pytest.mark.parametrize("body", POISON)
def test_what_cannot_be_read_is_set_aside_and_the_execution_goes_on(
    body: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []

    def build() -> Saga:
        return Saga("s", store=store).add_task(step(lambda: None, lambda: log.append("-a"), name="a")).add_task(receive("ok"))

    results: list[Any] = []
    waits = threading.Thread(target=lambda: results.append(build().try_execute(saga_id="x")))
    waits.start()
    until(lambda: store.get("x") is not None and "StepStarted" in kinds(store)[2:])
    store.post("x", POISON[body])
    keeper_of(store).look("x")
    until(lambda: store.inbox("x") == [])
    build().signal("x", "ok", "approved")
    waits.join(PATIENCE)
    assert (results[0].status, results[0].results["ok"]) == (Status.COMPLETED, "approved")
    (refused,) = details(store, "MessageRefused")
    assert "MessageRefused" in Operations(store, "ann").show("x").timeline()
    assert refused["reason"]
    assert len([record for record in caplog.records if "saga x" in record.getMessage()]) == 1
    check_journal(store.journal("x"))


@pytest.mark.parametrize("body", POISON)
def test_what_cannot_be_read_is_shown_while_it_waits(body: str, store: Store) -> None:
    left_behind(store, lambda: Saga("s").add_task(step(lambda: None, lambda: None, name="a")))
    store.post("x", POISON[body])
    assert [type(one) for one in Operations(store, "ann").show("x").inbox] == [dict]
    (result,) = Recovery(store, [Saga("s").add_task(step(lambda: None, lambda: None, name="a"))]).run_once()
    assert result.status is Status.COMPENSATED
    assert details(store, "MessageRefused")


# -- who waits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("comes", ["before it is given back", "after"])
def test_a_signal_wakes_who_waits_whatever_the_order(comes: str, dies: bool, store: Store) -> None:
    """A recovery gives back what only waits; the signal comes just before that or after it, or the process dies instead."""

    def build(timeout: float | None = None) -> Saga:
        return Saga("s", store=store, lease=0.1).add_task(step(lambda: None, name="a")).add_task(receive("ok", timeout=timeout))

    left_behind(store, lambda: build(0.01), count=2)
    given_back = store.release

    def released(*args: Any, **more: Any) -> None:
        if comes == "before it is given back":
            build().signal("x", "ok", 7)
        if not dies:
            given_back(*args, **more)
        if comes == "after":
            build().signal("x", "ok", 7)

    store.release = released  # type: ignore[method-assign]
    recovery = Recovery(store, [build()])
    within(PATIENCE, recovery.run_once)
    del store.release
    until(lambda: recovery.run_once() or store.get("x").status == "completed")  # type: ignore[union-attr]
    row = store.get("x")
    assert row is not None
    assert row.status == "completed"
    check_journal(store.journal("x"))
