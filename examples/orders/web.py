"""The web application: ``uvicorn orders.web:app``. It takes orders and tells of them; workers do the rest."""

from __future__ import annotations

from typing import Annotated

import psycopg
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from orders.sagas import place_order
from orders.settings import DATABASE, VERSION
from orders.tasks import Order
from saga import Status
from saga.errors import ActionRefusedError, SagaIdTakenError, StorageError, UnknownExecutionError
from saga.operations import Operations

app = FastAPI(title="Orders")
saga = place_order(VERSION)
operations = Operations(DATABASE, who="the web shop", sagas=[saga])


class NewOrder(BaseModel):
    number: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,40}$")]
    email: str
    product: str
    quantity: Annotated[int, Field(ge=1, le=100)]
    card: str


@app.post("/orders", status_code=202)
def post(order: NewOrder) -> dict[str, str | None]:
    """Store an order and its saga, in one transaction. The same order twice is one."""
    with psycopg.connect(DATABASE) as connection:  # which commits, or rolls back
        known = connection.execute("SELECT 1 FROM stock WHERE product = %s", (order.product,)).fetchone()
        if known is None:
            raise HTTPException(422, f"we have no {order.product}")
        connection.execute(
            "INSERT INTO orders (number, email, product, quantity) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (order.number, order.email, order.product, order.quantity),
        )
        saga.submit(Order(**order.model_dump()), saga_id=order.number, connection=connection)
    return tell(order.number)


@app.get("/orders/{number}")
def tell(number: str) -> dict[str, str | None]:
    """Tell what is true of an order: pending, done, being cancelled, cancelled, undone, or that it needs a person."""
    try:
        execution = operations.get(number)  # first: what it says of the end is in the books already
    except UnknownExecutionError as error:
        raise HTTPException(404, f"there is no order {number}") from error
    with psycopg.connect(DATABASE) as connection:
        row = connection.execute("SELECT state FROM orders WHERE number = %s", (number,)).fetchone()
    states = {
        Status.SUBMITTED: "pending",
        Status.RUNNING: "pending",
        Status.COMPLETED: "done",
        Status.COMPENSATING: "being cancelled",
        Status.COMPENSATED: "undone" if row and row[0] == "returned" else "cancelled",
    }
    return {"number": number, "state": states.get(Status(execution.status), "needs a person"), "why": execution.reason}


@app.post("/orders/{number}/cancel", status_code=202)
def cancel(number: str) -> dict[str, str | None]:
    """Give up an order that is pending; undo one that is done."""
    state = tell(number)["state"]
    if state == "pending":
        operations.cancel(number, "the customer cancelled")
    elif state == "done":
        operations.undo(number, "the customer sent it back")
    return tell(number)


@app.exception_handler(SagaIdTakenError)
def taken(request: Request, error: SagaIdTakenError) -> JSONResponse:
    return JSONResponse({"detail": "this number belongs to another order"}, 409)


@app.exception_handler(ActionRefusedError)
@app.exception_handler(StorageError)
@app.exception_handler(psycopg.OperationalError)
def busy(request: Request, error: Exception) -> JSONResponse:
    """It has just ended, or somebody else acts on it, or the database is away, or the other release knows more."""
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "1"})
