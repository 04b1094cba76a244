"""A store's way to a PostgreSQL server: what is done there is done with a connection of a pool, and again where one breaks.

No statement lives here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import psycopg

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.postgres_crowd import AppendTurns
from saga.storage.postgres_loop import InLoops
from saga.storage.postgres_pool import Connection, Pool, may_pass, parameters_of, without_values
from saga.storage.postgres_sql import Statements
from saga.storage.postgres_step import PostgresTransaction, StepConnection
from saga.storage.postgres_step_in_loop import Places, PostgresInLoop
from saga.storage.postgres_tables import migrations
from saga.storage.protocol import Store
from saga.storage.records import Append
from saga.storage.retrying import Patience
from saga.storage.transactions import LentInLoop

__all__ = ["Served"]

T = TypeVar("T")


class Served(Store):
    """A store on a PostgreSQL server.

    :param conninfo: a connection string of libpq's.
    :param sql: the statements for its tables.
    :param max_connections: how many to open at most.
    :param patience: seconds to go on trying when the connection breaks.
    :raises StorageError: ``conninfo`` is none.
    :raises ValueError: a number is none that can be.
    """

    schema_version = len(migrations(None, "saga"))
    transacts = transacts_async = True

    def __init__(self, conninfo: str, sql: Statements, max_connections: int, patience: float | timedelta) -> None:
        self._patience = rules.patience_of("patience", patience)
        self._sql = sql
        self._parameters = parameters_of(conninfo)
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise ValueError(f"max_connections must be a whole number of at least 1, not {max_connections!r}")
        self._max_connections = max_connections
        self._places = Places(max_connections)
        self._pool = self._new_pool()

    def __repr__(self) -> str:  # without a password
        told = self._parameters
        where = [f"{name}={told[name]}" for name in ("service", "host", "port", "dbname") if name in told]
        return f"<{' '.join([type(self).__name__, *where])}>"

    def transaction(self) -> PostgresTransaction:
        return self._transaction(0)

    def transaction_in_loop(self) -> LentInLoop:
        return PostgresInLoop(self._transaction(1), self._places)

    def _transaction(self, pool: int) -> PostgresTransaction:
        return PostgresTransaction(lambda: self._pool_of_process().steps[pool], self._sql, self._patience, self.longest_text)

    def close(self) -> None:
        self._pool.close()

    def _append_together(self, appends: Sequence[Append]) -> set[str]:
        """Write what can be written of them, in one transaction. Return the ids of those executions.

        :raises StorageError: nothing was written, or nobody knows, where its cause is that the connection broke.
        """
        raise NotImplementedError

    def _read(
        self, statement: bytes, values: Sequence[Any], *, patience: float | None = None, prepare: bool = True
    ) -> Sequence[tuple[Any, ...]]:
        """Return rows. :param prepare: whether the same plan is good for all values."""
        return self._run(
            lambda connection, again: connection.execute(statement, values, prepare=prepare).fetchall(), patience=patience
        )

    def _run(self, work: Callable[[Connection, bool], T], *, patience: float | None = None, again: bool = False) -> T:
        """Do ``work(connection, again)``; where the connection breaks, do it again with another, until patience ends.

        :param patience: seconds, instead of the store's.
        :param again: it may have been done already.
        :raises StorageError: it failed, or it kept breaking.
        """
        trying = Patience(self._patience if patience is None else patience)
        while True:
            pool = self._pool_of_process()
            connection: Connection | None = None
            try:
                connection = pool.lend()
                return work(connection, again)
            except psycopg.Error as error:
                fault, passes = without_values(error), may_pass(error, connection)
            except UnicodeEncodeError as error:
                fault, passes = psycopg.DataError(f"{error}; nothing was stored"), False
            except Exception:
                raise
            except BaseException:
                # Nobody knows what an interrupted connection has yet to answer.
                if connection is not None:
                    connection.close()
                raise
            finally:
                if connection is not None:
                    pool.take_back(connection)
            # Here, as what is raised where an error is handled knows that error, and the values in it.
            if not passes:
                raise StorageError(f"PostgreSQL: {fault}") from fault
            if trying.ends():
                raise StorageError(f"PostgreSQL did not answer{trying.lasted}: {fault}") from fault
            again = True
            pool.close_idle()
            trying.wait()

    def _new_pool(self) -> Pool:
        # With a connection for each that has its turn, all would wait for connections that others read and create with, and
        # nobody in the queue, where one writes for all.
        turns = AppendTurns(self._append_together, max(1, self._max_connections // 2))
        pool = Pool(self._parameters, self._max_connections, turns)
        # A thread that waits for a connection must not be what those wait for that have one: where a coroutine function has it,
        # a thread is needed to commit. So these have a pool of their own, and wait for it in their event loops.
        pool.steps = tuple(Pool(self._parameters, most, turns, StepConnection) for most in (self._max_connections, None))
        pool.in_loops = InLoops(self._max_connections // 2)
        return pool

    def _pool_of_process(self) -> Pool:
        pool = self._pool
        if pool.pid != os.getpid():
            # After a fork: the parent goes on using the old one.
            _pools_of_parents.append(pool)
            pool = self._pool = self._new_pool()
        if pool.closed:
            raise rules.closed(type(self).__name__)
        return pool


# Pools of a parent process, whose connections psycopg must not close in a child.
_pools_of_parents: list[Pool] = []
