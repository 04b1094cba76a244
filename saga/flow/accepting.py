"""Which values a signal may have: a type, or a function of the value. Nothing is sent or received here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, UnionType
from typing import Any, TypeAlias

from saga.awaitables import answer, check_callable, refuse_unrun
from saga.errors import SagaDefinitionError, is_exception

__all__ = ["Accept", "check_accept", "refusal"]

Accept: TypeAlias = "type | UnionType | Callable[[Any], object]"
"""What a signal's value must be: a class, several as ``int | str``, or a function of the value that is true of it."""


def check_accept(accept: Any, where: str) -> None:
    """Refuse what says of no value whether it fits.

    :raises SagaDefinitionError: with ``where`` in the text.
    """
    if accept is None or isinstance(accept, UnionType):
        return
    if isinstance(accept, type):
        try:
            isinstance(None, accept)
        except TypeError as error:  # a Protocol that is not for run time, say
            raise SagaDefinitionError(f"{where} is {accept!r}: {error}; give a class, or a function of the value") from None
        return
    if not callable(accept):
        raise SagaDefinitionError(f"{where} is {accept!r}; give a class, several as int | str, or a function of the value")
    check_callable(accept, where, "the value", 1)
    refuse_unrun(accept, where, "make it a plain function that returns whether the value fits")


def refusal(accepts: Mapping[str, Accept], name: str, value: Any) -> str | None:
    """Return why a signal is not received with this value, which is not told; ``None``: it is.

    Whatever a user's function raises refuses the value, and its text is told, unless it is a ``KeyboardInterrupt``.
    """
    accept = accepts.get(name)
    if accept is None:
        return None
    if isinstance(accept, type | UnionType):
        if isinstance(value, accept):
            return None
        return f"signal {name!r} comes with {_called(accept)}, not with {type(value).__name__}"
    said = f"signal {name!r} does not come with this {type(value).__name__}: {_called(accept)}"
    try:
        fits = answer(accept(value), f"accept of signal {name!r}", "return whether the value fits")
        return None if fits else f"{said} says no"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = str(error) if is_exception(error) else ""
        return f"{said} raised {type(error).__name__}{': ' if why else ''}{why}"


def _called(accept: Any) -> str:
    """Return what one is called."""
    if type(accept) is FunctionType or isinstance(accept, type):
        return accept.__name__
    return str(accept)
