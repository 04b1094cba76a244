"""Classes that are stored, and what it means that a value comes back."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import json
import math
import threading
from collections import deque
from dataclasses import InitVar, dataclass, field
from datetime import datetime, time, timezone
from decimal import Decimal
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import pytest

from saga import Context
from saga.durable.codec import Codec
from saga.errors import EncodingError

HERE = __name__
T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    GREEN = (1, 2)
    CRIMSON = 1


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Perm(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Bits(enum.IntFlag):
    ONE = 1
    FOUR = 4


class Ejecting(enum.IntFlag, boundary=enum.EJECT):
    ONE = 1


class Growing(enum.Enum):
    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Growing:
        extra = object.__new__(cls)
        extra._name_, extra._value_ = "MADE_UP", value
        return extra


class Point(NamedTuple):
    x: Any
    y: Any = 0


Pair = collections.namedtuple("Pair", "one two")


class Roomy(collections.namedtuple("Roomy", "one")):
    pass


@dataclass
class Plain:
    a: Any = 1
    b: Any = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: Any = None


@dataclass
class Child(Plain):
    c: Any = None
    shared: ClassVar[int] = 7


@dataclass
class Base(Generic[T]):
    item: T


@dataclass
class Computed:
    price: int
    scale: InitVar[int] = 1
    total: int = field(init=False)
    runs: ClassVar[int] = 0

    def __post_init__(self, scale: int) -> None:
        Computed.runs += 1
        self.total = self.price * scale
        self.note = f"scaled by {scale}"

    @functools.cached_property
    def costly(self) -> object:
        return threading.Lock()


@dataclass
class Outer:
    @dataclass
    class Inner:
        z: int

    inner: Inner | None = None


@dataclass
class InDict(dict[str, int]):
    extra: int = 0


@dataclass
class Failing(Exception):
    code: int = 0


class Slotted:
    __slots__ = ("hidden",)


@dataclass
class OnSlots(Slotted):
    a: int = 0


class OneSlot:
    __slots__ = "hidden"


@dataclass
class OnOneSlot(OneSlot):
    a: int = 0


@dataclass
class Order(Context):
    order_id: str = ""


class Money:
    def __init__(self, cents: Any) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents

    __hash__ = None  # type: ignore[assignment]


class MyStr(str):
    pass


class MyInt(int):
    pass


class MyDict(dict[str, Any]):
    pass


class MyDate(datetime):
    pass


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def same(one: Any, other: Any) -> bool:
    """Whether two values have the same types all the way down and are equal; a NaN equals a NaN, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, enum.Enum):
        return one is other
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, datetime | time):
        naive = one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold
        return naive and same(one.tzinfo, other.tzinfo)
    if isinstance(one, timezone):
        return repr(one) == repr(other)
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(same, map(list, one.items()), map(list, other.items())))
    if isinstance(one, set | frozenset):
        left = list(other)
        for item in one:
            twin = next((index for index, candidate in enumerate(left) if same(item, candidate)), None)
            if twin is None:
                return False
            del left[twin]
        return not left
    if isinstance(one, deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        names = [each.name for each in dataclasses.fields(one)]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)


def back(value: Any, codec: Codec | None = None) -> Any:
    codec = codec or Codec()
    text = codec.encode(value)
    text.encode("ascii")
    json.loads(text, parse_constant=pytest.fail)
    result = codec.decode(text)
    assert same(value, result), (value, text, result)
    assert codec.encode(result) == text or "$set" in text or "$frozenset" in text
    return result


def refusal(value: Any, path: str = "value", codec: Codec | None = None) -> str:
    with pytest.raises(EncodingError) as caught:
        (codec or Codec()).encode(value, path)
    return str(caught.value)


def unreadable(text: str, codec: Codec | None = None) -> str:
    with pytest.raises(EncodingError) as caught:
        (codec or Codec()).decode(text)
    return str(caught.value)


def made(name: str, module: str) -> Any:
    cls = dataclasses.make_dataclass(name, ["a"])
    cls.__module__ = module
    return cls


class Local:
    def __init__(self) -> None:
        @dataclass
        class Hidden:
            a: int = 1

        self.hidden = Hidden()


def raising(*values: Any) -> Any:
    raise ValueError("not now")
