"""An execution's journal: its events are stored under a lease, and its inbox is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from saga import events as e
from saga.context import Context
from saga.drivers.outcomes import Message
from saga.durable.codec import Codec
from saga.durable.elsewhere import Elsewhere, Fetching
from saga.durable.entries import Errors, write_entries
from saga.durable.leases import Keeper, keeper_of
from saga.durable.messages import read_message
from saga.durable.sealed import ENCRYPTED
from saga.durable.told import told_of
from saga.durable.values import encode_changes, encode_result, revert
from saga.errors import StorageError, UnreadMessagesError, is_exception
from saga.machine import Machine
from saga.plain import text_of
from saga.storage.begun import Begun
from saga.storage.protocol import Store
from saga.storage.records import Append, Entry, Lease, NewExecution, StoredExecution, Told

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from saga.durable.shared_commits import Commits
    from saga.durable.transaction import StepTransaction

__all__ = ["Journal"]


class Journal:
    """Writes one execution's events to a store, under a lease: what a driver knows as its journal.

    :ivar written: how many of the machine's events are stored.
    :ivar keep: seconds for which an execution that has completed is not purged.
    :ivar in_line: whether others may wait for its end.
    :ivar backoff: seconds for which a recovery leaves the execution alone where the store has failed it; ``None`` where it is
        no recovery that runs it.
    """

    backoff: float | None = None
    keep: float | None = None
    in_line = False
    _failed = False
    _definition: tuple[str, str] | None = None
    _shared: tuple[AbstractEventLoop, Commits] | None = None  # of the event loop that has run it last

    def __init__(self, store: Store, codec: Codec, lease: Lease, status: e.Status) -> None:
        self.store = store
        self.codec = codec
        self.lease = lease
        self.written = 0
        self.taken: list[int] = []  # messages dealt with, to leave the inbox with the next commit
        self.errors: Errors = {}  # those that are stored
        self._elsewhere = None if codec.blobs is None else Elsewhere(codec, lease.saga_id)
        self._made: list[tuple[e.Event, Entry]] = []  # what was encrypted or put elsewhere last, and of which events
        self._status: e.Status | None = status
        self._keeper: Keeper = keeper_of(store)

    def read(self, text: str) -> Any:
        """Return the value that a text stores: see :meth:`saga.durable.codec.Codec.decode`."""
        return self.codec.decode(text)

    def take_result(self, step: str, view: Context, value: Any) -> tuple[Any, str]:
        """Encode what a step returned and what it changed: see :func:`saga.durable.values.encode_result`."""
        return encode_result(self.codec, step, view, value, self.store)

    def take_changes(self, view: Context) -> str:
        """Encode what a call changed: see :func:`saga.durable.values.encode_changes`."""
        return encode_changes(self.codec, view, self.store)

    def read_messages(self) -> list[Message]:
        """Return what is in the inbox, each to be called with the time. It leaves the inbox with the next commit.

        :raises StorageError: it cannot be read.
        """
        found = []
        try:
            for message in self.store.inbox(self.lease.saga_id):
                if message.id not in self.taken:
                    found.append(self._read(message.body))
                    self.taken.append(message.id)
        except Exception:
            self._failed = True
            raise
        return found

    def _read(self, body: str) -> Message:
        if self._elsewhere is None:
            return read_message(body, self.codec, self.lease.saga_id)
        fetching = Fetching(self.codec, self.lease.saga_id)
        message = read_message(body, self.codec, self.lease.saga_id, fetching)
        self._elsewhere.arrived |= fetching.references()
        return message

    def revert(self, view: Context) -> None:
        """Make the view what it is by its texts: see :func:`saga.durable.values.revert`."""
        revert(self.codec, view)

    # -- to the store -------------------------------------------------------------------------------------------------

    def create(self, new: NewExecution, machine: Machine, lease_seconds: float) -> StoredExecution | None:
        """Store the execution with its first events. Return ``None``, or the execution that has its id already."""
        events = machine.events
        existing = self.store.create(new, self._entries(events), self.lease.owner, lease_seconds)
        if existing is None:
            self.written = len(events)
        return existing

    def first_entry(self, machine: Machine) -> Entry:
        """Return what an execution that is not stored would begin with."""
        return self._entries(machine.events)[0]

    def begin_create(
        self, new: NewExecution, machine: Machine, lease_seconds: float, ended: Callable[[], None]
    ) -> Begun | None:
        """Begin :meth:`create` in the running event loop, where that needs no thread; ``written`` tells if it was stored.

        :param ended: called later, in the event loop.
        """
        events = machine.events
        if self.has_large(machine):
            return None

        def stored(for_sure: bool) -> None:
            if for_sure:
                self.written = len(events)
            ended()

        with suppress(Exception):  # what is wrong is told by create()
            return self.store.begin_create(new, self._entries(events), self.lease.owner, lease_seconds, stored)
        return None

    def submit(self, new: NewExecution, machine: Machine) -> StoredExecution | None:
        """Store the execution as one that nobody has begun. Return ``None``, or the execution that has its id already."""
        events = machine.events
        (existing,) = self.store.submit([(new, self._entries(events))])
        if existing is None:
            self.written = len(events)
        return existing

    def take(self, lease: Lease) -> None:
        """Go on under a lease that was claimed."""
        self.lease = lease

    def take_over(self, version: str, fingerprint: str) -> None:
        """Have the row say, from the next commit on, that it goes on by this definition: it is no other's any more."""
        self._definition = version, fingerprint
        self._status = None

    def has_begun(self, machine: Machine, error: BaseException) -> bool:
        """Whether the execution is stored although ``error`` came out of :meth:`create`, or out of what followed it."""
        return self.written > 0 or (not is_exception(error) and self.is_found(machine))

    def is_found(self, machine: Machine) -> bool:
        """Whether the execution is stored though nobody said so."""
        with suppress(Exception):  # of a store with a fault; an execution that is there then has nobody, and its lease runs out
            mine = self._entries(machine.events)
            if self.store.journal(self.lease.saga_id)[: len(mine)] == mine:  # else it is another one that has the id
                self.written = len(mine)
        return self.written > 0

    def keep_lease(self, seconds: float, driver: Any) -> None:
        """Keep the lease until the execution is terminal or cannot be stored any more. The driver is told of messages.

        :raises RuntimeError: no thread is to be had.
        """
        self._keeper.hold(self.lease, seconds, driver)

    def park(self, delay: float, step: str | None) -> None:
        """Give the lease back until ``delay`` seconds have passed or a message comes. ``step``: where it waits."""
        self._keeper.drop(self.lease)
        with suppress(StorageError):  # the lease runs out, then
            self.store.release(self.lease, delay=delay, got_on=True, step=step)

    def hand_back(self, untried: bool) -> None:
        """Give the lease back, for another to go on at once; ``untried``: that it was claimed does not count as a recovery."""
        self._keeper.give_back(self.lease, untried=untried)

    def give_back(self) -> None:
        """Give the lease back, for a recovery to take the execution up at once; if that fails, it runs out."""
        if self._keeper.of_parent:
            return
        self._keeper.drop(self.lease)
        with suppress(Exception):  # of a store with a fault, too
            if self._failed and self.backoff is not None:
                self.store.release(self.lease, delay=self.backoff, untried=True)
            else:
                self.store.release(self.lease)

    def commit(self, machine: Machine) -> None:
        """Store the events that are not stored yet. They are durable when this returns.

        :raises LeaseLostError: another process has taken the execution over.
        :raises UnreadMessagesError: it would end, and has messages to read first; nothing is stored.
        :raises StorageError: nothing more is stored.
        """
        events = machine.log.events
        if self.written == len(events):
            return
        entries = self._entries(events)
        status = machine.state.status
        try:
            self._append(entries, machine, status)
        except UnreadMessagesError:
            raise
        except Exception:
            # An interrupt may have struck after the commit and before it was noted here.
            self._failed = True
            stored = self._stored_already(entries)
            if not stored:
                raise
            if stored < len(entries):
                self._append(entries[stored:], machine, status)
            self._failed = False
        except BaseException as error:  # an interrupt, or the store's own fault: then no recovery is to come back at once
            self._failed = not isinstance(error, KeyboardInterrupt)
            raise
        self.take_stored(len(entries), status)

    def has_large(self, machine: Machine) -> bool:
        """Whether something of what is not stored yet may have to be put elsewhere first, which takes its time."""
        if self._elsewhere is None:
            return False
        made = {id(event) for event, _ in self._made}
        return any(id(event) not in made and self._is_large(event) for event in machine.events[self.written :])

    def _is_large(self, event: e.Event) -> bool:
        return isinstance(event, e.SignalReceived) or self.codec.is_large(getattr(event, "encoded", ""))

    def put_large(self, machine: Machine) -> None:
        """Put elsewhere what :meth:`commit` would, and find it put then: so nothing else waits for that.

        :raises StorageError: it cannot be put.
        """
        self._entries(machine.events)

    def commit_shared(self, machine: Machine) -> Future[None]:
        """Begin :meth:`commit`, together with those of the running event loop's other executions."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        if self._shared is None or self._shared[0] is not loop:
            from saga.durable.shared_commits import commits_of

            self._shared = loop, commits_of(self.store)
        return self._shared[1].commit(self, machine)

    def may_begin(self, machine: Machine) -> bool:
        """Whether :meth:`commit` is no more than :meth:`to_append` says: no messages are read, and nobody is to be told."""
        return not (self.taken or self.written == len(machine.events) or (self.in_line and machine.status.terminal))

    def go_on(self) -> None:
        """See to it that shared commits which an interrupt cut off are made."""
        from saga.durable.shared_commits import commits_of

        commits_of(self.store).go_on()

    def transaction(self, in_loop: bool) -> StepTransaction:
        """Return what a transactional call is made in, a coroutine function's ``in_loop``. It is not begun yet."""
        from saga.durable.transaction import StepTransaction

        return StepTransaction(self, in_loop)

    def to_append(self, machine: Machine) -> Append:
        """Return what :meth:`commit` would store."""
        status = machine.status
        entries = self._entries(machine.events)
        changed, ends = self._changed(status), status.terminal
        told = self._told(machine) if ends or changed is not None else None
        return Append(self.lease, entries, changed, ends, self.taken, told)

    def take_stored(self, entries: int, status: e.Status) -> None:
        """Take note that so many entries are stored."""
        if status.terminal:
            self._keeper.drop(self.lease)
            self.errors.clear()  # their tracebacks know the driver, which knows this
        self.written += entries
        if self._elsewhere is not None:
            self._elsewhere.stored(self.written)
        self._status = status
        self.taken.clear()
        if status.terminal and self.in_line:
            with suppress(Exception):  # of a store with a fault; they look by themselves
                self.store.tell()

    def _append(self, entries: Sequence[Entry], machine: Machine, status: e.Status) -> None:
        if status is self._status and not status.terminal:
            self.store.append(self.lease, entries, taken=self.taken)
        else:
            changed, ends = self._changed(status), status.terminal
            told = self._told(machine)
            self.store.append(self.lease, entries, status=changed, release=ends, taken=self.taken, told=told)

    def _told(self, machine: Machine) -> Told:
        return told_of(machine, self.keep, self._definition, text_of if self.codec.cipher is None else _nothing_of)

    def _changed(self, status: e.Status) -> str | None:
        return str(status) if status is not self._status else None

    def _stored_already(self, entries: Sequence[Entry]) -> int:
        try:
            stored = self.store.journal(self.lease.saga_id)[self.written :]
        except Exception:
            return 0
        count = 0
        for mine, theirs in zip(entries, stored, strict=False):
            if (mine.seq, mine.kind, mine.step, mine.payload) != (theirs.seq, theirs.kind, theirs.step, theirs.payload):
                return 0
            count += 1
        return 0 if len(stored) > len(entries) else count

    def _entries(self, events: Sequence[e.Event]) -> list[Entry]:
        if self._keeper.of_parent:
            raise StorageError(
                f"execution {self.lease.saga_id!r} is its parent process's, which forked this one meanwhile; nothing was stored"
            )
        if self.codec.cipher is not None or self._elsewhere is not None:
            return self._made_once(events)
        return write_entries(events[self.written :], self.written, self.errors, self.codec)

    def _made_once(self, events: Sequence[e.Event]) -> list[Entry]:
        """Return entries that are encrypted or have values elsewhere, each event's made once: what is stored already is known
        by being the same.
        """
        known, self._made = self._made, []
        for number, event in enumerate(events[self.written :], self.written):
            made = next((entry for of, entry in known if of is event), None)
            if made is None:
                (made,) = write_entries([event], number, self.errors, self.codec, self.lease.saga_id, self._elsewhere)
            self._made.append((event, made))
        return [entry for _, entry in self._made]


def _nothing_of(error: BaseException) -> str:
    """Return what a row tells of an error's text where that is encrypted."""
    return ENCRYPTED
