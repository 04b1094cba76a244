"""What may hang is done in a thread, so that the test fails instead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def background(call: Callable[[], T]) -> Callable[[float], T]:
    """Begin ``call`` in a thread that nothing waits for. Return what waits for its result, for so many seconds."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result(seconds: float) -> T:
        thread.join(seconds)
        assert outcome, f"no end after {seconds} s"
        ended_well, value = outcome[0]
        if not ended_well:
            raise value
        return value

    return result


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what ``call`` returns; fail where it takes longer."""
    return background(call)(seconds)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until the condition holds; fail where it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)
