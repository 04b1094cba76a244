"""Flask: ``flask --app flask_app run``. The service submits orders; ``python worker.py``, beside it, runs them."""

from __future__ import annotations

from typing import Any

from flask import Flask, request
from orders import Order, place_order

from saga.errors import SagaIdTakenError, UnknownExecutionError

app = Flask(__name__)


@app.post("/orders")
def submit() -> tuple[dict[str, Any], int]:
    """Store an order. The same one twice is one; another under its id is refused."""
    order = Order(**request.get_json())
    handle = place_order.submit(order, saga_id=order.order_id)
    return {"id": handle.saga_id}, 202


@app.get("/orders/<order_id>")
def status(order_id: str) -> dict[str, Any]:
    result = place_order.load(order_id)
    return {"status": result.status, "error": None if result.error is None else str(result.error)}


@app.errorhandler(SagaIdTakenError)
def taken(error: SagaIdTakenError) -> tuple[dict[str, Any], int]:
    return {"detail": str(error)}, 409


@app.errorhandler(UnknownExecutionError)
def unknown(error: UnknownExecutionError) -> tuple[dict[str, Any], int]:
    return {"detail": str(error)}, 404
