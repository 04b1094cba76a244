"""Acting on many by the page: what is asked first, on which it is done, and what is said of it."""

from __future__ import annotations

import json
from functools import partial
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from saga import Saga, step
from saga.errors import StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.web import app
from saga.web.many import few
from saga.web.views import key_of
from tests.web.conftest import Shop, csrf_in
from tests.web.test_acting import acted, of_it, signed_in
from tests.web.test_pages import Elements

PLACES = ["place-1", "place-2", "place-3"]


def send(client: TestClient, where: str, fields: dict[str, Any], page: str = "/causes") -> Any:
    body = {"csrf": csrf_in(client.get(page).text), **fields}
    return client.post(where, content=urlencode(body, doseq=True), headers=of_it(client), follow_redirects=False)


def fields_of(page: str) -> dict[str, str]:
    """Return what the form that says yes has."""
    found = Elements(page.partition('<form class="ask"')[2].partition("</form>")[0]).found
    fields = {one["name"]: one["value"] for _, one in found if "name" in one and "value" in one}
    assert {*fields} == {"csrf", "those", "back", "do"}
    return fields


def shown(page: str) -> str:
    return " ".join(Elements(page).text.split())


def all_of_a_cause(shop: Shop, client: TestClient, action: str, most: str = "") -> Any:
    key = key_of(shop.operations.causes()[0])
    assert f'value="{action}:{key}"' in client.get("/causes").text
    return send(client, "/ask", {"do": f"{action}:{key}", f"most-{key}": most, "back": "causes"})


def some_ticked(shop: Shop, client: TestClient, action: str, most: str = "") -> Any:
    ids = PLACES[: int(most or 3)]
    address = "/?status=stuck&name=place"
    page = client.get(address).text
    assert f'name="do" value="{action}"' in page
    assert {saga_id for saga_id in PLACES if f'name="id" value="{saga_id}"' in page} == {*PLACES}
    return send(client, "/ask", {"do": action, "id": ids, "back": f".{address}"}, address)


ASKED = [all_of_a_cause, some_ticked]


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize(
    ("action", "does"),
    [
        ("retry", "calls the compensation of 'charge' again"),
        ("compensate", "calls the compensation of 'charge' again"),
        ("skip", "counts 'charge' as settled by a person"),
    ],
)
def test_many_are_mended_after_a_question_that_says_what_would_follow(shop: Shop, ask: Any, action: str, does: str) -> None:
    client = signed_in(shop)
    asked = ask(shop, client, action)
    assert asked.status_code == 200
    text = shown(asked.text)
    step = "charge" if action == "skip" else None
    assert f"{action.capitalize()} these 3 executions?" in text
    assert "3 stuck place at charge after OSError compensation failed: charge (OSError: the bank is closed" in text
    assert does in unescape(text)
    assert [acted(shop, saga_id) for saga_id in PLACES] == [[]] * 3  # nothing is done yet
    answer = send(client, "/act-on-many", {**fields_of(asked.text), "why": "the bank is open"})
    assert answer.status_code == 200
    assert f"{action}: given to 3." in shown(answer.text)
    (live,) = Elements(answer.text).all("div", "data-live")
    assert "compensating 3" in shown(client.get(f"/{live}").text)  # what comes of it is not known yet
    assert [acted(shop, saga_id) for saga_id in PLACES] == [[(action, step, "ann", "the bank is open")]] * 3
    assert acted(shop, "pay-1") == []
    shop.refuses = False
    Recovery(shop.store, shop.sagas).run_once()
    assert [row.status for row in shop.operations.all(name="place")] == ["compensated"] * 3
    assert "compensated 3" in shown(client.get(f"/{live}").text)
    assert "compensated 3" in shown(client.get(f"/{live.removesuffix('&live=1')}").text)


@pytest.mark.parametrize("ask", ASKED)
def test_it_is_done_with_those_alone_that_were_asked_about(shop: Shop, ask: Any) -> None:
    client = signed_in(shop)
    asked = ask(shop, client, "retry")
    shop.saga("place").try_execute({"order": "P4"}, saga_id="place-4")
    Operations(shop.store, "bob", sagas=shop.sagas).retry("place-2", "sooner")
    Recovery(shop.store, shop.sagas).run_once()  # it is stuck anew, for the same
    shop.store.purge(updated_before=shop.store.now() + 1, status=["completed"])
    answer = shown(send(client, "/act-on-many", {**fields_of(asked.text), "why": "so"}).text)
    assert "retry: given to 2, refused by 1." in answer
    assert "place-2: it does not stand any more as it did when you were asked" in answer
    assert acted(shop, "place-4") == []
    assert [who for _, _, who, _ in acted(shop, "place-2")] == ["bob"]


@pytest.mark.parametrize("ask", ASKED)
def test_a_part_is_acted_on(shop: Shop, ask: Any) -> None:
    client = signed_in(shop)
    asked = ask(shop, client, "retry", "2")
    assert "Retry these 2 executions?" in shown(asked.text)
    assert ("1 more is stuck for the same, and stays as it is." in shown(asked.text)) is (ask is all_of_a_cause)
    send(client, "/act-on-many", {**fields_of(asked.text), "why": "some first"})
    assert sorted(len(acted(shop, saga_id)) for saga_id in PLACES) == [0, 1, 1]


def test_no_more_than_a_thousand_are_asked_about_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.web.many.AT_ONCE", 2)
    client = signed_in(shop)
    for ask in ASKED:
        assert len(json.loads(unescape(fields_of(ask(shop, client, "retry").text)["those"]))) == 2
    those = json.dumps([(saga_id, None) for saga_id in PLACES])
    assert send(client, "/act-on-many", {"do": "retry", "why": "so", "those": those}).status_code == 400


def test_without_a_reason_the_same_is_asked_again(shop: Shop) -> None:
    client = signed_in(shop)
    first = all_of_a_cause(shop, client, "retry", "2")
    for why in ("", " ", "a\0b"):
        again = send(client, "/act-on-many", {**fields_of(first.text), "why": why})
        assert again.status_code == 400
        assert "give the reason" in again.text
        assert fields_of(again.text)["those"] == fields_of(first.text)["those"]
    assert [acted(shop, saga_id) for saga_id in PLACES] == [[]] * 3


def test_those_that_stand_otherwise_are_told_apart_and_those_that_refuse_are_named(shop: Shop) -> None:
    client = signed_in(shop)
    asked = send(client, "/ask", {"do": "retry", "id": ["place-1", "ship-1", "pay-1", "place-2", "place-1", "nobody"]})
    text = unescape(shown(asked.text))
    assert "Retry these 4 executions?" in text
    assert "2 stuck place at charge after OSError" in text
    assert "1 completed ship does not fit: the execution has ended (completed); there is nothing to retry" in text
    assert "1 stuck pay at transfer" in text
    answer = shown(send(client, "/act-on-many", {**fields_of(asked.text), "why": "so"}).text)
    assert "retry: given to 2, refused by 2." in answer
    assert "ship-1: " in answer
    assert "pay-1: " in answer
    assert len(acted(shop, "place-1")) == 1


def test_what_goes_forward_is_paused_whatever_it_is_at_by_then(shop: Shop) -> None:
    client = signed_in(shop)
    asked = send(client, "/ask", {"do": "pause", "id": ["approve-1"]})
    assert "Pause this execution?" in asked.text
    assert "given to 1" in send(client, "/act-on-many", {**fields_of(asked.text), "why": "so"}).text
    assert shop.operations.get("approve-1").status == "paused"


@pytest.mark.parametrize(
    ("where", "fields", "code", "says"),
    [
        ("/ask", {"do": "retry"}, 400, "No execution is ticked"),
        ("/ask", {"do": "retry", "id": "nobody"}, 400, "No execution is ticked"),
        ("/ask", {"do": "retry", "id": "x" * 300}, 400, "No execution is ticked"),
        ("/ask", {"do": "undo", "id": "ship-1"}, 400, "one execution at a time"),
        ("/ask", {"do": "purge", "id": "ship-1"}, 400, "no such action"),
        ("/ask", {"do": "retry:0123"}, 409, "nothing was done"),
        ("/ask", {"do": "retry:{key}", "most-{key}": "0"}, 400, "no number"),
        ("/ask", {"do": "retry:{key}", "most-{key}": "-1"}, 400, "no number"),
        ("/ask", {"do": "retry:{key}", "most-{key}": "some"}, 400, "no number"),
        ("/act-on-many", {"do": "undo", "why": "so", "those": '[["ship-1",null]]'}, 400, "one execution at a time"),
        ("/act-on-many", {"do": "retry", "why": "so"}, 400, "does not say which"),
        ("/act-on-many", {"do": "retry", "why": "so", "those": "[]"}, 400, "does not say which"),
        ("/act-on-many", {"do": "retry", "why": "so", "those": "place-1"}, 400, "does not say which"),
        ("/act-on-many", {"do": "retry", "why": "so", "those": '["place-1"]'}, 400, "does not say which"),
        ("/act-on-many", {"do": "retry", "why": "so", "those": "[[7,null]]"}, 400, "does not say which"),
        ("/act-on-many", {"do": "retry", "why": "so", "those": '[["place-1","x"]]'}, 400, "does not say which"),
        ("/act-on-many", {"do": "retry", "why": "so", "those": "[" * 90_000}, 400, "does not say which"),
        ("/act-on-many", {"do": "retry", "why": "x" * 100_001, "those": '[["place-1",null]]'}, 413, "too long"),
    ],
)
def test_what_cannot_be_done_with_many_does_nothing(
    shop: Shop, where: str, fields: dict[str, str], code: int, says: str
) -> None:
    key = key_of(shop.operations.causes()[0])
    made = {name.format(key=key): value.format(key=key) if "{key}" in value else value for name, value in fields.items()}
    answer = send(signed_in(shop), where, made)
    assert answer.status_code == code
    assert says in answer.text
    assert [acted(shop, saga_id) for saga_id in PLACES] == [[]] * 3


@pytest.mark.parametrize("where", ["/ask", "/act-on-many"])
def test_many_are_acted_on_by_those_who_may(shop: Shop, where: str) -> None:
    client = TestClient(
        app(shop.store, sagas=shop.sagas, authorize=lambda request, action: "ann" if action == "retry" else None),
        base_url="http://shop",
    )
    page = client.get("/?status=stuck").text
    assert 'value="retry"' in page
    assert 'value="skip"' not in page
    fields = {"id": ["place-1"], "those": '[["place-1",null]]', "why": "so"}
    assert send(client, where, {**fields, "do": "skip"}).status_code == 403
    assert send(client, where, {**fields, "do": "retry"}).status_code == 200


def test_a_store_that_goes_away_halfway_leaves_no_doubt_of_what_was_done(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(shop)
    asked = some_ticked(shop, client, "retry")
    get = shop.store.get

    def gone(saga_id: str) -> Any:
        if saga_id == "place-2":
            raise StorageError("the database does not answer")
        return get(saga_id)

    monkeypatch.setattr(shop.store, "get", gone)
    answer = shown(send(client, "/act-on-many", {**fields_of(asked.text), "why": "so"}).text)
    assert "retry: given to 1, refused by 2." in answer
    assert answer.count("the database does not answer") == 2


@pytest.mark.parametrize(("back", "leads"), [("causes", "causes"), ("./?status=stuck", "./?status=stuck"), ("//evil/", "./")])
def test_who_does_nothing_is_where_they_were(shop: Shop, back: str, leads: str) -> None:
    asked = send(signed_in(shop), "/ask", {"do": "retry", "id": ["place-1"], "back": back})
    assert f'<a href="{leads}">Do nothing</a>' in asked.text


def test_an_id_is_given_back_as_it_is_and_shown_without_what_reorders(shop: Shop) -> None:
    saga_id = "F\u202e1&\"<'"
    shop.saga("approve").submit(saga_id=saga_id)
    client = signed_in(shop)
    pages = [client.get("/?status=submitted").text, send(client, "/ask", {"do": "pause", "id": [saga_id]}).text]
    assert not [page for page in pages if "\u202e" in page]
    assert saga_id in Elements(pages[0]).all("input", "value")
    send(client, "/act-on-many", {**fields_of(pages[1]), "why": "so"})
    assert shop.operations.get(saga_id).status == "paused"


def test_an_address_has_as_many_ids_as_it_has_room_for() -> None:
    assert few([str(number) for number in range(200)]) == [str(number) for number in range(50)]
    assert len(few(["é" * 200] * 50)) == 2
    assert few([]) == []


def test_of_executions_that_are_gone_nothing_is_shown(shop: Shop) -> None:
    client = signed_in(shop)
    assert "place-1" in client.get("/some?of=place-1&of=nobody&of=" + "x" * 300).text
    assert client.get("/some").status_code == 200


def test_of_those_that_failed_at_more_than_one_step_it_is_told_apart(shop: Shop) -> None:
    broken: list[str] = []

    def refuse(name: str) -> None:
        if name in broken:
            raise ValueError("on strike")

    saga = Saga("both", store=shop.store)
    for name in ("reserve", "charge", "pack"):
        saga.add_task(step(partial(refuse, "" if name != "pack" else name), partial(refuse, name), name=name))
    for saga_id, fails in (("one", ["pack", "reserve"]), ("two", ["pack", "charge", "reserve"])):
        broken[:] = fails
        saga.try_execute(saga_id=saga_id)
    client = TestClient(app(shop.store, sagas=[saga], authorize=lambda *_: "ann"), base_url="http://shop")
    text = unescape(shown(send(client, "/ask", {"do": "skip", "id": ["one", "two"]}).text))
    assert "1 stuck both at reserve after ValueError compensation failed: reserve (" in text
    assert "1 stuck both at reserve after ValueError compensation failed: reserve, charge (" in text
    assert "then it is stuck: compensation failed: charge" in text


def test_no_more_kinds_are_told_than_a_person_reads(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.web.many._KINDS", 1)
    text = shown(send(signed_in(shop), "/ask", {"do": "retry", "id": [*PLACES, "pay-1", "ship-1"]}).text)
    assert "3 stuck place" in text
    assert "stuck pay" not in text
    assert "2 more, which stand in other ways" in text
