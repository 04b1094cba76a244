"""Operators look: lists, timelines, inboxes; and purge what has ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Status, receive, step, timer
from saga.operations import Operations
from saga.storage import SqliteStore, Store
from saga.worker import Worker


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


def test_what_completed_is_not_looked_through_for_a_step_or_a_cause(many: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    operations, asked, listed = Operations(many, "ann"), list[Any](), many.list

    def spy(**filters: Any) -> Any:
        asked.append(filters["status"])
        return listed(**filters)

    monkeypatch.setattr(many, "list", spy)
    for filters in ({"step": "a"}, {"cause": "ValueError"}, {"step": "a", "cause": "ValueError"}):
        assert [row.saga_id for row in operations.all(**filters)] == ["two2", "two1", "two0"]
    assert all(set(status) == set(Status) - {Status.COMPLETED} for status in asked)
    assert operations.list(step="a", status="completed").executions == ()


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


@pytest.mark.parametrize("in_loop", [False, True], ids=["threads", "loop"])
@pytest.mark.parametrize("waits", ["timer", "signal", "retry"])
def test_a_row_tells_where_an_execution_waits_that_nobody_runs(store: Store, waits: str, in_loop: bool) -> None:
    async def first_in_loop() -> None: ...

    def fail() -> None:
        raise OSError

    second = {
        "timer": timer(3600.0, name="here"),
        "signal": receive("here"),
        "retry": step(fail, name="here", retry=Retry(2, 3600.0)),
    }
    saga = (
        Saga("s", store=store).add_task(step(first_in_loop if in_loop else lambda: None, name="first")).add_task(second[waits])
    )
    saga.submit(saga_id="x")
    Worker(store, [saga], workers=1).run_once()
    row = Operations(store, "ann").get("x")
    assert (row.status, row.owner, row.step) == ("running", None, "here")


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


def test_a_timeline_has_an_error_wherever_it_matters(many: Store) -> None:
    lines = {line.kind: line.details for line in Operations(many, "ann").show("two0").journal}
    assert lines["StepFailed"]["error"]["type"] == "builtins:ValueError"
    assert lines["SagaCompensating"] == {"error": lines["StepFailed"]["error"]}


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
