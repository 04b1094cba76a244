"""The context: what the tasks of one execution share, and what ties it to the execution. No engine lives here.

The engine works on *views* of a context (see :mod:`saga.drivers.views`). Each has a :class:`Binding`, in a slot of its own, so
that a context's ``__dict__`` holds the user's keys alone.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar, overload

from saga.content import Copies, isolated
from saga.errors import ContextKeyError, SagaDefinitionError, near
from saga.task import StepInfo, Task

if TYPE_CHECKING:
    from threading import Event as Flag
    from weakref import ReferenceType

    from saga.drivers.outcomes import Outcomes
    from saga.machine.commands import Call
    from saga.machine.plan import Plan

__all__ = ["ITS_OWN", "Binding", "ClosedContext", "Context", "ContextLike", "Ctx", "Ctx_co", "set_binding"]

T = TypeVar("T")


ITS_OWN: Final = object()
"""Who uses a view that was made for its execution, or for one call of it: nobody else has it, so nobody is looked for."""


class Binding:
    """What an execution keeps of a view of its context, beside the user's keys.

    :ivar plan: the compiled flow, ``None`` outside an execution.
    :ivar saga: the saga's name.
    :ivar saga_id: the execution's id.
    :ivar results: what the steps returned, by name.
    :ivar previous: the result of the step before.
    :ivar call: the call that runs.
    :ivar deadline: seconds since the epoch when it is timed out, or ``None``.
    :ivar cancelled: tells that nobody waits for the call any more.
    :ivar made: the tasks that a resolver made last, by their steps' names; all views of an execution share it.
    :ivar recorded: each key's value and text as they are in the journal; ``None`` where the execution has no store.
    :ivar connection: that of the transaction that the running call is made in.
    :ivar user: who runs the execution, as long as it is not over.
    :ivar within: the binding that it took the place of, where
        that one's execution is not over either: see :mod:`saga.in_use`.
    :ivar run: of a compensation, or another attempt, what knows what came before it.
    :ivar rounds: by step: how often the saga has come to it, where what followed another step was undone on request.
    :ivar copies: of a fork, what in it is a copy of what; ``None`` where it was read from texts.
    """

    # Most views never have another value than these.
    previous: Any = None
    call: Call | None = None
    deadline: float | None = None
    cancelled: Flag | None = None
    made: dict[str, Any] | None = None
    recorded: dict[str, tuple[Any, str]] | None = None
    copies: Copies | None = None
    run: ReferenceType[Outcomes] | None = None
    rounds: dict[str, int] | None = None
    connection: Any = None
    user: object = None
    within: Binding | None = None

    def __init__(self, plan: Plan | None, saga: str, saga_id: str) -> None:
        self.plan = plan
        self.saga = saga
        self.saga_id = saga_id
        self.results: dict[str, Any] = {}

    def limit(self, deadline: float | None, cancelled: Flag | None) -> None:
        """Say when the call is timed out, and what tells it that nobody waits any more."""
        self.deadline = deadline
        self.cancelled = cancelled

    def take_result(self, step: str, value: Any) -> None:
        """Take note of what a step returned."""
        self.results[step] = value
        self.previous = value

    def take_made(self, task: Any) -> None:
        """Take note of the task that a resolver has made for the running call."""
        if self.call is not None:
            self.made = {} if self.made is None else self.made
            self.made[self.call.step.name] = task

    def step_info(self) -> StepInfo:
        """Return what the running call may know about itself.

        :raises RuntimeError: no call runs.
        """
        if self.call is None:
            raise RuntimeError("context.step is there only while a task runs in a saga")
        info = self._info(self.call.step.name, self.call.attempt)
        if self.run is not None and (run := self.run()) is not None:
            run.inform(self.call, info)
        info._connection = self.connection
        item = self.call.step.item
        if item is not None:
            info._item = lambda: self._given_out(item)
        return info

    def _info(self, step: str, attempt: int) -> StepInfo:
        info = StepInfo(self.saga, self.saga_id, step, attempt, self.deadline, self.cancelled)
        if self.rounds is not None:
            info.round = self.rounds.get(step, 1)
        return info

    def key_of(self, step: str) -> str:
        """Return the idempotency key of a step."""
        return self._info(step, 1).idempotency_key

    def previous_result(self) -> Any:
        """Return the result of the step before, as a caller gets it."""
        return self._given_out(self.previous)

    def own_result(self) -> Any:
        """Return the result of the running call's own step, as a caller gets it; ``None`` where it has none."""
        return self._given_out(self.results.get(self.step_info().name))

    def result_of(self, step: Any) -> Any:
        """Return the result of a step, as a caller gets it: see :meth:`Context.result_of`."""
        plan = self.plan
        if isinstance(step, str) and step in self.results:
            return self._given_out(self.results[step])
        names = [step] if isinstance(step, str) and plan is None else plan.find(step) if plan else []
        if len(names) > 1 and self.call is not None:
            names = _in_its_branch(names, self.call.step.within)
        if len(names) > 1:
            raise ContextKeyError(f"{len(names)} steps match {_name_of(step)}: {', '.join(names)}; ask by name")
        if not names:
            known = plan.names if plan else ()
            wanted = _name_of(step)
            if isinstance(step, type) and wanted in known:
                raise ContextKeyError(
                    f"no step is of class {wanted}: the step of that name has another; ask by name: {wanted!r}"
                )
            raise ContextKeyError(f"no step matches {wanted}{near(wanted, known)}; steps: {', '.join(known) or 'none'}")
        if names[0] not in self.results:
            raise ContextKeyError(f"step {names[0]!r} has no result: it has not succeeded (yet)")
        return self._given_out(self.results[names[0]])

    def _given_out(self, result: Any) -> Any:
        # A copy, where a recovery would read it from a store.
        return result if self.recorded is None else isolated(result, {})

    def forked(self) -> Binding:
        """Return the binding of a fork of the view."""
        twin = self.shared()
        twin.results = dict(self.results)
        if self.recorded is not None:
            twin.recorded = dict(self.recorded)
        return twin

    def shared(self) -> Binding:
        """Return the binding of one more call on the view, at the same time: with a call of its own."""
        twin = Binding(self.plan, self.saga, self.saga_id)
        twin.results, twin.previous, twin.recorded = self.results, self.previous, self.recorded
        twin.run, twin.rounds = self.run, self.rounds
        twin.made = self.made = {} if self.made is None else self.made
        twin.user = ITS_OWN
        return twin


def _in_its_branch(names: list[str], branches: tuple[str, ...]) -> list[str]:
    """Return those of several steps that are done for the same item as the running one, where there are such."""
    for branch in reversed(branches):
        own = [name for name in names if name == branch or name.startswith(f"{branch}/")]
        if own:
            return own
    return names


def _name_of(step: Any) -> str:
    return step if isinstance(step, str) else step.__name__ if isinstance(step, type) else repr(step)


class _Slots:
    # In a slot, so that ``__dict__`` holds the user's keys alone.
    __slots__ = ("__binding__",)

    __binding__: Binding


set_binding = _Slots.__dict__["__binding__"].__set__  # Context.__setattr__ is for the user's keys, and costs more


class _Unbound(Binding):
    """What all contexts outside executions share: what one of them set there would be every other's, too."""

    def __init__(self) -> None:
        vars(self).update(plan=None, saga="", saga_id="", results=MappingProxyType({}))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a context outside an execution has no {name}")


_UNBOUND: Final = _Unbound()


class Context(_Slots, MutableMapping[str, Any]):
    """A mutable mapping whose keys are attributes too: ``context["total"]`` is ``context.total``.

    Subclass it with ``@dataclass`` to give the keys types. Names of the mapping's own methods (``items``, ``get``, ...) and
    ``step`` and ``result_of`` cannot be keys.
    """

    __finished__: ClassVar[bool]  #: of a subclass: its objects have the keys that it names

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("__slots__"):
            raise SagaDefinitionError(f"{cls.__name__}: a context keeps its keys in __dict__; leave out slots")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        if cls is not Context and "__finished__" not in cls.__dict__:
            _refuse_unfinished(cls)
        self = super().__new__(cls)
        set_binding(self, _UNBOUND)
        return self

    def __init__(self, values: Mapping[str, Any] | None = None, /, **keys: Any) -> None:
        if values is not None and not isinstance(values, Mapping):
            raise SagaDefinitionError(f"Context: values is {values!r} ({type(values).__name__}); give a mapping, or key=value")
        if values or keys:
            self.update(values or {}, **keys)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in _RESERVED:
            raise ContextKeyError(f"{key!r} is an attribute of Context itself, so it cannot be a key; use {key + '_'!r}")
        object.__setattr__(self, key, value)

    def __getattr__(self, key: str) -> Any:
        # Only reached where the normal look-up failed. Dunder look-ups (copy, pickle, ...) want a plain AttributeError.
        if key.startswith("__"):
            raise AttributeError(key)
        raise ContextKeyError(missing=key, known=self.__dict__)

    def __delattr__(self, key: str) -> None:
        del self[key]

    def __getitem__(self, key: str) -> Any:
        try:
            return self.__dict__[key]
        except KeyError:
            raise ContextKeyError(missing=key, known=self.__dict__) from None

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise ContextKeyError(f"a context key is a string, not {key!r} ({type(key).__name__})")
        if key in _RESERVED:
            self.__setattr__(key, value)  # says why not
        self.__dict__[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self.__dict__:
            raise ContextKeyError(missing=key, known=self.__dict__)
        del self.__dict__[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __contains__(self, key: object) -> bool:
        return key in self.__dict__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Context):
            return self.__dict__ == other.__dict__
        return self.__dict__ == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.__dict__.items())})"

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), dict(self.__dict__)))

    @property
    def step(self) -> StepInfo:
        """The running call: saga and its id, step name, attempt, idempotency key, deadline, what came before it."""
        return self.__binding__.step_info()

    @overload
    def result_of(self, step: type[Task[T]], /) -> T: ...
    @overload
    def result_of(self, step: Task[T], /) -> T: ...
    @overload
    def result_of(self, step: str, /) -> Any: ...
    def result_of(self, step: Any, /) -> Any:
        """Return what a step's ``execute`` returned.

        :param step: the task's class, the task, or the step's name.
        :raises ContextKeyError: where no such step exists, or it has no result (yet).
        """
        return self.__binding__.result_of(step)


class ClosedContext(Context):
    """A context whose keys are its fields: a ``@dataclass`` subclass has those that it names, and takes no others.

    What is misspelt is found by a type checker, where it is read and where it is written; and where it is written, when it is
    executed: :class:`~saga.errors.ContextKeyError`. In a plain :class:`Context`, any name is a key.
    """

    if TYPE_CHECKING:
        __getattr__: None  # type: ignore[misc, assignment]  # so that a checker knows no attribute but those declared
        __setattr__: None  # type: ignore[misc, assignment]
    else:

        def __setattr__(self, key: str, value: Any) -> None:
            _check_declared(type(self), key)
            super().__setattr__(key, value)

    def __setitem__(self, key: str, value: Any) -> None:
        _check_declared(type(self), key)
        super().__setitem__(key, value)


def _check_declared(kind: type, key: object) -> None:
    if not is_dataclass(kind):
        raise SagaDefinitionError(f"{kind.__name__} is a ClosedContext, whose keys are its fields; decorate it with @dataclass")
    known = [field.name for field in fields(kind)]
    if key not in known and not isinstance(inspect.getattr_static(kind, str(key), None), property):
        fault = f"{kind.__name__} has no field {key!r}{near(str(key), known)}"
        raise ContextKeyError(f"{fault}; fields: {', '.join(known) or 'none'}")


ContextLike = Context | Mapping[str, Any] | None
"""What an execution can be given as its context."""

if TYPE_CHECKING:  # a checker knows what a default is before every Python does: ``Saga`` is ``Saga[Context]``
    import typing_extensions

    Ctx = typing_extensions.TypeVar("Ctx", bound=Context, default=Context)
    Ctx_co = typing_extensions.TypeVar("Ctx_co", bound=Context, default=Context, covariant=True)
else:
    Ctx = TypeVar("Ctx", bound=Context)
    Ctx_co = TypeVar("Ctx_co", bound=Context, covariant=True)

_RESERVED = frozenset(name for name in dir(Context) if not name.startswith("_")) | {"__binding__", "__orig_class__"}  # typing's


def _refuse_unfinished(cls: type[Context]) -> None:
    """Refuse a class that names keys and does nothing with them: what stands in a class alone is in no context and no store.

    :raises SagaDefinitionError: it lacks ``@dataclass``.
    """
    for kind in cls.__mro__:
        if issubclass(kind, Context) and not {"__dataclass_fields__", "__init__"} & vars(kind).keys():
            keys = ", ".join(key for key, hint in _annotations_of(kind).items() if "ClassVar" not in str(hint))
            if keys:
                raise SagaDefinitionError(f"{kind.__name__} names keys ({keys}) and is no dataclass; write @dataclass above it")
    cls.__finished__ = True


def _annotations_of(kind: type) -> dict[str, Any]:
    if sys.version_info < (3, 14):
        return inspect.get_annotations(kind)
    library: Any = import_module("annotationlib")
    found: dict[str, Any] = library.get_annotations(kind, format=library.Format.STRING)  # no name in them need be there
    return found


def _rebuild(kind: type[Context], values: dict[str, Any]) -> Context:
    context = kind.__new__(kind)
    context.__dict__.update(values)
    return context
