"""Definitions: all that an execution is run by. A saga makes one, a block makes one; nothing below them knows either."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from saga.awaitables import check_callable, refuse_unrun
from saga.context import Binding, Context, ContextLike, set_binding
from saga.errors import SagaDefinitionError, near
from saga.events import Event, Status
from saga.machine import WITH_A_DATABASE, WITH_ASYNC_CONNECTIONS, Machine, Plan, PlannedStep
from saga.names import checked_id, checked_name, several
from saga.policy import needed_seconds, seconds_of
from saga.turns import check_turns
from saga.typed_context import check_kind, context_of

if TYPE_CHECKING:
    from uuid import UUID

    from saga.durable.codec import Codec
    from saga.storage.protocol import StoreLike

__all__ = [
    "GIVE_A_STORE",
    "NO_PLAN",
    "Around",
    "CompensationFailureHandler",
    "ContextFunction",
    "Definition",
    "ExecutionInfo",
    "Observer",
    "Stints",
    "as_context",
    "check_codec",
    "definitions_of",
    "inputs",
]


GIVE_A_STORE: Final = "give one here or to Saga(store=...)"
NO_PLAN: Final = Plan("")
"""The plan of nothing."""


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """Which execution an event belongs to: given to observers with each event.

    :ivar saga: the saga's name.
    :ivar saga_id: the execution's id.
    :ivar context: the execution's context, for observers that show some of its keys.
    :ivar plan: the steps that are executed; a block's grow.
    """

    saga: str
    saga_id: str
    context: Context
    plan: Plan = NO_PLAN
    _so_far: Callable[[], Sequence[Event]] = field(default=tuple, repr=False, compare=False)

    @property
    def events(self) -> Sequence[Event]:
        """What has happened so far, in order, in processes before this one too. It is known while the execution runs here."""
        return self._so_far()

    def step(self, name: str) -> PlannedStep:
        """Return the step of an event: its ``task``, and its policies (``retry``, ``timeout``, ``in_doubt``, ...).

        :raises SagaDefinitionError: there is none of that name.
        """
        return self.plan.step(name)


Observer = Callable[[Event, ExecutionInfo], None]
"""Called with each event, once that is stored, if it is. It may have methods: see :class:`Around` and :class:`Stints`."""

ContextFunction = Callable[[Any], Any]
"""What an execution's input comes to: a function of its context."""

CompensationFailureHandler = Callable[[Context, str, BaseException], None]


class Around(Protocol):
    """An observer that surrounds each call with a context manager, such as a trace's span."""

    def around(self, info: ExecutionInfo, step: PlannedStep, attempt: int, phase: str) -> AbstractContextManager[Any] | None:
        """Return what is entered in the thread or task that makes the call, just before it, and left just after.

        Whatever it does, the call is made, and its outcome is its own: what this raises is logged, once.

        :param attempt: counts from 1.
        :param phase: ``"execute"``, ``"verify"`` or ``"compensate"``.
        """


class Stints(Protocol):
    """An observer that follows an execution through processes. Each has it for a *stint*: from when it begins there, or is
    taken up, until it has ended, waits in its store or is left to another.

    Each of these methods may be missing: what only ``__getattr__`` answers to is. Whatever they do, the execution goes on: what
    they raise, ``SystemExit`` too, is logged. A Ctrl-C that strikes in one is raised: in the first two before anything begins.
    """

    def stint(self, info: ExecutionInfo) -> Observer | None:
        """Return what observes the execution in this stint, in place of this observer; ``None``: itself does.

        It is called before anything of the stint is stored, in the thread or task that begins the execution, and what it
        returns may have ``around``, ``carry`` and ``ended``. Of what never begins here (its id was known) no more is heard.
        """

    def carry(self) -> Mapping[str, str] | None:
        """Return what other processes are to know: it is stored, as ``carried`` of the event that tells of it.

        It is called where an execution is submitted or a signal is sent, in the thread or task that does, and at the beginning
        of a stint where there is a store. The keys of all observers are kept together: begin them with a name.
        """

    def ended(self, status: Status, error: BaseException | None) -> None:
        """Take that the stint is over: where the execution stands, and what broke the stint off, if anything did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """All that an execution is run by.

    :ivar name: the saga's name.
    :ivar version: see :class:`saga.Saga`.
    :ivar plan: the compiled flow.
    :ivar context: the class of its contexts; ``None``: any will do.
    :ivar timeout: seconds an execution may go forward.
    :ivar stop_on_compensation_failure: a compensation that failed for good leaves the others as they are.
    :ivar on_compensation_failure: called with context, step name and error when a compensation failed for good.
    :ivar observers: called with each event.
    :ivar codec: how values are stored; ``None`` for the default one.
    :ivar compatible_with: the versions whose executions this one can finish, whatever their plans are.
    :ivar lease: seconds after which a process that died is taken to have died.
    :ivar undoable_for: seconds for which a completed execution can be undone on request; ``None`` for no limit.
    :ivar limit: how many executions may be in hand at once, over all workers.
    :ivar rate: how many may be begun in a second.
    :ivar exclusive: returns, for a context, the key that one execution has at a time.
    :ivar tags: returns, for a context, what an execution is found by.
    """

    name: str
    plan: Plan
    version: str = "1"
    context: type[Context] | None = None
    timeout: float | None = None
    stop_on_compensation_failure: bool = False
    on_compensation_failure: CompensationFailureHandler | None = None
    observers: tuple[Observer, ...] = ()
    codec: Codec | None = None
    compatible_with: frozenset[str] = frozenset()
    lease: float = 30.0
    undoable_for: float | None = None
    limit: int | None = None
    rate: float | None = None
    exclusive: ContextFunction | None = None
    tags: ContextFunction | Iterable[str] | None = None

    def check(self) -> None:
        """Refuse what is wrong. Names become plain strings.

        :raises SagaDefinitionError: the text says what.
        """
        name = checked_name(self.name, "the saga's name")
        version = checked_name(self.version, f"saga {name!r}: version")
        compatible = frozenset(checked_name(one, f"saga {name!r}: one of compatible_with") for one in self.compatible_with)
        for attribute, plain in (("name", name), ("version", version), ("compatible_with", compatible)):
            object.__setattr__(self, attribute, plain)
        object.__setattr__(self, "timeout", seconds_of(self.timeout, f"saga {name!r}: timeout"))
        object.__setattr__(self, "lease", needed_seconds(self.lease, f"saga {name!r}: lease"))
        if not isinstance(self.stop_on_compensation_failure, bool):
            given = self.stop_on_compensation_failure
            raise SagaDefinitionError(f"saga {name!r}: stop_on_compensation_failure is {given!r}; give a bool")
        check_codec(self.codec, f"saga {name!r}: codec")
        check_kind(self.context, f"saga {name!r}: context")
        if self.on_compensation_failure is not None:
            check_callable(
                self.on_compensation_failure, f"saga {name!r}: on_compensation_failure", "(context, step name, error)", 3
            )
        where = f"saga {name!r}: on_compensation_failure"
        refuse_unrun(self.on_compensation_failure, where, "give a plain function of (context, step name, error)")
        check_turns(self)

    @property
    def in_line(self) -> bool:
        """Whether an execution may have to wait until it is its turn to begin."""
        return self.limit is not None or self.rate is not None or self.exclusive is not None

    def machine(self, saga_id: str) -> Machine:
        """Return the machine of a new execution."""
        plan = self.plan.for_execution() if self.plan.grows else self.plan
        return Machine(plan, self.name, saga_id, self.stop_on_compensation_failure)

    def __repr__(self) -> str:
        return f"<definition of saga {self.name!r}, version {self.version!r}>"


def check_codec(codec: object, what: str) -> None:
    """Refuse what is neither ``None`` nor a codec.

    :raises SagaDefinitionError: with ``what`` in the text.
    """
    methods = (getattr(codec, name, None) for name in ("encode", "decode"))
    if codec is not None and (isinstance(codec, type) or not all(map(callable, methods))):
        raise SagaDefinitionError(f"{what} is {codec!r}; give a Codec(), of saga.durable.codec")


def definitions_of(sagas: object, what: str) -> list[Definition]:
    """Return the definitions of some sagas.

    :param what: what they are given as, for the error.
    :raises SagaDefinitionError: one is no saga, or is wrong.
    """
    found = []
    for saga in several(sagas, what):
        if isinstance(saga, type) or not hasattr(type(saga), "definition"):
            instead = f"give an object of it, {saga.__name__}()" if isinstance(saga, type) else "give sagas"
            raise SagaDefinitionError(f"{what} has {saga!r}, which is no saga; {instead}")
        found.append(saga.definition)
    return found


def as_context(
    context: ContextLike, saga: str, kind: type[Context] | None = None, needs: Mapping[str, str] = MappingProxyType({})
) -> Context:
    """Return a context: the one that was given, or one of a mapping, or an empty one.

    :param kind: the class that it has to be of.
    :param needs: the keys that it has to have, each with the step that requires it.
    :raises SagaDefinitionError: it is none of these, not as its class says, or lacks a key.
    """
    if kind is not None:
        context = context_of(kind, context, saga)
    elif context is None:
        context = object.__new__(Context)  # its binding follows
    elif not isinstance(context, Mapping):
        given = f"the class {context.__name__}" if isinstance(context, type) else f"{context!r} ({type(context).__name__})"
        instead = f"an object of it, {context.__name__}(...)" if isinstance(context, type) else "a Context or a mapping"
        raise SagaDefinitionError(f"saga {saga!r}: the context is {given}; give {instead}")
    elif not isinstance(context, Context):
        context = Context(context)
    if needs:
        lacking = [key for key in needs if key not in context]
        if lacking:
            said = ", ".join(f"{key!r}, which step {needs[key]!r} requires and no step before provides" for key in lacking)
            hint = "".join(near(key, context) for key in lacking)
            raise SagaDefinitionError(f"saga {saga!r}: the context lacks {said}{hint}")
    return context


def check_transacts(definition: Definition, store: StoreLike | None) -> None:
    """Refuse a saga with transactional steps where there is no database for them.

    What a path and a URL stand for is seen when it is open.

    :raises SagaDefinitionError: the store has none, or no asynchronous connections for coroutine functions.
    """
    step = definition.plan.transacts
    if step is None or isinstance(store, str | os.PathLike):
        return
    wrong = None
    if not getattr(store, "transacts", False):
        wrong = f"which needs {WITH_A_DATABASE}"
    elif definition.plan.transacts_async is not None and not getattr(store, "transacts_async", False):
        step, wrong = definition.plan.transacts_async, f"and {WITH_ASYNC_CONNECTIONS}"
    if wrong is not None:
        raise SagaDefinitionError(f"saga {definition.name!r}: step {step.name!r} is transactional, {wrong}")


def _why_a_store(definition: Definition) -> str:
    """Return what of a definition needs a store."""
    if definition.plan.asks is not None:
        return f"asks a person when step {definition.plan.asks.name!r} fails, which needs a store"
    if definition.plan.receives:
        return "receives signals, which need a store"
    what = ", ".join(one for one in ("limit", "rate", "exclusive") if getattr(definition, one) is not None)
    return f"has {what}, which a store keeps"


def inputs(
    definition: Definition, context: ContextLike, saga_id: str | UUID | None, store: StoreLike | None
) -> tuple[Context, str, StoreLike | None, Binding]:
    """Return the context of a new execution, its id, its store, and what its context is to be bound to.

    A context that was made here is bound already; one that was given is not touched yet.

    :raises SagaDefinitionError: one is wrong.
    """
    plan = definition.plan
    new = context is None or not isinstance(context, Context)
    context = as_context(context, definition.name, definition.context, plan.needs)
    saga_id = os.urandom(16).hex() if saga_id is None else checked_id(saga_id, f"saga {definition.name!r}: saga_id")
    if store is None and (plan.receives or plan.asks is not None or definition.in_line):
        raise SagaDefinitionError(f"saga {definition.name!r} {_why_a_store(definition)}: {GIVE_A_STORE}")
    if plan.transacts is not None:
        check_transacts(definition, store)
    binding = Binding(plan, definition.name, saga_id)
    if new:
        set_binding(context, binding)
    return context, saga_id, store, binding
