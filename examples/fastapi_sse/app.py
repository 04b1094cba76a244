"""A web service that places orders and streams what happens, from the journal, as server-sent events.

``uvicorn --factory app:create_app`` in this folder starts it; the page at ``/`` tries it. An order is submitted, and a worker
runs it: the one beside this service, or that of another which shares the store.

The journal is the stream: an event's id is its number in the journal. So a client that lost its connection asks for what
comes after the last id it has seen, as browsers do by themselves, and gets just that: from this process, from one that was
started after this one died, or from another that shares the store.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.responses import FileResponse, StreamingResponse
from orders import Ledger, Order, place_order
from pydantic import BaseModel, Field

from saga import Status
from saga.errors import SagaIdTakenError, StorageError, UnknownExecutionError
from saga.operations import JournalLine, Operations
from saga.storage import open_store
from saga.worker import Worker

LOOK_EVERY = 0.1  # seconds between looks into the journal
KEEP_ALIVE = 15.0  # seconds of silence after which proxies might cut a stream


class NewOrder(BaseModel):
    order_id: Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
    sku: str
    card: str


def create_app() -> FastAPI:
    """Return the service. From the environment: ``SHOP_DATA``, ``SHOP_LEASE`` and ``SHOP_SECONDS`` (of each call)."""
    data = Path(os.environ.get("SHOP_DATA", "shop-data"))
    data.mkdir(parents=True, exist_ok=True)
    lease = float(os.environ.get("SHOP_LEASE", "5"))
    store = open_store(data / "sagas.db")
    saga = place_order(Ledger(data / "ledger.db"), store, lease, float(os.environ.get("SHOP_SECONDS", "0.5")))
    operations = Operations(store, "the web service")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = Worker(store, [saga], workers=32)
        running = asyncio.create_task(worker.arun(interval=0.5))
        yield
        worker.stop()  # what is in hand is finished; what was not begun is left to others
        await running

    app = FastAPI(title="Orders", lifespan=lifespan)

    @app.post("/orders", status_code=202)
    async def submit(order: NewOrder) -> dict[str, str]:
        """Submit an order. The same one twice is one; another under its id is refused."""
        try:
            await saga.asubmit(Order(**order.model_dump()), saga_id=order.order_id)
        except SagaIdTakenError as error:
            raise HTTPException(409, str(error)) from error
        return {"status": f"/orders/{order.order_id}", "events": f"/orders/{order.order_id}/events"}

    @app.get("/orders/{order_id}")
    async def status(order_id: str) -> dict[str, str | None]:
        try:
            result = await saga.aload(order_id)
        except UnknownExecutionError as error:
            raise HTTPException(404, str(error)) from error
        return {"status": result.status, "error": None if result.error is None else str(result.error)}

    @app.get("/orders/{order_id}/events")
    async def events(order_id: str, last_event_id: Annotated[int, Header(ge=0)] = 0) -> Response:
        """Stream an order's journal after ``Last-Event-ID``: first what is there, then what comes."""
        try:
            view = await operations.ashow(order_id)
        except StorageError as error:
            raise HTTPException(404, str(error)) from error
        if Status(view.execution.status).terminal and last_event_id >= len(view.journal):
            return Response(status_code=204)  # which tells a browser not to connect again
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(follow(operations, order_id, last_event_id), 200, headers, "text/event-stream")

    @app.get("/diagram.svg")
    def diagram() -> Response:
        return Response(saga.diagram().svg(), media_type="image/svg+xml")

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(Path(__file__).with_name("page.html"))

    return app


async def follow(operations: Operations, order_id: str, seen: int) -> AsyncIterator[str]:
    """Yield the journal's lines after the one numbered ``seen``, until the order has ended."""
    quiet = 0.0
    while True:
        view = await operations.ashow(order_id)  # the status first: where that is the end, all lines follow
        for line in view.journal[seen:]:
            yield message(line)
            seen, quiet = line.seq, 0.0
        if Status(view.execution.status).terminal:
            return
        await asyncio.sleep(LOOK_EVERY)
        quiet += LOOK_EVERY
        if quiet >= KEEP_ALIVE:
            yield ": still there\n\n"
            quiet = 0.0


def message(line: JournalLine) -> str:
    """Return a line as a server-sent event. Results, context and tracebacks are in ``details`` too: not for clients."""
    told = {"step": line.step, "at": line.at}
    if "error" in line.details:
        told["error"] = line.details["error"]["text"]
    return f"id: {line.seq}\nevent: {line.kind}\ndata: {json.dumps(told)}\n\n"
