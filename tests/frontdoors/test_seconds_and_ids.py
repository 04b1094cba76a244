"""Seconds may be a ``timedelta`` and ids a ``UUID``, wherever either is meant; a store may be a ``Path``."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from saga import (
    Context,
    ExponentialBackoff,
    Retry,
    Saga,
    Status,
    Submission,
    Task,
    parallel,
    receive,
    receive_first,
    step,
    timer,
    transaction,
)
from saga.alerts import Alerts
from saga.callouts import command, webhook
from saga.errors import SagaDefinitionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, SqliteStore
from saga.testing import debug
from saga.worker import Worker

HALF, ID = timedelta(milliseconds=1500), UUID(int=7)


def nothing() -> None:
    pass


class Timed(Task[None]):
    timeout = HALF
    compensation_timeout = HALF

    def execute(self, context: Context) -> None:
        pass

    def compensate(self, context: Context) -> None:
        pass


class Declared(Saga):
    timeout = lease = undoable_for = step_timeout = compensation_timeout = HALF
    flow = step(nothing, nothing)


def saga_of(flow: Any = None, **options: Any) -> Saga:
    return Saga("s", **options).add_task(step(nothing, nothing) if flow is None else flow)


def waits(flow: Any) -> Any:
    last = saga_of(flow).plan.steps[-1]
    return last.timeout if last.pause is None else last.pause.seconds


def planned(saga: Saga) -> list[Any]:
    return [saga.plan.steps[0].timeout, saga.plan.steps[0].compensation_timeout]


def busy_timeout_of(given: timedelta) -> Any:
    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder, "saga.db"), busy_timeout=given) as store:
        return store._file._busy_timeout


class Backs:
    def delay(self, attempt: int, fraction: float, error: BaseException) -> Any:
        return HALF


#: What has become of a limit of a second and a half, wherever one is taken.
TAKEN: dict[str, Callable[[], Any]] = {
    "Saga": lambda: [getattr(saga_of(timeout=HALF, lease=HALF).definition, name) for name in ("timeout", "lease")],
    "Saga for each step": lambda: planned(saga_of(step_timeout=HALF, compensation_timeout=HALF)),
    "a declared saga": lambda: [
        *(getattr(Declared().definition, name) for name in ("timeout", "lease", "undoable_for")),
        *planned(Declared()),
    ],
    "undoable_for": lambda: saga_of(undoable_for=HALF).definition.undoable_for,
    "transaction": lambda: transaction("t", lease=HALF)._definition.lease,
    "step": lambda: planned(saga_of(step(nothing, nothing, timeout=HALF, compensation_timeout=HALF))),
    "Task": lambda: planned(saga_of(Timed())),
    "in parallel": lambda: waits(parallel(step(nothing, timeout=HALF), step(nothing, name="b", timeout=HALF))),
    "receive": lambda: waits(receive("paid", timeout=HALF)),
    "receive_first": lambda: waits(receive_first("paid", "called", timeout=HALF)),
    "timer": lambda: waits(timer(HALF)),
    "Retry": lambda: [getattr(Retry(backoff=HALF, max_elapsed=HALF), name) for name in ("backoff", "max_elapsed")],
    "ExponentialBackoff": lambda: [getattr(ExponentialBackoff(HALF, cap=HALF), name) for name in ("initial", "cap")],
    "a backoff's wait": lambda: Retry(backoff=Backs()).delay(1, 0.5, ValueError()),
    "an exponential backoff's wait": lambda: ExponentialBackoff(HALF, cap=HALF).delay(3, 0.5, ValueError()),
    "Worker": lambda: [
        getattr(Worker(MemoryStore(), [saga_of()], grace=HALF, unfit_after=HALF, backoff=HALF), name)
        for name in ("grace", "_unfit_after", "_backoff")
    ],
    "Recovery": lambda: Recovery(MemoryStore(), [saga_of()], backoff=HALF)._backoff,
    "Alerts": lambda: [Alerts(MemoryStore(), lambda row, view, group: None, group=HALF, backoff=HALF)._retry.backoff],
    "SqliteStore": lambda: busy_timeout_of(HALF),
}


@pytest.mark.parametrize("where", TAKEN)
def test_seconds_may_be_a_timedelta(where: str) -> None:
    found = TAKEN[where]()
    assert all(one == 1.5 for one in (found if isinstance(found, list) else [found])), found


def test_what_waits_may_be_told_so_by_a_timedelta() -> None:
    store = MemoryStore()
    saga = saga_of()
    handle = saga.submit(store=store)
    with pytest.raises(TimeoutError, match=r"within 0\.001 s"):
        handle.result(timedelta(milliseconds=1))
    worker = Worker(store, [saga])
    worker.stop()
    worker.run(interval=HALF)
    worker.run_once()
    result = handle.result(HALF)
    assert result.join(HALF) is result
    assert asyncio.run(result.ajoin(HALF)) is result
    page = Operations(store, "ann").list(older_than=timedelta(0), newer_than=timedelta(hours=1), idle_for=timedelta(0))
    assert len(page.executions) == 1
    assert Operations(store, "ann").purge(older_than=HALF) == 0
    assert Operations(store, "ann").purge(older_than=timedelta(0)) == 1


def test_what_is_called_out_may_take_a_timedelta() -> None:
    store = MemoryStore()
    operations = Operations(store, "ann", sagas=[saga := saga_of()])
    saga.execute(saga_id="x", store=store)
    stuck = operations.get("x"), operations.show("x")
    command(f'"{sys.executable}" -c 0', timeout=timedelta(minutes=1))(*stuck)
    with pytest.raises(TimeoutError, match=r"longer than 0\.05 s"):
        command(f'"{sys.executable}" -c "import time; time.sleep(60)"', timeout=timedelta(milliseconds=50))(*stuck)
    with pytest.raises(OSError, match="refused"):
        webhook("http://127.0.0.1:1/", timeout=HALF)(*stuck)


@pytest.mark.parametrize("given", [timedelta(0), -HALF])
def test_a_timedelta_that_is_no_limit_is_refused(given: timedelta) -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: Saga("s", timeout=given),
        lambda: Saga("s", lease=given),
        lambda: step(nothing, timeout=given),
        lambda: receive("paid", timeout=given),
        lambda: Worker(MemoryStore(), [saga_of()], grace=-HALF),
        lambda: ExponentialBackoff(-HALF),
        lambda: Retry(backoff=-HALF),
    ]
    for make in wrong:
        with pytest.raises(SagaDefinitionError, match=re.escape("datetime.timedelta(")):
            make()


# -- ids --------------------------------------------------------------------------------------------------------------


def test_an_id_may_be_a_uuid_wherever_one_is_meant(tmp_path: Path) -> None:
    store = tmp_path / "saga.db"
    saga = saga_of(store=store)
    got = [
        saga.execute(saga_id=ID).saga_id,
        saga.try_execute(saga_id=ID).saga_id,
        asyncio.run(saga.aexecute(saga_id=ID)).saga_id,
        asyncio.run(saga.atry_execute(saga_id=ID)).saga_id,
        saga.submit(saga_id=ID).saga_id,
        saga.submit_many([Submission(saga_id=ID)])[0].saga_id,
        saga.load(ID).saga_id,
        saga.handle(ID).saga_id,
        debug(ID, saga).saga_id,
    ]
    assert list(saga.stream(saga_id=ID))
    operations = Operations(store, "ann", sagas=[saga])
    got += [operations.get(ID).saga_id, operations.show(ID).execution.saga_id]
    assert saga.undo(ID, "not wanted").status is Status.COMPENSATED
    assert got == [str(ID)] * len(got)
    with transaction("t", saga_id=UUID(int=8), store=store) as block:
        pass
    assert block.saga_id == str(UUID(int=8))


def test_a_person_acts_on_an_id_that_is_a_uuid() -> None:
    store = MemoryStore()
    saga = saga_of(receive("paid"))
    operations = Operations(store, "ann", sagas=[saga])
    saga.submit(saga_id=ID, store=store)
    operations.pause(ID, "wait")
    operations.resume(ID, "go on")
    operations.signal(ID, "paid", "seen", 7)
    assert not saga.signal_or_start(ID, "paid", 7, store=store).new
    assert [acted.saga_id for acted in operations.each("cancel", "no need", [ID])] == [str(ID)]
    assert [row.saga_id for row in store.list().executions] == [str(ID)]


def test_whoever_takes_an_id_says_that_it_may_be_a_uuid() -> None:
    rooms = (Saga, Operations, transaction, debug)
    for one in rooms:
        public = [one] if not isinstance(one, type) else [getattr(one, name) for name in dir(one) if name[0] != "_"]
        for function in filter(inspect.isfunction, public):
            kind = function.__annotations__.get("saga_id")
            assert kind is None or "UUID" in kind, f"{function.__qualname__}: saga_id is {kind}"
