"""Values to text and back: the same types all the way down."""

from __future__ import annotations

import math
import pathlib
import uuid
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga.durable.codec import Codec
from tests.unit.codec.conftest import (
    HERE,
    Base,
    Bits,
    Child,
    Color,
    Computed,
    Frozen,
    Level,
    Outer,
    Pair,
    Perm,
    Plain,
    Point,
    Roomy,
    Word,
    back,
)

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
