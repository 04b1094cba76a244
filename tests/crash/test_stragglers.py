"""What a result tells about an execution that a thread finishes is stored, however the thread and the store dawdle."""

from __future__ import annotations

import threading

import pytest

from saga import Saga, Task
from saga.drivers.threads import Execution
from saga.errors import StorageError
from saga.storage import SqliteStore
from tests.kit import until


class Late(Task):
    """Outlives its timeout, and ends by raising: nothing is left to undo then."""

    timeout = 0.01

    def execute(self, context):
        until(lambda: context.step.cancelled)
        raise ValueError("too late")

    def compensate(self, context):
        raise AssertionError("there is nothing to undo")


class Dawdling(SqliteStore):
    """Keeps the write that ends an execution waiting until it is let through, or lets it fail."""

    def __init__(self, path, error=None):
        super().__init__(path)
        self.error = error
        self.reached, self.gate = threading.Event(), threading.Event()

    def append(self, lease, entries, **more):
        if more.get("release"):
            self.reached.set()
            self.gate.wait(10)
            if self.error is not None:
                raise self.error
        super().append(lease, entries, **more)


@pytest.fixture
def run_to_the_last_write(monkeypatch):
    """Let ``run()`` return only when the stragglers' thread is about to store the end."""
    run = Execution.run

    def slowly(self):
        run(self)
        assert self.journal.store.reached.wait(10)

    monkeypatch.setattr(Execution, "run", slowly)


@pytest.mark.usefixtures("run_to_the_last_write")
def test_a_result_tells_no_end_that_is_not_stored(tmp_path):
    with Dawdling(tmp_path / "saga.db") as store:
        result = Saga("order").add_task(Late()).try_execute(saga_id="x", store=store)
        assert result.status == store.get("x").status == "compensating"
        store.gate.set()
        result = result.join(10)
        assert result.status == store.get("x").status == "compensated"


@pytest.mark.usefixtures("run_to_the_last_write")
def test_waiting_for_an_end_that_cannot_be_stored_raises(tmp_path):
    with Dawdling(tmp_path / "saga.db", StorageError("the disk is on fire")) as store:
        result = Saga("order").add_task(Late()).try_execute(saga_id="x", store=store)
        store.gate.set()
        with pytest.raises(StorageError, match="on fire"):
            result.join(10)
        assert store.get("x").status == "compensating"
