"""The page over a PostgreSQL and a MariaDB server: it shows what it shows over SQLite, and does what it does there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from saga import Context
from saga.storage import SqliteStore, open_store
from saga.web import app
from saga.worker import Worker
from tests.storage.servers import mariadb, postgres
from tests.web.conftest import Shop, open_shop
from tests.web.test_acting import acted, send
from tests.web.test_many import fields_of
from tests.web.test_many import send as send_many
from tests.web.test_pages import Elements

SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {"postgresql": postgres, "mariadb": mariadb}

ADDRESSES = [
    "/",
    "/?status=stuck&status=completed",
    "/?name=place&cause=OSError",
    "/?step=charge",
    "/?tag=order%3DR1",
    "/?q=place",
    "/?q=S1",
    "/?older=90d",
    "/?idle=5h",
    "/?status=lost",
    "/causes",
    "/health",
    "/execution?id=place-1",
    "/execution?id=ship-1",
    "/execution?id=pay-1",
    "/execution?id=approve-1",
    "/execution?id=nobody",
]


@pytest.fixture(scope="module", params=SERVERS)
def there(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop on a server."""
    with SERVERS[request.param]() as url:
        store = open_store(url)
        try:
            yield open_shop(store)
        finally:
            store.close()


def shown(shop: Shop, address: str) -> str:
    """Return what a page says, without what differs from run to run: times, and which store it is."""
    client = TestClient(app(shop.store, sagas=shop.sagas, authorize=lambda *_: "ann"), base_url="http://shop")
    text = Elements(client.get(address).text).text
    text = re.sub(r"<?\d[\d:.,-]* ?(ms|s|min|UTC)?|line \d+|\S+Store\b", "#", text)
    return " ".join(text.split())


def test_it_says_what_it_says_over_sqlite(tmp_path: Path, there: Shop) -> None:
    with SqliteStore(tmp_path / "shop.db") as store:  # of its own: what is older says so
        shop = open_shop(store)
        for address in ADDRESSES:
            assert shown(there, address) == shown(shop, address), address


def test_it_acts_and_what_came_of_it_is_shown(there: Shop) -> None:
    client = TestClient(app(there.store, sagas=there.sagas, authorize=lambda *_: "ann"), base_url="http://shop")
    why = "said on the phone, \u2603 \U0001f4de"
    signal = {"do": "signal:approved", "id": "approve-1", "why": why, "value-approved": '{"by": "\u00fc"}'}
    assert send(client, "/act", **signal).status_code == 303
    assert send(client, "/act", do="skip:charge", id="place-1", why=why).status_code == 303
    assert send(client, "/act", do="retry", id="ship-1", why=why).status_code == 409
    Worker(there.store, there.sagas).run_once()
    assert there.saga("approve").load("approve-1").results["approved"] == {"by": "\u00fc"}
    assert acted(there, "place-1") == [("skip", "charge", "ann", why)]
    assert there.operations.get("place-1").status == "compensated"
    assert why in unescape(client.get("/execution?id=place-1").text)
    assert "it is completed" in client.get("/execution?id=approve-1").text


def test_many_are_acted_on_once_and_not_again_by_the_same_answer(there: Shop) -> None:
    client = TestClient(app(there.store, sagas=there.sagas, authorize=lambda *_: "ann"), base_url="http://shop")
    asked = send_many(client, "/ask", {"do": "retry", "id": ["place-2", "place-3"]}, "/")
    yes = {**fields_of(asked.text), "why": "the bank is open"}
    assert "given to 2." in send_many(client, "/act-on-many", yes, "/").text
    Worker(there.store, there.sagas).run_once()
    assert there.operations.get("place-2").status == "stuck"  # the bank refuses again
    assert "given to 0, refused by 2." in send_many(client, "/act-on-many", yes, "/").text


def test_all_pages_of_the_list_have_everything_once(there: Shop) -> None:
    there.saga("ship").submit_many([Context(order=f"Q{number}", card="1") for number in range(120)])
    client = TestClient(app(there.store), base_url="http://shop")
    address: str | None = "/"
    seen: list[str] = []
    while address is not None:
        page = client.get(address).text
        seen += re.findall(r'href="execution\?id=([^"]+)"', page)
        found = re.search(r'<a href="([^"]+)" rel="next"', page)
        address = None if found is None else urljoin("http://shop/", unescape(found[1]))
    assert len(seen) == len(set(seen)) == 127
