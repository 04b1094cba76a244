"""Operators: what they may do where an execution stands, and that the execution then ends as they said."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, SagaResult, Status, parallel, receive, sequence, step, timer
from saga.errors import SagaCancelledError, SagaExecutionException, StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, SqliteStore, Store
from tests.kit import Watched, World, background, check_journal, check_truth, expired, journal_of, probe, until, within

ACTIONS = ["cancel", "compensate", "resume", "retry", "skip"]


def act(operations: Operations, action: str, saga_id: str = "x", why: str = "because", on: str = "b") -> None:
    method = getattr(operations, action)
    if action == "skip":
        method(saga_id, on, why)
    else:
        method(saga_id, why)


# -- executions in every status, nobody owns them ---------------------------------------------------------------------


def forward(world: World) -> Saga:
    """``a`` ended well, ``b`` was under way, ``c`` is to come."""
    return Saga("s").add_task(probe("a", world)).add_task(probe("b", world, in_doubt=InDoubt.RERUN)).add_task(probe("c", world))


def asked(world: World) -> Saga:
    return Saga("s").add_task(probe("a", world)).add_task(probe("b", world, in_doubt=InDoubt.ASK)).add_task(probe("c", world))


def undo_failed(world: World) -> Saga:
    saga = Saga("s").add_task(probe("a", world)).add_task(probe("b", world, "", "fail"))
    return saga.add_task(probe("c", world, "fail"))


def undone(world: World) -> Saga:
    return Saga("s").add_task(probe("a", world)).add_task(probe("b", world)).add_task(probe("c", world, "fail"))


BUILDS = {
    "running": forward,
    "compensating": undo_failed,
    "completed": forward,
    "compensated": undone,
    "stuck on a step": asked,
    "stuck on an undo": undo_failed,
}


def stored(where: str, store: Store) -> tuple[Callable[[World], Saga], World]:
    """Put an execution into the store that stands where it says; return its definition and what is outside."""
    build = BUILDS[where]
    watched = Watched(MemoryStore())
    world = World(store=watched.store)
    build(world).try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    world.calls.clear()
    count = {"running": 2, "compensating": 4, "stuck on a step": 2}.get(where, len(watched.writes))
    writes = watched.writes[:count]
    expired(store, writes)
    world.log = {"running": ["a", "b"], "compensating": ["a", "b"], "stuck on a step": ["a", "b"]}.get(where, world.log)
    world.store = store
    if where == "stuck on a step":
        (result,) = Recovery(store, [build(world)]).run_once()
        assert result.status is Status.STUCK
        assert result.in_doubt == ("b",)
    row = store.get("x")
    assert row is not None
    assert row.status == where.partition(" ")[0]
    return build, world


ALLOWED = {
    "running": {"cancel", "compensate"},
    "compensating": {"compensate"},
    "completed": set(),
    "compensated": set(),
    "stuck on a step": {"compensate", "resume", "skip"},
    "stuck on an undo": {"compensate", "retry", "skip"},
}
REFUSED = {
    ("running", "resume"): "not stuck",
    ("running", "retry"): "not stuck",
    ("running", "skip"): "not stuck",
    ("compensating", "cancel"): "does not go forward",
    ("compensating", "resume"): "not stuck",
    ("compensating", "retry"): "not stuck",
    ("compensating", "skip"): "not stuck",
    ("stuck on a step", "cancel"): "does not go forward",
    ("stuck on a step", "retry"): "no compensation has failed",
    ("stuck on an undo", "cancel"): "does not go forward",
    ("stuck on an undo", "resume"): "a compensation has failed; use retry",
}


@pytest.mark.parametrize(
    ("where", "action"), [pair for pair in itertools.product(BUILDS, ACTIONS) if pair[1] not in ALLOWED[pair[0]]]
)
def test_what_does_not_fit_is_refused_and_changes_nothing(where: str, action: str, store: Store) -> None:
    build, world = stored(where, store)
    before = store.get("x"), journal_of(store, "x")
    text = REFUSED.get((where, action), "has ended")
    with pytest.raises(ValueError, match=text):
        act(Operations(store, "ann", sagas=[build(world)]), action)
    if text not in ("no compensation has failed", "a compensation has failed; use retry"):  # a definition is needed for these
        with pytest.raises(ValueError, match=text):
            act(Operations(store, "ann"), action)
    assert (store.get("x"), journal_of(store, "x")) == before
    assert store.inbox("x") == []


@pytest.mark.parametrize("with_sagas", [False, True])
@pytest.mark.parametrize(("where", "action"), [(where, action) for where, some in ALLOWED.items() for action in sorted(some)])
def test_what_fits_is_recorded_and_the_next_recovery_carries_it_out(
    where: str, action: str, with_sagas: bool, store: Store
) -> None:
    build, world = stored(where, store)
    before = len(store.journal("x"))
    operations = Operations(store, "ann", sagas=[build(world)] if with_sagas else ())
    act(operations, action, why="the customer called")
    (line,) = operations.show("x").journal[before:]
    assert (line.kind, line.step) == ("OperatorActed", "b" if action == "skip" else None)
    assert {"action": action, "who": "ann", "why": "the customer called"}.items() <= line.details.items()
    row = store.get("x")
    assert row is not None
    gave_up = "SagaCompensating c" in journal_of(store, "x")
    assert (row.status, row.owner, row.recoveries) == ("compensating" if gave_up else "running", None, 0)
    (result,) = within(10, Recovery(store, [build(world)]).run_once)
    entries = store.journal("x")
    check_journal(entries)
    calls = [name for name, _ in world.calls]
    expected: dict[tuple[str, str], tuple[Status, list[str]]] = {
        ("running", "cancel"): (Status.COMPENSATED, ["-b", "-a"]),
        ("running", "compensate"): (Status.COMPENSATED, ["-b", "-a"]),
        ("compensating", "compensate"): (Status.STUCK, ["-b", "-a"]),
        ("stuck on a step", "compensate"): (Status.COMPENSATED, ["-b", "-a"]),
        ("stuck on a step", "resume"): (Status.COMPLETED, ["b", "c"]),
        ("stuck on a step", "skip"): (Status.COMPLETED, ["c"]),
        ("stuck on an undo", "compensate"): (Status.COMPENSATED, ["-b"]),
        ("stuck on an undo", "retry"): (Status.COMPENSATED, ["-b"]),
        ("stuck on an undo", "skip"): (Status.COMPENSATED, []),
    }
    assert (result.status, calls) == expected[where, action]
    if action != "skip":  # a person saw to what was skipped
        check_truth(result, world)
    if action in ("cancel", "compensate") and where in ("running", "stuck on a step"):
        assert isinstance(result.error, SagaCancelledError)
        assert str(result.error) == f"{action} by ann: the customer called"


def test_a_step_that_does_not_wait_for_a_decision_is_not_skipped(store: Store) -> None:
    build, world = stored("stuck on a step", store)
    operations = Operations(store, "ann", sagas=[build(world)])
    with pytest.raises(ValueError, match="step 'a' waits for no decision of a person; those that do: b"):
        operations.skip("x", "a", "why not")
    with pytest.raises(ValueError, match="step 'nonsense' waits for no decision"):
        operations.skip("x", "nonsense", "why not")


def test_an_in_doubt_step_is_not_executed_again_once_the_undo_has_begun(store: Store) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def build() -> Saga:
        saga = Saga("s").add_task(step(lambda: 1, lambda: None, name="a"))
        return saga.add_task(step(interrupted, lambda: None, name="b", in_doubt=InDoubt.ASK))

    with pytest.raises(KeyboardInterrupt):
        build().execute(saga_id="x", store=store)
    operations = Operations(store, "ann", sagas=[build()])
    with pytest.raises(ValueError, match="the undo has begun"):
        operations.resume("x", "again")
    operations.skip("x", "b", "nothing was there")
    (result,) = Recovery(store, [build()]).run_once()
    assert result.status is Status.COMPENSATED


def test_several_failed_undos_are_decided_one_by_one(store: Store) -> None:
    def build(world: World) -> Saga:
        saga = Saga("s").add_task(probe("a", world, "", "fail fail")).add_task(probe("b", world, "", "fail fail fail"))
        return saga.add_task(probe("c", world, "fail"))

    world = World(store=store)
    result = build(world).try_execute(saga_id="x", store=store)
    assert result.reason == "compensation failed: a, b"
    operations = Operations(store, "ann", sagas=[build(world)])
    statuses = []
    for action in ("retry", "skip", "retry"):
        act(operations, action)
        (result,) = Recovery(store, [build(world)]).run_once()
        check_journal(store.journal("x"))
        statuses.append((result.status, result.reason))
    assert statuses == [
        (Status.STUCK, "compensation failed: a, b"),
        (Status.STUCK, "compensation failed: a"),
        (Status.COMPENSATED, None),
    ]
    assert [name for name, _ in world.calls] == ["a", "b", "c", "-b", "-a", "-b", "-a", "-a"]


def test_an_undo_that_stopped_at_a_failure_goes_on_when_that_is_skipped(store: Store) -> None:
    def build(world: World) -> Saga:
        saga = Saga("s", stop_on_compensation_failure=True).add_task(probe("a", world)).add_task(probe("b", world, "", "fail"))
        return saga.add_task(probe("c", world, "fail"))

    world = World(store=store)
    result = build(world).try_execute(saga_id="x", store=store)
    assert result.reason == "compensation failed: b; not compensated: a"
    Operations(store, "ann").skip("x", "b", "done by hand")
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.status is Status.COMPENSATED
    assert world.log == ["a", "b", "-a"]


@pytest.mark.parametrize("action", ["resume", "skip", "compensate"])
def test_branches_in_doubt_are_decided_together_or_one_by_one(action: str, store: Store) -> None:
    def build(world: World) -> Saga:
        branches = [sequence(probe(name, world, in_doubt=InDoubt.ASK), probe(f"{name}2", world)) for name in "ab"]
        return Saga("s").add_task(parallel(*branches, probe("c", world, in_doubt=InDoubt.RERUN))).add_task(probe("d", world))

    watched = Watched(MemoryStore())
    build(World(store=watched.store)).execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:1])
    world = World(store=store, log=["a", "b"])
    (result,) = within(10, Recovery(store, [build(world)]).run_once)
    assert result.status is Status.STUCK
    assert result.in_doubt == ("a", "b")
    assert result.results == {"c": {"step": ("c", 0)}}
    operations = Operations(store, "ann", sagas=[build(world)])
    for name in ("a", "b") if action == "skip" else ("a",):
        act(operations, action, on=name)
        (result,) = within(10, Recovery(store, [build(world)]).run_once)
    check_journal(store.journal("x"))
    calls = [name for name, _ in world.calls]
    if action == "compensate":
        assert result.status is Status.COMPENSATED
        assert sorted(calls) == ["-a", "-b", "-c", "c"]
    else:
        assert result.ok
        assert sorted(calls) == sorted(["c", "a2", "b2", "d"] + (["a", "b"] if action == "resume" else []))


@pytest.mark.parametrize("ended", [0, 1, 2])
def test_one_that_is_cancelled_never_goes_forward_again(ended: int, store: Store) -> None:
    """Not even to join branches that had ended, or to repeat what may be repeated."""

    def build(world: World) -> Saga:
        branches = parallel(probe("a", world, in_doubt=InDoubt.RERUN), probe("b", world, in_doubt=InDoubt.RERUN))
        return Saga("s").add_task(branches).add_task(probe("c", world))

    watched = Watched(MemoryStore())
    world = World(store=watched.store)
    build(world).execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    writes = watched.writes[: 1 + ended]
    if ended == 2:
        writes[-1].entries = writes[-1].entries[:1]  # without the join
    world.calls.clear()
    world.store, world.log = store, ["a", "b"]
    expired(store, writes)
    Operations(store, "ann").cancel("x", "enough")
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, SagaCancelledError)
    check_journal(store.journal("x"))
    check_truth(result, world)
    assert sorted(name for name, _ in world.calls) == ["-a", "-b"]


def test_what_was_parked_goes_on_with_the_right_definition(store: Store) -> None:
    build, world = stored("running", store)
    assert Recovery(store, [Saga("s", version="9").add_task(probe("other", world))]).run_once() == []
    operations = Operations(store, "ann", sagas=[Saga("s", version="9").add_task(probe("other", world)), build(world)])
    assert operations.show("x").execution.status == "stuck"
    operations.resume("x", "the old version is back")
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.ok
    assert [name for name, _ in world.calls] == ["b", "c"]


def test_an_undo_that_was_parked_goes_on(store: Store) -> None:
    build, world = stored("compensating", store)
    Recovery(store, [Saga("s", version="9").add_task(probe("other", world))]).run_once()
    Operations(store, "ann", sagas=[build(world)]).resume("x", "the old version is back")
    row = store.get("x")
    assert row is not None
    assert row.status == "compensating"
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.status is Status.STUCK  # the compensation of b fails
    assert [name for name, _ in world.calls] == ["-b", "-a"]


def test_joining_tells_what_an_operator_decided(store: Store) -> None:
    build, world = stored("stuck on a step", store)
    with pytest.raises(SagaExecutionException, match="a person must act: in doubt, and the task says ASK: b"):
        build(world).execute(saga_id="x", store=store)
    Operations(store, "ann").skip("x", "b", "seen to")
    result = build(world).execute(saga_id="x", store=store)  # nobody has it, so this goes on with it
    assert result.ok
    assert "b" not in result.results


def test_who_and_why_are_asked_for() -> None:
    store = MemoryStore()
    for who in ("", "  ", None):
        with pytest.raises(ValueError, match="give the name of the person who acts"):
            Operations(store, who)  # type: ignore[arg-type]
    operations = Operations(store, "ann")
    for why in ("", "  ", None):
        with pytest.raises(ValueError, match="give the reason"):
            operations.cancel("x", why)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [*ACTIONS, "show"])
def test_one_that_is_not_there_is_told(action: str, store: Store) -> None:
    operations = Operations(store, "ann")
    call = partial(operations.show, "nope") if action == "show" else partial(act, operations, action, "nope")
    with pytest.raises(StorageError, match="there is no execution 'nope'"):
        call()


# -- executions that run ----------------------------------------------------------------------------------------------


def long_running(steps: int = 200) -> Saga:
    saga = Saga("long", lease=0.3)
    for n in range(steps):
        saga.add_task(step(lambda: time.sleep(0.02), lambda: None, name=f"s{n}"))
    return saga


def run_and(saga: Saga, store: Any, then: Callable[[], None]) -> SagaResult:
    running = background(lambda: saga.try_execute(saga_id="x", store=store))
    time.sleep(0.15)
    then()
    return running(15)


@pytest.mark.parametrize("with_sagas", [False, True])
@pytest.mark.parametrize("action", ["cancel", "compensate"])
def test_a_running_execution_is_given_up(action: str, with_sagas: bool, store: Store) -> None:
    saga = long_running()
    operations = Operations(store, "ann", sagas=[saga] if with_sagas else ())
    result = run_and(saga, store, lambda: act(operations, action, why="too slow"))
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
def test_a_running_call_ends_and_is_undone_when_its_execution_is_cancelled(flow: Any, store: Store) -> None:
    saga = Saga("s", lease=0.3).add_task(flow(lambda: time.sleep(0.4))).add_task(step(lambda: 1, name="never"))
    result = run_and(saga, store, lambda: Operations(store, "ann").cancel("x", "enough"))
    assert result.status is Status.COMPENSATED
    assert "never" not in result.results
    assert "StepSucceeded a" in journal_of(store, "x")
    check_journal(store.journal("x"))


def test_a_wait_for_another_attempt_ends_when_its_execution_is_cancelled(store: Store) -> None:
    def fail() -> None:
        raise ValueError

    saga = Saga("s", lease=0.3).add_task(step(fail, name="a", retry=Retry(2, 60.0)))
    began = time.monotonic()
    result = run_and(saga, store, lambda: Operations(store, "ann").cancel("x", "enough"))
    assert result.status is Status.COMPENSATED
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("pause", [lambda: timer(60.0), lambda: receive("go"), lambda: receive("go", timeout=60.0)])
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
        (result,) = within(10, Recovery(store, [build(world)]).run_once)
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
        act(Operations(store, "ann", sagas=[build(world)]), action)
    act(Operations(store, "ann"), action)
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


def test_the_inbox_is_shown_until_it_is_read(store: Store) -> None:
    stored("running", store)
    assert store.claim("alive", 60.0, saga_id="x")
    operations = Operations(store, "ann")
    operations.cancel("x", "enough")
    view = operations.show("x")
    assert view.inbox == ({"action": "cancel", "step": None, "who": "ann", "why": "enough"},)
    assert view.execution.owner == "alive"
    assert "OperatorActed" not in journal_of(store, "x")


def test_what_its_owner_did_not_live_to_read_is_done_by_the_recovery(store: Store) -> None:
    build, world = stored("running", store)
    (row,) = store.claim("alive", 60.0, saga_id="x")
    Operations(store, "ann").cancel("x", "enough")
    store.release(Lease("x", "alive", row.epoch))
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.status is Status.COMPENSATED
    assert str(result.error) == "cancel by ann: enough"
    assert "c" not in [name for name, _ in world.calls]
    assert store.inbox("x") == []
    check_journal(store.journal("x"))
    check_truth(result, world)


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


# -- looking ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(store: Store) -> Store:
    for n in range(7):
        Saga("one").add_task(step(lambda: 1, name="a")).execute(saga_id=f"one{n}", store=store)

    def fail() -> None:
        raise ValueError

    for n in range(3):
        Saga("two").add_task(step(fail, name="a")).try_execute(saga_id=f"two{n}", store=store)
    return store


def test_executions_are_listed_newest_first_page_by_page(many: Store) -> None:
    operations = Operations(many, "ann")
    everything = [row.saga_id for row in operations.all()]
    assert everything == [f"two{n}" for n in (2, 1, 0)] + [f"one{n}" for n in range(6, -1, -1)]
    pages = []
    after = None
    while True:
        page = operations.list(limit=4, after=after)
        pages.append([row.saga_id for row in page.executions])
        after = page.next
        if after is None:
            break
    assert pages == [everything[:4], everything[4:8], everything[8:]]
    assert [row.saga_id for row in operations.all(limit=3)] == everything


def test_listings_are_filtered(many: Store) -> None:
    operations = Operations(many, "ann")

    def ids(**filters: Any) -> list[str]:
        return [row.saga_id for row in operations.all(**filters)]

    assert ids(status="compensated") == ids(name="two") == ["two2", "two1", "two0"]
    assert len(ids(status=["completed", Status.COMPENSATED])) == 10
    assert ids(status=[]) == []
    assert ids(name="one", status="compensated") == []
    assert ids(older_than=60) == []
    assert len(ids(newer_than=60)) == 10
    assert len(ids(older_than=-1)) == 10
    for wrong in ({"status": "nonsense"}, {"after": "nonsense"}, {"limit": 0}):
        with pytest.raises(ValueError, match=r"nonsense|limit"):
            operations.list(**wrong)  # type: ignore[arg-type]


def test_a_timeline_has_a_line_for_each_entry(store: Store) -> None:
    def fail() -> None:
        raise ValueError("no " + "x" * 200)

    def put(context: Context) -> dict[str, Any]:
        context["order"] = {"lines": list(range(100))}
        return {"type": 3, "text": "mine"}

    saga = Saga("s").add_task(step(put, lambda: None, name="put"))
    saga.add_task(step(lambda: {"type": "mine", "text": "mine"}, name="like an error")).add_task(step(fail, name="fail"))
    saga.try_execute({"n": 1}, saga_id="x", store=store)
    view = Operations(store, "ann").show("x")
    assert view.execution.status == "compensated"
    lines = view.timeline().splitlines()
    assert len(lines) == len(view.journal) == len(store.journal("x"))
    assert "SagaStarted" in lines[0]
    assert "version=1" in lines[0]
    assert 'changes={"n": 1}' in lines[0]
    assert 'result={"type": 3, "text": "mine"}' in lines[2]
    assert "..." in lines[2]
    assert "put" in lines[2]
    (failed,) = [line for line in lines if " StepFailed " in line]
    assert "error=ValueError: no xxx" in failed
    (put_line,) = [line for line in view.journal if line.kind == "StepSucceeded" and line.step == "put"]
    assert put_line.details["changes"] == {"order": {"lines": list(range(100))}}
    assert put_line.details["result"] == {"type": 3, "text": "mine"}


def test_old_ended_executions_are_purged(many: Store) -> None:
    operations = Operations(many, "ann")
    assert operations.purge(older_than=60) == 0
    time.sleep(0.02)
    assert operations.purge(older_than=0.01, status="compensated") == 3
    assert {row.name for row in operations.all()} == {"one"}
    assert many.journal("two0") == []
    assert operations.purge(older_than=0.01) == 7
    assert list(operations.all()) == []
    with pytest.raises(ValueError, match="only terminal executions are purged"):
        operations.purge(older_than=0, status="running")
    with pytest.raises(ValueError, match="nonsense"):
        operations.purge(older_than=0, status="nonsense")


def test_stuck_executions_are_purged_only_where_that_is_said(store: Store) -> None:
    stored("stuck on an undo", store)
    time.sleep(0.02)
    operations = Operations(store, "ann")
    assert operations.purge(older_than=0.01) == 0
    assert operations.purge(older_than=0.01, status=["stuck"]) == 1


def test_actions_race_and_one_wins(store: Store) -> None:
    """Many act on one stuck execution: those that come after the first are refused, or wait in its inbox."""
    build, world = stored("stuck on an undo", store)
    refused: list[str] = []

    def retry(n: int) -> None:
        try:
            Operations(store, f"person{n}", sagas=[build(world)]).retry("x", "again")
        except (ValueError, StorageError) as error:  # the first has acted already, or is just doing so
            refused.append(str(error))

    threads = [threading.Thread(target=retry, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    acted = [line for line in Operations(store, "ann").show("x").journal if line.kind == "OperatorActed"]
    assert len(acted) == 1
    assert len(refused) + len(store.inbox("x")) == 7
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.status is Status.COMPENSATED
    assert [name for name, _ in world.calls] == ["-b"]
    check_journal(store.journal("x"))


def test_operations_open_the_store_they_are_given_by_path(tmp_path: Path) -> None:
    path = tmp_path / "saga.db"
    with SqliteStore(path) as store:
        Saga("s").add_task(step(lambda: 1, name="a", in_doubt=InDoubt.COMPENSATE)).execute(saga_id="x", store=store)
    operations = Operations(str(path), "ann")
    assert operations.show("x").execution.status == "completed"
    assert json.loads(store_payload(operations)) == {"attempt": 1}
    operations.store.close()


def store_payload(operations: Operations) -> str:
    return operations.store.journal("x")[1].payload
