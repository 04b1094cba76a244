"""An execution that is stopped past its pivot, or abandoned: it ends here at once, and a recovery does all that is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from saga import Saga, Skip, Status, parallel, receive, step
from saga.errors import SagaTimeoutError, StorageError
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import LONG, PATIENCE, FullStore, Gate, auntil, saga_of, within


class HeldAtStep(MemoryStore):
    """Holds what is written about a step, or the look into the inbox."""

    def __init__(self, step: str = "") -> None:
        super().__init__()
        self.step, self.gate = step, Gate()
        self.holds_inbox = False

    def append(self, lease: Any, entries: Any, **options: Any) -> None:
        if self.step and any(entry.step == self.step for entry in entries) and not self.gate.reached.is_set():
            self.gate.hold()
        super().append(lease, entries, **options)

    def inbox(self, saga_id: str) -> Any:
        found = super().inbox(saga_id)
        if self.holds_inbox and found and not self.gate.reached.is_set():
            self.gate.hold()
        return found


log: list[str] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    log.clear()


def act(name: str, **policies: Any) -> Any:
    async def do() -> None:
        log.append(name)

    return step(do, name=name, **policies)


def kinds(store: MemoryStore) -> list[str]:
    return [f"{entry.kind} {entry.step or ''}".strip() for entry in store.journal("o-1")]


async def stop(saga: Saga, when: Callable[[], object], then: Callable[[], object] = lambda: None) -> None:
    """Execute the saga and cancel that when it is time; it is over soon after."""
    running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
    await auntil(when)
    running.cancel()
    await asyncio.sleep(0.01)
    then()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await running


def recovered(saga: Saga, store: MemoryStore) -> Status:
    (result,) = within(PATIENCE, Recovery(store, [saga]).run_once)
    return result.status


# -- stopped past the pivot -------------------------------------------------------------------------------------------


def test_a_stop_past_the_pivot_does_not_wait_for_a_signal() -> None:
    store = MemoryStore()
    saga = saga_of(act("pay", pivot=True), receive("go"), act("last"), store=store)
    within(PATIENCE * 2, lambda: asyncio.run(stop(saga, lambda: "StepStarted go" in kinds(store))))
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner, log) == ("running", None, ["pay"])
    saga.signal("o-1", "go")
    assert recovered(saga, store) is Status.COMPLETED
    assert log == ["pay", "last"]


def test_what_follows_a_step_that_ended_after_the_stop_is_executed_by_a_recovery() -> None:
    store, gate = MemoryStore(), Gate()
    saga = saga_of(act("pay", pivot=True), step(gate.hold, name="slow"), act("last"), store=store)
    within(PATIENCE * 2, lambda: asyncio.run(stop(saga, gate.reached.is_set, gate.open)))
    assert "StepSucceeded slow" in kinds(store)
    assert log == ["pay"]
    assert recovered(saga, store) is Status.COMPLETED
    assert log == ["pay", "last"]


def test_a_stop_past_the_pivot_skips_no_step() -> None:
    store = HeldAtStep("mail")
    saga = saga_of(act("pay", pivot=True), act("mail", on_error=Skip), act("last"), store=store)
    within(PATIENCE * 2, lambda: asyncio.run(stop(saga, store.gate.reached.is_set, store.gate.open)))
    assert recovered(saga, store) is Status.COMPLETED
    assert log == ["pay", "mail", "last"]


def test_a_signal_that_is_read_while_the_stop_comes_is_not_lost() -> None:
    store = HeldAtStep()

    async def beside() -> None:
        if "beside" not in log:
            log.append("beside")
            await asyncio.sleep(3600)

    saga = saga_of(act("pay", pivot=True), parallel(receive("go"), step(beside)), act("last"), store=store)

    def reading() -> bool:
        if "beside" in log and not store.holds_inbox:
            store.holds_inbox = True
            saga.signal("o-1", "go", 7)
        return store.gate.reached.is_set()

    within(PATIENCE * 2, lambda: asyncio.run(stop(saga, reading, store.gate.open)))
    assert "SignalReceived" in kinds(store)
    assert recovered(saga, store) is Status.COMPLETED
    assert store.inbox("o-1") == []
    assert log == ["pay", "beside", "last"]


# -- abandoned: the store fails ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("comes", ["outcome", "signal"])
def test_the_event_loop_lives_while_an_abandoned_execution_waits_for_its_calls(comes: str) -> None:
    store, gate = FullStore(), Gate()

    async def work() -> None:
        more = asyncio.Event()

        async def first() -> None:
            await auntil(gate.reached.is_set)
            store.room = 0

        flows = [
            step(first),
            step(gate.hold, name="slow"),
            step(more.wait, name="more") if comes == "outcome" else receive("go"),
        ]
        saga = saga_of(parallel(*flows), store=store)
        with pytest.raises(StorageError):
            await saga.aexecute(saga_id="o-1")
        more.set()
        if comes == "signal":
            saga.signal("o-1", "go")
        await asyncio.sleep(0.02)
        gate.open()  # the loop has come here
        await auntil(lambda: store.get("o-1").owner is None)  # type: ignore[union-attr]

    within(PATIENCE * 2, lambda: asyncio.run(work()))
    assert gate.in_time


# -- cancelled twice --------------------------------------------------------------------------------------------------


def test_a_step_that_cleans_up_after_the_deadline_is_not_cancelled_again_at_its_timeout() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            log.append("clean-up begins")
            await asyncio.sleep(2 * LONG)
            log.append("clean-up ends")
            raise

    saga = Saga("s", timeout=LONG).add_task(step(work, lambda: log.append("undone"), timeout=2 * LONG))
    result = within(PATIENCE, lambda: asyncio.run(saga.atry_execute()))
    assert log == ["clean-up begins", "clean-up ends", "undone"]
    assert (result.status, type(result.error)) == (Status.COMPENSATED, SagaTimeoutError)
