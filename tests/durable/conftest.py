"""What the tests of durable executions share: stores that are watched, journals cut off as a crash would, tasks with effects.

Nothing here knows the engine's insides: a :class:`Watched` store sees what every store sees.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from saga import Context, Flow, SagaResult, Status, StepStatus, step
from saga.errors import ContextKeyError
from saga.storage import Append, Entry, Lease, MemoryStore, NewExecution, SqliteStore, Store

T = TypeVar("T")
numbers = itertools.count(1)


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def new_store(kind: str, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Return what makes another, empty store."""
    opened: list[Store] = []

    def make() -> Store:
        opened.append(MemoryStore() if kind == "memory" else SqliteStore(tmp_path / f"{next(numbers)}.db", synchronous="OFF"))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()


@pytest.fixture
def watched(store: Store) -> Watched:
    return Watched(store)


@dataclass
class Write:
    """One transaction of an execution: the arguments of ``create`` or ``append``, and how much had happened just before."""

    new: NewExecution | None
    entries: tuple[Entry, ...]
    status: str | None = None
    release: bool = False
    taken: tuple[int, ...] = ()
    happened: int = 0
    owner: str = ""
    epoch: int = 1


class Watched:
    """A store that remembers what is asked of it, and fails where it is told to.

    :ivar calls: the methods called by the engine, in order; :ivar writes: what they stored, transaction by transaction.
    :ivar before: called with the number of the append (``create`` is 0) before it is done; :ivar after: ... when it is.
    :ivar happened: returns how much has happened outside, for :attr:`Write.happened`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: list[str] = []
        self.writes: list[Write] = []
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None
        self.happened: Callable[[], int] = lambda: 0
        self.attempted = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)

        def call(*args: Any, **more: Any) -> Any:
            if name not in ("now", "renew"):
                self.calls.append(name)
            return real(*args, **more)

        return call

    def create(self, new: NewExecution, entries: Sequence[Entry], owner: str, lease_seconds: float) -> Any:
        self.calls.append("create")
        number = self._number()
        happened = self.happened()
        self.before(number)
        existing = self.store.create(new, entries, owner, lease_seconds)
        if existing is None:
            self.writes.append(Write(new, tuple(entries), happened=happened, owner=owner))
        self.after(number)
        return existing

    def append(self, lease: Lease, entries: Sequence[Entry], **more: Any) -> None:
        self.calls.append("append")
        number = self._number()
        happened = self.happened()
        self.before(number)
        self.store.append(lease, entries, **more)
        more["taken"] = tuple(more.get("taken", ()))
        self.writes.append(Write(None, tuple(entries), happened=happened, owner=lease.owner, epoch=lease.epoch, **more))
        self.after(number)

    def append_each(self, appends: Sequence[Append]) -> list[bool]:
        self.calls.append("append_each")
        happened = self.happened()
        stored = self.store.append_each(appends)
        for one, done in zip(appends, stored, strict=True):
            if done:
                owner, epoch = one.lease.owner, one.lease.epoch
                what = (None, tuple(one.entries), one.status, one.release, tuple(one.taken))
                self.writes.append(Write(*what, happened=happened, owner=owner, epoch=epoch))
        return stored

    def _number(self) -> int:
        with self._lock:
            self.attempted += 1
            return self.attempted - 1

    def entries(self) -> list[Entry]:
        return [entry for write in self.writes for entry in write.entries]

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries()]


def told(entry: Entry) -> str:
    """Return an entry as ``Kind step``."""
    return f"{entry.kind} {entry.step}" if entry.step else entry.kind


def journal_of(store: Any, saga_id: str) -> list[str]:
    return [told(entry) for entry in store.journal(saga_id)]


def expired(store: Store, writes: Iterable[Write]) -> str:
    """Put what was written into an empty store, owned by a process that is dead. Return the execution's id."""
    first, *others = writes
    assert first.new is not None
    assert store.create(first.new, first.entries, "dead", 0.0) is None
    for write in others:
        row = store.get(first.new.saga_id)
        assert row is not None
        lease = Lease(row.saga_id, "dead", row.epoch)
        if row.owner is None or write.epoch > row.epoch:
            (row,) = store.claim("dead", 0.0, saga_id=row.saga_id)
            lease = Lease(row.saga_id, "dead", row.epoch)
        store.append(lease, write.entries, status=write.status, release=write.release)
    return first.new.saga_id


# -- what every journal and every ending must be ----------------------------------------------------------------------


def check_journal(entries: Sequence[Entry]) -> None:
    """Intents before outcomes, attempts counted, nothing forward after the undo has begun, undone last first."""
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[0].kind == "SagaStarted"
    open_calls: dict[tuple[str, str | None], int] = {}
    attempts: Counter[tuple[str, str | None]] = Counter()
    done: Counter[tuple[str, str | None]] = Counter()
    skipped: set[str | None] = set()
    late: set[str | None] = set()
    undoable: list[str | None] = []
    undone: list[str | None] = []
    gave_up = ended = False
    for entry in entries:
        kind, step, payload = entry.kind, entry.step, json.loads(entry.payload)
        assert not ended or kind in ("SagaRecovered", "OperatorActed"), f"{told(entry)} after the end"
        call = ("undo" if kind.startswith("Compensation") else "do", step)
        if kind in ("StepStarted", "CompensationStarted"):
            assert payload["attempt"] == attempts[call] + 1, told(entry)
            attempts[call] = open_calls[call] = payload["attempt"]
            if kind == "StepStarted":
                assert not gave_up, f"{told(entry)} after the undo has begun"
                late.discard(step)
            else:
                assert gave_up or step in skipped, told(entry)
                if payload["attempt"] == 1 and step not in skipped:
                    undone.append(step)
        elif kind in ("StepSucceeded", "StepFailed", "StepTimedOut", "CompensationSucceeded", "CompensationFailed"):
            assert open_calls.get(call) == payload["attempt"], f"{told(entry)} without its intent"
            if kind == "StepTimedOut" and payload.get("running"):
                late.add(step)
            else:
                del open_calls[call]
                late.discard(step)
            if kind.endswith("Succeeded"):
                done[call] += 1
                assert done[call] == 1, f"{told(entry)} twice"
            if call[0] == "do":
                undoable.append(step)
        elif kind == "RetryScheduled":
            assert payload["attempt"] == attempts["undo" if payload.get("compensation") else "do", step] + 1
        elif kind == "StepSkipped":
            skipped.add(step)
        elif kind == "SagaCompensating":
            assert not gave_up
            gave_up = True
        elif kind in ("SagaCompleted", "SagaCompensated", "SagaStuck"):
            assert (kind == "SagaCompensated" and gave_up) or (kind == "SagaCompleted" and not gave_up) or kind == "SagaStuck"
            assert not open_calls or kind == "SagaStuck"
            ended = True
        elif kind == "OperatorActed":
            ended = False
    if any(entry.kind == "OperatorActed" for entry in entries):
        return  # what a person had to decide about is undone when that is decided
    ends = {step: place for place, step in enumerate(undoable)}
    first_undo = [ends[step] for step in undone]
    assert first_undo == sorted(first_undo, reverse=True) or late or skipped, f"undone in the order {undone}"


def check_truth(result: SagaResult, world: World) -> None:
    """What the result says is what is there."""
    there = world.there()
    if result.status is Status.COMPLETED:
        assert there == {record.name for record in result.history if record.status is StepStatus.SUCCEEDED}
    elif result.status is Status.COMPENSATED:
        assert there == set()
        assert result.error is not None
    else:
        assert result.status is Status.STUCK
        assert result.reason is not None
        if result.error is not None:  # the undo has begun, and the reason tells what of it is left
            assert there <= set(re.findall(r"\w+", result.reason))
    assert world.faults == []


# -- tasks with effects -----------------------------------------------------------------------------------------------


@dataclass
class World:
    """What is outside: which calls were made, what they saw, and what of their effects is there. It outlives every crash.

    :ivar store: where the execution is kept now, for tasks to look into.
    :ivar log: ``step`` and ``-step`` where an effect happens; :ivar calls: the same for every call, with what it saw.
    :ivar faults: what must not be, seen from within a call.
    """

    store: Any = None
    log: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def there(self) -> set[str]:
        """Return the steps whose effect is there: a second one changes nothing, an undo takes it away."""
        found = {line.removeprefix("-"): not line.startswith("-") for line in self.log}
        return {name for name, is_there in found.items() if is_there}

    def seen_by_call(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for name, seen in self.calls:
            found.setdefault(name, []).append(seen)
        return found

    def enter(self, name: str, context: Context, received: Any) -> int:
        """Note a call, check that its intent is stored, and return how many before it have an outcome."""
        step = name.removeprefix("-")
        undo = step != name
        entries = self.store.journal(context.step.saga_id)
        results = {}
        for known in {entry.step for entry in entries if entry.step}:
            with suppress(ContextKeyError):
                results[known] = copy.deepcopy(context.result_of(known))
        seen = {"context": copy.deepcopy(dict(context)), "results": results, "received": copy.deepcopy(received)}
        intent = [
            entry for entry in entries if entry.step == step and entry.kind == f"{'Compensation' if undo else 'Step'}Started"
        ]
        gave_up = any(entry.kind == "SagaCompensating" for entry in entries)
        # A call that had begun may well find that its sibling has failed meanwhile.
        too_late = bool(intent) and any(entry.kind == "SagaCompensating" for entry in entries[: intent[-1].seq])
        skipped = any(entry.kind == "StepSkipped" and entry.step == step for entry in entries)
        with self.lock:
            self.calls.append((name, seen))
            if not intent or json.loads(intent[-1].payload)["attempt"] != context.step.attempt:
                self.faults.append(f"{name} runs without its intent in the journal")
            if not undo and too_late:
                self.faults.append(f"{name} runs after the undo has begun")
            if undo and not gave_up and not skipped:
                self.faults.append(f"{name} runs before the undo has begun")
        return outcomes(entries, step, undo)

    def act(self, name: str) -> None:
        with self.lock:
            self.log.append(name)


def outcomes(entries: Iterable[Entry], step: str, undo: bool) -> int:
    """Return how many calls of a step have an outcome of their own in the journal."""
    kinds = ("CompensationSucceeded", "CompensationFailed") if undo else ("StepSucceeded", "StepFailed", "StepTimedOut")
    return sum(entry.kind in kinds and entry.step == step and '"in_doubt":true' not in entry.payload for entry in entries)


def probe(name: str, world: World, script: str = "", undo: str = "", **policies: Any) -> Flow:
    """Return a step that acts as its script says, and changes the context in every way there is.

    :param script: for each outcome in turn: ``ok``, ``fail`` (without an effect), ``bad`` (what it returns cannot be stored);
        then ``ok`` for ever. :param undo: the same for its compensation.
    """
    todo, to_undo = script.split(), undo.split()

    def execute(previous: Any, context: Context) -> Any:
        number = world.enter(name, context, previous)
        what = todo[number] if number < len(todo) else "ok"
        context[f"did_{name}"] = number
        context.pop(f"temporary_{name}", None)
        if what == "fail":
            context[f"temporary_{name}"] = {name}
            raise ValueError(f"{name} fails")
        world.act(name)
        if what == "bad":
            return object()
        context[f"list_{name}"] = [name]
        return {"step": (name, number)}

    def compensate(result: Any, context: Context) -> None:
        number = world.enter(f"-{name}", context, result)
        context[f"undid_{name}"] = number
        if (to_undo[number] if number < len(to_undo) else "ok") == "fail":
            raise OSError(f"{name} cannot be undone")
        world.act(f"-{name}")

    return step(execute, compensate, name=name, **policies)
