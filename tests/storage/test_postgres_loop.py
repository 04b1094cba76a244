"""What event loops store in PostgreSQL with no thread: what it comes to is what threads come to, whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Status, Task
from saga.durable.leases import keeper_of
from saga.errors import LeaseLostError, StorageError
from saga.recovery import Recovery
from saga.storage import Append, Entry, Lease, NewExecution, Told, postgres_loop, postgres_silence
from saga.storage.postgres import PostgresStore
from saga.storage.postgres_loop import Line
from tests.kit import PATIENCE, auntil, until
from tests.kit.strikes import Strikes

MOST = 6  # connections, of which event loops have half


@pytest.fixture(params=["straight", "through a pooler"])
def url(request, postgres_url) -> str:
    return postgres_url if request.param == "straight" else request.getfixturevalue("pooler_url")


@pytest.fixture
def store(url, prefix):
    with PostgresStore(url, prefix=prefix, max_connections=MOST) as store:
        yield store


@pytest.fixture
def straight(postgres_url, prefix):
    with PostgresStore(f"{postgres_url}&application_name={prefix}", prefix=prefix, max_connections=MOST) as store:
        yield store


async def begun(store: PostgresStore, begin: Callable[[Callable[[Any], None]], Any]) -> Any:
    """Begin something as soon as there is a connection, and return what comes of it."""
    ended = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(PATIENCE):
        while begin(ended.set_result) is None:
            await asyncio.to_thread(store.now)  # which opens one
        return await ended


async def appended(store: PostgresStore, *appends: Append) -> list[bool]:
    return await begun(store, lambda ended: store.begin_append_each(lambda: appends, ended))


def append(store: PostgresStore, *appends: Append) -> list[bool]:
    return asyncio.run(appended(store, *appends))


def lines_of(store: PostgresStore) -> set[Line]:
    assert store._pool.in_loops is not None
    return store._pool.in_loops._lines


def spare(store: PostgresStore) -> int:
    """How many connections could be lent to threads and event loops."""
    return store._pool._places.qsize() + len(lines_of(store))


def entries_of(*seqs: int, payload: str = "{}") -> list[Entry]:
    return [Entry(seq, "Kind", "é", payload, 0.1 + seq) for seq in seqs]


TOLD = Told("é", "why", "Declined", None)


@pytest.mark.parametrize(
    "one",
    [
        Append(Lease("x", "a", 1), entries_of(2)),
        Append(Lease("x", "a", 1), entries_of(2, 3), "compensating", told=TOLD),
        Append(Lease("x", "a", 1), entries_of(2), "completed", True, told=TOLD._replace(keep=5.0)),
        Append(Lease("x", "a", 1), entries_of(*range(2, 40))),
        Append(Lease("x", "a", 1), entries_of(2, payload=json.dumps("ü" * 4_000_000, ensure_ascii=False))),
    ],
    ids=["plain", "status", "end", "many entries", "more than a socket takes at once"],
)
def test_what_is_stored_is_what_a_thread_stores(store, stored, one):
    rows = []
    for saga_id, write in (("x", lambda one: append(store, one) == [True]), ("y", lambda one: store.append_each([one]))):
        stored.create(store, saga_id)
        assert write(one._replace(lease=Lease(saga_id, "a", 1)))
        row = store.get(saga_id)
        assert store.journal(saga_id) == [*stored.entries(1), *one.entries]
        rows.append((row.status, row.owner, row.epoch, row.step, row.reason, row.cause, row.keep_until > row.updated))
    assert rows[0] == rows[1]


def test_of_many_each_is_stored_or_not(store, stored):
    leases = [stored.create(store, saga_id) for saga_id in ("a", "b", "c", "é")]
    store.post("c", "{}")
    ends = [Append(lease, entries_of(2), "completed", True) for lease in leases]
    ends[1] = ends[1]._replace(lease=Lease("b", "thief", 1))
    assert append(store, *ends) == [True, False, False, True]
    assert [len(store.journal(lease.saga_id)) for lease in leases] == [2, 1, 1, 2]


@pytest.mark.parametrize(
    "one",
    [
        Append(Lease("x", "thief", 1), entries_of(2)),
        Append(Lease("x", "a", 2), entries_of(2), "completed", True),
        Append(Lease("x", "a", 1), entries_of(1)),
        Append(Lease("x", "a", 1), entries_of(2), "completed", True),
        Append(Lease("x", "a", 1), entries_of(2), taken=(1,)),
    ],
    ids=["owner", "epoch", "seq", "unread", "taken"],
)
def test_what_is_not_stored_is_told_and_harms_nobody(store, stored, one):
    lease = stored.create(store, "x")
    store.post("x", "{}")
    assert append(store, one) == [False]
    assert append(store, Append(lease, entries_of(2))) == [True]
    assert spare(store) == MOST


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_cannot_be_sent_is_refused_before(store, stored, text):
    lease = stored.create(store, "x")
    assert append(store, Append(lease, entries_of(2))) == [True]
    with pytest.raises(ValueError, match=r"NUL|surrogates"):
        append(store, Append(lease, entries_of(3, payload=text)))
    assert spare(store) == MOST
    assert len(store.journal("x")) == 2


def test_a_new_execution_is_stored_once(store, stored):
    new = NewExecution("x", "é", "1", "f", "d", "running", tags={"order": "ü"})

    def create(owner: str) -> bool:
        return asyncio.run(begun(store, lambda ended: store.begin_create(new, entries_of(1), owner, 60.0, ended)))

    assert (create("a"), create("b")) == (True, False)
    row = store.get("x")
    assert (row.owner, row.epoch, row.name, dict(row.tags)) == ("a", 1, "é", {"order": "ü"})
    assert store.list(tags={"order": "ü"}).executions == (row,)
    assert store.journal("x") == entries_of(1)


def test_event_loops_that_come_and_go_use_up_no_connections(store, stored):
    lease = stored.create(store, "x")
    for seq in range(2, 30):
        assert append(store, Append(lease, entries_of(seq))) == [True]
    assert spare(store) == MOST
    assert len(lines_of(store)) <= MOST // 2


def test_one_that_is_closed_in_the_middle_leaves_its_connections_to_others(straight, stored, admin, prefix):
    store = straight
    lease = stored.create(store, "x")

    async def leave(seq: int) -> None:
        while store.begin_append_each(lambda: [Append(lease, entries_of(seq))], pytest.fail) is None:
            await asyncio.to_thread(store.now)

    with admin.transaction():
        admin.execute(f"SELECT 1 FROM {prefix} FOR UPDATE")
        for seq in range(2, 2 + 2 * MOST):
            asyncio.run(leave(seq))
    assert append(store, Append(lease, entries_of(50))) == [True]
    store.append(lease, entries_of(51))
    assert spare(store) == MOST


def test_what_an_event_loop_does_not_use_goes_back(straight, stored, monkeypatch):
    monkeypatch.setattr(postgres_silence, "SILENCE", 0.1)
    lease = stored.create(straight, "x")

    async def use() -> None:
        assert await appended(straight, Append(lease, entries_of(2))) == [True]
        assert lines_of(straight)
        await auntil(lambda: not lines_of(straight))
        assert await appended(straight, Append(lease, entries_of(3))) == [True]

    asyncio.run(use())


def test_an_only_connection_is_the_threads(postgres_url, prefix, stored):
    with PostgresStore(postgres_url, prefix=prefix, max_connections=1) as store:
        lease = stored.create(store, "x")

        async def begin() -> object:
            return store.begin_append_each(lambda: [Append(lease, entries_of(2))], pytest.fail)

        assert asyncio.run(begin()) is None


def test_a_store_that_is_closed_takes_their_connections_along(straight, stored, admin, prefix):
    lease = stored.create(straight, "x")

    async def use() -> None:
        assert await appended(straight, Append(lease, entries_of(2))) == [True]
        straight.close()
        with pytest.raises(StorageError, match="closed"):
            straight.begin_append_each(lambda: [], pytest.fail)

    asyncio.run(use())
    assert not lines_of(straight)
    here = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    until(lambda: admin.execute(here, (prefix,)).fetchone() == (0,))


# -- executions -------------------------------------------------------------------------------------------------------


class Noted(Task[None]):
    in_doubt = InDoubt.RERUN

    def __init__(self, name: str, log: list[str], then: Callable[[str], Any] = lambda name: None) -> None:
        self.name = name
        self.log = log
        self.then = then

    async def execute(self, context: Context) -> None:
        self.log.append(f"{context.step.saga_id} {self.name}")
        self.then(self.name)

    async def compensate(self, context: Context) -> None:
        self.log.append(f"{context.step.saga_id} undo {self.name}")


def saga_of(store: PostgresStore, log: list[str], then: Callable[[str], Any] = lambda name: None) -> Saga:
    saga = Saga("s", store=store)
    for name in "abc":
        saga.add_task(Noted(name, log, then))
    return saga


def ended_well(store: PostgresStore, saga_id: str) -> bool:
    row = store.get(saga_id)
    return row is not None and (row.status, row.owner) == ("completed", None)


async def executed(saga: Saga, ids: Sequence[str]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*[saga.aexecute(saga_id=saga_id) for saga_id in ids])


@pytest.mark.parametrize("many", [1, 3, 40])
def test_so_many_at_once_end_well(store, many):
    log: list[str] = []
    ids = [f"{number:02}" for number in range(many)]
    saga = saga_of(store, log)
    for ids_ in (ids, [f"again {one}" for one in ids]):
        results = asyncio.run(executed(saga, ids_))
        assert {result.status for result in results} == {Status.COMPLETED}
        assert all(ended_well(store, saga_id) for saga_id in ids_)
    assert sorted(log) == sorted(f"{word}{one} {step}" for word in ("", "again ") for one in ids for step in "abc")
    assert spare(store) == MOST
    for line in lines_of(store):
        assert bool(line._connection.prepared) is (line._connection.prepare_threshold is not None)


def test_of_many_at_once_one_that_has_lost_its_lease_fails_alone(straight, admin, prefix):
    log: list[str] = []
    steal = f"UPDATE {prefix} SET epoch = 2 WHERE id = 'x3'"
    saga = saga_of(straight, log, lambda name: log[-1] == "x3 b" and admin.execute(steal))

    async def use() -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*[saga.aexecute(saga_id=f"x{n}") for n in range(20)], return_exceptions=True)

    results = asyncio.run(use())
    assert isinstance(results.pop(3), LeaseLostError)
    assert {result.status for result in results} == {Status.COMPLETED}
    assert "x3 c" not in log


def test_no_thread_is_needed_for_what_ends_well(store, monkeypatch):
    saga = saga_of(store, [])

    async def use() -> None:
        await saga.aexecute()  # which opens a connection
        for method in ("create", "append", "append_each"):
            monkeypatch.setattr(store, method, pytest.fail)
        await saga.aexecute(saga_id="x")

    asyncio.run(use())
    assert ended_well(store, "x")


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("done", [True, False])
def test_where_an_answer_is_lost_it_is_found_out_what_was_done(straight, monkeypatch, at, done):
    log: list[str] = []
    saga = saga_of(straight, log)
    take, answers = Line._take, []

    def lose(line: Line, connection: Any) -> bool:
        whole = take(line, connection)
        answers.append(whole)
        if sum(answers) == at + 1 and whole:
            raise OSError("the network is gone")
        return whole

    send = Line.send

    def break_off(line: Line, *args: Any) -> None:
        answers.append(True)
        if len(answers) == at + 1:
            line._connection.close()  # as where the server is gone
        send(line, *args)

    async def use() -> None:
        await executed(saga, ["before"])
        log.clear()
        monkeypatch.setattr(*((Line, "_take", lose) if done else (Line, "send", break_off)))
        await executed(saga, ["x"])

    asyncio.run(use())
    assert sum(answers) > at
    assert log == ["x a", "x b", "x c"]
    assert ended_well(straight, "x")
    assert [entry.seq for entry in straight.journal("x")] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert spare(straight) == MOST


@pytest.mark.parametrize("idle", [True, False])
def test_connections_that_the_server_ends_are_replaced(straight, admin, idle, prefix):
    ends = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{prefix}'"
    log: list[str] = []
    saga = saga_of(straight, log, lambda name: name == "b" and not idle and admin.execute(ends))

    async def use() -> None:
        await executed(saga, ["before"])
        if idle:
            admin.execute(ends)
            await auntil(lambda: not lines_of(straight))
        await executed(saga, ["x"])

    asyncio.run(use())
    assert log[3:] == ["x a", "x b", "x c"]
    assert ended_well(straight, "x")


def test_a_locked_row_holds_up_its_own_execution_alone(straight, admin, prefix, monkeypatch):
    monkeypatch.setattr(postgres_silence, "SILENCE", 0.1)  # that the server is there is seen meanwhile
    log: list[str] = []
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    def lock(name: str) -> None:
        if name == "b" and log[-1] == "x b":
            admin.execute("BEGIN")
            admin.execute(f"SELECT 1 FROM {prefix} WHERE id = 'x' FOR UPDATE")

    saga = saga_of(straight, log, lock)

    async def use() -> None:
        locked = asyncio.create_task(executed(saga, ["x"]))
        await auntil(lambda: admin.execute(waits).fetchone() != (0,))
        await executed(saga, [f"y{number}" for number in range(10)])
        assert not locked.done()
        admin.execute("ROLLBACK")
        await locked

    asyncio.run(use())
    assert all(ended_well(straight, one) for one in ("x", "y0", "y9"))


class WithoutSockets(asyncio.SelectorEventLoop):
    """Watches no sockets, but its own."""

    def add_reader(self, *args: Any) -> None:
        raise NotImplementedError


def test_an_event_loop_that_watches_no_sockets_has_threads(straight):
    saga = saga_of(straight, [])
    with asyncio.Runner(loop_factory=WithoutSockets) as runner:
        runner.run(executed(saga, ["x", "y"]))
        runner.run(executed(saga, ["z"]))
    assert all(ended_well(straight, one) for one in "xyz")
    assert spare(straight) == MOST


def ours(code: CodeType) -> bool:
    """Whether a function is one of the module's that an interrupt strikes."""
    return code.co_filename == postgres_loop.__file__ and code.co_name != "open_one"


def interrupt_at(url: str, prefix: str, line: int) -> bool:
    """Execute a saga with an interrupt, and recover what it left. Return whether there was such a line."""
    log: list[str] = []
    with PostgresStore(url, prefix=prefix, max_connections=MOST) as store:
        saga, mine = saga_of(store, log), f"{line}"
        strikes = Strikes(ours, {line})
        with suppress(KeyboardInterrupt), asyncio.Runner() as runner:
            runner.run(executed(saga, [f"before {line}"]))
            with suppress(KeyboardInterrupt):
                sys.settrace(strikes)
                runner.run(executed(saga, [mine]))
            sys.settrace(None)
            for number in range(9):  # whatever the interrupted ones raise in it, or where it was to stop
                with suppress(KeyboardInterrupt, RuntimeError):
                    runner.run(executed(saga, [f"after {line} {number}"]))
                    break
        sys.settrace(None)
        assert any(ended_well(store, f"after {line} {number}") for number in range(9)), line
        keeper_of(store)._held.clear()  # as if the process had ended
        row = store.get(mine)
        if row is not None and row.owner is not None:
            store.release(Lease(mine, row.owner, row.epoch))
        Recovery(store, [saga]).run_once()
        steps = [one.partition(" ")[2] for one in log if one.startswith(mine)]
        row = store.get(mine)
        assert row is not None or not steps, (line, steps)
        if row is not None:
            assert row.status in ("completed", "compensated"), (line, row.status, steps)
            undone = {one.removeprefix("undo ") for one in steps if one.startswith("undo")}
            assert undone == (set() if row.status == "completed" else set(steps) & set("abc")), (line, steps)
        assert spare(store) >= MOST - 1, line  # what is interrupted while it is given back is gone
    return bool(strikes.struck)


def test_an_interrupt_at_any_line_leaves_nobody_waiting(postgres_url, prefix):
    # In a process of its own: in Python 3.11, a trace function that raises confuses the parser later on.
    home = Path(__file__).parents[2]
    script = f"""
        import itertools, logging, sys
        sys.path.append({str(home)!r})
        from tests.storage.test_postgres_loop import interrupt_at
        logging.disable()
        print(next(n for n in itertools.count(1) if not interrupt_at({postgres_url!r}, {prefix!r}, n)))
        """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > 100  # so many lines are executed
