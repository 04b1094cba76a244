"""Which keys of the context are there when a step begins: read from a plan, before anything runs.

A step that says what it requires or provides is taken at its word: it sets what it provides, and nothing else. One that says
neither may set anything. Where a flow may go several ways, what only some of them provide is *perhaps* there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

from saga.errors import SagaDefinitionError, near
from saga.flow import Choice, ChoiceTask, Fallback, Flow, ForEach, ListingTask, Parallel, Pause, Sequence, Step, Unit
from saga.machine.plan import Each, Plan, PlannedStep
from saga.policy import OnError

__all__ = ["Finding", "findings_of", "needs_of"]

MISSING: Final = "missing"
LEFT_TO_THE_INPUT: Final = "left to the input"
PERHAPS_MISSING: Final = "perhaps missing"
IN_CONFLICT: Final = "in conflict"


@dataclass(frozen=True, slots=True)
class Finding:
    """What may go wrong with a key of the context: :meth:`saga.Saga.check` returns such. ``str()`` of it is a sentence.

    :ivar step: the name of the step that requires the key; or, in a conflict, of the one that provides it.
    :ivar key: the key.
    :ivar what: ``"missing"``: it is not there when the step begins. ``"perhaps missing"``: it depends on how the saga goes.
        ``"left to the input"``: only that can give it, and what it has is not known here. ``"in conflict"``: branches that run
        at the same time set it, which is a :class:`~saga.errors.MergeConflictError` where they set different values.
    :ivar why: why that is so, in words.
    """

    step: str
    key: str
    what: str
    why: str

    @property
    def wrong(self) -> bool:
        """Whether the saga is wrong: the key is missing, or in conflict. What else is found depends on how it goes."""
        return self.what in (MISSING, IN_CONFLICT)

    def __str__(self) -> str:
        return f"step {self.step!r}: key {self.key!r} is {self.what}: {self.why}"


def findings_of(plan: Plan, saga: str, given: Collection[str] | None = None) -> list[Finding]:
    """Return what may go wrong with the keys that steps require and provide, in the order of the flow.

    :param given: the keys of the input, besides the fields of the plan's class of contexts; ``None``: nobody knows.
    :raises SagaDefinitionError: a step names a key that is no field of that class.
    """
    return _look(plan, saga, given).findings if plan.declares else []


def needs_of(plan: Plan, saga: str) -> dict[str, str]:
    """Return the keys that only an input can give, each with a step that the saga comes to and cannot do without it.

    :raises SagaDefinitionError: a step names a key that is no field of the class of contexts.
    """
    return _look(plan, saga, None).needs if plan.declares else {}


# -- looking ----------------------------------------------------------------------------------------------------------

_THERE: Final = ""
_UNSET: Final = "it is None so far"


@dataclass(slots=True)
class _Keys:
    """What is known of the keys at a place in a flow.

    :ivar known: by key, why it may not be there; ``_THERE``: it is; ``_UNSET``: it is a field that is ``None`` before a step
        provides it.
    :ivar set: the keys that steps have set since the branch began, each with the step.
    :ivar untold: a step that came before and does not say what it sets.
    """

    known: dict[str, str]
    set: dict[str, str] = field(default_factory=dict)
    untold: str | None = None

    def copy(self) -> _Keys:
        """Return the same, to be changed alone."""
        return _Keys({**self.known}, {**self.set}, self.untold)

    def branch(self) -> _Keys:
        """Return the same at the beginning of a branch."""
        return _Keys({**self.known}, {}, self.untold)

    def provide(self, key: str, step: str, why: str) -> None:
        """Take that a step sets a key; ``why``: why it may not."""
        if self.known.get(key) != _THERE:
            self.known[key] = why
        self.set.setdefault(key, step)

    def take(self, others: list[_Keys], joined: Callable[[list[str | None]], str]) -> None:
        """Be what these come to together.

        :param joined: says of a key what is known of it, by what is known of it in each; ``None``: it is not there.
        """
        self.known = {
            key: joined([other.known.get(key) for other in others])
            for key in dict.fromkeys(key for other in others for key in other.known)
        }
        for other in others:
            self.set = other.set | self.set
            self.untold = self.untold or other.untold


def _all_of(whys: list[str | None]) -> str:
    """Join what is known where all has happened."""
    reasons = [why for why in whys if why is not None]
    return min(reasons, key=lambda why: (why != _THERE, why == _UNSET))


def _one_of(otherwise: str) -> Callable[[list[str | None]], str]:
    """Return what joins what is known where one of several has happened, and nobody knows which."""

    def joined(whys: list[str | None]) -> str:
        if len({*whys}) == 1:
            return next(why for why in whys if why is not None)
        return next((why for why in whys if why not in (None, _THERE, _UNSET)), None) or otherwise

    return joined


def _look(plan: Plan, saga: str, given: Collection[str] | None) -> _Look:
    look = _Look(plan, saga, given)
    assert plan.flow is not None
    look.walk(plan.flow, "", plan, look.first, True)
    return look


class _Look:
    """Goes through a flow with what is known of the keys.

    :ivar findings: what was found.
    :ivar needs: the keys that only the input can give, each with a step that is surely come to and must have it.
    """

    def __init__(self, plan: Plan, saga: str, given: Collection[str] | None) -> None:
        self.saga = saga
        self.kind = plan.context
        self.findings: list[Finding] = []
        self.needs: dict[str, str] = {}
        self.providers: dict[str, list[str]] = defaultdict(list)
        for step in plan.declared():
            for key in step.provides or ():
                self.providers[key].append(step.name)
        self.only_look = {step.told_by for step in plan.declared() if step.told_by is not None}
        known = {} if self.kind is None else {one.name: _THERE for one in _fields(self.kind)}
        if self.kind is not None:
            known |= {one.name: _UNSET for one in _fields(self.kind) if one.default is None and self.providers.get(one.name)}
        self.input_known = given is not None or bool(known)
        self.first = _Keys(known | dict.fromkeys(given or (), _THERE))

    def walk(self, flow: Flow, prefix: str, plan: Plan, keys: _Keys, sure: bool) -> None:
        """Go through a flow, and let ``keys`` be what is known after it.

        :param plan: what has its steps.
        :param sure: whether a saga that goes well comes there.
        """
        if isinstance(flow, Step | Pause):
            self._step(plan.by_name[prefix + flow.name], keys, sure)
        elif isinstance(flow, Sequence):
            self._sequence(flow, prefix, plan, keys, sure)
        elif isinstance(flow, Parallel):
            branches = [keys.branch() for _ in flow.children]
            for child, branch in zip(flow.children, branches, strict=True):
                self.walk(child, prefix, plan, branch, sure)
            self._conflicts(branches)
            keys.take(branches, _all_of)
        elif isinstance(flow, Fallback):
            assert isinstance(flow.primary, Step | Unit), "what a fallback stands in for has a name"
            instead = keys.copy()  # what the primary set is discarded where it fails
            self.walk(flow.primary, prefix, plan, keys, sure)
            self.walk(flow.alternative, prefix, plan, instead, False)
            keys.take([keys, instead], _one_of(f"not both {prefix + flow.primary.name!r} and its fallback provide it"))
        elif isinstance(flow, Choice):
            decision = plan.by_name[prefix + flow.decision.name]
            self._asks(decision, keys)
            ways = [keys.copy() for _ in flow.ways]
            for child, way in zip(flow.ways.values(), ways, strict=True):
                self.walk(child, prefix, plan, way, False)
            keys.take(ways, _one_of(f"not every way of {decision.name!r} provides it"))
        elif isinstance(flow, Unit):
            unit, without = plan.by_name[prefix + flow.name], keys.copy()
            self.walk(flow.child, prefix, plan, keys, sure and not unit.gives_way)
            if unit.on_error is OnError.SKIP:
                keys.take([keys, without], _one_of(f"{unit.name!r} is skipped when it fails"))
        else:
            assert isinstance(flow, ForEach), flow
            self._each(flow, prefix, plan, keys)

    def _sequence(self, flow: Sequence, prefix: str, plan: Plan, keys: _Keys, sure: bool) -> None:
        outside = self.kind
        self.kind = flow.context or outside
        for child in flow.children:
            self.walk(child, prefix if flow.name is None else f"{prefix}{flow.name}/", plan, keys, sure)
        self.kind = outside

    def _each(self, flow: ForEach, prefix: str, plan: Plan, keys: _Keys) -> None:
        lists = plan.by_name[prefix + flow.lists.name]
        self._asks(lists, keys)
        assert isinstance(lists.then, Each)
        root, template, branch = lists.then.root, lists.then.template, keys.branch()
        if isinstance(flow.child, Step | Pause):
            self._step(template.by_name[root], branch, False)
        else:
            self.walk(flow.child, f"{root}/", template, branch, False)
        for key, step in branch.set.items():
            self._found(step, key, IN_CONFLICT, "it is set for each item, at the same time")
        keys.take([keys, branch], _one_of(f"{lists.name!r} may list nothing"))

    def _step(self, step: PlannedStep, keys: _Keys, sure: bool) -> None:
        for key in (*(step.requires or ()), *(step.provides or ())):
            if self.kind is not None and (known := [one.name for one in _fields(self.kind)]) and key not in known:
                what = "requires" if key in (step.requires or ()) else "provides"
                raise SagaDefinitionError(
                    f"saga {self.saga!r}: step {step.name!r} {what} {key!r}, and {self.kind.__name__} has no such field"
                    f"{near(key, known)}; fields: {', '.join(known)}"
                )
        for key in step.requires or ():
            gives_way = step.on_error is not OnError.COMPENSATE or bool(step.fallback)
            self._requires(step, key, keys, sure and not gives_way)
        why = f"{step.name!r} is skipped when it fails" if step.on_error is OnError.SKIP else _THERE
        for key in step.provides or ():
            keys.provide(key, step.name, why)
        told = step.requires is not None or step.provides is not None or step.pause is not None or step in self.only_look
        keys.untold = keys.untold or (None if told else step.name)

    def _asks(self, step: PlannedStep, keys: _Keys) -> None:
        """Take a step that looks at a key, and sets none: it decides, or lists items."""
        task = step.inner_task
        key = task.by if isinstance(task, ChoiceTask) else task.items if isinstance(task, ListingTask) else None
        if isinstance(key, str):
            self._requires(step, key, keys, False)

    def _requires(self, step: PlannedStep, key: str, keys: _Keys, cannot_do_without: bool) -> None:
        why, elsewhere = keys.known.get(key), [name for name in self.providers.get(key, ()) if name != step.name]
        later = f"; {elsewhere[0]!r} provides it, and does not come before" if elsewhere else ""
        if why == _THERE or (why == _UNSET and not elsewhere):
            return
        if why == _UNSET:
            self._found(step.name, key, PERHAPS_MISSING, f"{_UNSET}{later}")
        elif why is not None:
            self._found(step.name, key, PERHAPS_MISSING, why)
        elif keys.untold is not None:
            untold = f"{keys.untold!r} comes before, and does not say what it provides"
            self._found(step.name, key, PERHAPS_MISSING, untold + later)
        elif not self.input_known:
            self._found(step.name, key, LEFT_TO_THE_INPUT, f"no step before provides it{later}")
            if cannot_do_without:
                self.needs.setdefault(key, step.name)
        else:
            hint = later or near(key, keys.known)
            self._found(step.name, key, MISSING, f"neither the input nor a step before has it{hint}")

    def _conflicts(self, branches: list[_Keys]) -> None:
        first: dict[str, str] = {}
        for branch in branches:
            for key, step in branch.set.items():
                if key in first:
                    self._found(step, key, IN_CONFLICT, f"{first[key]!r} sets it, too, at the same time")
                first.setdefault(key, step)

    def _found(self, step: str, key: str, what: str, why: str) -> None:
        self.findings.append(Finding(step, key, what, why))


def _fields(kind: type[Any]) -> tuple[Any, ...]:
    return fields(kind) if is_dataclass(kind) else ()
