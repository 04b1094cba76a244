"""The SQL that makes the tables, for those who may not make them themselves. It is made of the statements that the stores use.

Nothing is connected to here, and no statement is written out but what grants the use of the tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from saga.errors import StorageError
from saga.storage import rules

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["schema_sql"]

_GIVE: Final = "give the URL that the store is opened with, or the name of its dialect: sqlite, postgresql, mysql, mariadb, ..."
_CHANGED: Final = "SELECT, INSERT, UPDATE, DELETE"
_A_ROLE: Final = "the_role_of_the_stores"


def schema_sql(
    database: str | os.PathLike[str], *, prefix: str = "saga", schema: str | None = None, role: str | None = None
) -> str:
    """Return the SQL that makes the tables and indexes of a store, as this release uses them, in a database that has none.

    A store that finds its tables makes none, and needs no more rights than the grants at the end give it. Those of an earlier
    release are led forward by :func:`open_store`, called once by their owner; the grants are given again then.

    :param database: the path or URL that the store is to be opened with; nothing is connected to. Or the name of a dialect:
        ``sqlite``, ``postgresql``, ``mysql``, ``mariadb`` or another of SQLAlchemy's. As for :func:`open_store`, ``postgresql``
        alone is for :class:`PostgresStore`, and ``postgresql+psycopg`` for :class:`SQLAlchemyStore`. MariaDB is ``mariadb``,
        whatever its URL begins with.
    :param prefix: the store's.
    :param schema: the store's; where it is not given, the tables are made in the first schema of the search path.
    :param role: as whom the store connects, in MySQL ``user`` or ``user@host``; the grants are comments where it is not given.
    :raises StorageError: there is no such dialect, or SQLAlchemy, which knows it, is not installed.
    :raises ValueError: a parameter is wrong, or there is no such thing in this database.
    """
    rules.check_table_name("prefix", prefix)
    if role is not None and not (
        isinstance(role, str) and re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", role)
    ):
        raise ValueError(f"role is {role!r}; give the name of the role that the store connects as")
    kind = _dialect_of(database)
    if kind not in ("postgresql", "postgres") and schema is not None:
        raise ValueError(f"schema is {schema!r}, and a store of {kind} has none; give one to postgresql://... alone")
    if kind == "sqlite":
        if prefix != "saga" or role is not None:
            raise ValueError(
                "prefix and role: in an SQLite file the tables are called saga, and there are no roles; leave them out"
            )
        return _script("SQLite", _sqlite())
    if kind in ("postgresql", "postgres"):
        return _script("PostgreSQL", _postgres(prefix, schema, role))
    return _script(kind, _sqlalchemy(kind, prefix, role))


def _dialect_of(database: object) -> str:
    """Return the name of a dialect, with its driver where that is named. No text is in the error: it may be the password's."""
    if isinstance(database, os.PathLike):
        return "sqlite"
    found = re.fullmatch(r"\s*([A-Za-z]\w*(?:\+\w+)?)(://.*)?", database, re.DOTALL) if isinstance(database, str) else None
    if found is None:
        raise ValueError(f"database is no URL and no dialect; {_GIVE}")
    return found[1].lower()


def _script(database: str, statements: Iterable[str]) -> str:
    """Return statements as one text."""
    text = ";\n".join(re.sub(r"\n\s*(?=\))", "\n", re.sub(r" *\n\s+", "\n    ", one.strip())) for one in statements)
    return f"-- The tables of a store of saga-tasks, for {database}\n{text};"


def _granting(role: str | None, quote: Callable[[str], str]) -> Callable[[str, str], str]:
    """Return what writes a grant: a comment, where nobody is named."""
    if role is None:
        return lambda rights, what: f"-- GRANT {rights} ON {what} TO {_A_ROLE}"
    return lambda rights, what: f"GRANT {rights} ON {what} TO {quote(role)}"


def _sqlite() -> Iterator[str]:
    import sqlite3

    from saga.storage.sqlite_tables import migrate

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, ":memory:")
        named = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite^_%' ESCAPE '^' ORDER BY rowid"
        made = connection.execute(named).fetchall()
        ((version,),) = connection.execute("SELECT version FROM saga_schema")
    yield "BEGIN"
    yield from (statement for (statement,) in made)
    yield f"INSERT INTO saga_schema VALUES ({version})"
    yield "COMMIT"


def _postgres(prefix: str, schema: str | None, role: str | None) -> Iterator[str]:
    from saga.storage.postgres_sql import Statements
    from saga.storage.postgres_tables import migrations

    sql, steps = Statements(schema, prefix), migrations(schema, prefix)
    made = [sql.make_version.decode(), *(statement for step in steps for statement in step)]
    yield "BEGIN"
    if schema is not None:
        yield f'CREATE SCHEMA IF NOT EXISTS "{schema}"'
    yield from made
    yield sql.set_version.decode() % len(steps)
    granted = _granting(role, lambda name: '"' + name.replace('"', '""') + '"')
    if schema is not None:
        yield granted("USAGE", f'SCHEMA "{schema}"')
    for statement in made:
        if found := re.match(r"CREATE TABLE (?:IF NOT EXISTS )?(\S+)", statement):
            yield granted("SELECT" if found[1] == sql.version_table else _CHANGED, found[1])
    yield "COMMIT"


def _sqlalchemy(kind: str, prefix: str, role: str | None) -> Iterator[str]:
    try:
        import sqlalchemy as sa
    except ModuleNotFoundError as error:
        raise StorageError(f"the SQL for {kind} needs {error.name}: pip install 'saga-tasks[sqlalchemy]'") from error

    from saga.storage.sqlalchemy_dialects import is_mysql, url_of
    from saga.storage.sqlalchemy_tables import Tables, latest

    made_by: Any = url_of(f"{kind}://").get_dialect()
    dialect: sa.Dialect = made_by(paramstyle="named")  # in which a % is no more than that
    tables = Tables(prefix, dialect)
    quote = dialect.identifier_preparer.quote_identifier

    def sql(statement: sa.sql.ClauseElement) -> str:
        return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))

    def account(name: str) -> str:
        user, _, host = name.rpartition("@") if "@" in name else (name, "", "%")
        return f"{quote(user)}@{quote(host)}"

    granted = _granting(role, account if is_mysql(dialect) else quote)
    at_once = dialect.name in ("postgresql", "sqlite")
    yield from ["BEGIN"] if at_once else []
    for table in tables.metadata.sorted_tables:
        yield sql(sa.schema.CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield sql(sa.schema.CreateIndex(index))
    yield sql(tables.schema.insert().values(version=latest()))
    for table in tables.metadata.sorted_tables if dialect.name != "sqlite" else ():
        yield granted("SELECT" if table is tables.schema else _CHANGED, dialect.identifier_preparer.format_table(table))
        column = table.autoincrement_column
        if column is not None and dialect.name == "postgresql":  # which numbers rows by a sequence that it calls so
            yield granted("USAGE", f"SEQUENCE {quote(f'{table.name}_{column.name}_seq')}")
    yield from ["COMMIT"] if at_once else []
