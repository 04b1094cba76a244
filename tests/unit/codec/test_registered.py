"""Classes that are registered, and names that stand for others."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from saga.durable.codec import Codec
from saga.errors import SagaDefinitionError
from tests.unit.codec.conftest import HERE, Child, Color, Frozen, Money, MyStr, Plain, Point, back, raising, refusal, unreadable


@dataclass(frozen=True)
class Base:
    held: Any


class OfBase(Base):
    pass


class Third(OfBase):
    pass


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


def test_a_rule_for_a_base_is_one_for_all_that_derive_from_it() -> None:
    codec = Codec()
    assert "$dataclass" in codec.encode(OfBase([]))
    codec.register_base(Base, lambda value: [value.held], lambda cls, stored: cls(*stored))
    codec.register(Money, lambda money: money.cents, Money)
    assert codec.encode(OfBase((1,))) == f'{{"$based":["{__name__}:OfBase",[{{"$tuple":[1]}}]]}}'
    for value in (Base(1), OfBase([Base(Money(5))]), [OfBase({OfBase(2): 3})]):
        back(value, codec)


def test_the_nearest_base_and_a_class_of_its_own_come_first() -> None:
    far = Codec().register_base(Base, lambda value: ["far", value.held], lambda cls, stored: cls(stored[1]))
    near = far.register_base(OfBase, lambda value: ["near", value.held], lambda cls, stored: cls(stored[1]))
    assert ['"near"' in near.encode(cls(1)) for cls in (Base, OfBase, Third)] == [False, True, True]
    near.register(Third, lambda value: value.held, Third, name="third")
    assert near.encode(Third(1)) == '{"$object":["third",1]}'
    back([Base(1), OfBase(2), Third(3)], near)


def test_what_a_rule_for_a_base_builds_derives_from_it() -> None:
    codec = Codec().register_base(Base, lambda value: value.held, lambda cls, stored: cls(stored) if stored else Base(0))
    assert "there is none; call Codec.register_base(TheBase" in unreadable(f'{{"$based":["{HERE}:Plain",1]}}', codec)
    assert "has no class 'Gone'; put it back" in unreadable(f'{{"$based":["{HERE}:Gone",1]}}', codec)
    assert "returned tests.unit" in unreadable(f'{{"$based":["{__name__}:OfBase",0]}}', codec)
    assert codec.alias("old:Name", OfBase).decode('{"$based":["old:Name",7]}') == OfBase(7)
    assert "the codec's modules" in unreadable(
        f'{{"$based":["{__name__}:Base",1]}}', Codec(modules=["json"]).register_base(Base, vars, Base)
    )
    assert "it is defined in a function" in refusal(
        type("Local", (Base,), {"__qualname__": "f.<locals>.Local"})(1), codec=codec
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((int, str, int), "int is stored already"),
        ((object, str, int), "object is stored already"),
        ((Color(1), str, int), "give a class and two functions"),
        ((Plain, None, int), "give a class and two functions"),
        ((Base, str, Base), "Base is registered already"),
    ],
)
def test_what_is_no_base_is_refused(given: Any, why: str) -> None:
    codec = Codec().register_base(Base, vars, lambda cls, stored: cls(stored))
    with pytest.raises(SagaDefinitionError, match=why):
        codec.register_base(*given)


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
