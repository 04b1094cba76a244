"""Blocks that are run once more under the same id: what an earlier run left is undone first, and no two go on at once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Transaction, transaction
from saga.durable.codec import Codec
from saga.errors import SagaCompensationError, SagaDefinitionError, SagaExecutionException, SagaIdTakenError
from saga.operations import Operations
from saga.storage import MemoryStore, SqliteStore, Store
from tests.kit import SHORT, background, in_a_child, until

KEYS: list[str] = []
CODEC = Codec(modules=[__name__])


def book(context: Context, folder: str, name: str) -> str:
    KEYS.append(context.step.idempotency_key)
    path = Path(folder, name)
    assert not path.exists(), "it is booked twice"
    path.write_text("")
    return name


def unbook(name: str | None, folder: str) -> None:
    assert name is not None
    Path(folder, name).unlink()


def unbook_late(context: Context, name: str | None, folder: str) -> None:
    """Go on when nobody waits any more."""
    until(lambda: context.step.cancelled)
    unbook(name, folder)


async def abook(context: Context, folder: str, name: str) -> str:
    return book(context, folder, name)


async def aunbook(name: str | None, folder: str) -> None:
    unbook(name, folder)


def fail() -> None:
    raise ValueError("no")


def trip(store: Store, folder: Path, before: Callable[[int], object] = lambda number: None) -> Transaction:
    """Book two things; ``before`` is called before each, and at the end."""
    with transaction("trip", saga_id="t-1", store=store, lease=0.3, again=True, codec=CODEC) as tx:
        for number, name in enumerate(("seat", "room")):
            before(number)
            tx.step(book, unbook, name=name, args=(str(folder), name), compensate_args=(str(folder),))
        before(2)
    return tx


async def atrip(store: Store, folder: Path, before: Callable[[int], object] = lambda number: None) -> Transaction:
    async with transaction("trip", saga_id="t-1", store=store, lease=0.3, again=True, codec=CODEC) as tx:
        for number, name in enumerate(("seat", "room")):
            before(number)
            await tx.astep(abook, aunbook, name=name, args=(str(folder), name), compensate_args=(str(folder),))
        before(2)
    return tx


DRIVERS: dict[str, Callable[..., Transaction]] = {"with": trip, "async with": lambda *a: asyncio.run(atrip(*a))}
BOTH = pytest.mark.parametrize("run", DRIVERS.values(), ids=DRIVERS.keys())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bookings"
    folder.mkdir()
    return folder


def booked(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows(store: Store) -> dict[str, str]:
    return {row.saga_id: row.status for row in store.list(tags={"run_of": "t-1"}).executions}


def dies(at: int, number: int) -> None:
    if number == at:
        os._exit(7)


@BOTH
@pytest.mark.parametrize("earlier", DRIVERS.values(), ids=[f"after {name}" for name in DRIVERS])
@pytest.mark.parametrize("at", range(3))
def test_what_a_dead_run_left_is_undone_before_it_is_run_anew(
    run: Callable[..., Transaction], earlier: Callable[..., Transaction], at: int, tmp_path: Path, folder: Path
) -> None:
    path = tmp_path / "saga.db"
    for _ in range(2):  # the second one undoes the first, and dies too
        assert in_a_child(lambda: earlier(SqliteStore(path), folder, partial(dies, at))) == 7
        assert booked(folder) == set(["seat", "room"][:at])
    with SqliteStore(path) as store:
        tx = run(store, folder)
        assert (tx.run, tx.saga_id) == (3, "t-1~3")
        assert tx.result is not None
        assert (tx.result.saga_id, tx.result.ok, tx.context.result_of("room")) == ("t-1~3", True, "room")
        assert rows(store) == {"t-1~3": "completed", "t-1~2": "compensated", "t-1": "compensated"}
    assert booked(folder) == {"seat", "room"}


def test_a_dead_asynchronous_run_is_left_alone_by_who_would_keep_its_loop_waiting(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "saga.db"
    assert in_a_child(lambda: DRIVERS["async with"](SqliteStore(path), folder, partial(dies, 1))) == 7
    with SqliteStore(path) as store:
        left = store.get("t-1")

        async def wrong() -> None:
            trip(store, folder)

        with pytest.raises(SagaDefinitionError) as refused:
            asyncio.run(wrong())
        assert str(refused.value) == (
            "transaction 'trip': its earlier run 't-1' has async functions, which an event loop has to run, and this `with` "
            "would keep the running one waiting; use `async with`"
        )
        assert (booked(folder), store.get("t-1")) == ({"seat"}, left)
        assert DRIVERS["async with"](store, folder).run == 2
    assert booked(folder) == {"seat", "room"}


@BOTH
def test_an_undo_that_outlives_its_timeout_is_waited_for_before_the_next_run(
    run: Callable[..., Transaction], tmp_path: Path, folder: Path
) -> None:
    path = tmp_path / "saga.db"
    given: dict[str, Any] = {"args": (str(folder), "seat"), "compensate_args": (str(folder),)}

    async def dying() -> None:
        async with transaction("trip", saga_id="t-1", store=path, lease=0.3, again=True, codec=CODEC) as tx:
            await tx.astep(abook, unbook_late, name="seat", compensation_timeout=SHORT, **given)
            os._exit(7)

    assert in_a_child(lambda: asyncio.run(dying())) == 7
    with SqliteStore(path) as store:
        assert run(store, folder).run == 2
        assert rows(store) == {"t-1~2": "completed", "t-1": "compensated"}
    assert booked(folder) == {"seat", "room"}


def test_a_run_that_becomes_asynchronous_before_it_dies_is_undone_in_a_loop_too(tmp_path: Path, folder: Path) -> None:
    path, codec, go_on = tmp_path / "saga.db", CODEC, Path(tmp_path, "go on")
    given: dict[str, Any] = {"compensate_args": (str(folder),)}

    async def dying() -> None:
        async with transaction("trip", saga_id="t-1", store=path, lease=0.3, again=True, codec=codec) as tx:
            await tx.astep(book, unbook, name="seat", args=(str(folder), "seat"), **given)
            until(go_on.exists)
            await tx.astep(abook, aunbook, name="room", args=(str(folder), "room"), **given)
            os._exit(7)

    dead = background(lambda: in_a_child(lambda: asyncio.run(dying())))
    until(lambda: booked(folder) == {"seat"})
    with SqliteStore(path) as store:
        get, looks = store.get, iter((lambda: None, go_on.touch))

        def looked_at(saga_id: str) -> Any:
            found = get(saga_id)
            next(looks, go_on.touch)()  # when it is waited for, and not yet when it was looked for
            return found

        vars(store)["get"] = looked_at
        assert trip(store, folder).run == 2
    assert dead() == 7
    assert booked(folder) == {"seat", "room"}


@BOTH
def test_a_run_that_was_undone_is_followed_by_another(run: Callable[..., Transaction], folder: Path) -> None:
    store, count = MemoryStore(), 12
    KEYS.clear()

    def breaks(number: int) -> None:
        if number == 1:
            raise ValueError("the line is cut")

    for _ in range(count):
        with pytest.raises(ValueError, match="the line is cut"):
            run(store, folder, breaks)
    assert booked(folder) == set()
    assert run(store, folder).run == count + 1  # ten comes after nine
    assert len(set(KEYS)) == len(KEYS), "others are to know that it is another piece of work"


@BOTH
def test_what_is_completed_is_not_done_again(run: Callable[..., Transaction], folder: Path) -> None:
    store = MemoryStore()
    run(store, folder)
    with pytest.raises(SagaIdTakenError, match="'t-1' belongs to an earlier block, which is completed; what it did stands"):
        run(store, folder)
    assert rows(store) == {"t-1": "completed"}


@BOTH
def test_a_run_that_goes_on_is_waited_for(run: Callable[..., Transaction], folder: Path) -> None:
    store, gate = MemoryStore(), threading.Event()
    first = background(lambda: run(store, folder, lambda number: number < 2 or gate.wait(10)))
    until(lambda: booked(folder) == {"seat", "room"})
    second = background(lambda: run(store, folder))
    gate.set()
    assert first().run == 1
    with pytest.raises(SagaIdTakenError, match="completed"):
        second()
    assert rows(store) == {"t-1": "completed"}


def test_many_at_once_do_it_once(tmp_path: Path, folder: Path) -> None:
    with SqliteStore(tmp_path / "saga.db") as store:
        all_of_them = [background(lambda: trip(store, folder)) for _ in range(8)]
        ended: list[Any] = []
        for one in all_of_them:
            try:
                ended.append(one().run)
            except SagaIdTakenError:
                ended.append(None)
        assert sorted(ended, key=str) == [1, *[None] * 7]
        assert rows(store) == {"t-1": "completed"}


@BOTH
def test_what_a_person_has_to_act_on_comes_first(run: Callable[..., Transaction], folder: Path) -> None:
    store = MemoryStore()

    def breaks(number: int) -> None:
        if number == 1:
            Path(folder, "seat").unlink()  # so that its undo fails
            raise ValueError("the line is cut")

    with pytest.raises((SagaCompensationError, SagaExecutionException)):
        run(store, folder, breaks)
    for _ in range(2):
        with pytest.raises(SagaIdTakenError, match="which is stuck; a person has to act on it first"):
            run(store, folder)
    Operations(store, "ann").skip("t-1", "seat", why="it is free")
    assert run(store, folder).run == 2


def test_a_run_that_began_without_it_is_an_earlier_run_too(folder: Path) -> None:
    store = MemoryStore()
    with pytest.raises(ValueError, match="no"), transaction("trip", saga_id="t-1", store=store) as tx:
        fail()
    assert tx.run == 1
    assert trip(store, folder).saga_id == "t-1~2"


def test_what_was_purged_is_not_counted_again(folder: Path) -> None:
    store = MemoryStore()
    now = 0.0
    for _ in range(2):
        now = store.now()
        with pytest.raises(ValueError, match="no"):
            trip(store, folder, lambda number: fail() if number == 1 else None)
    assert store.purge(updated_before=now, status=["compensated"]) == 1
    assert trip(store, folder).run == 3


def test_the_input_may_be_another(folder: Path) -> None:
    store = MemoryStore()
    with pytest.raises(ValueError, match="no"):
        trip(store, folder, lambda number: fail())
    with transaction("trip", {"class": 2}, saga_id="t-1", store=store, again=True, codec=CODEC) as tx:
        pass
    assert (tx.run, store.get("t-1~2") is not None) == (2, True)


def test_the_id_of_something_else_is_refused(folder: Path) -> None:
    store = MemoryStore()
    with transaction("another", saga_id="t-1", store=store):
        pass
    with pytest.raises(SagaIdTakenError, match="belongs to an execution of 'another', version 'block'; give another"):
        trip(store, folder)


@pytest.mark.parametrize("given", [{}, {"saga_id": "x"}, {"store": MemoryStore()}])
def test_it_needs_an_id_and_a_store(given: dict[str, Any]) -> None:
    with pytest.raises(SagaDefinitionError, match="again needs a saga_id and a store"):
        transaction("trip", again=True, **given)


@pytest.mark.parametrize("codec", [None, Codec()])
def test_it_needs_the_modules_of_what_undoes_it(codec: Codec | None) -> None:
    with pytest.raises(SagaDefinitionError, match="and you name none; give codec=Codec"):
        transaction("trip", saga_id="x", store=MemoryStore(), codec=codec, again=True)


def test_it_is_entered_once(folder: Path) -> None:
    tx = trip(MemoryStore(), folder)
    with pytest.raises(SagaDefinitionError, match="a block is entered once"), tx:
        raise AssertionError


def test_a_dead_one_is_called_dead(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "saga.db"
    assert in_a_child(lambda: trip(SqliteStore(path), folder, partial(dies, 1))) == 7
    with SqliteStore(path) as store:
        row = store.get("t-1")
        assert row is not None
        until(lambda: row.lease_until < store.now())
        entered = transaction("trip", saga_id="t-1", store=store)
        with pytest.raises(SagaIdTakenError, match="which is dead; a recovery undoes what it did"), entered:
            raise AssertionError


def test_a_cancellation_while_it_waits_leaves_nothing(folder: Path) -> None:
    store = MemoryStore()
    with transaction("trip", saga_id="t-1", store=store):

        async def cut() -> None:
            waiting = asyncio.create_task(atrip(store, folder))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        asyncio.run(cut())
    assert booked(folder) == set()
    assert [row.saga_id for row in store.list().executions] == ["t-1"]
