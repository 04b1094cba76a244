"""What all stores check alike."""

from __future__ import annotations

from saga.events import Status
from saga.storage import rules


def test_the_stores_statuses_are_the_engines():
    assert set(rules.STATUSES) == set(Status)
    assert {status for status in Status if status.terminal} == {*rules.TERMINAL, Status.PAUSED}  # which is not purged
