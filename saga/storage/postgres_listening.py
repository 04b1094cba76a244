"""Telling others that something was stored in PostgreSQL, and hearing of it, with a connection for each who listens."""

from __future__ import annotations

import hashlib
import os
import selectors
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Final

import psycopg

from saga.clocks import clock
from saga.errors import StorageError
from saga.storage.postgres_pool import Connection, may_pass
from saga.storage.postgres_server import Served
from saga.storage.postgres_sql import Statements
from saga.storage.watching import Watch, ring

__all__ = ["Heard", "ListeningWatch"]

HEARD_WITHIN: Final = 2.0
"""Seconds within which a notification comes, where any does: a pooler takes a LISTEN, and forgets who said so."""

PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to listen again."""


class Heard(Served):
    """A store on a PostgreSQL server that tells, and is told, when there may be something to claim."""

    def __init__(self, conninfo: str, sql: Statements, max_connections: int, patience: float | timedelta) -> None:
        super().__init__(conninfo, sql, max_connections, patience)
        self._id = uuid.uuid4().hex
        self._channel: str | None = None

    def watch(self) -> Watch:
        self._pool_of_process()
        return ListeningWatch(self, self._listening, self._own)

    def tell(self) -> None:
        """Tell it here and elsewhere, now that it is committed.

        Not in the transaction that stored it: those with a NOTIFY wait for one another until they are on the disk.
        """
        ring(self)
        with suppress(StorageError):  # who has not heard of it will look by himself
            self._notify(patience=0.0)

    @property
    def _own(self) -> str:
        """The text of this process's notifications."""
        return f"{self._id} {os.getpid()}"

    def _notify(self, *, patience: float | None = None) -> None:
        values = (self._channel_of_tables(), self._own)
        self._run(lambda connection, again: connection.execute(self._sql.notify, values, prepare=True), patience=patience)

    def _channel_of_tables(self) -> str:
        """Return the name of their channel, by schema and prefix. It has up to 63 bytes."""
        if self._channel is None:
            schema = self._sql.schema or self._read(self._sql.place, (self._sql.table,))[0][0]
            name = f"{schema}.{self._sql.prefix}"
            self._channel = name if len(name.encode()) < 64 else hashlib.sha256(name.encode()).hexdigest()[:63]
        return self._channel

    def _listening(self) -> Connection | None:
        """Return a connection to which notifications come, or ``None`` where none do.

        :raises psycopg.Error: it could not be opened, or broke.
        :raises StorageError: the same.
        """
        channel = self._channel_of_tables().replace('"', '""')
        connection = Connection.opened(self._parameters)
        with ExitStack() as unless_it_hears:
            unless_it_hears.callback(connection.close)
            try:
                connection.execute(f'LISTEN "{channel}"'.encode())
                self._notify()
                if _hears(connection, self._own):
                    unless_it_hears.pop_all()
                    return connection
                connection.execute(b"UNLISTEN *")  # as it may be somebody else's next
            except psycopg.Error as error:
                if may_pass(error, connection):
                    raise
        return None


def _hears(connection: Connection, text: str) -> bool:
    deadline = clock() + HEARD_WITHIN
    with selectors.DefaultSelector() as ready:
        ready.register(connection.fileno(), selectors.EVENT_READ)
        while (left := deadline - clock()) > 0:
            ready.select(left)
            if text in _heard(connection):
                return True
    return False


def _heard(connection: Connection) -> list[str]:
    """Return the texts of the notifications that have come.

    :raises psycopg.Error: the connection broke.
    """
    connection.pgconn.consume_input()
    found = []
    while notification := connection.pgconn.notifies():
        found.append(notification.extra.decode(errors="replace"))
    return found


class ListeningWatch(Watch):
    """Waits for notifications as well. Where they cannot come, now or for good, it says so, and is woken by its process alone.

    What breaks is opened again in a thread, as a server that is gone keeps a caller waiting.

    :param connect: returns a connection that listens, or ``None`` where none can.
    :param own: the text of notifications of this process, which has woken its watches already.
    """

    def __init__(self, store: Heard, connect: Callable[[], Connection | None], own: str) -> None:
        super().__init__(store)
        self._connect = connect
        self._own = own
        self._lock = threading.Lock()
        self._closed = False
        self._connection: Connection | None = None
        self._descriptor = -1
        self._fresh: Connection | None = None  # opened by a thread, and not waited for yet
        self._thread: threading.Thread | None = None
        self._again_at, self._delay = 0.0, PAUSE
        self._open()
        self._take_over()

    def wait(self, seconds: float) -> bool:
        self._take_over()
        return super().wait(seconds)

    def look(self, ready: bool) -> bool:
        if self._connection is None:
            self._open_again()
            return False
        try:
            return any(text != self._own for text in _heard(self._connection))
        except psycopg.Error:
            self._let_go()
            self.pause = PAUSE
            return True  # nobody knows what was missed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            fresh, self._fresh = self._fresh, None
        if fresh is not None:
            fresh.close()
        self._let_go()
        super().close()

    def _open(self) -> None:
        """Open a connection that listens, if it can be. Where none can, there is no use in trying again."""
        try:
            connection = self._connect()
        except (psycopg.Error, StorageError):
            self.pause = PAUSE
            return
        self.pause = None
        with self._lock:
            if not self._closed:
                self._fresh, connection = connection, None
        if connection is not None:
            connection.close()
        self.wake()

    def _open_again(self) -> None:
        now = clock()
        if self.pause is None or now < self._again_at or (self._thread is not None and self._thread.is_alive()):
            return
        self._again_at = now + self._delay
        self._delay = min(2 * self._delay, LONGEST_PAUSE)
        self._thread = threading.Thread(target=self._open, name="saga-listens", daemon=True)
        with suppress(RuntimeError):  # there are too many threads; later, then
            self._thread.start()

    def _take_over(self) -> None:
        """Wait for what a thread has opened, too."""
        with self._lock:
            connection, self._fresh = self._fresh, None
        if connection is not None:
            self._connection, self._descriptor = connection, connection.fileno()
            self._delay = PAUSE
            self.hears_others = True
            self.listen(self._descriptor)

    def _let_go(self) -> None:
        if self._connection is not None:
            self._ready.unregister(self._descriptor)  # which the connection may have closed
            self._connection.close()
            self._connection = None
            self.hears_others = False
