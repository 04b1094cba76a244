"""Definitions: all that an execution is run by. A saga makes one, a block makes one; nothing below them knows either."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from saga.context import Binding, Context, ContextLike, set_binding
from saga.errors import SagaDefinitionError
from saga.events import Event
from saga.machine import Machine, Plan, PlannedStep, check_timeout
from saga.names import checked_name

if TYPE_CHECKING:
    from saga.durable.codec import Codec
    from saga.storage.protocol import StoreLike

__all__ = [
    "GIVE_A_STORE",
    "NO_PLAN",
    "Around",
    "CompensationFailureHandler",
    "Definition",
    "ExecutionInfo",
    "Observer",
    "inputs",
    "observers_of",
]


GIVE_A_STORE: Final = "give one here or to Saga(store=...)"
NO_PLAN: Final = Plan("")
"""The plan of nothing."""


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """Which execution an event belongs to: given to observers with each event.

    :ivar saga: the saga's name; :ivar saga_id: the execution's id.
    :ivar context: the execution's context, for observers that show some of its keys.
    :ivar plan: the steps that are executed; a block's grow.
    """

    saga: str
    saga_id: str
    context: Context
    plan: Plan = NO_PLAN

    def step(self, name: str) -> PlannedStep:
        """Return the step of an event: its ``task``, and its policies (``retry``, ``timeout``, ``in_doubt``, ...).

        :raises SagaDefinitionError: there is none of that name.
        """
        return self.plan.step(name)


Observer = Callable[[Event, ExecutionInfo], None]
"""Called with each event, once that is stored, if it is; one with ``around`` surrounds calls too: :class:`Around`."""

CompensationFailureHandler = Callable[[Context, str, BaseException], None]


class Around(Protocol):
    """An observer that surrounds each call with a context manager, such as a trace's span."""

    def around(self, info: ExecutionInfo, step: PlannedStep, attempt: int, phase: str) -> AbstractContextManager[Any] | None:
        """Return what is entered in the thread or task that makes the call, just before it, and left just after.

        Whatever it does, the call is made, and its outcome is its own: what this raises is logged, once.

        :param attempt: counts from 1; :param phase: ``"execute"``, ``"verify"`` or ``"compensate"``.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """All that an execution is run by.

    :ivar name: the saga's name; :ivar version: see :class:`saga.Saga`.
    :ivar plan: the compiled flow.
    :ivar timeout: seconds an execution may go forward.
    :ivar stop_on_compensation_failure: a compensation that failed for good leaves the others as they are.
    :ivar on_compensation_failure: called with context, step name and error when a compensation failed for good.
    :ivar observers: called with each event.
    :ivar codec: how values are stored; ``None`` for the default one.
    :ivar compatible_with: the versions whose executions this one can finish, whatever their plans are.
    :ivar lease: seconds after which a process that died is taken to have died.
    """

    name: str
    plan: Plan
    version: str = "1"
    timeout: float | None = None
    stop_on_compensation_failure: bool = False
    on_compensation_failure: CompensationFailureHandler | None = None
    observers: tuple[Observer, ...] = ()
    codec: Codec | None = None
    compatible_with: frozenset[str] = frozenset()
    lease: float = 30.0

    def check(self) -> None:
        """Refuse what is wrong. Names become plain strings.

        :raises SagaDefinitionError: the text says what.
        """
        name = checked_name(self.name, "the saga's name")
        version = checked_name(self.version, f"saga {name!r}: version")
        compatible = frozenset(checked_name(one, f"saga {name!r}: one of compatible_with") for one in self.compatible_with)
        for attribute, plain in (("name", name), ("version", version), ("compatible_with", compatible)):
            object.__setattr__(self, attribute, plain)
        check_timeout(self.timeout, f"saga {name!r}: timeout")
        check_timeout(self.lease, f"saga {name!r}: lease")
        if self.on_compensation_failure is not None and not callable(self.on_compensation_failure):
            raise SagaDefinitionError(
                f"saga {name!r}: on_compensation_failure is {self.on_compensation_failure!r}; give a function of "
                "(context, step name, error)"
            )

    def machine(self, saga_id: str) -> Machine:
        """Return the machine of a new execution."""
        plan = self.plan.for_execution() if self.plan.open else self.plan
        return Machine(plan, self.name, saga_id, self.stop_on_compensation_failure)

    def __repr__(self) -> str:
        return f"<definition of saga {self.name!r}, version {self.version!r}>"


def observers_of(
    saga: str, logger: Observer | Iterable[Observer] | None, more: Observer | Iterable[Observer] | None
) -> tuple[Observer, ...]:
    """Return every observer.

    :raises SagaDefinitionError: one cannot be called with an event and what it belongs to.
    """
    found: list[Observer] = []
    for what, given in (("logger", logger), ("observers", more)):
        if given is None:
            continue
        one = callable(given) or isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable)
        observers = cast(tuple[Observer, ...], (given,) if one else tuple(cast(Iterable[Observer], given)))
        for observer in observers:
            wrong = _wrong_observer(observer)
            if wrong is not None:
                raise SagaDefinitionError(f"saga {saga!r}: {what} has {observer!r}{wrong}")
        found += observers
    return tuple(found)


def _wrong_observer(observer: object) -> str | None:
    """Return what is to be said of an observer that is none, or ``None``."""
    if isinstance(observer, type):
        return f", a class; give an object of it, {observer.__name__}(...)"
    if not callable(observer):
        logger = "SagaLogger(...) of it," if callable(getattr(observer, "log", None)) else "a SagaLogger"
        return f"; give {logger} or a function of (event, info)"
    code = getattr(observer if isinstance(observer, FunctionType) else type(observer).__call__, "__code__", None)
    taken = 2 if isinstance(observer, FunctionType) else 3
    if code is not None and code.co_argcount == taken and not code.co_kwonlyargcount:
        return None  # nearly all of them
    try:
        inspect.signature(observer).bind(None, None)
    except TypeError as error:
        return f", which cannot be called with (event, info): {error}"
    except ValueError:
        pass  # some built-ins tell no signature
    return None


def inputs(
    definition: Definition, context: ContextLike, saga_id: str | None, store: StoreLike | None
) -> tuple[Context, str, StoreLike | None]:
    """Return the context of a new execution, bound to it, its id, and its store.

    :raises SagaDefinitionError: one is wrong.
    """
    if context is None:
        context = object.__new__(Context)  # its binding follows
    elif not isinstance(context, Context):
        if not isinstance(context, Mapping):
            raise SagaDefinitionError(
                f"saga {definition.name!r}: the context is {context!r} ({type(context).__name__}); give a Context or a mapping"
            )
        context = Context(context)
    named = f"saga {definition.name!r}: saga_id"
    saga_id = os.urandom(16).hex() if saga_id is None else checked_name(saga_id, named)
    if store is None and definition.plan.receives:
        raise SagaDefinitionError(f"saga {definition.name!r} receives signals, which need a store: {GIVE_A_STORE}")
    set_binding(context, Binding(definition.plan, definition.name, saga_id))
    return context, saga_id, store
