"""Going on from a journal: whoever recorded it is gone, and so is every call it had under way."""

from __future__ import annotations

from saga.errors import CrashError
from saga.events import (
    RUNNING,
    FallbackChosen,
    GroupMerged,
    SagaRecovered,
    SagaRewound,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepVerified,
)
from saga.machine import operators, waits
from saga.machine.commands import EXECUTE, Merge
from saga.machine.decide import Machine
from saga.machine.failures import decide, ends_the_way_forward, verify, wait_again
from saga.machine.plan import PlannedStep
from saga.machine.state import State

__all__ = ["recover"]


def recover(machine: Machine, owner: str, epoch: int, at: float) -> None:
    """Go on from what the machine's events tell.

    What was under way is in doubt; a compensation or a verification is made again; what waited goes on waiting.
    """
    state, steps = machine.state, machine.plan.steps
    machine.record(SagaRecovered(owner, epoch, at))
    lost = [steps[index] for index in sorted(state.executing | state.stragglers) if steps[index].pause is None]
    asked = sorted(state.verifying - state.verification_retries.keys())
    undone = sorted(state.compensating - state.compensation_retries.keys())
    waiting = (*state.retries.values(), *state.verification_retries.values(), *state.compensation_retries.values())
    operators.obey_cancel(machine, at)
    _decide_doubt(machine, lost, at)
    for index in asked:
        verify(machine, steps[index], at, state.verification_attempts.get(index, 1) + 1)
    for index in undone:
        machine.compensate_again(steps[index], state.compensation_attempts.get(index, 1) + 1, at)
    for scheduled in waiting:
        if scheduled.phase != EXECUTE or scheduled in state.retries.values():  # else the saga has given up meanwhile
            wait_again(machine, scheduled, at)
    if state.status is RUNNING:
        _go_forward(machine, at)
    operators.obey(machine, at)


def _decide_doubt(machine: Machine, lost: list[PlannedStep], at: float) -> None:
    """Take it that what was cut off may have been done, and decide what follows.

    One after the other, so that what is not decided yet counts as under way.
    """
    state = machine.state
    failures = []
    for step in lost:
        attempt = state.attempt(step.index)
        error = CrashError(f"the process died while step {step.name!r} ran (attempt {attempt}): it was in doubt")
        failures.append((step, StepFailed(step.name, attempt, at, 0.0, error, True)))
    failures.sort(key=lambda one: not ends_the_way_forward(machine, *one))  # nothing is begun that would have to be undone
    for step, failure in failures:
        machine.record(failure)
        others = state.skipped | state.asking  # operators.obey sees to those, when all are known
        if state.status is RUNNING and (machine.plan.open or step.index not in others):
            decide(machine, step, failure, at)


def _go_forward(machine: Machine, at: float) -> None:
    """Do what was decided and not begun."""
    state, plan = machine.state, machine.plan
    machine.commands.extend(
        Merge(group)
        for group in plan.groups
        if state.branches_ended.get(group.index) == len(group.scopes) and group.index not in state.merged
    )
    for index in sorted(state.executing):
        waits.go_on(machine, plan.steps[index], at)
    if state.past_pivot:
        machine.start_steps(_owed(machine), at)
        for index in sorted(_cut_short(state)):
            step = plan.steps[index]
            if step.verifies:
                verify(machine, step, at)
            elif not plan.open:  # nothing of a dead block is executed again
                machine.execute_again(step, state.attempt(index) + 1, at)
    if plan.open:
        machine.give_up(CrashError("the process died in the block, between two steps"), at)


def _cut_short(state: State) -> set[int]:
    """Return the steps in doubt of which nothing is decided: an interrupt stopped the saga past its pivot before that."""
    under_way = state.executing | state.retries.keys() | state.verifying | state.compensating
    decided = state.to_verify | state.asking | state.skipped | state.to_skip
    return state.in_doubt - under_way - decided


def _owed(machine: Machine) -> tuple[PlannedStep, ...]:
    """Return the steps that nobody started though what they follow ended well: the saga was stopped past its pivot."""
    plan, events = machine.plan, machine.events
    rewound = [place for place, event in enumerate(events) if isinstance(event, SagaRewound)]
    events = events[rewound[-1] :] if rewound else events  # what came before has no part in it
    started = {event.step for event in events if isinstance(event, StepStarted)}
    fell_back = {event.step for event in events if isinstance(event, FallbackChosen)}
    owed: dict[str, PlannedStep] = {}
    for event in events:
        if isinstance(event, GroupMerged):
            then = plan.groups[event.group].then
        elif isinstance(event, StepSucceeded | StepSkipped | StepVerified) and event.step not in fell_back:
            if isinstance(event, StepVerified) and not event.done:
                continue
            then = plan.by_name[event.step].then
        else:
            continue
        owed.update((step.name, step) for step in (then if isinstance(then, tuple) else ()) if step.name not in started)
    return tuple(owed.values())
