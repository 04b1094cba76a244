"""What does not run when it is called: coroutine functions, generators, and what calls return that is still to be awaited.

What is not run is not done. Nothing is awaited here: the asynchronous driver does that, and everybody else refuses.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator
from functools import partial
from types import FunctionType, GeneratorType, MethodType
from typing import Any, Final

from saga.errors import SagaDefinitionError

__all__ = [
    "FINISHED",
    "answer",
    "check_callable",
    "discard",
    "is_awaitable",
    "is_coroutine_function",
    "is_generator_function",
    "refuse_generator",
    "refuse_unrun",
    "unrun",
]

FINISHED: Final[dict[int, type]] = {}
"""Types of values that are what they are, by id: each is looked at once (see :func:`unrun`), and its class has no say in it."""
_MOST_KNOWN: Final = 1024
_RUNS_LATER: Final = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE


# -- functions --------------------------------------------------------------------------------------------------------


def is_coroutine_function(call: Any) -> bool:
    """Return whether calling it gives a coroutine: it, what it is a partial of, or its class's ``__call__`` says so."""
    if type(call) is FunctionType:
        return bool(call.__code__.co_flags & _RUNS_LATER) or inspect.iscoroutinefunction(call)
    return any(map(_runs_later, _called(call)))


def is_generator_function(call: Any) -> bool:
    """Return whether calling it gives a generator, of which nothing has run."""
    return any(map(_yields, _called(call)))


def _runs_later(call: Any) -> bool:
    return (type(_code_flags(call)) is int and inspect.iscoroutinefunction(call)) or _is_marked(call)


def _yields(call: Any) -> bool:
    flags = _flags(call)
    return bool(flags & inspect.CO_ASYNC_GENERATOR) or (bool(flags & inspect.CO_GENERATOR) and not _is_marked(call))


def _is_marked(call: Any) -> bool:
    """Whether it is a generator function that types.coroutine() has made a coroutine function."""
    return bool(_flags(call) & inspect.CO_ITERABLE_COROUTINE)


def _flags(call: Any) -> int:
    flags = _code_flags(call)
    return flags if type(flags) is int else 0


def _code_flags(call: Any) -> Any:
    """Return what says how a function runs; a mock has anything for it, which :mod:`inspect` takes for a yes."""
    return getattr(getattr(getattr(call, "__func__", call), "__code__", None), "co_flags", 0)


def _called(call: Any) -> tuple[Any, ...]:
    while isinstance(call, partial | MethodType):  # a partial in a class is a method, from Python 3.14 on
        call = call.func if isinstance(call, partial) else call.__func__
    return (call,) if isinstance(call, FunctionType | type) else (call, getattr(type(call), "__call__", None))  # noqa: B004


def refuse_unrun(call: Any, where: str, write: str) -> None:
    """Refuse a function that nobody awaits or iterates, so that it would never run; ``None`` is none.

    :param where: what it was given as.
    :param write: what to write instead.
    :raises SagaDefinitionError: with both in the text.
    """
    if call is None:
        return
    if is_coroutine_function(call):
        raise SagaDefinitionError(f"{where} is an async function, which nobody awaits; {write}")
    refuse_generator(call, where, write)


def refuse_generator(call: Any, where: str, write: str) -> None:
    """As :func:`refuse_unrun`, where a coroutine function is awaited."""
    if is_generator_function(call):
        raise SagaDefinitionError(f"{where} is a generator function, of which nothing runs; {write}")


def check_callable(function: object, what: str, of: str, count: int) -> None:
    """Refuse what cannot be called with ``count`` arguments.

    :param of: what the arguments are, for the error.
    :raises SagaDefinitionError: with ``what`` in the text.
    """
    if not callable(function):
        raise SagaDefinitionError(f"{what} is {function!r}; give a function of {of}")
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError as error:
        raise SagaDefinitionError(f"{what} is {function!r}, which cannot be called with {of}: {error}") from None
    except ValueError:
        pass  # some built-ins tell no signature


# -- what they return -------------------------------------------------------------------------------------------------


def unrun(value: Any) -> str | None:
    """Return what a value is called that is still to be awaited or iterated; ``None`` where a call that returned it has run.

    A generator is what a function with ``yield`` returns, not any iterator: ``map(...)``, a file and the like are values.
    """
    kind = type(value)
    if id(kind) in FINISHED:
        return None
    if kind is list or kind is tuple:  # one that a comprehension has made of calls
        return f"a {kind.__name__} of coroutines" if value and _is_a(type(value[0]), Coroutine) else None
    if _is_a(kind, Coroutine):
        return "a coroutine"
    if is_awaitable(value):
        return f"an awaitable ({kind.__name__})"
    if _is_a(kind, Generator) or _is_a(kind, AsyncGenerator):
        return "a generator"
    if len(FINISHED) >= _MOST_KNOWN:  # classes may be made for each call
        FINISHED.clear()
    FINISHED[id(kind)] = kind
    return None


def is_awaitable(value: Any) -> bool:
    """Return whether ``await`` takes the value. Nothing of its own is called."""
    kind = type(value)
    if kind is GeneratorType:  # one that types.coroutine() has marked
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return _is_a(kind, Awaitable)


def _is_a(kind: type, what: type) -> bool:
    try:
        return issubclass(kind, what)
    except Exception:  # a class that cannot be hashed, or that says so itself
        return False


def discard(value: Any) -> None:
    """Close or cancel what is not going to be awaited or iterated, where that can be done. Never raises an Exception."""
    try:
        if type(value) is list or type(value) is tuple:
            for one in value:
                discard(one)
        elif _is_a(type(value), Coroutine) or _is_a(type(value), Generator):
            value.close()
        elif hasattr(value, "_asyncio_future_blocking"):  # a future or a task, of a loop that may run in another thread
            value.get_loop().call_soon_threadsafe(value.cancel)
    except Exception:  # its loop is closed, or it is somebody's own; nobody wants it any more
        return


def answer(value: Any, where: str, write: str = "make it a plain function that does the work") -> Any:
    """Return what a function has returned that must have done its work by then.

    :param where: what the function was given as.
    :param write: what to write instead.
    :raises SagaDefinitionError: that is still to be awaited or iterated.
    """
    what = None if value is None else unrun(value)
    if what is not None:
        discard(value)
        raise SagaDefinitionError(f"{where} returned {what}, which nobody awaits; {write}")
    return value
