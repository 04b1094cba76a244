"""Transactional steps, next to the same work by hand: a row of the user's and a row of one's own journal in one transaction.

Contenders take turns in rounds; medians count, and a ratio is the median of each round's own. What is counted are steps a
second, with one execution at a time of so many steps, each of which inserts a row.

* by hand: a row for the run, then for each step its row and a row of a journal, and a commit; nothing looks whether the run is
  still one's own.
* saga: each step in the journal before it runs and with what it did, in one commit.
* coroutines: the same in an event loop, by hand with psycopg's asynchronous connection.
* DBOS: a workflow of transactions of a datasource, in the same isolation level. It is left out where it is not installed.

Usage::

    python benchmarks/transactional.py [--rounds N] [--steps N] [--seconds N] [--store sqlite postgres] [--folder DIR]

PostgreSQL is a server of its own, as in ``durable.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from durable import postgres_server

from saga import Context, Saga, step
from saga.storage import SqliteStore, Store

Run = Callable[[], object]
"""One execution, from its first step to its last."""

GOAL = 1.5
"""How often a step by hand may be done while a transactional step is, at most."""

PAYLOAD = '{"value":null,"elapsed":0.0001}'


def step_rate(run: Run, steps: int, seconds: float) -> float:
    """Return the steps a second of executions for so many seconds."""
    done, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        run()
        done += steps
    return done / elapsed


def saga_of(store: Store, work: Callable[[Context], Any], steps: int) -> Saga:
    """Return a saga of so many transactional steps."""
    saga = Saga("bench", store=store)
    for number in range(steps):
        saga.add_task(step(work, name=f"step {number + 1}", transactional=True))
    return saga


def on_sqlite(folder: Path, steps: int, stack: ExitStack) -> dict[str, Run]:
    """Return the contenders for an SQLite file, with the same settings each."""
    store = stack.enter_context(SqliteStore(folder / "saga.db"))
    by_hand = sqlite3.connect(folder / "hand.db", isolation_level=None)
    stack.callback(by_hand.close)
    by_hand.execute("PRAGMA journal_mode = WAL")
    by_hand.execute("PRAGMA synchronous = FULL")
    by_hand.execute("CREATE TABLE run (id INTEGER PRIMARY KEY, status TEXT)")
    by_hand.execute("CREATE TABLE journal (run INT, seq INT, payload TEXT, PRIMARY KEY (run, seq)) WITHOUT ROWID")
    for database in (by_hand, sqlite3.connect(folder / "saga.db")):
        database.execute("CREATE TABLE work (n INT)")

    def run() -> None:
        found = by_hand.execute("INSERT INTO run (status) VALUES ('running')").lastrowid
        for number in range(steps):
            by_hand.execute("BEGIN IMMEDIATE")
            by_hand.execute("INSERT INTO work VALUES (?)", (number,))
            by_hand.execute("INSERT INTO journal VALUES (?, ?, ?)", (found, number, PAYLOAD))
            by_hand.execute("COMMIT")

    def work(context: Context) -> None:
        context.step.connection.execute("INSERT INTO work VALUES (?)", (context.step.attempt,))

    return {"by hand": run, "saga": saga_of(store, work, steps).execute}


def on_postgres(folder: Path, steps: int, stack: ExitStack) -> dict[str, Run]:
    """Return the contenders for PostgreSQL: two by hand, and what is compared with each."""
    import psycopg

    from saga.storage.postgres import PostgresStore

    url = stack.enter_context(postgres_server(folder / "postgres"))
    store = stack.enter_context(PostgresStore(url))
    hand = stack.enter_context(psycopg.connect(url))
    for table in (
        "work (n int)",
        "run (id serial PRIMARY KEY)",
        "journal (run int, seq int, payload text, PRIMARY KEY (run, seq))",
    ):
        hand.execute(f"CREATE TABLE {table}".encode())
    hand.commit()
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)
    hand_in_loop = loop.run_until_complete(psycopg.AsyncConnection.connect(url))
    stack.callback(lambda: loop.run_until_complete(hand_in_loop.close()))
    begins, inserts, notes = (
        b"INSERT INTO run DEFAULT VALUES RETURNING id",
        b"INSERT INTO work VALUES (%s)",
        b"INSERT INTO journal VALUES (%s, %s, %s)",
    )

    def run() -> None:
        [found] = hand.execute(begins).fetchall()
        hand.commit()
        for number in range(steps):
            hand.execute(inserts, (number,))
            hand.execute(notes, (found[0], number, PAYLOAD))
            hand.commit()

    async def run_in_loop() -> None:
        [found] = await (await hand_in_loop.execute(begins)).fetchall()
        await hand_in_loop.commit()
        for number in range(steps):
            await hand_in_loop.execute(inserts, (number,))
            await hand_in_loop.execute(notes, (found[0], number, PAYLOAD))
            await hand_in_loop.commit()

    def work(context: Context) -> None:
        context.step.connection.execute(inserts, (context.step.attempt,))

    async def work_in_loop(context: Context) -> None:
        await context.step.connection.execute(inserts, (context.step.attempt,))

    in_loop = saga_of(store, work_in_loop, steps)
    contenders: dict[str, Run] = {
        "by hand": run,
        "saga": saga_of(store, work, steps).execute,
        "coroutines by hand": lambda: loop.run_until_complete(run_in_loop()),
        "coroutines": lambda: loop.run_until_complete(in_loop.aexecute()),
    }
    hand.execute(b"COMMIT")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE dbos")
    workflow = dbos_workflow(url, steps, stack)
    return contenders if workflow is None else contenders | {"DBOS": workflow}


def dbos_workflow(url: str, steps: int, stack: ExitStack) -> Run | None:
    """Return a workflow of DBOS's, whose transactions work in the same database; where it is not there, say so."""
    try:
        from dbos import DBOS, SQLAlchemyDatasource
    except ImportError:
        print("  (DBOS is not installed: left out)")
        return None
    import sqlalchemy as sa

    os.chdir(tempfile.gettempdir())  # it looks for a configuration file
    through = url.replace("postgresql:", "postgresql+psycopg:")
    DBOS(config={"name": "bench", "system_database_url": through, "log_level": "ERROR"})
    source: Any = SQLAlchemyDatasource.create(through)
    insert = sa.text("INSERT INTO work VALUES (:n)")

    @source.transaction(isolation_level="READ COMMITTED")
    def work(number: int) -> None:
        source.sql_session().execute(insert, {"n": number})

    @DBOS.workflow()
    def workflow() -> None:
        for number in range(steps):
            work(number)

    DBOS.launch()
    stack.callback(DBOS.destroy)
    return workflow


def compare(contenders: dict[str, Run], options: argparse.Namespace) -> None:
    """Measure in turns, and print medians and ratios."""
    for run in contenders.values():
        run()
    rounds = [
        {name: step_rate(run, options.steps, options.seconds) for name, run in contenders.items()}
        for _ in range(options.rounds)
    ]
    for name in contenders:
        rate = statistics.median(one[name] for one in rounds)
        hand = "coroutines by hand" if name.startswith("coroutines") else "by hand"
        ratio = statistics.median(one[hand] / one[name] for one in rounds)
        print(f"  {name:<20}{rate:10,.0f} steps/s{1e6 / rate:10,.0f} us{ratio:8.2f} x by hand", end="")
        print(f"  (goal: at most {GOAL})" if name in ("saga", "coroutines") else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--store", nargs="+", default=["sqlite", "postgres"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    contenders = {"sqlite": on_sqlite, "postgres": on_postgres}
    for kind in options.store:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder, ExitStack() as stack:
            print(f"{kind}, executions of {options.steps} steps:")
            compare(contenders[kind](Path(folder), options.steps, stack), options)


if __name__ == "__main__":
    main()
