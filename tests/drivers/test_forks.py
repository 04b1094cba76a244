"""A child that is forked while an execution runs goes on with nothing of it, however it leaves its task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import saga as package
from tests.kit import PATIENCE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

SCRIPT = """
import asyncio, os, sys, warnings
from saga import Saga, Skip, fallback, parallel, step, transaction
from saga.storage import SqliteStore

warnings.simplefilter("ignore")
way, how, where, path = sys.argv[1:]
store = None if where == "nowhere" else SqliteStore(path)
parent = os.getpid()
log = os.open(path + ".log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def tell(what):
    os.write(log, f"{what} {'parent' if os.getpid() == parent else 'child'}\\n".encode())

def act(name):
    return lambda: tell(name)

def forks():
    tell("b")
    child = os.fork()
    if child == 0:
        if how == "exits":
            sys.exit(7)
        if how == "raises":
            raise ValueError("in the child")
        return
    _, status = os.waitpid(child, 0)
    tell(f"ended:{os.waitstatus_to_exitcode(status)}")

class Forks:
    def __call__(self, event, info):
        if way == "observer" and (type(event).__name__, getattr(event, "step", None)) == ("StepStarted", "b"):
            forks()

    def around(self, info, step, attempt, phase):
        if way == "observer around" and step.name == "b":
            forks()

    def ended(self, status, error):
        if way == "observer ended":
            forks()

async def aforks():
    forks()

async def slow():
    await asyncio.sleep(0.5)

def saga(middle):
    made = Saga("s", store=store, lease=0.5).add_task(step(act("a"), act("-a"), name="a")).add_task(middle)
    return made.add_task(step(act("c"), act("-c"), name="c"))

async def awaited():
    try:
        await saga(step(aforks, act("-b"), name="b")).aexecute(saga_id="x")
    finally:
        if os.getpid() != parent:
            os._exit(7)  # asyncio.run() may hang in a child where threads have been used

def main():
    if way == "step":
        saga(step(forks, act("-b"), name="b")).execute(saga_id="x")
    elif way == "observed":
        made = Saga("s", store=store, logger=lambda event, info: None).add_task(step(act("a"), act("-a"), name="a"))
        made.add_task(step(forks, act("-b"), name="b")).add_task(step(act("c"), act("-c"), name="c")).execute(saga_id="x")
    elif way.startswith("observer"):
        made = Saga("s", store=store, observers=Forks()).add_task(step(act("a"), act("-a"), name="a"))
        made.add_task(step(act("b"), act("-b"), name="b")).add_task(step(act("c"), act("-c"), name="c")).execute(saga_id="x")
    elif way == "undo":
        made = Saga("s", store=store).add_task(step(act("a"), act("-a"), name="a")).add_task(step(act("c"), forks, name="c"))
        made.add_task(step(lambda: 1 / 0, name="bad")).try_execute(saga_id="x")
    elif way == "skipped":
        saga(step(forks, act("-b"), name="b", on_error=Skip)).execute(saga_id="x")
    elif way == "fallback":
        saga(fallback(step(forks, act("-b"), name="b"), step(act("other"), name="other"))).execute(saga_id="x")
    elif way == "group":
        saga(parallel(step(forks, act("-b"), name="b"), step(act("d"), act("-d"), name="d"))).execute(saga_id="x")
    elif way == "timed":
        saga(step(forks, act("-b"), name="b", timeout=60)).execute(saga_id="x")
    elif way == "stream":
        for record in saga(step(forks, act("-b"), name="b")).stream(saga_id="x"):
            pass
    elif way == "between records":
        for record in saga(step(act("between"), act("-between"), name="between")).stream(saga_id="x"):
            if record.name == "a":
                forks()
    elif way == "awaited":
        asyncio.run(awaited())
    elif way == "beside others":
        async def both():
            other = Saga("other", store=store).add_task(step(act("o"), act("-o"), name="o")).add_task(step(slow))
            await asyncio.gather(awaited(), other.aexecute(saga_id="y"))
        asyncio.run(both())
    elif way == "block":
        with transaction("t", saga_id="x") as tx:
            tx.step(act("a"), act("-a"))
            forks()
            if os.getpid() == parent:
                tx.step(act("c"), act("-c"))
    elif way == "step of a block":
        with transaction("t", saga_id="x") as tx:
            tx.step(act("a"), act("-a"))
            tx.step(forks, act("-b"))
            tx.step(act("c"), act("-c"))

try:
    main()
except BaseException as error:
    if os.getpid() != parent:
        os._exit(error.code if isinstance(error, SystemExit) else 1)
    raise
if os.getpid() == parent and store is not None:
    print(store.get("x").status)
"""

WAYS = ["step", "observed", "undo", "skipped", "fallback", "group", "timed", "stream", "between records"]
WAYS += ["awaited", "beside others", "block", "step of a block"]
OBSERVED = ["observer", "observer around", "observer ended"]
"""Ways in which an observer forks."""
ALL = [(way, how) for way in WAYS for how in ("exits", "raises", "returns")] + [(way, "exits") for way in OBSERVED]


@pytest.mark.parametrize("where", ["nowhere", "stored"])
@pytest.mark.parametrize(("way", "how"), ALL)
def test_a_child_goes_on_with_nothing(way: str, how: str, where: str, tmp_path: Path) -> None:
    if "block" in way and where == "stored":
        where = "nowhere"  # the functions of a stored block are those of modules
    env = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, way, how, where, str(tmp_path / "saga.db")]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    told = (tmp_path / "saga.db.log").read_text().splitlines()
    assert [line for line in told if line.endswith("child")] == []
    assert ran.returncode == 0, ran.stderr
    assert ("-a parent" in told) == (way == "undo")  # the parent's is as ever
    (ended,) = [line for line in told if line.startswith("ended")]
    if how == "exits" and way not in ("group", "timed"):  # its thread's end is the child's
        assert ended == "ended:7 parent"
    if where == "stored":
        assert ran.stdout.split()[-1] == ("compensated" if way == "undo" else "completed")
