"""Large values in a folder, and processes killed around each that is put, read or deleted: nothing is named that is not there.

The kills are a sample of those of each saga, the same each time, and with ``SAGA_CRASH=full`` all there are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from crashkit.pool import check
from crashkit.scenarios import ELSEWHERE

from saga import Saga, step
from saga.blobs import FolderBlobs
from saga.durable.codec import Codec
from saga.operations import Operations
from saga.storage import SqliteStore


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_kill_around_what_is_elsewhere_is_recovered_from(pool, name, chance, full):
    """The process that executes it is killed; or that one, and then the one that recovers."""
    whole = {"scenario": name, "kills": []}
    [outcome] = check(pool, [whole])
    assert outcome["status"] == ELSEWHERE[name].ends
    points = outcome["points"][0]
    around = [point for point in points if point.startswith(("put", "get"))]
    assert len(around) >= 6
    firsts = [whole | {"kills": [point]} for point in (points if full else chance.sample(around, 5))]
    outcomes = check(pool, firsts)
    # Where calls run side by side, not every point is reached every time.
    assert sum(outcome["kills"] for outcome in outcomes) >= len(firsts) * 3 // 4
    seconds = [
        case | {"kills": [*case["kills"], point]}
        for case, outcome in zip(firsts, outcomes, strict=True)
        for point in outcome["points"][1]
        if point.startswith(("put", "get"))
    ]
    assert seconds
    check(pool, seconds if full else chance.sample(seconds, min(5, len(seconds))))


PURGES = """
import os, signal, sys
from saga.blobs import FolderBlobs
from saga.operations import Operations

class Dying(FolderBlobs):
    def delete(self, keys):
        os.kill(os.getpid(), signal.SIGKILL)

Operations(sys.argv[1], "ann", blobs=Dying(sys.argv[2])).purge(older_than=0)
"""


def test_a_purge_that_is_killed_between_rows_and_bytes_leaves_what_a_sweep_finds(tmp_path: Path) -> None:
    address, folder = tmp_path / "saga.db", tmp_path / "blobs"
    blobs = FolderBlobs(folder)
    saga = Saga("s", codec=Codec(blobs=blobs, larger_than=10)).add_task(step(lambda: "x" * 100, name="a"))
    with SqliteStore(address) as store:
        for saga_id in ("o-1", "o-2"):
            saga.execute(saga_id=saga_id, store=store)
    ran = subprocess.run([sys.executable, "-c", PURGES, address, folder], check=False)
    assert ran.returncode == -signal.SIGKILL
    with SqliteStore(address) as store:
        assert store.list().executions == ()
        assert len([*blobs.older_than(0)]) == 2
        saga.execute(saga_id="o-1", store=store)
        for path in folder.rglob("*.blob"):
            os.utime(path, (0, 0))
        assert Operations(store, "ann", sagas=[saga]).sweep(older_than=3600) == 2
        assert saga.load("o-1", store=store).results == {"a": "x" * 100}
