"""Executions of one event loop share commits, and no fault of one is another's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Status, Task, step
from saga.durable import shared_commits as aio_commits
from saga.durable.leases import keeper_of
from saga.errors import LeaseLostError, StorageError
from saga.recovery import Recovery
from saga.storage import Append, Entry, Lease, MemoryStore, SqliteStore, Store
from tests.kit import PATIENCE, HeldStore, auntil, until
from tests.kit.strikes import Strikes


class Gated(HeldStore):
    """Holds the first commit until it is let go, and notes what is stored together.

    :ivar fault: what becomes of a commit of several executions.
    """

    def __init__(self) -> None:
        super().__init__(at=1)
        self.together: list[list[str]] = []
        self.alone: list[str] = []
        self.fault: Callable[[Sequence[Append]], list[bool]] | None = None
        self.failing: set[str] = set()

    def append(self, lease: Lease, entries: Sequence[Entry], **options: Any) -> None:
        if not self.gate.reached.is_set():
            self.gate.hold()
        self.alone.append(lease.saga_id)
        if lease.saga_id in self.failing:
            raise StorageError("the disk is full")
        MemoryStore.append(self, lease, entries, **options)

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        self.together.append(sorted(one.lease.saga_id for one in appends))
        if self.fault is not None:
            return self.fault(appends)
        for one in appends:
            MemoryStore.append(self, one.lease, one.entries, status=one.status, release=one.release, taken=one.taken)
        return [True] * len(appends)


class Shared(MemoryStore):
    """Is told what to store together."""

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        return [self._appends(one) for one in appends]


class Noted(Task[None]):
    in_doubt = InDoubt.RERUN

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def execute(self, context: Context) -> None:
        self.log.append(f"{context.step.saga_id} {self.name}")

    async def compensate(self, context: Context) -> None:
        self.log.append(f"{context.step.saga_id} undo {self.name}")


def build(store: Store, log: list[str], steps: str = "ab") -> Saga:
    saga = Saga("s", store=store)
    for name in steps:
        saga.add_task(Noted(name, log))
    return saga


async def behind_one(
    store: Gated, ids: str, log: list[str], meanwhile: Callable[[dict[str, asyncio.Task[Any]]], None] = lambda running: None
) -> list[Any]:
    """Execute one saga up to its first commit, others up to theirs, and then all of them to their ends."""
    saga = build(store, log)
    first = asyncio.create_task(saga.atry_execute(saga_id="first"))
    await auntil(store.gate.reached.is_set)
    running = {saga_id: asyncio.create_task(saga.atry_execute(saga_id=saga_id)) for saga_id in ids}
    await auntil(lambda: {f"{saga_id} a" for saga_id in ids} <= set(log))
    await asyncio.sleep(0)
    meanwhile(running)
    store.gate.open()
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(first, *running.values(), return_exceptions=True)


def test_what_comes_while_another_commit_is_made_is_stored_together() -> None:
    store, log = Gated(), list[str]()
    results = asyncio.run(behind_one(store, "wxyz", log))
    assert [result.status for result in results] == [Status.COMPLETED] * 5
    assert store.together[0] == ["w", "x", "y", "z"]
    for saga_id in ("first", *"wxyz"):
        assert [entry.seq for entry in store.journal(saga_id)] == [1, 2, 3, 4, 5, 6]
        row = store.get(saga_id)
        assert row is not None
        assert (row.status, row.owner) == ("completed", None)


def test_no_step_begins_before_its_intent_is_stored_with_those_of_others() -> None:
    store, log = Gated(), list[str]()
    seen: list[list[str]] = []

    def look(running: object) -> None:
        seen.append(list(log))

    asyncio.run(behind_one(store, "xyz", log, look))
    assert not [line for line in seen[0] if line.endswith(" b")]


def test_one_that_has_lost_its_lease_fails_alone() -> None:
    store, log = Gated(), list[str]()

    def fault(appends: Sequence[Append]) -> list[bool]:
        return [one.lease.saga_id != "y" and store._appends(one) for one in appends]

    def steal(running: object) -> None:
        row = store.get("y")
        assert row is not None
        store.release(Lease("y", str(row.owner), row.epoch))
        assert store.claim("thief", 60.0, saga_id="y")

    store.fault = fault
    results = asyncio.run(behind_one(store, "xyz", log, steal))
    assert isinstance(results[2], LeaseLostError)
    assert [result.status for result in (results[0], results[1], results[3])] == [Status.COMPLETED] * 3
    assert "y b" not in log


@pytest.mark.parametrize("fault", [lambda appends: [False] * len(appends), lambda appends: 1 / 0])
def test_what_cannot_be_stored_together_is_stored_alone(fault: Any) -> None:
    store, log = Gated(), list[str]()
    store.fault = fault
    results = asyncio.run(behind_one(store, "xyz", log))
    assert [result.status for result in results] == [Status.COMPLETED] * 4
    assert store.together
    assert set("xyz") <= set(store.alone)


def test_one_that_cannot_be_stored_at_all_leaves_the_others_as_they_are() -> None:
    store, log = Gated(), list[str]()
    store.fault = lambda appends: [one.lease.saga_id != "y" and store._appends(one) for one in appends]
    store.failing.add("y")
    results = asyncio.run(behind_one(store, "xyz", log))
    assert isinstance(results[2], StorageError)
    assert "the disk is full" in str(results[2])
    assert [result.status for result in (results[0], results[1], results[3])] == [Status.COMPLETED] * 3
    assert [line for line in log if line.startswith("y")] == ["y a"]


def test_a_cancellation_while_others_are_stored_with_it_strikes_one_alone() -> None:
    store, log = Gated(), list[str]()
    results = asyncio.run(behind_one(store, "xyz", log, lambda running: running["y"].cancel() and None))
    assert isinstance(results[2], asyncio.CancelledError)
    assert [result.status for result in (results[0], results[1], results[3])] == [Status.COMPLETED] * 3
    assert [line for line in log if line.startswith("y")] == ["y a", "y undo a"]
    assert [str(store.get(saga_id).status) for saga_id in "xyz"] == ["completed", "compensated", "completed"]  # type: ignore[union-attr]


def test_two_event_loops_use_one_store(tmp_path: Any) -> None:
    log: list[str] = []
    with SqliteStore(tmp_path / "saga.db") as store:
        saga = build(store, log, "abc")

        async def many(loop: str) -> list[Any]:
            return await asyncio.gather(*[saga.atry_execute(saga_id=f"{loop}{number}") for number in range(20)])

        found: list[Any] = []
        threads = [threading.Thread(target=lambda name=name: found.extend(asyncio.run(many(name)))) for name in "xy"]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [result.status for result in found] == [Status.COMPLETED] * 40
        assert {len(store.journal(f"{name}{number}")) for name in "xy" for number in range(20)} == {8}


def test_an_event_loop_that_begins_no_threads_any_more_stores_by_itself() -> None:
    class ShutsDown(Noted):
        async def execute(self, context: Context) -> None:
            await asyncio.get_running_loop().shutdown_default_executor()

    result = asyncio.run(Saga("s", store=Shared()).add_task(ShutsDown("a", [])).atry_execute())
    assert result.status is Status.COMPLETED


def test_nobody_waits_for_a_commit_that_takes_long() -> None:
    """One's row is locked by somebody, say."""
    store, log = Gated(), list[str]()

    async def others_end_first() -> None:
        saga = build(store, log)
        first = asyncio.create_task(saga.atry_execute(saga_id="first"))
        await auntil(store.gate.reached.is_set)
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(*[saga.atry_execute(saga_id=saga_id) for saga_id in "xyz"])
        assert [result.status for result in results] == [Status.COMPLETED] * 3
        assert not first.done()
        store.gate.open()
        assert (await first).status is Status.COMPLETED

    asyncio.run(others_end_first())


class Executor(ThreadPoolExecutor):
    """Counts its jobs, and drops or refuses some.

    :ivar fate: of the next ones.
    """

    def __init__(self, *fate: str) -> None:
        super().__init__(4)
        self.jobs = 0
        self.fate = list(fate)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs += 1
        fate = self.fate.pop(0) if self.fate and getattr(function, "__name__", "") == "store" else ""
        if fate == "refused":
            raise OSError("no")
        if fate:
            dropped: Future[Any] = Future()
            if fate == "cancelled":
                dropped.cancel()
                dropped.set_running_or_notify_cancel()
            else:
                dropped.set_exception(BrokenExecutor())
            return dropped
        return super().submit(function, *args, **kwargs)


@pytest.mark.parametrize("fate", [["cancelled"], ["broken"], ["refused"], ["refused", "cancelled", "broken", "refused"]])
@pytest.mark.parametrize("many", [1, 5])
def test_what_the_executor_drops_is_stored_all_the_same(fate: list[str], many: int) -> None:
    store, log = Shared(), list[str]()

    async def dropped() -> list[Any]:
        asyncio.get_running_loop().set_default_executor(Executor(*fate))
        saga = build(store, log)
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*[saga.atry_execute(saga_id=str(number)) for number in range(many)])

    assert [result.status for result in asyncio.run(dropped())] == [Status.COMPLETED] * many
    assert sorted(log) == sorted(f"{number} {name}" for number in range(many) for name in "ab")


def test_a_group_that_is_refused_takes_one_thread_for_each() -> None:
    store, log = Shared(), list[str]()
    executor = Executor()
    refused: list[int] = []

    def refuse(appends: Sequence[Append]) -> list[bool]:
        refused.append(len(appends))
        return [False] * len(appends)

    async def many() -> None:
        asyncio.get_running_loop().set_default_executor(executor)
        saga = build(store, log)
        await asyncio.gather(*[saga.atry_execute() for _ in range(100)])

    store.append_each = refuse  # type: ignore[method-assign]
    asyncio.run(many())
    assert executor.jobs < 100 + sum(refused) + 2 * 100 + 10  # creations, what was refused, groups


def test_a_store_that_knows_nothing_of_groups_stores_several_at_once() -> None:
    log: list[str] = []
    three = threading.Barrier(3)

    class Together(MemoryStore):
        def append(self, *args: Any, **options: Any) -> None:
            three.wait(PATIENCE)
            super().append(*args, **options)

    async def many() -> list[Any]:
        saga = build(Together(), log)
        return await asyncio.gather(*[saga.atry_execute() for _ in range(3)])

    assert [result.status for result in asyncio.run(many())] == [Status.COMPLETED] * 3


def test_what_is_stored_alone_sees_the_context_variables_of_its_caller() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: set[str] = set()

    class Seeing(MemoryStore):
        def append(self, *args: Any, **options: Any) -> None:
            seen.add(who.get())
            super().append(*args, **options)

    async def one() -> None:
        who.set("me")
        await build(Seeing(), []).aexecute()

    asyncio.run(one())
    assert seen == {"me"}


@pytest.mark.parametrize("error", [StopIteration, asyncio.CancelledError, ZeroDivisionError])
def test_whatever_a_store_raises_is_told(error: type[BaseException]) -> None:
    class Wrong(MemoryStore):
        def append(self, *args: Any, **options: Any) -> None:
            raise error

    async def one() -> None:
        async with asyncio.timeout(PATIENCE):
            await build(Wrong(), []).aexecute()

    with pytest.raises(StorageError, match=rf"{error.__name__}\(\)"):
        asyncio.run(one())


def test_one_commit_that_is_asked_for_twice_is_one() -> None:
    async def twice() -> None:
        commits: Any = aio_commits.Commits(True)
        journal, machine = object(), object()
        assert commits.commit(journal, machine) is commits.commit(journal, machine)
        commits.forget()

    asyncio.run(twice())


def test_what_has_ended_is_kept_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Exception):
        pass

    class Fails(Noted):
        async def execute(self, context: Context) -> None:
            error = Wrong()
            raised.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

    raised: list[weakref.ref[Wrong]] = []

    async def one() -> None:
        result = await Saga("s", store=Shared()).add_task(Fails("a", [])).atry_execute()
        assert result.status is Status.COMPENSATED
        del result
        await auntil(lambda: raised[0]() is None)  # the thread that stored it may still be at its end

    monkeypatch.setattr(aio_commits, "_LONG", 3600.0)
    gc.collect()
    gc.disable()
    try:
        asyncio.run(one())
    finally:
        gc.enable()


@pytest.mark.parametrize("together", [True, False])
def test_what_runs_on_after_an_interrupt_waits_for_what_it_cut_off(together: bool) -> None:
    """Two commits of one journal, in two threads at once, would count what both have stored twice."""
    at_once = most = 0

    class Slow:
        written = 0

        def commit(self, machine: Any) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            time.sleep(0.05)
            self.written = len(machine.events)
            at_once -= 1

    async def two() -> None:
        commits: Any = aio_commits.Commits(together)
        journal = Slow()
        first = commits.commit(journal, SimpleNamespace(events=[1]))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, commits.commit(journal, SimpleNamespace(events=[1, 2])))
        assert journal.written == 2

    asyncio.run(two())
    assert most == 1


def test_a_loop_that_is_closed_in_a_commit_is_not_kept() -> None:
    store: Gated | None = Gated()
    assert store is not None
    loop = asyncio.new_event_loop()

    async def up_to_the_last_commit(store: Gated) -> None:
        running.append(asyncio.create_task(build(store, [], "a").atry_execute(saga_id="x")))
        await auntil(store.gate.reached.is_set)

    running: list[asyncio.Task[Any]] = []
    loop.run_until_complete(up_to_the_last_commit(store))
    loop.set_exception_handler(lambda loop, context: None)  # a task is destroyed that is pending
    loop.close()
    gone = [weakref.ref(store), weakref.ref(loop), weakref.ref(running.pop())]
    store.gate.open()
    del loop, store

    def is_gone() -> bool:
        gc.collect()
        return not any(one() for one in gone)

    until(is_gone)


def test_what_cannot_be_stored_is_given_back_where_no_threads_begin_any_more() -> None:
    class ShutsDown(Noted):
        async def execute(self, context: Context) -> None:
            await asyncio.get_running_loop().shutdown_default_executor()

    class Full(Shared):
        def append(self, *args: Any, **options: Any) -> None:
            raise StorageError("the disk is full")

    store = Full()
    with pytest.raises(StorageError, match="the disk is full"):
        asyncio.run(Saga("s", store=store).add_task(ShutsDown("a", [])).atry_execute(saga_id="x"))
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner) == ("running", None)


def ours(code: CodeType) -> bool:
    """Whether a function is one of the module's that an interrupt strikes in the event loop's thread."""
    return code.co_filename == aio_commits.__file__ and code.co_name != "store"


class Refusing(MemoryStore):
    """Stores nothing together, and nothing of one execution in two threads."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.busy: set[str] = set()
        self.twice = False

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        return [False] * len(appends)

    def append(self, lease: Lease, entries: Sequence[Entry], **options: Any) -> None:
        self.twice = self.twice or lease.saga_id in self.busy
        self.busy.add(lease.saga_id)
        time.sleep(0.001)
        try:
            super().append(lease, entries, **options)
        finally:
            self.busy.discard(lease.saga_id)


class Given(MemoryStore):
    """Appends as the store does that nobody has changed."""

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        return [Given._appends(self, one) for one in appends]

    def _appends(self, one: Append) -> bool:
        with suppress(StorageError):
            MemoryStore.append(self, one.lease, one.entries, status=one.status, release=one.release, told=one.told)
            return True
        return False


class Begun:
    """What a store does in the event loop, in its own time."""

    cut_off = False

    def __init__(self, store: MemoryStore, given: Sequence[Append], ended: Callable[[Sequence[bool]], None]) -> None:
        self.store, self.given, self.ended = store, given, ended
        asyncio.get_running_loop().call_soon(self.come)

    def come(self) -> None:
        self.cut_off = True
        self.ended(Given.append_each(self.store, self.given))  # beside a thread's, where the interrupt made it do that, too
        self.cut_off = False

    def end(self) -> None:
        pass


class Beginning(Refusing):
    """Begins to append in the event loop, so many at once."""

    def begin_append_each(
        self, appends: Callable[[], Sequence[Append]], ended: Callable[[Sequence[bool]], None]
    ) -> Begun | None:
        self.number = getattr(self, "number", 0) + 1
        return Begun(self, appends(), ended) if self.number % 3 else None


class Partly(Given):
    """Begins to append in the event loop, and leaves the last of several to a thread."""

    def begin_append_each(
        self, appends: Callable[[], Sequence[Append]], ended: Callable[[Sequence[bool]], None]
    ) -> Begun | None:
        given = appends()
        return Begun(self, given[:-1] if len(given) > 1 else given, lambda done: ended([*done, False][: len(given)]))


def test_what_an_event_loop_does_not_store_with_others_is_stored_alone() -> None:
    store, together = Partly(), asyncio.Barrier(8)
    saga = Saga("s", store=store).add_task(step(together.wait, name="meet"))

    async def all_of_them() -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*[saga.aexecute(saga_id=f"x{number}") for number in range(8)])

    assert {result.status for result in asyncio.run(all_of_them())} == {Status.COMPLETED}
    assert {str(store.get(f"x{number}").status) for number in range(8)} == {"completed"}  # type: ignore[union-attr]


STORES = {"shared": Shared, "alone": MemoryStore, "refusing": Refusing, "beginning": Beginning}


def run_on(runner: asyncio.Runner, saga: Saga) -> None:
    """Execute once more in the same event loop, as in a notebook, whatever the interrupted ones raise in it."""
    for number in range(9):
        # A loop that was interrupted just when it was to stop does so when it runs again.
        with suppress(KeyboardInterrupt, RuntimeError):
            result = runner.run(asyncio.wait_for(saga.atry_execute(saga_id=f"later{number}"), 20))
            assert result.status is Status.COMPLETED
            return
    raise AssertionError("it is interrupted again and again")


def interrupt_at(line: int, kind: str) -> bool:
    """Execute some sagas with an interrupt, and recover what it left. Return whether there was such a line."""
    now = time.time()
    store, log = STORES[kind](clock=lambda: now), list[str]()
    saga = build(store, log)
    ids = "xyz"

    async def all_of_them() -> None:
        await asyncio.gather(*[saga.atry_execute(saga_id=saga_id) for saga_id in ids])

    strikes = Strikes(ours, {line})
    sys.settrace(strikes)
    try:
        with suppress(KeyboardInterrupt), asyncio.Runner() as runner:
            with suppress(KeyboardInterrupt):
                runner.run(all_of_them())
            sys.settrace(None)
            run_on(runner, saga)
    finally:
        sys.settrace(None)
    assert not getattr(store, "twice", False)
    keeper_of(store)._held.clear()  # as if the process had ended
    now += 60.0
    Recovery(store, [saga]).run_once()
    for saga_id in ids:
        mine = [line.partition(" ")[2] for line in log if line.startswith(saga_id)]
        row = store.get(saga_id)
        assert row is not None or not mine, (line, mine)
        if row is not None:
            assert row.status in ("completed", "compensated"), (line, row.status, mine)
            here = [name for name in "ab" if last(mine, name) > last(mine, f"undo {name}")]
            assert here == (["a", "b"] if row.status == "completed" else []), (line, row.status, mine)
    return bool(strikes.struck)


def last(names: Sequence[str], name: str) -> int:
    return max((index for index, one in enumerate(names) if one == name), default=-1)


@pytest.mark.parametrize("kind", list(STORES))
def test_an_interrupt_at_any_line_leaves_nobody_waiting(kind: str) -> None:
    # In a process of its own: in Python 3.11, a trace function that raises confuses the parser later on.
    home = Path(__file__).parents[2]
    script = f"""
        import itertools, logging, sys
        sys.path.append({str(home)!r})
        from tests.drivers.test_commits_together import interrupt_at
        logging.disable()
        print(next(line for line in itertools.count(1) if not interrupt_at(line, {kind!r})))
        """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > 40  # so many lines are executed
