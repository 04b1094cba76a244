"""Classes that are found by name: what one is stored as, and how its values are rebuilt."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Container, Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from functools import cached_property, lru_cache
from inspect import getattr_static
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID

from saga.context import Context
from saga.durable.codec.refusals import REGISTER, refuse
from saga.durable.codec.scalars import quote
from saga.errors import EncodingError

__all__ = [
    "KINDS",
    "base_of",
    "kind_of",
    "other_attributes",
    "read_dataclass",
    "read_enum",
    "read_named_tuple",
    "write_member",
]

KINDS = {"$dataclass": "a dataclass", "$enum": "an Enum", "$namedtuple": "a named tuple"}
# The subclass before its base: what a value would come back as is the nearest.
_BASES = (
    *(int, float, complex, str, bytes, bytearray, datetime, date, time, timedelta, UUID, Decimal, Fraction),
    *(PosixPath, WindowsPath, PurePosixPath, PureWindowsPath, OrderedDict, dict, list, tuple, set, frozenset, deque),
)


def base_of(cls: type, bases: Container[type]) -> type | None:
    """Return the nearest base of a class that is one of some; the class itself is one of its bases."""
    return next((base for base in cls.__mro__ if base in bases), None)


@lru_cache(1000)
def kind_of(cls: type) -> str:
    """Return the tag of a class that is found by name; or "what it is; what to do" of one that is not stored."""
    if issubclass(cls, Context):
        return "a saga's context, which holds values and is none; store the keys you need"
    if issubclass(cls, Enum):
        return "$enum"
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return "$namedtuple"
    if issubclass(cls, defaultdict):
        return f"a dict with a default factory, which cannot be stored; store dict(...) of it or {REGISTER}"
    for base in _BASES:
        if issubclass(cls, base):
            name = base.__name__
            return f"a subclass of {name}, which would come back as {name}; store {name}(...) of it or {REGISTER}"
    if not is_dataclass(cls):
        what = "a class, not a value; store its name" if issubclass(cls, type) else "no dataclass, Enum or named tuple"
        return f"{what}{' or' if '; ' in what else ';'} {REGISTER}"
    known = {field.name for field in fields(cls)} | {"__dict__", "__weakref__"}
    slots = [_names(base.__dict__.get("__slots__", ())) for base in cls.__mro__]
    if others := [name for names in slots for name in names if name not in known]:
        return f"a dataclass with slots that are no fields: {', '.join(others)}; make them fields or {REGISTER}"
    try:
        object.__new__(cls)
    except TypeError as error:
        return f"a dataclass that cannot be rebuilt: {error}; {REGISTER}"
    return "$dataclass"


def _names(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def write_member(value: Enum) -> str:
    cls, name = type(value), value._name_
    if cls.__members__.get(name) is value:
        return quote(name)
    if not isinstance(value, Flag):
        refuse(cls, f"its member {name!r} is not one the class defines", REGISTER)
    # A combination, by its members' names; bits that no member has, as a number.
    parts, rest = [], value._value_
    for member in value:
        parts.append(quote(str(member._name_)))
        rest &= ~member._value_
    return f"[{','.join(parts + [str(rest)] * (rest != 0))}]"


def other_attributes(value: Any, known: frozenset[str]) -> list[tuple[str, Any]]:
    """Return a dataclass's attributes beside its fields, but for what a cached_property or ``typing`` keeps there."""
    found = [(name, item) for name, item in value.__dict__.items() if name not in known and name != "__orig_class__"]
    found = [(name, item) for name, item in found if not isinstance(getattr_static(type(value), name, None), cached_property)]
    if found and isinstance(value, tuple):
        names = ", ".join(name for name, _ in found)
        refuse(type(value), f"a named tuple with attributes beside its fields: {names}", "make it a dataclass")
    return found


def read_enum(cls: type[Enum], name: str, held: Any) -> Enum:
    parts = [held] if isinstance(held, str) else held
    if gone := [part for part in parts if isinstance(part, str) and part not in cls.__members__]:
        raise EncodingError(
            f"{name!r} has no member {', '.join(map(repr, gone))}; a member that was renamed keeps its old name if that "
            f"stands as an alias in the class"
        )
    if isinstance(held, str):
        return cls.__members__[held]
    bits = 0
    for part in parts:
        bits |= cls.__members__[part].value if isinstance(part, str) else part
    value: Any = cls(bits) if issubclass(cls, Flag) else None
    if not isinstance(value, cls):  # a Flag may also answer with a plain int
        raise ValueError(f"{name!r} has no such combination")
    return value


def read_named_tuple(cls: Any, name: str, stored: dict[str, Any]) -> Any:
    # Past the class's own __new__: what is stored has been through it.
    return tuple.__new__(
        cls, _complete(name, stored, {field: cls._field_defaults.get(field, MISSING) for field in cls._fields})
    )


def read_dataclass(cls: type, name: str, stored: dict[str, Any], others: Iterable[tuple[str, Any]] = ()) -> Any:
    known = {field.name: field for field in fields(cls)}
    value: Any = object.__new__(cls)
    for key, item in zip(known, _complete(name, stored, known), strict=True):
        object.__setattr__(value, key, item)
    if others:
        value.__dict__.update(others)
    return value


def _complete(name: str, stored: dict[str, Any], known: dict[str, Any]) -> list[Any]:
    """Return each known field's value: what is stored, or its default (``known`` has that, or the dataclass's field)."""
    if unknown := stored.keys() - known.keys():
        listed = ", ".join(map(repr, sorted(unknown)))
        raise EncodingError(
            f"{name!r} has no field {listed}, which a stored value has; put it back, or read it with the version that wrote it"
        )
    values = []
    for key, default in known.items():
        if key in stored:
            item = stored[key]
        elif isinstance(default, Field):
            item = default.default if default.default_factory is MISSING else default.default_factory()
        else:
            item = default
        if item is MISSING:
            raise EncodingError(f"a stored {name!r} has no field {key!r}; give that a default in the class")
        values.append(item)
    return values
