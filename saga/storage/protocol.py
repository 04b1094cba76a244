"""What a store must do: keep executions' rows, journals, leases and inboxes. Pure text in and out; no engine lives here.

Every store passes one suite of contract tests, so what is said here is what all of them do. Each method is one
transaction: it has happened wholly and durably when it returns, and not at all when it raised, except where the connection
broke in a commit; a store finds out which before it raises. All methods may be called from many threads at once.

Times are seconds since the epoch on the store's own clock, which is the database server's where there is one, so that hosts
whose clocks differ agree on whose lease has run out. A time or a number of seconds that is not finite, or none at all (such as
``True`` or ``"60"``), is a ``ValueError`` before anything is done: databases do not agree on what is before NaN.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from saga.errors import StorageError

__all__ = ["Append", "Beat", "Entry", "Lease", "Message", "NewExecution", "Page", "Store", "StoredExecution"]


class Entry(NamedTuple):
    """One line of a journal.

    :ivar seq: 1 for an execution's first; no gaps.
    :ivar kind: the event's class name.
    :ivar step: the step's name, or ``None``.
    :ivar payload: JSON text.
    """

    seq: int
    kind: str
    step: str | None
    payload: str
    at: float


class NewExecution(NamedTuple):
    """An execution to be stored: ``digest`` stands for its input, ``status`` is ``running``.

    ``saga_id`` and ``name`` are not empty. Each but the status has up to 200 characters and no NUL.
    """

    saga_id: str
    name: str
    version: str
    fingerprint: str
    digest: str
    status: str


class StoredExecution(NamedTuple):
    """An execution's row.

    :ivar owner: who holds the lease, or ``None``.
    :ivar epoch: how often it was taken.
    :ivar lease_until: when it runs out.
    :ivar due: recovery leaves it alone before then: when the lease runs out, or later where it was given back with a delay,
        or when a message came.
    :ivar recoveries: how often a recovery claimed it since it last got on.
    """

    saga_id: str
    name: str
    version: str
    fingerprint: str
    digest: str
    status: str
    owner: str | None
    epoch: int
    lease_until: float
    due: float
    recoveries: int
    created: float
    updated: float


class Lease(NamedTuple):
    """The right to write an execution's journal, valid while nobody has taken a later epoch."""

    saga_id: str
    owner: str
    epoch: int


class Append(NamedTuple):
    """What :meth:`Store.append` is to store."""

    lease: Lease
    entries: Sequence[Entry]
    status: str | None = None
    release: bool = False
    taken: Sequence[int] = ()


class Message(NamedTuple):
    """Something sent to an execution from outside: an operator's action, a signal. ``id`` orders them."""

    id: int
    saga_id: str
    body: str


class Beat(NamedTuple):
    """A lease that was renewed, and whether the execution's inbox holds anything."""

    saga_id: str
    mail: bool


class Page(NamedTuple):
    """Some executions, newest first, and the cursor for the next page (``None``: there is none)."""

    executions: tuple[StoredExecution, ...]
    next: str | None


class Store(Protocol):
    """Where executions are kept.

    :ivar longest_text: how many bytes a payload or a message may have, its quotation marks and backslashes counted twice. What
        is longer is a ``StorageError`` at once, as it is refused for good; what a step returned is looked at before.
    """

    longest_text: int = sys.maxsize

    def now(self) -> float:
        """Return the store's time."""

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        """Store an execution with its first entries, owned by ``owner`` with epoch 1. Return ``None``.

        Where the id is taken, store nothing and return the execution that has it.

        :raises StorageError: a key of ``new`` or the owner is not one that all stores can keep; nothing is stored.
        :raises ValueError: there is no such status.
        """

    def append(
        self,
        lease: Lease,
        entries: Sequence[Entry],
        *,
        status: str | None = None,
        release: bool = False,
        taken: Sequence[int] = (),
    ) -> None:
        """Add ``entries`` to the journal, if the lease still holds.

        :param status: the execution's status from now on, where it changes.
        :param release: give the lease back with it (the execution is terminal).
        :param taken: ids of messages that these entries deal with: they leave the inbox in the same transaction.
        :raises LeaseLostError: a later epoch exists, or the execution is gone; nothing is stored.
        :raises UnreadMessagesError: it would be completed, compensated or paused then, and its inbox has messages that are not
            among those taken; nothing is stored.
        :raises StorageError: it could not be stored, or one of these ``seq`` is there already; nothing is stored.
        :raises ValueError: there is no such status.
        """

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        """Append to the journals of different executions, to each wholly or not at all, in few transactions.

        Return which were stored for sure. :meth:`append` says what is wrong with another, or stores it.
        """
        return [self._appends(one) for one in appends]

    def _appends(self, one: Append) -> bool:
        try:
            self.append(one.lease, one.entries, status=one.status, release=one.release, taken=one.taken)
        except StorageError:
            return False
        return True

    def get(self, saga_id: str) -> StoredExecution | None:
        """Return an execution's row, or ``None``."""

    def journal(self, saga_id: str) -> list[Entry]:
        """Return an execution's entries in order."""

    def journals(self, saga_ids: Collection[str]) -> dict[str, list[Entry]]:
        """Return the entries of some executions, in order. What does not exist has none."""
        return {saga_id: self.journal(saga_id) for saga_id in saga_ids}

    def claim(
        self,
        owner: str,
        lease_seconds: float,
        *,
        names: Collection[str] | None = None,
        limit: int = 1,
        saga_id: str | None = None,
    ) -> list[StoredExecution]:
        """Take executions that nobody owns: not terminal, lease run out, due. Return their rows as they are then.

        Each gets ``owner``, the next epoch, a fresh lease and one more in ``recoveries``. Two that claim at once never get
        the same one. Oldest ``due`` first.

        :param names: only executions of sagas of these names.
        :param saga_id: only this one, whatever its status and ``due``; ``recoveries`` stays as it is. A lease that has
            not run out is still respected.
        :param limit: how many at most, at least 1. There may be fewer than there are while others claim at the same time.
        :raises ValueError: ``limit`` is no whole number of at least 1.
        """

    def renew(self, owner: str, leases: Sequence[Lease], lease_seconds: float) -> list[Beat]:
        """Make the leases that still hold last ``lease_seconds`` from now. Return one :class:`Beat` for each of those."""

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        """Give a lease back, unless it is lost already: the execution is due in ``delay`` seconds.

        :param got_on: it waits for its time or a message: ``recoveries`` are set back to 0, and where the inbox holds anything
            it is due now. :param untried: the claim does not count among them: nothing was done.
        """

    def post(self, saga_id: str, body: str) -> None:
        """Put a message into an execution's inbox and make it due now.

        :raises UnknownExecutionError: there is no such execution.
        :raises ActionRefusedError: it is completed or compensated.
        """

    def inbox(self, saga_id: str) -> list[Message]:
        """Return an execution's messages in the order they came."""

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        """Return which of some executions have messages."""
        return {saga_id for saga_id in saga_ids if self.inbox(saga_id)}

    def list(
        self,
        *,
        status: Collection[str] | None = None,
        name: str | None = None,
        created_before: float | None = None,
        created_after: float | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Return a page of executions, newest first (of those created at the same time, the greatest id first).

        :param created_before: only those created before.
        :param created_after: only those created at or after.
        :param limit: how many at most, at least 1.
        :param after: the cursor of the page before.
        :raises ValueError: the cursor is not one of :class:`Page`'s, there is no such status, or ``limit`` is no whole
            number of at least 1.
        """

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        """Delete up to ``limit`` executions last written before then, with journals and inboxes. Return how many.

        One that somebody holds stays. What an append without a new status writes does not count as written here.

        :raises ValueError: ``status`` has one that is not terminal.
        """

    def close(self) -> None:
        """Close every connection. A closed store raises :class:`StorageError`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


StoreLike = Store | str | os.PathLike[str]
"""A store, the path of an SQLite database, or a database's URL."""
