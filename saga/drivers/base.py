"""What drivers share: outcomes become events, views and timers are kept, threads are started. Nothing here waits.

A driver has the loop. It has the machine's events stored, does what the machine commands, and feeds back what came of it.

An interrupt (Ctrl-C, a cancellation) can strike anywhere, in the middle of the machine too. The events are the truth then:
the machine is made anew from them, and a call that was under way is in doubt.
"""

from __future__ import annotations

import contextvars
import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from saga.context import Context, set_run
from saga.errors import (
    ActionRefusedError,
    EncodingError,
    MergeConflictError,
    SagaDefinitionError,
    StepTimeoutError,
    StorageError,
)
from saga.events import (
    COMPENSATING,
    CompensationFailed,
    CompensationSucceeded,
    Event,
    GroupJoined,
    OperatorActed,
    SignalReceived,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
)
from saga.machine import Join, Machine, Pass, Pause, Wait
from saga.plan import Call, PlannedStep
from saga.views import Views

if TYPE_CHECKING:
    from saga.journal import Journal

LONGEST_WAIT: Final = 3600.0
"""Seconds a loop waits at most before it looks at its timers again: what it waits with cannot wait for years."""

_MAKE_ASYNC: Final = "make the function that calls it an `async def` which awaits it"
_PARK_AFTER: Final = 1.0
_FOREVER: Final = 365 * 24 * 3600.0

__all__ = ["LONGEST_WAIT", "Driver", "Running", "UnstoredError", "clock", "set_run"]

clock: Final = time.perf_counter


class Running:
    """A call that is under way beside the loop."""

    __slots__ = ("call", "cancelled", "outcome", "overdue", "task", "turn", "view")

    def __init__(self, call: Call, view: Context) -> None:
        self.call = call
        self.view = view
        self.cancelled = threading.Event()
        self.turn = threading.Lock()  # taken by the thread before it makes the call, or by who prevents it
        self.outcome: tuple[bool, Any, float] | None = None  # whether it returned, what it returned or raised, seconds
        self.overdue: Exception | None = None  # why it was cancelled: its timeout or the deadline has come
        self.task: Any = None  # the asyncio task, where it is one


class UnstoredError(BaseException):
    """The journal could not be written: unlike an interrupt, it stops the execution without an undo."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        if not isinstance(error, StorageError):  # a fault of the store: what follows from it could not be stored either
            fault, error = error, StorageError(f"the store failed: {error!r}")
            error.__cause__ = fault
        self.error = error


class Driver:
    """One run of a saga.

    :param machine: a machine, started or not.
    :param context: the execution's own view of the context.
    :param info: what observers get with each event.
    :param observers: called with each event, once it is stored where there is a journal, and ``info``.
    :param deadline: seconds from the start after which the undo begins.
    :param on_compensation_failure: called with context, step name and error when a compensation failed for good.
    :param journal: where events are stored before anything they command is done.
    :param views: the views of an execution that another process began.
    :ivar ended: set when an execution that outlived its ``run()`` has ended; ``None`` where none has.
    :ivar left: what was stored and known when it outlived its ``run()``: its machine goes on elsewhere from there.
    :ivar unstored: what ended it too early then.
    :ivar holds_back: a synchronous driver stores and tells the end only when ``run()`` is called again without this.
    :ivar interrupt: the first interrupt that struck, to be raised again in the end.
    """

    # What most executions never have is kept here until they do.
    interrupt: BaseException | None = None
    ended: threading.Event | None = None
    left: Machine | None = None
    unstored: StorageError | None = None
    mail = False  # set from outside: the journal's inbox holds something
    park = False  # leave an execution that waits to the store: a recovery goes on with others meanwhile
    parked = False
    holds_back = False
    abandoned = False  # left to a recovery, as it could not be stored
    _inline: Call | None = None  # the call that the loop itself makes
    _tickets = 0

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
        self._run = context._run
        self.info = info
        self.observers = observers
        self.deadline = deadline
        self.on_compensation_failure = on_compensation_failure
        self._epoch = time.time() - clock()
        self._plain = machine.plan.plain and deadline is None
        self._quiet = self._plain and not observers and journal is None
        self.journal = journal
        self._timed = deadline is None
        self._timers: list[tuple[float, int, Wait | Pause | Running | None]] = []
        if observers:
            # What another process stored before it died is no news.
            self._published = journal.written if journal is not None and views is not None else 0
            self._reported: set[int] = set()
        self._running: dict[int, Running] = {}
        self._arrived: deque[Running] = deque()  # those that have ended, until the machine has been told
        if not self._plain:
            self._views = views or Views(machine.plan, context, deadline is not None)

    @property
    def held_back(self) -> bool:
        """Whether it has ended and the end is not to be stored yet."""
        return self.holds_back and self.machine.status.terminal

    def add(self, entry: tuple[PlannedStep, ...]) -> None:
        """Start what an open plan has grown by."""
        self.machine.add(entry, clock() + self._epoch)

    def finish(self) -> None:
        """Complete an execution whose plan grows no more."""
        self.machine.finish(clock() + self._epoch)

    def give_up(self, error: BaseException) -> None:
        """Undo an execution at rest."""
        self.machine.give_up(error, clock() + self._epoch)

    # -- commands and timers ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start the machine and the deadline's timer, where that is not done yet."""
        if not self.machine.begun:
            self.machine.start(clock() + self._epoch)
        if not self._timed:
            assert self.deadline is not None
            self._at(self.machine.events[0].at + self.deadline - self._epoch, None)
            self._timed = True

    def _alone(self, call: Call) -> bool:
        """Whether the call may run in this thread: nothing limits its time, and nothing else goes on meanwhile."""
        machine = self.machine
        if not call.compensation and self._views.limits(call.step):
            return False
        return len(machine.open) + len(machine.undoing) + len(machine.waiting) + len(machine.stragglers) == 1

    def _runs_on(self, call: Call) -> bool:
        """Whether the call may be the first of many in a row: see ``_do`` and ``_undo``."""
        return call.attempt == 1 and (not call.compensation or self.machine.status is COMPENSATING)

    def _view(self, call: Call) -> Context:
        if self._plain:
            return self.context
        if not call.compensation:
            return self._views.for_execute(call.step)
        view = self._views.for_compensate(call.step)
        view._run.limit = (None, None)  # that of its execute is over
        return view

    def _start_running(self, call: Call) -> Running:
        """Make ready a call that is to run beside the loop, and set its timer."""
        step = call.step
        view = self._view(call)
        running = Running(call, view._beside() if call.compensation else view)  # others may work on the view meanwhile
        limits: list[float] = []
        if not (self._plain or call.compensation) and self._views.limits(step):
            limits.extend(due for due, _, what in self._timers if what is None)
            if step.timeout is not None:
                limits.append(clock() + step.timeout)
                self._at(limits[-1], running)
        run = running.view._run
        run.call = call
        run.limit = (min(limits) + self._epoch if limits else None, running.cancelled)
        self._running[step.index] = running
        return running

    def _start_thread(self, running: Running) -> None:
        """Make a call in a thread of its own, which is no daemon: what it does may still have to be undone."""
        name = f"saga step {running.call.step.name}"
        threading.Thread(target=contextvars.copy_context().run, args=(self._work, running), name=name).start()

    def _work(self, running: Running) -> None:
        if not running.turn.acquire(blocking=False):
            return  # an interrupt struck before this thread got its turn
        call, run = running.call, running.view._run
        started = clock()
        try:
            task = call.step.task
            ok, value = True, (task.compensate if call.compensation else task.execute)(running.view)
        except BaseException as error:
            ok, value = False, error
        set_run(running.view, run)
        self._arrive(running, ok, value, clock() - started)
        del value  # as in _call
        self._wake()

    def _at(self, due: float, what: Wait | Pause | Running | None) -> None:
        self._tickets += 1  # keeps the heap from comparing what is due at the same time
        heapq.heappush(self._timers, (due, self._tickets, what))

    def _timer(self, due: Wait | Pause | Running | None) -> None:
        machine, at = self.machine, clock() + self._epoch
        if due is None:
            assert self.deadline is not None
            cut = [self._running[index] for index in machine.open if index in self._running]
            # What can be cancelled has timed out when it has ended.
            error = machine.reach_timeout(self.deadline, at, {one.call.step.index for one in cut if one.task is not None})
            if error is not None:
                for running in cut:
                    self._overdue(running, error)
        elif isinstance(due, Wait):
            machine.wake(due, at)
        elif isinstance(due, Pause):
            machine.end_pause(due, at)
        elif self._running.get(due.call.step.index) is due and due.call.step.index in machine.open:
            step = due.call.step
            assert step.timeout is not None
            late = StepTimeoutError(f"step {step.name!r} took longer than its timeout of {step.timeout:g} s")
            self._overdue(due, late)
            if due.task is None:  # what can be cancelled has timed out when it has ended
                machine.send(StepTimedOut(step.name, due.call.attempt, at, step.timeout, late))

    def _overdue(self, running: Running, error: Exception) -> None:
        """Tell a call that its time is up: ``error`` says why."""
        running.cancelled.set()
        self._views.keep(running.call.step, running.view)
        if running.task is not None and running.overdue is None:  # once: it may be cleaning up
            running.overdue = error
            running.task.cancel()

    def _pass(self, command: Pass) -> None:
        """End a step that waited, as a call that returned the value."""
        step, at = command.step, clock() + self._epoch
        if step.index in self.machine.open:
            elapsed = at - self.machine.started_at(step.name)
            self._returned(step.first, self._views.of(step), command.value, elapsed)

    def _may_park(self) -> float | None:
        """Return the seconds for which there is nothing to do here, where that is long enough for others to use.

        Where there is a journal: others find the execution there.
        """
        if self.machine.halted:  # nothing is undone any more, so a recovery goes on; with a block nobody can
            return 0.0 if not self.machine.plan.open else None
        if not self.park or self._running or self.machine.status.terminal or self.mail:
            return None
        delay = self._timers[0][0] - clock() if self._timers else _FOREVER
        return delay if delay > _PARK_AFTER else None

    def _arrive(self, running: Running, ok: bool, value: Any, elapsed: float) -> None:
        """Say, from any thread, that a call beside the loop has ended."""
        running.outcome = (ok, value, elapsed)
        self._arrived.append(running)

    def _take_arrived(self) -> None:
        """Feed to the machine how the first call that has arrived ended.

        It is forgotten only when the machine knows: an interrupt may strike anywhere between.
        """
        running = self._arrived[0]
        if not self._is_told(running):
            self._ended(running)
            if self._running.get(running.call.step.index) is running:
                del self._running[running.call.step.index]
        self._arrived.popleft()
        running.outcome = (True, None, 0.0)  # an error's traceback knows the thread's frame, and that knows this

    def _is_told(self, running: Running) -> bool:
        """Whether the machine knows how the call ended."""
        machine, call = self.machine, running.call
        index = call.step.index
        if self._running.get(index) is not running:
            return True
        if call.compensation:
            waits = index in machine.undo_waiting
            return index not in machine.undoing or waits or machine.undo_attempts.get(index, 1) != call.attempt
        under_way = index in machine.open or index in machine.stragglers
        return not under_way or machine.attempts.get(index, 1) != call.attempt

    def _ended(self, running: Running) -> None:
        call = running.call
        assert running.outcome is not None
        ok, value, elapsed = running.outcome
        if ok:
            self._returned(call, running.view, value, elapsed)
        elif running.overdue is not None and call.step.index in self.machine.open:
            at = clock() + self._epoch
            self._send(StepTimedOut(call.step.name, call.attempt, at, elapsed, running.overdue, running=False), running.view)
        else:
            self._raised(call, running.view, value, elapsed)

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def _returned(self, call: Call, view: Context, value: Any, elapsed: float) -> None:
        """Feed to the machine that a call returned."""
        step, machine, at = call.step, self.machine, clock() + self._epoch
        if type(value) is CoroutineType:
            value.close()
            unawaited = SagaDefinitionError(f"step {step.name!r} returned a coroutine, which nobody awaits: {_MAKE_ASYNC}")
            if call.compensation:
                self._raised(call, view, unawaited, elapsed)
            else:  # what it did besides is not known
                if not self._plain:
                    self._views.keep(step, view)
                self._send(StepFailed(step.name, call.attempt, at, elapsed, unawaited, executed=True), view)
            return
        if call.compensation:
            self._send(CompensationSucceeded(step.name, call.attempt, at, elapsed), view)
            return
        if not self._plain:
            view = self._views.take_over(step, view, machine.gave_up_on(step))
        if type(value) is type(view):
            value = view._become(value)
        text = ""
        if self.journal is not None:
            try:
                value, text = self.journal.take_result(step.name, view, value)
            except EncodingError as error:
                self._send(StepFailed(step.name, call.attempt, at, elapsed, error, executed=True))
                return
        view._run.results[step.name] = value
        view._run.previous = value
        event = StepSucceeded(step.name, call.attempt, at, elapsed, value)
        if text:
            assert self.journal is not None
            self.journal.attach(event, text)
        machine.send(event)

    def _raised(self, call: Call, view: Context, error: BaseException, elapsed: float) -> None:
        """Feed to the machine that a call raised."""
        name, machine, at = call.step.name, self.machine, clock() + self._epoch
        traceback = error.__traceback__
        if traceback is not None and traceback.tb_next is not None:
            error.__traceback__ = traceback.tb_next  # nobody wants to read about this driver's own frame
        interrupt = not isinstance(error, Exception)
        if interrupt:
            if self.interrupt is None:
                self.interrupt = error
            if call.compensation and _struck_here(error):
                machine.commands.insert(0, call)  # the compensation itself was not reached, or had returned
                return
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
        at = clock() + self._epoch
        try:
            self._views.join(command.group)
        except MergeConflictError as error:
            self.machine.give_up(error, at)
        else:
            self.machine.send(GroupJoined(command.group.index, at))

    # -- observers, operators and interrupts --------------------------------------------------------------------------

    def notify(self) -> None:
        """Say, from any thread, that the inbox holds something."""
        self.mail = True
        self._wake()

    def _wake(self) -> None:
        """Make the loop go on, where it waits for an outcome or a message."""
        raise NotImplementedError

    def _obey(self, messages: Sequence[Callable[[float], OperatorActed | SignalReceived]]) -> None:
        """Give the machine what came from outside."""
        for message in messages:
            event = message(clock() + self._epoch)
            if isinstance(event, SignalReceived):
                self.machine.receive(event)
                continue
            try:
                self.machine.act(event)
            except ActionRefusedError as error:
                logging.getLogger("saga").warning("an operator's action on saga %s: %s", self.machine.saga_id, error)

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

    def _call_off(self) -> None:
        """Let no call begin that has not begun yet in its thread."""
        for index, running in list(self._running.items()):
            if running.outcome is None and running.task is None and running.turn.acquire(blocking=False):
                del self._running[index]

    def _replayed(self) -> Machine:
        """Return a machine made anew from the events."""
        old = self.machine
        return Machine.replay(
            old.plan, old.events, old.saga, old.saga_id, stop_on_compensation_failure=old.stop_on_compensation_failure
        )

    def _interrupted(self, error: BaseException) -> None:
        """Put things straight after an interrupt that struck this driver itself."""
        if self.interrupt is None:
            self.interrupt = error
        at = clock() + self._epoch
        machine = self.machine = self._replayed()
        steps, inline = machine.plan.steps, self._inline
        for index, running in list(self._running.items()):
            if self._is_told(running) or (
                running.outcome is None and running.task is None and running.turn.acquire(blocking=False)
            ):
                del self._running[index]
        called = inline.step.index if inline is not None and not inline.compensation else None
        lost = sorted(index for index in machine.open - self._running.keys() if steps[index].pause is None)
        for index in [index for index in lost if index == called]:
            machine.send(StepFailed(steps[index].name, machine.attempts.get(index, 1), at, 0.0, error, True))
        machine.give_up(error, at)
        for index in [index for index in lost if index != called]:  # about to be called, and now never
            machine.send(StepFailed(steps[index].name, machine.attempts.get(index, 1), at, 0.0, error))
        waiting = {what.step.index for _, _, what in self._timers if isinstance(what, Wait)}
        for index in sorted(machine.undoing - waiting - self._running.keys()):
            attempt = machine.undo_attempts.get(index, 1)
            scheduled = machine.undo_waiting.get(index)
            if scheduled is not None:
                left = max(0.0, scheduled.at + scheduled.delay - at)
                machine.commands.append(Wait(steps[index], scheduled.attempt, left, True))
            elif (
                inline is not None
                and inline.compensation
                and inline.step.index == index
                and (isinstance(error, Exception) or not _struck_here(error))  # a fault that would only come again
            ):
                machine.send(CompensationFailed(steps[index].name, attempt, at, 0.0, error))
            elif not any(c.step.index == index for c in machine.commands if isinstance(c, (Call, Wait))):
                machine.commands.append(Call(steps[index], attempt, True))
        self._inline = None


def _struck_here(error: BaseException) -> bool:
    """Whether an interrupt struck in this package's own lines, not in the user's."""
    trace = error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_globals.get("__name__", "").startswith("saga."):
            return False
        trace = trace.tb_next
    return True
