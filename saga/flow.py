"""Flows: steps composed in sequence and in parallel, as pure data. Compiling them is :mod:`saga.plan`'s work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, Unpack, overload

from saga.errors import SagaDefinitionError
from saga.policy import Compensate, InDoubt, OnError, Retry, is_seconds
from saga.task import Composing, Task

if TYPE_CHECKING:
    from saga.context import Context


__all__ = [
    "Breaker",
    "Fallback",
    "Flow",
    "FlowLike",
    "FunctionTask",
    "MethodStep",
    "Parallel",
    "Pause",
    "PauseTask",
    "Policies",
    "Sequence",
    "Step",
    "bind",
    "fallback",
    "parallel",
    "receive",
    "saga_step",
    "sequence",
    "step",
    "timer",
]


class Breaker(Protocol):
    """A circuit breaker: ``calling()`` returns a context manager for a call, and raises while the circuit is open."""

    def calling(self) -> AbstractContextManager[Any]: ...


class Policies(TypedDict, total=False):
    """How a step behaves when it fails, takes long or is left in doubt: see the attributes of :class:`~saga.task.Task`."""

    retry: Retry | None
    timeout: float | None
    on_error: OnError | Retry
    compensation_retry: Retry | None
    compensate_on_failure: bool
    in_doubt: InDoubt
    pivot: bool


POLICIES: Final = tuple(Policies.__annotations__)


class Flow(Composing):
    """Anything that can stand in a saga: a :class:`Step`, a :class:`Sequence`, a :class:`Parallel`, ..."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Step(Flow):
    """A task's place in a flow. ``policies`` override the task's own attributes."""

    task: Task[Any] | type[Task[Any]]
    name: str
    policies: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sequence(Flow):
    """Flows one after the other. ``name`` prefixes the names within, as ``name/step``."""

    children: tuple[Flow, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Parallel(Flow):
    """Flows at the same time, each with its own view of the context.

    ``compensate_together``: whether the branches are undone at the same time too; otherwise one step after the other.
    """

    children: tuple[Flow, ...]
    compensate_together: bool = False
    open: bool = False  # made by the operator &, so that another & adds to it


@dataclass(frozen=True, slots=True)
class Fallback(Flow):
    """A step, and what is done instead when it fails with one of the exceptions ``on``."""

    primary: Step | MethodStep
    alternative: Flow
    on: tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Pause(Flow):
    """A step that waits: ``seconds`` long, or for a signal and at most ``seconds`` long."""

    name: str
    seconds: float | None
    signal: str | None = None
    policies: Mapping[str, Any] = field(default_factory=dict)


class _Composable(Protocol):
    # What is no flow, but has one: a saga.
    def __saga_flow__(self) -> Flow: ...


FlowLike = Flow | Task[Any] | type[Task[Any]] | _Composable
"""What can be composed: a flow, a task, a task class or a saga."""


def sequence(*flows: FlowLike) -> Sequence:
    """Return the flows one after the other. Each is a task, a task class, a saga or a flow."""
    return Sequence(tuple(as_flow(flow, "sequence()") for flow in flows))


def parallel(*flows: FlowLike, compensate_together: bool = False) -> Parallel:
    """Return the flows at the same time, each in a thread of its own and with its own view of the context.

    :param compensate_together: undo the branches at the same time too, each in reverse order.
    """
    return Parallel(tuple(as_flow(flow, "parallel()") for flow in flows), compensate_together)


def fallback(
    primary: FlowLike,
    alternative: FlowLike,
    *,
    on: tuple[type[Exception], ...] | type[Exception] = (Exception,),
    breaker: Breaker | None = None,
) -> Fallback:
    """Return a step with what is done instead when it has failed for good.

    What the failed step changed in the context is discarded. If it is in doubt (it timed out), it is compensated before the
    alternative runs; or, where it says ``in_doubt=InDoubt.ASK``, the execution is stuck until a person has decided.

    :param primary: a task, a task class or a step.
    :param alternative: a task, a task class, a saga or a flow.
    :param on: the exceptions that lead to the alternative; others fail the saga.
    :param breaker: a circuit breaker, such as a ``pybreaker.CircuitBreaker``: while it is open the primary is not called, and
        the alternative runs whatever ``on`` says.
    :raises SagaDefinitionError: the primary is more than a step, or a parameter is wrong.
    """
    first = as_flow(primary, "fallback(): primary")
    if not isinstance(first, Step | MethodStep):
        raise SagaDefinitionError(f"fallback(): the primary is {primary!r}; give one step (a task, a task class or step(...))")
    kinds = on if isinstance(on, tuple) else (on,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise SagaDefinitionError(f"fallback(): on has {kind!r}; give Exception classes")
    if breaker is not None:
        if not callable(getattr(breaker, "calling", None)):
            raise SagaDefinitionError(
                f"fallback(): breaker is {breaker!r}, which has no calling(); give a pybreaker.CircuitBreaker, or an object "
                "whose calling() returns a context manager for the call"
            )
        first = _changed(first, policies={**first.policies, "breaker": breaker})
    return Fallback(first, as_flow(alternative, "fallback(): alternative"), kinds)


def timer(seconds: float, *, name: str | None = None) -> Pause:
    """Return a step that lets ``seconds`` pass. With a store it goes on across restarts."""
    if not is_seconds(seconds) or seconds == 0:
        raise SagaDefinitionError(f"timer(): seconds is {seconds!r}; give a number above 0")
    return Pause(name if name is not None else f"timer {seconds:g} s", float(seconds))


def receive(signal: str, *, name: str | None = None, timeout: float | None = None, on_error: OnError = Compensate) -> Pause:
    """Return a step that waits for a signal and has its value as result: see :meth:`saga.Saga.signal`. It needs a store.

    :param signal: its name; :param timeout: seconds to wait; :param on_error: what follows when it does not come in time.
    """
    if not isinstance(signal, str) or not signal:
        raise SagaDefinitionError(f"receive(): the signal is {signal!r}; give its name")
    if timeout is not None and (not is_seconds(timeout) or timeout == 0):
        raise SagaDefinitionError(f"receive(): timeout is {timeout!r}; give seconds above 0, or None for no limit")
    return Pause(name if name is not None else signal, timeout, signal, {"on_error": on_error})


def step(
    action: Callable[..., Any] | Task[Any] | type[Task[Any]],
    compensate: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    args: SequenceOf[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    compensate_args: SequenceOf[Any] = (),
    compensate_kwargs: Mapping[str, Any] | None = None,
    **policies: Unpack[Policies],
) -> Step:
    """Return a step from a function, or from a task with other policies than its own.

    A function's parameter named ``context`` gets the context. A required positional parameter that ``args`` and
    ``kwargs`` leave open gets the previous step's result (for a group, the tuple of its branches' last results); in a
    compensation it gets its own step's result, ``None`` where that is in doubt.

    :param action: a callable, a task or a task class.
    :param compensate: the callable that undoes ``action``.
    :param name: the step's name; the function's or the task's name where not given.
    :param args: positional arguments for ``action``; ``kwargs``: its keyword arguments.
    :param compensate_args: positional arguments for ``compensate``; ``compensate_kwargs``: its keyword arguments.
    :param policies: ``retry``, ``timeout`` (seconds), ``on_error``, ``compensation_retry``, ``compensate_on_failure``,
        ``in_doubt``: see :class:`~saga.task.Task`.
    :raises SagaDefinitionError: the step cannot be called this way.
    """
    _check_policies("step()", policies)
    if isinstance(action, Task) or (isinstance(action, type) and issubclass(action, Task)):
        if compensate is not None or args or kwargs or compensate_args or compensate_kwargs:
            raise SagaDefinitionError(
                f"step({action!r}): a task brings its own compensate and arguments; give these only with a function"
            )
        return Step(action, name if name is not None else _name_of(action), policies)
    else:
        task = FunctionTask(action, compensate, args, kwargs or {}, compensate_args, compensate_kwargs or {})
    return Step(task, name if name is not None else _name_of(task), policies)


def together(one: Any, other: Any) -> Parallel:
    """Return ``one & other``."""
    where = f"{_brief(one)} & {_brief(other)}"
    first = one.children if isinstance(one, Parallel) and one.open else (as_flow(one, where),)
    return Parallel((*first, as_flow(other, where)), open=True)


def with_policy(flow: Any, policy: Any) -> Flow:
    """Return ``flow | policy``."""
    where = f"{_brief(flow)} | {policy!r}"
    found = as_flow(flow, where)
    if isinstance(policy, Retry):
        given: dict[str, Any] = {"retry": policy} if policy.then is Compensate else {"on_error": policy}
    elif isinstance(policy, OnError):
        given = {"on_error": policy}
    elif isinstance(policy, InDoubt):
        given = {"in_doubt": policy}
    else:
        raise SagaDefinitionError(
            f"{where}: {policy!r} is no policy; give Retry(...), Skip, Compensate or InDoubt.RERUN, ASK or COMPENSATE"
        )
    if not isinstance(found, Step | MethodStep):
        raise SagaDefinitionError(f"{where}: {_brief(flow)} is more than one step, and a policy is a step's; give it to each")
    return _changed(found, policies={**found.policies, **given})


def _changed(flow: Step | MethodStep, **changes: Any) -> Step | MethodStep:
    return flow.with_(**changes) if isinstance(flow, MethodStep) else replace(flow, **changes)


def with_compensation(flow: Any, compensation: Any) -> Flow:
    """Return ``action >> compensation``."""
    where = f"{_brief(flow)} >> {_brief(compensation)}"
    if isinstance(flow, MethodStep) and flow.undo is None:
        if callable(compensation):
            return flow.with_(undo=compensation)
    elif isinstance(flow, Step) and isinstance(flow.task, FunctionTask) and flow.task.compensation is None:
        action = flow.task.action
        return replace(flow, task=FunctionTask(action.function, compensation, action.args, action.kwargs, (), {}))
    else:
        raise SagaDefinitionError(
            f"{where}: {_brief(flow)} is no step of a function without a compensation; wrap it with step()"
        )
    raise SagaDefinitionError(f"{where}: {_brief(compensation)} ({type(compensation).__name__}) cannot be called")


def _brief(value: Any) -> str:
    if isinstance(value, Step | MethodStep | Pause):
        return value.name
    if isinstance(value, Parallel):
        return f"({' & '.join(map(_brief, value.children))})"
    if isinstance(value, Sequence):
        return f"({', '.join(map(_brief, value.children))})"
    if isinstance(value, Fallback):
        return f"fallback({_brief(value.primary)}, {_brief(value.alternative)})"
    return value.__name__ if isinstance(value, type) else repr(value)


class MethodStep(Flow):
    """A step that is a method of a :class:`~saga.saga.Saga` subclass: see :func:`saga_step`."""

    def __init__(
        self,
        function: Callable[..., Any],
        undo: Callable[..., Any] | None = None,
        name: str | None = None,
        policies: Mapping[str, Any] | None = None,
        saga: Any = None,
    ) -> None:
        self.function = function
        self.undo = _function_of(undo)
        self.name = name if name is not None else _function_name(function)
        self.policies = policies or {}
        self.saga = saga
        self.__doc__ = function.__doc__

    def __get__(self, saga: Any, owner: Any = None) -> MethodStep:
        return self if saga is None else self.with_(saga=saga)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method itself, as a test of it does."""
        return self.function(*args, **kwargs) if self.saga is None else self.function(self.saga, *args, **kwargs)

    def compensation(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate the method that undoes this one."""
        if self.undo is not None:
            raise SagaDefinitionError(f"step {self.name!r} has two compensations: {self.undo!r} and {function!r}")
        self.undo = function
        return function

    def with_(self, **changes: Any) -> MethodStep:
        """Return a copy with other attributes."""
        known = {key: getattr(self, key) for key in ("function", "undo", "name", "policies", "saga")}
        return MethodStep(**{**known, **changes})

    def bound_to(self, saga: Any) -> Step:
        """Return the step for a saga object."""
        saga = self.saga if self.saga is not None else saga
        function, undo, policies = self.function, self.undo, self.policies
        declared, overrides = _in_class(type(saga), function)
        if isinstance(declared, MethodStep) and overrides:
            function = _function_of(overrides[0])
            steps = [one for one in overrides if isinstance(one, MethodStep)]
            if steps:
                given_in_flow = {key: value for key, value in policies.items() if declared.policies.get(key) is not value}
                policies = {**steps[0].policies, **given_in_flow}
            if undo is declared.undo:
                undo = next((one.undo for one in steps if one.undo is not None), undo)
        if undo is not None and _is_method(undo, type(saga), self.function):
            declared, overrides = _in_class(type(saga), undo)
            undo = _function_of((*overrides, declared)[0]).__get__(saga)
        task = FunctionTask(function.__get__(saga), undo, (), {}, (), {})
        return Step(task, self.name, policies)

    def __repr__(self) -> str:
        return f"<saga step {self.name!r}>"


def _in_class(kind: type, function: Any) -> tuple[Any, list[Any]]:
    """Return a method as the class body has it that it is from, and what overrides it, the nearest class first."""
    name = getattr(function, "__name__", "")
    known = [vars(base)[name] for base in kind.__mro__ if name in vars(base)]
    for place, one in enumerate(known):
        if _function_of(one) is function:
            return one, known[:place]
    return function, []  # it is from elsewhere


def _function_of(method: Any) -> Any:
    return method.function if isinstance(method, MethodStep) else method


def _is_method(undo: Any, kind: type, method: Any) -> bool:
    """Whether the function that undoes is defined in a class body of the saga, or the method's, and takes the saga."""
    classes = [(base.__module__, base.__qualname__) for base in kind.__mro__]
    if not isinstance(undo, FunctionType) or _class_of(undo) not in (*classes, _class_of(method)):
        return False  # a function from elsewhere does not take the saga
    return undo.__name__ != "<lambda>" or undo.__code__.co_varnames[:1] == ("self",)


def _class_of(function: Any) -> tuple[str, str]:
    return function.__module__, getattr(function, "__qualname__", "").rpartition(".")[0]


@overload
def saga_step(function: Callable[..., Any], /) -> MethodStep: ...
@overload
def saga_step(
    *, compensate: Callable[..., Any] | None = None, name: str | None = None, **policies: Unpack[Policies]
) -> Callable[[Callable[..., Any]], MethodStep]: ...
def saga_step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    compensate: Callable[..., Any] | None = None,
    name: str | None = None,
    **policies: Unpack[Policies],
) -> MethodStep | Callable[[Callable[..., Any]], MethodStep]:
    """Make a method of a :class:`~saga.saga.Saga` subclass a step, which its ``flow`` composes.

    The method's parameters get what :func:`step` says. ``@reserve.compensation`` decorates the method that undoes ``reserve``.
    """
    _check_policies("saga_step()", policies)
    if function is not None:
        return MethodStep(function)
    return lambda method: MethodStep(method, compensate, name, policies)


def bind(flow: Flow, saga: Any) -> Flow:
    """Return the flow with its method steps bound to a saga object."""
    if isinstance(flow, MethodStep):
        return flow.bound_to(saga)
    if isinstance(flow, Sequence | Parallel):
        return replace(flow, children=tuple(bind(child, saga) for child in flow.children))
    if isinstance(flow, Fallback):
        primary = bind(flow.primary, saga)
        assert isinstance(primary, Step)
        return replace(flow, primary=primary, alternative=bind(flow.alternative, saga))
    return flow


def as_flow(value: Any, where: str) -> Flow:
    """Return ``value`` as a flow.

    :raises SagaDefinitionError: ``value`` is none; the text names it and ``where`` it stood.
    """
    if isinstance(value, Flow):
        return value
    if isinstance(value, Task) or (isinstance(value, type) and issubclass(value, Task)):
        return Step(value, _name_of(value))
    if isinstance(value, tuple | list):
        return Sequence(tuple(as_flow(one, where) for one in value))
    as_step: Callable[[], Flow] | None = getattr(value, "__saga_flow__", None)
    if as_step is not None and not isinstance(value, type):
        return as_step()
    if as_step is not None:
        hint = f"give an object of it: {value.__name__}()"
    else:
        hint = "wrap a function as step(function, compensate=...)" if callable(value) else "give a Task, a flow or a saga"
    raise SagaDefinitionError(f"{where}: {value!r} ({type(value).__name__}) is not a task; {hint}")


def _check_policies(where: str, policies: Mapping[str, Any]) -> None:
    unknown = sorted(set(policies) - set(POLICIES))
    if unknown:
        raise SagaDefinitionError(f"{where} knows no {', '.join(unknown)}; policies are {', '.join(POLICIES)}")


def _name_of(task: Task[Any] | type[Task[Any]]) -> str:
    if task.name is not None:
        return task.name
    return task.__name__ if isinstance(task, type) else type(task).__name__


class PauseTask(Task[Any]):
    """Stands for a wait, which the machine makes and nobody calls."""


class FunctionTask(Task[Any]):
    """A task made of a function and, it may be, one that undoes it. Made by :func:`step`."""

    def __init__(
        self,
        action: Callable[..., Any],
        compensation: Callable[..., Any] | None,
        args: SequenceOf[Any],
        kwargs: Mapping[str, Any],
        compensate_args: SequenceOf[Any],
        compensate_kwargs: Mapping[str, Any],
    ) -> None:
        self.name = _function_name(action)
        self.action = _Call(action, args, kwargs, f"step {self.name!r}: action")
        self.compensation = compensation and _Call(
            compensation, compensate_args, compensate_kwargs, f"step {self.name!r}: compensation"
        )
        if compensation is None and (compensate_args or compensate_kwargs):
            raise SagaDefinitionError(f"step {self.name!r}: arguments for a compensation, but no compensate=")

    @property
    def undo_function(self) -> Any:
        """The function that undoes, or ``None``."""
        return self.compensation and self.compensation.function

    def execute(self, context: Context) -> Any:
        return self.action(context, context._own(context._run.previous))

    def compensate(self, context: Context) -> None:
        if self.compensation is not None:
            # A coroutine, where the function is a coroutine function: the asynchronous driver awaits it.
            return self.compensation(context, context._own(context._run.results.get(context.step.name)))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<function task {self.name!r}>"


def _function_name(action: Any) -> str:
    inner = getattr(action, "func", action)  # functools.partial
    return getattr(inner, "__name__", None) or type(inner).__name__


class _Call:
    """A callable bound to where its arguments come from, worked out once, at definition."""

    def __init__(self, function: Any, args: SequenceOf[Any], kwargs: Mapping[str, Any], where: str) -> None:
        if not callable(function):
            raise SagaDefinitionError(f"{where} is {function!r} ({type(function).__name__}), which cannot be called")
        self.function = function
        self.args = tuple(args)
        self.kwargs = dict(kwargs)
        try:
            binding = _binding_of(function, len(self.args), tuple(self.kwargs))
        except TypeError as error:
            raise SagaDefinitionError(f"{where} {_function_name(function)} {error}") from None
        self.wants_previous, self.context_at, self.context_by_name = binding

    def _positional(self, context: Any, previous: Any) -> list[Any]:
        values = [previous, *self.args] if self.wants_previous else list(self.args)
        if self.context_at is not None:
            values.insert(self.context_at, context)
        return values

    def _keywords(self, context: Any) -> dict[str, Any]:
        return {**self.kwargs, "context": context} if self.context_by_name else self.kwargs

    def __call__(self, context: Any, previous: Any) -> Any:
        return self.function(*self._positional(context, previous), **self._keywords(context))


#: Whether a call gets the previous result first; where among the positional arguments it gets the context; or whether it
#: gets that by name.
_Binding = tuple[bool, int | None, bool]


def _binding_of(function: Any, args: int, kwargs: tuple[str, ...]) -> _Binding:
    """Work out what a callable gets, besides ``args`` positional arguments and ``kwargs``.

    :raises TypeError: it cannot be called this way.
    """
    if type(function) is FunctionType and not function.__dict__ and not function.__kwdefaults__:
        # In a block the same functions are made steps of again and again, and signatures take long to look at.
        return _binding_of_code(_Code(function), len(function.__defaults__ or ()), args, kwargs)
    return _bind(function, args, kwargs)


class _Code:
    # Equal for functions with the same code; holds one of them, for the signature.
    __slots__ = ("function",)

    def __init__(self, function: FunctionType) -> None:
        self.function = function

    def __hash__(self) -> int:
        return hash(self.function.__code__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Code) and other.function.__code__ is self.function.__code__


@lru_cache(512)
def _binding_of_code(code: _Code, defaults: int, args: int, kwargs: tuple[str, ...]) -> _Binding:
    return _bind(code.function, args, kwargs)


def _bind(function: Any, args: int, kwargs: tuple[str, ...]) -> _Binding:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins tell no signature: they get the given arguments alone
        if isinstance(function, MethodType):
            raise TypeError("is a method, and takes no self") from None
        return False, None, False
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    gets_context = [p for p in parameters if p.name == "context" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in positional if p.name != "context" and p.name not in kwargs and p.default is p.empty]
    missing = len(required) - args
    if missing > 1:
        raise TypeError(
            f"needs {', '.join(map(repr, required))}, but only one comes from the flow (the previous step's result, or the "
            "step's own in a compensation); give the others with args= or kwargs="
        )
    wants_previous = missing == 1
    supplied = args + wants_previous
    context_at, by_name = None, False
    if gets_context:
        before = [p.name for p in positional].index("context") if gets_context[0] in positional else None
        if before is not None and before <= supplied and all(p.name not in kwargs for p in positional[:before]):
            context_at = before
        else:
            by_name = True
    names = (*kwargs, "context") if by_name else kwargs
    try:
        signature.bind(*[None] * (supplied + (context_at is not None)), **dict.fromkeys(names))
    except TypeError as error:
        raise TypeError(f"cannot be called: {error}") from None
    return wants_previous, context_at, by_name
