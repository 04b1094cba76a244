"""What the machine commands, one small class each. A driver does what they say; nothing here does anything.

A driver takes commands in order, and stores the events that led to one before it does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saga.machine.plan import Group, PlannedStep

__all__ = ["Call", "Command", "Finish", "Merge", "Wait"]


class Call:
    """Call a step's ``execute``, or its ``compensate`` where ``compensation``; ``attempt`` counts from 1."""

    __slots__ = ("attempt", "compensation", "step")

    def __init__(self, step: PlannedStep, attempt: int, compensation: bool = False) -> None:
        self.step = step
        self.attempt = attempt
        self.compensation = compensation


class Wait:
    """Call :meth:`Machine.wake` with this after ``delay`` seconds: another attempt is due, or what a step waits for."""

    __slots__ = ("attempt", "compensation", "delay", "step")

    def __init__(self, step: PlannedStep, attempt: int, delay: float, compensation: bool = False) -> None:
        self.step = step
        self.attempt = attempt
        self.delay = delay
        self.compensation = compensation


class Finish:
    """A step that waited has come to its end with ``value``: it ends as a call does that returned it."""

    __slots__ = ("step", "value")

    def __init__(self, step: PlannedStep, value: Any) -> None:
        self.step = step
        self.value = value


class Merge:
    """Merge the views of a group's branches, then send ``GroupMerged``, or call :meth:`Machine.give_up`."""

    __slots__ = ("group",)

    def __init__(self, group: Group) -> None:
        self.group = group


Command = Call | Wait | Finish | Merge
