"""The statements of the PostgreSQL store, those of claims and journals from rooms of their own. Nothing is executed here."""

from __future__ import annotations

from collections.abc import Sequence

from saga.storage import rules
from saga.storage.claims import WORTH
from saga.storage.columns import EXECUTION, REMEMBERED, WORKER
from saga.storage.figures import LOOKED_AT, asking, free
from saga.storage.postgres_claims import Claiming
from saga.storage.postgres_tables import CALLED, CLAIMABLE, NOW, STAGE, names_of
from saga.storage.postgres_writes import HOLDS, Writing

__all__ = ["Statements"]

COLUMNS = ", ".join(EXECUTION)


class Statements:
    """The statements for tables of one schema and prefix, as psycopg takes them: bytes, values as ``%s``.

    :ivar writes: those that create, submit and append.
    :ivar claims: those of claims.
    :raises ValueError: a name is not a plain identifier.
    """

    def __init__(self, schema: str | None, prefix: str) -> None:
        self.schema = schema
        self.prefix = prefix
        self._names = names_of(schema, prefix)
        self.table = self._names["saga"]
        self.writes = Writing(self._names)
        self.claims = Claiming(self._names)
        self._reads()
        self._leases()
        self._messages()
        self._purges()
        self._workers()
        self._alerts()
        self._found()
        self._versions()

    def _reads(self) -> None:
        saga, journal = self._names["saga"], self._names["journal"]
        self.now = b"SELECT extract(epoch FROM clock_timestamp())::float8"
        self.get = f"SELECT {COLUMNS} FROM {saga} WHERE id = %s".encode()
        self.get_each = f"SELECT {COLUMNS} FROM {saga} WHERE id = ANY(%s::text[])".encode()
        self.held = f"SELECT 1 FROM {saga} WHERE {HOLDS}".encode()
        self.journals = (
            f"SELECT saga_id, seq, kind, step, payload, at FROM {journal} WHERE saga_id = ANY(%s::text[]) ORDER BY saga_id, seq"
        ).encode()
        #: Those of one execution that have one of some ``seq``.
        self.entries = (
            f"SELECT seq, kind, step, payload, at FROM {journal} WHERE saga_id = %s AND seq = ANY(%s::bigint[]) ORDER BY seq"
        ).encode()

    def _leases(self) -> None:
        saga, inbox = self._names["saga"], self._names["inbox"]
        held = f"JOIN {saga} s ON s.id = lease.id AND s.epoch = lease.epoch AND s.owner = %s"
        leases = "unnest(%s::text[], %s::bigint[]) AS lease (id, epoch)"
        placed = "unnest(%s::text[], %s::bigint[], %s::text[], %s::float8[]) AS lease (id, epoch, step, idle)"
        #: Gives the id of each execution whose lease holds, whether it has messages, and whether the lease was renewed: not
        #: where somebody has locked the row. Where it is not said how long it was idle, its place stays as it was.
        self.renew = (
            f"WITH free AS MATERIALIZED (SELECT s.id, lease.step, lease.idle FROM {placed} {held}"
            f" FOR NO KEY UPDATE OF s SKIP LOCKED), renewed AS (UPDATE {saga} s SET lease_until = {NOW} + %s::float8,"
            f" due = {NOW} + %s::float8, updated = {NOW}, progressed = coalesce({NOW} - free.idle, s.progressed),"
            " step = CASE WHEN free.idle IS NULL THEN s.step ELSE free.step END FROM free"
            " WHERE s.id = free.id RETURNING s.id)"
            f" SELECT s.id, EXISTS (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id), s.id IN (SELECT id FROM renewed)"
            f" FROM {leases} {held}"
        ).encode()
        # Both give whether it is due now.
        given_back = f"UPDATE {saga} s SET owner = NULL, lease_until = 0, updated = {NOW}, step = coalesce(%s::text, step),"
        ends = f" WHERE {HOLDS} RETURNING due <= {NOW}"
        place = f"least({NOW}, opens - {WORTH} * priority)"  # in the line, where others are to go on with it at once
        due = f"CASE WHEN %s::float8 <> 0 THEN {NOW} + %s::float8 ELSE {place} END"
        self.release = f"{given_back} due = {due}, recoveries = recoveries - %s::int{ends}".encode()
        self.renew_call = f"UPDATE {saga} SET called_until = {NOW} + %s::float8 WHERE id = %s AND {CALLED}".encode()
        # A message that came while this waited for the row is not seen in the inbox, but has made it due.
        self.release_waiting = (
            f"{given_back} recoveries = 0, progressed = {NOW}, due = CASE"
            f" WHEN due < lease_until OR EXISTS (SELECT 1 FROM {inbox} i WHERE i.saga_id = s.id) THEN {place}"
            f" ELSE {due} END{ends}"
        ).encode()

    def _messages(self) -> None:
        saga, inbox = self._names["saga"], self._names["inbox"]
        self.inbox = f"SELECT id, saga_id, body FROM {inbox} WHERE saga_id = %s ORDER BY id".encode()
        self.with_mail = f"SELECT DISTINCT saga_id FROM {inbox} WHERE saga_id = ANY(%s::text[])".encode()
        # The row is locked before the message gets its number: an execution's messages are numbered as they are committed.
        self.post = (
            f"WITH woken AS (UPDATE {saga} SET due = CASE status WHEN 'stuck' THEN due ELSE least(due, {NOW}) END WHERE id = %s"
            " AND status = ANY(%s::text[]) RETURNING id)"
            f" INSERT INTO {inbox} (saga_id, body, token) SELECT id, %s, %s FROM woken ON CONFLICT (token) DO NOTHING"
        ).encode()
        #: Whether the message with this token is there.
        self.posted = f"SELECT 1 FROM {inbox} WHERE token = %s".encode()
        #: The schema in which the tables are.
        self.place = (
            b"SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            b" WHERE c.oid = to_regclass(%s)"
        )
        self.notify = b"SELECT pg_notify(%s, %s)"

    def _purges(self) -> None:
        saga = self._names["saga"]
        #: Locks executions of one status that nobody holds, last written before then, and not completed and to be kept.
        self.purgeable = (
            f"SELECT id FROM {saga} WHERE status = %s AND created < %s AND updated < %s AND lease_until <= {NOW}"
            f" AND (status <> 'completed' OR keep_until <= {NOW}) ORDER BY created, id LIMIT %s FOR UPDATE SKIP LOCKED"
        ).encode()
        self.purge = tuple(
            f"DELETE FROM {self._names[table]} WHERE {key} = ANY(%s::text[])".encode()
            for table, key in (("journal", "saga_id"), ("inbox", "saga_id"), ("tags", "saga_id"), ("saga", "id"))
        )

    def _found(self) -> None:
        saga = self._names["saga"]
        self.beginning_with = (
            f'SELECT {COLUMNS} FROM {saga} WHERE id >= %s::text COLLATE "C" AND id < %s::text COLLATE "C" ORDER BY id LIMIT %s'
        ).encode()
        self.next_tag = f'SELECT min(key) FROM {self._names["tags"]} WHERE key > %s::text COLLATE "C"'.encode()
        #: Who has a key, and who waits for it: the key twice, how many twice.
        self.in_line = (
            f"(SELECT {COLUMNS} FROM {saga} WHERE holds = %s) UNION ALL (SELECT {COLUMNS} FROM {saga}"
            f" WHERE exclusive = %s AND {CLAIMABLE} AND holds IS NULL ORDER BY opens, id LIMIT %s) LIMIT %s"
        ).encode()

    def causes(self, by_name: bool) -> bytes:
        """Return the statement that tells why executions (of one name) are stuck."""
        return (
            f"SELECT name, step, cause, max(reason), count(*), min(progressed), max(id) FROM {self._names['saga']}"
            f" WHERE status = 'stuck'{' AND name = %s' if by_name else ''} GROUP BY name, step, cause"
        ).encode()

    def _workers(self) -> None:
        hold, worker = self._names["hold"], self._names["worker"]
        self.hold = (
            f"INSERT INTO {hold} (name, version, who, why, at) VALUES (%s, %s, %s, %s, {NOW})"
            " ON CONFLICT (name, version) DO UPDATE SET who = excluded.who, why = excluded.why, at = excluded.at"
        ).encode()
        self.let_go = f"DELETE FROM {hold} WHERE name = %s AND version = %s".encode()
        self.holds = f"SELECT name, version, who, why, at FROM {hold} ORDER BY name, version".encode()
        changed = ("host", "pid", "definitions", "in_hand", "stopping", "seen", "until")
        # Those that died long ago are forgotten with it.
        self.announce = (
            f"WITH forgotten AS (DELETE FROM {worker} WHERE until <= {NOW} - {REMEMBERED} AND id <> %s)"
            f" INSERT INTO {worker} ({', '.join(WORKER)}) VALUES (%s, %s, %s, %s, %s, %s, {NOW}, {NOW}, {NOW} + %s::float8)"
            f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in changed)}"
        ).encode()
        self.withdraw = f"UPDATE {worker} SET until = least(until, {NOW}) WHERE id = %s".encode()
        self.workers = f"SELECT {', '.join(WORKER)} FROM {worker} WHERE until > {NOW} - {REMEMBERED} ORDER BY id".encode()

    def _alerts(self) -> None:
        saga = self._names["saga"]
        counts = f"SELECT name, status, cause, version, count(*) AS number FROM {saga} GROUP BY name, status, cause, version"
        counted = "SELECT 'executions', name, status, cause, sum(number)::float8 FROM counts GROUP BY name, status, cause"
        # Of each version some are looked at, rather than all that is open: few fingerprints have the same.
        of_kind = f"name = kind.name AND version = kind.version AND {free(NOW)}"
        kinds = f"(SELECT DISTINCT name, version FROM counts WHERE {CLAIMABLE}) AS kind"
        looked_at = f"LATERAL (SELECT fingerprint FROM {saga} WHERE {of_kind} LIMIT {LOOKED_AT}) AS looked_at"
        left = f"SELECT DISTINCT 'free', kind.name, kind.version, looked_at.fingerprint, 1 FROM {kinds}, {looked_at}"

        def begun(status: str, due: str) -> tuple[str, str]:
            of_kind = f"name = kind.name AND version = kind.version AND ({STAGE}) = 0"
            kinds = f"(SELECT DISTINCT name, version FROM counts WHERE status = '{status}') AS kind"
            waiting = f"LATERAL (SELECT due, opens, updated FROM {saga} WHERE {of_kind} AND {due}) AS waiting"
            return "min(greatest(due, opens, updated))", f"{kinds}, {waiting}"

        asked = asking(saga, self._names["worker"], counted, left, NOW, "greatest", begun)
        self.figures = f"WITH counts AS MATERIALIZED ({counts}) {asked}".encode()
        first = f"SELECT id FROM {saga} WHERE {rules.UNTOLD} AND due <= {NOW} AND lease_until <= {NOW} ORDER BY due, id LIMIT 1"
        self.next_alert = (
            f"UPDATE {saga} SET due = {NOW} + %s::float8 WHERE id = ({first} FOR UPDATE SKIP LOCKED) RETURNING {COLUMNS}"
        ).encode()
        #: Takes a time, or 0 and the seconds from now.
        self.alerted = (
            f"UPDATE {saga} SET due = greatest(%s::float8, {NOW} + %s::float8)"
            " WHERE id = %s AND epoch = %s AND status = 'stuck'"
        ).encode()

    def _versions(self) -> None:
        table = self.version_table = self._names["schema"]
        self.version = f"SELECT max(version) FROM {table}".encode()
        self.make_version = f"CREATE TABLE IF NOT EXISTS {table} (version integer NOT NULL)".encode()
        self.forget_version = f"DELETE FROM {table}".encode()
        self.set_version = f"INSERT INTO {table} VALUES (%s)".encode()

    def count(self, by: Sequence[str], *, all_statuses: bool, by_name: bool) -> bytes:
        """Return the statement of a count: takes the statuses, but for all of them, and the name."""
        columns = ", ".join(by)
        conditions = " AND ".join(
            ([] if all_statuses else ["status = ANY(%s::text[])"]) + (["name = %s"] if by_name else []),
        )
        where = f" WHERE {conditions}" if conditions else ""
        group = f" GROUP BY {columns}" if columns else ""
        return f"SELECT {columns}{', ' if columns else ''}count(*) FROM {self._names['saga']}{where}{group}".encode()

    def listing(self, statuses: int, columns: Sequence[str] = (), progressed: bool = False) -> bytes:
        """Return the statement of a page: so many ranges of an index, each in order, and the newest of all.

        Each range takes the status, the values of the columns, a time that it has not got on since, and from when to when it
        was created; then the bound twice, and the limit, which is the last value of all, too.
        """
        more = "".join(f"AND {column} = %s " for column in columns) + ("AND progressed < %s::float8 " if progressed else "")
        part = (
            f"(SELECT {COLUMNS} FROM {self._names['saga']} WHERE status = %s {more}AND created >= %s::float8"
            " AND created <= %s::float8"
            ' AND (created < %s::float8 OR id < %s::text COLLATE "C") ORDER BY created DESC, id DESC LIMIT %s)'
        )
        ranges = " UNION ALL ".join([part] * statuses)
        return f"SELECT * FROM ({ranges}) AS page ORDER BY created DESC, id DESC LIMIT %s".encode()

    def tagged(self, tags: int, columns: Sequence[str] = (), progressed: bool = False) -> bytes:
        """Return the statement of a page of those that have so many tags.

        It takes each tag's key and value, from when to when they were created, the bound twice; the statuses, the values of the
        columns, a time that they have not got on since, and the limit.
        """
        found = [f"{self._names['tags']} t{number}" for number in range(tags)]
        same = [f"t{number}.saga_id = s.id" for number in range(tags)]
        these = [f"t{number}.key = %s AND t{number}.value = %s" for number in range(tags)]
        within = "t0.created >= %s::float8 AND t0.created <= %s::float8"
        within += ' AND (t0.created < %s::float8 OR t0.saga_id < %s::text COLLATE "C")'
        more = [f"s.{column} = %s" for column in columns] + (["s.progressed < %s::float8"] if progressed else [])
        return (
            f"SELECT {', '.join(f's.{column}' for column in EXECUTION)} FROM {', '.join([*found, self._names['saga'] + ' s'])}"
            f" WHERE {' AND '.join([*same, *these, within, 's.status = ANY(%s::text[])', *more])}"
            " ORDER BY t0.created DESC, t0.saga_id DESC LIMIT %s"
        ).encode()
