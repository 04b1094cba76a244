"""FastAPI: ``uvicorn fastapi_app:app``. The service submits orders, and a worker runs them in the service's own event loop.

So what belongs to that loop, such as an asynchronous client or a pool of connections, serves requests and tasks alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from orders import STORE, Order
from pydantic import BaseModel

from saga import Saga, Task
from saga.errors import SagaIdTakenError, UnknownExecutionError
from saga.worker import Worker


class Bank:
    """Stands for a client of the bank, such as httpx.AsyncClient: it works in the event loop it was made in."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def charge(self, key: str, card: str) -> str:
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("this client belongs to another event loop")
        if card == "declined":
            raise ValueError("the card was declined")
        return f"charged {card} under {key}"


class ChargeCard(Task[str]):
    async def execute(self, context: Order) -> str:
        bank: Bank = app.state.bank
        return await bank.charge(context.step.idempotency_key, context.card)

    async def compensate(self, context: Order) -> None:
        """Give the money back, where there was any."""


orders = Saga("web-order", store=STORE, tags=["order_id"]).add_task(ChargeCard)


class NewOrder(BaseModel):
    order_id: str
    card: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.bank = Bank()
    worker = Worker(STORE, [orders], grace=25.0)
    running = asyncio.create_task(worker.arun())
    yield
    worker.stop()  # what is in hand is finished; the rest is left to others
    await running


app = FastAPI(title="Orders", lifespan=lifespan)


@app.exception_handler(SagaIdTakenError)
async def taken(request: Request, error: SagaIdTakenError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 409)


@app.post("/orders", status_code=202)
async def submit(order: NewOrder) -> dict[str, str]:
    """Store an order. The same one twice is one; another under its id is refused."""
    handle = await orders.asubmit(Order(**order.model_dump()), saga_id=order.order_id)
    return {"id": handle.saga_id}


@app.get("/orders/{order_id}")
async def status(order_id: str) -> dict[str, str | None]:
    try:
        result = await orders.aload(order_id)
    except UnknownExecutionError as error:
        raise HTTPException(404, str(error)) from error
    return {"status": result.status, "error": None if result.error is None else str(result.error)}


@app.get("/health")
async def health() -> str:
    return "ok"
