"""The clients of HTTP, and the streams below them: each function asks once for something to be done."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.request
from typing import Final

from tests.clients.peers import MARK, Place

_BODY: Final = json.dumps({"what": MARK}).encode()


def http_client(place: Place) -> None:
    kind = http.client.HTTPSConnection if place.tls else http.client.HTTPConnection
    connection = kind(place.host, place.port, timeout=place.either)
    try:
        connection.request("POST", "/", _BODY)
        with connection.getresponse() as answer:
            answer.read()
    finally:
        connection.close()


def urllib_request(place: Place) -> None:
    # Not urlopen(): that asks the environment for proxies.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(place.url, _BODY, timeout=place.either) as answer:
        answer.read()


def urllib3_(place: Place) -> None:
    import urllib3

    with urllib3.PoolManager(timeout=urllib3.Timeout(connect=place.connecting, read=place.answering)) as pool:
        pool.request("POST", place.url, body=_BODY)


def requests_(place: Place) -> None:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.post(place.url, _BODY, timeout=(place.connecting, place.answering)).raise_for_status()


def httpx_(place: Place) -> None:
    import httpx

    limits = httpx.Timeout(place.answering, connect=place.connecting)
    with httpx.Client(timeout=limits, trust_env=False) as client:
        client.post(place.url, content=_BODY).raise_for_status()


def httpx_async(place: Place) -> None:
    import httpx

    async def ask() -> None:
        limits = httpx.Timeout(place.answering, connect=place.connecting)
        async with httpx.AsyncClient(timeout=limits, trust_env=False) as client:
            (await client.post(place.url, content=_BODY)).raise_for_status()

    asyncio.run(ask())


def httpcore_(place: Place) -> None:
    import httpcore

    limits = {"timeout": {"connect": place.connecting, "read": place.answering}}
    with httpcore.ConnectionPool() as pool:
        pool.request("POST", place.url, content=_BODY, extensions=limits)


def aiohttp_(place: Place) -> None:
    import aiohttp

    async def ask() -> None:
        limits = aiohttp.ClientTimeout(sock_connect=place.connecting, sock_read=place.answering)
        async with (
            aiohttp.ClientSession(timeout=limits, raise_for_status=True) as session,
            session.post(place.url, data=_BODY) as answer,
        ):
            await answer.read()

    asyncio.run(ask())


def botocore_(place: Place) -> None:
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    session.set_credentials("nobody", "nothing")
    config = Config(
        connect_timeout=place.connecting, read_timeout=place.answering, retries={"total_max_attempts": 1}, proxies={}
    )
    client = session.create_client("sqs", "eu-west-1", endpoint_url=place.url, config=config)
    try:
        client.send_message(QueueUrl=f"{place.url}queue", MessageBody=MARK)
    finally:
        client.close()


def asyncio_streams(place: Place) -> None:
    async def ask() -> None:
        async with asyncio.timeout(place.connecting):
            reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.tls or None)
        try:
            writer.write(f"POST / HTTP/1.1\r\nContent-Length: {len(_BODY)}\r\n\r\n".encode() + _BODY)
            await writer.drain()
            async with asyncio.timeout(place.answering):
                await reader.readuntil(b"}")
        finally:
            writer.close()

    asyncio.run(ask())
