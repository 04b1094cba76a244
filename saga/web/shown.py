"""How things are shown: templates, statuses with their marks, times, effects. Nothing is asked here.

Whatever a template writes is on one line, without what hides or reorders text, and escaped: see :mod:`saga.plain`.
"""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from saga.diagram.sheet import ENDS, MARKS, STYLE
from saga.events import Effect, Status, StepStatus
from saga.operations import JournalLine, StepView
from saga.plain import one_line, shortened

__all__ = ["HERE", "STYLE", "VALUES", "environment"]

HERE: Final = Path(__file__).parent
HIDDEN: Final = "***"
VALUES: Final = frozenset({"result", "value", "changes", "unreadable", "message"})
"""What of an entry's details users' values are in."""
_LONGEST: Final = 400
_LONGEST_REASON: Final = 2000
_LINES: Final = 60
"""Lines of a traceback that are shown: the last ones."""
_LONGEST_LINE: Final = 1000

_STEP_WORDS: Final = {
    StepStatus.PENDING: "not reached",
    StepStatus.WAITING: "to be tried again",
    StepStatus.COMPENSATED: "undone",
    StepStatus.COMPENSATING: "being undone",
    StepStatus.COMPENSATION_FAILED: "undo failed",
}
_EFFECTS: Final = {
    Effect.STANDS: MARKS[StepStatus.SUCCEEDED],
    Effect.UNDONE: MARKS[StepStatus.COMPENSATED],
    Effect.SETTLED: MARKS[StepStatus.SKIPPED],
    Effect.NONE: ("pending", "M-3 0H3"),
    Effect.UNKNOWN: MARKS[StepStatus.IN_DOUBT],
}
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def environment() -> Environment:
    """Return what renders the page's templates."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    made.filters |= {
        "when": when,
        "span": span,
        "status": status,
        "step_status": step_status,
        "effect": effect,
        "lines": lines,
        "details": details,
        "query": urlencode,
        "cut": shortened,
        "exact": exact,
    }
    made.globals["terminal"] = terminal
    return made


def _plain(value: Any) -> Any:
    return value if isinstance(value, Markup | int) else "" if value is None else one_line(value)


def exact(text: str) -> Markup:
    """Return a text that a form is to give back as it is, where nobody sees it: without anything that reorders what is seen."""
    return Markup(escape(text).encode("ascii", "xmlcharrefreplace").decode())


def when(at: float | None, none: str = "not yet") -> Markup:
    """Return a time, of UTC.

    :param none: what is said where there is none.
    """
    if not at:
        return Markup('<span class="muted">{}</span>').format(none)
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError, TypeError):  # no time that there is
        return Markup("<span>{}</span>").format(one_line(at))
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds"), moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def span(seconds: float) -> str:
    """Return a length of time in a few characters."""
    if 0 < seconds < 0.001:
        return "<1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    left, parts = round(seconds), []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join([*parts, *([f"{left} s"] if left else [])][:2])


def _mark(kind: str, sign: str) -> Markup:
    size = 'viewBox="-8 -8 16 16" width="16" height="16"'
    drawn = Markup(f'<svg class="mark {{}}" {size} aria-hidden="true"><circle r="7.5"/><path d="{{}}"/></svg>')
    return drawn.format(kind, sign)


def status(name: str) -> Markup:
    """Return an execution's status: mark, word, colour."""
    kind, sign = ENDS[Status(name)] if name in list(Status) else ("pending", "")
    return Markup('<span class="status of-{}">{}{}</span>').format(kind, _mark(kind, sign), one_line(name))


def step_status(name: StepStatus) -> Markup:
    """Return a step's status: mark, word, colour."""
    kind, sign = MARKS[name]
    return Markup('<span class="status of-{}">{}{}</span>').format(
        kind, _mark(kind, sign), _STEP_WORDS.get(name, str(name).replace("_", " "))
    )


def effect(step: StepView) -> Markup:
    """Return what is left of a step's work: mark, words, colour."""
    kind, sign = _EFFECTS[step.effect]
    return Markup('<span class="status of-{}">{}{}</span>').format(kind, _mark(kind, sign), step.left or "nothing done")


def lines(text: str) -> Markup:
    """Return a text of several lines, each as it is shown; of very many, the last ones."""
    every = text.splitlines()
    left_out = len(every) - _LINES
    if left_out > 0:
        every = [f"... {left_out} lines ...", *every[-_LINES:]]
    return Markup("\n").join(escape(shortened(one_line(line), _LONGEST_LINE)) for line in every)


def details(line: JournalLine, values: bool) -> list[tuple[str, str]]:
    """Return what an entry says, without the values of users where these are not to be shown."""
    return [(one_line(key), _detail(key, value, values)) for key, value in line.details.items()]


def _detail(key: str, value: Any, values: bool) -> str:
    if not values and key in VALUES:
        return HIDDEN
    if key == "error" and isinstance(value, dict) and {"type", "text"} <= value.keys():
        return shortened(one_line(f"{str(value['type']).rpartition(':')[2]}: {value['text']}"), _LONGEST)
    if key in ("elapsed", "delay") and isinstance(value, int | float):
        return span(value)
    text = one_line(value if isinstance(value, str) else json.dumps(value, default=repr, ensure_ascii=False))
    return shortened(text, _LONGEST_REASON if key in ("reason", "why") else _LONGEST)


def terminal(saga_id: str, *words: str) -> str:
    """Return the line of a terminal that shows something of an execution."""
    dash = ("--",) if saga_id.startswith("-") else ()
    return shlex.join(["saga", *words, *dash, saga_id])
