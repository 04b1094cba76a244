"""A recovery that finishes several executions, one after the other: none keeps the others back."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, SagaResult, Status, step, timer
from saga.durable import leases
from saga.durable.codec import Codec
from saga.durable.leases import Keeper, keeper_of
from saga.durable.messages import action_message
from saga.errors import StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, SqliteStore, Store
from saga.working import crew
from saga.working import jobs as jobs_module
from tests.kit import PATIENCE, Watched, check_journal, until, within
from tests.kit.recoveries import left_behind, simple, three_left
from tests.kit.strikes import Strikes, functions, struck_by


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first has ended, one is claimed ahead of the one that is run, however slow the machine is."""
    monkeypatch.setattr(crew, "_LATELY", PATIENCE)


def test_before_a_task_runs_the_end_of_the_one_before_it_is_stored(store: Store) -> None:
    seen: list[list[str]] = []
    recorded = False

    def look() -> None:
        if recorded:
            seen.append(sorted(row.status for row in store.list().executions))

    told_of: list[str] = []

    def build() -> Saga:
        def note(event: Any, info: Any) -> None:
            told_of.append(type(event).__name__)

        return Saga("s", logger=note).add_task(step(look, name="a", in_doubt=InDoubt.RERUN))

    three_left(store, build)
    recorded = True
    told_of.clear()
    Recovery(store, [build()]).run_once()
    assert seen == [["running"] * 3, ["completed", "running", "running"], ["completed", "completed", "running"]]
    once = ["SagaRecovered", "StepFailed", "StepStarted", "StepSucceeded", "SagaCompleted"]
    assert sorted(told_of) == sorted(once * 3)
    assert told_of[-1] == "SagaCompleted"


def test_an_end_that_another_owner_forestalled_is_reported_and_the_rest_goes_on(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    robbed: list[str] = []

    def build() -> Saga:
        return Saga("s").add_task(step(rob, name="a", in_doubt=InDoubt.RERUN))

    def rob(context: Context) -> None:
        if recorded and not robbed:
            robbed.append(context.step.saga_id)
            row = store.get(robbed[0])
            assert row is not None
            assert row.owner is not None
            store.release(Lease(row.saga_id, row.owner, row.epoch))
            assert store.claim("robber", 60.0, saga_id=row.saga_id)

    recorded = False
    three_left(store, build)
    recorded = True
    results = Recovery(store, [build()]).run_once()
    assert sorted([*robbed, *(result.saga_id for result in results)]) == ["x0", "x1", "x2"]
    assert all(result.ok for result in results)
    assert f"saga {robbed[0]} stopped here" in caplog.text
    row = store.get(robbed[0])
    assert row is not None
    assert (row.status, row.owner) == ("running", "robber")


def test_an_interrupt_between_two_of_them_stores_the_end_and_leaves_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_left(store, simple)
    real, taken = jobs_module.take_up, []

    def take_up(*arguments: Any) -> Any:
        if taken:
            raise KeyboardInterrupt
        taken.append(arguments[2].saga_id)
        return real(*arguments)

    monkeypatch.setattr(jobs_module, "take_up", take_up)
    with pytest.raises(KeyboardInterrupt):
        Recovery(store, [simple()]).run_once()
    rows = {saga_id: store.get(saga_id) for saga_id in ("x0", "x1", "x2")}
    assert rows.pop(taken[0]).status == "completed"  # type: ignore[union-attr]
    assert all(row is not None and row.owner in (None, "dead") and row.status == "running" for row in rows.values())
    monkeypatch.undo()
    assert len(Recovery(store, [simple()]).run_once()) == 2


@pytest.mark.parametrize("second", [0, 1, 7])
def test_an_interrupt_at_any_line_leaves_no_lease_behind_and_stores_each_end(second: int) -> None:
    """``second``: so many lines later, there is another interrupt."""
    lines = {
        "shift.py": {"serve", "_claim", "finish"},
        "crew.py": {"room", "take", "work", "_do", "_go_as_far", "_begin", "_end", "leave_waiting"},
        "jobs.py": {"claimed", "_read", "take_up", "run", "_end", "leave"},
        "threads.py": {"run", "advance", "_publish"},
        "journal.py": {"commit", "take_stored"},
        "results.py": {"raised_or", "result_of"},
    }
    ran: list[str] = []

    def build() -> Saga:
        return Saga("s").add_task(step(lambda context: ran.append(context.step.saga_id), in_doubt=InDoubt.RERUN, name="a"))

    for position in itertools.count(1):
        now = time.time()
        store = MemoryStore(clock=lambda: now)  # noqa: B023
        three_left(store, build)
        ran.clear()
        strikes = Strikes(functions(lines), {position, position + second})
        raised = struck_by(strikes, Recovery(store, [build()]).run_once)
        struck_at = strikes.struck
        if not struck_at:
            break
        assert isinstance(raised, KeyboardInterrupt), (position, struck_at)
        assert not keeper_of(store)._held, (position, struck_at)
        for saga_id in ("x0", "x1", "x2"):
            row = store.get(saga_id)
            assert row is not None
            assert Status(row.status).terminal or saga_id not in ran, (position, struck_at, saga_id)
            check_journal(store.journal(saga_id))
        now += 60.0  # what was claimed, and not held yet, runs out
        Recovery(store, [build()]).run_once()
        assert all(row.status in ("completed", "compensated") for row in store.list().executions)
    assert position > 100


def test_one_whose_journal_kills_the_process_does_not_keep_others_back(tmp_path: Path) -> None:
    path, log = tmp_path / "sagas.db", tmp_path / "log"

    class Poison:
        pass

    codec = Codec()
    codec.register(Poison, lambda value: None, lambda found: os._exit(1) if recorded else Poison(), name="poison")

    def work(context: Context) -> None:
        if recorded:
            with log.open("a") as lines:
                lines.write(f"{context.step.saga_id}\n")

    def build() -> Saga:
        return Saga("s", codec=codec).add_task(step(work, lambda: None, name="a", in_doubt=InDoubt.RERUN))

    recorded = False
    with SqliteStore(path) as store:
        for saga_id in ("x0", "x1", "poison", "x2", "x3"):
            left_behind(store, build, saga_id, values={"it": Poison()} if saga_id == "poison" else None)
    recorded = True
    skew = 0.0
    for number in range(20):
        pid = os.fork()
        if pid == 0:
            random.seed(number)
            with SqliteStore(path, clock=lambda skew=skew: time.time() + skew) as store:  # type: ignore[misc]
                Recovery(store, [build()], max_attempts=8).run_once()
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            break
        skew += 60.0  # its leases run out
    with SqliteStore(path) as store:
        statuses = {row.saga_id: row.status for row in store.list().executions}
    assert statuses == {"poison": "stuck"} | {f"x{n}": "completed" for n in range(4)}
    assert number == 8
    assert max(Counter(log.read_text().split()).values()) <= 2  # once more at most, where its end was not stored yet


def test_what_waits_behind_a_slow_step_is_given_back_to_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    monkeypatch.setattr(leases, "TIME_TO_BEGIN", 0.05)
    began, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def work(context: Context) -> None:
        if recorded:
            ran.append(context.step.saga_id)
            if len(ran) == 2:
                began.set()
                assert go_on.wait(PATIENCE)

    def build() -> Saga:
        return Saga("s").add_task(step(work, name="a", in_doubt=InDoubt.RERUN))

    recorded = False
    three_left(store, build)
    recorded = True
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(Recovery(store, [build()]).run_once)
        assert began.wait(PATIENCE)
        others: list[SagaResult] = []
        until(lambda: others.extend(Recovery(store, [build()]).run_once()) or others)
        go_on.set()
        assert [result.saga_id for result in slow.result(PATIENCE)] == ran[:2]
    assert sorted(ran) == ["x0", "x1", "x2"]
    assert [(result.saga_id, result.ok) for result in others] == [(ran[2], True)]
    row = store.get(ran[2])
    assert row is not None
    assert row.recoveries == 1  # that of the other


def test_what_is_being_given_back_is_finished_before_the_recovery_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    three_left(store, simple)
    keeper, begun = keeper_of(store), []

    def begin(lease: Lease) -> bool:
        begun.append(lease)
        if len(begun) in (2, 3):  # the heartbeat has taken it out, and has not come to giving it back
            keeper.drop(lease)
        return Keeper.take(keeper, lease)

    monkeypatch.setattr(keeper, "take", begin)
    results = Recovery(store, [simple()]).run_once()
    assert sorted(result.saga_id for result in results) == ["x0", "x1", "x2"]
    assert len(begun) == 5
    rows = [store.get(saga_id) for saga_id in ("x0", "x1", "x2")]
    assert [row and (row.status, row.recoveries) for row in rows] == [("completed", 1)] * 3


def test_a_step_that_waits_for_another_execution_of_its_batch_has_it_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    monkeypatch.setattr(leases, "TIME_TO_BEGIN", 0.05)
    child = Saga("child", store=store).add_task(step(lambda: 7, name="a", in_doubt=InDoubt.RERUN))
    joined: list[Any] = []

    def waits() -> None:
        if recorded:
            row = store.get("the child")
            assert row is not None
            assert row.epoch == 2  # claimed together with this one
            joined.append(child.execute(saga_id="the child").results["a"])

    def build() -> Saga:
        return Saga("parent").add_task(step(waits, name="join", in_doubt=InDoubt.RERUN))

    recorded = False
    left_behind(store, simple, "the first")
    left_behind(store, build, "the parent")
    left_behind(store, lambda: Saga("child").add_task(step(lambda: 7, name="a", in_doubt=InDoubt.RERUN)), "the child")
    recorded = True
    results = within(PATIENCE, lambda: Recovery(store, [simple(), build(), child]).run_once())
    assert joined == [7]
    assert all(result.ok for result in results)
    assert sorted(row.status for row in store.list().executions) == ["completed"] * 3


def test_an_interrupt_in_a_task_that_cannot_be_stored_is_raised(store: Store) -> None:
    ran: list[str] = []

    def work(context: Context) -> None:
        if recorded:
            ran.append(context.step.saga_id)
            watched.before = full
            raise KeyboardInterrupt

    def full(number: int) -> None:
        raise StorageError("the disk is full")

    def build() -> Saga:
        return Saga("s").add_task(step(work, name="a", in_doubt=InDoubt.RERUN))

    recorded = False
    three_left(store, build)
    recorded = True
    watched = Watched(store)
    with pytest.raises(KeyboardInterrupt):
        Recovery(watched, [build()]).run_once()  # type: ignore[arg-type]
    assert len(ran) == 1


def test_one_that_ends_when_it_is_taken_up_and_one_that_waits_leave_the_others_as_they_are(store: Store) -> None:
    def build(kind: str = "good") -> Saga:
        doubt = InDoubt.ASK if kind == "asks" else InDoubt.RERUN
        flow = step(lambda: 1, lambda: None, name="a", in_doubt=doubt)
        return Saga(kind).add_task(flow).add_task(timer(1.5) if kind == "waits" else step(lambda: 2, name="b"))

    for number, kind in enumerate(["good", "asks", "good", "waits", "good", "asks", "asks", "good"]):
        left_behind(store, lambda kind=kind: build(kind), f"{number} {kind}")  # type: ignore[misc]
    results = Recovery(store, [build(), build("asks"), build("waits")]).run_once()
    expected = {"good": "completed", "asks": "stuck", "waits": "running"}
    assert {result.saga_id: result.status for result in results} == {
        row.saga_id: expected[row.name] for row in store.list().executions
    }
    for row in store.list().executions:
        assert (row.status, row.owner) == (expected[row.name], None)
        check_journal(store.journal(row.saga_id))
    assert not keeper_of(store)._held


def test_where_they_cannot_be_read_at_once_each_is_read_by_itself(store: Store) -> None:
    three_left(store, simple)

    class Unreadable(Watched):
        def journals(self, saga_ids: Any) -> Any:
            raise StorageError("a page is broken")

        def journal(self, saga_id: str) -> Any:
            if saga_id == "x1":
                raise StorageError("a page is broken")
            return self.store.journal(saga_id)

    results = Recovery(Unreadable(store), [simple()]).run_once()  # type: ignore[arg-type]
    assert sorted(result.saga_id for result in results) == ["x0", "x2"]
    assert all(result.ok for result in results)
    row = store.get("x1")
    assert row is not None
    assert row.owner is None
    assert row.due > store.now()


@pytest.mark.parametrize("when", ["before it is claimed", "while it waits", "unreadable"])
def test_a_message_to_one_that_waits_for_others_is_obeyed(when: str, store: Store) -> None:
    def first(context: Context) -> None:
        if recorded and when == "while it waits":
            for saga_id in {"x0", "x1", "x2"} - {context.step.saga_id}:
                if (row := store.get(saga_id)) is not None and row.owner == leases.owner() and not cancelled:
                    cancelled.append(saga_id)
                    Operations(store, who="me").cancel(saga_id, why="too late")
                    keeper_of(store).look(saga_id)  # as its heartbeat does sooner or later

    def build() -> Saga:
        saga = Saga("s").add_task(step(first, lambda: None, name="a", in_doubt=InDoubt.RERUN))
        return saga.add_task(step(second, name="b", in_doubt=InDoubt.RERUN))

    def second(context: Context) -> None:
        if recorded:
            went_on.append(context.step.saga_id)

    class Unreadable(Watched):
        def with_mail(self, saga_ids: Any) -> Any:
            raise StorageError("a page is broken")

    recorded = False
    cancelled: list[str] = []
    went_on: list[str] = []
    three_left(store, build)
    recorded = True
    if when != "while it waits":
        cancelled.append("x1")
        store.post("x1", action_message("cancel", None, "me", "too late"))
    recovered_by = Unreadable(store) if when == "unreadable" else store
    results = Recovery(recovered_by, [build()]).run_once()  # type: ignore[arg-type]
    assert len(cancelled) == 1
    assert sorted([*went_on, *cancelled]) == ["x0", "x1", "x2"]
    assert {result.saga_id: result.status for result in results} == {
        saga_id: "compensated" if saga_id in cancelled else "completed" for saga_id in ("x0", "x1", "x2")
    }
