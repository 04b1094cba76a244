"""What is told of an execution that a worker leaves to a person: observers hear of that end as of every other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from saga.awaitables import answer
from saga.context import Context
from saga.definition import Definition, ExecutionInfo
from saga.drivers.calls import listens
from saga.drivers.observing import has_struck
from saga.drivers.stints import end_stints, stints_of
from saga.durable.rebuild import rebuild
from saga.events import STUCK, SagaStuck
from saga.logging import SagaLogger
from saga.own_log import LOG
from saga.plain import repr_of
from saga.result import SagaResult
from saga.storage.records import Entry, StoredExecution

__all__ = ["say_that_it_is_stuck", "tell_of_stuck"]


def _is_logged(definition: Definition) -> bool:
    return any(isinstance(one, SagaLogger) for one in definition.observers if listens(one))


def say_that_it_is_stuck(definition: Definition, result: SagaResult) -> None:
    """Say in the package's own log that an execution which ran here is stuck, where no logger of its own does.

    Who configures no logging has nothing printed, and who reports failures by an observer has no second report.
    """
    if not _is_logged(definition):
        LOG.info("%s", result.headline())


def tell_of_stuck(definition: Definition, row: StoredExecution, entries: Sequence[Entry], stuck: SagaStuck) -> None:
    """Say in the package's own log that an execution is stuck, and tell the observers, once that is stored.

    :param entries: the journal before that.
    """
    listening = [one for one in definition.observers if listens(one)]
    info = _info(definition, row, entries, stuck) if listening else ExecutionInfo(row.name, row.saga_id, Context())
    observers = stints_of(listening, info)  # first: what reports failures is to know that it reports this one
    level = logging.ERROR if _is_logged(definition) else logging.CRITICAL  # which one line is enough for
    LOG.log(level, "saga %s (%s) is stuck: %s", row.name, row.saga_id, stuck.reason)
    struck: BaseException | None = None
    for observer in observers:
        try:
            left = observer(stuck, info)
            if left is not None:
                answer(left, "it", "give a plain function")
        except BaseException as error:
            if has_struck(error):  # the others are told first
                struck = error
                continue
            LOG.exception("observer %s raised on the end of saga %s", repr_of(observer), row.saga_id)
    end_stints(observers, STUCK, None)
    if struck is not None:
        raise struck


def _info(definition: Definition, row: StoredExecution, entries: Sequence[Entry], stuck: SagaStuck) -> ExecutionInfo:
    """Return what is known of the execution: its id alone where its journal cannot be read, or fits the definition no more."""
    try:
        rebuilt = rebuild(definition, row, entries)
        machine = rebuilt.machine
        machine.record(stuck)
    except BaseException as error:  # what stands in a journal makes users' objects
        if has_struck(error):
            raise
        return ExecutionInfo(row.name, row.saga_id, Context())
    events = tuple(machine.events)
    return ExecutionInfo(row.name, row.saga_id, rebuilt.views.context, machine.plan, lambda: events)
