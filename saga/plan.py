"""A flow compiled and validated: named steps, what follows each, and a fingerprint. Pure data; nothing runs here.

Compilation turns the tree into links, so that the machine never walks it: every step knows what comes after it, either
the steps to start next, or the parallel group it is a branch's end of, or nothing (the flow's end). A *scope* is a view of
the context: 0 is the execution's own, and every branch of a group has another.
"""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from saga.errors import CircuitOpenError, SagaDefinitionError
from saga.flow import POLICIES, Fallback, Flow, FunctionTask, Parallel, Pause, PauseTask, Sequence, Step
from saga.flow.wrapped import Resolver, WrappedTask, compensates, guarded, is_async, resolved
from saga.policy import InDoubt, OnError, Retry, is_seconds
from saga.task import Task

__all__ = ["Call", "Group", "OpenPlan", "Plan", "PlannedStep", "Resolver", "compile_flow"]

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
    pivot: bool = False
    pause: Pause | None = None  # what it waits for, where it is not called at all
    fallback: tuple[PlannedStep, ...] = ()  # what starts instead when it has failed
    fallback_on: tuple[type[Exception], ...] = ()
    instead_of: PlannedStep | None = None  # the step whose fallback begins with this one
    branches: tuple[tuple[Group, int], ...] = ()  # the groups it is in, and which branch of each
    first: Call = field(init=False)
    first_undo: Call = field(init=False)

    @property
    def kind(self) -> type[Task[Any]]:
        """The task's class, as it was given."""
        return self.task.kind if isinstance(self.task, WrappedTask) else type(self.task)

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
    compensate_together: bool = False
    then: tuple[PlannedStep, ...] | Group | None = None


class Plan:
    """A compiled flow.

    :ivar steps: every step, in the order declared.
    :ivar entry: the steps to start first.
    :ivar groups: every parallel group.
    :ivar parents: for each scope, the scope it was forked from (``None`` for the execution's own).
    :ivar asynchronous: whether any task is a coroutine function.
    :ivar pivot: the step after which nothing is undone.
    :ivar receives: whether a step waits for a signal.
    :ivar compensate_together: whether any group's branches are undone at the same time.
    :ivar open: whether it grows.
    :ivar plain: whether it is nothing but calls without a timeout, one after the other.
    """

    open = False

    def __init__(self, steps: list[PlannedStep], groups: list[Group], parents: list[int | None], shape: str) -> None:
        self.entry: tuple[PlannedStep, ...] = ()
        self._shape = shape
        self._hold(steps, groups, parents)

    def _hold(self, steps: list[PlannedStep], groups: list[Group], parents: list[int | None]) -> None:
        self.steps = tuple(steps)
        self.groups = tuple(groups)
        self.parents = tuple(parents)
        self.by_name = {step.name: step for step in steps}
        self.names = tuple(self.by_name)
        self.pivot = next((step for step in steps if step.pivot), None)
        several = groups or self.pivot or any(step.timeout or step.pause or step.fallback for step in steps)
        self.plain = not (self.open or several)
        self.receives = any(step.pause is not None and step.pause.signal is not None for step in steps)
        self.compensate_together = any(group.compensate_together for group in groups)
        self.asynchronous = any(step.async_execute or step.async_compensate for step in steps)

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same names, the same shape and the same rules of undoing, and only then."""
        import hashlib  # costs more to import than all of this package: only who stores executions needs it

        return hashlib.sha256(self._shape.encode()).hexdigest()[:16]

    def find(self, wanted: object) -> list[str]:
        """Return the names of the steps a task class, a task or a name (or the last part of one) stands for."""
        if isinstance(wanted, str):
            return [wanted] if wanted in self.by_name else [n for n in self.names if n.endswith("/" + wanted)]
        if isinstance(wanted, type):
            exact = [step.name for step in self.steps if step.kind is wanted]
            return exact or [step.name for step in self.steps if issubclass(step.kind, wanted)]
        return [step.name for step in self.steps if step.task is wanted or getattr(step.task, "inner", None) is wanted]


class OpenPlan(Plan):
    """A plan that grows while it is executed: what follows what there is, is not known yet."""

    open = True

    def __init__(self, saga: str) -> None:
        super().__init__([], [], [None], "open")
        self._compiler = _Compiler(saga, None)

    def extend(self, flow: Flow, allow_async: bool = True) -> tuple[PlannedStep, ...]:
        """Add a flow at the end, and return the steps to start.

        :raises SagaDefinitionError: the flow is wrong; the plan is as it was.
        """
        compiler = self._compiler
        before = (len(compiler.steps), len(compiler.groups), len(compiler.parents), dict(compiler.names))
        try:
            part = compiler.add(flow, "", 0)
            for step in compiler.steps[before[0] :]:
                if (step.async_execute or step.async_compensate) and not allow_async:
                    raise SagaDefinitionError(f"step {step.name!r} has async functions, which need an `async with` block")
                if step.pause is not None and step.pause.signal is not None:
                    raise SagaDefinitionError(f"step {step.name!r} receives a signal, which only a saga with a store can")
        except SagaDefinitionError:
            steps, groups, parents, compiler.names = before
            del compiler.steps[steps:], compiler.groups[groups:], compiler.parents[parents:]
            compiler.inside = ()
            raise
        compiler.link(part.exits, ())
        self._hold(compiler.steps, compiler.groups, compiler.parents)
        return part.entry

    def free_name(self, name: str) -> str:
        """Return ``name``, numbered where it is taken."""
        number = 1
        free = name
        while free in self.by_name:
            number += 1
            free = f"{name}#{number}"
        return free


def compile_flow(flow: Flow, saga: str, resolver: Resolver | None = None) -> Plan:
    """Return the plan of ``flow``.

    :param resolver: makes a task, or a context manager for one, of a task class; without it the class is called.
    :raises SagaDefinitionError: names clash, something is empty, a policy is wrong, a task is asynchronous.
    """
    compiler = _Compiler(saga, resolver)
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
    def __init__(self, saga: str, resolver: Resolver | None) -> None:
        self.saga = saga
        self.resolver = resolver
        self.inside: tuple[tuple[Group, int], ...] = ()
        self.steps: list[PlannedStep] = []
        self.groups: list[Group] = []
        self.parents: list[int | None] = [None]
        self.names: dict[str, object] = {}

    def add(self, flow: Flow, prefix: str, scope: int) -> _Part:
        if isinstance(flow, Step):
            return self.add_step(flow, prefix, scope)
        if isinstance(flow, Sequence):
            return self.add_sequence(flow, prefix, scope)
        if isinstance(flow, Parallel):
            return self.add_parallel(flow, prefix, scope)
        if isinstance(flow, Fallback):
            return self.add_fallback(flow, prefix, scope)
        if isinstance(flow, Pause):
            return self.add_step(Step(PauseTask(), flow.name, flow.policies), prefix, scope, flow)
        raise SagaDefinitionError(f"saga {self.saga!r}: {flow!r} is not a flow; give a task, sequence() or parallel()")

    def add_step(self, flow: Step, prefix: str, scope: int, pause: Pause | None = None) -> _Part:
        name = prefix + _checked_name(flow.name, f"saga {self.saga!r}: task {flow.task!r}")
        where = f"saga {self.saga!r}: step {name!r}"
        if name in self.names:
            told = f"<{flow.task.__name__} task>" if isinstance(flow.task, type) else repr(flow.task)
            raise SagaDefinitionError(
                f"{where}: the name is used twice ({self.names[name]!r} and {told}); give one of them another with "
                "step(task, name=...) or the class attribute name"
            )
        step = _planned(len(self.steps), name, flow, scope, where, self.resolver)
        self.names[name] = step.task
        step.pause = pause
        step.branches = self.inside
        if step.pivot and self.inside:
            raise SagaDefinitionError(f"{where}: a pivot stands in a parallel group; put it before or after the group")
        if step.pivot and any(other.pivot for other in self.steps):
            raise SagaDefinitionError(f"{where}: a saga has one pivot, and there is another before it")
        self.steps.append(step)
        # What the fold of a journal depends on; retries and timeouts may change under a running execution.
        rules = (step.compensates, step.compensate_on_failure, step.in_doubt.value, step.pivot, pause and pause.signal)
        return _Part((step,), (step,), f"{name}{rules}")

    def add_fallback(self, flow: Fallback, prefix: str, scope: int) -> _Part:
        assert isinstance(flow.primary, Step), "method steps are bound before they are compiled"
        primary = self.add_step(flow.primary, prefix, scope)
        alternative = self.add(flow.alternative, prefix, scope)
        (step,) = primary.entry
        step.fallback = alternative.entry
        step.fallback_on = (*flow.on, CircuitOpenError)
        for entry in alternative.entry:
            entry.instead_of = step
        return _Part(primary.entry, (step, *alternative.exits), f"{primary.shape}?{alternative.shape}")

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
        group = Group(len(self.groups), scope, (), (), flow.compensate_together)
        self.groups.append(group)
        outside = self.inside
        for number, child in enumerate(flow.children):
            scopes.append(len(self.parents))
            self.parents.append(scope)
            self.inside = (*outside, (group, number))
            parts.append(self.add(child, prefix, scopes[-1]))
        self.inside = outside
        group.scopes = tuple(scopes)
        group.names = tuple(part.entry[0].name for part in parts)
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


def _planned(index: int, name: str, flow: Step, scope: int, where: str, resolver: Resolver | None) -> PlannedStep:
    task = _made(flow.task, where, resolver)
    if not isinstance(task, PauseTask):
        _refuse_unrunnable(task, where)
    source = task.kind if isinstance(task, WrappedTask) else task
    policies = {policy: getattr(source, policy) for policy in POLICIES}
    policies.update(flow.policies)
    breaker = policies.pop("breaker", None)
    if breaker is not None:
        task = guarded(task, breaker)
    async_execute, async_compensate = is_async(task)
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
        raise SagaDefinitionError(f"{where}: in_doubt is {policies['in_doubt']!r}; give InDoubt.RERUN, COMPENSATE or ASK")
    for policy in ("compensate_on_failure", "pivot"):
        if not isinstance(policies[policy], bool):
            raise SagaDefinitionError(f"{where}: {policy} is {policies[policy]!r}; give a bool")
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
        compensates=compensates(task),
        async_execute=async_execute,
        async_compensate=async_compensate,
        pivot=policies["pivot"],
    )


def _made(task: Task[Any] | type[Task[Any]], where: str, resolver: Resolver | None) -> Task[Any]:
    if isinstance(task, Task):
        return task
    if resolver is not None:
        return resolved(task, resolver)
    try:
        return task()
    except TypeError as error:
        raise SagaDefinitionError(
            f"{where}: {task.__name__} cannot be made without arguments ({error}); give {task.__name__}(...), or the saga a "
            "resolver"
        ) from error


def _refuse_unrunnable(task: Task[Any], where: str) -> None:
    kind = task.kind if isinstance(task, WrappedTask) else type(task)
    if kind.execute is Task.execute:
        raise SagaDefinitionError(f"{where}: {kind.__name__} has no execute(context); write one")
    calls: list[Any] = [task.execute, task.compensate]
    if isinstance(task, FunctionTask):
        calls = [task.action.function, task.compensation_function]
    for call in calls:
        if call is not None and (inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call)):
            raise SagaDefinitionError(f"{where}: {call.__qualname__} yields; a task returns its result")


def check_timeout(seconds: Any, where: str) -> None:
    """Refuse anything but ``None`` or a positive, finite number of seconds.

    :raises SagaDefinitionError: with ``where`` in the text.
    """
    if seconds is None:
        return
    if not is_seconds(seconds) or seconds == 0:
        raise SagaDefinitionError(f"{where} is {seconds!r}; give seconds as a number above 0, or None for no limit")
