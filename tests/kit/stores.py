"""Stores that are watched, held or full, and what a dead process leaves in one.

Nothing here knows the engine's insides: a :class:`Watched` store sees what every store sees.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saga.durable.leases import keeper_of
from saga.errors import StorageError
from saga.storage import Append, Entry, Lease, MemoryStore, NewExecution, SqliteStore, Store, Told
from tests.kit.waiting import LONG, Gate, until


@contextmanager
def in_memory_or_sqlite(kind: str, folder: Path) -> Iterator[Store]:
    """Give an empty store: ``memory``, or ``sqlite`` in the folder."""
    with MemoryStore() if kind == "memory" else SqliteStore(folder / "saga.db") as store:
        yield store


@dataclass
class Write:
    """One transaction of an execution: the arguments of ``create`` or ``append``, and what had happened just before."""

    new: NewExecution | None
    entries: tuple[Entry, ...]
    status: str | None = None
    release: bool = False
    taken: tuple[int, ...] = ()
    told: Told | None = None
    happened: Any = 0
    owner: str = ""
    epoch: int = 1


class Watched:
    """A store that remembers what is asked of it, and fails where it is told to.

    :ivar calls: the methods called by the engine, in order; :ivar writes: what they stored, transaction by transaction.
    :ivar before: called with the number of the append (``create`` is 0) before it is done; :ivar after: ... when it is.
    :ivar happened: returns what has happened outside, for :attr:`Write.happened`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: list[str] = []
        self.writes: list[Write] = []
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None
        self.happened: Callable[[], Any] = lambda: 0
        self.attempted = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)

        def call(*args: Any, **more: Any) -> Any:
            if name not in ("now", "renew"):
                self.calls.append(name)
            return real(*args, **more)

        return call

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> Any:
        self.calls.append("create")
        number = self._number()
        happened = self.happened()
        self.before(number)
        existing = self.store.create(new, entries, owner, lease_seconds)
        if existing is None:
            self.writes.append(Write(new, tuple(entries), happened=happened, owner=owner))
        self.after(number)
        return existing

    def append(self, lease: Lease, entries: Sequence[Entry], **more: Any) -> None:
        self.calls.append("append")
        number = self._number()
        happened = self.happened()
        self.before(number)
        self.store.append(lease, entries, **more)
        more["taken"] = tuple(more.get("taken", ()))
        self.writes.append(Write(None, tuple(entries), happened=happened, owner=lease.owner, epoch=lease.epoch, **more))
        self.after(number)

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        self.calls.append("append_each")
        happened = self.happened()
        stored = self.store.append_each(appends)
        for one, done in zip(appends, stored, strict=True):
            if done:
                owner, epoch = one.lease.owner, one.lease.epoch
                what = (None, tuple(one.entries), one.status, one.release, tuple(one.taken), one.told)
                self.writes.append(Write(*what, happened=happened, owner=owner, epoch=epoch))
        return stored

    def _number(self) -> int:
        with self._lock:
            self.attempted += 1
            return self.attempted - 1

    def entries(self) -> list[Entry]:
        """Return all that was stored, in order."""
        return [entry for write in self.writes for entry in write.entries]

    def kinds(self) -> list[str]:
        """Return the kinds of all that was stored."""
        return [entry.kind for entry in self.entries()]


class HeldStore(MemoryStore):
    """Holds one commit at its gate: the ``at``-th append, counted from 1, or what creates an execution, which is 0.

    :ivar gate: where it is held.
    """

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.commits = at, 0
        self.gate = Gate()

    def create(self, *args: Any) -> Any:
        if self.at == 0:
            self.gate.hold()
        return super().create(*args)

    def append(self, *args: Any, **options: Any) -> None:
        self.commits += 1
        if self.commits == self.at:
            self.gate.hold()
        super().append(*args, **options)


class FullStore(MemoryStore):
    """Stores so many appends and then nothing more.

    :ivar room: how many there is room for.
    """

    def __init__(self, room: float = float("inf")) -> None:
        super().__init__()
        self.room = room

    def append(self, *args: Any, **options: Any) -> None:
        if self.room < 1:
            raise StorageError("the disk is full")
        self.room -= 1
        super().append(*args, **options)


def expired(store: Store, writes: Iterable[Write]) -> str:
    """Put what was written into an empty store, owned by a process that is dead. Return the execution's id."""
    first, *others = writes
    assert first.new is not None
    assert store.create(first.new, first.entries, "dead", 0.0) is None
    write_again(store, first.new.saga_id, others)
    return first.new.saga_id


def write_again(store: Store, saga_id: str, writes: Iterable[Write]) -> None:
    """Write of an execution what was written elsewhere, as processes that are dead."""
    for write in writes:
        row = store.get(saga_id)
        assert row is not None
        lease = Lease(row.saga_id, "dead", row.epoch)
        if row.owner is None or write.epoch > row.epoch:
            (row,) = store.claim("dead", 0.0, saga_id=row.saga_id)
            lease = Lease(row.saga_id, "dead", row.epoch)
        store.append(lease, write.entries, status=write.status, release=write.release, told=write.told)


def until_renewed(store: Store, saga_id: str, times: int = 1) -> None:
    """Wait until the lease an execution has now is renewed so many times: what is in its inbox has been seen by the second."""
    for _ in range(times):
        row = store.get(saga_id)
        assert row is not None
        held = row.lease_until
        until(lambda held=held: getattr(store.get(saga_id), "lease_until", 0.0) > held)  # type: ignore[misc]


def until_nothing_is_held(store: Store) -> None:
    """Wait until this process renews no lease in the store. Who has one is asked now: it has had its time to begin."""
    keeper = keeper_of(store)

    def nothing_held() -> bool:
        for held in list(keeper._held.values()):
            held.until = 0.0
        keeper._sooner.set()
        return not keeper._held

    until(nothing_held)


def outlive_its_lease(store: Store, saga_id: str) -> None:
    """Wait until the lease an execution has now is over, and see that nobody else can have it: it was renewed meanwhile."""
    row = store.get(saga_id)
    assert row is not None
    until(lambda: store.now() > row.lease_until)
    assert list(store.claim("another", LONG, saga_id=saga_id)) == []


def found_after(store: Store, saga_id: str, entries: int | None = None) -> MemoryStore:
    """Return what another process finds when the one that runs this execution is gone.

    :param entries: how many it had stored by then; all that are there if not given.
    """
    row = store.get(saga_id)
    assert row is not None
    found = MemoryStore()
    status = row.status if entries is None else "running"
    new = NewExecution(saga_id, row.name, row.version, row.fingerprint, row.digest, "running")
    found.create(new, store.journal(saga_id)[:entries], "who died", 0.0)
    found.append(Lease(saga_id, "who died", 1), [], status=status, release=status not in ("running", "compensating"))
    return found
