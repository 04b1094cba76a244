"""SVG text: a layout for series-parallel trees, and its drawing. No browser, no font and no clock is asked.

Every part knows its size before anything is drawn: a width, a height, and the axis, where the line that passes through it
enters at the top and leaves at the bottom. Widths of text are estimated on the wide side (by DejaVu Sans), since nobody knows
which font the reader has; so text may leave room, and never runs into its neighbour.

The document has no ids, so that many can stand on one page; all its rules begin with ``.saga-diagram``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from saga.diagram import shape
from saga.diagram.shape import Box, Chain, Detour, Lanes, Node, Picture, printable, reached, shortened
from saga.events import Status, StepStatus

__all__ = ["draw", "text_width"]

_NAME, _SMALL = 14.0, 11.5  # font sizes, in pixels
_NAME_LINE, _SMALL_LINE = 18.0, 16.0
_WIDEST = 250.0  # of a line of a name
_DETAILS = 46  # characters of a line of details
_PAD, _GAP, _LANE_GAP, _FRAME = 12.0, 30.0, 26.0, 16.0

_STYLE: Final = """
.saga-diagram{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.saga-diagram text{fill:#1f2328;font-size:11.5px}
.saga-diagram .name{font-size:14px;font-weight:600}
.saga-diagram .muted{fill:#57606a}
.saga-diagram .panel{fill:#ffffff;stroke:#d1d9e0}
.saga-diagram .frame{fill:#818b98;fill-opacity:.07;stroke:#818b98;stroke-dasharray:2 3}
.saga-diagram .card{fill:#f6f8fa;stroke:#818b98;stroke-width:1.2}
.saga-diagram .line{fill:none;stroke:#59636e;stroke-width:1.6}
.saga-diagram .tip,.saga-diagram .bar{fill:#59636e}
.saga-diagram .detour{stroke-dasharray:5 4}
.saga-diagram .dim{opacity:.4}
.saga-diagram .glyph{fill:none;stroke:#ffffff;stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}
.saga-diagram .undo{fill:none;stroke:#3b5bdb;stroke-width:1.7;stroke-linecap:round;stroke-linejoin:round}
.saga-diagram .pending{fill:#818b98}.saga-diagram .running{fill:#0969da}.saga-diagram .succeeded{fill:#1a7f5a}
.saga-diagram .failed{fill:#c4441a}.saga-diagram .skipped{fill:#6e7781}.saga-diagram .doubtful{fill:#9a6700}
.saga-diagram .compensated{fill:#3b5bdb}.saga-diagram .stuck{fill:#a3123a}
.saga-diagram .off{stroke-dasharray:4 3}
.saga-diagram .of-running{fill:#ddf4ff;stroke:#0969da}.saga-diagram .of-succeeded{fill:#e3f5ec;stroke:#1a7f5a}
.saga-diagram .of-failed{fill:#ffece3;stroke:#c4441a}.saga-diagram .of-doubtful{fill:#fff5d6;stroke:#9a6700}
.saga-diagram .of-compensated{fill:#eaeeff;stroke:#3b5bdb}.saga-diagram .of-stuck{fill:#ffe4eb;stroke:#a3123a;stroke-width:2.4}
@media (prefers-color-scheme:dark){
.saga-diagram text{fill:#e6edf3}
.saga-diagram .muted{fill:#a3adb8}
.saga-diagram .panel{fill:#0d1117;stroke:#3d444d}
.saga-diagram .card{fill:#1a2029;stroke:#656c76}
.saga-diagram .line{stroke:#9198a1}
.saga-diagram .tip,.saga-diagram .bar{fill:#9198a1}
.saga-diagram .glyph{stroke:#0d1117}
.saga-diagram .undo{stroke:#91a7ff}
.saga-diagram .pending{fill:#9198a1}.saga-diagram .running{fill:#58a6ff}.saga-diagram .succeeded{fill:#3fb68b}
.saga-diagram .failed{fill:#ff8a5c}.saga-diagram .skipped{fill:#9198a1}.saga-diagram .doubtful{fill:#e3b341}
.saga-diagram .compensated{fill:#91a7ff}.saga-diagram .stuck{fill:#ff7b9c}
.saga-diagram .of-running{fill:#12263c;stroke:#58a6ff}.saga-diagram .of-succeeded{fill:#12291f;stroke:#3fb68b}
.saga-diagram .of-failed{fill:#331d14;stroke:#ff8a5c}.saga-diagram .of-doubtful{fill:#2d2610;stroke:#e3b341}
.saga-diagram .of-compensated{fill:#1b2144;stroke:#91a7ff}.saga-diagram .of-stuck{fill:#3a1420;stroke:#ff7b9c}
}
"""

# Strokes within a circle of radius 7 around (0, 0).
_UNDO = "M-3.2-1.2H1a2.3 2.3 0 0 1 0 4.6H-1.4M-1-3.4-3.2-1.2-1 1"
_QUESTION = "M-2-1.6a2 2 0 1 1 2.9 1.8q-.9.5-.9 1.4M0 3.9v.1"
_CHECK = "M-3.3.3-.9 2.8 3.4-2.4"
_CROSS = "M-2.5-2.5 2.5 2.5M2.5-2.5-2.5 2.5"
_PLAY = "M-1.6-2.8 2.6 0-1.6 2.8Z"
_MARKS: Final[dict[StepStatus, tuple[str, str]]] = {
    StepStatus.PENDING: ("pending", "M-3 0h.1M0 0h.1M3 0h.1"),
    StepStatus.RUNNING: ("running", _PLAY),
    StepStatus.WAITING: ("running", "M0-3.2V0l2 1.6"),
    StepStatus.SUCCEEDED: ("succeeded", _CHECK),
    StepStatus.FAILED: ("failed", _CROSS),
    StepStatus.SKIPPED: ("skipped", "M-3-2.6-.4 0-3 2.6M.4-2.6 3 0 .4 2.6"),
    StepStatus.TIMED_OUT: ("doubtful", "M0-3.2V0l2 1.6"),
    StepStatus.IN_DOUBT: ("doubtful", _QUESTION),
    StepStatus.COMPENSATING: ("compensated", _PLAY),
    StepStatus.COMPENSATED: ("compensated", _UNDO),
    StepStatus.COMPENSATION_FAILED: ("stuck", "M0-3.6V.6M0 3.4v.1"),
}
_ENDS: Final = {
    Status.RUNNING: _MARKS[StepStatus.RUNNING],
    Status.COMPENSATING: _MARKS[StepStatus.COMPENSATING],
    Status.COMPLETED: _MARKS[StepStatus.SUCCEEDED],
    Status.COMPENSATED: _MARKS[StepStatus.COMPENSATED],
    Status.STUCK: _MARKS[StepStatus.COMPENSATION_FAILED],
}


# -- text -------------------------------------------------------------------------------------------------------------

_WIDTHS: Final = {
    letter: width
    for letters, width in [
        ("'ijlIJ", 0.3),
        (" ,./:;\\|f-", 0.36),
        ("()[]t!r", 0.42),
        ('"*_`sz?', 0.53),
        ("cLFkvxyPTYaoe", 0.62),
        ("ESbdghnpqu$0123456789{}", 0.64),
        ("KAVBRXZCUHN", 0.75),
        ("DG&OQw#+<=>^~M", 0.86),
        ("%mW@", 1.0),
        ("·", 0.32),
    ]
    for letter in letters
}


def _character(character: str) -> float:
    known = _WIDTHS.get(character)
    if known is not None:
        return known
    if ord(character) < 0x250:
        return 0.8
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0.1
    return 1.35 if unicodedata.category(character) == "So" else 1.1


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return how many pixels wide a line of text is at most, in about any font."""
    width = sum(map(_character, text))
    return (width * 1.07 + 0.05 * len(text) if bold else width) * size


def _wrapped(name: str) -> list[str]:
    """Return a name in at most three lines, broken between words where there are any."""
    parts = re.findall(r"[^\W_]+?(?=[A-Z][a-z]|[^\w]|_|$)|[\W_]+|\w+?", name) or [name]
    lines = [""]
    for part in parts:
        pieces = [part] if text_width(part, _NAME, True) <= _WIDEST else list(part)
        for piece in pieces:
            if lines[-1] and text_width(lines[-1] + piece, _NAME, True) > _WIDEST:
                lines.append("")
            lines[-1] += piece
    if len(lines) > 3:
        lines = [*lines[:2], lines[2][:-1] + "…"]
    return [line.strip() or line for line in lines]


# -- the sheet --------------------------------------------------------------------------------------------------------


class _Sheet:
    """What is drawn, in layers: lines never cross a card."""

    def __init__(self) -> None:
        self.below: list[str] = []
        self.lines: list[str] = []
        self.above: list[str] = []

    def line(self, points: list[tuple[float, float]], *, dim: bool, dashed: bool = False, tip: bool = True) -> None:
        """Draw a line along ``points``, with round corners and an arrow's tip at its end."""
        (x, y), *rest = points
        path = [f"M{_n(x)} {_n(y)}"]
        for (to_x, to_y), after in zip(rest, [*rest[1:], None], strict=True):
            if after is None:
                path.append(f"L{_n(to_x)} {_n(to_y - (5 if tip else 0))}")
                break
            back, ahead = _towards(to_x, to_y, x, y), _towards(to_x, to_y, *after)
            path.append(f"L{back}Q{_n(to_x)} {_n(to_y)} {ahead}")
            x, y = to_x, to_y
        kind = "line" + (" detour" if dashed else "") + (" dim" if dim else "")
        self.lines.append(f'<path class="{kind}" d="{"".join(path)}"/>')
        if tip:
            x, y = points[-1]
            self.lines.append(f'<path class="tip{" dim" if dim else ""}" d="M{_n(x)} {_n(y)}l-4.5-8h9Z"/>')

    def text(self, x: float, y: float, text: str, kind: str = "", *, below: bool = False, middle: bool = False) -> None:
        """Write a line of text; ``y`` is its base line."""
        shown = printable(text)
        fit = ""
        if any(ord(one) >= 0x250 and unicodedata.category(one) not in ("Po", "Pd") for one in shown):
            # Nobody knows how wide these are; a few are as wide as a sentence.
            size, bold = (_NAME, True) if "name" in kind else (_SMALL, False)
            fit = f' textLength="{_n(text_width(shown, size, bold))}" lengthAdjust="spacingAndGlyphs"'
        where = ' text-anchor="middle"' if middle else ""
        drawn = f'<text x="{_n(x)}" y="{_n(y)}"{where}{fit}{_class(kind)}>{escape(shown)}</text>'
        (self.below if below else self.above).append(drawn)

    def mark(self, x: float, y: float, mark: tuple[str, str]) -> None:
        """Draw a filled circle with a sign in it."""
        kind, sign = mark
        self.above.append(
            f'<g transform="translate({_n(x)} {_n(y)})"><circle r="7" class="{kind}"/><path class="glyph" d="{sign}"/></g>'
        )

    def bar(self, x: float, y: float, width: float, dim: bool) -> None:
        """Draw the bar where lanes part or meet."""
        kind = "bar dim" if dim else "bar"
        self.lines.append(f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="5" rx="2.5"/>')


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _towards(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return the point 8 pixels, or half of the way, from one point to another along an axis."""
    step_x, step_y = max(-8.0, min(8.0, (to_x - x) / 2)), max(-8.0, min(8.0, (to_y - y) / 2))
    return f"{_n(x + step_x)} {_n(y + step_y)}"


# -- the parts --------------------------------------------------------------------------------------------------------


class _Part:
    """Something with a size that can draw itself."""

    width: float
    height: float
    axis: float
    reached: bool
    tip = True  # whether the line to it ends in an arrow's tip

    def draw(self, sheet: _Sheet, x: float, y: float) -> None:
        """Draw it with its upper left corner at ``(x, y)``."""
        raise NotImplementedError


class _Card(_Part):
    """A step."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.reached = reached(box)
        self.names = _wrapped(printable(box.label))
        told = _in_lines(shape.policies(box.step)) if box.record is None else shape.outcome(box)
        self.details = [shortened(printable(line), _DETAILS) for line in told]
        if box.record is not None and box.step.pivot:
            self.details.append("pivot: nothing is undone after it")
        self.undo = box.record is None and box.undoable
        name = max(text_width(line, _NAME, True) for line in self.names) + (24 if self.undo else 0)
        detail = max((text_width(line, _SMALL) for line in self.details), default=0.0)
        self.indent = 21.0 if box.record is not None else 0.0
        self.width = max(118.0, name, detail + self.indent) + 2 * _PAD
        self.axis = self.width / 2
        self.height = 2 * 9 + len(self.names) * _NAME_LINE + len(self.details) * _SMALL_LINE

    def draw(self, sheet: _Sheet, x: float, y: float) -> None:
        box, record = self.box, self.box.record
        radius = min(20.0, self.height / 2) if box.step.pause is not None else 7.0
        kind = "card" if self.reached and not box.step.pause else "card off"
        if record is not None and self.reached:
            kind += f" of-{_MARKS[record.status][0]}"
        full = printable(box.step.name)
        status = "" if record is None else f" data-status={quoteattr(str(record.status))}"
        sheet.above.append(f'<g class="step" data-step={quoteattr(full)}{status}><title>{escape(full)}</title>')
        size = f'width="{_n(self.width)}" height="{_n(self.height)}"'
        sheet.above.append(f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" {size} rx="{_n(radius)}"/>')
        if box.step.pivot:  # the line after which there is no way back
            under = y + self.height - 3.5
            sheet.above.append(f'<path class="line" d="M{_n(x + 7)} {_n(under)}H{_n(x + self.width - 7)}"/>')
        base = y + 9 + 13
        for line in self.names:
            sheet.text(x + _PAD, base, line, "name")
            base += _NAME_LINE
        base -= 2
        if self.undo:
            sheet.above.append(_undo_sign(x + self.width - _PAD - 6, y + 9 + 8.5))
        if record is not None:
            sheet.mark(x + _PAD + 7, base - 4, _MARKS[record.status])
        for number, line in enumerate(self.details):
            sheet.text(x + _PAD + self.indent, base, line, "" if record is not None and not number else "muted")
            base += _SMALL_LINE
        sheet.above.append("</g>")


def _undo_sign(x: float, y: float) -> str:
    return f'<path class="undo" transform="translate({_n(x)} {_n(y)}) scale(1.45)" d="{_UNDO}"/>'


def _in_lines(phrases: list[str]) -> list[str]:
    """Return phrases two to a line, where they are short."""
    lines: list[str] = []
    for phrase in phrases:
        if lines and len(lines[-1]) + len(phrase) < 34:
            lines[-1] += f" · {phrase}"
        else:
            lines.append(phrase)
    return lines


class _Column(_Part):
    """One after the other; framed and named where it is a nested saga."""

    def __init__(self, chain: Chain) -> None:
        self.parts = [_part(child) for child in chain.children]
        self.reached = any(part.reached for part in self.parts)
        self.title = shortened(printable(chain.title), 40) if chain.title is not None else None
        self.axis = max(part.axis for part in self.parts)
        self.width = self.axis + max(part.width - part.axis for part in self.parts)
        self.height = sum(part.height for part in self.parts) + _GAP * (len(self.parts) - 1)
        if self.title is not None:
            least = 2 * text_width(self.title, _SMALL) + 24  # the title stands to the left of the axis
            self.side = max(_FRAME, (least - self.width) / 2, text_width(self.title, _SMALL) + 16 - self.axis)
            self.width += 2 * self.side
            self.axis += self.side
            self.height += 36 + _FRAME
            self.tip = False

    def draw(self, sheet: _Sheet, x: float, y: float) -> None:
        if self.title is not None:
            size = f'width="{_n(self.width)}" height="{_n(self.height)}"'
            sheet.below.append(f'<rect class="frame" x="{_n(x)}" y="{_n(y)}" {size} rx="9"/>')
            sheet.text(x + 9, y + 17, self.title, "muted", below=True)
            sheet.line([(x + self.axis, y), (x + self.axis, y + 36)], dim=not self.parts[0].reached, tip=self.parts[0].tip)
            bottom = y + self.height
            sheet.line([(x + self.axis, bottom - _FRAME), (x + self.axis, bottom)], dim=not self.parts[-1].reached, tip=False)
            y += 36
        middle = x + self.axis
        for number, part in enumerate(self.parts):
            if number:
                sheet.line([(middle, y), (middle, y + _GAP)], dim=not part.reached, tip=part.tip)
                y += _GAP
            part.draw(sheet, middle - part.axis, y)
            y += part.height


class _Bars(_Part):
    """Lanes between two bars."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = [_part(child) for child in lanes.children]
        self.reached = any(lane.reached for lane in self.lanes)
        self.caption = "in parallel, undone together" if lanes.compensate_together else "in parallel"
        needed = sum(lane.width for lane in self.lanes) + _LANE_GAP * (len(self.lanes) - 1)
        self.width = max(needed, 2 * text_width(self.caption, _SMALL) + 28)
        self.gap = _LANE_GAP + (self.width - needed) / (len(self.lanes) - 1)
        self.tall = max(lane.height for lane in self.lanes)
        self.height = self.tall + 2 * (5 + _GAP - 6)
        self.axis = self.width / 2

    def draw(self, sheet: _Sheet, x: float, y: float) -> None:
        sheet.text(x + 2, y - 6, self.caption, "muted", below=True)
        top, low = y + 5, y + self.height - 5
        sheet.bar(x, y, self.width, not self.reached)
        sheet.bar(x, low, self.width, not self.reached)
        left = x
        for lane in self.lanes:
            middle = left + lane.axis
            begins = top + _GAP - 6
            sheet.line([(middle, top), (middle, begins)], dim=not lane.reached, tip=lane.tip)
            sheet.line([(middle, begins + lane.height), (middle, low)], dim=not lane.reached, tip=False)
            lane.draw(sheet, left, begins)
            left += lane.width + self.gap


class _Aside(_Part):
    """A step, and to its right what is done instead."""

    def __init__(self, detour: Detour) -> None:
        self.primary = _Card(detour.primary)
        self.instead = _part(detour.alternative)
        self.reached = self.primary.reached
        self.caption = shortened(printable(f"on {detour.on}"), 40)
        self.between = max(28.0, text_width(self.caption, _SMALL) + 22 - self.instead.axis)
        self.drop = self.primary.height / 2 + 26
        self.axis = self.primary.axis
        self.width = self.primary.width + self.between + self.instead.width
        self.height = max(self.primary.height, self.drop + self.instead.height) + 20

    def draw(self, sheet: _Sheet, x: float, y: float) -> None:
        primary, instead, dim = self.primary, self.instead, not self.instead.reached
        right, middle = x + primary.width, y + primary.height / 2
        left = right + self.between
        aside, bottom = left + instead.axis, y + self.height
        sheet.line([(right, middle), (aside, middle), (aside, y + self.drop)], dim=dim, dashed=True, tip=instead.tip)
        sheet.text(right + 8, middle - 6, self.caption, "muted")
        sheet.line([(x + self.axis, y + primary.height), (x + self.axis, bottom)], dim=not self.reached, tip=False)
        ends = y + self.drop + instead.height
        sheet.line([(aside, ends), (aside, bottom - 6), (x + self.axis, bottom - 6)], dim=dim, dashed=True, tip=False)
        primary.draw(sheet, x, y)
        instead.draw(sheet, left, y + self.drop)


def _part(node: Node) -> _Part:
    if isinstance(node, Box):
        return _Card(node)
    if isinstance(node, Chain):
        return _Column(node)
    return _Bars(node) if isinstance(node, Lanes) else _Aside(node)


# -- the whole --------------------------------------------------------------------------------------------------------


def draw(picture: Picture) -> str:
    """Return an SVG document."""
    body = _column(picture.root)
    title = shortened(printable(picture.saga.name), 60)
    told = [shortened(printable(line), 70) for line in shape.summary(picture)]
    undoes = picture.result is None and any(box.undoable for box in shape.boxes(picture.root))
    legend = "has a compensation: undone, last first, when a later step fails"
    indent = 0.0 if picture.result is None else 22.0
    head = max(text_width(title, _NAME, True), *(text_width(line, _SMALL) for line in told)) + indent
    foot = text_width(legend, _SMALL) + 24 if undoes else 0.0
    margin = 24.0
    width = max(body.width, head, foot) + 2 * margin
    above = margin + _NAME_LINE + len(told) * _SMALL_LINE + 20
    begins = above + 12 + _GAP
    ends = begins + body.height + _GAP
    height = ends + 14 + margin + (24 if undoes else 0)
    sheet = _Sheet()
    sheet.text(margin + indent, margin + 11, title, "name")
    for number, line in enumerate(told):
        sheet.text(
            margin + indent, margin + 11 + _NAME_LINE + number * _SMALL_LINE, line, "muted" if number or not indent else ""
        )
    result = picture.result
    if result is not None:
        sheet.mark(margin + 7, margin + 6.5, _ENDS[result.status])
    left = (width - body.width) / 2
    middle = left + body.axis
    sheet.lines.append(f'<circle class="bar" cx="{_n(middle)}" cy="{_n(above + 6)}" r="6"/>')
    sheet.line([(middle, above + 12), (middle, begins)], dim=not body.reached, tip=body.tip)
    body.draw(sheet, left, begins)
    dim = result is not None and result.status is not Status.COMPLETED
    sheet.line([(middle, begins + body.height), (middle, ends)], dim=dim)
    faded = " dim" if dim else ""
    sheet.lines.append(f'<circle class="line{faded}" cx="{_n(middle)}" cy="{_n(ends + 7)}" r="7"/>')
    sheet.lines.append(f'<circle class="bar{faded}" cx="{_n(middle)}" cy="{_n(ends + 7)}" r="3.5"/>')
    if undoes:
        sheet.above.append(_undo_sign(margin + 6, height - margin - 4))
        sheet.text(margin + 22, height - margin, legend, "muted")
    what = f"Saga {title}" if result is None else f"Saga {title}, {told[0]}"
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="saga-diagram" role="img" aria-label={quoteattr(what)} ',
            f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="panel" x=".5" y=".5" width="{_n(width - 1)}" height="{_n(height - 1)}" rx="10"/>',
            *sheet.below,
            *sheet.lines,
            *sheet.above,
            "</svg>",
        ]
    )


def _column(root: Chain) -> _Part:
    """Return the outermost part: a chain of one is what it holds."""
    return _part(root.children[0]) if len(root.children) == 1 else _Column(root)
