"""A store that fails while an execution runs: it is told, nothing more is executed, and a recovery deals with the doubt."""

from __future__ import annotations

import threading

import pytest
from crashkit.pool import faults_of
from crashkit.scenarios import ALL

from saga import Saga, Task, parallel, step
from saga.drivers.threads import Execution
from saga.errors import StorageError
from saga.storage import MemoryStore, SqliteStore

SCENARIOS = ["3-steps", "3-steps-c-fails", "3-steps-rerun", "fork-in-step", "undo-retried", "straggler"]

DOUBTFUL = ["lost-retried-compensate-raises", "lost-skipped-rerun-knows-nothing", "lost-beside-ask-tells"]


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("name", [*SCENARIOS, *DOUBTFUL, "async-fails", "pivot-then-retried"])
def test_a_store_that_fails_at_any_write_stops_the_execution_and_no_step_is_lost(pool, name, forever):
    """The write is not made, or it is made and the answer is lost; the store fails this once, or from then on."""
    [outcome] = pool.run([{"scenario": name, "kills": []}])
    assert outcome["status"] == ALL[name].ends
    points = [point for point in outcome["points"][0] if point.startswith("append")]
    cases = [{"scenario": name, "failure": {"at": point, "forever": forever}} for point in points]
    outcomes = pool.run(cases)
    faults = faults_of(cases, outcomes)
    assert not faults, faults
    for point, outcome in zip(points, outcomes, strict=True):
        stored = point.endswith("after") and not forever  # then the journal shows that it is, and the execution goes on
        assert bool(outcome["raised"]) != stored, (point, outcome)


def test_a_branch_that_has_not_begun_when_the_store_fails_never_begins(tmp_path, monkeypatch):
    """Its thread was started, and gets its first moment of a processor only after execute() has raised."""
    log, raised, seen = [], threading.Event(), threading.Event()

    class Done(Task):
        def __init__(self, name):
            self.name = name

        def execute(self, context):
            log.append(self.name)

        def compensate(self, context):
            log.append(f"undid {self.name}")

    class Broken(SqliteStore):
        def append(self, lease, entries, **more):
            raise StorageError("the disk is on fire")

    work = Execution._work

    def late(self, running, free):
        if running.call.step.name == "b":
            raised.wait(10)
        work(self, running, free)
        if running.call.step.name == "b":
            seen.set()

    monkeypatch.setattr(Execution, "_work", late)
    with Broken(tmp_path / "saga.db") as store:
        with pytest.raises(StorageError, match="on fire"):
            Saga("order").add_task(parallel(Done("a"), Done("b"))).execute(store=store)
        raised.set()
        assert seen.wait(10)
    assert log == ["a"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_a_store_with_a_fault_of_its_own_stops_the_execution_too(at, asynchronous):
    """It raises something else than it may: that is told as a StorageError, and the loop does not go round for ever."""
    log, appends = [], []

    class Faulty(MemoryStore):
        def append(self, lease, entries, **more):
            appends.append(entries)
            if len(appends) >= at:
                raise RuntimeError("a fault")
            super().append(lease, entries, **more)

    class Done(Task):
        def execute(self, context):
            log.append("did")

        def compensate(self, context):
            log.append("undid")

    class AsyncDone(Task):
        async def execute(self, context):
            log.append("did")

    saga = Saga("order").add_task(step(AsyncDone if asynchronous else Done, name="a")).add_task(step(Done, name="b"))
    with pytest.raises(StorageError, match="a fault") as caught:
        saga.execute(store=Faulty())
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert log == ["did"] * at
    assert len(appends) == at
