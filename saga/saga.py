"""The facade a user holds: wires flow, plan, machine, driver and observers. No rule about executions lives here."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from saga.context import Context
from saga.drivers.base import Driver
from saga.drivers.threads import Execution
from saga.errors import SagaCompensationError, SagaDefinitionError, SagaExecutionException
from saga.events import (
    CompensationFailed,
    CompensationSucceeded,
    Event,
    Status,
    StepFailed,
    StepSkipped,
    StepStatus,
    StepSucceeded,
    StepTimedOut,
)
from saga.flow import Flow, FlowLike, Sequence, as_flow, bind
from saga.machine import Machine
from saga.plan import Plan, Resolver, check_timeout, compile_flow
from saga.result import SagaResult, StepRecord, fold_history
from saga.task import Composing

if TYPE_CHECKING:
    from saga.codec import Codec
    from saga.diagram import Diagram
    from saga.drivers.aio import AsyncExecution
    from saga.journal import Journal
    from saga.storage import Store
    from saga.views import Views

__all__ = ["ExecutionInfo", "Observer", "Saga"]

D = TypeVar("D", bound=Driver)


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """Which execution an event belongs to: given to observers with each event.

    ``context`` is the execution's context, for observers that show some of its keys.
    """

    saga: str
    saga_id: str
    context: Context


Observer = Callable[[Event, ExecutionInfo], None]
CompensationFailureHandler = Callable[[Context, str, BaseException], None]


class Saga(Composing):
    """A named flow of tasks that can be executed, many times and from many threads at once.

    Build one with :meth:`add_task`, or declare one: a subclass with ``flow``, a flow, a tuple of flows or a method that
    returns one, of tasks and of its own methods that are :func:`~saga.saga_step`. ``name`` and ``version`` may be class
    attributes there.

    :param name: what logs and reports call it; the class's name where not given.
    :param logger: a :class:`~saga.logging.SagaLogger`, any ``callable(event, info)``, or several of them.
    :param deadline: seconds an execution may go forward; then it is undone.
    :param stop_on_compensation_failure: leave the remaining steps as they are when a compensation failed for good, rather
        than undo them too.
    :param on_compensation_failure: called with ``(context, step name, error)`` when a compensation failed for good.
    :param store: where executions are remembered, so that a crash loses nothing: a :class:`~saga.storage.Store`, or the path
        of an SQLite database, or a database's URL. Executions are not remembered where it is not given.
    :param codec: how values are stored; give one where types have to be registered.
    :param resolver: makes a task of each task class the flow has, for each call: returns it, or a context manager for it. A
        class is called once where it is not given.
    :param version: of this definition; executions that another version began are finished by one whose steps and policies
        are the same, or that names their version in ``compatible_with``.
    :param lease: seconds after which a process that died is taken to have died.
    :raises SagaDefinitionError: a parameter is wrong.
    """

    flow: Any = None
    version: str = "1"

    def __init__(
        self,
        name: str | None = None,
        *,
        logger: Observer | Iterable[Observer] | None = None,
        deadline: float | None = None,
        stop_on_compensation_failure: bool = False,
        on_compensation_failure: CompensationFailureHandler | None = None,
        store: Store | str | os.PathLike[str] | None = None,
        codec: Codec | None = None,
        resolver: Resolver | None = None,
        version: str | None = None,
        compatible_with: Iterable[str] = (),
        lease: float = 30.0,
    ) -> None:
        declared = getattr(type(self), "name", None)
        self.name: str = name if name is not None else declared if declared is not None else type(self).__name__
        if not isinstance(self.name, str) or not self.name.strip():
            raise SagaDefinitionError(f"a saga's name is a non-empty string, not {name!r}")
        check_timeout(deadline, f"saga {self.name!r}: deadline")
        self.deadline = deadline
        self.stop_on_compensation_failure = stop_on_compensation_failure
        self.on_compensation_failure = on_compensation_failure
        if on_compensation_failure is not None and not callable(on_compensation_failure):
            raise SagaDefinitionError(
                f"saga {self.name!r}: on_compensation_failure is {on_compensation_failure!r}; give a function of "
                "(context, step name, error)"
            )
        self.observers = _observers(self.name, logger)
        compatible_with = tuple(compatible_with)
        if version is not None:
            self.version = version
        for what, text in (("version", self.version), *(("compatible_with", one) for one in compatible_with)):
            if not isinstance(text, str) or not text:
                raise SagaDefinitionError(f"saga {self.name!r}: {what} has {text!r}; give a non-empty string")
        check_timeout(lease, f"saga {self.name!r}: lease")
        if resolver is not None and not callable(resolver):
            raise SagaDefinitionError(f"saga {self.name!r}: resolver is {resolver!r}; give a function of a task class")
        self.resolver = resolver
        self.store = store
        self.compatible_with = frozenset(compatible_with)
        self.lease = lease
        self._codec = codec
        self._flows: tuple[Flow, ...] = ()
        self._plan: Plan | None = None
        self._lock = threading.Lock()

    def add_task(self, task: FlowLike) -> Self:
        """Add a step at the end and return the saga.

        :param task: a task, a task class, ``step(...)``, ``sequence(...)``, ``parallel(...)`` or another saga.
        :raises SagaDefinitionError: it is none of these.
        """
        flow = as_flow(task, f"saga {self.name!r}: add_task()")
        with self._lock:
            self._flows = (*self._flows, flow)
            self._plan = None
        return self

    @property
    def plan(self) -> Plan:
        """The compiled flow.

        :raises SagaDefinitionError: the flow is wrong.
        """
        plan = self._plan
        if plan is None:
            with self._lock:
                plan = self._plan = compile_flow(self._whole(None), self.name, self.resolver)
        return plan

    def __saga_flow__(self) -> Flow:
        if self.deadline is not None or self.on_compensation_failure is not None or self.stop_on_compensation_failure:
            raise SagaDefinitionError(
                f"saga {self.name!r} is a step of another saga, whose deadline and compensation policy hold for all of it; "
                "set deadline, on_compensation_failure and stop_on_compensation_failure on the outer saga"
            )
        return self._whole(self.name)

    def _whole(self, name: str | None) -> Sequence:
        """Return the flow that was declared, and what was added to it."""
        declared = self.flow() if inspect.ismethod(self.flow) else self.flow
        first = () if declared is None else (bind(as_flow(declared, f"saga {self.name!r}: flow"), self),)
        return Sequence((*first, *(bind(flow, self) for flow in self._flows)), name)

    @property
    def codec(self) -> Codec:
        """How values are stored."""
        if self._codec is None:
            from saga.codec import Codec

            self._codec = Codec()
        return self._codec

    def execute(
        self,
        context: Context | Mapping[str, Any] | None = None,
        *,
        saga_id: str | None = None,
        store: Store | str | os.PathLike[str] | None = None,
    ) -> SagaResult:
        """Execute the saga and return its result.

        :param context: what the tasks share; empty where not given.
        :param saga_id: the execution's id; 128 random bits where not given. With a store it makes starting idempotent: a
            second start with the same id and the same input returns the first one's outcome, and waits for it if need be.
        :param store: where this execution is remembered; the saga's store where not given.
        :raises SagaDefinitionError: the saga is wrong; nothing has run.
        :raises SagaCompensationError: it failed and could not be wholly undone.
        :raises SagaExecutionException: it failed and was undone, except for steps that still run after their timeout.
        """
        return ok(self.try_execute(context, saga_id=saga_id, store=store))  # no local: see settle()

    def try_execute(
        self,
        context: Context | Mapping[str, Any] | None = None,
        *,
        saga_id: str | None = None,
        store: Store | str | os.PathLike[str] | None = None,
    ) -> SagaResult:
        """Execute the saga and return its result, failed or not.

        An interrupt (``KeyboardInterrupt``, ``SystemExit``, ...) is raised again after the undo.
        """
        if (self._plan or self.plan).asynchronous:
            return _run_async(self, self.atry_execute(context, saga_id=saga_id, store=store))
        execution = self._prepare(context, saga_id, store)
        if isinstance(execution, SagaResult):
            return execution
        execution.run()
        return self._settle(execution)

    async def aexecute(
        self,
        context: Context | Mapping[str, Any] | None = None,
        *,
        saga_id: str | None = None,
        store: Store | str | os.PathLike[str] | None = None,
    ) -> SagaResult:
        """Execute the saga in the running event loop: as :meth:`execute`.

        ``async def`` tasks are awaited, plain ones run in threads beside them. Cancelling this cancels the executes that run
        and undoes what has happened, to the end; then ``CancelledError`` is raised.
        """
        return ok(await self.atry_execute(context, saga_id=saga_id, store=store))  # no local: see settle()

    async def atry_execute(
        self,
        context: Context | Mapping[str, Any] | None = None,
        *,
        saga_id: str | None = None,
        store: Store | str | os.PathLike[str] | None = None,
    ) -> SagaResult:
        """Execute the saga in the running event loop and return its result, failed or not: as :meth:`try_execute`."""
        execution = await self._aprepare(context, saga_id, store)
        if isinstance(execution, SagaResult):
            return execution
        await execution.run()
        return self._settle(execution)

    async def astream(
        self,
        context: Context | Mapping[str, Any] | None = None,
        *,
        saga_id: str | None = None,
        store: Store | str | os.PathLike[str] | None = None,
    ) -> AsyncIterator[StepRecord]:
        """Execute the saga in the running event loop and yield records: as :meth:`stream`."""
        execution = await self._aprepare(context, saga_id, store)
        if isinstance(execution, SagaResult):  # another process has executed it
            for record in _ended_records(execution):
                yield record
            return
        told = 0
        going = True
        try:
            while going:
                going = await execution.run_one()
                for record in _records(execution, told):
                    told = len(execution.machine.events)
                    yield record
                told = len(execution.machine.events)
        except BaseException as left:
            if not execution.abandoned:
                await execution.leave(left)
            raise
        await execution.run()
        ok(self._settle(execution))

    def stream(
        self,
        context: Context | Mapping[str, Any] | None = None,
        *,
        saga_id: str | None = None,
        store: Store | str | os.PathLike[str] | None = None,
    ) -> Iterator[StepRecord]:
        """Execute the saga and yield a step's record each time one has ended, been skipped or been compensated.

        Steps run as the records are asked for. Leaving the loop early undoes what has happened.

        :raises SagaExecutionException: as :meth:`execute` does, after the last record.
        """
        if self.plan.asynchronous:
            raise SagaDefinitionError(f"saga {self.name!r} has async tasks: use `async for record in saga.astream(...)`")
        return self._stream(self._prepare(context, saga_id, store))

    def _stream(self, execution: Execution | SagaResult) -> Iterator[StepRecord]:
        if isinstance(execution, SagaResult):  # another process has executed it
            yield from _ended_records(execution)
            return
        told = 0
        going = True
        try:
            while going:
                going = execution.run_one()
                for record in _records(execution, told):
                    told = len(execution.machine.events)
                    yield record
                told = len(execution.machine.events)
        except BaseException as left:  # GeneratorExit, or an interrupt that struck between two steps
            if not execution.abandoned:
                execution.leave(left)
            raise
        execution.run()
        ok(self._settle(execution))

    def load(self, saga_id: str, *, store: Store | str | os.PathLike[str] | None = None) -> SagaResult:
        """Return a stored execution as it stands now, ended or not, with its context and history.

        :raises UnknownExecutionError: there is no such execution of this saga.
        :raises DefinitionChangedError: it was begun by a definition that is not compatible.
        :raises SagaDefinitionError: there is no store.
        """
        from saga.durable import load

        return load(self, saga_id, self._store(store))

    def _store(self, store: Store | str | os.PathLike[str] | None) -> Store:
        chosen = self.store if store is None else store
        if chosen is None:
            raise SagaDefinitionError(f"saga {self.name!r} has no store: {_GIVE_A_STORE}")
        from saga.storage.opened import store_of

        return store_of(chosen)

    def signal(
        self, saga_id: str, name: str, value: Any = None, *, store: Store | str | os.PathLike[str] | None = None
    ) -> None:
        """Send a signal to an execution that has a store: the step ``receive(name)`` there gets ``value`` as its result.

        An execution that runs gets it within two seconds; one that nobody runs, with the next recovery. It may come before
        the step that asks for it.

        :raises SagaDefinitionError: no step of the saga receives it, or there is no store.
        :raises EncodingError: the value cannot be stored. :raises UnknownExecutionError: there is no such execution.
        """
        known = [step.pause.signal for step in self.plan.steps if step.pause is not None and step.pause.signal is not None]
        if name not in known:
            raise SagaDefinitionError(f"saga {self.name!r} receives no signal {name!r}; signals: {', '.join(known) or 'none'}")
        from saga.journal import write_signal
        from saga.leases import keeper_of

        opened = self._store(store)
        opened.post(saga_id, write_signal(name, value, self.codec))
        keeper_of(opened).look(saga_id)

    def diagram(self, result: SagaResult | None = None) -> Diagram:
        """Return a picture of the saga, or of how an execution of it went: as SVG, and as text for Mermaid.

        :param result: of an execution of this saga.
        :raises SagaDefinitionError: the saga is wrong, or the result is not one of this saga as it is now.
        """
        from saga.diagram import Diagram

        return Diagram(self, result)

    def _repr_svg_(self) -> str | None:
        # What Jupyter shows. A saga that is wrong, or not finished yet, is shown as text.
        try:
            return self.diagram().svg()
        except SagaDefinitionError:
            return None

    def _prepare(
        self, context: Context | Mapping[str, Any] | None, saga_id: str | None, store: Store | str | os.PathLike[str] | None
    ) -> Execution | SagaResult:
        context, saga_id, store = self._inputs(context, saga_id, store)
        if store is None:
            return self._execution(Execution, self._machine(saga_id), context)
        from saga.durable import start

        return start(self, Execution, context, saga_id, store)

    async def _aprepare(
        self, context: Context | Mapping[str, Any] | None, saga_id: str | None, store: Store | str | os.PathLike[str] | None
    ) -> AsyncExecution | SagaResult:
        from saga.drivers.aio import AsyncExecution

        context, saga_id, store = self._inputs(context, saga_id, store)
        if store is None:
            return self._execution(AsyncExecution, self._machine(saga_id), context)
        from saga.durable import astart

        return await astart(self, context, saga_id, store)

    def _inputs(
        self, context: Context | Mapping[str, Any] | None, saga_id: str | None, store: Store | str | os.PathLike[str] | None
    ) -> tuple[Context, str, Store | str | os.PathLike[str] | None]:
        plan = self._plan or self.plan
        if context is None:
            context = object.__new__(Context)  # Context() would begin it too
        elif not isinstance(context, Context):
            if not isinstance(context, Mapping):
                raise SagaDefinitionError(
                    f"saga {self.name!r}: the context is {context!r} ({type(context).__name__}); give a Context or a mapping"
                )
            context = Context(context)
        if saga_id is None:
            saga_id = os.urandom(16).hex()
        elif not isinstance(saga_id, str) or not saga_id:
            raise SagaDefinitionError(f"saga {self.name!r}: saga_id is {saga_id!r}; give a non-empty string")
        store = self.store if store is None else store
        if plan.receives and store is None:
            raise SagaDefinitionError(f"saga {self.name!r} receives signals, which need a store: {_GIVE_A_STORE}")
        context._begin(plan, saga_id)
        return context, saga_id, store

    def _machine(self, saga_id: str) -> Machine:
        return Machine(
            self._plan or self.plan, self.name, saga_id, stop_on_compensation_failure=self.stop_on_compensation_failure
        )

    def _execution(
        self, driver: type[D], machine: Machine, context: Context, journal: Journal | None = None, views: Views | None = None
    ) -> D:
        observers = self.observers
        if observers:
            observers = tuple([observer for observer in observers if _listens(observer)])
        return driver(
            machine,
            context,
            ExecutionInfo(self.name, machine.saga_id, context) if observers else None,
            observers,
            self.deadline,
            self.on_compensation_failure,
            journal,
            views,
        )

    def _settle(self, execution: Driver) -> SagaResult:
        result = settle(execution)
        if execution.interrupt is not None:
            execution.interrupt.add_note(result.report())
            raise execution.interrupt
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _observers(name: str, logger: Observer | Iterable[Observer] | None) -> tuple[Observer, ...]:
    if logger is None:
        return ()
    observers = (logger,) if callable(logger) else tuple(logger) if isinstance(logger, Iterable) else (logger,)
    for observer in observers:
        if not callable(observer):
            raise SagaDefinitionError(
                f"saga {name!r}: logger has {observer!r}; give a SagaLogger or a function of (event, info)"
            )
    return observers


def _listens(observer: Observer) -> bool:
    """Ask an observer that has an answer whether it would do anything now."""
    listening = getattr(observer, "listening", None)
    if not callable(listening):
        return True
    try:
        return bool(listening())
    except Exception:
        return True  # it is reported when it raises on an event


def settle(execution: Driver) -> SagaResult:
    """Return the result of an execution that has run."""
    left = execution.left
    if left is None:
        machine = execution.machine
        # The error's traceback has frames, those have callers, and those know the execution. If it still knew the machine,
        # which knows the error, every failure would be a cycle of references, for the garbage collector to take apart.
        del execution.machine
        return SagaResult(machine, execution.context)

    def again(timeout: float | None) -> SagaResult | None:
        assert execution.ended is not None
        if not execution.ended.wait(timeout):
            return None
        if execution.unstored is not None:
            raise execution.unstored
        result = SagaResult(execution.machine, execution.context)
        if execution.interrupt is not None and execution.interrupt is not raised:
            execution.interrupt.add_note(result.report())
            raise execution.interrupt
        return result

    raised = execution.interrupt

    return SagaResult(left, execution.context, again)


def ok(result: SagaResult) -> SagaResult:
    """Return the result of an execution that ended well, or goes on beside a straggler nobody waits for.

    :raises SagaExecutionException: it failed.
    """
    if result.ok or (result.status is Status.RUNNING and result.error is None):
        return result
    raise failure_of(result)  # no local has it: see settle()


def failure_of(result: SagaResult) -> SagaExecutionException:
    """Return the exception that tells of an execution that failed."""
    kind = SagaCompensationError if result.compensation_errors else SagaExecutionException
    failure = kind(result=result)
    failure.__cause__ = result.error
    return failure


_GIVE_A_STORE = "give one here or to Saga(store=...)"
_TOLD = (StepSucceeded, StepFailed, StepTimedOut, StepSkipped, CompensationSucceeded, CompensationFailed)


def _ended_records(result: SagaResult) -> Iterator[StepRecord]:
    yield from (record for record in result.history if record.status is not StepStatus.PENDING)
    ok(result)


def _run_async(saga: Saga, work: Coroutine[Any, Any, SagaResult]) -> SagaResult:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise SagaDefinitionError(f"saga {saga.name!r} has async tasks and an event loop runs: use `await saga.aexecute(...)`")
    return asyncio.run(work)


def _records(execution: Driver, since: int) -> list[StepRecord]:
    machine = execution.machine
    events = list(machine.events)
    names = [event.step for event in events[since:] if isinstance(event, _TOLD)]
    records = fold_history(machine.plan, events) if names else {}
    return [records[name] for name in dict.fromkeys(names)]
