"""Transactional steps that are coroutine functions: what else can strike them, and what they have of their connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from saga import Context, Retry, Saga, Status, step, transaction
from saga.durable.transaction import StepTransaction
from saga.events import StepFailed, StepSucceeded
from saga.machine import Machine
from saga.storage import PostgresStore, Store
from saga.storage.transactions import LentInLoop
from saga.worker import Worker
from tests.kit import PATIENCE
from tests.kit.ledgers import DATABASES, Ledger, as_coroutine

enter, leave = as_coroutine(Ledger.write), as_coroutine(Ledger.take_back)


async def write(context: Context) -> Any:
    """What a recovery of a block finds again."""
    return await enter(context)


@pytest.fixture(params=[kind for kind in DATABASES if kind != "sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with DATABASES[request.param](request) as store:
        yield store


def entered_and(store: Store, function: Any, **policies: Any) -> Saga:
    """Return a saga of a step that writes to the ledger, and of another."""
    saga = Saga("order", store=store).add_task(step(enter, leave, name="enter", transactional=True))
    return saga.add_task(step(function, transactional=True, **policies))


async def cancelled_in(saga: Saga, inside: asyncio.Event) -> None:
    task = asyncio.create_task(saga.aexecute(saga_id="x"))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("pivot", [False, True])
def test_a_cancellation_rolls_it_back(store: Store, ledger: Ledger, swallows: bool, pivot: bool) -> None:
    ended: list[str] = []

    async def run() -> None:
        async def write(context: Context) -> None:
            await enter(context)
            inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                if not swallows:
                    raise

        inside = asyncio.Event()
        await cancelled_in(entered_and(store, write, pivot=pivot), inside)

    asyncio.run(run())
    result = entered_and(store, enter, name="write", pivot=pivot).load("x")
    assert (result.status, result.in_doubt, ledger.rows(), ended) == (Status.COMPENSATED, (), [], ["cancelled"])


def test_a_commit_that_has_begun_is_made(store: Store, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async def commit(transaction: StepTransaction, machine: Machine) -> None:
            inside.set()
            await asyncio.wait([goes_on])
            await commits(transaction, machine)

        inside, goes_on = asyncio.Event(), asyncio.get_running_loop().create_future()
        commits = StepTransaction.commit
        monkeypatch.setattr(StepTransaction, "commit", commit)
        task = asyncio.create_task(saga.aexecute(saga_id="x"))
        await inside.wait()
        task.cancel()
        await asyncio.sleep(0)
        monkeypatch.undo()
        goes_on.set_result(None)
        with pytest.raises(asyncio.CancelledError):
            await task

    saga = Saga("order", store=store).add_task(step(enter, leave, transactional=True))
    asyncio.run(run())
    result = saga.load("x")
    assert (result.status, result.in_doubt, ledger.rows()) == (Status.COMPLETED, (), ["write"])


def test_a_statement_that_is_cancelled_is_rolled_back(request: pytest.FixtureRequest) -> None:
    async def run(store: Store) -> None:
        async def write(context: Context) -> None:
            await enter(context)
            asyncio.get_running_loop().call_soon(inside.set)
            await context.step.connection.execute("SELECT pg_sleep(600)")

        inside = asyncio.Event()
        await cancelled_in(entered_and(store, write), inside)

    with DATABASES["postgres"](request) as store:
        ledger = Ledger(store)
        asyncio.run(run(store))
        assert ledger.rows() == []


def test_its_own_time_limit_is_no_doubt(store: Store, ledger: Ledger) -> None:
    async def write(context: Context) -> None:
        await enter(context)
        async with asyncio.timeout(0.0 if context.step.attempt == 1 else None):
            await asyncio.sleep(0.001)

    result = asyncio.run(entered_and(store, write, retry=Retry(2, 0.0)).aexecute())
    assert ledger.rows() == ["enter", "write"]
    assert [event.in_doubt for event in result.events if isinstance(event, StepFailed)] == [False]


def test_many_at_once_have_a_connection_each(store: Store, ledger: Ledger) -> None:
    async def run() -> None:
        async def write(context: Context) -> None:
            nonlocal together, most
            together += 1
            most = max(most, together)
            if not in_file:
                await asyncio.to_thread(int)  # such a thread is to be had, however many wait for a connection
            await enter(context)
            together -= 1

        saga = Saga("order", store=store).add_task(step(write, transactional=True))
        plain = Saga("plain", store=store).add_task(step(Ledger.write, name="plain", transactional=True))
        await asyncio.gather(*(one.aexecute() for one in (saga, plain) for _ in range(40)))

    together = most = 0
    in_file = "sqlite" in str(getattr(store, "_engine", ""))  # where one writes at a time
    asyncio.run(run())
    assert ledger.rows() == ["plain"] * 40 + ["write"] * 40
    assert most == 1 if in_file else 1 < most <= (16 if isinstance(store, PostgresStore) else 32)


def test_every_event_loop_has_its_own(store: Store, ledger: Ledger) -> None:
    for _ in range(3):
        asyncio.run(Saga("order", store=store).add_task(step(enter, transactional=True)).aexecute())
    assert ledger.rows() == ["write"] * 3


def test_a_worker_and_a_block_have_them_too(store: Store, ledger: Ledger) -> None:
    async def block() -> None:
        async with transaction("block", store=store) as tx:
            assert await tx.astep(write, transactional=True) == "WRITE"
            assert ledger.rows() == ["write"]

    saga = entered_and(store, leave)
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    assert saga.load("x").status is Status.COMPLETED
    ledger.empty()
    asyncio.run(block())


@pytest.mark.parametrize("undoes", [enter, Ledger.write], ids=["coroutine function", "plain function"])
@pytest.mark.parametrize("does", [enter, Ledger.write], ids=["coroutine function", "plain function"])
def test_each_function_has_the_connection_of_its_kind(store: Store, ledger: Ledger, does: Any, undoes: Any) -> None:
    async def fail(context: Context) -> None:
        raise ValueError("no")

    saga = Saga("order", store=store).add_task(step(does, undoes, name="both", transactional=True)).add_task(step(fail))
    result = asyncio.run(saga.atry_execute())
    assert (result.status, ledger.rows()) == (Status.COMPENSATED, ["both", "both"])


def test_a_task_that_it_left_behind_has_it_no_more(store: Store) -> None:
    async def run() -> None:
        async def write(context: Context) -> None:
            connection = context.step.connection

            async def later() -> None:
                await ended.wait()
                await (getattr(connection, "exec_driver_sql", None) or connection.execute)("SELECT 1")

            left.append(asyncio.create_task(later()))

        ended = asyncio.Event()
        left: list[asyncio.Task[None]] = []
        await Saga("order", store=store).add_task(step(write, transactional=True)).aexecute()
        ended.set()
        with pytest.raises(Exception, match=r"transactional step that had this connection has ended|This Connection is closed"):
            await left[0]

    asyncio.run(run())


@pytest.mark.parametrize("how", ["rollback", "close", "commit"])
def test_what_would_end_it_says_what_to_do(request: pytest.FixtureRequest, how: str) -> None:
    async def write(context: Context) -> None:
        await getattr(context.step.connection, how)()

    with DATABASES["postgres"](request) as store:
        result = asyncio.run(Saga("order", store=store).add_task(step(write, transactional=True)).atry_execute())
        assert f"{how}() is saga's affair in a transactional step" in str(result.error)
        assert not [event for event in result.events if isinstance(event, StepSucceeded)]


def test_what_is_done_with_its_transaction_is_done_one_after_the_other() -> None:
    async def run() -> None:
        lent = LentInLoop(None)  # type: ignore[arg-type]
        first = asyncio.create_task(lent.do(lambda: order.append(f"first {goes_on.wait(PATIENCE)}")))
        await asyncio.sleep(0)
        second = asyncio.create_task(
            lent.do(lambda: order.append("second"))
        )  # as after an interrupt that has torn off the first
        await asyncio.wait([second], timeout=0.1)
        goes_on.set()
        await asyncio.gather(first, second)

    goes_on, order = threading.Event(), []  # type: tuple[threading.Event, list[str]]
    asyncio.run(run())
    assert order == ["first True", "second"]
