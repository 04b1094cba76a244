"""Interrupts at every line of the drivers and of what begins an execution, one or two so many lines apart.

Whatever line it is: the interrupt is raised, what was done is undone, here or by a recovery, no lease is renewed for an
execution that nobody runs, and nothing waits.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import saga as package
from saga import Saga, Status, step, transaction
from saga.durable.codec import Codec
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, until_nothing_is_held, within
from tests.kit.strikes import Strikes, in_files, struck_by

HOME = Path(package.__file__).parent
# Not those whose `with` takes a lock: an error that a trace raises there, unlike an interrupt, comes before the lock is let go.
FILES = {*(HOME / "drivers").glob("*.py"), HOME / "saga.py", HOME / "block.py"}
FILES |= {HOME / "durable" / "start.py", HOME / "durable" / "journal.py"}

DONE: list[str] = []


def do() -> None:
    DONE.append("a")


def undo() -> None:
    DONE[:] = []


def fail() -> None:
    raise ValueError


GOOD = Saga("s").add_task(step(do, undo, name="a")).add_task(step(lambda: 0, name="b"))
BAD = Saga("s").add_task(step(do, undo, name="a")).add_task(step(fail, name="b"))
LIMITED = Saga("s").add_task(step(do, undo, name="a", compensation_timeout=60.0)).add_task(step(fail, name="b"))


def executed(store: MemoryStore) -> None:
    GOOD.execute(saga_id="x", store=store)


def failed(store: MemoryStore) -> None:
    BAD.try_execute(saga_id="x", store=store)


def failed_and_limited(store: MemoryStore) -> None:
    LIMITED.try_execute(saga_id="x", store=store)


def streamed(store: MemoryStore) -> None:
    with closing(GOOD.stream(saga_id="x", store=store)) as records:  # type: ignore[type-var]
        for _ in records:
            pass


def in_a_block(store: MemoryStore) -> None:
    with transaction("block", saga_id="x", store=store) as tx:
        tx.step(do, undo)


@pytest.mark.parametrize("apart", [0, 1, 3, 9])
@pytest.mark.parametrize("way", [executed, failed, failed_and_limited, streamed, in_a_block])
def test_wherever_interrupts_strike_the_execution_ends(way: Callable[[MemoryStore], None], apart: int) -> None:
    saga = {failed: BAD, failed_and_limited: LIMITED}.get(way, GOOD)
    for position in itertools.count(1):
        now = [1000.0]
        store = MemoryStore(clock=lambda now=now: now[0])  # type: ignore[misc]
        DONE.clear()
        strikes = Strikes(in_files(FILES), {position, position + apart})
        error = within(PATIENCE, lambda: struck_by(strikes, lambda: way(store)))  # noqa: B023
        places = strikes.struck
        if not places:
            break
        assert isinstance(error, KeyboardInterrupt), places  # and its traceback knows all that there was
        if "__exit__" in places:  # before or behind all that it can see to: the block is given back when it is forgotten
            error = None
            gc.collect()
        until_nothing_is_held(store)
        now[0] += 60.0
        within(PATIENCE, Recovery(store, [saga], transactions=["block"], codec=Codec(modules=[__name__])).run_once)
        row = store.get("x")
        assert row is None or row.status in (Status.COMPLETED, Status.COMPENSATED), (position, places)
        assert bool(DONE) == (row is not None and row.status == Status.COMPLETED), (position, places)
    assert position > 150
