"""The saga of a shop, which all of these applications show."""

from __future__ import annotations

import os
from typing import Any

from saga import Context, Saga, step

STORE = os.environ.get("SAGA_STORE", "orders.db")


def reserve(context: Context) -> str:
    return f"stock of {context.order}"


def release(context: Context) -> None:
    print("released the stock of", context.order)  # by the order: where an answer was lost, there is no result


def charge(context: Context) -> str:
    return f"receipt of {context.order}"


def refund(context: Context) -> None:
    print("refunded the charge for", context.order, "where there was any")


place_order: Saga[Any] = Saga("place-order", store=STORE, tags=["order"])
place_order.add_task(step(reserve, release, name="reserve"))
place_order.add_task(step(charge, refund, name="charge"))
