"""Calls with a view of their own, in each driver: what nobody touched is in nobody's way, and no change is lost."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from saga import Context, Flow, Saga, Task, fallback, parallel, step
from saga.durable.codec import Codec
from saga.errors import MergeConflictError
from saga.storage import MemoryStore
from tests.kit import PATIENCE, Kit


@dataclass(eq=False)
class Cart:
    """Equal to itself alone, with attributes beside its field."""

    id: str
    more: Any = None

    def __post_init__(self) -> None:
        self.total = 0
        self.lines: list[str] = []


class Money:
    """What a codec has to be told about, and may well be changed in place."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


class Array:
    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Tracked:
    """An attribute of an object that a session keeps: told by the object, not by what is in it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, value: Any, owner: type) -> Any:
        return "new" if value is None else vars(value)[self.name]

    def __set__(self, value: Any, item: Any) -> None:
        vars(value)[self.name] = item
        SESSION[id(value)] = item


SESSION: dict[int, str] = {}


@dataclass
class Mapped:
    status: str = Tracked()  # type: ignore[assignment]


def codec() -> Codec:
    return Codec().register(Money, lambda money: money.cents, Money)


OWN_VIEWS: Final[dict[str, Callable[..., Flow | Task[Any]]]] = {
    "timeout": lambda kit, during: kit.task("own", during, timeout=60.0),
    "group": lambda kit, during: parallel(kit.task("own", during), kit.task("beside")),
    "fallback": lambda kit, during: fallback(kit.task("own", during), kit.task("alternative")),
}
UNTOUCHED: Final[dict[str, Callable[[], Any]]] = {
    "NaN": lambda: [math.nan],
    "eq=False": lambda: [Cart("A1")],
    "registered": lambda: {"of": Money(1)},
}
UNSTORED: Final[dict[str, Callable[[], Any]]] = {**UNTOUCHED, "array": lambda: [Array()], "object": lambda: [object()]}


@pytest.fixture(params=OWN_VIEWS)
def own(request: pytest.FixtureRequest) -> Callable[..., Flow]:
    made: Callable[..., Flow] = OWN_VIEWS[request.param]
    return made


@pytest.fixture(params=["in memory", "stored"])
def saga(request: pytest.FixtureRequest) -> Saga:
    return Saga("s", store=MemoryStore(), codec=codec()) if request.param == "stored" else Saga("s")


@pytest.mark.parametrize("made", UNSTORED.values(), ids=UNSTORED)
def test_what_nobody_touches_is_no_conflict(kit: Kit, own: Callable[..., Flow], made: Callable[[], Any]) -> None:
    value = made()
    result = kit.execute(Saga("s").add_task(own(kit, lambda context: context.update(new=1))), Context(value=value))
    assert result.context.new == 1
    assert result.context.value is value


@pytest.mark.parametrize("made", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_nobody_touches_is_no_conflict_in_a_store(kit: Kit, own: Callable[..., Flow], made: Callable[[], Any]) -> None:
    saga = Saga("s", store=MemoryStore(), codec=codec()).add_task(own(kit, lambda context: context.update(new=1)))
    assert kit.execute(saga, Context(value=made())).context.new == 1


def test_an_attribute_beside_the_fields_is_not_lost(kit: Kit, own: Callable[..., Flow], saga: Saga) -> None:
    def change(context: Context) -> None:
        context.cart.total = 100
        context.cart.lines.append("apple")

    seen = []
    saga.add_task(own(kit, change)).add_task(kit.task("look", lambda context: seen.append(vars(context.cart))))
    kit.execute(saga, Context(cart=Cart("A1")))
    assert seen == [{"id": "A1", "more": None, "total": 100, "lines": ["apple"]}]


def test_whoever_holds_an_object_sees_what_a_step_did_to_it(kit: Kit, own: Callable[..., Flow]) -> None:
    mapped, cart, rows = Mapped(), Cart("A1"), [1]
    cart.more = {"mapped": mapped}

    def change(context: Context) -> None:
        context.cart.more["mapped"].status = "paid"
        context.cart.total = 100
        context.pop("rows").append(context.cart)

    result = kit.execute(Saga("s").add_task(own(kit, change)), Context(cart=cart, rows=rows))
    assert result.context.cart is cart
    assert (mapped.status, cart.total, rows) == ("paid", 100, [1, cart])
    assert SESSION[id(mapped)] == "paid"


def test_a_step_that_fails_leaves_nothing_in_what_others_hold(kit: Kit) -> None:
    cart = Cart("A1")

    def change(context: Context) -> None:
        context.cart.lines.append("apple")
        raise ValueError

    kit.run(Saga("s").add_task(kit.task("own", change, timeout=60.0)), Context(cart=cart))
    assert cart.lines == []


def test_a_registered_value_is_each_branchs_own(kit: Kit) -> None:
    both = threading.Barrier(2)
    seen = []

    def change(context: Context) -> None:
        context.money.cents += 1
        both.wait(PATIENCE)
        seen.append(context.money.cents)

    saga = Saga("s", store=MemoryStore(), codec=codec())
    plain = Kit(kit.in_loop, is_async=False)  # branches of coroutines would wait for each other in one thread
    saga.add_task(parallel(*(plain.task(name, change) for name in "ab")))
    assert kit.execute(saga, Context(money=Money(1))).context.money.cents == 2
    assert seen == [2, 2]


def test_what_is_changed_beside_the_calls_is_no_fault(kit: Kit, own: Callable[..., Flow]) -> None:
    held: list[Context] = []
    saga = Saga("s", store=MemoryStore()).add_task(kit.task("first", lambda context: held.append(context)))
    saga.add_task(step(lambda: held[0].update(rows=[1], more=[2]), name="then"))
    saga.add_task(own(kit, lambda context: context.rows.append(3)))
    assert kit.execute(saga, Context(rows=[])).context == {"rows": [1, 3], "more": [2]}


def test_a_decode_function_that_raises_for_what_it_has_read_is_no_fault(kit: Kit, own: Callable[..., Flow]) -> None:
    reads = 0

    def decode(cents: int) -> Money:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise ValueError("not now")
        return Money(cents)

    flaky = Codec().register(Money, lambda money: money.cents, decode)
    saga = Saga("s", store=MemoryStore(), codec=flaky).add_task(own(kit, lambda context: context.update(new=1)))
    assert kit.execute(saga, Context(money=[Money(1)])).context.new == 1
    assert reads > 1


def test_values_that_are_stored_alike_agree(kit: Kit) -> None:
    def put(context: Context) -> None:
        context.money = [Money(1)]

    saga = Saga("s", store=MemoryStore(), codec=codec()).add_task(parallel(kit.task("a", put), kit.task("b", put)))
    assert kit.execute(saga, saga_id="1").context.money[0].cents == 1
    assert saga.load("1").context.money[0].cents == 1  # a recovery sees the same
    assert isinstance(kit.run(Saga("s").add_task(parallel(kit.task("a", put), kit.task("b", put)))).error, MergeConflictError)


def test_what_a_step_returns_is_what_the_context_has(kit: Kit, own: Callable[..., Flow]) -> None:
    rows: list[int] = []
    saga = Saga("s").add_task(step(lambda context: context, timeout=60.0, name="the context"))
    saga.add_task(step(lambda context: Context(context, copy=context.rows), timeout=60.0, name="another context"))
    saga.add_task(step(lambda context: context.rows, timeout=60.0, name="a part of it"))
    result = kit.execute(saga, Context(rows=rows))
    assert result.context.rows is result.context.copy is result.results["a part of it"] is rows


class _Unhashable(type):
    """Of classes that cannot be compared or looked up anywhere."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=_Unhashable):
    pass


@pytest.mark.parametrize("make", [Odd, lambda: [Odd()], lambda: {"odd": Odd()}, lambda: {Odd()}, lambda: (Odd(), 1)])
def test_a_value_whose_class_cannot_be_hashed_is_one_whole(kit: Kit, own: Callable[..., Flow], make: Callable[[], Any]) -> None:
    odd = make()

    def put(context: Context) -> None:
        context.mine = odd

    result = kit.execute(Saga("s").add_task(own(kit, put)), Context(given=odd))
    assert result.context.given is result.context.mine is odd
