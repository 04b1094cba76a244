"""Where coroutine functions wait: a process may die there, or be cancelled, with half of a call done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from saga.machine import Call
from saga.testing.faults import AWAIT, Died, Kind
from saga.testing.worlds import UNKNOWN

if TYPE_CHECKING:
    from saga.testing.histories import History

__all__ = ["with_faults"]

_MOST: Final = 20
"""How many of one call's faults may strike at: what polls waits on and on."""


async def with_faults(history: History, call: Call, work: Coroutine[Any, Any, Any]) -> Any:
    """Await what a call has left to be awaited, with what strikes it where it waits."""
    return await _Waiting(history, call, work)


class _Waiting:
    def __init__(self, history: History, call: Call, work: Coroutine[Any, Any, Any]) -> None:
        self._history = history
        self._step = call.step.name
        self._work = work
        self._seen = history.seen()
        self._left = _MOST

    def __await__(self) -> Generator[Any, Any, Any]:
        work = self._work
        go_on = partial(work.send, None)
        while True:
            try:
                waits_for = go_on()
            except StopIteration as ended:
                return ended.value
            fault = self._fault() if self._left else None
            if fault is Kind.DIES_AT_AWAIT:
                self._history.keep(work)  # nothing of it runs any more, though it would clean up
                raise Died
            if fault is Kind.CANCELLED_AT_AWAIT:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                given = yield waits_for
            except BaseException as error:
                go_on = partial(work.throw, error)
            else:
                go_on = partial(work.send, given)

    def _fault(self) -> Kind | None:
        """Return what strikes here. A death is tried only where the world has changed since the last place for one."""
        self._left -= 1
        history, before = self._history, self._seen
        self._seen = history.seen()
        kinds = {Kind.DIES_AT_AWAIT, Kind.CANCELLED_AT_AWAIT} & history.setting.kinds
        if before is not UNKNOWN and before == self._seen:
            kinds.discard(Kind.DIES_AT_AWAIT)
        fault = history.at(self._step, AWAIT, tuple(sorted(kinds)))
        if fault is not None:
            line = next(line for line in reversed(history.lines) if not line.came)  # of this call
            line.fault = fault
        return fault
