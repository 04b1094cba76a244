"""The transaction of a transactional step's call: begun again where the database says so, and committed with its entries."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from saga.errors import LeaseLostError
from saga.machine import Machine
from saga.storage.records import Append, Entry
from saga.storage.retrying import Patience, has_entries
from saga.storage.transactions import Lent

if TYPE_CHECKING:
    from saga.durable.journal import Journal

__all__ = ["StepTransaction"]

_PATIENCE = 10.0
"""Seconds for which a call is made again where it meets others at the same rows, or where the connection breaks."""


class StepTransaction:
    """What a driver knows as the transaction of one call; each attempt has a fresh one of the store's.

    :param journal: where what came of the call is stored.
    :param in_loop: the call is a coroutine function's, in the running event loop; else nothing here is waited for.
    """

    def __init__(self, journal: Journal, in_loop: bool) -> None:
        self._journal = journal
        self._lent = journal.store.transaction_in_loop() if in_loop else Lent(journal.store.transaction())
        self._trying = Patience(_PATIENCE)
        self._entries: list[Entry] | None = None  # those that are being committed
        self._errors = dict(journal.errors)

    @property
    def connection(self) -> Any:
        """What the call works with."""
        return self._lent.connection

    async def begin(self) -> None:
        """Open it.

        :raises StorageError: that cannot be done.
        """
        await self._lent.begin()

    def standing(self) -> str:
        """Say how a call has left it: ``open``, ``failed`` or ``ended``."""
        return self._lent.plain.standing()

    async def again(self, error: BaseException | None) -> bool:
        """Whether to try again after what a call or a commit raised (``None``: nothing). Waits for a moment, then."""
        if not self._lent.plain.passes(error) or self._trying.ends():
            return False
        await self._lent.end()
        await self._lent.aside(self._trying.wait)
        return True

    def refusal(self, error: Exception) -> Exception:
        """Return what a commit raised, where that was for what the call had done, such as a deferred constraint.

        :raises StorageError: it was for something else.
        """
        return self._lent.plain.refusal(error)

    async def roll_back(self) -> None:
        """End it, so that nothing of it is left."""
        await self._lent.end()

    async def commit(self, machine: Machine) -> None:
        """Store the events that are not stored yet, and commit.

        :raises Exception: one of the database's or a ``StorageError``; :meth:`settle` tells what came of it.
        """
        if self._journal.has_large(machine):  # while the transaction is open: what is large is known when the call has ended
            await self._lent.aside(partial(self._journal.put_large, machine))
        one = self._journal.to_append(machine)
        await self._lent.do(partial(self._commit, one))
        self._journal.take_stored(len(one.entries), machine.status)
        await self._lent.end()

    def _commit(self, one: Append) -> None:
        self._lent.plain.append(one)
        self._entries = list(one.entries)
        self._lent.plain.commit()

    async def settle(self, machine: Machine) -> bool:
        """End it, and return whether what was to be committed is stored: nobody knows that where something struck the commit.

        :raises StorageError: that could not be found out, or the lease is lost and it is not stored.
        """
        journal = self._journal
        await self._lent.end()
        entries = self._entries
        unknown = entries is not None and journal.written < len(machine.events)
        if entries is not None and unknown and await self._lent.aside(partial(self._is_stored, entries)):
            journal.take_stored(len(entries), machine.status)
        stored = entries is not None and journal.written == len(machine.events)
        self._entries = None
        if not stored:
            journal.errors.clear()
            journal.errors.update(self._errors)
        return stored

    def _is_stored(self, entries: list[Entry]) -> bool:
        store, lease = self._journal.store, self._journal.lease
        lost = None
        try:
            # Where the server has not noticed yet that the connection is gone, this waits for the row that it has locked.
            store.append(lease, ())
        except LeaseLostError as error:  # or given back with what is stored
            lost = error
        stored = has_entries(store.journal(lease.saga_id), entries)
        if lost is not None and not stored:
            raise lost
        return stored
