"""Functions as tasks: which of its arguments a function gets from the flow, worked out once, when the step is defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import FunctionType, MethodType
from typing import Any

from saga.errors import SagaDefinitionError
from saga.task import Task

__all__ = ["AdaptedFunction", "FunctionTask", "function_name"]


class FunctionTask(Task[Any]):
    """A task made of a function and, it may be, one that compensates it. Made by :func:`~saga.flow.step`."""

    def __init__(
        self,
        action: Callable[..., Any],
        compensation: Callable[..., Any] | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        compensate_args: Sequence[Any],
        compensate_kwargs: Mapping[str, Any],
    ) -> None:
        self.name = function_name(action)
        self.action = AdaptedFunction(action, args, kwargs, f"step {self.name!r}: action")
        self.compensation: AdaptedFunction | None = None
        if compensation is not None:
            where = f"step {self.name!r}: compensation"
            self.compensation = AdaptedFunction(compensation, compensate_args, compensate_kwargs, where)
        if compensation is None and (compensate_args or compensate_kwargs):
            raise SagaDefinitionError(f"step {self.name!r}: arguments for a compensation, but no compensate=")

    @property
    def compensation_function(self) -> Any:
        """The function that compensates, or ``None``."""
        return self.compensation.function if self.compensation is not None else None

    def execute(self, context: Any) -> Any:
        return self.action(context, context.__binding__.previous_result())

    def compensate(self, context: Any) -> None:
        if self.compensation is not None:
            # A coroutine, where the function is a coroutine function: the asynchronous driver awaits it.
            return self.compensation(context, context.__binding__.own_result())  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<function task {self.name!r}>"


def function_name(action: Any) -> str:
    inner = getattr(action, "func", action)  # functools.partial
    return getattr(inner, "__name__", None) or type(inner).__name__


class AdaptedFunction:
    """A function made callable the one way in which steps are called: with the context and a result."""

    def __init__(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], where: str) -> None:
        if not callable(function):
            raise SagaDefinitionError(f"{where} is {function!r} ({type(function).__name__}), which cannot be called")
        self.function = function
        self.args = tuple(args)
        self.kwargs = dict(kwargs)
        try:
            arguments = _arguments_of(function, len(self.args), tuple(self.kwargs))
        except TypeError as error:
            raise SagaDefinitionError(f"{where} {function_name(function)} {error}") from None
        self.wants_result, self.context_at, self.context_by_name = arguments

    def _positional(self, context: Any, result: Any) -> list[Any]:
        values = [result, *self.args] if self.wants_result else list(self.args)
        if self.context_at is not None:
            values.insert(self.context_at, context)
        return values

    def _keywords(self, context: Any) -> dict[str, Any]:
        return {**self.kwargs, "context": context} if self.context_by_name else self.kwargs

    def __call__(self, context: Any, result: Any) -> Any:
        return self.function(*self._positional(context, result), **self._keywords(context))


#: Whether a call gets the result first; where among the positional arguments it gets the context; or whether it
#: gets that by name.
_Arguments = tuple[bool, int | None, bool]


def _arguments_of(function: Any, args: int, kwargs: tuple[str, ...]) -> _Arguments:
    """Work out what a callable gets, besides ``args`` positional arguments and ``kwargs``.

    :raises TypeError: it cannot be called this way.
    """
    if type(function) is FunctionType and not function.__dict__ and not function.__kwdefaults__:
        # In a block the same functions are made steps of again and again, and signatures take long to look at.
        return _arguments_of_code(_Code(function), len(function.__defaults__ or ()), args, kwargs)
    return _worked_out(function, args, kwargs)


class _Code:
    # Equal for functions with the same code; holds one of them, for the signature.
    __slots__ = ("function",)

    def __init__(self, function: FunctionType) -> None:
        self.function = function

    def __hash__(self) -> int:
        return hash(self.function.__code__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Code) and other.function.__code__ is self.function.__code__


@lru_cache(512)
def _arguments_of_code(code: _Code, defaults: int, args: int, kwargs: tuple[str, ...]) -> _Arguments:
    return _worked_out(code.function, args, kwargs)


def _worked_out(function: Any, args: int, kwargs: tuple[str, ...]) -> _Arguments:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins tell no signature: they get the given arguments alone
        if isinstance(function, MethodType):
            raise TypeError("is a method, and takes no self") from None
        return False, None, False
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    gets_context = [p for p in parameters if p.name == "context" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in positional if p.name != "context" and p.name not in kwargs and p.default is p.empty]
    missing = len(required) - args
    if missing > 1:
        raise TypeError(
            f"needs {', '.join(map(repr, required))}, but only one comes from the flow (the previous step's result, or the "
            "step's own in a compensation); give the others with args= or kwargs="
        )
    wants_result = missing == 1
    supplied = args + wants_result
    context_at, by_name = None, False
    if gets_context:
        before = [p.name for p in positional].index("context") if gets_context[0] in positional else None
        if before is not None and before <= supplied and all(p.name not in kwargs for p in positional[:before]):
            context_at = before
        else:
            by_name = True
    names = (*kwargs, "context") if by_name else kwargs
    try:
        signature.bind(*[None] * (supplied + (context_at is not None)), **dict.fromkeys(names))
    except TypeError as error:
        raise TypeError(f"cannot be called: {error}") from None
    return wants_result, context_at, by_name
