"""What a saga does with its store: submits executions, loads them, sends them signals. Nothing is executed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple

from saga.awaited import awaited
from saga.context import ContextLike, Ctx
from saga.declared import Declared, refuse_unmade
from saga.definition import GIVE_A_STORE, Definition
from saga.errors import SagaDefinitionError, SagaIdTakenError, StorageError, add_note
from saga.names import checked_id

if TYPE_CHECKING:
    from uuid import UUID

    from saga.handle import Handle
    from saga.result import SagaResult
    from saga.storage import Store
    from saga.storage.protocol import StoreLike
    from saga.storage.records import Entry, NewExecution, StoredExecution

    New = tuple[NewExecution, Sequence[Entry]]

__all__ = ["Stored", "Submission"]

_AT_ONCE: Final = 1000
"""Executions that are stored in one transaction."""


class Submission(NamedTuple):
    """An execution to be submitted with others: see :meth:`saga.Saga.submit_many`.

    :ivar context: its input.
    :ivar saga_id: its id; 128 random bits where not given.
    :ivar at: it is not begun before then: a datetime with a time zone, or seconds since the epoch.
    :ivar tags: what it is found by, besides what its saga says.
    :ivar priority: a whole number of 0 or more; each point is worth a minute of waiting.
    """

    context: ContextLike = None
    saga_id: str | UUID | None = None
    at: datetime | float | None = None
    tags: Mapping[str, Any] | None = None
    priority: int = 0


class Stored(Declared, Generic[Ctx]):
    """The part of a saga that needs a store."""

    @property
    def definition(self) -> Definition:
        """All that its executions are run by."""
        raise NotImplementedError

    def submit(
        self,
        context: ContextLike = None,
        *,
        saga_id: str | UUID | None = None,
        at: datetime | float | None = None,
        tags: Mapping[str, Any] | None = None,
        priority: int = 0,
        store: StoreLike | None = None,
        connection: Any = None,
    ) -> Handle[Ctx]:
        """Store an execution, for a :class:`~saga.worker.Worker` to run, and return at once.

        Submitting is idempotent, as executing is: an id that is known, with the same input, stands for the same execution.

        :param context: its input; it is read, and may be used for others at once.
        :param saga_id: its id; 128 random bits where not given.
        :param at: it is not begun before then: a datetime with a time zone, or seconds since the epoch.
        :param tags: what it is found by, besides what the saga says: ``{"order": "A1"}``.
        :param priority: a whole number of 0 or more; each point is worth a minute of waiting, so that nobody starves.
        :param store: where it is stored; the saga's store where not given.
        :param connection: an open connection or session of the store's database: the execution is there if and only if the
            transaction commits that is open there. It is not committed here.
        :raises SagaDefinitionError: the saga or a parameter is wrong; nothing is stored.
        :raises EncodingError: the input cannot be stored; nothing is.
        :raises SagaIdTakenError: the id belongs to another saga or another input; nothing is stored.
        :raises ValueError: ``connection`` is none of the store's database, or has no transaction, or is asynchronous.
        :raises StorageError: it could not be stored; the transaction of ``connection`` is to be rolled back then.
        """
        refuse_unmade(self)
        return _one_of(*self._submit([Submission(context, saga_id, at, tags, priority)], store, connection))

    def submit_many(
        self,
        submissions: Iterable[ContextLike | Submission],
        *,
        store: StoreLike | None = None,
        connection: Any = None,
    ) -> list[Handle[Ctx]]:
        """Store executions, as :meth:`submit` does, a thousand in one transaction.

        :param submissions: inputs, or :class:`~saga.Submission` where more is to be said.
        :raises SagaIdTakenError: ids belong to another saga or another input. All the others are stored: the error has the
            ``saga_ids`` that are taken, and the ``handles`` of the others.
        """
        refuse_unmade(self)
        handles: list[Handle[Ctx]] = []
        taken: dict[str, str] = {}
        for some in self._thousands(submissions):
            stored, others = self._submit(some, store, connection)
            handles += stored
            taken |= others
        return _all_of(handles, taken)

    async def _submit_in_loop(
        self, context: ContextLike = None, *, store: StoreLike | None = None, connection: Any, **named: Any
    ) -> Handle[Ctx]:
        refuse_unmade(self)
        return _one_of(*await self._asubmit([Submission(context, **named)], store, connection))

    async def _submit_many_in_loop(
        self, submissions: Iterable[ContextLike | Submission], *, store: StoreLike | None = None, connection: Any
    ) -> list[Handle[Ctx]]:
        refuse_unmade(self)
        handles: list[Handle[Ctx]] = []
        taken: dict[str, str] = {}
        for some in self._thousands(submissions):
            stored, others = await self._asubmit(some, store, connection)
            handles += stored
            taken |= others
        return _all_of(handles, taken)

    asubmit = awaited(submit, _submit_in_loop)
    asubmit_many = awaited(submit_many, _submit_many_in_loop)

    def load(self, saga_id: str | UUID, *, store: StoreLike | None = None) -> SagaResult[Ctx]:
        """Return a stored execution as it stands now, ended or not, with its context and history.

        :raises UnknownExecutionError: there is no such execution of this saga.
        :raises DefinitionChangedError: it was begun by a definition that is not compatible.
        :raises SagaDefinitionError: there is no store.
        """
        refuse_unmade(self)
        from saga.durable.rebuild import load

        return load(self.definition, checked_id(saga_id, f"saga {self.name!r}: saga_id"), self._opened(store))

    aload = awaited(load)

    def handle(self, saga_id: str | UUID, *, store: StoreLike | None = None) -> Handle[Ctx]:
        """Return the handle of an execution that was started before, here or elsewhere: to wait for its end, or to cancel it.

        The store is not asked whether there is one: the handle's methods say so.

        :raises SagaDefinitionError: there is no store.
        """
        refuse_unmade(self)
        from saga.handle import Handle

        return Handle(self.definition, self._opened(store), checked_id(saga_id, f"saga {self.name!r}: saga_id"), False)

    def signal(self, saga_id: str | UUID, name: str, value: Any = None, *, store: StoreLike | None = None) -> None:
        """Send a signal to an execution that has a store: the step ``receive(name)`` there gets ``value`` as its result.

        An execution that runs gets it within two seconds; one that nobody runs, with the next recovery. It may come before
        the step that asks for it, and one that comes twice is received once where one step asks for it.

        :raises SagaDefinitionError: no step of the saga receives it, or there is no store.
        :raises EncodingError: the value cannot be stored.
        :raises UnknownExecutionError: there is no such execution of this saga.
        :raises ActionRefusedError: no step would receive it: the execution has ended or is being undone, or the value is not
            what ``receive(accept=)`` says. Nothing is stored.
        """
        refuse_unmade(self)
        from saga.durable.signals import send_signal

        saga_id = checked_id(saga_id, f"saga {self.name!r}: saga_id")
        send_signal(self.definition, self._opened(store), saga_id, name, value)

    def signal_or_start(
        self,
        saga_id: str | UUID,
        name: str,
        value: Any = None,
        context: ContextLike = None,
        *,
        tags: Mapping[str, Any] | None = None,
        priority: int = 0,
        store: StoreLike | None = None,
    ) -> Handle[Ctx]:
        """Send a signal to an execution; where there is none, submit one that has the signal already.

        It is one transaction: of many that call this at the same time, one starts the execution, and all their signals reach
        it. What is there already goes on with the input that it has, whatever ``context`` says.

        :param saga_id: the execution's id.
        :param name: the signal's name; ``value``: its value.
        :param context: the input of an execution that is started: as of :meth:`submit`.
        :param tags: so are these, and ``priority``.
        :return: its handle, whose ``new`` says whether it was started here.
        :raises SagaDefinitionError: as of :meth:`signal` and :meth:`submit`.
        :raises EncodingError: the value, or the input, cannot be stored.
        :raises SagaIdTakenError: the id belongs to another saga.
        :raises ActionRefusedError: as of :meth:`signal`; an execution that has ended is not started again.
        """
        refuse_unmade(self)
        from saga.durable.submit import signalled_or_started
        from saga.handle import Handle

        saga_id = checked_id(saga_id, f"saga {self.name!r}: saga_id")
        submission = Submission(context, saga_id, None, tags, priority)
        opened = self._opened(store)
        new = signalled_or_started(self.definition, opened, submission, name, value)
        return Handle(self.definition, opened, saga_id, new)

    asignal = awaited(signal)
    asignal_or_start = awaited(signal_or_start)

    def _submit(
        self, some: list[Submission], store: StoreLike | None, connection: Any
    ) -> tuple[list[Handle[Ctx]], dict[str, str]]:
        """Store executions. Return the handles of those that are, and by id why others are not."""
        opened, new = self._prepared(some, store, connection)
        return self._handles(opened, new, opened.submit(new, connection=connection))

    async def _asubmit(
        self, some: list[Submission], store: StoreLike | None, connection: Any
    ) -> tuple[list[Handle[Ctx]], dict[str, str]]:
        import asyncio

        opened, new = await asyncio.to_thread(self._prepared, some, store, connection)
        known = await opened.asubmit(new, connection=connection)
        if all(one is None for one in known):
            return self._handles(opened, new, known)
        return await asyncio.to_thread(self._handles, opened, new, known)  # which may read what is stored

    def _thousands(self, submissions: Iterable[ContextLike | Submission]) -> Iterator[list[Submission]]:
        if isinstance(submissions, str | bytes | Mapping | Submission) or not isinstance(submissions, Iterable):
            raise SagaDefinitionError(
                f"saga {self.name!r}: submit_many() takes several inputs, not {submissions!r}; give a list of them"
            )
        some: list[Submission] = []
        for one in submissions:
            some.append(one if isinstance(one, Submission) else Submission(one))
            if len(some) == _AT_ONCE:
                yield some
                some = []
        if some:
            yield some

    def _prepared(self, some: list[Submission], store: StoreLike | None, connection: Any) -> tuple[Store, list[New]]:
        from saga.durable.submit import prepared

        try:
            opened = self._opened(store)
        except StorageError as error:
            if connection is not None:
                add_note(error, "the transaction of connection may be what kept the store from being opened: open it before")
            raise
        return opened, prepared(self.definition, some, opened)

    def _handles(
        self, opened: Store, new: list[New], known: list[StoredExecution | None]
    ) -> tuple[list[Handle[Ctx]], dict[str, str]]:
        from saga.durable.rebuild import codec_of
        from saga.durable.submit import sorted_out
        from saga.handle import Handle

        stored, taken = sorted_out(new, known, codec_of(self.definition), opened)
        return [Handle(self.definition, opened, saga_id, is_new) for saga_id, is_new in stored], taken

    def _opened(self, store: StoreLike | None) -> Store:
        chosen = self.store if store is None else store
        if chosen is None:
            raise SagaDefinitionError(f"saga {self.name!r} has no store: {GIVE_A_STORE}")
        from saga.storage.opened import store_of

        return store_of(chosen)


def _one_of(handles: list[Handle[Ctx]], taken: dict[str, str]) -> Handle[Ctx]:
    """Return the handle of the only one that was submitted.

    :raises SagaIdTakenError: its id is taken.
    """
    if taken:
        [(saga_id, why)] = taken.items()
        raise SagaIdTakenError(why, saga_id)
    return handles[0]


def _all_of(handles: list[Handle[Ctx]], taken: dict[str, str]) -> list[Handle[Ctx]]:
    """Return the handles of all that were submitted.

    :raises SagaIdTakenError: an id is taken.
    """
    if not taken:
        return handles
    from saga.durable.submit import taken_of_several

    raise taken_of_several(taken, handles)
