"""Values: what the next step sees is what it would see after a crash, and what cannot be stored is never believed."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from saga import Context, InDoubt, Retry, Saga, SagaResult, Skip, Status, parallel, step
from saga.durable.codec import Codec
from saga.errors import EncodingError, SagaIdTakenError
from saga.recovery import Recovery
from saga.storage import MemoryStore, Store
from tests.kit import PATIENCE, Watched, expired


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    tags: list[str]


@dataclass
class Line:
    item: str
    amounts: list[Decimal] = field(default_factory=list)


@dataclass(frozen=True)
class Receipt:
    number: int
    lines: tuple[Line, ...]


@dataclass
class Order(Context):
    order_id: str
    lines: list[Line] = field(default_factory=list)
    receipt: Receipt | None = None


class Plain(Context):
    """A class of contexts that is no dataclass."""


class Handle:
    """What no codec knows by itself."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.opened = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


VALUES: list[Any] = [
    None,
    True,
    7,
    2**3000,
    0.1,
    float("inf"),
    "text \ud83d\ude00 \udc00",
    b"\0\xff",
    bytearray(b"ab"),
    [1, [2, (3,)]],
    (1, 2),
    {"a": {"$set": 1}, "b": ()},
    {1: "int key", (2, 3): "tuple key"},
    {"$tuple": [1]},
    {1, 2},
    frozenset({1}),
    deque([1, [2]], maxlen=3),
    OrderedDict(b=1, a=2),
    datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0),
    date(2024, 2, 29),
    time(1, 2, 3, 4),
    timedelta(days=-1, microseconds=1),
    UUID(int=5),
    Decimal("1.10"),
    Colour.RED,
    Level.LOW,
    Path("/tmp/x"),
    Point(1, ["t"]),
    Line("apple", [Decimal("0.10")]),
    Receipt(1, (Line("pear"),)),
]


def both_ways(build: Callable[[], Saga], values: Any = None) -> tuple[SagaResult, SagaResult]:
    """Run a saga of two steps or more through, and again with a crash before its last step. Return both results."""
    watched = Watched(MemoryStore())
    whole = build().execute(values, saga_id="x", store=watched)  # type: ignore[arg-type]
    store = MemoryStore()
    expired(store, watched.writes[:-1])
    (again,) = Recovery(store, [build()]).run_once()
    assert again.ok
    return whole, again


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_with_their_type_live_and_recovered(value: Any) -> None:
    seen: list[list[Any]] = []

    def put(context: Context) -> Any:
        context["put"] = value
        return value

    def look(previous: Any, context: Context) -> None:
        seen.append([context["given"], context["put"], context.result_of("put"), previous])

    def build() -> Saga:
        return Saga("s").add_task(step(put, name="put")).add_task(step(look, name="look", in_doubt=InDoubt.RERUN))

    both_ways(build, {"given": value})
    assert len(seen) == 2
    for found in seen[0] + seen[1]:
        assert found == value
        assert type(found) is type(value)


def test_what_one_step_put_under_two_keys_is_two_values_for_the_next(store: Store) -> None:
    def put(context: Context) -> list[int]:
        shared = [1]
        context["a"] = context["b"] = shared
        context["c"] = {"x": shared, "y": shared}
        return shared

    def change(previous: list[int], context: Context) -> Any:
        context["a"].append(2)
        context["c"]["x"].append(3)
        return [context["b"], context["c"]["y"], previous, context.result_of("put")]

    def build() -> Saga:
        return Saga("s").add_task(step(put, name="put")).add_task(step(change, name="change", in_doubt=InDoubt.RERUN))

    for values in ({}, {"a": [1], "b": [1]}):  # the second time each key holds an equal value already
        for result in both_ways(build, values):
            assert result.results["change"] == [[1], [1], [1], [1]]


def test_a_task_cannot_reach_into_the_context_with_what_it_kept(store: Store) -> None:
    kept: list[Any] = []

    def put(context: Context) -> list[int]:
        value = [1]
        kept.append(value)
        context["value"] = value
        return value

    def look(context: Context) -> Any:
        kept[-1].append(2)
        return [context["value"], context.result_of("put")]

    given = [0]
    saga = Saga("s").add_task(step(put, name="put")).add_task(step(look, name="look"))
    for values in ({"given": given}, {"given": given, "value": [1]}):
        result = saga.execute(values, store=store)
        given.append(1)
        assert result.results["look"] == [[1], [1]]
    assert result.context["given"] == [0, 1]


def test_what_is_worked_out_anew_is_not_carried_on(store: Store) -> None:
    """An equal value that was put in place of another is read back as well: a hidden rest of it would be lost in a crash."""

    def put(context: Context) -> None:
        value = Cached(1)
        assert value.double == 2
        context["value"] = value

    def look(context: Context) -> bool:
        return "double" in vars(context["value"])

    def build() -> Saga:
        return Saga("s").add_task(step(put, name="put")).add_task(step(look, name="look", in_doubt=InDoubt.RERUN))

    for values in ({}, {"value": Cached(1)}):
        assert [result.results["look"] for result in both_ways(build, values)] == [False, False]


@dataclass
class Cached:
    n: int

    @cached_property
    def double(self) -> int:
        return 2 * self.n


def test_a_context_of_a_dataclass_comes_back_as_one() -> None:
    seen: list[Order] = []

    def bill(context: Order) -> Receipt:
        context.lines.append(Line("pear", [Decimal("2.0")]))
        context.receipt = Receipt(7, tuple(context.lines))
        context["extra"] = {1, 2}
        return context.receipt

    def look(previous: Receipt, context: Order) -> None:
        assert type(context) is Order
        assert type(previous) is Receipt
        seen.append(context.__copy__())

    def build() -> Saga:
        return Saga("s").add_task(step(bill, name="bill")).add_task(step(look, name="look", in_doubt=InDoubt.RERUN))

    whole, again = both_ways(build, Order("A1", [Line("apple")]))
    assert seen[0] == seen[1] == whole.context == again.context
    assert type(again.context) is Order
    assert again.context.receipt == Receipt(7, (Line("apple"), Line("pear", [Decimal("2.0")])))  # type: ignore[attr-defined]
    assert again.context["extra"] == {1, 2}


def test_the_contexts_class_is_looked_for_before_anything_runs(store: Store) -> None:
    class Local(Context):
        pass

    ran: list[int] = []
    saga = Saga("s").add_task(step(lambda: ran.append(1), name="a"))
    with pytest.raises(EncodingError, match="Local"):
        saga.execute(Local(), saga_id="x", store=store)
    assert not ran
    assert store.get("x") is None
    assert saga.execute(Plain(n=1), saga_id="x", store=store).ok


def test_a_contexts_class_that_was_renamed_is_found_by_its_alias(store: Store) -> None:
    watched = Watched(MemoryStore())
    Saga("s").add_task(step(lambda: 1, name="a", in_doubt=InDoubt.RERUN)).execute(Plain(n=1), saga_id="x", store=watched)  # type: ignore[arg-type]
    first = watched.writes[0].entries
    payload = first[0].payload.replace(":Plain", ":Former")
    watched.writes[0].entries = (type(first[0])(1, first[0].kind, None, payload, first[0].at), *first[1:])
    expired(store, watched.writes[:1])
    codec = Codec().alias(f"{__name__}:Former", Plain)
    saga = Saga("s", codec=codec).add_task(step(lambda context: type(context).__name__, name="a", in_doubt=InDoubt.RERUN))
    (result,) = Recovery(store, [saga]).run_once()
    assert result.results == {"a": "Plain"}


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ({"lock": threading.Lock()}, ["context.lock", "_thread.lock"]),
        ({"ok": 1, "deep": {"list": [1, object()]}}, ["context.deep['list'][1]", "object"]),
        ({"line": Line("a", [Handle("k")])}, ["context.line.amounts[0]", "Handle"]),  # type: ignore[list-item]
        ({"function": lambda: 1}, ["context.function", "function"]),
    ],
)
def test_an_input_that_cannot_be_stored_is_refused_before_anything_runs(store: Store, values: Any, texts: list[str]) -> None:
    ran: list[int] = []
    saga = Saga("s").add_task(step(lambda: ran.append(1), name="a"))
    with pytest.raises(EncodingError) as caught:
        saga.execute(values, saga_id="x", store=store)
    assert all(text in str(caught.value) for text in texts), str(caught.value)
    assert not ran
    assert store.get("x") is None
    assert saga.execute({}, saga_id="x", store=store).ok  # the id is still free


@pytest.mark.parametrize("timeout", [None, 30.0])
@pytest.mark.parametrize("where", ["result", "change", "both"])
@pytest.mark.parametrize("policies", [{}, {"retry": Retry(3)}, {"on_error": Skip}])
def test_a_step_whose_outcome_cannot_be_stored_is_undone_though_it_returned(
    store: Store, where: str, timeout: float | None, policies: dict[str, Any]
) -> None:
    """It has had its effect: it is neither repeated nor passed over, and its changes are taken back."""
    calls: list[str] = []
    seen: list[dict[str, Any]] = []

    def work(context: Context) -> Any:
        calls.append("a")
        context["good"] = 1
        context["list"].append(2)
        del context["gone"]
        if where != "result":
            context["deep"] = {"key": [threading.Lock()]}
        return {"handle": Handle("k")} if where != "change" else 1

    def undo(result: Any, context: Context) -> None:
        calls.append("-a")
        seen.append({"result": result, **context})

    flow = step(work, undo, name="a", timeout=timeout, **policies)
    saga = Saga("s").add_task(step(lambda: 0, lambda: calls.append("-first"), name="first")).add_task(flow)
    saga.add_task(step(lambda: calls.append("b"), name="b"))
    result = saga.try_execute({"list": [1], "gone": 0}, saga_id="x", store=store)
    assert calls == ["a", "-a", "-first"]
    assert seen == [{"result": None, "list": [1], "gone": 0}]
    assert result.status is Status.COMPENSATED
    assert result.failed_step == "a"
    assert isinstance(result.error, EncodingError)
    place, kind = (
        ("context.deep['key'][0]", "_thread.lock") if where == "change" else ("the result of step 'a'['handle']", "Handle")
    )
    assert place in str(result.error)
    assert kind in str(result.error)
    assert result.context == {"list": [1], "gone": 0}
    (failed,) = [json.loads(entry.payload) for entry in store.journal("x") if entry.kind == "StepFailed"]
    assert failed["executed"] is True
    assert "changes" not in failed


def test_a_branch_whose_outcome_cannot_be_stored_is_undone_with_its_siblings(store: Store) -> None:
    calls: list[str] = []

    def work(context: Context) -> None:
        context["handle"] = Handle("k")

    def sibling(context: Context) -> None:
        context["sibling"] = 1

    flow = parallel(step(work, lambda: calls.append("-a"), name="a"), step(sibling, lambda: calls.append("-b"), name="b"))
    result = Saga("s").add_task(flow).try_execute(store=store)
    assert sorted(calls) == ["-a", "-b"]
    assert result.status is Status.COMPENSATED
    assert "handle" not in result.context


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_what_a_failing_step_leaves_that_cannot_be_stored_is_taken_back(
    store: Store, caplog: pytest.LogCaptureFixture, timeout: float | None
) -> None:
    seen: list[dict[str, Any]] = []

    def work(context: Context) -> None:
        seen.append(dict(context))
        if len(seen) == 1:
            context["n"] = 2
            context["handle"] = Handle("k")
            raise ValueError

    saga = Saga("s").add_task(step(work, name="a", retry=Retry(2), timeout=timeout))
    result = saga.execute({"n": 1}, saga_id="x", store=store)
    assert seen == [{"n": 1}, {"n": 1}]
    assert result.context == {"n": 1}
    assert "changes to the context of saga x are taken back" in caplog.text
    assert "context.handle" in caplog.text


def test_what_a_failing_step_leaves_that_can_be_stored_is_stored(store: Store) -> None:
    def work(context: Context) -> int:
        context["tries"] = context.get("tries", 0) + 1
        if context["tries"] < 3:
            raise ValueError
        return context["tries"]

    def build() -> Saga:
        saga = Saga("s").add_task(step(work, name="a", retry=Retry(5), in_doubt=InDoubt.RERUN))
        return saga.add_task(step(lambda context: context["tries"], name="b", in_doubt=InDoubt.RERUN))

    watched = Watched(MemoryStore())
    build().execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    for count in range(1, len(watched.writes)):
        again = MemoryStore()
        expired(again, watched.writes[:count])
        (result,) = Recovery(again, [build()]).run_once()
        assert result.results == {"a": 3, "b": 3}


def test_what_a_compensation_leaves_that_cannot_be_stored_is_taken_back(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def undo(context: Context) -> None:
        context["undone"] = 1
        context["handle"] = Handle("k")

    def fail() -> None:
        raise ValueError

    saga = Saga("s").add_task(step(lambda: 1, lambda context: context.update(last=True), name="a"))
    result = saga.add_task(step(lambda: 1, undo, name="b")).add_task(step(fail, name="c")).try_execute(store=store)
    assert result.status is Status.COMPENSATED
    assert result.context == {"last": True}
    assert "context.handle" in caplog.text


def with_handles() -> Codec:
    return Codec().register(Handle, lambda handle: handle.key, Handle, name="handle")


def test_registered_types_are_stored_their_way(store: Store) -> None:
    def build() -> Saga:
        def put(context: Context) -> Handle:
            context["b"] = [Handle("b")]
            return Handle("c")

        saga = Saga("s", codec=with_handles()).add_task(step(put, name="put"))
        return saga.add_task(
            step(lambda r, context: [context["a"].key, context["b"][0].key, r.key], name="look", in_doubt=InDoubt.RERUN)
        )

    for result in both_ways(build, {"a": Handle("a")}):
        assert result.results["look"] == ["a", "b", "c"]
        assert type(result.context["a"]) is Handle


def test_a_type_that_cannot_be_read_back_fails_the_step_and_changes_nothing(store: Store) -> None:
    def refuse(stored: Any) -> Handle:
        raise ValueError("not again")

    def put(context: Context) -> None:
        context["a"] = [1]
        context["b"] = Handle("b")

    codec = Codec().register(Handle, lambda handle: handle.key, refuse, name="handle")
    seen: list[dict[str, Any]] = []
    flow = step(put, lambda context: seen.append(dict(context)), name="a")
    result = Saga("s", codec=codec).add_task(flow).try_execute({"a": [0]}, saga_id="x", store=store)
    assert isinstance(result.error, EncodingError)
    assert result.status is Status.COMPENSATED
    assert seen == [{"a": [0]}]


def test_a_value_of_a_renamed_class_is_found_by_its_alias(store: Store) -> None:
    watched = Watched(MemoryStore())

    def build(codec: Codec) -> Saga:
        return Saga("s", codec=codec).add_task(step(lambda context: context["line"].item, name="a", in_doubt=InDoubt.RERUN))

    build(Codec()).execute({"line": Line("apple")}, saga_id="x", store=watched)  # type: ignore[arg-type]
    first = watched.writes[0].entries
    payload = first[0].payload.replace(":Line", ":Position")
    watched.writes[0].entries = (type(first[0])(1, first[0].kind, None, payload, first[0].at), *first[1:])
    expired(store, watched.writes[:1])
    (result,) = Recovery(store, [build(Codec().alias(f"{__name__}:Position", Line))]).run_once()
    assert result.results == {"a": "apple"}


def test_the_same_input_is_told_by_what_is_stored(store: Store) -> None:
    saga = Saga("s", codec=with_handles()).add_task(step(lambda: 1, name="a"))
    saga.execute({"h": Handle("k")}, saga_id="x", store=store)
    assert saga.execute({"h": Handle("k")}, saga_id="x", store=store).ok
    with pytest.raises(SagaIdTakenError):
        saga.execute({"h": Handle("other")}, saga_id="x", store=store)


@pytest.mark.parametrize(
    "value", [deque([1]), OrderedDict(a=1), Point(1, ["a"]), [1], {"a": [1]}, {1}, bytearray(b"a"), Line("a", [Decimal(1)])]
)
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_a_branch_does_not_see_what_its_sibling_changes_in_place(value: Any, timeout: float | None, store: Store) -> None:
    changed = threading.Event()

    def change(context: Context) -> None:
        held = context["value"]
        if isinstance(held, deque | bytearray):
            held.append(2)
        elif isinstance(held, Point):
            held.tags.append("b")
        elif isinstance(held, dict):
            held["b"] = 2
        elif isinstance(held, set):
            held.add(2)
        elif isinstance(held, Line):
            held.amounts.append(Decimal(2))
        else:
            held.append(2)
        changed.set()

    def look(context: Context) -> bool:
        assert changed.wait(PATIENCE)
        return bool(context["value"] == value)

    flow = parallel(step(change, name="a", timeout=timeout), step(look, name="b", timeout=timeout))
    result = Saga("s").add_task(flow).execute({"value": value}, store=store)
    assert result.results["b"] is True
    assert result.context["value"] != value


def test_a_limited_step_that_removes_a_key_removes_it_for_good(store: Store) -> None:
    def remove(context: Context) -> None:
        del context["gone"]
        context["list"].append(2)

    def build() -> Saga:
        saga = Saga("s").add_task(step(remove, name="a", timeout=30.0))
        return saga.add_task(step(lambda context: sorted(context), name="b", timeout=30.0, in_doubt=InDoubt.RERUN))

    for result in both_ways(build, {"gone": 1, "list": [1]}):
        assert result.results["b"] == ["list"]
        assert result.context == {"list": [1, 2]}


def test_what_a_recovered_step_changes_is_told_from_what_was_there(store: Store) -> None:
    """After a recovery, too, only what a step changed is stored."""
    watched = Watched(MemoryStore())

    def build() -> Saga:
        saga = Saga("s").add_task(step(lambda context: context.update(a=(1, 2)), name="a"))
        return saga.add_task(step(lambda context: context.update(b=2), name="b", in_doubt=InDoubt.RERUN))

    build().execute({"big": {1, 2, 3}, "line": Line("x")}, saga_id="x", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:2])
    Recovery(store, [build()]).run_once()
    done = [json.loads(entry.payload) for entry in store.journal("x") if entry.kind == "StepSucceeded"]
    assert done[-1]["changes"] == [["b", 2]]


def test_an_error_of_another_process_keeps_its_story(store: Store) -> None:
    watched = Watched(MemoryStore())

    def fail() -> None:
        raise ValueError("no stock")

    def build() -> Saga:
        return Saga("s").add_task(step(lambda: 1, lambda: None, name="a")).add_task(step(fail, name="b"))

    build().try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:-1])
    (result,) = Recovery(store, [build()]).run_once()
    assert result.status is Status.COMPENSATED
    assert (type(result.error), str(result.error)) == (ValueError, "no stock")
    assert "in fail" in result.report()


def test_logging_is_silent_where_nothing_is_taken_back(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "saga"):
        Saga("s").add_task(step(lambda: 1, name="a")).execute(store=store)
    assert caplog.records == []
