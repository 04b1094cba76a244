"""Writers that share commits: one SQLite connection, and many threads that take turns at it (:mod:`saga.storage.turns`).

What many write in the same way goes into one statement: each statement lets other threads run, and has to wait for its turn
again. No statement of a store lives here.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from saga.errors import StorageError
from saga.storage.sqlite_place import Place
from saga.storage.turns import Alone, Turns, Waiting

if TYPE_CHECKING:
    from saga.storage.sqlite_step import WritingConnection

__all__ = ["GroupCommit", "Insert", "Write", "all_of", "is_own_fault"]

Insert = Callable[[sqlite3.Connection, Sequence[Any]], int]
"""Writes rows that come from many writes, all their values in a row, and returns how many it has written."""


class Write(Waiting):
    """What one caller brings.

    :ivar apply: runs the statements.
    :ivar single: it is one statement, which is a transaction by itself.
    :ivar rows: how many rows of it can be written in one statement with those that others bring.
    :ivar values: theirs;
        :ivar rest: runs the other statements then, where there are any.
    """

    __slots__ = ("apply", "rest", "rows", "single", "values")

    def __init__(
        self,
        apply: Callable[[sqlite3.Connection], Any],
        single: bool = False,
        rows: int = 0,
        values: Sequence[Any] = (),
        rest: Callable[[sqlite3.Connection], Any] | None = None,
    ) -> None:
        super().__init__()
        self.apply = apply
        self.single = single
        self.rows = rows
        self.values = values
        self.rest = rest if rows else apply


class GroupCommit(Turns[Write]):
    """Runs writes on one connection, each wholly or not at all, together where they come together.

    :param connect: opens the connection, at the first write and after a fork.
    :param insert: writes the rows of many.
    :param place: where the file is: it is looked at after each commit, which may be in a file that nobody will find.
    """

    def __init__(
        self,
        connect: Callable[[], WritingConnection],
        insert: Insert,
        place: Place,
    ) -> None:
        super().__init__()
        self._connect = connect
        self._insert = insert
        self._place = place
        self._connection: WritingConnection | None = None
        self._holders = 0  # how many have it when it is lent
        self._pid = os.getpid()

    def write(self, write: Write) -> Any:
        """Return what its ``apply`` returns, once what it wrote is committed.

        :raises sqlite3.Error: as ``apply`` and ``COMMIT`` raise it, as does whatever else ``apply`` raises; nothing is written.
        """
        self.check_process()
        if self._alone:
            self._refuse_within()
        return self._take_turn(write)

    def lend(self, alone: Alone) -> WritingConnection:
        """Return the connection when nobody writes with it. It is to be taken back whatever happens, here too.

        :raises sqlite3.Error: it cannot be opened.
        """
        self.check_process()
        self._refuse_within()
        self._take_alone(alone)
        if self._connection is None:
            self._new_connection()
        self._holders = sys.getrefcount(self._connection)
        assert self._connection is not None
        return self._connection

    def take_back(self, alone: Alone) -> None:
        """Roll back what was not committed, and let others write again. It may be called more than once.

        Where anybody has kept the connection, or a cursor of it, it is closed: it would be the store's own that he writes with.
        It is closed too where it was told to begin transactions by itself.
        """
        if self.is_of_this_process():
            if alone in self._writing and self._connection is not None:
                kept = sys.getrefcount(self._connection) > self._holders or self._connection.isolation_level is not None
                self._connection.regain()
                self._roll_back()
                if kept:
                    self.disconnect()
            self._give_back(alone)

    def commit_lent(self, connection: sqlite3.Connection) -> None:
        """Commit what was written with a connection that was lent.

        :raises sqlite3.Error: as ``COMMIT`` raises it.
        """
        connection.execute("COMMIT")
        self._place.check()

    def _refuse_within(self) -> None:
        if any(alone.thread == threading.get_ident() for alone in [*self._alone]):
            raise StorageError(
                "nothing else is written to this store's file in a transactional step, which has the only connection that "
                "writes; do it in another step"
            )

    def _waiting(self, write: Write) -> Write:
        return write

    def disconnect(self) -> None:
        """Close the connection. Only for who has halted the writes; a further write opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._place.forget_beside()

    def restart_in_child(self) -> None:
        """Forget the parent's threads and locks. Only where there was no open connection when the process forked."""
        super().__init__()
        self._pid = os.getpid()

    def is_of_this_process(self) -> bool:
        """Whether its locks and its connection may be touched: not where a write was under way when the process forked."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        if not self.is_of_this_process():
            raise StorageError(
                f"this store's SQLite file was open in process {self._pid} when that forked, and SQLite's locks do not "
                "outlive a fork: fork when no write is under way, or start the child in another way, such as spawn"
            )

    def _interrupted(self, write: Write) -> None:
        write.error = StorageError("the thread that wrote for others too was interrupted; nothing was stored")

    def _write_alone(self, write: Write) -> Any:
        connection = self._connection or self._new_connection()
        try:
            if write.single:
                result = write.apply(connection)
            else:
                connection.execute("BEGIN IMMEDIATE")
                result = write.apply(connection)
                connection.execute("COMMIT")
            self._place.check()
            return result
        except BaseException:
            self._roll_back()
            raise

    def _write_together(self, group: list[Write]) -> None:
        committing = False
        try:
            connection = self._connection or self._new_connection()
            connection.execute("BEGIN IMMEDIATE")
            if not in_few_statements(connection, self._insert, group):  # somebody's own fault: find out whose
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                for write in group:
                    _write_one(connection, write)
            committing = True
            connection.execute("COMMIT")
            self._place.check()
            for write in group:
                write.done = True
        except Exception as error:
            self._roll_back()
            for write in group:
                write.error = write.error or error
                write.done = True
        except BaseException:
            # An interrupt that arrives right after the commit leaves what the others wrote as it is: stored.
            if committing and not connection.in_transaction:
                for write in group:
                    write.done = True
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.rollback()
            except sqlite3.Error:
                # Then SQLite rolls back when the file is opened again.
                self.disconnect()

    def _new_connection(self) -> WritingConnection:
        self._connection = self._connect()
        return self._connection


def is_own_fault(error: Exception) -> bool:
    """Whether an error is of one write alone (a constraint, a value), and nothing of the file or the transaction."""
    own = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
    return isinstance(error, own) or not isinstance(error, sqlite3.Error)


def in_few_statements(connection: sqlite3.Connection, insert: Insert, group: Sequence[Write]) -> bool:
    """Write them with as few statements as there can be. Return whether all went well.

    :raises sqlite3.Error: the whole group fails.
    """
    values = [value for write in group for value in write.values]
    try:
        if insert(connection, values) != sum([write.rows for write in group]):
            return False
        for write in group:
            if write.rest is not None:
                write.result = write.rest(connection)
    except Exception as error:
        if not is_own_fault(error) or not connection.in_transaction:
            raise
        return False
    return True


def all_of(writes: Sequence[Write], insert: Insert) -> Write:
    """Return one write of many, in which each has its own outcome: one that fails leaves the others as they are.

    :param insert: writes the rows of many.
    """

    def apply(connection: sqlite3.Connection) -> None:
        connection.execute("SAVEPOINT many")
        well = in_few_statements(connection, insert, writes)
        if not well:
            connection.execute("ROLLBACK TO many")
        connection.execute("RELEASE many")
        for write in writes if not well else ():
            _write_one(connection, write)

    def rest(connection: sqlite3.Connection) -> None:
        for write in writes:
            if write.rest is not None:
                write.rest(connection)

    values = [value for write in writes for value in write.values]
    return Write(apply, rows=sum([write.rows for write in writes]), values=values, rest=rest)


def _write_one(connection: sqlite3.Connection, write: Write) -> None:
    """Run one write of a group. What is its own fault is undone and kept as its outcome.

    :raises sqlite3.Error: the whole group fails.
    """
    try:
        if write.single:
            write.result = write.apply(connection)
        else:
            connection.execute("SAVEPOINT one")
            write.result = write.apply(connection)
            connection.execute("RELEASE one")
    except Exception as error:
        if not is_own_fault(error) or not connection.in_transaction:
            raise
        write.error = error
        if not write.single:
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
