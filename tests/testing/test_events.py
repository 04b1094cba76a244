"""What happened, as a test looks at it."""

from __future__ import annotations

import asyncio

from saga import Retry, Saga, step
from saga.events import SagaCompensated, StepFailed
from saga.testing import Events


def _fails() -> None:
    raise ValueError("no")


def test_events_are_kept_in_order():
    events = Events()
    saga = Saga("s", logger=events).add_task(step(lambda: 1, lambda: None, name="a")).add_task(step(lambda: 2, name="b"))
    saga.add_task(step(_fails, name="c", retry=Retry(2)))
    saga.try_execute()
    assert events.lines == [
        "SagaStarted",
        "StepStarted a",
        "StepSucceeded a",
        "StepStarted b",
        "StepSucceeded b",
        "StepStarted c",
        "StepFailed c",
        "RetryScheduled c",
        "StepStarted c",
        "StepFailed c",
        "SagaCompensating c",
        "CompensationStarted a",
        "CompensationSucceeded a",
        "SagaCompensated",
    ]
    assert (events.started, events.done, events.undone) == (["a", "b", "c", "c"], ["a", "b"], ["a"])
    assert [(one.attempt, str(one.error)) for one in events.of(StepFailed, "c")] == [(1, "no"), (2, "no")]
    assert events.of(StepFailed, "a") == []
    assert [type(one) for one in events.of(SagaCompensated)] == [SagaCompensated]


def test_those_of_both_drivers_are_the_same():
    found = []
    for asynchronous in (False, True):
        events = Events()
        saga = Saga("s", logger=events).add_task(step(lambda: 1, name="a")).add_task(step(_fails, name="b"))
        _ = asyncio.run(saga.atry_execute()) if asynchronous else saga.try_execute()
        found.append(events.lines)
    assert found[0] == found[1]
