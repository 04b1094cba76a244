"""Heartbeats: one thread per store renews the leases of this process's live executions and looks into their inboxes.

A lease is renewed only as long as what it is held for is there and vouches for it. What nobody runs any more, whatever it was
that ended it, is given back.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from saga.clocks import clock
from saga.own_log import LOG
from saga.storage.protocol import Store
from saga.storage.records import Lease, Place, StoredExecution

__all__ = ["Holder", "Keeper", "claim", "keeper_of", "keepers", "owner"]

#: The longest time between two looks into the inboxes, in seconds: how long an operator waits for a live execution to listen.
BEAT = 2.0

#: How long who has taken a lease has time to begin before it is asked whether it runs the execution, in seconds.
TIME_TO_BEGIN = 2.0


class Holder(Protocol):
    """What a lease is held for. Both are called from other threads."""

    def notify(self) -> None:
        """Take that the inbox holds something."""

    def vouches(self) -> bool | None:
        """Whether somebody runs the execution; ``None``: nobody does now, but that may change."""

    def place(self) -> tuple[str | None, float] | None:
        """Return the step it is at, and how many seconds ago it last got on; ``None``: nobody has begun to run it here."""


@dataclass(slots=True)
class _Held:
    lease: Lease
    seconds: float
    holder: weakref.ref[Holder]
    waits: bool
    until: float  # its holder is not asked before then: it is about to run
    renewed: float  # by this process's clock

    def to_be_renewed(self, now: float) -> bool | None:
        """Whether the lease is to be renewed; ``False``: it is to be given back."""
        holder = self.holder()
        if holder is None:
            return False
        return now < self.until or (holder.vouches() and not self.waits)


class Keeper:
    """Renews leases on one store until they are dropped. Its thread ends when there has been nothing to renew for a while.

    :ivar of_parent: this process was forked meanwhile: the leases are its parent's, and nothing is done with them here.
    """

    of_parent = False

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._held: dict[tuple[str, int], _Held] = {}
        self._lock = threading.Lock()
        self._sooner = threading.Event()
        self._thread: threading.Thread | None = None
        self._interval = BEAT

    def hold(self, lease: Lease, seconds: float, holder: Holder, *, waits: bool = False) -> None:
        """Renew the lease from now on, for as long as its holder lives and, after a moment to begin in, vouches for it.

        :param waits: it waits for others: where :meth:`take` is not called soon, nothing has been done with it.
        :raises RuntimeError: no thread is to be had; the lease is not held.
        """
        key, now = (lease.saga_id, lease.epoch), clock()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, name="saga heartbeat", daemon=True)
                self._thread.start()
            self._held[key] = _Held(lease, seconds, weakref.ref(holder), waits, now + TIME_TO_BEGIN, now)
            if seconds / 3 < self._interval:
                self._interval = seconds / 3
                self._sooner.set()

    def take(self, lease: Lease) -> bool:
        """Return whether a lease that waited is still held. It waits no more, then."""
        with self._lock:
            held = self._held.get((lease.saga_id, lease.epoch))
            if held is not None:
                held.waits, held.until = False, math.inf
            return held is not None

    def wait(self, lease: Lease) -> None:
        """Take that what a lease is held for waits for others again: see :meth:`hold`."""
        with self._lock:
            held = self._held.get((lease.saga_id, lease.epoch))
            if held is not None:
                held.waits, held.until = True, clock() + TIME_TO_BEGIN

    def late(self) -> set[str]:
        """Return the ids of what is run here, though its lease may have run out, as nobody could renew it in time."""
        now = clock()
        with self._lock:
            late = [one for one in self._held.values() if now > one.renewed + one.seconds / 2]
            return {one.lease.saga_id for one in late if one.to_be_renewed(now)}

    def runs_any(self) -> bool:
        """Whether any execution is run here, and does not wait for others."""
        now = clock()
        with self._lock:
            return any(not one.waits and one.to_be_renewed(now) for one in self._held.values())

    def look(self, saga_id: str) -> None:
        """Let the execution look into its inbox now, if it lives here."""
        with self._lock:
            holders = [one.holder() for one in self._held.values() if one.lease.saga_id == saga_id]
        for holder in holders:
            if holder is not None:
                holder.notify()

    def drop(self, lease: Lease) -> None:
        """Renew the lease no more."""
        with self._lock:
            self._held.pop((lease.saga_id, lease.epoch), None)

    def give_back(self, lease: Lease, *, delay: float = 0.0, untried: bool = False) -> None:
        """Renew the lease no more and give it back, as :meth:`Store.release` does; if that fails, it runs out."""
        self.drop(lease)
        store = self._store()
        if store is not None and lease.owner == owner():  # else this is a child, and the lease its parent's
            with suppress(Exception):  # of a store with a fault, too
                store.release(lease, delay=delay, untried=untried)

    def _beat(self) -> None:
        while True:
            self._sooner.wait(self._interval)
            self._sooner.clear()
            with self._lock:
                store = self._store()
                if store is None or not self._held:
                    self._thread = None
                    self._interval = BEAT
                    return
                now = clock()
                asked = [(one, one.to_be_renewed(now)) for one in self._held.values()]
            held = [one for one, renewed in asked if renewed]
            left = [one for one, renewed in asked if renewed is False]
            for one in left:
                self.drop(one.lease)
            self._renew_all(store, held)
            del store
            if left:
                try:  # beside, as a row that somebody has locked is waited for
                    threading.Thread(target=self._leave, args=(left,), name="saga leases left", daemon=True).start()
                except RuntimeError:  # no thread is to be had
                    self._leave(left)

    def _leave(self, left: list[_Held]) -> None:
        for one in left:
            if not one.waits:
                LOG.error("saga %s is left to a recovery: nobody runs it any more", one.lease.saga_id)
            self.give_back(one.lease, untried=one.waits)

    def renew(self, ahead: float) -> None:
        """Renew all leases now, each for so many seconds more: the store's time is about to move on."""
        now, store = clock(), self._store()
        with self._lock:
            held = [one for one in self._held.values() if one.to_be_renewed(now)]
        if store is not None:
            self._renew_all(store, held, ahead)

    def _renew_all(self, store: Store, held: list[_Held], ahead: float = 0.0) -> None:
        for seconds in {one.seconds for one in held}:
            self._renew(store, [one for one in held if one.seconds == seconds], seconds + ahead)

    def _renew(self, store: Store, held: list[_Held], seconds: float) -> None:
        now = clock()
        try:
            places = {one.lease.saga_id: Place(*place) for one in held if (place := _place(one)) is not None}
            renewed = store.renew(held[0].lease.owner, [one.lease for one in held], seconds, places)
            beats = {beat.saga_id: beat.mail for beat in renewed}
        except BaseException as error:  # of a store with a fault, too: nobody else would renew them
            # The leases last for two more beats; whoever loses one finds out at its next write.
            LOG.warning("leases could not be renewed: %s", error)
            return
        for one in held:
            mail, holder = beats.get(one.lease.saga_id), one.holder()
            if mail is None:
                self.drop(one.lease)
            else:
                one.renewed = now
                if mail and holder is not None:
                    holder.notify()


def _place(held: _Held) -> tuple[str | None, float] | None:
    holder = held.holder()
    return None if holder is None else holder.place()


_keepers: weakref.WeakKeyDictionary[Store, Keeper] = weakref.WeakKeyDictionary()
_owner: tuple[int, str] = (0, "")
_lock = threading.Lock()


def keeper_of(store: Store) -> Keeper:
    """Return the store's keeper."""
    with _lock:
        keeper = _keepers.get(store)
        if keeper is None:
            keeper = _keepers[store] = Keeper(store)
        return keeper


def keepers() -> list[Keeper]:
    """Return those of all stores that leases were held on."""
    with _lock:
        return list(_keepers.values())


def claim(store: Store, seconds: float, **options: Any) -> list[StoredExecution]:
    """Claim for this process, as :meth:`Store.claim` does: never what it runs already, whatever its leases say."""
    return store.claim(owner(), seconds, but=keeper_of(store).late, **options)


def owner() -> str:
    """Return what stands for this process in leases: host, process id, and something random (process ids come again)."""
    global _owner
    if _owner[0] != os.getpid():
        with _lock:  # two threads that begin at the same time have the same owner
            if _owner[0] != os.getpid():
                _owner = (os.getpid(), f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}")
    return _owner[1]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for keeper in _keepers.values():
        keeper.of_parent = True
    _keepers.clear()  # the parent's threads do not live here


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
