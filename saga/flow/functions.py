"""Functions as tasks: called the one way in which steps are called, with what the flow gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from types import FunctionType, MappingProxyType
from typing import Any, Final

from saga.errors import SagaDefinitionError
from saga.flow.signatures import CONTEXT, NOTHING, RESULT, facts_of
from saga.names import several
from saga.task import Task

__all__ = ["AdaptedFunction", "FunctionTask", "function_name", "is_function"]

_NO_KEYWORDS: Final[Mapping[str, Any]] = MappingProxyType({})


class FunctionTask(Task[Any]):
    """A task made of a function and, it may be, of one that compensates it and one that verifies what came of it.

    Made by :func:`~saga.flow.step`.
    """

    compensation: AdaptedFunction | None = None
    verification: AdaptedFunction | None = None

    def __init__(
        self,
        action: Callable[..., Any],
        compensation: Callable[..., Any] | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = _NO_KEYWORDS,
        compensate_args: Sequence[Any] = (),
        compensate_kwargs: Mapping[str, Any] = _NO_KEYWORDS,
        verification: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name = function_name(action)
        self.action = AdaptedFunction(action, args, kwargs, name, "action")
        if compensation is not None:
            self.compensation = AdaptedFunction(compensation, compensate_args, compensate_kwargs, name, "compensation")
        elif compensate_args or compensate_kwargs or type(compensate_args) is not tuple:
            _refuse_arguments(compensate_args, compensate_kwargs, name)
        if verification is not None:  # asked about the same work, so it gets the same
            self.verification = AdaptedFunction(verification, args, kwargs, name, "verification")

    @property
    def compensation_function(self) -> Any:
        """The function that compensates, or ``None``."""
        return self.compensation.function if self.compensation is not None else None

    def execute(self, context: Any) -> Any:
        action = self.action
        return action(context, context.__binding__.previous_result() if action.result is not None else None)

    def compensate(self, context: Any) -> None:
        compensation = self.compensation
        if compensation is not None:
            # A coroutine, where the function is a coroutine function: the asynchronous driver awaits it.
            result = context.__binding__.own_result() if compensation.result is not None else None
            return compensation(context, result)  # type: ignore[no-any-return]

    def verify(self, context: Any) -> Any:
        verification = self.verification
        if verification is not None:
            return verification(context, context.__binding__.previous_result() if verification.result is not None else None)

    def __repr__(self) -> str:
        return f"<function task {self.name!r}>"


def is_function(given: Any) -> bool:
    """Whether it can be called for what it does: of a task's class or a saga's, that would make one, and run nothing."""
    makes_a_flow = isinstance(given, type) and (issubclass(given, Task) or hasattr(given, "__saga_flow__"))
    return callable(given) and not makes_a_flow


def function_name(action: Any) -> str:
    """Return what a step of the function is called."""
    if type(action) is FunctionType:
        return action.__name__
    inner = getattr(action, "func", action)  # functools.partial
    return getattr(inner, "__name__", None) or type(inner).__name__


def _arguments(args: Any, kwargs: Any, which: str) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return arguments as a tuple and a mapping.

    :raises SagaDefinitionError: they are neither.
    """
    if isinstance(args, Mapping | Set):
        raise SagaDefinitionError(f"{which}args is {args!r}, which is in no order; give a tuple")
    args = several(args, f"{which}args")
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise SagaDefinitionError(f"{which}kwargs is {kwargs!r}; give a dict of names and values")
    return args, kwargs


def _refuse_arguments(args: Any, kwargs: Any, step: str) -> None:
    if any(_arguments(args, kwargs, f"step {step!r}: compensate_")):
        raise SagaDefinitionError(f"step {step!r}: compensate_args or compensate_kwargs, but no compensate=")


class AdaptedFunction:
    """A function made callable the one way in which steps are called: with the context and a result."""

    def __init__(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], step: str, role: str) -> None:
        if type(function) is not FunctionType and not is_function(function):
            raise SagaDefinitionError(
                f"step {step!r}: {role} is {function!r} ({type(function).__name__}), which cannot be called; give a function"
            )
        self.function = function
        undoes = role == "compensation"
        if type(args) is not tuple or (type(kwargs) is not dict and kwargs is not _NO_KEYWORDS):
            args, kwargs = _arguments(args, kwargs, f"step {step!r}: {'compensate_' if undoes else ''}")
        self.args = args
        self.kwargs = dict(kwargs) if kwargs else _NO_KEYWORDS
        try:
            facts = facts_of(function, len(args), tuple(kwargs) if kwargs else (), undoes)
        except TypeError as error:
            raise SagaDefinitionError(f"step {step!r}: {role} {function_name(function)} {error}") from None
        self.facts = facts
        self.result, self.alone = facts.result, facts.alone

    def __call__(self, context: Any, result: Any) -> Any:
        alone = self.alone
        if alone is CONTEXT:
            return self.function(context)
        if alone is RESULT:
            return self.function(result)
        if alone is NOTHING:
            return self.function()
        facts = self.facts
        values: Sequence[Any] = self.args
        if facts.result_at is not None:
            values = (*values[: facts.result_at], result, *values[facts.result_at :])
        if facts.context_at is not None:
            values = (*values[: facts.context_at], context, *values[facts.context_at :])
        if not facts.by_name:
            return self.function(*values, **self.kwargs)
        given = {facts.context: context, facts.result: result}
        return self.function(*values, **self.kwargs, **{name: given[name] for name in facts.by_name})
