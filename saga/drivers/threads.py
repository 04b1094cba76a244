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
from typing import Any, Final

from saga.context import Context, _Slots
from saga.errors import MergeConflictError, StepTimeoutError
from saga.events import (
    CompensationFailed,
    CompensationSucceeded,
    Event,
    GroupJoined,
    Status,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
)
from saga.machine import Join, Machine, Wait
from saga.plan import Call, PlannedStep

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


class Execution:
    """One run of a saga.

    :param machine: a machine that has not started.
    :param context: the execution's own view of the context.
    :param observers: called with each event and ``info``.
    :param deadline: seconds from the start after which the undo begins.
    :param on_compensation_failure: called with context, step name and error when a compensation failed for good.
    """

    def __init__(
        self,
        machine: Machine,
        context: Context,
        info: Any,
        observers: Sequence[Callable[[Event, Any], None]],
        deadline: float | None,
        on_compensation_failure: Callable[[Context, str, BaseException], None] | None,
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
        self._quiet = self._plain and not observers
        self._inline: Call | None = None
        self._timers: list[tuple[float, int, Wait | _Running | None]] = []
        self._tickets = 0
        if observers:
            self._published = 0
            self._reported: set[int] = set()
        self._running: dict[int, _Running] = {}
        self._outcomes: queue.SimpleQueue[tuple[_Running, bool, Any, float]] = queue.SimpleQueue()
        if not self._plain:
            self._views: dict[int, Context] = {0: context}
            self._joined: set[int] = set()
            self._own_views: dict[int, Context] = {}  # of calls that did not end well: for their compensation

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the execution is terminal, or nothing is left but stragglers, which a thread then sees to."""
        while True:
            try:
                while self._turn():
                    pass
                break
            except BaseException as error:
                self._interrupted(error)
        if not self.machine.status.terminal:
            self.ended = threading.Event()
            threading.Thread(target=self._see_to_stragglers, name=f"saga {self.machine.saga_id} stragglers").start()

    def run_one(self) -> bool:
        """Run until a call has ended or a timer was due. Return whether anything is left to do; :meth:`run` ends it."""
        try:
            return self._turn(one=True)
        except BaseException as error:
            self._interrupted(error)
            return True

    def leave(self, reason: BaseException) -> None:
        """Give up between two calls of :meth:`run_one`, and undo."""
        self._interrupted(reason)
        self.run()

    def _see_to_stragglers(self) -> None:
        while not self.machine.status.terminal:
            self._await_one()
            while self._turn():
                pass
        assert self.ended is not None
        self.ended.set()

    def _turn(self, one: bool = False) -> bool:
        """Do all that is commanded, then wait for one outcome or timer. Return whether anything is left to do here.

        :param one: return after one call, whoever made it.
        """
        if not self.machine.begun:
            self.machine.start(_clock() + self._epoch)
            if self.deadline is not None:
                self._at(_clock() + self.deadline, None)
        commands = self.machine.commands
        while commands:
            if self.observers:
                self._publish()
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
        if self.observers:
            self._publish()
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
            running, ok, value, elapsed = self._outcomes.get(timeout=timeout)
        except queue.Empty:
            self._timer(heapq.heappop(self._timers)[2])
            return
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
        self._own_views[running.call.step.index] = running.view

    # -- calls --------------------------------------------------------------------------------------------------------

    def _alone(self, call: Call) -> bool:
        """Whether the call may run in this thread: nothing limits its time, and nothing else goes on meanwhile."""
        machine = self.machine
        if not call.compensation and (call.step.timeout is not None or self.deadline is not None):
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
        view = self.context if self._plain else self._view(step, call.compensation)
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
        view = self._view(step, call.compensation)
        limits: list[float] = []
        if not call.compensation and (step.timeout is not None or self.deadline is not None):
            view = view._fork()  # it may outlive its timeout, and must not touch what others see then
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
        step, machine, at = call.step, self.machine, _clock() + self._epoch
        if call.compensation:
            machine.send(CompensationSucceeded(step.name, call.attempt, at, elapsed))
            return
        view._results[step.name] = value
        if not self._plain:
            view = self._take_over(step, view)
        _set_previous(view, value)
        machine.send(StepSucceeded(step.name, call.attempt, at, elapsed, value))

    def _take_over(self, step: PlannedStep, view: Context) -> Context:
        """Merge the view of a call that ended well back to where it was forked from. Return the view that holds now."""
        machine, index = self.machine, step.index
        own = self._view(step, False)
        given_up = index in machine.stragglers and (index in machine.skipped or machine.status is not Status.RUNNING)
        if own is view or given_up:  # a given-up straggler's changes are for its own compensation alone
            return view
        own._merge([(step.name, view)])
        self._own_views.pop(index, None)
        return own

    def _raised(self, call: Call, view: Context, error: BaseException, elapsed: float) -> None:
        """Feed to the machine that a call raised."""
        name, machine, at = call.step.name, self.machine, _clock() + self._epoch
        traceback = error.__traceback__
        if traceback is not None and traceback.tb_next is not None:
            error.__traceback__ = traceback.tb_next  # nobody wants to read about this driver's own frame
        interrupt = not isinstance(error, Exception)
        if interrupt and self.interrupt is None:
            self.interrupt = error
        if not call.compensation:
            if not self._plain:
                self._own_views[call.step.index] = view
            machine.send(StepFailed(name, call.attempt, at, elapsed, error, interrupt))
            return
        machine.send(CompensationFailed(name, call.attempt, at, elapsed, error))
        if self.on_compensation_failure is not None and call.step.index in machine.unfinished_undo:
            try:
                self.on_compensation_failure(view, name, error)
            except Exception:
                logging.getLogger("saga").exception("the handler of failed compensations raised at step %r", name)

    # -- the context --------------------------------------------------------------------------------------------------

    def _view(self, step: PlannedStep, compensation: bool) -> Context:
        if compensation and step.index in self._own_views:
            return self._own_views[step.index]
        return self._scope(step.scope) if step.scope else self.context

    def _scope(self, scope: int) -> Context:
        parents = self.machine.plan.parents
        while scope in self._joined:
            parent = parents[scope]
            assert parent is not None
            scope = parent
        if scope not in self._views:
            parent = parents[scope]
            assert parent is not None
            self._views[scope] = self._scope(parent)._fork()
        return self._views[scope]

    def _join(self, command: Join) -> None:
        group, at = command.group, _clock() + self._epoch
        parent = self._scope(group.scope)
        views = [self._views[scope] for scope in group.scopes]
        try:
            parent._merge(zip(group.names, views, strict=True))
        except MergeConflictError as error:
            self.machine.give_up(error, at)
            return
        self._joined.update(group.scopes)
        _set_previous(parent, tuple(view._previous for view in views))
        self.machine.send(GroupJoined(group.index, at))

    # -- observers and interrupts -------------------------------------------------------------------------------------

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
