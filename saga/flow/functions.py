"""Functions as tasks: which of its arguments a function gets from the flow, worked out once, when the step is defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import CodeType, FunctionType, MappingProxyType, MethodType
from typing import Any, Final, NamedTuple

from saga.errors import SagaDefinitionError
from saga.task import Task

__all__ = ["AdaptedFunction", "FunctionTask", "function_name", "is_coroutine_function"]

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
        elif compensate_args or compensate_kwargs:
            raise SagaDefinitionError(f"step {self.name!r}: arguments for a compensation, but no compensate=")
        if verification is not None:  # asked about the same work, so it gets the same
            self.verification = AdaptedFunction(verification, args, kwargs, name, "verification")

    @property
    def compensation_function(self) -> Any:
        """The function that compensates, or ``None``."""
        return self.compensation.function if self.compensation is not None else None

    def execute(self, context: Any) -> Any:
        action = self.action
        return action(context, context.__binding__.previous_result() if action.wants_result else None)

    def compensate(self, context: Any) -> None:
        compensation = self.compensation
        if compensation is not None:
            # A coroutine, where the function is a coroutine function: the asynchronous driver awaits it.
            result = context.__binding__.own_result() if compensation.wants_result else None
            return compensation(context, result)  # type: ignore[no-any-return]

    def verify(self, context: Any) -> Any:
        verification = self.verification
        if verification is not None:
            return verification(context, context.__binding__.previous_result() if verification.wants_result else None)

    def __repr__(self) -> str:
        return f"<function task {self.name!r}>"


def function_name(action: Any) -> str:
    """Return what a step of the function is called."""
    if type(action) is FunctionType:
        return action.__name__
    inner = getattr(action, "func", action)  # functools.partial
    return getattr(inner, "__name__", None) or type(inner).__name__


def is_coroutine_function(call: Any) -> bool:
    """Return whether calling it gives a coroutine."""
    if type(call) is FunctionType:
        return bool(call.__code__.co_flags & inspect.CO_COROUTINE) or inspect.iscoroutinefunction(call)
    while isinstance(call, partial):
        call = call.func
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


class _Facts(NamedTuple):
    """What is to be known of a function that is called with so many arguments.

    ``wants_result``: it gets the result first. ``context_at``: where among the positional arguments it gets the context;
    ``context_by_name``: it gets that by name. ``asynchronous``: it is a coroutine function. ``yields``: it is a generator's.
    """

    wants_result: bool
    context_at: int | None
    context_by_name: bool
    asynchronous: bool
    yields: bool


class AdaptedFunction:
    """A function made callable the one way in which steps are called: with the context and a result."""

    def __init__(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], step: str, role: str) -> None:
        if not callable(function):
            raise SagaDefinitionError(
                f"step {step!r}: {role} is {function!r} ({type(function).__name__}), which cannot be called"
            )
        self.function = function
        self.args = tuple(args)
        self.kwargs: Mapping[str, Any] = dict(kwargs) if kwargs else _NO_KEYWORDS
        try:
            facts = _facts_of(function, len(self.args), tuple(kwargs) if kwargs else ())
        except TypeError as error:
            raise SagaDefinitionError(f"step {step!r}: {role} {function_name(function)} {error}") from None
        self.wants_result, self.context_at, self.context_by_name, self.asynchronous, self.yields = facts

    def __call__(self, context: Any, result: Any) -> Any:
        values: Sequence[Any] = (result, *self.args) if self.wants_result else self.args
        if self.context_at is not None:
            values = (*values[: self.context_at], context, *values[self.context_at :])
        if self.context_by_name:
            return self.function(*values, **{**self.kwargs, "context": context})
        return self.function(*values, **self.kwargs) if self.kwargs else self.function(*values)


# In a block the same functions are made steps of again and again, and signatures take long to look at: what is known is kept by
# the code, and with it, so that the id of a code is not another's meanwhile.
_known: dict[tuple[int, int, int, tuple[str, ...]], tuple[CodeType, _Facts]] = {}
_MOST_KNOWN: Final = 512


def _facts_of(function: Any, args: int, kwargs: tuple[str, ...]) -> _Facts:
    """Work out what a callable gets, besides ``args`` positional arguments and ``kwargs``.

    :raises TypeError: it cannot be called this way.
    """
    if type(function) is not FunctionType or function.__dict__ or function.__kwdefaults__:
        return _worked_out(function, args, kwargs)
    code, defaults = function.__code__, function.__defaults__
    key = (id(code), len(defaults) if defaults else 0, args, kwargs)
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = (code, _worked_out(function, args, kwargs))
    return found[1]


def _worked_out(function: Any, args: int, kwargs: tuple[str, ...]) -> _Facts:
    asynchronous = is_coroutine_function(function)
    yields = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins tell no signature: they get the given arguments alone
        if isinstance(function, MethodType):
            raise TypeError("is a method, and takes no self") from None
        return _Facts(False, None, False, asynchronous, yields)
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
    return _Facts(wants_result, context_at, by_name, asynchronous, yields)
