"""The statements of the SQLAlchemy store find what they look for by an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from saga.storage import Store, Wanted
from saga.storage.sqlalchemy import SQLAlchemyStore

THIS, COMPATIBLE = Wanted("order", "1", "f"), Wanted("order", "2", "g", frozenset({"1"}))

LOOKS: dict[str, tuple[Callable[[Store], object], set[str]]] = {
    "claim any": (lambda store: store.claim("b", -1.0), {"due"}),
    "claim by name": (lambda store: store.claim("b", -1.0, wanted=[Wanted("order")]), {"due_by_name"}),
    "claim": (lambda store: store.claim("b", -1.0, wanted=[THIS]), {"due_by_fingerprint"}),
    "claim what is compatible": (
        lambda store: store.claim("b", -1.0, wanted=[COMPATIBLE]),
        {"due_by_fingerprint", "due_by_version"},
    ),
    "claim in line": (
        lambda store: store.claim("b", -1.0, wanted=[Wanted("line", "1", "f")]),
        {"due_by_fingerprint", "in_line", "holding"},
    ),
    "claim with a limit": (lambda store: store.claim("b", -1.0, wanted=[Wanted("order", "1", "f", limit=5)]), {"in_hand"}),
    "claim with a rate": (lambda store: store.claim("b", -1.0, wanted=[Wanted("order", "1", "f", rate=5.0)]), {"started"}),
    "list": (lambda store: store.list(status=["running"]), {"listed"}),
    "list by name": (lambda store: store.list(status=["running"], name="order"), {"listed_by_name"}),
    "list what has not got on": (lambda store: store.list(status=["running"], progressed_before=1.0), {"progressed"}),
    "list by tag": (lambda store: store.list(tags={"order": "7"}), {"tags_listed"}),
    "count": (lambda store: store.count(["name", "version", "cause"], status=["stuck"], name="order"), {"counted"}),
    "of what nobody was told": (lambda store: store.next_alert(60.0), {"due"}),
    "who waits for a key": (lambda store: store.in_line("k", 5), {"in_line"}),
    "purge": (lambda store: store.purge(updated_before=1.0, status=["stuck"]), {"listed"}),
}


class Plans:
    """Asks a database how it executes what a store reads, and keeps what it says.

    :param force: an index that MySQL is told to use where the store leaves the choice to it: the table is too small for one.
    """

    def __init__(self, store: SQLAlchemyStore, force: str) -> None:
        self.told = ""
        self._store, self._force = store, force
        sa.event.listen(store._engine, "before_cursor_execute", self._explain)

    def _explain(self, connection, cursor, statement, values, context, many) -> None:
        table = self._store._tables.saga.name
        if not statement.startswith("SELECT") or f"FROM {table}" not in statement:
            return
        raw = connection.connection.dbapi_connection
        if connection.dialect.name == "sqlite":
            self.told += "\n".join(row[3] for row in raw.execute("EXPLAIN QUERY PLAN " + statement, values)) + "\n"
            return
        for clause in (f"FROM {table} ", f"FROM {table}_tags AS {table}_tags_1 "):
            if self._force.startswith(clause.split()[1]):
                statement = statement.replace(f"{clause}\n", f"{clause} FORCE INDEX ({self._force}) \n")
        with raw.cursor() as other:
            other.execute("EXPLAIN " + statement, values)
            self.told += "\n".join(f"{row[2]} {row[5]} {row[9]}" for row in other) + "\n"


@pytest.fixture(params=["mariadb", "sqlite"])
def store(request, prefix) -> Iterator[SQLAlchemyStore]:
    lite = request.param == "sqlite"
    url = f"sqlite:///{request.getfixturevalue('path')}" if lite else request.getfixturevalue("mariadb_url")
    with SQLAlchemyStore(url, prefix=prefix) as store:
        yield store


@pytest.mark.parametrize("what", LOOKS)
def test_what_is_looked_for_is_found_by_an_index(store, stored, prefix, what):
    look, indexes = LOOKS[what]
    stored.create(store, "x", lease=-1.0, tags={"order": "7"})
    stored.submit(store, "y", "z", name="line", exclusive="k")
    plans = Plans(store, f"{prefix}_{min(indexes)}")
    look(store)
    for index in indexes - ({"progressed"} if store._engine.dialect.name == "sqlite" else set()):  # which has no statistics
        assert f"{prefix}_{index}" in plans.told, plans.told
    if what.startswith("claim") or what == "purge":
        assert not {"filesort", "Sort", "TEMP B-TREE"} & set(plans.told.split())
