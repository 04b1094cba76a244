"""Heartbeats: one thread per store renews the leases of this process's live executions and looks into their inboxes."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from saga.errors import StorageError
from saga.storage.protocol import Lease, Store

__all__ = ["Keeper", "keeper_of", "owner"]

#: The longest time between two looks into the inboxes, in seconds: how long an operator waits for a live execution to listen.
BEAT = 2.0


@dataclass(slots=True)
class _Held:
    lease: Lease
    seconds: float
    on_mail: Callable[[], None]
    until: float  # when it is given back, if nothing has been done with it by then


class Keeper:
    """Renews leases on one store until they are dropped. Its thread ends when there has been nothing to renew for a while."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._held: dict[tuple[str, int], _Held] = {}
        self._lock = threading.Lock()
        self._sooner = threading.Event()
        self._thread: threading.Thread | None = None
        self._interval = BEAT

    def hold(self, lease: Lease, seconds: float, on_mail: Callable[[], None], *, waits: bool = False) -> None:
        """Renew the lease from now on. ``on_mail`` is called, from another thread, when the inbox holds something.

        :param waits: it waits for others: it is given back where :meth:`take` is not called soon.
        """
        with self._lock:
            until = time.monotonic() + BEAT if waits else math.inf
            self._held[lease.saga_id, lease.epoch] = _Held(lease, seconds, on_mail, until)
            if seconds / 3 < self._interval:
                self._interval = seconds / 3
                self._sooner.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="saga heartbeat", daemon=True)
                self._thread.start()

    def take(self, lease: Lease) -> bool:
        """Return whether a lease that waited is still held. It waits no more, then."""
        with self._lock:
            held = self._held.get((lease.saga_id, lease.epoch))
            if held is not None:
                held.until = math.inf
            return held is not None

    def look(self, saga_id: str) -> None:
        """Let the execution look into its inbox now, if it lives here."""
        with self._lock:
            held = [one for one in self._held.values() if one.lease.saga_id == saga_id]
        for one in held:
            one.on_mail()

    def drop(self, lease: Lease) -> None:
        """Renew the lease no more."""
        with self._lock:
            self._held.pop((lease.saga_id, lease.epoch), None)

    def give_back(self, lease: Lease, *, delay: float = 0.0, untried: bool = False) -> None:
        """Renew the lease no more and give it back, as :meth:`Store.release` does; if that fails, it runs out."""
        self.drop(lease)
        store = self._store()
        if store is not None:
            with suppress(StorageError):
                store.release(lease, delay=delay, untried=untried)

    def _beat(self) -> None:
        while True:
            self._sooner.wait(self._interval)
            self._sooner.clear()
            with self._lock:
                store = self._store()
                now = time.monotonic()
                late = [self._held.pop(key) for key, one in list(self._held.items()) if one.until < now]
                held = list(self._held.values())
                if store is None or not (held or late):
                    self._thread = None
                    self._interval = BEAT
                    return
            for one in late:
                self.give_back(one.lease, untried=True)
            for seconds in {one.seconds for one in held}:
                self._renew(store, [one for one in held if one.seconds == seconds], seconds)
            del store

    def _renew(self, store: Store, held: list[_Held], seconds: float) -> None:
        try:
            beats = {beat.saga_id: beat.mail for beat in store.renew(held[0].lease.owner, [one.lease for one in held], seconds)}
        except StorageError as error:
            # The leases last for two more beats; whoever loses one finds out at its next write.
            logging.getLogger("saga").warning("leases could not be renewed: %s", error)
            return
        for one in held:
            mail = beats.get(one.lease.saga_id)
            if mail is None:
                self.drop(one.lease)
            elif mail:
                one.on_mail()


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
    _keepers.clear()  # the parent's threads do not live here


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
