"""Appends of many threads in one statement, where a crowd waits for its turn: it costs little more than that of one.

How an append is written, alone or with others, is the PostgreSQL store's to say; who writes it, and when, is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg

from saga.storage.records import Append
from saga.storage.turns import Turns, Waiting

__all__ = ["AppendTurns"]

T = TypeVar("T")

CROWD = 4
"""Where more threads than these wait for their turn to append, one appends for all of them."""


class _Write(Waiting):
    """An append that waits: ``alone`` writes it by itself."""

    __slots__ = ("alone", "append")

    def __init__(self, alone: Callable[[], Any], append: Append) -> None:
        super().__init__()
        self.alone = alone
        self.append = append


class AppendTurns(Turns[_Write]):
    """Turns at appending.

    :param append_together: writes what can be written of many appends, each of another execution, and returns the ids of
        those executions.
    :param places: how many threads append at the same time.
    """

    def __init__(self, append_together: Callable[[Sequence[Append]], set[str]], places: int) -> None:
        super().__init__(places, CROWD)
        self._append_together = append_together

    def take(self, alone: Callable[[], T], append: Append) -> tuple[bool, Any]:
        """Return whether it was written, and what ``alone`` returned; or whether it may have been written nevertheless."""
        return self._take_turn(alone, append)  # type: ignore[no-any-return]

    _waiting = staticmethod(_Write)

    def _write_alone(self, alone: Callable[[], Any], append: Append) -> tuple[bool, Any]:
        if not self._crowded:
            return True, alone()
        write = _Write(alone, append)  # alone it might wait for a locked row, and all others with it
        self._write_for_crowd([write])
        return write.result  # type: ignore[no-any-return]

    def _write_together(self, group: list[_Write]) -> None:
        if self._crowded:
            self._write_for_crowd(group)
            return
        for write in group:
            try:
                write.result = True, write.alone()
            except Exception as error:
                write.error = error
            write.done = True

    def _write_for_crowd(self, group: list[_Write]) -> None:
        first: dict[str, _Write] = {}  # of each execution: what more there is of one could pass for each other
        for write in group:
            first.setdefault(write.append.lease.saga_id, write)
        written: set[str] = set()
        perhaps = False
        try:
            written = self._append_together([write.append for write in first.values()])
        except Exception as error:  # each finds out by itself what it means
            perhaps = isinstance(error.__cause__, psycopg.OperationalError)
        for write in group:
            sent = first[write.append.lease.saga_id] is write
            done = sent and write.append.lease.saga_id in written
            write.result = done, None if done else sent and perhaps
            write.done = True

    def _interrupted(self, write: _Write) -> None:
        write.result = False, True
