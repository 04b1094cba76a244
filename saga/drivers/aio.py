"""The asynchronous driver. One loop, in the caller's coroutine, feeds the machine and does what it commands.

An ``async def`` call is awaited here where nothing else goes on and nothing limits its time; otherwise it is a task of its
own, cancelled at its timeout. A plain function is called in a thread, so that it does not block the event loop; nor does the
journal.

Cancelling the caller cancels the executes that run, and what had happened is undone before ``CancelledError`` is raised
again. The undo runs in a task of its own, which the caller waits for however often it is cancelled. A call that swallows the
cancellation ends as it likes, and nothing follows it but the undo: the caller's task says that it was cancelled.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from saga.context import Context, set_binding
from saga.drivers import forks, within
from saga.drivers.aio_calls import AsyncCalls
from saga.drivers.base import STORED_WITH_WHAT_FOLLOWS, clock
from saga.drivers.calls import Made, make_async
from saga.drivers.interrupts import MOST_STRIKES, AbandonedError, call_off, put_straight, stop_in_vain
from saga.drivers.parting import gives_up, is_over, may_park, untouched
from saga.drivers.to_the_end import in_thread, stored, thread_for, to_the_end
from saga.drivers.transacted_in_loop import settle_in_loop, transact_in_loop
from saga.errors import UnreadMessagesError, is_exception
from saga.events import RUNNING
from saga.in_use import INSIDE, enter, running_task
from saga.machine import Call, Merge
from saga.machine.commands import EXECUTE, VERIFY
from saga.own_log import LOG

__all__ = ["AsyncExecution"]

T = TypeVar("T")


class AsyncExecution(AsyncCalls):
    """One run of a saga in the caller's coroutine. Parameters as :class:`~saga.drivers.base.Driver`'s."""

    _cancelling: Callable[[], int] = int  # how often the caller's task was cancelled
    _cancels = 0  # and had been when the loop was exposed to that
    _struck: BaseException | None = None  # what is to be put straight
    _strikes = 0  # in a row, without anything happening in between
    _reached = -1

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.background: asyncio.Task[None] | None = None  # what sees to stragglers that outlive run()

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self, struck: BaseException | None = None) -> None:
        """Run until the execution is terminal, or nothing is left but stragglers, which a task then sees to.

        :param struck: an interrupt that struck since it ran last.
        :raises StorageError: as :meth:`advance`.
        """
        await self.advance(struck)
        if not (self.machine.ended or self.parked or self.abandoned):
            self.ended, self.left = threading.Event(), self.machine.replayed()
            self._exposed = False
            self.background = asyncio.create_task(self._see_to_stragglers())

    async def advance(self, struck: BaseException | None = None) -> None:
        """Run until the execution is terminal or at rest, or abandoned.

        :param struck: an interrupt that struck since it ran last: it is given up.
        :raises StorageError: as :meth:`saga.drivers.threads.Execution.advance`.
        """
        self._loop = asyncio.get_running_loop()
        outside, stored_outside = enter(self._binding), within.enter(self)
        if struck is not None:
            self._strike(struck)
        try:
            more = not self.abandoned
            self._exposed = self.machine.status is RUNNING
            if self._exposed:
                self._look_out(self._loop)
            while more and self.machine.status is RUNNING and self.machine.halt is None:
                more = await self._guarded_turn()
            self._cancelling, self._cancels = int, 0  # an error's traceback knows this, and the task knows the error
            if more:
                self._exposed = False
                await to_the_end(self._finish, self._while_waiting)
        except AbandonedError as abandoned:
            await self._abandon()
            abandoned.tell()
        except BaseException:
            self.abandoned = self._exposed  # as a coroutine that is closed; else the undo goes on in a task of its own
            raise
        finally:
            within.leave(stored_outside)
            if self.pool is not None:
                self.pool.end()
            if self._observers:
                self.end_stint()
            if outside is not None:
                INSIDE.set(outside)

    async def run_one(self) -> bool:
        """Run until a call has ended or a timer was due. Return whether anything is left to do; :meth:`run` ends it."""
        self._loop = asyncio.get_running_loop()
        outside, stored_outside = enter(self._binding, running_task()), within.enter(self)
        try:
            self._exposed = self.machine.status is RUNNING
            if self._exposed:
                self._look_out(self._loop)
                going = await self._guarded_turn(one=True)
                self._cancelling, self._cancels = int, 0
                return going
            return await to_the_end(partial(self._guarded_turn, one=True), self._while_waiting)
        except AbandonedError as abandoned:
            await self._abandon()
            abandoned.tell()
            return False
        finally:
            within.leave(stored_outside)
            if self.pool is not None:
                self.pool.end()
            if self._observers:
                self.end_stint()
            if outside is not None:
                INSIDE.set(outside)

    async def leave(self, reason: BaseException) -> None:
        """Give up between two calls of :meth:`run_one`, and undo."""
        await self.run(reason)

    def _look_out(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look out for cancellations of the caller's task that calls swallow."""
        task = asyncio.current_task(loop)
        if task is not None:
            self._cancelling = cancelling = task.cancelling
            self._cancels = cancelling()

    async def _finish(self) -> None:
        try:
            while await self._guarded_turn():
                pass
        finally:
            if self.pool is not None:
                self.pool.end()

    async def _guarded_turn(self, one: bool = False) -> bool:
        while True:
            if self._strikes > MOST_STRIKES and self._struck is not None:  # not even stopping succeeds
                self.abandoned = True
                raise self._struck
            try:
                try:
                    if self._struck is not None:
                        if self.transacted is not None:
                            await settle_in_loop(self)
                        self._put_straight(self._struck)
                        return True
                    going = await self._turn(one)
                    return (one and self._heard and not await self._publish()) or going  # before anybody hears of it
                except (AbandonedError, GeneratorExit):
                    raise
                except BaseException as error:
                    self._strike(error)
            except (AbandonedError, GeneratorExit):
                raise
            except BaseException as error:  # another one, in these lines
                self._strike(error)

    def _strike(self, error: BaseException) -> None:
        self._struck, self._strikes = error, self._strikes + 1

    def _while_waiting(self, error: BaseException) -> None:
        forks.refuse(self, error)
        self.interrupted(error)

    def _put_straight(self, struck: BaseException) -> None:
        forks.refuse(self, struck)
        if self.progress() != self._reached:
            self._strikes = 1
        self._reached = self.progress()
        stop_in_vain(self, struck, self._strikes)
        put_straight(self, struck)
        self._struck, self._reached = None, self.progress()
        for beside in self.beside.values():
            if beside.task is not None and beside.call.phase is EXECUTE:
                beside.task.cancel()

    async def _see_to_stragglers(self) -> None:
        assert self.ended is not None
        within.enter(self)  # and this task never leaves it
        try:
            while not (self.machine.ended or self.parked):
                try:
                    await self._await_one()
                except asyncio.CancelledError:
                    continue  # the event loop is closing, and waits for this: what has happened must be undone
                except Exception as error:
                    self._strike(error)
                await self._finish()
        except AbandonedError as abandoned:
            self.unstored = abandoned.error
            await self._abandon()
            if self.unstored is not None:
                LOG.error("saga %s is left to a recovery: %s", self.machine.saga_id, self.unstored, exc_info=self.unstored)
        finally:
            self.end_late()

    async def _abandon(self) -> None:
        """Leave the execution to a recovery, but not before the calls that run here have ended."""
        self.abandoned = True
        self._cancelling, self._cancels = int, 0
        if forks.is_of_parent(self):
            return
        call_off(self)
        if self.journal is None or self._calls_run():  # the last of them gives the lease back
            return
        try:
            await in_thread(self.journal.give_back, self.interrupted)
        except RuntimeError:  # the event loop begins no thread any more
            self.journal.give_back()

    def vouches(self) -> bool | None:
        """As :meth:`Driver.vouches`: an event loop that is closed, or does not run, runs nothing."""
        loop = self._loop
        if loop is not None and loop.is_closed():
            return any(one.outcome is None and one.task is None for one in list(self.beside.values()))
        return super().vouches() and (True if loop is None or loop.is_running() else None)

    async def _turn(self, one: bool) -> bool:
        """Do all that is commanded, then wait for one outcome or timer. Return whether anything is left to do here.

        :param one: return after one call, whoever made it.
        """
        if self.process is not forks.process:
            forks.refuse(self)
        if self.context.__binding__ is not self._binding:  # another saga was executed with it between two calls
            set_binding(self.context, self._binding)
        if not self.begun:
            if self.handing_back and untouched(self):
                return await self._part()
            self.begin()
        commands = self.machine.commands  # no local has the machine: an error's traceback keeps this frame
        while commands and not self.cut_short:
            if self._exposed and self.machine.status is not RUNNING:
                return True  # the undo goes on where nothing can cancel it
            if self._heard and type(commands[0]) not in STORED_WITH_WHAT_FOLLOWS:
                await self._publish()
            command = commands.pop(0)
            if type(command) is not Call:
                self._obey(command)
            elif command.step.transactional and command.phase is not VERIFY:
                if self.in_time(command):
                    await self._transact(command)
                    if one:
                        return True
            elif self._awaits(command):
                view = self._make_ready(command)
                if self.journal is None and not one and self._all_awaited(command):
                    made = await make_async(
                        command, view, self.surroundings, self._cancelling, self._cancels, *self._series(command)
                    )
                else:
                    made = await make_async(command, view, self.surroundings)
                if self.mail:
                    await self._read_mail()
                if self._cancelling() != self._cancels and (cancellation := await self.swallowed(made)) is not None:
                    self._take_last(made, view, cancellation)
                else:
                    self._take(made, view)
                del made  # as in the synchronous driver
                if one and not (commands and type(commands[0]) is Merge):
                    return True
            elif self.in_time(command):
                self._spawn(command)
        if self._heard and not await self._publish():
            return True
        if self.cut_short:
            raise AbandonedError(None)
        if self.journal is not None:
            if is_over(self):
                return self.machine.pause(self.now()) or await self._part()
            delay = may_park(self)
            if delay is not None:
                await stored(self, partial(thread_for, partial(self.journal.park, delay, self.step())))
                self.parked = True
                return False
        if self.machine.halt is not None and self.machine.halted:
            self.machine.stop(self.now())
        elif self.machine.ended or self.machine.at_rest:
            return False
        elif self.machine.stranded:
            self.machine.strand(self.now())
        elif not (self.leaving and gives_up(self)):
            await self._await_one()
        return True

    async def _part(self) -> bool:
        """Let another process go on. Return that nothing is left to do here."""
        assert self.journal is not None
        await stored(self, partial(thread_for, partial(self.journal.hand_back, self.recovers)))
        self.parked = True
        return False

    async def _transact(self, call: Call) -> None:
        await self._read_mail()
        await transact_in_loop(self, call)

    async def _await_one(self) -> None:
        """Wait for an outcome or for the next timer, whichever is first, and feed it to the machine."""
        if not self._arrived:
            try:
                await self._wait(self._timers[0][0] if self._timers else None)
            except TimeoutError:
                if self._timers and self._timers[0][0] <= clock():
                    due = self._timer_due()
                    if self.mail:
                        await self._read_mail()
                    self._timer(due)
                    heapq.heappop(self._timers)
                else:
                    self._see_to_lost()
                return
        if self.mail:
            await self._read_mail()
        elif self._arrived:
            self._take_arrived()

    async def _wait(self, due: float | None) -> None:
        """Wait until something comes.

        :raises TimeoutError: it is ``due``, or time to look again.
        """
        self._came.clear()
        if self._arrived or self.mail:
            return
        if due is None and self.beside and self.pool is None:
            await self._came.wait()
        else:  # where nothing is under way, either: a task that waits for what is its own only is not kept by the event loop
            async with asyncio.timeout(self._seconds_to_wait(due)):
                await self._came.wait()

    async def swallowed(self, made: Made) -> asyncio.CancelledError | None:
        """Return the caller's cancellation where a call has swallowed it."""
        cancels = self._cancelling()
        if cancels <= self._cancels or not (made[1] or is_exception(made[2])):
            self._cancels = cancels  # the call may have taken one back
            return None
        try:
            await asyncio.sleep(0)  # who cancels until it is heard, such as anyio, does so again, and looks for its own words
        except asyncio.CancelledError as again:
            return again
        return asyncio.CancelledError()

    def _take_last(self, made: Made, view: Context, cancellation: asyncio.CancelledError) -> None:
        """Feed to the machine how a call ended that swallowed the caller's cancellation, which is raised in the end.

        :raises asyncio.CancelledError: it was the pivot: the cancellation strikes when that is done, and so cannot be undone.
        """
        if made[1] and made[0].step.pivot:
            self._take(made, view)
            raise cancellation
        self.interrupted(cancellation)
        self.machine.give_up(cancellation, self.now())  # first: then nothing follows the call
        self._take(made, view)

    # -- journal and observers ----------------------------------------------------------------------------------------

    async def _read_mail(self) -> None:
        if not self.mail or self.journal is None:
            return
        self.mail = False
        if self.handing_back:  # who goes on reads what has come
            self.machine.hold(self.now())
            return
        # What is read leaves the inbox with the next commit, whatever else happens: it is obeyed first.
        read = partial(thread_for, self.journal.read_messages)
        await stored(self, read, lambda messages: self.take_messages(messages, self.now()))

    async def _publish(self) -> bool:
        """Store the new events, then show them to the observers: as the synchronous driver does."""
        journal, machine = self.journal, self.machine
        if journal is not None and journal.written != len(machine.events):
            if journal.has_large(machine):
                await stored(self, partial(thread_for, partial(journal.put_large, machine)))
            try:
                await stored(self, partial(journal.commit_shared, machine), struck=journal.go_on, taken_up=True)
            except AbandonedError as abandoned:
                if not isinstance(abandoned.error, UnreadMessagesError):
                    raise
                machine.reopen()
                self.mail = True
                await self._read_mail()
                machine.go_on(self.now())
                return False
        if self._observers:
            self._show()
        return True
