"""Operators find executions, see why many are stuck, and act on many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from saga import Saga, step
from saga.errors import SagaError, StorageError
from saga.operations import Acted, Cause, Operations
from saga.recovery import Recovery
from saga.storage import Entry, Lease, MemoryStore, NewExecution, Store, Told


def fail(*_: Any) -> None:
    raise OSError("the bank is closed")


def refuse(*_: Any) -> None:
    raise ValueError("no stock")


def stuck(store: Store, name: str, undo: Callable[..., None], ids: list[str], at: str = "charge") -> Saga:
    """Leave executions stuck, as a compensation failed."""
    saga = Saga(name, store=store).add_task(step(lambda: 1, undo, name=at)).add_task(step(refuse, name="pack"))
    for saga_id in ids:
        saga.try_execute(saga_id=saga_id)
    return saga


def test_what_is_stuck_is_grouped_by_saga_step_and_error_with_most_first(store: Store) -> None:
    stuck(store, "refund", fail, ["r1"])
    stuck(store, "order", fail, ["o1", "o2", "o3"])
    stuck(store, "order", refuse, ["o4", "o5"], at="reserve")
    operations = Operations(store, "ann")
    causes = operations.causes()
    assert [one[:5] for one in causes] == [
        ("order", "charge", "OSError", "compensation failed: charge (OSError: the bank is closed)", 3),
        ("order", "reserve", "ValueError", "compensation failed: reserve (ValueError: no stock)", 2),
        ("refund", "charge", "OSError", "compensation failed: charge (OSError: the bank is closed)", 1),
    ]
    assert causes[0].oldest == operations.get("o1").progressed
    assert operations.causes("refund") == causes[2:]
    assert asyncio.run(operations.acauses("none")) == []
    assert isinstance(causes[0], Cause)


def test_all_of_a_cause_is_acted_on_and_who_refuses_stops_nobody(store: Store) -> None:
    saga = stuck(store, "order", fail, [f"o{number}" for number in range(5)])
    stuck(store, "order", refuse, ["other"], at="reserve")
    held = store.claim("somebody", 60.0, saga_id="o3")  # who reads a message; what is stuck has nobody to
    assert held
    operations = Operations(store, "ann")
    (cause, *_) = operations.causes()
    acted = list(operations.each("retry", "the bank is open", name=cause.name, step=cause.step, cause=cause.cause))
    assert [one.saga_id for one in acted] == ["o4", "o3", "o2", "o1", "o0"]
    assert [one for one in acted if not one.done] == [
        Acted("o3", False, "somebody else acts on execution 'o3': nothing was done; look at it and try again")
    ]
    assert {operations.get(one.saga_id).status for one in acted if one.done} == {"compensating"}
    assert operations.get("other").status == "stuck"
    acts = [line.details for line in operations.show("o0").journal if line.kind == "OperatorActed"]
    assert acts == [{"action": "retry", "who": "ann", "why": "the bank is open"}]
    assert len(Recovery(store, [saga]).run_once()) == 4


def many(count: int) -> MemoryStore:
    """Return a store with so many executions that are stuck or, every tenth, completed."""
    store = MemoryStore()
    for number in range(count):
        first = [Entry(1, "SagaStarted", None, "{}", 1.0)]
        saga_id = f"x{number:04}"
        assert store.create(NewExecution(saga_id, "order", "1", "", "", "running"), first, "a", 60.0) is None
        status = "stuck" if number % 10 else "completed"
        store.append(Lease(saga_id, "a", 1), [], status=status, release=True, told=Told("charge", "no", "OSError"))
    return store


def test_many_pages_are_acted_on_one_after_the_other() -> None:
    operations = Operations(many(530), "ann")
    acted = list(operations.each("compensate", "so"))
    assert len(acted) == 530
    assert [one.saga_id for one in acted] == sorted((one.saga_id for one in acted), reverse=True)
    assert [int(one.saga_id[1:]) % 10 for one in acted if not one.done] == [0] * 53
    assert {one.error for one in acted if not one.done} == {
        "the execution has ended (completed); there is nothing to compensate"
    }
    assert operations.list(status="stuck").executions == ()


def test_no_more_are_acted_on_than_asked_for_or_read() -> None:
    operations = Operations(many(30), "ann")

    def left() -> int:
        return len(operations.list(status="stuck").executions)

    assert len(list(operations.each("compensate", "so", limit=3, status="stuck"))) == 3
    assert left() == 24
    acting = operations.each("compensate", "so", status="stuck")
    assert left() == 24
    next(acting)
    assert left() == 23

    async def two() -> list[Acted]:
        return [one async for one in operations.aeach("compensate", "so", limit=2, status=["stuck", "completed"])]

    assert [one.done for one in asyncio.run(two())] == [True, True]
    assert left() == 21


@pytest.mark.parametrize(
    ("action", "step", "says"),
    [
        ("retri", None, "did you mean 'retry'"),
        ("retry", "charge", "saga_ids say on which to act, and so do filters .step.; give either"),
        ("skip", None, "step"),
    ],
)
def test_what_cannot_be_done_to_any_is_refused_before_anything_is(action: str, step: str | None, says: str) -> None:
    operations = Operations(many(2), "ann")
    with pytest.raises(SagaError, match=says):
        operations.each(action, "so", ["x1"], step=step)
    with pytest.raises(SagaError, match=says):
        asyncio.run(anext(operations.aeach(action, "so", ["x1"], step=step)))
    assert len(operations.list(status="stuck").executions) == 1


def test_what_goes_back_to_no_step_is_not_given_one() -> None:
    with pytest.raises(SagaError, match="retry goes back to no step; leave out to='a'"):
        Operations(many(1), "ann").each("retry", "so", to="a")


def test_some_are_acted_on_by_their_ids() -> None:
    operations = Operations(many(5), "ann")

    async def acted() -> list[Acted]:
        return [one async for one in operations.aeach("compensate", "so", ["x3", "x0001"])]

    assert [one.done for one in operations.each("compensate", "so", ("x0003", "x0004", "x0002"), limit=2)] == [True, True]
    assert asyncio.run(acted()) == [Acted("x3", False, "there is no execution 'x3'"), Acted("x0001", True)]


def test_a_step_is_skipped_and_gone_back_to_in_many(store: Store) -> None:
    stuck(store, "order", fail, ["o1", "o2"])
    done = Saga("done", store=store).add_task(step(lambda: 1, lambda: None, name="a")).add_task(step(lambda: 1, name="b"))
    done.execute(saga_id="d1")
    operations = Operations(store, "ann", sagas=[done])
    assert [one.done for one in operations.each("skip", "so", step="charge", name="order")] == [True, True]
    assert list(operations.each("undo", "so", to="c", name="done")) == [Acted("d1", False, "there is no step 'c'; steps: a, b")]
    assert list(operations.each("undo", "so", ["d1"], to="a")) == [Acted("d1", True)]
    acted = [line.details for line in operations.show("d1").journal if line.kind == "OperatorActed"]
    assert acted[0]["action"] == "undo"


def test_a_step_is_skipped_wherever_a_person_is_asked_about_it(store: Store) -> None:
    """A row names one of the steps that a person is asked about: that whose undo failed last."""
    saga = stuck(store, "order", fail, ["c"])
    two = Saga("order", version="2", store=store).add_task(step(lambda: 1, refuse, name="reserve"))
    two.add_task(step(lambda: 1, fail, name="charge")).add_task(step(refuse, name="pack"))
    for saga_id in ("rc1", "rc2"):
        two.try_execute(saga_id=saga_id)
    for sagas in ([], [saga, two]):
        operations = Operations(store, "ann", sagas=sagas)
        meant = [one.saga_id for one in operations.meant("skip", step="charge", status="stuck")]
        assert sorted(meant) == ["c", "rc1", "rc2"]
        assert {one.saga_id for one in operations.meant("skip", step="charge", version="2")} == {"rc1", "rc2"}
        assert [one.saga_id for one in operations.meant("skip", step="charge", limit=1)] == ["c"]
        assert list(operations.meant("skip", step="charge", status="paused")) == []
        assert [one.saga_id for one in operations.meant("retry", step="charge")] == ["c"]

    async def skipped() -> list[Acted]:
        assert [one.saga_id async for one in operations.ameant("skip", step="charge", version="2", limit=1)] == ["rc2"]
        return [one async for one in operations.aeach("skip", "by hand", step="charge", version="2")]

    assert {one.saga_id for one in asyncio.run(skipped()) if one.done} == {"rc1", "rc2"}
    assert [one.saga_id for one in operations.each("skip", "by hand", step="charge") if one.done] == ["c"]
    assert {operations.show(one).decisions[0].step for one in ("c", "rc1", "rc2")} == {"charge"}


def test_an_execution_is_found_by_its_id_the_beginning_of_it_or_a_tag(store: Store) -> None:
    saga = Saga("order", store=store, tags=["order", "tenant"]).add_task(step(lambda: 1, name="a"))
    for saga_id, order, tenant in (("A1", "7", "acme"), ("A12", "8", "acme"), ("B1", "A1", "A1"), ("order=7", "9", "x")):
        saga.execute({"order": order, "tenant": tenant}, saga_id=saga_id)
    operations = Operations(store, "ann")

    def found(text: str, **limit: int) -> list[str]:
        return [row.saga_id for row in operations.find(text, **limit)]

    assert found("A1") == ["A1", "A12", "B1"]
    assert found("A12") == ["A12"]
    assert found("order=7") == ["order=7", "A1"]
    assert found("tenant=acme") == ["A12", "A1"]
    assert found("acme") == ["A12", "A1"]
    assert found("A", limit=1) == ["A1"]
    assert found("none") == found("=") == found("tenant=") == []
    assert [row.saga_id for row in asyncio.run(operations.afind("B"))] == ["B1"]


def test_a_store_that_cannot_be_asked_is_no_refusal() -> None:
    operations = Operations(many(3), "ann")
    acting = operations.each("compensate", "so")
    operations.store.close()
    with pytest.raises(StorageError, match="closed"):
        next(acting)


def test_a_store_that_goes_away_meanwhile_ends_it() -> None:
    operations = Operations(many(3), "ann")
    acting = operations.each("compensate", "so", ["x0001", "x0002"])
    assert next(acting).done
    operations.store.close()
    with pytest.raises(StorageError, match="closed"):
        next(acting)

    async def acted() -> list[Acted]:
        return [one async for one in operations.aeach("compensate", "so", ["x0001"])]

    with pytest.raises(StorageError, match="closed"):
        asyncio.run(acted())
