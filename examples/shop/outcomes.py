"""How orders ended, as the store of the executions tells it.

No task writes there: it is the saga's own record, so it tells the audit what *should* be in the three databases.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from carrier import UndeliverableAddress
from orders import Order
from tasks import CardDeclined, OutOfStock

from saga.codec import Codec
from saga.operations import ExecutionView, Operations

REASONS = {kind.__name__: kind.reason for kind in (OutOfStock, CardDeclined, UndeliverableAddress)}
REASONS["ConnectionError"] = "carrier unavailable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended: ``status`` is the saga's, ``reason`` says in the shop's words why it failed."""

    order: Order
    status: str
    reason: str | None = None


def read_outcomes(executions: Operations, codec: Codec) -> dict[str, Outcome]:
    """Return the outcome of every order there is, by order id; of one that has not ended the status says so."""
    return {row.saga_id: _outcome(executions.show(row.saga_id), codec) for row in executions.all()}


def _outcome(view: ExecutionView, codec: Codec) -> Outcome:
    started = view.journal[0]
    order = codec.decode(json.dumps(started.details["changes"]["order"]))
    errors = [line.details["error"] for line in view.journal if line.kind == "SagaCompensating"]
    return Outcome(order, view.execution.status, _reason(errors[0]["type"], errors[0]["text"]) if errors else None)


def _reason(kind: str, text: str) -> str:
    name = kind.rpartition(":")[2]
    return REASONS.get(name, f"unexpected {name}: {text}")
