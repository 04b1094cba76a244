"""Pages of executions: which they are of, where they begin and end. No store and no database lives here."""

from __future__ import annotations

import base64
import binascii
import json
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from saga.storage import rules
from saga.storage.records import Listed, Page, StoredExecution

__all__ = ["after_all_with", "each_of", "listed", "page_of"]


def page_of(found: Sequence[StoredExecution], limit: int) -> Page:
    """Return the first ``limit`` of the executions found; that there are more of them says that there is a next page."""
    if len(found) <= limit:
        return Page(tuple(found), None)
    last = found[limit - 1]
    cursor = base64.urlsafe_b64encode(json.dumps([last.created, last.saga_id]).encode()).decode()
    return Page(tuple(found[:limit]), cursor)


def each_of(read: Callable[..., Page], **which: Any) -> Iterator[StoredExecution]:
    """Yield all executions, page after page; ``read`` lists those that ``which`` says."""
    page = read(**which)
    yield from page.executions
    while page.next is not None:
        page = read(**which, after=page.next)
        yield from page.executions


def listed(
    status: Collection[str] | None,
    equal: Mapping[str, str | None],
    tags: Mapping[str, str],
    limit: int,
    after: str | None,
    **times: float | None,
) -> Listed:
    """Return which executions a page is of.

    :param times: ``created_before``, ``created_after`` and ``progressed_before``.
    :raises ValueError: there is no such status, a number is none that all stores compare alike, or ``after`` is no cursor.
    """
    for name, value in times.items():
        if value is not None:
            rules.check_number(name, value)
    rules.check_limit(limit)
    values = {column: value for column, value in equal.items() if value is not None}
    start = times["created_after"]
    start = -rules.END_OF_TIME if start is None else start
    bound = _bound_of(after, times["created_before"])
    return Listed(rules.statuses_of(status), values, tags, start, bound, times["progressed_before"], limit)


def _bound_of(after: str | None, created_before: float | None) -> tuple[float, str]:
    """Return the time and id below which a page begins: its executions come before it in (created, id).

    :raises ValueError: the cursor is none of :func:`page_of`'s.
    """
    # No id is empty: (created_before, "") is below every execution that was created then.
    bound = (rules.END_OF_TIME if created_before is None else created_before, "")
    if after is None:
        return bound
    try:
        if set(after) & set("+/"):  # no letters of a cursor; older Pythons decode them all the same
            raise ValueError(after)
        created, saga_id = json.loads(base64.b64decode(after, altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise ValueError(f"after is {after!r}, which is no cursor of a page; give the next of one") from None
    if not isinstance(created, float) or not math.isfinite(created) or not rules.is_id(saga_id):
        raise ValueError(f"after is {after!r}, which is no cursor of a page; give the next of one")
    return min(bound, (created, saga_id))


def after_all_with(text: str) -> str | None:
    """Return what comes after all that begins with a text, in the order of code points; ``None``: nothing does."""
    kept = text.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    last = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if last == 0xD800 else last)  # what lies between stands for no character
