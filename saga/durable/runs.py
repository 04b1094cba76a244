"""The runs of a block under one id: each is brought to its end before the next begins. How a block is run is not known here.

The first run has the id itself, a later one the id and its number. A tag says which id a run is of, so that those of one id are
found with one question, whichever of them are purged.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from saga.definition import Definition
from saga.drivers.results import raised_or
from saga.drivers.threads import Execution
from saga.durable.rebuild import entries_of, rebuild
from saga.durable.start import ajoin, join
from saga.errors import SagaDefinitionError, SagaIdTakenError
from saga.events import COMPENSATED, COMPLETED, PAUSED, Status
from saga.machine import Plan
from saga.result import SagaResult
from saga.storage.pages import each_of
from saga.storage.protocol import Store
from saga.storage.records import StoredExecution

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution

__all__ = ["RUN_OF", "aafter_earlier", "after_earlier", "id_of_run", "next_run", "taken"]

RUN_OF: Final = "run_of"
"""The tag of a block that may be begun again: the id that its runs have in common."""


def id_of_run(saga_id: str, run: int) -> str:
    """Return the id of a run, from 1, of those under ``saga_id``."""
    return saga_id if run == 1 else f"{saga_id}~{run}"


def after_earlier(definition: Definition, saga_id: str, store: Store) -> int:
    """Wait until the runs before have ended, finish one whose process is gone, and return the number of the run to begin.

    One whose steps are asynchronous is finished in an event loop of its own.

    :raises SagaIdTakenError: the last one is completed, or a person has to act on it first.
    :raises SagaDefinitionError: its steps are asynchronous, and an event loop runs here, which would wait for this.
    """
    while isinstance(found := next_run(definition, saga_id, store), StoredExecution):
        drivers = partial(_driver_of, definition.name, found.saga_id)
        drivers(rebuild(definition, found, entries_of(store, found.saga_id)).machine.plan)  # refused before it is claimed
        left = join(definition, drivers, found.saga_id, store)
        if isinstance(left, Execution):
            left.run()
            raised_or(left)
        elif not isinstance(left, SagaResult):
            import asyncio

            return asyncio.run(_aafter(left, definition, saga_id, store))
    return found


def _driver_of(name: str, saga_id: str, plan: Plan) -> type[Execution | AsyncExecution]:
    if not plan.asynchronous:
        return Execution
    import asyncio

    from saga.drivers.aio import AsyncExecution

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return AsyncExecution
    raise SagaDefinitionError(
        f"transaction {name!r}: its earlier run {saga_id!r} has async functions, which an event loop has to run, and this "
        "`with` would keep the running one waiting; use `async with`"
    )


async def _aafter(left: AsyncExecution, definition: Definition, saga_id: str, store: Store) -> int:
    await left.run()
    raised_or(left)
    return await aafter_earlier(definition, saga_id, store)  # in this loop, where it may have left what outlives its timeout


async def aafter_earlier(definition: Definition, saga_id: str, store: Store) -> int:
    """As :func:`after_earlier`, in the running event loop."""
    from saga.drivers.aio import AsyncExecution
    from saga.drivers.to_the_end import in_thread

    struck: list[BaseException] = []
    while True:
        found = await in_thread(partial(next_run, definition, saga_id, store), struck.append)
        left: AsyncExecution | object = None
        if isinstance(found, StoredExecution) and not struck:
            left = await ajoin(definition, found.saga_id, store, struck)
        if struck:
            if isinstance(left, AsyncExecution):
                await left.leave(struck[0])
            raise struck[0]
        if isinstance(left, AsyncExecution):
            await left.run()
            raised_or(left)
        if not isinstance(found, StoredExecution):
            return found


def next_run(definition: Definition, saga_id: str, store: Store) -> int | StoredExecution:
    """Return the number of the run that can begin now, or the earlier one that has not ended.

    :raises SagaIdTakenError: see :func:`after_earlier`.
    """
    run, last = max(_runs(definition, saga_id, store), key=lambda one: one[0], default=(0, None))
    if last is None or last.status == COMPENSATED:
        return run + 1
    if Status(last.status).terminal or last.status == PAUSED:
        raise taken(last, saga_id, last.lease_until > store.now())
    return last


def _runs(definition: Definition, saga_id: str, store: Store) -> Iterator[tuple[int, StoredExecution]]:
    first = store.get(saga_id)
    if first is not None:
        if (first.name, first.version) != (definition.name, definition.version):
            raise SagaIdTakenError(
                f"saga_id {saga_id!r} belongs to an execution of {first.name!r}, version {first.version!r}; give another",
                saga_id,
            )
        yield 1, first
    before = id_of_run(saga_id, 0)[:-1]
    for row in each_of(store.list, name=definition.name, version=definition.version, tags={RUN_OF: saga_id}):
        if row.saga_id.startswith(before):
            yield int(row.saga_id.removeprefix(before)), row


def taken(row: StoredExecution, saga_id: str, owned: bool) -> SagaIdTakenError:
    """Return the error of who would begin a block whose id is taken.

    :param owned: whether somebody runs it.
    """
    status = Status(row.status)
    which = repr(row.saga_id) if row.saga_id == saga_id else f"{saga_id!r} (its last run: {row.saga_id!r})"
    stands = str(status)
    if status == COMPLETED:
        follows = "what it did stands: give another id"
    elif status == COMPENSATED:
        follows = "give another id, or again=True to run it once more under this one"
    elif status.terminal or status == PAUSED:
        follows = "a person has to act on it first"
    elif owned:
        follows = "a block cannot be joined: give another id, or again=True to wait for its end"
    else:
        stands = "dead"
        follows = "a recovery undoes what it did, and so does again=True before it is run once more"
    return SagaIdTakenError(f"saga_id {which} belongs to an earlier block, which is {stands}; {follows}", saga_id)
