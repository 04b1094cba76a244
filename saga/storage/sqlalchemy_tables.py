"""The tables of the SQLAlchemy store in each database's own types, and the versions of them. No store lives here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGTEXT

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.sqlalchemy_dialects import collation, is_mysql, shown

__all__ = ["MIGRATIONS", "Tables", "latest", "migrate"]


class Tables:
    """The tables with the names that ``prefix`` gives them. Make it after the first connection: the server's kind matters."""

    def __init__(self, prefix: str, dialect: sa.Dialect) -> None:
        self.metadata = sa.MetaData()
        comparing = collation(dialect)
        key = sa.String(rules.LONGEST, collation=comparing)
        status = sa.String(20, collation=comparing)
        number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
        text = sa.Text().with_variant(LONGTEXT(), "mysql", "mariadb")
        options: dict[str, Any] = {"sqlite_autoincrement": True}
        if is_mysql(dialect):
            own = {"engine": "InnoDB", "charset": "utf8mb4", "collate": comparing}
            options = {f"{dialect.name}_{option}": value for option, value in own.items()}

        def table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
            return sa.Table(name, self.metadata, *items, **options)

        def column(name: str, kind: sa.types.TypeEngine[Any], *, null: bool = False, primary: bool = False) -> sa.Column[Any]:
            return sa.Column(name, kind, nullable=null, primary_key=primary)

        def later(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
            # Rows that were there before have this; so have those of an earlier release that still runs elsewhere.
            return sa.Column(name, kind, nullable=False, server_default=sa.text("0"))

        self.saga = table(
            prefix,
            column("id", key, primary=True),
            column("name", key),
            column("version", key),
            column("fingerprint", key),
            column("digest", key),
            column("status", status),
            column("owner", key, null=True),
            column("epoch", sa.BigInteger()),
            column("lease_until", sa.Double()),
            column("due", sa.Double()),
            column("recoveries", sa.BigInteger()),
            column("created", sa.Double()),
            column("updated", sa.Double()),
            column("step", key, null=True),
            column("reason", text, null=True),
            column("cause", key, null=True),
            column("tags", text, null=True),
            later("priority", sa.BigInteger()),
            column("exclusive", key, null=True),
            later("opens", sa.Double()),
            column("started", sa.Double(), null=True),
            later("progressed", sa.Double()),
            later("keep_until", sa.Double()),
            column("called_until", sa.Double(), null=True),
            # Its exclusive key, where it has that: nobody else has it then.
            column("holds", key, null=True),
            # Whatever is asked for is one range of one of these for each status (and name).
            sa.Index(f"{prefix}_listed", "status", "created", "id"),
            sa.Index(f"{prefix}_listed_by_name", "status", "name", "created", "id"),
            sa.Index(f"{prefix}_progressed", "status", "progressed"),
            sa.Index(f"{prefix}_counted", "status", "name", "version", "cause"),
            sa.Index(f"{prefix}_due", "status", "due"),
            sa.Index(f"{prefix}_due_by_name", "status", "name", "due"),
            sa.Index(f"{prefix}_due_by_fingerprint", "status", "name", "fingerprint", "due"),
            sa.Index(f"{prefix}_due_by_version", "status", "name", "version", "due"),
            sa.Index(f"{prefix}_called", "status", "called_until"),
            sa.Index(f"{prefix}_in_hand", "name", "lease_until"),
            sa.Index(f"{prefix}_started", "name", "started"),
            sa.Index(f"{prefix}_in_line", "exclusive", "status", "opens", "id"),
            sa.Index(f"{prefix}_holding", "holds", unique=True),
        )
        self.journal = table(
            f"{prefix}_journal",
            column("saga_id", key, primary=True),
            sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
            column("kind", sa.String(rules.LONGEST)),
            column("step", text, null=True),
            column("payload", text),
            column("at", sa.Double()),
        )
        self.inbox = table(
            f"{prefix}_inbox",
            sa.Column("id", number, primary_key=True, autoincrement=True),
            column("saga_id", key),
            column("body", text),
            sa.Column("token", sa.String(40), nullable=False, unique=True),
            sa.Index(f"{prefix}_inbox_of", "saga_id", "id"),
        )
        self.tags = table(
            f"{prefix}_tags",
            column("saga_id", key, primary=True),
            column("key", key, primary=True),
            column("value", key),
            column("created", sa.Double()),
            sa.Index(f"{prefix}_tags_listed", "key", "value", "created", "saga_id"),
        )
        self.hold = table(
            f"{prefix}_hold",
            column("name", key, primary=True),
            column("version", key, primary=True),
            column("who", key),
            column("why", text),
            column("at", sa.Double()),
        )
        self.worker = table(
            f"{prefix}_worker",
            column("id", key, primary=True),
            column("host", key),
            column("pid", sa.BigInteger()),
            column("definitions", text),
            column("in_hand", sa.BigInteger()),
            column("stopping", sa.Boolean()),
            column("started", sa.Double()),
            column("seen", sa.Double()),
            column("until", sa.Double()),
        )
        # A row of a saga that has limits is locked by whoever claims of it: what they count stays true until they are done.
        self.limited = table(f"{prefix}_limited", column("name", key, primary=True))
        self.schema = table(f"{prefix}_schema", sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False))


Step = Callable[[sa.Connection, Tables], None]


def _tell_and_take_turns(connection: sa.Connection, tables: Tables) -> None:
    """Lead version 1 to 2: rows tell where executions stand, and whose turn it is.

    What an attempt that was cut short has done is left as it is.
    """
    saga = tables.saga
    tables.metadata.create_all(connection)
    known = sa.inspect(connection)
    columns = {column["name"] for column in known.get_columns(saga.name)}
    for column in saga.columns:
        if column.name not in columns:
            added = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE {saga.name} ADD COLUMN {added}"))
    connection.execute(saga.update().where(saga.c.progressed == 0).values(started=saga.c.created, progressed=saga.c.updated))
    for index in saga.indexes:
        index.create(connection, checkfirst=True)


MIGRATIONS: list[Step] = [_tell_and_take_turns]
"""What leads from version 1 of the tables to 2, from 2 to 3 and so on. A new database gets the latest at once."""


def latest() -> int:
    """Return the version of the tables that this code works with."""
    return 1 + len(MIGRATIONS)


def migrate(engine: sa.Engine, tables: Tables) -> None:
    """Bring the tables to the present version, while no other process does.

    :raises StorageError: they have a later version than this code knows.
    """
    with engine.connect() as connection:
        if _version(connection, tables) == latest():
            return
    with engine.connect() as connection, _locked(connection, tables.saga.name):
        version = _version(connection, tables)
        if version == 0:
            tables.metadata.create_all(connection)
            # An attempt that was cut short may have left a table without its indexes.
            for table in tables.metadata.sorted_tables:
                for index in table.indexes:
                    index.create(connection, checkfirst=True)
        for step in MIGRATIONS[version - 1 :] if version else ():
            step(connection, tables)
        connection.execute(tables.schema.delete())
        connection.execute(tables.schema.insert().values(version=latest()))
        connection.commit()


def _version(connection: sa.Connection, tables: Tables) -> int:
    if not sa.inspect(connection).has_table(tables.schema.name):
        return 0
    version: int = connection.execute(sa.select(sa.func.max(tables.schema.c.version))).scalar() or 0
    if version > latest():
        raise rules.too_new(version, latest(), f"{shown(connection.engine.url)} ({tables.schema.name})")
    return version


@contextmanager
def _locked(connection: sa.Connection, prefix: str) -> Iterator[None]:
    """Keep other processes from migrating. Where the database has no lock for it, their attempts fail, and ours stands."""
    name = {"name": f"saga-tasks {prefix}"}
    if is_mysql(connection.dialect):
        take, give = "SELECT GET_LOCK(:name, 60)", "SELECT RELEASE_LOCK(:name)"
    else:
        if connection.dialect.name == "postgresql":  # until the transaction ends, which reads whatever is committed
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), name)
        yield
        return
    if not connection.execute(sa.text(take), name).scalar():
        raise StorageError("another process has been changing saga's tables for a minute; nothing was changed")
    # What another has made meanwhile is seen by a transaction that begins later.
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(sa.text(give), name)
            connection.commit()
