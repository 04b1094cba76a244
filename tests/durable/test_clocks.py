"""Clocks that are wrong, set, frozen or moved: nothing waits longer than it was to, hangs, or loses its lease."""

from __future__ import annotations

import asyncio
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from saga import Retry, Saga, Status, receive, step, timer
from saga.machine.waits import left_of
from saga.recovery import Recovery
from saga.storage import MemoryStore, NewExecution, SqliteStore, Store, sqlite_file
from saga.storage.retrying import Patience
from saga.storage.watching import Watch
from tests.kit import within
from tests.kit.databases import Stored

HOUR = 3600.0


@pytest.mark.parametrize(
    ("since", "now", "left"),
    [
        (100.0, 100.0, 5.0),
        (100.0, 103.0, 2.0),
        (100.0, 105.0, 0.0),
        (100.0, 200.0, 0.0),
        (100.0, 99.0, 5.0),
        (100.0, -HOUR, 5.0),
    ],
)
def test_what_is_left_is_never_more_than_all(since, now, left):
    assert left_of(5.0, since, now) == left


# --- the clock of the process that died was ahead


def _fails() -> None:
    raise ValueError("no")


WAITS: dict[str, tuple[Callable[[Store], Saga], str]] = {
    "a timer": (lambda store: Saga("w", store=store).add_task(timer(0.05)), "StepStarted"),
    "a signal": (lambda store: Saga("w", store=store).add_task(receive("x", timeout=0.05)), "StepStarted"),
    "a pause": (lambda store: Saga("w", store=store).add_task(step(_fails, name="a", retry=Retry(2, 0.05))), "RetryScheduled"),
    "a pause of an undo": (
        lambda store: (
            Saga("w", store=store)
            .add_task(step(lambda: 1, _fails, name="a", compensation_retry=Retry(2, 0.05)))
            .add_task(step(_fails, name="b"))
        ),
        "RetryScheduled",
    ),
    "the saga's own timeout": (lambda store: Saga("w", store=store, timeout=0.05).add_task(timer(0.5)), "StepStarted"),
}


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
@pytest.mark.parametrize("what", WAITS)
def test_a_wait_is_no_longer_for_a_clock_that_was_wrong(what, ahead):
    make, kind = WAITS[what]
    before = MemoryStore()
    make(before).try_execute(saga_id="x")
    journal = before.journal("x")
    last = [entry.kind for entry in journal].index(kind) + 1
    row = before.get("x")
    assert row is not None
    found = MemoryStore()
    status = "compensating" if any(entry.kind == "SagaCompensating" for entry in journal[:last]) else "running"
    new = NewExecution("x", row.name, row.version, row.fingerprint, row.digest, status)
    found.create(new, [entry._replace(at=entry.at + ahead) for entry in journal[:last]], "who died", -1.0)
    within(30, lambda: Recovery(found, [make(found)]).run_once())
    ended = found.get("x")
    assert ended is not None
    assert Status(ended.status).terminal  # else it was parked, for an hour


# --- the time of day is set


@pytest.fixture
def set_time(monkeypatch) -> Callable[[float], None]:
    """Set the host's time of day: so many seconds ahead."""
    real = time.time

    def ahead(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return ahead


@pytest.mark.skipif(sqlite_file.boot() is None, reason="nothing says here when the host was started")
@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_in_sqlite_a_clock_that_is_set_ends_and_lengthens_no_lease(tmp_path, set_time, ahead):
    with SqliteStore(tmp_path / "saga.db") as one:
        Stored.create(one, "live", lease=60.0)
        Stored.create(one, "dead", lease=-1.0)
        set_time(ahead)
        with SqliteStore(tmp_path / "saga.db") as other:  # another process, which begins later
            assert abs(other.now() - one.now()) < 60.0
            assert other.claim("b", 60.0, saga_id="live") == []
            assert [row.saga_id for row in other.claim("b", 60.0, limit=10)] == ["dead"]


def test_in_sqlite_a_host_that_was_started_again_has_its_clocks_time(tmp_path, set_time, monkeypatch):
    started = [1000.0]
    monkeypatch.setattr(sqlite_file, "since_boot", lambda: started[0])
    monkeypatch.setattr("saga.storage.sqlite_tables.since_boot", lambda: started[0])
    monkeypatch.setattr(sqlite_file, "boot", lambda: "first")
    path, leases = tmp_path / "saga.db", {}
    with SqliteStore(path) as store:
        leases = {saga_id: Stored.create(store, saga_id, lease=30.0) for saga_id in "ab"}
        store.release(leases["b"], delay=20.0)
        Stored.create(store, "ended", status="completed")
    monkeypatch.setattr(sqlite_file, "boot", lambda: "second")
    started[0] = 10.0
    set_time(-HOUR)  # it was ahead
    with SqliteStore(path) as store:
        assert store.now() == pytest.approx(time.time(), abs=60)
        left = {saga_id: store.get(saga_id).due - store.now() for saga_id in "ab"}
        assert left == {"a": pytest.approx(30.0, abs=0.01), "b": pytest.approx(20.0, abs=0.01)}
        assert store.get("a").lease_until == pytest.approx(store.now() + 30.0, abs=0.01)
        assert store.get("ended").status == "completed"
        started[0] += 31.0
        assert {row.saga_id for row in store.claim("b", 60.0, limit=10)} == {"a", "b"}


def test_in_sqlite_it_is_the_time_of_day_where_nothing_says_when_the_host_was_started(tmp_path, set_time, monkeypatch):
    monkeypatch.setattr(sqlite_file, "boot", lambda: None)
    with SqliteStore(tmp_path / "saga.db") as store:
        set_time(HOUR)
        assert store.now() == pytest.approx(time.time(), abs=60)


def test_in_memory_a_clock_that_is_set_changes_nothing(set_time):
    store = MemoryStore()
    before = store.now()
    set_time(HOUR)
    assert before <= store.now() < before + 60


# --- tests that freeze or move the time


def _frozen() -> AbstractContextManager[Any]:
    return pytest.importorskip("freezegun").freeze_time("2026-01-14", real_asyncio=True)


def _moved() -> AbstractContextManager[Any]:
    return pytest.importorskip("time_machine").travel("2026-01-14", tick=False)


def _moved_on() -> AbstractContextManager[Any]:
    return pytest.importorskip("time_machine").travel(datetime.datetime(2126, 1, 14), tick=True)


@pytest.fixture(params=[_frozen, _moved, _moved_on])
def another_time(request) -> Callable[[], AbstractContextManager[Any]]:
    return request.param


@contextmanager
def _stores(kind: str | None, tmp_path) -> Iterator[Store | None]:
    if kind is None:
        yield None
    else:
        with MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "saga.db") as store:
            yield store


async def _slow() -> None:
    await asyncio.sleep(30)


def _retried(calls: list[str]) -> Callable[[], int]:
    def work() -> int:
        calls.append("call")
        if len(calls) < 3:
            raise ValueError("not yet")
        return len(calls)

    return work


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", [None, "memory", "sqlite"])
def test_nothing_hangs_in_another_time(another_time, kind, asynchronous, tmp_path, log):
    def execute(saga: Saga) -> Any:
        return asyncio.run(saga.atry_execute()) if asynchronous else saga.try_execute()

    def all_of_it() -> list[Any]:
        with _stores(kind, tmp_path) as store, another_time():
            retried = Saga("retried", store=store).add_task(step(_retried(log), name="a", retry=Retry(3, 0.01)))
            waits = Saga("waits", store=store, timeout=30.0).add_task(timer(0.01))
            late = _slow if asynchronous else lambda: threading.Event().wait(0.3)
            cut = Saga("cut", store=store).add_task(step(late, lambda: None, name="a", timeout=0.05))
            over = Saga("over", store=store, timeout=0.05).add_task(timer(30.0))
            return [execute(one) for one in (retried, waits, cut, over)]

    retried, waits, cut, over = within(60, all_of_it)
    assert [one.status for one in (retried, waits)] == [Status.COMPLETED] * 2
    assert isinstance(cut.error, TimeoutError)
    assert isinstance(over.error, TimeoutError)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_execution_keeps_its_lease_when_the_time_moves(another_time, kind, tmp_path):
    with _stores(kind, tmp_path) as store:
        others: list[list[Any]] = []

        def meanwhile() -> None:
            with another_time():
                others.append(store.claim("another", 60.0, saga_id="x"))

        saga = Saga("order", store=store).add_task(step(meanwhile, name="a")).add_task(step(lambda: 1, name="b"))
        assert within(60, lambda: saga.execute(saga_id="x")).status is Status.COMPLETED
    assert others == [[]]


def test_a_recovery_finishes_what_died_in_another_time(another_time):
    store = MemoryStore()
    saga = Saga("order", store=store).add_task(step(lambda: 1, name="a"))
    with another_time():
        saga.execute(saga_id="first")
        row = store.get("first")
        new = NewExecution("x", row.name, row.version, row.fingerprint, row.digest, "running")
        store.create(new, store.journal("first")[:2], "who died", -1.0)
        [result] = within(60, Recovery(store, [saga]).run_once)
    assert result.status.terminal


def test_moments_of_another_time_are_stored(another_time):
    with another_time():
        now, today = datetime.datetime.now(), datetime.date.today()
        saga = Saga("order", store=MemoryStore()).add_task(step(lambda: [now, today], name="a"))
        result = saga.execute({"at": now, "day": today})
    assert result.results["a"] == [now, today]
    assert (result.context["at"], result.context["day"]) == (now, today)
    assert Saga("order", store=MemoryStore()).add_task(step(lambda: now, name="a")).execute().results["a"] == now


def test_patience_ends_in_another_time(another_time):
    with another_time():
        patience = Patience(0.6)
        for _ in range(20):
            if patience.ends():
                return
            patience.wait()
    pytest.fail("no end")


def _deep(call: Callable[[], Any], frames: int = 5) -> Any:
    """Call it from a depth where freezegun does not take it for the code of the thread that it is in, which has the time."""
    return _deep(call, frames - 1) if frames else call()


def test_what_waits_for_work_waits_as_long_as_it_is_told_in_another_time(another_time):
    watch = Watch(MemoryStore())
    try:
        with another_time():
            assert within(30, lambda: _deep(lambda: watch.wait(0.01))) is False
    finally:
        watch.close()


def test_the_result_of_what_runs_elsewhere_is_waited_for_as_long_as_it_is_told_in_another_time(another_time):
    store = MemoryStore()
    handle = Saga("s", store=store).add_task(step(lambda: 1, name="a")).submit()
    with another_time(), pytest.raises(TimeoutError):
        within(30, lambda: handle.result(timeout=0.01))
