"""What operators do: look at stored executions and decide about those a program cannot."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

from saga.awaited import awaited
from saga.blobs import Blobs
from saga.clocks import host_time
from saga.definition import definitions_of
from saga.durable.codec import Codec
from saga.durable.codec.codec import check_blobs
from saga.durable.entries import write_entries
from saga.durable.leases import claim, keeper_of, owner
from saga.durable.messages import action_message
from saga.durable.purging import purge, sweep
from saga.durable.rebuild import status_of
from saga.durable.signals import send_signal
from saga.durable.told import told_by
from saga.errors import ActionRefusedError, StorageError, UnreadMessagesError, near
from saga.events import Event, OperatorActed, Status
from saga.fleet import Version, statuses
from saga.looking import Acted, Cause, Decision, ErrorView, ExecutionView, JournalLine, Looks, Offer, StepView
from saga.looking.reading import fitting
from saga.machine import ACTIONS, check_signal, decided_on
from saga.names import check_said, checked_id, checked_name, several
from saga.plain import one_line
from saga.policy import Seconds, in_seconds
from saga.storage.opened import check_store, store_of
from saga.storage.protocol import Store
from saga.storage.records import Lease, StoredExecution
from saga.storage.rules import check_limit, check_number

if TYPE_CHECKING:
    from uuid import UUID

    from saga.saga import Saga

__all__ = [
    "Acted",
    "Cause",
    "Decision",
    "ErrorView",
    "ExecutionView",
    "JournalLine",
    "Offer",
    "Operations",
    "StepView",
    "Version",
]


_SAFE: Final = 3600.0
"""Seconds after which whoever has put a value has named it, or never will."""


class Operations(Looks):
    """Operators' actions. Every one is in the execution's journal, with who did it and why.

    An action on an execution that runs reaches its owner within seconds. One on an execution that nobody owns is recorded at
    once, and the next recovery carries it out.

    :param store: a :class:`~saga.storage.Store`, a path or a database's URL.
    :param who: the person who acts.
    :param sagas: definitions; with them an action that does not fit is refused at once, rather than by whoever owns the
        execution.
    :param blobs: where large values of executions are, besides the blobs of the codecs that ``sagas`` have: :meth:`purge` and
        :meth:`sweep` delete there.
    """

    def __init__(
        self,
        store: Store | str | PathLike[str],
        who: str,
        *,
        sagas: Iterable[Saga[Any]] = (),
        blobs: Blobs | None = None,
    ) -> None:
        check_said(who, "it is only told so far who acts")
        check_store(store, "Operations: store")
        self.who = who
        self._definitions = definitions_of(sagas, "Operations: sagas")
        check_blobs(blobs, "Operations: blobs")
        known = [blobs, *(one.codec.blobs for one in self._definitions if one.codec is not None)]
        self._blobs = list({id(one): one for one in known if one is not None}.values())
        self.store = store_of(store)

    # -- acting -------------------------------------------------------------------------------------------------------

    def cancel(self, saga_id: str | UUID, why: str) -> None:
        """Give up a running execution: what it has done is undone.

        :raises StorageError: there is none.
        :raises ActionRefusedError: it does not go forward.
        :raises ValueError: ``why`` is empty.
        """
        self._act("cancel", saga_id, None, why)

    def compensate(self, saga_id: str | UUID, why: str) -> None:
        """Undo an execution now, its in-doubt steps and failed compensations too."""
        self._act("compensate", saga_id, None, why)

    def pause(self, saga_id: str | UUID, why: str) -> None:
        """Let an execution that goes forward rest until a person says :meth:`resume`, or has it undone.

        What runs of it ends, and nothing new begins; then it is ``paused``. Timers go on counting meanwhile, and signals are
        kept. One that is submitted is not begun.

        :raises ActionRefusedError: it does not go forward, or is a block's.
        """
        self._act("pause", saga_id, None, why)

    def resume(self, saga_id: str | UUID, why: str) -> None:
        """Let a paused execution go on, or a stuck one: the steps that a person is asked about are executed again."""
        self._act("resume", saga_id, None, why)

    def retry(self, saga_id: str | UUID, why: str) -> None:
        """Try the failed compensations of a stuck execution again."""
        self._act("retry", saga_id, None, why)

    def skip(self, saga_id: str | UUID, step: str, why: str) -> None:
        """Let a stuck execution go on without a step that failed, is in doubt or could not be undone: a person saw to it."""
        self._act("skip", saga_id, checked_name(step, "step"), why)

    def undo(self, saga_id: str | UUID, why: str, to: str | None = None) -> None:
        """Undo a completed execution: wholly, or back to a step. A worker or a recovery carries it out.

        :param to: the name of a step that stays done: see :meth:`saga.Saga.undo`.
        :raises UnknownExecutionError: there is none.
        :raises ActionRefusedError: as :meth:`saga.Saga.undo`, or ``sagas`` lacks its definition, by which that is known.
        :raises DefinitionChangedError: it was begun by a definition that is not compatible. Nothing is undone.
        """
        self._act("undo", saga_id, None if to is None else checked_name(to, "to"), why)

    aundo = awaited(undo)

    def signal(self, saga_id: str | UUID, name: str, why: str, value: Any = None) -> None:
        """Send a signal to an execution: the step that receives it has ``value`` as its result, at once or when it is reached.

        :raises UnknownExecutionError: there is none.
        :raises ActionRefusedError: it does not go forward any more, the value is not what the step accepts, or ``sagas`` lacks
            its definition, by which it is known what it receives.
        :raises SagaDefinitionError: no step of the saga receives it.
        :raises EncodingError: the value cannot be stored.
        :raises ValueError: ``why`` is empty.
        """
        check_said(self.who, why)
        row = self.get(saga_id)
        definition = fitting(self._definitions, row)
        if definition is None:
            raise ActionRefusedError(
                f"which signals the execution receives is known by its definition; give Operations(..., sagas=[...]) that of "
                f"saga {row.name!r}"
            )
        check_signal(self._standing(row, self.store.journal(row.saga_id)))
        send_signal(definition, self.store, row.saga_id, checked_name(name, "name"), value, self.who, why)

    asignal = awaited(signal)

    def purge(self, *, older_than: Seconds, status: Collection[str] | str = (Status.COMPLETED, Status.COMPENSATED)) -> int:
        """Delete ended executions last written at least ``older_than`` (seconds, or a ``timedelta``) ago. Return how many.

        After them goes what they had elsewhere, in the ``blobs`` given and those of ``sagas``. In other blobs it stays, for
        :meth:`sweep` to find.

        :raises ValueError: a status is not terminal, or ``older_than`` is no finite number of at least 0.
        :raises StorageError: the store cannot be asked, or blobs cannot delete, when the executions are gone.
        """
        seconds = in_seconds(older_than)
        check_number("older_than", seconds)
        if seconds < 0:
            raise ValueError(f"older_than is {older_than!r}; give the seconds for which nothing was written, 0 or more")
        return purge(self.store, self._blobs, self.store.now() - seconds, statuses(status))

    def sweep(self, *, older_than: Seconds) -> int:
        """Delete what blobs have that no execution names: of a process that died before it was named, of a commit that failed,
        of a purge that did not come to it. Return how many values.

        All that the blobs have must be of executions in this store: another database needs a folder or a prefix of its own.

        :param older_than: seconds (or a ``timedelta``) since it was put, at least an hour: longer than any commit takes, and
            any transaction of yours in which executions are submitted. A day is a good choice.
        :raises ValueError: ``older_than`` is less, or no finite number; or no blobs are known, given or of ``sagas``.
        :raises StorageError: the store or the blobs cannot be asked.
        """
        seconds = in_seconds(older_than)
        check_number("older_than", seconds)
        if seconds < _SAFE:
            raise ValueError(f"older_than is {older_than!r}; give an hour (3600) or more: what is younger may be named soon")
        if not self._blobs:
            raise ValueError("no blobs are known: give Operations(..., blobs=...), or sagas whose codecs have some")
        return sweep(self.store, self._blobs, seconds)

    def each(
        self,
        action: str,
        why: str,
        saga_ids: Iterable[str | UUID] | None = None,
        *,
        step: str | None = None,
        to: str | None = None,
        limit: int | None = None,
        **filters: Any,
    ) -> Iterator[Acted]:
        """Act on many executions, one after the other. Yield what became of each: one that refuses does not stop the others.

        It acts as its results are read: ``for acted in operations.each("retry", "the bank is open", name="order"): ...``.

        :param action: the name of one of the actions above.
        :param saga_ids: on these, and not on those that filters find.
        :param step: on those that are at this step, or failed there. ``skip`` lets them go on without it: on those of which
            a person is asked about it, be it about others, too.
        :param to: back to which step, for ``undo``.
        :param limit: on how many at most.
        :param filters: on which: as in :meth:`list`.
        :raises ValueError: there is no such action, ``why`` is empty, or ids and filters are given.
        :raises StorageError: the store cannot be asked.
        """
        said, given = self._said(action, why, step, to, limit), _given(action, saga_ids, step, filters)
        ids = (row.saga_id for row in self._rows(action, step, filters)) if given is None else iter(given)
        return (self._acted(action, saga_id, said) for saga_id in islice(ids, limit))

    async def aeach(
        self,
        action: str,
        why: str,
        saga_ids: Iterable[str | UUID] | None = None,
        *,
        step: str | None = None,
        to: str | None = None,
        limit: int | None = None,
        **filters: Any,
    ) -> AsyncGenerator[Acted, None]:
        """Act on many executions, as :meth:`each`; the store is asked in a thread."""
        said, given = self._said(action, why, step, to, limit), _given(action, saga_ids, step, filters)
        left = limit
        async for saga_id in _ids(given) if given is not None else _ids_of(self._arows(action, step, filters)):
            if left == 0:
                return
            left = None if left is None else left - 1
            try:
                await getattr(self, f"a{action}")(saga_id, **said)
            except (ActionRefusedError, StorageError) as error:
                if type(error) is StorageError:
                    await self.alist(limit=1)
                yield Acted(saga_id, False, one_line(error))
            else:
                yield Acted(saga_id, True)

    def meant(
        self, action: str, *, step: str | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[StoredExecution]:
        """Yield the executions that :meth:`each` would act on, so that somebody can look at them first.

        :param step: as for :meth:`each`;
        :param limit: so is this.
        :raises ValueError: there is no such action.
        """
        self._said(action, "to look first", step, None, limit)
        return islice(self._rows(action, step, filters), limit)

    async def ameant(
        self, action: str, *, step: str | None = None, limit: int | None = None, **filters: Any
    ) -> AsyncGenerator[StoredExecution, None]:
        """Yield executions, as :meth:`meant`; the store is asked in a thread."""
        self._said(action, "to look first", step, None, limit)
        left = limit
        async for row in self._arows(action, step, filters):
            if left == 0:
                return
            left = None if left is None else left - 1
            yield row

    def _rows(self, action: str, step: str | None, filters: dict[str, Any]) -> Iterator[StoredExecution]:
        yield from self.all(step=step, **filters)
        if (others := _others(action, filters)) is not None:
            yield from (row for row in self.all(**others) if step in self._asked_about_besides(row))

    async def _arows(self, action: str, step: str | None, filters: dict[str, Any]) -> AsyncGenerator[StoredExecution, None]:
        async for row in self.aall(step=step, **filters):
            yield row
        if (others := _others(action, filters)) is not None:
            async for row in self.aall(**others):
                if step in await self._aasked_about_besides(row):
                    yield row

    def _said(self, action: str, why: str, step: str | None, to: str | None, limit: int | None) -> dict[str, str]:
        """Return what an action is given besides an execution's id.

        :raises ValueError: it cannot be done to any.
        """
        if action not in list(ACTIONS):
            raise ActionRefusedError(f"there is no action {action!r}{near(action, ACTIONS)}; give one of {', '.join(ACTIONS)}")
        check_said(self.who, why)
        if limit is not None:
            check_limit(limit)
        if step is not None or action == "skip":
            step = checked_name(step, "step")
        if to is not None and action != "undo":
            raise ActionRefusedError(f"{action} goes back to no step; leave out to={to!r}")
        if action == "skip":
            return {"why": why, "step": str(step)}
        return {"why": why} if to is None else {"why": why, "to": checked_name(to, "to")}

    def _acted(self, action: str, saga_id: str, said: dict[str, str]) -> Acted:
        """Act on one of many.

        :raises StorageError: the store cannot be asked.
        """
        try:
            getattr(self, action)(saga_id, **said)
        except (ActionRefusedError, StorageError) as error:
            if type(error) is StorageError:
                self.list(limit=1)  # where it cannot be asked, that says so
            return Acted(saga_id, False, one_line(error))
        return Acted(saga_id, True)

    acancel = awaited(cancel)
    acompensate = awaited(compensate)
    apause = awaited(pause)
    aresume = awaited(resume)
    aretry = awaited(retry)
    askip = awaited(skip)
    apurge = awaited(purge)
    asweep = awaited(sweep)

    def _act(self, action: str, given: str | UUID, step: str | None, why: str) -> None:
        assert action in ACTIONS
        check_said(self.who, why)
        row = self.get(given)
        saga_id = row.saga_id
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
            events, status = decided_on(standing, OperatorActed(action, step, self.who, why, host_time()))
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


async def _ids(given: Iterable[str]) -> AsyncGenerator[str, None]:
    for saga_id in given:
        yield saga_id


async def _ids_of(rows: AsyncGenerator[StoredExecution, None]) -> AsyncGenerator[str, None]:
    async for row in rows:
        yield row.saga_id


def _others(action: str, filters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the filters of executions among which some may ask about a step that their rows do not name.

    A row names one of the steps that a person is asked about.
    """
    status = filters.get("status")
    asked = status is None or Status.STUCK in statuses(status)
    return {**filters, "status": Status.STUCK} if action == "skip" and asked else None


def _given(
    action: str, saga_ids: Iterable[str | UUID] | None, step: str | None, filters: Mapping[str, Any]
) -> tuple[str, ...] | None:
    """Return the ids of the executions to act on; ``None``: filters say on which.

    :raises ValueError: both do.
    """
    if saga_ids is None:
        return None
    over = [*filters, *(["step"] if step is not None and action != "skip" else [])]
    if over:
        raise ActionRefusedError(f"saga_ids say on which to act, and so do filters ({', '.join(over)}); give either")
    return tuple(checked_id(one, "one of saga_ids") for one in several(saga_ids, "saga_ids"))
