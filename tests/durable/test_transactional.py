"""Transactional steps: what they do in the store's database, their results and their journal entries are one commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from saga import Context, OutcomeUnknownError, Retry, Saga, Status, step, transaction
from saga.drivers.base import Driver, clock
from saga.durable.codec import Codec
from saga.durable.elsewhere import keys_in
from saga.durable.transaction import StepTransaction
from saga.errors import LeaseLostError, SagaDefinitionError, SagaExecutionException, SagaTimeoutError, StorageError
from saga.events import CompensationStarted, StepStarted, StepSucceeded
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, NewExecution, SqliteStore, Store
from tests.kit import PATIENCE, background
from tests.kit.ledgers import DATABASES, THREADS, WAYS, Ledger, Way, awaited
from tests.kit.shelves import Shelf


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with DATABASES[request.param](request) as store:
        yield store


def fail(context: Context) -> None:
    raise ValueError("no")


def enter(context: Context) -> str:
    return Ledger.write(context)


def leave(context: Context) -> None:
    Ledger.take_back(context)


def entered(ledger: Ledger, name: str = "enter", way: Way = THREADS, **policies: Any) -> Any:
    return step(way.of(ledger.write), way.of(ledger.take_back), name=name, transactional=True, **policies)


def kinds(store: Store, saga_id: str = "x") -> list[str]:
    return [entry.kind for entry in store.journal(saga_id)]


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    way: Way = request.param
    if way.coroutines and "store" in request.fixturenames and not request.getfixturevalue("store").transacts_async:
        pytest.skip("this store has no asynchronous connections")
    return way


def test_the_sagas_timeout_strikes_when_it_has_ended(
    store: Store, ledger: Ledger, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [0.0]
    monkeypatch.setattr(Driver, "clock", staticmethod(lambda: clock() + late[0]))

    def dawdle(context: Context) -> str:
        late[0] = 7200.0
        return ledger.write(context)

    slow = step(way.of(dawdle), way.of(ledger.take_back), name="slow", transactional=True)
    saga = Saga("order", store=store, timeout=3600.0).add_task(entered(ledger, way=way)).add_task(slow)
    result = way.executed(saga.add_task(entered(ledger, "never", way)))
    assert (result.status, type(result.error)) == (Status.COMPENSATED, SagaTimeoutError)
    assert [event.step for event in result.events if isinstance(event, StepSucceeded)] == ["enter", "slow"]
    assert ledger.rows() == []


def test_what_it_did_and_returned_is_there_with_its_entry(store: Store, ledger: Ledger, way: Way) -> None:
    seen: list[Any] = []

    def look(context: Context, result: str) -> None:
        seen.append((ledger.rows(), result, context.enter, kinds(store)[-2:]))

    result = way.executed(Saga("order", store=store).add_task(entered(ledger, way=way)).add_task(step(look)))
    assert result.status is Status.COMPLETED
    assert seen == [(["enter"], "ENTER", 1, ["StepSucceeded", "StepStarted"])]


def test_what_is_large_is_elsewhere_before_it_is_committed(
    store: Store, ledger: Ledger, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, large = Shelf(), "x" * 2000
    caller: list[int] = []
    done: list[str] = []
    shelf.before = done.append
    commits = StepTransaction._commit

    def commit(transaction: StepTransaction, one: Any) -> None:
        done.append("commit")
        commits(transaction, one)

    monkeypatch.setattr(StepTransaction, "_commit", commit)

    def write(context: Context) -> str:
        caller.append(threading.get_ident())
        ledger.write(context)
        return large

    saga = Saga("order", store=store, codec=Codec(blobs=shelf, larger_than=1000))
    saga.add_task(step(way.of(write), way.of(ledger.take_back), name="write", transactional=True))
    assert way.executed(saga).results == {"write": large}
    assert done == ["put", "commit"]
    assert not way.coroutines or shelf.threads != caller  # which is the event loop's
    assert saga.load("x").results == {"write": large}


def test_one_whose_result_cannot_be_put_is_rolled_back(store: Store, ledger: Ledger, way: Way) -> None:
    shelf = Shelf()

    def refuse(method: str) -> None:
        if shelf.count("put") == 1:
            raise ConnectionError("the bucket is gone")

    def write(context: Context) -> str:
        ledger.write(context)
        return "x" * 2000

    shelf.before = refuse
    saga = Saga("order", store=store, codec=Codec(blobs=shelf, larger_than=1000))
    saga.add_task(step(way.of(write), way.of(ledger.take_back), name="write", transactional=True))
    with pytest.raises(StorageError, match="the bucket is gone"):
        way.executed(saga)
    assert (kinds(store)[-1], ledger.rows()) == ("StepStarted", [])
    (result,) = Recovery(store, [saga]).run_once()
    assert (result.status, ledger.rows()) == (Status.COMPLETED, ["write"])
    assert keys_in(entry.payload for entry in store.journal("x")) == shelf.kept.keys()


def test_its_undo_is_one_commit_too(store: Store, ledger: Ledger, way: Way) -> None:
    result = way.executed(Saga("order", store=store).add_task(entered(ledger, way=way)).add_task(step(fail)))
    assert result.status is Status.COMPENSATED
    assert ledger.rows() == []


@pytest.mark.parametrize("error", [ValueError, ConnectionResetError, TimeoutError], ids=lambda kind: kind.__name__)
def test_one_that_raises_is_rolled_back_and_never_in_doubt(
    store: Store, ledger: Ledger, way: Way, error: type[Exception]
) -> None:
    def write(context: Context) -> str:
        ledger.write(context)
        if context.step.attempt < 3:
            raise error
        return "done"

    saga = Saga("order", store=store).add_task(step(way.of(write), transactional=True, retry=Retry(3, 0.0)))
    result = way.executed(saga)
    assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPLETED, (), ["write"])
    assert not [event for event in result.events if getattr(event, "in_doubt", False)]


@pytest.mark.parametrize("what", ["commit", "rollback"])
def test_it_cannot_end_its_transaction(store: Store, ledger: Ledger, way: Way, what: str) -> None:
    def write(context: Context) -> None:
        ledger.write(context)
        awaited(getattr(context.step.connection, what)())

    undone: list[str] = []
    one = step(way.of(write), lambda: undone.append("write"), name="write", transactional=True)
    result = way.executed(Saga("order", store=store).add_task(one))
    assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPENSATED, (), [])
    assert undone == []  # nothing of it is there to be undone


@pytest.mark.parametrize("setting", [("isolation_level", None), ("autocommit", True)], ids=lambda setting: setting[0])
def test_a_setting_that_commits_is_refused(setting: tuple[str, Any], request: pytest.FixtureRequest) -> None:
    with DATABASES["sqlite"](request) as store:
        ledger = Ledger(store)

        def write(context: Context) -> None:
            ledger.write(context)
            setattr(context.step.connection, *setting)

        result = THREADS.executed(Saga("order", store=store).add_task(step(write, name="write", transactional=True)))
        assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPENSATED, (), [])
        assert f"{setting[0]} = {setting[1]}, which commits, is saga's affair" in str(result.error)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_one_that_ends_its_transaction_by_a_statement_is_in_doubt(kind: str, way: Way, request: pytest.FixtureRequest) -> None:
    if (kind, way.coroutines) == ("sqlite", True):
        pytest.skip("this store has no asynchronous connections")
    with DATABASES[kind](request) as store:
        ledger = Ledger(store)

        def write(context: Context) -> None:
            ledger.write(context)
            ledger.run(context.step.connection, "COMMIT")

        result = way.executed(Saga("order", store=store).add_task(step(way.of(write), transactional=True)))
        assert "has ended its transaction itself" in str(result.error)
        assert result.in_doubt == ("write",)


@pytest.mark.parametrize("kind", ["postgres", "sqlalchemy-postgres"])
def test_what_a_failed_statement_left_is_not_committed(kind: str, way: Way, request: pytest.FixtureRequest) -> None:
    with DATABASES[kind](request) as store:
        ledger = Ledger(store)

        def write(context: Context) -> None:
            ledger.write(context)
            try:
                ledger.run(context.step.connection, "SELECT nothing")
            except Exception:
                return

        result = way.executed(Saga("order", store=store).add_task(step(way.of(write), transactional=True)))
        assert "a statement failed in its transaction" in str(result.error)
        assert ledger.rows() == []


def test_a_result_that_cannot_be_stored_is_rolled_back(store: Store, ledger: Ledger, way: Way) -> None:
    def write(context: Context) -> object:
        ledger.write(context)
        return object()

    undone: list[str] = []
    one = step(way.of(write), lambda: undone.append("write"), name="write", transactional=True)
    result = way.executed(Saga("order", store=store).add_task(one))
    assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPENSATED, (), [])
    assert undone == []  # nothing of it is there to be undone


def test_two_that_meet_at_a_row_are_both_done(way: Way, request: pytest.FixtureRequest) -> None:
    with DATABASES["postgres"](request) as store:
        ledger = Ledger(store)
        seen: list[tuple[int, Any]] = []

        def write(context: Context) -> None:
            seen.append((context.step.attempt, context.get("write")))
            ledger.run(context.step.connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            ledger.run(context.step.connection, "SELECT name FROM ledger")
            if len(seen) == 1:  # somebody else changes what this one has read
                another = Ledger.of(store)
                another.within(lambda connection: another.run(connection, "UPDATE ledger SET name = 'theirs'"))
            context.write = len(seen)
            ledger.run(context.step.connection, "UPDATE ledger SET name = 'ours'")

        ledger.within(lambda connection: ledger.run(connection, "INSERT INTO ledger VALUES ('first')"))
        result = way.executed(Saga("order", store=store).add_task(step(way.of(write), transactional=True)))
        assert result.status is Status.COMPLETED
        assert ledger.rows() == ["ours"]
        assert seen == [(1, None), (1, None)]  # the same attempt, with the context as it was


class Broken:
    """A lent transaction whose commit loses its answer: before the server gets it, or after.

    :ivar losses: what happens at each commit.
    """

    def __init__(self, lent: Any, losses: list[str]) -> None:
        self._lent = lent
        self._losses = losses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lent, name)

    def passes(self, error: BaseException | None) -> bool:
        return isinstance(error, ConnectionAbortedError) or bool(self._lent.passes(error))

    def commit(self) -> None:
        loss = self._losses.pop(0) if self._losses else ""
        if loss != "before":
            self._lent.commit()
        if loss:
            raise ConnectionAbortedError


@pytest.mark.parametrize("loss", ["before", "after"])
@pytest.mark.parametrize("follows", [False, True], ids=["last", "followed"])
def test_a_commit_whose_answer_is_lost_is_found_out(
    store: Store, ledger: Ledger, way: Way, loss: str, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, attempts = [loss], []
    lend, lend_in_loop = store.transaction, store.transaction_in_loop

    def write(context: Context) -> None:
        attempts.append((context.step.attempt, context.get("write")))
        ledger.write(context)

    def broken_in_loop() -> Any:
        lent = lend_in_loop()
        lent.plain = Broken(lent.plain, losses)  # type: ignore[assignment]
        return lent

    saga = Saga("order", store=store).add_task(step(way.of(write), way.of(ledger.take_back), transactional=True))
    if follows:
        saga.add_task(step(lambda: None, name="then"))
    monkeypatch.setattr(store, "transaction", lambda: Broken(lend(), losses), raising=False)
    monkeypatch.setattr(store, "transaction_in_loop", broken_in_loop, raising=False)
    result = way.executed(saga)
    monkeypatch.undo()
    assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPLETED, (), ["write"])
    assert not [event for event in result.events if getattr(event, "in_doubt", False)]
    assert attempts == [(1, None)] * (2 if loss == "before" else 1)
    assert kinds(store).count("StepSucceeded") == 1 + follows


def test_an_interrupt_in_the_call_rolls_it_back(store: Store, ledger: Ledger, way: Way) -> None:
    def write(context: Context) -> None:
        ledger.write(context)
        raise KeyboardInterrupt

    saga = Saga("order", store=store).add_task(entered(ledger, way=way))
    saga.add_task(step(way.of(write), fail, transactional=True))
    with pytest.raises(KeyboardInterrupt):
        way.executed(saga)
    result = saga.load("x")
    assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPENSATED, (), [])


@pytest.mark.parametrize("follows", [False, True], ids=["last", "followed"])
def test_a_cancelled_task_waits_for_it(store: Store, ledger: Ledger, follows: bool) -> None:
    cancelled = threading.Event()

    def cancel(task: asyncio.Task[Any]) -> None:
        task.cancel()
        cancelled.set()

    async def run() -> None:
        def write(context: Context) -> None:
            ledger.write(context)
            loop.call_soon_threadsafe(cancel, task)
            assert cancelled.wait(PATIENCE)

        loop = asyncio.get_running_loop()
        saga = Saga("order", store=store).add_task(step(write, ledger.take_back, transactional=True))
        if follows:
            saga.add_task(step(lambda: None, name="then"))
        task = asyncio.create_task(saga.aexecute(saga_id="x"))
        with pytest.raises(asyncio.CancelledError):
            await task
        # The end was committed with the last step.
        assert saga.load("x").status is (Status.COMPENSATED if follows else Status.COMPLETED)

    asyncio.run(run())
    assert ledger.rows() == ([] if follows else ["write"])


def test_who_has_lost_the_lease_commits_nothing(
    store: Store, ledger: Ledger, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = StepTransaction.commit

    async def too_late(self: StepTransaction, machine: Any) -> None:
        self._journal.lease = self._journal.lease._replace(epoch=7)
        await commit(self, machine)

    monkeypatch.setattr(StepTransaction, "commit", too_late)
    with pytest.raises(LeaseLostError):
        way.executed(Saga("order", store=store).add_task(entered(ledger, way=way)))
    assert ledger.rows() == []
    assert "StepSucceeded" not in kinds(store)


def test_a_message_that_comes_before_the_end_is_read_first(store: Store, ledger: Ledger, way: Way) -> None:
    if "sqlite" in type(store).__name__.lower() or "sqlite" in str(getattr(store, "_engine", "")):
        pytest.skip("nobody else writes meanwhile")
    calls: list[int] = []

    def write(context: Context) -> None:
        calls.append(context.step.attempt)
        ledger.write(context)
        if len(calls) == 1:
            Operations(store, who="ann").cancel("x", why="changed their mind")

    saga = Saga("order", store=store).add_task(step(way.of(write), way.of(ledger.take_back), transactional=True))
    result = way.executed(saga)
    assert (result.status, calls, ledger.rows()) == (Status.COMPENSATED, [1, 1], [])


@pytest.mark.parametrize("kept", [2, 4], ids=["before the commit", "after it"])
@pytest.mark.parametrize("crashes", [1, 3])
def test_a_crash_leaves_it_done_or_not_done(store: Store, ledger: Ledger, way: Way, kept: int, crashes: int) -> None:
    saga = Saga("order", store=store)
    for name in ("enter", "book"):
        saga.add_task(entered(ledger, name, way))
    way.executed(saga, "whole")
    row = store.get("whole")
    assert row is not None
    # What a process leaves that dies: a lease that has run out, and its entries; its transaction is gone.
    entries = [one._replace(payload=one.payload.replace("whole", "x")) for one in store.journal("whole")[:kept]]
    new = NewExecution("x", row.name, row.version, row.fingerprint, row.digest, "running")
    assert store.create(new, entries, "dead", 0.0) is None
    for _ in range(crashes - 1):
        assert store.claim("dead too", 0.0, saga_id="x")
    there = ["enter"] if kept == 4 else []
    ledger.empty(*there)
    Recovery(store, [saga]).run_once()
    result = saga.load("x")
    assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPLETED, (), ["book", "enter"])
    assert all(event.attempt == 1 for event in result.events if isinstance(event, StepStarted))


def test_a_crash_in_its_undo_uses_no_attempt(store: Store, ledger: Ledger, way: Way) -> None:
    saga = Saga("order", store=store).add_task(entered(ledger, way=way)).add_task(step(fail))
    way.executed(saga, "whole")
    row = store.get("whole")
    assert row is not None
    entries = [one._replace(payload=one.payload.replace("whole", "x")) for one in store.journal("whole")[:-2]]
    assert entries[-1].kind == "CompensationStarted"
    new = NewExecution("x", row.name, row.version, row.fingerprint, row.digest, "compensating")
    assert store.create(new, entries, "dead", 0.0) is None
    ledger.empty("enter")
    Recovery(store, [saga]).run_once()
    result = saga.load("x")
    assert (result.status, ledger.rows()) == (Status.COMPENSATED, [])
    assert [event.attempt for event in result.events if isinstance(event, CompensationStarted)] == [1]


def test_a_block_has_them_too(store: Store, ledger: Ledger) -> None:
    def block() -> None:
        with transaction("block", store=store) as tx:
            assert tx.step(enter, leave, transactional=True) == "ENTER"
            assert ledger.rows() == ["enter"]
            tx.step(fail)

    with pytest.raises(SagaExecutionException):
        block()
    assert ledger.rows() == []


def none_at_all(ledger: Ledger) -> None:
    Saga("order").add_task(entered(ledger)).execute()


def in_memory(ledger: Ledger) -> None:
    Saga("order", store=MemoryStore()).add_task(entered(ledger)).execute()


def in_memory_submitted(ledger: Ledger) -> None:
    Saga("order", store=MemoryStore()).add_task(entered(ledger)).submit()


def in_a_block(ledger: Ledger) -> None:
    with transaction("block") as tx:
        tx.step(enter, transactional=True)


def in_a_block_in_memory(ledger: Ledger) -> None:
    with transaction("block", store=MemoryStore()) as tx:
        tx.step(enter, leave, transactional=True)


def beside_others(ledger: Ledger) -> None:
    _ = Saga("order").add_task(entered(ledger) & step(fail)).plan


def with_a_timeout(ledger: Ledger) -> None:
    _ = Saga("order").add_task(entered(ledger, timeout=1.0)).plan


async def awaits(context: Context) -> None:
    pass


@contextmanager
def a_file() -> Iterator[Store]:
    with TemporaryDirectory() as directory, SqliteStore(f"{directory}/a.db") as store:
        yield store


def as_coroutines_in_a_file(ledger: Ledger) -> None:
    with a_file() as store:
        saga = Saga("order", store=store).add_task(step(fail, awaits, name="a", transactional=True))
        asyncio.run(saga.aexecute())


def as_coroutines_at_a_path(ledger: Ledger) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(Saga("order", store=f"{directory}/a.db").add_task(step(awaits, transactional=True)).aexecute())


def as_coroutines_submitted(ledger: Ledger) -> None:
    with a_file() as store:
        Saga("order", store=store).add_task(step(awaits, transactional=True)).submit()


def as_coroutines_in_a_block(ledger: Ledger) -> None:
    async def block(store: Store) -> None:
        async with transaction("block", store=store) as tx:
            await tx.astep(awaits, transactional=True)

    with a_file() as store:
        asyncio.run(block(store))


REFUSED: dict[Callable[[Ledger], None], str] = {
    none_at_all: "which needs a store with a database",
    in_memory: "which needs a store with a database",
    in_memory_submitted: "which needs a store with a database",
    in_a_block: "which needs a store with a database",
    in_a_block_in_memory: "which needs a store with a database",
    beside_others: "it stands in a parallel group",
    with_a_timeout: "it has a timeout",
    as_coroutines_in_a_file: "step 'a' is transactional, and has async functions, which needs a store with asynchronous",
    as_coroutines_at_a_path: "which needs a store with asynchronous connections",
    as_coroutines_submitted: "which needs a store with asynchronous connections",
    as_coroutines_in_a_block: "or make them plain functions, which an event loop has called in a thread",
}


@pytest.mark.parametrize("wrong", REFUSED, ids=lambda wrong: wrong.__name__)
def test_what_cannot_be_is_refused(wrong: Callable[[Ledger], None]) -> None:
    with pytest.raises(SagaDefinitionError, match=REFUSED[wrong]):
        wrong(Ledger.__new__(Ledger))


def test_other_steps_have_no_connection(request: pytest.FixtureRequest) -> None:
    def ask(context: Context) -> None:
        _ = context.step.connection

    with pytest.raises(SagaExecutionException, match="step 'ask' has no connection"):
        Saga("order").add_task(step(ask)).execute()


@pytest.mark.parametrize("kept", ["connection", "cursor"])
def test_who_keeps_its_connection_writes_no_more_with_it(store: Store, ledger: Ledger, way: Way, kept: str) -> None:
    box: list[Any] = []

    def keep(context: Context) -> None:
        connection = context.step.connection
        box.append(connection if kept == "connection" or not hasattr(connection, "cursor") else connection.cursor())

    def late(context: Context) -> None:
        ledger.run(box[0], "INSERT INTO ledger VALUES ('late')")

    saga = Saga("order", store=store).add_task(step(way.of(keep), name="keep", transactional=True))
    result = way.executed(saga.add_task(step(way.of(late), name="late")).add_task(entered(ledger, way=way)))
    assert (result.status, ledger.rows()) == (Status.COMPENSATED, [])
    assert way.executed(Saga("order", store=store).add_task(entered(ledger, way=way)), "y").status is Status.COMPLETED


def test_a_connection_that_nobody_keeps_is_lent_again(request: pytest.FixtureRequest) -> None:
    seen: list[int] = []

    def look(context: Context) -> None:
        connection = context.step.connection
        seen.append(id(connection))
        connection.cursor().execute("CREATE TEMP TABLE IF NOT EXISTS seen (n)")
        context[context.step.name] = connection.execute("INSERT INTO seen VALUES (1) RETURNING rowid").fetchall()[0][0]

    with DATABASES["sqlite"](request) as store:
        saga = Saga("order", store=store).add_task(step(look, name="first", transactional=True))
        context = saga.add_task(step(look, name="second", transactional=True)).execute().context
        assert (context["first"], context["second"], len({*seen})) == (1, 2, 1)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_another_thread_has_no_use_of_its_connection(kind: str, request: pytest.FixtureRequest) -> None:
    with DATABASES[kind](request) as store:
        ledger = Ledger(store)

        def write(context: Context) -> None:
            connection = context.step.connection
            ledger.write(context)
            for ways in (lambda: connection, lambda: connection.cursor()):
                with pytest.raises(Exception, match="of use in the step's own thread"):
                    background(lambda ways=ways: ways().execute("INSERT INTO ledger VALUES ('late')"))(10)

        result = THREADS.executed(Saga("order", store=store).add_task(step(write, name="write", transactional=True)))
        assert (result.error, ledger.rows()) == (None, ["write"])


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_makes_its_rows_is_not_left_to_the_next(kind: str, request: pytest.FixtureRequest) -> None:
    with DATABASES[kind](request) as store:

        def rows(context: Context) -> str:
            connection = context.step.connection
            told = str(type(connection.execute("SELECT 1").fetchone()).__name__)
            connection.row_factory = lambda *_: list
            return told

        saga = Saga("order", store=store).add_task(step(rows, name="first", transactional=True))
        result = saga.add_task(step(rows, name="second", transactional=True)).execute()
        assert result.results == {"first": "tuple", "second": "tuple"}


def test_a_file_has_one_writer(request: pytest.FixtureRequest) -> None:
    with DATABASES["sqlite"](request) as store:
        ledger = Ledger(store)
        ended: list[str] = []

        def write(context: Context) -> None:
            with pytest.raises(StorageError, match="which has the only connection that writes"):
                Saga("another", store=store).add_task(step(lambda: None, name="a")).execute()
            other = threading.Thread(target=lambda: ended.append(str(another.execute().status)))
            other.start()
            others.append(other)
            other.join(0.3)  # it has time enough, where nothing keeps it
            assert other.is_alive()
            ledger.write(context)
            ended.append("written")

        others: list[threading.Thread] = []
        another = Saga("another", store=store).add_task(step(lambda: None, name="a"))
        Saga("order", store=store).add_task(step(write, transactional=True)).execute()
        others[0].join()
        assert ended == ["written", "completed"]


def test_it_says_that_it_does_not_know(store: Store, ledger: Ledger, way: Way) -> None:
    def write(context: Context) -> None:
        raise OutcomeUnknownError("it called another system too")

    saga = Saga("order", store=store).add_task(step(way.of(write), transactional=True))
    assert way.executed(saga).in_doubt == ("write",)
