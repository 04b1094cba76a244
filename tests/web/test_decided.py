"""What persons decided about an execution, and what came of it: near the top of its page, and nothing before it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from saga.operations import JournalLine
from saga.recovery import Recovery
from saga.web import app
from saga.web.decided import decided
from saga.worker import Worker
from tests.web.conftest import Shop
from tests.web.test_pages import Elements


def shown(shop: Shop, saga_id: str) -> str:
    page = TestClient(app(shop.store, sagas=shop.sagas)).get("/execution", params={"id": saga_id}).text
    assert 'class="notice good"' not in page
    section = page.partition('class="decided"')[2].partition("</section>")[0]
    return " ".join(Elements(section).text.partition(">")[2].split())


def refuse_again(shop: Shop) -> str:
    shop.operations.retry("place-1", "the bank is open")
    Recovery(shop.store, shop.sagas).run_once()
    return "place-1"


def undo_well(shop: Shop) -> str:
    shop.operations.retry("place-1", "the bank is open")
    shop.refuses = False
    Recovery(shop.store, shop.sagas).run_once()
    return "place-1"


def wait(shop: Shop) -> str:
    shop.operations.retry("place-1", "the bank is open")
    return "place-1"


def rest(shop: Shop) -> str:
    shop.operations.pause("approve-1", "not today")
    return "approve-1"


def send(shop: Shop) -> str:
    assert shop.store.claim("another", 600.0, saga_id="approve-1")
    shop.operations.pause("approve-1", "not today")
    return "approve-1"


def signal(shop: Shop) -> str:
    Worker(shop.store, shop.sagas).run_once()
    shop.operations.signal("approve-1", "approved", "she called", {"secret": 7})
    return "approve-1"


def signal_well(shop: Shop) -> str:
    signal(shop)
    Worker(shop.store, shop.sagas).run_once()
    return "approve-1"


def twice(shop: Shop) -> str:
    refuse_again(shop)
    shop.operations.skip("place-1", "charge", "paid back by cheque")
    Recovery(shop.store, shop.sagas).run_once()
    return "place-1"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (wait, ["retry by the test: the bank is open", "→ not known yet: "]),
        (refuse_again, ["retry by the test: the bank is open", "→ it is stuck: compensation failed: charge"]),
        (undo_well, ["retry by the test: the bank is open", "→ it is compensated"]),
        (rest, ["pause by the test: not today", "→ it is paused"]),
        (send, ["pause by the test: not today on its way→ on its way to whoever runs this"]),
        (signal, ["signal approved by the test: she called on its way→ on its way to whoever runs this"]),
        (signal_well, ["signal approved by the test: she called", "→ it is completed"]),
        (twice, ["skip charge by the test: paid back by cheque", "→ it is compensated", "retry by", "→ it is stuck: "]),
    ],
)
def test_what_was_decided_is_told_with_what_came_of_it(shop: Shop, act: Callable[[Shop], str], says: list[str]) -> None:
    told = shown(shop, act(shop))
    at = [told.find(text) for text in says]
    assert -1 not in at, told
    assert at == sorted(at), "the newest comes first"


def test_of_what_nobody_decided_nothing_is_told(shop: Shop) -> None:
    assert shown(shop, "place-1") == ""


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("retry by bob: why not: because", ("retry", "bob", "why not: because")),
        ("signal approved", None),
        ('{"half": ', None),
    ],
)
def test_what_did_not_fit_any_more_when_it_came_is_told(shop: Shop, message: str, told: tuple[str, str, str] | None) -> None:
    view = shop.operations.show("place-1")
    refused = JournalLine(99, 1.0, "MessageRefused", None, {"message": message, "reason": "there is nothing to retry"})
    stuck = JournalLine(100, 2.0, "SagaStuck", None, {"reason": "again"})
    found = decided(replace(view, journal=(*view.journal, refused, stuck)))
    assert [(one.decision.action, one.decision.who, one.decision.why) for one in found] == ([told] if told else [])
    assert [one.came for one in found] == ["it was refused: there is nothing to retry"] * len(found)
