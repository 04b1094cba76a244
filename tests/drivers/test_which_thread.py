"""In which thread, and in which event loop, each call is made: the table of the guide."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, NotDone, OutcomeUnknownError, Saga, Task, parallel, sequence, step
from saga.events import Event

CALLER, OTHER = "the caller's thread", "a thread of its own"
told = contextvars.ContextVar("told", default="nothing")


def here(caller: threading.Thread) -> str:
    try:
        loop = "" if asyncio.get_running_loop() is None else " and its loop"
    except RuntimeError:
        loop = ""
    return (CALLER if threading.current_thread() is caller else OTHER) + loop


class Where:
    """Notes in which thread each call of a run was made."""

    def __init__(self) -> None:
        self.caller = threading.current_thread()
        self.calls: dict[str, str] = {}

    def note(self, name: str) -> Callable[[Context], None]:
        def call(context: Context) -> None:
            self.calls[name] = here(self.caller)
            assert told.get() == "the caller's"

        return call

    def anote(self, name: str) -> Callable[[Context], Any]:
        async def call(context: Context) -> None:
            self.note(name)(context)

        return call

    def step(self, name: str, **policies: Any) -> Any:
        return step(self.note(name), self.note(f"-{name}"), name=name, **policies)

    def observe(self, event: Event, info: object) -> None:
        self.calls["observer"] = here(self.caller)

    def saga(self, *flows: Any) -> Saga:
        class Lost(Task[None]):
            def execute(task, context: Context) -> None:
                raise OutcomeUnknownError

            def verify(task, context: Context) -> NotDone:
                self.note("verify")(context)
                return NotDone()

        saga = Saga("s", logger=self.observe)
        for flow in flows:
            saga.add_task(flow)
        return saga.add_task(Lost)


@pytest.fixture
def where() -> Any:
    token = told.set("the caller's")
    yield Where()
    told.reset(token)


def flows(where: Where) -> tuple[Any, ...]:
    return (
        where.step("plain"),
        where.step("limited", timeout=60),
        parallel(where.step("a"), where.step("b")),
        parallel(sequence(where.step("c")), where.step("d"), compensate_together=True),
    )


def test_of_a_plain_saga(where: Where) -> None:
    assert where.saga(*flows(where)).try_execute().status == "compensated"
    elsewhere = {"limited", "a", "b", "c", "d", "-c", "-d"}  # limited in time, or beside others
    names = {*"abcd", "plain", "limited", "-a", "-b", "-c", "-d", "-plain", "-limited", "verify", "observer"}
    assert where.calls == {name: OTHER if name in elsewhere else CALLER for name in names}


def test_of_a_plain_saga_in_an_event_loop(where: Where) -> None:
    result = asyncio.run(where.saga(*flows(where)).atry_execute())
    assert result.status == "compensated"
    assert where.calls.pop("observer") == f"{CALLER} and its loop"
    assert set(where.calls.values()) == {OTHER}


@pytest.mark.parametrize("run", [Saga.try_execute, lambda saga: asyncio.run(saga.atry_execute())], ids=["sync", "async"])
def test_of_a_saga_with_async_steps(where: Where, run: Any) -> None:
    mixed = step(where.anote("async"), where.anote("-async"), name="async", timeout=60)
    assert run(where.saga(mixed, where.step("plain"))).status == "compensated"
    assert where.calls == {
        **dict.fromkeys(["async", "-async", "observer"], f"{CALLER} and its loop"),
        **dict.fromkeys(["plain", "-plain", "verify"], OTHER),
    }
