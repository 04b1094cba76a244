"""Where a worker's executions run: synchronous ones in threads, or in the worker's own; asynchronous ones in one event loop.

The threads are daemons: where a worker has to leave what runs after its time of grace, that does not keep the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from saga.clocks import clock
from saga.drivers.aio import AsyncExecution
from saga.drivers.threads import Execution
from saga.durable.store_threads import in_store_thread
from saga.own_log import LOG
from saga.working.jobs import Job, Jobs
from saga.working.line import Line
from saga.working.own_loop import OwnLoop

__all__ = ["Crew"]

_LATELY = 0.1
_MOST_AHEAD = 16
"""Executions that are claimed ahead, at most: as many as have ended within the last moment, as more than a moment is too long
for one that another worker could run."""


class Crew:
    """Runs jobs, no more than there is room for.

    :param threads: how many; 0: those that need one are run where :meth:`work` is called.
    :param tasks: how many run in the event loop.
    :param loop: the event loop; one of its own, in a thread, where not given.
    :ivar ended: called from any thread when one has ended.
    :ivar done: how many have ended.
    """

    ended: Callable[[], object]
    done = 0

    def __init__(self, jobs: Jobs, threads: int, tasks: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self._jobs = jobs
        self.threads = threads
        self.tasks = tasks
        self._loop = loop
        self._own_loop: OwnLoop | None = None
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # what is to begin, and whose turn it is
        self._line = Line(jobs.store)
        self._lock = threading.RLock()  # an interrupt may leave it locked: where it strikes, all goes on in the same thread
        self._waiting: set[Job] = set()
        self._running: set[Job] = set()
        self._started: list[threading.Thread] = []
        self._lately: deque[float] = deque(maxlen=_MOST_AHEAD)
        self._held = False
        self._closed = False
        self._aio: set[asyncio.Task[None]] = set()

    def room(self, asynchronous: bool) -> int:
        """Return how many more executions of a kind to claim."""
        with self._lock:
            mine = sum(job.asynchronous is asynchronous for job in (*self._waiting, *self._running))
        if asynchronous:
            return max(0, self.tasks - mine)
        now = clock()
        ahead = sum(now - ended < _LATELY for ended in list(self._lately))
        return max(0, max(1, self.threads) + ahead - mine)

    def in_hand(self) -> int:
        """Return how many executions run."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing waits; what a lost event loop keeps is left out."""
        with self._lock:
            return not (self._waiting or any(not (job.asynchronous and self.lost) for job in self._running))

    @property
    def lost(self) -> bool:
        """Whether the event loop was closed: what was there does not go on, and nothing more can run there."""
        return self._loop is not None and self._loop.is_closed()

    def take(self, job: Job) -> None:
        """Have a job done."""
        with self._lock:
            self._waiting.add(job)
        if job.asynchronous:
            self._in_loop(self._begin_task, job)
            return
        self._queue.put(job)
        if self.threads and len(self._started) < self.threads:
            with self._lock:
                needed = sum(not one.asynchronous for one in (*self._waiting, *self._running))
            if needed > len(self._started):
                self._start_thread()

    def work(self) -> bool:
        """Do a job here, or what is next of it, where there are no threads for it. Return whether there was one."""
        if self.threads and self._started:
            return False
        with self._lock:
            lines_up = any(isinstance(job.execution, Execution) for job in self._running)
        if not lines_up and self._queue.empty():  # nobody else takes anything out
            return False
        job = self._queue.get()
        if job is not None:
            self._do(job)
        return True

    def leave_waiting(self) -> None:
        """Give back at once what nobody has begun to run here."""
        with self._lock:
            left, self._waiting = self._waiting, set()
        self._jobs.leave(left)

    def hand_back(self) -> None:
        """Let nothing begin but the calls that run: the rest of what is in hand is given back, for others to go on with."""
        self._held = True
        with self._lock:
            running = list(self._running)
        for job in running:
            execution = job.execution
            if execution is not None:
                execution.hand_back()

    def cancel(self) -> None:
        """An interrupt has struck: what runs in the crew's own event loop is cancelled, and undone."""
        with self._lock:
            if not self.threads:  # what ran here runs no more
                self._running = {job for job in self._running if job.asynchronous}
        if self._own_loop is not None:
            self._own_loop.loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._aio])

    def running(self) -> list[str]:
        """Return the ids of what still runs."""
        with self._lock:
            return sorted(job.row.saga_id for job in self._running)

    def close(self) -> None:
        """Give back what waits, or was cut off here; end the threads, and the own event loop, where nothing runs there."""
        with self._lock:
            self._waiting.clear()
            running = set(self._running)
            self._closed = True  # whoever is left ends last
        self._line.close()
        self._jobs.leave(self._jobs.live - running)
        for _ in self._started:
            self._queue.put(None)
        if running:
            return
        for thread in self._started:
            thread.join()
        if self._own_loop is not None:
            self._own_loop.end()
            self._own_loop.join()

    def _begin(self, job: Job) -> bool:
        """Count a job that waited among those that run. Return whether it still waited."""
        with self._lock:
            if job not in self._waiting:
                return False
            self._waiting.discard(job)
            self._running.add(job)
            return True

    def _end(self, job: Job) -> None:
        with self._lock:
            self._running.discard(job)
            self.done += 1
            over = self._closed and not self._running
        self._lately.append(clock())
        self.ended()
        if over and self._own_loop is not None:
            self._own_loop.end()

    def _do(self, job: Job) -> None:
        """Do a job in this thread, or what is next of it; a block that turns out to be asynchronous in the event loop."""
        if job not in self._running and not self._begin(job):  # it was given back, or an interrupt has cut it off
            return
        execution: Execution | AsyncExecution | None = None
        try:
            execution = job.context.run(self._go_as_far, job)
            if isinstance(execution, AsyncExecution):
                job.asynchronous = True
                self._in_loop(self._go_on, job, execution)
            elif execution is not None:
                self._line.add(execution, partial(self._give_turn, job))
        finally:
            if execution is None:
                self._end(job)

    def _give_turn(self, job: Job) -> None:
        """What a job brought is stored: it waits for a thread."""
        self._jobs.let_wait(job)
        self._queue.put(job)

    def _go_as_far(self, job: Job) -> Execution | AsyncExecution | None:
        """Take a job up, or go on with it, as far as it goes here. Return what is to go on elsewhere, or in its turn."""
        if isinstance(job.execution, Execution):
            return job.execution if self._jobs.take_turn(job, job.execution) else None
        execution = self._jobs.take_up(job)
        if execution is not None and self._held:
            execution.hand_back()
        if not isinstance(execution, Execution):
            return execution
        if (self._waiting or len(self._running) > max(1, self.threads)) and self._line.takes(execution):
            return execution
        self._jobs.run(job, execution)
        return None

    # -- threads ------------------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        work = partial(contextvars.copy_context().run, self._labour)
        thread = threading.Thread(target=work, name=f"saga worker {len(self._started) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: those that there are do it all
            if not self._started:
                LOG.warning("a worker gets no thread, and runs everything in its own")
            return
        self._started.append(thread)

    def _labour(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                self._do(job)
            except BaseException:  # whatever it is, the others are not kept back
                LOG.exception("saga %s failed in a worker", job.row.saga_id)

    # -- the event loop -----------------------------------------------------------------------------------------------

    def _in_loop(self, begin: Callable[..., object], *args: Any) -> None:
        if self._loop is None:
            self._own_loop = OwnLoop()
            self._loop = self._own_loop.loop
        self._loop.call_soon_threadsafe(begin, *args)

    def _begin_task(self, job: Job) -> None:
        if self._begin(job):
            self._keep(job, self._take_up_and_run(job))

    def _go_on(self, job: Job, execution: AsyncExecution) -> None:
        self._keep(job, self._run(job, execution))

    def _keep(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._aio.add(task)  # else nobody would keep it alive
        task.add_done_callback(partial(self._end_task, job))

    def _end_task(self, job: Job, task: asyncio.Task[None]) -> None:
        """Be done with a job's task: it may have been cancelled before it began."""
        self._aio.discard(task)
        self._end(job)

    async def _take_up_and_run(self, job: Job) -> None:
        execution = await in_store_thread(contextvars.copy_context().run, self._jobs.take_up, job)
        if isinstance(execution, AsyncExecution):
            if self._held:
                execution.hand_back()
            await self._run(job, execution)

    async def _run(self, job: Job, execution: AsyncExecution) -> None:
        await self._jobs.arun(job, execution)
        if execution.background is not None:  # a call has outlived its timeout, and may have to be undone
            await asyncio.wait([execution.background])
