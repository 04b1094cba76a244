"""What a submitted execution is watched and waited for by. Nothing is executed here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic

from saga.awaited import awaited
from saga.clocks import clock
from saga.context import Ctx
from saga.durable.rebuild import entries_of, rebuild, status_of
from saga.durable.start import pauses
from saga.durable.within import check_not_awaited
from saga.errors import UnknownExecutionError
from saga.events import Status
from saga.operations import Operations
from saga.policy import Seconds, seconds_of
from saga.result import SagaResult, ok

if TYPE_CHECKING:
    from saga.definition import Definition
    from saga.storage.protocol import Store

__all__ = ["Handle"]


class Handle(Generic[Ctx]):
    """An execution that somebody else runs: what :meth:`saga.Saga.submit` and :meth:`saga.Saga.handle` return.

    :ivar saga_id: its id.
    :ivar new: whether it was stored by this call; else its id was known, with the same input.
    """

    def __init__(self, definition: Definition, store: Store, saga_id: str, new: bool) -> None:
        self._definition = definition
        self._store = store
        self.saga_id = saga_id
        self.new = new

    def status(self) -> Status:
        """Return where the execution stands.

        :raises UnknownExecutionError: it is not stored: it was purged, or the transaction it was submitted in is not committed.
        """
        row = self._store.get(self.saga_id)
        if row is None:
            raise UnknownExecutionError(
                f"there is no execution {self.saga_id!r}: it was purged, or submitted in a transaction that is not committed"
            )
        return status_of(row)

    def result(self, timeout: Seconds | None = None) -> SagaResult[Ctx]:
        """Wait for the execution's end and return its result. A worker runs it meanwhile, somewhere.

        :param timeout: seconds to wait at most.
        :raises TimeoutError: it has not ended by then; it goes on.
        :raises SagaExecutionException: it failed, as :meth:`saga.Saga.execute` raises it.
        :raises UnknownExecutionError: it is not stored.
        """
        return ok(self.try_result(timeout))  # no local: see saga.drivers.results

    def try_result(self, timeout: Seconds | None = None) -> SagaResult[Ctx]:
        """Wait for the execution's end and return its result, failed or not: as :meth:`result`."""
        for pause in self._pauses(timeout):
            if self.status().terminal:
                break
            time.sleep(pause)
        return self._ended()

    async def aresult(self, timeout: Seconds | None = None) -> SagaResult[Ctx]:
        """As :meth:`result`, while the running event loop goes on."""
        return ok(await self.atry_result(timeout))  # no local: see saga.drivers.results

    async def atry_result(self, timeout: Seconds | None = None) -> SagaResult[Ctx]:
        """As :meth:`try_result`, while the running event loop goes on."""
        for pause in self._pauses(timeout):
            if (await self.astatus()).terminal:
                break
            await asyncio.sleep(pause)
        return await asyncio.to_thread(self._ended)

    def cancel(self, why: str, *, who: str = "whoever submitted it") -> None:
        """Give the execution up: what it has done is undone; what nobody has begun never begins.

        :param who: the person who acts, for those who read the journal.
        :raises ActionRefusedError: it does not go forward any more.
        :raises ValueError: ``why`` is empty.
        """
        Operations(self._store, who).cancel(self.saga_id, why)

    astatus = awaited(status)
    acancel = awaited(cancel)

    def _pauses(self, given: Seconds | None) -> Iterator[float]:
        """Yield the seconds to wait after each look.

        :raises SagaDefinitionError: a step of the execution waits for its end.
        :raises TimeoutError: it was the last.
        """
        timeout = 0.0 if given == 0 else seconds_of(given, "timeout")  # 0: just a look
        if timeout is None:
            check_not_awaited(self._definition, self.saga_id, self._store)
        deadline = None if timeout is None else clock() + timeout
        for pause in pauses():
            left = pause if deadline is None else deadline - clock()
            yield min(pause, max(left, 0.0))
            if left <= 0:
                raise TimeoutError(f"execution {self.saga_id!r} has not ended within {timeout:g} s; it goes on")

    def _ended(self) -> SagaResult[Any]:
        row = self._store.get(self.saga_id)
        if row is None:
            raise UnknownExecutionError(f"execution {self.saga_id!r} was purged")
        return rebuild(self._definition, row, entries_of(self._store, self.saga_id)).result()

    def __repr__(self) -> str:
        return f"<Handle of execution {self.saga_id!r} of saga {self._definition.name!r}>"
