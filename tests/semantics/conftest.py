"""What the tests of the semantics share: tasks that log what is called on them, and an observer that keeps the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, Task
from saga.events import Event


class Recorded(Task[str]):
    """Logs each call by name (``a``; ``-a`` for its compensation), then does or raises what it was given."""

    def __init__(self, log: list[str], name: str, during: Any, during_undo: Any, policies: dict[str, Any]) -> None:
        self.log, self.name, self.during, self.during_undo = log, name, during, during_undo
        vars(self).update(policies)

    def execute(self, context: Context) -> str:
        self.log.append(str(self.name))
        _do(self.during, context)
        return f"result of {self.name}"


class Undoable(Recorded):
    """A recorded task that has a compensation."""

    def compensate(self, context: Context) -> None:
        self.log.append(f"-{self.name}")
        _do(self.during_undo, context)


def _do(what: Any, context: Context) -> None:
    if isinstance(what, BaseException):
        raise what
    if what is not None:
        what(context)


class Watch:
    """An observer that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, info: object) -> None:
        self.events.append(event)

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def at(self, kind: type, step: str | None = None) -> int:
        """Return the place of the first event of ``kind`` (at ``step``)."""
        return next(
            i for i, e in enumerate(self.events) if isinstance(e, kind) and (step is None or getattr(e, "step", None) == step)
        )


@pytest.fixture
def log() -> list[str]:
    """What was called, in order."""
    return []


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def make(log: list[str]) -> Callable[..., Task[str]]:
    """Make a task that writes to ``log``: ``make(name, during, during_undo, undo=True, **policies)``."""

    def build(name: str, during: Any = None, during_undo: Any = None, *, undo: bool = True, **policies: Any) -> Task[str]:
        return (Undoable if undo else Recorded)(log, name, during, during_undo, policies)

    return build
