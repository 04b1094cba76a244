"""A process that stands still for longer than its lease loses its execution, wherever that is, and learns so when it writes."""

from __future__ import annotations

import pytest
from crashkit.pool import faults_of
from crashkit.scenarios import ALL


@pytest.mark.parametrize(
    "name",
    [
        "3-steps",
        "3-steps-c-fails",
        "fork",
        "fork-right-fails",
        "undo-retried",
        "async-fork-fails",
        "lost-retried-compensate-raises",
        "lost-replaced-compensate-knows-nothing",
    ],
)
def test_who_was_taken_over_stops_at_its_next_write(pool, name):
    """SIGSTOP at each point; another process finishes the execution; SIGCONT. Calls then under way may end, no other begins."""
    [outcome] = pool.run([{"scenario": name, "kills": []}])
    assert outcome["status"] == ALL[name].ends
    cases = [{"scenario": name, "stop": point} for point in outcome["points"][0]]
    faults = faults_of(cases, pool.run(cases))
    assert not faults, faults
