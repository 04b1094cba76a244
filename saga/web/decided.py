"""What persons decided about an execution, and what came of it, as far as that is known. Nothing is decided here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from saga.events import (
    MessageRefused,
    OperatorActed,
    SagaCompensated,
    SagaCompleted,
    SagaPaused,
    SagaRewound,
    SagaStuck,
    SignalReceived,
    Status,
)
from saga.operations import Decision, ExecutionView, JournalLine
from saga.plain import one_line

__all__ = ["Decided", "decided"]

_CAME: Final[dict[str, tuple[str, str]]] = {
    SagaStuck.__name__: ("bad", "it is stuck: {reason}"),
    SagaPaused.__name__: ("", "it is paused"),
    SagaRewound.__name__: ("good", "it is undone back to {step}, and paused"),
    SagaCompensated.__name__: ("good", "it is compensated"),
    SagaCompleted.__name__: ("good", "it is completed"),
}
"""By the kind of an entry that says how an execution ends or rests: whether that is good or bad, and how it is said."""


class Decided(NamedTuple):
    """
    :ivar came: what came of it, in a sentence; ``""``: nothing did before the next decision.
    :ivar kind: ``"good"``, ``"bad"``, or ``""``: neither, or not known yet.
    """

    decision: Decision
    came: str
    kind: str


def decided(view: ExecutionView) -> list[Decided]:
    """Return what was decided about an execution, newest first."""
    found: list[Decided] = []
    obeyed: int | None = None  # the last one that was
    for line in view.journal:
        if line.kind == MessageRefused.__name__:
            found += _refused(line)
        elif line.kind in _CAME and obeyed is not None:
            kind, said = _CAME[line.kind]
            came = said.format(reason=line.details.get("reason", ""), step=line.step)
            found[obeyed] = found[obeyed]._replace(came=one_line(came), kind=kind)
        elif decision := _of_line(line):
            obeyed = len(found)
            found.append(Decided(decision, "", ""))
    goes_on = view.execution.status in (Status.SUBMITTED, Status.RUNNING, Status.COMPENSATING)
    if goes_on and obeyed is not None and not found[obeyed].came:
        found[obeyed] = found[obeyed]._replace(came=f"not known yet: {view.waits or 'it is under way'}")
    return [*(Decided(one, "on its way to whoever runs this", "") for one in _sent(view.inbox)), *found[::-1]]


def _of_line(line: JournalLine) -> Decision | None:
    if line.kind == OperatorActed.__name__:
        return _decision(line.details, line.step, line.at)
    if line.kind == SignalReceived.__name__ and line.details.get("who") is not None:
        return _signal(line.details, line.details.get("name"), line.at)
    return None


def _sent(inbox: Sequence[Mapping[str, Any]]) -> Iterator[Decision]:
    """Yield what persons have sent that is not read yet, newest first."""
    for message in reversed(inbox):
        if message.get("who") is not None and "action" in message:
            yield _decision(message, message.get("step"), 0.0)
        elif message.get("who") is not None and "signal" in message:
            yield _signal(message, message["signal"], 0.0)


def _signal(details: Mapping[str, Any], name: Any, at: float) -> Decision:
    return _decision({**details, "action": "signal"}, str(name), at)


def _decision(details: Mapping[str, Any], step: str | None, at: float) -> Decision:
    action, who, why = (str(details.get(key, "?")) for key in ("action", "who", "why"))
    return Decision(action, step, who, why, at)


def _refused(line: JournalLine) -> list[Decided]:
    """Return a decision that did not fit any more when it came to whoever runs the execution."""
    said = re.fullmatch(r"(\w+) by (.+?): (.+)", str(line.details.get("message", "")), re.DOTALL)
    if said is None:  # a signal, or what cannot be read
        return []
    reason = one_line(line.details.get("reason", ""))
    return [Decided(Decision(said[1], None, said[2], said[3], line.at), f"it was refused: {reason}", "bad")]
