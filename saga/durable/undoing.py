"""Undoing a completed execution on request: whether it may be, and what carries it out. No person and no process waits here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from saga.clocks import host_time
from saga.definition import Definition
from saga.drivers.base import Driver
from saga.drivers.results import raised_or
from saga.drivers.threads import Execution
from saga.durable.leases import claim, keeper_of, owner
from saga.durable.rebuild import Rebuilt, entries_of, journal_of, rebuild, row_of
from saga.durable.start import ajoin, join
from saga.durable.within import check_turn_comes
from saga.errors import ActionRefusedError, StorageError
from saga.events import OperatorActed, SagaCompleted
from saga.machine import Machine, act, check, check_undo_to, standing_of
from saga.names import check_said, checked_name
from saga.result import SagaResult, undone
from saga.storage.protocol import Store
from saga.storage.records import Lease, StoredExecution

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution

__all__ = ["aundone_here", "check_undo", "undone_here"]

D = TypeVar("D", bound=Driver)


def check_undo(definition: Definition, machine: Machine, to: str | None, now: float) -> None:
    """Refuse to undo what cannot, or may not, be undone any more.

    :param to: back to which step; ``None`` for all.
    :param now: the store's time.
    :raises ActionRefusedError: the text says why.
    """
    check("undo", to, standing_of(machine.state))
    if to is not None:
        check_undo_to(machine, to)
    completed = next(event.at for event in reversed(machine.events) if isinstance(event, SagaCompleted))
    if definition.undoable_for is not None and completed + definition.undoable_for < now:
        until = datetime.fromtimestamp(completed + definition.undoable_for, UTC).isoformat(sep=" ", timespec="seconds")
        raise ActionRefusedError(f"the execution was undoable until {until}")


def turn_back(
    definition: Definition, driver: type[D], saga_id: str, store: Store, who: str, why: str, to: str | None
) -> D | None:
    """Claim a completed execution, and return what undoes it: nothing is stored of that yet.

    Where executions of the definition wait for their turn, so does the undo: it is stored then, and ``None`` returned.

    :param to: back to which step; ``None`` for all.
    :raises ValueError: ``why`` or ``who`` is empty.
    :raises UnknownExecutionError: there is no such execution of this saga.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible.
    :raises UnreadableJournalError: its journal is damaged.
    :raises ActionRefusedError: it cannot be undone, or may not be any more.
    :raises StorageError: somebody else acts on it.
    """
    check_said(who, why)
    action = OperatorActed("undo", None if to is None else checked_name(to, "to"), who, why, host_time())
    row = row_of(definition, saga_id, store)
    _checked(definition, row, store, action)
    check_turn_comes(definition, saga_id, row.exclusive, store)
    claimed = claim(store, definition.lease, saga_id=saga_id)
    if not claimed:
        raise StorageError(f"somebody else acts on execution {saga_id!r}: nothing was done; look at it and try again")
    lease = Lease(saga_id, owner(), claimed[0].epoch)
    try:
        rebuilt = _checked(definition, claimed[0], store, action)
        journal = journal_of(definition, claimed[0], store, rebuilt)
        act(rebuilt.machine, action)
        if not definition.in_line:
            execution = driver(definition, rebuilt.machine, rebuilt.views.context, journal, rebuilt.views)
            journal.keep_lease(definition.lease, execution)
            return execution
        journal.commit(rebuilt.machine)
    except BaseException:
        keeper_of(store).give_back(lease)
        raise
    keeper_of(store).give_back(lease)
    return None


def undone_here(
    definition: Definition, saga_id: str, store: Store, who: str, why: str, to: str | None = None
) -> SagaResult[Any]:
    """Undo a completed execution, in its turn, and return its result. Errors are those of :func:`turn_back`, and

    :raises SagaCompensationError: it is stuck.
    """
    execution = turn_back(definition, Execution, saga_id, store, who, why, to)
    found = join(definition, lambda plan: Execution, saga_id, store) if execution is None else execution
    if isinstance(found, SagaResult):  # somebody else has undone it
        return undone(found)
    try:
        found.run()
    finally:
        found.free_context()
    return undone(raised_or(found))


async def aundone_here(
    definition: Definition, saga_id: str, opened: Callable[[], Store], who: str, why: str, to: str | None = None
) -> SagaResult[Any]:
    """As :func:`undone_here`, in the running event loop. Where a cancellation strikes before it has begun, nothing is undone;
    where it strikes while it waits for its turn, the undo is left to a worker or a recovery.

    :param opened: opens the store.
    """
    from saga.drivers.aio import AsyncExecution
    from saga.drivers.to_the_end import in_thread

    struck: list[BaseException] = []
    stores: list[Store] = []

    def begin() -> AsyncExecution | None:
        stores.append(opened())
        return turn_back(definition, AsyncExecution, saga_id, stores[0], who, why, to)

    found: AsyncExecution | SagaResult | None = await in_thread(begin, struck.append)
    if found is None and not struck:
        found = await ajoin(definition, saga_id, stores[0], struck)
    if struck:
        if isinstance(found, AsyncExecution):
            assert found.journal is not None
            await in_thread(found.journal.give_back, struck.append)
        raise struck[0]
    assert found is not None
    if isinstance(found, SagaResult):
        return undone(found)
    try:
        await found.run()
    finally:
        found.free_context()
    return undone(raised_or(found))


def _checked(definition: Definition, row: StoredExecution, store: Store, action: OperatorActed) -> Rebuilt:
    rebuilt = rebuild(definition, row, entries_of(store, row.saga_id))
    check_undo(definition, rebuilt.machine, action.step, store.now())
    return rebuilt
