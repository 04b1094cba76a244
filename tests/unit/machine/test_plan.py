"""Plans: what follows what, what stands for which step, and the fingerprint that tells them apart."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Task, fallback, parallel, receive, sequence, step, timer
from saga.errors import SagaDefinitionError
from saga.machine import Group, OpenPlan, Plan, following
from tests.unit.machine.notation import A, B, C, D, L, P, R, T, X, at_most, do, plan_of, together

# -- links --------------------------------------------------------------------------------------------------------------


def followed(plan: Plan) -> dict[str, Any]:
    """Return for each step the names of those that follow it, the number of the group it ends a branch of, or ``None``."""

    def name(then: Any) -> Any:
        return then.index if isinstance(then, Group) else None if then is None else " ".join(step.name for step in then)

    return {step.name: name(step.then) for step in plan.steps} | {
        f"group {group.index}": name(group.then) for group in plan.groups
    }


@pytest.mark.parametrize(
    ("flow", "entry", "links"),
    [
        (A, "a", {"a": None}),
        ((A, B), "a", {"a": "b", "b": None}),
        ((sequence(A, B), C), "a", {"a": "b", "b": "c", "c": None}),
        (A & B, "a b", {"a": 0, "b": 0, "group 0": None}),
        ((A, B & C, D), "a", {"a": "b c", "b": 0, "c": 0, "d": None, "group 0": "d"}),
        ((A & B, C & D), "a b", {"a": 0, "b": 0, "c": 1, "d": 1, "group 0": "c d", "group 1": None}),
        (
            parallel(parallel(A, B), sequence(C, D)),
            "a b c",
            {"a": 1, "b": 1, "c": "d", "d": 0, "group 0": None, "group 1": 0},
        ),
        (at_most(2, sequence(A, B), C, D), "a c", {"a": "b", "b": 0, "c": 0, "d": 0, "group 0": None}),
        ((fallback(A, B), C), "a", {"a": "c", "b": "c", "c": None}),
        ((fallback(A, sequence(B, C)), D), "a", {"a": "d", "b": "c", "c": "d", "d": None}),
        (fallback(A, B & C), "a", {"a": None, "b": 0, "c": 0, "group 0": None}),
        (parallel(fallback(A, B), C), "a c", {"a": 0, "b": 0, "c": 0, "group 0": None}),
        ((T, R), "t", {"t": "r", "r": None}),
    ],
)
def test_every_step_knows_what_follows_it(flow: Any, entry: str, links: dict[str, Any]) -> None:
    plan = plan_of(flow)
    assert " ".join(step.name for step in plan.entry) == entry
    assert followed(plan) == links


def test_a_fallback_and_its_step_know_each_other() -> None:
    plan = plan_of(fallback(A, B & C, on=OSError))
    a, b, c = plan.steps
    assert (a.fallback, b.instead_of, c.instead_of, a.instead_of) == ((b, c), a, a, None)
    assert a.fallback_on[0] is OSError


def test_each_branch_has_a_view_of_its_own_and_each_group_stands_in_one() -> None:
    plan = plan_of((A, parallel(sequence(B, C), parallel(D, X))))
    assert {step.name: step.scope for step in plan.steps} == {"a": 0, "b": 1, "c": 1, "d": 3, "x": 4}
    assert [(group.scope, group.scopes, group.names) for group in plan.groups] == [
        (0, (1, 2), ("b", "d")),
        (2, (3, 4), ("d", "x")),
    ]
    assert plan.parents == [None, 0, 0, 2, 2]
    assert {step.name: [(group.index, branch) for group, branch in step.branches] for step in plan.steps} == {
        "a": [],
        "b": [(0, 0)],
        "c": [(0, 0)],
        "d": [(0, 1), (1, 0)],
        "x": [(0, 1), (1, 1)],
    }


def test_steps_are_numbered_in_the_order_declared() -> None:
    plan = plan_of((A, B & C, D))
    assert [(step.index, step.name) for step in plan.steps] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert plan.names == tuple(plan.by_name) == ("a", "b", "c", "d")


def test_a_steps_first_calls_are_made_once() -> None:
    (step,) = plan_of(A).steps
    assert (step.first.step, step.first.attempt, step.first.phase) == (step, 1, "execute")
    undo = step.first_compensation
    assert (undo.step, undo.attempt, undo.phase) == (step, 1, "compensate")


# -- what a plan is -----------------------------------------------------------------------------------------------------


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("flow", "plain", "receives", "compensates_together", "asynchronous", "pivot"),
    [
        ((A, B), True, False, False, False, None),
        ((A | Retry(3), X | Skip), True, False, False, False, None),
        ((A, P), False, False, False, False, "p"),
        (do("a", timeout=1.0), False, False, False, False, None),
        (fallback(A, B), False, False, False, False, None),
        (T, False, False, False, False, None),
        (R, False, True, False, False, None),
        (L, False, True, False, False, None),
        (A & B, False, False, False, False, None),
        (together(A, B), False, False, True, False, None),
        ((A & B, together(C, D)), False, False, True, False, None),
        (step(coroutine), True, False, False, True, None),
        (step(str, coroutine, name="a"), True, False, False, True, None),
    ],
)
def test_what_a_plan_is(
    flow: Any, plain: bool, receives: bool, compensates_together: bool, asynchronous: bool, pivot: str | None
) -> None:
    plan = plan_of(flow)
    assert (plan.plain, plan.receives, plan.compensate_together) == (plain, receives, compensates_together)
    assert (plan.asynchronous, getattr(plan.pivot, "name", None), plan.open) == (asynchronous, pivot, False)
    assert plan.for_execution() is plan


# -- names --------------------------------------------------------------------------------------------------------------


class Charge(Task[None]):
    def execute(self, context: Context) -> None: ...


class ChargeTwice(Charge):
    pass


def test_a_step_is_found_by_name_last_part_task_class_or_task() -> None:
    task = Charge()
    plan = plan_of((Saga("inner").add_task(step(task, name="pay")), step(ChargeTwice, name="again"), A))
    assert plan.find("a") == ["a"]
    assert plan.find("pay") == plan.find("inner/pay") == plan.find(task) == ["inner/pay"]
    assert plan.find(Charge) == ["inner/pay"]
    assert plan.find(ChargeTwice) == ["again"]
    assert plan.find("pa") == plan.find(Charge()) == plan.find(str) == []


def test_a_base_class_stands_for_all_of_its_kind_where_none_is_just_that() -> None:
    plan = plan_of((step(ChargeTwice, name="one"), step(ChargeTwice, name="two")))
    assert plan.find(Charge) == ["one", "two"]


class Breaker:
    """A circuit breaker that lets every call through."""

    def calling(self) -> Any:
        return nullcontext()


def test_the_task_of_a_step_is_the_users_own_behind_what_surrounds_it() -> None:
    task = Charge()
    guarded, other = plan_of(fallback(task, A, breaker=Breaker())).steps
    assert guarded.inner_task is task is not guarded.task
    assert (guarded.kind, repr(guarded)) == (Charge, "<step 'Charge'>")
    assert other.inner_task is other.task
    (resolved,) = Saga("s", resolver=lambda kind: kind()).add_task(Charge).plan.steps
    assert resolved.inner_task is resolved.task  # the user's own is made for each call
    assert resolved.kind is Charge


def test_an_unknown_step_is_refused_with_those_there_are() -> None:
    plan = plan_of((A, B))
    assert plan.step("a") is plan.steps[0]
    with pytest.raises(SagaDefinitionError, match=r"^there is no step 'c'; steps: a, b$"):
        plan.step("c")
    with pytest.raises(SagaDefinitionError, match=r"^there is no step 'c'; steps: none$"):
        OpenPlan("s").step("c")


# -- the fingerprint ----------------------------------------------------------------------------------------------------

ODD = ["p", "q", "p,q", "p'", 'p"', "p(False, False, 'compensate', False, None),'q", "p\\", "[p&q]", "p?q"]
DIFFERENT = [
    *(do(name) for name in ODD),
    A,
    X,
    P,
    (A, B),
    (B, A),
    (A, X),
    (X, A),
    (A, B, C),
    (sequence(A, B), C),
    (A, sequence(B, C)),
    A & B,
    B & A,
    together(A, B),
    parallel(A, B, C),
    parallel(parallel(A, B), C),
    parallel(A, parallel(B, C)),
    together(parallel(A, B), C),
    parallel(together(A, B), C),
    parallel(sequence(A, B), C),
    parallel(A, sequence(B, C)),
    (A & B, C),
    (A, B & C),
    fallback(A, B),
    fallback(B, A),
    fallback(A, sequence(B, C)),
    (fallback(A, B), C),
    fallback(A, fallback(B, C)),
    A | InDoubt.ASK,
    A | InDoubt.RERUN,
    do("a", compensate_on_failure=True),
    do("a", pivot=True),
    timer(1.0, name="a"),
    receive("go", name="a"),
    receive("stay", name="a"),
    Saga("a").add_task(B),
]


def test_the_fingerprint_tells_apart_what_is_undone_in_another_way() -> None:
    prints = [plan_of(flow).fingerprint for flow in DIFFERENT]
    same = [(one, other) for one, other in itertools.combinations(range(len(prints)), 2) if prints[one] == prints[other]]
    assert same == []


@pytest.mark.parametrize(
    "flow",
    [
        A | Retry(3, 5.0),
        A | Skip,
        do("a", timeout=1.0),
        do("a", compensation_retry=Retry(2)),
        step(print, repr, name="a"),
    ],
)
def test_what_may_change_under_a_running_execution_leaves_the_fingerprint(flow: Any) -> None:
    assert plan_of(flow).fingerprint == plan_of(A).fingerprint


def test_how_long_a_wait_is_and_what_leads_to_a_fallback_leave_the_fingerprint() -> None:
    assert plan_of(timer(1.0, name="t")).fingerprint == plan_of(timer(2.0, name="t")).fingerprint
    assert plan_of(receive("go", timeout=1.0)).fingerprint == plan_of(receive("go")).fingerprint
    assert plan_of(fallback(A, B, on=OSError)).fingerprint == plan_of(fallback(A, B)).fingerprint


def test_a_fingerprint_is_short_text_and_the_same_every_time() -> None:
    first = plan_of((A, B & C)).fingerprint
    assert plan_of((A, B & C)).fingerprint == first
    assert len(first) == 16
    assert int(first, 16)


# -- a plan that grows --------------------------------------------------------------------------------------------------


def test_what_is_added_is_what_is_started_next() -> None:
    plan = OpenPlan("s")
    assert [step.name for step in plan.extend(A)] == ["a"]
    assert [step.name for step in plan.extend(B & C)] == ["b", "c"]
    assert plan.names == ("a", "b", "c")
    assert plan.steps[0].then == ()
    assert plan.groups[0].then == ()
    assert plan.open
    assert not plan.plain


def test_what_is_wrong_leaves_a_plan_as_it_was() -> None:
    plan = OpenPlan("s")
    plan.extend(A & B)
    before = (plan.names, len(plan.steps), len(plan.groups), list(plan.parents), plan.plain, plan.receives)
    for flow, allow_async in [
        (sequence(parallel(C, D), A), True),
        (parallel(C, sequence(D, parallel(X, B))), True),
        (parallel(C, step(coroutine)), False),
        (step(str, coroutine, name="c"), False),
        (sequence(C, R), True),
    ]:
        with pytest.raises(SagaDefinitionError):
            plan.extend(flow, allow_async)
        assert (plan.names, len(plan.steps), len(plan.groups), list(plan.parents), plan.plain, plan.receives) == before
    (c,) = plan.extend(C)
    assert (c.index, c.branches, c.scope) == (2, (), 0)


def test_each_execution_of_a_block_has_a_plan_of_its_own() -> None:
    plan = OpenPlan("s")
    plan.extend(A)
    twin = plan.for_execution()
    assert (twin.names, twin.open, twin.fingerprint) == ((), True, plan.fingerprint)


def test_a_name_that_is_taken_is_numbered() -> None:
    plan = OpenPlan("s")
    names = []
    for _ in range(3):
        names.append(plan.free_name("a"))
        plan.extend(do(names[-1]))
    assert names == ["a", "a#2", "a#3"]
    plan.extend(do("b"))
    plan.extend(do("b#2"))
    assert plan.free_name("b") == "b#3"
    assert plan.free_name("c") == "c"


# -- groups with a limit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "after"),
    [
        ((A, at_most(1, B, C), D), "b c d"),
        ((A, at_most(1, at_most(1, B, C), D)), "b c d"),
        ((A, at_most(1, parallel(B, C), D)), "b c d"),
        ((A, fallback(B, at_most(2, C, D, X))), "b c d x"),
    ],
)
def test_branches_that_begin_later_follow_what_the_group_follows(flow: Any, after: str) -> None:
    plan = plan_of(flow)
    assert " ".join(sorted(step.name for step in following(plan.by_name["a"].then))) == after
    group = {step.name for step in plan.steps if step.branches}
    assert not any(later.name in group for later in following(plan.groups[0].then))


def test_how_many_branches_may_be_under_way_may_change_under_a_running_execution() -> None:
    assert len({plan_of(flow).fingerprint for flow in (A & B & C, at_most(1, A, B, C), at_most(2, A, B, C))}) == 1
