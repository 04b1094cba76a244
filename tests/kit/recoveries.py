"""Executions that are recorded whole, cut off anywhere, left to others and finished by a recovery."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from saga import InDoubt, Saga, SagaResult, step
from saga.recovery import Recovery
from saga.storage import MemoryStore, Store
from tests.kit import PATIENCE, Watched, World, Write, check_journal, expired, outcomes, told, within

Build = Callable[[World, Any], Saga]
"""Makes a saga whose steps act on the world; its steps in doubt follow what is given."""


def record(build: Build, doubt: Any, store: Store) -> tuple[SagaResult, World, list[Write]]:
    """Run a saga without a crash. Return its result, what happened and what was stored."""
    world = World()
    watched = Watched(store)
    world.store = watched.store
    watched.happened = lambda: len(world.log)
    result = build(world, doubt).try_execute({"given": [1, 2]}, saga_id="x", store=watched)
    assert world.faults == []
    check_journal(watched.entries())
    return result, world, watched.writes


def recover(build: Build, doubt: Any, store: Any, log: list[str]) -> tuple[list[SagaResult], World]:
    """Finish what is in the store with a fresh saga; ``log`` is what had happened outside."""
    world = World(store=getattr(store, "store", store), log=list(log))
    if isinstance(store, Watched):
        store.happened = lambda: len(world.log)
    results = within(PATIENCE, lambda: Recovery(store, [build(world, doubt)]).run_once())
    return results, world


def calls_left(world: World, prefix: list[Write]) -> dict[str, list[Any]]:
    """Return, by step, what those calls saw that have no outcome in the prefix."""
    entries = [entry for write in prefix for entry in write.entries]
    left = {
        name: seen[outcomes(entries, name.removeprefix("-"), name.startswith("-")) :]
        for name, seen in world.seen_by_call().items()
    }
    return {name: seen for name, seen in left.items() if seen}


def cut(writes: list[Write], last: str) -> list[Write]:
    """Return what was written up to and with the entry ``last``, even in the middle of a transaction."""
    found = []
    for write in writes:
        found.append(replace(write, entries=()))
        for entry in write.entries:
            found[-1].entries += (entry,)
            if told(entry) == last:
                found[-1].status, found[-1].release = None, False
                return found
    raise AssertionError(f"{last} was never written")


def left_behind(store: Store, build: Callable[[], Saga], saga_id: str = "x", count: int = 1, values: Any = None) -> None:
    """Leave an execution in the store whose process died after so many writes."""
    watched = Watched(MemoryStore())
    with suppress(Exception):
        build().execute(values, saga_id=saga_id, store=watched)
    expired(store, watched.writes[:count])


def simple(**more: Any) -> Saga:
    """Return a saga of two steps that may be executed again."""
    saga = Saga("s", **more).add_task(step(lambda: 1, lambda: None, name="a", in_doubt=InDoubt.RERUN))
    return saga.add_task(step(lambda: 2, name="b", in_doubt=InDoubt.RERUN))


def three_left(store: Store, build: Callable[[], Saga]) -> None:
    """Leave three executions, ``x0`` to ``x2``, as :func:`left_behind` does."""
    for saga_id in ("x0", "x1", "x2"):
        left_behind(store, build, saga_id)
