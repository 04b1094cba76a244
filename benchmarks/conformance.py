"""What saga libraries make of ``docs/conformance/scenarios.json``, and the table of that on ``docs/conformance/index.rst``.

A scenario says in plain data what steps there are, what each of their calls does, what a library has to call by that, and how
the saga has to end. Each library has an adapter here, which says by the library's own words what the scenario says, and
``words``: what it has a word for. A scenario in which the process dies goes on in another process.

Usage::

    python benchmarks/conformance.py [LIBRARY ...]     # runs them, and writes the table where all are named or none is

Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "conformance"
LATE = 1.0
"""Seconds that a call takes which is late."""
LIVES = 4
"""How many processes a scenario is given at most."""
DIED = 9


def scenarios() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / "scenarios.json").read_text(encoding="utf-8"))["scenarios"]
    return found


class World:
    """What the steps of a scenario act on: it writes down what is called, and lets calls do what the scenario says."""

    def __init__(self, scenario: dict[str, Any], folder: Path) -> None:
        self.scenario = scenario
        self.folder = folder
        self._log = folder / "calls"

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def call(self, what: str) -> None:
        if self._acts(what):
            time.sleep(LATE)

    async def acall(self, what: str) -> None:
        if self._acts(what):
            await asyncio.sleep(LATE)

    def _acts(self, what: str) -> bool:
        """Take that a call was made. Return whether it takes long."""
        before = self.calls.count(what)
        with self._log.open("a") as log:
            print(what, file=log)
        plan = self.scenario["calls"].get(what, [])
        does = plan[before] if before < len(plan) else "returns"
        if does == "fails":
            raise RuntimeError(f"{what} fails")
        if does == "answer lost":
            raise ConnectionResetError(f"the answer to {what} is lost")
        if does == "dies":
            os._exit(DIED)
        return bool(does == "is late")


# -- adapters: each runs a scenario, or goes on with one, and returns how it ended ----------------------------------------


def ours(world: World) -> str:
    """saga: a store, and a worker that runs what was submitted and what a dead process left."""
    from saga import Retry, Saga, Task, fallback, parallel, receive
    from saga.operations import Operations
    from saga.worker import Worker

    def one(part: dict[str, Any]) -> Any:
        name = part.get("name", "")
        if "parallel" in part:
            return parallel(*map(one, part["parallel"]))
        if "fallback" in part:
            return fallback(*map(one, part["fallback"]))
        if "signal" in part:
            return receive(part["signal"], timeout=part.get("timeout"))

        class Step(Task[None]):
            retry = Retry(part.get("attempts", 1))
            compensation_retry = Retry(part.get("undo attempts", 1))
            timeout = part.get("timeout")
            pivot = part.get("pivot", False)

            def execute(self, context: Any) -> None:
                world.call(f"execute {name}")

            def compensate(self, context: Any) -> None:
                world.call(f"undo {name}")

        made = Step()
        vars(made)["name"] = name
        return made

    saga: Saga[Any] = Saga("scenario", store=str(world.folder / "saga.db"), lease=0.5)
    for part in world.scenario["steps"]:
        saga.add_task(one(part))
    assert saga.store is not None
    if world.calls:
        handle = saga.handle("1")
    else:
        handle = saga.submit(saga_id="1")
        for signal in world.scenario.get("signals", ()):
            Operations(saga.store, "the scenario", sagas=[saga]).signal("1", signal, "it is sent")
    worker = Worker(saga.store, [saga])
    until = time.monotonic() + 20.0
    while (status := str(handle.status())) not in ("completed", "compensated", "stuck") and time.monotonic() < until:
        worker.run_once()
        time.sleep(0.05)
    return status


def simple_saga(world: World) -> str:
    """simple-saga: steps of a block; what it raises is the step's error, whatever became of the undo."""
    from simple_saga import SyncSaga

    def call(what: str) -> Any:
        return lambda *_: world.call(what)

    try:
        with SyncSaga() as saga:
            for part in world.scenario["steps"]:
                name = part["name"]
                saga.step(action=call(f"execute {name}"), compensation=call(f"undo {name}"))
    except Exception:
        return "failed"
    return "completed"


def python_cqrs(world: World) -> str:
    """python-cqrs: step handlers, and a store in SQLite by which another process goes on."""
    import dataclasses

    import di
    from cqrs.container.di import DIContainer
    from cqrs.handlers.saga import SagaStepHandler
    from cqrs.saga.fallback import Fallback
    from cqrs.saga.models import SagaContext
    from cqrs.saga.recovery import recover_saga
    from cqrs.saga.saga import Saga
    from cqrs.saga.storage.memory import MemorySagaStorage
    from cqrs.saga.storage.sqlalchemy import Base, SqlAlchemySagaStorage
    from sqlalchemy import BigInteger
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlalchemy.ext.compiler import compiles

    compiles(BigInteger, "sqlite")(lambda *_, **__: "INTEGER")  # else it has no ids in SQLite

    def handler(part: dict[str, Any]) -> Any:
        name = part["name"]

        async def act(self: Any, context: Any) -> Any:
            await world.acall(f"execute {name}")
            return self._generate_step_result(None)

        async def compensate(self: Any, context: Any) -> None:
            await world.acall(f"undo {name}")

        return type(name, (SagaStepHandler,), {"act": act, "compensate": compensate})

    Nothing = dataclasses.make_dataclass("Nothing", [("nothing", int, 0)], bases=(SagaContext,))

    def one(part: dict[str, Any]) -> Any:
        return Fallback(*map(handler, part["fallback"])) if "fallback" in part else handler(part)

    parts = world.scenario["steps"]
    saga_type: Any = type("Scenario", (Saga,), {"steps": [one(part) for part in parts]})
    container = DIContainer()
    container.attach_external_container(di.Container())
    undo_attempts = max((part.get("undo attempts", 1) for part in parts), default=1)

    async def run() -> str:
        storage: Any = MemorySagaStorage()
        engine = create_async_engine(f"sqlite+aiosqlite:///{world.folder / 'saga.db'}")
        if "dies" in needed(world.scenario):
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            storage = SqlAlchemySagaStorage(async_sessionmaker(engine, expire_on_commit=False))
        saga_id = uuid.UUID(int=1)
        try:
            if world.calls:
                await recover_saga(saga_type(), saga_id, Nothing, container, storage)
            else:
                transaction = saga_type().transaction(
                    Nothing(), container, storage, saga_id, undo_attempts, compensation_retry_delay=0.01
                )
                async with transaction as steps:
                    async for _ in steps:
                        pass
        except Exception:
            undone = [entry for entry in await storage.get_step_history(saga_id) if entry.action == "compensate"]
            done = {entry.step_name for entry in undone if entry.status.name == "COMPLETED"}
            return "stuck" if any(e.status.name == "FAILED" and e.step_name not in done for e in undone) else "failed"
        finally:
            await engine.dispose()
        return "completed"

    return asyncio.run(run())


def spakky_saga(world: World) -> str:
    """spakky-saga: a flow of coroutine functions; its status tells that it failed."""
    from spakky.core.common.mutability import immutable
    from spakky.saga import AbstractSaga, AbstractSagaData, ExponentialBackoff, Retry, Saga, SagaFlow, parallel, step

    @immutable
    class Nothing(AbstractSagaData):
        pass

    def one(part: dict[str, Any]) -> Any:
        if "parallel" in part:
            return parallel(*map(one, part["parallel"]))

        async def act(data: Any) -> None:
            await world.acall(f"execute {part['name']}")

        async def compensate(data: Any) -> None:
            await world.acall(f"undo {part['name']}")

        seconds = part.get("timeout")
        attempts = part.get("attempts")
        return step(
            act,
            compensate=compensate,
            on_error=Retry(max_attempts=attempts, backoff=ExponentialBackoff(base=0.01)) if attempts else None,
            timeout=timedelta(seconds=seconds) if seconds else None,
        )

    @Saga()
    class Scenario(AbstractSaga[Nothing]):
        def flow(self) -> SagaFlow[Nothing]:
            return SagaFlow(items=tuple(map(one, world.scenario["steps"])))

    try:
        result = asyncio.run(Scenario().execute(Nothing()))
    except Exception:
        return "stuck"  # it raises where an undo fails
    return "completed" if result.status.name == "COMPLETED" else "failed"


BASIC = frozenset({"parallel", "fallback", "signal", "attempts", "undo attempts", "timeout", "pivot", "dies"})
LIBRARIES = {
    "saga-tasks": (ours, "saga", BASIC),
    "simple-saga": (simple_saga, "simple_saga", frozenset[str]()),
    "python-cqrs": (python_cqrs, "cqrs.saga", frozenset({"fallback", "undo attempts", "dies"})),
    "spakky-saga": (spakky_saga, "spakky.saga", frozenset({"parallel", "attempts", "timeout"})),
}
"""By name: the adapter, what it imports, and what of scenarios it has a word for."""


# -- running ------------------------------------------------------------------------------------------------------------


def needed(scenario: dict[str, Any]) -> frozenset[str]:
    """Return what a library needs a word for."""
    text = json.dumps([scenario["steps"], scenario["calls"]])
    return frozenset(word for word in BASIC if f'"{word}"' in text)


def ran(library: str, scenario: dict[str, Any]) -> str:
    """Run a scenario, over as many processes as it takes. Return what came of it: ``conforms``, or what was otherwise."""
    adapter, _, words = LIBRARIES[library]
    lacks = sorted(needed(scenario) - words)
    if lacks:
        return f"no word for {lacks[0]}" if lacks[0] != "dies" else "no restart"
    with tempfile.TemporaryDirectory() as name:
        world = World(scenario, Path(name))
        if "dies" in needed(scenario):
            status = _over_processes(library, scenario, name)
        else:
            with _quiet():
                status = adapter(world)
        return verdict(scenario, world.calls, status)


def _over_processes(library: str, scenario: dict[str, Any], folder: str) -> str:
    command = [sys.executable, __file__, "--live", library, scenario["name"], folder]
    for _ in range(LIVES):
        life = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if life.returncode != DIED:
            return life.stdout.strip()
    return "it dies again and again"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def verdict(scenario: dict[str, Any], calls: list[str], status: str) -> str:
    """Return ``conforms`` or what was otherwise. A library that says only that it failed says so of what is undone."""
    fitting = [one for one in scenario["expected"] if _fit(one["calls"], calls)]
    if not fitting:
        return f"calls {', '.join(calls)}"
    if any(status == one["status"] or (status, one["status"]) == ("failed", "compensated") for one in fitting):
        return "conforms"
    return f"ends as {status}"


def _fit(expected: list[Any], calls: list[str]) -> bool:
    """Whether calls are those expected; a list among them may come in any order."""
    left = list(calls)
    for one in expected:
        some = one if isinstance(one, list) else [one]
        if sorted(left[: len(some)]) != sorted(some):
            return False
        del left[: len(some)]
    return not left


def installed(library: str) -> bool:
    module = LIBRARIES[library][1]
    top = module.partition(".")[0]
    return importlib.util.find_spec(top) is not None and importlib.util.find_spec(module) is not None


def table(results: dict[str, dict[str, str]]) -> str:
    """Return the page's table of results."""
    lines = [f"Run on {date.today():%Y-%m-%d} with Python {platform.python_version()}:", ""]
    lines += [".. list-table::", "   :header-rows: 1", "   :class: stacked", "", "   * - scenario"]
    lines += [f"     - {name} {importlib.metadata.version(name)}" for name in results]
    for scenario in scenarios():
        lines.append(f"   * - {scenario['name']}")
        lines += [f"     - {of[scenario['name']]}" for of in results.values()]
    lines.append("   * - **conforming, of those it has words for**")
    for of in results.values():
        said = [one for one in of.values() if not one.startswith("no ")]
        lines.append(f"     - {said.count('conforms')} of {len(said)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("libraries", nargs="*", choices=[[], *LIBRARIES], default=[])
    parser.add_argument("--live", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.live:
        library, name, folder = given.live
        (scenario,) = [one for one in scenarios() if one["name"] == name]
        with _quiet():
            print(LIBRARIES[library][0](World(scenario, Path(folder))))
        return
    chosen = given.libraries or [name for name in LIBRARIES if installed(name)]
    results = {name: {one["name"]: ran(name, one) for one in scenarios()} for name in chosen}
    for name, of in results.items():
        for scenario, said in of.items():
            print(f"{name:<12} {scenario:<66} {said}")
    if set(results) == set(LIBRARIES):
        page = FOLDER / "index.rst"
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"(?s)Run on.*\Z", lambda _: table(results), text), encoding="utf-8")


if __name__ == "__main__":
    main()
