"""``saga run`` and ``submit``: executions of the inputs in a file, here and now or by workers."""

from __future__ import annotations

import queue
import shlex
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from saga.cli.exits import DONE, INTERRUPTED, USAGE, usage, worst
from saga.cli.inputs import Inputs, Item, inputs
from saga.cli.options import TAG, Settings, common
from saga.cli.records import print_record, print_records
from saga.cli.shown import Progress, counted, line, marked, say, status
from saga.errors import EncodingError, SagaError, SagaIdTakenError
from saga.plain import one_line, text_of

if TYPE_CHECKING:
    from saga.result import SagaResult
    from saga.saga import Saga
    from saga.working.here import Here

__all__ = ["COMMANDS", "Ended", "ended", "result_record"]

_GOES_ON: Final = ("submitted", "running", "compensating")
"""Statuses of what somebody is to go on with."""


class Ended(NamedTuple):
    """What became of an input: of its execution, or why there is none."""

    saga_id: str | None
    status: str
    text: str
    record: dict[str, Any]


def result_record(result: SagaResult[Any]) -> dict[str, Any]:
    """Return the record of a result."""
    return {
        "saga_id": result.saga_id,
        "name": result.saga,
        "status": str(result.status),
        "reason": result.reason,
        "error": None if result.error is None else f"{type(result.error).__name__}: {one_line(result.error)}",
        "in_doubt": list(result.in_doubt),
        "elapsed": result.elapsed,
    }


def ended(result: SagaResult[Any]) -> Ended:
    """Return what became of an execution."""
    return Ended(result.saga_id, str(result.status), result.headline(), result_record(result))


def _refused(saga: str, saga_id: str | None, error: SagaError) -> Ended:
    text = f"{type(error).__name__}: {text_of(error)}"
    said: dict[str, Any] = {
        "saga_id": saga_id,
        "name": saga,
        "status": "refused",
        "reason": None,
        "error": text,
        "in_doubt": [],
        "elapsed": 0.0,
    }
    return Ended(saga_id, "refused", text_of(error), said)


def _in_threads(saga: Saga[Any], here: Here, items: Iterable[Item], most: int) -> Iterator[Ended]:
    """Execute inputs, so many at once; nothing is begun any more when it is time to stop."""
    todo: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[Ended | BaseException] = queue.SimpleQueue()

    def serve() -> None:
        while (item := todo.get()) is not None:
            saga_id, value = item
            try:
                done.put(ended(here.execute(value, saga_id)))
            except (SagaIdTakenError, EncodingError) as error:
                done.put(_refused(saga.name, saga_id, error))
            except BaseException as error:
                done.put(error)

    failed: list[BaseException] = []

    def ended_now() -> Iterator[Ended]:
        found = done.get()
        if isinstance(found, BaseException):
            failed.append(found)
        else:
            yield found

    threads = in_hand = 0
    try:
        for item in items:
            if in_hand == most:
                yield from ended_now()
                in_hand -= 1
            if here.stopping.is_set() or failed:
                break
            if threads == in_hand:
                # Daemons: who interrupts twice is not kept by them; a store remembers what they were at.
                threading.Thread(target=serve, name="saga run", daemon=True).start()
                threads += 1
            todo.put(item)
            in_hand += 1
        for _ in range(in_hand):  # what one fails by interrupts none of the others
            yield from ended_now()
    finally:
        for _ in range(threads):
            todo.put(None)
    if failed:
        raise failed[0]


async def _in_a_loop(saga: Saga[Any], here: Here, items: Iterable[Item], most: int) -> AsyncIterator[Ended]:
    """Execute inputs in the running event loop: as :func:`_in_threads`."""
    import asyncio

    async def execute(saga_id: str | None, value: dict[str, Any]) -> Ended:
        try:
            return ended(await here.aexecute(value, saga_id))
        except (SagaIdTakenError, EncodingError) as error:
            return _refused(saga.name, saga_id, error)

    in_hand: set[asyncio.Task[Ended]] = set()
    failed: list[BaseException] = []

    async def ended_now() -> list[Ended]:
        nonlocal in_hand
        done, in_hand = await asyncio.wait(in_hand, return_when=asyncio.FIRST_COMPLETED)
        failed.extend(error for task in done if (error := task.exception()) is not None)
        return [task.result() for task in done if task.exception() is None]

    coming = iter(items)
    # In a thread: what is in hand goes on while the next line has yet to come.
    while (item := await asyncio.to_thread(next, coming, None)) is not None:
        if len(in_hand) == most:
            for one in await ended_now():
                yield one
        if here.stopping.is_set() or failed:
            break
        in_hand.add(asyncio.create_task(execute(*item)))
    while in_hand:  # what one fails by interrupts none of the others
        for one in await ended_now():
            yield one
    if failed:
        raise failed[0]


@click.command()
@click.argument("reference", metavar="MODULE:SAGA")
@inputs
@click.option("--concurrency", type=click.IntRange(1), default=4, metavar="N", help="So many at the same time.")
@common
@click.pass_obj
def run(settings: Settings, reference: str, source: str | None, key: str | None, prefix: str | None, concurrency: int) -> int:
    """Execute a saga for each input, and say how each ended that did not complete.

    With a store, and ids by --id or --prefix, the same command goes on where it was interrupted: what has ended is not executed
    again. The first Ctrl-C, or SIGTERM, lets calls that run end, and what follows; what then waits for a signal, a time or
    another attempt is left in the store, for a worker or the same command to go on with. Without a store it is undone.
    """
    from saga.working.here import Here
    from saga.working.service import stopped_by_signals

    saga = settings.saga(reference)
    store = settings.store(make=True, needed=False)
    given = Inputs(source, key, prefix)
    total = given.check()
    here = Here(saga.definition, store)  # what is wrong with it is said before anything runs
    told = _Told(settings, reference, total, here)
    items = given.until(here.stopping)
    with stopped_by_signals(here.stop):
        if saga.plan.asynchronous:
            import asyncio

            async def tell() -> None:
                async for one in _in_a_loop(saga, here, items, concurrency):
                    told.tell(one)

            asyncio.run(tell())
        else:
            for one in _in_threads(saga, here, items, concurrency):
                told.tell(one)
    return told.summary()


class _Told:
    """What is said while executions end, and in the end."""

    def __init__(self, settings: Settings, reference: str, total: int | None, here: Here) -> None:
        self._settings, self._reference, self._total = settings, reference, total
        self._here = here
        self._unread: BrokenPipeError | None = None
        self._left = 0  # in the store, waiting
        self._progress = Progress(total)
        self._statuses: Counter[str] = Counter()
        self._records: list[dict[str, Any]] = []

    def _how(self) -> str:
        return ", ".join(f"{number} {name}" for name, number in self._statuses.most_common()) or "none"

    def tell(self, one: Ended) -> None:
        """Say how one has ended. Where nobody reads that any more, what is in hand ends all the same, and no more is begun."""
        if self._unread is None:
            try:
                self._tell(one)
            except BrokenPipeError as error:
                self._unread = error
                self._here.stop()

    def _tell(self, one: Ended) -> None:
        self._statuses[one.status] += 1
        left = self._here.stopping.is_set() and one.status in _GOES_ON
        self._left += left
        form = self._settings.form
        if form == "json":
            self._records.append(one.record)
        elif form == "jsonl" or one.status != "completed" or self._total == 1:
            self._progress.clear()
            if form == "jsonl":
                print_record(one.record)
            else:
                mark = status(one.status).partition(" ")[0]
                say(line(f"{mark} {self._waits(one) if left else one.text}"))
        self._progress.show(self._statuses.total(), self._how())

    def _waits(self, one: Ended) -> str:
        """Say what was left in the store, and what it waits for."""
        waits = self._settings.operations().show(str(one.saga_id)).waits
        return f"saga {one.record['name']!r} ({one.saga_id}) is left: {waits or 'another process runs it'}"

    def _worker(self) -> str:
        """Return the command that goes on with what was left."""
        given = self._settings.store_given
        store = [] if given is None else ["--store", given if self._settings.hidden(given) == given else "..."]
        return shlex.join(["saga", "worker", "--import", self._reference, *store])

    def summary(self) -> int:
        """Say how all have ended, and return the exit code.

        :raises BrokenPipeError: nobody has read what was said.
        """
        if self._unread is not None:
            raise self._unread
        self._progress.clear()
        number, elapsed = self._statuses.total(), self._progress.elapsed
        if self._settings.form == "json":
            print_records("json", "results", self._records)
        elif self._settings.form == "text" and self._total != 1:
            say(f"{counted(number)}: {self._how()} in {elapsed:.1f} s ({number / max(elapsed, 0.001):.0f}/s)")
        if self._here.stopping.is_set():
            of = "" if self._total is None else f" of {self._total}"
            click.echo(f"saga: stopped after {number - self._left}{of}; the same command goes on where ids are given", err=True)
            if self._left:
                waits = "1 waits in the store, and goes" if self._left == 1 else f"{self._left} wait in the store, and go"
                click.echo(f"saga: {waits} on by: {self._worker()}", err=True)
            return INTERRUPTED
        return max(worst(self._statuses), USAGE if self._statuses["refused"] else DONE)


@click.command()
@click.argument("reference", metavar="MODULE:SAGA")
@inputs
@click.option("--at", metavar="TIME", help="Not to be begun before then: 2026-12-24T18:00+01:00; without a zone, local time.")
@click.option("--priority", type=click.IntRange(0), default=0, metavar="N", help="Each point is worth a minute of waiting.")
@click.option("--tag", "tags", multiple=True, type=TAG, metavar="KEY=VALUE", help="What lists find them by.")
@common
@click.pass_obj
def submit(
    settings: Settings,
    reference: str,
    source: str | None,
    key: str | None,
    prefix: str | None,
    at: str | None,
    priority: int,
    tags: tuple[tuple[str, str], ...],
) -> int:
    """Submit an execution of a saga for each input. The same id with the same input is the same execution."""
    from saga.stored import Submission

    saga, given = settings.saga(reference), Inputs(source, key, prefix)
    store = settings.store(make=True)
    given.check()
    opens = _moment(at)
    several = (Submission(value, saga_id, opens, dict(tags) or None, priority) for saga_id, value in given)
    code = DONE
    try:
        with usage():
            handles = saga.submit_many(several, store=store)
    except SagaIdTakenError as error:
        handles, code = error.handles, USAGE
        click.echo(f"saga: {one_line(error)}", err=True)
    if settings.form != "text":
        print_records(settings.form, "submitted", ({"saga_id": one.saga_id, "new": one.new} for one in handles))
        return code
    new = sum(one.new for one in handles)
    for one in handles if len(handles) <= 10 else ():
        say(line(f"{marked('·', '.')} {one.saga_id}{'' if one.new else ' was there already'}"))
    say(f"{new} submitted" + (f", {len(handles) - new} were there already" if new < len(handles) else ""))
    return code


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise click.UsageError(f"--at is {text!r}; give a time such as 2026-12-24T18:00+01:00") from error


COMMANDS: Final = {"run": run, "submit": submit}
