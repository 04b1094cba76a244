"""Celery: a saga in a task. ``celery -A celery_app worker`` runs it, and ``python celery_app.py`` finishes what one left.

Celery brings a task once more where its process died (``acks_late``). The order's id makes that harmless: the same execution
is gone on with, or its outcome is returned.
"""

from __future__ import annotations

import os

from celery import Celery
from orders import STORE, Order

from saga import Saga, Task
from saga.recovery import Recovery

app = Celery("shop", broker=os.environ.get("CELERY_BROKER", "redis://localhost"))


def book_parcel(key: str, order_id: str) -> str:
    """Stand for the carrier's client: it takes its time."""
    return f"a parcel for {order_id}"


class ShipOrder(Task[str]):
    def execute(self, context: Order) -> str:
        return book_parcel(context.step.idempotency_key, context.order_id)

    def compensate(self, context: Order) -> None:
        print("called back the parcel, if there is one, of", context.order_id)  # where the time limit struck, nobody knows


ship_order = Saga("ship-order", store=STORE, tags=["order_id"]).add_task(ShipOrder)


@app.task(acks_late=True, reject_on_worker_lost=True, soft_time_limit=60, time_limit=90)
def ship(order_id: str, card: str) -> str:
    """Ship an order. At the soft limit, SoftTimeLimitExceeded is raised in the step that runs: it is in doubt, and undone."""
    result = ship_order.try_execute(Order(order_id, card), saga_id=order_id)
    return str(result.status)


if __name__ == "__main__":
    Recovery(STORE, [ship_order]).run()
