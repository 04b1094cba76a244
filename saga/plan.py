"""A flow compiled and validated: named steps, what follows each, and a fingerprint. Pure data; nothing runs here.

Compilation turns the tree into links, so that the machine never walks it: every step knows what comes after it, either
the steps to start next, or the parallel group it is a branch's end of, or nothing (the flow's end). A *scope* is a view of
the context: 0 is the execution's own, and every branch of a group has another.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from dataclasses import dataclass, field
from typing import Any

from saga.errors import SagaDefinitionError
from saga.flow import POLICIES, Flow, FunctionTask, Parallel, Sequence, Step
from saga.policy import InDoubt, OnError, Retry, is_seconds
from saga.task import Task

__all__ = ["Call", "Group", "Plan", "PlannedStep", "compile_flow"]

_ONCE = Retry(max_attempts=1)


class Call:
    """A call to make: a step's ``execute``, or its ``compensate`` where ``compensation``; ``attempt`` counts from 1."""

    __slots__ = ("attempt", "compensation", "step")

    def __init__(self, step: PlannedStep, attempt: int, compensation: bool = False) -> None:
        self.step = step
        self.attempt = attempt
        self.compensation = compensation


@dataclass(slots=True, eq=False)
class PlannedStep:
    """A step with its policies worked out.

    ``scope`` is the view of the context it works on; ``then`` is what follows it: steps to start, the group it ends a
    branch of, or ``None``; ``following`` is the step that follows it where there is just one.
    """

    index: int
    name: str
    task: Task[Any]
    scope: int
    retry: Retry
    timeout: float | None
    on_error: OnError
    compensation_retry: Retry
    compensate_on_failure: bool
    in_doubt: InDoubt
    compensates: bool
    async_execute: bool
    async_compensate: bool
    then: tuple[PlannedStep, ...] | Group | None = None
    following: PlannedStep | None = None
    first: Call = field(init=False)
    first_undo: Call = field(init=False)

    def __post_init__(self) -> None:
        # First attempts are made so often that their commands are made once.
        self.first = Call(self, 1)
        self.first_undo = Call(self, 1, True)


@dataclass(slots=True, eq=False)
class Group:
    """A parallel group: the scope it stands in, those of its branches in declared order, and what follows it."""

    index: int
    scope: int
    scopes: tuple[int, ...]
    names: tuple[str, ...]
    then: tuple[PlannedStep, ...] | Group | None = None


class Plan:
    """A compiled flow.

    :ivar steps: every step, in the order declared.
    :ivar entry: the steps to start first.
    :ivar groups: every parallel group.
    :ivar parents: for each scope, the scope it was forked from (``None`` for the execution's own).
    :ivar asynchronous: whether any task is a coroutine function.
    :ivar plain: whether no two calls can ever be under way at once, and none has a timeout.
    """

    def __init__(self, steps: list[PlannedStep], groups: list[Group], parents: list[int | None], shape: str) -> None:
        self.steps = tuple(steps)
        self.groups = tuple(groups)
        self.parents = tuple(parents)
        self.entry: tuple[PlannedStep, ...] = ()
        self.by_name = {step.name: step for step in steps}
        self.names = tuple(self.by_name)
        self.plain = not groups and all(step.timeout is None for step in steps)
        self.asynchronous = any(step.async_execute or step.async_compensate for step in steps)
        self._shape = shape

    @property
    def fingerprint(self) -> str:
        """The same for the same names, shape and policies, and only then."""
        import hashlib  # costs more to import than all of this package: only who stores executions needs it

        return hashlib.sha256(self._shape.encode()).hexdigest()[:16]

    def find(self, wanted: object) -> list[str]:
        """Return the names of the steps a task class, a task or a name (or the last part of one) stands for."""
        if isinstance(wanted, str):
            return [wanted] if wanted in self.by_name else [n for n in self.names if n.endswith("/" + wanted)]
        if isinstance(wanted, type):
            exact = [step.name for step in self.steps if type(step.task) is wanted]
            return exact or [step.name for step in self.steps if isinstance(step.task, wanted)]
        return [step.name for step in self.steps if step.task is wanted]


def compile_flow(flow: Flow, saga: str) -> Plan:
    """Return the plan of ``flow``.

    :raises SagaDefinitionError: names clash, something is empty, a policy is wrong, a task is asynchronous.
    """
    compiler = _Compiler(saga)
    entry = compiler.add(flow, "", 0)
    compiler.link(entry.exits, None)
    plan = Plan(compiler.steps, compiler.groups, compiler.parents, entry.shape)
    plan.entry = entry.entry
    return plan


@dataclass(slots=True)
class _Part:
    entry: tuple[PlannedStep, ...]
    exits: tuple[PlannedStep | Group, ...]
    shape: str


class _Compiler:
    def __init__(self, saga: str) -> None:
        self.saga = saga
        self.steps: list[PlannedStep] = []
        self.groups: list[Group] = []
        self.parents: list[int | None] = [None]
        self.names: dict[str, Task[Any]] = {}

    def add(self, flow: Flow, prefix: str, scope: int) -> _Part:
        if isinstance(flow, Step):
            return self.add_step(flow, prefix, scope)
        if isinstance(flow, Sequence):
            return self.add_sequence(flow, prefix, scope)
        if isinstance(flow, Parallel):
            return self.add_parallel(flow, prefix, scope)
        raise SagaDefinitionError(f"saga {self.saga!r}: {flow!r} is not a flow; give a task, sequence() or parallel()")

    def add_step(self, flow: Step, prefix: str, scope: int) -> _Part:
        name = prefix + _checked_name(flow.name, f"saga {self.saga!r}: task {flow.task!r}")
        where = f"saga {self.saga!r}: step {name!r}"
        if name in self.names:
            raise SagaDefinitionError(
                f"{where}: the name is used twice ({self.names[name]!r} and {flow.task!r}); give one of them another with "
                "step(task, name=...) or the class attribute name"
            )
        self.names[name] = flow.task
        step = _planned(len(self.steps), name, flow, scope, where)
        self.steps.append(step)
        policies = (step.retry, step.timeout, step.on_error.value, step.compensation_retry)
        return _Part((step,), (step,), f"{name}{policies}{step.compensate_on_failure}{step.in_doubt.value}")

    def add_sequence(self, flow: Sequence, prefix: str, scope: int) -> _Part:
        if not flow.children:
            what = f"saga {flow.name or self.saga!r}" if flow.name or not self.steps else "a sequence"
            raise SagaDefinitionError(f"saga {self.saga!r}: {what} has no steps; add at least one task")
        if flow.name is not None:
            prefix = f"{prefix}{flow.name}/"
        parts = [self.add(child, prefix, scope) for child in flow.children]
        for part, following in itertools.pairwise(parts):
            self.link(part.exits, following.entry)
        return _Part(parts[0].entry, parts[-1].exits, f"({','.join(part.shape for part in parts)})")

    def add_parallel(self, flow: Parallel, prefix: str, scope: int) -> _Part:
        if len(flow.children) < 2:
            count = len(flow.children)
            raise SagaDefinitionError(
                f"saga {self.saga!r}: a parallel group has {count} branch{'' if count else 'es'}; give at least two"
            )
        parts, scopes = [], []
        for child in flow.children:
            scopes.append(len(self.parents))
            self.parents.append(scope)
            parts.append(self.add(child, prefix, scopes[-1]))
        names = tuple(part.entry[0].name for part in parts)
        group = Group(len(self.groups), scope, tuple(scopes), names)
        self.groups.append(group)
        for part in parts:
            self.link(part.exits, group)
        entry = tuple(step for part in parts for step in part.entry)
        return _Part(entry, (group,), f"[{'&'.join(part.shape for part in parts)}]")

    @staticmethod
    def link(exits: tuple[PlannedStep | Group, ...], then: tuple[PlannedStep, ...] | Group | None) -> None:
        for leaving in exits:
            leaving.then = then
            if isinstance(leaving, PlannedStep) and isinstance(then, tuple) and len(then) == 1:
                leaving.following = then[0]


def _checked_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise SagaDefinitionError(f"{where}: its name is {name!r}; give a non-empty string")
    return name


def _planned(index: int, name: str, flow: Step, scope: int, where: str) -> PlannedStep:
    task = flow.task
    _refuse_unrunnable(task, where)
    policies = {policy: getattr(task, policy) for policy in POLICIES}
    policies.update(flow.policies)
    on_error = policies["on_error"]
    for policy in ("retry", "compensation_retry"):
        if policies[policy] is not None and not isinstance(policies[policy], Retry):
            raise SagaDefinitionError(f"{where}: {policy} is {policies[policy]!r}; give Retry(max_attempts, ...)")
    retry = policies["retry"]
    if isinstance(on_error, Retry):
        if retry is not None:
            raise SagaDefinitionError(f"{where}: give retry= or on_error=Retry(...), not both")
        retry, on_error = on_error, on_error.then
    if not isinstance(on_error, OnError):
        raise SagaDefinitionError(f"{where}: on_error is {on_error!r}; give Compensate, Skip or Retry(..., then=...)")
    if not isinstance(policies["in_doubt"], InDoubt):
        raise SagaDefinitionError(f"{where}: in_doubt is {policies['in_doubt']!r}; give RERUN, COMPENSATE or ASK")
    if not isinstance(policies["compensate_on_failure"], bool):
        raise SagaDefinitionError(f"{where}: compensate_on_failure is {policies['compensate_on_failure']!r}; give a bool")
    check_timeout(policies["timeout"], f"{where}: timeout")
    return PlannedStep(
        index=index,
        name=name,
        task=task,
        scope=scope,
        retry=retry or _ONCE,
        timeout=policies["timeout"],
        on_error=on_error,
        compensation_retry=policies["compensation_retry"] or _ONCE,
        compensate_on_failure=policies["compensate_on_failure"],
        in_doubt=policies["in_doubt"],
        compensates=_compensates(task),
        async_execute=_is_async(task.action.function if isinstance(task, FunctionTask) else task.execute),
        async_compensate=_is_async(task.undo_function if isinstance(task, FunctionTask) else task.compensate),
    )


def _compensates(task: Task[Any]) -> bool:
    if isinstance(task, FunctionTask):
        return task.compensation is not None
    return getattr(task.compensate, "__func__", None) is not Task.compensate


def _refuse_unrunnable(task: Task[Any], where: str) -> None:
    if not isinstance(task, FunctionTask) and getattr(task.execute, "__func__", None) is Task.execute:
        raise SagaDefinitionError(f"{where}: {type(task).__name__} has no execute(context); write one")
    calls: list[Any] = [task.execute, task.compensate]
    if isinstance(task, FunctionTask):
        calls = [task.action.function, task.undo_function]
    for call in calls:
        if inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call):
            raise SagaDefinitionError(f"{where}: {call.__qualname__} yields; a task returns its result")


def _is_async(call: Any) -> bool:
    while isinstance(call, functools.partial):
        call = call.func
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def check_timeout(seconds: Any, where: str) -> None:
    """Refuse anything but ``None`` or a positive, finite number of seconds.

    :raises SagaDefinitionError: with ``where`` in the text.
    """
    if seconds is None:
        return
    if not is_seconds(seconds) or seconds == 0:
        raise SagaDefinitionError(f"{where} is {seconds!r}; give seconds as a number above 0, or None for no limit")
