"""Somebody is told of each execution that is stuck: once, whoever runs it, and at least once whoever dies."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from saga import Saga, Status, step
from saga.alerts import HELD, Alerts, Beside
from saga.errors import SagaDefinitionError, StorageError
from saga.operations import ExecutionView, Operations
from saga.recovery import Recovery
from saga.storage import Entry, Lease, MemoryStore, SqliteStore, Store, StoredExecution
from saga.worker import Worker
from tests.kit import LONG, until


def fails() -> None:
    raise ValueError("the bank is down")


async def afails() -> None:
    raise ValueError("the bank is down")


def order(store: Store | None = None) -> Saga:
    """Return a saga that is always stuck: what its first step did is not undone."""
    return Saga("order", store=store).add_task(step(lambda: 1, fails, name="pay")).add_task(step(fails, name="pack"))


def aorder(store: Store | None = None) -> Saga:
    """The same, with tasks that are awaited."""
    return Saga("order", store=store).add_task(step(lambda: 1, afails, name="pay")).add_task(step(afails, name="pack"))


class Told:
    """Notes what it is called with; raises what it is to raise first."""

    def __init__(self, *errors: BaseException) -> None:
        self.views: list[ExecutionView] = []
        self.errors = list(errors)
        self.loops: set[asyncio.AbstractEventLoop] = set()

    @property
    def ids(self) -> list[str]:
        return [view.execution.saga_id for view in self.views]

    def __call__(self, row: StoredExecution, view: ExecutionView) -> None:
        assert row.saga_id == view.execution.saga_id
        assert row.status == view.execution.status == Status.STUCK
        self.views.append(view)
        if self.errors:
            raise self.errors.pop(0)

    async def awaited(self, row: StoredExecution, view: ExecutionView) -> None:
        await asyncio.sleep(0)
        self.loops.add(asyncio.get_running_loop())
        self(row, view)


def submitted(store: Store) -> None:
    order(store).submit(saga_id="x")


def awaited(store: Store) -> None:
    aorder(store).submit(saga_id="x")


def run_elsewhere(store: Store) -> None:
    order(store).try_execute(saga_id="x")


def unreadable(store: Store) -> None:
    order(store).submit(saga_id="x")
    (row,) = store.claim("dead", -1.0)
    store.append(Lease("x", "dead", row.epoch), [Entry(2, "Nonsense", None, "{", 0.0)])


def of_another_version(store: Store) -> None:
    Saga("order", store=store, version="0").add_task(step(fails, name="other")).submit(saga_id="x")


STUCK = [submitted, awaited, run_elsewhere, unreadable, of_another_version]


@pytest.mark.parametrize("stuck", STUCK, ids=lambda one: one.__name__)
def test_of_whatever_becomes_stuck_a_worker_tells_once(store: Store, stuck: Callable[[Store], None]) -> None:
    stuck(store)
    told = Told()
    saga = aorder() if stuck is awaited else order()
    for _ in range(2):
        Worker(store, [saga], on_stuck=told, unfit_after=0, max_attempts=1).run_once()
    assert told.ids == ["x"]
    assert told.views[0].reason
    assert stuck is unreadable or told.views[0].offers


def test_nobody_is_told_of_others(store: Store) -> None:
    told = Told()
    saga = Saga("s", store=store).add_task(step(lambda: 1, name="a"))
    undone = Saga("t", store=store).add_task(step(fails, name="a"))
    saga.submit(saga_id="x")
    undone.submit(saga_id="y")
    assert len(Worker(store, [saga, undone], on_stuck=told).run_once()) == 2
    assert told.ids == []


def once(worker: Worker) -> None:
    worker.run_once()


def aonce(worker: Worker) -> None:
    asyncio.run(worker.arun_once())


def on_and_on(worker: Worker) -> None:
    told: Told = getattr(worker, "told")  # noqa: B009
    thread = threading.Thread(target=lambda: worker.run(interval=0.01))
    thread.start()
    until(lambda: len(told.ids) >= 2)
    worker.stop()
    thread.join(60)


def aon_and_on(worker: Worker) -> None:
    told: Told = getattr(worker, "told")  # noqa: B009

    async def run() -> None:
        task = asyncio.create_task(worker.arun(interval=0.01))
        while len(told.ids) < 2:
            await asyncio.sleep(0.01)
        worker.stop()
        await task
        assert told.loops in (set(), {asyncio.get_running_loop()})

    asyncio.run(run())


@pytest.mark.parametrize("run", [once, aonce, on_and_on, aon_and_on], ids=lambda one: one.__name__)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", [Worker, Recovery])
def test_it_is_called_in_whatever_way_the_worker_runs(
    kind: type[Worker], asynchronous: bool, run: Callable[[Worker], None]
) -> None:
    store, told = MemoryStore(), Told()
    for saga_id in "xy":
        order(store).try_execute(saga_id=saga_id)
    worker = kind(store, [order()], on_stuck=told.awaited if asynchronous else told)
    worker.told = told  # type: ignore[attr-defined]
    run(worker)
    assert sorted(told.ids) == ["x", "y"]
    assert len(told.loops) == asynchronous
    assert store.next_alert(60.0) is None


async def later(row: StoredExecution, view: ExecutionView) -> AsyncIterator[None]:
    yield


def also_later(row: StoredExecution, view: ExecutionView) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (1, "on_stuck is 1; give a function"),
        (lambda row: None, r"cannot be called with \(execution, view\)"),
        (later, "is a generator function"),
        (also_later, "is a generator function"),
    ],
)
def test_what_cannot_be_called_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(SagaDefinitionError, match=f"Worker: .*{says}"):
        Worker(MemoryStore(), [order()], on_stuck=wrong)
    with pytest.raises(SagaDefinitionError, match=f"Alerts: .*{says}"):
        Alerts(MemoryStore(), wrong)


class Growing:
    """A backoff.

    :param seconds: of the first pause; the second is twice as long, and so on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        return self.seconds * attempt


class Clocked(MemoryStore):
    """A store whose time goes on when it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0
        super().__init__(clock=lambda: self.time)


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), TimeoutError(), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_it_raises_is_logged_and_it_is_called_again_later(
    caplog: pytest.LogCaptureFixture, asynchronous: bool, error: BaseException
) -> None:
    store, told = Clocked(), Told(error)
    order(store).try_execute(saga_id="x")
    order(store).try_execute(saga_id="y")
    worker = Worker(store, [order()], on_stuck=told.awaited if asynchronous else told, backoff=7.0)
    worker.run_once()
    assert told.ids == ["x", "y"]
    assert "saga order (x) is stuck, and nobody was told" in caplog.text
    assert "trying again in 7 s" in caplog.text
    worker.run_once()
    store.time += 8
    worker.run_once()
    worker.run_once()
    assert told.ids == ["x", "y", "x"]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_what_it_raises_ends_no_event_loop(error: BaseException) -> None:
    store, told = MemoryStore(), Told(error)
    order(store).try_execute(saga_id="x")
    worker = Worker(store, [order()], on_stuck=told.awaited, backoff=0.01)
    worker.told = told  # type: ignore[attr-defined]
    aon_and_on(worker)
    assert told.ids == ["x", "x"]


def test_a_ctrl_c_ends_the_look_and_what_was_not_told_is_told_at_once_by_the_next() -> None:
    store, told = MemoryStore(), Told(KeyboardInterrupt())
    order(store).try_execute(saga_id="x")
    with pytest.raises(KeyboardInterrupt):
        Alerts(store, told).look()
    assert Alerts(store, told).look() == 1
    assert told.ids == ["x", "x"]


def test_a_ctrl_c_in_a_coroutine_function_ends_the_look_too() -> None:
    """Python cancels what runs in the event loop then."""
    store, told = MemoryStore(), list[str]()
    order(store).try_execute(saga_id="x")
    order(store).try_execute(saga_id="y")

    async def interrupted(row: StoredExecution, view: ExecutionView) -> None:
        told.append(row.saga_id)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(LONG)

    with pytest.raises(KeyboardInterrupt):
        Alerts(store, interrupted).look()
    assert told == ["x"]


@pytest.mark.parametrize("returned", [also_later(None, None), [asyncio.sleep]], ids=["a generator", "a list"])
def test_what_it_returns_has_run(caplog: pytest.LogCaptureFixture, returned: Any) -> None:
    store = MemoryStore()
    order(store).try_execute(saga_id="x")
    done = Alerts(store, lambda row, view: returned).look()
    assert done == isinstance(returned, list)
    assert ("on_stuck returned a generator" in caplog.text) == (done == 0)


def test_one_that_fails_at_once_keeps_no_look_from_its_end() -> None:
    store, told = MemoryStore(), Told(*[ValueError("no")] * 100)
    order(store).try_execute(saga_id="x")
    alerts = Alerts(store, told, backoff=Growing(0.0))
    assert alerts.look() == 0
    assert alerts.look() == 0
    assert told.ids == ["x", "x"]


def test_the_pauses_grow(caplog: pytest.LogCaptureFixture) -> None:
    store, told = Clocked(), Told(*[ValueError("no")] * 3)
    order(store).try_execute(saga_id="x")
    alerts = Alerts(store, told, backoff=Growing(10.0))
    for _ in range(5):
        alerts.look()
        store.time += 100
    assert [f"in {seconds} s" in caplog.text for seconds in (10, 20, 30, 40)] == [True, True, True, False]
    assert told.ids == ["x"] * 4


def test_what_the_store_has_not_heard_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    store, told = Clocked(), Told()
    order(store).try_execute(saga_id="x")

    def gone(*args: Any, **kwargs: Any) -> None:
        raise StorageError("gone")

    store.alerted = gone  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="gone"):
        Alerts(store, told).look()
    del store.alerted
    assert Alerts(store, told).look() == 0
    store.time += HELD + 1
    assert Alerts(store, told).look() == 1
    assert told.ids == ["x", "x"]


def test_it_may_act_and_is_called_again_where_that_does_not_help(store: Store) -> None:
    saga = order(store)
    saga.try_execute(saga_id="x")
    told = Told()

    def acts(row: StoredExecution, view: ExecutionView) -> None:
        told(row, view)
        if len(told.ids) < 3:
            Operations(store, "bot").retry(row.saga_id, "perhaps the bank is up")

    worker = Worker(store, [saga], on_stuck=acts)
    for _ in range(5):
        worker.run_once()
    assert told.ids == ["x"] * 3


def test_an_event_loop_is_made_where_one_is_needed_and_is_not_the_thread_s(monkeypatch: pytest.MonkeyPatch) -> None:
    store, told = MemoryStore(), Told()
    order(store).try_execute(saga_id="x")
    made: list[asyncio.AbstractEventLoop] = []
    make = asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: made.append(make()) or made[-1])
    monkeypatch.setattr(asyncio, "set_event_loop", lambda loop: pytest.fail("whose it is"))
    assert Alerts(store, told).look() == 1
    assert made == []
    order(store).try_execute(saga_id="y")
    assert Alerts(store, told.awaited).look() == 1
    assert [loop.is_closed() for loop in made] == [True]


def test_of_what_somebody_has_acted_on_meanwhile_nobody_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for saga_id in "xyz":
        order(store).try_execute(saga_id=saga_id)
    told: list[str] = []
    show = Operations.show

    def late(self: Operations, saga_id: str) -> ExecutionView:
        if saga_id == "x":
            Operations(store, "ann").retry("x", "the bank is up")
        elif saga_id == "y":
            assert store.purge(updated_before=store.now() + 60, status=["stuck"]) > 0
        return show(self, saga_id)

    monkeypatch.setattr(Operations, "show", late)
    assert Alerts(store, lambda row, view: told.append(row.saga_id)).look() == 0
    assert told == []


def test_many_who_watch_tell_each_once(store: Store) -> None:
    for number in range(20):
        order(store).try_execute(saga_id=f"x{number}")
    told, stop = Told(), threading.Event()
    watching = [threading.Thread(target=lambda: Alerts(store, told).run(stop, interval=0.01)) for _ in range(4)]
    for one in watching:
        one.start()
    until(lambda: len(told.ids) >= 20)
    stop.set()
    for one in watching:
        one.join(60)
    assert sorted(told.ids) == sorted(f"x{number}" for number in range(20))


def test_a_store_that_fails_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    store, told, stop = MemoryStore(), Told(), threading.Event()
    order(store).try_execute(saga_id="x")
    ask, faults = store.next_alert, [StorageError("gone"), RuntimeError("a bug")]

    def fails_first(seconds: float) -> StoredExecution | None:
        if faults:
            raise faults.pop(0)
        return ask(seconds)

    store.next_alert = fails_first  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: Alerts(store, told).run(stop, interval=0.01))
    thread.start()
    until(lambda: told.ids)
    stop.set()
    thread.join(60)
    assert "alerts: gone; trying again soon" in caplog.text
    assert "alerts: a bug; trying again soon" in caplog.text


def test_a_worker_that_stops_waits_for_a_call_no_longer_than_its_grace(gate: Any) -> None:
    store, told = MemoryStore(), Told()

    def waits(row: StoredExecution, view: ExecutionView) -> None:
        told(row, view)
        gate.hold()

    for saga_id in "xy":
        order(store).try_execute(saga_id=saga_id)
    worker = Worker(store, [order()], on_stuck=waits, grace=0.05)
    thread = threading.Thread(target=lambda: worker.run(interval=0.01))
    thread.start()
    until(lambda: told.ids)
    worker.stop()
    thread.join(60)
    assert not thread.is_alive()
    gate.open()
    until(lambda: store.get("x").due > 1e12)  # that call has ended well, and no other has begun
    assert told.ids == ["x"]


def test_an_event_loop_that_is_closed_keeps_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    store, begun = MemoryStore(), threading.Event()
    order(store).try_execute(saga_id="x")

    async def never(row: StoredExecution, view: ExecutionView) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(Worker(store, [order()], on_stuck=never, grace=0.05).arun(interval=0.01))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with caplog.at_level(logging.CRITICAL + 1):
        asyncio.run(run())
    assert store.get("x").due < 1e12


def test_in_a_closed_event_loop_nobody_is_told(caplog: pytest.LogCaptureFixture) -> None:
    store, told = MemoryStore(), Told()
    order(store).try_execute(saga_id="x")
    loop = asyncio.new_event_loop()
    loop.close()
    Beside(Alerts(store, told.awaited), loop, None).join()
    assert told.ids == []
    assert "Event loop is closed" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from saga.alerts import Alerts
from tests.durable.test_alerts import order
from saga.worker import Worker

def told(row, view):
    with open(sys.argv[2], "a") as file:
        print(row.saga_id, file=file, flush=True)
    if sys.argv[3] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)

Worker(sys.argv[1], [order()], on_stuck=told).run_once()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_one_whose_teller_was_killed_is_told_by_another(tmp_path: Path) -> None:
    path, told = tmp_path / "saga.db", tmp_path / "told"

    def work(how: str) -> int:
        command = [sys.executable, "-c", KILLED, str(path), str(told), how]
        root = str(Path(__file__).parents[2])
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, timeout=60, check=False).returncode

    with SqliteStore(path) as store:
        for saga_id in "xy":
            order(store).submit(saga_id=saga_id)
    assert work("dies") == -signal.SIGKILL
    assert work("lives") == 0  # the other is told; of the first nobody knows yet
    first = told.read_text().split()[0]
    assert sorted(told.read_text().split()) == ["x", "y"]
    with SqliteStore(path, clock=lambda: time.time() + HELD + 5) as store:
        again = Told()
        Worker(store, [order()], on_stuck=again).run_once()
        assert again.ids == [first]
        Worker(store, [order()], on_stuck=again).run_once()
        assert again.ids == [first]
