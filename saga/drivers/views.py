"""Which view of the context each call of an execution works on. No engine lives here: drivers and recovery share it.

A *scope* is a view of the context that calls share: 0 is the execution's own, each branch of a parallel group has another,
forked when its first step needs it and merged when the group's branches have ended. A call whose time is limited works on a
fork of its scope's view: it may outlive its limit, and must not touch what others see then. So does one that has a fallback,
which must not see what it changed before it failed. Of a compensation's fork, what it changed is taken over, and no more: the
view may have been changed by others meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from inspect import getattr_static
from typing import Any, TypeVar

from saga.content import ATOMS, Copies, copied_within, given_back, isolated, same
from saga.context import Binding, Context, set_binding
from saga.errors import EncodingError, MergeConflictError
from saga.machine.following import following
from saga.machine.plan import Group, Plan, PlannedStep

__all__ = ["Views", "adopt", "bind", "fork", "merge", "share", "take_back", "take_changes"]

C = TypeVar("C", bound=Context)
Read = Callable[[str], Any]

_MISSING: Any = object()
_NONE: tuple[Any, None] = (None, None)


class Views:
    """The views of one execution.

    :param context: the execution's own view.
    :param limited: whether the saga has a timeout, so that every execute's time is limited.
    :param read: rebuilds a value from its text, where the execution has a store.
    """

    def __init__(self, plan: Plan, context: Context, limited: bool, read: Read | None = None) -> None:
        self.plan = plan
        self._read = read
        self.context = context
        self._limited = limited
        self._scopes: dict[int, Context] = {0: context}
        self._merged: set[int] = set()
        self._kept: dict[int, Context] = {}  # of executes that did not end well: their compensation sees what they did
        self._apart: dict[int, tuple[Context, dict[str, Any]]] = {}  # of limited compensations: what they were forked from

    def limits(self, step: PlannedStep) -> bool:
        """Return whether the time of the step's execute is limited."""
        limited = step.timeout is not None or any(unit.timeout is not None for unit in step.units)
        return self._limited or limited

    def of(self, step: PlannedStep) -> Context:
        """Return the view of the step's scope."""
        return self._scope(step.scope) if step.scope else self.context

    def for_execute(self, step: PlannedStep) -> Context:
        """Return the view for an attempt of the step's execute."""
        view = self.of(step)
        return fork(view, self._read) if self.limits(step) or step.fallback else view

    def for_compensate(self, step: PlannedStep) -> Context:
        """Return the view for the step's compensate."""
        kept = self._kept.get(step.index)
        return kept if kept is not None else self.of(step)

    def apart(self, step: PlannedStep, view: Context) -> Context:
        """Return a fork of a compensation's view, whose time is limited."""
        twin = fork(view, self._read)
        recorded = twin.__binding__.recorded
        self._apart[step.index] = view, dict(view.__dict__ if recorded is None else recorded)
        return twin

    def take_changes(self, step: PlannedStep, twin: Context) -> None:
        """Take over what a compensation whose time is limited has changed, where it has ended."""
        if step.index in self._apart:
            view, before = self._apart.pop(step.index)
            take_changes(view, twin, before)

    def keep(self, step: PlannedStep, view: Context) -> None:
        """Keep the view of an execute that did not end well (yet) for its compensation."""
        self._kept[step.index] = view

    def take_over(self, step: PlannedStep, view: Context, given_up: bool) -> Context:
        """Merge the view of an execute that ended well into its scope's, and return the view that holds now.

        :param given_up: nobody waits for the step any more: what it changed is for its own compensation alone.
        """
        scope = self.of(step)
        if given_up:
            return view
        self._kept.pop(step.index, None)
        if scope is not view:
            take_back(scope, view)
        return scope

    def merge(self, group: Group) -> None:
        """Merge a group's branches, in declared order, into the view the group stands in.

        :raises MergeConflictError: two branches changed a key to different values.
        """
        parent = self._scope(group.scope)
        views = [self._scope(scope) for scope in group.scopes]
        before = set(parent.__binding__.results) if group.each is not None else set()
        results = merge(parent, zip(group.names, views, strict=True))
        self._merged.update(group.scopes)
        for scope in group.scopes:
            self._scopes.pop(scope, None)
        binding = parent.__binding__
        if group.each is not None:
            # What was skipped has no result: the last it has is its item.
            have = [view.__binding__.results.keys() - before for view in views]
            binding.take_result(group.each, [result if own else None for own, result in zip(have, results, strict=True)])
        else:
            binding.previous = results

    def rewind(self, to: PlannedStep, again: Collection[str]) -> None:
        """Forget what the steps that follow ``to`` have left: those named ``again`` are undone, and executed again."""
        binding = self.context.__binding__
        for step in following(*to.onward):
            self._kept.pop(step.index, None)
            binding.results.pop(step.name, None)
            for group, _ in step.branches:
                self._merged.difference_update(group.scopes)
            if step.content is not None:
                self._merged.discard(step.content.scope)
        binding.previous = binding.results.get(to.name)
        self._begin_round(again)

    def leave(self, unit: PlannedStep) -> Context:
        """Take over what a unit that ended well has changed, and return the view that holds now."""
        assert unit.content is not None
        scope, view = unit.content.scope, self.of(unit)
        take_back(view, self._scope(scope))
        self._merged.add(scope)
        del self._scopes[scope]
        return view

    def begin_anew(self, unit: PlannedStep, again: Collection[str]) -> None:
        """Forget what a unit that is undone has left: what it changed, and its steps' views.

        :param again: those of its steps that are executed another time where the unit is.
        """
        assert unit.content is not None
        inside = {unit.content.scope}
        for scope, parent in enumerate(self.plan.parents):  # a scope comes after that which it is forked from
            if parent in inside:
                inside.add(scope)
        for scope in inside:
            self._scopes.pop(scope, None)
        self._merged -= inside
        for step in self.plan.within(unit):
            self._kept.pop(step.index, None)
        self._begin_round(again)

    def _begin_round(self, again: Collection[str]) -> None:
        """Have these steps executed another time: not as another attempt of what was undone."""
        rounds = self.context.__binding__.rounds or {}
        rounds.update((name, rounds.get(name, 1) + 1) for name in again)
        for view in self._scopes.values():
            view.__binding__.rounds = rounds

    def _scope(self, scope: int) -> Context:
        while scope in self._merged:
            scope = self._parent(scope)
        if scope not in self._scopes:
            view = self._scopes[scope] = fork(self._scope(self._parent(scope)), self._read)
            if scope in self.plan.items:
                view.__binding__.previous = self.plan.items[scope]
        return self._scopes[scope]

    def _parent(self, scope: int) -> int:
        parent = self.plan.parents[scope]
        assert parent is not None, "scope 0 is never forked and never merged"
        return parent


def bind(context: Context, plan: Plan, saga: str, saga_id: str) -> None:
    """Make this the context of a new execution of ``plan``, which is that of a saga of this name."""
    set_binding(context, Binding(plan, saga, saga_id))


def fork(view: C, read: Read | None) -> C:
    """Return a view with the same keys and values of its own, so that changes to it are not seen here.

    They are read once more from their texts where there are such; else what :func:`~saga.content.isolated` copies is a copy.
    """
    twin = type(view).__new__(type(view))
    binding = view.__binding__.forked()
    set_binding(twin, binding)
    recorded = binding.recorded
    if read is None or recorded is None:
        copies: Copies = {}
        binding.copies = copies
        twin.__dict__.update((key, isolated(value, copies)) for key, value in view.__dict__.items())
        return twin
    for key, value in [*view.__dict__.items()]:
        known = recorded.get(key)
        if known is None or known[0] is not value:  # whoever has the context has changed it beside the calls
            twin.__dict__[key] = isolated(value, {})
        elif id(type(value)) in ATOMS:
            twin.__dict__[key] = value
        else:
            try:
                own = read(known[1])
            except EncodingError:  # a decode function that has read it before
                own = isolated(value, {})
            twin.__dict__[key] = own
            recorded[key] = own, known[1]
    return twin


def share(view: C) -> C:
    """Return the same view for one more call at the same time: the same keys, and a ``step`` of its own."""
    twin = object.__new__(type(view))
    object.__setattr__(twin, "__dict__", view.__dict__)
    set_binding(twin, view.__binding__.shared())
    return twin


def adopt(view: Context, returned: Context) -> None:
    """Take over the keys of a context that a step returned."""
    if returned is not view:
        view.__dict__.clear()
        view.__dict__.update(returned.__dict__)


def take_back(view: Context, twin: Context) -> None:
    """Make the view what its fork is now: the only one whose changes count, and nothing has changed here meanwhile.

    Without texts the values that were copied stay the objects they are, and get what changed in their copies.
    """
    original, own = _Originals(twin), view.__binding__
    original.give_back(view.__dict__.values())
    now = {key: original.of(value) for key, value in twin.__dict__.items()}
    view.__dict__.clear()
    view.__dict__.update(now)
    if own.recorded is not None:
        own.recorded = twin.__binding__.recorded
    own.previous = _take_results(own, twin, original)


def take_changes(view: Context, twin: Context, before: dict[str, Any]) -> None:
    """Take over what changed in a fork, though its view may have been changed, too.

    :param before: by key, the values of the view when it was forked; or their texts with values, where there are such.
    """
    own, theirs = view.__binding__.recorded, twin.__binding__.recorded
    if own is not None and theirs is not None:
        changed = [key for key in {**before, **theirs} if before.get(key, _NONE)[1] != theirs.get(key, _NONE)[1]]
        for key in changed:
            if key in theirs:
                view.__dict__[key], own[key] = twin.__dict__[key], theirs[key]
            else:
                view.__dict__.pop(key, None)
                own.pop(key, None)
        return
    original, copies = _Originals(twin), twin.__binding__.copies or {}
    original.give_back(before.values())
    for key in {**before, **twin.__dict__}:
        was = before.get(key, _MISSING)
        now = twin.__dict__.get(key, _MISSING)
        if now is _MISSING:
            view.__dict__.pop(key, None)
        elif now is not (copies[id(was)][1] if id(was) in copies else was):
            view.__dict__[key] = original.of(now)


def merge(view: Context, branches: Iterable[tuple[str, Context]]) -> tuple[Any, ...]:
    """Take over, in order, what each named branch's view changed since it was forked (nothing changes here meanwhile).

    Return the last result of each.

    :raises MergeConflictError: two views changed a key to different values; nothing is taken over then.
    """
    changed: dict[str, tuple[str, Context]] = {}
    branches = list(branches)
    for name, branch in branches:
        for key in _changes(view, branch):
            first, before = changed.setdefault(key, (name, branch))
            if not _agree(before, branch, key):
                kinds = " and ".join(_kind_at(one, key) for one in (before, branch))
                raise MergeConflictError(
                    f"branches {first!r} and {name!r} changed context key {str.__repr__(key)} to different values ({kinds}); "
                    "give each branch a key of its own"
                )
    for name, branch in branches:
        for key in _replaced(view, branch):
            changed.setdefault(key, (name, branch))
    own = view.__binding__
    held = dict(view.__dict__)
    results = []
    for _, branch in branches:
        original, theirs = _Originals(branch), branch.__binding__
        own_keys = [key for key, (_, first) in changed.items() if first is branch] if changed else ()
        if own_keys:
            original.give_back(held[key] for key in own_keys if key in held)
        for key in own_keys:
            if key in branch.__dict__:
                view.__dict__[key] = original.of(branch.__dict__[key])
            else:
                view.__dict__.pop(key, None)
            if own.recorded is not None and theirs.recorded is not None:
                if key in theirs.recorded:
                    own.recorded[key] = theirs.recorded[key]
                else:
                    own.recorded.pop(key, None)
        results.append(_take_results(own, branch, original))
    return tuple(results)


class _Originals:
    """What stands for the values of a fork in the view that it was made of: the originals get what changed in their copies."""

    def __init__(self, twin: Context) -> None:
        self._copies: Copies = twin.__binding__.copies or {}
        self._done: dict[int, Any] = {}

    @cached_property
    def _originals(self) -> Copies:
        return {id(copy): (value, copy, before) for value, copy, before in self._copies.values()}

    def give_back(self, values: Iterable[Any]) -> None:
        """Let the values, and what is inside, get what changed in their copies: also in one that nobody holds any more."""
        found: dict[int, Any] = {}
        for value in values:
            copied_within(value, self._copies, found)
        for copy in found.values():
            self.of(copy)

    def of(self, value: Any) -> Any:
        return value if id(type(value)) in ATOMS or not self._copies else given_back(value, self._originals, self._done)


def _take_results(own: Binding, twin: Context, original: _Originals) -> Any:
    """Take over the results that a fork has, and return the last."""
    for step, result in twin.__binding__.results.items():
        if own.results.get(step, _MISSING) is not result:
            own.results[step] = original.of(result)
    return original.of(twin.__binding__.previous)


def _changes(view: Context, branch: Context) -> list[str]:
    """Return the keys that a branch set, changed or deleted: told by their texts where they have such."""
    keys = {**view.__dict__, **branch.__dict__}
    changed = [key for key in keys if not _agree(view, branch, key)]
    # What a cached_property keeps is no key of anybody's: it is worked out again from what is merged.
    return [key for key in changed if not isinstance(getattr_static(type(view), key, None), cached_property)]


def _replaced(view: Context, branch: Context) -> list[str]:
    """Return the keys where a branch has put another object in the place of one, changed or not. That is no conflict."""
    copies = branch.__binding__.copies
    if copies is None:
        return []
    found = [(key, value, view.__dict__[key]) for key, value in branch.__dict__.items() if key in view.__dict__]
    return [key for key, value, was in found if value is not (copies[id(was)][1] if id(was) in copies else was)]


def _agree(one: Context, other: Context, key: str) -> bool:
    texts, others = one.__binding__.recorded, other.__binding__.recorded
    if texts is not None and others is not None:
        return texts.get(key, _NONE)[1] == others.get(key, _NONE)[1]
    return same(one.__dict__.get(key, _MISSING), other.__dict__.get(key, _MISSING))


def _kind_at(view: Context, key: str) -> str:
    return type(view.__dict__[key]).__name__ if key in view.__dict__ else "deleted"
