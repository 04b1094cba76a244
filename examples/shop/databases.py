"""Three SQLite databases that share no transaction: inventory, payments and shipping.

Each stands for a service of its own, with its own file, connection and local transactions. Nothing here attaches one to
another: what keeps them in step is the saga. Money is integer cents everywhere.

A process may die after a service did what it was asked and before anybody noted it, so the same call may come again. Each
service therefore remembers the keys of its calls, in the same transaction as what a call did: :func:`is_first_call`,
:func:`is_to_undo` and :func:`was_done` are the whole of it, and a service that deduplicates by a key of the caller's does no
other.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

CALLS = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('done', 'undone'))
);
"""

INVENTORY = """
CREATE TABLE IF NOT EXISTS stock (
    sku TEXT PRIMARY KEY,
    price_cents INTEGER NOT NULL CHECK (price_cents > 0),
    initial INTEGER NOT NULL,
    on_hand INTEGER NOT NULL CHECK (on_hand >= 0)
);
CREATE TABLE IF NOT EXISTS reservations (
    order_id TEXT NOT NULL,
    sku TEXT NOT NULL REFERENCES stock (sku),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);
"""

PAYMENTS = """
CREATE TABLE IF NOT EXISTS cards (
    card TEXT PRIMARY KEY,
    limit_cents INTEGER NOT NULL,
    balance_cents INTEGER NOT NULL DEFAULT 0 CHECK (balance_cents BETWEEN 0 AND limit_cents)
);
CREATE TABLE IF NOT EXISTS ledger (
    entry INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    card TEXT NOT NULL REFERENCES cards (card),
    kind TEXT NOT NULL CHECK (kind IN ('charge', 'refund')),
    amount_cents INTEGER NOT NULL CHECK (amount_cents > 0)
);
CREATE INDEX IF NOT EXISTS ledger_by_order ON ledger (order_id);
"""

SHIPPING = """
CREATE TABLE IF NOT EXISTS shipments (
    number INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('booked', 'cancelled'))
);
CREATE INDEX IF NOT EXISTS shipments_by_order ON shipments (order_id);
"""

CATALOGUE: tuple[tuple[str, int, int], ...] = (
    # SKU, price in cents, units in stock. The last three are scarce on purpose: their orders outnumber the units.
    ("MUG-BLUE", 1_295, 400),
    ("MUG-GREEN", 1_295, 400),
    ("TEAPOT-1L", 3_499, 250),
    ("TEA-ASSAM-250", 1_150, 600),
    ("TEA-SENCHA-100", 1_689, 600),
    ("KETTLE-STEEL", 5_990, 200),
    ("GRINDER-HAND", 7_449, 150),
    ("COFFEE-HUILA-1KG", 2_799, 500),
    ("SCALE-0.1G", 4_215, 200),
    ("FILTER-100", 633, 900),
    ("ESPRESSO-LEVER", 48_900, 9),
    ("KYUSU-SIGNED", 18_750, 4),
    ("COFFEE-GEISHA-100", 6_999, 8),
)

CARDS: tuple[tuple[str, int], ...] = tuple(
    # Card token, limit in cents. Every ninth customer has a card that a pot of tea and a kettle are too much for.
    (f"tok_{7_919 * number % 100_000:05d}", 6_000 if number % 9 == 0 else 250_000)
    for number in range(1, 91)
)


class Database:
    """One database file behind one connection; a lock makes its transactions take turns, as SQLite's writers do."""

    def __init__(self, path: Path, schema: str) -> None:
        # isolation_level=None: transactions begin and end only where ``transaction`` says so.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._lock = threading.Lock()
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.executescript(CALLS + schema)
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done inside, or, when it raises, nothing of it."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        self._connection.close()


def is_first_call(db: sqlite3.Connection, key: str) -> bool:
    """Whether no call with this key was made before, so that now is the time to do what it asks."""
    return db.execute("INSERT INTO calls VALUES (?, 'done') ON CONFLICT DO NOTHING", (key,)).rowcount == 1


def is_to_undo(db: sqlite3.Connection, key: str) -> bool:
    """Whether the call with this key did something that is not undone yet.

    From then on it counts as undone, even where it was never made: should it arrive late, it must do nothing any more.
    """
    if db.execute("INSERT INTO calls VALUES (?, 'undone') ON CONFLICT DO NOTHING", (key,)).rowcount == 1:
        return False
    return db.execute("UPDATE calls SET state = 'undone' WHERE key = ? AND state = 'done'", (key,)).rowcount == 1


def was_done(db: sqlite3.Connection, key: str) -> bool:
    """Whether the call with this key did something that is not undone."""
    return db.execute("SELECT 1 FROM calls WHERE key = ? AND state = 'done'", (key,)).fetchone() is not None


@dataclass(frozen=True)
class Databases:
    """The three, held together for convenience only."""

    inventory: Database
    payments: Database
    shipping: Database


@contextmanager
def open_databases(folder: Path) -> Iterator[Databases]:
    """Open (and on the first run create and seed) the databases in ``folder``; close them in the end."""
    with ExitStack() as stack:

        def opened(name: str, schema: str) -> Database:
            database = Database(folder / name, schema)
            stack.callback(database.close)
            return database

        databases = Databases(
            opened("inventory.db", INVENTORY), opened("payments.db", PAYMENTS), opened("shipping.db", SHIPPING)
        )
        # OR IGNORE: a later run must find the stock and balances the earlier one left.
        with databases.inventory.transaction() as inventory:
            inventory.executemany(
                "INSERT OR IGNORE INTO stock (sku, price_cents, initial, on_hand) VALUES (?, ?, ?, ?)",
                [(sku, price_cents, units, units) for sku, price_cents, units in CATALOGUE],
            )
        with databases.payments.transaction() as payments:
            payments.executemany("INSERT OR IGNORE INTO cards (card, limit_cents) VALUES (?, ?)", CARDS)
        yield databases
