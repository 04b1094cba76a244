"""An operator's action is carried out or refused, whoever dies: it is never lost without a word."""

from __future__ import annotations

import json
import time

import pytest

from saga import InDoubt, Saga, Task
from saga.errors import StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import SqliteStore


class Asked(Task):
    in_doubt = InDoubt.ASK

    def execute(self, context):
        raise SystemExit  # which leaves it in doubt

    def compensate(self, context):
        pass


def test_an_action_is_not_lost_when_an_operator_died_in_the_middle_of_another(tmp_path):
    """Who acts on a stuck execution holds it for a moment. Messages are no way to reach who died then: nobody reads them."""
    passed = [0.0]
    saga = Saga("order").add_task(Asked())
    with SqliteStore(tmp_path / "saga.db", clock=lambda: time.time() + passed[0]) as store:
        with pytest.raises(SystemExit):
            saga.execute(saga_id="x", store=store)
        assert store.get("x").status == "stuck"
        assert store.claim("an operator who dies now", 10.0, saga_id="x")
        refused = False
        try:
            Operations(store, "another", sagas=[saga]).compensate("x", "it never happened")
        except StorageError:
            refused = True
        passed[0] = 60.0
        Recovery(store, [saga]).run_once()
        assert refused or store.get("x").status == "compensated"
        assert refused == (store.get("x").status == "stuck")
        if refused:  # and later it is not
            Operations(store, "another", sagas=[saga]).compensate("x", "it never happened")
            Recovery(store, [saga]).run_once()
        assert store.get("x").status == "compensated"
        acted = [json.loads(entry.payload) for entry in store.journal("x") if entry.kind == "OperatorActed"]
        assert [action["who"] for action in acted] == ["another"]
