"""What the branches of a parallel group see of the context, and what becomes of their changes."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from saga import Context, Saga, SagaResult, Status, parallel, sequence, step
from saga.errors import MergeConflictError

Change = Callable[[Context], object]


def branches(*changes: Change, **keys: Any) -> SagaResult:
    """Run one branch for each change; what a change is called with is its branch's view."""

    def branch(change: Change) -> Callable[..., object]:
        return lambda context: change(context)

    flows = [step(branch(change), lambda: None, name=f"b{number}") for number, change in enumerate(changes)]
    return Saga("s").add_task(parallel(*flows)).try_execute(Context(**keys))


def put(**values: Any) -> Change:
    return lambda context: context.update(values)


def delete(key: str) -> Change:
    return lambda context: context.pop(key)


def nothing(context: Context) -> None:
    """Changes nothing."""


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ((nothing, nothing), {"a": 1, "list": [1]}),
        ((put(b=2), put(c=3)), {"a": 1, "list": [1], "b": 2, "c": 3}),
        ((put(a=2), nothing), {"a": 2, "list": [1]}),
        ((put(a=2), put(a=2)), {"a": 2, "list": [1]}),
        ((put(a=1), put(a=2)), {"a": 2, "list": [1]}),
        ((delete("a"), nothing), {"list": [1]}),
        ((delete("a"), delete("a")), {"list": [1]}),
        ((delete("a"), put(list=[])), {"list": []}),
        ((lambda context: context.list.append(2), nothing), {"a": 1, "list": [1, 2]}),
        ((lambda context: context.list.append(2), lambda context: context.list.append(2)), {"a": 1, "list": [1, 2]}),
    ],
)
def test_changes_that_agree_are_taken_over(changes: tuple[Change, ...], after: dict[str, Any]) -> None:
    result = branches(*changes, a=1, list=[1])
    assert result.ok
    assert dict(result.context) == after


@pytest.mark.parametrize(
    ("changes", "types"),
    [
        ((put(a=2), put(a=3)), "int and int"),
        ((put(a=2), put(a=2.0)), "int and float"),
        ((put(a=0), put(a=False)), "int and bool"),
        ((put(a=2), delete("a")), "int and deleted"),
        ((delete("a"), put(a=2)), "deleted and int"),
    ],
)
def test_changes_that_disagree_are_undone(changes: tuple[Change, ...], types: str) -> None:
    result = branches(*changes, a=1)
    assert isinstance(result.error, MergeConflictError)
    assert str(result.error) == (
        f"branches 'b0' and 'b1' changed context key 'a' to different values ({types}); give each branch a key of its own"
    )
    assert (result.status, result.failed_step) == (Status.COMPENSATED, None)
    assert {str(record.status) for record in result.history} == {"compensated"}
    assert dict(result.context) == {"a": 1}


class Secret:
    def __repr__(self) -> str:
        raise AssertionError("nobody is to see this")

    __str__ = __eq__ = __repr__  # type: ignore[assignment]


class OddKey(str):
    __repr__ = Secret.__repr__


@pytest.mark.parametrize("made", [Secret, lambda: [Secret()], lambda: 10**5000])
def test_a_conflict_names_no_values(made: Callable[[], Any]) -> None:
    numbers = itertools.count()
    changes = [put(**{OddKey("card"): [next(numbers), made()]}) for _ in range(2)]
    error = branches(*changes).error
    told = (
        "branches 'b0' and 'b1' changed context key 'card' to different values (list and list); give each branch a key of its "
        "own"
    )
    assert (str(error), repr(error)) == (told, f"MergeConflictError({told!r})")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (MergeConflictError, told)


def test_values_that_cannot_be_compared_count_as_different() -> None:
    class Array:
        def __eq__(self, other: object) -> Any:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    assert isinstance(branches(put(a=Array()), put(a=Array())).error, MergeConflictError)
    one = Array()
    assert branches(put(a=one), put(a=one)).ok


@dataclass
class Address:
    lines: list[str]


@dataclass(frozen=True)
class Parcel:
    to: Address


@pytest.mark.parametrize(
    "value",
    [[[1]], {"k": [1]}, ([1],), Address(["x"]), Parcel(Address(["x"])), {1, 2}, bytearray(b"ab"), [Parcel(Address(["x"]))]],
    ids=repr,
)
def test_a_branch_cannot_change_what_another_sees(value: Any) -> None:
    changed = threading.Event()
    seen: list[str] = []
    before = repr(value)

    def change(context: Context) -> None:
        found = context.value
        while isinstance(found, (list, tuple, dict)) and not all(isinstance(item, int) for item in found):
            found = found["k"] if isinstance(found, dict) else found[0]
        found = found.to if isinstance(found, Parcel) else found
        found = found.lines if isinstance(found, Address) else found
        found.add(3) if isinstance(found, set) else found.append(3)
        changed.set()

    def look(context: Context) -> None:
        assert changed.wait(10)
        seen.append(repr(context.value))

    result = branches(change, look, value=value)
    assert seen == [before]
    assert repr(result.context.value) != before


def test_a_value_in_two_places_stays_one_value_in_a_branch() -> None:
    def change(context: Context) -> None:
        context.one.append(1)
        assert context.other is context.one

    shared: list[int] = []
    assert branches(change, put(b=1), one=shared, other=shared).context.other == [1]


def test_what_is_no_plain_data_is_shared() -> None:
    lock = threading.Lock()

    def same(context: Context) -> None:
        assert context.lock is lock

    assert branches(same, same, lock=lock).ok


def test_groups_in_groups_merge_outwards() -> None:
    flow = parallel(
        step(lambda context: context.update(a=1), name="a"),
        sequence(
            parallel(
                step(lambda context: context.update(b=2), name="b"),
                step(lambda context: context.update(c=3), name="c"),
            ),
            step(lambda context: context.update(d=context.b + context.c), name="d"),
        ),
    )
    saga = Saga("s").add_task(flow).add_task(step(lambda context: sorted(context.items()), name="all"))
    assert saga.execute().results["all"] == [("a", 1), ("b", 2), ("c", 3), ("d", 5)]


def test_results_of_every_branch_are_known_after_the_group() -> None:
    group = parallel(step(lambda: 1, name="a"), step(lambda: 2, name="b"))
    last = step(lambda context: context.result_of("a") + context.result_of("b"), name="sum")
    assert Saga("s").add_task(group).add_task(last).execute().results["sum"] == 3
