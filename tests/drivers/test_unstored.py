"""A store that takes no more, met by those who look at an execution bit by bit or wait for its end."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from saga.errors import StorageError
from tests.kit import SHORT, FullStore, Gate, Kit


@pytest.mark.parametrize("room", [0, 1])
def test_a_stream_whose_steps_cannot_be_stored_raises_and_undoes_nothing(room: int, kit: Kit) -> None:
    store = FullStore(room)
    saga = kit.saga(kit.task("a"), kit.task("b"), store=store)
    with pytest.raises(StorageError, match="the disk is full"):
        kit.stream(saga)
    assert kit.log == ["a", "b"][: room + 1]
    (row,) = store.list().executions
    assert (row.status, row.owner) == ("running", None)


def test_who_waits_for_a_straggler_is_told_that_its_end_could_not_be_stored(
    plain_kit: Kit, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    store = FullStore()
    saga = plain_kit.saga(plain_kit.task("a", gate, timeout=SHORT), store=store)

    def then(result: Any) -> None:
        assert result.in_doubt == ("a",)
        store.room = 0
        gate.open()

    with caplog.at_level(logging.ERROR, logger="saga"), pytest.raises(StorageError, match="the disk is full"):
        plain_kit.run_to_end(saga, then)
    assert plain_kit.log == ["a"]
    assert "is left to a recovery: the disk is full" in caplog.text
