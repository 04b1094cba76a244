"""In which thread, and in which event loop, each call is made: the table of the guide."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from saga import (
    Context,
    InDoubt,
    NotDone,
    OutcomeUnknownError,
    Retry,
    Saga,
    Task,
    fallback,
    parallel,
    receive,
    sequence,
    step,
    transaction,
)
from saga.durable.codec import Codec
from saga.durable.messages import signal_message
from saga.events import Event
from saga.storage import MemoryStore
from saga.worker import Worker
from tests.kit import left_at, within

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guide"
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
        where.step("undo limited", compensation_timeout=60),
        parallel(where.step("a"), where.step("b")),
        parallel(sequence(where.step("c")), where.step("d"), compensate_together=True),
    )


def test_of_a_plain_saga(where: Where) -> None:
    assert where.saga(*flows(where)).try_execute().status == "compensated"
    elsewhere = {"limited", "-undo limited", "a", "b", "c", "d", "-c", "-d"}  # limited in time, or beside others
    names = {*"abcd", "plain", "limited", "-a", "-b", "-c", "-d", "-plain", "-limited", "verify", "observer"}
    names |= {"undo limited", "-undo limited"}
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


# -- what is around a call, and what is asked between them ------------------------------------------------------------

AROUND: Final = {"around", "resolver", "breaker", "execute", "compensate"}
BETWEEN: Final = {"observer", "unknown_on", "retry_on", "retry_if", "backoff", "on_compensation_failure", "encode", "decode"}


class Amount:
    """A value of a registered type."""


class Surrounded:
    """A saga of plain tasks, every function of which notes where it is called."""

    def __init__(self, where: Where, store: MemoryStore) -> None:
        note = where.note

        def asked(name: str, answer: Any) -> Any:
            return lambda value: (note(name)(Context()), answer)[1]

        @contextmanager
        def scope(name: str, value: Any) -> Iterator[Any]:
            note(name)(Context())
            yield value

        class Observer:
            def __call__(self, event: Event, info: object) -> None:
                where.observe(event, info)

            def around(self, *call: Any) -> Any:
                return scope("around", None)

        class Backoff:
            def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
                note("backoff")(Context())
                return 0.0

        class Breaker:
            def calling(self) -> Any:
                return scope("breaker", None)

        class Made(Task[Amount]):
            def execute(self, context: Context) -> Amount:
                note("execute")(context)
                return Amount()

            def compensate(self, context: Context) -> None:
                note("compensate")(context)
                raise ValueError

        def failed(context: Context, step: str, error: BaseException) -> None:
            note("on_compensation_failure")(context)

        self.saga = Saga(
            "s",
            observers=Observer(),
            resolver=lambda kind: scope("resolver", kind()),
            unknown_on=asked("unknown_on", False),
            on_compensation_failure=failed,
            store=store,
            codec=Codec().register(Amount, asked("encode", 1), asked("decode", Amount())),
        )
        self.saga.add_task(Made)
        self.saga.add_task(fallback(step(lambda: 1, name="first"), step(lambda: 2, name="other"), breaker=Breaker()))

        def fail() -> None:
            raise ValueError

        self.saga.add_task(step(lambda: 3, name="polled", retry=Retry(2, retry_if=asked("retry_if", False))))
        self.saga.add_task(step(fail, retry=Retry(2, Backoff(), asked("retry_on", True))))


def test_of_what_is_around_a_call_and_what_is_asked_between_them(where: Where) -> None:
    Surrounded(where, MemoryStore()).saga.try_execute()
    assert where.calls == dict.fromkeys(AROUND | BETWEEN, CALLER)


def test_of_what_is_around_a_call_and_what_is_asked_between_them_in_an_event_loop(where: Where) -> None:
    asyncio.run(Surrounded(where, MemoryStore()).saga.atry_execute())
    assert where.calls == {**dict.fromkeys(AROUND, OTHER), **dict.fromkeys(BETWEEN, f"{CALLER} and its loop")}


def test_of_what_reads_a_stored_value(where: Where) -> None:
    store = MemoryStore()
    saga = Surrounded(where, store).saga
    saga.try_execute(saga_id="x")
    saga.load("x")
    assert where.calls["decode"] == CALLER
    asyncio.run(saga.aload("x"))
    assert where.calls["decode"] == OTHER


# -- blocks and workers -----------------------------------------------------------------------------------------------


def test_of_a_block(where: Where) -> None:
    with transaction("t", observers=where.observe) as block:
        block.step(where.note("plain"))
        block.step(where.note("limited"), timeout=60)
        block.parallel(where.step("a"), where.step("b"))
    assert where.calls == {**dict.fromkeys(["plain", "observer"], CALLER), **dict.fromkeys(["limited", "a", "b"], OTHER)}


def test_of_a_block_in_an_event_loop(where: Where) -> None:
    async def main() -> None:
        async with transaction("t", observers=where.observe) as block:
            await block.astep(where.note("plain"))
            await block.astep(where.anote("async"))

    asyncio.run(main())
    assert where.calls == {"plain": OTHER, **dict.fromkeys(["async", "observer"], f"{CALLER} and its loop")}


async def arun(worker: Worker) -> None:
    """Run until what is there has been run."""
    running = asyncio.create_task(worker.arun())
    while worker.store.list(status=["running"]).executions:
        await asyncio.sleep(0.001)
    worker.stop()
    await running


@pytest.mark.parametrize(
    ("run", "workers", "note", "found"),
    [
        (Worker.run_once, 1, "note", CALLER),
        (Worker.run_once, 1, "anote", f"{OTHER} and its loop"),
        (Worker.run_once, 2, "note", OTHER),
        (lambda worker: asyncio.run(worker.arun_once()), 1, "note", OTHER),
        (lambda worker: asyncio.run(worker.arun_once()), 1, "anote", f"{CALLER} and its loop"),
        (lambda worker: asyncio.run(arun(worker)), 1, "note", OTHER),
        (lambda worker: asyncio.run(arun(worker)), 1, "anote", f"{CALLER} and its loop"),
    ],
)
def test_of_a_worker(where: Where, run: Any, workers: int, note: str, found: str) -> None:
    told.set("nothing")

    def build() -> Saga:
        here_and_now = getattr(where, note)("execute")
        return Saga("s").add_task(step(lambda: 1, name="a")).add_task(step(here_and_now, name="b", in_doubt=InDoubt.RERUN))

    store = left_at(build(), "b")
    where.calls.clear()

    def work() -> None:
        where.caller = threading.current_thread()
        told.set("the caller's")
        run(Worker(store, [build()], workers=workers))

    within(30, work)
    assert where.calls == {"execute": found}


def test_each_page_of_the_guide_that_calls_what_users_write_says_where() -> None:
    pages = [page for page in GUIDE.glob("*.rst") if re.search(r"execute\(|transaction\(", page.read_text(encoding="utf-8"))]
    silent = {page.name for page in pages if "which-thread" not in page.read_text(encoding="utf-8")}
    assert not silent, (
        f"docs/guide: {silent} does not say in which thread and event loop things are called (:ref:`which-thread`)"
    )


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_loop", [False, True])
def test_what_a_signal_may_be_is_asked_where_it_is_sent_and_between_calls_where_it_is_received(in_loop: bool) -> None:
    store, asked = MemoryStore(), list[threading.Thread]()
    body = signal_message("ok", 7, Codec(), store, "x")
    saga = Saga("s", store=store).add_task(step(lambda: store.post("x", body), name="a"))
    saga.add_task(receive("ok", accept=lambda value: asked.append(threading.current_thread()) or True))

    async def sent_and_received() -> None:
        await saga.asignal_or_start("y", "ok", 7)
        await saga.aexecute(saga_id="x")

    if in_loop:
        asyncio.run(sent_and_received())
    else:
        saga.signal_or_start("y", "ok", 7)
        saga.execute(saga_id="x")
    here = threading.current_thread()
    assert [thread is here for thread in asked] == [not in_loop, True]
