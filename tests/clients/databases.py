"""The clients of databases: each function writes a row in a transaction and commits it."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from tests.clients.peers import MARK, Asks, Place

WRITE: Final = f"INSERT INTO charges (what) VALUES ('{MARK}')"
_NONSENSE: Final = "INSERT INTO charges (amount) VALUES ('much')"


def _statement(place: Place, its_end: str = "SELECT pg_terminate_backend(pg_backend_pid())") -> str:
    return {Asks.WORK: WRITE, Asks.NONSENSE: _NONSENSE, Asks.ITS_END: its_end}[place.asks]


def _postgres(place: Place) -> dict[str, Any]:
    return {
        "host": place.host,
        "port": place.port,
        "user": "postgres",
        "dbname": "postgres",
        "connect_timeout": math.ceil(place.connecting),  # libpq makes 2 of 1
        "sslmode": "require" if place.tls else "disable",
    }


def psycopg_(place: Place) -> None:
    import psycopg

    with psycopg.connect(**_postgres(place)) as connection:
        connection.execute(_statement(place))


def psycopg_async(place: Place) -> None:
    import psycopg

    async def ask() -> None:
        async with await psycopg.AsyncConnection.connect(**_postgres(place)) as connection:
            await connection.execute(_statement(place))

    asyncio.run(ask())


def psycopg2_(place: Place) -> None:
    import psycopg2

    connection = psycopg2.connect(**_postgres(place))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(_statement(place))
    finally:
        connection.close()


def asyncpg_(place: Place) -> None:
    import asyncpg

    async def ask() -> None:
        connection = await asyncpg.connect(
            host=place.host,
            port=place.port,
            user="postgres",
            database="postgres",
            timeout=place.connecting,
            command_timeout=place.answering,
            ssl="require" if place.tls else "disable",
        )
        try:
            async with connection.transaction():
                await connection.execute(_statement(place))
        finally:
            connection.terminate()

    asyncio.run(ask())


_KILL: Final = "KILL CONNECTION_ID()"


def pymysql_(place: Place) -> None:
    import pymysql

    with pymysql.connect(
        host=place.host,
        port=place.port,
        user="root",
        database="saga",
        connect_timeout=place.connecting,
        read_timeout=place.answering,
    ) as connection:
        with connection.cursor() as cursor:
            cursor.execute(_statement(place, _KILL))
        connection.commit()


def _sqlalchemy(url: str, statement: str, **connect: Any) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, connect_args=connect)
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement))
    finally:
        engine.dispose()


def sqlalchemy_psycopg(place: Place) -> None:
    _sqlalchemy("postgresql+psycopg://", _statement(place), **_postgres(place))


def sqlalchemy_psycopg2(place: Place) -> None:
    _sqlalchemy("postgresql+psycopg2://", _statement(place), **_postgres(place))


def sqlalchemy_pymysql(place: Place) -> None:
    url = f"mysql+pymysql://root@{place.host}:{place.port}/saga"
    _sqlalchemy(url, _statement(place, _KILL), connect_timeout=place.connecting, read_timeout=place.answering)
