"""What an execution's row tells at each turn of it, without its journal being read."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Ask, Context, InDoubt, Saga, parallel, sequence, step
from saga.operations import Operations
from saga.storage import Store
from saga.worker import Worker
from tests.kit import Gate, background, until


class Declined(Exception):
    """The bank's own error."""


def told(store: Store, saga_id: str = "x") -> tuple[Any, ...]:
    row = store.get(saga_id)
    assert row is not None
    return row.status, row.step, row.reason, row.cause


def order(store: Store, charge: Any = None, undo: Any = None, **options: Any) -> Saga:
    saga = Saga("order", store=store, **options).add_task(step(lambda: None, undo or (lambda: None), name="reserve"))
    return saga.add_task(step(charge or (lambda: None), name="charge"))


def refuse(context: Context) -> None:
    raise Declined("no\n\x00money")


def broken() -> None:
    raise OSError("not now")


def test_what_ended_well_is_at_no_step(store: Store) -> None:
    order(store).execute(saga_id="x")
    assert told(store) == ("completed", None, None, None)


def test_what_failed_tells_where_and_why(store: Store) -> None:
    order(store, refuse).try_execute(saga_id="x")
    assert told(store) == ("compensated", "charge", "no\\n\\x00money", "Declined")


def test_what_could_not_be_undone_tells_what_a_person_is_asked_about(store: Store) -> None:
    order(store, refuse, broken).try_execute(saga_id="x")
    status, at, reason, cause = told(store)
    assert (status, at, cause) == ("stuck", "reserve", "OSError")
    assert reason == "compensation failed: reserve (OSError: not now)"


def test_of_several_that_could_not_be_undone_the_last_error_is_told_with_its_step(store: Store) -> None:
    def lost() -> None:
        raise KeyError

    saga = order(store, lambda: None, lost).add_task(step(lambda: None, broken, name="pack")).add_task(step(refuse))
    saga.try_execute(saga_id="x")
    assert told(store) == ("stuck", "reserve", "compensation failed: reserve, pack (reserve: KeyError)", "KeyError")


ASKING = {
    "alone": lambda asking, other: sequence(asking, other),
    "beside another": lambda asking, other: parallel(asking, other),
    "beside another that was begun before": lambda asking, other: parallel(other, asking),
}


@pytest.mark.parametrize("flow", ASKING)
@pytest.mark.parametrize("on_error", [{"on_error": Ask}, {"in_doubt": InDoubt.ASK, "unknown_on": (Declined,)}])
def test_what_asks_a_person_tells_which_step_does_and_why(store: Store, flow: str, on_error: dict[str, Any]) -> None:
    asking, other = step(refuse, name="charge", **on_error), step(lambda: None, name="pack")
    Saga("order", store=store).add_task(ASKING[flow](asking, other)).try_execute(saga_id="x")
    assert told(store)[:2] == ("stuck", "charge")
    assert told(store)[3] == "Declined"


def test_what_runs_tells_the_step_it_is_at_with_its_heartbeat(store: Store) -> None:
    gate = Gate()
    running = background(lambda: order(store, gate.hold, lease=0.3).execute(saga_id="x"))
    assert gate.reached.wait(30)
    until(lambda: told(store)[1] == "charge")
    row = store.get("x")
    assert row is not None
    until(lambda: store.list(progressed_before=store.now()).executions)
    gate.open()
    running()


def test_a_persons_actions_are_told(store: Store) -> None:
    saga = order(store)
    saga.submit(saga_id="x")
    operations = Operations(store, "ann", sagas=[saga])
    operations.pause("x", "stocktaking")
    assert told(store) == ("paused", "reserve", "by ann: stocktaking", None)
    assert operations.show("x").reason == "by ann: stocktaking"
    operations.resume("x", "done")
    assert told(store) == ("submitted", "reserve", None, None)
    operations.cancel("x", "the customer left")
    assert told(store) == ("compensated", "reserve", "cancel by ann: the customer left", "SagaCancelledError")
    assert Worker(store, [saga]).run_once() == []


def test_an_undo_back_to_a_step_tells_why_it_waits(store: Store) -> None:
    saga = order(store)
    saga.execute(saga_id="x")
    saga.undo("x", "taken back", "reserve", who="ann")
    status, _, reason, _ = told(store)
    assert status == "paused"
    assert reason == Operations(store, "ann").show("x").reason


@pytest.mark.parametrize("asked", ["Declined", "OSError"])
def test_executions_are_found_by_their_cause(store: Store, asked: str) -> None:
    order(store, refuse).try_execute(saga_id="x")
    order(store, refuse, broken).try_execute(saga_id="y")
    found = Operations(store, "ann").list(cause=asked, idle_for=0.0)
    assert [row.saga_id for row in found.executions] == [{"Declined": "x", "OSError": "y"}[asked]]


def test_an_interrupt_tells_its_class(store: Store) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Saga("order", store=store).add_task(step(stop, lambda: None, name="a", in_doubt=InDoubt.COMPENSATE)).execute(
            saga_id="x"
        )
    assert told(store)[3] == "KeyboardInterrupt"
