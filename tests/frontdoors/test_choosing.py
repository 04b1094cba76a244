"""``choose(by, ways)``: a step decides by which flow the saga goes on, once and for all processes that go on with it."""

from __future__ import annotations

import asyncio
import json
from enum import Enum, StrEnum
from typing import Any

import pytest

from saga import (
    Context,
    Effect,
    InDoubt,
    Saga,
    Skip,
    Status,
    StepStatus,
    Task,
    choose,
    fallback,
    parallel,
    saga_step,
    sequence,
    step,
    transaction,
)
from saga.errors import ContextKeyError, NoWayError, SagaDefinitionError
from saga.events import WayChosen
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from saga.testing import explore, with_stand_ins
from tests.kit import Watch, saga_of


class Wrapping(Enum):
    GOLD = "gold"
    PLAIN = "plain"


class Speed(StrEnum):
    FAST = "fast"


# -- which way --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True], ids=["kept in memory", "stored"])
@pytest.mark.parametrize(
    ("value", "taken", "way"),
    [
        ("gold", "b", "'gold'"),
        (1, "c", "1"),
        (True, "c", "1"),
        (None, "d", "None"),
        (Wrapping.GOLD, "e", "Wrapping.GOLD"),
        (Speed.FAST, "f", "Speed.FAST"),
        ("fast", "f", "Speed.FAST"),
        ("silver", "g", "otherwise"),
        (Wrapping.PLAIN, "g", "otherwise"),
        ("", "g", "otherwise"),
    ],
)
def test_the_way_of_what_was_decided_is_taken_and_no_other(calls: Any, stored: bool, value: Any, taken: str, way: str) -> None:
    values = ("gold", 1, None, Wrapping.GOLD, Speed.FAST)
    ways = {one: calls.step(name) for one, name in zip(values, "bcdef", strict=True)}
    watch = Watch()
    saga = saga_of(calls.step("a"), choose("kind", ways, calls.step("g")), calls.step("h"), logger=watch)
    result = calls.run(saga, {"kind": value}, **({"store": MemoryStore()} if stored else {}))
    assert result.ok
    assert calls.log == ["a", taken, "h"]
    assert result.context.result_of("choose kind") == value
    assert [(event.step, event.way) for event in watch.of(WayChosen)] == [("choose kind", way)]
    assert result.effects["choose kind"] is Effect.NONE
    pending = {record.name for record in result.history if record.status is StepStatus.PENDING}
    assert pending == set("bcdefg") - {taken}


def test_a_function_of_the_context_decides_and_is_called_once(calls: Any) -> None:
    asked = []

    def weighs(context: Context) -> bool:
        asked.append(context.step.name)
        return bool(context.weight > 30)

    async def aweighs(context: Context) -> bool:
        await asyncio.sleep(0)
        return weighs(context)

    by = aweighs if calls.in_loop else weighs
    saga = saga_of(choose(by, {True: calls.step("freight"), False: calls.step("parcel")}, name="weighs"))
    assert calls.run(saga, {"weight": 31}).results == {"weighs": True, "freight": "result of freight"}
    assert (calls.log, asked) == (["freight"], ["weighs"])


def test_what_a_step_returned_decides(calls: Any) -> None:
    class Check(Task[str]):
        def execute(self, context: Context) -> str:
            return "risky"

    ways = {"risky": calls.step("b"), "sound": calls.step("c")}
    saga = saga_of(Check, choose(lambda context: context.result_of(Check), ways, name="judge"))
    assert calls.run(saga).ok
    assert calls.log == ["b"]


@pytest.mark.parametrize("nothing", [sequence(), (), []], ids=repr)
@pytest.mark.parametrize("shape", ["last", "between", "in a branch", "otherwise"])
def test_a_way_with_nothing_on_it_goes_on(calls: Any, nothing: Any, shape: str) -> None:
    choice = choose("gift", {True: calls.step("wrap"), False: nothing})
    if shape == "otherwise":
        choice = choose("gift", {True: calls.step("wrap")}, nothing)
    flows = {
        "last": (calls.step("a"), choice),
        "between": (choice, calls.step("a")),
        "in a branch": (parallel(choice, calls.step("a")),),
        "otherwise": (choice, calls.step("a")),
    }
    assert calls.run(saga_of(*flows[shape]), {"gift": False}).ok
    assert calls.log == ["a"]


@pytest.mark.parametrize("shape", ["sequence", "group", "saga", "fallback", "choice"])
def test_a_way_may_be_any_flow_and_is_undone_with_the_rest(calls: Any, shape: str) -> None:
    one, two = calls.step("b"), calls.step("c")
    flows = {
        "sequence": lambda: (one, two),
        "group": lambda: parallel(one, two),
        "saga": lambda: saga_of(one, two),
        "fallback": lambda: sequence(fallback(calls.step("x", OSError(), undo=False), one), two),
        "choice": lambda: choose("k", {1: sequence(one, two)}, name="inner"),
    }
    saga = saga_of(calls.step("a"), choose("k", {1: flows[shape](), 2: calls.step("y")}), calls.step("d", ValueError()))
    result = calls.run(saga, {"k": 1})
    assert result.status is Status.COMPENSATED
    log = [name for name in calls.log if name != "x"]
    assert (sorted(log[1:3]), log[3], sorted(log[4:6]), log[6]) == (["b", "c"], "d", ["-b", "-c"], "-a")


def test_the_step_after_gets_the_result_of_whichever_step_came_before(plain: Any) -> None:
    told = step(lambda before: before, name="told")
    for value, before in ((1, "result of b"), (2, "result of c"), (3, 3)):
        ways = {1: plain.step("b"), 2: parallel(plain.step("x"), plain.step("c")), 3: sequence()}
        result = plain.run(saga_of(plain.step("a"), choose("k", ways), told), {"k": value})
        expected = ("result of x", "result of c") if value == 2 else before
        assert result.results["told"] == expected
    first = choose("k", {"gold": step(lambda decided: decided, name="first")})
    assert plain.run(saga_of(plain.step("a"), first), {"k": "gold"}).results["first"] == "gold"


def test_choices_in_branches_and_one_after_the_other(calls: Any) -> None:
    left = choose("left", {1: calls.step("b"), 2: calls.step("c")})
    right = sequence(choose("right", {1: calls.step("d"), 2: calls.step("e")}), calls.step("f"))
    saga = saga_of(parallel(left, right), choose("then", {1: calls.step("g"), 2: calls.step("h")}))
    assert calls.run(saga, {"left": 1, "right": 2, "then": 2}).ok
    assert (sorted(calls.log[:3]), calls.log[3:]) == (["b", "e", "f"], ["h"])


def test_a_choice_may_be_what_is_done_instead(calls: Any) -> None:
    instead = choose("k", {1: calls.step("c"), 2: calls.step("d")})
    assert calls.run(saga_of(fallback(calls.step("b", OSError()), instead), calls.step("e")), {"k": 2}).ok
    assert calls.log == ["b", "d", "e"]


def test_a_declared_saga_chooses_by_its_methods() -> None:
    class Parcel(Saga):
        most = 30

        def decide(self, context: Context) -> str:
            return "heavy" if context.weight > self.most else "light"

        @saga_step
        def freight(self) -> str:
            return "by freight"

        @saga_step
        def post(self) -> str:
            return "by post"

        def flow(self) -> Any:
            return choose(self.decide, {"heavy": self.freight, "light": sequence(self.post)})

    assert Parcel().execute({"weight": 31}).results == {"decide": "heavy", "freight": "by freight"}
    assert Parcel().execute({"weight": 3}).results == {"decide": "light", "post": "by post"}


# -- no way -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("silver", "no way is for 'silver'; ways: 'gold', Wrapping.PLAIN, 0; add one for it, or give otherwise="),
        (True, "no way is for True"),
        (1.5, "it was decided by 1.5 (float), which is not a str, an int, a bool, a member of an Enum or None"),
        (["gold"], "it was decided by ['gold'] (list)"),
        ("x" * 500, "xxx…; ways"),
    ],
)
@pytest.mark.parametrize("otherwise", [False, True])
def test_what_no_way_is_for_fails_the_saga_and_names_the_ways(calls: Any, value: Any, text: str, otherwise: bool) -> None:
    ways = {"gold": calls.step("b"), Wrapping.PLAIN: calls.step("c"), 0: calls.step("d")}
    saga = saga_of(calls.step("a"), choose("kind", ways, calls.step("o") if otherwise else None))
    result = calls.run(saga, {"kind": value})
    if otherwise and "way" in text:
        assert (result.ok, calls.log) == (True, ["a", "o"])
        return
    assert (result.status, result.failed_step) == (Status.COMPENSATED, "choose kind")
    assert isinstance(result.error, NoWayError)
    assert text in str(result.error)
    assert calls.log == ["a", "-a"]


@pytest.mark.parametrize("error", [ConnectionError("lost"), KeyError("k")])
def test_a_decision_that_fails_leaves_no_doubt(calls: Any, error: Exception) -> None:
    def by(context: Context) -> str:
        raise error

    result = calls.run(saga_of(calls.step("a"), choose(by, {"gold": calls.step("b")})))
    assert (result.status, result.error, result.in_doubt) == (Status.COMPENSATED, error, ())
    assert result.history[1].status is StepStatus.FAILED
    assert calls.log == ["a", "-a"]


def test_a_decision_that_is_skipped_takes_no_way(calls: Any) -> None:
    saga = Saga("s", on_error=Skip).add_task(choose("kind", {1: calls.step("b")})).add_task(calls.step("c"))
    assert calls.run(saga, {"kind": 2}).ok
    assert calls.log == ["c"]


# -- in a store -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["short", "group", "nothing"])
@pytest.mark.parametrize("fails", [False, True])
def test_wherever_the_process_dies_the_way_that_was_chosen_is_taken(crashes: Any, way: str, fails: bool) -> None:
    """The world decides otherwise each time that it is asked, and only what is stored holds."""
    decided = iter([way, *["short", "group"] * 100])

    def build(effects: Any) -> Saga:
        def make(name: str, during: Any = None) -> Any:
            return effects.step(name, during, in_doubt=InDoubt.RERUN)

        ways = {"short": make("b"), "group": parallel(make("c"), make("d")), "nothing": sequence()}
        choice = choose(lambda context: next(decided), ways, name="choice")
        return saga_of(make("a"), choice, make("e", ValueError() if fails else None))

    done: dict[str, set[str]] = {"short": {"b"}, "group": {"c", "d"}, "nothing": set()}
    seen = 0
    for crash in crashes(build):
        found = [json.loads(one.payload)["way"] for one in crash.store.journal("o-1") if one.kind == "WayChosen"]
        Recovery(crash.store, [crash.saga]).run_once()
        entries = crash.store.journal("o-1")
        chosen = [json.loads(one.payload)["way"] for one in entries if one.kind == "WayChosen"]
        assert chosen[: len(found)] == found
        assert len(chosen) == 1, (crash, crash.kinds)
        begun = {one.step for one in entries if one.kind == "StepStarted"}
        taken = done[chosen[0].strip("'")]
        assert begun == {"a", "choice", "e"} | taken, (crash, crash.kinds)
        assert crash.effects == (set() if fails else {"a", "e"} | taken), (crash, crash.kinds)
        seen += bool(found)
    assert seen


def test_what_an_operator_sees_of_a_choice() -> None:
    store = MemoryStore()
    ways = {"gold": step(lambda: 1, name="b"), "plain": step(lambda: 2, name="c")}
    saga = saga_of(choose("kind", ways, sequence(step(lambda: 3, name="d"))), step(lambda: 4, name="e"), store=store)
    saga.execute({"kind": "gold"}, saga_id="o-1")
    view = Operations(store, "ann", sagas=[saga]).show("o-1")
    paths = {one.name: one.path for one in view.steps}
    assert paths == {
        "choose kind": (),
        "b": ("choose kind: 'gold'",),
        "c": ("choose kind: 'plain'",),
        "d": ("choose kind: otherwise",),
        "e": (),
    }


def test_back_to_before_a_choice_decides_anew_and_forgets_what_the_other_way_left(calls: Any) -> None:
    store, kinds = MemoryStore(), iter([1, 2])

    def by(context: Context) -> int:
        return next(kinds)

    saga = saga_of(calls.step("a"), choose(by, {1: calls.step("b"), 2: calls.step("c")}), calls.step("d"), store=store)
    calls.run(saga, saga_id="o-1")
    saga.undo("o-1", "another wish", "a")
    Operations(store, "ann", sagas=[saga]).resume("o-1", "now")
    Recovery(store, [saga]).run_once()
    result = saga.load("o-1")
    assert result.ok
    assert calls.log == ["a", "b", "d", "-d", "-b", "c", "d"]
    with pytest.raises(ContextKeyError):
        result.context.result_of("b")


# -- in tests ---------------------------------------------------------------------------------------------------------


def test_a_stand_in_decides_in_place_of_the_function() -> None:
    def by(context: Context) -> str:
        raise AssertionError("the real one is asked")

    saga = saga_of(choose(by, {"gold": step(lambda: 1, name="b"), "plain": step(lambda: 2, name="c")}, name="kind"))

    async def later(context: Context) -> str:
        return "gold"

    assert with_stand_ins(saga, {"kind": lambda: "plain"}).execute().results == {"kind": "plain", "c": 2}
    assert with_stand_ins(saga, {by: lambda: "plain", "b": lambda: 5}).execute().results == {"kind": "plain", "c": 2}
    assert with_stand_ins(saga, {"kind": later}).execute().results == {"kind": "gold", "b": 1}
    result = with_stand_ins(saga, {"kind": lambda: "silver"}).try_execute()
    assert isinstance(result.error, NoWayError)


@pytest.mark.parametrize("kind", ["gold", "plain", "none"])
def test_exploring_takes_the_way_that_the_context_leads_to(kind: str) -> None:
    class World(set[str]):
        def state(self) -> set[str]:
            return set(self)

    def build(world: World) -> Saga:
        def make(name: str) -> Any:
            return step(lambda: world.add(name), lambda: world.discard(name), name=name)

        ways = {"gold": sequence(make("b"), make("c")), "none": sequence()}
        return saga_of(make("a"), choose("kind", ways, make("d")), make("e"))

    completed: set[frozenset[str]] = set()

    def at_end(world: World, result: Any) -> None:
        if result.ok:
            completed.add(frozenset(world))

    assert explore(build, {"kind": kind}, world=World, durable=True, at_end=at_end).failure is None
    assert completed == {frozenset("ae") | frozenset({"gold": "bc", "plain": "d"}.get(kind, ""))}


# -- what is wrong ----------------------------------------------------------------------------------------------------

B, C = step(lambda: 1, name="b"), step(lambda: 1, name="c")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: choose("kind", {}), "choose(): ways is {}; give a dict of values and flows"),
        (lambda: choose("kind", [("gold", B)]), "choose(): ways is [('gold', "),  # type: ignore[arg-type]
        (lambda: choose("kind", {1.5: B}), "choose(): a way is for 1.5 (float); give a str, an int, a bool"),
        (lambda: choose("kind", {"gold": 3}), "choose(): way 'gold': 3 (int) is not a task"),  # type: ignore[dict-item]
        (lambda: choose("kind", {"gold": B}, 3), "choose(): otherwise: 3 (int) is not a task"),  # type: ignore[arg-type]
        (lambda: choose(B, {"gold": B}), "choose(): by is "),  # type: ignore[arg-type]
        (lambda: choose(lambda: "gold", {"gold": B}), "choose(): by is "),  # type: ignore[arg-type, misc]
        (lambda: choose((one for one in "ab").__next__, {"gold": B}), "choose(): by is "),
        (
            lambda: choose(
                saga_step(
                    lambda self: 1,
                ),
                {1: B},
            ),
            "give a plain method, as choose(self.",
        ),  # type: ignore[arg-type, misc]
        (lambda: choose("kind", {1: B}, name=" "), "choose(): name is ' '"),
        (lambda: choose(" ", {1: B}), "choose(): by is ' '"),
        (lambda: choose("kind", {1: B}) | InDoubt.ASK, "choose kind is more than one step"),
        (lambda: saga_of(choose("kind", {1: B, 2: B})).plan, "step 'b': the name is used twice"),
        (lambda: saga_of(choose("kind", {1: B}), choose("kind", {1: C})).plan, "step 'choose kind': the name is used twice"),
        (lambda: saga_of(choose("kind", {1: Saga("inner")})).plan, "saga 'inner' has no steps"),
    ],
)
def test_what_is_wrong_is_refused_where_it_is_written(make: Any, text: str) -> None:
    with pytest.raises(SagaDefinitionError) as refused:
        make()
    assert text in str(refused.value)


def test_a_block_chooses_itself() -> None:
    with pytest.raises(SagaDefinitionError, match="which a block does itself; write if"), transaction("t") as tx:
        tx.parallel(choose("kind", {1: B}), C)


def test_a_generator_function_decides_nothing() -> None:
    def by(context: Context) -> Any:
        yield "gold"

    with pytest.raises(SagaDefinitionError, match="let it return what it decides"):
        choose(by, {"gold": B})


@pytest.mark.usefixtures("nothing_unawaited")
def test_a_function_that_returns_what_nobody_awaits_is_refused() -> None:
    async def later() -> str:
        return "gold"

    result = saga_of(choose(lambda context: later(), {"gold": B})).try_execute()
    assert "which nobody awaits; make it an `async def` which awaits it" in str(result.error)


def test_other_ways_are_another_flow() -> None:
    ways = [{1: B}, {2: B}, {"1": B}, {True: B}, {1: C}, {1: B, 2: C}, {1: C, 2: B}, {1: B, 2: ()}]
    plans = [saga_of(choose("k", one, **more)).plan for one in ways for more in ({}, {"otherwise": ()})]
    assert len({plan.fingerprint for plan in plans}) == len(plans)
