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

__all__ = ["imported", "loaded", "named_sagas", "raised"]


def loaded(reference: str) -> list[Saga[Any]]:
    """Return the sagas that ``module`` or ``module:name`` has: sagas, classes of sagas that need nothing, lists of them.

    :raises click.UsageError: there is no such module or name, or no saga; or importing it raised.
    """
    module, _, name = reference.partition(":")
    found = _module(module)
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


def imported(reference: str, option: str) -> Any:
    """Return what ``module:name`` is.

    :param option: for which that was given.
    :raises click.UsageError: there is no such module or name; or importing it raised.
    """
    module, _, name = reference.partition(":")
    if not name:
        raise click.UsageError(f"{option} is {reference!r}; give it as module:name")
    found = _module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            raise click.UsageError(f"{option}: {module} has no {name!r}{near(name, vars(found))}")
        found = getattr(found, part)
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise click.UsageError(f"there is no module {name!r} here or on Python's path") from error
        raise raised(f"importing {name!r}", error) from error
    except (Exception, SystemExit) as error:  # a script that ends the process when it is imported
        raise raised(f"importing {name!r}", error) from error


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


def raised(doing: str, error: BaseException) -> click.UsageError:
    """Return what says that doing something raised, and where: in code that is not ours."""
    ours = str(Path(__file__).parents[1])
    theirs = [
        (code.co_filename, number)
        for code, number in ((frame.f_code, number) for frame, number in traceback.walk_tb(error.__traceback__))
        if not code.co_filename.startswith((ours, "<")) and "importlib" not in code.co_filename
    ]
    where = f" ({theirs[-1][0]}, line {theirs[-1][1]})" if theirs else ""
    return click.UsageError(f"{doing} raised {type(error).__name__}: {text_of(error)}{where}")
