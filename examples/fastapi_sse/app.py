"""A web service that places orders and streams what happens, from the journal, as server-sent events.

``uvicorn --factory app:create_app`` in this folder starts it; the page at ``/`` tries it.

The journal is the stream: an event's id is its number in the journal. So a client that lost its connection asks for what
comes after the last id it has seen, as browsers do by themselves, and gets just that: from this process, from one that was
started after this one died, or from another that shares the store.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from orders import Ledger, Order, place_order
from pydantic import BaseModel, Field

from saga import Status, StepRecord
from saga.errors import SagaExecutionException, SagaIdTakenError, StorageError, UnknownExecutionError
from saga.operations import JournalLine, Operations
from saga.recovery import Recovery
from saga.storage.opened import store_of

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
    saga = place_order(Ledger(data / "ledger.db"), data / "sagas.db", lease, float(os.environ.get("SHOP_SECONDS", "0.5")))
    store = store_of(data / "sagas.db")
    operations = Operations(store, "the web service")
    workers = ThreadPoolExecutor(32, thread_name_prefix="order")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        recovery = threading.Thread(target=Recovery(store, [saga]).run, args=(stop,), kwargs={"interval": 0.5})
        recovery.start()
        yield
        stop.set()
        await run_in_threadpool(recovery.join)
        await run_in_threadpool(workers.shutdown)

    app = FastAPI(title="Orders", lifespan=lifespan)

    @app.post("/orders", status_code=202)
    def start(order: NewOrder) -> JSONResponse:
        """Start an order, in the background. Starting one twice starts it once; another one cannot have its id."""
        wanted = Order(**order.model_dump())
        try:
            known = saga.load(order.order_id).context
        except UnknownExecutionError:
            try:
                # The order is stored when this returns; its steps run as the records are asked for: by a worker, who
                # does not care whether any client listens.
                records = saga.stream(wanted, saga_id=order.order_id)
            except SagaIdTakenError as error:  # by another that came in the same moment
                raise HTTPException(409, str(error)) from error
            workers.submit(run, records)
        else:
            if known != wanted:
                raise HTTPException(409, f"there is another order with the id {order.order_id!r}")
        return JSONResponse({"events": f"/orders/{order.order_id}/events"}, 202)

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


def run(records: Iterator[StepRecord]) -> None:
    """Execute an order to its end."""
    # That it failed is in the journal, where everybody reads it; and what cannot be stored, a recovery finishes.
    with suppress(SagaExecutionException, StorageError):
        for _ in records:
            pass


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
