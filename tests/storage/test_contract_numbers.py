"""What every store does: a time or a number of seconds that databases do not agree on is refused before anything is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from saga.operations import Operations
from saga.storage import Lease, SqliteStore, Store
from saga.storage.postgres import PostgresStore
from saga.storage.sqlalchemy import SQLAlchemyStore
from tests.kit.databases import Stored

NO_NUMBERS = [math.nan, math.inf, -math.inf, 10**400, True, "60", None]
NO_LIMITS = [0, -1, 1.0, math.nan, True, "1", None, 2**63]
X = Lease("x", "a", 1)

OF_TIME: dict[str, Callable[[Store, Any], object]] = {
    "create": lambda store, value: store.create(Stored.new("y"), [], "a", value),
    "claim": lambda store, value: store.claim("b", value),
    "claim one": lambda store, value: store.claim("b", value, saga_id="x"),
    "renew": lambda store, value: store.renew("a", [X], value),
    "renew none": lambda store, value: store.renew("a", [], value),
    "release": lambda store, value: store.release(X, delay=value),
    "next alert": lambda store, value: store.next_alert(value),
    "alerted": lambda store, value: store.alerted("x", 1, again=_given(value)),
    "list after": lambda store, value: store.list(created_after=_given(value)),
    "list before": lambda store, value: store.list(created_before=_given(value)),
    "list no status": lambda store, value: store.list(created_before=_given(value), status=[]),
    "purge": lambda store, value: store.purge(updated_before=value, status=["completed"]),
    "purge no status": lambda store, value: store.purge(updated_before=value, status=[]),
    "operators' purge": lambda store, value: Operations(store, "ann").purge(older_than=value),
    "operators' list of old ones": lambda store, value: Operations(store, "ann").list(older_than=_given(value)),
    "operators' list of new ones": lambda store, value: Operations(store, "ann").list(newer_than=_given(value)),
}
OF_MANY: dict[str, Callable[[Store, Any], object]] = {
    "claim": lambda store, value: store.claim("b", 60.0, limit=value),
    "list": lambda store, value: store.list(limit=value),
    "purge": lambda store, value: store.purge(updated_before=0.0, status=["completed"], limit=value),
    "operators' list": lambda store, value: Operations(store, "ann").list(limit=value),
}


def _given(value: Any) -> Any:
    return math.nan if value is None else value  # None asks for all of them


def everything(store: Store) -> list[Any]:
    return [(row, store.journal(row.saga_id)) for row in store.list().executions]


def test_what_is_no_finite_number_is_refused(store, stored):
    stored.create(store, "x", lease=-1.0)
    stored.create(store, "ended", status="completed")
    before = everything(store)
    for table, numbers in ((OF_TIME, NO_NUMBERS), (OF_MANY, NO_LIMITS)):
        for what, ask in table.items():
            for value in numbers:
                with pytest.raises(ValueError, match=r"must be a (finite|whole) number") as caught:
                    pytest.fail(f"{what} took {value!r}: {ask(store, value)!r}")
                assert caught.value.__cause__ is None
    assert everything(store) == before


def test_any_finite_number_is_taken(store, stored):
    for value in (-1e300, -1, 0, 10**12, 1e300):
        store.claim("b", value)
        store.list(created_before=value, created_after=value)
        store.purge(updated_before=value, status=["completed"])


def test_nothing_is_purged_by_an_age_below_nought(store, stored):
    stored.create(store, "ended", status="completed")
    with pytest.raises(ValueError, match="older_than is -1"):
        Operations(store, "ann").purge(older_than=-1)
    assert Operations(store, "ann").purge(older_than=0) in (0, 1)  # where the clock has gone on meanwhile


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1.0])
@pytest.mark.parametrize(
    "make",
    [
        lambda path, value: SqliteStore(path, busy_timeout=value),
        lambda path, value: PostgresStore("postgresql://127.0.0.1:1/x", patience=value),
        lambda path, value: SQLAlchemyStore(f"sqlite:///{path}", patience=value),
    ],
)
def test_patience_is_a_finite_number(make, value, path):
    with pytest.raises(ValueError, match=r"must be (a finite number|at least 0 seconds)"):
        make(path, value)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_the_number_of_connections_is_a_whole_one(value):
    with pytest.raises(ValueError, match="max_connections must be a whole number"):
        PostgresStore("postgresql://127.0.0.1:1/x", max_connections=value)
