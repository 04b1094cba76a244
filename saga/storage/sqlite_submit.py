"""Storing many executions at once in an SQLite file, in the transaction that somebody else begins and commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saga.storage import sqlite_sql as sql
from saga.storage.claims import called_until, moments, opening
from saga.storage.columns import row_of, tags_text
from saga.storage.records import Entry, NewExecution, StoredExecution
from saga.storage.sqlite_enlisted import Executes

__all__ = ["store_many"]


def store_many(
    connection: Executes, new: Sequence[tuple[NewExecution, Sequence[Entry]]], statuses: Sequence[str], now: float
) -> list[StoredExecution | None]:
    """Store executions that nobody owns. Return ``None`` for each, or the execution that has its id.

    :param statuses: theirs, as plain strings.
    """
    known = _known(connection, [one.saga_id for one, _ in new])
    number = connection.execute(sql.LAST_NUMBER).fetchone()[0]
    rows: list[Any] = []
    journal: list[Any] = []
    tags: list[Any] = []
    stored = set(known)
    taken = []
    for (one, entries), status, moment in zip(new, statuses, moments(now, len(new)), strict=True):
        taken.append(one.saga_id in stored)
        if taken[-1]:
            continue
        stored.add(one.saga_id)
        number += 1
        due, opens = opening(one, moment)
        then = (one.step, tags_text(one.tags), one.priority, one.exclusive, opens, called_until(one, moment))
        rows.append((number, *one[:5], status, due, moment, *then))
        journal += [(number, *entry) for entry in entries]
        tags += [(*tag, moment, one.saga_id) for tag in one.tags.items()]
    connection.executemany(sql.SUBMIT, rows)
    connection.executemany(sql.ADD_ENTRY, journal)
    connection.executemany(sql.TAG, tags)
    if any(taken):
        known = _known(connection, [one.saga_id for (one, _), is_taken in zip(new, taken, strict=True) if is_taken])
    return [known[one.saga_id] if is_taken else None for (one, _), is_taken in zip(new, taken, strict=True)]


def _known(connection: Executes, saga_ids: Sequence[str]) -> dict[str, StoredExecution]:
    found = {}
    for some in sql.batches(list(saga_ids)):
        found.update({row[0]: row_of(row) for row in connection.execute(sql.rows(len(some)), some)})
    return found
