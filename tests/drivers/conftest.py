"""One kit for each way to run a saga: in threads, and in an event loop with ``async def`` or with plain tasks.

A test is written once, with the kit it is given: the kit makes tasks of its kind and runs sagas in its driver.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import Any, Final

import pytest

from saga import Context, Saga, SagaResult, StepRecord, Task
from saga.events import Event
from saga.storage import MemoryStore, SqliteStore, Store

PATIENCE: Final = 20.0
"""Seconds after which a test that hangs has failed."""


async def until(condition: Callable[[], object]) -> None:
    """Wait in the event loop for a condition; fail where it does not come true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


class Gate:
    """Holds the calls that come to it until it is opened, from any thread."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self, context: object = None) -> None:
        self._open.set()

    def open_soon(self, context: object = None) -> None:
        threading.Timer(0.02, self.open).start()

    def hold(self) -> None:
        assert self._open.wait(PATIENCE)

    async def ahold(self) -> None:
        """Hold a coroutine, which may be cancelled here."""
        async with asyncio.timeout(PATIENCE):
            while not self._open.is_set():
                await asyncio.sleep(0.001)


class PlainTask(Task[str]):
    """Logs each call by name (``a``; ``-a`` for its compensation), then does or raises what it was given."""

    def __init__(self, log: list[str], name: str, during: Any, during_undo: Any, policies: dict[str, Any]) -> None:
        self.log, self.name, self.during, self.during_undo = log, name, during, during_undo
        vars(self).update(policies)

    def execute(self, context: Context) -> str:
        self.log.append(str(self.name))
        _do(self.during, context)
        return f"result of {self.name}"


class UndoablePlainTask(PlainTask):
    def compensate(self, context: Context) -> None:
        self.log.append(f"-{self.name}")
        _do(self.during_undo, context)


class AsyncTask(PlainTask):
    async def execute(self, context: Context) -> str:  # type: ignore[override]
        self.log.append(str(self.name))
        await asyncio.sleep(0)
        await _ado(self.during, context)
        return f"result of {self.name}"


class UndoableAsyncTask(AsyncTask):
    async def compensate(self, context: Context) -> None:  # type: ignore[override]
        self.log.append(f"-{self.name}")
        await asyncio.sleep(0)
        await _ado(self.during_undo, context)


def _do(what: Any, context: Context) -> None:
    if isinstance(what, BaseException):
        raise what
    if isinstance(what, tuple):
        for one in what:
            _do(one, context)
    elif isinstance(what, Gate):
        what.hold()
    elif what is not None:
        what(context)


async def _ado(what: Any, context: Context) -> None:
    if isinstance(what, tuple):
        for one in what:
            await _ado(one, context)
    elif isinstance(what, Gate):
        await what.ahold()
    elif inspect.iscoroutinefunction(what):
        await what(context)
    else:
        _do(what, context)


class Kit:
    """Makes tasks and runs sagas.

    :ivar log: what was called, in order.
    :ivar in_loop: whether sagas run in an event loop; :ivar is_async: whether tasks are ``async def``.
    """

    def __init__(self, in_loop: bool, is_async: bool) -> None:
        self.in_loop, self.is_async = in_loop, is_async
        self.log: list[str] = []

    def task(self, name: str, during: Any = None, during_undo: Any = None, *, undo: bool = True, **policies: Any) -> Task[str]:
        """Return a task that does ``during``: raises it, waits at it, or calls it with the context; a tuple, in turn."""
        if self.is_async:
            kind: type[PlainTask] = UndoableAsyncTask if undo else AsyncTask
        else:
            kind = UndoablePlainTask if undo else PlainTask
        return kind(self.log, name, during, during_undo, policies)

    def saga(self, *flows: Any, **options: Any) -> Saga:
        saga = Saga("s", **options)
        for flow in flows:
            saga.add_task(flow)
        return saga

    def run(self, saga: Saga, context: Any = None, **options: Any) -> SagaResult:
        """Try to execute the saga."""
        if self.in_loop:
            return asyncio.run(saga.atry_execute(context, **options))
        return saga.try_execute(context, **options)

    def execute(self, saga: Saga, context: Any = None, **options: Any) -> SagaResult:
        if self.in_loop:
            return asyncio.run(saga.aexecute(context, **options))
        return saga.execute(context, **options)

    def run_to_end(self, saga: Saga, then: Callable[[SagaResult], object]) -> SagaResult:
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

    def stream(self, saga: Saga, take: int | None = None) -> list[StepRecord]:
        """Return the records of a stream, which is left after ``take`` of them."""
        records: list[StepRecord] = []
        if not self.in_loop:
            with closing(saga.stream()) as stream:  # type: ignore[type-var]
                for record in stream:
                    records.append(record)
                    if len(records) == take:
                        break
            return records

        async def work() -> None:
            async with aclosing(saga.astream()) as stream:  # type: ignore[type-var]
                async for record in stream:
                    records.append(record)
                    if len(records) == take:
                        break

        asyncio.run(work())
        return records

    def run_all(self, saga: Saga, calls: Iterable[dict[str, Any]]) -> list[SagaResult]:
        """Execute the saga many times at once, and return the results in the order of the calls."""
        calls = list(calls)
        if not self.in_loop:
            with ThreadPoolExecutor(len(calls)) as pool:
                return list(pool.map(lambda call: saga.try_execute(**call), calls))

        async def work() -> list[SagaResult]:
            return await asyncio.gather(*(saga.atry_execute(**call) for call in calls))

        return asyncio.run(work())


class Watch:
    """An observer that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, info: object) -> None:
        self.events.append(event)

    def told(self) -> list[str]:
        """Return what happened, a word or two each."""
        return [" ".join(filter(None, (type(event).__name__, getattr(event, "step", None)))) for event in self.events]

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


KITS: Final = {"threads": (False, False), "aio-async": (True, True), "aio-plain": (True, False)}


@pytest.fixture(params=list(KITS))
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(*KITS[request.param])


@pytest.fixture(params=["threads", "aio-plain"])
def plain_kit(request: pytest.FixtureRequest) -> Kit:
    """A kit whose calls cannot be cancelled."""
    return Kit(*KITS[request.param])


@pytest.fixture
def async_kit() -> Kit:
    """The kit whose calls can."""
    return Kit(*KITS["aio-async"])


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def gates() -> Iterator[Callable[[], Gate]]:
    """Make as many as are needed."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with MemoryStore() if request.param == "memory" else SqliteStore(request.getfixturevalue("tmp_path") / "saga.db") as store:
        yield store
