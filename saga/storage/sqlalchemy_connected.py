"""A connection to whatever database SQLAlchemy reaches, and what is tried again there. What is stored is not known here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from saga.errors import StorageError
from saga.storage import rules
from saga.storage.protocol import Store
from saga.storage.retrying import Patience
from saga.storage.sqlalchemy_dialects import (
    connects_in_loops,
    engine_of,
    longest_text,
    may_pass,
    place_of,
    shown,
    what_to_do,
    without_values,
)
from saga.storage.sqlalchemy_sql import Statements
from saga.storage.sqlalchemy_tables import Tables, migrate

__all__ = ["Conflict", "Connected"]

T = TypeVar("T")


class Conflict(StorageError):
    """A row with this key is there already, or a column that must have a value has none."""


class Connected(Store):
    """What the store does its work by: see :class:`~saga.storage.sqlalchemy.SQLAlchemyStore`, which says what it takes."""

    def __init__(self, url: str | sa.URL, *, prefix: str = "saga", patience: float | timedelta = 10.0, **options: Any) -> None:
        self._patience = rules.patience_of("patience", patience)
        self._closed = False
        self._pid = os.getpid()
        rules.check_table_name("prefix", prefix)
        self._engine = engine_of(url, options)
        self.transacts_async = connects_in_loops(url, options)
        if self.transacts_async:
            from saga.storage.sqlalchemy_step_in_loop import Engines  # it needs a library that others do not

            self._engines = Engines(partial(engine_of, url, options, in_loop=True))
        self._place = place_of(self._engine)
        fault: Exception | None = None
        try:
            if self._place is not None:
                self._place.make()
            # The kind of server is known from the first connection on.
            with self._engine.connect() as connection:
                self.longest_text = longest_text(connection)
            self._tables = Tables(prefix, self._engine.dialect)
            migrate(self._engine, self._tables)
            if self._place is not None:
                self._place.remember()
        except exc.SQLAlchemyError as error:
            fault = without_values(error)
        except TypeError as error:  # of the driver, which is called with what stands behind the question mark
            self._engine.dispose()
            raise StorageError(f"{shown(self._engine.url)}: its driver does not know an option of the URL: {error}") from error
        except BaseException:
            self._engine.dispose()
            raise
        if fault is not None:
            self._engine.dispose()
            raise StorageError(f"{shown(self._engine.url)}: {fault}{what_to_do(fault)}") from fault
        self._sql = Statements(self._tables, self._engine.dialect)

    def __repr__(self) -> str:  # without a password, which may be in the query, too
        url = self._engine.url
        url = sa.URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
        return f"<{type(self).__name__} {url}>"

    def now(self) -> float:
        now: float = self._run(lambda connection, again: connection.execute(sa.select(self._sql.now())).scalar_one())
        return now

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()
        if self.transacts_async:
            self._engines.close()

    def _read(self, statement: Any) -> Sequence[Any]:
        return self._run(lambda connection, again: connection.execute(statement).all())

    def _run(self, work: Callable[[sa.Connection, bool], T], *, patience: float | None = None) -> T:
        """Do ``work(connection, again)`` in a transaction; where it may go better the next time, do it again.

        :param patience: seconds to go on trying, instead of the store's.
        :raises Conflict: a row with this key is there already.
        :raises StorageError: it failed, or it kept breaking.
        """
        trying = Patience(self._patience if patience is None else patience)
        again = False
        while True:
            self._check_usable()
            connection: sa.Connection | None = None
            conflict = passes = False
            try:
                with self._engine.connect() as connection, connection.begin():
                    result = work(connection, again)
                if self._place is not None:
                    self._place.check()
                return result
            except exc.SQLAlchemyError as error:
                fault, conflict = without_values(error), isinstance(error, exc.IntegrityError)
                passes = isinstance(error, exc.DBAPIError) and may_pass(error, connection)
            except (UnicodeEncodeError, OverflowError) as error:
                fault = ValueError(str(error))
            # Here, as what is raised where an error is handled knows that error, and the values in it.
            if conflict:
                raise Conflict(str(fault)) from fault
            if not passes:
                raise StorageError(f"{shown(self._engine.url)}: {fault}; nothing was stored") from fault
            if trying.ends():
                raise StorageError(f"{shown(self._engine.url)} failed{trying.lasted}: {fault}") from fault
            again = True
            trying.wait()

    def _usable_engine(self) -> sa.Engine:
        self._check_usable()
        return self._engine

    def _check_usable(self) -> None:
        if self._closed:
            raise rules.closed(type(self).__name__)
        if self._place is not None:
            self._place.check()  # else SQLite would make another
        if self._pid != os.getpid():
            # After a fork: the parent goes on using the old connections.
            self._engine.dispose(close=False)
            self._pid = os.getpid()
