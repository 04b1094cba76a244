"""Which arguments of a function come from the flow: the context by name or annotation, and results in one order."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NewType, Optional, TypeVar, Union

import pytest

from saga import Context, Retry, Saga, fallback, parallel, saga_step, sequence, step, timer, transaction
from saga.errors import SagaDefinitionError
from saga.flow.signatures import facts_of

if TYPE_CHECKING:
    from elsewhere import RequestContext, Room


@dataclass
class Order(Context):
    order_id: str = ""


O = TypeVar("O", bound=Order)  # noqa: E741
Renamed = NewType("Renamed", Order)


def refused(build: Any) -> str:
    with pytest.raises(SagaDefinitionError) as caught:
        build()
    return str(caught.value)


# -- the context ----------------------------------------------------------------------------------------------------------


def annotated(annotation: Any) -> Any:
    def function(ctx): ...  # type: ignore[no-untyped-def]

    function.__annotations__["ctx"] = annotation
    return function


@pytest.mark.parametrize(
    "annotation",
    [
        Context,
        Order,
        "Order",
        "Context | None",
        "Optional[Order]",
        Order | None,
        Optional[Order],  # noqa: UP045
        Optional["Order"],
        Union[Order, Context],  # noqa: UP007
        Annotated[Order, "the order"],
        "Annotated[Order | None, 'the order']",
        O,
        "O",
        Renamed,
    ],
    ids=str,
)
def test_an_annotation_says_what_gets_the_context(annotation: Any) -> None:
    for undoes in (False, True):
        facts = facts_of(annotated(annotation), 0, (), undoes)
        assert (facts.context, facts.context_at, facts.result) == ("ctx", 0, None)


@pytest.mark.parametrize(
    "annotation",
    [str, "str", dict, Any, "Room", None, 3, "a b", "list[Order]", list[Order], type[Order], "Order | str", object(), "..."],
    ids=lambda annotation: str(annotation).partition(" at 0x")[0],
)
def test_any_other_annotation_leaves_it_to_the_result(annotation: Any) -> None:
    facts = facts_of(annotated(annotation), 0, (), False)
    assert (facts.context, facts.result, facts.result_at) == (None, "ctx", 0)


def reserve(ctx: Order) -> str:
    return ctx.order_id


def keyword(*, ctx: Order) -> str:
    return ctx.order_id


def after(before: str, ctx: Order) -> str:
    return f"{before} {ctx.order_id}"


def before_it(ctx: Order, before: str) -> str:
    return f"{before} {ctx.order_id}"


class Desk:
    def reserve(self, ctx: Order) -> str:
        return ctx.order_id

    @staticmethod
    def static(ctx: Order) -> str:
        return ctx.order_id

    @classmethod
    def of_class(cls, ctx: Order) -> str:
        return ctx.order_id

    def __call__(self, ctx: Order) -> str:
        return ctx.order_id


@functools.wraps(reserve)
def wrapped(*args: Any, **kwargs: Any) -> str:
    return reserve(*args, **kwargs)


def within() -> Any:
    @dataclass
    class Local(Order):
        pass

    def function(ctx: Local) -> str:
        assert Local
        return ctx.order_id

    return function


async def areserve(ctx: Order) -> str:
    return ctx.order_id


@pytest.mark.parametrize(
    "function",
    [
        reserve,
        keyword,
        areserve,
        wrapped,
        Desk().reserve,
        Desk.static,
        Desk.of_class,
        Desk(),
        functools.partial(reserve),
        within(),
    ],
)
def test_every_kind_of_function_gets_it(function: Any) -> None:
    assert list(Saga("s").add_task(step(function, name="a")).execute(Order("A1")).results.values()) == ["A1"]


@pytest.mark.parametrize("function", [after, before_it])
def test_the_result_before_comes_beside_it(function: Any) -> None:
    saga = Saga("s").add_task(step(lambda: "a", name="a")).add_task(step(function, name="b"))
    assert saga.execute(Order("A1")).results["b"] == "a A1"


def test_a_method_step_a_compensation_and_a_block_get_it() -> None:
    undone = []

    class Declared(Saga):
        @saga_step
        def reserve(self, ctx: Order) -> str:
            return ctx.order_id

        @reserve.compensation
        def release(self, own: str, ctx: Order) -> None:
            undone.append((own, ctx.order_id))

        flow = reserve, step(lambda: 1 / 0, name="fail")

    Declared().try_execute(Order("A1"))
    with pytest.raises(KeyError), transaction("s", Order("A2")) as tx:  # noqa: PT012
        assert tx.step(reserve, lambda own, context: undone.append((own, context.order_id))) == "A2"
        raise KeyError
    assert undone == [("A1", "A1"), ("A2", "A2")]


def test_two_parameters_for_the_context_are_refused() -> None:
    def both(context: Any, ctx: Order) -> None: ...

    assert refused(lambda: step(both)) == (
        "step 'both': action both has more than one parameter for the context, 'context', 'ctx'; leave one"
    )


def test_what_looks_like_a_context_and_is_not_known_is_refused_where_it_would_get_a_result() -> None:
    def unknown(ctx: RequestContext) -> None: ...

    def known(room: Room) -> None: ...

    assert refused(lambda: step(unknown)) == (
        "step 'unknown': action unknown has a parameter 'ctx' annotated as RequestContext, which is not known there when it "
        "runs: call it context where it is the context, or import its class where it is not"
    )
    step(unknown, args=(1,))
    step(known)


def test_keyword_arguments_are_not_pushed_aside_by_the_context() -> None:
    saga = Saga("s").add_task(step(lambda context: context, name="a", kwargs={"context": 5}))
    assert saga.execute().results == {"a": 5}


# -- results --------------------------------------------------------------------------------------------------------------


def cents_seat(cents: int, seat: str = "none", *, note: str = "") -> Any:
    return cents, seat, note


def two(a: Any, b: Any) -> Any:
    return a, b


def three(a: Any, b: Any, c: Any) -> Any:
    return a, b, c


@pytest.mark.parametrize(
    ("function", "given", "got"),
    [
        (two, {"args": (1,)}, (1, "before")),
        (two, {"kwargs": {"a": 1}}, (1, "before")),
        (two, {"kwargs": {"b": 1}}, ("before", 1)),
        (two, {"args": (1, 2)}, (1, 2)),
        (three, {"args": (1, 2)}, (1, 2, "before")),
        (three, {"args": (1,), "kwargs": {"c": 3}}, (1, "before", 3)),
        (three, {"args": (1,), "kwargs": {"b": 2}}, (1, 2, "before")),
        (cents_seat, {}, ("before", "none", "")),
        (cents_seat, {"args": (1,)}, (1, "none", "")),
        (cents_seat, {"kwargs": {"seat": "x", "note": "y"}}, ("before", "x", "y")),
        (functools.partial(two, 1), {}, (1, "before")),
    ],
)
def test_args_come_first_and_the_result_before_fills_what_they_leave_open(function: Any, given: Any, got: Any) -> None:
    asked: list[Any] = []

    def verify(*args: Any, **kwargs: Any) -> None:
        asked.append(function(*args, **kwargs))

    functools.update_wrapper(verify, getattr(function, "func", function))
    verify.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]

    def late(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError

    late.__signature__ = verify.__signature__  # type: ignore[attr-defined]
    first = step(lambda: "before", name="first")
    saga = Saga("s").add_task(first).add_task(step(function, name="a", **given))
    assert saga.execute().results["a"] == got
    Saga("s").add_task(first).add_task(step(late, verify=verify, name="a", **given)).try_execute()
    assert asked == [got]


def own_default(own: Any = None) -> Any:
    return (own,)


def own_more(own: Any, region: str = "eu") -> Any:
    return own, region


def no_parameter() -> Any:
    return ()


class Cloud:
    def delete(self, vpc: Any = None, force: bool = False) -> Any:
        return vpc, force


@pytest.mark.parametrize(
    ("undo", "given", "got"),
    [
        (own_default, {}, ("own",)),
        (own_more, {}, ("own", "eu")),
        (no_parameter, {}, ()),
        (two, {"compensate_args": (1,)}, ("own", 1)),
        (two, {"compensate_args": (1, 2)}, (1, 2)),
        (two, {"compensate_kwargs": {"b": 1}}, ("own", 1)),
        (two, {"compensate_kwargs": {"a": 1}}, (1, "own")),
        (three, {"compensate_args": (1,), "compensate_kwargs": {"c": 3}}, ("own", 1, 3)),
        (own_more, {"compensate_kwargs": {"region": "us"}}, ("own", "us")),
        (own_more, {"compensate_args": (1, 2)}, (1, 2)),
        (own_default, {"compensate_args": (1,)}, (1,)),
        (Cloud().delete, {}, ("own", False)),
        (Cloud().delete, {"compensate_kwargs": {"vpc": 1}}, (1, False)),
        (functools.partial(own_more, "given"), {}, ("given", "eu")),
        (functools.partial(own_more, region="us"), {}, ("own", "us")),
        (functools.partial(two, "given"), {}, ("given", "own")),
    ],
)
def test_a_compensation_gets_its_own_result_first_with_a_default_or_without(undo: Any, given: Any, got: Any) -> None:
    undone = []

    def told(*args: Any, **kwargs: Any) -> None:
        undone.append(undo(*args, **kwargs))

    if isinstance(undo, functools.partial):  # the signature of a partial object cannot be borrowed
        told = functools.partial(lambda *args, **kwargs: undone.append(undo.func(*args, **kwargs)), *undo.args, **undo.keywords)  # type: ignore[assignment]
        told.func.__signature__ = inspect.signature(undo.func)  # type: ignore[attr-defined]
    else:
        functools.update_wrapper(told, undo)
    saga = Saga("s").add_task(step(lambda: "own", told, name="a", **given)).add_task(step(lambda: 1 / 0, name="fail"))
    saga.try_execute()
    assert undone == [got]


@pytest.mark.parametrize(
    ("undo", "given", "text"),
    [
        (own_more, {"compensate_args": ("us",)}, "can be called with compensate_args alone, or with its step's own result"),
        (lambda own, *rest: None, {"compensate_args": ("us",)}, "can be called with compensate_args alone, or with its"),
        (
            lambda sku="apple": None,
            {},
            "has a default of 'apple' for 'sku', which gets its step's own result",
        ),
        ([].pop, {}, "has a default of -1 for 'index', which gets its step's own result"),
    ],
)
def test_a_compensation_that_could_be_called_in_two_ways_is_refused(undo: Any, given: Any, text: str) -> None:
    assert text in refused(lambda: step(no_parameter, undo, **given))


# -- the step before --------------------------------------------------------------------------------------------------------


def first() -> str:
    return "first"


def takes(before: Any) -> Any:
    return before


START = step(first)
TAKES = step(takes)


@pytest.mark.parametrize(
    "flow",
    [
        TAKES,
        step(first, verify=takes),
        step(two, args=(1,)),
        sequence(TAKES, START),
        parallel(TAKES, START),
        parallel(START, sequence(TAKES, step(first, name="b"))),
        fallback(TAKES, START),
        fallback(START, TAKES),
        Saga("inner").add_task(TAKES),
        step(takes, retry=Retry(2)),
    ],
    ids=repr,
)
def test_a_first_step_cannot_ask_for_the_result_before(flow: Any) -> None:
    said = refused(lambda: Saga("s").add_task(flow).plan)
    assert (
        "which would be the result of the step before, and there is none; give it with args= or kwargs=, or call it context"
        in said
    )
    assert Saga("s").add_task(step(lambda: 1, name="before")).add_task(flow).plan.steps


def test_a_blocks_first_step_cannot_either_and_the_block_goes_on() -> None:
    with transaction("s") as tx:
        for wrong in (takes, two):
            with pytest.raises(SagaDefinitionError, match=r"there is none|only one comes"):
                tx.step(wrong)
        with pytest.raises(SagaDefinitionError, match="there is none"):
            tx.parallel(START, TAKES)
        assert tx.step(first) == "first"
        assert tx.step(takes) == "first"


def test_a_step_after_a_wait_has_one_before_it() -> None:
    assert Saga("s").add_task(timer(0.001)).add_task(TAKES).execute().results["takes"] is None
