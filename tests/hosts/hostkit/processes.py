"""Workers' processes: started, killed, paused, told to stop; and what is to be said of them where a test fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import saga
from saga.storage import Store


def open_store(url: str) -> Store:
    """Open a store; one through SQLAlchemy where the URL names its driver."""
    if url.startswith("postgresql+"):
        from saga.storage.sqlalchemy import SQLAlchemyStore

        return SQLAlchemyStore(url)
    from saga.storage.postgres import PostgresStore

    return PostgresStore(url)


class Process:
    """A worker's process, which can be started again when it has ended.

    :param within: a command in which it is run, as on another host.
    """

    def __init__(self, output: Path, options: dict[str, Any], within: Sequence[str]) -> None:
        self.output = output
        self._command = [*within, sys.executable, "-m", "hostkit.process", json.dumps(options)]
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        here, tested = Path(__file__).parents[1], Path(saga.__file__).parents[1]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(tested)])}
        with self.output.open("ab") as file:
            self._process = subprocess.Popen(self._command, env=environment, stdout=file, stderr=file)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, and see that it had not ended by itself."""
        self._process.kill()
        assert self._process.wait(30) == -signal.SIGKILL, self.output.read_text()[-4000:]

    def stop(self) -> None:
        """Tell it to stop, and see that it ends in good order."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, self.output.read_text()[-4000:]

    def end(self) -> None:
        self._process.kill()
        self._process.wait(30)


class Processes:
    """Workers that share a store and a bank."""

    def __init__(self, folder: Path, url: str, bank: Path) -> None:
        self._folder = folder
        self._common = {"url": url, "bank": str(bank)}
        self._all: list[Process] = []

    def start(self, *versions: str, within: Sequence[str] = (), **options: Any) -> Process:
        """Start a worker that has these versions."""
        output = self._folder / f"worker-{len(self._all) + 1}.log"
        self._all.append(Process(output, self._common | {"versions": versions} | options, within))
        return self._all[-1]

    def said(self) -> str:
        """Return the last of what each has said."""
        return "\n".join(f"--- {one.output.name}\n{one.output.read_text()[-2000:]}" for one in self._all)

    def close(self) -> None:
        for one in self._all:
            one.end()
