"""The tasks of an order, each with its undo. Three of them work in the shop's own database, two call others.

Those in the database are *transactional*: what they do and that they did it is one commit, so no crash leaves them in doubt.
A call to the bank or the mail server may have been made by a process that died, and its answer may be lost. Either knows a
call by its key, so ``in_doubt = RERUN`` has it made again.
"""

from __future__ import annotations

import smtplib
from dataclasses import dataclass

import httpx

from orders.bank import Bank, BankFault
from orders.post import Post
from saga import LOST_ANSWERS, Ask, ClosedContext, Done, ExponentialBackoff, InDoubt, Retry, Task

BACKOFF = ExponentialBackoff(0.1, cap=10.0, jitter=True)


@dataclass
class Order(ClosedContext):
    """What a customer orders: the saga's input. Whoever sends the same again means the same order."""

    number: str
    email: str
    product: str
    quantity: int
    card: str


class OutOfStock(Exception):
    """There are fewer than the customer wants."""


class ReserveStock(Task[int]):
    """Take it off the shelf, and return what it costs, in cents."""

    transactional = True

    def execute(self, context: Order) -> int:
        taken = context.step.connection.execute(
            "UPDATE stock SET remaining = remaining - %(quantity)s WHERE product = %(product)s AND remaining >= %(quantity)s"
            " RETURNING price_cents * %(quantity)s",
            {"product": context.product, "quantity": context.quantity},
        ).fetchone()
        if taken is None:
            raise OutOfStock(f"there are no {context.quantity} of {context.product} left")
        return int(taken[0])

    def compensate(self, context: Order) -> None:
        context.step.connection.execute(
            "UPDATE stock SET remaining = remaining + %s WHERE product = %s", (context.quantity, context.product)
        )


class ChargeCard(Task[str]):
    """Have the bank charge the card, and return its receipt.

    A 5xx is no answer, as it may come from something in front of the bank.
    """

    in_doubt = InDoubt.RERUN
    unknown_on = (LOST_ANSWERS, BankFault)
    retry = Retry(6, BACKOFF, retry_on=(BankFault, httpx.TransportError))
    compensation_retry = Retry(100, BACKOFF, retry_on=(BankFault, httpx.TransportError))

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def execute(self, context: Order) -> str:
        cents = context.result_of(ReserveStock)
        return self.bank.charge(context.step.idempotency_key, context.number, context.card, cents)

    def verify(self, context: Order) -> Done[str] | None:
        receipt = self.bank.find(context.step.idempotency_key)
        return None if receipt is None else Done(receipt)  # not NotDone(): it may still be on its way there

    def compensate(self, context: Order) -> None:
        self.bank.take_back(context.step.idempotency_key, context.step.compensation_key)


class ConfirmSale(Task[None]):
    """Write it into the shop's books: from here on the warehouse packs it."""

    transactional = True

    def execute(self, context: Order) -> None:
        context.step.connection.execute(
            "UPDATE orders SET state = 'sold', cents = %s WHERE number = %s",
            (context.result_of(ReserveStock), context.number),
        )

    def compensate(self, context: Order) -> None:
        context.step.connection.execute("UPDATE orders SET state = 'returned' WHERE number = %s", (context.number,))


class TellCustomer(Task[None]):
    """Send a mail, and where the order is taken back, another one. Nothing is undone because no mail can be sent."""

    in_doubt = InDoubt.RERUN
    retry = compensation_retry = Retry(100, BACKOFF, retry_on=(smtplib.SMTPException, OSError))
    on_error = Ask

    def __init__(self, post: Post) -> None:
        self.post = post

    def execute(self, context: Order) -> None:
        self.post.send(context.step.idempotency_key, context.email, f"Order {context.number} is confirmed")

    def compensate(self, context: Order) -> None:
        self.post.send(context.step.compensation_key, context.email, f"Order {context.number} is cancelled")


class GivePoints(Task[None]):
    """A point for each euro: new in version 2."""

    transactional = True

    def execute(self, context: Order) -> None:
        points = context.result_of(ReserveStock) // 100
        context.step.connection.execute("INSERT INTO points VALUES (%s, %s)", (context.number, points))

    def compensate(self, context: Order) -> None:
        context.step.connection.execute("DELETE FROM points WHERE number = %s", (context.number,))
