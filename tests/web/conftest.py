"""A shop whose executions stand in every way, the page over it, a server for it, and a browser."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from saga import Context, InDoubt, Saga, parallel, receive, step
from saga.logging import SagaLogger
from saga.operations import Operations
from saga.storage import SqliteStore, Store
from saga.web import app
from tests.kit.waiting import until

CHROMIUM = "/usr/bin/chromium"
TOKEN = "a token of the tests"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7777 * 7777 }}",
    "javascript:alert(1)",
    "../../etc/passwd",
    "a&b=c#d?e%2F/f",
    "'; DROP TABLE saga; --",
    "שלום",
    "--yes",
    "x" * 200,
]


@dataclass
class Shop:
    """
    :ivar sagas: all its definitions.
    :ivar refuses: whether its bank refuses refunds, as it does at first.
    """

    store: Store
    sagas: list[Saga[Any]]
    refuses: bool = True

    def saga(self, name: str) -> Saga[Any]:
        return next(saga for saga in self.sagas if saga.name == name)

    @property
    def operations(self) -> Operations:
        return Operations(self.store, "the test", sagas=self.sagas)


def shop_in(store: Store) -> Shop:
    """Return a shop, with nothing executed."""
    shop = Shop(store, [])

    def done() -> dict[str, str]:
        return {"receipt": "R-7", "card": "4242"}

    def invoice(context: Context) -> dict[str, str]:
        # The journals of all shops have what happened in the same order, that of their executions' threads is none.
        journal = partial(store.journal, context.step.saga_id)
        until(lambda: ("StepSucceeded", "label") in [(entry.kind, entry.step) for entry in journal()])
        return done()

    def refund() -> None:
        if shop.refuses:
            raise OSError("the bank is closed <b>today</b>")

    def pack() -> None:
        raise ValueError("no parcel is big enough")

    def answer() -> None:
        raise ConnectionError("no answer")

    def order(name: str, last: Callable[[], object], refund: Callable[[], None], **options: Any) -> Saga[Any]:
        made: Saga[Any] = Saga(name, store=store, tags=lambda context: {"order": context.order}, **options)
        made.add_task(step(done, lambda: None, name="reserve"))
        made.add_task(parallel(step(done, name="label"), step(invoice, name="invoice")))
        return made.add_task(step(done, refund, name="charge")).add_task(step(last, name="pack"))

    shop.sagas = [
        order("place", pack, refund),
        order("ship", done, refund, logger=SagaLogger("shop", show=["card"], mask=["card"])),
        order("return", pack, lambda: None),
        Saga("pay", store=store).add_task(step(answer, name="transfer", in_doubt=InDoubt.ASK)),
        Saga("approve", store=store).add_task(receive("approved")).add_task(step(done, name="buy")),
    ]
    return shop


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a shop with executions of every status that they come to by themselves."""
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    with SqliteStore(path) as store:
        open_shop(store)
    return path


def open_shop(store: Store) -> Shop:
    """Return a shop with executions of every status that they come to by themselves."""
    made = shop_in(store)
    made.saga("ship").execute(Context(order="S1", card="4242"), saga_id="ship-1")
    for number in (1, 2, 3):
        made.saga("place").try_execute(Context(order=f"P{number}"), saga_id=f"place-{number}")
    made.saga("return").try_execute(Context(order="R1"), saga_id="return-1")
    made.saga("pay").try_execute(saga_id="pay-1")
    made.saga("approve").submit(saga_id="approve-1")
    return made


@pytest.fixture
def shop(executed: Path, tmp_path: Path) -> Iterator[Shop]:
    """The shop, in a file of its own."""
    with SqliteStore(shutil.copy(executed, tmp_path)) as store:
        yield shop_in(store)


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    """A visitor who may only look."""
    with TestClient(app(shop.store, sagas=shop.sagas), base_url="http://shop") as made:
        yield made


def csrf_in(page: str) -> str:
    """Return what a form on a page has against other sites."""
    return page.partition('name="csrf" value="')[2].partition('"')[0]


@contextmanager
def served(application: Any) -> Iterator[str]:
    """Serve an application on a port of this machine, and give its address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    config = uvicorn.Config(application, log_level="critical", timeout_graceful_shutdown=0, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)
        listening.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's browser. As long as it lives, an event loop is the running one of this thread."""
    if not os.path.exists(CHROMIUM):
        if os.environ.get("CI"):
            pytest.fail("there is no chromium here, and CI is set")
        pytest.skip("there is no chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        yield browser
        with suppress(Exception):
            browser.close()
