"""What people write at first, and what they are told: each error says what is wrong and what to write instead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final

import pytest

from saga import Context, Saga, Task, step, transaction
from saga.durable.codec import Codec
from saga.errors import SagaError
from saga.logging import SagaLogger
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore


class Charge(Task[int]):
    def execute(self, context: Any) -> int:
        return 1


class Ship(Task[int]):
    def execute(self, context: Any) -> int:
        found: int = context.result_of(Charge)
        return found


class PlaceOrder(Saga):
    flow = Charge


class NoInit(Saga):
    flow = Charge

    def __init__(self, database: str) -> None:
        self.database = database


class Steps(Saga):
    steps = Charge


class Plain(Context):
    order_id: str


@dataclass
class Order(Context):
    order_id: str = ""


class Child(Order):
    total: int = 0


def charge(context: Any) -> int:
    return 1


def order(**options: Any) -> Saga:
    return Saga("order", **options).add_task(Charge)


def store() -> MemoryStore:
    return MemoryStore()


MISTAKES: Final[list[tuple[Callable[[], Any], str]]] = [
    # a saga
    (lambda: Saga(Context()), "the saga's name is Context(); give a context to execute(...), and here a str"),
    (lambda: Saga(Charge), "give tasks to add_task(...), and here a str"),
    (lambda: Saga("order").execute(), "saga 'order' has no steps; add at least one task"),
    (lambda: Steps().execute(), "Steps: a saga has no 'steps', which would have no effect; did you mean 'flow'?"),
    (lambda: PlaceOrder.execute(Context()), "called on its class, with Context; make one first"),
    (
        lambda: NoInit("orders.db").execute(),
        "NoInit: its __init__ does not call super().__init__(); call it before anything else",
    ),
    (
        lambda: order(timeout=timedelta(0)),
        "saga 'order': timeout is datetime.timedelta(0); give seconds as a number above 0",
    ),
    (lambda: order(lease=0), "saga 'order': lease is 0; give seconds as a number above 0"),
    (lambda: order(lease=float("nan")), "saga 'order': lease is nan; give seconds as a number above 0"),
    (lambda: order(compatible_with="10"), "saga 'order': compatible_with is '10'; give several, such as ['10']"),
    (lambda: order(codec=Codec), "saga 'order': codec is <class 'saga.durable.codec.codec.Codec'>; give a Codec()"),
    (lambda: order(resolver=Charge()), "saga 'order': resolver is"),
    (
        lambda: setattr(order(), "timeout", 5.0),
        "saga 'order' is made, and its timeout stays as it is; give it when it is made: Saga(timeout=...)",
    ),
    (
        lambda: setattr(order(), "time_out", 5.0),
        "saga 'order': a saga has no 'time_out', which would have no effect; did you mean 'timeout'?",
    ),
    # who watches
    (lambda: order(logger=SagaLogger), "a class; give an object of it, SagaLogger(...)"),
    (lambda: order(observers=logging.getLogger("app")), "; give a function of (event, info), or SagaLogger(...) of a logger"),
    (
        lambda: order(logger=logging),
        "; give a logger of logging, structlog or loguru, the name of one, a SagaLogger or",
    ),
    (lambda: order(logger=""), "SagaLogger: logger is ''; give a str that is not blank"),
    (lambda: order(logger=lambda event: None), "which cannot be called with (event, info)"),
    (lambda: order(on_compensation_failure=lambda error: None), "which cannot be called with (context, step name, error)"),
    # an execution
    (
        lambda: order().execute(saga_id=7),
        "saga 'order': saga_id is 7 (int); give a str, such as str(...) of it",
    ),
    (lambda: order().execute(Order), "saga 'order': the context is the class Order; give an object of it, Order(...)"),
    (lambda: order().execute([("sku", 1)]), "saga 'order': the context is [('sku', 1)] (list); give a Context or a mapping"),
    (lambda: order().execute({5: 1}), "a context key is a string, not 5 (int)"),
    (lambda: order().load("A1"), "saga 'order' has no store: give one here or to Saga(store=...)"),
    (lambda: order().diagram("x"), "diagram(): result is 'x'; give a SagaResult of saga 'order'"),
    (lambda: transaction(lease=None), "saga 'transaction': lease is None; give seconds as a number above 0"),
    # a context
    (lambda: Plain("A1"), "Plain names keys (order_id) and is no dataclass; write @dataclass above it"),
    (lambda: Child("A1"), "Child names keys (total) and is no dataclass; write @dataclass above it"),
    (lambda: Context(5), "Context: values is 5 (int); give a mapping, or key=value"),
    (lambda: Context(""), "Context: values is '' (str); give a mapping, or key=value"),
    (lambda: Context().set("sku", 1), "the context has no key 'set'; write context.key = value; keys: none"),
    (lambda: Context(a=1).to_dict(), "the context has no key 'to_dict'; write dict(context); keys: a"),
    (
        lambda: Saga("s").add_task(step(charge, name="Charge")).add_task(Ship).execute(),
        "no step is of class Charge: the step of that name has another; ask by name: 'Charge'",
    ),
    # recovery
    (lambda: Recovery(store(), order()), "Recovery: sagas is <Saga 'order'>; give several, such as [<Saga 'order'>]"),
    (lambda: Recovery(store(), [PlaceOrder]), "which is no saga; give an object of it, PlaceOrder()"),
    (lambda: Recovery(store(), ["order"]), "Recovery: sagas has 'order', which is no saga; give sagas"),
    (lambda: Recovery(store(), transactions="ship"), "Recovery: transactions is 'ship'; give several, such as ['ship']"),
    (lambda: Recovery(store()), "Recovery: give the sagas, or the names of the transactions, that are to be finished"),
    (lambda: Recovery(store(), [order()], workers=0), "Recovery: workers is 0; give a whole number of 1 or more"),
    (lambda: Recovery(store(), [order()]).run(interval=0), "Recovery.run(): interval is 0; give seconds as a number above 0"),
    # operations
    (lambda: Operations(order(), "ann"), "Operations: store is an object of class Saga, which is no store"),
    (lambda: Operations(store(), ""), "who is ''; give the name of the person who acts"),
    (lambda: Operations(store(), "ann", sagas=order()), "Operations: sagas is <Saga 'order'>; give several"),
    (
        lambda: Operations(store(), "ann").list(status="stucked"),
        "status has 'stucked'; did you mean 'stuck'?; a status is one of ",
    ),
    (lambda: Operations(store(), "ann").list(after="2"), "after is '2', which is no cursor of a page; give the next of one"),
    (lambda: Operations(store(), "ann").show(7), "saga_id is 7 (int); give a str, such as str(...) of it"),
]


@pytest.mark.parametrize(("mistake", "told"), MISTAKES, ids=[told for _, told in MISTAKES])
def test_a_mistake_is_told_with_what_to_write(mistake: Callable[[], Any], told: str) -> None:
    with pytest.raises((SagaError, ValueError)) as caught:
        mistake()
    assert told in str(caught.value)


def test_a_class_of_contexts_may_say_more_than_keys() -> None:
    class Limited(Context):
        LIMIT: ClassVar[int] = 5

    class Made(Context):
        order_id: str

        def __init__(self, order_id: str) -> None:
            super().__init__(order_id=order_id)

    class Childless(Order):
        """It has the keys of its parent."""

    assert dict(Limited(a=1)) == {"a": 1}
    assert dict(Made("A1")) == dict(Childless("A1")) == {"order_id": "A1"}
