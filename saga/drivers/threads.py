"""The synchronous driver. One loop, in the caller's thread, feeds the machine and does what it commands.

A call runs in the caller's thread where nothing else goes on and nothing limits its time; otherwise in a thread of its
own, whose outcome comes back through a queue. Threads are not daemons: the interpreter does not exit while a step that
outlived its timeout still has to be undone.

An interrupt (Ctrl-C) can strike anywhere, in the middle of the machine too. The events are the truth then: the machine is
made anew from them, and a call that was under way is in doubt.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
from saga.machine import Call, Join, Machine, Wait
from saga.plan import PlannedStep
from saga.task import StepInfo

__all__ = ["Execution"]

_set_step: Final = _Slots.__dict__["_step"].__set__
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
        self.ended = threading.Event()
        self._clock = time.perf_counter
        self._epoch = time.time() - time.perf_counter()
        self._published = 0
        self._reported: set[int] = set()
        self._inline: Call | None = None
        self._running: dict[int, _Running] = {}
        self._outcomes: queue.SimpleQueue[tuple[_Running, bool, Any, float]] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Wait | _Running | None]] = []
        self._tickets = itertools.count()
        self._views: dict[int, Context] = {0: context}
        self._joined: set[int] = set()
        self._own_views: dict[int, Context] = {}  # of calls that did not end well: for their compensation

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the execution is terminal, or nothing is left but stragglers, which a thread then sees to."""
        for _ in self.turns():
            pass

    def turns(self) -> Iterator[None]:
        """Run as :meth:`run` does, and yield after each outcome."""
        while True:
            try:
                if not self._turn():
                    break
                yield
            except BaseException as error:
                self._interrupted(error)
        if self.machine.status.terminal:
            self.ended.set()
        else:
            threading.Thread(target=self._see_to_stragglers, name=f"saga {self.info.saga_id} stragglers").start()

    def leave(self, reason: BaseException) -> None:
        """Give up between two turns, undo, and do not raise ``reason`` as an interrupt."""
        self._interrupted(reason)
        self.run()

    def _see_to_stragglers(self) -> None:
        while not self.machine.status.terminal:
            self._await_one()
            while self._turn(detached=True):
                pass
        self.ended.set()

    def _turn(self, detached: bool = False) -> bool:
        """Do what is commanded, or wait for one outcome or timer. Return whether anything is left to do here."""
        machine = self.machine
        if not machine.events:
            machine.start(self._clock() + self._epoch)
            if self.deadline is not None:
                heapq.heappush(self._timers, (self._clock() + self.deadline, next(self._tickets), None))
        while machine.commands:
            if self.observers:
                self._publish()
            command = machine.commands.pop(0)
            if type(command) is Call:
                if not self._call(command):
                    continue
                if machine.commands and type(machine.commands[0]) is Join:
                    continue
                return True
            self._obey(command)
        if self.observers:
            self._publish()
        if machine.status.terminal or machine.only_stragglers:
            return False
        self._await_one()
        return True

    def _obey(self, command: Wait | Join | Call) -> None:
        if isinstance(command, Wait):
            heapq.heappush(self._timers, (self._clock() + command.delay, next(self._tickets), command))
        elif isinstance(command, Join):
            self._join(command)

    def _await_one(self) -> None:
        """Wait for an outcome or for the next timer, whichever is first, and feed it to the machine."""
        timeout = max(0.0, self._timers[0][0] - self._clock()) if self._timers else None
        try:
            running, ok, value, elapsed = self._outcomes.get(timeout=timeout)
        except queue.Empty:
            self._timer(heapq.heappop(self._timers)[2])
            return
        self._ended(running.call, running.view, ok, value, elapsed, running)

    def _timer(self, due: Wait | _Running | None) -> None:
        machine, at = self.machine, self._clock() + self._epoch
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

    def _call(self, call: Call) -> bool:
        """Make a call: here, and return True with its outcome fed to the machine; or in a thread, and return False."""
        step, machine = call.step, self.machine
        limited = not call.compensation and (step.timeout is not None or self.deadline is not None)
        busy = len(machine.open) + len(machine.undoing) + len(machine.waiting) + len(machine.stragglers)
        if limited or busy > 1:
            self._spawn(call, limited)
            return False
        view = self._view(step, call.compensation)
        self._inline = call
        _set_step(view, StepInfo(machine.saga_id, step.name, call.attempt))
        started = self._clock()
        try:
            value = (step.task.compensate if call.compensation else step.task.execute)(view)
        except BaseException as error:
            self._ended(call, view, False, error, self._clock() - started)
        else:
            self._ended(call, view, True, value, self._clock() - started)
        self._inline = None
        return True

    def _spawn(self, call: Call, limited: bool) -> None:
        step = call.step
        view = self._view(step, call.compensation)
        if limited:  # it may outlive its timeout, and must not touch what others see then
            view = view._fork()
        running = _Running(call, view)
        limits = []
        if limited:
            now = self._clock()
            if step.timeout is not None:
                limits.append(now + step.timeout)
                heapq.heappush(self._timers, (now + step.timeout, next(self._tickets), running))
            limits.extend(due for due, _, what in self._timers if what is None)
        deadline = min(limits) + self._epoch if limits else None
        _set_step(view, StepInfo(self.machine.saga_id, step.name, call.attempt, deadline, running.cancelled))
        thread = threading.Thread(target=self._work, args=(running,), name=f"saga step {step.name}")
        self._running[step.index] = running
        thread.start()

    def _work(self, running: _Running) -> None:
        call = running.call
        started = self._clock()
        try:
            task = call.step.task
            value = (task.compensate if call.compensation else task.execute)(running.view)
        except BaseException as error:
            self._outcomes.put((running, False, error, self._clock() - started))
        else:
            self._outcomes.put((running, True, value, self._clock() - started))

    def _ended(self, call: Call, view: Context, ok: bool, value: Any, elapsed: float, running: _Running | None = None) -> None:
        """Feed a call's outcome to the machine."""
        step, at = call.step, self._clock() + self._epoch
        if running is not None and self._running.get(step.index) is running:
            del self._running[step.index]
        if not ok and not isinstance(value, Exception) and self.interrupt is None:
            self.interrupt = value
        if call.compensation:
            self._compensation_ended(call, view, ok, value, elapsed, at)
        elif ok:
            self._succeeded(call, view, value, elapsed, at)
        else:
            self._own_views[step.index] = view
            doubt = not isinstance(value, Exception)
            self.machine.send(StepFailed(step.name, call.attempt, at, elapsed, value, doubt))

    def _succeeded(self, call: Call, view: Context, value: Any, elapsed: float, at: float) -> None:
        step, machine = call.step, self.machine
        view._results[step.name] = value
        index = step.index
        given_up = index in machine.stragglers and (index in machine.skipped or machine.status is not Status.RUNNING)
        own = self._view(step, False)
        if own is not view and not given_up:  # a given-up straggler's changes are for its own compensation alone
            own._merge([(step.name, view)])
            self._own_views.pop(index, None)
            view = own
        _set_previous(view, value)
        machine.send(StepSucceeded(step.name, call.attempt, at, elapsed, value))

    def _compensation_ended(self, call: Call, view: Context, ok: bool, value: Any, elapsed: float, at: float) -> None:
        name, machine = call.step.name, self.machine
        if ok:
            machine.send(CompensationSucceeded(name, call.attempt, at, elapsed))
            return
        machine.send(CompensationFailed(name, call.attempt, at, elapsed, value))
        if self.on_compensation_failure is not None and call.step.index in machine.unfinished_undo:
            try:
                self.on_compensation_failure(view, name, value)
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
        group, at = command.group, self._clock() + self._epoch
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
                            self.info.saga_id,
                        )

    def _interrupted(self, error: BaseException) -> None:
        """Put things straight after an interrupt that struck this driver itself."""
        if self.interrupt is None:
            self.interrupt = error
        at = self._clock() + self._epoch
        old = self.machine
        machine = self.machine = Machine.replay(
            old.plan, old.events, old.saga, old.saga_id, stop_on_compensation_failure=old.stop_on_compensation_failure
        )
        steps, inline = machine.plan.steps, self._inline
        self._inline = None
        for index in sorted(machine.open):
            if index not in self._running:
                machine.send(StepFailed(steps[index].name, machine.attempts[index], at, 0.0, error, True))
        machine.give_up(error, at)
        waiting = {what.step.index for _, _, what in self._timers if isinstance(what, Wait)}
        for index in sorted(machine.undoing - waiting - self._running.keys()):
            attempt = machine.undo_attempts[index]
            if inline is not None and inline.compensation and inline.step.index == index:
                machine.send(CompensationFailed(steps[index].name, attempt, at, 0.0, error))
            elif not any(c.step.index == index for c in machine.commands if isinstance(c, (Call, Wait))):
                machine.commands.append(Call(steps[index], attempt, True))
