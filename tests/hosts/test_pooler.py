"""Workers behind a pooler (PgBouncer in transaction mode): each transaction has another connection, and nothing listens."""

from __future__ import annotations

import pytest

from tests.storage import servers


@pytest.fixture
def own_pooler_url(own_postgres_url):
    with servers.pgbouncer(own_postgres_url) as url:
        yield url


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_all_that_is_submitted_through_a_pooler_is_run_through_it(day, own_pooler_url, scheme):
    today = day(own_pooler_url.replace("postgresql", scheme))
    workers = today.start(3, "1", "2")
    for version in ("1", "2"):
        today.submit(version, 40)
    today.until(lambda: today.ended() >= 20)
    workers[0].kill()
    workers[0].start()
    today.end()
    today.stop(*workers)
