"""Definitions, by the names of their modules."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saga.errors import near
from saga.plain import text_of

if TYPE_CHECKING:
    from saga.saga import Saga

__all__ = ["loaded", "named_sagas"]


def loaded(reference: str) -> list[Saga[Any]]:
    """Return the sagas that ``module`` or ``module:name`` has: sagas, classes of sagas that need nothing, lists of them.

    :raises click.UsageError: there is no such module or name, or no saga; or importing it raised.
    """
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise click.UsageError(f"there is no module {module!r} here or on Python's path") from error
        raise _raised(module, error) from error
    except (Exception, SystemExit) as error:  # a script that ends the process when it is imported
        raise _raised(module, error) from error
    if name:
        for part in name.split("."):
            if not hasattr(found, part):
                known = [key for key, value in vars(found).items() if _sagas_of(value, deep=False, defined_in=module)]
                raise click.UsageError(
                    f"{module} has no {name!r}{near(name, known)}; sagas there: {', '.join(known) or 'none'}"
                )
            found = getattr(found, part)
        sagas = _sagas_of(found)
    else:
        every = [saga for value in vars(found).values() for saga in _sagas_of(value, defined_in=module)]
        sagas = list({id(saga): saga for saga in every}.values())
    if not sagas:
        raise click.UsageError(f"{reference} has no saga; give the module or the name of a Saga, or of a class of one")
    return sagas


def _sagas_of(value: Any, *, deep: bool = True, defined_in: str | None = None) -> list[Saga[Any]]:
    from saga.saga import Saga

    if isinstance(value, Saga):
        return [value]
    if isinstance(value, type) and issubclass(value, Saga):
        if defined_in is not None and (value.__module__ != defined_in or value.__name__.startswith("_")):
            return []
        try:
            return [value()]
        except TypeError as error:
            if defined_in is not None:  # it needs something, so it is none of those that are known by their module
                return []
            raise click.UsageError(f"{value.__name__} cannot be made without more: {text_of(error)}") from error
    if deep and isinstance(value, list | tuple | set | frozenset):
        return [saga for one in value for saga in _sagas_of(one, deep=False, defined_in=defined_in)]
    return []


def named_sagas(sagas: Iterable[Saga[Any]]) -> str:
    """Return the names of sagas, in a line."""
    return ", ".join(sorted(repr(saga.name) for saga in sagas))


def _raised(module: str, error: BaseException) -> click.UsageError:
    ours = str(Path(__file__).parents[1])
    theirs = [
        (code.co_filename, number)
        for code, number in ((frame.f_code, number) for frame, number in traceback.walk_tb(error.__traceback__))
        if not code.co_filename.startswith((ours, "<")) and "importlib" not in code.co_filename
    ]
    where = f" ({theirs[-1][0]}, line {theirs[-1][1]})" if theirs else ""
    return click.UsageError(f"importing {module!r} raised {type(error).__name__}: {text_of(error)}{where}")
