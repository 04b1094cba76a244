"""Laws: what holds in each history of a saga, whatever fails. Who looks for more gives an invariant of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from saga.events import (
    CompensationStarted,
    CompensationSucceeded,
    Event,
    FallbackChosen,
    OperatorActed,
    RetryScheduled,
    SagaCompensating,
    SagaCompleted,
    SagaRewound,
    Status,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    UnitCompensating,
    WayChosen,
)
from saga.plain import one_line
from saga.testing.faults import PERSISTENT, Kind
from saga.testing.records import Broken, objection
from saga.testing.reports import counted
from saga.testing.worlds import UNKNOWN, differences

if TYPE_CHECKING:
    from saga.machine import Plan, PlannedStep
    from saga.testing.histories import History

__all__ = ["LawBrokenError", "Laws", "times_undone"]

_KEEPS_OPEN: Final = {Kind.HANGS, Kind.UNDO_HANGS, Kind.NO_SIGNAL, *PERSISTENT}
"""What may leave an execution waiting."""


class LawBrokenError(AssertionError):
    """A saga breaks a law: the text is the report of the shortest history that was found to do so.

    :ivar history: that history.
    """

    def __init__(self, text: str, history: History) -> None:
        super().__init__(text)
        self.history = history


class Laws:
    """Looks at histories that have ended.

    :param at_end: called with the world and the result; what it says is wrong is a law that is broken.
    """

    def __init__(self, at_end: Callable[[Any, Any], Any] | None) -> None:
        self._at_end = at_end
        self._completed: dict[tuple[tuple[str, str], ...], Any] = {}

    def check(self, history: History) -> None:
        """Look at a history; what it breaks, if anything, is in it afterwards."""
        if history.broken is None:
            self._check(history)
        if history.broken is None and self._at_end is not None:
            self._ask(history)

    def _check(self, history: History) -> None:
        status = history.status
        wrong = _out_of_order(history.events, history.plan)
        if wrong is not None:
            history.breaks(*wrong)
        if history.is_stored_otherwise():
            history.breaks("what has ended is stored", f"it is {status}, and the store says otherwise")
        _count_writes(history)
        unstorable = history.unstorable()
        if unstorable is not None:
            history.breaks("results survive storing", f"step {unstorable.step}: {one_line(unstorable.error)}")
        elif status is Status.COMPLETED:
            self._check_completed(history)
        elif status is Status.COMPENSATED:
            self._same(history, "undone equals never begun", history.before)
        elif status is Status.STUCK:
            if not (history.result.failed_step or history.result.in_doubt or named(history) or history.stopped_past_pivot):
                history.breaks("what is stuck names a step", "no step is named")
        elif not any(fault.kind in _KEEPS_OPEN for fault in history.faults):
            how = "its calls go on and on" if history.endless else "nothing more happens"
            history.breaks("it comes to an end", f"it is {status}, and {how}")

    def _check_completed(self, history: History) -> None:
        if any(fault.kind == Kind.WRONG_INPUT for fault in history.faults) or _left_to_chance(history):
            return
        turns = (event for event in history.events if isinstance(event, StepSkipped | FallbackChosen | WayChosen))
        way = (("", str(history.number)), *sorted((event.step, getattr(event, "way", "")) for event in turns))
        known = self._completed.setdefault(way, history.after)
        self._same(history, "completed leaves the same, however it was come to", known)

    def _same(self, history: History, law: str, expected: Any) -> None:
        if expected is UNKNOWN or history.after is UNKNOWN or any(fault.kind == Kind.SKIPPED for fault in history.faults):
            return  # or a person sees to what is left
        lines = differences(expected, history.after)
        if lines:
            history.breaks(law, "\n".join(lines))

    def _ask(self, history: History) -> None:
        assert self._at_end is not None
        wrong = objection(self._at_end, history.world, history.result)
        if wrong is not None:
            history.breaks(f"{getattr(self._at_end, '__name__', 'at_end')} holds at the end", wrong)


def _left_to_chance(history: History) -> bool:
    """Whether a step was skipped that may have taken effect, as nobody knows, and whose task has nothing to undo."""
    steps = history.plan.by_name
    skipped = {event.step for event in history.events if isinstance(event, StepSkipped)}
    doubtful = {event.step for event in history.events if isinstance(event, StepFailed | StepTimedOut) and _is_in_doubt(event)}
    return any(not steps[name].compensates for name in skipped & doubtful)


def _is_in_doubt(event: StepFailed | StepTimedOut) -> bool:
    return isinstance(event, StepTimedOut) or event.in_doubt


def _out_of_order(events: Sequence[Event], plan: Plan) -> Broken | None:
    """Return the law that an execution's events break, if they do: which way it goes is decided for good."""
    undoes = completed = False
    undone: set[str] = set()
    skipped: set[str] = set()
    back: set[str] = set()  # the units that gave up
    for event in events:
        if isinstance(event, SagaCompensating):
            undoes = True
        elif isinstance(event, UnitCompensating):
            back.add(event.step)
        elif isinstance(event, SagaRewound):
            undoes = completed = False
        elif isinstance(event, SagaCompleted):
            completed = True
        elif isinstance(event, StepStarted):
            if undoes:
                return Broken("nothing goes forward when the undo has begun", f"step {event.step} was begun")
            back.discard(event.step)
            if any(unit.name in back for unit in plan.by_name[event.step].units):
                return Broken("nothing goes forward when the undo has begun", f"step {event.step} was begun")
            undone.discard(event.step)
        elif isinstance(event, OperatorActed) and event.action == "skip" and event.step is not None:
            skipped.add(event.step)
        elif isinstance(event, CompensationSucceeded):
            undone.add(event.step)
        elif isinstance(event, CompensationStarted):
            if completed:
                return Broken("what is completed is not undone", f"the compensation of step {event.step} was begun")
            if event.step in skipped:
                return Broken("what a person skipped is theirs", f"the compensation of step {event.step} was begun")
            if event.step in undone:
                return Broken("what is undone is not undone again", f"the compensation of step {event.step} was begun")
    return None


def times_undone(step: PlannedStep, events: Sequence[Event]) -> int:
    """Return how often a unit that the step is in was undone: what is executed anew has another idempotency key."""
    around = {unit.name for unit in step.units}
    return sum(isinstance(event, StepFailed) and event.step in around for event in events) if around else 0


def _count_writes(history: History) -> None:
    """See that what follows the end of a call is stored with it, where nothing goes wrong and nothing waits."""
    plan = history.definition.plan
    if history.faults or history.store is None or plan.open or any(step.pause is not None for step in plan.steps):
        return
    calls, writes = len(history.lines), history.store.writes
    if writes > calls and not any(isinstance(event, RetryScheduled) for event in history.events):
        history.breaks("what follows a call is stored with its end", f"{counted(calls, 'call')}, {counted(writes, 'write')}")


def named(history: History) -> bool:
    """Whether the report of a stuck execution names a step that a person has to see to."""
    return any(
        record.in_doubt or record.error is not None or record.compensation_error is not None
        for record in history.result.history
    )
