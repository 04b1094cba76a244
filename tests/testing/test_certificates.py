"""Tasks are measured in their places, and what was measured is kept in a file as long as it holds good."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from saga import (
    Context,
    Done,
    InDoubt,
    NotDone,
    Retry,
    Saga,
    Task,
    choose,
    each,
    fallback,
    parallel,
    receive,
    saga_step,
    sequence,
)
from saga import step as function_step
from saga.errors import SagaDefinitionError
from saga.testing import Certificate, Certificates, certify, with_stand_ins

RESTORES, TWICE, ALONE = "undo restores the world", "undo twice does no harm", "undo alone does no harm"
AGAIN, TRUTH = "execute twice leaves the same as once", "verify tells the truth"
HOLDS, NOTHING = "holds", "does not apply"


class Shop:
    """What is acted on: how much each step has taken, by its idempotency key."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}

    def state(self) -> dict[str, int]:
        return dict(self.taken)


class Take(Task[int]):
    """Takes one, and gives it back: sound in all that is measured, but for what a subclass gets wrong."""

    retry = Retry(2)

    def __init__(self, shop: Shop, name: str = "Take") -> None:
        self.shop = shop
        self.name = name

    def execute(self, context: Context) -> int:
        self.shop.taken[context.step.idempotency_key] = 1
        return 1

    def compensate(self, context: Context) -> None:
        assert context.step.cause is not None
        self.shop.taken.pop(context.step.idempotency_key, None)

    def verify(self, context: Context) -> Any:
        return Done(1) if context.step.idempotency_key in self.shop.taken else NotDone()


class Awaited(Take):
    async def execute(self, context: Context) -> int:  # type: ignore[override]
        return super().execute(context)

    async def compensate(self, context: Context) -> None:  # type: ignore[override]
        super().compensate(context)

    async def verify(self, context: Context) -> Any:
        return super().verify(context)


class Keeps(Take):
    def compensate(self, context: Context) -> None:
        """Take nothing back."""


class Refunds(Take):
    def compensate(self, context: Context) -> None:
        self.shop.taken["refunded"] = self.shop.taken.get("refunded", 0) + 1
        self.shop.taken.pop(context.step.idempotency_key, None)


class Needs(Take):
    def compensate(self, context: Context) -> None:
        if context.result_of(self.name):
            super().compensate(context)


class Unasked(Needs):
    verify = Task.verify  # which is none


class Forgets(Take):
    def execute(self, context: Context) -> int:
        context.held = True
        return super().execute(context)

    def compensate(self, context: Context) -> None:
        """Take one back each time, however often: what is said in the context, nobody has stored yet."""
        if context.pop("held", False):
            self.shop.taken["returned"] = self.shop.taken.get("returned", 0) + 1
        super().compensate(context)


class Adds(Take):
    def execute(self, context: Context) -> int:
        key = context.step.idempotency_key
        self.shop.taken[key] = self.shop.taken.get(key, 0) + 1
        return 1


class AddsOnce(Adds):
    retry = Retry(1)


class AddsInDoubt(AddsOnce):
    in_doubt = InDoubt.RERUN


class Lies(Take):
    def verify(self, context: Context) -> Any:
        return Done(1)


class Denies(Take):
    def verify(self, context: Context) -> Any:
        return NotDone()


class Unsure(Take):
    def verify(self, context: Context) -> Any:
        return None


SOUND = {RESTORES: HOLDS, TWICE: HOLDS, ALONE: HOLDS, AGAIN: HOLDS, TRUTH: HOLDS}

TASKS: dict[type[Take], dict[str, str]] = {
    Take: {},
    Awaited: {},
    Unsure: {},
    Keeps: {RESTORES: "s/explored/Take: nothing, then 1"},
    Refunds: {
        RESTORES: "refunded: nothing, then 1",
        TWICE: "refunded: 1, then 2",
        ALONE: "refunded: nothing, then 1",
    },
    Needs: {ALONE: "compensate raised ContextKeyError: step 'Take' has no result: it has not succeeded (yet)"},
    Forgets: {RESTORES: "returned: nothing, then 1", TWICE: "returned: 1, then 2"},
    Adds: {AGAIN: "s/explored/Take: 1, then 2"},
    AddsOnce: {AGAIN: NOTHING},
    AddsInDoubt: {AGAIN: "s/explored/Take: 1, then 2"},
    Lies: {TRUTH: "it said Done(1) before"},
    Denies: {TRUTH: "it said NotDone() afterwards"},
}


def measured(flow: Callable[[Shop], Any], **more: Any) -> dict[str, dict[str, str]]:
    found = certify(lambda shop: Saga("s", **more).add_task(flow(shop)), {"n": 1}, world=Shop)
    return {one.step: dict(one.measured) for one in found}


@pytest.mark.parametrize("more", [{}, {"store": "there-is-none.db"}, {"timeout": 60.0}], ids=["alone", "stored", "limited"])
@pytest.mark.parametrize("kind", TASKS)
def test_a_task_is_measured(kind: type[Take], more: dict[str, Any]) -> None:
    assert measured(kind, **more) == {"Take": SOUND | TASKS[kind]}


class Pays(Saga):
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        super().__init__("pays")

    @saga_step
    def pay(self) -> int:
        self.shop.taken["paid"] = 1
        return 1

    @pay.compensation
    def unpay(self, paid: int) -> None:
        self.shop.taken["paid"] -= paid

    def flow(self) -> Any:
        return self.pay


class Declined(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)


def taking(shop: Shop, name: str) -> Any:
    """A function step that is sound, as far as its functions can be."""
    return function_step(lambda: shop.taken.update({name: 1}), lambda: shop.taken.pop(name, None), name=name)


async def first(context: Context) -> int:
    return 1


PLACES: dict[str, tuple[Callable[[Shop], Any], list[str]]] = {
    "in sequence": (lambda s: sequence(Take(s, "a"), receive("ok"), Take(s, "b")), ["a", "b"]),
    "in parallel": (lambda s: parallel(Take(s, "a"), Awaited(s, "b"), sequence(Take(s, "c"), Take(s, "d"))), [*"abcd"]),
    "in a fallback": (lambda s: fallback(Take(s, "a"), sequence(Take(s, "b"), Take(s, "c"))), [*"abc"]),
    "in a fallback's": (lambda s: fallback(Take(s, "a"), fallback(Take(s, "b"), Take(s, "c"))), [*"abc"]),
    "after a refusal": (lambda s: fallback(Take(s, "a"), Take(s, "b"), on=Declined), ["a", "b"]),
    "after a lost answer": (lambda s: fallback(Needs(s, "a"), Take(s, "b"), on=ConnectionResetError), ["a", "b"]),
    "after one nobody asks for": (lambda s: fallback(Unasked(s, "a"), Take(s, "b"), on=TimeoutError), ["a", "b"]),
    "functions": (lambda s: sequence(taking(s, "a"), taking(s, "b")), ["a", "b"]),
    "on ways": (
        lambda s: choose(
            lambda context: 1, {1: Take(s, "a"), 2: sequence(Take(s, "b"), Take(s, "c"))}, Take(s, "d"), name="way"
        ),
        [*"abcd"],
    ),
    "on ways of ways": (
        lambda s: choose("n", {1: Take(s, "a"), 2: choose("n", {1: sequence(), 3: Awaited(s, "b")}, name="inner")}, name="way"),
        [*"ab"],
    ),
    "for each": (lambda s: each(lambda context: ["x", "y"], Take(s), name="a"), ["a[]"]),
    "for each, by a key": (lambda s: each(lambda context: ["x", "y"], Take(s), name="a", key=str), ["a[]"]),
    "in branches": (
        lambda s: each(lambda context: ["x", "y"], fallback(Take(s, "b"), parallel(Awaited(s, "c"), Take(s, "d"))), name="a"),
        ["a[]/b", "a[]/c", "a[]/d"],
    ),
    "in branches of branches": (
        lambda s: each(
            lambda context: [["x"], ["y"]],
            sequence(each(lambda context: context.step.item, Take(s), name="b"), Take(s, "c")),
            name="a",
        ),
        ["a[]/b[]", "a[]/c"],
    ),
    "on the ways of branches": (
        lambda s: each(lambda context: ["x", "y"], choose(first, {1: Take(s, "b"), 2: Take(s, "c")}, name="way"), name="a"),
        ["a[]/b", "a[]/c"],
    ),
    "a nested saga": (lambda s: sequence(Take(s, "a"), Saga("inner").add_task(Take(s, "b"))), ["a", "inner/b"]),
}


@pytest.mark.parametrize("place", PLACES)
def test_each_task_is_measured_where_the_saga_comes_to_it(place: str) -> None:
    flow, steps = PLACES[place]
    found = measured(flow)
    assert sorted(found) == steps
    wrong = {(step, what) for step, came in found.items() for what in came if came[what] not in (HOLDS, NOTHING)}
    assert wrong == ({("a", ALONE)} if "after a lost answer" in place or "nobody asks" in place else set())


def test_a_task_that_is_done_for_each_item_is_measured_with_one() -> None:
    class Ships(Take):
        def execute(self, context: Context) -> int:
            self.shop.taken[f"shipped {context.step.item}"] = 1
            return 1

    found = measured(lambda shop: each(lambda context: ["book", "lamp"], Ships(shop), name="ship"))
    assert found["ship[]"][RESTORES] == "shipped book: nothing, then 1"


def test_what_is_done_for_each_item_of_an_empty_list_cannot_be_measured() -> None:
    with pytest.raises(
        SagaDefinitionError, match=r"never comes to step 'ship\[\]', .*: its list is empty; give a context with an item"
    ):
        measured(lambda shop: each(lambda context: [], Take(shop), name="ship"))


def test_the_methods_of_a_saga_are_measured() -> None:
    (found,) = certify(lambda shop: Pays(shop), world=Shop)
    assert found.task.endswith("Pays.pay")
    assert found.measured[RESTORES] == "paid: nothing, then 0"
    assert found.measured[ALONE] == "compensate raised KeyError: 'paid'"


class Counted(Take):
    """Is undone once where it was executed once, which its transaction sees to."""

    transactional = True

    def execute(self, context: Context) -> int:
        self.shop.taken["all"] = self.shop.taken.get("all", 0) + 1
        return 1

    def compensate(self, context: Context) -> None:
        self.shop.taken["all"] -= 1
        if not self.shop.taken["all"]:
            del self.shop.taken["all"]

    verify = Task.verify


def test_what_a_transaction_rolls_back_is_not_measured() -> None:
    def in_world(shop: Shop) -> Saga:
        one = Counted(shop)
        return with_stand_ins(Saga("s").add_task(one), {Counted: function_step(one.execute, one.compensate)})

    (found,) = certify(in_world, world=Shop)
    assert found.measured == {RESTORES: HOLDS, TWICE: NOTHING, ALONE: NOTHING, AGAIN: NOTHING, TRUTH: NOTHING}


def test_of_many_differences_the_first_are_told() -> None:
    def flow(shop: Shop) -> Any:
        return function_step(lambda: shop.taken.update(dict.fromkeys("abcdefg", 1)), lambda: None, name="all")

    assert measured(flow)["all"][RESTORES] == "; ".join([*(f"{key}: nothing, then 1" for key in "abcde"), "and 2 more"])


def test_tasks_that_a_resolver_makes_are_measured() -> None:
    (found,) = certify(lambda shop: Saga("s", resolver=lambda kind: kind(shop)).add_task(Take), world=Shop)
    assert found.task == f"{__name__}.Take"
    assert found.measured == SOUND


def test_how_far_it_has_come_is_told() -> None:
    told: list[tuple[int, int]] = []
    saga = lambda shop: Saga("s").add_task(Take(shop)).add_task(function_step(Take(shop), name="b"))  # noqa: E731
    certify(saga, world=Shop, progress=lambda done, left: told.append((done, left)))
    assert told == [(1, 1), (2, 0)]
    with pytest.raises(SagaDefinitionError, match=r"progress is 5; give a function of \(tasks measured, tasks left\)"):
        certify(saga, world=Shop, progress=5)  # type: ignore[arg-type]


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(SagaDefinitionError, match="the state of None cannot be seen; give a world that has"):
        certify(Saga("s").add_task(Take(Shop())), world=lambda: None)

    class Broken(Take):
        def execute(self, context: Context) -> int:
            raise ValueError("no stock")

    def broken(shop: Shop) -> Saga:
        return Saga("s").add_task(Broken(shop, "a")).add_task(Take(shop, "b"))

    with pytest.raises(SagaDefinitionError, match=r"never comes to step 'b', .*: execute of a raises ValueError: no stock"):
        certify(broken, world=Shop)


@pytest.mark.parametrize("where", ["a", "b"])
def test_a_ctrl_c_is_no_outcome_of_a_call(where: str) -> None:
    class Stopped(Take):
        def execute(self, context: Context) -> int:
            if self.name == where:
                raise KeyboardInterrupt
            return super().execute(context)

    with pytest.raises(KeyboardInterrupt):
        measured(lambda shop: sequence(Stopped(shop, "a"), Stopped(shop, "b")), store="there-is-none.db")


def test_what_a_world_raises_is_raised() -> None:
    class Unseen(Shop):
        raised = False

        def state(self) -> dict[str, int]:
            if self.taken and not self.raised:
                self.raised = True
                raise OSError("the database is gone")
            return {}

    with pytest.raises(OSError, match="the database is gone"):
        certify(lambda shop: Saga("s").add_task(Take(shop)), world=Unseen)


# -- the file ---------------------------------------------------------------------------------------------------------

MODULE = """
from functools import partial
from saga import Saga, Task, step, Retry

class Base(Task):
    def execute(self, context): pass

class Own(Base):
    def compensate(self, context): pass

def act(): return 1
def undo(): pass
def is_done(): return None

class Called:
    __name__ = "called"
    def __call__(self): pass

saga = Saga("s").add_task(Own()).add_task(step(act, undo, verify=is_done)).add_task(step(Called())).add_task(
    step(partial(print, "x"), name="prints"))
"""

CHANGES = {
    "nothing": ("", "", []),
    "where it stands": ("class Base", "import sys\n\nclass Base", []),
    "its class": ("def compensate(self, context): pass", "def compensate(self, context): print(1)", ["Own"]),
    "a class that it inherits from": ("def execute(self, context): pass", "def execute(self, context): print(1)", ["Own"]),
    "its function": ("return 1", "return 2", ["act"]),
    "the function that undoes it": ("def undo(): pass", "def undo(): print(1)", ["act"]),
    "the function that verifies it": ("return None", "print(1)", ["act"]),
    "what is called": ("def __call__(self): pass", "def __call__(self): print(1)", ["called"]),
    "a policy": ("verify=is_done", "verify=is_done, retry=Retry(3)", ["act"]),
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Saga]]:
    monkeypatch.syspath_prepend(tmp_path)
    times = iter(range(9))
    before = set(sys.modules)

    def write(text: str) -> Saga:
        name = f"certified_{next(times)}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        saga: Saga = importlib.import_module(name).saga
        return saga

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("change", CHANGES)
def test_a_certificate_is_stale_when_what_it_was_measured_of_has_changed(written: Any, change: str) -> None:
    old, new, stale = CHANGES[change]
    certificates = certify(written(MODULE), world=dict)
    standing = certificates.standing(written(MODULE.replace(old, new)).definition)
    assert standing == {
        step: "certificate stale" if step in stale else "certified" for step in ("Own", "act", "called", "prints")
    }


def test_what_has_no_source_cannot_be_certified() -> None:
    program: dict[str, Any] = {"__name__": "typed"}
    exec(MODULE, program)
    with pytest.raises(SagaDefinitionError, match=r"saga 's': the source of typed\.Own cannot be read"):
        certify(program["saga"], world=dict)


def test_what_does_not_hold_and_what_was_not_measured_is_told() -> None:
    def two(shop: Shop) -> Saga:
        return Saga("s").add_task(Take(shop, "a")).add_task(Refunds(shop, "b"))

    found = certify(two, world=Shop)
    more = two(Shop()).add_task(receive("ok")).add_task(Take(Shop(), "c"))
    assert found.standing(more.definition) == {"a": "certified", "b": "certificate failed", "c": "not certified"}
    assert found.wrong[1] == f"s/b: {TWICE}: refunded: 1, then 2"


def test_a_file_has_a_line_for_each_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "certificates.json"
    one = Certificate("s", "b", "shop.Täke", "d1", {RESTORES: HOLDS})
    others = [Certificate("s", "a", "shop.Take", "d2", {}), Certificate("r", "c", "shop.Take", "d3", {TWICE: "x: 1, then 2"})]
    made = Certificates([one, *others])
    made.save(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line[:24] for line in lines] == [
        "[",
        '{"saga": "r", "step": "c',
        '{"saga": "s", "step": "a',
        '{"saga": "s", "step": "b',
        "]",
    ]
    assert Certificates.load(path) == made
    assert Certificates.load(path).of("s", "b") == one
    again = Certificates([Certificate("s", "b", "shop.Take", "d4", {})])
    assert [(it.step, it.digest) for it in made.merge(again)] == [("c", "d3"), ("b", "d4")]


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"saga": "s"}]'])
def test_a_file_that_is_none_of_certificates_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(SagaDefinitionError, match=r"x\.json is no file of certificates"):
        Certificates.load(tmp_path / "x.json")
