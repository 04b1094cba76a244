"""Blocks that are begun again under the same id, by processes that are killed: each undoes what it finds, and runs anew."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

from crashkit.scenario import LEASE, AesGcm
from crashkit.stores import look
from crashkit.world import Line, World, read_log, read_points
from saga import Context, Transaction, transaction
from saga.durable.codec import Codec
from saga.durable.runs import id_of_run
from saga.errors import SagaIdTakenError
from saga.storage import Entry, StoredExecution

if TYPE_CHECKING:
    from crashkit.processes import Run

STEPS = ("a", "b", "c")
_HERE: list[World] = []
"""This process's world: what undoes a step is found by its name, and told nothing else."""

Runs = list[tuple[StoredExecution, list[Entry]]]


def book(context: Context, name: str) -> str:
    world, attempt = _HERE[0], context.step.attempt
    step = _of_run(context, name)
    world.log("start", step, attempt)
    world.point(f"{name} execute {attempt} before")
    world.log("did", step, attempt)
    world.point(f"{name} execute {attempt} after")
    return name


def unbook(context: Context, name: str) -> None:
    world, attempt = _HERE[0], context.step.attempt
    step = _of_run(context, name)
    world.log("undoing", step, attempt)
    world.point(f"{name} compensate {attempt} before")
    world.log("undid", step, attempt)
    world.point(f"{name} compensate {attempt} after")


async def abook(context: Context, name: str) -> str:
    await asyncio.sleep(0)
    return book(context, name)


async def aunbook(context: Context, name: str) -> None:
    await asyncio.sleep(0)
    unbook(context, name)


def _of_run(context: Context, name: str) -> str:
    """Return what the log calls a step: its name, and in which run that was."""
    _, _, number = context.step.saga_id.partition("~")
    return f"{name}@{number or 1}"


def execute(run: Run, kind: str, die_at: str | None) -> None:
    """Run the block in this process, as a ``with`` or an ``async with``."""
    world = World(run.folder, die_at)
    _HERE[:] = [world]
    with run.opened(world) as store:
        codec = Codec(modules=[__name__], cipher=AesGcm() if run.told.get("sealed") else None)
        lease = run.told.get("lease", LEASE)
        block = transaction(run.name, saga_id=run.saga_id, store=store, lease=lease, codec=codec, again=True)
        with suppress(SagaIdTakenError):  # it had been completed when the last process was killed
            if kind == "with":
                _with(block)
            else:
                asyncio.run(_async_with(block))


def _with(block: Transaction) -> None:
    with block as tx:
        for name in STEPS:
            tx.step(book, unbook, name=name, args=(name,), compensate_args=(name,))


async def _async_with(block: Transaction) -> None:
    async with block as tx:
        for name in STEPS:
            await tx.astep(abook, aunbook, name=name, args=(name,), compensate_args=(name,))


def run_again(run: Run) -> dict[str, Any]:
    """Processes begin the block one after the other, and each but the last is killed."""
    kinds, hits, looks = run.told["again"], 0, []
    for number, die_at in enumerate((*run.told["kills"], None)):
        kind = kinds[number % len(kinds)]
        hits += run.child(lambda at, kind=kind: execute(run, kind, at), die_at)
        looks.append(_runs(run))
    faults = list(faults_of(read_log(run.folder), looks, hits, bool(run.told.get("sealed"))))
    points = [read_points(run.folder, pid) for pid in run.pids]
    return {"faults": faults, "kills": hits, "status": looks[-1][-1][0].status, "points": points}


def _runs(run: Run) -> Runs:
    found: Runs = []
    for number in count(1):
        run.looks += 1
        row, journal = look(run.address, id_of_run(run.saga_id, number), run.folder / f"look-{run.looks}")
        if row is None:
            return found
        found.append((row, journal))
    raise AssertionError


def faults_of(lines: Sequence[Line], looks: Sequence[Runs], kills: int, sealed: bool) -> Iterator[str]:
    """Yield what is wrong.

    :param looks: the runs that were stored when each process had ended.
    """
    for before, after in pairwise(looks):
        for (_, entries), (_, later) in zip(before, after, strict=False):
            if entries != later[: len(entries)]:
                yield "a journal was rewritten"
    statuses = [row.status for row, _ in looks[-1]]
    if statuses != [*["compensated"] * (len(statuses) - 1), "completed"]:
        yield f"the runs are {statuses}"
    if len(statuses) > kills + 1:
        yield f"there are {len(statuses)} runs, and {kills} processes were killed"
    yield from (f"run {number} is still owned" for number, (row, _) in enumerate(looks[-1], 1) if row.owner is not None)
    standing: dict[str, None] = {}
    for line in lines:
        number = line.step.partition("@")[2]
        if line.verb == "start" and (left := [step for step in standing if not step.endswith(f"@{number}")]):
            yield f"{line.step} was begun, and {left} is there"
        elif line.verb == "did":
            standing[line.step] = None
        elif line.verb == "undid":
            if line.step in standing and line.step != next(reversed(standing)):
                yield f"{line.step} was undone before {next(reversed(standing))}"
            standing.pop(line.step, None)
    expected = [f"{name}@{len(statuses)}" for name in STEPS]
    if list(standing) != expected:
        yield f"{list(standing)} is there in the end, and should be {expected}"
    calls = Counter((line.verb, line.step, line.attempt) for line in lines if line.verb in ("start", "undoing"))
    yield from (f"{call} ran {times} times" for call, times in calls.items() if times > 1)
    executed = Counter(line.step for line in lines if line.verb == "start")
    yield from (f"{step} was executed {times} times" for step, times in executed.items() if times > 1)
    texts = [entry.payload for _, journal in looks[-1] for entry in journal]
    if sealed and any(unbook.__name__ in text for text in texts):
        yield "what undoes a step can be read"
