"""What was under way when the process died: in doubt, waiting, attempted so often, or about to be joined."""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Status, parallel, step
from saga.durable.codec import Codec
from saga.durable.entries import write_entries
from saga.errors import CrashError, MergeConflictError, SagaTimeoutError
from saga.events import RetryScheduled, StepFailed, StepTimedOut
from saga.recovery import Recovery
from saga.storage import Entry, MemoryStore, Store
from tests.kit import LONG, PATIENCE, SHORT, Watched, World, Write, check_journal, check_truth, expired, on, probe, told, within
from tests.kit.recoveries import calls_left, cut, record, recover


@pytest.mark.parametrize("doubts", list(itertools.product([InDoubt.RERUN, InDoubt.COMPENSATE, InDoubt.ASK], repeat=3)))
@pytest.mark.parametrize("ended", [False, True])
def test_branches_in_doubt_go_on_only_where_all_of_them_may(doubts: tuple[Any, ...], ended: bool) -> None:
    def build(world: World, _: Any) -> Saga:
        branches = [probe(f"b{i}", world, in_doubt=doubt) for i, doubt in enumerate(doubts)]
        return Saga("s").add_task(parallel(*branches, probe("d", world))).add_task(probe("e", world))

    _, _, writes = record(build, None, MemoryStore())
    begun = writes[:1]
    if ended:  # one branch has ended well; it is not asked about
        begun = [*begun, Write(None, (Entry(6, "StepSucceeded", "d", '{"attempt":1,"elapsed":0.1,"result":1}', time.time()),))]
    again = MemoryStore()
    expired(again, begun)
    in_doubt = dict(zip(("b0", "b1", "b2"), doubts, strict=True)) | ({} if ended else {"d": InDoubt.COMPENSATE})
    asked = {name for name, doubt in in_doubt.items() if doubt is InDoubt.ASK}
    (result,), world = recover(build, None, again, ["b0", "b1", "b2", "d"])
    assert world.faults == []
    check_journal(again.journal("x"))
    check_truth(result, world)
    assert set(result.in_doubt) == asked
    row = again.get("x")
    assert row is not None
    assert row.step in asked or not asked  # the row tells of one that a person is asked about
    if InDoubt.COMPENSATE in in_doubt.values():
        assert {name for name, _ in world.calls} == {f"-{name}" for name in ("b0", "b1", "b2", "d") if name not in asked}
        assert isinstance(result.error, CrashError)
        assert "whoever ran it died or could not; it was in doubt" in str(result.error)
        assert result.status is (Status.STUCK if asked else Status.COMPENSATED)
    else:
        again_run = {name for name, doubt in in_doubt.items() if doubt is InDoubt.RERUN}
        assert {name for name, _ in world.calls} == again_run | (set() if asked else {"e"})
        assert result.status is (Status.STUCK if asked else Status.COMPLETED)
        assert result.error is None


def in_a_wait(writes: list[Write], left: float) -> tuple[list[Write], float]:
    """Return what was written up to a wait, as if that took an hour and ended in ``left`` seconds; and when that is."""
    due = time.time() + left
    aged = cut(writes, "RetryScheduled a")
    *others, scheduled = aged[-1].entries
    payload = json.loads(scheduled.payload) | {"delay": 3600.0}
    aged[-1].entries = (*others, scheduled._replace(at=due - 3600.0, payload=json.dumps(payload)))
    return aged, due


def test_a_step_waits_for_what_is_left_of_its_wait(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(probe("a", world, "fail", retry=Retry(3, 0.001)))

    _, before, writes = record(build, None, MemoryStore())
    aged, due = in_a_wait(writes, LONG)
    expired(store, aged)
    (result,), _ = recover(build, None, store, before.log)
    assert result.ok
    assert time.time() >= due


def test_a_compensation_waits_for_what_is_left_of_its_wait(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        flow = probe("a", world, "", "fail", compensation_retry=Retry(3, 0.001))
        return Saga("s").add_task(flow).add_task(probe("b", world, "fail"))

    _, before, writes = record(build, None, MemoryStore())
    aged, due = in_a_wait(writes, LONG)
    expired(store, aged)
    (result,), world = recover(build, None, store, before.log[:1])
    assert result.status is Status.COMPENSATED
    assert [name for name, _ in world.calls] == ["-a"]
    assert time.time() >= due


def test_an_attempt_that_was_due_is_not_waited_for_where_the_recovery_gives_up(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        often = probe("a", world, "fail fail", retry=Retry(3, LONG))
        return Saga("s").add_task(parallel(often, probe("b", world), probe("c", world)))

    _, _, (first, *_) = record(build, None, MemoryStore())
    failed = [StepFailed("a", 1, time.time(), 0.1, ValueError()), RetryScheduled("a", 2, time.time(), LONG)]
    expired(store, [first, Write(None, tuple(write_entries(failed, len(first.entries), {}, Codec())))])
    (result,), world = recover(build, None, store, ["b", "c"])
    assert result.status is Status.COMPENSATED
    assert [name for name, _ in world.calls] == ["-c", "-b"]
    check_truth(result, world)


def test_a_wait_that_is_over_is_not_begun_again(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        flow = probe("a", world, "", "fail", compensation_retry=Retry(3, 0.001))
        return Saga("s").add_task(flow).add_task(probe("b", world, "fail"))

    _, before, writes = record(build, None, MemoryStore())
    aged, _ = in_a_wait(writes, 0.0)
    expired(store, aged)
    (result,), _ = recover(build, None, store, before.log[:1])
    assert result.status is Status.COMPENSATED


def test_a_recovered_call_has_the_idempotency_key_of_the_one_that_was_lost(store: Store) -> None:
    keys: list[tuple[str, int]] = []

    def note(context: Context) -> None:
        keys.append((context.step.idempotency_key, context.step.attempt))

    def fail(context: Context) -> None:
        note(context)
        raise ValueError

    def build() -> Saga:
        return (
            Saga("s")
            .add_task(step(note, note, name="a", in_doubt=InDoubt.RERUN))
            .add_task(step(fail, name="b", in_doubt=InDoubt.RERUN))
        )

    watched = Watched(MemoryStore())
    build().try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    assert keys == [("s/x/a", 1), ("s/x/b", 1), ("s/x/a", 1)]
    keys.clear()
    expired(store, watched.writes[:1])
    (result,) = Recovery(store, [build()]).run_once()
    assert result.status is Status.COMPENSATED
    assert keys == [("s/x/a", 2), ("s/x/b", 1), ("s/x/a", 1)]


@pytest.mark.parametrize("crashed_in", [1, 2, 3])
def test_a_crash_uses_up_an_attempt(crashed_in: int) -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(probe("a", world, "fail " * 9, retry=Retry(3), in_doubt=InDoubt.RERUN))

    _, _, writes = record(build, None, MemoryStore())
    again = MemoryStore()
    started = [write for write in writes if any(entry.kind == "StepStarted" for entry in write.entries)]
    expired(again, writes[: writes.index(started[crashed_in - 1]) + 1])
    (result,), world = recover(build, None, again, [])
    assert [name for name, _ in world.calls] == ["a"] * (3 - crashed_in) + ["-a"]  # for what the lost call may have done
    assert result.history[0].attempts == 3
    assert result.status is Status.COMPENSATED


def test_no_number_of_crashes_gives_a_step_more_than_its_attempts() -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(probe("a", world, "fail " * 9, retry=Retry(3), in_doubt=InDoubt.RERUN))

    _, _, writes = record(build, None, MemoryStore())
    written = writes[:1]
    for attempt in (2, 3):
        watched = Watched(MemoryStore())
        expired(watched.store, written)
        recover(build, None, watched, [])
        last = watched.writes[0].entries[-1]
        assert (last.kind, json.loads(last.payload)["attempt"]) == ("StepStarted", attempt)
        written = [*written, watched.writes[0]]
    again = MemoryStore()
    expired(again, written)
    (result,), world = recover(build, None, again, ["a"])
    assert [name for name, _ in world.calls] == ["-a"]
    assert result.status is Status.COMPENSATED
    check_truth(result, world)


def test_without_a_policy_a_step_is_run_again_once_after_each_crash() -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(probe("a", world, "fail " * 9, in_doubt=InDoubt.RERUN))

    _, _, writes = record(build, None, MemoryStore())
    written = writes[:1]
    for attempt in range(2, 6):
        watched = Watched(MemoryStore())
        expired(watched.store, written)
        (result,), world = recover(build, None, watched, ["a"])
        assert [name for name, _ in world.calls] == ["a", "-a"]
        assert result.status is Status.COMPENSATED
        check_truth(result, world)
        last = watched.writes[0].entries[-1]
        assert (last.kind, json.loads(last.payload)["attempt"]) == ("StepStarted", attempt)
        written = [*written, watched.writes[0]]


@pytest.mark.parametrize("doubt", [InDoubt.RERUN, InDoubt.COMPENSATE, InDoubt.ASK])
@pytest.mark.parametrize("last", ["StepStarted a", "StepStarted b", "StepStarted c", "CompensationStarted a"])
def test_a_straggler_whose_process_died_is_in_doubt(doubt: Any, last: str) -> None:
    """The saga went on without it, so it is undone with what it saw, and never executed again."""
    store = MemoryStore()
    seen: list[tuple[str, Any, dict[str, Any]]] = []

    def build(let_go: threading.Event) -> Saga:
        def slow(context: Context) -> str:
            seen.append(("a", None, dict(context)))
            context["by_a"] = [1]
            assert let_go.wait(PATIENCE)
            return "late"

        def quick(context: Context) -> None:
            seen.append(("b", None, dict(context)))
            context["by_b"] = 2
            let_go.set()

        def undo(result: Any, context: Context) -> None:
            seen.append(("-a", result, dict(context)))

        saga = Saga("s").add_task(step(slow, undo, name="a", timeout=0.05, on_error=Skip, in_doubt=doubt))
        saga.add_task(step(quick, name="b", in_doubt=InDoubt.RERUN))
        return saga.add_task(step(lambda: time.sleep(0.1), name="c", in_doubt=InDoubt.RERUN))

    watched = Watched(MemoryStore())
    whole = build(threading.Event()).execute({"given": 0}, saga_id="x", store=watched).join(PATIENCE)  # type: ignore[arg-type]
    assert whole.ok
    check_journal(watched.entries())
    assert seen[2] == ("-a", "late", {"given": 0, "by_a": [1]})
    expired(store, cut(watched.writes, last))
    seen.clear()
    let_go = threading.Event()
    let_go.set()
    (result,) = within(PATIENCE, Recovery(store, [build(let_go)]).run_once)
    check_journal(store.journal("x"))
    undone = ("-a", "late", {"given": 0, "by_a": [1]}) if last == "CompensationStarted a" else ("-a", None, {"given": 0})
    if last == "StepStarted a":
        # It was not skipped yet: what the task says counts.
        expected = {InDoubt.RERUN: Status.COMPLETED, InDoubt.COMPENSATE: Status.COMPENSATED, InDoubt.ASK: Status.STUCK}[doubt]
        assert result.status is expected
        assert [name for name, *_ in seen] == {InDoubt.RERUN: ["a", "b"], InDoubt.COMPENSATE: ["-a"], InDoubt.ASK: []}[doubt]
    elif doubt is InDoubt.ASK and last != "CompensationStarted a":
        assert result.status is Status.STUCK
        assert result.in_doubt == ("a",)
    else:
        assert result.ok
        assert undone in seen
        assert "a" not in [name for name, *_ in seen]


def test_a_deadline_counts_from_the_first_start(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        saga = Saga("s", timeout=2 * LONG).add_task(probe("a", world)).add_task(probe("b", world, in_doubt=InDoubt.RERUN))
        return saga.add_task(step(lambda: time.sleep(LONG), name="c")).add_task(probe("d", world))

    _, before, writes = record(build, None, MemoryStore())
    expired(store, cut(writes, "StepStarted b"))
    time.sleep(1.5 * LONG)
    (result,), world = recover(build, None, store, before.log[:1])
    assert isinstance(result.error, SagaTimeoutError)
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert "d" not in world.seen_by_call()


def test_a_join_that_was_not_recorded_is_made_again(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(parallel(probe("a", world), probe("b", world))).add_task(probe("c", world))

    whole, before, writes = record(build, None, MemoryStore())
    last = next(entry for write in writes[:3] for entry in write.entries if entry.kind == "StepSucceeded" and entry.seq == 5)
    expired(store, cut(writes, told(last)))
    (result,), world = recover(build, None, store, before.log[:2])
    assert result.ok
    assert result.context == whole.context
    assert world.seen_by_call() == calls_left(before, cut(writes, "StepStarted c"))


def test_a_conflict_that_was_not_recorded_is_found_again(store: Store) -> None:
    def build() -> Saga:
        def set_to(value: int) -> Any:
            return lambda context: context.update(key=value)

        branches = [step(set_to(n), lambda context: context.update(undone=True), name=f"b{n}") for n in range(2)]
        return Saga("s").add_task(parallel(*branches))

    watched = Watched(MemoryStore())
    whole = build().try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    assert whole.status is Status.COMPENSATED
    last = next(told(entry) for entry in watched.entries() if entry.seq == 5)
    expired(store, cut(watched.writes, last))
    (result,) = Recovery(store, [build()]).run_once()
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, MergeConflictError)


@pytest.mark.parametrize("doubt", [InDoubt.RERUN, InDoubt.COMPENSATE, InDoubt.ASK])
def test_a_straggler_that_was_to_be_attempted_again_is_in_doubt(doubt: Any) -> None:
    store = MemoryStore()
    calls: list[str] = []

    def build(let_go: threading.Event) -> Saga:
        def slow(context: Context) -> int:
            calls.append("a")
            assert let_go.wait(PATIENCE)
            return context.step.attempt

        flow = step(slow, lambda: calls.append("-a"), name="a", timeout=SHORT, retry=Retry(2), in_doubt=doubt)
        return Saga("s", logger=on(StepTimedOut, let_go.set)).add_task(flow)

    watched = Watched(MemoryStore())
    whole = build(threading.Event()).execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    assert whole.ok  # a late success is one
    expired(store, cut(watched.writes, "StepTimedOut a"))
    calls.clear()
    let_go = threading.Event()
    let_go.set()
    (result,) = within(PATIENCE, Recovery(store, [build(let_go)]).run_once)
    assert (
        result.status
        is {InDoubt.RERUN: Status.COMPLETED, InDoubt.COMPENSATE: Status.COMPENSATED, InDoubt.ASK: Status.STUCK}[doubt]
    )
    assert calls == {InDoubt.RERUN: ["a"], InDoubt.COMPENSATE: ["-a"], InDoubt.ASK: []}[doubt]
    if doubt is InDoubt.RERUN:
        assert result.results == {"a": 2}
