"""Commits of the executions that one event loop runs: those that come together are made together, in one thread.

So many executions take turns at one thread, and at one commit, where each would otherwise wait for a thread of its own.

An interrupt (Ctrl-C) may strike anywhere in the loop's thread: what it cuts off is begun again at the next occasion.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from saga.durable.store_threads import in_store_thread
from saga.machine import Machine
from saga.storage.begun import Begun
from saga.storage.protocol import Store
from saga.storage.records import Append

if TYPE_CHECKING:
    from saga.durable.journal import Journal

__all__ = ["Commits", "are_shared", "commit_each", "commits_of"]

_CROWD: Final = 4
"""Where more than these wait, they are begun together."""

_CROWDS: Final = 2
"""So many crowds are begun at the same time; more would be smaller ones."""

_LONG: Final = 0.1
"""Seconds after which others do not wait for a group any more: one of it may be waiting for a row that somebody has locked."""


class _Commit:
    """What an execution has to store, and the future that tells it the outcome."""

    __slots__ = ("context", "future", "journal", "machine")

    def __init__(self, journal: Journal, machine: Machine, future: asyncio.Future[None]) -> None:
        self.journal = journal
        self.machine = machine
        self.future = future
        self.context = contextvars.copy_context()


class _Group:
    """Commits that are made together.

    :ivar turn: taken by the thread that makes them: none is made twice.
    :ivar job: what the executor says of that thread.
    :ivar done: they have their outcomes.
    :ivar error: that of a group of one.
    :ivar timer: sets it aside when it takes long.
    :ivar begun: what the store does about it with no thread.
    """

    __slots__ = ("begun", "commits", "done", "error", "job", "timer", "turn")

    def __init__(self, commits: Sequence[_Commit]) -> None:
        self.commits = commits
        self.turn = threading.Lock()
        self.done = False
        self.error: Exception | None = None
        self.job: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.begun: Begun | None = None

    def begin(self, commits: Commits) -> bool:
        """Have the store make them with no thread, where it can. Return whether it does."""
        statuses = [one.machine.status for one in self.commits]
        appends: list[Append] = []

        def make() -> Sequence[Append]:
            appends.extend([one.context.run(one.journal.to_append, one.machine) for one in self.commits])
            return appends

        def ended(stored: Sequence[bool]) -> None:
            if self.begun is not None and not self.done:  # else a thread makes them, as an interrupt struck in between
                self.done = True
                for one, append, status, is_stored in zip(self.commits, appends, statuses, stored, strict=True):
                    if is_stored:
                        one.journal.take_stored(len(append.entries), status)
                commits.take_outcomes(self)

        with suppress(Exception):  # what is wrong is told by Journal.commit
            self.begun = self.commits[0].journal.store.begin_append_each(make, ended)
        return self.begun is not None

    def has_ended(self) -> bool:
        """Whether nothing more comes of it, as it is done or was cut off by an interrupt."""
        if self.begun is not None and not self.done and self.begun.cut_off:
            self.done = True
            self.begun.end()
        return self.done

    def store(self, commits: Commits, loop: asyncio.AbstractEventLoop) -> None:
        """Make them, in a thread."""
        if not self.turn.acquire(blocking=False):
            return
        try:
            if len(self.commits) == 1:
                [one] = self.commits
                one.context.run(one.journal.commit, one.machine)
            else:  # what was not stored so is stored alone, which tells what is wrong with it
                commit_each(self.commits[0].journal.store, [(one.journal, one.machine) for one in self.commits])
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                self.error = error
            else:  # which would not come through a future as it is
                self.error = RuntimeError(f"the store raised {error!r}")
        self.done = True
        try:
            loop.call_soon_threadsafe(commits.go_on)
        except RuntimeError:  # the loop was closed without waiting for its tasks
            commits.forget()


class Commits:
    """Commits on one store, for one event loop. One group is stored at a time; who comes meanwhile is in the next.

    :param together: the store gains by it; else each is stored alone, beside the others.
    :param begins: the store may need no thread.
    """

    def __init__(self, together: bool, begins: bool = False) -> None:
        self._together = together
        self._begins = begins
        self._waiting: dict[Journal, _Commit] = {}
        self._group: _Group | None = None
        self._beside: dict[Journal, _Group] = {}  # what is stored alone, and groups that take long

    def commit(self, journal: Journal, machine: Machine) -> asyncio.Future[None]:
        """Begin :meth:`Journal.commit`, and return what tells its outcome. It may be cancelled, and asked for again."""
        loop = asyncio.get_running_loop()
        known = self._waiting.get(journal)
        if known is not None and known.machine is machine and not known.future.cancelled():
            loop.call_soon(self.go_on)
            return known.future
        at_once = self._begins and not (self._waiting or self._beside or self._group)
        if not at_once and (self._group is None or self._group.done or not self._group.turn.locked()):
            loop.call_soon(self.go_on)  # when those have come that can come now
        future = loop.create_future()
        self._waiting[journal] = _Commit(journal, machine, future)  # instead of one that an interrupt cut off
        if at_once:
            self.go_on()
        return future

    def go_on(self) -> None:
        """Give the outcomes there are, and have stored what waits."""
        for group in self._groups():
            if group.has_ended():
                self._give_outcomes(group)
        if self._waiting:
            self._store_waiting()
        loop = asyncio.get_running_loop()
        for group in self._groups():
            if group.begun is None and not group.turn.locked() and (group.job is None or group.job.done()):
                self._start_job(group, loop)

    def take_outcomes(self, group: _Group) -> None:
        """Give the outcomes of a group that the store has made with no thread."""
        self._give_outcomes(group)
        if self._waiting or any(one.journal in self._beside for one in group.commits):
            asyncio.get_running_loop().call_soon(self.go_on)

    def _store_waiting(self) -> None:
        # What an interrupt cut off may still be stored.
        under_way = {one.journal for one in self._group.commits} if self._group is not None else ()
        free = [one for one in self._waiting.values() if one.journal not in self._beside and one.journal not in under_way]
        if self._begins:
            free = self._begin(free)
        if not self._together:
            for one in free:
                self._set_beside(_Group([one]))
        elif free and self._group is None:
            self._group = _Group(free)
            for one in free:
                self._waiting.pop(one.journal, None)

    def _begin(self, free: Sequence[_Commit]) -> list[_Commit]:
        """Begin what needs no thread. Return what needs one."""
        here = [one for one in free if one.journal.may_begin(one.machine)]
        rest = [one for one in free if one not in here] if len(here) < len(free) else []
        while here:
            if len(here) > _CROWD and self._crowds() >= _CROWDS:
                return rest  # the others wait for one of these, which no row holds up that somebody has locked
            group = _Group(here if len(here) > _CROWD else here[:1])
            self._set_beside(group)
            if not group.begin(self):
                for one in group.commits:
                    self._waiting[one.journal] = one
                    del self._beside[one.journal]
                break
            here = here[len(group.commits) :]
        return rest + here

    def _crowds(self) -> int:
        return sum(len(group.commits) > 1 for group in self._groups() if group.begun is not None)

    def _set_beside(self, group: _Group) -> None:
        for one in group.commits:
            self._beside[one.journal] = group
            self._waiting.pop(one.journal, None)

    def forget(self) -> None:
        """Let go of everything, as the event loop is closed."""
        self._waiting, self._group, self._beside = {}, None, {}

    def _groups(self) -> list[_Group]:
        beside = list(dict.fromkeys(self._beside.values())) if self._beside else []
        return beside if self._group is None else [self._group, *beside]

    def _start_job(self, group: _Group, loop: asyncio.AbstractEventLoop) -> None:
        try:
            group.job = in_store_thread(group.store, self, loop)
        except Exception:  # no thread begins now, or any more
            group.store(self, loop)
            return
        group.job.add_done_callback(self._look)
        if group is self._group:
            group.timer = loop.call_later(_LONG, self._set_aside, group)

    def _look(self, job: asyncio.Future[None]) -> None:
        """See to it that what the executor dropped is done all the same."""
        if job.cancelled() or job.exception() is not None:
            self.go_on()

    def _set_aside(self, group: _Group) -> None:
        if self._group is group and not group.done:
            self._beside, self._group = self._beside | {one.journal: group for one in group.commits}, None
            self.go_on()

    def _give_outcomes(self, group: _Group) -> None:
        alone: dict[Journal, _Group] = {}
        for one in group.commits:
            if one.future.done():
                continue
            if len(group.commits) == 1 and group.error is not None:
                one.future.set_exception(group.error)
            elif one.journal.written == len(one.machine.events):
                one.future.set_result(None)
            else:
                alone[one.journal] = _Group([one])
        if group.timer is not None:
            group.timer.cancel()
        self._beside |= alone
        if group is self._group:
            self._group = None
        for one in group.commits:
            if self._beside.get(one.journal) is group:
                del self._beside[one.journal]
        group.error = None  # its traceback knows the group


_commits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakKeyDictionary[Store, Commits]]
_commits = weakref.WeakKeyDictionary()


def commits_of(store: Store) -> Commits:
    """Return what commits on the store for the running event loop."""
    of_loop = _commits.setdefault(asyncio.get_running_loop(), weakref.WeakKeyDictionary())
    found = of_loop.get(store)
    if found is None:
        found = of_loop[store] = Commits(
            are_shared(store),
            getattr(type(store), "begin_append_each", Store.begin_append_each) is not Store.begin_append_each,
        )
    return found


def are_shared(store: Store) -> bool:
    """Whether a store gains by commits that are made together."""
    return getattr(type(store), "append_each", None) is not Store.append_each


def commit_each(store: Store, parts: Sequence[tuple[Journal, Machine]]) -> None:
    """Store what executions have to store, in one transaction where that can be.

    What could not be stored is left to :meth:`Journal.commit`, which says what is wrong with it.
    """
    with suppress(Exception):
        parts = [(journal, machine) for journal, machine in parts if journal.written < len(machine.events)]
        if len(parts) < 2:
            return
        appends = [journal.to_append(machine) for journal, machine in parts]
        for (journal, machine), one, stored in zip(parts, appends, store.append_each(appends), strict=True):
            if stored:
                journal.take_stored(len(one.entries), machine.status)
