"""The clients of mail, Redis and gRPC: each function asks once for something to be done."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from tests.clients.peers import MARK, Asks, Place


def smtplib_(place: Place) -> None:
    context = {"context": ssl.create_default_context()} if place.tls else {}
    kind = smtplib.SMTP_SSL if place.tls else smtplib.SMTP
    with kind(place.host, place.port, "here", timeout=place.either, **context) as mail:
        mail.sendmail("shop@saga.invalid", ["you@saga.invalid"], f"Subject: {MARK}\r\n\r\n{MARK}\r\n")


def redis_(place: Place) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with redis.Redis(
        place.host,
        place.port,
        socket_timeout=place.answering,
        socket_connect_timeout=place.connecting,
        retry=Retry(NoBackoff(), 0),
        ssl=place.tls,
    ) as client:
        if place.asks is Asks.NONSENSE:
            client.set("word", MARK)
            client.incr("word")
        client.incr(MARK)


def redis_async(place: Place) -> None:
    import asyncio

    import redis.asyncio as redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    async def ask() -> None:
        async with redis.Redis(
            host=place.host,
            port=place.port,
            socket_timeout=place.answering,
            socket_connect_timeout=place.connecting,
            retry=Retry(NoBackoff(), 0),
            ssl=place.tls,
        ) as client:
            if place.asks is Asks.NONSENSE:
                await client.set("word", MARK)
                await client.incr("word")
            await client.incr(MARK)

    asyncio.run(ask())


_METHOD: Final = "/saga.Peer/Charge"
_OPTIONS: Final = [("grpc.enable_http_proxy", 0)]


@contextmanager
def grpc_server() -> Iterator[int]:
    """Run a server that does what it is asked to, but for what is to be refused; give its port."""
    import grpc

    def charge(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"nothing":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "charge what?")
        return request

    class Charges(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(charge)

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[Charges()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


def grpc_(place: Place) -> None:
    import grpc

    target = f"{place.host}:{place.port}"
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials(), _OPTIONS)
        if place.tls
        else grpc.insecure_channel(target, _OPTIONS)
    )
    with channel:
        charge: Callable[..., bytes] = channel.unary_unary(_METHOD)
        charge(b"nothing" if place.asks is Asks.NONSENSE else MARK.encode(), timeout=place.either)


def grpc_aio(place: Place) -> None:
    import asyncio

    import grpc.aio

    async def ask() -> None:
        target = f"{place.host}:{place.port}"
        channel = (
            grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), _OPTIONS)
            if place.tls
            else grpc.aio.insecure_channel(target, _OPTIONS)
        )
        async with channel:
            await channel.unary_unary(_METHOD)(
                b"nothing" if place.asks is Asks.NONSENSE else MARK.encode(), timeout=place.either
            )

    asyncio.run(ask())
