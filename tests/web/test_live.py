"""What is sent while it changes: streams, what they cost, and what is asked for where they are cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from starlette.testclient import TestClient

from saga.errors import StorageError
from saga.web import app
from saga.web.live import Live
from tests.kit import until
from tests.web.conftest import Shop, served

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
QUICK = 0.02


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are looked for often, on a machine that has much else to do, too."""
    monkeypatch.setattr("saga.web.page.Live", partial(Live, QUICK, 0.05))
    monkeypatch.setattr("saga.web.live.SHARE", 1)


def events(address: str, **headers: str) -> Iterator[dict[str, str]]:
    """Yield what a browser hears, with lines of comment as ``{"": text}``."""
    headers = {"accept": "text/event-stream", **headers}
    with (
        httpx.Client(timeout=30, trust_env=False) as client,
        client.stream("GET", address, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-transform" in answer.headers["cache-control"]
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            if not line:
                if event:
                    yield event
                event = {}
            else:
                key, _, value = line.partition(": ")
                event[key.rstrip(":")] = f"{event[key]}\n{value}" if key in event else value


def told(stream: Iterator[dict[str, str]]) -> dict[str, str]:
    """Return the next event of a stream."""
    return next(event for event in stream if "data" in event)


@pytest.mark.parametrize("address", ["/?", "/?status=stuck&", "/causes?", "/health?", "/execution?id=place-1&"])
def test_what_changes_is_sent_to_those_who_look(shop: Shop, address: str) -> None:
    page = app(shop.store, sagas=shop.sagas)
    with served(page) as home:
        stream = events(f"{home}{address}live=1")
        first = told(stream)
        assert "compensation failed: charge" in first["data"] or "place" in first["data"]
        shop.operations.skip("place-1", "charge", "seen to")
        shop.operations.skip("place-2", "charge", "seen to")
        assert told(stream)["data"] != first["data"]
        stream.close()  # type: ignore[attr-defined]


def test_who_comes_back_hears_what_they_missed_and_nothing_twice(shop: Shop) -> None:
    with served(app(shop.store, sagas=shop.sagas)) as home:
        address = f"{home}/execution?id=approve-1&live=1"
        first = told(events(address))
        again = events(address, **{"last-event-id": first["id"]})
        assert [next(again), next(again)] == [{"retry": "2000"}, {"": "here"}]
        shop.operations.pause("approve-1", "not yet")
        assert "not yet" in told(again)["data"]
        assert "not yet" in told(events(address, **{"last-event-id": first["id"]}))["data"]


def test_where_streams_are_cut_the_same_is_asked_for(shop: Shop) -> None:
    client = TestClient(app(shop.store, sagas=shop.sagas))
    first = client.get("/execution?id=approve-1&live=1")
    assert first.headers["content-type"].startswith("text/html")
    assert f'data-tag="{first.headers["etag"].strip(chr(34))}"' in client.get("/execution?id=approve-1").text
    assert "<main" not in first.text
    known = {"if-none-match": first.headers["etag"]}
    assert client.get("/execution?id=approve-1&live=1", headers=known).status_code == 304
    shop.operations.pause("approve-1", "not yet")
    second = client.get("/execution?id=approve-1&live=1", headers=known)
    assert "not yet" in second.text


def test_a_store_that_cannot_be_asked_for_a_while_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(app(shop.store, sagas=shop.sagas)) as home:
        stream = events(f"{home}/execution?id=approve-1&live=1")
        first = told(stream)

        def gone(saga_id: str) -> Any:
            raise StorageError("the database does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(shop.store, "get", gone)
            trouble = told(stream)
            assert (trouble["event"], trouble["data"]) == ("trouble", "the database does not answer")
        assert told(stream)["data"] == first["data"]


def test_an_execution_that_is_purged_meanwhile_is_gone(shop: Shop) -> None:
    with served(app(shop.store, sagas=shop.sagas)) as home:
        stream = events(f"{home}/execution?id=ship-1&live=1")
        told(stream)
        assert shop.operations.purge(older_than=0.0, status="completed") == 1
        assert told(stream)["event"] == "gone"


def test_two_hundred_who_look_at_the_same_cost_as_much_as_one(shop: Shop) -> None:
    asked = []
    journal = shop.store.journal

    def counted(saga_id: str) -> Any:
        asked.append(threading.get_ident())
        return journal(saga_id)

    async def all_of_them(home: str) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
            heard = [0] * 200
            ready = asyncio.Event()

            async def look(number: int) -> None:
                headers = {"accept": "text/event-stream"}
                async with client.stream("GET", f"{home}/execution?id=approve-1&live=1", headers=headers) as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("id: "):
                            heard[number] += 1
                            if all(heard):
                                ready.set()
                            if heard[number] == 2:
                                return

            looking = [asyncio.create_task(look(number)) for number in range(200)]
            await asyncio.wait_for(ready.wait(), 60)
            asked.clear()
            await asyncio.to_thread(shop.operations.pause, "approve-1", "not yet")
            await asyncio.wait_for(asyncio.gather(*looking), 60)

    page = app(shop.store, sagas=[])
    shop.store.journal = counted  # type: ignore[method-assign]
    with served(page) as home:
        loop_thread = {thread.ident for thread in threading.enumerate() if "run" in repr(thread)}
        assert loop_thread
        asyncio.run(all_of_them(home))
        assert len(asked) < 100, "each of them asked for itself"
        assert not loop_thread & set(asked), "the store was asked in the event loop"


ODD = ["live=1", "live=1&x=1", "live=2&id=&seen=3", "y[]=1&live=1", "status=&live=1", "q=&live=1&_=17", "live=1&live=1"]


@pytest.mark.parametrize(
    ("page", "addresses"),
    [
        ("/causes", ODD),
        ("/health", ODD),
        ("/", ODD),
        (
            "/",
            [
                "live=1&status=stuck&status=paused",
                "status=paused&live=1&status=stuck&x=1",
                "status=stuck&status=stuck&status=paused&live=1",
            ],
        ),
        ("/execution", ["live=1&id=pay-1", "id=other&id=pay-1&live=1", "id=pay-1&entries=all&live=1&done=retry"]),
    ],
)
def test_all_that_ask_for_the_same_are_told_the_same_once(shop: Shop, page: str, addresses: list[str]) -> None:
    asked = app(shop.store, sagas=shop.sagas)
    with served(asked) as home:
        streams = [events(f"{home}{page}?{address}") for address in addresses]
        assert len({told(stream)["id"] for stream in streams}) == 1
        assert [len(feeds) for feeds in asked._live._feeds.values()] == [1]


def test_beyond_what_can_be_looked_at_at_once_it_is_asked_for_from_time_to_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saga.web.page.Live", partial(Live, QUICK, 0.05, feeds=2, streams=4))
    with served(app(shop.store, sagas=shop.sagas)) as home, httpx.Client(trust_env=False) as client:
        accept = {"accept": "text/event-stream"}

        def code(address: str) -> int:
            with client.stream("GET", home + address, headers=accept) as answer:
                if answer.status_code == 503:
                    assert answer.headers["retry-after"] == "60"
                return int(answer.status_code)

        streams = [events(f"{home}/?q=1&live=1"), events(f"{home}/?q=2&live=1")]
        for stream in streams:
            told(stream)
        assert code("/?q=3&live=1") == 503
        streams += [events(f"{home}/?q=1&live=1"), events(f"{home}/?q=2&live=1")]
        for stream in streams[2:]:
            told(stream)
        assert code("/?q=1&live=1") == 503
        polled = client.get(f"{home}/?q=place-1&live=1")
        assert (polled.status_code, "place-1" in polled.text) == (200, True)
        assert client.get(f"{home}/health").status_code == 200
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]
        until(lambda: code("/?q=4&live=1") == 200)


def test_streams_that_come_at_once_are_no_more_than_there_is_room_for() -> None:
    async def look() -> list[int]:
        async def render() -> str:
            return "text"

        live = Live(60.0, 60.0, feeds=2, streams=3)
        streams = [live.stream(key, render, None) for key in ("a", "b", "c", "a", "b")]
        found = [len([event async for event in _first(stream)]) for stream in streams]
        for stream in streams:
            await stream.aclose()
        return found

    async def _first(stream: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        with suppress(StopAsyncIteration):
            yield await anext(stream)

    assert asyncio.run(look()) == [1, 1, 0, 1, 0]


def test_who_asks_from_time_to_time_is_told_what_others_see(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.web.page.Live", partial(Live, 3600.0))
    asked: list[str] = []
    journal = shop.store.journal
    with served(app(shop.store, sagas=[])) as home, httpx.Client(trust_env=False) as client:
        address = f"{home}/execution?id=pay-1&live=1"
        stream = events(address)
        first = told(stream)
        shop.store.journal = lambda saga_id: asked.append(saga_id) or journal(saga_id)  # type: ignore[method-assign,func-returns-value]
        for _ in range(5):
            assert client.get(address).headers["etag"] == f'"{first["id"]}"'
        assert asked == []


def test_what_was_done_is_told_at_once_and_nothing_older_after_it() -> None:
    async def look() -> list[str]:
        state = ["before"]

        async def render() -> str:
            now = state[0]
            await asyncio.sleep(0)
            return now

        live = Live(60.0, 60.0)
        stays = live.stream("key", render, None)
        told = [await anext(stays), await anext(stays)]
        state[0] = "after"
        live.look_again()
        assert live.shown("key") is None
        comes = live.stream("key", render, None)
        told += [await anext(comes), await anext(comes), await anext(stays)]
        for stream in (stays, comes):
            await stream.aclose()
        return [event.partition("data: ")[2].strip() for event in told]

    assert asyncio.run(look()) == ["", "before", "", "after", "after"]


def test_nothing_is_asked_when_nobody_looks_any_more() -> None:
    async def look() -> None:
        live, asked = Live(0.0, 0.01), 0

        async def render() -> str:
            nonlocal asked
            asked += 1
            return f"text {asked}"

        streams: list[AsyncGenerator[str, None]] = [live.stream("key", render, None) for _ in range(2)]
        for stream in streams:
            while "text" not in await anext(stream):
                pass
        await streams[0].aclose()
        while "text" not in await anext(streams[1]):  # a heartbeat may come first
            pass
        await streams[1].aclose()
        await asyncio.sleep(0)
        before = asked
        for _ in range(10):
            await asyncio.sleep(0)
        assert asked == before
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(look())


@pytest.mark.parametrize("error", [RuntimeError("of a template"), KeyError("x")])
def test_what_cannot_be_rendered_is_told_and_tried_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def look() -> list[str]:
        results: list[Any] = [error, "well again"]

        async def render() -> str:
            result = results.pop(0) if results else "well again"
            if isinstance(result, Exception):
                raise result
            return str(result)

        stream = Live(0.0, 5.0).stream("key", render, None)
        found = [await anext(stream) for _ in range(3)]
        await stream.aclose()
        return found

    _, first, second = asyncio.run(look())
    assert first.startswith("event: trouble\n")
    assert "data: well again" in second
    assert "could not be made" in caplog.text


def test_what_takes_long_is_asked_for_the_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # what makes the other tests quick
    pauses: list[float | None] = []
    wait_for = asyncio.wait_for

    async def waits(waited: Any, timeout: float | None) -> Any:
        if timeout != 60.0:  # it is not who listens
            pauses.append(timeout)
            timeout = 60.0
        return await wait_for(waited, timeout)

    async def look() -> None:
        loop, clock = asyncio.get_running_loop(), 0.0
        monkeypatch.setattr(loop, "time", lambda: clock, raising=False)

        async def render() -> str:
            nonlocal clock
            clock += costs.pop(0)
            return f"text {clock}"

        costs = [0.001, 0.1, 2.0, 0.0]
        live = Live(1.0, 60.0)
        stream = live.stream("key", render, None)
        for _ in range(4):
            await anext(stream)
            live.look_again()
        await stream.aclose()

    monkeypatch.setattr(asyncio, "wait_for", waits)
    asyncio.run(look())
    assert pauses[:3] == pytest.approx([1.0, 5.0, 100.0])
