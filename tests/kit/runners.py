"""Sagas of flows, run by either driver, and what is watched of them.

A test is written once, with the runner it is given, which makes tasks or functions of its kind and runs sagas in its driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import Any, Final

from saga import Flow, Saga, SagaResult, StepRecord, Task, step
from saga.events import Event
from saga.storage import Store
from tests.kit.tasks import AsyncTask, PlainTask, UndoableAsyncTask, UndoablePlainTask, aperform, perform
from tests.kit.waiting import PATIENCE, background, until


def saga_of(*flows: Any, **options: Any) -> Saga:
    """Return a saga of these flows, one after the other."""
    saga = Saga("s", **options)
    for flow in flows:
        saga.add_task(flow)
    return saga


class Runner:
    """Runs sagas in threads, or each in an event loop of its own.

    :ivar log: what was called, in order; :ivar in_loop: whether sagas run in an event loop.
    """

    def __init__(self, in_loop: bool, log: list[str] | None = None) -> None:
        self.in_loop = in_loop
        self.log: list[str] = [] if log is None else log

    def saga(self, *flows: Any, **options: Any) -> Saga:
        """Return a saga of these flows, one after the other."""
        return saga_of(*flows, **options)

    def run(self, saga: Saga, context: Any = None, **options: Any) -> SagaResult:
        """Try to execute the saga."""
        if self.in_loop:
            return asyncio.run(saga.atry_execute(context, **options))
        return saga.try_execute(context, **options)

    def execute(self, saga: Saga, context: Any = None, **options: Any) -> SagaResult:
        """Execute the saga, which raises where it fails."""
        if self.in_loop:
            return asyncio.run(saga.aexecute(context, **options))
        return saga.execute(context, **options)

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

    def stream(self, saga: Saga, take: int | None = None) -> list[StepRecord]:
        """Return the records of a stream, which is left after ``take`` of them."""
        records: list[StepRecord] = []
        if not self.in_loop:
            with closing(saga.stream()) as stream:
                for record in stream:
                    records.append(record)
                    if len(records) == take:
                        break
            return records

        async def work() -> None:
            async with aclosing(saga.astream()) as stream:
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


class Kit(Runner):
    """Makes tasks of its kind (:mod:`tests.kit.tasks`) and runs sagas of them.

    :ivar is_async: whether tasks are ``async def``.
    """

    def __init__(self, in_loop: bool, is_async: bool, log: list[str] | None = None) -> None:
        super().__init__(in_loop, log)
        self.is_async = is_async

    def task(self, name: str, during: Any = None, during_undo: Any = None, *, undo: bool = True, **policies: Any) -> Task[str]:
        """Return a task that does ``during`` when it is executed, ``during_undo`` when it is undone; each gets the context."""
        if self.is_async:
            kind: type[PlainTask] = UndoableAsyncTask if undo else AsyncTask
        else:
            kind = UndoablePlainTask if undo else PlainTask
        return kind(self.log, name, during, during_undo, policies)


KITS: Final = {"threads": (False, False), "aio-async": (True, True), "aio-plain": (True, False)}
"""The ways to run a saga: what :class:`Kit` takes, by name."""


class Calls(Runner):
    """Makes functions and steps of them, and runs sagas: plain functions in threads, coroutine functions in an event loop."""

    def function(self, name: str, during: Any = None) -> Callable[[], Any]:
        """Return a function that notes its name and does ``during``, which gets nothing."""
        if self.in_loop:

            async def acall() -> str:
                self.log.append(name)
                await asyncio.sleep(0)
                await aperform(during)
                return f"result of {name}"

            return acall

        def call() -> str:
            self.log.append(name)
            perform(during)
            return f"result of {name}"

        return call

    def step(self, name: str, during: Any = None, during_undo: Any = None, *, undo: bool = True, **policies: Any) -> Flow:
        """Return a step of two such functions, or of one where there is nothing to undo."""
        compensate = self.function(f"-{name}", during_undo) if undo else None
        return step(self.function(name, during), compensate, name=name, **policies)


class Background:
    """Executes a saga beside the test, with the id ``o-1``."""

    def __init__(self, runner: Runner, saga: Saga, store: Store, **options: Any) -> None:
        self.store = store
        self._result = background(lambda: runner.run(saga, store=store, saga_id="o-1", **options))

    def until_begun(self, step: str) -> None:
        """Wait until the intent to run a step is stored."""
        until(lambda: any(e.kind == "StepStarted" and e.step == step for e in self.store.journal("o-1")))

    @property
    def result(self) -> SagaResult:
        """Its result, once it has ended."""
        return self._result()


def on(kind: type, act: Callable[[], Any], step: str | None = None) -> Callable[[Any, Any], None]:
    """Return an observer that acts on the first event of ``kind`` (of ``step``)."""
    done: list[Any] = []

    def observer(event: Any, info: Any) -> None:
        if isinstance(event, kind) and (step is None or getattr(event, "step", None) == step) and not done:
            done.append(event)
            act()

    return observer


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
        """Return the events of these kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    def at(self, kind: type, step: str | None = None) -> int:
        """Return the place of the first event of ``kind`` (at ``step``)."""
        return next(
            i for i, e in enumerate(self.events) if isinstance(e, kind) and (step is None or getattr(e, "step", None) == step)
        )
