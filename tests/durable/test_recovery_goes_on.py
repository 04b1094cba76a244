"""A recovery ends when it is told to, and for nothing that user code raises; and nothing is recovered for ever."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Status, step
from saga.durable.codec import Codec
from saga.errors import StorageError
from saga.logging import SagaLogger
from saga.policy import Backoff, ExponentialBackoff
from saga.recovery import Recovery
from saga.storage import MemoryStore, Store
from saga.worker import Worker
from tests.kit import PATIENCE, Watched, until, within
from tests.kit.recoveries import left_behind, simple, three_left


class OwnError(BaseException):
    """No Exception, and nothing that Python knows."""


ERRORS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, OwnError, RuntimeError, StorageError]
RAISES: dict[str, type[BaseException]] = {}
"""Where something is raised now, and what."""


def raises_at(place: str) -> None:
    if place in RAISES:
        raise RAISES[place]("not a program")


def acts(place: str, in_loop: bool) -> Callable[[], Any]:
    def act() -> None:
        raises_at(place)

    async def aact() -> None:
        raises_at(place)

    return aact if in_loop else act


class Odd:
    """Its codec may raise."""


class Looks:
    """An observer that may raise wherever it is asked something."""

    def __call__(self, event: Any, info: Any) -> None:
        raises_at("observer")

    def listening(self) -> bool:
        raises_at("listening")
        return True

    def around(self, info: Any, step: Any, attempt: int, phase: str) -> Any:
        @contextmanager
        def surround() -> Any:
            raises_at("around")
            yield
            raises_at("leaving around")

        return surround()


class Pause(Backoff):
    """A backoff that may raise."""

    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        raises_at("backoff")
        return 0.0


def refuses(error: Exception) -> bool:
    raises_at("unknown_on")
    return False


def handler(context: Context, name: str, error: BaseException) -> None:
    raises_at("handler")


def odd(in_loop: bool) -> Saga:
    """Return a saga in which something may be raised anywhere: ``b`` is executed again, fails, and all is undone."""
    codec = Codec().register(Odd, lambda odd: 1, lambda stored: raises_at("codec") or Odd(), name="odd")
    saga = Saga("odd", observers=[Looks()], codec=codec, on_compensation_failure=handler, unknown_on=refuses)
    saga.add_task(step(lambda: Odd(), acts("compensate", in_loop), name="a"))
    saga.add_task(
        step(
            acts("execute", in_loop),
            acts("compensate", in_loop),
            name="b",
            verify=acts("verify", in_loop),
            in_doubt=InDoubt.RERUN,
        )
    )
    return saga.add_task(step(acts("last", in_loop), name="c"))


PLACES = {
    "execute": ["execute"],
    "verify": ["verify"],
    "compensate": ["compensate", "last"],
    "observer": ["observer"],
    "listening": ["listening"],
    "around": ["around"],
    "leaving around": ["leaving around"],
    "codec": ["codec"],
    "unknown_on": ["unknown_on", "last"],
    "handler": ["handler", "compensate", "last"],
    "backoff": ["backoff", "codec"],
}
"""For each place what else is to be raised so that it is come to."""


@pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_is_raised_others_are_recovered_and_it_ends(
    place: str, error: type[BaseException], in_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saga.working.jobs.BACKOFF", ExponentialBackoff(0.001))
    store = MemoryStore()
    left_behind(store, lambda: odd(in_loop), "odd", count=2)
    for number in range(3):
        left_behind(store, simple, f"good {number}")
    recovery = Recovery(store, [odd(in_loop), simple()], max_attempts=2, backoff=Pause())
    stop = threading.Event()
    thread = threading.Thread(target=recovery.run, args=(stop,), kwargs={"interval": 0.001})
    RAISES.update({one: error if one == place else ValueError for one in PLACES[place]})
    try:
        thread.start()
        until(lambda: all(Status(row.status).terminal for row in store.list().executions))
        assert thread.is_alive()
    finally:
        RAISES.clear()
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert {row.status for row in store.list(name="s").executions} == {"completed"}
    assert all(row.owner is None for row in store.list().executions)


def test_where_no_thread_is_to_be_had_one_worker_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    three_left(store, simple)

    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("saga worker"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert [result.ok for result in Recovery(store, [simple()], workers=4).run_once()] == [True] * 3


def test_what_a_store_raises_that_is_no_storage_error_does_not_end_a_recovery(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    left_behind(store, simple)
    watched = Watched(store)
    faults: list[BaseException] = [SystemExit("a driver's own"), KeyError("status")]

    def claim(*args: Any, **more: Any) -> Any:
        if faults:
            raise faults.pop()
        return store.claim(*args, **more)

    watched.claim = claim  # type: ignore[attr-defined]
    stop = threading.Event()
    thread = threading.Thread(target=Recovery(watched, [simple()]).run, args=(stop,), kwargs={"interval": 0.001})  # type: ignore[arg-type]
    thread.start()
    until(lambda: store.get("x").status == "completed")  # type: ignore[union-attr]
    stop.set()
    thread.join(PATIENCE)
    assert "worker: 'status'; trying again" in caplog.text


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals as POSIX has them")
@pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
def test_a_ctrl_c_ends_what_runs_once(in_loop: bool) -> None:
    store = MemoryStore()

    def work() -> None:
        if recorded:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(PATIENCE)

    async def awork() -> None:
        if recorded:
            begun.append("a")
            if len(begun) == 3:  # one Ctrl-C, when all have begun
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(PATIENCE)

    def build() -> Saga:
        return Saga("s").add_task(step(awork if in_loop else work, lambda: None, name="a", in_doubt=InDoubt.RERUN))

    begun: list[str] = []
    recorded = False
    three_left(store, build)
    recorded = True
    with pytest.raises(KeyboardInterrupt):
        Recovery(store, [build()]).run_once()
    others = ["compensated"] if in_loop else ["running"]  # in the loop, all have begun
    assert sorted(row.status for row in store.list().executions) == ["compensated", *others * 2]
    assert all(row.owner in (None, "dead") for row in store.list().executions)


# -- a store that fails -----------------------------------------------------------------------------------------------


def test_a_stores_faults_are_waited_out_longer_each_time_and_do_not_count(store: Store) -> None:
    """However often the store fails one execution, that is no reason for a person to act."""
    left_behind(store, simple)
    watched = Watched(store)
    waited: list[int] = []

    class Noted(Backoff):
        def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
            waited.append(attempt)
            return 0.001

    def refuse(number: int) -> None:
        raise StorageError("permission denied")

    watched.before = refuse
    recovery = Recovery(watched, [simple()], max_attempts=2, backoff=Noted())  # type: ignore[arg-type]
    claims = 0
    while claims < 8:
        claims += 1
        assert recovery.run_once() == []
        until(lambda: (row := store.get("x")) is not None and row.due <= store.now())
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner, row.recoveries) == ("running", None, 0)
    assert waited[-1] == max(waited) == watched.attempted  # each time longer
    watched.before = lambda number: None
    (result,) = within(PATIENCE, recovery.run_once)
    assert result.ok


def test_a_store_that_cannot_be_read_is_waited_out_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(store, simple)

    def broken(*args: Any) -> Any:
        raise StorageError("a page is broken")

    recovery = Recovery(store, [simple()], max_attempts=1, backoff=0.001)
    with monkeypatch.context() as patch:
        patch.setattr(store, "journals", broken)
        patch.setattr(store, "journal", broken)
        for _ in range(4):
            assert recovery.run_once() == []
            until(lambda: (row := store.get("x")) is not None and row.due <= store.now())
    (result,) = recovery.run_once()
    assert result.ok


@pytest.mark.parametrize("logged", [False, True], ids=["without a logger", "with one"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_is_stuck_is_said_once(store: Store, caplog: pytest.LogCaptureFixture, logged: bool, colour: str) -> None:
    def fail() -> None:
        raise OSError("the bank is closed")

    async def afail() -> None:
        fail()

    caplog.set_level("INFO")
    undo = fail if colour == "sync" else afail
    saga = Saga("order", logger=SagaLogger() if logged else None)
    saga.add_task(step(lambda: 1, undo, name="charge")).add_task(step(undo, name="pack"))
    saga.submit(saga_id="x", store=store)
    (result,) = Worker(store, [saga]).run_once()
    assert result.status is Status.STUCK
    said = [(one.levelname, one.getMessage()) for one in caplog.records if "stuck" in one.getMessage()]
    assert [level for level, _ in said] == (["CRITICAL"] if logged else ["INFO"])
    assert "the compensation of step 'charge' failed (1 attempt): OSError: the bank is closed" in said[0][1]


# -- what it keeps ----------------------------------------------------------------------------------------------------


def test_a_recovery_that_goes_on_keeps_nothing_of_what_has_ended() -> None:
    store = MemoryStore()
    alive: list[Any] = []
    most = 0

    def work(context: Context) -> None:
        nonlocal most
        if recorded:
            gc.collect()
            alive.append(weakref.ref(context))
            most = max(most, sum(one() is not None for one in alive))

    def build() -> Saga:
        return Saga("s").add_task(step(work, name="a", in_doubt=InDoubt.RERUN))

    recorded = False
    for number in range(20):
        left_behind(store, build, f"x{number}")
    recorded = True
    stop = threading.Event()
    thread = threading.Thread(target=Recovery(store, [build()]).run, args=(stop,), kwargs={"interval": 0.001})
    thread.start()
    until(lambda: not store.list(status=["running"]).executions)
    stop.set()
    thread.join(PATIENCE)
    assert len(alive) == 20
    assert most <= 3  # one runs, and one whose end is stored with its beginning
