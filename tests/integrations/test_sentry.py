"""Failures in Sentry, by its own SDK with a transport that keeps what it would send: one event for each, and its group."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from saga import Ask, InDoubt, OutcomeUnknownError, Retry, Saga, Skip, step, transaction
from saga.errors import SagaExecutionException
from saga.integrations.sentry import Sentry
from saga.logging import SagaLogger
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from saga.worker import Worker
from tests.kit import Calls, left_at


class Kept(Transport):
    """Keeps the events that would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)

    def told(self) -> list[str]:
        """Return each event's level and group."""
        return [f"{event['level']}: {' '.join(event['fingerprint'])}" for event in self.events]


@pytest.fixture
def kept() -> Iterator[Kept]:
    transport = Kept()
    sentry_sdk.init(
        "http://key@sentry.invalid/1",
        transport=transport,
        default_integrations=False,
        integrations=[LoggingIntegration(), DedupeIntegration()],
    )
    yield transport
    sentry_sdk.get_global_scope().set_client(None)


def raises(*errors: Any) -> Callable[[], Any]:
    """Return a function that raises each of these in turn, and then returns."""
    left = list(errors)

    def call() -> None:
        if left:
            raise left.pop(0)

    return call


WITH_A_LOGGER = pytest.mark.parametrize("logger", [None, SagaLogger()], ids=["no logger", "a logger"])


@WITH_A_LOGGER
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (lambda step: [step("a"), step("b")], []),
        (lambda step: [step("a", raises(OSError()), retry=Retry(2))], []),
        (lambda step: [step("a", raises(OSError()), on_error=Skip)], []),
        (lambda step: [step("a"), step("b", LookupError("no stock"))], ["error: saga s b LookupError"]),
        (
            lambda step: [step("a", None, raises(OSError()), compensation_retry=Retry(2)), step("b", LookupError())],
            ["error: saga s b LookupError"],
        ),
        (
            lambda step: [step("a", None, OSError("gone")), step("b", LookupError())],
            ["error: saga s b LookupError", "fatal: saga s a OSError"],
        ),
        (
            lambda step: [
                step("a", None, raises(OSError()), compensation_retry=Retry(2)),
                step("b", None, ValueError("gone")),
                step("c", LookupError()),
            ],
            ["error: saga s c LookupError", "fatal: saga s b ValueError"],
        ),
        (
            lambda step: [step("a", OutcomeUnknownError("?"), in_doubt=InDoubt.ASK)],
            ["error: saga s a saga.errors.OutcomeUnknownError"],
        ),
    ],
    ids=["well", "retried", "skipped", "fails", "undone at last", "not undone", "one of two not undone", "in doubt"],
)
def test_each_failure_is_one_event(calls: Calls, kept: Kept, flow: Any, expected: list[str], stored: bool, logger: Any) -> None:
    saga = calls.saga(*flow(calls.step), logger=logger, observers=[Sentry()], store=MemoryStore() if stored else None)
    try:
        calls.execute(saga, saga_id="x")
    except SagaExecutionException:
        sentry_sdk.capture_exception()  # as a web framework's integration does
    assert kept.told() == expected
    assert {event["tags"]["saga.id"] for event in kept.events} == ({"x"} if expected else set())


def test_an_event_has_the_error_and_where_it_came_from(plain: Calls, kept: Kept) -> None:
    plain.run(plain.saga(plain.step("a"), plain.step("b", LookupError("no stock")), observers=[Sentry()]), saga_id="x")
    (event,) = kept.events
    (error,) = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("LookupError", "no stock")
    assert [frame["function"] for frame in error["stacktrace"]["frames"]][-2:] == ["call", "perform"]
    assert event["tags"] == {"saga.name": "s", "saga.id": "x", "saga.step": "b", "saga.phase": "execute"}


def test_what_a_person_is_asked_about_is_fatal(kept: Kept) -> None:
    saga = Saga("s", observers=[Sentry()], logger=SagaLogger()).add_task(step(raises(OSError()), name="a", on_error=Ask))
    saga.try_execute(store=MemoryStore())
    assert kept.told() == ["fatal: saga s a OSError"]


def test_what_is_stuck_again_is_another_failure_and_what_others_have_reported_is_none(kept: Kept) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[Sentry()], logger=SagaLogger(), store=store)
    saga.add_task(step(lambda: 1, raises(OSError(), ValueError()), name="a")).add_task(step(raises(LookupError()), name="b"))
    saga.try_execute(saga_id="x")
    Operations(store, "me").retry("x", "again")
    Recovery(store, [saga]).run_once()
    assert kept.told() == ["error: saga s b LookupError", "fatal: saga s a OSError", "fatal: saga s a ValueError"]


def test_what_a_person_is_asked_about_again_is_another_failure(kept: Kept) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[Sentry()], store=store)
    saga.add_task(step(raises(OSError(), ValueError()), name="a", on_error=Ask))
    saga.try_execute(saga_id="x")
    Operations(store, "me").resume("x", "again")
    Recovery(store, [saga]).run_once()
    assert kept.told() == ["fatal: saga s a OSError", "fatal: saga s a ValueError"]


def test_what_is_stuck_for_no_error_of_this_process_is_told_by_its_reason(plain: Calls, kept: Kept) -> None:
    def saga(*observers: Any) -> Saga:
        return plain.saga(plain.step("a", in_doubt=InDoubt.ASK), observers=observers)

    Recovery(left_at(saga(), "a"), [saga(Sentry())]).run_once()
    (event,) = kept.events
    assert kept.told() == ["fatal: saga s  stuck"]
    assert event["message"].startswith("saga s is stuck: ")


@WITH_A_LOGGER
def test_what_a_worker_leaves_to_a_person_is_one_event(plain: Calls, kept: Kept, logger: Any) -> None:
    def saga(*observers: Any) -> Saga:
        return plain.saga(plain.step("a"), observers=observers, logger=logger)

    store = left_at(saga(), "a", age=1000.0)
    for _ in range(3):
        store.claim("somebody who dies", -1.0)
    kept.events.clear()
    assert len(Worker(store, [saga(Sentry())], max_attempts=2).run_once().parked) == 1
    assert kept.told() == ["fatal: saga s  stuck"]


def test_what_a_person_had_undone_and_an_interrupt_are_no_failures(calls: Calls, kept: Kept) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[Sentry()], logger=SagaLogger(), store=store).add_task(step(lambda: 1, lambda: None, name="a"))
    saga.execute(saga_id="x")
    saga.undo("x", "the customer called")
    with pytest.raises(KeyboardInterrupt):
        Saga("s", observers=[Sentry()]).add_task(step(raises(KeyboardInterrupt()), name="a")).execute()
    assert kept.events == []


def test_an_exception_that_leaves_a_block_is_one_event(kept: Kept) -> None:
    try:
        with transaction("b", observers=[Sentry()]) as tx:
            tx.step(print, name="a", kwargs={"end": ""})
            raise LookupError("no stock")
    except LookupError:
        sentry_sdk.capture_exception()
    assert kept.told() == ["error: saga b  LookupError"]


def test_a_saga_within_a_call_is_reported_once(kept: Kept) -> None:
    inner = Saga("inner", observers=[Sentry()]).add_task(step(raises(LookupError()), name="x"))
    outer = Saga("outer", observers=[Sentry()]).add_task(step(lambda: inner.execute(), name="a"))
    assert not outer.try_execute().ok
    assert kept.told() == ["error: saga inner x LookupError"]


def test_sagas_without_it_and_other_lines_are_reported_as_ever(kept: Kept) -> None:
    Sentry()
    failing = Saga("another", logger=SagaLogger()).add_task(step(raises(LookupError()), name="x"))
    with pytest.raises(SagaExecutionException) as raised:
        failing.execute()
    sentry_sdk.capture_exception(raised.value)
    logging.getLogger("shop").error("no stock")
    assert [event.get("logger") for event in kept.events] == ["saga", None, "shop"]


def test_blocks_of_many_names_take_no_memory_and_a_failure_among_them_is_one_event(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, None] = {}
    monkeypatch.setattr("saga.integrations.sentry._REPORTED", names)
    monkeypatch.setattr("saga.integrations.sentry._MOST_NAMES", 3)

    def many() -> None:
        for number in range(5):
            with transaction(f"block {number}", observers=[Sentry()]):
                pass
        raise LookupError("no stock")

    saga = Saga("s", observers=[Sentry()], logger=SagaLogger()).add_task(step(many, name="a"))
    with pytest.raises(SagaExecutionException) as raised:
        saga.execute()
    sentry_sdk.capture_exception(raised.value)
    assert [event["fingerprint"] for event in kept.events if "logger" not in event] == [["saga", "s", "a", "LookupError"]]
    assert list(names) == ["block 3", "block 4", "s"]


def test_two_executions_of_one_kind_of_failure_are_one_group(kept: Kept) -> None:
    async def fails() -> None:
        raise LookupError("no stock")

    saga = Saga("s", observers=[Sentry()]).add_task(step(fails, name="a"))
    for _ in range(2):
        asyncio.run(saga.atry_execute())
    assert kept.told() == ["error: saga s a LookupError"] * 2


PROGRAM = """
import json, sentry_sdk
from sentry_sdk.transport import Transport
from saga import Saga, step
from saga.integrations.sentry import Sentry
from saga.logging import SagaLogger

class Printed(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            print(json.dumps(event.get("fingerprint")), flush=True)

sentry_sdk.init("http://key@sentry.invalid/1", transport=Printed())

def charge():
    raise LookupError("no stock")

saga = Saga("s", logger=SagaLogger(), observers=[Sentry()]).add_task(step(charge))
"""
UNCAUGHT = "saga.execute()"
FLASK = """
import flask
app = flask.Flask("shop")
app.add_url_rule("/", view_func=saga.execute, endpoint="order")
assert app.test_client().get("/").status_code == 500
"""


@pytest.mark.parametrize("then", [UNCAUGHT, FLASK], ids=["uncaught", "in a request"])
def test_with_all_that_the_sdk_does_by_itself_a_failure_is_one_event(then: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM + then], capture_output=True, text=True, timeout=60, check=False)
    assert "SagaExecutionException" in ran.stderr
    assert ran.stdout.splitlines() == ['["saga", "s", "charge", "LookupError"]']
