"""Stand-ins: a saga whose steps call something else, and are otherwise what they were. Nothing is called here."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from saga.declared import refuse_unmade
from saga.errors import SagaDefinitionError, near
from saga.flow import (
    POLICIES,
    Choice,
    ChoiceTask,
    Fallback,
    Flow,
    ForEach,
    FunctionTask,
    MethodStep,
    Parallel,
    Pause,
    Sequence,
    Step,
    Unit,
)
from saga.flow.functions import is_function
from saga.flow.policies import policies_of
from saga.flow.wrapped import WrappedTask, are_async, compensates, verifies
from saga.saga import Saga
from saga.task import Task

__all__ = ["with_stand_ins"]

S = TypeVar("S", bound=Saga[Any])

_WHERE: Final = "with_stand_ins()"


def with_stand_ins(saga: S, stand_ins: Mapping[Any, Any]) -> S:
    """Return a saga that is the same, but that some of its steps call stand-ins in place of their own tasks.

    Names, places and policies stay, and so does what it can finish: a worker with this one runs what the other one submitted.
    A stand-in takes the place of the whole task. Where it has no ``compensate`` and the task has one, there is nothing to do to
    undo it, and an undo is told all the same; where it has no ``verify`` and the task has one, nobody knows. What only the
    stand-in has is not called. ``context.result_of(TheTask)`` gives what the stand-in returned.

    :param saga: it stays as it is.
    :param stand_ins: by the class of the tasks they stand for, the task, the function, or the step's name: a task or its
        class, which need not be one of the real task's; any object that has ``execute(context)``; a function, called as the
        function of a step is; or ``step(function, compensate, verify=...)``.
    :raises SagaDefinitionError: there is no such step, or what is to stand for it cannot be called.
    """
    refuse_unmade(saga)
    if not isinstance(stand_ins, Mapping):
        raise SagaDefinitionError(f"{_WHERE}: the stand-ins are {stand_ins!r}; give a dict, {{TheTask: its stand-in}}")
    twin: Any = copy.copy(saga)
    twin._lock, twin._definition = threading.Lock(), None
    twin._stand_ins = {**vars(saga).get("_stand_ins", {}), **stand_ins}
    twin._whole = partial(_whole, twin)
    _ = twin.definition  # what is wrong is told now
    return twin  # type: ignore[no-any-return]


def _whole(twin: Any, name: str | None) -> Flow:
    """Return the whole flow of a saga that has stand-ins, in place of its own method: tasks may be added later."""
    flow = type(twin)._whole(twin, None)
    steps = dict(_steps_of(flow, ""))
    chosen: dict[str, Any] = {}
    for key, stand_in in twin._stand_ins.items():
        chosen |= dict.fromkeys(_found(key, steps, twin.name), stand_in)
    made = _with(flow, chosen, "")
    assert isinstance(made, Sequence)
    return replace(made, name=name)


def _steps_of(flow: Flow, prefix: str) -> Iterator[tuple[str, Step | Pause]]:
    """Yield each step with its whole name."""
    if isinstance(flow, Step | Pause):
        yield prefix + flow.name, flow
    for child in _children_of(flow):
        yield from _steps_of(child, _prefix_of(flow, prefix))


def _with(flow: Flow, chosen: Mapping[str, Any], prefix: str) -> Flow:
    """Return the flow with the stand-ins chosen by whole names."""
    if isinstance(flow, Step):
        name = prefix + flow.name
        return _stood_in_for(flow, chosen[name], name) if name in chosen else flow
    inner = partial(_with, chosen=chosen, prefix=_prefix_of(flow, prefix))
    if isinstance(flow, Sequence | Parallel):
        return replace(flow, children=tuple(map(inner, flow.children)))
    if isinstance(flow, Fallback):
        return replace(flow, primary=inner(flow.primary), alternative=inner(flow.alternative))
    if isinstance(flow, Choice):
        decision: Any = inner(flow.decision)
        return replace(flow, decision=decision, ways={way: inner(child) for way, child in flow.ways.items()})
    if isinstance(flow, ForEach | Unit):
        return replace(flow, child=inner(flow.child))
    return flow


def _children_of(flow: Flow) -> tuple[Flow, ...]:
    if isinstance(flow, Sequence | Parallel):
        return flow.children
    if isinstance(flow, Choice):
        return (flow.decision, *flow.ways.values())
    if isinstance(flow, ForEach | Unit):
        return (flow.child,)
    return (flow.primary, flow.alternative) if isinstance(flow, Fallback) else ()


def _prefix_of(flow: Flow, prefix: str) -> str:
    if isinstance(flow, ForEach):
        return f"{prefix}{flow.lists.name}/"
    return f"{prefix}{flow.name}/" if isinstance(flow, Sequence) and flow.name is not None else prefix


# -- what stands for what ---------------------------------------------------------------------------------------------


def _found(key: Any, steps: Mapping[str, Step | Pause], saga: str) -> list[str]:
    """Return the names of the steps that a key of the stand-ins means.

    :raises SagaDefinitionError: there are none, or one waits.
    """
    if isinstance(key, MethodStep):
        key = key.name
    tasks = {name: one.task for name, one in steps.items() if isinstance(one, Step)}
    if isinstance(key, str):
        found = [key] if key in steps else [name for name in steps if name.endswith(f"/{key}")]
    elif isinstance(key, type) and issubclass(key, Task):
        kinds = {name: task if isinstance(task, type) else type(task) for name, task in tasks.items()}
        found = [name for name, kind in kinds.items() if kind is key]
        found = found or [name for name, kind in kinds.items() if issubclass(kind, key)]
    else:
        functions = {name: task.action.function for name, task in tasks.items() if isinstance(task, FunctionTask)}
        functions |= {name: task.by for name, task in tasks.items() if isinstance(task, ChoiceTask)}
        found = [name for name, task in tasks.items() if task is key or functions.get(name, tasks) is key]
    if not found:
        wanted = key if isinstance(key, str) else getattr(key, "__name__", None) or repr(key)
        known = {**dict.fromkeys(steps), **{getattr(task, "__name__", type(task).__name__): 0 for task in tasks.values()}}
        raise SagaDefinitionError(
            f"{_WHERE}: saga {saga!r} has no step of {wanted}{near(wanted, known)}; steps: {', '.join(steps)}"
        )
    asked = {f"{name}: until" for name, one in steps.items() if isinstance(one, Pause) and one.asks}
    tells = next((name for name in found if name in asked), None)
    if tells is not None:
        raise SagaDefinitionError(
            f"{_WHERE}: step {tells!r} tells how long a timer waits; move a Clock, or let something stand for "
            "what its function asks"
        )
    waits = next((name for name in found if isinstance(steps[name], Pause)), None)
    if waits is not None:
        raise SagaDefinitionError(
            f"{_WHERE}: step {waits!r} waits, and calls nothing that another could stand for; move a Clock, or send its signal"
        )
    return found


def _stood_in_for(real: Step, given: Any, name: str) -> Step:
    stand_in = _task_of(given, real.task, name)
    given_in_flow = dict(real.policies)
    beside = {"breaker": given_in_flow.pop("breaker")} if "breaker" in given_in_flow else {}
    task: Any = StandIn(real.task, stand_in)
    if isinstance(real.task, ChoiceTask):  # what it decides is one of the ways
        task = real.task.asking(task.execute)
    defaults = {policy: getattr(Task, policy) for policy in POLICIES}
    return replace(real, task=task, policies={**defaults, **policies_of(real.task, given_in_flow), **beside})


def _task_of(given: Any, real: Any, name: str) -> Any:
    """Return what has the methods to be called.

    :raises SagaDefinitionError: nothing has.
    """
    where = f"{_WHERE}: what stands for step {name!r}"
    if isinstance(given, Step):
        if given.policies:
            raise SagaDefinitionError(f"{where} has policies ({', '.join(given.policies)}); leave them out: the step's stay")
        given = given.task
    if isinstance(given, type) and callable(getattr(given, "execute", None)):
        try:
            given = given()
        except TypeError as error:
            kind = given.__name__
            raise SagaDefinitionError(
                f"{where}, {kind}, cannot be made without arguments ({error}); give {kind}(...)"
            ) from error
    if isinstance(given, Task):
        return given if isinstance(given, FunctionTask) else Step(given, name).task  # which is looked at
    if callable(getattr(type(given), "execute", None)):
        return given
    if not is_function(given):
        raise SagaDefinitionError(f"{where} is {given!r} ({type(given).__name__}); give a task, a task class or a function")
    action = real.action if isinstance(real, FunctionTask) else None
    return FunctionTask(given) if action is None else FunctionTask(given, None, action.args, action.kwargs)


class StandIn(WrappedTask):
    """What a step calls in place of its own task, whose class it is known by."""

    def __init__(self, real: Any, stand_in: Any) -> None:
        super().__init__(real if isinstance(real, type) else type(real), stand_in, compensates(real), verifies(real))
        known = are_async(stand_in) if isinstance(stand_in, FunctionTask) else (False, False, False)
        for method, asynchronous in zip(("execute", "compensate", "verify"), known, strict=True):
            call = getattr(stand_in, method, None) or _nothing
            setattr(self, method, _awaiting(call) if asynchronous else call)

    def execute(self, context: Any) -> Any:
        raise AssertionError("each object has its own")


def _nothing(context: Any) -> None:
    """Where a stand-in has no such method."""


def _awaiting(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def awaiting(context: Any) -> Any:
        return await call(context)

    return awaiting
