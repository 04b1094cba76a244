"""Operators: what they may do where an execution stands, and that the execution then ends as they said."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from saga import InDoubt, Saga, Status, parallel, sequence, step
from saga.errors import ActionRefusedError, SagaCancelledError, SagaExecutionException, StorageError, UnknownExecutionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore, Store
from tests.kit import PATIENCE, Watched, World, check_journal, check_truth, expired, journal_of, probe, within

ACTIONS = ["cancel", "compensate", "pause", "resume", "retry", "skip"]


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
    "running": {"cancel", "compensate", "pause"},
    "compensating": {"compensate"},
    "completed": set(),
    "compensated": set(),
    "stuck on a step": {"compensate", "resume", "skip"},
    "stuck on an undo": {"compensate", "retry", "skip"},
}
REFUSED = {
    ("running", "resume"): "neither stuck nor paused",
    ("running", "retry"): "not stuck",
    ("running", "skip"): "not stuck",
    ("compensating", "cancel"): "does not go forward",
    ("compensating", "pause"): "does not go forward",
    ("compensating", "resume"): "neither stuck nor paused",
    ("compensating", "retry"): "not stuck",
    ("compensating", "skip"): "not stuck",
    ("stuck on a step", "cancel"): "does not go forward",
    ("stuck on a step", "pause"): "does not go forward",
    ("stuck on an undo", "pause"): "does not go forward",
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
    with pytest.raises(ActionRefusedError, match=text):
        act(Operations(store, "ann", sagas=[build(world)]), action)
    if text not in ("no compensation has failed", "a compensation has failed; use retry"):  # a definition is needed for these
        with pytest.raises(ActionRefusedError, match=text):
            act(Operations(store, "ann"), action)
    assert (store.get("x"), journal_of(store, "x")) == before
    assert store.inbox("x") == []


@pytest.mark.parametrize("with_sagas", [False, True])
@pytest.mark.parametrize(
    ("where", "action"), [(where, action) for where, some in ALLOWED.items() for action in sorted(some - {"pause"})]
)
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
    (result,) = within(PATIENCE, Recovery(store, [build(world)]).run_once)
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
    (result,) = within(PATIENCE, Recovery(store, [build(world)]).run_once)
    assert result.status is Status.STUCK
    assert result.in_doubt == ("a", "b")
    assert result.results == {"c": {"step": ("c", 0)}}
    operations = Operations(store, "ann", sagas=[build(world)])
    for name in ("a", "b") if action == "skip" else ("a",):
        act(operations, action, on=name)
        (result,) = within(PATIENCE, Recovery(store, [build(world)]).run_once)
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
    assert Recovery(store, [Saga("s", version="9").add_task(probe("other", world))], unfit_after=0).run_once() == []
    operations = Operations(store, "ann", sagas=[Saga("s", version="9").add_task(probe("other", world)), build(world)])
    assert operations.show("x").execution.status == "stuck"
    operations.resume("x", "the old version is back")
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.ok
    assert [name for name, _ in world.calls] == ["b", "c"]


def test_an_undo_that_was_parked_goes_on(store: Store) -> None:
    build, world = stored("compensating", store)
    Recovery(store, [Saga("s", version="9").add_task(probe("other", world))], unfit_after=0).run_once()
    Operations(store, "ann", sagas=[build(world)]).resume("x", "the old version is back")
    row = store.get("x")
    assert row is not None
    assert row.status == "compensating"
    (result,) = Recovery(store, [build(world)]).run_once()
    assert result.status is Status.STUCK  # the compensation of b fails
    assert [name for name, _ in world.calls] == ["-b", "-a"]


def test_joining_tells_what_an_operator_decided(store: Store) -> None:
    build, world = stored("stuck on a step", store)
    with pytest.raises(SagaExecutionException, match="is stuck: step 'b' is in doubt"):
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
    with pytest.raises(UnknownExecutionError, match="there is no execution 'nope'"):
        call()


# -- looking ----------------------------------------------------------------------------------------------------------


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
