"""Values to text and back: the same types all the way down, or an error that says which value, where and what to do."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import decimal
import enum
import functools
import json
import math
import pathlib
import reprlib
import sys
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from saga import Context
from saga.codec import MAX_DEPTH, Codec, decode_error, encode_error
from saga.errors import EncodingError, RecordedError, SagaDefinitionError, SagaError

HERE = __name__
T = TypeVar("T")
# What json says of a text nested too deep: newer Pythons watch the stack itself.
TOO_DEEP = "Stack overflow" if sys.version_info >= (3, 14) else "maximum recursion depth"


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


def told_of_a_long_int() -> str:
    """What an error says of ``[16**9000 - 1]``, which has more digits than Python prints. Patch releases differ."""
    try:
        reprlib.repr(10**5000)
    except ValueError:
        return "<list>"
    return "[<int instance with roughly 10838 digits"


any_text = st.text(st.characters(codec="utf-8", categories=None) | st.characters(categories=["Cs"]), max_size=6)
zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.timezones(),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))),
    st.builds(timezone, st.timedeltas(timedelta(hours=-9), timedelta(hours=9)), any_text),
)
moments = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes() | st.times(), zones, st.integers(0, 1)
)
path_text = st.text("ab.:/\\ \udc80é", max_size=8)
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers().map(lambda number: number << 2100),
    st.floats(),
    any_text,
    st.binary(max_size=6),
    st.complex_numbers(),
    moments,
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from([Decimal("NaN1"), Decimal("-NaN"), Decimal("1E+5"), Decimal("-0.00"), Decimal("Infinity")]),
    st.fractions(),
    st.sampled_from([Color.RED, Color.GREEN, Level.LOW, Word.YES, Perm(0), Perm.BOTH, Perm.READ, Bits(5), Bits(18), Bits(0)]),
    path_text.map(pathlib.Path),
    path_text.map(pathlib.PurePosixPath),
    # A few odd ones, such as "//.//", are refused: their text reads as another path.
    path_text.map(pathlib.PureWindowsPath).filter(lambda path: pathlib.PureWindowsPath(str(path)) == path),
)
keys = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Frozen, any_text, inner),
    ),
    max_leaves=4,
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.lists(st.tuples(keys, inner), max_size=3)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.builds(deque, st.lists(inner, max_size=3), st.none() | st.integers(0, 4)),
        st.dictionaries(any_text | st.sampled_from(["$decimal", "$", "$dict", "$dataclass"]), inner, max_size=3),
        pairs.map(dict),
        pairs.map(OrderedDict),
        st.sets(keys, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Plain, inner, inner),
        st.builds(Child, inner, inner, inner),
        st.builds(Base, inner),
        st.builds(Frozen, any_text, inner),
    )


values = st.recursive(hashable_leaves | st.binary(max_size=6).map(bytearray) | st.decimals(), containers, max_leaves=12)


@settings(max_examples=1500, deadline=None)
@given(values)
def test_what_comes_back_has_the_same_types_all_the_way_down(value: Any) -> None:
    back(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (math.inf, '{"$float":"inf"}'),
        (-math.inf, '{"$float":"-inf"}'),
        (math.nan, '{"$float":"nan"}'),
        ("a\0é\n", '"a\\u0000\\u00e9\\n"'),
        ("\ud800", '"\\ud800"'),
        ("a\ud800\udc00b", '{"$str":["a\\ud800","\\udc00b"]}'),
        ("\U00010000", '"\\ud800\\udc00"'),
        (b"\0a", '{"$bytes":"AGE="}'),
        (bytearray(b"a"), '{"$bytearray":"YQ=="}'),
        (complex(1.0, -0.0), '{"$complex":[1.0,-0.0]}'),
        (datetime(2026, 1, 2, 3, 4, 5, 6), '{"$datetime":"2026-01-02T03:04:05.000006"}'),
        (datetime(2026, 1, 2, tzinfo=UTC), '{"$datetime":"2026-01-02T00:00:00+00:00"}'),
        (
            datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
            '{"$datetime":["2026-10-25T02:30:00",{"$zoneinfo":"Europe/Berlin"},1]}',
        ),
        (datetime(2026, 1, 1, fold=1), '{"$datetime":["2026-01-01T00:00:00",null,1]}'),
        (time(1, 2, tzinfo=timezone(timedelta(hours=1), "CET")), None),
        (time(1, 2), '{"$time":"01:02:00"}'),
        (timezone(timedelta(hours=1), "CET"), '{"$timezone":[{"$timedelta":[0,3600,0]},"CET"]}'),
        (ZoneInfo("UTC"), '{"$zoneinfo":"UTC"}'),
        (date(2026, 1, 2), '{"$date":"2026-01-02"}'),
        (timedelta(-1, 2, 3), '{"$timedelta":[-1,2,3]}'),
        (uuid.UUID(int=1), '{"$uuid":"00000000-0000-0000-0000-000000000001"}'),
        (Decimal("1.10"), '{"$decimal":"1.10"}'),
        (Decimal("sNaN1"), '{"$decimal":"sNaN1"}'),
        (Fraction(-1, 3), '{"$fraction":[-1,3]}'),
        (Color.CRIMSON, f'{{"$enum":["{HERE}:Color","RED"]}}'),
        (Level.LOW, f'{{"$enum":["{HERE}:Level","LOW"]}}'),
        (Word.YES, f'{{"$enum":["{HERE}:Word","YES"]}}'),
        (Perm.BOTH, f'{{"$enum":["{HERE}:Perm","BOTH"]}}'),
        (Perm(0), f'{{"$enum":["{HERE}:Perm",[]]}}'),
        (Bits.ONE | Bits.FOUR | 16, f'{{"$enum":["{HERE}:Bits",["ONE","FOUR",16]]}}'),
        ([1, [2]], "[1,[2]]"),
        ((1, (2,)), '{"$tuple":[1,{"$tuple":[2]}]}'),
        ({3, 1}, '{"$set":[1,3]}'),
        (frozenset(), '{"$frozenset":[]}'),
        (deque([1], 0), '{"$deque":[[],0]}'),
        (deque([1]), '{"$deque":[[1],null]}'),
        ({}, "{}"),
        ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
        ({1: 2, None: 3}, '{"$dict":[[1,2],[null,3]]}'),
        ({"$decimal": "1.10"}, '{"$dict":[["$decimal","1.10"]]}'),
        ({"$decimal": "1.10", "b": 1}, '{"$decimal":"1.10","b":1}'),
        ({"\ud800\udc00": 1}, '{"$dict":[[{"$str":["\\ud800","\\udc00"]},1]]}'),
        (OrderedDict(b=1, a=2), '{"$ordereddict":[["b",1],["a",2]]}'),
        (pathlib.PurePosixPath("/a/b"), '{"$pureposixpath":"/a/b"}'),
        (pathlib.PureWindowsPath("c:\\a"), '{"$purewindowspath":"c:\\\\a"}'),
        (pathlib.Path("a"), None),
        (Point(1), f'{{"$namedtuple":["{HERE}:Point",{{"x":1,"y":0}}]}}'),
        (Pair(1, 2), f'{{"$namedtuple":["{HERE}:Pair",{{"one":1,"two":2}}]}}'),
        (Roomy(1), f'{{"$namedtuple":["{HERE}:Roomy",{{"one":1}}]}}'),
        (Plain(1, [2]), f'{{"$dataclass":["{HERE}:Plain",{{"a":1,"b":[2]}}]}}'),
        (Outer(Outer.Inner(1)), None),
        (Base[int](3), f'{{"$dataclass":["{HERE}:Base",{{"item":3}}]}}'),
    ],
)
def test_each_type_has_its_text(value: Any, text: str | None) -> None:
    back(value)
    assert text is None or Codec().encode(value) == text


def test_numbers_of_more_digits_than_python_prints_are_stored() -> None:
    for value in (10**5000, -(10**5000), 2**2000, 2**2000 - 1, -(2**2000), Fraction(10**5000, 7)):
        back([value])


def test_a_time_zone_comes_back_as_the_same_zone() -> None:
    zone = ZoneInfo("America/New_York")
    assert back(datetime(2026, 1, 1, tzinfo=zone)).tzinfo is zone
    assert back(datetime(2026, 1, 1, tzinfo=UTC)).tzinfo is UTC


def test_a_dataclass_is_rebuilt_without_its_init_and_with_its_other_attributes() -> None:
    value = Computed(2, 3)
    assert value.costly  # a cached property is not stored: a lock could not be
    runs = Computed.runs
    result = back(value)
    assert (result.total, result.note, Computed.runs) == (6, "scaled by 3", runs)
    assert "costly" not in vars(result)
    assert back(Child(1, 2, 3)).shared == 7


def test_an_attribute_that_looks_like_a_tag_comes_back_as_an_attribute() -> None:
    value = Plain()
    vars(value)["$set"] = [1]
    assert vars(back(value))["$set"] == [1]


def test_the_same_object_twice_is_stored_twice() -> None:
    shared = [1]
    one, other = back([shared, shared])
    assert one == other
    assert one is not other


def test_equal_sets_have_equal_texts() -> None:
    words = [f"word-{number}" for number in range(200)]
    mixed = [*words, 1, 2.5, None, (1, 2), frozenset(words)]
    backwards = mixed[::-1]
    assert Codec().encode(set(mixed)) == Codec().encode(set(backwards))
    # Sets of ints that collide in a small table iterate in the order they were filled.
    assert [*{8, 0}] != [*{0, 8}]
    assert Codec().encode({8, 0}) == Codec().encode({0, 8})


@given(st.lists(keys, max_size=6), st.randoms())
def test_a_sets_text_does_not_depend_on_the_order_it_was_filled_in(items: list[Any], random: Any) -> None:
    first = set(items)
    shuffled = list(first)
    random.shuffle(shuffled)
    assert Codec().encode(first) == Codec().encode(set(shuffled))


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


def test_a_class_that_its_own_name_does_not_lead_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = made("Lost", HERE)
    assert f"(it is not found as '{HERE}:Lost': '{HERE}' has no class 'Lost'); give it its own name" in refusal(lost(1))
    usurper = made("Plain", HERE)
    assert "another object has that name" in refusal(usurper(1))
    elsewhere = made("Gone", "no_such_module_here")
    assert "importing 'no_such_module_here' raised ModuleNotFoundError" in refusal(elsewhere(1))


def test_a_class_of_the_main_module_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = made("OfMain", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "OfMain", cls, raising=False)
    assert Codec().encode(cls(1)) == '{"$dataclass":["__main__:OfMain",{"a":1}]}'
    back(cls(1))


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


def test_a_registered_class_is_stored_as_its_encode_function_says() -> None:
    codec = Codec().register(Money, lambda money: (money.cents, "EUR"), lambda stored: Money(stored[0]))
    assert codec.encode(Money(5)) == f'{{"$object":["{HERE}:Money",{{"$tuple":[5,"EUR"]}}]}}'
    assert codec.decode(codec.encode([Money(5)])) == [Money(5)]
    short = Codec().register(Money, lambda money: money.cents, Money, name="money")
    assert short.encode(Money(5)) == '{"$object":["money",5]}'


def test_registering_takes_the_place_of_what_a_class_would_be_stored_as() -> None:
    codec = Codec()
    assert "$dataclass" in codec.encode(Plain())
    codec.register(Plain, lambda plain: plain.a, Plain, name="plain").register(MyStr, str, MyStr)
    assert codec.encode([Plain(3), MyStr("a")]) == f'[{{"$object":["plain",3]}},{{"$object":["{HERE}:MyStr","a"]}}]'
    assert type(back(MyStr("a"), codec)) is MyStr


def test_classes_are_stored_where_their_type_is_registered() -> None:
    codec = Codec().register(type, lambda cls: cls.__name__, {"Money": Money}.__getitem__)
    assert codec.decode(codec.encode([Money])) == [Money]


def test_errors_of_registered_functions_are_told() -> None:
    codec = Codec().register(Money, raising, raising)
    assert "Money (its encode function raised ValueError: not now); mend that" in refusal([Money(1)], codec=codec)
    assert "cannot rebuild $object from" in unreadable(f'{{"$object":["{HERE}:Money",1]}}', codec)
    inner = Codec().register(Money, lambda money: [money.cents], lambda stored: 1)
    assert refusal(Money(object()), codec=inner).startswith("value.<encoded>[0]: cannot store a value of type object")
    assert "returned int, not " in unreadable(f'{{"$object":["{HERE}:Money",1]}}', inner)


def test_names_and_classes_are_registered_once() -> None:
    codec = Codec().register(Money, lambda money: 1, Money, name="money").alias("plain", Plain)
    for attempt, message in [
        (lambda: codec.register(Money, str, Money), "is registered already, as 'money'"),
        (lambda: codec.register(MyStr, str, MyStr, name="money"), "the name 'money' is taken by"),
        (lambda: codec.register(MyStr, str, MyStr, name="plain"), "the name 'plain' is taken by"),
        (lambda: codec.register(MyStr, str, MyStr, name=""), "the name is ''; give some text"),
        (lambda: codec.register(Decimal, str, Decimal), "decimal.Decimal is stored without being registered"),
        (lambda: codec.register(dict, str, dict), "dict is stored without being registered"),
        (lambda: codec.register("x", str, str), "give a class and two functions, not 'x'"),  # type: ignore[type-var,arg-type]
        (lambda: codec.alias("plain", Frozen), "the name 'plain' is taken by"),
        (lambda: codec.alias("money", Frozen), "the name 'money' is taken by"),
        (lambda: codec.alias("x", MyStr), "MyStr is a subclass of str, which would come back as str; register it with"),
        (lambda: codec.alias("x", "y"), "give a class, not 'y'"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(SagaDefinitionError) as caught:
            attempt()
        assert message in str(caught.value)


def test_what_was_stored_under_an_old_name_is_read_as_the_class_of_today() -> None:
    codec = Codec().register(Money, lambda money: money.cents, Money)
    codec.alias("old:Plain", Plain).alias("old:Color", Color).alias("old:Point", Point).alias("old:Money", Money)
    assert codec.decode('{"$dataclass":["old:Plain",{"a":5}]}') == Plain(5)
    assert codec.decode('{"$enum":["old:Color","RED"]}') is Color.RED
    assert codec.decode('{"$namedtuple":["old:Point",{"x":5}]}') == Point(5)
    assert codec.decode('{"$object":["old:Money",5]}') == Money(5)
    assert codec.encode(Plain(5, 6)) == f'{{"$dataclass":["{HERE}:Plain",{{"a":5,"b":6}}]}}'


def test_a_class_is_not_written_under_a_name_that_reads_as_another() -> None:
    codec = Codec()
    codec.encode(Plain())
    codec.alias(f"{HERE}:Plain", Child)
    assert "another object has that name" in refusal(Plain(), codec=codec)


def test_fields_that_a_class_got_since_take_their_defaults() -> None:
    codec = Codec()
    assert codec.decode(f'{{"$dataclass":["{HERE}:Plain",{{}}]}}') == Plain(1, [])
    assert codec.decode(f'{{"$dataclass":["{HERE}:Frozen",{{"name":"a"}}]}}') == Frozen("a")
    assert codec.decode(f'{{"$namedtuple":["{HERE}:Point",{{"x":1}}]}}') == Point(1, 0)
    assert "has no field 'name'; give that a default" in unreadable(f'{{"$dataclass":["{HERE}:Frozen",{{}}]}}')
    assert "has no field 'x'; give that a default" in unreadable(f'{{"$namedtuple":["{HERE}:Point",{{}}]}}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON: Expecting value"),
        ("{", "not JSON"),
        ("NaN", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("9" * 5000, "not JSON: Exceeds the limit"),
        ("[" * 100_000, f"not JSON: {TOO_DEEP}"),
        ('{"$what":1}', "unknown tag '$what': the text comes from a newer version of saga"),
        ('{"$decimal":1}', "cannot rebuild $decimal from 1: TypeError: $decimal holds text"),
        ('{"$decimal":"x"}', "cannot rebuild $decimal"),
        ('{"$int":"x"}', "cannot rebuild $int from 'x': ValueError"),
        ('{"$bytes":"?"}', "cannot rebuild $bytes"),
        ('{"$datetime":"soon"}', "cannot rebuild $datetime"),
        ('{"$datetime":["2026-01-01",1,0]}', "TypeError: no time zone"),
        ('{"$datetime":["2026-01-01",{"$zoneinfo":"Nowhere/At_all"},0]}', "cannot rebuild $zoneinfo from 'Nowhere/At_all'"),
        ('{"$zoneinfo":"../../etc/passwd"}', "cannot rebuild $zoneinfo"),
        ('{"$fraction":[1,0]}', "ZeroDivisionError"),
        ('{"$set":[[]]}', "cannot rebuild $set from [[]]: TypeError"),
        ('{"$dict":[[[],1]]}', "cannot rebuild $dict"),
        ('{"$dict":[{"$int":"' + "f" * 9000 + '"}]}', f"cannot rebuild $dict from {told_of_a_long_int()}"),
        ('{"$enum":["HERE:Color","BLUE"]}', "has no member 'BLUE'; a member that was renamed keeps its old name"),
        ('{"$enum":["HERE:Color",[1]]}', "has no such combination"),
        ('{"$enum":["HERE:Ejecting",[64]]}', "has no such combination"),
        ('{"$enum":["HERE:Perm",["READ","X"]]}', "has no member 'X'"),
        ('{"$enum":["HERE:Plain","a"]}', "was stored as an Enum and is none"),
        ('{"$dataclass":["HERE:Color",{}]}', "was stored as a dataclass and is none: nothing is built with it"),
        ('{"$dataclass":["HERE:Order",{}]}', "was stored as a dataclass and is none"),
        ('{"$dataclass":["HERE:OnSlots",{"a":1}]}', "was stored as a dataclass and is none"),
        ('{"$namedtuple":["HERE:Plain",{}]}', "was stored as a named tuple and is none"),
        ('{"$dataclass":["HERE:Nothing",{}]}', "has no class 'Nothing'; put it back, or say where it went: Codec.alias("),
        ('{"$dataclass":["no_such_module_here:X",{}]}', "importing 'no_such_module_here' raised ModuleNotFoundError"),
        ('{"$dataclass":["setup",{}]}', 'it is not of the form "module:qualname"'),
        ('{"$dataclass":["setup:",{}]}', 'it is not of the form "module:qualname"'),
        ('{"$dataclass":[":X",{}]}', "importing '' raised ValueError"),
        ('{"$dataclass":[".x:Y",{}]}', "importing '.x' raised TypeError"),
        ('{"$dataclass":[1,{}]}', "TypeError: a class is named by text"),
        ('{"$dataclass":[]}', "cannot rebuild $dataclass"),
        ('{"$dataclass":["HERE:Plain",{"q":1,"p":2}]}', "has no field 'p', 'q', which a stored value has"),
        ('{"$namedtuple":["HERE:Point",{"x":1,"q":2}]}', "has no field 'q', which a stored value has"),
        ('{"$dataclass":["HERE:Frozen",{"name":"a"},[["x",1]]]}', "cannot rebuild $dataclass"),
        ('{"$object":["nobody",1]}', "no class is registered as 'nobody'; call Codec.register(TheClass, encode, decode, name="),
        ('{"$object":[["nobody"],1]}', "cannot rebuild $object"),
    ],
)
def test_a_text_that_cannot_be_read_says_why_and_what_to_do(text: str, message: str) -> None:
    assert message in unreadable(text.replace("HERE", HERE))


@pytest.mark.parametrize("tag", ["$dataclass", "$enum", "$namedtuple", "$object"])
@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "subprocess:run",
        "builtins:eval",
        "builtins:dict",
        "builtins:type",
        "os:path.join",
        "os:sys.exit",
        "logging:config.dictConfig",
        "HERE:Money",
        "HERE:Local",
        "HERE:raising",
        "HERE:Plain.__init__",
        "HERE:Plain.__class__",
    ],
)
def test_a_text_can_name_no_other_callable(tag: str, name: str, tmp_path: pathlib.Path) -> None:
    trap = tmp_path / "trap"
    for held in ({"args": f"touch {trap}"}, {}, f"touch {trap}", [f"touch {trap}"]):
        unreadable(json.dumps({tag: [name.replace("HERE", HERE), held]}))
    assert not trap.exists()


def test_a_module_that_exits_on_import_is_an_encoding_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "saga_test_script.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    assert "importing 'saga_test_script' raised SystemExit" in unreadable('{"$dataclass":["saga_test_script:X",{}]}')


TAGS = [*sorted(Codec()._readers), "$unknown", "$"]
names = st.sampled_from([f"{HERE}:{name}" for name in ("Plain", "Point", "Color", "Perm", "Bits", "Money", "Frozen", "Child")])
odd_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | names
    | st.sampled_from(["UTC", "RED", "a"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=3) | st.sampled_from(["a", "x", "name"]), inner, max_size=3),
        st.builds(lambda tag, held: {tag: held}, st.sampled_from(TAGS), inner),
        st.builds(
            lambda tag, name, held: {tag: [name, held]},
            st.sampled_from(["$dataclass", "$enum", "$namedtuple", "$object"]),
            names,
            inner,
        ),
    ),
    max_leaves=10,
)


@settings(max_examples=1500, deadline=None)
@given(odd_json)
@example({"$deque": [[], 10**30]})
@example({"$timezone": [{"$timedelta": [9, 0, 0]}]})
@example({"$enum": [f"{HERE}:Perm", [1.5]]})
def test_any_json_is_read_or_refused_and_nothing_else(tree: Any) -> None:
    codec = Codec().register(Money, lambda money: money.cents, lambda stored: Money(stored))
    # A made-up name may be that of a file that happens to lie on the path: nothing is imported here.
    with mock.patch("saga.codec.import_module", side_effect=ImportError), contextlib.suppress(EncodingError):
        codec.decode(json.dumps(tree))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    with mock.patch("saga.codec.import_module", side_effect=ImportError), contextlib.suppress(EncodingError):
        Codec().decode(text)


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
    from saga import codec

    class Odd(pathlib.PurePosixPath):
        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(Exception, match="its text 'a' reads as another path"):
        codec._path_text(Odd("a"))


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_is_recorded_with_its_text_traceback_and_notes() -> None:
    error = raised(KeyError("sku"))
    error.add_note("in warehouse 3")
    recorded = encode_error(error)
    assert recorded["type"] == "builtins:KeyError"
    assert (recorded["text"], recorded["notes"]) == ("'sku'", ["in warehouse 3"])
    assert "raise error" in recorded["traceback"]
    assert Codec().decode(Codec().encode(recorded)) == recorded
    read = decode_error(recorded)
    assert isinstance(read, SagaError)
    assert (read.type_name, read.text, read.traceback_text) == ("builtins:KeyError", "'sku'", recorded["traceback"])
    assert (str(read), read.__notes__) == ("KeyError: 'sku'", ["in warehouse 3"])
    assert str(decode_error(encode_error(ValueError()))) == "ValueError"


def test_an_error_recorded_twice_is_still_the_first_one() -> None:
    recorded = encode_error(raised(ValueError("x")))
    assert encode_error(raised(decode_error(recorded))) == {**recorded, "notes": []}


def test_recording_an_error_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encode_error(Silent())["text"] == f"<{HERE}.Silent whose str() raised ValueError>"
    assert encode_error(ValueError(MyStr("a")))["text"] == "a"
    assert type(encode_error(ValueError(MyStr("a")))["text"]) is str
    odd = ValueError()
    odd.__notes__ = 5  # type: ignore[assignment]
    assert encode_error(odd)["notes"] == []
    odd.__notes__ = [Silent()]  # type: ignore[list-item]
    assert encode_error(odd)["notes"] == [f"<{HERE}.Silent whose str() raised ValueError>"]
    monkeypatch.setattr("traceback.format_exception", raising)
    assert encode_error(odd)["traceback"] == "<no traceback: formatting it raised ValueError>\n"


def test_a_long_error_is_cut_to_what_is_worth_keeping() -> None:
    recorded = encode_error(raised(ValueError("x" * 100_000)))
    assert len(recorded["text"]) == 20_000
    assert recorded["traceback"].startswith("[...]\n")
    assert len(recorded["traceback"]) < 20_010


@pytest.mark.parametrize(
    "recorded",
    [
        None,
        {},
        [],
        {"type": "a", "text": 1, "traceback": "", "notes": []},
        {"type": "a", "text": "", "traceback": "", "notes": [1]},
        {"type": "a", "text": "", "traceback": "", "notes": None},
    ],
)
def test_what_is_no_recorded_error_is_refused(recorded: Any) -> None:
    with pytest.raises(EncodingError, match="not a recorded error"):
        decode_error(recorded)


def test_a_recorded_error_can_be_copied_between_processes() -> None:
    import copy

    twin = copy.copy(RecordedError("a:B", "text", "trace"))
    assert (twin.type_name, twin.text, twin.traceback_text) == ("a:B", "text", "trace")
