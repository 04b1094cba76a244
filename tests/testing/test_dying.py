"""A store whose process dies on demand: nothing more happens there, and others find what was stored."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from saga import Context, NotDone, Saga, Status, Task, receive, step
from saga.errors import SagaDefinitionError, StorageError
from saga.testing import Clock, DiedError, DyingStore
from saga.worker import Worker

log: list[str] = []


class Charge(Task[str]):
    def execute(self, context: Context) -> str:
        log.append("charge")
        return "C1"

    def compensate(self, context: Context) -> None:
        log.append("refund")


class Ship(Task[str]):
    def execute(self, context: Context) -> str:
        log.append("ship")
        return "S1"

    def verify(self, context: Context) -> NotDone:
        return NotDone()


@pytest.fixture(autouse=True)
def nothing_logged() -> None:
    log.clear()


@pytest.fixture(params=["sync", "async"])
def execute(request: pytest.FixtureRequest) -> Any:
    def execute(saga: Saga, **where: Any) -> Any:
        return saga.try_execute(**where) if request.param == "sync" else asyncio.run(saga.atry_execute(**where))

    return execute


def order() -> Saga:
    return Saga("order").add_task(Charge).add_task(Ship)


#: When it dies; what was called by then, what the recovery calls, and how the execution ends (``None``: there is none).
DEATHS: list[tuple[dict[str, Any], list[str], list[str], Status | None]] = [
    ({"before": 1}, [], [], None),
    ({"after": 1}, [], ["refund"], Status.COMPENSATED),
    ({"before": "SagaStarted"}, [], [], None),
    ({"after": "StepStarted Charge"}, [], ["refund"], Status.COMPENSATED),
    ({"before": "StepSucceeded"}, ["charge"], ["refund"], Status.COMPENSATED),
    ({"before": "StepSucceeded Charge"}, ["charge"], ["refund"], Status.COMPENSATED),
    ({"before": 2}, ["charge"], ["refund"], Status.COMPENSATED),
    ({"after": "StepSucceeded Charge"}, ["charge"], ["refund"], Status.COMPENSATED),
    ({"after": "StepStarted Ship"}, ["charge"], ["refund"], Status.COMPENSATED),
    ({"before": "StepSucceeded Ship"}, ["charge", "ship"], ["refund"], Status.COMPENSATED),
    ({"before": "SagaCompleted"}, ["charge", "ship"], ["refund"], Status.COMPENSATED),
    ({"after": "SagaCompleted"}, ["charge", "ship"], [], Status.COMPLETED),
    ({"after": 3}, ["charge", "ship"], [], Status.COMPLETED),
]


@pytest.mark.parametrize(("when", "called", "then", "status"), DEATHS, ids=lambda value: str(value))
def test_a_process_dies_at_a_write(when, called, then, status, execute):
    store = DyingStore(**when)
    with pytest.raises(DiedError, match=r"the process died (before|after) write"):
        execute(order(), store=store, saga_id="1")
    assert store.dead
    assert log == called
    left = store.left()
    Worker(left, [order()]).run_once()
    assert log == called + then
    row = left.get("1")
    assert (row and Status(row.status)) == status


def test_what_does_not_come_to_it_lives(execute):
    store = DyingStore(after=4, before="CompensationStarted Charge")
    assert execute(order(), store=store).status is Status.COMPLETED
    assert (store.writes, store.dead) == (3, False)


def test_who_is_dead_does_nothing_more():
    store = DyingStore(after="SagaSubmitted")
    saga = Saga("s", store=store).add_task(receive("x"))
    with pytest.raises(DiedError, match="the process died after write 1: SagaSubmitted"):
        saga.submit(saga_id="1")
    for act in (lambda: store.get("1"), lambda: saga.submit(), lambda: saga.signal("1", "x"), lambda: store.list()):
        with pytest.raises(StorageError, match=r"the process is dead.*left\(\) is what others find"):
            act()
    left = store.left()
    saga.signal("1", "x", 7, store=left)
    assert Worker(left, [Saga("s").add_task(receive("x"))]).run_once()[0].results == {"x": 7}
    assert left.writes > 0
    assert "dead" in repr(store)
    assert "dead" not in repr(left)


def test_the_one_who_recovers_may_die_too():
    store = DyingStore(before="StepSucceeded Ship")
    with pytest.raises(DiedError):
        order().execute(store=store, saga_id="1")
    again = store.left(after="CompensationStarted Charge")
    with pytest.raises(DiedError):
        Worker(again, [order()]).run_once()
    last = again.left()
    assert [one.status for one in Worker(last, [order()]).run_once()] == [Status.COMPENSATED]
    assert log == ["charge", "ship", "refund"]


def test_what_lives_can_be_looked_at_as_if_it_had_died():
    with Clock() as clock:
        store = DyingStore()

        def look() -> None:
            found.append(store.left().get("1"))
            clock.move(5)

        found: list[Any] = []
        Saga("s").add_task(step(look)).execute(store=store, saga_id="1")
        row = store.get("1")
        assert found[0].status == "running"
        assert found[0].lease_until == clock.now() - 5
        assert (row.status, store.dead) == ("completed", False)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("when", "text"),
    [
        ("StepSuceeded Charge", r"is 'StepSuceeded Charge'; did you mean 'StepSucceeded'"),
        ("Charge", "give the number of a write, from 1, or an event"),
        (0, " is 0; give"),
        (True, " is True; give"),
        (1.5, " is 1.5; give"),
    ],
)
def test_it_dies_at_something(when, text, place):
    with pytest.raises(SagaDefinitionError, match=rf"{place}.*{text}"):
        DyingStore(**{place: when})
