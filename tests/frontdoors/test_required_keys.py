"""Steps that say which keys of the context they require and provide: what is asked of them when they run."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Final

import pytest

from saga import (
    Context,
    InDoubt,
    Retry,
    Saga,
    Skip,
    Status,
    StepStatus,
    Task,
    choose,
    each,
    fallback,
    parallel,
    receive,
    saga_step,
    sequence,
    step,
    transaction,
)
from saga.errors import ContextKeyError, MissingKeyError, SagaDefinitionError, SagaExecutionException
from saga.events import StepFailed, StepStarted
from saga.recovery import Recovery
from saga.storage import MemoryStore
from saga.testing import Kind, call, explore, with_stand_ins
from tests.kit import KITS, Effects, Kit, saga_of
from tests.kit.runners import Runner

SHIP: Final = "step 'ship' requires 'receipt', which the context lacks; keys: order_id"
ORDER: Final = {"order_id": "A1"}


@pytest.fixture(params=list(KITS))
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(*KITS[request.param])


def sets(**keys: Any) -> Callable[[Context], None]:
    return lambda context: context.update(keys)


def runs_out(context: Context) -> None:
    context.pop("receipt", None)


def shop(kit: Kit, *middle: Any, **policies: Any) -> Saga:
    """Return a saga that charges, and ships what it has a receipt of."""
    charge = kit.task("charge", sets(receipt="r1"), provides=("receipt",), requires=("order_id",))
    return kit.saga(charge, *middle, kit.task("ship", requires=("receipt",), **policies))


# -- what is required -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_what_is_there_is_no_hindrance(kit: Kit, stored: bool) -> None:
    result = kit.execute(shop(kit), ORDER, store=MemoryStore() if stored else None)
    assert kit.log == ["charge", "ship"]
    assert result.context.receipt == "r1"


@pytest.mark.parametrize("stored", [False, True])
def test_a_step_that_lacks_a_key_is_not_called_and_is_not_in_doubt(kit: Kit, stored: bool) -> None:
    saga = shop(kit, kit.task("lose", runs_out), unknown_on=Exception, in_doubt=InDoubt.RERUN, retry=Retry(5))
    result = kit.run(saga, ORDER, store=MemoryStore() if stored else None)
    assert (result.status, type(result.error), str(result.error)) == (Status.COMPENSATED, MissingKeyError, SHIP)
    assert kit.log == ["charge", "lose", "-lose", "-charge"]
    assert result.in_doubt == ()
    assert [event.attempt for event in result.events if isinstance(event, StepStarted) and event.step == "ship"] == [1]
    (failed,) = (event for event in result.events if isinstance(event, StepFailed))
    assert not failed.in_doubt
    assert not failed.executed


def test_its_own_undo_is_called_all_the_same(kit: Kit) -> None:
    saga = shop(kit, kit.task("lose", runs_out), compensate_on_failure=True)
    assert kit.run(saga, ORDER).status is Status.COMPENSATED
    assert kit.log == ["charge", "lose", "-ship", "-lose", "-charge"]


def test_what_follows_is_as_its_policies_say(kit: Kit) -> None:
    skipped = kit.run(shop(kit, kit.task("lose", runs_out), on_error=Skip), ORDER)
    assert skipped.ok
    assert kit.log == ["charge", "lose"]
    kit.log.clear()
    ship = kit.task("ship", requires=("receipt",))
    assert kit.run(kit.saga(kit.task("a"), fallback(ship, kit.task("mail"))), ORDER).ok
    assert kit.log == ["a", "mail"]


class Asked:
    """A resolver, or a breaker, that notes when it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, kind: type[Task[Any]]) -> Task[Any]:
        self.times += 1
        return kind()

    def calling(self) -> AbstractContextManager[None]:
        self.times += 1
        return nullcontext()


class Ship(Task[None]):
    requires = ("receipt",)

    def execute(self, context: Context) -> None:
        assert context.receipt == "r1"


class AsyncShip(Ship):
    async def execute(self, context: Context) -> None:  # type: ignore[override]
        assert context.receipt == "r1"


def ship(context: Context) -> None:
    assert context.receipt == "r1"


def look() -> None:
    """Says nothing of what it sets."""


class Declared(Saga):
    @saga_step(requires=("receipt",))
    def ship(self, context: Context) -> None:
        assert context.receipt == "r1"

    def flow(self) -> Any:
        return step(look), self.ship


WRITTEN: Final[dict[str, Callable[[Asked], Saga]]] = {
    "a function": lambda asked: saga_of(step(look), step(ship, requires=["receipt"])),
    "a task class": lambda asked: saga_of(step(look), Ship),
    "a task": lambda asked: saga_of(step(look), Ship()),
    "an async task": lambda asked: saga_of(step(look), AsyncShip()),
    "a step of a task": lambda asked: saga_of(step(look), step(Ship, name="other")),
    "what a step says instead": lambda asked: saga_of(step(look), step(Quiet, requires={"receipt"})),
    "a method": lambda asked: Declared(),
    "a resolver": lambda asked: saga_of(step(look), Ship, resolver=asked),
    "a breaker": lambda asked: saga_of(step(look), fallback(Ship, Ship2, breaker=asked)),
    "a stand-in": lambda asked: with_stand_ins(saga_of(step(look), Ship), {Ship: ship}),
    "a branch": lambda asked: saga_of(step(look), parallel(Ship, step(look, name="beside"))),
    "an item": lambda asked: saga_of(step(look), each(lambda context: [1], Ship)),
    "a way": lambda asked: saga_of(step(look), choose(lambda context: 1, {1: Ship}, name="way")),
    "a timeout": lambda asked: saga_of(step(look), step(Ship, timeout=60.0)),
}


class Ship2(Ship):
    name = "again"


class Quiet(Ship):
    requires = None


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("in_loop", [False, True], ids=["threads", "loop"])
def test_however_a_step_is_written_it_is_not_called_without_its_keys(how: str, in_loop: bool) -> None:
    asked, runner = Asked(), Runner(in_loop)
    saga = WRITTEN[how](asked)
    result = runner.run(saga)
    assert (result.status, type(result.error)) == (Status.COMPENSATED, MissingKeyError)
    assert "requires 'receipt', which the context lacks; keys: none" in str(result.error)
    assert asked.times == 0
    assert runner.run(saga, {"receipt": "r1"}).ok
    assert asked.times == (how in ("a resolver", "a breaker"))


def test_what_a_step_says_takes_the_place_of_what_its_task_says() -> None:
    saga = saga_of(step(look), step(Ship, requires=None))
    assert isinstance(saga.try_execute().error, ContextKeyError)  # of the task itself
    assert not isinstance(saga.try_execute().error, MissingKeyError)


def test_a_call_alone_asks_for_keys_too() -> None:
    for task in (Ship, Ship(), step(ship, requires=["receipt"]), Declared().ship):
        with pytest.raises(MissingKeyError, match="requires 'receipt', which the context lacks; keys: order_id"):
            call(task, ORDER)
        call(task, {"receipt": "r1"})
    call(step(ship, look, requires=["receipt"]), ORDER, phase="compensate")
    with pytest.raises(MissingKeyError):
        asyncio.run(call(AsyncShip, ORDER))
    asyncio.run(call(AsyncShip, {"receipt": "r1"}))


def test_a_block_asks_for_keys_too() -> None:
    with pytest.raises(SagaExecutionException) as failed, transaction("t", {"order_id": "A1"}) as tx:
        tx.step(ship, requires=["receipt"])
    assert str(failed.value.cause) == SHIP


# -- what only the input can give -------------------------------------------------------------------------------------


BEGINS: Final[dict[str, Callable[[Saga, Any], object]]] = {
    "execute": lambda saga, given: saga.execute(given),
    "aexecute": lambda saga, given: asyncio.run(saga.aexecute(given)),
    "stream": lambda saga, given: list(saga.stream(given)),
    "submit": lambda saga, given: saga.submit(given),
    "signal_or_start": lambda saga, given: saga.signal_or_start("x", "paid", context=given),
}


@pytest.mark.parametrize("how", BEGINS)
def test_an_input_that_lacks_what_nobody_else_can_give_is_refused_before_anything_runs(how: str) -> None:
    store = MemoryStore()
    saga = saga_of(Ship, receive("paid"), store=store)
    for given, hint in (({}, ""), (None, ""), ({"reciept": 1}, "; did you mean 'reciept'?"), (Context(other=1), "")):
        with pytest.raises(SagaDefinitionError) as refused:
            BEGINS[how](saga, given)
        assert (
            str(refused.value)
            == f"saga 's': the context lacks 'receipt', which step 'Ship' requires and no step before provides{hint}"
        )
    assert store.list()[0] == ()


@pytest.mark.parametrize(
    "flow",
    [
        sequence(step(look), Ship),
        step(Ship, on_error=Skip),
        fallback(Ship, step(look)),
        choose(lambda context: 2, {1: Ship, 2: step(look)}, name="way"),
        each(lambda context: [], Ship),
    ],
    ids=["one before may set it", "it is skipped", "it has a fallback", "another way is taken", "there are no items"],
)
def test_an_input_is_not_refused_where_the_saga_may_do_without(flow: Any) -> None:
    result = saga_of(flow).try_execute()
    assert result.ok or isinstance(result.error, MissingKeyError)


def test_exploring_finds_that_a_step_breaks_its_word_and_that_it_is_undone() -> None:
    def make(world: dict[str, int]) -> Saga:
        pay = step(lambda: world.update(paid=1), world.clear, name="pay", provides=["receipt"])
        return saga_of(pay, Ship)

    found = explore(make, {}, world=dict, durable=True)
    assert found.broken is None
    assert found.failure is not None
    assert "it ends as compensated at step 'pay': MissingKeyError: step 'pay' says that it provides" in str(found)


def test_exploring_spoils_no_key_that_would_be_refused() -> None:
    found = explore(saga_of(Ship), {"receipt": "r1", "more": 1}, kinds=[Kind.WRONG_INPUT], faults=1)
    assert found.histories == (1, 1)  # without "more"
    with pytest.raises(SagaDefinitionError, match="the context lacks 'receipt'"):
        explore(saga_of(Ship), {})


# -- what is provided -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_a_saga_whose_step_breaks_its_word_is_undone_with_the_steps_result(kit: Kit, stored: bool) -> None:
    seen: list[Any] = []
    charge = kit.task(
        "charge", None, lambda context: seen.append(context.result_of("charge")), provides=("receipt",), on_error=Skip
    )
    saga = kit.saga(kit.task("look"), charge, kit.task("ship"), retry=Retry(3))
    store = MemoryStore() if stored else None
    result = kit.run(saga, ORDER, store=store, saga_id="x")
    assert (result.status, type(result.error)) == (Status.COMPENSATED, MissingKeyError)
    assert str(result.error) == "step 'charge' says that it provides 'receipt', which the context lacks; keys: order_id"
    assert kit.log == ["look", "charge", "-charge", "-look"]
    assert seen == ["result of charge"]
    if store is not None:
        assert saga.load("x", store=store).report() == result.report()


def test_a_branch_that_breaks_its_word_is_undone_with_its_siblings(kit: Kit) -> None:
    saga = kit.saga(parallel(kit.task("a", provides=("x",)), kit.task("b")), kit.task("c"))
    result = kit.run(saga)
    assert isinstance(result.error, MissingKeyError)
    assert {*kit.log} == {"a", "b", "-a", "-b"}


def test_a_context_that_a_step_returns_has_what_it_provides() -> None:
    def charge(context: Context) -> Context:
        return Context(receipt="r1")

    assert saga_of(step(charge, provides=["receipt"]), Ship).execute().ok


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_step_that_returns_what_is_not_what_its_retry_waits_for_is_not_asked_yet(kit: Kit, timeout: float | None) -> None:
    tries: list[int] = []

    def at_last(context: Context) -> None:
        tries.append(1)
        if len(tries) == 2:
            context.receipt = "r1"

    retry = Retry(3, retry_if=lambda result: len(tries) < 2)
    assert kit.run(kit.saga(kit.task("a", at_last, provides=("receipt",), retry=retry, timeout=timeout))).ok


def test_past_the_pivot_it_is_a_warning(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    saga = kit.saga(kit.task("pay", pivot=True, provides=("receipt",)), kit.task("tell", provides=("told",)))
    assert kit.run(saga, saga_id="x").ok
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        f"saga x is past its pivot, and goes on: step {says}, which the context lacks; keys: none"
        for says in ("'pay' says that it provides 'receipt'", "'tell' says that it provides 'told'")
    ]


def test_a_transactional_step_that_breaks_its_word_is_rolled_back(tmp_path: Path) -> None:
    def enter(context: Context) -> None:
        context.step.connection.execute("CREATE TABLE entered (id)")

    undone: list[str] = []
    entering = step(enter, lambda: undone.append("enter"), transactional=True, provides=["entry"], unknown_on=Exception)
    result = saga_of(entering, store=tmp_path / "a.db").try_execute()
    assert (result.status, type(result.error), result.in_doubt) == (Status.COMPENSATED, MissingKeyError, ())
    assert ([record.status for record in result.history], undone) == ([StepStatus.FAILED], [])
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'entered'").fetchall() == []


@pytest.mark.parametrize("says", ["requires", "provides"])
def test_wherever_the_process_dies_all_is_undone(crashes: Any, says: str) -> None:
    def build(effects: Effects) -> Saga:
        keys: Any = {says: ["receipt"]}
        return saga_of(effects.step("look"), effects.step("charge", **keys), effects.step("ship"))

    seen = 0
    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status == "compensated", (crash, crash.kinds)
        assert crash.effects == set()
        assert not any(entry.step == "ship" for entry in crash.store.journal("o-1"))
        seen += 1
    assert seen > 6
