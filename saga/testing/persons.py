"""Persons of a history: what they do with the execution, where faults have them act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saga.durable.messages import action_message
from saga.events import Status
from saga.machine import choices, standing_of
from saga.operations import Operations
from saga.storage.memory import MemoryStore
from saga.testing.faults import PERSON, Kind

if TYPE_CHECKING:
    from saga.testing.histories import History
    from saga.testing.simulated import Process

__all__ = ["Persons"]

_WHO = "a person"
_WHY = "a fault that was put here"


class Persons:
    """Those who act on a history's execution.

    :param history: what it is part of.
    :param store: where they act.
    """

    def __init__(self, history: History, store: MemoryStore) -> None:
        self._history = history
        self._store = store

    def act(self, process: Process, action: str) -> None:
        """Act while a call runs."""
        self._store.post(self._history.saga_id, action_message(action, None, _WHO, _WHY))
        process.notify()

    def decide(self, process: Process, status: Status) -> bool:
        """Decide about an execution that rests. Return whether it goes on."""
        operations = Operations(self._store, _WHO)
        if status is Status.STUCK:
            return self._decide(operations, process)
        operations.resume(self._history.saga_id, _WHY)
        return True

    def _decide(self, operations: Operations, process: Process) -> bool:
        standing = standing_of(process.machine.state)
        if not standing.undecided:
            return False
        history, step = self._history, standing.undecided[0]
        kinds = tuple(kind for kind in (Kind.RETRIED, Kind.SKIPPED) if kind in history.setting.kinds)
        fault = history.at(step, PERSON, kinds)
        if fault is None:
            return False
        action = "skip" if fault is Kind.SKIPPED else choices(standing)[0]
        if action == "skip":
            operations.skip(history.saga_id, step, _WHY)
        else:
            getattr(operations, action)(history.saga_id, _WHY)
        history.write_down(step, f"a person says {action}", fault)
        return True
