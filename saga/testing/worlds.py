"""Worlds: what sagas act on, seen before and after; and what task objects keep, which is no part of one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import Any, Final

from saga.plain import repr_of, shortened

__all__ = ["UNKNOWN", "differences", "footprint", "keeps_the_same", "kept", "state_of"]

UNKNOWN: Final[Any] = object()
"""The state of a world that cannot tell it."""

_MISSING: Final[Any] = object()
_SHOWN: Final = 60
_CONTAINERS: Final = frozenset({dict, list, set})


def state_of(world: Any) -> Any:
    """Return a snapshot of a world.

    It is what its ``state()`` returns, which is not changed later; of a mapping, a sequence, a set or a dataclass, a copy of
    itself.
    """
    if callable(state := getattr(world, "state", None)):
        return state()
    if isinstance(world, Mapping | Sequence | Set) or (is_dataclass(world) and not isinstance(world, type)):
        return copy.deepcopy(world)
    return UNKNOWN


def kept(task: object) -> dict[str, Any]:
    """Return what a task object keeps between calls, which a process takes with it when it dies; containers are copied."""
    held = getattr(task, "__dict__", {})
    return {name: (value, value.copy() if type(value) in _CONTAINERS else None) for name, value in held.items()}


def keeps_the_same(task: object, before: Mapping[str, Any]) -> bool:
    """Whether a task object keeps what it kept before."""
    held = getattr(task, "__dict__", {})
    if held.keys() != before.keys():
        return False
    return all(held[name] is value and (copied is None or copied == value) for name, (value, copied) in before.items())


def differences(before: Any, after: Any) -> list[str]:
    """Return a line for each difference: ``stock['tea']: 5, then 4``."""
    return [f"{path or 'the world'}: {_shown(old)}, then {_shown(new)}" for path, old, new in _differ("", before, after)]


def footprint(before: Any, after: Any) -> frozenset[str]:
    """Return where a world has changed."""
    return frozenset(path for path, _, _ in _differ("", before, after))


def _differ(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if before is after or before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in (*before, *(key for key in after if key not in before)):
            at = f"{path}[{key!r}]" if path else str(key)
            yield from _differ(at, before.get(key, _MISSING), after.get(key, _MISSING))
    elif type(before) is type(after) and is_dataclass(before) and not isinstance(before, type):
        for field in fields(before):
            at = f"{path}.{field.name}" if path else field.name
            yield from _differ(at, getattr(before, field.name), getattr(after, field.name))
    elif isinstance(before, tuple | list) and isinstance(after, tuple | list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differ(f"{path}[{index}]", old, new)
    else:
        yield path, before, after


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    if isinstance(value, Set) and value:  # in an order that is the same each time
        return f"{{{shortened(', '.join(sorted(map(repr_of, value))), _SHOWN)}}}"
    return shortened(repr_of(value), _SHOWN)
