"""A store whose process dies on demand, and what others find in it then. No process is ended here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from saga import events
from saga.errors import SagaDefinitionError, StorageError, near
from saga.storage import Entry, Lease, MemoryStore, NewExecution, StoredExecution
from saga.testing.events import line_of

__all__ = ["DiedError", "DyingStore"]

When = int | str | None


class DiedError(StorageError):
    """The process that used a :class:`DyingStore` is dead: it stores nothing any more, and reads nothing."""


class DyingStore(MemoryStore):
    """A store in memory whose process dies at one write: then it is as if the process had been killed there.

    What the saga runs ends with a :class:`DiedError`, nothing of it is executed or undone any more, and :meth:`left` gives what
    was stored until then, for a recovery. A write is a transaction that adds to journals. With the end of a step it stores the
    beginning of the next.

    :param before: it dies before this write, which is lost: its number, counted from 1, or one of the events that it stores, as
        :attr:`Events.lines` has them, with or without the step, such as ``"StepSucceeded Charge"``: the charge is made, and
        nobody knows.
    :param after: it dies after this write, such as ``"StepStarted Charge"``: the charge may have been made, and was not.
    :raises SagaDefinitionError: there is no such event.
    :ivar writes: how many there were.
    :ivar dead: whether it has died.
    """

    def __init__(self, *, before: When = None, after: When = None) -> None:
        super().__init__()
        self._before, self._after = _checked("before", before), _checked("after", after)
        self.writes = 0
        self.dead = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' that is dead' if self.dead else ''}>"

    def left(self, *, before: When = None, after: When = None) -> Self:
        """Return a store as another process finds it later: with all that is stored, and its leases over.

        :param before: when that one dies, as this class has it.
        :param after: ...
        """
        found = type(self)(before=before, after=after)
        with self._lock:
            now = self._clock()
            for saga_id, row in self._executions.items():
                if row.owner is not None:
                    row = row._replace(lease_until=min(row.lease_until, now), due=min(row.due, now))
                found._executions[saga_id] = row
                found._journals[saga_id] = dict(self._journals[saga_id])
                found._inboxes[saga_id] = dict(self._inboxes[saga_id])
            found._line.keys |= self._line.keys
            found._holds.update(self._holds)
            found._posted = self._posted
        return found

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        with self._writing(entries):
            return super().create(new, entries, owner, lease_seconds)

    def submit(
        self, new: Sequence[tuple[NewExecution, Sequence[Entry]]], *, connection: Any = None
    ) -> list[StoredExecution | None]:
        with self._writing([entry for _, entries in new for entry in entries]):
            return super().submit(new, connection=connection)

    def append(self, lease: Lease, entries: Sequence[Entry], **more: Any) -> None:
        with self._writing(entries):
            super().append(lease, entries, **more)

    @contextmanager
    def _writing(self, entries: Sequence[Entry]) -> Iterator[None]:
        with self._lock:
            self._refuse_if_closed()
            self.writes += 1
            lines = [line_of(entry.kind, entry.step) for entry in entries]
            known = {self.writes, *lines, *(entry.kind for entry in entries)}
            what = f"write {self.writes}: {', '.join(lines)}"
            if self._before in known:
                self._die(f"before {what}")
            yield
            if self._after in known:
                self._die(f"after {what}")

    def _die(self, when: str) -> None:
        self.dead = True
        raise DiedError(f"the process died {when}")

    def _refuse_if_closed(self) -> None:
        if self.dead:
            raise DiedError("the process is dead, and neither stores nor reads anything; left() is what others find")
        super()._refuse_if_closed()


def _checked(name: str, when: When) -> When:
    """Return when it dies.

    :raises SagaDefinitionError: never, as there is no such event or number.
    """
    known = [kind for kind in events.__all__ if hasattr(getattr(events, kind), "__match_args__")]
    if isinstance(when, str) and when.partition(" ")[0] in known:
        return when
    if when is None or (isinstance(when, int) and not isinstance(when, bool) and when >= 1):
        return when
    hint = near(when.partition(" ")[0], known) if isinstance(when, str) else ""
    raise SagaDefinitionError(
        f"DyingStore(): {name} is {when!r}{hint}; give the number of a write, from 1, or an event: 'StepSucceeded Charge'"
    )
