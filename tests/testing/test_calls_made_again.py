"""Whatever was called is called again: tasks, methods, coroutines, what a resolver makes, steps of blocks and of a database."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Done, Saga, Task, saga_step, step, transaction
from saga.durable.codec import Codec
from saga.errors import ActionRefusedError, SagaDefinitionError, SagaExecutionException
from saga.storage import MemoryStore
from saga.testing import Again, EffectRefusedError, Moment, debug


def test_a_call_changes_nothing_and_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    store = MemoryStore()

    def undo(context: Context) -> None:
        context.undone = True
        raise ValueError("no")

    saga = Saga(
        "s",
        store=store,
        observers=lambda event, info: told.append(event),
        on_compensation_failure=lambda *given: told.append(given),
    )
    saga.add_task(step(lambda: 1, undo, name="a")).add_task(step(lambda: 1 / 0, name="b"))
    saga.try_execute({"given": 1}, saga_id="x")
    told.clear()
    for name in ("append", "create", "claim", "release", "post"):
        monkeypatch.setattr(store, name, None)
    moment = debug("x", saga)
    again = moment.call()
    assert (dict(again.context), again.changes, again.removed) == ({"given": 1, "undone": True}, {"undone": True}, ())
    assert dict(moment.context) == {"given": 1}
    assert moment.call().said == "ValueError: no", "it can be made as often as one likes"
    assert told == []


def test_what_a_call_knows_of_itself_is_as_it_was() -> None:
    found: list[Any] = []

    def execute(context: Context) -> None:
        found.append((context.step.idempotency_key, context.step.attempt, context.step.deadline, context.step.cancelled))
        raise ValueError("no")

    store = MemoryStore()
    saga = Saga("s", store=store, timeout=50.0).add_task(step(execute, name="a", timeout=100.0))
    saga.try_execute(saga_id="x")
    moment = debug("x", saga)
    assert moment.context.step.name == "a"
    before = time.time()
    moment.call()
    assert found[1][:2] == found[0][:2] == ("s/x/a", 1)
    assert found[1][2] == pytest.approx(before + 50.0, abs=10.0), "as if it were begun now"
    assert not found[1][3]


def test_a_call_is_awaited_where_an_event_loop_runs() -> None:
    store = MemoryStore()

    def plain() -> None:
        raise ValueError("no")

    async def coroutine() -> None:
        raise ValueError("no")

    flows = {True: coroutine, False: plain}

    async def both() -> list[Again]:
        found = []
        for asynchronous, flow in flows.items():
            saga = Saga(f"s{asynchronous}", store=store).add_task(step(flow))
            await saga.atry_execute(saga_id=f"x{asynchronous}")
            moment = debug(f"x{asynchronous}", saga)
            found.append(await moment.acall())
            if asynchronous:
                with pytest.raises(SagaDefinitionError, match=re.escape("use `await moment.acall(...)`")):
                    moment.call()
        return found

    assert [again.said for again in asyncio.run(both())] == ["ValueError: no"] * 2


def test_what_a_plain_function_of_a_saga_in_a_loop_returns_is_awaited() -> None:
    async def late() -> str:
        await asyncio.sleep(0)
        return "late"

    async def fails() -> None:
        raise ValueError("no")

    store = MemoryStore()
    saga = Saga("s", store=store).add_task(step(lambda: late(), name="a")).add_task(step(fails, name="b"))
    asyncio.run(saga.atry_execute(saga_id="x"))
    moment = debug("x", saga, at=2)
    assert moment.call().result == asyncio.run(moment.acall()).result == "late"
    with pytest.raises(SagaDefinitionError, match="an event loop runs"):
        asyncio.run(_call_within(moment))


async def _call_within(moment: Moment) -> Again:
    return moment.call()


class Declared(Saga[Any]):
    rate = 3.0

    @saga_step
    def weigh(self, context: Context) -> float:
        return self.rate * context.kilos  # type: ignore[no-any-return]

    @weigh.compensation
    def unload(self, result: float) -> None:
        raise ValueError(f"{result} cannot be unloaded")

    @saga_step
    def ship(self, result: float) -> None:
        raise ValueError(f"{result} is too much")

    def flow(self) -> Any:
        return self.weigh, self.ship


class Made(Task[str]):
    def __init__(self, word: str = "new") -> None:
        self.word = word

    def execute(self, context: Context) -> str:
        raise ValueError(self.word)


@contextmanager
def in_a_scope(kind: type[Any]) -> Iterator[Any]:
    yield kind("of a scope")


HOW: dict[str, Callable[[], tuple[Saga[Any], str]]] = {
    "a declared saga": lambda: (Declared(), "ValueError: 6.0 cannot be unloaded"),
    "a resolver": lambda: (Saga("s", resolver=in_a_scope).add_task(Made), "ValueError: of a scope"),
    "a task": lambda: (Saga("s").add_task(Made("old")), "ValueError: old"),
    "what cannot be stored": lambda: (Saga("s").add_task(step(lambda: object(), name="a")), "EncodingError: *"),
    "what is not awaited": lambda: (Saga("s").add_task(step(lambda: _never(), name="a")), "SagaDefinitionError: *"),
    "an interrupt": lambda: (Saga("s").add_task(step(_exits, name="a")), "SystemExit: 3"),
}


async def _never() -> None: ...


def _exits() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("build", HOW.values(), ids=HOW.keys())
def test_whatever_was_called_is_called_again(build: Callable[[], tuple[Saga[Any], str]]) -> None:
    saga, said = build()
    store = MemoryStore()
    with suppress(SystemExit):
        saga.try_execute({"kilos": 2}, saga_id="x", store=store)
    moment = debug("x", saga, store=store)
    again = moment.call()
    assert again.said == moment.said
    assert again.said is not None
    assert again.said.startswith(said.rstrip("*"))
    assert not again.returned


def test_where_it_was_raised_is_told_without_lines_of_the_package() -> None:
    saga, store = Declared(), MemoryStore()
    saga.try_execute({"kilos": 2}, saga_id="x", store=store)
    again = debug("x", saga, store=store).call()
    assert again.traceback is not None
    assert re.findall(r'File ".*?([\w.]+)", line \d+, in (\w+)', again.traceback) == [("test_calls_made_again.py", "unload")]


def test_a_keyboard_interrupt_is_that_of_the_one_who_debugs() -> None:
    todo: list[type[BaseException]] = [ValueError, KeyboardInterrupt]

    def execute() -> None:
        raise todo.pop(0)

    store = MemoryStore()
    saga = Saga("s", store=store).add_task(step(execute))
    saga.try_execute(saga_id="x")
    with pytest.raises(KeyboardInterrupt):
        debug("x", saga).call()


# -- blocks -----------------------------------------------------------------------------------------------------------


def book(seat: str) -> str:
    return f"booked {seat}"


def is_booked(seat: str) -> Done[str]:
    return Done(f"booked {seat}, it seems")


def free(seat: str, why: str) -> None:
    raise ValueError(f"{seat} is not free: {why}")


class Pay(Task[str]):
    def execute(self, context: Context) -> str:
        raise ValueError(f"no money for {context.seat}")


def test_of_a_block_its_journal_says_what_is_called() -> None:
    store = MemoryStore()
    with suppress(SagaExecutionException), transaction("trip", {"seat": "1A"}, store=store, saga_id="x") as tx:
        tx.step(book, free, args=("1A",), compensate_args=("1A",), compensate_kwargs={"why": "full"}, verify=is_booked)
        tx.step(Pay)
    moment = debug("x", store=store, codec=Codec(modules=[__name__]))
    assert (moment.step, moment.phase, moment.results) == ("book", "compensate", {"book": "booked 1A"})
    assert moment.call().said == "ValueError: 1A is not free: full"
    execute, pay = (moment.at(entry.seq) for entry in store.journal("x") if entry.kind == "StepStarted")
    with pytest.raises(ActionRefusedError, match="its journal keeps no arguments of what was executed"):
        execute.call()
    again = pay.call()
    assert (again.said, again.follows) == (
        "ValueError: no money for 1A",
        "undoes 'book'; where that goes well, it is compensated",
    )


# -- transactional steps ----------------------------------------------------------------------------------------------


def test_a_transactional_call_is_rolled_back(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE stock (item TEXT)")

    def take(context: Context) -> int:
        context.step.connection.execute("INSERT INTO stock VALUES ('apple')")
        (count,) = context.step.connection.execute("SELECT count(*) FROM stock").fetchone()
        if count > 0 and todo:
            raise todo.pop()
        return int(count)

    todo: list[Exception] = [ValueError("no")]
    saga = Saga("s", store=path).add_task(step(take, transactional=True))
    saga.try_execute(saga_id="x")
    moment = debug("x", saga)
    with pytest.raises(EffectRefusedError, match="step 'take' is transactional"):
        moment.call()
    assert moment.call(allow_effects=True).result == 1
    assert moment.call(allow_effects=True).result == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM stock").fetchone() == (0,)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "a coroutine"])
def test_on_a_server_it_is_rolled_back_too(asynchronous: bool, postgres_url: str) -> None:
    import psycopg

    def take(context: Context) -> None:
        context.step.connection.execute("INSERT INTO taken VALUES (1)")

    async def atake(context: Context) -> Any:
        await context.step.connection.execute("INSERT INTO taken VALUES (1)")
        return (await (await context.step.connection.execute("SELECT count(*) FROM taken")).fetchone())[0]

    def fails() -> None:
        raise ValueError("no")

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS taken (n int)")
        connection.execute("TRUNCATE taken")
        saga = Saga("s", store=postgres_url).add_task(step(atake if asynchronous else take, name="a", transactional=True))
        saga_id = f"debugged {asynchronous}"
        saga.add_task(step(fails)).try_execute(saga_id=saga_id)
        moment = debug(saga_id, saga, at=2)
        with pytest.raises(EffectRefusedError, match="step 'a' is transactional"):
            moment.call()
        stored = "SELECT * FROM saga JOIN saga_journal ON saga.id = saga_journal.saga_id ORDER BY saga_id, seq"
        rows = connection.execute(stored).fetchall()
        assert moment.call(allow_effects=True).result == (2 if asynchronous else None)
        assert connection.execute("SELECT count(*) FROM taken").fetchone() == (1,)
        assert connection.execute(stored).fetchall() == rows
