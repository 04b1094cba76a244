"""Any text is read or refused, and nothing else happens."""

from __future__ import annotations

import contextlib
import json
import reprlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from saga.durable.codec import Codec
from saga.errors import EncodingError
from tests.unit.codec.conftest import HERE, Money, unreadable


def told_of_a_long_int() -> str:
    """What an error says of ``[16**9000 - 1]``, which has more digits than Python prints. Patch releases differ."""
    try:
        reprlib.repr(10**5000)
    except ValueError:
        return "<list>"
    return "[<int instance with roughly 10838 digits"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON: Expecting value"),
        ("{", "not JSON"),
        ("NaN", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("9" * 5000, "not JSON: Exceeds the limit"),
        ("[" * 100_000, "a value that is nested too deep to be read; no more than 100 levels are written: "),
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
        ('{"$fraction":["1e99999999",1]}', "two whole numbers expected"),
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
        ('{"$dataclass":["no_such_module_here:X",{}]}', "is not looked for: 'no_such_module_here' is not imported"),
        ('{"$dataclass":["setup",{}]}', 'it is not of the form "module:qualname"'),
        ('{"$dataclass":["setup:",{}]}', 'it is not of the form "module:qualname"'),
        ('{"$dataclass":[":X",{}]}', "is not looked for: '' is not imported"),
        ('{"$dataclass":[".x:Y",{}]}', "is not looked for: '.x' is not imported"),
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
    with contextlib.suppress(EncodingError):
        codec.decode(json.dumps(tree))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    with contextlib.suppress(EncodingError):
        Codec().decode(text)
