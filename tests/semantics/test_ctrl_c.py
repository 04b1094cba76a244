"""Semantic 3 with real Ctrl-C: a process that gets SIGINT undoes all it did and ends by KeyboardInterrupt.

The child writes a line for each effect: ``+n`` done, ``-n`` undone. Its last step fails, so whatever happens, an execution
that was told the truth about leaves nothing done. ``at`` lines tell the parent where the child is.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import saga
from tests.kit import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")

CHILD = """
import os, signal, sys, time
from saga import Saga, parallel, step

mode, where, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
effects = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
signal.signal(signal.SIGINT, signal.default_int_handler)

def at(place):
    os.write(1, f"at {place}\\n".encode())
    if place in where.split(","):
        time.sleep(3600)

def action(n):
    def do():
        os.write(effects, f"+{n}\\n".encode())
        at(f"do{n}")
        time.sleep(pause)
    def undo():
        os.write(effects, f"-{n}\\n".encode())
        at(f"undo{n}")
        time.sleep(pause)
    return step(do, undo, name=f"s{n}", timeout=60 if mode == "threads" else None)

def between(event, info):
    if type(event).__name__ == "StepSucceeded":
        at("between" + event.step[1:])

def fail():
    raise ValueError("the last step fails")

flow = Saga("child", logger=between)
for n in range(4):
    flow.add_task(action(n))
if mode == "branches":
    flow.add_task(parallel(action(4), action(5)))
flow.add_task(step(fail))
os.write(1, b"at start\\n")
flow.try_execute()
at("end")
time.sleep(3600)
"""


class Child:
    """A process that runs the saga; its effects are in a file."""

    def __init__(self, folder: Path, mode: str = "caller", where: str = "nowhere", pause: float = 0.0) -> None:
        self.file = folder / "effects"
        self.file.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, mode, where, str(pause), str(self.file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(saga.__file__).parents[1])},
        )
        self.see("start")

    def see(self, place: str) -> None:
        """Read until the child says it is at ``place``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == f"at {place}\n":
                return
        pytest.fail(f"the child never came to {place}: {self.process.communicate()[1]}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self, repeated: int = 0) -> tuple[list[str], str]:
        """Return its effects in order and what it wrote to stderr, after it ended by KeyboardInterrupt.

        :param repeated: how many compensations may have run twice in a row: a signal that strikes in the very moment in
            which one has returned leaves open whether it had, and it is called again.
        """
        _, told = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == -signal.SIGINT, (self.process.returncode, told)
        assert "KeyboardInterrupt" in told
        effects = self.file.read_text().split()
        left = [e for e in effects if e[0] == "+" and f"-{e[1:]}" not in effects]
        left = [e for e in left if f"compensation of step 's{e[1:]}' failed" not in told]  # hit at its very first line
        assert not left, (effects, told)
        undone = [e for e in effects if e[0] == "-"]
        once = [e for e, before in zip(undone, [None, *undone], strict=False) if e != before]
        assert len(undone) - len(once) <= repeated, effects
        assert len(set(once)) == len(once), effects
        return effects, told


Run = Callable[..., Child]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a child; none outlives the test."""
    children: list[Child] = []

    def start(**how: Any) -> Child:
        folder = tmp_path / str(len(children))
        folder.mkdir()
        children.append(Child(folder, **how))
        return children[-1]

    yield start
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
            child.process.communicate()


@pytest.mark.parametrize("at", range(4))
def test_in_mid_execute(run: Run, at: int) -> None:
    child = run(where=f"do{at}")
    child.see(f"do{at}")
    child.interrupt()
    effects, told = child.end()
    assert effects == [f"+{n}" for n in range(at + 1)] + [f"-{n}" for n in reversed(range(at + 1))]
    assert "failed and was undone" in told


@pytest.mark.parametrize("at", range(4))
def test_in_mid_compensate(run: Run, at: int) -> None:
    child = run(where=f"undo{at}")
    child.see(f"undo{at}")
    child.interrupt()
    effects, told = child.end()
    assert effects == [f"+{n}" for n in range(4)] + [f"-{n}" for n in reversed(range(4))]
    assert f"compensation of step 's{at}' failed" in told
    assert "is stuck" in told


@pytest.mark.parametrize("at", range(4))
def test_between_steps(run: Run, at: int) -> None:
    child = run(where=f"between{at}")
    child.see(f"between{at}")
    child.interrupt()
    effects, told = child.end()
    effects = [e for e in effects if e != f"-{at + 1}"]  # the next step's intent may have been recorded by then
    assert effects == [f"+{n}" for n in range(at + 1)] + [f"-{n}" for n in reversed(range(at + 1))]
    assert "failed and was undone" in told


@pytest.mark.parametrize(("first", "second"), [("do2", "undo2"), ("do3", "undo1"), ("between2", "undo0"), ("undo3", "undo1")])
def test_twice(run: Run, first: str, second: str) -> None:
    child = run(where=f"{first},{second}")
    child.see(first)
    child.interrupt()
    child.see(second)
    child.interrupt()
    _, told = child.end()
    assert f"compensation of step 's{second[-1]}' failed" in told


@pytest.mark.parametrize("mode", ["threads", "branches"])
def test_while_a_step_runs_in_a_thread(run: Run, mode: str) -> None:
    child = run(mode=mode, pause=0.4)
    child.see("do4" if mode == "branches" else "do1")
    time.sleep(0.05)  # let the caller's thread come to wait
    child.interrupt()
    effects, told = child.end()
    assert "-0" in effects
    assert "failed and was undone" in told


def test_as_a_compensation_has_returned() -> None:
    undone: list[str] = []

    def undo() -> None:
        undone.append("a")
        if len(undone) == 1:
            raise KeyboardInterrupt

    # Its line is taken for one of the package's own, from which nobody can tell whether the compensation had returned.
    struck = FunctionType(undo.__code__, {"__name__": "saga.pretended"}, closure=undo.__closure__)
    flow = saga.Saga("s").add_task(saga.step(lambda: None, struck, name="a")).add_task(saga.step(lambda: 1 / 0, name="b"))
    with pytest.raises(KeyboardInterrupt) as caught:
        flow.execute()
    assert undone == ["a", "a"]
    assert "failed and was undone" in caught.value.__notes__[0]


def test_at_random_moments(run: Run) -> None:
    moments = random.Random("moments")
    children = []
    for _ in range(20):
        child = run(pause=0.004)
        time.sleep(moments.uniform(0, 0.06))
        child.interrupt()
        children.append(child)
    for child in children:
        child.end(repeated=1)
