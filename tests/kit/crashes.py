"""Steps with effects, and what is found wherever the process that ran them died."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from saga import Context, Flow, Saga, Skip, step
from saga.errors import ContextKeyError, SagaExecutionException, StorageError
from saga.storage import MemoryStore, Store
from tests.kit.journals import outcomes
from tests.kit.stores import FullStore, Watched, expired
from tests.kit.tasks import perform


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

    def done(self) -> set[str]:
        """Return the steps that had their effect, whether or not it was taken away."""
        return {line for line in self.log if not line.startswith("-")}

    def seen_by_call(self) -> dict[str, list[Any]]:
        """Return what each call of a step, or of its compensation, saw."""
        found: dict[str, list[Any]] = {}
        for name, seen in self.calls:
            found.setdefault(name, []).append(seen)
        return found

    def enter(self, name: str, context: Context, received: Any, skips: bool = False) -> int:
        """Note a call, check that its intent is stored, and return how many before it have an outcome.

        :param skips: whether the saga goes on without the step when it has failed for good.
        """
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
        own = [entry.kind for entry in entries if entry.step == step and entry.kind.startswith(("Step", "Fallback"))]
        # What may be left of a step is undone before the saga goes on without it.
        gone_without = not {"StepSkipped", "FallbackChosen"}.isdisjoint(own) or (
            skips and own[-1] in ("StepFailed", "StepTimedOut")
        )
        with self.lock:
            self.calls.append((name, seen))
            if not intent or json.loads(intent[-1].payload)["attempt"] != context.step.attempt:
                self.faults.append(f"{name} runs without its intent in the journal")
            if not undo and too_late:
                self.faults.append(f"{name} runs after the undo has begun")
            if undo and not gave_up and not gone_without:
                self.faults.append(f"{name} runs before the undo has begun")
        return outcomes(entries, step, undo)

    def act(self, name: str) -> None:
        """Have the effect of a call."""
        with self.lock:
            self.log.append(name)


def probe(name: str, world: World, script: str = "", undo: str = "", **policies: Any) -> Flow:
    """Return a step that acts as its script says, and changes the context in every way there is.

    :param script: for each outcome in turn: ``ok``, ``fail`` (without an effect), ``bad`` (what it returns cannot be stored);
        then ``ok`` for ever. :param undo: the same for its compensation.
    """
    todo, to_undo = script.split(), undo.split()
    skips = policies.get("on_error") is Skip

    def execute(context: Context) -> Any:
        number = world.enter(name, context, context.__binding__.previous_result())  # a first step may not ask for one
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
        number = world.enter(f"-{name}", context, result, skips)
        context[f"undid_{name}"] = number
        if (to_undo[number] if number < len(to_undo) else "ok") == "fail":
            raise OSError(f"{name} cannot be undone")
        world.act(f"-{name}")

    return step(execute, compensate, name=name, **policies)


class Effects(set[str]):
    """What the steps of a saga have done and not undone. To do or undo something twice is to do it once."""

    def step(self, name: str, during: Any = None, during_undo: Any = None, **policies: Any) -> Flow:
        """Return a step that does something, which is here then, and that undoes it."""

        def act() -> str:
            perform(during)
            self.add(name)
            return f"result of {name}"

        def undo() -> None:
            perform(during_undo)
            self.discard(name)

        return step(act, undo, name=name, **policies)


@dataclass
class Crash:
    """A process that died after so many commits: ``happened``, whether what it had begun then had taken effect."""

    after: int
    happened: bool
    store: Store
    effects: Effects
    saga: Saga
    saga_id: str

    @property
    def status(self) -> str:
        """How the execution stands now."""
        row = self.store.get(self.saga_id)
        assert row is not None
        return row.status

    @property
    def kinds(self) -> list[str]:
        """The kinds of its entries."""
        return [entry.kind for entry in self.store.journal(self.saga_id)]


def crash_everywhere(
    build: Callable[[Effects], Saga],
    during: Callable[[Saga, Any], object] | None = None,
    make: Callable[[], Store] = MemoryStore,
    every: int = 1,
) -> Iterator[Crash]:
    """Execute a saga with a store; then yield what is found wherever its process might have died.

    :param build: returns the saga, whose steps are ``effects.step(...)``; :param during: executes it, where that takes more.
    :param make: returns an empty store, for each crash.
    :param every: whether it dies after each commit, or after every second, third, ...
    """
    effects = Effects()
    watched = Watched(MemoryStore())
    watched.happened = lambda: frozenset(effects)
    saga = build(effects)
    with suppress(SagaExecutionException, KeyboardInterrupt):
        if during is None:
            saga.try_execute(saga_id="o-1", store=watched)
        else:
            during(saga, watched)
    seen = [write.happened for write in watched.writes] + [frozenset(effects)]
    for after in range(1, len(watched.writes) + 1, every):
        for happened in (False, True):
            store, found = make(), Effects(seen[after if happened else after - 1])
            expired(store, watched.writes[:after])
            yield Crash(after, happened, store, found, build(found), "o-1")


def left_at(saga: Saga, at: str, *, age: float = 0.0, kind: str = "StepStarted") -> MemoryStore:
    """Execute a saga whose process dies when it has stored the intent to execute step ``at``, ``age`` seconds ago.

    :param kind: the kind of the intent, where it is another.

    Return the store that others find.
    """
    watched = Watched(MemoryStore())

    def die(number: int) -> None:
        if any(entry.kind == kind and entry.step == at for entry in watched.writes[-1].entries):
            watched.store = FullStore(0)  # where it finds nothing of what it stored, which it would go on with
            raise StorageError("the process dies here")

    watched.after = die
    vars(saga)["store"] = watched  # a made saga keeps its store, but its steps signal it
    with pytest.raises(StorageError, match="dies here"):
        saga.execute(saga_id="o-1")
    store = MemoryStore()
    expired(
        store,
        [
            replace(write, entries=tuple(entry._replace(at=entry.at - age) for entry in write.entries))
            for write in watched.writes
        ],
    )
    return store
