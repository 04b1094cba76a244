"""Runs cases in several workers at once (:mod:`crashkit.processes`): most of their time is waiting for leases to run out."""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import saga

WORKERS = 12
_LONGEST = 120.0


def environment() -> dict[str, str]:
    """Return the environment in which a process finds this package and the saga that is tested."""
    here, tested = Path(__file__).parents[1], Path(saga.__file__).parents[1]
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(tested)])}


class Pool:
    """Workers, and a folder under which each case gets its own.

    :param modules: what is imported before anything is forked.
    """

    def __init__(self, folder: Path, workers: int = WORKERS, modules: Sequence[str] = ()) -> None:
        self.folder = folder
        self.kills = 0
        self.cases = 0
        self._numbers = itertools.count(1)
        self._idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(workers)
        pairs = [socket.socketpair() for _ in range(workers)]
        numbers = [theirs.fileno() for _, theirs in pairs]
        command = [sys.executable, "-m", "crashkit.processes", ",".join(modules), *map(str, numbers)]
        self._process = subprocess.Popen(command, pass_fds=numbers, env=environment())
        for ours, theirs in pairs:
            theirs.close()
            ours.settimeout(_LONGEST)
            self._idle.put(ours)

    def run(self, cases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return each case's outcome: ``faults``, ``kills``, ``status``, and the ``points`` of each of its processes."""
        outcomes = list(self._threads.map(self._run, cases))
        self.kills += sum(outcome["kills"] for outcome in outcomes)
        self.cases += len(outcomes)
        return outcomes

    def _run(self, case: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        case = {"name": f"c{os.getpid()}-{number}", "folder": str(self.folder / str(number))} | case
        worker = self._idle.get()
        try:
            with worker.makefile("rw") as lines:
                print(json.dumps(case), file=lines, flush=True)
                outcome = json.loads(lines.readline())
        finally:
            self._idle.put(worker)
        case["folder"] = outcome.get("folder", case["folder"])  # of a case that was run again
        if outcome["faults"]:
            outcome["faults"].append(_story(case))
        else:
            shutil.rmtree(case["folder"], ignore_errors=True)
        return outcome

    def close(self) -> None:
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get().close()
        self._process.wait(_LONGEST)


def _story(case: dict[str, Any]) -> str:
    folder = Path(case["folder"])
    told = [f"case: {json.dumps(case)}"]
    for name in ("effects.log", *sorted(path.name for path in folder.glob("output-*"))):
        path = folder / name
        if path.exists() and path.stat().st_size:
            told.append(f"--- {path}\n{path.read_text()[-6000:]}")
    return "\n".join(told)


def check(pool: Pool, cases: Sequence[dict[str, Any]], hits_needed: int = 0) -> list[Any]:
    """Run cases, see that nothing went wrong and that so many processes were killed, and return their outcomes."""
    outcomes = pool.run(cases)
    faults = faults_of(cases, outcomes)
    assert not faults, faults
    assert sum(outcome["kills"] for outcome in outcomes) >= hits_needed
    return outcomes


def faults_of(cases: Sequence[dict[str, Any]], outcomes: Sequence[dict[str, Any]]) -> str:
    """Return what went wrong as text, the first few cases in full; empty if nothing did."""
    wrong = [(case, outcome) for case, outcome in zip(cases, outcomes, strict=True) if outcome["faults"]]
    told = ["\n".join([str(case), *outcome["faults"]]) for case, outcome in wrong[:3]]
    told += [f"{case}: {outcome['faults'][0]}" for case, outcome in wrong[3:]]
    return "\n\n".join([f"{len(wrong)} of {len(cases)} cases went wrong", *told]) if wrong else ""
