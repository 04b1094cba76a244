"""Stores of all kinds, opened by the address a case carries, and a proxy that dies around writes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from crashkit.world import World
from saga.blobs import FolderBlobs
from saga.errors import StorageError
from saga.storage import Append, Entry, SqliteStore, Store, StoredExecution, open_store
from saga.storage.sqlite_file import SqliteFile


def open_at(address: str, skew: float = 0.0) -> Store:
    """Open the store at a path or URL, in this process.

    :param skew: seconds that have passed on the clock of an SQLite store, though not on ours.
    """
    if skew and is_file(address):
        return SqliteStore(address, clock=lambda: time.time() + skew)
    return open_store(address)


class Proxy(Store):
    """Passes everything on to another store; counts what is written, and is a point before and after each."""

    def __init__(self, inner: Store, world: World) -> None:
        self.inner = inner
        self.world = world

    def _around(self, what: str, *args: Any, **kwargs: Any) -> Any:
        name = self.world.next(what)
        self.world.point(f"{name} before")
        with self.world.writing:
            result = getattr(self.inner, what)(*args, **kwargs)
        self.world.point(f"{name} after")
        return result

    def now(self) -> float:
        return self.inner.now()

    def create(self, *args: Any, **kwargs: Any) -> StoredExecution | None:
        return self._around("create", *args, **kwargs)

    def append(self, *args: Any, **kwargs: Any) -> None:
        self._around("append", *args, **kwargs)

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        return self._around("append_each", appends)

    def claim(self, *args: Any, **kwargs: Any) -> list[StoredExecution]:
        return self._around("claim", *args, **kwargs)

    def renew_call(self, *args: Any) -> None:
        self._around("renew_call", *args)

    def release(self, *args: Any, **kwargs: Any) -> None:
        self._around("release", *args, **kwargs)

    def post(self, *args: Any, **kwargs: Any) -> None:
        self._around("post", *args, **kwargs)

    def get(self, saga_id: str) -> StoredExecution | None:
        return self.inner.get(saga_id)

    def journal(self, saga_id: str) -> list[Entry]:
        return self.inner.journal(saga_id)

    def submit(self, *args: Any, **kwargs: Any) -> list[StoredExecution | None]:
        return self._around("submit", *args, **kwargs)

    def renew(self, *args: Any, **kwargs: Any) -> Any:
        with self.world.writing:
            return self.inner.renew(*args, **kwargs)

    def count(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.count(*args, **kwargs)

    def hold(self, *args: str) -> None:
        self.inner.hold(*args)

    def let_go(self, *args: str) -> bool:
        return self.inner.let_go(*args)

    def holds(self) -> Any:
        return self.inner.holds()

    def announce(self, *args: Any) -> None:
        self.inner.announce(*args)

    def withdraw(self, worker: str) -> None:
        self.inner.withdraw(worker)

    def workers(self) -> Any:
        return self.inner.workers()

    def figures(self) -> Any:
        return self.inner.figures()

    def next_alert(self, seconds: float) -> StoredExecution | None:
        return self.inner.next_alert(seconds)

    def alerted(self, *args: Any) -> None:
        self.inner.alerted(*args)

    def inbox(self, saga_id: str) -> Any:
        return self.inner.inbox(saga_id)

    def list(self, **filters: Any) -> Any:
        return self.inner.list(**filters)

    def purge(self, *, updated_before: float, status: Collection[str], limit: int = 1000) -> int:
        return self.inner.purge(updated_before=updated_before, status=status, limit=limit)

    def close(self) -> None:
        self.inner.close()


class DyingBlobs(FolderBlobs):
    """A folder of large values: a point before and after each that is put, read or deleted there."""

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(folder)
        self.world = world

    def _around(self, what: Callable[..., Any], *args: Any) -> Any:
        name = self.world.next(what.__name__)
        self.world.point(f"{name} before")
        result = what(*args)
        self.world.point(f"{name} after")
        return result

    def put(self, key: str, data: bytes) -> None:
        self._around(super().put, key, data)

    def get(self, key: str) -> bytes:
        return self._around(super().get, key)

    def delete(self, keys: Collection[str]) -> None:
        self._around(super().delete, keys)


class Failing(Proxy):
    """Fails at a point: right before a write, which is not made then, or right after it, when it is stored.

    :param at: the point; :param forever: whatever it is asked then fails too.
    """

    def __init__(self, inner: Store, world: World, at: str, forever: bool) -> None:
        super().__init__(inner, world)
        self.at = at
        self.forever = forever
        self.failed = False

    def _around(self, what: str, *args: Any, **kwargs: Any) -> Any:
        name = self.world.next(what)
        self._fail(f"{name} before")
        result = getattr(self.inner, what)(*args, **kwargs)
        self._fail(f"{name} after")
        return result

    def _fail(self, point: str = "") -> None:
        if point:
            self.world.point(point)
        if point == self.at:
            self.failed = True
            if self.forever or point.endswith("before"):
                self.world.log("unstored", "-", 0)
            raise StorageError(f"{point}: the disk is on fire")
        if self.failed and self.forever:
            raise StorageError("the disk is still on fire")

    def journal(self, saga_id: str) -> list[Entry]:
        self._fail()
        return super().journal(saga_id)

    def renew(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()
        return super().renew(*args, **kwargs)

    def inbox(self, saga_id: str) -> Any:
        self._fail()
        return super().inbox(saga_id)


class DyingInTransactions(SqliteStore):
    """An SQLite store that is a point before each statement of its connections, ``COMMIT`` too."""

    def __init__(self, path: str | os.PathLike[str], world: World) -> None:
        class Traced(SqliteFile):
            def _connect(self) -> Any:
                connection = super()._connect()
                connection.set_trace_callback(lambda statement: world.point(f"{world.next('statement')} begun"))
                return connection

        with mock.patch("saga.storage.sqlite.SqliteFile", Traced):
            super().__init__(path)


def is_file(address: str) -> bool:
    return "://" not in address


def look(address: str, saga_id: str, copies: Path) -> tuple[StoredExecution | None, list[Entry]]:
    """Return an execution as it is in the store. An SQLite file is looked at in a copy: opening it might mend it."""
    if not is_file(address):
        with open_at(address) as store:
            return store.get(saga_id), store.journal(saga_id)
    copies.mkdir()
    copy = copies / "copy.db"
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(address + suffix, f"{copy}{suffix}")
    if not copy.exists():
        return None, []
    with SqliteStore(copy, synchronous="OFF") as store:
        return store.get(saga_id), store.journal(saga_id)
