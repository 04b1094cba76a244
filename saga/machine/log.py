"""The log of an execution: its events, and the notes that stand for some of them until somebody looks.

Theory
------
Most executions end well and are never looked at, and making two events for each step would cost more than all the rest. So
where nobody listens (no observer, no journal, nothing but calls one after the other) a driver notes what happened, as a tuple,
and goes on to the next call without asking the machine. A note stands for two events: how a first attempt ended well, and the
intent to make the call that follows.

* Who may note: a driver, between two facts that it sends to the machine, from the thread that runs the execution.
* The log's entries are events; a run of notes may stand before any of them, or at the end. Those before an event are in the
  state already, those at the end are not yet: :meth:`Machine.send` folds them, all at once, before it takes the next fact.
* Who looks (:attr:`Log.events`) has every note made into its two events, in place; then there are no notes any more.
* What an interrupt leaves: a note is one ``list.append``, so it is there wholly or not at all, and notes are exchanged for
  events in one assignment. After an interrupt the state is folded anew from the events, so it does not matter how far it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saga.events import CompensationStarted, CompensationSucceeded, Event, StepStarted, StepSucceeded
from saga.machine.plan import PlannedStep
from saga.machine.state import State

__all__ = ["Log", "Note"]

Note = tuple[Any, ...]
"""``(step, next step, started, ended, result)`` of an execute, ``(step, next step, started, ended)`` of a compensation;
``started`` and ``ended`` are seconds since the log's epoch."""

_OF_EXECUTE = 5


class Log:
    """An execution's events, in order.

    :ivar entries: events and notes; :ivar note: takes a note.
    :ivar noted: set before the first note is taken; :ivar epoch: what its times are since, in seconds.
    """

    __slots__ = ("_state", "entries", "epoch", "note", "noted")

    def __init__(self, state: State) -> None:
        self._state = state
        self.entries: list[Event | Note] = []
        self.note: Callable[[Note], None] = self.entries.append
        self.noted = False
        self.epoch = 0.0

    @property
    def events(self) -> list[Event]:
        """Every event so far: the log's own list, which grows."""
        if self.noted:
            self.fold_notes()
            self.entries[:] = [event for entry in self.entries for event in self._events_of(entry)]
            self.noted = False
        return self.entries  # type: ignore[return-value]

    def fold_notes(self) -> None:
        """Bring the state up to the notes at the log's end: what folding the events they stand for would do."""
        entries, state = self.entries, self._state
        first = len(entries)
        while type(entries[first - 1]) is tuple:
            first -= 1
        notes: list[Note] = entries[first:]  # type: ignore[assignment]
        if not notes:  # an interrupt struck before the first
            return
        following: PlannedStep = notes[-1][1]
        if len(notes[0]) == _OF_EXECUTE:
            state.to_compensate.extend([note[0].index for note in notes if note[0].compensates])
            state.executing = {following.index}
        else:
            del state.to_compensate[-len(notes) :]
            state.compensating = {following.index}

    def _events_of(self, entry: Event | Note) -> tuple[Event, ...]:
        if type(entry) is not tuple:
            return (entry,)  # type: ignore[return-value]
        step, following, started, ended, *result = entry
        at, elapsed = ended + self.epoch, ended - started
        if result:
            return StepSucceeded(step.name, 1, at, elapsed, result[0]), StepStarted(following.name, 1, at)
        return CompensationSucceeded(step.name, 1, at, elapsed), CompensationStarted(following.name, 1, at)
