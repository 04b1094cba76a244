"""Executions that a store remembers are started here: once for each id. Who starts one again gets the first one's outcome."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from saga import events as e
from saga.clocks import host_time
from saga.context import Context
from saga.definition import Definition, check_transacts
from saga.drivers.base import Driver
from saga.drivers.interrupts import put_straight
from saga.drivers.results import raised_or
from saga.durable.journal import Journal
from saga.durable.leases import claim, keeper_of, owner
from saga.durable.rebuild import codec_of, entries_of, load, rebuild, status_of, take_up
from saga.durable.submit import check_same, new_execution, wanted_of
from saga.durable.values import encode_input
from saga.durable.within import check_not_awaited, check_turn_comes
from saga.errors import UnknownExecutionError
from saga.machine import Machine, Plan, back
from saga.result import SagaResult
from saga.storage.claims import fits_one
from saga.storage.opened import check_store, store_of
from saga.storage.protocol import Store
from saga.storage.records import Lease, NewExecution, StoredExecution
from saga.storage.rules import CLAIMABLE, check_not_held

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution

__all__ = ["ajoin", "astart", "create", "join", "pauses", "start"]

D = TypeVar("D", bound=Driver)


def start(
    definition: Definition,
    driver: type[D],
    context: Context,
    saga_id: str,
    store: Store | str | os.PathLike[str],
    stop: threading.Event | None = None,
) -> D | SagaResult:
    """Return what runs a new execution, in its turn; where the id exists already, wait for its outcome and return that.

    :param stop: when it is set, nothing is waited for any more: how the execution stands then is returned.
    """
    opened = store_of(store)
    created = _begin(*_new(definition, driver, definition.machine(saga_id), context, opened))
    if isinstance(created, StoredExecution):
        return join(definition, lambda plan: driver, saga_id, opened, stop=stop)
    if created.machine.status is not e.Status.SUBMITTED:
        return created
    try:
        return join(definition, lambda plan: driver, saga_id, opened, created, stop)
    except BaseException as error:
        call_off(created, opened, error)
        raise


async def astart(
    definition: Definition,
    context: Context,
    saga_id: str,
    store: Store | str | os.PathLike[str],
    stop: threading.Event | None = None,
) -> AsyncExecution | SagaResult:
    """As :func:`start`, in the running event loop. What was created when a cancellation strikes is undone at once."""
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
        found = await _abegin(execution, journal, new, struck)
    mine = found if isinstance(found, AsyncExecution) and found.machine.status is e.Status.SUBMITTED else None
    if mine is not None:
        found = None
    if not struck and not isinstance(found, AsyncExecution):
        try:
            found = await ajoin(definition, saga_id, opened, struck, mine, stop)
        except Exception as error:
            if mine is not None:
                await in_thread(partial(call_off, mine, opened, error), struck.append)
            if struck:
                raise struck[0] from error
            raise
    if not struck:
        assert isinstance(found, (AsyncExecution, SagaResult))
        return found
    if found is None and mine is not None:
        await in_thread(partial(call_off, mine, opened, struck[0]), struck.append)
    if isinstance(found, AsyncExecution):
        await found.leave(struck[0])
        raised_or(found)
    raise struck[0]


def call_off(execution: Driver, store: Store, error: BaseException) -> None:
    """End an execution that waited for its turn when an interrupt struck; where somebody has begun it meanwhile, it goes on."""
    lease = Lease(execution.machine.saga_id, owner(), 0)
    for row in claim(store, execution.definition.lease, saga_id=lease.saga_id):
        lease = lease._replace(epoch=row.epoch)
        journal = execution.journal
        assert isinstance(journal, Journal)
        if row.status == e.Status.SUBMITTED and len(store.journal(lease.saga_id)) == journal.written:
            machine, at = execution.machine, host_time()
            back.turn_back(machine, None, error, at)
            machine.progress(at)
            journal.take(lease)
            journal.commit(machine)
        else:
            store.release(lease)


def create(definition: Definition, driver: type[D], machine: Machine, context: Context, store: Store) -> D | StoredExecution:
    """Store a new execution and return what runs it, or return the execution that has its id already.

    Where an interrupt struck in between, what is returned is to be run all the same: it is given up, and raises that.

    :raises EncodingError: the input cannot be stored; nothing is.
    :raises SagaIdTakenError: the id belongs to another saga or another input.
    """
    return _begin(*_new(definition, driver, machine, context, store))


def _new(
    definition: Definition,
    driver: type[D],
    machine: Machine,
    context: Context,
    store: Store,
) -> tuple[D, Journal, NewExecution]:
    """Return what is to run a new execution, its journal, and what is to be stored of it.

    :raises EncodingError: the input cannot be stored.
    :raises SagaDefinitionError: the store cannot do what a step needs.
    """
    check_transacts(definition, store)
    saga_id, codec = machine.saga_id, codec_of(definition)
    encoded, digest = encode_input(context, codec, definition.version, store)
    status = e.Status.SUBMITTED if definition.in_line else e.Status.RUNNING
    new = new_execution(definition, saga_id, digest, context, status)
    journal = Journal(store, codec, Lease(saga_id, owner(), 1), status)
    journal.keep, journal.in_line = definition.undoable_for, definition.in_line
    execution = driver(definition, machine, context, journal)
    if definition.in_line:
        new = new._replace(called=definition.lease)
        machine.submit(host_time(), encoded, execution.carried())
    else:
        machine.start(host_time(), encoded, execution.carried())
    return execution, journal, new


def _begin(execution: D, journal: Journal, new: NewExecution) -> D | StoredExecution:
    """Store a new execution and keep its lease, or return the one that has its id already: see :func:`create`.

    :raises SagaHeldError: its saga is held.
    """
    machine, lease = execution.machine, execution.definition.lease
    try:
        if machine.status is e.Status.SUBMITTED:
            if journal.store.get(new.saga_id) is None:  # else it is waited for
                check_not_held(new, journal.store.holds())
                check_turn_comes(execution.definition, new.saga_id, new.exclusive, journal.store)
            existing = journal.submit(new, machine)
        else:
            existing = None if journal.written else journal.create(new, machine, lease)
            if existing is None:
                journal.keep_lease(lease, execution)
        if existing is None:
            return execution
    except BaseException as error:
        if not journal.has_begun(machine, error):
            raise
        if machine.status is e.Status.SUBMITTED:  # it waits for its turn no more
            call_off(execution, journal.store, error)
            raise
        put_straight(execution, error)
        return execution
    check_same(existing, new, journal.first_entry(machine), journal.codec, journal.store)
    return existing


async def _abegin(
    execution: AsyncExecution, journal: Journal, new: NewExecution, struck: list[BaseException]
) -> AsyncExecution | StoredExecution:
    """As :func:`_begin`, with no thread where the store needs none. Cancellations meanwhile are added to ``struck``."""
    import asyncio

    from saga.drivers.to_the_end import in_thread, to_the_end

    machine, lease = execution.machine, execution.definition.lease
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    begun = None if machine.status is e.Status.SUBMITTED else journal.begin_create(new, machine, lease, end)
    if begun is None:
        return await in_thread(partial(_begin, execution, journal, new), struck.append)

    def strike(error: BaseException) -> None:
        struck.append(error)
        if begun.cut_off:
            begun.end()
            end()

    await to_the_end(lambda: ended, strike)
    if journal.written:
        return _begin(execution, journal, new)
    # It may be stored nevertheless, or another may be.
    await in_thread(partial(journal.is_found, machine), struck.append)
    return await in_thread(partial(_begin, execution, journal, new), struck.append)


def join(
    definition: Definition,
    drivers: Callable[[Plan], type[D]],
    saga_id: str,
    store: Store,
    mine: D | None = None,
    stop: threading.Event | None = None,
) -> D | SagaResult:
    """Wait until an execution has ended and return its result, or what finishes it if nobody runs it meanwhile.

    :param drivers: chooses the driver by the plan, which of a block is known by its journal only. What it raises is raised, and
        the execution is left as it is.
    :param mine: what runs it when it is its turn, where it was stored here.
    :param stop: when it is set, how the execution stands then is returned.
    :raises DefinitionChangedError: it is one of a definition that is not compatible.
    """
    looks = pauses()
    while (found := _look(definition, drivers, saga_id, store, mine)) is None:
        if stop is not None and stop.is_set():
            return load(definition, saga_id, store)
        time.sleep(next(looks))
    return found


async def ajoin(
    definition: Definition,
    saga_id: str,
    store: Store,
    struck: list[BaseException],
    mine: AsyncExecution | None = None,
    stop: threading.Event | None = None,
) -> AsyncExecution | SagaResult | None:
    """As :func:`join`, in the running event loop.

    :param struck: gets the cancellations that strike meanwhile; then what was found by then is returned, or ``None``.
    """
    import asyncio

    from saga.drivers.aio import AsyncExecution
    from saga.drivers.to_the_end import in_thread

    looks = pauses()
    while True:
        look = partial(_look, definition, lambda plan: AsyncExecution, saga_id, store, mine)
        found = await in_thread(look, struck.append)
        if found is not None or struck:
            return found
        if stop is not None and stop.is_set():
            return await in_thread(partial(load, definition, saga_id, store), struck.append)
        try:
            await asyncio.sleep(next(looks))
        except asyncio.CancelledError as error:
            struck.append(error)
            return None


def pauses() -> Iterator[float]:
    """Yield the seconds to wait between two looks at an execution."""
    pause = 0.01
    while True:
        yield pause
        pause = min(0.5, pause * 1.5)


def _look(
    definition: Definition, drivers: Callable[[Plan], type[D]], saga_id: str, store: Store, mine: D | None = None
) -> D | SagaResult | None:
    """Return the result of an execution that has ended, what finishes it if nobody runs it; ``None``: it goes on, or waits."""
    row = store.get(saga_id)
    if row is None:
        raise UnknownExecutionError(f"execution {saga_id!r} was purged")
    if status_of(row).terminal:
        return rebuild(definition, row, entries_of(store, saga_id)).result()
    if row.status in CLAIMABLE and row.lease_until <= (now := store.now()):
        if row.called_until is not None and row.called_until < now + 2 / 3 * definition.lease:
            store.renew_call(saga_id, definition.lease)  # else others take it that the caller is gone
        wanted = wanted_of(definition)
        if fits_one(row, [wanted]) is None:
            rebuild(definition, row, entries_of(store, saga_id))  # which says why
        for claimed in claim(store, definition.lease, saga_id=row.saga_id, wanted=[wanted]):
            lease = Lease(row.saga_id, owner(), claimed.epoch)
            try:
                entries = entries_of(store, saga_id)
                untouched = mine is not None and isinstance(mine.journal, Journal) and len(entries) == mine.journal.written
                if mine is not None and untouched and claimed.status == e.Status.SUBMITTED:
                    assert isinstance(mine.journal, Journal)
                    mine.journal.take(lease)
                    mine.journal.keep_lease(definition.lease, mine)
                    mine.machine.start(host_time())
                    return mine
                if claimed.status in CLAIMABLE:
                    execution = take_up(definition, drivers, claimed, store, entries)
                    if store.inbox(saga_id):
                        execution.notify()
                    return execution
            except BaseException:
                keeper_of(store).give_back(lease)
                raise
            store.release(lease)  # somebody else ended it meanwhile
        check_turn_comes(definition, saga_id, row.exclusive, store)
    check_not_awaited(definition, saga_id, store)
    return None
