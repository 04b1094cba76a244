"""Executions of one event loop share commits, and no fault of one is another's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from saga import RERUN, Context, Saga, Status, Task
from saga.drivers import aio_commits
from saga.errors import LeaseLostError, StorageError
from saga.leases import keeper_of
from saga.recovery import Recovery
from saga.storage import Append, Entry, Lease, MemoryStore, SqliteStore, Store


class Gated(MemoryStore):
    """Holds the first commit until it is let go, and notes what is stored together.

    :ivar fault: what becomes of a commit of several executions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = threading.Event(), threading.Event()
        self.together: list[list[str]] = []
        self.alone: list[str] = []
        self.fault: Callable[[Sequence[Append]], list[bool]] | None = None
        self.failing: set[str] = set()

    def append(self, lease: Lease, entries: Sequence[Entry], **options: Any) -> None:
        if not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(20)
        self.alone.append(lease.saga_id)
        if lease.saga_id in self.failing:
            raise StorageError("the disk is full")
        super().append(lease, entries, **options)

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        self.together.append(sorted(one.lease.saga_id for one in appends))
        if self.fault is not None:
            return self.fault(appends)
        for one in appends:
            MemoryStore.append(self, one.lease, one.entries, status=one.status, release=one.release, taken=one.taken)
        return [True] * len(appends)


class Noted(Task[None]):
    in_doubt = RERUN

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def execute(self, context: Context) -> None:
        self.log.append(f"{context.step.saga_id} {self.name}")

    async def compensate(self, context: Context) -> None:
        self.log.append(f"{context.step.saga_id} undo {self.name}")


def build(store: Store, log: list[str], steps: str = "ab") -> Saga:
    saga = Saga("s", store=store)
    for name in steps:
        saga.add_task(Noted(name, log))
    return saga


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def behind_one(
    store: Gated, ids: str, log: list[str], meanwhile: Callable[[dict[str, asyncio.Task[Any]]], None] = lambda running: None
) -> list[Any]:
    """Execute one saga up to its first commit, others up to theirs, and then all of them to their ends."""
    saga = build(store, log)
    first = asyncio.create_task(saga.atry_execute(saga_id="first"))
    await until(store.reached.is_set)
    running = {saga_id: asyncio.create_task(saga.atry_execute(saga_id=saga_id)) for saga_id in ids}
    await until(lambda: {f"{saga_id} a" for saga_id in ids} <= set(log))
    await asyncio.sleep(0)
    meanwhile(running)
    store.go.set()
    async with asyncio.timeout(20):
        return await asyncio.gather(first, *running.values(), return_exceptions=True)


def test_what_comes_while_another_commit_is_made_is_stored_together() -> None:
    store, log = Gated(), list[str]()
    results = asyncio.run(behind_one(store, "wxyz", log))
    assert [result.status for result in results] == [Status.COMPLETED] * 5
    assert store.together[0] == ["w", "x", "y", "z"]
    for saga_id in ("first", *"wxyz"):
        assert [entry.seq for entry in store.journal(saga_id)] == [1, 2, 3, 4, 5, 6]
        row = store.get(saga_id)
        assert row is not None
        assert (row.status, row.owner) == ("completed", None)


def test_no_step_begins_before_its_intent_is_stored_with_those_of_others() -> None:
    store, log = Gated(), list[str]()
    seen: list[list[str]] = []

    def look(running: object) -> None:
        seen.append(list(log))

    asyncio.run(behind_one(store, "xyz", log, look))
    assert not [line for line in seen[0] if line.endswith(" b")]


def test_one_that_has_lost_its_lease_fails_alone() -> None:
    store, log = Gated(), list[str]()

    def fault(appends: Sequence[Append]) -> list[bool]:
        return [one.lease.saga_id != "y" and store._appends(one) for one in appends]

    def steal(running: object) -> None:
        row = store.get("y")
        assert row is not None
        store.release(Lease("y", str(row.owner), row.epoch))
        assert store.claim("thief", 60.0, saga_id="y")

    store.fault = fault
    results = asyncio.run(behind_one(store, "xyz", log, steal))
    assert isinstance(results[2], LeaseLostError)
    assert [result.status for result in (results[0], results[1], results[3])] == [Status.COMPLETED] * 3
    assert "y b" not in log


@pytest.mark.parametrize("fault", [lambda appends: [False] * len(appends), lambda appends: 1 / 0])
def test_what_cannot_be_stored_together_is_stored_alone(fault: Any) -> None:
    store, log = Gated(), list[str]()
    store.fault = fault
    results = asyncio.run(behind_one(store, "xyz", log))
    assert [result.status for result in results] == [Status.COMPLETED] * 4
    assert store.together
    assert set("xyz") <= set(store.alone)


def test_one_that_cannot_be_stored_at_all_leaves_the_others_as_they_are() -> None:
    store, log = Gated(), list[str]()
    store.fault = lambda appends: [one.lease.saga_id != "y" and store._appends(one) for one in appends]
    store.failing.add("y")
    results = asyncio.run(behind_one(store, "xyz", log))
    assert isinstance(results[2], StorageError)
    assert "the disk is full" in str(results[2])
    assert [result.status for result in (results[0], results[1], results[3])] == [Status.COMPLETED] * 3
    assert [line for line in log if line.startswith("y")] == ["y a"]


def test_a_cancellation_while_others_are_stored_with_it_strikes_one_alone() -> None:
    store, log = Gated(), list[str]()
    results = asyncio.run(behind_one(store, "xyz", log, lambda running: running["y"].cancel() and None))
    assert isinstance(results[2], asyncio.CancelledError)
    assert [result.status for result in (results[0], results[1], results[3])] == [Status.COMPLETED] * 3
    assert [line for line in log if line.startswith("y")] == ["y a", "y undo a"]
    assert [str(store.get(saga_id).status) for saga_id in "xyz"] == ["completed", "compensated", "completed"]  # type: ignore[union-attr]


def test_two_event_loops_use_one_store(tmp_path: Any) -> None:
    log: list[str] = []
    with SqliteStore(tmp_path / "saga.db") as store:
        saga = build(store, log, "abc")

        async def many(loop: str) -> list[Any]:
            return await asyncio.gather(*[saga.atry_execute(saga_id=f"{loop}{number}") for number in range(20)])

        found: list[Any] = []
        threads = [threading.Thread(target=lambda name=name: found.extend(asyncio.run(many(name)))) for name in "xy"]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [result.status for result in found] == [Status.COMPLETED] * 40
        assert {len(store.journal(f"{name}{number}")) for name in "xy" for number in range(20)} == {8}


def test_an_execution_on_an_event_loop_that_begins_no_threads_any_more_is_left_to_a_recovery() -> None:
    class ShutsDown(Noted):
        async def execute(self, context: Context) -> None:
            await asyncio.get_running_loop().shutdown_default_executor()

    async def late() -> None:
        with pytest.raises(StorageError, match="shutdown has been called"):
            await Saga("s", store=store).add_task(ShutsDown("a", [])).aexecute(saga_id="late")

    store = MemoryStore()
    asyncio.run(late())
    assert store.claim("recovery", 1.0)  # its lease is given back


class Interrupter:
    """Raises Ctrl-C at the n-th line that the event loop's thread executes in the module."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != aio_commits.__file__ or frame.f_code.co_name == "store":
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def interrupt_at(line: int) -> bool:
    """Execute some sagas with an interrupt, and recover what it left. Return whether there was such a line."""
    now = time.time()
    store, log = MemoryStore(clock=lambda: now), list[str]()
    saga = build(store, log)
    ids = "xyz"

    async def all_of_them() -> None:
        await asyncio.gather(*[saga.atry_execute(saga_id=saga_id) for saga_id in ids])

    interrupter = Interrupter(line)
    sys.settrace(interrupter)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(all_of_them())
    finally:
        sys.settrace(None)
    keeper_of(store)._held.clear()  # as if the process had ended
    now += 60.0
    Recovery(store, [saga]).run_once()
    for saga_id in ids:
        mine = [line.partition(" ")[2] for line in log if line.startswith(saga_id)]
        row = store.get(saga_id)
        assert row is not None or not mine, (line, mine)
        if row is not None:
            assert row.status in ("completed", "compensated"), (line, row.status, mine)
            here = [name for name in "ab" if last(mine, name) > last(mine, f"undo {name}")]
            assert here == (["a", "b"] if row.status == "completed" else []), (line, row.status, mine)
    return interrupter.left <= 0


def last(names: Sequence[str], name: str) -> int:
    return max((index for index, one in enumerate(names) if one == name), default=-1)


def test_an_interrupt_at_any_line_leaves_nobody_waiting() -> None:
    # In a process of its own: in Python 3.11, a trace function that raises confuses the parser later on.
    script = """
        import itertools, logging
        from tests.drivers.test_commits_together import interrupt_at
        logging.disable()
        print(next(line for line in itertools.count(1) if not interrupt_at(line)))
        """
    home = Path(__file__).parents[2]
    run = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(run, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > 40  # so many lines are executed
