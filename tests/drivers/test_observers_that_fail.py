"""Observers that fail: whatever one of their methods raises, of the execution nothing changes, and others hear of all."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from saga import Context, Saga, Status
from saga.errors import LeaseLostError
from saga.storage import Lease, MemoryStore
from tests.kit import LONG, Calls, Watch, background


class Odd(BaseException):
    """Of no kind that anything knows."""


METHODS = ["listening", "stint", "carry", "call", "around", "enter", "leave", "ended"]
RAISED: dict[str, Callable[[], BaseException]] = {
    "an error": ZeroDivisionError,
    "an exit": lambda: SystemExit(3),
    "an interrupt of its own": KeyboardInterrupt,
    "a cancellation": asyncio.CancelledError,
    "the end of a generator": GeneratorExit,
    "anything": Odd,
}
STORES: dict[str, Callable[[], Any]] = {"no store": lambda: None, "a store": MemoryStore}
stored_or_not = pytest.mark.parametrize("store", STORES.values(), ids=STORES)


class Failing(AbstractContextManager[None]):
    """An observer one method of which raises, each time that it is asked, or until it is told to stop."""

    def __init__(self, method: str, error: Callable[[], BaseException], times: int = -1) -> None:
        self.method, self.error, self.times = method, error, times
        self.asked = False

    def _asked(self, method: str) -> None:
        if method == self.method and self.times:
            self.times -= 1
            self.asked = True
            raise self.error()

    def __call__(self, event: Any, info: Any) -> None:
        self._asked("call")

    def listening(self) -> bool:
        self._asked("listening")
        return True

    def stint(self, info: Any) -> None:
        self._asked("stint")

    def carry(self) -> None:
        self._asked("carry")

    def around(self, info: Any, step: Any, attempt: int, phase: str) -> Failing:
        self._asked("around")
        return self

    def __enter__(self) -> None:
        self._asked("enter")

    def __exit__(self, *raised: object) -> None:
        self._asked("leave")

    def ended(self, status: Any, error: Any) -> None:
        self._asked("ended")

    def __repr__(self) -> str:
        raise ZeroDivisionError


def stuck(calls: Calls, *observers: Any, store: Any) -> Saga:
    """Return a saga that ends stuck: it fails, and so does an undo."""
    steps = calls.step("a"), calls.step("b", None, OSError("undo")), calls.step("c", OSError("c"))
    return calls.saga(*steps, observers=observers, store=store)


@stored_or_not
@pytest.mark.parametrize("error", RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("method", METHODS)
def test_whatever_one_raises_is_logged_once_and_changes_nothing(
    calls: Calls, method: str, error: Any, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    failing, watch = Failing(method, error), Watch()
    saga = stuck(calls, failing, watch, store=store())
    result = background(lambda: calls.run(saga))()  # an interrupt in a thread is no person's
    assert result.status is Status.STUCK
    assert calls.log == ["a", "b", "c", "-b", "-a"]
    assert (str(result.error), [one.step for one in result.compensation_errors]) == ("c", ["b"])
    assert watch.events == list(result.events)
    assert failing.asked is (method != "carry" or saga.store is not None)
    logged = [type(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert logged == ([type(error())] if failing.asked and method != "listening" else [])


@stored_or_not
@pytest.mark.parametrize("method", METHODS)
def test_a_ctrl_c_that_strikes_in_one_is_raised_when_all_is_undone_and_others_hear_of_all(
    calls: Calls, method: str, store: Any
) -> None:
    failing, watch, context = Failing(method, KeyboardInterrupt, times=1), Watch(), Context(a=1)
    saga = calls.saga(calls.step("a"), calls.step("b", OSError("b")), observers=[failing, watch], store=store())
    if method == "carry" and saga.store is None:
        failing.method = "stint"
    with pytest.raises(KeyboardInterrupt):
        calls.execute(saga, context)
    assert failing.asked
    assert "-a" in calls.log or "a" not in calls.log
    told = watch.told()
    assert not told or (told[0], told[-1]) == ("SagaStarted", "SagaCompensated")
    assert calls.run(saga, context).status is Status.COMPENSATED  # nobody has the context any more


@pytest.mark.parametrize("method", METHODS)
def test_what_the_handler_of_a_signal_raises_in_one_ends_the_program(calls: Calls, method: str) -> None:
    def end(*said: object) -> None:
        sys.exit(7)

    def strike() -> BaseException:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the handler has raised")

    before = signal.signal(signal.SIGTERM, end)
    try:
        saga = calls.saga(calls.step("a"), observers=[Failing(method, strike, times=1)], store=MemoryStore())
        with pytest.raises(SystemExit) as raised:
            calls.execute(saga)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert raised.value.code == 7


def test_a_ctrl_c_in_the_end_of_a_stint_that_is_broken_off_is_raised(calls: Calls) -> None:
    store = MemoryStore()

    def rob() -> None:
        row = store.get("x")
        assert row is not None
        store.release(Lease("x", str(row.owner), row.epoch))
        assert store.claim("thief", LONG, saga_id="x")

    saga = calls.saga(calls.step("a", rob), observers=[Failing("ended", KeyboardInterrupt, times=1)], store=store)
    with pytest.raises(KeyboardInterrupt) as raised:
        calls.run(saga, saga_id="x")
    assert isinstance(raised.value.__context__, LeaseLostError)
