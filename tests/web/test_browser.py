"""The page in Debian's Chromium: what a person sees, by mouse, by keyboard, on a phone, in the dark, behind a bad proxy."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from saga import Saga, step
from saga.storage import SqliteStore
from saga.web import app
from saga.web.live import Live
from saga.worker import Worker
from tests.kit.relays import Relay
from tests.web.conftest import HOSTILE, TOKEN, Shop, served

PAGES = [
    "",
    "?status=stuck",
    "causes",
    "health",
    "execution?id=place-1",
    "execution?id=approve-1",
    "execution?id=ship-1",
    "execution?id=nobody",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are looked for often, on a machine that has much else to do, too."""
    monkeypatch.setattr("saga.web.page.Live", partial(Live, 0.05, 0.5))
    monkeypatch.setattr("saga.web.live.SHARE", 1)


@contextmanager
def looking(chromium: Any, **options: Any) -> Iterator[Any]:
    """A tab. What its console says, and errors of the script, fail the test."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    wrong: list[str] = []
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if "Failed to load resource" not in said.text else None)
    tab.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    try:
        yield tab
        assert wrong == []
    finally:
        context.close()


@pytest.fixture
def home(shop: Shop) -> Iterator[str]:
    """The page, where whoever knows the token can act, at a prefix."""
    page = app(shop.store, sagas=shop.sagas, token=TOKEN)
    with served(Starlette(routes=[Mount("/ops/saga", page)])) as address:
        yield f"{address}/ops/saga/"


def sign_in(tab: Any, home: str) -> None:
    tab.goto(f"{home}enter")
    tab.get_by_label("Your name").fill("ann")
    tab.get_by_label("Token").fill(TOKEN)
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_text("as ann").wait_for()
    tab.wait_for_load_state("load")


def test_what_is_stuck_is_found_understood_and_mended(chromium: Any, home: str, shop: Shop) -> None:
    with looking(chromium) as tab:
        tab.goto(home)
        tab.get_by_role("link", name=re.compile("stuck")).click()
        tab.get_by_role("link", name="Sign in to act").click()
        tab.get_by_label("Your name").fill("ann")
        tab.get_by_label("Token").fill(TOKEN)
        tab.get_by_role("button", name="Sign in").click()
        tab.wait_for_url(re.compile("status=stuck"))
        tab.get_by_role("link", name="place-1").click()
        tab.locator("p.reason", has_text="a person must act: compensation failed: charge").wait_for()
        assert tab.get_by_role("row", name=re.compile("charge.*undo failed.*may still stand")).count() == 1
        tab.get_by_label("Why").fill("refunded by hand, ticket 7")
        tab.get_by_role("button", name="skip charge").click()
        tab.get_by_text("it is compensated").first.wait_for()
    (acted,) = [line for line in shop.operations.show("place-1").journal if line.kind == "OperatorActed"]
    assert (acted.details["who"], acted.details["why"]) == ("ann", "refunded by hand, ticket 7")


@pytest.mark.parametrize("scripts", [True, False])
def test_many_are_acted_on_after_a_question_with_a_reason(chromium: Any, home: str, shop: Shop, scripts: bool) -> None:
    with looking(chromium, java_script_enabled=scripts) as tab:
        sign_in(tab, home)
        tab.get_by_role("link", name="Causes").click()
        cause = tab.get_by_role("region", name=re.compile("place"))
        number = cause.get_by_label("How many")
        number.fill("2")
        number.press("Enter")  # presses no button that happens to come first
        assert tab.url.endswith("causes")
        cause.get_by_role("button", name="retry them").click()
        tab.get_by_role("heading", name="Retry these 2 executions?").wait_for()
        tab.get_by_role("link", name="Do nothing").click()
        cause.get_by_role("button", name="retry them").click()
        tab.get_by_role("heading", name="Retry these 3 executions?").wait_for()
        retry = tab.get_by_role("button", name="Retry these 3")
        retry.click()  # the browser asks for the reason
        tab.get_by_label("Why").fill("the bank is open")
        retry.click()
        tab.get_by_text("retry: given to 3.").wait_for()
        assert tab.get_by_role("link", name=re.compile("place-")).count() == 3


def test_ticks_stay_as_rows_come_and_go(chromium: Any, home: str, shop: Shop) -> None:
    with looking(chromium) as tab:
        sign_in(tab, home)
        tab.goto(f"{home}?name=approve")
        pause = tab.get_by_role("button", name="pause")
        assert pause.is_disabled()
        tab.keyboard.press("j")
        tab.keyboard.press("x")
        tab.get_by_text("With the 1 ticked:").wait_for()
        shop.saga("approve").submit(saga_id="approve-2")
        tab.get_by_role("link", name="approve-2").wait_for()
        assert tab.get_by_label("approve-1").is_checked()
        assert not tab.get_by_label("approve-2").is_checked()
        tab.get_by_label("All of this page").check()
        tab.get_by_text("With the 2 ticked:").wait_for()
        pause.click()
        tab.get_by_role("heading", name="Pause these 2 executions?").wait_for()
        tab.go_back()


def test_what_waits_for_a_signal_is_sent_one_by_keyboard_alone(chromium: Any, home: str, shop: Shop) -> None:
    Worker(shop.store, shop.sagas).run_once()
    with looking(chromium) as tab:
        sign_in(tab, home)
        tab.goto(f"{home}execution?id=approve-1")
        tab.get_by_label("Why").focus()
        tab.keyboard.type("she called")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "signal approved"
        tab.keyboard.press("Tab")
        tab.keyboard.type('{"by": ann}')
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("Enter")
        tab.get_by_role("alert").get_by_text("the value is no JSON").wait_for()
        assert tab.get_by_label("Why").input_value() == "she called"
        tab.get_by_label("Its value").fill('{"by": "ann"}')
        tab.get_by_role("button", name="signal approved").press("Enter")
        tab.get_by_text("on its way to whoever runs this").wait_for()
    Worker(shop.store, shop.sagas).run_once()
    assert shop.saga("approve").load("approve-1").results["approved"] == {"by": "ann"}


def test_what_is_completed_is_undone_back_to_a_step(chromium: Any, home: str, shop: Shop) -> None:
    with looking(chromium, viewport={"width": 390, "height": 800}) as tab:
        sign_in(tab, home)
        tab.goto(f"{home}execution?id=ship-1")
        tab.get_by_text("Undo back to a step").click()
        tab.get_by_label("Why").fill("another parcel")
        tab.get_by_role("button", name="undo to charge").click()
        tab.get_by_text("not known yet").wait_for()
    (acted,) = [line for line in shop.operations.show("ship-1").journal if line.kind == "OperatorActed"]
    assert (acted.step, acted.details["who"], acted.details["why"]) == ("charge", "ann", "another parcel")


@pytest.mark.parametrize(("cut", "beat"), [("idle", 0.5), ("idle", 60.0), ("streams", 0.5)])
def test_it_goes_on_behind_a_proxy_that_cuts(
    chromium: Any, shop: Shop, cut: str, beat: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cuts connections of which nothing is heard for a while, whether or not a beat comes in time; or all streams."""
    monkeypatch.setattr("saga.web.page.Live", partial(Live, 0.05, beat))

    class Impatient(Relay):
        def passes(self, link: object, data: bytes, from_client: bool) -> bool:
            if not from_client and cut == "streams" and b"text/event-stream" in data:
                raise EOFError
            return True

    page = app(shop.store, sagas=shop.sagas)
    with served(page) as address:
        port = urlsplit(address).port

        def connect() -> socket.socket:
            connected = socket.create_connection(("127.0.0.1", port))
            connected.settimeout(1.5 if cut == "idle" else None)
            return connected

        relay = Impatient(connect)
        try:
            with looking(chromium) as tab:
                tab.goto(f"http://127.0.0.1:{relay.port}/execution?id=approve-1")
                tab.get_by_text("submitted", exact=True).first.wait_for()
                shop.operations.pause("approve-1", "not yet")
                tab.get_by_text("by the test: not yet").first.wait_for(timeout=30_000)
        finally:
            relay.close()


def test_what_happens_is_shown_as_it_happens_and_told(chromium: Any, home: str, shop: Shop) -> None:
    with looking(chromium) as tab:
        sign_in(tab, home)
        tab.goto(f"{home}execution?id=approve-1")
        tab.get_by_text("What does not fit").click()
        tab.get_by_label("Why").fill("half a sen")
        tab.evaluate("document.getElementById('why').setSelectionRange(4, 4)")
        shop.operations.pause("approve-1", "not yet")
        tab.get_by_text("by the test: not yet").first.wait_for()
        assert tab.get_by_label("Why").input_value() == "half a sen"
        assert tab.evaluate("[document.activeElement.id, document.activeElement.selectionStart]") == ["why", 4]
        assert tab.locator("#refused").get_attribute("open") is not None
        assert tab.locator("#said").inner_text() == "approve-1 is paused"


def test_new_executions_come_into_the_list(chromium: Any, home: str, shop: Shop) -> None:
    with looking(chromium) as tab:
        tab.goto(home)
        tab.get_by_role("link", name="place-1").wait_for()
        shop.saga("approve").submit(saga_id="approve-2")
        tab.get_by_role("link", name="approve-2").wait_for()


def test_the_keyboard_is_enough(chromium: Any, home: str) -> None:
    with looking(chromium) as tab:
        tab.goto(home)
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
        tab.keyboard.press("/")
        assert tab.evaluate("document.activeElement.id") == "q"
        tab.keyboard.type("jk?/")
        assert tab.locator("#q").input_value() == "jk?/"
        tab.locator("#q").evaluate("one => one.blur()")
        for key, at in (("j", 0), ("j", 1), ("k", 0), ("k", 0)):
            tab.keyboard.press(key)
            rows = tab.locator("table.rows tbody tr")
            assert rows.nth(at).get_attribute("class") == "here"
            assert tab.locator("tr.here").count() == 1
        tab.keyboard.press("?")
        assert tab.get_by_role("dialog", name="Keys").is_visible()
        tab.keyboard.press("Escape")
        name = tab.locator("tr.here td.id").inner_text()
        tab.keyboard.press("j")
        tab.keyboard.press("k")
        tab.keyboard.press("Enter")
        tab.get_by_role("heading", name=name, level=1).wait_for()
        tab.keyboard.press("g")
        tab.get_by_role("heading", name="Executions", level=1).wait_for()


def test_names_stay_whole_on_a_phone(chromium: Any, home: str, shop: Shop) -> None:
    """Nothing that is a word is broken, and what does not fit beside stands below."""
    shop.operations.hold("approve", "the bank is closed until tomorrow")
    with looking(chromium, viewport={"width": 390, "height": 800}) as tab:
        tab.goto(f"{home}health")
        for name in ("approve", "place", "the test: the bank is closed until tomorrow"):
            place = tab.locator("main").get_by_text(name, exact=True).first
            box, line = place.bounding_box(), place.evaluate("one => parseFloat(getComputedStyle(one).lineHeight)")
            assert box["x"] + box["width"] <= 390, name
            assert box["height"] < 2 * line, name


def test_an_edge_behind_which_there_is_more_is_seen_as_one(chromium: Any, home: str) -> None:
    with looking(chromium, viewport={"width": 320, "height": 800}) as tab:
        tab.goto(f"{home}execution?id=place-1")
        picture = tab.locator("#picture")
        faded = "one => getComputedStyle(one).maskImage !== 'none'"
        assert picture.evaluate(faded)
        picture.evaluate("one => { one.scrollLeft = one.scrollWidth; }")
        tab.locator("#picture:not(.more)").wait_for()
        assert not picture.evaluate(faded)


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_wider_than_the_screen(chromium: Any, home: str, width: int) -> None:
    with looking(chromium, viewport={"width": width, "height": 800}) as tab:
        sign_in(tab, home)
        for address in PAGES:
            tab.goto(home + address)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, address
        tab.goto(f"{home}causes")
        tab.get_by_role("button", name="retry them").click()
        tab.get_by_role("heading", name="Retry these 3 executions?").wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


#: Every element that has a text of its own, with the colour of that and the nearest colour behind it.
COLOURS = """() => [...document.querySelectorAll("main *, header *")].filter((one) => !one.closest("svg")
  && one.checkVisibility() && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).map((one) => {
    let behind = one;
    const clear = () => getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)";
    while (clear() && behind.parentElement) behind = behind.parentElement;
    return [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor, one.textContent.trim().slice(0, 40)];
  })"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(chromium: Any, home: str, scheme: str) -> None:
    with looking(chromium, color_scheme=scheme) as tab:
        sign_in(tab, home)
        body = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (luminance(body) > 0.5) is (scheme == "light")
        for address in PAGES:
            tab.goto(home + address)
            for text, behind, words in tab.evaluate(COLOURS):
                bright, dark = sorted((luminance(text), luminance(behind)), reverse=True)
                assert (bright + 0.05) / (dark + 0.05) >= 4.5, f"{address}: {words!r}: {text} on {behind}"


def test_a_screen_reader_has_a_name_for_everything(chromium: Any, home: str) -> None:
    all_of = "a, button:not([hidden]), input:not([type=hidden]), textarea, svg[role=img], table, section"
    unnamed = f"""() => [...document.querySelectorAll("{all_of}")]
      .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length
        || document.getElementById(one.getAttribute("aria-labelledby")))).map((one) => one.outerHTML)"""
    with looking(chromium) as tab:
        sign_in(tab, home)
        for address in PAGES:
            tab.goto(home + address)
            assert tab.evaluate(unnamed) == []
            assert tab.locator("h1").count() == 1
            marks = "[...document.querySelectorAll('svg.mark')]"
            assert tab.evaluate(f"{marks}.every((one) => one.ariaHidden === 'true' && one.parentElement.textContent.trim())")


def test_what_users_write_runs_nowhere(chromium: Any, tmp_path: Any) -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    with SqliteStore(tmp_path / "hostile.db") as store:
        sagas = []
        for text in HOSTILE:
            saga = Saga(text, store=store, tags=lambda context, text=text: {"tag": text})
            saga.add_task(step(partial(str, text), partial(fail, text), name=text))
            saga.add_task(step(partial(fail, text), name="fail"))
            saga.try_execute(saga_id=text)
            sagas.append(saga)
        page = app(store, sagas=sagas, authorize=lambda request, action: HOSTILE[0])
        with served(page) as address, looking(chromium) as tab:
            for where in ("", "causes", "health"):
                tab.goto(f"{address}/{where}")
                tab.wait_for_timeout(100)
            for text in HOSTILE:
                tab.goto(f"{address}/")
                tab.get_by_role("link", name=text, exact=True).first.click()
                assert tab.locator("h1").inner_text() == text
                assert tab.evaluate("document.querySelectorAll('script').length") == 1


def test_it_works_where_scripts_do_not_run(chromium: Any, home: str, shop: Shop) -> None:
    with looking(chromium, java_script_enabled=False) as tab:
        sign_in(tab, home)
        tab.get_by_role("link", name="place-1").click()
        tab.get_by_label("Why").fill("so")
        tab.get_by_role("button", name="retry").click()
        tab.get_by_text("not known yet").wait_for()
    assert shop.operations.show("place-1").journal[-1].kind == "OperatorActed"


def test_a_line_of_the_terminal_is_copied(chromium: Any, home: str) -> None:
    with looking(chromium, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.goto(f"{home}execution?id=place-1")
        tab.get_by_role("button", name="Copy").first.click()
        tab.get_by_text("Copied").first.wait_for()
        assert tab.evaluate("navigator.clipboard.readText()") == "saga retry place-1 --why ..."
