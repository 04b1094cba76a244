"""Recovery: who recovers what, and what becomes of it when a recovery fails itself."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Status, step
from saga.durable.codec import Codec
from saga.errors import DefinitionChangedError, SagaDefinitionError, StorageError
from saga.recovery import Recovery
from saga.storage import Entry, Lease, MemoryStore, SqliteStore, Store, Wanted
from tests.kit import PATIENCE, Watched, expired, journal_of, until
from tests.kit.recoveries import left_behind, simple

# -- who recovers what ------------------------------------------------------------------------------------------------


def test_recoveries_side_by_side_never_run_the_same_execution_at_once(new_store: Callable[[], Store], tmp_path: Path) -> None:
    shared = new_store()
    calls: Counter[tuple[str, str]] = Counter()
    inside: Counter[str] = Counter()
    faults: list[str] = []
    lock = threading.Lock()

    def work(context: Context) -> None:
        with lock:
            inside[context.step.saga_id] += 1
            calls[context.step.saga_id, context.step.name] += 1
            if inside[context.step.saga_id] > 1:
                faults.append(context.step.saga_id)
        time.sleep(0.002)
        with lock:
            inside[context.step.saga_id] -= 1

    def build() -> Saga:
        return (
            Saga("s")
            .add_task(step(work, name="a", in_doubt=InDoubt.RERUN))
            .add_task(step(work, name="b", in_doubt=InDoubt.RERUN))
        )

    ids = [f"x{n}" for n in range(40)]
    for saga_id in ids:
        watched = Watched(MemoryStore())
        build().execute(saga_id=saga_id, store=watched)  # type: ignore[arg-type]
        expired(shared, watched.writes[:1])
    calls.clear()
    stores = [shared] * 4
    if isinstance(shared, SqliteStore):
        stores = [SqliteStore(shared._file.path, synchronous="OFF") for _ in range(4)]
    recoveries = [Recovery(one, [build()], workers=2) for one in stores]
    with ThreadPoolExecutor(4) as pool:
        results = [result for found in pool.map(lambda recovery: recovery.run_once(), recoveries) for result in found]
    assert faults == []
    assert sorted(result.saga_id for result in results) == sorted(ids)
    assert set(calls.values()) == {1}
    assert all(result.ok for result in results)
    if isinstance(shared, SqliteStore):
        for one in stores:
            one.close()


def test_what_runs_and_what_has_ended_is_left_alone(store: Store) -> None:
    simple().execute(saga_id="ended", store=store)
    watched = Watched(MemoryStore())
    simple().execute(saga_id="running", store=watched)  # type: ignore[arg-type]
    store.create(watched.writes[0].new, watched.writes[0].entries, "alive", 60.0)  # type: ignore[arg-type]
    before = journal_of(store, "ended"), journal_of(store, "running")
    assert Recovery(store, [simple()]).run_once() == []
    assert (journal_of(store, "ended"), journal_of(store, "running")) == before


def test_executions_of_unknown_sagas_are_left_alone(store: Store) -> None:
    left_behind(store, simple)
    other = Saga("other").add_task(step(lambda: 1, name="a"))
    row = store.get("x")
    assert Recovery(store, [other]).run_once() == []
    assert store.get("x") == row


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sagas": []}, "give the sagas"),
        ({"sagas": [simple(), simple()]}, "version '1' of saga 's' is given twice"),
        ({"sagas": [simple()], "max_attempts": 0}, "max_attempts is 0"),
        ({"sagas": [simple()], "max_attempts": True}, "max_attempts is True"),
        ({"sagas": [simple()], "workers": 0}, "workers is 0"),
        ({"sagas": [Saga("empty")]}, "no steps"),
    ],
)
def test_a_wrong_recovery_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(SagaDefinitionError, match=text):
        Recovery(MemoryStore(), **arguments)


def test_a_recovery_opens_the_store_it_is_given_by_path(tmp_path: Path) -> None:
    path = tmp_path / "saga.db"
    with SqliteStore(path) as store:
        left_behind(store, simple)
    recovery = Recovery(path, [simple()])
    (result,) = recovery.run_once()
    assert result.ok
    recovery.store.close()


@pytest.mark.parametrize(
    "changed",
    [
        Saga("s", version="2").add_task(step(lambda: 1, name="other")),
        simple(version="2").add_task(step(lambda: 3, name="another")),
        Saga("s", version="2").add_task(step(lambda: 1, name="a")).add_task(step(lambda: 2, name="b")),
    ],
    ids=["other steps", "another step", "other policies"],
)
def test_a_definition_that_changed_is_left_to_a_person(changed: Saga, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(store, simple)
    assert Recovery(store, [changed], unfit_after=0).run_once() == []
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner) == ("stuck", None)
    assert "begun by version '1'" in json.loads(store.journal("x")[-1].payload)["reason"]
    assert "is stuck" in caplog.text
    with pytest.raises(DefinitionChangedError, match="compatible_with"):
        changed.execute(saga_id="x", store=store)
    joined = simple().try_execute(saga_id="x", store=store)
    assert joined.status is Status.STUCK
    assert "begun by version '1'" in str(joined.reason)


def test_a_new_definition_may_say_that_it_finishes_what_an_old_one_began(store: Store) -> None:
    left_behind(store, simple, count=2)
    newer = Saga("s", version="2", compatible_with=["1"]).add_task(step(lambda: 1, name="a"))
    newer.add_task(step(lambda: 2, name="b", in_doubt=InDoubt.RERUN)).add_task(step(lambda: 3, name="c"))
    (result,) = Recovery(store, [newer]).run_once()
    assert result.results == {"a": 1, "b": 2, "c": 3}


def test_a_compatible_definition_that_lacks_a_step_is_not(store: Store) -> None:
    left_behind(store, simple, count=2)
    newer = Saga("s", version="2", compatible_with=["1"]).add_task(step(lambda: 1, name="a"))
    assert Recovery(store, [newer]).run_once() == []
    assert "has a step 'b', which version '2' lacks" in json.loads(store.journal("x")[-1].payload)["reason"]


def test_the_same_steps_under_a_new_version_are_the_same_definition(store: Store) -> None:
    left_behind(store, simple)
    (result,) = Recovery(store, [simple(version="2")]).run_once()
    assert result.ok


def test_each_execution_is_finished_by_the_version_that_began_it(store: Store) -> None:
    def version(number: int) -> Saga:
        saga = Saga("s", version=str(number))
        for n in range(number):
            saga.add_task(step(lambda: 1, name=f"step{n}", in_doubt=InDoubt.RERUN))
        return saga

    for number in (1, 2, 3):
        left_behind(store, lambda number=number: version(number), f"x{number}")  # type: ignore[misc]
    results = Recovery(store, [version(3), version(1), version(2)]).run_once()
    assert {result.saga_id: len(result.results) for result in results} == {"x1": 1, "x2": 2, "x3": 3}


# -- when recovery fails ----------------------------------------------------------------------------------------------


def test_an_execution_that_kills_each_recovery_ends_stuck(store: Store) -> None:
    left_behind(store, simple)
    for _ in range(3):  # three processes claimed it and died
        assert store.claim("dead", 0.0, wanted=[Wanted("s")])
    assert Recovery(store, [simple()], max_attempts=3).run_once() == []
    row = store.get("x")
    assert row is not None
    assert row.status == "stuck"
    assert "it was tried 3 times and got no further" in store.journal("x")[-1].payload


def test_an_execution_that_gets_on_may_be_recovered_more_often(store: Store) -> None:
    watched = Watched(MemoryStore())
    simple().execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    expired(store, watched.writes[:1])
    for _ in range(3):
        (row,) = store.claim("dead", 0.0, wanted=[Wanted("s")])
        seq = len(store.journal("x")) + 1
        recovered = Entry(seq, "SagaRecovered", None, '{"owner":"dead","epoch":2}', 0.0)
        store.append(Lease("x", "dead", row.epoch), [recovered])
    (row,) = store.claim("dead", 0.0, wanted=[Wanted("s")])
    done = watched.writes[1].entries[0]._replace(seq=6)
    started = watched.writes[1].entries[1]._replace(seq=7)
    store.append(Lease("x", "dead", row.epoch), [done, started])
    (result,) = Recovery(store, [simple()], max_attempts=3).run_once()
    assert result.ok


class Odd:
    """What no codec knows by itself."""


def test_what_cannot_be_read_is_tried_again_later_and_ends_stuck(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(codec: Codec) -> Saga:
        return (
            Saga("s", codec=codec)
            .add_task(step(lambda: Odd(), name="a"))
            .add_task(step(lambda: 2, name="b", in_doubt=InDoubt.RERUN))
        )

    known = Codec().register(Odd, lambda odd: 1, lambda stored: Odd(), name="odd")
    left_behind(store, lambda: build(known), count=2)
    recovery = Recovery(store, [build(Codec())], max_attempts=3, backoff=1.0)
    for number in (1, 2):
        assert recovery.run_once() == []
        row = store.get("x")
        assert row is not None
        assert (row.status, row.owner, row.recoveries) == ("running", None, number)
        assert 0.3 < row.due - store.now() <= 1.0
        assert recovery.run_once() == []  # it is not due
        time.sleep(1.1)
    assert "no class is registered as 'odd'" in caplog.text
    assert recovery.run_once() == []
    row = store.get("x")
    assert row is not None
    assert row.status == "stuck"
    reason = json.loads(store.journal("x")[-1].payload)["reason"]
    assert reason.startswith("it failed 3 times, at last with: execution 'x' of saga 's': entry 3 (StepSucc")


def test_one_that_cannot_be_read_does_not_keep_others_back(store: Store) -> None:
    left_behind(store, simple, "good1")
    left_behind(store, simple, "bad")
    left_behind(store, simple, "good2")
    (row,) = store.claim("vandal", 0.0, saga_id="bad")
    store.append(Lease("bad", "vandal", row.epoch), [Entry(3, "NoSuchEvent", None, "{}", 0.0)], release=True)
    results = Recovery(store, [simple()]).run_once()
    assert sorted(result.saga_id for result in results) == ["good1", "good2"]
    row = store.get("bad")
    assert row is not None
    assert row.due > store.now()


def test_a_failing_store_stops_one_execution_and_no_other(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(store, simple, "first")
    left_behind(store, simple, "second")
    watched = Watched(store)

    def fail_first(number: int) -> None:
        if number == 1:
            raise StorageError("the disk is full")

    watched.before = fail_first
    recovery = Recovery(watched, [simple()], backoff=0.2)  # type: ignore[arg-type]
    ended = recovery.run_once()
    assert [result.ok for result in ended] == [True]
    assert "the disk is full; trying again in 0.2 s" in caplog.text
    until(lambda: ended.extend(recovery.run_once()) or len(ended) == 2)
    assert sorted(result.saga_id for result in ended) == ["first", "second"]


def test_an_interrupt_in_a_recovered_step_leaves_the_rest_to_others(store: Store) -> None:
    interrupted: list[str] = []

    def first(context: Context) -> None:
        if not interrupted:
            interrupted.append(context.step.saga_id)
            raise KeyboardInterrupt

    def build() -> Saga:
        return Saga("s").add_task(step(first, lambda: None, name="a", in_doubt=InDoubt.RERUN))

    interrupted.append("not now")
    for n in range(3):
        left_behind(store, build, f"x{n}")
    interrupted.clear()
    with pytest.raises(KeyboardInterrupt):
        Recovery(store, [build()]).run_once()
    rows = {f"x{n}": store.get(f"x{n}") for n in range(3)}
    assert rows.pop(interrupted[0]).status == "compensated"  # type: ignore[union-attr]
    assert all(row is not None and row.owner in (None, "dead") for row in rows.values())
    assert len(Recovery(store, [build()]).run_once()) == 2


# -- for as long as it is wanted --------------------------------------------------------------------------------------


def test_a_recovery_goes_on_until_it_is_told_to_stop(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(store)
    recovery = Recovery(watched, [simple()])  # type: ignore[arg-type]
    asked: list[float] = []

    def claim(*args: Any, **more: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise StorageError("no connection")
        return store.claim(*args, **more)

    watched.claim = claim  # type: ignore[attr-defined]
    stop = threading.Event()
    daemon = threading.Thread(target=recovery.run, args=(stop,), kwargs={"interval": 0.01})
    daemon.start()
    left_behind(store, simple)
    until(lambda: store.get("x").status == "completed")  # type: ignore[union-attr]
    stop.set()
    daemon.join(PATIENCE)
    assert not daemon.is_alive()
    assert "no connection; trying again in 0.01 s" in caplog.text


def test_one_that_is_purged_while_it_is_claimed_is_left_alone(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(store, simple)
    with caplog.at_level("INFO", "saga"), monkeypatch.context() as purged:
        purged.setattr(store, "journals", lambda saga_ids: {saga_id: [] for saga_id in saga_ids})
        purged.setattr(store, "journal", lambda saga_id: [])
        purged.setattr(store, "get", lambda saga_id: None)
        assert Recovery(store, [simple()], max_attempts=1).run_once() == []
    assert "saga x is left to another worker: execution 'x' was purged" in caplog.text
    row = store.get("x")
    assert row is not None
    assert row.status == "running"  # nothing was written
