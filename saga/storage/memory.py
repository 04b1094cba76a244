"""A store in memory: for tests, and for executions that need not outlive their process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Container, Sequence

from saga.clocks import time_of_day
from saga.storage import rules
from saga.storage.protocol import Beat, Entry, Lease, Message, NewExecution, Page, Store, StoredExecution

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """Dicts and a lock.

    :param clock: returns seconds since the epoch, as they go on with this process, whoever sets the time, where not given.
    """

    def __init__(self, *, clock: Callable[[], float] = time_of_day) -> None:
        rules.check_clock(clock)
        self._clock = clock
        self._lock = threading.RLock()
        self._executions: dict[str, StoredExecution] = {}
        self._journals: dict[str, dict[int, Entry]] = {}
        self._inboxes: dict[str, dict[int, Message]] = {}
        self._posted = 0
        self._closed = False

    def now(self) -> float:
        return self._clock()

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner, lease_seconds)
        self._check_texts(entries)
        with self._lock:
            if existing := self.get(new.saga_id):
                return existing
            journal = _by_seq(new.saga_id, {}, entries)
            now = self._clock()
            until = now + lease_seconds
            self._executions[new.saga_id] = StoredExecution(
                saga_id=new.saga_id,
                name=new.name,
                version=new.version,
                fingerprint=new.fingerprint,
                digest=new.digest,
                status=status,
                owner=owner,
                epoch=1,
                lease_until=until,
                due=until,
                recoveries=0,
                created=now,
                updated=now,
            )
            self._journals[new.saga_id] = journal
            self._inboxes[new.saga_id] = {}
        return None

    def append(
        self,
        lease: Lease,
        entries: Sequence[Entry],
        *,
        status: str | None = None,
        release: bool = False,
        taken: Sequence[int] = (),
    ) -> None:
        status = None if status is None else rules.check_status(status)
        self._check_texts(entries)
        with self._lock:
            row = self._held_by(lease)
            if row is None:
                raise rules.lease_lost(lease)
            journal = self._journals[row.saga_id]
            added = _by_seq(row.saga_id, journal, entries)
            inbox = self._inboxes[row.saga_id]
            if status in rules.RESTING and not inbox.keys() <= set(taken):
                raise rules.unread(row.saga_id)
            journal.update(added)
            for message in taken:
                inbox.pop(message, None)
            now = self._clock()
            if status is not None:
                row = row._replace(status=status, updated=now)
            if release:
                row = row._replace(owner=None, lease_until=0.0, due=now, updated=now)
            self._executions[row.saga_id] = row

    def get(self, saga_id: str) -> StoredExecution | None:
        with self._lock:
            self._refuse_if_closed()
            return self._executions.get(saga_id)

    def journal(self, saga_id: str) -> list[Entry]:
        with self._lock:
            self._refuse_if_closed()
            journal = self._journals.get(saga_id, {})
            return [journal[seq] for seq in sorted(journal)]

    def claim(
        self,
        owner: str,
        lease_seconds: float,
        *,
        names: Collection[str] | None = None,
        limit: int = 1,
        saga_id: str | None = None,
    ) -> list[StoredExecution]:
        rules.check_claim(owner, lease_seconds, limit)
        with self._lock:
            self._refuse_if_closed()
            now = self._clock()
            found = [
                row
                for row in self._executions.values()
                if row.lease_until <= now
                and (names is None or row.name in names)
                and (row.saga_id == saga_id if saga_id is not None else row.status in rules.CLAIMABLE and row.due <= now)
            ]
            found.sort(key=lambda row: row.due)
            return [self._claimed(row, owner, now, lease_seconds, recovery=saga_id is None) for row in found[:limit]]

    def renew(self, owner: str, leases: Sequence[Lease], lease_seconds: float) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)
        beats = []
        with self._lock:
            now = self._clock()
            until = now + lease_seconds
            for lease in leases:
                row = self._held_by(Lease(lease.saga_id, owner, lease.epoch))
                if row is not None:
                    self._executions[row.saga_id] = row._replace(lease_until=until, due=until, updated=now)
                    beats.append(Beat(row.saga_id, bool(self._inboxes[row.saga_id])))
        return beats

    def release(self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False) -> None:
        rules.check_number("delay", delay)
        with self._lock:
            row = self._held_by(lease)
            if row is not None:
                now = self._clock()
                recoveries = 0 if got_on else row.recoveries - untried
                if got_on and self._inboxes[row.saga_id]:
                    delay = 0.0
                self._executions[row.saga_id] = row._replace(
                    owner=None, lease_until=0.0, due=now + delay, recoveries=recoveries, updated=now
                )

    def post(self, saga_id: str, body: str) -> None:
        rules.check_texts([body], self.longest_text)
        with self._lock:
            row = self.get(saga_id)
            if row is None:
                raise rules.unknown_execution(saga_id)
            if row.status in rules.ENDED:
                raise rules.ended(saga_id, row.status)
            self._posted += 1
            self._inboxes[saga_id][self._posted] = Message(self._posted, saga_id, body)
            self._executions[saga_id] = row._replace(due=min(row.due, self._clock()))

    def inbox(self, saga_id: str) -> list[Message]:
        with self._lock:
            self._refuse_if_closed()
            return list(self._inboxes.get(saga_id, {}).values())

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
        rules.check_page(created_before, created_after, limit)
        statuses = rules.statuses_of(status)
        bound = rules.bound_of(after, created_before)
        with self._lock:
            self._refuse_if_closed()
            found = [
                row
                for row in self._executions.values()
                if row.status in statuses
                and (name is None or row.name == name)
                and (created_after is None or row.created >= created_after)
                and (row.created, row.saga_id) < bound
            ]
        found.sort(key=lambda row: (row.created, row.saga_id), reverse=True)
        return rules.page_of(found, limit)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_purge(updated_before, status, limit)
        with self._lock:
            self._refuse_if_closed()
            now = self._clock()
            old = [
                row.saga_id
                for row in self._executions.values()
                if row.status in statuses and row.updated < updated_before and row.lease_until <= now
            ][:limit]
            for saga_id in old:
                del self._executions[saga_id], self._journals[saga_id], self._inboxes[saga_id]
        return len(old)

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def _check_texts(self, entries: Sequence[Entry]) -> None:
        if self.longest_text < sys.maxsize:  # as that of a test may be
            rules.check_texts([entry.payload for entry in entries], self.longest_text)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise rules.closed(type(self).__name__)

    def _held_by(self, lease: Lease) -> StoredExecution | None:
        """Return the row that this lease holds, if it still does."""
        row = self.get(lease.saga_id)
        return row if row is not None and row.owner == lease.owner and row.epoch == lease.epoch else None

    def _claimed(
        self, row: StoredExecution, owner: str, now: float, lease_seconds: float, *, recovery: bool
    ) -> StoredExecution:
        """Give an execution to a new owner. Return its row as it is then."""
        until = now + lease_seconds
        row = row._replace(owner=owner, epoch=row.epoch + 1, lease_until=until, due=until, updated=now)
        if recovery:
            row = row._replace(recoveries=row.recoveries + 1)
        self._executions[row.saga_id] = row
        return row


def _by_seq(saga_id: str, journal: Container[int], entries: Sequence[Entry]) -> dict[int, Entry]:
    """Return the entries by their ``seq``.

    :raises StorageError: the journal has one of them already.
    """
    added = {entry.seq: entry for entry in entries}
    if len(added) < len(entries) or any(seq in journal for seq in added):
        raise rules.already_stored(saga_id, entries)
    return added
