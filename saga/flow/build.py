"""Builders and operators: what makes flows of tasks, functions, sagas and other flows, and refuses what fits nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from typing import Any, Protocol, Unpack

from saga.awaitables import refuse_unrun
from saga.composing import operators
from saga.errors import SagaDefinitionError
from saga.flow.functions import FunctionTask, function_name
from saga.flow.methods import MethodStep
from saga.flow.nodes import Choice, Fallback, Flow, ForEach, Parallel, Pause, Sequence, Step, Unit
from saga.flow.policies import Policies, check_policies, check_unit_policies
from saga.flow.wrapped import Breaker
from saga.names import checked_name
from saga.policy import InDoubt, OnError, Retry, Seconds
from saga.task import Task

__all__ = ["FlowLike", "as_flow", "default_name", "fallback", "parallel", "sequence", "step", "unit"]


class _Composable(Protocol):
    # What is no flow, but has one: a saga.
    def __saga_flow__(self) -> Flow: ...


FlowLike = Flow | Task[Any] | type[Task[Any]] | _Composable
"""What can be composed: a flow, a task, a task class or a saga."""


def sequence(*flows: FlowLike) -> Sequence:
    """Return the flows one after the other. Each is a task, a task class, a saga or a flow."""
    return Sequence(tuple(as_flow(flow, "sequence()") for flow in flows))


def parallel(*flows: FlowLike, compensate_together: bool = False, limit: int | None = None) -> Parallel:
    """Return the flows at the same time, each call in a thread of its own and each branch with its own view of the context.

    :param compensate_together: undo the branches at the same time too, each in reverse order.
    :param limit: how many branches are under way at a time. They begin in the order declared, the next when one has ended; one
        that waits for another attempt, or for a person, has not. When a branch fails, those that have not begun never begin.
    :raises SagaDefinitionError: one is no flow, all are given as one list, or a parameter is wrong.
    """
    if len(flows) == 1 and isinstance(flows[0], list | tuple):
        kind = type(flows[0]).__name__
        raise SagaDefinitionError(f"parallel(): one {kind} is a sequence; give the branches themselves, as parallel(*branches)")
    if not isinstance(compensate_together, bool):
        raise SagaDefinitionError(f"parallel(): compensate_together is {compensate_together!r}; give a bool")
    check_limit(limit, "parallel()")
    return Parallel(tuple(as_flow(flow, "parallel()") for flow in flows), compensate_together, limit)


def check_limit(limit: Any, where: str) -> None:
    """Refuse what is no number of branches.

    :raises SagaDefinitionError: it is none; the text says ``where`` it was given.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise SagaDefinitionError(f"{where}: limit is {limit!r}; give an int of at least 1, or None for no limit")


def unit(
    *flows: FlowLike,
    name: str | None = None,
    retry: Retry | None = None,
    on_error: OnError | Retry | None = None,
    timeout: Seconds | None = None,
) -> Unit:
    """Return the flows, one after the other, as one that is tried again, skipped, or left to a person as a whole.

    When a step within has failed for good, nothing of the unit goes forward any more: what runs of it ends, and what was done
    of it is undone, in reverse order, while the rest of the saga goes on. Then its policies say what follows, as a step's
    do: another attempt of all of it, ``Skip``, ``Ask``, a ``fallback``, or else the saga gives up. What it changed in the
    context is forgotten then; steps that are executed again have another ``idempotency_key``, as what had the first is undone.
    If a compensation within fails for good, the saga gives up. An interrupt, the saga's timeout and a person's ``cancel`` end
    the saga, not the unit.

    A nested saga, a group, ``each`` and a sequence become units by ``|``: ``parallel(Pack, Charge) | Retry(3)``.

    :param flows: tasks, task classes, sagas or flows.
    :param name: what it is called among the steps; a nested saga's name, or its first and last steps', where not given.
    :param retry: when and how often it is attempted again.
    :param on_error: what follows when it failed for good.
    :param timeout: the seconds that an attempt of all of it may take; then it gives up, and what runs of it has timed out. What
        undoes it has no such limit.
    :raises SagaDefinitionError: a parameter is wrong.
    """
    policies = {"retry": retry, "on_error": on_error, "timeout": timeout}
    given = {policy: value for policy, value in policies.items() if value is not None}
    check_unit_policies("unit()", given)
    children = tuple(as_flow(flow, "unit()") for flow in flows)
    return _as_unit(children[0] if len(children) == 1 else Sequence(children), given, "unit()", name)


def _as_unit(flow: Flow, policies: Mapping[str, Any], where: str, name: str | None = None) -> Unit:
    """Return a flow as a unit; one that is a unit gets these policies, too."""
    if isinstance(flow, Unit) and name is None:
        return replace(flow, policies={**flow.policies, **policies})
    if name is None and isinstance(flow, Sequence) and flow.name is not None:
        name = flow.name
    if name is None:
        leaves = list(_names_in(flow))
        if not leaves:
            raise SagaDefinitionError(f"{where}: it has no steps; give at least one task")
        name = f"{leaves[0]}..{leaves[-1]}" if len(leaves) > 1 else f"{leaves[0]}.."
    return Unit(flow, checked_name(name, f"{where}: name"), policies)


def _names_in(flow: Flow) -> Iterator[str]:
    """Yield the names of the steps of a flow, as they are declared: those of a nested saga by its own."""
    name = getattr(flow, "name", None)
    if name is not None:
        yield name
    elif isinstance(flow, Sequence | Parallel):
        for child in flow.children:
            yield from _names_in(child)
    elif isinstance(flow, Fallback):
        yield from _names_in(flow.primary)
    elif isinstance(flow, Choice):
        yield flow.decision.name
    elif isinstance(flow, ForEach):
        yield flow.lists.name


def fallback(
    primary: FlowLike,
    alternative: FlowLike,
    *,
    on: tuple[type[Exception], ...] | type[Exception] = (Exception,),
    breaker: Breaker | None = None,
) -> Fallback:
    """Return a step, or a flow, with what is done instead when it has failed for good.

    A flow is undone first: see :func:`unit`. What the failed step changed in the context is discarded. If it is in doubt (it
    timed out), it is compensated before the alternative runs; or, where it says ``in_doubt=InDoubt.ASK``, the execution is
    stuck until a person has decided.

    :param primary: a task, a task class, a saga or a flow.
    :param alternative: a task, a task class, a saga or a flow.
    :param on: the exceptions that lead to the alternative; others fail the saga.
    :param breaker: a circuit breaker of a step, such as a ``pybreaker.CircuitBreaker``: while it is open the primary is not
        called, and the alternative runs whatever ``on`` says.
    :raises SagaDefinitionError: a parameter is wrong.
    """
    first = as_flow(primary, "fallback(): primary")
    if not isinstance(first, Step | MethodStep):
        if breaker is not None:
            raise SagaDefinitionError(
                "fallback(): the primary is more than one step, and a breaker is a step's; give it to one"
            )
        first = _as_unit(first, {}, "fallback(): primary")
    kinds = on if isinstance(on, tuple) else (on,)
    for kind in kinds or (on,):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise SagaDefinitionError(f"fallback(): on has {kind!r}; give Exception classes, several of them as a tuple")
    if breaker is not None:
        if isinstance(breaker, type) or not callable(getattr(breaker, "calling", None)):
            raise SagaDefinitionError(
                f"fallback(): breaker is {breaker!r}, which has no calling(); give a pybreaker.CircuitBreaker, or an object "
                "whose calling() returns a context manager for the call"
            )
        refuse_unrun(breaker.calling, f"fallback(): calling() of breaker {breaker!r}", "let it return a context manager")
        assert not isinstance(first, Unit)
        first = _changed(first, policies={**first.policies, "breaker": breaker})
    return Fallback(first, as_flow(alternative, "fallback(): alternative"), kinds)


def step(
    action: Callable[..., Any] | Task[Any] | type[Task[Any]],
    compensate: Callable[..., Any] | None = None,
    *,
    verify: Callable[..., Any] | None = None,
    name: str | None = None,
    args: SequenceOf[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    compensate_args: SequenceOf[Any] = (),
    compensate_kwargs: Mapping[str, Any] | None = None,
    **policies: Unpack[Policies],
) -> Step:
    """Return a step from a function, or from a task with other policies than its own.

    A function's parameter that is named ``context``, or annotated as a :class:`~saga.Context`, gets the context. ``args`` fill
    the others from the left, and the one required positional parameter that ``args`` and ``kwargs`` leave open gets the
    previous step's result (for a group, the tuple of its branches' last results). A compensation's first other parameter gets
    its own step's result, ``None`` where that is in doubt, whether it has no default or ``None``; ``compensate_args`` follow.

    :param action: a callable, a task or a task class.
    :param compensate: the callable that undoes ``action``.
    :param verify: the callable that says what came of ``action`` where nobody knows: see :meth:`saga.Task.verify`. It gets the
        arguments that ``action`` gets.
    :param name: the step's name; the function's or the task's name where not given.
    :param args: positional arguments for ``action``.
    :param kwargs: keyword arguments for ``action``.
    :param compensate_args: positional arguments for ``compensate``.
    :param compensate_kwargs: keyword arguments for ``compensate``.
    :param policies: these take the place of the task's own, and :class:`~saga.task.Task` says more of each:

        * ``retry``: when and how often ``action`` is attempted again, a :class:`Retry`;
        * ``timeout``: the seconds an attempt of it may take;
        * ``on_error``: what follows when it failed for good: ``Compensate``, ``Skip``, ``Ask``, or ``Retry(..., then=...)``;
        * ``compensation_retry``: when and how often ``compensate`` is attempted again;
        * ``compensation_timeout``: the seconds an attempt of it may take;
        * ``compensate_on_failure``: whether the step is compensated too when its own ``action`` raised;
        * ``in_doubt``: what to do when nobody knows whether it took effect, an :class:`InDoubt`;
        * ``unknown_on``: the errors after which nobody knows that;
        * ``verification_retry``: when and how often ``verify`` is attempted again;
        * ``pivot``: whether the saga cannot be undone any more once the step has succeeded;
        * ``transactional``: whether it is made in a transaction of the store's own database, with ``context.step.connection``;
        * ``requires``: the keys of the context without which ``action`` is not called;
        * ``provides``: the keys that it has set when it returns.
    :raises SagaDefinitionError: the step cannot be called this way.
    """
    if policies:
        check_policies(f"step {name if name is not None else default_name(action)!r}", policies)
    if isinstance(action, Task) or (isinstance(action, type) and issubclass(action, Task)):
        if compensate is not None or verify is not None or args or kwargs or compensate_args or compensate_kwargs:
            raise SagaDefinitionError(
                f"step({action!r}): a task brings its own compensate, verify and arguments; give these only with a function"
            )
        return Step(action, name if name is not None else _name_of(action), policies)
    else:
        task = FunctionTask(
            action,
            compensate,
            args,
            {} if kwargs is None else kwargs,
            compensate_args,
            {} if compensate_kwargs is None else compensate_kwargs,
            verify,
        )
    return Step(task, name if name is not None else _name_of(task), policies)


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
        if isinstance(value, Iterable) and not isinstance(value, str | bytes):
            hint = "give what is in it, as *flows"
    raise SagaDefinitionError(f"{where}: {value!r} ({type(value).__name__}) is not a task; {hint}")


def default_name(action: Any) -> str:
    """Return what a step of a function, a task or a task class is called, where it is given no name."""
    is_task = isinstance(action, Task) or (isinstance(action, type) and issubclass(action, Task))
    return _name_of(action) if is_task else function_name(action)


def _name_of(task: Task[Any] | type[Task[Any]]) -> str:
    if task.name is not None:
        return task.name
    return task.__name__ if isinstance(task, type) else type(task).__name__


def _changed(flow: Step | MethodStep[..., Any], **changes: Any) -> Step | MethodStep[..., Any]:
    return flow.with_(**changes) if isinstance(flow, MethodStep) else replace(flow, **changes)


# -- the operators -----------------------------------------------------------------------------------------------------


def _both(one: Any, other: Any) -> Parallel:
    """Return ``one & other``."""
    where = f"{_brief(one)} & {_brief(other)}"
    first = one.children if isinstance(one, Parallel) and one.by_operator else (as_flow(one, where),)
    return Parallel((*first, as_flow(other, where)), by_operator=True)


def _with_policy(flow: Any, policy: Any) -> Flow:
    """Return ``flow | policy``."""
    where = f"{_brief(flow)} | {policy!r}"
    found = as_flow(flow, where)
    if isinstance(policy, Retry):
        given: dict[str, Any] = {"retry": policy} if policy.then is None else {"on_error": policy}
    elif isinstance(policy, OnError):
        given = {"on_error": policy}
    elif isinstance(policy, InDoubt):
        given = {"in_doubt": policy}
    else:
        raise SagaDefinitionError(
            f"{where}: {policy!r} is no policy; give Retry(...), Skip, Ask, Compensate or InDoubt.RERUN, ASK or COMPENSATE"
        )
    if isinstance(found, Pause):
        raise SagaDefinitionError(f"{where}: nobody calls {_brief(flow)}, which waits; give it on_error= where it has one")
    if not isinstance(found, Step | MethodStep):
        if "in_doubt" in given:
            raise SagaDefinitionError(
                f"{where}: {_brief(flow)} is more than one step, and in_doubt is a step's; give it to each"
            )
        check_unit_policies(where, given)
        return _as_unit(found, given, where)
    return _changed(found, policies={**found.policies, **given})


def _with_compensation(flow: Any, compensation: Any) -> Flow:
    """Return ``action >> compensation``."""
    where = f"{_brief(flow)} >> {_brief(compensation)}"
    if isinstance(flow, MethodStep) and flow.compensation_function is None:
        if callable(compensation):
            return flow.with_(compensation_function=compensation)
    elif isinstance(flow, Step) and isinstance(flow.task, FunctionTask) and flow.task.compensation is None:
        action, asked = flow.task.action, flow.task.verification
        verify = asked.function if asked is not None else None
        return replace(flow, task=FunctionTask(action.function, compensation, action.args, action.kwargs, (), {}, verify))
    else:
        raise SagaDefinitionError(
            f"{where}: {_brief(flow)} is no step of a function without a compensation; wrap it with step()"
        )
    raise SagaDefinitionError(f"{where}: {_brief(compensation)} ({type(compensation).__name__}) cannot be called")


def _brief(value: Any) -> str:
    if isinstance(value, Step | MethodStep | Pause | Unit):
        return value.name
    if isinstance(value, Parallel):
        return f"({' & '.join(map(_brief, value.children))})"
    if isinstance(value, Sequence):
        return f"({', '.join(map(_brief, value.children))})"
    if isinstance(value, Fallback):
        return f"fallback({_brief(value.primary)}, {_brief(value.alternative)})"
    if isinstance(value, Choice):
        return value.decision.name
    return value.__name__ if isinstance(value, type) else repr(value)


operators.both = _both
operators.with_policy = _with_policy
operators.with_compensation = _with_compensation
