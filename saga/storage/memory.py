"""A store in memory: for tests, and for executions that need not outlive their process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any

from saga.clocks import time_of_day
from saga.storage import rules
from saga.storage.claims import called_until, due_again, opening
from saga.storage.figures import TOLD
from saga.storage.memory_asking import AskedInMemory
from saga.storage.memory_line import Line, Turn
from saga.storage.protocol import Store
from saga.storage.records import (
    NO_PLACES,
    Beat,
    Entry,
    Lease,
    Message,
    NewExecution,
    Place,
    StoredExecution,
    Told,
    Wanted,
)
from saga.storage.watching import ring

__all__ = ["MemoryStore"]


class MemoryStore(AskedInMemory, Store):
    """Dicts and a lock.

    :param clock: returns seconds since the epoch, as they go on with this process, whoever sets the time, where not given.
    """

    def __init__(self, *, clock: Callable[[], float] = time_of_day) -> None:
        rules.check_clock(clock)
        super().__init__(clock)
        self._executions: dict[str, StoredExecution] = {}
        self._journals: dict[str, dict[int, Entry]] = {}
        self._inboxes: dict[str, dict[int, Message]] = {}
        self._line = Line(self._executions, self._holds)
        self._posted = 0

    def __repr__(self) -> str:
        return "<MemoryStore>"

    def now(self) -> float:
        return self._clock()

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        status = rules.check_new(new, owner, lease_seconds)
        self._check_texts(entries)
        with self._lock:
            if existing := self.get(new.saga_id):
                return existing
            rules.check_not_held(new, self._holds.values())
            journal = _by_seq(new.saga_id, {}, entries)
            until = self._clock() + lease_seconds
            row = self._add(new, status, journal)
            row = row._replace(owner=owner, epoch=1, lease_until=until, due=until, started=row.created)
            self._executions[new.saga_id] = row
        return None

    def submit(
        self, new: Sequence[tuple[NewExecution, Sequence[Entry]]], *, connection: Any = None
    ) -> list[StoredExecution | None]:
        if connection is not None:
            raise ValueError("a store in memory has no database, and takes part in no transaction: connection must be None")
        statuses = [rules.check_new(one) for one, _ in new]
        for _, entries in new:
            self._check_texts(entries)
        found: list[StoredExecution | None] = []
        with self._lock:
            self._refuse_if_closed()
            journals = [_by_seq(one.saga_id, {}, entries) for one, entries in new]
            for (one, _), status, journal in zip(new, statuses, journals, strict=True):
                found.append(self._executions.get(one.saga_id))
                if found[-1] is None:
                    self._add(one, status, journal)
        ring(self)
        return found

    def _add(self, new: NewExecution, status: str, journal: dict[int, Entry]) -> StoredExecution:
        """Add an execution that nobody owns."""
        now = self._clock()
        due, opens = opening(new, now)
        self._journals[new.saga_id] = journal
        self._inboxes[new.saga_id] = {}
        row = self._executions[new.saga_id] = StoredExecution(
            saga_id=new.saga_id,
            name=new.name,
            version=new.version,
            fingerprint=new.fingerprint,
            digest=new.digest,
            status=status,
            owner=None,
            epoch=0,
            lease_until=0.0,
            due=due,
            recoveries=0,
            created=now,
            updated=now,
            step=new.step,
            tags=dict(new.tags),
            priority=new.priority,
            exclusive=new.exclusive,
            opens=opens,
            progressed=now,
            called_until=called_until(new, now),
        )
        return row

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
            if told is not None:
                keep = now + told.keep if told.keep else row.keep_until
                row = row._replace(
                    step=told.step, reason=told.reason, cause=told.cause, keep_until=keep, progressed=now, updated=now
                )
                if told.definition is not None:
                    row = row._replace(version=told.definition[0], fingerprint=told.definition[1])
            if status is not None:
                row = row._replace(status=status, progressed=now, updated=now)
                if status in rules.ENDED:
                    self._line.keys.discard(row.saga_id)
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
        wanted: Collection[Wanted] | None = None,
        submitted: bool = True,
        limit: int = 1,
        saga_id: str | None = None,
        but: Callable[[], Collection[str]] = frozenset,
    ) -> list[StoredExecution]:
        rules.check_claim(owner, lease_seconds, limit)
        with self._lock:
            self._refuse_if_closed()
            now = self._clock()
            left_out = but()
            if saga_id is not None:
                row = self._executions.get(saga_id)
                if row is None or saga_id in left_out or row.lease_until > now or (row.status == "submitted" and not submitted):
                    return []
                if wanted is None:
                    return [self._claimed(row, owner, now, lease_seconds, counts=False, runs=False)]
                found = [row] if self._line.is_open(row, now) else []
            else:
                found = self._line.due(now, submitted)
            claimed: list[StoredExecution] = []
            turn = Turn(self._line, wanted, now)
            for row in found:
                if len(claimed) == limit:
                    break
                if row.saga_id not in left_out and turn.may_run(row):
                    turn.take(row)
                    claimed.append(self._claimed(row, owner, now, lease_seconds, counts=saga_id is None, runs=True))
            return claimed

    def renew(
        self, owner: str, leases: Sequence[Lease], lease_seconds: float, places: Mapping[str, Place] = NO_PLACES
    ) -> list[Beat]:
        rules.check_number("lease_seconds", lease_seconds)
        beats = []
        with self._lock:
            now = self._clock()
            until = now + lease_seconds
            for lease in leases:
                row = self._held_by(Lease(lease.saga_id, owner, lease.epoch))
                if row is not None:
                    row = row._replace(lease_until=until, due=until, updated=now)
                    if place := places.get(row.saga_id):
                        row = row._replace(step=place.step, progressed=now - place.idle)
                    self._executions[row.saga_id] = row
                    beats.append(Beat(row.saga_id, bool(self._inboxes[row.saga_id])))
        return beats

    def renew_call(self, saga_id: str, seconds: float) -> None:
        rules.check_number("seconds", seconds)
        with self._lock:
            row = self.get(saga_id)
            if row is not None and row.status == "submitted" and row.called_until is not None:
                self._executions[saga_id] = row._replace(called_until=self._clock() + seconds)

    def release(
        self, lease: Lease, *, delay: float = 0.0, got_on: bool = False, untried: bool = False, step: str | None = None
    ) -> None:
        rules.check_number("delay", delay)
        with self._lock:
            row = self._held_by(lease)
            if row is not None:
                now = self._clock()
                recoveries = 0 if got_on else row.recoveries - untried
                if got_on and self._inboxes[row.saga_id]:
                    delay = 0.0
                self._executions[row.saga_id] = row._replace(
                    owner=None,
                    lease_until=0.0,
                    due=due_again(row, now, delay),
                    recoveries=recoveries,
                    updated=now,
                    step=row.step if step is None else step,
                    progressed=now if got_on else row.progressed,
                )
        ring(self)

    def post(self, saga_id: str, body: str, *, status: Collection[str] | None = None) -> None:
        takes = rules.reading(status)
        rules.check_texts([body], self.longest_text)
        with self._lock:
            row = self.get(saga_id)
            if row is None:
                raise rules.unknown_execution(saga_id)
            if row.status not in takes:
                raise rules.not_taken(saga_id, row.status)
            self._posted += 1
            self._inboxes[saga_id][self._posted] = Message(self._posted, saga_id, body)
            if row.status != "stuck":  # which is left alone, and due for somebody to be told of it
                self._executions[saga_id] = row._replace(due=min(row.due, self._clock()))
        ring(self)

    def inbox(self, saga_id: str) -> list[Message]:
        with self._lock:
            self._refuse_if_closed()
            return list(self._inboxes.get(saga_id, {}).values())

    def next_alert(self, seconds: float) -> StoredExecution | None:
        rules.check_number("seconds", seconds)
        with self._lock:
            self._refuse_if_closed()
            now = self._clock()
            stuck = (one for one in self._executions.values() if one.status == "stuck" and one.lease_until <= now >= one.due)
            row = min(stuck, key=lambda one: (one.due, one.saga_id), default=None)
            if row is not None:
                row = self._executions[row.saga_id] = row._replace(due=now + seconds)
            return row

    def alerted(self, saga_id: str, epoch: int, again: float | None = None) -> None:
        rules.check_number("again", again or 0.0)
        with self._lock:
            row = self.get(saga_id)
            if row is not None and (row.status, row.epoch) == ("stuck", epoch):
                self._executions[saga_id] = row._replace(due=TOLD if again is None else self._clock() + again)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        statuses = rules.check_purge(updated_before, status, limit)
        with self._lock:
            self._refuse_if_closed()
            now = self._clock()
            old = [
                row.saga_id
                for row in self._executions.values()
                if row.status in statuses
                and row.updated < updated_before
                and row.lease_until <= now
                and (row.status != "completed" or row.keep_until <= now)
            ][:limit]
            for saga_id in old:
                self._line.keys.discard(saga_id)
                del self._executions[saga_id], self._journals[saga_id], self._inboxes[saga_id]
        return len(old)

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def _check_texts(self, entries: Sequence[Entry]) -> None:
        if self.longest_text < sys.maxsize:  # as that of a test may be
            rules.check_texts([entry.payload for entry in entries], self.longest_text)

    def _held_by(self, lease: Lease) -> StoredExecution | None:
        """Return the row that this lease holds, if it still does."""
        row = self.get(lease.saga_id)
        return row if row is not None and row.owner == lease.owner and row.epoch == lease.epoch else None

    def _claimed(
        self, row: StoredExecution, owner: str, now: float, lease_seconds: float, *, counts: bool, runs: bool
    ) -> StoredExecution:
        """Give an execution to a new owner. Return its row as it is then."""
        until = now + lease_seconds
        row = row._replace(owner=owner, epoch=row.epoch + 1, lease_until=until, due=until, updated=now)
        if counts:
            row = row._replace(recoveries=row.recoveries + 1)
        if runs:
            row = row._replace(started=now if row.started is None else row.started)
            if row.exclusive is not None:
                self._line.keys.add(row.saga_id)
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
