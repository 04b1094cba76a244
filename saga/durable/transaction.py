"""The transaction of a transactional step's call: begun again where the database says so, and committed with its entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saga.errors import LeaseLostError
from saga.machine import Machine
from saga.storage.records import Entry
from saga.storage.retrying import Patience, has_entries

if TYPE_CHECKING:
    from saga.durable.journal import Journal

__all__ = ["StepTransaction"]

_PATIENCE = 10.0
"""Seconds for which a call is made again where it meets others at the same rows, or where the connection breaks."""


class StepTransaction:
    """What a driver knows as the transaction of one call; each attempt has a fresh one of the store's.

    :param journal: where what came of the call is stored.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lent = journal.store.transaction()
        self._trying = Patience(_PATIENCE)
        self._entries: list[Entry] | None = None  # those that are being committed
        self._errors = dict(journal.errors)

    @property
    def connection(self) -> Any:
        """What the call works with."""
        return self._lent.connection

    def begin(self) -> None:
        """Open it.

        :raises StorageError: that cannot be done.
        """
        self._lent.begin()

    def standing(self) -> str:
        """Say how a call has left it: ``open``, ``failed`` or ``ended``."""
        return self._lent.standing()

    def again(self, error: BaseException | None) -> bool:
        """Whether to try again after what a call or a commit raised (``None``: nothing). Waits for a moment, then."""
        if not self._lent.passes(error) or self._trying.ends():
            return False
        self._lent.end()
        self._trying.wait()
        return True

    def refusal(self, error: Exception) -> Exception:
        """Return what a commit raised, where that was for what the call had done, such as a deferred constraint.

        :raises StorageError: it was for something else.
        """
        return self._lent.refusal(error)

    def roll_back(self) -> None:
        """End it, so that nothing of it is left."""
        self._lent.end()

    def commit(self, machine: Machine) -> None:
        """Store the events that are not stored yet, and commit.

        :raises Exception: one of the database's or a ``StorageError``; :meth:`settle` tells what came of it.
        """
        one = self._journal.to_append(machine)
        self._lent.append(one)
        self._entries = list(one.entries)
        self._lent.commit()
        self._journal.take_stored(len(one.entries), machine.status)
        self._lent.end()

    def settle(self, machine: Machine) -> bool:
        """End it, and return whether what was to be committed is stored: nobody knows that where something struck the commit.

        :raises StorageError: that could not be found out, or the lease is lost and it is not stored.
        """
        journal, entries = self._journal, self._entries
        self._lent.end()
        if entries is not None and journal.written < len(machine.events) and self._is_stored(entries):
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
