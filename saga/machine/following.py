"""What may come after a step: read from the links of a plan."""

from __future__ import annotations

from collections.abc import Iterator

from saga.machine.plan import Content, Each, Group, PlannedStep, Then

__all__ = ["following"]


def following(*then: Then) -> Iterator[PlannedStep]:
    """Yield the steps that can be started when what they follow has ended, and those after them, through the ends of groups."""
    left, seen = [*then], set[int]()
    while left:
        one = left.pop()
        if isinstance(one, Each):
            left += (*(one.group.entries if one.group is not None else ()), one.then)
            continue
        if isinstance(one, Group | Content):
            left.append(one.then if isinstance(one, Group) else one.step.then)
            continue
        for step in one or ():
            if step.index not in seen:
                seen.add(step.index)
                yield step
                left += (*step.onward, step.fallback, step.held_up, step.content.entry if step.content is not None else ())
