"""A signal's handler that raises to end the program ends the worker of its thread, whatever of the user's it strikes in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from saga import Context, Retry, Saga, Task
from saga.alerts import Alerts
from saga.events import CompensationStarted, SagaStuck, StepStarted
from saga.storage import MemoryStore
from saga.worker import Worker


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise SystemExit(3)

    before = signal.signal(signal.SIGUSR1, end)
    yield
    signal.signal(signal.SIGUSR1, before)


class Strikes:
    """The signal strikes once, at a place."""

    def __init__(self, place: str) -> None:
        self.place = place

    def at(self, place: str) -> None:
        if place == self.place:
            self.place = ""
            signal.raise_signal(signal.SIGUSR1)


class Backoff:
    def __init__(self, strikes: Strikes) -> None:
        self.strikes = strikes

    def delay(self, *_: object) -> float:
        self.strikes.at("backoff")
        return 0.0


PLACES = ["execute", "compensate", "started", "undoing", "stuck", "backoff"]


def saga_of(strikes: Strikes, store: MemoryStore | None = None) -> Saga[Any]:
    class Charge(Task[None]):
        retry = Retry(2, Backoff(strikes))

        def execute(self, context: Context) -> None:
            strikes.at("execute")

        def compensate(self, context: Context) -> None:
            strikes.at("compensate")
            raise OSError("the bank is closed")

    class Pack(Task[None]):
        retry = Retry(2, Backoff(strikes))

        def execute(self, context: Context) -> None:
            raise ValueError("no parcel is big enough")

    def observe(event: Any, info: Any) -> None:
        for kind, place in ((StepStarted, "started"), (CompensationStarted, "undoing"), (SagaStuck, "stuck")):
            if isinstance(event, kind):
                strikes.at(place)

    return Saga("order", store=store, observers=[observe]).add_task(Charge).add_task(Pack)


@pytest.mark.parametrize("place", PLACES)
def test_it_ends_a_worker_and_what_was_in_hand_is_left_to_the_next(place: str) -> None:
    store, strikes = MemoryStore(), Strikes(place)
    saga = saga_of(strikes, store)
    saga.submit(saga_id="x")
    with pytest.raises(SystemExit) as ended:
        Worker(store, [saga], workers=1).run_once()
    assert ended.value.code == 3
    assert strikes.place == ""
    Worker(store, [saga], workers=1).run_once()
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner) == ("compensated" if place == "started" else "stuck", None)


def test_it_ends_who_calls_out_for_what_is_stuck() -> None:
    store, strikes, told = MemoryStore(), Strikes("called out"), list[str]()
    saga_of(Strikes(""), store).try_execute(saga_id="x")

    def on_stuck(row: Any, view: Any) -> None:
        told.append(row.saga_id)
        strikes.at("called out")

    with pytest.raises(SystemExit):
        Alerts(store, on_stuck).look()
    assert Alerts(store, on_stuck).look() == 1
    assert told == ["x", "x"]
