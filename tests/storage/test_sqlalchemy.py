"""What only the SQLAlchemy store does: appends in one transaction, and connections that break beneath a pool."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from saga.errors import LeaseLostError, StorageError
from saga.storage import Append, Lease, Told, Wanted, open_store
from saga.storage.sqlalchemy import SQLAlchemyStore


@pytest.fixture
def store(mariadb_url, prefix):
    with SQLAlchemyStore(mariadb_url, prefix=prefix) as store:
        yield store


@pytest.fixture
def lite(tmp_path):
    with SQLAlchemyStore(f"sqlite:///{tmp_path / 'saga.db'}") as store:
        yield store


class Breaking:
    """Breaks a connection right after a transaction has been committed, and before the answer arrives."""

    def __init__(self, store: SQLAlchemyStore, then: Callable[[], object] = lambda: None) -> None:
        self.times = 1
        self._then = then
        self._commit = store._engine.dialect.do_commit
        store._engine.dialect.do_commit = self

    def __call__(self, connection) -> None:
        self._commit(connection)
        if self.times:
            self.times -= 1
            connection.driver_connection.close()
            self._then()
            raise sys.modules["pymysql"].err.OperationalError(2013, "Lost connection to server during query")


def cut(store: SQLAlchemyStore) -> int:
    """End every connection of the store but the one that does it."""
    with store._engine.connect() as connection:
        mine = connection.execute(sa.text("SELECT CONNECTION_ID()")).scalar()
        others = connection.execute(sa.text("SELECT id FROM information_schema.processlist WHERE db = 'saga'")).scalars().all()
        for other in others:
            if other != mine:
                connection.execute(sa.text(f"KILL CONNECTION {other}"))
        return len(others) - 1


def test_a_url_opens_a_store(mariadb_url):
    with open_store(mariadb_url) as store:
        assert isinstance(store, SQLAlchemyStore)
        assert store.list().executions == ()


def test_what_is_stored_together_is_one_transaction(store, stored):
    leases = [stored.create(store, saga_id) for saga_id in "abc"]
    commits = []
    sa.event.listen(store._engine, "commit", commits.append)
    assert store.append_each([Append(lease, stored.entries(2), "completed", True) for lease in leases]) == [True] * 3
    assert len(commits) == 1


def test_one_whose_row_is_locked_holds_up_no_other(store, stored):
    leases = [stored.create(store, saga_id) for saga_id in "abc"]
    saga = store._tables.saga
    with store._engine.connect() as other, other.begin():
        other.execute(sa.select(saga.c.id).where(saga.c.id == "b").with_for_update()).all()
        assert store.append_each([Append(lease, stored.entries(2)) for lease in leases]) == [True, False, True]
    assert [len(store.journal(saga_id)) for saga_id in "abc"] == [2, 1, 2]


def test_what_cannot_be_stored_together_is_not_tried_for_long(store, stored, monkeypatch):
    leases = [stored.create(store, saga_id) for saga_id in "ab"]

    def broken(*arguments):
        raise exc.OperationalError("COMMIT", {}, OSError(), connection_invalidated=True)

    monkeypatch.setattr(store._engine.dialect, "do_commit", broken)
    monkeypatch.setattr(store, "_patience", 3600.0)  # each tells by itself what is wrong, and is patient then
    assert store.append_each([Append(lease, stored.entries(2)) for lease in leases]) == [False, False]


def test_a_server_that_is_not_there_is_an_error_at_once():
    with pytest.raises(StorageError) as caught:
        SQLAlchemyStore("mysql+pymysql://root:secret@127.0.0.1:1/saga")
    assert "secret" not in str(caught.value)


# --- claims


@pytest.fixture(params=["mariadb", "sqlite", "postgres"])
def any_store(request, prefix):
    lite = request.param == "sqlite"
    url = f"sqlite:///{request.getfixturevalue('path')}" if lite else request.getfixturevalue(f"{request.param}_url")
    with SQLAlchemyStore(url.replace("postgresql://", "postgresql+psycopg://"), prefix=prefix) as store:
        yield store


def executed(store: SQLAlchemyStore, work: Callable[[], object]) -> list[str]:
    """Return the statements that something takes."""
    statements: list[str] = []

    def heard(connection, cursor, statement, *rest) -> None:
        statements.append(statement)

    sa.event.listen(store._engine, "before_cursor_execute", heard)
    work()
    sa.event.remove(store._engine, "before_cursor_execute", heard)
    return [one for one in statements if not one.startswith("BEGIN")]


def test_who_finds_nothing_asks_once(any_store, stored):
    stored.submit(any_store, "x", exclusive="k")
    wanted = [Wanted(f"saga-{n}", "1", "f", frozenset({"0"})) for n in range(5)]
    (statement,) = executed(any_store, lambda: any_store.claim("b", 60.0, wanted=wanted))
    assert "exclusive =" not in statement  # whose turn it is was not asked, as nothing has a key


def test_of_two_that_are_given_the_same_key_at_once_one_has_it(any_store, stored, monkeypatch):
    stored.submit(any_store, "a", "b", exclusive="k")
    stored.submit(any_store, "c")
    monkeypatch.setattr(any_store._claims, "_is_first", lambda status: [sa.true()])  # as each sees it before the other commits
    assert [row.saga_id for row in any_store.claim("w", 60.0, limit=5)] == ["a", "c"]
    assert any_store.get("b").owner is None


def test_one_that_has_ended_keeps_no_key(any_store, stored):
    stored.submit(any_store, "a", "b", exclusive="k")
    (row,) = any_store.claim("w", 60.0)
    any_store.append(Lease("a", "w", row.epoch), [], status="completed", release=True)
    assert any_store.claim("person", 60.0, saga_id="a", wanted=[Wanted("order")])
    assert [row.saga_id for row in any_store.claim("w", 60.0)] == ["b"]


def test_the_statements_of_claims_are_kept_and_not_for_ever(any_store, stored):
    for number in range(50):
        stored.submit(any_store, f"x{number}", name=f"saga-{number}")
        assert len(any_store.claim("w", 60.0, wanted=[Wanted(f"saga-{number}", "1", "f")])) == 1
    assert 0 < len(any_store._claims._made) <= 16


def test_rows_take_what_is_too_long_for_them_in_part(any_store, stored):
    lease = stored.create(any_store, "x", step="s" * 300)
    assert any_store.get("x").step == "s" * 200
    any_store.append(lease, [], told=Told("t" * 300, "why" * 9000, "C" * 300))
    row = any_store.get("x")
    assert (row.step, row.reason, row.cause) == ("t" * 200, "why" * 9000, "C" * 200)


# --- connections that break


def test_connections_that_were_cut_are_replaced(store, stored):
    lease = stored.create(store, "x")
    for seq in range(2, 5):
        connections = [store._engine.connect() for _ in range(3)]
        for connection in connections:
            connection.close()
        assert cut(store) >= 1
        store.append(lease, stored.entries(seq))
    assert store.journal("x") == stored.entries(1, 2, 3, 4)


@pytest.mark.parametrize("seqs", [(2,), (2, 3), ()])
@pytest.mark.parametrize("more", [{}, {"status": "compensating"}, {"status": "completed", "release": True}, {"release": True}])
def test_an_append_whose_answer_was_lost_is_not_repeated(store, stored, seqs, more):
    lease = stored.create(store, "x")
    breaking = Breaking(store)
    store.append(lease, stored.entries(*seqs), **more)
    assert breaking.times == 0
    assert store.journal("x") == stored.entries(1, *seqs)
    row = store.get("x")
    assert (row.status, row.owner, row.epoch) == (more.get("status", "running"), None if "release" in more else "a", 1)


def test_an_append_whose_answer_was_lost_and_whose_lease_is_gone_says_so(store, stored):
    lease = stored.create(store, "x", lease=0.0)
    Breaking(store, then=lambda: store.claim("b", 60.0, saga_id="x"))
    with pytest.raises(LeaseLostError):
        store.append(lease, stored.entries(2))


def test_a_create_whose_answer_was_lost_is_ours(store, stored):
    Breaking(store)
    assert store.create(stored.new("x"), stored.entries(1, 2), "a", 60.0) is None
    assert store.journal("x") == stored.entries(1, 2)


def test_a_submission_whose_answer_was_lost_is_ours(store, stored):
    stored.submit(store, "old")
    new = [(stored.new(one, status="submitted"), stored.entries(1)) for one in ("a", "b")]
    Breaking(store)
    assert [known and known.saga_id for known in store.submit([*new, new[0]])] == [None, None, "a"]
    Breaking(store)
    other = (stored.new("old", status="submitted"), [stored.entry(1, at=1.0)])
    assert [known and known.saga_id for known in store.submit([other])] == ["old"]


def test_a_hold_that_was_ended_without_an_answer_was_ended(store):
    store.hold("order", "", "ann", "why")
    Breaking(store)
    assert store.let_go("order", "") is True
    assert store.holds() == []


def test_a_message_whose_answer_was_lost_arrives_once(store, stored):
    stored.create(store, "x")
    Breaking(store)
    store.post("x", '"hello"')
    assert [message.body for message in store.inbox("x")] == ['"hello"']


def test_a_deadlock_is_tried_again(store, stored, monkeypatch):
    lease = stored.create(store, "x")
    add, tries = store._add, []

    def deadlocked(connection, *args):
        tries.append(1)
        if len(tries) == 1:
            raise exc.OperationalError("INSERT", {}, sys.modules["pymysql"].err.OperationalError(1213, "Deadlock found"))
        add(connection, *args)

    monkeypatch.setattr(store, "_add", deadlocked)
    store.append(lease, stored.entries(2))
    assert len(tries) == 2
    assert store.journal("x") == stored.entries(1, 2)


def test_patience_ends(lite, monkeypatch):
    def refuse():
        raise exc.OperationalError("connect", {}, RuntimeError("connection refused"))

    monkeypatch.setattr(lite._engine, "connect", refuse)
    monkeypatch.setattr(lite, "_patience", 0.2)
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"failed for 0\.2 seconds.*connection refused"):
        lite.get("x")
    assert time.monotonic() - began < 2


def test_a_fault_of_a_value_is_no_reason_to_try_again(lite, stored):
    lease = stored.create(lite, "x")
    for changes in ({"payload": "\ud800"}, {"seq": 2**70}, {"payload": object()}):
        with pytest.raises(StorageError):
            lite.append(lease, [stored.entry(**{"seq": 2} | changes)])
    with pytest.raises(StorageError, match="nothing was stored"):
        lite.create(stored.new("y"), [stored.entry(kind=None)], "a", 60.0)
    assert lite.get("y") is None
    assert lite.journal("x") == stored.entries(1)


def test_a_fault_among_many_is_found_out_soon(lite, stored):
    new = [(stored.new(f"x{n}", status="submitted"), stored.entries(1)) for n in range(100)]
    new[50] = (new[50][0], [stored.entry(kind=None)])

    def submit() -> None:
        with pytest.raises(StorageError, match="nothing was stored"):
            lite.submit(new)

    assert len(executed(lite, submit)) < 20
    assert lite.list().executions == ()


def test_a_child_opens_connections_of_its_own(lite, stored, monkeypatch):
    lease = stored.create(lite, "x")
    pool = lite._engine.pool
    monkeypatch.setattr(os, "getpid", lambda: lite._pid + 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda pid=lite._pid: pid + 1)
        lite.append(lease, stored.entries(2))
        assert lite._engine.pool is not pool
        assert pool.checkedin() == 1
    pool.dispose()


def test_a_lost_lease_of_a_purged_execution_is_lost_even_after_a_break(store, stored):
    stored.create(store, "x")
    Breaking(
        store,
        then=lambda: (
            store.append(Lease("x", "a", 1), [], status="stuck", release=True),
            store.purge(updated_before=store.now() + 1, status=["stuck"]),
        ),
    )
    with pytest.raises(LeaseLostError):
        store.append(Lease("x", "a", 1), stored.entries(2))
