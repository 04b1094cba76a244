"""What only the SQLAlchemy store does: dialects, drivers, connections that break beneath a pool."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from saga.errors import LeaseLostError, StorageError
from saga.storage import Append, Lease, open_store, sqlalchemy_dialects, sqlalchemy_tables
from saga.storage.sqlalchemy import SQLAlchemyStore

numbers = itertools.count(1)


@pytest.fixture
def prefix():
    return f"sa{next(numbers)}"


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


def test_the_tables_are_safe_for_transactions_and_all_text(store, prefix):
    with store._engine.connect() as connection:
        tables = connection.execute(
            sa.text("SELECT table_name, engine, table_collation FROM information_schema.tables WHERE table_name LIKE :like"),
            {"like": f"{prefix}%"},
        ).all()
        assert len(tables) == 4
        assert {tuple(row)[1:] for row in tables} == {("InnoDB", "utf8mb4_nopad_bin")}
        assert connection.execute(sa.text("SELECT @@tx_isolation, @@time_zone")).one() == ("READ-COMMITTED", "+00:00")
        assert "STRICT_ALL_TABLES" in connection.execute(sa.text("SELECT @@sql_mode")).scalar()
    assert store._sql.skips_locked


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


# --- opening


def test_a_missing_driver_is_named():
    with pytest.raises(StorageError, match="needs oracledb: pip install oracledb"):
        SQLAlchemyStore("oracle+oracledb://localhost/x")


@pytest.mark.parametrize("url", ["nonsense://x", "no url", "mysql+nonsense://x"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(StorageError, match="no database"):
        SQLAlchemyStore(url)


def test_a_server_that_is_not_there_is_an_error_at_once():
    with pytest.raises(StorageError) as caught:
        SQLAlchemyStore("mysql+pymysql://root:secret@127.0.0.1:1/saga")
    assert "secret" not in str(caught.value)


def test_a_database_without_a_clock_we_know_gets_ours(lite, stored, monkeypatch):
    monkeypatch.setattr(lite._sql, "clock", None)
    assert lite.now() == pytest.approx(time.time(), abs=1)
    stored.create(lite, "x", lease=-1.0)
    assert lite.claim("b", 60.0)[0].lease_until == pytest.approx(time.time() + 60, abs=1)


@pytest.mark.parametrize(
    ("name", "mariadb", "version", "skips"),
    [
        ("mysql", False, (5, 7, 40), False),
        ("mysql", False, (8, 0, 36), True),
        ("mysql", True, (10, 5, 1), False),
        ("mariadb", True, (10, 6, 0), True),
        ("postgresql", False, (15,), True),
        ("sqlite", False, (3, 40), False),
    ],
)
def test_servers_that_pass_over_locked_rows_are_known(name, mariadb, version, skips):
    dialect = SimpleNamespace(name=name, is_mariadb=mariadb, server_version_info=version)
    assert sqlalchemy_dialects.skips_locked(dialect) is skips


def test_each_dialect_has_its_collation_and_clock():
    def dialect(name, mariadb=False):
        return SimpleNamespace(name=name, is_mariadb=mariadb)

    assert sqlalchemy_tables.Tables("saga", dialect("mysql")).saga.kwargs["mysql_collate"] == "utf8mb4_0900_bin"
    assert sqlalchemy_tables.Tables("saga", dialect("mariadb", True)).saga.kwargs["mariadb_collate"] == "utf8mb4_nopad_bin"
    assert sqlalchemy_tables.Tables("saga", dialect("postgresql")).saga.c.id.type.collation == "C"
    assert sqlalchemy_dialects.clock(dialect("oracle")) is None


# --- versions of the tables


def execute(store: SQLAlchemyStore, statement: str) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_a_later_version_is_refused_and_left_alone(store, mariadb_url, prefix):
    execute(store, f"UPDATE {prefix}_schema SET version = 8")
    with pytest.raises(StorageError, match=rf"{prefix}_schema.* has version 8 .* up to 1"):
        SQLAlchemyStore(mariadb_url, prefix=prefix)
    with store._engine.connect() as connection:
        assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [8]


def test_an_earlier_version_is_led_forward_with_what_it_holds(store, stored, mariadb_url, prefix, monkeypatch):
    stored.create(store, "x")

    def second(connection, tables):
        connection.execute(sa.text(f"ALTER TABLE {tables.saga.name} ADD COLUMN extra INT"))

    monkeypatch.setattr(sqlalchemy_tables, "MIGRATIONS", [second])
    with SQLAlchemyStore(mariadb_url, prefix=prefix) as later:
        assert later.journal("x") == stored.entries(1)
    with store._engine.connect() as connection:
        assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [2]
        assert connection.execute(sa.text(f"SELECT extra FROM {prefix}")).scalars().all() == [None]


def test_a_lock_that_another_keeps_is_an_error(store, prefix, monkeypatch):
    with store._engine.connect() as one, store._engine.connect() as two:
        with sqlalchemy_tables._locked(one, prefix):
            text = sa.text
            monkeypatch.setattr(sa, "text", lambda statement: text(statement.replace("60", "0")))
            with pytest.raises(StorageError, match="changing"), sqlalchemy_tables._locked(two, prefix):
                pass
        with sqlalchemy_tables._locked(two, prefix):
            pass


@pytest.mark.parametrize("kind", ["mariadb", "postgres", "sqlite"])
def test_many_that_open_new_tables_at_once_do_not_clash(kind, request, tmp_path, prefix, stored):
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'new.db'}"
    else:
        url = request.getfixturevalue(f"{kind}_url").replace("postgresql://", "postgresql+psycopg://")
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        with SQLAlchemyStore(url, prefix=prefix) as store:
            stored.create(store, f"x{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with SQLAlchemyStore(url, prefix=prefix) as store:
        assert len(store.list().executions) == 6
        with store._engine.connect() as connection:
            assert connection.execute(sa.text(f"SELECT version FROM {prefix}_schema")).scalars().all() == [1]


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
