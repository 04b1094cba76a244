"""A driver's timers: what waits until a time, and the limits of steps and of the execution. Nothing here waits."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

from saga.drivers.beside import CallBeside
from saga.drivers.outcomes import Outcomes
from saga.errors import StepTimeoutError
from saga.events import CompensationTimedOut, StepTimedOut
from saga.machine import Call, PlannedStep, Wait, time_out, time_out_unit
from saga.machine.commands import COMPENSATE, EXECUTE

_FOREVER: Final = 365 * 24 * 3600.0

__all__ = ["Timers", "limits", "own_limit"]


def own_limit(call: Call) -> float | None:
    """Return the seconds that a call may take by its step's policies; ``None``: any."""
    if call.phase is EXECUTE:
        return call.step.timeout
    return call.step.compensation_timeout if call.phase is COMPENSATE else None


def limits(what: Wait | CallBeside | None, step: PlannedStep) -> bool:
    """Whether a timer is for the time of the execution, or of a unit that a step is in."""
    return what is None or (isinstance(what, Wait) and what.step in step.units)


def _cancelled(cut: Iterable[CallBeside]) -> set[int]:
    """Return the steps of calls that can be cancelled: they have timed out when they have ended."""
    return {one.call.step.index for one in cut if one.task is not None}


class Timers(Outcomes):
    """What a driver is built on. Parameters as :class:`~saga.drivers.outcomes.Outcomes`'s.

    :ivar beside: the calls under way beside the loop, by their steps' index.
    """

    mail = False  # set from outside: the journal's inbox holds something
    beside: dict[int, CallBeside]
    _timers: list[tuple[float, int, Wait | CallBeside | None]]
    _tickets = 0

    def now(self) -> float:
        """Return seconds since the epoch, by a clock that never goes back."""
        raise NotImplementedError

    @staticmethod
    def clock() -> float:
        """Return seconds, as the timers have them."""
        raise NotImplementedError

    def _at(self, due: float, what: Wait | CallBeside | None) -> None:
        self._tickets += 1  # keeps the heap from comparing what is due at the same time
        heapq.heappush(self._timers, (due, self._tickets, what))

    def due(self) -> Iterator[Wait | CallBeside | None]:
        """Yield what the timers are for; ``None`` is the saga's own timeout."""
        return (what for _, _, what in self._timers)

    def in_time(self, call: Call) -> bool:
        """Whether a call may begin; an execute may not where the time of all, or of its unit, is over by now: it is timed out.

        A loop that makes one call after the other comes to look at its timers nowhere else.
        """
        over = [timer for timer in self._timers if timer[0] <= self.clock() and limits(timer[2], call.step)]
        if not over or call.phase is not EXECUTE:
            return True
        self._timers.remove(over[0])
        heapq.heapify(self._timers)
        self.machine.commands.insert(0, call)  # past the pivot time does not matter: then it is made after all
        self._timer(over[0][2])
        return False

    def _timer_due(self) -> Wait | CallBeside | None:
        """Return what the first timer is for. Where a signal may have come in time, the inbox is to be read before."""
        due = self._timers[0][2]
        if isinstance(due, Wait) and due.step.pause is not None and due.step.pause.signals:
            self.mail = True
        return due

    def _timer(self, due: Wait | CallBeside | None) -> None:
        machine, at, executing = self.machine, self.now(), self.machine.state.executing
        if due is None:
            assert self.definition.timeout is not None
            cut = [self.beside[index] for index in executing if index in self.beside]
            self._are_overdue(cut, time_out(machine, self.definition.timeout, at, _cancelled(cut)))
        elif isinstance(due, Wait) and due.step.index in machine.state.units and not machine.state.held:
            inside = [step.index for step in machine.plan.within(due.step) if step.index in executing]
            cut = [self.beside[index] for index in inside if index in self.beside]
            self._are_overdue(cut, time_out_unit(machine, due, at, _cancelled(cut)))
        elif isinstance(due, Wait):
            machine.wake(due, at)
        elif self.beside.get(due.call.step.index) is due:
            self._own_time_is_up(due, at)

    def _own_time_is_up(self, beside: CallBeside, at: float) -> None:
        """A call has a limit of its own, which is reached: it has timed out, unless its outcome has been told."""
        call, step, state = beside.call, beside.call.step, self.machine.state
        undoes, limit = call.phase is COMPENSATE, own_limit(call)
        if limit is None or step.index not in (state.compensating if undoes else state.executing):
            return
        what = f"the compensation of step {step.name!r}" if undoes else f"step {step.name!r}"
        late = StepTimeoutError(f"{what} took longer than its timeout of {limit:g} s")
        self._overdue(beside, late)
        if beside.task is None:  # what can be cancelled has timed out when it has ended
            event = CompensationTimedOut if undoes else StepTimedOut
            self.machine.send(event(step.name, call.attempt, at, limit, late))

    def _are_overdue(self, cut: Iterable[CallBeside], error: Exception | None) -> None:
        if error is not None:
            for beside in cut:
                self._overdue(beside, error)

    def _overdue(self, beside: CallBeside, error: Exception) -> None:
        """Let a call know that its time is up: ``error`` says why."""
        beside.cancelled.set()
        if beside.call.phase is EXECUTE:
            self.views.keep(beside.call.step, beside.view)
        if beside.task is not None and beside.overdue is None:  # once: it may be cleaning up
            beside.overdue = error
            beside.task.cancel()

    def until_due(self) -> float:
        """Return the seconds until the first timer is due."""
        return self._timers[0][0] - self.clock() if self._timers else _FOREVER
