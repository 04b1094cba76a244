"""The log of an execution: its events, and the notes that stand for some of them until somebody looks.

Theory
------
Most executions end well and are never looked at, and making two events for each step, folding them and asking what follows
would cost more than all the rest. So where nobody listens (no observer, no journal, nothing but calls one after the other) a
driver notes what happened, as a tuple, and goes on to the next call without asking the machine. A note stands for two events:
how a first attempt ended well, and the intent to make the call that follows; or, where none follows, the execution's end.

* Who may note: a driver, in a series of calls (see :mod:`saga.drivers.calls`), from the thread that runs the execution.
* What is worked out when: the state is made when somebody first asks for it, by folding all that the log has. From then on
  each event is folded as it is recorded, and notes at the log's end all at once, before the next event is. So notes that stand
  before an event are in the state, and an execution that nobody asks about has no state at all.
* Who looks (:attr:`Log.events`) has every note made into its two events, in place; then there are no notes any more.
* What an interrupt leaves: a note is one ``list.append``, so it is there wholly or not at all, and notes are exchanged for
  events in one assignment. After an interrupt the state is folded anew from the events, so it does not matter how far it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from saga.events import (
    COMPENSATED,
    COMPLETED,
    CompensationStarted,
    CompensationSucceeded,
    Event,
    SagaCompensated,
    SagaCompleted,
    Status,
    StepStarted,
    StepSucceeded,
)
from saga.machine.commands import Call
from saga.machine.plan import Plan
from saga.machine.state import FOLDS, State, status_after

__all__ = ["Log", "Note"]

Note = tuple[Any, ...]
"""``(step, next call, started, ended, result)`` of an execute, ``(step, next call, started, ended)`` of a compensation.

The next call is ``None`` where the execution has ended with this; times are seconds since the log's epoch."""

_OF_EXECUTE = 5


class Log:
    """An execution's events, in order.

    :ivar entries: events and notes; :ivar note: takes a note.
    :ivar noted: there are notes, or will be; :ivar epoch: what their times are since, in seconds.
    :ivar first_note: where the notes of the last series begin.
    """

    __slots__ = ("_plan", "_state", "entries", "epoch", "first_note", "note", "noted")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._state: State | None = None
        self.entries: list[Event | Note] = []
        self.note: Callable[[Note], None] = self.entries.append
        self.noted = False
        self.epoch = 0.0
        self.first_note = 0

    def started_at(self, name: str) -> float:
        """Return when the step's last attempt started."""
        for event in reversed(self.events):
            if isinstance(event, StepStarted) and event.step == name:
                return event.at
        raise LookupError(name)

    def record(self, event: Event) -> None:
        """Add an event, and fold it where there is a state, or notes that have to be folded before."""
        if self.noted:
            if self._state is None:
                self.state()
            else:
                self.fold_last_notes()
        if self._state is not None:
            FOLDS[type(event)](self._state, event)
        self.entries.append(event)

    def state(self) -> State:
        """Return the state that is folded from now on with each event."""
        if self._state is None:
            state = State(self._plan)
            # Before the state is made there is one series at the most: what follows one is decided by the state.
            events = self.entries[: self.first_note] if self.noted else self.entries
            for event in events:
                FOLDS[type(event)](state, event)
            if self.noted:
                _fold_notes(state, self.entries[self.first_note :])  # type: ignore[arg-type]
            self._state = state
        return self._state

    def expect_notes(self, epoch: float) -> None:
        """Make ready for a series of notes, whose times are since ``epoch`` (seconds)."""
        self.noted, self.epoch, self.first_note = True, epoch, len(self.entries)

    def fold_last_notes(self) -> None:
        """Bring the state, where there is one, up to the notes at the log's end."""
        if self._state is not None and type(self.entries[-1]) is tuple:
            _fold_notes(self._state, self.entries[self.first_note :])  # type: ignore[arg-type]

    @classmethod
    def of(cls, plan: Plan, events: Iterable[Event]) -> Log:
        """Return the log that has these events."""
        log = cls(plan)
        log.entries.extend(events)
        return log

    @property
    def events(self) -> list[Event]:
        """Every event so far: the log's own list, which grows."""
        if self.noted:
            self.fold_last_notes()
            self.entries[:] = [event for entry in self.entries for event in self._events_of(entry)]
            self.noted = False
        return self.entries  # type: ignore[return-value]

    @property
    def end(self) -> Status | None:
        """The status that the execution has ended with, where a note says so."""
        last = self.entries[-1] if self.entries else None
        if type(last) is not tuple or last[1] is not None:
            return None
        return COMPLETED if len(last) == _OF_EXECUTE else COMPENSATED

    def _events_of(self, entry: Event | Note) -> tuple[Event, ...]:
        if type(entry) is not tuple:
            return (entry,)  # type: ignore[return-value]
        step, following, started, ended, *result = entry
        at, elapsed = ended + self.epoch, ended - started
        if result:
            end: Event = StepSucceeded(step.name, 1, at, elapsed, result[0])
            return end, SagaCompleted(at) if following is None else StepStarted(following.step.name, 1, at)
        end = CompensationSucceeded(step.name, 1, at, elapsed)
        return end, SagaCompensated(at) if following is None else CompensationStarted(following.step.name, 1, at)


def _fold_notes(state: State, notes: Sequence[Note]) -> None:
    """Do to the state, all at once, what folding the events that a run of notes stands for would do."""
    if not notes:
        return
    following: Call | None = notes[-1][1]
    if len(notes[0]) == _OF_EXECUTE:
        state.to_compensate.extend([note[0].index for note in notes if note[0].compensates])
        state.executing.clear()
        if following is not None:
            state.executing.add(following.step.index)
        else:
            state.past_end = True
            state.status = status_after(state.status, SagaCompleted, False)
    else:
        state.compensating.clear()
        if following is not None:
            del state.to_compensate[-len(notes) :]
            state.compensating.add(following.step.index)
        else:
            state.to_compensate.clear()
            state.status = status_after(state.status, SagaCompensated, True)
