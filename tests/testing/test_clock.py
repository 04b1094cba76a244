"""Time that a test moves: what takes hours is over at once, in both drivers, with every store, and as it would be."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Effect, ExponentialBackoff, Retry, Saga, SagaResult, Status, Task, parallel, receive, step, timer
from saga.errors import SagaTimeoutError, StepTimeoutError
from saga.events import StepFailed, StepStarted, StepSucceeded
from saga.storage import MemoryStore, NewExecution, SqliteStore, Store
from saga.testing import Clock
from saga.worker import Worker
from tests.kit import SHORT, background, until, within

HOUR = 3600.0


@pytest.fixture(params=["none", "memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store | None]:
    if request.param == "none":
        yield None
    else:
        with MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "saga.db") as store:
            yield store


def _execute(saga: Saga) -> SagaResult:
    return saga.try_execute()


def _aexecute(saga: Saga) -> SagaResult:
    async def execute() -> SagaResult:
        result = await saga.atry_execute()
        return await result.ajoin(30)

    return asyncio.run(execute())


@pytest.fixture(params=[_execute, _aexecute], ids=["sync", "async"])
def execute(request: pytest.FixtureRequest) -> Callable[[Saga], SagaResult]:
    """To the end: what runs past its timeout is undone when it has ended."""

    def execute(saga: Saga) -> SagaResult:
        return within(60, lambda: request.param(saga).join(30))

    execute.asynchronous = request.param is _aexecute  # type: ignore[attr-defined]
    return execute


def fails(times: int) -> Callable[[], str]:
    def work() -> str:
        nonlocal times
        times -= 1
        if times >= 0:
            raise ValueError("not yet")
        return "done"

    return work


def _never() -> None:
    raise ValueError("never")


def _lost() -> None:
    raise TimeoutError("lost")


def nothing() -> None: ...


def saga_of(*flows: Any, **options: Any) -> Saga:
    saga = Saga("s", **options)
    for one in flows:
        saga.add_task(one)
    return saga


BACKOFF = Retry(4, ExponentialBackoff(10.0, 2.0))
WAITS: dict[str, tuple[Callable[[], tuple[Any, ...]], float, Status]] = {
    "timers": (lambda: (timer(HOUR), timer(5.0, name="again")), HOUR + 5, Status.COMPLETED),
    "attempts": (lambda: (step(fails(3), retry=BACKOFF),), 70.0, Status.COMPLETED),
    "attempts in vain": (lambda: (step(_never, retry=BACKOFF),), 70.0, Status.COMPENSATED),
    "attempts of an undo": (
        lambda: (step(nothing, fails(1), compensation_retry=BACKOFF), step(_never)),
        10.0,
        Status.COMPENSATED,
    ),
    "attempts to learn what came of it": (
        lambda: (step(_lost, nothing, verify=_never, verification_retry=BACKOFF),),
        70.0,
        Status.COMPENSATED,
    ),
    "several at a time": (
        lambda: (parallel(timer(30.0), timer(40.0), step(fails(1), retry=BACKOFF)),),
        40.0,
        Status.COMPLETED,
    ),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_waits_and_runs_nothing_is_there_at_once(what, store, execute):
    flow, seconds, status = WAITS[what]
    with Clock() as clock:
        began = clock.now()
        assert execute(saga_of(*flow(), store=store)).status is status
        assert clock.now() == began + seconds


def test_a_saga_that_waits_longer_than_its_timeout_is_timed_out(store, execute):
    with Clock() as clock:
        began = clock.now()
        result = execute(saga_of(step(nothing, nothing), timer(HOUR), store=store, timeout=60.0))
        assert isinstance(result.error, SagaTimeoutError)
        assert clock.now() == began + 60


def test_nobody_moves_it_while_something_runs(store, execute):
    async def awaited() -> float:
        await asyncio.sleep(SHORT)
        return clock.now() - began

    def plain() -> float:
        time.sleep(SHORT)
        return clock.now() - began

    with Clock() as clock:
        began = clock.now()
        branches = timer(HOUR), step(plain, timeout=60.0), step(awaited, timeout=60.0)
        result = execute(saga_of(parallel(*(branches if execute.asynchronous else branches[:2])), store=store))
        assert (result.status, clock.now()) == (Status.COMPLETED, began + HOUR)
    assert {result.results["plain"], result.results.get("awaited", 0.0)} == {0.0}


def test_a_signal_that_nobody_sends_does_not_come_in_time(execute):
    with Clock() as clock:
        began = clock.now()
        result = execute(saga_of(receive("paid", timeout=HOUR), store=MemoryStore()))
        assert isinstance(result.error, StepTimeoutError)
        assert clock.now() == began + HOUR


# -- calls that are slow --------------------------------------------------------------------------------------------------


def _async(function: Callable[..., Any]) -> Callable[..., Any]:
    async def work(context: Context) -> Any:
        return function(context)

    return work


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_a_call_that_moves_past_its_timeout_is_timed_out(asynchronous, store, execute):
    def slow(context: Context) -> str:
        deadline = context.step.deadline
        seen.append((deadline - clock.now(), context.step.cancelled))
        clock.move(11)
        seen.append((deadline - clock.now(), context.step.cancelled))
        return "late"

    seen: list[Any] = []
    work = _async(slow) if asynchronous else slow
    with Clock() as clock:
        saga = saga_of(step(nothing, nothing), step(work, nothing, name="slow", timeout=10.0), store=store)
        result = execute(saga)
    assert isinstance(result.error, StepTimeoutError)
    assert result.status is Status.COMPENSATED
    assert result.effects == {"nothing": Effect.UNDONE, "slow": Effect.UNDONE}
    assert seen == [(10.0, False), (-1.0, True)]


def test_a_call_that_is_cut_off_hears_of_it_where_it_awaits(store):
    async def slow() -> None:
        clock.move(timedelta(seconds=11))
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.append(clock.now() - began)
            raise

    heard: list[float] = []
    with Clock() as clock:
        began = clock.now()
        result = within(60, lambda: _aexecute(saga_of(step(slow, timeout=10.0), store=store)))
    assert isinstance(result.error, StepTimeoutError)
    assert heard == [11.0]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_a_call_that_is_slow_and_in_time_is_done(asynchronous, store, execute):
    def slow(context: Context) -> bool:
        clock.move(9)
        return context.step.cancelled

    work = _async(slow) if asynchronous else slow
    with Clock() as clock:
        saga = saga_of(step(work, name="a", timeout=10.0), step(work, name="b", timeout=10.0), store=store, timeout=20.0)
        result = execute(saga)
    assert result.results == {"a": False, "b": False}
    assert [one.elapsed for one in result.history] == [9.0, 9.0]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_calls_that_take_longer_than_the_saga_may_are_undone(asynchronous, store, execute):
    def slow(context: Context) -> None:
        clock.move(9)

    work = _async(slow) if asynchronous else slow
    with Clock() as clock:
        saga = saga_of(*(step(work, nothing, name=name) for name in "abc"), store=store, timeout=10.0)
        result = execute(saga)
    assert isinstance(result.error, SagaTimeoutError)
    assert result.status is Status.COMPENSATED
    assert result.effects == {"a": Effect.UNDONE, "b": Effect.UNDONE, "c": Effect.NONE}


def test_all_that_move_it_move_it():
    def slow() -> None:
        clock.move(9)

    with Clock() as clock:
        began = clock.now()
        branches = (step(slow, name=str(number)) for number in range(8))
        assert within(60, saga_of(parallel(*branches)).try_execute).status is Status.COMPLETED
        assert clock.now() == began + 72


def test_a_late_attempt_is_followed_by_another(store, execute):
    def slow_once(context: Context) -> str:
        if context.step.attempt == 1:
            clock.move(11)
            raise ValueError("late")
        return "done"

    with Clock() as clock:
        result = execute(saga_of(step(slow_once, nothing, timeout=10.0, retry=Retry(2, 5.0)), store=store))
    assert result.results == {"slow_once": "done"}


def waits_for_calls(thread: threading.Thread) -> bool:
    """Whether a thread does not make the call of step ``quick``, or has made it and waits for another."""
    frame = sys._current_frames().get(thread.ident or 0)
    return thread.name != "saga step quick" or frame is None or frame.f_code.co_name == "_serve"


def test_a_call_that_was_done_in_time_is_not_late_for_what_others_do(gates):
    seen, moved, called = gates(), gates(), threading.Event()

    def quick() -> None:
        seen.hold()
        called.set()

    def slow() -> None:
        seen.hold()
        until(lambda: called.is_set() and all(map(waits_for_calls, threading.enumerate())))  # and nobody has looked
        clock.move(11)
        moved.open()

    def hold_up(event: Any, info: Any) -> None:
        if isinstance(event, StepSucceeded) and event.step == "first":
            seen.open()
            moved.hold()

    branches = step(nothing, name="first"), step(quick, timeout=10.0), step(slow)
    with Clock() as clock:
        assert within(60, saga_of(parallel(*branches), observers=hold_up).try_execute).status is Status.COMPLETED


def test_a_call_in_a_transaction_may_be_slow(tmp_path):
    class Note(Task[None]):
        transactional = True

        def execute(self, context: Context) -> None:
            context.step.connection.execute("CREATE TABLE notes (text)")
            clock.move(HOUR)

    with SqliteStore(tmp_path / "saga.db") as store, Clock() as clock:
        assert within(60, saga_of(Note, store=store).try_execute).status is Status.COMPLETED


# -- stores, leases and workers ----------------------------------------------------------------------------------------------


def test_stores_go_by_it(tmp_path):
    made = MemoryStore()
    with SqliteStore(tmp_path / "before.db") as before, Clock() as clock, SqliteStore(tmp_path / "new.db") as new:
        assert made.now() == MemoryStore().now() == clock.now()
        first = before.now(), new.now()
        clock.move(HOUR)
        assert made.now() == clock.now()
        assert (before.now() - first[0], new.now() - first[1]) == (HOUR, HOUR)
        assert new.now() == pytest.approx(clock.now(), abs=1.0)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_nobody_runs_is_found_when_its_lease_is_over(kind, tmp_path):
    with MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "saga.db") as store, Clock() as clock:
        saga = saga_of(step(nothing), step(nothing, name="b"), store=store)
        saga.execute(saga_id="first")
        row = store.get("first")
        new = NewExecution("x", row.name, row.version, row.fingerprint, row.digest, "running")
        store.create(new, store.journal("first")[:2], "who died", 30.0)
        worker = Worker(store, [saga])
        clock.move(29)
        assert within(30, worker.run_once) == []
        clock.move(2)
        assert [one.status for one in within(30, worker.run_once)] == [Status.COMPENSATED]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_execution_keeps_its_lease_however_long_it_takes(kind, tmp_path, execute):
    with MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "saga.db") as store, Clock() as clock:

        def slow() -> None:
            clock.move(HOUR)
            others.append(store.claim("another", 60.0, limit=10))

        others: list[Any] = []
        assert execute(saga_of(timer(HOUR), step(slow), store=store)).status is Status.COMPLETED
        assert others == [[]]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_worker_finds_what_is_due(asynchronous):
    def once() -> list[str]:
        ran = asyncio.run(worker.arun_once()) if asynchronous else worker.run_once()
        return [str(one.status) for one in ran if one.status.terminal]

    with Clock(datetime(2026, 1, 14, tzinfo=UTC)) as clock:
        store = MemoryStore()
        saga = saga_of(timer(HOUR), receive("paid", timeout=HOUR), step(fails(1), retry=Retry(2, 60.0)), store=store)
        worker = Worker(store, [saga])
        handle = saga.submit(saga_id="1", at=datetime(2026, 1, 15, tzinfo=UTC))
        for seconds in (86_399, 1, HOUR - 1):
            assert within(30, once) == []
            clock.move(seconds)
        assert (within(30, once), handle.status()) == ([], Status.RUNNING)
        clock.move(1)
        within(30, once)
        saga.signal("1", "paid", 7)
        assert within(30, once) == []  # it failed once
        clock.move(60)
        assert within(30, once) == ["completed"]
        assert handle.result(timeout=5).results["paid"] == 7


def test_what_another_runs_is_waited_for_until_its_lease_is_over():
    with Clock():
        store = MemoryStore()
        saga = saga_of(step(nothing), store=store)
        saga.execute(saga_id="first")
        row = store.get("first")
        new = NewExecution("x", row.name, row.version, row.fingerprint, row.digest, "running")
        store.create(new, store.journal("first")[:2], "who died", 60.0)
        assert within(30, lambda: saga.try_execute(saga_id="x")).status is Status.COMPENSATED


def test_who_waits_for_what_is_run_here_hurries_nobody():
    def slow() -> None:
        until(lambda: clock.now() > began)  # the other waits
        time.sleep(5 * SHORT)
        took.append(clock.now() - began)

    took: list[float] = []
    with Clock() as clock:
        began = clock.now()
        saga = saga_of(step(slow), store=MemoryStore())
        other = background(lambda: saga.execute(saga_id="x"))
        within(30, lambda: saga.execute(saga_id="x"))
        assert other().ok
        assert took[0] < 30.0


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_rate_is_kept_and_nobody_sleeps(asynchronous):
    with Clock() as clock:
        began = clock.now()
        saga = saga_of(step(nothing), store=MemoryStore(), rate=0.01)
        for _ in range(3):
            within(30, lambda: asyncio.run(saga.aexecute()) if asynchronous else saga.execute())
        assert 200 <= clock.now() - began < 230


def test_times_are_those_of_the_clock(store, execute):
    def slow() -> None:
        clock.move(2.5)
        raise ValueError("no")

    seen: list[tuple[str, float]] = []
    with Clock(1_800_000_000) as clock:
        saga = saga_of(
            timer(10.0), step(slow), store=store, observers=lambda event, info: seen.append((type(event).__name__, event.at))
        )
        execute(saga)
        assert clock.now() == 1_800_000_012.5
    at = {kind: [at for one, at in seen if one == kind] for kind, _ in seen}
    assert at[StepStarted.__name__] == [1_800_000_000, 1_800_000_010]
    assert at[StepFailed.__name__] == [1_800_000_012.5]


# -- with other libraries ----------------------------------------------------------------------------------------------------


def _frozen() -> AbstractContextManager[Any]:
    return pytest.importorskip("freezegun").freeze_time("2026-01-14", real_asyncio=True)


def _travelling() -> AbstractContextManager[Any]:
    return pytest.importorskip("time_machine").travel(datetime(2026, 1, 14, tzinfo=UTC), tick=False)


@pytest.mark.parametrize("other", [_frozen, _travelling])
def test_the_time_of_all_goes_with_it(other, store, execute):
    def today() -> str:
        return f"{datetime.now(UTC):%d %H:%M}"

    def slow() -> None:
        clock.move(90.1)

    with other() as moved, Clock(moved) as clock:
        assert clock.now() == datetime(2026, 1, 14, tzinfo=UTC).timestamp()
        tasks = step(today), timer(HOUR + 0.1), step(today, name="later"), step(slow, timeout=60.0)
        result = execute(saga_of(*tasks, store=store))
        assert result.results["later"] == "14 01:00"
        assert isinstance(result.error, StepTimeoutError)
        assert time.time() == pytest.approx(clock.now(), abs=1e-4)
        before = MemoryStore().now()
        (moved.tick if hasattr(moved, "tick") else moved.shift)(timedelta(hours=1))
        assert MemoryStore().now() == before + HOUR == pytest.approx(time.time(), abs=1e-4)


# -- the clock itself ----------------------------------------------------------------------------------------------------------


def test_time_goes_on_as_ever_afterwards():
    before = MemoryStore().now()
    with Clock() as clock:
        clock.move(HOUR)
    after = MemoryStore().now()
    assert before <= after < before + HOUR / 2
    result = saga_of(step(nothing, timeout=60.0), timer(0.01)).execute()
    assert 0 < sum(one.elapsed for one in result.history) < 60
    with pytest.raises(RuntimeError, match="a Clock is in use already"), Clock(), Clock():
        pass
    with Clock() as again:
        assert again.now() - 1 <= time.time()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "1"])
def test_it_goes_forward_alone(seconds):
    with Clock() as clock, pytest.raises(ValueError, match=r"Clock.move\(\): seconds is .*; give a number of 0 or more"):
        clock.move(seconds)


@pytest.mark.parametrize(
    ("start", "text"), [(datetime(2026, 1, 14), "no time zone"), ("now", "give a datetime"), (True, "give a datetime")]
)
def test_it_begins_at_a_moment(start, text):
    with pytest.raises(ValueError, match=text):
        Clock(start)


def test_it_says_what_time_it_is():
    with Clock(datetime(2026, 1, 14, 12, tzinfo=UTC)) as clock:
        clock.move(timedelta(minutes=5))
        assert repr(clock) == "<Clock at 2026-01-14 12:05:00 UTC>"
