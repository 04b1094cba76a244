"""What a person must know of a stuck execution: what waits for a decision, what is to be undone by hand, what can be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from saga.events import Effect
from saga.machine import Plan, Standing
from saga.result import NOTHING_STORED, SagaResult, StepRecord, actions, stuck_on

if TYPE_CHECKING:
    from saga.definition import ExecutionInfo

__all__ = ["told_of_stuck"]

_MOST: Final = 10
"""Steps that are named; of more, how many there are."""


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
