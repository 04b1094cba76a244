"""Semantic 12: one Saga object may be executed many times, at once, from many threads; nothing of an execution stays on it."""

from __future__ import annotations

import threading
from typing import Any

from saga import Context, Retry, Saga, SagaResult, Skip, Status, Task, parallel, sequence, step, transaction
from saga.events import SagaStarted

THREADS = 200


class Book(Task[int]):
    """Fails for every third execution, is interrupted for none, and needs a second attempt for every fifth."""

    retry = Retry(2)

    def execute(self, context: Context) -> int:
        assert context.step.saga_id == f"id{context.n}"
        context.seen.append(context.step.attempt)
        if context.n % 5 == 0 and context.step.attempt == 1:
            raise ConnectionError(context.n)
        return int(context.n) * 10

    def compensate(self, context: Context) -> None:
        assert context.step.saga_id == f"id{context.n}"
        context.undone.append(("Book", context.n, context.result_of(Book)))


def pack(context: Context, key: str) -> tuple[int, str]:
    context[key] = context.n
    return context.n, context.step.idempotency_key


def unpack(context: Context, result: tuple[int, str]) -> None:
    context.undone.append((context.step.name, *result))


def finish(context: Context, before: Any) -> None:
    assert [each[0] for each in before] == [context.n, context.n]
    if context.n % 3 == 0:
        raise ValueError(context.n)


def build(events: list[Any]) -> Saga:
    slow = step(pack, unpack, name="right", args=("right",), timeout=60)
    saga = Saga("s", logger=lambda event, info: events.append((info.saga_id, info.context["n"], event)))
    saga.add_task(Book()).add_task(parallel(sequence(step(pack, unpack, name="left", args=("left",))), slow))
    return saga.add_task(step(finish)).add_task(step(lambda: 1 / 0, name="skipped", on_error=Skip))


def state_of(saga: Saga) -> Any:
    """Everything reachable on the saga, its plan and its tasks."""
    steps = [(s, vars(s.task).copy(), vars(s).copy()) for s in saga.plan.steps]
    return {key: value for key, value in vars(saga).items() if key != "_lock"}, steps, vars(saga.plan).copy()


def check(n: int, result: SagaResult, failed: bool) -> None:
    context = result.context
    assert result.saga_id == f"id{n}"
    assert (context.n, context.seen) == (n, [1, 2] if n % 5 == 0 else [1])
    assert result.history[0].attempts == len(context.seen)
    assert result.results["Book"] == n * 10
    assert result.results["left"] == (n, f"s/id{n}/left")
    assert result.results["right"] == (n, f"s/id{n}/right")
    if failed:
        assert result.status is Status.COMPENSATED
        assert str(result.error) == str(n)
        assert context.undone[-1] == ("Book", n, n * 10)
        assert {("left", n, f"s/id{n}/left"), ("right", n, f"s/id{n}/right")} == set(context.undone[:-1])
    else:
        assert result.status is Status.COMPLETED
        assert context.undone == []
        assert (context.left, context.right) == (n, n)
        assert [record.status for record in result.history][-1] == "skipped"


def test_two_hundred_threads_execute_one_saga_and_none_sees_another() -> None:
    events: list[Any] = []
    saga = build(events)
    before = state_of(saga)
    ready = threading.Barrier(THREADS)
    results: dict[int, SagaResult] = {}
    errors: list[BaseException] = []

    def run(n: int) -> None:
        try:
            ready.wait(60)
            results[n] = saga.try_execute(Context(n=n, seen=[], undone=Shared()), saga_id=f"id{n}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for n in range(THREADS):
        check(n, results[n], failed=n % 3 == 0)
    of: dict[str, list[Any]] = {}
    for saga_id, n, event in events:
        assert saga_id == f"id{n}"
        of.setdefault(saga_id, []).append(event)
    for n in range(THREADS):
        assert of[f"id{n}"] == list(results[n].events)
    assert state_of(saga) == before


def test_executions_one_after_the_other_share_nothing() -> None:
    saga = build([])
    before = state_of(saga)
    for n in (3, 1, 3, 5, 15, 1):
        check(n, saga.try_execute(Context(n=n, seen=[], undone=Shared()), saga_id=f"id{n}"), failed=n % 3 == 0)
    assert state_of(saga) == before


def test_a_saga_may_be_executed_inside_a_step_of_its_own_execution() -> None:
    def again(context: Context) -> int:
        depth = context.get("depth", 0)
        return 1 + saga.execute(Context(depth=depth + 1)).results["again"] if depth < 5 else 1

    saga = Saga("s").add_task(step(again))
    assert saga.execute().results == {"again": 6}


def test_one_task_object_may_stand_in_two_sagas_and_twice_in_one() -> None:
    task = step(lambda context: context.step.idempotency_key, name="x").task
    one = Saga("one").add_task(step(task, name="a")).add_task(step(task, name="b"))
    two = Saga("two").add_task(step(task, name="c"))
    assert one.execute(saga_id="1").results == {"a": "one/1/a", "b": "one/1/b"}
    assert two.execute(saga_id="2").results == {"c": "two/2/c"}


def test_no_two_steps_have_the_same_key_whatever_their_sagas_and_executions_are_called() -> None:
    act = step(lambda context: context.step.idempotency_key, name="act")
    (one,) = Saga("order").add_task(Saga("payment").add_task(act)).execute(saga_id="order-1").results.values()
    (two,) = Saga("pay").add_task(act).execute(saga_id="order-1/payment").results.values()
    with transaction("pay") as block:  # a block and a saga of one name are one saga to a recovery
        three = block.step(lambda context: context.step.idempotency_key, name="act")
    assert (one, two) == ("order/order-1/payment/act", "pay/order-1%2Fpayment/act")
    assert three == f"pay/{block.saga_id}/act"


def test_a_key_of_an_undo_is_no_steps_key() -> None:
    keys: list[str] = []
    act = step(lambda: 0, lambda context: keys.append(context.step.compensation_key), name="a")
    named_so = step(lambda context: keys.append(context.step.idempotency_key), name="a#compensate")
    Saga("s").add_task(act).add_task(named_so).add_task(step(lambda: 1 / 0)).try_execute(saga_id="1")
    assert keys == ["s/1/a%23compensate", "s/1/a#compensate"]


def test_every_execution_has_an_id_of_its_own() -> None:
    ids = []
    saga = Saga("s", logger=lambda event, info: ids.append(info.saga_id) if isinstance(event, SagaStarted) else None)
    saga.add_task(step(lambda: None, name="a"))
    for _ in range(100):
        saga.execute()
    assert len(set(ids)) == 100


class Shared(list[Any]):
    """A list that views share, as any object that is not a plain container: it collects from all branches."""
