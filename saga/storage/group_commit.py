"""Writers that share commits: one SQLite connection, and a queue of what many threads want written with it.

Whoever finds nobody writing writes at once. Whoever comes while another writes waits in the queue; when that one has
committed, the first in the queue becomes the leader, writes what all the others brought in one transaction, and wakes each
with its own outcome. So under load there are as few commits as the disk allows, and alone there is no waiting and no
handing over. What many write in the same way goes into one statement: each statement lets other threads run, and has to wait
for its turn again. No statement of a store lives here. (DeWitt et al., "Implementation techniques for main memory database
systems", SIGMOD 1984, has the idea.)
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from saga.errors import StorageError

__all__ = ["GroupCommit", "is_own_fault"]

T = TypeVar("T")


class _Write(Generic[T]):
    """One caller's write, while it waits for another to commit it.

    :ivar apply: runs the statements; :ivar single: it is one statement.
    :ivar values: of the so many rows that can be written in one statement with those of others; :ivar rest: runs the other
        statements then, where there are any.
    :ivar wake: a lock that is held until the write has its outcome or is to lead.
    """

    __slots__ = ("apply", "done", "error", "leads", "rest", "result", "rows", "single", "values", "wake")

    def __init__(
        self,
        apply: Callable[[sqlite3.Connection], T],
        single: bool,
        rows: int,
        values: Sequence[Any],
        rest: Callable[[sqlite3.Connection], T] | None,
    ) -> None:
        self.apply = apply
        self.single = single
        self.rows = rows
        self.values = values
        self.rest = rest
        self.wake = threading.Lock()
        self.wake.acquire()
        self.leads = False
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None


class GroupCommit:
    """Runs writes on one connection, each wholly or not at all, together where they come together.

    :param connect: opens the connection, at the first write and after a fork.
    :param insert: writes rows that come from many writes, all their values in a row, and returns how many it has written.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], insert: Callable[[sqlite3.Connection, Sequence[Any]], int]
    ) -> None:
        self._connect = connect
        self._insert = insert
        self._connection: sqlite3.Connection | None = None
        self._reset()

    def _reset(self) -> None:
        self._mutex = threading.Lock()
        self._busy = False
        self._held = False
        self._idle = threading.Event()
        self._queue: list[_Write[Any]] = []
        self._pid = os.getpid()

    def write(
        self,
        apply: Callable[[sqlite3.Connection], T],
        *,
        single: bool = False,
        rows: int = 0,
        values: Sequence[Any] = (),
        rest: Callable[[sqlite3.Connection], T] | None = None,
    ) -> T:
        """Return what ``apply`` returns, once what it wrote is committed.

        :param single: ``apply`` runs one statement, which is a transaction by itself.
        :param rows: how many rows ``insert`` may write of it, together with what others bring; :param values: those rows';
            ``rest`` does the rest of it then, where there is any.
        :raises sqlite3.Error: as ``apply`` and ``COMMIT`` raise it, as does whatever else ``apply`` raises; nothing is written.
        """
        self.check_process()
        alone = False
        write: _Write[T] | None = None
        try:
            with self._mutex:
                if self._busy or self._held:
                    write = _Write(apply, single, rows, values, rest if rows else apply)
                    self._queue.append(write)
                else:
                    self._busy = alone = True
            if write is None:
                return self._write_alone(apply, single)
            write.wake.acquire()
            if write.leads:
                self._lead()
        except BaseException:
            # An interrupt, else: other errors of a queued write are kept in it.
            if write is not None:
                self._leave(write)
            raise
        finally:
            if alone:
                self._hand_over()
        if write.error is not None:
            raise write.error
        return write.result  # type: ignore[return-value]  # it is a T by now

    def hold(self, timeout: float) -> bool:
        """Let no further write begin, and wait up to ``timeout`` seconds for the one that runs. Return whether it ended."""
        with self._mutex:
            self._held = True
            if not self._busy:
                return True
            self._idle.clear()
        return self._idle.wait(timeout)

    def resume(self) -> None:
        """Let the writes go on that :meth:`hold` held up."""
        with self._mutex:
            self._held = False
            if not self._busy:
                self._promote()

    def disconnect(self) -> None:
        """Close the connection. Only for who holds the writes up; a further write opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def begin_again_in_child(self) -> None:
        """Forget the parent's threads and locks. Only where there was no open connection when the process forked."""
        self._reset()

    def check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StorageError(
                f"this store's SQLite file was open in process {self._pid} when that forked, and SQLite's locks do not "
                "outlive a fork: fork when no write is under way, or start the child in another way, such as spawn"
            )

    def _leave(self, write: _Write[Any]) -> None:
        """See to it that nobody waits for an interrupted caller: neither those it leads nor the one that writes for it."""
        with self._mutex:
            if write in self._queue and not write.leads:
                self._queue.remove(write)
                return
        if not write.done:
            if write.leads:
                self._lead()
            else:
                write.wake.acquire()

    def _lead(self) -> None:
        group: list[_Write[Any]] = []
        try:
            with self._mutex:
                group, self._queue = self._queue, group
            self._write_together(group)
        finally:
            self._hand_over()
            for write in group:
                if not write.done:
                    write.error = StorageError("the thread that wrote for others too was interrupted; nothing was stored")
                    write.done = True
                if not write.leads:
                    write.wake.release()

    def _hand_over(self) -> None:
        with self._mutex:
            self._busy = False
            if self._held:
                self._idle.set()
            else:
                self._promote()

    def _promote(self) -> None:
        """Make the first in the queue the leader. Only with the mutex."""
        if self._queue:
            self._busy = True
            first = self._queue[0]
            first.leads = True
            first.wake.release()

    def _write_alone(self, apply: Callable[[sqlite3.Connection], T], single: bool) -> T:
        connection = self._connection or self._open()
        try:
            if single:
                return apply(connection)
            connection.execute("BEGIN IMMEDIATE")
            result = apply(connection)
            connection.execute("COMMIT")
            return result
        except BaseException:
            self._roll_back()
            raise

    def _write_together(self, group: list[_Write[Any]]) -> None:
        """Write them in one transaction. Errors become outcomes; only an interrupt is raised."""
        committing = False
        try:
            connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            if not self._at_once(connection, group):  # somebody's own fault: find out whose
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                for write in group:
                    _write_one(connection, write)
            committing = True
            connection.execute("COMMIT")
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

    def _at_once(self, connection: sqlite3.Connection, group: list[_Write[Any]]) -> bool:
        """Write them with as few statements as there can be. Return whether all went well.

        :raises sqlite3.Error: the whole group fails.
        """
        values = [value for write in group for value in write.values]
        try:
            if self._insert(connection, values) != sum([write.rows for write in group]):
                return False
            for write in group:
                if write.rest is not None:
                    write.result = write.rest(connection)
        except Exception as error:
            if not is_own_fault(error) or not connection.in_transaction:
                raise
            return False
        return True

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.rollback()
            except sqlite3.Error:
                # Then SQLite rolls back when the file is opened again.
                self.disconnect()

    def _open(self) -> sqlite3.Connection:
        self._connection = self._connect()
        return self._connection


def is_own_fault(error: Exception) -> bool:
    """Whether an error says something of one write (a constraint, a value), and nothing of the file or the transaction."""
    own = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
    return isinstance(error, own) or not isinstance(error, sqlite3.Error)


def _write_one(connection: sqlite3.Connection, write: _Write[Any]) -> None:
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
