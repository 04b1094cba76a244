"""Sagas declared as classes: ``flow``, methods that are steps, operators, and contexts that steps return."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from saga import (
    Compensate,
    Context,
    Done,
    InDoubt,
    Retry,
    Saga,
    Skip,
    Status,
    StepStatus,
    Task,
    fallback,
    parallel,
    receive,
    saga_step,
    sequence,
    step,
    timer,
)
from saga.errors import SagaDefinitionError

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Reserve(Task[str]):
    def execute(self, context: Context) -> str:
        log.append("reserve")
        return "reserved"

    def compensate(self, context: Context) -> None:
        log.append("-reserve")


class Pack(Task[str]):
    def execute(self, context: Context) -> str:
        log.append("pack")
        return "packed"

    def compensate(self, context: Context) -> None:
        log.append("-pack")


class Fail(Task[None]):
    def execute(self, context: Context) -> None:
        log.append("fail")
        raise ValueError("no")


def act(name: str) -> Any:
    def function() -> str:
        log.append(name)
        return f"result of {name}"

    function.__name__ = name
    return function


# -- flows ------------------------------------------------------------------------------------------------------------


class InAnAttribute(Saga):
    flow = (Reserve, Pack(), Fail)


class InAList(Saga):
    flow = [Reserve, [Pack()], Fail]  # noqa: RUF012


class InAMethod(Saga):
    def flow(self) -> Any:  # type: ignore[override]
        return Reserve, Pack, Fail


class AsAFlow(Saga):
    flow = sequence(Reserve, Pack, Fail)


class OfNestedTuples(Saga):
    flow = ((Reserve, (Pack,)), (Fail,))


@pytest.mark.parametrize("kind", [InAnAttribute, InAList, InAMethod, AsAFlow, OfNestedTuples])
def test_a_flow_may_be_written_in_many_ways(kind: type[Saga]) -> None:
    saga = kind()
    assert saga.plan.names == ("Reserve", "Pack", "Fail")
    assert saga.try_execute().status is Status.COMPENSATED
    assert log == ["reserve", "pack", "fail", "-pack", "-reserve"]


def test_one_task_is_a_flow() -> None:
    class One(Saga):
        flow = Reserve

    assert One().execute().results == {"Reserve": "reserved"}


def test_tasks_are_added_after_the_declared_flow() -> None:
    class One(Saga):
        flow = Reserve

    assert One().add_task(Pack).execute().ok
    assert log == ["reserve", "pack"]
    assert One().plan.names == ("Reserve",)


def test_an_undeclared_and_empty_flow_is_refused_with_the_sagas_name() -> None:
    class Empty(Saga):
        pass

    class EmptyTuple(Saga):
        flow = ()

    for kind in (Empty, EmptyTuple):
        with pytest.raises(SagaDefinitionError, match=kind.__name__):
            _ = kind().plan


@pytest.mark.parametrize("wrong", [5, "text", (Reserve, 5), print, {"a": Reserve}])
def test_what_is_no_flow_is_refused_and_named(wrong: Any) -> None:
    class Wrong(Saga):
        flow = wrong

    with pytest.raises(SagaDefinitionError, match="Wrong"):
        _ = Wrong().plan


def test_name_and_version_are_the_classes_or_given() -> None:
    class PlaceOrder(Saga):
        flow = Reserve
        version = "7"

    class Named(PlaceOrder):
        name = "place-order"

    assert (PlaceOrder().name, PlaceOrder().version) == ("PlaceOrder", "7")
    assert (Named().name, Named("other", version="8").name) == ("place-order", "other")
    assert Named("other", version="8").version == "8"


def test_a_nested_saga_keeps_its_name_before_its_steps() -> None:
    class Inner(Saga):
        flow = (Reserve, Pack)

    class Outer(Saga):
        flow = (act_step("first"), Inner(), Fail)

    saga = Outer()
    assert saga.plan.names == ("first", "Inner/Reserve", "Inner/Pack", "Fail")
    result = saga.try_execute()
    assert log == ["first", "reserve", "pack", "fail", "-pack", "-reserve"]
    assert result.context.result_of("Reserve") == "reserved"


def act_step(name: str, **options: Any) -> Any:
    return step(act(name), **options)


def test_a_nested_saga_of_method_steps_uses_its_own_object() -> None:
    class Inner(Saga):
        def __init__(self, word: str) -> None:
            super().__init__(word)
            self.word = word

        @saga_step
        def say(self) -> str:
            return self.word

        flow = say

    class Outer(Saga):
        flow = (Inner("one"), Inner("two"))

    assert Outer().execute().results == {"one/say": "one", "two/say": "two"}


def test_a_nested_saga_with_a_timeout_is_a_unit_that_has_it() -> None:
    class Outer(Saga):
        flow = (Saga("inner", timeout=5.0).add_task(Reserve),)

    unit, step = Outer().plan.steps
    assert (unit.name, unit.timeout, step.name, step.units) == ("inner", 5.0, "inner/Reserve", (unit,))


# -- method steps -----------------------------------------------------------------------------------------------------


def unsend() -> None:
    log.append("unsend")


class PlaceOrder(Saga):
    """Everything a method step may say."""

    def __init__(self, shop: str = "shop", fails: bool = False) -> None:
        super().__init__()
        self.shop, self.fails = shop, fails

    @saga_step
    def reserve(self, context: Context) -> str:
        """Reserve the goods."""
        log.append("reserve")
        return f"reserved at {self.shop} for {context.customer}"

    @reserve.compensation
    def release(self, reservation: str) -> None:
        log.append(f"release {reservation} of {self.shop}")

    @saga_step(name="charge card", retry=Retry(2))
    def charge(self, reservation: str, context: Context) -> str:
        log.append("charge")
        if context.step.attempt == 1:
            raise ConnectionError
        return f"charged for {reservation}"

    @charge.compensation
    def refund(self, context: Context) -> None:
        log.append("refund")

    @saga_step(on_error=Skip)
    def thank(self) -> None:
        raise ValueError("no stamps")

    @saga_step(compensate=unsend)
    def send(self) -> str:
        log.append("send")
        return "sent"

    @saga_step
    def end(self) -> None:
        if self.fails:
            raise ValueError("the end")

    flow = (reserve, charge, thank, send, end)


def test_methods_are_steps_with_their_policies_and_compensations() -> None:
    result = PlaceOrder().execute({"customer": "ann"})
    assert result.results["charge card"] == "charged for reserved at shop for ann"
    assert [record.status for record in result.history if record.name == "thank"] == [StepStatus.SKIPPED]
    log.clear()
    failed = PlaceOrder(fails=True).try_execute({"customer": "ann"})
    assert failed.status is Status.COMPENSATED
    assert log == ["reserve", "charge", "charge", "send", "unsend", "refund", "release reserved at shop for ann of shop"]


def test_every_object_has_its_own_state() -> None:
    one, two = PlaceOrder("one"), PlaceOrder("two")
    assert one.execute({"customer": "ann"}).results["reserve"] == "reserved at one for ann"
    assert two.execute({"customer": "bob"}).results["reserve"] == "reserved at two for bob"


def test_a_method_step_can_be_called_as_the_method_it_is() -> None:
    assert PlaceOrder("here").send() == "sent"
    assert PlaceOrder.reserve.__doc__ == "Reserve the goods."
    assert PlaceOrder().reserve.__doc__ == "Reserve the goods."


def test_methods_may_be_coroutines() -> None:
    class Async(Saga):
        @saga_step
        async def first(self) -> str:
            await asyncio.sleep(0)
            log.append("first")
            return "1"

        @first.compensation
        async def unfirst(self, result: str) -> None:
            await asyncio.sleep(0)
            log.append(f"-first {result}")

        @saga_step
        def second(self) -> None:
            raise ValueError

        flow = (first, second)

    assert asyncio.run(Async().atry_execute()).status is Status.COMPENSATED
    assert log == ["first", "-first 1"]


def test_a_step_has_one_compensation() -> None:
    with pytest.raises(SagaDefinitionError, match="two compensations"):

        class Twice(Saga):
            @saga_step
            def a(self) -> None: ...

            @a.compensation
            def b(self) -> None: ...

            @a.compensation
            def c(self) -> None: ...


def test_policies_nobody_knows_are_refused_at_once() -> None:
    with pytest.raises(SagaDefinitionError, match="knows no 'retries'"):
        saga_step(retries=3)  # type: ignore[call-overload]


def test_methods_and_tasks_and_waits_may_be_mixed_in_any_flow() -> None:
    class Mixed(Saga):
        @saga_step
        def a(self) -> str:
            log.append("a")
            return "A"

        @saga_step
        def b(self) -> str:
            log.append("b")
            raise OSError

        @saga_step
        def c(self, before: Any) -> Any:
            return before

        flow = (a & Reserve, timer(0.001), fallback(b, Pack), c)

    result = Mixed().execute()
    assert result.results["c"] == "packed"
    assert sorted(log[:2]) == ["a", "reserve"]
    assert log[2:] == ["b", "pack"]


# -- inheritance ------------------------------------------------------------------------------------------------------


def test_a_subclass_inherits_the_flow_and_its_methods() -> None:
    class Child(PlaceOrder):
        pass

    assert Child("child").execute({"customer": "eve"}).results["reserve"] == "reserved at child for eve"
    assert Child().name == "Child"


def test_a_subclass_overrides_what_a_step_calls() -> None:
    class Base(Saga):
        @saga_step
        def greet(self) -> str:
            return f"hello {self.who()}"

        def who(self) -> str:
            return "base"

        flow = greet

    class Child(Base):
        def who(self) -> str:
            return "child"

    assert (Base().execute().results, Child().execute().results) == ({"greet": "hello base"}, {"greet": "hello child"})


def test_a_subclass_overrides_a_step_where_the_flow_is_a_method() -> None:
    class Base(Saga):
        @saga_step
        def a(self) -> str:
            return "base a"

        @saga_step
        def b(self) -> str:
            return "base b"

        def flow(self) -> Any:  # type: ignore[override]
            return self.a, self.b

    class Child(Base):
        @saga_step
        def a(self) -> str:
            return "child a"

    assert Base().execute().results == {"a": "base a", "b": "base b"}
    assert Child().execute().results == {"a": "child a", "b": "base b"}


def test_a_subclass_extends_its_parents_flow() -> None:
    class Child(InAMethod):
        def flow(self) -> Any:  # type: ignore[override]
            return Pack(), *super().flow()[:1]

    assert Child().plan.names == ("Pack", "Reserve")


def test_a_flow_may_depend_on_the_object() -> None:
    class Choosing(Saga):
        def __init__(self, pack: bool) -> None:
            super().__init__()
            self.pack = pack

        def flow(self) -> Any:  # type: ignore[override]
            return [Reserve, *([Pack] if self.pack else [])]

    assert Choosing(True).plan.names == ("Reserve", "Pack")
    assert Choosing(False).plan.names == ("Reserve",)


# -- operators --------------------------------------------------------------------------------------------------------


def test_ampersand_is_a_group_of_any_size() -> None:
    class Three(Saga):
        flow = act_step("a") & act_step("b") & act_step("c")

    plan = Three().plan
    assert len(plan.groups) == 1
    assert len(plan.groups[0].scopes) == 3
    assert Three().execute().ok


def test_brackets_make_a_group_within_a_group() -> None:
    plan = Saga("s").add_task(act_step("a") & parallel(act_step("b"), act_step("c"))).plan
    assert len(plan.groups) == 2
    plan = Saga("s").add_task((act_step("a"), act_step("b")) & act_step("c")).plan
    assert (len(plan.groups), len(plan.groups[0].scopes)) == (1, 2)
    plan = Saga("s").add_task(act_step("a") & [act_step("b"), act_step("c")]).plan
    assert len(plan.groups) == 1


@pytest.mark.parametrize("operand", [Reserve(), act_step("a"), PlaceOrder.send, sequence(Reserve), Saga("x").add_task(Reserve)])
def test_whatever_is_a_flow_has_the_operators(operand: Any) -> None:
    both = operand & Pack
    assert len(both.children) == 2


def test_classes_stand_beside_what_has_operators() -> None:
    assert len((Reserve() & Pack).children) == 2
    assert len((Reserve & Pack()).children) == 2


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Retry(3), lambda planned: planned.retry.max_attempts == 3),
        (Skip, lambda planned: planned.on_error is Skip),
        (Compensate, lambda planned: planned.on_error is Compensate),
        (Retry(3, then=Skip), lambda planned: planned.retry.max_attempts == 3 and planned.on_error is Skip),
        (InDoubt.RERUN, lambda planned: planned.in_doubt is InDoubt.RERUN),
        (InDoubt.ASK, lambda planned: planned.in_doubt is InDoubt.ASK),
    ],
)
@pytest.mark.parametrize("operand", [Reserve(), act_step("a"), PlaceOrder().send])
def test_a_bar_gives_a_policy(operand: Any, policy: Any, expected: Any) -> None:
    class Declared(Saga):
        flow = (operand | policy,)

    assert expected(Declared().plan.steps[0])


def test_a_class_takes_a_retry() -> None:
    assert Saga("s").add_task(Reserve | Retry(4)).plan.steps[0].retry.max_attempts == 4


def test_policies_add_up_and_leave_the_original_alone() -> None:
    original = act_step("a")
    both = original | Retry(3) | Skip
    planned = Saga("s").add_task(both).plan.steps[0]
    assert (planned.retry.max_attempts, planned.on_error) == (3, Skip)
    assert original.policies == {}


def test_arrows_give_a_compensation() -> None:
    def undo(result: str) -> None:
        log.append(f"undo {result}")

    saga = Saga("s").add_task(act_step("a") >> undo).add_task(Fail)
    assert saga.try_execute().status is Status.COMPENSATED
    assert log == ["a", "fail", "undo result of a"]


def test_arrows_leave_a_step_its_verification() -> None:
    def lost() -> str:
        raise TimeoutError

    def was_done() -> Done[str]:
        return Done("found")

    saga = Saga("s").add_task(step(lost, verify=was_done) >> (lambda result: log.append(f"undo {result}"))).add_task(Fail)
    assert saga.try_execute().status is Status.COMPENSATED
    assert log == ["fail", "undo found"]


def test_arrows_between_methods() -> None:
    class Declared(Saga):
        word = "own"

        @saga_step
        def a(self) -> str:
            return "A"

        def undo(self, result: str) -> None:
            log.append(f"undo {result} with my {self.word} word")

        flow = (a >> undo, Fail)

    assert Declared().try_execute().status is Status.COMPENSATED
    assert log == ["fail", "undo A with my own word"]


POLLED = Retry(2, retry_if=lambda result: False)


def test_arrows_bind_before_ampersands_and_bars() -> None:
    undo_a, undo_b = act("-a"), act("-b")
    saga = Saga("s").add_task(act_step("a") >> undo_a & act_step("b") >> undo_b).add_task(Fail)
    assert saga.try_execute().status is Status.COMPENSATED
    assert sorted(log) == ["-a", "-b", "a", "b", "fail"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: Reserve() & 5, r"<Reserve task> & 5: 5 \(int\) is not a task"),
        (lambda: 5 & Reserve(), r"5 & <Reserve task>: 5 \(int\) is not a task"),
        (lambda: act_step("a") & act("b"), r"a & .*is not a task; wrap a function as step"),
        (lambda: act_step("a") & act_step("b") & 5, r"\(a & b\) & 5: 5"),
        (lambda: act_step("a") | 5, r"a \| 5: 5 is no policy; give Retry"),
        (lambda: (act_step("a") & act_step("b")) | InDoubt.ASK, r"\(a & b\) is more than one step, and in_doubt is a step's"),
        (lambda: sequence(Reserve, act_step("b")) | POLLED, r"\(Reserve, b\) \| Retry.* retry_if, which is asked"),
        (lambda: receive("x") | Skip, "nobody calls x, which waits"),
        (lambda: act_step("a") >> 5, r"a >> 5: action|5 \(int\)"),
        (lambda: Reserve() >> act("undo"), r"<Reserve task> is no step of a function|Reserve.* >> "),
        (lambda: act_step("a", compensate=act("x")) >> act("y"), r"a is no step of a function without a compensation"),
        (lambda: PlaceOrder.send >> act("y"), r"send is no step of a function without a compensation"),
        (lambda: PlaceOrder.end >> 5, r"end >> 5: 5 \(int\) cannot be called"),
    ],
)
def test_an_operator_that_makes_no_sense_names_the_operand(wrong: Any, text: str) -> None:
    with pytest.raises(SagaDefinitionError, match=text):
        wrong()


# -- contexts that steps return ---------------------------------------------------------------------------------------


@dataclass
class Order(Context):
    customer: str = ""
    total: int = 0


def test_a_returned_context_replaces_the_one_there_was() -> None:
    def replace(context: Order) -> Order:
        return Order(customer=context.customer, total=5)

    def see(context: Order) -> None:
        log.append(f"{context.customer} {context.total}")

    result = Saga("s").add_task(step(replace)).add_task(step(see)).execute(Order(customer="ann", total=1))
    assert log == ["ann 5"]
    assert result.context == Order(customer="ann", total=5)
    assert result.results["replace"] is None


def test_keys_the_returned_context_lacks_are_gone() -> None:
    saga = Saga("s").add_task(step(lambda context: Context(new=1), name="a"))
    assert saga.execute({"old": 1}).context == {"new": 1}


def test_returning_the_same_context_changes_nothing() -> None:
    def change(context: Context) -> Context:
        context.x = 1
        return context

    result = Saga("s").add_task(step(change)).execute({"y": 2})
    assert result.context == {"x": 1, "y": 2}
    assert result.results["change"] is None


def test_a_context_of_another_class_is_a_result() -> None:
    result = Saga("s").add_task(step(lambda: Order(total=9), name="a")).execute({"x": 1})
    assert result.context == {"x": 1}
    assert result.results["a"] == Order(total=9)


@pytest.mark.parametrize("limit", [{}, {"timeout": 9.0}])
def test_in_branches_each_replaces_its_own_and_all_are_merged(limit: dict[str, Any]) -> None:
    def one(context: Context) -> Context:
        return Context(dict(context), one=1)

    def two(context: Context) -> Context:
        assert "one" not in context
        return Context({key: context[key] for key in context if key != "gone"}, two=2)

    group = parallel(step(one, **limit), step(two, **limit))
    result = Saga("s").add_task(group).execute({"kept": 0, "gone": 0})
    assert result.context == {"kept": 0, "one": 1, "two": 2}


def test_the_undo_sees_the_context_that_was_returned() -> None:
    def undo(context: Context) -> None:
        log.append(str(dict(context)))

    saga = Saga("s").add_task(step(lambda context: Context(new=1), undo, name="a")).add_task(Fail)
    assert saga.try_execute({"old": 1}).status is Status.COMPENSATED
    assert log == ["fail", "{'new': 1}"]


def test_a_returned_context_is_stored(tmp_path: Any) -> None:
    saga = Saga("s", store=tmp_path / "saga.db")
    saga.add_task(step(lambda context: Context(new=(1, 2)), name="a")).add_task(step(lambda context: context.new, name="b"))
    saga.execute({"old": 1}, saga_id="o-1")
    again = saga.execute({"old": 1}, saga_id="o-1")
    assert again.context == {"new": (1, 2)}
    assert again.results["b"] == (1, 2)


def test_coroutines_may_return_contexts_too() -> None:
    async def one(context: Context) -> Context:
        return Context(dict(context), one=1)

    async def two(context: Context) -> Context:
        return Context(dict(context), two=2)

    for flow in (sequence(step(one), step(two)), parallel(step(one), step(two))):
        result = asyncio.run(Saga("s").add_task(flow).aexecute({"x": 0}))
        assert result.context == {"x": 0, "one": 1, "two": 2}
