"""Blocks that are explored: how a function that runs one is told from one that makes a saga, and who runs its block instead.

What the block comes to in a history lives elsewhere.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NoReturn, Protocol

from saga.blobs import MemoryBlobs
from saga.block import Transaction
from saga.blocks import KIND, block_definition
from saga.definition import Definition
from saga.errors import SagaDefinitionError
from saga.flow import Flow, FlowLike, as_flow
from saga.machine import Machine
from saga.testing.loops import VirtualLoop
from saga.testing.records import ID, apart

__all__ = ["Block", "EnteredError", "ExploredBlock", "entered", "hosted"]


class Host(Protocol):
    """Who runs the blocks that a function enters."""

    blobs: MemoryBlobs

    def earlier(self, block: ExploredBlock) -> int:
        """Bring the earlier runs under the block's id to their end, and return which run it is."""

    def begin(self, block: ExploredBlock) -> Any:
        """Return what runs the block, as a driver does."""

    async def aearlier(self, block: ExploredBlock) -> int:
        """As :meth:`earlier`, in an event loop."""

    async def abegin(self, block: ExploredBlock) -> Any:
        """As :meth:`begin`, in an event loop."""

    def between(self, flow: Flow) -> None:
        """Take that another step is about to begin."""


class ExploredBlock(Transaction):
    """A block that a host runs. Parameters as :class:`~saga.block.Transaction`'s."""

    def __init__(
        self, host: Host, definition: Definition, context: Any, saga_id: str | None, store: Any, again: bool = False
    ) -> None:
        super().__init__(definition, context, ID if saga_id is None else saga_id, store, again)
        self._host = host

    @property
    def parts(self) -> tuple[Definition, Machine]:
        """What it is run by: its observers are told nothing, and its large values are in the host's blobs."""
        return apart(replace(self._definition, observers=()), self._host.blobs), self._machine

    @property
    def kind(self) -> tuple[bool, bool]:
        """Whether it is stored, and whether it is begun again."""
        return self._store is not None, self._again

    def _earlier(self) -> int:
        self._check_entered_once()
        return self._host.earlier(self)

    async def _aearlier(self) -> int:
        self._check_entered_once()
        return await self._host.aearlier(self)

    def _begin(self) -> Any:
        return self._host.begin(self)

    async def _abegin(self, struck: list[BaseException]) -> Any:
        return await self._host.abegin(self)

    def _extend(self, flow: FlowLike, allow_async: bool) -> None:
        flow = as_flow(flow, f"transaction {self._definition.name!r}")
        self._host.between(flow)
        super()._extend(flow, allow_async)


@contextmanager
def hosted(host: Host) -> Iterator[None]:
    """Let a host run the blocks that are made here."""
    before = KIND.set(partial(ExploredBlock, host))
    try:
        yield
    finally:
        KIND.reset(before)


@dataclass(frozen=True, slots=True)
class Block:
    """A block that is explored.

    :ivar function: runs it once in a world.
    :ivar definition: what it is run by.
    :ivar stored: whether it has a store.
    :ivar again: whether it is begun again under the same id.
    :ivar in_loop: whether it is an ``async with``.
    """

    function: Callable[[Any], Any]
    definition: Definition
    stored: bool
    again: bool
    in_loop: bool

    def recovery(self) -> Definition:
        """Return what a recovery undoes it by."""
        return block_definition(self.definition.name, codec=self.definition.codec, lease=self.definition.lease)

    def check_durable(self) -> None:
        """See that a recovery could call what undoes it.

        :raises SagaDefinitionError: it could not.
        """
        codec = self.definition.codec
        if codec is None or codec.names.modules is None:
            raise SagaDefinitionError(
                f"transaction {self.definition.name!r}: what a dead process leaves is undone by functions of modules that a "
                "codec names; give it the one that its recovery has, such as codec=Codec(modules=['shop.orders']), or explore "
                "it with durable=False"
            )


class EnteredError(BaseException):
    """A function has come to its block, which is all that was to be found out."""

    def __init__(self, block: ExploredBlock, in_loop: bool) -> None:
        super().__init__()
        self.block = block
        self.in_loop = in_loop


class _Looks:
    """Runs no block, and says that there is one."""

    def __init__(self) -> None:
        self.blobs = MemoryBlobs()

    def earlier(self, block: ExploredBlock) -> NoReturn:
        raise EnteredError(block, in_loop=False)

    begin = earlier

    async def aearlier(self, block: ExploredBlock) -> NoReturn:
        raise EnteredError(block, in_loop=True)

    abegin = aearlier

    def between(self, flow: Flow) -> None:
        """No step ever is."""


def entered(function: Callable[[Any], Any], world: Any) -> Any:
    """Call a function, and return what it returns, or the block that it comes to, which is not run.

    :raises SagaDefinitionError: it is a coroutine function, and an event loop runs here.
    """
    with hosted(_LOOKS):
        try:
            found = function(world)
            return _awaited(found) if inspect.iscoroutine(found) else found
        except EnteredError as error:
            (stored, again), (definition, _) = error.block.kind, error.block.parts
            return Block(function, definition, stored, again, error.in_loop)


def _awaited(work: Coroutine[Any, Any, Any]) -> Any:
    if asyncio._get_running_loop() is not None:
        work.close()
        raise SagaDefinitionError(
            "an event loop runs here: explore an async block in a plain function, or with await asyncio.to_thread(explore, ...)"
        )
    loop = VirtualLoop()
    try:
        return loop.run(work)
    finally:
        loop.close()


_LOOKS: Final = _Looks()
