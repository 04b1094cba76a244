"""How a class of facts is made: a dataclass, two of whose methods all of them share. No fact is named here.

Facts are immutable by contract and to the type checker. They are not frozen at run time, because a frozen dataclass pays for
each field on every construction, and two events are made for every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

__all__ = ["fact"]

C = TypeVar("C")


def _equal(one: Any, other: Any) -> Any:
    if type(one) is not type(other):
        return NotImplemented
    return all(getattr(one, name) == getattr(other, name) for name in one.__match_args__)


def _shown(event: Any) -> str:
    return f"{type(event).__name__}({', '.join(f'{name}={getattr(event, name)!r}' for name in event.__match_args__)})"


@dataclass_transform(frozen_default=True)
def fact(cls: type[C]) -> type[C]:
    """Make a class of facts of one that names its fields."""
    # A dataclass compiles each method it makes when this module is imported: all events share these two.
    made: Any = dataclass(slots=True, eq=False, repr=False)(cls)
    shown = tuple(name for name in made.__match_args__ if name != "encoded")
    for name, value in {"__eq__": _equal, "__repr__": _shown, "__hash__": None, "__match_args__": shown}.items():
        setattr(made, name, value)
    return made  # type: ignore[no-any-return]
