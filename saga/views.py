"""Which view of the context each call of an execution works on. No engine lives here: drivers and recovery share it.

A *scope* is a view of the context that calls share: 0 is the execution's own, each branch of a parallel group has another,
forked when its first step needs it and merged when the group is joined. A call whose time is limited works on a fork of its
scope's view: it may outlive its limit, and must not touch what others see then. So does one that has a fallback, which must
not see what it changed before it failed.
"""

from __future__ import annotations

from saga.context import Context
from saga.plan import Group, Plan, PlannedStep

__all__ = ["Views"]


class Views:
    """The views of one execution.

    :param context: the execution's own view.
    :param limited: whether the saga has a deadline, so that every execute's time is limited.
    """

    def __init__(self, plan: Plan, context: Context, limited: bool) -> None:
        self.plan = plan
        self.context = context
        self._limited = limited
        self._scopes: dict[int, Context] = {0: context}
        self._joined: set[int] = set()
        self._own: dict[int, Context] = {}  # of executes that did not end well: their compensation sees what they did

    def limits(self, step: PlannedStep) -> bool:
        """Return whether the time of the step's execute is limited."""
        return self._limited or step.timeout is not None

    def of(self, step: PlannedStep) -> Context:
        """Return the view of the step's scope."""
        return self._scope(step.scope) if step.scope else self.context

    def for_execute(self, step: PlannedStep) -> Context:
        """Return the view for an attempt of the step's execute."""
        view = self.of(step)
        return view._fork() if self.limits(step) or step.fallback else view

    def for_compensate(self, step: PlannedStep) -> Context:
        """Return the view for the step's compensate."""
        own = self._own.get(step.index)
        return own if own is not None else self.of(step)

    def keep(self, step: PlannedStep, view: Context) -> None:
        """Keep the view of an execute that did not end well (yet) for its compensation."""
        self._own[step.index] = view

    def take_over(self, step: PlannedStep, view: Context, given_up: bool) -> Context:
        """Merge the view of an execute that ended well into its scope's, and return the view that holds now.

        :param given_up: nobody waits for the step any more: what it changed is for its own compensation alone.
        """
        scope = self.of(step)
        if given_up:
            return view
        self._own.pop(step.index, None)
        if scope is not view:
            scope._merge([(step.name, view)])
        return scope

    def join(self, group: Group) -> None:
        """Merge a group's branches, in declared order, into the view the group stands in.

        :raises MergeConflictError: two branches changed a key to different values.
        """
        parent = self._scope(group.scope)
        views = [self._scope(scope) for scope in group.scopes]
        parent._merge(zip(group.names, views, strict=True))
        self._joined.update(group.scopes)
        parent._run.previous = tuple(view._run.previous for view in views)

    def all(self) -> list[Context]:
        """Return every view there is."""
        return [*self._scopes.values(), *self._own.values()]

    def _scope(self, scope: int) -> Context:
        parents = self.plan.parents
        while scope in self._joined:
            scope = _parent(parents[scope])
        if scope not in self._scopes:
            self._scopes[scope] = self._scope(_parent(parents[scope]))._fork()
        return self._scopes[scope]


def _parent(scope: int | None) -> int:
    assert scope is not None, "scope 0 is never forked and never joined"
    return scope
