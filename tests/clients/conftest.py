"""Servers that do what they are asked to, and a place where each kind of failure is met."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.clients import others, peers
from tests.clients.matrix import CONNECT_TIMEOUT, NO_ANSWER, NO_SUCH_HOST, NO_TLS, REFUSED, Kind
from tests.clients.peers import ENOUGH, MARK, Place, Talk, between

_TABLE = "CREATE TABLE charges (what TEXT, amount INT)"


@pytest.fixture(scope="module")
def full_port() -> Iterator[int]:
    with peers.full() as port:
        yield port


@pytest.fixture(scope="module")
def postgres_server(postgres_url: str) -> Iterator[Callable[[], socket.socket]]:
    """A connection to a PostgreSQL server with a table of charges."""
    import psycopg

    (folder,) = parse_qs(urlsplit(postgres_url).query)["host"]

    def connect() -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(f"{folder}/.s.PGSQL.5432")
        return connected

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(_TABLE)
        yield connect
        connection.execute("DROP TABLE charges")


@pytest.fixture(scope="module")
def mysql_server(mariadb_url: str) -> Iterator[Callable[[], socket.socket]]:
    """A connection to a MariaDB server with a table of charges."""
    import pymysql

    port = urlsplit(mariadb_url).port
    assert port is not None
    with (
        pymysql.connect(host="127.0.0.1", port=port, user="root", database="saga", autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(_TABLE)
        yield lambda: socket.create_connection(("127.0.0.1", port))
        cursor.execute("DROP TABLE charges")


@pytest.fixture(scope="module")
def redis_server(redis_port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", redis_port))


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[Callable[[], socket.socket]]:
    with others.grpc_server() as port:
        yield lambda: socket.create_connection(("127.0.0.1", port))


#: What in a request says that this is the one, for those that have a server behind them.
MARKS = {"postgres": b"COMMIT", "mysql": b"\x03COMMIT", "redis": MARK.encode(), "grpc": MARK.encode()}


@pytest.fixture
def meeting(request: pytest.FixtureRequest) -> Callable[[str, Kind], contextlib.AbstractContextManager[Place]]:
    """Give the place where one who speaks so meets a kind of failure."""

    def talk(speaks: str, kind: Kind) -> Talk:
        if speaks in MARKS:
            server = request.getfixturevalue(f"{speaks}_server")
            mark = MARKS[speaks] if kind.ending else b"no request has this in it"
            return between(server, kind.ending or peers.closed, mark, part=1)
        begin, error = (peers.http, peers.http_error) if speaks == "http" else (peers.smtp, peers.smtp_error)
        return begin(kind.ending or error)

    @contextmanager
    def meet(speaks: str, kind: Kind) -> Iterator[Place]:
        if kind is NO_SUCH_HOST:
            yield Place("saga-peer.invalid", 9)
        elif kind is CONNECT_TIMEOUT:
            yield Place("127.0.0.1", request.getfixturevalue("full_port"), connecting=0.2)
        else:
            peer = (
                peers.refusing()
                if kind is REFUSED
                else peers.listening(peers.without_tls if kind is NO_TLS else talk(speaks, kind))
            )
            with peer as port:
                # What has one limit for all must have connected by then, to a peer that has nothing else to do.
                answering = 1.0 if kind is NO_ANSWER else ENOUGH
                yield Place("127.0.0.1", port, kind is NO_TLS, kind.asks, answering=answering)

    return meet
