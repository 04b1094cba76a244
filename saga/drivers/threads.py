"""The synchronous driver. One loop, in the caller's thread, feeds the machine and does what it commands.

A call runs in the caller's thread where nothing else goes on and nothing limits its time; otherwise in a thread of its
own, whose outcome comes back through a queue. Threads are not daemons: the interpreter does not exit while a step that
outlived its timeout still has to be undone.

An interrupt (Ctrl-C) can strike anywhere, in the middle of the machine too. The events are the truth then: the machine is
made anew from them, and a call that was under way is in doubt.
"""

from __future__ import annotations

import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from saga.context import Context, _Slots
from saga.errors import EncodingError, MergeConflictError, StepTimeoutError, StorageError
from saga.events import (
    CompensationFailed,
    CompensationSucceeded,
    Event,
    GroupJoined,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
)
from saga.machine import Join, Machine, Wait
from saga.plan import Call
from saga.views import Views

if TYPE_CHECKING:
    from saga.journal import Journal

__all__ = ["Execution"]

_clock: Final = time.perf_counter
_set_call: Final = _Slots.__dict__["_call"].__set__
_set_limit: Final = _Slots.__dict__["_limit"].__set__
_set_previous: Final = _Slots.__dict__["_previous"].__set__


class _Running:
    """A call that runs in a thread of its own."""

    __slots__ = ("call", "cancelled", "view")

    def __init__(self, call: Call, view: Context) -> None:
        self.call = call
        self.view = view
        self.cancelled = threading.Event()


class _UnstoredError(BaseException):
    """The journal could not be written: unlike an interrupt, it stops the execution without an undo."""

    def __init__(self, error: StorageError) -> None:
        super().__init__(error)
        self.error = error


class Execution:
    """One run of a saga.

    :param machine: a machine, started or not.
    :param context: the execution's own view of the context.
    :param info: what observers get with each event.
    :param observers: called with each event, once it is stored where there is a journal, and ``info``.
    :param deadline: seconds from the start after which the undo begins.
    :param on_compensation_failure: called with context, step name and error when a compensation failed for good.
    :param journal: where events are stored before anything they command is done.
    :param views: the views of an execution that another process began.
    """

    def __init__(
        self,
        machine: Machine,
        context: Context,
        info: Any,
        observers: Sequence[Callable[[Event, Any], None]],
        deadline: float | None,
        on_compensation_failure: Callable[[Context, str, BaseException], None] | None,
        journal: Journal | None = None,
        views: Views | None = None,
    ) -> None:
        self.machine = machine
        self.context = context
        self.info = info
        self.observers = observers
        self.deadline = deadline
        self.on_compensation_failure = on_compensation_failure
        self.interrupt: BaseException | None = None
        self.ended: threading.Event | None = None  # made where the execution outlives run()
        self._epoch = time.time() - _clock()
        self._plain = machine.plan.plain and deadline is None
        self._quiet = self._plain and not observers and journal is None
        self.journal = journal
        self.mail = False  # set from outside: the journal's inbox holds something
        self._timed = deadline is None
        self._inline: Call | None = None
        self._timers: list[tuple[float, int, Wait | _Running | None]] = []
        self._tickets = 0
        if observers:
            self._published = journal.written if journal is not None else 0
            self._reported: set[int] = set()
        self._running: dict[int, _Running] = {}
        self._outcomes: queue.SimpleQueue[tuple[_Running, bool, Any, float] | None] = queue.SimpleQueue()
        if not self._plain:
            self._views = views or Views(machine.plan, context, deadline is not None)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the execution is terminal, or nothing is left but stragglers, which a thread then sees to.

        :raises StorageError: something could not be stored, and no more user code has run since. What was under way is in
            doubt in the journal, for a recovery to find.
        """
        while True:
            try:
                while self._turn():
                    pass
                break
            except _UnstoredError as unstored:
                self._abandon()
                raise unstored.error from unstored.error.__cause__
            except BaseException as error:
                self._interrupted(error)
        if not self.machine.status.terminal:
            self.ended = threading.Event()
            threading.Thread(target=self._see_to_stragglers, name=f"saga {self.machine.saga_id} stragglers").start()

    def run_one(self) -> bool:
        """Run until a call has ended or a timer was due. Return whether anything is left to do; :meth:`run` ends it."""
        try:
            return self._turn(one=True)
        except _UnstoredError as unstored:
            self._abandon()
            raise unstored.error from unstored.error.__cause__
        except BaseException as error:
            self._interrupted(error)
            return True

    def leave(self, reason: BaseException) -> None:
        """Give up between two calls of :meth:`run_one`, and undo."""
        self._interrupted(reason)
        self.run()

    def _see_to_stragglers(self) -> None:
        assert self.ended is not None
        try:
            while not self.machine.status.terminal:
                self._await_one()
                while self._turn():
                    pass
        except _UnstoredError as unstored:
            self._abandon()
            logging.getLogger("saga").error(
                "saga %s is left to a recovery: %s", self.machine.saga_id, unstored.error, exc_info=unstored.error
            )
        finally:
            self.ended.set()

    def _abandon(self) -> None:
        """Leave the execution to a recovery, but not before the calls that run here have ended."""
        assert self.journal is not None
        if self._running:
            threading.Thread(target=self._let_go, name=f"saga {self.machine.saga_id} abandoned").start()
        else:
            self.journal.let_go()

    def _let_go(self) -> None:
        assert self.journal is not None
        while self._running:
            outcome = self._outcomes.get()
            if outcome is not None:
                self._running.pop(outcome[0].call.step.index, None)
        self.journal.let_go()

    def _turn(self, one: bool = False) -> bool:
        """Do all that is commanded, then wait for one outcome or timer. Return whether anything is left to do here.

        :param one: return after one call, whoever made it.
        """
        if not self.machine.begun:
            self.machine.start(_clock() + self._epoch)
        if not self._timed:
            assert self.deadline is not None
            self._at(self.machine.events[0].at + self.deadline - self._epoch, None)
            self._timed = True
        commands = self.machine.commands
        while commands:
            if not self._quiet and type(commands[0]) is not Join:  # what follows a join is stored with it
                self._tell()
            command = commands.pop(0)
            if type(command) is Call:
                if self._quiet and command.attempt == 1 and not one:
                    (self._undo if command.compensation else self._do)(command)
                elif self._plain or self._alone(command):
                    self._call(command)
                    if one and not (commands and type(commands[0]) is Join):
                        return True
                else:
                    self._spawn(command)
            elif type(command) is Wait:
                self._at(_clock() + command.delay, command)
            else:
                assert isinstance(command, Join)
                self._join(command)
        if not self._quiet:
            self._tell()
        if self.machine.status.terminal or self.machine.only_stragglers:
            return False
        self._await_one()
        return True

    def _at(self, due: float, what: Wait | _Running | None) -> None:
        self._tickets += 1  # keeps the heap from comparing what is due at the same time
        heapq.heappush(self._timers, (due, self._tickets, what))

    def _await_one(self) -> None:
        """Wait for an outcome or for the next timer, whichever is first, and feed it to the machine."""
        timeout = max(0.0, self._timers[0][0] - _clock()) if self._timers else None
        try:
            outcome = self._outcomes.get(timeout=timeout)
        except queue.Empty:
            self._timer(heapq.heappop(self._timers)[2])
            return
        if outcome is None:
            self._read_mail()
            return
        running, ok, value, elapsed = outcome
        index = running.call.step.index
        if self._running.get(index) is running:
            del self._running[index]
        if ok:
            self._returned(running.call, running.view, value, elapsed)
        else:
            self._raised(running.call, running.view, value, elapsed)

    def _timer(self, due: Wait | _Running | None) -> None:
        machine, at = self.machine, _clock() + self._epoch
        if due is None:
            assert self.deadline is not None
            cut = [self._running[index] for index in machine.open if index in self._running]
            machine.reach_deadline(self.deadline, at)
            for running in cut:
                self._overdue(running)
        elif isinstance(due, Wait):
            machine.wake(due, at)
        elif self._running.get(due.call.step.index) is due and due.call.step.index in machine.open:
            step = due.call.step
            assert step.timeout is not None
            error = StepTimeoutError(f"step {step.name!r} took longer than its timeout of {step.timeout:g} s")
            self._overdue(due)
            machine.send(StepTimedOut(step.name, due.call.attempt, at, step.timeout, error))

    def _overdue(self, running: _Running) -> None:
        running.cancelled.set()
        self._views.keep(running.call.step, running.view)

    # -- calls --------------------------------------------------------------------------------------------------------

    def _alone(self, call: Call) -> bool:
        """Whether the call may run in this thread: nothing limits its time, and nothing else goes on meanwhile."""
        machine = self.machine
        if not call.compensation and self._views.limits(call.step):
            return False
        return len(machine.open) + len(machine.undoing) + len(machine.waiting) + len(machine.stragglers) == 1

    def _do(self, call: Call) -> None:
        """Execute the step and those that follow it, as long as each ends well at once. Nobody listens meanwhile."""
        machine, view, results, epoch = self.machine, self.context, self.context._results, self._epoch
        note = machine.note
        started = _clock()
        while True:
            step = call.step
            self._inline = call
            _set_call(view, call)
            try:
                value = step.task.execute(view)
            except BaseException as error:
                self._raised(call, view, error, _clock() - started)
                break
            results[step.name] = value
            _set_previous(view, value)
            ended = _clock()
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
        note = machine.note
        chain = machine.downward()
        chain.reverse()
        started = _clock()
        while True:
            step = call.step
            self._inline = call
            _set_call(view, call)
            try:
                step.task.compensate(view)
            except BaseException as error:
                self._raised(call, view, error, _clock() - started)
                break
            ended = _clock()
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
        if self._plain:
            view = self.context
        else:
            view = self._views.for_compensate(step) if call.compensation else self._views.for_execute(step)
        self._inline = call
        _set_call(view, call)
        task = step.task
        started = _clock()
        try:
            value = task.compensate(view) if call.compensation else task.execute(view)  # type: ignore[func-returns-value]
        except BaseException as error:
            self._raised(call, view, error, _clock() - started)
        else:
            self._returned(call, view, value, _clock() - started)
        self._inline = None

    def _spawn(self, call: Call) -> None:
        step = call.step
        view = self._views.for_compensate(step) if call.compensation else self._views.for_execute(step)
        limits: list[float] = []
        if not call.compensation and self._views.limits(step):
            limits.extend(due for due, _, what in self._timers if what is None)
            if step.timeout is not None:
                limits.append(_clock() + step.timeout)
        running = _Running(call, view)
        if step.timeout is not None and not call.compensation:
            self._at(limits[-1], running)
        _set_call(view, call)
        _set_limit(view, (min(limits) + self._epoch if limits else None, running.cancelled))
        self._running[step.index] = running
        threading.Thread(target=self._work, args=(running,), name=f"saga step {step.name}").start()

    def _work(self, running: _Running) -> None:
        call = running.call
        started = _clock()
        try:
            task = call.step.task
            value = (task.compensate if call.compensation else task.execute)(running.view)
        except BaseException as error:
            self._outcomes.put((running, False, error, _clock() - started))
        else:
            self._outcomes.put((running, True, value, _clock() - started))

    def _returned(self, call: Call, view: Context, value: Any, elapsed: float) -> None:
        """Feed to the machine that a call returned."""
        if self.mail:
            self._read_mail()
        step, machine, at = call.step, self.machine, _clock() + self._epoch
        if call.compensation:
            self._send(CompensationSucceeded(step.name, call.attempt, at, elapsed), view)
            return
        if not self._plain:
            view = self._views.take_over(step, view, machine.gave_up_on(step))
        text = ""
        if self.journal is not None:
            try:
                value, text = self.journal.take_result(step.name, view, value)
            except EncodingError as error:
                self._send(StepFailed(step.name, call.attempt, at, elapsed, error, executed=True))
                return
        view._results[step.name] = value
        _set_previous(view, value)
        event = StepSucceeded(step.name, call.attempt, at, elapsed, value)
        if text:
            assert self.journal is not None
            self.journal.attach(event, text)
        machine.send(event)

    def _raised(self, call: Call, view: Context, error: BaseException, elapsed: float) -> None:
        """Feed to the machine that a call raised."""
        if self.mail:
            self._read_mail()
        name, machine, at = call.step.name, self.machine, _clock() + self._epoch
        traceback = error.__traceback__
        if traceback is not None and traceback.tb_next is not None:
            error.__traceback__ = traceback.tb_next  # nobody wants to read about this driver's own frame
        interrupt = not isinstance(error, Exception)
        if interrupt and self.interrupt is None:
            self.interrupt = error
        if not call.compensation:
            if not self._plain:
                self._views.keep(call.step, view)
            self._send(StepFailed(name, call.attempt, at, elapsed, error, interrupt), view)
            return
        self._send(CompensationFailed(name, call.attempt, at, elapsed, error), view)
        if self.on_compensation_failure is not None and call.step.index in machine.unfinished_undo:
            try:
                self.on_compensation_failure(view, name, error)
            except Exception:
                logging.getLogger("saga").exception("the handler of failed compensations raised at step %r", name)

    def _send(self, event: Event, view: Context | None = None) -> None:
        """Give the machine an outcome, with what its call changed in ``view``."""
        if self.journal is not None and view is not None:
            self.journal.attach(event, self.journal.take_changes(view))
        self.machine.send(event)

    def _join(self, command: Join) -> None:
        at = _clock() + self._epoch
        try:
            self._views.join(command.group)
        except MergeConflictError as error:
            self.machine.give_up(error, at)
        else:
            self.machine.send(GroupJoined(command.group.index, at))

    # -- journal, observers and interrupts ----------------------------------------------------------------------------

    def notify(self) -> None:
        """Say, from any thread, that the inbox holds something."""
        self.mail = True
        self._outcomes.put(None)  # wakes the loop where it waits

    def _read_mail(self) -> None:
        if not self.mail or self.journal is None:
            return
        self.mail = False
        try:
            actions = self.journal.read_mail()
        except StorageError as error:
            raise _UnstoredError(error) from error
        for action in actions:
            try:
                self.machine.act(action(_clock() + self._epoch))
            except ValueError as error:
                logging.getLogger("saga").warning("an operator's action on saga %s: %s", self.machine.saga_id, error)

    def _tell(self) -> None:
        """Store the new events, then show them to the observers."""
        if self.journal is not None:
            try:
                self.journal.commit(self.machine)
            except StorageError as error:
                raise _UnstoredError(error) from error
        if self.observers:
            self._publish()

    def _publish(self) -> None:
        events = self.machine.events
        while self._published < len(events):
            event = events[self._published]
            self._published += 1
            for observer in self.observers:
                try:
                    observer(event, self.info)
                except Exception:
                    if id(observer) not in self._reported:
                        self._reported.add(id(observer))
                        logging.getLogger("saga").exception(
                            "observer %r raised on %s of saga %s; the saga goes on, and this is reported once",
                            observer,
                            type(event).__name__,
                            self.machine.saga_id,
                        )

    def _interrupted(self, error: BaseException) -> None:
        """Put things straight after an interrupt that struck this driver itself."""
        if self.interrupt is None:
            self.interrupt = error
        at = _clock() + self._epoch
        old = self.machine
        machine = self.machine = Machine.replay(
            old.plan, old.events, old.saga, old.saga_id, stop_on_compensation_failure=old.stop_on_compensation_failure
        )
        steps, inline = machine.plan.steps, self._inline
        self._inline = None
        for index in sorted(machine.open):
            if index not in self._running:
                machine.send(StepFailed(steps[index].name, machine.attempts.get(index, 1), at, 0.0, error, True))
        machine.give_up(error, at)
        waiting = {what.step.index for _, _, what in self._timers if isinstance(what, Wait)}
        for index in sorted(machine.undoing - waiting - self._running.keys()):
            attempt = machine.undo_attempts.get(index, 1)
            if inline is not None and inline.compensation and inline.step.index == index:
                machine.send(CompensationFailed(steps[index].name, attempt, at, 0.0, error))
            elif not any(c.step.index == index for c in machine.commands if isinstance(c, (Call, Wait))):
                machine.commands.append(Call(steps[index], attempt, True))
