"""Going on from a journal: whoever recorded it is gone, and so is every call it had under way."""

from __future__ import annotations

from saga.errors import CrashError
from saga.events import (
    RUNNING,
    FallbackChosen,
    GroupMerged,
    SagaRecovered,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from saga.machine import operators, waits
from saga.machine.commands import Merge, Wait
from saga.machine.decide import Machine
from saga.machine.plan import PlannedStep
from saga.policy import InDoubt

__all__ = ["recover"]


def recover(machine: Machine, owner: str, epoch: int, at: float) -> None:
    """Go on from what the machine's events tell.

    What was under way is in doubt; a compensation is made again; what waited goes on waiting.
    """
    state, steps = machine.state, machine.plan.steps
    machine.record(SagaRecovered(owner, epoch, at))
    lost = [steps[index] for index in sorted(state.executing | state.stragglers) if steps[index].pause is None]
    operators.obey_cancel(machine, at)
    _decide_doubt(machine, lost, at)
    for index in sorted(state.compensating - state.compensation_retries.keys()):
        machine.compensate_again(steps[index], state.compensation_attempts.get(index, 1) + 1, at)
    for scheduled in (*state.retries.values(), *state.compensation_retries.values()):
        left = max(0.0, scheduled.at + scheduled.delay - at)
        step = machine.plan.by_name[scheduled.step]
        machine.commands.append(Wait(step, scheduled.attempt, left, scheduled.compensation))
    if state.status is RUNNING:
        _go_forward(machine, at)
    operators.obey(machine, at)


def _decide_doubt(machine: Machine, lost: list[PlannedStep], at: float) -> None:
    """Execute again what was cut off, or fail it, and give up where a task says so."""
    state = machine.state
    waited_for = [step for step in lost if step.index not in state.skipped]
    going = state.status is RUNNING and not machine.plan.open  # what would follow an open plan died with its process
    goes_on = going and (state.past_pivot or all(step.in_doubt is not InDoubt.COMPENSATE for step in waited_for))
    cause: tuple[str, CrashError] | None = None
    for step in lost:
        attempt = state.attempt(step.index)
        if goes_on and (state.past_pivot or step.in_doubt is InDoubt.RERUN) and step in waited_for:
            machine.execute_again(step, attempt + 1, at)
            continue
        error = CrashError(f"the process died while step {step.name!r} ran (attempt {attempt}): it is in doubt")
        machine.record(StepFailed(step.name, attempt, at, 0.0, error, True))
        if cause is None and step in waited_for and (machine.plan.open or step.in_doubt is InDoubt.COMPENSATE):
            cause = step.name, error
    if cause is not None and state.status is RUNNING:
        machine.turn_back(*cause, at)


def _go_forward(machine: Machine, at: float) -> None:
    """Do what was decided and not begun."""
    state, plan = machine.state, machine.plan
    machine.commands.extend(
        Merge(group)
        for group in plan.groups
        if state.branches_ended.get(group.index) == len(group.scopes) and group.index not in state.merged
    )
    operators.compensate_skipped(machine, at)
    for index in sorted(state.falling_back):
        machine.fall_back(plan.steps[index], at)
    for index in sorted(state.executing):
        waits.go_on(machine, plan.steps[index], at)
    if state.past_pivot:
        machine.start_steps(_owed(machine), at)
    if plan.open:
        machine.give_up(CrashError("the process died in the block, between two steps"), at)


def _owed(machine: Machine) -> tuple[PlannedStep, ...]:
    """Return the steps that nobody started though what they follow ended well: the saga was stopped past its pivot."""
    plan, events = machine.plan, machine.events
    started = {event.step for event in events if isinstance(event, StepStarted)}
    fell_back = {event.step for event in events if isinstance(event, FallbackChosen)}
    owed: dict[str, PlannedStep] = {}
    for event in events:
        if isinstance(event, GroupMerged):
            then = plan.groups[event.group].then
        elif isinstance(event, StepSucceeded | StepSkipped) and event.step not in fell_back:
            then = plan.by_name[event.step].then
        else:
            continue
        owed.update((step.name, step) for step in (then if isinstance(then, tuple) else ()) if step.name not in started)
    return tuple(owed.values())
