"""Submitting: an execution is stored, somebody else runs it, and whoever submitted it watches and waits."""

from __future__ import annotations

import asyncio
import pickle
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saga import Context, Saga, Status, Submission, Task, masked, step
from saga.errors import (
    ActionRefusedError,
    EncodingError,
    SagaDefinitionError,
    SagaExecutionException,
    SagaIdTakenError,
    UnknownExecutionError,
)
from saga.operations import Operations
from saga.storage import Store
from saga.worker import Worker
from tests.kit import PATIENCE


class Reserve(Task[str]):
    def execute(self, context: Context) -> str:
        return f"R{context.order}"

    def compensate(self, context: Context) -> None:
        context.released = True


def charge(context: Context) -> int:
    if context.order == "bad":
        raise ValueError("declined")
    return 7


def order(store: Store | None, **options: Any) -> Saga:
    return Saga("order", store=store, **options).add_task(Reserve()).add_task(step(charge, name="charge"))


def work(store: Store, *sagas: Saga) -> list[str]:
    return sorted(result.saga_id for result in Worker(store, sagas).run_once())


def test_what_is_submitted_is_run_by_a_worker(store: Store) -> None:
    saga = order(store)
    handle = saga.submit({"order": "A1"}, saga_id="x")
    assert (handle.saga_id, handle.new, handle.status()) == ("x", True, Status.SUBMITTED)
    assert saga.load("x").status is Status.SUBMITTED
    assert work(store, saga) == ["x"]
    result = handle.result(PATIENCE)
    assert (result.status, result.results["Reserve"], result.context.order) == (Status.COMPLETED, "RA1", "A1")
    assert handle.status() is Status.COMPLETED


def test_a_failure_is_raised_where_it_is_waited_for(store: Store) -> None:
    handle = order(store).submit({"order": "bad"})
    work(store, order(store))
    result = handle.try_result(0)
    assert (result.status, result.context.released) == (Status.COMPENSATED, True)
    with pytest.raises(SagaExecutionException, match="declined"):
        handle.result(0)


def test_submitting_is_idempotent_by_id_and_input(store: Store) -> None:
    saga = order(store)
    first = saga.submit({"order": "A1"}, saga_id="x")
    again = saga.submit({"order": "A1"}, saga_id="x")
    assert (first.new, again.new) == (True, False)
    with pytest.raises(SagaIdTakenError, match="another input"):
        saga.submit({"order": "A2"}, saga_id="x")
    with pytest.raises(SagaIdTakenError, match="another input"):
        saga.execute({"order": "A2"}, saga_id="x")
    with pytest.raises(SagaIdTakenError, match="saga 'order'"):
        Saga("refund", store=store).add_task(Reserve()).submit({"order": "A1"}, saga_id="x")
    assert work(store, saga) == ["x"]
    assert saga.submit({"order": "A1"}, saga_id="x").status() is Status.COMPLETED


def test_who_executes_what_is_submitted_runs_it(store: Store) -> None:
    saga = order(store)
    saga.submit({"order": "A1"}, saga_id="x")
    assert saga.execute({"order": "A1"}, saga_id="x").results["Reserve"] == "RA1"
    assert work(store, saga) == []


def test_the_input_stays_with_who_submits_it(store: Store) -> None:
    saga = order(store)
    context = Context(order="A1", tags=[1, 2])
    kept = context.tags
    for number in range(3):
        saga.submit(context, saga_id=str(number))
    assert context.tags is kept
    assert saga.execute(context, saga_id="here").context is context
    assert work(store, saga) == ["0", "1", "2"]


def test_many_are_submitted_in_few_transactions(store: Store) -> None:
    saga = order(store)
    handles = saga.submit_many(
        [{"order": "A0"}, Submission({"order": "A1"}, saga_id="one", tags={"shop": 3}), None, Context(order="A3")]
    )
    assert [handle.new for handle in handles] == [True] * 4
    assert handles[1].saga_id == "one"
    assert dict(store.get("one").tags) == {"shop": "3"}  # type: ignore[union-attr]
    assert len({handle.saga_id for handle in handles}) == 4
    assert saga.submit_many([]) == []
    handles = saga.submit_many({"order": str(number)} for number in range(2500))
    assert len(handles) == len({handle.saga_id for handle in handles}) == 2500
    assert store.count(["status"])[0].executions == 2504


@pytest.mark.parametrize("in_loop", [False, True])
def test_of_many_all_are_stored_but_those_whose_ids_are_taken(store: Store, in_loop: bool) -> None:
    saga = order(store)
    taken = tuple(f"{number}" for number in range(990, 1020))
    for saga_id in ("5", *taken):
        saga.submit({"order": "another"}, saga_id=saga_id)
    known = saga.submit({"order": 2}, saga_id="2")
    many = [Submission({"order": number}, str(number)) for number in range(1100)]
    with pytest.raises(
        SagaIdTakenError, match=r"^31 ids are taken: '5', '990', '991', .*'1008', \.\.\.; saga_id '5' belongs "
    ) as caught:
        asyncio.run(saga.asubmit_many(many)) if in_loop else saga.submit_many(many)
    error = caught.value
    assert str(error).endswith("The other 1069 are stored: the error has their handles")
    assert error.saga_ids == ("5", *taken)
    assert [handle.saga_id for handle in error.handles] == [one.saga_id for one in many if one.saga_id not in error.saga_ids]
    assert [handle.saga_id for handle in error.handles if not handle.new] == [known.saga_id]
    assert {handle.status() for handle in error.handles[-3:]} == {Status.SUBMITTED}
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.saga_ids, twin.handles) == (str(error), error.saga_ids, [])


@pytest.mark.parametrize("wrong", ["abc", {"order": 1}, Submission(), 7])
def test_one_is_not_several(store: Store, wrong: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="several inputs"):
        order(store).submit_many(wrong)


def test_of_many_none_is_stored_where_one_is_wrong(store: Store) -> None:
    with pytest.raises(EncodingError):
        order(store).submit_many([{"order": "A1"}, {"order": object()}])
    assert store.list().executions == ()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"saga_id": ""}, "saga_id"),
    ({"at": "tomorrow"}, "at is 'tomorrow'"),
    ({"at": datetime(2030, 1, 1)}, "no time zone"),
    ({"at": float("nan")}, "at is nan"),
    ({"at": True}, "at is True"),
    ({"tags": "A1"}, "give a mapping"),
    ({"tags": {"order": 1.5}}, "'order' is 1.5"),
    ({"tags": {"": "x"}}, "the name of a tag"),
    ({"tags": {"order": "x" * 201}}, "201 characters"),
    ({"tags": {str(number): "x" for number in range(33)}}, "33 tags"),
    ({"priority": -1}, "priority is -1"),
    ({"priority": 1.0}, "priority is 1.0"),
    ({"priority": True}, "priority is True"),
    ({"connection": object()}, "connection"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=[says for _, says in WRONG])
def test_what_is_wrong_is_refused_and_nothing_stored(store: Store, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises((SagaDefinitionError, ValueError), match=says):
        order(store).submit({"order": "A1"}, **wrong)
    assert store.list().executions == ()


def test_a_saga_without_a_store_submits_nowhere() -> None:
    with pytest.raises(SagaDefinitionError, match="has no store"):
        order(None).submit({"order": "A1"})


def test_what_is_for_later_waits(store: Store) -> None:
    saga = order(store)
    for at in (datetime.now(UTC) + timedelta(hours=1), store.now() + 3600.0):
        saga.submit({"order": "A1"}, at=at, priority=1000)
    saga.submit({"order": "A1"}, at=datetime.now(UTC) - timedelta(hours=1), saga_id="now")
    assert work(store, saga) == ["now"]


def test_tags_are_the_sagas_and_the_calls(store: Store) -> None:
    says = order(store, tags=lambda context: {"order": context.order, "card": masked("4711"), "none": None})
    says.submit({"order": "A1"}, saga_id="x", tags={"shop": 3, "order": "mine"})
    listed = order(store, tags=["order", "missing"])
    listed.submit({"order": 5}, saga_id="y")
    operations = Operations(store, "ann")
    assert dict(operations.list(tags={"shop": 3}).executions[0].tags) == {
        "order": "mine",
        "card": masked("4711"),
        "shop": "3",
    }
    assert [row.saga_id for row in operations.list(tags={"order": 5}).executions] == ["y"]
    assert [row.saga_id for row in operations.list(tags={"card": masked("4711")}).executions] == ["x"]
    assert "4711" not in masked("4711")
    listed.execute({"order": 6}, saga_id="z")
    assert [row.saga_id for row in operations.list(tags={"order": 6}).executions] == ["z"]


def test_who_waits_is_told_when_it_takes_too_long(store: Store) -> None:
    handle = order(store).submit({"order": "A1"})
    with pytest.raises(TimeoutError, match="it goes on"):
        handle.result(0)
    with pytest.raises(TimeoutError, match="it goes on"):
        handle.try_result(0.02)
    with pytest.raises(SagaDefinitionError, match="timeout is -1"):
        handle.result(-1)
    assert handle.status() is Status.SUBMITTED


def test_what_nobody_has_begun_is_cancelled_and_never_begins(store: Store) -> None:
    saga = order(store)
    handle = saga.submit({"order": "A1"})
    with pytest.raises(ValueError, match="why"):
        handle.cancel(" ")
    handle.cancel("the customer called", who="ann")
    work(store, saga)
    result = handle.try_result(0)
    assert result.status is Status.COMPENSATED
    assert [record for record in result.history if record.attempts] == []
    with pytest.raises(ActionRefusedError):
        handle.cancel("again")
    assert "ann" in str(Operations(store, "bob").show(handle.saga_id))


def test_what_was_purged_is_unknown(store: Store) -> None:
    saga = order(store)
    handle = saga.submit({"order": "A1"})
    work(store, saga)
    Operations(store, "ann").purge(older_than=0)
    for ask in (handle.status, lambda: handle.result(0), lambda: handle.cancel("why")):
        with pytest.raises(UnknownExecutionError):
            ask()


def test_it_is_all_there_for_who_awaits(store: Store) -> None:
    saga = order(store)

    async def main() -> None:
        handle = await saga.asubmit({"order": "A1"})
        others = await saga.asubmit_many([{"order": "bad"}, {"order": "A3"}])
        assert await handle.astatus() is Status.SUBMITTED
        await others[1].acancel("why")
        with pytest.raises(TimeoutError):
            await handle.aresult(0)
        ran = asyncio.create_task(Worker(store, [saga]).arun_once())
        assert (await handle.aresult(PATIENCE)).results["Reserve"] == "RA1"
        with pytest.raises(SagaExecutionException):
            await others[0].aresult(PATIENCE)
        assert (await others[1].atry_result(PATIENCE)).status is Status.COMPENSATED
        assert len(await ran) == 2

    asyncio.run(main())


def test_a_waiting_thread_gets_what_another_has_run(store: Store) -> None:
    saga = order(store)
    handle = saga.submit({"order": "A1"})
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(handle.result(PATIENCE)))
    waiting.start()
    work(store, saga)
    waiting.join(PATIENCE)
    assert found[0].status is Status.COMPLETED
