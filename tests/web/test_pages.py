"""What each page shows to whoever looks, whatever is stored and asked for."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from saga import Context, Saga, step
from saga.errors import SagaDefinitionError, StorageError
from saga.storage import MemoryStore, SqliteStore, Store
from saga.storage.records import Cause, Entry, Lease, NewExecution
from saga.testing import Certificates
from saga.web import app
from saga.worker import Worker
from tests.kit import until
from tests.web.conftest import HOSTILE, Shop

PAGES = ["/", "/causes", "/health", "/execution?id=place-1"]


class Elements(HTMLParser):
    """What a page is made of: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, key: str) -> list[str]:
        return [attributes[key] for name, attributes in self.found if name == tag and key in attributes]


@pytest.mark.parametrize(
    ("address", "code", "says"),
    [
        ("/", 200, ["place-1", "compensation failed: charge", "order=P1", "submitted 1", "stuck 4", "completed 1"]),
        ("/?status=stuck", 200, ["place-3", "pay-1"]),
        ("/?name=ship", 200, ["ship-1"]),
        ("/?step=charge&cause=OSError", 200, ["place-1"]),
        ("/?tag=order%3DR1", 200, ["return-1"]),
        ("/?older=90d", 200, ["Nothing is found"]),
        ("/?q=place-2", 200, ["place-2"]),
        ("/?q=order%3DS1", 200, ["ship-1"]),
        ("/?idle=soon", 400, ["'soon' is no length of time; write one such as 90s, 5m, 2h, 3d or 1w."]),
        ("/?status=lost", 400, ["a status is one of"]),
        ("/?tag=order", 400, ["write key=value"]),
        ("/?after=nowhere", 400, ["cursor"]),
        ("/causes", 200, ["3 place at charge after OSError", "1 pay at transfer after ConnectionError"]),
        ("/causes", 200, ["calls the compensation of 'charge' again"]),
        ("/execution?id=place-1", 200, ["undo failed", "may still stand", "OSError: the bank is closed <b>today</b>"]),
        ("/execution?id=place-1", 200, ["saga skip place-1 --step charge --why ...", "no parcel is big enough"]),
        ("/execution?id=approve-1", 200, ["submitted", "no worker", "not reached"]),
        ("/execution?id=nobody", 404, ["there is no execution 'nobody'"]),
        ("/execution", 400, ["saga_id is ''"]),
        (
            "/health",
            200,
            ["No worker lives", "place", "Waiting to begin1", "SqliteStore", f"Tablesversion {SqliteStore.schema_version}"],
        ),
        ("/metrics", 200, ['saga_store_executions{saga="place",status="stuck"} 3.0', "saga_store_up 1.0"]),
        ("/enter", 404, ["Nobody signs in here."]),
        ("/elsewhere", 404, ["Not Found"]),
    ],
)
def test_a_page_says(client: TestClient, address: str, code: int, says: list[str]) -> None:
    answer = client.get(address)
    shown = " ".join(Elements(answer.text).text.split())
    assert answer.status_code == code, shown
    for text in says:
        assert text in shown


@pytest.mark.parametrize(
    ("address", "without"),
    [
        ("/?status=stuck", ["ship-1", "return-1", "approve-1"]),
        ("/?name=ship", ["place-1"]),
        ("/?tag=order%3DR1", ["ship-1"]),
        ("/?q=place-2", ["place-1"]),
        ("/?cause=OSError", ["pay-1", "ship-1"]),
    ],
)
def test_a_filter_leaves_out_the_others(client: TestClient, address: str, without: list[str]) -> None:
    page = client.get(address).text
    for text in without:
        assert f">{text}<" not in page


@pytest.mark.parametrize("address", [*PAGES, "/execution?id=nobody", "/static/page.css", "/?idle=x"])
def test_every_answer_lets_a_browser_run_nothing_of_others(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.headers["content-security-policy"].split("; ")[0] == "default-src 'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    elements = Elements(answer.text) if "html" in answer.headers["content-type"] else Elements("")
    for tag, attributes in elements.found:
        assert tag not in ("style", "iframe", "object", "base")
        assert not [key for key in attributes if key == "style" or key.startswith("on")]
        if tag == "script":
            assert attributes["src"].startswith("static/page.js")
    assert "".join(elements.all("a", "href")).find("http") == -1


@pytest.mark.parametrize("address", PAGES)
def test_every_address_on_a_page_leads_somewhere_under_any_prefix(client: TestClient, address: str) -> None:
    elements = Elements(client.get(address).text)
    addresses = {*elements.all("a", "href"), *elements.all("link", "href"), *elements.all("script", "src")}
    addresses |= {*elements.all("div", "data-live")}
    assert len(addresses) > 5
    for one in addresses - {"#main"}:
        assert urljoin("http://there/any/prefix/", one).startswith("http://there/any/prefix/")
        assert client.get(urljoin("http://shop/", one)).status_code == 200, one


def test_pages_of_the_list_have_everything_once_newest_first(client: TestClient, shop: Shop) -> None:
    shop.saga("ship").submit_many([Context(order=f"Q{number}", card="1") for number in range(120)])
    seen: list[str] = []
    address: str | None = "/?status=submitted"
    while address is not None:
        page = client.get(address).text
        seen += re.findall(r'href="execution\?id=([^"]+)"', page)
        found = re.search(r'<a href="([^"]+)" rel="next"', page)
        address = None if found is None else urljoin("http://shop/", unescape(found[1]))
    assert len(seen) == len(set(seen)) == 121
    assert seen[-1] == "approve-1"


def live_of(client: TestClient, address: str) -> tuple[str, str]:
    """Return what a page stands for when it is shown, and what it is replaced by as soon as its script runs."""
    page = client.get(address).text
    (shown,) = (attributes for _, attributes in Elements(page).found if attributes.get("id") == "live")
    return shown["data-tag"], client.get(urljoin("http://shop/", shown["data-live"])).headers["etag"].strip('"')


@pytest.mark.parametrize("address", [*PAGES, "/?status=stuck", "/?q=place", "/execution?id=place-1&before=7&errors=2"])
def test_what_is_live_is_the_page_that_is_looked_at(
    client: TestClient, shop: Shop, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saga.web.execution._ENTRIES", 3)
    monkeypatch.setattr("saga.web.execution._ERRORS", 1)
    shown, live = live_of(client, address)
    assert shown == live


def test_an_older_page_of_the_list_stays_when_its_script_runs(client: TestClient, shop: Shop) -> None:
    shop.saga("ship").submit_many([Context(order=f"Q{number}", card="1") for number in range(60)])
    following = re.search(r'<a href="([^"]+)" rel="next"', client.get("/").text)
    assert following is not None
    shown, live = live_of(client, urljoin("http://shop/", unescape(following[1])))
    assert shown == live


def test_a_heartbeat_is_nothing_that_happened(client: TestClient, shop: Shop) -> None:
    (row,) = shop.store.claim("somebody", 60.0, saga_id="approve-1")
    addresses = ("/?live=1", "/execution?id=approve-1&live=1")
    before = [client.get(address).text for address in addresses]
    shop.store.renew("somebody", [Lease(row.saga_id, "somebody", row.epoch)], 60.0)
    renewed = shop.store.get("approve-1")
    assert renewed is not None
    assert renewed.updated > row.updated
    assert [client.get(address).text for address in addresses] == before


def test_what_waits_on_purpose_is_nothing_to_worry_about(client: TestClient, shop: Shop, monkeypatch: Any) -> None:
    """Of what goes on, and with which nothing happens, it is told why; what waits for a time or a signal is left out."""
    approve = shop.saga("approve")
    later = shop.store.now() + 10_000
    approve.submit(saga_id="later", at=later)
    for saga_id in ("asked", "held", "dead", "slow"):
        approve.submit(saga_id=saga_id)
    Worker(shop.store, [approve]).run_once()
    assert shop.store.claim("somebody", 1e6, saga_id="held")
    assert shop.store.claim("somebody", 0.0, saga_id="dead")
    shop.saga("ship").submit(Context(order="S9", card="1"), saga_id="due")
    monkeypatch.setattr("saga.web.views._IDLE", -1.0)
    page = client.get("/health").text
    idle = Elements(page.partition('id="h-idle"')[2]).text
    assert "due" in idle
    assert "no worker that lives has version 1 of saga ship" in idle
    assert "dead" in idle
    assert not [saga_id for saga_id in ("later", "asked", "held") if saga_id in idle]


@pytest.mark.parametrize(
    ("asked", "counted"),
    [
        ("", True),
        ("status=stuck", True),
        ("name=place", True),
        ("tag=order%3DP1", False),
        ("step=charge", False),
        ("older=1d", False),
    ],
)
def test_what_is_counted_is_what_is_filtered(client: TestClient, asked: str, counted: bool) -> None:
    chips = client.get(f"/?{asked}").text.partition('class="chips"')[2].partition("</ul>")[0]
    assert ("<b>" in chips) is counted


@pytest.mark.parametrize(("saga_id", "can"), [("place-1", True), ("ship-1", True), ("return-1", False)])
def test_a_box_of_what_can_be_done_is_there_where_something_can(client: TestClient, saga_id: str, can: bool) -> None:
    page = client.get(f"/execution?id={saga_id}").text
    assert ('class="offers"' in page) is can
    assert ("Nothing can be done with it" in page) is not can
    assert "What does not fit, and why" in page


def test_times_say_their_zone_and_tags_keep_their_order(client: TestClient, shop: Shop) -> None:
    page = client.get("/execution?id=place-1").text
    assert re.search(r"<time datetime=\"[^\"]+\">[\d-]+ [\d:]+ UTC</time>", page)
    for order, saga_id in ((["b", "a", "C"], "one"), (["C", "a", "b"], "two")):
        shop.saga("approve").submit(saga_id=saga_id, tags=dict.fromkeys(order, "1"))
        row = client.get(f"/?q={saga_id}").text.partition("<tbody")[2]
        assert re.findall(r"<bdi>(\w)=1</bdi>", row) == ["C", "a", "b"]


def test_what_is_said_of_a_cause_is_of_one_that_is_stuck_for_it(
    client: TestClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.store, "causes", lambda name: [Cause("place", None, None, "given up", 1, 1.0, "place-1")])
    page = Elements(client.get("/causes").text).text
    assert "given up" in page
    assert "calls the compensation" not in page


def test_files_are_kept_by_browsers_and_pages_are_not(client: TestClient) -> None:
    kept = {address: client.get(address).headers["cache-control"] for address in ("/", "/static/page.js", "/static/no.js")}
    assert kept == {"/": "no-store", "/static/page.js": "max-age=3600", "/static/no.js": "no-store"}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_users_write_is_shown_and_does_nothing(tmp_path: object, text: str) -> None:
    def fail() -> None:
        raise ValueError(text)

    def refuse() -> None:
        raise type(text[:50], (Exception,), {})(text)

    with SqliteStore(f"{tmp_path}/hostile.db") as store:
        saga = Saga(text, store=store, version=text, tags=lambda context: {"tag": text})
        saga.add_task(step(lambda: text, refuse, name=text)).add_task(step(fail, name="fail"))
        saga.try_execute(Context(note=text), saga_id=text)
        client = TestClient(app(store, sagas=[saga], authorize=lambda request, action: text), base_url="http://shop")
        for address in ("/", "/causes", "/health", "/execution", "/?q=", "/?name=", "/?step=", "/?tag=", "/?cause="):
            path, _, key = address.partition("?")
            value = f"tag={text}" if key == "tag=" else text
            asked = {key[:-1]: value} if key else {"id": text} if path == "/execution" else {}
            answer = client.get(path, params=asked)
            elements = Elements(answer.text)
            assert answer.status_code in (200, 400), address
            assert text in elements.text or "placeholder" in answer.text
            assert [source.partition("?")[0] for source in elements.all("script", "src")] == ["static/page.js"]
            assert not [one for one in elements.found if one[0] == "script" and "src" not in one[1]]
            assert {*elements.all("img", "src")} == {"static/icon.svg"}
            assert not [key for _, attributes in elements.found for key in attributes if key.startswith("on")]
            assert str(7777 * 7777) not in elements.text or "{{" not in text
        row = Elements(client.get("/").text)
        (link,) = [href for href in row.all("a", "href") if href.startswith("execution?")]
        assert client.get(urljoin("http://shop/", link)).status_code == 200


def test_lines_cannot_be_forged_and_text_cannot_be_reordered(tmp_path: object) -> None:
    def fail() -> None:
        raise ValueError("one\n99 forged\x1b[31m\u202eevil")

    with SqliteStore(f"{tmp_path}/forged.db") as store:
        saga = Saga("for\u202eged", store=store, tags=lambda context: {"tag": "t\u202eag"})
        saga.add_task(step(fail, name="fa\u202eil")).try_execute(saga_id="F\u202e1")
        client = TestClient(app(store))
        pages = [client.get(address, params={"id": "F\u202e1"}).text for address in ("/", "/execution", "/health", "/causes")]
    assert not [page for page in pages if "\u202e" in page or "\x1b" in page]
    assert "F\\u202e1" in pages[0]
    assert "one\\n99 forged\\x1b[31m\\u202eevil" in pages[1]


@pytest.mark.parametrize("known", [True, False])
def test_values_are_shown_of_known_sagas_alone_and_never_what_is_masked(shop: Shop, known: bool) -> None:
    page = TestClient(app(shop.store, sagas=shop.sagas if known else [])).get("/execution?id=ship-1").text
    assert "4242" not in page
    assert ("R-7" in page) is known
    assert ("S1" in page) is True  # a tag says it
    assert ("Results are hidden" in page) is not known


def test_a_known_saga_is_drawn_with_what_happened(shop: Shop) -> None:
    drawn = TestClient(app(shop.store, sagas=shop.sagas)).get("/execution?id=place-1").text
    assert 'data-step="charge" data-status="compensation_failed"' in drawn
    assert "<style" not in drawn
    unknown = TestClient(app(shop.store)).get("/execution?id=place-1").text
    assert 'class="saga-diagram"' not in unknown
    assert "no definition that it fits is known here" in unknown
    assert 'class="timeline"' in unknown


def test_a_drawing_says_which_tasks_are_certified(shop: Shop) -> None:
    drawn = TestClient(app(shop.store, sagas=shop.sagas, certificates=Certificates())).get("/execution?id=place-1").text
    assert "✗ not certified" in drawn.partition('data-step="charge"')[2].partition("</g></g>")[0]


@pytest.mark.parametrize("address", ["/", "/causes", "/health", "/execution?id=x", "/?live=1"])
def test_a_store_that_cannot_be_asked_is_told(address: str) -> None:
    def gone(self: object, *given: object, **named: object) -> None:
        raise StorageError("the database does not answer")

    asked = {name: gone for name, method in vars(Store).items() if callable(method) and not name.startswith("_")}
    answer = TestClient(app(type("Gone", (MemoryStore,), asked)())).get(address)
    assert answer.status_code == 503
    assert "the database does not answer" in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("address", PAGES)
def test_looking_is_by_get_alone(client: TestClient, method: str, address: str) -> None:
    assert client.request(method, address).status_code == 405


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"token": "short"}, "no str of at least 16"),
        ({"token": 7}, "no str of at least 16"),
        ({"authorize": "ann"}, "authorize is 'ann'"),
        ({"token": "x" * 20, "authorize": lambda request, action: None}, "give the one"),
        ({"private": True}, "nobody could look"),
        ({"sagas": "place"}, "give several"),
    ],
)
def test_what_is_wrong_is_refused_when_the_page_is_made(given: dict[str, object], says: str) -> None:
    with pytest.raises(SagaDefinitionError, match=says):
        app(MemoryStore(), **given)  # type: ignore[arg-type]


def test_what_a_dead_process_left_is_told_in_the_list(client: TestClient, shop: Shop) -> None:
    for saga_id, lease in (("left", 0.001), ("held", 60.0)):
        new = NewExecution(saga_id, "place", "1", "f", "d", "running")
        shop.store.create(new, [Entry(1, "SagaStarted", None, "{}", 1.0)], "a worker", lease)
    until(lambda: (row := shop.store.get("left")) is not None and row.lease_until < shop.store.now())
    assert "its process is gone" in client.get("/?q=left").text
    assert "gone" not in client.get("/?q=held").text
