"""The saga of an order. Its tasks use Django's models as any code does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from saga import Context, InDoubt, Saga, Task
from saga.storage import open_store
from shop.models import Order


class Connections:
    """Django closes connections that have become old or unusable around each request; here it is around each call."""

    def __call__(self, event: object, info: object) -> None:
        """Nothing is to be done between calls."""

    @contextmanager
    def around(self, *call: Any) -> Iterator[None]:
        close_old_connections()
        try:
            yield
        finally:
            close_old_connections()


class ShipOrder(Task[None]):
    in_doubt = InDoubt.RERUN

    def execute(self, context: Context) -> None:
        if context.item == "piano":
            raise LookupError("the pianos are sold out")
        Order.objects.filter(number=context.number).update(state="shipped")

    def compensate(self, context: Context) -> None:
        # What was never shipped is not called back, as a process may have died before it came to that.
        Order.objects.filter(number=context.number, state="shipped").update(state="called back")


# Opened here, and not by the first view: in its transaction, an SQLite file would be locked.
STORE = open_store(settings.SAGA_STORE)

place_order = Saga("place-order", store=STORE, tags=["number"], observers=[Connections()])
place_order.add_task(ShipOrder)
