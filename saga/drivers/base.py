"""What drivers share: commands, calls that run beside the loop, messages. Nothing here waits.

A driver has the loop. It has the machine's events stored, does what the machine commands, and feeds back what came of it.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from saga.clocks import clock, host_time
from saga.context import ITS_OWN, Binding, Context
from saga.definition import Definition
from saga.drivers import forks
from saga.drivers.beside import CallBeside
from saga.drivers.calls import Made, Series, TakesNote, make
from saga.drivers.interrupts import cuts_short, is_taken, put_straight
from saga.drivers.journal import Journal
from saga.drivers.observed import Observed
from saga.drivers.stints import end_stints
from saga.drivers.thread_pool import ThreadPool
from saga.drivers.timers import limits as is_limit
from saga.drivers.timers import own_limit
from saga.drivers.transacted import Transacted
from saga.drivers.views import Views
from saga.errors import OutcomeUnknownError, StorageError, is_exception
from saga.events import CompensationStarted, StepStarted
from saga.in_use import INSIDE, let_go
from saga.machine import Call, Command, Finish, Machine, Merge, PlannedStep, Wait, waits
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.machine.log import Note
from saga.machine.undo import compensations_after
from saga.own_log import LOG

LONGEST_WAIT: Final = 3600.0
"""Seconds a loop waits at most before it looks at its timers again: what it waits with cannot wait for years."""

LOOK: Final = 5.0
"""Seconds a loop waits at most, where calls are made in threads, before it sees whether these live."""

STORED_WITH_WHAT_FOLLOWS: Final = (Merge, Finish)
"""Commands that are done before the events which led to them are stored: these go into one commit with what follows."""

__all__ = ["LONGEST_WAIT", "STORED_WITH_WHAT_FOLLOWS", "Driver", "clock"]


class Driver(Observed):
    """One run of an execution.

    :param definition: what it is run by.
    :param machine: a machine, started or not.
    :param context: the execution's own view of the context.
    :param journal: where events are stored before anything they command is done.
    :param views: the views of an execution that another process began.
    :ivar ended: set when an execution that outlived its ``run()`` has ended; ``None`` where none has.
    :ivar left: what was stored and known when it outlived its ``run()``: its machine goes on elsewhere from there.
    :ivar unstored: what ended it too early then.
    :ivar parked: it goes on elsewhere: it waits there, was handed back, or is stopped past its pivot.
    :ivar transacted: a transactional call that is under way.
    :ivar inline: the binding of the view that the call works on which the loop itself makes.
    :ivar pool: the threads that make calls beside the loop.
    """

    # What most executions never have is kept here until they do.
    ended: threading.Event | None = None
    left: Machine | None = None
    unstored: StorageError | None = None
    recovers = False  # a recovery runs it: what waits is left to the store, and nobody is there to raise an interrupt to
    parked = False
    handing_back = False  # set from outside: another process is to go on
    leaving = False  # set from outside: what waits for long is not waited for here
    cut_short = False  # an interrupt struck a compensation: no call begins any more, and it is to be abandoned
    abandoned = False  # nothing goes on here any more: it is left to a recovery, where it has a journal
    inline: Binding | None = None
    transacted: Transacted | None = None
    pool: ThreadPool | None = None
    clock = staticmethod(clock)  # of its timers
    stint_over = False  # and observers know
    begun = False  # whoever made it has come to run it

    def __init__(
        self,
        definition: Definition,
        machine: Machine,
        context: Context,
        journal: Journal | None = None,
        views: Views | None = None,
    ) -> None:
        super().__init__(definition, machine, context, journal, views)
        self.journal = journal
        self.process = forks.process
        self._binding = context.__binding__
        if self._binding.user is None:  # an execution that is taken up
            self._binding.user = ITS_OWN
        self._epoch = host_time() - clock()
        self._timers = []
        self.beside = {}
        self._arrived: deque[CallBeside] = deque()  # those that have ended, until the machine has taken their outcome
        if definition.observers:
            self._observe(definition.observers)
        self._heard = bool(self._observers) or journal is not None

    def end_stint(self) -> None:
        """Tell observers that nothing more of the execution runs here, once that is so."""
        if not self._observers or self.stint_over or self.process is not forks.process:
            return
        if self.parked or self.abandoned or self.machine.ended:
            self.stint_over = True
            broken_off = (sys.exception() or self.unstored or self.interrupt) if self.abandoned else None
            try:
                end_stints(self._observers, self.machine.status, broken_off)
            except BaseException as error:  # a Ctrl-C: it is raised where the result would be returned
                self.interrupted(error)
                if self.abandoned:
                    raise

    def now(self) -> float:
        """Return seconds since the epoch, by a clock that never goes back."""
        return clock() + self._epoch

    def add(self, entry: tuple[PlannedStep, ...], encoded: str = "") -> None:
        """Start what an open plan has grown by; ``encoded``: what its journal keeps of a step."""
        self.plain = self.plain and self.machine.plan.plain
        self.machine.start_steps(entry, self.now(), encoded)

    def end_late(self) -> None:
        """Say that an execution that has outlived its ``run()`` has ended."""
        assert self.ended is not None
        self.end_stint()
        let_go(self.context, self._binding)  # before anybody hears of it
        self.ended.set()
        let_go(self.context, self._binding)  # and after: it may have been kept meanwhile

    def keep_context(self) -> None:
        """Keep the context for what has not begun to run, as long as anybody may run it."""
        self._binding.user = weakref.ref(self)

    def free_context(self) -> None:
        """Let others have the context, unless a straggler is still to be undone with it."""
        if self.ended is not None and not self.ended.is_set():
            self.keep_context()
        if self.ended is None or self.ended.is_set():  # it may have ended just now
            let_go(self.context, self._binding)

    def finish(self) -> None:
        """Complete an execution whose plan grows no more."""
        self.machine.finish(self.now())

    def give_up(self, error: BaseException) -> None:
        """Undo an execution at rest."""
        if is_exception(error):
            self.machine.give_up(error, self.now())
        else:  # it may have struck while the plan grew
            put_straight(self, error)

    # -- commands and timers ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the machine and the timer of the saga's timeout, where that is not done yet."""
        if not self.machine.log.entries:
            self.machine.start(self.now())
        timeout = self.definition.timeout
        if timeout is not None and (since := self.machine.log.forward_since()) is not None:
            self._at(self.clock() + waits.left_of(timeout, since, self.now()), None)
        self.begun = True

    def _obey(self, command: Command) -> None:
        """Do what is commanded, where it is not a call."""
        if isinstance(command, Wait):
            self._at(self.clock() + command.delay, command)
        elif isinstance(command, Finish):
            self.finished(command, self.now())
        else:
            assert isinstance(command, Merge)
            self.merge(command, self.now())

    def _alone(self, call: Call) -> bool:
        """Whether the call may run in this thread: nothing limits its time, and nothing else goes on meanwhile."""
        if call.step.compensation_timeout is not None if call.phase is COMPENSATE else self.views.limits(call.step):
            return False
        return self.machine.state.calls_under_way() == 1

    def _make_ready(self, call: Call) -> Context:
        """Make ready a call that the loop itself makes, and return its view."""
        view = self.context if self.plain and call.phase is EXECUTE and call.attempt == 1 else self.view_for(call)
        binding = view.__binding__
        binding.call = None  # what is made ready has not begun: make() says when it does
        self.inline = binding
        return view

    def _series(self, call: Call) -> tuple[Series, TakesNote] | tuple[()]:
        """Return the series that a call may begin, where nothing is stored, and what takes its notes."""
        if call.attempt != 1 or not self.plain or call.phase is VERIFY:
            return ()
        machine, log = self.machine, self.machine.log
        if call.phase is COMPENSATE:
            ahead = compensations_after(machine.state)
        else:
            ahead = None if log.must_decide() else machine.plan.calls_after(call)
        if ahead is None:
            return ()
        log.begin_series(self._epoch, not self._observers)
        return ahead, self._note if self._observers else log.note

    def _note(self, note: Note) -> None:
        """Take a note where somebody listens: its events are made and shown at once."""
        log = self.machine.log
        log.entries += log.events_of(note)
        self._show()

    def _take(self, made: Made, view: Context) -> None:
        """Feed to the machine how a call ended that the loop itself made."""
        call, returned, value, elapsed = made
        if self.process is not forks.process:
            forks.refuse(self, None if returned else value)
        if not returned:
            if call.phase is EXECUTE or not cuts_short(self, call, value):
                self.raised(call, view, value, elapsed, clock() + self._epoch)
        elif self.journal is not None or self.machine.log.end is None:  # else a note says it all
            self.returned(call, view, value, elapsed, clock() + self._epoch)
        self.inline = None

    def _begin_beside(self, call: Call) -> CallBeside:
        """Make ready a call that is to run beside the loop, and set its timer."""
        step = call.step
        view = self.view_beside(call)
        beside = CallBeside(call, view)
        limits: list[float] = []
        if not self.plain and call.phase is EXECUTE and self.views.limits(step):
            limits.extend(due for due, _, what in self._timers if is_limit(what, step))
        limit = own_limit(call)
        if limit is not None:
            limits.append(self.clock() + limit)
            self._at(limits[-1], beside)
        view.__binding__.limit(min(limits) + self._epoch if limits else None, beside.cancelled)
        self.beside[step.index] = beside
        return beside

    def _start_thread(self, beside: CallBeside) -> None:
        """Make a call in a thread that no other call has meanwhile.

        :raises RuntimeError: no thread is to be had. A call that settles something is made here, then.
        """
        if self.pool is None:
            self.pool = ThreadPool()
        context = contextvars.copy_context()
        try:
            beside.thread = self.pool.begin(
                f"saga step {beside.call.step.name}", lambda free: context.run(self._work, beside, free)
            )
        except RuntimeError:
            if beside.call.phase is EXECUTE:
                raise
            self._work(beside, bool)

    def _work(self, beside: CallBeside, free: Callable[[], object]) -> None:
        INSIDE.set((*INSIDE.get(), self._binding))
        if beside.turn.acquire(blocking=False):  # else an interrupt struck before this thread got its turn
            outcome = make(beside.call, beside.view, self.surroundings)
            free()
            self._arrive(beside, outcome)
            del outcome  # an error's traceback knows this frame
            self._wake()
            if self.abandoned and self.journal is not None and not self._calls_run():
                self.journal.give_back()

    def _arrive(self, beside: CallBeside, outcome: Made) -> None:
        """Say, from any thread, how a call beside the loop has ended."""
        beside.outcome = outcome
        self._arrived.append(beside)

    def _seconds_to_wait(self, due: float | None) -> float:
        """Return the seconds until a timer is due, or until the loop is to look again."""
        longest = LOOK if self.beside and self.pool is not None else LONGEST_WAIT
        return longest if due is None else min(max(0.0, due - clock()), longest)

    def _see_to_lost(self) -> None:
        """See to the calls whose thread has ended without a word: nobody else would ever tell how they have ended.

        What ends a thread may strike before any code of it runs, as an error of a debugger's trace function does.
        """
        for beside in list(self.beside.values()):
            thread, call = beside.thread, beside.call
            if thread is None or thread.is_alive() or beside.task is not None or beside in self._arrived:
                continue
            if beside.outcome is not None:
                self._arrived.append(beside)
                continue
            name = self.machine.saga_id, call.phase, call.step.name
            if beside.turn.locked():
                LOG.error("saga %s: the thread that made the %s of step %r has ended without an outcome", *name)
                lost = OutcomeUnknownError(f"the thread that made the {call.phase} of step {call.step.name!r} has ended")
                self._arrive(beside, (call, False, lost, 0.0))
            else:
                LOG.error("saga %s: a thread ended before it made the %s of step %r: another one makes it", *name)
                self._start_thread(beside)

    def _take_arrived(self) -> None:
        """Feed to the machine how the first call that has arrived ended.

        It is forgotten only when the machine has taken that: an interrupt may strike anywhere between.
        """
        beside = self._arrived[0]
        if not is_taken(self, beside):
            self._take_beside(beside)
            if self.beside.get(beside.call.step.index) is beside:
                del self.beside[beside.call.step.index]
        self._arrived.popleft()
        beside.outcome = (beside.call, True, None, 0.0)  # an error's traceback knows the thread's frame, and that knows this

    def _take_beside(self, beside: CallBeside) -> None:
        assert beside.outcome is not None
        call, returned, value, elapsed = beside.outcome
        at = self.now()
        if returned:
            self.returned(call, beside.view, value, elapsed, at)
        elif beside.overdue is not None and call.phase is COMPENSATE:
            self.raised(call, beside.view, beside.overdue, elapsed, at)
        elif beside.overdue is not None and call.step.index in self.machine.state.executing:
            self.cut_off(call, beside.view, beside.overdue, elapsed, at)
        elif call.phase is EXECUTE or not cuts_short(self, call, value):
            self.raised(call, beside.view, value, elapsed, at)

    # -- observers and messages ---------------------------------------------------------------------------------------

    def notify(self) -> None:
        """Say, from any thread, that the inbox holds something."""
        self.mail = True
        self._wake()

    def hand_back(self) -> None:
        """Say, from any thread, that another process is to go on.

        What runs here ends and its outcome is stored; nothing new begins, and ``run()`` returns with the lease given back. A
        step whose execute outlived its timeout keeps it until that has ended. Without a journal nobody could go on, and with a
        block nobody but its own code: then nothing changes.
        """
        if self.journal is not None and not self.definition.plan.open:
            self.handing_back = True
            self.notify()

    def leave_waits(self) -> None:
        """Say, from any thread or signal's handler, that nothing that takes long is waited for here any more.

        What runs goes on. What then waits for another attempt, its time or a signal is left to the store, and ``run()``
        returns. Without a journal nobody could go on, so what waits is given up and undone, unless it is past its pivot.
        """
        self.leaving = True
        self._wake()

    def vouches(self) -> bool | None:
        """Whether somebody runs the execution, or a call of it; ``None``: nobody does now, but that may change."""
        return (self.begun and not self.abandoned) or self._calls_run()

    def place(self) -> tuple[str | None, float] | None:
        """Return the step it is at, and how many seconds ago something last happened. Called from other threads."""
        entries: Any = self.machine.log.entries if "machine" in self.__dict__ else ()
        step = self.step()
        return None if step is None else (step, max(0.0, self.now() - entries[-1].at))

    def step(self) -> str | None:
        """Return the step it is at: the one that was begun last. Called from other threads."""
        entries: Any = self.machine.log.entries if "machine" in self.__dict__ else ()
        begun = (event.step for event in reversed(entries) if isinstance(event, StepStarted | CompensationStarted))
        return next(begun, None)

    def _calls_run(self) -> bool:
        return any(one.outcome is None for one in list(self.beside.values()))

    def progress(self) -> int:
        """Return a number that grows with whatever happens: what strikes again while it does not grow strikes in vain."""
        stored = self.journal.written if self.journal is not None else 0
        return len(self.machine.log.entries) + stored + self._shown

    def _wake(self) -> None:
        """Make the loop go on, where it waits for an outcome or a message."""
        raise NotImplementedError
