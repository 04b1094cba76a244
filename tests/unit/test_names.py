"""Names and ids are looked at before anything runs, by one rule, whatever is named and whether there is a store or none."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import pytest

from saga import Saga, Task, parallel, saga_step, step, timer, transaction
from saga.errors import SagaDefinitionError
from saga.flow import receive
from saga.names import LONGEST, checked_name
from saga.storage import MemoryStore, rules

RIGHT = ("a", "order 7/b", "Bestellung für Zoë", "注文", "a" * LONGEST, "\U0001f4e6", "<lambda>")
NO_TEXT = (None, 7, 1.5, True, b"a", uuid.UUID(int=1), ("a",), object())
BLANK = ("", " ", "\t\n")
LONG = ("a" * (LONGEST + 1), "é" * (LONGEST + 1))
UNFIT = ("a\0b", "a\nb", "a\x1b[2J", "a\x7f", "a\x85b", "a\u2028b", "f\udcff.txt", "\ud800")
WRONG = (*NO_TEXT, *BLANK, *LONG, *UNFIT)


def shown(value: Any) -> str:
    """Without an object's address, which is another in each process that runs tests."""
    return ascii(value).partition(" at 0x")[0]


class Steps(StrEnum):
    PAY = "pay"


class Older(str, Enum):  # noqa: UP042
    PAY = "pay"


calls: list[str] = []


def work() -> None:
    calls.append("work")


def task(name: Any) -> Any:
    return type("Pay", (Task,), {"name": name, "execute": lambda self, context: work()})


def in_a_block(name: Any) -> None:
    with transaction("s") as tx:
        tx.step(work, name=name)


# Each place where a name or an id is given. None stands for "no name given" in many of them.
PLACES: dict[str, Callable[[Any], Any]] = {
    "a saga": lambda name: Saga(name),
    "a block": lambda name: transaction(name),
    "a version": lambda name: Saga("s", version=name),
    "a compatible version": lambda name: Saga("s", compatible_with=[name]),
    "an execution": lambda name: Saga("s").add_task(step(work)).execute(saga_id=name),
    "an execution in a store": lambda name: Saga("s", store=MemoryStore()).add_task(step(work)).execute(saga_id=name),
    "a block's execution": lambda name: transaction("s", saga_id=name),
    "a step": lambda name: step(work, name=name),
    "a step of a task": lambda name: step(task(None), name=name),
    "a task": lambda name: Saga("s").add_task(task(name)()),
    "a task class": lambda name: Saga("s").add_task(task(name)),
    "a step in a group": lambda name: parallel(task(name), task("b")),
    "a step of a method": lambda name: saga_step(name=name)(work),
    "a step of a block": in_a_block,
    "a timer": lambda name: timer(1, name=name),
    "a wait": lambda name: receive("paid", name=name),
    "a signal": lambda name: receive(name),
}
NEEDS_ONE = {"a block", "a signal", "a compatible version"}


@pytest.mark.parametrize("wrong", WRONG, ids=shown)
@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_name_is_refused_wherever_it_is_given(place: str, wrong: Any) -> None:
    calls.clear()
    if (wrong is None and place not in NEEDS_ONE) or (isinstance(wrong, uuid.UUID) and "execution" in place):
        PLACES[place](wrong)
        return
    with pytest.raises(SagaDefinitionError, match=r"name|version|compatible_with|saga_id|signal"):
        PLACES[place](wrong)
    assert not calls


@pytest.mark.parametrize("right", RIGHT, ids=shown)
@pytest.mark.parametrize("place", PLACES)
def test_a_right_name_is_taken_wherever_it_is_given(place: str, right: str) -> None:
    PLACES[place](right)


@pytest.mark.parametrize("right", RIGHT, ids=shown)
def test_every_store_takes_it(right: str) -> None:
    assert checked_name(right, "it") is right
    assert rules.is_id(right)


@pytest.mark.parametrize("kind", [Steps, Older])
def test_a_text_of_another_class_becomes_a_plain_one(kind: Any) -> None:
    # The second of these has another hash than its text, so that no dict of names would find it.
    saga = Saga(kind.PAY, version=kind.PAY, compatible_with=[kind.PAY]).add_task(step(work, name=kind.PAY))
    found = (saga.name, saga.definition.name, saga.version, *saga.definition.compatible_with, *saga.plan.names)
    assert found == ("pay",) * 5
    assert {type(one) for one in found} == {str}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (uuid.UUID(int=1), "it is UUID('00000000-0000-0000-0000-000000000001') (UUID); give a str, such as str(...) of it"),
        (" ", "it is ' '; give a str that is not blank"),
        ("é" * 201, "it is 'éééééééééééééééééééé'... of 201 characters; give one of at most 200"),
        ("f\udcff", "it is 'f\\udcff'; '\\udcff' cannot be in a name or an id: leave it out, or percent-encode it"),
    ],
)
def test_the_error_says_what_to_write(wrong: Any, text: str) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        checked_name(wrong, "it")
    assert str(caught.value) == text
