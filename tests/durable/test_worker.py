"""A worker runs what is there to be run, where it can, and is told when it is time to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Saga, Status, step
from saga.durable.codec import Codec
from saga.durable.leases import owner
from saga.errors import SagaDefinitionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, SqliteStore, Store
from saga.storage.records import NewWorker
from saga.worker import Worker
from saga.working import shift
from saga.working.crew import Crew
from saga.working.definitions import Definitions
from saga.working.jobs import Jobs
from saga.working.saying import say_begins
from saga.working.service import stopped_by_signals
from tests.kit import SHORT, Gate, Watched, auntil, background, until


class Threads:
    """Steps that note where they are called."""

    def __init__(self) -> None:
        self.seen: list[threading.Thread] = []
        self.loops: list[Any] = []

    def here(self) -> None:
        self.seen.append(threading.current_thread())

    async def there(self) -> None:
        self.loops.append(asyncio.get_running_loop())


def ended(store: Store) -> int:
    return sum(one.executions for one in store.count(["status"], status=["completed"]))


def test_synchronous_executions_run_in_threads_and_asynchronous_ones_in_the_loop_they_were_given(store: Store) -> None:
    notes = Threads()
    sync = Saga("sync", store=store).add_task(step(notes.here, name="here"))
    aio = Saga("aio", store=store).add_task(step(notes.there, name="there"))
    sync.submit_many([{}] * 5)
    aio.submit_many([{}] * 5)

    async def main() -> None:
        ran = await Worker(store, [sync, aio], workers=2).arun_once()
        assert len(ran) == 10
        assert set(notes.loops) == {asyncio.get_running_loop()}

    asyncio.run(main())
    assert all(thread.name.startswith("saga worker ") and thread.daemon for thread in notes.seen)
    assert len({thread.name for thread in notes.seen}) <= 2
    assert threading.main_thread() not in notes.seen


def test_with_one_worker_and_once_all_is_called_in_the_calling_thread(store: Store) -> None:
    notes = Threads()
    saga = Saga("sync", store=store).add_task(step(notes.here, name="here"))
    saga.submit_many([{}] * 3)
    assert len(Worker(store, [saga], workers=1).run_once()) == 3
    assert set(notes.seen) == {threading.current_thread()}


def test_one_loop_serves_all_that_is_asynchronous(store: Store) -> None:
    notes = Threads()
    aio = Saga("aio", store=store).add_task(step(notes.there, name="there"))
    aio.submit_many([{}] * 20)
    worker = Worker(store, [aio])
    running = background(lambda: worker.run(signals=False))
    until(lambda: ended(store) == 20)
    worker.stop()
    running()
    assert len({id(loop) for loop in notes.loops}) == 1
    assert notes.loops[0].is_closed()
    until(lambda: not [one for one in threading.enumerate() if one.name == "saga worker loop"])


def test_as_many_asynchronous_executions_run_at_once_as_it_says(store: Store) -> None:
    inside, most = [0], [0]
    gate = Gate()

    async def stay() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await gate.ahold()
        inside[0] -= 1

    saga = Saga("aio", store=store).add_task(step(stay, name="stay"))
    saga.submit_many([{}] * 9)
    worker = Worker(store, [saga], concurrency=4)
    running = background(worker.run_once)
    until(lambda: inside[0] == 4)
    gate.open()
    assert len(running()) == 9
    assert most[0] == 4


def test_one_whose_task_is_cancelled_before_it_begins_is_given_back(store: Store) -> None:
    saga = Saga("aio", store=store).add_task(step(Threads().there, name="there"))
    handle = saga.submit()
    definitions = Definitions([saga], (), None, "Worker")
    (row,) = store.claim(owner(), 30.0, wanted=definitions.wanted(True))

    async def main() -> None:
        jobs = Jobs(store, definitions, 10, 1.0, {}, print)
        crew = Crew(jobs, 0, 1, asyncio.get_running_loop())
        crew.ended = lambda: None
        crew.take(*jobs.claimed([row]))
        await asyncio.sleep(0)  # it is there, and has not begun
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await auntil(lambda: crew.idle)
        crew.close()

    asyncio.run(main())
    assert handle.status() is Status.SUBMITTED
    assert len(Worker(store, [saga]).run_once()) == 1


def test_a_long_step_keeps_nobody_else_back(store: Store) -> None:
    gate = Gate()
    slow = Saga("slow", store=store).add_task(step(gate.hold, name="hold"))
    quick = Saga("quick", store=store).add_task(step(lambda: None, name="go"))
    slow.submit()
    worker = Worker(store, [slow, quick], workers=2)
    running = background(lambda: worker.run(signals=False, interval=0.02))
    assert gate.reached.wait(30)
    for _ in range(3):
        quick.submit().result(30)
    worker.stop()
    gate.open()
    running()


def test_when_it_stops_it_finishes_what_is_in_hand_and_gives_the_rest_back_at_once(store: Store) -> None:
    gate = Gate()
    calls: list[Any] = []

    def first(context: Context) -> None:
        calls.append(context.n)
        gate.hold()

    saga = Saga("order", store=store).add_task(step(first, name="first")).add_task(step(lambda: None, name="second"))
    saga.submit_many([{"n": number} for number in range(25)])
    stop = threading.Event()
    worker = Worker(store, [saga], workers=1)
    running = background(lambda: worker.run(stop, signals=False, interval=0.02))
    assert gate.reached.wait(30)
    stop.set()
    until(lambda: store.count(["status"], status=["submitted"])[0].executions == 24)
    until(lambda: all(row.owner is None for row in store.list(status=["submitted"]).executions))
    gate.open()
    running()
    assert (calls, ended(store)) == ([0], 1)
    assert {row.recoveries for row in store.list(status=["submitted"]).executions} == {0}
    assert len(Worker(store, [saga]).run_once()) == 24


@pytest.mark.parametrize("asynchronous", [False, True])
def test_it_can_finish_the_calls_in_hand_alone_and_another_goes_on_exactly_there(store: Store, asynchronous: bool) -> None:
    gate = Gate()
    calls: list[str] = []

    def note(name: str) -> Any:
        def call() -> str:
            calls.append(name)
            return name

        async def acall() -> str:
            return call()

        return step(acall if asynchronous else call, name=name)

    async def ahold() -> None:
        calls.append("hold")
        await gate.ahold()

    def hold() -> None:
        calls.append("hold")
        gate.hold()

    saga = Saga("order", store=store).add_task(note("a")).add_task(step(ahold if asynchronous else hold, name="hold"))
    saga.add_task(note("b"))
    saga.submit(saga_id="x")
    worker = Worker(store, [saga], finish="calls")
    running = background(lambda: worker.run(signals=False, interval=0.02))
    until(lambda: "hold" in calls)
    worker.stop()
    until(lambda: [one.stopping for one in store.workers()] == [True])
    gate.open()
    running()
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner, row.recoveries) == ("running", None, 0)
    assert calls == ["a", "hold"]
    (result,) = Worker(store, [saga]).run_once()
    assert result.status is Status.COMPLETED
    assert calls == ["a", "hold", "b"]
    assert result.in_doubt == ()
    assert [record.attempts for record in result.history] == [1, 1, 1]


def held_up(store: Store, gate: Gate, hold: Callable[..., Any]) -> tuple[Saga, Worker, Callable[..., None]]:
    """Return a saga, a worker without time of grace that has "x" of it in hand at the gate, and what waits for its end."""
    saga = Saga("order", store=store).add_task(step(hold, name="hold")).add_task(step(lambda: None, name="b"))
    saga.submit(saga_id="x")
    worker = Worker(store, [saga], grace=0.02)
    running = background(lambda: worker.run(signals=False, interval=0.02))
    assert gate.reached.wait(30)
    return saga, worker, running


def test_after_its_time_of_grace_it_leaves_what_still_runs(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    saga, worker, running = held_up(store, gate, gate.hold)
    worker.stop()
    running()
    assert "these still run, and are left as they are: x" in caplog.text
    assert store.get("x").owner is not None  # type: ignore[union-attr]
    left = [thread for thread in threading.enumerate() if thread.name.startswith("saga worker")]
    assert left
    assert all(thread.daemon for thread in left)  # which keeps no process
    gate.open()  # what is left goes on with its call alone
    until(lambda: store.get("x").owner is None)  # type: ignore[union-attr]
    assert store.get("x").status == "running"  # type: ignore[union-attr]
    assert len(Worker(store, [saga]).run_once()) == 1


def test_nor_does_it_wait_longer_for_a_call_that_has_outlived_its_timeout(
    store: Store, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    slow = step(gate.hold, lambda: None, name="slow", timeout=SHORT)
    saga = Saga("order", store=store).add_task(slow).add_task(step(Threads().there, name="there"))
    handle = saga.submit(saga_id="x")
    worker = Worker(store, [saga], grace=0.02)
    running = background(lambda: worker.run(signals=False, interval=0.02))
    until(lambda: handle.status() is Status.COMPENSATING)
    worker.stop()
    running()
    assert "these still run, and are left as they are: x" in caplog.text
    gate.open()  # its event loop goes on for that
    until(lambda: handle.status() is Status.COMPENSATED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it_and_are_left_as_they_were(store: Store, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    calls: list[int] = []

    def first(context: Context) -> None:
        calls.append(context.n)
        os.kill(os.getpid(), number)

    saga = Saga("order", store=store).add_task(step(first, name="first"))
    saga.submit_many([{"n": number} for number in range(5)])
    Worker(store, [saga], workers=1).run(interval=0.02)
    assert 1 <= len(calls) < 5
    assert signal.getsignal(number) is before
    assert all(row.owner is None for row in store.list().executions)


def test_a_second_interrupt_ends_it_at_once(store: Store) -> None:
    gate = Gate()

    def first() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        gate.hold()

    saga = Saga("order", store=store).add_task(step(first, name="first"))
    saga.submit()
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        Worker(store, [saga], workers=1).run(interval=0.02)
    gate.open()
    until(lambda: store.list().executions[0].owner is None)


def test_a_cancelled_worker_finishes_what_is_in_hand_first(store: Store) -> None:
    entered: list[int] = []

    async def stay() -> None:
        entered.append(1)
        await asyncio.sleep(0.05)

    saga = Saga("aio", store=store).add_task(step(stay, name="stay")).add_task(step(stay, name="again"))
    saga.submit()

    async def main() -> None:
        task = asyncio.create_task(Worker(store, [saga]).arun())
        while not entered:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended(store) == 1


def test_a_worker_says_that_it_lives_and_what_it_has(store: Store) -> None:
    gate = Gate()
    saga = Saga("order", store=store, version="7").add_task(step(gate.hold, name="hold"))
    saga.submit()
    worker = Worker(store, [saga])
    running = background(lambda: worker.run(signals=False, interval=0.02))
    assert gate.reached.wait(30)
    operations = Operations(store, "ann")
    (found,) = operations.workers()
    assert (found.pid, found.definitions) == (os.getpid(), (("order", "7", saga.plan.fingerprint),))
    (version,) = operations.versions()
    assert (version.version, version.workers, version.executions, version.held) == ("7", 1, {"running": 1}, None)
    worker.stop()
    until(lambda: [one.stopping for one in operations.workers()] == [True])
    gate.open()
    running()
    assert operations.workers() == []
    assert operations.versions() == []


def test_nothing_of_what_is_held_is_begun_and_what_has_begun_goes_on(store: Store) -> None:
    saga = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    saga.submit(saga_id="new")
    operations = Operations(store, "ann")
    with pytest.raises(ValueError, match="why"):
        operations.hold("order", "")
    operations.hold("order", "stocktaking")
    assert Worker(store, [saga]).run_once() == []
    assert operations.versions()[0].held == "ann: stocktaking"
    assert [(one.name, one.why) for one in operations.holds()] == [("order", "stocktaking")]
    assert operations.let_go("order") is True
    operations.drain("order", "1", "deploying 2")
    assert Worker(store, [saga]).run_once() == []
    second = Saga("order", store=store, version="2", compatible_with=["1"]).add_task(step(lambda: None, name="b"))
    assert [one.saga_id for one in Worker(store, [second]).run_once()] == ["new"]


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("order", None, None),
        ("order", "1", None),
        ("carried", "7", None),
        ("given", None, None),
        ("oder", None, "of saga 'oder'; did you mean 'order'?"),
        ("order", "11", "of version '11' of saga 'order', but of '1'"),
    ],
)
def test_who_holds_what_nobody_knows_is_told_so(
    store: Store, caplog: pytest.LogCaptureFixture, name: str, version: str | None, says: str | None
) -> None:
    saga, given = (Saga(one, store=store).add_task(step(lambda: None, name="a")) for one in ("order", "given"))
    saga.execute({})
    store.announce(NewWorker("w", "here", 1, [("carried", "7", "print")], 0), 60.0)
    operations = Operations(store, "ann", sagas=[given])
    known = operations.hold(name, "why") if version is None else operations.drain(name, version, "why")
    assert known is (says is None)
    assert [(one.name, one.version) for one in store.holds()] == [(name, version or "")]
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert (says is None and told == []) or (says is not None and says in told[0])


def test_a_worker_of_another_store_than_its_sagas_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine, other = SqliteStore(tmp_path / "mine.db"), SqliteStore(tmp_path / "other.db")
    here, memory = f"sqlite:///{tmp_path / 'mine.db'}", MemoryStore()
    (tmp_path / "link.db").symlink_to(tmp_path / "mine.db")
    same = [None, mine, here, tmp_path / "mine.db", tmp_path / "link.db", Watched(other)]
    another = [other, f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "third.db", memory, "postgresql://localhost/orders"]
    for stores, warns in ((same, False), (another, True)):
        for one in stores:
            saga = Saga("order", store=one).add_task(step(lambda: None, name="a"))
            for kind in (Worker, Recovery):
                caplog.clear()
                kind(mine, [saga])
                assert [f"{kind.__name__}: saga 'order' has another store" in text for text in caplog.messages] == [
                    True
                ] * warns
    assert not (tmp_path / "third.db").exists()
    mine.close()
    other.close()


def test_what_no_definition_fits_is_left_to_workers_that_have_one(store: Store) -> None:
    old = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    new = Saga("order", store=store, version="2").add_task(step(lambda: None, name="b"))
    old.submit(saga_id="x")
    ran = Worker(store, [new]).run_once()
    assert (list(ran), ran.parked) == ([], [])
    assert store.get("x").status == "submitted"  # type: ignore[union-attr]
    assert len(Worker(store, [old]).run_once()) == 1


def test_it_is_parked_where_no_worker_has_had_one_for_long(store: Store) -> None:
    old = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    new = Saga("order", store=store, version="2").add_task(step(lambda: None, name="b"))
    old.submit(saga_id="x")
    old.submit(saga_id="later", at=store.now() + 3600.0)
    worker = Worker(store, [old])
    elsewhere = background(lambda: worker.run(signals=False, interval=3600.0))
    until(lambda: store.count(["status"], status=["completed"]))
    old.submit(saga_id="y")
    until(lambda: store.get("y").status == "completed")  # type: ignore[union-attr]
    Operations(store, "ann").hold("order", "so that nobody begins it")
    old.submit(saga_id="z")
    assert Worker(store, [new], unfit_after=0).run_once().parked == []  # somebody that lives has one
    worker.stop()
    elsewhere()
    assert Worker(store, [new], unfit_after=0).run_once().parked == []  # a person holds it, and knows of it
    Operations(store, "ann").let_go("order")
    ran = Worker(store, [new], unfit_after=0).run_once()
    (parked,) = ran.parked
    assert (parked.saga_id, parked.saga) == ("z", "order")
    assert "begun by version '1'" in parked.reason
    row = store.get("z")
    assert row is not None
    assert row.status == "stuck"
    assert row.reason == parked.reason
    assert store.get("later").status == "submitted"  # type: ignore[union-attr]


def test_nor_where_it_was_to_be_begun_long_ago_but_is_here_for_a_moment(store: Store) -> None:
    old = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    new = Saga("order", store=store, version="2").add_task(step(lambda: None, name="b"))
    old.submit(saga_id="x", at=store.now() - 3600.0)
    assert Worker(store, [new], unfit_after=600.0).run_once().parked == []
    assert [one.saga_id for one in Worker(store, [new], unfit_after=0).run_once().parked] == ["x"]


def test_a_poisoned_journal_ends_no_worker(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    saga = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    saga.submit(saga_id="x")
    (row,) = store.claim("dead", -1.0)
    from saga.storage import Entry

    store.append(Lease("x", "dead", row.epoch), [Entry(2, "Nonsense", None, "{", 0.0)])
    saga.submit(saga_id="y")
    with caplog.at_level(logging.CRITICAL):
        ran = Worker(store, [saga], backoff=0.001, max_attempts=2).run_once()
    assert [one.saga_id for one in ran] == ["y"]


def test_a_recovery_begins_nothing(store: Store) -> None:
    saga = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    saga.submit()
    assert Recovery(store, [saga]).run_once() == []
    assert len(Worker(store, [saga]).run_once()) == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"workers": 0}, "workers is 0"),
    ({"concurrency": True}, "concurrency is True"),
    ({"max_attempts": 1.5}, r"max_attempts is 1\.5"),
    ({"grace": -1}, "grace is -1"),
    ({"unfit_after": None}, "unfit_after is None"),
    ({"finish": "now"}, "finish is 'now'"),
    ({"backoff": -1}, "backoff is -1"),
    ({"sagas": []}, "give the sagas"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=[says for _, says in WRONG])
def test_what_is_wrong_is_refused(store: Store, wrong: dict[str, Any], says: str) -> None:
    saga = Saga("order").add_task(step(lambda: None, name="a"))
    with pytest.raises(SagaDefinitionError, match=says):
        Worker(store, **({"sagas": [saga]} | wrong))


@pytest.mark.parametrize(("wrong", "says"), [({"stop": 1}, "stop is 1"), ({"interval": 0}, "interval is 0")])
def test_what_is_wrong_is_refused_before_it_runs(store: Store, wrong: dict[str, Any], says: str) -> None:
    saga = Saga("order").add_task(step(lambda: None, name="a"))
    with pytest.raises(SagaDefinitionError, match=says):
        Worker(store, [saga]).run(**wrong)
    with pytest.raises(SagaDefinitionError, match=says):
        asyncio.run(Worker(store, [saga]).arun(**wrong))


def test_systemd_hears_that_it_lives_while_it_finishes_what_is_in_hand(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    saga = Saga("order", store=store).add_task(step(gate.hold, name="hold"))
    saga.submit()
    said: list[str] = []
    monkeypatch.setattr(shift, "BEAT", 0.01)
    monkeypatch.setattr(shift, "notify", said.append)
    worker = Worker(store, [saga])
    running = background(lambda: worker.run(signals=False, interval=0.02))
    assert gate.reached.wait(30)
    worker.stop()
    until(lambda: "STOPPING=1" in said and said[said.index("STOPPING=1") :].count("WATCHDOG=1") > 2)
    gate.open()
    running()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_whoever_is_told_that_it_is_ready_may_stop_it_by_a_signal(
    store: Store, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    worker = Worker(store, [Saga("order", store=store).add_task(step(lambda: None, name="a"))])

    def tell(said: str) -> None:
        assert said == "READY=1"
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("saga.worker.notify", tell)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # else the tests would end with it
    try:
        if asynchronous:
            asyncio.run(worker.arun(interval=0.02, signals=True))
        else:
            worker.run(interval=0.02)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_systemd_is_told_where_it_asks(store: Store, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    saga = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        worker = Worker(store, [saga])
        running = background(lambda: worker.run(signals=False, interval=0.02))
        told = [systemd.recv(100), systemd.recv(100)]
        worker.stop()
        running()
        told.append(systemd.recv(100))
        told.append(systemd.recv(100))
    assert told == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1", b"WATCHDOG=1"]
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Worker(store, [saga]).run_once()


def test_one_worker_runs_once_at_a_time(store: Store) -> None:
    saga = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    worker = Worker(store, [saga])
    running = background(lambda: worker.run(signals=False, interval=0.02))
    until(lambda: store.workers())
    with pytest.raises(SagaDefinitionError, match="runs already"):
        worker.run_once()
    worker.stop()
    running()
    assert worker.run_once() == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_who_stops_it_twice_stops_what_runs_or_is_to_run_on_and_not_what_is_run_once(
    store: Store, caplog: pytest.LogCaptureFixture, asynchronous: bool
) -> None:
    saga = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    saga.submit(saga_id="x")
    worker = Worker(store, [saga])
    worker.stop()
    if asynchronous:
        asyncio.run(worker.arun())
    else:
        worker.run(signals=False)
    assert "told to stop before it began" in caplog.text
    assert store.get("x").status == "submitted"  # type: ignore[union-attr]
    worker.stop()
    ran = asyncio.run(worker.arun_once()) if asynchronous else worker.run_once()
    assert [one.saga_id for one in ran] == ["x"]


def test_what_a_worker_that_lives_is_compatible_with_is_not_parked(store: Store) -> None:
    gate = Gate()
    old = Saga("order", store=store).add_task(step(lambda: None, name="a"))
    new = Saga("order", store=store, version="3", compatible_with=["1"]).add_task(step(gate.hold, name="b"))
    other = Saga("order", store=store, version="2").add_task(step(lambda: None, name="c"))
    new.submit()
    worker = Worker(store, [new], workers=1)
    running = background(lambda: worker.run(signals=False, interval=0.02))
    assert gate.reached.wait(30)
    old.submit(saga_id="x")
    assert Worker(store, [other], unfit_after=0).run_once().parked == []
    (found,) = [one for one in Operations(store, "ann").versions() if one.version == "1"]
    assert (found.workers, found.executions) == (1, {"submitted": 1})
    worker.stop()
    gate.open()
    running()
    # Whoever had it has lived until just now.
    assert Worker(store, [other], unfit_after=60.0).run_once().parked == []


def test_a_loop_of_its_own_ends_with_what_was_left_there_after_its_time_of_grace(store: Store) -> None:
    gate = Gate()
    _, worker, running = held_up(store, gate, gate.ahold)
    before = [one for one in threading.enumerate() if one.name == "saga worker loop"]
    assert all(one.daemon for one in before)
    worker.stop()
    running()
    gate.open()
    until(lambda: not any(one.is_alive() for one in before))
    assert store.get("x").owner is None  # type: ignore[union-attr]


# -- what it says ---------------------------------------------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the worker said that all is well."""
    return [record.getMessage() for record in caplog.records if record.levelname == "INFO"]


async def elsewhere() -> None:
    """It runs in an event loop."""


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (Worker, {"sagas": ["1"]}, "runs 'order' (version 1) from <MemoryStore>, 4 at once in threads"),
        (Worker, {"sagas": ["1", "2"], "workers": 2}, "runs 'order' (versions 1, 2) from <MemoryStore>, 2 at once in threads"),
        (
            Worker,
            {"sagas": ["1"], "loops": True, "transactions": ["pay"], "codec": Codec(modules=[__name__])},
            "runs 'order' (version 1), 'loops' (version 1), blocks 'pay' from <MemoryStore>, "
            "4 at once in threads and 100 at once in an event loop",
        ),
        (
            Recovery,
            {"sagas": ["1"]},
            "finishes what dead processes left of 'order' (version 1) from <MemoryStore>, 1 at once in threads",
        ),
    ],
)
def test_it_says_what_it_runs_and_that_it_has_ended(
    kind: Any, given: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    sagas = [Saga("order", version=version).add_task(step(lambda: 1, name="a")) for version in given.pop("sagas")]
    if given.pop("loops", False):
        sagas.append(Saga("loops").add_task(step(elsewhere, name="a")))
    worker = kind(MemoryStore(), sagas, **given)
    with caplog.at_level(logging.INFO, logger="saga"):
        running = background(lambda: worker.run(signals=False, interval=0.02))
        until(lambda: bool(told(caplog)))
        worker.stop()
        running()
    assert told(caplog) == [
        f"worker: it {says}",
        "worker: it stops, with nothing in hand",
        "worker: it has ended, and has seen to 0 executions",
    ]


@pytest.mark.parametrize(
    ("finish", "says"),
    [
        ("executions", "worker: it stops: 1 execution in hand may take 30 s to end"),
        ("calls", "worker: it stops: the calls of 1 execution in hand have 30 s to end, and others go on from there"),
    ],
)
def test_it_says_what_it_waits_for_before_it_ends(
    store: Store, gate: Gate, finish: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    saga = Saga("order", store=store).add_task(step(gate.hold, name="hold"))
    saga.submit(saga_id="x")
    worker = Worker(store, [saga], finish=finish)
    with caplog.at_level(logging.INFO, logger="saga"):
        running = background(lambda: worker.run(signals=False, interval=0.02))
        assert gate.reached.wait(30)
        worker.stop()
        until(lambda: says in told(caplog))
        gate.open()
        running()
    assert told(caplog)[1:] == [says, "worker: it has ended, and has seen to 1 execution"]


def test_one_that_runs_once_says_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    saga = Saga("order", store=store).add_task(step(lambda: 1, name="a"))
    saga.submit(saga_id="x")
    with caplog.at_level(logging.INFO, logger="saga"):
        assert len(Worker(store, [saga]).run_once()) == 1
    assert told(caplog) == []


def test_of_many_sagas_it_names_some(caplog: pytest.LogCaptureFixture) -> None:
    sagas = [Saga(f"s{number}").add_task(step(lambda: 1, name="a")) for number in range(25)]
    with caplog.at_level(logging.INFO, logger="saga"):
        say_begins(MemoryStore(), Definitions(sagas, (), None, "Worker"), True, 4, 100)
    (line,) = told(caplog)
    assert "'s19' (version 1), and 5 more from <MemoryStore>" in line
    assert "'s20'" not in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_strikes_where_a_lock_is_held_does_not_wait_for_it(number: int) -> None:
    lock, took = threading.Lock(), list[bool]()

    def stop() -> None:  # as an event is set, in whose wait() the signal has struck
        took.append(lock.acquire(timeout=10.0))

    with stopped_by_signals(stop):
        with lock:
            signal.raise_signal(number)
        until(lambda: took)
    assert took == [True]
