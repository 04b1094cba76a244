"""What a database administrator is told makes the tables that a store would make, and gives it what rights it needs."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from saga import Saga, step
from saga.errors import StorageError
from saga.operations import Operations
from saga.storage import SqliteStore, Store, schema_sql
from tests.kit.databases import Stored

EVERYTHING = {
    "postgres": """SELECT format('%s %s %s %s %s %s', c.relkind, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
            a.attnotnull || a.attidentity || a.attcollation, pg_get_expr(d.adbin, d.adrelid))
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relname LIKE '{0}%'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE tablename LIKE '{0}%'
        UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid::regclass::text LIKE '{0}%' ORDER BY 1""",
    "mariadb": """SELECT concat_ws(' ', table_name, column_name, column_type, is_nullable, column_default, extra,
            collation_name)
        FROM information_schema.columns WHERE table_name LIKE '{0}%'
        UNION ALL SELECT concat_ws(' ', table_name, non_unique, index_name, seq_in_index, column_name)
        FROM information_schema.statistics WHERE table_name LIKE '{0}%'
        UNION ALL SELECT concat_ws(' ', table_name, engine, table_collation) FROM information_schema.tables
        WHERE table_name LIKE '{0}%' ORDER BY 1""",
}


class Server:
    """A database server, as its administrator uses it.

    :ivar url: its URL, for SQLAlchemy.
    """

    def __init__(self, kind: str, url: str) -> None:
        sa = pytest.importorskip("sqlalchemy")
        self.kind = kind
        self.url = sa.make_url(url.replace("postgresql://", "postgresql+psycopg://"))
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self.connection = engine.connect().connection

    def run(self, script: str) -> None:
        """Run a script, statement after statement."""
        for statement in re.sub(r"^--.*$", "", script, flags=re.MULTILINE).split(";\n"):
            if statement.strip():
                self.executed(statement)

    def executed(self, statement: str) -> Any:
        """Return a driver's cursor of its own, in which a % is no more than that."""
        cursor = self.connection.cursor()
        cursor.execute(statement)
        return cursor

    def found(self, prefix: str) -> list[str]:
        """Return all that the catalogue knows of the tables."""
        return [row[0].replace(prefix, "saga") for row in self.executed(EVERYTHING[self.kind].format(prefix)).fetchall()]

    def opened(self, store: str, prefix: str, role: str | None = None) -> Store:
        """Return a store that connects as the role."""
        from saga.storage import PostgresStore, SQLAlchemyStore

        url = self.url if role is None else self.url.set(username=role)
        if store == "own":
            return PostgresStore(url.set(drivername="postgresql").render_as_string(hide_password=False), prefix=prefix)
        return SQLAlchemyStore(url, prefix=prefix)


#: The kind of each server, which store is opened, and what its SQL is asked for by.
SERVERS = {
    "postgres": ("postgres", "own", "postgresql://db.example.com/shop"),
    "sqlalchemy-postgres": ("postgres", "through", "postgresql+psycopg"),
    "mariadb": ("mariadb", "through", "mariadb"),
}


@pytest.fixture(params=SERVERS)
def on(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str, str]]:
    kind, store, database = SERVERS[request.param]
    server = Server(kind, request.getfixturevalue(f"{kind}_url"))
    yield server, store, database
    server.connection.close()


def test_the_tables_are_those_that_a_store_makes(on: Any, prefix: str) -> None:
    server, store, database = on
    server.run(schema_sql(database, prefix=f"{prefix}_hand"))
    server.opened(store, f"{prefix}_self").close()
    found = server.found(f"{prefix}_hand")
    assert found == server.found(f"{prefix}_self")
    assert len(found) > 20


def without_rights(server: Server, prefix: str) -> str:
    """Return a role that may connect, and nothing more."""
    role = f"{prefix}_role"
    if server.kind == "postgres":
        server.run(f'CREATE ROLE "{role}" LOGIN;\nREVOKE CREATE ON SCHEMA public FROM PUBLIC;\n')
    else:
        server.run(f"CREATE USER '{role}'@'%'")
    return role


def test_a_store_needs_no_right_that_is_not_granted_there(on: Any, prefix: str, stored: type[Stored]) -> None:
    server, kind, database = on
    role = without_rights(server, prefix)
    with pytest.raises(StorageError, match=r"denied.*; their owner makes the tables by the SQL of saga\.storage\.schema_sql\("):
        server.opened(kind, prefix, role)
    script = schema_sql(database, prefix=prefix, role=role)
    server.run(script)
    server.run(";\n".join(re.findall(r"^GRANT [^;]+", script, re.MULTILINE)))  # again, as after a later release's first start
    with server.opened(kind, prefix, role) as store:
        assert Saga("s", store=store).add_task(step(lambda: 1, name="a")).execute(saga_id="x").ok
        store.create(stored.new("y"), stored.entries(1), "who died", 0.0)
        store.post("y", "{}")
        assert Operations(store, "ann").purge(older_than=0.0) == 1
        with pytest.raises(StorageError, match="denied"):
            server.opened(kind, f"{prefix}_other", role)


def test_tables_may_be_in_a_schema_of_their_own(postgres_url: str, prefix: str) -> None:
    from saga.storage import PostgresStore

    server = Server("postgres", postgres_url)
    role = without_rights(server, prefix)
    server.run(schema_sql("postgresql", schema=prefix, role=role))
    url = server.url.set(drivername="postgresql", username=role).render_as_string(hide_password=False)
    with PostgresStore(url, schema=prefix) as store:
        assert Saga("s", store=store).add_task(step(lambda: 1, name="a")).execute(saga_id="x").ok
    server.connection.close()


def through_sqlalchemy(path: Path) -> Store:
    sqlalchemy = pytest.importorskip("saga.storage.sqlalchemy")
    store: Store = sqlalchemy.SQLAlchemyStore(f"sqlite+pysqlite:///{path}")
    return store


@pytest.mark.parametrize(("open_it", "database"), [(SqliteStore, "sqlite"), (through_sqlalchemy, "sqlite+pysqlite")])
def test_a_file_is_made_as_a_store_makes_it(open_it: Callable[[Path], Store], database: str, tmp_path: Path) -> None:
    def found(name: str) -> tuple[list[Any], int]:
        with sqlite3.connect(tmp_path / name) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
            changes = connection.execute("PRAGMA schema_version").fetchone()[0]
        connection.close()
        return [(kind, name, re.sub(r"\s+", "", sql or "")) for kind, name, sql in rows], changes

    with sqlite3.connect(tmp_path / "hand.db") as connection:
        connection.executescript(schema_sql(database))
    connection.close()
    open_it(tmp_path / "self.db").close()
    before = found("hand.db")
    assert before[0] == found("self.db")[0]
    with open_it(tmp_path / "hand.db") as store:
        assert Saga("s", store=store).add_task(step(lambda: 1, name="a")).execute(saga_id="x").ok
    assert found("hand.db") == before  # nothing was made


def test_a_path_is_a_file_of_sqlite(tmp_path: Path) -> None:
    assert schema_sql(tmp_path / "saga.db") == schema_sql("sqlite:///saga.db") == schema_sql("SQLite")


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb", "oracle"])
def test_grants_to_nobody_are_comments(dialect: str) -> None:
    def statements(text: str) -> list[str]:
        return [line for line in text.splitlines() if "GRANT " not in line]

    told, granted = schema_sql(dialect), schema_sql(dialect, role="shop")
    assert all(line.startswith("-- GRANT") for line in told.splitlines() if "GRANT " in line)
    assert statements(told) == statements(granted)
    assert told.count("GRANT ") == granted.count("\nGRANT ") > 3


def test_names_are_quoted() -> None:
    assert 'TO "the ""shop"""' in schema_sql("postgresql", role='the "shop"')
    assert "TO `shop`@`10.0.0.%`;" in schema_sql("mariadb", role="shop@10.0.0.%")
    assert "TO `shop`@`%`;" in schema_sql("mysql", role="shop")


@pytest.mark.parametrize(
    ("error", "says", "given"),
    [
        (ValueError, "database is no URL and no dialect; give the URL", {"database": "host=db password=secret"}),
        (ValueError, "database is no URL and no dialect; give the URL", {"database": 5}),
        (StorageError, "no database can be reached this way", {"database": "mongodb"}),
        (StorageError, "of a driver for asyncio", {"database": "mysql+aiomysql://host/x"}),
        (ValueError, "prefix must be", {"database": "mysql", "prefix": "a-b"}),
        (ValueError, "prefix and role: in an SQLite file", {"database": "sqlite", "prefix": "orders"}),
        (ValueError, "prefix and role: in an SQLite file", {"database": "sqlite", "role": "shop"}),
        (ValueError, "schema is 'x', and a store of mysql has none", {"database": "mysql", "schema": "x"}),
        (ValueError, r"role is 'a\\nb'; give", {"database": "postgresql", "role": "a\nb"}),
    ],
)
def test_what_cannot_be_is_refused(error: type[Exception], says: str, given: dict[str, Any]) -> None:
    if "mysql" in str(given) or "mongo" in str(given):
        pytest.importorskip("sqlalchemy")
    with pytest.raises(error, match=says) as caught:
        schema_sql(**given)
    assert "secret" not in str(caught.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(StorageError, match=r"the SQL for mysql needs sqlalchemy: pip install 'saga-tasks\[sqlalchemy\]'"):
        schema_sql("mysql")
    assert "GRANT" in schema_sql("postgresql")


def test_a_store_says_the_version_that_its_file_has(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "a.db") as store:
        store.now()
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            assert connection.execute("SELECT max(version) FROM saga_schema").fetchone() == (store.schema_version,)
