"""Whether the three databases agree with each other and with the order book.

The expectations are computed from the orders as the customers placed them and the way each ended, never from what the
tasks wrote, so an undo that was forgotten or done twice has nowhere to hide.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from databases import Database, Databases
from orders import Order
from outcomes import Outcome

from saga import Effect


class AuditError(Exception):
    """The books do not balance; ``discrepancies`` has a line for each thing that is wrong."""

    def __init__(self, discrepancies: list[str]) -> None:
        super().__init__("\n".join([f"{len(discrepancies)} discrepancies:", *discrepancies]))
        self.discrepancies = discrepancies


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of a clean audit; money in cents, stock in units."""

    orders: int
    charged_cents: int
    refunded_cents: int
    initial_units: int
    reserved_units: int
    shipments: int
    effects: Mapping[Effect, int]


def audit(databases: Databases, outcomes: Mapping[str, Outcome]) -> Totals:
    """Compare the databases with the orders that have ended.

    :param outcomes: every ended order, by order id.
    :raises AuditError: anything differs; all differences are listed.
    """
    completed = {key: outcome.order for key, outcome in outcomes.items() if outcome.status == "completed"}
    wrong = [
        f"order {key}: ended {outcome.status} ({outcome.reason}); a person must act"
        for key, outcome in outcomes.items()
        if outcome.status not in ("completed", "compensated")
    ]
    prices = dict(_rows(databases.inventory, "SELECT sku, price_cents FROM stock"))
    owed = {
        order_id: sum(quantity * prices.get(sku, 0) for sku, quantity in order.quantities().items())
        for order_id, order in completed.items()
    }
    initial, reserved = _audit_stock(databases.inventory, completed, wrong)
    charged, refunded = _audit_money(databases.payments, completed, owed, wrong)
    shipments = _audit_shipments(databases.shipping, completed, wrong)
    effects = _audit_effects(databases, outcomes, wrong)
    if wrong:
        raise AuditError(wrong)
    return Totals(len(outcomes), charged, refunded, initial, reserved, shipments, effects)


def _audit_stock(inventory: Database, completed: Mapping[str, Order], wrong: list[str]) -> tuple[int, int]:
    """Stock on hand and in completed orders is the initial stock; only completed orders hold a reservation."""
    sold: Counter[str] = Counter()
    for order in completed.values():
        sold.update(order.quantities())
    stock = _rows(inventory, "SELECT sku, initial, on_hand FROM stock")
    for sku, initial, on_hand in stock:
        if on_hand + sold[sku] != initial:
            wrong.append(f"stock {sku}: {on_hand} on hand + {sold[sku]} in completed orders, but {initial} initially")
    held: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for order_id, sku, quantity in _rows(inventory, "SELECT order_id, sku, quantity FROM reservations"):
        held[order_id][sku] += quantity
    for order_id in sorted(held.keys() | completed.keys()):
        wanted = completed[order_id].quantities() if order_id in completed else Counter[str]()
        if held[order_id] != wanted:
            wrong.append(f"reservation of order {order_id}: holds {dict(held[order_id])}, should hold {dict(wanted)}")
    return sum(initial for _, initial, _ in stock), sum(sold.values())


def _audit_money(
    payments: Database, completed: Mapping[str, Order], owed: Mapping[str, int], wrong: list[str]
) -> tuple[int, int]:
    """To the cent: in total, for each order, and on each card."""
    sums: Counter[str] = Counter()
    paid: Counter[str] = Counter()
    for order_id, kind, amount in _rows(payments, "SELECT order_id, kind, amount_cents FROM ledger"):
        sums[kind] += amount
        paid[order_id] += amount if kind == "charge" else -amount
    if sums["charge"] - sums["refund"] != sum(owed.values()):
        wrong.append(
            f"money: {sums['charge']} cents charged - {sums['refund']} refunded is not the {sum(owed.values())} cents "
            "of completed orders"
        )
    for order_id in sorted(paid.keys() | owed.keys()):
        if paid[order_id] != owed.get(order_id, 0):
            wrong.append(f"payment of order {order_id}: {paid[order_id]} cents, should be {owed.get(order_id, 0)}")
    balances: Counter[str] = Counter()
    for order_id, order in completed.items():
        balances[order.card] += owed[order_id]
    for card, balance in _rows(payments, "SELECT card, balance_cents FROM cards"):
        if balance != balances[card]:
            wrong.append(f"card {card}: balance is {balance} cents, its completed orders come to {balances[card]}")
    return sums["charge"], sums["refund"]


def _audit_shipments(shipping: Database, completed: Mapping[str, Order], wrong: list[str]) -> int:
    """One live shipment for each completed order, none for any other."""
    live = dict(_rows(shipping, "SELECT order_id, COUNT(*) FROM shipments WHERE state = 'booked' GROUP BY order_id"))
    for order_id in sorted(live.keys() | completed.keys()):
        found, expected = live.get(order_id, 0), int(order_id in completed)
        if found != expected:
            wrong.append(f"shipment of order {order_id}: {found} live, should be {expected}")
    return sum(live.values())


def _audit_effects(databases: Databases, outcomes: Mapping[str, Outcome], wrong: list[str]) -> Counter[Effect]:
    """What the saga says of each step is what is found: its effect stands where there is one, and nowhere else."""
    net = "SUM(CASE kind WHEN 'charge' THEN amount_cents ELSE -amount_cents END)"
    found = {
        "ReserveStock": _rows(databases.inventory, "SELECT DISTINCT order_id FROM reservations"),
        "ChargeCard": _rows(databases.payments, f"SELECT order_id FROM ledger GROUP BY order_id HAVING {net} <> 0"),
        "BookShipment": _rows(databases.shipping, "SELECT order_id FROM shipments WHERE state = 'booked'"),
    }
    counts: Counter[Effect] = Counter()
    for step, rows in found.items():
        there = {order_id for (order_id,) in rows}
        for order_id, outcome in outcomes.items():
            effect = outcome.effects[step]
            counts[effect] += 1
            if effect is Effect.UNKNOWN or (effect is Effect.STANDS) is not (order_id in there):
                truth = "it is there" if order_id in there else "nothing is there"
                wrong.append(f"{step} of order {order_id}: the saga says that its effect is {effect}, and {truth}")
    return counts


def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.transaction() as db:
        return db.execute(query).fetchall()
