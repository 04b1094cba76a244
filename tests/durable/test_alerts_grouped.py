"""Somebody is told once of all that are stuck for the same cause: each is among those of one call, at least, whoever dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from saga import Saga, step
from saga.alerts import Alerts
from saga.callouts import command, several
from saga.errors import SagaDefinitionError
from saga.operations import ExecutionView, Operations
from saga.storage import MemoryStore, Store, StoredExecution
from tests.kit import until

LONG = 3600.0


def closed() -> None:
    raise OSError("the bank is closed")


def broken() -> None:
    raise KeyError("no such receipt")


def stuck(store: Store, undo: Callable[[], None], *ids: str, at: str = "charge") -> None:
    saga = Saga("order", store=store).add_task(step(lambda: 1, undo, name=at)).add_task(step(broken, name="pack"))
    for saga_id in ids:
        saga.try_execute(saga_id=saga_id)


class Told:
    """Notes the groups that it is told of; raises what it is to raise first."""

    def __init__(self, *errors: BaseException) -> None:
        self.groups: list[list[str]] = []
        self.errors = list(errors)

    def __call__(self, row: StoredExecution, view: ExecutionView, group: Sequence[StoredExecution] = ()) -> None:
        assert row == group[0]
        assert row.saga_id == view.execution.saga_id
        assert len({(one.name, one.step, one.cause) for one in group}) == 1
        self.groups.append(sorted(one.saga_id for one in group))
        if self.errors:
            raise self.errors.pop(0)


def test_of_many_that_are_stuck_for_a_cause_one_call_tells(store: Store) -> None:
    stuck(store, closed, "a1", "a2", "a3")
    stuck(store, broken, "b1", "b2")
    stuck(store, closed, "c1", at="reserve")
    told = Told()
    alerts = Alerts(store, told, group=LONG)
    assert alerts.look() == 3
    assert sorted(told.groups) == [["a1", "a2", "a3"], ["b1", "b2"], ["c1"]]
    assert alerts.look() == 0
    assert Alerts(store, told, group=LONG).look() == 0, "the store knows that somebody was told"


def test_what_is_stuck_for_a_cause_that_was_told_a_moment_ago_is_told_of_later_and_together(store: Store) -> None:
    stuck(store, closed, "a1")
    told = Told()
    alerts = Alerts(store, told, group=0.1)
    assert alerts.look() == 1
    alerts.group = LONG  # as if no time had passed
    stuck(store, closed, "a2", "a3")
    stuck(store, broken, "b1")
    assert alerts.look() == 1
    assert told.groups == [["a1"], ["b1"]]
    operations = Operations(store, "x")
    assert all(operations.get(saga_id).due > store.now() + LONG / 2 for saga_id in ("a2", "a3"))


def test_what_was_put_off_is_told_of_when_its_time_comes(store: Store) -> None:
    told = Told()
    alerts = Alerts(store, told, group=0.2)
    stuck(store, closed, "a1")
    assert alerts.look() == 1
    stuck(store, closed, "a2", "a3")
    until(lambda: alerts.look() > 0)
    assert sorted(saga_id for group in told.groups[1:] for saga_id in group) == ["a2", "a3"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_a_group_that_nobody_was_told_of_is_told_of_again(store: Store, error: BaseException) -> None:
    stuck(store, closed, "a1", "a2")
    told = Told(error)
    alerts = Alerts(store, told, group=LONG, backoff=0.01)
    try:
        assert alerts.look() == 0
    except KeyboardInterrupt:
        assert isinstance(error, KeyboardInterrupt)
    until(lambda: alerts.look() > 0)
    assert told.groups == [["a1", "a2"]] * 2


def test_of_what_somebody_has_acted_on_nobody_is_told(store: Store) -> None:
    stuck(store, closed, "a1", "a2")
    stuck(store, broken, "b1", "b2")
    operations, told = Operations(store, "ann"), Told()

    def act(row: StoredExecution, view: ExecutionView, group: Sequence[StoredExecution]) -> None:
        told(row, view, group)
        other = "b1" if row.saga_id.startswith("a") else "a1"
        operations.retry(other, "at once")

    Alerts(store, act, group=LONG).look()
    assert sorted(map(len, told.groups)) == [1, 2]
    operations.retry("a2", "so")
    operations.retry("b2", "so")
    assert Alerts(store, act, group=LONG).look() == 0


def test_a_command_is_told_how_many(tmp_path: Path) -> None:
    store = MemoryStore()
    stuck(store, closed, "a1", "a2", "a3")
    told, said, first = Told(), tmp_path / "said", list[str]()
    tell = command(f'echo "$SAGA_EXECUTIONS: $SAGA_TEXT" >> {said}')
    call = several(tell, told, lambda row, view: first.append(row.saga_id))
    assert Alerts(store, call, group=LONG).look() == 1
    assert said.read_text() == (
        "3: 3 of saga order are stuck at charge, such as a1: compensation failed: charge (OSError: the bank is closed); "
        "saga causes, saga show a1 say what can be done\n"
    )
    assert (told.groups, first) == ([["a1", "a2", "a3"]], ["a1"])


def test_what_cannot_be_called_with_a_group_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match="execution, view, group"):
        Alerts(MemoryStore(), lambda row, view: None, group=LONG)
    with pytest.raises(SagaDefinitionError, match="Alerts: group is 0"):
        Alerts(MemoryStore(), Told(), group=0)
