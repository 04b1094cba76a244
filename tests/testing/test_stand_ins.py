"""Stand-ins: another task is called, and everything else of the saga is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest

from saga import Context, Effect, ExponentialBackoff, Retry, Saga, Skip, Status, Task, fallback, saga_step, step, timer
from saga.errors import SagaDefinitionError
from saga.flow import POLICIES, Step
from saga.storage import MemoryStore
from saga.testing import with_stand_ins
from saga.worker import Worker


def _real(*args: Any) -> Any:
    raise AssertionError("the real one was called")


class Charge(Task[str]):
    retry = Retry(3, ExponentialBackoff(0.001))
    timeout = 30.0

    def __init__(self, bank: str) -> None:
        self.bank = bank
        self.unknown_on = (KeyError,)

    execute = compensate = verify = _real


class Ship(Task[str]):
    execute = _real


class Pack(Task[str]):
    async def execute(self, context: Context) -> str:
        return str(_real())


def weigh(grams: int, packed: str) -> Any:
    _real()


def unload(weighed: Any) -> None:
    _real()


class Goods(Saga):
    name = "goods"
    flow = (Pack, step(weigh, unload, args=(7,), on_error=Skip))


@pytest.fixture
def saga() -> Saga:
    return Saga("order", version="3").add_task(Charge("b")).add_task(Goods()).add_task(fallback(Ship, step(Ship, name="later")))


def everything(**instead: Any) -> dict[Any, Any]:
    return {Charge: lambda: "C", Pack: lambda: "P", weigh: lambda grams, packed: (grams, packed), Ship: lambda: "S"} | instead


STAYS = ("name", "index", "kind", "compensates", "verifies", *sorted({*POLICIES} - {"unknown_on"}))


def test_a_saga_is_the_same_but_for_what_it_calls(saga):
    twin = with_stand_ins(saga, everything())
    result = twin.execute()
    assert result.results == {"Charge": "C", "goods/Pack": "P", "goods/weigh": (7, "P"), "Ship": "S"}
    assert (twin.name, twin.version, twin.plan.fingerprint) == (saga.name, saga.version, saga.plan.fingerprint)
    for one, other in zip(saga.plan.steps, twin.plan.steps, strict=True):
        assert [getattr(one, key) for key in STAYS] == [getattr(other, key) for key in STAYS]
    assert twin.plan.steps[0].unknown_on(KeyError())
    assert "the real one was called" in str(saga.try_execute().error)


STAND_INS: dict[str, Any] = {
    "a function": lambda: "F",
    "a function of the context": lambda context: context.step.name[:1] + context.step.saga_id[:0],
    "a step": step(lambda: "F"),
    "a mock": Mock(return_value="F"),
    "an async function": AsyncMock(return_value="F"),
    "a mock of the task": create_autospec(Ship, instance=True),
    "another mock of it": Mock(spec=Ship),
    "a class": type("Fake", (Task,), {"execute": lambda self, context: "F"}),
    "a task": type("Fake", (Task,), {"execute": lambda self, context: "F"})(),
    "a class of its own": type("Fake", (), {"execute": lambda self, context: "F"}),
    "an object": type("Fake", (), {"execute": lambda self, context: "F"})(),
}
for _name in ("a mock of the task", "another mock of it"):
    STAND_INS[_name].execute.return_value = "F"


@pytest.mark.parametrize("key", [Ship, "Ship"])
@pytest.mark.parametrize("what", STAND_INS)
def test_anything_can_stand_for_a_task(what, key):
    twin = with_stand_ins(Saga("s").add_task(Ship), {key: STAND_INS[what]})
    assert twin.execute().results["Ship"][:1] in ("F", "S")
    assert asyncio.run(twin.aexecute()).context.result_of(Ship)[:1] in ("F", "S")


def test_a_task_may_be_async_where_it_was_not_and_the_other_way_round():
    async def slow() -> str:
        await asyncio.sleep(0)
        return "S"

    saga = Saga("s").add_task(Ship).add_task(Pack)
    assert with_stand_ins(saga, {Ship: slow, Pack: lambda: "P"}).execute().results == {"Ship": "S", "Pack": "P"}
    assert not with_stand_ins(saga, {Ship: lambda: 1, Pack: lambda: 2}).plan.asynchronous


@pytest.mark.parametrize(
    ("key", "stood_in"),
    [
        (Charge, ["Charge"]),
        (Task, ["Charge", "goods/Pack", "goods/weigh", "Ship", "later"]),
        (Ship, ["Ship", "later"]),
        ("later", ["later"]),
        ("weigh", ["goods/weigh"]),
        ("goods/weigh", ["goods/weigh"]),
        (weigh, ["goods/weigh"]),
    ],
)
def test_steps_are_named_by_class_function_or_name(saga, key, stood_in):
    fake = step(lambda: 1)
    plan = with_stand_ins(saga, {key: fake}).plan
    assert [one.name for one in plan.steps if one.inner_task is fake.task] == stood_in


def test_a_task_object_names_its_own_steps():
    one, other = Charge("1"), Charge("2")
    saga = Saga("s").add_task(step(one, name="a")).add_task(step(other, name="b"))
    assert with_stand_ins(saga, {one: lambda: 1, other: lambda: 2}).execute().results == {"a": 1, "b": 2}


def test_what_comes_later_counts():
    saga = Saga("s").add_task(step(Ship, name="a")).add_task(step(Ship, name="b"))
    twin = with_stand_ins(saga, {Ship: lambda: 1, "b": lambda: 2})
    assert twin.execute().results == {"a": 1, "b": 2}
    assert with_stand_ins(twin, {"a": lambda: 3}).execute().results == {"a": 3, "b": 2}
    assert twin.execute().results == {"a": 1, "b": 2}


def test_tasks_may_be_added_to_it():
    saga = Saga("s").add_task(Ship)
    twin = with_stand_ins(saga, {Ship: lambda: 1}).add_task(step(lambda: 2, name="b"))
    assert twin.execute().results == {"Ship": 1, "b": 2}
    assert saga.plan.names == ("Ship",)


def test_it_can_be_a_step_of_another():
    goods = with_stand_ins(Goods(), {Pack: lambda: "P", weigh: lambda grams, packed: grams})
    assert Saga("outer").add_task(goods).execute().results == {"goods/Pack": "P", "goods/weigh": 7}


def test_a_method_is_stood_in_for_and_others_are_its_own():
    class Order(Saga):
        def __init__(self, address: str) -> None:
            super().__init__("order")
            self.address = address

        @saga_step
        def pay(self) -> None:
            _real()

        @saga_step
        def tell(self, context: Context) -> str:
            return f"{self.address}: {context.result_of('pay')}"

        def flow(self) -> Any:
            return self.pay, self.tell

    for key in ("pay", Order.pay):
        assert with_stand_ins(Order("a@b"), {key: lambda: "paid"}).execute().results["tell"] == "a@b: paid"


class Noted:
    """A stand-in that has it all."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def execute(self, context: Context) -> str:
        self.log.append("execute")
        return "N"

    def compensate(self, context: Context) -> None:
        self.log.append(f"compensate {context.result_of('a')}")


class Mine(Charge):
    execute = lambda self, context: "M"  # noqa: E731


def _fails() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("real", "make", "effect", "called"),
    [
        (Charge("b"), lambda log: lambda: log.append("F"), Effect.UNDONE, ["F"]),
        (Charge("b"), Noted, Effect.UNDONE, ["execute", "compensate N"]),
        (Charge("b"), lambda log: step(lambda: "F", log.append), Effect.UNDONE, ["F"]),
        (step(lambda: 1, _real), lambda log: step(lambda: "F", log.append), Effect.UNDONE, ["F"]),
        (Ship, Noted, Effect.STANDS, ["execute"]),
    ],
    ids=["nothing to do", "its own", "a step's", "a step's for a step", "what the real one has not"],
)
def test_its_compensation_is_called_where_the_real_task_has_one(real, make, effect, called, log):
    saga = Saga("s").add_task(replace(real, name="a") if isinstance(real, Step) else step(real, name="a"))
    result = with_stand_ins(saga.add_task(step(_fails, name="fails")), {"a": make(log)}).try_execute()
    assert result.status is Status.COMPENSATED
    assert result.effects["a"] is effect
    assert log == called


def test_one_that_is_a_subclass_has_what_it_does_not_replace():
    saga = Saga("s").add_task(step(Charge("b"), name="a")).add_task(step(_fails, name="fails"))
    result = with_stand_ins(saga, {Charge: Mine("b")}).try_execute()
    assert "the real one was called" in str(result.compensation_errors)


def test_one_that_cannot_be_asked_does_not_know():
    def lost() -> None:
        raise KeyError("lost")

    saga = Saga("s").add_task(step(Charge("b"), retry=None))
    result = with_stand_ins(saga, {Charge: lost}).try_execute()
    assert "does not know" in str(next(one for one in result.history if one.name == "Charge").verification_error)
    assert result.effects["Charge"] is Effect.UNDONE


def test_a_worker_with_stand_ins_runs_what_was_submitted_without():
    store = MemoryStore()
    saga = Saga("s", store=store).add_task(step(Ship, name="ship"))
    handle = saga.submit(saga_id="1")
    Worker(store, [with_stand_ins(saga, {Ship: lambda: "F"})]).run_once()
    assert handle.result(timeout=5).results == {"ship": "F"}


class Made:
    def __init__(self, bank: str) -> None:
        self.bank = bank

    def execute(self, context: Context) -> None: ...


REFUSED: dict[str, tuple[Any, str]] = {
    "a name": ({"Shp": lambda: 1}, r"saga 'order' has no step of Shp; did you mean 'Ship'\?; steps: Charge, goods/Pack, "),
    "a class": ({Made: lambda: 1}, "has no step of Made; steps: "),
    "a function": ({unload: lambda: 1}, "has no step of unload"),
    "what names no step": ({7: lambda: 1}, "has no step of 7"),
    "no stand-in": ({Ship: 7}, r"what stands for step 'Ship' is 7 \(int\); give a task, a task class or a function"),
    "what is to be made": ({Ship: Made}, r"for step 'Ship', Made, cannot be made without arguments .*; give Made\(\.\.\.\)"),
    "what cannot be called so": ({weigh: lambda: 1}, r"action <lambda>"),
    "a task that is none": ({Ship: type("Fake", (Task,), {})}, r"Fake has no execute\(context\)"),
    "policies": ({Ship: step(lambda: 1, retry=Retry(2))}, r"has policies \(retry\); leave them out: the step's stay"),
    "a flow": ({Ship: Ship() & Ship()}, "give a task, a task class or a function"),
    "no dict": ([Ship], r"the stand-ins are \[.*\]; give a dict"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_stand_in_is_refused(saga, what):
    given, text = REFUSED[what]
    with pytest.raises(SagaDefinitionError, match=text):
        with_stand_ins(saga, given)


def test_what_waits_is_not_stood_in_for():
    with pytest.raises(SagaDefinitionError, match="step 'timer 5 s' waits, and calls nothing"):
        with_stand_ins(Saga("s").add_task(timer(5)), {"timer 5 s": lambda: 1})


def test_what_is_no_saga_is_refused():
    make: Callable[..., Any] = with_stand_ins
    with pytest.raises(SagaDefinitionError, match="a saga's method was called on its class, with Charge"):
        make(Charge("b"), {})
