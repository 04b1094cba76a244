"""A wait ends, however short it is and however long the machine stalls in it."""

from __future__ import annotations

import queue
from contextlib import suppress

from saga.drivers.threads import take
from tests.kit import PATIENCE, within


def test_a_first_wait_that_is_over_before_it_has_begun_ends() -> None:
    """It hung once in some ten thousand times, where the queue's first ``get()`` had a timeout."""

    def wait_first() -> None:
        for _ in range(30_000):
            with suppress(queue.Empty):
                take(queue.SimpleQueue(), 1e-6)

    within(PATIENCE, wait_first)


def test_what_has_come_is_taken_at_once() -> None:
    wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
    wakes.put(None)
    take(wakes, 0.0)
    assert wakes.empty()
