"""Statements that event loops send to a PostgreSQL server, with no thread: libpq says when there is an answer.

A connection of the threads' pool is an event loop's for as long as that has something to send again and again. What does not
end well is told as nothing at all: who waits for it finds out in another way what that means. No statement lives here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from psycopg import pq

from saga.storage import postgres_silence
from saga.storage.postgres_pool import Connection, Pool

__all__ = ["InLoops", "Line"]

_WELL: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_LOOKS: Final = 10
"""How often a line is looked at until an answer is late; and one that was not used in between goes back to its pool."""

Ended = Callable[[int, Sequence[str]], None]
"""Is told how many rows a statement wrote or gave, and of those that it gave the first column; 0: perhaps nothing was done."""


class InLoops:
    """The connections of a pool that event loops have.

    :param most: how many at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: set[Line] = set()
        self._idle: dict[asyncio.AbstractEventLoop, list[Line]] = {}
        self._numbered: dict[bytes, tuple[bytes, bytes]] = {}

    def lend(self, pool: Pool) -> Line | None:
        """Return what sends one statement from the running event loop, or ``None`` where that cannot be now.

        :param pool: the threads', of which one opens what more connections are needed.
        """
        loop = asyncio.get_running_loop()
        idle = self._idle.get(loop)
        if idle is None:
            idle = self._idle[loop] = []
            self._forget_dead(loop)
            loop.call_later(postgres_silence.SILENCE / _LOOKS, self._look, loop)
        while idle:
            line = idle.pop()
            if line.is_open:
                return line
        if len(self._lines) >= self._most:
            self._forget_dead(loop)
            if len(self._lines) >= self._most:
                return None
        connection = pool.lend_idle()
        if connection is None:
            return None
        try:
            line = Line(self, pool, connection, loop)
        except BaseException:  # such as that of an event loop that watches no sockets
            pool.take_back(connection)
            raise
        self._lines.add(line)
        return line

    def numbered(self, statement: bytes) -> tuple[bytes, bytes]:
        """Return what a statement is prepared as, and its text as libpq takes it."""
        known = self._numbered.get(statement)
        if known is None:
            first, *rest = statement.split(b"%s")
            text = first + b"".join([b"$%d%b" % (number, part) for number, part in enumerate(rest, 1)])
            known = self._numbered[statement] = b"saga_%d" % len(self._numbered), text
        return known

    def rest(self, line: Line) -> None:
        """Keep a line for what its event loop sends next."""
        self._idle.setdefault(line.loop, []).append(line)

    def forget(self, line: Line) -> bool:
        """Take note that a line is none any more. Return whether it was one."""
        known = line in self._lines
        self._lines.discard(line)
        return known

    def close(self) -> None:
        """Give back what nobody uses now. Called from any thread."""
        own = None
        with suppress(RuntimeError):  # none runs here
            own = asyncio.get_running_loop()
        for line in [*self._lines]:
            if line.loop.is_running() and line.loop is not own:
                line.loop.call_soon_threadsafe(line.leave)
            else:
                line.leave()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look after the lines of an event loop from time to time, while it has some."""
        for line in [*self._lines]:
            if line.loop is loop:
                line.look()
        if any(line.loop is loop for line in self._lines):
            loop.call_later(postgres_silence.SILENCE / _LOOKS, self._look, loop)
        else:
            self._idle.pop(loop, None)

    def _forget_dead(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of lines that nobody hears: their event loop was closed, or an interrupt cut them off in this one."""
        for line in [*self._lines]:
            if line.loop.is_closed() or (line.loop is loop and line.cut_off):
                line.end()
        for one in [*self._idle]:
            if one.is_closed():
                del self._idle[one]


class Line:
    """A connection with which an event loop sends one statement after the other, and hears of each."""

    __slots__ = (
        "_connection", "_ended", "_hears", "_in_loops", "_looks", "_pool", "_result", "_sends", "_socket", "_then", "_writes",
        "loop",
    )  # fmt: skip

    def __init__(self, in_loops: InLoops, pool: Pool, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._in_loops = in_loops
        self._pool = pool
        self._connection: Connection | None = connection
        self._socket = connection.pgconn.socket
        self.loop = loop
        self._ended: Ended | None = None
        self._result: pq.abc.PGresult | None = None
        self._then: tuple[bytes, list[bytes | None]] | None = None  # to be sent when it is prepared
        self._sends = False  # there is a statement that has not ended
        self._hears = False  # something comes of it in this moment
        self._writes = False
        self._looks = 0  # since something was sent last
        loop.add_reader(self._socket, self._heard)

    @property
    def cut_off(self) -> bool:
        """Whether an interrupt cut it off in the event loop's thread, which asks: nothing more is heard of it."""
        return self._hears

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._connection is not None

    def send(self, statement: bytes, values: Sequence[Any], ended: Ended) -> None:
        """Send a statement. ``ended`` is called later, in the event loop.

        :raises Exception: it is not sent; :meth:`end` is to be called.
        """
        connection = self._connection
        assert connection is not None
        texts = _texts(values, connection.encoding)
        name, text = self._in_loops.numbered(statement)
        self._looks = 0
        self._hears = self._sends = True
        if connection.prepare_threshold is None:  # through a pooler
            connection.pgconn.send_query_params(text, texts)
        elif name in connection.prepared:
            connection.pgconn.send_query_prepared(name, texts)
        else:
            connection.pgconn.send_prepare(name, text)
            self._then = name, texts
        self._flush(connection)
        self._ended = ended
        self._hears = False

    def end(self) -> None:
        """Give the connection back; nobody knows what comes of what it has sent. It may be called again."""
        connection, ended = self._connection, self._ended
        if connection is None:
            return
        if self.loop.is_closed():
            ended = None  # nobody is there to hear it
        else:
            self.loop.remove_reader(self._socket)
            self.loop.remove_writer(self._socket)
        if self._sends:
            connection.close()  # it has yet to answer
        self._connection = self._ended = None
        if self._in_loops.forget(self):
            self._pool.take_back(connection)
        if ended is not None:
            ended(0, ())
        self._hears = False

    def leave(self) -> None:
        """Give the connection back, where nothing is sent."""
        if not self._sends:
            self.end()

    def look(self) -> None:
        """See that the server is there, where it has not answered for long; and give back what is not used."""
        connection = self._connection
        self._looks += 1
        if not self._sends and self._looks > 1:
            self.leave()
        elif self._looks > _LOOKS and connection is not None:
            self._looks = 0
            with suppress(RuntimeError):  # no thread begins any more
                self.loop.run_in_executor(None, connection.silence).add_done_callback(self._asked)

    def _asked(self, asked: asyncio.Future[str | None]) -> None:
        if not asked.cancelled() and asked.exception() is None and asked.result():
            self.end()

    def _flush(self, connection: Connection) -> None:
        """Send what is not sent yet, as far as the socket takes it."""
        left = bool(connection.pgconn.flush())
        if left and not self._writes:
            self.loop.add_writer(self._socket, self._heard)
        elif self._writes and not left:
            self.loop.remove_writer(self._socket)
        self._writes = left

    def _heard(self) -> None:
        connection = self._connection
        if connection is None:
            return
        self._hears = True
        try:
            whole = self._take(connection)
        except Exception:  # the connection is broken
            self.end()
            return
        if whole:
            self._answered(connection.encoding)
        self._hears = False

    def _take(self, connection: Connection) -> bool:
        """Take what has come. Return whether the statement has ended.

        :raises Exception: the connection is broken.
        """
        pgconn = connection.pgconn
        if self._writes:
            self._flush(connection)
        pgconn.consume_input()
        while self._sends and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is not None:
                self._result = result if result.status in _WELL else None
            elif self._then is None or self._result is None:
                return True
            else:
                (name, texts), self._then, self._result = self._then, None, None
                connection.prepared.add(name)
                pgconn.send_query_prepared(name, texts)
                self._flush(connection)
        return False

    def _answered(self, encoding: str) -> None:
        """Say what came of the statement."""
        result, ended = self._result, self._ended
        if result is None or ended is None:
            self.end()
            return
        self._result = self._ended = None
        self._sends = False
        ids = [str(result.get_value(row, 0), encoding) for row in range(result.ntuples)]  # type: ignore[arg-type]
        ended(len(ids) or result.command_tuples or 0, ids)
        self._in_loops.rest(self)


def _texts(values: Sequence[Any], encoding: str) -> list[bytes | None]:
    """Return values as libpq sends them.

    :raises ValueError: one has a NUL, at which libpq would end it.
    """
    texts = [one.encode(encoding) if type(one) is str else None if one is None else _text(one, encoding) for one in values]
    if b"\0" in b"".join(filter(None, texts)):
        raise ValueError("a text has a NUL")
    return texts


def _text(value: Any, encoding: str) -> bytes:
    if isinstance(value, str):
        return str(value).encode(encoding)
    if isinstance(value, list):  # of numbers
        return b"{%b}" % ",".join(map(str, value)).encode()
    return repr(value).encode()
