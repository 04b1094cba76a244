"""What is told of an execution that a worker leaves to a person: observers hear of that end as of every other."""

from __future__ import annotations

from collections.abc import Sequence

from saga.awaitables import answer
from saga.context import Context
from saga.definition import Definition, ExecutionInfo
from saga.drivers.calls import listens
from saga.drivers.interrupts import is_ctrl_c
from saga.drivers.stints import end_stints, stints_of
from saga.durable.rebuild import rebuild
from saga.events import STUCK, SagaStuck
from saga.logging import SagaLogger
from saga.own_log import LOG
from saga.storage.records import Entry, StoredExecution

__all__ = ["has_a_logger", "tell_observers"]


def has_a_logger(definition: Definition) -> bool:
    """Whether one of its observers writes a line of what is stuck."""
    return any(isinstance(one, SagaLogger) and listens(one) for one in definition.observers)


def tell_observers(definition: Definition, row: StoredExecution, entries: Sequence[Entry], stuck: SagaStuck) -> None:
    """Tell the observers that an execution is stuck, once that is stored.

    :param entries: the journal before that.
    """
    observers = [one for one in definition.observers if listens(one)]
    if not observers:
        return
    info = _info(definition, row, entries, stuck)
    observers = stints_of(observers, info)
    for observer in observers:
        try:
            left = observer(stuck, info)
            if left is not None:
                answer(left, "it", "give a plain function")
        except Exception:
            LOG.exception("observer %r raised on the end of saga %s", observer, row.saga_id)
    end_stints(observers, STUCK, None)


def _info(definition: Definition, row: StoredExecution, entries: Sequence[Entry], stuck: SagaStuck) -> ExecutionInfo:
    """Return what is known of the execution: its id alone where its journal cannot be read, or fits the definition no more."""
    try:
        rebuilt = rebuild(definition, row, entries)
        machine = rebuilt.machine
        machine.record(stuck)
    except BaseException as error:  # what stands in a journal makes users' objects
        if is_ctrl_c(error):
            raise
        return ExecutionInfo(row.name, row.saga_id, Context())
    events = tuple(machine.events)
    return ExecutionInfo(row.name, row.saga_id, rebuilt.views.context, machine.plan, lambda: events)
