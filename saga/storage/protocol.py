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
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from saga.errors import StorageError
from saga.storage.begun import Begun
from saga.storage.records import (
    NO_PLACES,
    NONE,
    Append,
    Beat,
    Cause,
    Count,
    Entry,
    Figures,
    Hold,
    Lease,
    Listed,
    Message,
    NewExecution,
    NewWorker,
    Page,
    Place,
    StoredExecution,
    StoredWorker,
    Told,
    Wanted,
)

if TYPE_CHECKING:
    from saga.storage.transactions import LentInLoop, LentTransaction
    from saga.storage.watching import Watch

__all__ = ["Store", "StoreLike"]


class Store(Protocol):
    """Where executions are kept.

    :ivar longest_text: how many bytes a payload or a message may have, its quotation marks and backslashes counted twice. What
        is longer is a ``StorageError`` at once, as it is refused for good; what a step returned is looked at before.
    :ivar schema_version: of its tables, as this release has them; ``None`` where it has none. Those of an earlier release were
        led forward when it was opened, and those of a later one refused.
    :ivar transacts: whether it has a database that a transactional step can work in: see :meth:`transaction`.
    :ivar transacts_async: whether that may be of coroutine functions: see :meth:`transaction_in_loop`.
    """

    longest_text: int = sys.maxsize
    schema_version: int | None = None
    transacts: bool = False
    transacts_async: bool = False

    def now(self) -> float:
        """Return the store's time."""

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        """Store an execution with its first entries, owned by ``owner`` with epoch 1. Return ``None``.

        Where the id is taken, store nothing and return the execution that has it.

        :raises SagaHeldError: its saga, or this version of it, is held; nothing is stored.
        :raises StorageError: a key of ``new`` or the owner is not one that all stores can keep; nothing is stored.
        :raises ValueError: there is no such status.
        """

    def begin_create(
        self,
        new: NewExecution,
        entries: Sequence[Entry],
        owner: str,
        lease_seconds: float,
        ended: Callable[[bool], None],
    ) -> Begun | None:
        """Begin :meth:`create` in the running event loop, which goes on meanwhile with no thread.

        Return ``None`` where that cannot be, now or at all.

        :param ended: called later, in the event loop: whether it was stored for sure.
        :raises Exception: as :meth:`create`, or it cannot be sent; nothing is stored.
        """
        return None

    def submit(
        self, new: Sequence[tuple[NewExecution, Sequence[Entry]]], *, connection: Any = None
    ) -> list[StoredExecution | None]:
        """Store executions that nobody owns yet, all or none of them, in few statements. Return ``None`` for each.

        Where an id is taken, or comes twice, return the execution that has it, as :meth:`create` does.

        :param connection: an open connection or session of this store's database, in whose transaction they are stored: they
            are there if and only if that is committed. It is not committed here, and not rolled back.
        :raises StorageError: a key is not one that all stores can keep; nothing is stored.
        :raises ValueError: there is no such status, or ``connection`` is none of this store's database.
        """

    async def asubmit(
        self, new: Sequence[tuple[NewExecution, Sequence[Entry]]], *, connection: Any
    ) -> list[StoredExecution | None]:
        """As :meth:`submit`, with a connection that is awaited in the running event loop.

        :raises ValueError: there is no such status, or ``connection`` is none of this store's database, or not asynchronous.
        """
        from saga.storage.enlisted import in_its_loop

        return await in_its_loop(connection, lambda given: self.submit(new, connection=given))

    def append(
        self,
        lease: Lease,
        entries: Sequence[Entry],
        *,
        status: str | None = None,
        release: bool = False,
        taken: Sequence[int] = (),
        told: Told | None = None,
    ) -> None:
        """Add ``entries`` to the journal, if the lease still holds.

        :param status: the execution's status from now on, where it changes.
        :param release: give the lease back with it (the execution is terminal).
        :param taken: ids of messages that these entries deal with: they leave the inbox in the same transaction.
        :param told: what the row tells from now on; as before where not given.
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
            self.append(one.lease, one.entries, status=one.status, release=one.release, taken=one.taken, told=one.told)
        except StorageError:
            return False
        return True

    def begin_append_each(
        self, appends: Callable[[], Sequence[Append]], ended: Callable[[Sequence[bool]], None]
    ) -> Begun | None:
        """Begin :meth:`append_each` in the running event loop, which goes on meanwhile with no thread.

        Return ``None`` where that cannot be, now or at all.

        :param appends: called, before this returns, for what is to be stored.
        :param ended: called later, in the event loop, with what :meth:`append_each` would have returned.
        :raises Exception: what ``appends`` raises, or it cannot be sent; nothing is stored.
        """
        return None

    def transaction(self) -> LentTransaction:
        """Return what lends a transactional step a transaction of the store's database, which takes the step's entries too.

        :raises StorageError: there is no such database.
        """
        raise StorageError(f"{type(self).__name__} has no database that a transactional step can work in")

    def transaction_in_loop(self) -> LentInLoop:
        """As :meth:`transaction`, for a step that is a coroutine function: with an asynchronous connection.

        :raises StorageError: there is no such database, or no such connection.
        """
        raise StorageError(f"{type(self).__name__} has no asynchronous connections that a transactional step can work with")

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
        wanted: Collection[Wanted] | None = None,
        submitted: bool = True,
        limit: int = 1,
        saga_id: str | None = None,
        but: Callable[[], Collection[str]] = frozenset,
    ) -> list[StoredExecution]:
        """Take executions that nobody owns: submitted, running or compensating, lease run out, due. Return their rows as they
        are then.

        Each gets ``owner``, the next epoch, a fresh lease and one more in ``recoveries``; ``started`` where it had none. Two
        that claim at once never get the same one. Oldest ``due`` first.

        One with an ``exclusive`` key is taken where no other has the key, the first that was stored before the others; it has
        the key from then until it is completed or compensated.

        What somebody called for, and nobody has begun, is left to whoever that was, for as long as it says so.

        :param wanted: only executions that one of these fits, and not more of them than they say.
        :param submitted: also what nobody has begun or called for.
        :param saga_id: only this one, whatever its status and ``due``; ``recoveries`` stays as it is. A lease that has not run
            out is still respected. With ``wanted`` it is taken to be run: only if one fits it, and in its turn; else to act
            on it.
        :param limit: how many at most, at least 1. There may be fewer than there are while others claim at the same time.
        :param but: asked for ids when it is about to claim: of what the owner runs, which is left as it is, though nobody has
            renewed its lease in time.
        :raises ValueError: ``limit`` is no whole number of at least 1.
        """

    def renew(
        self, owner: str, leases: Sequence[Lease], lease_seconds: float, places: Mapping[str, Place] = NO_PLACES
    ) -> list[Beat]:
        """Make the leases that still hold last ``lease_seconds`` from now. Return one :class:`Beat` for each of those.

        :param places: by id, where executions are: their rows tell it from now on.
        """

    def renew_call(self, saga_id: str, seconds: float) -> None:
        """Say that whoever called for an execution waits for its turn, and lives for so many seconds from now at least.

        What was submitted, or has begun, is left as it is.
        """

    def release(
        self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False, step: str | None = None
    ) -> None:
        """Give a lease back, unless it is lost already: the execution is due in ``delay`` seconds; without any, in its place in
        the line, by when it came and its priority.

        :param got_on: it waits for its time or a message: ``recoveries`` are set back to 0, and where the inbox holds anything
            it is due now. :param untried: the claim does not count among them: nothing was done.
        :param step: where it is; as before where not given.
        """

    def post(self, saga_id: str, body: str, *, status: Collection[str] | None = None) -> None:
        """Put a message into an execution's inbox and make it due now.

        :param status: where it has one of these statuses; whatever it is where not given.
        :raises UnknownExecutionError: there is no such execution.
        :raises ActionRefusedError: it has another status, or is completed or compensated.
        """

    def inbox(self, saga_id: str) -> list[Message]:
        """Return an execution's messages in the order they came."""

    def with_mail(self, saga_ids: Collection[str]) -> set[str]:
        """Return which of some executions have messages."""
        return {saga_id for saga_id in saga_ids if self.inbox(saga_id)}

    def count(
        self, by: Sequence[str] = ("name", "status"), *, status: Collection[str] | None = None, name: str | None = None
    ) -> list[Count]:
        """Return how many executions there are of each kind, in the order of their values.

        :param by: of which columns: ``name``, ``status``, ``version``, ``fingerprint``, ``step``, ``cause``, ``reason``.
        :raises ValueError: there is no such status or column.
        """

    def figures(self) -> Figures:
        """Return what there is, in numbers: in one question, however much it is."""

    def next_alert(self, seconds: float) -> StoredExecution | None:
        """Return a stuck execution of which nobody was told yet, the one first that was stuck first; ``None``: there is none.

        In the next ``seconds`` nobody else gets it, so that one of many tells of it. One that somebody acts on is left alone.
        """

    def alerted(self, saga_id: str, epoch: int, again: float | None = None) -> None:
        """Say that somebody was told of a stuck execution, with its epoch then. Where it has another by now, nothing is done.

        :param again: nobody was told; it is to be tried again in so many seconds.
        """

    def causes(self, name: str | None = None) -> list[Cause]:
        """Return why executions are stuck: of each saga, step and class of error how many are, in any order.

        :param name: of this saga alone.
        """

    def beginning_with(self, text: str, limit: int) -> list[StoredExecution]:
        """Return up to ``limit`` executions whose ids begin with a text, in the order of their ids."""

    def next_tag(self, key: str) -> str | None:
        """Return the key of tags that comes after this one, in the order of code points; ``None``: none does."""

    def in_line(self, key: str, limit: int) -> list[StoredExecution]:
        """Return up to ``limit`` executions that have an ``exclusive`` key or are to have it: the one that has it, then the
        others that may be claimed, by when they may be begun.
        """

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        """Delete up to ``limit`` executions last written before then, with journals and inboxes. Return how many.

        One that somebody holds stays, and one that is to be kept longer. What an append without a new status writes does not
        count as written here.

        :raises ValueError: ``status`` has one that is not terminal.
        """

    def hold(self, name: str, version: str, who: str, why: str) -> None:
        """Let nothing of a saga be begun, of one version or of all (:data:`ANY`). Another hold of the same is replaced."""

    def let_go(self, name: str, version: str) -> bool:
        """End a hold. Return whether there was one."""

    def holds(self) -> list[Hold]:
        """Return all holds, in the order of names and versions."""

    def announce(self, worker: NewWorker, seconds: float) -> None:
        """Say that a worker lives, and will be taken to be dead in so many seconds."""

    def withdraw(self, worker: str) -> None:
        """Say that a worker is gone, by its id: it has lived until now."""

    def workers(self) -> list[StoredWorker]:
        """Return the workers that live, and those that were gone or died within the last day, in the order of their ids."""

    def watch(self) -> Watch:
        """Return what waits until there may be something to claim. It is its caller's to close."""
        from saga.storage.watching import Watch

        return Watch(self)

    def tell(self) -> None:
        """Wake whoever watches, here and where the store can tell others: one has ended that others may have waited for."""
        from saga.storage.watching import ring

        ring(self)

    def list(
        self,
        *,
        status: Collection[str] | None = None,
        name: str | None = None,
        version: str | None = None,
        step: str | None = None,
        cause: str | None = None,
        tags: Mapping[str, str] = NONE,
        created_before: float | None = None,
        created_after: float | None = None,
        progressed_before: float | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Return a page of executions, newest first (of those created at the same time, the greatest id first).

        :param tags: only those that have all of these.
        :param created_before: only those created before.
        :param created_after: only those created at or after.
        :param progressed_before: only those that have not got on since.
        :param limit: how many at most, at least 1.
        :param after: the cursor of the page before.
        :raises ValueError: the cursor is not one of :class:`Page`'s, there is no such status, or ``limit`` is no whole
            number of at least 1.
        """
        from saga.storage import pages

        equal = {"name": name, "version": version, "step": step, "cause": cause}
        times = {"created_before": created_before, "created_after": created_after, "progressed_before": progressed_before}
        which = pages.listed(status, equal, tags, limit, after, **times)
        return pages.page_of(self._listed(which) if which.statuses else (), limit)

    def _listed(self, which: Listed) -> Sequence[StoredExecution]:
        """Return the executions of a page in order, and one more where there are any."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection. A closed store raises :class:`StorageError`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


StoreLike = Store | str | os.PathLike[str]
"""A store, the path of an SQLite database, or a database's URL."""
