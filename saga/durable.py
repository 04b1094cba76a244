"""Executions that a store remembers: how they are begun, joined, and rebuilt from their journals."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from saga import events as e
from saga.context import Context
from saga.drivers.base import Driver
from saga.errors import DefinitionChangedError, SagaIdTakenError, UnknownExecutionError
from saga.importable import read_step
from saga.journal import (
    Journal,
    Recorded,
    digest_of,
    encode_context,
    first_payload,
    read_entry,
    rebuild_context,
    remember_texts,
)
from saga.leases import keeper_of, owner
from saga.machine import Machine
from saga.plan import OpenPlan, Plan
from saga.result import SagaResult
from saga.storage.opened import store_of
from saga.storage.protocol import Entry, Lease, NewExecution, Store, StoredExecution
from saga.views import Views

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution
    from saga.saga import Saga

__all__ = ["astart", "begin", "join", "load", "rebuild", "start", "take_up"]

D = TypeVar("D", bound=Driver)


def start(saga: Saga, driver: type[D], context: Context, saga_id: str, store: Store | str | os.PathLike[str]) -> D | SagaResult:
    """Return what runs a new execution; where the id exists already, wait for its outcome and return that."""
    opened = store_of(store)
    begun = begin(saga, driver, saga._machine(saga_id), context, opened)
    return join(saga, driver, saga_id, opened) if isinstance(begun, StoredExecution) else begun


async def astart(
    saga: Saga, context: Context, saga_id: str, store: Store | str | os.PathLike[str]
) -> AsyncExecution | SagaResult:
    """As :func:`start`, in the running event loop. What was begun when a cancellation strikes is undone at once."""
    import asyncio

    from saga.drivers.aio import AsyncExecution, in_thread

    struck: list[BaseException] = []
    # What is open already needs no thread.
    opened = await in_thread(partial(store_of, store), struck.append) if isinstance(store, str | os.PathLike) else store
    found: AsyncExecution | StoredExecution | SagaResult | None = None
    if not struck:
        machine = saga._machine(saga_id)
        journal, new = _new(saga, machine, context, opened)
        existing = await in_thread(partial(journal.begin, new, machine, saga.lease), struck.append)
        found = _begun(saga, AsyncExecution, machine, context, journal, new, existing)
    waits = pauses()
    while not struck:
        if isinstance(found, (AsyncExecution, SagaResult)):
            return found
        if found is None:
            await asyncio.sleep(next(waits))
        found = await in_thread(partial(look, saga, AsyncExecution, saga_id, opened), struck.append)
    if isinstance(found, AsyncExecution):
        await found.leave(struck[0])
        saga._settle(found)
    raise struck[0]


def begin(saga: Saga, driver: type[D], machine: Machine, context: Context, store: Store) -> D | StoredExecution:
    """Store a new execution and return what runs it, or return the execution that has its id already.

    :raises EncodingError: the input cannot be stored; nothing is.
    :raises SagaIdTakenError: the id belongs to another saga or another input.
    """
    journal, new = _new(saga, machine, context, store)
    return _begun(saga, driver, machine, context, journal, new, journal.begin(new, machine, saga.lease))


def _new(saga: Saga, machine: Machine, context: Context, store: Store) -> tuple[Journal, NewExecution]:
    """Return what is to be stored of a new execution.

    :raises EncodingError: the input cannot be stored.
    """
    saga_id = machine.saga_id
    texts = encode_context(context, saga.codec)
    machine.start(time.time())
    journal = Journal(store, saga.codec, Lease(saga_id, owner(), 1), 0, e.Status.RUNNING, keeper_of(store))
    started = machine.events[0]
    assert isinstance(started, e.SagaStarted)
    journal.attach(started, first_payload(started, context, texts, saga.version))
    new = NewExecution(saga_id, saga.name, saga.version, machine.plan.fingerprint, digest_of(texts), str(e.Status.RUNNING))
    return journal, new


def _begun(
    saga: Saga,
    driver: type[D],
    machine: Machine,
    context: Context,
    journal: Journal,
    new: NewExecution,
    existing: StoredExecution | None,
) -> D | StoredExecution:
    """Return what runs a new execution that is stored, or the one that has its id already: see :func:`begin`."""
    saga_id = new.saga_id
    if existing is not None:
        if existing.name != saga.name:
            raise SagaIdTakenError(f"saga_id {saga_id!r} belongs to an execution of saga {existing.name!r}; give another")
        if existing.digest != new.digest:
            raise SagaIdTakenError(
                f"saga_id {saga_id!r} belongs to an execution of saga {saga.name!r} with another input; the same id stands for "
                "the same execution, so give another id, or the same input to get its outcome"
            )
        return existing
    execution = saga._execution(driver, machine, context, journal)
    journal.hold(saga.lease, execution.notify)
    return execution


def join(saga: Saga, driver: type[D], saga_id: str, store: Store) -> D | SagaResult:
    """Wait until an execution has ended and return its result, or what finishes it if its owner dies meanwhile.

    :raises DefinitionChangedError: it is one of a definition that is not compatible.
    :raises UnknownExecutionError: it was purged meanwhile.
    """
    waits = pauses()
    while (found := look(saga, driver, saga_id, store)) is None:
        time.sleep(next(waits))
    return found


def pauses() -> Iterator[float]:
    """Yield the seconds to wait between two looks at an execution."""
    pause = 0.01
    while True:
        yield pause
        pause = min(0.5, pause * 1.5)


def look(saga: Saga, driver: type[D], saga_id: str, store: Store) -> D | SagaResult | None:
    """Return the result of an execution that has ended, what finishes it if its owner has died, or ``None``: it goes on."""
    row = store.get(saga_id)
    if row is None:
        raise UnknownExecutionError(f"execution {saga_id!r} was purged")
    if e.Status(row.status).terminal:
        machine, views, _ = rebuild(saga, row, store.journal(saga_id))
        return SagaResult(machine, views.context)
    if row.lease_until <= store.now():
        for claimed in store.claim(owner(), saga.lease, saga_id=row.saga_id):
            lease = Lease(row.saga_id, owner(), claimed.epoch)
            try:
                if not e.Status(claimed.status).terminal:
                    execution = take_up(saga, lambda plan: driver, claimed, store, store.journal(saga_id))
                    if store.inbox(saga_id):
                        execution.notify()
                    return execution
            except BaseException:
                keeper_of(store).give_back(lease)
                raise
            store.release(lease)  # somebody else ended it meanwhile
    return None


def load(saga: Saga, saga_id: str, store: Store) -> SagaResult:
    """Return a stored execution as it stands now.

    :raises UnknownExecutionError: there is none.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible with ``saga``.
    """
    row = store.get(saga_id)
    if row is None or row.name != saga.name:
        raise UnknownExecutionError(f"there is no execution {saga_id!r} of saga {saga.name!r}")
    machine, views, _ = rebuild(saga, row, store.journal(saga_id))
    return SagaResult(machine, views.context)


def take_up(saga: Saga, drivers: Callable[[Plan], type[D]], row: StoredExecution, store: Store, entries: Sequence[Entry]) -> D:
    """Return what goes on with an execution that this process has claimed.

    :param drivers: chooses the driver by the plan: that of a block is known only when its journal is read.
    :param entries: its journal, read since it was claimed.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible.
    :raises EncodingError: its journal cannot be read.
    """
    journal = Journal(store, saga.codec, Lease(row.saga_id, owner(), row.epoch), 0, e.Status(row.status), keeper_of(store))
    machine, views, journal.written = rebuild(saga, row, entries)
    machine.recover(owner(), row.epoch, time.time())
    execution = saga._execution(drivers(machine.plan), machine, views.context, journal, views)
    journal.hold(saga.lease, execution.notify)
    return execution


def rebuild(saga: Saga, row: StoredExecution, entries: Sequence[Entry]) -> tuple[Machine, Views, int]:
    """Return the machine and the views an execution's journal leads to, and how many entries that has.

    :raises DefinitionChangedError: it was begun by a definition that is not compatible with ``saga``.
    :raises EncodingError: an entry cannot be read. :raises UnknownExecutionError: it was purged since its row was read.
    """
    machine = saga._machine(row.saga_id)
    plan = machine.plan
    if row.fingerprint != plan.fingerprint and row.version not in saga.compatible_with:
        raise DefinitionChangedError(
            f"execution {row.saga_id!r} was begun by version {row.version!r} of saga {row.name!r}, whose steps or policies "
            f"differ from those of version {saga.version!r} here; register the old definition beside the new one, or, if the "
            f"new one can finish what the old one began, say compatible_with=[{row.version!r}]"
        )
    recorded = [read_entry(entry, saga.codec) for entry in entries]
    if not recorded:
        raise UnknownExecutionError(f"execution {row.saga_id!r} was purged")
    context = rebuild_context(recorded[0], saga.codec)
    context._begin(plan, row.saga_id)
    views = Views(plan, context, saga.deadline is not None)
    try:
        for one in recorded:
            if isinstance(plan, OpenPlan) and isinstance(one.event, e.StepStarted) and "task" in one.more:
                plan.extend(read_step(one.event.step, one.more["task"]))
                machine.grow()
            _replay(views, machine, one)
            machine.record(one.event)
    except KeyError as error:
        raise DefinitionChangedError(
            f"execution {row.saga_id!r} of saga {row.name!r} has a step {error.args[0]!r}, which version {saga.version!r} lacks"
        ) from error
    for view in views.all():
        remember_texts(view, saga.codec)
    return machine, views, len(recorded)


def _replay(views: Views, machine: Machine, recorded: Recorded) -> None:
    """Do to the views what the driver did when the event happened, before the machine folds it."""
    event = recorded.event
    steps = machine.plan.by_name
    if isinstance(event, e.StepSucceeded):
        step = steps[event.step]
        given_up = machine.gave_up_on(step)
        view = views.take_over(step, views.for_compensate(step) if given_up else views.of(step), given_up)
        recorded.apply(view)
        view._run.results[step.name] = event.result
        view._run.previous = event.result
    elif isinstance(event, e.StepFailed):
        step = steps[event.step]
        view = views.for_compensate(step) if step.index in machine.stragglers else views.for_execute(step)
        views.keep(step, view)
        recorded.apply(view)
    elif isinstance(event, e.StepTimedOut):
        step = steps[event.step]
        view = views.for_execute(step)
        views.keep(step, view)
        recorded.apply(view)  # what was cancelled has ended, and told what it changed
    elif isinstance(event, (e.CompensationSucceeded, e.CompensationFailed)):
        recorded.apply(views.for_compensate(steps[event.step]))
    elif isinstance(event, e.GroupJoined):
        views.join(machine.plan.groups[event.group])


def got_on(entries: Sequence[Entry], recoveries: int) -> bool:
    """Return whether any outcome was recorded within the last ``recoveries`` recoveries."""
    seen = 0
    for entry in reversed(entries):
        if entry.kind in _OUTCOMES and '"in_doubt":true' not in entry.payload:
            return True
        seen += entry.kind == "SagaRecovered"
        if seen >= recoveries:
            return False
    return False


_OUTCOMES = {"StepSucceeded", "StepFailed", "StepSkipped", "CompensationSucceeded", "CompensationFailed", "OperatorActed"}
