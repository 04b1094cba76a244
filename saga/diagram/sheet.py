"""The sheet an SVG document is drawn on: colours and signs, how wide text is, lines and cards in layers. No layout lives here.

Widths of text are estimated on the wide side (by DejaVu Sans), since nobody knows which font the reader has; so text may leave
room, and never runs into its neighbour. All rules of the style begin with ``.saga-diagram``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from xml.sax.saxutils import escape

from saga.events import Status, StepStatus
from saga.plain import one_line

__all__ = [
    "ENDS",
    "MARKS",
    "NAME",
    "NAME_LINE",
    "SMALL",
    "SMALL_LINE",
    "STYLE",
    "Sheet",
    "compensation_sign",
    "pixels",
    "text_width",
    "wrapped",
]

NAME, SMALL = 14.0, 11.5  # font sizes, in pixels
NAME_LINE, SMALL_LINE = 18.0, 16.0
_WIDEST = 250.0  # of a line of a name

STYLE: Final = """
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
MARKS: Final[dict[StepStatus, tuple[str, str]]] = {
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
ENDS: Final = {
    Status.SUBMITTED: MARKS[StepStatus.PENDING],
    Status.RUNNING: MARKS[StepStatus.RUNNING],
    Status.PAUSED: MARKS[StepStatus.WAITING],
    Status.COMPENSATING: MARKS[StepStatus.COMPENSATING],
    Status.COMPLETED: MARKS[StepStatus.SUCCEEDED],
    Status.COMPENSATED: MARKS[StepStatus.COMPENSATED],
    Status.STUCK: MARKS[StepStatus.COMPENSATION_FAILED],
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


def wrapped(name: str) -> list[str]:
    """Return a name in at most three lines, broken between words where there are any."""
    parts = re.findall(r"[^\W_]+?(?=[A-Z][a-z]|[^\w]|_|$)|[\W_]+|\w+?", name) or [name]
    lines = [""]
    for part in parts:
        pieces = [part] if text_width(part, NAME, True) <= _WIDEST else list(part)
        for piece in pieces:
            if lines[-1] and text_width(lines[-1] + piece, NAME, True) > _WIDEST:
                lines.append("")
            lines[-1] += piece
    if len(lines) > 3:
        lines = [*lines[:2], lines[2][:-1] + "…"]
    return [line.strip() or line for line in lines]


# -- the sheet --------------------------------------------------------------------------------------------------------


class Sheet:
    """What is drawn, in layers: lines never cross a card."""

    def __init__(self) -> None:
        self.below: list[str] = []
        self.lines: list[str] = []
        self.above: list[str] = []

    def line(self, points: list[tuple[float, float]], *, dim: bool, dashed: bool = False, tip: bool = True) -> None:
        """Draw a line along ``points``, with round corners and an arrow's tip at its end."""
        (x, y), *rest = points
        path = [f"M{pixels(x)} {pixels(y)}"]
        for (to_x, to_y), after in zip(rest, [*rest[1:], None], strict=True):
            if after is None:
                path.append(f"L{pixels(to_x)} {pixels(to_y - (5 if tip else 0))}")
                break
            back, ahead = _towards(to_x, to_y, x, y), _towards(to_x, to_y, *after)
            path.append(f"L{back}Q{pixels(to_x)} {pixels(to_y)} {ahead}")
            x, y = to_x, to_y
        kind = "line" + (" detour" if dashed else "") + (" dim" if dim else "")
        self.lines.append(f'<path class="{kind}" d="{"".join(path)}"/>')
        if tip:
            x, y = points[-1]
            self.lines.append(f'<path class="tip{" dim" if dim else ""}" d="M{pixels(x)} {pixels(y)}l-4.5-8h9Z"/>')

    def text(self, x: float, y: float, text: str, kind: str = "", *, below: bool = False, middle: bool = False) -> None:
        """Write a line of text; ``y`` is its base line."""
        shown = one_line(text)
        fit = ""
        if any(ord(one) >= 0x250 and unicodedata.category(one) not in ("Po", "Pd") for one in shown):
            # Nobody knows how wide these are; a few are as wide as a sentence.
            size, bold = (NAME, True) if "name" in kind else (SMALL, False)
            fit = f' textLength="{pixels(text_width(shown, size, bold))}" lengthAdjust="spacingAndGlyphs"'
        where = ' text-anchor="middle"' if middle else ""
        drawn = f'<text x="{pixels(x)}" y="{pixels(y)}"{where}{fit}{_class(kind)}>{escape(shown)}</text>'
        (self.below if below else self.above).append(drawn)

    def mark(self, x: float, y: float, mark: tuple[str, str]) -> None:
        """Draw a filled circle with a sign in it."""
        kind, sign = mark
        circle = f'<circle r="7" class="{kind}"/><path class="glyph" d="{sign}"/>'
        self.above.append(f'<g transform="translate({pixels(x)} {pixels(y)})">{circle}</g>')

    def bar(self, x: float, y: float, width: float, dim: bool) -> None:
        """Draw the bar where lanes part or meet."""
        kind = "bar dim" if dim else "bar"
        self.lines.append(f'<rect class="{kind}" x="{pixels(x)}" y="{pixels(y)}" width="{pixels(width)}" height="5" rx="2.5"/>')


def pixels(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _towards(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return the point 8 pixels, or half of the way, from one point to another along an axis."""
    step_x, step_y = max(-8.0, min(8.0, (to_x - x) / 2)), max(-8.0, min(8.0, (to_y - y) / 2))
    return f"{pixels(x + step_x)} {pixels(y + step_y)}"


def compensation_sign(x: float, y: float) -> str:
    return f'<path class="undo" transform="translate({pixels(x)} {pixels(y)}) scale(1.45)" d="{_UNDO}"/>'
