"""However much there is, a page has no more of it than a person reads: it says how much more there is, and leads to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from saga import Retry, Saga, parallel, step
from saga.operations import Operations
from saga.storage import MemoryStore
from saga.storage.records import NewWorker
from saga.web import app

MOST = 400_000
"""Bytes of a page."""


def fail() -> None:
    raise ValueError("the bank is closed. " * 50)


def deep(depth: int = 400) -> None:
    if not depth:
        raise ValueError("deep " * 400)
    deeper(depth - 1)


def deeper(depth: int) -> None:  # a traceback tells of the same line again and again but once
    deep(depth)


def executed(store: MemoryStore, saga: Saga) -> list[Saga]:
    saga.try_execute(saga_id="it")
    return [saga]


def many_attempts(store: MemoryStore) -> list[Saga]:
    return executed(store, Saga("charge", store=store).add_task(step(fail, name="charge", retry=Retry(max_attempts=600))))


def wide_and_stuck(store: MemoryStore) -> list[Saga]:
    wide = parallel(*[step(lambda: "x" * 1000, fail, name=f"item-{number}") for number in range(250)])
    return executed(store, Saga("wide", store=store).add_task(wide).add_task(step(fail, name="last")))


def long_traceback(store: MemoryStore) -> list[Saga]:
    return executed(store, Saga("deep", store=store).add_task(step(deep, name="deep", retry=Retry(max_attempts=20))))


def many_causes(store: MemoryStore) -> list[Saga]:
    for number in range(70):
        saga = Saga(f"saga-{number}", store=store)
        saga.add_task(step(lambda: None, fail, name="charge")).add_task(step(fail, name="pack"))
        saga.try_execute(saga_id=f"it-{number}")
    return []


def many_versions(store: MemoryStore) -> list[Saga]:
    for number in range(130):
        Saga(f"saga-{number}", store=store).add_task(step(fail, name="pack")).submit(saga_id=f"it-{number}")
        store.hold(f"saga-{number}", "", "ann", "why " * 50)
    definitions = [(f"saga-{number}", "1", "f" * 64) for number in range(130)]
    for number in range(130):
        store.announce(NewWorker(f"worker-{number}", "host", number, definitions), 600.0)
    return []


def page_of(fill: Callable[[MemoryStore], list[Saga]]) -> TestClient:
    store = MemoryStore()
    return TestClient(app(store, sagas=fill(store), authorize=lambda *_: "ann"), base_url="http://shop")


@pytest.fixture(scope="module", params=[many_attempts, wide_and_stuck, long_traceback, many_causes, many_versions])
def client(request: pytest.FixtureRequest) -> TestClient:
    return page_of(request.param)


@pytest.fixture(scope="module")
def attempts() -> TestClient:
    return page_of(many_attempts)


@pytest.fixture(scope="module")
def wide() -> TestClient:
    return page_of(wide_and_stuck)


@pytest.mark.parametrize("address", ["/", "/causes", "/health", "/execution?id=it", "/execution?id=it-1", "/?status=stuck"])
def test_no_page_is_long(client: TestClient, address: str) -> None:
    for one in (address, f"{address}{'&' if '?' in address else '?'}live=1"):
        assert len(client.get(one).content) < MOST


def pages(client: TestClient, address: str, link: str) -> Iterator[str]:
    """Yield a page, and those that a link on each leads to."""
    found: str | None = address
    while found is not None:
        page = client.get(urljoin("http://shop/", found)).text
        yield page
        again = re.search(f'<a href="([^"]+)">{link}</a>', page)
        found = None if again is None else unescape(again[1]).partition("#")[0]


def test_a_journal_is_there_whole_page_by_page(attempts: TestClient) -> None:
    shown = [re.findall(r'<tr><td class="number">(\d+)<', page) for page in pages(attempts, "/execution?id=it", "← Older")]
    entries = [int(number) for page in shown[::-1] for number in page]
    assert len(shown) > 5
    assert entries == list(range(1, entries[-1] + 1))
    newest = attempts.get("/execution?id=it").text
    assert f"200 of {entries[-1]:,} entries" in newest
    assert "<code>saga journal it</code>" in newest
    (first,) = re.findall(r'<a href="([^"]+)">← First</a>', newest)
    page = attempts.get(urljoin("http://shop/", unescape(first).partition("#")[0])).text
    assert '<td class="number">1<' in page
    assert '<td class="number">200<' in page
    assert "← Older" not in page
    assert "Newest →" in page


def test_errors_are_shown_newest_first_with_the_one_that_was_first(attempts: TestClient) -> None:
    def shown(page: str) -> list[int]:
        return [int(number) for number in re.findall(r'id="error-(\d+)"', page)]

    newest = attempts.get("/execution?id=it").text
    assert shown(newest) == [*range(600, 580, -1), 1]
    assert "600 errors" in newest
    assert "<code>saga show --traceback it</code>" in newest
    every = [number for page in pages(attempts, "/execution?id=it", "Older →") for number in shown(page)]
    assert sorted(set(every)) == list(range(1, 601))


def test_of_many_steps_those_come_first_that_concern_a_person(wide: TestClient) -> None:
    shown = [re.findall(r'class="step"><bdi>([^<]+)<', page) for page in pages(wide, "/execution?id=it", "→")]
    assert len(shown) == 3
    assert sorted(name for page in shown for name in page) == sorted([*(f"item-{number}" for number in range(250)), "last"])
    assert shown[0][0] == "item-0"
    assert shown[-1][-1] == "last"
    newest = " ".join(re.sub("<[^>]+>", " ", wide.get("/execution?id=it").text).split())
    assert "251 steps, what concerns a person first: undo failed 250 , failed 1" in newest
    assert "222 more can be done in the same way; all are told by saga show it" in newest
    assert "its saga has 251 steps, too many to be drawn here" in newest


@pytest.mark.parametrize("asked", ["steps=0", "steps=x", "errors=-1", "before=1e3", "before=9999999999"])
def test_a_part_that_there_cannot_be_is_refused(attempts: TestClient, asked: str) -> None:
    answer = attempts.get(f"/execution?id=it&{asked}")
    assert answer.status_code == 400
    assert "give a whole number" in answer.text


@pytest.mark.parametrize("asked", ["steps=900", "errors=900", "before=1"])
def test_a_part_past_the_end_shows_no_more_than_there_is(attempts: TestClient, asked: str) -> None:
    assert attempts.get(f"/execution?id=it&{asked}").status_code == 200


def test_of_a_long_traceback_the_end_is_shown() -> None:
    page = page_of(long_traceback).get("/execution?id=it").text
    assert re.search(r"\.\.\. \d+ lines \.\.\.", page)
    assert page.count("ValueError: deep") >= 20
    assert "deep " * 250 not in page


def test_what_fleets_have_too_much_of_is_counted() -> None:
    page = page_of(many_versions).get("/health").text
    assert "30 more are left out; <code>saga workers</code>" in page
    assert "and 120 more</td>" in page


def test_causes_that_stay_as_they_are_cost_one_question() -> None:
    store = MemoryStore()
    many_causes(store)
    client = TestClient(app(store, authorize=lambda *_: "ann"))
    read: list[str] = []
    journal, causes = store.journal, store.causes
    store.journal = lambda saga_id: read.append(saga_id) or journal(saga_id)  # type: ignore[method-assign,func-returns-value]
    store.causes = lambda name=None: read.append("causes") or causes(name)  # type: ignore[method-assign,func-returns-value]
    costs, offered = [], []
    for _ in range(7):
        page = client.get("/causes").text
        costs.append(len(read))
        offered.append(page.count('name="do" value="retry:'))
        read.clear()
    assert costs == [11, 11, 11, 11, 11, 1, 1]
    assert offered == [10, 20, 30, 40, 50, 50, 50]
    assert "20 rarer causes are left out" in page
    Operations(store, "ann").skip("it-3", "charge", "so")
    read.clear()
    assert client.get("/causes").text.count('name="do" value="retry:') == 50
    assert "it-3" not in [saga_id for saga_id in read if saga_id != "causes"]
