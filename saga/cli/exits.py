"""With which code the process ends, and how what went wrong is said: in a line, with no traceback and no password."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from saga.plain import one_line, text_of

if TYPE_CHECKING:
    from saga.cli.options import Settings

__all__ = [
    "DONE",
    "INTERRUPTED",
    "NOT_FOUND",
    "PERSON",
    "PIPE",
    "UNDONE",
    "UNREACHABLE",
    "USAGE",
    "ended",
    "told",
    "usage",
    "worst",
]

DONE: Final = 0
UNDONE: Final = 1
USAGE: Final = 2
PERSON: Final = 3
NOT_FOUND: Final = 4
UNREACHABLE: Final = 5
FAULT: Final = 70
INTERRUPTED: Final = 130
PIPE: Final = 141

_OF_STATUSES: Final = {"completed": DONE, "submitted": DONE, "compensated": UNDONE, "stuck": PERSON, "paused": PERSON}


def worst(statuses: Iterable[str]) -> int:
    """Return the exit code for executions that ended so: the one that says most is to be done."""
    return max((_OF_STATUSES.get(str(status), DONE) for status in statuses), default=DONE)


@contextmanager
def usage() -> Iterator[None]:
    """What is a ``ValueError`` within was wrong in the command.

    :raises click.UsageError: instead of it.
    """
    from saga.errors import SagaError

    try:
        yield
    except ValueError as error:
        if isinstance(error, SagaError):  # it has a class of its own, and says more
            raise
        raise click.UsageError(text_of(error)) from error


def told(error: BaseException, settings: Settings) -> int:
    """Say what went wrong on the standard error stream. Return the exit code."""
    if isinstance(error, BrokenPipeError):
        # Python flushes what is left when it ends, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    if settings.debug:
        for text in "".join(traceback.format_exception(error)).splitlines():
            click.echo(one_line(settings.hidden(text)), err=True)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        _say("interrupted", settings)
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        _say(error.format_message().rstrip("."), settings)
        context = getattr(error, "ctx", None)
        if context is not None:
            _say(f"see {context.command_path} --help", settings, prefix="      ")
        return USAGE
    return _of_ours(error, settings)


def _of_ours(error: BaseException, settings: Settings) -> int:
    from saga.errors import ActionRefusedError, SagaError, StorageError, UnknownExecutionError, UnreadableJournalError

    if not isinstance(error, SagaError):
        _say(f"a fault of this command: {type(error).__name__}: {text_of(error)}; --debug shows where", settings)
        return FAULT
    _say(text_of(error), settings)
    if isinstance(error, UnknownExecutionError):
        return NOT_FOUND
    if isinstance(error, UnreadableJournalError):
        return PERSON
    if isinstance(error, ActionRefusedError) or type(error) is not StorageError:
        return USAGE
    return UNREACHABLE


def ended(status: str) -> int:
    """Return the exit code for an execution with this status."""
    return worst([status])


def _say(text: str, settings: Settings, prefix: str = "saga: ") -> None:
    click.echo(prefix + one_line(settings.hidden(text)), err=True)
