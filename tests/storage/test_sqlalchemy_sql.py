"""The statements of the SQLAlchemy store find what they look for by an index."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from saga.storage.sqlalchemy import SQLAlchemyStore


@pytest.fixture
def store(mariadb_url, prefix):
    with SQLAlchemyStore(mariadb_url, prefix=prefix) as store:
        yield store


def test_what_is_looked_for_is_found_by_an_index(store, stored, prefix):
    stored.create(store, "x", lease=-1.0)
    plans = []

    def explain(connection, cursor, statement, values, context, many):
        if statement.startswith("SELECT") and f"FROM {prefix}" in statement:
            with connection.connection.cursor() as other:
                # The table is too small to be worth an index; ask what would be done with a large one.
                other.execute(
                    "EXPLAIN " + statement.replace(f"FROM {prefix} ", f"FROM {prefix} FORCE INDEX ({index}) "), values
                )
                plans.extend(other.fetchall())

    sa.event.listen(store._engine, "before_cursor_execute", explain)
    for index, look in [
        (f"{prefix}_due", lambda: store.claim("b", -1.0)),
        (f"{prefix}_due_by_name", lambda: store.claim("b", -1.0, names=["order"])),
        (f"{prefix}_listed", lambda: store.list(status=["running"])),
        (f"{prefix}_listed_by_name", lambda: store.list(status=["running"], name="order")),
        (f"{prefix}_listed", lambda: store.purge(updated_before=1.0, status=["stuck"])),
    ]:
        plans.clear()
        look()
        found = [plan for plan in plans if plan[2] == prefix and plan[5] == index]
        assert found
        assert not any("filesort" in (plan[9] or "") for plan in found)
