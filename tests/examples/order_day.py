"""A day of the order service: its processes, its customers, what befalls them, and the audit in the end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import httpx
import psycopg

import saga
from saga.operations import Operations
from tests.kit.processes import Process, said
from tests.storage.servers import free_port

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
PATIENCE: Final = 120.0
OVER: Final = ("done", "cancelled", "undone", "needs a person")
WEB: Final = (0, -signal.SIGTERM)
"""How a web server ends that was told to: uvicorn has the signal take its course when it has shut down."""


class Day:
    """All of the service on one host: a database, a bank, a mail server, two web servers, workers.

    :param url: of a PostgreSQL server that nobody else uses.
    :param worker: what each worker's process runs.
    :param faults: how many of the bank's answers are no good ones.
    :ivar accepted: the orders that were answered with 202, by number; ``given_up``: those whose cancelling was.
    :ivar stopped: the workers' processes that ended in good order; ``kills``: how many processes did not.
    """

    def __init__(
        self, folder: Path, url: str, seed: int, *, worker: Sequence[str] = ("-m", "orders.worker"), faults: float = 0.1
    ) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.accepted: dict[str, dict[str, Any]] = {}
        self.given_up: set[str] = set()
        self.webs: list[Process] = []
        self.workers: list[Process] = []
        self.stopped: set[int] = set()
        self.kills = 0
        self._worker = worker
        self._faults = faults
        self._all: list[Process] = []
        self._ports: dict[Process, int] = {}
        self._lock = threading.Lock()  # of the processes that may be killed
        self._bank, self._mail = free_port(), free_port()
        self._environment = {
            "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(Path(saga.__file__).parents[1])]),
            "ORDERS_DATABASE": url,
            "ORDERS_BANK": f"http://127.0.0.1:{self._bank}",
            "ORDERS_BANK_TIMEOUT": "0.5",
            "ORDERS_MAIL": f"127.0.0.1:{self._mail}",
            "ORDERS_LEASE": "2",
            "NO_PROXY": "127.0.0.1",
        }
        self._client = httpx.Client(timeout=10, trust_env=False)
        made = self.run("orders.database")
        assert made.returncode == 0, made.stderr
        self.operations = Operations(url, who="the test")
        self.url = url

    # -- processes -----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        bank = f"-m orders.fakes.bank --port {self._bank} --slow 1 --faults {self._faults} --ledger {self.books['bank']}"
        mailbox = f"-m orders.fakes.mailbox --port {self._mail} --mails {self.books['mails']}"
        self._others = [self._start("bank", *bank.split()), self._start("mailbox", *mailbox.split())]
        self._ports |= zip(self._others, (self._bank, self._mail), strict=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for one in self._all:
            one.end()
        self._client.close()
        self.operations.store.close()

    @property
    def books(self) -> dict[str, Path]:
        """The files of the bank and of the mail server."""
        return {name: self.folder / f"{name}.db" for name in ("bank", "mails")}

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module of the example to its end."""
        command = [sys.executable, "-m", module, *arguments]
        environment = os.environ | self._environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def start_worker(self, version: str) -> Process:
        worker = self._start("worker", *self._worker, ORDERS_VERSION=version)
        with self._lock:
            self.workers.append(worker)
        return worker

    def start_web(self, version: str) -> Process:
        """Start a web server, or start one of another version in the place of the oldest."""
        with self._lock:
            old = self.webs.pop(0) if len(self.webs) == 2 else None
        if old is not None:
            old.stop(WEB)
        port = free_port()
        web = self._start(
            "web", *f"-m uvicorn orders.web:app --log-level warning --port {port}".split(), ORDERS_VERSION=version
        )
        with self._lock:
            self._ports[web] = port
            self.webs.append(web)
        return web

    def kill_any(self) -> None:
        """Kill something, mostly a web server or a worker, and start it again. Return when it is up."""
        with self._lock:
            one = self.random.choice([*self.webs, *self.workers] * 2 + self._others)
            one.kill()
            one.start()
        self.kills += 1
        self.until(lambda: self._is_up(one) or one not in (*self.webs, *self.workers, *self._others))

    def stop_workers(self, *workers: Process) -> None:
        """Tell them to stop; they finish what they have."""
        with self._lock:
            self.workers = [one for one in self.workers if one not in workers]
        for one in workers:
            self.until(lambda one=one: one.pid in self.living())  # where it was killed, it has to begin before it can be told
            one.stop()
            self.stopped.add(one.pid)

    def living(self) -> set[int | None]:
        """Return the processes of workers that say that they live."""
        return {one.pid for one in self.operations.workers()}

    def _is_up(self, one: Process) -> bool:
        port = self._ports.get(one)
        if port is None:
            return one.pid in self.living()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    def said(self) -> str:
        return said(self._all)

    def _start(self, name: str, *arguments: str, **environment: str) -> Process:
        output = self.folder / f"{name}-{len(self._all)}.log"
        self._all.append(Process([sys.executable, *arguments], output, self._environment | environment))
        return self._all[-1]

    # -- customers -----------------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Ask a web server, and another one where it dies or is busy, until the service answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            port = self._ports[random.choice(self.webs)]
            try:
                answer = self._client.request(method, f"http://127.0.0.1:{port}{path}", **options)
                if answer.status_code < 500:
                    return answer.json() | {"code": answer.status_code}
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{method} {path} is not answered\n{self.said()}"
            time.sleep(0.05)

    def order(self, number: str, product: str, card: str, quantity: int, then: str) -> None:
        """Order something as a customer does, who may change their mind, at once or when it is there."""
        order = {"number": number, "email": f"{number}@home.example", "product": product, "quantity": quantity, "card": card}
        assert self.ask("POST", "/orders", json=order)["code"] == 202
        self.accepted[number] = order
        while then == "send back" and self.state(number) not in OVER:
            time.sleep(0.1)
        if then != "keep":
            assert self.ask("POST", f"/orders/{number}/cancel")["code"] == 202
            self.given_up.add(number)

    def state(self, number: str) -> str:
        return self.ask("GET", f"/orders/{number}")["state"]

    def orders(self, count: int) -> list[tuple[str, str, str, int, str]]:
        """Return what is ordered, and what the customers do then. Some cards are refused; to some nothing can be refunded."""
        choose = self.random.choices
        return [
            (
                f"A{number}",
                *choose(["mug", "lamp", "piano"], [60, 30, 10]),
                *choose(["4242", "declined", "closed"], [88, 7, 5]),
                self.random.randint(1, 3),
                *choose(["keep", "cancel", "send back"], [65, 20, 15]),
            )
            for number in range(count)
        ]

    def serve(
        self, count: int, events: Sequence[tuple[float, Callable[[], object]]] = (), *, kills_every: float = PATIENCE
    ) -> None:
        """Let customers order, several at a time, and processes be killed meanwhile.

        :param events: what happens, and after which share of the orders was accepted.
        :param kills_every: seconds from when what was killed is up again until the next kill, more or less.
        """
        over = threading.Event()

        def kill() -> None:
            while not over.wait(self.random.uniform(0.5, 1.5) * kills_every):
                self.kill_any()

        with ThreadPoolExecutor(14) as pool:
            chaos = pool.submit(kill)
            customers = [pool.submit(self.order, *one) for one in self.orders(count)]
            try:
                for share, happens in events:
                    self.until(lambda share=share: len(self.accepted) >= share * count)
                    happens()
                for customer in customers:
                    customer.result()
            finally:
                over.set()
                for customer in customers:
                    customer.cancel()
            chaos.result()

    # -- the end -------------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so; tell what processes have said, where it does not come about."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{self.operations.count(['version', 'status', 'reason'])}\n{self.said()}"
            time.sleep(0.05)

    def until_all_ended(self) -> None:
        """Wait until nothing is under way any more."""
        under_way = ("submitted", "running", "compensating", "paused")
        self.until(lambda: not self.operations.count(["status"], status=under_way))

    def open_bank_accounts(self) -> None:
        self._client.post(f"http://127.0.0.1:{self._bank}/open").raise_for_status()

    def close_shop(self) -> None:
        """Stop all that the service runs."""
        for web in self.webs:
            web.stop(WEB)
        self.stop_workers(*self.workers)

    def connections(self) -> int:
        """Return how many connections to the database there are, besides the test's own."""
        self.operations.store.close()
        with psycopg.connect(self.url) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            return connection.execute(query).fetchone()[0]

    def audit(self) -> list[str]:
        """Return what the audit finds."""
        ran = self.run("orders.audit", *map(str, self.books.values()))
        faults = ran.stderr.splitlines()
        assert "Traceback" not in ran.stderr, ran.stderr
        assert ran.returncode == bool(faults), ran.stdout + ran.stderr
        return faults
