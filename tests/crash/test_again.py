"""A block is begun again and again, in processes that are killed: what each left is undone, and in the end it is done once."""

from __future__ import annotations

import pytest
from crashkit.pool import check

KINDS = {
    "with": ["with"],
    "async with": ["async with"],
    "with, then async with": ["with", "async with"],
    "async with, then with": ["async with", "with"],
}


@pytest.mark.parametrize("sealed", [False, True], ids=["readable", "sealed"])
def test_a_block_whose_processes_are_killed_at_any_point_is_done_once_in_the_end(pool, sealed, chance, full):
    """The first is killed, and then the one that undoes what that has left and runs anew. Others may begin it otherwise."""
    whole = [{"scenario": "3-steps", "again": kinds, "sealed": sealed, "kills": []} for kinds in KINDS.values()]
    outcomes = check(pool, whole)
    firsts = [
        case | {"kills": [point]}
        for case, outcome in zip(whole, outcomes, strict=True)
        for point in (outcome["points"][0] if full else chance.sample(outcome["points"][0], 3))
    ]
    outcomes = check(pool, firsts)
    assert sum(outcome["kills"] for outcome in outcomes) == len(firsts)
    seconds = [
        case | {"kills": [*case["kills"], point]}
        for case, outcome in zip(firsts, outcomes, strict=True)
        for point in chance.sample(outcome["points"][1], min(5, len(outcome["points"][1])))
    ]
    outcomes = check(pool, seconds if full else seconds[::5])
    assert sum(outcome["kills"] for outcome in outcomes) > len(outcomes) * 3 // 2
