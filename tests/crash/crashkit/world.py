"""What a child process knows: where its effects are logged, and the point at which it kills itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the effects log: ``start``, ``did``, ``end`` of an execute, ``asking`` of a verify, ``undoing``,
    ``undid`` of a compensation, and ``bad``, where a call saw what it should not have."""

    verb: str
    step: str
    attempt: int
    pid: int


class World:
    """The place in which one case's processes leave their effects: an append-only log, one write for each line.

    :param folder: where the log is.
    :param die_at: the name of the point at which this process dies, or ``None``.
    """

    def __init__(self, folder: Path, die_at: str | None = None, *, die: Callable[[World], None] | None = None) -> None:
        self.folder = folder
        self.die_at = die_at
        self._die = die or kill_self
        self.writing = threading.Lock()  # a process that stands still in a transaction would keep others from the file
        self.signal: Callable[..., None] = lambda *_: None  # sends one to an execution
        self._then: dict[str, Callable[[], object]] = {}
        self._counts: Counter[str] = Counter()
        self._log = os.open(folder / "effects.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._trace = os.open(folder / f"points-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def close(self) -> None:
        os.close(self._log)
        os.close(self._trace)

    def log(self, verb: str, step: str, attempt: int) -> None:
        os.write(self._log, f"{verb} {step} {attempt} {os.getpid()}\n".encode())

        if then := self._then.pop(f"{verb} {step}", None):
            then()

    def when(self, line: str, then: Callable[[], object]) -> None:
        """Have something done, once, where a step logs this: ``start b``."""
        self._then[line] = then

    def point(self, name: str) -> None:
        """Die here, if this is the point."""
        os.write(self._trace, f"{name}\n".encode())
        if name == self.die_at:
            self._die(self)

    def next(self, what: str) -> str:
        """Return ``what`` with its number in this process."""
        self._counts[what] += 1
        return f"{what}#{self._counts[what]}"

    def lines(self) -> list[Line]:
        return read_log(self.folder)

    def flagged(self, name: str) -> bool:
        """Whether the case has raised a flag: "mended", for instance."""
        return (self.folder / name).exists()


def kill_self(world: World) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # this thread goes no further, however late the signal comes
        signal.pause()


def stop_self(world: World) -> None:
    # Sent to the thread, it stops here; sent to the process, this thread might go on until another is told.
    with world.writing:
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def read_log(folder: Path) -> list[Line]:
    try:
        text = (folder / "effects.log").read_text()
    except FileNotFoundError:
        return []
    return [Line(verb, step, int(attempt), int(pid)) for verb, step, attempt, pid in map(str.split, text.splitlines())]


def read_points(folder: Path, pid: int) -> list[str]:
    return (folder / f"points-{pid}").read_text().splitlines()


def until(condition: Callable[[], bool], limit: float = 20.0) -> None:
    """Wait for what another thread or process does."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.002)
