"""A PostgreSQL server that says nothing any more, where psycopg2 waits for it: not without end.

psycopg2 waits where no Python runs. So a thread watches those who wait, and asks with another connection whether the server is
there; where it is not, it ends the connection, and who waits has an error. There is a thread as long as anybody waits.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

import psycopg2  # type: ignore[import-untyped]
from psycopg2 import extensions

from saga.clocks import clock

__all__ = ["WatchedConnection"]

SILENCE: Final = 10.0
"""Seconds without an answer, after which a server is asked whether it is there at all; and those that this may take."""


class _Cursor(extensions.cursor):  # type: ignore[misc]
    def execute(self, query: Any, values: Any = None) -> None:
        with self.connection.waiting:
            super().execute(query, values)

    def executemany(self, query: Any, values: Any) -> None:
        with self.connection.waiting:
            super().executemany(query, values)


class WatchedConnection(extensions.connection):  # type: ignore[misc]
    """A connection whose statements end when their server is gone.

    :ivar parameters: those that it is asked with.
    :ivar waiting: entered by who waits for the server.
    """

    parameters: Mapping[str, Any]
    waiting: _Waiting

    @classmethod
    def watched(cls, parameters: Mapping[str, Any]) -> Self:
        """Open one.

        :raises psycopg2.Error: it could not be opened.
        """
        connection: Self = psycopg2.connect(**parameters, connection_factory=cls, cursor_factory=_Cursor)
        connection.parameters = parameters
        connection.waiting = _Waiting(connection)
        return connection

    def commit(self) -> None:
        with self.waiting:
            super().commit()

    def rollback(self) -> None:
        with self.waiting:
            super().rollback()

    def answers(self) -> bool:
        """Whether the server is there."""
        # This one, where the parameters name several: another may have taken its place.
        here = {"host": self.info.host, "port": self.info.port, "target_session_attrs": "any"}
        asked = {**self.parameters, **here, "connect_timeout": max(2, int(SILENCE))}
        try:
            psycopg2.connect(**asked).close()
        except psycopg2.OperationalError as error:
            return "FATAL" in str(error)  # it takes no more connections
        return True

    def cut(self) -> None:
        """Let who waits for it wait no more."""
        with suppress(OSError, psycopg2.Error), socket.fromfd(self.fileno(), socket.AF_INET, socket.SOCK_STREAM) as connected:
            connected.shutdown(socket.SHUT_RDWR)


class _Waiting:
    """Says that somebody waits for a connection's server, and since when."""

    __slots__ = ("connection", "since")

    def __init__(self, connection: WatchedConnection) -> None:
        self.connection = connection
        self.since = 0.0

    def __enter__(self) -> None:
        global _thread
        with _lock:
            self.since = clock()
            _waiting.add(self)
            if _thread is None or not _thread.is_alive():
                _thread = threading.Thread(target=_watch, name="saga watches psycopg2", daemon=True)
                with suppress(RuntimeError):  # no thread is to be had: it is waited for, then
                    _thread.start()

    def __exit__(self, *_: object) -> None:
        with _lock:
            _waiting.discard(self)


_lock = threading.Lock()
_waiting: set[_Waiting] = set()
_thread: threading.Thread | None = None


def _watch() -> None:
    """Watch as long as somebody waits."""
    global _thread
    while True:
        time.sleep(SILENCE / 4)
        with _lock:
            if not _waiting:
                _thread = None
                return
            silent = [one for one in _waiting if clock() - one.since >= SILENCE]
        for one in silent:
            asked_at = one.since
            there = one.connection.answers()
            with _lock:
                if one not in _waiting or one.since != asked_at:
                    continue
                if there:
                    one.since = clock()
                else:
                    one.connection.cut()


def _after_fork() -> None:
    global _lock, _thread
    _lock, _thread = threading.Lock(), None
    _waiting.clear()  # the parent's


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
