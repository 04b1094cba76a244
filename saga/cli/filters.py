"""The options that say which executions are meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import click

from saga.cli.options import SECONDS, TAG

__all__ = ["NAMES", "STATUSES", "filtered"]

STATUSES: Final = ("submitted", "running", "paused", "compensating", "completed", "compensated", "stuck")
NAMES: Final = ("status", "name", "version", "step", "cause", "tags", "older_than", "newer_than", "idle_for")


_STEP: Final = "Only those that are at this step, or failed there; of what is stuck, where the last undo failed."


def filtered(command: Callable[..., Any], step: str = _STEP) -> Callable[..., Any]:
    """Give a command the options, and what they say as ``filters``: those of ``Operations.list``.

    :param step: what the option for a step does.
    """

    @wraps(command)
    def wrapper(*given: Any, **named: Any) -> Any:
        filters = {name: named.pop(name) for name in NAMES}
        filters["tags"] = dict(filters["tags"])
        return command(*given, filters={name: value for name, value in filters.items() if value not in (None, (), {})}, **named)

    for option in reversed(
        [
            click.option("--status", multiple=True, type=click.Choice(STATUSES), help="Only those with this status, or these."),
            click.option("--name", metavar="SAGA", help="Only those of this saga."),
            click.option("--version", metavar="VERSION", help="Only those begun by this version."),
            click.option("--step", metavar="STEP", help=step),
            click.option(
                "--cause",
                metavar="CLASS",
                help="Only those given up for an error of this class; of what is stuck, the undo's error.",
            ),
            click.option("--tag", "tags", multiple=True, type=TAG, metavar="KEY=VALUE", help="Only those with this tag."),
            click.option("--older-than", type=SECONDS, metavar="TIME", help="Only those created so long ago: 90s, 5m, 2h, 3d."),
            click.option("--newer-than", type=SECONDS, metavar="TIME", help="Only those created no longer ago."),
            click.option(
                "--idle-for", type=SECONDS, metavar="TIME", help="Only those with which nothing happened for so long."
            ),
        ]
    ):
        wrapper = option(wrapper)
    return wrapper
