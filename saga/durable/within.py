"""Refuses what would wait for itself: an execution that a step waits for, and that waits for the step's own."""

from __future__ import annotations

from saga.definition import Definition
from saga.drivers.base import Driver
from saga.drivers.within import outer_executions
from saga.durable.journal import Journal
from saga.errors import SagaDefinitionError
from saga.storage.protocol import Store

__all__ = ["check_not_awaited", "check_turn_comes"]


def check_not_awaited(definition: Definition, saga_id: str, store: Store) -> None:
    """See that an execution is not waited for in one of its own steps.

    :raises SagaDefinitionError: it is.
    """
    if any(driver.machine.saga_id == saga_id for driver in _outer(store)):
        raise SagaDefinitionError(
            f"saga {definition.name!r}: execution {saga_id!r} is waited for in one of its own steps, which it waits for: for "
            "ever; give the inner one an id of its own"
        )


def check_turn_comes(definition: Definition, saga_id: str, exclusive: str | None, store: Store) -> None:
    """See that an execution which waits for its turn does not wait for one that it is part of.

    :param exclusive: the key that it needs.
    :raises SagaDefinitionError: it does.
    """
    outer = _outer(store) if definition.in_line else []
    same = [driver.machine.saga_id for driver in outer if driver.definition.name == definition.name]
    why = None
    if definition.limit is not None and len(same) >= definition.limit:
        why = f"only {definition.limit} may run at once, and {', '.join(map(repr, same))} would wait for it"
    for driver in outer if exclusive is not None else ():
        row = store.get(driver.machine.saga_id)
        if row is not None and row.exclusive == exclusive:
            why = f"{row.saga_id!r} of saga {row.name!r} has the key {exclusive!r} until it ends, and would wait for it"
    if why is not None:
        raise SagaDefinitionError(
            f"saga {definition.name!r}: execution {saga_id!r} is waited for in a step of one that it has to wait for: {why}, "
            "for ever; submit() it, or make its steps part of the outer saga"
        )


def _outer(store: Store) -> list[Driver]:
    return [driver for driver in outer_executions() if isinstance(driver.journal, Journal) and driver.journal.store is store]
