"""The past debugged: what each call had seen is seen again, it comes to the same again, and nothing is stored."""

from __future__ import annotations

import asyncio
import copy
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from saga import (
    Ask,
    Context,
    Done,
    InDoubt,
    NotDone,
    OutcomeUnknownError,
    Retry,
    Saga,
    Skip,
    fallback,
    parallel,
    receive,
    sequence,
    step,
)
from saga.errors import (
    ActionRefusedError,
    DefinitionChangedError,
    SagaDefinitionError,
    StorageError,
    UnknownExecutionError,
    UnreadableJournalError,
)
from saga.logging import SagaLogger
from saga.operations import Operations
from saga.storage import MemoryStore, NewExecution
from saga.testing import Moment, debug
from saga.worker import Worker
from tests.kit import Watched, expired

# -- what was seen ----------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """A call, what it saw, and what came of it."""

    step: str
    phase: str
    attempt: int
    context: dict[str, Any]
    results: dict[str, Any]
    key: str
    cause: str


class Spy:
    """Makes functions that note what they see, change the context, and fail where they are told to.

    :ivar asynchronous: they are coroutine functions.
    """

    def __init__(self, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self.calls: list[Seen] = []

    def do(self, name: str, *fails: str, **policies: Any) -> Any:
        """Return a step. ``fails`` says at which calls, as ``execute 1`` or ``compensate``; ``lost``: by a lost answer."""

        def call(context: Context, phase: str, gives: Any = None) -> Any:
            info = context.step
            cause = repr(info.cause) if phase == "compensate" else ""
            context_then, results = copy.deepcopy(dict(context)), copy.deepcopy(dict(context.__binding__.results))
            self.calls.append(Seen(name, phase, info.attempt, context_then, results, info.idempotency_key, cause))
            context[f"{name}_{phase}"] = [info.attempt, *context.get(f"{name}_{phase}", [])]
            context.pop(f"{name}_gone", None)
            if {f"{phase} {info.attempt}", phase} & {*fails}:
                raise (OutcomeUnknownError if "lost" in fails else ValueError)(f"{name} {phase} {info.attempt}")
            return gives

        given = {"by": name, "parts": [1, 2]}
        functions = [
            self.function(lambda context: call(context, "execute", given)),
            self.function(lambda context: call(context, "compensate")),
        ]
        if "verify" in policies:
            policies["verify"] = self.function(lambda context, answer=policies["verify"]: call(context, "verify", answer))
        return step(*functions, name=name, **policies)

    def function(self, work: Callable[[Context], Any]) -> Callable[[Context], Any]:
        def plain(context: Context) -> Any:
            return work(context)

        async def coroutine(context: Context) -> Any:
            await asyncio.sleep(0)
            return work(context)

        return coroutine if self.asynchronous else plain


FLOWS: dict[str, Callable[[Spy], Any]] = {
    "an undo that fails": lambda spy: sequence(spy.do("a", "compensate"), spy.do("b"), spy.do("c", "execute")),
    "attempts": lambda spy: sequence(
        spy.do("a", "execute 1", "execute 2", retry=Retry(3)),
        spy.do("b", "compensate 1", compensation_retry=Retry(2)),
        spy.do("c", "execute"),
    ),
    "a group": lambda spy: sequence(
        spy.do("a"), parallel(sequence(spy.do("b"), spy.do("c")), sequence(spy.do("d"), spy.do("e"))), spy.do("f", "execute")
    ),
    "a group whose branch fails": lambda spy: sequence(spy.do("a"), parallel(spy.do("b"), spy.do("c", "execute"))),
    "a group within a group": lambda spy: parallel(
        sequence(spy.do("a"), parallel(spy.do("b"), spy.do("c", "compensate")), spy.do("d")), spy.do("e", "execute")
    ),
    "a fallback": lambda spy: sequence(
        fallback(spy.do("a", "execute", compensate_on_failure=True), spy.do("b")), spy.do("c", "execute")
    ),
    "a skip": lambda spy: sequence(
        spy.do("a", "execute", on_error=Skip, compensate_on_failure=True), spy.do("b"), spy.do("c", "execute")
    ),
    "limits": lambda spy: sequence(spy.do("a", timeout=30.0), spy.do("b", "execute", "compensate", timeout=30.0)),
    "a verification that knows": lambda spy: sequence(
        spy.do("a", "execute", "lost", verify=Done({"by": "verify"})), spy.do("b", "execute")
    ),
    "a verification that does not": lambda spy: sequence(
        spy.do("a"), spy.do("b", "execute", "lost", verify=None, retry=Retry(2, retry_on=OutcomeUnknownError))
    ),
    "a person is asked": lambda spy: sequence(spy.do("a"), spy.do("b", "execute", on_error=Ask)),
    "a saga within": lambda spy: sequence(
        spy.do("a"), Saga("inner").add_task(spy.do("b")).add_task(spy.do("c")), spy.do("d", "execute")
    ),
    "it goes well": lambda spy: sequence(spy.do("a"), spy.do("b")),
}


def moments(saga: Saga[Any], store: Any, saga_id: str = "x") -> Iterator[Moment]:
    """Yield the execution right before each of its calls."""
    first = debug(saga_id, saga, store=store)
    for entry in store.journal(saga_id):
        moment = first.at(entry.seq)
        if moment.step is not None and moment.seq == entry.seq:
            yield moment


def local(name: str) -> str:
    return name.rpartition("/")[2]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "coroutines"])
@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS.keys())
def test_each_call_is_made_again_as_it_was(flow: Callable[[Spy], Any], asynchronous: bool) -> None:
    spy, store = Spy(asynchronous), MemoryStore()
    saga = Saga("s", store=store).add_task(flow(spy))
    saga.try_execute({"given": [1, {"deep": 2}]}, saga_id="x")
    assert_made_again_as_it_was(saga, spy, store)


def test_what_was_undone_and_executed_again_is_debugged_each_time() -> None:
    spy, store = Spy(), MemoryStore()
    saga = Saga("s", store=store).add_task(sequence(spy.do("a"), spy.do("b"), parallel(spy.do("c"), spy.do("d"))))
    saga.execute({"given": 1}, saga_id="x")
    saga.undo("x", "it was wrong", to="a")
    Operations(store, "ann").resume("x", "it is right now")
    Worker(store, [saga]).run_once()
    assert len(spy.calls) == 10
    assert_made_again_as_it_was(saga, spy, store)


def assert_made_again_as_it_was(saga: Saga[Any], spy: Spy, store: MemoryStore) -> None:
    then, spy.calls = spy.calls, []
    before, journal = repr(store.get("x")), store.journal("x")
    for moment in moments(saga, store):
        assert moment.step is not None
        call = (local(moment.step), moment.phase, moment.attempt)
        seen = next(one for one in then if one[:3] == call)
        assert (dict(moment.context), moment.results) == (seen.context, seen.results), call
        again = moment.call()
        assert [one[:-1] for one in spy.calls] == [seen[:-1]]
        assert dict(moment.context) == seen.context, "the moment stays as it is"
        ended = next(one for one in journal[moment.seq :] if one.step == moment.step and _ends(one, moment))
        assert again.returned == (ended.kind in ("StepSucceeded", "CompensationSucceeded", "StepVerified"))
        assert again.said == moment.said
        assert (again.refused, again.left) == ((), False)
        assert spy.calls.pop().cause == seen.cause
        then.remove(seen)
    assert not then
    assert (repr(store.get("x")), store.journal("x")) == (before, journal)


def _ends(entry: Any, moment: Moment) -> bool:
    outcomes = {
        "execute": ("StepSucceeded", "StepFailed", "StepTimedOut"),
        "compensate": ("CompensationSucceeded", "CompensationFailed"),
        "verify": ("StepVerified", "VerificationFailed"),
    }
    return entry.kind in outcomes[str(moment.phase)]


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS.keys())
def test_wherever_it_died_the_call_in_doubt_is_the_one(flow: Callable[[Spy], Any]) -> None:
    spy, store = Spy(), Watched(MemoryStore())
    saga = Saga("s").add_task(flow(spy))
    saga.try_execute(saga_id="x", store=store)
    for number in range(1, len(store.writes) + 1):
        left = MemoryStore()
        expired(left, store.writes[:number])
        row = left.get("x")
        assert row is not None
        if row.status not in ("running", "compensating"):
            continue
        moment = debug("x", saga, store=left)
        intents = [entry for entry in left.journal("x") if entry.kind.endswith("Started") and entry.step]
        in_doubt = [entry for entry in intents if not any(_of(later, entry) for later in left.journal("x")[entry.seq :])]
        if not in_doubt:  # it waits for another attempt
            assert moment.error is not None
            continue
        assert (moment.seq, moment.error) == (in_doubt[-1].seq, None)
        again = moment.call()
        assert again.follows
        assert again.offer is None, "whoever takes it up makes it"
        assert "goes on with it" in moment.told(again)


def _of(later: Any, intent: Any) -> bool:
    what = intent.kind.removesuffix("Started")
    kinds = {"Step": ("StepSucceeded", "StepFailed"), "Verification": ("StepVerified", "VerificationFailed")}
    return later.step == intent.step and later.kind in kinds.get(what, ("CompensationSucceeded", "CompensationFailed"))


# -- which call -------------------------------------------------------------------------------------------------------

WHICH: list[tuple[str, str, str | None]] = [
    ("an undo that fails", "compensate a", "ValueError: a compensate 1"),
    ("attempts", "execute c", "ValueError: c execute 1"),
    ("a group within a group", "compensate c", "ValueError: c compensate 1"),
    ("a skip", "execute c", "ValueError: c execute 1"),
    ("limits", "execute b", "ValueError: b execute 1"),
    ("a verification that does not", "execute b", "OutcomeUnknownError: b execute 2"),
    ("a person is asked", "execute b", "ValueError: b execute 1"),
    ("it goes well", "execute b", None),
]


@pytest.mark.parametrize(("flow", "which", "said"), WHICH, ids=[one[0] for one in WHICH])
def test_the_call_that_went_wrong_is_looked_at_first(flow: str, which: str, said: str | None) -> None:
    store = MemoryStore()
    saga = Saga("s", store=store).add_task(FLOWS[flow](Spy()))
    saga.try_execute(saga_id="x")
    moment = debug("x", saga)
    assert (f"{moment.phase} {moment.step}", moment.said) == (which, said)


def test_an_entry_that_tells_what_came_of_a_call_stands_for_the_call() -> None:
    store = MemoryStore()
    saga = Saga("s", store=store).add_task(FLOWS["an undo that fails"](Spy()))
    saga.try_execute(saga_id="x")
    first = debug("x", saga, at=1)
    for entry in store.journal("x"):
        moment = first.at(entry.seq)
        assert moment.seq == entry.seq or (moment.step == entry.step and moment.seq < entry.seq)
        assert (moment.step is None) == entry.kind.startswith("Saga")
        assert [line.seq for line in moment.followed] == list(range(moment.seq + 1, len(store.journal("x")) + 1))


# -- mended code ------------------------------------------------------------------------------------------------------


class World:
    """What steps act on: they fail as long as it is broken."""

    broken = True

    def act(self, result: Any = None, error: type[Exception] = ValueError) -> Callable[[], Any]:
        def work() -> Any:
            if self.broken:
                raise error("it is broken")
            return result

        return work


def stuck_in_an_undo(world: World) -> Saga[Any]:
    saga = Saga("s").add_task(step(lambda: 1, lambda: None, name="first"))
    saga.add_task(step(lambda: 1, world.act(), name="undone"))
    return saga.add_task(step(world.act(), name="failed"))


def asks(world: World) -> Saga[Any]:
    return Saga("s").add_task(step(world.act("R1"), name="asked", on_error=Ask)).add_task(step(int, name="next"))


def asks_in_doubt(world: World) -> Saga[Any]:
    saga = Saga("s").add_task(step(lambda: 1, lambda: None, name="first"))
    return saga.add_task(step(world.act("R1", OutcomeUnknownError), world.act(), name="doubtful", in_doubt=InDoubt.ASK))


def compensated(world: World) -> Saga[Any]:
    return Saga("s").add_task(step(int, int, name="first")).add_task(step(world.act("R1"), name="failed"))


def retried(world: World) -> Saga[Any]:
    return Saga("s").add_task(step(int, int, name="a")).add_task(step(world.act("R1"), name="failed", retry=Retry(2)))


def grouped(world: World) -> Saga[Any]:
    group = parallel(step(lambda: 1, int, name="beside"), step(world.act("R1"), int, name="failed"))
    return Saga("s").add_task(group).add_task(step(int, name="next"))


MENDED: list[tuple[Callable[[World], Saga[Any]], int | None, bool, str, str | None, str | None]] = [
    (
        stuck_in_an_undo,
        None,
        True,
        "undoes 'first'; where that goes well, it is compensated",
        "saga retry x --why ...",
        "calls the compensation of 'undone' again; where that goes well, it is compensated",
    ),
    (
        stuck_in_an_undo,
        None,
        False,
        "undoes 'first'; then it is stuck: compensation failed: undone",
        "saga retry x --why ...",
        "calls the compensation of 'undone' again; then it is stuck: compensation failed: undone",
    ),
    (stuck_in_an_undo, 6, True, "it is completed", None, None),
    (stuck_in_an_undo, 6, False, "undoes 'undone', then 'first'; where that goes well, it is compensated", None, None),
    (asks, None, True, "executes 'next'", "saga resume x --why ...", "executes 'asked' again; executes 'next'"),
    (asks, None, False, "then it is stuck: failed for good, and on_error says Ask: asked", "saga resume x --why ...", None),
    (compensated, None, True, "it is completed", None, None),
    (compensated, None, False, "undoes 'first'; where that goes well, it is compensated", None, None),
    (retried, 4, False, "executes 'failed' again", None, None),
    (retried, None, False, "undoes 'a'; where that goes well, it is compensated", None, None),
    (asks_in_doubt, None, True, "it is completed", None, None),
    (grouped, 3, True, "lets 'beside' end; executes 'next'", None, None),
    (grouped, 3, False, "lets 'beside' end; undoes 'beside'; where that goes well, it is compensated", None, None),
]


@pytest.mark.parametrize(("build", "at", "mended", "follows", "command", "does"), MENDED)
def test_what_follows_with_the_code_as_it_is_now_is_told(
    build: Callable[[World], Saga[Any]], at: int | None, mended: bool, follows: str, command: str | None, does: str | None
) -> None:
    world, store = World(), MemoryStore()
    saga = build(world)
    saga.try_execute(saga_id="x", store=store)
    world.broken = not mended
    moment = debug("x", saga, store=store, at=at)
    again = moment.call()
    assert again.returned == mended
    assert again.follows == follows
    assert (again.offer and again.offer.command("x")) == command
    assert does is None or again.does == does
    assert follows in moment.told(again)


def test_what_waited_beside_a_call_goes_on_in_what_follows() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def later() -> None:
        await asyncio.sleep(0.01)

    store = MemoryStore()
    waits, works = step(fails, name="a", retry=Retry(2, 3600.0)), sequence(step(later, name="b"), step(later, name="c"))
    saga = Saga("s", store=store).add_task(parallel(waits, works))
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    (seq,) = [entry.seq for entry in store.journal("x") if (entry.kind, entry.step) == ("StepStarted", "c")]
    assert debug("x", saga, at=seq).call().follows == "executes 'a' again"


def test_what_a_verification_says_is_told() -> None:
    answers: list[Any] = [None, Done({"id": 1}), NotDone, None]
    store = MemoryStore()
    doubtful = step(World().act(error=OutcomeUnknownError), verify=lambda: answers.pop(0), name="a")
    saga = Saga("s", store=store).add_task(doubtful)
    saga.try_execute(saga_id="x")
    moment = debug("x", saga, at=4)
    assert moment.phase == "verify"
    told = [moment.told(moment.call()).splitlines()[:2] for _ in range(3)]
    assert told == [
        ['it returned {"done": true, "result": {"id": 1}}', "what would have followed then: it is completed"],
        ['it returned {"done": false}', "what would have followed then: it is compensated: nothing is left to undo"],
        [
            "it failed: OutcomeUnknownError: verify of step 'a' does not know",
            "what would have followed then: it is compensated: nothing is left to undo",
        ],
    ]


def test_what_is_said_to_follow_does() -> None:
    world, store = World(), MemoryStore()
    saga = stuck_in_an_undo(world)
    saga.try_execute(saga_id="x", store=store)
    world.broken = False
    again = debug("x", saga, store=store).call()
    assert again.offer is not None
    getattr(Operations(store, "ann"), again.offer.action)("x", "it is mended")
    assert str(Worker(store, [saga]).run_once()[0].status) == "compensated"


# -- nothing is stored ------------------------------------------------------------------------------------------------


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("flow", ["an undo that fails", "a verification that does not", "a group"])
def test_the_database_is_as_it_was(flow: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    saga = Saga("s", store=path).add_task(FLOWS[flow](Spy()))
    saga.try_execute({"given": 1}, saga_id="x")
    before = dump(path)
    with closing(sqlite3.connect(path)) as connection:
        entries = [seq for (seq,) in connection.execute("SELECT seq FROM saga_journal ORDER BY seq")]
    moment = debug("x", saga)
    for seq in entries:
        one = moment.at(seq)
        if one.step is not None:
            for allow_effects in (False, True):
                one.call(allow_effects=allow_effects)
        assert str(one)
    assert dump(path) == before


# -- shown ------------------------------------------------------------------------------------------------------------


def test_what_loggers_mask_is_not_shown() -> None:
    def pay(context: Context) -> dict[str, str]:
        context.card = "4111-2"
        context.token = "4111-3"
        return {"card": "4111-4", "sum": "3"}

    def fails(context: Context) -> None:
        raise ValueError("no")

    store = MemoryStore()
    logger = SagaLogger(show=("card", "order"), mask=("card", "order.token"))
    saga = Saga("s", store=store, logger=logger).add_task(step(pay, fails, name="pay")).add_task(step(fails, name="b"))
    saga.try_execute({"card": "4111-1", "order": {"token": "4111-5", "id": "A1"}}, saga_id="x")
    for moment in moments(saga, store):
        text = f"{moment}{moment.told(moment.call())}{moment.shown_context()}{moment.shown_results()}"
        assert "4111" not in text
        assert "A1" in text
    assert debug("x", saga, at=2).call().result["card"] == "4111-4", "whoever asks for the value itself gets it"


def test_all_that_was_known_is_shown() -> None:
    world, store = World(), MemoryStore()
    saga = stuck_in_an_undo(world)
    saga.try_execute({"order": "A1"}, saga_id="x", store=store)
    moment = debug("x", saga, store=store)
    lines = str(moment).splitlines()
    assert lines[:8] == [
        "s x, which is stuck",
        "entry 9, right before compensate of undone, attempt 1",
        "context",
        '  order  "A1"',
        "results",
        "  first   1",
        "  undone  1",
        "it raised ValueError: it is broken",
    ]
    assert lines[8:10] == ["what followed", f"  {moment.followed[0]}"]
    assert lines[-2:] == ["other calls that went wrong", "     6  execute of failed, attempt 1: ValueError: it is broken"]


# -- what is wrong ----------------------------------------------------------------------------------------------------


def _stored(**options: Any) -> tuple[Saga[Any], MemoryStore]:
    store = MemoryStore()
    saga = Saga("s", **options).add_task(step(lambda: 1 / 0, name="a"))
    saga.try_execute(saga_id="x", store=store)
    return saga, store


def _purged() -> Any:
    saga, store = _stored()
    Operations(store, "ann").purge(older_than=0.0)
    return debug("x", saga, store=store)


def _changed() -> Any:
    _, store = _stored()
    return debug("x", Saga("s").add_task(step(int, name="another")), store=store)


def _waits() -> Any:
    store = MemoryStore()
    saga = Saga("s", store=store).add_task(receive("approval")).add_task(step(int))
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    return debug("x", saga, at=3).call()


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: debug("y", *_stored()[:1], store=MemoryStore()), UnknownExecutionError, "there is no execution 'y' here"),
    (_purged, UnknownExecutionError, "of what was purged, nothing is left"),
    (lambda: debug("x", store=_stored()[1]), SagaDefinitionError, "the definition of saga 's' is not known here; give debug"),
    (lambda: debug("x", _stored()[0]), SagaDefinitionError, "debug() needs a store: give store=..."),
    (lambda: debug("x", Saga, store=MemoryStore()), SagaDefinitionError, "give"),  # type: ignore[arg-type]
    (lambda: debug("x", _stored()[0], store="not-there.db"), StorageError, "there is no file 'not-there.db'"),
    (_changed, DefinitionChangedError, "have been changed since under the same version"),
    (_waits, ActionRefusedError, "entry 3 (StepStarted) is no call; entries that are: none"),
]


@pytest.mark.parametrize(("wrong", "kind", "text"), WRONG)
def test_what_cannot_be_debugged_is_said(wrong: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        wrong()
    assert not Path("not-there.db").exists()


@pytest.mark.parametrize("at", [0, -1, 7, True, "1", 1.0])
def test_an_entry_that_there_is_not_is_said(at: Any) -> None:
    saga, store = _stored()
    with pytest.raises(ValueError, match=re.escape(f"execution 'x' has no entry {at!r}; its journal has 1 to 5")):
        debug("x", saga, store=store, at=at)


def test_of_a_damaged_journal_what_comes_before_can_be_debugged() -> None:
    saga, store = _stored()
    damaged = MemoryStore()
    row = store.get("x")
    assert row is not None
    entries = store.journal("x")
    entries[3] = entries[3]._replace(payload="{")
    damaged.create(NewExecution(*row[:5], "running"), entries, "dead", 0.0)
    moment = debug("x", saga, store=damaged, at=2)
    assert moment.call().said == "ZeroDivisionError: division by zero"
    with pytest.raises(UnreadableJournalError, match="entry 4"):
        moment.at(5)
