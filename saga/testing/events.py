"""What happened, for a test to look at: an observer that keeps it. Nothing is judged here."""

from __future__ import annotations

from typing import Any, TypeVar

from saga.definition import ExecutionInfo
from saga.events import CompensationSucceeded, Event, StepStarted, StepSucceeded

__all__ = ["Events", "line_of"]

E = TypeVar("E")


class Events(list[Event]):
    """The events of executions, in order: give it to a saga as ``logger=``, and look at it when that has ended.

    It is a list of them; :doc:`/api/events` says what each has.
    """

    def __call__(self, event: Event, info: ExecutionInfo) -> None:
        self.append(event)

    def of(self, kind: type[E], step: str | None = None) -> list[E]:
        """Return those of a kind, or of a kind and a step's name."""
        return [one for one in self if isinstance(one, kind) and step in (None, getattr(one, "step", None))]

    @property
    def lines(self) -> list[str]:
        """Each as a line: its kind, and its step where it has one: ``"StepStarted Charge"``."""
        return [line_of(type(one).__name__, getattr(one, "step", None)) for one in self]

    @property
    def started(self) -> list[str]:
        """The steps whose execute was called, in order, once for each attempt."""
        return [one.step for one in self.of(StepStarted)]

    @property
    def done(self) -> list[str]:
        """The steps that succeeded, in order."""
        return [one.step for one in self.of(StepSucceeded)]

    @property
    def undone(self) -> list[str]:
        """The steps whose compensation succeeded, in order."""
        return [one.step for one in self.of(CompensationSucceeded)]


def line_of(kind: str, step: Any) -> str:
    """Return an event in a line."""
    return kind if step is None else f"{kind} {step}"
