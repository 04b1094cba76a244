"""A pooler (PgBouncer in transaction mode) between the store and PostgreSQL: each transaction may have another connection."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from saga.storage import Append, Store
from saga.storage.postgres import PostgresStore
from saga.storage.sqlalchemy import SQLAlchemyStore
from tests.storage.contract import at_once


def _through_sqlalchemy(url: str, prefix: str) -> Store:
    return SQLAlchemyStore(url.replace("postgresql://", "postgresql+psycopg://"), prefix=prefix)


@pytest.fixture(
    params=[lambda url, prefix: PostgresStore(url, prefix=prefix), _through_sqlalchemy], ids=["postgres", "sqlalchemy"]
)
def open_through(request) -> Callable[[str, str], Store]:
    return request.param


def test_many_that_open_it_at_once_make_its_tables_once(open_through, pooler_url, prefix, postgres_url):
    stores = at_once(6, lambda n: open_through(pooler_url, prefix))
    with psycopg.connect(postgres_url) as connection:
        held = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert held == (0,)
    for store in stores:
        assert store.list().executions == ()
        store.close()


def test_what_many_threads_store_is_there(open_through, pooler_url, postgres_url, prefix, stored):
    def work(n: int) -> None:
        with open_through(pooler_url, prefix) as store:  # each opens its connections in another order, for other statements
            for number in range(12):
                lease = stored.create(store, f"{n}-{number}")
                for seq in range(2, 2 + (n + number) % 3):
                    store.append(lease, [stored.entry(seq)])
                store.post(lease.saga_id, "{}")
                [beat] = store.renew("a", [lease], 60.0)
                assert beat.mail
                [message] = store.inbox(lease.saga_id)
                end = Append(lease, [stored.entry(10)], "completed", True, [message.id])
                if number % 2 == 0 or store.append_each([end]) != [True]:
                    store.append(lease, end.entries, status="completed", release=True, taken=end.taken)

    open_through(pooler_url, prefix).close()
    at_once(8, work)
    with open_through(postgres_url, prefix) as store:
        for n in range(8):
            for number in range(12):
                row, seqs = store.get(f"{n}-{number}"), [entry.seq for entry in store.journal(f"{n}-{number}")]
                assert (row.status, row.owner) == ("completed", None)
                assert seqs == [1, *range(2, 2 + (n + number) % 3), 10]
        assert store.purge(updated_before=store.now() + 1, status=["completed"]) == 96


def test_only_through_a_pooler_nothing_is_prepared(pooler_url, postgres_url, prefix):
    for url, prepares in ((pooler_url, False), (postgres_url, True)):
        with PostgresStore(url, prefix=prefix) as store:
            connection = store._pool.lend()
            assert (connection.prepare_threshold is not None) is prepares
            store._pool.take_back(connection)
