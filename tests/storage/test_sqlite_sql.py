"""The statements of the SQLite store find what they look for by an index; its tables are led from version to version."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from saga.errors import StorageError
from saga.storage import Lease, SqliteStore, Told, sqlite_alerts, sqlite_claims, sqlite_list, sqlite_sql, sqlite_tables
from saga.storage.records import Listed
from tests.storage.sqlite_writer import writer


@pytest.fixture
def store(path):
    with SqliteStore(path, busy_timeout=0.2) as store:
        yield store


# --- indexes


def plans(store: SqliteStore, statement: str, values: list | None = None) -> list[str]:
    given = (1,) * statement.count("?") if values is None else values
    return [row[3] for row in writer(store).execute(f"EXPLAIN QUERY PLAN {statement}", given)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (sqlite_claims.IN_HAND, "saga_in_hand (name=?)"),
        (sqlite_claims.BEGUN, "saga_started (name=? AND started>?)"),
        (sqlite_alerts.STUCK, "saga_untold (due<?)"),
        (sqlite_claims.KINDS, "PRIMARY KEY (status=?)"),
        (sqlite_sql.PURGEABLE, "saga_listed (status=? AND created<?)"),
        (sqlite_sql.INBOX, "saga_inbox_of (saga_id=?)"),
        (sqlite_list.causes(False), "saga_listed (status=?)"),
        (sqlite_list.causes(True), "saga_listed_by_name (status=? AND name=?)"),
        (sqlite_list.BEGINNING_WITH, "(id>? AND id<?)"),
        (sqlite_list.NEXT_TAG, "PRIMARY KEY (key>?)"),
        (sqlite_sql.UNTAG, "PRIMARY KEY (key=? AND value=? AND created=? AND saga_id=?)"),
    ],
)
def test_what_is_looked_for_is_found_by_an_index(store, statement, index):
    steps = plans(store, statement, ["x"] * 4 if "?4" in statement else None)
    assert [step.endswith(index) for step in steps if "SEARCH" in step] == [True]
    assert not any("SCAN saga" in step for step in steps)


def test_what_waits_is_not_passed_over_for_figures(store):
    steps = plans(store, sqlite_alerts.FIGURES, [1.0])
    due = "SEARCH saga USING INDEX saga_due (status=? AND name=? AND version=? AND fingerprint=? AND due<?)"
    assert len([step for step in steps if step == due]) == 2
    assert not any("SCAN saga" in step for step in steps if "saga_count" not in step and "saga_worker" not in step)


@pytest.mark.parametrize("kinds", [1, 3])
def test_what_is_due_of_a_kind_is_a_range_of_an_index(store, kinds):
    steps = plans(store, sqlite_claims.due(kinds))
    due = "saga_due (status=? AND name=? AND version=? AND fingerprint=? AND due<?)"
    assert len([step for step in steps if step.endswith(due)]) == kinds
    assert not any("SCAN saga" in step or "TEMP B-TREE" in step for step in steps)


@pytest.mark.parametrize("statement", [sqlite_claims.due(1), sqlite_claims.FREE_TO_RUN])
def test_whose_turn_it_is_is_found_by_its_key(store, statement):
    steps = plans(store, statement, None if "?1" not in statement else ["x", 1.0, 1])
    others = [step for step in steps if "other" in step]
    assert [step.split("COVERING INDEX ")[1] for step in others] == [
        "saga_holds (holds=?)",
        "saga_exclusive (exclusive=? AND opens<?)",
    ]
    assert [step for step in steps if "hold " in step] == ["SEARCH hold USING PRIMARY KEY (name=? AND version=?)"]


def test_who_has_a_key_and_who_waits_for_it_are_found_by_it(store):
    steps = [step for step in plans(store, sqlite_list.IN_LINE, ["k", 5]) if "SEARCH" in step]
    assert [step.split("INDEX ")[1] for step in steps] == ["saga_holds (holds=?)", "saga_exclusive (exclusive=?)"]


def page(statuses: int, tags: int = 0, **more) -> Listed:
    equal = {"name": "order"} if more.pop("by_name", False) else {}
    return Listed(["stuck"] * statuses, equal, {f"k{n}": "v" for n in range(tags)}, 0.0, (1.0, "x"), None, 10)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("statuses", [1, 7])
def test_a_page_is_read_from_ranges_of_an_index(store, statuses, by_name):
    index = "saga_listed_by_name (status=? AND name=? AND created" if by_name else "saga_listed (status=? AND created"
    steps = plans(store, *sqlite_list.of_status(page(statuses, by_name=by_name), [False] * statuses))
    assert len([step for step in steps if "SEARCH saga USING" in step and index in step]) == statuses
    # What is sorted is the few rows that the ranges gave, never what is in the table.
    assert not any("SCAN saga" in step for step in steps)
    assert not any("TEMP B-TREE" in after for step, after in itertools.pairwise(steps) if "SEARCH" in step)


def test_few_that_do_not_get_on_are_found_by_that(store):
    filters = page(1)._replace(progressed_before=1.0)
    steps = plans(store, *sqlite_list.of_status(filters, [True]))
    assert any(step.endswith("saga_progressed (status=? AND progressed<?)") for step in steps)


@pytest.mark.parametrize("tags", [1, 3])
def test_a_page_of_what_is_tagged_is_one_range(store, tags):
    steps = plans(store, *sqlite_list.of_tag(page(2, tags), ("k0", "v")))
    assert steps[0].endswith("saga_tag USING PRIMARY KEY (key=? AND value=? AND created>? AND created<?)")
    assert (
        len([step for step in steps if "other USING PRIMARY KEY (key=? AND value=? AND created=? AND saga_id=?)" in step])
        == tags - 1
    )
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in steps)


def test_counts_are_read_from_the_kinds(store):
    assert plans(store, sqlite_list.counting(("name", "status"), 2, False))[0].startswith("SEARCH saga_count")
    assert "saga_listed (status=?)" in plans(store, sqlite_list.counting(("reason",), 1, False))[0]


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (sqlite_sql.GET, ["x"]),
        (sqlite_claims.FREE, ["x", 1.0, True]),
        (sqlite_sql.journals(1), ["x"]),
        (sqlite_sql.CHECK_LEASE, ["x", 1, "a"]),
        (sqlite_sql.RENEW, [1.0, 1.0, 1.0, "x", 1, "a"]),
        (sqlite_sql.RENEW_AND_TELL, [1.0, 1.0, 1.0, "x", 1, "a", "b", 1.0]),
        (sqlite_sql.changing("completed", True, False, True), [None, None, None, None, 1.0, 1.0, 1.0, "x", 1, "a"]),
    ],
)
def test_one_execution_is_found_by_its_key(store, statement, values):
    steps = plans(store, statement, values)
    keys = ("PRIMARY KEY (saga=?)", "saga_1 (id=?)", "saga_inbox_of (saga_id=?)")
    assert all(step.endswith(keys) for step in steps if "SEARCH" in step)
    assert not any("SCAN saga" in step for step in steps)


# --- versions of the tables


def test_a_later_version_is_refused_and_left_alone(path, stored):
    with SqliteStore(path) as store:
        stored.create(store, "x")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE saga_schema SET version = 8")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=f"version 8 .* up to {len(sqlite_tables.MIGRATIONS)}"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_the_tables_of_the_release_before_are_led_forward(path, stored, monkeypatch):
    """With what runs, is stuck, has ended; and what opens it then with the old code is refused."""
    with monkeypatch.context() as before:
        before.setattr(sqlite_tables, "MIGRATIONS", sqlite_tables.MIGRATIONS[:2])
        with sqlite3.connect(path, isolation_level=None) as connection:
            sqlite_tables.migrate(connection, str(path))
        connection.execute("BEGIN")
        for number, (status, owner, until) in enumerate(
            [("running", "dead", 5.0), ("stuck", None, 0.0), ("completed", None, 0.0)]
        ):
            row = (f"x{number}", "order", "1", "f", "d", status, owner, 3, until, until, 1, 10.0 + number, 20.0 + number)
            connection.execute(f"INSERT INTO saga VALUES (NULL, {', '.join('?' * 13)})", row)
            for entry in (stored.entry(2), stored.entry(1)):
                connection.execute("INSERT INTO saga_journal VALUES (?, ?, ?, ?, ?, ?)", (number + 1, *entry))
        connection.execute("INSERT INTO saga_inbox VALUES (NULL, 'x1', '{}')")
        connection.execute("COMMIT")
        connection.close()
    with SqliteStore(path, clock=lambda: 100.0) as store:
        for number, status in enumerate(["running", "stuck", "completed"]):
            row = store.get(f"x{number}")
            assert (row.status, row.epoch, row.opens, row.priority, dict(row.tags)) == (status, 3, 0.0, 0, {})
            assert (row.started, row.progressed, row.updated) == (row.created, row.updated, 20.0 + number)
            assert store.journal(row.saga_id) == stored.entries(1, 2)
        assert [one.values for one in store.count()] == [("order", one) for one in ("completed", "running", "stuck")]
        assert [message.body for message in store.inbox("x1")] == ["{}"]
        [claimed] = store.claim("new", 60.0, limit=5, submitted=False)
        assert (claimed.saga_id, claimed.epoch, claimed.recoveries) == ("x0", 4, 2)
        store.append(Lease("x0", "new", 4), stored.entries(3), status="completed", release=True)
        assert store.purge(updated_before=200.0, status=["completed", "stuck"]) == 3
        assert store.count() == []
        assert writer(store).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    monkeypatch.setattr(sqlite_tables, "MIGRATIONS", sqlite_tables.MIGRATIONS[:2])
    with pytest.raises(StorageError, match=r"version 3 .* up to 2"):
        SqliteStore(path)


def test_counts_go_with_what_is_stored(store, stored):
    """Whatever becomes of a row, and where a statement fails in the middle."""
    leases = [stored.create(store, f"x{number}", version=str(number % 2)) for number in range(6)]
    stored.submit(store, "new")
    store.create(stored.new("x1"), [], "b", 60.0)
    store.append(leases[0], [], status="stuck", told=Told(cause="Declined"))
    store.append(leases[0], [], told=Told(cause="Timeout"))
    store.append(leases[1], [], status="completed", release=True)
    store.append(leases[3], [], status="running", told=Told(definition=("2", "another")))
    with pytest.raises(StorageError):
        store.append(leases[2], stored.entries(2, 2), status="stuck")
    store.purge(updated_before=store.now() + 1, status=["completed"])
    kept = writer(store).execute("SELECT status, name, version, fingerprint, cause, executions FROM saga_count").fetchall()
    found = "SELECT status, name, version, fingerprint, coalesce(cause, ''), count(*) FROM saga GROUP BY 1, 2, 3, 4, 5"
    assert kept == writer(store).execute(found).fetchall()
    assert len(kept) == 5


def test_an_earlier_version_is_led_forward_with_what_it_holds(path, stored, monkeypatch):
    with SqliteStore(path) as store:
        stored.create(store, "x", entries=2)
    later = [
        *sqlite_tables.MIGRATIONS,
        ("ALTER TABLE saga_inbox ADD COLUMN urgent INTEGER",),
        ("CREATE TABLE saga_extra (id)",),
    ]
    monkeypatch.setattr(sqlite_tables, "MIGRATIONS", later)
    with SqliteStore(path) as store:
        assert store.journal("x") == stored.entries(1, 2)
        assert writer(store).execute("SELECT version FROM saga_schema").fetchall() == [(len(later),)]
        assert writer(store).execute("SELECT urgent FROM saga_inbox, saga_extra").fetchall() == []


def test_a_step_that_fails_leaves_the_version_it_began_with(path, stored, monkeypatch):
    with SqliteStore(path) as store:
        stored.create(store, "x")
    good = list(sqlite_tables.MIGRATIONS)
    monkeypatch.setattr(sqlite_tables, "MIGRATIONS", [*good, ("CREATE TABLE saga_extra (id)", "CREATE TABLE saga (id)")])
    with pytest.raises(StorageError, match="already exists"):
        SqliteStore(path)
    monkeypatch.setattr(sqlite_tables, "MIGRATIONS", good)
    with SqliteStore(path) as store:
        assert writer(store).execute("SELECT 1 FROM sqlite_master WHERE name = 'saga_extra'").fetchall() == []
        assert store.get("x")


def test_many_that_open_a_new_file_at_once_do_not_clash(path, stored):
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        with SqliteStore(path) as store:
            stored.create(store, f"x{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with SqliteStore(path) as store:
        assert len(store.list().executions) == 8
        assert writer(store).execute("SELECT version FROM saga_schema").fetchall() == [(len(sqlite_tables.MIGRATIONS),)]
