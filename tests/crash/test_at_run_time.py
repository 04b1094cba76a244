"""Lists, choices, first signals, limits of time and values that cannot be read at rest, killed at every point, on both drivers.

The kills are a sample of those of each saga, the same each time, and with ``SAGA_CRASH=full`` all there are.
"""

from __future__ import annotations

import pytest
from crashkit.pool import check
from crashkit.scenarios import AT_RUN_TIME


@pytest.mark.parametrize("asynchronous", [False, True], ids=["in threads", "in an event loop"])
def test_kills_at_any_point_are_recovered_from(pool, asynchronous, chance, full):
    """The process that executes it is killed; or that one, and then the one that recovers."""
    scenarios = [one for one in AT_RUN_TIME.values() if one.asynchronous is asynchronous]
    whole = [{"scenario": one.name, "kills": []} for one in scenarios]
    outcomes = check(pool, whole)
    assert [outcome["status"] for outcome in outcomes] == [one.ends for one in scenarios]
    firsts = [
        case | {"kills": [point]}
        for case, outcome in zip(whole, outcomes, strict=True)
        for point in (outcome["points"][0] if full else chance.sample(outcome["points"][0], 2))
    ]
    outcomes = check(pool, firsts)
    # Where calls run side by side, not every point is reached every time.
    assert sum(outcome["kills"] for outcome in outcomes) >= len(firsts) * 3 // 4
    seconds = [
        case | {"kills": [*case["kills"], chance.choice(outcome["points"][1])]}
        for case, outcome in zip(firsts, outcomes, strict=True)
    ]
    check(pool, seconds if full else seconds[::2])
