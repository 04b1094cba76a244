"""Stints: what an observer is told of the time for which an execution is in one process's hands, and what it has carried on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from saga import Context, Saga, Status, receive, step
from saga.beginning import begin
from saga.definition import inputs
from saga.drivers.threads import Execution
from saga.errors import LeaseLostError, SagaDefinitionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore
from saga.worker import Worker
from tests.kit import LONG, PATIENCE, Calls, left_at, until
from tests.kit.blocks import Blocks, Do


class Stint:
    """What observes one stint."""

    def __init__(self, number: int, told: list[str], info: Any) -> None:
        self.number, self.told, self.info = number, told, info

    def __call__(self, event: Any, info: Any) -> None:
        assert info is self.info
        self.told.append(f"{self.number} {type(event).__name__}")

    def around(self, info: Any, step: Any, attempt: int, phase: str) -> None:
        self.told.append(f"{self.number} {phase} {step.name}")

    def carry(self) -> dict[str, str]:
        return {"stint": str(self.number)}

    def ended(self, status: Status, error: BaseException | None) -> None:
        self.told.append(f"{self.number} {status}" + (f", {type(error).__name__}" if error is not None else ""))


class Follower:
    """An observer that has one made for each stint, and carries its name along.

    :ivar told: what all of them were told; :ivar carried: what each found in the journal when it began.
    """

    def __init__(self, name: str = "here") -> None:
        self.name = name
        self.told: list[str] = []
        self.carried: list[list[dict[str, str]]] = []

    def __call__(self, event: Any, info: Any) -> None:
        raise AssertionError("its stint observes in its place")

    def stint(self, info: Any) -> Stint:
        self.carried.append([event.carried for event in info.events if getattr(event, "carried", None)])
        return Stint(len(self.carried), self.told, info)

    def carry(self) -> dict[str, str]:
        return {"from": self.name}

    def ends(self) -> list[str]:
        """Return how its stints have ended."""
        return [line for line in self.told if line.partition(" ")[2].partition(",")[0] in set(Status)]


@pytest.fixture
def follower() -> Follower:
    return Follower()


def nothing() -> None: ...


async def in_loop() -> None: ...


STORES: dict[str, Callable[[], Any]] = {"no store": lambda: None, "a store": MemoryStore}
stored_or_not = pytest.mark.parametrize("store", STORES.values(), ids=STORES)


@stored_or_not
def test_a_stint_has_all_that_happens_and_then_ends(calls: Calls, follower: Follower, store: Any) -> None:
    saga = calls.saga(calls.step("a"), calls.step("b", ZeroDivisionError()), observers=follower, store=store())
    assert calls.run(saga).status is Status.COMPENSATED
    assert follower.told[0] == "1 SagaStarted"
    calls_made = [line for line in follower.told if line.split()[1] in ("execute", "compensate")]
    assert calls_made == ["1 execute a", "1 execute b", "1 compensate a"]
    assert follower.told[-2:] == ["1 SagaCompensated", "1 compensated"]


@stored_or_not
def test_each_front_door_begins_one_stint_and_ends_it_once(calls: Calls, follower: Follower, store: Any) -> None:
    blocks = Blocks(calls)

    kept, do = store(), Do(in_loop if calls.in_loop else nothing, name="a")

    def body(tx: Any) -> Any:
        yield do
        yield Do(*do.args, name="b")

    def fails(tx: Any) -> Any:
        yield do
        raise ZeroDivisionError

    saga = calls.saga(calls.step("a"), calls.step("b"), observers=[follower], store=kept)
    calls.run(saga)
    calls.stream(saga)
    calls.stream(saga, take=1)
    blocks.run(body, "x", observers=[follower], store=kept)
    with pytest.raises(ZeroDivisionError):
        blocks.run(fails, "y", observers=[follower], store=kept)
    ends = ["completed", "completed", "compensated", "completed", "compensated"]
    assert follower.ends() == [f"{number} {how}" for number, how in enumerate(ends, 1)]


def test_a_stint_ends_when_the_last_straggler_is_undone(calls: Calls, follower: Follower) -> None:
    freed, seen = threading.Event(), []
    saga = Saga("s", observers=[follower])
    saga.add_task(step(lambda: freed.wait(PATIENCE), lambda: None, name="a", timeout=0.01))

    def look(first: Any) -> None:
        seen.append(follower.ends())
        freed.set()

    calls.run_to_end(saga, look)
    until(lambda: follower.ends() == ["1 compensated"])
    assert seen == [[]]


def test_what_waits_in_its_store_is_over_here_and_another_stint_knows_what_the_first_carried(follower: Follower) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[follower], store=store).add_task(step(lambda: 1, name="a")).add_task(receive("go"))
    saga.submit(saga_id="x")
    assert follower.told == []
    Worker(store, [saga]).run_once()
    assert follower.ends() == ["1 running"]
    saga.signal("x", "go", 1)
    Worker(store, [saga]).run_once()
    assert follower.ends() == ["1 running", "2 completed"]
    assert follower.carried == [[{"from": "here"}], [{"from": "here"}, {"stint": "1"}]]
    events = saga.load("x").events
    assert [(type(event).__name__, event.carried) for event in events if hasattr(event, "carried")] == [
        ("SagaSubmitted", {"from": "here"}),
        ("SagaStarted", {"stint": "1"}),
        ("SagaRecovered", {"stint": "2"}),
        ("SignalReceived", {"from": "here"}),
    ]
    shown = [line.details["carried"] for line in Operations(store, "me").show("x").journal if "carried" in line.details]
    assert shown == [{"from": "here"}, {"stint": "1"}, {"stint": "2"}, {"from": "here"}]


def test_a_stint_that_another_process_broke_off_never_ends_and_the_next_one_knows_of_it(plain: Any) -> None:
    first, second = Follower(), Follower()
    store = left_at(plain.saga(plain.step("a"), plain.step("b"), observers=first), "b")
    Recovery(store, [plain.saga(plain.step("a"), plain.step("b"), observers=second)]).run_once()
    assert second.carried == [[{"stint": "1"}]]
    assert second.ends() == ["1 compensated"]


def test_what_a_person_pauses_is_over_here_and_goes_on_in_another_stint(calls: Calls, follower: Follower) -> None:
    store = MemoryStore()
    person = Operations(store, "me")
    saga = calls.saga(
        calls.step("a", partial(person.pause, "x", "to look at it")), calls.step("b"), observers=follower, store=store
    )
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    assert follower.ends() == ["1 paused"]
    person.resume("x", "it is well")
    Worker(store, [saga]).run_once()
    assert follower.ends() == ["1 paused", "2 completed"]
    assert calls.log == ["a", "b"]


def test_what_a_worker_hands_back_is_over_there(follower: Follower) -> None:
    held: list[Execution] = []
    saga = Saga("s", observers=follower).add_task(step(lambda: held[0].hand_back(), name="a")).add_task(step(print, name="b"))
    execution = begin(saga.definition, *inputs(saga.definition, None, "x", MemoryStore()))
    assert isinstance(execution, Execution)
    held.append(execution)
    execution.run()
    assert follower.ends() == ["1 running"]
    assert follower.told.count("1 SagaHeld") == 1


def test_one_who_loses_the_lease_is_told_why_it_ends(calls: Calls, follower: Follower) -> None:
    store = MemoryStore()

    def rob() -> None:
        row = store.get("x")
        assert row is not None
        store.release(Lease("x", str(row.owner), row.epoch))
        assert store.claim("thief", LONG, saga_id="x")

    saga = calls.saga(calls.step("a", rob), calls.step("b"), observers=follower, store=store)
    with pytest.raises(LeaseLostError):
        calls.run(saga, saga_id="x")
    assert follower.ends() == ["1 running, LeaseLostError"]


def test_who_joins_an_execution_that_has_ended_begins_nothing(calls: Calls, follower: Follower) -> None:
    saga = calls.saga(calls.step("a"), observers=follower, store=MemoryStore())
    assert [calls.run(saga, saga_id="x").status for _ in range(2)] == [Status.COMPLETED] * 2
    assert follower.ends() == ["1 completed"]


def test_without_such_observers_nothing_is_carried() -> None:
    store = MemoryStore()
    saga = Saga("s", store=store, observers=lambda event, info: None).add_task(receive("go"))
    saga.submit(saga_id="x")
    saga.signal("x", "go", 1)
    Worker(store, [saga]).run_once()
    payloads = [json.loads(entry.payload) for entry in store.journal("x")]
    assert [payload for payload in payloads if "carried" in payload] == []


FAULTS: dict[str, Any] = {
    "raises": ZeroDivisionError(),
    "no mapping": 3,
    "no texts": {"a": 1},
    "no pairs": "abc",
}


@stored_or_not
@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("method", ["stint", "carry", "ended"])
def test_what_such_an_observer_does_wrong_is_logged_and_changes_nothing(
    calls: Calls, method: str, what: str, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty:
        def __call__(self, event: Any, info: Any) -> None: ...

    def wrong(self: Any, *args: Any) -> Any:
        if isinstance(FAULTS[what], Exception):
            raise FAULTS[what]
        return FAULTS[what]

    setattr(Faulty, method, wrong)
    kept = store()
    result = calls.run(calls.saga(calls.step("a"), observers=[Faulty()], store=kept))
    assert result.status is Status.COMPLETED
    asked = kept is not None if method == "carry" else what == "raises" or method == "stint"
    assert [record.getMessage().partition(" of observer")[0] for record in caplog.records] == [f"{method}()"] * asked


def test_what_is_false_observes_its_stint_all_the_same(calls: Calls) -> None:
    class Recorded(list[str]):
        def __call__(self, event: Any, info: Any) -> None:
            self.append(type(event).__name__)

        def __bool__(self) -> bool:
            raise ZeroDivisionError

    class Recorder:
        def __call__(self, event: Any, info: Any) -> None:
            raise AssertionError("its stint observes in its place")

        def stint(self, info: Any) -> Recorded:
            return recorded

    recorded = Recorded()
    assert calls.run(calls.saga(calls.step("a"), observers=[Recorder()])).status is Status.COMPLETED
    assert recorded == ["SagaStarted", "StepStarted", "StepSucceeded", "SagaCompleted"]


def test_what_answers_to_any_name_hears_of_all_itself(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    observer = Mock(around=None, return_value=None)
    assert calls.run(calls.saga(calls.step("a"), observers=[observer], store=MemoryStore())).status is Status.COMPLETED
    assert observer.call_count == 4
    assert caplog.records == []


@pytest.mark.parametrize("method", ["stint", "carry", "ended"])
def test_one_whose_method_cannot_be_had_any_more_changes_nothing(calls: Calls, method: str) -> None:
    class Closing:
        closed = False

        def __call__(self, event: Any, info: Any) -> None: ...

    def had(self: Any) -> None:
        if self.closed:
            raise ZeroDivisionError

    setattr(Closing, method, property(had))
    observer = Closing()
    saga = calls.saga(calls.step("a"), observers=[observer], store=MemoryStore())
    observer.closed = True
    assert calls.run(saga).status is Status.COMPLETED


@stored_or_not
def test_a_ctrl_c_in_one_leaves_the_context_free(calls: Calls, store: Any) -> None:
    class Leaving:
        def __call__(self, event: Any, info: Any) -> None: ...

        def stint(self, info: Any) -> None:
            if leaves:
                raise KeyboardInterrupt

    leaves, context = True, Context(a=1)
    saga = calls.saga(calls.step("a"), observers=[Leaving()], store=store())
    with pytest.raises(KeyboardInterrupt):
        calls.run(saga, context)
    leaves = False
    assert calls.run(saga, context).status is Status.COMPLETED


@pytest.mark.parametrize("method", ["stint", "carry", "ended"])
def test_one_that_would_have_to_be_awaited_is_refused(method: str) -> None:
    class Awaited:
        def __call__(self, event: Any, info: Any) -> None: ...

    async def wrong(self: Any, *args: Any) -> None: ...

    setattr(Awaited, method, wrong)
    with pytest.raises(SagaDefinitionError, match="give a plain function"):
        Saga("s", observers=[Awaited()])


def test_what_is_carried_is_any_text(follower: Follower) -> None:
    odd = {"$type": "x", "": "\x00\ud800é", 'a"b': "\n"}
    follower.carry = lambda: odd  # type: ignore[method-assign]
    store = MemoryStore()
    saga = Saga("s", observers=[follower], store=store).add_task(step(lambda: 1, name="a"))
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    assert follower.carried == [[odd]]
