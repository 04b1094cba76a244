"""What cannot follow from what an execution's journal says before it: read from the state, which stays as it is.

A machine records no such event. Where a journal has one, it was changed, or was never one machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from saga.errors import DefinitionChangedError
from saga.events import (
    COMPENSATED,
    COMPENSATING,
    COMPLETED,
    RUNNING,
    SUBMITTED,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    CompensationTimedOut,
    Event,
    FallbackChosen,
    GroupMerged,
    OperatorActed,
    PersonAsked,
    RetryScheduled,
    SagaCompensated,
    SagaCompensating,
    SagaCompleted,
    SagaPaused,
    SagaRewound,
    SagaStarted,
    SagaStuck,
    SagaSubmitted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    UnitCompensating,
    VerificationFailed,
    VerificationStarted,
    WayChosen,
)
from saga.machine.commands import EXECUTE
from saga.machine.following import following
from saga.machine.operators import ACTIONS
from saga.machine.plan import Plan
from saga.machine.state import State

__all__ = ["check_order", "contradiction"]


def contradiction(state: State, begun: set[str], event: Event) -> str | None:
    """Say why an event cannot follow, or return ``None``.

    :param begun: the steps that have been started before.
    :raises KeyError: it is of a step that the plan lacks.
    """
    rule = _RULES.get(type(event))
    return None if rule is None else rule(state, begun, event)


def _begins(state: State, begun: set[str], event: SagaStarted | SagaSubmitted) -> str | None:
    return None if state.status is SUBMITTED and isinstance(event, SagaStarted) else "the execution had begun"


def _under_way(state: State, begun: set[str], event: Any) -> str | None:
    """An execute ended."""
    step = state.plan.by_name[event.step]
    index = step.index
    if step.content is not None:
        ends = isinstance(event, StepSucceeded) is (index not in state.undoing) and index in state.units
        return None if ends else f"unit {event.step!r} was not under way"
    if index not in state.executing and index not in state.stragglers:
        if not (isinstance(event, StepFailed) and event.executed and index in state.verifying):
            return f"step {event.step!r} was not under way"
    elif event.attempt != state.attempt(index) and step.pause is None:
        return f"attempt {event.attempt} of step {event.step!r} was not under way"
    pause = step.pause
    if not isinstance(event, StepSucceeded) or pause is None or not pause.signals:
        return None
    return None if any(name in pause.signals for name, _ in state.signals) else f"{pause.awaited} had not come"


def _started(state: State, begun: set[str], event: StepStarted) -> str | None:
    step = state.plan.by_name[event.step]
    index = step.index
    if state.status is not RUNNING:
        return f"the execution did not go forward ({state.status})"
    if state.is_undoing(step):
        return f"the unit that step {event.step!r} is in had given up"
    if event.attempt == 1:
        return f"step {event.step!r} had been started before" if event.step in begun else None
    if event.step not in begun or index in state.executing | state.units or event.attempt != state.attempt(index) + 1:
        return f"attempt {event.attempt} of step {event.step!r} was not the next"
    return None


def _given_up(state: State, begun: set[str], event: StepSkipped | FallbackChosen | PersonAsked) -> str | None:
    if event.step not in begun or state.plan.by_name[event.step].index in state.skipped:
        return f"step {event.step!r} had not failed"
    return None


def _unit_gives_up(state: State, begun: set[str], event: UnitCompensating) -> str | None:
    unit = state.plan.by_name[event.step]
    known = {step.name for step in state.plan.within(unit)}
    if not known.issuperset((*event.again, *({event.failed_step} - {None}))):
        return f"unit {event.step!r} has other steps"
    under_way = unit.index in state.units and unit.index not in state.undoing and state.goes_forward(unit)
    return None if under_way else f"unit {event.step!r} was not under way"


def _chosen(state: State, begun: set[str], event: WayChosen) -> str | None:
    step = state.plan.by_name[event.step]
    if step.ways is None or event.way not in step.ways.entries:
        return f"step {event.step!r} has no way {event.way}"
    if event.step not in begun or step.index in state.executing:
        return f"step {event.step!r} had not decided"
    return f"step {event.step!r} had decided" if step.index in state.ways else None


def _scheduled(state: State, begun: set[str], event: RetryScheduled) -> str | None:
    index = state.plan.by_name[event.step].index
    if event.step not in begun or (event.phase == EXECUTE and index in state.executing):
        return f"step {event.step!r} had not failed"
    return None


def _verifies(state: State, begun: set[str], event: VerificationStarted) -> str | None:
    index = state.plan.by_name[event.step].index
    if index not in state.in_doubt:
        return f"step {event.step!r} was not in doubt"
    if index in state.verifying and event.attempt != state.verification_attempts.get(index, 1) + 1:
        return f"step {event.step!r} was verified"
    return None


def _verified(state: State, begun: set[str], event: StepVerified | VerificationFailed) -> str | None:
    return None if state.plan.by_name[event.step].index in state.verifying else f"step {event.step!r} was not verified"


def _merged(state: State, begun: set[str], event: GroupMerged) -> str | None:
    groups, number = state.plan.groups, event.group
    if not 0 <= number < len(groups):
        return f"the flow has no group {number}"
    if number in state.merged or state.branches_ended.get(number) != len(groups[number].scopes):
        return f"group {number} had not ended"
    return None


def _compensates(state: State, begun: set[str], event: CompensationStarted) -> str | None:
    index = state.plan.by_name[event.step].index
    if event.attempt == 1:
        # That a block's step was to be skipped past the pivot, and undone before, is not stored with it.
        allowed = index in state.to_compensate or (state.plan.open and state.past_pivot and event.step in begun)
        return None if allowed else f"step {event.step!r} was not to be compensated"
    if index not in state.to_compensate and index not in state.compensating | state.compensation_stragglers:
        return f"step {event.step!r} was not to be compensated"
    if event.attempt != state.compensation_attempts.get(index, 1) + 1:
        return f"attempt {event.attempt} of compensating step {event.step!r} was not the next"
    return None


def _compensated(state: State, begun: set[str], event: Any) -> str | None:
    index = state.plan.by_name[event.step].index
    runs = state.compensating if isinstance(event, CompensationTimedOut) else state.compensating | state.compensation_stragglers
    if index not in runs or event.attempt != state.compensation_attempts.get(index, 1):
        return f"attempt {event.attempt} of compensating step {event.step!r} was not under way"
    return None


def _paused(state: State, begun: set[str], event: SagaPaused) -> str | None:
    return None if state.status in (RUNNING, SUBMITTED) else f"the execution did not go forward ({state.status})"


def _gives_up(state: State, begun: set[str], event: SagaCompensating) -> str | None:
    if event.step is not None:
        state.plan.by_name[event.step]
    undone = state.status is COMPLETED and state.cancelled is not None
    return None if undone or state.status in (RUNNING, SUBMITTED) else f"the execution did not go forward ({state.status})"


def _completed(state: State, begun: set[str], event: SagaCompleted) -> str | None:
    ended = state.status is RUNNING and not (state.executing or state.units)
    return None if ended else "the execution was not at its end"


def _undone(state: State, begun: set[str], event: SagaCompensated) -> str | None:
    left = state.executing or state.compensating or state.compensation_stragglers or state.to_compensate
    return None if state.status is COMPENSATING and not left and state.undone_to is None else "the execution was not undone"


def _rewound(state: State, begun: set[str], event: SagaRewound) -> str | None:
    left = state.executing or state.compensating or state.compensation_stragglers or state.to_compensate
    wanted = state.plan.by_name[event.step].index == state.undone_to and begun.issuperset(event.again)
    return None if state.status is COMPENSATING and wanted and not left else f"it was not undone back to step {event.step!r}"


def _stuck(state: State, begun: set[str], event: SagaStuck) -> str | None:
    return f"the execution had ended ({state.status})" if state.status in (COMPLETED, COMPENSATED) else None


def _acted(state: State, begun: set[str], event: OperatorActed) -> str | None:
    if event.action not in ACTIONS:
        return f"there is no action {event.action!r}"
    if event.action in ("skip", "undo") and event.step is not None:
        state.plan.by_name[event.step]
    if (event.action == "undo") is not (state.status is COMPLETED) or state.status is COMPENSATED:
        return f"{event.action} is not for an execution that is {state.status}"
    return None


_RULES: Final[dict[type, Callable[[State, set[str], Any], str | None]]] = {
    SagaSubmitted: _begins,
    SagaStarted: _begins,
    StepStarted: _started,
    StepSucceeded: _under_way,
    StepFailed: _under_way,
    StepTimedOut: _under_way,
    StepSkipped: _given_up,
    FallbackChosen: _given_up,
    PersonAsked: _given_up,
    WayChosen: _chosen,
    RetryScheduled: _scheduled,
    VerificationStarted: _verifies,
    StepVerified: _verified,
    VerificationFailed: _verified,
    GroupMerged: _merged,
    UnitCompensating: _unit_gives_up,
    CompensationStarted: _compensates,
    CompensationSucceeded: _compensated,
    CompensationFailed: _compensated,
    CompensationTimedOut: _compensated,
    SagaCompensating: _gives_up,
    SagaPaused: _paused,
    SagaCompleted: _completed,
    SagaCompensated: _undone,
    SagaRewound: _rewound,
    SagaStuck: _stuck,
    OperatorActed: _acted,
}


def check_order(plan: Plan, events: Iterable[Event]) -> None:
    """Refuse to go forward where a step was begun before one that it follows in this plan had ended.

    :raises DefinitionChangedError: it began by another flow; from here steps would be executed twice, or never.
    """
    begun, merged, passed = set[str](), set[int](), set[str]()
    for event in events:
        if isinstance(event, StepStarted):
            begun.add(event.step)
        elif isinstance(event, GroupMerged):
            merged.add(event.group)
        elif isinstance(event, StepSucceeded | StepSkipped | FallbackChosen | StepVerified) and getattr(event, "done", True):
            passed.add(event.step)
    # Of a unit that is over, it does not matter how its steps have ended.
    steps = [plan.by_name[name] for name in begun if not any(unit.name in passed for unit in plan.by_name[name].units)]
    open_groups = {group for step in steps for group, _ in step.branches if group.index not in merged}
    unfinished: list[tuple[str, Any]] = [(f"step {step.name!r}", step.onward) for step in steps if step.name not in passed]
    unfinished += [(f"the group of {', '.join(group.names)}", (group.then,)) for group in open_groups]
    for what, then in unfinished:
        for follower in following(*then):
            if follower.name in begun:
                raise DefinitionChangedError(
                    f"step {follower.name!r} was begun before {what} had ended, which it follows in this flow: the execution "
                    "began by another; give the definition that began it"
                )
