"""The transaction of a transactional step in whatever database SQLAlchemy reaches: a connection of the store's engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from saga.errors import StorageError
from saga.storage.records import Append
from saga.storage.retrying import Patience
from saga.storage.sqlalchemy_dialects import may_pass, shown, without_values
from saga.storage.transactions import Standing, causes

__all__ = ["SQLAlchemyTransaction"]

_IN_ERROR = 3  # of PostgreSQL's drivers: a statement has failed


class SQLAlchemyTransaction:
    """See :class:`saga.storage.transactions.LentTransaction`.

    :param engine: returns what makes the connections.
    :param adding: adds to a journal with a connection.
    :param patience: seconds to go on trying where none can be opened.
    :param sleep: waits so many seconds.
    """

    connection: Any = None

    def __init__(
        self,
        engine: Callable[[], sa.Engine],
        adding: Callable[[sa.Connection, Append], None],
        patience: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._adding = adding
        self._patience = patience
        self._sleep = sleep
        self._transaction: sa.RootTransaction | None = None
        self._ours = True  # what is committed and rolled back now, this package does

    def begin(self) -> None:
        trying = Patience(self._patience)
        while True:
            try:
                connection = self.connection = self._engine().connect()
                event.listen(connection, "commit", self._refuse)
                event.listen(connection, "rollback", self._refuse)
                self._transaction = connection.begin()
                self._ours = False
                return
            except exc.SQLAlchemyError as error:
                fault = without_values(error)
                passes = isinstance(error, exc.DBAPIError) and may_pass(error, self.connection)
            self.end()
            if not passes or trying.ends():
                raise StorageError(f"{shown(self._engine().url)}: {fault}; nothing was stored") from fault
            trying.wait(self._sleep)

    def standing(self) -> Standing:
        if self.connection.invalidated or self._transaction is None or not self._transaction.is_active:
            return "failed"
        info = getattr(self.connection.connection.driver_connection, "info", None)
        return "failed" if getattr(info, "transaction_status", None) == _IN_ERROR else "open"

    def passes(self, error: BaseException | None) -> bool:
        connection = self.connection
        if error is None:
            return bool(connection.invalidated)
        return any(isinstance(one, exc.DBAPIError) and may_pass(one, connection) for one in causes(error))

    def append(self, one: Append) -> None:
        self._adding(self.connection, one)

    def commit(self) -> None:
        self._ours = True
        self.connection.commit()
        self._transaction = None

    def refusal(self, error: Exception) -> Exception:
        if isinstance(error, StorageError):
            raise error
        if isinstance(error, exc.IntegrityError):
            return error
        fault = without_values(error) if isinstance(error, exc.SQLAlchemyError) else error
        raise StorageError(f"{shown(self._engine().url)}: {fault}; nothing was stored") from fault

    def end(self) -> None:
        connection, self.connection, self._ours = self.connection, None, True
        transaction, self._transaction = self._transaction, None
        if connection is not None:
            with suppress(exc.SQLAlchemyError):
                if transaction is not None and not transaction.is_active:  # SQLAlchemy takes it to have ended
                    connection.invalidate()
                connection.close()

    def _refuse(self, connection: sa.Connection) -> None:
        if not self._ours:
            raise exc.InvalidRequestError(
                "commit and rollback are saga's affair in a transactional step; raise an exception for what is to be rolled "
                "back, or use begin_nested()"
            )
