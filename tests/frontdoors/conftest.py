"""What the tests of the front doors share: functions that log what is called, and what a dead process leaves of a saga.

``calls`` comes in two kinds: plain functions run in threads, and coroutine functions in an event loop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pytest

from saga import Saga, SagaResult, step
from saga.errors import SagaExecutionException, StorageError
from saga.flow import Step
from saga.storage import Entry, Lease, MemoryStore, NewExecution, StoredExecution

PATIENCE: Final = 20.0


class Calls:
    """Makes functions and steps that log each call by name (``a``; ``-a`` for its compensation).

    :ivar log: what was called, in order; :ivar in_loop: whether the functions are coroutine functions.
    """

    def __init__(self, in_loop: bool) -> None:
        self.in_loop = in_loop
        self.log: list[str] = []

    def function(self, name: str, during: Any = None) -> Callable[[], Any]:
        """Return a function that raises ``during``, or calls it."""
        if self.in_loop:

            async def acall() -> str:
                self.log.append(name)
                await asyncio.sleep(0)
                answer = _do(during)
                if inspect.isawaitable(answer):
                    await answer
                return f"result of {name}"

            return acall

        def call() -> str:
            self.log.append(name)
            _do(during)
            return f"result of {name}"

        return call

    def step(self, name: str, during: Any = None, during_undo: Any = None, *, undo: bool = True, **policies: Any) -> Step:
        compensate = self.function(f"-{name}", during_undo) if undo else None
        return step(self.function(name, during), compensate, name=name, **policies)

    def run(self, saga: Saga, context: Any = None, **options: Any) -> SagaResult:
        """Try to execute the saga."""
        if self.in_loop:
            return asyncio.run(saga.atry_execute(context, **options))
        return saga.try_execute(context, **options)

    def run_to_end(self, saga: Saga, then: Callable[[SagaResult], object] = lambda result: None) -> SagaResult:
        """Execute, give the first result to ``then``, and return the last one."""
        if not self.in_loop:
            first = saga.try_execute()
            then(first)
            return first.join(PATIENCE)

        async def work() -> SagaResult:
            result = await saga.atry_execute()
            then(result)
            return await result.ajoin(PATIENCE)

        return asyncio.run(work())


def _do(during: Any) -> Any:
    if isinstance(during, BaseException):
        raise during
    return None if during is None else during()


@pytest.fixture(params=["threads", "loop"])
def calls(request: pytest.FixtureRequest) -> Calls:
    return Calls(request.param == "loop")


@pytest.fixture
def plain() -> Calls:
    """Calls of plain functions, in threads."""
    return Calls(False)


class World(set[str]):
    """What the steps of a saga have done and not undone. To do or undo something twice is to do it once."""

    def step(self, name: str, during: Any = None, during_undo: Any = None, **policies: Any) -> Step:
        def act() -> str:
            _do(during)
            self.add(name)
            return f"result of {name}"

        def undo() -> None:
            _do(during_undo)
            self.discard(name)

        return step(act, undo, name=name, **policies)


class RecordingStore(MemoryStore):
    """Notes what each commit stored, and what the world was like then.

    :param dies_at: the step whose intent is the last thing that is stored.
    """

    def __init__(self, world: World, dies_at: str | None = None) -> None:
        super().__init__()
        self.world = world
        self.dies_at = dies_at
        self.new: NewExecution | None = None
        self.commits: list[tuple[Sequence[Entry], str | None, frozenset[str]]] = []

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> StoredExecution | None:
        self.new = new
        self._note(entries, None)
        return super().create(new, entries, owner, lease_seconds)

    def append(self, lease: Lease, entries: Sequence[Entry], *, status: str | None = None, **options: Any) -> None:
        self._note(entries, status)
        super().append(lease, entries, status=status, **options)

    def _note(self, entries: Sequence[Entry], status: str | None) -> None:
        self.commits.append((tuple(entries), status, frozenset(self.world)))
        if self.dies_at is not None and any(e.kind == "StepStarted" and e.step == self.dies_at for e in entries):
            raise StorageError("the process dies here")

    def found_after(self, commits: int, *, age: float = 0.0) -> MemoryStore:
        """Return what others find of an execution whose process died after so many commits, ``age`` seconds ago."""
        assert self.new is not None
        store = MemoryStore()
        first, *others = [
            ([e._replace(at=e.at - age) for e in entries], status) for entries, status, _ in self.commits[:commits]
        ]
        store.create(self.new, first[0], "who died", 0.0)
        for entries, status in others:
            terminal = status not in (None, "running", "compensating")
            store.append(Lease(self.new.saga_id, "who died", 1), entries, status=status, release=terminal)
        return store


@dataclass
class Crash:
    """A process that died after so many commits: ``happened``, whether what it had begun then had taken effect."""

    after: int
    happened: bool
    store: MemoryStore
    world: World
    saga: Saga
    saga_id: str

    @property
    def status(self) -> str:
        row = self.store.get(self.saga_id)
        assert row is not None
        return row.status

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.store.journal(self.saga_id)]


@pytest.fixture
def crashes() -> Callable[..., Iterator[Crash]]:
    """Execute a saga with a store; then yield what is found wherever its process might have died.

    ``crashes(build)``: ``build(world)`` returns the saga, whose steps are ``world.step(...)``.
    """

    def crash_everywhere(
        build: Callable[[World], Saga], during: Callable[[Saga, Any], object] | None = None
    ) -> Iterator[Crash]:
        world = World()
        store = RecordingStore(world)
        saga = build(world)
        with suppress(SagaExecutionException, KeyboardInterrupt):
            if during is None:
                saga.try_execute(saga_id="o-1", store=store)
            else:
                during(saga, store)
        worlds = [seen for _, _, seen in store.commits] + [frozenset(world)]
        for after in range(1, len(store.commits) + 1):
            for happened in (False, True):
                found = World(worlds[after if happened else after - 1])
                yield Crash(after, happened, store.found_after(after), found, build(found), "o-1")

    return crash_everywhere


@pytest.fixture
def left() -> Callable[..., MemoryStore]:
    """Execute a saga whose process dies; return the store that is found.

    ``left(saga, "paid", age=40.0)``: it died 40 seconds ago, when it had stored the intent to execute step ``paid``.
    """

    def die(saga: Saga, at: str, *, age: float = 0.0) -> MemoryStore:
        saga.store = store = RecordingStore(World(), dies_at=at)
        with pytest.raises(StorageError, match="dies here"):
            saga.execute(saga_id="o-1")
        return store.found_after(len(store.commits), age=age)

    return die
