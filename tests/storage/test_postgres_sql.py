"""The tables of the PostgreSQL store, and the indexes by which its statements find what they look for."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from saga.errors import StorageError
from saga.storage import Beat, Wanted, postgres_tables
from saga.storage.postgres import PostgresStore
from saga.storage.postgres_claims import ranges_of


@pytest.fixture
def store(postgres_url, prefix):
    with PostgresStore(postgres_url, prefix=prefix, max_connections=8) as store:
        yield store


# --- tables


def test_the_tables_may_be_in_a_schema_which_is_made(postgres_url, stored, admin):
    with PostgresStore(postgres_url, schema="Sagas", prefix="s") as store:
        lease = stored.create(store, "x")
        store.post("x", "{}")
        assert store.renew("a", [lease], 60.0) == [Beat("x", True)]
        assert store.claim("b", 1.0) == []
        assert len(store.list(name="order").executions) == 1
    with PostgresStore(postgres_url, schema="Sagas", prefix="s") as store:
        assert store.journal("x") == stored.entries(1)
    tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'Sagas' ORDER BY 1").fetchall()
    assert tables == [(f"s{name}",) for name in ("", "_hold", "_inbox", "_journal", "_schema", "_tags", "_worker")]


@pytest.mark.parametrize("names", [{"schema": 'a"; DROP TABLE saga; --'}, {"prefix": ""}, {"prefix": "x" * 48}])
def test_a_name_that_is_no_plain_name_is_refused(names):
    with pytest.raises(ValueError, match="letters"):
        PostgresStore("postgresql://127.0.0.1:1/none", **names)


def test_a_later_version_is_refused_and_left_alone(store, postgres_url, prefix, admin):
    admin.execute(f"UPDATE {prefix}_schema SET version = 8")
    with pytest.raises(StorageError, match=rf"{prefix}_schema.* has version 8 .* up to 2"):
        PostgresStore(postgres_url, prefix=prefix)
    assert admin.execute(f"SELECT version FROM {prefix}_schema").fetchall() == [(8,)]


def test_an_earlier_version_is_led_forward_with_what_it_holds(store, stored, postgres_url, prefix, admin, monkeypatch):
    stored.create(store, "x")
    first = postgres_tables.migrations
    monkeypatch.setattr(
        postgres_tables, "migrations", lambda *names: [*first(*names), [f"ALTER TABLE {prefix} ADD COLUMN extra text"]]
    )
    with PostgresStore(postgres_url, prefix=prefix) as later:
        assert later.journal("x") == stored.entries(1)
    assert admin.execute(f"SELECT version FROM {prefix}_schema").fetchall() == [(3,)]
    assert admin.execute(f"SELECT extra FROM {prefix}").fetchall() == [(None,)]


def test_what_the_first_tables_held_goes_on(postgres_url, prefix, stored, admin):
    for statement in postgres_tables.migrations(None, prefix)[0]:
        admin.execute(statement)
    admin.execute(f"CREATE TABLE {prefix}_schema (version integer NOT NULL)")
    admin.execute(f"INSERT INTO {prefix}_schema VALUES (1)")
    for saga_id, status in (("r", "running"), ("s", "stuck"), ("e", "completed")):
        row = (saga_id, "order", "1", "f", "d", status, "dead" if saga_id == "r" else None, 1, 0.0, 9.0, 0, 5.0, 7.0)
        admin.execute(f"INSERT INTO {prefix} VALUES ({', '.join(['%s'] * 13)})", row)
        admin.execute(f"INSERT INTO {prefix}_journal VALUES (%s, %s, %s, %s, %s, %s)", (saga_id, *stored.entry(1)))
    with PostgresStore(postgres_url, prefix=prefix) as store:
        for saga_id in "rse":
            row = store.get(saga_id)
            assert (row.opens, row.started, row.progressed, row.priority, row.keep_until) == (0.0, 5.0, 7.0, 0, 0.0)
            assert (row.step, row.reason, row.cause, dict(row.tags), row.exclusive) == (None, None, None, {}, None)
            assert store.journal(saga_id) == stored.entries(1)
        [claimed] = store.claim("w", 60.0, limit=9, wanted=[Wanted("order", "1", "f")])
        assert (claimed.saga_id, claimed.epoch, claimed.recoveries, claimed.started) == ("r", 2, 1, 5.0)
        assert store.purge(updated_before=store.now(), status=["completed"]) == 1


def test_a_step_that_fails_leaves_the_version_it_began_with(store, postgres_url, prefix, admin, monkeypatch):
    first = postgres_tables.migrations
    steps = [f"CREATE TABLE {prefix}_extra (id int)", f"CREATE TABLE {prefix} (id int)"]
    monkeypatch.setattr(postgres_tables, "migrations", lambda *names: [*first(*names), steps])
    with pytest.raises(StorageError, match="already exists"):
        PostgresStore(postgres_url, prefix=prefix)
    assert admin.execute(f"SELECT version FROM {prefix}_schema").fetchall() == [(2,)]
    assert admin.execute("SELECT to_regclass(%s)", (f"{prefix}_extra",)).fetchone() == (None,)


def test_many_that_open_new_tables_at_once_do_not_clash(postgres_url, prefix, stored, admin):
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        with PostgresStore(postgres_url, prefix=prefix, schema=f"new_{prefix}") as store:
            stored.create(store, f"x{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert admin.execute(f"SELECT version FROM new_{prefix}.{prefix}_schema").fetchall() == [(2,)]
    assert admin.execute(f"SELECT count(*) FROM new_{prefix}.{prefix}").fetchone() == (8,)


# --- indexes


def plan(admin: psycopg.Connection, statement: bytes, values: tuple) -> str:
    with admin.transaction():
        # The table is too small to be worth an index; ask what would be done with a large one.
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            admin.execute(f"SET LOCAL {setting} = off")
        return "\n".join(row[0] for row in admin.execute(b"EXPLAIN " + statement, values))


def scan(index: str, *conditions: str) -> str:
    """A pattern of what is searched by an index, with these conditions and no other."""
    wanted = " AND ".join(rf"\({condition}.*\)" if len(conditions) > 1 else condition for condition in conditions)
    return rf"Index (Only )?Scan (Backward )?using {index} on .*\n +Index Cond: \({wanted}"


STAGE = r"\(?CASE .* END\)? = \w+\.stage"
CLAIMS = {
    "a fingerprint": (Wanted("order", "1", "f"), ["due_by_print"]),
    "versions": (Wanted("order", "3", "f", frozenset({"1", "2"})), ["due_by_print", "due_by_version"]),
    "a name": (Wanted("order"), ["due_by_print"]),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_what_is_due_is_found_without_walking_over_what_is_not_asked_for(store, admin, prefix, kind):
    wanted, indexes = CLAIMS[kind]
    claims = store._sql.claims
    claiming, values = claims.claiming([wanted], True, 5, ())
    counting = claims.candidates(ranges_of([wanted], True), 5)
    for statement, given in ((claiming, (*values, "b", 60.0, 60.0, 1)), counting):
        due = plan(admin, statement, given)
        for index in indexes:
            key = "fingerprint" if index == "due_by_print" else "version"
            searched = scan(f"{prefix}_{index}", r"name = \w+\.name", rf"{key} = \w+\.{key}", STAGE, "due <=")
            assert re.search(searched, due), due
        assert due.count("LockRows") == len(indexes)
        assert not re.search(r"Sort.*\n.*\n? *-> +LockRows", due)
        assert re.search(scan(f"{prefix}_key", r"holds = \w+\.exclusive"), due)
        assert re.search(scan(f"{prefix}_in_line", r"exclusive = \w+\.exclusive", r"ROW\(opens, id\) <"), due)


def test_all_that_is_due_is_found_name_by_name(store, admin, prefix):
    statement, values = store._sql.claims.claiming(None, True, 5, ())
    due = plan(admin, statement, (*values, "b", 60.0, 60.0, 1))
    assert "Seq Scan" not in due
    assert re.search(
        scan(f"{prefix}_due_by_print", r"name = \w+\.name", r"fingerprint = \w+\.fingerprint", STAGE, "due <="), due
    ), due


def test_how_many_are_in_hand_and_were_begun_is_counted_by_an_index(store, admin, prefix):
    asked = json.dumps([{"number": 0, "name": "order", "limited": True, "seconds": 1.0}])
    counted = plan(admin, store._sql.claims.standing, (asked,))
    assert re.search(scan(f"{prefix}_in_hand", r"name = asked\.name", "lease_until >"), counted), counted
    assert re.search(scan(f"{prefix}_started", r"name = asked\.name", "started >"), counted), counted


def test_what_is_listed_and_counted_is_found_by_an_index(store, admin, prefix):
    sql, within = store._sql, (0.0, 1.0, 1.0, "x")
    old = plan(admin, sql.purgeable, ("stuck", 1.0, 1.0, 5))
    assert f"Index Scan using {prefix}_listed on" in old
    assert "Sort" not in old
    page = plan(admin, sql.listing(2), ("stuck", *within, 5, "running", *within, 5, 5))
    assert page.count(f"Index Scan Backward using {prefix}_listed on") == 2
    page = plan(admin, sql.listing(1, ["name"]), ("stuck", "order", *within, 5, 5))
    assert page.count(f"Index Scan Backward using {prefix}_listed_by_name on") == 1
    page = plan(admin, sql.listing(1, ["cause"]), ("stuck", "Declined", *within, 5, 5))
    assert page.count(f"Index Scan Backward using {prefix}_listed_by_cause on") == 1
    page = plan(admin, sql.tagged(2), ("order", "A1", "tenant", "acme", *within, ["stuck"], 5))
    assert page.count(f"using {prefix}_tagged on") + page.count(f"using {prefix}_tags_pkey on") == 2
    found = plan(admin, sql.beginning_with, ("a", "b", 5))
    assert f"using {prefix}_pkey on" in found
    assert "Index Cond: ((id >= " in found
    assert f"using {prefix}_tagged on" in plan(admin, sql.next_tag, ("",))
    line = plan(admin, sql.in_line, ("k", "k", 5, 5))
    assert f"Index Scan using {prefix}_key on" in line
    assert f"Index Scan using {prefix}_in_line on" in line
    figures = plan(admin, sql.figures, ())
    due = scan(f"{prefix}_due_by_version", r"name = \w+\.name", r"version = \w+\.version", "CASE .* END = 0", "due <=")
    assert len(re.findall(due, figures)) == 2, figures
    untold = plan(admin, sql.next_alert, (60.0,))
    assert re.search(scan(f"{prefix}_untold", "due <", "due <="), untold), untold
    assert "Sort" not in untold
    counted = plan(admin, sql.count(["status", "version", "name", "cause"], all_statuses=False, by_name=False), (["stuck"],))
    assert f"Index Only Scan using {prefix}_counted on" in counted


@pytest.mark.parametrize(
    ("filters", "index", "condition"),
    [
        ({"progressed_before": 7.0}, "progressed", "progressed <"),
        ({"version": "9"}, "counted", "version ="),
    ],
)
def test_the_few_of_many_are_found_by_an_index(store, stored, admin, prefix, filters, index, condition):
    for number in range(4):
        stored.submit(store, *(f"{number}-{one}" for one in range(500)))
    admin.execute(f"ANALYZE {prefix}")
    columns = [one for one in filters if one != "progressed_before"]
    statement = store._sql.listing(1, columns, "progressed_before" in filters)
    found = "\n".join(
        row[0] for row in admin.execute(b"EXPLAIN " + statement, ("submitted", *filters.values(), 0.0, 9e9, 9e9, "x", 5, 5))
    )
    assert re.search(rf"Scan (using|on) {prefix}_{index}\b.*\n +Index Cond: .*{condition}", found), found


def test_what_ended_long_ago_is_not_looked_for_among_what_ended_since(store, stored, admin, prefix, monkeypatch):
    stored.submit(store, *(f"{one}" for one in range(300)))
    admin.execute(f"UPDATE {prefix} SET status = 'completed', created = id::int, progressed = id::int + 1")
    admin.execute(f"ANALYZE {prefix}")
    admin.execute("SET enable_seqscan = off")  # as the store does
    told: list[str] = []
    read = store._read

    def explained(statement, values, **more):
        told.extend(row[0] for row in admin.execute(b"EXPLAIN (ANALYZE) " + statement, values))
        return read(statement, values, **more)

    monkeypatch.setattr(store, "_read", explained)
    page = store.list(status=["completed"], progressed_before=3.0)
    assert [row.saga_id for row in page.executions] == ["1", "0"]
    assert [int(row.split()[-1]) for row in told if "Rows Removed by Filter" in row] == [2]
