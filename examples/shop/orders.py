"""What a customer ordered, and the book of how each order ended.

Orders come from outside, so they are checked here, once, before any saga sees them. The book is the shop's own memory:
no step of the saga writes to it, so it tells the audit what *should* be in the three databases.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Item:
    """One line of an order."""

    sku: str
    quantity: int

    def __post_init__(self) -> None:
        # A quantity below 1 would put stock on the shelf and money on the card.
        if type(self.quantity) is not int or self.quantity < 1:
            raise ValueError(f"{self.sku}: quantity is {self.quantity!r}; give a whole number of 1 or more")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an order goes; whether that place can be reached is for the carrier to say."""

    street: str
    city: str
    postcode: str
    country: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order as placed. It has no prices: those are the inventory's, at the time of reservation."""

    order_id: str
    customer: str
    card: str
    items: tuple[Item, ...]
    address: Address

    def quantities(self) -> Counter[str]:
        """Return units wanted per SKU; a SKU may stand on several lines."""
        wanted: Counter[str] = Counter()
        for item in self.items:
            wanted[item.sku] += item.quantity
        return wanted

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Order:
        """Build an order from one decoded line of ``orders.jsonl``.

        :raises ValueError, TypeError, KeyError: a field is missing, unknown or makes no sense.
        """
        items = tuple(Item(**item) for item in values["items"])
        if not items:
            raise ValueError("the order has no items")
        return cls(**{**values, "items": items, "address": Address(**values["address"])})


def load_orders(path: Path) -> list[Order]:
    """Read one order per line.

    :raises ValueError: a line is no order, or two have the same id; the text names the line.
    """
    orders: dict[str, Order] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                order = Order.from_json(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path}, line {number}: not an order: {error!r}") from error
            if order.order_id in orders:
                raise ValueError(f"{path}, line {number}: order {order.order_id} is there already; ids must differ")
            orders[order.order_id] = order
    return list(orders.values())


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended: ``status`` is the saga's, ``reason`` says in the shop's words why it failed."""

    order: Order
    status: str
    reason: str | None = None


class OrderBook:
    """Every order that has ended, in ``outcomes.jsonl``: what lets a second run leave ended orders alone.

    A line is written after its saga ended. A process that dies between the two places that order again on the next
    run, which changes nothing, because every task is idempotent by order id.
    """

    def __init__(self, file: TextIO, outcomes: dict[str, Outcome]) -> None:
        self.outcomes = outcomes
        self._file = file
        self._lock = threading.Lock()

    def record(self, outcome: Outcome) -> None:
        """Remember that an order has ended; safe from many threads."""
        with self._lock:
            self._file.write(json.dumps(asdict(outcome)) + "\n")
            self._file.flush()
            self.outcomes[outcome.order.order_id] = outcome


@contextmanager
def open_order_book(path: Path) -> Iterator[OrderBook]:
    """Open the book, with what earlier runs wrote."""
    outcomes: dict[str, Outcome] = {}
    with path.open("a+", encoding="utf-8", newline="\n") as file:
        file.seek(0)
        whole, newline, _ = file.read().rpartition("\n")
        # A process killed while writing leaves half a line; the next line must not be glued to it.
        file.truncate(len((whole + newline).encode()))
        for line in whole.splitlines():
            values = json.loads(line)
            outcome = Outcome(Order.from_json(values["order"]), values["status"], values["reason"])
            outcomes[outcome.order.order_id] = outcome
        yield OrderBook(file, outcomes)
