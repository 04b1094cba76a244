"""The statements of the PostgreSQL store, and the versions of its tables. Nothing here connects to a server or tries again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from saga.storage import rules
from saga.storage.protocol import Append, Entry

if TYPE_CHECKING:
    import psycopg

__all__ = ["Statements", "migrate", "migrations", "together"]

COLUMNS = "id, name, version, fingerprint, digest, status, owner, epoch, lease_until, due, recoveries, created, updated"
"""Of an execution's row, as :class:`~saga.storage.protocol.StoredExecution` has them."""

# The server's clock. Unlike clock_timestamp(), it stands still within a statement, so that an index can be searched by it.
NOW = "extract(epoch FROM statement_timestamp())::float8"

CLAIMABLE = "status IN ('running', 'compensating')"
HOLDS = "id = %s AND owner = %s AND epoch = %s"
ANY_DUE = "due + 0"
ENTRIES = "unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::float8[]) AS entry"
ENTRY = "(%s::bigint, %s::text, %s::text, %s::text, %s::float8)"

MOST_ROWS = 16
"""Entries of an append, up to which there is a statement for each number of them."""


def migrations(schema: str | None, prefix: str) -> list[list[str]]:
    """Return the statements that lead from each version of the tables to the next; the first begins with nothing."""
    t = _names(schema, prefix)
    return [
        [
            # "C": ids are compared and ordered as the other stores do it, whatever the database's language is.
            f"""CREATE TABLE {t["saga"]} (
                id text COLLATE "C" PRIMARY KEY, name text COLLATE "C" NOT NULL, version text NOT NULL,
                fingerprint text NOT NULL, digest text NOT NULL, status text COLLATE "C" NOT NULL, owner text,
                epoch bigint NOT NULL, lease_until float8 NOT NULL, due float8 NOT NULL, recoveries bigint NOT NULL,
                created float8 NOT NULL, updated float8 NOT NULL
            )""",
            # Whatever is asked for is one range of one of these for each status (and name); listings merge the ranges.
            f'CREATE INDEX "{prefix}_listed" ON {t["saga"]} (status, created, id)',
            f'CREATE INDEX "{prefix}_listed_by_name" ON {t["saga"]} (status, name, created, id)',
            # Not of the bare column, which the planner would walk for a rare name too, and pass a million others.
            f'CREATE INDEX "{prefix}_due" ON {t["saga"]} (({ANY_DUE})) WHERE {CLAIMABLE}',
            f'CREATE INDEX "{prefix}_due_by_name" ON {t["saga"]} (name, due) WHERE {CLAIMABLE}',
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
    ]


def _names(schema: str | None, prefix: str) -> dict[str, str]:
    """Return the tables' names, quoted.

    :raises ValueError: a name is not a plain identifier.
    """
    if schema is not None:
        rules.check_table_name("schema", schema)
    rules.check_table_name("prefix", prefix)
    where = f'"{schema}".' if schema else ""
    tables = {"saga": prefix} | {table: f"{prefix}_{table}" for table in ("journal", "inbox", "schema")}
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


class Statements:
    """The statements for tables of one schema and prefix, as psycopg takes them: bytes, values as ``%s``.

    :raises ValueError: a name is not a plain identifier.
    """

    def __init__(self, schema: str | None, prefix: str) -> None:
        self.schema = schema
        self.prefix = prefix
        self._names = _names(schema, prefix)
        self._appends()
        self._reads()
        self._leases()
        self._claims()
        self._messages()
        self._purges()
        self._versions()

    def _appends(self) -> None:
        saga, inbox = self._names["saga"], self._names["inbox"]
        # Each gives the id of the execution to write to, or nothing where the lease does not hold.
        self._fences = {
            "append": f"SELECT id FROM {saga} WHERE {HOLDS} FOR NO KEY UPDATE",
            "change": (f"UPDATE {saga} SET status = coalesce(%s::text, status), updated = {NOW} WHERE {HOLDS} RETURNING id"),
            "finish": (
                f"UPDATE {saga} SET status = coalesce(%s::text, status), updated = {NOW}, owner = NULL, lease_until = 0,"
                f" due = {NOW} WHERE {HOLDS} RETURNING id"
            ),
            # Where the inbox holds nothing but these.
            "end": (
                f"UPDATE {saga} s SET status = coalesce(%s::text, status), updated = {NOW}, owner = NULL, lease_until = 0,"
                f" due = {NOW} WHERE {HOLDS} AND NOT EXISTS"
                f" (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id AND i.id <> ALL(%s::bigint[])) RETURNING s.id"
            ),
            "create": (
                f"INSERT INTO {saga} ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, 1,"
                f" {NOW} + %s::float8, {NOW} + %s::float8, 0, {NOW}, {NOW}) ON CONFLICT (id) DO NOTHING RETURNING id"
            ),
        }
        self._into = f"INSERT INTO {self._names['journal']} (saga_id, seq, kind, step, payload, at)"
        read = f"read AS (DELETE FROM {inbox} i USING fence WHERE i.saga_id = fence.id AND i.id = ANY(%s::bigint[]))"
        written = f"written AS ({self._into} SELECT fence.id, entry.* FROM fence, {ENTRIES}) SELECT id FROM fence"
        self._by_column = {
            kind: f"WITH fence AS ({fence}), {written if kind == 'create' else f'{read}, {written}'}".encode()
            for kind, fence in self._fences.items()
        }
        self._by_row: dict[tuple[str, int], bytes] = {}
        #: Of many executions, with values from :func:`together`. Locked rows are passed over: their writers wait each by
        #: itself. Gives the ids of those written to.
        self.append_together = (
            "WITH held AS MATERIALIZED (SELECT s.id, lease.status, lease.ends FROM json_to_recordset(%s::json)"
            f" AS lease (id text, owner text, epoch bigint, status text, ends boolean) JOIN {saga} s"
            " ON s.id = lease.id AND s.owner = lease.owner AND s.epoch = lease.epoch"
            " WHERE coalesce(lease.status, '') NOT IN ('completed', 'compensated', 'paused')"
            f" OR NOT EXISTS (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id) FOR NO KEY UPDATE OF s SKIP LOCKED),"
            f" changed AS (UPDATE {saga} s SET status = coalesce(held.status, s.status), updated = {NOW},"
            " owner = CASE WHEN ends THEN NULL ELSE owner END, lease_until = CASE WHEN ends THEN 0 ELSE lease_until END,"
            f" due = CASE WHEN ends THEN {NOW} ELSE due END FROM held"
            " WHERE s.id = held.id AND (held.ends OR held.status IS NOT NULL)),"
            f" written AS ({self._into} SELECT entry.* FROM json_to_recordset(%s::json)"
            " AS entry (id text, seq bigint, kind text, step text, payload text, at float8) JOIN held ON held.id = entry.id)"
            " SELECT id FROM held"
        ).encode()

    def adding(self, kind: str, entries: Sequence[Entry], taken: Sequence[int] = ()) -> tuple[bytes, tuple[Any, ...]]:
        """Return the statement that adds entries, and their values, which are the last it takes.

        Before them it takes an execution's columns and its lease's seconds, twice, for ``create``; the status for ``change``
        ``finish`` and ``end``; then the lease; and for ``end`` the messages taken. It gives a row where it has written.

        :param kind: ``create``, ``append``, ``change`` (of the status), ``finish`` (the lease is given back) or ``end`` (and
            nobody reads a message any more).
        """
        if 0 < len(entries) <= MOST_ROWS and not taken:
            values = [value for one in entries for value in (one.seq, one.kind, one.step, one.payload, one.at)]
            return self._adding_rows(kind, len(entries)), tuple(values)
        messages = () if kind == "create" else (list(taken),)
        return self._by_column[kind], (*messages, *_columns(entries))

    def _adding_rows(self, kind: str, entries: int) -> bytes:
        """Return the statement for so many entries, given one after the other: faster than one that takes them by column."""
        statement = self._by_row.get((kind, entries))
        if statement is None:
            rows = ", ".join([ENTRY] * entries)
            added = f"{self._into} SELECT fence.id, entry.* FROM fence, (VALUES {rows}) AS entry"
            statement = self._by_row[kind, entries] = f"WITH fence AS ({self._fences[kind]}) {added}".encode()
        return statement

    def _reads(self) -> None:
        saga, journal = self._names["saga"], self._names["journal"]
        self.now = b"SELECT extract(epoch FROM clock_timestamp())::float8"
        self.get = f"SELECT {COLUMNS} FROM {saga} WHERE id = %s".encode()
        self.holds = f"SELECT 1 FROM {saga} WHERE {HOLDS}".encode()
        self.journals = (
            f"SELECT saga_id, seq, kind, step, payload, at FROM {journal} WHERE saga_id = ANY(%s::text[]) ORDER BY saga_id, seq"
        ).encode()
        #: Those of one execution that have one of some ``seq``.
        self.entries = (
            f"SELECT seq, kind, step, payload, at FROM {journal} WHERE saga_id = %s AND seq = ANY(%s::bigint[]) ORDER BY seq"
        ).encode()

    def _leases(self) -> None:
        saga, inbox = self._names["saga"], self._names["inbox"]
        held = f"unnest(%s::text[], %s::bigint[]) AS lease (id, epoch) JOIN {saga} s"
        held += " ON s.id = lease.id AND s.epoch = lease.epoch AND s.owner = %s"
        #: Gives the id of each execution whose lease holds, whether it has messages, and whether the lease was renewed: not
        #: where somebody has locked the row.
        self.renew = (
            f"WITH free AS MATERIALIZED (SELECT s.id FROM {held} FOR NO KEY UPDATE OF s SKIP LOCKED), renewed AS"
            f" (UPDATE {saga} s SET lease_until = {NOW} + %s::float8, due = {NOW} + %s::float8, updated = {NOW} FROM free"
            " WHERE s.id = free.id RETURNING s.id)"
            f" SELECT s.id, EXISTS (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id), s.id IN (SELECT id FROM renewed)"
            f" FROM {held}"
        ).encode()
        self.release = (
            f"UPDATE {saga} SET owner = NULL, lease_until = 0, due = {NOW} + %s::float8, updated = {NOW},"
            f" recoveries = recoveries - %s::int WHERE {HOLDS}"
        ).encode()
        # A message that came while this waited for the row is not seen in the inbox, but has made it due.
        self.release_waiting = (
            f"UPDATE {saga} s SET owner = NULL, lease_until = 0, updated = {NOW}, recoveries = 0, due = CASE"
            f" WHEN due < lease_until OR EXISTS (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id) THEN {NOW}"
            f" ELSE {NOW} + %s::float8 END WHERE {HOLDS}"
        ).encode()

    def _claims(self) -> None:
        saga = self._names["saga"]
        # Gives rows that begin with when they had been due.
        claim = (
            f" UPDATE {saga} s SET owner = %s, epoch = s.epoch + 1, lease_until = {NOW} + %s::float8,"
            f" due = {NOW} + %s::float8, recoveries = s.recoveries + %s::int, updated = {NOW}"
            " FROM picked WHERE s.id = picked.id"
            f" RETURNING picked.due, {', '.join(f's.{column}' for column in COLUMNS.split(', '))}"
        )
        lock = "FOR NO KEY UPDATE SKIP LOCKED"

        def oldest(due: str) -> str:
            return f"{CLAIMABLE} AND {due} <= {NOW} AND lease_until <= {NOW} ORDER BY {due} LIMIT %s {lock}"

        self.claim = f"WITH picked AS MATERIALIZED (SELECT id, due FROM {saga} WHERE {oldest(ANY_DUE)}){claim}".encode()
        self.claim_by_name = (
            "WITH picked AS MATERIALIZED (SELECT one.id, one.due FROM unnest(%s::text[]) AS wanted (name) CROSS JOIN LATERAL"
            f" (SELECT id, due FROM {saga} WHERE name = wanted.name AND {oldest('due')}) AS one"
            f" ORDER BY one.due LIMIT %s){claim}"
        ).encode()
        self.claim_one = (
            f"WITH picked AS MATERIALIZED (SELECT id, due FROM {saga} WHERE id = %s AND lease_until <= {NOW}"
            f" AND (%s::text[] IS NULL OR name = ANY(%s::text[])) FOR NO KEY UPDATE){claim}"
        ).encode()

    def _messages(self) -> None:
        saga, inbox = self._names["saga"], self._names["inbox"]
        self.inbox = f"SELECT id, saga_id, body FROM {inbox} WHERE saga_id = %s ORDER BY id".encode()
        self.with_mail = f"SELECT DISTINCT saga_id FROM {inbox} WHERE saga_id = ANY(%s::text[])".encode()
        # The row is locked before the message gets its number: an execution's messages are numbered as they are committed.
        self.post = (
            f"WITH woken AS (UPDATE {saga} SET due = least(due, {NOW}) WHERE id = %s"
            " AND status NOT IN ('completed', 'compensated') RETURNING id)"
            f" INSERT INTO {inbox} (saga_id, body, token) SELECT id, %s, %s FROM woken ON CONFLICT (token) DO NOTHING"
        ).encode()
        #: Whether the message with this token is there.
        self.posted = f"SELECT 1 FROM {inbox} WHERE token = %s".encode()

    def _purges(self) -> None:
        saga, journal, inbox = self._names["saga"], self._names["journal"], self._names["inbox"]
        #: Locks executions of one status that nobody holds, last written before then.
        self.purgeable = (
            f"SELECT id FROM {saga} WHERE status = %s AND created < %s AND updated < %s AND lease_until <= {NOW}"
            " ORDER BY created, id LIMIT %s FOR UPDATE SKIP LOCKED"
        ).encode()
        self.purge = tuple(
            f"DELETE FROM {table} WHERE {key} = ANY(%s::text[])".encode()
            for table, key in ((journal, "saga_id"), (inbox, "saga_id"), (saga, "id"))
        )

    def _versions(self) -> None:
        table = self.version_table = self._names["schema"]
        self.version = f"SELECT max(version) FROM {table}".encode()
        self.make_version = f"CREATE TABLE IF NOT EXISTS {table} (version integer NOT NULL)".encode()
        self.forget_version = f"DELETE FROM {table}".encode()
        self.set_version = f"INSERT INTO {table} VALUES (%s)".encode()

    def listing(self, statuses: int, by_name: bool) -> bytes:
        """Return the statement of a page: so many ranges of an index, each in order, and the newest of all."""
        saga, name = self._names["saga"], "AND name = %s " if by_name else ""
        part = (
            f"(SELECT {COLUMNS} FROM {saga} WHERE status = %s {name}AND created >= %s::float8 AND created <= %s::float8"
            ' AND (created < %s::float8 OR id < %s::text COLLATE "C") ORDER BY created DESC, id DESC LIMIT %s)'
        )
        ranges = " UNION ALL ".join([part] * statuses)
        return f"SELECT * FROM ({ranges}) AS page ORDER BY created DESC, id DESC LIMIT %s".encode()


def together(appends: Sequence[Append]) -> tuple[str, str]:
    """Return the values of :attr:`Statements.append_together`: leases and entries.

    They are JSON, which psycopg and the server read in a fraction of the time that arrays take.
    """
    leases = [{**one.lease._asdict(), "id": one.lease.saga_id, "status": one.status, "ends": one.release} for one in appends]
    entries = [{"id": one.lease.saga_id, **entry._asdict()} for one in appends for entry in one.entries]
    # As they are: what cannot be sent alone, such as lone surrogates, cannot be sent so either.
    return json.dumps(leases, ensure_ascii=False), json.dumps(entries, ensure_ascii=False)


def _columns(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    """Return the entries' columns, one list for each."""
    return (
        [entry.seq for entry in entries],
        [entry.kind for entry in entries],
        [entry.step for entry in entries],
        [entry.payload for entry in entries],
        [entry.at for entry in entries],
    )
