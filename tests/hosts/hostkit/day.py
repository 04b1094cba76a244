"""A day of transfers: they are submitted, processes run them, and in the end all that is left is audited."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

from hostkit.audit import faults_of, recovered
from hostkit.bank import CLOSED, Bank
from hostkit.processes import Processes
from hostkit.stores import open_store
from hostkit.transfers import VERSIONS, transfer
from saga import Context
from saga.operations import Operations
from tests.kit.processes import Process

_PATIENCE = 120.0


class Day:
    """:param url: of the store, for the workers.
    :param here: of the same store, for the tests' process.
    :ivar submitted: the ids of what was.
    :ivar offered: the versions of which more is submitted all the time, as by web servers.
    """

    def __init__(self, folder: Path, bank: Bank, url: str, *, here: str | None = None) -> None:
        self.bank = bank
        self.submitted: list[str] = []
        self.offered: tuple[str, ...] = ()
        self.store = open_store(here or url)
        self.operations = Operations(self.store, who="the test")
        self.processes = Processes(folder, url, folder / "bank")
        self._sagas = {version: transfer(version, str(folder / "bank")) for version in VERSIONS}
        self._over = threading.Event()
        self._fault: BaseException | None = None
        self._traffic = threading.Thread(target=self._offer, daemon=True)

    def __enter__(self) -> Self:
        self._traffic.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._traffic.join()
        self.processes.close()
        self.store.close()

    def submit(self, version: str, number: int = 1) -> list[str]:
        """Submit transfers; one in five goes to an account that takes none."""
        ids = [handle.saga_id for handle in self._sagas[version].submit_many(map(_input, range(number)), store=self.store)]
        self.submitted += ids
        return ids

    def ended(self, version: str | None = None) -> int:
        """Return how many have ended."""
        return sum(
            one.executions
            for one in self.store.count(["version", "status"], status=["completed", "compensated", "stuck"])
            if version in (None, one.values[0])
        )

    def open(self, version: str) -> dict[str, int]:
        """Return how many have not ended, by status."""
        return next((one.executions for one in self.operations.versions() if one.version == version), {})

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so; tell what processes have said, where it does not come about."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert self._fault is None, self._fault
            assert time.monotonic() < deadline, f"{self.store.count(['version', 'status', 'reason'])}\n{self.processes.said()}"
            time.sleep(0.02)

    def until_more_ended(self, number: int, version: str | None = None) -> None:
        """Wait until so many more have ended than have now."""
        wanted = self.ended(version) + number
        self.until(lambda: self.ended(version) >= wanted)

    def in_hand(self, *workers: Process) -> set[str]:
        """Return the ids of the executions that workers have."""
        pids = {str(worker.pid) for worker in workers}
        rows = self.store.list(status=["running", "compensating"], limit=1000).executions
        return {row.saga_id for row in rows if row.owner is not None and row.owner.split(":")[1] in pids}

    def kill(self, worker: Process) -> None:
        """Kill a worker that has something in hand, and start it again."""
        self.until(partial(self.in_hand, worker))
        worker.kill()
        worker.start()

    def start(self, number: int, *versions: str, **options: Any) -> list[Process]:
        """Start so many workers, and wait until each has begun."""
        workers = [self.processes.start(*versions, **options) for _ in range(number)]
        for worker in workers:
            self.until(partial(self.lives, worker))
        return workers

    def lives(self, worker: Process) -> bool:
        """Whether the store knows of it that it lives."""
        return worker.pid in {one.pid for one in self.operations.workers()}

    def stop(self, *workers: Process) -> None:
        """Tell workers to stop, once they have begun; they end in good order, and nobody takes them to be alive."""
        for worker in workers:
            self.until(partial(self.lives, worker))
            worker.stop()
            assert not self.lives(worker)

    def end(self) -> int:
        """Submit no more, wait until all has ended, and audit it. Return how many were taken over from lost processes."""
        self._over.set()
        self._traffic.join()
        assert self._fault is None, self._fault
        self.until(lambda: self.ended() == len(self.submitted))
        faults = faults_of(self.store, self.bank, self.submitted)
        assert not faults, "\n".join([f"{len(faults)} faults", *faults[:20], self.processes.said()])
        return recovered(self.store, self.submitted)

    def _offer(self) -> None:
        try:
            while not self._over.wait(0.01):
                for version in self.offered:
                    self.submit(version)
        except BaseException as error:
            self._fault = error


def _input(number: int) -> Context:
    return Context(payer="anna", payee=CLOSED if random.random() < 0.2 else "berta", amount=random.randint(1, 100))
