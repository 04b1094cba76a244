"""The connections of the PostgreSQL store, lent to its threads. No statement lives here."""

from __future__ import annotations

import os
import queue
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from saga.errors import StorageError
from saga.storage.postgres_crowd import AppendTurns
from saga.storage.postgres_silence import WatchedConnection

if TYPE_CHECKING:
    from saga.storage.postgres_loop import InLoops

__all__ = ["Connection", "Pool", "may_pass", "parameters_of", "without_values"]

# A dead server is noticed within a minute; what the connection string says comes before these.
CONNECTION_DEFAULTS = {
    "application_name": "saga",
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # While something that was sent is not acknowledged, nothing keeps alive. In milliseconds.
    "tcp_user_timeout": 20_000,
}

_DIRECT: Final = b"SELECT pg_backend_pid(), CASE WHEN pg_backend_pid() = %s THEN set_config('enable_seqscan', 'off', false) END"

PASSING = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "57P01",  # the server shuts down, or an administrator ended the connection
    "57P02",  # the server crashed
    "57P03",  # the server starts up
}


def parameters_of(conninfo: str) -> dict[str, Any]:
    """Return what a URL or another connection string of libpq's says, and our defaults.

    :raises StorageError: it is none. No text of it is in the error: it may be the password's.
    """
    with suppress(psycopg.Error, ValueError):  # which would be the context of what is raised within an except
        if isinstance(conninfo, str):
            return CONNECTION_DEFAULTS | conninfo_to_dict(conninfo)
    raise StorageError(
        "PostgresStore: conninfo is no connection string of libpq's; write postgresql://user:password@host:port/database, "
        "with urllib.parse.quote(..., safe='') of user and password"
    )


class Connection(WatchedConnection):
    """A connection whose statements share one cursor, as making one takes a tenth of a commit's time.

    A result is to be read before the next statement.

    :ivar encoding: in which texts are sent, as Python calls it.
    :ivar prepared: what event loops have prepared with it: see :mod:`saga.storage.postgres_loop`.
    """

    encoding: str
    prepared: set[bytes]

    _cursor: psycopg.Cursor[tuple[Any, ...]] | None = None

    @classmethod
    def opened(cls, parameters: dict[str, Any]) -> Connection:
        """Open one.

        :raises psycopg.Error: it could not be opened.
        """
        connection = cls.watched(parameters, autocommit=True)
        try:
            # A pooler (PgBouncer) gives out a number of its own. What is prepared through it may be left on a connection of its
            # own that another client has next, under the same name. Of what is prepared the server keeps its plan, which it may
            # have made while the tables were empty; but whatever is looked for is found by an index.
            pid = connection.info.backend_pid
            if connection.execute(_DIRECT, (pid,)).fetchone() != (pid, "off"):
                connection.prepare_threshold = None
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            connection.encoding, connection.prepared = connection.info.encoding, set()
        except BaseException:
            connection.close()
            raise
        return connection

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        if self._cursor is None:
            self._cursor = self.cursor()
        return self._cursor.execute(query, params, prepare=prepare, binary=binary)


def without_values(error: psycopg.Error) -> psycopg.Error:
    """Return the error without the server's details, which quote what was sent: nobody expects inputs and results in a log."""
    return type(error)(error.diag.message_primary or str(error))


def may_pass(error: psycopg.Error, connection: Connection | None) -> bool:
    """Whether a fault may be over when the same is tried again: the connection broke, or could not be opened."""
    return connection is None or connection.closed or error.sqlstate in PASSING


class Pool:
    """Some connections, each lent to one thread at a time; the one that came back last is lent first.

    :param parameters: those of each connection.
    :param most: how many there are at most; each is opened when all the others are lent. ``None``: others see to that.
    :param kind: their class.
    :ivar steps: the pools of the connections that are lent to transactional steps: to plain functions, to coroutine functions.
    :ivar turns: its threads take turns at appending with them.
    :ivar in_loops: what event loops do with them, where they may.
    :ivar pid: the process they belong to.
    """

    steps: tuple[Pool, ...] = ()
    in_loops: InLoops | None = None

    def __init__(
        self, parameters: dict[str, Any], most: int | None, turns: AppendTurns, kind: type[Connection] = Connection
    ) -> None:
        self.pid = os.getpid()
        self.turns = turns
        self.closed = False
        self._parameters = parameters
        self._kind = kind
        # A threading.Semaphore is written in Python, and many threads spend their time on its lock.
        self._places: queue.SimpleQueue[None] | None = None if most is None else queue.SimpleQueue()
        for _ in range(most or 0):
            self._free_a_place()
        self._idle: deque[Connection] = deque()

    def lend(self) -> Connection:
        """Return a connection, when there is one to spare.

        :raises psycopg.Error: none could be opened.
        """
        if self._places is not None:
            self._places.get()
        try:
            while connection := self._pop():
                if not connection.closed:
                    return connection
            return self._kind.opened(self._parameters)
        except BaseException:
            self._free_a_place()
            raise

    def lend_idle(self) -> Connection | None:
        """Return a connection that is open already, where there is one to spare now."""
        if self._places is not None:
            try:
                self._places.get_nowait()
            except queue.Empty:
                return None
        while connection := self._pop():
            if not connection.closed:
                return connection
        self._free_a_place()
        return None

    def take_back(self, connection: Connection) -> None:
        """Let others have a connection that was lent."""
        self._idle.append(connection)
        self._free_a_place()
        if self.closed:
            self.close_idle()

    def close_idle(self) -> None:
        """Close whatever is not lent: where one is broken, so are likely the others."""
        while connection := self._pop():
            connection.close()

    def close(self) -> None:
        """Close whatever is not lent now, and the rest when it comes back."""
        self.closed = True
        self.close_idle()
        for pool in self.steps:
            pool.close()
        if self.in_loops is not None:
            self.in_loops.close()

    def _free_a_place(self) -> None:
        if self._places is not None:
            self._places.put(None)

    def _pop(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None
