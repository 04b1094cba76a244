"""Executions that a program runs itself until it is told to stop: what waits then is left. No thread lives here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from saga.beginning import abegin, begin
from saga.context import ContextLike
from saga.definition import Definition, inputs
from saga.drivers.base import Driver
from saga.drivers.results import raised_or
from saga.result import SagaResult
from saga.storage.protocol import StoreLike

__all__ = ["Here"]


class Here:
    """Executes a saga in the caller's thread, or in the running event loop. Used by many of them at once.

    :param store: where executions are remembered; ``None``: nowhere.
    :ivar stopping: set when it is told to stop.
    """

    def __init__(self, definition: Definition, store: StoreLike | None) -> None:
        self._definition = definition
        self._store = store
        self._running: set[Driver] = set()
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Say, from any thread or signal's handler, that it is time to stop.

        Calls that run go on. What waits for long, for another process, or for its turn, is left to whoever goes on with it from
        the store; where there is none, it is undone.
        """
        self.stopping.set()
        for execution in tuple(self._running):
            execution.leave_waits()

    def execute(self, context: ContextLike, saga_id: str | None) -> SagaResult[Any]:
        """Execute the saga, as :meth:`saga.Saga.try_execute` does. What is left is in the result as it stands."""
        given = inputs(self._definition, context, saga_id, self._store)
        execution = begin(self._definition, *given, self.stopping)
        if isinstance(execution, SagaResult):
            return execution
        with self._in_hand(execution):
            execution.run()
        return raised_or(execution)

    async def aexecute(self, context: ContextLike, saga_id: str | None) -> SagaResult[Any]:
        """As :meth:`execute`, in the running event loop."""
        given = inputs(self._definition, context, saga_id, self._store)
        execution = await abegin(self._definition, *given, self.stopping)
        if isinstance(execution, SagaResult):
            return execution
        with self._in_hand(execution):
            await execution.run()
        return raised_or(execution)

    @contextmanager
    def _in_hand(self, execution: Driver) -> Iterator[None]:
        self._running.add(execution)
        try:
            if self.stopping.is_set():
                execution.leave_waits()
            yield
        finally:
            self._running.discard(execution)
            execution.free_context()
