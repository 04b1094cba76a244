"""What is shown of executions, as records. Texts are on one line, whatever is in them, but for tracebacks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from saga.events import SagaPaused, SagaRewound, SagaStuck, Status
from saga.plain import one_line
from saga.step_status import Effect, StepStatus
from saga.storage.records import StoredExecution

__all__ = ["Acted", "Decision", "ErrorView", "ExecutionView", "JournalLine", "Offer", "StepView", "moment"]

_TELL_WHY: Final[dict[str, tuple[str, ...]]] = {
    Status.STUCK: (SagaStuck.__name__,),
    Status.PAUSED: (SagaPaused.__name__, SagaRewound.__name__),
}
"""By an execution's status: the kinds of the entries that say why it stands so."""


_EXACT: Final = 1e15
_LEFT: Final[dict[Effect, str]] = {
    Effect.NONE: "",
    Effect.STANDS: "stands",
    Effect.UNDONE: "undone",
    Effect.UNKNOWN: "nobody knows whether it was done",
}


def moment(at: float, timespec: str = "seconds") -> str:
    """Return a time as it is shown: ISO, of UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec=timespec)
    except (ValueError, OverflowError, OSError, TypeError):  # no time that there is
        return str(at)


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A journal entry as it is shown: ``details`` is the payload, with values as they are stored.

    ``str()`` of it is one line, whatever is in it: long values are cut there, but for what says why.
    """

    seq: int
    at: float
    kind: str
    step: str | None
    details: dict[str, Any]

    def __str__(self) -> str:
        when = moment(self.at, "milliseconds")
        details = " ".join(f"{one_line(key)}={_short(key, value)}" for key, value in self.details.items())
        return f"{self.seq:>4}  {when}  {one_line(self.kind):<22} {one_line(self.step or ''):<20} {details}".rstrip()


def _short(key: str, value: Any) -> str:
    if key == "error" and isinstance(value, dict) and {"type", "text"} <= value.keys() and isinstance(value["type"], str):
        return one_line(f"{value['type'].rpartition(':')[2]}: {value['text']}")
    if isinstance(value, float) and abs(value) < _EXACT:  # to the microsecond, and not as 4e-06
        return f"{value:.6f}".rstrip("0").removesuffix(".")
    text = one_line(value if isinstance(value, str) else json.dumps(value, default=repr))
    return text if len(text) <= 80 or key in ("reason", "why") else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class StepView:
    """What became of a step: as :class:`saga.StepRecord` says it, from the journal alone.

    :ivar name: the step's name.
    :ivar status: see :class:`~saga.events.StepStatus`.
    :ivar effect: see :class:`~saga.events.Effect`.
    :ivar in_doubt: whether nobody knows what came of one of its executes, and nothing has settled that; or its compensation has
        outlived its timeout and still runs.
    :ivar attempts: calls of ``execute``.
    :ivar compensation_attempts: calls of ``compensate``.
    :ivar began: when its first attempt began.
    :ivar ended: when its last attempt ended; ``None`` while it runs, or another attempt is to come.
    :ivar elapsed: seconds in all attempts of ``execute``.
    :ivar error: what the last failed attempt raised, as ``Class: text``.
    :ivar compensation_error: what the last failed compensation raised, in the same way.
    :ivar verified: what ``verify`` said last: that it was done, or that it was not; ``None`` where it did not say.
    :ivar next_at: when its next attempt is made, or what it waits for is over.
    :ivar result: what ``execute`` returned, as it is stored, shortened; ``None`` where that is nothing, hidden or unknown.
    :ivar path: what it stands in, from outside inward: ``"parallel 1, branch 2"``, ``"instead of charge"``.
    :ivar asks: whether a person is asked what becomes of it.
    :ivar settled: who has seen to it, and why: ``"by ann: refunded by hand"``; ``None``: nobody has.
    :ivar waits_for: what it waits for, which is no call: ``"signal 'approval'"``, ``"its time"``; ``None``: nothing, or that is
        not known without its definition.
    """

    name: str
    status: StepStatus = StepStatus.PENDING
    effect: Effect = Effect.NONE
    in_doubt: bool = False
    attempts: int = 0
    compensation_attempts: int = 0
    began: float | None = None
    ended: float | None = None
    elapsed: float = 0.0
    error: str | None = None
    compensation_error: str | None = None
    verified: bool | None = None
    next_at: float | None = None
    result: str | None = None
    path: tuple[str, ...] = ()
    asks: bool = False
    settled: str | None = None
    waits_for: str | None = None

    @property
    def left(self) -> str:
        """What is left of its work, in a few words; ``""`` where it never was."""
        if self.effect is Effect.SETTLED:
            return "settled by a person"
        if self.effect is Effect.UNKNOWN and self.status is StepStatus.COMPENSATION_FAILED and not self.in_doubt:
            return "may still stand, wholly or in part"
        return _LEFT[self.effect]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about an execution. ``str()`` says it in a line.

    :ivar action: the name of the action; ``"signal"`` for one that was sent with a reason.
    :ivar step: of which step (``skip``), or back to which (``undo``); ``None``: of none in particular.
    :ivar who: the person.
    :ivar why: the reason that was given.
    :ivar at: when, in seconds since the epoch.
    :ivar signal: the name of the signal.
    """

    action: str
    step: str | None
    who: str
    why: str
    at: float
    signal: str | None = None

    def __str__(self) -> str:
        of = self.signal if self.step is None else self.step
        between = " back to " if self.action == "undo" else " "
        return f"{self.action}{'' if of is None else between + repr(of)} by {self.who}: {self.why}"


@dataclass(frozen=True, slots=True)
class ErrorView:
    """An error that an execution's journal has. Each is told once, where it was raised first.

    :ivar type: the name of its class.
    :ivar text: its text.
    :ivar traceback: as Python writes it, many lines; ``None`` where there is none.
    :ivar step: the step whose call raised it; ``None``: none did.
    :ivar phase: ``"execute"``, ``"verify"`` or ``"compensate"``; ``None``: no call did.
    :ivar attempt: which attempt.
    :ivar at: when, in seconds since the epoch.
    """

    type: str
    text: str
    traceback: str | None
    step: str | None
    phase: str | None
    attempt: int | None
    at: float


@dataclass(frozen=True, slots=True)
class Offer:
    """An action that fits where an execution stands, or a signal that can be sent.

    :ivar action: its name, which is that of the method of :class:`~saga.operations.Operations`.
    :ivar step: of which step (``skip``), back to which (``undo``), which receives it (``signal``); ``None``: of none in
        particular.
    :ivar does: what it would do here, in a sentence: ``"undoes charge, then reserve"``.
    :ivar signal: the name of the signal.
    """

    action: str
    step: str | None
    does: str
    signal: str | None = None

    def command(self, saga_id: str) -> str:
        """Return the line of a terminal that does it to an execution, but for the reason."""
        step = [] if self.step is None else ["--to" if self.action == "undo" else "--step", self.step]
        if self.signal is not None:
            which, said = [saga_id, self.signal], ["--value", "...", "--why", "..."]
            words = [*said, "--", *which] if any(one.startswith("-") for one in which) else [*which, *said]
            return shlex.join(["saga", "signal", *words])
        return _line(self.action, saga_id, *step, "--why", "...")


def _line(action: str, saga_id: str, *options: str) -> str:
    if saga_id.startswith("-"):  # else it would be taken for an option, which may be one that finds others
        return shlex.join(["saga", action, *options, "--", saga_id])
    return shlex.join(["saga", action, saga_id, *options])


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution: where it stands, what became of its steps, and what a person can do.

    ``str()`` says how it stands, and has the timeline. Of what is damaged in the journal, what can be read is shown.

    :ivar execution: its row.
    :ivar journal: its entries.
    :ivar inbox: the messages that it has not read yet.
    :ivar steps: what became of each step, in the order declared; in that of their beginning, and only of those that have begun,
        where its definition is not known.
    :ivar errors: each error once, in the order they came.
    :ivar decisions: what persons decided, in the order they did.
    :ivar offers: the actions that fit now, with what each would do; what changes least first.
    :ivar refused: why the others do not fit, by action.
    :ivar waits: why nothing happens at present, where that can be told; ``None``: something does, or it has ended.
    """

    execution: StoredExecution
    journal: tuple[JournalLine, ...]
    inbox: tuple[dict[str, Any], ...]
    steps: tuple[StepView, ...]
    errors: tuple[ErrorView, ...]
    decisions: tuple[Decision, ...]
    offers: tuple[Offer, ...]
    refused: Mapping[str, str]
    waits: str | None

    @property
    def reason(self) -> str | None:
        """Why the execution is stuck or paused, or ``None``."""
        kinds = _TELL_WHY.get(self.execution.status, ())
        return next((line.details.get("reason") for line in reversed(self.journal) if line.kind in kinds), None)

    @property
    def command(self) -> str:
        """The line of a terminal that shows it."""
        return _line("show", self.execution.saga_id)

    def timeline(self) -> str:
        """Return the journal as text, a line for each entry."""
        return "\n".join(map(str, self.journal))

    def __str__(self) -> str:
        row = self.execution
        why = f": {one_line(self.reason)}" if self.reason is not None else ""
        return f"saga {row.name!r} ({one_line(row.saga_id)}) is {one_line(row.status)}{why}\n{self.timeline()}"


class Acted(NamedTuple):
    """What became of an action on one of many executions.

    :ivar done: whether it was carried out, or left to whoever owns the execution.
    :ivar error: why it was not.
    """

    saga_id: str
    done: bool
    error: str | None = None
