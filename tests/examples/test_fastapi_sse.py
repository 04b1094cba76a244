"""The FastAPI example, as its users meet it: a server process on loopback, and a client that streams."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra saga-tasks[fastapi] is not installed")
pytest.importorskip("uvicorn", reason="the extra saga-tasks[fastapi] is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_sse"
STEPS = ["StepStarted", "StepSucceeded"] * 3
DONE = ["ReserveStock", "BookShipment", "ChargeCard"]


@dataclass(frozen=True)
class Message:
    id: int
    kind: str
    data: str


class Server:
    """The example in a process of its own, which can be killed and started again."""

    def __init__(self, data: Path, seconds: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data = data
        self.seconds = seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.client: Any = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    def start(self) -> None:
        options = f"-m uvicorn --factory app:create_app --host 127.0.0.1 --log-level warning --port {self.port}"
        self.process = subprocess.Popen(
            [sys.executable, *options.split(), "--app-dir", str(EXAMPLE)],
            env={**os.environ, "SHOP_DATA": str(self.data), "SHOP_LEASE": "1", "SHOP_SECONDS": str(self.seconds)},
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server did not start"
            try:
                self.client.get("/diagram.svg")
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise TimeoutError("the server does not answer")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def place(self, order_id: str, card: str = "4242") -> str:
        answer = self.client.post("/orders", json={"order_id": order_id, "sku": "MUG-BLUE", "card": card})
        assert answer.status_code == 202
        path: str = answer.json()["events"]
        return path

    def listen(self, path: str, last: int | None = None) -> Iterator[Message]:
        """Yield what a browser's EventSource would, until the server ends the stream."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        with self.client.stream("GET", path, headers=headers) as answer:
            if answer.status_code == 204:
                return
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    key, _, value = line.partition(": ")
                    fields[key] = value
                elif fields:
                    yield Message(int(fields["id"]), fields["event"], fields["data"])
                    fields = {}

    def effects(self) -> list[tuple[str, str]]:
        db = sqlite3.connect(self.data / "ledger.db")
        try:
            return db.execute("SELECT key, what FROM effects WHERE what IS NOT NULL ORDER BY rowid").fetchall()
        finally:
            db.close()


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(tmp_path, getattr(request, "param", 0.05))
    made.start()
    try:
        yield made
    finally:
        made.stop(signal.SIGKILL)
        made.client.close()


def test_an_order_is_streamed_from_its_start_to_its_end(server: Server) -> None:
    messages = list(server.listen(server.place("A1")))
    assert [one.id for one in messages] == list(range(1, len(messages) + 1))
    assert [one.kind for one in messages] == ["SagaSubmitted", "SagaStarted", *STEPS, "SagaCompleted"]
    assert [key for key, _ in server.effects()] == [f"place-order/A1/{step}" for step in DONE]


def test_an_order_that_fails_is_undone_before_the_clients_eyes(server: Server) -> None:
    messages = list(server.listen(server.place("A2", card="declined")))
    (failure,) = [one for one in messages if one.kind == "StepFailed"]
    assert '"error": "the card was declined"' in failure.data
    assert "Traceback" not in "".join(one.data for one in messages)
    undone = [one.data for one in messages if one.kind == "CompensationSucceeded"]
    assert ["BookShipment" in undone[0], "ReserveStock" in undone[1], len(undone)] == [True, True, 2]
    assert messages[-1].kind == "SagaCompensated"
    assert server.effects() == []


@pytest.mark.parametrize("server", [0.3], indirect=True)
def test_an_order_goes_on_without_its_client_who_comes_back_for_the_rest(server: Server) -> None:
    path = server.place("A3")
    first: list[Message] = []
    for message in server.listen(path):
        first.append(message)
        if message.kind == "StepSucceeded":
            break  # the client is gone
    time.sleep(0.5)
    rest = list(server.listen(path, first[-1].id))
    assert [one.id for one in first + rest] == list(range(1, 10))
    assert rest[-1].kind == "SagaCompleted"
    assert len(server.effects()) == 3


@pytest.mark.parametrize("server", [0.3], indirect=True)
def test_an_order_of_a_server_that_was_killed_is_finished_by_the_next_one(server: Server) -> None:
    path = server.place("A4")
    first: list[Message] = []

    def listen_and_kill() -> None:
        for message in server.listen(path):
            first.append(message)
            if message.kind == "StepSucceeded":
                server.stop(signal.SIGKILL)

    with pytest.raises(httpx.TransportError):
        listen_and_kill()
    assert first[-1].kind in ("StepSucceeded", "StepStarted")
    server.start()
    rest = list(server.listen(path, first[-1].id))
    assert [one.id for one in first + rest] == list(range(1, len(first + rest) + 1))
    assert "SagaRecovered" in [one.kind for one in rest]
    assert rest[-1].kind == "SagaCompleted"
    assert [key for key, _ in server.effects()] == [f"place-order/A4/{step}" for step in DONE]


def test_a_client_that_has_seen_everything_is_told_not_to_come_back(server: Server) -> None:
    path = server.place("A5")
    last = list(server.listen(path))[-1]
    assert server.client.get(path, headers={"Last-Event-ID": str(last.id)}).status_code == 204


def test_starting_an_order_twice_starts_it_once(server: Server) -> None:
    assert server.place("A6") == server.place("A6")
    assert len([one for one in server.listen("/orders/A6/events") if one.kind == "SagaStarted"]) == 1
    assert len(server.effects()) == 3


def test_another_order_under_an_id_that_is_taken_is_refused(server: Server) -> None:
    path = server.place("A7")
    other = {"order_id": "A7", "sku": "PIANO", "card": "9999"}
    assert server.client.post("/orders", json=other).status_code == 409
    list(server.listen(path))
    assert server.client.post("/orders", json=other).status_code == 409
    assert server.place("A7") == path


def test_how_an_order_stands_is_told(server: Server) -> None:
    list(server.listen(server.place("A8", card="declined")))
    assert server.client.get("/orders/A8").json() == {"status": "compensated", "error": "the card was declined"}


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status"),
    [
        ("GET", "/orders/none", {}, 404),
        ("GET", "/orders/none/events", {}, 404),
        ("GET", "/orders/none/events", {"headers": {"Last-Event-ID": "x"}}, 422),
        ("POST", "/orders", {"json": {"order_id": "../x", "sku": "s", "card": "c"}}, 422),
    ],
)
def test_what_makes_no_sense_is_refused(server: Server, method: str, path: str, arguments: dict[str, Any], status: int) -> None:
    assert server.client.request(method, path, **arguments).status_code == status


def test_the_page_shows_the_diagram(server: Server) -> None:
    assert "/diagram.svg" in server.client.get("/").text
    assert server.client.get("/diagram.svg").text.count('class="step"') == 3


def test_the_server_stops_when_it_is_asked_to(server: Server) -> None:
    list(server.listen(server.place("A7")))
    assert server.process is not None
    process = server.process
    server.stop(signal.SIGTERM)
    assert process.returncode in (0, -signal.SIGTERM)
