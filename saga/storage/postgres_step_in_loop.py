"""The transaction of a transactional step's coroutine function in PostgreSQL: psycopg's asynchronous connection.

It is one with the plain connection, which begins and ends the transaction in a thread: both speak over the same session, one
after the other.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Generator
from typing import Any, NoReturn, TypeVar

import psycopg

from saga.storage.postgres_step import PostgresTransaction
from saga.storage.transactions import LentInLoop

__all__ = ["Places", "PostgresInLoop"]

T = TypeVar("T")

_REFUSED = "{} is saga's affair in a transactional step; raise an exception for what is to be rolled back"


class StepConnectionInLoop(psycopg.AsyncConnection[tuple[Any, ...]]):
    """What a call has of the session while it runs: it cannot commit, roll back or close it.

    :ivar over: the call has ended.
    """

    over = False

    def __init__(self, plain: psycopg.Connection[Any]) -> None:
        super().__init__(plain.pgconn)
        # The plain connection prepares statements in this session, by the names that this one would give to its own.
        self.prepare_threshold = None

    def __del__(self, *_: object) -> None:
        pass  # the session is not its own: it is not left open

    async def wait(self, gen: Generator[Any, Any, T], *args: Any, **more: Any) -> T:
        if self.over:
            raise psycopg.InterfaceError("the transactional step that had this connection has ended")
        return await super().wait(gen, *args, **more)

    async def commit(self) -> NoReturn:
        raise psycopg.ProgrammingError(_REFUSED.format("commit()"))

    async def rollback(self) -> NoReturn:
        raise psycopg.ProgrammingError(_REFUSED.format("rollback()"))

    async def close(self) -> NoReturn:
        raise psycopg.ProgrammingError(_REFUSED.format("close()"))

    async def leave(self) -> None:
        """Let nobody use it any more. A statement that a task has left behind is waited for."""
        if not self.over:
            self.over = True
            async with self.lock:
                pass


class Places:
    """How many steps of one event loop may have a connection at a time: those that wait for one keep no thread.

    :param most: so many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()

    def here(self) -> asyncio.Semaphore:
        """Return those of the running loop."""
        loop = asyncio.get_running_loop()
        places = self._of_loops.get(loop)
        if places is None:
            places = self._of_loops[loop] = asyncio.Semaphore(self._most)
        return places


class PostgresInLoop(LentInLoop):
    """See :class:`saga.storage.transactions.LentInLoop`.

    :param places: see there.
    """

    def __init__(self, plain: PostgresTransaction, places: Places) -> None:
        super().__init__(plain)
        self._places = places
        self._place: asyncio.Semaphore | None = None

    async def begin(self) -> None:
        if self._place is None:
            place = self._places.here()
            await place.acquire()
            self._place = place
        await self.do(self.plain.begin)
        self.connection = StepConnectionInLoop(self.plain.connection)

    async def do(self, work: Callable[[], T]) -> T:
        if self.connection is not None:
            await self.connection.leave()
        return await super().do(work)

    async def end(self) -> None:
        if self.connection is not None:
            await self.connection.leave()
        await super().end()
        place, self._place = self._place, None
        if place is not None:
            place.release()
