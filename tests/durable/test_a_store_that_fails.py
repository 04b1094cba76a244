"""A store that fails, once or from then on, at each call of each method, with an error that it may raise or with none:
the run ends, asks the store no more often than it must, and what it left is finished truthfully."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, Saga, Task, parallel, step, transaction
from saga.durable.codec import Codec
from saga.errors import StorageError
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, within

FOREVER = 1_000_000
ENOUGH = 500  # calls of the store: a run of these sagas makes some forty


class Odd(BaseException):
    """What no store may raise."""


class Failing:
    """A store whose calls fail from the ``at``-th call of a method on, so many times."""

    def __init__(self, method: str = "", at: int = 0, times: int = 0, error: BaseException | None = None) -> None:
        self.later = 0.0
        self.store = MemoryStore(clock=lambda: time.time() + self.later)
        self.method, self.at, self.times, self.error = method, at, times, error
        self.calls: Counter[str] = Counter()

    def heal(self) -> None:
        self.times = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if not callable(real):
            return real

        def call(*args: Any, **more: Any) -> Any:
            self.calls[name] += 1
            if name == self.method and self.at <= self.calls[name] < self.at + self.times:
                assert self.error is not None
                raise self.error
            return real(*args, **more)

        return call


EFFECTS: set[str] = set()


def act(name: str) -> None:
    EFFECTS.add(name)


def undo(result: None, name: str) -> None:
    EFFECTS.discard(name)


class World:
    """What is so outside: a step's effect is there once, however often it is executed."""

    def __init__(self) -> None:
        self.effects = EFFECTS
        EFFECTS.clear()

    def do(self, name: str, fails: bool = False) -> Any:
        def execute(context: Context) -> str:
            if fails:
                raise ValueError("no stock")
            self.effects.add(name)
            return name

        return step(execute, lambda context: self.effects.discard(name), name=name)

    def ado(self, name: str) -> Task[Any]:
        effects = self.effects

        class Do(Task[Any]):
            async def execute(self, context: Context) -> Any:
                effects.add(name)

            async def compensate(self, context: Context) -> Any:
                effects.discard(name)

        made = Do()
        made.name = name
        return made

    def saga(self, fails: bool, asynchronous: bool) -> Saga:
        saga = Saga("s", lease=30.0).add_task(self.do("a"))
        saga.add_task(parallel(self.do("b"), self.ado("c") if asynchronous else self.do("c")))
        return saga.add_task(self.do("d", fails))


def runs(world: World, store: Any) -> dict[str, Callable[[], object]]:
    def block() -> None:
        with transaction("t", store=store, saga_id="x") as tx:
            tx.step(act, undo, args=("a",), compensate_args=("a",), name="a")
            tx.step(act, undo, args=("b",), compensate_args=("b",), name="b")

    return {
        "completes": lambda: world.saga(False, False).try_execute(saga_id="x", store=store),
        "fails": lambda: world.saga(True, False).try_execute(saga_id="x", store=store),
        "async completes": lambda: asyncio.run(world.saga(False, True).atry_execute(saga_id="x", store=store)),
        "async fails": lambda: asyncio.run(world.saga(True, True).atry_execute(saga_id="x", store=store)),
        "streamed": lambda: list(world.saga(False, False).stream(saga_id="x", store=store)),
        "block": block,
        "recovered": lambda: Recovery(store, [world.saga(True, False)]).run_once(),
        "async recovered": lambda: Recovery(store, [world.saga(False, True)]).run_once(),
    }


def left_behind(world: World, store: Failing, asynchronous: bool) -> None:
    """Leave an execution whose process died in its group."""
    dying = Failing("append", 2, FOREVER, StorageError("the process is dead"))
    dying.store = store.store
    with pytest.raises(StorageError):
        world.saga(True, asynchronous).try_execute(saga_id="x", store=dying)  # type: ignore[arg-type]
    store.later += 100


def run(name: str, store: Failing) -> World:
    world = World()
    if "recovered" in name:
        left_behind(world, store, "async" in name)
        store.calls.clear()

    def outcome() -> object:
        try:
            return runs(world, store)[name]()
        except (StorageError, Odd, RuntimeError) as error:
            return error

    within(PATIENCE, outcome)
    return world


METHODS = ("create", "append", "claim", "get", "journal", "journals", "inbox", "release", "with_mail")
NAMES = list(runs(World(), None))
WRONG = (StorageError, RuntimeError, Odd)


@pytest.mark.parametrize("times", [1, FOREVER])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_ends_and_what_it_left_is_finished(name: str, times: int) -> None:
    whole = Failing()
    run(name, whole)
    tried = 0
    for method in METHODS:
        for at in range(1, whole.calls[method] + 1):
            for kind in WRONG:
                tried += 1
                error = kind("the disk is on fire")
                case = (method, at, times, error)
                store = Failing(*case)
                world = run(name, store)
                assert sum(store.calls.values()) < ENOUGH, (case, store.calls)
                store.heal()
                finish(name, world, store)
                row = store.store.get("x")
                if row is None:  # nothing has begun
                    assert not world.effects, case
                    continue
                assert row.status in ("completed", "compensated"), (case, row)
                names = set("abcd") if name != "block" else set("ab")
                assert world.effects == (names if row.status == "completed" else set()), (case, row)
    assert tried >= 3 * len(WRONG)


def finish(name: str, world: World, store: Failing) -> None:
    """Let recoveries come, each after the leases that are there have run out."""
    saga = world.saga("fails" in name or name == "recovered", "async" in name)
    for _ in range(5):
        store.later += 1000
        Recovery(store, [saga], transactions=["t"], codec=Codec(modules=[__name__])).run_once()  # type: ignore[arg-type]
