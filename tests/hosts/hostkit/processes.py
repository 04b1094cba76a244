"""Workers' processes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import saga
from tests.kit.processes import Process, said

_PATH: Final = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(saga.__file__).parents[1])])
"""Where its modules are."""


class Processes:
    """Workers that share a store and a bank."""

    def __init__(self, folder: Path, url: str, bank: Path) -> None:
        self._folder = folder
        self._common = {"url": url, "bank": str(bank)}
        self._all: list[Process] = []

    def start(self, *versions: str, within: Sequence[str] = (), **options: Any) -> Process:
        """Start a worker that has these versions.

        :param within: a command in which it is run, as on another host.
        """
        told = json.dumps(self._common | {"versions": versions} | options)
        command = [*within, sys.executable, "-m", "hostkit.process", told]
        output = self._folder / f"worker-{len(self._all) + 1}.log"
        self._all.append(Process(command, output, {"PYTHONPATH": _PATH}))
        return self._all[-1]

    def said(self) -> str:
        """Return the last of what each has said."""
        return said(self._all)

    def close(self) -> None:
        for one in self._all:
            one.end()
