"""One process's life, simulated: a driver on a clock of its own, with no thread, where faults strike its calls.

A call that would run in a thread or task of its own waits here until it is chosen; then it is made, to its end, and what came
of it arrives. Time passes only where nothing else can happen. So a history is the same each time.

What the two drivers share is said here, as coroutines; those of the synchronous one never wait. Each of the two lives in
:mod:`saga.testing.processes`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from saga.awaitables import is_awaitable
from saga.context import Context
from saga.drivers.base import Driver
from saga.drivers.beside import CallBeside
from saga.drivers.calls import Made, awaited, make
from saga.drivers.interrupts import cuts_short
from saga.machine import Call
from saga.machine.commands import COMPENSATE, EXECUTE
from saga.testing.awaits import with_faults
from saga.testing.faults import (
    AT_AWAIT,
    NEVER_RUN,
    OF_STORE,
    ORDER,
    STORE,
    STORED,
    AnswerLostError,
    Died,
    InjectedError,
    Kind,
    OddError,
    kinds_at,
)
from saga.testing.loops import NeverEndsError

if TYPE_CHECKING:
    from saga.testing.histories import History


__all__ = ["Process"]

T = TypeVar("T")

_FAILS = frozenset({Kind.FAILS, Kind.FAILS_FOR_GOOD, Kind.UNDO_FAILS, Kind.UNDO_FAILS_FOR_GOOD})
_FAILS_ODDLY = frozenset({Kind.FAILS_ODDLY, Kind.UNDO_FAILS_ODDLY})
_DIES_BEFORE = frozenset({Kind.DIES_BEFORE, Kind.DIES_BEFORE_UNDO})
_DIES_AFTER = frozenset({Kind.DIES_AFTER, Kind.DIES_AFTER_UNDO, Kind.DIES_IN_VERIFY})
_LATE, _HANGS = frozenset({Kind.LATE, Kind.UNDO_LATE, Kind.UNDO_OVERDUE}), frozenset({Kind.HANGS, Kind.UNDO_HANGS})
_LOSES = frozenset({Kind.ANSWER_LOST, Kind.UNDO_ANSWER_LOST})
_STORE_TROUBLES = {
    Kind.STORE_FAILS: "the store fails",
    Kind.STORE_ANSWER_LOST: "the store has stored, and fails",
    Kind.STORE_GONE_BEFORE: "the store fails, and all that follows",
    Kind.STORE_GONE_AFTER: "the store has stored, and fails, and all that follows",
    Kind.STORE_SLOW: "the store takes until the saga's timeout is over",
}


class Process(Driver):
    """What one process does of an execution: what its driver is built on.

    :param history: what it is part of; the others as :class:`~saga.drivers.base.Driver`'s.
    :ivar dead: it has died.
    :ivar stalled: it waits for what never comes.
    """

    dead = False
    stalled = False

    def __init__(self, history: History, *args: Any) -> None:
        self.history = history
        self.clock = history.now
        super().__init__(*args)
        self._epoch = 0.0
        self.surroundings = cast(Any, self)  # which makes the calls
        self._pending: list[CallBeside] = []  # they run, and may end in any order
        self.late: list[CallBeside] = []
        self._hung: list[CallBeside] = []
        self._cut: list[CallBeside] = []  # those that wait for what never comes
        self._decided: dict[int, Kind | None] = {}  # what strikes a call that has been chosen, by its step's index
        self._rings = False  # the first timer is due
        self._called = False  # since something was stored last
        self._transacted = False  # ... and it was in a transaction, in which its end is stored

    def now(self) -> float:
        return self.history.time

    def live(self) -> None:
        """Run until the execution has ended or parked, or the process is dead or waits in vain.

        :raises StorageError: something could not be stored.
        """
        raise NotImplementedError

    @property
    def over(self) -> bool:
        """Whether nothing more happens here."""
        return self.dead or self.stalled or self.parked or self.abandoned or self.machine.ended

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """Have something done that may run coroutines, and return what it comes to."""
        raise NotImplementedError

    async def mailed(self) -> None:
        """Read the mail, where there is any."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Nothing waits elsewhere."""

    def _series(self, call: Call) -> tuple[()]:
        return ()

    # -- calls --------------------------------------------------------------------------------------------------------

    def make(self, call: Call, method: Any, view: Context) -> Any:
        """Make a call, with what strikes it."""
        index = call.step.index
        fault = self._decided.pop(index) if index in self._decided else self.history.at_call(self, call, view)
        return self.history.make(self, call, method, view, fault)

    async def make_async(self, call: Call, method: Any, view: Context) -> Any:
        """As :meth:`make`, for a driver that awaits it."""
        return await self.elsewhere(partial(self.make, call, method, view))

    def struck(self, call: Call, method: Any, view: Context, fault: Kind | None) -> Any:
        """Make a call that a fault strikes; without one, just make it."""
        history = self.history
        if fault is None:
            return history.made(self, call, method, view)
        if fault in _DIES_BEFORE:
            raise Died
        if fault in _FAILS:
            raise InjectedError("a fault that was put here")
        if fault in _FAILS_ODDLY:
            raise OddError
        if fault in NEVER_RUN:
            left = _never_run()
            history.keep(left)
            return left
        if fault is Kind.UNDO_OVERDUE:
            self.let_time_be_over()
        if fault is Kind.VERIFY_FAILS:
            raise AnswerLostError("a fault that was put here")
        if fault is Kind.CANCELLED or fault is Kind.PAUSED:
            history.act(self, "cancel" if fault is Kind.CANCELLED else "pause")
        if fault is Kind.STALLS:
            history.others_go_on()
        value = history.made(self, call, method, view)
        if fault in _LOSES:
            raise AnswerLostError("a fault has lost the answer")
        if fault in _DIES_AFTER:
            raise Died
        if fault is Kind.INTERRUPTED:
            raise KeyboardInterrupt
        if fault is Kind.SECOND_OWNER:
            history.others_go_on()
        return value

    def complete(self, call: Call, value: Any) -> Any:
        """Return what a value comes to: an awaitable is awaited, in an event loop whose time is its own."""
        if not (self.awaits and is_awaitable(value)):
            return value
        history, work = self.history, awaited(value)
        strikes = not history.setting.kinds.isdisjoint(AT_AWAIT) and not call.step.transactional
        return history.loop.run(with_faults(history, call, work) if strikes else work)

    def _take(self, made: Made, view: Context) -> None:
        call, returned, value, elapsed = _cleared(made)
        if type(value) is NeverEndsError:
            raise self.history.never_ends(call)
        self._called = True
        if returned:
            self.returned(call, view, value, elapsed, self.now())
        elif call.phase is EXECUTE or not cuts_short(self, call, value):
            self.raised(call, view, value, elapsed, self.now())
        self.inline = None

    def time_is_up(self) -> float | None:
        """Return when the saga's timeout will be over; ``None``: it has none, or has come to its end."""
        return next((due for due, _, what in self._timers if what is None), None)

    def let_time_be_over(self) -> None:
        """Let time pass until the saga's timeout is over."""
        due = self.time_is_up()
        if due is not None:
            self.history.pass_until(due)

    def _start_thread(self, beside: CallBeside) -> None:
        deadline = beside.view.__binding__.deadline
        if beside.call.phase is EXECUTE and deadline is not None and deadline <= self.now():
            self.history.breaks("nothing begins when its time is over", f"execute of {beside.call.step.name} was begun")
        if beside.call.step.is_async(beside.call.phase):
            beside.task = _Cancelled()
        self._pending.append(beside)

    async def come_by_one(self) -> None:
        """Come by an outcome, or to a timer, whichever is next."""
        if not self._arrived:
            if self.mail:
                await self.mailed()
                return
            if not await self.elsewhere(self._bring_about):
                if self._rings:
                    await self._ring()
                return
        await self.mailed()
        self._called = True
        self._take_arrived()

    def _bring_about(self) -> bool:
        """Let happen what happens next. Return whether a call has ended by it."""
        if self._pending:
            beside = self._chosen()
            fault = self._decided[beside.call.step.index] = self.history.at_call(self, beside.call, beside.view)
            if fault in _LATE or fault in _HANGS:
                (self.late if fault in _LATE else self._hung).append(beside)
                return False
            return self._end(beside)
        for beside in self.late:
            if beside.cancelled.is_set():  # its time is over
                self.late.remove(beside)
                return self._end(beside)
        if self.history.signals.send(self):
            return False
        if self._timers:
            self.history.pass_until(self._timers[0][0])
            self._rings = True
        elif self.late:  # past the pivot, where nothing cuts it off
            return self._end(self.late.pop(0))
        elif self._hung and self.journal is not None:
            raise Died
        else:
            self.stalled = True
        return False

    def _chosen(self) -> CallBeside:
        """Take the call that ends next out of those that run."""
        first, *others = self._pending
        for other in others:
            if self.history.at(other.call.step.name, ORDER, self.history.orders(first, other)) is not None:
                first = other
                self.history.goes_first(first.call.step.name)
                break
        self._pending.remove(first)
        return first

    def _end(self, beside: CallBeside) -> bool:
        if beside in self._cut:
            made: Made = (beside.call, False, asyncio.CancelledError(), 0.0)
        else:
            made = _cleared(make(beside.call, beside.view, self.surroundings))
        if type(made[2]) is NeverEndsError:
            if beside.view.__binding__.deadline is None:
                raise self.history.never_ends(beside.call)
            self._cut.append(beside)
            self.late.append(beside)  # until its time is over
            return False
        if beside.overdue is not None:  # it was cancelled when its time was over, and its answer is lost
            made = (made[0], False, asyncio.CancelledError(), made[3])
        self._arrive(beside, made)
        return True

    async def _ring(self) -> None:
        """Do what the first timer is for, which is due."""
        self._rings = False
        due = self._timer_due()
        await self.mailed()
        self._timer(due)
        heapq.heappop(self._timers)

    async def transacted_by_stand_in(self, call: Call) -> None:
        """Make a stand-in's call: no fault strikes between what it did and the commit of that (:func:`kinds_at`)."""
        view = self._make_ready(call)
        made = await self.elsewhere(partial(make, call, view, self.surroundings))
        self._take(made, view)
        self._transacted = True

    # -- the journal --------------------------------------------------------------------------------------------------

    def is_stored(self) -> bool:
        """Whether there is nothing to be stored."""
        return self.journal is None or self.journal.written == len(self.machine.log.events)

    def before_storing(self) -> Kind | None:
        """Let what strikes what is about to be stored strike. Return what strikes it when that is done.

        :raises Died: the process dies.
        """
        machine, kinds = self.machine, []
        if not self._called:
            kinds.append(Kind.DIES_BEFORE_STORING)
        if not machine.ended and not (machine.commands and type(machine.commands[0]) is Call):
            kinds.append(Kind.DIES_AFTER_STORING)
        history = self.history
        wanted = history.setting.kinds
        fault = history.at(self.step() or "", STORED, tuple(kind for kind in kinds if kind in wanted)) if kinds else None
        if fault is Kind.DIES_BEFORE_STORING:
            raise history.death(self.step() or "", fault)
        if not (self._transacted or wanted.isdisjoint(OF_STORE)):
            self._trouble_store()
        self._called = self._transacted = False
        return fault

    def when_stored(self, fault: Kind | None) -> None:
        """Let strike what strikes when it is stored.

        :raises Died: the process dies.
        """
        if fault is not None:
            raise self.history.death(self.step() or "", fault)

    def _trouble_store(self) -> None:
        """Let a fault of the store strike what is stored next."""
        history, step = self.history, self.step() or ""
        left = self.time_is_up()
        possible = OF_STORE if left is not None and left > self.now() else OF_STORE[:-1]
        fault = history.at(step, STORE, tuple(kind for kind in possible if kind in history.setting.kinds))
        if fault is None:
            return
        history.write_down(step, _STORE_TROUBLES[fault], fault)
        if fault is Kind.STORE_SLOW:
            self.let_time_be_over()
        else:
            assert history.store is not None
            history.store.fail(fault)


async def _never_run() -> None:
    """What a call returns that nobody awaits."""


def _cleared(made: Made) -> Made:
    """Return what came of a call. Where a fault raised it, no line of the user's did: it has no traceback.

    :raises Died: that is what came of it.
    """
    error = made[2]
    if type(error) is Died:
        raise error
    if type(error) is InjectedError or type(error) is AnswerLostError:
        error.__traceback__ = None
    return made


def kinds_here(process: Process, call: Call, view: Context, kinds: frozenset[Kind]) -> tuple[Kind, ...]:
    """Return what can strike a call."""
    timed = call.phase is COMPENSATE and process.time_is_up() is not None
    return kinds_at(call.step, call.phase, view.__binding__.deadline is not None, timed, kinds)


class _Cancelled:
    """Stands for the task of a coroutine function, and for its event loop: it is cancelled when it has ended."""

    def cancel(self) -> None:
        """Nothing runs meanwhile."""

    def get_loop(self) -> _Cancelled:
        return self

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Nothing of it runs later, either."""
