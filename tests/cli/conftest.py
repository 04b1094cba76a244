"""The command line, called in this process or in one of its own, in a directory that has a shop's sagas and orders."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from saga.cli.commands import run

SAGAS = """
import asyncio
from pathlib import Path

from saga import Context, Saga, receive, step
from saga.blobs import FolderBlobs
from saga.durable.codec import Codec

HERE = Path(__file__).parent


def pack(context: Context) -> None:
    if context.get("order", "").startswith("bad"):
        raise ValueError("no stock")


def refund() -> None:
    if (HERE / "closed").exists():
        raise OSError("the bank is closed")


async def post(context: Context) -> str:
    await asyncio.sleep(0)
    return "posted"


orders = Saga("orders", tags=["order"]).add_task(step(lambda: "receipt", refund, name="charge")).add_task(step(pack))
letters = Saga("letters").add_task(step(post, name="post"))
asked = Saga("asked", codec=Codec(blobs=FolderBlobs(HERE / "blobs")))
asked.add_task(receive("approval")).add_task(step(lambda: "sent", name="send"))
"""


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with sagas, whose bank is closed, and nothing in the environment."""
    for name in [name for name in os.environ if name.startswith("SAGA_")]:
        monkeypatch.delenv(name)
    (tmp_path / "shop.py").write_text(SAGAS, encoding="utf-8")
    (tmp_path / "closed").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # to which commands add
    yield tmp_path
    for name in ("shop", "broken", "needs", "waits", "stock"):
        sys.modules.pop(name, None)


@pytest.fixture
def cli(here: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call a command in this process."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(arguments)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def orders(here: Path) -> dict[str, Any]:
    """Orders in ``orders.db``: ``A1`` completed, ``bad1`` and ``bad2`` stuck, ``undone`` compensated, ``later`` submitted."""
    import shop

    store = "orders.db"
    ids = {}
    for saga_id in ("A1", "bad1", "bad2"):
        ids[saga_id] = shop.orders.try_execute({"order": saga_id}, saga_id=saga_id, store=store).status
    (here / "closed").unlink()
    ids["undone"] = shop.orders.try_execute({"order": "bad3"}, saga_id="undone", store=store).status
    ids["later"] = shop.orders.submit({"order": "A9"}, saga_id="later", store=store).status()
    return ids


@pytest.fixture
def process(here: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call a command in a process of its own."""

    def call(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "saga", *arguments]
        return subprocess.run(command, cwd=here, capture_output=True, encoding="utf-8", timeout=60, check=False, **options)

    return call


@pytest.fixture
def terminal(here: Path) -> Callable[..., str]:
    """Call a command in a terminal, answer what it asks, and return what is seen there."""

    def call(*arguments: str, columns: int = 80, answer: str = "", **environment: str) -> str:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "saga", *arguments]
        said = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **environment}
        with subprocess.Popen(command, cwd=here, stdin=theirs, stdout=theirs, stderr=theirs, env=said, close_fds=True) as child:
            os.close(theirs)
            if answer:
                os.write(ours, answer.encode())
            seen = b""
            while True:
                try:
                    some = os.read(ours, 65536)
                except OSError:  # nobody has it open any more
                    break
                if not some:
                    break
                seen += some
            child.wait(60)
        os.close(ours)
        return seen.decode().replace("\r\n", "\n")

    return call
