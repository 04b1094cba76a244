"""The saga that every recipe runs, and the store that they share: ``SAGA_STORE`` in the environment, a path or a URL."""

from __future__ import annotations

import os
from dataclasses import dataclass

from saga import Context, InDoubt, Saga, Task

STORE = os.environ.get("SAGA_STORE", "orders.db")


@dataclass
class Order(Context):
    order_id: str
    card: str


class ReserveStock(Task[str]):
    in_doubt = InDoubt.RERUN  # the shelf knows the key: reserving twice under it reserves once

    def execute(self, context: Order) -> str:
        return f"a mug for {context.order_id}"

    def compensate(self, context: Order) -> None:
        """Put it back on the shelf."""


class ChargeCard(Task[str]):
    def execute(self, context: Order) -> str:
        if context.card == "declined":
            raise ValueError("the card was declined")
        return f"charged {context.card}"

    def compensate(self, context: Order) -> None:
        """Give the money back, where there was any."""


place_order = Saga("place-order", store=STORE, tags=["order_id"])
place_order.add_task(ReserveStock).add_task(ChargeCard)
