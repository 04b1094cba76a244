"""The saga: three tasks whose effects are rows of a ledger, each under the idempotency key of its step."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from saga import Context, InDoubt, Saga, Task
from saga.storage import Store


@dataclass
class Order(Context):
    order_id: str
    sku: str
    card: str


class Ledger:
    """Stands for the services that do the work: each remembers the keys it has seen, so doing a thing twice does it once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection() as db:
            db.execute("CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, what TEXT)")

    def do(self, key: str, what: str) -> None:
        with self._connection() as db:
            db.execute("INSERT OR IGNORE INTO effects VALUES (?, ?)", (key, what))

    def undo(self, key: str) -> None:
        """Undo what was done under a key. Where it was not done yet, it will not be: what comes late does nothing any more."""
        with self._connection() as db:
            db.execute("INSERT INTO effects VALUES (?, NULL) ON CONFLICT DO UPDATE SET what = NULL", (key,))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=10)
        try:
            with db:
                yield db
        finally:
            db.close()


class LedgerTask(Task[None]):
    """A task that can be executed again when nobody knows whether it was: its key makes that harmless."""

    in_doubt = InDoubt.RERUN

    def __init__(self, ledger: Ledger, seconds: float) -> None:
        self.ledger = ledger
        self.seconds = seconds

    def execute(self, context: Order) -> None:
        time.sleep(self.seconds)  # the service takes its time
        self.ledger.do(context.step.idempotency_key, self.what(context))

    def compensate(self, context: Order) -> None:
        time.sleep(self.seconds)
        self.ledger.undo(context.step.idempotency_key)

    def what(self, context: Order) -> str:
        raise NotImplementedError


class ReserveStock(LedgerTask):
    def what(self, context: Order) -> str:
        return f"reserved {context.sku}"


class BookShipment(LedgerTask):
    def what(self, context: Order) -> str:
        return f"a parcel for {context.order_id}"


class ChargeCard(LedgerTask):
    def what(self, context: Order) -> str:
        if context.card == "declined":
            raise ValueError("the card was declined")
        return f"charged {context.card}"


def place_order(ledger: Ledger, store: Store, lease: float, seconds: float) -> Saga:
    """Return the saga. ``lease`` and ``seconds`` (of each call) are in seconds."""
    saga = Saga("place-order", store=store, lease=lease)
    for task in (ReserveStock, BookShipment, ChargeCard):
        saga.add_task(task(ledger, seconds))
    return saga
