"""The transaction of a transactional step in an SQLite file: the connection that writes, for one step alone.

Whatever else this process writes to the file waits meanwhile, and other processes do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from saga.errors import StorageError
from saga.storage.group_commit import GroupCommit, Write
from saga.storage.records import Append
from saga.storage.transactions import Standing
from saga.storage.turns import Alone

__all__ = ["SqliteTransaction", "WritingConnection"]


class WritingConnection(sqlite3.Connection):
    """A connection that whoever it is lent to cannot commit, roll back or close.

    :ivar lent: it is lent.
    """

    lent = False

    def _refuse(self, what: str) -> None:
        if self.lent:
            raise sqlite3.ProgrammingError(
                f"{what} is saga's affair in a transactional step; raise an exception for what is to be rolled back"
            )

    def commit(self) -> None:
        self._refuse("commit()")
        super().commit()

    def rollback(self) -> None:
        self._refuse("rollback()")
        super().rollback()

    def close(self) -> None:
        self._refuse("close()")
        super().close()

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        self._refuse("executescript(), which commits,")
        return super().executescript(script)

    def __enter__(self) -> Any:
        self._refuse("`with connection`, which commits,")
        return super().__enter__()


class SqliteTransaction:
    """See :class:`saga.storage.transactions.LentTransaction`.

    :param commits: what has the connection that writes.
    :param appending: makes the write of an append.
    :param path: the file's, for errors.
    """

    connection: Any = None

    def __init__(self, commits: GroupCommit, appending: Callable[..., Write], path: str) -> None:
        self._commits = commits
        self._appending = appending
        self._path = path
        self._alone = Alone()

    def begin(self) -> None:
        self._alone = Alone()
        connection = self._commits.lend(self._alone)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}; nothing was stored") from error
        self.connection = connection
        connection.lent = True

    def standing(self) -> Standing:
        return "open" if self.connection.in_transaction else "ended"

    def passes(self, error: BaseException | None) -> bool:
        return False  # nobody else writes

    def append(self, one: Append) -> None:
        self._take_back()
        self._appending(*one).apply(self.connection)

    def commit(self) -> None:
        self._commits.commit_lent(self.connection)

    def refusal(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.IntegrityError):
            return error
        if isinstance(error, StorageError):
            raise error
        raise StorageError(f"{self._path}: {error}; nothing was stored") from error

    def end(self) -> None:
        if self.connection is not None:
            self._take_back()
        self.connection = None
        self._commits.take_back(self._alone)

    def _take_back(self) -> None:
        """Make the connection again what it was before it was lent."""
        connection = self.connection
        connection.lent = False
        with suppress(sqlite3.ProgrammingError):  # it is closed
            connection.row_factory, connection.text_factory = None, str
