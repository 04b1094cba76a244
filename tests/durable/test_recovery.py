"""Recovery: whatever a process had stored when it died, another finishes it truthfully."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saga import Context, InDoubt, Retry, Saga, SagaResult, Skip, Status, leases, parallel, sequence, step, timer
from saga import recovery as recovery_module
from saga.codec import Codec
from saga.errors import (
    CrashError,
    DefinitionChangedError,
    MergeConflictError,
    SagaDefinitionError,
    SagaTimeoutError,
    StorageError,
)
from saga.journal import write_action
from saga.leases import Keeper, keeper_of
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Entry, Lease, MemoryStore, SqliteStore, Store
from tests.durable.conftest import Watched, World, Write, check_journal, check_truth, expired, journal_of, outcomes, probe, told
from tests.threads import until, within

# -- every prefix of many journals ------------------------------------------------------------------------------------

Build = Callable[[World, Any], Saga]


def two(world: World, doubt: Any) -> Saga:
    return Saga("s").add_task(probe("a", world, in_doubt=doubt)).add_task(probe("b", world, in_doubt=doubt))


def fails_last(world: World, doubt: Any) -> Saga:
    saga = Saga("s")
    for name in "ab":
        saga.add_task(probe(name, world, in_doubt=doubt))
    return saga.add_task(probe("c", world, "fail", in_doubt=doubt))


def cannot_be_stored(world: World, doubt: Any) -> Saga:
    return Saga("s").add_task(probe("a", world, in_doubt=doubt)).add_task(probe("b", world, "bad", in_doubt=doubt))


def retried(world: World, doubt: Any) -> Saga:
    often = Retry(9, 0.001)
    saga = Saga("s").add_task(probe("a", world, "fail fail", retry=often, in_doubt=doubt))
    return saga.add_task(probe("b", world, "fail", retry=often, in_doubt=doubt))


def retried_and_undone(world: World, doubt: Any) -> Saga:
    often = Retry(9, 0.001)
    saga = Saga("s").add_task(probe("a", world, "fail", "fail fail", retry=often, compensation_retry=often, in_doubt=doubt))
    saga.add_task(probe("b", world, "", "fail", compensation_retry=often, in_doubt=doubt))
    return saga.add_task(probe("c", world, "fail", compensate_on_failure=True, in_doubt=doubt))


def group(world: World, doubt: Any) -> Saga:
    branches = parallel(*(probe(name, world, in_doubt=doubt) for name in "bcd"))
    return Saga("s").add_task(probe("a", world, in_doubt=doubt)).add_task(branches).add_task(probe("e", world, in_doubt=doubt))


def group_fails(world: World, doubt: Any) -> Saga:
    branches = parallel(
        sequence(probe("b1", world, in_doubt=doubt), probe("b2", world, in_doubt=doubt)),
        probe("c", world, "fail", in_doubt=doubt),
        probe("d", world, in_doubt=doubt),
    )
    return Saga("s").add_task(probe("a", world, in_doubt=doubt)).add_task(branches).add_task(probe("e", world, in_doubt=doubt))


def nested(world: World, doubt: Any) -> Saga:
    inner = parallel(probe("b", world, in_doubt=doubt), probe("c", world, "fail", retry=Retry(9), in_doubt=doubt))
    outer = parallel(sequence(inner, probe("d", world, in_doubt=doubt)), probe("e", world, in_doubt=doubt))
    return Saga("s").add_task(outer).add_task(probe("f", world, in_doubt=doubt))


def nested_fails(world: World, doubt: Any) -> Saga:
    inner = parallel(probe("b", world, in_doubt=doubt), probe("c", world, in_doubt=doubt))
    outer = parallel(sequence(probe("a", world, in_doubt=doubt), inner), probe("e", world, in_doubt=doubt))
    return Saga("s").add_task(outer).add_task(probe("f", world, "fail", in_doubt=doubt))


def skipping(world: World, doubt: Any) -> Saga:
    saga = Saga("s").add_task(probe("a", world, in_doubt=doubt))
    saga.add_task(probe("b", world, "fail", on_error=Skip, in_doubt=doubt))
    group = parallel(probe("c", world, "fail", on_error=Skip, in_doubt=doubt), probe("d", world, in_doubt=doubt))
    return saga.add_task(group).add_task(probe("e", world, "fail", in_doubt=doubt))


def limited(world: World, doubt: Any) -> Saga:
    saga = Saga("s").add_task(probe("a", world, "fail", retry=Retry(9), timeout=30.0, in_doubt=doubt))
    group = parallel(probe("b", world, timeout=30.0, in_doubt=doubt), probe("c", world, in_doubt=doubt))
    return saga.add_task(group).add_task(probe("d", world, "fail", timeout=30.0, in_doubt=doubt))


def with_deadline(world: World, doubt: Any) -> Saga:
    saga = Saga("s", timeout=60.0).add_task(probe("a", world, "fail", retry=Retry(9), in_doubt=doubt))
    return saga.add_task(probe("b", world, in_doubt=doubt)).add_task(probe("c", world, "fail", in_doubt=doubt))


def undo_fails(world: World, doubt: Any) -> Saga:
    saga = Saga("s").add_task(probe("a", world, in_doubt=doubt))
    saga.add_task(probe("b", world, "", "fail fail", in_doubt=doubt))
    return saga.add_task(probe("c", world, in_doubt=doubt)).add_task(probe("d", world, "fail", in_doubt=doubt))


def undo_stops(world: World, doubt: Any) -> Saga:
    saga = Saga("s", stop_on_compensation_failure=True).add_task(probe("a", world, in_doubt=doubt))
    saga.add_task(probe("b", world, "", "fail fail fail fail", in_doubt=doubt))
    return saga.add_task(probe("c", world, in_doubt=doubt)).add_task(probe("d", world, "fail", in_doubt=doubt))


SHAPES: list[Build] = [
    two,
    fails_last,
    cannot_be_stored,
    retried,
    retried_and_undone,
    group,
    group_fails,
    nested,
    nested_fails,
    skipping,
    limited,
    with_deadline,
    undo_fails,
    undo_stops,
]


def record(build: Build, doubt: Any, store: Store) -> tuple[SagaResult, World, list[Write]]:
    """Run a saga without a crash. Return its result, what happened and what was stored."""
    world = World()
    watched = Watched(store)
    world.store = watched.store
    watched.happened = lambda: len(world.log)
    result = build(world, doubt).try_execute({"given": [1, 2]}, saga_id="x", store=watched)  # type: ignore[arg-type]
    assert world.faults == []
    check_journal(watched.entries())
    return result, world, watched.writes


def recover(build: Build, doubt: Any, store: Any, log: list[str]) -> tuple[list[SagaResult], World]:
    """Finish what is in the store with a fresh saga; ``log`` is what had happened outside."""
    world = World(store=getattr(store, "store", store), log=list(log))
    if isinstance(store, Watched):
        store.happened = lambda: len(world.log)
    results = within(20, lambda: Recovery(store, [build(world, doubt)]).run_once())
    return results, world


def happenings(writes: list[Write], count: int, log: list[str]) -> list[list[str]]:
    """Return what had happened outside if the process died after ``count`` writes: at the earliest, and at the latest."""
    earliest = writes[count - 1].happened
    latest = writes[count].happened if count < len(writes) else len(log)
    return [log[:earliest], log[:latest]] if latest > earliest else [log[:earliest]]


def calls_left(world: World, prefix: list[Write]) -> dict[str, list[Any]]:
    """Return, by step, what those calls saw that have no outcome in the prefix."""
    entries = [entry for write in prefix for entry in write.entries]
    left = {
        name: seen[outcomes(entries, name.removeprefix("-"), name.startswith("-")) :]
        for name, seen in world.seen_by_call().items()
    }
    return {name: seen for name, seen in left.items() if seen}


@pytest.mark.parametrize("build", SHAPES)
def test_a_run_that_died_anywhere_and_is_rerun_ends_as_if_it_had_not_died(build: Build, new_store: Callable[[], Store]) -> None:
    """Each call of the recovery sees what it would have seen, and no call with an outcome is made again."""
    whole, before, writes = record(build, InDoubt.RERUN, new_store())
    for count in range(1, len(writes)):
        for log in happenings(writes, count, before.log):
            again = new_store()
            expired(again, writes[:count])
            (result,), world = recover(build, InDoubt.RERUN, again, log)
            assert world.faults == []
            check_journal(again.journal("x"))
            check_truth(result, world)
            if build is group_fails:
                continue  # which siblings had begun when one failed is another story each time
            assert result.status is whole.status, count
            in_order = build not in (nested_fails, limited)  # two branches may end, and be undone, in either order
            assert told_alike(world.seen_by_call(), in_order) == told_alike(calls_left(before, writes[:count]), in_order), count
            assert result.context == whole.context
            assert result.results == whole.results
            assert [record.status for record in result.history] == [record.status for record in whole.history]


def told_alike(calls: dict[str, list[Any]], in_order: bool) -> dict[str, list[Any]]:
    """Return what calls saw; what other compensations left in the context only where their order is certain."""
    for seen in () if in_order else [seen for each in calls.values() for seen in each]:
        seen["context"] = {key: value for key, value in seen["context"].items() if not key.startswith("undid_")}
    return calls


@pytest.mark.parametrize("build", SHAPES)
@pytest.mark.parametrize("doubt", [InDoubt.COMPENSATE, InDoubt.ASK])
def test_a_run_that_died_anywhere_is_undone_or_asked_about(
    build: Build, doubt: Any, new_store: Callable[[], Store], kind: str
) -> None:
    """What was under way is never executed again, and what is called undone is undone."""
    _, before, writes = record(build, doubt, new_store())
    for count in range(1, len(writes), 1 if kind == "memory" else 2):
        for log in happenings(writes, count, before.log):
            again = new_store()
            expired(again, writes[:count])
            (result,), world = recover(build, doubt, again, log)
            assert world.faults == []
            entries = again.journal("x")
            check_journal(entries)
            check_truth(result, world)
            stored = again.get("x")
            assert stored is not None
            assert (stored.status, stored.owner) == (result.status, None)
            in_doubt = {entry.step for entry in entries if '"in_doubt":true' in entry.payload}
            assert not in_doubt & {name for name, _ in world.calls}
            if doubt is InDoubt.ASK and in_doubt:
                assert result.status is Status.STUCK
                assert set(result.in_doubt) == in_doubt


@pytest.mark.parametrize("doubt", [InDoubt.RERUN, InDoubt.COMPENSATE])
@pytest.mark.parametrize("build", [fails_last, retried_and_undone, nested, limited, skipping])
def test_a_recovery_that_dies_anywhere_is_finished_by_the_next(build: Build, doubt: Any) -> None:
    _, before, writes = record(build, doubt, MemoryStore())
    for count in range(1, len(writes), 2):
        log = before.log[: writes[count].happened]
        first = Watched(MemoryStore())
        expired(first.store, writes[:count])
        (whole,), during = recover(build, doubt, first, log)
        for further in range(1, len(first.writes)):
            second = MemoryStore()
            expired(second, [*writes[:count], *first.writes[:further]])
            happened = during.log[: first.writes[further].happened]
            (result,), world = recover(build, doubt, second, happened)
            assert world.faults == []
            check_journal(second.journal("x"))
            check_truth(result, world)
            if doubt is InDoubt.RERUN:
                assert result.status is whole.status
                assert result.context == whole.context


# -- flows nobody thought of ------------------------------------------------------------------------------------------

POLICIES = st.fixed_dictionaries(
    {"in_doubt": st.sampled_from([InDoubt.RERUN, InDoubt.RERUN, InDoubt.COMPENSATE, InDoubt.ASK])},
    optional={
        "retry": st.sampled_from([Retry(2), Retry(4)]),
        "on_error": st.just(Skip),
        "timeout": st.just(30.0),
        "compensate_on_failure": st.just(True),
        "compensation_retry": st.just(Retry(2)),
    },
)
STEPS = st.tuples(
    st.just("step"), st.sampled_from(["", "", "", "fail", "fail fail", "bad"]), st.sampled_from(["", "", "fail"]), POLICIES
)
FLOWS = st.recursive(
    STEPS,
    lambda inner: st.tuples(st.sampled_from(["sequence", "parallel"]), st.lists(inner, min_size=2, max_size=3)),
    max_leaves=6,
)


def build_flow(tree: Any, world: World, names: Iterator[int]) -> Any:
    if tree[0] == "step":
        _, script, undo, policies = tree
        return probe(f"s{next(names)}", world, script, undo, **policies)
    children = [build_flow(child, world, names) for child in tree[1]]
    return sequence(*children) if tree[0] == "sequence" else parallel(*children)


@given(tree=FLOWS, first=st.integers(0), second=st.integers(0), late=st.booleans(), stop=st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_flow_that_dies_twice_anywhere_ends_truthfully(tree: Any, first: int, second: int, late: bool, stop: bool) -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s", stop_on_compensation_failure=stop).add_task(build_flow(tree, world, itertools.count()))

    _, before, writes = record(build, None, MemoryStore())
    count = 1 + first % len(writes)
    log = happenings(writes, count, before.log)[-1 if late else 0]
    watched = Watched(MemoryStore())
    expired(watched.store, writes[:count])
    results, world = recover(build, None, watched, log)
    for result in results:
        check_truth(result, world)
    check_journal(watched.store.journal("x"))
    further = second % (len(watched.writes) + 1)
    if further:
        again = MemoryStore()
        expired(again, [*writes[:count], *watched.writes[:further]])
        log = happenings(watched.writes, further, world.log)[-1 if late else 0]
        results, world = recover(build, None, again, log)
        for result in results:
            check_truth(result, world)
        check_journal(again.journal("x"))
    row = (again if further else watched.store).get("x")
    assert row is not None
    assert Status(row.status).terminal


# -- in doubt ---------------------------------------------------------------------------------------------------------


def cut(writes: list[Write], last: str) -> list[Write]:
    """Return what was written up to and with the entry ``last``, even in the middle of a transaction."""
    found = []
    for write in writes:
        found.append(replace(write, entries=()))
        for entry in write.entries:
            found[-1].entries += (entry,)
            if told(entry) == last:
                found[-1].status, found[-1].release = None, False
                return found
    raise AssertionError(f"{last} was never written")


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
    if InDoubt.COMPENSATE in in_doubt.values():
        assert {name for name, _ in world.calls} == {f"-{name}" for name in ("b0", "b1", "b2", "d") if name not in asked}
        assert isinstance(result.error, CrashError)
        assert result.status is (Status.STUCK if asked else Status.COMPENSATED)
    else:
        again_run = {name for name, doubt in in_doubt.items() if doubt is InDoubt.RERUN}
        assert {name for name, _ in world.calls} == again_run | (set() if asked else {"e"})
        assert result.status is (Status.STUCK if asked else Status.COMPLETED)
        assert result.error is None


def test_a_step_waits_for_what_is_left_of_its_wait(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(probe("a", world, "fail", retry=Retry(3, 1.5)))

    _, before, writes = record(build, None, MemoryStore())
    scheduled = next(entry for write in writes for entry in write.entries if entry.kind == "RetryScheduled")
    aged = cut(writes, "RetryScheduled a")
    aged[-1].entries = (*aged[-1].entries[:-1], scheduled._replace(at=time.time() - 1.0))
    expired(store, aged)
    began = time.monotonic()
    (result,), _ = recover(build, None, store, before.log)
    assert result.ok
    assert 0.3 < time.monotonic() - began < 1.4


def test_a_compensation_waits_for_what_is_left_of_its_wait(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        flow = probe("a", world, "", "fail", compensation_retry=Retry(3, 1.5))
        return Saga("s").add_task(flow).add_task(probe("b", world, "fail"))

    _, before, writes = record(build, None, MemoryStore())
    scheduled = next(entry for write in writes for entry in write.entries if entry.kind == "RetryScheduled")
    aged = cut(writes, "RetryScheduled a")
    aged[-1].entries = (*aged[-1].entries[:-1], scheduled._replace(at=time.time() - 1.0))
    expired(store, aged)
    began = time.monotonic()
    (result,), world = recover(build, None, store, before.log[:1])
    assert result.status is Status.COMPENSATED
    assert [name for name, _ in world.calls] == ["-a"]
    assert 0.3 < time.monotonic() - began < 1.4


def test_a_wait_that_is_over_is_not_begun_again(store: Store) -> None:
    def build(world: World, doubt: Any) -> Saga:
        flow = probe("a", world, "", "fail", compensation_retry=Retry(3, 1.0))
        return Saga("s").add_task(flow).add_task(probe("b", world, "fail"))

    _, before, writes = record(build, None, MemoryStore())
    expired(store, cut(writes, "RetryScheduled a"))
    began = time.monotonic()
    (result,), _ = recover(build, None, store, before.log[:1])
    assert result.status is Status.COMPENSATED
    assert time.monotonic() - began < 0.9


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
    assert keys == [("x/a", 1), ("x/b", 1), ("x/a", 1)]
    keys.clear()
    expired(store, watched.writes[:1])
    (result,) = Recovery(store, [build()]).run_once()
    assert result.status is Status.COMPENSATED
    assert keys == [("x/a", 2), ("x/b", 1), ("x/a", 1)]


@pytest.mark.parametrize("crashed_in", [1, 2, 3])
def test_a_crash_uses_up_an_attempt(crashed_in: int) -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(probe("a", world, "fail " * 9, retry=Retry(3), in_doubt=InDoubt.RERUN))

    _, _, writes = record(build, None, MemoryStore())
    again = MemoryStore()
    started = [write for write in writes if any(entry.kind == "StepStarted" for entry in write.entries)]
    expired(again, writes[: writes.index(started[crashed_in - 1]) + 1])
    (result,), world = recover(build, None, again, [])
    # The call that was lost is repeated, even where it was the last; then nothing is begun anew.
    assert len(world.calls) == (3 - crashed_in if crashed_in < 3 else 1)
    assert result.history[0].attempts == max(3, crashed_in + 1)
    assert result.status is Status.COMPENSATED


def test_no_number_of_crashes_gives_a_step_more_than_its_attempts_and_one_for_the_last_crash() -> None:
    def build(world: World, doubt: Any) -> Saga:
        return Saga("s").add_task(probe("a", world, "fail " * 9, retry=Retry(3), in_doubt=InDoubt.RERUN))

    _, _, writes = record(build, None, MemoryStore())
    written = writes[:1]
    for attempt in range(2, 6):
        watched = Watched(MemoryStore())
        expired(watched.store, written)
        recover(build, None, watched, [])
        assert f'"attempt":{attempt}' in watched.writes[0].entries[-1].payload
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
            assert let_go.wait(10)
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
    whole = build(threading.Event()).execute({"given": 0}, saga_id="x", store=watched).join(10)  # type: ignore[arg-type]
    assert whole.ok
    check_journal(watched.entries())
    assert seen[2] == ("-a", "late", {"given": 0, "by_a": [1]})
    expired(store, cut(watched.writes, last))
    seen.clear()
    let_go = threading.Event()
    let_go.set()
    (result,) = within(10, Recovery(store, [build(let_go)]).run_once)
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
        saga = Saga("s", timeout=0.5).add_task(probe("a", world)).add_task(probe("b", world, in_doubt=InDoubt.RERUN))
        return saga.add_task(step(lambda: time.sleep(0.2), name="c")).add_task(probe("d", world))

    _, before, writes = record(build, None, MemoryStore())
    expired(store, cut(writes, "StepStarted b"))
    time.sleep(0.4)
    (result,), world = recover(build, None, store, before.log[:1])
    assert isinstance(result.error, SagaTimeoutError)
    assert result.join(5).status is Status.COMPENSATED
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


# -- who recovers what ------------------------------------------------------------------------------------------------


def test_recoveries_side_by_side_never_run_the_same_execution_at_once(new_store: Callable[[], Store], tmp_path: Path) -> None:
    shared = new_store()
    calls: Counter[tuple[str, str]] = Counter()
    inside: Counter[str] = Counter()
    faults: list[str] = []
    lock = threading.Lock()

    def work(context: Context) -> None:
        with lock:
            inside[context.step.saga_id] += 1
            calls[context.step.saga_id, context.step.name] += 1
            if inside[context.step.saga_id] > 1:
                faults.append(context.step.saga_id)
        time.sleep(0.002)
        with lock:
            inside[context.step.saga_id] -= 1

    def build() -> Saga:
        return (
            Saga("s")
            .add_task(step(work, name="a", in_doubt=InDoubt.RERUN))
            .add_task(step(work, name="b", in_doubt=InDoubt.RERUN))
        )

    ids = [f"x{n}" for n in range(40)]
    for saga_id in ids:
        watched = Watched(MemoryStore())
        build().execute(saga_id=saga_id, store=watched)  # type: ignore[arg-type]
        expired(shared, watched.writes[:1])
    calls.clear()
    stores = [shared] * 4
    if isinstance(shared, SqliteStore):
        stores = [SqliteStore(shared._path, synchronous="OFF") for _ in range(4)]
    recoveries = [Recovery(one, [build()], workers=2) for one in stores]
    with ThreadPoolExecutor(4) as pool:
        results = [result for found in pool.map(lambda recovery: recovery.run_once(), recoveries) for result in found]
    assert faults == []
    assert sorted(result.saga_id for result in results) == sorted(ids)
    assert set(calls.values()) == {1}
    assert all(result.ok for result in results)
    if isinstance(shared, SqliteStore):
        for one in stores:
            one.close()


def left_behind(store: Store, build: Callable[[], Saga], saga_id: str = "x", count: int = 1, values: Any = None) -> None:
    """Leave an execution in the store whose process died after so many writes."""
    watched = Watched(MemoryStore())
    with suppress(Exception):
        build().execute(values, saga_id=saga_id, store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:count])


def simple(**more: Any) -> Saga:
    saga = Saga("s", **more).add_task(step(lambda: 1, lambda: None, name="a", in_doubt=InDoubt.RERUN))
    return saga.add_task(step(lambda: 2, name="b", in_doubt=InDoubt.RERUN))


def test_what_runs_and_what_has_ended_is_left_alone(store: Store) -> None:
    simple().execute(saga_id="ended", store=store)
    watched = Watched(MemoryStore())
    simple().execute(saga_id="running", store=watched)  # type: ignore[arg-type]
    store.create(watched.writes[0].new, watched.writes[0].entries, "alive", 60.0)  # type: ignore[arg-type]
    before = journal_of(store, "ended"), journal_of(store, "running")
    assert Recovery(store, [simple()]).run_once() == []
    assert (journal_of(store, "ended"), journal_of(store, "running")) == before


def test_executions_of_unknown_sagas_are_left_alone(store: Store) -> None:
    left_behind(store, simple)
    other = Saga("other").add_task(step(lambda: 1, name="a"))
    row = store.get("x")
    assert Recovery(store, [other]).run_once() == []
    assert store.get("x") == row


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sagas": []}, "give the sagas"),
        ({"sagas": [simple(), simple()]}, "version '1' of saga 's' is given twice"),
        ({"sagas": [simple()], "max_attempts": 0}, "max_attempts is 0"),
        ({"sagas": [simple()], "max_attempts": True}, "max_attempts is True"),
        ({"sagas": [simple()], "workers": 0}, "workers is 0"),
        ({"sagas": [Saga("empty")]}, "no steps"),
    ],
)
def test_a_wrong_recovery_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(SagaDefinitionError, match=text):
        Recovery(MemoryStore(), **arguments)


def test_a_recovery_opens_the_store_it_is_given_by_path(tmp_path: Path) -> None:
    path = tmp_path / "saga.db"
    with SqliteStore(path) as store:
        left_behind(store, simple)
    recovery = Recovery(path, [simple()])
    (result,) = recovery.run_once()
    assert result.ok
    recovery.store.close()


@pytest.mark.parametrize(
    "changed",
    [
        Saga("s", version="2").add_task(step(lambda: 1, name="other")),
        simple(version="2").add_task(step(lambda: 3, name="another")),
        Saga("s", version="2").add_task(step(lambda: 1, name="a")).add_task(step(lambda: 2, name="b")),
    ],
    ids=["other steps", "another step", "other policies"],
)
def test_a_definition_that_changed_is_left_to_a_person(changed: Saga, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(store, simple)
    assert Recovery(store, [changed]).run_once() == []
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner) == ("stuck", None)
    assert "begun by version '1'" in json.loads(store.journal("x")[-1].payload)["reason"]
    assert "is stuck" in caplog.text
    with pytest.raises(DefinitionChangedError, match="compatible_with"):
        changed.execute(saga_id="x", store=store)
    joined = simple().try_execute(saga_id="x", store=store)
    assert joined.status is Status.STUCK
    assert "begun by version '1'" in str(joined.reason)


def test_a_new_definition_may_say_that_it_finishes_what_an_old_one_began(store: Store) -> None:
    left_behind(store, simple, count=2)
    newer = Saga("s", version="2", compatible_with=["1"]).add_task(step(lambda: 1, name="a"))
    newer.add_task(step(lambda: 2, name="b", in_doubt=InDoubt.RERUN)).add_task(step(lambda: 3, name="c"))
    (result,) = Recovery(store, [newer]).run_once()
    assert result.results == {"a": 1, "b": 2, "c": 3}


def test_a_compatible_definition_that_lacks_a_step_is_not(store: Store) -> None:
    left_behind(store, simple, count=2)
    newer = Saga("s", version="2", compatible_with=["1"]).add_task(step(lambda: 1, name="a"))
    assert Recovery(store, [newer]).run_once() == []
    assert "has a step 'b', which version '2' lacks" in json.loads(store.journal("x")[-1].payload)["reason"]


def test_the_same_steps_under_a_new_version_are_the_same_definition(store: Store) -> None:
    left_behind(store, simple)
    (result,) = Recovery(store, [simple(version="2")]).run_once()
    assert result.ok


def test_each_execution_is_finished_by_the_version_that_began_it(store: Store) -> None:
    def version(number: int) -> Saga:
        saga = Saga("s", version=str(number))
        for n in range(number):
            saga.add_task(step(lambda: 1, name=f"step{n}", in_doubt=InDoubt.RERUN))
        return saga

    for number in (1, 2, 3):
        left_behind(store, lambda number=number: version(number), f"x{number}")  # type: ignore[misc]
    results = Recovery(store, [version(3), version(1), version(2)]).run_once()
    assert {result.saga_id: len(result.results) for result in results} == {"x1": 1, "x2": 2, "x3": 3}


# -- when recovery fails ----------------------------------------------------------------------------------------------


def test_an_execution_that_kills_each_recovery_ends_stuck(store: Store) -> None:
    left_behind(store, simple)
    for _ in range(3):  # three processes claimed it and died
        assert store.claim("dead", 0.0, names=["s"])
    assert Recovery(store, [simple()], max_attempts=3).run_once() == []
    row = store.get("x")
    assert row is not None
    assert row.status == "stuck"
    assert "recovery was tried 3 times and got no further" in store.journal("x")[-1].payload


def test_an_execution_that_gets_on_may_be_recovered_more_often(store: Store) -> None:
    watched = Watched(MemoryStore())
    simple().execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:1])
    for _ in range(3):
        (row,) = store.claim("dead", 0.0, names=["s"])
        seq = len(store.journal("x")) + 1
        recovered = Entry(seq, "SagaRecovered", None, '{"owner":"dead","epoch":2}', 0.0)
        store.append(Lease("x", "dead", row.epoch), [recovered])
    (row,) = store.claim("dead", 0.0, names=["s"])
    done = watched.writes[1].entries[0]._replace(seq=6)
    started = watched.writes[1].entries[1]._replace(seq=7)
    store.append(Lease("x", "dead", row.epoch), [done, started])
    (result,) = Recovery(store, [simple()], max_attempts=3).run_once()
    assert result.ok


class Odd:
    """What no codec knows by itself."""


def test_what_cannot_be_read_is_tried_again_later_and_ends_stuck(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(codec: Codec) -> Saga:
        return (
            Saga("s", codec=codec)
            .add_task(step(lambda: Odd(), name="a"))
            .add_task(step(lambda: 2, name="b", in_doubt=InDoubt.RERUN))
        )

    known = Codec().register(Odd, lambda odd: 1, lambda stored: Odd(), name="odd")
    left_behind(store, lambda: build(known), count=2)
    recovery = Recovery(store, [build(Codec())], max_attempts=3, backoff=1.0)
    for number in (1, 2):
        assert recovery.run_once() == []
        row = store.get("x")
        assert row is not None
        assert (row.status, row.owner, row.recoveries) == ("running", None, number)
        assert 0.3 < row.due - store.now() <= 1.0
        assert recovery.run_once() == []  # it is not due
        time.sleep(1.1)
    assert "no class is registered as 'odd'" in caplog.text
    assert recovery.run_once() == []
    row = store.get("x")
    assert row is not None
    assert row.status == "stuck"
    assert "recovery failed 3 times, at last with: no class is registered" in store.journal("x")[-1].payload


def test_one_that_cannot_be_read_does_not_keep_others_back(store: Store) -> None:
    left_behind(store, simple, "good1")
    left_behind(store, simple, "bad")
    left_behind(store, simple, "good2")
    (row,) = store.claim("vandal", 0.0, saga_id="bad")
    store.append(Lease("bad", "vandal", row.epoch), [Entry(3, "NoSuchEvent", None, "{}", 0.0)], release=True)
    results = Recovery(store, [simple()]).run_once()
    assert sorted(result.saga_id for result in results) == ["good1", "good2"]
    row = store.get("bad")
    assert row is not None
    assert row.due > store.now()


def test_a_failing_store_stops_one_execution_and_no_other(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(store, simple, "first")
    left_behind(store, simple, "second")
    watched = Watched(store)

    def fail_first(number: int) -> None:
        if number == 1:
            raise StorageError("the disk is full")

    watched.before = fail_first
    results = Recovery(watched, [simple()]).run_once()  # type: ignore[arg-type]
    assert sorted(result.saga_id for result in results) == ["first", "second"]
    assert all(result.ok for result in results)
    assert "the disk is full" in caplog.text


def test_an_interrupt_in_a_recovered_step_leaves_the_rest_to_others(store: Store) -> None:
    interrupted: list[str] = []

    def first(context: Context) -> None:
        if not interrupted:
            interrupted.append(context.step.saga_id)
            raise KeyboardInterrupt

    def build() -> Saga:
        return Saga("s").add_task(step(first, lambda: None, name="a", in_doubt=InDoubt.RERUN))

    interrupted.append("not now")
    for n in range(3):
        left_behind(store, build, f"x{n}")
    interrupted.clear()
    with pytest.raises(KeyboardInterrupt):
        Recovery(store, [build()]).run_once()
    rows = {f"x{n}": store.get(f"x{n}") for n in range(3)}
    assert rows.pop(interrupted[0]).status == "compensated"  # type: ignore[union-attr]
    assert all(row is not None and row.owner is None for row in rows.values())
    assert len(Recovery(store, [build()]).run_once()) == 2


# -- several of them, one after the other -----------------------------------------------------------------------------


def three_left(store: Store, build: Callable[[], Saga]) -> None:
    for saga_id in ("x0", "x1", "x2"):
        left_behind(store, build, saga_id)


def test_an_end_is_stored_with_the_next_one_s_beginning(store: Store) -> None:
    three_left(store, simple)
    watched = Watched(store)
    results = Recovery(watched, [simple()]).run_once()  # type: ignore[arg-type]
    assert [result.ok for result in results] == [True] * 3
    ids = [result.saga_id for result in results]
    asked = [call for call in watched.calls if call.startswith("append")]
    # Each begins, commits its first step with the second's intent, and ends.
    assert asked.count("append_each") == 2
    if not isinstance(store, MemoryStore):  # which stores them one after the other
        assert asked == ["append", "append", "append_each", "append", "append_each", "append", "append"]
    for saga_id in ids:
        check_journal(store.journal(saga_id))
        assert journal_of(store, saga_id)[-1] == "SagaCompleted"
    assert watched.calls.count("journals") == watched.calls.count("with_mail") == 1
    assert watched.calls.count("journal") == watched.calls.count("inbox") == 0


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
    once = ["SagaRecovered", "StepStarted", "StepSucceeded", "SagaCompleted"]
    assert sorted(told_of) == sorted(once * 3)
    assert told_of[-1] == "SagaCompleted"


@pytest.mark.parametrize("fault", ["nothing is stored", "it raises", "all is stored and it raises", "one is stored"])
def test_what_could_not_be_stored_together_is_stored_alone(fault: str, store: Store) -> None:
    three_left(store, simple)

    class Faulty(Watched):
        def append_each(self, appends: Any) -> list[bool]:
            if fault == "nothing is stored":
                return [False] * len(appends)
            if fault == "one is stored":
                return [*super().append_each(appends[:1]), False]
            if fault.startswith("all"):
                super().append_each(appends)
            raise RuntimeError("the store has a fault")

    results = Recovery(Faulty(store), [simple()]).run_once()  # type: ignore[arg-type]
    assert [result.ok for result in results] == [True] * 3
    for saga_id in ("x0", "x1", "x2"):
        check_journal(store.journal(saga_id))
        row = store.get(saga_id)
        assert row is not None
        assert (row.status, row.owner) == ("completed", None)


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
    assert f"recovery of saga {robbed[0]} stopped" in caplog.text
    row = store.get(robbed[0])
    assert row is not None
    assert (row.status, row.owner) == ("running", "robber")


def test_an_interrupt_between_two_of_them_stores_the_end_and_leaves_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_left(store, simple)
    real, taken = recovery_module.take_up, []

    def take_up(*arguments: Any) -> Any:
        if taken:
            raise KeyboardInterrupt
        taken.append(arguments[2].saga_id)
        return real(*arguments)

    monkeypatch.setattr(recovery_module, "take_up", take_up)
    with pytest.raises(KeyboardInterrupt):
        Recovery(store, [simple()]).run_once()
    rows = {saga_id: store.get(saga_id) for saga_id in ("x0", "x1", "x2")}
    assert rows.pop(taken[0]).status == "completed"  # type: ignore[union-attr]
    assert all(row is not None and row.owner is None and row.status == "running" for row in rows.values())
    monkeypatch.undo()
    assert len(Recovery(store, [simple()]).run_once()) == 2


@pytest.mark.parametrize("second", [0, 1, 7])
def test_an_interrupt_at_any_line_leaves_no_lease_behind_and_stores_each_end(second: int) -> None:
    """``second``: so many lines later, there is another interrupt."""
    lines = {
        "recovery.py": {"_work", "_finish", "_read", "_take_up", "_run", "_end", "_give_back"},
        "threads.py": {"run", "advance", "_tell"},
        "journal.py": {"commit_each", "commit", "_stored"},
        "saga.py": {"_settle", "settle"},
    }
    struck_at: list[str] = []

    def interrupted(position: int, store: Store) -> BaseException | None:
        count = 0

        def on_line(frame: Any, event: str, arg: Any) -> Any:
            nonlocal count
            if event == "line":
                count += 1
                if count in (position, second and position + second):
                    struck_at.append(frame.f_code.co_name)
                    raise KeyboardInterrupt
            return on_line

        def on_call(frame: Any, event: str, arg: Any) -> Any:
            file = Path(frame.f_code.co_filename)
            ours = "tests" not in file.parts and frame.f_code.co_name in lines.get(file.name, ())
            return on_line if ours else None

        before = sys.gettrace()
        sys.settrace(on_call)
        try:
            Recovery(store, [build()]).run_once()
        except BaseException as error:
            return error
        finally:
            sys.settrace(before)
        return None

    ran: list[str] = []

    def build() -> Saga:
        return Saga("s").add_task(step(lambda context: ran.append(context.step.saga_id), in_doubt=InDoubt.RERUN, name="a"))

    for position in itertools.count(1):
        now = time.time()
        store = MemoryStore(clock=lambda: now)  # noqa: B023
        three_left(store, build)
        ran.clear()
        struck_at.clear()
        raised = interrupted(position, store)
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


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
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
    began, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def work(context: Context) -> None:
        if recorded:
            ran.append(context.step.saga_id)
            if len(ran) == 1:
                began.set()
                assert go_on.wait(20)

    def build() -> Saga:
        return Saga("s").add_task(step(work, name="a", in_doubt=InDoubt.RERUN))

    recorded = False
    three_left(store, build)
    recorded = True
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(Recovery(store, [build()]).run_once)
        assert began.wait(10)
        others: list[SagaResult] = []
        until(lambda: others.extend(Recovery(store, [build()]).run_once()) or len(others) == 2)
        go_on.set()
        assert [result.saga_id for result in slow.result(10)] == ran[:1]
    assert sorted(ran) == ["x0", "x1", "x2"]
    assert all(result.ok for result in others)
    for saga_id in ran[1:]:
        row = store.get(saga_id)
        assert row is not None
        assert row.recoveries == 1  # that of the other


def test_what_is_being_given_back_is_finished_before_the_recovery_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    three_left(store, simple)
    keeper, begun = keeper_of(store), []

    def begin(lease: Lease) -> bool:
        begun.append(lease)
        if len(begun) in (2, 3):  # the heartbeat has taken it out, and has not come to giving it back
            keeper.drop(lease)
        return Keeper.begin(keeper, lease)

    monkeypatch.setattr(keeper, "begin", begin)
    results = Recovery(store, [simple()]).run_once()
    assert sorted(result.saga_id for result in results) == ["x0", "x1", "x2"]
    assert len(begun) == 5
    rows = [store.get(saga_id) for saga_id in ("x0", "x1", "x2")]
    assert [row and (row.status, row.recoveries) for row in rows] == [("completed", 1)] * 3


def test_a_step_that_waits_for_another_execution_of_its_batch_has_it_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    child = Saga("child", store=store).add_task(step(lambda: 7, name="a", in_doubt=InDoubt.RERUN))
    joined: list[Any] = []

    def waits() -> None:
        if recorded:
            joined.append(child.execute(saga_id="the child").results["a"])

    def build() -> Saga:
        return Saga("parent").add_task(step(waits, name="join", in_doubt=InDoubt.RERUN))

    recorded = False
    left_behind(store, build, "the parent")
    left_behind(store, lambda: Saga("child").add_task(step(lambda: 7, name="a", in_doubt=InDoubt.RERUN)), "the child")
    recorded = True
    results = within(20, lambda: Recovery(store, [build(), child]).run_once())
    assert joined == [7]
    assert all(result.ok for result in results)
    assert sorted(row.status for row in store.list().executions) == ["completed"] * 2


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
                if (row := store.get(saga_id)) is not None and row.status == "running" and not cancelled:
                    cancelled.append(saga_id)
                    Operations(store, who="me").cancel(saga_id, why="too late")
                    keeper_of(store).look(saga_id)  # as its heartbeat does sooner or later

    def build() -> Saga:
        saga = Saga("s").add_task(step(first, lambda: None, name="a", in_doubt=InDoubt.RERUN))
        return saga.add_task(step(lambda: None, name="b", in_doubt=InDoubt.RERUN))

    class Unreadable(Watched):
        def with_mail(self, saga_ids: Any) -> Any:
            raise StorageError("a page is broken")

    recorded = False
    cancelled: list[str] = []
    three_left(store, build)
    recorded = True
    if when != "while it waits":
        cancelled.append("x1")
        store.post("x1", write_action("cancel", None, "me", "too late"))
    recovered_by = Unreadable(store) if when == "unreadable" else store
    results = Recovery(recovered_by, [build()]).run_once()  # type: ignore[arg-type]
    assert {result.saga_id: result.status for result in results} == {
        saga_id: "compensated" if saga_id in cancelled else "completed" for saga_id in ("x0", "x1", "x2")
    }


def test_a_recovery_goes_on_until_it_is_told_to_stop(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(store)
    recovery = Recovery(watched, [simple()])  # type: ignore[arg-type]
    asked: list[float] = []

    def claim(*args: Any, **more: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise StorageError("no connection")
        return store.claim(*args, **more)

    watched.claim = claim  # type: ignore[attr-defined]
    stop = threading.Event()
    daemon = threading.Thread(target=recovery.run, args=(stop,), kwargs={"interval": 0.01})
    daemon.start()
    left_behind(store, simple)
    until(lambda: store.get("x").status == "completed")  # type: ignore[union-attr]
    stop.set()
    daemon.join(5)
    assert not daemon.is_alive()
    assert "no connection; trying again in 0.01 s" in caplog.text


@pytest.mark.parametrize("doubt", [InDoubt.RERUN, InDoubt.COMPENSATE, InDoubt.ASK])
def test_a_straggler_that_was_to_be_attempted_again_is_in_doubt(doubt: Any) -> None:
    store = MemoryStore()
    calls: list[str] = []

    def build(let_go: threading.Event) -> Saga:
        def slow(context: Context) -> int:
            calls.append("a")
            let_go.wait(0.2)
            return context.step.attempt

        flow = step(slow, lambda: calls.append("-a"), name="a", timeout=0.05, retry=Retry(2), in_doubt=doubt)
        return Saga("s").add_task(flow)

    watched = Watched(MemoryStore())
    whole = build(threading.Event()).execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    assert whole.ok  # a late success is one
    expired(store, cut(watched.writes, "StepTimedOut a"))
    calls.clear()
    let_go = threading.Event()
    let_go.set()
    (result,) = within(10, Recovery(store, [build(let_go)]).run_once)
    assert (
        result.status
        is {InDoubt.RERUN: Status.COMPLETED, InDoubt.COMPENSATE: Status.COMPENSATED, InDoubt.ASK: Status.STUCK}[doubt]
    )
    assert calls == {InDoubt.RERUN: ["a"], InDoubt.COMPENSATE: ["-a"], InDoubt.ASK: []}[doubt]
    if doubt is InDoubt.RERUN:
        assert result.results == {"a": 2}
