"""Compiles a flow into a plan: names, links and policies are checked and worked out once. Nothing runs here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final

from saga.errors import CircuitOpenError, SagaDefinitionError
from saga.flow import (
    Choice,
    ChoiceTask,
    Fallback,
    Flow,
    ForEach,
    FunctionTask,
    Parallel,
    Pause,
    PauseTask,
    Sequence,
    Step,
    Unit,
    UnitTask,
)
from saga.flow.functions import function_name
from saga.flow.policies import unsaid
from saga.flow.wrapped import Resolver
from saga.machine.contexts import fitting, shared_by
from saga.machine.growing import GrowingPlan, refuse_names_of_branches
from saga.machine.keys import needs_of
from saga.machine.plan import Content, Each, Group, Plan, PlannedStep, Ways
from saga.machine.tasks import task_and_policies
from saga.machine.waits import accepts_of
from saga.policy import Ask

__all__ = ["WITH_ASYNC_CONNECTIONS", "WITH_A_DATABASE", "OpenPlan", "Resolver", "compile_flow"]

WITH_A_DATABASE: Final = "a store with a database: SqliteStore, PostgresStore or SQLAlchemyStore"
"""What a transactional step needs, for errors."""

WITH_ASYNC_CONNECTIONS: Final = (
    "has async functions, which needs a store with asynchronous connections: PostgresStore, or SQLAlchemyStore where psycopg, "
    "aiomysql or aiosqlite is installed; or make them plain functions, which an event loop has called in a thread"
)
"""What a transactional step needs that is a coroutine function, for errors."""


def compile_flow(flow: Flow, saga: str, resolver: Resolver | None = None) -> Plan:
    """Return the plan of ``flow``.

    :param resolver: makes a task, or a context manager for one, of a task class; without it the class is called.
    :raises SagaDefinitionError: names clash, something is empty, or a policy is wrong.
    """
    plan = Plan("")
    compiler = _Compiler(plan, saga, resolver)
    part = compiler.add(flow, "", 0)
    _link(part.exits, None)
    plan.flow = flow
    plan.entry = part.entry
    plan._shape = part.shape
    plan.characterize(plan.steps)
    if plan.grows:
        plan = GrowingPlan(plan)
        refuse_names_of_branches(plan, saga)
    plan.accepts = accepts_of(plan, saga)
    plan.context = shared_by(compiler.kinds, saga)
    plan.needs = needs_of(plan, saga)
    return plan


class OpenPlan(Plan):
    """A plan that grows while it is executed: what follows what there is, is not known yet."""

    open = grows = True

    def __init__(self, saga: str, defaults: Mapping[str, Any] | None = None) -> None:
        super().__init__("open")
        self._saga = saga
        self._compiler = _Compiler(self, saga, None)
        self._compiler.defaults = self._defaults = defaults or {}
        self._numbers: dict[str, int] = {}  # by name: how many steps were given it

    def for_execution(self) -> OpenPlan:
        """Return an empty plan: every execution fills its own."""
        return OpenPlan(self._saga, self._defaults)

    def spelt_out(self, step: Step) -> Step:
        """Return the step with the policies that it has by default here, for who knows no defaults."""
        own = unsaid(step.task, step.policies, self._defaults)
        return replace(step, policies={**own, **step.policies}) if own else step

    def extend(
        self, flow: Flow, allow_async: bool = True, transacts: bool = True, transacts_async: bool = True
    ) -> tuple[PlannedStep, ...]:
        """Add a flow at the end, and return the steps to start.

        :param transacts: whether there is a store with a database, for transactional steps.
        :param transacts_async: whether it has asynchronous connections for those that are coroutine functions.
        :raises SagaDefinitionError: the flow is wrong; the plan is as it was.
        """
        steps, groups, parents = len(self.steps), len(self.groups), len(self.parents)
        follows = self._compiler.follows
        try:
            part = self._compiler.add(flow, "", 0)
            added = self.steps[steps:]
            for step in added:
                if step.asynchronous and not allow_async:
                    raise SagaDefinitionError(f"step {step.name!r} has async functions, which need an `async with` block")
                if step.pause is not None and step.pause.signals:
                    raise SagaDefinitionError(f"step {step.name!r} receives a signal, which only a saga with a store can")
                if step.transactional and not transacts:
                    raise SagaDefinitionError(f"step {step.name!r} is transactional, which needs {WITH_A_DATABASE}")
                if step.transacts_async and not transacts_async:
                    raise SagaDefinitionError(f"step {step.name!r} is transactional, and {WITH_ASYNC_CONNECTIONS}")
                if step.on_error is Ask:
                    raise SagaDefinitionError(
                        f"step {step.name!r} has on_error=Ask, and nobody can go on with a block later; catch its exception in "
                        "the block, or declare a saga"
                    )
        except SagaDefinitionError:
            for step in self.steps[steps:]:
                del self.by_name[step.name]
            del self.steps[steps:], self.groups[groups:], self.parents[parents:]
            self._compiler.inside, self._compiler.units, self._compiler.follows = (), (), follows
            raise
        for leaving in part.exits:
            leaving.then = ()
        self.characterize(added)
        return part.entry

    def free_name(self, name: str) -> str:
        """Return ``name``, numbered where it is taken."""
        if name not in self.by_name:
            return name
        number = self._numbers.get(name, 1)
        while (free := f"{name}#{number + 1}") in self.by_name:
            number += 1
        self._numbers[name] = number
        return free


@dataclass(slots=True)
class _Part:
    entry: tuple[PlannedStep, ...]
    exits: tuple[PlannedStep | Group | Each, ...]
    shape: str


class _Compiler:
    def __init__(self, plan: Plan, saga: str, resolver: Resolver | None) -> None:
        self.plan = plan
        self.saga = saga
        self.resolver = resolver
        self.inside: tuple[tuple[Group, int], ...] = ()
        self.units: tuple[PlannedStep, ...] = ()
        self.defaults: Mapping[str, Any] = {}
        self.kind: type[Any] | None = None  # of the contexts that the innermost saga names
        self.kinds: list[tuple[str | None, type[Any]]] = []  # of the outermost sagas that name one: their names, and these
        self.follows = False  # whether there is a step before, whose result the next one can get

    def add(self, flow: Flow, prefix: str, scope: int) -> _Part:
        if isinstance(flow, Step):
            return self.add_step(flow, prefix, scope)
        if isinstance(flow, Sequence):
            return self.add_sequence(flow, prefix, scope)
        if isinstance(flow, Parallel):
            return self.add_parallel(flow, prefix, scope)
        if isinstance(flow, Fallback):
            return self.add_fallback(flow, prefix, scope)
        if isinstance(flow, Choice):
            return self.add_choice(flow, prefix, scope)
        if isinstance(flow, ForEach):
            return self.add_each(flow, prefix, scope)
        if isinstance(flow, Unit):
            return self.add_unit(flow, prefix, scope)
        if isinstance(flow, Pause):
            return self.add_step(Step(PauseTask(), flow.name, flow.policies), prefix, scope, flow)
        raise SagaDefinitionError(f"saga {self.saga!r}: {flow!r} is not a flow; give a task, sequence() or parallel()")

    def add_step(self, flow: Step, prefix: str, scope: int, pause: Pause | None = None) -> _Part:
        plan, name = self.plan, prefix + flow.name
        self._refuse_taken(name, flow.task)
        defaults = self.defaults if pause is None else self._of_a_pause(pause)
        if isinstance(flow.task, UnitTask):
            defaults = {}
        try:
            task, policies = task_and_policies(flow, self.resolver, defaults)
        except SagaDefinitionError as error:
            error.args = (f"saga {self.saga!r}: step {name!r}: {error}",)
            raise
        if not self.follows and isinstance(flow.task, FunctionTask):
            self._check_first(name, flow.task)
        step = PlannedStep(len(plan.steps), name, task, scope, policies)
        self.follows = self.follows or not isinstance(task, UnitTask)
        if pause is not None:
            step.pause = pause
            if pause.asks:
                step.told_by = plan.steps[-1]
        if self.inside:
            step.branches = self.inside
        if self.units:
            step.units = self.units
        if step.pivot:
            self._check_pivot(step)
        if step.transactional:
            self._check_transactional(step)
        plan.steps.append(step)
        plan.by_name[name] = step
        if plan.open:
            return _Part((step,), (step,), "")
        # What the fold of a journal depends on; retries and timeouts may change under a running execution.
        rules = (step.compensates, step.compensate_on_failure, step.in_doubt.value, step.pivot, _waited_for(pause))
        return _Part((step,), (step,), f"{name!r}{rules}")

    def _refuse_taken(self, name: str, task: Any) -> None:
        if name in self.plan.by_name:
            given = f"<{task.__name__} task>" if isinstance(task, type) else repr(task)
            raise SagaDefinitionError(
                f"saga {self.saga!r}: step {name!r}: the name is used twice ({self.plan.by_name[name].task!r} and {given}); "
                "give one of them another with step(task, name=...) or the class attribute name"
            )

    def _of_a_pause(self, pause: Pause) -> dict[str, Any]:
        """Return which of the defaults a wait has: nobody calls it, and that of a timer cannot fail."""
        fails = bool(pause.signals) and "on_error" in self.defaults
        return {"on_error": self.defaults["on_error"]} if fails else {}

    def _check_first(self, name: str, task: FunctionTask) -> None:
        for function in (task.action, task.verification):
            if function is not None and function.result is not None:
                called = function_name(function.function)
                raise SagaDefinitionError(
                    f"saga {self.saga!r}: step {name!r}: {called} needs {function.result!r}, which would be the result of the "
                    "step before, and there is none; give it with args= or kwargs=, or call it context, if that is meant"
                )

    def _check_pivot(self, step: PlannedStep) -> None:
        wrong = None
        if self.inside:
            wrong = "a pivot stands in a parallel group; put it before or after the group"
        elif self.units:
            wrong = (
                f"a pivot stands in unit {self.units[-1].name!r}, which could not be undone then; put it before or after that"
            )
        elif any(other.pivot for other in self.plan.steps):
            wrong = "a saga has one pivot, and there is another before it"
        if wrong is not None:
            raise SagaDefinitionError(f"saga {self.saga!r}: step {step.name!r}: {wrong}")

    def _check_transactional(self, step: PlannedStep) -> None:
        wrong = None
        if self.inside:
            wrong = (
                "it stands in a parallel group, where others would wait for its transaction; put it before or after the group"
            )
        elif step.timeout is not None or step.compensation_timeout is not None:
            wrong = (
                "it has a timeout, and nobody cuts off a transaction here; have the database end a statement that takes long"
            )
        elif (limited := next((unit.name for unit in self.units if unit.timeout is not None), None)) is not None:
            wrong = f"it stands in unit {limited!r}, which has a timeout, and nobody cuts off a transaction here"
        if wrong is not None:
            raise SagaDefinitionError(f"saga {self.saga!r}: transactional step {step.name!r}: {wrong}")

    def add_fallback(self, flow: Fallback, prefix: str, scope: int) -> _Part:
        assert isinstance(flow.primary, Step | Unit), "method steps are bound before they are compiled"
        follows = self.follows
        primary = self.add(flow.primary, prefix, scope)
        self.follows = follows
        alternative = self.add(flow.alternative, prefix, scope)
        (step,) = primary.entry
        step.fallback = alternative.entry
        step.fallback_on = (*flow.on, CircuitOpenError)
        for entry in alternative.entry:
            entry.instead_of = step
        return _Part(primary.entry, (step, *alternative.exits), f"{primary.shape}?{alternative.shape}")

    def add_unit(self, flow: Unit, prefix: str, scope: int) -> _Part:
        if self.plan.open:
            raise SagaDefinitionError(f"unit {flow.name!r} has policies of its own, which a block says itself; write try ...")
        added = self.add_step(Step(UnitTask(), flow.name, flow.policies), prefix, scope)
        (step,) = added.entry
        content = step.content = Content(step, len(self.plan.parents))
        self.plan.parents.append(scope)
        outside, self.units = self.units, (*self.units, step)
        part = self.add(flow.child, prefix, content.scope)
        self.units = outside
        content.entry = part.entry
        _link(part.exits, content)
        return _Part(added.entry, added.exits, f"{added.shape}<{part.shape}>")

    def add_choice(self, flow: Choice, prefix: str, scope: int) -> _Part:
        if self.plan.open:
            raise SagaDefinitionError(f"step {flow.decision.name!r} chooses, which a block does itself; write if ... else ...")
        decision = self.add_step(flow.decision, prefix, scope)
        assert isinstance(flow.decision.task, ChoiceTask)
        (step,) = decision.entry
        step.ways = Ways(flow.decision.task.way_of, {})
        exits, shapes = decision.exits, []
        for way, child in flow.ways.items():
            self.follows = True
            part = _Part((), (), "") if child == Sequence(()) else self.add(child, prefix, scope)
            step.ways.entries[way] = part.entry
            exits += part.exits
            shapes.append(f"{way}:{part.shape}")
        return _Part(decision.entry, exits, f"{decision.shape}{{{'|'.join(shapes)}}}")

    def add_each(self, flow: ForEach, prefix: str, scope: int) -> _Part:
        if self.plan.open:
            raise SagaDefinitionError(f"step {flow.lists.name!r} goes over a list, which a block does itself; write for ...")
        listing = self.add_step(flow.lists, prefix, scope)
        (step,) = listing.entry
        inner = copy(self)
        inner.plan, inner.follows, inner.units, root = Plan(""), True, (), f"{step.name}[]"
        inner.inside = ((Group(0, 0, (), ()), 0),)
        child = flow.child
        if isinstance(child, Step | Pause):
            part = inner.add(replace(child, name=root), "", 0)
        else:
            part = inner.add(child, f"{root}/", 0)
        template, template.entry = inner.plan, part.entry
        template.characterize(template.steps)
        each = step.then = Each(step.index, root, template, flow.limit, flow.compensate_together)
        together = "+" if flow.compensate_together else ""
        return _Part(listing.entry, (each,), f"{listing.shape}*{together}[{part.shape}]")

    def add_sequence(self, flow: Sequence, prefix: str, scope: int) -> _Part:
        if not flow.children:
            what = f": saga {flow.name!r}" if flow.name else "" if not self.plan.steps else ": a sequence"
            raise SagaDefinitionError(f"saga {self.saga!r}{what} has no steps; add at least one task")
        if flow.name is not None:
            prefix = f"{prefix}{flow.name}/"
        outside, kind = self.defaults, self.kind
        if flow.defaults:
            self.defaults = {**outside, **flow.defaults}
        if flow.context is not None:
            self.kind = fitting(flow.context, flow.name, kind, self.saga)
            if kind is None:
                self.kinds.append((flow.name, flow.context))
        parts = [self.add(child, prefix, scope) for child in flow.children]
        self.defaults, self.kind = outside, kind
        for part, following in itertools.pairwise(parts):
            _link(part.exits, following.entry)
        return _Part(parts[0].entry, parts[-1].exits, f"({','.join(part.shape for part in parts)})")

    def add_parallel(self, flow: Parallel, prefix: str, scope: int) -> _Part:
        if len(flow.children) < 2:
            count = len(flow.children)
            raise SagaDefinitionError(
                f"saga {self.saga!r}: a parallel group has {count} branch{'' if count else 'es'}; give at least two"
            )
        plan = self.plan
        parts, scopes = [], []
        group = Group(len(plan.groups), scope, (), (), flow.compensate_together, flow.limit)
        group.units = self.units
        plan.groups.append(group)
        outside, follows = self.inside, self.follows
        for number, child in enumerate(flow.children):
            self.follows = follows
            scopes.append(len(plan.parents))
            plan.parents.append(scope)
            self.inside = (*outside, (group, number))
            parts.append(self.add(child, prefix, scopes[-1]))
        self.inside = outside
        group.scopes = tuple(scopes)
        group.names = tuple(part.entry[0].name for part in parts)
        group.entries = tuple(part.entry for part in parts)
        for part in parts:
            _link(part.exits, group)
        begun = len(parts) if flow.limit is None else flow.limit
        entry, held_up = (tuple(itertools.chain(*some)) for some in (group.entries[:begun], group.entries[begun:]))
        entry[0].held_up += held_up
        together = "+" if flow.compensate_together else ""
        return _Part(entry, (group,), f"[{together}{'&'.join(part.shape for part in parts)}]")


def _waited_for(pause: Pause | None) -> str | tuple[str, ...] | None:
    """Return what the fold of a wait depends on."""
    if pause is None or not pause.signals:
        return None
    return pause.signals if len(pause.signals) > 1 else pause.signals[0]


def _link(exits: tuple[PlannedStep | Group | Each, ...], then: tuple[PlannedStep, ...] | Group | Content | None) -> None:
    for leaving in exits:
        leaving.then = then
