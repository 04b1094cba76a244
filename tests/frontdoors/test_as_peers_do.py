"""What the tests of other engines show of theirs, shown of this one: each test says which engine's word it is about."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from saga import Context, Retry, Saga, Status, Task, each, receive, sequence, step, unit
from saga.errors import SagaDefinitionError
from saga.operations import Operations
from saga.storage import MemoryStore
from saga.worker import Worker


def test_an_execution_goes_on_anew_from_a_step() -> None:
    """DBOS: ``fork_workflow(id, start_step)`` keeps what came before the step, and executes from there on with mended code."""
    called: list[str] = []
    store = MemoryStore()

    def order(price: int) -> Saga[Any]:
        def reserve() -> str:
            called.append("reserve")
            return "R1"

        def charge(context: Context) -> int:
            called.append(f"charge {price} for {context.result_of('reserve')}")
            return price

        def refund(charged: int) -> None:
            called.append(f"refund {charged}")

        return (
            Saga("order", store=store)
            .add_task(step(reserve))
            .add_task(step(charge, refund))
            .add_task(step(lambda: None, name="tell"))
        )

    order(42).execute(saga_id="A1")
    mended = order(24)
    operations = Operations(store, "ann", sagas=[mended])
    operations.undo("A1", "the price was wrong", to="reserve")
    Worker(store, [mended]).run_once()
    operations.resume("A1", "it is mended")
    Worker(store, [mended]).run_once()
    assert called == ["reserve", "charge 42 for R1", "refund 42", "charge 24 for R1"]
    assert mended.load("A1").results == {"reserve": "R1", "charge": 24, "tell": None}


def test_a_subflow_is_reverted_and_tried_again_and_what_came_before_stays() -> None:
    """TaskFlow: a flow has ``retry=retry.Times(3)``: when a task of it fails, its tasks are reverted, and it is run again."""
    done: list[str] = []
    fails = iter([True, True, False])

    def act(name: str, fail: bool = False) -> Any:
        def execute() -> None:
            done.append(name)
            if fail and next(fails):
                raise ConnectionError(name)

        return step(execute, lambda own: done.append(f"-{name}"), name=name, unknown_on=())

    network = unit(act("port"), act("route", fail=True), retry=Retry(3), name="network")
    saga = Saga("boot").add_task(act("volume")).add_task(network).add_task(act("server"))
    assert saga.execute().status is Status.COMPLETED
    assert done == ["volume", *["port", "route", "-port"] * 2, "port", "route", "server"]


def test_what_a_task_requires_and_nothing_provides_is_found_before_any_is_called() -> None:
    """TaskFlow: tasks say what they require and provide, and ``engine.validate()`` raises ``MissingDependencies``."""
    called: list[str] = []

    class Charge(Task[None]):
        requires = ("amount",)
        provides = ("receipt",)

        def execute(self, context: Context) -> None:
            called.append("charge")
            context.receipt = f"receipt for {context.amount}"

    send = step(lambda context: called.append(context.receipt), name="send", requires=["receipt"])
    turned = Saga[Any]("order").add_task(send).add_task(Charge)
    assert [(one.step, one.key, one.what) for one in turned.check(given=["amount"])] == [("send", "receipt", "missing")]
    with pytest.raises(SagaDefinitionError, match="the context lacks 'receipt', which step 'send' requires"):
        turned.execute({"amount": 5})
    order = Saga[Any]("order").add_task(Charge).add_task(send)
    assert order.check(given=["amount"]) == called == []
    order.execute({"amount": 5})
    assert called == ["charge", "receipt for 5"]


def test_what_is_terminated_is_rolled_back() -> None:
    """Cloudflare Workflows: ``terminate({rollback: true})`` of one that waits undoes its steps, the last one first."""
    undone: list[str] = []
    store = MemoryStore()
    saga: Saga[Any] = Saga("order", store=store)
    for name in ("reserve", "charge"):
        saga.add_task(step(lambda: None, undone.append, name=name, compensate_args=(name,)))
    saga.add_task(receive("approved")).add_task(step(lambda: None, name="pack"))
    saga.submit(saga_id="A1")
    worker = Worker(store, [saga])
    worker.run_once()
    assert undone == []
    Operations(store, "ann").cancel("A1", "the customer has changed her mind")
    worker.run_once()
    assert (undone, saga.load("A1").status) == (["charge", "reserve"], Status.COMPENSATED)


def test_a_map_has_so_many_iterations_at_a_time_and_one_that_fails_ends_it() -> None:
    """Step Functions: ``Map`` with ``ItemsPath``, ``MaxConcurrency`` and a ``Retry`` of a state within; its output is the list
    of the iterations' outputs, in order. When an iteration fails, the map fails and no other begins; here what was done is
    undone, too.
    """
    under_way, most, log = 0, 0, list[str]()
    refused = {"2": 1, "4": 9}

    def work(context: Context) -> str:
        nonlocal under_way, most
        under_way, item = under_way + 1, context.step.item
        most = max(most, under_way)
        threading.Event().wait(0.002)
        under_way -= 1
        if context.step.attempt <= refused.get(item, 0):
            raise OSError(item)
        log.append(item)
        return f"out {item}"

    def map_of(count: int) -> Saga[Any]:
        iteration = sequence(step(work, lambda own: log.append(f"-{own}"), retry=Retry(2)), step(str.upper, name="end"))
        numbers = each(lambda context: [str(number) for number in range(count)], iteration, name="map", limit=2)
        return Saga("map").add_task(numbers)

    assert map_of(4).execute().context.result_of("map") == ["OUT 0", "OUT 1", "OUT 2", "OUT 3"]
    assert most == 2
    log.clear()
    result = map_of(9).try_execute()
    assert (result.status, result.failed_step) == (Status.COMPENSATED, "map[4]/work")
    done = [line for line in log if not line.startswith("-")]
    assert [line for line in log if line.startswith("-")] == [f"-out {item}" for item in reversed(done)]
    assert not {"7", "8"} & {*log}
