"""The servers that tests start end with them, though they are killed and run nothing to its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import PATIENCE, until
from tests.storage.watcher import processes_of

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")

ROOT = Path(__file__).parents[2]
TEST = """
import time
from pathlib import Path
from tests.storage import servers

def test_that_never_ends():
    with servers.{server}():
        Path({ready!r}).touch()
        time.sleep(3600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which servers make theirs; its path is short, as that of a socket has to be."""
    folder = Path(tempfile.mkdtemp(prefix="saga-end-"))
    folder.chmod(0o755)  # a server may run as another user
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_no_server_outlives_tests_that_are_killed(
    server: str, number: signal.Signals, folder: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(f"{server}_url")  # skipped where there is none
    ready, test = folder / "ready", folder / "test_it.py"
    test.write_text(TEST.format(server=server, ready=str(ready)))
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", test.name]
    tests = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        until(lambda: ready.exists() or tests.poll() is not None, 2 * PATIENCE)
        assert tests.poll() is None
        assert processes_of(str(folder / "saga-"))
        tests.send_signal(number)
        tests.wait(PATIENCE)
        until(lambda: not processes_of(str(folder / "saga-")))
        until(lambda: not list(folder.glob("saga-*")))
    finally:
        tests.kill()
        tests.wait()
