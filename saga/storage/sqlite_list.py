"""How executions are listed and counted in an SQLite file: which index leads to them. No file is opened here.

A page is read from as few ranges as there can be, each in order. Where a filter leaves few, they are found by it and sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from saga.storage import rules
from saga.storage.records import Listed
from saga.storage.sqlite_sql import COLUMNS
from saga.storage.sqlite_tables import CLAIMABLE, NOT_ENDED

__all__ = ["BEGINNING_WITH", "IN_LINE", "NEXT_TAG", "causes", "counting", "of_status", "of_tag", "page"]

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


def page(read: Read, which: Listed) -> list[Any]:
    """Return the rows of a page, and one more where there are any.

    :param read: returns the rows of a statement.
    """
    if which.tags:
        few = {tag: read(TAGGED, tag)[0][0] for tag in which.tags.items()}
        tag = min(few, key=lambda one: few[one])
        if few[tag] < FEW or sum(_few_of(read, which, status) for status in which.statuses) >= FEW:
            return read(*of_tag(which, tag))
    return read(*of_status(which, [_has_few_that_wait(read, which, status) for status in which.statuses]))


def _few_of(read: Read, which: Listed, status: str) -> int:
    """Return how many there are of a status (and name), if there are few."""
    name = which.equal.get("name")
    rows = read(BY_STATUS, (status,)) if name is None else read(BY_STATUS_AND_NAME, (status, name))
    return int(rows[0][0])


def _has_few_that_wait(read: Read, which: Listed, status: str) -> bool:
    before = which.progressed_before
    return before is not None and status not in rules.ENDED and read(NOT_GOT_ON, (status, before))[0][0] < FEW


def of_tag(which: Listed, tag: tuple[str, str]) -> tuple[str, list[Any]]:
    """Return the statement that reads a page from the range of one tag, and its values."""
    conditions, values = _conditions(which, [one for one in which.tags.items() if one != tag])
    created, saga_id = which.bound
    statement = (
        f"SELECT {_OF_SAGA} FROM saga_tag CROSS JOIN saga ON saga.id = saga_tag.saga_id"
        " WHERE saga_tag.key = ? AND saga_tag.value = ? AND saga_tag.created >= ? AND saga_tag.created <= ?"
        " AND (saga_tag.created < ? OR saga_tag.saga_id < ?)"
        f" AND saga.status IN ({', '.join('?' * len(which.statuses))}){conditions}"
        " ORDER BY saga_tag.created DESC, saga_tag.saga_id DESC LIMIT ?"
    )
    return statement, [*tag, which.start, created, created, saga_id, *which.statuses, *values, which.limit + 1]


def of_status(which: Listed, waiting: Sequence[bool]) -> tuple[str, list[Any]]:
    """Return the statement that reads a page from a range for each status, and its values.

    :param waiting: for each status, whether few of it have not got on, which are found first and sorted.
    """
    listed = "saga_listed_by_name" if "name" in which.equal else "saga_listed"
    conditions, more = _conditions(which, list(which.tags.items()))
    created, saga_id = which.bound
    ranges = []
    values: list[Any] = []
    for status, few in zip(which.statuses, waiting, strict=True):
        index = f"saga_progressed WHERE {NOT_ENDED} AND status = ?" if few else f"{listed} WHERE status = ?"
        ranges.append(
            f"SELECT * FROM (SELECT {COLUMNS} FROM saga INDEXED BY {index}{conditions} AND created >= ? AND created <= ?"
            " AND (created < ? OR id < ?) ORDER BY created DESC, id DESC LIMIT ?)"
        )
        values += [status, *more, which.start, created, created, saga_id, which.limit + 1]
    return " UNION ALL ".join(ranges) + " ORDER BY created DESC, id DESC LIMIT ?", [*values, which.limit + 1]


_OF_SAGA: Final = ", ".join(f"saga.{column}" for column in COLUMNS.split(", "))


def _conditions(which: Listed, tags: Sequence[tuple[str, str]]) -> tuple[str, list[Any]]:
    conditions = []
    values: list[Any] = []
    for column, value in which.equal.items():
        conditions.append(f" AND saga.{column} = ?")
        values.append(value)
    if which.progressed_before is not None:
        conditions.append(" AND saga.progressed < ?")
        values.append(which.progressed_before)
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


def causes(by_name: bool) -> str:
    """Return the statement that tells why executions (of one name) are stuck."""
    index, name = ("saga_listed_by_name", " AND name = ?") if by_name else ("saga_listed", "")
    return (
        "SELECT name, step, cause, max(reason), count(*), min(progressed), max(id)"
        f" FROM saga INDEXED BY {index} WHERE status = 'stuck'{name} GROUP BY name, step, cause"
    )


BEGINNING_WITH: Final = f"SELECT {COLUMNS} FROM saga WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
"""Find executions by the beginnings of their ids: from which on, before which, and how many."""

NEXT_TAG: Final = "SELECT min(key) FROM saga_tag WHERE key > ?"
"""Find the key of tags after this one."""

IN_LINE: Final = (
    f"SELECT * FROM (SELECT {COLUMNS} FROM saga WHERE holds = ?1) UNION ALL"
    f" SELECT * FROM (SELECT {COLUMNS} FROM saga INDEXED BY saga_exclusive"
    f" WHERE exclusive = ?1 AND {CLAIMABLE} AND holds IS NULL ORDER BY opens, id LIMIT ?2) LIMIT ?2"
)
"""Find who has a key, and who waits for it: the key, and how many."""
