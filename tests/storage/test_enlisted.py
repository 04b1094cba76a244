"""Executions that are submitted in a transaction of somebody else's: they are there if and only if that is committed."""

from __future__ import annotations

import sqlite3
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest

from saga.errors import StorageError
from tests.kit import PATIENCE, until
from tests.kit.databases import Stored
from tests.kit.transactions import BY_HAND, WAYS, Theirs, execute, opened, url_of
from tests.storage.contract import ids

ON_SERVERS = [way for way in WAYS if not way.partition(" ")[0].endswith("sqlite")]

OF_ANY_THREAD = [way for way in ON_SERVERS if "async" not in way and "of each" not in way]


@pytest.fixture
def theirs(request: pytest.FixtureRequest) -> Iterator[Theirs]:
    with ExitStack() as ended:
        yield opened(request.param, request, ended)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Any:
    """Returns what executions and what else is there, for whoever looks from elsewhere."""
    kind = request.node.callspec.params["theirs"].partition(" ")[0]
    url = url_of(kind, request)
    table = {"postgres": "contract", "mariadb": "contract", "sqlalchemy-postgres": "through"}.get(kind, "saga")
    texts = (f"SELECT id FROM {table} ORDER BY id", "SELECT name FROM stock ORDER BY name")
    return lambda: tuple([row[0] for row in execute(url, text)] for text in texts)


of_all = pytest.mark.parametrize("theirs", WAYS, indirect=True)
of_postgres = pytest.mark.parametrize("theirs", [way for way in WAYS if way.startswith("postgres ")], indirect=True)
on_servers = pytest.mark.parametrize("theirs", ON_SERVERS, indirect=True)


WAITING = {
    "postgres": "SELECT 1 FROM pg_locks WHERE NOT granted",
    "mariadb": "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}
"""What finds somebody who waits for another's transaction."""


def new(*saga_ids: str, **changes: Any) -> list[Any]:
    values = {"status": "submitted", "tags": {"order": "A1"}} | changes
    return [(Stored.new(saga_id, **values), Stored.entries(1)) for saga_id in saga_ids]


@of_all
def test_what_is_submitted_is_there_once_it_is_committed(theirs, seen):
    theirs.execute("INSERT INTO stock VALUES ('before')")
    assert theirs.submit(new("x", "y")) == [None, None]
    theirs.execute("INSERT INTO stock VALUES ('after')")
    assert seen() == ([], [])
    theirs.commit()
    assert seen() == (["x", "y"], ["after", "before"])
    row = theirs.store.get("x")
    assert (row.status, row.owner, row.created > 1e9) == ("submitted", None, True)
    assert abs(row.created - theirs.store.now()) < 60
    assert [entry.seq for entry in theirs.store.journal("y")] == [1]
    assert ids(theirs.store.claim("w", 60.0, limit=9)) == ["x", "y"]


@of_all
def test_what_is_submitted_is_gone_with_what_is_rolled_back(theirs, seen):
    for connected in ("first", "again"):
        theirs.execute(f"INSERT INTO stock VALUES ('{connected}')")
        theirs.submit(new("x"))
        theirs.rollback()
        assert seen() == ([], [])
    assert theirs.store.journals(["x"]) == {"x": []}
    assert theirs.store.submit(new("x")) == [None]


@pytest.mark.parametrize("theirs", [way for way in WAYS if way not in BY_HAND], indirect=True)
def test_it_may_be_the_first_that_is_done_in_a_transaction(theirs, seen):
    theirs.submit(new("x"))
    theirs.rollback()
    assert seen() == ([], [])
    theirs.submit(new("x"))
    theirs.commit()
    assert seen() == (["x"], [])


@of_all
def test_an_id_that_is_taken_is_told_and_the_transaction_goes_on(theirs, seen):
    theirs.store.submit(new("old"))
    theirs.execute("INSERT INTO stock VALUES ('before')")
    found = theirs.submit(new("a", "old", "a", digest="other"))
    assert [one and (one.saga_id, one.digest) for one in found] == [None, ("old", "d"), ("a", "other")]
    assert ids(theirs.submit(new("a"))) == ["a"]  # which is seen where it is not committed yet
    theirs.execute("INSERT INTO stock VALUES ('after')")
    theirs.commit()
    assert seen() == (["a", "old"], ["after", "before"])
    assert len(theirs.store.journal("a")) == 1


@on_servers
def test_an_id_that_is_taken_after_the_transaction_began_is_told(theirs, seen):
    theirs.execute("SELECT name FROM stock")  # by now it may read nothing that is committed later
    theirs.store.submit(new("x"))
    theirs.execute("INSERT INTO stock VALUES ('a')")
    assert [one and one.saga_id for one in theirs.submit(new("w", "x"))] == [None, "x"]
    theirs.commit()
    assert seen() == (["w", "x"], ["a"])


@pytest.mark.parametrize("theirs", OF_ANY_THREAD, indirect=True)
def test_who_submits_an_id_that_is_not_committed_yet_waits_for_it(theirs, seen, request):
    theirs.execute("SELECT name FROM stock")
    theirs.submit(new("x"))
    way = request.node.callspec.params["theirs"]
    kind = way.partition(" ")[0]
    with ExitStack() as ended, ThreadPoolExecutor(1) as thread:
        another = WAYS[way](theirs.store, url_of(kind, request), ended)
        another.execute("INSERT INTO stock VALUES ('a')")
        found = thread.submit(another.submit, new("w", "x"))
        until(lambda: execute(url_of(kind, request), WAITING["mariadb" if kind == "mariadb" else "postgres"]))
        theirs.commit()
        assert [one and one.saga_id for one in found.result(PATIENCE)] == [None, "x"]
        another.commit()
    assert seen() == (["w", "x"], ["a"])


@pytest.mark.parametrize("theirs", ["sqlite sqlite3"], indirect=True)
def test_a_connection_is_left_as_it_was(theirs):
    theirs.submit(new("x"))
    row = theirs.connection.execute("SELECT id FROM saga").fetchone()
    assert (type(row), row["id"]) == (sqlite3.Row, b"x")


@of_all
def test_what_the_store_refuses_leaves_the_transaction_as_it_was(theirs, seen):
    theirs.execute("INSERT INTO stock VALUES ('a')")
    with pytest.raises(StorageError, match="saga_id must not be empty"):
        theirs.submit(new("x", ""))
    theirs.commit()
    assert seen() == ([], ["a"])


@of_all
def test_a_store_that_is_closed_takes_part_in_nothing(theirs):
    theirs.execute("SELECT name FROM stock")
    theirs.store.close()
    with pytest.raises(StorageError, match="closed"):
        theirs.submit(new("x"))


@of_all
def test_a_fault_of_the_database_tells_no_values_and_leaves_the_end_to_whoever_began(theirs, seen):
    theirs.execute("INSERT INTO stock VALUES ('a')")
    lone = "secret of somebody \ud800"
    with pytest.raises(StorageError, match="roll the transaction back") as told:
        theirs.submit([(Stored.new("x", status="submitted"), [Stored.entry(1, payload=lone)])])
    assert "secret" not in "".join(traceback.format_exception(told.value))
    theirs.rollback()
    assert seen() == ([], [])


@pytest.mark.parametrize("theirs", [way for way in WAYS if way.startswith(("postgres ", "sqlite "))], indirect=True)
def test_who_waits_is_woken_by_the_commit(theirs):
    with closing(theirs.store.watch()) as watch:
        while watch.wait(0.0):
            pass
        theirs.execute("INSERT INTO stock VALUES ('a')")
        theirs.submit(new("x"))
        theirs.commit()
        assert watch.wait(PATIENCE)


@of_postgres
def test_who_waits_hears_nothing_of_what_is_rolled_back_or_known(theirs):
    theirs.store.submit(new("known"))
    with closing(theirs.store.watch()) as watch:
        while watch.wait(0.0):
            pass
        theirs.execute("SELECT name FROM stock")
        theirs.submit(new("known"))
        theirs.commit()
        theirs.execute("SELECT name FROM stock")
        theirs.submit(new("x"))
        theirs.rollback()
        theirs.execute("NOTIFY beside")
        theirs.commit()
        assert not watch.wait(0.2)
