"""Many executions at once in one process, on one store: ``python -m crashkit.crowd ROLE SCENARIO ADDRESS FOLDER COUNT``.

``ROLE`` is ``execute``, ``aexecute`` (in one event loop) or ``recover``. Each execution has a saga of its own name and a folder
of its own for its effects, so that each is judged by itself.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from crashkit.judge import Case, judge
from crashkit.scenario import Scenario
from crashkit.scenarios import ALL
from crashkit.world import World, read_log
from saga import Context, Saga
from saga.durable.rebuild import rebuild
from saga.errors import StorageError
from saga.recovery import Recovery
from saga.storage import Append, Entry, Store, StoredExecution, open_store

THREADS = 6
LEASE = 1.0
"""Of what is killed: a test waits until it has run out."""

LASTING = 60.0
"""Of a recovery, which nobody kills: heartbeats come late on a busy machine, and nothing may be taken from its own process."""


class Noting:
    """Passes everything on; notes in each execution's folder up to which entry its journal is said to be stored."""

    def __init__(self, inner: Store, folder: Path) -> None:
        self.inner = inner
        self.folder = folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def create(self, new: Any, entries: Any, *rest: Any) -> Any:
        existing = self.inner.create(new, entries, *rest)
        self._note(new.saga_id, entries)
        return existing

    def append(self, lease: Any, entries: Any, **more: Any) -> None:
        self.inner.append(lease, entries, **more)
        self._note(lease.saga_id, entries)

    def append_each(self, appends: list[Append]) -> list[bool]:
        stored = self.inner.append_each(appends)
        for one, well in zip(appends, stored, strict=True):
            if well:
                self._note(one.lease.saga_id, one.entries)
        return stored

    def _note(self, saga_id: str, entries: list[Entry]) -> None:
        with (self.folder / saga_id / "stored").open("a") as file:
            file.write("".join(f"{entry.seq} {entry.kind}\n" for entry in entries))


def opened(address: str, **options: Any) -> Store:
    """Open a server's store with options."""
    if address.startswith("postgresql://"):
        from saga.storage.postgres import PostgresStore

        return PostgresStore(address, **options)
    if "://" in address:
        from saga.storage.sqlalchemy import SQLAlchemyStore

        return SQLAlchemyStore(address, **options)
    return open_store(address)


def ids(folder: Path, count: int) -> list[str]:
    return [f"{folder.name}-{number}" for number in range(count)]


def sagas(scenario: Scenario, folder: Path, count: int, lease: float) -> dict[str, Saga]:
    found = {}
    for saga_id in ids(folder, count):
        (folder / saga_id).mkdir(exist_ok=True)
        found[saga_id] = scenario.build(World(folder / saga_id), saga_id, lease=lease)
    return found


def execute(scenario: Scenario, store: Store, folder: Path, count: int) -> None:
    """Execute them all; note in the folder of each that could not be stored what it raised."""

    def one(saga_id: str, saga: Saga) -> None:
        try:
            saga.try_execute(Context(order=7), saga_id=saga_id, store=noting)
        except StorageError as error:
            (folder / saga_id / "raised").write_text(f"{type(error).__name__}: {error}")
        (folder / saga_id / "ended").touch()

    noting = Noting(store, folder)
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(one, *pair) for pair in sagas(scenario, folder, count, LEASE).items()]:
            future.result()


def aexecute(scenario: Scenario, store: Store, folder: Path, count: int) -> None:
    """Execute them all at once in one event loop, where they share commits."""
    noting = Noting(store, folder)

    async def one(saga_id: str, saga: Saga) -> None:
        await saga.atry_execute(Context(order=7), saga_id=saga_id, store=noting)
        (folder / saga_id / "ended").touch()

    async def everything() -> None:
        await asyncio.gather(*[one(*pair) for pair in sagas(scenario, folder, count, LEASE).items()])

    asyncio.run(everything())


def recover(scenario: Scenario, store: Store, folder: Path, count: int) -> None:
    recovery = Recovery(store, sagas(scenario, folder, count, LASTING).values(), workers=4)
    while recovery.run_once():
        pass


def snapshots(store: Store, folder: Path, count: int) -> dict[str, tuple[StoredExecution | None, list[Entry]]]:
    return {saga_id: (store.get(saga_id), store.journal(saga_id)) for saga_id in ids(folder, count)}


def judged(
    scenario: Scenario, store: Store, folder: Path, count: int, before: dict[str, Any], killed: bool = False
) -> list[str]:
    """Return what is wrong with any of them.

    :param before: what was stored when the process that raised, or was ``killed``, had ended.
    """
    faults = []
    for saga_id, (row, journal) in snapshots(store, folder, count).items():
        place = folder / saga_id
        folded = None
        if row is not None:
            folded = rebuild(scenario.build(World(place), saga_id).definition, row, journal).result()
        raised = (place / "raised").exists()
        case = Case(scenario, read_log(place), [before[saga_id]] if raised or killed else [], row, journal, folded)
        wrong = judge(case)
        has = {f"{entry.seq} {entry.kind}" for entry in journal}
        said = (place / "stored").read_text().splitlines() if (place / "stored").exists() else []
        lost = [line for line in said if line not in has]
        wrong += [f"{line} was stored and is not there any more" for line in lost]
        faults += [f"{saga_id}{' (raised)' if raised else ''}: {fault}" for fault in wrong]
    return faults


def main() -> None:
    role, name, address, folder, count, *options = sys.argv[1:]
    more = {"patience": float(options[0])} if options else {}
    with opened(address, **more) as store:
        {"execute": execute, "aexecute": aexecute, "recover": recover}[role](ALL[name], store, Path(folder), int(count))


if __name__ == "__main__":
    main()
