"""The transaction of a transactional step in PostgreSQL: psycopg's own connection, lent from a pool of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.postgres_pool import Connection, Pool, may_pass, without_values
from saga.storage.postgres_sql import Statements
from saga.storage.postgres_writes import change_of
from saga.storage.records import Append
from saga.storage.retrying import Patience
from saga.storage.transactions import OF_USE, Standing, causes

__all__ = ["PostgresTransaction", "StepConnection"]


class StepConnection(Connection):
    """A connection for a step's statements: nothing that is set for the store's own is set for them.

    :ivar thread: which alone uses it, as long as it is lent to a step.
    """

    thread: int | None = None

    @classmethod
    def opened(cls, parameters: dict[str, Any]) -> Connection:
        connection: Connection = cls.connect(**parameters, autocommit=True)
        connection._parameters = parameters
        try:
            pid = connection.info.backend_pid
            if connection.execute("SELECT pg_backend_pid()").fetchone() != (pid,):  # through a pooler
                connection.prepare_threshold = None
        except BaseException:
            connection.close()
            raise
        return connection

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        return self.cursor(binary=binary).execute(query, params, prepare=prepare)

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **more: Any) -> Any:
        if self.thread not in (None, threading.get_ident()):
            raise psycopg.ProgrammingError(OF_USE)
        return super().wait(gen, *args, **more)

    def take(self) -> None:
        """Let this thread use it, and no other; what a step has set is set no more."""
        self.thread, self.row_factory = threading.get_ident(), tuple_row


class PostgresTransaction:
    """See :class:`saga.storage.transactions.LentTransaction`.

    :param pool: returns what the connections are lent from.
    :param patience: seconds to go on trying where none can be opened.
    :param check: refuses an append that no store takes.
    """

    connection: Any = None

    def __init__(self, pool: Callable[[], Pool], sql: Statements, patience: float, longest_text: int) -> None:
        self._pool_of_process = pool
        self._pool: Pool | None = None
        self._sql = sql
        self._patience = patience
        self._longest_text = longest_text
        self._block: psycopg.Transaction | None = None

    def begin(self) -> None:
        trying = Patience(self._patience)
        while True:
            try:
                pool = self._pool = self._pool_of_process()
                self.connection = pool.lend()
                self.connection.take()
                # Within psycopg's own block, it refuses commit() and rollback().
                block = self._block = self.connection.transaction()
                block.__enter__()
                return
            except psycopg.Error as error:
                fault, passes = without_values(error), may_pass(error, self.connection)
            self.end()
            if not passes or trying.ends():
                raise StorageError(f"PostgreSQL: {fault}") from fault
            pool.close_idle()
            trying.wait()

    def standing(self) -> Standing:
        status = TransactionStatus.UNKNOWN if self.connection.closed else self.connection.info.transaction_status
        if status == TransactionStatus.INTRANS:
            return "open"
        return "ended" if status == TransactionStatus.IDLE else "failed"

    def passes(self, error: BaseException | None) -> bool:
        if error is None:
            return bool(self.connection.closed)
        connection = self.connection
        return any(isinstance(one, psycopg.Error) and may_pass(one, connection) for one in causes(error))

    def append(self, one: Append) -> None:
        connection, lease = self.connection, one.lease
        connection.take()
        rules.check_texts([entry.payload for entry in one.entries], self._longest_text)
        status = None if one.status is None else rules.check_status(one.status)
        change, changed = change_of(lease, status, one.release, one.told, one.taken)
        statement, rest = self._sql.writes.adding(change, one.entries, one.taken)
        values: Sequence[Any] = (*changed, *rest)
        while not connection.execute(statement, values).rowcount:
            if not (change.rests and connection.execute(self._sql.held, lease).fetchone()):
                raise rules.lease_lost(lease)
            if {row[0] for row in connection.execute(self._sql.inbox, (lease.saga_id,))} - set(one.taken):
                raise rules.unread(lease.saga_id)
            # Else the row was written to while this waited for it.

    def commit(self) -> None:
        block = self._block
        assert block is not None
        self.connection.take()
        block.__exit__(None, None, None)
        self._block = None

    def refusal(self, error: Exception) -> Exception:
        if isinstance(error, StorageError):
            raise error
        if isinstance(error, psycopg.IntegrityError):
            return error
        fault = without_values(error) if isinstance(error, psycopg.Error) else error
        raise StorageError(f"PostgreSQL: {fault}; nothing was stored") from fault

    def end(self) -> None:
        connection, pool, block = self.connection, self._pool, self._block
        self.connection = self._block = None
        if connection is None or pool is None:
            return
        try:
            connection.take()
            if block is not None and not connection.closed:
                with suppress(Exception):
                    rollback = psycopg.Rollback()
                    block.__exit__(type(rollback), rollback, None)
            if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
                connection.close()
        finally:
            connection.thread = 0  # nobody's
            pool.take_back(connection)
