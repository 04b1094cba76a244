"""What only goes round ends: a driver that gets nowhere twice for the same reason stops, gives its lease back and says so."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import saga as package
from saga import Saga, Status, parallel, step
from saga.drivers.threads import Execution
from saga.durable.leases import keeper_of
from saga.errors import StorageError
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, SHORT, Calls, Gate, Odd, saga_of, until, within

AT_THE_END_OF_THE_STACK = """
import sys
from saga import Saga, step
from saga.errors import StorageError
from saga.storage import MemoryStore
sys.setrecursionlimit(150)
stored = sys.argv[1] == "stored"

def bad():
    raise ValueError

def down(frames, work):
    return down(frames - 1, work) if frames else work()

outcomes = set()
for frames in range(10, 150):
    done = []
    saga = Saga("s").add_task(step(lambda: done.append("a"), lambda: done.remove("a"))).add_task(step(bad))
    saga.definition
    try:
        result = down(frames, lambda: saga.try_execute(store=MemoryStore() if stored else None))
        outcomes.add(f"{result.status} {done}")
    except (RecursionError, StorageError):  # the end of the stack may lie in the store's part
        outcomes.add("raised")
print(sorted(outcomes))
"""


@pytest.mark.parametrize("where", ["stored", "nowhere"])
def test_it_ends_wherever_the_stack_does(where: str) -> None:
    command = [sys.executable, "-c", AT_THE_END_OF_THE_STACK, where]
    home = str(Path(package.__file__).parents[1])
    ran = subprocess.run(command, env={"PYTHONPATH": home}, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert ran.stdout.strip() == "['compensated []', 'raised']", ran.stderr


class Faulty(MemoryStore):
    """Raises from the n-th write on."""

    def __init__(self, fault: BaseException, first: int) -> None:
        super().__init__()
        self.fault, self.first, self.writes = fault, first, 0

    def append(self, *arguments: Any, **options: Any) -> None:
        self.writes += 1
        if self.fault is not None and self.writes >= self.first:
            raise self.fault
        super().append(*arguments, **options)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit, Odd, RuntimeError, asyncio.CancelledError])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_store_that_keeps_raising_ends_the_execution_here(calls: Calls, fault: type[BaseException], first: int) -> None:
    store = Faulty(fault("the store"), first)
    saga = saga_of(calls.step("a"), calls.step("b"), calls.step("bad", ValueError()), store=store)
    with pytest.raises((fault, StorageError)):
        within(2 * PATIENCE, lambda: calls.run(saga, saga_id="x"))
    assert store.writes < 40
    until(lambda: not keeper_of(store)._held)
    assert store.get("x").owner is None  # type: ignore[union-attr]
    store.fault = None  # type: ignore[assignment]
    within(PATIENCE, Recovery(store, [saga]).run_once)
    assert store.get("x").status == "compensated"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, RecursionError, KeyboardInterrupt])
@pytest.mark.parametrize("stored", [False, True])
def test_a_fault_of_the_driver_that_does_not_let_up_ends_the_execution(
    kind: type[BaseException], stored: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore() if stored else None
    struck: list[str] = []

    def take(self: Execution, *what: Any) -> None:
        struck.append("taken")
        raise kind("no")

    saga = Saga("s", store=store).add_task(step(lambda: None, lambda: None, name="a"))
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, logger="saga"):
        patched.setattr(Execution, "_turn", take)
        with pytest.raises(kind, match="no"):
            within(PATIENCE, lambda: saga.execute(saga_id="x"))
    assert len(struck) < 20
    assert f"saga x stops here, and is not undone: {kind.__name__} struck" in caplog.text
    if store is not None:
        assert store.get("x").owner is None  # type: ignore[union-attr]
        within(PATIENCE, Recovery(store, [saga]).run_once)
        assert store.get("x").status == "compensated"  # type: ignore[union-attr]


def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, no thread is to be had for a saga."""
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name.startswith("saga"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)


def test_what_was_done_is_undone_where_no_thread_is_to_be_had(plain: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = saga_of(plain.step("a"), plain.step("b"), parallel(plain.step("c"), plain.step("d")))
    without_threads(monkeypatch)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        within(PATIENCE, flow.execute)
    assert plain.log == ["a", "b", "-b", "-a"]


def test_a_straggler_is_seen_to_here_where_no_thread_is_to_be_had(plain: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    flow = saga_of(plain.step("a"), step(gate.hold, plain.function("-slow"), name="slow", timeout=SHORT))

    def refuse(event: Any, info: Any) -> None:
        if type(event).__name__ == "StepTimedOut":
            without_threads(monkeypatch)
            threading.Timer(SHORT, gate.open).start()

    flow = Saga("s", logger=refuse).add_task(flow)
    result = within(PATIENCE, flow.try_execute)
    assert plain.log == ["a", "-a", "-slow"]  # by now
    assert result.join(PATIENCE).status is Status.COMPENSATED


def test_a_plain_undo_of_an_event_loop_is_made_where_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    async def act() -> None:
        log.append("a")
        without_threads(monkeypatch)

    async def fail() -> None:
        raise ValueError

    saga = Saga("s").add_task(step(act, lambda: log.append("-a"))).add_task(step(fail))
    result = within(PATIENCE, lambda: asyncio.run(saga.atry_execute()))
    assert result.status is Status.COMPENSATED
    assert log == ["a", "-a"]


def turns_of_the_loop(main: Callable[[], Any], during: Callable[[], bool]) -> int:
    """Run it in an event loop, and return how often that went round while ``during`` held."""
    turns = 0

    class Counting(asyncio.SelectorEventLoop):
        def _run_once(self) -> None:
            nonlocal turns
            turns += during()
            super()._run_once()  # type: ignore[misc]

    with asyncio.Runner(loop_factory=Counting) as runner:
        runner.run(main())
    return turns


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("way", ["slow", "group", "past its pivot", "plain", "block"])
def test_a_scope_that_cancels_at_every_turn_does_not_make_the_loop_spin(stored: bool, way: str) -> None:
    anyio = pytest.importorskip("anyio")
    log: list[str] = []
    store = MemoryStore() if stored else None
    waits = itertools.count()

    async def undo() -> None:
        log.append("undoing")
        await asyncio.sleep(0.2)
        log.append("undone")

    async def act() -> int:
        return next(waits)

    async def slow() -> None:
        await asyncio.sleep(PATIENCE)

    def blocks() -> None:
        log.append("undoing")
        threading.Event().wait(0.4)
        log.append("undone")

    saga = Saga("order", store=store)
    if way == "past its pivot":
        saga.add_task(step(act, pivot=True)).add_task(step(blocks))
    elif way == "group":
        saga.add_task(step(act, undo)).add_task(parallel(step(slow), step(slow, name="slow too")))
    elif way == "plain":
        saga.add_task(step(blocks, undo))
    else:
        saga.add_task(step(act, undo)).add_task(step(slow))

    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            if way == "block":
                async with package.transaction("block") as tx:
                    await tx.astep(act, undo)
                    await asyncio.sleep(PATIENCE)
            else:
                await saga.aexecute()
        assert scope.cancelled_caught

    turns = turns_of_the_loop(main, lambda: "undoing" in log and "undone" not in log)
    assert "undone" in log
    assert turns < 100
