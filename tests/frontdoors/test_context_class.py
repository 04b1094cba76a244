"""A saga that names the class of its contexts: what is not as that says is refused before anything runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Annotated, Any, Final, Generic, Literal, NewType, Protocol, TypeVar

import pytest

from saga import ClosedContext, Context, Saga, Submission, Task, each, parallel, step
from saga.errors import SagaDefinitionError
from saga.storage import MemoryStore
from saga.testing import Kind, explore, with_stand_ins
from saga.worker import Worker

called: list[Any] = []


class Speed(Enum):
    FAST = "fast"


class Quacks(Protocol):
    def quack(self) -> None: ...


OrderId = NewType("OrderId", str)
T = TypeVar("T")


@dataclass
class OrderContext(Context):
    order_id: str
    cents: int = 0
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.cents, int) and self.cents < 0:
            raise ValueError("cents is less than nothing")


@dataclass
class RushContext(OrderContext):
    by: str = "bike"


@dataclass
class ParcelContext(ClosedContext):
    weight: float
    label: str = ""


class Note(Task[None]):
    def execute(self, context: Context) -> None:
        called.append(dict(context))


class Placed(Saga[OrderContext]):
    flow = Note


class PlacedLater(Placed):
    version = "2"


C = TypeVar("C", bound=Context)


class Shop(Saga[C], Generic[C, T]):
    flow = Note


class Said(Saga):
    context = OrderContext
    flow = Note


SAGAS: Final[dict[str, Callable[..., Saga[Any]]]] = {
    "in brackets": lambda **more: Saga[OrderContext]("s", **more).add_task(Note),
    "by keyword": lambda **more: Saga("s", context=OrderContext, **more).add_task(Note),
    "declared": lambda **more: Placed("s", **more),
    "inherited": lambda **more: PlacedLater("s", **more),
    "of a generic class": lambda **more: Shop[OrderContext, int]("s", **more),
    "as an attribute": lambda **more: Said("s", **more),
    "with stand-ins": lambda **more: with_stand_ins(Saga[OrderContext]("s", **more).add_task(Note), {Note: Note()}),
}
WRONG: Final[list[tuple[Any, str]]] = [
    (None, "the context lacks what OrderContext says: order_id (str)"),
    ({}, "lacks what OrderContext says: order_id (str)"),
    ({"oder_id": "A1"}, "lacks what OrderContext says: order_id (str); did you mean 'order_id'?"),
    (Context(order_id="A1"), "the context is of Context; give an object of OrderContext, or a mapping"),
    (ParcelContext(1.5), "the context is of ParcelContext; give an object of OrderContext"),
    (OrderContext, "the context is the class OrderContext; give an object of OrderContext"),
    ("A1", "the context is of str; give an object of OrderContext"),
    (OrderContext(3), "is not what OrderContext says: order_id is of int, not str"),  # type: ignore[arg-type]
    ({"order_id": "A1", "cents": "5", "lines": None}, "cents is of str, not int; lines is of NoneType, not list[str]"),
    ({"order_id": "A1", "cents": -5}, "is refused by OrderContext: cents is less than nothing"),
]


@pytest.fixture(autouse=True)
def nothing_is_called() -> None:
    called.clear()


@pytest.mark.parametrize("made", SAGAS)
@pytest.mark.parametrize("how", ["execute", "aexecute", "submit"])
def test_an_input_that_is_not_what_the_class_says_is_refused_before_anything_runs(made: str, how: str) -> None:
    store = MemoryStore()
    saga = SAGAS[made](store=store)
    for given, text in WRONG:
        with pytest.raises(SagaDefinitionError) as refused:
            asyncio.run(saga.aexecute(given)) if how == "aexecute" else getattr(saga, how)(given)
        assert str(refused.value).startswith("saga 's': the context ")
        assert text in str(refused.value)
    assert called == []
    assert store.list()[0] == ()


@pytest.mark.parametrize("made", SAGAS)
def test_an_input_that_is_what_the_class_says_is_taken(made: str) -> None:
    saga = SAGAS[made]()
    given = OrderContext("A1", 5)
    assert saga.execute(given).context is given
    rush = saga.execute(RushContext("A2")).context
    assert (type(rush), rush.order_id) == (RushContext, "A2")
    of_mapping = saga.execute({"order_id": "A3", "lines": ["pear"], "more": 1}).context
    assert type(of_mapping) is OrderContext
    assert called[-1] == {"order_id": "A3", "cents": 0, "lines": ["pear"], "more": 1}


def test_a_class_that_needs_nothing_is_made_of_nothing() -> None:
    @dataclass
    class Empty(Context):
        order_id: str = "A0"

    result = Saga("s", context=Empty).add_task(Note).execute()
    assert (type(result.context), result.context.order_id) == (Empty, "A0")


def test_a_field_that_was_taken_away_is_missed() -> None:
    given = OrderContext("A1")
    del given["cents"]
    with pytest.raises(SagaDefinitionError, match=r"is not what OrderContext says: it lacks cents \(int\)$"):
        Placed().execute(given)


def test_a_closed_context_takes_no_other_key() -> None:
    saga = Saga[ParcelContext]("s").add_task(Note)
    assert dict(saga.execute({"weight": 2}).context) == {"weight": 2, "label": ""}
    with pytest.raises(SagaDefinitionError, match="ParcelContext has no field 'lable'; did you mean 'label'"):
        saga.execute({"weight": 2, "lable": "x"})


def test_what_is_submitted_is_of_the_class_when_a_worker_runs_it() -> None:
    store = MemoryStore()
    saga = Saga[OrderContext]("s", store=store).add_task(Note)
    handles = saga.submit_many([{"order_id": "A1"}, Submission(OrderContext("A2"))])
    Worker(store, [saga]).run_once()
    assert [type(handle.result().context) for handle in handles] == [OrderContext, OrderContext]


def test_a_saga_that_names_no_class_takes_any_context() -> None:
    for saga in (Saga("s"), Saga[Any]("s"), Saga[Context]("s")):
        assert saga.add_task(Note).execute(ParcelContext(1.5)).ok
        assert saga.execute({"order": 1}).ok


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (str, ["x"], [1, None, b"x"]),
        (float, [1.5, 1], ["1.5", None]),
        (complex, [1j, 1.5, 1], ["1"]),
        (int | None, [1, None], ["1"]),
        (list[int], [[1], ["x"]], [(1,), None]),
        (dict[str, int], [{}], [[]]),
        (tuple[int, ...], [()], [[]]),
        (date, [date(2026, 1, 1)], ["2026-01-01"]),
        (Speed, [Speed.FAST], ["fast"]),
        (Literal["fast", 1], ["fast", 1], ["slow", True]),
        (Annotated[int, "cents"], [1], ["1"]),
        (OrderId, ["A1"], [1]),
        (type[Saga], [Saga], [1]),
        (Callable[[], int], [len], [1]),
        (Any, [1, None], []),
        (T, [1, None], []),
        (Quacks, [1], []),
        (None, [None], [1]),
    ],
    ids=str,
)
def test_a_value_is_of_its_fields_type_as_far_as_can_be_seen(hint: Any, right: list[Any], wrong: list[Any]) -> None:
    made: Any = dataclass(type("Some", (Context,), {"__annotations__": {"it": hint}}))
    if sys.version_info >= (3, 14):
        made = dataclass(type("Some", (Context,), {"__annotate__": lambda _: {"it": hint}}))
    saga = Saga("s", context=made).add_task(step(lambda: 1, name="a"))
    assert all(saga.execute({"it": value}).ok for value in right)
    for value in wrong:
        with pytest.raises(SagaDefinitionError, match=rf"it is of {type(value).__name__}, not "):
            saga.execute({"it": value})


def test_what_stands_for_nothing_in_a_class_may_stand_there() -> None:
    @dataclass
    class Loose(Context):
        order_id: str = None  # type: ignore[assignment]

    @dataclass
    class Unknown(Context):
        cents: int
        there_is_none: NotHere = 1  # type: ignore[name-defined]  # noqa: F821

    assert Saga("s", context=Loose).add_task(Note).execute().ok
    assert Saga("s", context=Unknown).add_task(Note).execute({"cents": "2"}).ok


def test_no_value_is_told() -> None:
    with pytest.raises(SagaDefinitionError) as refused:
        Placed().execute({"order_id": ["4111-1111"]})
    assert "4111" not in str(refused.value)


@pytest.mark.parametrize("wrong", [dict, int, OrderContext("A1"), "OrderContext"], ids=repr)
def test_what_is_no_class_of_contexts_is_refused(wrong: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"saga 's': context is .*; give a class of contexts, a @dataclass subclass"):
        Saga("s", context=wrong)


def test_exploring_begins_with_the_class_and_spoils_no_input_that_would_be_refused() -> None:
    found = explore(Saga[OrderContext]("s").add_task(Note), {"order_id": "A1"}, kinds=[Kind.WRONG_INPUT, Kind.FAILS], faults=1)
    assert found.kinds == (Kind.FAILS,)
    with pytest.raises(SagaDefinitionError, match="lacks what OrderContext says"):
        explore(Saga[OrderContext]("s").add_task(Note), {})


# -- a saga within another --------------------------------------------------------------------------------------------


def within(outer: type[Context] | None, *inner: type[Context] | None) -> Saga[Any]:
    saga: Saga[Any] = Saga("outer", context=outer)
    for number, kind in enumerate(inner):
        saga.add_task(Saga(f"inner {number}", context=kind).add_task(Note))
    return saga


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (OrderContext, [OrderContext]),
        (RushContext, [OrderContext, Context, None]),
        (RushContext, [OrderContext, RushContext]),
    ],
)
def test_the_outer_class_is_one_of_the_inner_ones(outer: type[Context], inner: list[type[Context] | None]) -> None:
    result = within(outer, *inner).execute({"order_id": "A1"})
    assert type(result.context) is outer
    assert len(called) == len(inner)


@pytest.mark.parametrize(
    ("outer", "inner"), [(ParcelContext, OrderContext), (OrderContext, RushContext), (Context, OrderContext)]
)
def test_an_outer_class_that_does_not_fit_is_refused(outer: type[Context], inner: type[Context]) -> None:
    saga = within(outer, None, inner)
    with pytest.raises(SagaDefinitionError) as refused:
        _ = saga.definition
    assert str(refused.value) == (
        f"saga 'outer': saga 'inner 1' within it is for contexts of {inner.__name__}, and is given {outer.__name__}; let "
        f"{outer.__name__} derive from {inner.__name__}"
    )


def test_a_class_is_asked_through_all_that_is_between() -> None:
    def nested(outer: type[Context] | None, middle: type[Context] | None) -> Saga[Any]:
        inner = Saga[OrderContext]("inner").add_task(Note)
        between = Saga("between", context=middle).add_task(parallel(inner, step(lambda: 1, name="beside")))
        return Saga("outer", context=outer).add_task(each(lambda context: [1, 2], between))

    assert nested(RushContext, None).execute({"order_id": "A1"}).ok
    for outer, middle, wrong in (
        (ParcelContext, None, "'inner' within it is for contexts of OrderContext, and is given ParcelContext"),
        (RushContext, ParcelContext, "'between' within it is for contexts of ParcelContext, and is given RushContext"),
        (None, ParcelContext, "'inner' within it is for contexts of OrderContext, and is given ParcelContext"),
    ):
        with pytest.raises(SagaDefinitionError, match=f"^saga 'outer': saga {wrong}; let "):
            _ = nested(outer, middle).definition


@pytest.mark.parametrize(
    ("inner", "kind"),
    [
        ([OrderContext], OrderContext),
        ([None, OrderContext, None], OrderContext),
        ([OrderContext, RushContext, Context], RushContext),
        ([None], None),
    ],
)
def test_an_outer_saga_that_names_no_class_has_that_of_those_within(
    inner: list[type[Context] | None], kind: type[Context] | None
) -> None:
    saga = within(None, *inner)
    assert saga.definition.context is kind
    if kind is not None:
        with pytest.raises(SagaDefinitionError, match=f"saga 'outer': the context lacks what {kind.__name__} says: order_id"):
            saga.execute({})
        with pytest.raises(SagaDefinitionError, match=f"is of Context; give an object of {kind.__name__}"):
            saga.execute(Context(order_id="A1"))
    assert called == []
    assert type(saga.execute({"order_id": "A1"}).context) is (kind or Context)


def test_sagas_of_one_name_in_two_sagas_are_told_apart() -> None:
    saga = Saga("outer")
    for name, kind in (("one", ParcelContext), ("two", OrderContext)):
        saga.add_task(Saga(name).add_task(Saga("inner", context=kind).add_task(Note)))
    with pytest.raises(
        SagaDefinitionError, match=r"'inner' \(ParcelContext\), 'inner' \(OrderContext\); name one that derives"
    ):
        _ = saga.definition


def test_where_no_class_is_all_of_them_one_is_to_be_named() -> None:
    with pytest.raises(SagaDefinitionError) as refused:
        _ = within(None, OrderContext, ParcelContext).definition
    assert str(refused.value) == (
        "saga 'outer': the sagas within it are for contexts of several classes, 'inner 0' (OrderContext), 'inner 1' "
        "(ParcelContext); name one that derives from all of them: Saga(context=...)"
    )
