"""The asynchronous driver. One loop, in the caller's coroutine, feeds the machine and does what it commands.

An ``async def`` call is awaited here where nothing else goes on and nothing limits its time; otherwise it is a task of its
own, cancelled at its timeout. A plain function is called in a thread, so that it does not block the event loop; nor does the
journal.

Cancelling the caller cancels the executes that run, and what had happened is undone before ``CancelledError`` is raised
again. The undo runs in a task of its own, which the caller waits for however often it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from types import CoroutineType
from typing import Any, TypeVar

from saga.drivers.aio_commits import commits_of
from saga.drivers.base import LONGEST_WAIT, Driver, Running, UnstoredError, clock, set_run
from saga.events import RUNNING, CompensationSucceeded, StepSucceeded
from saga.machine import Join, Pass, Pause, Wait
from saga.plan import Call

__all__ = ["AsyncExecution", "in_thread"]

T = TypeVar("T")


class AsyncExecution(Driver):
    """One run of a saga in the caller's coroutine. Parameters as :class:`~saga.drivers.base.Driver`'s."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.background: asyncio.Task[None] | None = None  # what sees to stragglers that outlive run()
        self._came = asyncio.Event()  # an outcome or a message has come
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exposed = True  # a cancellation of the caller strikes this loop

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until the execution is terminal, or nothing is left but stragglers, which a task then sees to.

        :raises StorageError: as :meth:`advance`.
        """
        await self.advance()
        if not (self.machine.status.terminal or self.parked):
            self.ended, self.left = threading.Event(), self._replayed()
            self._exposed = False
            self.background = asyncio.create_task(self._see_to_stragglers())

    async def advance(self) -> None:
        """Run until the execution is terminal or at rest.

        :raises StorageError: as :meth:`saga.drivers.threads.Execution.advance`.
        """
        self._loop = asyncio.get_running_loop()
        try:
            more = True
            self._exposed = self.machine.status is RUNNING
            while more and self.machine.status is RUNNING:
                more = await self._guarded_turn()
            if more:
                self._exposed = False
                await _to_the_end(self._finish, self._also)
        except UnstoredError as unstored:
            await self._abandon()
            raise unstored.error from unstored.error.__cause__

    async def run_one(self) -> bool:
        """Run until a call has ended or a timer was due. Return whether anything is left to do; :meth:`run` ends it."""
        self._loop = asyncio.get_running_loop()
        try:
            self._exposed = self.machine.status is RUNNING
            if self._exposed:
                return await self._guarded_turn(one=True)
            return await _to_the_end(partial(self._guarded_turn, one=True), self._also)
        except UnstoredError as unstored:
            await self._abandon()
            raise unstored.error from unstored.error.__cause__

    async def leave(self, reason: BaseException) -> None:
        """Give up between two calls of :meth:`run_one`, and undo."""
        self._interrupted(reason)
        await self.run()

    async def _finish(self) -> None:
        while await self._guarded_turn():
            pass

    async def _guarded_turn(self, one: bool = False) -> bool:
        try:
            going = await self._turn(one)
            if one and not self._quiet:
                await self._tell()  # before anybody hears of it
            return going
        except UnstoredError:
            raise
        except BaseException as error:
            try:
                self._interrupted(error)
            except BaseException:
                self._interrupted(error)
            for running in self._running.values():
                if running.task is not None and not running.call.compensation:
                    running.task.cancel()
            return True

    def _also(self, error: BaseException) -> None:
        """The caller was cancelled while the undo runs: it goes on, and the cancellation is raised in the end."""
        if self.interrupt is None:
            self.interrupt = error

    async def _see_to_stragglers(self) -> None:
        assert self.ended is not None
        try:
            while not (self.machine.status.terminal or self.parked):
                try:
                    await self._await_one()
                except asyncio.CancelledError:
                    continue  # the event loop is closing, and waits for this: what has happened must be undone
                except Exception as error:
                    self._interrupted(error)
                await self._finish()
        except UnstoredError as unstored:
            self.unstored = unstored.error
            await self._abandon()
            logging.getLogger("saga").error(
                "saga %s is left to a recovery: %s", self.machine.saga_id, unstored.error, exc_info=unstored.error
            )
        finally:
            self.ended.set()

    async def _abandon(self) -> None:
        """Leave the execution to a recovery, but not before the calls that run here have ended."""
        self.abandoned = True
        self._call_off()
        if any(running.outcome is None for running in self._running.values()):
            self.background = asyncio.get_running_loop().create_task(self._let_go())
        else:
            await self._let_go()

    async def _let_go(self) -> None:
        while any(running.outcome is None for running in self._running.values()):
            try:
                self._came.clear()
                await self._came.wait()  # not self._wait: what has arrived and the mail stay where they are
            except asyncio.CancelledError:
                continue
        assert self.journal is not None
        try:
            await in_thread(self.journal.let_go, self._also)
        except RuntimeError:  # the event loop begins no thread any more
            self.journal.let_go()

    async def _turn(self, one: bool) -> bool:
        """Do all that is commanded, then wait for one outcome or timer. Return whether anything is left to do here.

        :param one: return after one call, whoever made it.
        """
        if self.context._run is not self._run:  # another saga was executed with it between two calls
            set_run(self.context, self._run)
        if not (self._timed and self.machine.begun):
            self._begin()
        commands = self.machine.commands
        while commands:
            if self._exposed and self.machine.status is not RUNNING:
                return True  # the undo goes on where nothing can cancel it
            if not self._quiet and type(commands[0]) not in (Join, Pass):  # what follows these is stored with it
                await self._tell()
            command = commands.pop(0)
            if type(command) is Call:
                if not self._awaits(command):
                    self._spawn(command)
                    continue
                if self._quiet and not one and self._runs_on(command):
                    await (self._undo(command) if command.compensation else self._do(command))
                else:
                    await self._call(command)
                if one and not (commands and type(commands[0]) is Join):
                    return True
            elif isinstance(command, Wait | Pause):
                self._at(clock() + command.delay, command)
            elif isinstance(command, Pass):
                self._pass(command)
            else:
                assert isinstance(command, Join)
                self._join(command)
        if not self._quiet:
            await self._tell()
        delay = self._may_park() if self.journal is not None else None
        if delay is not None:
            assert self.journal is not None
            await self._stored(partial(_thread_for, partial(self.journal.park, delay)))
            self.parked = True
            return False
        if self.machine.halt is not None and self.machine.halted:
            self.machine.stop(clock() + self._epoch)
            await self._tell()
        if self.machine.status.terminal or self.machine.at_rest:
            return False
        await self._await_one()
        return True

    async def _await_one(self) -> None:
        """Wait for an outcome or for the next timer, whichever is first, and feed it to the machine."""
        if not self._arrived:
            try:
                await self._wait(self._timers[0][0] if self._timers else None)
            except TimeoutError:
                if self._timers[0][0] <= clock():
                    self._timer(self._timers[0][2])
                    heapq.heappop(self._timers)
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
        if due is None:
            await self._came.wait()
        else:
            async with asyncio.timeout(min(max(0.0, due - clock()), LONGEST_WAIT)):
                await self._came.wait()

    # -- calls --------------------------------------------------------------------------------------------------------

    def _awaits(self, call: Call) -> bool:
        """Whether the call is awaited here."""
        if call.compensation:
            return call.step.async_compensate and not self._exposed and (self._plain or self._alone(call))
        return call.step.async_execute and (self._plain or self._alone(call))

    async def _do(self, call: Call) -> None:
        """Execute the step and those that follow it, as long as each ends well at once. Nobody listens meanwhile."""
        machine, view, epoch = self.machine, self.context, self._epoch
        run = view._run
        results = run.results
        kind = type(view)
        note = machine.note
        started = clock()
        while True:
            step = call.step
            self._inline = run.call = call
            try:
                value = await step.task.execute(view)
            except BaseException as error:
                set_run(view, run)
                self._raised(call, view, error, clock() - started)
                break
            if view._run is not run:  # the task executed another saga with it
                set_run(view, run)
            if value is not None:
                if type(value) is kind:
                    value = view._become(value)
                elif type(value) is CoroutineType:
                    self._returned(call, view, value, clock() - started)
                    break
            results[step.name] = value
            run.previous = value
            ended = clock()
            following = step.following
            if following is None or not following.async_execute:
                machine.send(StepSucceeded(step.name, 1, ended + epoch, ended - started, value))
                break
            note((step, following, started, ended, epoch, value))
            call, started = following.first, ended
        self._inline = None
        del machine, note  # an error's traceback may keep this frame: see saga._result

    async def _undo(self, call: Call) -> None:
        """Compensate the step and those that are to be next, as :meth:`_do` executes."""
        machine, view, epoch = self.machine, self.context, self._epoch
        run = view._run
        note = machine.note
        chain = machine.downward()
        started = clock()
        while True:
            step = call.step
            self._inline = run.call = call
            try:
                value: Any = await step.task.compensate(view)  # type: ignore[func-returns-value, misc]
            except BaseException as error:
                set_run(view, run)
                self._raised(call, view, error, clock() - started)
                break
            if view._run is not run:
                set_run(view, run)
            if value is not None and type(value) is CoroutineType:
                self._returned(call, view, value, clock() - started)
                break
            ended = clock()
            if not chain or not chain[-1].async_compensate:
                machine.send(CompensationSucceeded(step.name, 1, ended + epoch, ended - started))
                break
            following = chain.pop()
            note((step, following, started, ended, epoch))
            call, started = following.first_undo, ended
        self._inline = None

    async def _call(self, call: Call) -> None:
        """Await a call here and feed its outcome to the machine."""
        view = self._view(call)
        self._inline = view._run.call = call
        started = clock()
        ok, outcome = await _outcome(call, view)
        elapsed = clock() - started
        if self.mail:
            await self._read_mail()
        (self._returned if ok else self._raised)(call, view, outcome, elapsed)
        self._inline = None
        del outcome  # an error's traceback keeps this frame: see saga._result

    def _spawn(self, call: Call) -> None:
        assert self._loop is not None
        running = self._start_running(call)
        step = call.step
        if step.async_compensate if call.compensation else step.async_execute:
            started = clock()
            running.task = self._loop.create_task(_outcome(call, running.view), name=f"saga step {step.name}")
            running.task.add_done_callback(partial(self._task_ended, running, started))
        else:
            self._start_thread(running)

    def _task_ended(self, running: Running, started: float, task: asyncio.Task[tuple[bool, Any]]) -> None:
        ok, value = (False, asyncio.CancelledError()) if task.cancelled() else task.result()
        self._arrive(running, ok, value, clock() - started)
        self._came.set()

    def _wake(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._came.set)
        except RuntimeError:  # somebody closed the event loop without waiting for its tasks
            logging.getLogger("saga").error("saga %s: the event loop was closed while a step ran", self.machine.saga_id)

    # -- journal and observers ----------------------------------------------------------------------------------------

    async def _read_mail(self) -> None:
        if not self.mail or self.journal is None:
            return
        self.mail = False
        # What is read leaves the inbox with the next commit, whatever else happens: it is obeyed first.
        await self._stored(partial(_thread_for, self.journal.read_mail), self._obey)

    async def _tell(self) -> None:
        """Store the new events, then show them to the observers."""
        journal, machine = self.journal, self.machine
        if journal is not None and journal.written != len(machine.events):
            commits = commits_of(journal.store)
            await self._stored(partial(commits.commit, journal, machine), struck=commits.go_on)
        if self.observers:
            self._publish()

    async def _stored(
        self,
        begin: Callable[[], Awaitable[T]],
        then: Callable[[T], object] = lambda result: None,
        struck: Callable[[], None] = lambda: None,
    ) -> None:
        """Await something that is done with the store, and do ``then`` with its result.

        :param struck: called where an interrupt strikes meanwhile. A cancellation takes effect when the store has done it.
        """
        interrupts: list[BaseException] = []

        def strike(error: BaseException) -> None:
            interrupts.append(error)
            struck()

        try:
            result = await _to_the_end(begin, strike)
        except Exception as error:
            raise UnstoredError(error) from error
        then(result)
        if interrupts:
            raise interrupts[0]


async def _outcome(call: Call, view: Any) -> tuple[bool, Any]:
    task, run = call.step.task, view._run
    try:
        work: Any = task.compensate(view) if call.compensation else task.execute(view)  # type: ignore[func-returns-value]
        return True, await work
    except BaseException as error:
        return False, error
    finally:
        set_run(view, run)  # the task may have executed another saga with it


async def _to_the_end(begin: Callable[[], Awaitable[T]], struck: Callable[[BaseException], None]) -> T:
    """Await what ``begin`` returns, beside the caller, to its end. Each cancellation meanwhile is given to ``struck``.

    The event loop's end cancels every task, one that has not begun too: then it is begun again.
    """
    work = asyncio.ensure_future(begin())
    while True:
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError as error:
            struck(error)
            if work.cancelled():
                work = asyncio.ensure_future(begin())
            elif work.done():
                return work.result()


async def in_thread(work: Callable[[], T], struck: Callable[[BaseException], None]) -> T:
    """Do ``work`` in a thread, to its end. Each cancellation that strikes meanwhile is given to ``struck``."""
    return await _to_the_end(partial(_thread_for, work), struck)


def _thread_for(work: Callable[[], T]) -> asyncio.Future[T]:
    # Unlike a task, a future of an executor is not cancelled by the event loop's end.
    return asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, work)
