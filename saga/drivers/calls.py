"""Around a user's call: the only place that makes one, once for each colour.

A driver makes calls one by one, or, where nobody looks (see :mod:`saga.machine.log`), a series: each call that ends well is
noted and followed by the next at once, until one has an outcome that the machine must hear of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from types import CoroutineType
from typing import Any, Final

from saga.context import Context, set_binding
from saga.machine.commands import Call
from saga.machine.log import Log
from saga.machine.plan import PlannedStep

__all__ = ["Made", "Series", "Surroundings", "clock", "compensations", "executes", "make", "make_async"]

clock: Final = time.perf_counter

Made = tuple[Call, bool, Any, float]
"""The call that was made last, whether it returned, what it returned or raised, and the seconds it took."""


Series = Callable[[Call, Any, float, float], Call | None]
"""Called with a call that returned, what it returned, and when it started and ended, by :data:`clock`. Notes that, and returns
the call that follows; ``None`` where there is none, or the machine must hear of it."""


def executes(log: Log, epoch: float, view: Context, asynchronous: bool) -> Series:
    """Return a series of executes. ``asynchronous``: only what is awaited belongs to it."""
    log.noted, log.epoch = True, epoch
    note, binding, kind = log.note, view.__binding__, type(view)
    results = binding.results

    def after(call: Call, value: Any, started: float, ended: float) -> Call | None:
        if value is not None and (type(value) is kind or type(value) is CoroutineType):
            return None
        step = call.step
        following = step.following
        if following is not None:
            if asynchronous and not following.async_execute:
                return None
            results[step.name] = binding.previous = value
            note((step, following, started, ended, value))
            return following.first
        if step.then is None:  # else it is the last of a plan that grows
            results[step.name] = binding.previous = value
            note((step, None, started, ended, value))
        return None

    return after


def compensations(log: Log, epoch: float, chain: list[PlannedStep], asynchronous: bool) -> Series:
    """Return a series of compensations. ``chain``: the steps that follow the first one, the next one last."""
    log.noted, log.epoch = True, epoch
    note = log.note

    def after(call: Call, value: Any, started: float, ended: float) -> Call | None:
        if value is not None and type(value) is CoroutineType:
            return None
        if not chain:
            note((call.step, None, started, ended))
            return None
        if asynchronous and not chain[-1].async_compensate:
            return None
        following = chain.pop()
        note((call.step, following, started, ended))
        return following.first_compensation

    return after


def make(call: Call, view: Context, series: Series | None = None, surroundings: Surroundings | None = None) -> Made:
    """Make a call in this thread, and those that follow it in its series."""
    binding = view.__binding__
    started = clock()
    while True:
        binding.call = call
        task = call.step.task
        value: Any
        try:
            if surroundings is None:
                value = task.compensate(view) if call.compensation else task.execute(view)  # type: ignore[func-returns-value]
            else:
                value = surroundings.make(call, task.compensate if call.compensation else task.execute, view)
        except BaseException as error:
            set_binding(view, binding)
            del series, surroundings  # the error's traceback may keep this frame, and the log keeps the error
            return call, False, error, clock() - started
        ended = clock()
        if view.__binding__ is not binding:  # the task executed another saga with it
            set_binding(view, binding)
        following = None if series is None else series(call, value, started, ended)
        if following is None:
            return call, True, value, ended - started
        call, started = following, ended


async def make_async(call: Call, view: Context, series: Series | None = None, surroundings: Surroundings | None = None) -> Made:
    """Await a call in this task, and those that follow it in its series."""
    binding = view.__binding__
    started = clock()
    while True:
        binding.call = call
        task: Any = call.step.task
        value: Any
        try:
            if surroundings is None:
                value = await (task.compensate(view) if call.compensation else task.execute(view))
            else:
                value = await surroundings.make_async(call, task.compensate if call.compensation else task.execute, view)
        except BaseException as error:
            set_binding(view, binding)
            del series, surroundings  # as in make()
            return call, False, error, clock() - started
        ended = clock()
        if view.__binding__ is not binding:
            set_binding(view, binding)
        following = None if series is None else series(call, value, started, ended)
        if following is None:
            return call, True, value, ended - started
        call, started = following, ended


class Surroundings:
    """What observers put around each call: context managers, entered in the thread or task that makes the call.

    Whatever they do, the call is made, and its outcome is its own.

    :param arounds: each called with (step, attempt, phase); they return a context manager, or ``None``.
    """

    def __init__(self, arounds: Sequence[Callable[[PlannedStep, int, str], AbstractContextManager[Any] | None]]) -> None:
        self._arounds = arounds
        self._reported: set[int] = set()

    def make(self, call: Call, method: Callable[[Context], Any], view: Context) -> Any:
        """Make the call."""
        entered = self._enter(call)
        try:
            value = method(view)
        except BaseException as error:
            self._leave(entered, error)
            raise
        self._leave(entered, None)
        return value

    async def make_async(self, call: Call, method: Callable[[Context], Awaitable[Any]], view: Context) -> Any:
        """Await the call."""
        entered = self._enter(call)
        try:
            value = await method(view)
        except BaseException as error:
            self._leave(entered, error)
            raise
        self._leave(entered, None)
        return value

    def _enter(self, call: Call) -> list[AbstractContextManager[Any]]:
        entered = []
        for around in self._arounds:
            try:
                manager = around(call.step, call.attempt, "compensate" if call.compensation else "execute")
                if manager is not None:
                    manager.__enter__()
                    entered.append(manager)
            except Exception:
                self._report(around)
        return entered

    def _leave(self, entered: list[AbstractContextManager[Any]], error: BaseException | None) -> None:
        for manager in reversed(entered):
            try:
                manager.__exit__(type(error) if error is not None else None, error, error and error.__traceback__)
            except Exception as other:
                if other is not error:  # which a generator's context manager raises again
                    self._report(manager)

    def _report(self, what: Any) -> None:
        if id(what) not in self._reported:
            self._reported.add(id(what))
            logging.getLogger("saga").exception("%r raised around a call; the call goes on, and this is reported once", what)
