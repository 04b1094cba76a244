"""The transaction of a transactional step in an SQLite file: the connection that writes, for one step alone.

Whatever else this process writes to the file waits meanwhile, and other processes do.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from saga.errors import StorageError
from saga.storage.group_commit import GroupCommit, Write
from saga.storage.records import Append
from saga.storage.transactions import OF_USE, Standing
from saga.storage.turns import Alone

__all__ = ["SqliteTransaction", "WritingConnection"]


class WritingConnection(sqlite3.Connection):
    """The connection that writes, as the store has it."""

    def lend(self) -> None:
        """Let this thread have it for a step."""
        self.__class__ = LentConnection
        self.thread = threading.get_ident()

    def regain(self) -> None:
        """Make it again what it was before it was lent."""
        self.__class__ = WritingConnection
        self.forget_factories()

    def forget_factories(self) -> None:
        """Let rows and texts be what they were before it was lent."""
        with suppress(sqlite3.ProgrammingError):  # it is closed
            self.row_factory, self.text_factory = None, str


class LentConnection(WritingConnection):
    """It while it is lent: whoever has it cannot commit, roll back or close it, and other threads cannot use it at all.

    That is a class of its own, as the store's own statements are to pay for none of this.
    """

    def _check(self) -> None:
        if threading.get_ident() != self.thread:
            raise sqlite3.ProgrammingError(OF_USE)

    def _refuse(self, what: str) -> NoReturn:
        raise sqlite3.ProgrammingError(
            f"{what} is saga's affair in a transactional step; raise an exception for what is to be rolled back"
        )

    def execute(self, *args: Any, **more: Any) -> sqlite3.Cursor:
        self._check()
        return super().execute(*args, **more)

    def executemany(self, *args: Any, **more: Any) -> sqlite3.Cursor:
        self._check()
        return super().executemany(*args, **more)

    def cursor(self, *args: Any, **more: Any) -> Any:
        self._check()
        return super().cursor(*args, **more)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "autocommit" or (name == "isolation_level" and value is None):
            self._refuse(f"{name} = {value!r}, which commits,")
        super().__setattr__(name, value)

    def commit(self) -> NoReturn:
        self._refuse("commit()")

    def rollback(self) -> NoReturn:
        self._refuse("rollback()")

    def close(self) -> NoReturn:
        self._refuse("close()")

    def executescript(self, script: str, /) -> NoReturn:
        self._refuse("executescript(), which commits,")

    def __enter__(self) -> NoReturn:
        self._refuse("`with connection`, which commits,")


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
        connection.lend()
        self.connection = connection

    def standing(self) -> Standing:
        return "open" if self.connection.in_transaction else "ended"

    def passes(self, error: BaseException | None) -> bool:
        return False  # nobody else writes

    def append(self, one: Append) -> None:
        self.connection.forget_factories()
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
        self.connection = None
        self._commits.take_back(self._alone)
