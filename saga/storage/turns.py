"""Turns at a database: who finds a place writes at once, and who finds none is written for by another.

Few threads have a place to write in at the same time. Whoever finds none waits in the queue; when there is one, the first in
the queue becomes the leader, writes what all in it brought, and wakes each with its own outcome. So under load there are as
few commits as the disk allows, and alone there is no waiting and no handing over. (DeWitt et al., "Implementation techniques
for main memory database systems", SIGMOD 1984, has the idea.) Whoever may take long writes alone; of two of these, all that
waits in the queue by then is written in between: no write waits for more than one of them.
"""

from __future__ import annotations

import threading
from typing import Any, Generic, TypeVar

__all__ = ["Alone", "Turns", "Waiting"]

W = TypeVar("W", bound="Waiting")


class Waiting:
    """One caller's write, while it waits for another to write it.

    :ivar wake: a lock that is taken until the write is done or is to lead; there is none where it does not wait.
    :ivar done: it has its outcome.
    :ivar error: which it is to raise, or else.
    :ivar result: to return.
    """

    __slots__ = ("done", "error", "leads", "result", "wake")

    wake: threading.Lock

    def __init__(self) -> None:
        self.leads = False
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Alone:
    """Whoever writes alone, and may take long.

    :ivar begins: set when it may begin.
    :ivar thread: whose it is.
    """

    def __init__(self) -> None:
        self.begins = threading.Event()
        self.thread = threading.get_ident()


class Turns(Generic[W]):
    """Lets a few threads write at the same time, or one for all where a crowd waits. A subclass says how.

    An interrupt may strike the main thread anywhere: what ends a turn can be done twice, and is done again where it was
    interrupted.

    :param places: how many write at the same time.
    :param crowd: how many may wait without being a crowd; each of them leads only itself.
    """

    def __init__(self, places: int = 1, crowd: int = 0) -> None:
        self._mutex = threading.Lock()
        self._places = places
        self._crowd = crowd
        self._crowded = False
        self._writing: set[object] = set()
        self._for_crowd: object = None  # which of these writes for a crowd
        self._halted = False
        self._alone: list[Alone] = []
        self._was_alone = False  # the last one that was let write
        self._idle = threading.Event()
        self._queue: list[W] = []

    def _waiting(self, *what: Any) -> W:
        """Return what stands for a call of :meth:`_take_turn` while it waits."""
        raise NotImplementedError

    def _write_alone(self, *what: Any) -> Any:
        """Write for one caller, and return what :meth:`_take_turn` is to return."""
        raise NotImplementedError

    def _write_together(self, group: list[W]) -> None:
        """Write for many. Errors become outcomes; only an interrupt is raised."""
        raise NotImplementedError

    def _interrupted(self, write: W) -> None:
        """Give an outcome to a write that has none, as the thread that wrote it was interrupted."""
        raise NotImplementedError

    def _take_turn(self, *what: Any) -> Any:
        """Write at once, or have it written."""
        turn = object()
        write: W | None = None
        try:
            with self._mutex:
                if self._halted or not self._has_place():
                    made = self._waiting(*what)
                    made.wake = threading.Lock()
                    made.wake.acquire()
                    write = made  # from here on, an interrupt has to take it out again
                    self._queue.append(write)
                else:
                    self._take_place(turn)
            if write is None:
                return self._write_alone(*what)
            write.wake.acquire()
            if write.leads:
                self._lead(write)
        except BaseException:
            # An interrupt, else: other errors of a queued write are kept in it.
            if write is not None:
                self._leave(write)
            raise
        finally:
            if write is None:
                try:
                    self._hand_over(turn)
                except BaseException:
                    self._hand_over(turn)
                    raise
        if write.error is not None:
            raise write.error
        return write.result

    def _has_place(self) -> bool:
        return len(self._writing) < self._places and not (self._crowded and self._for_crowd is not None)

    def _take_place(self, turn: object) -> None:
        self._writing.add(turn)
        if self._crowded:
            self._for_crowd = turn

    def _take_alone(self, alone: Alone) -> None:
        """Wait until nobody writes, and let nobody write until :meth:`_give_back`, which is to be called whatever happens."""
        with self._mutex:
            self._alone.append(alone)
            self._promote()
        alone.begins.wait()

    def _give_back(self, alone: Alone) -> None:
        """Let others write again. It may be called more than once."""
        with self._mutex:
            if alone in self._alone:
                self._alone.remove(alone)
        self._hand_over(alone)

    def halt(self, timeout: float) -> bool:
        """Let no further write start, and wait up to ``timeout`` seconds for those that run. Return whether they ended."""
        with self._mutex:
            self._halted = True
            if not self._writing:
                return True
            self._idle.clear()
        return self._idle.wait(timeout)

    def resume(self) -> None:
        """Let the writes go on that :meth:`halt` held up."""
        with self._mutex:
            self._halted = False
            self._promote()

    def _leave(self, write: W) -> None:
        """See to it that nobody waits for an interrupted caller: neither those it leads nor the one that writes for it."""
        with self._mutex:
            if write in self._queue and not write.leads:
                self._queue.remove(write)
                return
        if not write.done:
            if write.leads:
                self._lead(write)
            else:
                write.wake.acquire()

    def _lead(self, leader: W) -> None:
        group: list[W] = []
        try:
            with self._mutex:
                # A crowd is one until few of it are left: else it would come and go from one write to the next.
                self._crowded = len(self._queue) > (self._crowd // 4 if self._crowded else self._crowd)
                self._for_crowd = leader if self._crowded else None
                end = len(self._queue) if self._crowded else 1
                group, self._queue = self._queue[:end], self._queue[end:]
                self._promote()
            self._write_together(group)
        finally:
            try:
                self._end(leader, group)
            except BaseException:
                self._end(leader, group)
                raise

    def _end(self, leader: W, group: list[W]) -> None:
        if not group:  # interrupted before there was one: it leads again when it leaves, in the same place
            return
        self._hand_over(leader)
        for write in group:
            if not write.done:
                self._interrupted(write)
                write.done = True
            if write is not leader and write.wake.locked():
                write.wake.release()

    def _hand_over(self, turn: object) -> None:
        with self._mutex:
            self._writing.discard(turn)
            if self._for_crowd is turn:
                self._for_crowd = None
            if self._halted and not self._writing:
                self._idle.set()
            self._promote()

    def _promote(self) -> None:
        """Make the first in the queue the leader, or let one write alone, where that may be. Only with the mutex."""
        if self._alone and not (self._was_alone and self._queue):
            if not (self._halted or self._writing):
                self._was_alone = True
                self._writing.add(self._alone[0])
                self._alone[0].begins.set()
        elif self._queue and not (self._queue[0].leads or self._halted) and self._has_place():
            first = self._queue[0]
            first.leads = True
            self._was_alone = False
            self._take_place(first)
            first.wake.release()
