"""How orders ended, as the store of the executions tells it.

No task writes there: it is the saga's own record, so it tells the audit what *should* be in the three databases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from carrier import UndeliverableAddress
from orders import Order
from tasks import CardDeclined, OutOfStock

from saga import Effect, Saga
from saga.operations import Operations
from saga.storage import Store

REASONS = {kind.__name__: kind.reason for kind in (OutOfStock, CardDeclined, UndeliverableAddress)}
REASONS["ConnectionError"] = "carrier unavailable"
REASONS["CrashError"] = (
    "shop died, carrier unavailable"  # in the last call that its retry allows, and the carrier does not tell
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended: ``status`` is the saga's, ``reason`` says in the shop's words why it failed.

    ``effects``: what is left of each step, as the saga has it: its effect stands, was undone, never was, or nobody knows.
    """

    order: Order
    status: str
    reason: str | None
    effects: Mapping[str, Effect]


def read_outcomes(saga: Saga, store: Store) -> dict[str, Outcome]:
    """Return the outcome of every order there is, by order id; of one that has not ended the status says so."""
    results = (saga.load(row.saga_id, store=store) for row in Operations(store, "the shop").all())
    return {
        result.saga_id: Outcome(result.context.order, str(result.status), _reason(result.error), result.effects)
        for result in results
    }


def _reason(error: BaseException | None) -> str | None:
    """Say why an order failed. An error of another process is of its own class here too, where that can be."""
    if error is None:
        return None
    name = type(error).__name__
    return REASONS.get(name, f"unexpected {name}: {error}")
