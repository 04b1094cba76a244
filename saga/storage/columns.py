"""Between the columns of rows and the records of a store. No store and no statement lives here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from saga.storage.records import NONE, Count, NewWorker, StoredExecution, StoredWorker

__all__ = ["EXECUTION", "REMEMBERED", "WORKER", "counts_of", "definitions_text", "row_of", "tags_text", "worker_of"]

EXECUTION = ("id", *StoredExecution._fields[1:])
"""The columns of an execution's row, in the order of :class:`StoredExecution`'s fields."""

_TAGS: Final = EXECUTION.index("tags")

WORKER = StoredWorker._fields
"""The columns of a worker's row."""

REMEMBERED = 24 * 3600.0
"""Seconds for which a worker that died is still listed."""


def tags_text(tags: Mapping[str, str]) -> str | None:
    """Return tags as a row stores them: ``None`` where there are none."""
    return json.dumps(tags, sort_keys=True) if tags else None


def row_of(values: Sequence[Any]) -> StoredExecution:
    """Return an execution of a row's columns, in the order of :class:`StoredExecution`'s fields."""
    tags = values[_TAGS]
    return StoredExecution._make((*values[:_TAGS], NONE if tags is None else json.loads(tags), *values[_TAGS + 1 :]))


def counts_of(rows: Iterable[Sequence[Any]]) -> list[Count]:
    """Return counts of rows that end with a number, in the order of their values."""
    found = [Count(tuple(row[:-1]), row[-1]) for row in rows]
    return sorted(found, key=lambda one: [(value is not None, value or "") for value in one.values])


def definitions_text(worker: NewWorker) -> str:
    """Return a worker's definitions as a row stores them."""
    return json.dumps([list(one) for one in worker.definitions])


def worker_of(values: Sequence[Any]) -> StoredWorker:
    """Return a worker of a row's columns, in the order of :class:`StoredWorker`'s fields."""
    row = StoredWorker(*values)
    definitions = json.loads(row.definitions)  # type: ignore[arg-type]
    return row._replace(definitions=tuple((one[0], one[1], one[2]) for one in definitions), stopping=bool(row.stopping))
