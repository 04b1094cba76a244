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
    for line in view.journal:
        if line.kind == OperatorActed.__name__:
            found.append(Decided(_decision(line.details, line.step, line.at), "", ""))
        elif line.kind == SignalReceived.__name__ and line.details.get("who") is not None:
            found.append(Decided(_signal(line.details, str(line.details.get("name")), line.at), "", ""))
        elif line.kind == MessageRefused.__name__:
            found += _refused(line)
        elif line.kind in _CAME and found:
            kind, said = _CAME[line.kind]
            came = said.format(reason=line.details.get("reason", ""), step=line.step)
            found[-1] = found[-1]._replace(came=one_line(came), kind=kind)
    if found and not found[-1].came and view.execution.status in (Status.SUBMITTED, Status.RUNNING, Status.COMPENSATING):
        found[-1] = found[-1]._replace(came=f"not known yet: {view.waits or 'it is under way'}")
    found += [Decided(one, "on its way to whoever runs this", "") for one in _sent(view.inbox)]
    return found[::-1]


def _sent(inbox: Sequence[Mapping[str, Any]]) -> Iterator[Decision]:
    for message in inbox:
        if {"action", "step", "who", "why"} <= message.keys():
            yield _decision(message, message["step"], 0.0)
        elif {"signal", "who", "why"} <= message.keys():
            yield _signal(message, str(message["signal"]), 0.0)


def _signal(details: Mapping[str, Any], name: str, at: float) -> Decision:
    return _decision({**details, "action": "signal"}, name, at)


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
