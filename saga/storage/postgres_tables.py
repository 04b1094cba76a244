"""The tables of the PostgreSQL store, and what leads from each version of them to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from saga.storage import rules

if TYPE_CHECKING:
    import psycopg

    from saga.storage.postgres_sql import Statements

__all__ = ["CALLED", "CLAIMABLE", "NEW", "NOW", "OPEN", "STAGE", "migrate", "migrations", "names_of"]

# "C": keys are compared and ordered as the other stores do it, whatever the database's language is.
TEXT: Final = 'text COLLATE "C"'

# The server's clock. Unlike clock_timestamp(), it stands still within a statement, so that an index can be searched by it.
NOW: Final = "extract(epoch FROM statement_timestamp())::float8"

CLAIMABLE: Final = "status IN ('submitted', 'running', 'compensating')"
NEW: Final = "status = 'submitted'"
"""Whether nobody has begun it."""

CALLED: Final = f"{NEW} AND called_until IS NOT NULL"
"""Whether somebody called for it, and nobody has begun it."""

STAGE: Final = f"CASE WHEN NOT {NEW} THEN 0 WHEN called_until IS NULL THEN 2 ELSE 1 END"
"""How far it is: begun, called for, or submitted. Each is found apart, as what was begun may go on where nothing is begun, and
nobody else begins what somebody called for, who lives."""

OPEN: Final = "status NOT IN ('completed', 'compensated')"


def migrations(schema: str | None, prefix: str) -> list[list[str]]:
    """Return the statements that lead from each version of the tables to the next; the first begins with nothing."""
    t = names_of(schema, prefix)
    where = f'"{schema}".' if schema else ""
    return [
        [
            f"""CREATE TABLE {t["saga"]} (
                id text COLLATE "C" PRIMARY KEY, name text COLLATE "C" NOT NULL, version text NOT NULL,
                fingerprint text NOT NULL, digest text NOT NULL, status text COLLATE "C" NOT NULL, owner text,
                epoch bigint NOT NULL, lease_until float8 NOT NULL, due float8 NOT NULL, recoveries bigint NOT NULL,
                created float8 NOT NULL, updated float8 NOT NULL
            )""",
            # Whatever is asked for is one range of one of these for each status (and name); listings merge the ranges.
            f'CREATE INDEX "{prefix}_listed" ON {t["saga"]} (status, created, id)',
            f'CREATE INDEX "{prefix}_listed_by_name" ON {t["saga"]} (status, name, created, id)',
            f"CREATE INDEX \"{prefix}_due\" ON {t['saga']} ((due + 0)) WHERE status IN ('running', 'compensating')",
            f"CREATE INDEX \"{prefix}_due_by_name\" ON {t['saga']} (name, due) WHERE status IN ('running', 'compensating')",
            f"""CREATE TABLE {t["journal"]} (
                saga_id text COLLATE "C" NOT NULL, seq bigint NOT NULL, kind text NOT NULL, step text, payload text NOT NULL,
                at float8 NOT NULL, PRIMARY KEY (saga_id, seq)
            )""",
            f"""CREATE TABLE {t["inbox"]} (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, saga_id text COLLATE "C" NOT NULL, body text NOT NULL,
                token text NOT NULL UNIQUE
            )""",
            f'CREATE INDEX "{prefix}_inbox_of" ON {t["inbox"]} (saga_id, id)',
        ],
        [
            f"""ALTER TABLE {t["saga"]}
                ADD COLUMN step {TEXT}, ADD COLUMN reason text, ADD COLUMN cause {TEXT}, ADD COLUMN tags text,
                ADD COLUMN priority bigint NOT NULL DEFAULT 0, ADD COLUMN exclusive {TEXT},
                ADD COLUMN opens float8 NOT NULL DEFAULT 0, ADD COLUMN started float8,
                ADD COLUMN progressed float8 NOT NULL DEFAULT 0, ADD COLUMN keep_until float8 NOT NULL DEFAULT 0,
                ADD COLUMN holds {TEXT}, ADD COLUMN called_until float8""",
            f"UPDATE {t['saga']} SET started = created, progressed = updated",
            # What may be claimed is one range of these for each definition, or version that it fits, and stage.
            f'DROP INDEX {where}"{prefix}_due"',
            f'DROP INDEX {where}"{prefix}_due_by_name"',
            f'CREATE INDEX "{prefix}_due_by_print" ON {t["saga"]} (name, fingerprint, ({STAGE}), due) WHERE {CLAIMABLE}',
            f'CREATE INDEX "{prefix}_due_by_version" ON {t["saga"]} (name, version, ({STAGE}), due) WHERE {CLAIMABLE}',
            f'CREATE INDEX "{prefix}_in_hand" ON {t["saga"]} (name, lease_until) WHERE owner IS NOT NULL',
            f'CREATE INDEX "{prefix}_started" ON {t["saga"]} (name, started)',
            f'CREATE UNIQUE INDEX "{prefix}_key" ON {t["saga"]} (holds) WHERE holds IS NOT NULL',
            f'CREATE INDEX "{prefix}_in_line" ON {t["saga"]} (exclusive, opens, id) INCLUDE (status, name, version)'
            f" WHERE exclusive IS NOT NULL AND {CLAIMABLE}",
            f'CREATE INDEX "{prefix}_counted" ON {t["saga"]} (status, version, name, cause)',
            f'CREATE INDEX "{prefix}_listed_by_cause" ON {t["saga"]} (status, cause, created, id) WHERE cause IS NOT NULL',
            f'CREATE INDEX "{prefix}_progressed" ON {t["saga"]} (status, progressed) WHERE {OPEN}',
            f'CREATE INDEX "{prefix}_untold" ON {t["saga"]} (due, id) WHERE {rules.UNTOLD}',
            f"""CREATE TABLE {t["tags"]} (
                saga_id {TEXT} NOT NULL, key {TEXT} NOT NULL, value {TEXT} NOT NULL, created float8 NOT NULL,
                PRIMARY KEY (saga_id, key)
            )""",
            f'CREATE INDEX "{prefix}_tagged" ON {t["tags"]} (key, value, created, saga_id)',
            f"""CREATE TABLE {t["hold"]} (
                name {TEXT} NOT NULL, version {TEXT} NOT NULL, who text NOT NULL, why text NOT NULL, at float8 NOT NULL,
                PRIMARY KEY (name, version)
            )""",
            f"""CREATE TABLE {t["worker"]} (
                id {TEXT} PRIMARY KEY, host text NOT NULL, pid bigint NOT NULL, definitions text NOT NULL,
                in_hand bigint NOT NULL, stopping boolean NOT NULL, started float8 NOT NULL, seen float8 NOT NULL,
                until float8 NOT NULL
            )""",
        ],
    ]


def names_of(schema: str | None, prefix: str) -> dict[str, str]:
    """Return the tables' names, quoted.

    :raises ValueError: a name is not a plain identifier.
    """
    if schema is not None:
        rules.check_table_name("schema", schema)
    rules.check_table_name("prefix", prefix)
    where = f'"{schema}".' if schema else ""
    tables = {"saga": prefix} | {
        table: f"{prefix}_{table}" for table in ("journal", "inbox", "tags", "hold", "worker", "schema")
    }
    return {table: f'{where}"{name}"' for table, name in tables.items()}


def migrate(connection: psycopg.Connection[tuple[Any, ...]], sql: Statements) -> None:
    """Bring the tables to the present version, while no other process does.

    :raises StorageError: they have a later version than this code knows.
    """
    steps = migrations(sql.schema, sql.prefix)
    if _version(connection, sql, len(steps)) == len(steps):
        return
    with connection.transaction():
        # The lock is the transaction's: a pooler (PgBouncer) would leave a session's on whichever connection of its own had it.
        # What another has made meanwhile is seen by each statement anew, and known by name once one has opened a table.
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        lock = (f"saga-tasks {sql.schema} {sql.prefix}",)
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", lock)
        connection.execute("SELECT 1 FROM pg_catalog.pg_class LIMIT 1")
        version = _version(connection, sql, len(steps))
        if sql.schema and connection.execute("SELECT to_regnamespace(%s)", (f'"{sql.schema}"',)).fetchone() == (None,):
            connection.execute(f'CREATE SCHEMA "{sql.schema}"'.encode())
        connection.execute(sql.make_version)
        for statements in steps[version:]:
            for statement in statements:
                connection.execute(statement.encode())
        connection.execute(sql.forget_version)
        connection.execute(sql.set_version, (len(steps),))


def _version(connection: psycopg.Connection[tuple[Any, ...]], sql: Statements, known: int) -> int:
    """Return the version of the tables, 0 where there are none.

    :raises StorageError: it is a later one than this code knows.
    """
    if connection.execute("SELECT to_regclass(%s)", (sql.version_table,)).fetchone() == (None,):
        return 0
    row = connection.execute(sql.version).fetchone()
    version: int = row[0] if row else 0
    if version > known:
        raise rules.too_new(version, known, f"the PostgreSQL database ({sql.version_table})")
    return version
