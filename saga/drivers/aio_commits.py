"""Commits of the executions that one event loop runs: those that come together are made together, in one thread.

So many executions take turns at one thread, and at one commit, where each would otherwise wait for a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress

from saga.journal import Journal, commit_each
from saga.machine import Machine
from saga.storage.protocol import Store

__all__ = ["Commits", "commits_of"]


class _Commit:
    """What an execution has to store, and the future that tells it the outcome."""

    __slots__ = ("future", "journal", "machine")

    def __init__(self, journal: Journal, machine: Machine, future: asyncio.Future[None]) -> None:
        self.journal = journal
        self.machine = machine
        self.future = future


class _Group:
    """Commits that are made together.

    :ivar turn: taken by the thread that makes them: none is made twice, whatever interrupts the loop.
    :ivar done: they have their outcomes; :ivar error: that of a group of one.
    """

    def __init__(self, commits: Sequence[_Commit]) -> None:
        self.commits = commits
        self.turn = threading.Lock()
        self.done = False
        self.error: BaseException | None = None

    def store(self, commits: Commits, loop: asyncio.AbstractEventLoop) -> None:
        """Make them, in a thread."""
        if not self.turn.acquire(blocking=False):
            return
        try:
            if len(self.commits) == 1:
                [one] = self.commits
                one.journal.commit(one.machine)
            else:
                commit_each(self.commits[0].journal.store, [(one.journal, one.machine) for one in self.commits])
        except BaseException as error:
            self.error = error
        self.done = True
        with suppress(RuntimeError):  # the loop was closed without waiting for its tasks
            loop.call_soon_threadsafe(commits.go_on)


class Commits:
    """Commits on one store, for one event loop. One group is stored at a time; who comes meanwhile is in the next."""

    def __init__(self) -> None:
        self._waiting: dict[Journal, _Commit] = {}
        self._group: _Group | None = None
        self._alone: list[_Group] = []  # which could not be stored with others

    def commit(self, journal: Journal, machine: Machine) -> asyncio.Future[None]:
        """Begin :meth:`Journal.commit`, and return what tells its outcome."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if self._group is None and not self._waiting:
            loop.call_soon(self.go_on)  # when those have come that can come now
        self._waiting[journal] = _Commit(journal, machine, future)  # instead of one that an interrupt cut off
        return future

    def go_on(self) -> None:
        """Tell the outcomes there are, and have stored what waits. It may be interrupted anywhere, and called again."""
        for group in [self._group, *self._alone]:
            if group is not None and group.done:
                self._tell(group)
        if self._group is None and self._waiting:
            group = _Group(list(self._waiting.values()))
            self._group, self._waiting = group, {}
        loop = asyncio.get_running_loop()
        for group in [self._group, *self._alone]:
            if group is not None and not group.turn.locked():
                try:
                    loop.run_in_executor(None, group.store, self, loop)
                except RuntimeError as error:  # no thread begins any more
                    group.error, group.done = error, True
                    loop.call_soon(self.go_on)

    def _tell(self, group: _Group) -> None:
        for one in group.commits:
            if one.future.done():
                continue
            if group.error is not None:
                one.future.set_exception(group.error)
            elif one.journal.written == len(one.machine.events):
                one.future.set_result(None)
            elif not any(one in other.commits for other in self._alone):
                self._alone.append(_Group([one]))
        group.error = None  # its traceback knows the group
        if group is self._group:
            self._group = None
        else:
            self._alone.remove(group)


_commits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakKeyDictionary[Store, Commits]]
_commits = weakref.WeakKeyDictionary()


def commits_of(store: Store) -> Commits:
    """Return what commits on the store for the running event loop."""
    of_loop = _commits.setdefault(asyncio.get_running_loop(), weakref.WeakKeyDictionary())
    found = of_loop.get(store)
    if found is None:
        found = of_loop[store] = Commits()
    return found
