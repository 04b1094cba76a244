"""An engine that makes calls by other means than a driver, with outcomes alone: no clock and no thread is here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saga import Context, step
from saga import events as e
from saga.definition import Definition
from saga.drivers.outcomes import Outcomes
from saga.drivers.views import bind
from saga.machine import Call, Finish, Merge, Wait
from tests.kit.runners import saga_of


class Engine:
    """Does what the machine commands, one command at a time. Each call ends at a time that is told, after 0.5 seconds.

    :ivar outcomes: what is tried here.
    """

    def __init__(self, *flows: Any, context: Context | None = None, values: Any = None, **parts: Any) -> None:
        self.definition = Definition(name="s", plan=saga_of(*flows).plan, **parts)
        self.context = context if context is not None else Context()
        self.machine = self.definition.machine("id")
        bind(self.context, self.machine.plan, self.definition.name, "id")
        self.outcomes = Outcomes(self.definition, self.machine, self.context, values)
        self.at = 0.0
        self.machine.start(self.at)

    def take(self) -> Any:
        """Take the next command, a second later."""
        self.at += 1.0
        return self.machine.commands.pop(0)

    def call(self, does: Callable[[Context], Any] | None = None) -> Context:
        """Make the call that is commanded next, or do this instead of it, and return its view."""
        call = self.take()
        assert isinstance(call, Call)
        view = self.outcomes.view_for(call)
        view.__binding__.call = call
        task = call.step.task
        try:
            value = (does or getattr(task, call.phase))(view)
        except BaseException as error:
            self.outcomes.raised(call, view, error, 0.5, self.at)
        else:
            self.outcomes.returned(call, view, value, 0.5, self.at)
        return view

    def run(self) -> list[e.Event]:
        """Make all that is commanded, and return what has happened."""
        while self.machine.commands:
            command = self.machine.commands[0]
            if isinstance(command, Call):
                self.call()
            elif isinstance(command, Merge):
                self.outcomes.merge(self.take(), self.at)
            elif isinstance(command, Finish):
                self.outcomes.finished(self.take(), self.at)
            else:
                assert isinstance(command, Wait)
                self.machine.wake(self.take(), self.at)
        return self.machine.events

    @property
    def last(self) -> Any:
        return self.machine.events[-1]


def returning(value: Any, name: str = "a", undo: Any = lambda: None, **policies: Any) -> Any:
    """Return a step that returns this."""
    return step(lambda: value, undo, name=name, **policies)


def failing(name: str, error: BaseException, **policies: Any) -> Any:
    """Return a step that raises this."""

    def fail() -> None:
        raise error

    return step(fail, name=name, **policies)
