"""Which view of the context each call of an execution works on. No engine lives here: drivers and recovery share it.

A *scope* is a view of the context that calls share: 0 is the execution's own, each branch of a parallel group has another,
forked when its first step needs it and merged when the group's branches have ended. A call whose time is limited works on a
fork of its scope's view: it may outlive its limit, and must not touch what others see then. So does one that has a fallback,
which must not see what it changed before it failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from saga.context import Binding, Context, isolated, set_binding
from saga.errors import MergeConflictError
from saga.machine.plan import Group, Plan, PlannedStep

__all__ = ["Views", "adopt", "bind", "fork", "merge", "share"]

C = TypeVar("C", bound=Context)
_MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<deleted>"})()


class Views:
    """The views of one execution.

    :param context: the execution's own view.
    :param limited: whether the saga has a timeout, so that every execute's time is limited.
    """

    def __init__(self, plan: Plan, context: Context, limited: bool) -> None:
        self.plan = plan
        self.context = context
        self._limited = limited
        self._scopes: dict[int, Context] = {0: context}
        self._merged: set[int] = set()
        self._kept: dict[int, Context] = {}  # of executes that did not end well: their compensation sees what they did

    def limits(self, step: PlannedStep) -> bool:
        """Return whether the time of the step's execute is limited."""
        return self._limited or step.timeout is not None

    def of(self, step: PlannedStep) -> Context:
        """Return the view of the step's scope."""
        return self._scope(step.scope) if step.scope else self.context

    def for_execute(self, step: PlannedStep) -> Context:
        """Return the view for an attempt of the step's execute."""
        view = self.of(step)
        return fork(view) if self.limits(step) or step.fallback else view

    def for_compensate(self, step: PlannedStep) -> Context:
        """Return the view for the step's compensate."""
        kept = self._kept.get(step.index)
        return kept if kept is not None else self.of(step)

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
            merge(scope, [(step.name, view)])
        return scope

    def merge(self, group: Group) -> None:
        """Merge a group's branches, in declared order, into the view the group stands in.

        :raises MergeConflictError: two branches changed a key to different values.
        """
        parent = self._scope(group.scope)
        views = [self._scope(scope) for scope in group.scopes]
        merge(parent, zip(group.names, views, strict=True))
        self._merged.update(group.scopes)
        parent.__binding__.previous = tuple(view.__binding__.previous for view in views)

    def all(self) -> list[Context]:
        """Return every view there is."""
        return [*self._scopes.values(), *self._kept.values()]

    def _scope(self, scope: int) -> Context:
        while scope in self._merged:
            scope = self._parent(scope)
        if scope not in self._scopes:
            self._scopes[scope] = fork(self._scope(self._parent(scope)))
        return self._scopes[scope]

    def _parent(self, scope: int) -> int:
        parent = self.plan.parents[scope]
        assert parent is not None, "scope 0 is never forked and never merged"
        return parent


def bind(context: Context, plan: Plan, saga: str, saga_id: str) -> None:
    """Make this the context of a new execution of ``plan``, which is that of a saga of this name."""
    set_binding(context, Binding(plan, saga, saga_id))


def fork(view: C) -> C:
    """Return a view with the same keys, containers copied, so that changes to it are not seen here."""
    twin = type(view).__new__(type(view))
    memo: dict[int, Any] = {}
    twin.__dict__.update((key, isolated(value, memo)) for key, value in view.__dict__.items())
    set_binding(twin, view.__binding__.forked())
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


def merge(view: Context, branches: Iterable[tuple[str, Context]]) -> None:
    """Take over, in order, what each named branch's view changed since it was forked (nothing changes here meanwhile).

    :raises MergeConflictError: two views changed a key to different values; nothing is taken over then.
    """
    changed: dict[str, tuple[str, Any]] = {}
    results: dict[str, Any] = {}
    recorded: dict[str, tuple[Any, str]] = {}
    for name, branch in branches:
        binding = branch.__binding__
        for key, value in _changes(view.__dict__, branch.__dict__).items():
            if key in changed and not _agree(changed[key][1], value):
                raise MergeConflictError(
                    f"branches {changed[key][0]!r} and {name!r} changed context key {key!r} to different values: "
                    f"{changed[key][1]!r} and {value!r}; give each branch a key of its own"
                )
            changed.setdefault(key, (name, value))
            if binding.recorded is not None and key in binding.recorded:
                recorded[key] = binding.recorded[key]
        results.update(binding.results)
    own = view.__binding__
    for key, (_, value) in changed.items():
        if value is _MISSING:
            view.__dict__.pop(key, None)
            if own.recorded is not None:
                own.recorded.pop(key, None)
        else:
            view.__dict__[key] = value
    if own.recorded is not None:
        own.recorded.update(recorded)
    own.results.update(results)


def _changes(base: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    changes = {key: value for key, value in now.items() if key not in base or not _same(base[key], value)}
    changes.update((key, _MISSING) for key in base if key not in now)
    return changes


def _agree(one: Any, other: Any) -> bool:
    try:
        return _same(one, other) or (type(one) is type(other) and bool(one == other))
    except Exception:  # an array has no single truth value: what cannot be compared differs
        return False


def _same(one: Any, other: Any) -> bool:
    # Stricter than ==: who writes Decimal("1.00") over Decimal("1.0"), or [True] over [1], has changed it.
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    try:
        if kind in (set, frozenset):
            return bool(one == other)
        if is_dataclass(one):
            return all(_same(getattr(one, f.name, None), getattr(other, f.name, None)) for f in fields(one)) and one == other
        if isinstance(one, list | tuple):  # [1] == [True], and yet it was changed
            return len(one) == len(other) and all(map(_same, one, other))
        if isinstance(one, dict):
            return list(one) == list(other) and all(map(_same, one.values(), other.values()))
        return bool(one == other) and repr(one) == repr(other)
    except RecursionError:  # a container that holds itself
        return repr(one) == repr(other)
    except Exception:  # an array has no single truth value: what cannot be compared counts as changed
        return False
