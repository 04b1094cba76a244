"""What a saga costs per step, next to a hand-written try/except and, when installed, simple-saga.

Each contender runs ten no-op steps in turn, many times over: once with all succeeding, once with step 10 failing and the
nine before it undone. Rounds of all contenders alternate, so that a slow moment of the machine meets all of them, and the
median round counts. Every logger is silent. Output: microseconds per step.

    python benchmarks/overhead.py [--rounds N] [--runs N]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

from saga import Context, Observer, Saga, Task, step, transaction
from saga.errors import SagaExecutionException
from saga.logging import SagaLogger

STEPS = 10


def nothing(*_: object) -> None:
    pass


def fail(*_: object) -> None:
    raise ValueError("step 10 fails")


class Nothing(Task[None]):
    def execute(self, context: Context) -> None:
        pass

    def compensate(self, context: Context) -> None:
        pass


class Fail(Nothing):
    def execute(self, context: Context) -> None:
        raise ValueError("step 10 fails")


def by_hand(actions: list[Callable[[], None]]) -> Callable[[], None]:
    def run() -> None:
        undos: list[Callable[[], None]] = []
        try:
            for action in actions:
                action()
                undos.append(nothing)
        except ValueError:
            for undo in reversed(undos):
                undo()

    return run


def ours(last: type[Task[None]], logger: Observer | None) -> Callable[[], None]:
    saga = Saga("bench", logger=logger)
    for i in range(STEPS):
        task = (last if i == STEPS - 1 else Nothing)()
        task.name = f"step {i + 1}"
        saga.add_task(task)

    def run() -> None:
        saga.try_execute()

    return run


def simple_saga(actions: list[Callable[[], None]]) -> Callable[[], None] | None:
    try:
        from simple_saga import SyncSaga
    except ImportError:
        return None

    def run() -> None:
        try:
            with SyncSaga() as saga:
                for action in actions:
                    saga.step(action, nothing)
        except ValueError:
            pass

    return run


def blocks(actions: list[Callable[[], None]]) -> Callable[[], None]:
    def run() -> None:
        try:
            with transaction() as tx:
                for action in actions:
                    tx.step(action, nothing)
        except SagaExecutionException:
            pass

    return run


async def anothing(*_: object) -> None:
    pass


async def afail(*_: object) -> None:
    raise ValueError("step 10 fails")


class ANothing(Task[None]):
    async def execute(self, context: Context) -> None:
        pass

    async def compensate(self, context: Context) -> None:
        pass


class AFail(ANothing):
    async def execute(self, context: Context) -> None:
        raise ValueError("step 10 fails")


def by_hand_async(actions: list[Callable[[], Awaitable[None]]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        undos: list[Callable[[], Awaitable[None]]] = []
        try:
            for action in actions:
                await action()
                undos.append(anothing)
        except ValueError:
            for undo in reversed(undos):
                await undo()

    return run


def ours_async(last: type[Task[None]]) -> Callable[[], Awaitable[None]]:
    saga = Saga("bench", logger=SagaLogger())
    for i in range(STEPS):
        saga.add_task(step((last if i == STEPS - 1 else ANothing)(), name=f"step {i + 1}"))

    async def run() -> None:
        await saga.atry_execute()

    return run


def simple_saga_async(actions: list[Callable[[], Awaitable[None]]]) -> Callable[[], Awaitable[None]] | None:
    try:
        from simple_saga import Saga as SimpleSaga
    except ImportError:
        return None

    async def run() -> None:
        try:
            async with SimpleSaga() as saga:
                for action in actions:
                    await saga.step(action, anothing)
        except ValueError:
            pass

    return run


def in_loop(loop: asyncio.AbstractEventLoop, run: Callable[[], Awaitable[None]], runs: int) -> Callable[[], None]:
    """Return what makes ``runs`` runs within one call of the event loop, for :func:`measure` to call once."""

    async def many() -> None:
        for _ in range(runs):
            await run()

    return lambda: loop.run_until_complete(many())


def measure(contenders: dict[str, Callable[[], None]], rounds: int, runs: int) -> dict[str, float]:
    """Return the median microseconds per step of each contender."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            for _ in range(runs):
                run()
            times[name].append((time.perf_counter() - start) / runs / STEPS * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def show(title: str, medians: dict[str, float]) -> None:
    """Print microseconds per step, next to the peer's."""
    print(f"\n{title}:")
    for name, median in medians.items():
        share = f"  {median / medians['simple-saga']:5.2f} x simple-saga" if "simple-saga" in medians else ""
        print(f"  {name:<24} {median:7.3f} us per step{share}")


def import_time(tries: int = 15) -> float:
    """Return the median milliseconds that ``import saga`` adds to starting the interpreter, compiled as installers leave it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def started(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        return (time.perf_counter() - start) * 1000

    with tempfile.TemporaryDirectory() as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled
        started("import saga")
        return statistics.median(started("import saga") - started("pass") for _ in range(tries))


def main() -> None:
    parser = argparse.ArgumentParser(description="microseconds per step of a 10-step saga")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of all contenders; the median counts")
    parser.add_argument("--runs", type=int, default=200, help="sagas per contender and round")
    options = parser.parse_args()
    logging.getLogger("saga").setLevel(logging.CRITICAL + 1)
    logging.getLogger("simple_saga").setLevel(logging.CRITICAL + 1)
    print(f"Python {sys.version.split()[0]}, {STEPS} steps, median of {options.rounds} rounds of {options.runs} runs")
    for title, actions, last in (
        ("all succeed", [nothing] * STEPS, Nothing),
        ("step 10 fails", [*[nothing] * (STEPS - 1), fail], Fail),
    ):
        contenders = {
            "hand-written": by_hand(actions),
            "saga, no logger": ours(last, None),
            "saga, silent SagaLogger": ours(last, SagaLogger()),
            "saga, an observer": ours(last, nothing),
        }
        peer = simple_saga(actions)
        if peer is not None:
            contenders["simple-saga"] = peer
        contenders["saga, with block"] = blocks(actions)
        measure(contenders, 3, options.runs)  # warm up
        show(title, measure(contenders, options.rounds, options.runs))
    loop = asyncio.new_event_loop()
    for title, coroutines, alast in (
        ("async, all succeed", [anothing] * STEPS, ANothing),
        ("async, step 10 fails", [*[anothing] * (STEPS - 1), afail], AFail),
    ):
        runners = {"hand-written": by_hand_async(coroutines), "saga, silent SagaLogger": ours_async(alast)}
        apeer = simple_saga_async(coroutines)
        if apeer is not None:
            runners["simple-saga"] = apeer
        looped = {name: in_loop(loop, run, options.runs) for name, run in runners.items()}
        measure(looped, 3, 1)
        medians = measure(looped, options.rounds, 1)
        show(title, {name: median / options.runs for name, median in medians.items()})
    loop.close()
    print(f"\nimport saga: {import_time():.1f} ms")


if __name__ == "__main__":
    main()
