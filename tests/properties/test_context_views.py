"""Forking and merging a context, against a naive model: deep copies, and a comparison key by key."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from saga import Context, Saga, parallel, sequence, step
from saga.errors import MergeConflictError

KEYS = ["k1", "k2", "k3"]
atoms = st.none() | st.integers(0, 2) | st.sampled_from(["x", "y"])
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2) | st.tuples(inner, inner)
    ),
    max_leaves=4,
) | st.sets(st.integers(0, 2))
edits = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(KEYS), values),
    st.tuples(st.just("delete"), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("mutate"), st.sampled_from(KEYS), atoms),
)
starts = st.dictionaries(st.sampled_from(KEYS), values)
branches = st.lists(st.lists(edits, max_size=4), min_size=2, max_size=4)


def apply(mapping: Any, changes: list[Any]) -> None:
    """Do the edits on a context or a dict."""
    for kind, key, value in changes:
        if kind == "set":
            mapping[key] = copy.deepcopy(value)
        elif key in mapping:
            if kind == "delete":
                del mapping[key]
            else:
                mutate(mapping[key], value)


def mutate(container: Any, value: Any) -> None:
    """Change a container in place, as deep inside as there is one."""
    if isinstance(container, (list, tuple)) and container and isinstance(container[0], (list, dict, set)):
        mutate(container[0], value)
    elif isinstance(container, list):
        container.append(value)
    elif isinstance(container, dict):
        container["m"] = value
    elif isinstance(container, set):
        container.add(value)


def differ(one: Any, other: Any) -> bool:
    return type(one) is not type(other) or one != other


MISSING = object()


def merged(start: dict[str, Any], ends: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The model: what the branches together make of ``start``, or ``None`` where two disagree."""
    result = dict(start)
    for key in KEYS:
        was = start.get(key, MISSING)
        changed = [end.get(key, MISSING) for end in ends if differ(end.get(key, MISSING), was)]
        if any(differ(one, changed[0]) for one in changed):
            return None
        if changed and changed[0] is MISSING:
            result.pop(key)
        elif changed:
            result[key] = changed[0]
    return result


@given(starts, branches)
def test_branches_change_the_context_as_the_model_says(start: dict[str, Any], changes: list[list[Any]]) -> None:
    ends = []
    for each in changes:
        end = copy.deepcopy(start)
        apply(end, each)
        ends.append(end)
    expected = merged(start, ends)
    event("conflict" if expected is None else "merged")

    def edit(context: Context, todo: list[Any]) -> dict[str, Any]:
        apply(context, todo)
        return copy.deepcopy(dict(context))

    steps = [step(edit, name=f"b{i}", kwargs={"todo": each}) for i, each in enumerate(changes)]
    result = Saga("s").add_task(parallel(*steps)).try_execute(copy.deepcopy(start))
    assert [result.results[f"b{i}"] for i in range(len(ends))] == ends  # none saw another's changes
    if expected is None:
        assert isinstance(result.error, MergeConflictError)
        assert result.context == start
    else:
        assert result.ok
        assert result.context == expected


@given(starts, branches, st.lists(edits, max_size=3))
def test_a_group_in_a_branch_is_a_branch(start: dict[str, Any], inner: list[list[Any]], beside: list[Any]) -> None:
    ends = []
    for each in inner:
        end = copy.deepcopy(start)
        apply(end, each)
        ends.append(end)
    within = merged(start, ends)
    other = copy.deepcopy(start)
    apply(other, beside)
    expected = None if within is None else merged(start, [within, other])

    def edit(context: Context, todo: list[Any]) -> None:
        apply(context, todo)

    group = parallel(*(step(edit, name=f"i{i}", kwargs={"todo": each}) for i, each in enumerate(inner)))
    flow = parallel(sequence(group, step(lambda: None, name="then")), step(edit, name="o", kwargs={"todo": beside}))
    result = Saga("s").add_task(flow).try_execute(copy.deepcopy(start))
    assert result.ok == (expected is not None)
    assert result.context == (start if expected is None else expected)


@given(starts, st.lists(edits, max_size=4), st.booleans())
def test_a_step_with_a_timeout_changes_the_context_when_it_succeeds_and_not_when_it_fails(
    start: dict[str, Any], changes: list[Any], fails: bool
) -> None:
    def edit(context: Context) -> None:
        apply(context, changes)
        if fails:
            raise ValueError

    result = Saga("s").add_task(step(edit, timeout=60)).try_execute(copy.deepcopy(start))
    expected = copy.deepcopy(start)
    if not fails:
        apply(expected, changes)
    assert result.context == expected
