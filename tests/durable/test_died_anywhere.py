"""Wherever a process has died, another ends its execution truthfully.

Tried with every prefix of many journals, and with flows nobody thought of.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saga import InDoubt, Retry, Saga, Skip, Status, StepStatus, choose, parallel, sequence
from saga.storage import MemoryStore, Store
from tests.kit import Watched, World, Write, check_journal, check_truth, expired, probe
from tests.kit.recoveries import Build, calls_left, record, recover


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


def chosen(world: World, doubt: Any) -> Saga:
    left = sequence(probe("b", world, in_doubt=doubt), probe("c", world, in_doubt=doubt))
    choice = choose(lambda context: len(context.given) > 1, {True: left, False: probe("x", world)}, name="choose by length")
    saga = Saga("s").add_task(probe("a", world, in_doubt=doubt)).add_task(choice)
    return saga.add_task(probe("d", world, in_doubt=doubt))


def chosen_fails(world: World, doubt: Any) -> Saga:
    """In the end nothing is decided: the value is a list, which no way is for."""
    side = choose(lambda context: "left", {"left": probe("b", world, in_doubt=doubt), "right": ()}, name="choose a side")
    saga = Saga("s").add_task(side).add_task(choose(lambda context: 1, {1: (), 2: probe("x", world)}, name="choose nothing"))
    return saga.add_task(probe("c", world, in_doubt=doubt)).add_task(choose("given", {1: probe("y", world)}))


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
    chosen,
    chosen_fails,
]


def happenings(writes: list[Write], count: int, log: list[str]) -> list[list[str]]:
    """Return what had happened outside if the process died after ``count`` writes: at the earliest, and at the latest."""
    earliest = writes[count - 1].happened
    latest = writes[count].happened if count < len(writes) else len(log)
    return [log[:earliest], log[:latest]] if latest > earliest else [log[:earliest]]


@pytest.mark.parametrize("build", SHAPES)
def test_a_run_that_died_anywhere_and_is_rerun_ends_as_if_it_had_not_died(build: Build, new_store: Callable[[], Store]) -> None:
    """Each call of the recovery sees what it would have seen, and no call with an outcome is made again.

    Where the call that was lost is not made good by the one that is made again, the step is compensated too.
    """
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
            doubtful = cut_off(writes[:count]) - before.done()
            seen, left = world.seen_by_call(), calls_left(before, writes[:count])
            for undo in {f"-{name}" for name in doubtful} - left.keys():
                assert len(seen.pop(undo)) == 1, count
            assert told_alike(seen, in_order, doubtful) == told_alike(left, in_order, doubtful), count
            assert without_undone(result.context, doubtful) == without_undone(whole.context, doubtful)
            assert result.results == whole.results
            for found, expected in zip(result.history, whole.history, strict=True):
                undone = found.name in doubtful and expected.status is not StepStatus.SKIPPED
                assert found.status is (StepStatus.COMPENSATED if undone else expected.status)


def cut_off(writes: list[Write]) -> set[str]:
    """Return the steps of which an execute was under way when a process died."""
    under_way: set[str] = set()
    found: set[str] = set()
    for entry in (entry for write in writes for entry in write.entries):
        if entry.kind == "SagaRecovered":
            found |= under_way
        elif entry.kind == "StepStarted":
            under_way.add(str(entry.step))
        elif entry.kind in ("StepSucceeded", "StepFailed"):
            under_way.discard(str(entry.step))
    return {name for name in found | under_way if not name.startswith("choose")}  # which leaves nothing to undo


def without_undone(context: Mapping[str, Any], steps: Collection[str]) -> dict[str, Any]:
    """Return a context without what the compensations of these steps left in it."""
    return {key: value for key, value in context.items() if key not in {f"undid_{name}" for name in steps}}


def told_alike(calls: dict[str, list[Any]], in_order: bool, doubtful: Collection[str]) -> dict[str, list[Any]]:
    """Return what calls saw, without what the compensations of the steps in doubt left in the context; what other
    compensations left there only where their order is certain.
    """
    steps = doubtful if in_order else [*"abcdef"]
    return {name: [seen | {"context": without_undone(seen["context"], steps)} for seen in each] for name, each in calls.items()}


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
            in_doubt = {name for name in in_doubt if name is not None and not name.startswith("choose")}
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
                doubtful = cut_off([*writes[:count], *first.writes[:further]]) - world.done()
                assert without_undone(result.context, doubtful) == without_undone(whole.context, doubtful)


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
