"""The transaction of a transactional step's coroutine function in whatever database SQLAlchemy reaches by a driver for asyncio.

What a plain transaction does is done in SQLAlchemy's greenlets, as its own asynchronous connections do it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import await_only, greenlet_spawn

from saga.storage.records import Append
from saga.storage.sqlalchemy_step import SQLAlchemyTransaction
from saga.storage.transactions import LentInLoop

__all__ = ["Engines", "SQLAlchemyInLoop"]

T = TypeVar("T")


class Engines:
    """An engine for each event loop: its connections are of no use in another, and are closed when the loop ends.

    :param make: makes one.
    """

    def __init__(self, make: Callable[[], sa.Engine]) -> None:
        self._make = make
        self._of_loops: weakref.WeakKeyDictionary[Any, tuple[AsyncEngine, AsyncGenerator[None]]] = weakref.WeakKeyDictionary()

    async def here(self) -> AsyncEngine:
        """Return that of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._of_loops.get(loop)
        if found is None:
            engine = AsyncEngine(self._make())
            found = self._of_loops[loop] = engine, self._until_it_ends(loop, engine)
            await anext(found[1])
        return found[0]

    async def _until_it_ends(self, loop: asyncio.AbstractEventLoop, engine: AsyncEngine) -> AsyncGenerator[None]:
        """Keep an engine until the loop shuts its generators down, as ``asyncio.run`` has it do in the end."""
        try:
            yield
        finally:
            self._of_loops.pop(loop, None)
            await engine.dispose()

    def close(self) -> None:
        """Close the connections that are not lent, in their loops."""
        for loop, (_, kept) in list(self._of_loops.items()):
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(partial(_end, loop, kept))


def _end(loop: asyncio.AbstractEventLoop, kept: AsyncGenerator[None]) -> None:
    async def end() -> None:
        await kept.aclose()

    loop.create_task(end())


class SQLAlchemyInLoop(LentInLoop):
    """See :class:`saga.storage.transactions.LentInLoop`.

    :param engines: what makes the connections.
    :param check: raises where the store cannot be used.
    :param adding: adds to a journal with a connection.
    :param patience: seconds to go on trying where none can be opened.
    """

    _engine: AsyncEngine

    def __init__(
        self, engines: Engines, check: Callable[[], None], adding: Callable[[sa.Connection, Append], None], patience: float
    ) -> None:
        super().__init__(SQLAlchemyTransaction(self._usable, adding, patience, _sleep))
        self._engines = engines
        self._check = check

    async def begin(self) -> None:
        self._engine = await self._engines.here()
        await super().begin()
        self.connection = AsyncConnection(self._engine, self.plain.connection)

    async def _do(self, work: Callable[[], T]) -> T:
        return await greenlet_spawn(work)

    def _usable(self) -> sa.Engine:
        self._check()
        return self._engine.sync_engine


def _sleep(seconds: float) -> None:
    await_only(asyncio.sleep(seconds))
