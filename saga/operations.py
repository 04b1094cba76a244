"""What operators do: look at stored executions and decide about those a program cannot."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

from saga.awaited import awaited
from saga.definition import Definition, definitions_of
from saga.durable.codec import Codec
from saga.durable.entries import action_message, details_of, details_of_message, write_entries
from saga.durable.leases import claim, keeper_of, owner
from saga.durable.rebuild import rebuild, status_of
from saga.durable.told import told_by
from saga.durable.undoing import check_undo
from saga.errors import ActionRefusedError, DefinitionChangedError, StorageError, UnknownExecutionError, UnreadMessagesError
from saga.events import (
    Event,
    OperatorActed,
    SagaCompensated,
    SagaCompensating,
    SagaPaused,
    SagaRewound,
    SagaStarted,
    SagaStuck,
    SagaSubmitted,
    Status,
)
from saga.fleet import Fleet, Version, statuses
from saga.machine import ACTIONS, Standing, cancellation, check, paused_by, standing_of, status_after
from saga.names import check_said, checked_name
from saga.plain import one_line
from saga.storage.opened import check_store, store_of
from saga.storage.protocol import Store
from saga.storage.records import NONE, Entry, Lease, Page, StoredExecution
from saga.storage.rules import check_number, each_of
from saga.turns import checked_tags

if TYPE_CHECKING:
    from saga.saga import Saga

__all__ = ["ExecutionView", "JournalLine", "Operations", "Version"]


_TELL_WHY: Final[dict[str, tuple[str, ...]]] = {
    Status.STUCK: (SagaStuck.__name__,),
    Status.PAUSED: (SagaPaused.__name__, SagaRewound.__name__),
}
"""By an execution's status: the kinds of the entries that say why it stands so."""


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A journal entry as it is shown: ``details`` is the payload, with values as they are stored.

    ``str()`` of it is one line, whatever is in it: long values are cut there, but for what says why.
    """

    seq: int
    at: float
    kind: str
    step: str | None
    details: dict[str, Any]

    def __str__(self) -> str:
        try:
            when = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")
        except (ValueError, OverflowError, OSError, TypeError):  # no time that there is
            when = str(self.at)
        details = " ".join(f"{one_line(key)}={_short(key, value)}" for key, value in self.details.items())
        return f"{self.seq:>4}  {when}  {one_line(self.kind):<22} {one_line(self.step or ''):<20} {details}".rstrip()


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution, its journal, and the messages it has not read yet. ``str()`` says how it stands, and has the timeline."""

    execution: StoredExecution
    journal: tuple[JournalLine, ...]
    inbox: tuple[dict[str, Any], ...]

    @property
    def reason(self) -> str | None:
        """Why the execution is stuck or paused, or ``None``."""
        kinds = _TELL_WHY.get(self.execution.status, ())
        return next((line.details.get("reason") for line in reversed(self.journal) if line.kind in kinds), None)

    def timeline(self) -> str:
        """Return the journal as text, a line for each entry."""
        return "\n".join(map(str, self.journal))

    def __str__(self) -> str:
        row = self.execution
        why = f": {one_line(self.reason)}" if self.reason is not None else ""
        return f"saga {row.name!r} ({one_line(row.saga_id)}) is {one_line(row.status)}{why}\n{self.timeline()}"


class Operations(Fleet):
    """Operators' actions. Every one is in the execution's journal, with who did it and why.

    An action on an execution that runs reaches its owner within seconds. One on an execution that nobody owns is recorded at
    once, and the next recovery carries it out.

    :param store: a :class:`~saga.storage.Store`, a path or a database's URL.
    :param who: the person who acts.
    :param sagas: definitions; with them an action that does not fit is refused at once, rather than by whoever owns the
        execution.
    """

    def __init__(self, store: Store | str | PathLike[str], who: str, *, sagas: Iterable[Saga[Any]] = ()) -> None:
        check_said(who, "it is only told so far who acts")
        check_store(store, "Operations: store")
        self.who = who
        self._definitions = definitions_of(sagas, "Operations: sagas")
        self.store = store_of(store)

    # -- looking ------------------------------------------------------------------------------------------------------

    def list(
        self,
        *,
        status: Collection[str] | str | None = None,
        name: str | None = None,
        version: str | None = None,
        step: str | None = None,
        cause: str | None = None,
        tags: Mapping[str, Any] | None = None,
        older_than: float | None = None,
        newer_than: float | None = None,
        idle_for: float | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Return a page of executions, newest first. Each row tells where it stands; no journal is read.

        :param status: one :class:`~saga.events.Status`, or several.
        :param step: only those that are at this step, or that failed there.
        :param cause: only those that were given up for an error of a class of this name.
        :param tags: only those that have all of these: ``{"order": "A1"}``.
        :param older_than: only those created at least so many seconds ago.
        :param newer_than: at most.
        :param idle_for: only those with which nothing has happened for so many seconds.
        :param after: the ``next`` of the page before.
        :raises ValueError: there is no such status, the cursor is wrong, or a number is no finite one.
        """
        for what, age in (("older_than", older_than), ("newer_than", newer_than), ("idle_for", idle_for)):
            if age is not None:
                check_number(what, age)
        now = self.store.now()
        return self.store.list(
            status=None if status is None else statuses(status),
            name=None if name is None else checked_name(name, "name"),
            version=None if version is None else checked_name(version, "version"),
            step=None if step is None else checked_name(step, "step"),
            cause=None if cause is None else checked_name(cause, "cause"),
            tags=NONE if tags is None else checked_tags(tags, "tags"),
            progressed_before=None if idle_for is None else now - idle_for,
            created_before=None if older_than is None else now - older_than,
            created_after=None if newer_than is None else now - newer_than,
            limit=limit,
            after=after,
        )

    alist = awaited(list)

    def all(self, **filters: Any) -> Iterator[StoredExecution]:
        """Yield every execution, page after page; filters as in :meth:`list`."""
        return each_of(self.list, **filters)

    async def aall(self, **filters: Any) -> AsyncGenerator[StoredExecution, None]:
        """Yield every execution, as :meth:`all`; pages are read as by :meth:`alist`."""
        page = await self.alist(**filters)
        while True:
            for execution in page.executions:
                yield execution
            if page.next is None:
                return
            page = await self.alist(**filters, after=page.next)

    def get(self, saga_id: str) -> StoredExecution:
        """Return an execution's row, which tells where it stands. No journal is read.

        :raises UnknownExecutionError: there is none.
        """
        row = self.store.get(checked_name(saga_id, "saga_id"))
        if row is None:
            raise UnknownExecutionError(f"there is no execution {saga_id!r}")
        return row

    aget = awaited(get)

    def show(self, saga_id: str) -> ExecutionView:
        """Return an execution and its journal. Of what is damaged there, what can be read is shown.

        :raises StorageError: there is none.
        """
        row = self.get(saga_id)
        journal = self.store.journal(saga_id)
        lines = tuple(map(_line, journal, details_of(journal)))
        return ExecutionView(row, lines, tuple(details_of_message(message.body) for message in self.store.inbox(saga_id)))

    ashow = awaited(show)

    # -- acting -------------------------------------------------------------------------------------------------------

    def cancel(self, saga_id: str, why: str) -> None:
        """Give up a running execution: what it has done is undone.

        :raises StorageError: there is none.
        :raises ActionRefusedError: it does not go forward.
        :raises ValueError: ``why`` is empty.
        """
        self._act("cancel", saga_id, None, why)

    def compensate(self, saga_id: str, why: str) -> None:
        """Undo an execution now, its in-doubt steps and failed compensations too."""
        self._act("compensate", saga_id, None, why)

    def pause(self, saga_id: str, why: str) -> None:
        """Let an execution that goes forward rest until a person says :meth:`resume`, or has it undone.

        What runs of it ends, and nothing new begins; then it is ``paused``. Timers go on counting meanwhile, and signals are
        kept. One that is submitted is not begun.

        :raises ActionRefusedError: it does not go forward, or is a block's.
        """
        self._act("pause", saga_id, None, why)

    def resume(self, saga_id: str, why: str) -> None:
        """Let a paused execution go on, or a stuck one: the steps that a person is asked about are executed again."""
        self._act("resume", saga_id, None, why)

    def retry(self, saga_id: str, why: str) -> None:
        """Try the failed compensations of a stuck execution again."""
        self._act("retry", saga_id, None, why)

    def skip(self, saga_id: str, step: str, why: str) -> None:
        """Let a stuck execution go on without a step that failed, is in doubt or could not be undone: a person saw to it."""
        self._act("skip", saga_id, checked_name(step, "step"), why)

    def undo(self, saga_id: str, why: str, to: str | None = None) -> None:
        """Undo a completed execution: wholly, or back to a step. A worker or a recovery carries it out.

        :param to: the name of a step that stays done: see :meth:`saga.Saga.undo`.
        :raises UnknownExecutionError: there is none.
        :raises ActionRefusedError: as :meth:`saga.Saga.undo`, or ``sagas`` lacks its definition, by which that is known.
        :raises DefinitionChangedError: it was begun by a definition that is not compatible. Nothing is undone.
        """
        self._act("undo", saga_id, None if to is None else checked_name(to, "to"), why)

    aundo = awaited(undo)

    def purge(self, *, older_than: float, status: Collection[str] | str = (Status.COMPLETED, Status.COMPENSATED)) -> int:
        """Delete ended executions last written at least ``older_than`` seconds ago. Return how many.

        :raises ValueError: a status is not terminal, or ``older_than`` is no finite number of at least 0.
        """
        check_number("older_than", older_than)
        if older_than < 0:
            raise ValueError(f"older_than is {older_than!r}; give the seconds for which nothing was written, 0 or more")
        before, count = self.store.now() - older_than, 0
        while deleted := self.store.purge(updated_before=before, status=statuses(status)):
            count += deleted
        return count

    acancel = awaited(cancel)
    acompensate = awaited(compensate)
    apause = awaited(pause)
    aresume = awaited(resume)
    aretry = awaited(retry)
    askip = awaited(skip)
    apurge = awaited(purge)

    def _act(self, action: str, saga_id: str, step: str | None, why: str) -> None:
        assert action in ACTIONS
        check_said(self.who, why)
        row = self.get(saga_id)
        self._check(action, step, row, self.store.journal(saga_id))
        claimed = claim(self.store, 10.0, saga_id=saga_id)
        if not claimed and status_of(self.get(saga_id)).terminal:  # whoever holds what has ended reads no messages
            raise StorageError(f"somebody else acts on execution {saga_id!r}: nothing was done; look at it and try again")
        if not claimed:  # somebody owns it
            self.store.post(saga_id, action_message(action, step, self.who, why))
            keeper_of(self.store).look(saga_id)
            return
        lease = Lease(saga_id, owner(), claimed[0].epoch)
        try:
            journal = self.store.journal(saga_id)
            standing = self._check(action, step, claimed[0], journal)
            events, status = _acted(standing, OperatorActed(action, step, self.who, why, time.time()))
            written = max((entry.seq for entry in journal), default=0)
            self._store(lease, events, status, written, claimed[0])
        finally:
            self.store.release(lease, got_on=True)

    def _store(self, lease: Lease, events: Sequence[Event], status: Status, written: int, row: StoredExecution) -> None:
        entries, told = write_entries(events, written, {}, Codec()), told_by(row, events)
        try:
            self.store.append(lease, entries, status=str(status), release=status.terminal, told=told)
        except UnreadMessagesError:  # it does not end before somebody has read them
            self.store.append(lease, entries[:-1], status=str(Status.COMPENSATING), told=told)

    def _check(self, action: str, step: str | None, row: StoredExecution, journal: Sequence[Entry]) -> Standing:
        """Refuse an action that does not fit where an execution stands; return where that is."""
        standing = self._standing(row, journal)
        check(action, step, standing)
        if action == "undo":
            definition = self._definition(row)
            check_undo(definition, rebuild(definition, row, journal).machine, step, self.store.now())
        return standing

    def _definition(self, row: StoredExecution) -> Definition:
        """Return the definition of an execution, or the one that says what does not fit."""
        known = [one for one in self._definitions if one.name == row.name]
        if not known and row.version == "block":  # whose journal says what its steps are
            from saga.transaction import block_definition

            return block_definition(row.name)
        if not known:
            raise ActionRefusedError(
                f"whether the execution can be undone is known by its definition; give Operations(..., sagas=[...]) that of "
                f"saga {row.name!r}"
            )
        fitting = [one for one in known if one.plan.fingerprint == row.fingerprint or row.version in one.compatible_with]
        return (fitting or known)[0]

    def _standing(self, row: StoredExecution, journal: Sequence[Entry]) -> Standing:
        """Return where an execution stands, as far as that can be told here."""
        for definition in self._definitions:
            if definition.name == row.name:
                with suppress(DefinitionChangedError):
                    return standing_of(rebuild(definition, row, journal).machine.state)
        rewound = max((entry.seq for entry in journal if entry.kind == SagaRewound.__name__), default=0)
        kinds = {entry.kind for entry in journal if entry.seq > rewound}
        unbegun = SagaSubmitted.__name__ in kinds and SagaStarted.__name__ not in kinds
        return Standing(status_of(row), SagaCompensating.__name__ in kinds, unbegun)


def _acted(standing: Standing, acted: OperatorActed) -> tuple[list[Event], Status]:
    """Return the events of a person's action on an execution that nobody runs, and its status then."""
    events: list[Event] = [acted]
    unbegun = standing.unbegun and acted.action in ("cancel", "compensate")
    if unbegun or acted.action == "undo":  # nothing of it is to be recovered first
        events.append(SagaCompensating(None, cancellation(acted), acted.at))
    if unbegun:  # and it need not wait until it would have been its turn
        events.append(SagaCompensated(acted.at))
    if acted.action == "pause":
        events.append(SagaPaused(paused_by(acted), acted.at))
    status = standing.status
    for event in events:
        status = status_after(status, type(event), bool(standing.gave_up), bool(standing.unbegun))
    return events, status


def _line(entry: Entry, details: dict[str, Any]) -> JournalLine:
    return JournalLine(entry.seq, entry.at, entry.kind, entry.step, details)


def _short(key: str, value: Any) -> str:
    if key == "error" and isinstance(value, dict) and {"type", "text"} <= value.keys() and isinstance(value["type"], str):
        return one_line(f"{value['type'].rpartition(':')[2]}: {value['text']}")
    text = one_line(value if isinstance(value, str) else json.dumps(value, default=repr))
    return text if len(text) <= 80 or key in ("reason", "why") else text[:77] + "..."
