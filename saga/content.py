"""What is inside a value, by which views of a context copy it, compare it and give it back. No user's code runs here.

Inside are the items of lists, tuples, named tuples and deques, the values of dicts, the attributes of dataclasses: of exactly
these types, and as deep as :data:`MAX_DEPTH`. All else is one whole: the copy has the same one, and it is the same as itself
alone, whatever its ``==`` says; so are a set's elements and a dict's keys.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cached_property, lru_cache
from inspect import getattr_static
from operator import is_
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from types import MemberDescriptorType
from typing import Any, Final
from uuid import UUID

__all__ = ["ATOMS", "MAX_DEPTH", "Copies", "copied_within", "given_back", "isolated", "same"]

ATOMS: Final = frozenset(map(id, (int, float, str, bytes, bool, type(None))))
"""Types whose values never change, by id: not every class can be hashed."""
MAX_DEPTH: Final = 100
"""How deep inside each other containers are told apart."""

Copies = dict[int, tuple[Any, Any, list[Any]]]
"""By the id of an original: it, its copy, and what was inside the copy at first."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the values of one type are taken apart and put together.

    :ivar parts: what is inside.
    :ivar content: all that makes out the value, in an order of its own.
    :ivar copy: of a value that can change, another one with the same parts.
    :ivar fill: ``(value, like, parts)`` makes it what ``like`` is, with these parts; of one that cannot change, another.
    """

    parts: Callable[[Any], list[Any]]
    content: Callable[[Any], list[Any]]
    copy: Callable[[Any], Any] | None
    fill: Callable[[Any, Any, list[Any]], Any]


# -- copies -----------------------------------------------------------------------------------------------------------


def isolated(value: Any, copies: Copies, depth: int = 0) -> Any:
    """Return a copy of the value that changes to it do not reach, and that has in common what is one whole.

    :param copies: those made already; these are added. A value in two places stays one.
    """
    shape = None if id(type(value)) in ATOMS or depth > MAX_DEPTH else _shape_of(type(value))
    if shape is None:
        return value
    known = copies.get(id(value))
    if known is not None:
        return known[1]
    parts = shape.parts(value)
    if shape.copy is None:
        inside = [isolated(part, copies, depth + 1) for part in parts]
        known = copies.get(id(value))
        if known is not None:  # it stands in itself
            return known[1]
        twin = value if _identical(inside, parts) else shape.fill(None, value, inside)
        copies[id(value)] = value, twin, inside
        return twin
    twin = shape.copy(value)
    copies[id(value)] = value, twin, parts
    shape.fill(twin, value, [part if id(type(part)) in ATOMS else isolated(part, copies, depth + 1) for part in parts])
    copies[id(value)] = value, twin, shape.content(twin)
    return twin


def copied_within(value: Any, copies: Copies, found: dict[int, Any]) -> None:
    """Find the copies of what is inside a value, and its own: ``found`` has each by the id of its original."""
    if id(value) in copies and id(value) not in found:
        found[id(value)] = copies[id(value)][1]
        shape = _shape_of(type(value))
        for part in shape.parts(value) if shape is not None else ():
            copied_within(part, copies, found)


def given_back(value: Any, originals: Copies, done: dict[int, Any], depth: int = 0) -> Any:
    """Return what stands for a copy where it was made of: the original, which becomes what its copy is where that was changed.

    A value that is no copy is its own original.

    :param originals: what was copied, by the ids of the copies.
    :param done: by id, what stands for the values met before.
    """
    shape = None if id(type(value)) in ATOMS or depth > MAX_DEPTH else _shape_of(type(value))
    if shape is None:
        return value
    if id(value) in done:
        return done[id(value)]
    original, _, before = originals.get(id(value), (value, value, None))
    parts = shape.parts(value)
    if shape.copy is None:
        inside = [given_back(part, originals, done, depth + 1) for part in parts]
        kept = _identical(inside, shape.parts(original))
        done[id(value)] = original if kept else shape.fill(None, value, inside)
        return done[id(value)]
    changed = before is None or not _identical(before, shape.content(value))
    done[id(value)] = done[id(original)] = original
    inside = [part if id(type(part)) in ATOMS else given_back(part, originals, done, depth + 1) for part in parts]
    if changed:
        shape.fill(original, value, inside)
    return original


def _identical(ones: list[Any], others: list[Any]) -> bool:
    return len(ones) == len(others) and all(map(is_, ones, others))


# -- comparison -------------------------------------------------------------------------------------------------------


def same(one: Any, other: Any, met: set[tuple[int, int]] | None = None, depth: int = 0) -> bool:
    """Return whether two values have the same content.

    Stricter than ``==``: who writes ``Decimal("1.00")`` over ``Decimal("1.0")``, or ``[True]`` over ``[1]``, has changed it.
    And not-a-number is the same as itself.

    :param met: pairs found the same so far, or being looked at.
    """
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    content = _SCALARS.get(id(kind))
    if content is not None:
        return bool(content(one) == content(other))
    if kind is set or kind is frozenset:
        return len(one) == len(other) and _elements(one) == _elements(other)
    shape = _shape_of(kind) if depth <= MAX_DEPTH else None
    if shape is None:
        return False
    met = set() if met is None else met
    pair = id(one), id(other)
    if pair in met:
        return True
    met.add(pair)
    ones, others = shape.content(one), shape.content(other)
    return len(ones) == len(others) and all(same(a, b, met, depth + 1) for a, b in zip(ones, others, strict=True))


def _elements(found: Iterable[Any]) -> set[Any]:
    return {_key_of(item, 0) for item in found}


def _key_of(value: Any, depth: int) -> Any:
    """Return what stands for an element of a set: its own content, where it is a plain value."""
    kind = type(value)
    content = _SCALARS.get(id(kind))
    if content is not None:
        return id(kind), content(value)
    if kind is frozenset and depth < _ELEMENTS_DEPTH:
        return id(kind), frozenset(_key_of(item, depth + 1) for item in value)
    shape = _shape_of(kind) if depth < _ELEMENTS_DEPTH else None
    if shape is None or not (shape.copy is None or kind.__dataclass_params__.frozen):
        return id(kind), id(value)
    return id(kind), tuple(_key_of(item, depth + 1) for item in shape.content(value))


_ELEMENTS_DEPTH: Final = 5


def _itself(value: Any) -> Any:
    return value


def _moment(value: datetime | time) -> Any:
    zone = value.tzinfo  # its own methods are not called: they may be anybody's
    return value.replace(tzinfo=None).isoformat(), value.fold, repr(zone) if type(zone) is timezone else id(zone)


_TOLD_APART: Final[dict[Callable[[Any], Any], tuple[type, ...]]] = {
    _itself: (int, str, bytes, date, timedelta, UUID),
    repr: (float, complex, Decimal, Fraction, timezone),
    str: (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath),
    _moment: (datetime, time),
    bytes: (bytearray,),
}
_SCALARS: Final = {id(kind): content for content, kinds in _TOLD_APART.items() for kind in kinds}
"""What tells two values of these types apart, which hold no others."""

# -- shapes -----------------------------------------------------------------------------------------------------------


def _nothing(value: Any) -> list[Any]:
    return []


def _fill_list(value: list[Any], like: Any, parts: list[Any]) -> None:
    value[:] = parts


def _fill_deque(value: deque[Any], like: Any, parts: list[Any]) -> None:
    value.clear()
    value.extend(parts)


def _fill_set(value: set[Any], like: set[Any], parts: list[Any]) -> None:
    if value is not like:
        value.clear()
        value.update(like)


def _fill_bytes(value: bytearray, like: bytearray, parts: list[Any]) -> None:
    value[:] = like


def _values(value: dict[Any, Any]) -> list[Any]:
    return list(value.values())


def _pairs(value: dict[Any, Any]) -> list[Any]:
    return [part for pair in value.items() for part in pair]


def _fill_dict(value: dict[Any, Any], like: dict[Any, Any], parts: list[Any]) -> None:
    if not _identical(list(value), list(like)):
        value.clear()
        value.update(like)
    for key, part in zip(like, parts, strict=True):
        value[key] = part


def _fill_default(value: defaultdict[Any, Any], like: defaultdict[Any, Any], parts: list[Any]) -> None:
    value.default_factory = like.default_factory
    _fill_dict(value, like, parts)


def _fill_with_attributes(value: Any, like: Any, parts: list[Any]) -> None:
    _fill_dict(value, like, parts)
    _set_attributes(value, vars(like))


def _set_attributes(value: Any, attributes: dict[str, Any]) -> None:
    own = object.__getattribute__(value, "__dict__")
    own.update(attributes)
    for name in own.keys() - attributes.keys():
        del own[name]


_SHAPES: Final[dict[type, _Shape]] = {
    list: _Shape(list, list, list.copy, _fill_list),
    tuple: _Shape(list, list, None, lambda value, like, parts: tuple(parts)),
    deque: _Shape(list, lambda value: [value.maxlen, *value], deque.copy, _fill_deque),
    set: _Shape(_nothing, list, set.copy, _fill_set),
    bytearray: _Shape(_nothing, list, bytearray.copy, _fill_bytes),
    dict: _Shape(_values, _pairs, dict.copy, _fill_dict),
    defaultdict: _Shape(_values, lambda value: [value.default_factory, *_pairs(value)], defaultdict.copy, _fill_default),
    **dict.fromkeys(
        (OrderedDict, Counter),
        _Shape(_values, lambda value: _pairs(value) + _pairs(vars(value)), lambda value: value.copy(), _fill_with_attributes),
    ),
}


def _shape_of(kind: type) -> _Shape | None:
    try:
        return _SHAPES.get(kind) or _shape_of_class(kind)
    except TypeError:  # a class that its own class does not let be hashed
        return None


@lru_cache(1000)
def _shape_of_class(kind: type) -> _Shape | None:
    """Return the shape of a class that somebody wrote, or ``None`` where its values are one whole."""
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _Shape(list, list, None, lambda value, like, parts: tuple.__new__(kind, parts))
    return _shape_of_dataclass(kind) if is_dataclass(kind) and _is_plain(kind) else None


def _is_plain(kind: Any) -> bool:
    """Whether all there is of a dataclass's objects is their attributes, so that one with the same is as good."""
    if issubclass(kind, Enum) or hasattr(kind, "__del__") or hasattr(kind, "__binding__"):  # a member; a resource; a context
        return False
    try:
        object.__new__(kind)
    except TypeError:  # an exception, a list, ...
        return False
    found = [type(getattr_static(kind, field.name, None)) for field in fields(kind)]
    # What takes note of each assignment, as an object-relational mapper does, knows one object and not its copy.
    return not any(hasattr(one, "__set__") and not issubclass(one, MemberDescriptorType | property) for one in found)


def _shape_of_dataclass(kind: type) -> _Shape:
    slots = [found for base in kind.__mro__ for found in vars(base).values() if type(found) is MemberDescriptorType]
    cached = {name for base in kind.__mro__ for name, found in vars(base).items() if isinstance(found, cached_property)}
    has_dict = kind.__dictoffset__ != 0

    def attributes(value: Any) -> dict[str, Any]:
        return object.__getattribute__(value, "__dict__") if has_dict else {}

    def in_slots(value: Any) -> list[Any]:
        found = []
        for slot in slots:
            try:
                found.append(slot.__get__(value))
            except AttributeError:
                found.append(_UNSET)
        return found

    def content(value: Any) -> list[Any]:
        own = attributes(value)
        # A property that was only asked for has changed nothing.
        return in_slots(value) + [part for name in sorted(own.keys() - cached) for part in (name, own[name])]

    def fill(value: Any, like: Any, parts: list[Any]) -> None:
        for slot, part in zip(slots, parts, strict=False):
            if part is not _UNSET:
                slot.__set__(value, part)
            else:
                with suppress(AttributeError):
                    slot.__delete__(value)
        if has_dict:
            _set_attributes(value, dict(zip(attributes(like), parts[len(slots) :], strict=True)))

    def parts_of(value: Any) -> list[Any]:
        return in_slots(value) + list(attributes(value).values())

    def copy(value: Any) -> Any:
        twin: Any = object.__new__(kind)
        fill(twin, value, parts_of(value))
        return twin

    return _Shape(parts_of, content, copy, fill)


_UNSET: Final = object()
