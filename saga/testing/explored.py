"""What was explored is remembered, and not explored again as long as nothing has changed.

What decides is the place in the test, what is given there, and the text of the project's modules that are used there: that of
the test, those that the saga and the functions given are defined in, and those that these import.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from saga import __version__
from saga.plain import repr_of
from saga.saga import Saga
from saga.testing.exploring import Exploration, explore
from saga.testing.faults import Kind

if TYPE_CHECKING:
    import pytest

__all__ = ["Place", "explore_unless_known"]

_OTHERS: Final = ("site-packages", "dist-packages")
"""Folders of what others wrote: its versions are not looked at."""


class Place(NamedTuple):
    """Where a test explores.

    :ivar root: the project's folder.
    :ivar test: stands for the test, and for how often it has explored before.
    :ivar modules: what is used there, as far as is known.
    """

    root: Path
    test: str
    modules: tuple[ModuleType, ...]


def explore_unless_known(
    cache: pytest.Cache | None, place: Place, saga: Any, context: Any, options: Mapping[str, Any]
) -> tuple[Exploration, bool]:
    """Explore, unless that was done before. Return what was found, and whether it was known.

    :param cache: where it is remembered; ``None``: explore anyway.
    """
    __tracebackhide__ = True
    if cache is None:
        return explore(saga, context, **options), False
    key = f"saga/explored-{_digest(place, saga, context, options)}"
    known = cache.get(key, None)
    if known is not None:
        kinds, histories = tuple(map(Kind, known.pop("kinds"))), tuple(known.pop("histories"))
        return Exploration(kinds=kinds, histories=histories, **known), True
    found = explore(saga, context, **options)
    if found.complete:
        told = asdict(found)
        del told["broken"]
        cache.set(key, told)
    return found, False


def _digest(place: Place, saga: Any, context: Any, options: Mapping[str, Any]) -> str:
    """Return what stands for all that decides what is found."""
    given = {"saga": saga, "context": context, **options}
    parts = [__version__, sys.version, place.test, *(f"{name}={_written(value)}" for name, value in sorted(given.items()))]
    modules = (*place.modules, *_modules_of(given.values()))
    parts += [f"{path}\n{text}" for path, text in sorted(_files(place.root, modules).items())]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:32]


def _written(value: Any) -> str:
    """Return a text that is the same for the same: a name, where it has one, and what a function has taken from around it."""
    if isinstance(value, Saga):
        return f"{value.name} {value.plan.fingerprint}"
    if isinstance(value, partial):
        return repr([_written(one) for one in (value.func, *value.args, *value.keywords.items())])
    named = getattr(value, "__qualname__", None)
    if not isinstance(named, str):
        return repr_of(value)
    return repr([named, *(_written(cell) for cell in _around(value))])


def _around(function: Any) -> Iterator[Any]:
    """Yield what a function has of what is around it, and its defaults."""
    for cell in getattr(function, "__closure__", None) or ():
        try:
            one = cell.cell_contents
        except ValueError:  # it is not set yet
            continue
        if one is not function:
            yield one.__qualname__ if inspect.isfunction(one) else one
    yield from getattr(function, "__defaults__", None) or ()


def _modules_of(values: Iterable[Any]) -> Iterator[ModuleType]:
    """Yield the modules that values are defined in: a saga's tasks, too."""
    for value in values:
        kinds = [step.kind for step in value.plan.steps] if isinstance(value, Saga) else []
        for one in (value, type(value), *kinds):
            module = sys.modules.get(getattr(one, "__module__", None) or "")
            if module is not None:
                yield module


def _files(root: Path, modules: Iterable[ModuleType]) -> dict[Path, str]:
    """Return, by path, the texts of the project's files among these modules' and those of what they import anywhere."""
    left = [(module.__name__, getattr(module, "__file__", None)) for module in modules]
    seen, found = set[str](), dict[Path, str]()
    while left:
        name, place = left.pop()
        path = Path(place or "")
        own = path.suffix == ".py" and path.is_relative_to(root) and not any(part in _OTHERS for part in path.parts)
        if own and path not in found:
            found[path] = path.read_text(encoding="utf-8")
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            names = set(_imported(found[path], package)) - seen
            seen |= names
            left += [(one, _place_of(one)) for one in names]
    return found


def _place_of(name: str) -> str | None:
    """Return the file of a module, which may not be imported yet."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    try:
        spec = find_spec(name)
    except Exception:  # it is no module, but something in one; or what it is in cannot be imported here
        return None
    return None if spec is None else spec.origin


def _imported(text: str, package: str) -> Iterator[str]:
    """Yield the names of all modules that a file may import: what it imports from one may be a module, too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            module = resolve_name(name, package) if node.level and package else name
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
