"""What a customer ordered. Orders come from outside, so they are checked here, once, before any saga sees them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class OrderRejected(Exception):
    """A customer's order cannot be filled: the shop's everyday failures, which no retry mends."""

    reason = "rejected"


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
