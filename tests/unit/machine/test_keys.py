"""Where a step lacks a key of the context that it requires: told by the plan, flow by flow, and nothing is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from saga import (
    ClosedContext,
    Context,
    Finding,
    Flow,
    Retry,
    Saga,
    Skip,
    Task,
    choose,
    each,
    fallback,
    parallel,
    receive,
    sequence,
    step,
    timer,
)
from saga.errors import SagaDefinitionError
from saga.storage import MemoryStore


def never(context: Any) -> None:
    raise AssertionError("nothing is called")


def a(name: str, requires: str = "", provides: str = "", **policies: Any) -> Flow:
    return step(never, name=name, requires=requires.split(), provides=provides.split(), **policies)


def untold(name: str) -> Flow:
    return step(never, name=name)


MISSING: Final = "neither the input nor a step before has it"
FOUND: Final[dict[str, tuple[list[Any], list[str]]]] = {
    "it is there": ([a("1", provides="k"), a("2", "k")], []),
    "the input has it": ([a("1", "i")], []),
    "nobody has it": ([a("1", "k")], [f"1 k missing: {MISSING}"]),
    "one like it": ([a("1", provides="label"), a("2", "lable")], [f"2 lable missing: {MISSING}; did you mean 'label'?"]),
    "it comes too late": (
        [a("1", "k"), a("2", provides="k")],
        [f"1 k missing: {MISSING}; '2' provides it, and does not come before"],
    ),
    "it is its own": ([a("1", "k", "k")], [f"1 k missing: {MISSING}"]),
    "each that lacks it is told": (
        [a("1", "k m"), a("2", "k")],
        [f"1 k missing: {MISSING}", f"1 m missing: {MISSING}", f"2 k missing: {MISSING}"],
    ),
    "one before does not say what it sets": (
        [untold("1"), a("2", "k")],
        ["2 k perhaps missing: '1' comes before, and does not say what it provides"],
    ),
    "one before says that it sets nothing": (
        [step(never, name="1", provides=()), a("2", "k")],
        [f"2 k missing: {MISSING}"],
    ),
    "a wait sets nothing": (
        [timer(1, name="1"), timer(never, name="2"), receive("paid"), a("4", "k")],
        [f"4 k missing: {MISSING}"],
    ),
    "a step that may be skipped": (
        [a("1", provides="k", on_error=Skip), a("2", "k")],
        ["2 k perhaps missing: '1' is skipped when it fails"],
    ),
    "a step that is retried and skipped then": (
        [a("1", provides="k", on_error=Retry(2, then=Skip)), a("2", "k")],
        ["2 k perhaps missing: '1' is skipped when it fails"],
    ),
    "a step that is skipped sets what is there anyway": (
        [a("1", provides="k"), a("2", provides="k", on_error=Skip), a("3", "k")],
        [],
    ),
    "it is set for sure after it perhaps was": (
        [a("1", provides="k", on_error=Skip), a("2", provides="k"), a("3", "k")],
        [],
    ),
    "branches do not see each other's": (
        [parallel(a("1", provides="k"), a("2", "k")), a("3", "k")],
        [f"2 k missing: {MISSING}; '1' provides it, and does not come before"],
    ),
    "branches see what came before": ([a("1", provides="k"), parallel(a("2", "k"), a("3", "k"))], []),
    "branches are in conflict": (
        [parallel(a("1", provides="k"), sequence(a("2"), a("3", provides="k")), a("4", provides="m"))],
        ["3 k in conflict: '1' sets it, too, at the same time"],
    ),
    "three branches are in conflict": (
        [parallel(*(a(name, provides="k") for name in "123"))],
        ["2 k in conflict: '1' sets it, too, at the same time", "3 k in conflict: '1' sets it, too, at the same time"],
    ),
    "groups one after the other are not": (
        [parallel(a("1", provides="k"), a("2")), parallel(a("3", provides="k"), a("4"))],
        [],
    ),
    "groups within groups are": (
        [parallel(parallel(a("1", provides="k"), a("2")), a("3", provides="k"))],
        ["3 k in conflict: '1' sets it, too, at the same time"],
    ),
    "what a branch says nothing of is seen after the group, and not beside it": (
        [parallel(untold("1"), a("2", "k")), a("3", "m")],
        [f"2 k missing: {MISSING}", "3 m perhaps missing: '1' comes before, and does not say what it provides"],
    ),
    "a branch may be skipped": (
        [parallel(a("1", provides="k", on_error=Skip), a("2")), a("3", "k")],
        ["3 k perhaps missing: '1' is skipped when it fails"],
    ),
    "every way provides it": ([choose("i", {1: a("1", provides="k"), 2: a("2", provides="k")}), a("3", "k")], []),
    "not every way does": (
        [choose("i", {1: a("1", provides="k m"), 2: sequence()}, a("2", provides="k")), a("3", "k")],
        ["3 k perhaps missing: not every way of 'choose i' provides it"],
    ),
    "a way may be skipped": (
        [choose("i", {1: a("1", provides="k"), 2: a("2", provides="k", on_error=Skip)}), a("3", "k")],
        ["3 k perhaps missing: '2' is skipped when it fails"],
    ),
    "ways do not see each other's": (
        [choose("i", {1: a("1", provides="k"), 2: a("2", "k")})],
        [f"2 k missing: {MISSING}; '1' provides it, and does not come before"],
    ),
    "ways are in no conflict, but with branches": (
        [parallel(choose("i", {1: a("1", provides="k"), 2: a("2", provides="k")}), a("3", provides="k"))],
        ["3 k in conflict: '1' sets it, too, at the same time"],
    ),
    "a way says nothing": (
        [choose("i", {1: untold("1"), 2: a("2")}), a("3", "k")],
        ["3 k perhaps missing: '1' comes before, and does not say what it provides"],
    ),
    "what is chosen by is required": (
        [choose("k", {1: a("1")}), choose(never, {1: a("2", "m")}, name="f")],
        [f"choose k k missing: {MISSING}", f"2 m missing: {MISSING}"],
    ),
    "both sides of a fallback provide it": ([fallback(a("1", provides="k"), a("2", provides="k")), a("3", "k")], []),
    "one side does": (
        [fallback(a("1", provides="k"), a("2")), a("3", "k")],
        ["3 k perhaps missing: not both '1' and its fallback provide it"],
    ),
    "the other does": (
        [fallback(a("1"), sequence(a("2"), a("3", provides="k"))), a("4", "k")],
        ["4 k perhaps missing: not both '1' and its fallback provide it"],
    ),
    "a fallback does not see what its step has set": (
        [fallback(a("1", provides="k"), a("2", "k"))],
        [f"2 k missing: {MISSING}; '1' provides it, and does not come before"],
    ),
    "a list may be empty": (
        [each("i", a("1", provides="k"), name="all"), a("2", "k")],
        ["all[] k in conflict: it is set for each item, at the same time", "2 k perhaps missing: 'all' may list nothing"],
    ),
    "an item sees what came before, and its own": (
        [a("0", provides="k"), each("i", sequence(a("1", "k"), a("2", "m")), name="all")],
        [f"all[]/2 m missing: {MISSING}"],
    ),
    "lists within lists": (
        [each("i", sequence(a("1"), each("j", a("2", "k"), name="in")), name="all")],
        [f"all[]/in j missing: {MISSING}", f"all[]/in[] k missing: {MISSING}"],
    ),
    "what a function lists needs no key": ([each(never, a("1", "k"), name="all")], [f"all[] k missing: {MISSING}"]),
    "a saga within": (
        [Saga("inner").add_task(a("1", "k")).add_task(a("2", provides="m")), a("3", "m")],
        [f"inner/1 k missing: {MISSING}"],
    ),
    "a saga within whose steps may be skipped": (
        [Saga("inner", on_error=Skip).add_task(a("1", provides="k")), a("2", "k")],
        ["2 k perhaps missing: 'inner/1' is skipped when it fails"],
    ),
}


def saga_of(flows: list[Any], **options: Any) -> Saga:
    saga = Saga("s", store=MemoryStore(), **options)
    for flow in flows:
        saga.add_task(flow)
    return saga


def shown(found: list[Finding]) -> list[str]:
    return [f"{one.step} {one.key} {one.what}: {one.why}" for one in found]


@pytest.mark.parametrize("case", FOUND)
def test_it_is_found_in_the_order_of_the_flow(case: str) -> None:
    flows, findings = FOUND[case]
    assert shown(saga_of(flows).check(given=["i"])) == findings


def test_a_finding_is_a_sentence_and_says_whether_the_saga_is_wrong() -> None:
    found = Finding("ship", "receipt", "missing", "nobody has it")
    assert str(found) == "step 'ship': key 'receipt' is missing: nobody has it"
    whats = ("missing", "in conflict", "perhaps missing", "left to the input")
    assert [Finding("s", "k", what, "").wrong for what in whats] == [True, True, False, False]


def test_where_nobody_says_what_the_input_has_it_is_left_to_that() -> None:
    saga = saga_of([a("1", "i"), a("2", "k"), a("3", provides="k"), untold("4"), a("5", "i m")])
    assert shown(saga.check()) == [
        "1 i left to the input: no step before provides it",
        "2 k left to the input: no step before provides it; '3' provides it, and does not come before",
        "5 i perhaps missing: '4' comes before, and does not say what it provides",
        "5 m perhaps missing: '4' comes before, and does not say what it provides",
    ]
    assert shown(saga.check({"i": 1}))[0] == f"2 k missing: {MISSING}; '3' provides it, and does not come before"
    assert saga.check(Context(i=1, k=2, m=3)) == []


def test_a_saga_that_says_nothing_has_nothing_to_find() -> None:
    assert saga_of([untold("1"), choose("k", {1: untold("2")})]).check(given=[]) == []


@pytest.mark.parametrize("given", ["order_id", 5, ("order_id", 5), [""], ["items"], iter(["order_id"])])
def test_what_is_no_key_is_refused(given: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"^check\(\): given (is|has) "):
        saga_of([a("1", "k")]).check(given)


# -- a class of contexts ----------------------------------------------------------------------------------------------


@dataclass
class OrderContext(Context):
    order_id: str
    receipt: str | None = None
    note: str | None = None
    lines: list[str] = field(default_factory=list)


@dataclass
class ParcelContext(ClosedContext):
    label: str = ""


def typed(*flows: Any) -> Saga:
    return saga_of(list(flows), context=OrderContext)


def test_the_fields_of_a_class_are_there() -> None:
    assert typed(a("1", "order_id lines note")).check() == []


def test_a_step_that_reads_what_it_alone_sets_begins_with_none() -> None:
    assert typed(a("1", "receipt", "receipt"), a("2", "receipt")).check() == []


def test_a_field_that_is_none_counts_from_the_step_on_that_provides_it() -> None:
    late = typed(a("1", "receipt"), a("2", provides="receipt"), a("3", "receipt"))
    assert shown(late.check()) == ["1 receipt perhaps missing: it is None so far; '2' provides it, and does not come before"]
    assert shown(late.check(given=["receipt"])) == []


@pytest.mark.parametrize(
    ("flow", "findings"),
    [
        ([a("1", "receipt", "receipt")], []),
        (
            [choose("order_id", {"x": a("1", provides="receipt")}, sequence())],
            ["not every way of 'choose order_id' provides it"],
        ),
        ([choose("order_id", {"x": a("1", provides="receipt")}, a("2", provides="receipt"))], []),
        ([choose("order_id", {"x": a("1"), "y": a("2")})], ["it is None so far; '9' provides it, and does not come before"]),
        ([parallel(a("1"), a("2"))], ["it is None so far; '9' provides it, and does not come before"]),
        ([parallel(a("1"), a("2", provides="receipt"))], []),
        ([a("1", provides="receipt", on_error=Skip)], ["'1' is skipped when it fails"]),
        ([parallel(a("1", provides="receipt", on_error=Skip), a("2"))], ["'1' is skipped when it fails"]),
    ],
)
def test_a_field_that_is_none_is_known_through_all_of_a_flow(flow: list[Any], findings: list[str]) -> None:
    found = typed(*flow, a("8", "receipt"), a("9", provides="receipt")).check()
    assert [one.why for one in found if one.step == "8"] == findings


@pytest.mark.parametrize("says", ["requires", "provides"])
@pytest.mark.parametrize("kind", [OrderContext, ParcelContext])
def test_a_key_that_is_no_field_is_refused_when_the_saga_is_first_used(says: str, kind: type[Context]) -> None:
    saga = saga_of([a("0"), a("1", **{says: "lable"})], context=kind)
    fields = "label" if kind is ParcelContext else "order_id, receipt, note, lines"
    hint = "; did you mean 'label'?" if kind is ParcelContext else ""
    for use in (lambda: saga.definition, saga.check, lambda: saga.execute({"order_id": "A1"})):
        with pytest.raises(SagaDefinitionError) as refused:
            use()
        assert str(refused.value) == (
            f"saga 's': step '1' {says} 'lable', and {kind.__name__} has no such field{hint}; fields: {fields}"
        )


def test_a_class_without_fields_takes_any_key() -> None:
    class Open(Context):
        pass

    assert shown(saga_of([a("1", "k")], context=Open).check()) == ["1 k left to the input: no step before provides it"]


def test_a_saga_within_names_the_fields_of_its_own_class() -> None:
    @dataclass
    class Rush(OrderContext):
        courier: str = "bike"

    inner = Saga("inner", context=OrderContext).add_task(a("1", "courier"))
    with pytest.raises(SagaDefinitionError, match="step 'inner/1' requires 'courier', and OrderContext has no such field"):
        saga_of([inner], context=Rush).check()
    assert saga_of([Saga("inner").add_task(a("1", "courier"))], context=Rush).check() == []


# -- how it is written ------------------------------------------------------------------------------------------------


def test_it_stands_in_a_class_or_with_a_step() -> None:
    class Charge(Task[None]):
        requires = {"order_id"}  # noqa: RUF012
        provides = ["receipt"]  # noqa: RUF012

        def execute(self, context: Context) -> None: ...

    planned = saga_of([Charge, step(Charge, name="again", requires=["b", "a", "a"], provides=None)]).plan
    first, again = planned.steps
    assert (first.requires, first.provides) == (("order_id",), ("receipt",))
    assert (again.requires, again.provides) == (("a", "b"), None)


@pytest.mark.parametrize(("misspelt", "meant"), [("require", "requires"), ("provide", "provides"), ("needs", "requires")])
def test_a_misspelt_one_is_found(misspelt: str, meant: str) -> None:
    def charging(value: object) -> Saga:
        return Saga("s").add_task(type("Charge", (Task,), {"execute": lambda self, context: None, misspelt: value}))

    with pytest.raises(SagaDefinitionError, match=f"Charge has '{misspelt}', which nobody looks at; call it '{meant}'"):
        charging(("order_id",))
    with pytest.raises(SagaDefinitionError, match=f"knows no '{misspelt}'; did you mean '{meant}'"):
        step(never, **{misspelt: ("order_id",)})
    for own in (5, (), {"order_id": 1}, "order_id", ("order_id", 5)):
        assert charging(own).plan, "it is the user's own"


@pytest.mark.parametrize("says", ["requires", "provides"])
def test_one_text_is_refused_with_what_to_write(says: str) -> None:
    with pytest.raises(SagaDefinitionError) as refused:
        step(never, **{says: "order_id"})
    assert str(refused.value) == f"step 'never': {says} is 'order_id'; give keys of the context, such as ('order_id',)"
    with pytest.raises(SagaDefinitionError, match=f"{says} has 'items', an attribute of Context itself, which cannot be a key"):
        step(never, **{says: ["items"]})
