"""Executions that a store remembers are started here: once for each id. Who starts one again gets the first one's outcome."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from saga import events as e
from saga.context import Context
from saga.definition import Definition
from saga.drivers.base import Driver
from saga.drivers.interrupts import put_straight
from saga.drivers.results import raised_or
from saga.durable.journal import Journal
from saga.durable.leases import keeper_of, owner
from saga.durable.rebuild import codec_of, entries_of, rebuild, status_of, take_up
from saga.durable.values import encode_input
from saga.errors import SagaIdTakenError, UnknownExecutionError
from saga.machine import Machine
from saga.result import SagaResult
from saga.storage.opened import check_store, store_of
from saga.storage.protocol import Lease, NewExecution, Store, StoredExecution

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution

__all__ = ["astart", "create", "start"]

D = TypeVar("D", bound=Driver)


def start(
    definition: Definition, driver: type[D], context: Context, saga_id: str, store: Store | str | os.PathLike[str]
) -> D | SagaResult:
    """Return what runs a new execution; where the id exists already, wait for its outcome and return that."""
    opened = store_of(store)
    created = create(definition, driver, definition.machine(saga_id), context, opened)
    return _join(definition, driver, saga_id, opened) if isinstance(created, StoredExecution) else created


async def astart(
    definition: Definition, context: Context, saga_id: str, store: Store | str | os.PathLike[str]
) -> AsyncExecution | SagaResult:
    """As :func:`start`, in the running event loop. What was created when a cancellation strikes is undone at once."""
    import asyncio

    from saga.drivers.aio import AsyncExecution
    from saga.drivers.to_the_end import in_thread

    struck: list[BaseException] = []
    check_store(store)
    # What is open already needs no thread.
    opened = await in_thread(partial(store_of, store), struck.append) if isinstance(store, str | os.PathLike) else store
    found: AsyncExecution | StoredExecution | SagaResult | None = None
    if not struck:
        machine = definition.machine(saga_id)
        execution, journal, new = _new(definition, AsyncExecution, machine, context, opened)
        found = await in_thread(partial(_begin, execution, journal, new), struck.append)
    pauses = _pauses()
    while not struck:
        if isinstance(found, (AsyncExecution, SagaResult)):
            return found
        if found is None:
            await asyncio.sleep(next(pauses))
        found = await in_thread(partial(_look, definition, AsyncExecution, saga_id, opened), struck.append)
    if isinstance(found, AsyncExecution):
        await found.leave(struck[0])
        raised_or(found)
    raise struck[0]


def create(definition: Definition, driver: type[D], machine: Machine, context: Context, store: Store) -> D | StoredExecution:
    """Store a new execution and return what runs it, or return the execution that has its id already.

    Where an interrupt struck in between, what is returned is to be run all the same: it is given up, and raises that.

    :raises EncodingError: the input cannot be stored; nothing is.
    :raises SagaIdTakenError: the id belongs to another saga or another input.
    """
    return _begin(*_new(definition, driver, machine, context, store))


def _new(
    definition: Definition, driver: type[D], machine: Machine, context: Context, store: Store
) -> tuple[D, Journal, NewExecution]:
    """Return what is to run a new execution, its journal, and what is to be stored of it.

    :raises EncodingError: the input cannot be stored.
    """
    saga_id, codec = machine.saga_id, codec_of(definition)
    encoded, digest = encode_input(context, codec, definition.version, store)
    machine.start(time.time(), encoded)
    journal = Journal(store, codec, Lease(saga_id, owner(), 1), e.Status.RUNNING)
    fingerprint = machine.plan.fingerprint
    new = NewExecution(saga_id, definition.name, definition.version, fingerprint, digest, str(e.Status.RUNNING))
    return driver(definition, machine, context, journal), journal, new


def _begin(execution: D, journal: Journal, new: NewExecution) -> D | StoredExecution:
    """Store a new execution and keep its lease, or return the one that has its id already: see :func:`create`."""
    machine, lease = execution.machine, execution.definition.lease
    try:
        existing = journal.create(new, machine, lease)
        if existing is None:
            journal.keep_lease(lease, execution)
            return execution
    except BaseException as error:
        if not journal.has_begun(machine, error):
            raise
        put_straight(execution, error)
        return execution
    saga_id, name = new.saga_id, new.name
    if existing.name != name:
        raise SagaIdTakenError(f"saga_id {saga_id!r} belongs to an execution of saga {existing.name!r}; give another")
    if existing.digest != new.digest:
        raise SagaIdTakenError(
            f"saga_id {saga_id!r} belongs to an execution of saga {name!r} with another input; the same id stands for the "
            "same execution, so give another id, or the same input to get its outcome"
        )
    return existing


def _join(definition: Definition, driver: type[D], saga_id: str, store: Store) -> D | SagaResult:
    """Wait until an execution has ended and return its result, or what finishes it if its owner dies meanwhile.

    :raises DefinitionChangedError: it is one of a definition that is not compatible.
    """
    pauses = _pauses()
    while (found := _look(definition, driver, saga_id, store)) is None:
        time.sleep(next(pauses))
    return found


def _pauses() -> Iterator[float]:
    """Yield the seconds to wait between two looks at an execution."""
    pause = 0.01
    while True:
        yield pause
        pause = min(0.5, pause * 1.5)


def _look(definition: Definition, driver: type[D], saga_id: str, store: Store) -> D | SagaResult | None:
    """Return the result of an execution that has ended, what finishes it if its owner has died, or ``None``: it goes on."""
    row = store.get(saga_id)
    if row is None:
        raise UnknownExecutionError(f"execution {saga_id!r} was purged")
    if status_of(row).terminal:
        return rebuild(definition, row, entries_of(store, saga_id)).result()
    if row.lease_until <= store.now():
        for claimed in store.claim(owner(), definition.lease, saga_id=row.saga_id):
            lease = Lease(row.saga_id, owner(), claimed.epoch)
            try:
                if not status_of(claimed).terminal:
                    execution = take_up(definition, lambda plan: driver, claimed, store, entries_of(store, saga_id))
                    if store.inbox(saga_id):
                        execution.notify()
                    return execution
            except BaseException:
                keeper_of(store).give_back(lease)
                raise
            store.release(lease)  # somebody else ended it meanwhile
    return None
