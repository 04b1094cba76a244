"""What there is to draw: a saga's flow as a tree, and what is said of each step in words. No drawing lives here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from saga.errors import SagaDefinitionError
from saga.events import CompensationSucceeded, FallbackChosen, StepStarted, StepStatus, StepSucceeded, WayChosen
from saga.flow import Choice, Fallback, Flow, ForEach, Parallel, Pause, Sequence, Step
from saga.machine import Each, Plan, PlannedStep, declared_name, following, grow
from saga.policy import InDoubt, OnError, Retry
from saga.result import SagaResult, StepRecord, error_line, told_besides

if TYPE_CHECKING:
    from saga.definition import Definition

__all__ = ["Box", "Certified", "Chain", "Crossing", "Detour", "Lanes", "Node", "Picture", "boxes", "duration", "picture_of"]


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
    """One after the other; ``title`` is a nested saga's name."""

    children: tuple[Node, ...]
    title: str | None = None


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
    """A step, and what is done instead when it fails; ``on`` says with what."""

    primary: Box
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

    def shape(flow: Flow, prefix: str) -> Node:
        if isinstance(flow, Step | Pause):
            name = prefix + flow.name
            step = plan.by_name[name]
            undoable = step.compensates and step.index not in past_pivot
            record = records.get(name) if result is None else records.get(name) or StepRecord(name)
            certificate = standing.get(declared_name(plan, step))
            return Box(step, flow.name, undoable, record, undone.get(name), name in fell_back, certificate)
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
            assert isinstance(primary, Box)
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
        yield node.primary
        yield from boxes(node.alternative)
    elif isinstance(node, Crossing):
        yield node.decision
        for way in node.ways:
            if way.node is not None:
                yield from boxes(way.node)
    else:
        for child in node.children:
            yield from boxes(child)


def reached(node: Node) -> bool:
    """Whether an execution came to any step of ``node``, or none is drawn."""
    return any(box.record is None or box.record.status is not StepStatus.PENDING for box in boxes(node))


def marked_certificate(box: Box) -> list[str]:
    """Return how a step's certificate stands, with a sign."""
    if box.certificate is None:
        return []
    return [f"{'✓' if box.certificate == 'certified' else '✗'} {box.certificate}"]


# -- in words ---------------------------------------------------------------------------------------------------------


def policies(step: PlannedStep) -> list[str]:
    """Return what a step's policies say, as far as they are not the default."""
    phrases = []
    if step.pause is not None:
        phrases.append(waits(step.pause))
    if step.retry.max_attempts != 1:
        phrases.append(attempts(step.retry))
    if step.timeout is not None:
        phrases.append(f"timeout {duration(step.timeout)}")
    if step.on_error is OnError.SKIP:
        phrases.append("skipped if it fails")
    elif step.on_error is OnError.ASK:
        phrases.append("a person is asked if it fails")
    if step.pivot:
        phrases.append("pivot: nothing is undone after it")
    if step.transactional:
        phrases.append("one commit with the journal")
    if step.compensate_on_failure:
        phrases.append("undone if it fails itself, too")
    if step.compensation_retry.max_attempts != 1:
        phrases.append(f"undo: {attempts(step.compensation_retry)}")
    if step.compensation_timeout is not None:
        phrases.append(f"undo: timeout {duration(step.compensation_timeout)}")
    if step.requires:
        phrases.append(f"requires {', '.join(step.requires)}")
    if step.provides:
        phrases.append(f"provides {', '.join(step.provides)}")
    if step.ways is not None:  # which only looks
        return [*phrases, "decides how to go on"]
    if isinstance(step.then, Each):  # which only looks
        return [*phrases, "lists what is done next"]
    if step.in_doubt is not InDoubt.COMPENSATE:
        phrases.append("in doubt: run again" if step.in_doubt is InDoubt.RERUN else "in doubt: ask a person")
    if "unknown_on" in vars(step):
        phrases.append("in doubt: after errors of its own choice")
    if step.verifies:
        more = step.verification_retry
        phrases.append("in doubt: verified first" + (f", {attempts(more)}" if more.max_attempts != 1 else ""))
    return phrases


def attempts(retry: Retry) -> str:
    """Return how often and how long a call is attempted."""
    often = "attempts" if retry.max_attempts is None else f"up to {retry.max_attempts} attempts"
    limit = f" within {duration(retry.max_elapsed)}" if isinstance(retry.max_elapsed, int | float) else ""
    return f"{often}{limit}{', until its result is ready' if retry.retry_if is not None else ''}"


def waits(pause: Pause) -> str:
    """Return what a step waits for."""
    if pause.until is not None:
        return f"waits until {pause.until.isoformat(' ')}"
    if pause.asks:
        return "waits as the step before says"
    if not pause.signals:
        assert pause.seconds is not None
        return f"waits {duration(pause.seconds)}"
    limit = "" if pause.seconds is None else f", at most {duration(pause.seconds)}"
    return f"waits for {pause.awaited}{limit}"


_WORDS = {
    StepStatus.PENDING: "not reached",
    StepStatus.WAITING: "failed, to be tried again",
    StepStatus.COMPENSATED: "undone",
    StepStatus.COMPENSATING: "being undone",
    StepStatus.COMPENSATION_FAILED: "undo failed",
}


def outcome(box: Box) -> list[str]:
    """Return what became of a step: first how it stands, then its error, if it had one."""
    record = box.record
    assert record is not None
    status = record.status
    parts = [_WORDS.get(status, str(status).replace("_", " "))]
    parts += told_besides(record)
    if box.undone is not None and status is StepStatus.COMPENSATED:
        parts[0] += f" {_ordinal(box.undone)}"
    if box.fell_back and status is not StepStatus.SUCCEEDED:
        parts.append("fell back")
    if record.attempts > 1:
        parts.append(f"{record.attempts} attempts")
    if record.compensation_attempts > 1:
        parts.append(f"{record.compensation_attempts} undo attempts")
    if record.attempts and record.status not in (StepStatus.RUNNING, StepStatus.TIMED_OUT):
        parts.append(duration(record.elapsed))
    lines = [" · ".join(parts)]
    if record.verification_error is not None:
        lines.append(f"verification: {error_line(record.verification_error)}")
    if record.compensation_error is not None:
        lines.append(f"undo: {error_line(record.compensation_error)}")
    if record.error is not None:
        lines.append(error_line(record.error))
    return lines


def summary(picture: Picture) -> list[str]:
    """Return what is said of the whole."""
    definition, result = picture.definition, picture.result
    count = len(picture.plan.steps)
    if result is None:
        parts = [f"{count} step{'' if count == 1 else 's'}", f"version {definition.version}"]
        if definition.timeout is not None:
            parts.append(f"timeout {duration(definition.timeout)}")
        return [" · ".join(parts), *picture.caption]
    lines = [f"{result.status} · {duration(result.elapsed)} · {result.saga_id}"]
    if result.reason:
        lines.append(f"a person must act: {result.reason}")
    if result.error is not None:
        lines.append(error_line(result.error))
    return [*lines, *picture.caption]


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


_UNITS = ((86400, "day"), (3600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """Return seconds as a person reads them: ``90.0`` is ``1 min 30 s``."""
    if seconds < 0.0001:
        return "<0.1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    parts = []
    left = round(seconds)
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
    if left:
        parts.append(f"{left} s")
    return " ".join(parts[:2])
