"""Blocks with a store: what a dead process's block had done is undone by a recovery."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Status, Task, Transaction, step, transaction
from saga.durable.codec import Codec
from saga.durable.leases import keeper_of
from saga.errors import ActionRefusedError, SagaCompensationError, SagaDefinitionError, SagaExecutionException, SagaIdTakenError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, SqliteStore, Store
from saga.testing import debug
from tests.kit import LONG, PATIENCE, SHORT, HeldStore, auntil, found_after, in_a_child, until_renewed, within

# -- what is booked is a file -----------------------------------------------------------------------------------------


def book(folder: str, name: str, dies: str = "") -> str:
    """Do something; die before or after it."""
    if dies == "before":
        os._exit(7)
    Path(folder, name).write_text("booked")
    if dies == "after":
        os._exit(7)
    return f"{name} is booked"


def unbook(folder: str, name: str) -> None:
    Path(folder, name).unlink(missing_ok=True)


def unbook_or_die(folder: str, name: str, dies: str) -> None:
    if Path(folder, "dies once").exists() and dies:
        Path(folder, "dies once").unlink()
        os._exit(7)
    unbook(folder, name)


def unbook_result(result: str | None, folder: str, name: str) -> None:
    Path(folder, f"undone with {result}").write_text("")
    unbook(folder, name)


class BookInContext(Task[str]):
    """A task class works on the context alone."""

    def execute(self, context: Context) -> str:
        return book(context.folder, "by class")

    def compensate(self, context: Context) -> None:
        unbook(context.folder, "by class")


def fail() -> None:
    raise ValueError("no")


def booked(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != "dies once" and not path.name.startswith("undone")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bookings"
    folder.mkdir()
    return folder


class Trip:
    """A block of three bookings, that may die at any moment."""

    def __init__(self, tmp_path: Path, folder: Path) -> None:
        self.path, self.folder = tmp_path / "saga.db", folder

    def die(self, at: int, when: str) -> None:
        """Die before or after the effect of step ``at``, or before that step (``between``)."""

        def work() -> None:
            with transaction("trip", saga_id="t-1", store=SqliteStore(self.path), lease=0.3) as tx:
                for number in range(3):
                    name = f"booking {number}"
                    if (at, when) == (number, "between"):
                        os._exit(7)
                    tx.step(
                        book,
                        unbook,
                        name=name,
                        args=(str(self.folder), name, when if number == at else ""),
                        compensate_args=(str(self.folder), name),
                    )
                if at == 3:
                    os._exit(7)

        assert in_a_child(work) == 7

    def recover(self) -> list[Any]:
        """Wait until the dead process's lease has run out, and recover."""
        with SqliteStore(self.path) as store:
            row = store.get("t-1")
            assert row is not None
            threading.Event().wait(max(0.0, row.lease_until - store.now()) + 0.01)
            return Recovery(store, transactions=["trip"], codec=Codec(modules=[__name__])).run_once()


@pytest.fixture
def trip(tmp_path: Path, folder: Path) -> Trip:
    return Trip(tmp_path, folder)


@pytest.mark.parametrize("when", ["between", "before", "after"])
@pytest.mark.parametrize("at", range(4))
def test_wherever_the_process_dies_recovery_undoes_the_block(trip: Trip, folder: Path, at: int, when: str) -> None:
    trip.die(at, when)
    done = {f"booking {number}" for number in range(min(3, at + (when == "after")))}
    assert booked(folder) == done
    (result,) = trip.recover()
    assert booked(folder) == set()
    assert (result.saga, result.saga_id, result.status) == ("trip", "t-1", Status.COMPENSATED)
    assert trip.recover() == []


def test_a_block_that_ended_well_is_left_alone(tmp_path: Path, folder: Path) -> None:
    with SqliteStore(tmp_path / "saga.db") as store:
        with transaction("trip", store=store) as tx:
            assert tx.step(book, unbook, args=(str(folder), "a"), compensate_args=(str(folder), "a")) == "a is booked"
        assert Recovery(store, transactions=["trip"], codec=Codec(modules=[__name__])).run_once() == []
    assert booked(folder) == {"a"}


def test_a_process_that_dies_in_the_undo_is_followed_by_another(tmp_path: Path, folder: Path) -> None:
    (folder / "dies once").write_text("")

    def work() -> None:
        with transaction("trip", saga_id="t-1", store=SqliteStore(tmp_path / "saga.db"), lease=0.3) as tx:
            for name, dies in (("a", ""), ("b", "yes"), ("c", "")):
                tx.step(book, unbook_or_die, name=name, args=(str(folder), name), compensate_args=(str(folder), name, dies))
            raise ValueError

    assert in_a_child(work) == 7
    assert booked(folder) == {"a", "b"}
    (result,) = Trip(tmp_path, folder).recover()
    assert result.status is Status.COMPENSATED
    assert booked(folder) == set()


def test_the_undo_of_a_dead_process_gets_results_and_context(tmp_path: Path, folder: Path) -> None:
    def work() -> None:
        with transaction("trip", {"folder": str(folder)}, saga_id="t-1", store=SqliteStore(tmp_path / "s.db"), lease=0.3) as tx:
            tx.step(book, unbook_result, name="a", args=(str(folder), "a"), compensate_args=(str(folder), "a"))
            tx.step(BookInContext)
            os._exit(7)

    assert in_a_child(work) == 7
    assert booked(folder) == {"a", "by class"}
    with SqliteStore(tmp_path / "s.db") as store:
        threading.Event().wait(0.35)
        (result,) = Recovery(store, transactions=["trip"], codec=Codec(modules=[__name__])).run_once()
    assert result.status is Status.COMPENSATED
    assert booked(folder) == set()
    assert (folder / "undone with a is booked").exists()


def test_a_block_that_fails_is_undone_at_once_and_leaves_nothing_to_recover(tmp_path: Path, folder: Path) -> None:
    def work(store: Store) -> None:
        with transaction("trip", saga_id="t-1", store=store) as tx:
            tx.step(book, unbook, args=(str(folder), "a"), compensate_args=(str(folder), "a"))
            tx.step(fail)

    with SqliteStore(tmp_path / "saga.db") as store:
        with pytest.raises(SagaExecutionException):
            work(store)
        row = store.get("t-1")
        assert row is not None
        assert (row.status, row.owner) == ("compensated", None)
        assert Recovery(store, transactions=["trip"], codec=Codec(modules=[__name__])).run_once() == []
    assert booked(folder) == set()


def test_a_compensation_that_fails_leaves_the_block_stuck_in_the_store(folder: Path) -> None:
    store = MemoryStore()

    def work() -> None:
        with transaction("trip", saga_id="t-1", store=store) as tx:
            tx.step(book, fail, args=(str(folder), "a"))
            tx.step(fail, name="b")

    with pytest.raises(SagaCompensationError):
        work()
    row = store.get("t-1")
    assert row is not None
    assert row.status == "stuck"


# -- what is refused --------------------------------------------------------------------------------------------------


class Nested:
    @staticmethod
    def function() -> None: ...

    def method(self) -> None: ...

    class Inner(Task[None]):
        def execute(self, context: Context) -> None: ...


class WithAttributes(Task[None]):
    def __init__(self) -> None:
        self.amount = 5

    def execute(self, context: Context) -> None: ...


def closure() -> Any:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ((lambda: 1,), "top level of a module"),
        ((fail, lambda: 1), "top level of a module"),
        ((functools.partial(book, "folder", "a"),), "top level of a module"),
        ((fail, functools.partial(unbook, "folder", "a")), "top level of a module"),
        ((closure(),), "top level of a module"),
        ((fail, closure()), "top level of a module"),
        ((Nested.function,), "top level of a module"),
        ((Nested().method,), "top level of a module"),
        ((Nested.Inner,), "top level of a module"),
        ((WithAttributes(),), r"has attributes \(amount\)"),
    ],
)
def test_what_a_recovery_could_not_find_again_is_refused_before_it_is_called(refused: tuple[Any, ...], why: str) -> None:
    store = MemoryStore()
    with transaction("s", saga_id="t-1", store=store) as tx:
        with pytest.raises(SagaDefinitionError, match=why):
            tx.step(*refused)
        assert [entry.kind for entry in store.journal("t-1")] == ["SagaStarted"]
    row = store.get("t-1")
    assert row is not None
    assert row.status == "completed"


def test_arguments_that_cannot_be_stored_are_refused_before_the_call(folder: Path) -> None:
    with transaction("s", store=MemoryStore()) as tx:
        for options in ({"compensate_args": (str(folder), threading.Lock())}, {"compensate_kwargs": {"name": object()}}):
            with pytest.raises(SagaDefinitionError, match="arguments of the compensation"):
                tx.step(book, unbook, args=(str(folder), "a"), **{"compensate_args": (str(folder),)} | options)  # type: ignore[call-overload]
    assert booked(folder) == set()


def test_arguments_of_the_action_need_not_be_stored() -> None:
    lock = threading.Lock()
    with transaction("s", store=MemoryStore()) as tx:
        assert tx.step(held, args=(lock,)) is False


def held(lock: Any) -> bool:
    return bool(lock.locked())


def test_groups_are_refused_where_there_is_a_store() -> None:
    with transaction("s", store=MemoryStore()) as tx:
        with pytest.raises(SagaDefinitionError, match="one step at a time"):
            tx.parallel(step(fail), step(held, args=(1,)))
        assert tx.result is None


def test_an_instance_without_attributes_is_its_class(folder: Path) -> None:
    with transaction("s", {"folder": str(folder)}, store=MemoryStore()) as tx:
        assert tx.step(BookInContext()) == "by class is booked"


def test_an_input_that_cannot_be_stored_is_refused_before_the_block() -> None:
    with pytest.raises(Exception, match=r"context\.x"), transaction("s", {"x": threading.Lock()}, store=MemoryStore()):
        raise AssertionError


# -- compensations by name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unbook", f"{__name__}:unbook"])
@pytest.mark.parametrize("store", [MemoryStore, lambda: None])
def test_a_compensation_is_found_by_its_name(store: Callable[[], Any], name: str, folder: Path) -> None:
    def work() -> None:
        with transaction("s", store=store()) as tx:
            tx.step(book, name, args=(str(folder), "a"), compensate_args=(str(folder), "a"))
            fail()

    with pytest.raises(ValueError, match="no"):
        work()
    assert booked(folder) == set()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "compensate is 'nowhere': .* is not found"),
        ("no_such_module:unbook", "is not found"),
        ("os:path.join", "not of the form"),
        ("PATIENCE", "which is 30.0; give the name of a function"),
        ("", "not of the form"),
    ],
)
def test_a_name_of_nothing_is_refused_before_the_call(name: str, why: str, folder: Path) -> None:
    with transaction("s", store=MemoryStore()) as tx, pytest.raises(SagaDefinitionError, match=why):
        tx.step(book, name, args=(str(folder), "a"))
    assert booked(folder) == set()


# -- ids --------------------------------------------------------------------------------------------------------------


def test_an_id_is_good_for_one_block(folder: Path) -> None:
    store = MemoryStore()

    def run() -> Transaction:
        with transaction("s", saga_id="t-1", store=store) as tx:
            tx.step(held, args=(threading.Lock(),))
        return tx

    run()
    with pytest.raises(SagaIdTakenError, match="which is completed"):
        run()


def test_an_id_of_a_block_that_runs_is_taken(folder: Path) -> None:
    store = MemoryStore()
    with transaction("s", saga_id="t-1", store=store) as tx:
        with pytest.raises(SagaIdTakenError, match="which is running"), transaction("s", saga_id="t-1", store=store):
            raise AssertionError
        tx.step(held, args=(threading.Lock(),))
    assert tx.result is not None
    assert tx.result.ok


def test_an_id_of_another_name_or_input_is_taken_too() -> None:
    store = MemoryStore()
    with transaction("s", {"x": 1}, saga_id="t-1", store=store):
        pass
    with pytest.raises(SagaIdTakenError, match="of saga 's'"), transaction("other", {"x": 1}, saga_id="t-1", store=store):
        raise AssertionError
    with pytest.raises(SagaIdTakenError, match="another input"), transaction("s", {"x": 2}, saga_id="t-1", store=store):
        raise AssertionError


def test_in_an_event_loop_ids_are_taken_alike() -> None:
    store = MemoryStore()

    async def run() -> None:
        async with transaction("s", saga_id="t-1", store=store) as tx:
            await tx.astep(held, args=(threading.Lock(),))

    async def twice() -> None:
        await run()
        with pytest.raises(SagaIdTakenError):
            await run()

    asyncio.run(twice())


# -- the store's view of a block that runs ------------------------------------------------------------------------------


def test_a_block_that_runs_is_kept_from_recovery_by_its_lease(folder: Path) -> None:
    store = MemoryStore()
    with transaction("s", saga_id="t-1", store=store, lease=LONG) as tx:
        tx.step(book, unbook, args=(str(folder), "a"), compensate_args=(str(folder), "a"))
        until_renewed(store, "t-1")
        assert Recovery(store, transactions=["s"], codec=Codec(modules=[__name__])).run_once() == []
    assert tx.result is not None
    assert tx.result.ok
    assert booked(folder) == {"a"}


def test_retries_are_in_the_journal(folder: Path) -> None:
    store = MemoryStore()
    with transaction("s", saga_id="t-1", store=store) as tx:
        assert tx.step(at_the_third, retry=Retry(3)) == 3
    kinds = [entry.kind for entry in store.journal("t-1")]
    assert kinds.count("StepFailed") == 2
    assert kinds[-1] == "SagaCompleted"


def at_the_third(context: Context) -> int:
    if context.step.attempt < 3:
        raise OSError
    return context.step.attempt


def test_a_recovery_of_names_nobody_knows_leaves_blocks_alone(trip: Trip, folder: Path) -> None:
    trip.die(1, "between")
    with SqliteStore(trip.path) as store:
        threading.Event().wait(0.35)
        assert Recovery(store, transactions=["another"], codec=Codec(modules=[__name__])).run_once() == []
    assert booked(folder) == {"booking 0"}
    assert len(trip.recover()) == 1


async def abook(folder: str) -> None:
    Path(folder, "booked").write_text("")


async def aunbook(folder: str) -> None:
    Path(folder, "booked").unlink()


def test_recovery_of_an_async_block_awaits_its_compensations(tmp_path: Path) -> None:
    store_path = tmp_path / "saga.db"

    async def block() -> None:
        async with transaction("t", saga_id="t-1", store=SqliteStore(store_path), lease=0.2) as tx:
            await tx.astep(abook, aunbook, args=(str(tmp_path),), compensate_args=(str(tmp_path),))
            os._exit(7)

    assert in_a_child(lambda: asyncio.run(block())) == 7
    time.sleep(0.25)
    with SqliteStore(store_path) as store:
        (result,) = Recovery(store, transactions=["t"], codec=Codec(modules=[__name__])).run_once()
    assert result.status is Status.COMPENSATED
    assert not (tmp_path / "booked").exists()


def test_a_cancellation_while_a_block_is_begun_leaves_no_orphan() -> None:
    store = HeldStore(0)

    async def block() -> None:
        async with transaction("t", saga_id="o-1", store=store):
            pass

    async def work() -> None:
        running = asyncio.create_task(block())
        await auntil(store.gate.reached.is_set)
        running.cancel()
        await asyncio.sleep(SHORT)
        store.gate.open()
        with suppress(asyncio.CancelledError):
            await running
        await auntil(lambda: store.get("o-1").owner is None)  # type: ignore[union-attr]

    asyncio.run(work())
    row = store.get("o-1")
    assert row is not None
    assert row.status == "compensated"


undos: list[str] = []


def charge() -> None: ...


def refund() -> None:
    undos.append("refund")
    if len(undos) == 1:
        raise OSError("busy")


def dead_block(said: dict[str, Any] | None = None, **policies: Any) -> MemoryStore:
    """What another process finds of a block, which ``said`` that for all its steps, whose process died after (in) the step."""
    now = [time.time()]
    store = MemoryStore(clock=lambda: now[0])
    tx = transaction("t", saga_id="t-1", store=store, **said or {})
    tx.__enter__()
    tx.step(charge, refund, **policies)
    assert tx._execution is not None
    keeper_of(store).drop(tx._execution.journal.lease)  # type: ignore[union-attr]
    now[0] += 60.0  # its lease runs out
    return store


@pytest.mark.parametrize(
    ("said", "policies"),
    [
        ({}, {"compensation_retry": Retry(3)}),
        ({"compensation_retry": Retry(3)}, {}),
        ({"compensation_retry": Retry(1)}, {"compensation_retry": Retry(3)}),
    ],
)
def test_a_dead_blocks_compensation_is_retried_as_its_step_said_or_else_the_block(said: Any, policies: Any) -> None:
    undos.clear()
    store = dead_block(said, **policies)
    (result,) = Recovery(store, transactions=["t"], codec=Codec(modules=[__name__])).run_once()
    assert undos == ["refund", "refund"]
    assert result.status is Status.COMPENSATED


def block_that_died_in_its_step(**policies: Any) -> MemoryStore:
    found = found_after(dead_block(**policies), "t-1", 2)
    assert [e.kind for e in found.journal("t-1")] == ["SagaStarted", "StepStarted"]
    return found


def test_a_dead_blocks_step_in_doubt_is_asked_about_where_it_said_so() -> None:
    undos.clear()
    (result,) = Recovery(
        block_that_died_in_its_step(in_doubt=InDoubt.ASK), transactions=["t"], codec=Codec(modules=[__name__])
    ).run_once()
    assert result.status is Status.STUCK
    assert undos == []


def test_a_dead_blocks_step_in_doubt_is_undone_though_it_may_be_executed_again() -> None:
    """What would have followed it died with the process."""
    undos.clear()
    found = block_that_died_in_its_step(in_doubt=InDoubt.RERUN, compensation_retry=Retry(2))
    (result,) = Recovery(found, transactions=["t"], codec=Codec(modules=[__name__])).run_once()
    assert result.status is Status.COMPENSATED
    assert undos == ["refund", "refund"]
    assert [entry.kind for entry in found.journal("t-1")].count("StepStarted") == 1


def test_what_a_dead_block_did_past_its_pivot_is_not_undone() -> None:
    undos.clear()
    store = dead_block(pivot=True)
    within(PATIENCE, Recovery(store, transactions=["t"], codec=Codec(modules=[__name__])).run_once)
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
    within(PATIENCE, Recovery(store, transactions=["t"], codec=Codec(modules=[__name__])).run_once)
    row = store.get("t-1")
    assert row is not None
    assert row.status == "stuck"
    assert undos == []


# -- whose functions are called ---------------------------------------------------------------------------------------


class Refunded(Task[None]):
    pivot = True

    def __init__(self) -> None:
        undos.append("made")

    def execute(self, context: Context) -> None: ...

    def compensate(self, context: Context) -> None:
        undos.append("class")


@pytest.mark.parametrize("codec", [None, Codec()])
def test_who_undoes_blocks_names_the_modules_of_their_functions(codec: Codec | None) -> None:
    with pytest.raises(SagaDefinitionError, match="and you name none; give codec=Codec"):
        Recovery(MemoryStore(), transactions=["t"], codec=codec)


def test_a_function_of_a_module_that_nobody_named_is_not_called(caplog: pytest.LogCaptureFixture) -> None:
    undos.clear()
    store = dead_block()
    assert Recovery(store, transactions=["t"], codec=Codec(modules=["json", "saga"])).run_once() == []
    assert undos == []
    assert (
        f"step 'charge' cannot be undone: {__name__!r} is none of the codec's modules; name it: Codec(modules=[" in caplog.text
    )
    assert store.get("t-1").status == "running"  # type: ignore[union-attr]


def test_a_block_that_its_own_codec_would_not_undo_is_refused_before_a_call() -> None:
    with transaction("s", store=MemoryStore(), codec=Codec(modules=["json"])) as tx:
        for refused in ((held, held), (BookInContext,)):
            with pytest.raises(SagaDefinitionError, match=r"a recovery would not call .*: .* none of the codec's modules"):
                tx.step(*refused, **({"args": (threading.Lock(),)} if len(refused) > 1 else {}))  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", ["functions", "a class"])
def test_looking_at_a_block_calls_nothing_of_it(kind: str) -> None:
    """A person asks for its undo, and looks at what it called, where nobody has named its modules."""
    undos.clear()
    store = MemoryStore()
    with transaction("t", saga_id="t-1", store=store) as tx:
        tx.step(Refunded) if kind == "a class" else tx.step(charge, refund, name="charge")
    undos.clear()
    if kind == "a class":
        for codec, told in ((None, "is called by those alone who name its module"), (Codec(modules=[__name__]), "None")):
            assert told in str(debug("t-1", store=store, codec=codec).call().error)
        undos.clear()
    operations = Operations(store, "ann")
    if kind == "a class":
        with pytest.raises(ActionRefusedError, match="pivot"):
            operations.undo("t-1", "no need")
    else:
        operations.undo("t-1", "no need")
    assert undos == []
