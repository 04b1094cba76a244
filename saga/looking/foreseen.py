"""What would follow in an execution: tried on a machine that has read its journal. Nothing is told here."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Final

from saga.errors import OutcomeUnknownError
from saga.events import (
    COMPENSATING,
    RUNNING,
    CompensationFailed,
    CompensationSucceeded,
    GroupMerged,
    OperatorActed,
    StepFailed,
    StepSucceeded,
    StepVerified,
    VerificationFailed,
)
from saga.looking.reading import Reading
from saga.machine import Finish, Machine, Merge, PlannedStep, Standing, Wait, act, decided_on, recover
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY

__all__ = ["PHASES", "Foreseen", "Outcome", "foreseen", "under_way"]

Outcome = StepSucceeded | StepFailed | StepVerified | VerificationFailed | CompensationSucceeded | CompensationFailed
"""What a call may come to."""
PHASES: Final = {
    StepSucceeded: EXECUTE,
    StepFailed: EXECUTE,
    StepVerified: VERIFY,
    VerificationFailed: VERIFY,
    CompensationSucceeded: COMPENSATE,
    CompensationFailed: COMPENSATE,
}


@dataclass(slots=True)
class Foreseen:
    """What would follow, step by step, if all calls that come first end well and no verification tells anything.

    :ivar known: what a call comes to instead, the first time that it is made; ``None`` where that is not known, or was made.
    :ivar ending: calls that run, and end first.
    :ivar verified: steps whose verification is asked.
    :ivar undone: steps that are compensated, in order.
    :ivar executed: steps that are executed, with the number of the attempt.
    :ivar waiting: steps that wait on.
    """

    machine: Machine
    known: Outcome | None = None
    ending: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    executed: dict[str, int] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    def go_on(self, at: float) -> None:
        """Do what the machine commands, to the end of what is foreseen."""
        machine = self.machine
        while machine.commands:
            _go_on(machine, self, at)
        self.waiting = [
            step.name for step in machine.plan.steps if step.pause is not None and step.index in machine.state.executing
        ]


def foreseen(reading: Reading, standing: Standing, acted: OperatorActed, live: bool, known: Outcome | None = None) -> Foreseen:
    """Return what would follow a person's action.

    :param live: whether somebody runs the execution.
    :param known: what a call comes to, where that is known.
    """
    machine = reading.machine()
    found = Foreseen(machine, known)
    at = acted.at
    if live and machine.status in (RUNNING, COMPENSATING):
        ends = under_way(machine)
        act(machine, acted)
        for end in ends:
            found.ending.append(end.step)
            machine.send(end)
        if machine.state.held and machine.state.pausing is None:  # a pause is taken back, and whoever takes it up goes on
            recover(machine, "", 1, at)
    else:
        for event in decided_on(standing, acted)[0]:
            machine.record(event)
        if not machine.ended and not machine.state.unbegun:
            recover(machine, "", 1, at)
    found.go_on(at)
    return found


def under_way(machine: Machine) -> list[StepSucceeded | CompensationSucceeded | VerificationFailed]:
    """Return how the calls that run would end."""
    state, steps, at = machine.state, machine.plan.steps, max((event.at for event in machine.events), default=0.0)
    executes = [steps[index] for index in sorted(state.executing | state.stragglers) if steps[index].pause is None]
    undoes = state.compensating - state.compensation_retries.keys() | state.compensation_stragglers
    undone = [steps[index] for index in sorted(undoes)]
    asked = [steps[index] for index in sorted(state.verifying - state.verification_retries.keys())]
    return [
        *(StepSucceeded(step.name, state.attempt(step.index), at, 0.0, None) for step in executes),
        *(CompensationSucceeded(step.name, state.compensation_attempts.get(step.index, 1), at, 0.0) for step in undone),
        *(_untold(step, at) for step in asked),
    ]


def _untold(step: PlannedStep, at: float) -> VerificationFailed:
    """Return how the last attempt of a verification ends that tells nothing: the last in number, or in time."""
    retry = step.verification_retry
    often = sys.maxsize if retry.max_attempts is None else retry.max_attempts
    long = retry.max_elapsed + 1 if isinstance(retry.max_elapsed, int | float) else 0.0
    return VerificationFailed(step.name, often, at + long, 0.0, OutcomeUnknownError())


def _go_on(machine: Machine, found: Foreseen, at: float) -> None:
    command = machine.commands.pop(0)
    if isinstance(command, Merge):
        machine.send(GroupMerged(command.group.index, at))
    elif isinstance(command, Finish) and command.error is not None:
        machine.send(StepFailed(command.step.name, machine.state.attempt(command.step.index), at, 0.0, command.error))
    elif isinstance(command, Finish):
        machine.send(StepSucceeded(command.step.name, machine.state.attempt(command.step.index), at, 0.0, command.value))
    elif isinstance(command, Wait):
        if command.phase != EXECUTE:
            machine.wake(command, at)
        elif command.step.pause is None and command.step.index not in machine.state.units:
            found.executed[command.step.name] = command.attempt
    else:
        known, end = found.known, None
        if known is not None and (known.step, PHASES[type(known)]) == (command.step.name, command.phase):
            found.known, end = None, replace(known, attempt=command.attempt, at=at)
        if command.phase == COMPENSATE:
            found.undone.append(command.step.name)
            end = CompensationSucceeded(command.step.name, command.attempt, at, 0.0) if end is None else end
        elif command.phase == VERIFY:
            found.verified.append(command.step.name)
            end = _untold(command.step, at) if end is None else end
        else:
            found.executed[command.step.name] = command.attempt
        if end is not None:
            machine.send(end)
