"""Claims in PostgreSQL that others get in the way of, and definitions of one name side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from saga.storage import Wanted
from saga.storage.postgres import PostgresStore
from tests.kit import until
from tests.storage.contract import ids


@pytest.fixture
def store(postgres_url, prefix):
    with PostgresStore(postgres_url, prefix=prefix) as store:
        yield store


@pytest.mark.parametrize("wanted", [None, [Wanted("order")], [Wanted("order", "1", "f", limit=9)]])
def test_who_is_refused_a_key_takes_the_rest(store, stored, postgres_url, prefix, admin, wanted):
    stored.submit(store, "other", name="refund", exclusive="k", at=store.now() + 60.0)
    stored.submit(store, "mine", exclusive="k", at=0.0)
    stored.submit(store, "free")
    admin.execute(f"UPDATE {prefix} SET created = created + 60 WHERE id = 'other'")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_url) as connection:
        connection.execute(f"UPDATE {prefix} SET holds = 'k' WHERE id = 'other'")
        claims = pool.submit(store.claim, "w", 60.0, wanted=wanted, limit=9)
        locks = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'saga' AND wait_event_type = 'Lock'"
        until(lambda: admin.execute(locks).rowcount)
        connection.commit()
        assert ids(claims.result(60)) == ["free"]
    assert store.get("mine").owner is None


def test_what_two_definitions_fit_is_the_first_s(store, stored):
    first, second = Wanted("order", "1", "f1"), Wanted("order", "2", "f2", frozenset({"1"}))
    for number in range(3):
        stored.submit(store, f"old{number}", version="1", fingerprint="f1")
    stored.submit(store, "odd", version="1", fingerprint="f0")
    stored.submit(store, "new", version="2", fingerprint="f2")
    store.hold("order", "1", "ann", "draining")
    assert ids(store.claim("w", 60.0, limit=2, wanted=[first, second])) == ["odd", "new"]
    assert store.claim("w", 60.0, limit=2, wanted=[first, second]) == []
    store.let_go("order", "1")
    assert ids(store.claim("w", 60.0, limit=2, wanted=[first._replace(limit=3), second])) == ["old0"]  # two are in hand
    assert store.claim("w", 60.0, limit=2, wanted=[first._replace(limit=3), second]) == []
    assert ids(store.claim("w", 60.0, limit=9, wanted=[second._replace(limit=9), first])) == ["old1", "old2"]


def test_more_are_asked_for_than_a_range_has(store, stored):
    """Whatever the limit, no more are claimed, and each once, though it is found by its fingerprint and its version."""
    stored.submit(store, *(f"x{n}" for n in range(20)))
    wanted = [Wanted("order", "2", "f", frozenset({"1"}))]
    sizes = [len(store.claim("w", 60.0, limit=limit, wanted=wanted)) for limit in (1, 3, 5, 6, 9)]
    assert sizes == [1, 3, 5, 6, 5]
