"""Random flows that fail at random: a machine that lives and one made anew from its events are the same at every moment.

Each flow is drawn with a seed of its own, and run by either driver, with a store or without, cancelled or not.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from saga import InDoubt, Retry, Saga, Skip, choose, each, fallback, parallel, sequence, step, timer, unit
from saga.errors import SagaDefinitionError
from saga.machine import Machine, State
from saga.storage import MemoryStore

SEEDS: Final = 60
STATE: Final = tuple(name for name in State.__slots__ if name != "plan")


class FlawError(Exception):
    """What steps fail with."""


def state(machine: Machine) -> dict[str, str]:
    """Return all that a machine knows, but what it commands."""

    def told(value: Any) -> str:
        if isinstance(value, set | frozenset):
            return repr(sorted(value))
        return repr(dict(value) if hasattr(value, "items") else value)

    return {name: told(getattr(machine.log.state(), name)) for name in STATE}


class Watch:
    """Compares a machine with one made anew, whenever something is to be stored or told.

    :ivar checks: how often; :ivar differs: what was not the same, for who can raise: within a driver that is an interrupt.
    """

    def __init__(self, execution: Any) -> None:
        self.execution = execution
        self.checks = 0
        self.differs: list[Any] = []
        publish = execution._publish

        def checked() -> Any:  # in an event loop, it is awaited
            self.check()
            return publish()

        execution._publish = checked

    def check(self) -> None:
        self.checks += 1
        live = self.execution.machine
        anew = live.replayed()
        lived, replayed = state(live), state(anew)
        if lived != replayed:
            what = {name: (lived[name], replayed[name]) for name in STATE if lived[name] != replayed[name]}
            self.differs.append((what, list(live.events)))


class Maker:
    """Makes a saga and what befalls it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.in_loop = self.happens(0.5)
        self.plain = self.happens(0.3)  # nothing but steps one after the other, of which many are executed in a row
        self.names = (f"s{number}" for number in range(1000))
        self.pivot = False

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def saga(self) -> Saga:
        if self.plain:
            saga = Saga("s")
            for _ in range(self.chance.randint(3, 8)):
                saga.add_task(self.step(0))
            return saga
        store = MemoryStore() if self.happens(0.5) else None
        deadline = self.chance.choice([None, None, 0.03])
        saga = Saga("s", store=store, timeout=deadline, stop_on_compensation_failure=self.happens(0.3))
        for _ in range(self.chance.randint(1, 4)):
            saga.add_task(self.flow(0))
        return saga

    def flow(self, depth: int) -> Any:
        kind = self.chance.random()
        if kind < 0.5 or depth > 2:
            return self.step(depth)
        if kind < 0.62:
            primary = self.step(depth + 1)
            return fallback(primary, self.flow(depth + 1))
        if kind < 0.64:
            way = self.chance.randint(0, 2)
            return choose(lambda context: way, {0: self.flow(depth + 1), 1: ()}, self.flow(depth + 1), name=next(self.names))
        if kind < 0.68:
            count, limit = self.chance.randint(0, 2), self.chance.choice([None, 1])
            return each(lambda context: ["x", "y"][:count], self.flow(depth + 1), name=next(self.names), limit=limit)
        if kind < 0.7:
            return timer(0.005, name=next(self.names))
        if kind < 0.85:
            return parallel(
                *(self.flow(depth + 1) for _ in range(self.chance.randint(2, 3))), compensate_together=self.happens(0.4)
            )
        if kind < 0.93:
            return self.unit(depth)
        return sequence(self.flow(depth + 1), self.flow(depth + 1))

    def unit(self, depth: int) -> Any:
        flows = [self.flow(depth + 1) for _ in range(self.chance.randint(1, 2))]
        retry = Retry(self.chance.randint(2, 3), self.chance.choice([0, 0.002])) if self.happens(0.6) else None
        made = unit(*flows, name=next(self.names), retry=retry, on_error=Skip if self.happens(0.2) else None)
        return fallback(made, self.step(depth + 1)) if self.happens(0.3) else made

    def step(self, depth: int) -> Any:
        name = next(self.names)
        todo = iter([self.chance.choice(["well"] * 5 + ["fail", "slow", "coroutine", "object"]) for _ in range(2)])
        to_undo = iter([self.chance.choice(["well"] * 5 + ["fail"]) for _ in range(2)])

        async def nothing() -> None: ...

        def do(what: str) -> Any:
            if what == "fail":
                raise FlawError(name)
            return {"coroutine": nothing, "object": object}.get(what, lambda: name)()

        def execute() -> Any:
            what = next(todo, "well")
            if what == "slow":
                time.sleep(0.02)
            return do(what)

        async def aexecute() -> Any:
            what = next(todo, "well")
            if what == "slow":
                await asyncio.sleep(0.02)
            return do(what)

        def undo() -> None:
            do(next(to_undo, "well"))

        async def aundo() -> None:
            do(next(to_undo, "well"))

        functions: tuple[Any, Any] = (aexecute, aundo) if self.in_loop and self.happens(0.6) else (execute, undo)
        return step(functions[0], functions[1] if self.happens(0.8) else None, name=name, **self.policies(depth))

    def policies(self, depth: int) -> dict[str, Any]:
        if self.plain:
            return {}
        chosen: dict[str, Any] = {"in_doubt": self.chance.choice([InDoubt.ASK, InDoubt.RERUN, InDoubt.COMPENSATE])}
        if self.happens(0.3):
            chosen["retry"] = Retry(self.chance.randint(2, 3), self.chance.choice([0, 0.002]))
        if self.happens(0.25):
            chosen["timeout"] = 0.008
        if self.happens(0.2):
            chosen["on_error"] = Skip
        if self.happens(0.3):
            chosen["compensation_retry"] = Retry(2, 0.001)
        if self.happens(0.2):
            chosen["compensate_on_failure"] = True
        if depth == 0 and not self.pivot and self.happens(0.15):
            self.pivot = chosen["pivot"] = True
        return chosen


def run(saga: Saga) -> Watch:
    execution: Any = saga._prepare(None, "o-1", None)
    watch = Watch(execution)
    execution.run()
    if execution.ended is not None:
        assert execution.ended.wait(5)
    watch.check()
    return watch


async def arun(saga: Saga, chance: random.Random) -> Watch:
    """As :func:`run`, in the event loop; some are cancelled."""
    execution: Any = await saga._aprepare(None, "o-1", None)
    watch = Watch(execution)
    running = asyncio.create_task(execution.run())
    if chance.random() < 0.3:
        await asyncio.sleep(chance.random() * 0.03)
        running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    if execution.background is not None:
        await execution.background
    watch.check()
    return watch


@pytest.fixture
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_silent")
def test_random_flows_fold_alike() -> None:
    ran = checks = 0
    for seed in range(SEEDS):
        maker = Maker(seed)
        try:
            saga = maker.saga()
            in_loop = saga.plan.asynchronous or maker.in_loop
        except SagaDefinitionError:  # a pivot at a place where none may be, and the like
            continue
        ran += 1
        watch = asyncio.run(arun(saga, maker.chance)) if in_loop else run(saga)
        checks += watch.checks
        assert watch.differs == [], f"seed {seed}"
    assert ran > SEEDS * 0.7
    assert checks > 3 * ran, (checks, ran)
