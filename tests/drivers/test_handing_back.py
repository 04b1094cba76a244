"""An execution is handed back between any two of its calls: the next owner goes on exactly there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from operator import eq
from typing import Any

import pytest

from saga import (
    Done,
    OutcomeUnknownError,
    Retry,
    Saga,
    SagaResult,
    Skip,
    Status,
    fallback,
    parallel,
    receive,
    sequence,
    step,
    timer,
    transaction,
)
from saga.beginning import abegin, begin
from saga.definition import inputs
from saga.drivers.aio import AsyncExecution
from saga.drivers.threads import Execution
from saga.durable.leases import owner
from saga.durable.rebuild import entries_of, take_up
from saga.recovery import Recovery
from saga.storage import Entry, MemoryStore
from tests.kit import (
    LONG,
    PATIENCE,
    Calls,
    Gate,
    Watched,
    background,
    check_journal,
    expired,
    failing_times,
    journal_of,
    saga_of,
    until,
)

both = pytest.mark.parametrize("in_loop", [False, True], ids=["threads", "aio"])


class Owners:
    """Runs an execution by one owner after the other, each of which may be told to hand it back while it makes a call.

    :ivar told: at which calls, counted from 1 over all of them.
    """

    def __init__(self, in_loop: bool, build: Callable[[Owners], Saga], told: Callable[[int], bool]) -> None:
        self.store = MemoryStore()
        self.calls = Calls(in_loop)
        self.told = told
        self.made = 0
        self.lock = threading.Lock()
        self.execution: Any = None
        self.saga = build(self)

    def during(self, *what: Any) -> Any:
        """Return what a call does: it counts, has the owner told, and then does this."""

        def count() -> None:
            with self.lock:
                self.made += 1
                told = self.told(self.made)
            if told:
                self.execution.hand_back()

        return (count, *what)

    def step(self, name: str, *what: Any, undo: Any = (), **policies: Any) -> Any:
        """Return a step that does this, and that when it is undone."""
        return self.calls.step(name, self.during(*what), self.during(*undo), **policies)

    def begin(self) -> None:
        """Let the first owner begin it."""
        context, saga_id, store, binding = inputs(self.saga.definition, None, "x", self.store)
        if not self.calls.in_loop:
            self.execution = begin(self.saga.definition, context, saga_id, store, binding)
            self.execution.run()
            return

        async def work() -> None:
            self.execution = await abegin(self.saga.definition, context, saga_id, store, binding)
            await self.execution.run()

        asyncio.run(work())

    def take_up(self) -> Any:
        """Return what goes on with it, by another owner."""
        (row,) = self.store.claim(owner(), 30.0)
        driver = AsyncExecution if self.calls.in_loop else Execution
        self.execution = take_up(self.saga.definition, lambda plan: driver, row, self.store, entries_of(self.store, "x"))
        self.execution.recovers = True
        if self.store.inbox("x"):
            self.execution.notify()
        return self.execution

    def go_on(self) -> None:
        """Let another owner go on."""
        running = self.take_up().run()
        if running is not None:
            asyncio.run(running)

    def to_the_end(self) -> SagaResult:
        """Let one owner go on after the other until it has ended."""
        self.begin()
        while not self.row.status.terminal:
            assert self.execution.parked
            self.check()
            self.go_on()
        check_journal(self.store.journal("x"))
        return self.saga.load("x", store=self.store)

    @property
    def row(self) -> Any:
        row = self.store.get("x")
        assert row is not None
        return row._replace(status=Status(row.status))

    def check(self) -> None:
        """What is handed back is nobody's, is due, and nothing began since."""
        assert (self.row.owner, self.row.recoveries) == (None, 0)
        assert self.row.due <= self.store.now()
        journal = journal_of(self.store, "x")
        since = journal[::-1].index("SagaHeld")
        assert not [line for line in journal[-since:] if since and "Started" in line]


def three(it: Owners) -> Saga:
    return saga_of(*(it.step(name) for name in "abc"))


def failed(it: Owners) -> Saga:
    return saga_of(it.step("a"), it.step("b"), it.step("c", ValueError("c")))


def retried(it: Owners) -> Saga:
    return saga_of(it.step("a", failing_times(2), retry=Retry(3, 0.001)), it.step("b"))


def undo_is_retried(it: Owners) -> Saga:
    a = it.step("a", undo=[failing_times(2)], compensation_retry=Retry(3, 0.001))
    return saga_of(a, it.step("b", failing_times(9), retry=Retry(3, 0.001)))


def undo_fails(it: Owners) -> Saga:
    return saga_of(it.step("a"), it.step("b", undo=[OSError("-b")]), it.step("c", ValueError("c")))


def group(it: Owners) -> Saga:
    return saga_of(parallel(sequence(it.step("a"), it.step("b")), it.step("c")), it.step("d"))


def groups(it: Owners) -> Saga:
    inner = parallel(it.step("a"), it.step("b"))
    return saga_of(parallel(sequence(inner, it.step("c")), it.step("d")), it.step("e", ValueError("e")))


def undone_together(it: Owners) -> Saga:
    return saga_of(parallel(it.step("a"), it.step("b"), compensate_together=True), it.step("c", ValueError("c")))


def skipped(it: Owners) -> Saga:
    return saga_of(it.step("a", ValueError("a"), compensate_on_failure=True, on_error=Skip), it.step("b"))


def replaced(it: Owners) -> Saga:
    return saga_of(fallback(it.step("a", ValueError("a"), compensate_on_failure=True), it.step("b")), it.step("c"))


def verified(it: Owners) -> Saga:
    asks = it.calls.function("?a", it.during())

    async def averify() -> Any:
        await asks()
        return Done("found")

    def verify() -> Any:
        asks()
        return Done("found")

    a = it.step("a", OutcomeUnknownError("a"), verify=averify if it.calls.in_loop else verify)
    return saga_of(a, it.step("b"))


def past_the_pivot(it: Owners) -> Saga:
    return saga_of(it.step("a", pivot=True), it.step("b", failing_times(1), retry=Retry(2, 0.001)), it.step("c"))


def waits(it: Owners) -> Saga:
    a = it.step("a", lambda: it.saga.signal("x", "go", 7, store=it.store))
    return saga_of(a, parallel(receive("go"), timer(0.001)), it.step("b"))


def limited(it: Owners) -> Saga:
    return saga_of(it.step("a", timeout=60.0), it.step("b", timeout=60.0), it.step("c", ValueError("c")), timeout=60.0)


SHAPES = [
    *(three, failed, retried, undo_is_retried, undo_fails, group, groups, undone_together),
    *(skipped, replaced, verified, past_the_pivot, waits, limited),
]


def told_of(result: SagaResult) -> Any:
    """Return what is the same however many owners there were."""
    records = [(one.name, one.status, one.effect, one.attempts, one.compensation_attempts) for one in result.history]
    return result.status, result.in_doubt, records, dict(result.results)


@both
@pytest.mark.parametrize("build", SHAPES)
def test_whoever_goes_on_does_so_exactly_there(build: Callable[[Owners], Saga], in_loop: bool) -> None:
    whole = Owners(in_loop, build, lambda number: False)
    expected = told_of(whole.to_the_end())
    assert "SagaHeld" not in journal_of(whole.store, "x")
    for told in [lambda number: True, *(partial(eq, at) for at in range(1, whole.made + 1))]:
        owners = Owners(in_loop, build, told)
        assert told_of(owners.to_the_end()) == expected
        assert sorted(owners.calls.log) == sorted(whole.calls.log)
        assert "SagaHeld" in journal_of(owners.store, "x")


@pytest.mark.parametrize("build", [three, failed, retried, group, groups, undone_together, skipped, replaced, past_the_pivot])
def test_wherever_an_owner_dies_another_ends_it(build: Callable[[Owners], Saga]) -> None:
    """Where no call was under way, it ends as if nobody had died."""
    owners = Owners(False, build, lambda number: True)
    owners.store = watched = Watched(MemoryStore())  # type: ignore[assignment]
    expected = told_of(owners.to_the_end())
    at_rest = 0
    for count in range(1, len(watched.writes)):
        store = MemoryStore()
        expired(store, watched.writes[:count])
        under_way = calls_under_way(store.journal("x"))
        after = Owners(False, build, lambda number: False)
        after.store = store
        (result,) = Recovery(store, [after.saga]).run_once()
        check_journal(store.journal("x"))
        assert result.status.terminal
        assert result.status is not Status.STUCK
        at_rest += not under_way
        if not under_way and build not in (retried, past_the_pivot):  # whose failures are counted by each process
            assert told_of(result) == expected
    assert at_rest > 2


def calls_under_way(entries: Sequence[Entry]) -> set[tuple[bool, str | None]]:
    """Return the calls whose intent is stored and whose outcome is not."""
    found = set()
    for entry in entries:
        call = entry.kind.startswith("Compensation"), entry.step
        if entry.kind.endswith("Started"):
            found.add(call)
        else:
            found.discard(call)
    return found - {(False, None)}


# -- where no call runs -----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("waiting", [lambda it: receive("go"), lambda it: it.step("a", OSError("a"), retry=Retry(2, 3600.0))])
def test_what_waits_is_handed_back_at_once_and_waits_on_elsewhere(waiting: Callable[[Owners], Any], in_loop: bool) -> None:
    owners = Owners(in_loop, lambda it: saga_of(waiting(it), it.step("b")), lambda number: False)
    joined = background(owners.begin)
    until(lambda: owners.execution is not None and len(owners.store.journal("x")) > 1 and not owners.execution.machine.commands)
    owners.execution.hand_back()
    joined()
    owners.check()
    assert journal_of(owners.store, "x")[-1] == "SagaHeld"
    owners.go_on()
    assert owners.execution.parked  # as a recovery does that finds nothing to do
    assert owners.calls.log in ([], ["a"])


@both
def test_what_was_taken_up_and_not_begun_is_as_it_was(in_loop: bool) -> None:
    owners = Owners(in_loop, three, lambda number: number == 1)
    owners.begin()
    before = journal_of(owners.store, "x")
    owners.take_up().hand_back()
    running = owners.execution.run()
    if running is not None:
        asyncio.run(running)
    assert (journal_of(owners.store, "x"), owners.calls.log) == (before, ["a"])
    owners.check()


def test_what_has_begun_to_be_handed_back_first_makes_the_call_that_it_has_stored() -> None:
    owners = Owners(False, three, lambda number: False)
    context, saga_id, store, binding = inputs(owners.saga.definition, None, "x", owners.store)
    execution: Any = begin(owners.saga.definition, context, saga_id, store, binding)
    execution.hand_back()
    execution.run()
    assert (owners.calls.log, execution.parked) == (["a"], True)
    owners.go_on()
    assert (owners.calls.log, owners.row.status) == (["a", "b", "c"], Status.COMPLETED)


def test_a_step_that_outlived_its_timeout_keeps_it_until_it_has_ended() -> None:
    gate = Gate()
    owners = Owners(
        False, lambda it: saga_of(it.step("a", gate, timeout=0.01, on_error=Skip), it.step("b")), lambda number: number == 2
    )
    owners.begin()  # which leaves the straggler to a thread
    assert (owners.row.owner is not None, owners.execution.ended.is_set()) == (True, False)
    assert list(owners.store.claim("another", 30.0)) == []
    gate.open()
    assert owners.execution.ended.wait(PATIENCE)
    owners.check()
    owners.go_on()
    assert owners.row.status is Status.COMPLETED
    assert owners.calls.log == ["a", "b", "-a"]


def test_so_does_an_undo() -> None:
    gate = Gate()
    owners = Owners(
        False,
        lambda it: saga_of(it.step("a"), it.step("b", undo=(gate,), compensation_timeout=LONG), it.step("c", failing_times(9))),
        lambda number: number == 5,  # that of the undo of a
    )
    owners.begin()
    assert (owners.row.owner is not None, owners.execution.ended.is_set()) == (True, False)
    assert list(owners.store.claim("another", 30.0)) == []
    gate.open()
    assert owners.execution.ended.wait(PATIENCE)
    owners.check()
    owners.go_on()
    assert owners.row.status is Status.COMPENSATED
    assert owners.calls.log == ["a", "b", "c", "-b", "-a"]


# -- where nobody could go on -----------------------------------------------------------------------------------------


def test_without_a_store_nothing_changes() -> None:
    saga = saga_of(*(step(partial(int, name), name=name) for name in "123"))
    context, saga_id, store, binding = inputs(saga.definition, None, None, None)
    execution: Any = begin(saga.definition, context, saga_id, store, binding)
    execution.hand_back()
    execution.run()
    assert (execution.parked, execution.machine.status) == (False, Status.COMPLETED)


def work() -> int:
    return 1


def test_with_a_block_nothing_changes() -> None:
    store = MemoryStore()
    with transaction("block", store=store, saga_id="x") as tx:
        tx.step(work, name="a")
        assert tx._execution is not None
        tx._execution.hand_back()
        tx.step(work, name="b")
    assert "SagaHeld" not in journal_of(store, "x")
    assert journal_of(store, "x")[-1] == "SagaCompleted"
