"""A program that is told to stop waits for nothing that takes long: it is left in the store, or undone where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from saga import Retry, Saga, SagaResult, Status, parallel, receive, timer
from saga.drivers import aio, parting, threads
from saga.recovery import Recovery
from saga.storage import MemoryStore
from saga.working.here import Here
from tests.kit import Calls, Gate, background, check_journal, failing_times, saga_of, until

both = pytest.mark.parametrize("in_loop", [False, True], ids=["threads", "aio"])
HOUR = 3600.0


class Program:
    """Executes a saga that does not end, and may be told to stop.

    :ivar here: what executes.
    :ivar end: waits for what became of it.
    """

    def __init__(self, in_loop: bool, build: Callable[[Program], Saga], stored: bool = True) -> None:
        self.calls = Calls(in_loop)
        self.store = MemoryStore() if stored else None
        self.told: Callable[[], object] = lambda: None  # what is done in each call
        self.saga = build(self)
        self.here = Here(self.saga.definition, self.store)

    def step(self, name: str, *what: Any, undo: Any = (), **policies: Any) -> Any:
        return self.calls.step(name, (lambda: self.told(), *what), undo, **policies)

    def execute(self, saga_id: str = "x") -> SagaResult[Any]:
        if self.calls.in_loop:
            return asyncio.run(self.here.aexecute(None, saga_id))
        return self.here.execute(None, saga_id)

    def waits(self) -> bool:
        """Whether the execution has come to wait."""
        with suppress(AttributeError):  # it has ended meanwhile
            for execution in tuple(self.here._running):
                state = execution.machine.state
                return bool(state.executing or state.retries or state.compensation_retries) and not (
                    execution.machine.commands or execution.inline
                )
        return False


def asked(it: Program) -> Saga:
    return saga_of(it.step("a"), receive("go"), it.step("b"))


def later(it: Program) -> Saga:
    return saga_of(it.step("a"), timer(HOUR), it.step("b"))


def tried_again(it: Program) -> Saga:
    return saga_of(it.step("a"), it.step("b", failing_times(1), retry=Retry(2, HOUR)))


def branches(it: Program) -> Saga:
    return saga_of(it.step("a"), parallel(timer(HOUR), receive("go", timeout=2 * HOUR)), it.step("b"))


def undone_again(it: Program) -> Saga:
    undo = [failing_times(1)]
    return saga_of(it.step("a", undo=undo, compensation_retry=Retry(2, HOUR)), it.step("b", ValueError("b")))


#: When it is told: before it begins, in its first call, or when it waits.
TIMES = ["before", "within", "waiting"]


def told(program: Program, when: str) -> SagaResult[Any]:
    """Execute, and tell it to stop then."""
    if when == "before":
        program.here.stop()
    if when == "within":
        program.told = program.here.stop
    end = background(program.execute)
    if when == "waiting":
        until(program.waits)
        program.here.stop()
    return end()


@both
@pytest.mark.parametrize("when", TIMES)
@pytest.mark.parametrize("build", [asked, later, tried_again, branches, undone_again])
def test_what_waits_is_left_in_the_store_and_another_goes_on(
    build: Callable[[Program], Saga], when: str, in_loop: bool
) -> None:
    program = Program(in_loop, build)
    result = told(program, when)
    store = program.store
    assert store is not None
    row = store.get("x")
    assert row is not None
    status = Status.COMPENSATING if build is undone_again else Status.RUNNING
    assert (result.status, row.status, row.owner) == (status, status, None)
    assert row.due > store.now() + HOUR / 2  # and nobody comes sooner
    done = list(program.calls.log)
    assert done == {asked: ["a"], later: ["a"], branches: ["a"], tried_again: ["a", "b"], undone_again: ["a", "b", "-a"]}[build]
    if build is asked:
        program.saga.signal("x", "go", store=store)
        (result,) = Recovery(store, [program.saga]).run_once()
        assert (result.status, program.calls.log) == (Status.COMPLETED, ["a", "b"])
    check_journal(store.journal("x"))


@both
@pytest.mark.parametrize("build", [asked, later])
def test_it_is_left_though_it_is_told_right_after_it_has_looked_whether_it_is(
    build: Callable[[Program], Saga], in_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(in_loop, build)
    looks: list[object] = []

    def look(driver: Any) -> float | None:
        found = parting.may_park(driver)
        if found is None:
            looks.append(driver)
            program.here.stop()
        return found

    for module in (aio, threads):
        monkeypatch.setattr(module, "may_park", look)
    result = background(program.execute)()
    assert looks
    assert (result.status, program.calls.log) == (Status.RUNNING, ["a"])


@both
@pytest.mark.parametrize("when", TIMES)
@pytest.mark.parametrize("build", [later, tried_again])
def test_without_a_store_it_is_undone(build: Callable[[Program], Saga], when: str, in_loop: bool) -> None:
    program = Program(in_loop, build, stored=False)
    result = told(program, when)
    assert result.status is Status.COMPENSATED
    assert program.calls.log[-1] == "-a"
    assert str(result.error) == "cancel by the program: it was told to stop"


@both
@pytest.mark.parametrize(
    ("build", "log"),
    [
        (lambda it: saga_of(it.step("a", pivot=True), timer(0.01), it.step("b")), ["a", "b"]),
        (
            lambda it: saga_of(
                it.step("a", undo=[failing_times(1)], compensation_retry=Retry(2, 0.01)), it.step("b", ValueError("b"))
            ),
            ["a", "b", "-a", "-a"],
        ),
    ],
    ids=["past its pivot", "the undo itself"],
)
def test_what_can_neither_be_left_nor_undone_is_waited_for(
    build: Callable[[Program], Saga], log: list[str], in_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "_PARK_AFTER", 0.0)
    program = Program(in_loop, build, stored=False)
    assert told(program, "before").status.terminal
    assert program.calls.log == log


@both
@pytest.mark.parametrize("stored", [True, False])
def test_what_takes_no_long_time_is_waited_for(stored: bool, in_loop: bool) -> None:
    program = Program(in_loop, lambda it: saga_of(it.step("a"), timer(0.01), it.step("b")), stored)
    assert told(program, "before").status is Status.COMPLETED


@both
@pytest.mark.parametrize("stored", [True, False])
def test_a_call_that_runs_goes_on(stored: bool, in_loop: bool) -> None:
    gate = Gate()
    program = Program(in_loop, lambda it: saga_of(parallel(it.step("a", gate), timer(HOUR)), it.step("b")), stored)
    end = background(program.execute)
    assert gate.reached.wait(30)
    program.here.stop()
    gate.open()
    assert end().status is (Status.RUNNING if stored else Status.COMPENSATED)
    assert program.calls.log == (["a"] if stored else ["a", "-a"])


@both
def test_whoever_executes_it_again_goes_on(in_loop: bool) -> None:
    program = Program(in_loop, asked)
    told(program, "waiting")
    program.saga.signal("x", "go", store=program.store)
    program.here = Here(program.saga.definition, program.store)
    assert program.execute().status is Status.COMPLETED
    assert program.calls.log == ["a", "b"]


@both
@pytest.mark.parametrize("other", ["x", "another"], ids=["another process runs it", "its turn"])
def test_what_others_keep_back_is_not_waited_for(other: str, in_loop: bool) -> None:
    gate = Gate()
    store = MemoryStore()
    first = Calls(False)
    holds: Any = Saga("s", exclusive=lambda context: "key", store=store).add_task(first.step("a", gate))
    running = background(lambda: holds.try_execute(saga_id=other))
    assert gate.reached.wait(30)
    here = Here(holds.definition, store)
    end = background(lambda: asyncio.run(here.aexecute(None, "x")) if in_loop else here.execute(None, "x"))
    until(lambda: store.get("x") is not None)
    here.stop()
    assert end().status is (Status.RUNNING if other == "x" else Status.SUBMITTED)
    gate.open()
    assert running().status is Status.COMPLETED
    assert Here(holds.definition, store).execute(None, "x").status is Status.COMPLETED
    assert first.log == (["a"] if other == "x" else ["a", "a"])
