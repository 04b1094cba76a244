"""Around a user's call: the only place that makes one, once for each colour.

A driver makes calls one by one, or, where nobody looks (see :mod:`saga.machine.log`), a *series*: each call that ends well is
noted and followed by the next at once, until one has an outcome that the machine must hear of. A series is what yields the
calls that follow, and then ``None`` for the execution's end.

What follows a call stands in both colours on purpose: a function shared by them cost a third of a step more.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from saga.awaitables import FINISHED, answer, is_awaitable, unrun
from saga.clocks import clock as now
from saga.clocks import perf_counter
from saga.context import Context, set_binding
from saga.drivers.observing import has_struck, is_not_its_own
from saga.errors import SagaDefinitionError, traceback_of
from saga.machine.commands import COMPENSATE, EXECUTE, Call
from saga.machine.log import Note
from saga.machine.plan import PlannedStep
from saga.own_log import LOG
from saga.plain import repr_of

__all__ = ["HERE", "Made", "Series", "Surroundings", "TakesNote", "arounds_of", "listens", "make", "make_async", "make_rest"]

HERE: Final = __file__
"""Frames of this file come before the user's in the traceback of what a call raised."""

Made = tuple[Call, bool, Any, float]
"""The call that was made last, whether it returned, what it returned or raised, and the seconds it took."""

Series = Iterator[Call | None]
TakesNote = Callable[[Note], None]
_NONE: Final[Series] = iter(())


def make(
    call: Call,
    view: Context,
    surroundings: Surroundings | None,
    series: Series = _NONE,
    note: TakesNote | None = None,
    *,
    clock: Callable[[], float] = perf_counter,
) -> Made:
    """Make a call in this thread, and those that follow it in its series, which are noted."""
    binding, kind = view.__binding__, type(view)
    started = clock()
    while True:
        binding.call = call
        step = call.step
        value: Any
        try:
            if surroundings is None:
                if call.phase is EXECUTE:
                    value = step.task.execute(view)
                elif call.phase is COMPENSATE:
                    value = step.task.compensate(view)
                else:
                    value = step.task.verify(view)
            else:
                value = surroundings.make(call, getattr(step.task, call.phase), view)
        except BaseException as error:
            set_binding(view, binding)
            del series, note, surroundings  # the error's traceback may keep this frame, and the log keeps the error
            return call, False, error, clock() - started
        ended = clock()
        if view.__binding__ is not binding:  # the task executed another saga with it
            set_binding(view, binding)
        if note is None or (value is not None and (type(value) is kind or id(type(value)) not in FINISHED)):
            return call, True, value, ended - started
        following = next(series)
        if call.phase is COMPENSATE:
            note((step, following, started, ended))
        else:
            binding.results[step.name] = binding.previous = value
            note((step, following, started, ended, value))
        if following is None:
            return call, True, value, ended - started
        call, started = following, ended


async def make_async(
    call: Call,
    view: Context,
    surroundings: Surroundings | None,
    cancelling: Callable[[], int] = int,
    cancels: int = 0,
    series: Series = _NONE,
    note: TakesNote | None = None,
    *,
    clock: Callable[[], float] = perf_counter,
) -> Made:
    """Await a call in this task, and those that follow it in its series, which are noted.

    :param cancelling: says how often this task was cancelled. A series ends where that is not ``cancels`` any more: the call
        has swallowed a cancellation, or taken one back.
    """
    binding, kind = view.__binding__, type(view)
    started = clock()
    while True:
        binding.call = call
        step: Any = call.step
        value: Any
        try:
            if surroundings is None:
                if call.phase is EXECUTE:
                    value = await step.task.execute(view)
                elif call.phase is COMPENSATE:
                    value = await step.task.compensate(view)
                else:
                    value = await step.task.verify(view)
                if value is not None and id(type(value)) not in FINISHED:
                    value = await awaited(value)
            else:
                value = await surroundings.make_async(call, getattr(step.task, call.phase), view)
        except BaseException as error:
            set_binding(view, binding)
            del series, note, surroundings  # as in make()
            return call, False, error, clock() - started
        ended = clock()
        if view.__binding__ is not binding:
            set_binding(view, binding)
        if (
            note is None
            or (value is not None and (type(value) is kind or id(type(value)) not in FINISHED))
            or cancelling() != cancels
        ):
            return call, True, value, ended - started
        following = next(series)
        if call.phase is COMPENSATE:
            note((step, following, started, ended))
        else:
            binding.results[step.name] = binding.previous = value
            note((step, following, started, ended, value))
        if following is None:
            return call, True, value, ended - started
        call, started = following, ended


async def make_rest(made: Made, view: Context, surroundings: Surroundings | None) -> Made:
    """Await in this task what a plain function has returned: the rest of its call."""
    call, _, value, elapsed = made
    binding = view.__binding__
    started = now() - elapsed
    try:
        if surroundings is None:
            value = await awaited(value)
        else:
            value = await surroundings.make_async(call, lambda view: awaited(value), view)
    except BaseException as error:
        del made, value, surroundings  # as in make()
        return call, False, error, now() - started
    finally:
        set_binding(view, binding)
    return call, True, value, now() - started


async def awaited(value: Any) -> Any:
    """Return what a value comes to in the end: itself, where it is no awaitable, or one that gives itself.

    :raises SagaDefinitionError: there is always another awaitable.
    """
    for _ in range(_MOST_IN_A_ROW):
        if unrun(value) is None or not is_awaitable(value):
            return value
        found = await value
        if found is value:  # a connection, say, that is opened by awaiting it
            return value
        value = found
    raise SagaDefinitionError(f"awaiting it gave another awaitable {_MOST_IN_A_ROW} times; return what it comes to")


_MOST_IN_A_ROW: Final = 100


_Around = Callable[[PlannedStep, int, str], AbstractContextManager[Any] | None]
_Entered = list[tuple[_Around, AbstractContextManager[Any]]]


class Surroundings:
    """What observers put around each call: context managers, entered in the thread or task that makes the call.

    Whatever they do, the call is made, and its outcome is its own.

    :param arounds: each called with (step, attempt, phase); they return a context manager, or ``None``.
    """

    def __init__(self, arounds: Sequence[_Around]) -> None:
        self._arounds = arounds
        self._reported: set[int] = set()
        self._process = os.getpid()

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
            value = await awaited(await method(view))
        except BaseException as error:
            self._leave(entered, error)
            raise
        self._leave(entered, None)
        return value

    def _enter(self, call: Call) -> _Entered:
        entered: _Entered = []
        for around in self._arounds:
            try:
                manager = answer(around(call.step, call.attempt, call.phase), "around()", "return a context manager")
                if manager is not None:
                    manager.__enter__()
                    entered.append((around, manager))
            except BaseException as raised:
                if is_not_its_own(raised, self._process):
                    self._leave(entered, raised)
                    raise
                self._report(around)
        return entered

    def _leave(self, entered: _Entered, error: BaseException | None) -> None:
        struck: BaseException | None = None
        for around, manager in reversed(entered):
            try:
                if error is None:
                    manager.__exit__(None, None, None)
                else:
                    manager.__exit__(type(error), error, traceback_of(error))
            except BaseException as other:
                if other is error:  # which a generator's context manager raises again
                    continue
                if is_not_its_own(other, self._process):
                    struck = other  # the others are left first
                else:
                    self._report(around)
        if struck is not None:
            raise struck

    def _report(self, what: Any) -> None:
        if id(what) not in self._reported:
            self._reported.add(id(what))
            LOG.exception("%s raised around a call; the call goes on, and this is reported once", repr_of(what))


def arounds_of(observers: Iterable[Any]) -> list[Callable[..., Any]]:
    """Return the observers' methods ``around``."""
    found: list[Callable[..., Any]] = []
    for one in observers:
        try:
            around = getattr(one, "around", None)
            if callable(around):
                found.append(around)
        except BaseException as error:
            if has_struck(error):
                raise
            LOG.exception("observer %s cannot be asked what is around a call; the saga goes on without", repr_of(one))
    return found


def listens(observer: Callable[..., Any]) -> bool:
    """Ask an observer that has an answer whether it would do anything now."""
    try:
        listening = getattr(observer, "listening", None)
        return not callable(listening) or bool(answer(listening(), "listening()"))
    except BaseException as error:
        if has_struck(error):
            raise
        return True  # it is reported when it raises on an event
