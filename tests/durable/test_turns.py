"""Limits, rates and keys: who has to wait, with workers and where a saga is executed here and now; the store keeps them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, Saga, Status, step
from saga.drivers.aio import AsyncExecution
from saga.drivers.threads import Execution
from saga.drivers.views import bind
from saga.durable.start import create
from saga.errors import SagaDefinitionError, SagaExecutionException, SagaHeldError, StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, NewExecution, Store
from saga.testing import Clock
from saga.worker import Worker
from tests.kit import Gate, background, until


class Room:
    """Counts who is inside, and how many were at most."""

    def __init__(self) -> None:
        self.inside: list[Any] = []
        self.most = 0
        self.entered: list[Any] = []
        self.gate = Gate()
        self._lock = threading.Lock()

    def enter(self, who: Any) -> None:
        with self._lock:
            self.inside.append(who)
            self.entered.append(who)
            self.most = max(self.most, len(self.inside))

    def leave(self, who: Any) -> None:
        with self._lock:
            self.inside.remove(who)


def saga_in(room: Room, store: Store, asynchronous: bool = False, **options: Any) -> Saga:
    def stay(context: Context) -> None:
        room.enter(context.who)
        room.gate.hold()
        room.leave(context.who)

    async def astay(context: Context) -> None:
        room.enter(context.who)
        await room.gate.ahold()
        room.leave(context.who)

    return Saga("visit", store=store, **options).add_task(step(astay if asynchronous else stay, name="stay"))


def one_inside(store: Store, asynchronous: bool = False) -> tuple[Room, Saga, Callable[..., Any]]:
    """Return a room for one at a time, the saga of those who visit it, and what waits for the one who is in it."""
    room = Room()
    saga = saga_in(room, store, asynchronous, limit=1)
    first = background(lambda: saga.execute({"who": 1}))
    until(lambda: room.inside)
    return room, saga, first


@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_more_are_in_hand_than_the_limit_over_all_workers(store: Store, asynchronous: bool) -> None:
    room = Room()
    saga = saga_in(room, store, asynchronous, limit=3)
    saga.submit_many([{"who": number} for number in range(8)])
    workers = [Worker(store, [saga]) for _ in range(2)]
    running = [background(lambda worker=worker: worker.run(signals=False, interval=0.02)) for worker in workers]
    until(lambda: len(room.inside) == 3)
    assert sum(worker.in_hand for worker in store.workers()) <= 3
    room.gate.open()
    until(lambda: store.count(["status"], status=["completed"]) and store.count(["status"])[0].executions == 8)
    for worker, ended in zip(workers, running, strict=True):
        worker.stop()
        ended()
    assert room.most == 3


def test_who_executes_here_waits_for_its_turn_too(store: Store) -> None:
    room, saga, first = one_inside(store)
    context = Context(who=2)
    second = background(lambda: saga.execute(context, saga_id="second"))
    until(lambda: store.get("second") is not None)
    assert store.get("second").status == "submitted"  # type: ignore[union-attr]
    room.gate.open()
    assert first().status is second().status is Status.COMPLETED
    assert second().context is context
    assert (room.most, room.entered) == (1, [1, 2])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_at_a_time_of_a_key_first_come_first_served(store: Store, asynchronous: bool) -> None:
    room = Room()
    room.gate.open()
    saga = saga_in(room, store, asynchronous, exclusive=lambda context: "account")
    saga.submit_many([{"who": number} for number in range(6)])
    workers = [Worker(store, [saga], workers=3) for _ in range(2)]
    running = [background(lambda worker=worker: worker.run(signals=False, interval=0.02)) for worker in workers]
    until(lambda: len(room.entered) == 6)
    for worker, ended in zip(workers, running, strict=True):
        worker.stop()
        ended()
    assert room.most == 1
    assert room.entered == sorted(room.entered)


def test_other_keys_and_no_key_do_not_wait(store: Store) -> None:
    room = Room()
    saga = saga_in(room, store, exclusive=lambda context: context.get("account"))
    saga.submit_many([{"who": 1, "account": 7}, {"who": 2, "account": 8}, {"who": 3}, {"who": 4}, {"who": 5, "account": 7}])
    worker = Worker(store, [saga], workers=8)
    running = background(lambda: worker.run(signals=False, interval=0.02))
    until(lambda: len(room.inside) == 4)
    assert sorted(room.inside) == [1, 2, 3, 4]
    room.gate.open()
    until(lambda: len(room.entered) == 5)
    worker.stop()
    running()


def test_who_is_stuck_keeps_the_key_until_a_person_has_decided(store: Store) -> None:
    broken = [True]

    def undo(context: Context) -> None:
        if broken:
            raise OSError("not now")

    def fail(context: Context) -> None:
        if context.bad:
            raise ValueError("no")

    saga = Saga("move", store=store, exclusive=lambda context: "account").add_task(step(lambda: None, undo, name="debit"))
    saga.add_task(step(fail, name="credit"))
    with pytest.raises(SagaExecutionException):
        saga.execute({"bad": True}, saga_id="stuck")
    waiting = saga.submit({"bad": False})
    assert Worker(store, [saga]).run_once() == []
    broken.clear()
    Operations(store, "ann").retry("stuck", "mended")
    Worker(store, [saga]).run_once()
    assert waiting.status() is Status.COMPLETED


def test_no_more_are_begun_than_the_rate_allows(store: Store) -> None:
    room = Room()
    room.gate.open()
    saga = saga_in(room, store, rate=0.001)
    saga.submit_many([{"who": number} for number in range(3)])
    assert len(Worker(store, [saga]).run_once()) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_who_is_interrupted_while_it_waits_leaves_nothing_that_will_run(store: Store, asynchronous: bool) -> None:
    room, saga, first = one_inside(store, asynchronous)

    async def main() -> None:
        task = asyncio.create_task(saga.aexecute({"who": 2}, saga_id="second"))
        while store.get("second") is None:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert store.get("second").status == "compensated"  # type: ignore[union-attr]
    room.gate.open()
    first()
    assert Worker(store, [saga]).run_once() == []
    assert room.entered == [1]


TURNS: dict[str, dict[str, Any]] = {"a limit": {"limit": 1}, "a key": {"exclusive": lambda context: "account"}}


def undone_saga(room: Room, store: Store, asynchronous: bool, options: dict[str, Any]) -> Saga:
    """Return a saga whose undo enters the room, too."""

    def leave(context: Context) -> None:
        room.enter(f"undo of {context.who}")
        room.leave(f"undo of {context.who}")

    saga = saga_in(room, store, asynchronous, **options)
    return saga.add_task(step(lambda: None, leave, name="book"))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_undo_here_and_now_waits_for_its_turn_too(store: Store, asynchronous: bool, turn: str) -> None:
    room = Room()
    room.gate.open()
    saga = undone_saga(room, store, asynchronous, TURNS[turn])
    saga.execute({"who": 1}, saga_id="first")
    room.gate = Gate()
    second = background(lambda: saga.execute({"who": 2}))
    until(lambda: room.inside)
    undo = background(lambda: saga.undo("first", "it was a mistake"))
    until(lambda: store.get("first").status == "compensating")  # type: ignore[union-attr]
    assert Worker(store, [saga]).run_once() == []
    assert room.entered == [1, 2]
    room.gate.open()
    assert second().ok
    assert undo().status is Status.COMPENSATED
    assert (room.most, room.entered) == (1, [1, 2, "undo of 1"])
    assert store.get("first").owner is None  # type: ignore[union-attr]
    assert saga.execute({"who": 3}).ok  # the key is free again


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_undo_that_waits_is_carried_out_by_whoever_has_its_turn(store: Store, asynchronous: bool) -> None:
    room = Room()
    room.gate.open()
    saga = undone_saga(room, store, asynchronous, {"limit": 1})
    saga.execute({"who": 1}, saga_id="first")
    store.create(NewExecution("other", "visit", "1", "f", "d", "running"), [], "another process", 60.0)

    async def main() -> None:
        task = asyncio.create_task(saga.aundo("first", "it was a mistake"))
        while store.get("first").status != "compensating":  # type: ignore[union-attr]
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.release(Lease("other", "another process", 1), delay=600.0)
        assert [result.status for result in await Worker(store, [saga]).arun_once()] == [Status.COMPENSATED]

    asyncio.run(main())
    assert store.get("first").status == "compensated"  # type: ignore[union-attr]
    assert room.entered == [1, "undo of 1"]


@pytest.mark.parametrize("turn", ["no turn", *TURNS])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_others_are_told_when_one_ends_that_they_may_wait_for(store: Store, asynchronous: bool, turn: str) -> None:
    """Here and in other processes, as far as the store reaches them."""
    room = Room()
    room.gate.open()
    saga = undone_saga(room, store, asynchronous, TURNS.get(turn, {}))
    told: list[bool] = []
    store.tell = lambda: told.append(store.get("x").status in ("completed", "compensated"))  # type: ignore[method-assign, union-attr]
    saga.execute({"who": 1}, saga_id="x")
    assert told == [True] * (turn != "no turn")
    saga.undo("x", "it was a mistake")
    assert told == [True] * 2 * (turn != "no turn")
    saga.submit({"who": 2}, saga_id="y")
    store.get = lambda saga_id, get=store.get: get("y")  # type: ignore[method-assign, misc]
    Worker(store, [saga]).run_once()
    assert told == [True] * 3 * (turn != "no turn")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_dead_process_left_in_line_is_begun_by_a_recovery(asynchronous: bool) -> None:
    """It was called for, unlike what was submitted."""
    store = MemoryStore()
    room = Room()
    room.gate.open()
    saga = saga_in(room, store, asynchronous, exclusive=lambda context: "account")
    kind = AsyncExecution if asynchronous else Execution
    context = Context(who="left")
    bind(context, saga.definition.plan, saga.name, "left")
    create(saga.definition, kind, saga.definition.machine("left"), context, store)
    saga.submit({"who": "submitted"}, saga_id="submitted")
    assert Worker(store, [saga]).run_once() == []  # who called for it may live
    with Clock() as clock:
        clock.move(saga.definition.lease + 1.0)
        assert [result.saga_id for result in Recovery(store, [saga]).run_once()] == ["left"]
    assert room.entered == ["left"]
    assert [result.saga_id for result in Worker(store, [saga]).run_once()] == ["submitted"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_who_waits_in_line_and_lives_is_left_to_itself(asynchronous: bool) -> None:
    ahead = 0.0
    store = MemoryStore(clock=lambda: time.time() + ahead)
    room, saga, first = one_inside(store, asynchronous)
    second = background(lambda: saga.execute({"who": 2}, saga_id="second"))
    until(lambda: store.get("second") is not None)
    called = store.get("second").called_until  # type: ignore[union-attr]
    ahead = saga.definition.lease / 2
    until(lambda: store.get("second").called_until > called + ahead / 2)  # type: ignore[union-attr, operator]
    room.gate.open()
    assert first().ok
    assert second().ok


@pytest.mark.parametrize("turn", ["no turn", *TURNS])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_held_is_not_begun_here_and_now(store: Store, asynchronous: bool, turn: str) -> None:
    room = Room()
    room.gate.open()
    saga = saga_in(room, store, asynchronous, **TURNS.get(turn, {}))
    operations = Operations(store, "ann")
    saga.execute({"who": 1}, saga_id="before")
    for hold, let_go in (
        (lambda: operations.hold("visit", "the bank is closed"), {}),
        (lambda: operations.drain("visit", "1", "the bank is closed"), {"version": "1"}),
    ):
        hold()
        for begin in (saga.execute, saga.try_execute, lambda *args: asyncio.run(saga.aexecute(*args))):
            with pytest.raises(SagaHeldError, match=r"ann holds .*saga 'visit': the bank is closed; nothing of it is begun"):
                begin({"who": "refused"})
        assert saga.execute({"who": 1}, saga_id="before").ok  # the first one's outcome
        saga.submit({"who": "later"}, saga_id="later")
        assert len(store.list().executions) == 2
        assert operations.let_go("visit", **let_go)
    assert [result.saga_id for result in Worker(store, [saga]).run_once()] == ["later"]
    assert saga.execute({"who": 2}).ok
    assert room.entered == [1, "later", 2]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_who_cannot_ask_any_more_whether_it_is_its_turn_is_out_of_the_line(store: Store, asynchronous: bool) -> None:
    room, saga, first = one_inside(store, asynchronous)
    get, asked = store.get, []

    def fail_once(saga_id: str) -> Any:
        asked.append(saga_id)
        if len(asked) == 3:
            raise StorageError("the disk is on fire")
        return get(saga_id)

    store.get = fail_once  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="on fire"):
        saga.execute({"who": 2}, saga_id="second")
    assert get("second").status == "compensated"  # type: ignore[union-attr]
    room.gate.open()
    assert first().ok
    assert room.entered == [1]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"limit": 0}, "limit is 0"),
    ({"limit": True}, "limit is True"),
    ({"limit": 2.0}, r"limit is 2\.0"),
    ({"rate": 0}, "rate is 0"),
    ({"rate": float("inf")}, "rate is inf"),
    ({"rate": "5"}, "rate is '5'"),
    ({"exclusive": "account"}, "give a function of the context"),
    ({"exclusive": str}, "give a function of the context"),
    ({"tags": "order"}, "give a function of the context that returns a mapping"),
    ({"tags": {"order": 1}}, "give a function of the context that returns a mapping"),
    ({"tags": [1]}, "one of tags"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=[str(wrong) for wrong, _ in WRONG])
def test_what_is_wrong_is_refused_when_the_saga_is_made(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(SagaDefinitionError, match=says):
        Saga("visit", **wrong)


def test_async_functions_of_the_context_are_refused() -> None:
    async def key(context: Context) -> str:
        return "k"

    for option in ("exclusive", "tags"):
        with pytest.raises(SagaDefinitionError, match="give a plain function of the context"):
            Saga("visit", **{option: key})


ANSWERS: list[tuple[str, Any, str]] = [
    ("exclusive", lambda context: context.nothing, "exclusive raised"),
    ("exclusive", lambda context: 1.5, r"exclusive returned 1\.5"),
    ("exclusive", lambda context: "", "not blank"),
    ("exclusive", lambda context: -(10**5000), "exclusive returned an int of more than 200 digits"),
    ("tags", lambda context: {"order": 10**5000}, "'order' is an int of more than 200 digits"),
    ("tags", lambda context: ["order"], "return a mapping"),
    ("tags", lambda context: 1 / 0, "tags raised"),
    ("tags", lambda context: {"order": object()}, "'order' is <object"),
]


@pytest.mark.parametrize(("option", "function", "says"), ANSWERS, ids=[says for _, _, says in ANSWERS])
def test_an_answer_that_is_wrong_is_refused_and_nothing_stored(store: Store, option: str, function: Any, says: str) -> None:
    saga = saga_in(Room(), store, **{option: function})
    for begin in (saga.submit, saga.execute):
        with pytest.raises(SagaDefinitionError, match=says):
            begin({"who": 1})
    assert store.list().executions == ()


@pytest.mark.parametrize("option", [{"limit": 1}, {"rate": 5}, {"exclusive": lambda context: "k"}])
def test_what_a_store_keeps_needs_a_store(option: dict[str, Any]) -> None:
    saga = Saga("visit", **option).add_task(step(lambda: None, name="stay"))
    with pytest.raises(SagaDefinitionError, match=f"has {next(iter(option))}, which a store keeps"):
        saga.execute()


def test_who_is_cancelled_in_line_need_not_wait_for_those_before_it(store: Store) -> None:
    room = Room()
    saga = saga_in(room, store, exclusive=lambda context: "account")
    first = background(lambda: saga.execute({"who": 1}))
    until(lambda: room.inside)
    second = saga.submit({"who": 2})
    second.cancel("changed her mind")
    assert second.try_result(0).status is Status.COMPENSATED
    room.gate.open()
    first()


def test_what_is_for_later_keeps_nobody_from_the_key(store: Store) -> None:
    room = Room()
    room.gate.open()
    saga = saga_in(room, store, exclusive=lambda context: "account")
    saga.submit({"who": "tomorrow"}, at=store.now() + 86_400.0)
    saga.submit({"who": "now"})
    assert len(Worker(store, [saga]).run_once()) == 1
    assert saga.execute({"who": "here"}).ok
    assert room.entered == ["now", "here"]


def test_one_that_was_paused_and_resumed_while_it_waited_here_goes_on_here(store: Store) -> None:
    room, saga, first = one_inside(store)
    second = background(lambda: saga.execute({"who": 2}, saga_id="second"))
    until(lambda: store.get("second") is not None)
    operations = Operations(store, "ann")
    operations.pause("second", "wait")
    operations.resume("second", "go")
    room.gate.open()
    assert first().ok
    assert second().ok
    assert room.entered == [1, 2]


def test_a_rate_is_looked_at_as_its_window_moves_on(store: Store) -> None:
    room = Room()
    room.gate.open()
    worker = Worker(store, [saga_in(room, store, rate=20.0)])
    assert worker._definitions.window == 1.0
    assert Worker(store, [saga_in(room, store)])._definitions.window == float("inf")
