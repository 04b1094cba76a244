"""What is inside a value: how views of a context copy it, compare it and give it back."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from saga import Context
from saga.content import Copies, given_back, isolated, same

# -- classes ----------------------------------------------------------------------------------------------------------


class Odd:
    """Nothing that is asked of it is answered."""

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError

    __bool__ = __len__ = __copy__ = __deepcopy__ = __reduce__ = __repr__ = __eq__  # type: ignore[assignment]
    __hash__ = object.__hash__


class OddZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise ArithmeticError

    __repr__ = tzname = dst = utcoffset  # type: ignore[assignment]


@dataclass(eq=False)
class Cart:
    lines: Any

    def __post_init__(self) -> None:
        self.beside = [self.lines]

    @cached_property
    def asked(self) -> object:
        return object()

    def __copy__(self) -> Cart:
        raise ArithmeticError

    __eq__ = __deepcopy__ = __reduce__ = __copy__  # type: ignore[assignment]
    __hash__ = object.__hash__


@dataclass(slots=True)
class Base:
    lines: Any
    later: list[int] = field(init=False)


@dataclass(slots=True, weakref_slot=True)
class Slots(Base):
    more: Any = None


class _Beside:
    __slots__ = ("hidden",)


@dataclass
class BesideSlots(_Beside):
    lines: Any

    def __post_init__(self) -> None:
        self.hidden = [1]


@dataclass(frozen=True)
class Frozen:
    lines: Any


@dataclass
class Property:
    lines: Any

    @property
    def count(self) -> int:
        return len(self.lines)

    @count.setter
    def count(self, value: int) -> None:
        raise ArithmeticError


class Pair(NamedTuple):
    a: Any
    b: Any


class Strange(namedtuple("Strange", "a")):
    def __new__(cls, *values: Any) -> Strange:
        raise ArithmeticError


class Tracked:
    """Takes note of each assignment, as an object-relational mapper does."""

    def __get__(self, value: Any, kind: type) -> Any:
        return self if value is None else vars(value)["_lines"]

    def __set__(self, value: Any, lines: Any) -> None:
        vars(value)["_lines"] = lines


@dataclass
class Mapped:
    lines: Any = Tracked()


@dataclass
class Resource:
    lines: Any

    def __del__(self) -> None:
        """Closes what a copy of it would close as well."""


@dataclass
class Failure(Exception):
    lines: Any


@dataclass
class Described:
    lines: int


class Member(Described, Enum):
    ONE = 1


@dataclass
class Listed(list[int]):
    lines: Any = None


@dataclass
class OwnContext(Context):
    lines: Any


class Plain:
    def __init__(self, lines: Any) -> None:
        self.lines = lines


class Sublist(list[Any]):
    pass


def inside_itself() -> Any:
    found: list[Any] = []
    found.append({"again": (found,)})
    return found


def doubled() -> Any:
    found: Any = [1]
    for _ in range(20):
        found = [found, (found, found), {"a": found, "b": found}]
    return found


def nested(levels: int) -> Any:
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


def with_attributes() -> Any:
    found: Any = OrderedDict(a=[1])
    found.beside = 1
    return found


#: Of these a view has copies.
COPIED: dict[str, Any] = {
    "list": [[1], [float("nan")]],
    "dict": {"a": {"b": [1]}, Odd(): [Odd()]},
    "set": {1, Odd(), (1, 2)},
    "bytearray": bytearray(b"a"),
    "tuple": ([1], Odd()),
    "named tuple": Pair([1], Odd()),
    "named tuple with its own __new__": tuple.__new__(Strange, ([1],)),
    "deque": deque([[1], 2], maxlen=2),
    "defaultdict": defaultdict(list, {"a": [1]}),
    "Counter": Counter("aab"),
    "OrderedDict": OrderedDict(b=[1], a=2),
    "OrderedDict with attributes": with_attributes(),
    "dataclass": Cart([1]),
    "dataclass, slots, one not set": Slots([1]),
    "dataclass, a slot beside its fields": BesideSlots([1]),
    "dataclass, frozen": Frozen([1]),
    "dataclass, property": Property([1]),
    "holds itself": inside_itself(),
    "parts in many places": doubled(),
    "deeper than Python can recurse": nested(100_000),
}
#: These are one whole, and so shared.
WHOLE: dict[str, Any] = {
    "object": Plain([1]),
    "odd object": Odd(),
    "lock": threading.Lock(),
    "subclass of a list": Sublist([1]),
    "class": Cart,
    "context": OwnContext([1]),
    "mapped dataclass": Mapped([1]),
    "dataclass with __del__": Resource([1]),
    "dataclass, exception": Failure([1]),
    "dataclass, list": Listed([1]),
    "dataclass, member of an enum": Member.ONE,
    "frozenset": frozenset([1]),
}
#: Made anew each time, and the same.
EQUAL: dict[str, Any] = {
    "int": lambda: 10**5000,
    "float": lambda: float("nan"),
    "minus zero": lambda: float("-0.0"),
    "str": lambda: "ab" * 2,
    "bytes": lambda: b"ab" * 2,
    "complex": lambda: complex(float("nan"), 1),
    "Decimal": lambda: Decimal("sNaN"),
    "Fraction": lambda: Fraction(1, 3),
    "datetime": lambda: datetime(2026, 1, 1, tzinfo=timezone.utc),  # noqa: UP017
    "time": lambda: time(1, fold=1),
    "timedelta": lambda: timedelta(1),
    "timezone": lambda: timezone(timedelta(hours=1), "here"),
    "UUID": lambda: UUID(int=1),
    "path": lambda: PurePosixPath("a/b"),
    "list": lambda: [[1.5], {"a": (1,)}],
    "set": lambda: {1.5, "a", (1, 2), frozenset([3]), Frozen(1)},
    "frozenset": lambda: frozenset([10**30]),
    "dataclass": lambda: Cart([1]),
    "named tuple": lambda: Pair(1, [2]),
    "deque": lambda: deque([1], maxlen=3),
    "holds itself": inside_itself,
    "parts in many places": doubled,
}
DIFFERENT: list[tuple[Any, Any]] = [
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    ([1], [True]),
    ({1}, {True}),
    ({1}, {2}),
    ({1: 1}, {True: 1}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ([1], (1,)),
    ([1], [1, 2]),
    (Decimal("1.0"), Decimal("1.00")),
    (datetime(2026, 1, 1), datetime(2026, 1, 1, fold=1)),
    (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone.utc)),  # noqa: UP017
    (datetime(2026, 1, 1, tzinfo=OddZone()), datetime(2026, 1, 1, tzinfo=OddZone())),
    (timezone(timedelta(0), "a"), timezone(timedelta(0), "b")),
    (deque([1]), deque([1], maxlen=3)),
    (defaultdict(list), defaultdict(set)),
    (Frozen([1]), Frozen([2])),
    (Plain([1]), Plain([1])),
    ({Odd()}, {Odd()}),
    (Odd(), Odd()),
    (Mapped([1]), Mapped([1])),
]


@pytest.mark.parametrize("value", COPIED.values(), ids=COPIED)
def test_what_holds_others_is_copied_and_its_copy_is_the_same(value: Any) -> None:
    copies: Copies = {}
    twin = isolated(value, copies)
    assert twin is not value
    assert type(twin) is type(value)
    assert same(value, twin)
    assert isolated(value, copies) is twin
    originals = {id(copy): (original, copy, before) for original, copy, before in copies.values()}
    assert given_back(twin, originals, {}) is value


@pytest.mark.parametrize("value", WHOLE.values(), ids=WHOLE)
def test_what_is_one_whole_is_shared(value: Any) -> None:
    assert isolated([value], {})[0] is value
    assert same([value], [value])


@pytest.mark.parametrize("made", EQUAL.values(), ids=EQUAL)
def test_what_is_made_of_the_same_is_the_same(made: Any) -> None:
    assert same(made(), made())


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=lambda value: type(value).__name__)
def test_what_is_made_of_something_else_is_different(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert not same(other, one)


def test_all_that_a_dataclass_has_is_copied() -> None:
    cart, slots, beside = Cart([1]), Slots([1]), BesideSlots([1])
    one, two, three = isolated(cart, {}), isolated(slots, {}), isolated(beside, {})
    assert one.beside == [[1]]
    assert one.beside[0] is one.lines is not cart.lines
    assert not hasattr(two, "later")
    assert three.hidden == [1]
    assert three.hidden is not beside.hidden


def test_a_property_that_was_asked_for_is_no_change() -> None:
    one, other = Cart([1]), Cart([1])
    assert one.asked is not other.asked
    assert same(one, other)


def test_an_attribute_is_a_change() -> None:
    one, other = Cart([1]), Cart([1])
    other.beside = []
    assert not same(one, other)
    one, other = Cart([1]), Cart([1])
    del other.beside
    assert not same(one, other)


def test_what_was_changed_in_copies_is_given_back_and_nothing_else_is_touched() -> None:
    cart, slots, untouched = Cart([1]), Slots([1]), [1]
    slots.later = [1]
    value = [cart, slots, untouched, {"a": 1}, {1}, deque([1]), bytearray(b"a"), ([1],), defaultdict(list), with_attributes()]
    before = list(value)
    copies: Copies = {}
    twin = isolated(value, copies)
    twin[0].lines.append(2)
    twin[0].new = twin[1]
    del twin[0].beside, twin[1].later
    twin[3]["b"] = twin[0]
    twin[4].add(2)
    twin[5].append(2)
    twin[6].append(98)
    twin[7][0].append(2)
    twin[8].default_factory = set
    twin[9].more = 2
    del twin[9].beside
    twin.append([twin[0], (twin[1],)])
    untouched.append(2)  # by somebody else, meanwhile
    assert given_back(twin, {id(copy): (one, copy, was) for one, copy, was in copies.values()}, {}) is value
    assert all(one is other for one, other in zip(before, value, strict=False))
    assert (cart.lines, cart.new, vars(cart).keys()) == ([1, 2], slots, {"lines", "new"})  # type: ignore[attr-defined]
    assert not hasattr(slots, "later")
    assert untouched == [1, 2]
    assert value[3]["b"] is cart
    assert value[4:8] == [{1, 2}, deque([1, 2]), bytearray(b"ab"), ([1, 2],)]
    assert value[8].default_factory is set
    assert vars(value[9]) == {"more": 2}
    assert value[10][0] is cart
    assert value[10][1][0] is slots
