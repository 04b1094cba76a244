"""What a person may do with an execution, and what follows from it.

:func:`check` has the rules, once: for the machine that runs an execution, and for those who know no more of it than a store
tells (:class:`Standing`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from saga.errors import ActionRefusedError, SagaCancelledError, near
from saga.events import (
    COMPENSATED,
    COMPENSATING,
    COMPLETED,
    PAUSED,
    RUNNING,
    STUCK,
    SUBMITTED,
    Event,
    OperatorActed,
    SagaCompensated,
    SagaCompensating,
    SagaPaused,
    Status,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepVerified,
)
from saga.machine import back, failures
from saga.machine.decide import Machine
from saga.machine.following import following
from saga.machine.plan import Each
from saga.machine.state import State, status_after
from saga.machine.undo import paused_by

__all__ = [
    "ACTIONS",
    "Standing",
    "act",
    "cancellation",
    "check",
    "check_signal",
    "check_undo_to",
    "choices",
    "decided_on",
    "obey",
    "obey_cancel",
    "standing_of",
]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an execution stands, as far as it matters for a person's actions. What is not known refuses nothing.

    :ivar gave_up: whether the undo has begun.
    :ivar unbegun: whether it was submitted, and nobody has begun it.
    :ivar pausing: whether a person said to pause it, and calls still run.
    :ivar block: whether it is a block's.
    :ivar idle: whether there is nothing under way or left to undo.
    :ivar asking: the steps that failed for good or are in doubt, and wait for a decision.
    :ivar failed: those whose compensation failed for good;
    :ivar undecided: both, in the order declared.
    """

    status: Status
    gave_up: bool | None = None
    unbegun: bool | None = None
    pausing: bool | None = None
    block: bool | None = None
    past_pivot: bool | None = None
    idle: bool | None = None
    asking: tuple[str, ...] | None = None
    failed: tuple[str, ...] | None = None
    undecided: tuple[str, ...] | None = None


def standing_of(state: State) -> Standing:
    """Return where an execution stands."""

    def names(indexes: set[int]) -> tuple[str, ...]:
        return tuple(state.plan.steps[index].name for index in sorted(indexes))

    undone = state.to_compensate or state.compensating or state.compensation_stragglers
    idle = not (state.executing or state.verifying or undone)
    asking, failed = state.asking, set(state.compensations_failed)
    gave_up = state.cause is not None
    return Standing(
        state.status,
        gave_up=gave_up,
        unbegun=state.unbegun,
        pausing=state.pausing is not None,
        block=state.plan.open,
        past_pivot=state.past_pivot,
        idle=idle,
        asking=names(asking),
        failed=names(failed),
        undecided=names(asking | failed),
    )


def _back(action: str, standing: Standing, step: str | None) -> str | None:
    if standing.past_pivot:
        return "the saga is past its pivot: nothing is undone any more"
    if action == "cancel" and standing.status not in (SUBMITTED, RUNNING, PAUSED):
        return f"the execution does not go forward ({standing.status}): there is nothing to cancel"
    return None


def _pause(action: str, standing: Standing, step: str | None) -> str | None:
    if standing.status not in (SUBMITTED, RUNNING):
        return f"the execution does not go forward ({standing.status}): there is nothing to pause"
    if standing.pausing:
        return "the execution is about to be paused: what runs of it ends first"
    if standing.block:
        return "a block runs in its caller's own code, which nobody can go on with elsewhere: it cannot be paused"
    return None


def _retry(action: str, standing: Standing, step: str | None) -> str | None:
    if standing.status is not STUCK:
        return f"the execution is not stuck ({standing.status}): there is nothing to retry"
    if standing.failed == ():
        return "no compensation has failed: there is nothing to retry"
    return None


def _resume(action: str, standing: Standing, step: str | None) -> str | None:
    if standing.status is PAUSED:
        return None
    if standing.pausing:
        return "the execution is about to be paused: what runs of it ends first; resume it when it is paused"
    if standing.status is not STUCK:
        return f"the execution is neither stuck nor paused ({standing.status}): there is nothing to resume"
    if standing.failed:
        return "a compensation has failed; use retry, or skip the step once it is undone by hand"
    if standing.gave_up and standing.asking and standing.idle:
        return "the undo has begun, so no step is executed again; use compensate, or skip the step in doubt"
    return None


def _skip(action: str, standing: Standing, step: str | None) -> str | None:
    if standing.status is not STUCK:
        return f"the execution is not stuck ({standing.status}): there is nothing to skip"
    left = standing.undecided
    if left == ():
        return "no step waits for a decision of a person: there is nothing to skip"
    if left is not None and step not in left:
        return f"step {step!r} waits for no decision of a person; those that do: {', '.join(left)}"
    return None


def _undo(action: str, standing: Standing, step: str | None) -> str | None:
    status = standing.status
    if status is COMPENSATED:
        return "the execution is undone already"
    if status is COMPENSATING:
        return "the execution is being undone already"
    if standing.past_pivot:
        return "the saga is past its pivot: nothing is undone any more"
    if status is COMPLETED:
        return None
    instead = "cancel" if status in (SUBMITTED, RUNNING) else "compensate"
    return f"the execution is not completed ({status}): use {instead}, which undoes what it has done"


#: For each action, what says why it does not fit.
ACTIONS: Final[dict[str, Callable[[str, Standing, str | None], str | None]]] = {
    "cancel": _back,
    "compensate": _back,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "skip": _skip,
    "undo": _undo,
}


def check(action: str, step: str | None, standing: Standing) -> None:
    """Refuse an action that does not fit where the execution stands.

    :raises ActionRefusedError: the text says why.
    """
    if action not in ACTIONS:
        raise ActionRefusedError(f"there is no action {action!r}; give one of {', '.join(ACTIONS)}")
    if standing.status in (COMPLETED, COMPENSATED) and action != "undo":
        raise ActionRefusedError(f"the execution has ended ({standing.status}); there is nothing to {action}")
    refusal = ACTIONS[action](action, standing, step)
    if refusal is not None:
        raise ActionRefusedError(refusal)


def check_signal(standing: Standing) -> None:
    """Refuse a signal that no step will receive.

    :raises ActionRefusedError: the text says why.
    """
    if standing.gave_up or standing.status not in (SUBMITTED, RUNNING, PAUSED, STUCK):
        raise ActionRefusedError(f"the execution does not go forward ({standing.status}): no step receives a signal any more")


def choices(standing: Standing) -> list[str]:
    """Return the actions that fit, but for ``skip``, which is one of a step: the one that changes least first."""
    fitting = []
    for action in ("retry", "resume", "compensate", "cancel"):
        with suppress(ActionRefusedError):
            check(action, None, standing)
            fitting.append(action)
    return fitting


# -- what follows -----------------------------------------------------------------------------------------------------


def act(machine: Machine, action: OperatorActed) -> None:
    """Take what a person decided while the execution runs here.

    :raises ActionRefusedError: the action is not one for where the execution stands; nothing is recorded.
    """
    check(action.action, action.step, standing_of(machine.state))
    if action.action == "undo" and action.step is not None:
        check_undo_to(machine, action.step)
    machine.record(action)
    obey(machine, action.at)


def check_undo_to(machine: Machine, to: str) -> None:
    """Refuse to undo a completed execution back to a step from which it could not go forward again.

    :raises ActionRefusedError: the text says why.
    """
    plan, done, begun = machine.plan, set[str](), set[str]()
    for event in machine.events:
        if isinstance(event, StepStarted):
            begun.add(event.step)
        elif isinstance(event, StepSucceeded) or (isinstance(event, StepVerified) and event.done):
            done.add(event.step)
    step = plan.by_name.get(to)
    why = None
    if plan.open:
        why = "a block cannot go forward again; undo all of it"
    elif step is None:
        why = f"there is no step {to!r}{near(to, plan.names)}; steps: {', '.join(plan.names)}"
    elif step.branches:
        why = f"step {to!r} stands in a parallel group; give a step before or after the group"
    elif step.units:
        why = f"step {to!r} stands in unit {step.units[0].name!r}; give that, or a step before or after it"
    elif to not in done or step.index in machine.state.skipped:
        why = f"step {to!r} was not done, so nothing is undone back to it; give one that was"
    elif (goes_over := next((one for one in (step, *following(*step.onward)) if isinstance(one.then, Each)), None)) is not None:
        why = f"step {goes_over.name!r} lists what steps are done for, which may be another list then; undo all of it"
    elif not any(later.name in begun for later in following(*step.onward)):
        why = f"nothing came after step {to!r}; give an earlier one, or none to undo all"
    if why is not None:
        raise ActionRefusedError(why)


def obey(machine: Machine, at: float) -> None:
    """Do what a person decided, then go on: only now may the execution that is recovered end."""
    state, steps = machine.state, machine.plan.steps
    obey_cancel(machine, at)
    if state.status is RUNNING and not state.held:
        for index in sorted(state.to_verify):
            machine.verify(steps[index], at)
        for index in sorted(state.skipped.intersection(state.to_compensate) - state.verifying):
            if state.goes_forward(steps[index]):
                machine.compensate(steps[index], at)  # what is left of steps that the saga has gone on without
        for index in sorted(state.falling_back - state.asking):
            failures.fall_back(machine, steps[index], at)
        for index in sorted(state.to_rerun - state.verifying):
            if not machine.plan.open:  # nothing of a dead block is executed again
                machine.execute_again(steps[index], state.attempt(index) + 1, at)
        for index in sorted(state.to_skip - state.compensating):
            machine.record(StepSkipped(steps[index].name, at))
            machine.advance(steps[index].then, at)
    machine.deciding = False
    machine.progress(at)


def obey_cancel(machine: Machine, at: float) -> None:
    """Give up, where a person said so."""
    state, action = machine.state, machine.state.cancelled
    if action is not None and state.status in (SUBMITTED, RUNNING, COMPLETED) and not state.past_pivot:
        back.turn_back(machine, None, cancellation(action), at)


def cancellation(action: OperatorActed) -> SagaCancelledError:
    """Return what an execution gives up for, where a person said so."""
    return SagaCancelledError(f"{action.action} by {action.who}: {action.why}")


def decided_on(standing: Standing, acted: OperatorActed) -> tuple[list[Event], Status]:
    """Return the events of a person's action on an execution that nobody runs, and its status then."""
    events: list[Event] = [acted]
    unbegun = standing.unbegun and acted.action in ("cancel", "compensate")
    if unbegun or acted.action == "undo":  # nothing of it is to be recovered first
        events.append(SagaCompensating(None, cancellation(acted), acted.at))
    if unbegun:  # and it need not wait until it would have been its turn
        events.append(SagaCompensated(acted.at))
    if acted.action == "pause":
        events.append(SagaPaused(paused_by(acted), acted.at))
    status = standing.status
    for event in events:
        status = status_after(status, type(event), bool(standing.gave_up), bool(standing.unbegun))
    return events, status
