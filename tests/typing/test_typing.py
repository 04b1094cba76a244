"""The public types, tested by the type checkers: what must be accepted, and what must be refused."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import saga

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["accepted", "refused"])
def test_mypy_accepts_and_refuses_what_it_should(name: str, tmp_path: Path) -> None:
    # mypy finds an installed package by itself, and does not like to be told where. It runs outside the project, so that
    # no configuration but --strict takes part.
    library = Path(saga.__file__).parents[1]
    path = "" if library.name == "site-packages" else str(library)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(HERE / f"{name}.py")]
    ran = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": path}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(not find_spec("basedpyright"), reason="basedpyright is not installed")
@pytest.mark.parametrize("name", ["accepted", "refused"])
def test_pyright_accepts_and_refuses_what_it_should(name: str, tmp_path: Path) -> None:
    settings = {
        "typeCheckingMode": "standard",
        "reportUnnecessaryTypeIgnoreComment": "error",
        "include": [str(HERE / f"{name}.py")],
        "extraPaths": [str(Path(saga.__file__).parents[1])],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "-p", str(tmp_path), "--pythonpath", sys.executable]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_is_accepted_also_runs() -> None:
    runpy.run_path(str(HERE / "accepted.py"))
