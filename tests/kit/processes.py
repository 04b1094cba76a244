"""Processes that a test starts, kills, pauses and tells to stop; and what is to be said of them where it fails."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path


class Process:
    """A command's process, which can be started again when it has ended.

    :param output: a file for what it says.
    :param environment: what is said there besides what is said here.
    """

    def __init__(self, command: Sequence[str], output: Path, environment: Mapping[str, str]) -> None:
        self.output = output
        self._command = command
        self._environment = os.environ | environment
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        with self.output.open("ab") as file:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=file, stderr=file)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, and see that it had not ended by itself."""
        self._process.kill()
        assert self._process.wait(30) == -signal.SIGKILL, self.output.read_text()[-4000:]

    def stop(self, codes: Collection[int] = (0,)) -> None:
        """Tell it to stop, and see that it ends in good order: with one of these exit codes."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) in codes, self.output.read_text()[-4000:]

    def end(self) -> None:
        self._process.kill()
        self._process.wait(30)


def said(processes: Iterable[Process]) -> str:
    """Return the last of what each has said."""
    return "\n".join(f"--- {one.output.name}\n{one.output.read_text()[-2000:]}" for one in processes)
