"""A stored execution, looked at from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga import Context, Saga, Status, Task, receive, step
from saga.errors import SagaDefinitionError, UnknownExecutionError
from saga.storage import MemoryStore


class Count(Task[int]):
    def execute(self, context: Context) -> int:
        context.n = context.get("n", 0) + 1
        return int(context.n)

    def compensate(self, context: Context) -> None:
        """Counts stay counted."""


def test_a_stored_execution_has_the_result_it_returned(tmp_path: Path) -> None:
    saga = Saga("s", store=tmp_path / "s.db").add_task(Count).add_task(step(lambda: 1 / 0, name="bad"))
    result = saga.try_execute({"n": 4}, saga_id="one")
    loaded = Saga("s").add_task(Count).add_task(step(lambda: 1 / 0, name="bad")).load("one", store=tmp_path / "s.db")
    assert (loaded.status, dict(loaded.context), loaded.failed_step) == (Status.COMPENSATED, {"n": 5}, "bad")
    assert loaded.results == result.results == {"Count": 5}
    assert [record.status for record in loaded.history] == [record.status for record in result.history]
    assert "ZeroDivisionError: division by zero" in loaded.report()


def test_an_execution_that_runs_is_loaded_as_it_stands() -> None:
    store = MemoryStore()
    saga = Saga("s", store=store).add_task(Count).add_task(receive("go", timeout=20.0))
    seen = []

    def look(event: object, info: object) -> None:
        if not seen and len(store.journal("one")) >= 4:
            seen.append(saga.load("one"))
            saga.signal("one", "go", "now")

    watched = Saga("s", store=store, logger=look).add_task(Count).add_task(receive("go", timeout=20.0))
    assert watched.execute(saga_id="one").results == {"Count": 1, "go": "now"}
    assert (seen[0].status, seen[0].results, seen[0].ok) == (Status.RUNNING, {"Count": 1}, False)


def test_what_is_not_there_cannot_be_loaded() -> None:
    store = MemoryStore()
    Saga("other", store=store).add_task(Count).execute(saga_id="theirs")
    saga = Saga("s", store=store).add_task(Count)
    for saga_id in ("none", "theirs"):
        with pytest.raises(UnknownExecutionError, match=f"there is no execution '{saga_id}' of saga 's'"):
            saga.load(saga_id)
    with pytest.raises(SagaDefinitionError, match="saga 's' has no store"):
        Saga("s").add_task(Count).load("one")
