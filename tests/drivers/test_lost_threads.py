"""A call's thread that ends without a word, whatever ended it: nobody waits for it for ever, and no call is made twice."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from saga import Saga, SagaResult, Status, parallel
from saga.drivers import base, thread_pool
from saga.drivers.aio import AsyncExecution
from saga.drivers.base import Driver
from saga.drivers.threads import Execution
from saga.errors import OutcomeUnknownError
from saga.storage import MemoryStore
from tests.kit import PATIENCE, saga_of, within

NAMES = ["a", "b"]


@pytest.fixture(params=["threads", "loop"])
def execute(request: pytest.FixtureRequest) -> Callable[[Saga], SagaResult]:
    """Execute a saga of plain functions, which are called in threads by both drivers."""
    if request.param == "loop":
        return lambda saga: within(PATIENCE, lambda: asyncio.run(saga.atry_execute()))
    return lambda saga: within(PATIENCE, saga.try_execute)


@pytest.fixture(autouse=True)
def ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    monkeypatch.setattr(base, "LOOK", 0.01)


def first_ends(really: Callable[..., Any], before: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does as ``really``, but in the first thread that comes to it: that ends here."""
    numbers = itertools.count()

    def call(*args: Any) -> Any:
        if next(numbers) == 0:
            before(*args)
            raise SystemExit
        return really(*args)

    return call


def of_two(plain: Any, **options: Any) -> Saga:
    return saga_of(parallel(*map(plain.step, NAMES)), **options)


@pytest.mark.parametrize("store", [None, MemoryStore], ids=["unstored", "stored"])
def test_a_call_whose_thread_never_came_to_it_is_made_by_another(plain, execute, monkeypatch, caplog, store):
    monkeypatch.setattr(thread_pool, "_serve", first_ends(thread_pool._serve, lambda *args: None))
    result = execute(of_two(plain, store=store() if store else None))
    assert (result.status, sorted(plain.log)) == (Status.COMPLETED, NAMES)
    assert "a thread ended before it made the execute of step 'a': another one makes it" in caplog.text


def test_a_call_that_was_made_in_a_thread_that_could_not_tell_is_in_doubt(plain, execute, monkeypatch, caplog):
    monkeypatch.setattr(Driver, "_arrive", first_ends(Driver._arrive, lambda *args: None))
    result = execute(of_two(plain))
    assert (result.status, type(result.error)) == (Status.COMPENSATED, OutcomeUnknownError)
    assert sorted(plain.log) == ["-a", "-b", *NAMES]
    assert "has ended without an outcome" in caplog.text


def test_an_outcome_that_a_thread_left_before_it_ended_is_taken(plain, execute, monkeypatch):
    def leave(driver: Driver, beside: Any, outcome: Any) -> None:
        beside.outcome = outcome

    monkeypatch.setattr(Driver, "_arrive", first_ends(Driver._arrive, leave))
    result = execute(of_two(plain))
    assert (result.status, sorted(plain.log)) == (Status.COMPLETED, NAMES)


def test_an_outcome_of_which_nobody_was_woken_is_taken(plain, execute, monkeypatch):
    for driver in (Execution, AsyncExecution):
        monkeypatch.setattr(driver, "_wake", lambda self: None)
    result = execute(of_two(plain))
    assert (result.status, sorted(plain.log)) == (Status.COMPLETED, NAMES)
