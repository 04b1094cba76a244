"""The saga of an order, as the two releases of this example have it."""

from __future__ import annotations

from datetime import timedelta

from orders.bank import Bank
from orders.post import Post
from orders.settings import BANK, BANK_TIMEOUT, DATABASE, LEASE, MAIL
from orders.tasks import ChargeCard, ConfirmSale, GivePoints, Order, ReserveStock, TellCustomer
from saga import Saga
from saga.logging import SagaLogger


def place_order(version: str) -> Saga[Order]:
    """Return the saga as a version has it.

    The second one has one more step, at the end. So it can finish whatever the first one began, and says so: the first
    one's workers can be stopped as soon as those of the second one run.
    """
    saga = Saga[Order](
        "place-order",
        version=version,
        compatible_with=["1"] if version == "2" else [],
        store=DATABASE,
        lease=LEASE,
        tags=["email"],
        undoable_for=timedelta(days=30),
        logger=SagaLogger(),
    )
    saga.add_task(ReserveStock).add_task(ChargeCard(Bank(BANK, BANK_TIMEOUT))).add_task(ConfirmSale)
    saga.add_task(TellCustomer(Post(MAIL)))
    return saga.add_task(GivePoints) if version == "2" else saga
