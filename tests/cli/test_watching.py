"""Somebody is told of what becomes stuck, and Prometheus of what there is, by the command line."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from saga.cli.commands import COMMANDS

from .conftest import Cli

STORE = ["--store", "orders.db"]


@contextmanager
def listening() -> Iterator[tuple[str, list[Any]]]:
    """Yield an address, and what is posted to it."""
    posted: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *given: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", posted
        finally:
            server.shutdown()
            thread.join()


def test_each_stuck_execution_is_told_of_once(cli: Cli, here: Path, orders: Any) -> None:
    with listening() as (url, posted):
        command = ["watch", "--once", "--exec", "echo $SAGA_ID >> told", "--webhook", url, *STORE]
        assert cli(*command).out == "2 told of\n"
        assert cli(*command).out == "0 told of\n"
    assert sorted((here / "told").read_text().split()) == ["bad1", "bad2"]
    assert sorted(one["saga_id"] for one in posted) == ["bad1", "bad2"]


def test_all_that_are_stuck_for_a_cause_are_told_of_in_one_call(process: Callable[..., Any], here: Path, orders: Any) -> None:
    said = process("watch", "--once", "--group", "--exec", 'echo "$SAGA_EXECUTIONS" at "$SAGA_STEP"', *STORE)
    assert (said.returncode, said.stdout) == (0, "1 call\n")
    assert "says: 2 at charge" in said.stderr
    assert process("watch", "--once", "--group", "10m", "--exec", "false", *STORE).stdout == "0 calls\n"


def test_who_was_told_is_not_told_again_as_the_other_was_not(here: Path, orders: Any) -> None:
    with listening() as (url, posted):
        failing = "echo $SAGA_ID >> told; test $(grep -c $SAGA_ID told) -gt 1"
        with running(here, "watch", "--exec", failing, "--webhook", url, "--interval", "0.05", *STORE) as child:
            wait_until(lambda: (here / "told").exists() and len((here / "told").read_text().split()) >= 4, child)
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
    assert sorted((here / "told").read_text().split()) == ["bad1", "bad1", "bad2", "bad2"]
    assert sorted(one["saga_id"] for one in posted) == ["bad1", "bad2"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "who is told? Give --exec COMMAND, --webhook URL, or both"), (["--webhook", "ftp://x"], "http")],
)
def test_what_cannot_be_called_out_to_is_refused(cli: Cli, orders: Any, arguments: list[str], says: str) -> None:
    said = cli("watch", "--once", *arguments, *STORE)
    assert said.code == 2
    assert says in said.err


@contextmanager
def running(here: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with (here / "said").open("wb") as out:
        child = subprocess.Popen([sys.executable, "-m", "saga", *arguments], cwd=here, stdout=out, stderr=out)
        try:
            yield child
        finally:
            child.kill()
            child.wait()


def wait_until(there: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    while not there():
        assert child.poll() is None
        time.sleep(0.01)


def test_it_watches_until_it_is_told_to_stop(here: Path, orders: Any) -> None:
    with running(here, "watch", "--exec", "echo $SAGA_ID >> told", "--interval", "0.05", *STORE) as child:
        wait_until((here / "told").exists, child)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0


def test_a_worker_serves_metrics(cli: Cli, here: Path, orders: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = cli("worker", "--import", "shop", "--metrics-port", str(port), *STORE)
        assert (said.code, f"--metrics-port {port}: " in said.err) == (2, True)
    read: list[str] = []

    def there() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                read.append(answer.read().decode())
        except OSError:
            return False
        return "saga_store_workers 1.0" in read[-1]

    with running(here, "worker", "--import", "shop", "--metrics-port", str(port), *STORE) as child:
        wait_until(there, child)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    assert 'saga_store_executions{saga="orders",status="stuck"} 2.0' in read[-1]


def test_the_guide_tells_of_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "cli.rst").read_text(encoding="utf-8")
    table = page[page.index("Commands\n====") : page.index("Which store")]
    untold = {name for name in COMMANDS if f"``{name}``" not in table and f"``saga {name}" not in table}
    assert not untold, f"docs/guide/cli.rst: the table of commands lacks {untold}"
