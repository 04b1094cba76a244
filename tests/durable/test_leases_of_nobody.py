"""A lease is renewed for as long as somebody runs its execution: whatever ended that, a recovery finishes the execution."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from saga import InDoubt, Saga, Status, receive, step, transaction
from saga.durable import leases
from saga.durable.codec import Codec
from saga.durable.leases import keeper_of
from saga.errors import StorageError
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, Gate, background, until, within

DONE: list[str] = []


def do() -> None:
    DONE.append("a")


def undo() -> None:
    DONE.remove("a")


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats look after hundredths of a second."""
    monkeypatch.setattr(leases, "BEAT", 0.02)
    monkeypatch.setattr(leases, "TIME_TO_BEGIN", 0.2)
    DONE.clear()


def made(**options: Any) -> Saga:
    return Saga("s", **options).add_task(step(do, undo, name="a", in_doubt=InDoubt.RERUN))


async def ado() -> None:
    do()
    await asyncio.sleep(2 * PATIENCE)


def amade() -> Saga:
    return Saga("s").add_task(step(ado, undo, name="a"))


def a_closed_event_loop(store: MemoryStore) -> Any:
    loop = asyncio.new_event_loop()
    task = loop.create_task(amade().aexecute(saga_id="x", store=store))
    loop.run_until_complete(asyncio.sleep(0))
    while not DONE:
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    return task  # which is pending for ever


def a_coroutine_that_is_closed(store: MemoryStore) -> Any:
    async def begin() -> Any:
        work = amade().aexecute(saga_id="x", store=store)
        found = work.send(None)
        while not DONE:
            await asyncio.sleep(0)
            if found is None or found.done():
                found = work.send(None)
        work.close()
        return work

    return asyncio.run(begin())


def a_block_that_is_never_left(store: MemoryStore) -> None:
    transaction("block", saga_id="x", store=store).__enter__().step(do, undo)
    gc.collect()


def a_stream_that_is_never_read(store: MemoryStore) -> Any:
    return made().stream(saga_id="x", store=store)


def a_thread_that_cannot_be_had(store: MemoryStore) -> None:
    """That of the heartbeat."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(leases.threading, "Thread", Refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            made().execute(saga_id="x", store=store)
    assert DONE == []  # it was refused before anything was called


def an_interrupt_as_the_lease_is_held(store: MemoryStore) -> Any:
    def struck(self: threading.Thread) -> None:
        start(self)
        patched.undo()
        raise KeyboardInterrupt

    start = threading.Thread.start
    patched = pytest.MonkeyPatch()
    patched.setattr(threading.Thread, "start", struck)
    with pytest.raises(KeyboardInterrupt) as caught:
        made().execute(saga_id="x", store=store)
    assert store.get("x").status == "compensated"  # type: ignore[union-attr]
    return caught.value  # whose traceback knows all that there was


GONE = [
    a_closed_event_loop,
    a_coroutine_that_is_closed,
    a_block_that_is_never_left,
    a_stream_that_is_never_read,
    a_thread_that_cannot_be_had,
    an_interrupt_as_the_lease_is_held,
]


def is_nobodys(store: MemoryStore) -> bool:
    row = store.get("x")
    return row is None or Status(row.status).terminal or row.owner is None


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* was never awaited")
def test_what_nobody_runs_any_more_is_given_back(gone: Callable[[MemoryStore], Any]) -> None:
    store = MemoryStore()
    kept = gone(store)
    until(lambda: not keeper_of(store)._held and is_nobodys(store))  # it is given back when it is no longer held
    row = store.get("x")
    if row is not None and not Status(row.status).terminal:
        asynchronous = gone in (a_closed_event_loop, a_coroutine_that_is_closed)
        saga = amade() if asynchronous else made()
        within(PATIENCE, Recovery(store, [saga], transactions=["block"], codec=Codec(modules=[__name__])).run_once)
        row = store.get("x")
    assert row is None or row.status in ("completed", "compensated")
    assert bool(DONE) == (row is not None and row.status == "completed")
    del kept


def test_the_lease_of_a_loop_that_does_not_run_now_is_not_renewed_until_it_does() -> None:
    now = [1000.0]
    store = MemoryStore(clock=lambda: now[0])
    saga = Saga("s", store=store).add_task(receive("go", name="go"))
    loop = asyncio.new_event_loop()
    task = loop.create_task(saga.aexecute(saga_id="x"))
    loop.run_until_complete(asyncio.sleep(0.1))
    held = store.get("x").lease_until  # type: ignore[union-attr]
    threading.Event().wait(0.1)
    now[0] += 5.0
    threading.Event().wait(0.1)
    assert store.get("x").lease_until == held  # type: ignore[union-attr]
    assert keeper_of(store)._held
    loop.run_until_complete(asyncio.sleep(0.1))
    assert store.get("x").lease_until == now[0] + 30.0  # type: ignore[union-attr]
    saga.signal("x", "go")
    assert loop.run_until_complete(task).ok
    loop.close()


def test_a_task_that_nobody_knows_waits_for_its_signal_all_the_same() -> None:
    async def main() -> str:
        store = MemoryStore()
        saga = Saga("s", store=store).add_task(receive("go", name="go"))
        begin = asyncio.get_running_loop().create_task  # which keeps no task
        asyncio.get_running_loop().call_soon(lambda: begin(saga.aexecute(saga_id="x")) and None)
        while store.get("x") is None:
            await asyncio.sleep(0.001)
        for _ in range(3):
            await asyncio.sleep(0.01)
            gc.collect()
        await asyncio.to_thread(saga.signal, "x", "go")
        while (row := store.get("x")) is not None and not Status(row.status).terminal:
            await asyncio.sleep(0.001)
        assert row is not None
        return row.status

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == "completed"


def test_the_heartbeat_begins_again_where_it_could_not_begin_once() -> None:
    store = MemoryStore()
    a_thread_that_cannot_be_had(store)
    renewed: list[float] = []

    def slow() -> None:
        before = store.get("y").lease_until  # type: ignore[union-attr]
        until(lambda: store.get("y").lease_until > before)  # type: ignore[union-attr]
        renewed.append(before)

    assert Saga("s", lease=0.5).add_task(step(slow)).execute(saga_id="y", store=store).ok
    assert renewed


@pytest.mark.parametrize("stored", [False, True])
def test_an_interrupt_in_the_creation_ends_its_own_execution_and_not_another_that_has_the_id(stored: bool) -> None:
    store, gate = MemoryStore(), Gate()
    create = store.create

    def struck(*arguments: Any) -> Any:
        if stored:
            create(*arguments)
        raise KeyboardInterrupt

    if not stored:
        first = background(lambda: Saga("s").add_task(step(gate.hold, name="a")).try_execute(saga_id="x", store=store))
        assert gate.reached.wait(PATIENCE)
    store.create = struck  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        Saga("s").add_task(step(gate.hold, name="a")).execute(saga_id="x", store=store)
    row = store.get("x")
    assert row is not None
    if stored:
        assert (row.status, row.owner) == ("compensated", None)
    else:
        assert row.status == "running"
        gate.open()
        assert first().ok


@pytest.mark.parametrize("fault", [StorageError("no"), RuntimeError("no"), SystemExit("no"), KeyboardInterrupt("no")])
def test_whatever_a_renewal_raises_the_next_one_is_made(fault: BaseException) -> None:
    store = MemoryStore()
    renew, raised = store.renew, []

    def once(*arguments: Any) -> Any:
        if not raised:
            raised.append(fault)
            raise fault
        return renew(*arguments)

    store.renew = once  # type: ignore[method-assign]

    def slow() -> None:
        until(lambda: raised)
        before = store.get("x").lease_until  # type: ignore[union-attr]
        until(lambda: store.get("x").lease_until > before)  # type: ignore[union-attr]

    assert Saga("s", lease=0.5).add_task(step(slow)).execute(saga_id="x", store=store).ok
