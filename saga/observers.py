"""Who is told of events: what users give as a saga's logger and its observers, looked at once. Nobody is told anything here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any, Final

from saga.awaitables import check_callable, refuse_unrun
from saga.definition import Observer
from saga.errors import SagaDefinitionError
from saga.loggers import LoggerLike, is_standard, writer_to
from saga.plain import repr_of

__all__ = ["Loggers", "observers_of"]

Loggers = LoggerLike | Observer | Iterable[LoggerLike | Observer]
"""What a saga's ``logger`` may be."""


def observers_of(saga: str, logger: Loggers | None, more: Observer | Iterable[Observer] | None) -> tuple[Observer, ...]:
    """Return every observer; of a logger that is none itself, what writes to it.

    :raises SagaDefinitionError: one cannot be called with an event and what it belongs to, and is no logger.
    """
    found: list[Observer] = []
    for what, given in (("logger", logger), ("observers", more)):
        if given is None:
            continue
        where = f"saga {saga!r}: {what}"
        for one in _each(given):
            observer = _logging_to(one) if what == "logger" else one
            _check_observer(observer, where)
            for method in (observer, *(getattr(observer, name, None) for name in _METHODS)):
                refuse_unrun(method, f"{where} has {repr_of(method)}, which", "give a plain function")
            found.append(observer)
    return tuple(found)


_METHODS: Final = ("around", "listening", "stint", "carry", "ended")
"""What an observer may have besides."""


def _each(given: Any) -> tuple[Any, ...]:
    one = callable(given) or isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable)
    return (given,) if one else tuple(given)


def _logging_to(given: Any) -> Any:
    """Return what writes to a logger, where that is given; else what is given."""
    if (callable(given) and not is_standard(given)) or writer_to(given) is None:
        return given
    from saga.logging import SagaLogger  # which not every process needs

    return SagaLogger(given)


def _check_observer(observer: object, what: str) -> None:
    if isinstance(observer, type):
        raise SagaDefinitionError(f"{what} has {repr_of(observer)}, a class; give an object of it, {observer.__name__}(...)")
    if not callable(observer):
        raise SagaDefinitionError(f"{what} has {repr_of(observer)}; give {_INSTEAD[what.rpartition(' ')[2]]}")
    code = getattr(observer if isinstance(observer, FunctionType) else type(observer).__call__, "__code__", None)
    taken = 2 if isinstance(observer, FunctionType) else 3
    if code is None or code.co_argcount != taken or code.co_kwonlyargcount:  # which is so of nearly none
        check_callable(observer, what, "(event, info)", 2)


_INSTEAD: Final = {
    "logger": "a logger of logging, structlog or loguru, the name of one, a SagaLogger or a function of (event, info)",
    "observers": "a function of (event, info), or SagaLogger(...) of a logger",
}
