"""A block's steps are executed one after the other: whose turn it is, and what nobody has awaited when the block ends."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Coroutine
from typing import Any, Final

from saga.errors import SagaDefinitionError

__all__ = ["Turn"]

_PAUSE: Final = 0.001
"""Seconds between two looks at a step that is executed elsewhere when its block ends."""


class Turn:
    """Whose turn it is in a block.

    :param block: its name.
    :ivar user: the thread's id or the task that executes a step now; ``None`` between two steps.
    :ivar over: no step begins any more.
    """

    def __init__(self, block: str) -> None:
        self.user: object = None
        self.over = False
        self._block = block
        self._expected: list[tuple[str, Coroutine[Any, Any, Any]]] = []

    def take(self, user: object) -> None:
        """Begin a step.

        :raises SagaDefinitionError: another one is executed now.
        """
        if self.user is not None:  # no other thread gets on between this look and what is written then
            raise SagaDefinitionError(
                f"transaction {self._block!r}: another step is executed now, and a block's steps are executed one after the "
                "other; await each, or give them to parallel() or aparallel() of the block"
            )
        self.user = user

    def expect(self, name: str, step: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Return a step that is to be awaited before the block ends."""
        self._expected = [one for one in self._expected if _is_unbegun(one[1])]
        self._expected.append((name, step))
        return step

    def end(self) -> None:
        """End the block, when a step that another thread executes has ended."""
        self.over = True
        while self.user not in (None, threading.get_ident()):
            time.sleep(_PAUSE)

    async def aend(self) -> tuple[SagaDefinitionError | None, BaseException | None]:
        """End the block, when a step that another task executes has ended.

        Return what is to be said of steps that nobody has awaited to their end, and the cancellation that struck meanwhile.
        """
        import asyncio

        self.over = True
        left = [(name, step) for name, step in self._expected if _is_unbegun(step)]
        for _, step in left:
            step.close()
        awaited = self.user in (None, asyncio.current_task())
        interrupt: BaseException | None = None
        while self.user not in (None, asyncio.current_task()):
            try:
                await asyncio.sleep(_PAUSE)
            except asyncio.CancelledError as error:
                interrupt = error if interrupt is None else interrupt
        if awaited and not left:
            return None, interrupt
        which = ", ".join(repr(name) for name, _ in left) or "its last step"
        mistake = f"transaction {self._block!r} has ended, and nobody has awaited {which}; write `await` before each astep()"
        return SagaDefinitionError(mistake), interrupt


def _is_unbegun(step: Coroutine[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(step) == inspect.CORO_CREATED
