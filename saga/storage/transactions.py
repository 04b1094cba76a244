"""What a store lends to a transactional step: an open transaction of its database. No engine lives here."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, Protocol, TypeVar

from saga.storage.records import Append

__all__ = ["OF_USE", "Lent", "LentInLoop", "LentTransaction", "Standing", "causes"]

T = TypeVar("T")

Standing = Literal["open", "failed", "ended"]

OF_USE: Final = "a transactional step's connection is of use in the step's own thread, and until the step ends"
"""What one is told who uses it elsewhere or later."""


class LentTransaction(Protocol):
    """One transaction after the other, each with :meth:`begin`; one thread uses it at a time.

    :ivar connection: the driver's own, to work with: between :meth:`begin` and :meth:`end`.
    """

    connection: Any

    def begin(self) -> None:
        """Begin one.

        :raises StorageError: that cannot be done.
        """

    def standing(self) -> Standing:
        """Say whether it is still open, one of its statements failed so that nothing can be committed, or whoever had the
        connection has ended it.
        """

    def passes(self, error: BaseException | None) -> bool:
        """Whether it has failed, with this error or silently, so that the same may go well in a fresh one."""

    def append(self, one: Append) -> None:
        """Add to an execution's journal, within it: as :meth:`saga.storage.Store.append`, which says what is raised too.

        :raises Exception: also one of the database's.
        """

    def commit(self) -> None:
        """Commit it.

        :raises Exception: one of the database's; whether it was committed may not be known then.
        """

    def refusal(self, error: Exception) -> Exception:
        """Return an error of a commit that was for what the user had done, such as that of a deferred constraint.

        :raises StorageError: it was for something else.
        """

    def end(self) -> None:
        """Give the connection back; what is not committed is rolled back. It may be called again, and from other threads."""


class Lent:
    """A lent transaction as the one who awaits its work has it. This one does it at once: nothing is ever waited for.

    :ivar plain: the transaction.
    :ivar connection: what a call works with: between :meth:`begin` and :meth:`end`.
    """

    def __init__(self, plain: LentTransaction) -> None:
        self.plain = plain
        self.connection: Any = None

    async def begin(self) -> None:
        """Begin one: see :meth:`LentTransaction.begin`."""
        await self.do(self.plain.begin)
        self.connection = self.plain.connection

    async def end(self) -> None:
        """End it: see :meth:`LentTransaction.end`."""
        self.connection = None  # first: who still has it then has kept it
        await self.do(self.plain.end)

    async def do(self, work: Callable[[], T]) -> T:
        """Return what is done with the plain transaction, when the call works with the connection no more."""
        return work()

    async def aside(self, work: Callable[[], T]) -> T:
        """Return what is done meanwhile that is not done with the connection."""
        return work()


class LentInLoop(Lent):
    """One whose connection is asynchronous, for a coroutine function. While its work is done, the event loop goes on.

    What the event loop's end cancels is waited for all the same: nobody else may use the transaction meanwhile.
    """

    def __init__(self, plain: LentTransaction) -> None:
        super().__init__(plain)
        self._under_way: asyncio.Future[Any] | None = None

    async def do(self, work: Callable[[], T]) -> T:
        # An interrupt may have struck whoever awaited what is under way still. A lock could stay locked, for the same reason.
        while self._under_way is not None and not self._under_way.done():
            await asyncio.wait((self._under_way,))
        mine = asyncio.ensure_future(self._do(work))
        self._under_way = mine
        return await mine

    async def _do(self, work: Callable[[], T]) -> T:
        return await self.aside(work)

    async def aside(self, work: Callable[[], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, work)
        struck = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                struck = error
        if struck is not None:
            running.exception()
            raise struck
        return running.result()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
