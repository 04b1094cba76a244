"""Semantic 13: importing ``saga`` configures, patches and starts nothing, and needs nothing outside the standard library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import saga

CHILD = """
import json, logging, signal, sys, threading
import os, warnings

def state():
    root = logging.getLogger()
    loggers = [n for n, l in logging.root.manager.loggerDict.items()
               if isinstance(l, logging.Logger) and (l.handlers or l.level or not l.propagate or l.filters)]
    signals = {str(s): repr(signal.getsignal(s)) for s in signal.valid_signals()}
    return {
        "root": [len(root.handlers), root.level, logging.lastResort is not None, logging.root.manager.disable],
        "loggers": loggers,
        "signals": signals,
        "threads": [t.name for t in threading.enumerate()],
        "tasks": len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1,
        "hooks": repr([sys.excepthook, sys.unraisablehook, threading.excepthook, sys.gettrace(), sys.getprofile()]),
        "filters": len(warnings.filters),
        "path": list(sys.path),
        "environ": dict(os.environ),
    }

before = state()
modules = set(sys.modules)
__import__(sys.argv[1])
found = sys.modules[sys.argv[1]]
for name in found.__all__:
    getattr(found, name)
after = state()
print(json.dumps({"before": before, "after": after, "new": sorted(set(sys.modules) - modules)}))
"""


def imported(module: str) -> dict[str, Any]:
    """Return what importing ``module`` in a fresh interpreter changed. Warnings are errors there."""
    home = str(Path(saga.__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", "-c", CHILD, module],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": home},
    )
    assert (child.returncode, child.stderr) == (0, "")
    found: dict[str, Any] = json.loads(child.stdout)
    return found


@pytest.mark.parametrize("module", ["saga", "saga.logging"])
def test_importing_changes_nothing_about_the_process(module: str) -> None:
    found = imported(module)
    assert found["after"] == found["before"]


def test_a_name_is_imported_when_it_is_first_asked_for() -> None:
    code = """
import sys, saga
print([name for name in sys.modules if name.startswith("saga.")])
saga.Retry, saga.errors
print("saga.policy" in sys.modules)
"""
    home = str(Path(saga.__file__).parents[1])
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": home})
    assert child.stdout.splitlines() == ["[]", "True"], child.stderr
    assert set(saga.__all__) <= set(dir(saga))
    with pytest.raises(AttributeError, match="module 'saga' has no attribute 'Sage'"):
        saga.Sage  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("module", ["saga", "saga.logging"])
def test_importing_loads_the_standard_library_and_saga_alone(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported(module)["new"]}
    assert roots - {"saga"} <= sys.stdlib_module_names


@pytest.mark.parametrize("module", ["saga", "saga.logging"])
def test_importing_reads_nothing_but_code(module: str) -> None:
    code = f"""
import inspect, logging, sys  # and what these read
def opened(event, arguments):
    if event == "open" and not str(arguments[0]).partition(".py")[1]:
        print(arguments[0])
sys.addaudithook(opened)
import {module}
"""
    home = str(Path(saga.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": home}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


def test_importing_does_not_load_what_only_some_need() -> None:
    new = set(imported("saga")["new"])
    assert not new & {"asyncio", "sqlite3", "hashlib", "difflib", "pickle", "saga.logging", "http", "ssl"}


def test_executing_starts_no_thread_that_outlives_it_and_logs_nothing() -> None:
    code = """
import threading
from saga import Saga, parallel, step
saga = Saga("s").add_task(step(lambda: 1, name="a")).add_task(parallel(step(lambda: 1, name="b"), step(lambda: 2, name="c")))
saga.add_task(step(lambda: 3, name="d", timeout=60)).execute()
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(30)
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""
    home = str(Path(saga.__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": home},
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


def test_an_error_makes_the_library_log_nothing_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError

    with caplog.at_level(0):
        saga.Saga("s").add_task(saga.step(fail)).try_execute()
    assert caplog.records == []
