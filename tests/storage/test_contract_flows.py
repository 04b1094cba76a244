"""Every store keeps what sagas learn at run time: lists, ways, attempts, first signals; and nothing that is encrypted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saga import (
    Context,
    InDoubt,
    Received,
    Retry,
    Saga,
    Skip,
    Status,
    choose,
    each,
    parallel,
    receive_first,
    sequence,
    step,
    unit,
)
from saga.durable.codec import Codec
from saga.recovery import Recovery
from saga.storage import Store
from saga.worker import Worker
from tests.kit import SHORT, Effects, crash_everywhere, saga_of
from tests.kit.ciphers import AesGcm
from tests.kit.databases import KINDS, Opener, empty

SECRET = "4711-secret"


def _psycopg2(request: pytest.FixtureRequest) -> Store:
    from saga.storage.sqlalchemy import SQLAlchemyStore

    url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg2://")
    return SQLAlchemyStore(url, prefix="psycopg2")


OPENED: dict[str, Callable[[pytest.FixtureRequest], Store]] = KINDS | {"sqlalchemy-psycopg2": _psycopg2}


@pytest.fixture(params=OPENED)
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    opener = Opener(request.param, lambda: OPENED[request.param](request))
    empty(opener())
    yield opener
    opener.close()


@pytest.fixture(params=["sync", "async"])
def in_loop(request: pytest.FixtureRequest) -> bool:
    return request.param == "async"


def effect(effects: set[str], name: str, in_loop: bool, error: Exception | None = None) -> Any:
    """Return a step that is there under the name that it has in its branch, when it is done."""

    def do(context: Context) -> str:
        if error is not None:
            raise error
        effects.add(context.step.name)
        return f"{SECRET} of {context.step.name}"

    def undo(context: Context) -> None:
        effects.discard(context.step.name)

    async def do_in_loop(context: Context) -> str:
        return do(context)

    async def undo_in_loop(context: Context) -> None:
        undo(context)

    pair = (do_in_loop, undo_in_loop) if in_loop else (do, undo)
    return step(*pair, name=name, in_doubt=InDoubt.RERUN)


def shipping(effects: set[str], in_loop: bool = False, last: Exception | None = None, codec: Codec | None = None) -> Saga:
    """Two things are shipped, each by the way that is decided for it. Whoever asks again is told the reverse."""
    lists = itertools.cycle((["book", "lamp"], ["lamp", "book"]))
    ways = itertools.cycle(("air", "sea"))
    choice = choose(lambda context: next(ways), {way: effect(effects, way, in_loop) for way in ("air", "sea")}, name="way")
    branch = sequence(effect(effects, "pack", in_loop), choice)
    return saga_of(
        effect(effects, "begin", in_loop),
        each(lambda context: next(lists), branch, name="ship", key=str, limit=1),
        effect(effects, "end", in_loop, last),
        codec=codec,
    )


def run(saga: Saga, store: Store, in_loop: bool, **context: Any) -> Any:
    if in_loop:
        return asyncio.run(saga.atry_execute(context, saga_id="o-1", store=store))
    return saga.try_execute(context, saga_id="o-1", store=store)


def taken(saga: Saga, store: Store) -> list[str]:
    """Return the steps that a journal tells of, with the way that it has for each thing, and those alone."""
    found = saga.load("o-1", store=store)
    keys = [name.removeprefix("ship[").removesuffix("]/way") for name in found.results if name.endswith("/way")]
    assert sorted(keys) == ["book", "lamp"]
    ways = {name for key in keys for name in (f"ship[{key}]/pack", f"ship[{key}]/{found.results[f'ship[{key}]/way']}")}
    return sorted({"begin", "end"} | ways)


@pytest.mark.parametrize("codec", [None, Codec(cipher=AesGcm(bytes(16)))], ids=["readable", "encrypted"])
def test_what_is_listed_and_decided_is_read_back(store: Store, in_loop: bool, codec: Codec | None) -> None:
    effects: set[str] = set()
    saga = shipping(effects, in_loop, codec=codec)
    assert run(saga, store, in_loop, given=SECRET).status is Status.COMPLETED
    assert sorted(effects) == taken(saga, store)
    found = saga.load("o-1", store=store)
    assert found.results["ship"] == [f"{SECRET} of ship[book]/air", f"{SECRET} of ship[lamp]/sea"]
    assert (SECRET in repr((store.get("o-1"), store.journal("o-1")))) is (codec is None)


@pytest.mark.parametrize(
    ("last", "codec"),
    [(None, Codec(cipher=AesGcm(bytes(16)))), (ValueError(SECRET), None)],
    ids=["completed, encrypted", "undone, readable"],
)
def test_wherever_the_process_dies_the_list_and_the_ways_are_those_of_the_journal(
    store: Store, last: Exception | None, codec: Codec | None
) -> None:
    def emptied() -> Store:
        empty_of(store)
        return store

    def build(effects: Effects) -> Saga:
        return shipping(effects, last=last, codec=codec)

    for crash in crash_everywhere(build, make=emptied, every=3):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status == ("completed" if last is None else "compensated"), (crash, crash.kinds)
        assert sorted(crash.effects) == (taken(crash.saga, store) if last is None else []), (crash, crash.kinds)


def booking(effects: set[str], in_loop: bool = False, last: Exception | None = None, codec: Codec | None = None) -> Saga:
    """A trip is booked as a unit, whose first attempt fails when the seat is taken and the hotel is."""
    full = iter([True])

    def fly(context: Context) -> str:
        if next(full, False):
            raise ValueError(SECRET)
        effects.add(context.step.name)
        return f"{SECRET} of {context.step.idempotency_key}"

    async def fly_in_loop(context: Context) -> str:
        return fly(context)

    def stay(context: Context) -> None:
        effects.discard(context.step.name)

    seat = sequence(effect(effects, "seat", in_loop), step(fly_in_loop if in_loop else fly, stay, name="fly"))
    trip = unit(parallel(seat, effect(effects, "hotel", in_loop)), retry=Retry(3), name="trip")
    return saga_of(effect(effects, "begin", in_loop), trip, effect(effects, "end", in_loop, last), codec=codec)


@pytest.mark.parametrize("codec", [None, Codec(cipher=AesGcm(bytes(16)))], ids=["readable", "encrypted"])
def test_what_was_undone_with_a_unit_and_done_again_is_read_back(store: Store, in_loop: bool, codec: Codec | None) -> None:
    effects: set[str] = set()
    saga = booking(effects, in_loop, codec=codec)
    assert run(saga, store, in_loop).status is Status.COMPLETED
    found = saga.load("o-1", store=store)
    assert effects == {"begin", "seat", "fly", "hotel", "end"}
    assert {one.name: one.attempts for one in found.history} == {
        "begin": 1,
        "trip": 2,
        "seat": 2,
        "fly": 2,
        "hotel": 2,
        "end": 1,
    }
    assert found.results["fly"] == f"{SECRET} of s/o-1/fly#2"
    assert (SECRET in repr((store.get("o-1"), store.journal("o-1")))) is (codec is None)


@pytest.mark.parametrize("last", [None, ValueError(SECRET)], ids=["completed", "undone"])
def test_wherever_the_process_dies_a_unit_is_whole_or_nothing(store: Store, last: Exception | None) -> None:
    def emptied() -> Store:
        empty_of(store)
        return store

    for crash in crash_everywhere(lambda effects: booking(effects, last=last), make=emptied, every=3):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status in ("completed", "compensated"), (crash, crash.kinds)
        whole = {"begin", "seat", "fly", "hotel", "end"} if crash.status == "completed" else set()
        assert crash.effects == whole, (crash, crash.kinds)


def empty_of(store: Store) -> None:
    """Delete what has ended."""
    store.purge(updated_before=store.now() + 60.0, status=["completed", "compensated"])
    assert store.get("o-1") is None


@pytest.mark.parametrize("codec", [None, Codec(cipher=AesGcm(bytes(16)))], ids=["readable", "encrypted"])
def test_the_first_of_several_signals_is_received_and_the_others_are_left(
    opener: Opener, in_loop: bool, codec: Codec | None
) -> None:
    store = opener()
    effects: set[str] = set()
    saga = saga_of(receive_first("paid", "called off", timeout=60.0), effect(effects, "end", in_loop), codec=codec)
    saga.submit(saga_id="o-1", store=store)
    for name, value in (("called off", SECRET), ("paid", 7)):
        saga.signal("o-1", name, value, store=store)
    assert (SECRET in repr(store.inbox("o-1"))) is (codec is None)
    elsewhere = opener() if opener.kind != "memory" else store
    worker = Worker(elsewhere, [saga])
    if in_loop:
        asyncio.run(worker.arun_once())
    else:
        worker.run_once()
    found = saga.load("o-1", store=store)
    assert found.status is Status.COMPLETED
    assert found.results["paid or called off"] == Received("called off", SECRET)
    assert (SECRET in repr((store.journal("o-1"), store.inbox("o-1")))) is (codec is None)


def test_signals_that_do_not_come_in_time_are_waited_for_no_more(store: Store, in_loop: bool) -> None:
    effects: set[str] = set()
    waits = receive_first("paid", "called off", timeout=SHORT, on_error=Skip)
    saga = saga_of(waits, effect(effects, "end", in_loop))
    assert run(saga, store, in_loop).status is Status.COMPLETED
    assert [(record.name, str(record.status)) for record in saga.load("o-1", store=store).history] == [
        ("paid or called off", "skipped"),
        ("end", "succeeded"),
    ]
