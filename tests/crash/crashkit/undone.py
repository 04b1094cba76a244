"""What must be so of a completed execution that is undone on request, whoever dies meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from crashkit.scenario import Scenario
from crashkit.world import Line
from saga.storage import Entry, StoredExecution

Found = tuple[StoredExecution, Sequence[Entry]]


def faults_of(
    scenario: Scenario, to: str | None, lines: Sequence[Line], stood: Found, again: Sequence[Line], looks: Sequence[Found]
) -> Iterator[str]:
    """Yield what is wrong.

    :param to: back to which step; ``None`` where all is undone.
    :param lines: what was done until it was undone; ``stood``: what was stored then.
    :param again: what was done when it went forward again.
    :param looks: what was stored when each process had ended.
    """
    for (_, before), (_, after) in pairwise(looks):
        if list(before) != list(after[: len(before)]):
            yield "the journal was rewritten"
    expected = "compensated" if to is None else "paused"
    if stood[0].status != expected or stood[0].owner is not None:
        yield f"it is {stood[0].status}, of {stood[0].owner}, and should be {expected}"
    declared = scenario.told_by(stood[1]).names()
    names = [name for name in declared if any(line.verb == "did" and line.step == name for line in lines)]
    kept = names[: names.index(to) + 1] if to is not None else []
    for name in names:
        if there(lines, name) != (name in kept):
            yield f"{name} is {'' if there(lines, name) else 'not '}there when it is {expected}"
    completed = [entry.step for entry in stood[1] if entry.kind == "StepSucceeded" and entry.step in declared]
    order = list(dict.fromkeys(line.step for line in lines if line.verb == "undoing"))
    if order != [name for name in reversed(completed) if name not in kept]:
        yield f"undone in the order {order}, and completed in {completed}"
    if to is not None:
        if looks[-1][0].status != "completed":
            yield f"it went forward again, and is {looks[-1][0].status}"
        yield from (f"{name} is not there in the end" for name in names if not there([*lines, *again], name))
    calls = Counter((line.verb, line.step, line.attempt) for line in (*lines, *again) if line.verb in ("start", "undoing"))
    yield from (f"{call} ran {count} times" for call, count in calls.items() if count > 1)


def there(lines: Sequence[Line], name: str) -> bool:
    """Whether a step's work is done, and not undone."""
    return [line.verb for line in lines if line.step == name and line.verb in ("did", "undid")][-1:] == ["did"]
