"""The same id stands for the same execution: starting it again gives its outcome."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, make_dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from saga import Context, InDoubt, Saga, Status, StepStatus, step
from saga.drivers.threads import Execution
from saga.durable import rebuild
from saga.durable.start import join
from saga.errors import (
    DefinitionChangedError,
    SagaCompensationError,
    SagaDefinitionError,
    SagaExecutionException,
    SagaIdTakenError,
    StorageError,
    UnknownExecutionError,
)
from saga.storage import Lease, MemoryStore, SqliteStore, Store
from tests.kit import PATIENCE, Watched, expired, journal_of, within


class Order:
    """A saga that counts its calls; ``how`` says what becomes of it."""

    def __init__(self, how: str = "well", wait: threading.Event | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.how = how
        self.wait = wait
        self.begun = threading.Event()

    def saga(self, name: str = "order", **more: Any) -> Saga:
        return (
            Saga(name, **more)
            .add_task(step(self.reserve, self.free, name="reserve", in_doubt=InDoubt.RERUN))
            .add_task(step(self.charge, name="charge", in_doubt=InDoubt.RERUN))
        )

    def reserve(self, context: Context) -> list[int]:
        self.calls["reserve"] += 1
        self.begun.set()
        if self.wait is not None:
            assert self.wait.wait(PATIENCE)
        context["reserved"] = True
        return [1, 2]

    def free(self) -> None:
        self.calls["free"] += 1
        if self.how == "stuck":
            raise OSError("gone")

    def charge(self) -> str:
        self.calls["charge"] += 1
        if self.how != "well":
            raise ValueError("no money")
        return "paid"


def test_a_finished_execution_gives_its_result_again(store: Store) -> None:
    order = Order()
    saga = order.saga()
    first = saga.execute({"n": 1}, saga_id="A1", store=store)
    for again in (
        saga.execute({"n": 1}, saga_id="A1", store=store),
        Order().saga().execute({"n": 1}, saga_id="A1", store=store),
    ):
        assert again.results == first.results == {"reserve": [1, 2], "charge": "paid"}
        assert again.context == first.context == {"n": 1, "reserved": True}
        assert again.context.result_of("reserve") == [1, 2]
        assert (again.saga_id, again.status, again.error) == ("A1", Status.COMPLETED, None)
        assert [record.status for record in again.history] == [StepStatus.SUCCEEDED] * 2
    assert order.calls == {"reserve": 1, "charge": 1}


def test_a_failed_execution_fails_again(store: Store) -> None:
    order = Order("failed")
    with pytest.raises(SagaExecutionException) as first:
        order.saga().execute(saga_id="A1", store=store)
    with pytest.raises(SagaExecutionException) as again:
        order.saga().execute(saga_id="A1", store=store)
    assert order.calls == {"reserve": 1, "charge": 1, "free": 1}
    assert first.value.failed_task is not None
    assert again.value.failed_task is not None
    assert again.value.failed_task.name == "charge"
    assert type(again.value.cause) is ValueError
    assert str(again.value.cause) == "no money"
    assert str(again.value) == str(first.value)
    assert again.value.args == first.value.args


def test_a_stuck_execution_is_told_as_stuck_again(store: Store) -> None:
    order = Order("stuck")
    for _ in range(2):
        with pytest.raises(SagaCompensationError) as caught:
            order.saga().execute(saga_id="A1", store=store)
        result = caught.value.result
        assert result is not None
        assert result.status is Status.STUCK
        assert result.reason == "compensation failed: reserve"
        assert [failure.step for failure in result.compensation_errors] == ["reserve"]
    assert order.calls["free"] == 1


def test_an_execution_that_runs_in_another_thread_is_waited_for(store: Store) -> None:
    go_on = threading.Event()
    order = Order(wait=go_on)
    saga = order.saga()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(saga.execute, {"n": 1}, saga_id="A1", store=store)
        assert order.begun.wait(PATIENCE)
        second = pool.submit(saga.execute, {"n": 1}, saga_id="A1", store=store)
        time.sleep(0.1)
        assert not second.done()
        go_on.set()
        assert first.result(PATIENCE).results == second.result(PATIENCE).results
    assert order.calls == {"reserve": 1, "charge": 1}


def test_many_that_start_the_same_id_at_once_share_one_execution(store: Store) -> None:
    order = Order()
    saga = order.saga()
    together = threading.Barrier(16)

    def start(_: int) -> Any:
        together.wait(PATIENCE)
        return saga.execute({"n": 1}, saga_id="A1", store=store).results

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(start, range(16)))
    assert results == [{"reserve": [1, 2], "charge": "paid"}] * 16
    assert order.calls == {"reserve": 1, "charge": 1}


def test_many_ids_started_twice_each_run_once(store: Store) -> None:
    order = Order()
    saga = order.saga()
    with ThreadPoolExecutor(8) as pool:
        ids = [f"A{n % 20}" for n in range(40)]
        results = list(pool.map(lambda saga_id: saga.execute(saga_id=saga_id, store=store).saga_id, ids))
    assert results == ids
    assert order.calls == {"reserve": 20, "charge": 20}


@pytest.mark.parametrize("other", [{"n": 2}, {"n": 1, "m": 1}, {}, {"n": True}, {"n": 1.0}, {"n": "1"}])
def test_another_input_is_refused(store: Store, other: dict[str, Any]) -> None:
    order = Order()
    order.saga().execute({"n": 1}, saga_id="A1", store=store)
    with pytest.raises(SagaIdTakenError, match="with another input"):
        order.saga().execute(other, saga_id="A1", store=store)
    assert order.calls == {"reserve": 1, "charge": 1}


def test_keys_in_another_order_and_sets_in_another_order_are_the_same_input(store: Store) -> None:
    order = Order()
    order.saga().execute({"a": 1, "b": {"x", "y", "z"}}, saga_id="A1", store=store)
    assert order.saga().execute({"b": {"z", "y", "x"}, "a": 1}, saga_id="A1", store=store).ok
    assert order.calls["reserve"] == 1


@dataclass(frozen=True)
class Line:
    parts: Any


def in_two_orders(items: list[Any]) -> list[tuple[Any, Any]]:
    """Return containers of the items, each with an equal one that was filled in the other order."""
    back = items[::-1]
    pairs = [
        (dict.fromkeys(items, 1), dict.fromkeys(back, 1)),
        ({item: dict.fromkeys(items, 1) for item in items}, {item: dict.fromkeys(back, 1) for item in back}),
        (set(items), set(back)),
    ]
    nested = [(kind(one), kind(two)) for one, two in pairs for kind in (lambda held: [held], lambda held: (held,), Line)]
    return [*pairs, *nested, ({1: set(items), "a": 1}, {"a": 1, 1: set(back)})]


ITEMS: list[list[Any]] = [
    ["a", "b"],
    [1, 2],
    [("a",), ("b", 1)],
    [None, 1.5, "x"],
    ["$a", "$b", "$c"],
    [date(2026, 1, 1), date(2025, 1, 1)],
]
ORDERED = [([1, 2], [2, 1]), ((1, 2), (2, 1)), ({1: 2, 3: 4}, {1: 4, 3: 2}), ({1: [1, 2]}, {1: [2, 1]})]


@pytest.mark.parametrize("items", ITEMS, ids=str)
def test_equal_values_in_another_order_are_the_same_input(items: list[Any]) -> None:
    memory = MemoryStore()
    for number, (one, two) in enumerate(in_two_orders(items)):
        assert one == two
        order = Order()
        order.saga().execute({"lines": one}, saga_id=f"A{number}", store=memory)
        assert order.saga().execute({"lines": two}, saga_id=f"A{number}", store=memory).ok
        assert order.calls["reserve"] == 1


@pytest.mark.parametrize(
    ("one", "two"), [([1, 2], [2, 1]), ((1, 2), (2, 1)), ({1: 2, 3: 4}, {1: 4, 3: 2}), ({1: [1, 2]}, {1: [2, 1]})]
)
def test_values_that_have_an_order_are_another_input_in_another(one: Any, two: Any) -> None:
    memory = MemoryStore()
    Order().saga().execute({"lines": one}, saga_id="A1", store=memory)
    with pytest.raises(SagaIdTakenError, match="with another input"):
        Order().saga().execute({"lines": two}, saga_id="A1", store=memory)


class Priced(NamedTuple):
    cents: int


@dataclass
class Shop(Context):
    lines: list[Any]


def with_more(cls: Any, default: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the class as a later version of the program has it: with a field ``more``."""
    names = {"__module__": __name__, "__qualname__": cls.__qualname__}
    if issubclass(cls, tuple):
        made: Any = namedtuple(cls.__name__, [*cls._fields, "more"], defaults=[default], module=__name__)  # type: ignore[misc]
    else:
        added = field(default_factory=lambda: default)
        made = make_dataclass(cls.__name__, [("more", Any, added)], bases=(cls,), namespace=names, frozen=cls is Line)
    monkeypatch.setattr(sys.modules[__name__], cls.__name__, made)
    return made


def started_again(how: str, saga: Saga[Any], context: Any, store: Store) -> Any:
    if how == "execute":
        return saga.execute(context, saga_id="o-1", store=store).saga_id
    if how == "aexecute":
        return asyncio.run(saga.aexecute(context, saga_id="o-1", store=store)).saga_id
    if how == "submit":
        return saga.submit(context, saga_id="o-1", store=store).saga_id
    return asyncio.run(saga.asubmit(context, saga_id="o-1", store=store)).saga_id


@pytest.mark.parametrize("how", ["execute", "aexecute", "submit", "asubmit"])
@pytest.mark.parametrize("cls", [Line, Priced, Shop])
def test_a_field_that_a_class_has_got_makes_no_other_input_where_it_has_its_default(
    how: str, cls: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga = Saga("order").add_task(step(lambda: None, name="a"))

    def made(kind: Any, *more: Any) -> Any:
        inner = kind(7, *more) if kind is not Shop and not issubclass(kind, Context) else Priced(7)
        return kind([inner], *more) if issubclass(kind, Context) else Shop([{"x": inner}])

    saga.execute(made(cls), saga_id="o-1", store=store)
    monkeypatch.setattr(rebuild, "_default_codec", None)  # another process has met none of the classes
    later = with_more(cls, [1], monkeypatch)
    assert started_again(how, saga, made(later), store) == "o-1"
    assert started_again(how, saga, made(later, [1]), store) == "o-1"
    for other in ([2], None):
        with pytest.raises(SagaIdTakenError, match="with another input"):
            started_again(how, saga, made(later, other), store)
    assert [row.status for row in store.list().executions] == ["completed"]


def test_an_input_that_is_read_no_more_is_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saga = Saga("order").add_task(step(lambda: None, name="a"))
    saga.execute({"priced": Priced(7)}, saga_id="o-1", store=store)
    monkeypatch.delattr(sys.modules[__name__], "Priced")
    with pytest.raises(SagaIdTakenError, match="with another input"):
        saga.execute({"priced": 7}, saga_id="o-1", store=store)


def test_another_saga_is_refused(store: Store) -> None:
    Order().saga().execute(saga_id="A1", store=store)
    with pytest.raises(SagaIdTakenError, match="belongs to an execution of saga 'order'; give another"):
        Order().saga("refund").execute(saga_id="A1", store=store)


def test_a_wrong_id_is_refused_before_anything_runs(store: Store) -> None:
    order = Order()
    for wrong in ("", 7, "x" * 201, "a\0b", "\ud800"):
        with pytest.raises(SagaDefinitionError, match="saga 'order': saga_id is "):
            order.saga().execute(saga_id=wrong, store=store)  # type: ignore[arg-type]
    assert not order.calls


def test_who_joins_an_execution_whose_process_died_finishes_it(store: Store) -> None:
    watched = Watched(MemoryStore())
    Order().saga().execute(saga_id="A1", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:2])
    order = Order()
    result = order.saga().execute(saga_id="A1", store=store)
    assert result.results == {"reserve": [1, 2], "charge": "paid"}
    assert order.calls == {"charge": 1}
    assert "SagaRecovered" in journal_of(store, "A1")
    row = store.get("A1")
    assert row is not None
    assert row.recoveries == 0


def test_many_that_join_one_whose_process_died_finish_it_once(store: Store) -> None:
    watched = Watched(MemoryStore())
    Order().saga().execute(saga_id="A1", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:1])
    order = Order()
    saga = order.saga()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: saga.execute(saga_id="A1", store=store).results, range(8)))
    assert results == [{"reserve": [1, 2], "charge": "paid"}] * 8
    assert order.calls == {"reserve": 1, "charge": 1}


def test_who_joins_takes_nothing_over_that_has_ended_meanwhile(store: Store) -> None:
    """The row says that the lease has run out; when it is claimed, somebody else has ended the execution."""
    watched = Watched(MemoryStore())
    with pytest.raises(KeyboardInterrupt):
        asking().execute(saga_id="A1", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes)
    ended = journal_of(store, "A1")
    looks_alive = Watched(store)
    row = store.get("A1")
    assert row is not None
    stale = row._replace(status="compensating")
    looks_alive.create = lambda *args: stale  # type: ignore[method-assign]
    result = within(PATIENCE, lambda: asking().try_execute(saga_id="A1", store=looks_alive))  # type: ignore[arg-type]
    assert result.status is Status.STUCK
    assert result.reason == "in doubt, and the task says ASK: a"
    assert journal_of(store, "A1") == ended
    row = store.get("A1")
    assert row is not None
    assert row.owner is None


def asking() -> Saga:
    def interrupted() -> None:
        raise KeyboardInterrupt

    return Saga("asking").add_task(step(interrupted, lambda: None, name="a", in_doubt=InDoubt.ASK))


def test_one_of_another_definition_is_not_joined_and_not_kept(store: Store) -> None:
    watched = Watched(MemoryStore())
    Order().saga().execute(saga_id="A1", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:1])
    other = Saga("order", version="2").add_task(step(lambda: 1, name="other"))
    with pytest.raises(DefinitionChangedError):
        other.execute(saga_id="A1", store=store)
    assert Order().saga().execute(saga_id="A1", store=store).ok  # at once: the lease was given back


def test_one_that_is_purged_while_waited_for_is_told(store: Store) -> None:
    watched = Watched(MemoryStore())
    Order().saga().execute(saga_id="A1", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:1])
    (row,) = store.claim("alive", 60.0, saga_id="A1")
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(Order().saga().execute, saga_id="A1", store=store)
        time.sleep(0.05)
        store.append(Lease("A1", "alive", row.epoch), [], status="stuck", release=True)
        if not joined.done():
            store.purge(updated_before=store.now() + 60, status=["stuck"])
        with pytest.raises((StorageError, SagaExecutionException)):
            joined.result(PATIENCE)


def test_who_joins_one_that_was_purged_is_told(store: Store) -> None:
    with pytest.raises(UnknownExecutionError, match="execution 'A1' was purged"):
        join(Order().saga(), Execution, "A1", store)


def test_one_that_is_purged_while_it_is_read_is_unknown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saga = Order().saga()
    saga.execute(saga_id="A1", store=store)
    row = store.get("A1")
    rows = [row, None]
    monkeypatch.setattr(store, "get", lambda saga_id: rows.pop(0))
    monkeypatch.setattr(store, "journal", lambda saga_id: [])
    with pytest.raises(UnknownExecutionError, match="execution 'A1' was purged"):
        saga.load("A1", store=store)


def test_a_store_may_be_given_as_a_path(tmp_path: Path) -> None:
    order = Order()
    path = tmp_path / "saga.db"
    order.saga(store=path).execute(saga_id="A1")
    order.saga().execute(saga_id="A1", store=path)
    order.saga().execute(saga_id="A1", store=str(path))
    order.saga(store=f"sqlite:///{path}").execute(saga_id="A1")
    assert order.calls == {"reserve": 1, "charge": 1}
    with SqliteStore(path) as store:
        assert store.get("A1") is not None


def test_the_store_of_one_execution_wins_over_the_sagas(new_store: Any) -> None:
    usual, other = new_store(), new_store()
    saga = Order().saga(store=usual)
    saga.execute(saga_id="A1", store=other)
    assert usual.get("A1") is None
    saga.execute(saga_id="A1")
    assert usual.get("A1").status == other.get("A1").status == "completed"


def test_a_stream_is_stored_and_joined(store: Store) -> None:
    order = Order()
    saga = order.saga()
    streamed = [(record.name, record.status) for record in saga.stream(saga_id="A1", store=store)]
    assert streamed == [("reserve", StepStatus.SUCCEEDED), ("charge", StepStatus.SUCCEEDED)]
    assert [(record.name, record.status) for record in saga.stream(saga_id="A1", store=store)] == streamed
    assert order.calls == {"reserve": 1, "charge": 1}


def test_a_stream_that_joins_a_failure_raises_it(store: Store) -> None:
    saga = Order("failed").saga()
    for _ in range(2):
        records = saga.stream(saga_id="A1", store=store)
        seen = {next(records).name for _ in range(2)}
        with pytest.raises(SagaExecutionException):
            list(records)
        assert seen == {"reserve", "charge"}


def test_leaving_a_stream_early_undoes_it_in_the_store_too(store: Store) -> None:
    order = Order()
    records = order.saga().stream(saga_id="A1", store=store)
    next(records)
    records.close()  # type: ignore[attr-defined]
    assert order.calls == {"reserve": 1, "free": 1}
    row = store.get("A1")
    assert row is not None
    assert (row.status, row.owner) == ("compensated", None)
