"""Executions that are held up, and whose processes are killed: paused and resumed, handed back, or called for out of turn."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from crashkit.judge import Case, judge
from crashkit.world import World, read_log, read_points, until
from saga import Context
from saga.drivers.base import Driver
from saga.operations import Operations
from saga.storage import Lease, NewExecution, Wanted
from saga.worker import Worker

if TYPE_CHECKING:
    from crashkit.processes import Run

KEY = "the key"
LONG = 5.0
"""Seconds of a lease, as nobody has to wait for it where the clock goes on instead."""


def pause(run: Run, die_at: str | None) -> None:
    """Execute it; while a step runs, a person pauses it."""
    world = World(run.folder, die_at)
    with run.opened(world) as store:
        saga = run.build(world, store, LONG)
        operations = Operations(store, "tester", sagas=[saga])
        world.when(f"start {run.told['held'][1]}", lambda: operations.pause(run.saga_id, "wait"))
        print(saga.try_execute(Context(order=7), saga_id=run.saga_id).report())


def hand_back(run: Run, die_at: str | None) -> None:
    """Have a worker run it, which is told to stop while a step runs."""
    world = World(run.folder, die_at)
    with run.opened(world) as store:
        saga = run.build(world, store, LONG)
        saga.submit(Context(order=7), saga_id=run.saga_id)
        worker = Worker(store, [saga], finish="calls", workers=1)
        told = threading.Event()

        def stop() -> None:
            worker.stop()
            told.wait(10)  # else the last step may have ended before

        def hand_back(execution: Driver) -> None:
            handed_back(execution)
            told.set()

        handed_back, Driver.hand_back = Driver.hand_back, hand_back  # type: ignore[method-assign]
        world.when(f"start {run.told['held'][1]}", stop)
        worker.run(signals=False, interval=0.05)


def wait_in_line(run: Run, die_at: str | None) -> None:
    """Execute it where another has its key."""
    world = World(run.folder, die_at)
    with run.opened(world) as store:
        run.scenario.build(world, run.name, store, exclusive=lambda context: KEY).execute(Context(order=7), saga_id=run.saga_id)


def go_on(run: Run, die_at: str | None) -> None:
    """Have it end, by a person who resumes it and a worker."""
    world = World(run.folder, die_at)
    with run.opened(world) as store:
        saga = run.build(world, store, LONG)
        for _ in range(100):  # some stores pass over what others' claims have locked at that moment
            row = store.get(run.saga_id)
            if row is None or row.status in ("completed", "compensated", "stuck"):
                return
            if row.status == "paused":
                Operations(store, "tester", sagas=[saga]).resume(run.saga_id, "and on")
            Worker(store, [saga], workers=1).run_once()
            time.sleep(0.02)


WAYS = {"pause": pause, "hand back": hand_back}


def run_held(run: Run) -> dict[str, Any]:
    """Processes are killed, from the one that begins it to those that make it end."""
    hits, snapshots = 0, []
    first = WAYS[run.told["held"][0]]
    work = lambda die_at: first(run, die_at)  # noqa: E731
    for die_at in (*run.told["kills"], None, None):
        died = run.child(work, die_at)
        row, _ = run.look()
        if died:
            hits += 1
            snapshots.append(run.look())
            run.wait_for_lease(row)
        if row is not None:
            work = lambda die_at: go_on(run, die_at)  # noqa: E731
    row, journal = run.look()
    folded = None if row is None else run.fold(row, journal)
    faults = judge(Case(run.scenario, read_log(run.folder), snapshots, row, journal, folded))
    points = [read_points(run.folder, pid) for pid in run.pids]
    return {"faults": faults, "kills": hits, "status": row and row.status, "points": points}


def run_in_line(run: Run) -> dict[str, Any]:
    """Who executes it is killed while it waits for its turn; when that comes, a recovery begins it."""
    faults = []
    world = World(run.folder)
    with run.opened(world) as store:
        other = NewExecution("other", "other", "1", "f", "d", "submitted", exclusive=KEY)
        store.submit([(other, [])])
        (row,) = store.claim("another process", 600.0, saga_id="other", wanted=[Wanted("other")])
        assert run.child(lambda die_at: wait_in_line(run, die_at), run.told["kills"][0]), "it was not killed"
        left = store.get(run.saga_id)
        if left is None:
            return {"faults": faults, "kills": 1, "status": None, "points": []}
        until(lambda: store.now() > (left.called_until or 0.0))
        run.child(run.recover)
        if read_log(run.folder):
            faults.append("it was begun before it was its turn")
        store.append(Lease("other", "another process", row.epoch), [], status="completed", release=True)
        run.child(run.recover)
        ended = store.get(run.saga_id)
        if ended is None or ended.status != run.scenario.ends:
            faults.append(f"it is {ended and ended.status}")
    return {"faults": faults, "kills": 1, "status": ended and ended.status, "points": []}
