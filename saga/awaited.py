"""Methods of the doors that ask a store, made into what an event loop awaits. What they do is not said here again."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from saga.errors import add_note

__all__ = ["awaited"]

D = TypeVar("D")
P = ParamSpec("P")
T = TypeVar("T")


def awaited(
    method: Callable[Concatenate[D, P], T], with_a_connection: Callable[..., Coroutine[Any, Any, T]] | None = None
) -> Callable[Concatenate[D, P], Coroutine[Any, Any, T]]:
    """Return the async twin of a method: one that is called in a thread, to its end, while the event loop goes on.

    It has the method's name with an ``a`` before it, and its parameters. A cancellation that strikes meanwhile takes effect
    when the call has ended; a note on it says whether it was carried out, and where it was not, why is the cause.

    :param with_a_connection: what is awaited instead where the method is given a ``connection``, which is of the event loop.
    """
    name: str = method.__name__

    @wraps(method)
    async def call(door: D, /, *args: P.args, **named: P.kwargs) -> T:
        from saga.drivers.to_the_end import in_thread

        if with_a_connection is not None and named.get("connection") is not None:
            return await with_a_connection(door, *args, **named)
        struck: list[BaseException] = []
        try:
            result = await in_thread(partial(method, door, *args, **named), struck.append)
        except Exception as error:
            if not struck:
                raise
            raise _first(struck, f"a{name}() failed before this took effect: its error is the cause") from error
        if struck:
            raise _first(struck, f"a{name}() was carried out before this took effect")
        return result

    call.__name__ = f"a{name}"
    call.__qualname__ = f"{method.__qualname__.removesuffix(name)}a{name}"
    call.__doc__ = f"As :meth:`{name}`, which is called in a thread: the running event loop goes on meanwhile."
    if with_a_connection is not None:
        call.__doc__ += "\n\nA ``connection`` is an asynchronous one, and is used in the running event loop."
    return call


def _first(struck: list[BaseException], note: str) -> BaseException:
    """Return what struck first, with a note. The list is emptied: what is raised knows the frame that has it."""
    first = struck[0]
    struck.clear()
    add_note(first, note)
    return first
