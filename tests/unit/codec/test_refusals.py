"""What cannot be stored: an error that says which value, where and what to do."""

from __future__ import annotations

import collections
import decimal
import pathlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from saga import Context
from saga.durable.codec import MAX_DEPTH, Codec
from saga.errors import SagaDefinitionError
from tests.unit.codec.conftest import (
    Computed,
    Failing,
    Frozen,
    Growing,
    InDict,
    Local,
    Money,
    MyDate,
    MyDict,
    MyInt,
    MyStr,
    OnOneSlot,
    OnSlots,
    Order,
    Plain,
    Point,
    Roomy,
    raising,
    refusal,
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            decimal.Context(),
            "v: cannot store a value of type decimal.Context (no dataclass, Enum or named tuple); register it with "
            "Codec.register(...)",
        ),
        (int, "v: cannot store a value of type type (a class, not a value); store its name or register it with"),
        (MyStr("a"), "MyStr (a subclass of str, which would come back as str); store str(...) of it or register it with"),
        (MyInt(1), "MyInt (a subclass of int, which would come back as int); store int(...)"),
        (MyDict(), "MyDict (a subclass of dict, which"),
        (MyDate(2026, 1, 1), "MyDate (a subclass of datetime, which"),
        (InDict(), "InDict (a subclass of dict, which"),
        (collections.Counter(), "collections.Counter (a subclass of dict"),
        (collections.defaultdict(list), "(a dict with a default factory, which cannot be stored); store dict(...) of it or"),
        (Context(a=1), "(a saga's context, which holds values and is none); store the keys you need"),
        (Order(order_id="A1"), "Order (a saga's context, which"),
        (Local().hidden, "(it is defined in a function, where nothing finds it again); move it to module level or register it"),
        (Failing(1), "Failing (a dataclass that cannot be rebuilt: "),
        (OnSlots(), "OnSlots (a dataclass with slots that are no fields: hidden); make them fields or register"),
        (OnOneSlot(), "OnOneSlot (a dataclass with slots that are no fields: hidden)"),
        (Growing(2), "Growing (its member 'MADE_UP' is not one the class defines); register"),
        (object(), "v: cannot store a value of type object ("),
        (lambda: 1, "v: cannot store a value of type function ("),
        (ValueError("x"), "v: cannot store a value of type ValueError ("),
        ({"a": [1, {"b": object()}]}, "v['a'][1]['b']: cannot store a value of type object"),
        ({(1, 2): object()}, "v[(1, 2)]: cannot"),
        ({object: 1}, "v.<key>: cannot store a value of type type"),
        ({"$a": object()}, "v['$a']: cannot"),
        ({1: [object()]}, "v[1][0]: cannot"),
        ((1, object()), "v[1]: cannot"),
        (deque([1, object()]), "v[1]: cannot"),
        ({object()}, "v.<element>: cannot"),
        (OrderedDict(a=object()), "v['a']: cannot"),
        (Frozen("a", [Point(1, object())]), "v.inner[0].y: cannot"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_path_and_a_remedy(value: Any, message: str) -> None:
    assert message in refusal(value, "v")


def test_the_path_of_a_refused_value_reads_like_python() -> None:
    order = Plain(b=[1, 2, 3, Frozen("x", decimal.Context())])
    assert refusal(order, "context.order").startswith("context.order.b[3].inner: cannot store a value of type decimal.Context")


def test_other_attributes_of_a_refused_value_have_paths_too() -> None:
    value = Plain()
    value.lock = threading.Lock()  # type: ignore[attr-defined]
    assert refusal(value).startswith("value.lock: cannot store a value of type _thread.lock")


def test_attributes_that_would_be_lost_are_refused() -> None:
    roomy = Roomy(1)
    roomy.more = 1
    assert "attributes beside its fields: more); make it a dataclass" in refusal(roomy)
    ordered = OrderedDict()
    ordered.more = 1  # type: ignore[attr-defined]
    assert "attributes of its own: more); make it a dataclass" in refusal([ordered])


def test_a_field_that_is_not_set_is_refused() -> None:
    value = Computed(1)
    del value.total
    assert "its field 'total' is not set); set it, or give it a default" in refusal(value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda loop: loop.append(loop), "v[0]: cannot store a value that holds itself: this is v again"),
        (lambda loop: loop.append({"a": (loop,)}), "v[0]['a'][0]: cannot store a value that holds itself: this is v again"),
        (lambda loop: loop.append(Plain(a=loop)), "v[0].a: cannot store a value that holds itself: this is v again"),
        (lambda loop: loop.append(OrderedDict({1: loop})), "v[0][1]: cannot"),
        (lambda loop: loop.append({2: loop}), "v[0][2]: cannot"),
        (lambda loop: loop.append(deque([loop])), "v[0][0]: cannot"),
    ],
)
def test_a_value_that_holds_itself_is_refused(build: Callable[[Any], None], message: str) -> None:
    loop: list[Any] = []
    build(loop)
    assert message in refusal(loop, "v")


def test_a_loop_further_in_is_named_where_it_closes() -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    assert refusal({"a": inner}) == "value['a'][1]: cannot store a value that holds itself: this is value['a'] again"


class Endless:
    pass


def beside(one: Any, other: Any) -> Plain:
    value = Plain()
    value.more = [one, other]  # type: ignore[attr-defined]
    return value


@pytest.mark.parametrize(
    "twice",
    [
        lambda value: [value, value],
        lambda value: (value, value),
        lambda value: [[value], [value]],
        lambda value: deque([value, value]),
        lambda value: {"a": value, "b": value},
        lambda value: {1: value, 2: value},
        lambda value: OrderedDict(a=value, b=value),
        lambda value: Point(value, value),
        lambda value: Plain(value, value),
        lambda value: beside(value, value),
        lambda value: Money([value, value]),
        lambda value: frozenset([Frozen("", value), (value,)]),
    ],
)
def test_a_value_whose_parts_stand_in_many_places_is_refused_when_its_text_is_too_long(twice: Callable[[Any], Any]) -> None:
    value: Any = frozenset("x")
    for _ in range(45):  # written out to its end it would fill every disk there is
        value = twice(value)
    codec = Codec(max_size=10_000).register(Money, lambda money: money.cents, Money)
    assert refusal(value, "context.rows", codec) == (
        "context.rows: cannot store a value whose text has more than 10,000 characters, with each part written out as often as "
        "it stands there; store a key of it instead, or give a codec with more room: Codec(blobs=...), Codec(max_size=...)"
    )


@pytest.mark.parametrize(
    "value", ["x" * 8, b"x" * 80, 10**10, [1] * 5, {"a": 1234}, {1}, Point(1, 2), Plain(1, 2), frozenset([1, 2, 3])], ids=repr
)
def test_a_text_may_be_as_long_as_the_codec_says_and_no_longer(value: Any) -> None:
    size = len(Codec().encode(value))
    assert len(Codec(max_size=size).encode(value)) == size
    assert f"more than {size - 1:,} characters" in refusal(value, codec=Codec(max_size=size - 1))


@dataclass(frozen=True)
class Keyed:
    number: int


@pytest.mark.parametrize(
    "many",
    [
        lambda part: [part] * 1000,
        lambda part: deque([part] * 1000),
        lambda part: dict.fromkeys(map(str, range(1000)), part),
        lambda part: dict.fromkeys(range(1000), part),
        lambda part: {Keyed(number) for number in range(1000)},
        lambda part: Point(part, [part] * 1000),
    ],
)
def test_no_more_parts_are_written_than_there_is_room_for(many: Callable[[Any], Any]) -> None:
    written: list[Any] = []
    codec = Codec(max_size=1000)
    for kind in (Money, Keyed):
        codec.register(kind, lambda value: written.append(value) or "x" * 100, Money)
    assert "more than 1,000 characters" in refusal(many(Money(1)), codec=codec)
    assert len(written) <= 10


@pytest.mark.parametrize("size", [0, -1, 1.5, "10", True])
def test_a_limit_is_a_number_of_characters(size: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"^Codec: max_size is .*; give a number of characters, such as 10_000_000$"):
        Codec(max_size=size)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: [value],
        lambda value: (value,),
        lambda value: deque([value]),
        lambda value: {"a": value},
        lambda value: {1: value},
        lambda value: {"$a": value},
        lambda value: {"a": value, 1: None},
        lambda value: OrderedDict(a=value),
        lambda value: frozenset([value]),
        lambda value: {0.5: value},
        lambda value: Point(value),
        lambda value: Frozen("", value),
        lambda value: Plain(value, 0),
        Money,
    ],
)
def test_values_may_be_nested_to_a_limit_and_no_deeper(wrap: Callable[[Any], Any]) -> None:
    codec = Codec().register(Money, lambda money: money.cents, Money)
    value: Any = 0
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    text = codec.encode(value)
    assert codec.encode(codec.decode(text)) == text
    assert f"cannot store values nested more than {MAX_DEPTH} deep" in refusal(wrap(value), codec=codec)


def test_a_long_path_is_shortened() -> None:
    value: Any = 0
    for _ in range(MAX_DEPTH + 1):
        value = {"a long key": value}
    message = refusal(value)
    assert " ... " in message
    assert len(message) < 500


def test_an_encode_function_that_never_ends_is_refused() -> None:
    codec = Codec().register(Endless, lambda value: [Endless()], lambda stored: Endless())
    assert "nested more than" in refusal(Endless(), codec=codec)


def test_what_fails_in_any_other_way_is_an_encoding_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec()
    codec._writers[Endless] = raising
    assert refusal(Endless(), codec=codec) == "value: cannot be stored: ValueError: not now"


def test_a_zone_without_a_key_is_refused() -> None:
    keyless = ZoneInfo.from_file(_zone_file())
    assert "value.tzinfo: cannot store a value of type zoneinfo.ZoneInfo (it was read from a file" in refusal(
        datetime(2026, 1, 1, tzinfo=keyless)
    )


def _zone_file() -> Any:
    import io

    header = b"TZif" + b"\0" * 16 + b"\0\0\0\0" * 3 + b"\0\0\0\0" + b"\0\0\0\1" + b"\0\0\0\4"
    return io.BytesIO(header + b"\0\0\0\0\0\0UTC\0")


def test_a_path_whose_text_reads_as_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from saga.durable.codec import scalars

    class Odd(pathlib.PurePosixPath):
        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(Exception, match="its text 'a' reads as another path"):
        scalars._path_text(Odd("a"))
