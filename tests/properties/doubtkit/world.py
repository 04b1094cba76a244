"""The world outside: what of the steps' work is there, and the functions that act on it. Deaths are made here too.

A process dies when its world does: what happens from then on is not seen any more, and the store refuses what it writes, as if
its lease were over. What was there at that moment is what the next process finds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from saga import Context, Done, NotDone, OutcomeUnknownError
from saga.durable.leases import keeper_of
from saga.errors import ActionRefusedError, StorageError
from saga.operations import Operations
from saga.storage import Entry, Lease, MemoryStore, StoredExecution
from tests.kit import PATIENCE
from tests.properties.doubtkit.cases import GatewayError, Known

ERRORS: dict[str, type[Exception]] = {
    "fail": ValueError,
    "refused": ConnectionRefusedError,
    "timeout": TimeoutError,
    "reset": ConnectionResetError,
    "unknown": OutcomeUnknownError,
    "gateway": GatewayError,
}
ENDLESS = PATIENCE / 3
"""Seconds after which a call that nobody lets go has found a fault."""


class DiedError(BaseException):
    """What a call of a dead process raises. Nobody sees it."""


@dataclass
class Made:
    """A call that was made: ``ended`` says how, for those who watch; empty where its process died in it."""

    phase: str
    step: str
    attempt: int
    act: str
    ended: str = ""

    def __str__(self) -> str:
        return f"{self.phase} {self.step} #{self.attempt}: {self.act} -> {self.ended or 'never ended'}"


class World:
    """What one process sees of the world. Another takes over from where it died.

    :ivar effects: the steps whose work is there; :ivar begun: how many calls there were of each kind;
    :ivar calls: those calls; :ivar faults: what must not be, seen from within a call.
    :ivar later: what must be let go by those who run the case, before a straggler ends; ``None``: nothing.
    """

    def __init__(self, steps: dict[str, Known], store: Disk | None, saga_id: str) -> None:
        self.steps = steps
        self.store = store
        self.saga_id = saga_id
        self.effects: set[str] = set()
        self.begun: Counter[tuple[str, str]] = Counter()
        self.calls: list[Made] = []
        self.faults: list[str] = []
        self.keys: dict[str, tuple[str, str]] = {}
        self.dead = False
        self.lock = threading.RLock()
        self.under_way: set[str] = set()
        self.appends = 0
        self.dies_at: int | None = None
        self.later: threading.Event | None = None
        self.caller: asyncio.Task[Any] | None = None
        self.sagas: Sequence[Any] = ()

    def successor(self) -> World:
        """Return the world as the next process finds it."""
        world = World(self.steps, self.store, self.saga_id)
        world.effects, world.begun, world.faults = set(self.effects), Counter(self.begun), self.faults
        world.calls, world.keys = list(self.calls), self.keys
        return world

    # -- from within a call -------------------------------------------------------------------------------------------

    def begin(self, phase: str, context: Context) -> Made:
        name, attempt = context.step.name, context.step.attempt
        with self.lock:
            self.alive()
            number = self.begun[phase, name]
            call = Made(phase, name, attempt, self.steps[name].leaf.act(phase, number))
            keys = context.step.idempotency_key, context.step.compensation_key
            if self.keys.setdefault(name, keys) != keys or len({*self.keys.values()}) < len(self.keys):
                self.faults.append(f"{phase} of {name} has other keys, or those of another step: {self.keys}, {keys}")
            if name in self.under_way:
                self.faults.append(f"{phase} of {name} was called while another call of it ran")
            made = any((one.phase, one.step, one.attempt) == (phase, name, attempt) for one in self.calls)
            if made and phase != "verify":  # whose attempts are counted anew for each doubt
                self.faults.append(f"attempt {attempt} of {phase} of {name} was made twice")
            self.begun[phase, name] += 1
            self.under_way.add(name)
            self.calls.append(call)
        return call

    def end(self, call: Made, ended: str) -> None:
        with self.lock:
            self.under_way.discard(call.step)
            if not self.dead:
                call.ended = ended

    def alive(self) -> None:
        if self.dead:
            raise DiedError

    def do(self, name: str) -> None:
        with self.lock:
            self.alive()
            self.effects.add(name)

    def undo(self, name: str) -> None:
        with self.lock:
            self.alive()
            self.effects.discard(name)

    def there(self, name: str) -> bool:
        with self.lock:
            self.alive()
            return name in self.effects

    def die(self) -> None:
        """The process ends here and now."""
        with self.lock:
            self.alive()
            self.dead = True
            assert self.store is not None
            self.store.leave(self.saga_id)
        if self.later is not None:
            self.later.set()
        raise DiedError

    def person(self, action: str, step: str | None = None) -> bool:
        """A person acts. Return whether that was taken."""
        assert self.store is not None
        operations = Operations(self.store, "ann", sagas=self.sagas)
        try:
            if action == "skip":
                assert step is not None
                operations.skip(self.saga_id, step, "seen to")
            else:
                getattr(operations, action)(self.saga_id, "it seems right")
        except (ActionRefusedError, StorageError):
            return False
        keeper_of(self.store).look(self.saga_id)
        return True


class Disk(MemoryStore):
    """The store that all executions share. A process whose world is dead stores nothing more."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: time.time() + self.ahead)
        self.ahead = 0.0
        self.worlds: dict[str, World] = {}

    def leave(self, saga_id: str) -> None:
        """Let the lease of an execution be over."""
        self.ahead += 1000.0
        self.claim("who died", 0.0, saga_id=saga_id)

    def claim(self, owner: str, lease_seconds: float, *, saga_id: str | None = None, **more: Any) -> list[StoredExecution]:
        if saga_id is None and any(world.dead for world in self.worlds.values()):
            return []  # who asks is dead
        return super().claim(owner, lease_seconds, saga_id=saga_id, **more)

    def append(self, lease: Lease, entries: Sequence[Entry], **more: Any) -> None:
        world = self.worlds.get(lease.saga_id)
        if world is None or world.dies_at is None or not entries:
            super().append(lease, entries, **more)
            return
        with world.lock:
            dies = not world.dead and world.appends == abs(world.dies_at)
            world.appends += 1
            try:
                if dies and world.dies_at >= 0:
                    world.die()
                super().append(lease, entries, **more)
                if dies:
                    world.die()
            except DiedError:
                raise StorageError("the process has died") from None


DISK = Disk()
WORLDS: dict[str, World] = {}

Call = Generator[tuple[str, Context], None, Any]
"""What a call does, written once for both colours; it yields where it waits."""


def _executing(context: Context) -> Call:
    world = WORLDS[context.step.saga_id]
    call = world.begin("execute", context)
    try:
        result = yield from _execute(world, call, context)
    except BaseException as error:
        world.end(call, "lost" if _is_lost(world, call, error) else type(error).__name__)
        raise
    world.end(call, "returned")
    return result


def _is_lost(world: World, call: Made, error: BaseException) -> bool:
    """Whether nobody knows by this what came of an execute."""
    acts = [act for act, kind in ERRORS.items() if type(error) is kind]
    return not acts or acts[0] in world.steps[call.step].lost


def _execute(world: World, call: Made, context: Context) -> Call:
    name, (what, *more) = call.step, call.act.split()
    lost = world.steps[name].lost
    if what == "hang":
        return (yield from _hang(world, call, context))
    # A task that says that it has not done its work has not, unless it wants to be compensated then.
    partly = what == "fail" and world.steps[name].partly
    truthful = what not in ERRORS or what in lost or partly
    if what in ("ok", "unstorable", "person") or ("done" in more and truthful):
        world.do(name)
    if what == "die":
        world.die()
    elif what == "interrupt" or (what == "cancel" and not world.steps[name].leaf.colours[0]):
        raise KeyboardInterrupt
    elif what == "cancel":
        if world.caller is None:
            raise asyncio.CancelledError
        world.caller.cancel()
        yield "cancelled", context
        world.do(name)  # nothing came
    elif what == "person" and world.store is not None:
        world.person(*more)
    elif what in ERRORS:
        raise ERRORS[what](f"{name} {call.act}")
    world.alive()
    return object() if what == "unstorable" else f"result of {name}"


def _hang(world: World, call: Made, context: Context) -> Call:
    name, (_, *more) = call.step, call.act.split()
    stubborn = "stubborn" in more
    if "done" in more:
        world.do(name)
    if context.step.deadline is not None:
        try:
            yield "cut off", context
        except asyncio.CancelledError:
            if not stubborn:
                raise
    world.alive()
    if "lost" in more:
        if "done" in more and "timeout" not in world.steps[name].lost:
            return f"result of {name}"
        raise TimeoutError(f"{name} {call.act}")
    if "done" in more:
        return f"result of {name}"
    raise ValueError(f"{name} {call.act}")


def _verifying(context: Context) -> Call:
    world = WORLDS[context.step.saga_id]
    call = world.begin("verify", context)
    ended = "unknown"
    try:
        what, *more = call.act.split()
        if what == "person" and world.store is not None:
            world.person(*more)
        if what == "interrupt":
            raise KeyboardInterrupt
        if what == "die":
            world.die()
        if what == "raise":
            raise ValueError("verify fails")
        if what not in ("truth", "unstorable", "person"):
            return None if what == "none" else 42
        done = world.there(call.step)
        ended = "done" if done else "not done"
        if not done:
            return NotDone() if world.begun["verify", call.step] % 2 else NotDone
        return Done(object() if what == "unstorable" else f"result of {call.step}")
    finally:
        world.end(call, ended)
    yield


def _undoing(context: Context) -> Call:
    world = WORLDS[context.step.saga_id]
    call = world.begin("undo", context)
    ended = "raised"
    try:
        what, *more = call.act.split()
        if what == "ok" or more:
            world.undo(call.step)
        if what == "die":
            world.die()
        if what == "interrupt":
            raise KeyboardInterrupt
        if what == "fail":
            raise OSError(f"{call.step} cannot be undone")
        ended = "returned"
    finally:
        world.end(call, ended)
    return
    yield


# -- the functions of the steps: at the top level, for blocks to be found again ------------------------------------------


def _in_thread(call: Call) -> Any:
    try:
        while True:
            _, context = next(call)
            world, end = WORLDS[context.step.saga_id], time.monotonic() + ENDLESS
            while not (context.step.cancelled or world.dead):
                time.sleep(0.0005)
                if time.monotonic() > end:
                    world.faults.append(f"{context.step.name} outlived its time, and nobody told it")
                    break
            if world.later is not None and not world.later.wait(ENDLESS):
                world.faults.append(f"somebody waits for the straggler {context.step.name}, whom nobody should wait for")
    except StopIteration as end_of_call:
        return end_of_call.value


async def _in_loop(call: Call) -> Any:
    try:
        why, context = next(call)
        while True:
            world = WORLDS[context.step.saga_id]
            end = time.monotonic() + ENDLESS
            try:
                if why == "cancelled":  # or not: where the saga has given up, what runs is not cut off
                    for _ in range(50):
                        await asyncio.sleep(0)
                while why == "cut off" and not world.dead:
                    await asyncio.sleep(0.0005)
                    if time.monotonic() > end:
                        world.faults.append(f"{context.step.name} was not cut off")
                        break
            except BaseException as error:
                why, context = call.throw(error)
            else:
                why, context = next(call)
    except StopIteration as end_of_call:
        return end_of_call.value


def execute(context: Context) -> Any:
    return _in_thread(_executing(context))


def verify(context: Context) -> Any:
    return _in_thread(_verifying(context))


def undo(context: Context) -> None:
    _in_thread(_undoing(context))


async def aexecute(context: Context) -> Any:
    return await _in_loop(_executing(context))


async def averify(context: Context) -> Any:
    return await _in_loop(_verifying(context))


async def aundo(context: Context) -> None:
    await _in_loop(_undoing(context))
