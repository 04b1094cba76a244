"""Corner cases of every front door: each went wrong once."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from saga import (
    Context,
    InDoubt,
    Retry,
    Saga,
    Skip,
    Status,
    Task,
    fallback,
    parallel,
    receive,
    saga_step,
    step,
    timer,
    transaction,
)
from saga.errors import SagaCompensationError, SagaDefinitionError, SagaTimeoutError, StorageError
from saga.leases import keeper_of
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, NewExecution, SqliteStore
from tests.threads import within

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    log.clear()


def saga_of(*flows: Any, **options: Any) -> Saga:
    saga = Saga("s", **options)
    for flow in flows:
        saga.add_task(flow)
    return saga


def act(name: str, error: BaseException | None = None, undo_error: BaseException | None = None, **policies: Any) -> Any:
    def do() -> str:
        log.append(name)
        if error is not None:
            raise error
        return name

    def undo() -> None:
        log.append(f"-{name}")
        if undo_error is not None:
            raise undo_error

    return step(do, undo, name=name, **policies)


def aact(name: str, seconds: float = 0.0, **policies: Any) -> Any:
    async def do() -> str:
        log.append(name)
        await asyncio.sleep(seconds)
        return name

    async def undo() -> None:
        await asyncio.sleep(0)
        log.append(f"-{name}")

    return step(do, undo, name=name, **policies)


class Held(MemoryStore):
    """Holds its ``at``-th call of create/append until let go (0: create)."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0
        self.reached, self.go = threading.Event(), threading.Event()

    def _hold(self) -> None:
        if self.calls == self.at:
            self.reached.set()
            self.go.wait(10)
        self.calls += 1

    def create(self, *args: Any) -> Any:
        self._hold()
        return super().create(*args)

    def append(self, *args: Any, **options: Any) -> None:
        self._hold()
        super().append(*args, **options)


# ----------------------------------------------------------------------------------------------------------------------


async def abook(folder: str) -> None:
    Path(folder, "booked").write_text("")


async def aunbook(folder: str) -> None:
    Path(folder, "booked").unlink()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_recovery_of_an_async_block_awaits_its_compensations(tmp_path: Path) -> None:
    store_path = tmp_path / "saga.db"

    async def block() -> None:
        async with transaction("t", saga_id="t-1", store=SqliteStore(store_path), lease=0.2) as tx:
            await tx.astep(abook, aunbook, args=(str(tmp_path),), compensate_args=(str(tmp_path),))
            os._exit(7)

    child = os.fork()
    if not child:
        try:
            asyncio.run(block())
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    time.sleep(0.25)
    with SqliteStore(store_path) as store:
        (result,) = Recovery(store, transactions=["t"]).run_once()
    assert result.status is Status.COMPENSATED
    assert not (tmp_path / "booked").exists()


def test_a_coroutine_nobody_awaits_is_no_success() -> None:
    async def work() -> None:
        log.append("worked")

    result = saga_of(step(lambda: work(), name="a")).try_execute()
    assert (result.status, log) == (Status.COMPENSATED, [])
    assert "make the function that calls it an `async def`" in str(result.error)


def test_a_compensation_that_nobody_awaits_has_failed() -> None:
    async def undo() -> None:
        log.append("-a")

    for work in (
        saga_of(step(lambda: 1, lambda own: undo(), name="a"), act("b", ValueError())),
        saga_of(step(lambda: 1, lambda own: undo(), name="a"), act("b", ValueError()), timeout=9),
    ):
        log.clear()
        result = work.try_execute()
        assert (result.status, log) == (Status.STUCK, ["b"])
        assert "nobody awaits" in str(result.compensation_errors[0].error)


def test_what_a_function_did_before_it_returned_a_coroutine_is_undone() -> None:
    async def work() -> None: ...

    def do(context: Context) -> Any:
        log.append("a")
        return work()

    for options in ({}, {"timeout": 9.0}, {"store": MemoryStore()}):
        log.clear()
        assert saga_of(step(do, lambda own: log.append("-a"), name="a"), **options).try_execute().status is Status.COMPENSATED
        assert log == ["a", "-a"]


# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 12])
def test_joins_do_not_starve_the_execution_they_wait_for(count: int) -> None:
    saga = saga_of(aact("a", 0.1), aact("b"), store=MemoryStore())

    async def work() -> list[Any]:
        return await asyncio.gather(*(saga.atry_execute(saga_id="o-1") for _ in range(count)))

    results = within(5, lambda: asyncio.run(work()))
    assert all(result.ok for result in results)


def test_waiters_do_not_starve_the_straggler_they_wait_for() -> None:
    go = threading.Event()
    saga = saga_of(step(lambda: go.wait(10), lambda: log.append("-a"), name="a", timeout=0.02), store=MemoryStore())

    async def work() -> list[Any]:
        result = await saga.atry_execute(saga_id="o-1")
        waiting = [asyncio.create_task(result.ajoin()) for _ in range(40)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*waiting)

    results = within(5, lambda: asyncio.run(work()))
    assert {result.status for result in results} == {Status.COMPENSATED}


# ----------------------------------------------------------------------------------------------------------------------


def test_a_cancellation_while_an_execution_is_created_leaves_no_orphan() -> None:
    store = Held(0)
    saga = saga_of(aact("a"), store=store, lease=0.3)

    async def work() -> None:
        running = asyncio.create_task(saga.aexecute(saga_id="o-1"))
        while not store.reached.is_set():
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.sleep(0.02)
        store.go.set()
        with suppress(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.6)

    asyncio.run(work())
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner, log) == ("compensated", None, [])


def test_a_cancellation_while_a_block_is_begun_leaves_no_orphan() -> None:
    store = Held(0)

    async def block() -> None:
        async with transaction("t", saga_id="o-1", store=store, lease=0.3):
            pass

    async def work() -> None:
        running = asyncio.create_task(block())
        while not store.reached.is_set():
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.sleep(0.02)
        store.go.set()
        with suppress(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.6)

    asyncio.run(work())
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner) == ("compensated", None)


# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["fails", "limited", "deadline", "stored"])
def test_no_cancellation_is_lost(flow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def to_thread(function: Any, /, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        result = function(*args, **options)
        await asyncio.sleep(0)
        return result

    def run_in_executor(self: Any, executor: Any, function: Any, *args: Any) -> Any:
        future = self.create_future()

        def done() -> None:
            try:
                value = function(*args)
            except BaseException as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(value)

        self.call_soon(done)
        return future

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "run_in_executor", run_in_executor)
    lost = []
    for moment in range(100):
        log.clear()
        if flow == "fails":
            saga = saga_of(aact("a"), aact("b"), act("c", ValueError()))
        elif flow == "limited":
            saga = saga_of(aact("a", timeout=9), aact("b", timeout=9))
        elif flow == "deadline":
            saga = saga_of(aact("a"), aact("b"), timeout=9)
        else:
            saga = saga_of(aact("a"), aact("b"), store=MemoryStore())

        async def work(moment: int = moment, saga: Saga = saga) -> bool:
            running = asyncio.create_task(saga.aexecute())
            for _ in range(moment):
                await asyncio.sleep(0)
            if not running.cancel():
                running.exception()
                return True
            try:
                await running
            except asyncio.CancelledError:
                pass
            except Exception as error:
                lost.append((moment, type(error).__name__))
            else:
                lost.append((moment, "completed"))
            return False

        if asyncio.run(work()):
            break
    assert lost == []


# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.002, 0.012, 0.022, 0.032, 0.042, 0.052])
def test_the_end_of_the_loop_during_a_commit_leaves_nothing_undone(seconds: float) -> None:
    class Slow(MemoryStore):
        def append(self, *args: Any, **options: Any) -> None:
            time.sleep(0.02)
            super().append(*args, **options)

    store = Slow()
    saga = saga_of(aact("a"), aact("b"), aact("c"), store=store)
    left: list[Any] = []

    async def work() -> None:
        left.append(asyncio.create_task(saga.aexecute(saga_id="o-1")))
        await asyncio.sleep(seconds)

    asyncio.run(work())
    with suppress(BaseException):
        left[0].exception()
    row = store.get("o-1")
    assert row is not None
    if row.status == "running":
        assert row.owner is None  # a recovery may take it
    else:
        assert row.status in ("compensated", "completed")
    entries = store.journal("o-1")
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))


def test_the_end_of_the_loop_right_as_the_undo_begins() -> None:
    bad = []
    for moment in range(30):
        log.clear()

        async def fail() -> None:
            raise ValueError

        async def undo(name: str) -> None:
            log.append(f"-{name}")

        async def do(name: str) -> None:
            log.append(name)
            await asyncio.sleep(0)

        saga = saga_of(*(step(functools.partial(do, n), functools.partial(undo, n), name=n) for n in "ab"), step(fail))

        async def work(moment: int = moment, saga: Saga = saga) -> bool:
            running = asyncio.create_task(saga.atry_execute())
            for _ in range(moment):
                await asyncio.sleep(0)
            return running.done()

        done = asyncio.run(work())
        names = [name for name in log if not name.startswith("-")]
        if log != names + [f"-{name}" for name in reversed(names)]:
            bad.append((moment, list(log)))
        if done:
            break
    assert bad == []


def test_a_store_that_fails_under_asyncio_run_gives_the_lease_back() -> None:
    class Failing(MemoryStore):
        def append(self, *args: Any, **options: Any) -> None:
            raise StorageError("the disk is full")

    store = Failing()
    saga = saga_of(aact("a"), aact("b"), store=store)
    with pytest.raises(StorageError):
        asyncio.run(saga.aexecute(saga_id="o-1"))
    time.sleep(0.05)
    row = store.get("o-1")
    assert row is not None
    assert row.owner is None


# ----------------------------------------------------------------------------------------------------------------------


def test_the_deadline_of_async_steps_is_told_as_such() -> None:
    saga = saga_of(aact("a"), aact("b", 5.0), timeout=0.05)
    result = asyncio.run(saga.atry_execute())  # raises CancelledError
    assert isinstance(result.error, SagaTimeoutError)
    assert log == ["a", "b", "-b", "-a"]
    assert result.status is Status.COMPENSATED


@pytest.mark.parametrize("error", [None, ValueError("while it cleaned up")])
def test_an_async_step_cut_by_the_deadline_is_in_doubt_however_it_ends(error: Any) -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
            raise

    saga = saga_of(step(slow, lambda: log.append("-slow"), name="slow"), timeout=0.05)
    result = asyncio.run(saga.atry_execute())
    assert result.status is Status.COMPENSATED
    assert log == ["-slow"]


def test_a_deadline_after_the_pivot_cuts_no_async_step() -> None:
    saga = saga_of(act("p", pivot=True), aact("b", 0.1), timeout=0.03)
    assert within(5, lambda: asyncio.run(saga.atry_execute())).ok  # TypeError in the driver; it spins for ever


def test_a_deadline_during_the_undo_cuts_no_sibling_that_is_let_end() -> None:
    saga = saga_of(parallel(aact("b", 0.1), act("c", ValueError("no"))), timeout=0.03)
    result = within(5, lambda: asyncio.run(saga.atry_execute()))
    assert isinstance(result.error, ValueError)
    assert result.status is Status.COMPENSATED


def test_a_deadline_after_the_pivot_tells_no_plain_step_to_stop() -> None:
    seen = []

    def slow(context: Context) -> None:
        time.sleep(0.08)
        seen.append(context.step.cancelled)

    assert saga_of(act("p", pivot=True), step(slow), timeout=0.03).try_execute().ok
    assert seen == [False]


# ----------------------------------------------------------------------------------------------------------------------


def test_recovery_reads_signals_before_it_parks(left: Any) -> None:
    saga = saga_of(act("a"), receive("x"), act("b"))
    store = left(saga, "x")
    saga.signal("o-1", "x", 5, store=store)
    (result,) = within(5, Recovery(store, [saga]).run_once)  # it claims and parks for ever
    assert result.ok
    assert result.results["x"] == 5


def test_recovery_of_coroutines_does_too(left: Any) -> None:
    saga = saga_of(aact("a"), receive("x"), aact("b"))
    store = left(saga, "x")
    saga.signal("o-1", "x", 5, store=store)
    (result,) = within(5, Recovery(store, [saga]).run_once)
    assert result.ok


def test_a_result_of_a_parked_execution_can_be_waited_for(left: Any) -> None:
    saga = saga_of(receive("x"))
    (result,) = Recovery(left(saga, "x"), [saga]).run_once()
    with suppress(TimeoutError):
        assert result.join(0.1).status is Status.RUNNING


# ----------------------------------------------------------------------------------------------------------------------


def background(saga: Saga, store: MemoryStore, at: str) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(saga.try_execute(saga_id="o-1", store=store)), daemon=True)
    thread.start()
    while not any(e.step == at for e in store.journal("o-1")):
        time.sleep(0.001)

    def result() -> Any:
        thread.join(4)
        assert results, "it waits for ever"
        return results[0]

    return result


@pytest.mark.parametrize("action", ["cancel", "compensate"])
@pytest.mark.parametrize("wait", [receive("x"), timer(60.0, name="x")])
def test_operators_cancel_an_execution_that_waits(action: str, wait: Any) -> None:
    store = MemoryStore()
    result = background(saga_of(act("a"), wait), store, "x")
    getattr(Operations(store, "ann"), action)("o-1", "a test")
    keeper_of(store).look("o-1")
    assert result().status is Status.COMPENSATED
    assert log == ["a", "-a"]


def test_and_one_that_nobody_runs(left: Any) -> None:
    saga = saga_of(act("a"), receive("x"))
    store = left(saga, "x")
    Recovery(store, [saga]).run_once()
    Operations(store, "ann").cancel("o-1", "a test")
    within(4, Recovery(store, [saga]).run_once)
    row = store.get("o-1")
    assert row is not None
    assert row.status == "compensated"


# ----------------------------------------------------------------------------------------------------------------------


def two_receivers() -> Saga:
    return saga_of(step(lambda: gate.wait(10), name="w"), parallel(receive("x", name="p"), receive("x", name="q")))


gate = threading.Event()


def test_two_early_signals_reach_two_receivers_once_each() -> None:
    gate.clear()
    store, saga = MemoryStore(), two_receivers()
    result = background(saga, store, "w")
    saga.signal("o-1", "x", 1, store=store)
    saga.signal("o-1", "x", 2, store=store)
    gate.set()
    assert sorted(result().results[name] for name in "pq") == [1, 2]


def test_one_early_signal_ends_one_wait() -> None:
    gate.clear()
    store, saga = MemoryStore(), two_receivers()
    result = background(saga, store, "w")
    saga.signal("o-1", "x", 1, store=store)
    gate.set()
    time.sleep(0.2)
    assert store.get("o-1").status == "running"  # type: ignore[union-attr]
    saga.signal("o-1", "x", 2, store=store)
    assert sorted(result().results[name] for name in "pq") == [1, 2]


def test_two_signals_read_at_once_reach_both_receivers() -> None:
    store = MemoryStore()
    saga = saga_of(parallel(receive("x", name="p"), receive("x", name="q")))
    result = background(saga, store, "q")
    from saga.journal import write_signal

    store.post("o-1", write_signal("x", 1, saga.codec))
    saga.signal("o-1", "x", 2, store=store)
    assert sorted(result().results[name] for name in "pq") == [1, 2]


# ----------------------------------------------------------------------------------------------------------------------


def test_a_recovery_goes_on_with_what_an_interrupt_stopped_after_the_pivot() -> None:
    tries: list[int] = []

    def b() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise KeyboardInterrupt

    store = MemoryStore()
    saga = saga_of(act("p", pivot=True), step(b), act("c"))
    with pytest.raises(KeyboardInterrupt):
        saga.execute(saga_id="o-1", store=store)
    (result,) = Recovery(store, [saga]).run_once()
    assert result.ok
    assert log == ["p", "c"]


def test_what_cannot_be_stored_after_the_pivot_is_not_executed_for_ever() -> None:
    def b() -> Any:
        log.append("b")
        return threading.Lock()

    store = MemoryStore()
    saga = saga_of(act("p", pivot=True), step(b, retry=Retry(2)), act("c"), store=store)
    result = within(4, lambda: saga.try_execute(saga_id="o-1"))
    assert (result.status, log) == (Status.STUCK, ["p", "b"])
    assert result.reason == "done past the pivot, and what came of it could not be stored: b"
    assert Recovery(store, [saga]).run_once() == []
    Operations(store, "ann").compensate("o-1", "a test")  # refused there: nothing is undone past the pivot
    assert [again.status for again in Recovery(store, [saga]).run_once()] == [Status.STUCK]
    assert log == ["p", "b"]
    Operations(store, "ann").skip("o-1", "b", "it was done")
    assert Recovery(store, [saga]).run_once()[0].ok
    assert log == ["p", "b", "c"]


# ----------------------------------------------------------------------------------------------------------------------


def test_a_foreign_saga_failure_does_not_hide_a_blocks_own_failed_undo() -> None:
    inner = saga_of(act("x", ValueError("inner")))

    def block() -> None:
        with transaction("outer") as tx:
            tx.step(lambda: 1, lambda: 1 / 0, name="a")
            inner.execute()

    with pytest.raises(SagaCompensationError, match="ZeroDivisionError"):
        block()


def test_nor_does_that_of_an_inner_block() -> None:
    def block() -> None:
        with transaction("outer") as outer:
            outer.step(lambda: 1, lambda: 1 / 0, name="a")
            with transaction("inner") as inner:
                inner.step(lambda: 1 / 0, name="b")

    with pytest.raises(SagaCompensationError):
        block()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_an_interrupt_of_a_block_stays_what_it_is_where_the_undo_fails(kind: type[BaseException]) -> None:
    def block() -> None:
        with transaction() as tx:
            tx.step(lambda: 1, lambda: 1 / 0, name="a")
            raise kind

    with pytest.raises(kind):
        block()


def test_a_cancellation_during_the_undo_of_a_block_is_not_lost() -> None:
    async def undo() -> None:
        await asyncio.sleep(0.1)

    async def work() -> None:
        async with asyncio.timeout(0.03):
            with suppress(ValueError):
                async with transaction() as tx:
                    await tx.astep(lambda: 1, undo, name="a")
                    raise ValueError
            await asyncio.sleep(5)
            raise AssertionError("it went on")

    with pytest.raises(TimeoutError):
        within(3, lambda: asyncio.run(work()))


def test_an_interrupt_in_the_undo_of_a_block_is_raised() -> None:
    def undo() -> None:
        raise KeyboardInterrupt

    def block() -> None:
        with transaction() as tx:
            tx.step(lambda: 1, undo, name="a")
            raise ValueError

    with pytest.raises(KeyboardInterrupt):
        block()


def test_a_block_that_ends_well_beside_a_skipped_straggler_does_not_raise() -> None:
    go = threading.Event()
    try:
        with transaction() as tx:
            tx.step(lambda: go.wait(10), name="a", timeout=0.02, on_error=Skip)
            tx.step(lambda: 1, name="b")
    finally:
        go.set()
    assert tx.result is not None
    assert tx.result.join(5).ok


def test_a_block_tells_that_it_started() -> None:
    told: list[str] = []
    with transaction(logger=lambda event, info: told.append(type(event).__name__)) as tx:
        tx.step(lambda: 1, name="a")
    assert told == ["SagaStarted", "StepStarted", "StepSucceeded", "SagaCompleted"]


# ----------------------------------------------------------------------------------------------------------------------

undos: list[str] = []


def charge() -> None: ...


def refund() -> None:
    undos.append("refund")
    if len(undos) == 1:
        raise OSError("busy")


class Died(BaseException):
    pass


def dead_block(store: MemoryStore, **policies: Any) -> MemoryStore:
    """What another process finds of a block whose process died after (in) the step."""

    with suppress(Died):
        tx = transaction("t", saga_id="t-1", store=store, lease=0.05)
        tx.__enter__()
        tx.step(charge, refund, **policies)
    assert tx._execution is not None
    keeper_of(store).drop(tx._execution.journal.lease)  # type: ignore[union-attr]
    time.sleep(0.06)
    return store


def test_a_dead_blocks_compensation_is_retried_as_its_step_said() -> None:
    undos.clear()
    store = dead_block(MemoryStore(), compensation_retry=Retry(3))
    (result,) = Recovery(store, transactions=["t"]).run_once()
    assert undos == ["refund", "refund"]
    assert result.status is Status.COMPENSATED


def block_that_died_in_its_step(**policies: Any) -> MemoryStore:
    store = dead_block(MemoryStore(), **policies)
    entries = store.journal("t-1")
    row = store.get("t-1")
    assert row is not None
    found = MemoryStore()
    found.create(NewExecution("t-1", "t", row.version, row.fingerprint, row.digest, "running"), entries[:2], "dead", 0.0)
    assert [e.kind for e in found.journal("t-1")] == ["SagaStarted", "StepStarted"]
    return found


def test_a_dead_blocks_step_in_doubt_is_asked_about_where_it_said_so() -> None:
    undos.clear()
    (result,) = Recovery(block_that_died_in_its_step(in_doubt=InDoubt.ASK), transactions=["t"]).run_once()
    assert result.status is Status.STUCK
    assert undos == []


def test_a_dead_blocks_step_in_doubt_is_undone_though_it_may_be_executed_again() -> None:
    """What would have followed it died with the process."""
    undos.clear()
    found = block_that_died_in_its_step(in_doubt=InDoubt.RERUN, compensation_retry=Retry(2))
    (result,) = Recovery(found, transactions=["t"]).run_once()
    assert result.status is Status.COMPENSATED
    assert undos == ["refund", "refund"]
    assert [entry.kind for entry in found.journal("t-1")].count("StepStarted") == 1


def test_what_a_dead_block_did_past_its_pivot_is_not_undone() -> None:
    undos.clear()
    store = dead_block(MemoryStore(), pivot=True)
    within(5, Recovery(store, transactions=["t"]).run_once)
    row = store.get("t-1")
    assert row is not None
    assert row.status == "stuck"
    assert undos == []


def test_nor_of_one_that_an_exception_left() -> None:
    undos.clear()
    store = MemoryStore()

    def block() -> None:
        with transaction("t", saga_id="t-1", store=store) as tx:
            tx.step(charge, refund, pivot=True)
            raise KeyError("x")

    with pytest.raises(KeyError):
        block()
    within(5, Recovery(store, transactions=["t"]).run_once)
    row = store.get("t-1")
    assert row is not None
    assert row.status == "stuck"
    assert undos == []


# ----------------------------------------------------------------------------------------------------------------------


def test_a_recovery_inside_an_event_loop_works(left: Any) -> None:
    saga = saga_of(aact("a"), aact("b"), lease=0.3)
    store = left(saga, "b")

    async def work() -> None:
        Recovery(store, [saga]).run_once()

    asyncio.run(work())
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner) == ("compensated", None)


# ----------------------------------------------------------------------------------------------------------------------


def test_a_recovered_undo_sees_what_a_live_one_sees_after_a_retry(left: Any) -> None:
    seen: list[dict[str, Any]] = []
    tries: list[int] = []

    def a(context: Context) -> None:
        tries.append(1)
        if len(tries) == 1:
            context.junk = 1
            raise OSError
        context.kept = 1

    def undo(context: Context) -> None:
        seen.append(dict(context))

    saga = saga_of(
        step(a, undo, retry=Retry(2), timeout=9.0), step(lambda context: context.update(later=2), name="b"), act("c")
    )
    store = left(saga, "c")
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert seen == [{"kept": 1, "later": 2}]


def test_a_fallback_does_not_begin_while_a_person_is_to_be_asked_about_the_primary() -> None:
    saga = saga_of(fallback(aact("a", 5.0, timeout=0.02, in_doubt=InDoubt.ASK), act("b")))
    result = asyncio.run(saga.atry_execute())
    assert result.status is Status.STUCK
    assert log == ["a"]


# ----------------------------------------------------------------------------------------------------------------------


def test_a_saga_that_receives_and_has_no_store_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match="receives signals, which need a store"):
        within(1, saga_of(receive("x")).try_execute)
    with transaction() as tx, pytest.raises(SagaDefinitionError, match="step 'x' receives a signal"):
        tx.parallel(receive("x"), act("a"))


def test_a_subclass_overrides_a_step_of_a_flow_in_an_attribute() -> None:
    class Base(Saga):
        @saga_step
        def a(self) -> str:
            return "base"

        flow = (a,)

    class Child(Base):
        @saga_step
        def a(self) -> str:
            return "child"

    class Plain(Base):
        def a(self) -> str:
            return "plain"

    assert Base().execute().results == {"a": "base"}
    assert Child().execute().results == {"a": "child"}
    assert Plain().execute().results == {"a": "plain"}


def test_an_override_has_its_own_policies_and_undo_and_keeps_what_the_flow_says() -> None:
    class Base(Saga):
        @saga_step(timeout=5.0)
        def a(self) -> None:
            log.append("base")

        @a.compensation
        def undo_a(self) -> None:
            log.append("-base")

        flow = (a | Retry(3), act("f", ValueError()))

    class Undo(Base):
        def undo_a(self) -> None:
            log.append("-undo")

    class Whole(Base):
        @saga_step(timeout=7.0, retry=Retry(9))
        def a(self) -> None:
            log.append("whole")

        @a.compensation
        def other(self) -> None:
            log.append("-whole")

    class Half(Base):
        @saga_step
        def a(self) -> None:
            log.append("half")

    for kind, told in (
        (Base, ["base", "f", "-base"]),
        (Undo, ["base", "f", "-undo"]),
        (Whole, ["whole", "f", "-whole"]),
        (Half, ["half", "f", "-base"]),
    ):
        log.clear()
        kind().try_execute()
        assert log == told
    planned = Whole().plan.steps[0]
    assert (planned.timeout, planned.retry.max_attempts) == (7.0, 3)


def test_a_lambda_in_a_class_body_that_takes_no_saga_undoes_a_method() -> None:
    class Declared(Saga):
        @saga_step(compensate=lambda: log.append("-a"))
        def a(self) -> None: ...

        flow = (a, act("f", ValueError()))

    assert Declared().try_execute().status is Status.COMPENSATED
    assert log == ["f", "-a"]


def test_a_lambda_in_a_class_body_may_take_the_saga() -> None:
    class Declared(Saga):
        mark = "mine"

        @saga_step(compensate=lambda self: log.append(self.mark))
        def a(self) -> None: ...

        flow = (a, act("f", ValueError()))

    assert Declared().try_execute().status is Status.COMPENSATED
    assert log == ["f", "mine"]


def test_a_method_that_takes_no_self_is_refused() -> None:
    class Declared(Saga):
        @saga_step
        def a() -> None:  # type: ignore[misc]
            ...

        flow = (a,)

    with pytest.raises(SagaDefinitionError, match="is a method, and takes no self"):
        Declared().try_execute()


def test_a_step_that_undoes_another_may_be_a_coroutine_and_overridden() -> None:
    class Base(Saga):
        @saga_step
        async def undo_a(self) -> None:
            log.append("-base")

        @saga_step
        async def a(self) -> None: ...

        flow = (a >> undo_a, act("f", ValueError()))

    class Child(Base):
        @saga_step
        async def undo_a(self) -> None:
            log.append("-child")

    assert [kind().try_execute().status for kind in (Base, Child)] == [Status.COMPENSATED] * 2
    assert log == ["f", "-base", "f", "-child"]


def test_one_method_step_may_undo_another() -> None:
    class Declared(Saga):
        @saga_step
        def undo_a(self) -> None:
            log.append("-a")

        @saga_step(compensate=undo_a)
        def a(self) -> None: ...

        flow = (a, act("f", ValueError()))

    assert Declared().try_execute().status is Status.COMPENSATED
    assert log == ["f", "-a"]


def test_a_method_step_can_be_added() -> None:
    class Declared(Saga):
        @saga_step
        def a(self) -> int:
            return 1

    saga = Declared()
    assert saga.add_task(saga.a).execute().results == {"a": 1}


def test_a_saga_class_where_an_object_belongs_is_told_so() -> None:
    class Inner(Saga):
        flow = (act("a"),)

    with pytest.raises(SagaDefinitionError, match=r"Inner\(\)"):
        saga_of(Inner)  # type: ignore[arg-type]


def test_a_context_manager_that_only_a_coroutine_can_enter_is_told_so() -> None:
    class A(Task[int]):
        def execute(self, context: Context) -> int:
            return 1

    @asynccontextmanager
    async def scope(kind: Any) -> Any:
        yield kind()

    result = saga_of(A, resolver=scope).try_execute()
    assert "gives an async context manager for A, whose execute is a plain function" in str(result.error)


def test_a_resolver_that_gives_no_task_is_told_so() -> None:
    class A(Task[int]):
        def execute(self, context: Context) -> int:
            return 1

    result = saga_of(A, resolver=lambda kind: "nothing").try_execute()
    assert str(result.error) == "the resolver gives 'nothing' for A, which has no execute()"
