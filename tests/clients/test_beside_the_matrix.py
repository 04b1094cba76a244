"""What the matrix has no place for: the names in the table, commands that are sent again, proxies, pools, limits."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from saga import LOST_ANSWERS
from saga.lost_answers import CONNECTING, TABLE
from tests.clients import databases
from tests.clients.matrix import CLOSED, Kind
from tests.clients.peers import MARK, Place, between, closed, cut_off, http, listening, refusing, reset

#: What needs a compiler or a program to be installed, or is more than a client. Stand-ins called so are in tests/unit.
NOT_INSTALLED = {"MySQLdb", "psycopg_pool"}
#: What defines the classes of a package, where that is not the package itself.
DEFINED_IN = {
    "saga": "saga.errors",
    "http": "http.client",
    "urllib": "urllib.error",
    "urllib3": "urllib3.exceptions",
    "sqlalchemy": "sqlalchemy.exc",
    "botocore": "botocore.exceptions",
    "celery": "celery.exceptions",
    "billiard": "billiard.exceptions",
}


def package_of(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("package", sorted(TABLE.keys() - NOT_INSTALLED))
def test_the_names_in_the_table_are_the_clients_own(package: str) -> None:
    importlib.import_module(DEFINED_IN.get(package, package))

    modules = [vars(module) for name, module in list(sys.modules.items()) if package_of(name) == package]
    there = {
        name
        for name in TABLE[package]
        for module in modules
        if isinstance(kind := module.get(name), type) and package_of(kind.__module__) == package
    }
    missing = TABLE[package].keys() - there
    assert not missing, f"saga/lost_answers.py: {package} has no {missing}"


@pytest.mark.parametrize("package", sorted(CONNECTING.keys() - NOT_INSTALLED))
def test_the_functions_that_connect_are_there(package: str) -> None:
    modules = [importlib.import_module(name) for name in {**DEFINED_IN, "asyncio": "asyncio.base_events"}.values()]
    modules += [importlib.import_module(package)]
    for name in CONNECTING[package]:
        found = [
            function
            for module in modules
            for holder in (module, *vars(module).values())
            if callable(function := getattr(holder, name, None))
            and str(getattr(function, "__module__", "")).startswith(package)
        ]
        assert found, f"saga/lost_answers.py: {package} has no function {name}"


def test_a_command_of_redis_that_was_lost_and_could_not_be_sent_again_is_unknown(
    redis_server: Callable[[], socket.socket],
) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    connections = itertools.count(1)
    first = between(redis_server, reset, MARK.encode(), 1)

    def once(client: socket.socket) -> None:
        if next(connections) == 1:
            first(client)

    def incremented(port: int) -> bool:
        with (
            redis.Redis("127.0.0.1", port, retry=Retry(NoBackoff(), 1)) as client,
            pytest.raises(redis.ConnectionError) as caught,
        ):
            client.incr(MARK)
        return LOST_ANSWERS(caught.value)

    with listening(once) as port:
        assert incremented(port)
    assert next(connections) == 3, "it was sent again"
    with refusing() as port:
        assert not incremented(port), "none of its attempts was heard"


@pytest.mark.parametrize("client", ["psycopg_", "psycopg2_", "asyncpg_"])
def test_what_was_lost_at_the_commit_had_been_written(
    client: str,
    postgres_url: str,
    meeting: Callable[[str, Kind], AbstractContextManager[Place]],
) -> None:
    import psycopg

    with meeting("postgres", CLOSED) as place, psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DELETE FROM charges")
        with pytest.raises(Exception, match="closed") as caught:
            getattr(databases, client)(place)
        rows = connection.execute("SELECT what FROM charges").fetchall()
    assert LOST_ANSWERS(caught.value)
    assert rows == [(MARK,)]


def test_a_proxy_that_is_not_there_is_not_done() -> None:
    import httpx
    import requests

    with refusing() as port, requests.Session() as session:
        proxy = f"http://127.0.0.1:{port}"
        session.trust_env = False
        with pytest.raises(requests.exceptions.ProxyError) as caught:
            session.post("http://saga-peer.invalid/", proxies={"http": proxy})
        assert not LOST_ANSWERS(caught.value)
        with httpx.Client(proxy=proxy, trust_env=False) as client, pytest.raises(httpx.ConnectError) as refused:
            client.post("http://saga-peer.invalid/")
        assert not LOST_ANSWERS(refused.value)


def test_no_connection_of_a_pool_was_free() -> None:
    import sqlalchemy
    from sqlalchemy.pool import QueuePool

    engine = sqlalchemy.create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect(), pytest.raises(sqlalchemy.exc.TimeoutError) as caught:
        engine.connect()
    engine.dispose()
    assert not LOST_ANSWERS(caught.value)


def test_of_a_driver_that_is_not_in_the_table_counts_what_sqlalchemy_found() -> None:
    import asyncpg
    from sqlalchemy.exc import OperationalError

    class Error(Exception):
        pass

    for gone in (True, False):
        assert LOST_ANSWERS(OperationalError("COMMIT", {}, Error("end of file"), connection_invalidated=gone)) is gone
    # SQLAlchemy's own drivers of asyncpg raise errors of their own, whose cause is asyncpg's.
    adapted = Error("connection was closed")
    adapted.__cause__ = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    assert LOST_ANSWERS(OperationalError("COMMIT", {}, adapted))


def test_a_stream_of_botocore_that_was_cut_off_is_unknown() -> None:
    import botocore.session
    from botocore.config import Config

    def stored(client: socket.socket, answer: bytes) -> None:
        cut_off(client, b"HTTP/1.1 200 OK\r\nContent-Length: 4711\r\n\r\na part")

    session = botocore.session.Session()
    session.set_credentials("nobody", "nothing")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, s3={"addressing_style": "path"})
    with listening(http(stored)) as port:
        client = session.create_client("s3", "eu-west-1", endpoint_url=f"http://127.0.0.1:{port}", config=config)
        body = client.get_object(Bucket="bucket", Key=MARK)["Body"]
        with contextlib.closing(body), pytest.raises(botocore.exceptions.ResponseStreamingError) as caught:
            body.read()
        client.close()
    assert LOST_ANSWERS(caught.value)


def test_the_time_limit_of_celery_is_unknown() -> None:
    import billiard.exceptions
    import celery.exceptions

    for module in (celery.exceptions, billiard.exceptions):
        limit: Any = module.SoftTimeLimitExceeded
        assert LOST_ANSWERS(limit())
    assert LOST_ANSWERS(celery.exceptions.TimeoutError("The operation timed out."))
    assert not LOST_ANSWERS(celery.exceptions.Reject("no"))


def test_smtp_that_was_never_connected_is_not_done() -> None:
    import smtplib

    with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
        smtplib.SMTP().sendmail("a@saga.invalid", ["b@saga.invalid"], "")
    assert not LOST_ANSWERS(caught.value)
    with listening(closed_at_once) as port, pytest.raises(smtplib.SMTPServerDisconnected) as caught:
        smtplib.SMTP("127.0.0.1", port)
    assert not LOST_ANSWERS(caught.value), "it was lost while it connected"


def closed_at_once(client: socket.socket) -> None:
    closed(client, b"")


@pytest.mark.parametrize(
    "name", ["AuthenticationError", "AuthorizationError", "BusyLoadingError", "MaxConnectionsError", "ReadOnlyError"]
)
def test_what_redis_refuses_is_not_done(name: str) -> None:
    import redis.exceptions

    assert not LOST_ANSWERS(getattr(redis.exceptions, name)("no"))


@pytest.mark.parametrize("state", ["08006", "08007", "57P01", "57P02", "40003"])
def test_a_state_of_postgresql_that_says_nothing_of_the_outcome_is_unknown(state: str) -> None:
    assert all(map(LOST_ANSWERS, of_state(state)))


@pytest.mark.parametrize("state", ["08001", "08004", "57P03", "40001", "53300", "57014"])
def test_any_other_state_of_postgresql_is_not_done(state: str) -> None:
    assert not any(map(LOST_ANSWERS, of_state(state)))


def of_state(state: str) -> list[Exception]:
    import asyncpg
    import psycopg

    return [psycopg.errors.lookup(state)("what"), asyncpg.PostgresError.new({"C": state, "M": "what"})]
