"""Who may do what by the page's forms, and what is in the journal of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient

from saga.web import app
from saga.worker import Worker
from tests.web.conftest import HOSTILE, TOKEN, Shop, csrf_in

ACTIONS = [
    ("retry", "place-1"),
    ("resume", "approve-1"),
    ("skip:charge", "place-1"),
    ("pause", "approve-1"),
    ("cancel", "approve-1"),
    ("compensate", "place-1"),
    ("undo", "ship-1"),
    ("undo:charge", "ship-1"),
    ("signal:approved", "approve-1"),
]


def send(client: TestClient, where: str, page: str = "/", **fields: str) -> Any:
    """Send a form, as the one that a page has for this visitor."""
    csrf = csrf_in(client.get(page).text) or client.cookies.get("saga_csrf", "")
    return client.post(where, content=urlencode({"csrf": csrf, **fields}), headers=of_it(client), follow_redirects=False)


def of_it(client: TestClient) -> dict[str, str]:
    """Return what a browser says with a form of a page of that address."""
    return {"origin": str(client.base_url).rstrip("/")}


def signed_in(shop: Shop, name: str = "ann", **options: Any) -> TestClient:
    client = TestClient(app(shop.store, sagas=shop.sagas, token=TOKEN, **options), base_url="http://shop")
    assert send(client, "/enter", "/enter", name=name, token=TOKEN).status_code == 303
    return client


def acted(shop: Shop, saga_id: str) -> list[tuple[Any, ...]]:
    """Return what persons have done with an execution, or are to."""
    view = shop.operations.show(saga_id)
    lines = [line.details | {"step": line.step} for line in view.journal if line.kind == "OperatorActed"]
    said = [{"action": "signal", "step": one.get("signal"), **one} for one in [*lines, *view.inbox]]
    return [(one["action"], one["step"], one["who"], one["why"]) for one in said]


async def awaited(request: Request, action: str) -> str | None:
    return "bob"


def forbids(request: Request, action: str) -> str | None:
    raise HTTPException(401)


#: For each kind of visitor: what makes the page, and who it says they are; ``None``: they may not act.
ROLES: dict[str, tuple[Callable[[Shop], TestClient], str | None]] = {
    "nobody": (lambda shop: TestClient(app(shop.store, sagas=shop.sagas)), None),
    "not signed in": (lambda shop: TestClient(app(shop.store, sagas=shop.sagas, token=TOKEN)), None),
    "signed in": (signed_in, "ann"),
    "authorized": (lambda shop: TestClient(app(shop.store, sagas=shop.sagas, authorize=lambda *_: "bob")), "bob"),
    "awaited": (lambda shop: TestClient(app(shop.store, sagas=shop.sagas, authorize=awaited)), "bob"),
    "not authorized": (lambda shop: TestClient(app(shop.store, sagas=shop.sagas, authorize=lambda *_: None)), None),
    "by header": (
        lambda shop: TestClient(
            app(shop.store, sagas=shop.sagas, authorize=lambda request, _: request.headers.get("x-user")),
            headers={"x-user": "eve"},
        ),
        "eve",
    ),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("do", "saga_id"), ACTIONS, ids=[action for action, _ in ACTIONS])
def test_an_action_is_done_under_the_visitors_name_or_not_at_all(shop: Shop, role: str, do: str, saga_id: str) -> None:
    make, who = ROLES[role]
    client = make(shop)
    if do == "resume":
        shop.operations.pause(saga_id, "first")
    before = acted(shop, saga_id)
    answer = send(client, "/act", f"/execution?id={saga_id}", do=do, id=saga_id, why="ticket 7")
    action, _, step = do.partition(":")
    if who is None:
        assert answer.status_code == 403
        assert acted(shop, saga_id) == before
    else:
        assert answer.status_code == 303
        assert answer.headers["location"] == f"execution?id={saga_id}#decided"
        assert acted(shop, saga_id)[-1] == (action, step or None, who, "ticket 7")
        assert f"{who}</bdi>: <bdi>ticket 7</bdi>" in client.get(f"/{answer.headers['location']}").text


def test_an_application_can_ask_for_a_password_or_lead_elsewhere(shop: Shop) -> None:
    def authorize(request: Request, action: str) -> str | None:
        if "x-known" in request.headers:
            raise HTTPException(303, headers={"location": "/login"})
        raise HTTPException(401, headers={"www-authenticate": "Basic"})

    client = TestClient(app(shop.store, authorize=authorize, private=True))
    assert client.get("/").headers["www-authenticate"] == "Basic"
    led = client.get("/", headers={"x-known": "1"}, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("role", ROLES)
def test_buttons_are_there_for_those_who_may_press_them(shop: Shop, role: str) -> None:
    make, who = ROLES[role]
    client = make(shop)
    for address in ("/execution?id=place-1", "/causes"):
        page = client.get(address).text
        assert ('name="do"' in page) is (who is not None), address
        assert "calls the compensation of &#39;charge&#39; again" in page


def test_one_who_may_do_some_things_has_the_buttons_of_these(shop: Shop) -> None:
    asked = []

    def authorize(request: Request, action: str) -> str | None:
        asked.append(action)
        return "ann" if action == "retry" else None

    client = TestClient(app(shop.store, sagas=shop.sagas, authorize=authorize))
    page = client.get("/execution?id=place-1").text
    assert 'value="retry:"' in page
    assert 'value="skip:charge"' not in page
    assert send(client, "/act", do="skip:charge", id="place-1", why="so").status_code == 403
    assert asked[-1] == "skip"
    assert send(client, "/act", do="retry", id="place-1", why="so").status_code == 303


@pytest.mark.parametrize("said", [True, 7, "", "  ", b"ann"])
def test_what_is_no_name_authorizes_nobody(shop: Shop, said: Any) -> None:
    client = TestClient(app(shop.store, authorize=lambda *_: said), raise_server_exceptions=False)
    cookie = {"cookie": "saga_csrf=x", **of_it(client)}
    body = urlencode({"csrf": "x", "do": "retry", "id": "place-1", "why": "so"})
    assert client.post("/act", content=body, headers=cookie).status_code == 500
    assert acted(shop, "place-1") == []


def test_what_authorize_raises_is_the_answer(shop: Shop) -> None:
    client = TestClient(app(shop.store, authorize=forbids))
    cookie = {"cookie": "saga_csrf=x", **of_it(client)}
    assert client.post("/act", content="csrf=x&do=retry&id=place-1&why=so", headers=cookie).status_code == 401
    assert acted(shop, "place-1") == []


OURS = {"origin": "http://shop"}


@pytest.mark.parametrize(
    ("csrf", "headers"),
    [
        (None, OURS),
        ("another", OURS),
        ("", OURS),
        ("given", {}),  # what says nothing of where it comes from
        ("given", {"origin": "null"}),
        ("given", {"origin": ""}),
        ("given", {"origin": "http://evil.shop"}),  # a sibling, which can set our cookie
        ("given", {"origin": "http://shop.evil"}),
        ("given", {"origin": "http://shop:8000"}),
        ("given", {"origin": "http://shop@evil"}),
        ("given", {"origin": "shop"}),
        ("given", {"origin": "file://shop"}),
        ("given", {"origin": "http://["}),
        ("given", {"origin": "http://evil", "referer": "http://shop/"}),
        ("given", {**OURS, "sec-fetch-site": "cross-site"}),
        ("given", {**OURS, "sec-fetch-site": "same-site"}),
        ("given", {**OURS, "sec-fetch-site": "none"}),
        ("given", {**OURS, "sec-fetch-site": ""}),
    ],
)
@pytest.mark.parametrize("where", ["/act", "/ask", "/act-on-many", "/enter", "/leave"])
def test_a_form_of_another_site_does_nothing(shop: Shop, where: str, csrf: str | None, headers: dict[str, str]) -> None:
    client = signed_in(shop)
    page = client.get("/execution?id=place-1").text
    body = {"do": "retry", "id": "place-1", "why": "so", "token": TOKEN, "name": "ann"}
    if csrf is not None:
        body["csrf"] = csrf_in(page) if csrf == "given" else csrf
    answer = client.post(where, content=urlencode(body), headers=headers, follow_redirects=False)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert acted(shop, "place-1") == []


@pytest.mark.parametrize(
    "headers",
    [
        OURS,
        {"origin": "https://SHOP"},  # a proxy in front speaks TLS
        {"origin": "http://ops.example", "x-forwarded-host": "ops.example"},
        {"origin": "https://ops.example", "sec-fetch-site": "same-origin"},  # whatever host the proxy asks for
        {"sec-fetch-site": "same-origin"},
    ],
)
def test_a_form_of_this_origin_is_obeyed_behind_a_proxy_too(shop: Shop, headers: dict[str, str]) -> None:
    client = signed_in(shop)
    csrf = csrf_in(client.get("/execution?id=place-1").text)
    body = urlencode({"csrf": csrf, "do": "retry", "id": "place-1", "why": "so"})
    assert client.post("/act", content=body, headers=headers, follow_redirects=False).status_code == 303
    assert acted(shop, "place-1") == [("retry", None, "ann", "so")]


def test_a_form_of_nobodys_browser_does_nothing(shop: Shop) -> None:
    client = TestClient(app(shop.store, authorize=lambda *_: "ann"))
    assert client.post("/act", content="do=retry&id=place-1&why=so&csrf=", headers=of_it(client)).status_code == 403


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"do": "retry", "id": "place-1", "why": ""}, 400, "give the reason"),
        ({"do": "retry", "id": "place-1", "why": " \n"}, 400, "give the reason"),
        ({"do": "retry", "id": "place-1", "why": "a\x00b"}, 400, "give the reason"),
        ({"do": "resume", "id": "place-1", "why": "so"}, 409, "resume:"),
        ({"do": "skip:nothing", "id": "place-1", "why": "so"}, 409, "skip:"),
        ({"do": "undo:nothing", "id": "ship-1", "why": "so"}, 409, "there is no step"),
        ({"do": "undo:pack", "id": "ship-1", "why": "so"}, 409, "nothing came after step"),
        ({"do": "signal:approved", "id": "approve-1", "why": " "}, 400, "give the reason"),
        ({"do": "signal:nothing", "id": "approve-1", "why": "so"}, 400, "receives no signal"),
        ({"do": "signal:approved", "id": "ship-1", "why": "so"}, 409, "does not go forward"),
        ({"do": "signal:approved", "id": "approve-1", "why": "so", "value-approved": "{"}, 400, "the value is no JSON"),
        ({"do": "signal:approved", "id": "approve-1", "why": "so", "value-approved": "[" * 20_000}, 400, "no JSON"),
        ({"do": "skip:", "id": "place-1", "why": "so"}, 400, "step is"),
        ({"do": "retry", "id": "ship-1", "why": "so"}, 409, "there is nothing to retry"),
        ({"do": "retry", "id": "nobody", "why": "so"}, 404, "there is no execution"),
        ({"do": "purge", "id": "place-1", "why": "so"}, 400, "no such action"),
        ({"do": "", "id": "place-1", "why": "so"}, 400, "no such action"),
        ({"do": "retry", "id": "place-1", "why": "x" * 100_001}, 413, "too long"),
    ],
)
def test_what_cannot_be_done_is_said_where_it_was_asked_for(shop: Shop, fields: dict[str, str], code: int, says: str) -> None:
    answer = send(signed_in(shop), "/act", **fields)
    assert answer.status_code == code
    assert says in answer.text
    assert [acted(shop, saga_id) for saga_id in ("place-1", "ship-1", "approve-1")] == [[]] * 3


def test_what_was_typed_stays_where_it_could_not_be_done(shop: Shop) -> None:
    client = signed_in(shop)
    sent = {"do": "signal:approved", "id": "approve-1", "why": 'two\n"lines" </textarea><b>', "value-approved": '{"by": '}
    page = send(client, "/act", **sent).text
    assert ">two\n&#34;lines&#34; &lt;/textarea&gt;&lt;b&gt;</textarea>" in page
    assert 'value="{&#34;by&#34;: "' in page


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("  ", None), ("7", 7), ('"yes"', "yes"), ('{"by": "<b>", "n": [1, null]}', {"by": "<b>", "n": [1, None]})],
)
def test_a_signal_comes_with_its_value_who_sent_it_and_why(shop: Shop, text: str, value: Any) -> None:
    client = signed_in(shop)
    page = client.get("/execution?id=approve-1").text
    assert 'name="value-approved"' in page
    assert "saga signal approve-1 approved --value ... --why ..." in page
    sent = {"do": "signal:approved", "id": "approve-1", "why": "she called", "value-approved": text, "value-other": "no"}
    assert send(client, "/act", **sent).status_code == 303
    Worker(shop.store, shop.sagas).run_once()
    assert shop.saga("approve").load("approve-1").results["approved"] == value
    (line,) = [line for line in shop.operations.show("approve-1").journal if line.kind == "SignalReceived"]
    assert (line.details["who"], line.details["why"]) == ("ann", "she called")
    page = client.get("/execution?id=approve-1").text
    assert 'name="value-approved"' not in page
    decided = page.partition('id="decided"')[2].partition("</section>")[0]
    assert "<bdi>she called</bdi>" in decided
    assert "it is completed" in decided


def test_back_to_a_step_is_undone_what_was_told(shop: Shop) -> None:
    client = signed_in(shop)
    page = client.get("/execution?id=ship-1").text
    assert 'value="undo:charge"' in page
    assert 'value="undo:label"' not in page  # a branch of a group
    assert "saga undo ship-1 --to charge --why ..." in page
    assert "then it rests, until a person resumes it from &#39;pack&#39; on" in page
    assert send(client, "/act", do="undo:charge", id="ship-1", why="another parcel").status_code == 303
    Worker(shop.store, shop.sagas).run_once()
    assert shop.operations.get("ship-1").status == "paused"


@pytest.mark.parametrize("text", [text for text in HOSTILE if len(text) < 100])
def test_a_hostile_reason_and_name_are_what_they_are(shop: Shop, text: str) -> None:
    client = signed_in(shop, text)
    assert send(client, "/act", do="retry", id="place-1", why=text).status_code == 303
    assert acted(shop, "place-1") == [("retry", None, text, text)]
    page = client.get("/execution?id=place-1").text
    assert "<script>alert" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(
    ("name", "token", "code"),
    [
        ("ann", TOKEN, 303),
        ("ann", TOKEN + " ", 403),
        ("ann", "", 403),
        ("", TOKEN, 403),
        ("  ", TOKEN, 403),
        ("é" * 20, TOKEN, 303),
    ],
)
def test_whoever_knows_the_token_signs_in_with_a_name(shop: Shop, name: str, token: str, code: int) -> None:
    client = TestClient(app(shop.store, sagas=shop.sagas, token=TOKEN), base_url="http://shop")
    answer = send(client, "/enter", "/enter", name=name, token=token)
    assert answer.status_code == code
    signed = [cookie for cookie in answer.headers.get_list("set-cookie") if cookie.startswith("saga_who=")]
    assert len(signed) == (code == 303)
    for cookie in signed:
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
    assert (f"as</span> <bdi>{name}</bdi>" in client.get("/").text) is (code == 303)


@pytest.mark.parametrize("change", ["name", "time", "signature", "nothing left", "another token"])
def test_a_cookie_that_was_changed_or_is_old_signs_nobody_in(shop: Shop, monkeypatch: Any, change: str) -> None:
    client = signed_in(shop)
    name, until, signature = client.cookies["saga_who"].split(".")
    page: Any = client.app
    changed = {
        "name": f"{name[:-4]}Ym9i.{until}.{signature}",
        "time": f"{name}.{int(until) + 1}.{signature}",
        "signature": f"{name}.{until}.{'0' * 64}",
        "nothing left": f"{name}.{until}.{signature}",
        "another token": f"{name}.{until}.{signature}",
    }[change]
    if change == "nothing left":
        monkeypatch.setattr("saga.web.visitors.time.time", lambda: float(until) + 1)
    if change == "another token":
        page = app(shop.store, sagas=shop.sagas, token=TOKEN + "2")
    other = TestClient(page, base_url="http://shop", cookies={"saga_who": changed})
    assert send(other, "/act", do="retry", id="place-1", why="so").status_code == 403
    assert acted(shop, "place-1") == []


@pytest.mark.parametrize(
    ("to", "leads"),
    [
        ("execution?id=a%26b", "execution?id=a%26b"),
        ("./?status=stuck", "./?status=stuck"),
        ("causes?", "causes?"),
        ("", "./"),
        ("https://elsewhere.example/?", "./"),
        ("//elsewhere.example/?", "./"),
        ("/\\elsewhere.example?", "./"),
        ("javascript:alert(1)//?", "./"),
        ("leave?", "./"),
    ],
)
def test_who_has_signed_in_is_where_they_were_and_nowhere_else(shop: Shop, to: str, leads: str) -> None:
    client = TestClient(app(shop.store, token=TOKEN), base_url="http://shop")
    answer = send(client, "/enter", "/enter", name="ann", token=TOKEN, to=to)
    assert answer.headers["location"] == leads


def test_a_page_leads_to_signing_in_and_that_leads_back(shop: Shop) -> None:
    client = TestClient(app(shop.store, token=TOKEN), base_url="http://shop")
    page = client.get("/execution?id=place-1").text
    assert 'href="enter?to=execution%3Fid%3Dplace-1"' in page
    assert 'name="to" value="execution?id=place-1"' in client.get("/enter?to=execution%3Fid%3Dplace-1").text


def test_who_signs_out_may_do_nothing_more(shop: Shop) -> None:
    client = signed_in(shop)
    assert send(client, "/leave").status_code == 303
    assert send(client, "/act", do="retry", id="place-1", why="so").status_code == 403


@pytest.mark.parametrize(
    "address", ["/", "/causes", "/health", "/execution?id=place-1", "/?live=1", "/execution?id=nobody", "/metrics"]
)
def test_a_private_page_is_shown_to_nobody_else(shop: Shop, address: str) -> None:
    by_token = TestClient(app(shop.store, sagas=shop.sagas, token=TOKEN, private=True), base_url="http://shop")
    answer = by_token.get(address, follow_redirects=False)
    assert answer.status_code == (403 if "live" in address else 303)
    assert "place-1" not in answer.text
    asked = []

    def authorize(request: Request, action: str) -> str | None:
        asked.append(action)
        return request.headers.get("x-user")

    by_application = TestClient(app(shop.store, authorize=authorize, private=True))
    assert by_application.get(address).status_code == 403
    assert asked == ["look"]
    assert by_application.get(address, headers={"x-user": "ann"}).status_code == (404 if "nobody" in address else 200)
    assert signed_in(shop, private=True).get(address).status_code == (404 if "nobody" in address else 200)


def test_an_answer_leads_back_to_an_execution_whatever_it_is_called(shop: Shop) -> None:
    saga_id = "a&b=c#d?e%2F/f"
    shop.saga("approve").submit(saga_id=saga_id)
    answer = send(signed_in(shop), "/act", do="pause", id=saga_id, why="so")
    assert parse_qsl(answer.headers["location"].partition("?")[2].removesuffix("#decided")) == [("id", saga_id)]
