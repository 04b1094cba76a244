"""Units, killed before and after each effect: what is done of one is all of it or nothing, whoever goes on with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, signal, sys, time
from pathlib import Path

from saga import Retry, Saga, Skip, parallel, step, unit
from saga.recovery import Recovery
from saga.storage import SqliteStore

mode, policy, driver, kill = *sys.argv[1:4], int(sys.argv[4])
book, points = Path("book"), 0


def point():
    global points
    points += 1
    if points == kill:
        os.kill(os.getpid(), signal.SIGKILL)


def note(line):
    point()
    with book.open("a") as file:
        file.write(line + chr(10))
    point()


def act(name):
    def execute():
        if name == "d" and not Path("tried").exists():
            Path("tried").touch()
            raise ValueError("the first time")
        note(name)

    async def aexecute():
        execute()

    return step(execute if driver == "threads" else aexecute, lambda: note("-" + name), name=name)


policies = {"retry": {"retry": Retry(3)}, "skip": {"on_error": Skip}}[policy]
saga = Saga("s", store="saga.db", lease=0.3)
saga.add_task(act("a")).add_task(unit(act("b"), parallel(act("c"), act("d")), name="u", **policies)).add_task(act("e"))
if mode == "run":
    if driver == "threads":
        saga.try_execute(saga_id="o-1")
    else:
        asyncio.run(saga.atry_execute(saga_id="o-1"))
else:
    store = SqliteStore("saga.db")
    while store.get("o-1") is not None and not saga.load("o-1", store=store).status.terminal:
        Recovery(store, [saga]).run_once()
        time.sleep(0.05)
"""
POINTS = range(1, 17)  # two for each effect and each undo


def run(folder: Path, *args: object) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, args)], cwd=folder, timeout=120, check=False)
    return done.returncode


@pytest.mark.parametrize("driver", ["threads", "loop"])
@pytest.mark.parametrize("policy", ["retry", "skip"])
def test_what_was_killed_in_a_unit_is_whole_or_nothing(tmp_path: Path, policy: str, driver: str, full: bool) -> None:
    killed = 0
    for kill in POINTS if full else POINTS[4::5]:
        folder = tmp_path / str(kill)
        folder.mkdir()
        killed += run(folder, "run", policy, driver, kill) == -9
        assert run(folder, "recover", policy, driver, 0) == 0
        if not (folder / "book").exists():  # it died before its first effect
            continue
        there: set[str] = set()
        for line in (folder / "book").read_text().split():
            (there.discard if line.startswith("-") else there.add)(line.removeprefix("-"))
        whole = {"a", "b", "c", "d", "e"}
        assert there in (whole, set(), {"a", "e"} if policy == "skip" else whole), (kill, (folder / "book").read_text())
    assert killed
