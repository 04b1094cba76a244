"""Where the asynchronous driver makes its calls: in its own coroutine, in a task, or in a thread.

What a call returns is awaited until nothing is left to await: a plain function's too, from the event loop's thread, in a task
that is cancelled at the step's timeout as any coroutine function's is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from saga.awaitables import is_awaitable
from saga.drivers.base import Driver, clock
from saga.drivers.beside import CallBeside
from saga.drivers.calls import Made, make_async, make_rest
from saga.drivers.to_the_end import thread_for
from saga.machine import Call
from saga.machine.commands import COMPENSATE, EXECUTE
from saga.own_log import LOG

__all__ = ["AsyncCalls"]


class AsyncCalls(Driver):
    """What the asynchronous driver's loop is built on. Parameters as :class:`~saga.drivers.base.Driver`'s."""

    awaits = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._came = asyncio.Event()  # an outcome or a message has come
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exposed = True  # a cancellation of the caller strikes this loop

    def _awaits(self, call: Call) -> bool:
        """Whether the call is awaited in the loop's own coroutine."""
        if call.phase is COMPENSATE:
            return call.step.async_compensate and not self._exposed and (self.plain or self._alone(call))
        return call.step.is_async(call.phase) and (self.plain or self._alone(call))

    def _all_awaited(self, call: Call) -> bool:
        """Whether all calls of a kind are awaited, so that any may follow in a series."""
        plan = self.machine.plan
        return plan.awaits_executes if call.phase is EXECUTE else plan.awaits_compensations

    def _spawn(self, call: Call) -> None:
        beside = self._begin_beside(call)
        if call.step.is_async(call.phase):
            self._begin_task(beside, make_async(call, beside.view, self.surroundings))
        else:
            self._start_thread(beside)

    def _begin_task(self, beside: CallBeside, work: Coroutine[Any, Any, Made]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work, name=f"saga step {beside.call.step.name}")
        task.add_done_callback(partial(self._task_ended, beside, clock()))
        beside.task, beside.outcome = task, None

    def _task_ended(self, beside: CallBeside, started: float, task: asyncio.Task[Made]) -> None:
        cancelled = task.cancelled()
        made = (beside.call, False, asyncio.CancelledError(), clock() - started) if cancelled else task.result()
        self._arrive(beside, made)
        self._came.set()
        if self.abandoned and self.journal is not None and not self._calls_run():
            thread_for(self.journal.give_back)

    def _take_arrived(self) -> None:
        """As the base does, but what a plain function has returned to be awaited is awaited first."""
        beside = self._arrived[0]
        outcome = beside.outcome
        if outcome is not None and beside.task is None and outcome[1] and is_awaitable(outcome[2]):
            self._begin_task(beside, make_rest(outcome, beside.view, self.surroundings))
        if beside.outcome is None:
            self._arrived.popleft()
        else:
            super()._take_arrived()

    def _wake(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._came.set)
        except RuntimeError:
            machine = getattr(self, "machine", None)  # none where it has taken what came, and ended, before it was woken
            if machine is not None and not machine.ended:  # somebody closed the event loop without waiting for its tasks
                LOG.error("saga %s: the event loop was closed while a step ran", machine.saga_id)
