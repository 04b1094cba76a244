"""A plan: named steps, what follows each, and a fingerprint. Pure data; :mod:`saga.machine.compile` makes it of a flow.

A plan is made of links, so that the machine never walks a tree: every step knows what comes after it, either the steps to
start next, or the parallel group it is a branch's end of, or nothing (the flow's end); one that decides has several ways
to go on, which meet again in what comes after it. A *scope* is a view of the context:
0 is the execution's own, and every branch of a group has another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from saga.errors import SagaDefinitionError
from saga.flow import Accept, Flow, Pause
from saga.flow.wrapped import WrappedTask
from saga.lost_answers import LOST_ANSWERS
from saga.machine.commands import COMPENSATE, EXECUTE, Call
from saga.policy import InDoubt, OnError, Retry
from saga.task import Task

__all__ = ["ONCE", "Content", "Each", "Group", "Plan", "PlannedStep", "Then", "Ways"]

ONCE: Final = Retry(max_attempts=1)
"""The policy of a call that is given none."""


class PlannedStep:
    """A step of a plan, with its policies worked out: what observers get, too. Nobody changes it.

    :ivar index: its place among the steps declared.
    :ivar name: unique within the plan.
    :ivar task: what is called, behind its resolver and its breaker.
    :ivar inner_task: the user's own, where there is one.
    :ivar scope: the view of the context it works on.
    :ivar retry: of ``execute``.
    :ivar compensation_retry: of ``compensate``.
    :ivar verification_retry: of ``verify``.
    :ivar timeout: seconds, of an ``execute``.
    :ivar compensation_timeout: ... of a ``compensate``.
    :ivar on_error: what follows when it has failed for good.
    :ivar in_doubt: ... when its outcome is unknown.
    :ivar unknown_on: says of an error of ``execute`` whether it leaves the outcome unknown.
    :ivar transactional: whether its execute and compensate are made in a transaction of the store's database.
    :ivar requires: the keys of the context without which its execute is not called; ``None``: nothing is said of them.
    :ivar provides: the keys that it has set when it returns.
    :ivar compensates: whether there is anything to call to undo it.
    :ivar verifies: ... to learn what came of it.
    :ivar pause: what it waits for, where it is not called at all.
    :ivar told_by: the step whose result says how long it waits, or until when.
    :ivar then: what follows it: steps, the group or the unit that it ends, what is done for each item it lists, or ``None``.
    :ivar fallback: what starts instead when it has failed.
    :ivar fallback_on: ... with one of these.
    :ivar ways: of one that decides: how the saga goes on.
    :ivar instead_of: the step whose fallback begins with this one.
    :ivar branches: the groups it is in, and which branch of each.
    :ivar content: of one that stands for a unit: what is in that.
    :ivar units: those that stand for the units it is in, the outermost first.
    :ivar formerly: where the plan has grown anew: the index of the step that had its name.
    :ivar held_up: where it is the first of a group's: those that begin when there is room.
    :ivar item: of a step that is done for each item of a list: that.
    :ivar within: ... the names of the branches that it is in, the outermost first.
    """

    # What most steps leave as it is, is kept here.
    retry: Retry = ONCE
    timeout: float | None = None
    on_error: OnError = OnError.COMPENSATE
    compensation_retry: Retry = ONCE
    compensation_timeout: float | None = None
    verification_retry: Retry = ONCE
    compensate_on_failure: bool = False
    in_doubt: InDoubt = InDoubt.COMPENSATE
    unknown_on: Callable[[Exception], bool] = staticmethod(LOST_ANSWERS)
    pivot: bool = False
    transactional: bool = False
    requires: tuple[str, ...] | None = None
    provides: tuple[str, ...] | None = None
    compensates: bool = False
    verifies: bool = False
    async_execute: bool = False
    async_compensate: bool = False
    async_verify: bool = False
    asynchronous: bool = False  # whether any of the three is
    pause: Pause | None = None
    told_by: PlannedStep | None = None
    then: Then = None
    fallback: tuple[PlannedStep, ...] = ()
    fallback_on: tuple[type[Exception], ...] = ()
    ways: Ways | None = None
    instead_of: PlannedStep | None = None
    branches: tuple[tuple[Group, int], ...] = ()
    content: Content | None = None
    units: tuple[PlannedStep, ...] = ()
    formerly: int | None = None
    held_up: tuple[PlannedStep, ...] = ()
    item: Any = None
    within: tuple[str, ...] = ()

    def __init__(self, index: int, name: str, task: Task[Any], scope: int, policies: dict[str, Any]) -> None:
        self.__dict__.update(policies)
        self.index = index
        self.name = name
        self.task = task
        self.scope = scope
        # First attempts are made so often that their commands are made once.
        self.first = Call(self, 1)
        self.first_compensation = Call(self, 1, COMPENSATE)

    def is_async(self, phase: str) -> bool:
        """Whether the method of that name is a coroutine function."""
        if phase == EXECUTE:
            return self.async_execute
        return self.async_compensate if phase == COMPENSATE else self.async_verify

    @property
    def transacts_async(self) -> bool:
        """Whether it is transactional and works, or is undone, in an event loop."""
        return self.transactional and (self.async_execute or self.async_compensate)

    @property
    def gives_way(self) -> bool:
        """Whether the saga need not go on with it when it fails: it says Skip or Ask, has a fallback, or is in a unit."""
        return self.on_error is not OnError.COMPENSATE or bool(self.fallback or self.units)

    @property
    def onward(self) -> tuple[Then, ...]:
        """All that may follow when it has ended well."""
        return (self.then,) if self.ways is None else (*self.ways.entries.values(), self.then)

    @property
    def longest_around_key(self) -> int:
        """Of a step that lists items: how many characters stand around an item's key in the longest name of its steps."""
        if not isinstance(self.then, Each):
            return 0
        longest = max(len(step.name) for step in self.then.template.declared())
        return len(self.name) + len("[]") + longest - len(self.then.root)

    @property
    def kind(self) -> type[Task[Any]]:
        """The task's class, as it was given."""
        return self.task.kind if isinstance(self.task, WrappedTask) else type(self.task)

    @property
    def inner_task(self) -> Task[Any]:
        """The user's own task, where there is one before a call; otherwise what stands for it."""
        return getattr(self.task, "inner", None) or self.task

    def __repr__(self) -> str:
        return f"<step {self.name!r}>"


@dataclass(slots=True, eq=False)
class Group:
    """A parallel group: the scope it stands in, those of its branches in declared order, the units it is in, what follows it.

    :ivar entries: for each branch, the steps to start first.
    :ivar limit: how many branches are under way at a time.
    :ivar each: the step that lists what its branches are for, where that is so.
    """

    index: int
    scope: int
    scopes: tuple[int, ...]
    names: tuple[str, ...]
    compensate_together: bool = False
    limit: int | None = None
    entries: tuple[tuple[PlannedStep, ...], ...] = ()
    each: str | None = None
    units: tuple[PlannedStep, ...] = ()
    then: Then = None


@dataclass(slots=True, eq=False)
class Content:
    """What is in the unit that a step stands for: the scope it works on, the steps to start first; it follows the last."""

    step: PlannedStep
    scope: int
    entry: tuple[PlannedStep, ...] = ()


@dataclass(slots=True, eq=False)
class Each:
    """What follows a step that lists items: a branch for each, and then what follows them.

    :ivar index: that of the step.
    :ivar root: what the names in the template begin with.
    :ivar template: a plan of the steps of a branch.
    :ivar group: the branches, when there are any.
    :ivar grown: each list that was made, with its branches and their steps.
    """

    index: int
    root: str
    template: Plan
    limit: int | None
    compensate_together: bool
    group: Group | None = None
    grown: list[tuple[Any, Group, list[PlannedStep]]] = field(default_factory=list)
    then: Then = None


Then = tuple[PlannedStep, ...] | Group | Each | Content | None


@dataclass(slots=True, eq=False)
class Ways:
    """How the saga may go on after a step that decides.

    :ivar way_of: returns what the way is called that is taken where this was decided.
    :ivar entries: the steps to start, by that; none where what comes after is next.
    """

    way_of: Callable[[Any], str]
    entries: dict[str, tuple[PlannedStep, ...]]


_TELLS_NOTHING: Final = {"index", "name", "task", "scope", "first", "first_compensation", "compensates", "then", "branches"}
"""What a step has that says nothing of its plan. Most steps have no more, and a block asks at each of its steps."""


class Plan:
    """A compiled flow.

    :ivar flow: what it was compiled from; ``None`` where it grows.
    :ivar steps: every step, in the order declared.
    :ivar by_name: the same by name.
    :ivar entry: the steps to start first.
    :ivar groups: every parallel group.
    :ivar parents: for each scope, the scope it was forked from (``None`` for the execution's own).
    :ivar asynchronous: whether any task is a coroutine function.
    :ivar pivot: the step after which nothing is undone.
    :ivar receives: whether a step waits for a signal.
    :ivar accepts: by a signal's name, what its value must be.
    :ivar asks: the first step that asks a person when it fails.
    :ivar transacts: the first step that is transactional.
    :ivar transacts_async: the first of them that has a coroutine function.
    :ivar compensate_together: whether any group's branches are undone at the same time.
    :ivar context: the class of the contexts that it is for; ``None``: any will do.
    :ivar declares: whether a step says which keys it requires or provides.
    :ivar needs: the keys that only the input can give, each with the step that cannot do without.
    :ivar open: whether what follows what there is, is not known: a block's.
    :ivar grows: whether every execution has its own, which grows.
    :ivar items: of what has grown by a list: the item of each branch, by its scope.
    :ivar plain: whether it is nothing but calls without a timeout, one after the other.
    """

    open = False
    grows = False
    items: Mapping[int, Any] = MappingProxyType({})
    flow: Flow | None = None
    pivot: PlannedStep | None = None
    plain = True
    receives = False
    accepts: Mapping[str, Accept] = MappingProxyType({})
    asks: PlannedStep | None = None
    transacts: PlannedStep | None = None
    transacts_async: PlannedStep | None = None
    compensate_together = False
    asynchronous = False
    context: type[Any] | None = None
    declares = False
    needs: Mapping[str, str] = MappingProxyType({})

    def __init__(self, shape: str) -> None:
        self.steps: list[PlannedStep] = []
        self.by_name: dict[str, PlannedStep] = {}
        self.entry: tuple[PlannedStep, ...] = ()
        self.groups: list[Group] = []
        self.parents: list[int | None] = [None]
        self._shape = shape

    def characterize(self, steps: Iterable[PlannedStep]) -> None:
        """Take note of what the plan is by these steps and its groups."""
        for step in steps:
            if not vars(step).keys() <= _TELLS_NOTHING:
                self._take_note_of(step)
            if isinstance(step.then, Each):
                self.grows, self.plain = True, False
                self.compensate_together |= step.then.compensate_together
                self.characterize(step.then.template.steps)
        if self.groups:
            self.plain = False
            self.compensate_together |= any(group.compensate_together for group in self.groups)

    def _take_note_of(self, step: PlannedStep) -> None:
        if step.pivot:
            self.pivot = step
        limited, turns = step.timeout or step.compensation_timeout, step.pause or step.fallback or step.ways or step.content
        if step.pivot or limited or turns or step.retry.retry_if is not None or step.provides:
            self.plain = False
        if step.requires is not None or step.provides is not None:
            self.declares = True
        if step.pause is not None and step.pause.signals:
            self.receives = True
        if step.on_error is OnError.ASK and self.asks is None:
            self.asks = step
        if step.transactional and self.transacts is None:
            self.transacts = step
        if step.transacts_async and self.transacts_async is None:
            self.transacts_async = step
        if step.asynchronous:
            self.asynchronous = True

    def declared(self) -> Iterator[PlannedStep]:
        """Yield every step that is declared: those that are done for each item, too."""
        for step in self.steps:
            yield step
            if isinstance(step.then, Each):
                yield from step.then.template.declared()

    @cached_property
    def awaits_executes(self) -> bool:
        """Whether every step's execute is a coroutine function."""
        return all(step.async_execute for step in self.steps)

    @cached_property
    def awaits_compensations(self) -> bool:
        """Whether every compensation is a coroutine function."""
        return all(step.async_compensate for step in self.steps if step.compensates)

    def for_execution(self) -> Plan:
        """Return the plan that a new execution is run by."""
        return self

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of the signals that its steps receive."""
        pauses = (step.pause for step in self.declared() if step.pause is not None)
        return tuple(dict.fromkeys(name for pause in pauses for name in pause.signals))

    @property
    def names(self) -> tuple[str, ...]:
        """The steps' names, in the order declared."""
        return tuple(self.by_name)

    @cached_property
    def _first_calls(self) -> tuple[Call | None, ...]:
        return (*(step.first for step in self.steps), None)

    def calls_after(self, call: Call) -> Iterator[Call | None] | None:
        """Return what yields the executes of a plain plan that follow one, and then ``None``.

        Return ``None`` itself where the plan grows, so that nobody knows.
        """
        return None if self.open else itertools.islice(self._first_calls, call.step.index + 1, None)

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

    def in_order(self) -> list[PlannedStep]:
        """Return the steps in the order declared; those that are done for each item follow the one that lists the items."""
        if not self.items:
            return self.steps

        def place(step: PlannedStep) -> tuple[int, ...]:
            return (*(self.by_name[group.each].index for group, _ in step.branches if group.each is not None), step.index)

        return sorted((step for step in self.steps if self.by_name[step.name] is step), key=place)

    def within(self, unit: PlannedStep) -> list[PlannedStep]:
        """Return the steps that are in a unit."""
        return [step for step in self.steps if unit in step.units]

    def step(self, name: str) -> PlannedStep:
        """Return the step of that name.

        :raises SagaDefinitionError: there is none.
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise SagaDefinitionError(f"there is no step {name!r}; steps: {', '.join(self.names) or 'none'}") from None
