"""Methods as steps: what ``@saga_step`` makes of a method, and how a flow of such steps is bound to a saga object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, Unpack, overload

from saga.errors import SagaDefinitionError
from saga.flow.functions import FunctionTask, function_name, is_function
from saga.flow.nodes import Choice, Fallback, Flow, ForEach, Parallel, Sequence, Step, Unit
from saga.flow.policies import Policies, check_policies
from saga.names import checked_name

__all__ = ["MethodStep", "bind", "saga_step"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_BESIDE: Final = ("compensation_function", "verification_function")


class MethodStep(Flow, Generic[P, T]):
    """A step that is a method of a :class:`~saga.saga.Saga` subclass: see :func:`~saga.flow.saga_step`."""

    def __init__(
        self,
        function: Callable[..., T],
        compensation_function: Callable[..., Any] | None = None,
        name: str | None = None,
        policies: Mapping[str, Any] | None = None,
        saga: Any = None,
        verification_function: Callable[..., Any] | None = None,
    ) -> None:
        for role, given in (("function", function), ("compensate", compensation_function), ("verify", verification_function)):
            if not is_function(given) and (given is not None or role == "function"):
                raise SagaDefinitionError(f"saga_step(): {role} is {given!r}, which cannot be called; give a function")
        self.function = function
        self.compensation_function = _function_of(compensation_function)
        self.verification_function = _function_of(verification_function)
        self.name = checked_name(name if name is not None else function_name(function), "the step's name", function)
        self.policies = policies or {}
        self.saga = saga
        self.__doc__ = function.__doc__

    def __get__(self, saga: Any, owner: Any = None) -> MethodStep[P, T]:
        return self if saga is None else self.with_(saga=saga)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the method itself, as a test of it does."""
        return self.function(*args, **kwargs) if self.saga is None else self.function(self.saga, *args, **kwargs)

    def compensation(self, function: F) -> F:
        """Decorate the method that undoes this one."""
        if self.compensation_function is not None:
            raise SagaDefinitionError(
                f"step {self.name!r} has two compensations: {self.compensation_function!r} and {function!r}"
            )
        self.compensation_function = function
        return function

    def verification(self, function: F) -> F:
        """Decorate the method that says what came of this one, where nobody knows."""
        if self.verification_function is not None:
            raise SagaDefinitionError(
                f"step {self.name!r} has two verifications: {self.verification_function!r} and {function!r}"
            )
        self.verification_function = function
        return function

    def with_(self, **changes: Any) -> MethodStep[P, T]:
        """Return a copy with other attributes."""
        known = {key: getattr(self, key) for key in ("function", *_BESIDE, "name", "policies", "saga")}
        return MethodStep(**{**known, **changes})

    def bound_to(self, saga: Any) -> Step:
        """Return the step for a saga object."""
        saga = self.saga if self.saga is not None else saga
        function, policies = self.function, self.policies
        beside = {role: getattr(self, role) for role in _BESIDE}
        declared, overrides = _in_class(type(saga), function)
        if isinstance(declared, MethodStep) and overrides:
            function = _function_of(overrides[0])
            steps = [one for one in overrides if isinstance(one, MethodStep)]
            if steps:
                given_in_flow = {key: value for key, value in policies.items() if declared.policies.get(key) is not value}
                policies = {**steps[0].policies, **given_in_flow}
            for role, own in beside.items():
                if own is getattr(declared, role):
                    given = (getattr(one, role) for one in steps if getattr(one, role) is not None)
                    beside[role] = next(given, own)
        for role, own in beside.items():
            if own is not None and _is_method(own, type(saga), self.function):
                declared, overrides = _in_class(type(saga), own)
                beside[role] = _function_of((*overrides, declared)[0]).__get__(saga)
        compensation, verification = beside.values()
        return Step(FunctionTask(function.__get__(saga), compensation, verification=verification), self.name, policies)

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


def _is_method(compensation: Any, kind: type, method: Any) -> bool:
    """Whether a compensation is defined in a class body of the saga, or the method's, and takes the saga."""
    classes = [(base.__module__, base.__qualname__) for base in kind.__mro__]
    if not isinstance(compensation, FunctionType) or _class_of(compensation) not in (*classes, _class_of(method)):
        return False  # a function from elsewhere does not take the saga
    return compensation.__name__ != "<lambda>" or compensation.__code__.co_varnames[:1] == ("self",)


def _class_of(function: Any) -> tuple[str, str]:
    return function.__module__, getattr(function, "__qualname__", "").rpartition(".")[0]


@overload
def saga_step(function: Callable[Concatenate[Any, P], T], /) -> MethodStep[P, T]: ...
@overload
def saga_step(
    *,
    compensate: Callable[..., Any] | None = None,
    verify: Callable[..., Any] | None = None,
    name: str | None = None,
    **policies: Unpack[Policies],
) -> Callable[[Callable[Concatenate[Any, P], T]], MethodStep[P, T]]: ...
def saga_step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    compensate: Callable[..., Any] | None = None,
    verify: Callable[..., Any] | None = None,
    name: str | None = None,
    **policies: Unpack[Policies],
) -> Any:
    """Make a method of a :class:`~saga.saga.Saga` subclass a step, which its ``flow`` composes.

    The method's parameters get what :func:`~saga.flow.step` says. ``@reserve.compensation`` decorates the method that undoes
    ``reserve``, ``@reserve.verification`` the one that says what came of it.
    """
    check_policies("saga_step()", policies)
    if function is not None:
        return MethodStep(function)
    return lambda method: MethodStep(method, compensate, name, policies, verification_function=verify)


def bind(flow: Flow, saga: Any) -> Flow:
    """Return the flow with its method steps bound to a saga object."""
    if isinstance(flow, MethodStep):
        return flow.bound_to(saga)
    if isinstance(flow, Sequence | Parallel):
        return replace(flow, children=tuple(bind(child, saga) for child in flow.children))
    if isinstance(flow, ForEach | Unit):
        return replace(flow, child=bind(flow.child, saga))
    if isinstance(flow, Fallback):
        primary = bind(flow.primary, saga)
        assert isinstance(primary, Step | Unit)
        return replace(flow, primary=primary, alternative=bind(flow.alternative, saga))
    if isinstance(flow, Choice):
        return replace(flow, ways={way: bind(child, saga) for way, child in flow.ways.items()})
    return flow
