"""``saga web``: the page, in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from saga.operations import Operations
from tests.kit import until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_to_this_machine_until_a_signal(here: Path, number: int) -> None:
    saga = [sys.executable, "-m", "saga"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Operations(str(here / "orders.db"), "x").store:  # which makes the file
        pass
    command = [
        *saga,
        "web",
        "--port",
        str(port),
        "--store",
        "orders.db",
        "--import",
        "shop",
        "--token",
        "a secret of the tests",
    ]
    restored = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(command, cwd=here, stderr=subprocess.PIPE, encoding="utf-8")
    signal.signal(signal.SIGINT, restored)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:

            def answers() -> bool:
                assert child.poll() is None
                with suppress(httpx.TransportError):
                    return bool(client.get("/").status_code == 200)
                return False

            until(answers)
            assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 400
            assert "Sign in" in client.get("/enter").text
            with client.stream("GET", "/?live=1", headers={"accept": "text/event-stream"}) as stream:
                next(stream.iter_lines())
                child.send_signal(number)
                assert child.wait(30) == 0
    finally:
        child.kill()
        _, said = child.communicate()
    assert "Traceback" not in said
    assert f"http://127.0.0.1:{port}/" in said


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--token", "short"], "no str of at least 16 characters"),
        (["--private"], "nobody could look at it"),
        (["--port", "0"], "--port"),
        (["--certificates", "none.json"], "none.json cannot be read"),
        (["--port", "TAKEN"], "is the port taken?"),
    ],
)
def test_what_is_wrong_is_told(cli: Callable[..., Any], here: Path, given: list[str], says: str) -> None:
    with Operations(str(here / "orders.db"), "x").store, socket.create_server(("127.0.0.1", 0)) as taken:
        given = [str(taken.getsockname()[1]) if part == "TAKEN" else part for part in given]
        said = cli("web", "--store", str(here / "orders.db"), *given)
    assert said.code == 2
    assert says in said.err
    assert "short" not in said.err
