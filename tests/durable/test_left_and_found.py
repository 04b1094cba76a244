"""What a recovery finds, and what it leaves to others: changes of a step cut off, a lease nobody needs, a wait that is long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Status, step
from saga.errors import StorageError
from saga.events import StepTimedOut
from saga.recovery import Recovery
from saga.storage import MemoryStore, Store
from tests.kit import PATIENCE, SHORT, Watched, expired, left_at, on, saga_of, until, within


def dies_at_once(saga: Saga, store: Store, saga_id: str) -> None:
    """Leave in the store what a process leaves that dies when its first step is about to be called."""
    watched = Watched(MemoryStore())

    def dies(number: int) -> None:
        raise StorageError("dies")

    watched.after = dies
    with suppress(StorageError):
        asyncio.run(saga.aexecute(saga_id=saga_id, store=watched))  # type: ignore[arg-type]
    assert expired(store, watched.writes) == saga_id


def test_what_a_step_changed_before_its_timeout_is_seen_by_its_compensation_after_a_crash(store: Store) -> None:
    watched = Watched(store)
    seen: list[Any] = []
    dead = False

    async def book(context: Context) -> None:
        context["reference"] = "R1"  # it is booked now
        await asyncio.sleep(5)

    async def cancel(context: Context) -> None:
        nonlocal dead
        seen.append(context.get("reference"))
        dead = True

    def dies(number: int) -> None:
        if dead:
            raise StorageError("dies")

    watched.before = dies
    saga = Saga("s", lease=0.1).add_task(step(book, cancel, timeout=0.02))
    with pytest.raises(StorageError):
        within(PATIENCE, lambda: asyncio.run(saga.aexecute(saga_id="o-1", store=watched)))  # type: ignore[arg-type]
    found = MemoryStore()
    expired(found, watched.writes)
    (result,) = within(PATIENCE, Recovery(found, [saga]).run_once)
    assert (result.status, seen) == (Status.COMPENSATED, ["R1", "R1"])


def test_a_start_that_fails_as_it_joins_what_another_left_keeps_no_lease() -> None:
    class Flaky(MemoryStore):
        down = False

        def inbox(self, saga_id: str) -> Any:
            if self.down:
                raise StorageError("the store is down")
            return super().inbox(saga_id)

        def release(self, *args: Any, **options: Any) -> None:
            if self.down:
                raise StorageError("the store is down")
            super().release(*args, **options)

    store = Flaky()
    saga = Saga("s", lease=0.1).add_task(step(lambda: 1, name="a", in_doubt=InDoubt.RERUN))
    dies_at_once(saga, store, "o-1")
    store.down = True
    with pytest.raises(StorageError, match="the store is down"):
        within(PATIENCE, lambda: saga.execute(saga_id="o-1", store=store))
    store.down = False
    until(lambda: store.get("o-1").lease_until <= store.now())  # type: ignore[union-attr]
    (result,) = within(PATIENCE, Recovery(store, [saga]).run_once)
    assert result.status is Status.COMPLETED


def test_a_recovery_does_not_wait_for_the_long_retry_of_what_outlived_its_timeout(store: Store, gate: Any) -> None:
    undos: list[int] = []

    def undo() -> None:
        undos.append(1)
        if len(undos) == 1:
            raise OSError("again")

    async def last() -> None: ...

    slow = step(
        gate.hold,
        undo,
        name="slow",
        timeout=SHORT,
        in_doubt=InDoubt.RERUN,
        compensation_retry=Retry(3, 3600.0),
    )
    saga = Saga("s", lease=0.2, logger=on(StepTimedOut, gate.open)).add_task(slow).add_task(step(last))
    dies_at_once(saga, store, "o-1")
    (result,) = within(PATIENCE, Recovery(store, [saga]).run_once)
    assert (result.status, len(undos)) == (Status.COMPENSATING, 1)
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner) == ("compensating", None)
    assert store.now() < row.due


def test_a_recovered_undo_sees_what_a_live_one_sees_after_a_retry(plain: Any) -> None:
    seen: list[dict[str, Any]] = []
    tries: list[int] = []

    def a(context: Context) -> None:
        tries.append(1)
        if len(tries) == 1:
            context.junk = 1
            raise OSError
        context.kept = 1

    def undo(context: Context) -> None:
        seen.append(dict(context))

    saga = saga_of(
        step(a, undo, retry=Retry(2), timeout=9.0), step(lambda context: context.update(later=2), name="b"), plain.step("c")
    )
    store = left_at(saga, "c")
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert seen == [{"kept": 1, "later": 2}]
