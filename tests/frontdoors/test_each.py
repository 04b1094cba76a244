"""``each``: what is done for each item of a list that is known when the saga comes to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Skip, Status, Task, each, fallback, parallel, receive, sequence, step
from saga.errors import ActionRefusedError, ContextKeyError, SagaDefinitionError
from saga.events import StepStarted
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, Store
from saga.worker import Worker
from tests.kit import in_memory_or_sqlite, saga_of
from tests.kit.stores import Watched

ITEMS = ["apple", "pear", "plum"]


@pytest.fixture(params=["no store", "memory", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store | None]:
    if request.param == "no store":
        yield None
        return
    with in_memory_or_sqlite(request.param, tmp_path) as store:
        yield store


def ended(saga: Saga, items: Any = ITEMS, in_loop: bool = False) -> Any:
    context = Context(fruits=items)
    return asyncio.run(saga.atry_execute(context)) if in_loop else saga.try_execute(context)


class World:
    """What is outside: what was shipped, in order, and taken back."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def step(self, name: str = "ship", **policies: Any) -> Any:
        def ship(item: str) -> str:
            self.log.append(item)
            if item.startswith("bad"):
                raise ValueError(item)
            return item.upper()

        def take_back(own: str) -> None:
            self.log.append(f"-{own}")

        return step(ship, take_back, name=name, **policies)

    def astep(self, name: str = "ship") -> Any:
        async def ship(item: str) -> str:
            self.log.append(item)
            if item.startswith("bad"):
                raise ValueError(item)
            return item.upper()

        async def take_back(own: str) -> None:
            self.log.append(f"-{own}")

        return step(ship, take_back, name=name)


@pytest.fixture(params=["sync", "async"])
def in_loop(request: pytest.FixtureRequest) -> bool:
    return request.param == "async"


class Fetch(Task[list[str]]):
    def execute(self, context: Context) -> list[str]:
        return list(context.fruits)


async def asked(context: Context) -> list[str]:
    return list(context.fruits)


# -- what is listed, and what comes of it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    ["fruits", Fetch, lambda context: context.fruits, lambda context: (fruit for fruit in context.fruits), asked],
    ids=["a key", "a task's result", "a function", "a function's generator", "a coroutine function"],
)
def test_items_are_those_of_a_key_a_result_or_a_function(items: Any, kept: Store | None, in_loop: bool) -> None:
    world = World()
    got: list[Any] = []
    flow = [Fetch, each(items, world.astep() if in_loop else world.step()), step(got.append, name="after")]
    result = ended(saga_of(*flow, store=kept), in_loop=in_loop or items is asked)
    assert (result.status, sorted(world.log)) == (Status.COMPLETED, ITEMS)
    assert got == [["APPLE", "PEAR", "PLUM"]]
    assert result.context.result_of("ship") == result.results["ship"] == got[0]
    assert result.results["ship[1]"] == result.context.result_of("ship[1]") == "PEAR"
    assert [record.name for record in result.history] == ["Fetch", "ship", "ship[0]", "ship[1]", "ship[2]", "after"]


def test_an_empty_list_goes_on_at_once(kept: Store | None) -> None:
    got: list[Any] = []
    result = ended(saga_of(each("fruits", World().step()), step(got.append, name="after"), store=kept), [])
    assert (result.status, got, result.results["ship"]) == (Status.COMPLETED, [[]], [])


def test_steps_are_called_by_a_key_and_know_their_item(kept: Store | None) -> None:
    seen: dict[str, Any] = {}

    def look(context: Context, before: str) -> str:
        seen[context.step.name] = (context.step.item, before, context.result_of("ship"))
        return before.lower()

    def undo(context: Context) -> None:
        seen[f"-{context.step.name}"] = context.step.item

    flow = sequence(World().step(), step(look, undo))
    saga = saga_of(each("fruits", flow, name="all", key=lambda fruit: fruit[:2]), step(fail, name="after"), store=kept)
    assert ended(saga).status is Status.COMPENSATED
    assert seen == {f"all[{fruit[:2]}]/look": (fruit, fruit.upper(), fruit.upper()) for fruit in ITEMS} | {
        f"-all[{fruit[:2]}]/look": fruit for fruit in ITEMS
    }


def test_nobody_else_has_an_item() -> None:
    assert saga_of(step(lambda context: context.step.item, name="a")).execute().results == {"a": None}


def test_outside_of_its_branch_a_step_is_one_of_several() -> None:
    saga = saga_of(each("fruits", Noted), step(lambda context: context.result_of(Noted), name="after"))
    result = ended(saga)
    assert isinstance(result.error, ContextKeyError)
    assert "3 steps match Noted" in str(result.error)


class Noted(Task[str]):
    def execute(self, context: Context) -> str:
        context[context.step.item] = context.step.item
        return str(context.step.item)


def test_each_branch_has_a_view_of_its_own_and_all_are_merged(kept: Store | None) -> None:
    def alone(context: Context) -> list[str]:
        return sorted(set(context) - {"fruits"})

    result = ended(saga_of(each("fruits", sequence(Noted, step(alone)), name="all"), store=kept))
    assert result.results["all"] == [["apple"], ["pear"], ["plum"]]
    assert {*result.context} == {"fruits", *ITEMS}


def test_lists_in_lists(kept: Store | None) -> None:
    def crates(context: Context) -> list[str]:
        return [f"{context.step.item}{number}" for number in (1, 2)]

    inner = each(crates, step(lambda crate: crate.upper(), name="crate"))
    flow = each("fruits", sequence(inner, step(lambda all: "+".join(all), name="sum")), name="fruit", limit=2)
    result = ended(saga_of(flow, store=kept), ["a", "b"])
    assert result.results["fruit"] == ["A1+A2", "B1+B2"]
    assert [record.name for record in result.history][:5] == [
        "fruit",
        "fruit[0]/crate",
        "fruit[0]/crate[0]",
        "fruit[0]/crate[1]",
        "fruit[0]/sum",
    ]


@pytest.mark.parametrize(
    "flow",
    [
        lambda world: fallback(world.step(), step(lambda: "nothing", name="instead")),
        lambda world: parallel(world.step(), step(lambda: None, name="beside")),
        lambda world: sequence(parallel(world.step(), step(lambda: 1, name="b"), limit=1), step(lambda both: both, name="c")),
        lambda world: Saga("inner").add_task(world.step()).add_task(world.step("again")),
    ],
    ids=["a fallback", "a group", "a group with a limit", "a saga"],
)
def test_any_flow_is_done_for_each(flow: Any, kept: Store | None) -> None:
    world = World()
    result = ended(saga_of(each("fruits", flow(world), name="all"), step(fail), store=kept))
    assert result.status is Status.COMPENSATED
    done = [line for line in world.log if not line.startswith("-")]
    undone = [line for line in world.log if line.startswith("-")]
    assert len(undone) == len(done) >= 3


@pytest.mark.parametrize("limit", [1, None])
def test_each_item_may_wait_for_a_signal_of_its_own(limit: int | None) -> None:
    store = MemoryStore()
    saga = saga_of(each("fruits", receive("ripe"), limit=limit), store=store)
    saga.submit({"fruits": ["apple", "pear"]}, saga_id="s1")
    for value in (1, 2):
        saga.signal("s1", "ripe", value)
    Worker(store, [saga]).run_once()
    assert saga.load("s1").results["ripe"] == [1, 2]


def fail() -> None:
    raise ValueError


# -- how it goes wrong ----------------------------------------------------------------------------------------------------


def test_when_a_branch_fails_the_others_are_undone_last_first(kept: Store | None, in_loop: bool) -> None:
    world = World()
    saga = saga_of(each("fruits", world.astep() if in_loop else world.step(), limit=1), store=kept)
    result = ended(saga, ["apple", "pear", "bad", "never"], in_loop)
    assert (result.status, result.failed_step) == (Status.COMPENSATED, "ship[2]")
    assert world.log == ["apple", "pear", "bad", "-PEAR", "-APPLE"]


def test_branches_can_be_undone_together() -> None:
    meet = threading.Barrier(3)
    flow = each("fruits", step(lambda fruit: fruit, lambda own: meet.wait(10.0), name="ship"), compensate_together=True)
    assert ended(saga_of(flow, step(fail))).status is Status.COMPENSATED


@pytest.mark.parametrize(
    ("items", "key", "wrong"),
    [
        (5, None, "items are int; give a list"),
        ("apple", None, "items are str; give a list"),
        ({"a": 1}, None, "items are dict; give a list"),
        (["a", "a"], str, "two items have the key 'a'"),
        ([1], lambda item: item, "a key is 1"),
        (["long"], lambda item: item * 50, "'longlonglonglonglong'... makes a step's name of more than 200 characters"),
    ],
)
def test_what_is_no_list_or_has_no_keys_fails_the_step_that_lists(items: Any, key: Any, wrong: str, kept: Any) -> None:
    result = ended(saga_of(each("fruits", World().step(), key=key), store=kept), items)
    assert (result.status, result.failed_step) == (Status.COMPENSATED, "ship")
    assert wrong in str(result.error)


def test_a_branch_that_is_skipped_has_no_result(kept: Store | None, in_loop: bool) -> None:
    """It has that of the step before, which is its item; in the list that would stand for something done."""
    work = World()
    ship = (work.astep() if in_loop else work.step()) | Skip
    got: list[Any] = []
    saga = saga_of(each("fruits", ship), step(got.append, name="after"), store=kept)
    assert ended(saga, ["apple", "bad pear", "plum"], in_loop).status is Status.COMPLETED
    assert got == [["APPLE", None, "PLUM"]]


def test_what_cannot_be_listed_may_be_skipped(kept: Store | None) -> None:
    after: list[Any] = []
    saga = Saga("s", store=kept, on_error=Skip).add_task(each("fruits", World().step()))
    assert saga.try_execute({"fruits": 5}).status is Status.COMPLETED
    result = saga.add_task(step(lambda: after.append(1), name="after")).try_execute({"fruits": 5})
    assert (result.status, after) == (Status.COMPLETED, [1])


# -- what is stored -------------------------------------------------------------------------------------------------------


def test_the_list_is_stored_with_what_begins_first() -> None:
    store = Watched(MemoryStore())
    saga_of(each("fruits", World().step(), limit=2), store=store).execute({"fruits": ITEMS})
    commits = [[(entry.kind, entry.step) for entry in write.entries] for write in store.writes]
    (listed,) = [commit for commit in commits if ("StepSucceeded", "ship") in commit]
    assert listed == [("StepSucceeded", "ship"), (StepStarted.__name__, "ship[0]"), (StepStarted.__name__, "ship[1]")]


def build(effects: Any, last: Any = None) -> Saga:
    """A saga that has two branches, of two steps each."""
    branch = sequence(effects.step("b"), effects.step("c"))
    return saga_of(effects.step("a"), each(lambda context: [1, 2], branch, name="all", limit=1), effects.step("e", last))


def test_wherever_the_process_dies_all_is_undone(crashes: Any) -> None:
    for crash in crashes(lambda effects: build(effects, ValueError())):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status == "compensated", (crash, crash.kinds)


@pytest.mark.parametrize("at", ["b[0]", "b[1]", "b[2]", "last"])
def test_the_list_is_made_once_wherever_the_process_dies(left: Any, at: str) -> None:
    made: list[int] = []

    def items(context: Context) -> list[int]:
        made.append(1)
        return [len(made)] * 3

    again = {"in_doubt": InDoubt.RERUN}
    branch, last = step(lambda item: item, name="b", **again), step(lambda all: all, name="last", **again)
    store = left(saga := saga_of(each(items, branch, limit=1), last), at)
    Recovery(store, [saga]).run_once()
    found = saga.load("o-1", store=store)
    assert (found.status, found.results["last"], made) == (Status.COMPLETED, [1, 1, 1], [1])


def test_a_list_that_was_being_made_when_the_process_died_is_made_again(left: Any) -> None:
    store = left(saga := saga_of(each(lambda context: [1], step(lambda item: item, name="b"))), "b")
    Recovery(store, [saga]).run_once()
    assert saga.load("o-1", store=store).results == {"b": [1], "b[0]": 1}


def test_what_is_stored_is_shown_with_the_steps_of_each_item(left: Any) -> None:
    listed = each(lambda context: ["x", "y"], step(lambda item: item, name="b"), limit=1)
    store = left(saga := saga_of(listed, step(fail, name="after")), "b[1]")
    shown = Operations(store, "me", sagas=[saga]).show("o-1")
    assert [(one.name, one.path) for one in shown.steps] == [
        ("b", ()),
        ("b[0]", ("for each: b[0]",)),
        ("b[1]", ("for each: b[1]",)),
        ("after", ()),
    ]


def test_an_undo_back_to_before_a_list_is_refused(kept: Store | None) -> None:
    if kept is None:
        return
    saga = saga_of(step(lambda: None, name="a"), each("fruits", World().step()), store=kept)
    saga.execute({"fruits": ITEMS}, saga_id="s1")
    with pytest.raises(ActionRefusedError, match="'ship' lists what steps are done for"):
        saga.undo("s1", to="a", who="me", why="because")
    assert saga.undo("s1", who="me", why="because").status is Status.COMPENSATED


# -- what is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "wrong"),
    [
        (lambda: each("fruits", sequence(step(fail), step(fail, name="b"))), "give it a name="),
        (lambda: each(5, step(fail)), "items is 5"),
        (lambda: each(lambda: [], step(fail)), "items"),
        (lambda: each("fruits", step(fail), key="sku"), "key is 'sku'"),
        (lambda: each("fruits", step(fail), limit=0), "limit is 0"),
        (lambda: each("fruits", step(fail, pivot=True)), "a pivot stands in a parallel group"),
        (lambda: sequence(each("fruits", step(fail)), step(fail, name="fail[0]")), "'fail\\[0\\]'.*have such names"),
        (lambda: sequence(each("fruits", step(fail)), step(fail)), "the name is used twice"),
    ],
)
def test_what_is_wrong_is_refused_when_the_saga_is_made(flow: Any, wrong: str) -> None:
    with pytest.raises(SagaDefinitionError, match=wrong):
        _ = saga_of(flow()).plan


def test_a_definition_depends_on_what_is_done_for_each() -> None:
    def fingerprint(flow: Any, **more: Any) -> str:
        return saga_of(each("fruits", flow, name="all", **more)).plan.fingerprint

    ship, other = World().step(), World().step(compensate_on_failure=True)
    assert fingerprint(ship) == fingerprint(ship, limit=2, key=str)
    flows = [ship, other, sequence(ship), sequence(ship, step(fail))]
    assert len({*map(fingerprint, flows), fingerprint(ship, compensate_together=True)}) == 5
