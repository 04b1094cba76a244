"""One run of a worker: it claims what there is room for, has it run, waits for more, and ends in good order."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final, Protocol

from saga.clocks import clock
from saga.drivers.observing import has_struck
from saga.durable.leases import claim, owner
from saga.errors import StorageError
from saga.own_log import LOG
from saga.storage.protocol import Store
from saga.storage.records import NewWorker
from saga.storage.rules import CLAIMABLE
from saga.storage.watching import Watch
from saga.working.crew import Crew
from saga.working.definitions import Definitions
from saga.working.jobs import Jobs
from saga.working.saying import say_begins, say_ended, say_stops
from saga.working.service import notify
from saga.working.unfit import AT_ONCE, park_unfit

__all__ = ["LOOK", "Shift", "Stop"]

BEAT: Final = 5.0
"""Seconds between two times that a worker says that it lives."""
_DEAD_AFTER: Final = 4 * BEAT
_SWEEP: Final = 30.0
"""Seconds between two looks for executions that nobody fits."""
LOOK: Final = 0.1
"""Seconds between two looks at what says when to stop."""
_numbers = itertools.count(1)


class Stop(Protocol):
    """What says when to stop: a :class:`threading.Event`, an :class:`asyncio.Event`."""

    def is_set(self) -> bool:
        """Whether it is time."""


class Shift:
    """:param once: end when there is nothing left to run.
    :param begins: run what was submitted, too.
    :param stops: what says when to stop.
    """

    def __init__(
        self,
        store: Store,
        definitions: Definitions,
        crew: Crew,
        jobs: Jobs,
        watch: Watch,
        *,
        once: bool,
        begins: bool,
        stops: tuple[Stop, ...],
        polls: bool,
        interval: float,
        unfit_after: float,
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._crew = crew
        self._jobs = jobs
        self._watch = watch
        self._once = once
        self._begins = begins
        self._stops = stops
        # What a rate holds back is due as soon as its window has moved on.
        self._step_of_looks = min(interval, max(LOOK, definitions.window / 4))
        self._step = min(self._step_of_looks, LOOK) if polls else self._step_of_looks
        self._interval = interval
        self._unfit_after = unfit_after
        self._sweep = min(_SWEEP, max(unfit_after, BEAT))
        self._id = f"{owner()}/{next(_numbers)}"
        self._more = True  # there may be more to claim than there was room for
        self._look_at = self._beat_at = 0.0
        self._sweep_at = clock() + self._sweep
        crew.ended = self._ended

    def stopping(self) -> bool:
        """Whether it is time to stop."""
        return any(stop.is_set() for stop in self._stops)

    def serve(self) -> None:
        """Go on until it is time to stop, nothing is left to be run once, or the event loop that it was given is closed.

        :raises StorageError: the store cannot be asked, where it runs once.
        """
        if self.stopping():
            LOG.warning("worker: it was told to stop before it began, and runs nothing")
        elif not self._once:
            say_begins(self._store, self._definitions, self._begins, self._crew.threads, self._crew.tasks)
        woken = True
        while not (self.stopping() or self._crew.lost):
            claimed, done = 0, self._crew.done
            try:
                if not self._once and clock() >= self._beat_at:
                    self._beat()
                if woken or self._more or clock() >= self._look_at:
                    claimed = self._claim()
            except BaseException as error:
                if self._once or has_struck(error):
                    raise
                LOG.error(
                    "worker: %s; trying again in %g s", error, self._interval, exc_info=not isinstance(error, StorageError)
                )
                self._more, self._look_at = False, clock() + self._interval
            while not self.stopping() and self._crew.work():
                pass
            if claimed:
                woken = self._once
                continue
            idle = self._crew.idle
            if self._once and self._crew.done > done:  # others may have waited for that
                woken = True
                continue
            if self._once and idle:
                while self._park_unfit() == AT_ONCE:
                    pass
                return
            woken = self._watch.wait(self._step)
        if self._crew.lost:
            LOG.error("worker: the event loop that it was given is closed, so it ends; what ran there is left to others")

    def finish(self, calls: bool, grace: float) -> None:
        """Give back what waits, and wait until what is in hand has ended.

        :param calls: only the calls in hand; else the executions.
        :param grace: seconds that this may take.
        """
        self._crew.leave_waiting()
        if calls:
            self._crew.hand_back()
        if not self._once:
            notify("STOPPING=1")
            self._announce(stopping=True)
            say_stops(self._crew.in_hand(), calls, grace)
        while self._crew.work():
            pass
        deadline = clock() + grace
        while not self._crew.idle:
            left = deadline - clock()
            if left <= 0:
                self._crew.hand_back()
                running = ", ".join(self._crew.running())
                LOG.error("worker: after %g s of grace these still run, and are left as they are: %s", grace, running)
                return
            self._watch.wait(min(left, BEAT))
            if not self._once and clock() >= self._beat_at:
                self._announce(stopping=True)

    def close(self) -> None:
        """Give back what waits, and say that the worker is gone."""
        try:
            self._crew.close()
        except BaseException:  # another interrupt
            self._crew.close()
            raise
        if not self._once:
            try:
                self._store.withdraw(self._id)
            except Exception as error:  # it is taken to be dead soon
                LOG.warning("worker: the store was not told that it is gone: %s", error)
            say_ended(self._crew.done)

    def _claim(self) -> int:
        """Claim what there is room for, and have it run. Return how many."""
        self._look_at = clock() + self._step_of_looks
        self._more = False
        claimed = 0
        for asynchronous in (False, True):
            wanted = self._definitions.wanted(asynchronous)
            room = self._crew.room(asynchronous) if wanted else 0
            if room:
                rows = claim(self._store, self._definitions.lease, wanted=wanted, submitted=self._begins, limit=room)
                for job in self._jobs.claimed(rows):
                    self._crew.take(job)
                claimed += len(rows)
            self._more = self._more or bool(wanted and (room == 0 or len(rows) == room))
        return claimed

    def _ended(self) -> None:
        """An execution has ended: there is room again."""
        if self._more or self._definitions.in_line or self._once or self.stopping():
            self._watch.wake()

    def _beat(self) -> None:
        self._announce(stopping=False)
        if clock() >= self._sweep_at:
            self._park_unfit()

    def _announce(self, stopping: bool) -> None:
        """Say that it lives: while it finishes what is in hand, too."""
        self._beat_at = clock() + BEAT
        notify("WATCHDOG=1")
        told = self._definitions.told()
        worker = NewWorker(self._id, socket.gethostname(), os.getpid(), told, self._crew.in_hand(), stopping)
        try:
            self._store.announce(worker, _DEAD_AFTER)
        except StorageError as error:
            LOG.warning("worker: the store was not told that it lives: %s", error)

    def _park_unfit(self) -> int:
        self._sweep_at = clock() + self._sweep
        statuses = tuple(status for status in CLAIMABLE if self._begins or status != "submitted")
        return park_unfit(self._store, self._definitions, self._jobs, self._unfit_after, statuses, self.stopping)
