"""Forking and merging a context, against a naive model: deep copies, and a comparison key by key of what values are made of."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from saga import Context, Saga, fallback, parallel, sequence, step
from saga.durable.codec import Codec
from saga.errors import MergeConflictError
from saga.storage import MemoryStore

KEYS = ["k1", "k2", "k3"]

# -- values -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Cart:
    """It equals itself alone, and has attributes beside its fields."""

    lines: Any

    def __post_init__(self) -> None:
        self.total: Any = []

    @cached_property
    def size(self) -> object:
        return object()


@dataclass(slots=True)
class Slots:
    lines: Any

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError

    def __copy__(self) -> Slots:
        raise ArithmeticError


@dataclass(frozen=True)
class Frozen:
    lines: Any


Pair = namedtuple("Pair", "a b")


class Registered:
    """What a codec has to be told about."""

    def __init__(self, lines: Any) -> None:
        self.lines = lines


class Whole:
    """No container, and nobody's to compare or copy: there is but one of each."""

    def __deepcopy__(self, memo: Any) -> Whole:
        return self

    def __bool__(self) -> bool:
        raise ArithmeticError

    __copy__ = __reduce__ = __bool__  # type: ignore[assignment]


class Raises(Whole):
    def __eq__(self, other: object) -> Any:
        raise ArithmeticError

    __hash__ = object.__hash__


class Array(Whole):
    """Its ``==`` is another one, as an array's is."""

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = object.__hash__


class EqualToAll(Whole):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


WHOLES = [kind() for kind in (Whole, Raises, Array, EqualToAll) for _ in range(2)]

plain = st.none() | st.integers(0, 2) | st.sampled_from(["x", "y", True, 1.0, float("nan")])
atoms = plain | st.sampled_from(WHOLES)


def containers(inner: Any) -> Any:
    lists = st.lists(inner, max_size=2)
    dicts = st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    return st.one_of(
        lists,
        dicts,
        st.tuples(inner, inner),
        inner.map(Cart),
        inner.map(Slots),
        inner.map(Frozen),
        lists.map(deque),
        dicts.map(OrderedDict),
        st.builds(Pair, inner, inner),
    )


beside = st.sets(st.integers(0, 2)) | st.builds(bytearray, st.binary(max_size=1))
values = st.recursive(atoms, containers, max_leaves=4) | beside
unstored = st.dictionaries(st.sampled_from("ab"), st.integers(0, 2)).map(lambda found: defaultdict(list, found)) | st.sets(
    st.integers(0, 2)
).map(Counter)
values = values | unstored
storable = st.recursive(plain, lambda inner: containers(inner) | inner.map(Registered), max_leaves=4) | beside


def edits_of(found: Any) -> Any:
    return st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from(KEYS), found),
            st.tuples(st.just("delete"), st.sampled_from(KEYS), st.none()),
            st.tuples(st.just("mutate"), st.sampled_from(KEYS), st.integers(0, 2)),
            st.tuples(st.just("ask"), st.sampled_from(KEYS), st.none()),
        ),
        max_size=4,
    )


def starts_of(found: Any) -> Any:
    return st.dictionaries(st.sampled_from(KEYS), found)


edits, starts = edits_of(values), starts_of(values)
branches = st.lists(edits, min_size=2, max_size=4)


def apply(mapping: Any, changes: list[Any]) -> None:
    """Do the edits on a context or a dict."""
    for kind, key, value in changes:
        if kind == "set":
            mapping[key] = copy.deepcopy(value)
        elif key in mapping:
            if kind == "delete":
                del mapping[key]
            elif kind == "mutate":
                mutate(mapping[key], value)
            elif type(mapping[key]) is Cart:
                assert mapping[key].size is mapping[key].size


def inside(value: Any) -> Any:
    """Return the first thing in a container, or ``None``."""
    if isinstance(value, (list, tuple, deque)):
        return value[0] if value else None
    if isinstance(value, dict):
        return next(iter(value.values()), None)
    return getattr(value, "lines", None)


def mutate(container: Any, value: Any) -> None:
    """Change a container in place, as deep inside as there is one."""
    if isinstance(inside(container), (list, dict, set, deque, bytearray, Cart, Slots, Registered)):
        mutate(inside(container), value)
    elif isinstance(container, (list, deque, bytearray)):
        container.append(value)
    elif isinstance(container, dict):
        container["m"] = value
    elif isinstance(container, set):
        container.add(value)
    elif isinstance(container, Cart):
        container.total = [container.total, value]
        container.more = value  # type: ignore[attr-defined]
    elif isinstance(container, (Slots, Registered)):
        container.lines = value


def made_of(value: Any) -> Any:
    """Return what tells a value from others, in terms that ``==`` can be trusted with."""
    kind = type(value)
    if kind in (list, tuple, deque, Pair):
        return kind, [made_of(item) for item in value]
    if isinstance(value, dict):
        return kind, [(key, made_of(item)) for key, item in value.items()]
    if kind is Cart:
        return kind, {key: made_of(item) for key, item in vars(value).items() if key != "size"}
    if is_dataclass(kind):
        return kind, [made_of(getattr(value, field.name)) for field in fields(kind)]
    if kind is Registered:
        return kind, made_of(value.lines)
    return (kind, id(value)) if isinstance(value, Whole) else (kind, sorted(value) if kind is set else repr(value))


def all_of(mapping: Any) -> dict[str, Any]:
    return {key: made_of(value) for key, value in mapping.items()}


# -- groups -----------------------------------------------------------------------------------------------------------

MISSING = object()


def merged(start: dict[str, Any], ends: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The model: what the branches together make of ``start``, or ``None`` where two disagree; in terms of :func:`made_of`."""
    result = dict(start)
    for key in KEYS:
        was = start.get(key, MISSING)
        changed = [end.get(key, MISSING) for end in ends if end.get(key, MISSING) != was]
        if any(one != changed[0] for one in changed):
            return None
        if changed and changed[0] is MISSING:
            result.pop(key)
        elif changed:
            result[key] = changed[0]
    return result


def ends_of(start: dict[str, Any], changes: list[list[Any]]) -> list[dict[str, Any]]:
    ends = []
    for each in changes:
        end = copy.deepcopy(start)
        apply(end, each)
        ends.append(all_of(end))
    return ends


def group_does_as_the_model_says(start: dict[str, Any], changes: list[list[Any]], saga: Saga) -> None:
    ends = ends_of(start, changes)
    expected = merged(all_of(start), ends)
    event("conflict" if expected is None else "merged")
    seen = {}

    def edit(context: Context, number: int) -> None:
        apply(context, changes[number])
        seen[number] = all_of(context)

    saga.add_task(parallel(*(step(edit, name=f"b{number}", args=(number,)) for number in range(len(changes)))))
    result = saga.try_execute(copy.deepcopy(start), saga_id="1")
    assert [seen[number] for number in range(len(ends))] == ends  # none saw another's changes
    assert isinstance(result.error, MergeConflictError) == (expected is None), result.error
    assert all_of(result.context) == (all_of(start) if expected is None else expected)
    if saga.store is not None:
        assert all_of(saga.load("1").context) == all_of(result.context)


@given(starts, branches)
def test_branches_change_the_context_as_the_model_says(start: dict[str, Any], changes: list[list[Any]]) -> None:
    group_does_as_the_model_says(start, changes, Saga("s"))


@given(starts_of(storable), st.lists(edits_of(storable), min_size=2, max_size=3))
def test_branches_with_a_store_change_the_context_as_the_model_says(start: dict[str, Any], changes: list[list[Any]]) -> None:
    codec = Codec().register(Registered, lambda value: value.lines, Registered)
    group_does_as_the_model_says(start, changes, Saga("s", store=MemoryStore(), codec=codec))


@given(starts, branches, edits)
def test_a_group_in_a_branch_is_a_branch(start: dict[str, Any], inner: list[list[Any]], beside: list[Any]) -> None:
    within = merged(all_of(start), ends_of(start, inner))
    expected = None if within is None else merged(all_of(start), [within, *ends_of(start, [beside])])

    def edit(context: Context, todo: list[Any]) -> None:
        apply(context, todo)

    group = parallel(*(step(edit, name=f"i{i}", kwargs={"todo": each}) for i, each in enumerate(inner)))
    flow = parallel(sequence(group, step(lambda: None, name="then")), step(edit, name="o", kwargs={"todo": beside}))
    result = Saga("s").add_task(flow).try_execute(copy.deepcopy(start))
    assert result.ok == (expected is not None)
    assert all_of(result.context) == (all_of(start) if expected is None else expected)


# -- steps with a view of their own -----------------------------------------------------------------------------------


def graph(found: list[Any]) -> list[Any]:
    """Return what the values are made of, and which of them are one: what is met again is told by its number."""
    numbers: dict[int, int] = {}

    def look(value: Any) -> Any:
        if not isinstance(value, (list, tuple, dict, set, deque, bytearray, Cart, Slots, Frozen)):
            return made_of(value)
        if id(value) in numbers:
            return numbers[id(value)]
        numbers[id(value)] = len(numbers)
        if isinstance(value, dict):
            return type(value), [(key, look(item)) for key, item in value.items()]
        if isinstance(value, (list, tuple, deque)):
            return type(value), [look(item) for item in value]
        if isinstance(value, Cart):
            return {key: look(item) for key, item in vars(value).items() if key != "size"}
        return look([value.lines]) if isinstance(value, (Slots, Frozen)) else made_of(value)

    return [look(value) for value in found]


aliases = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS), st.booleans()), max_size=3)


@given(starts, aliases, edits, aliases, st.booleans())
def test_a_step_with_a_view_of_its_own_leaves_the_context_as_one_without(
    start: dict[str, Any], before: Any, changes: list[Any], after: Any, fails: bool
) -> None:
    def link(mapping: Any, links: Any) -> None:
        for key, other, within in links:
            if other in mapping:
                mapping[key] = [mapping[other]] if within else mapping[other]

    def left_by(made: Callable[[Any], Any], told: Callable[[list[Any]], Any] = graph) -> list[Any]:
        given = copy.deepcopy(start)
        link(given, before)
        held = list(given.values())  # somebody outside has them too

        def edit(context: Context) -> Any:
            apply(context, changes)
            link(context, after)
            if fails:
                raise ValueError
            return context.get("k1")

        last = step(lambda context: context.result_of("edit"), name="last")
        result = Saga("s").add_task(made(edit)).add_task(last).try_execute(given)
        context = [result.context[key] for key in sorted(result.context)]
        return [sorted(result.context), told([*held, *context, result.results.get("last")])]

    if fails:
        assert left_by(lambda edit: step(edit, timeout=60)) == left_by(lambda edit: step(lambda: None, name="edit"))
    else:
        expected = left_by(step)
        alone = step(lambda: None, name="alone")
        assert left_by(lambda edit: step(edit, timeout=60)) == expected
        assert left_by(lambda edit: fallback(step(edit), alone)) == expected
        assert left_by(lambda edit: parallel(step(edit), alone), made_of) == left_by(step, made_of)
