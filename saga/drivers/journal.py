"""What a driver knows of its journal: a protocol, so that nothing here depends on how events are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from saga.context import Context
from saga.drivers.outcomes import Message, Values
from saga.machine import Machine

if TYPE_CHECKING:
    from asyncio import Future

__all__ = ["Journal", "Transaction"]


class Transaction(Protocol):
    """What a driver knows of the transaction of a transactional call: see :class:`saga.durable.transaction.StepTransaction`."""

    @property
    def connection(self) -> Any: ...
    async def begin(self) -> None: ...
    def standing(self) -> str: ...
    async def again(self, error: BaseException | None) -> bool: ...
    def refusal(self, error: Exception) -> Exception: ...
    async def roll_back(self) -> None: ...
    async def commit(self, machine: Machine) -> None: ...
    async def settle(self, machine: Machine) -> bool: ...


class Journal(Values, Protocol):
    """What a driver knows of its journal. Every method that stores or reads raises ``StorageError`` where it cannot.

    :ivar written: how many of the machine's events are stored.
    """

    written: int

    def commit(self, machine: Machine) -> None:
        """Store the events that are not stored yet. They are durable when this returns."""

    def transaction(self, in_loop: bool) -> Transaction:
        """Return what a transactional call is made in, a coroutine function's ``in_loop``. It is not begun yet."""

    def revert(self, view: Context) -> None:
        """Make the view what it is by its texts."""

    def has_large(self, machine: Machine) -> bool:
        """Whether something of what is not stored yet may have to be put elsewhere first, which takes its time."""

    def put_large(self, machine: Machine) -> None:
        """Put elsewhere what :meth:`commit` would, and find it put then: so nothing else waits for that."""

    def commit_shared(self, machine: Machine) -> Future[None]:
        """Begin :meth:`commit`, together with those of the running event loop's other executions."""

    def go_on(self) -> None:
        """See to it that shared commits which an interrupt cut off are made."""

    def read_messages(self) -> Sequence[Message]:
        """Return what is in the inbox. It leaves the inbox with the next commit."""

    def park(self, delay: float, step: str | None) -> None:
        """Give the lease back until ``delay`` seconds have passed or a message comes. ``step``: where it waits."""

    def hand_back(self, untried: bool) -> None:
        """Give the lease back, for another to go on at once; ``untried``: that it was claimed does not count as a recovery."""

    def give_back(self) -> None:
        """Give the lease back, for a recovery to take the execution up at once."""
