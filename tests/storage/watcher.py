"""Ends a database server of the tests where they could not do so themselves: they were killed, and ran nothing to their ends.

Run as ``python watcher.py PARENT FOLDER``: once the process that started it is gone, it ends all that has the folder in its
command line, as servers have that keep their data there, and removes it. It knows nothing else of servers or tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_GENTLY = 3.0
"""Seconds in which a server may end by itself, before it is killed."""


def processes_of(folder: str) -> list[int]:
    """Return the ids of the processes, but for this one, that have the folder in their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def end(folder: str) -> None:
    """End what works in the folder, and remove it."""
    killed_at = time.monotonic() + _GENTLY
    number = signal.SIGQUIT  # PostgreSQL ends its backends, and leaves no shared memory behind
    while found := processes_of(folder):
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        time.sleep(0.1)
        if time.monotonic() > killed_at:
            number = signal.SIGKILL
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parent = int(sys.argv[1])
    while os.getppid() == parent:
        time.sleep(0.1)
    end(sys.argv[2])
