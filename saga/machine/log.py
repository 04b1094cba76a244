"""The log of an execution: its events, and the notes that stand for some of them until somebody looks.

Theory
------
Most executions end well, and their state is never asked for. Folding two events for each step and asking what follows would
cost more than all the rest; so would making the events, where nobody listens. So where nothing is stored and the plan is
nothing but calls one after the other, a driver makes *series* of calls: it notes what happened, as a tuple, and goes on to the
next call without asking the machine. A note stands for two events: how a first attempt ended well, and the intent to make the
call that follows; or, where none follows, the execution's end. Where observers listen, its events are made and shown at once.

* Who may note: a driver, in a series (see :mod:`saga.drivers.calls`), from the thread that runs the execution. A series ends
  with the execution, or with a fact that the machine is sent.
* What is folded when: the state is made when somebody first asks for it, by folding all that the log has. What a series adds
  from then on is folded all at once, before the next event is; any other event, as it is recorded.
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
    PAUSED,
    STUCK,
    CompensationStarted,
    CompensationSucceeded,
    Event,
    SagaCompensated,
    SagaCompleted,
    SagaPaused,
    SagaRewound,
    SagaStarted,
    SagaStuck,
    Status,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    VerificationStarted,
)
from saga.machine.commands import Call
from saga.machine.folds import FOLDS
from saga.machine.plan import Plan, PlannedStep
from saga.machine.state import State, status_after

__all__ = ["Log", "Note"]

Note = tuple[Any, ...]
"""``(step, next call, started, ended, result)`` of an execute, ``(step, next call, started, ended)`` of a compensation.

The next call is ``None`` where the execution has ended with this; times are seconds since the log's epoch."""

_OF_EXECUTE = 5
_ENDS: dict[type, Status] = {
    SagaCompleted: COMPLETED,
    SagaCompensated: COMPENSATED,
    SagaStuck: STUCK,
    SagaPaused: PAUSED,
    SagaRewound: PAUSED,
}


class Log:
    """An execution's events, in order.

    :ivar entries: events, and notes at places.
    :ivar note: takes a note.
    :ivar noted: there are notes, or will be.
    :ivar epoch: what their times are since, in seconds.
    :ivar unfolded: where the entries begin that the state does not know yet; ``None`` where it knows all, or is not made.
    """

    __slots__ = ("_plan", "_state", "entries", "epoch", "note", "noted", "unfolded")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._state: State | None = None
        self.entries: list[Event | Note] = []
        self.note: Callable[[Note], None] = self.entries.append
        self.noted = False
        self.epoch = 0.0
        self.unfolded: int | None = None

    @classmethod
    def of(cls, plan: Plan, events: Iterable[Event]) -> Log:
        """Return the log that has these events."""
        log = cls(plan)
        log.entries.extend(events)
        return log

    def begin_series(self, epoch: float, noted: bool) -> None:
        """Make ready for a series, whose times are since ``epoch`` (seconds). ``noted``: notes are kept, not their events."""
        self.epoch = epoch
        self.noted = self.noted or noted
        if self.unfolded is None:
            self.unfolded = len(self.entries)

    def record(self, event: Event) -> None:
        """Add an event, and fold it where there is a state."""
        state = self._state
        if (state is None and self.noted) or self.unfolded is not None:
            state = self.state()
        if state is not None:
            FOLDS[type(event)](state, event)
        self.entries.append(event)

    def state(self) -> State:
        """Return the state, which knows all that the log has."""
        state, first = self._state, self.unfolded
        if state is None:
            state, first = State(self._plan), 0
            self._state = state
        elif first is None:
            return state
        self.unfolded = None
        entries = self.entries[first:]
        for at, entry in enumerate(entries):
            if type(entry) is tuple:  # and so is the rest
                _fold_notes(state, entries[at:])  # type: ignore[arg-type]
                break
            FOLDS[type(entry)](state, entry)
        return state

    def must_decide(self) -> bool:
        """Whether more than its steps stands between a plain flow and its end: what a series may not pass over."""
        state = self._state
        return state is not None and bool(state.compensations_failed or state.asking)

    def cause(self) -> tuple[BaseException | None, PlannedStep | None]:
        """Return why the execution gave up, and the step that failed."""
        state = self._state or self.state()  # what a series adds changes neither
        return state.cause, state.failed

    @property
    def events(self) -> list[Event]:
        """Every event so far: the log's own list, which grows."""
        if self.noted:
            if self._state is not None:
                self.state()
            self.entries[:] = [event for entry in self.entries for event in self.events_of(entry)]
            self.noted = False
        return self.entries  # type: ignore[return-value]

    @property
    def end(self) -> Status | None:
        """The status that the execution has ended with, where the last entry says so."""
        last = self.entries[-1] if self.entries else None
        if type(last) is not tuple:
            return _ENDS.get(type(last))
        if last[1] is not None:
            return None
        return COMPLETED if len(last) == _OF_EXECUTE else COMPENSATED

    def take_back(self, kept: int) -> None:
        """Forget all but so many entries, and the state, which is made again when somebody asks for it."""
        del self.entries[kept:]
        self._state = self.unfolded = None

    def forward_since(self) -> float | None:
        """Return since when the execution goes forward: since it began, or a person let it go on where it was stuck or undone.

        Return ``None`` where it was submitted, and nobody has begun it.
        """
        later = None
        for event in reversed(self.events):
            if type(event) is SagaStarted:
                return event.at
            if type(event) in (SagaStuck, SagaRewound) and later is not None:
                return later.at
            later = event
        return None

    def started_at(self, name: str) -> float:
        """Return when the step's last attempt started."""
        for event in reversed(self.events):
            if isinstance(event, StepStarted) and event.step == name:
                return event.at
        raise LookupError(name)

    def result_of(self, name: str) -> Any:
        """Return what the step returned last; ``None`` where the saga went on without it."""
        for event in reversed(self.events):
            if isinstance(event, StepSucceeded | StepSkipped) and event.step == name:
                return event.result if isinstance(event, StepSucceeded) else None
        raise LookupError(name)

    def attempted_since(
        self, step: PlannedStep, beginning: type[CompensationStarted | StepStarted | VerificationStarted]
    ) -> float:
        """Return when the first attempt of a step's call began, since the saga began the step anew.

        :param beginning: the kind of event that says so.
        """
        first: float | None = None
        around = {unit.name for unit in step.units}
        for event in reversed(self.events):
            if isinstance(event, beginning) and event.step == step.name:
                first = event.at
                if event.attempt == 1:
                    break
            elif first is not None and (isinstance(event, SagaRewound) or (around and _begins(event, around))):
                break
        if first is None:
            raise LookupError(step.name)
        return first

    def last_failure(self, name: str) -> StepFailed | StepTimedOut:
        """Return how the step's last attempt that did not end well has ended."""
        for event in reversed(self.events):
            if isinstance(event, StepFailed | StepTimedOut) and event.step == name:
                return event
        raise LookupError(name)

    def events_of(self, entry: Event | Note) -> tuple[Event, ...]:
        """Return the events that an entry stands for."""
        if type(entry) is not tuple:
            return (entry,)  # type: ignore[return-value]
        step, following, started, ended, *result = entry
        at, elapsed = ended + self.epoch, ended - started
        if result:
            end: Event = StepSucceeded(step.name, 1, at, elapsed, result[0])
            return end, SagaCompleted(at) if following is None else StepStarted(following.step.name, 1, at)
        end = CompensationSucceeded(step.name, 1, at, elapsed)
        return end, SagaCompensated(at) if following is None else CompensationStarted(following.step.name, 1, at)


def _begins(event: Event | Note, units: set[str]) -> bool:
    """Whether one of these units was begun."""
    return isinstance(event, StepStarted) and event.step in units


def _fold_notes(state: State, notes: Sequence[Note]) -> None:
    """Do to the state, all at once, what folding the events that a run of notes stands for would do."""
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
        if state.in_doubt:
            state.in_doubt.difference_update([note[0].index for note in notes])
        if following is not None:
            del state.to_compensate[-len(notes) :]
            state.compensating.add(following.step.index)
        else:
            state.to_compensate.clear()
            state.status = status_after(state.status, SagaCompensated, True)
