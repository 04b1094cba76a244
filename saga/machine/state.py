"""The state of an execution: what is known of it. Only the folds change it (:mod:`saga.machine.folds`), live or replayed.

``TRANSITIONS`` says how an execution's status changes, and the folds ask it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Final, NamedTuple

from saga.events import (
    COMPENSATED,
    COMPENSATING,
    COMPLETED,
    PAUSED,
    RUNNING,
    STUCK,
    SUBMITTED,
    OperatorActed,
    RetryScheduled,
    SagaCompensated,
    SagaCompensating,
    SagaCompleted,
    SagaPaused,
    SagaRewound,
    SagaStarted,
    SagaStuck,
    SagaSubmitted,
    Status,
    UnitCompensating,
)
from saga.machine.plan import Group, Plan, PlannedStep

__all__ = ["TRANSITIONS", "State", "Transition", "first_of", "status_after"]


class State:
    """What is known of an execution. Steps stand for themselves by index; "running" is what its last event says of it.

    Where a set or dict says that a step is *in* it, the invariant beside it holds after every event.
    """

    __slots__ = (
        "again",
        "asking",
        "attempts",
        "branches_begun",
        "branches_ended",
        "cancelled",
        "cause",
        "compensating",
        "compensation_attempts",
        "compensation_retries",
        "compensation_stragglers",
        "compensations_failed",
        "executing",
        "exhausted",
        "failed",
        "falling_back",
        "held",
        "in_doubt",
        "kept",
        "left_in_doubt",
        "merged",
        "past_end",
        "past_pivot",
        "pausing",
        "plan",
        "retries",
        "signals",
        "skipped",
        "status",
        "stragglers",
        "to_compensate",
        "to_rerun",
        "to_skip",
        "to_verify",
        "tries_before",
        "unbegun",
        "undoing",
        "undone_to",
        "units",
        "units_ended",
        "unready",
        "verification_attempts",
        "verification_retries",
        "verifying",
        "ways",
    )

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.status: Status = RUNNING  #: changes as TRANSITIONS says, and in no other way
        self.unbegun = False  #: it was submitted, and nobody has begun it
        self.cause: BaseException | None = None  #: why the execution gave up; None as long as it has not
        self.failed: PlannedStep | None = None  #: the step that raised the cause; None where no step did
        self.cancelled: OperatorActed | None = None  #: a person said to give up; obeyed at the next decision
        self.held = False  #: what runs ends, and nothing else is decided: that is for whoever takes the execution up
        self.pausing: OperatorActed | None = None  #: a person said to pause it, which it is when no call runs any more
        self.past_end = False  #: the flow's end was reached, so that it completes when nothing is under way
        self.past_pivot = False  #: the pivot has succeeded before the saga gave up: nothing is compensated any more

        # What is under way. A step is in one of these at the most, but for a compensation or a verification that waits.
        self.executing: set[int] = set()  #: an execute, or a wait, that the saga waits for
        self.stragglers: set[int] = set()  #: an execute that outlived its timeout and still runs
        self.units: set[int] = set()  #: one that stands for a unit whose steps are under way, or undone
        self.units_ended: set[int] = set()  #: ... whose steps have ended well
        self.undoing: dict[int, UnitCompensating] = {}  #: ... that gave up: none of its steps goes forward any more
        self.retries: dict[int, RetryScheduled] = {}  #: an execute that failed and is to be attempted again
        self.compensating: set[int] = set()  #: a compensation that runs, or is in compensation_retries too
        self.compensation_retries: dict[int, RetryScheduled] = {}  #: one that failed and is to be attempted again

        self.compensation_stragglers: set[int] = set()  #: a compensation that outlived its timeout and still runs

        #: An execute has an unknown outcome that nothing has settled: no later attempt, verification, compensation or person.
        self.in_doubt: set[int] = set()
        self.to_verify: set[int] = set()  #: in doubt; its verify is to be asked before anything else is decided of it
        self.verifying: set[int] = set()  #: a verify that runs, or is in verification_retries too
        self.verification_retries: dict[int, RetryScheduled] = {}  #: one that told nothing and is to be attempted again

        #: What there is to undo, in order of completion: succeeded or in doubt, has a compensation, and that has not begun.
        self.to_compensate: list[int] = []
        self.undone_to: int | None = None  #: a person had what follows this step undone; None: all of it
        self.kept: list[int] = []  #: what an undo back to a step leaves as it is: of what there is to undo
        self.again: set[int] = set()  #: undone so, and to be executed again when the saga comes to it
        self.compensations_failed: dict[int, BaseException] = {}  #: compensations that failed for good, in the order tried

        # What is decided of a step that failed or is in doubt, and not done yet.
        self.asking: set[int] = set()  #: a person must decide; the execution is stuck when nothing else is under way
        self.exhausted: set[int] = set()  #: asking, because it failed for good; until its next attempt, or the saga goes on
        self.to_rerun: set[int] = set()  #: to be executed again: a person said so, or it was cut off past the pivot
        self.to_skip: set[int] = set()  #: a person said to go on without it, or its policy did and it is undone first
        self.left_in_doubt: set[int] = set()  #: a person said to undo it, and it has no compensation: nobody is asked again
        self.falling_back: set[int] = set()  #: its fallback is to start when it has ended and is undone; skipped too
        self.skipped: set[int] = set()  #: the saga goes on without it, for good

        self.unready: set[int] = set()  #: an attempt returned, not what its retry waits for: undone, whatever later ones tell

        self.attempts: dict[int, int] = {}  #: of executes; where there is none, it is the first
        self.tries_before: dict[int, int] = {}  #: of these: how many came before the saga began the step anew
        self.compensation_attempts: dict[int, int] = {}  #: of compensations that failed or were attempted again
        self.verification_attempts: dict[int, int] = {}  #: of verifies: that of the last one
        self.branches_begun: dict[int, int] = {}  #: by group: how many of its branches have begun, in the order declared
        self.branches_ended: dict[int, int] = {}  #: by group: how many of its branches ended well
        self.merged: set[int] = set()  #: groups whose branches' views are merged
        self.ways: dict[int, str] = {}  #: by step that decided: the way that was taken
        self.signals: list[tuple[str, Any]] = []  #: names and values: those that came and no step has taken, in their order

    def attempt(self, index: int) -> int:
        """Return the number of the step's last attempt."""
        return self.attempts.get(index, 1)

    def tried(self, index: int, attempt: int) -> int:
        """Return how many attempts of the step's execute there were up to this one, since the saga began the step anew."""
        return attempt - self.tries_before.get(index, 0) if self.tries_before else attempt

    def is_undoing(self, one: PlannedStep | Group) -> bool:
        """Whether a step or group is in a unit that gave up."""
        return any(unit.index in self.undoing for unit in one.units)

    def goes_forward(self, one: PlannedStep | Group) -> bool:
        """Whether anything may follow a step or group, or another attempt be made of it."""
        return self.status is RUNNING and not (self.undoing and self.is_undoing(one))

    def calls_under_way(self) -> int:
        """Return how many calls run or are to be attempted again."""
        executes = len(self.executing) + len(self.retries) + len(self.stragglers)
        return executes + len(self.compensating) + len(self.compensation_stragglers) + len(self.verifying)

    def goes_on_without(self, step: PlannedStep) -> bool:
        """Whether what comes of the step is for its own compensation alone."""
        return step.index in self.skipped or not self.goes_forward(step)

    def gave_up_on(self, step: PlannedStep) -> bool:
        """Whether the step outlived its timeout and nobody waits for it any more."""
        return step.index in self.stragglers and self.goes_on_without(step)


def first_of(signals: Sequence[tuple[str, Any]], names: Container[str]) -> int:
    """Return the place of the signal that a step takes which receives these.

    :raises LookupError: none has come.
    """
    for place, (name, _) in enumerate(signals):
        if name in names:
            return place
    raise LookupError(names)


class Transition(NamedTuple):
    """An execution's status ``before`` an event and ``after`` it.

    ``gave_up``: only where it had given up, or not; ``unbegun``: only where nobody had begun it, or somebody had.
    """

    before: Status
    event: type
    after: Status
    gave_up: bool | None = None
    unbegun: bool | None = None

    @property
    def only(self) -> str:
        """Where it is so, in words; empty where it always is."""
        if self.unbegun is not None and self.gave_up is None:
            return "where it had not begun" if self.unbegun else "where it had begun"
        return (
            "where it had not begun"
            if self.unbegun
            else {None: "", True: "where it had given up", False: "where it had not given up"}[self.gave_up]
        )


TRANSITIONS: Final = (
    Transition(RUNNING, SagaSubmitted, SUBMITTED),
    Transition(SUBMITTED, SagaStarted, RUNNING),
    Transition(SUBMITTED, SagaCompensating, COMPENSATING),
    Transition(SUBMITTED, SagaStuck, STUCK),
    Transition(SUBMITTED, SagaPaused, PAUSED),
    Transition(RUNNING, SagaPaused, PAUSED),
    Transition(PAUSED, OperatorActed, SUBMITTED, unbegun=True),
    Transition(PAUSED, OperatorActed, RUNNING, unbegun=False),
    Transition(RUNNING, SagaCompensating, COMPENSATING),
    Transition(RUNNING, SagaCompleted, COMPLETED),
    Transition(RUNNING, SagaStuck, STUCK),
    Transition(COMPENSATING, SagaCompensated, COMPENSATED),
    Transition(COMPENSATING, SagaStuck, STUCK),
    Transition(COMPENSATING, SagaRewound, PAUSED),
    Transition(COMPLETED, SagaCompensating, COMPENSATING),
    Transition(STUCK, OperatorActed, SUBMITTED, gave_up=False, unbegun=True),
    Transition(STUCK, OperatorActed, RUNNING, gave_up=False, unbegun=False),
    Transition(STUCK, OperatorActed, COMPENSATING, gave_up=True),
)
_BY_EVENT: Final = {one.event: [two for two in TRANSITIONS if two.event is one.event] for one in TRANSITIONS}


def status_after(before: Status, event: type, gave_up: bool, unbegun: bool = False) -> Status:
    """Return the status after an event of that kind.

    :param gave_up: whether a ``SagaCompensating`` came before.
    :param unbegun: whether a ``SagaSubmitted`` came before, and no ``SagaStarted``.
    """
    for origin, _, after, given_up, not_begun in _BY_EVENT.get(event, ()):
        if origin is before and (given_up is None or given_up is gave_up) and (not_begun is None or not_begun is unbegun):
            return after
    return before
