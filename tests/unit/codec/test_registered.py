"""Classes that are registered, and names that stand for others."""

from __future__ import annotations

from decimal import Decimal

import pytest

from saga.durable.codec import Codec
from saga.errors import SagaDefinitionError
from tests.unit.codec.conftest import HERE, Child, Color, Frozen, Money, MyStr, Plain, Point, back, raising, refusal, unreadable


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
