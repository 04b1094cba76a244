"""A bank: ``python -m orders.fakes.bank --port 8101 --ledger bank.db``. It honours idempotency keys, as payment services do.

Of its answers some are errors, some are lost, and some come late; what it was asked to do may have been done all the same.
The card ``declined`` has no money, and to the card ``closed`` none can be refunded until ``POST /open``.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote

Answer = tuple[int, dict[str, Any]]

FAULTS: Final = ("error before", "error after", "slow before", "slow after", "lost")
LEDGER: Final = """
CREATE TABLE IF NOT EXISTS ledger (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    order_number TEXT,
    card TEXT,
    charge TEXT,  -- which was refunded
    cents INTEGER NOT NULL
)
"""


class Ledger:
    """What was charged and refunded, on the disk before anybody is told."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute(LEDGER)
        self._lock = threading.Lock()
        self.closed = True

    def charge(self, key: str, order: str, card: str, cents: int) -> Answer:
        with self._lock:
            if self._find(key) is None:
                if card == "declined":
                    return 402, {"detail": "the card was declined"}
                if self._do("SELECT 1 FROM ledger WHERE charge = ?", key):
                    return 409, {"detail": "this charge was taken back"}
                self._do("INSERT INTO ledger VALUES (?, 'charge', ?, ?, NULL, ?)", key, order, card, cents)
            return 201, {"receipt": key}

    def find(self, key: str) -> Answer:
        with self._lock:
            return (404, {"detail": "there is no such charge"}) if self._find(key) is None else (200, {"receipt": key})

    def refund(self, key: str, charge: str) -> Answer:
        """Refund a charge; where there is none, there will be none."""
        with self._lock:
            if self._find(key) is None:
                order, card, cents = self._find(charge) or (None, None, 0)
                if card == "closed" and self.closed:
                    return 409, {"detail": "the account is closed"}
                self._do("INSERT INTO ledger VALUES (?, 'refund', ?, ?, ?, ?)", key, order, card, charge, -cents)
            return 201, {"receipt": key}

    def open(self) -> Answer:
        self.closed = False
        return 200, {}

    def _find(self, key: str) -> tuple[Any, ...] | None:
        found = self._do("SELECT order_number, card, cents FROM ledger WHERE key = ?", key)
        return found[0] if found else None

    def _do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, ledger: Ledger, faults: float, slow: float) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.ledger, self.faults, self.slow = ledger, faults, slow

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked is gone."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve(lambda: self.server.ledger.find(unquote(self.path.removeprefix("/charges/"))))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        key = self.headers.get("Idempotency-Key", "")
        if self.path == "/open":
            self._answer(*self.server.ledger.open())
        elif self.path == "/charges":
            self._serve(lambda: self.server.ledger.charge(key, **body))
        else:
            self._serve(lambda: self.server.ledger.refund(key, **body))

    def _serve(self, act: Callable[[], Answer]) -> None:
        fault = random.choice(FAULTS) if random.random() < self.server.faults else None
        if fault == "error before":
            return self._answer(503, {"detail": "come back later"})
        if fault == "slow before":
            time.sleep(self.server.slow)
        answer = act()
        if fault == "error after":
            answer = 500, {"detail": "something is broken"}
        if fault == "slow after":
            time.sleep(self.server.slow)
        if fault == "lost":
            self.close_connection = True
            return None
        return self._answer(*answer)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of what went well."""


def main() -> None:
    parser = argparse.ArgumentParser(description="A bank that fails as banks do.")
    parser.add_argument("--port", type=int, default=8101)
    parser.add_argument("--ledger", default="bank.db", metavar="FILE")
    parser.add_argument("--faults", type=float, default=0.1, help="how many of its answers are no good ones (default: 0.1)")
    parser.add_argument("--slow", type=float, default=8.0, metavar="SECONDS", help="how late an answer comes that is late")
    options = parser.parse_args()
    Server(options.port, Ledger(options.ledger), options.faults, options.slow).serve_forever()


if __name__ == "__main__":
    main()
