"""The carrier, who does not go everywhere and is not always reachable."""

from __future__ import annotations

import hashlib
import re
import sqlite3

from databases import Database, is_first_call, is_to_undo, was_done
from orders import Order, OrderRejected


class UndeliverableAddress(OrderRejected):
    """The carrier does not serve the country, or the postcode is none of that country's."""

    reason = "undeliverable address"


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
    """The carrier's service. In bad weather a booking may fail on its way there or on its way back.

    A carrier that never answers about an order does not answer a question about it either; it can be cancelled by post.
    """

    def __init__(self, shipping: Database) -> None:
        self.shipping = shipping

    def book(self, order: Order, key: str, attempt: int) -> int:
        """Book a shipment and return its number; a call with the same ``key`` gets the same shipment.

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
        number = self._book_once(order, key)
        if unanswered:
            raise ConnectionError(f"the carrier's answer was lost (attempt {attempt})")
        return number

    def find(self, order: Order, key: str) -> int | None:
        """Return the number of the shipment that was booked with ``key``, or ``None`` where there is none.

        :raises ConnectionError: no answer.
        """
        if unanswered_calls(order.order_id) == NEVER:
            raise ConnectionError("the carrier does not say whether the shipment is booked")
        with self.shipping.transaction() as db:
            return self._number(db, order) if was_done(db, key) else None

    def cancel(self, order: Order, key: str) -> None:
        """Cancel the shipment that was booked with ``key``, where there is one."""
        with self.shipping.transaction() as db:
            if is_to_undo(db, key):
                db.execute("UPDATE shipments SET state = 'cancelled' WHERE order_id = ?", (order.order_id,))

    def _book_once(self, order: Order, key: str) -> int:
        place = f"{order.address.country}-{order.address.postcode} {order.address.city}"
        with self.shipping.transaction() as db:
            if is_first_call(db, key):
                db.execute(
                    "INSERT INTO shipments (order_id, destination, state) VALUES (?, ?, 'booked')", (order.order_id, place)
                )
            number = self._number(db, order)
        if number is None:
            raise UndeliverableAddress(f"order {order.order_id} was cancelled before it was booked")
        return number

    @staticmethod
    def _number(db: sqlite3.Connection, order: Order) -> int | None:
        row = db.execute("SELECT number FROM shipments WHERE order_id = ?", (order.order_id,)).fetchone()
        return None if row is None else int(row[0])
