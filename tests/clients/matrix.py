"""Which clients there are, which kinds of failure, and what the page says of each, in the two tables that it includes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.clients import databases, others, web
from tests.clients.peers import Asks, Ending, Place, closed, cut_off, reset, silent

DOCS: Final = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Kind:
    """A kind of failure.

    :ivar ending: what the peer does once the request has come, where it comes so far.
    :ivar cells: what the page may say of it; the first, unless a client cannot tell.
    """

    name: str
    cells: tuple[str, ...]
    ending: Ending | None = None
    asks: Asks = Asks.WORK


#: What a client says nothing of: it takes what has come as the answer. Whoever calls it looks at that.
NO_ERROR: Final = "no error"
_BEFORE: Final = ("not done", "unknown (cannot tell)")
_AFTER: Final = ("unknown", NO_ERROR)

REFUSED: Final = Kind("refused", _BEFORE)
NO_SUCH_HOST: Final = Kind("no such host", _BEFORE)
CONNECT_TIMEOUT: Final = Kind("connecting timed out", _BEFORE)
NO_TLS: Final = Kind("no TLS", _BEFORE)
NO_ANSWER: Final = Kind("no answer in time", _AFTER, silent)
RESET: Final = Kind("reset", _AFTER, reset)
CLOSED: Final = Kind("closed", _AFTER, closed)
CUT_OFF: Final = Kind("answer cut off", _AFTER, cut_off)
ENDED: Final = Kind("session ended", _AFTER, None, Asks.ITS_END)
ERROR: Final = Kind("error answer", ("not done", NO_ERROR), None, Asks.NONSENSE)

#: The kinds of each table: before the request has come, and after.
TABLES: Final = {
    "clients_before.csv": (REFUSED, NO_SUCH_HOST, CONNECT_TIMEOUT, NO_TLS),
    "clients_after.csv": (NO_ANSWER, RESET, CLOSED, CUT_OFF, ENDED, ERROR),
}
KINDS: Final = tuple(kind for kinds in TABLES.values() for kind in kinds)


@dataclass(frozen=True)
class Client:
    """A client, and what it speaks.

    :ivar lacks: kinds of failure that it does not know.
    """

    name: str
    call: Callable[[Place], None]
    speaks: str
    lacks: tuple[Kind, ...] = (ENDED,)


_DATABASES = (
    # libpq waits for an answer for as long as there is a connection.
    Client("psycopg", databases.psycopg_, "postgres", (NO_ANSWER,)),
    Client("psycopg, async", databases.psycopg_async, "postgres", (NO_ANSWER,)),
    Client("psycopg2", databases.psycopg2_, "postgres", (NO_ANSWER,)),
    Client("asyncpg", databases.asyncpg_, "postgres", ()),
    # In MySQL it is the server that begins.
    Client("PyMySQL", databases.pymysql_, "mysql", (NO_TLS,)),
    Client("SQLAlchemy, psycopg", databases.sqlalchemy_psycopg, "postgres", (NO_ANSWER,)),
    Client("SQLAlchemy, psycopg2", databases.sqlalchemy_psycopg2, "postgres", (NO_ANSWER,)),
    Client("SQLAlchemy, PyMySQL", databases.sqlalchemy_pymysql, "mysql", (NO_TLS,)),
)
CLIENTS: Final = (
    Client("http.client", web.http_client, "http"),
    Client("urllib.request", web.urllib_request, "http"),
    Client("urllib3", web.urllib3_, "http"),
    Client("requests", web.requests_, "http"),
    Client("httpx", web.httpx_, "http"),
    Client("httpx, async", web.httpx_async, "http"),
    Client("httpcore", web.httpcore_, "http"),
    Client("aiohttp", web.aiohttp_, "http"),
    Client("botocore", web.botocore_, "http"),
    Client("asyncio streams", web.asyncio_streams, "http", (ENDED, ERROR)),
    Client("smtplib", others.smtplib_, "smtp"),
    Client("redis", others.redis_, "redis"),
    Client("redis, async", others.redis_async, "redis"),
    Client("grpc", others.grpc_, "grpc"),
    Client("grpc.aio", others.grpc_aio, "grpc"),
    *_DATABASES,
)


def said() -> dict[str, dict[str, str]]:
    """Return what the page says, by client and kind."""
    cells: dict[str, dict[str, str]] = {}
    for table in TABLES:
        with (DOCS / table).open(encoding="utf-8", newline="") as page:
            for row in csv.DictReader(page):
                cells.setdefault(row.pop("client"), {}).update(row)
    return cells


def say(found: dict[str, dict[str, str]]) -> None:
    """Let the page say what was found, and of what nobody looked for what it said."""
    before = said()
    for table, kinds in TABLES.items():
        with (DOCS / table).open("w", encoding="utf-8", newline="") as page:
            rows = csv.writer(page, lineterminator="\n")
            rows.writerow(["client", *(kind.name for kind in kinds)])
            for client in CLIENTS:
                cells = before.get(client.name, {}) | found.get(client.name, {})
                rows.writerow([client.name, *(cells.get(kind.name, "") for kind in kinds)])
