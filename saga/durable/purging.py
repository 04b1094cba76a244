"""Deleting executions that have ended, with what is elsewhere of them; and finding what is elsewhere that nothing names.

Rows go first, then bytes: a crash between leaves bytes that nothing names, and never a row that names nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby, islice
from typing import Final

from saga.blobs import Blobs
from saga.durable.elsewhere import keys_in, owner_of, unnamed
from saga.errors import StorageError
from saga.plain import text_of
from saga.storage.pages import each_of
from saga.storage.protocol import Store
from saga.storage.records import StoredExecution

__all__ = ["purge", "sweep"]

_AT_ONCE: Final = 100
"""Executions whose journals are read at the same time."""


def purge(store: Store, blobs: Sequence[Blobs], before: float, status: Collection[str]) -> int:
    """Delete executions last written before then, and what is elsewhere of them. Return how many executions.

    :param blobs: where that may be.
    :raises ValueError: a status is not terminal.
    :raises StorageError: the store cannot be asked, or some blobs cannot: then bytes are left, for :func:`sweep` to find.
    """
    named = list(_with_keys(store, before, status)) if blobs else []
    count = 0
    while deleted := store.purge(updated_before=before, status=status):
        count += deleted
    for row, keys in named:
        left = store.get(row.saga_id)
        if left is None or left.created != row.created:  # else it was kept; another may have its id by now
            for one in blobs:
                _delete(one, keys, f"{count} executions are purged, but what {row.saga_id!r} had elsewhere is left there")
    return count


def _with_keys(store: Store, before: float, status: Collection[str]) -> Iterator[tuple[StoredExecution, set[str]]]:
    """Yield the executions to be purged that have values elsewhere, with the keys of those."""
    rows = (row for row in each_of(store.list, status=status, created_before=before) if row.updated < before)
    while some := list(islice(rows, _AT_ONCE)):
        ids = [row.saga_id for row in some]
        journals, mail = store.journals(ids), store.with_mail(ids)
        for row in some:
            texts = [entry.payload for entry in journals.get(row.saga_id, ())]
            if row.saga_id in mail:
                texts += [message.body for message in store.inbox(row.saga_id)]
            if keys := keys_in(texts):
                yield row, keys


def sweep(store: Store, blobs: Sequence[Blobs], seconds: float) -> int:
    """Delete what is elsewhere, was put that long ago or longer, and is named by nothing that is stored. Return how much.

    :raises StorageError: the store or some blobs cannot be asked.
    """
    count = 0
    for one in blobs:
        # Most keep what is one execution's together; what does not is asked for again.
        for saga_id, keys in groupby(_old(one, seconds), owner_of):
            left = unnamed(store, saga_id, list(keys))
            if left:
                _delete(one, left, "what nothing names is left")
                count += len(left)
    return count


def _old(blobs: Blobs, seconds: float) -> Iterator[str]:
    try:
        yield from blobs.older_than(seconds)
    except Exception as error:
        raise StorageError(f"{text_of(blobs)} cannot be listed: {type(error).__name__}: {text_of(error)}") from error


def _delete(blobs: Blobs, keys: Collection[str], what: str) -> None:
    try:
        blobs.delete(keys)
    except Exception as error:
        raise StorageError(f"{what}: {text_of(blobs)} cannot delete it: {type(error).__name__}: {text_of(error)}") from error
