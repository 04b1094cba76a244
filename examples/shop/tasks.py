"""The tasks of an order, each with its undo, and the carrier, who is not always reachable.

Every call is idempotent by order id. Repeating ``execute`` finds the work already done; ``compensate`` looks for what
there is to undo and is content to find nothing, because it also runs when nobody knows whether ``execute`` took effect.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from dataclasses import dataclass

from databases import Database, Databases
from orders import Order

from saga import Context, ExponentialBackoff, Retry, Saga, Task
from saga.logging import SagaLogger


class OrderRejected(Exception):
    """A customer's order cannot be filled: the shop's everyday failures, which no retry mends."""

    reason = "rejected"


class OutOfStock(OrderRejected):
    """Fewer units are left than the order wants."""

    reason = "out of stock"


class CardDeclined(OrderRejected):
    """The card is unknown, or the charge would exceed its limit."""

    reason = "card limit"


class UndeliverableAddress(OrderRejected):
    """The carrier does not serve the country, or the postcode is none of that country's."""

    reason = "undeliverable address"


@dataclass
class OrderContext(Context):
    """What the tasks of one order share."""

    order: Order


@dataclass(frozen=True, slots=True)
class Reservation:
    """Stock set aside, and what it costs at today's prices."""

    order_id: str
    total_cents: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Money taken from a card."""

    card: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Shipment:
    """A parcel the carrier will fetch."""

    number: int


class ReserveStock(Task[Reservation]):
    """Take every item of the order off the shelf, or none."""

    def __init__(self, inventory: Database) -> None:
        self.inventory = inventory

    def execute(self, context: OrderContext) -> Reservation:
        order, total = context.order, 0
        with self.inventory.transaction() as db:
            held = db.execute("SELECT 1 FROM reservations WHERE order_id = ?", (order.order_id,)).fetchone()
            for sku, quantity in order.quantities().items():
                total += quantity * self._price(db, sku)
                if held:
                    continue
                taken = db.execute("UPDATE stock SET on_hand = on_hand - ?1 WHERE sku = ?2 AND on_hand >= ?1", (quantity, sku))
                if taken.rowcount != 1:
                    raise OutOfStock(f"fewer than {quantity} of {sku} left")
                db.execute("INSERT INTO reservations VALUES (?, ?, ?)", (order.order_id, sku, quantity))
        return Reservation(order.order_id, total)

    def compensate(self, context: OrderContext) -> None:
        order_id = context.order.order_id
        with self.inventory.transaction() as db:
            db.execute(
                "UPDATE stock SET on_hand = on_hand + held.quantity"
                " FROM (SELECT sku, quantity FROM reservations WHERE order_id = ?) AS held WHERE stock.sku = held.sku",
                (order_id,),
            )
            db.execute("DELETE FROM reservations WHERE order_id = ?", (order_id,))

    @staticmethod
    def _price(db: sqlite3.Connection, sku: str) -> int:
        row = db.execute("SELECT price_cents FROM stock WHERE sku = ?", (sku,)).fetchone()
        if row is None:
            raise OutOfStock(f"{sku} is not in the catalogue")
        return int(row[0])


class ChargeCard(Task[Receipt]):
    """Charge what the reservation costs; the undo is a refund, so the ledger keeps both."""

    def __init__(self, payments: Database) -> None:
        self.payments = payments

    def execute(self, context: OrderContext) -> Receipt:
        order = context.order
        amount = context.result_of(ReserveStock).total_cents
        with self.payments.transaction() as db:
            if charged := self._charged(db, order.order_id):
                return Receipt(order.card, charged)
            paid = db.execute(
                "UPDATE cards SET balance_cents = balance_cents + ?1 WHERE card = ?2 AND balance_cents + ?1 <= limit_cents",
                (amount, order.card),
            )
            if paid.rowcount != 1:
                raise CardDeclined(f"{amount} cents are beyond the limit of card {order.card}")
            self._enter(db, order, "charge", amount)
        return Receipt(order.card, amount)

    def compensate(self, context: OrderContext) -> None:
        order = context.order
        with self.payments.transaction() as db:
            # What was charged is asked of the ledger, not of this run: the charge may be an earlier process's.
            if charged := self._charged(db, order.order_id):
                db.execute("UPDATE cards SET balance_cents = balance_cents - ? WHERE card = ?", (charged, order.card))
                self._enter(db, order, "refund", charged)

    @staticmethod
    def _charged(db: sqlite3.Connection, order_id: str) -> int:
        row = db.execute(
            "SELECT COALESCE(SUM(CASE kind WHEN 'charge' THEN amount_cents ELSE -amount_cents END), 0)"
            " FROM ledger WHERE order_id = ?",
            (order_id,),
        ).fetchone()
        return int(row[0])

    @staticmethod
    def _enter(db: sqlite3.Connection, order: Order, kind: str, amount: int) -> None:
        db.execute(
            "INSERT INTO ledger (order_id, card, kind, amount_cents) VALUES (?, ?, ?, ?)",
            (order.order_id, order.card, kind, amount),
        )


class BookShipment(Task[Shipment]):
    """Have the carrier fetch the parcel.

    A call that raised ``ConnectionError`` may have reached the carrier, its answer lost. So the retry asks for the
    shipment of this order, not for another one, and when the carrier never answers the booking is cancelled all the
    same: that is what ``compensate_on_failure`` is for.
    """

    retry = Retry(max_attempts=3, backoff=ExponentialBackoff(0.002, cap=0.05, jitter=True), retry_on=(ConnectionError,))
    compensate_on_failure = True

    def __init__(self, shipping: Database) -> None:
        self.carrier = Carrier(shipping)

    def execute(self, context: OrderContext) -> Shipment:
        return self.carrier.book(context.order, context.step.attempt)

    def compensate(self, context: OrderContext) -> None:
        self.carrier.cancel(context.order.order_id)


POSTCODES = {
    "AT": r"\d{4}",
    "CH": r"\d{4}",
    "DE": r"\d{5}",
    "FR": r"\d{5}",
    "GB": r"[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}",
    "NL": r"\d{4} [A-Z]{2}",
}
NEVER = 1_000


def unanswered_calls(order_id: str) -> int:
    """Return how many calls about an order the carrier leaves unanswered: mostly 0, some 1 or 2, a few times all.

    It depends on the order id alone, so that every run of the example meets the same weather.
    """
    roll = _roll("unanswered", order_id)
    return NEVER if roll < 5 else 2 if roll < 12 else 1 if roll < 24 else 0


def _roll(about: str, order_id: str) -> int:
    # hash() differs from process to process; a digest does not. The result is in 0..99, near enough to evenly.
    return int.from_bytes(hashlib.sha256(f"{about} {order_id}".encode()).digest()[:4], "big") % 100


class Carrier:
    """The carrier's service. Bad weather hits booking only: a call may fail on its way there or on its way back."""

    def __init__(self, shipping: Database) -> None:
        self.shipping = shipping

    def book(self, order: Order, attempt: int) -> Shipment:
        """Book the one shipment of an order, or return it where it is booked.

        :raises UndeliverableAddress: the carrier does not go there.
        :raises ConnectionError: no answer; the shipment may be booked nevertheless.
        """
        address = order.address
        if address.country not in POSTCODES:
            raise UndeliverableAddress(f"the carrier does not serve {address.country}")
        if not re.fullmatch(POSTCODES[address.country], address.postcode):
            raise UndeliverableAddress(f"{address.postcode!r} is no postcode of {address.country}")
        unanswered = attempt <= unanswered_calls(order.order_id)
        answer_lost = _roll("answer lost", order.order_id) < 50
        if unanswered and not answer_lost:
            raise ConnectionError(f"the carrier was not reached (attempt {attempt})")
        number = self._book_once(order)
        if unanswered:
            raise ConnectionError(f"the carrier's answer was lost (attempt {attempt})")
        return Shipment(number)

    def cancel(self, order_id: str) -> None:
        """Cancel an order's shipment where there is one."""
        with self.shipping.transaction() as db:
            db.execute("UPDATE shipments SET state = 'cancelled' WHERE order_id = ?", (order_id,))

    def _book_once(self, order: Order) -> int:
        with self.shipping.transaction() as db:
            booked = db.execute(
                "SELECT number FROM shipments WHERE order_id = ? AND state = 'booked'", (order.order_id,)
            ).fetchone()
            if booked:
                return int(booked[0])
            inserted = db.execute(
                "INSERT INTO shipments (order_id, destination, state) VALUES (?, ?, 'booked')",
                (order.order_id, f"{order.address.country}-{order.address.postcode} {order.address.city}"),
            )
            return int(inserted.lastrowid or 0)


def place_order(databases: Databases) -> Saga:
    """Return the saga of an order. It holds nothing of an execution: one serves every order, on many threads."""
    return (
        Saga("place-order", logger=SagaLogger())
        .add_task(ReserveStock(databases.inventory))
        .add_task(ChargeCard(databases.payments))
        .add_task(BookShipment(databases.shipping))
    )
