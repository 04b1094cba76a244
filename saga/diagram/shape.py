"""What there is to draw: a saga's flow as a tree, and what is said of each step in words. No drawing lives here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from saga.diagram import words
from saga.errors import SagaDefinitionError
from saga.events import CompensationSucceeded, FallbackChosen, StepStarted, StepStatus, StepSucceeded, WayChosen
from saga.flow import Choice, Fallback, Flow, ForEach, Parallel, Pause, Sequence, Step, Unit
from saga.machine import Each, Plan, PlannedStep, declared_name, following, grow
from saga.result import SagaResult, StepRecord

if TYPE_CHECKING:
    from saga.definition import Definition

__all__ = ["Box", "Certified", "Chain", "Crossing", "Detour", "Lanes", "Node", "Picture", "boxes", "picture_of"]


_MOST_LANES: Final = 6  # of the items of a list


@dataclass(frozen=True, slots=True)
class Box:
    """A step.

    :ivar label: the last part of its name.
    :ivar record: what became of it, where an execution is drawn.
    :ivar undoable: whether it is undone when a later step fails: it has a compensation, and no pivot precedes that.
    :ivar undone: its place among those undone, from 1.
    :ivar fell_back: whether its fallback was chosen.
    :ivar certificate: how its task's certificate stands, where that is drawn.
    """

    step: PlannedStep
    label: str
    undoable: bool
    record: StepRecord | None = None
    undone: int | None = None
    fell_back: bool = False
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """One after the other; ``title`` is a nested saga's name, or a unit's, of which ``unit`` says more."""

    children: tuple[Node, ...]
    title: str | None = None
    unit: Box | None = None

    @property
    def caption(self) -> list[str]:
        """What is said of all of it: what a unit's policies say, or what became of it."""
        if self.unit is None:
            return [] if self.title is None else [self.title]
        said = words.policies(self.unit.step) if self.unit.record is None else words.outcome(self.unit)
        return [self.unit.label, *said]


@dataclass(frozen=True, slots=True)
class Lanes:
    """At the same time. ``each``: for the items of a list; ``more``: of how many no lane is drawn."""

    children: tuple[Node, ...]
    compensate_together: bool
    limit: int | None = None
    each: bool = False
    more: int = 0

    @property
    def caption(self) -> str:
        """What is said of all of them."""
        limited = "" if self.limit is None else f", at most {self.limit} at a time"
        more = f", {self.more} more not drawn" if self.more else ""
        which = "for each item" if self.each else "in parallel"
        return f"{which}{limited}{', undone together' if self.compensate_together else ''}{more}"


@dataclass(frozen=True, slots=True)
class Detour:
    """A step or a unit, and what is done instead when it fails; ``on`` says with what."""

    primary: Box | Chain
    alternative: Node
    on: str


@dataclass(frozen=True, slots=True)
class Way:
    """One way to go on: what it is called, and what is done; ``reached``: an execution took it, or none is drawn."""

    label: str
    node: Node | None
    reached: bool


@dataclass(frozen=True, slots=True)
class Crossing:
    """A step that decides, and the ways that it decides between."""

    decision: Box
    ways: tuple[Way, ...]


Node = Box | Chain | Lanes | Detour | Crossing


@dataclass(frozen=True, slots=True)
class Picture:
    """What a diagram shows."""

    definition: Definition
    plan: Plan
    root: Chain
    result: SagaResult | None
    caption: tuple[str, ...]


class Certified(Protocol):
    """Knows how the certificates of a saga's tasks stand: :class:`saga.testing.Certificates`."""

    def standing(self, definition: Definition) -> Mapping[str, str]:
        """Return that by the steps' names, in words."""


def picture_of(
    definition: Definition, result: SagaResult | None, caption: Iterable[str], certificates: Certified | None
) -> Picture:
    """Return what a diagram of the saga, or of an execution of it, shows.

    :raises SagaDefinitionError: the result is not one of it as it is now.
    """
    plan = getattr(definition, "plan", None)
    if not isinstance(plan, Plan):
        raise SagaDefinitionError(f"Diagram: definition is {definition!r}; give that of a saga, or write saga.diagram()")
    if plan.open:
        raise SagaDefinitionError(f"{definition!r} stands for blocks, which have no flow to draw")
    records: dict[str, StepRecord] = {}
    undone: dict[str, int] = {}
    fell_back: set[str] = set()
    taken: dict[str, str] = {}
    if result is not None:
        if not isinstance(result, SagaResult):
            raise SagaDefinitionError(f"diagram(): result is {result!r}; give a SagaResult of saga {definition.name!r}")
        if result._fingerprint != plan.fingerprint:
            raise SagaDefinitionError(
                f"{result!r} is not a result of saga {definition.name!r} as it is now; draw it with the saga that was executed"
            )
        records = {record.name: record for record in result.history}
        for event in result.events:
            if isinstance(event, CompensationSucceeded):
                undone[event.step] = len(undone) + 1
            elif isinstance(event, FallbackChosen):
                fell_back.add(event.step)
            elif isinstance(event, WayChosen):
                taken[event.step] = event.way
            elif isinstance(event, StepStarted):  # again, where it was undone on request
                undone.pop(event.step, None)
                fell_back.discard(event.step)
                taken.pop(event.step, None)

    if plan.grows:
        plan = _grown(plan, result)
    past_pivot = set() if plan.pivot is None else {step.index for step in (plan.pivot, *following(*plan.pivot.onward))}
    standing = {} if certificates is None else certificates.standing(definition)

    def box(label: str, prefix: str) -> Box:
        name = prefix + label
        step = plan.by_name[name]
        undoable = step.compensates and step.index not in past_pivot
        record = records.get(name) if result is None else records.get(name) or StepRecord(name)
        certificate = standing.get(declared_name(plan, step))
        return Box(step, label, undoable, record, undone.get(name), name in fell_back, certificate)

    def shape(flow: Flow, prefix: str) -> Node:
        if isinstance(flow, Step | Pause):
            return box(flow.name, prefix)
        if isinstance(flow, Unit):
            inner = shape(flow.child, prefix)
            if isinstance(inner, Chain) and inner.title in (None, flow.name):  # the unit's frame is enough
                return Chain(inner.children, flow.name, box(flow.name, prefix))
            return Chain((inner,), flow.name, box(flow.name, prefix))
        if isinstance(flow, ForEach):
            lists = shape(flow.lists, prefix)
            assert isinstance(lists, Box)
            assert isinstance(lists.step.then, Each)
            assert lists.step.then.group is not None
            names = [name.removeprefix(prefix) for name in lists.step.then.group.names]
            lanes = [
                shape(replace(flow.child, name=name), prefix)
                if isinstance(flow.child, Step | Pause)
                else shape(flow.child, f"{prefix}{name}/")
                for name in names[:_MOST_LANES]
            ]
            more = max(0, len(names) - _MOST_LANES)
            return Chain((lists, *([Lanes(tuple(lanes), flow.compensate_together, flow.limit, True, more)] if lanes else [])))
        if isinstance(flow, Parallel):
            children = tuple(shape(child, prefix) for child in flow.children)
            return Lanes(children, flow.compensate_together, flow.limit)
        if isinstance(flow, Fallback):
            primary = shape(flow.primary, prefix)
            assert isinstance(primary, Box | Chain)
            kinds = ("any error" if kind is Exception else kind.__name__ for kind in flow.on)
            return Detour(primary, shape(flow.alternative, prefix), " or ".join(kinds))
        if isinstance(flow, Choice):
            decision = shape(flow.decision, prefix)
            assert isinstance(decision, Box)
            ways = []
            for way, child in flow.ways.items():
                node = None if child == Sequence(()) else shape(child, prefix)
                ways.append(Way(way, node, result is None or taken.get(decision.step.name) == way))
            return Crossing(decision, tuple(ways))
        assert isinstance(flow, Sequence), flow
        inside = prefix if flow.name is None else f"{prefix}{flow.name}/"
        return Chain(tuple(shape(child, inside) for child in flow.children), flow.name)

    assert plan.flow is not None
    root = shape(plan.flow, "")
    assert isinstance(root, Chain)
    return Picture(definition, plan, root, result, tuple(caption))


def _grown(plan: Plan, result: SagaResult | None) -> Plan:
    """Return a plan as it has grown in an execution; by one item, where none is drawn, or it did not come to list any."""
    plan = plan.for_execution()
    events = () if result is None else result.events
    listed = {event.step: event.result for event in events if isinstance(event, StepSucceeded)}
    for step in plan.steps:  # which grow meanwhile
        if isinstance(step.then, Each):
            grow(plan, step.then, listed.get(step.name, {"": None}))
    return plan


def boxes(node: Node) -> Iterator[Box]:
    """Yield every step's box, in the order declared."""
    if isinstance(node, Box):
        yield node
    elif isinstance(node, Detour):
        yield from boxes(node.primary)
        yield from boxes(node.alternative)
    elif isinstance(node, Crossing):
        yield node.decision
        for way in node.ways:
            if way.node is not None:
                yield from boxes(way.node)
    else:
        if isinstance(node, Chain) and node.unit is not None:
            yield node.unit
        for child in node.children:
            yield from boxes(child)


def reached(node: Node) -> bool:
    """Whether an execution came to any step of ``node``, or none is drawn."""
    return any(box.record is None or box.record.status is not StepStatus.PENDING for box in boxes(node))
