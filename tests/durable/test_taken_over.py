"""What a compatible definition has taken over is that one's from then on: the one it began with does not know all its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from saga import InDoubt, Saga, Status, step
from saga.operations import Operations
from saga.storage import MemoryStore, Store
from saga.worker import Worker
from tests.kit import Calls, Watched
from tests.kit.recoveries import left_behind
from tests.kit.stores import write_again

RERUN: Final = {"in_doubt": InDoubt.RERUN}


@pytest.fixture
def first(calls: Calls) -> Saga:
    return Saga("s").add_task(calls.step("a", **RERUN)).add_task(calls.step("b", **RERUN))


@pytest.fixture
def second(calls: Calls) -> Saga:
    """One more step."""
    saga = Saga("s", version="2", compatible_with=["1"]).add_task(calls.step("a", **RERUN)).add_task(calls.step("b", **RERUN))
    return saga.add_task(calls.step("c", **RERUN))


def completed(saga: Saga, store: Store) -> None:
    saga.submit(saga_id="x", store=store)
    (result,) = Worker(store, [saga]).run_once()
    assert result.ok


def undone_to_a(saga: Saga, store: Store) -> None:
    completed(saga, store)
    operations = Operations(store, "ann", sagas=[saga])
    operations.undo("x", "why", to="a")
    Worker(store, [saga]).run_once()
    operations.resume("x", "why")


BEGUN: Final[dict[str, Callable[[Saga, Store], object]]] = {
    "submitted": lambda saga, store: saga.submit(saga_id="x", store=store),
    "left in a step": lambda saga, store: left_behind(store, lambda: saga, count=2),
    "undone to a step": undone_to_a,
}


@pytest.mark.parametrize("begin", BEGUN.values(), ids=BEGUN)
def test_wherever_its_process_dies_it_is_left_to_workers_that_have_it(
    begin: Callable[[Saga, Store], object], first: Saga, second: Saga, store: Store
) -> None:
    begin(first, store)
    watched = Watched(store)
    (result,) = Worker(watched, [second]).run_once()  # type: ignore[arg-type]
    assert set(result.results) == {"a", "b", "c"}
    assert len(watched.writes) > 2
    for died_after in range(len(watched.writes)):
        found = MemoryStore()
        begin(first, found)
        write_again(found, "x", watched.writes[:died_after])
        ran = Worker(found, [first], unfit_after=60.0).run_once()
        assert ran.parked == []
        if died_after == 0:  # it has not taken it over
            assert [set(one.results) for one in ran] == [{"a", "b"}]
            continue
        assert ran == []
        assert [one.version for one in Operations(found, "ann").versions()] == ["2"]
        (result,) = Worker(found, [second]).run_once()
        assert (result.status, set(result.results)) == (Status.COMPLETED, {"a", "b", "c"})


def test_who_starts_it_again_takes_it_over(calls: Calls, first: Saga, second: Saga, store: Store) -> None:
    left_behind(store, lambda: first)
    calls.run(second, store=store, saga_id="x")
    assert getattr(store.get("x"), "version", "") == "2"


def test_who_undoes_it_takes_it_over(calls: Calls, first: Saga, second: Saga, store: Store) -> None:
    completed(first, store)
    if calls.in_loop:
        asyncio.run(second.aundo("x", "why", store=store))
    else:
        second.undo("x", "why", store=store)
    row = store.get("x")
    assert row is not None
    assert (row.status, row.version) == ("compensated", "2")


def test_what_the_one_it_began_with_did_need_not_follow_from_the_other(store: Store) -> None:
    """Here the first version undid a step of which the second one says that there is nothing to undo."""

    def build(*undo: Callable[[], None], **more: Any) -> Saga:
        saga = Saga("s", **more).add_task(step(lambda: 1, lambda: None, name="a"))
        return saga.add_task(step(lambda: 1, *undo, name="b")).add_task(step(lambda: 1 / 0, name="c"))

    def left_undone_half(where: Store) -> None:
        left_behind(where, lambda: build(lambda: None), count=5)
        last = where.journal("x")[-1]
        assert (last.kind, last.step) == ("CompensationStarted", "a")

    second = build(version="2", compatible_with=["1"])
    left_undone_half(store)
    watched = Watched(store)
    Worker(watched, [second]).run_once()  # type: ignore[arg-type]
    found = MemoryStore()
    left_undone_half(found)
    write_again(found, "x", watched.writes[:1])
    (result,) = Worker(found, [second]).run_once()
    assert result.status is Status.COMPENSATED


def test_another_of_the_same_steps_leaves_it_what_it_is(first: Saga, store: Store, calls: Calls) -> None:
    same = Saga("s", version="2").add_task(calls.step("a", **RERUN)).add_task(calls.step("b", **RERUN))
    first.submit(saga_id="x", store=store)
    (result,) = Worker(store, [same]).run_once()
    assert result.ok
    assert getattr(store.get("x"), "version", "") == "1"
