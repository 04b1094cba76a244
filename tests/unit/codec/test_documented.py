"""What the codec says that it stores is what it stores: each type has its word in the docstring, and comes back."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from saga.durable.codec import MAX_SIZE, Codec
from saga.durable.codec.names import Names
from saga.durable.codec.writers import Writers
from saga.errors import EncodingError
from tests.unit.codec.conftest import Color, Frozen, Point, back

#: For each word of the docstring, values of that type.
DOCUMENTED: Final[dict[str, tuple[Any, ...]]] = {
    "None": (None,),
    "bool": (True, False),
    "int": (7, 1 << 2100),
    "float": (0.5, float("inf")),
    "complex": (1 - 2j,),
    "str": ("äpfel", "\ud800\udc00"),
    "bytes": (b"\x00a",),
    "bytearray": (bytearray(b"\x00a"),),
    "datetime": (datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Zurich"))),
    "date": (date(2026, 1, 2),),
    "time": (time(3, 4, 5, tzinfo=UTC),),
    "timedelta": (timedelta(-1, 2, 3),),
    "timezone": (timezone(timedelta(hours=-3), "there"),),
    "ZoneInfo": (ZoneInfo("Europe/Zurich"),),
    "UUID": (UUID(int=7),),
    "Decimal": (Decimal("1.10"),),
    "Fraction": (Fraction(1, 3),),
    "pathlib's paths": (Path("a/b"), PurePosixPath("/a"), PureWindowsPath("c:/a")),
    "list": ([1, "a"],),
    "tuple": ((1, "a"),),
    "set": ({1, "a"},),
    "frozenset": (frozenset({1, "a"}),),
    "dict": ({"a": 1}, {1: "a"}, {"$a": 1}),
    "OrderedDict": (OrderedDict(b=1, a=2),),
    "deque": (deque([1, 2], 3),),
    "enums": (Color.RED,),
    "dataclasses": (Frozen("a", 1),),
    "named tuples": (Point(1, 2),),
}


def words() -> list[str]:
    """Return what the docstring of the codec lists."""
    found = re.search(r"Stored as they are: (.*?) that are defined", " ".join((Codec.__doc__ or "").split()))
    assert found is not None, "saga/durable/codec/codec.py: the docstring of Codec lists types no more"
    return [word.strip("` ") for word in re.split(r", and members of |, | and ", found[1])]


def test_the_docstring_and_this_table_list_the_same() -> None:
    listed = words()
    assert not set(listed) - set(DOCUMENTED), f"DOCUMENTED has no value of {set(listed) - set(DOCUMENTED)}"
    assert not set(DOCUMENTED) - set(listed), f"the docstring of Codec does not say {set(DOCUMENTED) - set(listed)}"


def test_every_type_with_a_writer_is_documented() -> None:
    with_values = {type(value) for values in DOCUMENTED.values() for value in values}
    of_other_systems = {
        kind for kind in Writers({}, {}, Names(None), MAX_SIZE).built_in if kind.__name__ in ("PosixPath", "WindowsPath")
    }
    forgotten = {kind.__name__ for kind in Writers({}, {}, Names(None), MAX_SIZE).built_in - with_values - of_other_systems}
    assert not forgotten, f"the docstring of Codec, and DOCUMENTED here, have no {forgotten}"


@pytest.mark.parametrize("word", DOCUMENTED)
def test_what_is_documented_comes_back(word: str) -> None:
    for value in DOCUMENTED[word]:
        try:
            back(value)
        except EncodingError as error:
            pytest.fail(f"saga/durable/codec: a value of {word} does not come back: {error}")
