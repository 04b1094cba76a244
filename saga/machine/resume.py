"""Going on from a journal: whoever recorded it is gone, and so is every call it had under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from saga.errors import CrashError
from saga.events import (
    RUNNING,
    Event,
    FallbackChosen,
    GroupMerged,
    OperatorActed,
    SagaHeld,
    SagaRecovered,
    SagaRewound,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepVerified,
    WayChosen,
)
from saga.machine import operators, waits
from saga.machine.commands import COMPENSATE, EXECUTE, Call, Wait
from saga.machine.decide import DECISIONS, Machine
from saga.machine.failures import decide, ends_the_way_forward, wait_again
from saga.machine.plan import Each, PlannedStep
from saga.machine.state import State

__all__ = ["recover"]

_UNSTORED: Final = "nobody stored what came of step {!r} (attempt {}): whoever ran it died or could not"


def recover(machine: Machine, owner: str, epoch: int, at: float, carried: Mapping[str, str] | None = None) -> None:
    """Go on from what the machine's events tell.

    What was under way is in doubt, unless it is transactional: then it was rolled back, and is made again as a compensation or
    a verification is; what waited goes on waiting. Where it was
    held, what follows the outcomes that came meanwhile is decided now; where it was about to be paused, it is.
    """
    state, steps = machine.state, machine.plan.steps
    if machine.pause(at):
        return
    machine.deciding = True
    undecided = _undecided(machine.events) if state.held else []
    machine.record(SagaRecovered(owner, epoch, at, carried))
    waits_on = [steps[index] for index in sorted(state.executing) if steps[index].pause is not None]
    lost = [steps[index] for index in sorted(state.executing | state.stragglers) if steps[index].pause is None]
    asked = sorted(state.verifying - state.verification_retries.keys())
    undone = sorted(state.compensating - state.compensation_retries.keys() | state.compensation_stragglers)
    waiting = (*state.retries.values(), *state.verification_retries.values(), *state.compensation_retries.values())
    operators.obey_cancel(machine, at)
    _decide_doubt(machine, [step for step in lost if not step.transactional], at)
    for step in lost:
        if step.transactional:
            _begin_rolled_back(machine, step, at)
    machine.decide_late(undecided, at)
    for index in asked:
        machine.verify(steps[index], at, state.verification_attempts.get(index, 1) + 1)
    for index in undone:
        attempt = state.compensation_attempts.get(index, 1)
        if steps[index].transactional:  # it was rolled back: this is the same attempt
            machine.commands.append(Call(steps[index], attempt, COMPENSATE))
        else:
            machine.compensate_again(steps[index], attempt + 1, at)
    for scheduled in waiting:
        if scheduled.phase != EXECUTE or scheduled in state.retries.values():  # else the saga has given up meanwhile
            wait_again(machine, scheduled, at)
    if state.status is RUNNING:
        _go_forward(machine, waits_on, at)
    operators.obey(machine, at)


def _undecided(events: Iterable[Event]) -> list[Event]:
    """Return the outcomes that came since the execution was held last.

    Of a call that outlived its timeout another one tells, when it has ended.
    """
    found: list[Event] = []
    held = False
    for event in events:
        if isinstance(event, SagaRecovered):
            found.clear()
            held = False
        elif isinstance(event, SagaHeld) or (isinstance(event, OperatorActed) and event.action == "pause"):
            held = True
        elif held and type(event) in DECISIONS and not getattr(event, "running", False):
            found.append(event)
    return found


def _decide_doubt(machine: Machine, lost: list[PlannedStep], at: float) -> None:
    """Take it that what was cut off may have been done, and decide what follows.

    One after the other, so that what is not decided yet counts as under way.
    """
    state = machine.state
    failures = []
    for step in lost:
        attempt = state.attempt(step.index)
        error = CrashError(f"{_UNSTORED.format(step.name, attempt)}; it was in doubt")
        failures.append((step, StepFailed(step.name, attempt, at, 0.0, error, True)))
    failures.sort(key=lambda one: not ends_the_way_forward(machine, *one))  # nothing is begun that would have to be undone
    for step, failure in failures:
        machine.record(failure)
        others = state.skipped | state.asking  # operators.obey sees to those, when all are known
        if state.status is RUNNING and (machine.plan.open or step.index not in others):
            decide(machine, step, failure, at)


def _begin_rolled_back(machine: Machine, step: PlannedStep, at: float) -> None:
    """Make the same attempt of a transactional step: its transaction died with its process, and nothing of it is left."""
    attempt = machine.state.attempt(step.index)
    if machine.state.status is RUNNING and not machine.plan.open:
        machine.commands.append(Call(step, attempt))
    else:
        error = CrashError(f"{_UNSTORED.format(step.name, attempt)}; it was rolled back")
        machine.send(StepFailed(step.name, attempt, at, 0.0, error))


def _go_forward(machine: Machine, waits_on: list[PlannedStep], at: float) -> None:
    """Do what was decided and not begun, and let the steps that wait wait on."""
    state, plan = machine.state, machine.plan
    for group in plan.groups:
        ended = state.branches_ended.get(group.index) == len(group.scopes)
        if ended and group.index not in state.merged and state.goes_forward(group):
            machine.merge(group)
    for index in sorted(state.units - state.undoing.keys()):
        unit = plan.steps[index]
        if index in state.units_ended:
            machine.advance(unit.content, at)
        elif unit.timeout is not None:
            left = waits.left_of(unit.timeout, machine.log.started_at(unit.name), at)
            machine.commands.insert(0, Wait(unit, state.attempt(index), left))  # it may be over before anything begins
    for step in waits_on:
        waits.go_on(machine, step, at)
    for number in sorted(state.branches_begun.keys() - state.merged):
        if state.goes_forward(plan.groups[number]):
            machine.begin_branches(plan.groups[number], at)
    if state.past_pivot:
        machine.start_steps(_owed(machine), at)
        for index in sorted(_cut_short(state)):
            step = plan.steps[index]
            if step.verifies:
                machine.verify(step, at)
            elif not plan.open:  # nothing of a dead block is executed again
                machine.execute_again(step, state.attempt(index) + 1, at)
    if plan.open:
        machine.give_up(CrashError("nobody stored the end of the block: whoever ran it died or could not"), at)


def _cut_short(state: State) -> set[int]:
    """Return the steps in doubt of which nothing is decided: an interrupt stopped the saga past its pivot before that.

    Of what is undone with its unit nothing is to be decided.
    """
    under_way = state.executing | state.retries.keys() | state.verifying | state.compensating
    decided = state.to_verify | state.asking | state.skipped | state.to_skip | state.again
    left = state.in_doubt - under_way - decided
    return {index for index in left if state.goes_forward(state.plan.steps[index])}


def _owed(machine: Machine) -> tuple[PlannedStep, ...]:
    """Return the steps that nobody started though what they follow ended well: the saga was stopped past its pivot."""
    plan, events = machine.plan, machine.events
    rewound = [place for place, event in enumerate(events) if isinstance(event, SagaRewound)]
    events = events[rewound[-1] :] if rewound else events  # what came before has no part in it
    started = set[str]()
    fell_back = {event.step for event in events if isinstance(event, FallbackChosen)}
    owed: dict[str, PlannedStep] = {}
    for event in events:
        if isinstance(event, StepStarted):
            started.add(event.step)
            if event.attempt > 1 and event.step in plan.by_name and plan.by_name[event.step].content is not None:
                anew = {step.name for step in plan.within(plan.by_name[event.step])}
                started -= anew
                owed = {name: step for name, step in owed.items() if name not in anew}
            continue
        if isinstance(event, GroupMerged):
            then = plan.groups[event.group].then
        elif isinstance(event, WayChosen):
            step = plan.by_name[event.step]
            then = (step.ways and step.ways.entries[event.way]) or step.then
        elif isinstance(event, StepSucceeded | StepSkipped | StepVerified) and event.step not in fell_back:
            if isinstance(event, StepVerified) and not event.done:
                continue
            step = plan.by_name[event.step]
            if step.ways is not None and not isinstance(event, StepSkipped):  # its way has an event of its own
                continue
            then = step.then
            if isinstance(then, Each) and then.group is None:  # nothing was listed
                then = then.then
        else:
            continue
        owed.update((step.name, step) for step in (then if isinstance(then, tuple) else ()))
    return tuple(step for name, step in owed.items() if name not in started)
