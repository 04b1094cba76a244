"""One call of a task, alone: it is what a saga would make of it."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from saga import ClosedContext, Context, Done, NotDone, Saga, Task, saga_step, step
from saga.errors import ContextKeyError, SagaDefinitionError
from saga.testing import call


@dataclass
class Order(ClosedContext):
    total: int = 0


class Reserve(Task[str]):
    def execute(self, context: Context) -> str:
        context["total"] = 7
        return "R1"

    def compensate(self, context: Context) -> None:
        context["total"] = 0


class Charge(Task[Any]):
    name = "charge card"
    timeout = 10.0

    def execute(self, context: Context) -> Any:
        known = context.step
        return context.result_of(Reserve), known.attempt, known.idempotency_key, known.saga, known.saga_id, known.name

    def verify(self, context: Context) -> Done[Any] | NotDone:
        return Done(context.step.idempotency_key) if context.step.attempt == 2 else NotDone()

    def compensate(self, context: Context) -> Any:
        known = context.step
        return context.result_of(Charge), known.cause, known.failed_step, known.previous_error, known.compensation_key


class Ship(Task[str]):
    async def execute(self, context: Context) -> str:
        await asyncio.sleep(0)
        context["total"] = 9
        return f"{context.result_of('Reserve')} {context.step.attempt}"


class Notify(Task[None]):
    def __init__(self, address: str) -> None:
        self.address = address

    def execute(self, context: Context) -> None:
        context["told"] = self.address


class Order7(Saga):
    flow = ()

    @saga_step(name="weigh")
    def weigh(self, context: Context) -> str:
        return f"{context.step.name} {context.step.saga_id}"


def pay(reserved: str, context: Context) -> str:
    return f"{reserved} {context.step.name}"


def pay_back(paid: str | None) -> str:
    return f"back {paid}"


def asked(reserved: str) -> Any:
    return Done(reserved)


KEY = "test/test/charge%20card"
LOST = TimeoutError("lost")
paying = step(pay, pay_back, verify=asked, name="pay it")

CALLS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "a class": (Charge, {"results": {Reserve: "R1"}}, ("R1", 1, KEY, "test", "test", "charge card")),
    "a task": (Charge(), {"results": {"Reserve": 3}, "attempt": 2}, (3, 2, KEY, "test", "test", "charge card")),
    "by what comes before its name": (Charge, {"results": {"goods/Reserve": 3}}, (3, 1, KEY, "test", "test", "charge card")),
    "a key": (
        Charge,
        {"results": {Reserve: 1}, "idempotency_key": "K", "saga": "s", "saga_id": "7"},
        (1, 1, "K", "s", "7", "charge card"),
    ),
    "its compensation": (
        Charge,
        {"phase": "compensate", "results": {Charge: "C1"}, "cause": LOST, "failed_step": "ship"},
        ("C1", LOST, "ship", None, f"{KEY}#compensate"),
    ),
    "another attempt of its compensation": (
        Charge,
        {"phase": "compensate", "results": {Charge: "C1"}, "attempt": 2, "previous_error": LOST},
        ("C1", None, None, LOST, f"{KEY}#compensate"),
    ),
    "its compensation with a key": (
        Charge,
        {"phase": "compensate", "results": {"charge card": "C1"}, "idempotency_key": "K"},
        ("C1", None, None, None, "K#compensate"),
    ),
    "a function": (pay, {"results": {Reserve: "R1"}}, "R1 pay"),
    "a step": (paying, {"results": {"a": 1, "b": 2}}, "2 pay it"),
    "a step that was done before": (paying, {"results": {"a": 1, "pay it": 2}}, "1 pay it"),
    "its function that undoes": (paying, {"phase": "compensate", "results": {"before": 1, "pay it": 2}}, "back 2"),
    "its function that undoes, by the step": (step(pay, pay_back), {"phase": "compensate", "results": {pay: 2}}, "back 2"),
    "one that undoes what may not have been": (paying, {"phase": "compensate"}, "back None"),
    "a task in a step": (
        step(Charge, name="again"),
        {"results": {Reserve: 1}},
        (1, 1, "test/test/again", "test", "test", "again"),
    ),
    "a method": (Order7("x").weigh, {"saga_id": "9"}, "weigh 9"),
    "a connection": (step(lambda context: context.step.connection, name="sql"), {"connection": "c"}, "c"),
    "nobody waits": (step(lambda context: context.step.cancelled, name="long"), {"cancelled": True}, True),
    "somebody waits": (step(lambda context: context.step.cancelled, name="long"), {}, False),
    "a deadline": (step(lambda context: context.step.deadline, name="long"), {"deadline": 12.5}, 12.5),
    "no deadline": (step(lambda context: context.step.deadline, name="long"), {}, None),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_call_has_what_it_would_have_in_a_saga(what):
    task, options, returned = CALLS[what]
    assert call(task, **options) == returned


def test_verify_is_called_alone():
    assert call(Charge, phase="verify", attempt=2).result == KEY
    assert isinstance(call(Charge, phase="verify"), NotDone)
    assert call(paying, phase="verify", results={"a": 5}).result == 5


@pytest.mark.parametrize("context", [Context(total=1), Order(1)], ids=["plain", "dataclass"])
def test_what_it_changes_is_seen_in_the_context(context):
    assert call(Reserve, context) == "R1"
    assert context.total == 7
    call(Reserve, context, phase="compensate")
    assert context.total == 0
    with pytest.raises(RuntimeError, match="only while a task runs"):
        _ = context.step


def test_a_mapping_is_a_context_too():
    assert call(step(lambda context: context.total + 1, name="a"), {"total": 1}) == 2


def test_what_an_async_task_returns_is_awaited_by_the_test():
    context = Order(1)
    assert asyncio.run(call(Ship, context, results={Reserve: "R1"}, attempt=3)) == "R1 3"
    assert context.total == 9


def test_a_task_that_executes_a_saga_with_its_context_goes_on_as_itself():
    def outer(context: Context) -> str:
        Saga("inner").add_task(Reserve).execute(context)
        return call(step(lambda context: context.step.name, name="within"), context) + context.step.name

    context = Order()
    assert call(step(outer, name="around"), context) == "withinaround"
    assert context.total == 7


def test_it_is_timed_out_when_its_timeout_says():
    before = time.time()
    deadline = call(step(lambda context: context.step.deadline, name="a", timeout=10.0))
    assert before + 10 <= deadline <= time.time() + 10
    assert call(step(lambda: 1, lambda context: context.step.deadline, name="a", timeout=10.0), phase="compensate") is None


def test_it_may_be_cancelled_while_it_runs():
    flag = threading.Event()

    def long(context: Context) -> list[bool]:
        before = context.step.cancelled
        flag.set()
        return [before, context.step.cancelled]

    assert call(long, cancelled=flag) == [False, True]


def test_what_it_raises_is_raised():
    error = ValueError("no")

    def fails() -> None:
        raise error

    with pytest.raises(ValueError, match="no") as raised:
        call(fails)
    assert raised.value is error


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a phase": (Charge, {"phase": "compensat"}, r"phase is 'compensat'; did you mean 'compensate'\?; give 'execute', "),
    "an attempt": (Charge, {"attempt": 0}, r"attempt is 0; give a whole number of 1 or more"),
    "no attempt": (Charge, {"attempt": True}, r"attempt is True; give a whole number"),
    "a cause of an execute": (Charge, {"cause": LOST}, "only a compensation has a cause"),
    "a failed step of an execute": (Charge, {"failed_step": "b"}, "only a compensation has a failed_step"),
    "an error before the first attempt": (Charge, {"previous_error": LOST}, "the first attempt has no previous_error"),
    "no undo": (Ship, {"phase": "compensate"}, "step 'Ship' has no compensate, so a saga never calls it"),
    "no verify": (Reserve, {"phase": "verify"}, "step 'Reserve' has no verify"),
    "no undo of a function": (pay, {"phase": "compensate"}, "step 'pay' has no compensate"),
    "more than one": (Reserve() & Ship(), {}, r"is not one task; give a task, a task class, a function or step\(\.\.\.\)"),
    "a saga": (Saga("s").add_task(Reserve), {}, "is not one task"),
    "nothing": (None, {}, r"call\(\): None \(NoneType\) is not a task"),
    "a method of a class": (Order7.weigh, {}, r"<saga step 'weigh'> is of a class; give that of a saga"),
    "what is to be made": (Notify, {}, r"Notify cannot be made without arguments .*; give Notify\(\.\.\.\)"),
    "no result before": (pay, {}, "pay needs 'reserved', the result of the step before; give it as results="),
    "no result of another": (paying, {"results": {"pay it": 1}}, "pay it needs 'reserved'"),
    "no result to verify": (paying, {"phase": "verify"}, "pay it needs 'reserved'"),
    "results of what is no step": (Charge, {"results": {7: 1}}, "there is no step of 7; name it by its task's class"),
    "a context": (Charge, {"context": 7}, "the context is 7"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_called_is_refused(what):
    task, options, text = REFUSED[what]
    with pytest.raises(SagaDefinitionError, match=text):
        call(task, **options)


class Sub(Reserve):
    pass


@pytest.mark.parametrize(
    ("asked", "given", "found"),
    [
        (Reserve, {Sub: 1}, 1),
        (Reserve, {Sub: 1, Reserve: 2}, 2),
        ("Sub", {Sub: 1}, 1),
        (Reserve, {}, r"call\(\) was given no result of Reserve; write results={Reserve: ...}; given: none"),
        (Reserve, {"Reserv": 1}, r"no result of Reserve; did you mean 'Reserv'\?; write"),
        ("Reserve", {"a/Reserve": 1, "b/Reserve": 2}, r"2 results of 'Reserve'; .*; given: a/Reserve, b/Reserve"),
        (Sub, {Reserve: 1}, "no result of Sub"),
    ],
)
def test_results_are_asked_for_as_in_a_saga(asked, given, found):
    def asks(context: Context) -> Any:
        return context.result_of(asked)

    if isinstance(found, int):
        assert call(asks, results=given) == found
    else:
        with pytest.raises(ContextKeyError, match=found):
            call(asks, results=given)


def test_a_task_that_is_made_with_arguments_is_given_as_it_is():
    context = Context()
    call(Notify("a@example.com"), context)
    assert context.told == "a@example.com"
