"""The synchronous driver. One loop, in the caller's thread, feeds the machine and does what it commands.

A call runs in the caller's thread where nothing else goes on and nothing limits its time; otherwise in a thread of its
own, whose outcome comes back through a queue. Threads are not daemons: the interpreter does not exit while a step that
outlived its timeout still has to be undone.
"""

from __future__ import annotations

import heapq
import logging
import queue
import threading
from types import CoroutineType
from typing import Any

from saga.drivers.base import LONGEST_WAIT, Driver, UnstoredError, clock, set_run
from saga.errors import StorageError
from saga.events import CompensationSucceeded, StepSucceeded
from saga.machine import Join, Pass, Pause, Wait
from saga.plan import Call

__all__ = ["Execution"]


class Execution(Driver):
    """One run of a saga in the caller's thread. Parameters as :class:`~saga.drivers.base.Driver`'s."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()  # one item for each outcome or message that has come

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the execution is terminal, or nothing is left but stragglers, which a thread then sees to.

        :raises StorageError: as :meth:`advance`.
        """
        self.advance()
        if not (self.machine.status.terminal or self.parked):
            self.holds_back = False
            self.ended, self.left = threading.Event(), self._replayed()
            threading.Thread(target=self._see_to_stragglers, name=f"saga {self.machine.saga_id} stragglers").start()

    def advance(self, wait: bool = False) -> None:
        """Run until the execution is terminal or at rest.

        :param wait: wait for an outcome first.
        :raises StorageError: something could not be stored, and no more user code has run since. What was under way is in
            doubt in the journal, for a recovery to find.
        """
        struck: BaseException | None = None
        while True:
            try:
                if struck is not None:  # within the try: another interrupt may strike here
                    self._interrupted(struck)
                    struck = None
                elif wait:
                    self._await_one()
                wait = False
                while self._turn():
                    pass
                return
            except UnstoredError as unstored:
                self._abandon()
                raise unstored.error from unstored.error.__cause__
            except BaseException as error:
                struck = error

    def run_one(self) -> bool:
        """Run until a call has ended or a timer was due. Return whether anything is left to do; :meth:`run` ends it."""
        try:
            going = self._turn(one=True)
            if not self._quiet:
                self._tell()  # before anybody hears of it
            return going
        except UnstoredError as unstored:
            self._abandon()
            raise unstored.error from unstored.error.__cause__
        except BaseException as error:
            self.leave(error)
            return False

    def leave(self, reason: BaseException) -> None:
        """Give up between two calls of :meth:`run_one`, and undo."""
        try:
            self._interrupted(reason)
        except BaseException:
            self._interrupted(reason)
        self.run()

    def _see_to_stragglers(self) -> None:
        assert self.ended is not None
        try:
            while not (self.machine.status.terminal or self.parked):
                self.advance(wait=True)
        except StorageError as error:
            self.unstored = error
            logging.getLogger("saga").error("saga %s is left to a recovery: %s", self.machine.saga_id, error, exc_info=error)
        finally:
            self.ended.set()

    def _abandon(self) -> None:
        """Leave the execution to a recovery, but not before the calls that run here have ended."""
        assert self.journal is not None
        self.abandoned = True
        self._call_off()
        if self._running:
            threading.Thread(target=self._let_go, name=f"saga {self.machine.saga_id} abandoned").start()
        else:
            self.journal.let_go()

    def _let_go(self) -> None:
        assert self.journal is not None
        while any(running.outcome is None for running in self._running.values()):
            self._wakes.get()
        self.journal.let_go()

    def _turn(self, one: bool = False) -> bool:
        """Do all that is commanded, then wait for one outcome or timer. Return whether anything is left to do here.

        :param one: return after one call, whoever made it.
        """
        if self.context._run is not self._run:  # another saga was executed with it between two calls
            set_run(self.context, self._run)
        if not (self._timed and self.machine.begun):
            self._begin()
        commands = self.machine.commands
        while commands:
            if not self._quiet and type(commands[0]) not in (Join, Pass):  # what follows these is stored with it
                self._tell()
            command = commands.pop(0)
            if type(command) is Call:
                if self._quiet and not one and self._runs_on(command):
                    (self._undo if command.compensation else self._do)(command)
                elif self._plain or self._alone(command):
                    self._call(command)
                    if one and not (commands and type(commands[0]) is Join):
                        return True
                else:
                    self._spawn(command)
            elif isinstance(command, Wait | Pause):
                self._at(clock() + command.delay, command)
            elif isinstance(command, Pass):
                self._pass(command)
            else:
                assert isinstance(command, Join)
                self._join(command)
        if not self._quiet:
            self._tell()
        delay = self._may_park() if self.journal is not None else None
        if delay is not None:
            assert self.journal is not None
            self.journal.park(delay)
            self.parked = True
            return False
        if self.machine.halt is not None and self.machine.halted:
            self.machine.stop(clock() + self._epoch)
            self._tell()
        if self.machine.status.terminal or self.machine.at_rest:
            return False
        self._await_one()
        return True

    def _await_one(self) -> None:
        """Wait for an outcome or for the next timer, whichever is first, and feed it to the machine."""
        while not self._arrived:
            timeout = min(max(0.0, self._timers[0][0] - clock()), LONGEST_WAIT) if self._timers else None
            try:
                self._wakes.get(timeout=timeout)
            except queue.Empty:
                if self._timers[0][0] <= clock():
                    self._timer(self._timers[0][2])
                    heapq.heappop(self._timers)
                    return
            if self.mail:
                self._read_mail()
                return
        if self.mail:
            self._read_mail()
        self._take_arrived()

    # -- calls --------------------------------------------------------------------------------------------------------

    def _do(self, call: Call) -> None:
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
                value = step.task.execute(view)
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
            if following is None:
                machine.send(StepSucceeded(step.name, 1, ended + epoch, ended - started, value))
                break
            note((step, following, started, ended, epoch, value))
            call, started = following.first, ended
        self._inline = None
        del machine, note  # an error's traceback may keep this frame: see saga._result

    def _undo(self, call: Call) -> None:
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
                value: Any = step.task.compensate(view)  # type: ignore[func-returns-value]
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
            if not chain:
                machine.send(CompensationSucceeded(step.name, 1, ended + epoch, ended - started))
                break
            following = chain.pop()
            note((step, following, started, ended, epoch))
            call, started = following.first_undo, ended
        self._inline = None

    def _call(self, call: Call) -> None:
        """Make a call here and feed its outcome to the machine."""
        step = call.step
        view = self._view(call)
        run = view._run
        self._inline = run.call = call
        task = step.task
        outcome: Any
        started = clock()
        try:
            value = task.compensate(view) if call.compensation else task.execute(view)  # type: ignore[func-returns-value]
            ok, outcome = True, value
        except BaseException as error:
            ok, outcome = False, error
        set_run(view, run)
        elapsed = clock() - started
        if self.mail:
            self._read_mail()
        (self._returned if ok else self._raised)(call, view, outcome, elapsed)
        self._inline = None
        del outcome  # an error's traceback keeps this frame: see saga._result

    def _spawn(self, call: Call) -> None:
        self._start_thread(self._start_running(call))

    # -- journal and observers ----------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._wakes.put(None)

    def _read_mail(self) -> None:
        if not self.mail or self.journal is None:
            return
        self.mail = False
        try:
            messages = self.journal.read_mail()
        except Exception as error:
            raise UnstoredError(error) from error
        self._obey(messages)

    def _tell(self) -> None:
        """Store the new events, then show them to the observers."""
        if self.held_back:
            return
        if self.journal is not None:
            try:
                self.journal.commit(self.machine)
            except Exception as error:
                raise UnstoredError(error) from error
        if self.observers:
            self._publish()
