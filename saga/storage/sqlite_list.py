"""How executions are listed and counted in an SQLite file: which index leads to them. No file is opened here.

A page is read from as few ranges as there can be, each in order. Where a filter leaves few, they are found by it and sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from saga.storage import rules
from saga.storage.sqlite_sql import COLUMNS
from saga.storage.sqlite_tables import NOT_ENDED

__all__ = ["Filters", "counting", "of_status", "of_tag", "page"]

Read = Callable[[str, Sequence[Any]], list[Any]]

FEW: Final = 1000
"""Rows that may be sorted for a page. What is no less is looked through in order, and most pages end soon."""

BY_STATUS: Final = f"SELECT count(*) FROM (SELECT 1 FROM saga INDEXED BY saga_listed WHERE status = ? LIMIT {FEW})"
BY_STATUS_AND_NAME: Final = (
    f"SELECT count(*) FROM (SELECT 1 FROM saga INDEXED BY saga_listed_by_name WHERE status = ? AND name = ? LIMIT {FEW})"
)
NOT_GOT_ON: Final = (
    f"SELECT count(*) FROM (SELECT 1 FROM saga INDEXED BY saga_progressed WHERE {NOT_ENDED} AND status = ? AND progressed < ?"
    f" LIMIT {FEW})"
)
TAGGED: Final = f"SELECT count(*) FROM (SELECT 1 FROM saga_tag WHERE key = ? AND value = ? LIMIT {FEW})"
"""Find out whether there are few."""


class Filters(NamedTuple):
    """What a page is of: see :meth:`~saga.storage.protocol.Store.list`.

    :ivar equal: columns and their values.
    :ivar bound: the time and the id before which it begins.
    """

    statuses: Sequence[str]
    equal: Mapping[str, str]
    tags: Mapping[str, str]
    start: float
    bound: tuple[float, str]
    progressed_before: float | None
    limit: int


def page(read: Read, filters: Filters) -> list[Any]:
    """Return the rows of a page, and one more where there are any.

    :param read: returns the rows of a statement.
    """
    if not filters.statuses:
        return []
    if filters.tags:
        few = {tag: read(TAGGED, tag)[0][0] for tag in filters.tags.items()}
        tag = min(few, key=lambda one: few[one])
        if few[tag] < FEW or sum(_few_of(read, filters, status) for status in filters.statuses) >= FEW:
            return read(*of_tag(filters, tag))
    return read(*of_status(filters, [_has_few_that_wait(read, filters, status) for status in filters.statuses]))


def _few_of(read: Read, filters: Filters, status: str) -> int:
    """Return how many there are of a status (and name), if there are few."""
    name = filters.equal.get("name")
    rows = read(BY_STATUS, (status,)) if name is None else read(BY_STATUS_AND_NAME, (status, name))
    return int(rows[0][0])


def _has_few_that_wait(read: Read, filters: Filters, status: str) -> bool:
    before = filters.progressed_before
    return before is not None and status not in rules.ENDED and read(NOT_GOT_ON, (status, before))[0][0] < FEW


def of_tag(filters: Filters, tag: tuple[str, str]) -> tuple[str, list[Any]]:
    """Return the statement that reads a page from the range of one tag, and its values."""
    conditions, values = _conditions(filters, [one for one in filters.tags.items() if one != tag])
    created, saga_id = filters.bound
    statement = (
        f"SELECT {_OF_SAGA} FROM saga_tag CROSS JOIN saga ON saga.id = saga_tag.saga_id"
        " WHERE saga_tag.key = ? AND saga_tag.value = ? AND saga_tag.created >= ? AND saga_tag.created <= ?"
        " AND (saga_tag.created < ? OR saga_tag.saga_id < ?)"
        f" AND saga.status IN ({', '.join('?' * len(filters.statuses))}){conditions}"
        " ORDER BY saga_tag.created DESC, saga_tag.saga_id DESC LIMIT ?"
    )
    return statement, [*tag, filters.start, created, created, saga_id, *filters.statuses, *values, filters.limit + 1]


def of_status(filters: Filters, waiting: Sequence[bool]) -> tuple[str, list[Any]]:
    """Return the statement that reads a page from a range for each status, and its values.

    :param waiting: for each status, whether few of it have not got on, which are found first and sorted.
    """
    listed = "saga_listed_by_name" if "name" in filters.equal else "saga_listed"
    conditions, more = _conditions(filters, list(filters.tags.items()))
    created, saga_id = filters.bound
    ranges = []
    values: list[Any] = []
    for status, few in zip(filters.statuses, waiting, strict=True):
        index = f"saga_progressed WHERE {NOT_ENDED} AND status = ?" if few else f"{listed} WHERE status = ?"
        ranges.append(
            f"SELECT * FROM (SELECT {COLUMNS} FROM saga INDEXED BY {index}{conditions} AND created >= ? AND created <= ?"
            " AND (created < ? OR id < ?) ORDER BY created DESC, id DESC LIMIT ?)"
        )
        values += [status, *more, filters.start, created, created, saga_id, filters.limit + 1]
    return " UNION ALL ".join(ranges) + " ORDER BY created DESC, id DESC LIMIT ?", [*values, filters.limit + 1]


_OF_SAGA: Final = ", ".join(f"saga.{column}" for column in COLUMNS.split(", "))


def _conditions(filters: Filters, tags: Sequence[tuple[str, str]]) -> tuple[str, list[Any]]:
    conditions = []
    values: list[Any] = []
    for column, value in filters.equal.items():
        conditions.append(f" AND saga.{column} = ?")
        values.append(value)
    if filters.progressed_before is not None:
        conditions.append(" AND saga.progressed < ?")
        values.append(filters.progressed_before)
    for tag in tags:
        conditions.append(
            " AND EXISTS (SELECT 1 FROM saga_tag AS other WHERE other.key = ? AND other.value = ?"
            " AND other.created = saga.created AND other.saga_id = saga.id)"
        )
        values += tag
    return "".join(conditions), values


def counting(columns: Sequence[str], statuses: int, by_name: bool) -> str:
    """Return the statement that counts executions of so many statuses (and one name) by some columns."""
    kept = {"status", "name", "version", "fingerprint", "cause"}.issuperset(columns)
    table, number = ("saga_count", "sum(executions)") if kept else ("saga INDEXED BY saga_listed", "count(*)")
    shown = ["nullif(cause, '')" if column == "cause" and kept else column for column in columns]
    name = " AND name = ?" if by_name else ""
    return (
        f"SELECT {', '.join([*shown, number])} FROM {table} WHERE status IN ({', '.join('?' * statuses)}){name}"
        f" GROUP BY {', '.join(shown) or 'NULL'}"
    )
