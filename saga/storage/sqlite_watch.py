"""Noticing what other processes store in an SQLite file: a commit writes to the log beside it. Nothing is asked of SQLite."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from saga.clocks import clock
from saga.storage.watching import Watch

if TYPE_CHECKING:
    from saga.storage.protocol import Store

__all__ = ["LogWatch"]

TICK: Final = 0.02
"""Seconds within which a file system may give two writes the same time: the clock it takes it from goes on less often."""


class LogWatch(Watch):
    """Looks at the log's size and time: what waits is woken by each commit, whoever makes it.

    :param log: the path of the log, which may come and go.
    """

    hears_others = True
    pause = 0.02

    def __init__(self, store: Store, log: str) -> None:
        super().__init__(store)
        self._log = log
        self._seen = self._state()
        self._again = clock() + TICK

    def look(self, ready: bool) -> bool:
        state, now = self._state(), clock()
        if state != self._seen:
            self._seen = state
            self._again = now + TICK
            return True
        # A log that is begun again keeps its size. So a later commit of the same tick is not told from the one that was seen.
        if self._again and now >= self._again:
            self._again = 0.0
            return True
        return False

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._log)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
