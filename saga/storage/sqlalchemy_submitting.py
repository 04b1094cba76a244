"""Storing executions that nobody owns yet, with SQLAlchemy, in a transaction of the store's own or of somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.claims import moments
from saga.storage.columns import row_of
from saga.storage.enlisted import fault_of, in_its_loop, kind_of, refused, unknown
from saga.storage.records import Entry, NewExecution, StoredExecution
from saga.storage.retrying import has_entries
from saga.storage.sqlalchemy_connected import Conflict, Connected
from saga.storage.sqlalchemy_dialects import is_mysql, shown
from saga.storage.sqlalchemy_enlisted import AsDriven, asking, commits_at_once, connection_of
from saga.storage.sqlalchemy_sql import ENTRY, batches
from saga.storage.sqlite_enlisted import check_begun, check_file
from saga.storage.watching import ring
from saga.storage.whereabouts import IN_POSTGRES, SAME_DATABASE, Whereabouts, check_same

__all__ = ["Submitting"]

New = Sequence[tuple[NewExecution, Sequence[Entry]]]
Found = list[StoredExecution | None]
Added = tuple[NewExecution, str, Sequence[Entry]]
First = dict[str, Added]

TAKES = "SQLAlchemy's Connection or Session, to the store's database"


class Submitting(Connected):
    """A store of SQLAlchemy's, as far as executions are submitted to it."""

    _ours: Any = None

    def submit(self, new: New, *, connection: Any = None) -> Found:
        checked = [(one, rules.check_new(one), entries) for one, entries in new]
        for one, _, entries in checked:
            self._check_entries(one.saga_id, entries)
        # In the order of their ids, so that two who store the same do not wait for each other.
        checked.sort(key=lambda one: one[0].saga_id)
        first: First = {one.saga_id: (one, status, entries) for one, status, entries in reversed(checked)}
        if connection is not None:
            return self._enlisted(new, first, connection)
        tried_again, there, tries = False, 0, 3

        def work(connection: sa.Connection, again: bool) -> dict[str, StoredExecution]:
            nonlocal tried_again, there, tries
            tried_again = tried_again or again
            known = self._known(connection, list(first))
            if len(known) > there:  # others store the same, one after the other
                there, tries = len(known), 3
            added = [first[saga_id] for saga_id in reversed(first) if saga_id not in known]
            if added:
                self._add_all(connection, added, _created(new, connection.execute(sa.select(self._sql.now())).scalar_one()))
            return known

        while tries:
            tries -= 1
            try:
                known = self._run(work)
                break
            except Conflict as conflict:
                cause = conflict
        else:
            raise StorageError(f"{cause}; nothing was stored") from cause.__cause__
        if tried_again:
            journals = self.journals(known)
            for saga_id, row in list(known.items()):
                if row.digest == first[saga_id][0].digest and has_entries(journals[saga_id], first[saga_id][2]):
                    del known[saga_id]  # it is ours: only the answer was lost
        ring(self)
        return _found(new, known, self.get)

    async def asubmit(self, new: New, *, connection: Any) -> Found:
        # Nobody's event loop is to wait for a server.
        if self._engine.dialect.name != "sqlite":
            await asyncio.to_thread(self._whereabouts)
        return await in_its_loop(connection, lambda given: self.submit(new, connection=given))

    def _enlisted(self, new: New, first: First, connection: Any) -> Found:
        """Store them in a transaction of somebody else's."""
        if kind_of(connection) != "sqlalchemy":
            raise unknown(connection, TAKES)
        self._check_usable()
        theirs = connection_of(connection)
        try:
            known = self._add_unknown(theirs, first, _created(new, self._check_same(theirs)))
            return _found(new, known, lambda saga_id: self._known(theirs, [saga_id]).get(saga_id))
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
        # Here, as what is raised where an error is handled knows that error, and the values in it.
        text = f"{shown(self._engine.url)}: {fault}; roll the transaction back in which it was submitted"
        raise StorageError(text) from fault

    def _add_unknown(self, connection: sa.Connection, first: First, created: Mapping[str, float]) -> dict[str, StoredExecution]:
        """Add those whose ids are free, whoever else does so at the same time. Return the others."""
        known = self._known(connection, list(first))
        tries = 3
        while True:
            added = [first[saga_id] for saga_id in reversed(first) if saga_id not in known]
            try:
                if added:
                    with connection.begin_nested():  # what fails within it does not end the transaction
                        self._add_all(connection, added, created)
                return known
            except exc.IntegrityError:
                tries -= 1
                if not tries:
                    raise
            known = self._known(connection, list(first), latest=True)

    def _check_same(self, connection: sa.Connection) -> float:
        """See that a connection is of the store's database, and begins to write there. Return what time it is there.

        :raises ValueError: it is not, or nothing is open that it could be part of.
        """
        kind = connection.dialect.name
        if kind != self._engine.dialect.name and not (is_mysql(connection.dialect) and is_mysql(self._engine.dialect)):
            raise refused(f"is of a database of {kind}", f"give {TAKES}")
        if kind == "sqlite":
            check_file(AsDriven(connection), "" if self._place is None else self._place.path)
            connection.execute(self._tables.hold.delete().where(sa.false()))
            check_begun(connection.connection.driver_connection)
        elif commits_at_once(connection):
            raise refused("commits each statement at once (AUTOCOMMIT)", "submit with one of another isolation level")
        else:
            theirs = self._ask(connection)
            if theirs != self._whereabouts():
                self._check_whereabouts(theirs, self._whereabouts(anew=True))
        if not is_mysql(connection.dialect):
            return float(connection.execute(sa.select(self._sql.now())).scalar_one())
        # NOW() is of the time zone of whoever has opened it, where an hour may come twice.
        now, sends = connection.exec_driver_sql("SELECT @@timestamp + 0e0, @@character_set_client").one()
        if sends != "utf8mb4":
            raise refused(f"sends its texts as {sends}", "open it with ?charset=utf8mb4")
        return float(now)

    def _whereabouts(self, *, anew: bool = False) -> Any:
        if self._ours is None or anew:
            self._ours = self._run(lambda connection, again: self._ask(connection))
        return self._ours

    def _ask(self, connection: sa.Connection) -> Any:
        """Ask where a connection's statements go."""
        if connection.dialect.name == "postgresql":
            table = f'"{self._tables.saga.name}"'
            return Whereabouts(*asking(connection)(IN_POSTGRES, (table, table))[0])
        if is_mysql(connection.dialect):
            known = ["DATABASE()", "@@hostname", "@@port", "@@datadir"]
            if not getattr(connection.dialect, "is_mariadb", False):
                known.append("@@server_uuid")
            return tuple(connection.exec_driver_sql(f"SELECT {', '.join(known)}").one())
        raise refused("cannot be compared with the store", f"there is no way yet to do so in {connection.dialect.name}")

    def _check_whereabouts(self, theirs: Any, ours: Any) -> None:
        if isinstance(ours, Whereabouts):
            check_same(theirs, ours, self._tables.saga.name)
        elif theirs != ours:
            raise refused(f"is of another database ({theirs[0]!r}) than the store ({ours[0]!r})", SAME_DATABASE)

    def _add_all(self, connection: sa.Connection, added: Sequence[Added], created: Mapping[str, float]) -> None:
        connection.execute(*self._sql.submit([(one, status) for one, status, _ in added], created))
        self._add(connection, [(one.saga_id, entries) for one, _, entries in added])
        self._add_tags(connection, [(one, created[one.saga_id]) for one, _, _ in added])

    def _check_entries(self, saga_id: str, entries: Sequence[Entry]) -> None:
        """Check the first entries of an execution."""
        rules.check_texts([entry.payload for entry in entries], self.longest_text)
        if len({entry.seq for entry in entries}) < len(entries):
            raise rules.already_stored(saga_id, entries)

    def _known(self, connection: sa.Connection, saga_ids: Sequence[str], *, latest: bool = False) -> dict[str, StoredExecution]:
        """Return the rows of those of some executions that are there.

        :param latest: what was committed since the transaction began, too, whatever it reads else.
        """
        found = [self._sql.get(some) for some in batches(saga_ids)]
        if latest:
            found = [one.with_for_update(read=True) for one in found]
        rows = [row_of(row) for one in found for row in connection.execute(one)]
        return {row.saga_id: row for row in rows}

    def _add_tags(self, connection: sa.Connection, new: Sequence[tuple[NewExecution, float]]) -> None:
        rows = [
            {"saga_id": one.saga_id, "key": key, "value": value, "created": created}
            for one, created in new
            for key, value in one.tags.items()
        ]
        if rows:
            connection.execute(self._tables.tags.insert(), rows)

    def _add(self, connection: sa.Connection, parts: Sequence[tuple[str, Sequence[Entry]]]) -> None:
        rows = [
            {"saga_id": saga_id} | {name: getattr(entry, name) for name in ENTRY}
            for saga_id, entries in parts
            for entry in entries
        ]
        if rows:
            connection.execute(self._tables.journal.insert(), rows)


def _created(new: New, now: float) -> dict[str, float]:
    """Return when each was created, by its id."""
    return dict(zip((one.saga_id for one, _ in reversed(new)), reversed(moments(now, len(new))), strict=True))


def _found(new: New, known: dict[str, StoredExecution], get: Callable[[str], StoredExecution | None]) -> Found:
    """Return ``None`` for each that was stored, and the execution that has its id for the others.

    :param known: those that were there before.
    :param get: returns one that is there now.
    """
    ours = {one.saga_id for one, _ in new} - known.keys()
    found: Found = []
    for one, _ in new:
        found.append(None if one.saga_id in ours else known.get(one.saga_id) or get(one.saga_id))
        ours.discard(one.saga_id)
    return found
