"""The command line: ``saga``. It shows and does what public rooms do; nothing inside imports it.

Nothing but the standard library is imported before :func:`main` is called, and then click alone: what a command needs is
imported when that command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave the process with its exit code.

    :param arguments: without the program's name; those of the process where not given.
    :raises SystemExit: always.
    """
    try:
        import click  # noqa: F401
    except ModuleNotFoundError:
        print("saga: the command line needs click: pip install 'saga-tasks[cli]'", file=sys.stderr)
        sys.exit(2)
    from saga.cli.commands import run

    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
