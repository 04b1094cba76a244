"""The nodes of a flow: steps, sequences, groups, units, fallbacks, choices and waits. Pure data; nothing is built here.

Building them is :mod:`saga.flow.build`'s work, and compiling them :mod:`saga.machine.compile`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from saga.composing import Flow
from saga.context import Context
from saga.flow.accepting import Accept
from saga.flow.functions import FunctionTask
from saga.flow.tasks import check_task
from saga.names import checked_name
from saga.received import Received
from saga.task import Task

__all__ = ["Choice", "Fallback", "Flow", "ForEach", "Parallel", "Pause", "PauseTask", "Sequence", "Step", "Unit", "UnitTask"]


@dataclass(frozen=True, slots=True)
class Step(Flow):
    """A task's place in a flow. ``policies`` override the task's own attributes."""

    task: Task[Any] | type[Task[Any]]
    name: str
    policies: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = checked_name(self.name, "the step's name", self.task)
        if name is not self.name:
            object.__setattr__(self, "name", name)
        kind = type(self.task)
        if kind not in (FunctionTask, PauseTask, UnitTask):  # which are right when they are made
            check_task(self.task)


@dataclass(frozen=True, slots=True)
class Sequence(Flow):
    """Flows one after the other.

    ``name`` prefixes the names within, as ``name/step``; ``defaults`` are policies of the steps within that say nothing
    themselves; ``context`` is the class of contexts that they are written for.
    """

    children: tuple[Flow, ...]
    name: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    context: type[Context] | None = None


@dataclass(frozen=True, slots=True)
class Parallel(Flow):
    """Flows at the same time, each with its own view of the context.

    ``compensate_together``: whether the branches are undone at the same time too; otherwise one step after the other.
    ``limit``: how many branches are under way at a time; ``None``: all.
    """

    children: tuple[Flow, ...]
    compensate_together: bool = False
    limit: int | None = None
    by_operator: bool = False  # made by &, so that another & adds to it


@dataclass(frozen=True, slots=True)
class ForEach(Flow):
    """A step that lists items, and what is done for each of them at the same time, as branches of a group."""

    lists: Step
    child: Flow
    limit: int | None = None
    compensate_together: bool = False


@dataclass(frozen=True, slots=True)
class Unit(Flow):
    """A flow with policies of its own, as a step has them. What was done of it is undone before they say what follows."""

    child: Flow
    name: str
    policies: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fallback(Flow):
    """A step or a unit, and what is done instead when it fails with one of the exceptions ``on``."""

    primary: Flow
    alternative: Flow
    on: tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Choice(Flow):
    """A step that decides, and the flows that it decides between, by what they are called; an empty sequence: nothing."""

    decision: Step
    ways: Mapping[str, Flow]


@dataclass(frozen=True, slots=True)
class Pause(Flow):
    """A step that waits: for a time, or for the first of its signals.

    :ivar seconds: how long, at the most where it waits for signals; ``None``: until one comes, or as is said otherwise.
    :ivar signals: the names of those that it receives.
    :ivar accepts: by a signal's name, what its value must be.
    :ivar until: when the time is over that it waits for.
    :ivar asks: whether the step before it tells how long, or until when.
    """

    name: str
    seconds: float | None
    signals: tuple[str, ...] = ()
    policies: Mapping[str, Any] = field(default_factory=dict)
    accepts: Mapping[str, Accept] = field(default_factory=dict)
    until: datetime | None = None
    asks: bool = False

    @property
    def awaited(self) -> str:
        """The signals in words: ``signal 'paid' or 'cancelled'``."""
        return f"signal {' or '.join(map(repr, self.signals))}"

    def result_of(self, signal: str, value: Any) -> Any:
        """Return the step's result where it received this."""
        return value if len(self.signals) == 1 else Received(signal, value)


class PauseTask(Task[Any]):
    """Stands for a wait, which the machine makes and nobody calls."""


class UnitTask(Task[Any]):
    """Stands for a unit: what is called are the steps within."""
