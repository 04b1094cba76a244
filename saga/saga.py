"""The facade a user holds: makes a definition, and starts executions of it. No rule about executions lives here."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypedDict, TypeVar, Unpack, overload

from saga.beginning import abegin, begin, run_in_a_loop
from saga.context import Context, ContextLike, Ctx
from saga.declared import refuse_unmade
from saga.definition import CompensationFailureHandler, ContextFunction, Definition, Observer, inputs
from saga.described import Described
from saga.drivers.results import raised_or
from saga.drivers.threads import Execution
from saga.errors import SagaDefinitionError
from saga.flow import Flow, FlowLike, Sequence, Unit, as_flow
from saga.flow import bind as bind_methods
from saga.machine import Plan, compile_flow
from saga.machine.compile import Resolver
from saga.names import checked_id
from saga.policy import ErrorKinds, OnError, Retry, Seconds
from saga.result import SagaResult, StepRecord, ok
from saga.streaming import arecords_of, records_of

if TYPE_CHECKING:
    from uuid import UUID

    from saga.drivers.aio import AsyncExecution
    from saga.durable.codec import Codec
    from saga.observers import Loggers
    from saga.storage.protocol import StoreLike

__all__ = ["Saga"]

C = TypeVar("C", bound=Context)


class Where(TypedDict, total=False):
    """What tells an execution from others, and where it is remembered."""

    saga_id: str | UUID | None
    store: StoreLike | None


class Saga(Described[Ctx], Generic[Ctx]):
    """A named flow of tasks that can be executed, many times and from many threads at once.

    Build one with :meth:`add_task`, or declare one: a subclass with ``flow``, a flow, a tuple of flows or a method that
    returns one, of tasks and of its own methods that are :func:`~saga.saga_step`. Each of these parameters may be a class
    attribute there; one that is given, and is not ``None``, comes first. A type checker knows the context of a result by what
    was given, and refuses another where it is ``Saga[OrderContext]``.

    :param name: what logs and reports call it; the class's name where not given.
    :param context: the class of its contexts, a dataclass; ``Saga[OrderContext]`` says the same. An input of another class, one
        that lacks a field, or has a value that is not of its field's type, is refused before anything runs; a mapping is made
        one. Any context will do where it is not given.
    :param logger: what is told of every event: a logger of :mod:`logging`, of structlog or of loguru, a logger's name, a
        :class:`~saga.logging.SagaLogger`, a function of ``(event, info)``, or several of these.
    :param observers: more of them, each called with every event once it is stored: what traces and measures.
    :param timeout: seconds an execution may go forward; then it is undone. Here as wherever seconds are meant, a ``timedelta``
        may be given.
    :param stop_on_compensation_failure: leave the remaining steps as they are when a compensation failed for good, rather
        than undo them too.
    :param on_compensation_failure: called with ``(context, step name, error)`` when a compensation failed for good.
    :param store: where executions are remembered, so that a crash loses nothing: a :class:`~saga.storage.Store`, or the path
        of an SQLite database, or a database's URL. Executions are not remembered where it is not given.
    :param codec: how values are stored; give one where types have to be registered.
    :param resolver: makes a task of each task class the flow has, for each call: returns it, or a context manager for it. A
        class is called once where it is not given.
    :param version: of this definition; executions that another version began are finished by one whose steps and policies
        are the same, or that names their version in ``compatible_with`` (and whose they are then).
    :param undoable_for: seconds for which a completed execution can be undone: see :meth:`undo`. As long
        as it is stored, where not given.
    :param retry: of all steps that say nothing themselves. So are the six that follow: a step's own policy comes first, then
        its task's, ``None`` too where one says that, then that of the innermost saga.
    :param step_timeout: the seconds that an attempt of an execute may take; a transactional step has none.
    :param on_error: what follows when a step has failed for good: ``Compensate`` (where not given), ``Skip`` or ``Ask``.
    :param unknown_on: the errors of an execute after which nobody knows whether it took effect: an exception class, a function
        of the error, or a tuple of these; :data:`saga.LOST_ANSWERS` where not given.
    :param compensation_retry: when and how often a compensate is attempted again.
    :param compensation_timeout: the seconds that an attempt of a compensate may take; a transactional step has none.
    :param verification_retry: when and how often a verify is.
    :param lease: seconds after which a process that died is taken to have died.
    :param limit: how many executions may be in hand at once, over all processes: the store keeps it. Others wait.
    :param rate: how many may be begun in a second, over all processes; ``0.5`` is one in two seconds, ``2.5`` two in 0.8.
    :param exclusive: returns for a context the key (a str or an int, or ``None``) that one execution of all in the store has at
        a time, until it is completed or compensated; the others wait, first come first served.
    :param tags: what executions are found by in lists: a function that returns for a context a mapping of names to values, or
        keys of the context. What is not to be shown goes through :func:`saga.masked`.
    :raises SagaDefinitionError: a parameter is wrong.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        context: type[Ctx] | None = None,
        logger: Loggers | None = None,
        observers: Observer | Iterable[Observer] | None = None,
        timeout: Seconds | None = None,
        stop_on_compensation_failure: bool | None = None,
        on_compensation_failure: CompensationFailureHandler | None = None,
        store: StoreLike | None = None,
        codec: Codec | None = None,
        resolver: Resolver | None = None,
        version: str | None = None,
        compatible_with: Iterable[str] | None = None,
        undoable_for: Seconds | None = None,
        retry: Retry | None = None,
        step_timeout: Seconds | None = None,
        on_error: OnError | None = None,
        unknown_on: ErrorKinds | None = None,
        compensation_retry: Retry | None = None,
        compensation_timeout: Seconds | None = None,
        verification_retry: Retry | None = None,
        lease: Seconds | None = None,
        limit: int | None = None,
        rate: float | None = None,
        exclusive: ContextFunction | None = None,
        tags: ContextFunction | Iterable[str] | None = None,
    ) -> None:
        self._take_options(
            {
                "name": name,
                "context": context,
                "logger": logger,
                "observers": observers,
                "timeout": timeout,
                "stop_on_compensation_failure": stop_on_compensation_failure,
                "on_compensation_failure": on_compensation_failure,
                "store": store,
                "codec": codec,
                "resolver": resolver,
                "version": version,
                "compatible_with": compatible_with,
                "undoable_for": undoable_for,
                "retry": retry,
                "step_timeout": step_timeout,
                "on_error": on_error,
                "unknown_on": unknown_on,
                "compensation_retry": compensation_retry,
                "compensation_timeout": compensation_timeout,
                "verification_retry": verification_retry,
                "lease": lease,
                "limit": limit,
                "rate": rate,
                "exclusive": exclusive,
                "tags": tags,
            }
        )
        #: All but the plan, which is compiled when it is asked for.
        self._draft = self._draft_of_options()
        self._flows: tuple[Flow, ...] = ()
        self._definition: Definition | None = None
        self._lock = threading.Lock()

    def add_task(self, task: FlowLike) -> Self:
        """Add a step at the end and return the saga.

        :param task: a task, a task class, ``step(...)``, ``sequence(...)``, ``parallel(...)`` or another saga.
        :raises SagaDefinitionError: it is none of these.
        """
        refuse_unmade(self)
        flow = as_flow(task, f"saga {self.name!r}: add_task()")
        with self._lock:
            self._flows = (*self._flows, flow)
            self._definition = None
        return self

    @property
    def definition(self) -> Definition:
        """All that its executions are run by.

        :raises SagaDefinitionError: the flow is wrong.
        """
        refuse_unmade(self)
        definition = self._definition
        if definition is None:
            with self._lock:
                plan = compile_flow(self._whole(None), self.name, self.resolver)
                definition = self._definition = replace(self._draft, plan=plan, context=plan.context)
        return definition

    @property
    def plan(self) -> Plan:
        """The compiled flow.

        :raises SagaDefinitionError: the flow is wrong.
        """
        return self.definition.plan

    def __saga_flow__(self) -> Flow:
        refuse_unmade(self)
        self._refuse_what_is_the_outer_sagas()
        flow = self._whole(self.name)
        timeout = self._draft.timeout
        return flow if timeout is None else Unit(flow, self.name, {"timeout": timeout})

    def _whole(self, name: str | None) -> Sequence:
        """Return the flow that was declared, and what was added to it."""
        declared = self.flow() if inspect.ismethod(self.flow) else self.flow
        first = () if declared is None else (bind_methods(as_flow(declared, f"saga {self.name!r}: flow"), self),)
        added = (bind_methods(flow, self) for flow in self._flows)
        return Sequence((*first, *added), name, self._defaults, self._context_kind())

    @overload
    def execute(self: Saga, context: C, **where: Unpack[Where]) -> SagaResult[C]: ...
    @overload
    def execute(self, context: Ctx, **where: Unpack[Where]) -> SagaResult[Ctx]: ...
    @overload
    def execute(self: Saga, context: Mapping[str, Any] | None = None, **where: Unpack[Where]) -> SagaResult: ...
    def execute(
        self, context: Any = None, *, saga_id: str | UUID | None = None, store: StoreLike | None = None
    ) -> SagaResult[Any]:
        """Execute the saga and return its result.

        :param context: what the tasks share; empty where not given. No other execution may use it meanwhile.
        :param saga_id: the execution's id; 128 random bits where not given. With a store it makes starting idempotent: a
            second start with the same id and the same input returns the first one's outcome, and waits for it if need be.
        :param store: where this execution is remembered; the saga's store where not given.
        :raises SagaDefinitionError: the saga is wrong; nothing has run.
        :raises SagaHeldError: a person holds it, so nothing is begun: see :meth:`saga.operations.Operations.hold`.
        :raises SagaCompensationError: it failed and could not be wholly undone.
        :raises SagaExecutionException: it failed and was undone, except for steps that still run after their timeout.
        """
        try:
            return ok(self.try_execute(context, saga_id=saga_id, store=store))  # no local: see saga.drivers.results
        except AttributeError:
            refuse_unmade(self)
            raise

    @overload
    def try_execute(self: Saga, context: C, **where: Unpack[Where]) -> SagaResult[C]: ...
    @overload
    def try_execute(self, context: Ctx, **where: Unpack[Where]) -> SagaResult[Ctx]: ...
    @overload
    def try_execute(self: Saga, context: Mapping[str, Any] | None = None, **where: Unpack[Where]) -> SagaResult: ...
    def try_execute(
        self, context: Any = None, *, saga_id: str | UUID | None = None, store: StoreLike | None = None
    ) -> SagaResult[Any]:
        """Execute the saga and return its result, failed or not.

        An interrupt (``KeyboardInterrupt``, ``SystemExit``, ...) is raised again after the undo. One that strikes a
        compensation of an execution with a store is raised at once: the rest of the undo is left to a recovery.
        """
        try:
            definition = self._definition or self.definition
        except AttributeError:
            refuse_unmade(self)
            raise
        if definition.plan.asynchronous:
            return run_in_a_loop(self.name, self.atry_execute(context, saga_id=saga_id, store=store), "aexecute")
        execution = self._prepare(context, saga_id, store)
        if isinstance(execution, SagaResult):
            return execution
        try:
            execution.run()
        finally:
            execution.free_context()
        return raised_or(execution)

    @overload
    async def aexecute(self: Saga, context: C, **where: Unpack[Where]) -> SagaResult[C]: ...
    @overload
    async def aexecute(self, context: Ctx, **where: Unpack[Where]) -> SagaResult[Ctx]: ...
    @overload
    async def aexecute(self: Saga, context: Mapping[str, Any] | None = None, **where: Unpack[Where]) -> SagaResult: ...
    async def aexecute(
        self, context: Any = None, *, saga_id: str | UUID | None = None, store: StoreLike | None = None
    ) -> SagaResult[Any]:
        """Execute the saga in the running event loop: as :meth:`execute`.

        ``async def`` tasks are awaited, plain ones run in threads beside them. Cancelling this cancels the executes that run
        and undoes what has happened, to the end; then ``CancelledError`` is raised.
        """
        refuse_unmade(self)
        return ok(await self.atry_execute(context, saga_id=saga_id, store=store))  # no local: see saga.drivers.results

    @overload
    async def atry_execute(self: Saga, context: C, **where: Unpack[Where]) -> SagaResult[C]: ...
    @overload
    async def atry_execute(self, context: Ctx, **where: Unpack[Where]) -> SagaResult[Ctx]: ...
    @overload
    async def atry_execute(self: Saga, context: Mapping[str, Any] | None = None, **where: Unpack[Where]) -> SagaResult: ...
    async def atry_execute(
        self, context: Any = None, *, saga_id: str | UUID | None = None, store: StoreLike | None = None
    ) -> SagaResult[Any]:
        """Execute the saga in the running event loop and return its result, failed or not: as :meth:`try_execute`."""
        refuse_unmade(self)
        execution = await self._aprepare(context, saga_id, store)
        if isinstance(execution, SagaResult):
            return execution
        try:
            await execution.run()
        finally:
            execution.free_context()
        return raised_or(execution)

    def astream(
        self, context: ContextLike = None, *, saga_id: str | UUID | None = None, store: StoreLike | None = None
    ) -> AsyncGenerator[StepRecord, None]:
        """Execute the saga in the running event loop and yield records: as :meth:`stream`."""
        refuse_unmade(self)
        return arecords_of(lambda: self._aprepare(context, saga_id, store))

    def stream(
        self, context: ContextLike = None, *, saga_id: str | UUID | None = None, store: StoreLike | None = None
    ) -> Generator[StepRecord, None, None]:
        """Execute the saga and yield a step's record each time one has ended, been skipped or been compensated.

        Steps run as the records are asked for. Leaving the loop early undoes what has happened.

        :raises SagaExecutionException: as :meth:`execute` does, after the last record.
        """
        refuse_unmade(self)
        if self.plan.asynchronous:
            raise SagaDefinitionError(f"saga {self.name!r} has async tasks: use `async for record in saga.astream(...)`")
        execution = self._prepare(context, saga_id, store)
        if not isinstance(execution, SagaResult):
            execution.keep_context()
        return records_of(execution)

    def undo(
        self, saga_id: str | UUID, why: str, to: str | None = None, *, who: str = "the program", store: StoreLike | None = None
    ) -> SagaResult[Ctx]:
        """Undo a completed execution, here and now, and return its result: wholly, or back to a step.

        The compensations see the results and the context as they were when it completed, and in ``context.step.cause`` who
        undoes it and why. Where the process dies in it, a recovery goes on. Where the saga has a ``limit`` or ``exclusive``,
        the undo waits for its turn, as :meth:`execute` does.

        :param why: the reason, for those who read the journal later.
        :param to: a step that stays done, outside parallel groups. What came after it is undone, and the execution is
            ``paused``: ``Operations.resume`` lets it go forward again from there, and what is undone is executed again.
        :param who: who has decided it.
        :raises UnknownExecutionError: there is no such execution of this saga.
        :raises ActionRefusedError: it is not completed, is past its pivot, was ``undoable_for`` a time that is over, or there
            is no going back to that step.
        :raises DefinitionChangedError: it was begun by a definition that is not compatible.
        :raises SagaCompensationError: it could not be wholly undone: it is stuck.
        :raises StorageError: somebody else acts on it.
        :raises SagaDefinitionError: there is no store.
        :raises ValueError: ``why`` or ``who`` is empty.
        """
        refuse_unmade(self)
        if self.plan.asynchronous:
            return run_in_a_loop(self.name, self.aundo(saga_id, why, to, who=who, store=store), "aundo")
        from saga.durable.undoing import undone_here

        return undone_here(
            self.definition, checked_id(saga_id, f"saga {self.name!r}: saga_id"), self._opened(store), who, why, to
        )

    async def aundo(
        self, saga_id: str | UUID, why: str, to: str | None = None, *, who: str = "the program", store: StoreLike | None = None
    ) -> SagaResult[Ctx]:
        """Undo a completed execution in the running event loop: as :meth:`undo`."""
        refuse_unmade(self)
        from saga.durable.undoing import aundone_here

        saga_id = checked_id(saga_id, f"saga {self.name!r}: saga_id")
        return await aundone_here(self.definition, saga_id, lambda: self._opened(store), who, why, to)

    def _prepare(self, context: ContextLike, saga_id: str | UUID | None, store: StoreLike | None) -> Execution | SagaResult:
        definition = self._definition or self.definition
        return begin(definition, *inputs(definition, context, saga_id, self.store if store is None else store))

    async def _aprepare(
        self, context: ContextLike, saga_id: str | UUID | None, store: StoreLike | None
    ) -> AsyncExecution | SagaResult:
        definition = self._definition or self.definition
        return await abegin(definition, *inputs(definition, context, saga_id, self.store if store is None else store))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {vars(self).get('name')!r}>"
