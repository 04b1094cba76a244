"""Tasks around tasks: made anew for each call by a resolver, or called through a circuit breaker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from typing import Any, Protocol

from saga.awaitables import answer, is_coroutine_function
from saga.errors import CircuitOpenError, SagaDefinitionError
from saga.flow.functions import FunctionTask
from saga.task import Task

__all__ = ["Breaker", "Resolver", "WrappedTask", "are_async", "compensates", "guarded", "resolved", "verifies"]

Resolver = Callable[[type[Task[Any]]], Any]
"""Makes a task of a task class: returns it, or a context manager that gives it and closes its scope after the call."""


class Breaker(Protocol):
    """A circuit breaker: ``calling()`` returns a context manager for a call, and raises while the circuit is open."""

    def calling(self) -> AbstractContextManager[Any]: ...


class WrappedTask(Task[Any]):
    """A task whose calls are made through something else.

    :ivar kind: the class of the task within.
    :ivar inner: the task within, where it exists before a call;
    :ivar compensates: whether that has anything to call to undo it.
    :ivar verifies: ... to ask what came of it.
    """

    def __init__(self, kind: type[Task[Any]], inner: Task[Any] | None, compensates: bool, verifies: bool) -> None:
        self.kind = kind
        self.inner = inner
        self.compensates = compensates
        self.verifies = verifies

    def __repr__(self) -> str:
        return repr(self.inner) if self.inner is not None else f"<{self.kind.__name__} task>"


def are_async(task: Task[Any]) -> tuple[bool, bool, bool]:
    """Return whether the task's execute, its compensate and its verify are coroutine functions."""
    if isinstance(task, FunctionTask):
        compensation, verification = task.compensation, task.verification
        return (
            task.action.facts.asynchronous,
            compensation is not None and compensation.facts.asynchronous,
            verification is not None and verification.facts.asynchronous,
        )
    return is_coroutine_function(task.execute), is_coroutine_function(task.compensate), is_coroutine_function(task.verify)


def compensates(task: Task[Any]) -> bool:
    """Return whether there is anything to call to undo the task."""
    if isinstance(task, WrappedTask):
        return task.compensates
    if isinstance(task, FunctionTask):
        return task.compensation is not None
    return _has(task, "compensate")


def verifies(task: Task[Any]) -> bool:
    """Return whether there is anything to call to learn what came of the task."""
    if isinstance(task, WrappedTask):
        return task.verifies
    if isinstance(task, FunctionTask):
        return task.verification is not None
    return _has(task, "verify")


def _has(task: Task[Any] | type[Task[Any]], method: str) -> bool:
    """Whether a task or its class has a method that may be left out: written, and not ``None``."""
    found = getattr(task, method)
    return found is not None and getattr(found, "__func__", found) is not getattr(Task, method)


def guarded(task: Task[Any], breaker: Breaker) -> WrappedTask:
    """Return a task whose execute is called through the breaker."""

    def calling() -> AbstractContextManager[Any]:
        manager = breaker.calling()
        if not isinstance(manager, AbstractContextManager):
            answer(manager, f"{breaker!r}.calling()", "let it return a context manager")
            raise SagaDefinitionError(f"{breaker!r}.calling() returned {manager!r}; let it return a context manager")
        return manager

    # A breaker may raise an error of its own in place of the task's, when it opens: the task's says more.
    def execute(context: Any) -> Any:
        failure: list[BaseException] = []
        try:
            with calling():
                try:
                    value = task.execute(context)
                except BaseException as error:
                    failure.append(error)
                    raise
        except Exception as error:
            raise _error_of(failure, error, task) from _cause_of(failure, error)
        # The breaker is not around what is awaited later, so it would never see a failure.
        return answer(value, f"execute of {task!r}, behind a circuit breaker,", "make it an `async def` which awaits it")

    async def aexecute(context: Any) -> Any:
        failure: list[BaseException] = []
        try:
            with calling():
                try:
                    return await task.execute(context)
                except BaseException as error:
                    failure.append(error)
                    raise
        except Exception as error:
            raise _error_of(failure, error, task) from _cause_of(failure, error)

    wrapped = WrappedTask(getattr(task, "kind", type(task)), task, compensates(task), verifies(task))
    async_execute, async_compensate, async_verify = are_async(task)
    wrapped.execute = aexecute if async_execute else execute  # type: ignore[method-assign]
    compensate: Callable[[Any], Any] = _awaiting(task.compensate) if async_compensate else task.compensate
    wrapped.compensate = compensate  # type: ignore[method-assign, assignment]
    wrapped.verify = _awaiting(task.verify) if async_verify else task.verify  # type: ignore[method-assign, assignment]
    return wrapped


def _error_of(failure: list[BaseException], error: Exception, task: Task[Any]) -> BaseException:
    if failure or isinstance(error, SagaDefinitionError):
        return failure[0] if failure else error
    return CircuitOpenError(f"{task!r} was not called: {error}")


def _cause_of(failure: list[BaseException], error: Exception) -> BaseException | None:
    if failure or isinstance(error, SagaDefinitionError):
        return failure[0].__cause__ if failure else None
    return error


def _awaiting(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def awaiting(context: Any) -> Any:
        return await method(context)

    return awaiting


def resolved(kind: type[Task[Any]], resolver: Resolver) -> WrappedTask:
    """Return a task that is made anew by the resolver for each call, in a scope of its own."""

    def method_of(made: Any, method: str, context: Any) -> Any:
        if not callable(getattr(made, method, None)):
            raise SagaDefinitionError(f"the resolver gives {made!r} for {kind.__name__}, which has no {method}()")
        context.__binding__.take_made(made)
        return getattr(made, method)

    def make() -> Any:
        return answer(resolver(kind), f"the resolver, asked for {kind.__name__},", "let it return an async context manager")

    def call(method: str, context: Any) -> Any:
        with ExitStack() as scope:
            made = make()
            if isinstance(made, AbstractContextManager):
                # Its scope is closed when the method returns, so nothing may be left to be awaited then.
                method_in_scope = method_of(scope.enter_context(made), method, context)
                where = f"{method} of {kind.__name__}, which the resolver makes in a scope,"
                return answer(method_in_scope(context), where, "make it an `async def` which awaits it")
            if isinstance(made, AbstractAsyncContextManager):
                raise SagaDefinitionError(
                    f"the resolver gives an async context manager for {kind.__name__}, whose {method} is a plain function; "
                    f"give a plain context manager, or make {method} an async def"
                )
            return method_of(made, method, context)(context)

    async def acall(method: str, context: Any) -> Any:
        async with AsyncExitStack() as scope:
            made = make()
            if isinstance(made, AbstractAsyncContextManager):
                made = await scope.enter_async_context(made)
            elif isinstance(made, AbstractContextManager):
                made = scope.enter_context(made)
            return await method_of(made, method, context)(context)

    wrapped = WrappedTask(kind, None, _has(kind, "compensate"), _has(kind, "verify"))
    for method in ("execute", "compensate", "verify"):
        setattr(wrapped, method, functools.partial(acall if is_coroutine_function(getattr(kind, method)) else call, method))
    return wrapped
