"""What an action is said to do is what it does then: wherever an execution's process died, and however it ended."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from saga import Ask, InDoubt, OutcomeUnknownError, Retry, Saga, Skip, Status, fallback, parallel, receive, step
from saga.errors import (
    ActionRefusedError,
    EncodingError,
    SagaDefinitionError,
    SagaExecutionException,
    UnknownExecutionError,
)
from saga.operations import Offer, Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from saga.worker import Worker
from tests.kit import Watched, Write, expired
from tests.kit.tasks import perform

LOST: Final = KeyboardInterrupt()
NO: Final = ValueError("no")


class Doing:
    """What steps did: ``a`` where step a was executed, ``-a`` where it was undone.

    :ivar failing: what the first calls of each raise.
    :ivar during: what else is done in the first call of each.
    """

    def __init__(self, **failing: Any) -> None:
        self.log: list[str] = []
        self.failing = failing
        self.during: dict[str, Callable[[], object]] = {}

    def step(self, name: str, undoable: bool = True, **policies: Any) -> Any:
        def do(what: str) -> str:
            self.log.append(what)
            self.during.pop(what, list)()
            perform(self.failing.pop(what.replace("-", "un"), None))
            return what

        return step(lambda: do(name), (lambda: do(f"-{name}")) if undoable else None, name=name, **policies)


Build = Callable[[Doing], Saga]


def flow(*steps: Any, **options: Any) -> Saga:
    saga = Saga("order", **options)
    for one in steps:
        saga.add_task(one)
    return saga


#: By what is special about them: what fails in the process that dies, and the saga. Whatever is called later returns.
CASES: Final[dict[str, tuple[dict[str, Any], Build]]] = {
    "all goes well": ({}, lambda on: flow(on.step("a"), on.step("b", False), on.step("c"))),
    "an undo fails": ({"c": NO, "unb": NO}, lambda on: flow(on.step("a"), on.step("b"), on.step("n", False), on.step("c"))),
    "two undos fail": ({"c": NO, "una": NO, "unb": NO}, lambda on: flow(on.step("a"), on.step("b"), on.step("c"))),
    "it stops at an undo that fails": (
        {"c": NO, "unb": NO},
        lambda on: flow(on.step("a"), on.step("b"), on.step("c"), stop_on_compensation_failure=True),
    ),
    "a person is asked": ({"b": NO}, lambda on: flow(on.step("a"), on.step("b", on_error=Ask), on.step("c"))),
    "in doubt, and undone": ({"b": LOST}, lambda on: flow(on.step("a"), on.step("b"), on.step("c"))),
    "in doubt, and asked about": (
        {"b": LOST},
        lambda on: flow(on.step("a"), on.step("b", in_doubt=InDoubt.ASK), on.step("c")),
    ),
    "in doubt, and executed again": (
        {"b": NO},
        lambda on: flow(on.step("a"), on.step("b", in_doubt=InDoubt.RERUN, retry=Retry(3)), on.step("c")),
    ),
    "in doubt, with a verification": (
        {"b": LOST},
        lambda on: flow(on.step("a"), on.step("b", verify=lambda: None), on.step("c")),
    ),
    "one may have done a part": (
        {"b": NO},
        lambda on: flow(on.step("a"), on.step("b", compensate_on_failure=True), on.step("c")),
    ),
    "one is skipped": (
        {"b": NO, "unb": NO, "c": NO},
        lambda on: flow(on.step("a"), on.step("b", on_error=Skip, compensate_on_failure=True), on.step("c")),
    ),
    "a fallback": ({"b": NO, "c": NO}, lambda on: flow(on.step("a"), fallback(on.step("b"), on.step("d")), on.step("c"))),
    "past the pivot": (
        {"c": NO},
        lambda on: flow(on.step("a"), on.step("p", False, pivot=True), on.step("c", on_error=Ask), on.step("d")),
    ),
    "a group": (
        {"d": NO, "unb": NO},
        lambda on: flow(on.step("a"), parallel(on.step("b"), on.step("c")), on.step("d")),
    ),
    "a group that is undone together": (
        {"d": NO, "unc": NO},
        lambda on: flow(on.step("a"), parallel(on.step("b"), on.step("c"), compensate_together=True), on.step("d")),
    ),
}


def left_anywhere(case: str) -> Iterator[list[Write]]:
    """Yield what was stored wherever the process may have died, and at the end."""
    failing, build = CASES[case]
    watched = Watched(MemoryStore())
    with suppress(SagaExecutionException, KeyboardInterrupt):
        build(Doing(**failing)).try_execute(saga_id="o-1", store=watched)
    for count in range(1, len(watched.writes) + 1):
        yield watched.writes[:count]


def found(writes: list[Write]) -> MemoryStore:
    store = MemoryStore()
    expired(store, writes)
    return store


def act(operations: Operations, offer: Offer) -> None:
    said = {} if offer.step is None else {"to" if offer.action == "undo" else "step": offer.step}
    getattr(operations, offer.action)("o-1", **said, why="so")


def names_after(words: str, text: str) -> list[str]:
    """Return the steps that a sentence names after these words."""
    found = re.findall(rf"{words} ((?:'\w+'(?:, then | and |, )?)+)", text)
    return [name for names in found for name in re.findall(r"'(\w+)'", names)]


def undone_in(does: str) -> list[str]:
    """Return the steps that are said to be compensated, in order."""
    return names_after("(?:undoes|calls the compensation of)", does)


def in_order(case: str, undone: list[str]) -> list[str]:
    """Return compensations in their order; which of two that are made together comes first, nobody knows."""
    if case != "a group that is undone together":
        return undone
    first = iter(sorted(name for name in undone if name in ("-b", "-c")))
    return [next(first) if name in ("-b", "-c") else name for name in undone]


@pytest.mark.parametrize("case", CASES)
def test_an_action_does_what_was_told_of_it(case: str) -> None:
    tried = Counter[str]()
    for writes in left_anywhere(case):
        saga = CASES[case][1](Doing())
        for offer in Operations(found(writes), "ann", sagas=[saga]).show("o-1").offers:
            tried[offer.action] += 1
            on, store = Doing(), found(writes)
            saga = CASES[case][1](on)
            operations = Operations(store, "ann", sagas=[saga])
            act(operations, offer)
            Recovery(store, [saga]).run_once()
            row = store.get("o-1")
            assert row is not None
            told = f"after {len(writes)} commits: {offer}, and it did {on.log}; it is {row.status}: {row.reason}"
            foretold = [f"-{name}" for name in undone_in(offer.does)]
            undone = [call for call in on.log if call[0] == "-"]
            assert in_order(case, foretold) == in_order(case, undone), told
            executed = [call for call in on.log if call[0] != "-"]
            begun = names_after("executes", offer.does)
            assert sorted(executed[: len(begun)]) == sorted(begun), told
            assert not executed or begun, told
            if "stuck" in offer.does:
                assert str(row.reason).startswith(offer.does.partition("then it is stuck: ")[2]), told
            else:
                said = re.search(r"it is (compensated|completed)", offer.does)
                assert said is None or row.status == said[1], told
                assert said or row.status != "compensated" or offer.does.endswith("nothing is undone"), told
                assert row.status == {"pause": "paused"}.get(offer.action, "completed" if begun else row.status), told
                assert row.status != "stuck", told
    assert tried, "no action fits anywhere"


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused_is_refused(case: str) -> None:
    for writes in left_anywhere(case):
        saga = CASES[case][1](Doing())
        operations = Operations(found(writes), "ann", sagas=[saga])
        view = operations.show("o-1")
        for action, why in view.refused.items():
            given = {"step": "a"} if action == "skip" else {}
            with pytest.raises(ValueError, match=r".") as refused:
                getattr(operations, action)("o-1", why="so", **given)
            assert action == "skip" or str(refused.value) == why
        assert view.refused.keys() | {offer.action for offer in view.offers} == {
            "retry", "resume", "skip", "pause", "cancel", "compensate", "undo",
        }  # fmt: skip


# -- where nobody has begun it, and where it rests ------------------------------------------------------------------------


def resting(saga: Saga, on: Doing, how: str) -> Operations:
    """Return who looks at an execution that is submitted, or that a person has paused or undone back to a step."""
    operations = Operations(MemoryStore(), "ann", sagas=[saga])
    vars(saga)["store"] = operations.store
    if how.startswith("submitted"):
        saga.submit(saga_id="o-1")
    elif how == "paused":
        on.during["a"] = lambda: operations.pause("o-1", why="so")
        with suppress(SagaExecutionException):
            saga.execute(saga_id="o-1")
    else:
        saga.execute(saga_id="o-1")
        saga.undo("o-1", why="so", who="ann", to="a")
    if how == "submitted and paused":
        operations.pause("o-1", why="so")
    on.log.clear()
    return operations


RESTING: Final[dict[tuple[str, str], tuple[str, list[str], str]]] = {
    ("submitted", "cancel"): ("ends it before it has begun: nothing is done, so nothing is undone", [], "compensated"),
    ("submitted", "pause"): ("keeps it from being begun until a person resumes it, or gives it up", [], "paused"),
    ("submitted and paused", "resume"): ("lets it be begun, in its turn", ["a", "b", "c"], "completed"),
    ("submitted and paused", "compensate"): (
        "as cancel does here: ends it before it has begun: nothing is done, so nothing is undone",
        [],
        "compensated",
    ),
    ("paused", "resume"): ("executes 'b'", ["b", "c"], "completed"),
    ("paused", "cancel"): ("undoes 'a'; where that goes well, it is compensated", ["-a"], "compensated"),
    ("undone back", "resume"): ("executes 'b' again", ["b", "c"], "completed"),
    ("undone back", "compensate"): (
        "as cancel does here: undoes 'a'; where that goes well, it is compensated",
        ["-a"],
        "compensated",
    ),
}
"""By how it rests and what is done: what is said of that, what is called then, and how the execution ends."""


@pytest.mark.parametrize(("how", "action"), RESTING)
def test_an_action_on_what_rests_does_what_was_told_of_it(how: str, action: str) -> None:
    does, calls, status = RESTING[how, action]
    on = Doing()
    saga = flow(on.step("a"), on.step("b"), on.step("c"))
    operations = resting(saga, on, how)
    assert {offer.action: offer.does for offer in operations.show("o-1").offers}[action] == does
    getattr(operations, action)("o-1", why="so")
    Worker(operations.store, [saga]).run_once()
    assert on.log == calls
    assert operations.get("o-1").status == status


@pytest.mark.parametrize(
    "names", [("a", "b"), ("a, b", "b; c"), ("in doubt, and the task says ASK: x", "b, a; not compensated: a")]
)
def test_a_name_may_have_in_it_what_stands_between_names(names: tuple[str, str]) -> None:
    """Without the definition, it is known from the reason alone about which step a person is asked."""
    store = MemoryStore()

    def lost() -> None:
        raise OutcomeUnknownError("?")

    def undo() -> None: ...

    saga = flow(step(int, undo, name=names[0]), step(lost, undo, name=names[1], in_doubt=InDoubt.ASK), store=store)
    saga.try_execute(saga_id="x")
    offers = Operations(store, "ann").show("x").offers
    assert offers == Operations(store, "ann", sagas=[saga]).show("x").offers
    assert [(offer.action, offer.step) for offer in offers] == [("skip", names[1]), ("compensate", None)]


@pytest.mark.parametrize("left", [0, 2], ids=["no entry", "two entries"])
@pytest.mark.parametrize("action", ["pause", "cancel", "compensate", "resume", "retry"])
def test_of_what_has_a_damaged_journal_no_more_is_offered_than_can_be_done(action: str, left: int) -> None:
    """Its row says where it stands."""
    store, on = MemoryStore(), Doing(b=NO, una=NO)
    flow(on.step("a"), on.step("b"), store=store).try_execute(saga_id="x")
    store._journals["x"] = {entry.seq: entry for entry in store.journal("x")[:left]}
    operations = Operations(store, "ann")
    shown = operations.show("x")
    offered = [offer.action for offer in shown.offers]
    assert offered == ["retry", "resume", "compensate"]
    assert (action in offered) != (action in shown.refused)
    with suppress(ActionRefusedError):
        getattr(operations, action)("x", "why")
        assert action in offered
    assert (operations.get("x").status == Status.RUNNING) == (action in offered)


@pytest.mark.parametrize(
    ("action", "step", "saga_id", "line"),
    [
        ("retry", None, "A1", "saga retry A1 --why ..."),
        ("skip", "pack it", "A1", "saga skip A1 --step 'pack it' --why ..."),
        ("undo", "charge", "a'b", "saga undo 'a'\"'\"'b' --to charge --why ..."),
        ("cancel", None, "--yes", "saga cancel --why ... -- --yes"),
    ],
)
def test_what_is_offered_is_a_line_of_a_terminal_too(action: str, step: str | None, saga_id: str, line: str) -> None:
    assert Offer(action, step, "").command(saga_id) == line


# -- signals ----------------------------------------------------------------------------------------------------------

Leave = Callable[[Saga, Operations], object]


def waiting(**more: Any) -> Saga:
    def refuse() -> None:
        raise NO

    return flow(step(int, refuse, name="a"), receive("go", name="wait"), step(int, name="b"), **more)


def begun(saga: Saga, operations: Operations) -> None:
    saga.submit(saga_id="x")
    Worker(operations.store, [saga]).run_once()


def paused(saga: Saga, operations: Operations) -> None:
    begun(saga, operations)
    operations.pause("x", "so")


def given(saga: Saga, operations: Operations) -> None:
    begun(saga, operations)
    operations.signal("x", "go", "so")
    Worker(operations.store, [saga]).run_once()


def given_up(saga: Saga, operations: Operations) -> None:
    begun(saga, operations)
    operations.cancel("x", "so")
    Worker(operations.store, [saga]).run_once()
    assert operations.get("x").status == "stuck"


KEPT: Final = "is kept for 'wait', which receives it when it is its turn"

#: By how an execution was left: what is said of the signal, or ``None`` where it is refused.
SIGNALS: Final[dict[str, tuple[Leave, str | None]]] = {
    "submitted": (lambda saga, operations: saga.submit(saga_id="x"), KEPT),
    "waiting": (begun, "lets 'wait' go on with it; executes 'b'"),
    "paused": (paused, KEPT),
    "given already": (given, None),
    "given up": (given_up, None),
}


@pytest.mark.parametrize("how", SIGNALS)
def test_a_signal_that_is_offered_does_what_was_told_of_it(how: str) -> None:
    leave, does = SIGNALS[how]
    store = MemoryStore()
    saga = waiting(store=store)
    operations = Operations(store, "ann", sagas=[saga])
    leave(saga, operations)
    offers = [offer for offer in operations.show("x").offers if offer.action == "signal"]
    assert offers == ([] if does is None else [Offer("signal", "wait", does, "go")])
    if does is None:
        with pytest.raises(ActionRefusedError, match="no step receives a signal any more"):
            operations.signal("x", "go", "so", 7)
        return
    operations.signal("x", "go", "she called", {"by": "bob"})
    if how == "paused":
        Worker(store, [saga]).run_once()
        assert operations.get("x").status == "paused"
        operations.resume("x", "so")
    Worker(store, [saga]).run_once()
    assert saga.load("x").results["wait"] == {"by": "bob"}
    (came,) = [line.details for line in operations.show("x").journal if line.kind == "SignalReceived"]
    assert (came["who"], came["why"], came["value"]) == ("ann", "she called", {"by": "bob"})


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"name": "come"}, SagaDefinitionError, "receives no signal 'come'; signals: go"),
        ({"why": " "}, ValueError, "give the reason"),
        ({"saga_id": "nobody"}, UnknownExecutionError, "there is no execution 'nobody'"),
        ({"value": object()}, EncodingError, "the value of signal 'go'"),
    ],
)
def test_a_signal_that_cannot_be_sent_is_refused(given: dict[str, Any], error: type[Exception], says: str) -> None:
    store = MemoryStore()
    saga = waiting(store=store)
    begun(saga, operations := Operations(store, "ann", sagas=[saga]))
    with pytest.raises(error, match=says):
        operations.signal(**{"saga_id": "x", "name": "go", "why": "so", **given})
    with pytest.raises(ActionRefusedError, match="give Operations"):
        Operations(store, "ann").signal("x", "go", "so")
    assert store.inbox("x") == []


def test_what_has_no_compensation_is_not_undone_back_to_a_step() -> None:
    store = MemoryStore()
    saga = flow(step(int, lambda: None, name="a"), step(int, name="b"), step(int, name="c"), store=store)
    saga.execute(saga_id="x")
    offers = Operations(store, "ann", sagas=[saga]).show("x").offers
    assert {offer.step: offer.does for offer in offers if offer.step} == {
        "b": "undoes nothing: 'c' has no compensation; then it rests, until a person resumes it from 'c' on",
        "a": "undoes nothing: 'b' and 'c' have no compensation; then it rests, until a person resumes it from 'b' on",
    }


def test_each_signal_is_offered_once_as_long_as_a_step_is_to_receive_it() -> None:
    store = MemoryStore()
    steps = [receive(name, name=f"{name} {number}") for number, name in enumerate(["go", "more", "go"])]
    saga = flow(*steps, store=store)
    operations = Operations(store, "ann", sagas=[saga])
    saga.submit(saga_id="x")
    offered = []
    for signal in ("go", "more", "go"):
        offered.append([(offer.signal, offer.step) for offer in operations.show("x").offers if offer.signal is not None])
        operations.signal("x", signal, "so")
        Worker(store, [saga]).run_once()
    assert offered == [[("go", "go 0"), ("more", "more 1")], [("more", "more 1"), ("go", "go 2")], [("go", "go 2")]]
    assert operations.get("x").status == "completed"


def test_a_signal_that_is_offered_is_a_line_of_a_terminal_too() -> None:
    assert Offer("signal", "wait", "", "go on").command("A1") == "saga signal A1 'go on' --value ... --why ..."
    assert Offer("signal", "wait", "", "--go").command("A1") == "saga signal --value ... --why ... -- A1 --go"


def test_back_to_which_step_something_can_be_undone_is_offered_the_last_first() -> None:
    store = MemoryStore()
    names = [f"s{number}" for number in range(30)]
    saga = flow(*[step(int, lambda: None, name=name) for name in names], store=store)
    saga.execute(saga_id="x")
    offers = [(offer.step, offer.does) for offer in Operations(store, "ann", sagas=[saga]).show("x").offers]
    assert [name for name, _ in offers] == [None, *names[-2:-22:-1]]
    assert offers[2] == ("s27", "undoes 's29', then 's28'; then it rests, until a person resumes it from 's28' on")
    assert [offer.step for offer in Operations(store, "ann").show("x").offers] == []
