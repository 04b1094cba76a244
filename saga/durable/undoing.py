"""Undoing a completed execution on request: whether it may be, and what carries it out. No person and no process waits here."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from saga.definition import Definition
from saga.drivers.base import Driver
from saga.drivers.results import raised_or
from saga.drivers.threads import Execution
from saga.durable.leases import keeper_of, owner
from saga.durable.rebuild import Rebuilt, entries_of, journal_of, rebuild, row_of
from saga.errors import ActionRefusedError, StorageError
from saga.events import OperatorActed, SagaCompleted
from saga.machine import Machine, act, check, check_undo_to, standing_of
from saga.names import check_said, checked_name
from saga.result import SagaResult, undone
from saga.storage.protocol import Store
from saga.storage.records import Lease, StoredExecution

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution

__all__ = ["acarried_out", "aturn_back", "carried_out", "check_undo", "turn_back"]

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


def turn_back(definition: Definition, driver: type[D], saga_id: str, store: Store, who: str, why: str, to: str | None) -> D:
    """Claim a completed execution, and return what undoes it: nothing is stored of that yet.

    :param to: back to which step; ``None`` for all.
    :raises ValueError: ``why`` or ``who`` is empty.
    :raises UnknownExecutionError: there is no such execution of this saga.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible.
    :raises UnreadableJournalError: its journal is damaged.
    :raises ActionRefusedError: it cannot be undone, or may not be any more.
    :raises StorageError: somebody else acts on it.
    """
    saga_id = checked_name(saga_id, f"saga {definition.name!r}: saga_id")
    check_said(who, why)
    action = OperatorActed("undo", None if to is None else checked_name(to, "to"), who, why, time.time())
    _checked(definition, row_of(definition, saga_id, store), store, action)
    claimed = store.claim(owner(), definition.lease, saga_id=saga_id)
    if not claimed:
        raise StorageError(f"somebody else acts on execution {saga_id!r}: nothing was done; look at it and try again")
    try:
        rebuilt = _checked(definition, claimed[0], store, action)
        journal = journal_of(definition, claimed[0], store, rebuilt)
        act(rebuilt.machine, action)
        execution = driver(definition, rebuilt.machine, rebuilt.views.context, journal, rebuilt.views)
        journal.keep_lease(definition.lease, execution)
        return execution
    except BaseException:
        keeper_of(store).give_back(Lease(saga_id, owner(), claimed[0].epoch))
        raise


async def aturn_back(
    definition: Definition, saga_id: str, store: Callable[[], Store], who: str, why: str, to: str | None
) -> AsyncExecution:
    """As :func:`turn_back`, in the running event loop. Where a cancellation strikes, nothing is undone.

    :param store: opens the store.
    """
    from saga.drivers.aio import AsyncExecution
    from saga.drivers.to_the_end import in_thread

    struck: list[BaseException] = []
    work = lambda: turn_back(definition, AsyncExecution, saga_id, store(), who, why, to)  # noqa: E731
    execution = await in_thread(work, struck.append)
    if struck:
        assert execution.journal is not None
        await in_thread(execution.journal.give_back, struck.append)
        raise struck[0]
    return execution


def carried_out(execution: Execution) -> SagaResult[Any]:
    """Undo what was turned back, and return its result.

    :raises SagaCompensationError: it is stuck.
    """
    try:
        execution.run()
    finally:
        execution.free_context()
    return undone(raised_or(execution))


async def acarried_out(execution: AsyncExecution) -> SagaResult[Any]:
    """As :func:`carried_out`, in the running event loop."""
    try:
        await execution.run()
    finally:
        execution.free_context()
    return undone(raised_or(execution))


def _checked(definition: Definition, row: StoredExecution, store: Store, action: OperatorActed) -> Rebuilt:
    rebuilt = rebuild(definition, row, entries_of(store, row.saga_id))
    check_undo(definition, rebuilt.machine, action.step, store.now())
    return rebuilt
