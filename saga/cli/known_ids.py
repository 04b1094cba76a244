"""The ids that a shell is told of where one is typed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["known_ids"]

_MOST: Final = 50
"""Ids that a shell is told of."""


def known_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids that begin so, or the newest ones; none where the store cannot be asked. Whoever types gets no error."""
    from click.shell_completion import CompletionItem

    try:
        from saga.operations import Operations

        operations = Operations(context.obj.store(), "a shell")
        rows = operations.store.beginning_with(incomplete, _MOST) if incomplete else operations.list(limit=_MOST).executions
    except Exception:
        return []
    # A shell takes what it is told as if it had been typed.
    return [CompletionItem(row.saga_id, help=row.status) for row in rows if shlex.quote(row.saga_id) == row.saga_id]
