"""One owner: the lease lasts as long as its process works, and who has lost it touches nothing more."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Status, parallel, sequence, step
from saga.durable import leases
from saga.durable.leases import owner
from saga.errors import LeaseLostError, StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, SqliteStore, Store
from saga.worker import Worker
from saga.working import crew
from tests.kit import (
    LONG,
    PATIENCE,
    Gate,
    Watched,
    World,
    background,
    check_journal,
    check_truth,
    expired,
    journal_of,
    outcomes,
    outlive_its_lease,
    probe,
    told,
    until,
    within,
)


def heartbeats() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "saga heartbeat"]


def test_a_slow_step_keeps_its_lease(new_store: Callable[[], Store], tmp_path: Any) -> None:
    store = new_store()
    calls: list[str] = []

    def slow() -> None:
        calls.append("a")
        outlive_its_lease(store, "x")

    def build() -> Saga:
        return Saga("s", lease=LONG).add_task(step(slow, name="a", in_doubt=InDoubt.RERUN)).add_task(step(lambda: 1, name="b"))

    recovery = Recovery(store, [build()])
    stop = threading.Event()
    daemon = threading.Thread(target=recovery.run, args=(stop,), kwargs={"interval": 0.02})
    daemon.start()
    try:
        result = build().execute(saga_id="x", store=store)
    finally:
        stop.set()
        daemon.join()
    assert result.ok
    assert calls == ["a"]
    assert "SagaRecovered" not in journal_of(store, "x")
    row = store.get("x")
    assert row is not None
    assert row.epoch == 1


def test_a_slow_recovered_step_keeps_its_lease_and_so_do_those_that_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_LATELY", PATIENCE)  # so after the first, one is claimed ahead
    monkeypatch.setattr(leases, "TIME_TO_BEGIN", PATIENCE)
    calls: list[str] = []
    recorded = False

    def slow(context: Context) -> None:
        calls.append(context.step.saga_id)
        if recorded and len(calls) == 2:
            for saga_id in {"x0", "x1", "x2"} - {calls[0]}:
                outlive_its_lease(store, saga_id)

    def build() -> Saga:
        return Saga("s", lease=LONG).add_task(step(slow, name="a", in_doubt=InDoubt.RERUN))

    for n in range(3):
        watched = Watched(MemoryStore())
        build().execute(saga_id=f"x{n}", store=watched)  # type: ignore[arg-type]
        expired(store, watched.writes[:1])
    calls.clear()
    recorded = True
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Recovery(store, [build()]).run_once)
        until(lambda: len(calls) >= 2)
        second = Recovery(store, [build()])
        while not first.done():
            assert second.run_once() == []
            time.sleep(0.02)
    assert [result.saga_id for result in first.result()] == calls
    assert sorted(calls) == ["x0", "x1", "x2"]


def test_who_finishes_what_it_joined_keeps_its_lease(store: Store) -> None:
    calls: list[str] = []
    recorded = False

    def slow() -> None:
        calls.append("a")
        if recorded:
            outlive_its_lease(store, "x")

    def build() -> Saga:
        return Saga("s", lease=LONG).add_task(step(slow, name="a", in_doubt=InDoubt.RERUN))

    watched = Watched(MemoryStore())
    build().execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:1])
    calls.clear()
    recorded = True
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(build().execute, saga_id="x", store=store)
        until(lambda: bool(calls))
        while not joined.done():
            assert Recovery(store, [build()]).run_once() == []
            time.sleep(0.02)
    assert joined.result().ok
    assert calls == ["a"]


def steal(store: Any, saga_id: str) -> None:
    """Take an execution over, as another process would that believes its owner dead."""
    row = store.get(saga_id)
    with store._lock if isinstance(store, MemoryStore) else threading.Lock():
        if isinstance(store, MemoryStore):
            store._executions[saga_id] = row._replace(lease_until=0.0, due=0.0)
        else:
            store._write(
                lambda connection: connection.execute("UPDATE saga SET lease_until = 0, due = 0 WHERE id = ?", (saga_id,))
            )
    (stolen,) = store.claim("thief", 60.0, saga_id=saga_id)
    assert stolen.owner == "thief"


def test_who_has_lost_the_lease_stops_at_the_next_write(store: Store) -> None:
    calls: list[str] = []

    def first(context: Context) -> None:
        calls.append("a")
        steal(store, context.step.saga_id)

    saga = (
        Saga("s")
        .add_task(step(first, lambda: calls.append("-a"), name="a"))
        .add_task(step(lambda: calls.append("b"), name="b"))
    )
    with pytest.raises(LeaseLostError, match="it was taken over"):
        saga.execute(saga_id="x", store=store)
    assert calls == ["a"]
    assert journal_of(store, "x") == ["SagaStarted", "StepStarted a"]
    row = store.get("x")
    assert row is not None
    assert (row.owner, row.epoch, row.status) == ("thief", 2, "running")


def test_who_has_lost_the_lease_compensates_nothing(store: Store) -> None:
    calls: list[str] = []

    def fail(context: Context) -> None:
        steal(store, context.step.saga_id)
        raise ValueError

    saga = Saga("s").add_task(step(lambda: 1, lambda: calls.append("-a"), name="a")).add_task(step(fail, name="b"))
    with pytest.raises(LeaseLostError):
        saga.execute(saga_id="x", store=store)
    assert calls == []
    assert "SagaCompensating b" not in journal_of(store, "x")


def test_who_has_lost_the_lease_starts_nothing_after_its_running_branches(store: Store) -> None:
    calls: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def quick(context: Context) -> None:
        assert begun.wait(PATIENCE)
        steal(store, context.step.saga_id)

    def slow() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        calls.append("slow")

    flow = parallel(
        sequence(step(quick, lambda: calls.append("-a"), name="a"), step(lambda: calls.append("a2"), name="a2")),
        sequence(step(slow, lambda: calls.append("-b"), name="b"), step(lambda: calls.append("b2"), name="b2")),
    )
    with pytest.raises(LeaseLostError):
        within(PATIENCE, lambda: Saga("s").add_task(flow).execute(saga_id="x", store=store))
    assert calls == []
    go_on.set()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith(("saga step", "saga x"))])
    assert calls == ["slow"]  # it ran already; nothing follows it
    row = store.get("x")
    assert row is not None
    assert row.owner == "thief"


def test_who_has_lost_the_lease_while_a_straggler_runs_leaves_that_to_the_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    go_on = threading.Event()

    def slow() -> None:
        assert go_on.wait(PATIENCE)

    saga = Saga("s").add_task(step(slow, lambda: calls.append("-a"), name="a", timeout=0.05))
    result = saga.try_execute(saga_id="x", store=store)
    assert result.status is Status.COMPENSATING
    steal(store, "x")
    go_on.set()
    until(lambda: "is left to a recovery" in caplog.text)
    assert calls == []


def test_the_heartbeat_ends_when_there_is_nothing_to_keep() -> None:
    before = heartbeats()  # of other tests' stores, which end meanwhile

    def of_this() -> int:
        return len([thread for thread in heartbeats() if thread not in before])

    store = MemoryStore()
    saga = Saga("s", lease=0.15).add_task(step(lambda: time.sleep(0.2), name="a"))
    during: list[int] = []
    saga.add_task(step(lambda: during.append(of_this()), name="b"))
    for _ in range(2):
        saga.execute(store=store)
        assert during[-1] == 1
        until(lambda: of_this() == 0)


def test_a_store_nobody_uses_any_more_is_not_kept() -> None:
    store = MemoryStore()
    Saga("s", lease=0.15).add_task(step(lambda: 1, name="a")).execute(store=store)
    gone = weakref.ref(store)
    del store

    def collected() -> bool:
        gc.collect()
        return gone() is None

    until(collected)


def test_heartbeats_that_fail_are_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    watched = Watched(store)
    failed: list[int] = []

    def renew(*args: Any) -> Any:
        if len(failed) < 2:
            failed.append(1)
            raise StorageError("no connection")
        return store.renew(*args)

    watched.renew = renew  # type: ignore[attr-defined]
    saga = Saga("s", lease=0.3).add_task(step(lambda: time.sleep(0.6), name="a"))
    assert saga.execute(saga_id="x", store=watched).ok  # type: ignore[arg-type]
    assert "leases could not be renewed: no connection" in caplog.text
    assert failed == [1, 1]


def test_a_heartbeat_does_not_make_a_stolen_lease_last() -> None:
    store = MemoryStore()
    stolen: list[float] = []

    def slow(context: Context) -> None:
        steal(store, context.step.saga_id)
        stolen.append(store.get(context.step.saga_id).lease_until)  # type: ignore[union-attr]
        time.sleep(0.5)
        stolen.append(store.get(context.step.saga_id).lease_until)  # type: ignore[union-attr]

    with pytest.raises(LeaseLostError):
        Saga("s", lease=0.3).add_task(step(slow, name="a")).execute(saga_id="x", store=store)
    assert stolen[0] == stolen[1]


def test_threads_that_begin_at_the_same_time_have_one_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> str:
        time.sleep(0.1)  # all of them are here now that came to make the owner
        return "host"

    monkeypatch.setattr(leases, "_owner", (0, ""))
    monkeypatch.setattr(leases.socket, "gethostname", slow)
    with ThreadPoolExecutor(4) as pool:
        assert len({made.result() for made in [pool.submit(owner) for _ in range(4)]}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_is_another_owner_and_keeps_its_own_leases(tmp_path: Any) -> None:
    path = tmp_path / "saga.db"

    def build() -> Saga:
        return Saga("s", lease=2 * LONG).add_task(step(lambda: time.sleep(4 * LONG), name="a", in_doubt=InDoubt.RERUN))

    mine = owner()
    with SqliteStore(path) as store:
        forked: list[int] = []

        def fork() -> None:
            time.sleep(0.1)
            forked.append(os.fork())
            if forked[0] == 0:
                code = 1
                try:
                    with SqliteStore(path) as again:
                        result = build().execute(saga_id="child", store=again)
                    code = 0 if result.ok and owner() != mine else 2
                finally:
                    os._exit(code)
            time.sleep(0.6)

        saga = Saga("parent", lease=0.3).add_task(step(fork, name="a"))
        other = threading.Event()
        daemon = threading.Thread(
            target=Recovery(path, [build(), Saga("parent").add_task(step(fork, name="a"))]).run,
            args=(other,),
            kwargs={"interval": 0.02},
        )
        assert saga.execute(saga_id="mine", store=store).ok
        daemon.start()
        _, status = os.waitpid(forked[0], 0)
        other.set()
        daemon.join()
        assert os.waitstatus_to_exitcode(status) == 0
        assert journal_of(store, "mine") == ["SagaStarted", "StepStarted a", "StepSucceeded a", "SagaCompleted"]
        assert journal_of(store, "child") == ["SagaStarted", "StepStarted a", "StepSucceeded a", "SagaCompleted"]


# -- stores that fail -------------------------------------------------------------------------------------------------


def well(world: World) -> Saga:
    return Saga("s").add_task(probe("a", world)).add_task(probe("b", world, timeout=30.0)).add_task(probe("c", world))


def failing(world: World) -> Saga:
    often = Retry(3, 0.001)
    saga = Saga("s").add_task(probe("a", world, "", "fail", compensation_retry=often)).add_task(probe("b", world))
    return saga.add_task(probe("c", world, "fail fail", retry=Retry(2, 0.001)))


def grouped(world: World) -> Saga:
    branches = parallel(sequence(probe("b", world), probe("c", world)), probe("d", world, "fail", on_error=Skip))
    return Saga("s").add_task(probe("a", world)).add_task(branches).add_task(probe("e", world))


def grouped_failing(world: World) -> Saga:
    # The branches end in a certain order, so that the n-th write is the same one each time.
    late = step(lambda: time.sleep(0.05), name="pause")
    branches = parallel(sequence(probe("b", world), probe("c", world)), sequence(late, probe("d", world, "fail")))
    return Saga("s").add_task(probe("a", world)).add_task(branches)


def stuck(world: World) -> Saga:
    return Saga("s").add_task(probe("a", world, "", "fail fail fail")).add_task(probe("b", world, "fail"))


SHAPES = [well, failing, grouped, grouped_failing, stuck]


def commits_of(build: Callable[[World], Saga]) -> int:
    watched = Watched(MemoryStore())
    build(World(store=watched.store)).try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    return len(watched.writes)


@pytest.mark.parametrize("build", SHAPES)
@pytest.mark.parametrize("for_ever", [False, True])
def test_a_store_that_fails_at_any_write_stops_the_saga_and_a_recovery_finishes_it(
    build: Callable[[World], Saga], for_ever: bool, new_store: Callable[[], Store]
) -> None:
    for number in range(commits_of(build)):
        watched = Watched(new_store())
        world = World(store=watched.store)

        def fail(attempted: int, number: int = number) -> None:
            if attempted == number or (for_ever and attempted > number):
                raise StorageError(f"disk full at {number}")

        watched.before = fail
        with pytest.raises(StorageError, match=f"disk full at {number}"):
            within(PATIENCE, lambda watched=watched, world=world: build(world).execute(saga_id="x", store=watched))  # type: ignore[misc]
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith(("saga step", "saga x"))])
        stored = journal_of(watched.store, "x")
        begun = [line.partition(" ")[2] for line in stored if line.startswith("StepStarted")]
        assert {name for name, _ in world.calls if not name.startswith("-")} <= set(begun)  # nothing ran without an intent
        assert world.faults == []
        if number == 0:
            assert world.calls == []
            assert stored == []
            continue
        row = watched.store.get("x")
        assert row is not None
        assert (row.owner, row.status in ("running", "compensating")) == (None, True)  # given back, for others to take up
        (result,) = within(PATIENCE, Recovery(watched.store, [build(world)]).run_once)
        entries = watched.store.journal("x")
        check_journal(entries)
        check_truth(result, world)
        for name, seen in world.seen_by_call().items():  # what was under way when the store failed has no outcome
            assert len(seen) - outcomes(entries, name.removeprefix("-"), name.startswith("-")) in (0, 1)


@pytest.mark.parametrize("build", SHAPES)
def test_what_a_faulty_store_raises_is_told_as_a_storage_error(build: Callable[[World], Saga]) -> None:
    """It is no interrupt: nothing is undone here, and a recovery finishes it."""
    for number in range(1, commits_of(build)):
        watched = Watched(MemoryStore())
        world = World(store=watched.store)

        def fail(attempted: int, number: int = number) -> None:
            if attempted == number:
                raise RuntimeError("a fault")

        watched.before = fail
        with pytest.raises(StorageError, match="a fault") as caught:
            within(PATIENCE, lambda watched=watched, world=world: build(world).execute(saga_id="x", store=watched))  # type: ignore[misc]
        assert isinstance(caught.value.__cause__, RuntimeError)
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith(("saga step", "saga x"))])
        assert watched.attempted == number + 1
        (result,) = within(PATIENCE, Recovery(watched.store, [build(world)]).run_once)
        check_journal(watched.store.journal("x"))
        check_truth(result, world)


def test_a_lease_is_not_given_back_while_a_branch_runs(store: Store) -> None:
    watched = Watched(store)
    calls: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        calls.append("b")

    def fail(attempted: int) -> None:
        if attempted:
            raise StorageError("the disk is full")

    watched.before = fail
    flow = parallel(
        step(lambda: begun.wait(PATIENCE), lambda: calls.append("-a"), name="a"),
        step(slow, lambda: calls.append("-b"), name="b"),
    )
    saga = Saga("s").add_task(flow)
    try:
        with pytest.raises(StorageError, match="the disk is full"):
            saga.execute(saga_id="x", store=watched)  # type: ignore[arg-type]
        time.sleep(0.05)
        assert store.get("x").owner == owner()  # type: ignore[union-attr]
        assert Recovery(store, [saga]).run_once() == []
    finally:
        go_on.set()
    until(lambda: store.get("x").owner is None)  # type: ignore[union-attr]
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert calls[0] == "b"
    assert sorted(calls[1:]) == ["-a", "-b"]


@pytest.mark.parametrize("build", SHAPES)
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_in_any_write_undoes_everything(
    build: Callable[[World], Saga], after: bool, new_store: Callable[[], Store]
) -> None:
    """The write may have been made by then or not: the journal has each entry once all the same."""
    for number in range(commits_of(build)):
        watched = Watched(new_store())
        world = World(store=watched.store)

        def interrupt(attempted: int, number: int = number) -> None:
            if attempted == number:
                raise KeyboardInterrupt(f"at {number}")

        if after:
            watched.after = interrupt
        else:
            watched.before = interrupt
        with pytest.raises(KeyboardInterrupt, match=f"at {number}"):
            within(PATIENCE, lambda watched=watched, world=world: build(world).execute(saga_id="x", store=watched))  # type: ignore[misc]
        assert world.faults == []
        row = watched.store.get("x")
        if number == 0:
            # It struck before the execution was this process's to undo. What is stored is in doubt.
            assert world.calls == []
            assert (row is not None) == after
            continue
        assert row is not None
        assert (Status(row.status).terminal, row.owner) == (True, None)
        check_journal(watched.store.journal("x"))
        (result,) = [build(world).try_execute(saga_id="x", store=watched.store)]
        check_truth(result, world)
        ended = any(told(entry).startswith("SagaCompleted") for entry in watched.store.journal("x"))
        assert ended == (build in (well, grouped) and number == commits_of(build) - 1)  # only where it had ended already


def test_two_interrupts_in_writes_still_undo_everything() -> None:
    for first in range(1, commits_of(failing)):
        for second in range(first + 1, commits_of(failing) + 1):
            watched = Watched(MemoryStore())
            world = World(store=watched.store)

            def interrupt(attempted: int, at: tuple[int, int] = (first, second)) -> None:
                if attempted in at:
                    raise KeyboardInterrupt

            watched.before = interrupt
            with pytest.raises(KeyboardInterrupt):
                within(PATIENCE, lambda watched=watched, world=world: failing(world).execute(saga_id="x", store=watched))  # type: ignore[misc]
            assert world.faults == []
            check_journal(watched.store.journal("x"))
            check_truth(failing(world).try_execute(saga_id="x", store=watched.store), world)


def test_what_this_process_runs_is_not_taken_from_it_where_its_lease_could_not_be_renewed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    saga = Saga("order", store=store, lease=0.1).add_task(step(gate.hold, name="hold"))
    late = threading.Event()

    def renew(*args: Any) -> Any:
        late.set()
        raise StorageError("the disk is busy")

    with monkeypatch.context() as patch:
        patch.setattr(store, "renew", renew)
        running = background(lambda: saga.try_execute(saga_id="x"))
        assert gate.reached.wait(30)
        assert late.wait(30)
        until(lambda: store.get("x").lease_until < store.now())  # type: ignore[union-attr]
        assert Worker(store, [saga]).run_once() == []
        waiting = background(lambda: saga.try_execute(saga_id="x"))
        Operations(store, "ann").cancel("x", "the customer has left")
        until(lambda: store.inbox("x"))
    gate.open()
    assert running().status is waiting().status is Status.COMPENSATED
    assert store.get("x").epoch == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(("vouches", "renewed", "late"), [(True, False, {"x"}), (True, True, set()), (False, False, set())])
def test_what_is_renewed_or_run_by_nobody_is_not_late(
    store: Store, monkeypatch: pytest.MonkeyPatch, vouches: bool, renewed: bool, late: set[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(leases, "clock", lambda: now[0])

    class Runs:
        def vouches(self) -> bool:
            return vouches

        def place(self) -> None:
            return None

        notify = place

    saga = Saga("order", store=store, lease=60.0).add_task(step(lambda: None, name="a"))
    saga.submit(saga_id="x")
    (row,) = store.claim(owner(), 60.0)
    keeper, holder = leases.Keeper(store), Runs()
    keeper.hold(Lease("x", owner(), row.epoch), 60.0, holder)
    assert keeper.late() == set()
    now[0] += 31.0
    if renewed:
        keeper._renew(store, list(keeper._held.values()), 60.0)
    assert keeper.late() == late
