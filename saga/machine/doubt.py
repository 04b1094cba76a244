"""What is decided of steps whose work is not known to be done: a part of :mod:`saga.machine.folds`, which change the state."""

from __future__ import annotations

from saga.machine.plan import PlannedStep
from saga.machine.state import State
from saga.policy import InDoubt

__all__ = ["decide_doubt", "doubt", "go_no_further", "not_done"]


def not_done(state: State, step: PlannedStep) -> None:
    """The step's work is known not to be done, or not to be all that is waited for."""
    if state.past_pivot and step.index not in state.skipped and not step.gives_way:
        state.to_rerun.add(step.index)
    elif (step.compensate_on_failure or step.index in state.unready) and step.compensates:
        state.to_compensate.append(step.index)


def doubt(state: State, step: PlannedStep) -> None:
    """Nobody knows whether the step's work is done."""
    state.in_doubt.add(step.index)
    if step.verifies:
        state.to_verify.add(step.index)
    else:
        decide_doubt(state, step)


def decide_doubt(state: State, step: PlannedStep) -> None:
    """Nothing tells what came of the step: what its policy says is to be done, unless that is decided."""
    index = step.index
    if index in state.to_rerun or index in state.to_compensate or index in state.left_in_doubt:
        return
    if step.in_doubt is InDoubt.ASK:
        state.asking.add(index)
    elif state.past_pivot and index not in state.skipped and not step.gives_way:
        state.to_rerun.add(index)
    elif step.compensates:
        state.to_compensate.append(index)


def go_no_further(state: State, inside: set[int]) -> None:
    """What was decided of how these steps go on does not hold any more."""
    for index in inside & state.retries.keys():
        del state.retries[index]
    failed = inside & state.exhausted  # there is nothing to decide about them any more
    state.asking -= failed
    state.exhausted -= failed
    again = sorted(inside & state.to_rerun & state.in_doubt)
    state.to_rerun -= inside
    for index in again:
        if index not in state.to_verify | state.verifying:
            decide_doubt(state, state.plan.steps[index])
