"""Choosing: a step that decides by which flow the saga goes on. What follows is :mod:`saga.machine`'s work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType
from typing import Any, Final

from saga.awaitables import answer, check_callable, is_coroutine_function, refuse_generator
from saga.errors import NoWayError, SagaDefinitionError
from saga.flow.build import FlowLike, as_flow
from saga.flow.functions import function_name, is_function
from saga.flow.methods import MethodStep
from saga.flow.nodes import Choice, Flow, Step
from saga.names import checked_name
from saga.plain import repr_of, shortened
from saga.policy import InDoubt
from saga.task import Task

__all__ = ["OTHERWISE", "ChoiceTask", "choose"]

OTHERWISE: Final = "otherwise"
_KINDS: Final = (str, int, Enum, NoneType)  # a bool is an int
_SAID: Final = "a str, an int, a bool, a member of an Enum or None"
_SHOWN: Final = 80  # characters of a value, in an error

Key = str | int | bool | Enum | None
By = str | Callable[[Any], Any]


def choose(by: By, ways: Mapping[Any, FlowLike], otherwise: FlowLike | None = None, *, name: str | None = None) -> Choice:
    """Return a step that decides, and the flows that it decides between: only the steps of one of them are ever begun.

    What it decided is in the journal, so that a recovery goes the same way, and it is the step's result. Where no way is for
    it, and there is no ``otherwise``, the step has failed with :class:`~saga.errors.NoWayError`. A step that follows, on
    whichever way, has the result of the one that came before it: the first of a way has what was decided.

    :param by: a key of the context, or a function of the context, plain or ``async``. It only looks: where the process dies in
        it, it is called again.
    :param ways: the flow for each value: a task, a task class, a saga or a flow; an empty ``sequence()`` goes on at once. The
        values are strings, numbers (``int``), bools, members of an Enum or ``None``.
    :param otherwise: the flow for all other values.
    :param name: the step's name; ``choose`` and the key, or the function's name, where not given.
    :raises SagaDefinitionError: a parameter is wrong.
    """
    if not isinstance(ways, Mapping) or not ways:
        raise SagaDefinitionError(f"choose(): ways is {ways!r}; give a dict of values and flows, {{value: flow, ...}}")
    for value in ways:
        if not isinstance(value, _KINDS):
            kind = type(value).__name__
            raise SagaDefinitionError(f"choose(): a way is for {value!r} ({kind}); give {_SAID}")
    if isinstance(by, str):
        by = checked_name(by, "choose(): by")
    else:
        _check_function(by)
    if name is None:
        name = f"choose {by}" if isinstance(by, str) else function_name(by)
    task = (AsyncChoiceTask if is_coroutine_function(by) else ChoiceTask)(by, ways, otherwise is not None)
    flows: dict[str, Flow] = {_shown(value): as_flow(flow, f"choose(): way {value!r}") for value, flow in ways.items()}
    if otherwise is not None:
        flows[OTHERWISE] = as_flow(otherwise, "choose(): otherwise")
    return Choice(Step(task, checked_name(name, "choose(): name")), flows)


def _check_function(by: Any) -> None:
    if isinstance(by, MethodStep):
        raise SagaDefinitionError(
            f"choose(): by is {by!r}; give a plain method, as choose(self.{by.name}, ...) in a method flow()"
        )
    if not is_function(by):
        raise SagaDefinitionError(
            f"choose(): by is {by!r}; give a key of the context, or a function of the context, which may look at what a step "
            "returned: lambda context: context.result_of(step)"
        )
    check_callable(by, "choose(): by", "the context", 1)
    refuse_generator(by, f"choose(): by {function_name(by)}", "let it return what it decides")


def _shown(value: Any) -> str:
    """Return a value as it is shown: what a way is called."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    return repr_of(value)


class ChoiceTask(Task[Any]):
    """Decides which way is taken. It changes nothing outside, so that nothing of it is ever in doubt.

    :ivar by: the key of the context, or the function of it.
    """

    in_doubt = InDoubt.RERUN
    unknown_on = ()

    def __init__(self, by: By, ways: Mapping[Any, object], has_otherwise: bool) -> None:
        self.by = by
        self._keys = {value: value for value in ways}
        self._has_otherwise = has_otherwise

    def execute(self, context: Any) -> Any:
        by = self.by
        if isinstance(by, str):
            return self._decided(context[by])
        return self._decided(answer(by(context), f"choose(): by {function_name(by)}", "make it an `async def` which awaits it"))

    def _decided(self, value: Any) -> Any:
        if not isinstance(value, _KINDS):
            raise NoWayError(f"it was decided by {self._said(value)} ({type(value).__name__}), which is not {_SAID}")
        if value not in self._keys:
            if self._has_otherwise:
                return value
            ways = ", ".join(map(_shown, self._keys))
            raise NoWayError(f"no way is for {self._said(value)}; ways: {ways}; add one for it, or give otherwise=")
        return self._keys[value]

    def _said(self, value: Any) -> str:
        return shortened(repr_of(value), _SHOWN)

    def way_of(self, value: Any) -> str:
        """Return what the way is called that is taken where this was decided."""
        return _shown(self._keys[value]) if value in self._keys else OTHERWISE

    def value_for(self, way: str) -> Any:
        """Return what is decided where that way is taken."""
        if way == OTHERWISE and self._has_otherwise:
            return next(value for value in map(str, range(len(self._keys) + 1)) if value not in self._keys)
        return next(value for value in self._keys if _shown(value) == way)

    def asking(self, by: Callable[[Any], Any]) -> ChoiceTask:
        """Return the task that asks another function, and decides between the same ways."""
        return (AsyncChoiceTask if is_coroutine_function(by) else ChoiceTask)(by, self._keys, self._has_otherwise)

    def __repr__(self) -> str:
        return f"<choice by {self.by if isinstance(self.by, str) else function_name(self.by)}>"


class AsyncChoiceTask(ChoiceTask):
    """One that asks a coroutine function."""

    async def execute(self, context: Any) -> Any:
        assert not isinstance(self.by, str)
        return self._decided(await self.by(context))
