"""What runs sagas here and now without their stores is given: sagas, or what makes them, worlds, inputs, what signals bring."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from saga.cli.definitions import imported, loaded
from saga.cli.options import Settings
from saga.plain import one_line

__all__ = ["context_of", "function_of", "is_json", "makers", "value_of"]


def makers(settings: Settings, references: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what is to be run: sagas, and functions that make them; by ``module:name``, as far as that is known."""
    settings.sagas  # noqa: B018 - from then on modules are found here
    for reference in references:
        module, _, name = reference.partition(":")
        thing = imported(reference, "what to run") if name else None
        if callable(thing):
            yield reference, _named(thing, reference)
            continue
        for saga in loaded(reference):
            known = name if saga is thing else _name_in(module, saga)
            yield f"{module}:{known}", _named(saga, known)
    if not references:
        yield from (("", saga) for saga in settings.sagas)


def _name_in(module: str, saga: Any) -> str:
    """Return the name that a module has for a saga, or for its class."""
    known = vars(sys.modules[module]).items()
    return next((name for one in (saga, type(saga)) for name, value in known if value is one), "saga")


def _named(thing: Any, reference: str) -> Any:
    """Return what is, or makes, a thing, under the name that this was given by: a test to paste is written with it."""
    name = reference.rpartition(":")[2]
    if getattr(thing, "__name__", None) == name:
        return thing

    def made(*given: Any) -> Any:
        return thing(*given) if callable(thing) else thing

    made.__name__ = name
    vars(made)["__signature__"] = inspect.signature(thing) if _is_function(thing) else inspect.Signature()
    return made


def _is_function(thing: Any) -> bool:
    return callable(thing) and not isinstance(thing, type)


def function_of(option: str, reference: str | None) -> Any:
    """Return the function that is given for an option.

    :raises click.UsageError: there is none.
    """
    if reference is None:
        return None
    thing = imported(reference, option)
    if not callable(thing):
        raise click.UsageError(f"{option}: {reference} is {one_line(thing)}; give a function, or a class")
    return _named(thing, reference)


def is_json(text: str) -> bool:
    """Whether an input is one, and not the name of what makes one."""
    return text.lstrip().startswith("{")


def context_of(text: str | None) -> Any:
    """Return the input that is given, or what makes it.

    :raises click.UsageError: it is none.
    """
    if text is None:
        return None
    if not is_json(text):
        thing = imported(text, "--context")
        return _named(thing, text) if callable(thing) else thing
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--context is no JSON: {error}") from error


def value_of(text: str) -> Any:
    """Return what comes with a signal: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
