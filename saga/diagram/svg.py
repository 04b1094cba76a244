"""SVG text: a layout for series-parallel trees, drawn on a sheet. No browser, no font and no clock is asked.

Every part knows its size before anything is drawn: a width, a height, and the axis, where the line that passes through it
enters at the top and leaves at the bottom. The document has no ids, so that many can stand on one page.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from saga.diagram import words
from saga.diagram.shape import Box, Chain, Crossing, Detour, Lanes, Node, Picture, Way, boxes, reached
from saga.diagram.sheet import (
    ENDS,
    MARKS,
    NAME,
    NAME_LINE,
    SMALL,
    SMALL_LINE,
    STYLE,
    Sheet,
    compensation_sign,
    pixels,
    text_width,
    wrapped,
)
from saga.events import Status
from saga.plain import one_line, shortened

__all__ = ["draw"]

_DETAILS = 46  # characters of a line of details
_PAD, _GAP, _LANE_GAP, _FRAME = 12.0, 30.0, 26.0, 16.0


# -- the parts --------------------------------------------------------------------------------------------------------


class _Part:
    """Something with a size that can draw itself."""

    width: float
    height: float
    axis: float
    reached: bool
    tip = True  # whether the line to it ends in an arrow's tip

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        """Draw it with its upper left corner at ``(x, y)``."""
        raise NotImplementedError


class _Card(_Part):
    """A step."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.reached = reached(box)
        self.names = wrapped(one_line(box.label))
        details = _in_lines(words.policies(box.step)) if box.record is None else words.outcome(box)
        self.details = [shortened(one_line(line), _DETAILS) for line in details]
        if box.record is not None and box.step.pivot:
            self.details.append("pivot: nothing is undone after it")
        self.details += words.marked_certificate(box)
        self.undoable = box.record is None and box.undoable
        name = max(text_width(line, NAME, True) for line in self.names) + (24 if self.undoable else 0)
        detail = max((text_width(line, SMALL) for line in self.details), default=0.0)
        self.indent = 21.0 if box.record is not None else 0.0
        self.width = max(118.0, name, detail + self.indent) + 2 * _PAD
        self.axis = self.width / 2
        self.height = 2 * 9 + len(self.names) * NAME_LINE + len(self.details) * SMALL_LINE

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        box, record = self.box, self.box.record
        radius = min(20.0, self.height / 2) if box.step.pause is not None else 7.0
        kind = "card" if self.reached and not box.step.pause else "card off"
        if record is not None and self.reached:
            kind += f" of-{MARKS[record.status][0]}"
        full = one_line(box.step.name)
        status = "" if record is None else f" data-status={quoteattr(str(record.status))}"
        sheet.above.append(f'<g class="step" data-step={quoteattr(full)}{status}><title>{escape(full)}</title>')
        size = f'width="{pixels(self.width)}" height="{pixels(self.height)}"'
        sheet.above.append(f'<rect class="{kind}" x="{pixels(x)}" y="{pixels(y)}" {size} rx="{pixels(radius)}"/>')
        if box.step.pivot:  # the line after which there is no way back
            under = y + self.height - 3.5
            sheet.above.append(f'<path class="line" d="M{pixels(x + 7)} {pixels(under)}H{pixels(x + self.width - 7)}"/>')
        base = y + 9 + 13
        for line in self.names:
            sheet.text(x + _PAD, base, line, "name")
            base += NAME_LINE
        base -= 2
        if self.undoable:
            sheet.above.append(compensation_sign(x + self.width - _PAD - 6, y + 9 + 8.5))
        if record is not None:
            sheet.mark(x + _PAD + 7, base - 4, MARKS[record.status])
        for number, line in enumerate(self.details):
            sheet.text(x + _PAD + self.indent, base, line, "" if record is not None and not number else "muted")
            base += SMALL_LINE
        sheet.above.append("</g>")


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
    """One after the other; framed and named where it is a nested saga or a unit."""

    def __init__(self, chain: Chain) -> None:
        self.parts = [_part(child) for child in chain.children]
        self.reached = any(part.reached for part in self.parts)
        self.unit = chain.unit
        if chain.unit is not None:
            self.reached = reached(chain.unit)
        self.tip = self.parts[0].tip
        self.titles = [shortened(one_line(line), 40) for line in chain.caption]
        self.head = 20.0 + SMALL_LINE * len(self.titles)
        self.axis = max(part.axis for part in self.parts)
        self.width = self.axis + max(part.width - part.axis for part in self.parts)
        self.height = sum(part.height for part in self.parts) + _GAP * (len(self.parts) - 1)
        if self.titles:
            widest = max(text_width(title, SMALL) for title in self.titles) + (18 if self._is_marked() else 0)
            # They stand to the left of the axis.
            self.side = max(_FRAME, (2 * widest + 24 - self.width) / 2, widest + 16 - self.axis)
            self.width += 2 * self.side
            self.axis += self.side
            self.height += self.head + _FRAME
            self.tip = False

    def _is_marked(self) -> bool:
        return self.unit is not None and self.unit.record is not None

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        if self.titles:
            self._frame(sheet, x, y)
            y += self.head
        middle = x + self.axis
        for number, part in enumerate(self.parts):
            if number:
                sheet.line([(middle, y), (middle, y + _GAP)], dim=not part.reached, tip=part.tip)
                y += _GAP
            part.draw(sheet, middle - part.axis, y)
            y += part.height

    def _frame(self, sheet: Sheet, x: float, y: float) -> None:
        size = f'width="{pixels(self.width)}" height="{pixels(self.height)}"'
        unit, left = self.unit, x + 9
        if unit is not None:
            name, record = one_line(unit.step.name), unit.record
            status = "" if record is None else f" data-status={quoteattr(str(record.status))}"
            sheet.below.append(f'<g class="step" data-step={quoteattr(name)}{status}><title>{escape(name)}</title>')
            if record is not None:
                sheet.mark(left + 7, y + 13, MARKS[record.status])
                left += 18
        sheet.below.append(f'<rect class="frame" x="{pixels(x)}" y="{pixels(y)}" {size} rx="9"/>')
        for number, title in enumerate(self.titles):
            sheet.text(left, y + 17 + SMALL_LINE * number, title, "muted", below=True)
        if unit is not None:
            sheet.below.append("</g>")
        axis, bottom, first = x + self.axis, y + self.height, self.parts[0]
        sheet.line([(axis, y), (axis, y + self.head)], dim=not first.reached, tip=first.tip)
        sheet.line([(axis, bottom - _FRAME), (axis, bottom)], dim=not self.parts[-1].reached, tip=False)


class _Bars(_Part):
    """Lanes between two bars."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = [_part(child) for child in lanes.children]
        self.reached = any(lane.reached for lane in self.lanes)
        self.caption = lanes.caption
        needed = sum(lane.width for lane in self.lanes) + _LANE_GAP * (len(self.lanes) - 1)
        self.width = max(needed, 2 * text_width(self.caption, SMALL) + 28)
        self.gap = _LANE_GAP + (self.width - needed) / max(1, len(self.lanes) - 1)
        self.tall = max(lane.height for lane in self.lanes)
        self.height = self.tall + 2 * (5 + _GAP - 6)
        self.axis = self.width / 2

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
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
    """A step or a unit, and to its right what is done instead."""

    def __init__(self, detour: Detour) -> None:
        self.primary = _part(detour.primary)
        self.tip = self.primary.tip
        self.instead = _part(detour.alternative)
        self.reached = self.primary.reached
        self.caption = shortened(one_line(f"on {detour.on}"), 40)
        self.between = max(28.0, text_width(self.caption, SMALL) + 22 - self.instead.axis)
        self.drop = self.primary.height / 2 + 26
        self.axis = self.primary.axis
        self.width = self.primary.width + self.between + self.instead.width
        self.height = max(self.primary.height, self.drop + self.instead.height) + 20

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
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


class _Street:
    """One way, with what it is called to the right of its line."""

    def __init__(self, way: Way) -> None:
        self.part = None if way.node is None else _part(way.node)
        self.reached = way.reached
        self.label = shortened(one_line(way.label), 40)
        self.axis = 12.0 if self.part is None else self.part.axis
        self.width = max(0.0 if self.part is None else self.part.width, self.axis + text_width(self.label, SMALL) + 14)
        self.height = 0.0 if self.part is None else self.part.height


class _Streets(_Part):
    """A step that decides, and below it the ways, side by side, to where they meet."""

    def __init__(self, crossing: Crossing) -> None:
        self.decision = _Card(crossing.decision)
        self.reached = self.decision.reached
        self.ways = [_Street(way) for way in crossing.ways]
        self.needed = sum(way.width for way in self.ways) + _LANE_GAP * (len(self.ways) - 1)
        self.tall = max(way.height for way in self.ways)
        self.width = max(self.decision.width, self.needed)
        self.axis = self.width / 2
        self.height = self.decision.height + 14 + 36 + self.tall + 14 + 12

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        middle = x + self.axis
        parts = y + self.decision.height + 14
        begins, meets = parts + 36, y + self.height - 12
        self.decision.draw(sheet, middle - self.decision.axis, y)
        sheet.line([(middle, parts - 14), (middle, parts)], dim=not self.reached, tip=False)
        left = x + (self.width - self.needed) / 2
        for way in self.ways:
            at, dim = left + way.axis, not way.reached
            sheet.text(at + 7, parts + 17, way.label, "muted", below=True)
            if way.part is None:
                sheet.line([(middle, parts), (at, parts), (at, meets), (middle, meets)], dim=dim, tip=False)
            else:
                sheet.line([(middle, parts), (at, parts), (at, begins)], dim=dim, tip=way.part.tip)
                sheet.line([(at, begins + way.height), (at, meets), (middle, meets)], dim=dim, tip=False)
                way.part.draw(sheet, left, begins)
            left += way.width + _LANE_GAP
        sheet.line([(middle, meets), (middle, y + self.height)], dim=not any(way.reached for way in self.ways), tip=False)


def _part(node: Node) -> _Part:
    if isinstance(node, Box):
        return _Card(node)
    if isinstance(node, Chain):
        return _Column(node)
    if isinstance(node, Crossing):
        return _Streets(node)
    return _Bars(node) if isinstance(node, Lanes) else _Aside(node)


# -- the whole --------------------------------------------------------------------------------------------------------


def draw(picture: Picture) -> str:
    """Return an SVG document."""
    body = _column(picture.root)
    title = shortened(one_line(picture.definition.name), 60)
    summary = [shortened(one_line(line), 70) for line in words.summary(picture)]
    undoable = picture.result is None and any(box.undoable for box in boxes(picture.root))
    legend = "has a compensation: undone, last first, when a later step fails"
    indent = 0.0 if picture.result is None else 22.0
    head = max(text_width(title, NAME, True), *(text_width(line, SMALL) for line in summary)) + indent
    foot = text_width(legend, SMALL) + 24 if undoable else 0.0
    margin = 24.0
    width = max(body.width, head, foot) + 2 * margin
    above = margin + NAME_LINE + len(summary) * SMALL_LINE + 20
    begins = above + 12 + _GAP
    ends = begins + body.height + _GAP
    height = ends + 14 + margin + (24 if undoable else 0)
    sheet = Sheet()
    sheet.text(margin + indent, margin + 11, title, "name")
    for number, line in enumerate(summary):
        sheet.text(
            margin + indent, margin + 11 + NAME_LINE + number * SMALL_LINE, line, "muted" if number or not indent else ""
        )
    result = picture.result
    if result is not None:
        sheet.mark(margin + 7, margin + 6.5, ENDS[result.status])
    left = (width - body.width) / 2
    middle = left + body.axis
    sheet.lines.append(f'<circle class="bar" cx="{pixels(middle)}" cy="{pixels(above + 6)}" r="6"/>')
    sheet.line([(middle, above + 12), (middle, begins)], dim=not body.reached, tip=body.tip)
    body.draw(sheet, left, begins)
    dim = result is not None and result.status is not Status.COMPLETED
    sheet.line([(middle, begins + body.height), (middle, ends)], dim=dim)
    faded = " dim" if dim else ""
    sheet.lines.append(f'<circle class="line{faded}" cx="{pixels(middle)}" cy="{pixels(ends + 7)}" r="7"/>')
    sheet.lines.append(f'<circle class="bar{faded}" cx="{pixels(middle)}" cy="{pixels(ends + 7)}" r="3.5"/>')
    if undoable:
        sheet.above.append(compensation_sign(margin + 6, height - margin - 4))
        sheet.text(margin + 22, height - margin, legend, "muted")
    what = f"Saga {title}" if result is None else f"Saga {title}, {summary[0]}"
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="saga-diagram" role="img" aria-label={quoteattr(what)} ',
            f'width="{pixels(width)}" height="{pixels(height)}" viewBox="0 0 {pixels(width)} {pixels(height)}">',
            f"<style>{STYLE}</style>",
            f'<rect class="panel" x=".5" y=".5" width="{pixels(width - 1)}" height="{pixels(height - 1)}" rx="10"/>',
            *sheet.below,
            *sheet.lines,
            *sheet.above,
            "</svg>",
        ]
    )


def _column(root: Chain) -> _Part:
    """Return the outermost part: a chain of one is what it holds."""
    return _part(root.children[0]) if len(root.children) == 1 else _Column(root)
