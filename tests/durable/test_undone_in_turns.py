"""Executions that one worker undoes: they take turns, and what came of their calls is stored together."""

from __future__ import annotations

import contextvars
import gc
import itertools
import os
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Retry, Saga, fallback, parallel, sequence, step, timer
from saga.durable import leases
from saga.durable.codec import Codec
from saga.durable.leases import keeper_of
from saga.durable.messages import action_message
from saga.errors import SagaDefinitionError, StorageError
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, NewExecution, SqliteStore, Store
from saga.worker import Worker
from saga.working import crew
from saga.working.line import Line
from tests.kit import PATIENCE, Watched, check_journal, until, within
from tests.kit.recoveries import left_behind
from tests.kit.shelves import Shelf
from tests.kit.strikes import Strikes, functions, struck_by

IDS = [f"x{number}" for number in range(8)]
STEPS = ["c", "b", "a"]
COMMITS = "saga worker commits"

Undo = Callable[[Context], object]


class Together(MemoryStore):
    """A store in memory that says to gain by commits that are made together."""

    def append_each(self, appends: Any) -> list[bool]:
        return super().append_each(appends)


@pytest.fixture(autouse=True)
def claims_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew.Crew, "room", lambda self, asynchronous: 0 if asynchronous else len(IDS))


def build(undo: Undo = lambda context: None, **more: Any) -> Saga:
    saga = Saga("s", **more)
    for name in reversed(STEPS):
        saga.add_task(step(lambda: None, undo, name=name))
    return saga


def all_left(store: Store) -> None:
    """Leave executions whose process died in the last of their steps."""
    for saga_id in IDS:
        left_behind(store, build, saga_id, count=3)


def statuses(store: Store) -> set[str]:
    return {row.status for row in store.list().executions}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_call_is_made_when_its_intent_is_stored_and_what_came_of_many_is_stored_together(workers: int, store: Store) -> None:
    called: list[tuple[str, str]] = []

    def undo(context: Context) -> None:
        me = context.step
        last = store.journal(me.saga_id)[-1]
        assert (last.kind, last.step) == ("CompensationStarted", me.name)
        called.append((me.saga_id, me.name))

    all_left(store)
    watched = Watched(store)
    watched.before = lambda number: time.sleep(0.02)  # as a disk does, so that others come meanwhile
    told: Counter[str] = Counter()
    saga = build(undo, logger=lambda event, info: told.update([type(event).__name__]))
    results = Recovery(watched, [saga], workers=workers).run_once()  # type: ignore[arg-type]
    assert sorted(result.saga_id for result in results) == IDS
    assert statuses(store) == {"compensated"}
    assert sorted(called) == sorted(itertools.product(IDS, STEPS))
    assert [name for saga_id, name in called if saga_id == "x0"] == STEPS
    for saga_id in IDS:
        check_journal(store.journal(saga_id))
    assert (told["CompensationSucceeded"], told["SagaCompensated"]) == (len(called), len(IDS))
    appends = watched.calls.count("append") + watched.calls.count("append_each")
    assert appends < len(IDS) * (len(STEPS) + 1)  # which is what each by itself makes


@pytest.mark.parametrize("when", STEPS[1:])
def test_what_is_put_elsewhere_is_put_by_whoever_has_it(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others would wait for it in the line, where what came of many calls is stored."""
    shelf = Shelf()
    stood: list[bool] = []
    add = Line.add

    def stands(line: Line, execution: Any, turn: Callable[[], object]) -> None:
        stood.append(execution.journal.has_large(execution.machine))
        add(line, execution, turn)

    def undo(context: Context) -> None:
        if context.step.name == when:
            context["large"] = "x" * 2000

    monkeypatch.setattr(Line, "add", stands)
    with Together() as store:
        all_left(store)
        Recovery(store, [build(undo, codec=Codec(blobs=shelf, larger_than=1000))], workers=3).run_once()
        assert statuses(store) == {"compensated"}
    assert stood
    assert not any(stood)
    assert shelf.count("put") == len(IDS)


def fails() -> None:
    raise ValueError("no")


SHAPES: dict[str, Callable[[Callable[..., Any]], list[Any]]] = {
    "with a time limit": lambda one: [one("a", timeout=60.0), one("b")],
    "a group": lambda one: [one("a"), parallel(one("b"), one("c"))],
    "a group undone together": lambda one: [one("a"), parallel(one("b"), one("c"), compensate_together=True)],
    "a fallback": lambda one: [one("a"), fallback(step(fails, name="b"), one("c"))],
    "a step that waits": lambda one: [one("a"), timer(0.001, name="b"), one("c")],
    "nothing to undo": lambda one: [step(lambda: None, name="a"), one("b")],
    "a pivot": lambda one: [one("a"), step(lambda: None, name="b", pivot=True), one("c")],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_the_flow_is_each_is_undone_as_by_itself(shape: str, store: Store) -> None:
    called: dict[str, list[str]] = {}

    def undo(context: Context) -> None:
        called.setdefault(context.step.saga_id, []).append(context.step.name)

    def one(name: str, **more: Any) -> Any:
        return step(lambda: None, undo, name=name, **more)

    def made() -> Saga:
        return Saga("s").add_task(sequence(*SHAPES[shape](one), one("last")))

    with MemoryStore() as memory:
        made().execute(saga_id="x", store=memory)
        cut = [entry.step for entry in memory.journal("x")].index("last") + 1
        for saga_id in ("alone", *IDS):
            entries = [
                entry._replace(payload=entry.payload.replace('"saga_id":"x"', f'"saga_id":"{saga_id}"'))
                for entry in memory.journal("x")[:cut]
            ]
            row = memory.get("x")
            assert row is not None
            new = NewExecution(saga_id, row.name, row.version, row.fingerprint, row.digest, "running")
            store.create(new, entries, "dead", 0.0)
            if saga_id == "alone":
                Recovery(store, [made()]).run_once()
    results = Recovery(Watched(store), [made()]).run_once()  # type: ignore[arg-type]
    assert sorted(result.saga_id for result in results) == IDS
    ended = "completed" if shape == "a pivot" else "compensated"
    assert statuses(store) == {ended}
    assert called.keys() == (set() if shape == "a pivot" else {"alone", *IDS})
    assert all(sorted(names) == sorted(called["alone"]) for names in called.values())
    if shape != "a group undone together":
        assert all(names == called["alone"] for names in called.values())
    for saga_id in IDS:
        check_journal(store.journal(saga_id))


def test_none_waits_for_itself_in_its_turn(store: Store) -> None:
    refused: list[str] = []

    def undo(context: Context) -> None:
        with pytest.raises(SagaDefinitionError, match="is waited for in one of its own steps"):
            build().execute(saga_id=context.step.saga_id, store=store)
        refused.append(context.step.saga_id)

    all_left(store)
    within(PATIENCE, Recovery(store, [build(undo)]).run_once)
    assert sorted(refused) == sorted(IDS * len(STEPS))


def test_they_take_turns(store: Store) -> None:
    called: list[str] = []
    all_left(store)
    Recovery(Watched(store), [build(lambda context: called.append(context.step.name))]).run_once()  # type: ignore[arg-type]
    assert called == [name for name in STEPS for _ in IDS]


def test_what_one_sets_in_its_thread_the_others_do_not_see(store: Store) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    seen: dict[str, list[str]] = {}

    def undo(context: Context) -> None:
        seen.setdefault(context.step.saga_id, []).append(variable.get())
        variable.set(context.step.saga_id)

    all_left(store)
    Recovery(Watched(store), [build(undo)]).run_once()  # type: ignore[arg-type]
    assert seen == {saga_id: ["nobody's", saga_id, saga_id] for saga_id in IDS}
    assert variable.get() == "nobody's"


def test_a_call_that_takes_long_keeps_no_outcome_from_being_stored_and_no_execution_from_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.1)
    monkeypatch.setattr(leases, "TIME_TO_BEGIN", 1.0)  # however busy the machine is, what was called is stored by then
    began, go_on = threading.Event(), threading.Event()
    called: list[tuple[str, str]] = []
    long: list[str] = []

    def undo(context: Context) -> None:
        me = context.step
        called.append((me.saga_id, me.name))
        if [name for _, name in called].count("b") == 3 and not long:
            long.append(me.saga_id)
            began.set()
            assert go_on.wait(PATIENCE)

    all_left(store)
    recovery = Recovery(Watched(store), [build(undo)])  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(recovery.run_once)
        try:
            assert began.wait(PATIENCE)
            other = Recovery(store, [build(undo)])
            others: list[str] = []
            until(lambda: others.extend(result.saga_id for result in other.run_once()) or len(others) == len(IDS) - 1)
        finally:
            go_on.set()
        assert [result.saga_id for result in slow.result(PATIENCE)] == long
    assert sorted([*others, *long]) == IDS
    assert sorted(called) == sorted(itertools.product(IDS, STEPS))
    assert statuses(store) == {"compensated"}


FAULTS = ["nothing is stored", "it raises", "it exits", "all is stored and it raises", "one is stored"]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_could_not_be_stored_together_is_stored_alone(fault: str, store: Store) -> None:
    class Faulty(Watched):
        def append_each(self, appends: Any) -> list[bool]:
            if fault == "nothing is stored":
                return [False] * len(appends)
            if fault == "one is stored":
                return [*super().append_each(appends[:1]), *[False] * (len(appends) - 1)]
            if fault.startswith("all"):
                super().append_each(appends)
            raise SystemExit if fault == "it exits" else RuntimeError("the store has a fault")

    called: list[str] = []
    all_left(store)
    results = Recovery(Faulty(store), [build(lambda context: called.append(context.step.name))]).run_once()  # type: ignore[arg-type]
    assert len(results) == len(IDS)
    assert Counter(called) == dict.fromkeys(STEPS, len(IDS))
    assert statuses(store) == {"compensated"}
    for saga_id in IDS:
        check_journal(store.journal(saga_id))


@pytest.mark.parametrize("what", ["stolen", "store fails", "fails", "fails and is tried again", "exits", "paused by mail"])
def test_what_happens_to_one_is_no_matter_to_the_others(what: str, store: Store) -> None:
    """``what`` happens to ``x3`` in its second compensation."""

    class Failing(Watched):
        def append(self, lease: Lease, *args: Any, **more: Any) -> None:
            if lease.saga_id == "x3":
                raise StorageError("the disk is full")
            super().append(lease, *args, **more)

        def append_each(self, appends: Any) -> list[bool]:
            stored = super().append_each([one for one in appends if one.lease.saga_id != "x3"])
            return [one.lease.saga_id != "x3" and stored.pop(0) for one in appends]

    calls: Counter[str] = Counter()

    def undo(context: Context) -> None:
        me = context.step
        calls[me.saga_id] += 1
        if (me.saga_id, me.name) != ("x3", "b"):
            return
        row = store.get("x3")
        assert row is not None
        assert row.owner is not None
        if what == "stolen":
            store.release(Lease("x3", row.owner, row.epoch))
            assert store.claim("robber", 60.0, saga_id="x3")
        elif what == "store fails":
            watched.__class__ = Failing
        elif what == "exits":
            sys.exit(1)
        elif what == "fails" or (what == "fails and is tried again" and calls["x3"] == 2):
            raise ValueError("declined")
        elif what == "paused by mail":
            store.post("x3", action_message("pause", None, "me", "wait"))
            keeper_of(watched).look("x3")  # type: ignore[arg-type]

    all_left(store)
    watched = Watched(store)
    retry = Retry(2, 0.001) if what == "fails and is tried again" else None
    saga = Saga("s")
    for name in reversed(STEPS):
        saga.add_task(step(lambda: None, undo, name=name, compensation_retry=retry))
    results = Recovery(watched, [saga]).run_once()  # type: ignore[arg-type]
    found = {row.saga_id: (row.status, row.owner) for row in store.list().executions}
    x3 = found.pop("x3")
    assert set(found.values()) == {("compensated", None)}
    assert {saga_id: calls[saga_id] for saga_id in found} == dict.fromkeys(found, 3)
    told = {result.saga_id: result.status for result in results}
    if what == "stolen":
        assert x3 == ("compensating", "robber")
    elif what == "store fails":
        assert x3 == ("compensating", None)
    else:
        assert x3 == ("stuck" if what in ("fails", "exits") else "compensated", None)
        assert told.pop("x3") == x3[0]
        assert calls["x3"] == 3 + (what == "fails and is tried again")
    assert told == dict.fromkeys(found, "compensated")


@pytest.mark.parametrize("where", ["in a call", "before a commit", "after a commit"])
def test_where_a_worker_dies_at_most_the_call_in_flight_of_each_is_made_again(where: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    class Dying(SqliteStore):
        commits = 0

        def append_each(self, appends: Any) -> list[bool]:
            self.commits += 1
            if where == "before a commit" and self.commits == last:
                os._exit(1)
            stored = super().append_each(appends)
            if where == "after a commit" and self.commits == last:
                os._exit(1)
            return stored

    def undo(context: Context) -> None:
        with log.open("a") as lines:
            lines.write(f"{context.step.saga_id} {context.step.name}\n")
        if where == "in a call" and len(log.read_text().split()) == 2 * last:
            os._exit(1)

    died = 0
    for last in range(1, 4) if "commit" in where else range(3, 3 * len(IDS) + 1, 7):
        log.write_text("")
        path = tmp_path / f"{last}.db"
        with SqliteStore(path) as store:
            all_left(store)
        pid = os.fork()
        if pid == 0:
            with Dying(path) as store:
                Recovery(store, [build(undo)]).run_once()
            os._exit(0)
        died += os.waitpid(pid, 0)[1] != 0
        with SqliteStore(path, clock=lambda: time.time() + 60.0) as store:
            Recovery(store, [build(undo)]).run_once()
            assert statuses(store) == {"compensated"}
            for saga_id in IDS:
                check_journal(store.journal(saga_id))
        made = Counter(log.read_text().splitlines())
        assert made.keys() == {f"{saga_id} {name}" for saga_id in IDS for name in STEPS}
        again = Counter(line.split()[0] for line, times in made.items() for _ in range(times - 1))
        assert max(again.values(), default=0) <= 1, (last, again)
    assert died


def test_a_worker_that_stops_gives_back_those_whose_turn_it_is_not(store: Store) -> None:
    called: list[tuple[str, str]] = []

    def undo(context: Context) -> None:
        called.append((context.step.saga_id, context.step.name))
        if len(called) == len(IDS) + 3:
            worker.stop()

    all_left(store)
    worker = Worker(Watched(store), [build(undo)], workers=1, finish="calls")  # type: ignore[arg-type]
    worker.run_once()
    assert len(called) == len(IDS) + 3
    rows = store.list().executions
    assert {(row.status, row.owner, row.recoveries) for row in rows} == {("compensating", None, 0)}
    assert len(Recovery(store, [build(undo)]).run_once()) == len(IDS)
    assert sorted(called) == sorted(itertools.product(IDS, STEPS))


def test_a_worker_that_stops_finishes_what_it_has_begun_to_undo(store: Store) -> None:
    def undo(context: Context) -> None:
        worker.stop()

    all_left(store)
    worker = Worker(Watched(store), [build(undo)], workers=1)  # type: ignore[arg-type]
    ran = worker.run_once()
    assert ran
    rows = store.list().executions
    assert {row.saga_id for row in rows if row.status == "compensated"} == {result.saga_id for result in ran}
    assert {row.owner for row in rows if row.status != "compensated"} <= {None, "dead"}


def test_a_recovery_that_goes_on_keeps_nothing_of_what_it_has_undone(store: Store) -> None:
    seen: list[weakref.ref[Context]] = []
    all_left(store)
    saga = build(lambda context: seen.append(weakref.ref(context)))
    recovery = Recovery(Watched(store), [saga])  # type: ignore[arg-type]
    thread = threading.Thread(target=lambda: recovery.run(interval=0.01, signals=False))
    thread.start()
    try:
        until(lambda: statuses(store) == {"compensated"})
        until(lambda: gc.collect() >= 0 and all(one() is None for one in seen))
    finally:
        recovery.stop()
        thread.join(PATIENCE)
    assert len(seen) == len(IDS) * len(STEPS)


def test_where_no_thread_is_to_be_had_each_stores_what_it_brings(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name == COMMITS:
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    all_left(store)
    watched = Watched(store)
    assert len(Recovery(watched, [build()]).run_once()) == len(IDS)  # type: ignore[arg-type]
    assert statuses(store) == {"compensated"}
    assert "append_each" not in watched.calls


@pytest.mark.parametrize("second", [0, 3])
def test_an_interrupt_at_any_line_leaves_no_lease_behind(second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line for the first time and the second. ``second``: so many lines later, there is another interrupt."""
    lines = {
        "crew.py": {"work", "_do", "_go_as_far", "_give_turn", "_end", "close", "cancel"},
        "jobs.py": {"let_wait", "take_turn", "run", "_end", "leave"},
        "line.py": {"takes", "add", "close", "_start"},
        "threads.py": {"takes_turns", "take_turn", "run"},
    }
    monkeypatch.setattr(sys.modules[__name__], "IDS", ["x0", "x1"])
    called: Counter[tuple[str, str]] = Counter()

    def undo(context: Context) -> None:
        called[context.step.saga_id, context.step.name] += 1

    for position in itertools.count(1):
        now = time.time()
        store = Together(clock=lambda: now)  # noqa: B023
        all_left(store)
        called.clear()
        strikes = Strikes(functions(lines), {position, position + second}, often=2)
        raised = struck_by(strikes, Recovery(store, [build(undo)]).run_once)
        if not strikes.struck:
            break
        assert isinstance(raised, KeyboardInterrupt), position
        assert not keeper_of(store)._held, position
        assert not [one for one in threading.enumerate() if one.name == COMMITS], position
        for row in store.list().executions:
            assert row.status == "compensated" or row.owner in (None, "dead"), position
            check_journal(store.journal(row.saga_id))
        Recovery(store, [build(undo)]).run_once()
        assert statuses(store) == {"compensated"}, position
        assert sum(called.values()) <= len(IDS) * len(STEPS) + 2, position  # those that were in flight
    assert position > 80
