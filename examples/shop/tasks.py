"""The tasks of an order, each with its undo, and the saga they make.

A process can die in the middle of any of these calls, and an answer can be lost on its way back. The bank and the carrier can
then be asked what came of the call: that is ``verify``, under ``context.step.idempotency_key``, which is the same for every
attempt of a step, in this process or the next. That they know nothing of it does not mean that it was not made: it may still
be on its way there, from a process that was taken to be dead and was only slow. So ``verify`` never says ``NotDone()`` here.
Where nobody can tell, ``in_doubt = RERUN`` says that the call may be made again, because the services deduplicate by that key:
repeating ``execute`` finds the work already done; ``compensate`` is content to find nothing to undo, and what comes late
does nothing any more.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from carrier import Carrier
from databases import Database, Databases, is_first_call, is_to_undo, was_done
from orders import Order, OrderRejected

from saga import Context, Done, ExponentialBackoff, InDoubt, Retry, Saga, Task
from saga.logging import SagaLogger
from saga.storage import Store


class OutOfStock(OrderRejected):
    """Fewer units are left than the order wants."""

    reason = "out of stock"


class CardDeclined(OrderRejected):
    """The card is unknown, or the charge would exceed its limit."""

    reason = "card limit"


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

    in_doubt = InDoubt.RERUN

    def __init__(self, inventory: Database) -> None:
        self.inventory = inventory

    def execute(self, context: OrderContext) -> Reservation:
        order = context.order
        with self.inventory.transaction() as db:
            if is_first_call(db, context.step.idempotency_key):
                for sku, quantity in order.quantities().items():
                    self._take(db, order.order_id, sku, quantity)
            (total,) = db.execute(
                "SELECT SUM(quantity * price_cents) FROM reservations JOIN stock USING (sku) WHERE order_id = ?",
                (order.order_id,),
            ).fetchone()
        return Reservation(order.order_id, total)

    def compensate(self, context: OrderContext) -> None:
        order_id = context.order.order_id
        with self.inventory.transaction() as db:
            if is_to_undo(db, context.step.idempotency_key):
                db.execute(
                    "UPDATE stock SET on_hand = on_hand + held.quantity"
                    " FROM (SELECT sku, quantity FROM reservations WHERE order_id = ?) AS held WHERE stock.sku = held.sku",
                    (order_id,),
                )
                db.execute("DELETE FROM reservations WHERE order_id = ?", (order_id,))

    @staticmethod
    def _take(db: sqlite3.Connection, order_id: str, sku: str, quantity: int) -> None:
        taken = db.execute(
            "UPDATE stock SET on_hand = on_hand - :quantity WHERE sku = :sku AND on_hand >= :quantity",
            {"quantity": quantity, "sku": sku},
        )
        if taken.rowcount != 1:
            raise OutOfStock(f"fewer than {quantity} of {sku} left")
        db.execute("INSERT INTO reservations VALUES (?, ?, ?)", (order_id, sku, quantity))


class ChargeCard(Task[Receipt]):
    """Charge what the reservation costs; the undo is a refund, so the ledger keeps both."""

    in_doubt = InDoubt.RERUN

    def __init__(self, payments: Database) -> None:
        self.payments = payments

    def execute(self, context: OrderContext) -> Receipt:
        order, amount = context.order, context.result_of(ReserveStock).total_cents
        with self.payments.transaction() as db:
            if is_first_call(db, context.step.idempotency_key):
                paid = db.execute(
                    "UPDATE cards SET balance_cents = balance_cents + :amount"
                    " WHERE card = :card AND balance_cents + :amount <= limit_cents",
                    {"amount": amount, "card": order.card},
                )
                if paid.rowcount != 1:
                    raise CardDeclined(f"{amount} cents are beyond the limit of card {order.card}")
                self._enter(db, order, "charge", amount)
        return Receipt(order.card, amount)

    def verify(self, context: OrderContext) -> Done[Receipt] | None:
        with self.payments.transaction() as db:
            done = was_done(db, context.step.idempotency_key)
        receipt = Receipt(context.order.card, context.result_of(ReserveStock).total_cents)
        return Done(receipt) if done else None

    def compensate(self, context: OrderContext) -> None:
        order, amount = context.order, context.result_of(ReserveStock).total_cents
        with self.payments.transaction() as db:
            if is_to_undo(db, context.step.idempotency_key):
                db.execute("UPDATE cards SET balance_cents = balance_cents - ? WHERE card = ?", (amount, order.card))
                self._enter(db, order, "refund", amount)

    @staticmethod
    def _enter(db: sqlite3.Connection, order: Order, kind: str, amount: int) -> None:
        db.execute(
            "INSERT INTO ledger (order_id, card, kind, amount_cents) VALUES (?, ?, ?, ?)",
            (order.order_id, order.card, kind, amount),
        )


class BookShipment(Task[Shipment]):
    """Have the carrier fetch the parcel.

    A call that raised ``ConnectionError`` may have reached the carrier, its answer lost: the step is in doubt. The carrier is
    asked; where it does not say, the retry asks for the same shipment, not for another one. When it never answers, the booking
    is cancelled with the rest of the order, as nobody knows that there is none.
    """

    retry = Retry(max_attempts=3, backoff=ExponentialBackoff(0.002, cap=0.05, jitter=True), retry_on=(ConnectionError,))
    in_doubt = InDoubt.RERUN

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier

    def execute(self, context: OrderContext) -> Shipment:
        return Shipment(self.carrier.book(context.order, context.step.idempotency_key, context.step.attempt))

    def verify(self, context: OrderContext) -> Done[Shipment] | None:
        number = self.carrier.find(context.order, context.step.idempotency_key)
        return None if number is None else Done(Shipment(number))

    def compensate(self, context: OrderContext) -> None:
        self.carrier.cancel(context.order, context.step.idempotency_key)


def place_order(databases: Databases, store: Store, lease: float = 2.0) -> Saga:
    """Return the saga of an order. It holds nothing of an execution: one serves every order, on many threads.

    :param store: remembers each execution, step by step, for the next process to go on where this one died.
    :param lease: seconds without a sign of life after which a process is taken to have died.
    """
    return (
        Saga("place-order", logger=SagaLogger(), store=store, lease=lease)
        .add_task(ReserveStock(databases.inventory))
        .add_task(ChargeCard(databases.payments))
        .add_task(BookShipment(Carrier(databases.shipping)))
    )
