"""A saga written as a block: its steps are executed as the block comes to them. It is made in :mod:`saga.blocks`.

The block's steps are a plan that grows, on the same machine and drivers as every other saga. With a store, each step's
journal entry says how its compensation is found again, so that a recovery can undo what a dead process's block had done; it
cannot go on with the block.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from saga.clocks import host_time
from saga.context import Binding, Context
from saga.definition import Definition, inputs
from saga.drivers.base import Driver
from saga.drivers.results import result_of
from saga.drivers.threads import Execution
from saga.errors import (
    SagaDefinitionError,
    SagaExecutionException,
    StorageError,
    add_note,
    is_exception,
)
from saga.events import RUNNING
from saga.flow import FlowLike, Policies, Step, as_flow, parallel, step
from saga.flow.build import default_name
from saga.in_use import INSIDE, claim, enter, let_go, running_task
from saga.machine import OpenPlan
from saga.result import SagaResult, failure_of, ok
from saga.task import Task
from saga.turn import Turn

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution
    from saga.storage import Store

__all__ = ["Transaction"]

T = TypeVar("T")
D = TypeVar("D", bound=Driver)


class Transaction:
    """A running block: see :func:`transaction`.

    :ivar context: what functions with a parameter named ``context`` get.
    :ivar saga_id: the execution's id.
    :ivar run: which run under the id that was given, from 1: see ``again`` of :func:`transaction`.
    :ivar result: how the block ended; ``None`` while it runs.
    """

    run = 1

    def __init__(
        self,
        definition: Definition,
        context: Context | Mapping[str, Any] | None,
        saga_id: str | None,
        store: Store | str | os.PathLike[str] | None,
        again: bool = False,
    ) -> None:
        self._definition = definition
        self._again = again
        self.context, self.saga_id, self._store, self._binding = inputs(definition, context, saga_id, store)
        self.result: SagaResult | None = None
        self._machine = definition.machine(self.saga_id)
        assert isinstance(self._machine.plan, OpenPlan)
        self._plan = self._binding.plan = self._machine.plan
        self._execution: Driver | None = None
        self._failure: SagaExecutionException | None = None  # what its step raised
        self._outside: tuple[Binding, ...] | None = None
        self._turn = Turn(definition.name)

    # -- the block ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._again:
            self._number(self._earlier())
        self._claim(threading.get_ident())
        execution: Any = None
        try:
            execution = self._execution = self._begin()
            execution.begin()
            if execution.interrupt is None:
                return self
        except BaseException as struck:
            if execution is None:
                self._leave_context()
                raise
            execution.leave(struck)
        else:  # it struck as the block began
            execution.run()
        self._leave_context()
        self._exit(execution, None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        execution: Any = self._execution
        try:
            self._turn.end()
            self._end(error)
            if not execution.abandoned:
                execution.run()
        except StorageError:
            raise
        except BaseException as struck:
            execution.leave(struck)
        finally:
            self._leave_context()
        self._exit(execution, error)

    async def __aenter__(self) -> Self:
        if self._again:
            self._number(await self._aearlier())
        self._claim(running_task())
        struck: list[BaseException] = []
        try:
            execution = self._execution = await self._abegin(struck)
        except BaseException:
            self._leave_context()
            raise
        execution.begin()
        if struck:
            await execution.leave(struck[0])
        if execution.interrupt is not None:  # it struck as the block began
            self._leave_context()
            await execution.run()
            self._exit(execution, None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        execution: Any = self._execution
        mistake, interrupt = await self._turn.aend()
        if interrupt is not None:
            execution.interrupted(interrupt)
        failure = mistake if error is None else error
        try:
            self._end(failure)
        except BaseException as struck:
            await execution.leave(struck)
        else:
            if not execution.abandoned:
                await execution.run()
        finally:
            self._leave_context()
        self._exit(execution, failure)
        if failure is not None and failure is not error:
            raise failure

    # -- steps --------------------------------------------------------------------------------------------------------

    @overload
    def step(self, action: Task[T] | type[Task[T]], *, name: str | None = None, **policies: Unpack[Policies]) -> T: ...
    @overload
    def step(
        self,
        action: Callable[..., T],
        compensate: Callable[..., Any] | str | None = None,
        *,
        verify: Callable[..., Any] | None = None,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        compensate_args: Sequence[Any] = (),
        compensate_kwargs: Mapping[str, Any] | None = None,
        **policies: Unpack[Policies],
    ) -> T: ...
    def step(self, action: Any, compensate: Any = None, *, name: str | None = None, **options: Any) -> Any:
        """Execute a step now and return its result. Parameters as :func:`saga.step`'s.

        ``compensate`` may be a function's name, too: ``"module:function"``, or one of the module of ``action``.

        :raises SagaExecutionException: it failed for good; everything before it is undone already.
        :raises SagaDefinitionError: it is wrong; nothing was called, and the block can go on.
        """
        return self._run(self._made(action, compensate, name, options))

    @overload
    def astep(
        self, action: Task[T] | type[Task[T]], *, name: str | None = None, **policies: Unpack[Policies]
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def astep(
        self,
        action: Callable[..., Awaitable[T]],
        compensate: Callable[..., Any] | str | None = None,
        *,
        verify: Callable[..., Any] | None = None,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        compensate_args: Sequence[Any] = (),
        compensate_kwargs: Mapping[str, Any] | None = None,
        **policies: Unpack[Policies],
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def astep(
        self,
        action: Callable[..., T],
        compensate: Callable[..., Any] | str | None = None,
        *,
        verify: Callable[..., Any] | None = None,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        compensate_args: Sequence[Any] = (),
        compensate_kwargs: Mapping[str, Any] | None = None,
        **policies: Unpack[Policies],
    ) -> Coroutine[Any, Any, T]: ...
    def astep(self, action: Any, compensate: Any = None, *, name: str | None = None, **options: Any) -> Any:
        """Execute a step in an ``async with`` block; await it for its result. As :meth:`step`."""
        return self._to_await(self._made(action, compensate, name, options))

    def parallel(self, *flows: FlowLike, limit: int | None = None) -> tuple[Any, ...]:
        """Execute flows at the same time and return their last results. Parameters as :func:`saga.parallel`'s."""
        result: tuple[Any, ...] = self._run(parallel(*flows, limit=limit))
        return result

    def aparallel(self, *flows: FlowLike, limit: int | None = None) -> Coroutine[Any, Any, tuple[Any, ...]]:
        """Execute flows at the same time in an ``async with`` block; await it for its result. As :meth:`parallel`."""
        return self._to_await(parallel(*flows, limit=limit))

    # -- the execution ------------------------------------------------------------------------------------------------

    def _made(self, action: Any, compensate: Any, name: str | None, options: dict[str, Any]) -> Step:
        if name is None:
            name = self._plan.free_name(default_name(action))
        if isinstance(compensate, str):
            from saga.durable.importable import called

            where = f"transaction {self._definition.name!r}: step {name!r}: compensate"
            compensate = called(compensate, action, where)
        return step(action, compensate, name=name, **options)

    def _check_entered_once(self) -> None:
        if self._machine.started:
            name = self._definition.name
            raise SagaDefinitionError(f"transaction {name!r}: a block is entered once; call transaction() again")

    def _runs(self) -> tuple[Definition, str, Store]:
        """Return what its earlier runs are known by."""
        from saga.storage.opened import store_of

        self._check_entered_once()
        assert self._store is not None
        return self._definition, self.saga_id, store_of(self._store)

    def _number(self, run: int) -> None:
        """Be this run of those under its id."""
        from saga.durable.runs import id_of_run

        self.run = run
        self.saga_id = self._binding.saga_id = self._machine.saga_id = id_of_run(self.saga_id, run)

    def _claim(self, user: object) -> None:
        """Claim the context, for what runs the block."""
        self._check_entered_once()
        claim(self.context, self._binding, user)
        self._outside = enter(self._binding)

    def _leave_context(self) -> None:
        INSIDE.set(self._outside or ())
        if self._execution is not None:
            return self._execution.free_context()
        let_go(self.context, self._binding)

    def _earlier(self) -> int:
        """Bring the earlier runs under its id to their end, and return which run it is."""
        from saga.durable.runs import after_earlier

        return after_earlier(*self._runs())

    async def _aearlier(self) -> int:
        from saga.durable.runs import aafter_earlier

        return await aafter_earlier(*self._runs())

    def _begin(self) -> Execution:
        """Return what runs the block, which is stored by then."""
        return self._enter(Execution)

    async def _abegin(self, struck: list[BaseException]) -> AsyncExecution:
        """As :meth:`_begin`, in an event loop. Cancellations meanwhile are added to ``struck``."""
        from saga.drivers.aio import AsyncExecution
        from saga.drivers.to_the_end import in_thread

        if self._store is None:
            return self._enter(AsyncExecution)
        return await in_thread(partial(self._enter, AsyncExecution), struck.append)

    def _enter(self, driver: type[D]) -> D:
        definition, machine = self._definition, self._machine
        if self._store is None:
            machine.start(host_time())
            return driver(definition, machine, self.context)
        from saga.durable.start import create
        from saga.storage.opened import store_of
        from saga.storage.records import StoredExecution

        store = store_of(self._store)
        created = create(definition, driver, machine, self.context, store)
        if isinstance(created, StoredExecution):
            from saga.durable.runs import taken

            raise taken(created, self.saga_id, created.lease_until > store.now())
        return created

    def _extend(self, flow: FlowLike, allow_async: bool) -> None:
        execution = self._execution
        name = self._definition.name
        if execution is None or self._turn.over:
            raise SagaDefinitionError(f"transaction {name!r}: steps are executed within its `with` block")
        if execution.abandoned or execution.machine.status is not RUNNING:
            raise SagaDefinitionError(f"transaction {name!r} has failed: no step can follow")
        found = as_flow(flow, f"transaction {name!r}")
        if execution.journal is None:
            execution.add(self._plan.extend(found, allow_async, transacts=False))
            return
        if not isinstance(found, Step):
            raise SagaDefinitionError(f"transaction {name!r}: with a store, give one step at a time, not a group")
        from saga.durable.importable import text_of_step
        from saga.durable.journal import Journal
        from saga.durable.rebuild import codec_of

        assert isinstance(execution.journal, Journal)
        store = execution.journal.store
        text = text_of_step(self._plan.spelt_out(found), codec_of(self._definition), store, name)
        execution.add(self._plan.extend(found, allow_async, store.transacts, store.transacts_async), f',"task":{text}')

    def _run(self, flow: FlowLike) -> Any:
        execution = self._execution
        if execution is not None and not isinstance(execution, Execution):
            raise SagaDefinitionError(
                f"transaction {self._definition.name!r}: use `await tx.astep(...)` in an `async with` block"
            )
        self._turn.take(threading.get_ident())
        try:
            self._extend(flow, allow_async=False)
            assert execution is not None
            execution.advance()
            return self._outcome(execution, flow)
        finally:
            self._turn.user = None

    def _to_await(self, flow: FlowLike) -> Coroutine[Any, Any, Any]:
        if isinstance(self._execution, Execution):
            raise SagaDefinitionError(f"transaction {self._definition.name!r}: use `tx.step(...)` in a `with` block")
        return self._turn.expect(flow.name if isinstance(flow, Step) else "a group", self._arun(flow))

    async def _arun(self, flow: FlowLike) -> Any:
        execution: Any = self._execution
        self._turn.take(running_task())
        try:
            self._extend(flow, allow_async=True)
            await execution.advance()
            return self._outcome(execution, flow)
        finally:
            self._turn.user = None

    def _outcome(self, execution: Driver, flow: FlowLike) -> Any:
        if execution.machine.status is RUNNING:
            binding = self.context.__binding__
            return binding.results.get(flow.name) if isinstance(flow, Step) else binding.previous
        if execution.interrupt is not None:
            raise execution.interrupt
        self._failure = failure_of(SagaResult(execution.machine.plan, execution.machine.log, self.context))
        raise self._failure

    def _end(self, error: BaseException | None) -> None:
        """Say that the block has ended."""
        execution = self._execution
        assert execution is not None
        if execution.machine.status is RUNNING and not execution.abandoned:
            if error is None:
                execution.finish()
            else:
                execution.give_up(error)

    def _exit(self, execution: Driver, error: BaseException | None) -> None:
        """Raise what the block has to, unless ``error`` is raised anyhow."""
        result = self.result = result_of(execution)
        interrupt = execution.interrupt
        if interrupt is not None and interrupt is not error:
            raise interrupt
        if error is None:
            ok(result)
        elif error is not self._failure and (not execution.abandoned or error is interrupt):
            if result.compensation_errors and is_exception(error):
                raise failure_of(result) from error
            add_note(error, result.summary())
        self._failure = None  # its traceback knows this block
