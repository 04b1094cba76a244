"""What a line of a log says of what came before it: how long that took, why, what is to be done now. Nothing is written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from saga.events import (
    CompensationFailed,
    Effect,
    Event,
    OperatorActed,
    RetryScheduled,
    SagaCompensating,
    SagaPaused,
    SagaRecovered,
    SagaStarted,
)
from saga.machine import Plan, Standing
from saga.result import NOTHING_STORED, SagaResult, StepRecord, actions, error_line, stuck_on

if TYPE_CHECKING:
    from saga.definition import ExecutionInfo

__all__ = ["cause_in", "decision_before", "is_tried_again", "told_of_stuck", "whole_time_ms"]

_MOST: Final = 10
"""Steps that are named; of more, how many there are."""


def whole_time_ms(end: Any, events: Sequence[Event]) -> float | None:
    """Return the milliseconds since an execution began; ``None`` where that is not known."""
    began = next((one.at for one in events if isinstance(one, SagaStarted)), None)
    return None if began is None else max(0.0, end.at - began) * 1000


def cause_in(events: Sequence[Event]) -> str | None:
    """Return why an execution gave up."""
    for event in reversed(events):
        if isinstance(event, SagaCompensating):
            return error_line(event.error) + (f" (at step {event.step!r})" if event.step is not None else "")
    return None


def is_tried_again(event: CompensationFailed, events: Sequence[Event]) -> bool:
    """Whether another attempt follows."""
    for one in reversed(events):
        if one is event:
            break
        if isinstance(one, RetryScheduled) and (one.step, one.phase) == (event.step, "compensate"):
            return True
    return False


def decision_before(event: SagaRecovered, events: Sequence[Event]) -> OperatorActed | None:
    """Return what a person decided last while nobody ran an execution that is taken up again."""
    before = itertools.dropwhile(lambda one: one is not event, reversed(events))
    for one in itertools.islice(before, 1, None):
        if isinstance(one, OperatorActed):
            return one
        if not isinstance(one, SagaCompensating | SagaPaused):  # which follow from a decision
            break
    return None


def told_of_stuck(info: ExecutionInfo, shown: Callable[[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """Return by name what is told of a stuck execution; nothing where nobody knows what has happened.

    :param shown: returns what is told of a step's result.
    """
    if not info.events:
        return {}
    result = SagaResult(info.plan, info.events, info.context)
    waiting = list(stuck_on(result))
    steps = [step for step, _ in waiting]
    told: dict[str, Any] = {"steps": _some(", ", steps), "errors": _some("; ", [error for _, error in waiting])}
    left = [record for record in result.history if _is_left(record, info.plan, result._standing, steps)]
    for record in left[:_MOST]:
        told |= shown(record.name, record.result) if record.result is not None else {}
        told[f"key.{record.name}"] = info.context.__binding__.key_of(record.name)
    return told | {"actions": ", ".join(actions(result)) or NOTHING_STORED}


def _is_left(record: StepRecord, plan: Plan, standing: Standing, undecided: list[str]) -> bool:
    """Whether what a step did, or may have done, is left for a person to see to."""
    if record.name in undecided:
        return True
    stands = record.effect in (Effect.STANDS, Effect.UNKNOWN) and plan.by_name[record.name].compensates
    return bool(standing.gave_up) and stands


def _some(between: str, texts: list[str]) -> str | None:
    more = [f"and {len(texts) - _MOST} more"] if len(texts) > _MOST else []
    return between.join([*texts[:_MOST], *more]) or None
