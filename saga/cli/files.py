"""Files that commands write."""

from __future__ import annotations

from pathlib import Path

import click

from saga.cli.shown import line

__all__ = ["write"]


def write(path: Path, text: str) -> None:
    """Write a file, and say so on the standard error stream.

    :raises click.UsageError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(line(f"saga: wrote {path}"), err=True)
