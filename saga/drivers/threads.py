"""The synchronous driver. One loop, in the caller's thread, feeds the machine and does what it commands.

A call runs in the caller's thread where nothing else goes on and nothing limits its time; otherwise in a thread of its
own, whose outcome comes back through a queue. Threads are not daemons: the interpreter does not exit while a step that
outlived its timeout still has to be undone.
"""

from __future__ import annotations

import heapq
import queue
import threading
from typing import Any

from saga.context import set_binding
from saga.drivers import forks, within
from saga.drivers.base import STORED_WITH_WHAT_FOLLOWS, Driver, clock
from saga.drivers.calls import make
from saga.drivers.interrupts import MOST_STRIKES, AbandonedError, call_off, put_straight, stop_in_vain
from saga.drivers.parting import gives_up, is_over, may_park, untouched
from saga.drivers.transacted import settle_here, transact_here
from saga.errors import StorageError, UnreadMessagesError
from saga.events import COMPENSATING
from saga.machine import Call, Merge
from saga.machine.commands import COMPENSATE, VERIFY
from saga.own_log import LOG

__all__ = ["Execution"]


def take(wakes: queue.SimpleQueue[None], timeout: float | None) -> None:
    """Take an item, and wait so many seconds for one; only one thread does.

    :raises queue.Empty: none has come.
    """
    try:
        wakes.get_nowait()
    except queue.Empty:
        # Where nobody has waited yet, a get() whose time is over before it has the queue's lock waits for ever, before Python
        # 3.13: its second try is given what is left of the time, which is negative. After a get_nowait() there is one try.
        wakes.get(timeout=timeout)


class Execution(Driver):
    """One run of an execution in the caller's thread. Parameters as :class:`~saga.drivers.base.Driver`'s."""

    _handing_over: threading.Lock  # taken by who sees to the stragglers

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()  # one item for each outcome or message that has come

    def run(self, struck: BaseException | None = None) -> None:
        """Run until the execution is terminal, or nothing is left but stragglers, which a thread then sees to.

        :param struck: an interrupt that struck since it ran last.
        :raises StorageError: as :meth:`advance`.
        """
        while True:
            try:
                self.advance(struck=struck)
                if not (self.machine.ended or self.parked or self.abandoned):
                    self._hand_over()
                return
            except StorageError:
                raise
            except BaseException as error:  # between the lines above
                if self.abandoned:
                    raise
                if self.ended is not None and not self._handing_over.acquire(blocking=False):
                    self.interrupted(error)
                    return
                struck, self.ended = error, None

    def advance(self, wait: bool = False, struck: BaseException | None = None) -> None:
        """Run until the execution is terminal or at rest, or abandoned.

        :param wait: wait for an outcome first.
        :param struck: an interrupt that struck since it ran last: it is given up.
        :raises StorageError: something could not be stored, and no more user code has run since. What was under way is in
            doubt in the journal, for a recovery to find.
        """
        outside = within.enter(self)
        try:
            self._advance(wait, struck)
        finally:
            within.leave(outside)
            if self.pool is not None:
                self.pool.end()
            if self._observers:
                self.end_stint()

    def _advance(self, wait: bool, struck: BaseException | None) -> None:
        stopped: AbandonedError | None = None
        strikes, reached = 0, -1
        while not self.abandoned:
            if strikes > MOST_STRIKES:  # not even stopping succeeds, as at the end of the stack
                self.abandoned = True
                assert struck is not None
                raise struck
            try:
                try:
                    if struck is not None:  # within the try: another interrupt may strike here
                        forks.refuse(self, struck)
                        strikes, reached = (strikes if self.progress() == reached else 1), self.progress()
                        stop_in_vain(self, struck, strikes)
                        self._settle()
                        put_straight(self, struck)
                        struck, reached = None, self.progress()
                    elif wait:
                        self._await_one()
                    wait = False
                    while self._turn():
                        pass
                    return
                except AbandonedError as abandoned:
                    stopped = abandoned
                    self._abandon()
                except BaseException as error:
                    struck, strikes = error, strikes + 1
            except BaseException as error:  # another one, in these lines
                struck, strikes = error, strikes + 1
        if struck is not None:
            self.interrupted(struck)
        if stopped is not None:
            stopped.tell()

    def run_one(self) -> bool:
        """Run until a call has ended or a timer was due. Return whether anything is left to do; :meth:`run` ends it."""
        self._binding.user = threading.get_ident()
        outside = within.enter(self)
        try:
            going = self._turn(one=True)
            if self._heard and not self._publish():  # before anybody hears of it
                return True
            return going
        except AbandonedError as abandoned:
            self._abandon()
            abandoned.tell()
        except BaseException as error:
            self.leave(error)
        finally:
            within.leave(outside)
            if self.pool is not None:
                self.pool.end()
            if self._observers:
                self.end_stint()
        return False

    def takes_turns(self) -> bool:
        """Whether all that is left to do here, for now, is to make a call of the undo, or to store its end.

        Then others may do as much meanwhile, and what came of it is stored together.
        """
        machine, commands = self.machine, self.machine.commands
        if self.journal is not None and self.journal.has_large(machine):
            return False  # others would wait for it
        if self.handing_back or self.cut_short or machine.ended:
            return machine.ended and not self.handing_back
        if machine.status is not COMPENSATING or len(commands) != 1:
            return False
        (call,) = commands
        return type(call) is Call and call.phase is COMPENSATE and not call.step.transactional and self._alone(call)

    def take_turn(self) -> bool:
        """Make one call, whose outcome is then to be stored. Return whether it takes another turn when that is done.

        Else it has run, as :meth:`run` does.

        :raises StorageError: as :meth:`advance`.
        """
        struck: BaseException | None = None
        outside = within.enter(self)
        try:
            if self.handing_back and not self.machine.ended:  # whoever goes on makes the call
                self._publish()
                return self._part()
            if self._turn(one=True) and self.takes_turns():
                return True
        except AbandonedError as abandoned:
            self._abandon()
            abandoned.tell()
            return False
        except BaseException as error:
            struck = error
        finally:
            within.leave(outside)
            if self.pool is not None:
                self.pool.end()
            if self._observers:
                self.end_stint()
        self.run(struck)
        return False

    def leave(self, reason: BaseException) -> None:
        """Give up between two calls of :meth:`run_one`, and undo."""
        try:
            self.run(reason)
        except StorageError:
            raise
        except BaseException as another:  # before it came to run
            self.run(another)

    def _hand_over(self) -> None:
        """Let a thread see to the stragglers; where none is to be had, see to them here."""
        self._handing_over = threading.Lock()
        self.ended, self.left = threading.Event(), self.machine.replayed()
        try:
            threading.Thread(target=self._see_to_stragglers, name=f"saga {self.machine.saga_id} stragglers").start()
        except RuntimeError:
            self._see_to_stragglers()

    def _see_to_stragglers(self) -> None:
        assert self.ended is not None
        if not self._handing_over.acquire(blocking=False):  # an interrupt struck before this thread got its turn
            return
        try:
            while not (self.machine.ended or self.parked or self.abandoned):
                self.advance(wait=True)
        except StorageError as error:
            self.unstored = error
            LOG.error("saga %s is left to a recovery: %s", self.machine.saga_id, error, exc_info=error)
        finally:
            self.end_late()

    def _abandon(self) -> None:
        """Leave the execution to a recovery, but not before the calls that run here have ended."""
        self.abandoned = True
        try:
            self._let_go()
        except BaseException as error:  # another interrupt, which must not keep the lease
            self.interrupted(error)
            self._let_go()

    def _let_go(self) -> None:
        if forks.is_of_parent(self):
            return
        call_off(self)
        if self.journal is not None and not self._calls_run():  # else the last of them gives the lease back
            self.journal.give_back()

    def _turn(self, one: bool = False) -> bool:
        """Do all that is commanded, then wait for one outcome or timer. Return whether anything is left to do here.

        :param one: return after one call, whoever made it.
        """
        if self.process is not forks.process:
            forks.refuse(self)
        if self.context.__binding__ is not self._binding:  # another saga was executed with it between two calls
            set_binding(self.context, self._binding)
        if not self.begun:
            if self.handing_back and untouched(self):
                return self._part()
            self.begin()
        commands = self.machine.commands  # no local has the machine: an error's traceback keeps this frame
        while commands and not self.cut_short:
            if self._heard and type(commands[0]) not in STORED_WITH_WHAT_FOLLOWS:
                self._publish()
            command = commands.pop(0)
            if type(command) is not Call:
                self._obey(command)
            elif command.step.transactional and command.phase is not VERIFY:
                if self.in_time(command):
                    self._transact(command)
                    if one:
                        return True
            elif self.plain or self._alone(command):
                view = self._make_ready(command)
                if self.journal is None and not one:
                    made = make(command, view, self.surroundings, *self._series(command))
                else:
                    made = make(command, view, self.surroundings)
                if self.mail:
                    self._read_mail()
                self._take(made, view)
                del made  # for the same reason: see saga.drivers.results
                if one and not (commands and type(commands[0]) is Merge):
                    return True
            elif self.in_time(command):
                self._start_thread(self._begin_beside(command))
        if self._heard and not self._publish():
            return True
        if self.cut_short:
            raise AbandonedError(None)
        if self.journal is not None:
            if is_over(self):
                return self.machine.pause(self.now()) or self._part()
            delay = may_park(self)
            if delay is not None:
                self.journal.park(delay, self.step())
                self.parked = True
                return False
        if self.machine.halt is not None and self.machine.halted:
            self.machine.stop(self.now())
        elif self.machine.ended or self.machine.at_rest:
            return False
        elif self.machine.stranded:
            self.machine.strand(self.now())
        elif not (self.leaving and gives_up(self)):
            self._await_one()
        return True

    def _part(self) -> bool:
        """Let another process go on. Return that nothing is left to do here."""
        assert self.journal is not None
        self.journal.hand_back(untried=self.recovers)
        self.parked = True
        return False

    def _transact(self, call: Call) -> None:
        self._read_mail()
        try:
            transact_here(self, call)
        except Exception as error:
            raise AbandonedError(error) from error

    def _settle(self) -> None:
        try:
            settle_here(self)
        except Exception as error:
            raise AbandonedError(error) from error

    def _await_one(self) -> None:
        """Wait for an outcome or for the next timer, whichever is first, and feed it to the machine."""
        while not self._arrived:
            try:
                self._wait(self._timers[0][0] if self._timers else None)
            except queue.Empty:
                if self._timers and self._timers[0][0] <= clock():
                    due = self._timer_due()
                    if self.mail:
                        self._read_mail()
                    self._timer(due)
                    heapq.heappop(self._timers)
                    return
                self._see_to_lost()
            if self.mail or self.leaving:
                self._read_mail()
                return
        if self.mail:
            self._read_mail()
        self._take_arrived()

    def _wait(self, due: float | None) -> None:
        """Wait until something comes.

        :raises queue.Empty: it is ``due``, or time to look again.
        """
        take(self._wakes, self._seconds_to_wait(due))

    def _wake(self) -> None:
        self._wakes.put(None)

    def _read_mail(self) -> None:
        if not self.mail or self.journal is None:
            return
        self.mail = False
        if self.handing_back:  # who goes on reads what has come
            self.machine.hold(self.now())
            return
        try:
            messages = self.journal.read_messages()
        except Exception as error:
            raise AbandonedError(error) from error
        self.take_messages(messages, self.now())

    def _publish(self) -> bool:
        """Store the new events, then show them to the observers. Return whether that is done.

        An end is not stored before what came from outside is obeyed: then there may be more to do.
        """
        if self.journal is not None:
            try:
                self.journal.commit(self.machine)
            except UnreadMessagesError:
                self.machine.reopen()
                self.mail = True
                self._read_mail()
                self.machine.go_on(self.now())
                return False
            except Exception as error:
                raise AbandonedError(error) from error
        if self._observers:
            self._show()
        return True
