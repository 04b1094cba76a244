"""An engine that breaks a semantic is noticed by exploring sagas that keep all laws: nothing is looked at but what they do.

The engine is broken as ``tests/semantics/mutants.py`` does it, but in this process, by other code in its functions.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest

from saga import Context, Done, InDoubt, NotDone, Retry, Saga, SagaResult, Skip, Task, fallback, parallel, receive, step, unit
from saga.events import RetryScheduled, Status, StepStarted
from saga.storage import MemoryStore
from saga.testing import Exploration, Fault, Kind, explore
from tests.semantics.mutations import Mutant
from tests.semantics.mutations.doubt import OF_DOUBT
from tests.semantics.mutations.drivers import OF_DRIVERS
from tests.semantics.mutations.durable import OF_DURABLE
from tests.semantics.mutations.machine import OF_MACHINE
from tests.semantics.mutations.people import OF_PEOPLE
from tests.semantics.mutations.retries import OF_RETRIES
from tests.semantics.mutations.told import OF_WHAT_IS_TOLD

PROJECT = Path(__file__).parents[2]
OF_ALL = (*OF_MACHINE, *OF_DOUBT, *OF_DURABLE, *OF_DRIVERS, *OF_PEOPLE, *OF_WHAT_IS_TOLD, *OF_RETRIES)
MUTANTS = {mutant.name: mutant for mutant in OF_ALL}


# -- sagas that keep the laws -----------------------------------------------------------------------------------------


class Site:
    """Where things stand, and in which order they were to be taken down."""

    def __init__(self) -> None:
        self.stands: set[str] = set()
        self.keys: dict[str, str] = {}
        self.undone: list[str] = []
        self.too_often: list[str] = []
        self.drawing: list[str] = []

    def state(self) -> set[str]:
        return {*self.stands}


class Build(Task[str]):
    """Does once what is asked for twice, and undoes what is there."""

    def __init__(self, site: Site, name: str, **policies: Any) -> None:
        self.site = site
        vars(self).update(policies, name=name)

    def execute(self, context: Context) -> str:
        assert self.site.keys.setdefault(self.name, context.step.idempotency_key) == context.step.idempotency_key
        if context.step.attempt > (self.retry or Retry(1)).max_attempts:
            self.site.too_often.append(self.name)
        self.site.stands.add(self.name)
        return self.name

    def compensate(self, context: Context) -> None:
        if self.name not in self.site.undone:
            self.site.undone.append(self.name)
        self.site.stands.discard(self.name)


class Asked(Build):
    """... and can be asked."""

    def verify(self, context: Context) -> Done[str] | NotDone:
        return Done(self.name) if self.name in self.site.stands else NotDone()


class Draws(Build):
    """Returns a drawing, leaves it in the context, and keeps it where others draw on."""

    def execute(self, context: Context) -> Any:
        self.site.drawing = ["walls"]
        context["drawing"] = self.site.drawing
        super().execute(context)
        return self.site.drawing


class Completes(Build):
    """Draws a roof where all drawings are kept, and builds what it was given, which has none."""

    def execute(self, context: Context) -> str:
        if "roof" not in self.site.drawing:
            self.site.drawing.append("roof")
        given = context.result_of("a") if self.name == "b" else context["drawing"]
        self.site.stands.update(f"{one} of {self.name}" for one in given)
        return super().execute(context)

    def compensate(self, context: Context) -> None:
        self.site.stands -= {f"{one} of {self.name}" for one in self.site.drawing}
        super().compensate(context)


class Awaited(Build):
    """Builds in a coroutine."""

    async def execute(self, context: Context) -> str:  # type: ignore[override]
        await asyncio.sleep(10.0)
        return super().execute(context)

    async def compensate(self, context: Context) -> None:  # type: ignore[override]
        await asyncio.sleep(10.0)
        super().compensate(context)


Flow = Callable[[Site], list[Any]]

FLOWS: dict[str, Flow] = {
    "in sequence": lambda s: [Build(s, "a"), Build(s, "b"), Build(s, "c")],
    "retried": lambda s: [Build(s, "a", retry=Retry(2), compensation_retry=Retry(2)), Build(s, "b")],
    "rerun": lambda s: [Build(s, "a"), Build(s, "b", in_doubt=InDoubt.RERUN, retry=Retry(2))],
    "asked": lambda s: [Asked(s, "a", retry=Retry(2)), Asked(s, "b")],
    "never ready": lambda s: [Build(s, "a"), Build(s, "b", retry=Retry(2, retry_if=lambda result: True)), Build(s, "c")],
    "for a minute": lambda s: [Build(s, "a", retry=Retry(9, 20.0, max_elapsed=60.0)), Build(s, "b")],
    "a person's": lambda s: [Build(s, "a"), Build(s, "b", in_doubt=InDoubt.ASK), Build(s, "c")],
    "limited": lambda s: [Build(s, "a"), Build(s, "b", timeout=5.0, retry=Retry(2))],
    "undo limited": lambda s: [Build(s, "a", compensation_timeout=5.0, compensation_retry=Retry(2)), Build(s, "b")],
    "skipped": lambda s: [Build(s, "a"), Build(s, "b", on_error=Skip)],
    "with a fallback": lambda s: [Build(s, "a"), fallback(Build(s, "c"), Build(s, "b"))],
    "in parallel": lambda s: [parallel(Build(s, "a"), Build(s, "b", timeout=5.0)), Build(s, "c")],
    "past a pivot": lambda s: [Build(s, "a", pivot=True), Build(s, "b")],
    "by a returned drawing": lambda s: [Draws(s, "a"), Completes(s, "b", in_doubt=InDoubt.RERUN, retry=Retry(2))],
    "by a drawing left": lambda s: [Draws(s, "a"), Completes(s, "c", in_doubt=InDoubt.RERUN, retry=Retry(2))],
    "awaited": lambda s: [Awaited(s, "a"), Awaited(s, "b"), Build(s, "c"), Awaited(s, "d", timeout=50.0)],
    "awaited in parallel": lambda s: [parallel(Awaited(s, "a"), Awaited(s, "b", timeout=50.0)), Build(s, "c")],
    "waiting": lambda s: [Build(s, "a"), receive("ok", timeout=60.0), Build(s, "b")],
}


# What else is looked at, at the end of each history: laws of these flows alone.


def undone_last_first(site: Site, result: SagaResult) -> bool:
    return site.undone == sorted(site.undone, reverse=True)


def each_undo_is_tried(site: Site, result: SagaResult) -> bool:
    failed = {record.name for record in result.history if record.compensation_error is not None}
    return result.status is Status.COMPLETED or site.stands <= failed


def attempts_are_counted(site: Site, result: SagaResult) -> bool:
    return site.too_often == []


def within_a_minute(site: Site, result: SagaResult) -> bool:
    first = next((event.at for event in result.events if isinstance(event, StepStarted)), 0.0)
    due = [event.at + event.delay for event in result.events if isinstance(event, RetryScheduled) and event.step == "a"]
    return all(at - first <= 60.0 for at in due)  # when that is over, nobody may be there


def explored(flow: str, timeout: float | None = None, **more: Any) -> Exploration:
    def saga(site: Site) -> Saga:
        made = Saga("sound", store="there-is-none.db", timeout=timeout)
        for one in FLOWS[flow](site):
            made.add_task(one)
        return made

    return explore(saga, world=Site, check=False, **more)


# -- engines that are broken --------------------------------------------------------------------------------------------


def place(mutant: Mutant) -> tuple[ModuleType, str]:
    """Return the module that a mutant changes, and its text afterwards."""
    files = [PROJECT / mutant.file] if mutant.file else (PROJECT / "saga").rglob("*.py")
    (path,) = [file for file in files if mutant.old in file.read_text(encoding="utf-8")]
    module = sys.modules[".".join(path.relative_to(PROJECT).with_suffix("").parts)]
    return module, path.read_text(encoding="utf-8").replace(mutant.old, mutant.new)


def codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from codes(constant)


def functions(owner: Any, module: str) -> Iterator[FunctionType]:
    for thing in list(vars(owner).values()):
        found = getattr(thing, "__func__", thing)
        found = found.func if isinstance(found, cached_property) else found.fget if isinstance(found, property) else found
        if isinstance(found, FunctionType) and found.__module__ == module:
            yield found
        elif isinstance(found, type) and found.__module__ == module:
            yield from functions(found, module)


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """Have a mutant in place of the engine."""
    module, text = place(mutant)
    new = {code.co_qualname: code for code in codes(compile(text, str(module.__file__), "exec", dont_inherit=True))}
    before = [(one, one.__code__) for one in functions(module, module.__name__) if one.__code__.co_qualname in new]
    for function, code in before:
        function.__code__ = new[code.co_qualname]
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


# -- what is noticed ----------------------------------------------------------------------------------------------------

OF_TIME = ["late", "undo overdue", "store slow"]
UNDONE, COMPLETED = "undone equals never begun", "completed leaves the same, however it was come to"
AtEnd = Callable[[Site, SagaResult], bool]


class Noticed(NamedTuple):
    """A semantic of the design by its number, how the engine breaks it, and the history by which that is noticed."""

    semantic: int
    mutant: str
    flow: str
    faults: list[tuple[Any, ...]]
    law: str | AtEnd
    kinds: list[str] | None = None
    timeout: float | None = None


NOTICED = [
    Noticed(1, "undo in forward order", "in sequence", [("b", "answer lost")], undone_last_first),
    Noticed(
        1,
        "stop at the first failing compensation",
        "in sequence",
        [("b", "answer lost"), ("b", "undo fails")],
        each_undo_is_tried,
    ),
    Noticed(1, "call it compensated though an undo failed", "in sequence", [("a", "answer lost"), ("a", "undo fails")], UNDONE),
    Noticed(2, "a lost answer is a failure as any other", "in sequence", [("a", "answer lost")], UNDONE),
    Noticed(2, "what returned and was not ready is left as it is", "never ready", [], UNDONE),
    Noticed(2, "there is always time for another attempt", "for a minute", [("a", "fails for good")], within_a_minute),
    Noticed(3, "an interrupt is not in doubt", "in sequence", [("a", "interrupted")], UNDONE, ["interrupted"]),
    Noticed(
        4,
        "compensate a straggler before it ends",
        "in parallel",
        [("b", "late")],
        "nothing is undone while it still runs",
    ),
    Noticed(4, "terminal with a straggler open", "limited", [("b", "answer lost"), ("b", "late", 2)], UNDONE),
    Noticed(
        4,
        "terminal with a compensation that still runs",
        "undo limited",
        [("a", "answer lost"), ("a", "undo late")],
        UNDONE,
    ),
    Noticed(
        5,
        "steps begin after the deadline, as long as nothing waits",
        "in sequence",
        [("b", "store slow")],
        "nothing begins when its time is over",
        OF_TIME,
        100.0,
    ),
    Noticed(
        5,
        "the deadline ends compensations",
        "in parallel",
        [("b", "late"), ("a", "undo overdue")],
        UNDONE,
        OF_TIME,
        100.0,
    ),
    Noticed(6, "undo while siblings run", "in sequence", [("a", "cancelled")], UNDONE, ["cancelled"]),
    Noticed(7, "call before its intent is stored", "in sequence", [("b", "dies after")], UNDONE),
    Noticed(
        7,
        "undo before compensating is stored",
        "in sequence",
        [("b", "fails"), ("a", "dies after undo")],
        undone_last_first,
    ),
    Noticed(7, "a commit for every entry", "in sequence", [], "what follows a call is stored with its end"),
    Noticed(7, "one attempt too many", "in sequence", [("a", "fails")], attempts_are_counted),
    Noticed(7, "another key after a crash", "in sequence", [("a", "dies before")], "each attempt has the same idempotency key"),
    Noticed(7, "a key of its own for every attempt", "past a pivot", [("b", "answer lost")], "it comes to an end"),
    Noticed(8, "believe a result that is not read back", "by a returned drawing", [("b", "dies before")], COMPLETED),
    Noticed(8, "believe a change that is not read back", "by a drawing left", [("c", "dies before")], COMPLETED),
    Noticed(9, "who lost the lease goes on", "in sequence", [("a", "second owner")], UNDONE, ["second owner"]),
    Noticed(10, "a crash in a step leaves no doubt", "in sequence", [("a", "dies after")], UNDONE),
    Noticed(
        10,
        "an attempt that did nothing settles what the one before left in doubt",
        "retried",
        [("a", "answer lost"), ("a", "fails", 2)],
        UNDONE,
    ),
    Noticed(10, "another attempt settles the doubt by beginning", "retried", [("a", "answer lost"), ("a", "fails", 2)], UNDONE),
    Noticed(10, "a step in doubt is skipped and never undone", "skipped", [("b", "answer lost")], COMPLETED),
    Noticed(10, "a fallback begins beside what is in doubt", "with a fallback", [("c", "answer lost")], COMPLETED),
    Noticed(10, "what verify found done is owed no undo", "asked", [("a", "answer lost"), ("b", "fails")], UNDONE),
    Noticed(10, "what verify found done is attempted again", "asked", [("a", "answer lost"), ("a", "fails", 2)], UNDONE),
    Noticed(
        10, "what verify does not know is taken for not done", "asked", [("a", "dies after"), ("a", "verify fails")], UNDONE
    ),
    Noticed(10, "the undo goes on while verify is asked", "asked", [("a", "interrupted")], UNDONE, ["interrupted"]),
    Noticed(
        10,
        "call it compensated though a person must decide about a step",
        "a person's",
        [("b", "answer lost")],
        UNDONE,
    ),
    Noticed(10, "execute again what a person is to be asked about", "a person's", [("b", "dies before")], attempts_are_counted),
    Noticed(
        10,
        "who skips what could not be undone has it tried again",
        "in sequence",
        [("a", "answer lost"), ("a", "undo fails"), ("a", "skipped")],
        "what a person skipped is theirs",
        ["answer lost", "undo fails", "skipped"],
    ),
    Noticed(
        10,
        "who tries again has nothing undone",
        "in sequence",
        [("a", "answer lost"), ("a", "undo fails"), ("a", "retried")],
        UNDONE,
        ["answer lost", "undo fails", "retried"],
    ),
    Noticed(10, "RERUN has one attempt too many", "rerun", [("b", "fails"), ("b", "dies before", 2)], attempts_are_counted),
    Noticed(
        11,
        "go on without the journal",
        "in sequence",
        [("b", "store gone before")],
        "what has ended is stored",
        ["store gone before"],
    ),
    Noticed(
        7,
        "await before its intent is stored",
        "awaited",
        [("b", "dies after")],
        UNDONE,
    ),
    Noticed(
        11,
        "go on without the journal in an event loop",
        "awaited",
        [("b", "store gone before")],
        "what has ended is stored",
        ["store gone before"],
    ),
    Noticed(
        14,
        "whatever raises in a text costs what it is in",
        "in sequence",
        [("a", "fails oddly")],
        "whatever a call comes to is stored",
        ["fails oddly"],
    ),
    Noticed(
        15,
        "a coroutine that nobody awaits is a result",
        "in sequence",
        [("a", "never run")],
        "results survive storing",
        ["never run"],
    ),
]


@pytest.mark.parametrize("one", NOTICED, ids=[f"{one.semantic}-{one.mutant}" for one in NOTICED])
def test_an_engine_that_breaks_it_is_noticed(one: Noticed) -> None:
    at_end = None if isinstance(one.law, str) else one.law
    with broken(MUTANTS[one.mutant]):
        found = explored(one.flow, one.timeout, at_end=at_end, kinds=one.kinds, faults=max(2, len(one.faults))).broken
    assert found is not None
    assert list(found.faults) == [Fault(*fault) for fault in one.faults]
    assert found.broken is not None
    assert found.broken.law == (one.law if isinstance(one.law, str) else f"{one.law.__name__} holds at the end")


OF_STORE = [*OF_TIME, "fails", "never run", "undo never run", *(kind for kind in Kind if kind.startswith("store"))]
OF_PERSONS = ["answer lost", "fails", "undo fails", "retried", "skipped"]
LOOKED_AT = sorted({(one.flow, "" if isinstance(one.law, str) else one.law.__name__) for one in NOTICED} | {("waiting", "")})


@pytest.mark.parametrize(("flow", "law"), LOOKED_AT)
def test_the_engine_as_it_is_keeps_these_laws(flow: str, law: str) -> None:
    at_end = globals()[law] if law else None
    for kinds in (None, ["interrupted", "cancelled", "second owner", "fails oddly", "undo fails oddly"]):
        found = explored(flow, at_end=at_end, kinds=kinds)
        assert found.complete, found.broken


@pytest.mark.parametrize("kinds", [OF_STORE, OF_PERSONS], ids=["the store and the time", "persons"])
@pytest.mark.parametrize("flow", FLOWS)
def test_the_engine_as_it_is_keeps_the_usual_laws(flow: str, kinds: list[str]) -> None:
    found = explored(flow, 100.0, kinds=kinds)
    assert found.complete, found.broken


# -- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policies", [{"retry": Retry(2)}, {"on_error": Skip}, {"retry": Retry(2), "timeout": 30.0}], ids=str)
def test_a_unit_keeps_all_laws_whatever_fails(policies: dict[str, Any]) -> None:
    class Room:
        def __init__(self) -> None:
            self.there: set[str] = set()

        def state(self) -> set[str]:
            return set(self.there)

    def build(room: Room) -> Saga:
        def act(name: str) -> Any:
            return step(lambda: room.there.add(name), lambda own: room.there.discard(name), name=name)

        within = unit(act("b"), parallel(act("c"), act("d")), name="u", **policies)
        return Saga("s", store=MemoryStore()).add_task(act("a")).add_task(within).add_task(act("e"))

    assert explore(build, world=Room, faults=1).complete
