"""Plans that grow by a list, while they are executed: the steps for each item are copies of those compiled once.

Nothing of the user's is called here, so that a fold may let a plan grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saga.errors import SagaDefinitionError, SagaError
from saga.machine.plan import Content, Each, Group, Plan, PlannedStep, Then, Ways

__all__ = ["GrowingPlan", "declared_name", "grow", "refuse_names_of_branches"]

_OWN = frozenset(("index", "name", "task", "scope", "first", "first_compensation"))


class GrowingPlan(Plan):
    """The plan of a flow with ``each`` in it: every execution has one of its own, which its folds let grow."""

    grows = True

    def __init__(self, plan: Plan) -> None:
        super().__init__("")
        self.__dict__.update(plan.__dict__)
        self.items: dict[int, Any] = {}

    def for_execution(self) -> Plan:
        """Return a plan that is as this one is before it grows."""
        plan = GrowingPlan(self)
        plan.steps, plan.by_name, plan.groups, plan.parents = [], {}, [], list(self.parents)
        copied = _Copy(self, plan, list(range(len(self.parents))), str)
        plan.entry = copied.copies(self.entry)
        if self.pivot is not None:
            plan.pivot = copied.steps[self.pivot]
        return plan


def grow(plan: Plan, each: Each, listed: Any) -> Group:
    """Let a plan grow by a branch for each item, and return their group. A plan that has grown so is as it was.

    Where a list was made before, in a unit that is tried again, the steps for this one take the place of those: they stay in
    the plan, as something is known of them, and each knows which had its name. Lists are told apart by being the same object,
    as whoever folds the events once more has them from there.

    :param listed: what the step that lists the items returned: these, or a mapping of keys to them.
    :raises SagaError: it is no such thing.
    """
    for known, group, steps in each.grown:
        if known is listed:
            plan.by_name.update((step.name, step) for step in steps)
            each.group = group
            return group
    assert isinstance(plan, GrowingPlan)
    lists = plan.steps[each.index]
    if not isinstance(listed, list | Mapping):
        raise SagaError(f"step {lists.name!r} lists no items: {type(listed).__name__}")
    items = listed if isinstance(listed, Mapping) else dict(enumerate(listed))
    group = Group(len(plan.groups), lists.scope, (), (), each.compensate_together, each.limit)
    group.each, group.units, group.then = lists.name, lists.units, each.then
    plan.groups.append(group)
    template, entries, scopes, first_step = each.template, [], [], len(plan.steps)
    for number, (key, item) in enumerate(items.items()):
        name, first = f"{lists.name}[{key}]", len(plan.parents)
        plan.parents += [lists.scope if parent is None else first + parent for parent in template.parents]
        plan.items[first] = item
        copied = _Copy(
            template,
            plan,
            list(range(first, len(plan.parents))),
            lambda old, name=name: name + old[len(each.root) :],  # type: ignore[misc]
            group,
            (*lists.branches, (group, number)),
        )
        for step in copied.steps.values():
            step.item, step.within = item, (*lists.within, name)
            if lists.units:
                step.units = (*lists.units, *step.units)
        for inner in copied.groups.values():
            inner.units = (*lists.units, *inner.units)
        entries.append(copied.copies(template.entry))
        scopes.append(first)
    group.entries, group.scopes = tuple(entries), tuple(scopes)
    group.names = tuple(f"{lists.name}[{key}]" for key in items)
    each.group = group
    each.grown.append((listed, group, plan.steps[first_step:]))
    return group


def declared_name(plan: Plan, step: PlannedStep) -> str:
    """Return what a step is called as it is declared: ``all[]/b`` where it is ``all[2]/b``."""
    if not step.within:
        return step.name
    each = next(group.each for group, _ in reversed(step.branches) if group.each is not None)
    return f"{declared_name(plan, plan.by_name[each])}[]{step.name[len(step.within[-1]) :]}"


def refuse_names_of_branches(plan: Plan, saga: str) -> None:
    """Refuse steps whose names those of an item's steps could have.

    :raises SagaDefinitionError: there is one.
    """
    for step in plan.steps:
        taken = next((name for name in plan.names if isinstance(step.then, Each) and name.startswith(f"{step.name}[")), None)
        if taken is not None:
            raise SagaDefinitionError(
                f"saga {saga!r}: step {taken!r}: the steps of each() {step.name!r} have such names; give it another"
            )


class _Copy:
    """Steps of one plan, copied into another with all their links.

    :param scopes: by scope: what takes its place.
    :param renamed: returns the name of a copy.
    :param end: what follows what nothing follows.
    :param branches: of what takes the place of the outermost branch.
    """

    def __init__(
        self,
        source: Plan,
        target: Plan,
        scopes: list[int],
        renamed: Callable[[str], str],
        end: Group | None = None,
        branches: tuple[tuple[Group, int], ...] = (),
    ) -> None:
        self.scopes, self.renamed, self.end = scopes, renamed, end
        self.groups = {one: self._group(one, len(target.groups) + one.index) for one in source.groups}
        self.steps = {one: self._step(one, len(target.steps) + one.index) for one in source.steps}
        self.contents = {one.content: Content(new, scopes[one.content.scope]) for one, new in self.steps.items() if one.content}
        self.eaches = {one.then: self._each(one.then, new) for one, new in self.steps.items() if isinstance(one.then, Each)}
        for old, new in self.steps.items():
            self._link(old, new, branches)
        for group, copied in self.groups.items():
            copied.entries, copied.then = tuple(map(self.copies, group.entries)), self._after(group.then)
            copied.units = self._units(group.units)
        for each, one in self.eaches.items():
            one.then = self._after(each.then)
        for step in self.steps.values():
            known = target.by_name.get(step.name)
            step.formerly = None if known is None else known.index
        target.groups += self.groups.values()
        target.steps += self.steps.values()
        target.by_name.update((step.name, step) for step in self.steps.values())

    def copies(self, steps: Iterable[PlannedStep]) -> tuple[PlannedStep, ...]:
        """Return the copies of some steps."""
        return tuple(self.steps[step] for step in steps)

    def _step(self, step: PlannedStep, index: int) -> PlannedStep:
        policies = {name: value for name, value in vars(step).items() if name not in _OWN}
        return PlannedStep(index, self.renamed(step.name), step.task, self.scopes[step.scope], policies)

    def _group(self, group: Group, index: int) -> Group:
        scopes, names = tuple(self.scopes[one] for one in group.scopes), tuple(map(self.renamed, group.names))
        return Group(index, self.scopes[group.scope], scopes, names, group.compensate_together, group.limit)

    def _each(self, each: Each, lists: PlannedStep) -> Each:
        return Each(lists.index, each.root, each.template, each.limit, each.compensate_together)

    def _link(self, old: PlannedStep, new: PlannedStep, branches: tuple[tuple[Group, int], ...]) -> None:
        new.then = self._after(old.then)
        if old.branches or branches:
            new.branches = (
                *branches,
                *((self.groups[group], number) for group, number in old.branches if group in self.groups),
            )
        if old.fallback:
            new.fallback = self.copies(old.fallback)
        if old.held_up:
            new.held_up = self.copies(old.held_up)
        if old.instead_of is not None:
            new.instead_of = self.steps[old.instead_of]
        if old.ways is not None:
            new.ways = Ways(old.ways.way_of, {way: self.copies(steps) for way, steps in old.ways.entries.items()})
        if old.content is not None:
            new.content = self.contents[old.content]
            new.content.entry = self.copies(old.content.entry)
        if old.units:
            new.units = self._units(old.units)
        if old.told_by is not None:
            new.told_by = self.steps[old.told_by]

    def _units(self, units: Iterable[PlannedStep]) -> tuple[PlannedStep, ...]:
        return tuple(self.steps[unit] for unit in units if unit in self.steps)

    def _after(self, then: Then) -> Then:
        if then is None:
            return self.end
        if isinstance(then, tuple):
            return self.copies(then)
        if isinstance(then, Content):
            return self.contents[then]
        return self.groups[then] if isinstance(then, Group) else self.eaches[then]
