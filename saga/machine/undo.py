"""What is compensated next, and why a person must act: read from the state, which stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from saga.events import COMPENSATING, OperatorActed
from saga.machine.commands import Call
from saga.machine.plan import PlannedStep
from saga.machine.state import State
from saga.policy import InDoubt

__all__ = [
    "DOUBTFUL",
    "LEFT",
    "STRANDED",
    "compensations_after",
    "named_in",
    "next_to_compensate",
    "paused_by",
    "reason_to_ask",
]


DOUBTFUL: Final = "in doubt, and the task says ASK: "
LEFT: Final = "not compensated: "
STRANDED: Final = (
    "nothing is left to do, and this is not the end: the journal lost an entry, or another flow began it; compensate undoes it"
)


def next_to_compensate(state: State, among: Collection[int] | None = None) -> list[PlannedStep]:
    """Return the step that completed last, and those of branches that are compensated together with it.

    :param among: the steps that are undone; ``None``: all.
    """
    steps = state.plan.steps
    chosen, before = [], [steps[index] for index in state.compensating if among is None or index in among]
    for index in reversed(state.to_compensate):
        if among is not None and index not in among:
            continue
        step = steps[index]
        if all(_together(step, other) for other in before):
            chosen.append(step)
        before.append(step)
    return chosen


def _together(one: PlannedStep, other: PlannedStep) -> bool:
    for (group, branch), (other_group, other_branch) in zip(one.branches, other.branches, strict=False):
        if group is not other_group:
            return False
        if branch != other_branch:
            return group.compensate_together
    return False


def compensations_after(state: State) -> Iterator[Call | None] | None:
    """Return what yields the compensations of a plain plan that follow the one under way, and then ``None``.

    Return ``None`` itself where the machine has to decide after each.
    """
    if state.status is not COMPENSATING or state.compensations_failed or state.asking:
        return None
    steps = state.plan.steps
    calls: list[Call | None] = [steps[index].first_compensation for index in reversed(state.to_compensate)]
    calls.append(None)
    return iter(calls)


def paused_by(action: OperatorActed) -> str:
    """Return why an execution is paused, where a person said so."""
    return f"by {action.who}: {action.why}"


def reason_to_ask(state: State) -> str:
    """Return why an execution cannot go on without a person."""
    steps = state.plan.steps
    reasons = []
    if state.compensations_failed:
        reasons.append("compensation failed: " + ", ".join(steps[i].name for i in sorted(state.compensations_failed)))
        left = [steps[i].name for i in state.to_compensate]
        if left and state.cause is not None:
            reasons.append(LEFT + ", ".join(reversed(left)))
    asking = [steps[i] for i in sorted(state.asking)]
    failed = [step.name for step in asking if step.index in state.exhausted]
    unkept = [step.name for step in asking if state.past_pivot and step.in_doubt is not InDoubt.ASK and step.name not in failed]
    doubtful = [step.name for step in asking if step.name not in (*unkept, *failed)]
    if failed:
        reasons.append("failed for good, and on_error says Ask: " + ", ".join(failed))
    if doubtful:
        reasons.append(DOUBTFUL + ", ".join(doubtful))
    if unkept:
        reasons.append("done past the pivot, and what came of it could not be stored: " + ", ".join(unkept))
    return "; ".join(reasons)


def named_in(reason: str, clause: str, names: Iterable[str]) -> list[str]:
    """Return the steps that :func:`reason_to_ask` named for one of its reasons: :data:`DOUBTFUL` or :data:`LEFT`.

    :param names: of all steps: a name may have in it what stands between two.
    """
    begins = f"; {reason}".find(f"; {clause}")
    rest = "" if begins < 0 else f", {reason[begins + len(clause) :]}"
    known, found = sorted(names, key=len, reverse=True), list[str]()
    while rest.startswith(", "):
        rest = rest.removeprefix(", ")
        name = next((one for one in known if rest == one or rest.startswith((f"{one}, ", f"{one}; "))), None)
        if name is None:
            break
        found.append(name)
        rest = rest.removeprefix(name)
    return found
