"""What the machine commands, one small class each. A driver does what they say; nothing here does anything.

A driver takes commands in order, and stores the events that led to one before it does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from saga.machine.plan import Group, PlannedStep

__all__ = ["COMPENSATE", "EXECUTE", "VERIFY", "Call", "Command", "Finish", "Merge", "Wait"]

EXECUTE: Final = "execute"
VERIFY: Final = "verify"
COMPENSATE: Final = "compensate"


class Call:
    """Call a step's method: ``phase`` is its name, one of the three above. ``attempt`` counts from 1."""

    __slots__ = ("attempt", "phase", "step")

    def __init__(self, step: PlannedStep, attempt: int, phase: str = EXECUTE) -> None:
        self.step = step
        self.attempt = attempt
        self.phase = phase


class Wait:
    """Call :meth:`Machine.wake` with this after ``delay`` seconds: another attempt is due, or what a step waits for."""

    __slots__ = ("attempt", "delay", "phase", "step")

    def __init__(self, step: PlannedStep, attempt: int, delay: float, phase: str = EXECUTE) -> None:
        self.step = step
        self.attempt = attempt
        self.delay = delay
        self.phase = phase


class Finish:
    """A step that nobody calls has come to its end: one that waited with ``value``, as a call does that returned it.

    ``error``: of one that stands for a unit, what that has failed with: it is undone.
    """

    __slots__ = ("error", "step", "value")

    def __init__(self, step: PlannedStep, value: Any = None, error: BaseException | None = None) -> None:
        self.step = step
        self.value = value
        self.error = error


class Merge:
    """Merge the views of a group's branches, then send ``GroupMerged``, or call :meth:`Machine.give_up`."""

    __slots__ = ("group",)

    def __init__(self, group: Group) -> None:
        self.group = group


Command = Call | Wait | Finish | Merge
