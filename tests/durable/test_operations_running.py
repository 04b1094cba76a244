"""Operators act on executions that run: these read it, and end as they said."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga import Retry, Saga, SagaResult, Status, parallel, receive, step, timer
from saga.errors import StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, SqliteStore, Store
from tests.kit import (
    PATIENCE,
    Watched,
    World,
    background,
    check_journal,
    check_truth,
    expired,
    journal_of,
    probe,
    until,
    until_renewed,
    within,
)


def long_running(steps: int = 200) -> Saga:
    saga = Saga("long", lease=0.3)
    for n in range(steps):
        saga.add_task(step(lambda: time.sleep(0.02), lambda: None, name=f"s{n}"))
    return saga


def run_and(saga: Saga, store: Any, then: Callable[[], None]) -> SagaResult:
    """Execute a saga, act when its last intent before a wait is stored, and return its result."""
    running = background(lambda: saga.try_execute(saga_id="x", store=store))
    until(lambda: store.get("x") is not None and "StepStarted" in [entry.kind for entry in store.journal("x")])
    then()
    return running()


@pytest.mark.parametrize("with_sagas", [False, True])
@pytest.mark.parametrize("action", ["cancel", "compensate"])
def test_a_running_execution_is_given_up(action: str, with_sagas: bool, store: Store) -> None:
    saga = long_running()
    operations = Operations(store, "ann", sagas=[saga] if with_sagas else ())
    result = run_and(saga, store, lambda: getattr(operations, action)("x", "too slow"))
    assert result.status is Status.COMPENSATED
    assert str(result.error) == f"{action} by ann: too slow"
    check_journal(store.journal("x"))
    assert store.inbox("x") == []
    (acted,) = [line for line in operations.show("x").journal if line.kind == "OperatorActed"]
    assert (acted.details["who"], acted.details["why"]) == ("ann", "too slow")


@pytest.mark.parametrize(
    "flow",
    [
        lambda pause: step(pause, lambda: None, name="a", timeout=30.0),
        lambda pause: parallel(step(pause, lambda: None, name="a"), step(pause, lambda: None, name="b")),
        lambda pause: step(pause, lambda: None, name="a"),
    ],
)
def test_a_running_call_ends_and_is_undone_when_its_execution_is_cancelled(flow: Any, store: Store, gate: Any) -> None:
    saga = Saga("s", lease=0.3).add_task(flow(gate.hold)).add_task(step(lambda: 1, name="never"))

    def cancel() -> None:
        Operations(store, "ann").cancel("x", "enough")
        until_renewed(store, "x", 2)
        gate.open()

    result = run_and(saga, store, cancel)
    assert result.status is Status.COMPENSATED
    assert "never" not in result.results
    assert "StepSucceeded a" in journal_of(store, "x")
    check_journal(store.journal("x"))


def test_a_wait_for_another_attempt_ends_when_its_execution_is_cancelled(store: Store) -> None:
    def fail() -> None:
        raise ValueError

    saga = Saga("s", lease=0.3).add_task(step(fail, name="a", retry=Retry(2, 3600.0)))
    result = run_and(saga, store, lambda: Operations(store, "ann").cancel("x", "enough"))
    assert result.status is Status.COMPENSATED


@pytest.mark.parametrize("pause", [lambda: timer(3600.0), lambda: receive("go"), lambda: receive("go", timeout=3600.0)])
@pytest.mark.parametrize("recovered", [False, True])
def test_an_execution_that_waits_is_cancelled(pause: Callable[[], Any], recovered: bool, store: Store) -> None:
    def build(world: World) -> Saga:
        saga = Saga("s", lease=0.3).add_task(probe("a", world)).add_task(pause())
        return saga.add_task(probe("b", world))

    world = World(store=store)
    if recovered:
        watched = Watched(MemoryStore())
        background(lambda: build(World(store=watched.store)).try_execute(saga_id="x", store=watched))  # type: ignore[arg-type]
        until(lambda: len(watched.writes) == 2)
        expired(store, watched.writes)
        Operations(watched.store, "ann").cancel("x", "that thread is to end")
        world.log = ["a"]
        Operations(store, "ann").cancel("x", "enough")
        (result,) = within(PATIENCE, Recovery(store, [build(world)]).run_once)
    else:
        result = run_and(build(world), store, lambda: Operations(store, "ann").cancel("x", "enough"))
    assert result.status is Status.COMPENSATED
    assert str(result.error) == "cancel by ann: enough"
    check_journal(store.journal("x"))
    check_truth(result, world)


@pytest.mark.parametrize("action", ["cancel", "compensate"])
def test_nothing_is_undone_past_the_pivot_though_an_operator_said_so(action: str, store: Store) -> None:
    """Without the definition the action cannot be refused; it is in the journal, and the recovery goes forward."""

    def build(world: World) -> Saga:
        saga = Saga("s").add_task(probe("a", world)).add_task(probe("pivot", world, pivot=True))
        return saga.add_task(probe("b", world)).add_task(probe("c", world))

    watched = Watched(MemoryStore())
    build(World(store=watched.store)).execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:3])
    world = World(store=store, log=["a", "pivot", "b"])
    with pytest.raises(ValueError, match="past its pivot"):
        getattr(Operations(store, "ann", sagas=[build(world)]), action)("x", "because")
    getattr(Operations(store, "ann"), action)("x", "because")
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.ok
    assert [name for name, _ in world.calls] == ["b", "c"]
    check_journal(store.journal("x"))


def test_a_running_execution_is_cancelled_from_another_process(tmp_path: Path) -> None:
    path = tmp_path / "saga.db"
    code = "import sys; from saga.operations import Operations; Operations(sys.argv[1], 'bob').cancel('x', 'from afar')"

    def cancel() -> None:
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30, env={"PYTHONPATH": ":".join(sys.path)})

    with SqliteStore(path) as store:
        result = run_and(long_running(500), store, cancel)
        assert result.status is Status.COMPENSATED
        assert str(result.error) == "cancel by bob: from afar"


def test_what_comes_too_late_for_a_running_execution_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Two people cancel it at once: the second finds it on its way back."""
    saga = long_running(100)

    def cancel_twice() -> None:
        Operations(store, "ann").cancel("x", "first")
        Operations(store, "bob").cancel("x", "second")

    result = run_and(saga, store, cancel_twice)
    assert result.status is Status.COMPENSATED
    assert "first" in str(result.error)
    assert "an operator's action on saga x: the execution does not go forward" in caplog.text
    assert store.inbox("x") == []


def test_mail_that_cannot_be_read_stops_the_execution(store: Store) -> None:
    watched = Watched(store)

    def inbox(saga_id: str) -> Any:
        raise StorageError("no connection")

    watched.inbox = inbox  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match="no connection"):
        run_and(long_running(100), watched, lambda: Operations(store, "ann").cancel("x", "enough"))
    row = store.get("x")
    assert row is not None
    assert row.owner is None
