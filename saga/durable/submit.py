"""Executions are submitted here: stored, for a worker to run. Nothing runs, and no lease is taken."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from saga import events as e
from saga.clocks import host_time
from saga.context import Context
from saga.definition import Definition, as_context, check_transacts
from saga.drivers.stints import carried_from
from saga.durable.codec import Codec
from saga.durable.elsewhere import drop_if_unknown
from saga.durable.entries import read_entries, write_entries
from saga.durable.messages import signal_message
from saga.durable.rebuild import codec_of
from saga.durable.signals import check_sent, send_signal
from saga.durable.values import input_digest, input_text
from saga.errors import (
    EncodingError,
    SagaDefinitionError,
    SagaIdTakenError,
    UnknownExecutionError,
    UnreadableJournalError,
)
from saga.names import checked_id
from saga.plain import repr_of
from saga.storage.protocol import Store
from saga.storage.records import Entry, NewExecution, StoredExecution, Wanted
from saga.turns import key_of, tags_of

if TYPE_CHECKING:
    from saga.stored import Submission

__all__ = ["check_same", "new_execution", "prepared", "signalled_or_started", "sorted_out", "taken_of_several", "wanted_of"]

_SHOWN: Final = 20
"""Ids that an error's text names at most; the error has them all."""


def prepared(
    definition: Definition, submissions: Sequence[Submission], store: Store
) -> list[tuple[NewExecution, Sequence[Entry]]]:
    """Return what a store is to keep of executions.

    :raises EncodingError: an input cannot be stored.
    :raises SagaDefinitionError: something else is wrong with one.
    """
    return [_stored_as(definition, one, store) for one in submissions]


def signalled_or_started(definition: Definition, store: Store, submission: Submission, name: str, value: Any) -> bool:
    """Store an execution that has received a signal, or, where its id is known, send it the signal. Return whether it is new.

    :raises SagaIdTakenError: the id belongs to another saga.
    """
    value = check_sent(definition, name, value)
    new, entries = _stored_as(definition, submission, store)
    codec = codec_of(definition)
    signal_message(name, value, codec, store, new.saga_id, dry=True)  # what cannot be stored is refused as it is sent
    received = e.SignalReceived(name, value, host_time(), carried_from(definition.observers))
    both = [*entries, *write_entries([received], len(entries), {}, codec, new.saga_id)]
    (existing,) = store.submit([(new, both)])
    if existing is not None:
        if existing.name != definition.name:
            why = _difference(existing, new, entries[0], codec, store)
            drop_if_unknown(both, new.saga_id, codec, store)
            raise SagaIdTakenError(why or "", new.saga_id)
        try:
            send_signal(definition, store, new.saga_id, name, value)
        except UnknownExecutionError:  # it was purged just now
            (existing,) = store.submit([(new, both)])
            if existing is not None:
                raise
        else:
            drop_if_unknown(both, new.saga_id, codec, store)
            return False
    return True


def sorted_out(
    new: Sequence[tuple[NewExecution, Sequence[Entry]]], known: Sequence[StoredExecution | None], codec: Codec, store: Store
) -> tuple[list[tuple[str, bool]], dict[str, str]]:
    """Return the id of each execution that is stored, and whether it is new; and by id why others are not.

    :param known: what the store knew under the same ids.
    :raises StorageError: the store cannot be read.
    """
    stored: list[tuple[str, bool]] = []
    taken: dict[str, str] = {}
    for existing, (one, entries) in zip(known, new, strict=True):
        why = None
        if existing is not None:
            why = _difference(existing, one, entries[0], codec, store)
            drop_if_unknown(entries, one.saga_id, codec, store)
        if why is None:
            stored.append((one.saga_id, existing is None))
        else:
            taken[one.saga_id] = why
    return stored, taken


def taken_of_several(taken: Mapping[str, str], handles: Sequence[Any]) -> SagaIdTakenError:
    """Return the error of several that were submitted, some under ids that are taken.

    :param taken: by id, why it is.
    :param handles: of the others.
    """
    shown = ", ".join(map(repr, list(taken)[:_SHOWN])) + (", ..." if len(taken) > _SHOWN else "")
    several = f"{len(taken)} ids are taken: {shown}; " if len(taken) > 1 else ""
    text = f"{several}{next(iter(taken.values()))}. The other {len(handles)} are stored: the error has their handles"
    error = SagaIdTakenError(text, *taken)
    error.handles = list(handles)
    return error


def check_same(existing: StoredExecution, new: NewExecution, entry: Entry, codec: Codec, store: Store) -> None:
    """See that the execution which has an id is the one that was to be stored.

    :param entry: the first that was to be.
    :raises SagaIdTakenError: it is one of another saga, or has another input.
    :raises StorageError: the store cannot be read.
    """
    why = _difference(existing, new, entry, codec, store)
    drop_if_unknown([entry], new.saga_id, codec, store)
    if why is not None:
        raise SagaIdTakenError(why, new.saga_id)


def _difference(existing: StoredExecution, new: NewExecution, entry: Entry, codec: Codec, store: Store) -> str | None:
    """Return why the execution which has an id is not the one that was to be stored; ``None``: it is."""
    saga_id, name = new.saga_id, new.name
    if existing.name != name:
        return f"saga_id {saga_id!r} belongs to an execution of saga {existing.name!r}; give another"
    if existing.digest == new.digest != "" or _same_as_read(store.journal(saga_id)[:1], [entry], codec, saga_id):
        return None
    return (
        f"saga_id {saga_id!r} belongs to an execution of saga {name!r} with another input; the same id stands for the "
        "same execution, so give another id, or the same input to get its outcome"
    )


def _same_as_read(one: Sequence[Entry], other: Sequence[Entry], codec: Codec, saga_id: str) -> bool:
    """Whether two executions began with the same input as that is read now: its classes may have got fields since then."""
    try:
        digests = [input_digest(read_entries(first, codec, saga_id)[0][0], codec) for first in (one, other)]
    except (IndexError, UnreadableJournalError, EncodingError):  # it was purged, or a class is another now
        return False
    return digests[0] == digests[1]


def _stored_as(definition: Definition, submission: Submission, store: Store) -> tuple[NewExecution, list[Entry]]:
    where = f"saga {definition.name!r}"
    context = as_context(submission.context, definition.name, definition.context, definition.plan.needs)
    check_transacts(definition, store)
    given = submission.saga_id
    saga_id = os.urandom(16).hex() if given is None else checked_id(given, f"{where}: saga_id")
    encoded, digest, _ = input_text(context, codec_of(definition), definition.version, store)
    at, tags, priority = _seconds(submission.at, where), submission.tags, submission.priority
    new = new_execution(definition, saga_id, digest, context, e.Status.SUBMITTED, tags, priority, at)
    carried = carried_from(definition.observers)
    submitted = e.SagaSubmitted(definition.name, saga_id, host_time(), encoded, carried)
    return new, write_entries([submitted], 0, {}, codec_of(definition), saga_id)


def new_execution(
    definition: Definition,
    saga_id: str,
    digest: str,
    context: Context,
    status: e.Status,
    tags: Mapping[str, Any] | None = None,
    priority: int = 0,
    at: float | None = None,
) -> NewExecution:
    """Return what a store keeps of a new execution.

    :raises SagaDefinitionError: its key, a tag or its priority is wrong.
    """
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority < 2**31 - 1:
        raise SagaDefinitionError(
            f"saga {definition.name!r}: priority is {repr_of(priority)}; give a whole number of 0 or more"
        )
    plan = definition.plan
    return NewExecution(
        saga_id,
        definition.name,
        definition.version,
        plan.fingerprint,
        digest,
        str(status),
        step=plan.entry[0].name if plan.entry else None,
        tags=tags_of(definition, context, tags),
        priority=priority,
        exclusive=key_of(definition, context),
        at=at,
    )


def wanted_of(definition: Definition) -> Wanted:
    """Return which executions a definition fits."""
    fingerprint, compatible = definition.plan.fingerprint, definition.compatible_with
    return Wanted(definition.name, definition.version, fingerprint, compatible, definition.limit, definition.rate)


def _seconds(at: datetime | float | None, where: str) -> float | None:
    """Return a time as seconds since the epoch.

    :raises SagaDefinitionError: it is none, or nobody knows of which time zone.
    """
    if at is None:
        return None
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise SagaDefinitionError(f"{where}: at is {at!r}, of no time zone; give it one: datetime(..., tzinfo=UTC)")
        return at.timestamp()
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < 1e11:
        raise SagaDefinitionError(f"{where}: at is {at!r}; give a datetime, or seconds since the epoch")
    return float(at)
