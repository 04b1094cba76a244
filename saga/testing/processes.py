"""Processes that are simulated, by the driver that runs the execution in them. What strikes them lives elsewhere.

The asynchronous driver runs in the history's event loop, which stands still while a call is made: coroutines are run to their
end there, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from saga.drivers.aio import AsyncExecution
from saga.drivers.threads import Execution
from saga.machine import Call, Plan
from saga.testing.faults import Died
from saga.testing.simulated import Process

__all__ = ["AsyncProcess", "SyncProcess", "process_class"]

T = TypeVar("T")


class SyncProcess(Process, Execution):
    """A process in which the synchronous driver runs the execution."""

    def live(self) -> None:
        self.run()

    def run(self, struck: BaseException | None = None) -> None:
        self.advance(struck=struck)
        while not self.over:
            self.advance(wait=True)

    def _turn(self, one: bool = False) -> bool:
        try:
            return not (self.stalled or self.dead) and super()._turn(one)
        except Died:
            self.dead = True
            return False

    def _let_go(self) -> None:
        if self.journal is not None:
            self.journal.give_back()

    def _await_one(self) -> None:
        try:
            _at_once(self.come_by_one())
        except Died:
            self.dead = True

    def _transact(self, call: Call) -> None:
        _at_once(self.transacted_by_stand_in(call))

    async def elsewhere(self, work: Callable[[], T]) -> T:
        return work()

    async def mailed(self) -> None:
        if self.mail:
            self._read_mail()

    def _publish(self) -> bool:
        if self.is_stored():
            return super()._publish()
        fault = self.before_storing()
        done = super()._publish()
        self.when_stored(fault)
        return done


class AsyncProcess(Process, AsyncExecution):
    """A process in which the asynchronous driver runs the execution."""

    _waits = False

    def live(self) -> None:
        self.history.loop.drive(self.run())

    async def run(self, struck: BaseException | None = None) -> None:
        await self.advance(struck)
        while not self.over:
            self._waits = True
            await self.advance()

    async def _turn(self, one: bool = False) -> bool:
        try:
            if self.stalled or self.dead:
                return False
            if self._waits:
                self._waits = False
                await self._await_one()
            return await super()._turn(one)
        except Died:
            self.dead = True
            return False

    def _spawn(self, call: Call) -> None:
        self._start_thread(self._begin_beside(call))

    async def _await_one(self) -> None:
        try:
            await self.come_by_one()
        except Died:
            self.dead = True

    async def _transact(self, call: Call) -> None:
        await self.transacted_by_stand_in(call)

    async def elsewhere(self, work: Callable[[], T]) -> T:
        return await self.history.loop.elsewhere(work)

    async def mailed(self) -> None:
        if self.mail:
            await self._read_mail()

    async def _publish(self) -> bool:
        if self.is_stored():
            return await super()._publish()
        fault = self.before_storing()
        done = await super()._publish()
        self.when_stored(fault)
        return done


def process_class(plan: Plan) -> type[Process]:
    """Return what simulates a process that runs executions of a plan."""
    return AsyncProcess if plan.asynchronous else SyncProcess


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine comes to that never waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        return cast(T, ended.value)
    raise AssertionError("it never waits")
