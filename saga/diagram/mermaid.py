"""Mermaid text: a flowchart, and a sequence diagram. Every name is escaped, so none can say anything but itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from saga import events as e
from saga.diagram import words
from saga.diagram.shape import Box, Chain, Crossing, Detour, Lanes, Node, Picture, boxes
from saga.events import StepStatus
from saga.machine import PlannedStep
from saga.plain import one_line, shortened
from saga.result import error_line

__all__ = ["flowchart", "sequence_diagram"]

_LONGEST = 80  # characters of an error, or of a name
# All but plain signs; the word that ends a block, and the one whose line is a statement wherever it stands; what Markdown takes
# for an item of a list.
_UNSAFE = re.compile(r"[^\w .,/()'·…↶-]|\bend\b|direction(?=\s)|_{2,}|-{2,}|^\s*(?:\d+[.)]|-)", re.IGNORECASE)
_MARKS = {
    StepStatus.PENDING: "·",
    StepStatus.RUNNING: "▶",
    StepStatus.WAITING: "▶",
    StepStatus.SUCCEEDED: "✓",
    StepStatus.FAILED: "✗",
    StepStatus.SKIPPED: "»",
    StepStatus.TIMED_OUT: "?",
    StepStatus.IN_DOUBT: "?",
    StepStatus.COMPENSATING: "↶",
    StepStatus.COMPENSATED: "↶",
    StepStatus.COMPENSATION_FAILED: "!",
}
_CLASSES = """\
    classDef pending fill:#f6f8fa,stroke:#8c959f,color:#57606a,stroke-dasharray:2 3
    classDef running fill:#ddf4ff,stroke:#0969da,color:#1f2328
    classDef succeeded fill:#d9f2e6,stroke:#1a7f5a,color:#1f2328
    classDef failed fill:#ffe3d6,stroke:#c4441a,color:#1f2328
    classDef skipped fill:#f6f8fa,stroke:#6e7781,color:#1f2328,stroke-dasharray:6 4
    classDef doubtful fill:#fff3c8,stroke:#9a6700,color:#1f2328
    classDef compensated fill:#e2e7ff,stroke:#3b5bdb,color:#1f2328
    classDef stuck fill:#ffdde6,stroke:#a3123a,color:#1f2328,stroke-width:3px"""
_CLASS_OF = {
    StepStatus.WAITING: "running",
    StepStatus.TIMED_OUT: "doubtful",
    StepStatus.IN_DOUBT: "doubtful",
    StepStatus.COMPENSATING: "compensated",
    StepStatus.COMPENSATION_FAILED: "stuck",
}


def escaped(text: str, most: int = _LONGEST) -> str:
    """Return text that Mermaid shows as it is, wherever it stands."""
    shown = _UNSAFE.sub(lambda found: "".join(f"#{ord(one)};" for one in found[0]), shortened(one_line(text), most))
    return shown.strip() or "#32;"


# -- the flowchart ----------------------------------------------------------------------------------------------------


class _Flowchart:
    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.lines = ["flowchart TD"]
        self.links: list[str] = []  # at the end: a node that a link within a subgraph names would be drawn within
        self.numbers = itertools.count(1)
        self.depth = 1

    def text(self) -> str:
        picture = self.picture
        about = "<br/>".join(escaped(line) for line in words.summary(picture))
        self.add(f'start(["{escaped(picture.definition.name)}<br/>{about}"])')
        exits = self.chain(picture.root, [("start", "-->")])
        self.add('finish(("#101;nd"))')  # the bare word would end a subgraph
        self.connect(exits, "finish")
        self.lines += self.links
        if picture.result is not None:
            self.lines.append(_CLASSES)
            for box in boxes(picture.root):
                assert box.record is not None
                status = box.record.status
                self.add(f"class s{box.step.index} {_CLASS_OF.get(status, str(status))}")
        return "\n".join(self.lines)

    def add(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def connect(self, exits: list[tuple[str, str]], to: str) -> None:
        for leaving, arrow in exits:
            self.links.append(f"    {leaving} {arrow} {to}")

    def node(self, node: Node, before: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if isinstance(node, Box):
            return self.box(node, before)
        if isinstance(node, Chain):
            return self.chain(node, before)
        if isinstance(node, Lanes):
            return self.lanes(node, before)
        if isinstance(node, Crossing):
            return self.crossing(node, before)
        exits = self.node(node.primary, before)
        primary = node.primary.unit if isinstance(node.primary, Chain) else node.primary
        assert primary is not None
        instead = f'-. "{escaped(f"on {node.on}")}" .->'
        return [*exits, *self.node(node.alternative, [(f"s{primary.step.index}", instead)])]

    def chain(self, chain: Chain, before: list[tuple[str, str]]) -> list[tuple[str, str]]:
        unit, caption = chain.unit, [escaped(line) for line in chain.caption]
        if unit is not None and unit.record is not None:
            caption[1] = f"{_mark(unit)} {caption[1]}"
        if caption:
            called = f"saga{next(self.numbers)}" if unit is None else f"s{unit.step.index}"
            self.add(f'subgraph {called}["{"<br/>".join(caption)}"]')
            self.depth += 1
        for child in chain.children:
            before = self.node(child, before)
        if caption:
            self.depth -= 1
            self.add("end")
        return before

    def lanes(self, lanes: Lanes, before: list[tuple[str, str]]) -> list[tuple[str, str]]:
        number = next(self.numbers)
        self.add(f'fork{number}{{{{"{lanes.caption}"}}}}')
        self.connect(before, f"fork{number}")
        exits = [leaving for child in lanes.children for leaving in self.node(child, [(f"fork{number}", "-->")])]
        self.add(f'join{number}{{{{"all done"}}}}')
        self.connect(exits, f"join{number}")
        return [(f"join{number}", "-->")]

    def crossing(self, crossing: Crossing, before: list[tuple[str, str]]) -> list[tuple[str, str]]:
        ((decision, _),) = self.box(crossing.decision, before)
        exits = []
        for way in crossing.ways:
            leaving = [(decision, f'-- "{escaped(way.label)}" -->')]
            exits += leaving if way.node is None else self.node(way.node, leaving)
        return exits

    def box(self, box: Box, before: list[tuple[str, str]]) -> list[tuple[str, str]]:
        step, name = box.step, f"s{box.step.index}"
        lines = [escaped(box.label)]
        if box.record is None:
            lines += [escaped(line) for line in words.policies(step)]
            if box.undoable:
                lines.append("↶ undone when the saga fails")
        else:
            outcome = [escaped(line) for line in words.outcome(box)]
            lines += [f"{_mark(box)} {outcome[0]}", *outcome[1:]]
        lines += [f"{line[0]} {escaped(line[2:])}" for line in words.marked_certificate(box)]
        opening, closing = ("([", "])") if step.pause is not None else ("[[", "]]") if step.pivot else ("[", "]")
        if step.ways is not None:
            opening, closing = "{", "}"
        self.add(f'{name}{opening}"{"<br/>".join(lines)}"{closing}')
        self.connect(before, name)
        return [(name, "-->")]


def _mark(box: Box) -> str:
    assert box.record is not None
    return _MARKS[box.record.status].replace("?", "#63;").replace("!", "#33;")


def flowchart(picture: Picture) -> str:
    """Return a Mermaid flowchart."""
    return _Flowchart(picture).text()


# -- the sequence diagram ---------------------------------------------------------------------------------------------


def sequence_diagram(picture: Picture) -> str:
    """Return a Mermaid sequence diagram."""
    lines = ["sequenceDiagram", f"    participant saga as {escaped(picture.definition.name)}"]
    lines += [f"    participant s{step.index} as {escaped(step.name)}" for step in picture.plan.steps if _is_called(step)]
    body = _planned(picture) if picture.result is None else _happened(picture)
    said = (f"Note over saga: {escaped(line)}" for line in picture.caption)
    return "\n".join([*lines, *(f"    {line}" for line in (*body, *said))])


def _is_called(step: PlannedStep) -> bool:
    return step.pause is None and step.content is None


def _planned(picture: Picture) -> Iterator[str]:
    yield from _calls(picture.root)
    undone = [box.step.index for box in boxes(picture.root) if box.undoable]
    if undone:
        yield "opt when a step fails, those that succeeded before are undone, the last first"
        yield from (f"    saga->>s{index}: compensate" for index in reversed(undone))
        yield "end"


def _calls(node: Node) -> Iterator[str]:
    if isinstance(node, Box):
        yield from _call(node.step)
    elif isinstance(node, Chain):
        if node.unit is not None:
            yield f"critical {escaped(' - '.join(node.caption))}"
        for child in node.children:
            yield from (line if node.unit is None else f"    {line}" for line in _calls(child))
        if node.unit is not None:
            yield "end"
    elif isinstance(node, Lanes):
        for number, child in enumerate(node.children):
            yield f"{'and' if number else 'par'} branch {number + 1}"
            yield from (f"    {line}" for line in _calls(child))
        yield "end"
    elif isinstance(node, Crossing):
        yield from _call(node.decision.step)
        for number, way in enumerate(node.ways):
            yield f"{'else' if number else 'alt'} {escaped(way.label)}"
            yield from (f"    {line}" for line in (() if way.node is None else _calls(way.node)))
        yield "end"
    else:
        assert isinstance(node, Detour)
        yield from _calls(node.primary)
        yield f"opt {escaped(f'instead, on {node.on}')}"
        yield from (f"    {line}" for line in _calls(node.alternative))
        yield "end"


def _call(step: PlannedStep) -> Iterator[str]:
    if step.pause is not None:
        yield f"Note over saga: {escaped(f'{step.name}: {words.waits(step.pause)}')}"
        return
    name, more = f"s{step.index}", step.retry.max_attempts != 1
    if more:
        yield f"loop {words.attempts(step.retry)}"
    limit = f" (timeout {words.duration(step.timeout)})" if step.timeout is not None else ""
    indent = "    " if more else ""
    yield f"{indent}saga->>+{name}: execute{limit}"
    yield f"{indent}{name}-->>-saga: result"
    if more:
        yield "end"
    if step.pivot:
        yield "Note over saga: pivot - nothing is undone after this"


def _happened(picture: Picture) -> Iterator[str]:
    assert picture.result is not None
    for event in picture.result.events:
        name = getattr(event, "step", None)
        step = picture.plan.by_name[name] if name is not None else None
        if isinstance(event, e.SagaRewound):
            yield f"Note over saga: {escaped(f'paused: {event.reason}')}"
        elif step is not None and not _is_called(step):
            yield from _went(step, event)
        elif step is not None:
            yield from _called(f"s{step.index}", event)
        elif isinstance(event, e.SagaCompensating):
            yield f"Note over saga: {escaped(f'gives up: {error_line(event.error)}')}"
        elif isinstance(event, e.SignalReceived):
            yield f"Note over saga: {escaped(f'signal {event.name!r} came')}"
        elif isinstance(event, e.MessageRefused):
            yield f"Note over saga: {escaped(f'a message is refused: {event.reason}')}"
        elif isinstance(event, e.SagaRecovered):
            yield "Note over saga: another process takes over"
        elif isinstance(event, e.OperatorActed):
            yield f"Note over saga: {escaped(f'{event.who}: {event.action} ({event.why})')}"
        elif isinstance(event, e.SagaHeld):
            yield "Note over saga: is given back, and goes on elsewhere"
        elif isinstance(event, e.SagaPaused):
            yield f"Note over saga: {escaped(f'paused {event.reason}')}"
        elif isinstance(event, e.SagaStuck):
            yield f"Note over saga: {escaped(f'stuck: {event.reason}')}"
        elif isinstance(event, e.SagaCompleted | e.SagaCompensated):
            yield f"Note over saga: {'completed' if isinstance(event, e.SagaCompleted) else 'compensated'}"


def _called(name: str, event: e.Event) -> Iterator[str]:
    match event:
        case e.StepStarted():
            yield f"saga->>{name}: execute{_attempt(event.attempt)}"
        case e.StepSucceeded():
            yield f"{name}-->>saga: done in {escaped(words.duration(event.elapsed))}"
        case e.StepFailed():
            doubt = "in doubt, " if event.in_doubt else ""
            yield f"{name}--xsaga: {doubt}{escaped(error_line(event.error))}"
        case e.StepTimedOut():
            yield f"Note over {name}: timed out{', and still runs' if event.running else ''}"
        case e.StepSkipped():
            yield "Note over saga: goes on without it"
        case e.FallbackChosen():
            yield "Note over saga: falls back"
        case e.WayChosen():
            yield f"Note over saga: goes on by {escaped(event.way)}"
        case e.PersonAsked():
            yield "Note over saga: asks a person"
        case e.RetryScheduled():
            yield f"Note over saga: waits {escaped(words.duration(event.delay))} for attempt {event.attempt}"
        case e.SagaCompensating():
            yield f"Note over saga: {escaped(f'gives up: {error_line(event.error)}')}"
        case e.UnitCompensating():
            yield f"Note over saga: {escaped(f'{event.step} gives up: {error_line(event.error)}')}"
        case e.VerificationStarted():
            yield f"saga->>{name}: verify{_attempt(event.attempt)}"
        case e.StepVerified():
            yield f"{name}-->>saga: {'it was done' if event.done else 'it was not done'}"
        case e.VerificationFailed():
            yield f"{name}--xsaga: still in doubt, {escaped(error_line(event.error))}"
        case e.CompensationStarted():
            yield f"saga->>{name}: compensate{_attempt(event.attempt)}"
        case e.CompensationSucceeded():
            yield f"{name}-->>saga: undone in {escaped(words.duration(event.elapsed))}"
        case e.CompensationFailed():
            yield f"{name}--xsaga: {escaped(error_line(event.error))}"
        case e.CompensationTimedOut():
            yield f"Note over {name}: the undo timed out, and still runs"
        case e.OperatorActed():
            yield f"Note over {name}: {escaped(f'{event.who}: {event.action} ({event.why})')}"


def _attempt(number: int) -> str:
    return f", attempt {number}" if number > 1 else ""


def _went(step: PlannedStep, event: e.Event) -> Iterator[str]:
    """Yield what is said of a step that nobody calls: a wait, or one that stands for a unit."""
    match event:
        case e.StepStarted():
            begins = f"begins{_attempt(event.attempt)}" if step.pause is None else words.waits(step.pause)
            yield f"Note over saga: {escaped(f'{step.name}: {begins}')}"
        case e.StepSucceeded():
            done = "done in" if step.pause is None else "waited"
            yield f"Note over saga: {escaped(f'{step.name}: {done} {words.duration(event.elapsed)}')}"
        case e.StepFailed() | e.StepTimedOut():
            yield f"Note over saga: {escaped(f'{step.name}: {error_line(event.error)}')}"
        case _:
            yield from _called("saga", event)
