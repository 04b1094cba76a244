"""The statements of the PostgreSQL store, and the versions of its tables. Nothing here connects to anything."""

from __future__ import annotations

import re

__all__ = ["Statements", "migrations"]

COLUMNS = "id, name, version, fingerprint, digest, status, owner, epoch, lease_until, due, recoveries, created, updated"

# The server's clock. Unlike clock_timestamp(), it stands still within a statement, so that an index can be searched by it.
NOW = "extract(epoch FROM statement_timestamp())::float8"

FREE = "status IN ('running', 'compensating')"
ANY_DUE = "due + 0"
ENTRIES = "unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::float8[]) AS entry"
ENTRY = "(%s::bigint, %s::text, %s::text, %s::text, %s::float8)"


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
            f'CREATE INDEX "{prefix}_due" ON {t["saga"]} (({ANY_DUE})) WHERE {FREE}',
            f'CREATE INDEX "{prefix}_due_by_name" ON {t["saga"]} (name, due) WHERE {FREE}',
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
    for name in (schema, prefix):
        # Room is left for "_listed_by_name" within PostgreSQL's 63 bytes.
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,46}", name):
            raise ValueError(f"a schema or prefix has up to 47 letters, digits and underscores, unlike {name!r}")
    where = f'"{schema}".' if schema else ""
    tables = {"saga": prefix} | {table: f"{prefix}_{table}" for table in ("journal", "inbox", "schema")}
    return {table: f'{where}"{name}"' for table, name in tables.items()}


class Statements:
    """The statements for tables of one schema and prefix, as psycopg takes them: bytes, values as ``%s``.

    :raises ValueError: a name is not a plain identifier.
    """

    def __init__(self, schema: str | None, prefix: str) -> None:
        t = _names(schema, prefix)
        saga, journal, inbox, version = t["saga"], t["journal"], t["inbox"], t["schema"]
        self._saga = saga
        held = f"SELECT id FROM {saga} WHERE id = %s AND owner = %s AND epoch = %s FOR NO KEY UPDATE"
        changed = (
            f"UPDATE {saga} SET status = coalesce(%s::text, status), updated = {NOW} "
            "WHERE id = %s AND owner = %s AND epoch = %s RETURNING id"
        )
        finished = (
            f"UPDATE {saga} SET status = coalesce(%s::text, status), updated = {NOW}, owner = NULL, lease_until = 0,"
            f" due = {NOW} WHERE id = %s AND owner = %s AND epoch = %s RETURNING id"
        )
        into = f"INSERT INTO {journal} (saga_id, seq, kind, step, payload, at)"
        read = f"read AS (DELETE FROM {inbox} i USING fence WHERE i.saga_id = fence.id AND i.id = ANY(%s::bigint[]))"
        written = f"written AS ({into} SELECT fence.id, entry.* FROM fence, {ENTRIES}) SELECT id FROM fence"
        self.now = b"SELECT extract(epoch FROM clock_timestamp())::float8"
        made = (
            f"INSERT INTO {saga} ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, 1,"
            f" {NOW} + %s::float8, {NOW} + %s::float8, 0, {NOW}, {NOW}) ON CONFLICT (id) DO NOTHING RETURNING id"
        )
        self._into = into
        self._fences = {"append": held, "change": changed, "finish": finished, "create": made}
        #: For any number of entries, given by column, after the messages read (but for ``create``).
        self.by_column = {
            kind: f"WITH fence AS ({fence}), {written if kind == 'create' else f'{read}, {written}'}".encode()
            for kind, fence in self._fences.items()
        }
        self._by_row: dict[tuple[str, int], bytes] = {}
        # Leases, with the status to set and whether to give them back, and entries: as JSON, which psycopg and the server read
        # in a fraction of the time that arrays take. Locked rows are passed over: their writers wait each by itself.
        self.together = (
            "WITH held AS MATERIALIZED (SELECT s.id, lease.status, lease.ends FROM json_to_recordset(%s::json)"
            f" AS lease (id text, owner text, epoch bigint, status text, ends boolean) JOIN {saga} s"
            " ON s.id = lease.id AND s.owner = lease.owner AND s.epoch = lease.epoch FOR NO KEY UPDATE OF s SKIP LOCKED),"
            f" changed AS (UPDATE {saga} s SET status = coalesce(held.status, s.status), updated = {NOW},"
            " owner = CASE WHEN ends THEN NULL ELSE owner END, lease_until = CASE WHEN ends THEN 0 ELSE lease_until END,"
            f" due = CASE WHEN ends THEN {NOW} ELSE due END FROM held"
            " WHERE s.id = held.id AND (held.ends OR held.status IS NOT NULL)),"
            f" written AS ({into} SELECT entry.* FROM json_to_recordset(%s::json)"
            " AS entry (id text, seq bigint, kind text, step text, payload text, at float8) JOIN held ON held.id = entry.id)"
            " SELECT id FROM held"
        ).encode()
        self.get = f"SELECT {COLUMNS} FROM {saga} WHERE id = %s".encode()
        self.journals = (
            f"SELECT saga_id, seq, kind, step, payload, at FROM {journal} WHERE saga_id = ANY(%s::text[]) ORDER BY saga_id, seq"
        ).encode()
        self.entries = (
            f"SELECT seq, kind, step, payload, at FROM {journal} WHERE saga_id = %s AND seq = ANY(%s::bigint[]) ORDER BY seq"
        ).encode()
        self.inbox = f"SELECT id, saga_id, body FROM {inbox} WHERE saga_id = %s ORDER BY id".encode()
        self.with_mail = f"SELECT DISTINCT saga_id FROM {inbox} WHERE saga_id = ANY(%s::text[])".encode()
        self.renew = (
            f"UPDATE {saga} s SET lease_until = {NOW} + %s::float8, due = {NOW} + %s::float8, updated = {NOW}"
            " FROM unnest(%s::text[], %s::bigint[]) AS lease (id, epoch)"
            " WHERE s.id = lease.id AND s.epoch = lease.epoch AND s.owner = %s"
            f" RETURNING s.id, EXISTS (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id)"
        ).encode()
        self.release = (
            f"UPDATE {saga} SET owner = NULL, lease_until = 0, due = {NOW} + %s::float8, updated = {NOW},"
            " recoveries = CASE WHEN %s THEN 0 ELSE recoveries - %s::int END WHERE id = %s AND owner = %s AND epoch = %s"
        ).encode()
        # The row is locked before the message gets its number: an execution's messages are numbered as they are committed.
        self.post = (
            f"WITH woken AS (UPDATE {saga} SET due = least(due, {NOW}) WHERE id = %s RETURNING id)"
            f" INSERT INTO {inbox} (saga_id, body, token) SELECT id, %s, %s FROM woken ON CONFLICT (token) DO NOTHING"
        ).encode()
        self.posted = f"SELECT 1 FROM {inbox} WHERE token = %s".encode()
        self.old = (
            f"SELECT id FROM {saga} WHERE status = %s AND created < %s AND updated < %s AND lease_until <= {NOW}"
            " ORDER BY created, id LIMIT %s FOR UPDATE SKIP LOCKED"
        ).encode()
        self.erase = tuple(
            f"DELETE FROM {table} WHERE {key} = ANY(%s::text[])".encode()
            for table, key in ((journal, "saga_id"), (inbox, "saga_id"), (saga, "id"))
        )
        self._claims(saga)
        self.version = f"SELECT max(version) FROM {version}".encode()
        self.make_version = f"CREATE TABLE IF NOT EXISTS {version} (version integer NOT NULL)".encode()
        self.forget_version = f"DELETE FROM {version}".encode()
        self.set_version = f"INSERT INTO {version} VALUES (%s)".encode()
        self.version_table = version

    def by_row(self, kind: str, entries: int) -> bytes:
        """Return the statement for so many entries, given one after the other. It is faster than :attr:`by_column`'s."""
        statement = self._by_row.get((kind, entries))
        if statement is None:
            rows = ", ".join([ENTRY] * entries)
            added = f"{self._into} SELECT fence.id, entry.* FROM fence, (VALUES {rows}) AS entry"
            statement = self._by_row[kind, entries] = f"WITH fence AS ({self._fences[kind]}) {added}".encode()
        return statement

    def _claims(self, saga: str) -> None:
        take = (
            f" UPDATE {saga} s SET owner = %s, epoch = s.epoch + 1, lease_until = {NOW} + %s::float8,"
            f" due = {NOW} + %s::float8, recoveries = s.recoveries + %s::int, updated = {NOW}"
            " FROM picked WHERE s.id = picked.id"
            f" RETURNING picked.due, {', '.join(f's.{column}' for column in COLUMNS.split(', '))}"
        )
        lock = "FOR NO KEY UPDATE SKIP LOCKED"

        def oldest(due: str) -> str:
            return f"{FREE} AND {due} <= {NOW} AND lease_until <= {NOW} ORDER BY {due} LIMIT %s {lock}"

        self.claim = f"WITH picked AS MATERIALIZED (SELECT id, due FROM {saga} WHERE {oldest(ANY_DUE)}){take}".encode()
        self.claim_by_name = (
            "WITH picked AS MATERIALIZED (SELECT one.id, one.due FROM unnest(%s::text[]) AS wanted (name) CROSS JOIN LATERAL"
            f" (SELECT id, due FROM {saga} WHERE name = wanted.name AND {oldest('due')}) AS one"
            f" ORDER BY one.due LIMIT %s){take}"
        ).encode()
        self.claim_one = (
            f"WITH picked AS MATERIALIZED (SELECT id, due FROM {saga} WHERE id = %s AND lease_until <= {NOW}"
            f" AND (%s::text[] IS NULL OR name = ANY(%s::text[])) FOR NO KEY UPDATE){take}"
        ).encode()

    def listing(self, statuses: int, by_name: bool) -> bytes:
        """Return the statement of a page: so many ranges of an index, each in order, and the newest of all."""
        name = "AND name = %s " if by_name else ""
        part = (
            f"(SELECT {COLUMNS} FROM {self._saga} WHERE status = %s {name}AND created >= %s::float8 AND created <= %s::float8"
            ' AND (created < %s::float8 OR id < %s::text COLLATE "C") ORDER BY created DESC, id DESC LIMIT %s)'
        )
        ranges = " UNION ALL ".join([part] * statuses)
        return f"SELECT * FROM ({ranges}) AS page ORDER BY created DESC, id DESC LIMIT %s".encode()
