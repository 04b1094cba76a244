"""Semantic 6: branches have views of their own, siblings are let end, and changes are merged in declared order."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from saga import Context, Saga, Status, parallel, sequence, step
from saga.errors import MergeConflictError, SagaExecutionException
from saga.events import CompensationStarted, GroupMerged, StepFailed, StepSucceeded
from tests.kit import PATIENCE


def put(**values: Any) -> Any:
    return lambda context: context.update(values)


def test_branches_run_at_the_same_time(make: Any) -> None:
    meet = threading.Barrier(3)
    tasks = [make(name, lambda context: meet.wait(PATIENCE)) for name in "abc"]
    assert Saga("s").add_task(parallel(*tasks)).execute().ok


def test_a_branch_sees_neither_keys_nor_containers_another_changes(make: Any) -> None:
    changed, looked = threading.Barrier(2), {}

    def change(context: Context) -> None:
        name = context.step.name
        context["own" if name == "a" else "other"] = name
        context.things[name] = name
        context.deep["in"][0].add(name)
        context.rows.append(name)
        changed.wait(PATIENCE)
        looked[name] = (set(context), dict(context.things), set(context.deep["in"][0]), list(context.rows))
        changed.wait(PATIENCE)
        # Put the containers back, so that nothing conflicts.
        context.things.pop(name)
        context.deep["in"][0].discard(name)
        context.rows.remove(name)

    context = Context(things={}, deep={"in": [set()]}, rows=[])
    result = Saga("s").add_task(parallel(make("a", change), make("b", change))).execute(context)
    keys = {"things", "deep", "rows"}
    assert looked == {"a": (keys | {"own"}, {"a": "a"}, {"a"}, ["a"]), "b": (keys | {"other"}, {"b": "b"}, {"b"}, ["b"])}
    assert result.context == {"things": {}, "deep": {"in": [set()]}, "rows": [], "own": "a", "other": "b"}


def test_a_branch_sees_its_own_earlier_steps_and_not_its_siblings(make: Any) -> None:
    seen = []

    def look(context: Context) -> None:
        seen.append(("x" in context, "y" in context, "before" in context, context.result_of("a1")))

    left = sequence(make("a1", put(x=1)), make("a2", look))
    saga = Saga("s").add_task(make("first", put(before=0))).add_task(parallel(left, sequence(make("b", put(y=1)))))
    assert saga.execute().ok
    assert seen == [(True, False, True, "result of a1")]


@pytest.mark.parametrize("bad", range(3))
def test_running_siblings_are_let_end_then_undone_and_go_no_further(make: Any, log: list[str], watch: Any, bad: int) -> None:
    entered, go = threading.Barrier(3), threading.Event()

    def good(context: Context) -> None:
        entered.wait(PATIENCE)
        assert go.wait(PATIENCE)

    def fail(context: Context) -> None:
        entered.wait(PATIENCE)
        raise ValueError(context.step.name)

    branches = [sequence(make(f"b{i}", fail if i == bad else good), make(f"never{i}")) for i in range(3)]
    saga = Saga("s", logger=[watch, lambda event, info: go.set() if isinstance(event, StepFailed) else None])
    result = saga.add_task(make("a")).add_task(parallel(*branches)).try_execute()
    assert result.status is Status.COMPENSATED
    assert result.failed_step == f"b{bad}"
    ended = [e.step for e in watch.of(StepSucceeded)]
    assert sorted(ended) == sorted(["a", *(f"b{i}" for i in range(3) if i != bad)])
    assert [name[1:] for name in log if name[0] == "-"] == ended[::-1]
    assert not [name for name in log if name.startswith("never")]
    assert max(watch.events.index(e) for e in watch.of(StepSucceeded)) < watch.at(CompensationStarted)


def test_two_failing_branches_fail_the_saga_once_by_the_first(make: Any, log: list[str]) -> None:
    failed = threading.Event()
    saga = Saga("s", logger=lambda event, info: failed.set() if isinstance(event, StepFailed) else None)
    second = make("second", lambda context: (failed.wait(PATIENCE), 1 / 0))
    result = saga.add_task(make("a")).add_task(parallel(second, make("first", ValueError("first")))).try_execute()
    assert result.failed_step == "first"
    assert [record.status for record in result.history] == ["compensated", "failed", "failed"]
    assert log[3:] == ["-a"]


@pytest.mark.parametrize(
    ("before", "one", "two"),
    [
        ({}, {"k": 1}, {"k": 2}),
        ({"k": 0}, {"k": 1}, {"k": 2}),
        ({"k": 0}, {"k": 1}, None),
        ({"k": []}, {"k": [1]}, {"k": [2]}),
        ({}, {"k": 1}, {"k": True}),
        ({}, {"k": None}, {"k": 0}),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_different_values_for_a_key_are_a_conflict_undone_like_any_failure(
    make: Any, log: list[str], watch: Any, before: dict[str, Any], one: Any, two: Any, swap: bool
) -> None:
    def change(values: Any) -> Any:
        return (lambda context: context.pop("k")) if values is None else put(**values)

    if swap:
        one, two = two, one
    saga = Saga("s", logger=watch).add_task(make("a")).add_task(parallel(make("x", change(one)), make("y", change(two))))
    with pytest.raises(SagaExecutionException) as caught:
        saga.add_task(make("never")).execute(before)
    assert isinstance(caught.value.cause, MergeConflictError)
    assert "'k'" in str(caught.value.cause)
    assert "'x'" in str(caught.value.cause)
    assert "'y'" in str(caught.value.cause)
    ended = [e.step for e in watch.of(StepSucceeded)]
    assert [name[1:] for name in log if name[0] == "-"] == ended[::-1]
    assert "never" not in log
    assert not watch.of(GroupMerged)
    result = caught.value.result
    assert result is not None
    assert result.status is Status.COMPENSATED
    assert result.context == before  # nothing of either is taken over


@pytest.mark.parametrize(
    ("before", "one", "two", "after"),
    [
        ({}, {"k": 1}, {"k": 1}, {"k": 1}),
        ({"k": 0}, {"k": 1}, {}, {"k": 1}),
        ({"k": 0}, {}, {"k": 1}, {"k": 1}),
        ({"k": 0}, {"k": 0}, {"k": 1}, {"k": 1}),
        ({}, {"k": [1]}, {"k": [1]}, {"k": [1]}),
        ({}, {"k": 1}, {"l": 2}, {"k": 1, "l": 2}),
    ],
)
def test_changes_that_agree_are_taken_over(make: Any, before: Any, one: Any, two: Any, after: Any) -> None:
    result = Saga("s").add_task(parallel(make("x", put(**one)), make("y", put(**two)))).execute(before)
    assert result.context == after


def test_a_key_removed_by_a_branch_is_removed(make: Any) -> None:
    branches = parallel(make("x", lambda context: context.pop("k")), make("y", lambda context: context.pop("k")), make("z"))
    assert Saga("s").add_task(branches).execute(Context(k=1, l=2)).context == {"l": 2}


@pytest.mark.parametrize("order", list(itertools.permutations("abc")), ids="".join)
def test_changes_and_results_are_merged_in_declared_order_whoever_ends_first(make: Any, order: tuple[str, ...]) -> None:
    gates = {name: threading.Event() for name in order}
    gates[order[0]].set()
    following = dict(itertools.pairwise(order))
    previous = []

    def open_next(event: Any, info: Any) -> None:
        if isinstance(event, StepSucceeded) and event.step in following:
            gates[following[event.step]].set()

    def gated(context: Context) -> None:
        name = context.step.name
        assert gates[name].wait(PATIENCE)
        context[f"key of {name}"] = name

    saga = Saga("s", logger=open_next).add_task(parallel(*(make(name, gated) for name in "abc")))
    saga.add_task(step(lambda before: previous.append(before), name="last"))
    result = saga.execute()
    assert [e.step for e in result.events if isinstance(e, StepSucceeded)] == [*order, "last"]
    assert list(result.context) == ["key of a", "key of b", "key of c"]
    assert previous == [("result of a", "result of b", "result of c")]


def test_nested_groups_are_merged_into_their_own_branch_first(make: Any) -> None:
    seen = {}

    def look(context: Context) -> None:
        seen[context.step.name] = dict(context)

    inner = sequence(parallel(make("i1", put(i1=1)), make("i2", put(i2=2))), make("after inner", look))
    outer = parallel(inner, sequence(make("o", put(o=3)), make("beside", look)))
    saga = Saga("s").add_task(make("first", put(first=0))).add_task(outer).add_task(make("last", look))
    result = saga.execute()
    assert seen["after inner"] == {"first": 0, "i1": 1, "i2": 2}
    assert seen["beside"] == {"first": 0, "o": 3}
    assert seen["last"] == result.context == {"first": 0, "i1": 1, "i2": 2, "o": 3}
    assert len([e for e in result.events if isinstance(e, GroupMerged)]) == 2


def test_a_group_right_inside_a_group_is_merged_too(make: Any) -> None:
    flow = parallel(parallel(make("a", put(a=1)), parallel(make("b", put(b=2)), make("c", put(c=3)))), make("d", put(d=4)))
    assert Saga("s").add_task(flow).execute().context == {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.parametrize("where", ["inner", "outer"])
def test_a_conflict_in_a_nested_group_undoes_everything(make: Any, log: list[str], where: str) -> None:
    inner = parallel(make("i1", put(k=1)), make("i2", put(k=2) if where == "inner" else put(l=2)))
    outer = parallel(sequence(inner, make("then")), make("o", put(k=9) if where == "outer" else None))
    result = Saga("s").add_task(make("a")).add_task(outer).add_task(make("never")).try_execute()
    assert isinstance(result.error, MergeConflictError)
    assert result.status is Status.COMPENSATED
    done = [name for name in log if name[0] != "-"]
    assert sorted(name[1:] for name in log if name[0] == "-") == sorted(done)
    assert log[-1] == "-a"
    assert "never" not in done
    assert result.context == {}


def test_a_compensation_in_a_branch_sees_what_its_branch_did(make: Any) -> None:
    seen = {}

    def note(context: Context) -> None:
        seen[context.step.name] = (dict(context), context.result_of(context.step.name))

    flow = parallel(sequence(make("x", put(x=1), note), make("bad", ValueError())), make("y", put(y=2), note))
    Saga("s").add_task(flow).try_execute()
    assert seen["x"] == ({"x": 1}, "result of x")
    assert seen["y"] == ({"y": 2}, "result of y")


def test_a_compensation_after_the_join_sees_what_all_branches_did(make: Any) -> None:
    seen = []
    flow = parallel(make("x", put(x=1), lambda context: seen.append(dict(context))), make("y", put(y=2)))
    Saga("s").add_task(flow).add_task(make("bad", ValueError())).try_execute()
    assert seen == [{"x": 1, "y": 2}]
