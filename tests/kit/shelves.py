"""Blobs that a test looks into, counts and breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

__all__ = ["Shelf"]


class Shelf:
    """Keeps bytes in memory.

    :ivar kept: what is there, by key; :ivar put_at: since when.
    :ivar calls: the methods called, in order, with the keys.
    :ivar before: called with the name of a method, before it does anything.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.put_at: dict[str, float] = {}
        self.calls: list[tuple[str, str]] = []
        self.threads: list[int] = []
        self.before: Callable[[str], object] = lambda method: None

    def __repr__(self) -> str:
        return "Shelf()"

    def put(self, key: str, data: bytes) -> None:
        self._called("put", key)
        assert key not in self.kept, "nothing is put under a key twice"
        self.kept[key], self.put_at[key] = data, time.monotonic()

    def get(self, key: str) -> bytes:
        self._called("get", key)
        return self.kept[key]

    def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            self._called("delete", key)
            self.kept.pop(key, None)

    def older_than(self, seconds: float) -> Iterator[str]:
        self._called("older_than", "")
        yield from [key for key in self.kept if self.put_at[key] <= time.monotonic() - seconds]

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        return sum(called == method for called, _ in self.calls)

    def _called(self, method: str, key: str) -> None:
        self.calls.append((method, key))
        self.threads.append(threading.get_ident())
        self.before(method)
