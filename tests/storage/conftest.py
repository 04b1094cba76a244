"""One fixture for each kind of store; the contract runs with all of them.

A fixture gives a function that opens the same store again, as another process would, and closes what the test opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from saga.storage import Entry, Lease, MemoryStore, NewExecution, SqliteStore, Store

KINDS = ["memory", "sqlite"]
numbers = itertools.count(1)


class Opener:
    """Opens one store again and again.

    :ivar kind: its kind; :ivar again: whether what was stored outlives the object.
    """

    def __init__(self, kind: str, make: Callable[[], Store], *, again: bool = True) -> None:
        self.kind = kind
        self.again = again
        self._make = make
        self._opened: list[Store] = []

    def __call__(self) -> Store:
        store = self._make()
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    kind = request.param
    if kind == "memory":
        opener = Opener(kind, MemoryStore, again=False)
    elif kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / "saga.db"
        opener = Opener(kind, lambda: SqliteStore(path))
    else:
        raise AssertionError(kind)
    yield opener
    opener.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()


class Stored:
    """What tests store: short to write, complete to read."""

    @staticmethod
    def entry(seq: int = 1, **changes: object) -> Entry:
        values = {"seq": seq, "kind": "StepStarted", "step": "pay", "payload": f'{{"n": {seq}}}', "at": 1700000000.125 + seq}
        return Entry(**(values | changes))  # type: ignore[arg-type]

    @classmethod
    def entries(cls, *seqs: int) -> list[Entry]:
        return [cls.entry(seq) for seq in seqs]

    @staticmethod
    def new(saga_id: str, **changes: str) -> NewExecution:
        values = {"name": "order", "version": "1", "fingerprint": "f", "digest": "d", "status": "running"}
        return NewExecution(saga_id=saga_id, **(values | changes))

    @classmethod
    def create(
        cls, store: Store, saga_id: str, *, owner: str = "a", lease: float = 60.0, entries: int = 1, **changes: str
    ) -> Lease:
        """Store an execution; one that runs no longer has given its lease back."""
        status = changes.pop("status", "running")
        first = cls.entries(*range(1, entries + 1))
        assert store.create(cls.new(saga_id, **changes), first, owner, lease) is None
        held = Lease(saga_id, owner, 1)
        if status != "running":
            store.append(held, [], status=status, release=True)
        return held


@pytest.fixture
def stored() -> type[Stored]:
    return Stored
