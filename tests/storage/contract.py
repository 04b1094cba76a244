"""What the contract's tests share: threads that start together, and short ways to say which executions there are."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def at_once(count: int, work: Callable[[int], object]) -> list:
    """Run ``work(0)`` to ``work(count - 1)`` in a thread each, all starting together; return what they returned."""
    barrier = threading.Barrier(count)

    def run(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def flat(lists: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(lists))


def ids(executions) -> list[str]:
    return [execution.saga_id for execution in executions]
