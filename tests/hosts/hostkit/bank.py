"""A bank in the tests' process, whose every call takes a moment; processes on any host reach it by a socket in the file system.

It knows a transfer by its key, as banks do: what is asked for twice is done once, and what was taken back is not done later,
whenever a process that was thought to be dead asks for it.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

OPENING: Final = 1_000
"""What is in the account of each who pays."""

CLOSED: Final = "closed"
"""An account that takes no money."""

UNDOES: Final = {"refund": "withdraw", "take back": "deposit"}
_LONGEST: Final = 0.02
"""Seconds that a call takes before it is done, and after, at most."""


class Bank:
    """:ivar calls: how often each was made: transfer, verb, attempt.
    :ivar done: by transfer, what was done and not undone.
    """

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, int]] = Counter()
        self.done: dict[str, set[str]] = {}
        self._balance: Counter[str] = Counter()
        self._undone: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def call(self, transfer: str, verb: str, attempt: int, account: str, amount: int) -> str:
        """Do something. Return what is wrong, or nothing."""
        with self._lock:
            self.calls[transfer, verb, attempt] += 1
        time.sleep(random.uniform(0, _LONGEST))
        with self._lock:
            refused = self._do(transfer, verb, account, amount)
        time.sleep(random.uniform(0, _LONGEST))
        return refused

    def _do(self, transfer: str, verb: str, account: str, amount: int) -> str:
        done = self.done.setdefault(transfer, set())
        if verb in UNDOES:
            undone = UNDOES[verb]
            self._undone.add((transfer, undone))
            if undone in done:
                done.remove(undone)
                self._balance[account] += amount if undone == "withdraw" else -amount
            return ""
        if (transfer, verb) in self._undone:
            return f"{verb} was taken back"
        if verb == "deposit" and account == CLOSED:
            return "the account is closed"
        if verb not in done:
            done.add(verb)
            self._balance[account] += {"withdraw": -amount, "deposit": amount}.get(verb, 0)
        return ""

    def total(self) -> int:
        """Return what all have together, less what they had: nothing, when all has ended."""
        with self._lock:
            return sum(self._balance.values())


class _Call(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if line:  # else who called is dead
            self.wfile.write(self.server.bank.call(*json.loads(line)).encode())  # type: ignore[attr-defined]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who called was killed before it was answered."""


@contextmanager
def open_bank(address: Path) -> Iterator[Bank]:
    """Serve a bank at the address of a socket."""
    with _Server(str(address), _Call) as server:
        bank = server.bank = Bank()  # type: ignore[attr-defined]
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield bank
        finally:
            server.shutdown()
            serving.join()


def ask(address: str, *call: Any) -> None:
    """Call the bank.

    :raises ValueError: it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(call).encode() + b"\n")
        with connection.makefile() as answer:
            _check(answer.read())


async def aask(address: str, *call: Any) -> None:
    """As :func:`ask`."""
    reader, writer = await asyncio.open_unix_connection(address)
    try:
        writer.write(json.dumps(call).encode() + b"\n")
        _check((await reader.read()).decode())
    finally:
        writer.close()


def _check(refused: str) -> None:
    if refused:
        raise ValueError(refused)
