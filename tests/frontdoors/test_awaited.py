"""What asks a store has an async twin, which does the same in a thread, to its end, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Final

import pytest

from saga import Saga, receive, step
from saga.blobs import MemoryBlobs
from saga.fleet import Fleet
from saga.handle import Handle
from saga.looking import Looks
from saga.operations import Operations
from saga.storage import Entry, MemoryStore, NewExecution, Store
from saga.stored import Stored
from tests.kit import Gate, auntil, ticks

told = contextvars.ContextVar("told", default="nothing")

#: Each method that has such a twin, and what it is given: ``x`` is stuck, as its undo failed, and ``y`` left by a dead process.
CALLS: Final[dict[str, dict[str, Any]]] = {
    "load": {"saga_id": "x"},
    "submit": {"saga_id": "z"},
    "submit_many": {"submissions": [{}, {}]},
    "Stored.signal": {"saga_id": "y", "name": "paid", "value": 7},
    "signal_or_start": {"saga_id": "z", "name": "paid", "value": 7},
    "signal": {"saga_id": "y", "name": "paid", "why": "refused, as its definition is not known", "value": 7},
    "list": {"status": "stuck"},
    "get": {"saga_id": "x"},
    "show": {"saga_id": "x"},
    "causes": {},
    "find": {"text": "x"},
    "cancel": {"saga_id": "y", "why": "so"},
    "compensate": {"saga_id": "x", "why": "so"},
    "pause": {"saga_id": "y", "why": "so"},
    "resume": {"saga_id": "y", "why": "refused, as it runs"},
    "retry": {"saga_id": "x", "why": "so"},
    "skip": {"saga_id": "x", "step": "a", "why": "so"},
    "undo": {"saga_id": "x", "why": "refused, as it is stuck"},
    "purge": {"older_than": 0.0, "status": "stuck"},
    "sweep": {"older_than": 3600.0},
    "count": {},
    "workers": {},
    "versions": {},
    "hold": {"name": "s", "why": "so"},
    "let_go": {"name": "s"},
    "drain": {"name": "s", "version": "1", "why": "so"},
    "holds": {},
    "Handle.status": {},
    "Handle.cancel": {"why": "so"},
}
DOORS: Final = (Stored, Saga, Fleet, Looks, Operations, Handle)
every = pytest.mark.parametrize("name", CALLS)


def fail() -> None:
    raise ValueError


def saga_with(store: Any) -> Saga:
    return Saga("s", store=store).add_task(step(lambda: 1, fail, name="a")).add_task(step(fail)).add_task(receive("paid"))


class Old(MemoryBlobs):
    """Blobs that have a value which no execution names."""

    def older_than(self, seconds: float) -> Iterator[str]:
        yield "z/1"


class Held:
    """A store that holds whatever is asked of it at its gate, and is never asked in the event loop's thread.

    :ivar told: what the contexts said of those who asked.
    """

    loop: threading.Thread | None = None

    def __init__(self) -> None:
        self.store: Store = MemoryStore()
        saga_with(self.store).try_execute(saga_id="x")
        first = [Entry(1, "SagaStarted", None, "{}", 0.0)]
        self.store.create(NewExecution("y", "s", "1", "fingerprint", "digest", "running"), first, "who died", 0.0)
        self.gate = Gate()
        self.told: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)

        def call(*args: Any, **named: Any) -> Any:
            assert threading.current_thread() is not self.loop
            self.told.add(told.get())
            self.gate.hold()
            return real(*args, **named)

        return call

    def method(self, name: str) -> Any:
        """Return a door's method, or its twin."""
        _, _, plain = name.rpartition(".")
        if name.startswith("Handle."):
            return getattr(Handle(saga_with(self).definition, self, "y", False), plain)  # type: ignore[arg-type]
        of_saga = name.startswith("Stored.") or not hasattr(Operations, plain)
        return getattr(saga_with(self) if of_saga else Operations(self, "ann", blobs=Old()), plain)  # type: ignore[arg-type]

    def begun(self, name: str) -> asyncio.Task[Any]:
        """Return a task that awaits the twin."""
        self.loop = threading.current_thread()
        twin: Coroutine[Any, Any, Any] = self.method(twin_of(name))(**CALLS[name])
        return asyncio.create_task(twin)

    def found(self) -> Any:
        """Return what is stored now, but for times."""
        rows = [self.store.get(saga_id) for saga_id in "xyz"]
        lines = [[(entry.kind, entry.step) for entry in self.store.journal(saga_id)] for saga_id in "xyz"]
        bodies = [[message.body for message in self.store.inbox(saga_id)] for saga_id in "xyz"]
        held = [(hold.name, hold.version, hold.who, hold.why) for hold in self.store.holds()]
        return [row and (row.status, row.owner, row.epoch, row.recoveries) for row in rows], lines, bodies, held


def by_hand(name: str) -> tuple[Any, Exception | None, Any]:
    """Return what the plain method returns, or raises, and what is stored then."""
    held = Held()
    held.gate.open()
    try:
        return held.method(name)(**CALLS[name]), None, held.found()
    except Exception as error:
        return None, error, held.found()


def twin_of(name: str) -> str:
    door, dot, plain = name.rpartition(".")
    return f"{door}{dot}a{plain}"


def is_twin(method: object) -> bool:
    return inspect.iscoroutinefunction(method) and hasattr(method, "__wrapped__")


def test_every_method_of_operations_has_its_twin() -> None:
    methods = {**vars(Fleet), **vars(Looks), **vars(Operations)}
    public = {name for name, method in methods.items() if inspect.isfunction(method) and name[0] != "_"}
    twins = {name for name in public if is_twin(methods[name])} | {"aall", "aeach", "ameant"}
    for name in sorted(public - twins):
        assert f"a{name}" in twins, f"saga/operations.py: write `a{name} = awaited({name})`"


def test_every_twin_is_tried_here() -> None:
    named = [(door, name) for door in DOORS for name, method in vars(door).items() if is_twin(method) and name[0] != "_"]
    tried = {twin_of(name) for name in CALLS}
    both = {(Stored, "asignal"), *((Handle, name) for name in vars(Handle))}
    assert {f"{door.__name__}.{name}" if (door, name) in both else name for door, name in named} == tried


@every
def test_a_twin_is_called_as_its_method_is(name: str) -> None:
    method, twin = Held().method(name).__func__, Held().method(twin_of(name)).__func__
    assert inspect.signature(twin) == inspect.signature(method)
    assert (twin.__name__, twin.__qualname__) == (f"a{method.__name__}", twin_of(method.__qualname__))
    assert f":meth:`{method.__name__}`" in twin.__doc__


@every
def test_a_twin_does_the_same_in_a_thread_while_the_event_loop_goes_on(name: str) -> None:
    value, refused, stored = by_hand(name)
    held = Held()

    async def main() -> Any:
        told.set("the task's")
        task = held.begun(name)
        await auntil(held.gate.reached.is_set)
        held.gate.open()
        return await task

    if refused is None:
        assert type(asyncio.run(main())) is type(value)
    else:
        with pytest.raises(type(refused)) as caught:
            asyncio.run(main())
        assert str(caught.value) == str(refused)
    assert held.found() == stored
    assert held.told == {"the task's"}


@every
@pytest.mark.parametrize("times", [1, 3])
def test_a_twin_that_is_cancelled_is_carried_out_and_says_so(name: str, times: int) -> None:
    _, refused, stored = by_hand(name)
    held = Held()

    async def main() -> None:
        task = held.begun(name)
        await auntil(held.gate.reached.is_set)
        for _ in range(times):
            task.cancel("enough")
            await ticks(3)
            assert not task.done()
        held.gate.open()
        await task

    with pytest.raises(asyncio.CancelledError, match="enough") as caught:
        asyncio.run(main())
    how = "was carried out before this took effect"
    if refused is not None:
        how = "failed before this took effect: its error is the cause"
    assert caught.value.__notes__ == [f"{twin_of(name).rpartition('.')[2]}() {how}"]
    assert repr(caught.value.__cause__) == repr(refused)
    assert held.found() == stored


@every
def test_a_twin_that_is_cancelled_before_it_begins_does_nothing(name: str) -> None:
    held = Held()

    async def main() -> None:
        task = held.begun(name)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError) as caught:
        asyncio.run(main())
    assert not hasattr(caught.value, "__notes__")
    assert not held.told


def test_a_timeout_is_one_though_what_it_cuts_short_failed() -> None:
    held = Held()

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.01, held.gate.open)
        async with asyncio.timeout(0):
            await held.method("aresume")(**CALLS["resume"])

    with pytest.raises(TimeoutError):
        asyncio.run(main())


@pytest.mark.parametrize("name", ["cancel", "resume"])
def test_a_cancellation_leaves_no_circle_of_references(name: str) -> None:
    def all_left() -> list[object]:
        return [one for one in gc.get_objects() if type(one) is asyncio.CancelledError]

    def left() -> list[object]:
        return [one for one in all_left() if not any(one is other for other in before)]

    async def main() -> None:
        held = Held()
        task = held.begun(name)
        await auntil(held.gate.reached.is_set)
        for _ in range(2):
            task.cancel()
            await ticks(3)
        held.gate.open()
        await asyncio.wait([task])
        assert task.cancelled()
        del task
        await auntil(lambda: not left())  # its thread may still have it for a moment; a circle would stay

    gc.collect()
    gc.disable()
    before = all_left()  # of other tests: in a frame or thread that is still held by something
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_all_pages_are_read_one_after_the_other() -> None:
    store = MemoryStore()
    for number in range(5):
        saga_with(store).try_execute(saga_id=f"{number}")
    operations = Operations(store, "ann")

    async def main(**filters: Any) -> list[str]:
        return [row.saga_id async for row in operations.aall(**filters)]

    for filters in ({}, {"limit": 2}, {"limit": 5}, {"status": "completed"}):
        assert asyncio.run(main(**filters)) == [row.saga_id for row in operations.all(**filters)]
